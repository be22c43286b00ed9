"""Named tuples by reference, inside of kernels.

numba passes a tuple from kernel to kernel as all its numbers, an array as seven or more of them: those of the engine
would be six hundred arguments of every call, and most of what there is to compile. :func:`by_reference` puts a tuple
down in the memory of the kernel that calls it and gives its address, of which attributes can be asked as of the tuple;
an attribute that is such a tuple itself is a reference again. Where all is copied into one kernel in the end, LLVM sees
through the addresses, and nothing is read from memory that was not before.

Of "this tuple's number or that one's" LLVM makes one read from an address that it does not know, and the whole tuple
stays in memory: a quarter of a loop's speed. A test looks for it in every machine.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar, cast

import numba
from numba import types
from numba.core import cgutils
from numba.core.datamodel.models import PrimitiveModel
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, register_model

T = TypeVar("T")


class Reference(types.Type):  # type: ignore[misc]
    """The type of a reference to a named tuple of type ``kind``. Its name is short: it is in that of every kernel."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        digest = hashlib.sha256(repr((kind.instance_class, kind.fields, kind.types)).encode()).hexdigest()
        super().__init__(f"{kind.instance_class.__name__}_{digest[:16]}")

    @property
    def key(self) -> Any:
        """What makes it equal to another one."""
        return self.kind


def _is_named(kind: Any) -> bool:
    """Whether a type is that of a named tuple with anything in it."""
    return isinstance(kind, types.BaseNamedTuple) and len(kind.types) > 0


def _seen(kind: Any) -> Any:
    """The type of an attribute of type ``kind``."""
    return Reference(kind) if _is_named(kind) else kind


@register_model(Reference)
class _Address(PrimitiveModel):  # type: ignore[misc]
    """An address, to LLVM."""

    def __init__(self, models: Any, kind: Reference) -> None:
        super().__init__(models, kind, models.lookup(kind.kind).get_value_type().as_pointer())


@infer_getattr
class _Attributes(AttributeTemplate):  # type: ignore[misc]
    key = Reference

    def generic_resolve(self, reference: Reference, name: str) -> Any:
        """The type of attribute ``name``, None if there is none."""
        kind = reference.kind
        return _seen(kind.types[kind.fields.index(name)]) if name in kind.fields else None


@lower_getattr_generic(Reference)  # type: ignore[untyped-decorator]
def _attribute(context: Any, builder: Any, reference: Reference, address: Any, name: str) -> Any:
    place = reference.kind.fields.index(name)
    found = cgutils.gep_inbounds(builder, address, 0, place)
    return found if _is_named(reference.kind.types[place]) else builder.load(found)


@intrinsic  # type: ignore[untyped-decorator]
def _by_reference(context: Any, value: Any) -> Any:
    def put_down(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return cgutils.alloca_once_value(builder, values[0])

    if _is_named(value):
        return Reference(value)(value), put_down
    return value(value), lambda context, builder, signature, values: values[0]


def _itself(value: T) -> T:
    return value


by_reference = cast(Any, _itself if numba.config.DISABLE_JIT else _by_reference)
"""A named tuple as kernels that are called from here shall see it; all else itself."""
