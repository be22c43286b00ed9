"""Few-spikes neurons against a slow twin and against what they stand for: the binary digits of the sum."""

import numpy as np
import pytest

from archsim.hardware.compute.few_spikes import fire_few_spikes


def twin(sums, bias, threshold):
    """Spikes of one neuron, most significant first, by Python integers."""
    rest = sum(int(value) + int(bias) for value in sums)
    spikes = []
    for t in range(len(sums)):
        value = max(1, int(threshold)) * 2 ** (len(sums) - 1 - t)
        spikes.append(rest >= value)
        rest -= value * spikes[-1]
    return spikes


@pytest.mark.parametrize("timesteps", [1, 4, 16])
def test_spikes_are_those_of_the_twin_and_the_digits_of_the_sum(timesteps):
    draw = np.random.default_rng(timesteps)
    sums = draw.integers(-200, 400, (30, 7, timesteps))
    bias, threshold = draw.integers(-20, 20, 7), np.array([1, 2, 7, 60, 100, 0, -3])
    words = np.zeros((30, 7), np.uint16)
    fire_few_spikes(sums, bias, threshold, words)
    for row in range(30):
        for n in range(7):
            spikes = twin(sums[row, n], bias[n], threshold[n])
            assert words[row, n] == sum(int(spike) << t for t, spike in enumerate(spikes))
            digits = sum(int(spike) << (timesteps - 1 - t) for t, spike in enumerate(spikes))
            total = int(sums[row, n].sum()) + timesteps * int(bias[n])
            assert digits == min(max(total // max(1, int(threshold[n])), 0), 2**timesteps - 1)


def test_the_gate_is_tight():
    """A sum of exactly the value of the first spike fires it; one less fires all others instead."""
    words = np.zeros((2, 1), np.uint16)
    sums = np.array([[[40, 0, 0, 40]], [[40, 0, 0, 39]]])
    fire_few_spikes(sums, np.array([0]), np.array([10]), words)
    assert words[:, 0].tolist() == [0b0001, 0b1110]
