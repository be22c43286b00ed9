"""How far long work is: a bar on a terminal or in a notebook.

Work tells of itself by ``progress(step, done, total)``: the step that begins, how many are done, how many there are.
"""

from __future__ import annotations

import contextlib
import html
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from archsim.errors import printable

Progress = Callable[[str, int, int], None]


@contextlib.contextmanager
def shown(progress: Progress | None) -> Iterator[Progress | None]:
    """``progress`` itself; where there is none a bar, if somebody sits at a prompt or a notebook, else None."""
    if progress is not None:
        yield progress
        return
    with contextlib.ExitStack() as stack:
        if (notebook := _notebook()) is not None:
            yield stack.enter_context(_html_bar(notebook))
        elif hasattr(sys, "ps1") and sys.stderr.isatty():
            yield stack.enter_context(terminal_bar())
        else:
            yield None


@contextlib.contextmanager
def terminal_bar() -> Iterator[Progress]:
    """A bar on stderr, which vanishes at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    left = (TimeElapsedColumn(), TextColumn("so far,"), TimeRemainingColumn(), TextColumn("left"))
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), *left)
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(step: str, done: int, total: int) -> None:
            bar.update(task, description=printable(step, 60), completed=done, total=total)

        yield show


def _notebook() -> Any:
    """The function that displays in the notebook that runs this, if one does."""
    if "IPython" not in sys.modules:
        return None
    shell = importlib.import_module("IPython").get_ipython()
    running = getattr(shell, "kernel", None) is not None
    return importlib.import_module("IPython.display").display if running else None


@contextlib.contextmanager
def _html_bar(display: Callable[..., Any]) -> Iterator[Progress]:
    """A bar in the output of a notebook's cell, empty at the end."""
    handle = display({"text/html": _bar("reading", 0, 0)}, raw=True, display_id=True)

    def show(step: str, done: int, total: int) -> None:
        handle.update({"text/html": _bar(step, done, total)}, raw=True)

    try:
        yield show
    finally:
        handle.update({"text/html": ""}, raw=True)


def _bar(step: str, done: int, total: int) -> str:
    value = f' value="{done}" max="{total}"' if total else ""
    count = f" {done}/{total}" if total else ""
    return f"<progress{value}></progress> {html.escape(printable(step, 60))}{count}"
