"""The reference engine: agents are SimPy processes, banks, miss registers and channels are SimPy resources.

It is written to be read beside the block diagram and stepped in a debugger, and it runs the units' functions as plain
Python. It shares with the compiled engine what a unit does (look up a line, serve a line) and nothing about *when*:
waiting, arbitration, back-pressure and order are SimPy's event queue here, and reservations on a timing wheel there.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np
import simpy
from numpy.typing import NDArray

from archsim.engine.ordering import MISS_CYCLES, REQUEST_PHASE_PRIORITY, SAME_CYCLE_LIMIT
from archsim.engine.outcome import BUSY, IDLE, STALL, TIME_COLUMNS, Outcome
from archsim.errors import EngineError
from archsim.hardware import operation as op
from archsim.hardware.memory import cache, dram
from archsim.hardware.memory.system import MemorySpec
from archsim.hardware.operation import Topology

Wait = Generator[simpy.Event, Any, Any]


def plain(function: Any) -> Callable[..., Any]:
    """The Python function behind a compiled one."""
    found: Callable[..., Any] = getattr(function, "py_func", function)
    return found


class Arbiter:
    """One resource: grants the smallest (ready cycle, request number), at the end of a cycle.

    A granted request calls ``serve`` at once, which returns the first cycle in which the resource can grant again, or
    None if it must be released by hand (:meth:`release`).
    """

    def __init__(self, env: simpy.Environment, servers: int = 1) -> None:
        self.env = env
        self.free = servers
        self.waiting: list[tuple[int, int, simpy.Event, Callable[[], int | None]]] = []

    def request(self, number: int, serve: Callable[[], int | None] = lambda: None) -> simpy.Event:
        """An event that happens when request ``number``, ready now, is granted; its value is the cycle."""
        granted = self.env.event()
        heapq.heappush(self.waiting, (int(self.env.now), number, granted, serve))
        self._arbitrate_later()
        return granted

    def release(self) -> None:
        """A server is free again."""
        self.free += 1
        self._arbitrate_later()

    def _arbitrate_later(self) -> None:
        event = simpy.Event(self.env)
        event._ok, event._value = True, None
        event.callbacks = [self._arbitrate]
        self.env.schedule(event, priority=REQUEST_PHASE_PRIORITY)  # type: ignore[arg-type]

    def _arbitrate(self, _: simpy.Event) -> None:
        while self.free and self.waiting:
            granted, serve = heapq.heappop(self.waiting)[2:]
            self.free -= 1
            next_grant = serve()
            granted.succeed(int(self.env.now))
            if next_grant is not None:
                self.env.timeout(next_grant - self.env.now).callbacks.append(lambda _: self.release())


class Fifo:
    """Bounded FIFO with one writer and several reading ends that each see every token."""

    def __init__(self, env: simpy.Environment, capacity: int, initial: int, ports: int) -> None:
        self.env = env
        self.capacity = capacity
        self.values: list[int] = [0] * initial
        self.taken = [0] * ports
        self.changed = env.event()

    def _notify(self) -> None:
        changed, self.changed = self.changed, self.env.event()
        changed.succeed()

    def pop(self, port: int, count: int) -> Wait:
        """Wait for ``count`` tokens, take them, return the value of the last."""
        while len(self.values) < self.taken[port] + count:
            yield self.changed
        self.taken[port] += count
        self._notify()
        return self.values[self.taken[port] - 1]

    def push(self, count: int, value: int) -> Wait:
        """Wait for space for ``count`` tokens and write them."""
        while len(self.values) + count - min(self.taken) > self.capacity:
            yield self.changed
        self.values.extend([value] * count)
        self._notify()


class Barrier:
    """Lets everybody go in the cycle in which the last member arrives."""

    def __init__(self, env: simpy.Environment, members: int) -> None:
        self.env = env
        self.members = members
        self.arrived = 0
        self.opened = env.event()

    def wait(self) -> Wait:
        """Arrive, and go on when everybody has."""
        self.arrived += 1
        if self.arrived < self.members:
            yield self.opened
            return
        opened, self.opened, self.arrived = self.opened, self.env.event(), 0
        opened.succeed()


class Request(NamedTuple):
    """A memory request as read from an operation; ``number`` orders it among all requests of the machine."""

    number: int
    line: int
    beats: int
    useful_bytes: int
    mode: int
    tensor: int
    epoch: int


class Memory:
    """Banks, miss registers and channels; see :mod:`archsim.hardware.memory.system` for a request's way."""

    def __init__(self, env: simpy.Environment, spec: MemorySpec, tensors: int) -> None:
        self.env = env
        self.spec = spec
        self.cache = cache.empty_cache(spec.cache)
        self.dram = dram.idle_dram(spec.dram)
        self.banks = [Arbiter(env) for _ in range(spec.cache.banks)]
        self.channels = [Arbiter(env) for _ in range(spec.dram.channels)]
        self.mshrs = Arbiter(env, spec.cache.mshrs)
        self.fills: dict[int, simpy.Event] = {}
        self.traffic = np.zeros((tensors, op.TRAFFIC_COLUMNS), np.int64)
        self.last_done = 0

    def count(self, request: Request, column: int, amount: int = 1) -> None:
        """Count in the traffic table of the request's tensor."""
        self.traffic[request.tensor, column] += amount

    def transfer(self, request: Request) -> Wait:
        """Carry the request out; returns the cycle in which it is done."""
        written = request.mode == op.STREAM_WRITE
        if request.mode not in (op.STREAM_READ, op.PREFETCH):
            self.count(request, op.SRAM_WRITES if written else op.SRAM_READS, request.beats)
            self.count(request, op.SRAM_WRITE_BYTES if written else op.SRAM_READ_BYTES, request.useful_bytes)
        if self.spec.ideal:
            if request.mode == op.STREAM_READ:
                self.count(request, op.DRAM_READ_LINES)
            if written:
                self.count(request, op.DRAM_WRITE_LINES)
            yield self.env.timeout(1)
        elif request.mode in (op.CACHED_READ, op.PREFETCH):
            yield from self._cached_read(request)
        elif request.mode == op.RESIDENT_READ:
            yield from self._bank(request, lambda: request.beats)
            yield self.env.timeout(request.beats - 1 + self.spec.cache.hit_cycles)
        elif request.mode == op.STREAM_READ:
            yield from self._fetch(request, way=-1)
        else:
            yield from self._bank(request, lambda: request.beats)
            yield self.env.timeout(request.beats)
            after_burst, _ = yield from self._channel(request)
            self.count(request, op.DRAM_WRITE_LINES)
            yield self.env.timeout(after_burst - self.env.now)
        self.last_done = max(self.last_done, int(self.env.now))
        return int(self.env.now)

    def _bank(self, request: Request, hold: Callable[[], int]) -> Wait:
        """Wait for the line's bank; it is then held for ``hold()`` cycles, evaluated at the grant."""
        asked = self.env.now
        bank = self.banks[request.line % self.spec.cache.banks]
        granted = yield bank.request(request.number, lambda: int(self.env.now) + hold())
        self.count(request, op.BANK_WAIT_CYCLES, int(granted - asked))

    def _cached_read(self, request: Request) -> Wait:
        found: list[Any] = []

        def hold() -> int:
            outcome, way = plain(cache.look_up)(
                self.spec.cache, self.cache, request.line, request.epoch, request.number
            )
            found.extend((outcome, way))
            if outcome == cache.MERGED:
                bank, index = request.line % self.spec.cache.banks, request.line // self.spec.cache.banks
                owner = self.cache.filling[bank, index % self.spec.cache.sets, way]
                found.append(self.fills[int(owner)])
            elif outcome == cache.MISS:
                self.fills[request.number] = self.env.event()
            return request.beats if outcome == cache.HIT else 1

        yield from self._bank(request, hold)
        outcome, way = found[:2]
        if outcome == cache.HIT:
            self.count(request, op.HITS)
            yield self.env.timeout(request.beats - 1 + self.spec.cache.hit_cycles)
        elif outcome == cache.MERGED:
            self.count(request, op.MERGED_MISSES)
            yield found[2]
        else:
            self.count(request, op.MISSES)
            yield self.env.timeout(MISS_CYCLES)
            yield from self._fetch(request, way)

    def _fetch(self, request: Request, way: int) -> Wait:
        """MSHR, channel, data, fill; ends with the fill."""
        yield self.mshrs.request(request.number)
        yield self.env.timeout(MISS_CYCLES)
        _, data = yield from self._channel(request)
        self.count(request, op.DRAM_READ_LINES)
        yield self.env.timeout(data - self.env.now)

        def hold() -> int:
            if way >= 0:
                plain(cache.fill)(self.spec.cache, self.cache, request.line, way)
            return self.spec.cache.fill_beats

        yield from self._bank(request, hold)
        self.count(request, op.SRAM_WRITES, self.spec.cache.fill_beats)
        self.count(request, op.SRAM_WRITE_BYTES, self._filled_bytes(request))
        yield self.env.timeout(self.spec.cache.fill_beats)
        self.mshrs.release()
        if way >= 0:
            self.fills.pop(request.number).succeed()

    def _filled_bytes(self, request: Request) -> int:
        """Useful bytes that a fill writes: what was asked for of a streamed line, else the whole line."""
        if request.mode == op.STREAM_READ:
            return request.useful_bytes
        return self.spec.cache.fill_beats * self.spec.cache.beat_bytes

    def _channel(self, request: Request) -> Wait:
        """Wait for the line's channel; returns (cycle after the burst, cycle of the data)."""
        served: list[int] = []

        def serve() -> int:
            served.extend(plain(dram.serve)(self.spec.dram, self.dram, request.line, int(self.env.now)))
            return served[2]

        yield self.channels[request.line % self.spec.dram.channels].request(request.number, serve)
        return served[0], served[1]


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
    env = simpy.Environment()
    memory = Memory(env, memory_spec, tensors)
    agents = len(topology.request_slots)
    fifos = [
        Fifo(env, int(capacity), int(initial), int(last - first))
        for capacity, initial, first, last in zip(
            topology.fifo_capacity,
            topology.fifo_initial,
            topology.fifo_first_port,
            topology.fifo_first_port[1:],
            strict=False,
        )
    ]
    port_fifo = np.repeat(np.arange(len(fifos)), np.diff(topology.fifo_first_port))
    barriers = [Barrier(env, int(members)) for members in topology.barrier_members]
    first_request = np.cumsum([0, *topology.request_slots])
    slots = int(topology.request_slots.max(initial=0))
    operations = np.zeros((agents, op.HEADER + slots * op.REQUEST_FIELDS), np.int64)
    times = np.zeros((agents, TIME_COLUMNS), np.int64)
    ended_at = np.full(agents, -1, np.int64)
    completions: list[tuple[int, int]] = []
    step = plain(step)

    def delayed(request: Request, place: int) -> Wait:
        """The agent's port sends one request a cycle."""
        if not memory_spec.ideal:
            yield env.timeout(place)
        done = yield from memory.transfer(request)
        return done

    def agent(number: int) -> Wait:
        o = operations[number]
        same_cycle, last_now = 0, -1
        while True:
            called = int(env.now)
            same_cycle = same_cycle + 1 if called == last_now else 0
            last_now = called
            if same_cycle > SAME_CYCLE_LIMIT:
                raise EngineError(f"agent {number} runs in circles in cycle {called}")
            o[: op.START] = 0
            o[op.POP] = o[op.PUSH] = o[op.BARRIER] = -1
            step(number, called, spec, state, operands, operations, counts)
            if o[op.END]:
                ended_at[number] = called
                return
            if o[op.POP] >= 0:
                port = int(o[op.POP])
                fifo = int(port_fifo[port])
                local = port - int(topology.fifo_first_port[fifo])
                o[op.VALUE] = yield from fifos[fifo].pop(local, int(o[op.POP_COUNT]))
            start = int(env.now)
            o[op.START] = start
            transfers = []
            for place in range(int(o[op.REQUESTS])):
                fields = o[op.HEADER + place * op.REQUEST_FIELDS :]
                request = Request(int(first_request[number]) + place, *(int(f) for f in fields[: op.DONE]))
                transfers.append(env.process(delayed(request, place)))
            if o[op.COMPUTE] or o[op.PAUSE]:
                yield env.timeout(int(o[op.COMPUTE] + o[op.PAUSE]))
            for place, transfer in enumerate(transfers):
                done = yield transfer
                o[op.HEADER + place * op.REQUEST_FIELDS + op.DONE] = done
            executed = int(env.now)
            if o[op.PUSH] >= 0:
                yield from fifos[int(o[op.PUSH])].push(int(o[op.PUSH_COUNT]), int(o[op.VALUE_OUT]))
            pushed = int(env.now)
            if o[op.BARRIER] >= 0:
                yield from barriers[int(o[op.BARRIER])].wait()
            times[number, BUSY] += o[op.COMPUTE]
            times[number, STALL] += (start - called) + (executed - start - o[op.COMPUTE]) + (pushed - executed)
            times[number, IDLE] += int(env.now) - pushed
            if record:
                completions.append((number, int(env.now)))

    for number in range(agents):
        env.process(agent(number))
    env.run()
    stuck = [number for number in range(agents) if ended_at[number] < 0]
    if stuck:
        raise EngineError(f"deadlock in cycle {int(env.now)}: agents {stuck} wait for each other")
    cycles = int(max(ended_at.max(initial=0), memory.last_done))
    times[:, IDLE] += cycles - ended_at
    return Outcome(
        cycles,
        times,
        counts,
        memory.traffic,
        int(memory.dram.row_misses.sum()),
        np.array(completions, np.int64).reshape(-1, 2),
    )
