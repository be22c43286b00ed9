"""Pseudo- and correction accumulators: the arithmetic of a TPPE, exactly as it is built.

The pseudo-accumulator adds every matched weight once, as if the presynaptic neuron had fired at all T timesteps. For a
matched packed word that is not all ones, the weight is added to the correction accumulator of each timestep at which
the neuron was silent. At the end of K

    O[t] = pseudo - correction[t] = sum over k of B[k, n] A[m, k, t]

(LoAS, MICRO 2024, sections IV-B to IV-D, Figs. 9 and 10). Sums are exact; every addition that leaves the two's
complement range of the real accumulator (12 and 10 bits) is counted as an overflow. Neither the paper nor this model
says what the hardware would do then: the count tells whether the widths suffice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from archsim.compress.bitmask import lowest_one, value_at
from archsim.jit import njit

MATCHES = 0
CORRECTIONS = 1
"""Additions to correction accumulators, over all timesteps."""
DISCARDS = 2
"""Matched words that were all ones: the speculation was right."""
PSEUDO_OVERFLOWS = 3
CORRECTION_OVERFLOWS = 4
EVENTS = 5


@njit
def accumulate(spikes: Any, weights: Any, timesteps: int, pseudo_bits: int, correction_bits: int, first: int,
               sums: Any, events: Any) -> None:  # fmt: skip
    """Full sums of rows ``first`` to ``first + len(sums)``: ``sums`` int64 [rows, N, T]; ``events`` int64 [EVENTS]."""
    rows, columns, _ = sums.shape
    words = weights.mask.shape[1]
    all_ones = (1 << timesteps) - 1
    pseudo_limit = 1 << (pseudo_bits - 1)
    correction_limit = 1 << (correction_bits - 1)
    correction = np.zeros(timesteps, np.int64)
    for row in range(rows):
        m = first + row
        for n in range(columns):
            pseudo = 0
            correction[:] = 0
            for word in range(words):
                matched = spikes.mask[m, word] & weights.mask[n, word]
                while matched:
                    bit = lowest_one(matched)
                    matched &= matched - np.uint64(1)
                    weight = np.int64(weights.values[value_at(weights.mask, weights.start, n, word, bit)])
                    packed = np.int64(spikes.words[value_at(spikes.mask, spikes.start, m, word, bit)])
                    pseudo += weight
                    events[MATCHES] += 1
                    events[PSEUDO_OVERFLOWS] += int(not -pseudo_limit <= pseudo < pseudo_limit)
                    if packed == all_ones:
                        events[DISCARDS] += 1
                        continue
                    for t in range(timesteps):
                        if not (packed >> t) & 1:
                            correction[t] += weight
                            events[CORRECTIONS] += 1
                            out = not -correction_limit <= correction[t] < correction_limit
                            events[CORRECTION_OVERFLOWS] += int(out)
            for t in range(timesteps):
                sums[row, n, t] = pseudo - correction[t]


@njit
def accumulate_by_timestep(
    spikes: Any, weights: Any, timesteps: int, bits: int, first: int, sums: Any
) -> tuple[int, int]:
    """Full sums as above, by an accumulator of ``bits`` bits for each timestep, or one for all of them in turn.

    The positions at which A spikes and B is not zero are taken in order of k; each weight is added. Returns additions
    and overflows.
    """
    rows, columns, _ = sums.shape
    words = weights.mask.shape[1]
    limit = 1 << (bits - 1)
    additions = 0
    overflows = 0
    for row in range(rows):
        m = first + row
        for n in range(columns):
            for word in range(words):
                matched = spikes.mask[m, word] & weights.mask[n, word]
                while matched:
                    bit = lowest_one(matched)
                    matched &= matched - np.uint64(1)
                    weight = np.int64(weights.values[value_at(weights.mask, weights.start, n, word, bit)])
                    packed = np.int64(spikes.words[value_at(spikes.mask, spikes.start, m, word, bit)])
                    for t in range(timesteps):
                        if (packed >> t) & 1:
                            sums[row, n, t] += weight
                            additions += 1
                            overflows += int(not -limit <= sums[row, n, t] < limit)
    return additions, overflows


@njit
def multiply_accumulate(inputs: Any, weights: Any, bits: int, first: int, sums: Any) -> int:
    """Sums of products of integers, ``sums`` int64 [rows, N, 1], by an accumulator of ``bits`` bits; its overflows."""
    rows, columns, _ = sums.shape
    limit = 1 << (bits - 1)
    overflows = 0
    for row in range(rows):
        m = first + row
        for n in range(columns):
            for word in range(weights.mask.shape[1]):
                matched = inputs.mask[m, word] & weights.mask[n, word]
                while matched:
                    bit = lowest_one(matched)
                    matched &= matched - np.uint64(1)
                    weight = np.int64(weights.values[value_at(weights.mask, weights.start, n, word, bit)])
                    activation = np.int64(inputs.words[value_at(inputs.mask, inputs.start, m, word, bit)])
                    sums[row, n, 0] += weight * activation
                    overflows += int(not -limit <= sums[row, n, 0] < limit)
    return overflows


@njit
def accumulate_outer_product(a: Any, b: Any, timesteps: int, bits: int, sums: Any) -> int:
    """Full sums ``sums`` int64 [rows, N, T] in the order k, m, t, n; returns how many leave ``bits`` bits on the way.

    ``a`` and ``b`` are operands by position: packed words of the rows, weights of the columns.
    """
    limit = 1 << (bits - 1)
    overflows = 0
    for k in range(len(a.start) - 1):
        for i in range(a.start[k], a.start[k + 1]):
            m, word = a.fiber[i], a.value[i]
            for t in range(timesteps):
                if (word >> t) & 1:
                    for j in range(b.start[k], b.start[k + 1]):
                        n = b.fiber[j]
                        sums[m, n, t] += b.value[j]
                        overflows += int(not -limit <= sums[m, n, t] < limit)
    return overflows
