"""What an engine returns for one run: times, counters and, on request, every completion."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.engine.recording import Load

BUSY = 0
STALL = 1
IDLE = 2
TIME_COLUMNS = 3


class Outcome(NamedTuple):
    """``cycles``: the completion of the last operation of any agent, or of the last request.

    ``times`` int64 [agents, 3]: cycles of computation; cycles of waiting for memory, tokens or space; cycles of
    waiting at barriers and after the agent's end. ``counts`` int64 [agents, actions] as counted by the agents.
    ``traffic`` int64 [tensors, columns] as in :mod:`archsim.hardware.operation`. ``row_misses``: DRAM rows opened.
    ``completions`` int64 [n, 2], (agent, cycle) of every operation in the order of its completion, of those that touch
    the window that is recorded; ``loads`` of banks and channels there. Both are empty unless asked for. Two runs agree
    if, agent by agent, these are the same. ``wall_s``: seconds that the loop took.
    """

    cycles: int
    times: NDArray[np.int64]
    counts: NDArray[np.int64]
    traffic: NDArray[np.int64]
    row_misses: int
    completions: NDArray[np.int64]
    wall_s: float
    loads: tuple[Load, ...] = ()
