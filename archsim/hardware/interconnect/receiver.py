"""A receiver of results that is not always ready, as test benches have one.

In every cycle in which a result is offered, the linear congruential generator of ANSI C draws a number,

    state = (1103515245 state + 12345) mod 2^32,    drawn = floor(state / 256) mod 100,

and the receiver takes the result if the number is not below ``stall_percent``. A result waits for as many cycles as
draws before it fail, and the one behind it is offered in the next cycle.

Source: the test bench of duydat291007/flywire-fpga-accelerator (2026), whose rule this is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.hardware.loading import Block
from archsim.jit import njit


class ReceiverConfig(Block):
    """Whoever takes results."""

    stall_percent: int = Field(ge=0, le=99, description="of the cycles in which a result is offered, those not ready")
    seed: int = Field(ge=0, lt=1 << 32, description="state of the generator before the first offered result")

    def stalls(self, results: int) -> NDArray[np.int64]:
        """Cycles that each of so many results waits; a single zero if the receiver is always ready."""
        if self.stall_percent == 0:
            return np.zeros(1, np.int64)
        found: NDArray[np.int64] = drawn_stalls(results, self.stall_percent, self.seed)
        return found


@njit
def drawn_stalls(results: int, percent: int, seed: int) -> Any:
    """For each result, how many draws below ``percent`` come before the one that takes it, int64 [results]."""
    found = np.zeros(results, np.int64)
    state = seed
    for result in range(results):
        while True:
            state = (state * 1103515245 + 12345) & 0xFFFFFFFF
            if (state >> 8) % 100 >= percent:
                break
            found[result] += 1
    return found
