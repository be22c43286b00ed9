"""How much of its own past an operation waits for.

A delay makes a graph recurrent: what an operation reads at timestep t may come from its own output at t - d. Then the
inputs of no more than d timesteps are known at a time, with d the least sum of delays on a way from the operation back
to itself. An operation that is on no such way knows all timesteps at once.
"""

from __future__ import annotations

import heapq

import numpy as np

from archsim.trace.model import Trace
from archsim.trace.operation import Operation


def known_timesteps(trace: Trace, operation: Operation) -> int:
    """Timesteps of the inputs of ``operation`` that are known at a time: all T, unless it reads its own past."""
    queue, seen = [(0, operation.output)], set[str]()
    while queue:
        waited, name = heapq.heappop(queue)
        if name in seen:
            continue
        seen.add(name)
        for reader in trace.readers(name):
            later = waited + (int(np.min(reader.steps)) if reader.op == "delay" else 0)
            if reader is operation:
                return min(later, trace.timesteps)
            heapq.heappush(queue, (later, reader.output))
    return trace.timesteps
