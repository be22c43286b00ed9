"""The work of a layer, from its definition: one product of the network after the other."""

from __future__ import annotations

import itertools

import numpy as np


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
            left = first.reshape(*first.shape[:2], -1).swapaxes(1, 2)
            second = shown[1][:, image].reshape(trace.timesteps, len(shown[1][0, image]), -1).swapaxes(1, 2)
            second = second.swapaxes(1, 2) if operation.transpose else second
            for m, k, n in itertools.product(range(left.shape[1]), range(left.shape[2]), range(second.shape[2])):
                yield left[:, m, k], second[:, k, n]
        elif operation.op == "linear":
            for row in operation.weight:
                for operand, weight in zip(first.reshape(trace.timesteps, -1).T, row, strict=True):
                    yield operand, np.full(trace.timesteps, weight)
        elif operation.op == "conv2d":
            (top, left), (down, right) = operation.padding, operation.stride
            for n, y, x in np.ndindex(operation.output_shape):
                for c, ky, kx in np.ndindex(operation.weight_shape[1:]):
                    row, column = y * down + ky - top, x * right + kx - left
                    inside = 0 <= row < first.shape[2] and 0 <= column < first.shape[3]
                    operand = first[:, c, row, column] if inside else silence
                    yield operand, np.full(trace.timesteps, operation.weight[n, c, ky, kx])


def synaptic_operations(trace, operation):
    return sum(bool(a) and bool(w) for operand, weight in pairs(trace, operation)
               for a, w in zip(operand, weight, strict=True))  # fmt: skip


def matches(trace, operation):
    return sum(any(operand) and any(weight) for operand, weight in pairs(trace, operation))
