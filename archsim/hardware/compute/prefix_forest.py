"""Prefix forests: detector, pruner and dispatcher of product sparsity, and the sums that reuse what they find.

A tile is a binary matrix of rows of spikes; a row's sum is that of the weights that its spikes select.

**Prefix** of row i: among the rows j of the tile with at least one spike, all of whose spikes row i has too, and, if
their spikes are equal (*exact match*), j < i: the one with most spikes, of several the last. What is left of row i are
the spikes that its prefix lacks. Prefixes make a forest over the rows. Issued by number of spikes, then by row (a
stable sort), every row comes behind its prefix. Searching takes one cycle per row (a TCAM finds all subsets at once),
through a pipeline of five stages. A tile of r rows is known after

    r + pipeline_cycles                                                     search: every_row
    rows with several spikes + ceil(r / popcounts) + pipeline_cycles        search: several_spikes

(where rows of one spike have no prefix: all they could save is an addition in the cycle that they take anyway), and is
then added up in

    sum over rows of max(1, cycles_per_row + cycles_per_spike x spikes left)

with 0 and 1 where a row is written in the cycle of its last addition: an exact match then still takes the cycle in
which it is written. An empty row takes none, unless ``rows: all`` issues it like others.

Hand-traced example (six rows of four columns): 1010, 1001, 1011, 0010, 1101, 1101 have 14
spikes. Row 3 (0010) has no prefix: 1 is left. Row 0 begins with row 3: 1 left. Row 1: none, 2 left. Row 2 could begin
with rows 0, 1 or 3; rows 0 and 1 have most spikes, and row 1 is the last of them: 1 left. Row 4 begins with row 1: 1
left. Row 5 equals row 4: 0 left, one cycle. So 6 additions in 7 cycles.

Source: Prosperity (HPCA 2025), from the authors' public simulator; what is assumed in DEVIATIONS.md.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from archsim.compress.bitmask import lowest_one, popcount
from archsim.hardware.loading import Block
from archsim.jit import inlined, njit

PATTERN_BITS = 64
"""Bits of a pattern, the most columns of a tile."""

EVERY_ROW = 0
"""The place of ``every_row`` among the words of ``search``."""


class DetectorConfig(Block):
    """Detector and pruner: one row per cycle."""

    search: Literal["every_row", "several_spikes"] = Field(
        description="rows that are searched: all, or those with two spikes or more"
    )
    popcounts: int = Field(ge=1, le=4096, description="rows whose spikes are counted in a cycle, ahead of a choice")
    pipeline_cycles: int = Field(ge=0, le=64, description="cycles of a tile beside one per row")
    tables: int = Field(ge=1, le=16, description="tiles whose prefixes are held, with those being added up")

    @property
    def least(self) -> int:
        """Fewest spikes of a row that is searched."""
        return 0 if self.search == "every_row" else 2


class DispatcherConfig(Block):
    """Dispatcher, and the processor that takes its rows one after the other."""

    rows: Literal["with_spikes", "all"] = Field(description="rows that are issued")
    cycles_per_row: int = Field(ge=0, le=64, description="cycles of a row beside its spikes; a row takes at least one")
    cycles_per_spike: int = Field(ge=1, le=64, description="cycles of each spike that is left of a row")


@inlined
def search_cycles(detector: Any, rows: int, searched: int) -> int:
    """Cycles until the prefixes of a tile of ``rows`` rows are known, ``searched`` of which are searched."""
    counted = 0 if detector.search == EVERY_ROW else (rows + detector.popcounts - 1) // detector.popcounts
    return searched + counted + detector.pipeline_cycles


@njit
def spike_patterns(inputs: Any, first: int, timesteps: int, tile_k: int, patterns: Any) -> None:
    """Spikes of rows ``first`` on, in tiles of K: ``patterns`` uint64 [tiles of K, rows * T], row (m, t) at m * T + t,
    zeros at first; bit i of a pattern is the tile's column i."""
    for row in range(patterns.shape[1] // timesteps):
        m = first + row
        value = inputs.start[m, 0]
        for word in range(inputs.mask.shape[1]):
            present = inputs.mask[m, word]
            while present:
                k = 64 * word + lowest_one(present)
                present &= present - np.uint64(1)
                packed = np.int64(inputs.words[value])
                value += 1
                for t in range(timesteps):
                    if (packed >> t) & 1:
                        patterns[k // tile_k, row * timesteps + t] |= np.uint64(1) << np.uint64(k % tile_k)


@njit
def find_prefixes(rows: Any, ones: Any, least: int, prefix: Any) -> None:
    """The prefix int64 of every row of a tile, -1 for none: ``rows`` uint64, ``ones`` their spikes; rows of fewer than
    ``least`` spikes are not searched."""
    for i in range(len(rows)):
        prefix[i] = -1
        if ones[i] < least:
            continue
        lacking = ~rows[i]
        most = 1
        for j in range(len(rows)):
            if rows[j] & lacking == 0 and ones[j] >= most and (ones[j] < ones[i] or j < i):
                prefix[i] = j
                most = ones[j]


# Columns of a tile's work.
SPIKES, LEFT, CYCLES, ISSUED, PREFIXED, SEARCHED = range(6)
WORK_COLUMNS = 6


@inlined
def most_rows(bounds: Any) -> int:
    """Rows of the largest tile; a tile goes from one of ``bounds`` to the next."""
    most = 0
    for tile in range(len(bounds) - 1):
        most = max(most, bounds[tile + 1] - bounds[tile])
    return most


@njit
def tile_work(
    patterns: Any, bounds: Any, least: int, all_rows: bool, cycles_per_row: int, cycles_per_spike: int, work: Any
) -> None:
    """What every tile takes: ``work`` int64 [tiles of rows, tiles of K, WORK_COLUMNS], zeros at first. A tile of rows
    goes from one of ``bounds`` int64 [tiles + 1] to the next.

    Its spikes, the spikes left to add, the cycles for that, and its rows that are issued, have a prefix, or are
    searched.
    """
    most = most_rows(bounds)
    prefix = np.zeros(most, np.int64)
    ones = np.zeros(most, np.int64)
    for tile in range(work.shape[0]):
        for column in range(work.shape[1]):
            rows = patterns[column, bounds[tile] : bounds[tile + 1]]
            for i in range(len(rows)):
                ones[i] = popcount(rows[i])
            find_prefixes(rows, ones, least, prefix)
            for i in range(len(rows)):
                left = ones[i] - (ones[prefix[i]] if prefix[i] >= 0 else 0)
                work[tile, column, SPIKES] += ones[i]
                work[tile, column, LEFT] += left
                if all_rows or ones[i] > 0:
                    work[tile, column, CYCLES] += max(1, cycles_per_row + cycles_per_spike * left)
                    work[tile, column, ISSUED] += 1
                work[tile, column, PREFIXED] += int(prefix[i] >= 0)
                work[tile, column, SEARCHED] += int(ones[i] >= least)


@njit
def sort_by_spikes(ones: Any, order: Any) -> None:
    """Put the numbers of rows with ``ones`` spikes in ``order``, fewest spikes first, of equals the first row first."""
    place = 0
    for spikes in range(PATTERN_BITS + 1):
        for i in range(len(ones)):
            if ones[i] == spikes:
                order[place] = i
                place += 1


# What accumulate counts.
BIT_SPARSE, PRODUCT_SPARSE, EXACT_MATCHES, PARTIAL_MATCHES, OVERFLOWS = range(5)
EVENTS = ("spikes", "spikes_left", "exact_match_rows", "partial_match_rows", "accumulator_overflows")


@njit
def reuse(patterns: Any, weights: Any, timesteps: int, bounds: Any, tile_k: int, least: int, bits: int, skip: int,
          sums: Any, events: Any) -> None:  # fmt: skip
    """Sums of all rows of ``patterns``, tile by tile, between ``bounds`` as of :func:`tile_work`; the first ``skip``
    positions are computed but not kept.

    ``weights`` int16 [K, N]; ``sums`` int64 [positions kept, N, T], zeros at first; ``events`` int64. In every tile the
    rows are taken by number of spikes; the partial sum of a row begins as that of its prefix, the weights of what is
    left are added, and the result goes on top of the row's sum of earlier tiles of K.
    """
    kept, columns, _ = sums.shape
    limit = 1 << (bits - 1)
    most = most_rows(bounds)
    partial = np.zeros((most, columns), np.int64)
    prefix = np.zeros(most, np.int64)
    ones = np.zeros(most, np.int64)
    order = np.zeros(most, np.int64)
    for tile in range(len(bounds) - 1):
        base = bounds[tile]
        for column in range(patterns.shape[0]):
            rows = patterns[column, base : bounds[tile + 1]]
            for i in range(len(rows)):
                ones[i] = popcount(rows[i])
            find_prefixes(rows, ones, least, prefix)
            sort_by_spikes(ones[: len(rows)], order)
            for i in order[: len(rows)]:
                if ones[i] == 0:
                    continue
                left = rows[i]
                if prefix[i] >= 0:
                    left ^= rows[prefix[i]]
                    for n in range(columns):
                        partial[i, n] = partial[prefix[i], n]
                else:
                    for n in range(columns):
                        partial[i, n] = 0
                position = (base + i) // timesteps - skip
                keep = 0 <= position < kept
                if keep:
                    events[BIT_SPARSE] += ones[i]
                    events[PRODUCT_SPARSE] += popcount(left)
                    events[EXACT_MATCHES] += int(left == 0)
                    events[PARTIAL_MATCHES] += int(prefix[i] >= 0 and left != 0)
                while left:
                    k = column * tile_k + lowest_one(left)
                    left &= left - np.uint64(1)
                    for n in range(columns):
                        partial[i, n] += weights[k, n]
                if keep:
                    t = (base + i) % timesteps
                    for n in range(columns):
                        sums[position, n, t] += partial[i, n]
                        events[OVERFLOWS] += int(not -limit <= sums[position, n, t] < limit)
