"""The compiled engine: one numba loop over a timing wheel, operations streamed, nothing materialised.

The wheel has :data:`WHEEL_SLOTS` slots of one cycle. A slot is three bit sets: agents to look at (control), requests
that complete, and requests that arrive at a resource. A bit is honoured only if its owner's due cycle is the current
one, so events further away than one turn simply stay for a later turn. Taking bits lowest first *is* the order of
``engine/ordering.py``: agents and requests are numbered that way.

Banks and channels are not queues here but reservations. Requests reach a resource in the order (ready cycle, number),
because that is the order in which the loop processes them; so the first free cycle of the resource is all that must be
remembered, and the grant is ``max(ready, free)``. MSHRs are held for a time that is unknown at the grant; they keep a
queue.

The accelerator's ``step`` arrives as a first-class function with a fixed signature: compiled once, called through a
pointer, cached on disk.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from archsim.compress.bitmask import lowest_one
from archsim.engine.ordering import MISS_CYCLES, SAME_CYCLE_LIMIT
from archsim.engine.outcome import BUSY, IDLE, STALL, TIME_COLUMNS, Outcome
from archsim.errors import EngineError
from archsim.hardware.memory.cache import HIT, MERGED, CacheState, empty_cache, fill, look_up
from archsim.hardware.memory.dram import DramState, idle_dram, serve
from archsim.hardware.memory.system import MemorySpec
from archsim.hardware.operation import (
    BANK_WAIT_CYCLES,
    BARRIER,
    BEATS,
    BYTES,
    CACHED_READ,
    COMPUTE,
    DONE,
    DRAM_READ_LINES,
    DRAM_WRITE_LINES,
    END,
    EPOCH,
    HEADER,
    HITS,
    LINE,
    MERGED_MISSES,
    MISSES,
    MODE,
    PAUSE,
    POP,
    POP_COUNT,
    PREFETCH,
    PUSH,
    PUSH_COUNT,
    REQUEST_FIELDS,
    REQUESTS,
    SRAM_READ_BYTES,
    SRAM_READS,
    SRAM_WRITE_BYTES,
    SRAM_WRITES,
    START,
    STREAM_READ,
    STREAM_WRITE,
    TENSOR,
    TRAFFIC_COLUMNS,
    VALUE,
    VALUE_OUT,
    Topology,
)
from archsim.jit import inlined, kernel_of

WHEEL_SLOTS = 1024
"""Cycles of one turn of the wheel, a power of two; more than nearly every delay, so that few bits wait a turn."""

# Where an agent is in its operation (operation.py, steps 1 to 4).
ASK, TAKE, GIVE, MEET, ENDED = range(5)

# What a request waits for next.
AT_BANK, AT_MSHR, AT_CHANNEL, AT_FILL, COMPLETES = range(5)

FINISHED = 0
DEADLOCK = 1
CIRCLES = 2

NONE = -1


class Wheel(NamedTuple):
    """``control`` uint64 [slots, words of agents]; ``arrive``, ``complete`` uint64 [slots, words of requests].

    ``pending`` int64 [1]: bits set in all three.
    """

    control: NDArray[np.uint64]
    arrive: NDArray[np.uint64]
    complete: NDArray[np.uint64]
    pending: NDArray[np.int64]


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
    """Per request number: owner, place in the operation, due cycle, stage, reserved way, next of a merged chain."""

    owner: NDArray[np.int64]
    field: NDArray[np.int64]
    due: NDArray[np.int64]
    stage: NDArray[np.int64]
    way: NDArray[np.int64]
    merged: NDArray[np.int64]
    next_merged: NDArray[np.int64]


class Fifos(NamedTuple):
    """``written`` [FIFOs], ``taken`` [ports], who waits (agent or -1), ``values`` [FIFOs, longest capacity]."""

    written: NDArray[np.int64]
    taken: NDArray[np.int64]
    port_fifo: NDArray[np.int64]
    waiting_reader: NDArray[np.int64]
    waiting_writer: NDArray[np.int64]
    values: NDArray[np.int64]
    arrived: NDArray[np.int64]
    """Barriers' arrivals so far."""


class Resources(NamedTuple):
    """First cycle in which a bank, a channel can grant; MSHRs: free ones and the queue of requests waiting for one."""

    bank_free: NDArray[np.int64]
    channel_free: NDArray[np.int64]
    mshr: NDArray[np.int64]
    mshr_queue: NDArray[np.int64]


# Fields of ``Resources.mshr``.
FREE, QUEUE_HEAD, QUEUE_TAIL = range(3)


@inlined
def _set_bit(bits: Any, pending: Any, due: int, number: int) -> None:
    slot = due & (WHEEL_SLOTS - 1)
    mask = np.uint64(1) << np.uint64(number & 63)
    if not bits[slot, number >> 6] & mask:
        bits[slot, number >> 6] |= mask
        pending[0] += 1


@inlined
def _wake(wheel: Any, agents: Any, agent: int, cycle: int) -> None:
    agents.due[agent] = cycle
    _set_bit(wheel.control, wheel.pending, cycle, agent)


@inlined
def _arrive(wheel: Any, requests: Any, request: int, stage: int, cycle: int) -> None:
    requests.stage[request] = stage
    requests.due[request] = cycle
    _set_bit(wheel.arrive, wheel.pending, cycle, request)


@inlined
def _request_done(wheel: Any, agents: Any, requests: Any, operations: Any, request: int, cycle: int) -> None:
    """Request ``request`` is done in cycle ``cycle``; its agent goes on when its last one is."""
    agent = requests.owner[request]
    operations[agent, requests.field[request] + DONE] = cycle
    agents.resume[agent] = max(agents.resume[agent], cycle)
    agents.open_requests[agent] -= 1
    if agents.open_requests[agent] == 0:
        _wake(wheel, agents, agent, agents.resume[agent])


@inlined
def _fifo_space(topology: Any, fifos: Any, fifo: int) -> int:
    slowest = fifos.written[fifo]
    for port in range(topology.fifo_first_port[fifo], topology.fifo_first_port[fifo + 1]):
        slowest = min(slowest, fifos.taken[port])
    return topology.fifo_capacity[fifo] - (fifos.written[fifo] - slowest)


@inlined
def _pop(topology: Any, fifos: Any, wheel: Any, agents: Any, o: Any, agent: int, now: int) -> bool:
    """Take the operation's tokens, or wait."""
    port = o[agent, POP]
    fifo = fifos.port_fifo[port]
    count = o[agent, POP_COUNT]
    if fifos.written[fifo] - fifos.taken[port] < count:
        fifos.waiting_reader[port] = agent
        return False
    fifos.waiting_reader[port] = NONE
    fifos.taken[port] += count
    o[agent, VALUE] = fifos.values[fifo, (fifos.taken[port] - 1) % topology.fifo_capacity[fifo]]
    writer = fifos.waiting_writer[fifo]
    if writer != NONE and _fifo_space(topology, fifos, fifo) >= o[writer, PUSH_COUNT]:
        fifos.waiting_writer[fifo] = NONE
        _wake(wheel, agents, writer, now)
    return True


@inlined
def _push(topology: Any, fifos: Any, wheel: Any, agents: Any, o: Any, agent: int, now: int) -> bool:
    """Write the operation's tokens, or wait."""
    fifo = o[agent, PUSH]
    count = o[agent, PUSH_COUNT]
    if _fifo_space(topology, fifos, fifo) < count:
        fifos.waiting_writer[fifo] = agent
        return False
    for _ in range(count):
        fifos.values[fifo, fifos.written[fifo] % topology.fifo_capacity[fifo]] = o[agent, VALUE_OUT]
        fifos.written[fifo] += 1
    for port in range(topology.fifo_first_port[fifo], topology.fifo_first_port[fifo + 1]):
        reader = fifos.waiting_reader[port]
        if reader != NONE and fifos.written[fifo] - fifos.taken[port] >= o[reader, POP_COUNT]:
            fifos.waiting_reader[port] = NONE
            _wake(wheel, agents, reader, now)
    return True


@inlined
def _meet(topology: Any, fifos: Any, wheel: Any, agents: Any, o: Any, agent: int, now: int) -> bool:
    """Arrive at the operation's barrier; the last one wakes the others and goes on."""
    barrier = o[agent, BARRIER]
    fifos.arrived[barrier] += 1
    if fifos.arrived[barrier] < topology.barrier_members[barrier]:
        return False
    fifos.arrived[barrier] = 0
    for other in range(len(agents.place)):
        if other != agent and agents.place[other] == MEET and o[other, BARRIER] == barrier:
            _wake(wheel, agents, other, now)
    return True


@inlined
def _issue(memory: Any, wheel: Any, agents: Any, requests: Any, o: Any, traffic: Any, agent: int, now: int) -> None:
    """Send the operation's requests out, one a cycle."""
    for place in range(o[agent, REQUESTS]):
        field = HEADER + place * REQUEST_FIELDS
        mode = o[agent, field + MODE]
        tensor = o[agent, field + TENSOR]
        if mode == STREAM_WRITE:
            traffic[tensor, SRAM_WRITES] += o[agent, field + BEATS]
            traffic[tensor, SRAM_WRITE_BYTES] += o[agent, field + BYTES]
        elif mode != STREAM_READ and mode != PREFETCH:
            traffic[tensor, SRAM_READS] += o[agent, field + BEATS]
            traffic[tensor, SRAM_READ_BYTES] += o[agent, field + BYTES]
        if memory.ideal:
            o[agent, field + DONE] = now + 1
            agents.resume[agent] = max(agents.resume[agent], now + 1)
            if mode == STREAM_READ:
                traffic[tensor, DRAM_READ_LINES] += 1
            elif mode == STREAM_WRITE:
                traffic[tensor, DRAM_WRITE_LINES] += 1
        else:
            request = agents.first_request[agent] + place
            requests.field[request] = field
            requests.way[request] = NONE
            requests.merged[request] = NONE
            agents.open_requests[agent] += 1
            _arrive(wheel, requests, request, AT_MSHR if mode == STREAM_READ else AT_BANK, now + place)


@inlined
def _at_bank(
    memory: Any, cache: Any, resources: Any, wheel: Any, agents: Any, requests: Any, o: Any, traffic: Any,
    request: int, now: int,
) -> None:  # fmt: skip
    """A request reaches its bank: reserve it, look the line up, and say what comes next."""
    spec = memory.cache
    agent, field = requests.owner[request], requests.field[request]
    line, beats = o[agent, field + LINE], o[agent, field + BEATS]
    mode, tensor = o[agent, field + MODE], o[agent, field + TENSOR]
    bank = line % spec.banks
    granted = max(now, resources.bank_free[bank])
    traffic[tensor, BANK_WAIT_CYCLES] += granted - now
    if requests.stage[request] == AT_FILL:
        resources.bank_free[bank] = granted + spec.fill_beats
        useful = spec.fill_beats * spec.beat_bytes
        if mode == STREAM_READ:
            useful = o[agent, field + BYTES]
        traffic[tensor, SRAM_WRITES] += spec.fill_beats
        traffic[tensor, SRAM_WRITE_BYTES] += useful
        if requests.way[request] != NONE:
            fill(spec, cache, line, requests.way[request])
        requests.stage[request] = COMPLETES
        requests.due[request] = granted + spec.fill_beats
        _set_bit(wheel.complete, wheel.pending, granted + spec.fill_beats, request)
    elif mode == STREAM_WRITE:
        resources.bank_free[bank] = granted + beats
        _arrive(wheel, requests, request, AT_CHANNEL, granted + beats)
    elif mode in (CACHED_READ, PREFETCH):
        outcome, way = look_up(spec, cache, line, o[agent, field + EPOCH], request)
        if outcome == HIT:
            traffic[tensor, HITS] += 1
            resources.bank_free[bank] = granted + beats
            _request_done(wheel, agents, requests, o, request, granted + beats - 1 + spec.hit_cycles)
            return
        resources.bank_free[bank] = granted + 1
        if outcome == MERGED:
            traffic[tensor, MERGED_MISSES] += 1
            first = cache.filling[bank, line // spec.banks % spec.sets, way]
            requests.next_merged[request] = requests.merged[first]
            requests.merged[first] = request
        else:
            traffic[tensor, MISSES] += 1
            requests.way[request] = way
            _arrive(wheel, requests, request, AT_MSHR, granted + MISS_CYCLES)
    else:
        resources.bank_free[bank] = granted + beats
        _request_done(wheel, agents, requests, o, request, granted + beats - 1 + spec.hit_cycles)


@inlined
def _at_mshr(resources: Any, wheel: Any, requests: Any, request: int, now: int) -> None:
    if resources.mshr[FREE] > 0:
        resources.mshr[FREE] -= 1
        _arrive(wheel, requests, request, AT_CHANNEL, now + MISS_CYCLES)
    else:
        resources.mshr_queue[resources.mshr[QUEUE_TAIL] % len(resources.mshr_queue)] = request
        resources.mshr[QUEUE_TAIL] += 1


@inlined
def _at_channel(
    memory: Any, dram: Any, resources: Any, wheel: Any, agents: Any, requests: Any, o: Any, traffic: Any,
    request: int, now: int,
) -> None:  # fmt: skip
    agent, field = requests.owner[request], requests.field[request]
    line = o[agent, field + LINE]
    channel = line % memory.dram.channels
    granted = max(now, resources.channel_free[channel])
    after_burst, data, resources.channel_free[channel] = serve(memory.dram, dram, line, granted)
    if o[agent, field + MODE] == STREAM_WRITE:
        traffic[o[agent, field + TENSOR], DRAM_WRITE_LINES] += 1
        _request_done(wheel, agents, requests, o, request, after_burst)
    else:
        traffic[o[agent, field + TENSOR], DRAM_READ_LINES] += 1
        _arrive(wheel, requests, request, AT_FILL, data)


@inlined
def _complete(resources: Any, wheel: Any, agents: Any, requests: Any, o: Any, request: int, now: int) -> None:
    """A fill is done: hand its MSHR to the request that waits longest, deliver to it and to those merged with it."""
    if resources.mshr[QUEUE_HEAD] < resources.mshr[QUEUE_TAIL]:
        waiting = resources.mshr_queue[resources.mshr[QUEUE_HEAD] % len(resources.mshr_queue)]
        resources.mshr[QUEUE_HEAD] += 1
        _arrive(wheel, requests, waiting, AT_CHANNEL, now + MISS_CYCLES)
    else:
        resources.mshr[FREE] += 1
    merged = requests.merged[request]
    _request_done(wheel, agents, requests, o, request, now)
    while merged != NONE:
        following = requests.next_merged[merged]
        _request_done(wheel, agents, requests, o, merged, now)
        merged = following


def _run(
    step: Any, spec: Any, operands: Any, topology: Any, memory: Any, state: Any, counts: Any, o: Any, cache: Any,
    dram: Any, wheel: Any, agents: Any, requests: Any, fifos: Any, resources: Any, traffic: Any, completions: Any,
) -> tuple[int, int, int]:  # fmt: skip
    """The loop; (status, last cycle, number of completions). Completions beyond the array's length are only counted."""
    alive = len(agents.place)
    for agent in range(alive):
        _wake(wheel, agents, agent, 0)
    now = 0
    recorded = 0
    agent_words = wheel.control.shape[1]
    request_words = wheel.arrive.shape[1]
    while alive > 0 or wheel.pending[0] > 0:
        if wheel.pending[0] == 0:
            return DEADLOCK, now, recorded
        slot = now & (WHEEL_SLOTS - 1)
        visits = 0
        # Completions and control, until nothing more happens in this cycle.
        for word in range(request_words):
            bits = wheel.complete[slot, word]
            while bits:
                request = (word << 6) + lowest_one(bits)
                bits &= bits - np.uint64(1)
                if requests.due[request] == now:
                    wheel.complete[slot, word] &= ~(np.uint64(1) << np.uint64(request & 63))
                    wheel.pending[0] -= 1
                    _complete(resources, wheel, agents, requests, o, request, now)
        again = True
        while again:
            again = False
            for word in range(agent_words):
                bits = wheel.control[slot, word]
                while bits:
                    agent = (word << 6) + lowest_one(bits)
                    bits &= bits - np.uint64(1)
                    if agents.due[agent] != now:
                        continue
                    again = True
                    wheel.control[slot, word] &= ~(np.uint64(1) << np.uint64(agent & 63))
                    wheel.pending[0] -= 1
                    going = True
                    while going:
                        place = agents.place[agent]
                        if place == ASK:
                            visits += 1
                            if visits > SAME_CYCLE_LIMIT:
                                return CIRCLES, now, agent
                            for field in range(START):
                                o[agent, field] = 0
                            o[agent, POP] = NONE
                            o[agent, PUSH] = NONE
                            o[agent, BARRIER] = NONE
                            agents.called[agent] = now
                            step(agent, now, spec, state, operands, o, counts)
                            if o[agent, END]:
                                agents.place[agent] = ENDED
                                agents.ended[agent] = now
                                alive -= 1
                                going = False
                            else:
                                agents.place[agent] = TAKE
                        elif place == TAKE:
                            if o[agent, POP] != NONE and not _pop(topology, fifos, wheel, agents, o, agent, now):
                                going = False
                            else:
                                o[agent, START] = now
                                agents.place[agent] = GIVE
                                agents.resume[agent] = now + o[agent, COMPUTE] + o[agent, PAUSE]
                                _issue(memory, wheel, agents, requests, o, traffic, agent, now)
                                if agents.open_requests[agent] > 0:
                                    going = False
                                elif agents.resume[agent] > now:
                                    _wake(wheel, agents, agent, agents.resume[agent])
                                    going = False
                        elif place == GIVE:
                            if o[agent, PUSH] != NONE and not _push(topology, fifos, wheel, agents, o, agent, now):
                                going = False
                            else:
                                agents.pushed[agent] = now
                                agents.place[agent] = MEET
                                if o[agent, BARRIER] != NONE:
                                    going = _meet(topology, fifos, wheel, agents, o, agent, now)
                        else:
                            compute = o[agent, COMPUTE]
                            agents.times[agent, BUSY] += compute
                            agents.times[agent, STALL] += agents.pushed[agent] - agents.called[agent] - compute
                            agents.times[agent, IDLE] += now - agents.pushed[agent]
                            if recorded < len(completions):
                                completions[recorded, 0] = agent
                                completions[recorded, 1] = now
                            recorded += 1
                            agents.place[agent] = ASK
        # Arbitration: lowest request number first among those ready now; earlier ones have their reservation.
        for word in range(request_words):
            bits = wheel.arrive[slot, word]
            while bits:
                request = (word << 6) + lowest_one(bits)
                bits &= bits - np.uint64(1)
                if requests.due[request] != now:
                    continue
                wheel.arrive[slot, word] &= ~(np.uint64(1) << np.uint64(request & 63))
                wheel.pending[0] -= 1
                stage = requests.stage[request]
                if stage == AT_MSHR:
                    _at_mshr(resources, wheel, requests, request, now)
                elif stage == AT_CHANNEL:
                    _at_channel(memory, dram, resources, wheel, agents, requests, o, traffic, request, now)
                else:
                    _at_bank(memory, cache, resources, wheel, agents, requests, o, traffic, request, now)
        now += 1
    return FINISHED, now - 1, recorded


STATE_ARRAY = types.Array(types.int64, 2, "C")


@functools.cache
def _compiled_loop(spec_type: Any, operands_type: Any, argument_types: tuple[Any, ...]) -> tuple[Any, Any]:
    """The loop for one accelerator's types, and the signature that its ``step`` must have."""
    step_signature = types.void(
        types.int64, types.int64, spec_type, STATE_ARRAY, operands_type, STATE_ARRAY, STATE_ARRAY
    )
    signature = types.UniTuple(types.int64, 3)(types.FunctionType(step_signature), *argument_types)
    return kernel_of(signature, _run), step_signature


def simulate(
    step: Any,
    spec: Any,
    operands: Any,
    topology: Topology,
    memory_spec: MemorySpec,
    state: NDArray[np.int64],
    counts: NDArray[np.int64],
    tensors: int,
    record: bool = False,
) -> Outcome:
    """Run all agents to their end; ``state`` and ``counts`` are changed in place.

    Raises EngineError if agents wait for each other for ever.
    """
    agents_count = len(topology.request_slots)
    slots = int(topology.request_slots.max(initial=0))
    first_request = np.concatenate(([0], np.cumsum(topology.request_slots)))
    requests_count = int(first_request[-1])
    ports = int(topology.fifo_first_port[-1])
    fifo_count = len(topology.fifo_capacity)

    def integers(*shape: int, value: int = 0) -> NDArray[np.int64]:
        return np.full(shape, value, np.int64) if value else np.zeros(shape, np.int64)

    def bits(count: int) -> NDArray[np.uint64]:
        return np.zeros((WHEEL_SLOTS, max(1, -(-count // 64))), np.uint64)

    wheel = Wheel(bits(agents_count), bits(requests_count), bits(requests_count), integers(1))
    agents = Agents(
        *(integers(agents_count) for _ in range(6)),
        first_request,
        integers(agents_count),
        integers(agents_count, TIME_COLUMNS),
    )
    requests = Requests(
        np.repeat(np.arange(agents_count), topology.request_slots),
        *(integers(requests_count) for _ in range(6)),
    )
    fifos = Fifos(
        topology.fifo_initial.copy(),
        integers(ports),
        np.repeat(np.arange(fifo_count), np.diff(topology.fifo_first_port)),
        integers(ports, value=NONE),
        integers(fifo_count, value=NONE),
        integers(fifo_count, int(topology.fifo_capacity.max(initial=1))),
        integers(len(topology.barrier_members)),
    )
    cache_spec = memory_spec.cache
    resources = Resources(
        integers(cache_spec.banks),
        integers(memory_spec.dram.channels),
        np.array([cache_spec.mshrs, 0, 0], np.int64),
        integers(max(1, requests_count)),
    )
    cache: CacheState = empty_cache(cache_spec)
    dram: DramState = idle_dram(memory_spec.dram)
    operations = integers(agents_count, HEADER + slots * REQUEST_FIELDS)
    traffic = integers(tensors, TRAFFIC_COLUMNS)

    def run(completions: NDArray[np.int64]) -> tuple[int, int, int]:
        rest = (
            topology, memory_spec, state, counts, operations, cache, dram, wheel, agents, requests, fifos,
            resources, traffic, completions,
        )  # fmt: skip
        if numba.config.DISABLE_JIT:
            return _run(step, spec, operands, *rest)
        argument_types = tuple(numba.typeof(value) for value in (spec, operands, *rest))
        loop, step_signature = _compiled_loop(argument_types[0], argument_types[1], argument_types)
        if step_signature.args not in step.overloads:
            step.compile(step_signature)
        return loop(step, spec, operands, *rest)

    completions = integers(COMPLETIONS_LIMIT if record else 0, 2)
    status, last, number = run(completions)
    if status == CIRCLES:
        raise EngineError(f"agent {number} runs in circles in cycle {last}")
    if status == DEADLOCK:
        stuck = [agent for agent in range(agents_count) if agents.place[agent] != ENDED]
        raise EngineError(f"deadlock in cycle {last}: agents {stuck} wait for each other")
    agents.times[:, IDLE] += last - agents.ended
    return Outcome(last, agents.times, counts, traffic, int(dram.row_misses.sum()), completions[:number].copy())


COMPLETIONS_LIMIT = 4_000_000
"""Most completions that are recorded; zeroed memory costs nothing until they are written."""
