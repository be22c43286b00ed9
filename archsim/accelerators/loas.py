"""LoAS: fully temporal-parallel dataflow for dual-sparse spiking networks (Yin et al., MICRO 2024).

Sixteen TPPEs hold sixteen rows of A and receive the same fiber of B; each computes one output neuron for all timesteps
at once (FTP: loops m, n, k with t unrolled in space; output-stationary inner product):

    for tile of rows:                        A stays in the cache
        for n in columns:                    one fiber of B at a time, streamed from DRAM
            for group of 16 rows in tile:    one step of the array: B is broadcast, barrier at its end
                for chunk of 128 k:          inner join in every TPPE, for all t: add each matched weight once,
                                             take it back from the timesteps at which the neuron was silent
                P-LIF: all t of one neuron; compress; write the row when it is complete

The agents of this nest are those of :mod:`archsim.accelerators.inner_product` with one pass and packed words.

Hand-traced 2 x 2 example (M = N = 2, K = 1 chunk, memory.ideal, c0 = 2, laggy hidden, matches [[1, 0], [2, 1]]): at 0
the fetcher takes a credit and streams fiber 0, the TPPEs load their bitmasks; at 1 the broadcaster has its token and
reads; at 2 the chunk is broadcast, both TPPEs join column 0 in max(2 + 1, 2 + 2) = 4 cycles, to 6; column 1 in
max(2 + 0, 2 + 1) = 3, to 9. Row 1's last match is pushed in cycle 8 (p = 6 + 2), its offsets are ready at 6 + 8 = 14,
it is corrected in cycle 14, so the sum is ready at 15; subtract 1, P-LIF 1, compressor of two neurons 1: 18; the output
line is written in 1: the layer ends in cycle 19.

Sources are in ``hwconfigs/loas.yaml``; deviations from the paper in DEVIATIONS.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.accelerators.base import Layer, MachineConfig, Program
from archsim.accelerators.inner_product import (
    INPUT_FORMAT,
    JOINS,
    LAGGY_BUSY,
    MATCHES,
    SUMS_FINISHED,
    WORDS_OF_CHUNK,
    WORDS_OF_MATCHES,
    WORDS_WITH_BITMASK,
    InnerProduct,
    InnerProductConfig,
    InnerProductPe,
    Join,
    lay_out,
    rows_of,
)
from archsim.compress.bitmask import CHUNK_BITS
from archsim.hardware.compute import accumulator
from archsim.hardware.compute.prefix_sum import LAGGY_MODES
from archsim.hardware.inventory import Component

WORD_READS = {"chunk": WORDS_OF_CHUNK, "match": WORDS_OF_MATCHES, "with_bitmask": WORDS_WITH_BITMASK}


class TppeConfig(InnerProductPe):
    """Temporal-parallel processing elements (TPPEs)."""

    laggy: Literal["hidden", "literal", "early_stop"] = Field(
        description="how long the laggy prefix-sum occupies the unit"
    )
    laggy_adders: int = Field(
        ge=1, le=128, description="adders of the laggy prefix-sum; a pass takes 128 / adders cycles"
    )
    fifo_depth: int = Field(ge=1, le=1024, description="entries of FIFO-mp and FIFO-B")
    payload_fetch: Literal["chunk", "match", "with_bitmask"] = Field(
        description="packed words of A: those of a chunk if anything matches, one read a match, or always"
    )
    pseudo_accumulator_bits: int = Field(ge=2, le=63, description="bits of the pseudo-accumulator, sign included")
    correction_accumulator_bits: int = Field(ge=2, le=63, description="bits of a correction accumulator, sign included")
    subtract_cycles: int = Field(ge=1, le=64, description="cycles to subtract the corrections at the end of a neuron")


class LoasConfig(InnerProductConfig):
    """A LoAS machine."""

    accelerator: Literal["loas"] = Field(description="which machine this file describes")
    pe: TppeConfig = Field(description="processing elements")


class LoAS(InnerProduct):
    """LoAS (MICRO 2024): fully temporal-parallel dataflow, inner product, sixteen TPPEs."""

    name: ClassVar[str] = "loas"
    Config: ClassVar[type[MachineConfig]] = LoasConfig
    config: LoasConfig

    @property
    def sum_bits(self) -> int:
        """The pseudo-accumulator holds the full sum."""
        return self.config.pe.pseudo_accumulator_bits

    def inventory(self) -> Sequence[Component]:
        """Blocks of Table IV and the memories, switches and wires around them."""
        config, pes = self.config, self.config.pe.count
        entry_bits = config.pe.weight_bits + (CHUNK_BITS - 1).bit_length()
        return (
            Component(
                "tppe", "logic", pes, {"block": "tppe", "timesteps": config.timesteps, "fifo_entry_bits": entry_bits}
            ),
            Component("p_lif", "logic", pes, {"block": "p_lif", "timesteps": config.timesteps}),
            *self.other_components(),
        )

    def add_up(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Pseudo-sum less corrections; counts corrections and overflows of the real accumulators."""
        pe = self.config.pe
        events = np.zeros(accumulator.EVENTS, np.int64)
        accumulator.accumulate(
            layer.inputs, layer.weights, layer.timesteps, pe.pseudo_accumulator_bits, pe.correction_accumulator_bits,
            first, sums, events,
        )  # fmt: skip
        return {
            "correction_additions": int(events[accumulator.CORRECTIONS]),
            "discarded_words": int(events[accumulator.DISCARDS]),
            "pseudo_accumulator_overflows": int(events[accumulator.PSEUDO_OVERFLOWS]),
            "correction_accumulator_overflows": int(events[accumulator.CORRECTION_OVERFLOWS]),
        }

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bitmask, pointer and a packed word for every neuron that fires."""
        pointer = -(-self.config.format.pointer_bits // 8)
        return -(-layer.n // 8) + pointer + -(-active * layer.timesteps // 8)

    def program(self, layer: Layer, output_bytes: NDArray[np.int64]) -> Program:
        """One pass over packed words."""
        pe = self.config.pe
        join = Join(
            passes=1, word_bits=layer.timesteps, laggy=LAGGY_MODES[pe.laggy], adders=pe.laggy_adders,
            fifo_depth=pe.fifo_depth, word_reads=WORD_READS[pe.payload_fetch], finish=pe.subtract_cycles,
        )  # fmt: skip
        rows, _ = rows_of(layer, self.config.format.unrolled)
        mask_bytes = self.mask_bytes(layer)
        return lay_out(self.config, layer, join, rows, output_bytes, INPUT_FORMAT, mask_bytes, ("tppe", "p_lif"))

    def count_actions(
        self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Every match is found by the fast prefix-sum, added once, and passes the FIFOs."""
        matches, neurons = int(counts[MATCHES]), int(counts[SUMS_FINISHED])
        fires = layer.neuron is not None or layer.expected is None
        return {
            ("tppe", "join"): int(counts[JOINS]),
            ("tppe", "fast_prefix"): matches,
            ("tppe", "laggy_prefix"): int(counts[LAGGY_BUSY]),
            ("tppe", "pseudo_add"): matches,
            ("tppe", "correction_add"): events["correction_additions"],
            ("tppe", "fifo_push"): matches,
            ("tppe", "fifo_pop"): matches,
            ("tppe", "subtract"): neurons * layer.timesteps,
            ("p_lif", "update"): neurons * layer.timesteps if fires else 0,
            **self.other_actions(counts),
        }
