"""The neurons of the machines against scalar loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.hardware.compute.lif import (
    count_overflows,
    fire,
    fire_rows,
    is_ruled,
    leaks,
    mask,
    neurons_of,
    rule_of,
    start_state,
)
from archsim.trace import Neuron
from archsim.trace import neurons as numpy_neurons
from tests import random_neurons
from tests.twins import neurons as twin


@settings(max_examples=200, deadline=None)
@given(
    currents=st.lists(st.integers(-60, 60), min_size=1, max_size=16), threshold=st.integers(1, 60),
    bias=st.integers(-5, 5), leak_shift=st.integers(0, 8), fraction_bits=st.integers(0, 20),
    reset=st.sampled_from(["hard", "soft", "soft_before_leak", "soft_after_leak"]),
    subtracts=st.booleans(), at_threshold=st.booleans(),
)  # fmt: skip
def test_neurons_with_a_rule_alone(
    currents, threshold, bias, leak_shift, fraction_bits, reset, subtracts, at_threshold
):
    """Small currents, so that potentials meet thresholds exactly."""
    neuron = Neuron("lif", np.array([threshold]), leak_shift, fraction_bits, reset, False, subtracts, at_threshold)
    assert is_ruled(neuron)
    words, potentials = np.zeros((1, 1), np.uint16), np.zeros((1, 1), np.int64)
    fire(
        np.array(currents, np.int64).reshape(1, 1, -1), np.array([bias]), neuron.threshold << fraction_bits,
        rule_of(neuron), potentials, words,
    )  # fmt: skip
    spikes = [bool(words[0, 0] >> t & 1) for t in range(len(currents))]
    expected, state = twin.run(neuron, [current + bias for current in currents], (0,))
    assert spikes == expected
    assert potentials[0, 0] == state["u"]


def by_rows(values):
    """[T, I, N, H, W] as [M, N, T], rows in the order of images and positions."""
    return np.ascontiguousarray(values.transpose(1, 3, 4, 2, 0).reshape(-1, values.shape[2], len(values)))


@settings(max_examples=300, deadline=None)
@given(neuron=random_neurons.neurons(), currents=random_neurons.currents(), data=st.data())
def test_any_neuron(neuron, currents, data):
    """Outputs and states are those of numpy, in two windows of timesteps, block of rows by block of rows."""
    bias = np.array(data.draw(st.lists(st.integers(-5, 5), min_size=2, max_size=2)), np.int64)
    expected, behind = numpy_neurons.run(neuron, currents)
    sums, m = by_rows(currents - bias[:, None, None]), 2 * 2
    cut, split = data.draw(st.integers(0, len(currents))), data.draw(st.integers(0, m))
    unit, state = neurons_of(neuron), start_state(neuron, m, 2)
    values = np.zeros_like(sums)
    words = np.zeros((2, m, 2), np.uint16)
    packs = neuron.fires == "spike" and data.draw(st.booleans())
    for window, (begin, end) in enumerate(((0, cut), (cut, len(currents)))):
        for first, last in ((0, split), (split, m)):
            part, rows = np.ascontiguousarray(sums[first:last, :, begin:end]), state.rows(first, last - first)
            if packs:
                fire_rows(unit, part, bias, first, rows, words[window, first:last])
                part = words[window, first:last, :, None] >> np.arange(end - begin) & 1
            else:
                fire_rows(unit, part, bias, first, rows, part)
            values[first:last, :, begin:end] = part
    np.testing.assert_array_equal(values, by_rows(expected))
    names = (*numpy_neurons.state_fields(neuron), *("time",) * (neuron.activation is not None))
    for name, array in state._asdict().items():
        wanted = by_rows(behind[name][None])[:, :, 0] if name in names else np.zeros((0, 0))
        np.testing.assert_array_equal(array, wanted, err_msg=name)


def test_many_timesteps_and_wide_values():
    """1,024 timesteps in windows of 16, with 30 bits of multiplier, against numpy."""
    rng = np.random.default_rng(0)
    neuron = Neuron(
        "lif", rng.integers(2**19, 2**20, 3) << 10, 30, 10, "soft_before_leak", threshold_in_fractions=True,
        leak_multiplier=rng.integers(0, 2**30 + 1, 3), current_shift=20, current_multiplier=np.full(3, 900_000),
        adaptation_shift=10, adaptation_multiplier=np.full(3, 1_000), adaptation=np.full(3, 2**18), refractory=3,
        fires="integer", most=5,
    )  # fmt: skip
    currents = rng.integers(-(2**18), 2**19, (1024, 1, 3, 2, 2))
    expected, behind = numpy_neurons.run(neuron, currents)
    assert len(np.unique(expected)) == 4
    sums, unit, state = by_rows(currents), neurons_of(neuron), start_state(neuron, 4, 3)
    for begin in range(0, 1024, 16):
        window = np.ascontiguousarray(sums[:, :, begin : begin + 16])
        fire_rows(unit, window, np.zeros(3, np.int64), 0, state, window)
        np.testing.assert_array_equal(window, by_rows(expected[begin : begin + 16]))
    np.testing.assert_array_equal(state.potential, by_rows(behind["potential"][None])[:, :, 0])


@settings(max_examples=300, deadline=None)
@given(
    neuron=st.one_of(random_neurons.neurons(), random_neurons.plain_neurons()), currents=random_neurons.currents(),
    bits=st.integers(2, 12), data=st.data(),
)  # fmt: skip
def test_potentials_that_do_not_fit(neuron, currents, bits, data):
    """Timesteps in which a potential, before or behind firing, is out of range, by numpy; those of a second window of
    rows from the second image on. The state stays what it was."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    cut = data.draw(st.integers(0, len(currents)))
    _, between = numpy_neurons.run(neuron, currents[:cut])
    expected, behind = 0, between
    for current in currents[cut:]:
        total, _, behind = numpy_neurons.step(neuron, current, behind)
        values = np.stack([total, behind["potential"]])[:, 1]
        expected += int(((values < low) | (values > high)).any(0).sum())
    unit, bias = neurons_of(neuron), np.zeros(2, np.int64)
    state = start_state(neuron, 2, 2, first=2)
    sums = by_rows(currents)[2:]
    window = np.ascontiguousarray(sums[:, :, :cut])
    fire_rows(unit, window, bias, 2, state, window)
    before = state.copy()
    assert count_overflows(unit, np.ascontiguousarray(sums[:, :, cut:]), bias, 2, state, bits) == expected
    assert all((one == other).all() for one, other in zip(state, before, strict=True))


def test_a_reset_does_not_hide_the_potential_that_it_clears():
    """X = 8 does not fit four bits though a hard reset leaves 0; 7 does; -8 does and -9 does not."""
    for more in ({}, {"refractory": 1}):
        neuron = Neuron("lif", np.array([5]), 0, 0, "hard", **more)
        for current, expected in ((8, 1), (7, 0), (-8, 0), (-9, 1)):
            sums, state = np.array([[[current]]], np.int64), start_state(neuron, 1, 1)
            assert count_overflows(neurons_of(neuron), sums, np.array([0]), 0, state, 4) == expected


def test_neurons_that_fire_once_are_silenced():
    words = np.array([[0, 1, 0b1000], [0b11, 0b1010, 1 << 15]], np.uint16)
    mask(words)
    assert words.tolist() == [[0, 0, 0], [0b11, 0b1010, 0]]


def test_which_neurons_leak():
    shifts = {(0, False): False, (0, True): True, (1, False): True, (4, True): True}
    for (shift, subtracts), expected in shifts.items():
        neuron = Neuron("lif", np.array([5]), shift, 0, "hard", leak_subtracts=subtracts)
        assert leaks(rule_of(neuron)) == expected
