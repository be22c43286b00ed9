"""What a Python program gives to archsim's functions: of a wrong type it is wrong input, like any other.

The command line gives the right types; a program may give a number where a path belongs, or one text where a list of
them does, which Python would take apart into letters.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import partial
from numbers import Integral
from typing import NamedTuple

from archsim.errors import UsageError, nearest, printable


class Kind(NamedTuple):
    """What an argument may be, in words, and whether a value is that."""

    meaning: str
    fits: Callable[[object], bool]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and _is_whole(value) and int(value) >= 1


def _is_list_of(fits: Callable[[object], bool], value: object) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str | bytes) and all(map(fits, value))


PATH = Kind("a path", _is_path)
PATHS = Kind("a path or a list of them", lambda value: _is_path(value) or _is_list_of(_is_path, value))
TEXT = Kind("a text", _is_text)
TEXTS = Kind("a list of texts", partial(_is_list_of, _is_text))
WHOLE = Kind("a whole number", _is_whole)
COUNT = Kind("a whole number of at least 1", _is_count)
FLAG = Kind("True or False", lambda value: isinstance(value, bool))
FUNCTION = Kind("a function", callable)


def one_of(*names: str) -> Kind:
    """One of these names."""
    return Kind(" or ".join(names), lambda value: isinstance(value, str) and value in names)


def optional(kind: Kind) -> Kind:
    """The same, or None."""
    return Kind(f"{kind.meaning}, or None", lambda value: value is None or kind.fits(value))


def problems(**given: tuple[object, Kind]) -> list[str]:
    """What is wrong with arguments, each given by its name with its value and the kind that it must be of."""
    return [
        f"{name}: must be {kind.meaning}, got {printable(repr(value))}{_hint(value, kind)}"
        for name, (value, kind) in given.items()
        if not kind.fits(value)
    ]


def check(**given: tuple[object, Kind]) -> None:
    """UsageError with all :func:`problems` of arguments."""
    if found := problems(**given):
        raise UsageError(found)


def _hint(value: object, kind: Kind) -> str:
    return nearest(value, kind.meaning.split(" or ")) if isinstance(value, str) else ""
