"""The work of training decomposed convolutions (TT-SNN), cluster by cluster and strip by strip.

What is computed are the passes of :mod:`archsim.trace.tensor_train`, a cluster for each sub-convolution.

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
from archsim.trace.tensor_train import Operand, Pass

Words = NDArray[np.uint16]
CLUSTERS = 4


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


def words_of(trace: Trace, part: Pass, operand: Operand) -> Words:
    """Where an operand of a pass is not zero, as words [I, C, H, W] with a bit per timestep."""
    return packed_time.pack_timesteps(part.live(trace, operand))


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


def by_positions(part: Pass, words: Words, span: int, array: Array) -> Product:
    """A pass whose rows are positions, of the unrolled ``words`` [I, C, H, W], by strips."""
    matrix, timesteps = part.sub.window.unroll(words), part.timesteps
    sets, spans = -(-part.n // array.columns), -(-timesteps // span)
    skew = spans * (array.rows + array.columns - 2)
    cycles, added, pairs, columns, reads = [], [], 0, 0, 0
    for first, end in strips_of(part.sub, array.rows):
        took = 0
        for row in range(first, end, array.rows):
            some = matrix[row : min(end, row + array.rows)]
            live = part.k * timesteps
            if array.skips:
                live = max(1, int(np.bitwise_count(np.bitwise_or.reduce(some)).sum()))
            took += sets * (live + skew)
            pairs += live * len(some) * part.n
            columns += part.k * spans * len(some) * part.n
            reads += part.k * spans * part.n
        cycles.append(took)
        added.append(int(np.bitwise_count(matrix[first:end]).sum(dtype=np.int64)) * part.n)
    elements = math.prod(words.shape) * timesteps
    sums = part.m * part.n * timesteps
    return Product(np.array(cycles), np.array(added), pairs, columns, sums, elements * sets, reads)


def by_weights(part: Pass, words: Words, gradients: Words, span: int, array: Array) -> Product:
    """The pass whose outputs are gradients of weights, of the inputs ``words`` and the outputs' ``gradients``, by
    groups of rows."""
    matrix, timesteps = part.sub.window.unroll(words), part.timesteps
    errors = np.moveaxis(gradients, 1, -1).reshape(part.k, part.n)
    sets, skew = -(-part.n // array.columns), -(-timesteps // span) * (array.rows + array.columns - 2)
    starts = np.arange(0, part.n, array.columns)
    by_set = np.bitwise_or.reduceat(errors, starts, axis=1)
    cycles, added, pairs = [], [], 0
    for row in range(0, part.m, array.rows):
        some = matrix[:, row : row + array.rows]
        live = np.full(sets, part.k * timesteps)
        if array.skips:
            any_row = np.bitwise_or.reduce(some, axis=1)[:, None]
            live = np.maximum(1, np.bitwise_count(any_row & by_set).sum(0, dtype=np.int64))
        cycles.append(int(live.sum()) + sets * skew)
        widths = np.minimum(array.columns, part.n - starts)
        pairs += int(live @ widths) * some.shape[1]
        added.append(update_work(np.ascontiguousarray(some), errors, MOST_TIMESTEPS)["synaptic_operations"])
    elements = part.m * part.k * timesteps * sets
    return Product(
        np.array(cycles), np.array(added), pairs, pairs, part.n * part.m, elements,
        part.k * part.n * timesteps * len(cycles),
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
