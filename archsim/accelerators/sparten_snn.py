"""SparTen-SNN: SparTen's inner product (Gondimalla et al., MICRO 2019) on spikes, timesteps one after the other.

As LoAS (MICRO 2024, section V) builds it for comparison: sixteen processing elements without multipliers, LoAS's
memory system, order m, n, t, k. The spike train of a timestep is bitmask and data at once, so all T K bits of a row of
A, zeros and ones, come from memory, and one fast prefix-sum, for B, is enough. The fiber of B is held while t iterates
and is broadcast again for each timestep:

    for tile or group of rows:
        for n in columns:
            for group of 16 rows:            one step of the array, barrier at its end
                for t in timesteps:          bm-A of this timestep; B again
                    for chunk of 128 k:      inner join: add each matched weight
                    neuron: one timestep

The agents of this nest are those of :mod:`archsim.dataflow.inner_product` with T passes and no words. A chunk pair
takes ``max(1, c0 + matches)`` cycles; there is no FIFO and no correction.

Sources are in ``hwconfigs/sparten_snn.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.dataflow.base import MachineConfig
from archsim.dataflow.inner_product import (
    WORDS_OF_CHUNK,
    InnerProduct,
    InnerProductConfig,
    InnerProductPe,
    Join,
)
from archsim.dataflow.layer import Layer
from archsim.dataflow.stored_rows import Rows, timestep_rows
from archsim.hardware.compute.accumulator import accumulate_by_timestep
from archsim.hardware.fields import SumBits
from archsim.hardware.inventory import Component


class SpartenSnnPe(InnerProductPe):
    """Processing elements with one fast prefix-sum and one accumulator."""

    accumulator_bits: SumBits = Field(description="bits of the accumulator, sign included")


class SpartenSnnConfig(InnerProductConfig):
    """A SparTen-SNN machine."""

    accelerator: Literal["sparten_snn"] = Field(description="which machine this file describes")
    pe: SpartenSnnPe = Field(description="processing elements")


class SpartenSnn(InnerProduct):
    """SparTen-SNN (as in LoAS, MICRO 2024): inner product, timestep after timestep, raw spikes."""

    name: ClassVar[str] = "sparten_snn"
    Config: ClassVar[type[MachineConfig]] = SpartenSnnConfig
    compute_units = "pe", "lif"
    config: SpartenSnnConfig

    def inventory(self) -> Sequence[Component]:
        """Processing elements, neuron units, and LoAS's memories, switches and wires."""
        pes = self.config.pe.count
        return (
            Component(
                "pe", "logic", pes, {"block": "sparten_snn_pe", "accumulator_bits": self.config.pe.accumulator_bits}
            ),
            Component("lif", "logic", pes, {"block": "lif"}),
            *self.other_components(),
        )

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Matched weights of one timestep after the other; counts overflows of the real accumulator."""
        _, overflows = accumulate_by_timestep(
            layer.inputs, layer.weights, layer.timesteps, self.config.pe.accumulator_bits, first, sums
        )
        return {"accumulator_overflows": overflows}

    def rows_and_join(self, layer: Layer) -> tuple[Rows, Join]:
        """T passes over raw spikes."""
        join = Join(
            passes=layer.timesteps, word_bits=0, unit=self.join_unit, word_reads=WORDS_OF_CHUNK,
            interval=self.config.neuron.cycles, finish=0,
        )  # fmt: skip
        return timestep_rows(layer, self.config.format.unrolled), join

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Every match is found by the fast prefix-sum and added."""
        fires = layer.fires
        return {
            ("pe", "join"): done["joins"],
            ("pe", "fast_prefix"): done["matches"],
            ("pe", "add"): done["matches"],
            ("lif", "update"): done["sums"] if fires else 0,
            ("compressor", "encode"): done["encoded"],
        }
