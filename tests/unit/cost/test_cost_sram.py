"""The CACTI table: its points, what lies between them, its edges, and leakage against temperature."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

import archsim.cost
from archsim.cost.sram import SramFigures, _interpolate, _table, leakage_factor, sram
from archsim.errors import ConfigError

CSV = Path(archsim.cost.__file__).parent / "tables" / "cacti7_sram.csv"


def test_every_point_of_the_table_is_returned_exactly() -> None:
    with CSV.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1759
    for row in rows:
        figures = sram(
            int(row["node_nm"]), row["variant"], int(row["capacity_bytes"]), int(row["width_bits"]), row["ports"]
        )
        assert figures == tuple(float(row[name]) for name in SramFigures._fields)


def test_figures_of_one_loas_cache_bank() -> None:
    """16 KiB x 128 bit, 32 nm itrs-lop, written out so that a damaged table is noticed."""
    assert sram(32, "itrs-lop", 16384, 128, "1rw") == (3.74496, 3.55374, 2.05732, 0.48541, 0.494388, 0.0270297)


def test_between_points_quantities_are_geometric_means() -> None:
    """Half way in log2 along one axis is the geometric mean of two points, in the middle of a cell that of four."""
    corners = [sram(32, "itrs-lop", c, w, "1rw") for c in (4096, 16384) for w in (32, 128)]
    (a, b, c, d) = (corner.read_energy_pj for corner in corners)
    points = {(4096, 32): corners[0], (4096, 128): corners[1], (16384, 32): corners[2], (16384, 128): corners[3]}
    assert _interpolate(points, 8192, 32, "").read_energy_pj == pytest.approx(math.sqrt(a * c), rel=1e-12)
    assert _interpolate(points, 4096, 64, "").read_energy_pj == pytest.approx(math.sqrt(a * b), rel=1e-12)
    assert _interpolate(points, 8192, 64, "").read_energy_pj == pytest.approx((a * b * c * d) ** 0.25, rel=1e-12)


def test_a_quarter_of_the_way_weighs_the_near_point_three_times() -> None:
    low, high = sram(32, "itrs-lop", 4096, 64, "1rw"), sram(32, "itrs-lop", 8192, 64, "1rw")
    points = {(4096, 64): low, (4096 * 16, 64): high}
    got = _interpolate(points, 8192, 64, "").area_mm2
    assert got == pytest.approx(low.area_mm2**0.75 * high.area_mm2**0.25, rel=1e-12)


# (median, 90th percentile, maximum) error in percent when a point is predicted from its half and double neighbours.
LEAVE_ONE_OUT = {
    0: {
        "read_energy_pj": (5.7, 20.0, 40.3),
        "write_energy_pj": (4.9, 11.6, 20.7),
        "leakage_mw": (2.5, 7.4, 27.8),
        "access_time_ns": (3.0, 9.2, 21.9),
        "cycle_time_ns": (5.2, 34.7, 98.3),
        "area_mm2": (4.5, 10.4, 24.8),
    },
    1: {
        "read_energy_pj": (5.8, 20.9, 57.8),
        "write_energy_pj": (5.9, 14.3, 31.7),
        "leakage_mw": (0.9, 5.4, 23.9),
        "access_time_ns": (1.8, 6.9, 21.3),
        "cycle_time_ns": (4.5, 34.3, 69.4),
        "area_mm2": (3.6, 16.1, 35.9),
    },
}


@pytest.mark.parametrize("axis", [0, 1], ids=["along capacity", "along width"])
def test_leave_one_out_error_is_what_the_docstring_says(axis: int) -> None:
    errors: dict[str, list[float]] = {name: [] for name in SramFigures._fields}
    for points in _table().values():
        for left_out in sorted({size[axis] for size in points})[1:-1]:
            others = {size: figures for size, figures in points.items() if size[axis] != left_out}
            for size, figures in points.items():
                if size[axis] != left_out:
                    continue
                try:
                    predicted = _interpolate(others, *size, "")
                except ConfigError:  # next to the edge of 32 words
                    continue
                for name, got, true in zip(SramFigures._fields, predicted, figures, strict=True):
                    errors[name].append(100 * abs(got / true - 1))
    for name, limits in LEAVE_ONE_OUT[axis].items():
        assert len(errors[name]) > 1000
        assert tuple(np.percentile(errors[name], [50, 90, 100])) == pytest.approx(limits, abs=0.06), name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((28, "itrs-lop", 16384, 128, "1rw"), ["28 nm", "32 nm itrs-lop 1rw"]),
        ((45, "itrs-lstp", 16384, 128, "1r1w"), ["45 nm itrs-lstp 1r1w", "allowed"]),
        ((32, "itrs-lop", 8 << 20, 128, "1rw"), ["capacity", "8388608", "64 to 4194304", "nearest: 4194304"]),
        ((32, "itrs-lop", 32, 8, "1rw"), ["capacity", "nearest: 64"]),
        ((32, "itrs-lop", 0, 8, "1rw"), ["capacity", "got 0"]),
        ((32, "itrs-lop", 16384, 4, "1rw"), ["width", "8 to 512", "nearest: 8"]),
        ((32, "itrs-lop", 16384, 1024, "1rw"), ["width", "nearest: 512"]),
        ((45, "itrs-hp", 512, 8, "1r1w"), ["64 to 256"]),
        ((32, "itrs-lop", 1024, 512, "1rw"), ["32 words", "depth 16", "2048 bytes", "256 bit"]),
        ((32, "itrs-lop", 64, 128, "1r1w"), ["32 words", "depth 4", "flip-flops"]),
        # 37.5 words: legal itself, but one corner of its cell would have 16
        ((32, "itrs-lop", 1800, 384, "1rw"), ["next to", "2048 bytes", "256 bit"]),
    ],
)
def test_outside_the_table_is_refused(arguments: tuple[int, str, int, int, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        sram(*arguments)
    assert len(caught.value.problems) == 1
    for word in words:
        assert word in str(caught.value)


def test_the_edge_of_32_words_is_tight() -> None:
    assert 8 * 2048 / 512 == 32
    assert sram(32, "itrs-lop", 2048, 512, "1rw").area_mm2 > 0
    with pytest.raises(ConfigError):
        sram(32, "itrs-lop", 2047, 512, "1rw")
    with pytest.raises(ConfigError):
        sram(32, "itrs-lop", 1024, 257, "1rw")


def test_the_nearest_sizes_offered_are_legal() -> None:
    """What the error of 1800 bytes x 384 bit proposes has figures, between those of the table around it."""
    with pytest.raises(ConfigError, match=r"2048 bytes.*256 bit"):
        sram(32, "itrs-lop", 1800, 384, "1rw")
    for proposed, around in (
        ((2048, 384), ((2048, 256), (2048, 512))),
        ((1800, 256), ((1024, 256), (2048, 256))),
    ):
        figures = sram(32, "itrs-lop", *proposed, "1rw")
        ends = [sram(32, "itrs-lop", *size, "1rw") for size in around]
        for figure, *found in zip(figures, *ends, strict=True):
            assert min(found) <= figure <= max(found)
        assert figures not in ends


def test_leakage_follows_temperature_and_nothing_else_does() -> None:
    hot, cool = (sram(32, "itrs-lop", 16384, 128, "1rw", t) for t in (360, 300))
    assert cool.leakage_mw == pytest.approx(hot.leakage_mw * 2.754 / 7.537, rel=1e-12)
    assert cool._replace(leakage_mw=0) == hot._replace(leakage_mw=0)


def test_leakage_factor_is_log_linear_between_temperatures() -> None:
    """Half way from 300 K (2.754 mW) to 320 K (4.004 mW): the geometric mean, over 7.537 mW at 360 K."""
    assert leakage_factor(32, "itrs-lop", 310) == pytest.approx(math.sqrt(2.754 * 4.004) / 7.537, rel=1e-12)
    assert leakage_factor(22, "itrs-hp", 400) == pytest.approx(218 / 19.04, rel=1e-12)
    assert leakage_factor(65, "itrs-lstp", 360) == 1


@pytest.mark.parametrize("temperature_k", [299.9, 400.1, -1, float("nan")])
def test_leakage_outside_the_temperatures_is_refused(temperature_k: float) -> None:
    with pytest.raises(ConfigError, match="300 to 400"):
        leakage_factor(32, "itrs-lop", temperature_k)


def test_leakage_of_lstp_is_known_at_one_temperature_only() -> None:
    with pytest.raises(ConfigError, match="360 K only"):
        sram(32, "itrs-lstp", 16384, 128, "1rw", 320)
