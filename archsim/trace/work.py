"""How much work a network is, whatever machine does it.

A *synaptic operation* is effectual: the product of an operand that is not zero and a weight that is not zero, at one
timestep. For a convolution or linear layer over T timesteps and I images

    synaptic operations = sum over t, i, outputs (n, y, x), window entries k of [a(t, i, k at y, x) != 0] [w(n, k) != 0]

with a the operand: a spike, a sum of spikes, an event count, a pixel. Of a convolution in groups, k are the channels of
the output's own group; zeros that stretch or pad the input are no operands. An operand that does not change in time is
used anew at every timestep, as the network does, unless what it makes are spike times, which it makes once. Products of
two tensors count in the same way, head by head, with the second tensor for the weights. Everything else (neurons, sums,
element-wise products, pools, softmax, layer norm) has none.

A *match* is such a pair whatever the timestep, the ones of the AND of two bitmasks:

    matches = sum over i, outputs, window entries k of [a(t, i, k at y, x) != 0 at any t] [w(n, k) != 0]

so that ``synaptic operations <= T matches``. Both tensors of a product of two are seen over all timesteps.

*Dense operations* are what the sum of the synaptic operations would be if nothing were zero, the padding apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.trace.content import spans
from archsim.trace.model import Trace
from archsim.trace.operation import Operation

WORKING = ("conv2d", "linear", "matmul")
"""Operations that have synaptic operations."""
CHANCE_BITS = 16
"""Weights are those of groups if random zeros would look so in less than one of 2^16 layers."""


class Work(NamedTuple):
    """What an operation does in all images and timesteps of a trace."""

    synaptic_operations: int
    matches: int


def work_of(trace: Trace, operation: Operation) -> Work:
    """The work of ``operation``: its operands are unpacked once for both counts, some timesteps at a time."""
    if operation.op not in WORKING:
        return Work(0, 0)
    streams = [trace.stream(name) for name in operation.inputs]
    timesteps = max(stream.timesteps for stream in streams)
    weights, made = _weights(operation), 0
    ever: list[NDArray[np.bool_]] = []
    for first, end in spans(timesteps, trace.images * sum(map(math.prod, operation.input_shapes))):
        # What does not change in time is one timestep.
        operands = [stream.operand(first, end) if stream.timed else stream.operand()[None] for stream in streams]
        made += _pairs(operation, operands, weights)
        used = [(values != 0).any(0)[None] for values in operands]
        ever = [one | other for one, other in zip(ever, used, strict=True)] if ever else used
    return Work(_uses(trace, operation) // timesteps * made, _pairs(operation, ever, weights))


def synaptic_operations(trace: Trace, operation: Operation) -> int:
    """Synaptic operations of ``operation`` in all images and timesteps of ``trace``."""
    return work_of(trace, operation).synaptic_operations


def adds(trace: Trace, operation: Operation) -> bool:
    """Whether the products of ``operation`` are additions of what a spike selects: one of its inputs is spikes."""
    return any(trace.kind(name) != "int" for name in operation.inputs)


def dense_operations(trace: Trace, operation: Operation) -> int:
    """Products of ``operation`` in all images and timesteps of ``trace``, zero or not; the padding has none."""
    if operation.op not in WORKING:
        return 0
    every = [np.ones((1, 1, *shape), np.bool_) for shape in operation.input_shapes]
    columns, *kernel = (operation.weight_shape or (0, 0))[1:]
    weights = np.full((operation.groups * columns, *kernel), operation.n // operation.groups, np.int64)
    return _uses(trace, operation) * trace.images * _pairs(operation, every, weights)


def effort(trace: Trace, operation: Operation) -> float:
    """A guess, in no unit, at how long the simulation of ``operation`` takes on any machine, from its sizes alone:

        M N sqrt(K), for a product of two tensors times images and timesteps.

    A step per output, M N, and one per product, M N K, are both worse: the more inputs, the more of them are silent.
    Products of two tensors run image by image and timestep by timestep, each a small piece.
    """
    pieces = trace.images * trace.timesteps if operation.op == "matmul" else 1
    return operation.m * operation.n * math.sqrt(operation.k) * pieces


def matches(trace: Trace, operation: Operation) -> int:
    """Matches of ``operation`` in all images of ``trace``."""
    return work_of(trace, operation).matches


def groups_of(weight: NDArray[Any]) -> int:
    """Groups of the convolution that ``weight`` [N, C, kernel rows, kernel columns] is of; 1: a dense one.

    A convolution in G groups is stored as a dense one whose weights are blocks of N/G x C/G on the diagonal. Of the
    largest such G, more than half of the blocks must not be empty (a few channels may be pruned, but where only a few
    are left, they are not groups), and weights of random sparsity, each in some block by a chance of 1/G, must be in
    them by a chance of less than 2^-16.
    """
    n, channels = weight.shape[:2]
    # Of any groups the first output reads no input of the second half, and the last one none of the first.
    if weight[0, channels // 2 :].any() or weight[-1, : channels // 2].any():
        return 1
    for groups in range(math.gcd(n, channels), 1, -1):
        if n % groups or channels % groups:
            continue
        weights = np.count_nonzero(weight.reshape(groups, n // groups, groups, -1), axis=(1, 3))
        inside = np.diagonal(weights)
        if (
            inside.sum() == weights.sum()
            and 2 * np.count_nonzero(inside) > groups
            and inside.sum() * math.log2(groups) > CHANCE_BITS
        ):
            return groups
    return 1


def _uses(trace: Trace, operation: Operation) -> int:
    """At how many timesteps the operands are used."""
    encodes = trace.stored(operation.output) and trace.kind(operation.output) == "spike_time"
    return 1 if encodes and operation.requantiser is not None else trace.timesteps


def _weights(operation: Operation) -> NDArray[np.int64]:
    """How many outputs each place of the window, or of the reduction, has a weight to that is not zero."""
    if operation.op not in ("conv2d", "linear"):
        return np.zeros(0, np.int64)
    weight = operation.weight
    assert weight is not None
    # Of a convolution [C, kernel rows, kernel columns], channels of all groups.
    used: NDArray[np.int64] = np.count_nonzero(weight.reshape(operation.groups, -1, *weight.shape[1:]), axis=1)
    return used.reshape(-1, *weight.shape[2:])


def _pairs(operation: Operation, operands: Sequence[NDArray[Any]], weights: NDArray[np.int64]) -> int:
    """Pairs that meet and of which neither is zero, of ``operands`` as they are stored."""
    match operation.op:
        case "conv2d":
            return _convolution(operation, np.count_nonzero(operands[0], axis=(0, 1)), weights)
        case "linear":
            return int(np.count_nonzero(operands[0], axis=(0, 1)).reshape(-1) @ weights)
        case "matmul":
            return _product(operation, *operands)
    return 0


def _convolution(operation: Operation, uses: NDArray[np.int64], weights: NDArray[np.int64]) -> int:
    """With ``uses`` [C, H, W], how often each place is not zero, and ``weights`` [C, kernel rows, kernel columns]."""
    rows, columns = operation.window.taps(uses.shape[1:])
    total = 0
    for y in range(rows.shape[1]):
        for x in range(columns.shape[1]):
            down, across = rows[rows[:, y] >= 0, y], columns[columns[:, x] >= 0, x]
            total += int(uses[:, down[:, None], across].sum((1, 2)) @ weights[:, y, x])
    return total


def _product(operation: Operation, first: NDArray[Any], second: NDArray[Any]) -> int:
    """Of the first matrix column by column against the second row by row, per timestep, image and head."""
    # [T, I, heads, columns of the head, positions]
    left, right = (
        values.reshape(*values.shape[:2], operation.heads, values.shape[2] // operation.heads, -1)
        for values in (first, second)
    )
    used = np.count_nonzero(left, axis=3 if operation.transpose_first else 4)
    meets = np.count_nonzero(right, axis=4 if operation.transpose else 3)
    return int((used * meets).sum())
