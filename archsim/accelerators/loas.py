"""LoAS: fully temporal-parallel dataflow for dual-sparse spiking networks (Yin et al., MICRO 2024).

The spikes are a matrix A: a row for each output position, a column for each of the K inputs of a neuron; an entry is a
word of T bits, the input's spikes at all timesteps. The weights are a matrix B with a column for each output channel.
Rows of A and columns of B are stored as fibers: a bitmask of what is not zero, and only those words or weights.

Sixteen PEs (the paper's TPPEs) hold a row of A each and receive the same column of B. Each computes one output neuron
for all timesteps at once, and its sum stays where it is (FTP, the paper's fully temporal-parallel dataflow):

    for tile of rows:                        A stays in the cache
        for n in columns:                    one fiber of B at a time, streamed from DRAM
            for group of 16 rows in tile:    one step of the array: B is broadcast, barrier at its end
                for chunk of 128 k:          inner join in every PE, for all t: add each matched weight once,
                                             take it back from the timesteps at which the neuron was silent
                P-LIF: all t of one neuron; compress; write the row when it is complete

An inner join finds where both bitmasks have a one. A fast prefix-sum says at once where a match's weight is; the slow
one ("laggy") says 8 cycles later where its word of spikes is, and which timesteps must be corrected.

The agents of this nest are those of :mod:`archsim.dataflow.inner_product` with one pass and packed words.

Hand-traced example: two rows, two columns, one chunk of K, ``memory.ideal``, all else as shipped. Row 0 has 1 and 0
matches with the two columns, row 1 has 2 and 1. A chunk costs ``pe.chunk_overhead_cycles`` = 2 and a cycle per match.

    at 0       the fetcher takes a credit and streams column 0 of B; the PEs load their bitmasks
    at 1       the broadcaster has its token and reads
    2 to 6     the chunk is broadcast, and both PEs join column 0 in max(2 + 1, 2 + 2) = 4 cycles
    6 to 9     they join column 1 in max(2 + 0, 2 + 1) = 3 cycles
    at 8       row 1's last match enters the FIFOs; the laggy prefix-sum, begun at 6, is ready at 6 + 8 = 14
    14 to 15   the match is corrected, and the sum is ready
    15 to 18   a cycle each for the subtraction, the P-LIF and the compressor of two neurons
    18 to 19   the output line is written: the layer ends in cycle 19

Sources are in ``hwconfigs/loas.yaml``; deviations from the paper in DEVIATIONS.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.dataflow.base import MachineConfig
from archsim.dataflow.inner_product import (
    MATCHES,
    WORDS_OF_CHUNK,
    WORDS_OF_MATCHES,
    WORDS_WITH_BITMASK,
    FormatConfig,
    InnerProduct,
    InnerProductConfig,
    InnerProductPe,
    Join,
    SchedulerConfig,
)
from archsim.dataflow.layer import Layer
from archsim.dataflow.stored_rows import Rows, raw_rows, rows_of, timestep_rows
from archsim.hardware.compute import accumulator
from archsim.hardware.compute.inner_join import OFFSET_BITS, InnerJoinConfig, JoinUnit
from archsim.hardware.compute.prefix_sum import pass_cycles
from archsim.hardware.inventory import Component
from archsim.hardware.loading import CrossFieldError

WORD_READS = {"chunk": WORDS_OF_CHUNK, "match": WORDS_OF_MATCHES, "with_bitmask": WORDS_WITH_BITMASK}


class TppeConfig(InnerProductPe, InnerJoinConfig):
    """Temporal-parallel processing elements (TPPEs)."""

    payload_fetch: Literal["chunk", "match", "with_bitmask"] = Field(
        description="packed words of A: those of a chunk if anything matches, one read a match, or always"
    )
    subtract_cycles: int = Field(ge=1, le=64, description="cycles to subtract the corrections at the end of a neuron")


class LoasScheduler(SchedulerConfig):
    """Order of the work, timesteps included."""

    timesteps: Literal["parallel", "sequential"] = Field(
        description="all timesteps of a neuron at once (FTP), or one pass over the fibers after the other"
    )


class LoasFormat(FormatConfig):
    """How spikes are stored."""

    spikes: Literal["packed", "raw"] = Field(
        description="bitmask of the non-silent neurons and their packed words, or the bits of all neurons"
    )


class LoasConfig(InnerProductConfig):
    """A LoAS machine."""

    accelerator: Literal["loas"] = Field(description="which machine this file describes")
    pe: TppeConfig = Field(description="processing elements")
    scheduler: LoasScheduler = Field(description="order of the work")
    format: LoasFormat = Field(description="compressed fibers")

    @model_validator(mode="after")
    def _speculates_only_on_what_comes_late(self) -> Self:
        early = "format.spikes: raw" if self.format.spikes == "raw" else "pe.laggy: second_fast"
        if self.pe.speculation and not self.looks_up_late:
            problem = f"must be false with {early}: every word is there with its weight"
            raise CrossFieldError({"pe.speculation": f"{problem}, got true"})
        return self

    @property
    def looks_up_late(self) -> bool:
        """Whether words of A are found by a laggy prefix-sum, so that weights wait for them in the FIFOs."""
        return self.format.spikes == "packed" and self.pe.laggy != "second_fast"

    @property
    def spatial_timesteps(self) -> int:
        """Timesteps that a TPPE and its P-LIF are built to do at once."""
        return self.built_timesteps if self.scheduler.timesteps == "parallel" else 1


class LoAS(InnerProduct):
    """LoAS (MICRO 2024): fully temporal-parallel dataflow, inner product, sixteen TPPEs."""

    name: ClassVar[str] = "loas"
    Config: ClassVar[type[MachineConfig]] = LoasConfig
    compute_units = "tppe", "p_lif"
    neuron_update: ClassVar[tuple[str, str]] = ("p_lif", "update")
    config: LoasConfig

    @property
    def vector_lanes(self) -> tuple[int, int]:
        """A P-LIF takes all timesteps of a neuron at once."""
        return self.config.pe.count * self.config.spatial_timesteps, self.config.neuron.cycles

    @property
    def sum_bits(self) -> int:
        """The pseudo-accumulator holds the full sum."""
        return self.config.pe.pseudo_accumulator_bits

    def inventory(self) -> Sequence[Component]:
        """Blocks of Table IV and the memories, switches and wires around them."""
        config, pes, timesteps = self.config, self.config.pe.count, self.config.spatial_timesteps
        packed = config.format.spikes == "packed"
        tppe: dict[str, int | float | str] = {
            "block": "tppe",
            "timesteps": timesteps,
            "fifo_entry_bits": config.pe.weight_bits + OFFSET_BITS,
            "fast_prefix_sums": 2 if packed and not config.looks_up_late else 1,
            "laggy_prefix_sums": config.pe.laggy_units if config.looks_up_late else 0,
            "accumulators": timesteps + config.pe.speculation,
        }
        return (
            Component("tppe", "logic", pes, tppe),
            *(config.pe.registers(pes, timesteps, config.built_timesteps) if config.looks_up_late else ()),
            Component("p_lif", "logic", pes, {"block": "p_lif", "timesteps": timesteps}),
            *(part for part in self.other_components() if packed or part.unit != "compressor"),
        )

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Pseudo-sum less corrections, or the sum itself; counts additions and overflows of the real accumulators."""
        pe = self.config.pe
        if not pe.speculation:
            additions, overflows = accumulator.accumulate_by_timestep(
                layer.inputs, layer.weights, layer.timesteps, pe.pseudo_accumulator_bits, first, sums
            )
            return {"additions": additions, "accumulator_overflows": overflows}
        events = np.zeros(accumulator.EVENTS, np.int64)
        passes = layer.timesteps // self._timesteps_at_once(layer)
        accumulator.accumulate(
            layer.inputs, layer.weights, layer.timesteps, pe.pseudo_accumulator_bits, pe.correction_accumulator_bits,
            first, sums, events,
        )  # fmt: skip
        return {
            "correction_additions": int(events[accumulator.CORRECTIONS]),
            "discarded_words": int(
                events[accumulator.DISCARDS]
                if passes == 1
                else passes * events[accumulator.MATCHES] - events[accumulator.CORRECTIONS]
            ),
            "pseudo_accumulator_overflows": passes * int(events[accumulator.PSEUDO_OVERFLOWS]),
            "correction_accumulator_overflows": int(events[accumulator.CORRECTION_OVERFLOWS]),
        }

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bitmask, pointer and a packed word for every neuron that fires; raw, a bit for each neuron and timestep."""
        if self.config.format.spikes == "raw":
            return super().output_bytes(layer, active, spikes)
        pointer = -(-self.config.format.pointer_bits // 8)
        return -(-layer.n // 8) + pointer + -(-active * layer.output_bits // 8)

    @property
    def join_unit(self) -> JoinUnit:
        """With laggy prefix-sums where they look words up."""
        return self.config.pe.unit() if self.config.looks_up_late else JoinUnit()

    def rows_and_join(self, layer: Layer) -> tuple[Rows, Join]:
        """One pass over packed words; other ways to store spikes and to order timesteps differ in rows and passes."""
        pe, unrolled, raw = self.config.pe, self.config.format.unrolled, self.config.format.spikes == "raw"
        passes = layer.timesteps // self._timesteps_at_once(layer)
        join = Join(
            passes=passes, word_bits=layer.timesteps, unit=self.join_unit, word_reads=WORD_READS[pe.payload_fetch],
            interval=1 if self.config.scheduler.timesteps == "parallel" else self.config.neuron.cycles,
            finish=pe.subtract_cycles if pe.speculation else 0,
        )  # fmt: skip
        if not raw:
            rows, _ = rows_of(layer, unrolled)
        elif passes == 1:
            rows, join = raw_rows(layer, unrolled), join._replace(word_reads=WORDS_WITH_BITMASK)
        else:
            rows, join = timestep_rows(layer, unrolled), join._replace(word_bits=0)
        return rows, join

    def _timesteps_at_once(self, layer: Layer) -> int:
        return layer.timesteps if self.config.scheduler.timesteps == "parallel" else 1

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Additions of a weight: with speculation one for every match of every pass, for all its timesteps at once, and
        one for every timestep of it that is corrected; without, one for every timestep that spikes."""
        if not self.config.pe.speculation:
            return events["additions"]
        return int(counts[MATCHES]) + events["correction_additions"]

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Every match is found by the fast prefix-sum, added once, and passes the FIFOs."""
        config, matches = self.config, done["matches"]
        results = done["sums"] * self._timesteps_at_once(layer)
        fires = layer.fires
        packed, waiting = config.format.spikes == "packed", matches if config.looks_up_late else 0
        queued = done["laggy"] // pass_cycles(config.pe.laggy_adders) if config.pe.laggy == "queued" and waiting else 0
        speculated = {
            ("tppe", "pseudo_add"): matches,
            ("tppe", "correction_add"): events.get("correction_additions", 0),
            ("tppe", "subtract"): results,
        }
        return {
            ("tppe", "join"): done["joins"],
            ("tppe", "fast_prefix"): matches * (2 if packed and not config.looks_up_late else 1),
            ("tppe", "laggy_prefix"): done["laggy"],
            **(speculated if config.pe.speculation else {("tppe", "add"): events["additions"]}),
            ("tppe", "fifo_push"): waiting,
            ("tppe", "fifo_pop"): waiting,
            ("p_lif", "update"): results if fires else 0,
            **({("compressor", "encode"): done["encoded"]} if packed else {}),
            **({("laggy_queue", way): queued for way in ("write", "read")} if queued else {}),
        }
