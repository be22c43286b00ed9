"""Stellar (HPCA 2024): row-stationary array over space and time, spikes skipped, few-spikes neurons. **Approximate.**

Only what others say of Stellar is known here (``hwconfigs/stellar.yaml`` has the sources); this machine is built from
that and from the row-stationary dataflow as Eyeriss has it. A PE of the array keeps a row of a filter for one
channel at a time and slides it over a row of the input; the rows of a filter stand above each other, so that their sums
of a *line* (an output row) are added on the way out:

    rows      floor(R / kernel rows) neurons, a filter row each      (a kernel higher than the array is wrapped)
    columns   timesteps side by side, then lines:  floor(C / T) lines, or T in blocks of C

All timesteps are summed at once, because a few-spikes neuron needs its sums only when all are complete
(:mod:`archsim.hardware.compute.few_spikes`). *Spike skipping*: a PE spends a cycle for every weight that a spike
meets, on a spike at x as many as there are outputs of the line whose window holds x, and none on silence. Meanwhile a
PE takes the filter rows of the next channels, one weight per cycle. So for ``pe.buffer_steps`` channels, a load of the
operand buffers, a fold takes the time of its busiest PE or of its weights, whichever is longer,

    max over lines, timesteps, filter rows i of   sum over channels, spikes at x in row (line stride + i) of touches(x)
    channels * kernel columns * ceil(kernel rows / R)

and behind the last channel each column hands on the sums of its neurons and outputs one by one, behind the kernel rows'
additions: ``neurons * width + kernel rows - 1`` cycles. Folds do not overlap. A linear layer is a convolution with one
position and a kernel of one. Loops and agents are those of :mod:`archsim.dataflow.folded_array`; rows of the input
are stored as often as lines of different groups read them.

The neurons' inputs, the full sums of all timesteps, are exact: the LIF neurons of the trace, given these sums, must
fire as the trace says. What the few-spikes neurons themselves would fire is counted as the event ``few_spikes``, of
every window of the machine's timesteps where the trace has more of them. Neurons that are more than a threshold, a leak
by a shift and a reset have no such event.

Hand-traced: R = 2, C = 2, T = 2, linear, K = 3, two neurons, one position, spikes at k = 0, 2 at timestep 0 and at
k = 1 at timestep 1: the busier column takes 2 cycles, three weights take 3, the sums leave in 2, so 5, and 8 with first
access, neuron and write (memory.ideal).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.compress import bitmask
from archsim.dataflow.base import MachineConfig
from archsim.dataflow.computing import complete_sums
from archsim.dataflow.folded_array import ArrayMachine, dense_words
from archsim.dataflow.folded_schedule import (
    ArrayConfig,
    Placing,
    Schedule,
    output_stationary,
    parts,
    place,
)
from archsim.dataflow.layer import FeatureMap, Layer
from archsim.dataflow.layer_machine import LayerMachine
from archsim.hardware.compute.few_spikes import FewSpikesConfig, fire_few_spikes
from archsim.hardware.compute.lif import is_ruled
from archsim.hardware.compute.systolic_array import SystolicArrayConfig
from archsim.hardware.inventory import Component
from archsim.jit import njit
from archsim.trace import Trace
from archsim.trace.window import Window


class StellarPe(SystolicArrayConfig):
    """Array of PEs that keep a filter row and the sums of a line."""

    line_sums: int = Field(ge=1, le=4096, description="sums that a PE holds: outputs of a line")


class StellarConfig(ArrayConfig):
    """A Stellar machine."""

    accelerator: Literal["stellar"] = Field(description="which machine this file describes")
    pe: StellarPe = Field(description="array and operand buffers")
    neuron: FewSpikesConfig = Field(description="neuron units, one per column")


def feature_map_of(layer: Layer) -> FeatureMap:
    """The convolution that a layer is; a linear layer has one image per row."""
    if layer.feature_map is None:
        return FeatureMap(dense_words(layer, 0, layer.m)[:, :, None, None], Window())
    return layer.feature_map


def line_work(shape: FeatureMap, rows: int, timesteps: int, loads: NDArray[np.int64]) -> NDArray[np.int64]:
    """Additions of every PE: int64 [lines, timesteps, loads of the channels, rows in use], of one neuron.

    ``loads`` are the first channels of every load; a kernel higher than ``rows`` wraps around.
    """
    images, _, input_height, input_width = shape.words.shape
    row_of, column_of = shape.window.taps((input_height, input_width))
    touches = np.bincount(column_of[column_of >= 0], minlength=input_width)
    height, kernel_rows = row_of.shape
    used = min(rows, kernel_rows)
    work = np.zeros((images, height, timesteps, len(loads), used), np.int64)
    for t in range(timesteps):
        in_row = np.add.reduceat((shape.words >> np.uint16(t) & np.uint16(1)) @ touches, loads, axis=1)
        for i in range(kernel_rows):
            inside = np.flatnonzero(row_of[:, i] >= 0)
            place_work = work[:, :, t, :, i % used]
            place_work[:, inside] += in_row[:, :, row_of[inside, i]].transpose(0, 2, 1)
    return work.reshape(images * height, timesteps, len(loads), used)


@njit
def add_by_filter_rows(words: Any, weights: Any, kernel_rows: int, kernel_columns: int, bits: int, sums: Any) -> int:
    """Full sums int64 [rows, N, T]: every filter row over all channels, then the filter rows; returns overflows.

    ``words`` uint16 [rows, K] and ``weights`` int64 [K, N] with K in the order (channel, kernel row, kernel column).
    """
    rows, columns, timesteps = sums.shape
    limit = 1 << (bits - 1)
    overflows = 0
    channels = words.shape[1] // (kernel_rows * kernel_columns)
    partial = np.zeros((columns, timesteps), np.int64)
    for row in range(rows):
        for i in range(kernel_rows):
            partial[:] = 0
            for c in range(channels):
                for x in range(kernel_columns):
                    k = (c * kernel_rows + i) * kernel_columns + x
                    word = words[row, k]
                    if word == 0:
                        continue
                    for n in range(columns):
                        for t in range(timesteps):
                            if (word >> t) & 1:
                                partial[n, t] += weights[k, n]
                                overflows += int(not -limit <= partial[n, t] < limit)
            for n in range(columns):
                for t in range(timesteps):
                    sums[row, n, t] += partial[n, t]
                    overflows += int(not -limit <= sums[row, n, t] < limit)
    return overflows


class Stellar(ArrayMachine):
    """Stellar (HPCA 2024), approximate: row-stationary over space and time, spikes skipped, few-spikes neurons."""

    name: ClassVar[str] = "stellar"
    ruled_neurons: ClassVar[bool] = True
    neuron_update: ClassVar[tuple[str, str]] = ("few_spikes", "update")
    Config: ClassVar[type[MachineConfig]] = StellarConfig
    config: StellarConfig

    def unsupported(self, trace: Trace) -> Sequence[str]:
        """Lines that are longer than what a PE can hold."""
        widest = max((o.output_shape[-1] for o in self.layers(trace) if o.op == "conv2d"), default=1)
        if widest <= self.config.pe.line_sums:
            return ()
        return (
            f"pe.line_sums: the trace has output rows of {widest}, the machine holds {self.config.pe.line_sums}; "
            f"--set pe.line_sums={widest} builds a machine that can",
        )

    def timesteps_for(self, trace: Trace) -> int:
        """Few-spikes neurons are built for a number of timesteps: those of the trace."""
        return LayerMachine.timesteps_for(self, trace)

    @property
    def adds_outside(self) -> bool:
        """Filter rows are added on the way out."""
        return True

    def placing(self, layer: Layer) -> Placing:
        """Timesteps of a line side by side; ``positions`` are lines."""
        return place(layer, self.config.pe.columns, 1, True)

    def inventory(self) -> Sequence[Component]:
        """As the systolic array, with few-spikes neurons and the sums of a line in every PE."""
        pe = self.config.pe
        pes = pe.rows * pe.columns
        others = [component for component in super().inventory() if component.unit != "lif"]
        held = {"bits": pe.line_sums * pe.accumulator_bits, "width_bits": pe.accumulator_bits}
        return (
            Component("line_sums", "flip_flops", pes, held),
            Component(
                "few_spikes", "logic", pe.columns, {"block": "few_spikes", "timesteps": self.config.built_timesteps}
            ),
            *others,
        )

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Filter row by filter row; counts overflows, and what few-spikes neurons would fire."""
        kernel_rows, kernel_columns = layer.feature_map.window.kernel if layer.feature_map else (1, 1)
        weights = np.ascontiguousarray(bitmask.decode(layer.weights, layer.k).T, np.int64)
        words = dense_words(layer, first, len(sums))
        bits = self.config.pe.accumulator_bits
        overflows = add_by_filter_rows(words, weights, kernel_rows, kernel_columns, bits, sums)
        fired = np.zeros(sums.shape[:2], np.uint16)
        if layer.neuron is not None and is_ruled(layer.neuron):
            threshold = np.ascontiguousarray(layer.neuron.threshold, np.int64)
            fire_few_spikes(complete_sums(layer, first, sums), layer.bias, threshold, fired)
        return {"accumulator_overflows": int(overflows), "few_spikes": int(np.bitwise_count(fired).sum())}

    def schedule(self, layer: Layer) -> Schedule:
        """For some neurons, lines and timesteps: all channels, in as many cycles as the spikes need."""
        pe, placing, shape = self.config.pe, self.placing(layer), feature_map_of(layer)
        channels, (kernel_rows, kernel_columns), width = shape.words.shape[1], shape.window.kernel, shape.output[1]
        loads = np.arange(0, channels, pe.buffer_steps)
        work = line_work(shape, pe.rows, layer.timesteps, loads)
        lines, timesteps = parts(len(work), placing.positions), parts(layer.timesteps, placing.span)
        # Lines that are missing in the last group, and timesteps in the last block, have no work.
        padded = np.zeros((len(lines) * placing.positions, placing.blocks * placing.span, *work.shape[2:]), np.int64)
        padded[: len(work), : layer.timesteps] = work
        by_fold = padded.reshape(len(lines), placing.positions, placing.blocks, placing.span, *work.shape[2:])
        in_load = np.diff(np.append(loads, channels))
        cycles = np.maximum(by_fold.max((1, 3, 5)), in_load * kernel_columns * -(-kernel_rows // pe.rows))
        steps = np.full(cycles.shape[:2], channels)
        first = np.arange(steps.size).reshape(steps.shape) * len(loads)
        seen = (lines - 1) * shape.window.stride[0] + shape.window.span[0]
        input_rows = np.minimum(-(-seen // shape.window.input_dilation[0]), lines * kernel_rows)
        neurons = parts(layer.n, max(1, pe.rows // kernel_rows))
        schedule = output_stationary(
            self.config, neurons, kernel_rows * kernel_columns * pe.weight_bits, lines * width,
            input_rows[:, None] * shape.words.shape[3] * timesteps, lines[:, None] * width * timesteps, channels,
            neurons * width + min(kernel_rows, pe.rows) - 1, (first, steps, by_fold.sum((1, 3, 4, 5))),
        )  # fmt: skip
        return schedule._replace(cycles=np.ascontiguousarray(cycles.ravel()))

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """As the systolic array; a sum is read and written for every addition, filter rows are added on the way out.

        With every channel a PE takes the weights of its filter row.
        """
        kernel_rows, kernel_columns = layer.feature_map.window.kernel if layer.feature_map else (1, 1)
        found = super().more_actions(layer, done, events)
        found["few_spikes", "update"] = found.pop(("lif", "update"))
        weights = kernel_columns * -(-kernel_rows // self.config.pe.rows)
        return {
            **found,
            ("pe", "shift_weight"): done["pe", "shift_weight"] * weights,
            ("accumulator", "add"): done["partial_sums"] + done["sums"] * (kernel_rows - 1),
            ("line_sums", "read"): done["pe", "add"],
            ("line_sums", "write"): done["pe", "add"],
        }
