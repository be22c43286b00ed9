"""What many machines have alike in their files: types of fields, which say what a value may be, and a block."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from archsim.hardware.loading import Block

WeightBits = Annotated[int, Field(ge=2, le=16)]
"""Bits of a weight, sign included."""
SumBits = Annotated[int, Field(ge=2, le=63)]
"""Bits of a sum or a potential, sign included: a sum of 63 bits and one more addition fit 64."""
Count = Annotated[int, Field(ge=1, le=1024)]
"""How many equal parts there are."""


class AdderPe(Block):
    """Processing elements that add a weight for each spike."""

    count: Count = Field(description="PEs; each adds one weight per cycle")
    weight_bits: WeightBits = Field(description="bits of a weight")
    accumulator_bits: SumBits = Field(description="bits of a sum, sign included")
    pipeline_cycles: int = Field(ge=0, le=64, description="cycles from the last addition of a sum until it is there")
