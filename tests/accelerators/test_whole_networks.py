"""Machines that run layer by layer run all of a network: in pieces, and between layers on their neuron units."""

import dataclasses

import numpy as np
import pytest

from archsim.compress.bitmask import decode
from archsim.compress.packed_time import decode as decode_words
from archsim.dataflow import computing
from archsim.dataflow.coverage import coverage
from archsim.dataflow.layer_machine import LayerMachine
from archsim.dataflow.pieces import Source, digits, pieces_of, side_by_side, slices_of
from archsim.simulate import load_accelerator
from archsim.simulate import run as simulate
from archsim.trace import Operation, Requantiser, Trace
from archsim.trace.recurrence import known_timesteps
from tests.machines import MACHINES, ROOT, conv, mlp, same
from tests.networks import attention, lif, pixels, recurrent, trace_of

pytestmark = pytest.mark.slow
SPIKING = [
    path
    for path in MACHINES
    if load_accelerator(path).operand == "spike"
    and isinstance(load_accelerator(path), LayerMachine)
    and load_accelerator(path).takes_integers
]
NETWORKS = {"attention": attention, "recurrent": recurrent, "pixels": pixels}


def machine_for(trace, path, *overrides):
    machine = load_accelerator(path, overrides).specialised_for(trace)
    assert not machine.problems(trace)
    return machine


def run(trace, path, *overrides, engine="compiled"):
    machine = machine_for(trace, path, *overrides)
    return list(machine.run_layers(trace, machine.layers(trace), engine, verify=True, record=False))


def test_there_are_machines():
    assert len(SPIKING) >= 6


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("path", SPIKING, ids=lambda path: path.stem)
def test_the_whole_network_runs_and_both_engines_agree(path, network):
    trace = NETWORKS[network]()
    machine = machine_for(trace, path)
    found = coverage(machine, trace, machine.layers(trace), None)
    assert found.share == 1.0 and not found.left_out
    fast, slow = run(trace, path), run(trace, path, engine="reference")
    for left, right in zip(fast, slow, strict=True):
        assert left.mismatches in (0, None)
        same(left, right)
    compared = {result.layer for result in fast if result.mismatches == 0}
    assert compared == {operation.name for operation in machine.layers(trace)}


@pytest.mark.parametrize("timesteps", [5, 8, 11])
@pytest.mark.parametrize("make", [mlp, conv])
@pytest.mark.parametrize("path", SPIKING, ids=lambda path: path.stem)
def test_windows_of_timesteps_give_what_all_timesteps_give(path, make, timesteps):
    trace = make(0, timesteps=timesteps)
    (result,) = run(trace, path, "timesteps=4")
    assert result.mismatches == 0 and result.timesteps == timesteps
    state = sum(row.bytes for row in result.traffic if row.level == "dram" and row.tensor.startswith("output"))
    whole = run(trace, path, f"timesteps={timesteps}")[0] if timesteps <= 8 and "spinalflow" not in path.stem else None
    if whole is not None and trace.operations[0].neuron is not None:
        once = sum(row.bytes for row in whole.traffic if row.level == "dram" and row.tensor.startswith("output"))
        assert state > once  # what neurons remember goes out and comes back
        assert any(row.bytes for row in result.traffic if row.tensor.startswith("output") and row.direction == "read")


@pytest.mark.parametrize("path", SPIKING, ids=lambda path: path.stem)
def test_state_of_wide_rows_takes_many_lines(path):
    """An agent that asks for more lines at once than it has room for is an error of the reference engine."""
    trace = mlp(0, m=3, n=700, k=12, timesteps=6)
    (fast,), (slow,) = (run(trace, path, "timesteps=4", engine=engine) for engine in ("compiled", "reference"))
    assert fast.mismatches == 0
    same(fast, slow)


def once_or_never(trace):
    """The same layer, whose neurons rest after their first spike."""
    spikes = trace.tensor("out")
    times = np.where(spikes.any(0), spikes.argmax(0), 255).astype(np.uint8)
    assert (spikes.sum(0) > 1).any()  # or resting would change nothing
    tensors = {"in": trace.tensor("in"), "out": times}
    return Trace(
        network="times", timesteps=trace.timesteps, operations=trace.operations, tensors=tensors,
        provenance=trace.provenance, kinds={"out": "spike_time"},
    )  # fmt: skip


@pytest.mark.parametrize("timesteps", [4, 9])
@pytest.mark.parametrize("path", SPIKING, ids=lambda path: path.stem)
def test_neurons_whose_time_is_stored_fire_once(path, timesteps):
    (result,) = run(once_or_never(mlp(0, timesteps=timesteps)), path, "timesteps=4")
    assert result.mismatches == 0


def test_a_mask_needs_all_timesteps_at_once():
    counts = np.random.default_rng(0).integers(0, 3, (4, 2, 30)).astype(np.int16)
    weight = np.random.default_rng(1).integers(-9, 15, (6, 30)).astype(np.int8)
    for values, refused in ((counts, True), (counts > 0, False), (counts[0].astype(np.uint8), False)):
        layer = Operation("fc", "linear", ("x",), "y", weight=weight, neuron=lif(6, mask_fire_once=True))
        trace = trace_of("masked", 4, [layer], {"x": values})
        machine = load_accelerator(SPIKING[0], ("timesteps=4",))
        assert bool(machine.problems(trace)) == refused
        if refused:
            assert machine.problems(trace)[0].startswith("fc: its neurons are masked for firing once")
        else:
            assert run(trace, SPIKING[0], "timesteps=4")[0].mismatches == 0


def test_state_that_is_lost_between_windows_is_seen(monkeypatch):
    trace, path = mlp(0, timesteps=8), next(path for path in SPIKING if path.stem == "loas")
    true = computing.fire_rows

    def forgets(neurons, sums, bias, first, state, outputs):
        for array in state:
            array[:] = 0
        true(neurons, sums, bias, first, state, outputs)

    monkeypatch.setattr(computing, "fire_rows", forgets)
    assert run(trace, path, "timesteps=4")[0].mismatches > 0


@pytest.mark.parametrize("encoder", ["bit_planes", "unary"])
@pytest.mark.parametrize("low, high", [(0, 2), (0, 6), (-3, 4), (-8, 7)])
def test_planes_add_up_to_the_values(low, high, encoder):
    draw = np.random.default_rng(3)
    values = draw.integers(low, high + 1, (5, 2, 30)).astype(np.int16)
    values[0, 0, :2] = low, high
    weight = draw.integers(-9, 10, (6, 30)).astype(np.int8)
    trace = trace_of("sums", 5, [Operation("fc", "linear", ("x",), "y", weight=weight)], {"x": values})
    machine = load_accelerator(SPIKING[0], (f"scheduler.encoder={encoder}", "timesteps=4"))
    total = np.zeros((2, 6, 5), np.int64)
    t = 0
    partial = 0
    for piece in pieces_of(trace, trace.operations[0], machine.limits, 5):
        words, columns = decode_words(piece.inputs, 30), decode(piece.weights, 30)
        for plane in range(piece.timesteps):
            partial = partial + piece.planes.factor[plane] * ((words >> plane & 1).astype(np.int64) @ columns.T)
            if piece.planes.ends[plane]:
                total[:, :, t], partial, t = partial, 0, t + 1
    np.testing.assert_array_equal(total, np.moveaxis(values.astype(np.int64) @ weight.T.astype(np.int64), 0, -1))


@pytest.mark.parametrize("low, high", [(0, 1), (0, 2), (0, 255), (-1, 0), (-1, 1), (-128, 127), (-129, 3)])
def test_digits_span_the_range_and_no_more(low, high):
    worth = digits(low, high)
    least, most = sum(w for w in worth if w < 0), sum(w for w in worth if w > 0)
    assert least <= low and most >= high
    fewer = digits(low, high)[:-1] if low >= 0 else None
    assert fewer is None or not fewer or sum(fewer) < high


@pytest.mark.parametrize(
    "low, high, slices", [(0, 127, 1), (0, 128, 2), (-128, 127, 1), (-129, 0, 2), (-128, 128, 2), (-(1 << 14), 0, 2)]
)
def test_an_operand_takes_as_many_slices_as_signed_weights_of_8_bits_need(low, high, slices):
    values = np.array([[[low, high]]], np.int32)
    trace = trace_of(
        "sums", 1, [Operation("fc", "linear", ("x",), "y", weight=np.ones((1, 2), np.int8))], {"x": values}
    )
    assert len(slices_of(Source(trace, "x"), 8)) == slices


def test_groups_side_by_side_are_a_dense_layer():
    weight = np.arange(1, 2 * 3 * 4 + 1).reshape(6, 4, 1, 1)
    dense = side_by_side(weight, 3)
    assert dense.shape == (6, 12)
    for n in range(6):
        group = n // 2
        assert (dense[n, 4 * group : 4 * group + 4] == weight[n].ravel()).all()
    assert np.count_nonzero(dense) == 24


@pytest.mark.parametrize("timesteps", [1, 3])
@pytest.mark.parametrize("heads, size", [(1, 1), (2, 1), (4, 2)])
def test_edges_of_attention(heads, size, timesteps):
    trace = attention(timesteps=timesteps, heads=heads, channels=4, size=size, images=1)
    assert all(result.mismatches in (0, None) for result in run(trace, SPIKING[0]))


def fired_at(*timesteps, of=12):
    """A layer whose inputs spike at these timesteps alone."""
    trace = mlp(0, timesteps=of, density=0.0)
    spikes = trace.tensor("in").copy()
    spikes[list(timesteps)] = mlp(1, timesteps=of).tensor("in")[list(timesteps)]
    return trace_of("seldom", of, trace.operations, {"in": spikes})


EDGES = {
    "one head, one token, one channel, one timestep": lambda: attention(1, 1, 1, 1, 1, seed=8179),
    "as many heads and groups as channels": lambda: attention(2, 4, 4, 2, 1),
    "windows without a spike": lambda: fired_at(0, 11),
    "no spike at all": lambda: fired_at(),
    "a recurrent layer that never fires": lambda: recurrent(threshold=1 << 20),
    "a recurrent layer of one neuron": lambda: recurrent(timesteps=3, features=1, neurons=1, images=1),
}

SILENT = {"no spike at all": "out", "a recurrent layer that never fires": "s"}
"""Edges, and tensors without a spike."""


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("path", SPIKING, ids=lambda path: path.stem)
def test_edges(path, edge):
    trace = EDGES[edge]()
    assert not trace.tensor(SILENT[edge]).any() if edge in SILENT else trace.tensor(trace.operations[0].output).any()
    results = run(trace, path, "timesteps=4")
    assert [result.mismatches for result in results] == [0] * len(results)


@pytest.mark.parametrize("name", ["loas", "prosperity", "systolic", "spinalflow"])
def test_time_is_as_long_as_the_network_wants(name):
    draw = np.random.default_rng(0)
    layer = Operation(
        "fc", "linear", ("x",), "out", weight=draw.integers(-9, 15, (3, 5)).astype(np.int8), neuron=lif(3)
    )
    trace = trace_of("long", 1024, [layer], {"x": draw.random((1024, 1, 5)) < 0.4})
    (result,) = run(trace, ROOT / "hwconfigs" / f"{name}.yaml", "timesteps=16")
    assert result.mismatches == 0 and result.timesteps == 1024
    assert trace.tensor("out")[-4:].any()


def test_a_recurrent_operation_knows_its_least_delay():
    trace = recurrent(timesteps=9)
    known = {operation.name: known_timesteps(trace, operation) for operation in trace.operations}
    assert known == {"fc": 9, "back": 1, "own": 1, "cell": 1, "out": 9}
    operations = [
        dataclasses.replace(operation, steps=4) if operation.name == "back" else operation
        for operation in trace.operations
    ]
    slow = trace_of("slow", 9, operations, {"x": trace.tensor("x")})
    assert known_timesteps(slow, slow.operation("own")) == 4


def test_groups_that_a_dense_layer_hides_are_found():
    draw = np.random.default_rng(0)
    own = draw.integers(1, 9, (8, 1, 3, 3)).astype(np.int8)
    dense = np.zeros((8, 8, 3, 3), np.int8)
    dense[np.arange(8), np.arange(8)] = own[:, 0]
    spikes = draw.random((4, 1, 8, 5, 5)) < 0.5
    grouped = Operation("dw", "conv2d", ("x",), "y", weight=own, groups=8, padding=(1, 1), neuron=lif(8))
    hidden = Operation("dw", "conv2d", ("x",), "y", weight=dense, padding=(1, 1), neuron=lif(8))
    one, other = (trace_of("dw", 4, [operation], {"x": spikes}) for operation in (grouped, hidden))
    path = next(path for path in SPIKING if path.stem == "prosperity")
    assert run(one, path)[0].cycles == run(other, path)[0].cycles


@pytest.mark.parametrize("path", SPIKING, ids=lambda path: path.stem)
def test_requantisers_of_groups_and_heads_have_multipliers_of_their_own(path):
    draw = np.random.default_rng(0)
    few = Requantiser(draw.integers(1, 200, 8), 6, bits=12)
    weight = draw.integers(-9, 10, (8, 4, 3, 3)).astype(np.int8)
    grouped = Operation("conv", "conv2d", ("x",), "y", weight=weight, groups=2, requantiser=few)
    product = Operation("scores", "matmul", ("x", "x"), "y", transpose_first=True, heads=2, requantiser=few)
    for operation in (grouped, product):
        (result,) = run(trace_of("few", 4, [operation], {"x": draw.random((4, 1, 8, 5, 5)) < 0.5}), path)
        assert result.mismatches == 0


@pytest.mark.parametrize("workload", ["cnn", "vit"])
@pytest.mark.parametrize("machine", ["sparten", "gamma", "systolic"])
def test_networks_of_8_bit_integers_run_whole(machine, workload):
    summary = simulate(ROOT / "hwconfigs" / f"{machine}.yaml", ROOT / "workloads" / f"{workload}.npz").summary()
    assert (summary["coverage"], summary["left_out"], summary["mismatches"]) == (1.0, [], 0)
