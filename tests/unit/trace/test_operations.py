"""Every operation with any geometry against scalar loops: its values, its shapes, its work, its densities, its file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from archsim.trace import Operation, Trace, check_trace, load_trace, resimulate, save_trace
from archsim.trace import content as room
from archsim.trace.density import statistics
from archsim.trace.resimulation import compute
from archsim.trace.work import work_of
from tests import random_operations
from tests.small_traces import LABELS
from tests.twins import trace as twin
from tests.twins import work as work_twin

FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def traced(case, **more):
    """A trace of the one operation, with the output of the twin where it is stored."""
    operation, tensors, kinds, timesteps = case
    channels = _alone(operation, tensors, kinds, timesteps).operations[0].output_shape[0]
    return _alone(random_operations.ended(operation, channels), tensors, kinds, timesteps, **more)


def _alone(operation, tensors, kinds, timesteps, output=None, kind=None):
    if operation.requantiser is True or np.ndim(getattr(operation.neuron, "threshold", [0])) == 0:
        operation = replace(operation, requantiser=None, neuron=None)
    if output is not None:
        tensors, kinds = tensors | {"out": output}, kinds | ({"out": kind} if kind else {})
    return Trace(
        network="one", timesteps=timesteps, operations=[operation], tensors=tensors, kinds=kinds, provenance=LABELS
    )


def shown(trace, operation):
    """The operands with an axis of time."""
    for name, shape in zip(operation.inputs, operation.input_shapes, strict=True):
        values = trace.operand(name)
        yield values if values.ndim == 2 + len(shape) else np.stack([values] * trace.timesteps)


@pytest.mark.parametrize("op", random_operations.OPS)
def test_any_operation(op, tmp_path):
    path = tmp_path / "one.npz"

    @FAST
    @given(case=random_operations.cases(ops=[op]))
    def check(case):
        trace = traced(case)
        (operation,) = trace.operations
        expected = twin.run(operation, list(shown(trace, operation)), trace.timesteps)
        output, _ = resimulate(trace, operation)
        assert output.shape == expected.shape
        assert (output == expected).all()

        # Stored as what it is, it comes back from a file and is found right, and a wrong value is found.
        stored, kind = as_stored(trace, operation, expected)
        whole = traced(case, output=stored, kind=kind)
        save_trace(whole, path)
        loaded = load_trace(path)
        assert loaded.sha256 == whole.sha256
        assert [(found.mismatches, found.outputs) for found in check_trace(loaded)] == [(0, stored.size)]
        spoilt = traced(case, output=_with_a_fault(stored, kind, trace.timesteps), kind=kind)
        assert [found.mismatches for found in check_trace(spoilt)] == [1]

    check()


def _with_a_fault(output, kind, timesteps):
    """The output with its last value another that it might have had."""
    wrong = output.copy()
    last = wrong.flat[-1]
    others = {"spike_time": twin.never(timesteps) if last == 0 else 0, "signed_spike": (int(last) + 2) % 3 - 1}
    wrong.flat[-1] = others.get(kind, not last if output.dtype == np.bool_ else int(last) + 1)
    return wrong


def test_a_maximum_of_spike_times_fires_with_each_of_its_inputs_unless_it_rests():
    """Of one that is no tensor of spike times, nothing says that it fires once; drawn cases seldom show it."""
    operation = Operation("op", "pool", ("in",), "out", kernel=(1, 2), stride=(1, 1), reduction="max")
    case = operation, {"in": np.array([[[[255, 1, 1, 0]]]], np.uint8)}, {"in": "spike_time"}, 2
    each, _ = resimulate(traced(case), traced(case).operations[0])
    assert each.astype(int)[:, 0, 0, 0].tolist() == [[0, 0, 1], [1, 1, 1]]
    rests = traced(case, output=np.array([[[[1, 1, 0]]]], np.uint8), kind="spike_time")
    assert [found.mismatches for found in check_trace(rests)] == [0]


def as_stored(trace, operation, output):
    """The output as a trace holds it, and its kind: spikes, times where times are moved, or integers."""
    kinds = {trace.kind(name) for name in operation.inputs}
    if operation.neuron is not None:
        return output.astype(bool), None
    moves = operation.op in ("concat", "slice", "upsample", "rearrange", "delay") or (
        operation.op == "pool" and operation.reduction == "max"
    )
    spiking = operation.op == "multiply" and operation.requantiser is None and "int" not in kinds
    if moves and kinds == {"spike_time"}:
        return twin.first_spike_times(output.astype(bool)), "spike_time"
    if (moves or spiking) and kinds == {"spike"}:
        return output.astype(bool), None
    if (moves or spiking) and "signed_spike" in kinds:
        return output.astype(np.int8), "signed_spike"
    return output.astype(np.int64), None


@FAST
@given(case=random_operations.cases(ops=["conv2d", "linear", "matmul"]))
def test_any_work(case):
    trace = traced(case)
    (operation,) = trace.operations
    found = work_of(trace, operation)
    assert found.synaptic_operations == work_twin.synaptic_operations(trace, operation)
    assert found.matches == work_twin.matches(trace, operation)


@FAST
@given(case=random_operations.cases(ops=["conv2d", "linear"]))
def test_any_density(case):
    trace = traced(case)
    (operation,) = trace.operations
    (operand,) = shown(trace, operation)
    matrix = twin.im2col(operation, operand)
    (found,) = statistics(trace)
    assert found.words == matrix[0].size
    assert found.active_words == int((matrix != 0).any(0).sum())
    if found.spikes is not None:
        assert found.spikes == int((matrix != 0).sum())
        assert found.fire_once_words == int(((matrix != 0).sum(0) == 1).sum())


@FAST
@given(case=random_operations.cases(timesteps=(2, 9)))
def test_any_window_of_timesteps(case):
    """Some timesteps are decoded as all are, and operations computed in windows give what they give at once."""
    trace = traced(case)
    (operation,) = trace.operations
    rng = np.random.default_rng(0)
    first, end = sorted(rng.choice(trace.timesteps + 1, 2, replace=False).tolist())
    for name in trace.tensors:
        whole, operand = trace.tensor(name), trace.operand(name)
        timed = operand.ndim == 2 + len(trace.meta.tensors[name].shape)
        np.testing.assert_array_equal(trace.operand(name, first, end), operand[first:end] if timed else operand)
        moves = trace.meta.tensors[name].per_timestep
        np.testing.assert_array_equal(trace.tensor(name, first, end), whole[first:end] if moves else whole)
    inputs = [trace.operand(name) for name in operation.inputs]
    at_once, work = compute(operation, inputs, trace.timesteps), work_of(trace, operation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "WINDOW_VALUES", 1)
        np.testing.assert_array_equal(compute(operation, inputs, trace.timesteps), at_once)
        np.testing.assert_array_equal(resimulate(trace, operation)[0], at_once)
        assert work_of(trace, operation) == work
