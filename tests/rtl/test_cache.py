"""Cache, miss registers and channels against their circuit: the cycle in which each request is done."""

from collections import namedtuple
from typing import NamedTuple

import numpy as np
import pytest

from archsim.engine import compiled, reference
from archsim.engine.compiled import run
from archsim.hardware import operation as op
from archsim.hardware.interconnect.crossbar_switch import SwitchSpec
from archsim.hardware.memory.cache import CacheSpec, shift_of
from archsim.hardware.memory.dram import DramSpec
from archsim.hardware.memory.system import MemorySpec
from archsim.jit import inlined, kernel
from tests.rtl.circuit import Case, build, compare_all, needs_verilator

AGENTS, PLACES = 8, 9
MODES = 8

Drawn = namedtuple("Drawn", "table start lanes spec number")
"""``table`` [agents, requests, 4] of line, beats, mode, epoch; ``start`` [agents]: the cycle of the first request."""


class NoSpec(NamedTuple):
    unused: int


class Requests(NamedTuple):
    table: np.ndarray
    start: np.ndarray


@inlined
def late(agent, now, spec, state, x, o, counts):
    """Nothing until the agent's start, then all its requests; then the cycles in which they were done."""
    state[agent, 0] += 1
    if state[agent, 0] == 1:
        o[agent, op.PAUSE] = x.start[agent]
    elif state[agent, 0] == 2:
        for i in range(x.table.shape[1]):
            line, beats, mode, epoch = x.table[agent, i]
            op.add_request(o, agent, line, beats, 16, mode, 0, epoch)
    else:
        for i in range(x.table.shape[1]):
            counts[agent, i] = o[agent, op.HEADER + i * op.REQUEST_FIELDS + op.DONE]
        o[agent, op.END] = 1


@kernel
def loop(spec, x, machine):
    return run(late, spec, x, machine)


def draw_case(draw, number):
    """Few lines, so that they are hit, merged and displaced; some agents begin when others have ended."""
    integer = lambda low, high: int(draw.integers(low, high + 1))  # noqa: E731
    banks, sets = int(draw.choice([1, 2, 3, 4])), integer(1, 2)
    cache = CacheSpec(
        banks=banks, bank_shift=shift_of(banks), sets=sets, set_shift=shift_of(sets), ways=integer(1, 4),
        fill_beats=integer(1, 4), beat_bytes=16, access_cycles=1, conflicts=1, mshrs=integer(1, 6),
        keeps_live=integer(0, 1), window_shift=0, window_banks=banks,
    )  # fmt: skip
    latency = integer(1, 40)
    dram = DramSpec(
        channels=integer(1, 2), units_per_cycle=1, units_per_line=integer(1, 12), row_hit_cycles=latency,
        row_miss_cycles=latency, lines_per_row=1, banks=1, interleave_lines=integer(1, 3), refresh_interval_cycles=0,
        refresh_cycles=0,
    )  # fmt: skip
    read, write = (
        SwitchSpec(inputs, outputs, int(outputs < banks)) for inputs, outputs in draw.integers(1, 9, (2, 2)).tolist()
    )
    spec = MemorySpec(0, read, write, integer(1, 5), integer(1, 5), integer(1, 4), cache, dram)
    agents, requests = integer(1, AGENTS), integer(1, PLACES)
    table = np.empty((agents, requests, 4), np.int64)
    table[..., 0] = draw.integers(0, draw.choice([1, 2, 6, 24, 60]), (agents, requests))
    table[..., 1] = draw.integers(1, draw.choice([2, 5, 9]), (agents, requests))
    table[..., 2] = draw.integers(0, MODES, (agents, requests))
    start = draw.integers(0, draw.choice([1, 30, 150]), agents)
    match number % 8:
        case 1:  # all read one line
            table[..., 0], table[..., 2] = 5, op.CACHED_READ
        case 2:  # reads of lines of one set
            table[..., 0], table[..., 2] = banks * sets * draw.integers(0, 6, (agents, requests)), op.CACHED_READ
        case 3:  # lines are written and displaced
            table[..., 2] = draw.choice([op.CACHED_WRITE, op.CACHED_READ], (agents, requests))
        case 4:  # what is written is read for the last time
            table[..., 2] = draw.choice([op.CACHED_WRITE, op.CONSUME, op.CACHED_READ], (agents, requests))
        case 5:  # a stream, and readers of it
            table[..., 2] = draw.choice([op.PREFETCH, op.CACHED_READ, op.STREAM_READ], (agents, requests))
    table[..., 3] = (start[:, None] + np.arange(requests)) // 40
    lanes = draw.permutation(AGENTS)[:agents]
    lanes[draw.random(agents) < draw.choice([0, 0.2])] = op.OWN_PATH
    lanes[draw.random(agents) < draw.choice([0, 0.2])] = op.BUS
    return Drawn(table, start, lanes, spec, number)


def case_of(case):
    agents, requests, _ = case.table.shape
    cache, dram, spec = case.spec.cache, case.spec.dram, case.spec
    lanes = np.zeros(AGENTS, np.int64)
    lanes[:agents] = case.lanes + 2
    settings = [
        agents * requests, cache.banks, cache.sets, cache.ways, cache.fill_beats, cache.mshrs, cache.keeps_live,
        dram.channels, dram.interleave_lines, dram.units_per_line, dram.row_hit_cycles, spec.read_cycles,
        spec.own_read_cycles, spec.write_cycles, spec.read_switch.inputs, spec.read_switch.outputs,
        spec.write_switch.inputs, spec.write_switch.outputs, *lanes.tolist(),
    ]  # fmt: skip
    nothing = np.zeros(0, np.int64), np.zeros((0, 4), np.int64)
    inputs = [(start + np.arange(requests), rows) for start, rows in zip(case.start, case.table, strict=True)]
    longest = 30 + 2 * dram.units_per_line + dram.row_hit_cycles + int(case.table[..., 1].max()) + 3 * cache.fill_beats
    limit = int(case.start.max()) + agents * requests * longest
    return Case(settings, inputs + [nothing] * (AGENTS - agents), [0] * AGENTS + [1], limit)


def done_in_archsim(case, engine):
    agents, requests, _ = case.table.shape
    counts, state = np.zeros((agents, requests), np.int64), np.zeros((agents, 1), np.int64)
    machine, program = (compiled, loop) if engine == "compiled" else (reference, late)
    given = op.topology([requests] * agents, case.lanes.tolist(), [], [])
    machine.simulate(program, NoSpec(0), Requests(case.table, case.start), given, case.spec, state, counts, 1)
    return counts


def compare(case, ran):
    agents, requests, _ = case.table.shape
    done = np.full((agents, PLACES), -1)
    for agent, stream in enumerate(ran.outputs[:agents]):
        at, place = np.nonzero(stream.words >> np.arange(PLACES, dtype=np.uint32) & 1)
        done[agent, place] = stream.cycles[at]
    expected = done_in_archsim(case, "compiled")
    np.testing.assert_array_equal(done[:, :requests], expected)
    if case.number % 4 == 0:
        np.testing.assert_array_equal(done_in_archsim(case, "reference"), expected)


@pytest.mark.rtl
@needs_verilator
def test_every_request(tmp_path):
    """Every mode of a request; one to six miss registers, one to four ways, both replacements, one or two channels."""
    circuit = build("cache", tmp_path, settings=26, inputs=8, in_words=4, outputs=9, out_words=1)
    compare_all(circuit, draw_case, case_of, compare)
