"""Delays and cycles: what they compute, what runs with what, and what has no meaning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import TraceError
from archsim.trace import Neuron, Operation, Trace, check_trace, load_trace, save_trace
from archsim.trace import cycles as room
from archsim.trace.resimulation import predict, run_images
from tests.small_traces import LABELS, recurrent, settled, tiny
from tests.twins import trace as twin

FEATURES = 3


def test_by_hand():
    """A neuron with threshold 2 reads 3 x and 2 times what it fired two timesteps before, x = 0 or 1, T = 6.

    x = 1 fires at t = 0 and 1 (3 > 2), then 3 + 2 reaches no more; with x = 0 nothing ever fires.
    """
    weight = np.full((1, 1), 3, np.int8)
    operations = [
        Operation("before", "delay", ("out",), "before.out", steps=2),
        Operation("in", "linear", ("x",), "in.out", weight=weight),
        Operation("back", "linear", ("before.out",), "back.out", weight=np.full((1, 1), -2, np.int8)),
        Operation("sum", "add", ("in.out", "back.out"), "out", neuron=Neuron("if", np.array([2]))),
    ]
    trace = settled(operations, {"x": np.array([[1], [0]], np.uint8)}, {"out": (1,)}, 6)
    # t = 0, 1: X = 3; then 3 - 2 = 1; behind the timesteps without a spike, u = 1, X = 1 + 3, and so on.
    expected, fired, kept = [], [], 0
    for t in range(6):
        total = kept + 3 - 2 * (fired[t - 2] if t > 1 else 0)
        fired.append(int(total > 2))
        kept = 0 if fired[-1] else total
        expected.append(bool(fired[-1]))
    assert trace.tensor("out")[:, 0, 0].tolist() == expected == [True, True, False, False, True, True]
    assert not trace.tensor("out")[:, 1].any()
    assert trace.cycles == (room.Cycle(("before", "back", "sum"), 2),)
    assert [check.mismatches for check in check_trace(trace)] == [0] * 4


@st.composite
def networks(draw):
    """Operations on three features: neurons and delays, of which the latter read anything."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    roles = ["linear", *draw(st.lists(st.sampled_from(["linear", "add", "delay", "delay"]), min_size=1, max_size=7))]
    firing = [i for i, role in enumerate(roles) if role != "delay"]
    operations, times = [], []
    for i, role in enumerate(roles):
        ready = ["x", *(f"t{j}" for j in range(i) if j not in times or role == "linear")]
        kwargs = {}
        if role == "delay":
            kwargs["steps"] = draw(st.integers(1, 3)) if draw(st.booleans()) else rng.integers(1, 4, FEATURES)
            inputs = [f"t{draw(st.sampled_from(firing))}"]
        else:
            inputs = draw(st.lists(st.sampled_from(ready), min_size=1, max_size=1 if role == "linear" else 3))
            kwargs["neuron"] = Neuron("lif", rng.integers(1, 12, FEATURES), 1, 3)
            if role == "linear":
                kwargs["weight"] = rng.integers(-9, 10, (FEATURES, FEATURES), np.int8)
        operations.append(Operation(f"o{i}", role, tuple(inputs), f"t{i}", **kwargs))
    timesteps = draw(st.integers(1, 8))
    return operations, {"x": rng.integers(0, 3, (2, FEATURES), np.uint8)}, firing, timesteps


@settings(max_examples=150, deadline=None)
@given(case=networks())
def test_any_graph(case):
    """Outputs of a run follow from one another, operation by operation, which is true of one set of them alone."""
    operations, tensors, firing, timesteps = case
    trace = settled(operations, tensors, {f"t{i}": (FEATURES,) for i in firing}, timesteps)
    assert all(check.mismatches == 0 for check in check_trace(trace))
    for operation in trace:
        inputs = [shown(trace, name) for name in operation.inputs]
        np.testing.assert_array_equal(trace.tensor(operation.output), twin.run(operation, inputs, timesteps))
    parts = room.parts(trace.meta)
    assert sorted(index for part in parts for index in part) == list(range(len(operations)))
    # Whatever a part reads is written in parts before it, or in itself.
    written = {"x"}
    for part in parts:
        written |= {trace.operations[index].output for index in part}
        assert written.issuperset(name for index in part for name in trace.operations[index].inputs)
    together = {name for cycle in trace.cycles for name in cycle.operations}
    assert together == {operation.name for operation in trace if reaches(trace, operation, operation.output)}


def shown(trace, name):
    values = trace.operand(name)
    return values if values.ndim == 3 else np.stack([values] * trace.timesteps)


def reaches(trace, operation, tensor):
    """Whether ``operation`` reads, by way of any others, ``tensor``."""
    seen, waiting = set(), list(operation.inputs)
    while waiting:
        name = waiting.pop()
        if name == tensor:
            return True
        for other in trace:
            if other.output == name and name not in seen:
                seen.add(name)
                waiting += other.inputs
    return False


def test_neurons_with_spike_times_rest_on_cycles_too():
    """A neuron that would fire at every timestep fires once, and what it wrote comes back once."""
    operations = [
        Operation("late", "delay", ("fast.out",), "late.out", steps=1),
        Operation("back", "linear", ("late.out",), "back.out", weight=np.full((1, 1), 7, np.int8)),
        Operation("in", "linear", ("x",), "in.out", weight=np.full((1, 1), 9, np.int8)),
        Operation("fast", "add", ("in.out", "back.out"), "fast.out", neuron=Neuron("if", np.array([4]))),
    ]
    trace = settled(
        operations, {"x": np.ones((1, 1), np.uint8)}, {"fast.out": (1,)}, 5,
        {"fast.out": "spike_time", "late.out": "spike_time"},
    )  # fmt: skip
    assert trace.cycles[0].operations == ("late", "back", "fast")
    assert trace.tensor("fast.out").tolist() == [[0]]
    assert trace.tensor("late.out").tolist() == [[1]]
    assert trace.tensor("back.out")[:, 0, 0].tolist() == [0, 7, 0, 0, 0]
    assert [check.mismatches for check in check_trace(trace)] == [0] * 4


def test_a_delay_of_itself_is_silent():
    trace = settled(
        [
            Operation("in", "linear", ("x",), "in.out", weight=np.ones((2, 2), np.int8)),
            Operation("alone", "delay", ("alone.out",), "alone.out", steps=2),
        ],
        {"x": np.ones((1, 2), np.uint8)}, {"alone.out": (2,)}, 4,
    )  # fmt: skip
    assert not trace.tensor("alone.out").any()
    assert trace.cycles == (room.Cycle(("alone",), 2),)


def test_a_recurrent_network_runs_on_other_images(tmp_path):
    save_trace(recurrent(), tmp_path / "a.npz")
    trace = load_trace(tmp_path / "a.npz")
    assert trace.pixels == "pixels"
    for name, values in run_images(trace, trace.tensor("pixels")).items():
        np.testing.assert_array_equal(values, trace.operand(name))
    np.testing.assert_array_equal(
        predict(trace, trace.tensor("pixels"), batch=1), trace.tensor("logits").sum(0).argmax(1)
    )
    assert [cycle.operations for cycle in trace.cycles] == [("late", "again", "hidden")]
    assert trace.select(layers=["late", "read_out"]).cycles == ()
    assert tiny().cycles == ()


def test_fewer_timesteps_are_what_all_begin_with():
    trace = recurrent(timesteps=7)
    short = trace.select(timesteps=3)
    assert [check.mismatches for check in check_trace(short)] == [0] * 6
    np.testing.assert_array_equal(short.tensor("hidden.out"), trace.tensor("hidden.out")[:3])


def broken(**changes):
    trace = recurrent()
    operations = [changes.get(operation.name, operation) for operation in trace]
    tensors = {name: trace.tensor(name) for name in trace.tensors}
    with pytest.raises(TraceError) as caught:
        Trace(network="n", timesteps=trace.timesteps, operations=operations, tensors=tensors, provenance=LABELS)
    return str(caught.value)


def test_cycles_without_a_delay():
    """They are told with the names on them; what only stands in the wrong order is not a cycle."""
    again = Operation("again", "linear", ("hidden.out",), "again.out", weight=np.ones((5, 5), np.int8))
    assert (
        "operations[2].inputs[0]: tensor 'hidden.out' is not defined yet: 'hidden' writes it later, and there is no "
        "delay on the cycle again -> hidden -> again"
    ) in broken(again=again)
    early = Operation("late", "linear", ("input.out",), "late.out", weight=np.ones((5, 5), np.int8))
    text = broken(late=early)
    assert "operations[0].inputs[0]: tensor 'input.out' is not defined yet: 'input' writes it later" in text
    assert "cycle" not in text


def test_neurons_on_cycles_are_not_masked():
    neuron = Neuron("lif", np.full(5, 60), 1, 6, mask_fire_once=True)
    hidden = Operation("hidden", "add", ("input.out", "again.out"), "hidden.out", neuron=neuron)
    assert "operations[3].neuron.mask_fire_once: the neurons are on a cycle" in broken(hidden=hidden)
