"""Leaky integrate-and-fire neurons. LoAS's P-LIF unrolls all timesteps and takes ``cycles`` for a neuron; a neuron unit
that works timestep by timestep takes ``cycles`` for each.

For every output neuron, with membrane potential u = 0 at first, f fraction bits, leak shift l, threshold h, and
x[t] = O[t] + bias:

    X[t] = (x[t] << f) + u[t-1],    C[t] = X[t] > (h << f),
    u[t] = 0 on a spike (hard reset) or X[t] - (h << f) (soft), else X[t] >> l (arithmetic shift).

With ``mask_fire_once`` a neuron that fired exactly once is silenced, as LoAS's output compressor does after
preprocessing. Source: LoAS (MICRO 2024) equations 1 to 3, sections IV-D, V.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from archsim.compress.bitmask import popcount
from archsim.hardware.loading import Block
from archsim.jit import kernel


class LifConfig(Block):
    """Neuron units."""

    cycles: int = Field(ge=1, le=64, description="cycles for one full sum: a timestep, or all that are parallel")


@kernel
def fire(sums: Any, bias: Any, threshold: Any, fraction_bits: int, leak_shift: int, soft_reset: bool,
         mask_fire_once: bool, words: Any) -> None:  # fmt: skip
    """Packed output words uint16 [rows, N] of full sums int64 [rows, N, T]."""
    rows, columns, timesteps = sums.shape
    for row in range(rows):
        for n in range(columns):
            potential = 0
            packed = 0
            limit = threshold[n] << fraction_bits
            for t in range(timesteps):
                potential += (sums[row, n, t] + bias[n]) << fraction_bits
                if potential > limit:
                    packed |= 1 << t
                    potential = potential - limit if soft_reset else 0
                else:
                    potential >>= leak_shift
            if mask_fire_once and popcount(packed) == 1:
                packed = 0
            words[row, n] = packed
