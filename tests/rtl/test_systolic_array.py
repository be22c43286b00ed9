"""Systolic array and SATA's array against their circuit: every sum, and the cycle in which each fold ends.

The array has 4 x 5 places. Output stationary, whose sums leave through the columns (``systolic``, and with several
ticks a step PTB's window); weight stationary; and SATA's, which skips pairs without a spike and whose neurons take all
sums at once.
"""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from archsim.dataflow import buffered_array, folded_array
from archsim.dataflow.buffered_tables import Array, Loads, fill_loads
from archsim.hardware.compute.systolic_array import SystolicArrayConfig
from archsim.hardware.diagram import Diagram
from tests.rtl.circuit import Case, build, compare_all, needs_verilator
from tests.rtl.machine import completions, deliver

R, C, STEPS, TICKS = 4, 5, 4, 4
OUTPUT, WEIGHT, SATA = range(3)

Drawn = namedtuple("Drawn", "mode skips ticks west north release")
"""``west`` [folds] of [steps, ticks, 4] and ``north`` of [steps, ticks, 5], or of [4, 1, 5], the stationary operand;
``release`` [folds] of those of the loads."""


def draw_case(draw, number):
    mode = number % 3
    ticks = 1 if mode == WEIGHT else int(draw.integers(1, TICKS + 1))
    west, north, release, now = [], [], [], 0
    for _ in range(int(draw.integers(1, 4))):
        steps = int(draw.choice([1, STEPS, STEPS + 1, draw.integers(1, 40)]))
        spikes = draw.random((steps, ticks, R)) < draw.choice([0.0, 0.05, 0.3, 1.0])
        # A step's weight stays for its ticks; rows have the spikes of SATA, and columns its weights.
        weights = np.repeat(draw.integers(-128, 128, (R if mode == WEIGHT else steps, 1, C)), ticks, axis=1)
        if mode == OUTPUT and draw.random() < 0.5:  # weights at the west, spikes at the north
            weights[:] = draw.random(weights.shape) < 0.3
            spikes = np.repeat(draw.integers(-128, 128, (steps, 1, R)), ticks, axis=1)
        loads = -(-steps // STEPS) + (mode == WEIGHT)
        gaps = (draw.random(loads) < draw.choice([0, 0.3])) * draw.integers(0, 60, loads)
        release.append(now + np.cumsum(gaps))
        now = int(release[-1][-1])
        west.append(spikes.astype(np.int64))
        north.append(weights)
    return Drawn(mode, mode == SATA and bool(draw.integers(2)), ticks, west, north, release)


def load(steps, last, west, north, stationary=False):
    item = np.zeros(37, np.uint32)
    item[0] = steps | stationary << 8 | last << 16
    item[1:17].view(np.int8).reshape(STEPS, TICKS, R)[: len(west), : west.shape[1]] = west
    item[17:].view(np.int8).reshape(STEPS, TICKS, C)[: len(north), : north.shape[1]] = north
    return item


def case_of(case):
    items, outputs = [], 0
    for west, north in zip(case.west, case.north, strict=True):
        if case.mode == WEIGHT:  # the row that goes furthest is the first
            items.append(load(R, 0, np.zeros((R, 1, R)), north[::-1], True))
        for first in range(0, len(west), STEPS):
            part = slice(first, first + STEPS)
            entering = np.zeros_like(north[:0]) if case.mode == WEIGHT else north[part]
            items.append(load(len(west[part]), first + STEPS >= len(west), west[part], entering))
        outputs += R * case.ticks if case.mode == OUTPUT else 0
    folds = len(case.west)
    settings = [case.mode == WEIGHT, case.mode == OUTPUT, case.skips, case.ticks]
    release = np.concatenate(case.release)
    limit = int(release[-1]) + len(items) * (STEPS * TICKS + 2) + folds * (R + C + R * TICKS + 4) + 10
    return Case(
        [int(setting) for setting in settings], [(release, np.array(items))],
        [outputs, folds if case.mode == SATA else 0, folds], limit,
    )  # fmt: skip


def fold_ends(case):
    """Cycles in which archsim's array ends its folds."""
    if case.mode == SATA:
        return sata_ends(case)
    folds = len(case.west)
    pe = SystolicArrayConfig(
        rows=R, columns=C, weight_bits=8, accumulator_bits=24, buffer_steps=STEPS, buffers=2, output_buffer=2
    )
    diagram, ends = Diagram(), []
    loads = [-(-len(west) // STEPS) for west in case.west]
    west_load, other, free, sums = (diagram.fifo(1000) for _ in range(4))
    m = SimpleNamespace(
        folds=folds, stationary=case.mode == WEIGHT, pes=R * C, ticks=case.ticks, timed=False, skew=pe.skew_cycles,
        config=SimpleNamespace(pe=pe), north=SimpleNamespace(load=other, free=free),
        west=SimpleNamespace(load=west_load, free=free), sums=sums,
    )  # fmt: skip
    tail = pe.skew_cycles + (R * case.ticks if case.mode == OUTPUT else 0)
    row = SimpleNamespace(row=0)
    x = SimpleNamespace(
        fold=[SimpleNamespace(added=0, steps=len(west), tail=tail) for west in case.west],
        west=SimpleNamespace(fold=[SimpleNamespace(loads=count) for count in loads], tensor=row),
        north=SimpleNamespace(tensor=row),
    )

    def watched(a, m, x):
        for operation in folded_array.array(a, m, x):
            if len(ends) + 1 < a.count[folded_array.FOLDS_DONE]:
                ends.append(a.now)
            yield operation
        ends.append(a.now)

    stationary = case.mode == WEIGHT
    streamed = [release[1:] if stationary else release for release in case.release]
    norths = [release[:1] if stationary else release for release in case.release]
    diagram.agent(watched)
    diagram.agent(deliver(west_load.fifo, np.concatenate(streamed)))
    diagram.agent(deliver(other.fifo, np.concatenate(norths)))
    completions(diagram, m, x)
    return ends


def sata_ends(case):
    """The same of SATA's, whose loads take what :func:`fill_loads` says."""
    diagram, ends = Diagram(), []
    loads, credit, sums = (diagram.fifo(1000) for _ in range(3))
    cycles, first = [], []
    for west in case.west:
        words = (west.transpose(2, 0, 1) @ (1 << np.arange(case.ticks))).astype(np.uint16)
        array = Array(R, C, STEPS, case.ticks, case.ticks, case.skips, 1, 64, 512)
        count = -(-len(west) // STEPS)
        table = Loads(*np.zeros((3, count), np.int64), np.zeros((count, 1), np.int64))
        fill_loads(
            words, np.full((1, len(west)), 0xFFFF, np.uint16), False, 8 * C, array, table,
            np.zeros((1, 1, 1), np.int64), np.zeros((1, 1, len(west)), np.uint8),
        )  # fmt: skip
        first.append(len(cycles))
        cycles += table.cycles.tolist()
    numbers = np.diff([*first, len(cycles)])
    for fold, (begin, number) in enumerate(zip(first, numbers, strict=True)):

        def one_fold(a, m, x, begin=begin, number=number):
            m.folds, m.loads = 1, int(number)
            x.fold.first_load[0] = begin
            yield from buffered_array.array(a, m, x)
            ends.append(a.now)

        first[fold] = one_fold

    def folds(a, m, x):
        for one_fold in first:
            yield from one_fold(a, m, x)

    nothing = np.zeros(len(cycles), np.int64)
    m = SimpleNamespace(
        load=loads, credit=credit, sums=sums, config=SimpleNamespace(pe=SimpleNamespace(rows=R, columns=C))
    )
    x = SimpleNamespace(
        fold=SimpleNamespace(rows=nothing, columns=nothing, first_load=nothing.copy(), span=nothing, added=nothing),
        load=SimpleNamespace(live=nothing, entered=nothing, cycles=cycles),
    )
    diagram.agent(folds)
    diagram.agent(deliver(loads.fifo, np.concatenate(case.release)))
    completions(diagram, m, x)
    return ends


def compare(case, ran):
    leaving, taken, ended = ran.outputs
    np.testing.assert_array_equal(ended.cycles, fold_ends(case))
    first, streams = 0, [[] for _ in range(C)]
    for transfer in leaving.words:
        for column in range(C):
            if transfer[0] >> column & 1:
                streams[column].append(int(transfer[1 + column].astype(np.int32)))
    for fold, (west, north) in enumerate(zip(case.west, case.north, strict=True)):
        if case.mode == WEIGHT:
            sums = west[:, 0] @ north[:, 0]
            assert [stream[first : first + len(west)] for stream in streams] == sums.T.tolist()
            first += len(west)
            continue
        sums = np.einsum("ktr,ktc->rct", west, north)
        if case.mode == SATA:
            given = taken.words[fold].view(np.int32).reshape(R, C, TICKS)
            np.testing.assert_array_equal(given[..., : case.ticks], sums)
            continue
        # The bottom row leaves first, tick by tick; the last of a fold in the cycle before its end.
        number = R * case.ticks
        assert leaving.cycles[first + number - 1] == ended.cycles[fold] - 1
        expected = sums[::-1].transpose(1, 0, 2).reshape(C, number)
        assert [stream[first : first + number] for stream in streams] == expected.tolist()
        first += number


@pytest.mark.rtl
@needs_verilator
def test_folds(tmp_path):
    """Folds of 1 to 40 steps of one to four ticks, loads that come late, all three ways to use the array."""
    circuit = build("systolic_array", tmp_path, settings=4, inputs=1, in_words=37, outputs=3, out_words=80)
    compare_all(circuit, draw_case, case_of, compare, told=lambda case: case[:3])
