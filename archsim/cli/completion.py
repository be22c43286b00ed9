"""How a word on the command line may go on, for the shell. Whatever is wrong with the words before it, nothing is said.

Shells that take ``=`` for the end of a word (bash) are given paths of settings, others values too.
"""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from archsim.errors import ArchsimError


def files_and(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """A word that is a file's or a shipped one's name."""

    def complete(incomplete: str) -> list[str]:
        folder, _, start = incomplete.rpartition("/")
        found = [] if folder else [name for name in names() if name.startswith(start)]
        with contextlib.suppress(OSError):
            for entry in sorted(Path(folder or ".").iterdir()):
                if entry.name.startswith(start):
                    found.append(f"{folder}/{entry.name}" if folder else entry.name)
        return found

    return complete


def settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """A setting of the hardware file that was given, or a value of one: the words that it may be, or what it is."""
    from archsim.hardware.loading import Block, field_rows
    from archsim.simulate import load_accelerator

    try:
        config = load_accelerator(ctx.args[0]).config  # an option without its value: all before it are mere words
    except (ArchsimError, IndexError):
        return []
    path, equals, start = incomplete.partition("=")
    if not equals:
        return [f"{row.path}=" for row in field_rows(config) if row.path.startswith(path)]
    block, name = config, path
    while "." in name and isinstance(block, Block):
        first, _, name = name.partition(".")
        block = getattr(block, first, None)
    if not isinstance(block, Block) or name not in type(block).model_fields:
        return []
    before, comma, last = start.rpartition(",")  # of a sweep
    found = _words(type(block).model_fields[name].annotation) or [str(getattr(block, name))]
    return [f"{path}={before}{comma}{word}" for word in found if word.startswith(last)]


def _words(annotation: Any) -> list[str]:
    """The words that a value may be."""
    if annotation is bool:
        return ["true", "false"]
    return [str(word) for part in _literals(annotation) for word in typing.get_args(part)]


def _literals(annotation: Any) -> Iterator[Any]:
    if typing.get_origin(annotation) is typing.Literal:
        yield annotation
        return
    for part in typing.get_args(annotation):
        yield from _literals(part)


def layers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Layers of the trace that was given as the second word; names before the last comma are kept."""
    from archsim.trace import load_trace

    before, comma, start = incomplete.rpartition(",")
    try:
        names = [operation.name for operation in load_trace(ctx.args[1]).operations if operation.weight is not None]
    except (ArchsimError, IndexError):
        return []
    return [f"{before}{comma}{name}" for name in names if name.startswith(start)]
