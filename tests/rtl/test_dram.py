"""DRAM channels against their circuit: the cycles in which each line's burst ends and its data are there."""

from collections import namedtuple

import numpy as np
import pytest

from archsim.hardware.memory.dram import DramSpec, channel_of, idle_dram, serve
from archsim.jit import plain
from tests.rtl.circuit import Case, build, compare_all, needs_verilator

LINES = 64

Drawn = namedtuple("Drawn", "spec lines release")


def draw_case(draw, number):
    """Every rate from several lines a cycle to a line in many; lines in a row, in one bank, or anywhere."""
    integer = lambda low, high: int(draw.integers(low, high + 1))  # noqa: E731
    per_cycle = integer(1, int(draw.choice([1, 7, 1 << 20])))
    per_line = max(1, int(per_cycle * draw.choice([draw.random(), 1, 1 + draw.random(), 12 * draw.random()])))
    interval, refresh = integer(2, 200), integer(0, 1) * integer(1, 40)
    spec = DramSpec(
        channels=integer(1, 4), units_per_cycle=per_cycle, units_per_line=per_line, row_hit_cycles=integer(1, 30),
        row_miss_cycles=integer(30, 120), lines_per_row=integer(1, 16), banks=integer(1, 4),
        interleave_lines=integer(1, 4), refresh_interval_cycles=interval, refresh_cycles=min(refresh, interval - 1),
    )  # fmt: skip
    count = integer(1, LINES)
    lines = draw.integers(0, integer(1, 4096), count)
    match number % 4:
        case 1:
            lines = integer(0, 1000) + np.arange(count)
        case 2:
            lines = np.arange(count) * spec.channels * spec.interleave_lines * spec.lines_per_row * spec.banks
    gaps = 1 + (draw.random(count) < draw.choice([0, 0.1, 1])) * draw.integers(0, 60, count)
    return Drawn(spec, lines, np.cumsum(gaps) - 1)


def case_of(case):
    spec = case.spec
    settings = [
        len(case.lines), spec.channels, spec.interleave_lines, spec.lines_per_row, spec.banks, spec.units_per_cycle,
        spec.units_per_line, spec.row_hit_cycles, spec.row_miss_cycles, spec.refresh_interval_cycles,
        spec.refresh_cycles,
    ]  # fmt: skip
    bursts = len(case.lines) * (spec.units_per_line // spec.units_per_cycle + 2)
    limit = int(case.release[-1]) + spec.row_miss_cycles + 10 + bursts
    # Between two refreshes there may be a cycle for one line.
    limit += spec.refresh_cycles * (
        len(case.lines) + bursts // (spec.refresh_interval_cycles - spec.refresh_cycles) + 2
    )
    return Case(settings, [(case.release, case.lines[:, None])], [0, 0, 1], limit)


def served(case):
    """(cycle behind the burst, cycle of the data) of every line in archsim, first come first served."""
    state, free = idle_dram(case.spec), [0] * case.spec.channels
    found = []
    for line, ready in zip(case.lines.tolist(), case.release.tolist(), strict=True):
        channel = plain(channel_of)(case.spec, line)
        after_burst, data, free[channel] = plain(serve)(case.spec, state, line, max(ready, free[channel]))
        found.append((after_burst, data))
    return np.array(found).T


def cycles_of(stream, count):
    bits = np.unpackbits(stream.words.astype("<u4").view(np.uint8).reshape(len(stream.cycles), 8), axis=1,
                         bitorder="little")  # fmt: skip
    at, line = np.nonzero(bits)
    found = np.full(LINES, -1)
    found[line] = stream.cycles[at]
    return found[:count]


@pytest.mark.rtl
@needs_verilator
def test_bursts_and_data(tmp_path):
    """One to four channels and banks, rates that are no whole number of cycles, rows that hit and miss, refresh."""
    circuit = build("dram", tmp_path, settings=11, inputs=1, in_words=1, outputs=3, out_words=2)
    compare_all(circuit, draw_case, case_of, compare)


def compare(case, ran):
    after_burst, data = served(case)
    assert ran.cycles is not None
    np.testing.assert_array_equal(cycles_of(ran.outputs[0], len(case.lines)), after_burst)
    np.testing.assert_array_equal(cycles_of(ran.outputs[1], len(case.lines)), data)
