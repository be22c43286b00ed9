"""Who is connected to what: the agents of a machine, watched while they work on a small layer.

Which agent writes a FIFO, which one reads it, and what it asks the memory for stands nowhere but in the agent itself.
So agents run, without an engine and without time, and every operation is looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.hardware import operation as op
from archsim.hardware.agent import NONE
from archsim.hardware.diagram import AgentKind, Fifo
from archsim.hardware.operation import Topology

MODES: Mapping[int, str] = {
    op.CACHED_READ: "reads", op.RESIDENT_READ: "reads", op.CONSUME: "reads",
    op.STREAM_READ: "fetches", op.PREFETCH: "fetches",
    op.STREAM_WRITE: "writes", op.RESIDENT_WRITE: "writes", op.CACHED_WRITE: "writes",
}  # fmt: skip
"""What an agent does to a tensor: it reads it from a bank, fetches it from DRAM into one, or writes it."""

MOST_OPERATIONS = 20_000
"""Operations that are looked at; a layer that needs more has shown its machine by then."""


class AgentBox(NamedTuple):
    """Agents of one kind: how many are ``built``, their verbs with tensors, and whether a switch is in their way."""

    name: str
    built: int
    memory: tuple[tuple[str, tuple[str, ...]], ...]
    switched: bool


class Wire(NamedTuple):
    """``number`` equal FIFOs of ``capacity`` tokens; ``full`` ones start with as many, and so hand out credits.

    ``name`` is empty where the machine has none for them.
    """

    name: str
    number: int
    capacity: int
    full: bool
    writers: tuple[str, ...]
    readers: tuple[str, ...]


class Wiring(NamedTuple):
    """The block diagram of a machine: agents in the order of arbitration, FIFOs, and who meets at barriers."""

    agents: tuple[AgentBox, ...]
    fifos: tuple[Wire, ...]
    barriers: tuple[tuple[str, ...], ...]


class _Seen:
    """What agents have asked for so far: their ends of FIFOs and barriers by number, and memory requests by name."""

    def __init__(self) -> None:
        self.readers: dict[int, dict[str, None]] = {}
        self.writers: dict[int, dict[str, None]] = {}
        self.members: dict[int, dict[str, None]] = {}
        self.requests: dict[str, set[tuple[int, int]]] = {}

    def note(self, name: str, row: Sequence[int], port_fifo: Sequence[int]) -> None:
        """An operation, ``row``, of an agent called ``name``."""
        if row[op.POP] >= 0:
            self.readers.setdefault(port_fifo[row[op.POP]], {})[name] = None
        if row[op.PUSH] >= 0:
            self.writers.setdefault(row[op.PUSH], {})[name] = None
        if row[op.BARRIER] >= 0:
            self.members.setdefault(row[op.BARRIER], {})[name] = None
        for first in range(op.HEADER, op.HEADER + row[op.REQUESTS] * op.REQUEST_FIELDS, op.REQUEST_FIELDS):
            self.requests.setdefault(name, set()).add((row[first + op.MODE], row[first + op.TENSOR]))


def watch(
    step: Any,
    spec: Any,
    operands: Any,
    topology: Topology,
    state: NDArray[np.int64],
    counts: NDArray[np.int64],
    tensors: Sequence[str],
    kinds: Sequence[AgentKind],
) -> Wiring:
    """Who is connected to what on the machine that is laid out for a layer.

    The arguments are those of :func:`archsim.engine.reference.simulate`; ``tensors`` are the names of its traffic
    table's rows, ``kinds`` the agents as they were drawn. FIFOs have the names that ``spec`` has for them.
    """
    names = [kind.name for kind in kinds for _ in range(kind.agents)]
    seen = _Seen()
    port_fifo = _port_fifo(topology)
    for agent, row in _operations(step, spec, operands, topology, state, counts):
        seen.note(names[agent], row, port_fifo)
    built: dict[str, int] = {}
    for kind in kinds:
        built[kind.name] = built.get(kind.name, 0) + kind.built
    switched = {kind.name for kind in kinds if kind.lanes and kind.lanes[0] != op.OWN_PATH}
    boxes = tuple(
        AgentBox(name, number, _verbs(seen.requests.get(name, set()), tensors), name in switched)
        for name, number in built.items()
    )
    return Wiring(boxes, tuple(_wires(spec, topology, seen)), tuple(map(tuple, seen.members.values())))


def _operations(
    step: Any, spec: Any, operands: Any, topology: Topology, state: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[tuple[int, list[int]]]:
    """Operations of the agents in turn, (agent, fields), without time: no more than tokens and barriers hold them up.

    FIFOs have no end here. Machines are determinate, so agents do what they do in time, only in another order.
    """
    slots = int(topology.request_slots.max(initial=0))
    o = np.zeros((len(topology.request_slots), op.HEADER + slots * op.REQUEST_FIELDS), np.int64)
    port_fifo = _port_fifo(topology)
    tokens = [deque([0] * int(topology.fifo_initial[fifo])) for fifo in port_fifo]
    arrived: dict[int, list[int]] = {}
    ready = deque(range(len(o)))
    waiting: dict[int, list[int]] = {}
    done = idle = 0
    while ready and idle <= len(ready) and done < MOST_OPERATIONS:
        agent = ready.popleft()
        if agent not in waiting:
            o[agent, : op.START] = 0
            o[agent, [op.POP, op.PUSH, op.BARRIER]] = -1
            step(agent, done, spec, state, operands, o, counts)
            row = o[agent].tolist()
            if row[op.END]:
                continue
            yield agent, row
            waiting[agent] = row
        row = waiting[agent]
        port = row[op.POP]
        if port >= 0 and len(tokens[port]) < row[op.POP_COUNT]:
            ready.append(agent)
            idle += 1
            continue
        del waiting[agent]
        done, idle = done + 1, 0
        for _ in range(row[op.POP_COUNT] if port >= 0 else 0):
            o[agent, op.VALUE] = tokens[port].popleft()
        if row[op.PUSH] >= 0:
            for number in range(*topology.fifo_first_port[row[op.PUSH] :][:2]):
                tokens[number].extend([row[op.VALUE_OUT]] * row[op.PUSH_COUNT])
        met = arrived.setdefault(row[op.BARRIER], [])
        met.append(agent)
        if row[op.BARRIER] < 0 or len(met) == topology.barrier_members[row[op.BARRIER]]:
            ready.extend(met)
            met.clear()


def _port_fifo(topology: Topology) -> list[int]:
    """The FIFO of every port."""
    ports = np.diff(topology.fifo_first_port)
    return [int(fifo) for fifo in np.repeat(np.arange(len(ports)), ports)]


def _verbs(requests: set[tuple[int, int]], tensors: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, dict[str, None]] = {}
    for mode, tensor in sorted(requests, key=lambda request: (list(MODES).index(request[0]), request[1])):
        found.setdefault(MODES[mode], {})[tensors[tensor % len(tensors)]] = None
    return tuple((verb, tuple(names)) for verb, names in found.items())


def _wires(spec: Any, topology: Topology, seen: _Seen) -> Iterator[Wire]:
    """FIFOs of one name are drawn one behind the other: each name ends where the next one begins.

    A machine whose agents have their FIFOs in tables gives them no names; those that connect the same agents are one.
    """
    names: dict[int, str] = {}
    for path, fifo in _fifos(spec):
        if fifo.fifo != NONE:
            names.setdefault(fifo.fifo, path)
    total = len(topology.fifo_capacity)
    starts = sorted(names)
    groups = [(names[first], range(first, end)) for first, end in zip(starts, [*starts[1:], total], strict=False)]
    alike: dict[tuple[object, ...], list[int]] = {}
    for number in range(starts[0] if starts else total):
        facts = int(topology.fifo_capacity[number]), int(topology.fifo_initial[number])
        ends = (tuple(side.get(number, ())) for side in (seen.writers, seen.readers))
        alike.setdefault((*ends, *facts), []).append(number)
    for name, group in (*groups, *(("", numbers) for numbers in alike.values())):
        capacity = int(topology.fifo_capacity[group[0]])
        sides = (
            {end: None for number in group for end in side.get(number, ())} for side in (seen.writers, seen.readers)
        )
        writers, readers = map(tuple, sides)
        full = int(topology.fifo_initial[group[0]]) == capacity
        yield Wire(name, len(group), capacity, full, writers, readers)


def _fifos(part: Any, path: str = "") -> Iterator[tuple[str, Fifo]]:
    """FIFOs in a tuple of tuples, by dotted names."""
    if isinstance(part, Fifo):
        yield path.removeprefix("."), part
    elif isinstance(part, tuple) and hasattr(part, "_fields"):
        for name, value in zip(part._fields, part, strict=True):
            yield from _fifos(value, f"{path}.{name}")
