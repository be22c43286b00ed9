"""Neurons that read integers without weights fire as in floating point, whatever their thresholds are."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.export.network import Network, Node, SpikingNeuron, run
from archsim.export.quantisation import export
from archsim.trace import check_trace

LABELS = {"kind": "trained", "weights": "trained"}
RESETS = ("hard", "soft_before_leak", "soft_after_leak")


def histories(levels, timesteps, channels):
    """Every sequence of ``levels`` in every channel: [T, I, C]."""
    every = np.array(list(itertools.product(levels, repeat=timesteps)), np.float64)
    return np.repeat(every.T[:, :, np.newaxis], channels, axis=2)


def exported(inputs, neuron, *between, timesteps=None):
    """``neuron`` behind the nodes ``between``, or on the inputs: the export, and the spikes in float64."""
    shape = inputs.shape[2:] if timesteps is None else inputs.shape[1:]
    nodes = {node.name: node for node in (Node("input", "input", (), shape), *between)}
    last = [*nodes.values()][-1]
    nodes["lif"] = Node("lif", "neuron", (last.name,), last.shape, neuron=neuron)
    network = Network(timesteps or len(inputs), inputs, nodes)
    run(network)
    result = export(network, name="n", provenance=LABELS)
    assert {check.mismatches for check in check_trace(result.trace)} == {0}
    return result, network.recorded["lif"] != 0


def assert_equal(result, spikes):
    got = result.trace.tensor("lif")
    assert np.array_equal(got, spikes)
    assert not any("rounded" in note for note in result.notes)


def by_hand(inputs, threshold, decay, reset, fires_at_threshold):
    """The neuron as a loop over Python's floats, apart from the exporter's own."""
    spikes = np.zeros(inputs.shape, bool)
    for place in np.ndindex(inputs.shape[1:]):
        potential = 0.0
        for t in range(len(inputs)):
            total = inputs[(t, *place)] + potential
            fired = total >= threshold if fires_at_threshold else total > threshold
            spikes[(t, *place)] = fired
            potential = decay * total
            if fired and reset == "hard":
                potential = 0.0
            elif fired:
                potential = decay * (total - threshold) if reset == "soft_before_leak" else potential - threshold
    return spikes


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("fires_at_threshold", [False, True])
@pytest.mark.parametrize("decay", [1.0, 0.5, 0.25, 0.75, 0.875])
def test_every_history_of_spikes(reset, fires_at_threshold, decay):
    """Seven timesteps, all 128 inputs, thresholds on and off the potentials that occur, also a hair's breadth off."""
    for threshold in (0.3, 0.5, 1.0, 1.5, 1.75, 1.77, 2.25, np.nextafter(1.0, 2), np.nextafter(1.5, 0), 1.9375, 5.0):
        inputs = histories((0, 1), 7, 1)
        result, spikes = exported(inputs, SpikingNeuron(decay, threshold, reset, fires_at_threshold))
        assert_equal(result, spikes)
        assert np.array_equal(spikes, by_hand(inputs, threshold, decay, reset, fires_at_threshold))


@settings(max_examples=150, deadline=None)
@given(
    timesteps=st.integers(1, 16), shift=st.integers(0, 8), subtracts=st.booleans(), reset=st.sampled_from(RESETS),
    fires_at_threshold=st.booleans(), levels=st.sampled_from([(0, 1), (-1, 0, 1), (0, 1, 2), (0, 3, 4), (0, 1, 200)]),
    eighths=st.lists(st.integers(1, 40), min_size=3, max_size=3), hair=st.sampled_from([0, 1, -1]),
    ends=st.lists(st.floats(0.05, 4.0), min_size=3, max_size=3), dyadic=st.booleans(), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_spikes_are_those_of_floating_point(
    timesteps, shift, subtracts, reset, fires_at_threshold, levels, eighths, hair, ends, dyadic, seed
):
    """Thresholds per channel. float64 holds potentials of l (T - 1) < 45 fraction bits without an error of its own."""
    timesteps = min(timesteps, 44 // max(shift, 1) + 1)
    decay = 1.0 if not shift else 1 - 2.0**-shift if subtracts else 2.0**-shift
    thresholds = np.array(eighths) / 8 if dyadic else np.array(ends)
    if hair and dyadic and reset == "hard":
        thresholds = np.nextafter(thresholds, hair * np.inf)
    generator = np.random.default_rng(seed)
    inputs = generator.choice(levels, (timesteps, 60, 3)).astype(np.float64)
    result, spikes = exported(inputs, SpikingNeuron(decay, thresholds, reset, fires_at_threshold))
    if any("rounded" in note for note in result.notes):
        # Only where there are too many potentials to follow, or no 24 bits tell them apart; then by 2^-19 and less.
        assert (max(levels) - min(levels) + 1) ** timesteps > 2**16 or shift * (timesteps - 1) > 20
        assert reset != "hard" or shift * (timesteps - 1) > 20
        copies = 1 << 18
        stored = result.trace.operations[-1].neuron.threshold / copies
        assert np.abs(stored - thresholds).max() <= 0.5 / copies
        spikes = SpikingNeuron(decay, stored, reset, fires_at_threshold).fire(inputs)
    assert np.array_equal(result.trace.tensor("lif"), spikes)


def test_fewest_copies():
    """Spikes against 0.3 all fire: one copy, ``>= 1``. Against 1.5 with half left, 1 + 1/2 must not fire and the next
    sum, 1 + 1/2 + 1/128, must: two copies, ``> 3``."""
    inputs = histories((0, 1), 8, 1)
    result, _ = exported(inputs, SpikingNeuron(0.5, 0.3))
    (operation,) = result.trace.operations
    assert operation.inputs == ("input",)
    assert (operation.neuron.threshold.tolist(), operation.neuron.fires_at_threshold) == ([1], True)
    assert result.notes == ()
    result, _ = exported(inputs, SpikingNeuron(0.5, 1.5))
    (operation,) = result.trace.operations
    assert operation.inputs == ("input", "input")
    assert (operation.neuron.threshold.tolist(), operation.neuron.fires_at_threshold) == ([3], False)
    (note,) = result.notes
    assert note.startswith("lif: reads integers without weights, which are added up 2 times, so that the threshold 1.5")


def test_more_copies_than_one_sum_reads():
    """120 thresholds between 1 and 2, T = 8 and half left: one unit is 1/128, 64 times 2 copies."""
    thresholds = 1 + (np.arange(120) + 0.5) / 128
    inputs = histories((0, 1), 8, 120)
    result, spikes = exported(inputs, SpikingNeuron(0.5, thresholds))
    assert_equal(result, spikes)
    first, second = result.trace.operations
    assert (first.inputs, first.output) == (("input",) * 64, "lif.1")
    assert second.inputs == ("lif.1",) * 2
    assert (np.abs(second.neuron.threshold - 128 * thresholds) <= 0.5).all()


def test_sums_of_spikes_and_maxima():
    """What is behind a sum of three, and behind a max-pool, of neurons with different thresholds."""
    generator = np.random.default_rng(0)
    spikes = (generator.random((6, 40, 2, 4, 4)) < 0.4).astype(np.float64)
    shape = (2, 4, 4)
    branches = [
        Node(name, "neuron", ("input",), shape, neuron=SpikingNeuron(0.5, threshold))
        for name, threshold in (("a", 0.7), ("b", 1.2), ("c", 1.9))
    ]
    total = Node("sum", "add", ("a", "b", "c"), shape)
    result, wanted = exported(spikes, SpikingNeuron(0.75, 2.6, "soft_before_leak"), *branches, total)
    assert_equal(result, wanted)
    assert wanted.any()
    last = result.trace.operations[-1]
    assert (last.name, set(last.inputs)) == ("sum", {"a", "b", "c"})
    pooled = Node("pool", "max_pool", ("sum",), (2, 2, 2), None, None, (2, 2), (2, 2))
    result, wanted = exported(
        spikes, SpikingNeuron(0.75, [1.3, 4.1], fires_at_threshold=True), *branches, total, pooled
    )
    assert_equal(result, wanted)
    assert wanted.any((0, 1, 3, 4)).all()


@pytest.mark.parametrize("fires_at_threshold", [False, True])
@pytest.mark.parametrize("threshold", ["51/255", "1/2", "100/255", "3/4", "7123/10000"])
def test_pixels(threshold, fires_at_threshold):
    """Pixels in units of 1/255 shown three times: by hand in fractions, of which some meet the threshold.

    The model's own threshold has the precision of float32.
    """
    pixels = np.arange(256)
    limit = Fraction(threshold)
    expected = np.zeros((3, 256), bool)
    for pixel in pixels:
        potential = Fraction(0)
        for t in range(3):
            potential = potential / 2 + Fraction(int(pixel), 255)
            expected[t, pixel] = potential >= limit if fires_at_threshold else potential > limit
            potential *= not expected[t, pixel]
    neuron = SpikingNeuron(0.5, float(np.float32(limit)), "hard", fires_at_threshold)
    result, _ = exported((pixels / 255)[:, np.newaxis], neuron, timesteps=3)
    assert result.trace.kind("input") == "int"
    assert np.array_equal(result.trace.tensor("lif")[:, :, 0], expected)


def test_a_threshold_that_no_unit_makes_exact():
    """A soft reset by 16 pi on counts of many sizes: rounded to 13176795 / 2^18, off by 0.37, which is said."""
    inputs = np.random.default_rng(0).integers(0, 20, (16, 300, 1)).astype(np.float64)
    result, spikes = exported(inputs, SpikingNeuron(0.875, 16 * np.pi, "soft_after_leak"))
    assert result.trace.operations[-1].neuron.threshold.tolist() == [13176795]
    assert result.notes[-1] == "lif: thresholds are rounded, by at most 2.8e-06 %"
    assert 0.05 < spikes.mean() < 0.95
    assert (result.trace.tensor("lif") != spikes).mean() < 0.001
