"""The memory of a machine against its circuit: the cycle in which each request is done."""

from collections import namedtuple
from typing import NamedTuple

import numpy as np
import pytest

from archsim.engine import compiled, reference
from archsim.engine.compiled import run
from archsim.hardware import operation as op
from archsim.hardware.interconnect.crossbar_switch import SwitchSpec
from archsim.hardware.memory.cache import CacheSpec, shift_of
from archsim.hardware.memory.system import MemorySpec
from archsim.jit import inlined, kernel
from tests.rtl.circuit import Case, build, compare_all, needs_verilator
from tests.rtl.memory import MEMORY_WORDS, draw_dram, longest_fetch, memory_words

AGENTS, PLACES = 8, 9
MODES = 8

Drawn = namedtuple("Drawn", "table count start lanes spec number")
"""``table`` [agents, requests, 4] of line, beats, mode, epoch, of which agents send ``count`` [agents, operations] one
operation behind the other; ``start`` [agents]: the cycle of the first."""


class NoSpec(NamedTuple):
    unused: int


class Requests(NamedTuple):
    table: np.ndarray
    count: np.ndarray
    start: np.ndarray


@inlined
def late(agent, now, spec, state, x, o, counts):
    """Nothing until the agent's start, then its operations; keeps the cycles in which their requests were done."""
    state[agent, 0] += 1
    operation, first = state[agent, 0] - 2, 0
    for before in range(max(0, operation)):
        first += x.count[agent, before]
    if operation > 0:
        for i in range(x.count[agent, operation - 1]):
            counts[agent, first - x.count[agent, operation - 1] + i] = o[
                agent, op.HEADER + i * op.REQUEST_FIELDS + op.DONE
            ]
    if operation < 0:
        o[agent, op.PAUSE] = x.start[agent]
    elif operation == x.count.shape[1]:
        o[agent, op.END] = 1
    else:
        for i in range(x.count[agent, operation]):
            line, beats, mode, epoch = x.table[agent, first + i]
            op.add_request(o, agent, line, beats, 16, mode, 0, epoch)


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
    read, write = (
        SwitchSpec(inputs, outputs, int(outputs < banks)) for inputs, outputs in draw.integers(1, 9, (2, 2)).tolist()
    )
    spec = MemorySpec(0, read, write, integer(1, 5), integer(1, 5), integer(1, 4), cache, draw_dram(draw))
    agents = integer(1, AGENTS)
    count = draw.integers(1, PLACES + 1, (agents, integer(1, int(draw.choice([1, 4])))))
    requests = int(count.sum(1).max())
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
    return Drawn(table, count, start, lanes, spec, number)


def case_of(case):
    lanes = np.zeros(AGENTS, np.int64)
    lanes[: len(case.lanes)] = case.lanes + 2
    inputs = []
    for start, rows, count in zip(case.start, case.table, case.count, strict=True):
        place = np.concatenate([np.arange(number) for number in count])
        inputs.append((start + np.arange(len(place)), np.column_stack([rows[: len(place)], place])))
    nothing = np.zeros(0, np.int64), np.zeros((0, 5), np.int64)
    requests, cache = int(case.count.sum()), case.spec.cache
    longest = 30 + int(case.table[..., 1].max()) + 3 * cache.fill_beats
    limit = int(case.start.max()) + requests * longest + longest_fetch(case.spec.dram, 2 * requests)
    settings = [requests, *memory_words(case.spec), *lanes.tolist()]
    return Case(settings, inputs + [nothing] * (AGENTS - len(inputs)), [0] * AGENTS + [1], limit)


def done_in_archsim(case, engine):
    counts, state = np.zeros(case.table.shape[:2], np.int64), np.zeros((len(case.table), 1), np.int64)
    machine, program = (compiled, loop) if engine == "compiled" else (reference, late)
    given = op.topology(case.count.max(1).tolist(), case.lanes.tolist(), [], [])
    operands = Requests(case.table, case.count, case.start)
    machine.simulate(program, NoSpec(0), operands, given, case.spec, state, counts, 1)
    return counts


def compare(case, ran):
    expected = done_in_archsim(case, "compiled")
    for stream, cycles, count in zip(ran.outputs, expected, case.count, strict=False):
        at, place = np.nonzero(stream.words >> np.arange(PLACES, dtype=np.uint32) & 1)
        done = [stream.cycles[at[place == i]] for i in range(PLACES)]
        # Of each place, an operation behind the other.
        of_place = np.concatenate([np.arange(number) for number in count])
        for i in range(PLACES):
            np.testing.assert_array_equal(done[i], cycles[: len(of_place)][of_place == i])
    if case.number % 4 == 0:
        np.testing.assert_array_equal(done_in_archsim(case, "reference"), expected)


@pytest.mark.rtl
@needs_verilator
def test_every_request(tmp_path):
    """Every mode of a request; one to six miss registers, one to four ways, both replacements, one to four channels."""
    circuit = build("cache", tmp_path, settings=1 + MEMORY_WORDS + AGENTS, inputs=8, in_words=5, outputs=9, out_words=1)
    compare_all(circuit, draw_case, case_of, compare)
