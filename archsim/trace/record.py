"""What every JSON object in the ``meta`` record of a trace is."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Strict
from pydantic_core import PydanticCustomError


class Record(BaseModel):
    """A JSON object: strict types, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _true(value: bool) -> bool:
    if not value:
        raise PydanticCustomError("announced", "must be true or left out")
    return value


Announced = Annotated[bool, Strict(), AfterValidator(_true)]
"""A key that says that an array exists; without one there is no such key."""
