"""Parts that agents of several dataflows share; an agent says ``yield from part(a, m, ...)``."""

from __future__ import annotations

from typing import Any

from archsim.hardware.agent import Agent, Operations, op
from archsim.hardware.memory.placement import Tensor


def store(a: Agent, m: Any, tensor: Tensor, fiber: int) -> Operations:
    """Write a whole fiber to DRAM, ``m.memory.burst`` lines at a time.

    A burst ends when the channel has taken its last line, and the next one begins; a fiber of no bytes takes one
    operation of no duration.
    """
    first = 0
    while True:
        end = min(tensor.size[fiber], first + m.memory.burst * m.memory.line_bytes)
        a.write(m.memory, tensor, fiber, first, end)
        yield op()
        first = end
        if first >= tensor.size[fiber]:
            break
