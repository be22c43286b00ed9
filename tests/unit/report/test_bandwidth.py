"""The bandwidth that DRAM reached, and what bound a layer, at the limits of their definition."""

import pytest

from archsim.engine.result import Traffic
from archsim.report.dram import DeclaredDram, achieved_gb_s, bound_by
from tests.unit.report.test_report import layer, report

DECLARED = DeclaredDram(bandwidth_gb_s=10.0, line_cycles=10)
SECONDS = 1e-6
"""Of the layers below, in which DRAM can move 10,000 bytes."""


def moved(read: int, write: int = 0, lines: int = 0):
    return (
        Traffic("dram", "input", "read", read, lines), Traffic("dram", "output", "write", write, 9),
        Traffic("sram", "input", "read", 1 << 20, 999),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("stall", "traffic", "expected"),
    [
        (0, moved(9000), "bandwidth"),
        (0, moved(4000, 5000), "bandwidth"),
        (0, moved(4000, 4999), ""),
        (51, moved(640, 0, 6), "latency"),
        (50, moved(640, 0, 6), ""),  # waits in half of the cycles, not more
        (60, moved(640, 0, 6), "latency"),
        (61, moved(640, 0, 6), ""),  # six lines of ten cycles do not explain 61
        (90, moved(0, 640, 0), ""),  # nothing is read
    ],
)
def test_what_binds(stall, traffic, expected):
    found = layer(stall_cycles=stall, compute_cycles=100 - stall, traffic=traffic)
    assert bound_by(found, DECLARED, SECONDS) == expected


def test_layers_that_overlap_are_bound_by_nothing():
    assert bound_by(layer(stall_cycles=60, traffic=moved(640, 0, 6), start_cycle=0), DECLARED, SECONDS) == ""


def test_nothing_took_no_time():
    assert achieved_gb_s(0, 0.0) == 0


def test_a_report_says_what_was_reached_and_what_latency_bound():
    """1,664 bytes of two layers in 250 ns are 6.656 GB/s."""
    waits = layer("fc", stall_cycles=80, compute_cycles=20)
    found = report(layer(), waits, dram=DECLARED)
    summary = found.summary()
    assert summary["dram_bandwidth_gb_s"] == 10
    assert summary["dram_gb_s"] == pytest.approx(6.656)
    assert summary["dram_utilization"] == pytest.approx(0.6656)
    assert [row["bound_by"] for row in found.rows("layers")] == ["", "latency"]
    assert [row["dram_gb_s"] for row in found.rows("layers")] == pytest.approx([6.656, 6.656])
    assert found.as_moved() == "DRAM: 6.66 of 10 GB/s (66.6 %); bound by latency: fc"


def test_ideal_memory_has_no_bandwidth():
    found = report()
    assert found.as_moved() == ""
    assert (found.summary()["dram_gb_s"], found.rows("layers")[0]["bound_by"]) == (None, "")
