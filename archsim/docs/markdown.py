"""Markdown out of what the code says."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; what would end a cell is escaped."""
    lines = [list(columns), ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: object) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(str(value).split()))


def code(value: object) -> str:
    """A value in code type; nothing for nothing."""
    return f"`{value}`" if str(value) else ""


def prose(docstring: str) -> str:
    """A docstring as Markdown: roles and double backticks of reStructuredText become code, blocks stay blocks."""
    text = inspect.cleandoc(docstring)
    text = re.sub(r":\w+:`[~.]*([^`]+)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    return re.sub(r"^::$\n?", "", text, flags=re.MULTILINE)


def plain(text: str) -> str:
    """Text in which no character means anything to Markdown."""
    return re.sub(r"([\\`*_<>\[\]|])", r"\\\1", text)
