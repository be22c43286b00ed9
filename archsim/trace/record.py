"""What every JSON object in the ``meta`` record of a trace is: strict, and as short as the first traces wrote it.

Annotations here are no strings: pydantic 2.10 looks up an inherited one in the module of the subclass.
"""

from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    Strict,
    model_serializer,
)
from pydantic_core import PydanticCustomError


class Record(BaseModel):
    """A JSON object: strict types, no unknown keys, no NaN or infinity.

    ``later`` are keys that came after the first traces, ``version_2`` those that came with version 2 of the format.
    Both are written only where they say something, so that older traces keep their hash.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)
    later: ClassVar[tuple[str, ...]] = ()
    version_2: ClassVar[tuple[str, ...]] = ()

    def says(self, key: str) -> bool:
        """Whether ``key`` has another value than its default."""
        return bool(getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True))

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        record: dict[str, Any] = handler(self)
        silent = {key for key in (*self.later, *self.version_2) if not self.says(key)}
        return {key: value for key, value in record.items() if key not in silent}


def _true(value: bool) -> bool:
    if not value:
        raise PydanticCustomError("announced", "must be true or left out")
    return value


Announced = Annotated[bool, Strict(), AfterValidator(_true)]
"""A key that says that an array exists; without one there is no such key."""
