"""How much work a network is, whatever machine does it.

A *synaptic operation* is effectual: the product of an operand that is not zero and a weight that is not zero, at one
timestep. For a convolution or linear layer over T timesteps and I images

    synaptic operations = sum over t, i, outputs (n, y, x), window entries k of [a(t, i, k at y, x) != 0] [w(n, k) != 0]

with a the operand: a spike, a sum of spikes, an event count, a pixel. An operand that does not change in time is used
anew at every timestep, as the network does. Products of two tensors count in the same way, with the second tensor for
the weights. Entries of the padding are zero. Everything else (neurons, sums, pools, softmax, layer norm) has none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.trace.model import Operation, Trace


def synaptic_operations(trace: Trace, operation: Operation) -> int:
    """Synaptic operations of ``operation`` in all images and timesteps of ``trace``."""
    match operation.op:
        case "conv2d":
            return _convolution(operation, *_uses(trace, operation.inputs[0]))
        case "linear":
            uses, factor = _uses(trace, operation.inputs[0])
            weight = operation.weight
            assert weight is not None
            return factor * int(uses.reshape(-1) @ np.count_nonzero(weight, axis=0))
        case "matmul":
            return _product(trace, operation)
    return 0


def _uses(trace: Trace, name: str) -> tuple[NDArray[np.int64], int]:
    """How often each place [C, H, W] or [F] of a tensor is not zero, in all that is stored, and how often that is
    shown."""
    values = trace.operand(name)
    timed = values.ndim > len(trace.meta.tensors[name].shape) + 1
    return np.count_nonzero(values, axis=(0, 1) if timed else 0).astype(np.int64), 1 if timed else trace.timesteps


def _convolution(operation: Operation, uses: NDArray[np.int64], factor: int) -> int:
    weight = operation.weight
    assert weight is not None
    (top, left), (down, right) = operation.padding, operation.stride
    (kh, kw), (height, width) = operation.kernel, operation.output_shape[1:]
    padded = np.pad(uses, ((0, 0), (top, top), (left, left)))
    total = 0
    for y in range(kh):
        for x in range(kw):
            window = padded[:, y : y + down * (height - 1) + 1 : down, x : x + right * (width - 1) + 1 : right]
            total += int(window.sum((1, 2)) @ np.count_nonzero(weight[:, :, y, x], axis=0))
    return factor * total


def _product(trace: Trace, operation: Operation) -> int:
    """Of the first matrix [C, H W] column by column of its C against the second, per timestep and image."""
    first, second = (_by_timestep(trace, name) for name in operation.inputs)
    left = np.count_nonzero(first, axis=(3, 4))
    right = np.count_nonzero(second, axis=2 if not operation.transpose else (3, 4))
    return int((left * right.reshape(*right.shape[:2], -1)).sum())


def _by_timestep(trace: Trace, name: str) -> NDArray[Any]:
    """The tensor ``name`` as [T, I, C, H, W]."""
    values = trace.operand(name)
    return values if values.ndim == 5 else np.broadcast_to(values, (trace.timesteps, *values.shape))
