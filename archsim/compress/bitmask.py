"""Bitmask fibers: which positions hold a value, and the values one after another.

A *fiber* is one row of A or one column of B along K. Its bitmask is stored in *chunks* of 128 bits, bit ``i`` of chunk
``c`` standing for ``k = 128 c + i``; a K that is not a multiple of 128 is padded with zeros. In memory a fiber is

    | bitmask, ceil(K / 8) bytes | pointer | values, without gaps |     padded to whole lines

(LoAS, MICRO 2024, section IV-A and Fig. 8; SparTen's SparseMap, MICRO 2019). Exact size in bits, before the padding to
lines: ``K + pointer_bits + value_bits * values``.

In numpy: ``mask`` uint64 [fibers, 2 * chunks] (two words per chunk, little end first) and ``start`` int64
[fibers, chunks + 1], the index into ``values`` of the first value of each chunk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from archsim.jit import inlined

CHUNK_BITS = 128
CHUNK_WORDS = 2


class BitmaskFibers(NamedTuple):
    """Compressed B: one fiber per column n. ``values`` int16 [non-zeros]."""

    mask: NDArray[np.uint64]
    start: NDArray[np.int64]
    values: NDArray[np.int16]


def chunks_of(k: int) -> int:
    """Number of 128-bit chunks that hold K bits."""
    return -(-k // CHUNK_BITS)


def pack_mask(present: NDArray[np.bool_]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Bitmask and value starts of ``present`` bool [fibers, K]; see the module's text for the layout."""
    fibers, k = present.shape
    chunks = chunks_of(k)
    padded = np.zeros((fibers, chunks * CHUNK_BITS), np.bool_)
    padded[:, :k] = present
    mask = np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64, copy=False)
    per_chunk = np.bitwise_count(mask).reshape(fibers, chunks, CHUNK_WORDS).sum(2, dtype=np.int64)
    ends = np.cumsum(per_chunk.ravel()).reshape(fibers, chunks)
    start = np.empty((fibers, chunks + 1), np.int64)
    start[:, 1:] = ends
    start[:, 0] = ends[:, -1] - per_chunk.sum(1)
    return np.ascontiguousarray(mask), start


def encode(weights: NDArray[Any]) -> BitmaskFibers:
    """Fibers of a weight matrix, integers [N, K]."""
    present = weights != 0
    mask, start = pack_mask(present)
    return BitmaskFibers(mask, start, weights[present].astype(np.int16))


def encode_dense(weights: NDArray[Any]) -> BitmaskFibers:
    """Fibers of a matrix, integers [N, K], that nobody has compressed: every value is there, zeros too."""
    mask, start = pack_mask(np.ones(weights.shape, np.bool_))
    return BitmaskFibers(mask, start, weights.ravel().astype(np.int16))


def decode(fibers: BitmaskFibers, k: int) -> NDArray[np.int16]:
    """The matrix int16 [N, K] that :func:`encode` compressed."""
    bits = np.unpackbits(fibers.mask.astype("<u8").view(np.uint8), axis=1, bitorder="little")[:, :k].astype(bool)
    dense = np.zeros(bits.shape, np.int16)
    dense[bits] = fibers.values
    return dense


def popcount(word: int) -> int:
    """Number of ones of an unsigned 64-bit word; one instruction when compiled."""
    return int(word).bit_count()


def lowest_one(word: int) -> int:
    """Position of the lowest one of a non-zero unsigned 64-bit word: what a priority encoder yields."""
    word = int(word)
    return (word & -word).bit_length() - 1


def highest_one(word: int) -> int:
    """Position of the highest one of a non-zero unsigned 64-bit word."""
    return int(word).bit_length() - 1


@intrinsic
def _ctpop(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@intrinsic
def _cttz(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def _ctlz(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@overload(popcount)
def _popcount_compiled(word: Any) -> Any:
    def compiled(word: Any) -> Any:
        return _ctpop(np.uint64(word))

    return compiled


@overload(lowest_one)
def _lowest_one_compiled(word: Any) -> Any:
    def compiled(word: Any) -> Any:
        return _cttz(np.uint64(word))

    return compiled


@overload(highest_one)
def _highest_one_compiled(word: Any) -> Any:
    def compiled(word: Any) -> Any:
        return 63 - _ctlz(np.uint64(word))

    return compiled


@inlined
def value_at(mask: Any, start: Any, fiber: int, word: int, bit: int) -> int:
    """Index of the value that bit ``bit`` of word ``word`` of a fiber's bitmask stands for: what a prefix-sum finds."""
    below = (np.uint64(1) << np.uint64(bit)) - np.uint64(1)
    index: int = start[fiber, word >> 1] + popcount(mask[fiber, word] & below)
    if word & 1:
        index += popcount(mask[fiber, word - 1])
    return index
