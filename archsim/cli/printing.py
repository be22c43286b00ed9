"""What verbs print: tables on stdout; notes, warnings and progress on stderr."""

from __future__ import annotations

import contextlib
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import typer

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
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr; where that is no terminal, a line if kernels are compiled, and nothing more."""
    from archsim.report.progress import terminal_bar
    from archsim.simulate import COMPILING

    if sys.stderr.isatty():
        with terminal_bar() as show:
            yield show
        return

    def tell(step: str, done: int, total: int) -> None:
        if step == COMPILING:
            note(COMPILING)

    yield tell


def note(message: str) -> None:
    """Something worth knowing about what was done, a line in a pipe. Where nobody can be told, the work goes on."""
    line = one_line(message)
    with contextlib.suppress(OSError):
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns
            line = textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        typer.echo(line, err=True)


def warn(message: str) -> None:
    """Something that the user should know before believing the numbers."""
    note(f"archsim: warning: {message}")


def one_line(text: object) -> str:
    """``text`` with control characters, such as line breaks in a file name, written out, and not without end."""
    return printable(text, 10_000)


def print_verdicts(reports: Mapping[str, Report]) -> list[str]:
    """The verdicts on runs, each once with the names of its runs; returns what is wrong with the trace."""
    from archsim.report.verdict import verdict

    whose: dict[tuple[str, str], list[str]] = {}
    for name, report in reports.items():
        whose.setdefault(verdict(report), []).append(name)
    wrong = []
    for (state, text), names in whose.items():
        line = f"{', '.join(names)}: {text}" if len(reports) > 1 else text
        if state == "bad":
            wrong.append(line)
        else:
            note(line)
    return wrong
