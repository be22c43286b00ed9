"""Inner-join unit of a TPPE: which positions of two bitmasks match, and how long that takes.

For every pair of 128-bit chunks the unit ANDs bm-A and bm-B; a priority encoder yields one match a cycle; the *fast*
prefix-sum (one cycle) finds the weight, which the pseudo-accumulator adds as if the neuron fired at every timestep;
weight and position go into two FIFOs. The *laggy* prefix-sum (:mod:`~archsim.hardware.compute.prefix_sum`) finds all
offsets into the packed words of A meanwhile. Once it and the words are there, one FIFO entry a cycle is *corrected*:
the weight is added to the correction accumulators of the timesteps at which the neuron was silent.

With c0 = ``chunk_overhead_cycles`` and m matches, a chunk occupies the fast path for

    max(1, c0 + m)                                   laggy: hidden      (the pass runs beside later chunks)
    max(1, c0 + m, 128 / adders if m > 0)            laggy: literal     (the unit is busy for a whole pass)
    max(1, c0 + m, last matched group + 1)           laggy: early_stop  (it stops at the last group that matched)

plus what a full FIFO holds it up. Match i is pushed at ``p_i = max(p_(i-1) + 1, d_(i-depth))``, from ``start + c0``
on (a full FIFO takes an entry in the cycle in which one leaves), and corrected at ``d_i = max(p_i + 1, ready, d_(i-1)
+ 1)`` with ``ready`` the later of the laggy pass and the arrival of the packed words; entries of earlier chunks are
in the same FIFO.

Source: LoAS (MICRO 2024) sections IV-B, IV-C, V, Figs. 7, 9, 10. The paper does not publish c0, nor how the laggy
unit's 8 cycles are hidden when a chunk has fewer than 8 matches; see DEVIATIONS.md.
"""

from __future__ import annotations

from archsim.hardware.agent import Agent
from archsim.hardware.compute.prefix_sum import HIDDEN
from archsim.jit import inlined

ENTRIES, LAST_CORRECTION, RING = range(3)
"""What an agent with an inner-join unit keeps; the ring takes an entry for each one of the FIFO."""


@inlined
def join_cycles(overhead: int, matches: int, mode: int, laggy: int) -> int:
    """Cycles that one chunk pair occupies the fast path, FIFO stalls apart."""
    cycles = max(1, overhead + matches)
    if matches > 0 and mode != HIDDEN:
        cycles = max(cycles, laggy)
    return cycles


def correct(a: Agent, depth: int, start: int, matches: int, ready: int) -> int:
    """Run ``matches`` entries through the FIFO of agent ``a``; returns the cycle after the last push.

    The agent keeps: how many entries there were so far, the cycle of the last correction, and the corrections of the
    last ``depth`` entries, a ring. ``start``: cycle of the first push if nothing holds it up.
    """
    push, last = start - 1, a.kept[LAST_CORRECTION]
    for _ in range(matches):
        slot = RING + a.kept[ENTRIES] % depth
        push = max(push + 1, a.kept[slot])
        last = max(push + 1, ready, last + 1)
        a.kept[slot] = last
        a.kept[ENTRIES] += 1
    a.kept[LAST_CORRECTION] = last
    return push + 1
