"""Coordinate fibers: where the values are, one coordinate per value (CSR, a row at a time).

A row of a matrix is the list of its non-zeros, in order, each a coordinate and a value side by side; of a matrix of
zeros and ones (spikes of one timestep) the coordinates say everything. Exact bits of a row with v non-zeros, whole
bytes apart: ``v * (coordinate_bits + value_bits)``. A coordinate below ``size`` needs ``ceil(log2 size)`` bits.

Source: Gamma (ASPLOS 2021) stores both operands so; LoAS (MICRO 2024) section V: per spike and timestep for the
baselines.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress.bitmask import BitmaskFibers
from archsim.compress.packed_time import PackedSpikes

BYTE = 8


class CoordinateFibers(NamedTuple):
    """Row r has the entries ``start[r]`` to ``start[r + 1]`` of ``coordinate`` int32 and ``value`` int16."""

    start: NDArray[np.int64]
    coordinate: NDArray[np.int32]
    value: NDArray[np.int16]


def bits_of(size: int) -> int:
    """Bits of a coordinate below ``size``, at least one."""
    return max(1, (size - 1).bit_length())


def spike_rows(spikes: PackedSpikes, timesteps: int) -> CoordinateFibers:
    """A row of ones for every (m, t), t fastest, of packed spikes."""
    row, column = _places(spikes.mask)
    fires = spikes.words[:, None] >> np.arange(timesteps, dtype=np.uint16) & 1 == 1
    word, t = np.nonzero(fires)
    fiber = row[word] * timesteps + t
    order = np.argsort(fiber, kind="stable")
    start = _starts(fiber, len(spikes.mask) * timesteps)
    return CoordinateFibers(start, column[word[order]], np.ones(len(fiber), np.int16))


def value_rows(activations: PackedSpikes) -> CoordinateFibers:
    """A row for every m of activations that are not zero."""
    row, column = _places(activations.mask)
    return CoordinateFibers(_starts(row, len(activations.mask)), column, activations.words.astype(np.int16))


def weight_rows(weights: BitmaskFibers, k: int) -> CoordinateFibers:
    """A row for every k of weights that are stored column by column."""
    n, place = _places(weights.mask)
    order = np.argsort(place, kind="stable")
    return CoordinateFibers(_starts(place, k), n[order].astype(np.int32), weights.values[order])


def _places(mask: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Row and column of every one of a bitmask, in the order of its values."""
    row, column = np.nonzero(np.unpackbits(mask.astype("<u8").view(np.uint8), axis=1, bitorder="little"))
    return row, column.astype(np.int32)


def _starts(row: NDArray[Any], rows: int) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(np.bincount(row, minlength=rows)))).astype(np.int64)
