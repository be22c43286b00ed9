"""Machines that know what they read: a pure stream reaches the bandwidth of DRAM, and more room is never slower."""

import itertools

import pytest

from archsim.simulate import load_accelerator
from tests.machines import ROOT, mlp, simulate

WIDE_BANKS = "memory.cache.width_bits=512"
STREAMS = {
    "prosperity": ((WIDE_BANKS,), {"n": 1024, "k": 2048, "density": 0.02}),
    "spinalflow": ((WIDE_BANKS, "pe.count=256"), {"n": 1024, "k": 2048, "density": 1.0}),
    # An edge of an array takes a line a cycle, which is 51 GB/s at 800 MHz.
    "systolic": (("clock_mhz=2400", "pe.rows=64"), {"n": 1024, "k": 1024}),
    "ptb": (("clock_mhz=2400", "pe.rows=64"), {"n": 1024, "k": 1024}),
    "stellar": (("clock_mhz=2400", "pe.rows=64"), {"n": 1024, "k": 1024}),
    # All weights of a layer are live, so that those that come when the cache is full are not kept, and come twice.
    "gustav_snn": ((WIDE_BANKS, "memory.cache.replacement=lru"), {"n": 1024, "k": 2048, "density": 0.02}),
    "sata": (("pe.columns=32",), {"n": 512, "k": 2048}),
}
"""A machine, what lets its array and banks take all that its DRAM gives, and a layer whose weights are used once."""

ROOMS = [
    ("prosperity", "buffers.tiles", (2, 4, 16, 64)),
    ("prosperity", "memory.dma.lines_in_flight", (4, 16, 64, 256, 1024)),
    ("spinalflow", "pe.weight_buffer", (1, 2, 8, 16)),
    ("spinalflow", "memory.dma.lines_in_flight", (4, 16, 64, 256, 1024)),
    ("systolic", "memory.dma.lines_in_flight", (1, 4, 16, 256, 1024)),
    ("ptb", "memory.dma.lines_in_flight", (1, 4, 16, 256, 1024)),
    ("stellar", "memory.dma.lines_in_flight", (1, 4, 16, 256, 1024)),
    ("gustav_snn", "memory.dma.lines_in_flight", (4, 16, 256, 1024)),
    ("sata", "memory.buffers.fetches", (1, 4, 16, 64)),
]
"""A machine, what gives its stream room, and growing sizes of it."""

PAGE = ROOT / "archsim" / "docs" / "deviations" / "streams.md"


def shipped(name):
    return ROOT / "hwconfigs" / f"{name}.yaml"


def stream(name, *overrides):
    """The machine, cycles of its stream, and GB of its weights, a byte each."""
    sizes = STREAMS[name][1]
    result = simulate(mlp(2, m=1, timesteps=1, **sizes), *overrides, hardware=shipped(name))[0]
    return load_accelerator(shipped(name), overrides).config, result.cycles, sizes["n"] * sizes["k"] * 1e-9


def share(name, *more):
    """Share of the declared bandwidth that the stream of the widened machine reaches."""
    config, cycles, weights = stream(name, *STREAMS[name][0], *more)
    return weights / (cycles / config.clock_mhz * 1e-6) / config.memory.dram.bandwidth_gb_s


@pytest.mark.parametrize("name", STREAMS)
def test_a_pure_stream_reaches_nine_tenths_of_the_bandwidth(name):
    """DRAM and DMA are those of the shipped file."""
    assert not any("dram" in override or "dma" in override for override in STREAMS[name][0])
    assert 0.9 <= share(name) <= 1


@pytest.mark.parametrize("name", STREAMS)
def test_few_lines_in_flight_do_not(name):
    few = "memory.buffers.fetches=8" if name == "sata" else "memory.dma.lines_in_flight=16"
    assert share(name, few) < 0.85


@pytest.mark.parametrize("name", STREAMS)
def test_the_page_says_what_a_stream_reaches(name):
    """What the array takes: the weights in the cycles of ideal memory. What the banks pass: a line in a look-up,
    a fill and a delivery each, spread evenly."""
    config, cycles, weights = stream(name)
    mhz, memory = config.clock_mhz, config.memory
    _, ideal_cycles, _ = stream(name, "memory.ideal=true")
    chip = memory.buffers if name == "sata" else memory.cache
    beats = 1 + 2 * chip.line_bytes * 8 // chip.width_bits
    widened = STREAMS[name][0]
    numbers = (
        weights * mhz * 1e6 / ideal_cycles,
        chip.banks * chip.line_bytes / beats * mhz * 1e-3,
        memory.dram.bandwidth_gb_s,
        weights * mhz * 1e6 / cycles,
        share(name) * memory.dram.bandwidth_gb_s,
    )
    array, banks, dram, reached, wide = (f"{number:.1f}" for number in numbers)
    changes = ", ".join(f"`{override}`" for override in widened)
    assert f"| `{name}` | {array} | {banks} | {dram} | {reached} | {changes} | {wide} |" in PAGE.read_text()


def cycles_by_room(name, room, sizes, *more):
    """Of a stream and of a layer with rows: cycles for each of the sizes."""
    overrides, weights = STREAMS[name]
    for trace in (mlp(3, m=1, timesteps=1, **weights), mlp(4, m=60, n=150, k=600, density=0.1)):
        yield [
            simulate(trace, *overrides, *more, f"{room}={size}", hardware=shipped(name))[0].cycles for size in sizes
        ]  # fmt: skip


@pytest.mark.parametrize(("name", "room", "sizes"), ROOMS)
def test_more_room_is_never_slower_where_nothing_queues(name, room, sizes):
    """Banks that serve all at once, and channels of which each has few lines, and a cycle for one."""
    alone = ["memory.dram.channels=256", "memory.dram.bandwidth_gb_s=100000"]
    if name != "sata":
        alone.append("memory.cache.bank_conflicts=false")
    for cycles in cycles_by_room(name, room, sizes, *alone):
        assert all(more <= less for less, more in itertools.pairwise(cycles)), cycles


@pytest.mark.parametrize(("name", "room", "sizes"), ROOMS)
def test_more_room_is_hardly_slower_where_lines_queue(name, room, sizes):
    """Banks, the read switch and channels take lines first come first served. What was asked for far ahead stands in
    front of what the array needs at once: up to 3.01 per cent, of SpinalFlow, whose rows all pass the read switch."""
    for cycles in cycles_by_room(name, room, sizes):
        assert all(more <= 1.031 * less for less, more in itertools.pairwise(cycles)), cycles
