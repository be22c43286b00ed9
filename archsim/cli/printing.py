"""What verbs print: tables on stdout; notes, warnings and progress on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from archsim.cli.options import Engine
from archsim.errors import printable

if TYPE_CHECKING:
    from archsim.report.report import Report


def print_table(columns: Sequence[str], rows: Iterable[Iterable[object]], repeat: int = 1) -> None:
    """A table on stdout: for people on a terminal, tab-separated with full precision otherwise."""
    if sys.stdout.isatty():
        from archsim.report.terminal import print_table

        print_table(columns, ([one_line(c) if isinstance(c, str) else c for c in cells] for cells in rows), repeat)
        return
    for cells in (columns, *rows):
        typer.echo("\t".join("" if cell is None else one_line(str(cell)) for cell in cells))


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None] | None]:
    """A progress bar on stderr, or None when stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    left = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), *left)
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(step: str, done: int, total: int) -> None:
            bar.update(task, description=printable(step, 60), completed=done, total=total)

        yield show


def note(message: str) -> None:
    """Something worth knowing about what was done. Where nobody can be told, the work goes on."""
    with contextlib.suppress(OSError):
        typer.echo(one_line(message), err=True)


def warn(message: str) -> None:
    """Something that the user should know before believing the numbers."""
    note(f"archsim: warning: {message}")


def one_line(text: object) -> str:
    """``text`` with control characters, such as line breaks in a file name, written out, and not without end."""
    return printable(text, 10_000)


def say_if_compiling(engine: Engine, hardware: Sequence[Path]) -> None:
    """Announce what takes so long where kernels are not in the cache."""
    from archsim import simulate

    if engine is Engine.compiled and any(simulate.compiles_first(path) for path in hardware):
        note("compiling kernels (first run only)")


def print_verdict(report: Report, prefix: str = "") -> list[str]:
    """The verdict on a run; returns what is wrong with the trace."""
    from archsim.report.verdict import verdict

    state, text = verdict(report)
    if state == "bad":
        return [f"{prefix}{text}"]
    told = "".join(f"; {name} {value}" for name, value in report.findings.items() if name != "exact")
    note(f"{prefix}{text}{told}")
    return []
