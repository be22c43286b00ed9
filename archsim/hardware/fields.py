"""Types of fields that many machines have: what a value may be, said once; a field's description says of what."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

WeightBits = Annotated[int, Field(ge=2, le=16)]
"""Bits of a weight, sign included."""
SumBits = Annotated[int, Field(ge=2, le=63)]
"""Bits of a sum or a potential, sign included: a sum of 63 bits and one more addition fit 64."""
Count = Annotated[int, Field(ge=1, le=1024)]
"""How many equal parts there are."""
