"""The neurons of the machines against scalar loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.hardware.compute.lif import count_overflows, fire, leaks, rule_of
from archsim.trace import Neuron
from tests.twins import neurons as twin


@settings(max_examples=200, deadline=None)
@given(
    currents=st.lists(st.integers(-60, 60), min_size=1, max_size=16), threshold=st.integers(1, 60),
    bias=st.integers(-5, 5), leak_shift=st.integers(0, 8), fraction_bits=st.integers(0, 20),
    reset=st.sampled_from(["hard", "soft", "soft_before_leak", "soft_after_leak"]),
    masked=st.booleans(), subtracts=st.booleans(), at_threshold=st.booleans(),
)  # fmt: skip
def test_any_neuron(currents, threshold, bias, leak_shift, fraction_bits, reset, masked, subtracts, at_threshold):
    """Small currents, so that potentials meet thresholds exactly."""
    neuron = Neuron("lif", np.array([threshold]), leak_shift, fraction_bits, reset, masked, subtracts, at_threshold)
    words = np.zeros((1, 1), np.uint16)
    fire(
        np.array(currents, np.int64).reshape(1, 1, -1), np.array([bias]), neuron.threshold, rule_of(neuron), masked,
        words,
    )  # fmt: skip
    spikes = [bool(words[0, 0] >> t & 1) for t in range(len(currents))]
    expected, _ = twin.run(neuron, [current + bias for current in currents], (0,))
    assert spikes == twin.masked(neuron, expected)


@settings(max_examples=200, deadline=None)
@given(
    currents=st.lists(st.integers(-60, 60), min_size=1, max_size=16), threshold=st.integers(1, 60),
    bias=st.integers(-5, 5), leak_shift=st.integers(0, 3), fraction_bits=st.integers(0, 4),
    reset=st.sampled_from(["hard", "soft", "soft_before_leak", "soft_after_leak"]), subtracts=st.booleans(),
    bits=st.integers(2, 10),
)  # fmt: skip
def test_potentials_that_do_not_fit(currents, threshold, bias, leak_shift, fraction_bits, reset, subtracts, bits):
    """Timesteps in which a potential of that neuron, before or behind firing, is out of range: by a scalar loop."""
    neuron = Neuron("lif", np.array([threshold]), leak_shift, fraction_bits, reset, False, subtracts)
    expected, potential, high = 0, 0, threshold << fraction_bits
    for current in currents:
        before = potential + ((current + bias) << fraction_bits)
        fired = before > high
        potential = before - high if fired and reset in ("soft", "soft_before_leak") else before
        if not (fired and reset == "soft"):
            potential = potential - (potential >> leak_shift) if subtracts else potential >> leak_shift
        if fired and reset == "soft_after_leak":
            potential -= high
        if fired and reset == "hard":
            potential = 0
        expected += any(not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1) for value in (before, potential))
    sums = np.array(currents, np.int64).reshape(1, 1, -1)
    assert count_overflows(sums, np.array([bias]), neuron.threshold, rule_of(neuron), bits) == expected


def test_a_reset_does_not_hide_the_potential_that_it_clears():
    """X = 8 does not fit four bits though a hard reset leaves 0; 7 does; -8 does and -9 does not."""
    neuron = Neuron("lif", np.array([5]), 0, 0, "hard")
    for current, expected in ((8, 1), (7, 0), (-8, 0), (-9, 1)):
        sums = np.array([[[current]]], np.int64)
        assert count_overflows(sums, np.array([0]), neuron.threshold, rule_of(neuron), 4) == expected


def test_which_neurons_leak():
    shifts = {(0, False): False, (0, True): True, (1, False): True, (4, True): True}
    for (shift, subtracts), expected in shifts.items():
        neuron = Neuron("lif", np.array([5]), shift, 0, "hard", leak_subtracts=subtracts)
        assert leaks(rule_of(neuron)) == expected
