"""Neurons with random rules, small enough that potentials meet thresholds exactly."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from archsim.trace import Neuron

FIRES = ("spike", "signed", "integer", "nothing", "activation")
RESETS = ("hard", "soft", "soft_before_leak", "soft_after_leak", "none")


@st.composite
def neurons(draw, shape=(2, 1, 2), fires=FIRES):
    """A neuron with parameters per channel or for each of ``shape``, as a trace may hold it."""
    each = shape if draw(st.booleans()) else shape[:1]

    def some(low, high):
        size = int(np.prod(each))
        return np.array(draw(st.lists(st.integers(low, high), min_size=size, max_size=size)), np.int64).reshape(each)

    fires = draw(st.sampled_from(fires))
    if fires == "activation":
        entries = 1 << draw(st.integers(1, 5))
        table = np.array(draw(st.lists(st.integers(-30, 30), min_size=entries, max_size=entries)), np.int64)
        start = some(-20, 20) if draw(st.booleans()) else None
        return Neuron(
            "if", some(1, 20), reset="none", fires="signed", rounding=draw(st.sampled_from(["nearest", "down"])),
            start=start, activation=table, activation_multiplier=some(1, 9), activation_shift=draw(st.integers(0, 5)),
        )  # fmt: skip
    silent = fires == "nothing"
    fraction_bits = draw(st.integers(0, 5))
    rule = {"kind": draw(st.sampled_from(["lif", "if"])), "fraction_bits": fraction_bits, "fires": fires}
    if rule["kind"] == "lif":
        shift = draw(st.integers(1, 4))
        more = [{"leak_subtracts": False}, {"leak_subtracts": True}, {"leak_multiplier": some(0, 2**shift)}]
        rule |= {"leak_shift": shift} | draw(st.sampled_from(more))
    if draw(st.booleans()):
        shift = draw(st.integers(0, 4))
        rule |= {"current_shift": shift, "current_multiplier": some(0, 2**shift)}
        rule |= {"current_is_late": draw(st.booleans()), "resets_current": not silent and draw(st.booleans())}
    if draw(st.booleans()):
        rule["start"] = some(-(20 << fraction_bits), 20 << fraction_bits)
    if silent:
        return Neuron(threshold=None, **rule)
    rule |= {"reset": draw(st.sampled_from(RESETS)), "refractory": draw(st.sampled_from([0, 0, 1, 2]))}
    rule["threshold_in_fractions"] = draw(st.booleans())
    rule["threshold"] = some(1, 20 << fraction_bits * rule["threshold_in_fractions"])
    if rule["reset"] == "hard" and draw(st.booleans()):
        rule["reset_value"] = some(-(9 << fraction_bits), 9 << fraction_bits)
    if draw(st.booleans()):
        shift = draw(st.integers(0, 4))
        rule |= {"adaptation_shift": shift, "adaptation_multiplier": some(0, 2**shift)}
        rule["adaptation"] = some(0, 9 << fraction_bits)
    if fires == "integer":
        rule |= {"most": draw(st.integers(1, 6)), "rounding": draw(st.sampled_from(["nearest", "down"]))}
    else:
        rule["fires_at_threshold"] = draw(st.booleans())
    rule["mask_fire_once"] = fires == "spike" and draw(st.booleans())
    return Neuron(**rule)


@st.composite
def plain_neurons(draw, channels=2):
    """A neuron with a threshold, a leak by a shift and a reset alone."""
    thresholds = draw(st.lists(st.integers(1, 20), min_size=channels, max_size=channels))
    subtracts, at_threshold = draw(st.booleans()), draw(st.booleans())
    reset = draw(st.sampled_from(RESETS[:-1]))
    return Neuron(
        "lif", np.array(thresholds), draw(st.integers(1, 4)), draw(st.integers(0, 5)), reset, False, subtracts,
        at_threshold,
    )  # fmt: skip


@st.composite
def currents(draw, shape=(2, 1, 2), images=2, timesteps=(1, 12)):
    """Currents [T, I, ...] around the thresholds of those neurons."""
    steps = draw(st.integers(*timesteps))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(-25, 45, (steps, images, *shape))
