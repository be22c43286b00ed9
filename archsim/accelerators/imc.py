"""imc: networks with and without spikes, transformers among them, on analog crossbar arrays, all layers at once.

The chip, its agents and their network are those of :mod:`archsim.dataflow.crossbar_chip`; arrays and converters, with
all that they do to a product, those of :mod:`archsim.hardware.analog.product`. A conversion is that of a pair of
columns, or of a column and its reference.

Inputs are spikes, or integers whose bits are driven one after the other, ``analog.driver_bits`` at a time: a position
takes b = ceil(input bits / driver bits) rounds of read, conversion and shift-add, which overlap if ``pe.in_flight``
lets them. Where all three take t cycles, a position takes t (b + 3 - 1): PUMA's formula (src/ima.py: at 100 ns a stage
an input of 16 bits takes 1,800 ns). A conversion takes ``timing.conversion_cycles``, or with ``sar`` one cycle per
bit and one to sample.

A product of two matrices (``matmul``) has the second one in arrays of its own. A *writer* of every tile waits for its
rows, then writes row after row of the arrays, a part of which every column block holds:

    cycles of a row = ceil(column blocks / write.arrays) x ceil(pulses x pulse_ns x clock)

With K, whose values stand in columns (contraction over channels), all of it must have come before the first row is
written; rows of V (contraction over tokens) are written as they come. The product begins when the matrix is written,
and the next map's (of an image and timestep) is not written before the last read of this one's. Every write wears the
cells.

What arrays do not compute, digital units of the neuron modules do, row by row of a map of width W and C channels, on
``digital.lanes`` lanes that work on one value per cycle:

    add, ...    ceil(C W k / lanes)                                   sum, and requantisation behind it
    softmax     W (3 ceil(C / lanes) + divide_cycles)                 largest; exponentials, their sum; shares
    layer_norm  W (3 ceil(C / lanes) + root_cycles + divide_cycles)   sum; squares; scaled deviations

So are products element by element, upsamplings and rearrangements, with k = 1 as of a sum of whole maps; of a pool that
adds, or a sum over channels or positions, k values make one. Neurons behind any of them take ceil(C W / neuron lanes) x
neuron.cycles more. Sums of arrays are requantised in the neuron modules, as neurons are updated:
ceil(outputs / lanes) x neuron.cycles.

Sources are in the hardware files, what differs from published machines in ``DEVIATIONS.md``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.analog_network.network import AnalogNetwork, matrices_per_image
from archsim.compress import bitmask, packed_time
from archsim.dataflow.base import ON_LANES, HardwareConfig, Progress
from archsim.dataflow.crossbar_chip import Arrays, ChipConfig, ChipScheduler, DigitalUnit
from archsim.dataflow.crossbar_function import Computed, exact_currents
from archsim.dataflow.crossbar_machine import CrossbarMachine, accuracies, labels_of, reads_out
from archsim.dataflow.crossbar_mapping import map_layer
from archsim.dataflow.layer import WEIGHTED, Layer
from archsim.dataflow.pipeline import MAX_STORED_BITS, ON_ARRAYS, Stage, is_signed, value_bits
from archsim.hardware.analog.cache import default_folder
from archsim.hardware.analog.crossbar_array import cut_rows
from archsim.hardware.analog.product import Product, ProductConfig
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block, CrossFieldError
from archsim.trace import Operation, Trace
from archsim.trace.resimulation import predict
from archsim.trace.schema import MAX_TIMESTEPS

MAX_EXACT_INPUT_BITS = 32
"""Of an input of an array without effects; with them it is a word of 16 bits."""
Parameters = dict[str, int | float | str]


class TimingBlock(Block):
    """How long a read takes."""

    drive_cycles: int = Field(ge=0, le=10_000, description="cycles to drive the rows")
    settle_cycles: int = Field(ge=1, le=10_000, description="cycles until the columns' currents are held")
    conversion_cycles: Annotated[int, Field(ge=1, le=10_000)] | Literal["sar"] = Field(
        description="cycles of a conversion; sar: one cycle per bit of the converter and one to sample"
    )


class WriteBlock(Block):
    """Drivers that write matrices into arrays at run time."""

    arrays: int = Field(ge=1, le=4096, description="arrays of a tile in which a row is written at once")


class DigitalBlock(Block):
    """Digital units of the neuron modules: softmax, layer norm, sums that are requantised."""

    lanes: int = Field(ge=1, le=4096, description="values that a unit works on at once")
    divide_cycles: int = Field(ge=0, le=1024, description="cycles until the first quotient is there")
    root_cycles: int = Field(ge=0, le=1024, description="cycles of a square root")
    row_buffer: int = Field(ge=1, le=64, description="rows of each of its inputs that a unit has room for")


class ImcScheduler(ChipScheduler):
    """Order of the work, and how much of it."""

    first_timesteps: Annotated[int, Field(ge=1, le=MAX_TIMESTEPS)] | Literal["all"] = Field(
        description="timesteps after which a spiking network stops: those of the trace, or the first ones"
    )


class ImcConfig(ChipConfig):
    """A chip of analog crossbar arrays."""

    accelerator: Literal["imc"] = Field(description="which machine this file describes")
    analog: ProductConfig = Field(description="arrays and converters")
    timing: TimingBlock = Field(description="how long a read takes")
    write: WriteBlock = Field(description="drivers that write matrices at run time")
    digital: DigitalBlock = Field(description="digital units of the neuron modules")
    scheduler: ImcScheduler = Field(description="order of the work")
    evaluation_images: int = Field(
        ge=1, le=1_000_000, description="images of the trace's evaluation set that accuracy is found with, at most"
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        problems = self.module_problems()
        if not self.analog.weights_per_array(self.pe.weight_bits):
            problems["analog.columns"] = f"must hold a weight of {self.pe.weight_bits} bits"
        if problems:
            raise CrossFieldError(problems)
        return self

    @property
    def adc_bits(self) -> int:
        """Bits of a converter; a lossless one has a code for every sum that can be."""
        analog = self.analog
        if analog.adc.bits != "lossless":
            return analog.adc.bits
        most = analog.rows * ((1 << analog.driver_bits) - 1) * ((1 << analog.cells.device.bits) - 1)
        return (2 * most if analog.signed == "differential" else most).bit_length()

    def weight_bits(self, stage: Stage) -> int:
        """Bits of what arrays hold of a layer: weights, or a matrix's values after the transform, with their sign."""
        if stage.kind != "matmul":
            return min(stage.weight_bits, self.pe.weight_bits)
        largest = (1 << stage.magnitude_bits) - 1
        top = largest + stage.written_sign
        kept = self.analog.dynamic.transformed(np.array(largest), top, self.analog.cells.device)
        return max(2, 1 + int(kept).bit_length())

    def unit(self, stage: Stage) -> Arrays | DigitalUnit:
        """Arrays for products with weights and of matrices, else a digital unit."""
        return self.arrays(stage) if stage.on_arrays else self._digital_unit(stage)

    def arrays(self, stage: Stage) -> Arrays:
        """A conversion a slice; a weight has two cells a slice, or one and its share of the references. All pulses of
        a write come one after the other."""
        analog, cycles = self.analog, self.timing.conversion_cycles
        bits = self.weight_bits(stage)
        slices, pairs = analog.slices(bits), analog.signed == "differential"
        return Arrays(
            rows=analog.rows,
            outputs=analog.weights_per_array(bits),
            conversions=slices,
            cells=2 * slices if pairs else slices,
            references=0 if pairs else slices,
            shared=analog.adc.columns,
            conversion_cycles=self.adc_bits + 1 if cycles == "sar" else cycles,
            driver_bits=analog.driver_bits,
            joined=False,
            written_at_once=self.write.arrays,
            write_cycles=math.ceil(analog.cells.device.write_ns(1) * self.clock_mhz / 1000),
        )

    def _digital_unit(self, stage: Stage) -> DigitalUnit:
        """The equations of the module; softmax and layer norm go through a row's values three times."""
        unit, values = self.digital, stage.outputs * stage.out_width
        if stage.kind not in ("softmax", "layer_norm"):
            cycles = -(-values * stage.combined // unit.lanes)
            fired = -(-values // self.neuron.lanes) * self.neuron.cycles * stage.fires
            return DigitalUnit(cycles + fired, values * stage.combined, unit.row_buffer)
        root = unit.root_cycles if stage.kind == "layer_norm" else 0
        cycles = stage.out_width * (3 * -(-stage.outputs // unit.lanes) + root + unit.divide_cycles)
        return DigitalUnit(cycles, 3 * values, unit.row_buffer)

    @property
    def read_cycles(self) -> int:
        """Cycles to drive rows and to let columns settle."""
        return self.timing.drive_cycles + self.timing.settle_cycles

    @property
    def settle_s(self) -> float:
        """Time in which cells conduct in a read."""
        return self.timing.settle_cycles / (self.clock_mhz * 1e6)


class Imc(CrossbarMachine):
    """Analog crossbar arrays for CNNs, spiking networks and transformers, with what devices and circuits do to them."""

    name: ClassVar[str] = "imc"
    Config: ClassVar[type[HardwareConfig]] = ImcConfig
    config: ImcConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.context = self.config.analog.findings()
        self._made: AnalogNetwork | None = None

    @property
    def exact(self) -> bool:
        """Whether cells, wires and converters lose nothing."""
        return self.config.analog.exact

    def inventory(self) -> Sequence[Component]:
        """Tiles with all that is in them, neuron modules, the network."""
        config, memory = self.config, self.config.memory.cache
        analog, device, tile = config.analog, config.analog.cells.device, config.tile
        arrays = config.built_arrays
        conversions = analog.weights_per_array(config.pe.weight_bits) * analog.slices(config.pe.weight_bits)
        converters = arrays * -(-conversions // analog.adc.columns)
        middle = (device.g_on + device.g_off) / 2
        cells: Parameters = {
            "block": f"{device.kind}_array", "rows": analog.rows, "columns": analog.columns,
            "cell_read_pj": device.read.voltage_v**2 * middle * config.settle_s * 1e12,
        }  # fmt: skip
        writers: Parameters = {
            "block": "write_driver", "columns": analog.columns, "pulse_pj": device.pulse_pj(middle),
        }  # fmt: skip
        size: Parameters = {
            "capacity_bytes": memory.size_kib * 1024 // memory.banks, "width_bits": memory.width_bits, "ports": "1rw",
            "access_cycles": memory.access_cycles,
        }  # fmt: skip
        lanes = config.neuron.modules * config.neuron.lanes
        return (
            Component("array", "logic", arrays, cells),
            Component("row_driver", "logic", arrays * analog.rows, {"block": "row_driver"}),
            Component("write_driver", "logic", config.tiles * config.write.arrays, writers),
            Component("adc", "adc", converters, {"adc_bits": config.adc_bits}),
            Component("shift_add", "logic", converters, {"block": "shift_add"}),
            ram("tile_buffer", config.tiles, -(-tile.buffer_bits // 8), tile.buffer_width_bits),
            Component("h_tree", "logic", config.tiles * (config.pe.arrays * tile.pes), {"block": "adder"}),
            Component("lif", "logic", lanes, {"block": "lif", "membrane_bits": config.neuron.membrane_bits}),
            Component("digital", "logic", config.neuron.modules * config.digital.lanes, {"block": "digital_lane"}),
            Component("membrane_sram", "sram", memory.banks, size),
            Component("router", "router", config.nodes, {"flit_bits": config.noc.flit_bits}),
            Component("dram", "dram", 1, {}),
        )

    @property
    def processing_elements(self) -> int:
        """Cells of all arrays, references among them, and lanes of the digital units. A cell works while its row is
        driven and its column settles."""
        config, analog = self.config, self.config.analog
        return config.built_arrays * analog.rows * analog.columns + config.neuron.modules * config.digital.lanes

    # What it runs.

    def visible_trace(self, trace: Trace) -> Trace:
        """The first timesteps of the trace."""
        first = self.config.scheduler.first_timesteps
        return trace if first == "all" else trace.select(timesteps=first)

    def simulates(self, trace: Trace, operation: Operation) -> bool:
        """With an encoder everything. Without, layers with weights that read spikes or, without neurons, integers;
        products of matrices of integers; what digital units compute. The direct encoder of a spiking network then runs
        elsewhere, as for all machines."""
        if self.takes_integers:
            return operation.op in (*ON_ARRAYS, *ON_LANES)
        kinds = {trace.kind(name) for name in operation.inputs}
        if operation.op in WEIGHTED:
            return kinds == {"spike"} or (kinds == {"int"} and operation.neuron is None and trace.timesteps == 1)
        if kinds != {"int"} or trace.timesteps > 1:
            return False
        if operation.op in ("matmul", "add"):
            return operation.requantiser is not None
        return operation.op in ("softmax", "layer_norm")

    @property
    def runs(self) -> str:
        """With an encoder all networks; else of spiking ones what all machines run, of others what is integers."""
        return "all operations" if self.takes_integers else "layers that read spikes, or at T = 1 integers"

    def why_skipped(self, trace: Trace, operation: Operation) -> str:
        """Why ``operation`` is not simulated."""
        reason = super().why_skipped(trace, operation)
        digital = operation.op in ("matmul", "softmax", "layer_norm") or (
            operation.op == "add" and operation.neuron is None
        )
        digital = digital and not self.takes_integers
        return f"{reason}, which {self.name} computes at T = 1 with integers and a requantiser only" * digital or reason

    def unsupported(self, trace: Trace) -> Sequence[str]:
        """A network that does not fit the chip; weights that cells, inputs that drivers cannot take."""
        problems = list(super().unsupported(trace))
        analog, layers = self.config.analog, self.layers(trace)
        lowest = {layer.name: analog.weight_range(layer.weight_bits)[0] for layer in layers if layer.op in WEIGHTED}
        full = [layer.name for layer in layers if layer.name in lowest and np.any(_weight(layer) < lowest[layer.name])]
        if full:
            told = f"weights from {min(lowest[name] for name in full)} on, {', '.join(full)} has lower ones"
            problems.append(f"analog.signed: {analog.signed} holds {told}; allowed: offset_column")
        signed = [layer.name for layer in layers if layer.op in ON_ARRAYS and is_signed(trace, layer.inputs[0])]
        if signed and analog.driver_bits > 1:
            problems.append(
                f"analog.driver_bits: inputs with a sign are driven bit by bit, those of {', '.join(signed)} have one, "
                f"got {analog.driver_bits}; allowed: 1"
            )
        for most, place in ((MAX_EXACT_INPUT_BITS if self.exact else MAX_STORED_BITS, 0), (MAX_STORED_BITS, 1)):
            read = {
                op.name: value_bits(trace, op.inputs[place])
                for op in layers
                if len(op.inputs) > place and op.op in ON_ARRAYS
            }
            wide = [f"{name} {bits}" for name, bits in read.items() if bits > most]
            if wide:
                what = ("inputs of arrays", "matrices that are written")[place]
                problems.append(f"analog: {what} have at most {most} bits, got {', '.join(wide)}")
        return problems

    # What it computes.

    def prepare(self, trace: Trace, operations: Sequence[Operation], verify: bool, progress: Progress | None) -> None:
        """As for every chip; the arrays are programmed, which may take minutes."""
        super().prepare(trace, operations, verify, progress)
        if verify and not self.exact and any(operation.op in ON_ARRAYS for operation in operations):
            self._network(trace, progress)

    def computed(self, trace: Trace, operation: Operation, verify: bool) -> Computed:
        """Arrays with effects are read only to be compared: what they make changes no cycle."""
        if self.exact or verify or operation.op not in ON_ARRAYS:
            return super().computed(trace, operation, verify)
        return Computed(None, {"sum_overflows": 0, "membrane_overflows": 0})

    def currents(self, trace: Trace, operation: Operation) -> Iterator[NDArray[np.int64]]:
        """Arrays without any effect compute exactly."""
        if self.exact:
            yield from exact_currents(trace, operation)
        else:
            yield self._currents(trace, operation)

    def _currents(self, trace: Trace, operation: Operation) -> NDArray[np.int64]:
        """What arrays make of the trace's own inputs, batch by batch."""
        network, size = self._network(trace), self.config.analog.batch_images
        operands = [trace.operand(name) for name in operation.inputs]
        axes = [operand.ndim - len(shape) - 1 for operand, shape in zip(operands, operation.input_shapes, strict=True)]
        found = []
        for batch, first in enumerate(range(0, trace.images, size)):
            chosen = range(first, min(first + size, trace.images))
            parts = [np.take(operand, chosen, axis) for operand, axis in zip(operands, axes, strict=True)]
            found.append(network.currents(operation, parts, batch))
        return np.concatenate(found, axis=1)

    def network(self, trace: Trace, progress: Progress | None = None) -> AnalogNetwork:
        """The whole network on arrays that are programmed, not calibrated yet."""
        return AnalogNetwork(
            trace,
            self.config.analog,
            weight_bits=self.config.pe.weight_bits,
            on_arrays=[operation.name for operation in self.layers(trace) if operation.op in ON_ARRAYS],
            folder=default_folder(),
            progress=progress,
        )

    def _network(self, trace: Trace, progress: Progress | None = None) -> AnalogNetwork:
        """The whole network on arrays, calibrated."""
        if self._made is None or self._made.trace is not trace:
            self._made = self.network(trace, progress)
            self._made.calibrate()
        return self._made

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Sums of a layer by itself, calibrated on its own inputs; counts sums wider than a word of the network."""
        words, weight = packed_time.decode(layer.inputs, layer.k), bitmask.decode(layer.weights, layer.k)
        analog, kernel = self.config.analog, (1, 1) if layer.feature_map is None else layer.feature_map.window.kernel
        group = cut_rows(layer.k // math.prod(kernel), kernel, analog.rows)
        product = None
        if not self.exact:
            bits, negative = (1, False) if layer.operand == "spike" else (layer.word_bits, bool((words >> 15).any()))
            product = Product(
                weight, group, analog, weight_bits=layer.weight_bits, input_bits=bits, signed_inputs=negative, layer=0,
                folder=default_folder(),
            )  # fmt: skip
            if analog.calibrates:
                product.calibrate(np.concatenate(_steps(layer, words)))
        for t, values in enumerate(_steps(layer, words[first : first + len(sums)])):
            made = values.astype(np.float64) @ weight.T if product is None else product.multiply(values, t)
            sums[:, :, t] = np.floor(made + 0.5)
        return self.overflows(layer, sums, layer.bias, first)

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Everything but the memories; every conversion is shifted and added."""
        return {
            ("array", "row_read"): done["row_reads"],
            ("row_driver", "drive"): done["row_reads"],
            ("write_driver", "pulse"): done["cell_writes"] * self.config.analog.cells.device.write.pulses,
            ("adc", "convert"): done["conversions"],
            ("shift_add", "add"): done["conversions"],
            ("tile_buffer", "read"): done["fetches"],
            ("tile_buffer", "write"): done["buffer_writes"],
            ("h_tree", "add"): done["tree_words"],
            ("lif", "update"): done["updates"],
            ("lif", "add"): done["joined"],
            ("lif", "requantise"): done["scaled"],
            ("digital", "softmax"): done["softmax"],
            ("digital", "layer_norm"): done["normalised"],
            ("digital", "add"): done["added"],
            ("router", "flit"): done["flit_hops"],
        }

    def variant(self, layer: Layer) -> Mapping[str, str]:
        """When noise is drawn, as it decides results."""
        return {"noise": self.config.analog.cells.noise}

    def metrics(self, trace: Trace) -> Mapping[str, Any]:
        """How long written cells last, and what arrays do to the network's accuracy."""
        found: dict[str, Any] = {} if self.exact else {"exact": False}
        layers = self.layers(trace)
        matrices = {op.name: matrices_per_image(trace, op) for op in layers if op.op == "matmul"}
        if matrices:
            found["cell_writes_per_image"] = sum(
                matrices[stage.name] * self._written_cells(stage)
                for stage in self.stages(trace, layers)
                if stage.name in matrices
            )
            found["images_to_wear_out"] = self.config.analog.cells.device.lifetime(max(matrices.values()))
        return found | self._accuracies(trace)

    def _written_cells(self, stage: Stage) -> int:
        """Cells of arrays that hold a matrix which is written at run time."""
        arrays, mapping = self.config.arrays(stage), map_layer(self.config, stage)
        cells = stage.outputs // stage.groups * arrays.cells + mapping.blocks * arrays.references
        return stage.channels * cells

    @classmethod
    def finds_accuracy(cls, trace: Trace) -> bool:
        """With an evaluation set, or labels of the traced images."""
        return trace.evaluation is not None or (reads_out(trace) and labels_of(trace) is not None)

    def _accuracies(self, trace: Trace) -> dict[str, Any]:
        """Over the trace's evaluation images, or over the traced ones where it has none."""
        evaluation = trace.evaluation
        if evaluation is None:
            if not reads_out(trace):
                return {}
            last = trace.operations[-1].output
            names = (trace.pixels, *trace.constants)
            if self.exact:
                return accuracies(trace, trace.tensor(last))
            return accuracies(trace, self._network(trace).run({name: trace.operand(name) for name in names})[last])
        count = min(self.config.evaluation_images, len(evaluation))
        images, labels = evaluation.images[:count], evaluation.labels[:count]
        exact = predict(trace, images)
        made = exact if self.exact else self._network(trace).predict(images)
        return {
            "evaluated_images": count,
            "agreement": float((made == exact).mean()),
            "accuracy": float((made == labels).mean()),
            "exact_accuracy": float((exact == labels).mean()),
        }


def _weight(operation: Operation) -> NDArray[np.int8]:
    weight = operation.weight
    assert weight is not None, "convolutions and linear layers have weights"
    return weight


def _steps(layer: Layer, words: NDArray[np.uint16]) -> list[NDArray[Any]]:
    """``words`` [m, k] as inputs of a layer: spikes of every timestep, or integers."""
    if layer.operand == "spike":
        return [(words >> t & 1).astype(np.uint8) for t in range(layer.timesteps)]
    return [words.astype(np.int16)]
