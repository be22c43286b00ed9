"""Analog-to-digital converter: an ideal uniform quantiser shared by several columns of a crossbar array.

A column's current is counted in units of one cell level under one spiking row, so an ideal column carries the integer
v = sum over the active rows of the cells' levels. With b bits the converter returns

    code = min((v + step // 2) // step, 2^b - 1),      value = step x code

and ``step`` is the smallest integer with step (2^b - 1) >= range, so values stay integers. A step of 1 whose codes
reach the range is *lossless*: value = v. The range is that of the largest sum an array can carry (``full``), the
largest that the layer's recorded inputs cause (``calibrated``), or such that step = 1 and sums beyond the last code
are clipped (``unit``). Calibration sees the images that are simulated afterwards, which flatters it.

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

    def step(self, full_scale: int, largest: int) -> int:
        """The quantiser's step where sums can reach ``full_scale`` and the recorded ones reach ``largest``."""
        if self.range == "unit":
            return 1
        return step_of(full_scale if self.range == "full" else largest, self.width(full_scale))


def step_of(span: int, bits: int) -> int:
    """The smallest integer step whose 2^bits - 1 steps reach ``span``."""
    return max(1, -(-span // ((1 << bits) - 1)))


@inlined
def convert(value: int, step: int, top: int) -> Any:
    """What the converter reports of the sum ``value``; ``top`` is its last code."""
    return step * min((value + step // 2) // step, top)
