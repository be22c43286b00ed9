"""Neurons of the training tools in one floating-point form, and that form as neurons of a trace, in integers.

A :class:`SpikingNeuron` is, in the units of its currents x::

    I[t] = current_decay I[t-1] + x[t]          without a synaptic current I[t] = x[t]
    X[t] = v[t-1] + I[t]                        v[t-1] + I[t-1] with ``current_is_late``
    H[t] = threshold + b[t]
    s[t]                                        as of :mod:`archsim.trace.neurons`, by ``fires``
    v[t] = decay r                              if s[t] and the reset is hard
         = decay (X[t] - s[t] H[t])             if s[t] and the reset is soft_before_leak
         = decay X[t] - s[t] H[t]               if s[t] and the reset is soft_after_leak
         = decay X[t]                           otherwise, and if the reset is none
    b[t+1] = adaptation_decay b[t] + adaptation |s[t]|

with r the ``reset_value``, v = decay ``start``, I = 0 and b = 0 at first, and rest and emptied currents as there.

The tools measure potentials from another zero and multiply what comes in. Potentials are measured here from the one
that leaks nowhere, and divided by what one unit of x adds. How a decay becomes integers:

    m = round(decay 2^l),    error = |m / 2^l - decay|

with the least shift l whose errors are all at most ``precision``; 0.9 with a precision of 2^-16 is 29491 / 2^15, which
is 0.89999, with an error of 6.1e-6. A neuron that has not fired then is at most ``drift`` away from the real one:

    |difference of X[t]| <= (error |X| + 2^-f) (1 + decay + ... + decay^(t-1))

Thresholds are rounded down to a fraction bit, and up where a neuron fires at its threshold: where potentials are exact
(decays without an error and bits enough, no threshold that is subtracted), spikes are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import UsageError, nearest
from archsim.trace import neurons
from archsim.trace.neurons import MAX_LEAK_SHIFT, MAX_MULTIPLIER_SHIFT, Neuron

Real = NDArray[np.float64]

PRECISION = 2.0**-16
"""Of a decay: 1,024 timesteps of a neuron that keeps 0.99 of its potential change it by less than 0.2 %."""
SAME_DECAY = 1e-6
"""Decays of models are 32-bit floats."""
FRACTION_BITS = 16
"""The most that potentials need where they are not exact."""
RESETS = ("hard", "soft_before_leak", "soft_after_leak", "none")
# How near to a threshold 32-bit floats may put a potential on either side.
_NEAR = 1e-6
_STATE = ("current", "raised", "rest")
_REAL = (
    "decay", "threshold", "reset_value", "start", "current_decay", "adaptation_decay", "adaptation",
)  # fmt: skip
_SAME = (
    "fires_at_threshold", "current_is_late", "resets_current", "refractory", "fires", "most", "rounding",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class SpikingNeuron:
    """Neurons whose equations are above; numbers, or arrays of one per channel or one per neuron."""

    decay: ArrayLike
    threshold: ArrayLike | None
    reset: str = "hard"
    fires_at_threshold: bool = False
    reset_value: ArrayLike = 0.0
    start: ArrayLike = 0.0
    current_decay: ArrayLike | None = None
    current_is_late: bool = False
    resets_current: bool = False
    adaptation_decay: ArrayLike | None = None
    adaptation: ArrayLike | None = None
    refractory: int = 0
    fires: str = "spike"
    most: int = 0
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        if self.reset not in RESETS:
            raise UsageError(
                f"SpikingNeuron.reset: got {self.reset!r}; allowed: {', '.join(RESETS)}{nearest(self.reset, RESETS)}"
            )
        for name in ("decay", "current_decay", "adaptation_decay"):
            given = getattr(self, name)
            if given is not None and not ((np.asarray(given) >= 0) & (np.asarray(given) <= 1)).all():
                raise UsageError(f"SpikingNeuron.{name}: got {given}; allowed: 0 to 1")

    def run(self, currents: Real) -> Real:
        """Outputs [T, I, N, ...] of currents of that shape: spikes, or potentials of neurons that fire nothing."""
        state = self.start_state(currents.shape[1:])
        outputs = np.empty(currents.shape)
        for t, arriving in enumerate(currents):
            outputs[t], state = self.step(arriving, state)
        return outputs

    def start_state(self, shape: tuple[int, ...]) -> dict[str, Real]:
        """What neurons [I, N, ...] carry between timesteps, in front of the first one."""
        decay, start = (_aligned(values, len(shape)) for values in (self.decay, self.start))
        return {"potential": np.zeros(shape) + decay * start, **{name: np.zeros(shape) for name in _STATE}}

    def step(
        self, arriving: Real, state: dict[str, Real], observed: Real | None = None
    ) -> tuple[Real, dict[str, Real]]:
        """Outputs of a timestep for currents [I, N, ...], and the state behind it.

        Where a potential misses the threshold by no more than a 32-bit float rounds, ``observed`` spikes decide.
        """
        rank = arriving.ndim
        own = {name: _aligned(getattr(self, name), rank) for name in _REAL if getattr(self, name) is not None}
        late, current = state["current"], arriving + own.get("current_decay", np.zeros(())) * state["current"]
        total = state["potential"] + (late if self.current_is_late else current)
        limit = own.get("threshold", np.ones(())) + state["raised"]
        rest, raised = state["rest"], state["raised"]
        resting = rest > 0
        fired = self._fired(total, limit)
        if observed is not None and self.fires == "spike":
            gap = np.abs(total - limit)
            size = np.abs(arriving) + np.abs(state["potential"]) + np.abs(limit)
            # A potential that equals the threshold in double precision decides itself, so that > and >= stay apart.
            fired = np.where((gap > 0) & (gap <= _NEAR * size), observed, fired)
        fired = np.where(resting, 0.0, fired)
        left = self._left(total, fired, limit, own["decay"], own["reset_value"])
        if self.resets_current:
            current = np.where(resting | (fired != 0), 0.0, current)
        if "adaptation" in own:
            raised = own["adaptation_decay"] * raised + own["adaptation"] * np.abs(fired)
        after = {
            "potential": np.where(resting, state["potential"], left),
            "current": current if "current_decay" in own else state["current"],
            "raised": raised,
            "rest": np.where(resting, rest - 1, self.refractory * (fired != 0)),
        }
        return total if self.fires == "nothing" else fired, after

    def _fired(self, total: Real, limit: Real) -> Real:
        if self.fires == "nothing":
            return np.zeros(total.shape)
        if self.fires == "integer":
            whole: Real = np.floor(total / limit) if self.rounding == "down" else np.round(total / limit)
            return np.clip(whole, 0.0, float(self.most))
        above = total >= limit if self.fires_at_threshold else total > limit
        below = total <= -limit if self.fires_at_threshold else total < -limit
        signed: Real = above.astype(np.float64) - (below if self.fires == "signed" else 0.0)
        return signed

    def _left(self, total: Real, fired: Real, limit: Real, decay: Real, value: Real) -> Real:
        match self.reset:
            case "hard":
                return np.where(fired != 0, decay * value, decay * total)
            case "soft_before_leak":
                return decay * (total - fired * limit)
            case "soft_after_leak":
                return decay * total - fired * limit
        kept: Real = decay * total
        return kept


class Multipliers(NamedTuple):
    """A decay as ``multiplier`` int64 over 2^``shift``, and by how much that misses it at most."""

    multiplier: NDArray[np.int64]
    shift: int
    error: float


class Rounded(NamedTuple):
    """Neurons of a trace, and what their rounding changes: of decays at most ``decay_error``, of thresholds
    ``threshold_error`` in units of the threshold."""

    neuron: Neuron
    decay_error: float
    threshold_error: float

    def drift(self, largest: float, timesteps: int) -> float:
        """By how much a potential of at most ``largest``, in units of x, may be wrong after ``timesteps`` without a
        spike. Of neurons without a synaptic current."""
        neuron, kept = self.neuron, 1.0
        if neuron.leak_multiplier is not None:
            kept = float(neuron.leak_multiplier.max()) / 2.0**neuron.leak_shift
        elif neuron.leak_shift:
            kept = 1 - 2.0**-neuron.leak_shift if neuron.leak_subtracts else 2.0**-neuron.leak_shift
        steps = timesteps if kept == 1 else min(timesteps, 1 / (1 - kept))
        return steps * (self.decay_error * largest + 2.0**-neuron.fraction_bits)


def multipliers(decay: ArrayLike, precision: float = PRECISION) -> Multipliers:
    """``decay``, 0 to 1, with the least shift whose errors are all at most ``precision``."""
    real = np.asarray(decay, np.float64)
    if not ((real >= 0) & (real <= 1)).all():
        raise UsageError(f"decay: got {real.min():.6g} to {real.max():.6g}; allowed: 0 to 1")
    for shift in range(MAX_MULTIPLIER_SHIFT + 1):
        multiplier = np.round(real * 2.0**shift).astype(np.int64)
        error = float(np.abs(multiplier / 2.0**shift - real).max())
        if error <= precision:
            break
    return Multipliers(multiplier, shift, error)


def rounded(
    real: SpikingNeuron, scale: ArrayLike, largest: int, timesteps: int, precision: float = PRECISION,
    most_bits: int = FRACTION_BITS,
) -> Rounded:  # fmt: skip
    """``real`` in integers, for integer currents of at most ``largest``, one unit of which is worth ``scale``.

    There are fraction bits enough for exact potentials where decays are exact, at most ``most_bits``, and fewer
    where 64 bits would not be enough. UsageError if they are not enough for any.
    """
    unit = np.asarray(scale, np.float64)
    leak = _leak(real.decay, precision)
    own: dict[str, Any] = leak.fields
    error = leak.error
    for name in ("current", "adaptation"):
        decay = getattr(real, f"{name}_decay")
        if decay is not None:
            found = multipliers(decay, precision)
            own |= {f"{name}_multiplier": found.multiplier, f"{name}_shift": found.shift}
            error = max(error, found.error)
    parameters = {
        "threshold": real.threshold, "adaptation": real.adaptation,
        "reset_value": np.multiply(real.decay, real.reset_value) if np.any(real.reset_value) else None,
        "start": np.multiply(real.decay, real.start) if np.any(real.start) else None,
    }  # fmt: skip
    values = {name: _divided(value, unit) for name, value in parameters.items() if value is not None}
    if "threshold" in values and not (values["threshold"] > 0).all():
        raise UsageError(f"threshold: got {np.min(values['threshold']):.6g} above rest; allowed: above zero")
    reset = "soft" if real.reset.startswith("soft") and own["kind"] == "if" else real.reset
    for bits in range(_wanted_bits(real, own, values, error, timesteps, most_bits), -1, -1):
        neuron = _neuron(real, own, values, reset, bits)
        if neurons.bounds(neuron, neurons.largest_of(neuron), largest, timesteps).largest < 1 << 63:
            return Rounded(neuron, error, _threshold_error(neuron, values))
    raise UsageError(
        f"neurons: their potentials leave 64 bits with currents of {largest:,} at {timesteps} timesteps; allowed: "
        "smaller currents, or a coarser precision of decays"
    )


class _Leak(NamedTuple):
    fields: dict[str, Any]
    error: float


def _leak(decay: ArrayLike, precision: float) -> _Leak:
    """A leak as version 1 of traces has it, where one is exact; otherwise by multipliers."""
    kept = np.unique(np.asarray(decay, np.float64))
    if len(kept) == 1:
        choices: list[tuple[float, dict[str, Any]]] = [(1.0, {"kind": "if"})]
        for shift in range(1, MAX_LEAK_SHIFT + 1):
            choices.append((2.0**-shift, {"kind": "lif", "leak_shift": shift}))
            choices.append((1 - 2.0**-shift, {"kind": "lif", "leak_shift": shift, "leak_subtracts": True}))
        near, fields = min(choices, key=lambda choice: abs(choice[0] - kept[0]))
        if abs(near - kept[0]) <= SAME_DECAY:
            return _Leak(fields, float(abs(near - kept[0])))
    found = multipliers(decay, precision)
    fields = {"kind": "lif", "leak_shift": found.shift, "leak_multiplier": found.multiplier}
    return _Leak(fields, found.error)


def _wanted_bits(
    real: SpikingNeuron, own: dict[str, Any], values: dict[str, Real], error: float, timesteps: int, most: int
) -> int:
    """Fraction bits that keep every bit of a potential, as far as that is possible."""
    whole = all((value == np.round(value)).all() for name, value in values.items() if name != "threshold")
    soft = real.reset.startswith("soft") and real.threshold is not None
    if error > SAME_DECAY or not whole or (soft and (values["threshold"] != np.round(values["threshold"])).any()):
        return FRACTION_BITS
    shifts = own.get("leak_shift", 0) + own.get("current_shift", 0) + own.get("adaptation_shift", 0)
    return int(min(most, shifts * (timesteps - 1)))


def _neuron(real: SpikingNeuron, own: dict[str, Any], values: dict[str, Real], reset: str, bits: int) -> Neuron:
    found: dict[str, Any] = {
        name: np.round(value * 2.0**bits).astype(np.int64) for name, value in values.items() if name != "threshold"
    }
    found |= own | {name: getattr(real, name) for name in _SAME}
    if "threshold" not in values:
        return Neuron(threshold=None, fraction_bits=bits, reset=reset, **found)
    limit = values["threshold"]
    in_fractions = bool((limit != np.round(limit)).any() and bits)
    steps = limit * 2.0 ** (bits * in_fractions)
    if real.fires == "integer":
        steps = np.round(steps)
    elif real.reset.startswith("soft") and in_fractions:
        # What is taken away is rounded, too: a potential that equals the threshold should stay on its side.
        steps = np.floor(steps) if real.fires_at_threshold else np.ceil(steps)
    elif real.fires_at_threshold or (steps < 1).any():
        # Above a threshold of less than a step is at the next step.
        steps = np.ceil(steps) if real.fires_at_threshold else np.floor(steps) + 1
        found["fires_at_threshold"] = True
    threshold = np.maximum(np.floor(steps), 1).astype(np.int64)
    return Neuron(threshold=threshold, fraction_bits=bits, reset=reset, threshold_in_fractions=in_fractions, **found)


def _threshold_error(neuron: Neuron, values: dict[str, Real]) -> float:
    if neuron.threshold is None:
        return 0.0
    held = neuron.threshold / 2.0 ** (neuron.fraction_bits * neuron.threshold_in_fractions)
    return float(np.abs(held / values["threshold"] - 1).max())


def _divided(value: ArrayLike, unit: Real) -> Real:
    """``value``, per channel or per neuron, in units that are one number or one per channel."""
    array = np.asarray(value, np.float64)
    rank = max(array.ndim, unit.ndim)
    result: Real = _widened(array, rank) / _widened(unit, rank)
    return result


def _widened(array: Real, rank: int) -> Real:
    return array.reshape(*array.shape, *(1,) * (rank - array.ndim)) if array.ndim else array


def _aligned(values: ArrayLike, rank: int) -> Real:
    """``values``, a number, [N] or [N, H, W], to be combined with an array [I, N, ...] of ``rank`` axes."""
    return _widened(np.asarray(values, np.float64), rank - 1)


# ---- What the tools have.


def spikingjelly(
    decay: float, gain: float, v_threshold: float, v_reset: float | None, *, starts_at_zero: bool = False, **more: Any
) -> SpikingNeuron:
    """IFNode (decay 1, gain 1), LIFNode and ParametricLIFNode (decay 1 - 1 / tau, gain 1 / tau with decay_input
    and otherwise 1): ``H = V + (V_reset - V) / tau + gain x``, spike if ``H >= V_threshold``, V at first V_reset.

    The Simple nodes start at 0. TernaryIFNode and TernaryLIFNode have ``fires="signed"``; ILIFNode ``fires="integer"``
    with ``most``.
    """
    rest = v_reset or 0.0
    return SpikingNeuron(
        decay, (v_threshold - rest) / gain, "soft_before_leak" if v_reset is None else "hard",
        more.get("fires") != "integer", start=-rest / gain if starts_at_zero else 0.0, **more,
    )  # fmt: skip


def spikingjelly_cuba(c_decay: float, v_decay: float, v_threshold: float, v_reset: float | None) -> SpikingNeuron:
    """CUBALIFNode: ``C = c_decay C + x``, ``H = v_decay V + C``; V is v_reset at first and behind a spike."""
    rest = v_reset or 0.0
    reset = "soft_before_leak" if v_reset is None else "hard"
    return SpikingNeuron(v_decay, v_threshold, reset, True, rest, rest, current_decay=c_decay)


def snn_leaky(
    beta: ArrayLike, threshold: ArrayLike, reset_mechanism: str, *, reset_delay: bool = True, recurrent: bool = False
) -> SpikingNeuron:
    """Leaky and, ``recurrent``, the neurons of RLeaky: ``mem = beta mem + x``, spike if ``mem > threshold``.

    What a spike takes away goes off the next mem. A reset to zero of RLeaky takes away what arrives then too, so that
    the neuron rests for a timestep. The recurrent connection is a delay of one timestep in the graph of the trace.
    """
    if reset_mechanism == "subtract":
        return SpikingNeuron(beta, threshold, "soft_after_leak" if reset_delay else "soft_before_leak")
    if reset_mechanism == "none":
        return SpikingNeuron(beta, threshold, "none")
    return SpikingNeuron(beta, threshold, refractory=int(recurrent and reset_delay))


def snn_synaptic(
    alpha: ArrayLike, beta: ArrayLike, threshold: ArrayLike, reset_mechanism: str, *, reset_delay: bool = True
) -> SpikingNeuron:
    """Synaptic: ``syn = alpha syn + x``, ``mem = beta mem + syn``; a reset to zero clears the next mem, not syn."""
    membrane = snn_leaky(beta, threshold, reset_mechanism, reset_delay=reset_delay, recurrent=True)
    return replace(membrane, current_decay=alpha)


def snn_alpha(alpha: float, beta: float, threshold: float) -> SpikingNeuron:
    """Alpha with a reset to zero: mem is c times the difference of two currents that decay by alpha and by beta.

    That is a membrane that leaks by beta and reads, a timestep late, a current that decays by alpha: each spike adds
    ``alpha^k - beta^k = (alpha - beta) (alpha^(k-1) + alpha^(k-2) beta + ... + beta^(k-1))`` after k timesteps. The
    neuron is cleared for the timestep behind a spike. (Its reset by subtraction has no counterpart.)
    """
    gain = math.log(beta) / (math.log(beta) - math.log(alpha)) * (alpha - beta)
    return SpikingNeuron(
        beta, threshold / gain, current_decay=alpha, current_is_late=True, resets_current=True, refractory=1
    )


def norse_lif(
    tau_mem_inv: ArrayLike, tau_syn_inv: ArrayLike | None, v_leak: ArrayLike, v_th: ArrayLike | None,
    v_reset: ArrayLike, dt: float, *, rho: int = 0,
) -> SpikingNeuron:  # fmt: skip
    """LIFCell, LIFRecurrentCell, and with rho LIFRefracCell: ``i += x``, ``v += dt tau_mem_inv (v_leak - v + i)``,
    then ``i -= dt tau_syn_inv i``. LIFBoxCell without tau_syn_inv: x arrives in place of i. LICell without v_th, whose
    output is ``(v - v_leak) / (dt tau_mem_inv)``."""
    gain = dt * np.asarray(tau_mem_inv, np.float64)
    own: dict[str, Any] = {}
    if tau_syn_inv is not None:
        own = {"current_decay": 1 - dt * np.asarray(tau_syn_inv, np.float64)}
    if v_th is None:
        return SpikingNeuron(1 - gain, None, fires="nothing", **own)
    reset = np.subtract(v_reset, v_leak) / gain
    return SpikingNeuron(1 - gain, np.subtract(v_th, v_leak) / gain, reset_value=reset, refractory=rho, **own)


def norse_lsnn(lif: SpikingNeuron, tau_mem_inv: float, tau_adapt_inv: float, beta: float, dt: float) -> SpikingNeuron:
    """LSNNCell: ``lif`` that sees the current of the timestep before, with a threshold that a spike raises by beta and
    that decays before it is compared again."""
    kept = 1 - dt * tau_adapt_inv
    return replace(lif, current_is_late=True, adaptation_decay=kept, adaptation=kept * beta / (dt * tau_mem_inv))


def nir_lif(
    tau: ArrayLike, r: ArrayLike, v_leak: ArrayLike, v_threshold: ArrayLike | None, v_reset: ArrayLike, dt: float,
    *, tau_syn: ArrayLike | None = None, w_in: ArrayLike = 1.0, late: bool = False,
) -> SpikingNeuron:  # fmt: skip
    """LIF, and with tau_syn CubaLIF, by Euler's method: ``v += dt / tau (v_leak - v + r i)`` with i the input, or
    ``i += dt / tau_syn (w_in x - i)``.

    Without v_threshold LI and CubaLI, whose output is v - v_leak. NIR does not say whether v sees the new current or
    (``late``, as in Norse) the one before.
    """
    step = dt / np.asarray(tau, np.float64)
    gain = step * np.asarray(r, np.float64)
    own: dict[str, Any] = {}
    if tau_syn is not None:
        fast = dt / np.asarray(tau_syn, np.float64)
        gain = gain * fast * np.asarray(w_in, np.float64)
        own = {"current_decay": 1 - fast, "current_is_late": late}
    if v_threshold is None:
        return SpikingNeuron(1 - step, None, fires="nothing", **own)
    return SpikingNeuron(
        1 - step, np.subtract(v_threshold, v_leak) / gain, reset_value=np.subtract(v_reset, v_leak) / gain, **own
    )


def nir_if(r: ArrayLike, v_threshold: ArrayLike | None, v_reset: ArrayLike, dt: float) -> SpikingNeuron:
    """IF, or without v_threshold I: ``v += dt r x``."""
    gain = dt * np.asarray(r, np.float64)
    if v_threshold is None:
        return SpikingNeuron(1.0, None, fires="nothing")
    return SpikingNeuron(1.0, np.asarray(v_threshold) / gain, reset_value=np.asarray(v_reset) / gain)
