"""What the compiled loop works on: the timing wheel, agents, requests, FIFOs and resources as tuples of arrays.

The wheel has :data:`WHEEL_SLOTS` slots of one cycle. A slot is three bit sets: agents to look at (control), requests
that complete, and requests that arrive at a resource. A bit is honoured only if its owner's due cycle is the current
one, so events further away than one turn simply stay for a later turn. Taking bits lowest first *is* the order of
``engine/ordering.py``: agents and requests are numbered that way. A slot with a bit in it is *marked*, so that the loop
goes from one cycle in which something may happen to the next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress.bitmask import lowest_one
from archsim.engine.outcome import TIME_COLUMNS
from archsim.engine.recording import INTERVALS, Window
from archsim.hardware.interconnect.crossbar_switch import SwitchState, idle_switches
from archsim.hardware.memory.cache import NONE, CacheState, empty_cache
from archsim.hardware.memory.dram import DramState, idle_dram
from archsim.hardware.memory.system import MemorySpec
from archsim.hardware.operation import DONE, HEADER, REQUEST_FIELDS, TRAFFIC_COLUMNS, Topology
from archsim.jit import inlined

WHEEL_SLOTS = 1024
"""Cycles of one turn of the wheel, a power of two; more than nearly every delay, so that few bits wait a turn."""

_WORDS = WHEEL_SLOTS >> 6
"""Words of 64 slots."""

# Where an agent is in its operation (operation.py, steps 1 to 4).
ASK, TAKE, GIVE, MEET, ENDED = range(5)

# What a request waits for next.
AT_BANK, AT_DISPLACED, AT_MSHR, AT_CHANNEL, AT_FILL, AT_DELIVERY = range(6)

NOW, ALIVE, RECORDED, UNTIL = range(4)  # fields of Machine.clock

COMPLETIONS_LIMIT = 4_000_000
"""Most completions that are recorded; zeroed memory costs nothing until they are written."""


class Wheel(NamedTuple):
    """``control`` uint64 [slots, words of agents]; ``arrive``, ``complete`` uint64 [slots, words of requests].

    A request completes when it is the last that its MSHR was held for.

    ``marked`` uint64 [words of slots]: slots with a bit in one of the three.
    """

    control: NDArray[np.uint64]
    arrive: NDArray[np.uint64]
    complete: NDArray[np.uint64]
    marked: NDArray[np.uint64]


class Agents(NamedTuple):
    """Per agent: place in the operation, due cycle, cycle of the call, end of execution, requests open, ..."""

    place: NDArray[np.int64]
    due: NDArray[np.int64]
    called: NDArray[np.int64]
    resume: NDArray[np.int64]
    pushed: NDArray[np.int64]
    open_requests: NDArray[np.int64]
    first_request: NDArray[np.int64]
    ended: NDArray[np.int64]
    times: NDArray[np.int64]


class Requests(NamedTuple):
    """Per request number: owner, place in the operation, due cycle, stage, reserved way.

    ``following`` is the request that waits for the same line behind this one, ``last`` the last of those that wait for
    the line that this one fetches, itself at first. ``displaced`` is the dirty line that the request must write to DRAM
    before it goes on, ``displaced_tensor`` its own.
    """

    owner: NDArray[np.int64]
    field: NDArray[np.int64]
    due: NDArray[np.int64]
    stage: NDArray[np.int64]
    way: NDArray[np.int64]
    following: NDArray[np.int64]
    last: NDArray[np.int64]
    displaced: NDArray[np.int64]
    displaced_tensor: NDArray[np.int64]


class Fifos(NamedTuple):
    """``written`` [FIFOs], ``taken`` [ports], who waits (agent or -1).

    ``values`` [FIFOs, places]: those of the last tokens, token i in place i modulo the places. These are a power of two
    and no fewer than the longest capacity: to divide takes longer than all else that a token needs.
    """

    written: NDArray[np.int64]
    taken: NDArray[np.int64]
    port_fifo: NDArray[np.int64]
    waiting_reader: NDArray[np.int64]
    waiting_writer: NDArray[np.int64]
    values: NDArray[np.int64]
    arrived: NDArray[np.int64]
    """Barriers' arrivals so far."""
    shared: NDArray[np.int64]
    """Ports that several agents share; the rows of ``queue`` belong to them."""
    shared_row: NDArray[np.int64]
    """[ports] Their row, NONE of a private port."""
    queue: NDArray[np.int64]
    """[shared ports, agents] The agents that wait, in the order of arbitration."""
    queued: NDArray[np.int64]
    """[shared ports] How many."""
    granted: NDArray[np.int64]
    """[agents] 1 from the grant of a shared end until the tokens are taken or written."""
    entry: NDArray[np.int64]
    """[FIFOs] The first agent that waits at an arbitrated writing end, or -1; PRIVATE of others."""
    behind: NDArray[np.int64]
    """[agents] The agent that waits next behind this one, or -1."""
    asked: NDArray[np.uint64]
    """[words of FIFOs, none without arbitrated writing ends] Those at which an agent waits and may find space: an agent
    came or went, or a token was taken."""


class Resources(NamedTuple):
    """First cycle in which a bank, the broadcast bus, a channel can grant; MSHRs: free ones and the queue of requests
    waiting for one. ``bus_free`` int64 [1]."""

    bank_free: NDArray[np.int64]
    bus_free: NDArray[np.int64]
    channel_free: NDArray[np.int64]
    mshr: NDArray[np.int64]
    mshr_queue: NDArray[np.int64]


class Loads(NamedTuple):
    """Busy time of banks, in cycles, and of channels, in the units of the DRAM: see :mod:`archsim.engine.recording`.

    ``window`` int64 [2] in cycles; ``banks``, ``channels`` int64 [intervals]; their widths int64 [1].
    """

    window: NDArray[np.int64]
    banks: NDArray[np.int64]
    bank_width: NDArray[np.int64]
    channels: NDArray[np.int64]
    channel_width: NDArray[np.int64]


PRIVATE = -2
"""In place of an agent that waits at a writing end: the end has one writer."""

# Fields of ``Resources.mshr``.
FREE, QUEUE_HEAD, QUEUE_TAIL = range(3)


class Machine(NamedTuple):
    """All that the loop works on beside what the accelerator says of itself and its operands.

    ``clock`` int64 [4] is where it goes on: the cycle, agents that have not ended, completions so far; and the cycle
    in which the loop returns.
    """

    clock: NDArray[np.int64]
    topology: Topology
    memory: MemorySpec
    state: NDArray[np.int64]
    counts: NDArray[np.int64]
    operations: NDArray[np.int64]
    cache: CacheState
    switches: SwitchState
    dram: DramState
    wheel: Wheel
    agents: Agents
    requests: Requests
    fifos: Fifos
    resources: Resources
    traffic: NDArray[np.int64]
    completions: NDArray[np.int64]
    loads: Loads


def machine_at_rest(
    topology: Topology,
    memory_spec: MemorySpec,
    state: NDArray[np.int64],
    counts: NDArray[np.int64],
    tensors: int,
    window: Window,
) -> Machine:
    """The machine in cycle 0; ``state`` and ``counts`` are the caller's own."""
    agents_count = len(topology.request_slots)
    slots = int(topology.request_slots.max(initial=0))
    first_request = np.concatenate(([0], np.cumsum(topology.request_slots)))
    requests_count = int(first_request[-1])

    def bits(count: int) -> NDArray[np.uint64]:
        return np.zeros((WHEEL_SLOTS, max(1, -(-count // 64))), np.uint64)

    wheel = Wheel(bits(agents_count), bits(requests_count), bits(requests_count), np.zeros(_WORDS, np.uint64))
    agents = Agents(
        *(_integers(agents_count) for _ in range(6)),
        first_request,
        _integers(agents_count),
        _integers(agents_count, TIME_COLUMNS),
    )
    requests = Requests(
        np.repeat(np.arange(agents_count), topology.request_slots),
        *(_integers(requests_count) for _ in range(8)),
    )
    cache_spec = memory_spec.cache
    resources = Resources(
        _integers(cache_spec.banks),
        _integers(1),
        _integers(memory_spec.dram.channels),
        np.array([cache_spec.mshrs, 0, 0], np.int64),
        _integers(max(1, requests_count)),
    )
    recording = window.end > 0
    return Machine(
        clock=np.array([0, agents_count, 0, 0], np.int64),
        topology=topology,
        memory=memory_spec,
        state=state,
        counts=counts,
        operations=_integers(agents_count, HEADER + slots * REQUEST_FIELDS),
        cache=empty_cache(cache_spec),
        switches=idle_switches(memory_spec.read_switch, memory_spec.write_switch),
        dram=idle_dram(memory_spec.dram),
        wheel=wheel,
        agents=agents,
        requests=requests,
        fifos=_fifos_at_rest(topology),
        resources=resources,
        traffic=_integers(tensors, TRAFFIC_COLUMNS),
        completions=_integers(COMPLETIONS_LIMIT if recording else 0, 2),
        loads=_no_loads(window, memory_spec.dram.units_per_cycle),
    )


def _integers(*shape: int, value: int = 0) -> NDArray[np.int64]:
    return np.full(shape, value, np.int64) if value else np.zeros(shape, np.int64)


def _fifos_at_rest(topology: Topology) -> Fifos:
    agents_count = len(topology.request_slots)
    ports = int(topology.fifo_first_port[-1])
    fifo_count = len(topology.fifo_capacity)
    shared = topology.fifo_first_port[:-1][topology.fifo_shared == 1]
    shared_row = np.full(ports, NONE, np.int64)
    shared_row[shared] = np.arange(len(shared))
    arbitrated = topology.fifo_arbitrated == 1
    words = -(-fifo_count // 64) if arbitrated.any() else 0
    return Fifos(
        topology.fifo_initial.copy(),
        _integers(ports),
        np.repeat(np.arange(fifo_count), np.diff(topology.fifo_first_port)),
        _integers(ports, value=NONE),
        _integers(fifo_count, value=NONE),
        _integers(fifo_count, 1 << (int(topology.fifo_capacity.max(initial=1)) - 1).bit_length()),
        _integers(len(topology.barrier_members)),
        shared,
        shared_row,
        _integers(len(shared), agents_count),
        _integers(len(shared)),
        _integers(agents_count),
        np.where(arbitrated, NONE, PRIVATE),
        _integers(agents_count, value=NONE),
        np.zeros(words, np.uint64),
    )


def _no_loads(window: Window, units: int) -> Loads:
    recording = window.end > 0
    return Loads(
        np.array(window, np.int64),
        _integers(INTERVALS if recording else 0),
        np.array([1], np.int64),
        _integers(INTERVALS if recording else 0),
        np.array([units], np.int64),
    )


@inlined
def set_bit(bits: Any, marked: Any, due: int, number: int) -> None:
    """Set the bit of something that is due."""
    slot = due & (WHEEL_SLOTS - 1)
    bits[slot, number >> 6] |= np.uint64(1) << np.uint64(number & 63)
    marked[slot >> 6] |= np.uint64(1) << np.uint64(slot & 63)


@inlined
def take_bit(bits: Any, slot: int, number: int) -> None:
    """Clear the bit of something that happens."""
    bits[slot, number >> 6] &= ~(np.uint64(1) << np.uint64(number & 63))


@inlined
def leave_slot(wheel: Any, slot: int) -> None:
    """Unmark a slot that is through, if nothing in it waits for a later turn."""
    left = np.uint64(0)
    for word in range(wheel.control.shape[1]):
        left |= wheel.control[slot, word]
    for word in range(wheel.arrive.shape[1]):
        left |= wheel.arrive[slot, word] | wheel.complete[slot, word]
    if not left:
        wheel.marked[slot >> 6] &= ~(np.uint64(1) << np.uint64(slot & 63))


@inlined
def next_marked(wheel: Any, now: int) -> int:
    """The first cycle from ``now`` on whose slot is marked, NONE if no slot is."""
    slot = now & (WHEEL_SLOTS - 1)
    word, cycle = slot >> 6, now - (slot & 63)
    bits = wheel.marked[word] >> np.uint64(slot & 63) << np.uint64(slot & 63)
    for _ in range(_WORDS):
        if bits:
            break
        word, cycle = (word + 1) & (_WORDS - 1), cycle + 64
        bits = wheel.marked[word]
    return cycle + lowest_one(bits) if bits else NONE


@inlined
def wake(wheel: Any, agents: Any, agent: int, cycle: int) -> None:
    """An agent goes on in that cycle."""
    agents.due[agent] = cycle
    set_bit(wheel.control, wheel.marked, cycle, agent)


@inlined
def arrive(wheel: Any, requests: Any, request: int, stage: int, cycle: int) -> None:
    """A request reaches its next stage in that cycle."""
    requests.stage[request] = stage
    requests.due[request] = cycle
    set_bit(wheel.arrive, wheel.marked, cycle, request)


@inlined
def request_done(wheel: Any, agents: Any, requests: Any, operations: Any, request: int, cycle: int) -> None:
    """Request ``request`` is done in cycle ``cycle``; its agent goes on when its last one is."""
    agent = requests.owner[request]
    operations[agent, requests.field[request] + DONE] = cycle
    agents.resume[agent] = max(agents.resume[agent], cycle)
    agents.open_requests[agent] -= 1
    if agents.open_requests[agent] == 0:
        wake(wheel, agents, agent, agents.resume[agent])
