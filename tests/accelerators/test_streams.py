"""Machines that know what they read: a pure stream reaches the bandwidth of DRAM, and more room is never slower."""

import itertools

import pytest

from archsim.simulate import load_accelerator
from tests.machines import ROOT, mlp, simulate

STREAMS = {
    # What it loads passes the cache, nine beats a line: 57 GB/s at its own 500 MHz, 91 at 800.
    "prosperity": (("clock_mhz=800", "memory.dram.bandwidth_gb_s=64"), {"n": 1024, "k": 2048, "density": 0.02}),
    # 128 PEs take 102 GB/s.
    "spinalflow": (("pe.count=256",), {"n": 1024, "k": 2048, "density": 0.9}),
    # An array takes rows x 1 B a cycle, here 25.6 GB/s or, of Stellar at 500 MHz, 16 GB/s.
    "systolic": (("pe.rows=32", "memory.dram.bandwidth_gb_s=20"), {"n": 256, "k": 2048}),
    "ptb": (("pe.rows=32", "memory.dram.bandwidth_gb_s=20", "scheduler.entering=all"), {"n": 256, "k": 2048}),
    "stellar": (("pe.rows=32", "memory.dram.bandwidth_gb_s=12"), {"n": 256, "k": 2048, "density": 0.1}),
    # Its weights pass the cache, nine beats a line, and one reader for each tile.
    "gustav_snn": (("memory.dram.bandwidth_gb_s=64",), {"n": 1024, "k": 2048, "density": 0.02}),
    # 8 columns take 3.2 GB/s.
    "sata": (("pe.columns=32",), {"n": 512, "k": 2048}),
}
"""A machine, what lets it take a stream that DRAM can give, and a layer whose weights are used once."""


def shipped(name):
    return ROOT / "hwconfigs" / f"{name}.yaml"


def share(name, *more):
    """Share of the declared bandwidth that the machine's stream reaches."""
    overrides, sizes = STREAMS[name]
    result = simulate(mlp(2, m=1, timesteps=1, **sizes), *overrides, *more, hardware=shipped(name))[0]
    machine = load_accelerator(shipped(name), overrides)
    moved = sum(row.bytes for row in result.traffic if row.level == "dram")
    return moved / (result.cycles / machine.clock_mhz * 1e-6) * 1e-9 / machine.config.memory.dram.bandwidth_gb_s


@pytest.mark.parametrize("name", STREAMS)
def test_a_pure_stream_reaches_nine_tenths_of_the_bandwidth(name):
    assert 0.9 <= share(name) <= 1


@pytest.mark.parametrize("name", STREAMS)
def test_few_lines_in_flight_do_not(name):
    few = "memory.buffers.fetches=8" if name == "sata" else "memory.dma.lines_in_flight=16"
    assert share(name, few) < 0.85


@pytest.mark.parametrize(
    ("name", "room", "sizes"),
    [
        ("prosperity", "buffers.tiles", (2, 4, 16, 64)),
        ("prosperity", "memory.dma.lines_in_flight", (4, 16, 64, 256)),
        ("spinalflow", "pe.weight_buffer", (1, 2, 8, 16)),
        ("systolic", "memory.dma.lines_in_flight", (1, 4, 16, 256)),
        ("sata", "memory.buffers.fetches", (1, 4, 16, 64)),
    ],
)
def test_more_room_is_never_slower(name, room, sizes):
    """But for the order in which lines meet at banks and channels that are full anyway, three per cent."""
    overrides, stream = STREAMS[name]
    for trace in (mlp(3, m=1, timesteps=1, **stream), mlp(4, m=60, n=150, k=600, density=0.1)):
        cycles = [
            simulate(trace, *overrides, f"{room}={size}", hardware=shipped(name))[0].cycles for size in sizes
        ]  # fmt: skip
        assert all(more <= 1.03 * less for less, more in itertools.pairwise(cycles)), cycles
