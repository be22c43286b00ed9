"""The neurons of the machines against scalar loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.hardware.compute.lif import fire, rule_of
from archsim.trace import Neuron
from tests.twins import trace as twin


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
    assert spikes == twin.neuron(neuron, [current + bias for current in currents], 0)
