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

from typing import Any, NamedTuple

from pydantic import Field

from archsim.compress.bitmask import popcount
from archsim.hardware.loading import Block
from archsim.jit import kernel

HARD, SOFT, SOFT_BEFORE_LEAK, SOFT_AFTER_LEAK = range(4)
RESETS = {"hard": HARD, "soft": SOFT, "soft_before_leak": SOFT_BEFORE_LEAK, "soft_after_leak": SOFT_AFTER_LEAK}


class LifConfig(Block):
    """Neuron units."""

    cycles: int = Field(ge=1, le=64, description="cycles for one full sum: a timestep, or all that are parallel")


class Rule(NamedTuple):
    """How neurons fire, leak and are reset; ``reset`` is one of the numbers above."""

    fraction_bits: int
    leak_shift: int
    leak_subtracts: bool
    reset: int
    at_threshold: bool


def rule_of(neuron: Any) -> Rule:
    """The rule of a trace's neuron."""
    return Rule(
        neuron.fraction_bits, neuron.leak_shift, neuron.leak_subtracts, RESETS[neuron.reset], neuron.fires_at_threshold
    )


def is_ruled(neuron: Any) -> bool:
    """Whether a Rule and a threshold per channel say all of ``neuron``: it fires spikes and remembers its potential."""
    more = (neuron.leak_multiplier, neuron.current_shift, neuron.adaptation_shift, neuron.reset_value, neuron.start)
    plain = neuron.fires == "spike" and neuron.reset in RESETS and not neuron.threshold_in_fractions
    per_channel = neuron.threshold is not None and neuron.threshold.ndim < 2
    return plain and per_channel and not neuron.refractory and all(value is None for value in more)


def leaks(rule: Rule) -> bool:
    """Whether a potential that does not fire changes from a timestep to the next by itself."""
    return rule.leak_shift > 0 or rule.leak_subtracts


@kernel
def fires(total: int, limit: int, rule: Rule) -> bool:
    """Whether a neuron whose potential is ``total`` spikes, with the threshold ``limit`` in the same units."""
    return total > limit or (rule.at_threshold and total == limit)


@kernel
def settle(total: int, limit: int, fired: bool, rule: Rule) -> int:
    """The potential behind a timestep in which it was ``total``."""
    if fired and rule.reset == HARD:
        return 0
    if fired and rule.reset == SOFT:
        return total - limit
    if fired and rule.reset == SOFT_BEFORE_LEAK:
        total -= limit
    shifted = total >> rule.leak_shift
    left = total - shifted if rule.leak_subtracts else shifted
    return left - limit if fired and rule.reset == SOFT_AFTER_LEAK else left


@kernel
def fire(sums: Any, bias: Any, threshold: Any, rule: Rule, mask_fire_once: bool, words: Any) -> None:
    """Packed output words uint16 [rows, N] of full sums int64 [rows, N, T]."""
    rows, columns, timesteps = sums.shape
    for row in range(rows):
        for n in range(columns):
            potential = 0
            packed = 0
            limit = threshold[n] << rule.fraction_bits
            for t in range(timesteps):
                potential += (sums[row, n, t] + bias[n]) << rule.fraction_bits
                fired = fires(potential, limit, rule)
                packed |= int(fired) << t
                potential = settle(potential, limit, fired, rule)
            if mask_fire_once and popcount(packed) == 1:
                packed = 0
            words[row, n] = packed


@kernel
def count_overflows(sums: Any, bias: Any, threshold: Any, rule: Rule, bits: int) -> int:
    """How often a potential of full sums int64 [rows, N, T] does not fit ``bits``, sign included.

    Timesteps count once, in which X[t], before the neuron fires, or u[t], behind, is outside -2^(bits-1) ..
    2^(bits-1) - 1.
    """
    limit, overflows = 1 << (bits - 1), 0
    for row in range(sums.shape[0]):
        for n in range(sums.shape[1]):
            potential, height = 0, threshold[n] << rule.fraction_bits
            for t in range(sums.shape[2]):
                potential += (sums[row, n, t] + bias[n]) << rule.fraction_bits
                fits = -limit <= potential < limit
                potential = settle(potential, height, fires(potential, height, rule), rule)
                overflows += int(not (fits and -limit <= potential < limit))
    return overflows
