"""The compiled engine: one numba loop over a timing wheel, operations streamed, nothing materialised.

The wheel has :data:`WHEEL_SLOTS` slots of one cycle. A slot is three bit sets: agents to look at (control), requests
that complete, and requests that arrive at a resource. A bit is honoured only if its owner's due cycle is the current
one, so events further away than one turn simply stay for a later turn. Taking bits lowest first *is* the order of
``engine/ordering.py``: agents and requests are numbered that way.

Banks and channels are not queues here but reservations. Requests reach a resource in the order (ready cycle, number),
because that is the order in which the loop processes them; so the first free cycle of the resource is all that must be
remembered, and the grant is ``max(ready, free)``. MSHRs are held for a time that is unknown at the grant; they keep a
queue.

An accelerator makes the loop its own with a kernel of one line, ``loop(spec, operands, machine)``, that calls
:func:`run` with its ``step``: so ``step`` is compiled into the loop, and the loop is cached on disk under the
accelerator's file. (A call through a pointer would pass every array of the operands each time, which costs more than
most steps do.)
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress.bitmask import lowest_one
from archsim.engine.ordering import MISS_CYCLES, SAME_CYCLE_LIMIT
from archsim.engine.outcome import BUSY, IDLE, STALL, TIME_COLUMNS, Outcome
from archsim.engine.recording import BANKS, CHANNELS, INTERVALS, Load, Window, add_busy, window_of
from archsim.errors import EngineError
from archsim.hardware.interconnect.crossbar_switch import READ, WRITE, SwitchState, hold_path, idle_switches, path_free
from archsim.hardware.memory import cache as cache_unit
from archsim.hardware.memory.cache import HIT, MERGED, NONE, CacheState, empty_cache, fill, look_up, place_of
from archsim.hardware.memory.dram import DramState, channel_of, idle_dram, serve
from archsim.hardware.memory.system import MemorySpec
from archsim.hardware.operation import (
    BANK_WAIT_CYCLES,
    BARRIER,
    BEATS,
    BYTES,
    CACHED_WRITE,
    COMPUTE,
    CONSUME,
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
    OWN_PATH,
    PAUSE,
    POP,
    POP_COUNT,
    PREFETCH,
    PUSH,
    PUSH_COUNT,
    REQUEST_FIELDS,
    REQUESTS,
    RESIDENT_READ,
    RESIDENT_WRITE,
    SRAM_READ_BYTES,
    SRAM_READS,
    SRAM_WRITE_BYTES,
    SRAM_WRITES,
    START,
    STREAM_READ,
    STREAM_WRITE,
    SWITCH_BEATS,
    TENSOR,
    TRAFFIC_COLUMNS,
    VALUE,
    VALUE_OUT,
    Topology,
)
from archsim.jit import higher_order, inlined

WHEEL_SLOTS = 1024
"""Cycles of one turn of the wheel, a power of two; more than nearly every delay, so that few bits wait a turn."""

# Where an agent is in its operation (operation.py, steps 1 to 4).
ASK, TAKE, GIVE, MEET, ENDED = range(5)

# What a request waits for next.
AT_BANK, AT_DISPLACED, AT_MSHR, AT_CHANNEL, AT_FILL, COMPLETES = range(6)

FINISHED, DEADLOCK, CIRCLES, PAUSED = range(4)
NOW, ALIVE, RECORDED, UNTIL = range(4)  # fields of Machine.clock

FIRST_CYCLES, MOST_CYCLES = 1 << 16, 1 << 40
CALL_S = 0.1
"""The loop returns to Python for a moment after so many simulated cycles, later after about so long."""


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
    """Per request number: owner, place in the operation, due cycle, stage, reserved way, next of a merged chain.

    ``displaced`` is the dirty line that the request must write to DRAM before it goes on, ``displaced_tensor`` its own.
    """

    owner: NDArray[np.int64]
    field: NDArray[np.int64]
    due: NDArray[np.int64]
    stage: NDArray[np.int64]
    way: NDArray[np.int64]
    merged: NDArray[np.int64]
    next_merged: NDArray[np.int64]
    displaced: NDArray[np.int64]
    displaced_tensor: NDArray[np.int64]


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
    shared: NDArray[np.int64]
    """Ports that several agents share; the rows of ``queue`` belong to them."""
    shared_row: NDArray[np.int64]
    """[ports] Their row, NONE of a private port."""
    queue: NDArray[np.int64]
    """[shared ports, agents] The agents that wait, in the order of arbitration."""
    queued: NDArray[np.int64]
    """[shared ports] How many."""
    granted: NDArray[np.int64]
    """[agents] 1 from the grant of a shared port's tokens until they are taken."""


class Resources(NamedTuple):
    """First cycle in which a bank, a channel can grant; MSHRs: free ones and the queue of requests waiting for one."""

    bank_free: NDArray[np.int64]
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


# Fields of ``Resources.mshr``.
FREE, QUEUE_HEAD, QUEUE_TAIL = range(3)


class Machine(NamedTuple):
    """All that the loop works on beside the accelerator's own ``spec`` and ``operands``.

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
def _wake_writer(topology: Any, fifos: Any, wheel: Any, agents: Any, o: Any, fifo: int, now: int) -> None:
    """The FIFO's writer goes on if it waits and there is space for its tokens."""
    writer = fifos.waiting_writer[fifo]
    if writer != NONE and _fifo_space(topology, fifos, fifo) >= o[writer, PUSH_COUNT]:
        fifos.waiting_writer[fifo] = NONE
        _wake(wheel, agents, writer, now)


@inlined
def _queue_up(fifos: Any, agents: Any, row: int, agent: int, now: int) -> None:
    """Wait at a shared port, behind all that asked earlier and smaller numbers of this cycle."""
    place = fifos.queued[row]
    while place > 0 and agents.due[fifos.queue[row, place - 1]] == now and fifos.queue[row, place - 1] > agent:
        fifos.queue[row, place] = fifos.queue[row, place - 1]
        place -= 1
    fifos.queue[row, place] = agent
    fifos.queued[row] += 1


@inlined
def _share(topology: Any, fifos: Any, wheel: Any, agents: Any, o: Any, row: int, now: int) -> None:
    """Hand a shared port's tokens to the agents that wait there; they go on in the next cycle."""
    port = fifos.shared[row]
    fifo = fifos.port_fifo[port]
    served = 0
    while served < fifos.queued[row]:
        agent = fifos.queue[row, served]
        count = o[agent, POP_COUNT]
        if fifos.written[fifo] - fifos.taken[port] < count:
            break
        fifos.taken[port] += count
        o[agent, VALUE] = fifos.values[fifo, (fifos.taken[port] - 1) % topology.fifo_capacity[fifo]]
        fifos.granted[agent] = 1
        _wake(wheel, agents, agent, now + 1)
        served += 1
    fifos.queued[row] -= served
    for place in range(fifos.queued[row]):
        fifos.queue[row, place] = fifos.queue[row, place + served]


@inlined
def _pop(topology: Any, fifos: Any, wheel: Any, agents: Any, o: Any, agent: int, now: int) -> bool:
    """Take the operation's tokens, or wait."""
    port = o[agent, POP]
    fifo = fifos.port_fifo[port]
    count = o[agent, POP_COUNT]
    if fifos.shared_row[port] != NONE:
        if fifos.granted[agent]:
            fifos.granted[agent] = 0
            _wake_writer(topology, fifos, wheel, agents, o, fifo, now)
            return True
        _queue_up(fifos, agents, fifos.shared_row[port], agent, now)
        return False
    if fifos.written[fifo] - fifos.taken[port] < count:
        fifos.waiting_reader[port] = agent
        return False
    fifos.waiting_reader[port] = NONE
    fifos.taken[port] += count
    o[agent, VALUE] = fifos.values[fifo, (fifos.taken[port] - 1) % topology.fifo_capacity[fifo]]
    _wake_writer(topology, fifos, wheel, agents, o, fifo, now)
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
def _writes(mode: int) -> bool:
    return mode in (STREAM_WRITE, RESIDENT_WRITE, CACHED_WRITE)


@inlined
def _issue(machine: Any, agent: int, now: int) -> None:
    """Send the operation's requests out, one a cycle; all at once where nothing conflicts."""
    memory, wheel, agents, requests, o, traffic = (
        machine.memory, machine.wheel, machine.agents, machine.requests, machine.operations, machine.traffic
    )  # fmt: skip
    switched = machine.topology.lane[agent] != OWN_PATH
    for place in range(o[agent, REQUESTS]):
        field = HEADER + place * REQUEST_FIELDS
        mode = o[agent, field + MODE]
        tensor = o[agent, field + TENSOR]
        if _writes(mode):
            traffic[tensor, SRAM_WRITES] += o[agent, field + BEATS]
            traffic[tensor, SRAM_WRITE_BYTES] += o[agent, field + BYTES]
        elif mode != STREAM_READ and mode != PREFETCH:
            traffic[tensor, SRAM_READS] += o[agent, field + BEATS]
            traffic[tensor, SRAM_READ_BYTES] += o[agent, field + BYTES]
        if switched and mode != STREAM_READ and mode != PREFETCH:
            traffic[tensor, SWITCH_BEATS] += o[agent, field + BEATS]
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
            ready = now + place if memory.cache.conflicts else now
            _arrive(wheel, requests, request, AT_MSHR if mode == STREAM_READ else AT_BANK, ready)


@inlined
def _at_bank(machine: Any, request: int, now: int) -> None:
    """A request reaches its bank: reserve it and the path to it, look the line up, and say what comes next."""
    memory, cache, requests, o = machine.memory, machine.cache, machine.requests, machine.operations
    spec, resources, wheel, agents, traffic = (
        memory.cache, machine.resources, machine.wheel, machine.agents, machine.traffic
    )  # fmt: skip
    agent, field = requests.owner[request], requests.field[request]
    line, beats = o[agent, field + LINE], o[agent, field + BEATS] if spec.conflicts else 1
    mode, tensor = o[agent, field + MODE], o[agent, field + TENSOR]
    bank, index = place_of(spec, line)
    filling = requests.stage[request] == AT_FILL
    lane = machine.topology.lane[agent]
    switched = lane != OWN_PATH and not filling
    writes = _writes(mode)
    granted = now
    if spec.conflicts:
        granted = max(now, resources.bank_free[bank])
        if switched and writes:
            granted = max(granted, path_free(memory.write_switch, machine.switches, WRITE, lane, bank))
        elif switched:
            granted = max(granted, path_free(memory.read_switch, machine.switches, READ, lane, bank))
        traffic[tensor, BANK_WAIT_CYCLES] += granted - now
    hold = beats
    arrives = beats - 1 + (memory.read_cycles if lane != OWN_PATH else memory.own_read_cycles)
    if writes:
        arrives = beats - 1 + memory.write_cycles
    fill_cycles = spec.fill_beats if spec.conflicts else 1
    if filling:
        hold = fill_cycles
        useful = o[agent, field + BYTES] if mode == STREAM_READ else spec.fill_beats * spec.beat_bytes
        traffic[tensor, SRAM_WRITES] += spec.fill_beats
        traffic[tensor, SRAM_WRITE_BYTES] += useful
        if requests.way[request] != NONE:
            fill(spec, cache, line, requests.way[request])
        requests.stage[request] = COMPLETES
        requests.due[request] = granted + hold
        _set_bit(wheel.complete, wheel.pending, granted + hold, request)
    elif mode == STREAM_WRITE:
        _arrive(wheel, requests, request, AT_CHANNEL, granted + arrives)
    elif mode in (RESIDENT_READ, RESIDENT_WRITE):
        _request_done(wheel, agents, requests, o, request, granted + arrives)
    else:
        access = cache_unit.READ
        if mode == CACHED_WRITE:
            access = cache_unit.WRITE
        elif mode == CONSUME:
            access = cache_unit.CONSUME
        outcome, way, displaced, owner = look_up(
            spec, cache, line, o[agent, field + EPOCH], request, access, tensor
        )  # fmt: skip
        if mode != CACHED_WRITE and outcome != HIT:
            hold, arrives = 1, MISS_CYCLES
        if displaced != NONE:
            hold += fill_cycles
            arrives += fill_cycles
            traffic[owner, SRAM_READS] += spec.fill_beats
            traffic[owner, SRAM_READ_BYTES] += spec.fill_beats * spec.beat_bytes
            requests.displaced[request] = displaced
            requests.displaced_tensor[request] = owner
        if outcome == MERGED:
            traffic[tensor, MERGED_MISSES] += 1
            first = cache.filling[bank, index, way]
            requests.next_merged[request] = requests.merged[first]
            requests.merged[first] = request
        elif outcome == HIT or mode == CACHED_WRITE:
            traffic[tensor, HITS] += 1
            if displaced == NONE:
                _request_done(wheel, agents, requests, o, request, granted + arrives)
            else:
                _arrive(wheel, requests, request, AT_DISPLACED, granted + arrives)
        else:
            traffic[tensor, MISSES] += 1
            requests.way[request] = way
            _arrive(wheel, requests, request, AT_MSHR if displaced == NONE else AT_DISPLACED, granted + arrives)
    if spec.conflicts:
        resources.bank_free[bank] = granted + hold
        loads = machine.loads
        if granted < loads.window[1]:
            add_busy(loads.banks, loads.bank_width, loads.window[0], loads.window[1], granted, granted + hold)
        if switched and writes:
            hold_path(memory.write_switch, machine.switches, WRITE, lane, bank, granted + hold)
        elif switched:
            hold_path(memory.read_switch, machine.switches, READ, lane, bank, granted + hold)


@inlined
def _serve(machine: Any, line: int, now: int) -> tuple[int, int]:
    """Reserve the line's channel; (cycle after the burst, cycle of the data)."""
    spec, dram, loads = machine.memory.dram, machine.dram, machine.loads
    channel = channel_of(spec, line)
    granted = max(now, machine.resources.channel_free[channel])
    after_burst, data, machine.resources.channel_free[channel] = serve(spec, dram, line, granted)
    if granted < loads.window[1]:
        end, units = dram.busy_until[channel], spec.units_per_cycle
        first, last = loads.window[0] * units, loads.window[1] * units
        add_busy(loads.channels, loads.channel_width, first, last, end - spec.units_per_line, end)
    return after_burst, data


@inlined
def _at_displaced(machine: Any, request: int, now: int) -> None:
    """The line that the request displaced goes to its channel; the request goes on when its burst has ended."""
    requests = machine.requests
    after_burst, _ = _serve(machine, requests.displaced[request], now)
    machine.traffic[requests.displaced_tensor[request], DRAM_WRITE_LINES] += 1
    agent, field = requests.owner[request], requests.field[request]
    if machine.operations[agent, field + MODE] == CACHED_WRITE:
        _request_done(machine.wheel, machine.agents, requests, machine.operations, request, after_burst)
    else:
        _arrive(machine.wheel, requests, request, AT_MSHR, after_burst)


@inlined
def _at_mshr(resources: Any, wheel: Any, requests: Any, request: int, now: int) -> None:
    if resources.mshr[FREE] > 0:
        resources.mshr[FREE] -= 1
        _arrive(wheel, requests, request, AT_CHANNEL, now + MISS_CYCLES)
    else:
        resources.mshr_queue[resources.mshr[QUEUE_TAIL] % len(resources.mshr_queue)] = request
        resources.mshr[QUEUE_TAIL] += 1


@inlined
def _at_channel(machine: Any, request: int, now: int) -> None:
    wheel, agents, requests, o, traffic = (
        machine.wheel, machine.agents, machine.requests, machine.operations, machine.traffic
    )  # fmt: skip
    agent, field = requests.owner[request], requests.field[request]
    after_burst, data = _serve(machine, o[agent, field + LINE], now)
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


@inlined
def _next_due(agents: Any, requests: Any, now: int) -> int:
    """The earliest due cycle from ``now`` on; what is due earlier has happened."""
    earliest = np.iinfo(np.int64).max
    for agent in range(len(agents.due)):
        if now <= agents.due[agent] < earliest:
            earliest = agents.due[agent]
    for request in range(len(requests.due)):
        if now <= requests.due[request] < earliest:
            earliest = requests.due[request]
    return earliest


@higher_order
def run(step: Any, spec: Any, operands: Any, machine: Machine) -> tuple[int, int, int]:
    """The loop; (status, last cycle, completions in the window). Those beyond the array's length are only counted."""
    topology, state, counts, o = machine.topology, machine.state, machine.counts, machine.operations
    wheel, agents, requests, fifos, resources, completions = (
        machine.wheel, machine.agents, machine.requests, machine.fifos, machine.resources, machine.completions
    )  # fmt: skip
    clock = machine.clock
    now, alive, recorded = clock[NOW], clock[ALIVE], clock[RECORDED]
    window_first, window_end = machine.loads.window[0], machine.loads.window[1]
    if now == 0:
        for agent in range(alive):
            _wake(wheel, agents, agent, 0)
    until = clock[UNTIL]
    quiet = 0
    agent_words = wheel.control.shape[1]
    request_words = wheel.arrive.shape[1]
    while alive > 0 or wheel.pending[0] > 0:
        if wheel.pending[0] == 0:
            return DEADLOCK, now, recorded
        if quiet > WHEEL_SLOTS:
            # Nothing in a whole turn: go to the next event.
            now = _next_due(agents, requests, now)
        if now >= until:
            clock[NOW], clock[ALIVE], clock[RECORDED] = now, alive, recorded
            return PAUSED, now, recorded
        quiet += 1
        slot = now & (WHEEL_SLOTS - 1)
        visits = 0
        # Completions and control, until nothing more happens in this cycle.
        for word in range(request_words):
            bits = wheel.complete[slot, word]
            while bits:
                request = (word << 6) + lowest_one(bits)
                bits &= bits - np.uint64(1)
                if requests.due[request] == now:
                    quiet = 0
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
                    quiet = 0
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
                                _issue(machine, agent, now)
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
                            if agents.called[agent] < window_end and now > window_first:
                                if recorded < len(completions):
                                    completions[recorded, 0] = agent
                                    completions[recorded, 1] = now
                                recorded += 1
                            agents.place[agent] = ASK
        for row in range(len(fifos.shared)):
            if fifos.queued[row] > 0:
                _share(topology, fifos, wheel, agents, o, row, now)
        # Arbitration: lowest request number first among those ready now; earlier ones have their reservation.
        for word in range(request_words):
            bits = wheel.arrive[slot, word]
            while bits:
                request = (word << 6) + lowest_one(bits)
                bits &= bits - np.uint64(1)
                if requests.due[request] != now:
                    continue
                quiet = 0
                wheel.arrive[slot, word] &= ~(np.uint64(1) << np.uint64(request & 63))
                wheel.pending[0] -= 1
                stage = requests.stage[request]
                if stage in (AT_BANK, AT_FILL):
                    _at_bank(machine, request, now)
                elif stage == AT_MSHR:
                    _at_mshr(resources, wheel, requests, request, now)
                elif stage == AT_CHANNEL:
                    _at_channel(machine, request, now)
                else:
                    _at_displaced(machine, request, now)
        now += 1
    return FINISHED, now - 1, recorded


def simulate(
    loop: Any,
    spec: Any,
    operands: Any,
    topology: Topology,
    memory_spec: MemorySpec,
    state: NDArray[np.int64],
    counts: NDArray[np.int64],
    tensors: int,
    record: Window | bool = False,
) -> Outcome:
    """Run all agents to their end; ``state`` and ``counts`` are changed in place.

    ``record``: the window of which completions and loads are kept, True for all. ``loop`` is the accelerator's kernel
    around :func:`run`. Raises EngineError if agents wait for each other for ever.
    """
    agents_count = len(topology.request_slots)
    slots = int(topology.request_slots.max(initial=0))
    first_request = np.concatenate(([0], np.cumsum(topology.request_slots)))
    requests_count = int(first_request[-1])
    ports = int(topology.fifo_first_port[-1])
    fifo_count = len(topology.fifo_capacity)
    shared = topology.fifo_first_port[:-1][topology.fifo_shared == 1]
    shared_row = np.full(ports, NONE, np.int64)
    shared_row[shared] = np.arange(len(shared))

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
        *(integers(requests_count) for _ in range(8)),
    )
    fifos = Fifos(
        topology.fifo_initial.copy(),
        integers(ports),
        np.repeat(np.arange(fifo_count), np.diff(topology.fifo_first_port)),
        integers(ports, value=NONE),
        integers(fifo_count, value=NONE),
        integers(fifo_count, int(topology.fifo_capacity.max(initial=1))),
        integers(len(topology.barrier_members)),
        shared,
        shared_row,
        integers(len(shared), agents_count),
        integers(len(shared)),
        integers(agents_count),
    )
    cache_spec = memory_spec.cache
    resources = Resources(
        integers(cache_spec.banks),
        integers(memory_spec.dram.channels),
        np.array([cache_spec.mshrs, 0, 0], np.int64),
        integers(max(1, requests_count)),
    )
    window = window_of(record)
    recording = window.end > 0
    units = memory_spec.dram.units_per_cycle
    loads = Loads(
        np.array(window, np.int64),
        integers(INTERVALS if recording else 0),
        np.array([1], np.int64),
        integers(INTERVALS if recording else 0),
        np.array([units], np.int64),
    )
    machine = Machine(
        clock=np.array([0, agents_count, 0, 0], np.int64),
        topology=topology,
        memory=memory_spec,
        state=state,
        counts=counts,
        operations=integers(agents_count, HEADER + slots * REQUEST_FIELDS),
        cache=empty_cache(cache_spec),
        switches=idle_switches(memory_spec.read_switch, memory_spec.write_switch),
        dram=idle_dram(memory_spec.dram),
        wheel=wheel,
        agents=agents,
        requests=requests,
        fifos=fifos,
        resources=resources,
        traffic=integers(tensors, TRAFFIC_COLUMNS),
        completions=integers(COMPLETIONS_LIMIT if recording else 0, 2),
        loads=loads,
    )
    loop(spec, operands, machine)  # to cycle 0, where it stands: what is not compiled yet is before the clock starts
    started = perf_counter()
    status, cycles = PAUSED, FIRST_CYCLES
    while status == PAUSED:  # back in Python now and then, so that an interrupt is heard and the progress bar moves on
        machine.clock[UNTIL] = machine.clock[NOW] + cycles
        called = perf_counter()
        status, last, number = loop(spec, operands, machine)
        cycles = min(2 * cycles, MOST_CYCLES) if perf_counter() - called < CALL_S else max(cycles // 2, 1)
    wall_s = perf_counter() - started
    if status == CIRCLES:
        raise EngineError(f"agent {number} runs in circles in cycle {last}")
    if status == DEADLOCK:
        stuck = [agent for agent in range(agents_count) if agents.place[agent] != ENDED]
        raise EngineError(f"deadlock in cycle {last}: agents {stuck} wait for each other")
    agents.times[:, IDLE] += last - agents.ended
    completions = machine.completions[:number].copy()
    last = int(last)  # a numpy integer where the loop runs as plain Python
    kept = (
        Load(BANKS, window.first, int(loads.bank_width[0]), 1, loads.banks),
        Load(CHANNELS, window.first, int(loads.channel_width[0]) // units, units, loads.channels),
    )
    return Outcome(
        last, agents.times, counts, machine.traffic, int(machine.dram.row_misses.sum()), completions, wall_s,
        kept if recording else (),
    )  # fmt: skip


COMPLETIONS_LIMIT = 4_000_000
"""Most completions that are recorded; zeroed memory costs nothing until they are written."""
