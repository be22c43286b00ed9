"""Which neurons a core has, and where on the mesh it is: the mapping of a network, a step of its own.

in_order      layer after layer, every core full (of neurons, or of synapses) before the next is taken
neurons       all cores are used; a layer has as many as its share of the neurons, equally full
operations    the same by synaptic operations, within layers too
traffic       cores as in_order, their places by simulated annealing: messages times links is least

Operations and messages are counted over images that stand for those to come, ``scheduler.calibration``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Mapped(NamedTuple):
    """The neurons of a layer: those from ``ends[p]`` up to ``ends[p + 1]`` are in core ``cores[p]``."""

    ends: tuple[int, ...]
    cores: tuple[int, ...]


def in_order(sizes: Sequence[int], rooms: Sequence[int]) -> list[list[int]]:
    """Ends of the parts of each layer of ``sizes`` neurons; a core has room for as many as ``rooms`` says."""
    return [[*range(0, size, room), size] for size, room in zip(sizes, rooms, strict=True)]


Fits = Callable[[int, int], bool]
"""Whether a core takes the neurons of a layer from the first number on up to the second; if so, also fewer of them."""


def balanced(
    loads: Sequence[NDArray[np.float64]], rooms: Sequence[int], fits: Sequence[Fits], cores: int
) -> list[list[int]]:
    """Ends of the parts of each layer, of which every neuron has a load, on as many of ``cores`` cores as there is work
    for: the layer with the most load per core gets the next one. Every part ``fits``, as those do that :func:`in_order`
    makes."""
    counts = [-(-len(load) // room) for load, room in zip(loads, rooms, strict=True)]
    totals = [load.sum() for load in loads]
    for _ in range(cores - sum(counts)):
        open_ones = [layer for layer, load in enumerate(loads) if counts[layer] < len(load)]
        if not open_ones:
            break
        counts[max(open_ones, key=lambda layer: totals[layer] / counts[layer])] += 1
    return [_cut(*one) for one in zip(loads, rooms, fits, counts, strict=True)]


def _cut(load: NDArray[np.float64], room: int, fits: Fits, parts: int) -> list[int]:
    """Ends of ``parts`` parts of about the same load that fit, none empty.

    As many neurons as in :func:`in_order` mostly fit anywhere. Where one part of them does not, since it reads rows or
    channels that those share, all are cut with a look at how far each can go and from where on the others fit.
    """
    size = len(load)
    ends = _between(load, [size - left * room for left in range(parts)], lambda first: first + room)
    if all(fits(*part) for part in pairwise(ends)):
        return ends

    def earliest(end: int) -> int:
        return bisect_left(range(end), True, key=lambda first: fits(first, end))

    def most(first: int) -> int:
        return first + bisect_left(range(first + 1, size + 1), True, key=lambda end: not fits(first, end))

    least = [size]
    for _ in range(parts - 1):
        least.append(earliest(least[-1]))
    return _between(load, least, most)


def _between(load: NDArray[np.float64], least: Sequence[int], most: Callable[[int], int]) -> list[int]:
    """Ends of as many parts as ``least`` has, of about the same load: those behind the last ``left`` begin at
    ``least[left]`` at the earliest, and a part that begins at ``first`` ends at ``most(first)`` at the latest."""
    sums, size, parts = np.cumsum(load), len(load), len(least)
    ends = [0]
    for part in range(1, parts):
        wanted = int(np.searchsorted(sums, sums[-1] * part / parts)) + 1
        left = parts - part
        ends.append(min(max(wanted, ends[-1] + 1, least[left]), most(ends[-1]), size - left))
    return [*ends, size]


def annealed(
    sent: NDArray[np.int64], fixed: NDArray[np.int64], places: NDArray[np.int64], seed: int, tries: int
) -> NDArray[np.int64]:
    """Which of ``places`` [places, 2] (row, column) each core takes, int64 [cores], so that messages have short ways.

    ``sent`` [cores, cores] messages between cores; ``fixed`` [cores, places] links that messages of a core to and from
    ports take from a place. Two places are swapped in each of ``tries`` tries, and swapped back with the probability
    that simulated annealing says; the temperature falls from the mean cost of a core to a thousandth of it.
    """
    draw = np.random.default_rng(seed)
    far = np.abs(places[:, None] - places[None]).sum(-1)
    both = np.zeros((len(places), len(places)), np.int64)
    both[: len(sent), : len(sent)] = sent + sent.T
    outside = np.zeros((len(places), len(places)), np.int64)
    outside[: len(sent)] = fixed
    at = np.arange(len(places))
    heat = float((both * far).sum() + outside.diagonal().sum()) / max(1, len(sent)) or 1.0
    best, cost, least = at.copy(), 0, 0
    for attempt in range(tries):
        one, other = draw.integers(0, len(sent)), draw.integers(0, len(places))
        if one == other:
            continue
        ways = far[at[other], at] - far[at[one], at]
        ways[[one, other]] = 0
        change = int((both[one] - both[other]) @ ways)
        change += outside[one, at[other]] - outside[one, at[one]] + outside[other, at[one]] - outside[other, at[other]]
        if change > 0 and draw.random() >= np.exp(-change / (heat * 1000 ** (-attempt / tries))):
            continue
        at[one], at[other] = at[other], at[one]
        cost += change
        if cost < least:
            best, least = at.copy(), cost
    return best[: len(sent)]
