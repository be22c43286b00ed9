"""Leaky integrate-and-fire neurons. LoAS's P-LIF unrolls all timesteps and takes ``cycles`` for a neuron; a neuron unit
that works timestep by timestep takes ``cycles`` for each.

For every output neuron, with membrane potential u = 0 at first, f fraction bits, leak shift l, threshold h, and
x[t] = O[t] + bias:

    X[t] = (x[t] << f) + u[t-1],    C[t] = X[t] > (h << f)  (>= with ``at_threshold``),
    u[t] = leak(X[t]), or on a spike 0 (HARD), X[t] - (h << f) (SOFT), leak(X[t] - (h << f)) (SOFT_BEFORE_LEAK),
           leak(X[t]) - (h << f) (SOFT_AFTER_LEAK),
    leak(X) = X >> l (arithmetic shift), or X - (X >> l) with ``leak_subtracts``.

With ``mask_fire_once`` a neuron that fired exactly once is silenced, as LoAS's output compressor does after
preprocessing. Source: LoAS (MICRO 2024) equations 1 to 3, sections IV-D, V.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from archsim.compress.bitmask import popcount
from archsim.hardware.loading import Block
from archsim.jit import kernel

HARD, SOFT, SOFT_BEFORE_LEAK, SOFT_AFTER_LEAK = range(4)
RESETS = {"hard": HARD, "soft": SOFT, "soft_before_leak": SOFT_BEFORE_LEAK, "soft_after_leak": SOFT_AFTER_LEAK}


class LifConfig(Block):
    """Neuron units."""

    cycles: int = Field(ge=1, le=64, description="cycles for one full sum: a timestep, or all that are parallel")


@kernel
def settle(total: int, limit: int, fired: bool, leak_shift: int, leak_subtracts: bool, reset: int) -> int:
    """The potential after a timestep in which it was ``total``, with the threshold ``limit`` in the same units."""
    if fired and reset == HARD:
        return 0
    if fired and reset == SOFT:
        return total - limit
    if fired and reset == SOFT_BEFORE_LEAK:
        total -= limit
    left = total - (total >> leak_shift) if leak_subtracts else total >> leak_shift
    return left - limit if fired and reset == SOFT_AFTER_LEAK else left


@kernel
def fire(sums: Any, bias: Any, threshold: Any, at_threshold: bool, fraction_bits: int, leak_shift: int,
         leak_subtracts: bool, reset: int, mask_fire_once: bool, words: Any) -> None:  # fmt: skip
    """Packed output words uint16 [rows, N] of full sums int64 [rows, N, T]."""
    rows, columns, timesteps = sums.shape
    for row in range(rows):
        for n in range(columns):
            potential = 0
            packed = 0
            limit = threshold[n] << fraction_bits
            for t in range(timesteps):
                potential += (sums[row, n, t] + bias[n]) << fraction_bits
                fired = potential > limit or (at_threshold and potential == limit)
                if fired:
                    packed |= 1 << t
                potential = settle(potential, limit, fired, leak_shift, leak_subtracts, reset)
            if mask_fire_once and popcount(packed) == 1:
                packed = 0
            words[row, n] = packed
