"""What machines with crossbar arrays have in common: a chip laid out, run once for all layers, and cut into layers.

The chip, its agents and the network between them are those of :mod:`archsim.dataflow.crossbar_chip`. A machine says
what its arrays are (its Config), what it is built of, and what a layer's outputs are on them.

A chip may be *lossy*. Every layer is still compared with the trace, each on the trace's own inputs, and the whole
network is run again, layers reading what the layers before them made: its accuracy stands beside that of the exact
network. Cycles and energy are those of the inputs that the trace recorded.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow import crossbar_bounds as bounds
from archsim.dataflow import crossbar_wiring as wiring
from archsim.dataflow.base import EngineName, HardwareConfig, Progress
from archsim.dataflow.computing import outputs_of
from archsim.dataflow.crossbar_agents import ANSWERED, BEGAN, COUNTED, TENSORS
from archsim.dataflow.crossbar_chip import Arrays, ChipConfig
from archsim.dataflow.crossbar_function import Computed, checked, exact_currents
from archsim.dataflow.crossbar_inputs import ChipLayer, alone_on_chip, chip_layer
from archsim.dataflow.crossbar_mapping import fitted, misfits, with_sums
from archsim.dataflow.layer import Layer
from archsim.dataflow.machine import DrawnMachine, Program, Unit
from archsim.dataflow.pipeline import ON_ARRAYS, Stage, alone, fused, holes, hosted_by, layers_of, stages_of
from archsim.engine.outcome import BUSY, IDLE, STALL, Outcome
from archsim.engine.recording import Window
from archsim.engine.result import LayerResult, UnitTime
from archsim.errors import UsageError
from archsim.hardware import operation as op
from archsim.hardware.compute.lif import count_overflows, neurons_of, start_state
from archsim.trace import Operation, Trace


class CrossbarMachine(DrawnMachine):
    """A chip of crossbar arrays that holds the whole network, layers as a pipeline."""

    Config: ClassVar[type[HardwareConfig]] = ChipConfig
    tensors: ClassVar[tuple[str, ...]] = TENSORS
    agents = tuple(wiring.ROWS)
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {name: place for place, name in enumerate(COUNTED)}
    in_turns: ClassVar[bool] = True
    layers_apart: ClassVar[bool] = False
    config: ChipConfig

    @property
    def kept(self) -> int:
        """When an agent began, and when the first map was complete."""
        return 2

    @property
    def sum_bits(self) -> int:
        """Bits of a full sum as it leaves a tile."""
        return self.config.neuron.sum_bits

    def overflows(
        self, layer: Layer, sums: NDArray[np.int64], bias: NDArray[np.int64], first: int = 0
    ) -> dict[str, int]:
        """How many ``sums`` [rows, N, T], of rows from ``first`` on, exceed a word of the network, and how many
        potentials their memory."""
        limit = 1 << (self.sum_bits - 1)
        membrane = 0
        if layer.neuron is not None:
            state = start_state(layer.neuron, len(sums), layer.n, first)
            bits = self.config.neuron.membrane_bits
            membrane = count_overflows(neurons_of(layer.neuron), sums, bias, first, state, bits)
        return {
            "sum_overflows": int(np.count_nonzero((sums < -limit) | (sums >= limit))),
            "membrane_overflows": membrane,
        }

    @abstractmethod
    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Full sums of rows ``first`` to ``first + len(sums)`` into ``sums`` [rows, N, T], as arrays and converters
        make them; returns named events to report."""

    @abstractmethod
    def currents(self, trace: Trace, operation: Operation) -> Iterator[NDArray[np.int64]]:
        """Sums with their bias that arrays and converters make of the trace's own inputs, [timesteps, I, N, ...] for
        one window of timesteps after the other."""

    def compute(self, layer: Layer, verify: bool) -> Computed:
        """The outputs of a layer with weights that has the chip to itself."""
        found = outputs_of(layer, self.accumulate, verify)
        return Computed(found.mismatches, found.events)

    def computed(self, trace: Trace, operation: Operation, verify: bool) -> Computed:
        """What an operation's outputs are on this machine, those of neurons behind its sums too."""
        membrane = self.config.neuron.membrane_bits
        if operation.op not in ON_ARRAYS:
            return checked(trace, operation, exact_currents(trace, operation), 0, membrane, verify)
        found = checked(trace, operation, self.currents(trace, operation), self.sum_bits, membrane, verify)
        for add in hosted_by(trace, operation, self.layers(trace)):
            found = found.beside(checked(trace, add, exact_currents(trace, add), 0, membrane, verify))
        return found

    def specialised_for(self, trace: Trace) -> Self:
        """With ``noc.rows: fit`` the chip with as few rows as hold the whole network, whichever layers are run."""
        chip = super().specialised_for(trace)
        if chip.config.noc.rows != "fit":
            return chip
        built = type(self)(fitted(chip.config, chip.stages(trace, chip.layers(trace))))
        built.context = {**chip.context, "fitted_noc_rows": built.config.noc.rows}
        return built

    def unsupported(self, trace: Trace) -> Sequence[str]:
        """A network that does not fit; one that reads its own past, where a position has all timesteps at once."""
        found = misfits(self.config, self.stages(trace, self.layers(trace)))
        if trace.cycles and self.config.inner:
            cycle = ", ".join(name for cycle in trace.cycles for name in cycle.operations)
            found.append(
                "scheduler.timesteps: inner computes all timesteps of a position at once, and there is a cycle of "
                f"{cycle}, which know one after the other; allowed: outer"
            )
        return found

    def layers(self, trace: Trace) -> list[Operation]:
        """With an encoder all operations that tiles and modules can run, but for those on their way."""
        if not self.takes_integers:
            return super().layers(trace)
        skipped = self.skipped(trace)
        able = [
            operation
            for operation in trace.operations
            if operation is not skipped and self.simulates(trace, operation) and not self.lacks(operation.neuron)
        ]
        return layers_of(trace, able) if any(operation.op in ON_ARRAYS for operation in able) else []

    def stages(self, trace: Trace, operations: Sequence[Operation]) -> list[Stage]:
        """The layers ``operations`` as a pipeline."""
        return with_sums(self.config, stages_of(trace, operations, hidden_groups=self.takes_integers))

    def fused(self, trace: Trace, layers: Sequence[Operation]) -> set[str]:
        """What happens between layers of the pipeline."""
        return fused(trace, layers)

    def holes(self, trace: Trace) -> Sequence[str]:
        """Operations between its layers that the chip does not run: it holds all layers at once."""
        found = [f"{hole.name} {self.why_skipped(trace, hole)}" for hole in holes(trace, self.layers(trace))]
        if not found:
            return ()
        return [
            *found,
            f"{self.name} runs {self.runs}, all at once, and builds no pipeline with a hole; --layers chooses some, "
            "which then read from DRAM what others make",
        ]

    def _program(self, laid_out: wiring.Chip) -> Program:
        drawing, stages = laid_out.drawing, laid_out.stages
        derived = {
            "read_cycles": self.config.read_cycles,
            "timesteps": max((stage.timesteps for stage in stages), default=1),
        }
        names = list(laid_out.units)
        units = (Unit("adc", names.index("adc"), 1, self.config.tiles),) if "adc" in names else ()
        # Each layer has the machine's tensors for itself.
        return self.drawn(drawing.diagram, {}, derived, drawing.operands(), units, len(stages))

    def example(self, trace: Trace, operation: Operation) -> Program:
        """A layer that has the chip to itself, laid out on it."""
        (stage,) = self.stages(trace, [operation])
        return self._program(wiring.lay_out(self.config, [stage], [chip_layer(trace, operation, stage)]))

    def run_layer(self, layer: Layer, engine: EngineName, *, verify: bool, record: Window | bool) -> LayerResult:
        """A layer with the chip to itself: its input comes from DRAM, its output goes there."""
        return self._run([alone(layer)], [alone_on_chip(layer)], [self.compute(layer, verify)], engine, record)[0]

    def prepare(self, trace: Trace, operations: Sequence[Operation], verify: bool, progress: Progress | None) -> None:
        """Layers that do not fit the chip are refused before anything is computed."""
        if problems := misfits(self.config, self.stages(trace, operations)):
            raise UsageError(problems)

    def simulated(
        self, trace: Trace, operations: Iterable[Operation], engine: EngineName, verify: bool, record: Window | bool
    ) -> Iterator[LayerResult]:
        """All layers at once, in one simulation."""
        chosen, computed = [], []
        for operation in operations:
            chosen.append(operation)
            computed.append(self.computed(trace, operation, verify))
        stages = self.stages(trace, chosen)
        layers = [chip_layer(trace, *pair) for pair in zip(chosen, stages, strict=True)]
        yield from self._run(stages, layers, computed, engine, record)

    def _run(
        self,
        stages: Sequence[Stage],
        layers: Sequence[ChipLayer],
        computed: Sequence[Computed],
        engine: EngineName,
        record: Window | bool,
    ) -> list[LayerResult]:
        problems = misfits(self.config, stages)
        if problems:
            raise UsageError(problems)
        laid_out = wiring.lay_out(self.config, stages, layers)
        program = self._program(laid_out)
        outcome = self.simulate(engine, program, record)
        kept = program.state[:, self.columns() :]
        spans = [span(kept, outcome, laid_out.working_for(number)) for number in range(len(stages))]
        elapsed = shared_out(outcome.cycles, [span.cycles for span in spans])
        return [
            self._layer_result(number, layers[number], computed[number], laid_out, outcome, span, elapsed[number])
            for number, span in enumerate(spans)
        ]

    def _layer_result(
        self,
        number: int,
        layer: ChipLayer,
        computed: Computed,
        laid_out: wiring.Chip,
        outcome: Outcome,
        span: Span,
        elapsed: int,
    ) -> LayerResult:
        """What one layer had of the run: from its first to its last event, with its own agents and tensors."""
        stage, mapping, driven = laid_out.stages[number], laid_out.mappings[number], laid_out.driven[number]
        config, own, unit = self.config, span.agents, mapping.unit
        part = _part(number, outcome, span, elapsed)
        done: dict[tuple[str, str] | str, int] = dict(zip(COUNTED, part.counts.sum(0).tolist(), strict=True))
        done["row_reads"] = bounds.row_reads(mapping, driven)  # the agents do not know single rows
        names = laid_out.units[own]
        units = dict(_units(names, part.times, laid_out.tiles[number]))
        computing = part.times[names == ("adc" if isinstance(unit, Arrays) else "digital"), BUSY]
        held = unit.cells if isinstance(unit, Arrays) and stage.kind == "weights" else 0  # others have no weights
        return self.result(
            layer,
            part,
            mismatches=computed.mismatches,
            computed=computed.events,
            compute_cycles=int(computing.max()),
            working_cycles=bounds.working_cycles(config, stage, mapping, driven),
            actions={**self.more_actions(layer, done, computed.events), **self.memory_actions(part.traffic)},
            traffic=part.traffic,
            units=tuple(units.values()),
            lower_bound_cycles=bounds.lower_bound(config, stage, mapping, driven),
            compulsory_read_bytes=0 if config.memory.ideal else bounds.input_bytes(stage),
            events={
                "tiles": len(mapping.shares),
                "pes": mapping.pes_used(),
                "programmed_cells": bounds.weights(stage) * held,
                "bank_wait_cycles": int(part.traffic[:, op.BANK_WAIT_CYCLES].sum()),
            },
            agents={int(own[agent]): f"{layer.name} {unit.unit} {unit.instance}" for agent, unit in units.items()},
            completions=part.completions if len(outcome.completions) else None,
            elapsed_cycles=elapsed,
            start_cycle=span.begin,
            response_cycles=span.response,
        )

    def memory_actions(self, traffic: NDArray[np.int64]) -> dict[tuple[str, str], int]:
        """Accesses of the modules' memory, and what DRAM moves."""
        line_bits = self.config.memory.line_bytes * 8
        return {
            ("membrane_sram", "read"): int(traffic[:, op.SRAM_READS].sum()),
            ("membrane_sram", "write"): int(traffic[:, op.SRAM_WRITES].sum()),
            ("dram", "read_bits"): int(traffic[:, op.DRAM_READ_LINES].sum()) * line_bits,
            ("dram", "write_bits"): int(traffic[:, op.DRAM_WRITE_LINES].sum()) * line_bits,
        }

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Products with all weights of a row that is driven, zero or not.

        By a spike, or by an integer that is not zero, which counts once in however many parts it is driven.
        """
        assert isinstance(layer, ChipLayer), "a chip runs no others"
        return layer.driven * layer.n // layer.groups


OF_A_TILE = ("adc", "array", "h_tree", "writer")
"""Units that have the number of their tile's node."""


def _units(names: NDArray[np.str_], times: NDArray[np.int64], tiles: Sequence[int]) -> Iterator[tuple[int, UnitTime]]:
    """Where the cycles of a layer's units went, each with the place of its agent among the layer's."""
    for name in dict.fromkeys(wiring.UNITS.values()):
        own = np.flatnonzero(names == name)
        # Tiles were drawn from the last to the first.
        numbers = tiles[::-1] if name in OF_A_TILE and len(own) else range(len(own))
        for instance, agent in zip(numbers, own.tolist(), strict=True):
            busy, stall, idle = times[agent].tolist()
            yield agent, UnitTime(name, instance, busy, stall, idle)


class Span(NamedTuple):
    """A layer's time, from the first to the last event of its agents (their numbers); ``response``: until its first map
    was stored, None of a layer that others read."""

    begin: int
    cycles: int
    agents: NDArray[np.int64]
    response: int | None


def span(kept: NDArray[np.int64], outcome: Outcome, agents: NDArray[np.int64]) -> Span:
    """The time of the layer that ``agents`` worked for, of what all agents ``kept``.

    Agents that can be its first ones say when they began. None of them meets others, so all are idle only behind their
    end.
    """
    first = kept[agents, BEGAN]
    begin = int(first[first > 0].min()) - 1
    answered = int(kept[agents, ANSWERED].max())
    cycles = outcome.cycles - int(outcome.times[agents, IDLE].min()) - begin
    return Span(begin, cycles, agents, answered - begin if answered else None)


def _part(number: int, outcome: Outcome, span: Span, elapsed: int) -> Outcome:
    """What a run was for layer ``number`` alone, its first event in cycle 0."""
    times = outcome.times[span.agents]
    times[:, STALL] -= span.begin  # every agent waited for the layer's first event in its first operation
    times[:, IDLE] = span.cycles - times[:, BUSY] - times[:, STALL]
    own = np.isin(outcome.completions[:, 0], span.agents)
    return Outcome(
        cycles=span.cycles,
        times=times,
        counts=outcome.counts[span.agents],
        traffic=outcome.traffic[number * len(TENSORS) :][: len(TENSORS)],
        row_misses=outcome.row_misses,
        completions=outcome.completions[own] - (0, span.begin),
        wall_s=outcome.wall_s * elapsed / outcome.cycles,
        loads=tuple(load._replace(first=load.first - span.begin) for load in outcome.loads if number == 0),
    )


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
