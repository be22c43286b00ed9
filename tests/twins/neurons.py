"""Neurons in slow scalar loops over Python integers, written from ``workloads/README.md``."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


def start(neuron, place):
    """The state in front of the first timestep of the neuron at ``place`` (channel, row, column)."""
    return (
        {"u": value(neuron.start, place) or 0, "i": 0, "b": 0, "rests": 0}
        if neuron.activation is None
        else {"u": 0, "c": 0, "t": 0}
    )


def run(neuron, currents, place, state=None):
    """Outputs of one neuron, timestep by timestep, and its state behind them."""
    state = dict(start(neuron, place) if state is None else state)
    return [timestep(neuron, int(current), place, state) for current in currents], state


def timestep(neuron, current, place, state):
    """The output; ``state`` becomes that behind the timestep."""
    if neuron.activation is not None:
        return followed(neuron, current, place, state)
    arriving = current * 2**neuron.fraction_bits
    if neuron.current_shift is not None:
        late = state["i"]
        state["i"] = scaled(late, neuron.current_multiplier, neuron.current_shift, place) + arriving
        arriving = late if neuron.current_is_late else state["i"]
    if state["rests"]:
        state["rests"] -= 1
        spikes, total = 0, state["u"]
        if neuron.resets_current:
            state["i"] = 0
    else:
        total = state["u"] + arriving
        height = limit(neuron, place, state)
        spikes = fired(neuron, total, height)
        state["u"] = behind(neuron, total, spikes, height, place)
        if spikes:
            state["rests"] = neuron.refractory
            if neuron.resets_current:
                state["i"] = 0
    if neuron.adaptation_shift is not None:
        faded = scaled(state["b"], neuron.adaptation_multiplier, neuron.adaptation_shift, place)
        state["b"] = faded + value(neuron.adaptation, place) * abs(spikes)
    return total if neuron.fires == "nothing" else spikes


def followed(neuron, current, place, state):
    """The output of a neuron with an activation."""
    state["u"] += current
    state["t"] += 1
    entries = list(neuron.activation)
    mean = Fraction(state["u"] * value(neuron.activation_multiplier, place), state["t"] * 2**neuron.activation_shift)
    index = min(max(math.floor(mean), -len(entries) // 2), len(entries) // 2 - 1)
    wanted = state["t"] * int(entries[len(entries) // 2 + index]) + (value(neuron.start, place) or 0)
    ratio = Fraction(wanted, value(neuron.threshold, place))
    spikes = round(ratio) if neuron.rounding == "nearest" else math.floor(ratio)
    step = (spikes > state["c"]) - (spikes < state["c"])
    state["c"] += step
    return step


def limit(neuron, place, state):
    """H[t]."""
    if neuron.fires == "nothing":
        return None
    return (
        value(neuron.threshold, place) * (1 if neuron.threshold_in_fractions else 2**neuron.fraction_bits) + state["b"]
    )


def fired(neuron, total, height):
    """s[t]."""
    if neuron.fires == "nothing":
        return 0
    if neuron.fires == "integer":
        ratio = Fraction(total, height)
        whole = round(ratio) if neuron.rounding == "nearest" else ratio.numerator // ratio.denominator
        return min(max(whole, 0), neuron.most)
    meets = neuron.fires_at_threshold and abs(total) == height
    if abs(total) < height or (abs(total) == height and not meets):
        return 0
    return 1 if total > 0 else -1 if neuron.fires == "signed" else 0


def behind(neuron, total, spikes, height, place):
    """u[t] of a neuron that does not rest."""
    if not spikes or neuron.reset == "none":
        return left(neuron, total, place)
    if neuron.reset == "hard":
        return value(neuron.reset_value, place) or 0
    taken = spikes * height
    return {
        "soft": total - taken,
        "soft_before_leak": left(neuron, total - taken, place),
        "soft_after_leak": left(neuron, total, place) - taken,
    }[neuron.reset]


def left(neuron, potential, place):
    """A potential after the leak, rounded down to the shift's side."""
    if neuron.leak_multiplier is not None:
        return scaled(potential, neuron.leak_multiplier, neuron.leak_shift, place)
    shifted = potential // 2**neuron.leak_shift
    return potential - shifted if neuron.leak_subtracts else shifted


def scaled(number, multiplier, shift, place):
    """``number`` times a multiplier over 2^shift, rounded down."""
    return number * value(multiplier, place) // 2**shift


def value(array, place):
    """What the neuron at ``place`` has of a parameter, one per channel or one per neuron; None without."""
    return None if array is None else int(np.asarray(array)[tuple(place[: np.ndim(array)])])


def masked(neuron, outputs):
    """Outputs of all timesteps, of a neuron that is silenced if it fires once."""
    return [False] * len(outputs) if neuron.mask_fire_once and sum(outputs) == 1 else outputs
