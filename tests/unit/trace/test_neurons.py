"""Neurons against scalar loops over Python integers, by hand, and in windows of timesteps."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.trace import Neuron, neurons
from tests import random_neurons
from tests.twins import neurons as twin

TWIN_NAMES = {"potential": "u", "current": "i", "adaptation": "b", "rest": "rests", "spikes": "c", "time": "t"}


def expected(neuron, currents):
    """Outputs of the twin and its states [I, ...] by name."""
    outputs, states = np.zeros(currents.shape, np.int64), {}
    for place in np.ndindex(*currents.shape[1:]):
        own = [int(value) for value in currents[(slice(None), *place)]]
        outputs[(slice(None), *place)], state = twin.run(neuron, own, place[1:])
        for name in neurons.start_state(neuron, currents.shape[1:]):
            array = states.setdefault(name, np.zeros(currents.shape[1:], np.int64))
            array[place] = state[TWIN_NAMES[name]]
    return outputs, states


def assert_states(got, wanted):
    assert got.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(got[name], values, err_msg=name)


@settings(max_examples=400, deadline=None)
@given(neuron=random_neurons.neurons(), currents=random_neurons.currents(), data=st.data())
def test_any_neuron(neuron, currents, data):
    """Outputs and states are the twin's, in any two windows of timesteps as in one, and within the bounds."""
    outputs, states = expected(neuron, currents)
    got, state = neurons.run(neuron, currents)
    np.testing.assert_array_equal(got, outputs)
    assert_states(state, states)

    cut = data.draw(st.integers(0, len(currents)))
    first, between = neurons.run(neuron, currents[:cut])
    second, state = neurons.run(neuron, currents[cut:], between)
    np.testing.assert_array_equal(np.concatenate([first, second]), outputs)
    assert_states(state, states)

    bounds = neurons.bounds(neuron, neurons.largest_of(neuron), int(np.abs(currents).max()), len(currents))
    assert tuple(bounds.state) == neurons.state_fields(neuron)
    assert all(np.abs(states[name]).max() <= bound <= bounds.largest for name, bound in bounds.state.items())
    totals = [np.abs(total).max() for total, _ in neurons.potentials(neuron, currents)]
    assert max(totals) <= bounds.state["potential"]

    masked = neurons.fire(neuron, currents)
    for place in np.ndindex(*currents.shape[1:]):
        column = (slice(None), *place)
        assert masked[column].tolist() == twin.masked(neuron, outputs[column].tolist())


def test_the_random_neurons_have_everything():
    """Each feature is there in many examples, and so is each kind of output."""
    seen = Counter()

    @settings(max_examples=400, deadline=None, database=None, derandomize=True)
    @given(neuron=random_neurons.neurons(), currents=random_neurons.currents(timesteps=(12, 12)))
    def look(neuron, currents):
        outputs, _ = neurons.run(neuron, currents)
        seen.update((*neurons.features(neuron), neuron.reset, f"{neuron.fires} {outputs.any()}"))

    look()
    features = [
        "a leak with a multiplier", "a synaptic current", "an adaptive threshold", "a threshold in fractions",
        "a reset to a value", "no reset", "a start potential", "a refractory time", "signed spikes", "integer spikes",
        "potentials instead of spikes", "an activation", "parameters of each neuron", *random_neurons.RESETS,
        "spike True", "signed True", "integer True", "nothing True",
    ]  # fmt: skip
    assert {name: seen[name] for name in features if seen[name] < 10} == {}


def one(neuron, currents):
    """Outputs of a single neuron."""
    return neurons.fire(neuron, np.array(currents).reshape(-1, 1, 1)).ravel().tolist()


def of(value):
    return np.array([value], np.int64)


def test_a_leak_with_a_multiplier_by_hand():
    """Nine tenths as 115 / 128 of X with f = 0. 100 -> 11500 >> 7 = 89 -> 89 115 >> 7 = 79; -1 -> -115 >> 7 = -1."""
    reader = Neuron("lif", None, 7, leak_multiplier=of(115), fires="nothing")
    assert one(reader, [100, 0, 0, -80, 0]) == [100, 89, 79, -10, -9]
    assert one(reader, [-1, 0, 0]) == [-1, -1, -1]


def test_a_synaptic_current_by_hand():
    """Half of the current stays, all of the potential. I = 8, 4, 2; early X = 8, 12, 14; late X = 0, 8, 12."""
    rule = {"current_shift": 1, "current_multiplier": of(1), "fires": "nothing"}
    assert one(Neuron("if", None, **rule), [8, 0, 0]) == [8, 12, 14]
    assert one(Neuron("if", None, **rule, current_is_late=True), [8, 0, 0]) == [0, 8, 12]


def test_an_adaptive_threshold_by_hand():
    """h = 4, a = 8, half of b stays, hard reset, x = 9 always.

    t0: 9 > 4, b = 8. t1: 9 > 4 + 8 is false, u = 9; b = 4. t2: X = 18 > 4 + 4, b = 2 + 8 = 10. t3: 9 > 14 is false;
    b = 5. t4: 18 > 9.
    """
    neuron = Neuron("if", of(4), adaptation_shift=1, adaptation_multiplier=of(1), adaptation=of(8))
    assert one(neuron, [9] * 5) == [True, False, True, False, True]


def test_a_refractory_time_by_hand():
    """h = 4, x = 3: a spike every second timestep; with two timesteps of rest at t1, t5. r = -3 then waits one more.

    Without a value: t0 u = 3, t1 X = 6 fires, t2 and t3 rest at 0, t4 u = 3, t5 fires.
    To -3: t1 fires, t2 and t3 rest at -3, t4 X = 0, t5 X = 3, t6 X = 6 fires.
    """
    fired = {r: one(Neuron("if", of(4), refractory=2, reset_value=of(r)), [3] * 8) for r in (0, -3)}
    assert [t for t in range(8) if fired[0][t]] == [1, 5]
    assert [t for t in range(8) if fired[-3][t]] == [1, 6]


def test_a_current_goes_on_while_a_neuron_rests():
    """All of the current stays. x = 5 at t0 only, h = 4, r = 1. I = 5 throughout: spikes at t0, t2, t4.

    With ``resets_current`` the first spike empties it, and an input at t1 is lost; one at t2 fires.
    """
    rule = {"refractory": 1, "current_shift": 0, "current_multiplier": of(1)}
    assert one(Neuron("if", of(4), **rule), [5, 0, 0, 0, 0]) == [True, False, True, False, True]
    emptied = Neuron("if", of(4), **rule, resets_current=True)
    assert one(emptied, [5, 0, 0, 0, 0]) == [True, False, False, False, False]
    assert one(emptied, [5, 5, 0, 0, 0]) == [True, False, False, False, False]
    assert one(emptied, [5, 0, 5, 0, 0]) == [True, False, True, False, False]


def test_signs_by_hand():
    """h = 4: 4 and -4 meet the threshold. Soft: 6 leaves 2, then -7 + 2 = -5 fires and leaves -1."""
    assert one(Neuron("if", of(4), fires="signed"), [4]) == [0]
    assert one(Neuron("if", of(4), fires="signed"), [-4]) == [0]
    assert one(Neuron("if", of(4), fires="signed", fires_at_threshold=True), [4, -4]) == [1, -1]
    assert one(Neuron("if", of(4), 0, 0, "soft", fires="signed"), [6, -7, -3]) == [1, -1, 0]
    assert one(Neuron("if", of(4), 0, 0, "soft", fires="signed"), [6, -7, -4]) == [1, -1, -1]


def test_integers_by_hand():
    """h = 4, at most 3. Halves go to the even integer: 2 / 4 to 0, 6 / 4 to 2, 10 / 4 to 2, 14 / 4 to 4, clipped."""
    rule = {"reset": "none", "fires": "integer", "most": 3}

    def fired(total, **more):
        return one(Neuron("if", of(4), **rule, **more), [total])[0]

    assert [fired(total) for total in (-9, 1, 2, 3, 5, 6, 7, 9, 10, 11, 14, 99)] == [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3]
    assert [fired(total, rounding="down") for total in (-9, 3, 4, 7, 8, 99)] == [0, 0, 1, 1, 2, 3]
    soft = Neuron("if", of(4), **rule | {"reset": "soft"})
    # 7 fires 2 and leaves -1; 7 - 1 = 6 fires 2 and leaves -2.
    assert one(soft, [7, 7, 0]) == [2, 2, 0]


def test_activations_by_hand():
    """The table doubles: a[i] = 2 i, a spike is worth 4, indices from -4 to 3. Means 3, 2, 1 and then -3/4, rounded
    down to -1, ask for 6/4, 8/4, 6/4 and -8/4 spikes."""
    rule = {"reset": "none", "fires": "signed", "activation": 2 * np.arange(-4, 4), "activation_multiplier": of(1)}
    currents = [3, 1, -1, -6, -50]
    assert one(Neuron("if", of(4), **rule), currents) == [1, 1, 0, -1, -1]
    assert one(Neuron("if", of(4), **rule, rounding="down"), currents) == [1, 1, -1, -1, -1]
    # An eighth of a spike more is no half; two eighths make 8/4 of 6/4, which was rounded to that already.
    assert one(Neuron("if", of(4), **rule, rounding="down", start=of(2)), currents) == [1, 1, 0, -1, -1]
    # Half of the mean: 3/2, 2/2, 1/2 and down to 1, 1, 0.
    assert one(Neuron("if", of(4), **rule, activation_shift=1), currents[:3]) == [0, 1, -1]


def test_start_and_reset_values_by_hand():
    """f = 2: potentials in quarters. Start at 3 / 4 and 1 < 7 / 4; 4 + 3 > 6 with a threshold of 6 quarters."""
    neuron = Neuron("if", of(6), 0, 2, threshold_in_fractions=True, start=of(3))
    assert one(neuron, [1, 1]) == [True, False]
    assert one(dataclasses.replace(neuron, start=None), [1, 1]) == [False, True]
    # A reset to a quarter below the threshold fires at every current from then on.
    assert one(dataclasses.replace(neuron, reset_value=of(5)), [1, 1, 1]) == [True] * 3


def test_parameters_of_each_neuron():
    """Thresholds [N, H, W] differ within a channel."""
    thresholds = np.array([[[1, 5]], [[9, 2]]])
    neuron = Neuron("if", thresholds)
    assert neurons.fire(neuron, np.full((1, 1, 2, 1, 2), 4))[0, 0].tolist() == [[[True, False]], [[False, True]]]


@pytest.mark.parametrize("timesteps", [1, 1024])
def test_a_leak_bounds_a_potential(timesteps):
    """0.9 of a current of 10 stays at below 100, whatever T is; without a multiplier the bound grows with T."""
    reader = Neuron("lif", None, 10, leak_multiplier=of(922), fires="nothing")
    found = neurons.bounds(reader, neurons.largest_of(reader), 10, timesteps)
    assert found.state == {"potential": 11 if timesteps == 1 else 111}
    assert found.largest == 922 * found.state["potential"]
    currents = np.full((timesteps, 1, 1), 10)
    assert max(one(reader, currents)) <= found.state["potential"]
    plain = Neuron("if", None, fires="nothing")
    assert neurons.bounds(plain, {}, 10, timesteps).state == {"potential": 10 * timesteps}


def test_a_reset_behind_the_leak_may_leave_a_large_debt():
    """Nothing stays of X, and 100 spikes take away 100: u = -100, then X = -200, twice what the currents bring."""
    rule = {"leak_multiplier": of(0), "fires": "integer", "most": 1000}
    neuron = Neuron("lif", of(1), 4, 0, "soft_after_leak", **rule)
    totals = [int(total.ravel()[0]) for total, _ in neurons.potentials(neuron, np.array([100, -100]).reshape(2, 1, 1))]
    assert totals == [100, -200]
    assert neurons.bounds(neuron, neurons.largest_of(neuron), 100, 2).state["potential"] >= 200


def test_a_soft_reset_avoids_the_leak():
    """Nothing would stay of X, but a spike takes away h = 1 alone: X = 100, 199, 298."""
    neuron = Neuron("lif", of(1), 4, 0, "soft", leak_multiplier=of(0))
    currents = np.full((3, 1, 1), 100)
    totals = [int(total.ravel()[0]) for total, _ in neurons.potentials(neuron, currents)]
    assert totals == [100, 199, 298]
    assert neurons.bounds(neuron, neurons.largest_of(neuron), 100, 3).state["potential"] >= 298


def test_bits_of_a_state():
    """A potential of at most 110 and its sign, a current of at most 10 with one, two timesteps of rest without."""
    assert neurons.Bounds({"potential": 110, "current": 10, "rest": 2}, 0).bits() == 8 + 5 + 2
