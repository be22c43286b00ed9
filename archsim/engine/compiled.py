"""The compiled engine: one numba loop over a timing wheel, operations streamed, nothing materialised.

What it works on is described in :mod:`archsim.engine.wheel`, memory in :mod:`archsim.engine.requests`, FIFOs in
:mod:`archsim.engine.fifos`; here is the order of events and the loop.

An accelerator makes the loop its own with a kernel of one line, ``loop(spec, operands, machine)``, that calls
:func:`run` with its ``step``: so ``step`` is compiled into the loop, and the loop is cached on disk under the
accelerator's file. (A call through a pointer would pass every array of the operands each time, which costs more than
most steps do.)
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.compress.bitmask import lowest_one
from archsim.engine.fifos import let_in, meet, pop, push, share
from archsim.engine.ordering import SAME_CYCLE_LIMIT
from archsim.engine.outcome import BUSY, IDLE, STALL, Outcome
from archsim.engine.recording import BANKS, CHANNELS, Load, Window, window_of
from archsim.engine.requests import at_bank, at_channel, at_displaced, at_mshr, issue, release_mshr
from archsim.engine.wheel import (
    ALIVE,
    ASK,
    AT_BANK,
    AT_CHANNEL,
    AT_DELIVERY,
    AT_FILL,
    AT_MSHR,
    ENDED,
    GIVE,
    MEET,
    NOW,
    RECORDED,
    TAKE,
    UNTIL,
    WHEEL_SLOTS,
    Machine,
    leave_slot,
    machine_at_rest,
    next_marked,
    take_bit,
    wake,
)
from archsim.errors import EngineError
from archsim.hardware.memory.cache import NONE
from archsim.hardware.memory.system import MemorySpec
from archsim.hardware.operation import BARRIER, COMPUTE, END, PAUSE, POP, PUSH, START, Topology
from archsim.jit import entry_point, higher_order, inlined

FINISHED, DEADLOCK, CIRCLES, PAUSED = range(4)

FIRST_CYCLES, MOST_CYCLES = 1 << 16, 1 << 40
CALL_S = 0.1
"""The loop returns to Python for a moment after so many simulated cycles, later after about so long."""


_NEVER = np.iinfo(np.int64).max


@inlined
def _next_due(agents: Any, requests: Any, now: int) -> int:
    """The earliest due cycle from ``now`` on; what is due earlier has happened."""
    earliest = _NEVER
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
    wheel, agents, requests, fifos, clock = (
        machine.wheel, machine.agents, machine.requests, machine.fifos, machine.clock
    )  # fmt: skip
    now = clock[NOW]
    if now == 0:
        for agent in range(clock[ALIVE]):
            wake(wheel, agents, agent, 0)
    quiet_since = now
    while True:
        marked = next_marked(wheel, now)
        if marked == NONE:
            return (DEADLOCK, now, clock[RECORDED]) if clock[ALIVE] > 0 else (FINISHED, now - 1, clock[RECORDED])
        now = marked
        if now - quiet_since > WHEEL_SLOTS:
            # Nothing in a whole turn: go to the next event.
            now = _next_due(agents, requests, now)
        if now >= clock[UNTIL]:
            clock[NOW] = now
            return PAUSED, now, clock[RECORDED]
        # Completions and control, until nothing more happens in this cycle; then arbitration.
        completed = _completions(machine, now)
        controlled, circling = _control(step, spec, operands, machine, now)
        if circling != NONE:
            return CIRCLES, now, circling
        let_in(machine.topology, fifos, wheel, agents, machine.operations, now)
        for row in range(len(fifos.shared)):
            if fifos.queued[row] > 0:
                share(machine.topology, fifos, wheel, agents, machine.operations, row, now)
        arrived = _arbitration(machine, now)
        leave_slot(wheel, now & (WHEEL_SLOTS - 1))
        now += 1
        if completed or controlled or arrived:
            quiet_since = now


@inlined
def _completions(machine: Any, now: int) -> bool:
    """MSHRs whose last request completes in this cycle; whether there are any."""
    wheel, requests = machine.wheel, machine.requests
    slot, found = now & (WHEEL_SLOTS - 1), False
    for word in range(wheel.complete.shape[1]):
        bits = wheel.complete[slot, word]
        while bits:
            request = (word << 6) + lowest_one(bits)
            bits &= bits - np.uint64(1)
            if requests.due[request] == now:
                found = True
                take_bit(wheel.complete, slot, request)
                release_mshr(machine.resources, wheel, requests, now)
    return found


@higher_order
def _control(step: Any, spec: Any, operands: Any, machine: Any, now: int) -> tuple[bool, int]:
    """Agents that go on in this cycle: whether there are any, and one that runs in circles, or NONE."""
    wheel, agents = machine.wheel, machine.agents
    slot, found, again, asked = now & (WHEEL_SLOTS - 1), False, True, 0
    while again:
        again = False
        for word in range(wheel.control.shape[1]):
            bits = wheel.control[slot, word]
            while bits:
                agent = (word << 6) + lowest_one(bits)
                bits &= bits - np.uint64(1)
                if agents.due[agent] == now:
                    found = again = True
                    take_bit(wheel.control, slot, agent)
                    asked = _go_on(step, spec, operands, machine, agent, now, asked)
                    if asked > SAME_CYCLE_LIMIT:
                        return found, agent
    return found, NONE


@higher_order
def _go_on(step: Any, spec: Any, operands: Any, machine: Any, agent: int, now: int, asked: int) -> int:
    """An agent does what it can in this cycle; returns how many operations were asked for in it, with ``asked``."""
    topology, fifos, o, wheel, agents = (
        machine.topology, machine.fifos, machine.operations, machine.wheel, machine.agents
    )  # fmt: skip
    place = agents.place[agent]
    while True:
        if place == ASK:
            asked += 1
            if asked > SAME_CYCLE_LIMIT:
                return asked
            for field in range(START):
                o[agent, field] = 0
            o[agent, POP] = NONE
            o[agent, PUSH] = NONE
            o[agent, BARRIER] = NONE
            agents.called[agent] = now
            step(agent, now, spec, machine.state, operands, o, machine.counts)
            if o[agent, END]:
                agents.place[agent] = ENDED
                agents.ended[agent] = now
                machine.clock[ALIVE] -= 1
                return asked
            place = TAKE
        if place == TAKE:
            agents.place[agent] = TAKE
            if o[agent, POP] != NONE and not pop(topology, fifos, wheel, agents, o, agent, now):
                return asked
            o[agent, START] = now
            agents.place[agent] = GIVE
            agents.resume[agent] = now + o[agent, COMPUTE] + o[agent, PAUSE]
            issue(machine, agent, now)
            if agents.open_requests[agent] > 0:
                return asked
            if agents.resume[agent] > now:
                wake(wheel, agents, agent, agents.resume[agent])
                return asked
            place = GIVE
        if place == GIVE:
            if o[agent, PUSH] != NONE and not push(topology, fifos, wheel, agents, o, agent, now):
                return asked
            agents.pushed[agent] = now
            agents.place[agent] = MEET
            if o[agent, BARRIER] != NONE and not meet(topology, fifos, wheel, agents, o, agent, now):
                return asked
        _end_operation(machine, agent, now)
        place = ASK


@inlined
def _end_operation(machine: Any, agent: int, now: int) -> None:
    """Book the operation's time, and record it if it touches the window."""
    agents, clock, window, completions = machine.agents, machine.clock, machine.loads.window, machine.completions
    compute = machine.operations[agent, COMPUTE]
    agents.times[agent, BUSY] += compute
    agents.times[agent, STALL] += agents.pushed[agent] - agents.called[agent] - compute
    agents.times[agent, IDLE] += now - agents.pushed[agent]
    if agents.called[agent] < window[1] and now > window[0]:
        if clock[RECORDED] < len(completions):
            completions[clock[RECORDED], 0] = agent
            completions[clock[RECORDED], 1] = now
        clock[RECORDED] += 1


@inlined
def _arbitration(machine: Any, now: int) -> bool:
    """Requests that reach a resource, the lowest number first; those before them have their reservation. Whether there
    are any."""
    wheel, requests, resources = machine.wheel, machine.requests, machine.resources
    slot, found = now & (WHEEL_SLOTS - 1), False
    for word in range(wheel.arrive.shape[1]):
        bits = wheel.arrive[slot, word]
        while bits:
            request = (word << 6) + lowest_one(bits)
            bits &= bits - np.uint64(1)
            if requests.due[request] == now:
                found = True
                take_bit(wheel.arrive, slot, request)
                stage = requests.stage[request]
                if stage in (AT_BANK, AT_FILL, AT_DELIVERY):
                    at_bank(machine, request, now)
                elif stage == AT_MSHR:
                    at_mshr(resources, wheel, requests, request, now)
                elif stage == AT_CHANNEL:
                    at_channel(machine, request, now)
                else:
                    at_displaced(machine, request, now)
    return found


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
    window = window_of(record)
    machine = machine_at_rest(topology, memory_spec, state, counts, tensors, window)
    agents, loads, units = machine.agents, machine.loads, memory_spec.dram.units_per_cycle
    loop(spec, operands, machine)  # to cycle 0, where it stands: what is not compiled yet is before the clock starts
    loop = entry_point(loop, spec, operands, machine)
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
        stuck = [agent for agent in range(len(agents.place)) if agents.place[agent] != ENDED]
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
        kept if window.end > 0 else (),
    )  # fmt: skip
