"""Neurons: their record in a trace, their parameters, and what they do, in integers.

A current of an output neuron at timestep t is x[t]. With the potential u, the synaptic current I, the adaptation b of
the threshold h and f fraction bits, a timestep is exactly::

    I[t] = current_leak(I[t-1]) + (x[t] << f)          with a synaptic current; otherwise I[t] = x[t] << f
    X[t] = u[t-1] + I[t]                               (u[t-1] + I[t-1] with ``current_is_late``)
    H[t] = (h << f) + b[t]                             (h + b[t] with ``threshold_in_fractions``)
    s[t] = X[t] > H[t]                                 (>= with ``fires_at_threshold``)
    u[t] = r                                           if s[t] and the reset is hard
         = X[t] - s[t] H[t]                            if s[t] and the reset is soft
         = leak(X[t] - s[t] H[t])                      if s[t] and the reset is soft_before_leak
         = leak(X[t]) - s[t] H[t]                      if s[t] and the reset is soft_after_leak
         = leak(X[t])                                  otherwise, and if the reset is none
    b[t+1] = adaptation_leak(b[t]) + a |s[t]|          with an adaptation; otherwise b = 0

``leak(X) = X >> l``, an arithmetic shift (l = 0 for an IF neuron), or with ``leak_subtracts`` ``X - (X >> l)``, or with
a multiplier m, 0 to 2^l, ``(X m) >> l``. The leaks of current and adaptation have multipliers and shifts of their own.
At first u is ``start`` (0 without), and I and b are 0. Thresholds are in the units of x (of u with
``threshold_in_fractions``); r (0 without ``reset_value``), a and ``start`` in those of u.

``fires`` says what s[t] is::

    spike      1 where X > H, otherwise 0
    signed     1 where X > H, -1 where X < -H, otherwise 0      (>= and <= with ``fires_at_threshold``)
    integer    X / H, rounded down, or to the nearest (a half to the even one), clipped to 0 .. ``most``
    nothing    no spike; the output is the potential X[t]

After a timestep with a spike a neuron rests for ``refractory`` timesteps: nothing fires, and u stays as the spike left
it. The current goes on. With ``resets_current`` a spike empties it, I[t] = 0, and it stays empty while the neuron
rests. ``mask_fire_once`` then zeroes the outputs of neurons that fired exactly once in all T timesteps (the
preprocessing of LoAS, section V).

A neuron of the kind ``first_spike`` has exponential synapses instead, fires once, and has no other key:
:mod:`archsim.trace.first_spikes`. Its potential, in units of its own, is X[t] there.

Neurons with an ``activation`` are IF neurons without a reset that fire signed spikes, and whose spikes follow a
function of their mean current. With the table a of E entries (one for the operation), a multiplier m,
``activation_shift`` l, and c spikes so far, those below zero subtracted, they do instead, ``//`` rounding down::

    u[t] = u[t-1] + x[t]                               (0 at first)
    i[t] = clip((u[t] m) // ((t + 1) << l), -E/2, E/2 - 1) + E/2
    Y[t] = (t + 1) a[i[t]] + start
    s[t] = clip(round(Y[t] / h) - c[t-1], -1, 1)       rounded down, or to the nearest (a half to the even one)
    c[t] = c[t-1] + s[t]

What a neuron carries from one timestep to the next is its state: u, and where they exist I, b, c and the timesteps that
it still rests; the number of the timestep is the layer's. :func:`run` takes the state in front of a window of timesteps
and gives the one behind it, so that windows give what all timesteps at once give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from archsim.trace.first_spikes import MAX_TIME_CONSTANT, exponential
from archsim.trace.record import Announced, Record

MAX_LEAK_SHIFT = 8
MAX_MULTIPLIER_SHIFT = 30
MAX_SPIKES = 32767
FIRST_SPIKE = "first_spike"
MAX_ACTIVATION_SHIFT = 40
MAX_ACTIVATION_BITS = 16
"""Of the index of an activation's table."""

State = dict[str, NDArray[np.int64]]
"""By name what neurons carry between timesteps, arrays of one shape: ``potential``, ``current``, ``adaptation``,
``rest``, ``spikes``, and ``time``, the number of the timestep, the same for all; of ``first_spike`` neurons ``total``,
``moment``, ``rest`` (1 behind the spike), and ``tick``, one for all."""


class NeuronRecord(Record):
    """A neuron per output channel, or per output; which arrays hold its parameters is said by :func:`arrays_of`."""

    later: ClassVar = ("leak_subtracts", "fires_at_threshold")
    version_2: ClassVar = (
        "leak_multiplier", "threshold_in_fractions", "current_shift", "current_is_late", "resets_current",
        "adaptation_shift", "reset_value", "start", "refractory", "fires", "most", "rounding", "per_neuron",
        "time_constant",
        "activation_bits", "activation_shift",
    )  # fmt: skip
    kind: Literal["lif", "if", "first_spike"]
    leak_multiplier: Announced | None = None
    leak_shift: int = Field(default=0, ge=0, le=MAX_MULTIPLIER_SHIFT)
    fraction_bits: int = Field(default=0, ge=0, le=62)
    reset: Literal["hard", "soft", "soft_before_leak", "soft_after_leak", "none"] = "hard"
    mask_fire_once: bool = False
    leak_subtracts: bool = False
    fires_at_threshold: bool = False
    threshold_in_fractions: bool = False
    current_shift: int | None = Field(default=None, ge=0, le=MAX_MULTIPLIER_SHIFT)
    current_is_late: bool = False
    resets_current: bool = False
    adaptation_shift: int | None = Field(default=None, ge=0, le=MAX_MULTIPLIER_SHIFT)
    reset_value: Announced | None = None
    start: Announced | None = None
    refractory: int = Field(default=0, ge=0, le=1023)
    fires: Literal["spike", "signed", "integer", "nothing"] = "spike"
    most: int = Field(default=0, ge=0, le=MAX_SPIKES)
    rounding: Literal["nearest", "down"] = "nearest"
    per_neuron: bool = False
    time_constant: int = Field(default=0, ge=0, le=MAX_TIME_CONSTANT)
    activation_bits: int | None = Field(default=None, ge=1, le=MAX_ACTIVATION_BITS)
    activation_shift: int = Field(default=0, ge=0, le=MAX_ACTIVATION_SHIFT)

    @field_validator("leak_shift")
    @classmethod
    def _short(cls, value: int, info: ValidationInfo) -> int:
        if value > MAX_LEAK_SHIFT and not info.data.get("leak_multiplier"):
            raise PydanticCustomError("shift", f"input should be less than or equal to {MAX_LEAK_SHIFT}")
        return value


@dataclass(frozen=True, eq=False)
class Neuron:
    """The neurons of an operation; the equations are above.

    Arrays are int64 [N], a value per output channel, or all of them [N, H, W], a value per neuron (an int stands for
    all channels of a layer with weights alike). ``threshold`` is None for neurons that fire nothing. The multiplier and
    the shift of a leak belong together; so do the table ``activation`` int64 [E], E a power of two, its multiplier and
    its shift.
    """

    kind: str
    threshold: NDArray[np.int64] | None
    leak_shift: int = 0
    fraction_bits: int = 0
    reset: str = "hard"
    mask_fire_once: bool = False
    leak_subtracts: bool = False
    fires_at_threshold: bool = False
    leak_multiplier: NDArray[np.int64] | None = None
    threshold_in_fractions: bool = False
    current_shift: int | None = None
    current_multiplier: NDArray[np.int64] | None = None
    current_is_late: bool = False
    resets_current: bool = False
    adaptation_shift: int | None = None
    adaptation_multiplier: NDArray[np.int64] | None = None
    adaptation: NDArray[np.int64] | None = None
    reset_value: NDArray[np.int64] | None = None
    start: NDArray[np.int64] | None = None
    refractory: int = 0
    fires: str = "spike"
    most: int = 0
    rounding: str = "nearest"
    time_constant: int = 0
    activation_shift: int = 0
    activation_multiplier: NDArray[np.int64] | None = None
    activation: NDArray[np.int64] | None = None


ARRAYS = (
    "threshold", "leak_multiplier", "current_multiplier", "adaptation_multiplier", "adaptation", "reset_value", "start",
    "activation_multiplier",
)  # fmt: skip
"""The arrays of a neuron; in a trace ``<array>.<operation>``. The table of an activation belongs to all neurons of an
operation and is none of them."""
_OUTPUTS: dict[str, type[np.generic]] = {"spike": np.bool_, "signed": np.int8}


# ---- The record.


def arrays_of(record: NeuronRecord) -> tuple[str, ...]:
    """The arrays that the record announces, in the order of :data:`ARRAYS`."""
    present = (
        record.fires != "nothing", record.leak_multiplier, record.current_shift is not None,
        *(record.adaptation_shift is not None,) * 2, record.reset_value, record.start,
        record.activation_bits is not None,
    )  # fmt: skip
    return tuple(name for name, exists in zip(ARRAYS, present, strict=True) if exists)


def dtype_of(neuron: Neuron | NeuronRecord, name: str) -> type[np.integer[Any]]:
    """The dtype in which a trace holds the array ``name``; values in units of u may need 64 bits."""
    wide = name in ("adaptation", "reset_value", "start") or (name == "threshold" and neuron.threshold_in_fractions)
    return np.int64 if wide else np.int32


def problems_of(record: NeuronRecord) -> Iterator[tuple[str, str]]:
    """What does not go together: the key and what is wrong with it."""
    if record.kind == FIRST_SPIKE:
        yield from _first_spike(record)
        return
    if record.time_constant:
        text = f"is of neurons that fire first spikes, got {record.time_constant}"
        yield "time_constant", f"{text}; allowed: 0, or kind '{FIRST_SPIKE}'"
    if record.kind == "if":
        if record.leak_shift:
            yield "leak_shift", f"an IF neuron has no leak, got {record.leak_shift}; allowed: 0"
        for key in ("leak_subtracts", "leak_multiplier"):
            if getattr(record, key):
                yield key, "an IF neuron has no leak, got true; allowed: false"
    elif not record.leak_shift and not record.leak_multiplier:
        yield "leak_shift", "a LIF neuron leaks, got 0; allowed: 1 to 8"
    if record.leak_subtracts and record.leak_multiplier:
        yield "leak_subtracts", "a leak with a multiplier subtracts nothing, got true; allowed: false"
    for key in ("current_is_late", "resets_current"):
        if getattr(record, key) and record.current_shift is None:
            yield key, "there is no synaptic current, got true; allowed: false, or a current_shift"
    if record.reset_value and record.reset != "hard":
        yield "reset_value", f"a reset is to a value if it is hard, got {record.reset!r}; allowed: 'hard'"
    if record.activation_bits is not None:
        yield from _following(record)
    elif record.activation_shift:
        text = f"there is no activation, got {record.activation_shift}"
        yield "activation_shift", f"{text}; allowed: 0, or activation_bits"
    integer = record.fires == "integer"
    if integer != bool(record.most):
        allowed = f"1 to {MAX_SPIKES}" if integer else "0, or fires 'integer'"
        yield "most", f"the most spikes of a timestep, got {record.most}; allowed: {allowed}"
    if record.rounding != "nearest" and not integer and record.activation_bits is None:
        text = f"only integers and activations are rounded, got {record.rounding!r}"
        yield "rounding", f"{text}; allowed: 'nearest', or fires 'integer'"
    if integer and record.fires_at_threshold:
        yield "fires_at_threshold", "integers are rounded, not compared, got true; allowed: false"
    if record.mask_fire_once and record.fires != "spike":
        yield "mask_fire_once", f"only spikes are masked, got fires {record.fires!r}; allowed: false"
    if record.fires == "nothing":
        yield from _silent(record)


def _first_spike(record: NeuronRecord) -> Iterator[tuple[str, str]]:
    if not record.time_constant:
        yield "time_constant", f"the ticks of the synapses' time constant, got 0; allowed: 1 to {MAX_TIME_CONSTANT}"
    for key in NeuronRecord.model_fields:
        if key not in ("kind", "time_constant", "fraction_bits", "per_neuron") and record.says(key):
            text = "has no use for a neuron that fires a first spike"
            yield key, f"{text}, got {str(getattr(record, key)).lower()}; allowed: to leave it out"


def _silent(record: NeuronRecord) -> Iterator[tuple[str, str]]:
    for key in (
        "fires_at_threshold", "threshold_in_fractions", "resets_current", "adaptation_shift", "reset_value",
        "refractory",
    ):  # fmt: skip
        if record.says(key):
            text = "has no use for a neuron that fires nothing"
            yield key, f"{text}, got {str(getattr(record, key)).lower()}; allowed: to leave it out"


def _following(record: NeuronRecord) -> Iterator[tuple[str, str]]:
    for key, only in (("kind", "if"), ("fires", "signed"), ("reset", "none")):
        if getattr(record, key) != only:
            yield key, f"neurons with an activation have one only, got {getattr(record, key)!r}; allowed: {only!r}"
    for key in (
        "fraction_bits", "fires_at_threshold", "threshold_in_fractions", "current_shift", "adaptation_shift",
        "refractory",
    ):  # fmt: skip
        if record.says(key):
            text = "has no use for a neuron with an activation"
            yield key, f"{text}, got {str(getattr(record, key)).lower()}; allowed: to leave it out"


def value_problem(record: NeuronRecord, name: str, array: NDArray[Any]) -> str:
    """What is wrong with the values of the array ``name``, or the empty string."""
    if name == "threshold":
        low, high, allowed = 1, math.inf, "above zero"
    elif name == "adaptation":
        low, high, allowed = 0, math.inf, "at least zero"
    elif name == "activation_multiplier":
        low, high, allowed = 1, math.inf, "above zero"
    elif name.endswith("_multiplier"):
        high = 1 << (getattr(record, name.replace("multiplier", "shift")) or 0)
        low, allowed = 0, f"0 to {high:,}, 2^shift"
    else:
        return ""
    wrong = np.argwhere((array < low) | (array > high))
    if not len(wrong):
        return ""
    place = tuple(int(index) for index in wrong[0])
    where = f"channel {place[0]}" if len(place) == 1 else f"the neuron {list(place)}"
    return f"must be {allowed}, got {int(array[place])} for {where}"


def output_kinds(record: NeuronRecord) -> tuple[str, ...]:
    """The kinds of tensor that such neurons write."""
    if record.kind == FIRST_SPIKE:
        return ("spike_time",)
    return {"spike": ("spike", "spike_time"), "signed": ("signed_spike",)}.get(record.fires, ("int",))


def from_record(record: NeuronRecord, arrays: Mapping[str, NDArray[Any]], operation: str) -> Neuron:
    """The neurons of ``operation`` with their parameters out of ``arrays``."""
    only = (*ARRAYS, "per_neuron", "activation_bits")
    plain = {key: value for key, value in record.model_dump().items() if key not in only}
    found: dict[str, Any] = dict.fromkeys(ARRAYS)
    found |= {name: arrays[f"{name}.{operation}"].astype(np.int64) for name in arrays_of(record)}
    if record.activation_bits is not None:
        found["activation"] = arrays[f"activation.{operation}"].astype(np.int64)
    return Neuron(**plain, **found)


def described(neuron: Neuron, channels: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The record of ``neuron`` as JSON would hold it, and its arrays by name.

    A single value stands for ``channels``, if that is not 0.
    """
    given = {name: np.asarray(getattr(neuron, name)) for name in ARRAYS if getattr(neuron, name) is not None}
    shape = max((array.shape for array in given.values()), key=len, default=())
    arrays = {name: _spread(array, shape or (channels,) * bool(channels)) for name, array in given.items()}
    scalars = {field.name for field in fields(Neuron)} - {*ARRAYS, "activation"}
    record = {key: getattr(neuron, key) for key in NeuronRecord.model_fields if key in scalars}
    record |= {key: True for key in ("leak_multiplier", "reset_value", "start") if key in given}
    if len(shape) > 1:
        record["per_neuron"] = True
    if neuron.activation is not None:
        arrays["activation"] = np.asarray(neuron.activation)
        record["activation_bits"] = index_bits(arrays["activation"])
    return {key: value for key, value in record.items() if value is not None}, arrays


def index_bits(table: NDArray[Any]) -> int:
    """Bits of the index of an activation's table."""
    return max(table.size - 1, 1).bit_length()


def _spread(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """``array`` with one value, or one per channel, for each of ``shape``; unchanged where it does not fit."""
    if array.ndim < len(shape) and array.shape in ((), shape[:1]):
        return np.broadcast_to(array.reshape(*array.shape, *(1,) * (len(shape) - array.ndim)), shape)
    return array


# ---- What neurons do.


def state_fields(neuron: Neuron | NeuronRecord) -> tuple[str, ...]:
    """The names of what such neurons carry between timesteps."""
    if neuron.kind == FIRST_SPIKE:
        return ("total", "moment", "rest", "tick")
    exist = {
        "potential": True,
        "current": neuron.current_shift is not None,
        "adaptation": neuron.adaptation_shift is not None,
        "rest": neuron.refractory > 0,
        "spikes": _follows(neuron),
    }
    return tuple(name for name, exists in exist.items() if exists)


def start_state(neuron: Neuron, shape: tuple[int, ...]) -> State:
    """The state of neurons [I, N, ...] in front of the first timestep."""
    state = {name: np.zeros(shape if name != "tick" else (), np.int64) for name in state_fields(neuron)}
    if neuron.activation is not None:
        state["time"] = np.zeros(shape, np.int64)
    elif neuron.start is not None:
        state["potential"] += _aligned(neuron.start, len(shape))
    return state


def run(neuron: Neuron, currents: NDArray[np.int64], state: State | None = None) -> tuple[NDArray[Any], State]:
    """Outputs [T, I, N, ...] of integer currents of that shape, and the state behind them.

    Without ``state`` the window is the first one. Spikes are bool, signed ones int8, integers and potentials int64.
    They are as if neurons might fire once: :func:`masked` sees all timesteps.
    """
    state = start_state(neuron, currents.shape[1:]) if state is None else state
    outputs: NDArray[Any] = np.empty(currents.shape, _OUTPUTS.get(neuron.fires, np.int64))
    for t, current in enumerate(currents):
        total, fired, state = step(neuron, current, state)
        outputs[t] = total if neuron.fires == "nothing" else fired
    return outputs, state


def fire(neuron: Neuron, currents: NDArray[np.int64]) -> NDArray[Any]:
    """Outputs [T, I, N, ...] of integer currents of that shape, all T timesteps of them."""
    return masked(neuron, run(neuron, currents)[0])


def masked(neuron: Neuron, outputs: NDArray[Any], axis: int = 0) -> NDArray[Any]:
    """``outputs`` of all timesteps, which are along ``axis``, with those of neurons silenced that ``mask_fire_once``
    silences."""
    return outputs & (outputs.sum(axis, keepdims=True) != 1) if neuron.mask_fire_once else outputs


def potentials(neuron: Neuron, currents: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """X[t] and s[t] of every timestep, as if neurons might fire once."""
    state = start_state(neuron, currents.shape[1:])
    for current in currents:
        total, fired, state = step(neuron, current, state)
        yield total, fired


def step(neuron: Neuron, current: NDArray[np.int64], state: State) -> tuple[NDArray[np.int64], NDArray[Any], State]:
    """X[t] and s[t] of neurons that read ``current`` [I, N, ...] in ``state``, and the state behind the timestep."""
    if neuron.kind == FIRST_SPIKE:
        return _first(neuron, current, state)
    rank = current.ndim
    if neuron.activation is not None:
        return _follow(neuron, neuron.activation, current, state)
    arriving = current << neuron.fraction_bits
    after: State = {}
    if "current" in state:
        before = state["current"]
        after["current"] = _leaked(before, neuron.current_multiplier, neuron.current_shift) + arriving
        arriving = before if neuron.current_is_late else after["current"]
    total = state["potential"] + arriving
    limit = np.zeros((), np.int64)
    if neuron.threshold is not None:
        limit = _aligned(neuron.threshold, rank) << (0 if neuron.threshold_in_fractions else neuron.fraction_bits)
    if "adaptation" in state:
        limit = limit + state["adaptation"]
    fired = _fired(neuron, total, limit)
    left = _left(neuron, total, fired, limit)
    resting = fired != 0
    if "rest" in state:
        rests = state["rest"] > 0
        total, left = np.where(rests, state["potential"], total), np.where(rests, state["potential"], left)
        fired = np.where(rests, np.zeros((), fired.dtype), fired)
        after["rest"] = np.where(rests, state["rest"] - 1, neuron.refractory * (fired != 0))
        resting = rests | (fired != 0)
    if neuron.resets_current:
        after["current"] = np.where(resting, 0, after["current"])
    if "adaptation" in state:
        assert neuron.adaptation is not None, "there is one with its leak"
        faded = _leaked(state["adaptation"], neuron.adaptation_multiplier, neuron.adaptation_shift)
        after["adaptation"] = faded + _aligned(neuron.adaptation, rank) * np.abs(fired.astype(np.int64))
    return total, fired, {"potential": left, **after}


def _first(neuron: Neuron, current: NDArray[np.int64], state: State) -> tuple[NDArray[np.int64], NDArray[Any], State]:
    """:func:`step` of neurons that fire a first spike."""
    assert neuron.threshold is not None, "the loader refuses those without"
    tick = int(state["tick"])
    worth = exponential(tick, neuron.time_constant, neuron.fraction_bits)
    total, moment = state["total"] + current, state["moment"] + current * worth
    potential = total * worth - moment
    fired = (potential >= _aligned(neuron.threshold, current.ndim) * worth) & (state["rest"] == 0)
    after = {"total": total, "moment": moment, "rest": state["rest"] | fired, "tick": state["tick"] + 1}
    return potential, fired, after


def _follow(
    neuron: Neuron, table: NDArray[np.int64], current: NDArray[np.int64], state: State
) -> tuple[NDArray[np.int64], NDArray[Any], State]:
    """:func:`step` of neurons with the activation ``table``."""
    assert neuron.activation_multiplier is not None and neuron.threshold is not None, "they belong to the table"
    total, time, half = state["potential"] + current, state["time"] + 1, len(table) // 2
    index = total * _aligned(neuron.activation_multiplier, current.ndim) // (time << neuron.activation_shift)
    wanted = time * table[np.clip(index, -half, half - 1) + half]
    if neuron.start is not None:
        wanted = wanted + _aligned(neuron.start, current.ndim)
    spikes = _rounded(wanted, _aligned(neuron.threshold, current.ndim), neuron.rounding)
    fired = np.clip(spikes - state["spikes"], -1, 1)
    after = {"potential": total, "spikes": state["spikes"] + fired, "time": time}
    return total, fired.astype(np.int8), after


def leak(neuron: Neuron, potential: NDArray[np.int64]) -> NDArray[np.int64]:
    """What is left of ``potential`` [I, N, ...] a timestep later."""
    if neuron.leak_multiplier is not None:
        return _leaked(potential, neuron.leak_multiplier, neuron.leak_shift)
    shifted = potential >> neuron.leak_shift
    return potential - shifted if neuron.leak_subtracts else shifted


def _leaked(values: NDArray[np.int64], multiplier: NDArray[np.int64] | None, shift: int | None) -> NDArray[np.int64]:
    assert multiplier is not None and shift is not None, "multiplier and shift belong together"
    return values * _aligned(multiplier, values.ndim) >> shift


def _aligned(values: NDArray[np.int64], rank: int) -> NDArray[np.int64]:
    """``values`` [N] or [N, H, W] to be combined with an array [I, N, ...] of ``rank`` axes."""
    return values.reshape(*values.shape, *(1,) * (rank - 1 - values.ndim))


def _fired(neuron: Neuron, total: NDArray[np.int64], limit: NDArray[np.int64]) -> NDArray[Any]:
    at = neuron.fires_at_threshold
    match neuron.fires:
        case "spike":
            return total >= limit if at else total > limit
        case "signed":
            above, below = (total >= limit, total <= -limit) if at else (total > limit, total < -limit)
            return above.astype(np.int8) - below.astype(np.int8)
        case "integer":
            return np.clip(_rounded(total, limit, neuron.rounding), 0, neuron.most)
    return np.zeros(total.shape, np.bool_)


def _rounded(total: NDArray[np.int64], limit: NDArray[np.int64], rounding: str) -> NDArray[np.int64]:
    """``total / limit``, rounded down or to the nearest integer, a half to the even one."""
    whole, rest = np.divmod(total, limit)
    if rounding == "nearest":
        whole = whole + ((2 * rest > limit) | ((2 * rest == limit) & (whole % 2 == 1)))
    return whole


def _left(neuron: Neuron, total: NDArray[np.int64], fired: NDArray[Any], limit: NDArray[np.int64]) -> NDArray[np.int64]:
    """The potential behind a timestep in which it was ``total`` and nothing rested."""
    taken: NDArray[np.int64] = fired * limit
    match neuron.reset:
        case "hard":
            value = 0 if neuron.reset_value is None else _aligned(neuron.reset_value, total.ndim)
            return np.where(fired != 0, value, leak(neuron, total))
        case "soft":
            return np.where(fired != 0, total - taken, leak(neuron, total))
        case "soft_before_leak":
            return leak(neuron, total - taken)
        case "soft_after_leak":
            return leak(neuron, total) - taken
    return leak(neuron, total)


# ---- How large it gets.


class Bounds(NamedTuple):
    """The largest magnitude of each field of the state, and of anything that is computed on the way."""

    state: dict[str, int]
    largest: int

    def bits(self) -> int:
        """Bits of the state of one neuron, with signs where there are any."""
        unsigned = ("adaptation", "rest")
        return sum(bound.bit_length() + (name not in unsigned) for name, bound in self.state.items())


def bounds(neuron: Neuron | NeuronRecord, largest: Mapping[str, int], current: int, timesteps: int) -> Bounds:
    """Bounds of the state in ``timesteps`` of currents of at most ``current``, from the ``largest`` of each array.

    A leak multiplies by q <= 1 and rounds by less than 1, so that a value that grows by at most g a timestep is at most
    ``(g + 1) (1 + q + q^2 + ...)``; leaks without a multiplier, and those that a soft reset
    avoids, are taken as q = 1. A reset takes away at most H, or ``most`` times that. Neurons with an activation only
    add.
    """
    if neuron.kind == FIRST_SPIKE:
        return _first_bounds(neuron, largest, current, timesteps)
    if _follows(neuron):
        potential = timesteps * current
        follows = timesteps * largest["activation"] + largest.get("start", 0) + 2 * largest["threshold"]
        mean = potential * largest["activation_multiplier"]
        return Bounds(
            {"potential": potential, "spikes": timesteps},
            max(mean, 2 * follows, timesteps << neuron.activation_shift),
        )
    arriving = current << neuron.fraction_bits
    state, products = {}, [0]
    if neuron.current_shift is not None:
        arriving = _sum(arriving, largest["current_multiplier"], neuron.current_shift, timesteps)
        state["current"] = arriving
        products.append(arriving * largest["current_multiplier"])
    limit = largest.get("threshold", 0) << (0 if neuron.threshold_in_fractions else neuron.fraction_bits)
    if neuron.adaptation_shift is not None:
        grows = largest["adaptation"] * max(neuron.most, 1)
        state["adaptation"] = _sum(grows, largest["adaptation_multiplier"], neuron.adaptation_shift, timesteps)
        products.append(state["adaptation"] * largest["adaptation_multiplier"])
        limit += state["adaptation"]
    limit *= max(neuron.most, 1)
    begins = max(largest.get("start", 0), largest.get("reset_value", 0))
    if "leak_multiplier" in largest and neuron.reset != "soft":
        potential = begins + _sum(arriving + limit, largest["leak_multiplier"], neuron.leak_shift, timesteps)
    else:
        potential = begins + timesteps * (arriving + limit)
    products.append((potential + limit) * largest.get("leak_multiplier", 0))
    if neuron.fires == "integer":
        products.append(2 * limit + potential)
    if neuron.refractory:
        state["rest"] = neuron.refractory
    return Bounds({"potential": potential, **state}, max(potential, *products))


def _first_bounds(neuron: Neuron | NeuronRecord, largest: Mapping[str, int], total: int, timesteps: int) -> Bounds:
    """Of neurons that fire a first spike, where all that ever arrives is at most ``total``."""
    worth = exponential(timesteps - 1, max(1, neuron.time_constant), neuron.fraction_bits)
    state = {"total": total, "moment": total * worth, "rest": 1}
    return Bounds(state, (2 * total + largest.get("threshold", 0)) * worth)


def largest_of(neuron: Neuron) -> dict[str, int]:
    """The largest magnitude in each array of ``neuron``, as :func:`bounds` wants it."""
    arrays = {name: getattr(neuron, name) for name in (*ARRAYS, "activation")}
    return {name: int(np.abs(array).max()) for name, array in arrays.items() if array is not None}


def _sum(grows: int, multiplier: int, shift: int, timesteps: int) -> int:
    """A bound of what grows by ``grows`` a timestep and leaks by ``multiplier`` over 2^shift in between."""
    lost = (1 << shift) - multiplier
    if lost <= 0:
        return timesteps * (grows + 1)
    return min(timesteps * (grows + 1), -(-((grows + 1) << shift) // lost))


def features(neuron: Neuron | NeuronRecord) -> tuple[str, ...]:
    """What such neurons have that those of version 1 have not, in words: for machines that cannot do it."""
    return tuple(
        words
        for words, has in {
            "exponential synapses and a first spike": neuron.kind == FIRST_SPIKE,
            "a leak with a multiplier": neuron.leak_multiplier is not None,
            "a synaptic current": neuron.current_shift is not None,
            "an adaptive threshold": neuron.adaptation_shift is not None,
            "a threshold in fractions": neuron.threshold_in_fractions,
            "a reset to a value": neuron.reset_value is not None,
            "an activation": _follows(neuron),
            "no reset": neuron.reset == "none" and neuron.fires != "nothing",
            "a start potential": neuron.start is not None,
            "a refractory time": neuron.refractory > 0,
            "signed spikes": neuron.fires == "signed",
            "integer spikes": neuron.fires == "integer",
            "potentials instead of spikes": neuron.fires == "nothing",
            "parameters of each neuron": _per_neuron(neuron),
        }.items()
        if has
    )


def _follows(neuron: Neuron | NeuronRecord) -> bool:
    return (neuron.activation_bits if isinstance(neuron, NeuronRecord) else neuron.activation) is not None


def _per_neuron(neuron: Neuron | NeuronRecord) -> bool:
    if isinstance(neuron, NeuronRecord):
        return neuron.per_neuron
    return any(np.ndim(getattr(neuron, name)) > 1 for name in ARRAYS)
