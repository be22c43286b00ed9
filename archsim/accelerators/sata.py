"""SATA (Yin et al., TCAD 2022): an output-stationary array for inference and training of spiking networks.

Rows of the array are output positions, columns filters. A processing element (PE) has an AND, an adder, an accumulator
and a LIF neuron, and scratchpads for spikes, weights and partial sums: a weight is read once and stays for the
timesteps that pass, whose partial sums wait in the scratchpad. Where all T of them do not fit, timesteps come in spans
and weights are read again for each. Silent spikes (``scheduler.sparsity``)

    gating      save the energy of their additions and no cycle, as in SATA
    skipping    a pair of an input k and a timestep at which none of the rows spikes takes no cycle, and a weight that
                none of the rows needs is not read

The array, its loops, its closed form and its memory traffic are in :mod:`archsim.accelerators.buffered_array`. SATA_Sim
counts T (F (K + R + C - 2) - 1) cycles for the same F folds: it pays the skew in every timestep, where here timesteps
follow each other within a fold, and drops a cycle a timestep:

    SATA_Sim's T cyc_os  =  cycles of the array with gating  +  (T - 1) F (R + C - 2) - T

It also adds the cycles of a second, weight-stationary pass (cyc_ws), which counts the same additions twice and is left
out here.

Membrane potentials (``membrane.place``) of ``membrane.bits`` are kept between timesteps

    pe      in a register of the neuron: no traffic
    sram    in the potential buffer: read before and written behind every timestep but the first and the last
    dram    in DRAM, through the potential buffer

A potential or sum that does not fit its bits is counted as an overflow; outputs are exact in any case.

With ``pe.clocking: always`` all that SATA_Sim calls ungated is charged in every cycle, whether it works or not: AND,
adder, comparator, subtractor, scratchpads of spikes and partial sums of every PE.

Sources are in ``hwconfigs/sata.yaml``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.accelerators import buffered_array as array
from archsim.accelerators.base import Accelerator, Layer, MachineConfig, Program, ScheduledLayers, unit_times
from archsim.accelerators.folded_array import dense_words
from archsim.compress import bitmask
from archsim.engine.result import UnitTime
from archsim.hardware import operation as op
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.compute.systolic_array import add_in_order
from archsim.hardware.inventory import Component
from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.memory.buffers import BufferConfig, BufferedMemoryConfig, BuffersConfig
from archsim.jit import njit
from archsim.trace import Operation, Trace

# --- Configuration ----------------------------------------------------------------------------------------------------


class SataPe(Block):
    """Array of processing elements and what each of them holds."""

    rows: int = Field(ge=1, le=256, description="rows, an output position each")
    columns: int = Field(ge=1, le=256, description="columns, a filter each")
    weight_bits: int = Field(ge=2, le=16, description="bits of a weight, of the AND and of the adder")
    accumulator_bits: int = Field(ge=2, le=63, description="bits of an accumulator and of a partial sum, sign included")
    spike_bytes: int = Field(ge=1, le=4096, description="scratchpad of spikes, two halves")
    weight_bytes: int = Field(ge=1, le=4096, description="scratchpad of weights, two halves")
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

    def span(self, timesteps: int) -> int:
        """Timesteps of a fold: partial sums that fit, spikes of two steps."""
        return min(timesteps, self.psum_bytes * 8 // self.accumulator_bits, self.spike_bytes * 8 // 2)

    def steps(self, span: int) -> int:
        """Steps in one half of the scratchpads."""
        return min(self.weight_bytes * 8 // self.weight_bits, self.spike_bytes * 8 // span) // 2


class SataMembrane(Block):
    """Membrane potentials."""

    bits: int = Field(ge=2, le=63, description="bits of a potential, sign included")
    place: Literal["pe", "sram", "dram"] = Field(description="where potentials are between timesteps")


class SataScheduler(ScheduledLayers):
    """What silence saves."""

    sparsity: Literal["gating", "skipping"] = Field(description="silent spikes save energy only, or cycles too")


class SataBuffers(BuffersConfig):
    """Buffers, in the order of their windows."""

    weight: BufferConfig = Field(description="weights")
    input: BufferConfig = Field(description="input spikes")
    output: BufferConfig = Field(description="output spikes")
    potential: BufferConfig = Field(description="membrane potentials, where they are not in the PEs")


class SataMemory(BufferedMemoryConfig):
    """Buffers and DRAM."""

    buffers: SataBuffers = Field(description="scratchpad buffers, each for one operand")


class SataConfig(MachineConfig):
    """A SATA machine."""

    accelerator: Literal["sata"] = Field(description="which machine this file describes")
    pe: SataPe = Field(description="array and what its elements hold")
    neuron: LifConfig = Field(description="neurons, one a PE")
    membrane: SataMembrane = Field(description="membrane potentials")
    scheduler: SataScheduler = Field(description="order of the work")
    memory: SataMemory = Field(description="buffers and DRAM")  # type: ignore[assignment]

    @model_validator(mode="after")
    def _buffers_hold_a_tile(self) -> Self:
        buffers, pe, problems = self.memory.buffers, self.pe, {}
        elements = pe.rows * pe.columns
        least = {
            "weight": (-(-pe.columns * pe.weight_bits * pe.steps(1) // 8), "weights of half a scratchpad"),
            "input": (-(-pe.rows * pe.steps(1) // 8), "spikes of half a scratchpad"),
            "output": (-(-elements // 8), "spikes of the array"),
        }
        if self.membrane.place != "pe":
            least["potential"] = (-(-elements * self.membrane.bits // 8), "potentials of the array (membrane.place)")
        for name, (size, what) in least.items():
            size = max(size, buffers.line_bytes)
            if buffers.usable_bytes(name) < size:
                problems[f"memory.buffers.{name}.size_kib"] = (
                    f"too small for a tile: {buffers.usable_bytes(name)} bytes are usable, {what} need {size}"
                )
        if problems:
            raise CrossFieldError(problems)
        return self


# --- Where operands are -----------------------------------------------------------------------------------------------

TENSORS = INPUT, WEIGHT, OUTPUT, MEMBRANE = range(4)
NAMES = ("input", "weight", "output", "membrane")
BUFFERS = ("input", "weight", "output", "potential")
"""The buffer of each tensor."""


class Geometry(NamedTuple):
    """A convolution without its data. A linear layer is one of images of one row, R positions beside each other."""

    m: int
    images: int
    channels: int
    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


def linear_geometry(m: int, k: int, rows: int) -> Geometry:
    """Of a linear layer."""
    width = min(rows, m)
    return Geometry(m, -(-m // width), k, 1, width, (1, 1), (1, 1), (0, 0))


def geometry_of(layer: Layer, rows: int) -> Geometry:
    """Of a layer."""
    shape = layer.feature_map
    if shape is None:
        return linear_geometry(layer.m, layer.k, rows)
    images, channels, height, width = shape.words.shape
    return Geometry(layer.m, images, channels, height, width, shape.kernel, shape.stride, shape.padding)


def spike_map(shape: Geometry) -> array.Map:
    """Input spikes as they are stored: line by line of every image, channel by channel, pixel by pixel."""
    (kh, kw), channels, height, width = shape.kernel, shape.channels, shape.height, shape.width
    out = [
        (size + 2 * padding - kernel) // stride + 1
        for size, padding, kernel, stride in zip(
            (height, width), shape.padding, shape.kernel, shape.stride, strict=True
        )
    ]
    image, y, x = np.indices((shape.images, *out)).reshape(3, -1)[:, : shape.m]
    positions = np.stack(
        [image, y * shape.stride[0] - shape.padding[0], x * shape.stride[1] - shape.padding[1], 0 * x], axis=1
    )
    channel, ky, kx = np.indices((channels, kh, kw)).reshape(3, -1)
    steps = np.stack([0 * kx, ky, kx, channel], axis=1)
    strides = np.array([height * channels * width, channels * width, 1, width])
    return array.Map(positions, steps, height, width, 1, strides, channels * width)


def tile_bytes(shape: Geometry, rows: int, timesteps: int) -> int:
    """Bytes of the input lines that R neighbouring positions need, at most."""
    where = spike_map(shape)
    lines = where.rows[:, 0] * shape.height
    low = lines + where.rows[:, 1].clip(0)
    high = lines + (where.rows[:, 1] + shape.kernel[0] - 1).clip(None, shape.height - 1)
    groups = np.arange(0, shape.m, rows)
    most = int((np.maximum.reduceat(high, groups) - np.minimum.reduceat(low, groups)).max()) + 1
    return -(-most * where.unit * timesteps // 8)


@njit
def count_overflows(sums: Any, bias: Any, threshold: Any, fraction_bits: int, leak_shift: int, soft_reset: bool,
                    bits: int) -> int:  # fmt: skip
    """Potentials behind a timestep, of full sums int64 [rows, N, T], that do not fit ``bits``."""
    limit, overflows = 1 << (bits - 1), 0
    for row in range(sums.shape[0]):
        for n in range(sums.shape[1]):
            potential = 0
            for t in range(sums.shape[2]):
                potential += (sums[row, n, t] + bias[n]) << fraction_bits
                if potential > threshold[n] << fraction_bits:
                    potential = potential - (threshold[n] << fraction_bits) if soft_reset else 0
                else:
                    potential >>= leak_shift
                overflows += int(not -limit <= potential < limit)
    return overflows


# --- The machine ------------------------------------------------------------------------------------------------------


class Sata(Accelerator):
    """SATA (TCAD 2022): output-stationary array, weights kept across timesteps, spikes that gate or skip."""

    name: ClassVar[str] = "sata"
    Config: ClassVar[type[MachineConfig]] = SataConfig
    config: SataConfig
    tensors: ClassVar[tuple[str, ...]] = NAMES
    actions: ClassVar[int] = array.ACTIONS
    step: ClassVar[Any] = array.step
    loop: ClassVar[Any] = array.loop

    @property
    def sum_bits(self) -> int:
        """An accumulator holds the full sum of a timestep."""
        return self.config.pe.accumulator_bits

    def inventory(self) -> Sequence[Component]:
        """PEs, their neurons and scratchpads, the buffers that are built, DRAM."""
        pe, buffers, bits = self.config.pe, self.config.memory.buffers, self.config.membrane.bits
        elements, always = pe.rows * pe.columns, "_always" if pe.clocking == "always" else ""
        scratchpad_bits: dict[str, int] = {
            name: 8 * getattr(pe, f"{name}_bytes") for name in ("spike", "weight", "psum")
        }
        held: dict[str, int | float | str] = {
            "block": f"sata_neuron{always}",
            "sum_bits": pe.accumulator_bits,
            "membrane_bits": bits,
        }
        if self.config.membrane.place != "pe":
            held["block"] = f"sata_neuron_outside{always}"
        return (
            Component(
                "pe", "logic", elements,
                {"block": f"sata_pe{always}", "weight_bits": pe.weight_bits, "sum_bits": pe.accumulator_bits},
            ),
            Component("lif", "logic", elements, held),
            Component(
                "scratchpad", "logic", elements,
                {
                    "block": f"sata_scratchpad{always}", "weight_bits": pe.weight_bits,
                    "sum_bits": pe.accumulator_bits, "clocked_bits": scratchpad_bits["spike"] + scratchpad_bits["psum"],
                    "bits": sum(scratchpad_bits.values()),
                },
            ),
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

    def refuses(self, trace: Trace) -> Sequence[str]:
        """Layers of which no tile fits a buffer."""
        return [problem for operation in self.layers(trace) for problem in self._too_large(trace, operation)]

    def _too_large(self, trace: Trace, operation: Operation) -> Sequence[str]:
        rows, room = self.config.pe.rows, self.config.memory.buffers.usable_bytes("input")
        shape = trace.tensor(operation.inputs[0]).shape[1:]
        if operation.op == "linear":
            geometry = linear_geometry(shape[0], operation.k, rows)
        else:
            images, channels, height, width = shape
            m = images * math.prod(operation.output_shape[-2:])
            how = (operation.kernel, operation.stride, operation.padding)
            geometry = Geometry(m, images, channels, height, width, *how)
        needed = tile_bytes(geometry, rows, trace.timesteps)
        if needed <= room:
            return ()
        return (
            f"memory.buffers.input.size_kib: {room} bytes are usable, a tile of layer {operation.name} needs {needed};"
            f" --set memory.buffers.input.size_kib={-(-needed * self._halves // 1024)} builds a machine that can",
        )

    @property
    def _halves(self) -> int:
        return 2 if self.config.memory.buffers.double_buffer else 1

    def add_up(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Weights of the inputs that spike, input by input; counts sums and potentials that do not fit."""
        weights = np.ascontiguousarray(bitmask.decode(layer.weights, layer.k).T, np.int64)
        overflows = add_in_order(
            dense_words(layer, first, len(sums)), weights, np.arange(layer.k), np.zeros(1, np.int64),
            np.array([layer.k]), layer.m, layer.timesteps, 1, self.config.pe.accumulator_bits, first, sums,
        )  # fmt: skip
        events = {"accumulator_overflows": int(overflows), "membrane_overflows": 0}
        if layer.neuron is not None:
            neuron = layer.neuron
            events["membrane_overflows"] = int(count_overflows(
                sums, layer.bias, np.ascontiguousarray(neuron.threshold, np.int64), neuron.fraction_bits,
                neuron.leak_shift, neuron.reset == "soft", self.config.membrane.bits,
            ))  # fmt: skip
        return events

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """One bit for each neuron and timestep, as the next layer reads it."""
        return np.full(layer.m, -(-layer.n * layer.timesteps // 8))

    def program(self, layer: Layer, output_bytes: NDArray[np.int64]) -> Program:
        """The layer as folds."""
        return array.lay_out(self.work(layer), self.shape(layer.timesteps))

    def work(self, layer: Layer) -> array.Work:
        """What a layer does in inference."""
        fires = layer.neuron is not None or layer.expected is None
        return array.Work(
            row_words=dense_words(layer, 0, layer.m),
            column_words=None,
            map=spike_map(geometry_of(layer, self.config.pe.rows)),
            n=layer.n,
            timesteps=layer.timesteps,
            row_bits=1,
            column_bits=self.config.pe.weight_bits,
            output_bits=1 if fires else 8 * -(-self.sum_bits // 8),
            accumulates_time=False,
            outside=("pe", "sram", "dram").index(self.config.membrane.place) if fires else 0,
            kept=False,
            potential_bits=self.config.membrane.bits,
        )

    def shape(self, timesteps: int) -> array.Shape:
        """The array for a layer of ``timesteps``."""
        config, buffers = self.config, self.config.memory.buffers
        span = config.pe.span(timesteps)
        return array.Shape(
            rows=config.pe.rows,
            columns=config.pe.columns,
            span=span,
            steps=config.pe.steps(span),
            skips=config.scheduler.sparsity == "skipping",
            ideal=config.memory.ideal,
            banks=buffers.banks,
            width_bits=buffers.width_bits,
            line_bytes=buffers.line_bytes,
            fetch_lines=min(16, buffers.fetches),
            output_buffer=config.pe.output_buffer,
            fire=config.neuron.cycles,
            row_buffer=buffers.usable_bytes("input"),
            column_buffer=buffers.usable_bytes("weight"),
            lines=[buffers.first_line(name) for name in BUFFERS],
            tensors=list(TENSORS),
        )

    def count_actions(
        self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Additions, neurons, and words in and out of scratchpads; what is not needed is not counted."""
        fires = layer.neuron is not None or layer.expected is None
        added = int(counts[array.ADDS])
        return {
            ("pe", "add"): added,
            ("lif", "update"): int(counts[array.SUMS_FINISHED]) if fires else 0,
            ("scratchpad", "spike_write"): int(counts[array.ROW_ENTRIES]),
            ("scratchpad", "spike_read"): int(counts[array.PAIRS]),
            ("scratchpad", "weight_write"): int(counts[array.COLUMN_ENTRIES]),
            ("scratchpad", "weight_read"): added,
            ("scratchpad", "psum_read"): added + int(counts[array.SUMS_FINISHED]),
            ("scratchpad", "psum_write"): added,
        }

    def memory_actions(self, traffic: NDArray[np.int64]) -> dict[tuple[str, str], int]:
        """Accesses of each buffer that is built, bits over the pins of DRAM."""
        line_bits = self.config.memory.line_bytes * 8
        actions = {
            ("dram", "read_bits"): int(traffic[:, op.DRAM_READ_LINES].sum()) * line_bits,
            ("dram", "write_bits"): int(traffic[:, op.DRAM_WRITE_LINES].sum()) * line_bits,
        }
        for tensor, name in enumerate(BUFFERS):
            if self.config.memory.buffers.size_bytes(name):
                actions[f"{name}_buffer", "read"] = int(traffic[tensor, op.SRAM_READS])
                actions[f"{name}_buffer", "write"] = int(traffic[tensor, op.SRAM_WRITES])
        return actions

    def variant(self, layer: Layer) -> Mapping[str, str]:
        """What silent spikes save."""
        return {"sparsity": self.config.scheduler.sparsity}

    def unit_times(self, program: Program, times: NDArray[np.int64], cycles: int) -> tuple[UnitTime, ...]:
        """The agents, and each PE: busy in cycles in which it adds, stalled with the array, else idle."""
        rows = list(unit_times(program.units, times, cycles))
        stalled = rows[array.ARRAY].stall_cycles
        rows += [
            UnitTime("pe", number, useful, stalled, cycles - useful - stalled)
            for number, useful in enumerate(program.operands.useful.ravel().tolist())
        ]
        return tuple(rows)

    def matches(self, counts: NDArray[np.int64]) -> int:
        """Additions: of a weight and a spike."""
        return int(counts[array.ADDS])

    def lower_bound(self, layer: Layer, program: Program, matches: int) -> int:
        """All PEs add in every cycle."""
        return -(-matches // (self.config.pe.rows * self.config.pe.columns))

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """Every weight, and once the spikes that any position sees."""
        where = spike_map(geometry := geometry_of(layer, self.config.pe.rows))
        seen = 1
        for axis, size in ((1, geometry.height), (2, geometry.width)):
            places = np.unique(where.rows[:, axis])[:, None] + np.unique(where.steps[:, axis])
            seen *= np.unique(places[(places >= 0) & (places < size)]).size
        spikes = layer.m * layer.k if layer.feature_map is None else geometry.images * geometry.channels * seen
        return (layer.n * layer.k * self.config.pe.weight_bits + spikes * layer.timesteps) // 8
