"""SATA (Yin et al., TCAD 2022): an output-stationary array for inference and training of spiking networks.

Rows of the array are output positions, columns filters. A processing element (PE) has an AND, an adder, an accumulator
and a LIF neuron, and scratchpads for spikes, weights and partial sums: a weight is read once and stays for the
timesteps that pass, whose partial sums wait in the scratchpad. Where all T of them do not fit, timesteps come in spans
and weights are read again for each. Silent spikes (``scheduler.sparsity``)

    gating      save the energy of their additions and no cycle, as in SATA
    skipping    a pair of an input k and a timestep at which none of the rows spikes takes no cycle, and a weight that
                none of the rows needs is not read

The array, its loops, its closed form and its memory traffic are in :mod:`archsim.dataflow.buffered_array`. SATA_Sim
counts T (F (K + R + C - 2) - 1) cycles for the same F folds: it pays the skew in every timestep, where here timesteps
follow each other within a fold, and drops one cycle per timestep:

    SATA_Sim's T cyc_os  =  cycles of the array with gating  +  (T - 1) F (R + C - 2) - T

It also adds the cycles of a second, weight-stationary pass (cyc_ws), which counts the same additions twice and is left
out here.

Membrane potentials (``membrane.place``) of ``membrane.bits`` are kept between timesteps

    pe      in a register of the neuron: no traffic
    sram    in the potential buffer: read before and written behind every timestep but the first and the last
    dram    in DRAM, through the potential buffer

With ``neuron.shared_by`` C, the C neighbours of a row take turns with one comparator, subtractor and leak: potentials
and thresholds keep their registers, and a timestep of neurons takes C times ``neuron.cycles``.

A potential or sum that does not fit its bits is counted as an overflow; outputs are exact in any case.

With ``pe.clocking: always`` all that SATA_Sim calls ungated is charged in every cycle, whether it works or not: AND,
adder, comparator, subtractor, scratchpads of spikes and partial sums of every PE.

Sources are in ``hwconfigs/sata.yaml``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.compress import bitmask, packed_time
from archsim.dataflow import training
from archsim.dataflow.base import MOST_TIMESTEPS, HardwareConfig, ScheduledLayers
from archsim.dataflow.buffered_array import ADDED, BufferedArray, moved_by_timestep
from archsim.dataflow.buffered_tables import (
    COLUMNS_MASK,
    IN_BUFFER,
    IN_DRAM,
    IN_PE,
    OUTPUT_MASK,
    ROWS_MASK,
    StageTensors,
    Work,
)
from archsim.dataflow.computing import complete_sums
from archsim.dataflow.folded_array import dense_words
from archsim.dataflow.layer import Layer, layer_of
from archsim.dataflow.layer_machine import Computed
from archsim.dataflow.machine import Program
from archsim.dataflow.pieces import most_planes
from archsim.dataflow.training import Geometry
from archsim.dataflow.vector_unit import VectorUnit, VectorWork
from archsim.hardware import operation as op
from archsim.hardware.compute.lif import LifConfig, count_overflows, leaks, neurons_of, rule_of, start_state
from archsim.hardware.compute.systolic_array import add_in_order
from archsim.hardware.fields import SumBits, WeightBits
from archsim.hardware.inventory import Component
from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.memory.buffers import BufferConfig, BufferedMemoryConfig, BuffersConfig
from archsim.hardware.memory.placement import Placer, Tensor
from archsim.trace import Operation, Trace
from archsim.trace.work import WORKING

# --- Configuration ----------------------------------------------------------------------------------------------------


class SataPe(Block):
    """Array of processing elements and what each of them holds."""

    rows: int = Field(ge=1, le=256, description="rows, an output position each")
    columns: int = Field(ge=1, le=256, description="columns, a filter each")
    weight_bits: WeightBits = Field(description="bits of a weight, of the AND and of the adder")
    accumulator_bits: SumBits = Field(description="bits of an accumulator and of a partial sum, sign included")
    spike_bytes: int = Field(ge=1, le=4096, description="scratchpads of spikes, two that take turns")
    weight_bytes: int = Field(ge=1, le=4096, description="scratchpads of weights, two that take turns")
    psum_bytes: int = Field(ge=1, le=4096, description="scratchpad of partial sums, one for each timestep")
    output_buffer: int = Field(ge=1, le=64, description="folds whose sums wait for the neurons")
    clocking: Literal["gated", "always"] = Field(
        description="always: AND, adder, neuron logic, spike and psum scratchpads are charged in every cycle"
    )

    @model_validator(mode="after")
    def _scratchpads_hold_a_timestep(self) -> Self:
        problems = {}
        if self.psum_bytes * 8 < self.accumulator_bits:
            problems["psum_bytes"] = (
                f"too small for the timesteps: not even one partial sum of {self.accumulator_bits} bits fits;"
                f" allowed: {-(-self.accumulator_bits // 8)} or more"
            )
        if self.weight_bytes * 8 < 2 * self.weight_bits:
            problems["weight_bytes"] = f"must hold two weights, {-(-2 * self.weight_bits // 8)} bytes or more"
        if problems:
            raise CrossFieldError(problems)
        return self

    def span(self, timesteps: int, sums: int, row_bits: int = 1, column_bits: int = 0) -> int:
        """Timesteps of a fold whose ``sums`` bits fit the psum scratchpad, and operands of two steps the others.

        ``sums`` and ``column_bits`` are those of a timestep, 0 where they are the same for all.
        """
        rooms = [(self.psum_bytes, sums), (self.spike_bytes, 2 * row_bits), (self.weight_bytes, 2 * column_bits)]
        return min(timesteps, *(8 * size // bits for size, bits in rooms if bits))

    def steps(self, row_bits: int, column_bits: int) -> int:
        """Steps in a load of the scratchpads, of operands of so many bits."""
        return min(self.weight_bytes * 8 // column_bits, self.spike_bytes * 8 // row_bits) // 2


class SataNeuron(LifConfig):
    """Neuron logic: comparator, subtractor and leak, at most one per PE."""

    shared_by: int = Field(ge=1, le=256, description="PEs of a row, so channels, that one neuron logic serves in turn")


class SataMembrane(Block):
    """Membrane potentials."""

    bits: SumBits = Field(description="bits of a potential, sign included")
    place: Literal["pe", "sram", "dram"] = Field(description="where potentials are between timesteps")


class SataTraining(Block):
    """Back-propagation through time."""

    stages: Literal["inference", "all"] = Field(description="all: forward, backward and update of every layer")
    gradient_bits: int = Field(ge=2, le=32, description="bits of a gradient")
    sum_bits: SumBits = Field(description="bits of a sum of gradients")
    window: float = Field(gt=0, le=1000, description="where the trace has no masks: the surrogate's window, thresholds")


class SataScheduler(ScheduledLayers):
    """What silence saves."""

    sparsity: Literal["gating", "skipping"] = Field(description="silent spikes save energy only, or cycles too")


class SataBuffers(BuffersConfig):
    """Buffers, in the order of their windows."""

    weight: BufferConfig = Field(description="weights")
    input: BufferConfig = Field(description="input spikes")
    output: BufferConfig = Field(description="output spikes")
    potential: BufferConfig = Field(description="membrane potentials that are not in the PEs, and their gradients")
    mask: BufferConfig = Field(description="which gradients are not zero")


class SataMemory(BufferedMemoryConfig):
    """Buffers and DRAM."""

    buffers: SataBuffers = Field(description="scratchpad buffers, each for one operand")


class SataConfig(HardwareConfig):
    """A SATA machine."""

    accelerator: Literal["sata"] = Field(description="which machine this file describes")
    pe: SataPe = Field(description="array and what its PEs hold")
    neuron: SataNeuron = Field(description="neurons")
    membrane: SataMembrane = Field(description="membrane potentials")
    training: SataTraining = Field(description="back-propagation through time")
    scheduler: SataScheduler = Field(description="order of the work")
    memory: SataMemory = Field(description="buffers and DRAM")

    @model_validator(mode="after")
    def _a_tile_fits(self) -> Self:
        buffers, pe, training = self.memory.buffers, self.pe, self.training
        pes, trains = pe.rows * pe.columns, training.stages == "all"
        problems = {}
        if trains:
            needed = {
                "psum_bytes": (-(-training.sum_bits // 8), "a sum of gradients"),
                "spike_bytes": (-(-2 * training.gradient_bits // 8), "gradients of two steps"),
                "weight_bytes": (-(-2 * training.gradient_bits // 8), "gradients of two steps"),
            }
            problems = {
                f"pe.{name}": f"too small for the timesteps: {what} of one timestep is {size} bytes (training.stages)"
                for name, (size, what) in needed.items() if getattr(pe, name) < size
            }  # fmt: skip
        if pe.columns % self.neuron.shared_by:
            problems["neuron.shared_by"] = f"must divide pe.columns, {pe.columns}"
        elif trains and self.neuron.shared_by > 1:
            problems["neuron.shared_by"] = "must be 1 for training, whose gradients are not shared out"
        words = 8 * buffers.line_bytes
        least = {
            "weight": (
                max(words, pe.columns * pe.weight_bits * pe.steps(1, pe.weight_bits)),
                "weights of half a scratchpad",
            ),
            "input": (words, "a line of spikes"),
            "output": (max(words, pes), "spikes of the array"),
        }
        if trains:
            gradients = pes * max(self.membrane.bits, training.gradient_bits) * self.least_timesteps
            held = 4 * pe.columns * pe.weight_bytes  # bits of half a scratchpad in every column
            least["potential"] = max(words, gradients, held), "gradients of the array"
            least["output"] = max(words, gradients), "errors of the array"
            least["mask"] = max(words, pes), "mask of the array"
        elif self.membrane.place != "pe":
            least["potential"] = max(words, pes * self.membrane.bits), "potentials of the array (membrane.place)"
        for name, (bits, what) in least.items():
            if buffers.usable_bytes(name) * 8 < bits:
                problems[f"memory.buffers.{name}.size_kib"] = (
                    f"too small for a tile: {buffers.usable_bytes(name)} bytes are usable, {what} need {-(-bits // 8)}"
                )
        if problems:
            raise CrossFieldError(problems)
        return self


# --- Where operands are -----------------------------------------------------------------------------------------------

NAMES = ("input", "weight", "output", "membrane", "gradient", "error", "mask")
TENSORS = INPUT, WEIGHT, OUTPUT, MEMBRANE, GRADIENT, ERROR, MASK = range(7)
BUFFERS = ("input", "weight", "output", "potential", "potential", "output", "mask")
"""The buffer of each tensor."""
SECOND = (GRADIENT, ERROR)
"""Tensors in the second half of their buffer's window, behind another one."""
PLACES = {"pe": IN_PE, "sram": IN_BUFFER, "dram": IN_DRAM}
"""Where ``membrane.place`` keeps potentials."""


def leaks_in(layer: Layer) -> bool:
    """Whether their potentials leak; unknown ones do."""
    if layer.neuron is None:
        return layer.fires
    return leaks(rule_of(layer.neuron))


def stage_of(layer: Layer) -> str:
    """Which actions the layer takes: those of a stage of training, or of inference."""
    return layer.stage if isinstance(layer, training.Stage) else "inference"


def words_of(mask: NDArray[np.bool_], n: int) -> NDArray[np.uint16]:
    """A mask bool [T, images, N, height, width] or [T, images, N] as words [M, N]."""
    return np.ascontiguousarray(np.moveaxis(packed_time.pack_timesteps(mask), 1, -1)).reshape(-1, n)


# --- The machine ------------------------------------------------------------------------------------------------------


class Sata(BufferedArray):
    """SATA (TCAD 2022): output-stationary array, weights kept across timesteps, spikes that gate or skip."""

    name: ClassVar[str] = "sata"
    ruled_neurons: ClassVar[bool] = True
    Config: ClassVar[type[HardwareConfig]] = SataConfig
    config: SataConfig
    tensors: ClassVar[tuple[str, ...]] = NAMES
    agents = BufferedArray.agents  # which see this configuration

    @property
    def skips(self) -> bool:
        """Where silence saves cycles."""
        return self.config.scheduler.sparsity == "skipping"

    @property
    def neuron_cycles(self) -> int:
        """PEs that share a neuron logic take turns."""
        return self.config.neuron.cycles * self.config.neuron.shared_by

    def inventory(self) -> Sequence[Component]:
        """PEs, their neurons and scratchpads, the buffers that are built, DRAM."""
        pe, buffers, bits = self.config.pe, self.config.memory.buffers, self.config.training
        pes, trains = pe.rows * pe.columns, bits.stages == "all"
        shared = self.config.neuron.shared_by
        always = "_always" if pe.clocking == "always" else ""
        outside = "_outside" if self.config.membrane.place != "pe" else ""
        widths = {
            "weight_bits": pe.weight_bits, "sum_bits": pe.accumulator_bits, "gradient_bits": bits.gradient_bits,
            "gradient_sum_bits": bits.sum_bits, "membrane_bits": self.config.membrane.bits,
            "shared_by": shared, "clocked_bits": 8 * (pe.spike_bytes + pe.psum_bytes),
            "bits": 8 * (pe.spike_bytes + pe.weight_bytes + pe.psum_bytes),
        }  # fmt: skip
        return (
            Component("pe", "logic", pes, {"block": f"sata_{'training_' * trains}pe{always}", **widths}),
            Component("lif", "logic", pes // shared, {"block": f"sata_neuron{outside}{always}", **widths}),
            *((Component("pgu", "logic", pes, {"block": "sata_pgu", **widths}),) if trains else ()),
            Component("scratchpad", "logic", pes, {"block": f"sata_scratchpad{always}", **widths}),
            *(
                Component(
                    f"{name}_buffer", "sram", buffers.banks,
                    {
                        "capacity_bytes": buffers.size_bytes(name) // buffers.banks, "width_bits": buffers.width_bits,
                        "ports": "1rw", "access_cycles": buffers.access_cycles,
                    },
                )
                for name in buffers.names() if buffers.size_bytes(name)
            ),
            Component("dram", "dram", 1, {}),
        )  # fmt: skip

    def unsupported(self, trace: Trace) -> Sequence[str]:
        """Layers of which no tile fits a buffer."""
        products = [operation for operation in self.layers(trace) if operation.op in WORKING]
        return [problem for operation in products for problem in self._too_large(trace, operation)]

    @property
    def trains(self) -> bool:
        """Whether layers run all stages of their training."""
        return self.config.training.stages == "all"

    @property
    def takes_integers(self) -> bool:
        """Not in training, whose stages are of spikes."""
        return super().takes_integers and not self.trains

    def simulates(self, trace: Trace, operation: Operation) -> bool:
        """Of training, layers without groups and dilation."""
        return super().simulates(trace, operation) and not (self.trains and self._untrained(operation))

    def why_skipped(self, trace: Trace, operation: Operation) -> str:
        """What training does not know, too."""
        untrained = self._untrained(operation) if self.trains and super().simulates(trace, operation) else ""
        return f"{untrained}, which is not trained here" if untrained else super().why_skipped(trace, operation)

    @staticmethod
    def _untrained(operation: Operation) -> str:
        if operation.groups > 1:
            return f"has {operation.groups} groups"
        return "is dilated" if {operation.dilation, operation.input_dilation} != {(1, 1)} else ""

    def timesteps_for(self, trace: Trace) -> int:
        """A PE has no part for a timestep, but spans: it takes as many timesteps, or planes, as a word has bits."""
        return MOST_TIMESTEPS if self.takes_integers else super().timesteps_for(trace)

    def place_vectors(
        self, read: NDArray[np.int64], written: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Operands go through the buffer of inputs, results through that of outputs."""
        memory, buffers = Placer(self.config.memory.line_bytes), self.config.memory.buffers
        memory.free = buffers.first_line("input")
        operands = memory.place(read)
        memory.free = buffers.first_line("output")
        return operands, memory.place(written)

    def _too_large(self, trace: Trace, operation: Operation) -> Sequence[str]:
        rows, geometry = self.config.pe.rows, Geometry.of_operation(operation, self.config.pe.rows)
        bits, trains = self.config.training.gradient_bits, self.trains
        needed = {"input": training.spike_tile(geometry, rows, most_planes(trace, operation, self.limits))}
        if trains:
            n = operation.output_shape[0]
            needed["input"] = max(needed["input"], training.channel_tile(geometry, rows, trace.timesteps))
            needed["potential"] = training.gradient_tile(geometry, n, rows, trace.timesteps * bits)
        buffers = self.config.memory.buffers
        halves = 2 if buffers.double_buffer else 1
        return [
            f"memory.buffers.{name}.size_kib: {buffers.usable_bytes(name)} bytes are usable, a tile of layer"
            f" {operation.name} needs {size}; --set memory.buffers.{name}.size_kib={-(-size * halves // 1024)} builds a"
            " machine that can"
            for name, size in needed.items()
            if buffers.usable_bytes(name) < size
        ]

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Weights of the inputs that spike, input by input; counts sums and potentials that do not fit."""
        weights = np.ascontiguousarray(bitmask.decode(layer.weights, layer.k).T, np.int64)
        overflows = add_in_order(
            dense_words(layer, first, len(sums)), weights, np.arange(layer.k), np.zeros(1, np.int64),
            np.array([layer.k]), np.zeros(len(sums), np.int64), layer.timesteps, 1, self.config.pe.accumulator_bits,
            sums,
        )  # fmt: skip
        events = {"accumulator_overflows": int(overflows), "membrane_overflows": 0}
        if layer.neuron is not None:
            state = start_state(layer.neuron, len(sums), layer.n, first)
            if layer.state is not None and layer.state.neurons is not None:
                state = layer.state.neurons.rows(first, len(sums))
            events["membrane_overflows"] = count_overflows(
                neurons_of(layer.neuron), complete_sums(layer, first, sums), layer.bias, first, state,
                self.config.membrane.bits,
            )  # fmt: skip
        return events

    def stages(self, trace: Trace, operation: Operation, verify: bool = True) -> Iterable[Iterable[Layer | VectorWork]]:
        """A layer in its pieces, or all stages of its training."""
        if not self.trains:
            return super().stages(trace, operation, verify)
        layer = layer_of(trace, operation)
        mask = operation.gradient_mask
        gradients = self._open_windows(layer) if mask is None else words_of(mask, layer.n)
        stages = self.training_stages(layer, gradients, mask is None and layer.neuron is not None)
        return ((stage,) for stage in stages)

    def training_stages(
        self, layer: Layer, gradients: NDArray[np.uint16], surrogate: bool = False
    ) -> Sequence[training.Stage]:
        """All stages of the training of ``layer``, whose gradients [M, N] are not zero at these timesteps."""
        geometry = Geometry.of(layer, self.config.pe.rows)
        weights = bitmask.decode(layer.weights, layer.k)
        backward = training.backward_work(geometry, gradients, weights)
        update = training.update_work(dense_words(layer, 0, layer.m), gradients, layer.timesteps)
        sizes: dict[training.StageName, dict[str, int]] = {
            "forward": {},
            "potential_gradient": {"k": 1, "matches": 0, "synaptic_operations": 0},
            "backward": {
                "m": geometry.input_positions, "n": geometry.channels, "k": layer.n * math.prod(geometry.window.kernel),
                **backward,
            },
            "update": {"m": layer.k, "k": layer.m, **update},
        }  # fmt: skip
        if layer.neuron is None:
            del sizes["potential_gradient"]
        return [training.Stage.make(layer, stage, gradients, surrogate, **size) for stage, size in sizes.items()]

    def _open_windows(self, layer: Layer) -> NDArray[np.uint16]:
        """Masks of a trace that has none; of a layer without neurons all gradients may be non-zero."""
        words = np.full((layer.m, layer.n), (1 << layer.timesteps) - 1, np.uint16)
        if layer.neuron is not None:
            sums = np.zeros((layer.m, layer.n, layer.timesteps), np.int64)
            self.accumulate(layer, 0, sums)
            neuron, threshold = layer.neuron, np.ascontiguousarray(layer.neuron.threshold, np.int64)
            width = (self.config.training.window * (threshold << neuron.fraction_bits)).astype(np.int64)
            training.open_windows(sums, layer.bias, threshold, width, rule_of(neuron), words)
        return words

    def compute(self, layer: Layer, verify: bool) -> Computed:
        """Outputs of a layer and of the stage ``forward``; the trace has no values of gradients to compare with."""
        if not isinstance(layer, training.Stage) or layer.stage == "forward":
            return super().compute(layer, verify)
        events = {
            "gradients_non_zero": int(np.bitwise_count(layer.gradients).sum()),
            "gradients_are_upper_bound": int(layer.surrogate),
        }
        return Computed(np.zeros(layer.m, np.int64), None, events)

    def work(self, layer: Layer) -> Work:
        """The layer, or a stage of its training."""
        if not isinstance(layer, training.Stage):
            return self._spikes(layer, kept=False)
        if layer.stage == "potential_gradient":
            return self._potential_gradient(layer)
        if layer.stage == "backward":
            return self._backward(layer)
        if layer.stage == "update":
            return self._update(layer)
        return self._spikes(layer, kept=layer.neuron is not None)

    def _spikes(self, layer: Layer, kept: bool) -> Work:
        """Spikes by rows, weights by columns."""
        pe = self.config.pe
        value_bits = 8 * -(-self.sum_bits // 8) if layer.writes_sums else layer.value_bits
        span = pe.span(layer.timesteps, pe.accumulator_bits)
        return Work(
            row_words=dense_words(layer, 0, layer.m),
            column_words=None,
            map=training.spike_map(Geometry.of(layer, pe.rows)),
            n=layer.n,
            timesteps=layer.timesteps,
            span=span,
            steps=pe.steps(span, pe.weight_bits),
            tensors=self._tensors(INPUT, WEIGHT, OUTPUT, MEMBRANE),
            row_bits=1,
            column_bits=pe.weight_bits,
            output_bits=value_bits if layer.planes is None else 0,
            potential_bits=self.config.membrane.bits,
            outside=IN_PE if layer.rests else PLACES[self.config.membrane.place],
            kept=kept,
            taken_bits=8 * layer.taken_bytes,
            last_bits=0 if layer.planes is None else layer.fired_timesteps * value_bits + 8 * layer.left_bytes,
            late=layer.updates - layer.timesteps,
        )

    def _potential_gradient(self, stage: training.Stage) -> Work:
        """Neurons in any order, C in a row: potentials by rows, errors by columns, each of a PE its own."""
        pe, bits = self.config.pe, self.config.training.gradient_bits
        where = training.neuron_map(stage.m * stage.n, pe.rows, pe.columns)
        every = (1 << stage.timesteps) - 1
        return Work(
            row_words=np.full((len(where.rows), 1), every, np.uint16),
            column_words=np.full((pe.columns, 1), every, np.uint16),
            map=where,
            n=pe.columns,
            timesteps=stage.timesteps,
            span=stage.timesteps,
            steps=1,
            tensors=self._tensors(MEMBRANE, ERROR, GRADIENT, MEMBRANE),
            row_bits=pe.columns * self.config.membrane.bits,
            column_bits=pe.rows * bits,
            output_bits=bits,
            columns_of_fold=True,
            masked=OUTPUT_MASK,
        )

    def _backward(self, stage: training.Stage) -> Work:
        """Gradients by rows, weights by columns."""
        pe, bits = self.config.pe, self.config.training.gradient_bits
        geometry = Geometry.of(stage.of, pe.rows)
        span = pe.span(stage.timesteps, self.config.training.sum_bits, bits)
        return Work(
            row_words=training.unrolled_gradients(geometry, stage.gradients),
            column_words=None,
            map=training.gradient_map(geometry, stage.of.n),
            n=stage.n,
            timesteps=stage.timesteps,
            span=span,
            steps=pe.steps(span * bits, pe.weight_bits),
            tensors=self._tensors(GRADIENT, WEIGHT, ERROR, MEMBRANE),
            row_bits=bits,
            column_bits=pe.weight_bits,
            output_bits=bits,
            masked=ROWS_MASK,
        )

    def _update(self, stage: training.Stage) -> Work:
        """Spikes by rows, gradients by columns; old weights are read and new ones written behind every fold."""
        pe, bits = self.config.pe, self.config.training.gradient_bits
        span = pe.span(stage.timesteps, 0, 1, bits)
        return Work(
            row_words=np.ascontiguousarray(dense_words(stage.of, 0, stage.of.m).T),
            column_words=np.ascontiguousarray(stage.gradients.T),
            map=training.spike_map_by_channel(Geometry.of(stage.of, pe.rows)),
            n=stage.n,
            timesteps=stage.timesteps,
            span=span,
            steps=pe.steps(span, span * bits),
            tensors=self._tensors(INPUT, GRADIENT, OUTPUT, WEIGHT),
            row_bits=1,
            column_bits=bits,
            output_bits=0,
            potential_bits=pe.weight_bits,
            outside=IN_DRAM,
            adds_time=True,
            masked=COLUMNS_MASK,
        )

    def _tensors(self, *tensors: int) -> StageTensors:
        """Where tensors are that come by rows and by columns, leave, and are kept by neurons."""
        buffers = self.config.memory.buffers
        by_rows, by_columns, output, potentials = (
            buffers.tensor(BUFFERS[t], t, second=t in SECOND) for t in tensors
        )  # fmt: skip
        mask, taken = buffers.tensor("mask", MASK), buffers.tensor("output", OUTPUT, second=True)
        return StageTensors(by_rows, by_columns, output, potentials, mask, taken)

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """What PEs, neurons and scratchpads do in a stage; what is not needed is not counted."""
        numbers = {
            **done, "neurons": layer.m * layer.n * layer.timesteps,
            "fired": 0 if layer.rests else layer.m * layer.n * layer.updates,
            "leaked": layer.m * layer.n * layer.fired_timesteps * leaks_in(layer),
        }  # fmt: skip
        return {
            action: sum(numbers[name] for name in names) for action, names in training.ACTIONS[stage_of(layer)].items()
        }

    def timestep_counts(
        self, layer: Layer, program: Program, traffic: NDArray[np.int64]
    ) -> Mapping[tuple[str, str], Sequence[int]]:
        """All but what serves every timestep: weights, their sums in the update, what is drawn always. Planes belong to
        no timestep."""
        if layer.planes is not None:
            return {}
        x, stage = program.operands, stage_of(layer)
        each = np.full(layer.timesteps, layer.m * layer.n)
        numbers = {
            "added": x.added, "pairs": x.worked, "row_entries": x.entered, "sums": each * (stage != "update"),
            "neurons": each, "fired": each * (not layer.rests), "leaked": each * leaks_in(layer),
        }  # fmt: skip
        found = {
            action: np.sum([numbers[name] for name in names], axis=0)
            for action, names in training.ACTIONS[stage].items() if numbers.keys() >= set(names)
        }  # fmt: skip
        found |= moved_by_timestep(program, traffic, (WEIGHT,), self.memory_actions)
        return {action: count.tolist() for action, count in found.items()}

    def memory_actions(self, traffic: NDArray[np.int64]) -> dict[tuple[str, str], int]:
        """Accesses of each buffer that is built, bits over the pins of DRAM; the vector unit has two tensors."""
        if len(traffic) == len(VectorUnit.tensors):
            moved, traffic = traffic, np.zeros((len(TENSORS), traffic.shape[1]), np.int64)
            traffic[[INPUT, OUTPUT]] = moved
        line_bits = self.config.memory.line_bytes * 8
        actions = {
            ("dram", "read_bits"): int(traffic[:, op.DRAM_READ_LINES].sum()) * line_bits,
            ("dram", "write_bits"): int(traffic[:, op.DRAM_WRITE_LINES].sum()) * line_bits,
        }
        for name in self.config.memory.buffers.names():
            if self.config.memory.buffers.size_bytes(name):
                held = [tensor for tensor in TENSORS if BUFFERS[tensor] == name]
                actions[f"{name}_buffer", "read"] = int(traffic[held, op.SRAM_READS].sum())
                actions[f"{name}_buffer", "write"] = int(traffic[held, op.SRAM_WRITES].sum())
        return actions

    def variant(self, layer: Layer) -> Mapping[str, str]:
        """What silence saves, and of training the stage."""
        stage = {"stage": training.REPORTED_AS[layer.stage]} if isinstance(layer, training.Stage) else {}
        return {"sparsity": self.config.scheduler.sparsity, **stage}

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Additions of a weight, zero or not, for a spike; of training also products of a gradient and a weight,
        additions of a gradient for a spike, and none where the gradients of potentials are found."""
        return 0 if stage_of(layer) == "potential_gradient" else int(counts[ADDED])

    def working_cycles(
        self, layer: Layer, program: Program, counts: NDArray[np.int64], times: NDArray[np.int64]
    ) -> int:
        """A PE works in the cycles in which it adds, multiplies, or finds the gradient of a potential; gated, it does
        not."""
        finds_gradients = stage_of(layer) == "potential_gradient"
        return layer.m * layer.n * layer.timesteps if finds_gradients else int(counts[ADDED])

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """Every weight, potential, gradient, and the spikes that any position sees, once, as the stage needs them."""
        bits, stage = self.config.training.gradient_bits, stage_of(layer)
        of = layer.of if isinstance(layer, training.Stage) else layer
        neurons, weights = of.m * of.n * of.timesteps, of.n * of.k * self.config.pe.weight_bits
        if stage == "potential_gradient":
            return neurons * (bits + self.config.membrane.bits) // 8
        if stage == "backward":
            return weights // 8
        where = training.spike_map(geometry := Geometry.of(of, self.config.pe.rows))
        seen = 1
        for axis, size in ((1, geometry.height), (2, geometry.width)):
            places = np.unique(where.rows[:, axis])[:, None] + np.unique(where.steps[:, axis])
            inputs, between = np.divmod(places, where.dilation[axis - 1])
            seen *= np.unique(inputs[(between == 0) & (inputs >= 0) & (inputs < size)]).size
        spikes = of.m * of.k if geometry.linear else geometry.images * geometry.channels * seen
        gradients = neurons * bits if stage == "update" else 0
        return (weights + spikes * of.timesteps + gradients) // 8
