"""Crossbar switch and banks, in both engines: who waits for whom, to the cycle."""

from typing import NamedTuple

import numpy as np
import pytest

from archsim.engine import compiled, reference
from archsim.engine.compiled import run
from archsim.hardware import operation as op
from archsim.hardware.memory.system import MemoryConfig
from archsim.jit import inlined, kernel

SWITCH = {"inputs": 4, "outputs": 4, "traversal_cycles": 1}


def memory(read_switch=None, write_switch=None, **cache):
    fields = {
        "size_kib": 4, "banks": 4, "ways": 4, "line_bytes": 64, "width_bits": 128, "access_cycles": 1,
        "bank_conflicts": True, "mshrs": 4, "replacement": "lru", "double_buffer": False, "stream_ways": 0, **cache,
    }  # fmt: skip
    dram = {
        "channels": 1, "bandwidth_gb_s": 64.0, "row_hit_ns": 10.0, "row_miss_ns": 10.0, "row_bytes": 1024,
        "banks_per_channel": 1, "interleave_bytes": 64, "refresh_interval_ns": 0.0, "refresh_ns": 0.0,
    }  # fmt: skip
    return MemoryConfig(
        ideal=False, read_switch={**SWITCH, **(read_switch or {})}, write_switch={**SWITCH, **(write_switch or {})},
        broadcast={"cycles": 1}, cache=fields, dram=dram,
    ).resolve(1000.0)  # fmt: skip


class NoSpec(NamedTuple):
    unused: int


class Requests(NamedTuple):
    """``table`` int64 [agents, requests, 3]: bank, beats, mode."""

    table: np.ndarray


@inlined
def once(agent, now, spec, state, x, o, counts):
    """All requests of the agent in one operation, then the cycles in which they were done."""
    if state[agent, 0] == 1:
        for i in range(x.table.shape[1]):
            counts[agent, i] = o[agent, op.HEADER + i * op.REQUEST_FIELDS + op.DONE]
        o[agent, op.END] = 1
        return
    state[agent, 0] = 1
    for i in range(x.table.shape[1]):
        op.add_request(o, agent, x.table[agent, i, 0], x.table[agent, i, 1], 16, x.table[agent, i, 2], 0, 0)


@kernel
def loop(spec, x, machine):
    return run(once, spec, x, machine)


@pytest.fixture(params=["compiled", "reference"])
def done(request):
    """A function: cycles in which each agent's requests are done."""

    def simulate(table, lanes, spec):
        table = np.array(table, np.int64)
        agents, requests = table.shape[:2]
        counts = np.zeros((agents, requests), np.int64)
        engine, program = (compiled, loop) if request.param == "compiled" else (reference, once)
        topology = op.topology([requests] * agents, lanes, [], [])
        state = np.zeros((agents, 1), np.int64)
        engine.simulate(program, NoSpec(0), Requests(table), topology, spec, state, counts, 1)
        return counts.tolist()

    return simulate


R, W = op.RESIDENT_READ, op.RESIDENT_WRITE


def test_different_banks_do_not_wait(done):
    """Granted at 0, out of the bank at 1, through the switch at 2."""
    assert done([[[0, 1, R]], [[1, 1, R]], [[2, 1, R]]], [0, 1, 2], memory()) == [[2], [2], [2]]


def test_one_bank_serves_the_oldest_then_the_smallest(done):
    assert done([[[0, 1, R]], [[0, 1, R]], [[0, 1, R]]], [0, 1, 2], memory()) == [[2], [3], [4]]


def test_an_access_holds_its_input_for_all_beats(done):
    """Second request of the same agent: ready at 1, its input is free at 3 although its bank is free at once."""
    assert done([[[0, 3, R], [1, 1, R]]], [0], memory()) == [[4, 5]]


def test_a_request_waits_behind_the_one_before_it_at_the_input(done):
    """Agent 1's first request waits for bank 0 until 4, so its second, to the free bank 1, waits too."""
    assert done([[[0, 4, R], [3, 1, R]], [[0, 1, R], [1, 1, R]]], [0, 1], memory()) == [[5, 6], [6, 7]]


def test_inputs_are_shared_by_lanes(done):
    """Two inputs, so lanes 0 and 2 enter at the same one."""
    shared = memory(read_switch={"inputs": 2})
    assert done([[[0, 1, R]], [[1, 1, R]], [[2, 1, R]]], [0, 1, 2], shared) == [[2], [2], [3]]


def test_outputs_are_shared_by_banks(done):
    """Two outputs, so banks 0 and 2 hang on the same one."""
    shared = memory(read_switch={"outputs": 2})
    assert done([[[0, 1, R]], [[1, 1, R]], [[2, 1, R]]], [0, 1, 2], shared) == [[2], [2], [3]]


def test_reads_and_writes_have_switches_of_their_own_but_meet_at_the_bank(done):
    """A read and a write of one agent to two banks go at once (the write is sent a cycle later); to one bank they wait.

    A write is in the bank at grant + beats - 1 + access + traversal - 1.
    """
    assert done([[[0, 2, R], [1, 1, W]]], [0], memory()) == [[3, 2]]
    assert done([[[0, 2, R], [0, 1, W]]], [0], memory()) == [[3, 3]]


def test_a_path_of_its_own_uses_no_switch(done):
    """The broadcaster waits for banks only: its second access is sent at 1 and granted at 1."""
    spec = memory()
    assert done([[[0, 3, R], [1, 1, R]]], [op.OWN_PATH], spec) == [[4, 3]]


def test_the_broadcast_bus_carries_a_beat_a_cycle(done):
    """Three reads of four beats, each from its bank: the bus takes twelve cycles, where paths of their own take six."""
    reads = [[[0, 4, R], [1, 4, R], [2, 4, R]]]
    assert done(reads, [op.BUS], memory()) == [[5, 9, 13]]
    assert done(reads, [op.OWN_PATH], memory()) == [[5, 6, 7]]


def test_without_conflicts_nobody_waits(done):
    """All requests are sent at once, and three beats take no longer than one."""
    spec = memory(bank_conflicts=False)
    assert done([[[0, 3, R], [0, 1, R]], [[0, 3, R], [0, 1, R]]], [0, 1], spec) == [[2, 2], [2, 2]]
