"""Tables of a paper, ours beside its own: what they need, how their rows come of it, how all of them are written.

A paper has a folder here, whose ``__main__`` names its tables and is a command by :func:`parser` and :func:`write`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from command_line import count
from matplotlib.axes import Axes

from archsim import __version__
from archsim.errors import UsageError, nearest
from archsim.report import drawing, files
from archsim.report.rounding import rounded

Row = dict[str, Any]


class Workload(Protocol):
    """A trace that can be written; equal ones are written once."""

    def path(self, folder: Path) -> Path: ...
    def write(self, folder: Path) -> None: ...


class Job(Protocol):
    """What is done with a workload; equal jobs are performed once."""

    @property
    def workload(self) -> Any: ...
    def perform(self, folder: Path) -> Any: ...


@dataclass(frozen=True)
class Table:
    """``rows`` makes the rows from the results of ``jobs``, by the same keys; ``draw`` a figure from the rows."""

    name: str
    title: str
    columns: Mapping[str, str]
    jobs: Mapping[Any, Job]
    rows: Callable[[Mapping[Any, Any]], list[Row]]
    notes: Sequence[str] = ()
    draw: Callable[[Any, list[Row]], None] | None = None
    size: tuple[float, float] = (7.0, 2.6)

    def fill(self, results: Mapping[Job, Any]) -> list[Row]:
        return self.rows({key: results[job] for key, job in self.jobs.items()})

    def markdown(self, rows: Sequence[Row]) -> str:
        lines = [f"## {self.title}", "", f"`{self.name}.csv`", ""]
        lines.append(f"| {' | '.join(self.columns.values())} |")
        lines.append(f"| {' | '.join('---' for _ in self.columns)} |")
        lines += [f"| {' | '.join(shown(row.get(column)) for column in self.columns)} |" for row in rows]
        if self.draw:
            lines += ["", f"![{self.title}]({self.name}.png)"]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])


def deviation(ours: float | None, paper: float | None) -> float | None:
    """(ours - paper) / \\|paper\\| in percent."""
    return None if ours is None or paper is None else round(100 * (ours - paper) / abs(paper), 6) + 0.0  # no -0.0


def shown(value: Any) -> str:
    """A cell for readers: three significant digits, thousands set apart, nothing where there is nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return rounded(value)
    return str(value)


def perform(jobs: Iterable[Job], processes: int) -> dict[Job, Any]:
    """The result of every job; equal jobs are performed once. A progress bar on a terminal, silent in a pipe."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    wanted = list(dict.fromkeys(jobs))
    workloads = list(dict.fromkeys(job.workload for job in wanted))
    columns = (TextColumn("{task.description:<15}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(max(1, min(processes, len(wanted))), multiprocessing.get_context("spawn")) as pool,
        Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress,
    ):
        folder = Path(name)

        def each(text: str, tasks: Mapping[Any, Callable[[Path], Any]]) -> dict[Any, Any]:
            bar = progress.add_task(text, total=len(tasks))
            futures = {pool.submit(task, folder): key for key, task in tasks.items()}
            results = {}
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                progress.advance(bar)
            return results

        try:
            each("writing traces", {workload: workload.write for workload in workloads})
            return each("simulating", {job: job.perform for job in wanted})
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parser(name: str, documentation: str | None, tables: Iterable[str] = ()) -> argparse.ArgumentParser:
    """What every paper's command takes: where results go, which of its ``tables`` if they can be chosen, how many
    processes."""
    made = argparse.ArgumentParser(
        prog=name, description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    made.add_argument(
        *("-o", "--output"), type=Path, metavar="DIR", default=Path("results") / name,
        help="folder for the results (default: %(default)s)",
    )  # fmt: skip
    if tables:
        made.add_argument(
            "--only", nargs="+", metavar="NAME", default=list(tables), help=f"these tables, of {', '.join(tables)}"
        )
    made.add_argument(
        "--jobs", type=count, metavar="N", default=cores(), help="processes (default: one per core, %(default)s)"
    )
    return made


def write(
    tables: Mapping[str, Callable[[], Table]], names: Iterable[str], heading: str, output: Path, processes: int
) -> dict[str, list[Row]]:
    """Fill the tables called ``names`` and write them to ``output``: a CSV and a figure each, and ``tables.md``.

    Returns the rows of each. UsageError names what is no table.
    """
    unknown = [name for name in names if name not in tables]
    if unknown:
        raise UsageError(
            [f"--only: no table {name!r}; allowed: {', '.join(tables)}{nearest(name, tables)}" for name in unknown]
        )
    output.mkdir(parents=True, exist_ok=True)
    started = perf_counter()
    chosen = {name: tables[name]() for name in dict.fromkeys(names)}
    results = perform([job for table in chosen.values() for job in table.jobs.values()], processes)
    filled = write_filled([(table, table.fill(results)) for table in chosen.values()], heading, output)
    seconds = perf_counter() - started
    print(f"{_several(chosen, 'table')} from {_several(results, 'run')} in {seconds:.0f} s: {output}", file=sys.stderr)
    return filled


def write_filled(found: Sequence[tuple[Table, list[Row]]], heading: str, output: Path) -> dict[str, list[Row]]:
    """Write tables with their rows to ``output``: a CSV and a figure each, and ``tables.md``. Returns the rows by
    name."""
    for table, rows in found:
        files.write_texts(output, {f"{table.name}.csv": files.csv_text(rows, list(table.columns))})
        if table.draw:
            drawing.save(output / table.name, lambda axes, t=table, r=rows: t.draw(axes, r), table.size)
    sections = [table.markdown(rows) for table, rows in found]
    files.write_texts(output, {"tables.md": "\n".join([f"# {heading} and archsim {__version__}", "", *sections])})
    return {table.name: rows for table, rows in found}


def write_said(
    names: Iterable[str], text: Callable[[str, Mapping[str, Any]], str], filled: Mapping[str, Any], output: Path
) -> None:
    """Write ``sentences.md``: what ``text`` says of the tables ``filled``, a point for each of ``names``."""
    said = "\n".join(f"- {text(name, filled)}" for name in names)
    files.write_texts(output, {"sentences.md": said + "\n"})


def name_groups(axes: Axes, names: Sequence[str]) -> None:
    """Names of groups on several lines. Figures write line breaks out, because names of users may be anything; these
    are ours."""
    axes.set_xticks(range(len(names)), names, rotation=0, ha="center")


def published_line(axes: Axes, group: int, bars: Sequence[int], members: int, value: float, label: str = "_") -> None:
    """A line at a published ``value`` across these ``bars`` of a group of ``members``; a figure's first has a label."""
    width = 0.8 / members
    ends = [group - 0.43 + bars[0] * width, group - 0.37 + (bars[-1] + 1) * width]
    axes.plot(ends, [value, value], color="white", linewidth=2.6, solid_capstyle="butt")
    axes.plot(ends, [value, value], color="black", linewidth=1.6, solid_capstyle="butt", label=label)


def _several(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
