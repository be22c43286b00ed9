"""The completions of a run as trace-event JSON, which the Perfetto viewer (ui.perfetto.dev) opens.

One process per run, one thread per agent, called after its unit, one slice per operation. A slice ends when the
operation completed and starts when the agent's one before did, so waiting is part of the slice. The viewer's
microsecond stands for one cycle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from archsim.engine.result import LayerResult
from archsim.errors import UsageError

LAYERS = 0  # the thread that shows whole layers; agent a is thread a + 1
MAX_EVENTS = 2_000_000  # about 200 MB of JSON, the most that the viewer opens in a browser


def trace_events(layers: Sequence[LayerResult]) -> str:
    """The timeline of ``layers``, one after the other unless they say when they began.

    UsageError when it is too long for the viewer.
    """
    events = sum(len(layer.completions) for layer in layers if layer.completions is not None)
    if events > MAX_EVENTS:
        raise UsageError(
            f"--timeline: {events} operations are more than the {MAX_EVENTS} that the viewer opens; choose --layers"
        )
    agents = sorted({agent for layer in layers for agent in _agents(layer)})
    known = {agent: name for layer in layers for agent, name in layer.agents.items()}
    names = {LAYERS: "layers", **{agent + 1: known.get(agent, f"agent {agent}") for agent in agents}}
    named = [_name("process_name", 0, "archsim, 1 us = 1 cycle")]
    named += [_name("thread_name", thread, name) for thread, name in names.items()]
    slices: list[dict[str, object]] = []
    end = 0
    for layer in layers:
        start = end if layer.start_cycle is None else layer.start_cycle
        slices.append(_slice(layer.layer, LAYERS, start, layer.cycles))
        slices += _operations(layer, start)
        end += layer.cycles
    lines = ",\n".join(json.dumps(event) for event in named + slices)
    return '{"displayTimeUnit": "ns", "traceEvents": [\n' + lines + "\n]}\n"


def _agents(layer: LayerResult) -> list[int]:
    return [] if layer.completions is None else np.unique(layer.completions[:, 0]).tolist()


def _operations(layer: LayerResult, start: int) -> Iterator[dict[str, object]]:
    if layer.completions is None:
        return
    for agent in _agents(layer):
        ends = np.sort(layer.completions[layer.completions[:, 0] == agent, 1])
        begins = np.concatenate(([0], ends[:-1]))
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            yield _slice(layer.layer, agent + 1, start + begin, end - begin)


def _slice(name: str, thread: int, start: int, duration: int) -> dict[str, object]:
    return {"name": name, "ph": "X", "pid": 0, "tid": thread, "ts": start, "dur": duration}


def _name(what: str, thread: int, name: str) -> dict[str, object]:
    return {"name": what, "ph": "M", "pid": 0, "tid": thread, "args": {"name": name}}
