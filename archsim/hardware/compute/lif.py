"""Leaky integrate-and-fire neurons. LoAS's P-LIF unrolls all timesteps into a pipeline that takes a neuron a cycle and
has its word ``cycles`` later; a neuron unit that works timestep by timestep takes ``cycles`` for each.

What neurons do is said in :mod:`archsim.trace.neurons`, with x[t] = O[t] + bias. Most have a :class:`Rule` alone: a
threshold, a leak by a shift and a reset. For every output of such a neuron, with membrane potential u = 0 at first,
f fraction bits, leak shift l and threshold h:

    X[t] = (x[t] << f) + u[t-1],    C[t] = X[t] > (h << f)  (>= with ``at_threshold``),
    u[t] = leak(X[t]), or on a spike 0 (HARD), X[t] - (h << f) (SOFT), leak(X[t] - (h << f)) (SOFT_BEFORE_LEAK),
           leak(X[t]) - (h << f) (SOFT_AFTER_LEAK),
    leak(X) = X >> l (arithmetic shift), or X - (X >> l) with ``leak_subtracts``.

Source: LoAS (MICRO 2024) equations 1 to 3, sections IV-D, V. With ``mask_fire_once`` a neuron that fired exactly once
in all timesteps is silenced behind (:func:`mask`), as LoAS's output compressor does after preprocessing.

Neurons whose spikes follow an activation of their mean current (:mod:`archsim.trace.neurons`) divide by the number of
the timestep, multiply by it and look up a table in the same ``cycles``.

:func:`fire_rows` runs any neurons, a window of timesteps at a time: their :class:`State` is what a machine carries from
a window to the next. Of those with a rule alone it is :func:`fire`, which is fast.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.hardware.loading import Block
from archsim.jit import inlined, kernel

HARD, SOFT, SOFT_BEFORE_LEAK, SOFT_AFTER_LEAK, NO_RESET = range(5)
RESETS = {
    "hard": HARD, "soft": SOFT, "soft_before_leak": SOFT_BEFORE_LEAK, "soft_after_leak": SOFT_AFTER_LEAK,
    "none": NO_RESET,
}  # fmt: skip
SPIKE, SIGNED, INTEGER, NOTHING = range(4)
FIRES = {"spike": SPIKE, "signed": SIGNED, "integer": INTEGER, "nothing": NOTHING}


class LifConfig(Block):
    """Neuron units."""

    cycles: int = Field(
        ge=1, le=64, description="cycles from a full sum to its spikes: a timestep's, or all that are parallel"
    )


class Rule(NamedTuple):
    """How neurons fire, leak and are reset; ``reset`` is one of the numbers above."""

    fraction_bits: int
    leak_shift: int
    leak_subtracts: bool
    reset: int
    at_threshold: bool


class Neurons(NamedTuple):
    """Any neurons: numbers that all of them share, and parameters int64 [P, N].

    P, ``places``, is 1, or the positions of an image where each neuron has its own; parameters that the neurons do not
    have are [0, 0]. ``threshold`` is in the units of u. A shift is -1 where there is no such leak. ``activation`` int64
    [E] is the table of all, [0] without one.
    """

    rule: Rule
    fires: int
    most: int
    to_nearest: bool
    current_shift: int
    current_is_late: bool
    resets_current: bool
    adaptation_shift: int
    refractory: int
    places: int
    ruled: bool
    activation_shift: int
    activation: NDArray[np.int64]
    threshold: NDArray[np.int64]
    leak_multiplier: NDArray[np.int64]
    current_multiplier: NDArray[np.int64]
    adaptation_multiplier: NDArray[np.int64]
    adaptation: NDArray[np.int64]
    reset_value: NDArray[np.int64]
    start: NDArray[np.int64]
    activation_multiplier: NDArray[np.int64]


_PARAMETERS = Neurons._fields[Neurons._fields.index("threshold") :]


class State(NamedTuple):
    """What neurons carry between timesteps, int64 [rows, N] each; what they do not have is [0, 0]."""

    potential: NDArray[np.int64]
    current: NDArray[np.int64]
    adaptation: NDArray[np.int64]
    rest: NDArray[np.int64]
    spikes: NDArray[np.int64]
    time: NDArray[np.int64]

    def rows(self, first: int, count: int) -> State:
        """Of ``count`` rows from ``first`` on: a view."""
        return State(*(array[first : first + count] for array in self))

    def copy(self) -> State:
        """The same, in memory of its own."""
        return State(*(array.copy() for array in self))


def rule_of(neuron: Any) -> Rule:
    """The rule of a trace's neuron."""
    return Rule(
        neuron.fraction_bits, neuron.leak_shift, neuron.leak_subtracts, RESETS[neuron.reset], neuron.fires_at_threshold
    )


def is_ruled(neuron: Any) -> bool:
    """Whether a Rule and a threshold per channel say all of ``neuron``: it fires spikes and remembers its potential."""
    more = (
        neuron.leak_multiplier, neuron.current_shift, neuron.adaptation_shift, neuron.reset_value, neuron.start,
        neuron.activation,
    )  # fmt: skip
    plain = neuron.fires == "spike" and neuron.reset != "none" and not neuron.threshold_in_fractions
    per_channel = neuron.threshold is not None and neuron.threshold.ndim < 2
    return plain and per_channel and not neuron.refractory and all(value is None for value in more)


def neurons_of(neuron: Any) -> Neurons:
    """The neurons that :func:`fire_rows` runs, of a trace's neuron."""
    given = {name: getattr(neuron, name) for name in _PARAMETERS}
    parameters = {name: _by_place(values) for name, values in given.items() if values is not None}
    if neuron.fires != "nothing" and not neuron.threshold_in_fractions:
        parameters["threshold"] <<= neuron.fraction_bits
    places = max((len(values) for values in parameters.values()), default=1)
    spread = {name: np.repeat(values, places // len(values), 0) for name, values in parameters.items()}
    return Neurons(
        rule_of(neuron), FIRES[neuron.fires], neuron.most, neuron.rounding == "nearest",
        -1 if neuron.current_shift is None else neuron.current_shift, neuron.current_is_late, neuron.resets_current,
        -1 if neuron.adaptation_shift is None else neuron.adaptation_shift, neuron.refractory, places,
        is_ruled(neuron), neuron.activation_shift,
        np.zeros(0, np.int64) if neuron.activation is None else np.array(neuron.activation, np.int64),
        **{name: spread.get(name, np.zeros((0, 0), np.int64)) for name in _PARAMETERS},
    )  # fmt: skip


def _by_place(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """A copy of parameters [N] or [N, H, W] as [P, N]."""
    return np.array(values.reshape(len(values), -1).T, np.int64, order="C")


def start_state(neuron: Any, rows: int, columns: int, first: int = 0) -> State:
    """The state of ``rows`` x ``columns`` outputs of a trace's neuron, from the row ``first`` on, before all
    timesteps."""
    follows = neuron.activation is not None
    exist = (
        True, neuron.current_shift is not None, neuron.adaptation_shift is not None, neuron.refractory > 0, follows,
        follows,
    )  # fmt: skip
    state = State(*(np.zeros((rows, columns) if exists else (0, 0), np.int64) for exists in exist))
    if neuron.start is not None and not follows:
        start = _by_place(neuron.start)
        state.potential[:] = start[np.arange(first, first + rows) % len(start)]
    return state


def leaks(rule: Rule) -> bool:
    """Whether a potential that does not fire changes from a timestep to the next by itself."""
    return rule.leak_shift > 0 or rule.leak_subtracts


@inlined
def fires(total: int, limit: int, rule: Rule) -> bool:
    """Whether a neuron whose potential is ``total`` spikes, with the threshold ``limit`` in the same units."""
    return total > limit or (rule.at_threshold and total == limit)


@inlined
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


@inlined
def fits(potential: int, bits: int) -> bool:
    """Whether a potential fits ``bits``, sign included."""
    return -(1 << (bits - 1)) <= potential < (1 << (bits - 1))


@kernel
def fire(sums: Any, bias: Any, limits: Any, rule: Rule, potentials: Any, words: Any) -> None:
    """Packed output words uint16 [rows, N] of full sums int64 [rows, N, T] of the next T timesteps.

    ``limits`` int64 [N] are thresholds in the units of u. ``potentials`` int64 [rows, N] are those in front of the
    timesteps and become those behind.
    """
    rows, columns, timesteps = sums.shape
    for row in range(rows):
        for n in range(columns):
            potential = potentials[row, n]
            packed = 0
            limit = limits[n]
            for t in range(timesteps):
                potential += (sums[row, n, t] + bias[n]) << rule.fraction_bits
                fired = fires(potential, limit, rule)
                packed |= int(fired) << t
                potential = settle(potential, limit, fired, rule)
            potentials[row, n] = potential
            words[row, n] = packed


@inlined
def quotient(total: int, limit: int, to_nearest: bool) -> int:
    """``total / limit``, rounded down or to the nearest integer, a half to the even one."""
    whole = total // limit
    twice = 2 * (total - whole * limit)
    if to_nearest and (twice > limit or (twice == limit and whole & 1 == 1)):
        whole += 1
    return whole


@inlined
def wanted(total: int, time: int, at: int, n: int, neurons: Neurons) -> int:
    """How many spikes the activation asks for of a neuron whose currents of ``time`` timesteps are ``total``."""
    half = len(neurons.activation) // 2
    index = total * neurons.activation_multiplier[at, n] // (time << neurons.activation_shift)
    value = time * neurons.activation[min(max(index, -half), half - 1) + half]
    if len(neurons.start):
        value += neurons.start[at, n]
    return quotient(value, neurons.threshold[at, n], neurons.to_nearest)


@kernel
def follow_window(sums: Any, bias: Any, neurons: Neurons, first: int, state: State, bits: int, outputs: Any) -> int:
    """:func:`fire_window` of neurons with an activation."""
    overflows = 0
    rows, columns, timesteps = sums.shape
    for row in range(rows):
        at = (first + row) % neurons.places
        for n in range(columns):
            total, spikes, time = state.potential[row, n], state.spikes[row, n], state.time[row, n]
            for t in range(timesteps):
                total += sums[row, n, t] + bias[n]
                time += 1
                fired = min(max(wanted(total, time, at, n, neurons) - spikes, -1), 1)
                spikes += fired
                outputs[row, n, t] = fired
                overflows += int(bits > 0 and not fits(total, bits))
            state.potential[row, n], state.spikes[row, n], state.time[row, n] = total, spikes, time
    return overflows


@inlined
def level(total: int, limit: int, neurons: Neurons) -> int:
    """s[t] of a neuron whose potential is ``total``, with the threshold ``limit``."""
    if neurons.fires == INTEGER:
        return min(max(quotient(total, limit, neurons.to_nearest), 0), neurons.most)
    if neurons.fires == NOTHING:
        return 0
    if fires(total, limit, neurons.rule):
        return 1
    return -1 if neurons.fires == SIGNED and fires(-total, limit, neurons.rule) else 0


@inlined
def left_of(total: int, at: int, n: int, neurons: Neurons) -> int:
    """The potential ``total`` a timestep later."""
    rule = neurons.rule
    if len(neurons.leak_multiplier):
        return (total * neurons.leak_multiplier[at, n]) >> rule.leak_shift
    shifted = total >> rule.leak_shift
    return total - shifted if rule.leak_subtracts else shifted


@inlined
def behind(total: int, limit: int, spikes: int, at: int, n: int, neurons: Neurons) -> int:
    """The potential behind a timestep in which it was ``total`` and ``spikes`` fired."""
    reset = neurons.rule.reset
    if spikes != 0 and reset == HARD:
        values = neurons.reset_value
        return values[at, n] if len(values) else 0
    if spikes != 0 and reset == SOFT:
        return total - spikes * limit
    if reset == SOFT_BEFORE_LEAK:
        total -= spikes * limit
    left = left_of(total, at, n, neurons)
    return left - spikes * limit if reset == SOFT_AFTER_LEAK else left


@kernel
def fire_window(sums: Any, bias: Any, neurons: Neurons, first: int, state: State, bits: int, outputs: Any) -> int:
    """Outputs int64 [rows, N, T] of full sums int64 [rows, N, T] of the next T timesteps, as :func:`fire_rows` says.

    Returns what :func:`count_overflows` does; none are counted with 0 ``bits``.
    """
    if len(neurons.activation):
        return follow_window(sums, bias, neurons, first, state, bits, outputs)
    rule, overflows = neurons.rule, 0
    has_current, adapts = neurons.current_shift >= 0, neurons.adaptation_shift >= 0
    rows, columns, timesteps = sums.shape
    for row in range(rows):
        at = (first + row) % neurons.places
        for n in range(columns):
            potential = state.potential[row, n]
            current = state.current[row, n] if has_current else 0
            adaptation = state.adaptation[row, n] if adapts else 0
            rest = state.rest[row, n] if neurons.refractory else 0
            height = neurons.threshold[at, n] if neurons.fires != NOTHING else 1
            for t in range(timesteps):
                arriving = (sums[row, n, t] + bias[n]) << rule.fraction_bits
                if has_current:
                    late = current
                    current = ((current * neurons.current_multiplier[at, n]) >> neurons.current_shift) + arriving
                    arriving = late if neurons.current_is_late else current
                spikes, total = 0, potential
                rests = rest > 0
                if rests:
                    rest -= 1
                else:
                    total = potential + arriving
                    limit = height + adaptation
                    spikes = level(total, limit, neurons)
                    potential = behind(total, limit, spikes, at, n, neurons)
                    rest = neurons.refractory if spikes != 0 else 0
                if neurons.resets_current and (rests or spikes != 0):
                    current = 0
                if adapts:
                    faded = (adaptation * neurons.adaptation_multiplier[at, n]) >> neurons.adaptation_shift
                    adaptation = faded + neurons.adaptation[at, n] * abs(spikes)
                outputs[row, n, t] = total if neurons.fires == NOTHING else spikes
                overflows += int(bits > 0 and not (fits(total, bits) and fits(potential, bits)))
            state.potential[row, n] = potential
            if has_current:
                state.current[row, n] = current
            if adapts:
                state.adaptation[row, n] = adaptation
            if neurons.refractory:
                state.rest[row, n] = rest
    return overflows


@kernel
def pack(outputs: Any, words: Any) -> None:
    """Words uint16 [rows, N] of spikes, outputs [rows, N, T] of 0 and 1, the first timestep in the lowest bit."""
    rows, columns, timesteps = outputs.shape
    for row in range(rows):
        for n in range(columns):
            word = 0
            for t in range(timesteps):
                word |= outputs[row, n, t] << t
            words[row, n] = word


@kernel
def count_ruled(sums: Any, bias: Any, limits: Any, rule: Rule, potentials: Any, bits: int) -> int:
    """What :func:`count_overflows` does, of neurons with a rule alone; ``limits`` and ``potentials`` as of ``fire``."""
    overflows = 0
    for row in range(sums.shape[0]):
        for n in range(sums.shape[1]):
            potential, limit = potentials[row, n], limits[n]
            for t in range(sums.shape[2]):
                total = potential + ((sums[row, n, t] + bias[n]) << rule.fraction_bits)
                potential = settle(total, limit, fires(total, limit, rule), rule)
                overflows += int(not (fits(total, bits) and fits(potential, bits)))
    return overflows


def mask(words: NDArray[np.uint16]) -> None:
    """Silence neurons whose ``words`` of all timesteps have one spike."""
    words[np.bitwise_count(words) == 1] = 0


def fire_rows(
    neurons: Neurons, sums: NDArray[np.int64], bias: NDArray[np.int64], first: int, state: State, outputs: NDArray[Any]
) -> None:
    """Outputs of full sums int64 [rows, N, T] of the next T timesteps, of the rows from ``first`` on.

    ``state`` is that of these rows in front of the window and becomes that behind it. ``outputs`` are words uint16
    [rows, N] of at most 16 timesteps of spikes, or values int64 [rows, N, T] of any neurons, which may be ``sums``.
    Nothing is masked.
    """
    if outputs.ndim == 3:
        fire_window(sums, bias, neurons, first, state, 0, outputs)
    elif neurons.ruled:
        fire(sums, bias, neurons.threshold[0], neurons.rule, state.potential, outputs)
    else:
        values = np.empty_like(sums)
        fire_window(sums, bias, neurons, first, state, 0, values)
        pack(values, outputs)


def count_overflows(
    neurons: Neurons, sums: NDArray[np.int64], bias: NDArray[np.int64], first: int, state: State, bits: int
) -> int:
    """How often a potential of full sums int64 [rows, N, T] does not fit ``bits``, sign included.

    Timesteps count once, in which X[t], before the neuron fires, or u[t], behind, is outside -2^(bits-1) ..
    2^(bits-1) - 1. ``state`` is that in front of the window and stays.
    """
    if neurons.ruled:
        found = count_ruled(sums, bias, neurons.threshold[0], neurons.rule, state.potential, bits)
    else:
        found = fire_window(sums, bias, neurons, first, state.copy(), bits, np.empty_like(sums))
    return int(found)
