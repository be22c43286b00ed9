"""PEs for first spikes: sums of weights and of weighted times that go on by one product per spike, no division.

A PE is a neuron of :mod:`archsim.trace.first_spikes` with threshold h. It has two registers, W and Y:

    W    = sum of the weights that have arrived, minus h
    Y[t] = W E[t] - A = (sum w - h) E[t] - sum w E       at first -h E[0]

The neuron fires where ``Y >= 0``. For z = sum w z / (sum w - 1) that is ``z <= E[t]`` without the quotient: prefix sums
of w and of w z, compared in the form of products, of which the difference of two exponentials leaves one. Spikes come
sorted by time. With one at tick t a PE does, t' being the tick of the spike before it,

    Y += W (E[t] - E[t'])
    W += w                     if Y is still below 0

in a cycle. Otherwise the neuron has fired at one of the ticks t' + 1 to t. Their exponentials come one per cycle until
every PE that crossed has found its own (a *scan*). Behind the last spike PEs look at the last tick, in one more cycle.
Where several spikes are at one tick, or nothing has arrived, Y does not change.

Source: the closed form of networks with first spikes (Frontiers in Neuroscience 18, 2024); the PE is ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.jit import njit

NONE, ALL, FIRST = range(3)
"""What ends a visit before its last spike: nothing, that all neurons have fired, or that the first one has."""


class Fired(NamedTuple):
    """What the PEs find: ticks [M, N] (T where there is none), of every visit the spikes that it takes, and the cycles
    beside them behind each of these spikes. ``looks`` [2] are ticks that are looked at in scans or as the last one, and
    the products that PEs make for them."""

    ticks: NDArray[np.int64]
    spikes: NDArray[np.int64]
    after: NDArray[np.int16]
    looks: NDArray[np.int64]
    overflows: NDArray[np.int64]


@njit
def sort_rows(words: Any, taps: Any, timesteps: int, first: Any, weight_row: Any, ticks: Any) -> None:
    """Spikes of all rows of ``taps`` by tick, then list, then channel: ``words`` are ticks + 1, or 0. ``first`` says
    where each row begins."""
    channels = words.shape[1]
    place = np.zeros(timesteps + 1, np.int64)
    for row in range(len(taps)):
        place[:] = 0
        for count in (True, False):
            for tap in range(taps.shape[1]):
                position = taps[row, tap]
                if position < 0:
                    continue
                for channel in range(channels):
                    word = words[position, channel]
                    if word == 0:
                        continue
                    if count:
                        place[word] += 1
                    else:
                        at = place[word - 1]
                        place[word - 1] += 1
                        weight_row[at] = tap * channels + channel
                        ticks[at] = word - 1
            if count:
                place[0] = first[row]
                for tick in range(timesteps):
                    place[tick + 1] += place[tick]


@njit
def fire_visits(
    first: Any, weight_row: Any, ticks: Any, weights: Any, threshold: Any, table: Any, pes: int, stop: int, bits: Any,
    found: Any, used: Any, after: Any, looks: Any, overflows: Any,
) -> None:  # fmt: skip
    """Run every visit; fills ``found`` [M, N], ``used`` [visits], ``after`` [tiles, spikes], ``looks`` [2], and
    ``overflows`` [2] of W and of Y."""
    rows, channels = found.shape
    last = len(table) - 1
    total, potential = np.zeros(pes, np.int64), np.zeros(pes, np.int64)
    for tile in range((channels + pes - 1) // pes):
        begin = tile * pes
        width = min(pes, channels - begin)
        for row in range(rows):
            for n in range(width):
                total[n] = -threshold[begin + n]
                potential[n] = total[n] * table[0]
            left, before, spike, ends = width, 0, first[row], False
            while not ends:
                behind = spike == first[row + 1]
                tick = last if behind else ticks[spike]
                step, longest, earliest = table[tick] - table[before], 0, last + 1
                for n in range(width):
                    if found[row, begin + n] > last:
                        grown = potential[n] + total[n] * step
                        if grown >= 0:
                            at = before
                            while potential[n] + total[n] * (table[at] - table[before]) < 0:
                                at += 1
                            found[row, begin + n] = at
                            longest, earliest, left = max(longest, at - before), min(earliest, at), left - 1
                        overflows[1] += int(grown >= 1 << (bits[1] - 1) or grown < -(1 << (bits[1] - 1)))
                        potential[n] = grown
                if earliest <= last:
                    if stop == FIRST:
                        longest = earliest - before
                        for n in range(width):
                            if found[row, begin + n] > earliest:
                                found[row, begin + n] = last + 1
                    after[tile, spike - 1] += longest  # nothing fires before the first spike
                    looks[0] += longest
                    looks[1] += longest * width
                ends = behind or (earliest <= last and (stop == FIRST or (stop == ALL and left == 0)))
                if behind and spike > first[row]:
                    after[tile, spike - 1] += 1
                    looks[0] += 1
                    looks[1] += width
                if not ends:
                    for n in range(width):
                        total[n] += weights[weight_row[spike], begin + n]
                        overflows[0] += int(total[n] >= 1 << (bits[0] - 1) or total[n] < -(1 << (bits[0] - 1)))
                    before, spike = tick, spike + 1
            used[tile * rows + row] = spike - first[row]
