"""Prefix-sum units: how many ones of a 128-bit bitmask stand before a position, which is where its value lies.

* **Fast**: a tree of O(n log n) adders (n = 128); the offset of one position per cycle, 1 cycle latency.
* **Laggy**: ``adders`` adders work through the bitmask in groups of ``adders`` bits, one group per cycle, and yield all
  128 offsets after ``128 / adders`` cycles (16 adders: 8). With ``early_stop`` it stops behind the last group in which
  something matched: ``last matched position / adders + 1`` cycles.
* **Inverted laggy**: the same adders turn a bitmask and uncompressed values into compressed ones (output compressor).

Source: LoAS (MICRO 2024) sections IV-C, IV-D, V: fast in one cycle, laggy with 16 adders in 8 cycles. ``early_stop`` is
not in the paper.
"""

from __future__ import annotations

from archsim.compress.bitmask import CHUNK_BITS, highest_one
from archsim.jit import inlined

HIDDEN, LITERAL, EARLY_STOP, QUEUED = range(4)
LAGGY_MODES = {"hidden": HIDDEN, "literal": LITERAL, "early_stop": EARLY_STOP, "queued": QUEUED}
"""How passes and the fast path go together: :mod:`~archsim.hardware.compute.inner_join` says it."""
NO_LAGGY = -1
"""In place of a mode: two fast prefix-sums, so that nothing is corrected."""


@inlined
def pass_cycles(adders: int) -> int:
    """Cycles of a whole laggy pass."""
    return -(-CHUNK_BITS // adders)


@inlined
def laggy_cycles(mode: int, adders: int, low: int, high: int) -> int:
    """Cycles that the laggy prefix-sum, if there is one, works on a chunk whose AND is (``low``, ``high``)."""
    if mode == NO_LAGGY:
        return 0
    if mode != EARLY_STOP:
        return pass_cycles(adders)
    last = 64 + highest_one(high) if high else highest_one(low)
    return last // adders + 1
