"""The work of a layer, from its definition: one product of the network after the other."""

from __future__ import annotations

import itertools

import numpy as np

from tests.twins import trace as slow


def pairs(trace, operation):
    """Every product of ``operation`` in every image: (operand at every timestep, weight at every timestep)."""
    shown = [
        values if values.ndim == len(shape) + 2 else np.stack([values] * trace.timesteps)
        for values, shape in zip(map(trace.operand, operation.inputs), operation.input_shapes, strict=True)
    ]
    silence = np.zeros(trace.timesteps, int)
    for image in range(trace.images):
        first = shown[0][:, image]
        if operation.op == "matmul":
            second = shown[1][:, image]
            for head in range(operation.heads):
                left, right = _matrix(first, head, operation.heads), _matrix(second, head, operation.heads)
                left = left.swapaxes(1, 2) if operation.transpose_first else left
                right = right.swapaxes(1, 2) if operation.transpose else right
                for m, k, n in itertools.product(range(left.shape[1]), range(left.shape[2]), range(right.shape[2])):
                    yield left[:, m, k], right[:, k, n]
        elif operation.op == "linear":
            for row in operation.weight:
                for operand, weight in zip(first.reshape(trace.timesteps, -1).T, row, strict=True):
                    yield operand, np.full(trace.timesteps, weight)
        elif operation.op == "conv2d":
            weights, outputs = operation.weight, operation.n // operation.groups
            for n, *place in np.ndindex(operation.output_shape):
                inside = {(ky, kx): (y, x) for ky, kx, y, x in slow.window(operation, first[0], (n, *place))}
                for c, ky, kx in np.ndindex(weights.shape[1:]):
                    channel = first[:, n // outputs * weights.shape[1] + c]
                    operand = channel[:, *inside[ky, kx]] if (ky, kx) in inside else silence
                    yield operand, np.full(trace.timesteps, weights[n, c, ky, kx])


def _matrix(values, head, heads):
    """[T, positions, channels of the head] of [T, C, H, W]."""
    own = values.shape[1] // heads
    return values[:, head * own : (head + 1) * own].reshape(len(values), own, -1).swapaxes(1, 2)


def synaptic_operations(trace, operation):
    return sum(bool(a) and bool(w) for operand, weight in pairs(trace, operation)
               for a, w in zip(operand, weight, strict=True))  # fmt: skip


def matches(trace, operation):
    return sum(any(operand) and any(weight) for operand, weight in pairs(trace, operation))
