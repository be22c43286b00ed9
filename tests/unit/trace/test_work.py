"""Synaptic operations and matches against loops over every product; groups of convolutions from their weights."""

import numpy as np
import pytest

from archsim.trace import Operation
from archsim.trace.work import effort, groups_of, matches, synaptic_operations
from tests import small_traces
from tests.twins import work as twin

MAKERS = [small_traces.tiny, small_traces.every_operation, small_traces.every_kind, small_traces.attention]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("make", MAKERS)
def test_equal_loops(make, seed):
    trace = make(seed)
    counts = {operation.name: synaptic_operations(trace, operation) for operation in trace}
    assert counts == {operation.name: twin.synaptic_operations(trace, operation) for operation in trace}
    found = {operation.name: matches(trace, operation) for operation in trace}
    assert found == {operation.name: twin.matches(trace, operation) for operation in trace}
    assert any(counts.values())
    assert all(counts[name] <= trace.timesteps * found[name] for name in counts)


def test_a_linear_layer_by_hand():
    """Pixels 0 to 3 shown at 2 timesteps: three are not zero; weights 1 0 1 1 and 0 1 0 1 meet them 2 + 2 times."""
    operation = Operation("fc", "linear", ("x",), "y", weight=np.array([[1, 0, 1, 1], [0, 1, 0, 1]], np.int8))
    trace = small_traces.build([operation], {"x": np.array([[0, 1, 2, 3]], np.uint8)}, 2)
    assert synaptic_operations(trace, trace.operations[0]) == 2 * (2 + 2)
    assert matches(trace, trace.operations[0]) == 2 + 2


def test_a_guess_of_the_effort_by_hand():
    """Of 2 images of 6 positions: 4 outputs of 4 inputs, and a product of 6 x 4 with 4 x 6, image by image."""
    trace = small_traces.attention()
    assert effort(trace, trace.operation("query")) == 12 * 4 * 2
    assert effort(trace, trace.operation("scores")) == 12 * 6 * 2 * 2


def grouped(groups, n, channels, kernel=3, seed=0, density=1.0):
    """Weights of a convolution of ``channels`` in and ``n`` out in so many groups, stored as a dense one."""
    draw = np.random.default_rng(seed)
    weight = np.zeros((n, channels, kernel, kernel), np.int8)
    for g in range(groups):
        block = np.s_[g * n // groups : (g + 1) * n // groups, g * channels // groups : (g + 1) * channels // groups]
        values = draw.integers(1, 100, weight[block].shape)
        weight[block] = values * (draw.random(values.shape) < density)
    return weight


@pytest.mark.parametrize(
    ("groups", "n", "channels", "kernel", "density"),
    [
        (64, 64, 64, 3, 1.0), (2, 2, 2, 3, 1.0), (3, 3, 3, 3, 1.0), (32, 64, 32, 3, 1.0), (8, 8, 32, 1, 1.0),
        (2, 8, 8, 1, 1.0), (4, 12, 20, 5, 0.1), (64, 64, 64, 3, 0.2), (2, 6, 4, 3, 0.7), (6, 12, 6, 1, 1.0),
    ],
)  # fmt: skip
def test_groups_are_found(groups, n, channels, kernel, density):
    assert groups_of(grouped(groups, n, channels, kernel, density=density)) == groups


def test_a_dead_channel_or_a_weight_more():
    weight = grouped(16, 16, 16)
    weight[3] = 0
    assert groups_of(weight) == 16
    weight[0, 15, 1, 1] = 1
    assert groups_of(weight) == 1


def test_pairs_of_groups_are_half_as_many():
    """A weight between channels 0 and 1 of a depthwise convolution makes one block of both."""
    weight = grouped(16, 16, 16)
    weight[0, 1, 1, 1] = 1
    weight[2, 3, 0, 0] = 1
    assert groups_of(weight) == 8


def test_dense_pruned_and_empty_weights_have_no_groups():
    draw = np.random.default_rng(0)
    for n, channels in ((64, 64), (7, 5), (1, 1), (1, 16), (16, 1), (12, 18)):
        assert groups_of(np.ones((n, channels, 3, 3), np.int8)) == 1
        assert groups_of(np.zeros((n, channels, 3, 3), np.int8)) == 1
    for density in (0.001, 0.01, 0.1, 0.5):
        for _ in range(50):
            n, channels, kernel = (int(draw.choice(sizes)) for sizes in ((4, 8, 64), (4, 8, 64), (1, 3)))
            assert groups_of((draw.random((n, channels, kernel, kernel)) < density).astype(np.int8)) == 1


def test_a_few_channels_that_are_left_are_no_groups():
    """Pruned to the first 8 of 64 channels: all weights lie in the first block of 8, 4 or 2."""
    weight = np.zeros((64, 64, 3, 3), np.int8)
    weight[:8, :8] = 1
    assert groups_of(weight) == 1
