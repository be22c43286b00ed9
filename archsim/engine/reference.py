"""The reference engine: agents are SimPy processes, banks, miss registers and channels are SimPy resources.

It is written to be read beside the block diagram and stepped in a debugger, and it runs the units' functions as plain
Python. It shares with the compiled engine what a unit does (look up a line, serve a line) and nothing about *when*:
waiting, arbitration, back-pressure and order are SimPy's event queue here, and reservations on a timing wheel there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Hashable, Mapping
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import simpy
from numpy.typing import NDArray

from archsim.engine.ordering import MISS_CYCLES, REQUEST_PHASE_PRIORITY, SAME_CYCLE_LIMIT
from archsim.engine.outcome import BUSY, IDLE, STALL, TIME_COLUMNS, Outcome
from archsim.engine.recording import BANKS, CHANNELS, Window, load_of, window_of
from archsim.errors import EngineError
from archsim.hardware import operation as op
from archsim.hardware.memory import cache, dram
from archsim.hardware.memory.system import MemorySpec
from archsim.hardware.operation import BUS, Topology
from archsim.jit import plain

Wait = Generator[simpy.Event, Any, Any]

WANT_LINE = (op.CACHED_READ, op.CONSUME)
"""Modes of requests to which a line that comes from DRAM must be delivered."""


class Waiting(NamedTuple):
    """A request that was not granted yet, in the order of arbitration."""

    ready: int
    number: int
    needs: tuple[Hashable, ...]
    granted: simpy.Event
    serve: Callable[[], int | None]


class Arbiter:
    """Grants requests in the order (ready cycle, number), at the end of a cycle; each needs all its resources at once.

    A request waits behind every earlier one that needs one of the same resources. When it is granted, ``serve`` is
    called at once; it returns the first cycle in which the resources can be granted again, or None if they must be
    released by hand (:meth:`release`). There is one of each resource, except for those named in ``servers``.
    """

    def __init__(self, env: simpy.Environment, servers: Mapping[Hashable, int] | None = None) -> None:
        self.env = env
        self.free: Counter[Hashable] = Counter(servers or {})
        self.known = set(self.free)
        self.waiting: list[Waiting] = []
        self.scheduled = False

    def request(
        self, number: int, needs: tuple[Hashable, ...], serve: Callable[[], int | None] = lambda: None
    ) -> simpy.Event:
        """An event that happens when request ``number``, ready now, is granted; its value is the cycle."""
        for resource in set(needs) - self.known:
            self.known.add(resource)
            self.free[resource] = 1
        granted = self.env.event()
        self.waiting.append(Waiting(int(self.env.now), number, needs, granted, serve))
        self._arbitrate_later()
        return granted

    def release(self, needs: tuple[Hashable, ...]) -> None:
        """These can be granted again."""
        self.free.update(needs)
        self._arbitrate_later()

    def _release_at(self, cycle: int, needs: tuple[Hashable, ...]) -> Wait:
        yield self.env.timeout(cycle - self.env.now)
        self.release(needs)

    def _arbitrate_later(self) -> None:
        if self.scheduled:
            return
        self.scheduled = True
        event = simpy.Event(self.env)
        event._ok, event._value = True, None
        event.callbacks = [self._arbitrate]
        self.env.schedule(event, priority=REQUEST_PHASE_PRIORITY)  # type: ignore[arg-type]

    def _arbitrate(self, _: simpy.Event) -> None:
        self.scheduled = False
        left = self.free.copy()
        waiting, self.waiting = sorted(self.waiting, key=lambda one: one[:2]), []
        for one in waiting:
            grant = all(left[resource] >= amount for resource, amount in Counter(one.needs).items())
            # What an earlier request waits for is not there for later ones, even if it is free.
            left.subtract(one.needs)
            if not grant:
                self.waiting.append(one)
                continue
            self.free.subtract(one.needs)
            next_grant = one.serve()
            one.granted.succeed(int(self.env.now))
            if next_grant is not None:
                self.env.process(self._release_at(next_grant, one.needs))


class Fifo:
    """Bounded FIFO with one writer, or an ``arbitrated`` writing end, and several reading ends that each see every
    token, or one that readers share."""

    def __init__(
        self, env: simpy.Environment, capacity: int, initial: int, ports: int, shared: bool, arbitrated: bool
    ) -> None:
        self.env = env
        self.capacity = capacity
        self.values: list[int] = [0] * initial
        self.taken = [0] * ports
        self.changed = env.event()
        self.tokens = Arbiter(env, {"token": initial}) if shared else None
        self.space = Arbiter(env, {"place": capacity - initial, "end": 1}) if arbitrated else None

    def _notify(self) -> None:
        changed, self.changed = self.changed, self.env.event()
        changed.succeed()

    def pop(self, port: int, count: int, reader: int) -> Wait:
        """Wait for ``count`` tokens, take them, return the value of the last."""
        if self.tokens is not None:
            last: list[int] = []

            def take() -> None:
                self.taken[port] += count
                last.append(self.values[self.taken[port] - 1])

            yield self.tokens.request(reader, ("token",) * count, take)
            yield self.env.timeout(1)
            self._leave(count)
            return last[0]
        while len(self.values) < self.taken[port] + count:
            yield self.changed
        before = min(self.taken)
        self.taken[port] += count
        self._leave(min(self.taken) - before)
        return self.values[self.taken[port] - 1]

    def _leave(self, places: int) -> None:
        """So many places are free again."""
        if self.space is not None:
            self.space.release(("place",) * places)
        self._notify()

    def push(self, count: int, value: int, writer: int) -> Wait:
        """Wait for space for ``count`` tokens, and for the writing end where it is arbitrated, and write them."""
        if self.space is not None:
            yield self.space.request(writer, ("end", *("place",) * count))
            yield self.env.timeout(1)
            self.space.release(("end",))
        while len(self.values) + count - min(self.taken) > self.capacity:
            yield self.changed
        self.values.extend([value] * count)
        if self.tokens is not None:
            self.tokens.release(("token",) * count)
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
    lane: int
    line: int
    beats: int
    useful_bytes: int
    mode: int
    tensor: int
    epoch: int

    @property
    def writes(self) -> bool:
        """Whether data go towards the bank."""
        return self.mode in (op.STREAM_WRITE, op.RESIDENT_WRITE, op.CACHED_WRITE)


class Memory:
    """Switches, banks, miss registers and channels; see :mod:`archsim.hardware.memory.system` for a request's way."""

    def __init__(self, env: simpy.Environment, spec: MemorySpec, tensors: int, recording: bool) -> None:
        self.env = env
        self.spec = spec
        self.recording = recording
        self.cache = cache.empty_cache(spec.cache)
        self.dram = dram.idle_dram(spec.dram)
        self.banks = Arbiter(env)
        self.channels = Arbiter(env)
        self.mshrs = Arbiter(env, {"mshr": spec.cache.mshrs})
        self.waiting: dict[int, list[tuple[Request, simpy.Event]]] = {}
        """By the number of the request that fetches a line: those that wait for it, oldest first."""
        self.traffic = np.zeros((tensors, op.TRAFFIC_COLUMNS), np.int64)
        self.last_done = 0
        self.bank_times: list[tuple[int, int]] = []
        self.burst_times: list[tuple[int, int]] = []

    def count(self, request: Request, column: int, amount: int = 1) -> None:
        """Count in the traffic table of the request's tensor."""
        self.traffic[request.tensor, column] += amount

    def transfer(self, request: Request) -> Wait:
        """Carry the request out; returns the cycle in which it is done."""
        if request.writes:
            self.count(request, op.SRAM_WRITES, request.beats)
            self.count(request, op.SRAM_WRITE_BYTES, request.useful_bytes)
        elif request.mode not in (op.STREAM_READ, op.PREFETCH):
            self.count(request, op.SRAM_READS, request.beats)
            self.count(request, op.SRAM_READ_BYTES, request.useful_bytes)
        if request.lane >= 0 and request.mode not in (op.STREAM_READ, op.PREFETCH):
            self.count(request, op.SWITCH_BEATS, request.beats)
        if self.spec.ideal:
            if request.mode == op.STREAM_READ:
                self.count(request, op.DRAM_READ_LINES)
            if request.mode == op.STREAM_WRITE:
                self.count(request, op.DRAM_WRITE_LINES)
            yield self.env.timeout(1)
        elif request.mode in (op.RESIDENT_READ, op.RESIDENT_WRITE):
            yield from self._bank(request, lambda: self._beats(request.beats))
            yield self.env.timeout(self._beats(request.beats) - 1 + self._path_cycles(request))
        elif request.mode == op.STREAM_READ:
            yield from self._fetch(request, way=cache.NONE)
        elif request.mode == op.STREAM_WRITE:
            yield from self._bank(request, lambda: self._beats(request.beats))
            yield self.env.timeout(self._beats(request.beats) - 1 + self._path_cycles(request))
            after_burst, _ = yield from self._channel(request.number, request.line)
            self.count(request, op.DRAM_WRITE_LINES)
            yield self.env.timeout(after_burst - self.env.now)
        else:
            yield from self._cached(request)
        self.last_done = max(self.last_done, int(self.env.now))
        return int(self.env.now)

    def _beats(self, beats: int) -> int:
        """Cycles of an access of ``beats`` beats; one where nothing conflicts."""
        return beats if self.spec.cache.conflicts else 1

    def _path_cycles(self, request: Request) -> int:
        """From the grant of the last beat to its data."""
        if request.writes:
            return self.spec.write_cycles
        return self.spec.read_cycles if request.lane >= 0 else self.spec.own_read_cycles

    def _bank(self, request: Request, hold: Callable[[], int], fill: bool = False) -> Wait:
        """Wait for the line's bank and the path to it; they are then held for ``hold()`` cycles from the grant on."""
        asked = self.env.now
        spec = self.spec.cache
        bank = request.line % spec.window_banks
        if spec.window_shift:
            bank += request.line // 2**spec.window_shift * spec.window_banks
        needs: list[Hashable] = []
        if self.spec.cache.conflicts:
            needs.append(("bank", bank))
            if request.lane >= 0 and not fill:
                switch = self.spec.write_switch if request.writes else self.spec.read_switch
                needs.append(("input", request.writes, request.lane % switch.inputs))
                needs.append(("output", request.writes, bank % switch.outputs))
            elif request.lane == BUS and not fill and not request.writes:
                needs.append("bus")

        def serve() -> int:
            granted = int(self.env.now)
            free = granted + hold()
            if needs and self.recording:
                self.bank_times.append((granted, free))
            return free

        granted = yield self.banks.request(request.number, tuple(needs), serve)
        self.count(request, op.BANK_WAIT_CYCLES, int(granted - asked))

    def _cached(self, request: Request) -> Wait:
        """A request that looks its line up."""
        access = {op.CACHED_WRITE: cache.WRITE, op.CONSUME: cache.CONSUME}.get(request.mode, cache.READ)
        spec = self.spec.cache
        found: dict[str, Any] = {}
        served = self.env.event()

        def hold() -> int:
            outcome, way, displaced, owner = plain(cache.look_up)(
                spec, self.cache, request.line, request.epoch, request.number, access, request.tensor
            )
            found.update(outcome=outcome, way=way, displaced=int(displaced), owner=int(owner))
            if outcome == cache.MERGED:
                bank, index = plain(cache.place_of)(spec, request.line)
                self.waiting[int(self.cache.filling[bank, index, way])].append((request, served))
            elif outcome != cache.HIT and access != cache.WRITE:
                self.waiting[request.number] = [(request, served)]
            cycles = self._beats(request.beats) if outcome == cache.HIT or access == cache.WRITE else 1
            return cycles + (self._beats(spec.fill_beats) if displaced != cache.NONE else 0)

        yield from self._bank(request, hold)
        if found["outcome"] == cache.MERGED:
            self.count(request, op.MERGED_MISSES)
            yield from self._served(request, served)
            return
        misses = found["outcome"] != cache.HIT and access != cache.WRITE
        self.count(request, op.MISSES if misses else op.HITS)
        yield self.env.timeout(MISS_CYCLES if misses else self._beats(request.beats) - 1 + self._path_cycles(request))
        if found["displaced"] != cache.NONE:
            yield from self._displace(request.number, found["displaced"], found["owner"])
        if misses:
            yield from self._fetch(request, found["way"])
            yield from self._served(request, served)

    def _served(self, request: Request, served: simpy.Event) -> Wait:
        """Wait for the line that was missed: for its fill, or for the data if they are wanted."""
        yield served
        if request.mode in WANT_LINE:
            yield self.env.timeout(self._beats(request.beats) - 1 + self._path_cycles(request))

    def _deliver(self, waiting: list[tuple[Request, simpy.Event]]) -> Wait:
        """The MSHR hands its line to one request after the other, through the bank like a hit; then it is free."""
        for request, served in waiting:
            if request.mode not in WANT_LINE:
                served.succeed()
        for request, served in waiting:
            if request.mode in WANT_LINE:
                yield from self._bank(request, lambda beats=request.beats: self._beats(beats))  # type: ignore[misc]
                served.succeed()
                yield self.env.timeout(self._beats(request.beats))
        self.mshrs.release(("mshr",))

    def _displace(self, number: int, line: int, owner: int) -> Wait:
        """Read a dirty line from its bank, which the request holds, and write it to DRAM."""
        self.traffic[owner, op.SRAM_READS] += self.spec.cache.fill_beats
        self.traffic[owner, op.SRAM_READ_BYTES] += self.spec.cache.fill_beats * self.spec.cache.beat_bytes
        self.traffic[owner, op.DRAM_WRITE_LINES] += 1
        yield self.env.timeout(self._beats(self.spec.cache.fill_beats))
        after_burst, _ = yield from self._channel(number, line)
        yield self.env.timeout(after_burst - self.env.now)

    def _fetch(self, request: Request, way: int) -> Wait:
        """MSHR, channel, data, fill; ends with the fill, while the MSHR serves those that wait for the line."""
        yield self.mshrs.request(request.number, ("mshr",))
        yield self.env.timeout(MISS_CYCLES)
        _, data = yield from self._channel(request.number, request.line)
        self.count(request, op.DRAM_READ_LINES)
        yield self.env.timeout(data - self.env.now)

        def hold() -> int:
            if way >= 0:
                plain(cache.fill)(self.spec.cache, self.cache, request.line, way)
            return self._beats(self.spec.cache.fill_beats)

        yield from self._bank(request, hold, fill=True)
        self.count(request, op.SRAM_WRITES, self.spec.cache.fill_beats)
        self.count(request, op.SRAM_WRITE_BYTES, self._filled_bytes(request))
        yield self.env.timeout(self._beats(self.spec.cache.fill_beats))
        self.env.process(self._deliver(self.waiting.pop(request.number, [])))

    def _filled_bytes(self, request: Request) -> int:
        """Useful bytes that a fill writes: what was asked for of a streamed line, else the whole line."""
        if request.mode == op.STREAM_READ:
            return request.useful_bytes
        return self.spec.cache.fill_beats * self.spec.cache.beat_bytes

    def _channel(self, number: int, line: int) -> Wait:
        """Wait for the line's channel; returns (cycle after the burst, cycle of the data)."""
        served: list[int] = []

        channel = plain(dram.channel_of)(self.spec.dram, line)

        def serve() -> int:
            served.extend(plain(dram.serve)(self.spec.dram, self.dram, line, int(self.env.now)))
            if self.recording:
                end = int(self.dram.busy_until[channel])
                self.burst_times.append((end - self.spec.dram.units_per_line, end))
            return served[2]

        yield self.channels.request(number, (channel,), serve)
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
    record: Window | bool = False,
) -> Outcome:
    """Run all agents to their end; ``state`` and ``counts`` are changed in place.

    ``record``: the window of which completions and loads are kept, True for all. Raises EngineError if agents wait for
    each other for ever.
    """
    env = simpy.Environment()
    window = window_of(record)
    memory = Memory(env, memory_spec, tensors, recording=window.end > 0)
    agents = len(topology.request_slots)
    fifos = [
        Fifo(env, int(capacity), int(initial), int(last - first), bool(shared), bool(arbitrated))
        for capacity, initial, shared, arbitrated, first, last in zip(
            topology.fifo_capacity,
            topology.fifo_initial,
            topology.fifo_shared,
            topology.fifo_arbitrated,
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
        """The agent's port sends one request per cycle, all at once where nothing conflicts."""
        if not memory_spec.ideal and memory_spec.cache.conflicts:
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
                o[op.VALUE] = yield from fifos[fifo].pop(local, int(o[op.POP_COUNT]), number)
            start = int(env.now)
            o[op.START] = start
            transfers = []
            for place in range(int(o[op.REQUESTS])):
                fields = o[op.HEADER + place * op.REQUEST_FIELDS :]
                request = Request(
                    int(first_request[number]) + place,
                    int(topology.lane[number]),
                    *(int(field) for field in fields[: op.DONE]),
                )
                transfers.append(env.process(delayed(request, place)))
            if o[op.COMPUTE] or o[op.PAUSE]:
                yield env.timeout(int(o[op.COMPUTE] + o[op.PAUSE]))
            for place, transfer in enumerate(transfers):
                done = yield transfer
                o[op.HEADER + place * op.REQUEST_FIELDS + op.DONE] = done
            executed = int(env.now)
            if o[op.PUSH] >= 0:
                yield from fifos[int(o[op.PUSH])].push(int(o[op.PUSH_COUNT]), int(o[op.VALUE_OUT]), number)
            pushed = int(env.now)
            if o[op.BARRIER] >= 0:
                yield from barriers[int(o[op.BARRIER])].wait()
            times[number, BUSY] += o[op.COMPUTE]
            times[number, STALL] += (start - called) + (executed - start - o[op.COMPUTE]) + (pushed - executed)
            times[number, IDLE] += int(env.now) - pushed
            if called < window.end and env.now > window.first:
                completions.append((number, int(env.now)))

    for number in range(agents):
        env.process(agent(number))
    started = perf_counter()
    env.run()
    wall_s = perf_counter() - started
    stuck = [number for number in range(agents) if ended_at[number] < 0]
    if stuck:
        raise EngineError(f"deadlock in cycle {int(env.now)}: agents {stuck} wait for each other")
    cycles = max(int(ended_at.max(initial=0)), memory.last_done)
    times[:, IDLE] += cycles - ended_at
    busy = (
        (BANKS, 1, np.array(memory.bank_times, np.int64).reshape(-1, 2)),
        (CHANNELS, memory_spec.dram.units_per_cycle, np.array(memory.burst_times, np.int64).reshape(-1, 2)),
    )
    return Outcome(
        cycles,
        times,
        counts,
        memory.traffic,
        int(memory.dram.row_misses.sum()),
        np.array(completions, np.int64).reshape(-1, 2),
        wall_s,
        tuple(load_of(name, window, ticks, times) for name, ticks, times in busy) if window.end else (),
    )
