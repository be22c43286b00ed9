"""SpikeSim: a spiking network on crossbar arrays, all layers at once (Moitra et al., TCAD 2023, arXiv 2210.12899).

Agents, mapping and network are those of :mod:`archsim.accelerators.crossbar_chip`; this file says what the machine
computes, what it is built of and what its actions are called.

A layer's outputs are computed as the arrays and converters do (:mod:`archsim.hardware.analog`). With lossless
converters they equal the integer network's, bit for bit. With less, every layer is still compared with the trace, each
on the trace's own inputs, and the whole network is run again, layers reading what the layers before them made: its
accuracy on the images of the trace stands beside that of the exact network. Cycles and energy are those of the spikes
that the trace recorded.

Sources are in ``hwconfigs/spikesim.yaml``, what differs from the published tool in ``DEVIATIONS.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.accelerators import crossbar_agents as agents
from archsim.accelerators import crossbar_chip as chip
from archsim.accelerators.base import (
    Accelerator,
    Computed,
    EngineName,
    Layer,
    MachineConfig,
    Program,
    Progress,
    Unit,
    layer_of,
    traffic_rows,
)
from archsim.accelerators.pipeline import Stage, alone, stages_of
from archsim.compress import bitmask, packed_time
from archsim.engine.outcome import BUSY, IDLE, STALL, Outcome
from archsim.engine.recording import Window
from archsim.engine.result import LayerResult, UnitTime
from archsim.errors import UsageError
from archsim.hardware import operation as op
from archsim.hardware.analog.crossbar_array import cut_rows, product, program_cells
from archsim.hardware.inventory import Component
from archsim.trace import Operation, Trace
from archsim.trace.resimulation import compute, fire


class SpikeSimConfig(chip.ChipConfig):
    """A SpikeSim machine."""

    accelerator: Literal["spikesim"] = Field(description="which machine this file describes")


class SpikeSim(Accelerator):
    """SpikeSim (TCAD 2023): crossbar arrays that hold the whole network, layers as a pipeline."""

    name: ClassVar[str] = "spikesim"
    Config: ClassVar[type[MachineConfig]] = SpikeSimConfig
    tensors: ClassVar[tuple[str, ...]] = agents.TENSORS
    actions: ClassVar[int] = agents.ACTIONS
    step: ClassVar[Any] = agents.step
    loop: ClassVar[Any] = agents.loop
    config: SpikeSimConfig

    @property
    def exact(self) -> bool:
        """Whether the converters lose nothing."""
        return self.config.adc.is_lossless(self.config.full_scale)

    @property
    def sum_bits(self) -> int:
        """Bits of a full sum as it leaves a tile."""
        return self.config.neuron.sum_bits

    def inventory(self) -> Sequence[Component]:
        """Tiles with all that is in them, neuron modules, the network."""
        config = self.config
        array, adc, pe, tile, memory = config.array, config.adc, config.pe, config.tile, config.memory.cache
        arrays = config.tiles * tile.pes * pe.arrays
        sets = arrays if adc.per == "array" else config.tiles * tile.pes
        shared = array.columns // adc.columns
        size: dict[str, int | float | str] = {
            "capacity_bytes": memory.size_kib * 1024 // memory.banks,
            "width_bits": memory.width_bits,
            "ports": "1rw",
            "access_cycles": memory.access_cycles,
        }
        buffer: dict[str, int | float | str] = {
            "capacity_bytes": -(-tile.buffer_bits // 8), "width_bits": tile.buffer_width_bits, "ports": "1rw",
            "buffer_bits": tile.buffer_bits,
        }  # fmt: skip
        cells: dict[str, int | float | str] = {
            "block": f"{array.cell}_array", "rows": array.rows, "columns": array.columns, "rounds": adc.columns,
        }  # fmt: skip
        lanes: dict[str, int | float | str] = {"block": "lif", "membrane_bits": config.neuron.membrane_bits}
        return (
            Component("array", "logic", arrays, cells),
            Component("adc", "adc", sets * shared, {"adc_bits": adc.width(config.full_scale)}),
            Component("shift_add", "logic", config.tiles * shared, {"block": "shift_add"}),
            Component("temp_buffer", "logic", config.tiles, {"block": "temp_buffer"}),
            Component("tile_buffer", "tile_buffer", config.tiles, buffer),
            Component("h_tree", "logic", config.tiles, {"block": "h_tree"}),
            Component("lif", "logic", config.neuron.modules * config.neuron.lanes, lanes),
            Component("membrane_sram", "sram", memory.banks, size),
            Component("router", "router", config.noc.rows * config.noc.columns, {"flit_bits": config.noc.flit_bits}),
            Component("dram", "dram", 1, {}),
        )

    # What it computes.

    def add_up(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Column sums, array by array, as the converters see them, shifted and added; counts sums wider than a word of
        the network."""
        words = packed_time.decode(layer.inputs, layer.k)
        weight = bitmask.decode(layer.weights, layer.k)
        found = layer.feature_map
        kernel = (1, 1) if found is None else found.kernel
        matches = self._products(words[first : first + len(sums)], words, weight, kernel, sums)
        limit = 1 << (self.sum_bits - 1)
        return {"matches": matches, "sum_overflows": int(np.count_nonzero((sums < -limit) | (sums >= limit)))}

    def _products(
        self,
        words: NDArray[np.uint16],
        recorded: NDArray[np.uint16],
        weight: NDArray[Any],
        kernel: tuple[int, int],
        sums: NDArray[np.int64],
    ) -> int:
        """Products of ``words`` and ``weight`` into ``sums``; converters are calibrated on ``recorded`` words.

        Returns how many pairs of a spike and a non-zero weight there are.
        """
        config = self.config
        array, adc = config.array, config.adc
        group = cut_rows(weight.shape[1] // (kernel[0] * kernel[1]), kernel, array.rows)
        if adc.per == "pe":
            group = group // config.pe.arrays
        cells = program_cells(weight, config.pe.weight_bits, array.cell_bits, array.signed)
        top = (1 << adc.width(config.full_scale)) - 1
        largest = 0
        if adc.range == "calibrated" and not self.exact:
            everything = np.zeros((len(recorded), *sums.shape[1:]), np.int64)
            largest, _ = product(recorded, group, cells, config.full_scale, config.full_scale, everything)
        _, matches = product(words, group, cells, adc.span(config.full_scale, largest), top, sums)
        return matches

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """One bit for each neuron and timestep."""
        return np.full(layer.m, -(-layer.n * layer.timesteps // 8))

    def findings(self, trace: Trace) -> Mapping[str, Any]:
        """What lossy converters do to the network: accuracy on the trace's images, and that of the exact network.

        ``agreement`` is the share of images whose class is the exact network's; accuracies need the images' labels.
        """
        last = trace.operations[-1]
        if self.exact or last.op != "linear" or last.neuron is not None or not trace.stored(last.output):
            return {} if self.exact else {"exact": False}
        exact = _classes(trace.tensor(last.output))
        lossy = _classes(self._network(trace)[last.output])
        found: dict[str, Any] = {"exact": False, "agreement": float((lossy == exact).mean())}
        labels = trace.provenance.get("details", {}).get("labels")
        if isinstance(labels, list) and len(labels) == trace.images:
            found["accuracy"] = float((lossy == np.array(labels)).mean())
            found["exact_accuracy"] = float((exact == np.array(labels)).mean())
        return found

    def _network(self, trace: Trace) -> dict[str, NDArray[Any]]:
        """All tensors of the network as this machine makes them, each layer reading those of the layers before it."""
        made: dict[str, NDArray[Any]] = {}
        for operation in trace.operations:
            inputs = [made[name] if name in made else trace.operand(name) for name in operation.inputs]
            if self.simulates(trace, operation):
                currents = self._currents(operation, inputs[0], trace.operand(operation.inputs[0]))
                made[operation.output] = fire(operation.neuron, currents) if operation.neuron else currents
            else:
                made[operation.output] = compute(operation, inputs, trace.timesteps)
        return made

    def _currents(
        self, operation: Operation, spikes: NDArray[np.bool_], recorded: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Currents [T, I, N, ...] of a layer that reads ``spikes``."""
        weight = operation.weight
        assert weight is not None, "convolutions and linear layers have weights"
        rows = _rows(operation, spikes)
        sums = np.zeros((len(rows), operation.n, len(spikes)), np.int64)
        kernel = operation.kernel if operation.op == "conv2d" else (1, 1)
        self._products(rows, _rows(operation, recorded), weight.reshape(operation.n, -1), kernel, sums)
        if operation.bias is not None:
            sums += operation.bias[:, None]
        currents = sums.reshape(operation.images, -1, operation.n, len(spikes)).transpose(3, 0, 2, 1)
        return np.ascontiguousarray(currents).reshape(len(spikes), operation.images, *operation.output_shape)

    # When it does so.

    def refuses(self, trace: Trace) -> Sequence[str]:
        """A network that does not fit the chip; weights that the cells cannot hold."""
        problems = chip.misfits(self.config, stages_of(trace, self.layers(trace)))
        lowest = -(1 << (self.config.pe.weight_bits - 1))
        if self.config.array.signed == "difference":
            full = [layer.name for layer in self.layers(trace) if np.any(layer.weight == lowest)]
            if full:
                problems.append(
                    f"array.signed: difference holds weights from {lowest + 1} on, {', '.join(full)} has {lowest}; "
                    "allowed: offset"
                )
        return problems

    def program(self, layer: Layer, output_bytes: NDArray[np.int64]) -> Program:
        """A chip with this layer alone."""
        return self._programmed(chip.lay_out(self.config, [alone(layer)], [layer]))

    def _programmed(self, built: chip.Built) -> Program:
        wiring = built.wiring
        state = np.zeros((len(wiring.agents), agents.STATE), np.int64)
        state[:, agents.BEGAN] = agents.NOT_ASKED
        kinds = np.array([agent[agents.KIND] for agent in wiring.agents])
        first = int(np.flatnonzero(kinds == agents.CONVERTER)[0])
        return Program(
            built.spec, wiring.operands(), wiring.topology(), state, (Unit("adc", first, 1, self.config.tiles),)
        )

    def run_layer(self, layer: Layer, engine: EngineName, *, verify: bool, record: Window | bool) -> LayerResult:
        """A layer with the chip to itself: its input comes from DRAM, its output goes there."""
        return self._run([alone(layer)], [layer], engine, verify, record, None)[0]

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
        layers = [layer_of(trace, operation) for operation in operations]
        yield from self._run(stages_of(trace, operations), layers, engine, verify, record, progress)

    def _run(
        self,
        stages: Sequence[Stage],
        layers: Sequence[Layer],
        engine: EngineName,
        verify: bool,
        record: Window | bool,
        progress: Progress | None,
    ) -> list[LayerResult]:
        problems = chip.misfits(self.config, stages)
        if problems:
            raise UsageError(problems)
        computed = []
        for done, layer in enumerate(layers):
            if progress:
                progress(layer.name, done, len(layers))
            computed.append(self.compute(layer, verify))
        built = chip.lay_out(self.config, stages, layers)
        program = self._programmed(built)
        working = np.array(built.wiring.stages)
        counts = np.zeros((len(working), self.actions), np.int64)
        for number, one in enumerate(computed):
            # The agents know no weights: what is multiplied is known from the function.
            counts[np.flatnonzero(working == number)[0], agents.MATCHES] = one.events.pop("matches")
        outcome = self._simulate(engine, program, counts, record, len(stages))
        spans = [chip.span(program.state, np.flatnonzero(working == number)) for number in range(len(stages))]
        # The run's cycles, shared out to the layers that overlap in proportion to their own.
        shared = np.cumsum([span.cycles for span in spans])
        shared = np.diff(shared * outcome.cycles // shared[-1], prepend=0)
        return [
            self._cut(number, layers[number], computed[number], built, outcome, span, int(shared[number]))
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
        traffic = outcome.traffic[number * len(self.tensors) :][: len(self.tensors)]
        times = outcome.times[own]
        times[:, STALL] -= span.begin  # every agent waited for the layer's first event in its first operation
        times[:, IDLE] = cycles - times[:, BUSY] - times[:, STALL]
        busy = times[kinds == agents.CONVERTER, BUSY]
        completions = outcome.completions[np.isin(outcome.completions[:, 0], own)] - (0, span.begin)
        return LayerResult(
            layer=layer.name,
            op=layer.op,
            m=layer.m,
            n=layer.n,
            k=layer.k,
            timesteps=layer.timesteps,
            cycles=cycles,
            compute_cycles=int(busy.max()),
            stall_cycles=cycles - int(busy.max()),
            utilization=float(busy.sum() / (cycles * config.tiles)),
            matches=self.matches(counts),
            actions={
                **self.count_actions(layer, counts, computed.events),
                ("membrane_sram", "read"): int(traffic[:, op.SRAM_READS].sum()),
                ("membrane_sram", "write"): int(traffic[:, op.SRAM_WRITES].sum()),
                ("dram", "read_bits"): int(traffic[:, op.DRAM_READ_LINES].sum()) * memory.cache.line_bytes * 8,
                ("dram", "write_bits"): int(traffic[:, op.DRAM_WRITE_LINES].sum()) * memory.cache.line_bytes * 8,
            },
            traffic=traffic_rows(self.tensors, traffic, memory.cache.line_bytes),
            units=tuple(_units(kinds, times, built.tiles[number], tuple(UNITS))),
            lower_bound_cycles=chip.conversion_cycles(config, stage, mapping, layer),
            compulsory_read_bytes=0 if memory.ideal else chip.input_bytes(stage),
            mismatches=computed.mismatches,
            engine_wall_s=outcome.wall_s * elapsed / outcome.cycles,
            events={
                **computed.events,
                "tiles": len(mapping.shares),
                "pes": mapping.pes_used(),
                "programmed_cells": layer.k * layer.n * config.columns_per_weight,
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

    def count_actions(
        self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Everything but the memories; every conversion is shifted and added."""
        return {
            ("array", "read"): int(counts[agents.READS]),
            ("adc", "convert"): int(counts[agents.CONVERSIONS]),
            ("shift_add", "add"): int(counts[agents.CONVERSIONS]),
            ("temp_buffer", "access"): int(counts[agents.WINDOWS]),
            ("tile_buffer", "read"): int(counts[agents.WINDOWS]),
            ("tile_buffer", "write"): int(counts[agents.BUFFER_WRITES]),
            ("h_tree", "transfer"): int(counts[agents.TREE_WORDS]),
            ("lif", "update"): int(counts[agents.UPDATES]),
            ("lif", "add"): int(counts[agents.JOINED]),
            ("router", "flit"): int(counts[agents.FLIT_HOPS]),
        }

    def matches(self, counts: NDArray[np.int64]) -> int:
        """Pairs of a spike and a non-zero weight."""
        return int(counts[agents.MATCHES])

    def lower_bound(self, layer: Layer, program: Program, matches: int) -> int:
        """The conversions of the layer's busiest tile."""
        stage = alone(layer)
        return chip.conversion_cycles(self.config, stage, chip.map_layer(self.config, stage), layer)

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """The layer's input, where no other layer makes it."""
        return chip.input_bytes(alone(layer))


UNITS = {
    agents.CONVERTER: "adc", agents.DRIVER: "array", agents.ADDER: "h_tree", agents.NEURON: "neuron",
    agents.MOVER: "mover", agents.HOP: "link",
}  # fmt: skip
"""What the agents of a kind are called in ``units.csv``."""


def _units(
    kinds: NDArray[np.int64], times: NDArray[np.int64], tiles: Sequence[int], wanted: tuple[int, ...]
) -> Iterator[UnitTime]:
    """Where the cycles of a layer's units of the ``wanted`` kinds went; those of a tile have the number of its node."""
    for kind in wanted:
        name = UNITS[kind]
        rows = times[kinds == kind]
        # Tiles were wired from the last to the first.
        numbers = tiles[::-1] if kind in (agents.CONVERTER, agents.DRIVER, agents.ADDER) else range(len(rows))
        for instance, row in zip(numbers, rows.tolist(), strict=True):
            yield UnitTime(name, instance, row[BUSY], row[STALL], row[IDLE])


def _rows(operation: Operation, spikes: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Spikes [T, I, ...] as the rows of packed words [M, K] of a layer."""
    words = packed_time.pack_timesteps(spikes)
    if operation.op == "conv2d":
        return packed_time.unroll(words, operation.kernel, operation.stride, operation.padding)
    return words.reshape(-1, operation.k)


def _classes(logits: NDArray[Any]) -> NDArray[np.int64]:
    """The class of each image by logits [T, I, classes], added over time."""
    classes: NDArray[np.int64] = logits.sum(0).argmax(1)
    return classes
