"""SparTen (Gondimalla et al., MICRO 2019): inner product of sparse activations and sparse weights of an ANN.

Both operands are bitmask fibers with 8-bit values. For every pair of 128-bit chunks the bitmasks are ANDed, a priority
encoder yields one match per cycle, and two fast prefix-sums find activation and weight, which are multiplied and added:
a chunk pair takes ``max(1, c0 + matches)`` cycles. Loops and agents are those of
:mod:`archsim.dataflow.inner_product` with one pass and words of 8 bits, as LoAS (MICRO 2024, Fig. 18) sizes it: 16
PEs and LoAS's memory system, not the 32 clusters of the original; filters are not sorted by density. Activation
functions and requantisation take no time of their own: a neuron unit passes the sum on in ``neuron.cycles``.

Sources are in ``hwconfigs/sparten.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.dataflow.base import MachineConfig, Timesteps
from archsim.dataflow.inner_product import (
    WORDS_OF_CHUNK,
    InnerProduct,
    InnerProductConfig,
    InnerProductPe,
    Join,
)
from archsim.dataflow.layer import Layer
from archsim.dataflow.stored_rows import Rows, rows_of
from archsim.hardware.compute.accumulator import multiply_accumulate
from archsim.hardware.fields import SumBits
from archsim.hardware.inventory import Component


class SpartenPe(InnerProductPe):
    """Processing elements with two fast prefix-sums, a multiplier and an accumulator."""

    accumulator_bits: SumBits = Field(description="bits of the accumulator, sign included")


class SpartenConfig(InnerProductConfig):
    """A SparTen machine."""

    accelerator: Literal["sparten"] = Field(description="which machine this file describes")
    timesteps: Timesteps = Field(description="most timesteps that the machine is built for")
    pe: SpartenPe = Field(description="processing elements")


class Sparten(InnerProduct):
    """SparTen (MICRO 2019), for 8-bit ANNs: inner product of two sparse operands, two prefix-sums, multiplier."""

    name: ClassVar[str] = "sparten"
    operand: ClassVar[Literal["spike", "int"]] = "int"
    Config: ClassVar[type[MachineConfig]] = SpartenConfig
    compute_units = "pe", "output_unit"
    neuron_update: ClassVar[tuple[str, str]] = ("pe", "add")
    config: SpartenConfig

    def inventory(self) -> Sequence[Component]:
        """Processing elements and LoAS's memories, switches and wires."""
        pe = self.config.pe
        block: dict[str, int | float | str] = {
            "block": "sparten_pe",
            "accumulator_bits": pe.accumulator_bits,
            "weight_bits": pe.weight_bits,
        }
        return (Component("pe", "logic", pe.count, block), *self.other_components())

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Products of matched activations and weights; counts overflows of the real accumulator."""
        overflows = multiply_accumulate(layer.inputs, layer.weights, self.config.pe.accumulator_bits, first, sums)
        return {"accumulator_overflows": int(overflows)}

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bitmask, pointer and a word for every output that is not zero."""
        pointer = -(-self.config.format.pointer_bits // 8)
        return -(-layer.n // 8) + pointer + -(-active * layer.output_bits // 8)

    def rows_and_join(self, layer: Layer) -> tuple[Rows, Join]:
        """One pass over activations."""
        join = Join(
            passes=1, word_bits=layer.word_bits, unit=self.join_unit, word_reads=WORDS_OF_CHUNK, interval=1, finish=0
        )
        rows, _ = rows_of(layer, self.config.format.unrolled)
        return rows, join

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Every match is found by two prefix-sums, multiplied and added."""
        return {
            ("pe", "join"): done["joins"],
            ("pe", "fast_prefix"): 2 * done["matches"],
            ("pe", "multiply"): done["matches"],
            ("pe", "add"): done["matches"],
            ("compressor", "encode"): done["encoded"],
        }
