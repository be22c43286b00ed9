"""``archsim columns``: what names in result files mean."""

from __future__ import annotations

from typing import Annotated

import typer

from archsim.cli.printing import print_table
from archsim.errors import UsageError, nearest
from archsim.report import columns as table


def _known() -> list[str]:
    """Names of columns and of files, each once."""
    return list(dict.fromkeys(name for one in table.columns() for name in (one.name, *one.files)))


def _complete(incomplete: str) -> list[str]:
    return [name for name in _known() if name.startswith(incomplete) and " " not in name]


def columns(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="A column, or a file: all of its columns. Default: all.", autocompletion=_complete
        ),
    ] = None,
) -> None:
    """Say what the columns, keys and events of result files mean, and their units."""
    known = _known()
    unknown = [
        f"columns: no file of archsim has or is '{name}'{nearest(name, known)}; 'archsim columns' names all"
        for name in names or ()
        if name not in known
    ]
    if unknown:
        raise UsageError(unknown)
    rows = [
        (one.name, one.unit, ", ".join(one.files), one.meaning)
        for one in table.columns()
        if not names or {one.name, *one.files} & set(names)
    ]
    print_table(("name", "unit", "files", "meaning"), rows)
