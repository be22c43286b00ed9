"""Synaptic operations against loops over every window, image, timestep and weight."""

import itertools

import numpy as np
import pytest

from archsim.trace.work import synaptic_operations
from tests import small_traces


def by_loops(trace, operation):
    """One test of two values at a time, from the definition."""
    operands = [trace.operand(name) for name in operation.inputs]
    shapes = operation.input_shapes
    shown = [
        v if v.ndim == len(s) + 2 else np.stack([v] * trace.timesteps) for v, s in zip(operands, shapes, strict=True)
    ]
    count = 0
    for t, i in itertools.product(range(trace.timesteps), range(trace.images)):
        first = shown[0][t, i]
        if operation.op == "matmul":
            left = first.reshape(len(first), -1).T
            right = shown[1][t, i].reshape(len(shown[1][t, i]), -1).T
            right = right.T if operation.transpose else right
            rows, inner, columns = len(left), len(right), right.shape[1]
            count += sum(
                bool(left[m, k]) and bool(right[k, n])
                for m, k, n in itertools.product(range(rows), range(inner), range(columns))
            )
        elif operation.op == "linear":
            flat = first.reshape(-1)
            count += sum(bool(a) and bool(w) for row in operation.weight for a, w in zip(flat, row, strict=True))
        elif operation.op == "conv2d":
            (top, left), (down, right) = operation.padding, operation.stride
            for n, y, x in np.ndindex(operation.output_shape):
                for c, ky, kx in np.ndindex(operation.weight_shape[1:]):
                    row, column = y * down + ky - top, x * right + kx - left
                    inside = 0 <= row < first.shape[1] and 0 <= column < first.shape[2]
                    count += bool(inside and first[c, row, column] and operation.weight[n, c, ky, kx])
    return count


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("make", [small_traces.tiny, small_traces.every_operation, small_traces.every_kind,
                                  small_traces.attention])  # fmt: skip
def test_equals_loops(make, seed):
    trace = make(seed)
    counts = {operation.name: synaptic_operations(trace, operation) for operation in trace}
    assert counts == {operation.name: by_loops(trace, operation) for operation in trace}
    assert any(counts.values())


def test_a_linear_layer_by_hand():
    """Pixels 0 to 3 shown at 2 timesteps: three are not zero; weights 1 0 1 1 and 0 1 0 1 meet them 2 + 2 times."""
    from archsim.trace import Operation

    operation = Operation("fc", "linear", ("x",), "y", weight=np.array([[1, 0, 1, 1], [0, 1, 0, 1]], np.int8))
    trace = small_traces.build([operation], {"x": np.array([[0, 1, 2, 3]], np.uint8)}, 2)
    assert synaptic_operations(trace, trace.operations[0]) == 2 * (2 + 2)
