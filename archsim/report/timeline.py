"""A run as trace-event JSON, which the Perfetto viewer (ui.perfetto.dev) opens.

One process, one track per unit, called after it, with a slice (``ph`` X) an operation. A slice ends when the operation
completed and starts when the unit's one before did, so waiting is part of the slice; it is called after its layer. Two
counter tracks (``ph`` C) say how many banks of the on-chip memory, and how many DRAM channels, are busy: a value holds
until the next one and is the mean over an interval, so its integral over time is the busy time of all banks, or of all
channels, in cycles. Where nothing conflicts (``memory.ideal``, ``bank_conflicts: false``) banks have no load. The
viewer's microsecond stands for one cycle.

The file is bounded: at most :data:`MAX_SLICES` operations, else it is refused, and ``INTERVALS`` values of each of the
two counters per layer (:mod:`archsim.engine.recording`), each event in a line of less than :data:`LINE_BYTES` bytes and
the length of its name. A window of cycles makes it small: what reaches out of it is cut off.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from archsim.engine.recording import WHOLE, Load, Window
from archsim.engine.result import LayerResult
from archsim.errors import UsageError

LAYERS = 0  # the track that shows whole layers; agent a is track a + 1
MAX_SLICES = 2_000_000
"""About 200 MB of JSON, the most that the viewer opens in a browser."""
LINE_BYTES = 160


def parse_window(text: str) -> Window:
    """``"1000:5000"`` as cycles from 1000 on and before 5000; either may be left out, as in Python. UsageError."""
    first, colon, end = (part.strip() for part in text.partition(":"))
    expected = "must be FROM:TO in cycles of the run, such as 1000:5000, :5000 or 1000:"
    numbers = [part.replace("_", "") for part in (first, end)]
    if not colon or not any(numbers) or not all(not n or (n.isascii() and n.isdecimal()) for n in numbers):
        raise UsageError(f"--timeline-window: got '{text}'; {expected}")
    window = Window(int(numbers[0] or 0), min(int(numbers[1] or WHOLE.end), WHOLE.end))
    if window.first >= window.end:
        raise UsageError(f"--timeline-window: got '{text}', which is empty; FROM must be less than TO")
    return window


def check_size(layers: Sequence[LayerResult], window: Window) -> None:
    """UsageError if the viewer cannot open the timeline of ``layers``; it says up to which cycle it can."""
    if sum(len(layer.completions) for layer in layers if layer.completions is not None) <= MAX_SLICES:
        return
    ends = np.concatenate(
        [layer.completions[:, 1] + begin for layer, begin in zip(layers, _begins(layers), strict=True)
         if layer.completions is not None]
    )  # fmt: skip
    under_way = len({agent for layer in layers for agent in _agents(layer)})  # operations that the window's end cuts
    fits = int(np.partition(ends, MAX_SLICES - under_way)[MAX_SLICES - under_way]) if under_way < MAX_SLICES else 0
    shorter = f" or --timeline-window {window.first}:{fits}" if fits > window.first else ""
    raise UsageError(
        f"--timeline: more than the {MAX_SLICES:,} operations that the viewer opens; choose --layers{shorter}"
    )


def _begins(layers: Sequence[LayerResult]) -> list[int]:
    """The cycle of the run in which each layer begins."""
    begins, end = [], 0
    for layer in layers:
        begins.append(end if layer.start_cycle is None else layer.start_cycle)
        end += layer.cycles
    return begins


def trace_events(layers: Sequence[LayerResult], window: Window = WHOLE) -> str:
    """The timeline of ``layers`` in ``window``, one after the other unless they say when they began.

    UsageError when it is too long for the viewer, or the run ends before the window.
    """
    check_size(layers, window)
    begins = _begins(layers)
    end = max((begin + layer.cycles for layer, begin in zip(layers, begins, strict=True)), default=0)
    if window.first >= end:
        raise UsageError(f"--timeline-window: begins in cycle {window.first:,}; the run ends in cycle {end:,}")
    agents = sorted({agent for layer in layers for agent in _agents(layer)})
    known = {agent: name for layer in layers for agent, name in layer.agents.items()}
    names = {LAYERS: "layers", **{agent + 1: known.get(agent, f"agent {agent}") for agent in agents}}
    events = [_meta("process_name", 0, name="archsim, 1 us = 1 cycle")]
    for place, (track, name) in enumerate(names.items()):
        events += [_meta("thread_name", track, name=name), _meta("thread_sort_index", track, sort_index=place)]
    for layer, begin in zip(layers, begins, strict=True):
        events += _slices(layer.layer, LAYERS, [(begin, begin + layer.cycles)], window)
        for agent in _agents(layer):
            events += _slices(layer.layer, agent + 1, _operations(layer, agent, begin), window)
    for layer, begin in zip(layers, begins, strict=True):
        last = end if layer.start_cycle is not None else begin + layer.cycles
        for load in layer.loads:
            if load.busy.any():
                events += _counter(load, begin + load.first, min(last, window.end))
    lines = ",\n".join(json.dumps(event) for event in events)
    return '{"displayTimeUnit": "ns", "traceEvents": [\n' + lines + "\n]}\n"


def _agents(layer: LayerResult) -> list[int]:
    return [] if layer.completions is None else np.unique(layer.completions[:, 0]).tolist()


def _operations(layer: LayerResult, agent: int, begin: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of the agent's operations; the first one may begin later, but then before the window."""
    assert layer.completions is not None
    ends = np.sort(layer.completions[layer.completions[:, 0] == agent, 1]) + begin
    begins = np.concatenate(([begin], ends[:-1]))
    return zip(begins.tolist(), ends.tolist(), strict=True)


def _slices(name: str, track: int, times: Iterable[tuple[int, int]], window: Window) -> Iterator[dict[str, object]]:
    for begin, end in times:
        begin, end = max(begin, window.first), min(end, window.end)
        if begin <= end:
            yield {"name": name, "ph": "X", "pid": 0, "tid": track, "ts": begin, "dur": end - begin}


def _counter(load: Load, begin: int, end: int) -> Iterator[dict[str, object]]:
    """Mean busy resources of every interval, where that changes, and 0 at the end."""
    before: float | None = None
    for i, busy in enumerate(load.busy.tolist()):
        start = begin + i * load.width
        if start >= end:
            break
        value = busy / (load.ticks * (min(end, start + load.width) - start))
        if value != before:
            yield _value(load.resource, start, value)
        before = value
    yield _value(load.resource, end, 0)


def _value(resource: str, cycle: int, value: float) -> dict[str, object]:
    return {"name": resource, "ph": "C", "pid": 0, "ts": cycle, "args": {"busy": value}}


def _meta(what: str, track: int, **facts: object) -> dict[str, object]:
    return {"name": what, "ph": "M", "pid": 0, "tid": track, "args": facts}
