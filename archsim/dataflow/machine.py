"""A machine that is drawn: its agents are generators, its program a block diagram.

What a subclass says is its dataflow: the agents, and how they are drawn. All that engines need follows: numbers,
topology, the compiled loop, the integers that agents see as ``m``:

    m.config    the configuration's integers and choices (:mod:`archsim.hardware.integers`)
    m.layer     M, N, K and T of the layer
    m.memory    lines and bursts (:class:`archsim.hardware.memory.placement.LineSpec`)
    m.agents    which agent is asked for: where the agents of each kind end, or a table where they are drawn in turns
    m.NAME      whatever else ``lay_out`` derives: FIFOs, numbers of tiles
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim import jit
from archsim.dataflow.base import Accelerator, EngineName, HardwareConfig
from archsim.dataflow.layer import Layer
from archsim.engine.lowering import columns_of, loop_of
from archsim.engine.outcome import BUSY, IDLE, STALL, Outcome
from archsim.engine.recording import Window
from archsim.engine.result import LayerResult, Traffic, UnitTime
from archsim.hardware import operation as op
from archsim.hardware.agent import Operations
from archsim.hardware.diagram import Diagram
from archsim.hardware.integers import integers, tuple_class
from archsim.hardware.inventory import Component
from archsim.trace import Operation, Trace

BURST_LINES = 16
"""Most lines that an agent asks for at once, if as many can be on their way."""


_once = threading.RLock()
"""Two threads would make the loop of a machine twice."""


class Unit(NamedTuple):
    """Agents ``first`` .. ``first + simulated - 1`` are the first of ``built`` equal units called ``name``."""

    name: str
    first: int
    simulated: int
    built: int


class Program(NamedTuple):
    """One layer laid out on one machine, ready for either engine; ``state`` int64 [agents, columns].

    ``units[0]`` are the agents that compute, a PE each or all of an array: the busiest one makes the layer's
    compute cycles. The traffic table has the machine's tensors ``copies`` times, where it tells apart for whom they are
    moved.
    """

    spec: Any
    operands: Any
    topology: op.Topology
    state: NDArray[np.int64]
    units: tuple[Unit, ...]
    copies: int
    diagram: Diagram


class _Loop:
    """The compiled loop of a family of machines, made when first asked for."""

    def __get__(self, instance: DrawnMachine | None, owner: type[DrawnMachine]) -> Any:
        family = owner.family()
        with _once:
            if "_loop" not in family.__dict__:
                family._loop = loop_of(family.agents, family.__module__, in_turns=family.in_turns)
            return family._loop


class DrawnMachine(Accelerator):
    """A machine whose agents are generators.

    ``agents`` are their functions, in the order of arbitration; ``counted`` names the numbers that they count, each
    the count of an action (unit, action) or a plain name for what the machine itself makes something of. ``tensors``
    name the rows of the traffic table. ``in_turns``:
    agents of several kinds are drawn in turns, so that their numbers are mixed.

    Machines that inherit their agents are a family: they share the kernels, so agents see the configuration of the
    class that has the agents (:meth:`family`), not what a machine adds to it.
    """

    agents: ClassVar[tuple[Callable[..., Operations], ...]]
    counted: ClassVar[Mapping[tuple[str, str] | str, int]]
    in_turns: ClassVar[bool] = False
    tensors: ClassVar[tuple[str, ...]]
    loop: ClassVar[Any] = _Loop()
    _loop: ClassVar[Any]
    _columns: ClassVar[int]

    @classmethod
    def family(cls) -> type[DrawnMachine]:
        """The class that names the agents. Machines that inherit them share its kernels: those see what its Config says
        of a machine's configuration."""
        return next(base for base in cls.__mro__ if issubclass(base, DrawnMachine) and "agents" in base.__dict__)

    @classmethod
    def must_compile(cls) -> bool:
        """Whether the loop was never compiled as it is now."""
        return jit.must_compile(cls.loop)

    @property
    def kept(self) -> int:
        """Numbers that an agent keeps across its operations, beside its locals."""
        return 0

    @abstractmethod
    def example(self, trace: Trace, operation: Operation) -> Program:
        """One operation of ``trace`` laid out on the machine, as an example of its diagram."""

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
        state = np.zeros((len(topology.request_slots), self.columns() + self.kept), np.int64)
        m = tuple_class(family, "Machine", list(parts))(**parts)
        return Program(m, operands, topology, state, units, copies, diagram)

    @classmethod
    def columns(cls) -> int:
        """Columns of ``state`` that its agents' locals need; what they keep themselves is behind them."""
        family = cls.family()
        with _once:
            if "_columns" not in family.__dict__:
                family._columns = columns_of(family.agents, family.__module__)
            return family._columns

    def simulate(self, engine: EngineName, program: Program, record: Window | bool) -> Outcome:
        """Run the program: the generators themselves in the reference engine, their lowering in the compiled one."""
        memory, tensors = self.config.memory.resolve(self.clock_mhz), len(self.tensors) * program.copies
        counts = np.zeros((len(program.state), len(self.counted)), np.int64)
        rest = (program.spec, program.operands, program.topology, memory, program.state, counts, tensors, record)
        if engine == "reference":
            from archsim.engine import reference

            return reference.simulate(program.diagram.coroutines(self.columns()), *rest)
        from archsim.engine import compiled

        return compiled.simulate(type(self).loop, *rest)

    def result(
        self,
        layer: Layer,
        outcome: Outcome,
        *,
        mismatches: int | None,
        computed: Mapping[str, int],
        compute_cycles: int,
        working_cycles: int,
        traffic: NDArray[np.int64],
        events: Mapping[str, int],
        **told: Any,
    ) -> LayerResult:
        """The result of a layer with this ``outcome`` and these ``events``, beside those of what it ``computed``; the
        rest is ``told`` as in LayerResult."""
        return LayerResult(
            layer=layer.name,
            op=layer.op,
            m=layer.m,
            n=layer.n,
            k=layer.k,
            timesteps=layer.timesteps,
            variant=self.variant(layer),
            cycles=outcome.cycles,
            compute_cycles=compute_cycles,
            stall_cycles=outcome.cycles - compute_cycles,
            utilization=working_cycles / (outcome.cycles * self.processing_elements),
            matches=layer.matches,
            synaptic_operations=layer.synaptic_operations,
            performed_operations=self.performed_operations(layer, outcome.counts.sum(0), computed),
            traffic=traffic_rows(self.tensors, traffic, self.config.memory.line_bytes),
            mismatches=mismatches,
            engine_wall_s=outcome.wall_s,
            events={**computed, **events},
            loads=outcome.loads,
            **told,
        )

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


class HostedMachine(DrawnMachine):
    """Units of the machine ``host`` that do work with a program of its own; they have no parts that the host lacks.

    A piece of work names its ``layer`` and how many outputs differ, ``mismatches``; of the operands of its program
    ``read`` is what comes from memory.
    """

    Config: ClassVar[type[HardwareConfig]] = HardwareConfig
    tensors: ClassVar[tuple[str, ...]] = ("input", "output")
    computing: ClassVar[str]
    """The unit whose busiest agent makes the compute cycles."""

    def __init__(self, host: Any) -> None:
        super().__init__(host.config)
        self.host = host

    @property
    def sum_bits(self) -> int:
        """Those of the host."""
        return int(self.host.sum_bits)

    @property
    def processing_elements(self) -> int:
        """Those of the host, whether they work or not."""
        return int(self.host.processing_elements)

    @abstractmethod
    def program(self, work: Any) -> Program:
        """The work laid out on the machine's memory."""

    @abstractmethod
    def working_cycles(self, work: Any) -> int:
        """Cycles of PEs in which they work."""

    @abstractmethod
    def lower_bound_cycles(self, program: Program) -> int:
        """Cycles that no schedule can beat."""

    @abstractmethod
    def own_actions(self, work: Any, outcome: Outcome) -> Mapping[tuple[str, str], int]:
        """Actions of the units themselves, without those that follow from traffic."""

    def run_work(self, work: Any, engine: EngineName, record: Window | bool) -> LayerResult:
        """Simulate when the machine does the work."""
        program = self.program(work)
        outcome = self.simulate(engine, program, record)
        (computing,) = (unit for unit in program.units if unit.name == self.computing)
        busy = outcome.times[computing.first : computing.first + computing.simulated, BUSY]
        actions = dict(self.own_actions(work, outcome))
        for action, count in self.host.memory_actions(outcome.traffic).items():
            actions[action] = actions.get(action, 0) + count
        return self.result(
            work.layer,
            outcome,
            mismatches=work.mismatches,
            computed={},
            compute_cycles=int(busy.max()),
            working_cycles=self.working_cycles(work),
            actions=actions,
            traffic=outcome.traffic,
            units=unit_times(program.units, outcome.times, outcome.cycles),
            lower_bound_cycles=self.lower_bound_cycles(program),
            compulsory_read_bytes=0 if self.config.memory.ideal else int(program.operands.read.size.sum()),
            events={},
            completions=outcome.completions if len(outcome.completions) else None,
            agents=agent_names(program.units),
        )

    def inventory(self) -> Sequence[Component]:
        """Nothing that the host does not have."""
        return ()

    def variant(self, layer: Layer) -> Mapping[str, str]:
        """As of the host's layers."""
        found: Mapping[str, str] = self.host.variant(layer)
        return found


def units_of(diagram: Diagram) -> tuple[Unit, ...]:
    """The kinds of agents of ``diagram`` as units, in its order."""
    units, first = [], 0
    for kind in diagram.kinds:
        units.append(Unit(kind.name, first, kind.agents, kind.built))
        first += kind.agents
    return tuple(units)


def agent_names(units: Sequence[Unit]) -> dict[int, str]:
    """Names of the agents that are simulated, by their number."""
    return {
        unit.first + instance: f"{unit.name} {instance}" if unit.built > 1 else unit.name
        for unit in units
        for instance in range(unit.simulated)
    }


def unit_times(units: Sequence[Unit], times: NDArray[np.int64], cycles: int) -> tuple[UnitTime, ...]:
    """Busy, stall and idle cycles of every unit that is built; those without work are idle."""
    rows = []
    for unit in units:
        for instance in range(unit.built):
            if instance < unit.simulated:
                row = times[unit.first + instance].tolist()
                rows.append(UnitTime(unit.name, instance, row[BUSY], row[STALL], row[IDLE]))
            else:
                rows.append(UnitTime(unit.name, instance, 0, 0, cycles))
    return tuple(rows)


def traffic_rows(tensors: Sequence[str], traffic: NDArray[np.int64], line_bytes: int) -> tuple[Traffic, ...]:
    """The engine's traffic table as rows of a report."""
    rows = []
    for tensor, row in zip(tensors, traffic.tolist(), strict=True):
        read, written = row[op.DRAM_READ_LINES], row[op.DRAM_WRITE_LINES]
        rows += [
            Traffic("sram", tensor, "read", row[op.SRAM_READ_BYTES], row[op.SRAM_READS]),
            Traffic("sram", tensor, "write", row[op.SRAM_WRITE_BYTES], row[op.SRAM_WRITES]),
            Traffic("dram", tensor, "read", read * line_bytes, read),
            Traffic("dram", tensor, "write", written * line_bytes, written),
        ]
    return tuple(rows)
