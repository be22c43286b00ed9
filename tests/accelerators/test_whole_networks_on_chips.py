"""Chips of crossbar arrays run all of a network at once: bits of integers, digital units, groups, heads, long time."""

from dataclasses import replace

import numpy as np
import pytest

from archsim.dataflow import crossbar_function
from archsim.dataflow.coverage import coverage
from archsim.dataflow.crossbar_mapping import map_layer
from archsim.errors import ConfigError, UsageError
from archsim.simulate import load_accelerator, run
from archsim.trace import Neuron, Operation, Requantiser, save_trace
from tests.machines import ROOT, conv, mlp, same
from tests.networks import attention, lif, pixels, recurrent, trace_of

LOSSLESS = ROOT / "hwconfigs" / "spikesim_lossless.yaml"
IDEAL = ROOT / "hwconfigs" / "imc_ideal.yaml"
IDEALLY = "memory.ideal=true"
CHIPS = [LOSSLESS, IDEAL]
NETWORKS = {"attention": attention, "recurrent": recurrent, "pixels": pixels}
each_chip = pytest.mark.parametrize("hardware", CHIPS, ids=lambda path: path.stem)


def machine(hardware, *overrides):
    return load_accelerator(hardware, overrides)


def simulated(trace, hardware, *overrides, engine="compiled", record=False):
    """The results of all layers by name; nothing is left out and all that is stored is right."""
    chip = machine(hardware, *overrides).specialised_for(trace)
    assert chip.problems(trace) == [] and chip.holes(trace) == ()
    layers = chip.layers(trace)
    found = coverage(chip, trace, layers, None)
    assert found.share == 1.0 and not found.left_out
    results = {one.layer: one for one in chip.run_layers(trace, layers, engine, verify=True, record=record)}
    assert all(one.mismatches in (0, None) for one in results.values())
    return results


def agreed(trace, hardware, *overrides):
    """The same in both engines, with what must hold of every layer."""
    fast, slow = (
        simulated(trace, hardware, *overrides, engine=engine, record=True) for engine in ("compiled", "reference")
    )
    for one, other in zip(fast.values(), slow.values(), strict=True):
        same(one, other)
        assert one.cycles >= one.lower_bound_cycles >= 0
        assert 0 <= one.utilization <= 1
        assert all(unit.busy_cycles + unit.stall_cycles + unit.idle_cycles == one.cycles for unit in one.units)
        assert min(min(unit.busy_cycles, unit.stall_cycles, unit.idle_cycles) for unit in one.units) >= 0
    assert sum(one.elapsed_cycles for one in fast.values()) == max(
        one.start_cycle + one.cycles for one in fast.values()
    )
    return fast


def weight(draw, *shape):
    return draw.integers(-20, 25, shape).astype(np.int8)


@pytest.mark.parametrize("network", NETWORKS)
@each_chip
def test_the_whole_network_runs_and_both_engines_agree(hardware, network):
    if hardware == LOSSLESS and network == "attention":
        chip = machine(hardware)
        assert len([line for line in chip.holes(attention()) if "arrays had to be written at run time" in line]) == 4
        return
    agreed(NETWORKS[network](), hardware)


def random_network(seed):
    """A chain of operations of every kind that neuron modules know, with a cycle, a delayed shortcut and a read-out."""
    draw = np.random.default_rng(seed)
    timesteps, images, channels, size = int(draw.integers(1, 4)), int(draw.integers(1, 3)), 4, int(draw.integers(2, 5))
    shape, name, operations = (channels, size, size), "x", []
    inputs = {"x": draw.random((timesteps, images, *shape)) < 0.4}
    if draw.random() < 0.5:
        inputs = {"x": draw.integers(0, 200, (images, *shape)).astype(np.uint8)}

    def add(op, reads, written, **more):
        operations.append(Operation(f"{op}{len(operations)}", op, reads, f"t{len(operations)}", **more))
        return operations[-1].output, written

    def neurons():
        rules = [
            {}, {"leak_multiplier": np.full(4, 200), "reset": "soft", "refractory": 1},
            {"fires": "integer", "most": 3, "reset": "soft"},
            {"current_multiplier": np.full(4, 100), "current_shift": 8},
        ]  # fmt: skip
        more = rules[int(draw.integers(len(rules)))]
        shift, bits = (8, 4) if "leak_multiplier" in more else (1, 3)
        return Neuron("lif", np.full(4, 10), shift, bits, **more)

    name, shape = add("conv2d", (name,), shape, weight=weight(draw, 4, 4, 1, 1), neuron=neurons())
    first = name
    for kind in draw.permutation(["sum", "groups", "mask", "up", "pool", "turn", "late", "integers", "cut"]):
        channels, height, width = shape
        if kind == "sum":
            name, _ = add("add", (name, name), shape)
        elif kind == "groups":
            groups = int(draw.choice([1, 2, 4]))
            name, _ = add("conv2d", (name,), shape, weight=weight(draw, 4, 4 // groups, 3, 3), groups=groups,
                          padding=(1, 1), neuron=neurons())  # fmt: skip
        elif kind == "mask":
            mask, _ = add("reduce", (name,), shape, axis=str(draw.choice(["positions"])))
            name, _ = add("multiply", (name, mask), shape, requantiser=Requantiser(np.full(4, 3), 4, 4, False))
        elif kind == "up" and max(height, width) < 6:
            name, shape = add("upsample", (name,), (4, 2 * height, width), factor=(2, 1))
        elif kind == "pool" and min(height, width) > 1:
            more = {"reduction": "sum", "neuron": neurons()} if draw.random() < 0.5 else {}
            name, shape = add("pool", (name,), (4, height - 1, width - 1), kernel=(2, 2), **more)
        elif kind == "turn":
            name, shape = add("rearrange", (name,), (4, width, height), view=shape, order=(0, 2, 1),
                              shape=(4, width, height))  # fmt: skip
        elif kind == "late":
            late, _ = add("delay", (name,), shape, steps=int(draw.integers(1, 3)))
            name, _ = add("add", (name, late), shape, neuron=neurons() if draw.random() < 0.5 else None)
        elif kind == "integers":
            name, _ = add("conv2d", (name,), shape, weight=weight(draw, 4, 4, 1, 1))
        elif kind == "cut" and height > 1:
            name, shape = add("slice", (name,), (4, height - 1, width), axis=1, start=0, stop=height - 1)
            parts = [add("slice", (name,), shape, axis=0, start=start, stop=start + 2)[0] for start in (0, 2)]
            name, _ = add("concat", tuple(reversed(parts)), shape)
    if operations[-1].output != first:
        name, _ = add("conv2d", (name,), shape, weight=weight(draw, 4, 4, 1, 1), neuron=neurons())
    add("linear", (name,), (3,), weight=weight(draw, 3, int(np.prod(shape))))
    return trace_of("random", timesteps, operations, inputs)


def without_requantisers(trace):
    operations = [replace(operation, requantiser=None) for operation in trace.operations]
    names = {operation.output for operation in operations}
    return trace_of("random", trace.timesteps, operations, {
        name: trace.tensor(name) for name in trace.tensors if name not in names
    })  # fmt: skip


def random_chip(draw, hardware):
    """Small arrays, tiles, buffers and links, so that everything is cut, shared and waited for."""
    choices = {
        "pe.arrays": (1, 4), "pe.in_flight": (1, 3), "tile.pes": (1, 2, 8), "tile.buffer_width_bits": (8, 128),
        "neuron.modules": (1, 3), "neuron.lanes": (1, 16), "neuron.sum_buffer": (1, 4), "neuron.row_buffer": (1, 3),
        "noc.flit_bits": (8, 64), "scheduler.skip": ("none", "row_group"), "memory.ideal": ("false", "true"),
        "scheduler.timesteps": ("outer", "outer", "inner"), "memory.cache.line_bytes": (16, 64),
    }  # fmt: skip
    rows = "array" if hardware == LOSSLESS else "analog"
    choices |= {f"{rows}.rows": (1, 2, 4, 64), f"{rows}.columns": (16, 64)}
    fixed = ("noc.rows=24", "noc.columns=24", "tile.buffer_bits=1000000", "memory.dram.interleave_bytes=64",
             "neuron.sum_bits=40", "neuron.membrane_bits=40")  # fmt: skip
    return (*fixed, *(f"{path}={draw.choice(values)}" for path, values in choices.items()))


@pytest.mark.parametrize("seed", range(5))
@each_chip
def test_engines_agree_on_random_networks_and_chips(hardware, seed):
    trace = random_network(seed)
    trace = without_requantisers(trace) if hardware == LOSSLESS else trace
    agreed(trace, hardware, *random_chip(np.random.default_rng(seed), hardware))


@each_chip
def test_a_value_is_driven_bit_by_bit(hardware):
    """Values of 1, 2 and 5 bits, of which only the width differs: so many times the conversions of a spike."""
    draw = np.random.default_rng(0)
    operation = Operation("fc", "linear", ("x",), "o", weight=weight(draw, 5, 12))
    found = []
    for most in (1, 3, 31):
        values = draw.integers(0, most + 1, (3, 1, 12))
        values[0, 0, 0] = most
        trace = trace_of("bits", 3, [operation], {"x": values})
        found.append(agreed(trace, hardware)["fc"].actions["adc", "convert"])
    assert found == [found[0], 2 * found[0], 5 * found[0]]
    signed = trace_of("bits", 3, [operation], {"x": np.where(values % 2, values, -values)})
    assert agreed(signed, hardware)["fc"].actions["adc", "convert"] == 6 * found[0]


@each_chip
def test_pixels_are_multiplied_once(hardware):
    """The encoder's conversions do not depend on T; its sums are written once and read at every other timestep."""
    draw = np.random.default_rng(1)
    image = {"x": draw.integers(0, 256, (2, 3, 4, 4)).astype(np.uint8)}
    operation = Operation("c", "conv2d", ("x",), "s", weight=weight(draw, 5, 3, 3, 3), neuron=lif(5, 2000))
    for timesteps in (1, 4, 7):
        layer = agreed(trace_of("pixels", timesteps, [operation], image), hardware)["c"]
        bits = machine(hardware).config
        columns = bits.columns_per_weight if hardware == LOSSLESS else 4
        assert (
            layer.actions["adc", "convert"] == 2 * 4 * 8 * 9 * 5 * columns
        )  # images, positions, bits, arrays, neurons
        traffic = {(row.tensor, row.direction): row.bytes for row in layer.traffic if row.level == "sram"}
        sums, potentials = -(-5 * bits.neuron.sum_bits // 8), -(-5 * bits.neuron.membrane_bits // 8)
        again = timesteps - 1
        assert traffic["membrane", "write"] == 2 * 4 * (sums * (timesteps > 1) + potentials * again)
        assert traffic["membrane", "read"] == 2 * 4 * again * (sums + potentials)
        # An image's line comes once for every row.
        assert layer.actions["dram", "read_bits"] == 2 * 4 * 512


def test_sums_are_made_anew_where_they_have_no_room():
    """The memory holds the potentials of 7 x 16 positions and not their sums too."""
    draw = np.random.default_rng(1)
    image = {"x": draw.integers(0, 256, (1, 3, 9, 18)).astype(np.uint8)}
    operation = Operation("c", "conv2d", ("x",), "s", weight=weight(draw, 5, 3, 3, 3), neuron=lif(5, 2000))
    trace = trace_of("pixels", 4, [operation], image)
    small = ("memory.cache.size_kib=16", "memory.cache.banks=1")
    once, anew = (agreed(trace, LOSSLESS, *more)["c"].actions["adc", "convert"] for more in ((), small))
    assert anew == 4 * once


@each_chip
def test_time_is_as_long_as_the_network_wants(hardware):
    """T = 1,024 of a layer, and 64 timesteps of a recurrent one, each after the one before, at one pace."""
    draw = np.random.default_rng(5)
    operation = Operation("fc", "linear", ("x",), "s", weight=weight(draw, 3, 5), neuron=lif(3))
    layer = simulated(trace_of("long", 1024, [operation], {"x": draw.random((1024, 1, 5)) < 0.4}), hardware)["fc"]
    assert layer.timesteps == layer.m * 1024 and layer.actions["lif", "update"] == 3 * 1024
    sizes = {"features": 3, "neurons": 2, "images": 1}
    short, long = (simulated(recurrent(timesteps=steps, **sizes), hardware, IDEALLY) for steps in (32, 64))
    assert (long["own"].cycles - short["own"].cycles) % 32 == 0 < long["own"].cycles - short["own"].cycles


def test_a_timestep_of_a_cycle_waits_for_the_one_before():
    """A longer delay lets maps of the cycle overlap; what it keeps is charged to the modules' memory."""
    spikes = {"x": np.random.default_rng(0).random((16, 1, 12)) < 0.4}
    trace, cycles = recurrent(timesteps=16, images=1), []
    for steps in (1, 2, 4):
        operations = [
            replace(operation, steps=steps) if operation.op == "delay" else operation for operation in trace.operations
        ]
        late = trace_of("late", 16, operations, spikes)
        chip = machine(LOSSLESS)
        kept = {stage.name: stage.kept for stage in chip.stages(late, chip.layers(late))}
        assert kept["own"] == 1 + steps
        cycles.append(agreed(late, LOSSLESS)["own"].cycles)
    assert cycles[0] > cycles[1] >= cycles[2]
    assert "cycle of back, own, cell" in machine(LOSSLESS, "scheduler.timesteps=inner").problems(trace)[0]


@each_chip
def test_neurons_with_a_current_remember_two_words(hardware):
    trace = mlp(0, m=3, n=5, k=20, timesteps=4)
    more = {"current_multiplier": np.full(5, 100), "current_shift": 8, "leak_multiplier": np.full(5, 200)}
    neuron = Neuron("lif", np.full(5, 60), 8, 6, **more)
    both = trace_of("cuba", 4, [replace(trace.operations[0], neuron=neuron)], {"in": trace.tensor("in")})
    bits = machine(hardware).config.neuron.membrane_bits
    for one, words in ((trace, 1), (both, 2)):
        rows = agreed(one, hardware)["fc"].traffic
        (read,) = (row.bytes for row in rows if (row.level, row.tensor, row.direction) == ("sram", "membrane", "read"))
        assert read == 3 * 3 * -(-5 * bits * words // 8)


@each_chip
def test_a_depthwise_layer_takes_the_arrays_of_its_groups(hardware):
    """64 channels of 3 x 3: each column block of 64 columns drives only its own channels, at nine places."""
    draw = np.random.default_rng(2)
    own, spikes = draw.integers(1, 25, (64, 1, 3, 3)).astype(np.int8), draw.random((4, 1, 64, 4, 4)) < 0.4
    dense = np.zeros((64, 64, 3, 3), np.int8)
    dense[np.arange(64), np.arange(64)] = own[:, 0]
    grouped = Operation("dw", "conv2d", ("x",), "y", weight=own, groups=64, padding=(1, 1), neuron=lif(64))
    hidden = Operation("dw", "conv2d", ("x",), "y", weight=dense, padding=(1, 1), neuron=lif(64))
    one, other = (trace_of("dw", 4, [operation], {"x": spikes}) for operation in (grouped, hidden))
    layer = agreed(one, hardware)["dw"]
    assert agreed(other, hardware)["dw"].actions == layer.actions
    chip = machine(hardware)
    (stage,) = chip.stages(one, one.operations)
    mapping = map_layer(chip.config, stage)
    per_array = mapping.block_outputs
    assert (mapping.together, mapping.clusters, mapping.arrays) == (per_array, 64 // per_array, 9)
    columns = 64 // per_array if hardware == LOSSLESS else 4
    assert layer.actions["adc", "convert"] == 4 * 16 * 64 * 9 * columns
    assert layer.performed_operations == layer.synaptic_operations  # no weight is zero, none is multiplied in vain
    old = run_alone(other, hardware, "scheduler.encoder=skipped")
    assert old.actions["adc", "convert"] == layer.actions["adc", "convert"]  # a column has its neurons either way
    assert old.performed_operations == 64 * layer.performed_operations


def run_alone(trace, hardware, *overrides):
    chip = machine(hardware, *overrides)
    return next(chip.run_layers(trace, chip.layers(trace), "compiled", verify=True, record=False))


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@each_chip
def test_silent_groups_are_skipped(hardware, groups):
    """Only channel 0 spikes: arrays of the cluster that it is in, and none else, are read."""
    draw = np.random.default_rng(3)
    spikes = np.zeros((2, 1, 8, 1, 4), bool)
    spikes[:, :, 0] = True
    operation = Operation("g", "conv2d", ("x",), "y", weight=weight(draw, 8, 8 // groups, 1, 1), groups=groups)
    rows = "array" if hardware == LOSSLESS else "analog"
    overrides = ("scheduler.skip=row_group", f"{rows}.rows=2", f"{rows}.columns=16", "pe.arrays=1", "tile.pes=1")
    layer = agreed(trace_of("g", 2, [operation], {"x": spikes}), hardware, *overrides)["g"]
    chip = machine(hardware, *overrides)
    trace = trace_of("g", 2, [operation], {"x": spikes})
    mapping = map_layer(chip.config, chip.stages(trace, trace.operations)[0])
    columns = chip.config.unit(chip.stages(trace, trace.operations)[0]).conversions
    assert layer.actions["adc", "convert"] == 2 * 4 * mapping.outputs * columns
    assert layer.performed_operations == 2 * 4 * 8 // groups


@pytest.mark.parametrize("timesteps", [1, 3])
@pytest.mark.parametrize(("heads", "size"), [(1, 1), (2, 1), (4, 2)])
def test_every_head_and_timestep_is_written(heads, size, timesteps):
    """Cells of a head's matrix only: two columns (a pair) of one slice hold a spike."""
    trace = attention(timesteps=timesteps, heads=heads, channels=4, size=size, images=1)
    layers = agreed(trace, IDEAL)
    tokens, own = size * size, 4 // heads
    cells = {"kv": tokens * own * heads, "qk": own * tokens * heads, "mix": tokens * own * heads}
    pulses = machine(IDEAL).config.analog.cells.device.write.pulses
    for name, values in cells.items():
        assert layers[name].actions["write_driver", "pulse"] == timesteps * 2 * values * pulses, name
    metrics = machine(IDEAL).metrics(trace)
    written = sum(layer.actions["write_driver", "pulse"] for layer in layers.values() if layer.op == "matmul") // pulses
    assert metrics["cell_writes_per_image"] == written


def test_one_token_and_one_timestep_and_a_silent_cycle():
    agreed(attention(timesteps=1, heads=1, channels=2, size=1, images=1), IDEAL)
    for hardware in CHIPS:
        trace = recurrent(threshold=1 << 20)
        assert not trace.tensor("s").any()
        agreed(trace, hardware)


def residual_network(seed=0):
    """A residual network of 8-bit integers as PyTorch would quantise it: branches that are requantised and added."""
    draw = np.random.default_rng(seed)

    def few(channels, shift, signed=True):
        return Requantiser(draw.integers(1, 200, channels), shift, 8, signed)

    def layer(name, reads, channels, out, **more):
        return Operation(name, "conv2d", (reads,), f"{name}.o", weight=weight(draw, out, channels, 3, 3),
                         padding=(1, 1), **more)  # fmt: skip

    operations = [
        layer("stem", "x", 3, 4, requantiser=few(4, 14, False)),
        Operation("max", "pool", ("stem.o",), "max.o", kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
        layer("a", "max.o", 4, 4, requantiser=few(4, 12, False)),
        layer("b", "a.o", 4, 4, requantiser=few(4, 13)),
        Operation("sum", "add", ("b.o", "max.o"), "sum.o", requantiser=few(4, 7, False)),
        layer("c", "sum.o", 4, 6, requantiser=few(6, 13, False), stride=(2, 2)),
        layer("d", "c.o", 6, 6, requantiser=few(6, 13)),
        Operation("short", "conv2d", ("sum.o",), "short.o", weight=weight(draw, 6, 4, 1, 1), stride=(2, 2),
                  requantiser=few(6, 12)),
        Operation("sum2", "add", ("d.o", "short.o"), "sum2.o", requantiser=few(6, 7, False)),
        Operation("mean", "pool", ("sum2.o",), "mean.o", kernel=(2, 2), reduction="sum", requantiser=few(6, 9, False)),
        Operation("fc", "linear", ("mean.o",), "logits", weight=weight(draw, 5, 6)),
    ]  # fmt: skip
    return trace_of("resnet", 1, operations, {"x": draw.integers(-100, 100, (2, 3, 8, 8)).astype(np.int8)})


def test_a_residual_network_of_integers_runs_whole():
    layers = agreed(residual_network(), IDEAL)
    assert layers["mean"].actions["digital", "add"] == 2 * 6 * 4
    chip = machine(LOSSLESS)
    reasons = " ".join(chip.problems(residual_network()) + list(chip.holes(residual_network())))
    assert "ends in a requantiser, for which neuron modules had to multiply" in reasons


@each_chip
def test_digital_units_take_a_round_for_every_lane_of_values(hardware):
    """A pool that sums 2 x 2 values, and fires: four values an output, then one update."""
    draw = np.random.default_rng(4)
    spikes = {"x": draw.random((3, 2, 4, 4, 6)) < 0.4}
    operations = [
        Operation("c", "conv2d", ("x",), "s", weight=weight(draw, 4, 4, 1, 1), neuron=lif(4)),
        Operation("p", "pool", ("s",), "y", kernel=(2, 2), stride=(2, 2), reduction="sum", neuron=lif(4, 2)),
    ]
    trace = trace_of("pool", 3, operations, spikes)
    lanes = ("neuron.lanes=5", *(("digital.lanes=5",) if hardware == IDEAL else ()))
    chip = machine(hardware, *lanes)
    layer, stage = agreed(trace, hardware, *lanes)["p"], chip.stages(trace, chip.layers(trace))[1]
    values, rows = 4 * 3, 3 * 2 * 2
    assert chip.config.unit(stage).cycles == -(-4 * values // 5) + -(-values // 5)
    unit = ("lif", "add") if hardware == LOSSLESS else ("digital", "add")
    assert (layer.actions[unit], layer.actions["lif", "update"]) == (4 * values * rows, values * rows)
    traffic = {(row.tensor, row.direction): row.bytes for row in layer.traffic if row.level == "sram"}
    size = -(-values * chip.config.neuron.membrane_bits // 8)
    assert traffic["membrane", "read"] == traffic["membrane", "write"] == 2 * 2 * 2 * size


def test_neurons_behind_a_sum_of_branches_are_compared(monkeypatch):
    """They are no layer, but their spikes are what the layer with the sums sends on."""
    trace = recurrent()
    assert simulated(trace, LOSSLESS)["own"].mismatches == 0
    true = crossbar_function.exact_currents

    def wrong(trace, operation):
        for window in true(trace, operation):
            yield window + 25 * (operation.op == "add")

    monkeypatch.setattr("archsim.dataflow.crossbar_machine.exact_currents", wrong)
    chip = machine(LOSSLESS)
    layers = {
        one.layer: one for one in chip.run_layers(trace, chip.layers(trace), "compiled", verify=True, record=False)
    }
    assert layers["own"].mismatches > 0 and layers["fc"].mismatches == 0


def test_windows_of_memory_change_nothing(monkeypatch):
    monkeypatch.setattr(crossbar_function, "WINDOW_VALUES", 1)
    for hardware in CHIPS:
        simulated(pixels(), hardware)
        simulated(recurrent(), hardware)
        simulated(mlp(0, timesteps=8), hardware)


def test_skipped_is_as_before(tmp_path):
    """Without an encoder only layers that read spikes run, and the report says what that leaves out."""
    save_trace(pixels(), tmp_path / "net.npz")
    for hardware in CHIPS:
        report = run(hardware, tmp_path / "net.npz", scheduler__encoder="skipped", layers=["c2"], timesteps=6)
        left_out = {one["layer"] for one in report.summary()["left_out"]}
        assert 0 < report.summary()["coverage"] < 1 and {"c1", "up", "t"} <= left_out
        whole = run(hardware, tmp_path / "net.npz").summary()
        assert (whole["coverage"], whole["left_out"], whole["verified"]) == (1.0, [], True)


@each_chip
def test_a_plane_for_each_number_is_no_setting_of_a_chip(hardware):
    with pytest.raises(ConfigError, match="unary"):
        machine(hardware, "scheduler.encoder=unary")


@each_chip
def test_masked_neurons_need_the_timesteps_that_the_chip_is_built_for(hardware):
    trace = mlp(0, timesteps=16)
    masked = replace(trace.operations[0], neuron=replace(trace.operations[0].neuron, mask_fire_once=True))
    trace = trace_of("masked", 16, [masked], {"in": trace.tensor("in")})
    assert "timesteps" in machine(hardware, "timesteps=8").problems(trace)[0]
    simulated(trace, hardware, "timesteps=16")


def test_a_chip_too_small_for_what_waits_says_so():
    trace = recurrent(timesteps=40)
    operations = [replace(one, steps=30) if one.op == "delay" else one for one in trace.operations]
    late = trace_of("late", 40, operations, {"x": trace.tensor("x")})
    small = ("memory.cache.size_kib=1", "memory.cache.banks=1", "memory.cache.line_bytes=64")
    assert machine(LOSSLESS, *small).problems(trace) == []
    (problem,) = machine(LOSSLESS, *small).problems(late)
    assert problem.startswith("memory.cache.size_kib: potentials and rows of outputs need")
    chosen = machine(LOSSLESS).layers(late)
    with pytest.raises(UsageError):
        list(machine(LOSSLESS, *small).run_layers(late, chosen, "compiled", verify=False, record=False))


def test_convolutions_of_long_sequences_reuse_their_chip():
    """T = 40 in maps of a timestep each: 10 times the conversions of T = 4."""
    for hardware in CHIPS:
        short, long = (simulated(conv(3, timesteps=steps), hardware)["conv"] for steps in (4, 40))
        assert long.actions["adc", "convert"] == 10 * short.actions["adc", "convert"]
