"""The way of a memory request through the compiled engine: bank, cache, MSHR, channel, fill, delivery.

Banks and channels are not queues here but reservations. Requests reach a resource in the order (ready cycle, number),
because that is the order in which the loop processes them; so the first free cycle of the resource is all that must be
remembered, and the grant is ``max(ready, free)``. MSHRs are held for a time that is unknown at the grant; they keep a
queue.
"""

from __future__ import annotations

from typing import Any

from archsim.engine.ordering import MISS_CYCLES
from archsim.engine.recording import add_busy
from archsim.engine.wheel import (
    AT_BANK,
    AT_CHANNEL,
    AT_DELIVERY,
    AT_DISPLACED,
    AT_FILL,
    AT_MSHR,
    FREE,
    QUEUE_HEAD,
    QUEUE_TAIL,
    arrive,
    request_done,
    set_bit,
)
from archsim.hardware.interconnect.crossbar_switch import READ, WRITE, hold_path, path_free
from archsim.hardware.memory import cache as cache_unit
from archsim.hardware.memory.cache import HIT, MERGED, NONE, fill, look_up, place_of
from archsim.hardware.memory.dram import channel_of, serve
from archsim.hardware.operation import (
    BANK_WAIT_CYCLES,
    BEATS,
    BUS,
    BYTES,
    CACHED_READ,
    CACHED_WRITE,
    CONSUME,
    DONE,
    DRAM_READ_LINES,
    DRAM_WRITE_LINES,
    EPOCH,
    HEADER,
    HITS,
    LINE,
    MERGED_MISSES,
    MISSES,
    MODE,
    PREFETCH,
    REQUEST_FIELDS,
    REQUESTS,
    RESIDENT_READ,
    RESIDENT_WRITE,
    SRAM_READ_BYTES,
    SRAM_READS,
    SRAM_WRITE_BYTES,
    SRAM_WRITES,
    STREAM_READ,
    STREAM_WRITE,
    SWITCH_BEATS,
    TENSOR,
)
from archsim.jit import inlined


@inlined
def _writes(mode: int) -> bool:
    return mode in (STREAM_WRITE, RESIDENT_WRITE, CACHED_WRITE)


@inlined
def _wants_line(mode: int) -> bool:
    """Whether a line that comes from DRAM must be delivered."""
    return mode in (CACHED_READ, CONSUME)


@inlined
def issue(machine: Any, agent: int, now: int) -> None:
    """Send the operation's requests out, one per cycle; all at once where nothing conflicts."""
    memory, wheel, agents, requests, o, traffic = (
        machine.memory, machine.wheel, machine.agents, machine.requests, machine.operations, machine.traffic
    )  # fmt: skip
    switched = machine.topology.lane[agent] >= 0
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
            requests.following[request] = NONE
            requests.last[request] = request
            agents.open_requests[agent] += 1
            ready = now + place if memory.cache.conflicts else now
            arrive(wheel, requests, request, AT_MSHR if mode == STREAM_READ else AT_BANK, ready)


@inlined
def at_bank(machine: Any, request: int, now: int) -> None:
    """A request reaches its bank: reserve it and the path to it, look the line up, and say what comes next."""
    memory, requests, o = machine.memory, machine.requests, machine.operations
    spec, resources, wheel = memory.cache, machine.resources, machine.wheel
    agent, field = requests.owner[request], requests.field[request]
    line, beats = o[agent, field + LINE], o[agent, field + BEATS] if spec.conflicts else 1
    mode = o[agent, field + MODE]
    bank, _ = place_of(spec, line)
    filling = requests.stage[request] == AT_FILL
    lane = machine.topology.lane[agent]
    writes = _writes(mode)
    switched = lane >= 0 and not filling
    broadcast = lane == BUS and not filling and not writes
    granted = now
    if spec.conflicts:
        granted = max(now, resources.bank_free[bank])
        if switched and writes:
            granted = max(granted, path_free(memory.write_switch, machine.switches, WRITE, lane, bank))
        elif switched:
            granted = max(granted, path_free(memory.read_switch, machine.switches, READ, lane, bank))
        elif broadcast:
            granted = max(granted, resources.bus_free[0])
        machine.traffic[o[agent, field + TENSOR], BANK_WAIT_CYCLES] += granted - now
    hold = beats
    arrives = beats - 1 + (memory.read_cycles if lane >= 0 else memory.own_read_cycles)
    if writes:
        arrives = beats - 1 + memory.write_cycles
    if filling:
        hold = _fill_in(machine, request, granted)
    elif mode == STREAM_WRITE:
        arrive(wheel, requests, request, AT_CHANNEL, granted + arrives)
    elif mode in (RESIDENT_READ, RESIDENT_WRITE):
        request_done(wheel, machine.agents, requests, o, request, granted + arrives)
    elif requests.stage[request] == AT_DELIVERY:
        request_done(wheel, machine.agents, requests, o, request, granted + arrives)
        _next_delivery(wheel, requests, request, requests.following[request], granted + hold)
    else:
        hold = _in_cache(machine, request, granted, beats, arrives)
    if spec.conflicts:
        resources.bank_free[bank] = granted + hold
        loads = machine.loads
        if granted < loads.window[1]:
            add_busy(loads.banks, loads.bank_width, loads.window[0], loads.window[1], granted, granted + hold)
        if switched and writes:
            hold_path(memory.write_switch, machine.switches, WRITE, lane, bank, granted + hold)
        elif switched:
            hold_path(memory.read_switch, machine.switches, READ, lane, bank, granted + hold)
        elif broadcast:
            resources.bus_free[0] = granted + hold


@inlined
def _fill_in(machine: Any, request: int, granted: int) -> int:
    """A line from DRAM is written into the bank; returns for how long."""
    spec, requests, o, traffic = machine.memory.cache, machine.requests, machine.operations, machine.traffic
    agent, field = requests.owner[request], requests.field[request]
    tensor, streamed = o[agent, field + TENSOR], o[agent, field + MODE] == STREAM_READ
    traffic[tensor, SRAM_WRITES] += spec.fill_beats
    traffic[tensor, SRAM_WRITE_BYTES] += o[agent, field + BYTES] if streamed else spec.fill_beats * spec.beat_bytes
    if requests.way[request] != NONE:
        fill(spec, machine.cache, o[agent, field + LINE], requests.way[request])
    hold: int = spec.fill_beats if spec.conflicts else 1
    # Those that want no data are done with the fill; the others get it one after the other.
    waiting, first, last = request, NONE, NONE
    while waiting != NONE:
        following = requests.following[waiting]
        if not _wants_line(o[requests.owner[waiting], requests.field[waiting] + MODE]):
            request_done(machine.wheel, machine.agents, requests, o, waiting, granted + hold)
        elif first == NONE:
            first = last = waiting
        else:
            requests.following[last] = waiting
            last = waiting
        waiting = following
    if last != NONE:
        requests.following[last] = NONE
    _next_delivery(machine.wheel, requests, request, first, granted + hold)
    return hold


@inlined
def _next_delivery(wheel: Any, requests: Any, served: int, following: int, cycle: int) -> None:
    """The MSHR that ``served`` was the last to use hands its line to ``following``; without one it is free."""
    if following != NONE:
        arrive(wheel, requests, following, AT_DELIVERY, cycle)
    else:
        requests.due[served] = cycle
        set_bit(wheel.complete, wheel.marked, cycle, served)


@inlined
def _in_cache(machine: Any, request: int, granted: int, hold: int, arrives: int) -> int:
    """Look the request's line up and say what comes next; returns for how long the bank is held.

    ``hold`` and ``arrives`` are of an access that hits: for how long, and how long after the grant it is done.
    """
    spec, cache, requests, o = machine.memory.cache, machine.cache, machine.requests, machine.operations
    wheel, traffic = machine.wheel, machine.traffic
    agent, field = requests.owner[request], requests.field[request]
    line, mode, tensor = o[agent, field + LINE], o[agent, field + MODE], o[agent, field + TENSOR]
    access = cache_unit.READ
    if mode == CACHED_WRITE:
        access = cache_unit.WRITE
    elif mode == CONSUME:
        access = cache_unit.CONSUME
    outcome, way, displaced, owner = look_up(spec, cache, line, o[agent, field + EPOCH], request, access, tensor)
    if mode != CACHED_WRITE and outcome != HIT:
        hold, arrives = 1, MISS_CYCLES
    if displaced != NONE:
        fill_cycles = spec.fill_beats if spec.conflicts else 1
        hold += fill_cycles
        arrives += fill_cycles
        traffic[owner, SRAM_READS] += spec.fill_beats
        traffic[owner, SRAM_READ_BYTES] += spec.fill_beats * spec.beat_bytes
        requests.displaced[request] = displaced
        requests.displaced_tensor[request] = owner
    if outcome == MERGED:
        traffic[tensor, MERGED_MISSES] += 1
        bank, index = place_of(spec, line)
        first = cache.filling[bank, index, way]
        requests.following[requests.last[first]] = request
        requests.last[first] = request
    elif outcome == HIT or mode == CACHED_WRITE:
        traffic[tensor, HITS] += 1
        if displaced == NONE:
            request_done(wheel, machine.agents, requests, o, request, granted + arrives)
        else:
            arrive(wheel, requests, request, AT_DISPLACED, granted + arrives)
    else:
        traffic[tensor, MISSES] += 1
        requests.way[request] = way
        arrive(wheel, requests, request, AT_MSHR if displaced == NONE else AT_DISPLACED, granted + arrives)
    return hold


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
def at_displaced(machine: Any, request: int, now: int) -> None:
    """The line that the request displaced goes to its channel; the request goes on when its burst has ended."""
    requests = machine.requests
    after_burst, _ = _serve(machine, requests.displaced[request], now)
    machine.traffic[requests.displaced_tensor[request], DRAM_WRITE_LINES] += 1
    agent, field = requests.owner[request], requests.field[request]
    if machine.operations[agent, field + MODE] == CACHED_WRITE:
        request_done(machine.wheel, machine.agents, requests, machine.operations, request, after_burst)
    else:
        arrive(machine.wheel, requests, request, AT_MSHR, after_burst)


@inlined
def at_mshr(resources: Any, wheel: Any, requests: Any, request: int, now: int) -> None:
    """Take an MSHR, or queue up for one."""
    if resources.mshr[FREE] > 0:
        resources.mshr[FREE] -= 1
        arrive(wheel, requests, request, AT_CHANNEL, now + MISS_CYCLES)
    else:
        resources.mshr_queue[resources.mshr[QUEUE_TAIL] % len(resources.mshr_queue)] = request
        resources.mshr[QUEUE_TAIL] += 1


@inlined
def at_channel(machine: Any, request: int, now: int) -> None:
    """The line goes through its channel; a write is done then, a read fills its bank."""
    wheel, agents, requests, o, traffic = (
        machine.wheel, machine.agents, machine.requests, machine.operations, machine.traffic
    )  # fmt: skip
    agent, field = requests.owner[request], requests.field[request]
    after_burst, data = _serve(machine, o[agent, field + LINE], now)
    if o[agent, field + MODE] == STREAM_WRITE:
        traffic[o[agent, field + TENSOR], DRAM_WRITE_LINES] += 1
        request_done(wheel, agents, requests, o, request, after_burst)
    else:
        traffic[o[agent, field + TENSOR], DRAM_READ_LINES] += 1
        arrive(wheel, requests, request, AT_FILL, data)


@inlined
def release_mshr(resources: Any, wheel: Any, requests: Any, now: int) -> None:
    """An MSHR is free: the request that waits longest takes it."""
    if resources.mshr[QUEUE_HEAD] < resources.mshr[QUEUE_TAIL]:
        waiting = resources.mshr_queue[resources.mshr[QUEUE_HEAD] % len(resources.mshr_queue)]
        resources.mshr[QUEUE_HEAD] += 1
        arrive(wheel, requests, waiting, AT_CHANNEL, now + MISS_CYCLES)
    else:
        resources.mshr[FREE] += 1
