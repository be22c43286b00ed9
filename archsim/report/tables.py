"""Result tables that archsim wrote and reads again. Nothing in them is believed: they are files like any other.

A table is a CSV file as :func:`archsim.report.files.csv_text` writes it: UTF-8, a line of distinct column names, then a
line a row; a row never goes on in the next line, so that damage ends with its line. A column holds what its name says:
column names end in their unit, and :data:`_KINDS` says what a cell of that unit may be. All other columns are text.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from archsim.errors import MOST_PROBLEMS, UsageError, printable
from archsim.report.files import unguarded

MAX_TABLE_BYTES = 1 << 29
MAX_SUMMARY_BYTES = 1 << 26
_LARGEST, _SMALLEST = 1e100, 1e-100
"""Of a measured number that is not 0: ratios of two of them are numbers too."""
_MOST_COUNTED = (1 << 63) - 1


class _Kind(NamedTuple):
    """What a cell may be, and what it is worth; ``value`` raises ValueError for what it may not be."""

    meaning: str
    value: Callable[[str], Any]


def _count(cell: str) -> int:
    if not (cell.isascii() and cell.isdecimal() and len(cell) < 20 and int(cell) <= _MOST_COUNTED):
        raise ValueError
    return int(cell)


def _number(cell: str) -> int | float:
    if cell.isascii() and cell.isdecimal() and len(cell) < 20:
        return int(cell)
    if not re.fullmatch(r"[0-9]{1,400}(\.[0-9]{1,400})?([eE][-+]?[0-9]{1,3})?", cell):
        raise ValueError
    value = float(cell)
    if value and not _SMALLEST <= value <= _LARGEST:
        raise ValueError
    return value


def _share(cell: str) -> int | float:
    value = _number(cell)
    if value > 1:
        raise ValueError
    return value


def _flag(cell: str) -> bool:
    if cell.lower() not in ("true", "false"):
        raise ValueError
    return cell.lower() == "true"


_COUNT = _Kind(f"a whole number from 0 to {_MOST_COUNTED}", _count)
_NUMBER = _Kind(f"a number, 0 or from {_SMALLEST:g} to {_LARGEST:g}", _number)
_SHARE = _Kind("a number from 0 to 1", _share)
_FLAG = _Kind("true or false", _flag)
_TEXT = _Kind("text", unguarded)
_KINDS = {
    "same_layers": _FLAG,
    **dict.fromkeys(("point", "images", "timesteps", "layers", "cycles", "bytes", "mismatches", "operations"), _COUNT),
    **dict.fromkeys(("core", "row", "column", "messages"), _COUNT),
    **dict.fromkeys(
        (
            *("s", "pj", "mm2", "kib", "operation", "speedup", "energy_gain", "energy_delay_gain", "standard_error"),
            *("energy_over_estimate", "tops", "tops_per_w"),
        ),
        _NUMBER,
    ),
    **dict.fromkeys(("utilization", "accuracy", "coverage"), _SHARE),
    **dict.fromkeys(("verified", "fitted", "pareto"), _FLAG),
}
"""By how the name of a column ends."""


class Row(NamedTuple):
    """A row: the line where it stands, its cells by column, None where there is nothing, and what is wrong with it."""

    line: int
    cells: dict[str, Any]
    problems: list[str]


class Table:
    """The rows of a table, read one by one as they are asked for.

    ``lines`` are those of the file, ``where`` is its name. It has the columns ``filled``, all of whose cells hold what
    the column is named after, and the columns ``sparse``, whose cells may be empty; it may have others, of text.
    UsageError if its first line says otherwise. Whatever is wrong in a row is among the row's problems.
    """

    def __init__(
        self, lines: Iterable[bytes], where: str, filled: Collection[str], sparse: Collection[str] = ()
    ) -> None:
        self._where = where
        self._lines = iter(lines)
        header, problems = _cells(next(self._lines, b"").removeprefix(b"\xef\xbb\xbf"))
        if missing := [name for name in (*filled, *sparse) if name not in header]:
            raise UsageError(f"{where}: is not a table of archsim, has no column '{missing[0]}'")
        problems += [f"column '{printable(name)}' is there twice" for name in _repeated(header)]
        if problems:
            raise UsageError([f"{where}:1: {problem}" for problem in problems])
        self.columns: tuple[str, ...] = tuple(header)
        known = {*filled, *sparse}
        self._kinds = [(name, _kind(name) if name in known else _TEXT, name in filled) for name in header]

    def __iter__(self) -> Iterator[Row]:
        for number, line in enumerate(self._lines, start=2):
            cells, problems = _cells(line)
            if not cells and not problems:  # an empty line says nothing
                continue
            values: dict[str, Any] = {}
            if not problems and len(cells) != len(self._kinds):
                problems.append(f"has {len(cells)} cells; the table has {len(self._kinds)} columns")
            if not problems:
                for (name, kind, is_filled), cell in zip(self._kinds, cells, strict=True):
                    try:
                        values[name] = _value(kind, cell, is_filled)
                    except ValueError as error:
                        problems.append(f"{printable(name)}: {error}")
            yield Row(number, values, [f"{self._where}:{number}: {problem}" for problem in problems])


def read(
    path: Path, filled: Collection[str], sparse: Collection[str] = (), what: str = "a table of archsim"
) -> Iterator[Row]:
    """The rows of the file at ``path``, which should be ``what``; UsageError for what is wrong with any of them.

    It is raised when all rows have been asked for, so that it names what is wrong in all of them.
    """
    problems: list[str] = []
    more = 0
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path}: is not a regular file; expected {what}")
        with path.open("rb") as file:
            if path.stat().st_size > MAX_TABLE_BYTES:
                raise UsageError(f"{path}: is larger than {MAX_TABLE_BYTES:,} bytes; expected {what}")
            for row in Table(file, str(path), filled, sparse):
                if not row.problems:
                    yield row
                elif len(problems) < MOST_PROBLEMS:
                    problems += row.problems
                else:
                    more += len(row.problems)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{path}: cannot be read: {reason}; expected {what}") from error
    if problems:
        raise UsageError([*problems, *([f"{path}: and {more:,} more problems"] if more else [])])


def numbers(columns: Iterable[str]) -> list[str]:
    """Those of the ``columns`` that hold numbers."""
    return [name for name in columns if _kind(name) in (_COUNT, _NUMBER, _SHARE)]


def read_facts(path: Path, kinds: dict[str, type]) -> dict[str, Any]:
    """What ``summary.json`` at ``path`` says of the names in ``kinds``, each of that type; UsageError."""
    what = f"{path}: is not the summary of a run of this version"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SUMMARY_BYTES + 1)
        if len(content) > MAX_SUMMARY_BYTES:
            raise UsageError(f"{what}, is larger than {MAX_SUMMARY_BYTES:,} bytes")
        found = json.loads(content)
    except OSError as error:
        raise UsageError(f"{what}, cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of very many digits
        raise UsageError(f"{what}, {printable(error)}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{what}, must be an object, got {type(found).__name__}")
    problems = [
        f"{what}, {name} is missing"
        if name not in found
        else f"{what}, {name} must be {kind.__name__}, got {type(found[name]).__name__}"
        for name, kind in kinds.items()
        if type(found.get(name)) is not kind
    ]
    if problems:
        raise UsageError(problems)
    return {name: found[name] for name in kinds}


def _cells(line: bytes) -> tuple[list[str], list[str]]:
    """The cells of a line as they stand there, and what is wrong with it as a whole."""
    text = line.decode("utf-8", errors="surrogateescape").removesuffix("\n").removesuffix("\r")
    usual = csv.field_size_limit()
    try:
        if len(text) > usual:  # a cell is as long as the file lets it be
            csv.field_size_limit(len(text))
        return next(csv.reader([text], strict=True), []), []
    except csv.Error as error:
        return [], [f"is not a line of CSV: {error}"]
    finally:
        csv.field_size_limit(usual)


def _value(kind: _Kind, cell: str, is_filled: bool) -> Any:
    """What ``cell`` is worth; ValueError says what is wrong."""
    if not cell.isprintable():
        bad = next(character for character in cell if not character.isprintable())
        if "\udc80" <= bad <= "\udcff":
            raise ValueError(f"is not UTF-8 text, got byte 0x{ord(bad) - 0xDC00:02x}")
        raise ValueError(f"must be printable, got U+{ord(bad):04X}")
    if not cell:
        if is_filled:
            raise ValueError(f"must be {kind.meaning}, got nothing")
        return None
    try:
        return kind.value(cell)
    except ValueError:
        raise ValueError(f"must be {kind.meaning}, got '{printable(cell, 60)}'") from None


def _kind(column: str) -> _Kind:
    return next((kind for end, kind in _KINDS.items() if column == end or column.endswith(f"_{end}")), _TEXT)


def _repeated(names: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    return list(dict.fromkeys(name for name in names if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
