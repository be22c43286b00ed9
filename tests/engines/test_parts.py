"""Shared parts of agents against their equations, on both engines."""

from typing import NamedTuple

import numpy as np
import pytest

from archsim.dataflow.parts import (
    PingPong,
    broadcast,
    fetch,
    in_flight,
    neuron_rows,
    ping_pong,
    port_of,
    store,
    stream,
    turns,
)
from archsim.engine import compiled, reference
from archsim.engine.lowering import loop_of, lower
from archsim.hardware.agent import NONE, op
from archsim.hardware.diagram import Diagram, Fifo
from archsim.hardware.memory.placement import Placer, Tensor
from archsim.hardware.operation import PREFETCH, STREAM_READ
from archsim.simulate import load_accelerator
from tests.engines.test_engines_agree import assert_same
from tests.machines import LOAS

BURST, LINE_BYTES = 4, 64


class Operands(NamedTuple):
    data: Tensor
    uses: np.ndarray


class Agents(NamedTuple):
    streamer: int
    storer: int
    writer: int
    lane: int
    sender: int
    receiver: int


class Machine(NamedTuple):
    agents: Agents
    memory: NamedTuple
    buffers: PingPong
    finished: Fifo
    room: Fifo
    rounds: int
    whole: int


def streamer(a, m, x):
    """All fibers, in as few operations as possible."""
    for fiber in range(len(x.data.size)):
        if m.whole:
            yield from fetch(a, m, x.data, fiber, 0, x.data.size[fiber], PREFETCH, 0, BURST)
        else:
            yield from stream(a, m, x.data, fiber, 0, x.data.size[fiber], STREAM_READ, 0, BURST)
    yield op()


def storer(a, m, x):
    """The first fiber."""
    yield from store(a, m, x.data, 0)


def writer(a, m, x):
    """The second fiber, then the first, each for two finished rows; it gives room back for the first of them."""
    for fiber in range(2):
        room = m.room.fifo if fiber == 0 else NONE
        yield from neuron_rows(a, m, x.data, 1 - fiber, m.finished.port, 2, x.uses[0], x.uses[1], room)
    yield op(pop=m.room.port)


def lane(a, m, x):
    """A lane of a DMA, all fibers."""
    turn = 0
    for fiber in range(len(x.data.size)):
        yield from in_flight(a, m, x.data, fiber, 0, x.data.size[fiber], STREAM_READ, 0, turn)
        turn += turns(a, m, 0, x.data.size[fiber])


def sender(a, m, x):
    """The first fiber, again and again."""
    for _ in range(m.rounds):
        yield from broadcast(a, m, x.data, 0, 0, x.data.size[0], 0, m.buffers, 0, 0)


def receiver(a, m, x):
    """Use a buffer for as long as this receiver does."""
    for _ in range(m.rounds):
        yield op(pop=port_of(a, m.buffers.filled, m.buffers.receivers, 0, a.me), compute=x.uses[a.me])
        yield op(pop=port_of(a, m.buffers.held, m.buffers.receivers, 0, a.me))


AGENTS = streamer, storer, writer, lane, sender, receiver
LOWERED = lower(AGENTS)
LOOP = loop_of(AGENTS, __name__)


def outcome(*, ideal=False, sizes=(640,), uses=(1,), rounds=0, whole=0, share=1, **drawn):
    """What both engines say of agents that are ``drawn``, by name; DRAM takes as long for every line."""
    choices = "memory.dram.row_miss_ns=97", "memory.dram.bandwidth_gb_s=10000", f"memory.ideal={str(ideal).lower()}"
    machine = load_accelerator(LOAS, choices)
    diagram, placer = Diagram(), Placer(LINE_BYTES)
    operands = Operands(placer.place(np.array(sizes)), np.array(uses))
    for agent in AGENTS:
        diagram.agent(agent, drawn.get(agent.__name__, 0), requests=16)
    memory_lines = machine.config.memory.lines(BURST)._replace(lanes=drawn.get("lane", 1), share=share)
    m = Machine(
        Agents(**diagram.ends), memory_lines, ping_pong(diagram, len(uses)),
        diagram.fifo(4, full=True), diagram.fifo(1), rounds, whole,
    )  # fmt: skip
    found = []
    for engine, step in ((compiled, LOOP), (reference, diagram.coroutines(LOWERED.kept))):
        agents = sum(drawn.values())
        state, counts = np.zeros((agents, LOWERED.kept), np.int64), np.zeros((agents, 1), np.int64)
        memory = machine.config.memory.resolve(machine.clock_mhz)
        found.append(engine.simulate(step, m, operands, diagram.topology, memory, state, counts, 1, True))
    assert_same(*found)
    return found[0]


def line_cycles(**drawn):
    """Cycles of one line."""
    return outcome(sizes=(LINE_BYTES,), **drawn).cycles


@pytest.mark.parametrize("part", ["streamer", "storer"])
@pytest.mark.parametrize("lines", [1, 3, 4, 5, 11])
def test_an_operation_of_b_lines_takes_b_less_one_more_than_a_line(part, lines):
    alone = line_cycles(**{part: 1})
    operations = [min(BURST, lines - first) for first in range(0, lines, BURST)]
    assert outcome(sizes=(lines * LINE_BYTES - 5,), **{part: 1}).cycles == sum(b - 1 + alone for b in operations)


@pytest.mark.parametrize(("pause", "cycles"), [(0, 0), (3, 0), (0, 9), (2, 5)])
def test_a_row_of_neurons_fires_and_is_written_before_the_next(pause, cycles):
    alone, lines = line_cycles(storer=1), (5, 2)
    written = sum(min(BURST, n - first) - 1 + alone for n in lines for first in range(0, n, BURST))
    found = outcome(sizes=[n * LINE_BYTES for n in lines], uses=(pause, cycles), writer=1)
    assert found.cycles == 2 * (pause + cycles) + written


@pytest.mark.parametrize("whole", [0, 1])
def test_fibers_share_operations(whole):
    """Lines of five fibers in two operations, one fiber of nothing among them."""
    sizes, alone = (64, 100, 0, 30, 65), line_cycles(streamer=1, whole=whole)
    found = outcome(sizes=sizes, streamer=1, whole=whole)
    assert found.cycles == (BURST - 1 + alone) + (2 - 1 + alone)
    assert len(found.completions) == 2


@pytest.mark.parametrize("lanes", [1, 2, 5, 16])
@pytest.mark.parametrize("lines", [1, 5, 16, 37])
def test_a_dma_has_a_line_of_each_lane_in_flight(lanes, lines):
    assert outcome(sizes=(lines * LINE_BYTES - 5,), lane=lanes).cycles == -(-lines // lanes) * line_cycles(lane=1)


@pytest.mark.parametrize(("lanes", "share"), [(1, 4), (2, 3), (4, 4), (5, 1)])
@pytest.mark.parametrize("rounds", [1, 3])
def test_lanes_of_a_dma_take_shares_in_turn(lanes, share, rounds):
    """Two fibers, of which the second begins with the lane behind the last one of the first: together they are whole
    rounds of all lanes."""
    lines = rounds * lanes * share
    sizes = (lines - share) * LINE_BYTES, share * LINE_BYTES - 3
    found = outcome(sizes=sizes, share=share, lane=lanes)
    assert found.cycles == rounds * (share - 1 + line_cycles(lane=1))
    assert np.bincount(found.completions[:, 0]).tolist() == [rounds] * lanes


@pytest.mark.parametrize("uses", [(1,), (5,), (2, 7, 1), (7, 7)])
def test_the_slowest_receiver_sets_the_pace(uses):
    """The first filling takes a cycle, and all later ones happen while the buffers are used."""
    found = outcome(ideal=True, uses=uses, rounds=6, sender=1, receiver=len(uses))
    assert found.cycles == 1 + 6 * max(uses)


@pytest.mark.parametrize("lines", [1, 6])
def test_a_slow_filling_sets_the_pace(lines):
    """Lines that are in the cache are read one after the other, in the time of the first and a cycle for each other."""
    given = {"sizes": (lines * LINE_BYTES,), "uses": (1, 1), "sender": 1, "receiver": 2}
    four, nine = (outcome(rounds=rounds, **given).cycles for rounds in (4, 9))
    beats, read_cycles = LINE_BYTES // 16, 2
    assert nine - four == 5 * (lines - 1 + beats - 1 + read_cycles)


def test_a_receiver_is_two_buffers_ahead_at_most():
    """The slow receiver is through with a buffer in cycle 11, 21, ...; it is filled in the next one, for both."""
    found = outcome(ideal=True, uses=(1, 10), rounds=6, sender=1, receiver=2)
    fast = found.completions[found.completions[:, 0] == 1, 1].tolist()
    assert fast[::2] == fast[1::2] == [2, 3, 13, 23, 33, 43]


def test_beats_on_the_bus_are_counted():
    found = outcome(sizes=(100,), uses=(1,), rounds=3, sender=1, receiver=1)
    assert found.counts[0, 0] == 3 * 7
