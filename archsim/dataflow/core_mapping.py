"""Which neurons a core has, and where on the mesh it is: the mapping of a network, a step of its own.

in_order      layer after layer, every core full (of neurons, or of synapses) before the next is taken
neurons       all cores are used; a layer has as many as its share of the neurons, equally full
operations    the same by synaptic operations, within layers too
traffic       cores as in_order, their places by simulated annealing: messages times links is least

Operations and messages are counted over images that stand for those to come, ``scheduler.calibration``.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def balanced(loads: Sequence[NDArray[np.float64]], rooms: Sequence[int], cores: int) -> list[list[int]]:
    """Ends of the parts of each layer, of which every neuron has a load, on as many of ``cores`` cores as there is work
    for: the layer with the most load per core gets the next one."""
    counts = [-(-len(load) // room) for load, room in zip(loads, rooms, strict=True)]
    totals = [load.sum() for load in loads]
    for _ in range(cores - sum(counts)):
        open_ones = [layer for layer, load in enumerate(loads) if counts[layer] < len(load)]
        if not open_ones:
            break
        counts[max(open_ones, key=lambda layer: totals[layer] / counts[layer])] += 1
    return [_cut(*one) for one in zip(loads, rooms, counts, strict=True)]


def _cut(load: NDArray[np.float64], room: int, parts: int) -> list[int]:
    """Ends of ``parts`` parts of about the same load, none larger than ``room``, none empty."""
    sums, size = np.cumsum(load), len(load)
    ends = [0]
    for part in range(1, parts):
        wanted = int(np.searchsorted(sums, sums[-1] * part / parts)) + 1
        left = parts - part
        ends.append(min(max(wanted, ends[-1] + 1, size - left * room), ends[-1] + room, size - left))
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
