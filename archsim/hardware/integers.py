"""A machine's configuration as the kernels see it: nested named tuples of integers, derived from the Blocks.

Whole numbers, also those that the trace decides, and truth values are themselves, a choice among words is its place
among the allowed ones, a Block is a named tuple again; real numbers, text and lists stay out. So
``config.merger.cycles`` is ``m.config.merger.cycles`` for an agent, and nobody writes a list of fields twice.
"""

from __future__ import annotations

import threading
from collections import namedtuple
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import numpy as np

from archsim.hardware.loading import Block

_making = threading.Lock()
"""Two threads would make two classes of one name."""


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
    return tuple_class(
        kind, "Integers", [name for name, field in kind.model_fields.items() if _counts(field.annotation)]
    )


def tuple_class(home: type, name: str, fields: Sequence[str]) -> Any:
    """A class of named tuples with these fields, made once and kept as ``home.name``.

    numba tells types by their class, and a kernel on disk names its class by where it is found.
    """
    with _making:
        known = home.__dict__.get(name)
        if known is None or known._fields != tuple(fields):
            make: Any = namedtuple  # mypy knows only those whose fields stand in the source
            known = make(name, fields, module=home.__module__)
            known.__qualname__ = f"{home.__qualname__}.{name}"
            setattr(home, name, known)
        return known


def table_of(kind: type[tuple[int, ...]], rows: Sequence[tuple[int, ...]]) -> Any:
    """Named tuples of integers as a table: ``table[i].field`` is a number to agents, in kernels too."""
    return np.array(rows, [(name, np.int64) for name in cast(Any, kind)._fields]).view(np.recarray)


def _counts(annotation: Any) -> bool:
    return annotation in (int, bool) or _is_choice(annotation) or _is_block(annotation) or _is_found_later(annotation)


def _is_found_later(annotation: Any) -> bool:
    """A whole number, or a word in its place until the trace is known: ``int | Literal["trace"]``."""
    parts = {get_origin(part) or part for part in get_args(annotation)}
    return parts in ({int, Literal}, {Annotated, Literal})


def _is_block(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Block)


def _is_choice(annotation: Any) -> bool:
    return get_origin(annotation) is Literal and all(isinstance(word, str) for word in get_args(annotation))
