"""Analog-to-digital converter: an ideal uniform quantiser shared by several columns of a crossbar array.

A column's current is counted in units of one cell level under one driven row, so an ideal column carries the integer
v = sum over the driven rows of the cells' levels. With b bits and a span V the converter returns the nearest of 2^b
codes, which the digital side takes for the nearest integer:

    code = min(round(v (2^b - 1) / V), 2^b - 1),      value = round(code V / (2^b - 1)),      halves rounded up.

V is the largest sum that an array can carry (``full``), the largest that the layer's recorded inputs cause
(``calibrated``), or 2^b - 1 so that a code is a unit and larger sums are clipped (``unit``); never less than 2^b - 1.
Where V = 2^b - 1 and no sum exceeds it the conversion is *lossless*: value = v. Calibration sees the images that are
simulated afterwards, which flatters it.

The columns of a converter are converted one after the other: k columns take ``k x conversion_cycles``.

Sources: quantiser and the three ranges, CrossSim (simulator/parameters/xbar_parameters.py: MAX, CALIBRATED, GRANULAR);
8 columns a converter and 4 bits, SpikeSim (ela_spikesim.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from archsim.hardware.loading import Block
from archsim.jit import inlined


class AdcConfig(Block):
    """Converters behind the columns."""

    bits: Annotated[int, Field(ge=1, le=16)] | Literal["lossless"] = Field(
        description="bits of a conversion; lossless: as many as the largest possible sum needs"
    )
    columns: int = Field(ge=1, le=1024, description="columns that share a converter, one after the other")
    conversion_cycles: int = Field(ge=1, le=1024, description="cycles of one conversion")
    range: Literal["full", "calibrated", "unit"] = Field(
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
        spans = {"unit": 0, "full": full_scale, "calibrated": largest}
        return max(spans[self.range], (1 << self.width(full_scale)) - 1)


@inlined
def convert(value: int, span: int, top: int) -> Any:
    """What is read of the sum ``value``; ``top`` is the last code."""
    code = min((2 * value * top + span) // (2 * span), top)
    return (2 * code * span + top) // (2 * top)
