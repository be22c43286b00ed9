"""Prosperity: tiles against a slow twin, a hand-traced case, the pipeline in closed form, traffic, both engines."""

import itertools

import numpy as np
import pytest

from archsim.dataflow.layer import layer_of
from archsim.hardware.compute.prefix_forest import CYCLES, SPIKES
from archsim.simulate import load_accelerator
from archsim.trace import Neuron, Operation, Trace
from tests.machines import ROOT, conv, dense, layers, mlp, needs_recorded, recorded, same, simulate
from tests.twins.prefix_forest import slow_work

PROSPERITY = ROOT / "hwconfigs" / "prosperity.yaml"


def prosperity(trace, *overrides, **options):
    return simulate(trace, *overrides, hardware=PROSPERITY, **options)


ACROSS = "scheduler.tiles=across_images"
"""Rows of these linear layers are an image each, which tiles then hold many of."""


def traffic(result, level, tensor, direction="read"):
    return sum(
        row.bytes
        for row in result.traffic
        if (row.level, row.tensor, row.direction) == (level, tensor, direction)
    )  # fmt: skip


def test_a_layer_counts_what_its_tiles_do():
    """Timesteps of a position are neighbouring rows, K is cut in its own order, tiles hold whole positions."""
    trace = mlp(3, m=90, n=20, k=50, timesteps=3, density=0.2)
    rows = trace.tensor("in").transpose(1, 0, 2).reshape(-1, 50)
    for search, least in (("every_row", 1), ("several_spikes", 2)):
        result = prosperity(trace, ACROSS, "tile.rows=64", f"detector.search={search}")[0]
        tiles = [rows[i : i + 63, k : k + 16] for i in range(0, 270, 63) for k in range(0, 50, 16)]
        spikes, left, cycles = np.sum([slow_work(tile, least) for tile in tiles], axis=0)
        assert (result.events["spikes"], result.events["spikes_left"], result.compute_cycles) == (spikes, left, cycles)
        assert result.performed_operations == result.actions["pe", "add"] == 20 * left
        assert result.mismatches == 0


def test_the_circuits_processor_takes_all_rows_and_more_cycles_for_each_spike():
    """hwconfigs/prosperity_rtl.yaml: 4 cycles a row, empty or not, and 3 for each spike that is left."""
    trace = mlp(3, m=90, n=20, k=50, timesteps=3, density=0.05)
    rows = trace.tensor("in").transpose(1, 0, 2).reshape(-1, 50)
    hardware = PROSPERITY.with_name("prosperity_rtl.yaml")
    result = simulate(trace, "scheduler.tiles=across_images", hardware=hardware)[0]
    tiles = [rows[i : i + 255, k : k + 16] for i in (0, 255) for k in range(0, 50, 16)]
    left = sum(slow_work(tile)[1] for tile in tiles)
    assert result.compute_cycles == 4 * 270 * 4 + 3 * left
    assert result.actions["scheduler", "step"] == 270 * 4
    assert result.mismatches == 0 and result.performed_operations == 20 * left


def test_sums_do_not_depend_on_where_the_rows_are_cut():
    trace = mlp(4, m=70, n=9, k=40, timesteps=4, density=0.3)
    layer, machine = layers(trace, PROSPERITY)[0], load_accelerator(PROSPERITY)
    expected = np.einsum("tmk,nk->mnt", trace.tensor("in").astype(int), trace.operations[0].weight.astype(int))
    whole = np.zeros((70, 9, 4), np.int64)
    events = machine.accumulate(layer, 0, whole)
    np.testing.assert_array_equal(whole, expected)
    counted = dict.fromkeys(events, 0)
    for first, end in ((0, 10), (10, 63), (63, 65), (65, 70)):
        part = np.zeros((end - first, 9, 4), np.int64)
        for name, count in machine.accumulate(layer, first, part).items():
            counted[name] += count
        np.testing.assert_array_equal(part, expected[first:end])
    assert counted == events


def test_hand_traced_example():
    """One neuron, one input that spikes at both of two ticks; memory.ideal: 17 cycles.

    Loaders 0 and 1 read a line each: 1. No row has several spikes, so the detector takes ceil(2 / 8) + 4: 6. Two rows,
    two cycles: 8. Write-back 4, then 2 ticks of 2 cycles: 16. A line is written: 17.
    """
    trace = Trace(
        network="one", timesteps=2, provenance={"kind": "synthetic", "weights": "synthetic"},
        operations=[
            Operation("fc", "linear", ("in",), "out", weight=np.full((1, 1), 5, np.int8), neuron=Neuron("lif", 3, 1, 1))
        ],
        tensors={"in": np.ones((2, 1, 1), bool), "out": np.ones((2, 1, 1), bool)},
    )  # fmt: skip
    result = prosperity(trace, "memory.ideal=true")[0]
    assert (result.cycles, result.compute_cycles, result.performed_operations, result.mismatches) == (17, 2, 2, 0)


def pipeline(spikes, n, every_row=False, rows=256, held=16, tables=2, output_tiles=2, pes=128, output_bits=1):
    """Cycles of ``spikes`` [T, M, K] and ``n`` columns with ideal memory, by recurrences over tiles: loading (a cycle),
    detection, addition, neurons that write ``output_bits`` each."""
    timesteps, m, k = spikes.shape
    spikes = spikes.transpose(1, 0, 2)
    positions = rows // timesteps
    loaded = detected = added = fired = 0
    done, free = [], []
    for first in range(0, m, positions):
        block = spikes[first : first + positions].reshape(-1, k)
        for column in range(0, n, pes):
            output_tile = len(free)
            if output_tile >= output_tiles:
                added = max(added, free[output_tile - output_tiles])
            for begin in range(0, k, 16):
                tile, i = block[:, begin : begin + 16], len(done)
                loaded = max(loaded, done[i - held] if i >= held else 0) + 1
                several = int((tile.sum(1) >= 2).sum())
                search = len(tile) if every_row else several + -(-len(tile) // 8)
                detected = max(detected, loaded, done[i - tables] if i >= tables else 0) + search + 4
                added = max(added, detected) + slow_work(tile, 1 if every_row else 2)[2]
                done.append(added)
            neurons = len(block) // timesteps * min(pes, n - column)
            written = -(-len(block) // timesteps * -(-n * timesteps * output_bits // 8) * min(pes, n - column) // n)
            fired = max(fired, added) + 4 + -(-neurons // 32) * timesteps * 2 + -(-written // (64 * 16))
            free.append(fired)
    return fired


@pytest.mark.parametrize("density", [0.02, 0.15, 0.5])
@pytest.mark.parametrize("search", ["every_row", "several_spikes"])
def test_ideal_memory_is_the_pipeline_in_closed_form(density, search):
    """Detection hides behind addition where spikes are many, and is what takes the time where they are few."""
    trace = mlp(6, m=100, n=150, k=70, density=density)
    result = prosperity(trace, ACROSS, "memory.ideal=true", f"detector.search={search}")[0]
    assert result.cycles == pipeline(trace.tensor("in"), 150, search == "every_row")
    searched = result.actions["detector", "search"]
    assert (searched > result.compute_cycles) == (density == 0.02 and search == "every_row")


@pytest.mark.parametrize("rows", [64, 100, 256])
def test_tiles_hold_one_image_unless_they_are_told_otherwise(rows):
    """Two images of 36 positions, which a tile of 64 positions would hold together; each for itself, by the twin."""
    trace = conv(7, channels=8, out_channels=5)
    layer = layers(trace, PROSPERITY)[0]
    words, _ = dense(layer)
    spikes = (words[:, None] >> np.arange(4)[:, None] & 1).reshape(-1, layer.k).astype(bool)
    positions = rows // 4

    def adding(bounds):
        cuts = [slice(4 * first, 4 * end) for first, end in itertools.pairwise(bounds)]
        return sum(slow_work(spikes[cut, k : k + 16], 2)[2] for cut in cuts for k in range(0, layer.k, 16))

    images = [first for image in (0, 36) for first in range(image, image + 36, positions)]
    found = [
        prosperity(trace, f"tile.rows={rows}", f"scheduler.tiles={tiles}")[0]
        for tiles in ("one_image", "across_images")
    ]
    assert [one.compute_cycles for one in found] == [adding([*images, 72]), adding([*range(0, 72, positions), 72])]
    assert [one.mismatches for one in found] == [0, 0]
    assert prosperity(trace, f"tile.rows={rows}")[0].cycles == found[0].cycles


def test_buffers_hold_the_pipeline_up_when_they_are_small():
    trace = mlp(6, m=70, n=300, k=40, density=0.4)
    small = ("buffers.tiles=1", "detector.tables=1", "buffers.output_tiles=1")
    result = prosperity(trace, ACROSS, "memory.ideal=true", *small)[0]
    assert result.cycles == pipeline(trace.tensor("in"), 300, held=1, tables=1, output_tiles=1)
    assert result.cycles > prosperity(trace, ACROSS, "memory.ideal=true")[0].cycles


def test_traffic_of_a_small_layer():
    """Spikes are read again for every 128 output channels, weights for every tile of rows; DRAM is read once here."""
    trace = mlp(8, m=150, n=200, k=40, density=0.2)
    result = prosperity(trace, ACROSS)[0]
    rows, columns, depths = (256, 256, 88), (128, 72), (16, 16, 8)
    spikes = [-(-r * d // 8) for r in rows for d in depths]
    weights = [c * d for c in columns for d in depths]
    assert traffic(result, "sram", "input") == 2 * sum(spikes)
    assert traffic(result, "sram", "weight") == 3 * sum(weights)
    assert traffic(result, "dram", "input") == 64 * sum(-(-size // 64) for size in spikes)
    assert traffic(result, "dram", "weight") == 64 * sum(-(-size // 64) for size in weights)
    assert result.compulsory_read_bytes == sum(spikes) + sum(weights)
    written = [-(-r // 4 * 100 * c // 200) for r in rows for c in columns]
    assert traffic(result, "dram", "output", "write") == 64 * sum(-(-size // 64) for size in written)
    actions, stored = result.actions, trace.tensor("in")
    assert actions["weight_buffer", "write"] == -(-3 * sum(weights) // 64)
    assert actions["spike_buffer", "write"] == actions["spike_buffer", "read"] == 2 * 3 * 600
    # A row with spikes is issued once a tile, for both tiles of columns; sums of 128 x 12 bits lie in three banks.
    occupied = 2 * sum(int(stored[:, :, k : k + 16].any(2).sum()) for k in (0, 16, 32))
    assert actions["scheduler", "step"] == occupied
    assert actions["sum_buffer", "write"] == 2 * 3 * occupied
    assert 3 * occupied < actions["sum_buffer", "read"] <= 2 * 3 * occupied
    searched = 2 * sum(int((stored[:, :, k : k + 16].sum(2) > 1).sum()) for k in (0, 16, 32))
    assert actions["detector", "search"] == actions["detector", "prune"] == searched


OPTIONS = [
    "pe.count=3", "pe.count=1024", "pe.pipeline_cycles=0", "tile.rows=16", "tile.k=1", "tile.k=64",
    "dispatcher.rows=all", "dispatcher.cycles_per_row=4", "dispatcher.cycles_per_spike=3",
    "scheduler.tiles=across_images",
    "detector.search=every_row", "detector.popcounts=1", "detector.tables=5", "buffers.tiles=2", "buffers.tiles=256",
    "buffers.output_tiles=1", "neuron.count=1", "neuron.cycles=9", "memory.read_switch.inputs=3",
    "memory.cache.line_bytes=16", "memory.cache.line_bytes=1024", "memory.dma.lines_in_flight=1",
    "memory.cache.replacement=lru", "memory.dram.channels=1", "clock_mhz=800",
]  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_engines_agree_with_every_option(option):
    trace = conv(5, channels=8, out_channels=20)
    overrides = (option, "memory.cache.ways=4") if option.endswith("=1024") else (option,)
    fast, slow = (prosperity(trace, *overrides, engine=engine, record=True)[0] for engine in ("compiled", "reference"))
    assert fast.mismatches == 0
    same(fast, slow)


def test_a_machine_that_cannot_be_built_is_refused():
    from archsim.errors import ConfigError

    with pytest.raises(ConfigError, match=r"must be at least detector\.tables, got 1"):
        load_accelerator(PROSPERITY, ("buffers.tiles=1",))


@needs_recorded
def test_recorded_spikes_meet_the_reference_numbers():
    """The authors' simulator takes 671,526 cycles for the twelve convolutions of VGG16 and 1,929,005 without reuse.

    Its loads before the first addition are the same 211 in both: without reuse it adds 1,928,794 times.
    """
    trace = recorded("vgg16")
    machine = load_accelerator(PROSPERITY).specialised_for(trace)
    total = np.zeros(2, np.int64)
    for operation in machine.layers(trace):
        if operation.op == "conv2d":
            layer = layer_of(trace, operation)
            program = machine.program(layer, np.full(layer.m, 64))
            total += program.operands.work[:, :, [SPIKES, CYCLES]].sum((0, 1)) * program.spec.column_tiles
    assert total.tolist() == [1_928_794, 671_526 - 211]
