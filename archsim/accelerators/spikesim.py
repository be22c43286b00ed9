"""SpikeSim: a spiking network on crossbar arrays, all layers at once (Moitra et al., TCAD 2023, arXiv 2210.12899).

The chip, its agents and their network are those of :mod:`archsim.dataflow.crossbar_chip`; this file says what the
machine computes and what it is built of.

A layer's outputs are computed as the arrays and converters do (:mod:`archsim.hardware.analog`). With lossless
converters they equal the integer network's, bit for bit. With less the chip is lossy, and what that does to the network
on the images of the trace is told too (:mod:`archsim.dataflow.crossbar_machine`).

What has no weights is a matter of the neuron modules' lanes: a row of a map of width W and C channels, each value of
which is made of k, takes ``ceil(C W k / lanes)`` rounds, and ``ceil(C W / lanes)`` more where neurons fire.

Sources are in ``hwconfigs/spikesim.yaml``, what differs from the published tool in ``DEVIATIONS.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.compress import bitmask, packed_time
from archsim.dataflow.base import ON_LANES, HardwareConfig
from archsim.dataflow.crossbar_chip import Arrays, ChipConfig, DigitalUnit
from archsim.dataflow.crossbar_function import all_timesteps, timed, windows
from archsim.dataflow.crossbar_machine import CrossbarMachine, accuracies, labels_of, reads_out
from archsim.dataflow.crossbar_product import ArrayProduct, LayerProduct, in_groups
from archsim.dataflow.layer import WEIGHTED, Layer
from archsim.dataflow.pipeline import Stage, groups_in
from archsim.hardware.analog.adc import AdcConfig
from archsim.hardware.analog.crossbar_array import CrossbarArrayConfig
from archsim.hardware.inventory import Component
from archsim.hardware.loading import CrossFieldError
from archsim.trace import Operation, Trace
from archsim.trace.resimulation import compute, finish


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

    def unit(self, stage: Stage) -> Arrays | DigitalUnit:
        """Arrays, or the lanes of a neuron module for what has no weights: a value, and an update, a cycle each.

        Every column of a weight is converted by itself; rows are driven or not.
        """
        if not stage.on_arrays:
            values = stage.outputs * stage.out_width
            rounds = -(-values * stage.combined // self.neuron.lanes) + stage.fires * -(-values // self.neuron.lanes)
            return DigitalUnit(rounds * self.neuron.cycles, values * stage.combined, self.neuron.row_buffer)
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
            ("lif", "add"): done["joined"] + done["added"],
            ("router", "flit"): done["flit_hops"],
        }

    @property
    def processing_elements(self) -> int:
        """Cells of all arrays; one works while its row is driven by a spike and its column is read."""
        array = self.config.array
        return self.config.built_arrays * array.rows * array.columns

    # What it runs.

    def simulates(self, trace: Trace, operation: Operation) -> bool:
        """Layers with weights, and what lanes of neuron modules can do; nothing that writes arrays or multiplies sums.

        Without an encoder as every machine.
        """
        if not self.takes_integers:
            return super().simulates(trace, operation)
        needs_more = operation.requantiser is not None or operation.op == "softmax"
        return operation.op in (*WEIGHTED, *ON_LANES) and not needs_more

    @property
    def runs(self) -> str:
        """Networks that spike: no lane multiplies a sum, and no array is written at run time."""
        return f"{super().runs}, and sums between them" if self.takes_integers else super().runs

    def why_skipped(self, trace: Trace, operation: Operation) -> str:
        """Why ``operation`` is not simulated."""
        if not self.takes_integers or operation is self.skipped(trace) or self.lacks(operation.neuron):
            return super().why_skipped(trace, operation)
        if operation.op == "matmul":
            return "is a product of two activations, for which arrays had to be written at run time"
        if operation.requantiser is not None:
            return "ends in a requantiser, for which neuron modules had to multiply"
        return super().why_skipped(trace, operation)

    # What it computes.

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Column sums, array by array, as the converters see them, shifted and added; counts sums wider than a word of
        the network and potentials wider than their memory."""
        words = packed_time.decode(layer.inputs, layer.k)
        kernel = (1, 1) if layer.feature_map is None else layer.feature_map.window.kernel
        product = self._arrays(bitmask.decode(layer.weights, layer.k)[np.newaxis], kernel)
        product.calibrate(iter([words]), layer.timesteps)
        product.multiply(words[first : first + len(sums)], sums)
        return self.overflows(layer, sums, layer.bias, first)

    def _arrays(self, weight: NDArray[Any], kernel: tuple[int, int]) -> ArrayProduct:
        """Arrays that hold ``weight`` [G, N, K]."""
        config = self.config
        joined = config.pe.arrays if config.adc.per == "pe" else 1
        return ArrayProduct(weight, kernel, config.pe.weight_bits, config.array, config.adc, joined)

    def _product(self, trace: Trace, operation: Operation) -> LayerProduct:
        weight = operation.weight
        assert weight is not None, "convolutions and linear layers have weights"
        groups = groups_in(operation, self.takes_integers)
        arrays = self._arrays(in_groups(weight, operation.groups, groups), operation.window.kernel)
        return LayerProduct(operation, arrays, timed(trace, operation.inputs[0]))

    def currents(self, trace: Trace, operation: Operation) -> Iterator[NDArray[np.int64]]:
        """Column sums as the converters see them, shifted and added."""
        product, values = self._product(trace, operation), timed(trace, operation.inputs[0])
        for window in windows(trace, operation):
            if len(values) > 1 or trace.timesteps == 1:
                yield product.currents(values[window.start : window.stop])
            else:
                found = product.currents(values)
                yield np.broadcast_to(found, (len(window), *found.shape[1:]))

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
        """All tensors of the network as this machine makes them, each layer reading those of the layers before it.

        What goes around a cycle is made again until it does not change: once more for every delay that it passes.
        """
        made: dict[str, NDArray[Any]] = {}
        products = {
            operation.name: self._product(trace, operation)
            for operation in trace.operations
            if operation.op in WEIGHTED and self.simulates(trace, operation)
        }
        late = {operation.inputs[0] for operation in trace.operations if operation.op == "delay"}
        while True:
            before = {name: made[name] if name in made else trace.operand(name) for name in late}
            for operation in trace.operations:
                inputs = [made[name] if name in made else trace.operand(name) for name in operation.inputs]
                if operation.name in products:
                    currents = products[operation.name].currents(all_timesteps(inputs[0], operation, trace.timesteps))
                    made[operation.output] = finish(operation, currents)
                else:
                    made[operation.output] = compute(operation, inputs, trace.timesteps)
            if all(np.array_equal(made.get(name, values), values) for name, values in before.items()):
                return made

    def unsupported(self, trace: Trace) -> Sequence[str]:
        """A network that does not fit the chip; weights that the cells cannot hold."""
        problems = list(super().unsupported(trace))
        lowest = -(1 << (self.config.pe.weight_bits - 1))
        if self.config.array.signed == "difference":
            full = [
                layer.name for layer in self.layers(trace) if layer.op in WEIGHTED and np.any(layer.weight == lowest)
            ]
            if full:
                problems.append(
                    f"array.signed: difference holds weights from {lowest + 1} on, {', '.join(full)} has {lowest}; "
                    "allowed: offset"
                )
        return problems
