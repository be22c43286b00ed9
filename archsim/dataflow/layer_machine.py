"""A machine that runs one layer after the other: a layer is laid out by itself, and its result is that of one run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.base import EngineName
from archsim.dataflow.computing import outputs_of
from archsim.dataflow.layer import Layer, layer_of
from archsim.dataflow.machine import DrawnMachine, Program, Unit
from archsim.engine.outcome import BUSY, IDLE, STALL, Outcome
from archsim.engine.recording import Window, window_of
from archsim.engine.result import LayerResult, UnitTime
from archsim.hardware import operation as op
from archsim.hardware.diagram import Diagram
from archsim.hardware.memory.placement import Placer
from archsim.trace import Operation, Trace


class Computed(NamedTuple):
    """What a layer computes: bytes of every output row (int64 [M]), mismatches with the trace, named events."""

    output_bytes: NDArray[np.int64]
    mismatches: int | None
    events: dict[str, int]


class Sizes(NamedTuple):
    """A layer's sizes: rows, columns, reduction length, timesteps."""

    m: int
    n: int
    k: int
    timesteps: int


class LayerMachine(DrawnMachine):
    """A machine that runs one layer after the other. Its dataflow is its agents, and how a layer is laid out."""

    # What a machine must say.

    @abstractmethod
    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Any]:
        """Draw the agents and FIFOs and place the operands; returns what is derived for ``m``, and the operands."""

    @abstractmethod
    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Full sums of rows ``first`` to ``first + len(sums)`` into ``sums`` [rows, N, T], by the machine's own
        arithmetic and in its own order; returns named events to report."""

    @abstractmethod
    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes of every output row as it is stored, of ``active`` neurons that fire ``spikes`` times in all."""

    @abstractmethod
    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """Cycles that no schedule of the processing elements can beat, memory apart."""

    @abstractmethod
    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """Bytes that must be read from DRAM at least once."""

    # What some machines say.

    def copies(self, layer: Layer) -> int:
        """How many times the traffic table has the machine's tensors (:class:`archsim.dataflow.base.Program`)."""
        return 1

    def stages(self, trace: Trace, operation: Operation) -> Sequence[Layer]:
        """What is run of an operation, one after the other: the layer, or what a machine makes of it."""
        return (layer_of(trace, operation),)

    def memory_actions(self, traffic: NDArray[np.int64]) -> dict[tuple[str, str], int]:
        """What the memory system did, by (unit, action), from the engine's traffic table."""
        built = {part.unit for part in self.inventory()}
        return memory_actions(traffic, self.config.memory.line_bytes, built)

    def all_traffic(self, traffic: NDArray[np.int64], actions: Mapping[tuple[str, str], int]) -> NDArray[np.int64]:
        """The traffic table of reports: the engine's, and accesses of memories that no request goes to, but only
        actions tell of."""
        return traffic

    def working_cycles(
        self, layer: Layer, program: Program, counts: NDArray[np.int64], times: NDArray[np.int64]
    ) -> int:
        """Cycles of all PEs in which they work on operands of the layer.

        An agent that is one PE works while it is busy, be it on a step of a join that finds nothing. A machine whose
        agents stand for many PEs says what these do.
        """
        pes = program.units[0]
        return int(times[pes.first : pes.first + pes.simulated, BUSY].sum())

    def unit_times(self, program: Program, times: NDArray[np.int64], cycles: int) -> tuple[UnitTime, ...]:
        """Busy, stall and idle cycles of every unit, from the engine's ``times`` of the agents."""
        return unit_times(program.units, times, cycles)

    def timestep_counts(
        self, layer: Layer, program: Program, traffic: NDArray[np.int64]
    ) -> Mapping[tuple[str, str], Sequence[int]]:
        """Of the actions that belong to single timesteps, how many each has; ``traffic`` [copies, tensors, columns]."""
        return {}

    # What follows.

    def example(self, trace: Trace, operation: Operation) -> Program:
        """The first stage of ``operation``, laid out on the machine."""
        layer = self.stages(trace, operation)[0]
        return self.program(layer, self.compute(layer, verify=False).output_bytes)

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

    def simulated(
        self, trace: Trace, operations: Iterable[Operation], engine: EngineName, verify: bool, record: Window | bool
    ) -> Iterator[LayerResult]:
        """The layers one after the other, each from a cold cache and an idle memory."""
        window, begin = window_of(record), 0
        for operation in operations:
            for layer in self.stages(trace, operation):
                result = self.run_layer(layer, engine, verify=verify, record=window.later(begin))
                begin += result.cycles
                yield result

    def run_layer(self, layer: Layer, engine: EngineName, *, verify: bool, record: Window | bool) -> LayerResult:
        """Compute the layer's outputs as the machine does, then simulate when it does so.

        ``verify`` compares outputs with the trace. ``record``: the window, from the layer's begin, of which completion
        times and loads are kept, True for all.
        """
        computed = self.compute(layer, verify)
        program = self.program(layer, computed.output_bytes)
        return self._result(layer, program, self.simulate(engine, program, record), computed)

    def compute(self, layer: Layer, verify: bool) -> Computed:
        """The layer's outputs by :meth:`accumulate`, and how they are stored."""
        found = outputs_of(layer, self.accumulate, verify)
        if layer.writes_sums:
            stored = np.full(layer.m, layer.n * layer.timesteps * -(-self.sum_bits // 8))
        else:
            stored = self.output_bytes(layer, found.active, found.spikes)
        return Computed(stored.astype(np.int64), found.mismatches, found.events)

    def _result(self, layer: Layer, program: Program, outcome: Outcome, computed: Computed) -> LayerResult:
        """What a layer that ran by itself yields."""
        memory, times, cycles = self.config.memory, outcome.times, outcome.cycles
        by_copy = outcome.traffic.reshape(program.copies, len(self.tensors), -1)
        traffic = by_copy.sum(0)
        counts = outcome.counts.sum(0)
        pes = program.units[0]
        busy = times[pes.first : pes.first + pes.simulated, BUSY]
        actions = {**self.count_actions(layer, counts, computed.events), **self.memory_actions(traffic)}
        compulsory = 0 if memory.ideal else self.compulsory_bytes(layer, program)
        bound = self.lower_bound(layer, program, counts)
        if not memory.ideal:
            dram = memory.resolve(self.clock_mhz).dram
            lines = compulsory // memory.line_bytes
            bound = max(bound, lines * dram.units_per_line // (dram.units_per_cycle * dram.channels))
        return self.result(
            layer,
            outcome,
            mismatches=computed.mismatches,
            computed=computed.events,
            compute_cycles=int(busy.max()),
            working_cycles=self.working_cycles(layer, program, counts, times),
            actions=actions,
            traffic=self.all_traffic(traffic, actions),
            units=self.unit_times(program, times, cycles),
            lower_bound_cycles=bound,
            compulsory_read_bytes=compulsory,
            events={
                "hits": int(traffic[:, op.HITS].sum()),
                "misses": int(traffic[:, op.MISSES].sum()),
                "merged_misses": int(traffic[:, op.MERGED_MISSES].sum()),
                "bank_wait_cycles": int(traffic[:, op.BANK_WAIT_CYCLES].sum()),
                "dram_row_misses": outcome.row_misses,
            },
            completions=outcome.completions if len(outcome.completions) else None,
            timestep_counts=self.timestep_counts(layer, program, by_copy),
            agents={
                unit.first + instance: f"{unit.name} {instance}" if unit.built > 1 else unit.name
                for unit in program.units
                for instance in range(unit.simulated)
            },
        )


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


def memory_actions(traffic: NDArray[np.int64], line_bytes: int, built: Collection[str]) -> dict[tuple[str, str], int]:
    """Actions of the memory system; a unit that is not among those ``built`` must have none."""
    actions = {
        ("cache_data", "read"): int(traffic[:, op.SRAM_READS].sum()),
        ("cache_data", "write"): int(traffic[:, op.SRAM_WRITES].sum()),
        ("cache_tag", "lookup"): int(traffic[:, [op.HITS, op.MISSES, op.MERGED_MISSES]].sum()),
        ("crossbar_switch", "transfer"): int(traffic[:, op.SWITCH_BEATS].sum()),
        ("dram", "read_bits"): int(traffic[:, op.DRAM_READ_LINES].sum()) * line_bytes * 8,
        ("dram", "write_bits"): int(traffic[:, op.DRAM_WRITE_LINES].sum()) * line_bytes * 8,
    }
    return {(unit, action): count for (unit, action), count in actions.items() if count > 0 or unit in built}
