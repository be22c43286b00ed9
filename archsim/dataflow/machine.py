"""A machine that is drawn: its agents are generators, its program a block diagram.

What a subclass says is its dataflow: the agents, and how a layer is laid out (:meth:`DrawnMachine.lay_out`). All that
engines need follows: numbers, topology, the compiled loop, the integers that agents see as ``m``:

    m.config    the configuration's integers and choices (:mod:`archsim.hardware.integers`)
    m.layer     M, N, K and T of the layer
    m.memory    lines and bursts (:class:`archsim.hardware.memory.placement.LineSpec`)
    m.agents    which agent is asked for: where the agents of each kind end, or a table where they are drawn in turns
    m.NAME      whatever else ``lay_out`` derives: FIFOs, numbers of tiles
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.base import Accelerator, EngineName, Layer, Program, Unit
from archsim.engine.lowering import Lowered, loop_of, lower
from archsim.hardware.agent import Operations
from archsim.hardware.diagram import Diagram
from archsim.hardware.integers import integers, tuple_class
from archsim.hardware.memory.placement import Placer

BURST_LINES = 16
"""Most lines that an agent asks for at once, if as many can be on their way."""


class Sizes(NamedTuple):
    """A layer's sizes: rows, columns, reduction length, timesteps."""

    m: int
    n: int
    k: int
    timesteps: int


class _Loop:
    """The compiled loop of a family of machines, lowered when first asked for."""

    def __get__(self, instance: Drawn | None, owner: type[Drawn]) -> Any:
        family = owner.family()
        if "_loop" not in family.__dict__:
            family._loop = loop_of(family.lowered(), family.__module__, in_turns=family.in_turns)
        return family._loop


class Drawn(Accelerator):
    """A machine whose agents are generators.

    ``agents`` are their functions, in the order of arbitration; ``counted`` names the numbers that they count, each
    the count of an action (unit, action) or a plain name for what the machine itself makes something of. ``in_turns``:
    agents of several kinds are drawn in turns, so that their numbers are mixed.

    Machines that inherit their agents are a family: they share the kernels, so agents see the configuration of the
    class that has the agents (:meth:`family`), not what a machine adds to it.
    """

    agents: ClassVar[tuple[Callable[..., Operations], ...]]
    counted: ClassVar[Mapping[tuple[str, str] | str, int]]
    in_turns: ClassVar[bool] = False
    loop: ClassVar[Any] = _Loop()
    _loop: ClassVar[Any]
    _lowered: ClassVar[Lowered]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "counted" in cls.__dict__:
            cls.actions = len(cls.counted)

    @classmethod
    def family(cls) -> type[Drawn]:
        """The class that names the agents. Machines that inherit them share its kernels: those see what its Config says
        of a machine's configuration."""
        return next(base for base in cls.__mro__ if issubclass(base, Drawn) and "agents" in base.__dict__)

    @property
    def kept(self) -> int:
        """Numbers that an agent keeps across its operations, beside its locals."""
        return 0

    def drawn(
        self, diagram: Diagram, sizes: Mapping[str, Any], derived: Mapping[str, Any], operands: Any,
        units: tuple[Unit, ...], copies: int,
    ) -> Program:  # fmt: skip
        """The diagram as numbers. Agents see ``sizes`` and what is ``derived`` beside configuration and memory."""
        family, ends = self.family(), diagram.ends
        who = diagram.table(family.agents) if self.in_turns else tuple_class(family, "Agents", list(ends))(**ends)
        parts = {
            "config": integers(self.config, family.Config),
            **sizes,
            "memory": self.config.memory.lines(BURST_LINES),
            "agents": who,
            **derived,
        }  # fmt: skip
        topology = diagram.topology
        state = np.zeros((len(topology.request_slots), self.lowered().kept + self.kept), np.int64)
        m = tuple_class(family, "Machine", list(parts))(**parts)
        return Program(m, operands, topology, state, units, copies, diagram)

    @classmethod
    def lowered(cls) -> Lowered:
        """The agents as the compiled loop calls them."""
        family = cls.family()
        if "_lowered" not in family.__dict__:
            family._lowered = lower(family.agents)
        return family._lowered

    def _step(self, engine: EngineName, program: Program) -> Any:
        """The generators themselves for the reference engine, their lowering for the compiled one."""
        if engine == "compiled":
            return type(self).loop
        assert program.diagram is not None
        return program.diagram.coroutines(self.lowered().kept)

    def count_actions(
        self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """What the agents counted, and what follows from it (:meth:`more_actions`)."""
        done = {name: int(counts[place]) for name, place in self.counted.items()}
        own = {name: count for name, count in done.items() if isinstance(name, tuple)}
        return own | self.more_actions(layer, done, events)

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Actions that follow from what was counted."""
        return {}


class DrawnMachine(Drawn):
    """A machine that works on one layer after the other: how a layer is laid out follows from the layer alone."""

    @abstractmethod
    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Any]:
        """Draw the agents and FIFOs and place the operands; returns what is derived for ``m``, and the operands."""

    def copies(self, layer: Layer) -> int:
        """How many times the traffic table has the machine's tensors (:class:`archsim.dataflow.base.Program`)."""
        return 1

    def program(self, layer: Layer, output_bytes: NDArray[np.int64]) -> Program:
        """A layer laid out on the machine."""
        diagram = Diagram()
        derived, operands = self.lay_out(layer, output_bytes, diagram, Placer(self.config.memory.line_bytes))
        units, first = [], 0
        for kind in diagram.kinds:
            units.append(Unit(kind.name, first, kind.agents, kind.built))
            first += kind.agents
        sizes = {"layer": Sizes(layer.m, layer.n, layer.k, layer.timesteps)}
        return self.drawn(diagram, sizes, derived, operands, tuple(units), self.copies(layer))
