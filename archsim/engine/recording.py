"""What is kept of a run beside its totals: completions, and how busy banks and channels are, in a window of cycles.

A *load* sums busy time up by interval, in a fixed number of intervals, so that its size does not depend on the length
of the run. An interval is one cycle at first; whenever something lies behind the last interval, pairs of intervals
become one. The width is therefore the smallest power of two for which ``INTERVALS`` intervals reach the end of the last
busy time in the window. The compiled engine adds up as it goes, the reference engine afterwards from a list.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.jit import inlined

INTERVALS = 1024
"""Intervals of a load; even."""

BANKS = "memory banks busy"
CHANNELS = "DRAM channels busy"


class Window(NamedTuple):
    """Cycles from ``first`` on and before ``end``."""

    first: int
    end: int

    def later(self, cycles: int) -> Window:
        """This window as seen by what begins ``cycles`` later."""
        return Window(max(0, self.first - cycles), max(0, self.end - cycles))


WHOLE = Window(0, 1 << 40)
"""More cycles than any run has, and few enough to be counted in the smallest units of the DRAM."""
NOTHING = Window(0, 0)


def window_of(record: Window | bool) -> Window:
    """The window to record: all of a run for True, nothing of it for False."""
    return record if isinstance(record, Window) else WHOLE if record else NOTHING


class Load(NamedTuple):
    """How busy resources of one kind are, all of them together.

    ``busy`` int64 [intervals] counts ticks, ``ticks`` of them a cycle; interval i begins in cycle ``first + i width``.
    """

    resource: str
    first: int
    width: int
    ticks: int
    busy: NDArray[np.int64]


@inlined
def add_busy(busy: Any, width: Any, first: int, last: int, begin: int, end: int) -> None:
    """Add the ticks from ``begin`` on and before ``end``, as far as they are in the window [first, last), to a load.

    ``width`` int64 [1]: ticks of an interval.
    """
    begin = max(begin, first) - first
    end = min(end, last) - first
    if end <= begin:
        return
    half = len(busy) >> 1
    while end > len(busy) * width[0]:
        for i in range(half):
            busy[i] = busy[2 * i] + busy[2 * i + 1]
        for i in range(half):
            busy[half + i] = 0
        width[0] *= 2
    place = begin // width[0]
    while begin < end:
        part = min(end, (place + 1) * width[0]) - begin
        busy[place] += part
        begin += part
        place += 1


def load_of(resource: str, window: Window, ticks: int, times: NDArray[np.int64]) -> Load:
    """The load of busy ``times``, int64 [n, 2] of (begin, end) in ticks, in any order."""
    first, last = window.first * ticks, window.end * ticks
    begins, ends = np.sort(np.clip(times, first, last) - first, axis=0).T
    width = ticks
    while ends.max(initial=0) > INTERVALS * width:
        width *= 2
    edges = np.arange(INTERVALS + 1) * width
    before = _ticks_since(begins, edges) - _ticks_since(ends, edges)
    return Load(resource, window.first, width // ticks, ticks, np.diff(before))


def _ticks_since(events: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """At every edge, the ticks since each of the earlier ``events``, sorted, summed up."""
    earlier = np.searchsorted(events, edges)
    return earlier * edges - np.concatenate(([0], np.cumsum(events)))[earlier]
