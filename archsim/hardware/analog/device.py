"""Memory devices of crossbar arrays: what becomes of a conductance that was meant.

A cell of ``bits`` bits holds a level l, meant as the conductance

    G = G_off + (G_on - G_off) l / (2^bits - 1),        G_on = 1 / r_on,  G_off = 1 / r_off,

and is read at another one. The effects, in their order, x = G / G_on, z a fresh draw from N(0, 1) for every cell:

    stuck        with probability ``off`` the cell is programmed to G_off whatever was meant, with ``on`` to G_on
    programming  G (1 + sigma z), or G + G_on (c_0 + c_1 x + c_2 x^2 + ...) z
    write noise  G + gamma sigma sqrt((G - G_off) (G_on - G)) z: none at either end; only of cells that are written as
                 the network runs (ClipFormer: whenever K or V is written), not of weights that stay
    drift        G ((t + t_0) / t_0)^-nu, t seconds after t_0 seconds after programming; nu = |mean + spread z| of each
                 cell, mean and spread by the ln of x as programmed was meant, within bounds
    read noise   G (1 + sigma z), and 1/f noise G Q sqrt(ln((t + t_0 + t_r) / (2 t_r))) z of a read of t_r seconds,
                 Q = min(q / x^exponent, most)

No conductance is below zero. Everything but the read noise happens once for a programmed cell. All functions take
conductances in siemens, any shape, and the generator that they draw from; each draws all its cells at once.

A device file in ``devices/`` says all of it, every value with its source; a machine's file names one and may say
otherwise, field by field::

    device:
      kind: pcm
      read: {relative: 0.1}

Values have the bounds of what could be a memory cell, with room for any that was built, and so that whatever is
computed of them is finite:

    r_on         1 ohm, less than an electrode has, to 1e12 ohm, which at 1 V is below the leakage of a transistor
    r_off        above r_on by 1 % at least, closer levels are no levels; to 1e15 ohm, an insulator
    deviations   no more than ten times G_on or the conductance itself; over the whole range of G not below zero
    exponents    to 1: amorphous phase-change memory has 0.1; t_0 from 1 ns, no pulse is shorter; t to 1e10 s, 300 years
    voltages     from 1 mV, far below the noise of what senses or drives them; c V^2 < 1/3, a current rises with V
    writes       to 1 s a cell, all pulses together

Sources: stuck cells, MNSIM 2.0; relative noises, notes on TReX and GLSVLSI 2023; write noise, notes on TxSim and
ClipFormer; phase-change memory, aihwkit 1.2.0 (inference/noise/pcm.py). The order of effects is a choice; what it does
to stuck cells, which vary, drift and are read like all others, is in ``DEVIATIONS.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler  # not in pydantic itself in 2.10

from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.plain_yaml import CORE_SCHEMA

Siemens = NDArray[np.float64]

MOST_BITS = 8
"""Of a cell."""
MOST_DEVIATION = 10
LEAST_RATIO = 1.01
MOST_WRITE_NS = 10**9

TINY = 1e-7
"""The least x that a statistic by ln x is asked for: cells at zero have no logarithm (aihwkit's value)."""


class Programming(Block):
    """How far a programmed conductance is from the one that was meant."""

    relative: float = Field(ge=0, le=MOST_DEVIATION, description="sigma / mean of the programmed conductance")
    by_state: tuple[Annotated[float, Field(ge=-100, le=100)], ...] = Field(
        max_length=8, description="coefficients c_0, c_1, ... of sigma / G_on as a polynomial in G / G_on; [] for none"
    )

    @model_validator(mode="after")
    def _is_a_deviation(self) -> Self:
        deviation = self.deviation(np.linspace(0, 1, 1 << MOST_BITS))
        if not 0 <= deviation.min() <= deviation.max() <= MOST_DEVIATION:
            got = f"{deviation.min():.3g} to {deviation.max():.3g}"
            allowed = f"must be 0 to {MOST_DEVIATION} for every G / G_on from 0 to 1"
            raise CrossFieldError({"by_state": f"sigma / G_on {allowed}, got {got}"})
        return self

    def deviation(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """sigma / G_on by the state alone, for x = G / G_on."""
        return np.asarray(np.polynomial.polynomial.polyval(x, self.by_state or (0.0,)), np.float64)


class WriteNoise(Block):
    """State-dependent noise of a write at run time. Neither has a usual value, so none is assumed."""

    gamma: float = Field(ge=0, le=100, description="strength")
    sigma: float = Field(
        ge=0, le=10, description="deviation for strength 1, in the middle of the range twice that of G"
    )


class Line(Block):
    """A value by ln x, within bounds: slope ln x + offset."""

    slope: float = Field(ge=-10, le=10, description="change by a factor e in x")
    offset: float = Field(ge=-10, le=10, description="value at x = 1")
    least: float = Field(ge=0, le=1, description="lower bound")
    most: float = Field(ge=0, le=1, description="upper bound")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.least > self.most:
            raise CrossFieldError({"least": f"must not be above most, {self.most:g}"})
        return self

    def at(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The value for every x > 0."""
        return np.clip(self.slope * np.log(x) + self.offset, self.least, self.most)


class Drift(Block):
    """A power law of time, the exponent drawn for every cell."""

    t0_s: float = Field(ge=1e-9, le=1e6, description="reference time after programming [s]")
    mean: Line = Field(description="mean of the exponent nu")
    spread: Line = Field(description="standard deviation of the exponent from cell to cell")


class Flicker(Block):
    """1/f noise of a read, accumulated since programming."""

    q: float = Field(ge=0, le=10, description="Q at x = 1")
    exponent: float = Field(ge=0, le=10, description="fall of Q with x")
    most: float = Field(ge=0, le=10, description="upper bound of Q")
    read_ns: int = Field(ge=1, le=10**9, description="duration of a read t_r [ns]")


class Read(Block):
    """Noise of a read."""

    relative: float = Field(ge=0, le=MOST_DEVIATION, description="sigma / mean of the conductance")
    flicker: Flicker | None = Field(description="1/f noise")
    voltage_v: float = Field(ge=1e-3, le=10, description="voltage of a driven row [V]")
    cubic_per_v2: float = Field(ge=0, le=10, description="c of a cell's current G (V - c V^3); 0: a linear cell")

    @model_validator(mode="after")
    def _current_rises(self) -> Self:
        if 3 * self.cubic_per_v2 * self.voltage_v**2 >= 1:
            most = 1 / (3 * self.voltage_v**2)
            raise CrossFieldError({"cubic_per_v2": f"must be below {most:.3g}, so that currents rise up to voltage_v"})
        return self


class Stuck(Block):
    """Shares of cells that cannot be programmed."""

    off: float = Field(ge=0, le=1, description="share of cells stuck at G_off")
    on: float = Field(ge=0, le=1, description="share of cells stuck at G_on")


class Write(Block):
    """What it takes to write a cell."""

    voltage_v: float = Field(ge=1e-3, le=100, description="voltage of a pulse [V]")
    pulse_ns: int = Field(ge=1, le=MOST_WRITE_NS, description="duration of a pulse [ns]")
    pulses: int = Field(ge=1, le=10**6, description="pulses to program a cell, write-verify included")
    endurance: int | None = Field(ge=1, le=10**18, description="writes that a cell survives; null: no limit")

    @model_validator(mode="after")
    def _ends(self) -> Self:
        longest = MOST_WRITE_NS // self.pulse_ns
        if self.pulses > longest:
            raise CrossFieldError({"pulses": f"must be at most {longest}, a second in all with pulse_ns"})
        return self


class DeviceConfig(Block):
    """A memory device: its file in ``devices/`` with a machine's own values in their places."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(required=["kind"]))

    kind: Literal["rram", "pcm", "fefet", "sram"] = Field(description="device file that says what is not said here")
    r_on_ohm: float = Field(ge=1, le=1e12, description="resistance of the highest level [ohm]")
    r_off_ohm: float = Field(ge=1, le=1e15, description="resistance of level 0 [ohm]")
    bits: int = Field(ge=1, le=MOST_BITS, description="bits of a cell's level")
    stuck: Stuck
    programming: Programming
    write_noise: WriteNoise | None = Field(description="state-dependent noise of writes at run time; null: none")
    drift: Drift | None = Field(description="null: none")
    read: Read
    write: Write

    @model_validator(mode="wrap")
    @classmethod
    def _from_its_file(cls, said: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(said, Mapping) or said.get("kind") not in DEVICES:
            return validate(said)
        device = validate(_merge(device_file(said["kind"]), said))
        _mark_defaults(device, said)
        return device

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = {}
        if self.r_off_ohm < LEAST_RATIO * self.r_on_ohm:
            problems["r_off_ohm"] = f"must be above r_on_ohm, {self.r_on_ohm:g}, by a factor of {LEAST_RATIO} at least"
        if self.stuck.off + self.stuck.on > 1:
            problems["stuck"] = f"shares must not add up to more than 1, got {self.stuck.off:g} + {self.stuck.on:g}"
        if problems:
            raise CrossFieldError(problems)
        return self

    @property
    def g_on(self) -> float:
        """Conductance of the highest level [S]."""
        return 1 / self.r_on_ohm

    @property
    def g_off(self) -> float:
        """Conductance of level 0 [S]."""
        return 1 / self.r_off_ohm

    @property
    def g_level(self) -> float:
        """Conductance from level to level [S]."""
        return (self.g_on - self.g_off) / ((1 << self.bits) - 1)

    @property
    def ideal(self) -> bool:
        """Whether cells are for ever what they were meant to be."""
        read, programming = self.read, self.programming
        reads = read.relative == read.cubic_per_v2 == 0 and read.flicker is None
        writes = programming.relative == 0 and not any(programming.by_state) and self.write_noise is None
        return reads and writes and self.stuck.off == self.stuck.on == 0 and self.drift is None

    def write_ns(self, rows: int) -> int:
        """Time to write ``rows`` rows, one after the other, all cells of a row at once [ns]."""
        return rows * self.write.pulse_ns * self.write.pulses

    def pulse_pj(self, conductance: float) -> float:
        """Energy of a pulse that writes a cell to ``conductance``: V^2 G t [pJ]."""
        return self.write.voltage_v**2 * conductance * self.write.pulse_ns * 1e3

    def lifetime(self, writes: int) -> int | None:
        """How often a job can be done that writes a cell ``writes`` > 0 times, all pulses of a write counted as one;
        None for ever."""
        return None if self.write.endurance is None else self.write.endurance // writes


DEVICES = ("rram", "pcm", "fefet", "sram")


class _Loader(yaml.SafeLoader):
    """Numbers as in every file of archsim."""

    yaml_implicit_resolvers = CORE_SCHEMA


@cache
def device_file(kind: str) -> Mapping[str, Any]:
    """What the device file of ``kind`` says."""
    text = (files("archsim.hardware.analog") / "devices" / f"{kind}.yaml").read_text(encoding="utf-8")
    found: Mapping[str, Any] = _immutable(yaml.load(text, Loader=_Loader))
    return found


def _immutable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _immutable(item) for key, item in value.items()}
    return tuple(map(_immutable, value)) if isinstance(value, list) else value


def _merge(base: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with what was ``said`` in its place, block by block."""
    merged = {**base, **said}
    for key, value in base.items():
        if isinstance(value, dict) and isinstance(said.get(key), Mapping):
            merged[key] = _merge(value, said[key])
    return merged


def _mark_defaults(block: Block, said: Mapping[str, Any]) -> None:
    """Values of ``block`` that nobody ``said`` are defaults."""
    block.model_fields_set.intersection_update(said)
    for name in block.model_fields_set:
        if isinstance(said[name], Mapping):
            _mark_defaults(getattr(block, name), said[name])


# What happens to conductances, in this order.


def target(level: NDArray[Any], device: DeviceConfig) -> Siemens:
    """Conductances that integer levels mean; ValueError for a level that the cell does not have."""
    top = (1 << device.bits) - 1
    if level.size and not 0 <= level.min() <= level.max() <= top:
        raise ValueError(f"levels from {level.min()} to {level.max()}; allowed: 0 to {top}")
    return device.g_off + device.g_level * level.astype(np.float64)


def stick(meant: Siemens, device: DeviceConfig, draw: np.random.Generator) -> Siemens:
    """What cells are programmed to: those that are stuck, to the end where they stick."""
    if device.stuck.off == device.stuck.on == 0:
        return meant
    luck = draw.random(meant.shape)
    stuck_off = np.where(luck < device.stuck.off, device.g_off, meant)
    return np.where(luck >= 1 - device.stuck.on, device.g_on, stuck_off)


def program(meant: Siemens, device: DeviceConfig, draw: np.random.Generator) -> Siemens:
    """Programming variation."""
    programming = device.programming
    found = meant
    if programming.relative:
        found = found * (1 + programming.relative * draw.standard_normal(meant.shape))
    if programming.by_state:
        deviation = programming.deviation(meant / device.g_on)
        found = found + device.g_on * deviation * draw.standard_normal(meant.shape)
    return np.maximum(found, 0)


def disturb(programmed: Siemens, device: DeviceConfig, draw: np.random.Generator) -> Siemens:
    """Write noise of cells that are written as the network runs."""
    noise = device.write_noise
    if noise is None:
        return programmed
    room = np.maximum((programmed - device.g_off) * (device.g_on - programmed), 0)
    found = programmed + noise.gamma * noise.sigma * np.sqrt(room) * draw.standard_normal(programmed.shape)
    return np.maximum(found, 0)


def drift(
    programmed: Siemens, meant: Siemens, device: DeviceConfig, time_s: float, draw: np.random.Generator
) -> Siemens:
    """``programmed`` cells after ``time_s``; their exponents go by what was ``meant``."""
    law = device.drift
    if law is None:
        return programmed
    x = np.maximum(meant / device.g_on, TINY)
    nu = np.abs(law.mean.at(x) + law.spread.at(x) * draw.standard_normal(meant.shape))
    return programmed * np.power((time_s + law.t0_s) / law.t0_s, -nu)


def read_deviation(drifted: Siemens, programmed: Siemens, device: DeviceConfig, time_s: float) -> Siemens:
    """Standard deviation of a read; 1/f noise goes by the conductance as ``programmed``, before the drift."""
    relative, flicker = device.read.relative, device.read.flicker
    if flicker is None:
        return relative * drifted
    t_read = flicker.read_ns * 1e-9
    since = time_s + (device.drift.t0_s if device.drift else 0.0)
    q = np.minimum(flicker.q / np.maximum((programmed / device.g_on) ** flicker.exponent, 1e-3), flicker.most)
    accumulated = max(np.log((since + t_read) / (2 * t_read)), 0.0)
    share: NDArray[np.float64] = np.sqrt(relative**2 + q**2 * accumulated)
    return drifted * share


def read(drifted: Siemens, deviation: Siemens, draw: np.random.Generator) -> Siemens:
    """One read of cells whose reads have the ``deviation``."""
    if not deviation.any():
        return drifted
    return np.maximum(drifted + deviation * draw.standard_normal(drifted.shape), 0)
