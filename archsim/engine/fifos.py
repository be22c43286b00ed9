"""FIFOs, shared ends and barriers of the compiled engine: who takes and writes tokens, who waits, who is woken."""

from __future__ import annotations

from typing import Any

import numpy as np

from archsim.compress.bitmask import lowest_one
from archsim.engine.wheel import MEET, PRIVATE, wake
from archsim.hardware.memory.cache import NONE
from archsim.hardware.operation import BARRIER, POP, POP_COUNT, PUSH, PUSH_COUNT, VALUE, VALUE_OUT
from archsim.jit import inlined


@inlined
def _fifo_space(topology: Any, fifos: Any, fifo: int) -> int:
    slowest = fifos.written[fifo]
    for port in range(topology.fifo_first_port[fifo], topology.fifo_first_port[fifo + 1]):
        slowest = min(slowest, fifos.taken[port])
    return topology.fifo_capacity[fifo] - (fifos.written[fifo] - slowest)


@inlined
def _token(fifos: Any, fifo: int, number: int) -> int:
    """The value of a FIFO's token ``number``."""
    value: int = fifos.values[fifo, number & (fifos.values.shape[1] - 1)]
    return value


@inlined
def _ask(fifos: Any, fifo: int) -> None:
    """An agent that waits at an arbitrated writing end may find space."""
    fifos.asked[fifo >> 6] |= np.uint64(1) << np.uint64(fifo & 63)


@inlined
def _wake_writer(topology: Any, fifos: Any, wheel: Any, agents: Any, o: Any, fifo: int, now: int) -> None:
    """The FIFO's writer goes on if it waits and there is space for its tokens; of several one is let in later."""
    if fifos.entry[fifo] >= 0:
        _ask(fifos, fifo)
    writer = fifos.waiting_writer[fifo]
    if writer != NONE and _fifo_space(topology, fifos, fifo) >= o[writer, PUSH_COUNT]:
        fifos.waiting_writer[fifo] = NONE
        wake(wheel, agents, writer, now)


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
def share(topology: Any, fifos: Any, wheel: Any, agents: Any, o: Any, row: int, now: int) -> None:
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
        o[agent, VALUE] = _token(fifos, fifo, fifos.taken[port] - 1)
        fifos.granted[agent] = 1
        wake(wheel, agents, agent, now + 1)
        served += 1
    fifos.queued[row] -= served
    for place in range(fifos.queued[row]):
        fifos.queue[row, place] = fifos.queue[row, place + served]


@inlined
def pop(topology: Any, fifos: Any, wheel: Any, agents: Any, o: Any, agent: int, now: int) -> bool:
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
    o[agent, VALUE] = _token(fifos, fifo, fifos.taken[port] - 1)
    _wake_writer(topology, fifos, wheel, agents, o, fifo, now)
    return True


@inlined
def _stand_behind(fifos: Any, agents: Any, fifo: int, agent: int, now: int) -> None:
    """Wait at an arbitrated writing end, behind all that asked earlier and smaller numbers of this cycle."""
    before, following = NONE, fifos.entry[fifo]
    while following != NONE and (agents.due[following] < now or following < agent):
        before, following = following, fifos.behind[following]
    fifos.behind[agent] = following
    if before == NONE:
        fifos.entry[fifo] = agent
    else:
        fifos.behind[before] = agent
    _ask(fifos, fifo)


@inlined
def let_in(topology: Any, fifos: Any, wheel: Any, agents: Any, o: Any, now: int) -> None:
    """At every arbitrated writing end the first agent that waits may write if there is space, in the next cycle."""
    for word in range(len(fifos.asked)):
        bits = fifos.asked[word]
        while bits:
            bit = lowest_one(bits)
            bits &= bits - np.uint64(1)
            fifo = (word << 6) + bit
            agent = fifos.entry[fifo]
            if _fifo_space(topology, fifos, fifo) >= o[agent, PUSH_COUNT]:
                fifos.granted[agent] = 1
                wake(wheel, agents, agent, now + 1)
                fifos.entry[fifo] = fifos.behind[agent]
                if fifos.entry[fifo] != NONE:
                    continue
            # Nobody waits, or there is no space before a token is taken.
            fifos.asked[word] &= ~(np.uint64(1) << np.uint64(bit))


@inlined
def push(topology: Any, fifos: Any, wheel: Any, agents: Any, o: Any, agent: int, now: int) -> bool:
    """Write the operation's tokens, or wait."""
    fifo = o[agent, PUSH]
    count = o[agent, PUSH_COUNT]
    if fifos.entry[fifo] != PRIVATE:
        if not fifos.granted[agent]:
            _stand_behind(fifos, agents, fifo, agent, now)
            return False
        fifos.granted[agent] = 0
    elif _fifo_space(topology, fifos, fifo) < count:
        fifos.waiting_writer[fifo] = agent
        return False
    for _ in range(count):
        fifos.values[fifo, fifos.written[fifo] & (fifos.values.shape[1] - 1)] = o[agent, VALUE_OUT]
        fifos.written[fifo] += 1
    for port in range(topology.fifo_first_port[fifo], topology.fifo_first_port[fifo + 1]):
        reader = fifos.waiting_reader[port]
        if reader != NONE and fifos.written[fifo] - fifos.taken[port] >= o[reader, POP_COUNT]:
            fifos.waiting_reader[port] = NONE
            wake(wheel, agents, reader, now)
    return True


@inlined
def meet(topology: Any, fifos: Any, wheel: Any, agents: Any, o: Any, agent: int, now: int) -> bool:
    """Arrive at the operation's barrier; the last one wakes the others and goes on."""
    barrier = o[agent, BARRIER]
    fifos.arrived[barrier] += 1
    if fifos.arrived[barrier] < topology.barrier_members[barrier]:
        return False
    fifos.arrived[barrier] = 0
    for other in range(len(agents.place)):
        if other != agent and agents.place[other] == MEET and o[other, BARRIER] == barrier:
            wake(wheel, agents, other, now)
    return True
