"""Rows of A as machines with the inner-product dataflow store them: compressed or raw, unrolled or as feature map.

A row lies in ``taps`` fibers, one after the other. Unrolled rows (im2col before they are stored) have one fiber of
their own. Rows that are unrolled on the way from the cache have one fiber for each position of the kernel, which they
share with other rows: the fiber of an input position, all its channels; padding has none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress import bitmask, packed_time
from archsim.compress.bitmask import CHUNK_BITS, chunks_of
from archsim.dataflow.layer import Layer


class Rows(NamedTuple):
    """A as the machine stores it, and B, compressed, in the same order of K.

    ``fiber`` int64 [M, taps] names the fibers of a row, -1 for padding. A fiber begins with ``mask_bytes`` of bitmask,
    in which those of a timestep are ``pass_chunks`` chunks behind those of the one before (0: one bitmask for all);
    ``start[f, c]`` is the first word of chunk c of fiber f. ``raw``: spikes as they are, whose bits count as data, not
    as a bitmask.
    """

    fiber: NDArray[np.int64]
    mask_bytes: int
    pass_chunks: int
    mask: NDArray[np.uint64]
    start: NDArray[np.int64]
    weights: bitmask.BitmaskFibers
    raw: bool = False


def rows_of(layer: Layer, unrolled: str) -> tuple[Rows, NDArray[np.uint16]]:
    """A as ``format.unrolled`` says that it is stored, and its words.

    Stored unrolled, a row is one fiber (im2col before A is stored). Unrolled on the fly, each input position is a fiber
    and a row is those below its kernel; K is then in the order (kernel position, channel), channels padded to chunks.
    """
    feature_map = layer.feature_map
    if unrolled == "stored" or feature_map is None:
        fiber = np.arange(layer.m)[:, None]
        inputs = layer.inputs
        return Rows(fiber, -(-layer.k // 8), 0, inputs.mask, inputs.start, layer.weights), inputs.words
    images, channels, height, width = feature_map.words.shape
    positions = packed_time.encode(np.moveaxis(feature_map.words, 1, -1).reshape(-1, channels))
    numbers = np.arange(1, images * height * width + 1).reshape(images, 1, height, width)
    fiber = feature_map.window.unroll(numbers) - 1
    taps, padded_channels = fiber.shape[1], chunks_of(channels) * CHUNK_BITS
    b = np.zeros((layer.n, taps, padded_channels), np.int16)
    b[:, :, :channels] = bitmask.decode(layer.weights, layer.k).reshape(layer.n, channels, taps).transpose(0, 2, 1)
    weights = bitmask.encode(b.reshape(layer.n, -1))
    return Rows(fiber, -(-channels // 8), 0, positions.mask, positions.start, weights), positions.words


def timestep_rows(layer: Layer, unrolled: str) -> Rows:
    """Raw spikes, timestep after timestep: the spike train of a timestep is its own bitmask, without words."""
    stored, words = rows_of(layer, unrolled)
    ones = np.flatnonzero(np.unpackbits(stored.mask.view(np.uint8), bitorder="little"))
    planes = []
    for t in range(layer.timesteps):
        bits = np.zeros(stored.mask.size * 64, np.uint8)
        bits[ones] = words >> np.uint16(t) & np.uint16(1)
        planes.append(np.packbits(bits, bitorder="little").view("<u8").astype(np.uint64).reshape(stored.mask.shape))
    mask = np.ascontiguousarray(np.concatenate(planes, axis=1))
    start = np.zeros((len(mask), mask.shape[1] // 2 + 1), np.int64)
    # Every timestep begins with a chunk.
    mask_bytes = stored.mask_bytes if layer.timesteps == 1 else mask.shape[1] * 8
    pass_chunks = stored.mask.shape[1] // 2
    return stored._replace(mask=mask, start=start, mask_bytes=mask_bytes, pass_chunks=pass_chunks, raw=True)


def raw_rows(layer: Layer, unrolled: str) -> Rows:
    """Raw spikes, the timesteps of an input side by side: a word for every input, silent or not, and no bitmask.

    The PEs find the non-silent inputs themselves (an OR of the word's bits), so ``mask`` is known, but not stored.
    """
    stored, _ = rows_of(layer, unrolled)
    inputs = layer.k if stored.fiber.shape[1] == 1 or layer.feature_map is None else layer.feature_map.words.shape[1]
    start = np.minimum(np.arange(stored.mask.shape[1] // 2 + 1) * CHUNK_BITS, inputs)
    return stored._replace(mask_bytes=0, start=np.tile(start, (len(stored.mask), 1)), raw=True)
