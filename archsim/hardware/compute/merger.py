"""Merger of a Gustavson PE: many fibers in, one out, in order of their coordinates.

A tree of comparators of ``radix`` ways brings up to R fibers together, one entry per cycle; entries of the same
coordinate leave it one after the other and the accumulate stage behind it adds them up. A *pass* over the entries of
its fibers takes

    entries + overhead * fibers + ceil(log2 R)      cycles,

with the overhead of loading a way and the latency of the tree. A row with s inputs, s > R, takes several passes: an
input that is the result of an earlier pass is a *partial fiber*. Inputs wait in a queue, the s fibers first; a pass
takes from its front, its result goes to the end, and the first pass takes 2 + (s - 2) mod (R - 1), so that all later
ones are full: ceil((s - 1) / (R - 1)) passes, the fewest possible (an R-ary Huffman tree of equal weights).

``dense_row`` stands in for the merger where a row of sums is held whole and indexed by coordinate: the passes are then
no more than groups of R fibers, nothing is partial, the tree's latency is gone.

Source: Gamma (ASPLOS 2021): radix-64 mergers, one entry per cycle, trees of tasks with partial output fibers; as LoAS
(MICRO 2024, section V) builds it for comparison, multipliers removed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from archsim.jit import inlined, njit


@inlined
def merge_cycles(entries: int, fibers: int, overhead: int, latency: int) -> int:
    """Cycles of a pass, or of a part of it, for which ``latency`` is zero but at the end."""
    return entries + overhead * fibers + latency


@inlined
def ways_of(left: int, radix: int, dense: int) -> int:
    """Inputs of the next pass where ``left`` wait."""
    if left <= radix:
        return left
    return radix if dense else 2 + (left - 2) % (radix - 1)


@inlined
def passes_of(inputs: int, radix: int, dense: int) -> int:
    """Passes that a row of ``inputs`` fibers takes; a row without inputs takes one."""
    if dense:
        return max(1, -(-inputs // radix))
    return max(1, -(-(inputs - 1) // (radix - 1)))


@inlined
def _merge_row(a: Any, b: Any, row: int, radix: int, dense: int, bits: int, sums: Any, present: Any,
               end: Any, out: Any, first_pass: int) -> int:  # fmt: skip
    """Row ``row`` of A times B, pass by pass: results in ``sums``, ``present`` [pass, N]; returns overflows.

    Of pass q, counted from ``first_pass``, ``end[q]`` is the number of inputs taken until its end and ``out[q]`` the
    entries of its result. The last pass has the row; of a dense row all passes work in place 0.
    """
    spikes = a.start[row + 1] - a.start[row]
    columns = sums.shape[1]
    limit = 1 << (bits - 1)
    inputs, taken, passes, overflows = spikes, 0, 0, 0
    while passes == 0 or taken < inputs:
        place = 0 if dense else passes
        if passes == 0 or not dense:
            for n in range(columns):
                sums[place, n] = 0
                present[place, n] = dense
        left = inputs - taken
        ways = ways_of(left, radix, dense)
        for i in range(taken, taken + ways):
            if i < spikes:
                entry = a.start[row] + i
                k, factor = a.coordinate[entry], np.int64(a.value[entry])
                for j in range(b.start[k], b.start[k + 1]):
                    n = b.coordinate[j]
                    sums[place, n] += factor * b.value[j]
                    present[place, n] = 1
                    overflows += int(not -limit <= sums[place, n] < limit)
            else:
                for n in range(columns):
                    if present[i - spikes, n]:
                        sums[place, n] += sums[i - spikes, n]
                        present[place, n] = 1
                        overflows += int(not -limit <= sums[place, n] < limit)
        taken += ways
        if ways < left and not dense:
            inputs += 1
        entries = 0
        if taken == inputs or not dense:
            for n in range(columns):
                entries += int(present[place, n])
        end[first_pass + passes] = taken
        out[first_pass + passes] = entries
        passes += 1
    return overflows


@njit
def merge_rows(a: Any, b: Any, radix: int, dense: int, bits: int, most_passes: int, sums: Any) -> int:
    """Sums of A times B into ``sums`` int64 [rows, N, T], T rows of A each; returns overflows of ``bits`` bits."""
    rows, columns, timesteps = sums.shape
    partial = np.zeros((most_passes, columns), np.int64)
    present = np.zeros((most_passes, columns), np.uint8)
    end = np.zeros(most_passes, np.int64)
    out = np.zeros(most_passes, np.int64)
    overflows = 0
    for row in range(rows):
        for t in range(timesteps):
            task = row * timesteps + t
            overflows += _merge_row(a, b, task, radix, dense, bits, partial, present, end, out, 0)
            last = 0 if dense else passes_of(a.start[task + 1] - a.start[task], radix, dense) - 1
            for n in range(columns):
                sums[row, n, t] = partial[last, n]
    return overflows


@njit
def plan_passes(a: Any, b: Any, radix: int, dense: int, columns: int, most_passes: int, first_pass: Any, end: Any,
                out: Any) -> None:  # fmt: skip
    """``end`` and ``out`` of all passes (see ``_merge_row``); those of row r begin at ``first_pass[r]``."""
    partial = np.zeros((most_passes, columns), np.int64)
    present = np.zeros((most_passes, columns), np.uint8)
    for row in range(len(first_pass) - 1):
        _merge_row(a, b, row, radix, dense, 63, partial, present, end, out, first_pass[row])
