"""Arguments and options that several verbs share, and what is done with them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from archsim import examples
from archsim.cli.completion import files_and, layers, settings
from archsim.errors import ArchsimError, UsageError


class Engine(StrEnum):
    """Which of the two engines simulates; they agree on every completion time."""

    compiled = "compiled"
    reference = "reference"


Hardware = Annotated[
    Path,
    typer.Argument(
        metavar="HW", help="Hardware file (YAML), or the name of one.", autocompletion=files_and(examples.machines)
    ),
]
TraceFile = Annotated[
    Path,
    typer.Argument(
        metavar="TRACE", help="Trace file (.npz), or the name of one.", autocompletion=files_and(examples.traces)
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override, such as pe.count=32.", autocompletion=settings),
]
Engines = Annotated[Engine, typer.Option(help="compiled is fast, reference steps in a debugger.")]
Layers = Annotated[
    list[str] | None, typer.Option("--layers", metavar="NAME,...", help="Only these layers.", autocompletion=layers)
]
Jobs = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Layers, or machines, at once; default: one per core.")
]
Cluster = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Run on the workers of this Dask scheduler instead.")
]
Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="Compute every layer again and compare.")]


def names_in(given: Sequence[str] | None) -> list[str] | None:
    """Names of layers or adaptations, given with commas or one by one."""
    return [name.strip() for names in given or () for name in names.split(",")] or None


def refuse_swapped(hardware: Iterable[Path], traces: Iterable[Path]) -> None:
    """UsageError where a trace stands in the place of a hardware file, or the other way round."""
    first = [f"{path}: is a trace; expected a hardware file (YAML)" for path in hardware if is_zip(path)]
    second = [f"{path}: is a hardware file; expected a trace (.npz)" for path in traces if _is_machine(path)]
    if first or second:
        remedy = "the order is HW TRACE" if first and second else "'archsim list' names what there is"
        raise UsageError([f"{problem}; {remedy}" for problem in (*first, *second)])


def _is_machine(path: Path) -> bool:
    """Whether the file is called as a hardware file is."""
    return examples.find(path).suffix in (".yaml", ".yml") and not is_zip(path)


def is_zip(path: Path) -> bool:
    """Whether the file begins as a trace does."""
    path = examples.find(path)
    with contextlib.suppress(OSError, ValueError):  # whoever loads the file says what is wrong with it
        if path.is_file():
            with path.open("rb") as file:
                return file.read(2) == b"PK"
    return False


def each(paths: Iterable[Path], load: Callable[[Path], Any]) -> list[Any]:
    """``load`` of every path; the problems of all of them are raised together."""
    loaded: list[Any] = []
    problems: list[str] = []
    for path in paths:
        try:
            loaded.append(load(path))
        except ArchsimError as error:
            problems += error.problems
    if problems:
        raise UsageError(problems)
    return loaded
