"""Arrays, SATA and SpinalFlow in pieces: groups as folds, windows of timesteps, planes; closed forms, both engines."""

from dataclasses import replace

import numpy as np
import pytest

from archsim.dataflow.coverage import coverage
from archsim.dataflow.layer import layer_of
from archsim.simulate import load_accelerator
from archsim.trace import Neuron, Operation
from tests.machines import conv, mlp, same
from tests.networks import attention
from tests.small_traces import build

ARRAYS = ("systolic", "ptb", "ptb_16x4", "stellar", "stellar_16x4")
MACHINES = (*ARRAYS, "sata", "spinalflow")
IDEAL = "memory.ideal=true"


def machine(name, trace, *overrides):
    return load_accelerator(name, ("scheduler.encoder=bit_planes", *overrides)).specialised_for(trace)


def pieces(built, trace):
    """The pieces of the first operation, which is a product."""
    return list(built.pieces(trace, trace.operations[0], False))


def results(name, trace, *overrides, engine="compiled"):
    built = machine(name, trace, *overrides)
    assert built.problems(trace) == []
    found = list(built.run_layers(trace, built.layers(trace), engine, verify=True, record=True))
    assert [result.mismatches for result in found] == [0] * len(found)
    return found


def grouped(groups, inputs=1, outputs=1, size=14, kernel=3, timesteps=4, images=1, seed=0):
    """A convolution of spikes in groups of so many ``inputs`` and ``outputs``, with neurons."""
    draw = np.random.default_rng(seed)
    weight = draw.integers(-40, 60, (groups * outputs, inputs, kernel, kernel)).astype(np.int8)
    operation = Operation(
        "layer", "conv2d", ("x",), "y", weight=weight, padding=(kernel // 2, kernel // 2), groups=groups,
        neuron=Neuron("if", np.full(groups * outputs, 60)),
    )  # fmt: skip
    spikes = draw.random((timesteps, images, groups * inputs, size, size)) < 0.3
    return build([operation], {"x": spikes}, timesteps)


def group_of(trace, group):
    """One group of a convolution as a network of its own."""
    operation, groups = trace.operations[0], trace.operations[0].groups
    outputs, inputs = (len(shape) // groups for shape in (operation.weight, trace.tensor("x")[0, 0]))
    rows = slice(group * outputs, (group + 1) * outputs)
    alone = replace(
        operation, weight=operation.weight[rows], groups=1, neuron=Neuron("if", operation.neuron.threshold[rows])
    )
    return build([alone], {"x": trace.tensor("x")[:, :, group * inputs : (group + 1) * inputs]}, trace.timesteps)


def moved(result, level, tensor, direction):
    rows = [row for row in result.traffic if (row.level, row.tensor, row.direction) == (level, tensor, direction)]
    return sum(row.bytes for row in rows)


# --- Groups -----------------------------------------------------------------------------------------------------------


def test_a_depthwise_layer_is_its_small_products_one_fold_behind_the_other():
    """256 channels, 3 x 3, 14 x 14, T 4 on 8 x 8: 256 x 98 folds of 9 + 22 cycles, and 3 to begin and end."""
    trace = grouped(256)
    assert results("systolic", trace, IDEAL)[0].cycles == 777_728 + 3


@pytest.mark.parametrize("dataflow", ["output", "weight", "input"])
@pytest.mark.parametrize(
    ("groups", "inputs", "outputs", "size", "kernel", "timesteps", "rows", "columns"),
    [(6, 1, 1, 5, 3, 4, 8, 8), (3, 4, 5, 4, 3, 3, 4, 7), (2, 5, 9, 3, 1, 1, 8, 3), (5, 2, 1, 4, 3, 6, 3, 4)],
)
def test_groups_take_as_many_folds_as_their_products(
    dataflow, groups, inputs, outputs, size, kernel, timesteps, rows, columns
):  # fmt: skip
    """SCALE-Sim's run time of one product, G times: nothing drains or fills between two of them."""
    m, k, n = size * size, inputs * kernel * kernel, outputs
    positions = -(-m // (columns // timesteps)) if timesteps <= columns else m * -(-timesteps // columns)
    folds, streamed = {
        "output": (-(-n // rows) * positions, k),
        "weight": (-(-k // rows) * -(-n // columns), m * timesteps),
        "input": (-(-k // rows) * positions, n),
    }[dataflow]
    trace = grouped(groups, inputs, outputs, size, kernel, timesteps)
    options = (f"dataflow={dataflow}", f"pe.rows={rows}", f"pe.columns={columns}", IDEAL)
    result = results("systolic", trace, *options)[0]
    assert result.compute_cycles == groups * folds * (2 * rows + columns + streamed - 2)
    # Folds of a stationary operand end with partial sums and several lines.
    assert 3 <= result.cycles - result.compute_cycles <= (3 if dataflow == "output" else 5)
    assert (result.m, result.n, result.k, result.timesteps) == (m, groups * n, k, timesteps)
    assert result.performed_operations == groups * m * n * k * timesteps


@pytest.mark.parametrize("name", ARRAYS)
def test_a_group_costs_what_it_costs_alone(name):
    trace = grouped(4, 3, 5, size=6)
    together = results(name, trace, IDEAL)[0]
    alone = [results(name, group_of(trace, group), IDEAL)[0] for group in range(4)]
    assert together.compute_cycles == sum(result.compute_cycles for result in alone)
    assert 3 <= together.cycles - together.compute_cycles <= alone[-1].cycles - alone[-1].compute_cycles
    assert together.performed_operations == sum(result.performed_operations for result in alone)
    for action, count in together.actions.items():
        # Operands and outputs of groups share lines and beats.
        if action[0] not in ("cache_data", "cache_tag", "broadcast", "dram"):
            assert count == sum(result.actions.get(action, 0) for result in alone), action
    for tensor in ("input", "weight"):
        assert moved(together, "sram", tensor, "read") == sum(moved(r, "sram", tensor, "read") for r in alone)


def test_heads_and_images_are_folds_of_one_schedule():
    """Q K^T of 2 heads, 2 images and T = 4, 9 positions of 4 channels, on 8 x 8: for each timestep 2 x 2 x 4 folds of
    4 + 22 cycles. Before that the 8 neuron units write K as weights, 6 rows of the map with 96 values each."""
    trace = attention(timesteps=4, heads=2, channels=8, size=3, images=2)
    built = machine("systolic", trace, IDEAL)
    (result,) = built.run_layers(trace, [trace.operation("qk")], "compiled", verify=True, record=False)
    assert result.mismatches == 0
    assert result.compute_cycles == 4 * (2 * 2 * 4 * 26) + 6 * 12
    layout, *products = built.pieces(trace, trace.operation("qk"), False)
    assert [len(piece.products) for piece in products] == [4] * 4
    assert int(layout.updates.sum()) == 576


def test_outputs_of_groups_lie_packed():
    """Rows of 4 bits are a byte each, not a line; operands of the groups share lines too."""
    result = results("systolic", grouped(32, size=6))[0]
    assert moved(result, "dram", "output", "write") == 32 * 36 == 18 * 64
    assert moved(result, "dram", "weight", "read") == -(-32 * 9 // 64) * 64
    assert moved(result, "dram", "input", "read") == 32 * 18 * 9


@pytest.mark.parametrize("name", MACHINES)
def test_engines_agree_on_groups(name):
    trace = grouped(3, 2, 4, size=5, images=2)
    for fast, slow in zip(results(name, trace), results(name, trace, engine="reference"), strict=True):
        same(fast, slow)
        assert fast.cycles >= fast.lower_bound_cycles


# --- Windows of timesteps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("timesteps", [7, 8, 11])
@pytest.mark.parametrize("make", [mlp, conv])
def test_windows_of_four_timesteps_give_what_all_at_once_give(name, timesteps, make):
    """Outputs are the trace's in any case; state goes out and comes back between windows."""
    trace = make(3, timesteps=timesteps)
    fast, slow = (results(name, trace, "timesteps=4", engine=engine)[0] for engine in ("compiled", "reference"))
    same(fast, slow)
    assert fast.cycles >= fast.lower_bound_cycles
    at_once = results(name, trace, f"timesteps={timesteps}")[0]
    assert fast.performed_operations >= at_once.performed_operations > 0
    assert moved(at_once, "dram", "output", "read") == 0
    # Sums without neurons leave as they are: nothing is remembered.
    assert (moved(fast, "dram", "output", "read") > 0) is (make is mlp)


STATE = {"systolic": 3, "ptb": 3, "stellar": 2, "sata": 2, "spinalflow": 2}
"""Bytes of a full sum."""


@pytest.mark.parametrize("name", STATE)
def test_potentials_go_through_memory_between_windows(name):
    """64 neurons of 8 rows: their potentials leave with the output of a window and come back in the next, twice."""
    trace = mlp(3, m=8, n=64, k=40, timesteps=12)
    windows, plain = results(name, trace, "timesteps=4")[0], results(name, trace, "timesteps=12")[0]
    state = 2 * 8 * 64 * STATE[name]
    assert moved(windows, "dram", "output", "read") == state
    # Spikes and state of a row share its lines, so whole lines of both are all that is known of what is written.
    spikes = moved(plain, "dram", "output", "write")
    assert state < moved(windows, "dram", "output", "write") <= state + 3 * spikes + 2 * 8 * 64


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_that_takes_the_trace_s_timesteps_is_not_cut_below_a_word(name):
    """SATA's spans, PTB's time windows and blocks of columns take 16 timesteps in one run, and more in two."""
    timesteps = "timesteps=16" if name == "spinalflow" else "timesteps=trace"
    for trace, expected in ((mlp(3, timesteps=16), [16]), (mlp(3, timesteps=20), [16, 4])):
        built = machine(name, trace, timesteps)
        assert [layer.timesteps for layer in pieces(built, trace)] == expected
        results(name, trace, timesteps)


def overflows(name, trace, *overrides):
    events = results(name, trace, *overrides)[0].events
    return {event: count for event, count in events.items() if event.endswith("overflows")}


@pytest.mark.parametrize("name", ["systolic", "ptb_16x4", "stellar", "sata", "spinalflow"])
def test_windows_find_the_overflows_that_all_timesteps_have(name):
    dense = mlp(3, m=4, n=4, k=60, timesteps=8, density=0.9, weight_density=0.9)
    adding_up = replace(dense.operations[0], neuron=Neuron("if", np.full(4, 10**5)))
    trace = build([adding_up], {"in": dense.tensor("in")}, 8)
    options = ["pe.accumulator_bits=9", *(["membrane.bits=12"] if name == "sata" else [])]
    found = overflows(name, trace, "timesteps=4", *options)
    assert found == overflows(name, trace, "timesteps=8", *options)
    assert all(found.values())


# --- Planes -----------------------------------------------------------------------------------------------------------


def shown(values, timesteps, n=8):
    """A linear layer with neurons whose operand [I, K] stays the same at all timesteps."""
    draw = np.random.default_rng(1)
    weight = draw.integers(-40, 60, (n, values.shape[1])).astype(np.int8)
    operation = Operation("fc", "linear", ("x",), "y", weight=weight, neuron=Neuron("if", np.full(n, 300)))
    return build([operation], {"x": values}, timesteps)


def test_a_sum_that_stays_the_same_is_used_at_every_timestep():
    """8 x 8, one plane in a column: a fold of 20 + 22 cycles; 64 neurons have 3 timesteps more than their sum, on 8
    units 24 cycles."""
    values = np.random.default_rng(0).integers(0, 2, (8, 20)).astype(np.uint8)
    values[0, 0] = 1
    result = results("systolic", shown(values, 4), IDEAL)[0]
    assert result.compute_cycles == 42
    assert result.cycles == 42 + 3 + 24
    assert result.actions["lif", "update"] == 64 * 4
    result = results("spinalflow", shown(values, 4), IDEAL)[0]
    assert result.actions["pe", "update"] == 64 * 4
    assert result.compute_cycles == results("spinalflow", shown(values, 1), IDEAL)[0].compute_cycles + 8 * 3
    result = results("sata", shown(values, 4), IDEAL)[0]
    assert result.actions["lif", "update"] == 64 * 4
    assert result.cycles == results("sata", shown(values, 1), IDEAL)[0].cycles + 3


@pytest.mark.parametrize("name", MACHINES)
def test_pixels_are_multiplied_once_in_planes(name):
    """8 planes and 3 timesteps; a machine of 4 planes needs two pieces and leaves unfinished sums in between."""
    values = np.random.default_rng(0).integers(0, 256, (6, 30)).astype(np.uint8)
    trace = shown(values, 3, n=9)
    built = machine(name, trace, "timesteps=4")
    assert [layer.timesteps for layer in pieces(built, trace)] == [4, 4]
    result = results(name, trace, "timesteps=4")[0]
    assert result.timesteps == 3
    assert result.timestep_counts == {}
    assert moved(result, "dram", "output", "read") > 0
    whole = machine(name, trace, "timesteps=8")
    assert [layer.timesteps for layer in pieces(whole, trace)] == [8]
    result = results(name, trace, "timesteps=8")[0]
    assert result.timesteps == 3
    assert moved(result, "dram", "output", "read") == 0


def few_spikes(currents, threshold):
    """Spikes that write the sum of ``currents`` [T, ...] in binary, in units of the threshold."""
    rest, spikes = currents.sum(0), 0
    for t in reversed(range(len(currents))):
        fired = rest >= threshold << t
        rest, spikes = rest - (threshold << t) * fired, spikes + int(fired.sum())
    return spikes


def test_few_spikes_neurons_write_a_number_for_each_window():
    trace = mlp(3, m=4, n=6, k=40, timesteps=8)
    operation = trace.operations[0]
    currents = np.einsum("tmk,nk->tmn", trace.tensor("in").astype(int), operation.weight.astype(int))
    expected = sum(few_spikes(currents[first : first + 4], operation.neuron.threshold) for first in (0, 4))
    assert results("stellar", trace, "timesteps=4")[0].events["few_spikes"] == expected > 0


def test_few_spikes_neurons_see_sums_of_all_planes():
    """Pixels in two pieces of 4 planes: a sum is complete in the second, and used at all 3 timesteps."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 30)).astype(np.uint8)
    trace = shown(pixels, 3, n=9)
    operation = trace.operations[0]
    currents = np.stack([pixels.astype(int) @ operation.weight.astype(int).T] * 3)
    found = results("stellar", trace, "timesteps=4")[0].events["few_spikes"]
    assert found == few_spikes(currents, operation.neuron.threshold) > 0


# --- SATA -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["pe", "sram", "dram"])
@pytest.mark.parametrize("sparsity", ["gating", "skipping"])
def test_engines_agree_on_windows_wherever_potentials_are(place, sparsity):
    trace = conv(3, timesteps=6)
    trace = build([replace(trace.operations[0], neuron=Neuron("if", np.full(9, 90)))], {"in": trace.tensor("in")}, 6)
    options = (
        "timesteps=4", f"membrane.place={place}", f"scheduler.sparsity={sparsity}", "pe.psum_bytes=4",
        "memory.buffers.potential.size_kib=16",
    )  # fmt: skip
    fast, slow = (results("sata", trace, *options, engine=engine)[0] for engine in ("compiled", "reference"))
    same(fast, slow)
    assert moved(fast, "dram", "output", "read") == -(-2 * 36 * 9 * 2 // 64) * 64


@pytest.mark.parametrize(
    "window",
    [
        {"dilation": (2, 1), "padding": (2, 1)},
        {"input_dilation": (2, 3)},
        {"input_dilation": (2, 2), "padding": (2, 0, 1, 3)},
    ],
)
def test_a_dilated_convolution_reads_the_inputs_that_it_sees(window):
    """Every element that a tap of a row meets is read once for each group of filters, at all 3 timesteps."""
    draw = np.random.default_rng(2)
    weight = draw.integers(-20, 21, (9, 4, 3, 2)).astype(np.int8)
    operation = Operation("a", "conv2d", ("x",), "a", weight=weight, neuron=Neuron("if", np.full(9, 30)), **window)
    trace = build([operation], {"x": draw.random((3, 2, 4, 6, 5)) < 0.3}, 3)
    results("sata", trace)
    built = machine("sata", trace)
    program = built.example(trace, trace.operations[0])
    rows, columns = trace.operations[0].window.taps((6, 5))
    met = int((rows >= 0).sum()) * int((columns >= 0).sum()) * 4 * 2
    assert int(program.operands.read.bits.sum()) == met * 3


def test_training_is_of_plain_layers_and_names_the_rest():
    draw = np.random.default_rng(4)

    def layer(name, source, inputs, **more):
        weight = draw.integers(-20, 25, (4, inputs, 3, 3)).astype(np.int8)
        neuron = Neuron("if", np.full(4, 30))
        return Operation(name, "conv2d", (source,), name, weight=weight, padding=(1, 1), neuron=neuron, **more)

    operations = [
        layer("pixels", "x", 4), layer("plain", "pixels", 4), layer("depthwise", "plain", 1, groups=4),
        layer("dilated", "depthwise", 4, dilation=(2, 2)), layer("last", "dilated", 4),
    ]  # fmt: skip
    trace = build(operations, {"x": draw.integers(0, 9, (1, 4, 6, 6)).astype(np.uint8)}, 3)
    for encoder in ("skipped", "bit_planes"):
        built = load_accelerator("sata_training", (f"scheduler.encoder={encoder}",)).specialised_for(trace)
        assert [operation.name for operation in built.layers(trace)] == ["plain", "last"]
        left_out = coverage(built, trace, built.layers(trace), None).left_out
        assert [(one.layer, one.reason) for one in left_out] == [
            ("pixels", "reads pixels 0 to 8 (direct encoder)"),
            ("depthwise", "has 4 groups, which is not trained here"),
            ("dilated", "is dilated, which is not trained here"),
        ]
    found = list(built.run_layers(trace, built.layers(trace), "compiled", verify=True, record=False))
    assert [result.variant["stage"] for result in found] == ["forward", "backward", "backward", "update"] * 2


def test_a_plain_layer_is_one_piece_as_before():
    """Whatever the encoder is, a layer of spikes runs at once, by the same layer."""
    trace = mlp(3)
    for name in MACHINES:
        built = machine(name, trace)
        (piece,) = pieces(built, trace)
        assert piece.planes is None
        assert piece.k == layer_of(trace, trace.operations[0]).k
