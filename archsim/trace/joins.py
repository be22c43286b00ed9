"""Joins of spike times between layers of first-spike neurons: which there are, and the spikes that they take."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.trace.model import Trace
from archsim.trace.operation import Operation


def joins_before(trace: Trace, name: str) -> set[str]:
    """The operations that add and move times between layers and the tensor ``name``."""
    found: set[str] = set()
    for operation in trace.operations:
        if operation.output == name and (operation.times or operation.moves):
            found.add(operation.name)
            found.update(*(joins_before(trace, read) for read in operation.inputs))
    return found


def joined_spikes(trace: Trace, operation: Operation, rows: int) -> NDArray[np.int64]:
    """Spikes that an operation adds to others, delays, or compares in its windows; those of stored tensors.

    By the position of the layer before, of ``rows`` positions of all images, int64 [rows]: the last one of those in
    which the joined one lies.
    """
    found = np.zeros(rows, np.int64)
    if operation.op not in ("add", "delay", "pool"):
        return found
    for name in (name for name in operation.inputs if trace.stored(name)):
        fired = trace.tensor(name) < trace.timesteps
        if operation.op == "pool":
            fired = operation.window.windows(fired, False).sum((-2, -1))
        spikes = fired.sum(1, dtype=np.int64).ravel()
        np.add.at(found, -(-np.arange(1, spikes.size + 1) * rows // spikes.size) - 1, spikes)
    return found
