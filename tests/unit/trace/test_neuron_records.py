"""Neurons in files: they come back as they were, and what does not go together is refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import TraceError
from archsim.trace import Neuron, Operation, check_trace, load_trace, neurons, save_trace
from tests import random_neurons
from tests.small_traces import build

SHAPE = (2, 1, 2)
KINDS = {"signed": "signed_spike", "integer": "int", "nothing": "int"}


def trace_of(neuron, currents):
    """A network of nothing but these neurons, which read ``currents``."""
    operation = Operation("n", "add", ("x",), "y", neuron=neuron)
    kind = KINDS.get(neuron.fires, "spike")
    return build([operation], {"x": currents.astype(np.int16)}, len(currents), {"y": kind})


def small(**rule):
    """A trace of neurons with such a rule, two timesteps of an image."""
    neuron = Neuron(**{"kind": "lif", "threshold": np.array([5, 9]), "leak_shift": 1} | rule)
    return trace_of(neuron, np.arange(8).reshape(2, 1, *SHAPE))


@settings(max_examples=100, deadline=None)
@given(
    neuron=st.one_of(random_neurons.neurons(SHAPE), random_neurons.plain_neurons()),
    currents=random_neurons.currents(SHAPE),
)  # fmt: skip
def test_round_trip(tmp_path_factory, neuron, currents):
    """Every parameter comes back; outputs are verified; a file says that it is of version 2 if it needs to."""
    path = tmp_path_factory.mktemp("neurons") / "a.npz"
    save_trace(trace_of(neuron, currents), path)
    loaded = load_trace(path)
    found = loaded.operations[0].neuron
    per_neuron = any(np.ndim(getattr(neuron, name)) > 1 for name in neurons.ARRAYS)
    for field in dataclasses.fields(Neuron):
        wanted, got = getattr(neuron, field.name), getattr(found, field.name)
        if field.name == "activation":
            np.testing.assert_array_equal(got, wanted)
        elif field.name in neurons.ARRAYS and wanted is not None:
            assert got.shape == (SHAPE if per_neuron else SHAPE[:1])
            assert (got == wanted.reshape(*wanted.shape, *(1,) * (got.ndim - wanted.ndim))).all()
        else:
            assert got == wanted, field.name
    assert [check.mismatches for check in check_trace(loaded)] == [0]
    with np.load(path) as file:
        meta = json.loads(file["meta"].tobytes())
    assert meta["version"] == (2 if neurons.features(neuron) else 1)


def test_one_value_stands_for_all_channels():
    """Of a layer with weights: a number for the thresholds, numbers per channel, and numbers per neuron."""
    weight = np.ones((2, 1, 1, 1), np.int8)
    start = np.array([[[0, 1, 2]], [[3, 4, 5]]])
    neuron = Neuron(
        "lif", np.array(4), 3, leak_multiplier=np.array([7, 5]), reset_value=np.array(-1), start=start
    )  # fmt: skip
    operation = Operation("c", "conv2d", ("x",), "y", weight=weight, neuron=neuron)
    found = build([operation], {"x": np.ones((2, 1, 1, 1, 3), bool)}, 2).operations[0].neuron
    assert found.threshold.tolist() == [[[4] * 3]] * 2
    assert found.leak_multiplier.tolist() == [[[7] * 3], [[5] * 3]]
    assert found.reset_value.tolist() == [[[-1] * 3]] * 2
    assert found.start.tolist() == start.tolist()


def test_wide_units():
    """Thresholds, starts and adaptations in the units of potentials have 64 bits."""
    wide = np.array([1 << 40, 1 << 41])
    found = small(fraction_bits=20, threshold=wide, threshold_in_fractions=True, start=-wide, reset_value=wide // 2)
    assert found.operations[0].neuron.threshold.tolist() == wide.tolist()
    assert found.operations[0].neuron.start.tolist() == (-wide).tolist()


def arrays(value):
    return np.array([value, value])


FOLLOWS = {
    "kind": "if", "leak_shift": 0, "reset": "none", "fires": "signed", "activation": np.array([-3, 3]),
    "activation_multiplier": np.array([1, 1]),
}  # fmt: skip
BAD = {
    "multiplier of IF": (
        {"kind": "if", "leak_shift": 0, "leak_multiplier": arrays(1)}, "leak_multiplier: an IF neuron has no leak"),
    "multiplier that subtracts": (
        {"leak_multiplier": arrays(1), "leak_subtracts": True}, "leak_subtracts: a leak with a multiplier subtracts"),
    "long shift": ({"leak_shift": 9}, "leak_shift: input should be less than or equal to 8, got 9"),
    "longer shift": (
        {"leak_shift": 31, "leak_multiplier": arrays(1)}, "leak_shift: input should be less than or equal to 30"),
    "large multiplier": (
        {"leak_multiplier": np.array([2, 3])}, "'leak_multiplier.n': must be 0 to 2, 2^shift, got 3 for channel 1"),
    "negative multiplier": ({"leak_multiplier": arrays(-1)}, "must be 0 to 2, 2^shift, got -1 for channel 0"),
    "large multiplier of a current": (
        {"current_shift": 3, "current_multiplier": arrays(9)}, "current_multiplier.n': must be 0 to 8, 2^shift, got 9"),
    "a current without a multiplier": ({"current_shift": 3}, "array 'current_multiplier.n' is missing"),
    "a multiplier without a current": ({"current_multiplier": arrays(1)}, "array 'current_multiplier.n' has no use"),
    "late without a current": ({"current_is_late": True}, "current_is_late: there is no synaptic current"),
    "resets no current": ({"resets_current": True}, "resets_current: there is no synaptic current"),
    "adaptation below zero": (
        {"adaptation_shift": 1, "adaptation_multiplier": arrays(1), "adaptation": np.array([0, -3])},
        "array 'adaptation.n': must be at least zero, got -3 for channel 1"),
    "reset value of a soft reset": (
        {"reset": "soft", "reset_value": arrays(1)}, "reset_value: a reset is to a value if it is hard, got 'soft'"),
    "threshold of zero": (
        {"threshold": np.array([[[1, 1]], [[1, 0]]])}, "must be above zero, got 0 for the neuron [1, 0, 1]"),
    "no threshold": ({"threshold": None}, "array 'threshold.n' is missing"),
    "a threshold of nothing": ({"fires": "nothing"}, "array 'threshold.n' has no use"),
    "parameters of other shapes": (
        {"start": np.zeros((2, 2, 1), np.int64)}, "array 'start.n': got int64 [2, 2, 1]; allowed: int64 [2, 1, 2]"),
    "unknown output": ({"fires": "signs"}, "neuron.fires: got 'signs'; allowed: 'spike', 'signed', 'integer'"),
    "integers without a limit": ({"fires": "integer"}, "most: the most spikes of a timestep, got 0; allowed: 1 to"),
    "a limit without integers": ({"most": 3}, "most: the most spikes of a timestep, got 3; allowed: 0, or fires"),
    "too many spikes": ({"fires": "integer", "most": 40_000}, "most: input should be less than or equal to 32767"),
    "rounding without integers": (
        {"rounding": "down"}, "rounding: only integers and activations are rounded, got 'down'"),
    "unknown rounding": ({"rounding": "up"}, "rounding: got 'up'; allowed: 'nearest' or 'down'"),
    "integers at the threshold": (
        {"fires": "integer", "most": 3, "fires_at_threshold": True}, "fires_at_threshold: integers are rounded"),
    "masked signs": ({"fires": "signed", "mask_fire_once": True}, "mask_fire_once: only spikes are masked"),
    "nothing that rests": (
        {"fires": "nothing", "threshold": None, "refractory": 2},
        "refractory: has no use for a neuron that fires nothing, got 2"),
    "nothing that adapts": (
        {"fires": "nothing", "threshold": None, "adaptation_shift": 1, "adaptation": arrays(1),
         "adaptation_multiplier": arrays(1)}, "adaptation_shift: has no use for a neuron that fires nothing, got 1"),
    "an activation of three entries": (
        FOLLOWS | {"activation": np.arange(3)}, "array 'activation.n': got int32 [3]; allowed: int32 [4]"),
    "an activation that leaks": (
        FOLLOWS | {"kind": "lif", "leak_shift": 1}, "kind: neurons with an activation have one only, got 'lif'"),
    "an activation that resets": (
        FOLLOWS | {"reset": "soft"}, "reset: neurons with an activation have one only, got 'soft'; allowed: 'none'"),
    "an activation of fractions": (
        FOLLOWS | {"fraction_bits": 2}, "fraction_bits: has no use for a neuron with an activation, got 2"),
    "an activation that rests": (
        FOLLOWS | {"refractory": 2}, "refractory: has no use for a neuron with an activation, got 2"),
    "a multiplier of nothing": (
        FOLLOWS | {"activation_multiplier": np.array([1, 0])}, "must be above zero, got 0 for channel 1"),
    "a multiplier without an activation": (
        {"activation_multiplier": arrays(1)}, "array 'activation_multiplier.n' has no use"),
    "a shift without an activation": ({"activation_shift": 3}, "activation_shift: there is no activation, got 3"),
    "an activation without a multiplier": (
        FOLLOWS | {"activation_multiplier": None}, "array 'activation_multiplier.n' is missing"),
    "a long rest": ({"refractory": 1024}, "refractory: input should be less than or equal to 1023"),
    "potentials beyond 64 bits": (
        {"leak_shift": 30, "fraction_bits": 30, "leak_multiplier": arrays(1 << 30)}, "and overflow 64 bits"),
    "adaptations beyond 64 bits": (
        {"adaptation_shift": 30, "adaptation_multiplier": arrays(1 << 30), "adaptation": arrays(1 << 34)},
        "and overflow 64 bits"),
    "a start beyond 64 bits": (
        {"start": arrays((1 << 63) - 1)}, "and overflow 64 bits"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_what_is_refused(fault):
    rule, message = BAD[fault]
    with pytest.raises(TraceError) as caught:
        small(**rule)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"), [("refractory", 2), ("fires", "signed"), ("reset", "none"), ("threshold_in_fractions", True)]
)
def test_keys_of_version_2_in_a_record_of_version_1(tmp_path, key, value):
    path = tmp_path / "a.npz"
    save_trace(small(), path)
    with np.load(path) as file:
        found = {name: file[name] for name in file.files}
    meta = json.loads(found["meta"].tobytes())
    assert meta["version"] == 1
    meta["operations"][0]["neuron"][key] = value
    found["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    np.savez(path, **found)
    with pytest.raises(TraceError, match=rf"operations\[0\].neuron.{key}: came with version 2"):
        load_trace(path)


@pytest.mark.parametrize(
    ("rule", "kind", "allowed"),
    [
        ({"fires": "signed"}, "int", "'signed_spike', got 'int'"),
        ({"fires": "integer", "most": 3}, "signed_spike", "'int', got 'signed_spike'"),
        ({"fires": "spike"}, "signed_spike", "'spike' or 'spike_time', got 'signed_spike'"),
    ],
)
def test_what_neurons_write(rule, kind, allowed):
    from archsim.trace import Trace

    neuron = Neuron("lif", np.array([5, 9]), 1, **rule)
    tensors = {"x": np.zeros((2, 1, *SHAPE), np.int16), "y": np.zeros((2, 1, *SHAPE), np.int8)}
    with pytest.raises(TraceError, match=f"operation 'n' writes {allowed}"):
        Trace(
            network="a", timesteps=2, operations=[Operation("n", "add", ("x",), "y", neuron=neuron)], tensors=tensors,
            kinds={"y": kind}, provenance={"kind": "synthetic", "weights": "synthetic"},
        )  # fmt: skip


def test_room_for_integers():
    """A tensor of two bits has no room for five spikes, even if none of its values needs more; nor may it stand for
    all timesteps."""
    from archsim.trace import Trace

    neuron = Neuron("lif", np.array([5, 9]), 1, fires="integer", most=5)
    operation = Operation("n", "add", ("x",), "y", neuron=neuron)
    labels = {"kind": "synthetic", "weights": "synthetic"}
    still = np.zeros((1, *SHAPE), np.uint8)
    with pytest.raises(TraceError, match="operation 'n' writes every timestep"):
        Trace(network="a", timesteps=2, operations=[operation], tensors={"x": still, "y": still}, provenance=labels)
    moving = np.zeros((2, 1, *SHAPE), np.uint8)
    with pytest.raises(TraceError, match="operation 'n' writes 0 to 5, got room for 0 to 3"):
        Trace(
            network="a", timesteps=2, operations=[operation], tensors={"x": still, "y": moving}, provenance=labels,
            bits={"y": 2},
        )  # fmt: skip
