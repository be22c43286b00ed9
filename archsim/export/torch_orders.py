"""Orders of values: where each value of a tensor, in C order, is in its node.

A node has the shape [C, H, W] or [F]; a model looks at it with heads, tokens, transposed, side by side. As long as only
that happens, a tensor is its node in another order, and nothing is computed or moved. An operation that a trace has on
the node itself (a product of transposed matrices, a sum of neighbouring channels) is found in the orders of what it
reads; where there is none, the values are rearranged.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Order = NDArray[np.int64]
Shape = tuple[int, ...]


class Reduction(NamedTuple):
    """A sum as a trace has it: the options of ``reduce``, the shape of its output, and the order of the sums there."""

    options: dict[str, Any]
    shape: Shape
    order: Order


def factored(order: Order) -> tuple[Shape, Shape] | None:
    """``view`` and ``order`` of the ``rearrange`` that puts values in this order; None if it is no transposition."""
    axes: list[tuple[int, int]] = []
    rest = order
    while len(rest) > 1:
        stride = int(rest[1] - rest[0])
        wrong = np.flatnonzero(np.diff(rest) != stride)
        longest = int(wrong[0]) + 1 if len(wrong) else len(rest)
        length = next(
            count for count in range(longest, 0, -1)
            if len(rest) % count == 0 and (np.diff(rest.reshape(-1, count), axis=1) == stride).all()
        )  # fmt: skip
        if length == 1:
            return None
        axes.insert(0, (length, stride))
        rest = rest[::length]
    axes = axes or [(1, 1)]
    by_stride = sorted(range(len(axes)), key=lambda axis: -axes[axis][1])
    view = tuple(axes[axis][0] for axis in by_stride)
    if any(axes[axis][1] != math.prod(view[place + 1 :]) for place, axis in enumerate(by_stride)):
        return None
    return view, tuple(by_stride.index(axis) for axis in range(len(axes)))


def is_identity(order: Order) -> bool:
    """Is every value where it is in the node?"""
    return np.array_equal(order, np.arange(len(order)))


def by_columns(heads: int, rows: int, columns: int) -> Order:
    """Matrices [heads, rows, columns] in a node with a channel per column and a position per row."""
    channels = np.arange(heads * columns).reshape(heads, 1, columns)
    return (channels * rows + np.arange(rows).reshape(1, rows, 1)).reshape(-1)


def by_rows(heads: int, rows: int, columns: int) -> Order:
    """Matrices [heads, rows, columns] in a node with a channel per row and a position per column: as they are."""
    return np.arange(heads * rows * columns)


def reduction(sets: Order, shape: Shape) -> Reduction | None:
    """The ``reduce`` of a node of ``shape`` that sums the values ``sets`` [sums, values], each row ascending."""
    channels, positions = shape[0], math.prod(shape[1:])
    first, count = sets[:, 0], sets.shape[1]
    channel, place = np.divmod(first, positions)
    steps = np.arange(count)
    if len(shape) == 3 and count == positions and (sets == channel[:, None] * positions + steps).all():
        return Reduction({"axis": "positions"}, (channels, 1, 1), channel)
    if channels % count == 0 and (channel % count == 0).all() and (sets == first[:, None] + steps * positions).all():
        groups = channels // count
        return Reduction(
            {"axis": "channels", "groups": groups}, (groups, *shape[1:]), channel // count * positions + place
        )  # fmt: skip
    return None


def meets(first: Shape, second: Shape) -> Order | None:
    """Which value of the second input of ``multiply`` each of the first meets; None if it reads no such shapes."""
    if len(first) != len(second) or first[0] % second[0]:
        return None
    if any(other not in (1, side) for side, other in zip(first[1:], second[1:], strict=True)):
        return None
    places = np.arange(math.prod(second)).reshape(second).repeat(first[0] // second[0], 0)
    return np.ascontiguousarray(np.broadcast_to(places, first)).reshape(-1)
