"""Analog-to-digital converter: a uniform quantiser shared by several columns of a crossbar array.

A column's current is counted in units of one cell level under one driven row, so an ideal column carries the integer
v = sum over the driven rows of the cells' levels. With b bits and a span V the converter returns the nearest of 2^b
codes, which the digital side takes for the nearest integer:

    code = min(round(v (2^b - 1) / V), 2^b - 1),      value = round(code V / (2^b - 1)),      halves rounded up.

V is the largest sum that an array can carry (``maximum``), the largest that the layer's recorded inputs cause
(``calibrated``), or 2^b - 1 so that a code is a unit and larger sums are clipped (``granular``); never less than
2^b - 1.
Where V = 2^b - 1 and no sum exceeds it the conversion is *lossless*: value = v. Calibration sees the images that are
simulated afterwards, which flatters it.

The columns of a converter are converted one after the other: k columns take ``k x conversion_cycles``.

Currents of real cells are no integers, nor positive where a pair or a reference column is subtracted before the
converter. A :class:`Quantiser` reads them: codes ``first`` to ``last`` of width ``step``, code 0 is no current,

    code = min(max(floor(v / step + offset + noise z + 1/2), first), last),      value = code step,

with the converter's own ``offset`` [codes] and fresh ``noise`` [codes]; for integers and the same span it returns what
the formula above does. Here calibration takes the currents as they are, wires, noise and all, and between percentiles.

Sources: quantiser and the three ranges, CrossSim (simulator/parameters/xbar_parameters.py: MAX, CALIBRATED, GRANULAR);
8 columns per converter and 4 bits, SpikeSim (ela_spikesim.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.hardware.fields import Count
from archsim.hardware.loading import Block
from archsim.jit import inlined


class AdcConfig(Block):
    """Converters behind the columns."""

    bits: Annotated[int, Field(ge=1, le=16)] | Literal["lossless"] = Field(
        description="bits of a conversion; lossless: as many as the largest possible sum needs"
    )
    columns: Count = Field(description="columns that share a converter, one after the other")
    conversion_cycles: int = Field(ge=1, le=1024, description="cycles of one conversion")
    range: Literal["maximum", "calibrated", "granular"] = Field(
        description="what the codes span: the largest possible sum, the largest recorded one, or 0 to 2^bits - 1"
    )
    per: Literal["array", "pe"] = Field(
        description="whose columns a set of converters serves: each array's own, or those of a PE, currents joined"
    )

    def width(self, full_scale: int) -> int:
        """Bits of a converter for sums up to ``full_scale``."""
        return full_scale.bit_length() if self.bits == "lossless" else self.bits

    def is_lossless(self, full_scale: int) -> bool:
        """Whether no sum up to ``full_scale`` is rounded or clipped, whatever the inputs."""
        return full_scale < 1 << self.width(full_scale)

    def span(self, full_scale: int, largest: int) -> int:
        """V, where sums can reach ``full_scale`` and the recorded ones reach ``largest``."""
        spans = {"granular": 0, "maximum": full_scale, "calibrated": largest}
        return max(spans[self.range], (1 << self.width(full_scale)) - 1)


@inlined
def convert(value: int, span: int, top: int) -> Any:
    """What is read of the sum ``value``; ``top`` is the last code."""
    code = min((2 * value * top + span) // (2 * span), top)
    return (2 * code * span + top) // (2 * top)


class AnalogAdcConfig(Block):
    """Converters of currents, with what is not ideal about them."""

    bits: Annotated[int, Field(ge=2, le=24)] | Literal["lossless"] = Field(
        description="bits of a conversion; lossless: as many as steps of one level need"
    )
    columns: Count = Field(description="conversions that share a converter, one after the other")
    range: Literal["maximum", "calibrated", "granular"] = Field(
        description="what the codes span: what ideal cells can cause, what calibration saw, or steps of one level"
    )
    percentile: float = Field(
        gt=50, le=100, description="calibrated: share of the calibration's currents within the span, each side [%]"
    )
    offset_lsb: float = Field(ge=0, le=1024, description="standard deviation of the converters' offsets [codes]")
    noise_lsb: float = Field(
        ge=0, le=1024, description="standard deviation of noise, drawn for every conversion [codes]"
    )

    @property
    def calibrates(self) -> bool:
        """Whether the span is what calibration saw."""
        return self.range == "calibrated" and self.bits != "lossless"

    def quantiser(self, lowest: int, highest: int, seen: NDArray[np.float64] | None) -> Quantiser:
        """For sums that ideally reach from ``lowest`` <= 0 to ``highest`` >= 0 levels; ``seen`` are calibration's."""
        if self.bits == "lossless":
            return Quantiser(lowest, lowest + (1 << (highest - lowest).bit_length()) - 1, 1.0)
        low, high = float(lowest), float(highest)
        if self.range == "calibrated":
            if seen is None or not seen.size:
                raise ValueError("a calibrated converter needs currents to calibrate with")
            low, high = np.percentile(seen, (100 - self.percentile, self.percentile))
            low, high = min(float(low), 0.0), max(float(high), 0.0)
        codes = (1 << self.bits) - 1
        below = 0 if low == 0 else min(max(round(codes * -low / (high - low)), 1), codes - (high > 0))
        above = codes - below
        step = max(-low / below if below else 0.0, high / above if above else 0.0)
        return Quantiser(-below, above, step if step > 0 and self.range != "granular" else 1.0)


class Quantiser(NamedTuple):
    """A converter's codes and what one of them is worth [levels]."""

    first: int
    last: int
    step: float

    def read(self, sums: NDArray[np.float64], disturbance: NDArray[np.float64] | float = 0.0) -> NDArray[np.float64]:
        """What is read of ``sums`` [levels]; ``disturbance`` is offset and noise [codes]."""
        codes = np.floor(sums / self.step + disturbance + 0.5)
        return np.clip(codes, self.first, self.last) * self.step
