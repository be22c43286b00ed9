"""A machine that runs one layer after the other: a layer is laid out by itself, and its result is that of one run."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.base import EngineName
from archsim.dataflow.computing import outputs_of
from archsim.dataflow.layer import Layer, stored_spikes
from archsim.dataflow.machine import DrawnMachine, Program, agent_names, unit_times, units_of
from archsim.dataflow.pieces import Limits, Source, digits, pieces_of
from archsim.dataflow.vector_unit import VectorUnit, VectorWork, layout_work, vector_work
from archsim.engine.outcome import BUSY, Outcome
from archsim.engine.recording import Window, window_of
from archsim.engine.result import LayerResult, UnitTime, merged
from archsim.hardware import operation as op
from archsim.hardware.compute.accumulator import accumulate_by_timestep
from archsim.hardware.diagram import Diagram
from archsim.hardware.memory.placement import Placer, Tensor
from archsim.trace import Operation, Trace
from archsim.trace.recurrence import known_timesteps
from archsim.trace.work import WORKING, work_of

EVERYTHING = 1 << 40
"""More inputs than any layer has."""


class Computed(NamedTuple):
    """What a layer computes: bytes of every output row (int64 [M]), mismatches with the trace, named events."""

    output_bytes: NDArray[np.int64]
    mismatches: int | None
    events: dict[str, int]


class Sizes(NamedTuple):
    """A layer's sizes: rows, columns, reduction length, timesteps, and updates of a neuron."""

    m: int
    n: int
    k: int
    timesteps: int
    updates: int


class LayerMachine(DrawnMachine):
    """A machine that runs one layer after the other. Its dataflow is its agents, and how a layer is laid out."""

    # What a machine must say.

    @abstractmethod
    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Any]:
        """Draw the agents and FIFOs and place the operands; returns what is derived for ``m``, and the operands."""

    @property
    def sum_bits(self) -> int:
        """The accumulator of a PE holds the full sum; machines that keep sums elsewhere say otherwise."""
        return int(self.config.pe.accumulator_bits)

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Full sums of rows ``first`` to ``first + len(sums)`` into ``sums`` [rows, N, T], by the machine's own
        arithmetic and in its own order; returns named events to report.

        The weights of a timestep's spikes are added in order of k, zeros change nothing, and what leaves the range of
        :attr:`sum_bits` is counted; machines with another order say otherwise.
        """
        _, overflows = accumulate_by_timestep(
            layer.inputs, layer.weights, layer.timesteps, self.sum_bits, first, sums
        )  # fmt: skip
        return {"accumulator_overflows": overflows}

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes of every output row as it is stored, of ``active`` neurons that fire ``spikes`` times in all.

        One bit for each neuron and timestep, as the next layer reads it, and more where neurons fire numbers; machines
        that compress their outputs say otherwise.
        """
        return np.full(layer.m, -(-layer.n * layer.output_bits // 8))

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

    group_inputs: ClassVar[int] = 0
    """Inputs of several groups of a convolution that cost no more together, zeros between them included."""

    @property
    def vector_lanes(self) -> tuple[int, int]:
        """How many values the neuron units take at once, and in how many cycles (:mod:`.vector_unit`)."""
        built = {part.unit: part.instances for part in self.inventory()}
        return built[self.neuron_update[0]], int(self.config.neuron.cycles)

    def place_vectors(self, read: NDArray[np.int64], written: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Where operands of so many bytes lie that the vector unit reads, and its results; rows 0 and 1 of its traffic
        table."""
        memory = Placer(self.config.memory.line_bytes)
        return memory.place(read), memory.place(written)

    def stages(self, trace: Trace, operation: Operation, verify: bool = True) -> Iterable[Iterable[Layer | VectorWork]]:
        """What is run of an operation and has a result of its own, each in pieces: one, unless a machine trains."""
        return (self.pieces(trace, operation, verify),)

    def pieces(self, trace: Trace, operation: Operation, verify: bool) -> Iterator[Layer | VectorWork]:
        """The pieces of an operation: products, or work of the vector unit."""
        if operation.op not in WORKING:
            yield from vector_work(self, trace, operation, verify)
            return
        if operation.op == "matmul":
            yield layout_work(self, trace, operation)
        yield from self.products(trace, operation, known_timesteps(trace, operation))

    def products(self, trace: Trace, operation: Operation, window: int) -> Iterator[Layer]:
        """The products that an operation is, of which ``window`` timesteps are known at a time."""
        return pieces_of(trace, operation, self.limits, window)

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

    def problems(self, trace: Trace) -> Sequence[str]:
        """Also of masks: whether a neuron fired once is known when all of its timesteps are there."""
        found = list(super().problems(trace))
        if found or self.operand == "int":
            return found
        masked = [layer for layer in self.layers(trace) if layer.neuron is not None and layer.neuron.mask_fire_once]
        why = "its neurons are masked for firing once, which takes all timesteps at once, and it runs in pieces"
        return [f"{operation.name}: {why}" for operation in masked if self._is_cut(trace, operation)]

    def _is_cut(self, trace: Trace, operation: Operation) -> bool:
        """Whether the timesteps of ``operation``, no more than the machine has, fire in several pieces."""
        if known_timesteps(trace, operation) < trace.timesteps:
            return True
        changing = [name for name in operation.inputs if trace.stream(name).timesteps > 1]
        if operation.op == "matmul":
            return bool(changing)
        wide = any(trace.kind(name) not in ("spike", "spike_time") for name in changing)
        return operation.op in WORKING and wide

    def example(self, trace: Trace, operation: Operation) -> Program:
        """The first stage of ``operation``, laid out on the machine."""
        found = next(part for part in next(iter(self.stages(trace, operation))) if isinstance(part, Layer))
        return self.program(found, self.compute(found, verify=False).output_bytes)

    @property
    def limits(self) -> Limits:
        """What the machine can multiply at once, and how wide sums are between two pieces."""
        config = self.config
        return Limits(
            operand=self.operand,
            planes=1 if self.operand == "int" else self.most_timesteps,
            weight_bits=config.pe.weight_bits,
            state_bytes=-(-self.sum_bits // 8),
            encoder=config.scheduler.encoder,
            group_inputs=self.group_inputs,
        )

    def stored_bytes(self, trace: Trace, name: str, writer: Operation | None = None) -> NDArray[np.int64]:
        """Bytes of tensor ``name`` in memory, int64 [rows], a row for a position of an image, or an image.

        Spikes are stored as those of a layer, in windows of the machine's timesteps; integers dense, with as many bits
        as their values need. A tensor that the trace does not hold, the output of ``writer``, counts as dense spikes.
        """
        shape = trace.meta.tensors[name].shape if writer is None else writer.output_shape
        rows, channels = trace.images * math.prod(shape[1:]), shape[0]
        if not trace.stored(name):
            return np.full(rows, -(-channels * trace.timesteps // 8))
        source = Source(trace, name)
        timesteps = trace.timesteps if source.changes else 1
        if trace.kind(name) not in ("spike", "spike_time"):
            return np.full(rows, -(-channels * timesteps * len(digits(*source.range())) // 8))
        total = np.zeros(rows, np.int64)
        for first in range(0, timesteps, self.most_timesteps):
            window = np.stack([source.at(t) for t in range(first, min(timesteps, first + self.most_timesteps))])
            window = np.moveaxis(window, 2, -1).reshape(len(window), rows, channels)
            stub = stored_spikes(name, rows, channels, len(window))
            active, spikes = np.count_nonzero(window.any(0), axis=1), np.count_nonzero(window, axis=(0, 2))
            total += self.output_bytes(stub, active, spikes)
        return total

    def program(self, layer: Layer, output_bytes: NDArray[np.int64]) -> Program:
        """A layer laid out on the machine."""
        diagram = Diagram()
        derived, operands = self.lay_out(layer, output_bytes, diagram, Placer(self.config.memory.line_bytes))
        sizes = {"layer": Sizes(layer.m, layer.n, layer.k, layer.timesteps, layer.updates)}
        return self.drawn(diagram, sizes, derived, operands, units_of(diagram), self.copies(layer))

    def simulated(
        self, trace: Trace, operations: Iterable[Operation], engine: EngineName, verify: bool, record: Window | bool
    ) -> Iterator[LayerResult]:
        """The layers one after the other, each from a cold cache and an idle memory."""
        window, begin = window_of(record), 0
        for operation in operations:
            for result in self.run_operation(trace, operation, engine, verify=verify, record=window.later(begin)):
                begin += result.cycles
                yield result

    def run_operation(
        self, trace: Trace, operation: Operation, engine: EngineName, *, verify: bool, record: Window
    ) -> Iterator[LayerResult]:
        """The results of one operation: of its pieces, or of what the vector unit makes of it."""
        begin = 0
        for stage in self.stages(trace, operation, verify):
            results, whole = [], True
            for part in stage:
                window = record.later(begin)
                if isinstance(part, VectorWork):
                    results.append(VectorUnit(self).run_work(part, engine, window))
                else:
                    results.append(self.run_layer(part, engine, verify=verify, record=window))
                    whole = part.planes is None
                begin += results[-1].cycles
            if whole and len(results) == 1:
                yield results[0]
            else:
                work = work_of(trace, operation)
                yield merged(
                    results, m=operation.m, n=operation.n, k=operation.k, timesteps=trace.timesteps,
                    matches=work.matches, synaptic_operations=work.synaptic_operations,
                )  # fmt: skip

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
            stored = np.full(layer.m, layer.n * layer.fired_timesteps * -(-self.sum_bits // 8))
        elif layer.fired_timesteps:
            stored = self.output_bytes(layer, found.active, found.spikes)
        else:
            stored = np.zeros(layer.m, np.int64)
        return Computed((stored + layer.n * layer.left_bytes).astype(np.int64), found.mismatches, found.events)

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
            agents=agent_names(program.units),
        )


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
    if "dma" in built:
        read = int(traffic[:, op.DRAM_READ_LINES].sum())
        actions |= {("dma", "write"): read, ("dma", "read"): read}
    return {(unit, action): count for (unit, action), count in actions.items() if count > 0 or unit in built}
