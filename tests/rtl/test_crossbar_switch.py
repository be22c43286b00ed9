"""Crossbar switches, broadcast bus and banks against their circuit: the cycle in which each request is done.

The declared arbiter sees all that wait. One that sees the heads of the inputs' queues only is a second circuit, with
which archsim need not agree: what it saves is measured.
"""

from collections import namedtuple

import numpy as np
import pytest

from archsim.engine import compiled, reference
from archsim.hardware.operation import BUS, OWN_PATH, RESIDENT_READ, RESIDENT_WRITE, topology
from tests.engines.test_crossbar_switch import NoSpec, Requests, loop, memory, once
from tests.rtl.circuit import COMPARED, Case, batches, build, drawn, needs_verilator

AGENTS, PLACES = 8, 12
BUS_CYCLES = 1
"""Cycles from the bank to the receivers of the bus, or of an agent with a path of its own."""

Drawn = namedtuple("Drawn", "table lanes inputs outputs banks access traversal")
"""``table`` [agents, requests, 3] of bank, beats, 1 for a write; ``inputs``, ``outputs`` of the switches for reads and
for writes."""


def draw_case(draw, number):
    banks = int(draw.choice([1, 2, 4, 8]))
    agents, requests = int(draw.integers(1, AGENTS + 1)), int(draw.integers(1, PLACES + 1))
    table = np.empty((agents, requests, 3), np.int64)
    table[..., 0] = draw.integers(0, banks, (agents, requests))
    table[..., 1] = draw.integers(1, draw.choice([2, 5, 9]), (agents, requests))
    table[..., 2] = draw.random((agents, requests)) < draw.choice([0, 0.3, 1])
    match number % 10:
        case 1:  # all want one bank
            table[..., 0] = 0
        case 2:  # every agent walks through the banks, all in step
            table[..., 0] = np.arange(requests) % banks
        case 3:  # a diagonal, on which only the bus makes anybody wait
            table[..., 0] = (np.arange(agents)[:, None] + np.arange(requests)) % banks
    lanes = draw.permutation(AGENTS)[:agents]
    lanes[draw.random(agents) < draw.choice([0, 0.2])] = OWN_PATH
    lanes[draw.random(agents) < draw.choice([0, 0.3, 1])] = BUS
    inputs, outputs = draw.choice([1, 2, 3, 5, 8, 8], (2, 2))
    return Drawn(
        table, lanes, inputs.tolist(), outputs.tolist(), banks, int(draw.integers(1, 4)), int(draw.integers(0, 4))
    )


def spec_of(case):
    read, write = (
        {"inputs": inputs, "outputs": outputs, "traversal_cycles": case.traversal}
        for inputs, outputs in zip(case.inputs, case.outputs, strict=True)
    )
    return memory(read, write, banks=case.banks, access_cycles=case.access)


def case_of(case, heads_only):
    agents, requests, _ = case.table.shape
    ports = [port for pair in zip(case.inputs, case.outputs, strict=True) for port in pair]
    lanes = np.zeros(AGENTS, np.int64)
    lanes[:agents] = case.lanes + 2
    settings = [
        agents * requests, int(heads_only), *ports, case.banks, case.access + case.traversal,
        case.access + BUS_CYCLES, max(1, case.access + case.traversal - 1), *lanes.tolist(),
    ]  # fmt: skip
    nothing = np.zeros(0, np.int64), np.zeros((0, 3), np.int64)
    inputs = [(np.arange(requests), rows) for rows in case.table] + [nothing] * (AGENTS - agents)
    return Case(settings, inputs, [0] * AGENTS + [1], int(case.table[..., 1].sum()) + requests + 40)


def done_in_archsim(case, engine):
    agents, requests, _ = case.table.shape
    table = case.table.copy()
    table[..., 2] = np.where(table[..., 2], RESIDENT_WRITE, RESIDENT_READ)
    counts, state = np.zeros((agents, requests), np.int64), np.zeros((agents, 1), np.int64)
    machine, program = (compiled, loop) if engine == "compiled" else (reference, once)
    given = topology([requests] * agents, case.lanes.tolist(), [], [])
    machine.simulate(program, NoSpec(0), Requests(table), given, spec_of(case), state, counts, 1)
    return counts


def done_in(ran, case):
    """Cycles in which requests are done in the circuit [agents, requests]."""
    agents, requests, _ = case.table.shape
    done = np.full((agents, PLACES), -1)
    for agent, stream in enumerate(ran.outputs[:agents]):
        at, place = np.nonzero(stream.words >> np.arange(PLACES, dtype=np.uint32) & 1)
        done[agent, place] = stream.cycles[at]
    return done[:, :requests]


@pytest.mark.rtl
@needs_verilator
def test_every_request(tmp_path, record_property):
    """One to eight agents, inputs, outputs and banks, reads and writes of up to eight beats; some agents have paths of
    their own, some share the bus."""
    circuit = build("crossbar_switch", tmp_path, settings=18, inputs=8, in_words=3, outputs=9, out_words=1)
    declared = heads = differing = requests = 0
    for seed, number in batches():
        draw = np.random.default_rng(seed)
        cases = [draw_case(draw, i) for i in range(number)]
        ran = circuit.run([case_of(case, heads_only) for heads_only in (False, True) for case in cases])
        for i, case in enumerate(cases):
            with drawn(seed, i, case):
                expected = done_in_archsim(case, "compiled")
                np.testing.assert_array_equal(done_in(ran[i], case), expected)
                if i % 4 == 0:
                    np.testing.assert_array_equal(done_in_archsim(case, "reference"), expected)
                of_heads = done_in(ran[number + i], case)
                assert of_heads.min() >= 0
            COMPARED.append(expected.size)
            declared, heads = declared + int(expected.max()), heads + int(of_heads.max())
            differing, requests = differing + np.count_nonzero(of_heads != expected), requests + expected.size
    record_property("cycles of all cases: declared arbiter, heads only", (declared, heads))
    record_property("requests done at another time with heads only", (int(differing), requests))
    # An arbiter that sees less cannot keep a bank for a request that is stuck at its input.
    assert heads < declared
