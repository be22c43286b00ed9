"""A systolic array whose PEs take several narrow weights in the place of a wide one; activations come bit by bit.

A PE has ``pe.weight_bits`` (B) of weights in a step: of w bits each the most of 1, 2, 4 or 8 that fit, at most
``pe.places``, so that one takes v bits (3 count as 4 of 8). Each has an input bit of its own; their products are added
in a tree and go into one accumulator. Columns are planes of output positions, one for each bit of an activation or each
timestep. Folds and agents are those of the output-stationary :mod:`archsim.accelerators.systolic`. K inputs make

    D = ceil(K v / B) steps,    2R + C + D - 2 cycles,    ceil(N / R) ceil(M / floor(C / a)) folds for a <= C planes

so that without the skew of folds cycles are proportional to v a: W4A4 takes a quarter, W2A4 an eighth of those of W8A8.
Weights lie in memory with v bits, activations with a.

Hand-traced (memory.ideal): R = C = 2, B = 8, M' = N = 2, K = 7 weights of 2 bits: 2 steps, 2 + 2 + 2 = 6 cycles, 1 to
load, 1 to fire, 1 to write: 9 in all.

No published machine. Sources are in ``hwconfigs/bit_composable.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.accelerators.systolic import SystolicScheduler
from archsim.dataflow.base import MachineConfig
from archsim.dataflow.folded_array import ADDS, ArrayMachine
from archsim.dataflow.folded_schedule import ArrayConfig, Placing, Schedule, output_stationary, parts, place
from archsim.dataflow.layer import Layer
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.compute.systolic_array import SystolicArrayConfig
from archsim.hardware.inventory import Component


class ComposablePe(SystolicArrayConfig):
    """Array of PEs that are composed for the width of a layer's weights."""

    places: Literal[1, 2, 4, 8] = Field(description="narrow weights that a PE takes in a step at most")

    def together(self, bits: int) -> int:
        """Weights of ``bits`` bits that a PE takes in a step; one, however wide."""
        return max([1, *(n for n in (2, 4, 8) if n <= self.places and n * bits <= self.weight_bits)])


class BitComposableConfig(ArrayConfig):
    """Array of composable PEs."""

    accelerator: Literal["bit_composable"] = Field(description="which machine this file describes")
    pe: ComposablePe = Field(description="array and operand buffers")
    neuron: LifConfig = Field(description="neuron units, one per column")
    scheduler: SystolicScheduler = Field(description="order of the work")


class BitComposable(ArrayMachine):
    """Systolic array of composable PEs: narrow weights side by side, activations bit by bit."""

    name: ClassVar[str] = "bit_composable"
    Config: ClassVar[type[MachineConfig]] = BitComposableConfig
    config: BitComposableConfig

    def placing(self, layer: Layer) -> Placing:
        """Planes in the columns, or one after the other."""
        return place(layer, self.config.pe.columns, 1, self.config.scheduler.timesteps == "columns")

    def schedule(self, layer: Layer) -> Schedule:
        """Output-stationary folds of as many steps as all weights of a neuron take."""
        pe, together = self.config.pe, self.config.pe.together(layer.weight_bits)
        positions, timesteps = self.placing(layer).sizes(layer)
        columns, rows = positions[:, None] * timesteps, parts(layer.n, pe.rows)
        steps, tail = -(-layer.k // together), np.full(len(rows), pe.skew_cycles + pe.rows)
        return output_stationary(
            self.config, rows, pe.weight_bits, positions, columns * together, columns, steps, tail
        )  # fmt: skip

    def inventory(self) -> Sequence[Component]:
        """Those of a systolic array, with an input bit for every place of a PE, and PEs with a tree of adders."""
        pe = self.config.pe
        step_bits = pe.rows * pe.weight_bits + pe.columns * pe.places
        own: dict[str, dict[str, int | float | str]] = {
            "pe": {"block": "composable_pe", "spike_register_bits": pe.places},
            "operand_buffer": {"bits": pe.buffers * pe.buffer_steps * step_bits, "width_bits": step_bits},
        }
        inherited = super().inventory()
        return [replace(part, parameters={**part.parameters, **own.get(part.unit, {})}) for part in inherited]

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """The trees work where a PE takes more than one weight."""
        composed = done["pe", "add"] if self.config.pe.together(layer.weight_bits) > 1 else 0
        return {**super().more_actions(layer, done, events), ("pe", "compose"): composed}

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Products of a weight and an input bit, without what fills the last step of a neuron up."""
        return int(counts[ADDS]) // -(-layer.k // self.config.pe.together(layer.weight_bits)) * layer.k

    @property
    def processing_elements(self) -> int:
        """Places of the narrowest weight."""
        return super().processing_elements * self.config.pe.places

    def working_cycles(self, layer: Layer, program: object, counts: NDArray[np.int64], times: object) -> int:
        """All places of a PE work in the cycles in which it adds, wide weights in several of them."""
        return int(counts[ADDS]) * self.config.pe.places

    def lower_bound(self, layer: Layer, program: object, counts: NDArray[np.int64]) -> int:
        """All PEs add in every cycle."""
        return -(-int(counts[ADDS]) // super().processing_elements)
