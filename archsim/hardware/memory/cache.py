"""Global cache: banked, set-associative, one access a bank and cycle.

A line lives in bank ``line mod banks`` and set ``(line / banks) mod sets``. A bank serves one *beat* (``width_bits``) a
cycle, first come first served; a read of b beats that is granted in cycle g is done at ``g + b - 1 + hit_cycles``
(switch traversal and array access), the bank is free again at ``g + b``. Looking up the tag is part of the first beat.

* **hit**: the line is present.
* **miss**: a miss register (MSHR) is taken, the line fetched from DRAM and written into the bank (it occupies the bank
  for ``line_bytes * 8 / width_bits`` beats), then delivered.
* **merged miss**: the line is already on its way; the request is done when that fill is.

Replacement. ``lru``: the least recently used way that is not being filled. ``priority`` (after Gamma's FiberCache,
which LoAS adopts): a line that the current epoch still needs is never evicted, the least recently used line of an
*earlier* epoch is; if a set holds live lines only, the new line is delivered but not kept. The epoch is the tile of
rows that the scheduler works on. Both are exact, not sampled.

Source: LoAS (MICRO 2024) Table III and section IV-D: 256 KB, 16 banks, 16-way. Line size, port width and latency are
not published; see ``hwconfigs/loas.yaml``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.hardware.loading import Block, CrossFieldError
from archsim.jit import inlined

HIT = 0
MISS = 1
MERGED = 2
BYPASS = 3
"""A miss whose line is not kept."""

VALID = -1
"""Value of ``filling`` for a way whose line is complete."""


class CacheConfig(Block):
    """Global cache shared by all processing elements."""

    size_kib: int = Field(ge=1, le=65536, description="capacity in KiB")
    banks: int = Field(ge=1, le=256, description="banks, each serving one access a cycle")
    ways: int = Field(ge=1, le=64, description="associativity")
    line_bytes: int = Field(ge=16, le=1024, description="bytes of a line")
    width_bits: int = Field(ge=8, le=512, description="bits that a bank delivers in a cycle")
    hit_cycles: int = Field(ge=1, le=64, description="cycles from the grant of an access to its data")
    mshrs: int = Field(ge=1, le=1024, description="misses in flight")
    replacement: Literal["priority", "lru"] = Field(description="which line makes room")
    double_buffer: bool = Field(description="true: one half is filled while the other works, so half is usable")
    stream_ways: int = Field(ge=0, le=63, description="ways kept for streamed fibers of B and for outputs")

    @model_validator(mode="after")
    def _whole_sets(self) -> CacheConfig:
        problems = {}
        if self.line_bytes & (self.line_bytes - 1):
            problems["line_bytes"] = "must be a power of two"
        elif self.line_bytes * 8 % self.width_bits:
            problems["line_bytes"] = "must be a whole number of accesses of width_bits"
        if self.stream_ways >= self.ways:
            problems["stream_ways"] = "must leave at least one of the ways to the cache"
        if not problems and self.usable_bytes % (self.banks * self.ways * self.line_bytes):
            problems["size_kib"] = "the usable capacity must be a multiple of banks x ways x line_bytes"
        if problems:
            raise CrossFieldError(problems)
        return self

    @property
    def usable_bytes(self) -> int:
        """Capacity that one layer can use."""
        return self.size_kib * 1024 // (2 if self.double_buffer else 1)

    def resolve(self) -> CacheSpec:
        """The integers that the kernels see."""
        return CacheSpec(
            banks=self.banks,
            sets=self.usable_bytes // (self.banks * self.ways * self.line_bytes),
            ways=self.ways - self.stream_ways,
            fill_beats=self.line_bytes * 8 // self.width_bits,
            beat_bytes=self.width_bits // 8,
            hit_cycles=self.hit_cycles,
            mshrs=self.mshrs,
            keeps_live=int(self.replacement == "priority"),
        )


class CacheSpec(NamedTuple):
    """See :class:`CacheConfig`; ``sets`` per bank, ``keeps_live`` 1 for priority replacement."""

    banks: int
    sets: int
    ways: int
    fill_beats: int
    beat_bytes: int
    hit_cycles: int
    mshrs: int
    keeps_live: int


class CacheState(NamedTuple):
    """``tags, epochs, stamps, filling`` int64 [banks, sets, ways]; ``clock`` int64 [banks] counts look-ups.

    A tag of -1 is empty. ``filling`` names the request that is bringing the line in, or :data:`VALID`.
    """

    tags: NDArray[np.int64]
    epochs: NDArray[np.int64]
    stamps: NDArray[np.int64]
    filling: NDArray[np.int64]
    clock: NDArray[np.int64]


def empty_cache(spec: CacheSpec) -> CacheState:
    """A cache without a line."""
    shape = (spec.banks, spec.sets, spec.ways)
    return CacheState(
        np.full(shape, -1, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.full(shape, VALID, np.int64),
        np.zeros(spec.banks, np.int64),
    )


@inlined
def look_up(spec: CacheSpec, state: CacheState, line: int, epoch: int, request: int) -> tuple[int, int]:
    """Look ``line`` up for ``request`` and, on a miss, make room: (outcome, way).

    Outcome HIT, MISS (the way is reserved and marked as being filled by ``request``), MERGED (the way is being filled;
    ``filling`` tells by whom) or BYPASS (way -1).
    """
    bank = line % spec.banks
    index = line // spec.banks % spec.sets
    tags = state.tags[bank, index]
    stamps = state.stamps[bank, index]
    filling = state.filling[bank, index]
    state.clock[bank] += 1
    for way in range(spec.ways):
        if tags[way] == line:
            stamps[way] = state.clock[bank]
            state.epochs[bank, index, way] = epoch
            return (HIT if filling[way] == VALID else MERGED), way
    victim = -1
    for way in range(spec.ways):
        if tags[way] == -1:
            victim = way
            break
        dead = state.epochs[bank, index, way] < epoch
        if filling[way] == VALID and (dead or spec.keeps_live == 0) and (victim == -1 or stamps[way] < stamps[victim]):
            victim = way
    if victim == -1:
        return BYPASS, -1
    tags[victim] = line
    stamps[victim] = state.clock[bank]
    state.epochs[bank, index, victim] = epoch
    filling[victim] = request
    return MISS, victim


@inlined
def fill(spec: CacheSpec, state: CacheState, line: int, way: int) -> None:
    """The line has arrived in its reserved way."""
    state.filling[line % spec.banks, line // spec.banks % spec.sets, way] = VALID
