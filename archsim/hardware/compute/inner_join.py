"""Inner-join unit of a TPPE: which positions of two bitmasks match, and how long that takes.

For every pair of 128-bit chunks the unit ANDs bm-A and bm-B; a priority encoder yields one match a cycle; the *fast*
prefix-sum (one cycle) finds the weight, which the pseudo-accumulator adds as if the neuron fired at every timestep;
weight and position go into two FIFOs. The *laggy* prefix-sum (:mod:`~archsim.hardware.compute.prefix_sum`) finds all
offsets into the packed words of A meanwhile. Once it and the words are there, one FIFO entry a cycle is *corrected*:
the weight is added to the correction accumulators of the timesteps at which the neuron was silent.

With c0 = ``chunk_overhead_cycles`` and m matches, a chunk occupies the fast path for

    max(1, c0 + m)                                   laggy: hidden, queued  (the pass runs beside later chunks)
    max(1, c0 + m, 128 / adders if m > 0)            laggy: literal         (the unit is busy for a whole pass)
    max(1, c0 + m, last matched group + 1)           laggy: early_stop      (it stops at the last group that matched)

plus what a full FIFO holds it up. Match i is pushed at ``p_i = max(p_(i-1) + 1, d_(i-depth))``, from ``start + c0``
on (a full FIFO takes an entry in the cycle in which one leaves), and corrected at ``d_i = max(p_i + 1, ready, d_(i-1)
+ 1)`` with ``ready`` the later of the laggy pass and the arrival of the packed words; entries of earlier chunks are
in the same FIFO.

The pass of the c-th chunk that matches begins at ``b_c = max(start_c, b_(c-units) + its pass, t_(c-tables))`` and gives
offsets until its last match is corrected, in the cycle before ``t_c``: it needs a laggy unit, and a table of offsets with
a buffer of words. Until it begins, bitmask and words wait in a queue. The queue is as deep as the FIFOs: all that wait in
it, but for the chunk in the fast path, have an entry there. With ``hidden``, an idealisation, ``b_c = start_c``: there
are as many units and tables as chunks ask for. With ``literal`` and ``early_stop`` the fast path waits for the pass, so
that one unit is enough.

A sum has a *place* from its first chunk on: a pseudo-sum and the correction accumulators of its timesteps. It is finished
when its last chunk is joined and its last match corrected, and leaves the place then, one sum a cycle. A PE is through
with a sum when it has a place for the next: sum s + ``pending_sums`` waits until sum s has left.

Source: LoAS (MICRO 2024) sections IV-B, IV-C, V, Figs. 7, 9, 10. The paper does not publish c0, nor how the laggy
unit's 8 cycles are hidden when a chunk has fewer than 8 matches; see DEVIATIONS.md.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from archsim.hardware.agent import Agent
from archsim.hardware.compute.prefix_sum import EARLY_STOP, HIDDEN, LITERAL
from archsim.jit import inlined

NO_LAGGY = -1
"""In place of a mode of the laggy prefix-sum: two fast ones, so that nothing is corrected."""


class JoinUnit(NamedTuple):
    """An inner-join unit as it is built: ``laggy`` is a mode of the laggy prefix-sum, or NO_LAGGY."""

    laggy: int = NO_LAGGY
    adders: int = 0
    fifo_depth: int = 0
    pending_sums: int = 1
    laggy_units: int = 0
    offset_tables: int = 0

    @property
    def kept(self) -> int:
        """Numbers that an agent with such a unit keeps."""
        return RINGS + self.fifo_depth + self.pending_sums + self.laggy_units + self.offset_tables


ENTRIES, LAST_CORRECTION, SUMS, LAST_SUM, PASSES, RINGS = range(6)
"""What an agent with an inner-join unit keeps: how many entries of the FIFO, sums and laggy passes there were, and the
cycles in which the last entry was corrected and the last sum was finished. Then rings, of the last ``fifo_depth``
corrections, ``pending_sums`` ends of sums, ``laggy_units`` ends of passes, and ``offset_tables`` cycles in which they
were free."""


@inlined
def join_cycles(overhead: int, matches: int, mode: int, laggy: int) -> int:
    """Cycles that one chunk pair occupies the fast path, what it waits for apart."""
    cycles = max(1, overhead + matches)
    if matches > 0 and (mode == LITERAL or mode == EARLY_STOP):
        cycles = max(cycles, laggy)
    return cycles


def correct(a: Agent, unit: Any, overhead: int, matches: int, laggy: int, words: int) -> int:
    """Correct the ``matches`` of the chunk that began at ``a.start``; returns the cycle in which the fast path is free.

    ``laggy``: cycles of its pass. ``words``: cycle in which its packed words are there.
    """
    ready = a.start + laggy
    table = RINGS + unit.fifo_depth + unit.pending_sums + unit.laggy_units
    if unit.laggy != HIDDEN:
        busy = table - unit.laggy_units + a.kept[PASSES] % unit.laggy_units
        table += a.kept[PASSES] % unit.offset_tables
        ready = max(a.start, a.kept[busy], a.kept[table]) + laggy
        a.kept[busy] = ready
        a.kept[PASSES] += 1
    free = push_matches(a, unit.fifo_depth, a.start + overhead, matches, max(ready, words))
    if unit.laggy != HIDDEN:
        a.kept[table] = a.kept[LAST_CORRECTION] + 1
        if unit.laggy == LITERAL or unit.laggy == EARLY_STOP:
            free = max(free, ready)
    return free


def push_matches(a: Agent, depth: int, start: int, matches: int, ready: int) -> int:
    """Run ``matches`` entries through the FIFO of agent ``a``; returns the cycle after the last push.

    ``start``: cycle of the first push if nothing holds it up.
    """
    push, last = start - 1, a.kept[LAST_CORRECTION]
    for _ in range(matches):
        slot = RINGS + a.kept[ENTRIES] % depth
        push = max(push + 1, a.kept[slot])
        last = max(push + 1, ready, last + 1)
        a.kept[slot] = last
        a.kept[ENTRIES] += 1
    a.kept[LAST_CORRECTION] = last
    return push + 1


def finish(a: Agent, unit: Any) -> int:
    """The cycle in which the sum that has just been joined is finished."""
    finished = max(a.now, a.kept[LAST_CORRECTION] + 1, a.kept[LAST_SUM] + 1)
    a.kept[LAST_SUM] = finished
    a.kept[RINGS + unit.fifo_depth + a.kept[SUMS] % unit.pending_sums] = finished
    a.kept[SUMS] += 1
    return finished


def place_is_free(a: Agent, unit: Any) -> int:
    """The cycle in which there is a place for the next sum."""
    return int(a.kept[RINGS + unit.fifo_depth + a.kept[SUMS] % unit.pending_sums])
