"""Decomposed convolutions of a trace (TT-SNN), and the work of their training, cluster by cluster and strip by strip.

A decomposed convolution is found by its operations: a 1x1 convolution that reads spikes (c1), a 3x1 (c2) and a 1x3 (c3)
one behind the other or side by side, and a 1x1 (c4), all of stride 1. A product with a stored spike tensor between c1
and c2 is a gate: c2 and c3 work at the timesteps at which it is open (``archsim.export.sub_convolutions``).

Positions come in *strips*: as many lines of an image as fill the rows of a cluster's array, at least one. A product of
P positions, K inputs and N channels at S timesteps takes on an output-stationary array of R x C, as in
:mod:`archsim.dataflow.buffered_array`,

    ceil(P / R) ceil(N / C) (K S + spans (R + C - 2))    cycles with gating;

with skipping only pairs (k, t) count at which one of the R rows is not zero. The gradients of weights are products
whose rows are the K inputs, whose columns are the N channels, summed over positions and timesteps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress import packed_time
from archsim.dataflow.base import MOST_TIMESTEPS
from archsim.dataflow.training import update_work
from archsim.trace import Operation, Trace

Words = NDArray[np.uint16]
CLUSTERS = 4


class Decomposed(NamedTuple):
    """A decomposed convolution: its ``subs`` c1 to c4, whether c2 and c3 are ``parallel``, the timesteps at which they
    are ``open`` (bool [T]), the ``neurons`` behind c4, and all its operations."""

    name: str
    subs: tuple[Operation, ...]
    parallel: bool
    open: NDArray[np.bool_]
    neurons: Operation | None
    members: tuple[Operation, ...]


def decomposed_in(trace: Trace) -> dict[str, Decomposed]:
    """All decomposed convolutions of ``trace``, by the name of c1."""
    readers: dict[str, list[Operation]] = {}
    for operation in trace.operations:
        for name in dict.fromkeys(operation.inputs):
            readers.setdefault(name, []).append(operation)
    found = (_behind(trace, operation, readers) for operation in trace.operations)
    return {one.subs[0].name: one for one in found if one is not None}


def _behind(trace: Trace, first: Operation, readers: dict[str, list[Operation]]) -> Decomposed | None:
    """The decomposed convolution that begins with ``first``, if one does."""
    if not _is(first, (1, 1)) or first.neuron is not None or trace.kind(first.inputs[0]) != "spike":
        return None
    source, gates = first.output, [one for one in readers.get(first.output, []) if one.op == "multiply"]
    opened: NDArray[np.bool_] = np.ones(trace.timesteps, np.bool_)
    for gate in gates:
        if any(_is(one, (3, 1)) for one in readers.get(gate.output, [])):
            source = gate.output
            opened = np.asarray(trace.operand(gate.inputs[1]).reshape(trace.timesteps, -1).any(1), np.bool_)
    second = next((one for one in readers.get(source, []) if _is(one, (3, 1))), None)
    if second is None:
        return None
    beside = next((one for one in readers.get(source, []) if _is(one, (1, 3))), None)
    third = beside or next((one for one in readers.get(second.output, []) if _is(one, (1, 3))), None)
    if third is None:
        return None
    joins = [one for one in readers.get(third.output, []) if one.op == "add" and second.output in one.inputs]
    read = joins[0].output if beside is not None and joins else third.output
    last = next((one for one in readers.get(read, []) if _is(one, (1, 1))), None)
    if last is None:
        return None
    behind = readers.get(last.output, [])
    neurons = behind[0] if len(behind) == 1 and behind[0].neuron is not None and len(behind[0].inputs) == 1 else None
    members = [first, *gates, second, third, *joins[: beside is not None], last, *([neurons] if neurons else [])]
    name = first.name.removesuffix(".c1")
    return Decomposed(name, (first, second, third, last), beside is not None, opened, neurons, tuple(members))


def _is(operation: Operation, kernel: tuple[int, int]) -> bool:
    """Whether it is a convolution with this kernel that keeps the size of the map."""
    same = operation.op == "conv2d" and operation.kernel == kernel and operation.stride == (1, 1)
    return same and operation.groups == 1 and operation.output_shape[1:] == operation.input_shapes[0][1:]


class Array(NamedTuple):
    """The array of a cluster, and whether it skips pairs in which nothing is live."""

    rows: int
    columns: int
    skips: bool


class Product(NamedTuple):
    """What a cluster does in a stage. By item, a strip or a group of rows: ``cycles`` and multiplications or additions
    ``added``, int64 [items]. In all: ``pairs`` (k, t) in PEs in use, elements of weights ``columns`` that enter PEs,
    ``sums`` that are complete; ``row_reads`` and ``column_reads``, elements read from the buffers of both operands."""

    cycles: NDArray[np.int64]
    added: NDArray[np.int64]
    pairs: int
    columns: int
    sums: int
    row_reads: int
    column_reads: int


def operand_words(trace: Trace, name: str) -> Words:
    """Where a tensor is not zero, as words [I, C, H, W] with a bit per timestep."""
    return packed_time.pack_timesteps(trace.operand(name) != 0)


def gradient_words(sub: Operation, opened: NDArray[np.bool_]) -> Words:
    """Where the gradient of what ``sub`` writes is not zero, words [I, N, H, W]; without a mask everywhere at the
    timesteps at which it works: an upper bound."""
    mask = sub.gradient_mask
    if mask is None:
        shape = (len(opened), sub.images, *sub.output_shape)
        mask = np.broadcast_to(opened[:, None, None, None, None], shape)
    return packed_time.pack_timesteps(mask & opened[:, None, None, None, None])


def strips_of(sub: Operation, rows: int) -> list[tuple[int, int]]:
    """First and last position of every strip, image by image, and behind."""
    height, width = sub.output_shape[1:]
    lines, found = max(1, rows // width), []
    for image in range(sub.images):
        begin = image * height * width
        found += [
            (begin + y * width, begin + min(height, y + lines) * width) for y in range(0, height, lines)
        ]  # fmt: skip
    return found


def forwards(sub: Operation, words: Words, n: int, span: int, timesteps: int, array: Array) -> Product:
    """A product of the unrolled ``words`` [I, C, H, W] with ``n`` columns, by strips: of the forward pass, or of that
    for the gradients of inputs. ``timesteps``: at which the cluster works."""
    matrix = sub.window.unroll(words)
    length, sets, spans = matrix.shape[1], -(-n // array.columns), -(-timesteps // span)
    skew = spans * (array.rows + array.columns - 2)
    cycles, added, pairs, columns, reads = [], [], 0, 0, 0
    for first, end in strips_of(sub, array.rows):
        took = 0
        for row in range(first, end, array.rows):
            part = matrix[row : min(end, row + array.rows)]
            live = length * timesteps
            if array.skips:
                live = max(1, int(np.bitwise_count(np.bitwise_or.reduce(part)).sum()))
            took += sets * (live + skew)
            pairs += live * len(part) * n
            columns += length * spans * len(part) * n
            reads += length * spans * n
        cycles.append(took)
        added.append(int(np.bitwise_count(matrix[first:end]).sum(dtype=np.int64)) * n)
    elements = math.prod(words.shape) * timesteps
    sums = len(matrix) * n * timesteps
    return Product(np.array(cycles), np.array(added), pairs, columns, sums, elements * sets, reads)


def updates(sub: Operation, words: Words, gradients: Words, span: int, timesteps: int, array: Array) -> Product:
    """Gradients of the weights of ``sub`` by groups of rows, of the inputs ``words`` and the outputs' ``gradients``."""
    matrix = sub.window.unroll(words)
    errors = np.moveaxis(gradients, 1, -1).reshape(len(matrix), -1)
    sets, skew = -(-sub.n // array.columns), -(-timesteps // span) * (array.rows + array.columns - 2)
    starts = np.arange(0, sub.n, array.columns)
    by_set = np.bitwise_or.reduceat(errors, starts, axis=1)
    cycles, added, pairs = [], [], 0
    for row in range(0, sub.k, array.rows):
        part = matrix[:, row : row + array.rows]
        live = np.full(sets, len(matrix) * timesteps)
        if array.skips:
            any_row = np.bitwise_or.reduce(part, axis=1)[:, None]
            live = np.maximum(1, np.bitwise_count(any_row & by_set).sum(0, dtype=np.int64))
        cycles.append(int(live.sum()) + sets * skew)
        widths = np.minimum(array.columns, sub.n - starts)
        pairs += int(live @ widths) * part.shape[1]
        added.append(update_work(np.ascontiguousarray(part), errors, MOST_TIMESTEPS)["synaptic_operations"])
    elements = len(matrix) * sub.k * timesteps * sets
    return Product(
        np.array(cycles), np.array(added), pairs, pairs, sub.n * sub.k, elements,
        len(matrix) * sub.n * timesteps * len(cycles),
    )  # fmt: skip


def wanted_strips(sub: Operation, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each strip, how many strips of the input must be there before it begins, and how many are no longer needed
    behind it. A kernel of several lines sees one above and one below. A strip has at least one line, so they are in its
    neighbours: it waits for the next one of its image, which needs it in turn."""
    height, width = sub.output_shape[1:]
    of_image = -(-height // max(1, rows // width))
    strips = np.arange(sub.images * of_image)
    shared = (sub.kernel[0] > 1) * (strips % of_image < of_image - 1)
    return strips + 1 + shared, strips + 1 - shared


def all_of(values: Sequence[Any]) -> NDArray[np.int64]:
    """Rows of different lengths as one table, int64, filled up with zeros."""
    table = np.zeros((len(values), max(1, *(len(row) for row in values))), np.int64)
    for place, row in enumerate(values):
        table[place, : len(row)] = row
    return table
