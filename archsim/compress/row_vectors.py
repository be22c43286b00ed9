"""Non-zero row vectors (NRV): spikes of P neighbouring positions side by side, of one timestep.

The spikes of a timestep are a matrix of inputs k and output positions; a *submatrix* is P of its positions. Row k of a
submatrix is a vector of P bits. Vectors without a spike are left out, anew for every timestep; the others are stored
with their k, in order. Exact bits of v of them: ``v (coordinate_bits + P)``.

Source: GustavSNN (HPCA 2026, section IV-D), as public notes and a public model describe it; the paper was not read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress.bitmask import lowest_one
from archsim.compress.packed_time import PackedSpikes
from archsim.jit import njit


class RowVectors(NamedTuple):
    """How many ``vectors`` are stored and how many ``spikes`` are in them: int64 [submatrices, T, pieces of K]."""

    vectors: NDArray[np.int64]
    spikes: NDArray[np.int64]


def row_vectors(spikes: PackedSpikes, k: int, timesteps: int, window: int, piece: int) -> RowVectors:
    """Of the rows of A, ``window`` positions a submatrix; pieces have ``piece`` inputs each."""
    shape = (-(-len(spikes.mask) // window), timesteps, -(-k // piece))
    found = RowVectors(np.zeros(shape, np.int64), np.zeros(shape, np.int64))
    _count(spikes.mask, spikes.start, spikes.words, window, piece, np.zeros(k, np.int64), found)
    return found


@njit
def _count(mask: Any, start: Any, words: Any, window: int, piece: int, fires: Any, found: Any) -> None:
    """``fires`` int64 [K] are zeros: when any position of a submatrix spikes, as the words of the positions."""
    timesteps = found.vectors.shape[1]
    for submatrix in range(found.vectors.shape[0]):
        for position in range(submatrix * window, min((submatrix + 1) * window, len(mask))):
            place = start[position, 0]
            for number in range(mask.shape[1]):
                bits = mask[position, number]
                while bits:
                    k = 64 * number + lowest_one(bits)
                    bits &= bits - np.uint64(1)
                    fires[k] |= np.int64(words[place])
                    for t in range(timesteps):
                        found.spikes[submatrix, t, k // piece] += (words[place] >> t) & 1
                    place += 1
        for k in range(len(fires)):
            for t in range(timesteps):
                found.vectors[submatrix, t, k // piece] += (fires[k] >> t) & 1
            fires[k] = 0
