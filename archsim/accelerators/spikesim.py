"""SpikeSim: a spiking network on crossbar arrays, all layers at once (Moitra et al., TCAD 2023, arXiv 2210.12899).

The chip, its agents and their network are those of :mod:`archsim.dataflow.crossbar_chip`; this file says what the
machine computes and what it is built of.

A layer's outputs are computed as the arrays and converters do (:mod:`archsim.hardware.analog`). With lossless
converters they equal the integer network's, bit for bit. With less the chip is lossy, and what that does to the network
on the images of the trace is told too (:mod:`archsim.dataflow.crossbar_machine`).

Sources are in ``hwconfigs/spikesim.yaml``, what differs from the published tool in ``DEVIATIONS.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.compress import bitmask, packed_time
from archsim.dataflow.base import HardwareConfig
from archsim.dataflow.crossbar_chip import Arrays, ChipConfig
from archsim.dataflow.crossbar_machine import CrossbarMachine, accuracies, labels_of, reads_out
from archsim.dataflow.layer import Layer
from archsim.dataflow.pipeline import Stage
from archsim.hardware.analog.adc import AdcConfig
from archsim.hardware.analog.crossbar_array import CrossbarArrayConfig, cut_rows, product, program_cells
from archsim.hardware.inventory import Component
from archsim.hardware.loading import CrossFieldError
from archsim.trace import Operation, Trace
from archsim.trace.neurons import fire
from archsim.trace.resimulation import compute


class SpikeSimConfig(ChipConfig):
    """A SpikeSim machine."""

    accelerator: Literal["spikesim"] = Field(description="which machine this file describes")
    array: CrossbarArrayConfig = Field(description="crossbar arrays")
    adc: AdcConfig = Field(description="converters behind the columns")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        problems = {}
        if self.array.columns % self.adc.columns:
            problems["adc.columns"] = f"must divide the {self.array.columns} columns of an array"
        if self.columns_per_weight > self.array.columns:
            problems["array.columns"] = f"must hold a weight, which takes {self.columns_per_weight} columns"
        problems |= self.module_problems()
        if problems:
            raise CrossFieldError(problems)
        return self

    @property
    def columns_per_weight(self) -> int:
        """Columns that a weight takes."""
        return self.array.columns_per_weight(self.pe.weight_bits)

    @property
    def full_scale(self) -> int:
        """The largest sum that a converter can see."""
        return self.array.full_scale * (self.pe.arrays if self.adc.per == "pe" else 1)

    def unit(self, stage: Stage) -> Arrays:
        """Every column of a weight is converted by itself; rows are driven or not."""
        columns = self.columns_per_weight
        return Arrays(
            rows=self.array.rows,
            outputs=self.array.columns // columns,
            conversions=columns,
            cells=columns,
            references=0,
            shared=self.adc.columns,
            conversion_cycles=self.adc.conversion_cycles,
            driver_bits=1,
            joined=self.adc.per == "pe",
        )

    @property
    def read_cycles(self) -> int:
        """Cycles to drive rows and to hold columns."""
        return self.array.drive_cycles + self.array.read_cycles


class SpikeSim(CrossbarMachine):
    """SpikeSim (TCAD 2023): crossbar arrays that hold the whole network, layers as a pipeline."""

    name: ClassVar[str] = "spikesim"
    Config: ClassVar[type[HardwareConfig]] = SpikeSimConfig
    config: SpikeSimConfig

    @property
    def exact(self) -> bool:
        """Whether the converters lose nothing."""
        return self.config.adc.is_lossless(self.config.full_scale)

    def inventory(self) -> Sequence[Component]:
        """Tiles with all that is in them, neuron modules, the network."""
        config = self.config
        array, adc, tile, memory = config.array, config.adc, config.tile, config.memory.cache
        arrays = config.built_arrays
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
            Component("router", "router", config.nodes, {"flit_bits": config.noc.flit_bits}),
            Component("dram", "dram", 1, {}),
        )

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Everything but the memories; every conversion is shifted and added."""
        return {
            ("array", "read"): done["reads"],
            ("adc", "convert"): done["conversions"],
            ("shift_add", "add"): done["conversions"],
            ("temp_buffer", "access"): done["windows"],
            ("tile_buffer", "read"): done["windows"],
            ("tile_buffer", "write"): done["buffer_writes"],
            ("h_tree", "transfer"): done["tree_words"],
            ("lif", "update"): done["updates"],
            ("lif", "add"): done["joined"],
            ("router", "flit"): done["flit_hops"],
        }

    @property
    def processing_elements(self) -> int:
        """Cells of all arrays; one works while its row is driven by a spike and its column is read."""
        array = self.config.array
        return self.config.built_arrays * array.rows * array.columns

    # What it computes.

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Column sums, array by array, as the converters see them, shifted and added; counts sums wider than a word of
        the network and potentials wider than their memory."""
        words = packed_time.decode(layer.inputs, layer.k)
        weight = bitmask.decode(layer.weights, layer.k)
        found = layer.feature_map
        kernel = (1, 1) if found is None else found.window.kernel
        self._products(words[first : first + len(sums)], words, weight, kernel, sums)
        return self.overflows(layer, sums, layer.bias, first)

    def _products(
        self,
        words: NDArray[np.uint16],
        recorded: NDArray[np.uint16],
        weight: NDArray[Any],
        kernel: tuple[int, int],
        sums: NDArray[np.int64],
    ) -> None:
        """Products of ``words`` and ``weight`` into ``sums``; converters are calibrated on ``recorded`` words."""
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
            largest = product(recorded, group, cells, config.full_scale, config.full_scale, everything)
        product(words, group, cells, adc.span(config.full_scale, largest), top, sums)

    def metrics(self, trace: Trace) -> Mapping[str, Any]:
        """What lossy converters do to the network."""
        if self.exact or not reads_out(trace):
            return {} if self.exact else {"exact": False}
        return {"exact": False, **accuracies(trace, self._network(trace)[trace.operations[-1].output])}

    @classmethod
    def finds_accuracy(cls, trace: Trace) -> bool:
        """With labels of the traced images, and lossy converters."""
        return reads_out(trace) and labels_of(trace) is not None

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
        self._products(rows, _rows(operation, recorded), weight.reshape(operation.n, -1), operation.window.kernel, sums)
        if operation.bias is not None:
            sums += operation.bias[:, None]
        currents = sums.reshape(operation.images, -1, operation.n, len(spikes)).transpose(3, 0, 2, 1)
        return np.ascontiguousarray(currents).reshape(len(spikes), operation.images, *operation.output_shape)

    def unsupported(self, trace: Trace) -> Sequence[str]:
        """A network that does not fit the chip; weights that the cells cannot hold."""
        problems = list(super().unsupported(trace))
        lowest = -(1 << (self.config.pe.weight_bits - 1))
        if self.config.array.signed == "difference":
            full = [layer.name for layer in self.layers(trace) if np.any(layer.weight == lowest)]
            if full:
                problems.append(
                    f"array.signed: difference holds weights from {lowest + 1} on, {', '.join(full)} has {lowest}; "
                    "allowed: offset"
                )
        return problems


def _rows(operation: Operation, spikes: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Spikes [T, I, ...] as the rows of packed words [M, K] of a layer."""
    words = packed_time.pack_timesteps(spikes)
    if operation.op == "conv2d":
        return operation.window.unroll(words)
    return words.reshape(-1, operation.k)
