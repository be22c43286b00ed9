"""The block diagram of a machine: its agents and FIFOs by name, and the numbers that the engines need.

    diagram = Diagram()
    finished = diagram.fifo(capacity=4)                     # one writer, one reader
    rows = diagram.fifo(capacity=2, readers=16)             # every reader sees every token
    weights = diagram.fifo(capacity=8, count=16)            # sixteen FIFOs; agent i uses weights.fifo + i
    link = diagram.fifo(capacity=8, writers=SHARED)         # several writers, one of them per cycle
    diagram.agent(array)
    diagram.agent(reader, count=16, requests=4, lanes=range(16))

Agents are numbered in the order in which they are drawn, which is also the order of arbitration; so are FIFOs, and
ports, their reading ends. ``m.agents`` tells a lowered step which agent it is asked for: a kind is drawn at once
(:attr:`Diagram.ends`), or kinds are drawn in turns (:meth:`Diagram.table`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.hardware import operation
from archsim.hardware.agent import NONE, Coroutines, Operations
from archsim.hardware.operation import OWN_PATH, Topology


class Fifo(NamedTuple):
    """Number of a FIFO and of its reading end; of the first one where several are drawn at once."""

    fifo: int
    port: int

    def reader(self, number: int) -> Fifo:
        """The FIFO as its reader ``number`` sees it."""
        return Fifo(self.fifo, self.port + number)


class AgentKind(NamedTuple):
    """``agents`` agents that run ``function``; ``built`` of them exist in hardware, those without work are idle.

    ``name`` is that of the unit that they are. ``requests`` is the most that one operation asks for, ``lanes`` are
    their numbers at the crossbar switches.
    """

    function: Callable[..., Operations]
    name: str
    agents: int
    built: int
    requests: int
    lanes: tuple[int, ...]


class Diagram:
    """Agents, FIFOs and barriers of one machine at work on one layer."""

    def __init__(self) -> None:
        self.kinds: list[AgentKind] = []
        self._fifos: list[tuple[int, int, int]] = []
        self._ports = 0
        self._barriers: list[int] = []
        self._arbitrated: set[int] = set()

    def agent(
        self, function: Callable[..., Operations], count: int = 1, *, name: str = "", built: int | None = None,
        requests: int = 0, lanes: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        """``count`` agents, units called ``name`` or as their function; without ``lanes`` they reach the banks by paths
        of their own, with lanes of ``operation.BUS`` they send over the broadcast bus."""
        chosen = (OWN_PATH,) * count if lanes is None else tuple(lanes)
        if len(chosen) != count:
            raise ValueError(f"{function.__name__}: {len(chosen)} lanes for {count} agents")
        unit = name or function.__name__
        self.kinds.append(AgentKind(function, unit, count, count if built is None else built, requests, chosen))

    def fifo(self, capacity: int, *, full: bool = False, readers: int = 1, writers: int = 1, count: int = 1) -> Fifo:
        """``count`` FIFOs, empty, or ``full`` at first; ``readers`` is ``operation.SHARED`` for one shared port,
        ``writers`` for an arbitrated writing end. Without any its number is NONE."""
        if count == 0:
            return Fifo(NONE, NONE)
        first = Fifo(len(self._fifos), self._ports)
        if writers == operation.SHARED:
            self._arbitrated.update(range(first.fifo, first.fifo + count))
        self._fifos += [(capacity, capacity if full else 0, readers)] * count
        self._ports += count * max(1, readers)
        return first

    def barrier(self, members: int) -> int:
        """A barrier that ``members`` agents meet at; its number."""
        self._barriers.append(members)
        return len(self._barriers) - 1

    @property
    def topology(self) -> Topology:
        """What the engines need to know."""
        requests = [kind.requests for kind in self.kinds for _ in range(kind.agents)]
        lanes = [lane for kind in self.kinds for lane in kind.lanes]
        return operation.topology(requests, lanes, self._fifos, self._barriers, self._arbitrated)

    @property
    def ends(self) -> dict[str, int]:
        """For each function, by name, the number behind that of its last agent."""
        ends, total = {}, 0
        for kind in self.kinds:
            total += kind.agents
            ends[kind.function.__name__] = total
        return ends

    def table(self, functions: Sequence[Callable[..., Operations]]) -> NDArray[np.int64]:
        """For each agent its place among ``functions`` and its number among the agents of its function."""
        known, rows = [0] * len(functions), []
        for kind in self.kinds:
            place = functions.index(kind.function)
            rows += [(place, known[place] + number) for number in range(kind.agents)]
            known[place] += kind.agents
        return np.array(rows, np.int64).reshape(-1, 2)

    def coroutines(self, kept: int) -> Coroutines:
        """The agents for the reference engine; ``kept`` as of :class:`archsim.engine.lowering.Lowered`."""
        return Coroutines([(kind.agents, kind.function) for kind in self.kinds], kept)
