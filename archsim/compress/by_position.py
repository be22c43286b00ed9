"""Fibers turned round: all values at one position k, fiber after fiber, as the outer-product dataflow reads them.

From bitmask fibers (:mod:`archsim.compress.bitmask`), which hold the values of one fiber along k: the rows of A become
columns of A, the columns of B become rows of B. In numpy: the values at position k, in order of their fibers, are
``fiber[start[k] : start[k + 1]]`` and ``value[start[k] : start[k + 1]]``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress.bitmask import lowest_one
from archsim.jit import njit


class ByPosition(NamedTuple):
    """``start`` int64 [K + 1]; ``fiber`` and ``value`` int64 [values]."""

    start: NDArray[np.int64]
    fiber: NDArray[np.int64]
    value: NDArray[np.int64]


def by_position(mask: NDArray[np.uint64], start: NDArray[np.int64], values: NDArray[Any], k: int) -> ByPosition:
    """The fibers ``mask``, ``start`` (any slice of an operand's) with their ``values``, by position."""
    return ByPosition(*_transpose(mask, start, values, k))


def starts(fiber: NDArray[np.int64], position: NDArray[np.int64], fibers: int, k: int) -> NDArray[np.int64]:
    """Where the values of every fiber at every position begin, [fibers, k + 1], if sorted by fiber, then position."""
    ends = np.cumsum(np.bincount(fiber * k + position, minlength=fibers * k)).reshape(fibers, k)
    return np.concatenate((np.concatenate(([0], ends[:-1, -1]))[:, None], ends), axis=1)


@njit
def _transpose(mask: Any, start: Any, values: Any, k: int) -> Any:
    """Counting sort by position: count, add up, place."""
    ends = np.zeros(k + 1, np.int64)
    for fiber in range(mask.shape[0]):
        for word in range(mask.shape[1]):
            bits = mask[fiber, word]
            while bits:
                ends[64 * word + lowest_one(bits) + 1] += 1
                bits &= bits - np.uint64(1)
    for position in range(k):
        ends[position + 1] += ends[position]
    free = ends[:-1].copy()
    fibers = np.empty(ends[k], np.int64)
    found = np.empty(ends[k], np.int64)
    for fiber in range(mask.shape[0]):
        index = start[fiber, 0]
        for word in range(mask.shape[1]):
            bits = mask[fiber, word]
            while bits:
                position = 64 * word + lowest_one(bits)
                bits &= bits - np.uint64(1)
                fibers[free[position]] = fiber
                found[free[position]] = values[index]
                free[position] += 1
                index += 1
    return ends, fibers, found
