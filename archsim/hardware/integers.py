"""A machine's configuration as the kernels see it: nested named tuples of integers, derived from the Blocks.

Whole numbers and truth values are themselves, a choice among words is its place among the allowed ones, a Block is a
named tuple again; real numbers, text and lists stay out. So ``config.merger.cycles`` is ``m.config.merger.cycles`` for
an agent, and nobody writes a list of fields twice.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any, Literal, get_args, get_origin

from archsim.hardware.loading import Block


def integers(block: Block, kind: type[Block] | None = None) -> Any:
    """``block`` as a named tuple; ``kind`` is the class whose fields count, by default its own."""
    maker = _tuple_of(kind or type(block))
    values = []
    for name in maker._fields:
        value, annotation = getattr(block, name), (kind or type(block)).model_fields[name].annotation
        if isinstance(value, Block):
            assert isinstance(annotation, type)
            values.append(integers(value, annotation))
        else:
            values.append(get_args(annotation).index(value) if _is_choice(annotation) else int(value))
    return maker(*values)


def _tuple_of(kind: type[Block]) -> Any:
    """The named tuple of a Block's class, made once and found as its attribute ``Integers`` by numba's cache."""
    if "Integers" not in kind.__dict__:
        names = [name for name, field in kind.model_fields.items() if _counts(field.annotation)]
        made: Any = namedtuple("Integers", names)
        made.__module__, made.__qualname__ = kind.__module__, f"{kind.__qualname__}.Integers"
        kind.Integers = made  # type: ignore[attr-defined]
    return kind.__dict__["Integers"]


def _counts(annotation: Any) -> bool:
    return annotation in (int, bool) or _is_choice(annotation) or _is_block(annotation)


def _is_block(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Block)


def _is_choice(annotation: Any) -> bool:
    return get_origin(annotation) is Literal and all(isinstance(word, str) for word in get_args(annotation))
