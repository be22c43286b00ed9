"""What machines with crossbar arrays have in common: a chip laid out, run once for all layers, and cut into layers.

Agents, mapping and network are those of :mod:`archsim.dataflow.crossbar_chip`. A machine says what its arrays are
(its Config), what it is built of, and what a layer's outputs are on them.

A chip may be *lossy*. Every layer is still compared with the trace, each on the trace's own inputs, and the whole
network is run again, layers reading what the layers before them made: its accuracy stands beside that of the exact
network. Cycles and energy are those of the inputs that the trace recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow import crossbar_agents as agents
from archsim.dataflow import crossbar_chip as chip
from archsim.dataflow.base import (
    Accelerator,
    Computed,
    EngineName,
    Layer,
    Program,
    Progress,
    Unit,
    layer_of,
    traffic_rows,
)
from archsim.dataflow.pipeline import Stage, alone, fused, holes, stages_of
from archsim.engine.outcome import BUSY, IDLE, STALL, Outcome
from archsim.engine.recording import Window
from archsim.engine.result import LayerResult, UnitTime
from archsim.errors import UsageError
from archsim.hardware import operation as op
from archsim.hardware.compute.lif import count_overflows, rule_of
from archsim.trace import Operation, Trace


class CrossbarMachine(Accelerator):
    """A chip of crossbar arrays that holds the whole network, layers as a pipeline."""

    tensors: ClassVar[tuple[str, ...]] = agents.TENSORS
    actions: ClassVar[int] = agents.ACTIONS
    step: ClassVar[Any] = agents.step
    loop: ClassVar[Any] = agents.loop
    config: chip.ChipConfig

    @property
    def sum_bits(self) -> int:
        """Bits of a full sum as it leaves a tile."""
        return self.config.neuron.sum_bits

    def overflows(self, layer: Layer, sums: NDArray[np.int64], bias: NDArray[np.int64]) -> dict[str, int]:
        """How many ``sums`` [rows, N, T] exceed a word of the network, and how many potentials their memory."""
        limit = 1 << (self.sum_bits - 1)
        membrane = 0
        if layer.neuron is not None:
            threshold = np.ascontiguousarray(layer.neuron.threshold, np.int64)
            bits = self.config.neuron.membrane_bits
            membrane = int(count_overflows(sums, bias, threshold, rule_of(layer.neuron), bits))
        return {
            "sum_overflows": int(np.count_nonzero((sums < -limit) | (sums >= limit))),
            "membrane_overflows": membrane,
        }

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """One bit for each neuron and timestep."""
        return np.full(layer.m, -(-layer.n * layer.timesteps // 8))

    def built_for(self, trace: Trace) -> Self:
        """With ``noc.rows: fit`` the chip with as few rows as hold the whole network, whichever layers are run."""
        if self.config.noc.rows != "fit":
            return self
        built = type(self)(self.config.built_for(stages_of(trace, self.layers(trace))))
        built.decided = {**built.decided, "fitted_noc_rows": built.config.noc.rows}
        return built

    def refuses(self, trace: Trace) -> Sequence[str]:
        """A network that does not fit the chip."""
        return chip.misfits(self.config, stages_of(trace, self.layers(trace)))

    def fused(self, trace: Trace, layers: Sequence[Operation]) -> set[str]:
        """What happens between layers of the pipeline."""
        return fused(trace, layers)

    def holes(self, trace: Trace) -> Sequence[str]:
        """Operations between its layers that the chip does not run: it holds all layers at once."""
        found = [f"{hole.name} {self.leaves_out(trace, hole)}" for hole in holes(trace, self.layers(trace))]
        if not found:
            return ()
        return [
            *found,
            f"{self.name} runs {self.runs}, all at once, and builds no pipeline with a hole; --layers chooses some, "
            "which then read from DRAM what others make",
        ]

    def program(self, layer: Layer, output_bytes: NDArray[np.int64]) -> Program:
        """A chip with this layer alone."""
        return self._programmed(chip.lay_out(self.config, [alone(layer)], [layer]))

    def _programmed(self, built: chip.Built) -> Program:
        wiring = built.wiring
        state = np.zeros((len(wiring.agents), agents.STATE), np.int64)
        state[:, agents.BEGAN] = agents.NOT_ASKED
        kinds = np.array([agent[agents.KIND] for agent in wiring.agents])
        units = tuple(
            Unit("adc", int(agent), 1, self.config.tiles) for agent in np.flatnonzero(kinds == agents.CONVERTER)[:1]
        )
        # Each layer has the machine's tensors for itself.
        return Program(built.spec, wiring.operands(), wiring.topology(), state, units, copies=len(built.stages))

    def run_layer(self, layer: Layer, engine: EngineName, *, verify: bool, record: Window | bool) -> LayerResult:
        """A layer with the chip to itself: its input comes from DRAM, its output goes there."""
        return self._run([alone(layer)], [layer], [self.compute(layer, verify)], engine, record)[0]

    def run_layers(
        self,
        trace: Trace,
        operations: Sequence[Operation],
        engine: EngineName,
        *,
        verify: bool,
        record: Window | bool,
        progress: Progress | None = None,
    ) -> Iterator[LayerResult]:
        """All layers at once, in one simulation."""
        stages = stages_of(trace, operations)
        problems = chip.misfits(self.config, stages)
        if problems:
            raise UsageError(problems)
        layers, computed = [], []
        for done, operation in enumerate(operations):
            if progress:
                progress(operation.name, done, len(operations))
            layers.append(self.layer(trace, operation))
            computed.append(self.computed(trace, operation, layers[-1], verify))
        yield from self._run(stages, layers, computed, engine, record)

    def computed(self, trace: Trace, operation: Operation, layer: Layer, verify: bool) -> Computed:
        """What an operation's outputs are on this machine."""
        return self.compute(layer, verify)

    def layer(self, trace: Trace, operation: Operation) -> Layer:
        """What the machine is given of an operation."""
        return layer_of(trace, operation)

    def _run(
        self,
        stages: Sequence[Stage],
        layers: Sequence[Layer],
        computed: Sequence[Computed],
        engine: EngineName,
        record: Window | bool,
    ) -> list[LayerResult]:
        problems = chip.misfits(self.config, stages)
        if problems:
            raise UsageError(problems)
        built = chip.lay_out(self.config, stages, layers)
        program = self._programmed(built)
        working = np.array(built.wiring.stages)
        counts = np.zeros((len(working), self.actions), np.int64)
        for number, (stage, layer) in enumerate(zip(stages, layers, strict=True)):
            if stage.on_arrays:
                # The agents do not know single rows.
                first = np.flatnonzero(working == number)[0]
                counts[first, agents.ROW_READS] = chip.row_reads(self.config, stage, built.mappings[number], layer)
        outcome = self._simulate(engine, program, counts, record)
        spans = [chip.span(program.state, np.flatnonzero(working == number)) for number in range(len(stages))]
        elapsed = shared_out(outcome.cycles, [span.cycles for span in spans])
        return [
            self._cut(number, layers[number], computed[number], built, outcome, span, elapsed[number])
            for number, span in enumerate(spans)
        ]

    def _cut(
        self,
        number: int,
        layer: Layer,
        computed: Computed,
        built: chip.Built,
        outcome: Outcome,
        span: chip.Span,
        elapsed: int,
    ) -> LayerResult:
        """What one layer had of the run: from its first to its last event, with its own agents and tensors."""
        stage, own, cycles = built.stages[number], span.agents, span.cycles
        kinds = np.array([built.wiring.agents[agent][agents.KIND] for agent in own])
        config, mapping, memory = self.config, built.mappings[number], self.config.memory
        counts = outcome.counts[own].sum(0)
        held = config.arrays(stage).cells if stage.kind == "weights" else 0  # others have no weights
        traffic = outcome.traffic[number * len(self.tensors) :][: len(self.tensors)]
        times = outcome.times[own]
        times[:, STALL] -= span.begin  # every agent waited for the layer's first event in its first operation
        times[:, IDLE] = cycles - times[:, BUSY] - times[:, STALL]
        worked = chip.working_cycles(config, stage, mapping, int(counts[agents.ROW_READS]))
        busy = times[kinds == (agents.CONVERTER if stage.on_arrays else agents.DIGITAL), BUSY]
        completions = outcome.completions[np.isin(outcome.completions[:, 0], own)] - (0, span.begin)
        return LayerResult(
            layer=layer.name,
            op=layer.op,
            m=layer.m,
            n=layer.n,
            k=layer.k,
            timesteps=layer.timesteps,
            variant=self.variant(layer),
            cycles=cycles,
            compute_cycles=int(busy.max()),
            stall_cycles=cycles - int(busy.max()),
            utilization=worked / (cycles * self.processing_elements),
            matches=layer.matches,
            synaptic_operations=layer.synaptic_operations,
            performed_operations=self.performed_operations(layer, counts, computed.events),
            actions={
                **self.count_actions(layer, counts, computed.events),
                ("membrane_sram", "read"): int(traffic[:, op.SRAM_READS].sum()),
                ("membrane_sram", "write"): int(traffic[:, op.SRAM_WRITES].sum()),
                ("dram", "read_bits"): int(traffic[:, op.DRAM_READ_LINES].sum()) * memory.cache.line_bytes * 8,
                ("dram", "write_bits"): int(traffic[:, op.DRAM_WRITE_LINES].sum()) * memory.cache.line_bytes * 8,
            },
            traffic=traffic_rows(self.tensors, traffic, memory.cache.line_bytes),
            units=tuple(_units(kinds, times, built.tiles[number], tuple(UNITS))),
            lower_bound_cycles=chip.lower_bound(config, stage, mapping, layer),
            compulsory_read_bytes=0 if memory.ideal else chip.input_bytes(stage),
            mismatches=computed.mismatches,
            engine_wall_s=outcome.wall_s * elapsed / outcome.cycles,
            events={
                **computed.events,
                "tiles": len(mapping.shares),
                "pes": mapping.pes_used(),
                "programmed_cells": layer.k * layer.n * held,
                "bank_wait_cycles": int(traffic[:, op.BANK_WAIT_CYCLES].sum()),
            },
            completions=completions if len(outcome.completions) else None,
            loads=tuple(load._replace(first=load.first - span.begin) for load in outcome.loads if number == 0),
            agents={
                int(agent): f"{layer.name} {unit.unit} {unit.instance}"
                for kind in UNITS
                for agent, unit in zip(
                    own[kinds == kind], _units(kinds, times, built.tiles[number], (kind,)), strict=True
                )
            },
            elapsed_cycles=elapsed,
            start_cycle=span.begin,
        )

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Products with all weights of a row that is driven, zero or not.

        By a spike, or by an integer that is not zero, which counts once in however many parts it is driven.
        """
        words = layer.inputs.words
        driven = int(np.bitwise_count(words).sum()) if layer.operand == "spike" else int(np.count_nonzero(words))
        return driven * layer.n

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """The conversions of the layer's busiest tile."""
        stage = alone(layer)
        return chip.lower_bound(self.config, stage, chip.map_layer(self.config, stage), layer)

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """The layer's input, where no other layer makes it."""
        return chip.input_bytes(alone(layer))


UNITS = {
    agents.CONVERTER: "adc", agents.DRIVER: "array", agents.ADDER: "h_tree", agents.NEURON: "neuron",
    agents.MOVER: "mover", agents.HOP: "link", agents.WRITER: "writer", agents.DIGITAL: "digital",
}  # fmt: skip
"""What the agents of a kind are called in ``units.csv``."""
OF_A_TILE = (agents.CONVERTER, agents.DRIVER, agents.ADDER, agents.WRITER)


def _units(
    kinds: NDArray[np.int64], times: NDArray[np.int64], tiles: Sequence[int], wanted: tuple[int, ...]
) -> Iterator[UnitTime]:
    """Where the cycles of a layer's units of the ``wanted`` kinds went; those of a tile have the number of its node."""
    for kind in wanted:
        name = UNITS[kind]
        rows = times[kinds == kind]
        # Tiles were wired from the last to the first.
        numbers = tiles[::-1] if kind in OF_A_TILE and len(rows) else range(len(rows))
        for instance, row in zip(numbers, rows.tolist(), strict=True):
            yield UnitTime(name, instance, row[BUSY], row[STALL], row[IDLE])


def shared_out(cycles: int, spans: Sequence[int]) -> list[int]:
    """A run's ``cycles`` shared out to layers that overlap, in proportion to their own ``spans``; they add up."""
    ends = [int(end) * cycles // sum(spans) for end in accumulate(spans)]
    return [end - begin for begin, end in pairwise([0, *ends])]


def classes(logits: NDArray[Any], images: int) -> NDArray[np.int64]:
    """The class of each image by logits [T, I, classes], or [I, classes] where they do not change, added over time."""
    found: NDArray[np.int64] = logits.reshape(-1, images, logits.shape[-1]).sum(0).argmax(1)
    return found


def reads_out(trace: Trace) -> bool:
    """Whether the network ends in logits that the trace holds."""
    last = trace.operations[-1]
    return last.op == "linear" and last.neuron is None and trace.stored(last.output)


def accuracies(trace: Trace, made: NDArray[Any]) -> dict[str, Any]:
    """What a network whose logits on the trace's images are ``made`` is worth.

    ``agreement`` is the share of images whose class is the exact network's; accuracies need the images' labels.
    """
    exact, lossy = (classes(logits, trace.images) for logits in (trace.tensor(trace.operations[-1].output), made))
    found: dict[str, Any] = {"agreement": float((lossy == exact).mean())}
    labels = labels_of(trace)
    if labels is not None:
        found["accuracy"] = float((lossy == labels).mean())
        found["exact_accuracy"] = float((exact == labels).mean())
    return found


def labels_of(trace: Trace) -> NDArray[np.int64] | None:
    """The classes of the traced images, where the trace's details tell them all."""
    labels = trace.provenance.get("details", {}).get("labels")
    if not isinstance(labels, list) or len(labels) != trace.images or any(type(label) is not int for label in labels):
        return None
    return np.array(labels)
