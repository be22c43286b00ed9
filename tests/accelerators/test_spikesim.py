"""SpikeSim: a hand-traced chip, the pipeline of layers, conservation of events, lossy converters, what cannot be."""

import json
import re

import numpy as np
import pytest

from archsim.cli import main
from archsim.compress import bitmask
from archsim.compress.packed_time import decode
from archsim.cost import energy_rows, load_table
from archsim.dataflow.crossbar_machine import shared_out
from archsim.dataflow.crossbar_mapping import map_layer, misfits
from archsim.dataflow.layer import layer_of
from archsim.dataflow.pipeline import alone, stages_of
from archsim.errors import ConfigError, UsageError
from archsim.hardware.analog.crossbar_array import cut_rows
from archsim.simulate import accelerator_for, load_accelerator, run
from archsim.trace import Operation, save_trace
from archsim.trace.resimulation import check_trace
from tests.machines import LABELS, ROOT, conv, mlp, same
from tests.small_traces import build, lif, tiny
from tests.unit.hardware import test_analog

LOSSLESS = ROOT / "hwconfigs" / "spikesim_lossless.yaml"
IDEAL = ROOT / "hwconfigs" / "imc_ideal.yaml"
FOUR_BITS = ROOT / "hwconfigs" / "spikesim.yaml"
VGG16 = ROOT / "workloads" / "vgg16_dual_sparse.npz"
SMALL = ("noc.rows=1", "noc.columns=2", "neuron.modules=1")  # a tile beside a module: three links
OPTIONS = [
    (), ("memory.ideal=true",), ("scheduler.timesteps=inner", "tile.buffer_bits=65536"), ("scheduler.skip=row_group",),
    ("pe.in_flight=3", "neuron.row_buffer=1", "neuron.sum_buffer=1"), ("array.signed=difference", "array.cell_bits=2"),
    ("adc.per=pe", "array.rows=2", "tile.pes=2"), ("pe.arrays=4", "tile.pes=1", "neuron.modules=1"),
]  # fmt: skip


def machine(*overrides, hardware=LOSSLESS):
    """The chip with conversions of two cycles, whatever their bits, unless ``overrides`` say otherwise."""
    said = any(override.startswith("adc.conversion_cycles=") for override in overrides)
    return load_accelerator(hardware, overrides if said else ("adc.conversion_cycles=2", *overrides))


def residual(seed=0, timesteps=3, images=2):
    """Branches that are added before they fire, a concatenation, a pool, a 5 x 5 kernel with strides, a read-out."""
    draw = np.random.default_rng(seed)

    def weights(*shape):
        return np.where(draw.random(shape) < 0.6, draw.integers(-20, 21, shape, dtype=np.int8), np.int8(0))

    def neurons(channels):
        return lif(channels, 30, timesteps=timesteps)

    spikes = draw.random((timesteps, images, 3, 6, 6)) < 0.4
    operations = [
        Operation("a", "conv2d", ("in",), "a.out", padding=(1, 1), weight=weights(4, 3, 3, 3), neuron=neurons(4)),
        Operation("b", "conv2d", ("a.out",), "b.out", padding=(1, 1), weight=weights(4, 4, 3, 3), neuron=neurons(4)),
        Operation("c", "conv2d", ("b.out",), "c.sum", padding=(1, 1), weight=weights(4, 4, 3, 3)),
        Operation("short", "conv2d", ("a.out",), "short.sum", weight=weights(4, 4, 1, 1)),
        Operation("add", "add", ("c.sum", "short.sum"), "add.out", neuron=neurons(4)),
        Operation("both", "concat", ("add.out", "a.out"), "both.out"),
        Operation("pool", "pool", ("both.out",), "pool.out", kernel=(2, 2), stride=(2, 2)),
        Operation(
            "d", "conv2d", ("pool.out",), "d.out", padding=(2, 2), stride=(2, 1), weight=weights(5, 8, 5, 5),
            neuron=neurons(5),
        ),
        Operation("fc", "linear", ("d.out",), "logits", weight=weights(4, 30)),
    ]  # fmt: skip
    return build(operations, {"in": spikes}, timesteps)


def simulated(trace, *overrides, engine="compiled", record=False, hardware=LOSSLESS):
    chip = machine(f"timesteps={trace.timesteps}", *overrides, hardware=hardware)
    assert chip.problems(trace) == []
    return list(chip.run_layers(trace, chip.layers(trace), engine, verify=True, record=record))


@pytest.mark.parametrize("positions", [1, 2, 5])
def test_a_hand_traced_chip(positions):
    """One tile, one module, ideal memory, T = 1, four neurons of 64 inputs; R = 3, so a packet of one flit takes
    3 links x 4 = 12 cycles.

        0   the input's line comes from DRAM (1), is read (2), is sent: at the tile in 14
        14  fetch 64 of 128 bits (15), drive and read (17), 8 columns of a converter at 2 cycles (33),
            shift-add and 4 + 3 levels of adders (41), to the module (53)
        53  the module is granted (54), 4 neurons in one cycle (55), the spikes are written (56), to DRAM (57)

    A position more takes 1 + 1 + 16 + 8 = 26 cycles more, the tool's PE-cycle.
    """
    trace = mlp(0, m=positions, n=4, k=64, timesteps=1)
    (layer,) = simulated(trace, *SMALL, "memory.ideal=true")
    assert layer.cycles == 57 + 26 * (positions - 1)
    assert layer.compute_cycles == 16 * positions
    assert (layer.mismatches, layer.start_cycle, layer.elapsed_cycles) == (0, 0, layer.cycles)


def test_positions_in_flight_overlap():
    """With enough slots the converters are the slowest stage: 16 cycles a position."""
    trace = mlp(0, m=40, n=4, k=64, timesteps=1)
    (layer,) = simulated(trace, *SMALL, "memory.ideal=true", "pe.in_flight=4")
    assert layer.cycles == 57 + 16 * 39


@pytest.mark.parametrize("overrides", OPTIONS, ids=str)
def test_engines_agree_and_the_network_is_exact(overrides):
    for trace in (tiny(images=1), residual(images=1)):
        both = [simulated(trace, *overrides, engine=engine, record=True) for engine in ("compiled", "reference")]
        for fast, slow in zip(*both, strict=True):
            same(fast, slow)
            assert (fast.start_cycle, fast.elapsed_cycles) == (slow.start_cycle, slow.elapsed_cycles)
            assert fast.mismatches == 0
            assert fast.cycles >= fast.lower_bound_cycles
            assert 0 <= fast.utilization <= 1
            assert all(u.busy_cycles + u.stall_cycles + u.idle_cycles == fast.cycles for u in fast.units)
            assert min(min(u.busy_cycles, u.stall_cycles, u.idle_cycles) for u in fast.units) >= 0


def random_network(draw):
    """A chain of convolutions and pools of any size, sometimes with a shortcut around one, and a read-out."""
    timesteps, images = int(draw.integers(1, 4)), int(draw.integers(1, 3))
    shape = (int(draw.integers(1, 6)), int(draw.integers(3, 9)), int(draw.integers(3, 9)))
    spikes = draw.random((timesteps, images, *shape)) < draw.random()
    operations, name = [], "in"

    def convolution(name, shape, kernel, stride, padding):
        number, channels = len(operations), int(draw.integers(1, 7))
        weight = draw.integers(-20, 21, (channels, shape[0], *kernel)).astype(np.int8)
        unit = lif(channels, 20, timesteps=timesteps)
        operations.append(
            Operation(
                f"c{number}",
                "conv2d",
                (name,),
                f"c{number}.out",
                padding=padding,
                stride=stride,
                weight=weight,
                neuron=unit,
            )
        )
        sides = [(shape[1 + i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1)]
        return f"c{number}.out", (channels, *sides)

    for _ in range(int(draw.integers(1, 4))):
        padding = tuple(int(p) for p in draw.integers(0, 3, 2))
        kernel = tuple(int(draw.integers(1, min(5, shape[1 + i] + 2 * padding[i]) + 1)) for i in (0, 1))
        stride = tuple(int(s) for s in draw.integers(1, 4, 2))
        name, shape = convolution(name, shape, kernel, stride, padding)
        kind = draw.integers(0, 3)
        if kind == 0 and min(shape[1:]) > 1:
            operations.append(
                Operation(f"p{len(operations)}", "pool", (name,), f"{name}.pool", kernel=(2, 2), stride=(1, 2))
            )
            name, shape = f"{name}.pool", (shape[0], shape[1] - 1, shape[2] // 2)
        elif kind == 1:
            weight = draw.integers(-20, 21, (shape[0], shape[0], 3, 3)).astype(np.int8)
            number = len(operations)
            operations.append(
                Operation(f"r{number}", "conv2d", (name,), f"r{number}.sum", padding=(1, 1), weight=weight)
            )
            unit = lif(shape[0], 20, timesteps=timesteps)
            operations.append(Operation(f"a{number}", "add", (f"r{number}.sum", name), f"a{number}.out", neuron=unit))
            name = f"a{number}.out"
    weight = draw.integers(-20, 21, (3, int(np.prod(shape)))).astype(np.int8)
    operations.append(Operation("fc", "linear", (name,), "logits", weight=weight))
    return build(operations, {"in": spikes}, timesteps)


def random_chip(draw):
    """Small arrays, tiles, buffers and links, so that everything is cut, shared and waited for."""
    choices = {
        "array.rows": (1, 2, 64), "array.columns": (16, 64), "pe.arrays": (1, 4, 9), "pe.in_flight": (1, 2, 5),
        "tile.pes": (1, 2, 8), "tile.buffer_width_bits": (8, 128), "neuron.modules": (1, 3), "neuron.lanes": (1, 16),
        "neuron.sum_buffer": (1, 4), "neuron.row_buffer": (1, 3), "noc.flit_bits": (8, 64), "noc.router_cycles": (1, 3),
        "scheduler.timesteps": ("outer", "inner"), "scheduler.skip": ("none", "row_group"),
        "adc.per": ("array", "pe"), "memory.ideal": ("false", "true"), "memory.cache.banks": (1, 16),
        "memory.cache.line_bytes": (16, 64),
    }  # fmt: skip
    fixed = ("noc.rows=24", "noc.columns=24", "tile.buffer_bits=4096", "memory.dram.interleave_bytes=64")
    return (*fixed, *(f"{path}={draw.choice(values)}" for path, values in choices.items()))


@pytest.mark.parametrize("seed", range(8, 16))
def test_engines_agree_on_random_networks_and_chips(seed):
    draw = np.random.default_rng(seed)
    trace, overrides = random_network(draw), random_chip(draw)
    fast, reference = (simulated(trace, *overrides, engine=engine, record=True) for engine in ("compiled", "reference"))
    for one, other in zip(fast, reference, strict=True):
        same(one, other)
        assert one.mismatches == 0
        assert min(min(u.busy_cycles, u.stall_cycles, u.idle_cycles) for u in one.units) >= 0  # not begun too late
        assert one.cycles >= one.lower_bound_cycles
    assert sum(one.elapsed_cycles for one in fast) == max(one.start_cycle + one.cycles for one in fast)


def test_layers_overlap_and_their_shares_are_the_run():
    layers = simulated(residual())
    makespan = max(layer.start_cycle + layer.cycles for layer in layers)
    assert sum(layer.elapsed_cycles for layer in layers) == makespan < sum(layer.cycles for layer in layers)
    serial = sum(simulated(residual().select(layers=[layer.layer]))[0].cycles for layer in layers)
    assert makespan < serial


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_a_layer_begins_with_its_first_event(engine):
    """Padding as high as the kernel: the tile of b drives its first row, all padding, in cycle 0, before a row of a is
    there. A sum that is added to others: neurons of c hear of rows of short before the input of c, rows of b, comes.
    No operation of a layer ends before it begins."""
    draw = np.random.default_rng(0)

    def layer(name, source, out, neuron=True, padding=(0, 0)):
        weight = draw.integers(-20, 21, (3, 3, 1, 1)).astype(np.int8)
        return Operation(name, "conv2d", (source,), out, padding=padding, weight=weight,
                         neuron=lif(3, 20, timesteps=2) if neuron else None)  # fmt: skip

    spikes = {"in": draw.random((2, 1, 3, 5, 5)) < 0.4}
    padded = build([layer("a", "in", "a.out"), layer("b", "a.out", "b.out", padding=(1, 1))], spikes, 2)
    a, b = simulated(padded, engine=engine, record=True)
    assert (a.start_cycle, b.start_cycle) == (0, 0)
    added = [layer("short", "in", "short.sum", False), layer("b", "in", "b.out"), layer("c", "b.out", "c.sum", False)]
    add = Operation("add", "add", ("c.sum", "short.sum"), "add.out", neuron=lif(3, 20, timesteps=2))
    joined = build([*added, add], spikes, 2)
    layers = {one.layer: one for one in simulated(joined, engine=engine, record=True)}
    sent = min(unit.stall_cycles for unit in layers["c"].units if unit.unit == "mover")
    assert layers["c"].start_cycle > 0 and sent > 0
    for one in (a, b, *layers.values()):
        assert one.completions[:, 1].min() >= 0


@pytest.mark.parametrize("seed", range(12))
def test_rows_that_are_waited_for(seed):
    """A window's last row by brute force: row numbers flow through kernels and pools as their largest value."""
    draw = np.random.default_rng(seed)
    kernel, stride, padding = int(draw.integers(1, 6)), int(draw.integers(1, 4)), int(draw.integers(0, 3))
    pool, pool_stride = int(draw.integers(1, 4)), int(draw.integers(1, 4))
    height = int(draw.integers(max(kernel, pool * pool_stride), 15))
    first = Operation(
        "a", "conv2d", ("in",), "a.out", padding=(1, 1), weight=np.ones((1, 1, 3, 3), np.int8), neuron=lif(1)
    )
    middle = Operation("p", "pool", ("a.out",), "p.out", kernel=(pool, 1), stride=(pool_stride, 1))
    pooled = (height - pool) // pool_stride + 1
    if pooled + 2 * padding < kernel:
        return
    last = Operation(
        "b", "conv2d", ("p.out",), "b.out", stride=(stride, 1), padding=(padding, 0),
        weight=np.ones((1, 1, kernel, 1), np.int8),
    )  # fmt: skip
    trace = build([first, middle, last], {"in": np.ones((4, 1, 1, height, 3), bool)}, 4)
    stage = stages_of(trace, [trace.operation("a"), trace.operation("b")])[1]
    (feed,) = stage.feeds
    rows = np.arange(1, height + 1)
    pools = np.array([rows[i * pool_stride :][:pool].max() for i in range(pooled)])
    np.testing.assert_array_equal(feed.need, pools)
    padded = np.pad(np.arange(1, pooled + 1), padding)
    ends = np.maximum.accumulate([max(padded[i * stride :][:kernel]) for i in range(stage.out_height)])
    assert stage.window_end(pooled)[:-1].tolist() == ends[:-1].tolist()
    assert stage.window_end(pooled)[-1] == pooled
    later = [padded[i * stride :][:kernel] for i in range(stage.out_height)]
    for y, freed in enumerate(stage.window_begin(pooled)[:-1].tolist()):
        assert not any(0 < row <= freed for window in later[y + 1 :] for row in window.tolist())


def test_a_residual_network_is_understood():
    """``short`` is the last of the two layers that are added: its neurons wait for the sums of ``c``."""
    trace = residual()
    chip = machine()
    a, b, c, short, d, fc = stages_of(trace, chip.layers(trace))
    assert [join.source for join in short.joins] == [2]
    assert (c.fires, c.kept == 1, short.fires, short.leaves, fc.leaves, fc.fires) == (
        False,
        True,
        True,
        False,
        True,
        False,
    )
    assert [(feed.source, feed.rows, feed.bits) for feed in d.feeds] == [(3, 3, 12), (0, 3, 12)]
    assert [feed.need.tolist() for feed in d.feeds] == [[2, 4, 6]] * 2
    assert [feed.source for stage in (a, b, c, fc) for feed in stage.feeds] == [-1, 0, 1, 4]
    layers = {layer.layer: layer for layer in simulated(trace)}
    assert layers["short"].actions["lif", "add"] == layers["short"].actions["lif", "update"] == 3 * 2 * 6 * 6 * 4
    assert layers["c"].actions["lif", "update"] == 0
    # The sums that are added wait for the last row of c, so short ends behind it.
    assert layers["short"].start_cycle + layers["short"].cycles > layers["c"].start_cycle + layers["c"].cycles


def test_events_of_a_layer_by_numpy():
    """Reads, conversions, sums, flits and updates of a convolution that takes two column blocks of eight neurons."""
    trace = conv(3, channels=5, size=6, out_channels=9)
    (layer,) = simulated(trace, *SMALL, "array.columns=16", "array.rows=2")
    positions, arrays, blocks = 4 * 2 * 36, 3 * 9, 2
    assert layer.actions["array", "read"] == positions * arrays * blocks
    assert layer.actions["adc", "convert"] == layer.actions["shift_add", "add"] == positions * arrays * 9 * 2
    assert layer.actions["tile_buffer", "read"] == positions * 3 * blocks
    assert layer.actions["h_tree", "transfer"] == positions * 3 * 9
    assert layer.actions["tile_buffer", "write"] == 4 * 2 * 6
    flits = -(-9 * 16 // 64)
    assert layer.actions["router", "flit"] == 3 * (positions * flits + 4 * 2 * 6)
    assert (layer.events["tiles"], layer.events["pes"]) == (1, 6)
    assert layer.actions["lif", "update"] == 0  # the trace ends in sums
    found = layer_of(trace, trace.operations[0])
    weight = trace.operations[0].weight.reshape(9, -1)
    spikes = np.pad(trace.tensor("in"), ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(spikes, (3, 3), (3, 4)).transpose(0, 1, 3, 4, 2, 5, 6)
    assert layer.synaptic_operations == int((windows.reshape(4, found.m, -1) @ (weight != 0).T.astype(np.int64)).sum())
    written = {row.tensor: row.bytes for row in layer.traffic if (row.level, row.direction) == ("dram", "write")}
    assert written["output"] == 4 * 2 * 6 * 128  # a row of 6 x 9 sums of 2 bytes is 108 bytes, two lines


def test_event_driven_arrays_skip_silent_rows():
    """Active arrays by numpy; the same outputs in fewer cycles."""
    trace = conv(5, channels=4, size=6, out_channels=3, density=0.02)
    dense, sparse = (simulated(trace, *SMALL, "array.rows=2", *more)[0] for more in ((), ("scheduler.skip=row_group",)))
    blocks = np.pad(trace.tensor("in"), ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1))).reshape(4, 2, 2, 2, 8, 8).any(3)
    windows = np.lib.stride_tricks.sliding_window_view(blocks, (3, 3), (3, 4))
    assert sparse.actions["array", "read"] == windows.sum() < dense.actions["array", "read"]
    assert sparse.actions["adc", "convert"] == windows.sum() * 3 * 2
    assert sparse.compute_cycles == int(windows.any((2, 5, 6)).sum()) * 6 * 2
    assert sparse.cycles < dense.cycles
    assert (sparse.mismatches, sparse.performed_operations) == (0, dense.performed_operations)


def test_potentials_are_read_and_written_between_timesteps():
    """22 bits of 5 neurons are 14 bytes, T - 1 times a position; none if all timesteps follow each other."""
    trace = tiny(images=1).select(layers=["conv2"])
    (layer,) = simulated(trace)
    traffic = {(row.tensor, row.direction): row.bytes for row in layer.traffic if row.level == "sram"}
    positions, size = 5 * 3, -(-5 * 22 // 8)
    assert traffic["membrane", "read"] == traffic["membrane", "write"] == 3 * positions * size
    inner = simulated(trace, "scheduler.timesteps=inner")[0]
    assert not any(row.bytes for row in inner.traffic if row.tensor == "membrane")


@pytest.mark.parametrize("skip", ["none", "row_group"])
def test_potentials_wider_than_their_memory_are_counted(skip, tmp_path):
    """Timesteps in which a potential, before or behind firing, does not fit: by numpy; outputs stay exact."""
    trace = mlp(4, density=0.6)
    sums = np.einsum("tmk,nk->tmn", trace.tensor("in").astype(int), trace.operations[0].weight.astype(int))
    for bits in (6, 10, 22):
        (layer,) = simulated(trace, f"neuron.membrane_bits={bits}", f"scheduler.skip={skip}")
        potential, over, behind = np.zeros(sums.shape[1:], int), 0, 0
        for t in range(4):
            potential += sums[t] << 3
            before = (potential < -(1 << bits - 1)) | (potential >= 1 << bits - 1)
            potential = np.where(potential > 60 << 3, 0, potential >> 1)
            after = (potential < -(1 << bits - 1)) | (potential >= 1 << bits - 1)
            over, behind = over + int((before | after).sum()), behind + int(after.sum())
        assert layer.events["membrane_overflows"] == over
        assert over > behind or bits == 22
        assert (over > 0) == (bits < 22)
        assert layer.mismatches == 0
    save_trace(trace, tmp_path / "mlp.npz")
    report = run(LOSSLESS, tmp_path / "mlp.npz", overrides=("neuron.membrane_bits=6",))
    assert any("exceed 6 bits (neuron.membrane_bits)" in warning for warning in report.warnings)


def test_layers_never_share_a_tile_and_parts_add_up():
    """A 5 x 5 kernel of 8 channels in arrays of 2 rows takes 100 arrays, 12 PEs, 2 tiles that add up in the first."""
    trace = residual()
    chip = machine("array.rows=2")
    operations = chip.layers(trace)
    mappings = [map_layer(chip.config, stage) for stage in stages_of(trace, operations)]
    assert (mappings[4].arrays, mappings[4].pes, mappings[4].parts, len(mappings[4].shares)) == (100, 12, 2, 2)
    results = simulated(trace, "array.rows=2")
    tiles = [unit.instance for layer in results for unit in layer.units if unit.unit == "adc"]
    assert len(tiles) == len(set(tiles)) == sum(len(mapping.shares) for mapping in mappings)
    assert all(layer.mismatches == 0 for layer in results)


def test_the_tools_mapping():
    """The tool's example, VGG9 with 4-bit weights: 48 PEs (ceil(C / 64) ceil(N / 64) a layer)."""
    inputs, outputs = [3, 64, 64, 128, 128, 256, 256], [64, 64, 128, 128, 256, 256, 256]
    chip = machine("pe.weight_bits=4")
    pes = 0
    for channels, neurons in zip(inputs, outputs, strict=True):
        weight = np.zeros((neurons, channels, 3, 3), np.int8)
        operation = Operation("conv", "conv2d", ("in",), "out", padding=(1, 1), weight=weight, weight_bits=4)
        trace = build([operation], {"in": np.zeros((1, 1, channels, 4, 4), bool)}, 1)
        pes += map_layer(chip.config, alone(layer_of(trace, trace.operations[0]))).pes_used()
    assert pes == 48


def test_the_tools_energy_of_a_pe_cycle():
    """The tool's 828.486 pJ less 4.64 pJ to fetch potentials, which CACTI prices here: nine arrays in eight rounds, 64
    conversions (currents of a PE joined), a window, 64 sums and neurons."""
    chip = machine("adc.per=pe", "pe.weight_bits=4", hardware=FOUR_BITS)
    counts = {
        ("array", "read"): 9, ("adc", "convert"): 64, ("shift_add", "add"): 64, ("temp_buffer", "access"): 1,
        ("tile_buffer", "read"): 1, ("h_tree", "transfer"): 64, ("lif", "update"): 64,
    }  # fmt: skip
    rows = energy_rows(counts, chip.inventory(), load_table(chip.cost_table), 0, chip.clock_mhz)
    assert sum(row.energy_pj for row in rows) == pytest.approx(828.4861472 - 4.64, abs=1e-3)


def test_four_bits_lose_and_say_so(tmp_path):
    """A lossy machine is no failure: exit code 0, and what its network makes of the images stands in the summary."""
    assert machine().exact
    assert not machine(hardware=FOUR_BITS).exact
    assert machine("adc.bits=10", hardware=FOUR_BITS).exact
    trace = tmp_path / "net.npz"
    net = residual()
    assert not any(check.mismatches for check in check_trace(net))
    save_trace(net, trace)
    arguments = ["run", str(FOUR_BITS), str(trace), "-o", str(tmp_path / "out"), "--set", "adc.range=maximum"]
    assert main(arguments) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["mismatches"] > 0
    assert (summary["exact"], summary["verified"]) == (False, False)
    assert 0 <= summary["agreement"] <= 1


def test_the_lossy_network_reads_what_it_made():
    """With 10 bits nothing is lost: the network that is run again is the trace's, tensor by tensor; not so with 4."""
    trace = residual()
    for bits, equal in ((10, True), (4, False)):
        chip = machine(f"adc.bits={bits}", "adc.range=maximum", hardware=FOUR_BITS)
        made = chip._network(trace)
        same_everywhere = all(np.array_equal(made[name], trace.tensor(name)) for name in made)
        assert same_everywhere == equal


@pytest.mark.parametrize("per", ["array", "pe"])
def test_what_a_converter_sees(per):
    """Sums of single arrays or of the arrays of a PE, against a twin that builds every column."""
    layer = layer_of(residual(), residual().operations[1])
    chip = machine(
        f"adc.per={per}", "adc.bits=2", "adc.range=granular", "array.rows=2", "pe.arrays=4", "array.cell_bits=2"
    )
    group = cut_rows(4, (3, 3), 2) // (1 if per == "array" else 4)
    sums = np.zeros((layer.m, layer.n, 3), np.int64)
    chip.accumulate(layer, 0, sums)
    words, weight = decode(layer.inputs, layer.k), bitmask.decode(layer.weights, layer.k)
    np.testing.assert_array_equal(
        sums, test_analog.slow(words, weight, group, 8, 2, "offset", lambda v: min(int(v), 3), 3)
    )


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("adc.columns=7", "must divide the 64 columns of an array, got 7"),
        ("adc.columns=0", "must be at least 1, got 0"),
        ("adc.bits=0", "must be at least 1 or must be 'lossless', got 0"),
        ("adc.bits=17", "must be at most 16 or must be 'lossless', got 17"),
        ("adc.bits=many", "must be an integer or must be 'lossless'"),
        ("array.columns=1", "must hold a weight, which takes 2 columns"),
        ("pe.arrays=0", "must be at least 1"),
        ("neuron.modules=144", "must leave nodes of the 12 x 12 mesh to tiles"),
        ("array.signed=dual", "dual"),
    ],
)
def test_bad_configurations(override, problem):
    overrides = (override, "adc.columns=1") if override == "array.columns=1" else (override,)
    with pytest.raises(ConfigError) as error:
        load_accelerator(FOUR_BITS, overrides)
    assert [
        line
        for line in error.value.problems
        if line.startswith(f"--set {override.partition('=')[0]}") and problem in line
    ]


def test_networks_that_do_not_fit():
    trace = residual()
    for overrides, words in (
        (("noc.rows=1", "noc.columns=5", "neuron.modules=1"), "the chip has 4 tiles, the layers need 6"),
        (("tile.buffer_bits=40",), "tile.buffer_bits: 40 bits hold 1 rows of the input of d, it needs 3"),
        (("memory.cache.size_kib=4",), "memory.cache.size_kib: potentials and rows of outputs need"),
    ):
        chip = machine(*overrides)
        assert any(words in problem for problem in chip.problems(trace)), chip.problems(trace)
        with pytest.raises(UsageError, match=words.split(":")[0]):
            chip.run_layers(trace, chip.layers(trace), "compiled", verify=False, record=False).__next__()
    lowest = mlp(0)
    weight = lowest.operations[0].weight.copy()
    weight[0, 0] = -128
    operation = Operation("fc", "linear", ("in",), "out", weight=weight)
    net = build([operation], {"in": lowest.tensor("in")}, 4, provenance=LABELS)
    assert machine().problems(net) == []
    assert "difference" in machine("array.signed=difference").problems(net)[0]


def test_a_chip_that_cannot_hold_the_network_is_an_error_of_one_line(tmp_path, capsys):
    trace = tmp_path / "net.npz"
    save_trace(residual(), trace)
    code = main(
        ["run", str(LOSSLESS), str(trace), "-o", str(tmp_path / "o"), "--set", "noc.rows=1", "--set", "noc.columns=6"]
    )
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert len(lines) == 1 and "2 tiles" in lines[0] and "Traceback" not in lines[0]


@pytest.mark.parametrize("hardware", [LOSSLESS, IDEAL], ids=lambda path: path.stem)
def test_a_fitted_chip_is_the_one_with_its_rows_in_the_file(hardware, tmp_path):
    """Same cycles, energy and area in both engines, whichever layers are run; what was built is told and loads."""
    trace = tmp_path / "net.npz"
    save_trace(residual(images=1), trace)
    chip = ("noc.columns=3", "neuron.modules=2")
    fitted = run(hardware, trace, overrides=[*chip, "noc.rows=fit"])
    summary = fitted.summary()
    assert summary["fitted_noc_rows"] == 3  # six tiles and two modules
    (tmp_path / "built.yaml").write_text(fitted.texts()["resolved.yaml"])
    assert load_accelerator(tmp_path / "built.yaml").config.noc.rows == 3
    given = run(hardware, trace, overrides=[*chip, "noc.rows=3"])
    assert "fitted_noc_rows" not in given.summary()
    for name in ("layers", "energy", "area"):
        assert fitted.rows(name) == given.rows(name)
    slow = run(hardware, trace, overrides=[*chip, "noc.rows=fit"], engine="reference")
    assert slow.rows("layers") == fitted.rows("layers")
    alone = run(hardware, trace, overrides=[*chip, "noc.rows=fit"], layers=["a"], verify=False)
    assert (alone.summary()["fitted_noc_rows"], alone.rows("area")) == (3, fitted.rows("area"))
    assert run(hardware, trace, overrides=chip).summary()["area_mm2"] > summary["area_mm2"]


@pytest.mark.parametrize("seed", range(20))
def test_a_fitted_chip_has_no_row_too_many(seed):
    draw = np.random.default_rng(seed)
    trace = random_network(draw)
    chip = [
        setting for setting in random_chip(draw) if not setting.startswith(("noc.rows", "noc.columns", "tile.buffer_b"))
    ]
    chip += [f"noc.columns={draw.integers(1, 12)}", "tile.buffer_bits=1048576", "memory.cache.size_kib=65536"]
    built = machine(*chip, "noc.rows=fit").specialised_for(trace)
    rows, stages = built.config.noc.rows, stages_of(trace, built.layers(trace))
    needed = sum(len(map_layer(built.config, stage).shares) for stage in stages)
    if needed + built.config.neuron.modules > 64 * built.config.noc.columns:
        assert rows == 64 and any(f"the layers need {needed} of" in problem for problem in built.problems(trace))
        return
    assert built.problems(trace) == [] and needed <= built.config.tiles
    assert built.config == machine(*chip, f"noc.rows={rows}").config
    try:
        refused = machine(*chip, f"noc.rows={rows - 1}").problems(trace)
    except ConfigError as error:  # no row, or no tile
        refused = error.problems
    assert any("noc.rows" in problem or "neuron.modules" in problem for problem in refused)


@pytest.mark.parametrize("hardware", [FOUR_BITS, IDEAL], ids=lambda path: path.stem)
def test_commands_that_know_no_network_show_the_smallest_chip(hardware, capsys):
    for command in ("check", "explain"):
        assert main([command, str(hardware), "--set", "noc.rows=fit"]) == 0
    assert "noc.rows,fit" in capsys.readouterr().out.replace("\t", ",")
    assert load_accelerator(hardware, ("noc.rows=fit",)).config.tiles == 8  # a row of twelve, less the modules
    with pytest.raises(ConfigError, match=r"must leave nodes of the 64 x 1 mesh"):
        load_accelerator(hardware, ("noc.rows=fit", "noc.columns=1", "neuron.modules=64"))
    with pytest.raises(ConfigError, match="must be at least 1 or must be 'fit', got 0"):
        load_accelerator(hardware, ("noc.rows=0",))


def test_a_run_reports_the_pipeline(tmp_path):
    """Latency is the makespan; energy rows add up; leakage is charged once, for the makespan."""
    trace = tmp_path / "net.npz"
    save_trace(residual(), trace)
    report = run(LOSSLESS, trace)
    summary = report.summary()
    makespan = max(layer.start_cycle + layer.cycles for layer in report.layers)
    assert summary["cycles"] == makespan
    assert summary["latency_s"] == makespan / 250e6
    leaking = [row for row in report.rows("energy") if row["unit"] == "tile_buffer" and row["action"] == "leakage"]
    assert sum(row["count"] for row in leaking) == makespan
    assert summary["compute_cycles"] + summary["stall_cycles"] == makespan
    assert summary["verified"] is True
    assert misfits(machine().config, []) == []


def test_vgg16_is_computed_exactly():
    summary = run(LOSSLESS, VGG16).summary()
    assert (summary["mismatches"], summary["layers_verified"]) == (0, 14)


def test_a_long_run_is_shared_out_to_its_layers():
    """Half an hour of writes at 1 GHz: the products of cycles and spans have more than 64 bits."""
    spans = [6_000_000_123, 1, 2_999_999_999_999]
    found = shared_out(2_000_000_000_003, spans)
    assert sum(found) == 2_000_000_000_003 and min(found) >= 0
    for share, span in zip(found, spans, strict=True):
        assert abs(share - span * 2_000_000_000_003 / sum(spans)) <= 1
    assert shared_out(7, [1, 1, 1]) == [2, 2, 3]


def test_a_refusal_names_all_settings_at_once(tmp_path):
    """Whoever takes every --set of the message has a chip that holds the network."""
    small = ("timesteps=3", *SMALL, "tile.buffer_bits=8")
    trace = tiny()
    with pytest.raises(UsageError) as caught:
        accelerator_for("spikesim", "tiny", trace, small)
    advice = re.findall(r"--set (\S+)", " ".join(caught.value.problems))
    assert {setting.partition("=")[0] for setting in advice} == {"timesteps", "noc.rows", "tile.buffer_bits"}
    settings = {setting.partition("=")[0]: setting for setting in (*small, *advice)}
    accelerator_for("spikesim", "tiny", trace, tuple(settings.values()))
