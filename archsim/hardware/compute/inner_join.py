"""Inner-join unit of a TPPE: which positions of two bitmasks match, and how long that takes.

For every pair of 128-bit chunks the unit ANDs bm-A and bm-B; a priority encoder yields one match per cycle; the *fast*
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

The pass of the c-th chunk that matches needs a laggy unit, and a table of offsets with a buffer of words. It begins at

    ``b_c = max(start_c, end of pass c - units, t_(c - tables))``    (hidden: ``start_c``)

where ``t_c`` is the cycle behind the last correction of chunk c, in which its table is free. Until its pass begins,
bitmask and words of a chunk wait in a queue. It is as deep as the FIFOs: all that wait, but for the chunk in the fast
path, have an entry there. ``hidden`` is an idealisation, with as many units and tables as chunks ask for. With
``literal`` and ``early_stop`` the fast path waits for the pass, so one unit is enough.

A sum has a *place* from its first chunk on: a pseudo-sum and the correction accumulators of its timesteps. It is
finished when its last chunk is joined and its last match corrected, and then leaves, one sum per cycle. A PE is through
with a sum when it has a place for the next: sum s + ``pending_sums`` begins when sum s has left, or later.

Source: LoAS (MICRO 2024) sections IV-B, IV-C, V, Figs. 7, 9, 10. The paper does not publish c0, nor how the laggy
unit's 8 cycles are hidden when a chunk has fewer than 8 matches; see DEVIATIONS.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from pydantic import Field

from archsim.compress.bitmask import CHUNK_BITS
from archsim.hardware.agent import Agent
from archsim.hardware.compute.prefix_sum import EARLY_STOP, HIDDEN, LAGGY_MODES, LITERAL, NO_LAGGY
from archsim.hardware.fields import Count, SumBits
from archsim.hardware.inventory import Component
from archsim.hardware.loading import Block
from archsim.jit import inlined

OFFSET_BITS = (CHUNK_BITS - 1).bit_length()


class InnerJoinConfig(Block):
    """Inner-join units."""

    speculation: bool = Field(
        description="add a weight at once, as if the neuron had fired at all timesteps, and correct the sum later; "
        "false: hold it until its packed word is there"
    )
    laggy: Literal["hidden", "queued", "literal", "early_stop", "second_fast"] = Field(
        description="hidden: a laggy pass takes no unit's time, as if every chunk had one; queued: chunks wait for a "
        "unit; literal: the fast path waits for the pass; early_stop: until it has come to the last match; "
        "second_fast: a second fast prefix-sum in its place"
    )
    laggy_adders: int = Field(
        ge=1, le=128, description="adders of a laggy prefix-sum; a pass takes 128 / adders cycles"
    )
    laggy_units: Count = Field(description="laggy prefix-sums; hidden uses as many as it needs")
    offset_tables: Count = Field(
        description="tables of offsets, each with a buffer of packed words; a chunk has one from its laggy pass until "
        "its last match is corrected; hidden uses as many as it needs"
    )
    fifo_depth: int = Field(ge=1, le=1024, description="entries of FIFO-mp and FIFO-B; queued: also of the queue")
    pending_sums: Count = Field(
        description="places of a pseudo-sum and its correction accumulators, for sums that are joined or wait for "
        "their last corrections"
    )
    pseudo_accumulator_bits: SumBits = Field(description="bits of the pseudo-accumulator, sign included")
    correction_accumulator_bits: SumBits = Field(description="bits of a correction accumulator, sign included")

    def unit(self) -> JoinUnit:
        """A unit with laggy prefix-sums."""
        return JoinUnit(
            LAGGY_MODES[self.laggy], self.laggy_adders, self.fifo_depth, self.pending_sums, self.laggy_units,
            self.offset_tables,
        )  # fmt: skip

    def registers(self, instances: int, timesteps: int, word_bits: int) -> Iterator[Component]:
        """What a TPPE of the paper has once, or not at all: more places of sums of ``timesteps``, more tables, and the
        queue, with words of ``word_bits``."""
        words = CHUNK_BITS * word_bits
        place = timesteps * self.pseudo_accumulator_bits
        if self.speculation:
            place = self.pseudo_accumulator_bits + timesteps * self.correction_accumulator_bits
        for name, number, bits in (
            ("pending_sum", self.pending_sums - 1, place),
            ("offset_table", self.offset_tables - 1, CHUNK_BITS * OFFSET_BITS + words),
            ("laggy_queue", self.fifo_depth if self.laggy == "queued" else 0, CHUNK_BITS + words),
        ):
            if number:
                yield Component(name, "flip_flops", instances * number, {"bits": bits, "width_bits": bits})


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


ENTRY, LAST_CORRECTION, PLACE, LAST_SUM, PASSES, RINGS = range(6)
"""What an agent with an inner-join unit keeps: where in their rings the next entry of the FIFO and the next sum are,
how many laggy passes there were, and the cycles in which the last entry was corrected and the last sum was finished.
Then rings, of the last ``fifo_depth`` corrections, ``pending_sums`` ends of sums, ``laggy_units`` ends of passes, and
``offset_tables`` cycles in which they were free."""


@inlined
def join_cycles(overhead: int, matches: int, mode: int, laggy: int) -> int:
    """Cycles that one chunk pair occupies the fast path, what it waits for apart."""
    cycles = max(1, overhead + matches)
    if matches > 0 and mode in (LITERAL, EARLY_STOP):
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
        if unit.laggy in (LITERAL, EARLY_STOP):
            free = max(free, ready)
    return free


def push_matches(a: Agent, depth: int, start: int, matches: int, ready: int) -> int:
    """Run ``matches`` entries through the FIFO of agent ``a``; returns the cycle after the last push.

    ``start``: cycle of the first push if nothing holds it up.
    """
    push, last, entry = start - 1, a.kept[LAST_CORRECTION], a.kept[ENTRY]
    for _ in range(matches):
        push = max(push + 1, a.kept[RINGS + entry])
        last = max(push + 1, ready, last + 1)
        a.kept[RINGS + entry] = last
        entry = entry + 1 if entry + 1 < depth else 0
    a.kept[ENTRY] = entry
    a.kept[LAST_CORRECTION] = last
    return push + 1


def finish(a: Agent, unit: Any) -> int:
    """The cycle in which the sum that has just been joined is finished."""
    finished = max(a.now, a.kept[LAST_CORRECTION] + 1, a.kept[LAST_SUM] + 1)
    a.kept[LAST_SUM] = finished
    place = a.kept[PLACE]
    a.kept[RINGS + unit.fifo_depth + place] = finished
    a.kept[PLACE] = place + 1 if place + 1 < unit.pending_sums else 0
    return finished


def place_is_free(a: Agent, unit: Any) -> int:
    """The cycle in which there is a place for the next sum."""
    return int(a.kept[RINGS + unit.fifo_depth + a.kept[PLACE]])
