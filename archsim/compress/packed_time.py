"""FTP compression of spikes: one bit per neuron says whether it ever fires, T bits say when.

The rows of A (one per output position) are bitmask fibers (:mod:`archsim.compress.bitmask`) whose values are *packed
words*: the T spikes of a presynaptic neuron, timestep t in bit t, for the neurons that fire at least once. A silent
neuron costs one bit instead of T (LoAS, MICRO 2024, section IV-A). Exact bits of a row:
``K + pointer_bits + T * (1 - s) * K`` with s the share of silent neurons, so it pays off for ``s > 1 / T``.

Convolutions are unrolled first (im2col, :mod:`archsim.trace.window`); zero padding counts as silent neurons.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress.bitmask import pack_mask


class PackedSpikes(NamedTuple):
    """Compressed A: ``mask`` and ``start`` as in :mod:`archsim.compress.bitmask`; ``words`` uint16 [non-silent]."""

    mask: NDArray[np.uint64]
    start: NDArray[np.int64]
    words: NDArray[np.uint16]


def pack_timesteps(spikes: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """The T spikes of every neuron in one word: ``spikes`` bool [T, ...] gives uint16 [...], T at most 16."""
    words = np.zeros(spikes.shape[1:], np.uint16)
    for t, plane in enumerate(spikes):
        words |= plane.astype(np.uint16) << np.uint16(t)
    return words


def encode(matrix: NDArray[np.uint16]) -> PackedSpikes:
    """Fibers of packed words [M, K]."""
    present = matrix != 0
    mask, start = pack_mask(present)
    return PackedSpikes(mask, start, matrix[present])


def decode(spikes: PackedSpikes, k: int) -> NDArray[np.uint16]:
    """The matrix [M, K] that :func:`encode` compressed."""
    bits = np.unpackbits(spikes.mask.astype("<u8").view(np.uint8), axis=1, bitorder="little")[:, :k].astype(bool)
    dense = np.zeros(bits.shape, np.uint16)
    dense[bits] = spikes.words
    return dense
