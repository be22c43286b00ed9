"""Systolic array: R x C accumulators, operands entering at the west and the north edge, each step one place further.

An operand that enters row i or column j is delayed by i or j cycles (*skew*), so that partners meet. A *fold* is one
filling of the array. With D *steps* streamed, R rows and C columns, of the array and not just those in use, it takes

    output stationary:            D + (R + C - 2) + R        stream K; skew; sums are shifted out through the columns
    weight or input stationary:   R + D + (R + C - 2)        shift the stationary operand in; stream; skew

so 2R + C + D - 2 cycles in all three, and folds do not overlap:

    dataflow    rows    columns     D       folds
    output      N       M'          K       ceil(N / R) ceil(M' / C)
    weight      K       N           M'      ceil(K / R) ceil(N / C)
    input       K       M'          N       ceil(K / R) ceil(M' / C)

with M' the columns of the input matrix: positions times timesteps. These are the run-time equation and the mappings of
SCALE-Sim's papers (Samajdar et al., ISPASS 2020, section III; 2 R + C + T - 2 per tile in v3 too, 2504.15377), with
which LoAS (MICRO 2024, section VI-B) estimates dense machines. The program SCALE-Sim 3.0.0 counts otherwise: a cycle
less a layer, as it tells the number of the last cycle; output stationary also R cycles less a fold, as it leaves out
the shifting out; and it rounds the output size of strided convolutions up. SCALE-Sim's rows are outputs and its columns
filters; here rows are the operand that LoAS's comparison puts there, so transpose when comparing.

A place of the array may hold a *window* of W timesteps (PTB): a step then takes W cycles and W sums a place are shifted
out, W R cycles instead of R.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from archsim.hardware.fields import Count, SumBits, WeightBits
from archsim.hardware.loading import Block
from archsim.jit import njit


class SystolicArrayConfig(Block):
    """Array of accumulators and the operand buffers at its edges."""

    rows: Count = Field(description="rows; the west operand enters here")
    columns: Count = Field(description="columns; the north operand enters here, sums leave here")
    weight_bits: WeightBits = Field(description="bits of a weight")
    accumulator_bits: SumBits = Field(description="bits of an accumulator, sign included")
    buffer_steps: int = Field(ge=1, le=4096, description="steps that one half of an edge's operand buffer holds")
    buffers: int = Field(ge=1, le=64, description="such halves: 2 is double-buffered")
    output_buffer: int = Field(ge=1, le=1024, description="blocks of finished sums that wait for neurons and memory")

    @property
    def skew_cycles(self) -> int:
        """Cycles from the first step's entry at the corner to its arrival in the opposite one."""
        return self.rows + self.columns - 2


@njit
def add_in_order(words: Any, weights: Any, order: Any, begin: Any, end: Any, group: Any, span: int, blocks: int,
                 bits: int, sums: Any) -> int:  # fmt: skip
    """Full sums of rows into ``sums`` int64 [rows, N, T], adding inputs in the order of the array.

    ``words`` uint16 [rows, K] are packed timesteps, ``weights`` int64 [K, N]. A row is in its ``group`` int64 [rows],
    whose timesteps are in ``blocks`` of ``span``; the inputs of a block i of all groups are ``order[begin[i] :
    end[i]]``. An input that is silent adds zero, so it is passed over. Returns how many additions left the range of an
    accumulator of ``bits`` bits.
    """
    rows, columns, timesteps = sums.shape
    limit = 1 << (bits - 1)
    overflows = 0
    for row in range(rows):
        for block in range(blocks):
            number = group[row] * blocks + block
            for i in range(begin[number], end[number]):
                k = order[i]
                word = words[row, k] >> (block * span)
                if word == 0:
                    continue
                for n in range(columns):
                    weight = weights[k, n]
                    for t in range(block * span, min((block + 1) * span, timesteps)):
                        if (words[row, k] >> t) & 1:
                            sums[row, n, t] += weight
                            overflows += int(not -limit <= sums[row, n, t] < limit)
    return overflows
