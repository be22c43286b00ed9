"""Layers that are larger in the trace than in the model: found by their weights, or by what the exporter wrote down."""

import numpy as np
import pytest

from archsim.trace import Operation, Trace
from archsim.trace.expansion import expansion
from tests.small_traces import LABELS, build


def classifier(weight, shape):
    """A trace of one linear layer that reads spikes of ``shape``."""
    spikes = np.random.default_rng(0).random((2, 1, *shape)) < 0.5
    weight = weight.astype(np.int8).reshape(len(weight), -1)
    return build([Operation("fc", "linear", ("x",), "fc", weight=weight)], {"x": spikes}, 2)


def found(trace):
    return expansion(trace, trace.operations[0])


def weights(*shape):
    return np.random.default_rng(1).integers(-100, 100, shape)


@pytest.mark.parametrize(
    ("shape", "window", "factor", "why"),
    [
        ((8, 7, 7), (7, 7), 49, "a global average pool was spread into its weights, which are equal at all 7 x 7 pos"),
        ((3, 2, 5), (2, 5), 10, "a global average pool was spread into its weights, which are equal at all 2 x 5 pos"),
        ((3, 4, 6), (2, 2), 4, "an average pool of 2 x 2 was spread into its weights, which are equal in each such w"),
        ((3, 4, 6), (2, 3), 6, "an average pool of 2 x 3 was spread into its weights, which are equal in each such w"),
    ],
)
def test_average_pools_are_seen_in_the_weights(shape, window, factor, why):
    """A weight of the model at every position of a window."""
    channels, height, width = shape
    small = weights(5, channels, height // window[0], width // window[1])
    spread = small.repeat(window[0], 2).repeat(window[1], 3)
    told = found(classifier(spread, shape))
    assert told.factor == factor
    assert told.why.startswith(why)


def test_a_pool_in_front_of_a_convolution():
    """Its kernel, stride and padding grow with the pool: of 1 x 1, stride 2, behind a pool of 2 x 2."""
    small = weights(5, 3, 1, 2)
    spread = small.repeat(2, 2).repeat(2, 3).astype(np.int8)
    spikes = np.random.default_rng(0).random((2, 1, 3, 8, 8)) < 0.5
    trace = build([Operation("c", "conv2d", ("x",), "c", stride=(4, 2), weight=spread)], {"x": spikes}, 2)
    assert found(trace).factor == 4
    dense = build([Operation("c", "conv2d", ("x",), "c", stride=(1, 1), weight=spread)], {"x": spikes}, 2)
    assert found(dense) is None


def test_other_weights_are_no_pools():
    assert found(classifier(weights(5, 3, 4, 4), (3, 4, 4))) is None
    one_differs = np.ones((5, 3, 4, 4))
    one_differs[4, 2, 3, 3] = 2
    assert found(classifier(one_differs, (3, 4, 4))) is None
    assert found(classifier(np.zeros((5, 3, 4, 4)), (3, 4, 4))) is None
    assert found(classifier(weights(5, 48), (48,))) is None


@pytest.mark.parametrize(
    ("details", "told"),
    [
        (
            {"expanded_layers": {"fc": 64}, "expanded_layers_why": {"fc": "64 groups are stored as one"}},
            (64, "64 groups are stored as one"),
        ),
        ({"expanded_layers": {"fc": 64}}, (64, "says the trace")),
        ({"expanded_layers": {"fc": 64}, "expanded_layers_why": {"fc": 3}}, (64, "says the trace")),
        *(({"expanded_layers": odd}, None) for odd in (3, "fc", [64], {}, {"other": 9})),
        *(({"expanded_layers": {"fc": factor}}, None) for factor in ("9", True, None, 1, 0, -4, 2.5)),
    ],
)
def test_what_the_exporter_wrote_down(details, told):
    """Whoever wrote a trace may have written anything into its details."""
    trace = classifier(weights(5, 3, 4, 4), (3, 4, 4))
    marked = Trace(
        network="marked", timesteps=2, operations=trace.operations, provenance={**LABELS, "details": details},
        tensors={name: trace.tensor(name) for name in trace.tensors},
    )  # fmt: skip
    assert found(marked) == told
