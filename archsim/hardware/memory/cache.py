"""Global cache: banked, set-associative, one access per bank and cycle.

A line lives in bank ``line mod banks`` and set ``(line / banks) mod sets``. A bank serves one *beat* (``width_bits``) a
cycle, first come first served; a read of b beats that is granted in cycle g leaves the array at
``g + b - 1 + access_cycles``, the bank is free again at ``g + b``. Looking up the tag is part of the first beat. With
``bank_conflicts`` off a bank and its paths serve any number of requests at once, each in one cycle, and a requester
sends all its requests at once (for comparison with models that ignore conflicts).

* **hit**: the line is present.
* **miss**: a miss register (MSHR) is taken, the line fetched from DRAM and written into the bank (it occupies the bank
  for ``line_bytes * 8 / width_bits`` beats), then delivered.
* **merged miss**: the line is already on its way; the request waits in the MSHR behind those that came before it.
* **delivery**: the MSHR has a buffer for its line. When the fill is done, in cycle t, it hands the line to those that
  wait, one after the other, the oldest first. The first is ready at its bank in t, and granted like a hit: with the
  bank and the path to its requester, for all its beats. The next is ready when these are over. The MSHR is free when
  the last are. So it does not matter whether the line is still in the cache, or was ever kept. A prefetch that waits,
  and a write of the line, are done with the fill.
* **write** (of a whole line, as partial fibers in Gamma's FiberCache): the line is made or found and becomes *dirty*;
  nothing is fetched. A dirty victim is written to DRAM by the request that displaces it, before that goes on.
* **consume**: a read after which the line is dead, dirty or not, and its way free.

Requests that wait for a line, or for an MSHR, stand in lists of pointers with one place for every request that
requesters can have under way, so that no list is ever full (in no time: *waiting list*).

Replacement. ``lru``: the least recently used way that is not being filled. ``priority`` (after Gamma's FiberCache,
which LoAS adopts): a line that the current epoch still needs is never evicted, the least recently used line of an
*earlier* epoch is; if a set holds live lines only, the new line is delivered but not kept. The epoch is the tile of
rows that the scheduler works on. Both are exact, not sampled.

Source: LoAS (MICRO 2024) Table III and section IV-D: 256 KB, 16 banks, 16-way. Line size, port width and latency are
not published; see ``hwconfigs/loas.yaml``.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.hardware.loading import Block, CrossFieldError
from archsim.jit import inlined

# What a request does to its line.
READ, WRITE, CONSUME = range(3)

HIT = 0
MISS = 1
MERGED = 2
BYPASS = 3
"""A miss whose line is not kept; of a write: the line itself goes to DRAM."""

NONE = -1
VALID = -1
"""Value of ``filling`` for a way whose line is complete."""

HINTS = 1 << 12
"""Entries of the table that remembers in which way a line was last seen: it saves the search, and changes nothing."""


class CacheConfig(Block):
    """Global cache shared by all processing elements."""

    size_kib: int = Field(ge=1, le=65536, description="capacity in KiB")
    banks: int = Field(ge=1, le=256, description="banks, each serving one access per cycle")
    ways: int = Field(ge=1, le=64, description="associativity")
    line_bytes: int = Field(ge=16, le=1024, description="bytes of a line")
    width_bits: int = Field(ge=8, le=512, description="bits that a bank delivers in a cycle")
    access_cycles: int = Field(ge=1, le=64, description="cycles from the grant of an access until data leave the bank")
    bank_conflicts: bool = Field(description="false: banks serve any number of accesses at once, each in one cycle")
    mshrs: int = Field(
        ge=1, le=1024, description="misses in flight; a machine with memory.dma has its lines_in_flight in their place"
    )
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
        whole = self.banks * self.ways * self.line_bytes
        if not problems and self.usable_bytes % whole:
            halves = 2 if self.double_buffer else 1
            # Sizes are whole KiB, too.
            step = math.lcm(whole * halves, 1024) // 1024
            below = self.size_kib // step * step
            nearest = f"{below} or {below + step}" if below else f"{step}"
            problems["size_kib"] = (
                f"{'half of it, which one layer can use,' if self.double_buffer else 'it'} must be a multiple of "
                f"banks x ways x line_bytes, {whole} bytes; nearest: {nearest}"
            )
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
            bank_shift=shift_of(self.banks),
            sets=(sets := self.usable_bytes // (self.banks * self.ways * self.line_bytes)),
            set_shift=shift_of(sets),
            ways=self.ways - self.stream_ways,
            fill_beats=self.line_bytes * 8 // self.width_bits,
            beat_bytes=self.width_bits // 8,
            access_cycles=self.access_cycles,
            conflicts=int(self.bank_conflicts),
            mshrs=self.mshrs,
            keeps_live=int(self.replacement == "priority"),
            window_shift=0,
            window_banks=self.banks,
        )


def shift_of(count: int) -> int:
    """The shift that divides by ``count``, NONE if there is none."""
    return count.bit_length() - 1 if count & (count - 1) == 0 else NONE


class CacheSpec(NamedTuple):
    """See :class:`CacheConfig`; ``sets`` per bank, ``keeps_live`` 1 for priority replacement.

    The shifts stand for divisions by ``banks`` and ``sets`` where these are powers of two, and are NONE elsewhere.
    ``window_shift`` 0: one memory. Else each ``window_banks`` of the ``banks`` belong to a window of lines
    (:mod:`archsim.hardware.memory.buffers`).
    """

    banks: int
    bank_shift: int
    sets: int
    set_shift: int
    ways: int
    fill_beats: int
    beat_bytes: int
    access_cycles: int
    conflicts: int
    mshrs: int
    keeps_live: int
    window_shift: int
    window_banks: int


class CacheState(NamedTuple):
    """``tags, epochs, stamps, filling, dirty`` int64 [banks, sets, ways]; ``clock`` int64 [banks] counts look-ups.

    A tag of NONE is empty. ``filling`` names the request that is bringing the line in, or :data:`VALID`. ``dirty`` is
    1 + the tensor of a line that DRAM does not have, else 0. ``hint`` int64 [HINTS], by the line's low bits.
    """

    tags: NDArray[np.int64]
    epochs: NDArray[np.int64]
    stamps: NDArray[np.int64]
    filling: NDArray[np.int64]
    dirty: NDArray[np.int64]
    clock: NDArray[np.int64]
    hint: NDArray[np.int64]


def empty_cache(spec: CacheSpec) -> CacheState:
    """A cache without a line."""
    shape = (spec.banks, spec.sets, spec.ways)
    return CacheState(
        np.full(shape, NONE, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.full(shape, VALID, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(spec.banks, np.int64),
        np.zeros(HINTS, np.int64),
    )


@inlined
def place_of(spec: CacheSpec, line: int) -> tuple[int, int]:
    """(bank, set) of a line."""
    if spec.window_shift > 0:
        return (line >> spec.window_shift) * spec.window_banks + line % spec.window_banks, 0
    if spec.bank_shift == NONE or spec.set_shift == NONE:
        return line % spec.banks, line // spec.banks % spec.sets
    return line & (spec.banks - 1), (line >> spec.bank_shift) & (spec.sets - 1)


@inlined
def way_of(spec: CacheSpec, state: CacheState, bank: int, index: int, line: int) -> int:
    """The way that holds ``line``, or NONE."""
    hinted: int = state.hint[line & (HINTS - 1)]
    if state.tags[bank, index, hinted] == line:
        return hinted
    for way in range(spec.ways):
        if state.tags[bank, index, way] == line:
            state.hint[line & (HINTS - 1)] = way
            return way
    return NONE


@inlined
def victim_of(spec: CacheSpec, state: CacheState, bank: int, index: int, epoch: int) -> int:
    """The way that makes room: an empty one, else the least recently used one that may be replaced, else NONE."""
    victim = NONE
    for way in range(spec.ways):
        if state.tags[bank, index, way] == NONE:
            return way
        dead = spec.keeps_live == 0 or state.epochs[bank, index, way] < epoch
        free = dead and state.filling[bank, index, way] == VALID
        if free and (victim == NONE or state.stamps[bank, index, way] < state.stamps[bank, index, victim]):
            victim = way
    return victim


@inlined
def look_up(
    spec: CacheSpec, state: CacheState, line: int, epoch: int, request: int, access: int, tensor: int
) -> tuple[int, int, int, int]:
    """Look ``line`` up for ``request`` and, on a miss, make room.

    Returns (outcome, way, line to write to DRAM or NONE, its tensor). Outcome HIT, MISS (the way is reserved; of a read
    it is marked as being filled by ``request``), MERGED (the way is being filled; ``filling`` tells by whom) or BYPASS
    (way NONE). ``access`` is READ, WRITE or CONSUME, ``tensor`` that of the line.
    """
    bank, index = place_of(spec, line)
    state.clock[bank] += 1
    way = way_of(spec, state, bank, index, line)
    if way != NONE:
        state.stamps[bank, index, way] = state.clock[bank]
        state.epochs[bank, index, way] = epoch
        if access == WRITE:
            state.dirty[bank, index, way] = tensor + 1
        if state.filling[bank, index, way] != VALID:
            return MERGED, way, NONE, 0
        if access == CONSUME:
            state.tags[bank, index, way] = NONE
            state.dirty[bank, index, way] = 0
        return HIT, way, NONE, 0
    if access != CONSUME:
        way = victim_of(spec, state, bank, index, epoch)
    if way == NONE:
        return BYPASS, NONE, line if access == WRITE else NONE, tensor
    owner = state.dirty[bank, index, way]
    displaced = state.tags[bank, index, way] if owner else NONE
    state.tags[bank, index, way] = line
    state.hint[line & (HINTS - 1)] = way
    state.stamps[bank, index, way] = state.clock[bank]
    state.epochs[bank, index, way] = epoch
    state.dirty[bank, index, way] = tensor + 1 if access == WRITE else 0
    state.filling[bank, index, way] = VALID if access == WRITE else request
    return MISS, way, displaced, owner - 1


@inlined
def fill(spec: CacheSpec, state: CacheState, line: int, way: int) -> None:
    """The line has arrived in its reserved way."""
    bank, index = place_of(spec, line)
    state.filling[bank, index, way] = VALID
