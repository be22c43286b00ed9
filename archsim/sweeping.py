"""Many runs, one row each: every combination of machine settings on every trace.

A sweep's *points* are numbered in the order in which nested loops would visit them: traces outermost, then the axes as
they are given, the last one innermost. The CSV has one row per point. While the sweep runs, rows are appended as points
finish; when all have, the file is put in the order of the points, so that it does not depend on the number of
processes. A row is complete when its line is: a sweep that was killed goes on where it stopped.

A point that cannot run (a setting that the machine refuses, a trace that does not fit it) is a row with its ``error``.
All rows are of the same files: their hashes are taken once, and a sweep ends with an error as soon as a point meets
another hardware file, trace or cost table.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import inspect
import itertools
import math
import os
import random
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from archsim import arguments, examples, processes
from archsim import cluster as on_cluster
from archsim._version import __version__
from archsim.errors import ArchsimError, ConfigError, UsageError, nearest, printable
from archsim.report import files, tables
from archsim.report.comparison import MEASURES, NUMBERS, measures
from archsim.simulate import ENGINE, file_sha256, machine_sha256, yaml_text

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("point", "hardware", "trace")
IDENTITY = ("chosen_layers", "verify", "hardware_sha256", "trace_sha256", "cost_table_sha256", "archsim_version")
"""What a row of an earlier sweep must have in common with this one to be kept."""
LARGER_IS_BETTER = ("coverage", "images_per_s", "tops", "tops_per_w", "accuracy", "exact_accuracy")
ALWAYS = ("cycles", "latency_s", "energy_pj", "area_mm2")
"""What every point that ran has."""
UNRANKED = ("layers", "images", "synaptic_operations", "estimate_pj")
"""Numbers that are the trace's, and not better or worse."""
VERIFIED = ("mismatches", "accuracy", "exact_accuracy")
"""What runs with verification find alone."""
NEEDED = "it takes analog arrays, and a trace with an evaluation set or with labels of its images"
MAX_POINTS = 1_000_000
MOST_POINTS = 10
"""Points that a message lists."""
MOST_OF_AN_ERROR = 1_000
"""Characters of an error that a row holds."""
NO_MEMORY, LOST_WORKER = "not enough memory", "its worker died"
PASSING = (processes.LOST, NO_MEMORY, LOST_WORKER)
"""How errors begin that say nothing of the point: it is run again when the sweep goes on."""


class Axis(NamedTuple):
    """One setting and the values that it takes, as text: ``pe.count`` and ``("8", "16")``."""

    path: str
    values: tuple[str, ...]


class Point(NamedTuple):
    """One run: its number, the files, and the settings by path."""

    number: int
    hardware: Path
    trace: Path
    settings: dict[str, str]


@dataclass(frozen=True)
class Sweep:
    """What is to be run. ``combine``: all combinations (grid), equal places of all axes (zip).

    ``sample``: that many points of the grid, drawn with ``seed``; None for all. ``engine``, ``layers`` and ``verify``
    are those of :func:`archsim.run`. ``hashes`` are those of the files that points read; a point that meets another
    file does not run.
    """

    hardware: Path
    traces: tuple[Path, ...]
    axes: tuple[Axis, ...]
    combine: Literal["grid", "zip"] = "grid"
    sample: int | None = None
    seed: int = 0
    engine: Literal["compiled", "reference"] = "compiled"
    layers: tuple[str, ...] | None = None
    verify: bool = True
    hashes: Mapping[Path, str] = field(default_factory=dict)

    def points(self) -> list[Point]:
        """All points in order. UsageError for what no point could run."""
        self._check()
        lengths = [len(axis.values) for axis in self.axes]
        total = len(self.traces) * (lengths[0] if self.combine == "zip" and lengths else math.prod(lengths))
        if self.sample is None and total > MAX_POINTS:
            raise UsageError(f"sweep: {total} points, at most {MAX_POINTS} are possible; --random N draws N of them")
        numbers = range(total)
        if self.sample is not None and self.sample < total:
            chosen = sorted(random.Random(self.seed).sample(numbers, self.sample))
        else:
            chosen = list(numbers)
        return [self._point(number) for number in chosen]

    def _point(self, number: int) -> Point:
        rest, settings = number, {}
        if self.combine == "zip":
            rest, place = divmod(number, len(self.axes[0].values)) if self.axes else (number, 0)
            settings = {axis.path: axis.values[place] for axis in self.axes}
        else:
            for axis in reversed(self.axes):
                rest, place = divmod(rest, len(axis.values))
                settings[axis.path] = axis.values[place]
        ordered = {axis.path: settings[axis.path] for axis in self.axes}
        return Point(number, self.hardware, self.traces[rest], ordered)

    def _check(self) -> None:
        from archsim.hardware.loading import field_rows
        from archsim.simulate import load_accelerator
        from archsim.trace.presets import how_to_make

        problems = []
        known = [row.path for row in field_rows(load_accelerator(self.hardware).config)]
        for axis in self.axes:
            if not any(f"{path}.".startswith(f"{axis.path}.") for path in known):
                problems.append(f"--set {axis.path}: {self.hardware} has no such path{nearest(axis.path, known)}")
        paths = [axis.path for axis in self.axes]
        problems += [f"--set {path}: is what a sweep measures, not a setting" for path in paths if path in MEASURES]
        problems += [f"--set {path}: is given twice" for path in dict.fromkeys(paths) if paths.count(path) > 1]
        lengths = {axis.path: len(axis.values) for axis in self.axes}
        if self.combine == "zip" and len(set(lengths.values())) > 1:
            given = ", ".join(f"{path} has {length}" for path, length in lengths.items())
            problems.append(f"--zip: all settings need equally many values; {given}")
        if self.sample is not None and self.sample < 1:
            problems.append(f"--random: must be at least 1, got {self.sample}")
        if not self.traces:
            problems.append("sweep: no trace is given")
        missing = [path for path in dict.fromkeys(self.traces) if not examples.find(path).is_file()]
        problems += [f"{path}: no such trace file{how_to_make(path)}" for path in missing]
        if problems:
            raise UsageError(problems)


def sweep(
    hardware: str | Path,
    traces: str | Path | Sequence[str | Path],
    *,
    combine: Literal["grid", "zip"] = "grid",
    sample: int | None = None,
    seed: int = 0,
    pareto: Sequence[str] = (),
    jobs: int | None = None,
    cluster: str | None = None,
    path: str | Path | None = None,
    engine: Literal["compiled", "reference"] = "compiled",
    layers: Sequence[str] | None = None,
    verify: bool = True,
    **settings: Sequence[object],
) -> pd.DataFrame:
    """Simulate every combination of ``settings`` on every trace, in parallel; one row per point, in the points' order.

    What ``archsim sweep`` does: ``settings`` are paths with two underscores for a dot and the values that each takes,
    ``pe__count=[8, 16]``; ``combine`` "zip" pairs them instead, ``sample`` draws that many points. ``pareto`` names
    columns to minimise and adds one that says which points no other of their trace beats. ``jobs`` processes (None:
    one per core) or the workers of the Dask scheduler ``cluster``. A point that cannot run is a row with its ``error``.
    With a ``path`` the rows are in that CSV too, and a sweep that was stopped goes on there; it warns of rows that are
    damaged. Raises UsageError, ConfigError or TraceError for what no point could run, and when a file is changed while
    the sweep runs.

    A script that calls this needs the usual ``if __name__ == "__main__":``, as whatever starts processes does.
    """
    import pandas as pd

    problems = arguments.problems(
        hardware=(hardware, arguments.PATH),
        traces=(traces, arguments.PATHS),
        combine=(combine, arguments.one_of("grid", "zip")),
        sample=(sample, arguments.optional(arguments.WHOLE)),
        seed=(seed, arguments.WHOLE),
        pareto=(pareto, arguments.TEXTS),
        jobs=(jobs, arguments.optional(arguments.COUNT)),
        cluster=(cluster, arguments.optional(arguments.TEXT)),
        path=(path, arguments.optional(arguments.PATH)),
        engine=(engine, ENGINE),
        layers=(layers, arguments.optional(arguments.TEXTS)),
        verify=(verify, arguments.FLAG),
    )
    for name, values in settings.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            hint = nearest(name, inspect.signature(sweep).parameters)
            problems.append(f"{name}: must be a list of values, got {printable(repr(values))}{hint}")
    if problems:
        raise UsageError(problems)
    given = [traces] if isinstance(traces, str | os.PathLike) else traces
    axes = []
    for name, values in settings.items():
        axes.append(axis(f"{name.replace('__', '.')}={','.join(map(_setting_text, values))}"))
    plan = Sweep(
        Path(hardware), tuple(Path(trace) for trace in given), tuple(axes), combine, sample, seed, engine,
        None if layers is None else tuple(layers), verify,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "sweep.csv"
        damaged: list[str] = []
        for _ in run(
            plan, Path(path), jobs=jobs or os.cpu_count() or 1, cluster=cluster, pareto=pareto, tell=damaged.append
        ):
            pass
        for line in damaged:
            warnings.warn(line, stacklevel=2)
        frame = pd.DataFrame(read(Path(path)), columns=list(columns(plan, pareto)))
    for one in axes:
        with contextlib.suppress(ValueError):  # words stay words
            frame[one.path] = pd.to_numeric(frame[one.path])
    if pareto:
        frame["pareto"] = frame["pareto"].map({"true": True, "false": False})
    return frame.convert_dtypes()


def _setting_text(value: object) -> str:
    """A value as it would stand on the command line: a word without quotes, where that is the same in YAML."""
    plain = isinstance(value, str) and value.isidentifier() and value.lower() not in ("true", "false", "null")
    return str(value) if plain else yaml_text(value)


def axis(text: str) -> Axis:
    """``"pe.count=8,16"`` as an Axis. Commas inside brackets, braces or quotes belong to a value. UsageError."""
    path, equals, values = text.partition("=")
    path = ".".join(part.strip() for part in path.split("."))
    if not equals or not all(path.split(".")):
        raise UsageError(f"--set {text}: must be PATH=VALUE,VALUE,..., such as pe.count=8,16")
    found, depth, quote = [""], 0, ""
    for character in values:
        if quote or character in "\"'":
            quote = "" if character == quote else quote or character
        else:
            depth += (character in "[{") - (character in "]}")
        if character == "," and not depth and not quote:
            found.append("")
        else:
            found[-1] += character
    stripped = tuple(value.strip() for value in found)
    if not all(stripped):
        raise UsageError(f"--set {text}: an empty value; give VALUE,VALUE,... without a comma too many")
    twice = [value for value in stripped if stripped.count(value) > 1]
    if twice:
        raise UsageError(f"--set {text}: {twice[0]} is given twice")
    return Axis(path, stripped)


def columns(sweep: Sweep, pareto: Sequence[str] = ()) -> tuple[str, ...]:
    """Columns of the CSV."""
    settings = (axis.path for axis in sweep.axes)
    return (*KEYS, *settings, *MEASURES, *(("pareto",) if pareto else ()), "error", *IDENTITY)


def run(
    sweep: Sweep,
    path: Path,
    *,
    jobs: int,
    cluster: str | None = None,
    pareto: Sequence[str] = (),
    tell: Callable[[str], None],
) -> Iterator[tuple[int, int]]:
    """Run all points whose rows are not in the CSV at ``path`` yet; yields rows done and rows in all, then ends.

    ``jobs`` processes on this machine, or the workers of the Dask scheduler at the address ``cluster``. ``pareto``:
    columns of NUMBERS to minimise, or to maximise if they are of LARGER_IS_BETTER; a last column says which points are
    not beaten in all of them by another point of the same trace. ``tell`` is called with a line for each damaged row
    of ``path``, whose point runs again. UsageError if ``path`` holds something else than rows of this sweep, for a
    measure of ``pareto`` that no point can have, and when a file that points read is changed meanwhile.
    """
    _check_measures(sweep, pareto)
    hashes = {sweep.hardware: machine_sha256(sweep.hardware)}
    hashes |= {file: file_sha256(examples.find(file)) for file in sweep.traces}
    points = sweep.points()
    prices = _price_files(points)
    sweep = replace(sweep, hashes=hashes | {file: file_sha256(file) for file in prices.values() if file is not None})
    names = columns(sweep, pareto)
    with _journal(path, names) as journal:
        named = functools.partial(_row, sweep, prices)
        rows = _kept_rows(path, journal.lines, names, {point.number: point for point in points}, named, tell)
        journal.begin()
        waiting = [point for point in points if point.number not in rows]
        yield len(rows), len(points)
        with contextlib.closing(_results(sweep, waiting, jobs, cluster)) as results:
            for point, measured in results:
                rows[point.number] = row = named(point) | measured
                journal.add(row)
                yield len(rows), len(points)
        ordered = [rows[point.number] for point in points]
        if pareto:
            _mark_front(ordered, pareto)
        with files.result_file(path, files.SWEEP_START) as complete:
            complete.write_text(files.csv_text(ordered, names), encoding="utf-8", newline="\n")


def _check_measures(sweep: Sweep, measures: Sequence[str]) -> None:
    """UsageError for a measure of the front that is unknown, or that no point of a trace can have."""
    able = sorted((name for name in NUMBERS if name not in UNRANKED), key=lambda name: name not in ALWAYS)
    unknown = [name for name in measures if name not in able]
    if unknown:
        hint = nearest(unknown[0], able)
        raise UsageError(f"--pareto: unknown column, got '{unknown[0]}'; allowed: {', '.join(able)}{hint}")
    told = [name for name in VERIFIED if name in measures]
    if not told:
        return
    there = f"allowed: {', '.join(name for name in able if name not in VERIFIED)}"
    if not sweep.verify:
        raise UsageError(f"--pareto {told[0]}: is found by verifying only, got --no-verify; {there}")
    accuracies = [name for name in told if name.endswith("accuracy")]
    if accuracies:
        from archsim.simulate import finds_accuracy

        without = [path for path in dict.fromkeys(sweep.traces) if not finds_accuracy(sweep.hardware, path)]
        if without:
            raise UsageError(
                [
                    f"--pareto {accuracies[0]}: {sweep.hardware} finds none of {path}; {NEEDED}; {there}"
                    for path in without
                ]
            )


def not_on_the_front(rows: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> list[str]:
    """What to tell of points of ``rows`` that ran and lack one of ``measures``."""
    found = []
    for name in measures:
        without = [str(row["point"]) for row in rows if not row["error"] and row[name] is None]
        if without:
            listed = ", ".join([*without[:MOST_POINTS], *(["..."] if len(without) > MOST_POINTS else [])])
            found.append(f"--pareto {name}: {len(without)} points found none and are not on the front: {listed}")
    return found


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a finished sweep, numbers as numbers. UsageError if the file is none, or damaged."""
    return [row.cells for row in tables.read(path, KEYS, (*NUMBERS, "verified", "error"), "the table of a sweep")]


def run_point(sweep: Sweep, point: Point) -> dict[str, Any]:
    """One row's measures, or its error. Runs in a process of its own, here or on a cluster.

    UsageError if a file is not the one that the sweep began with, before the run or behind it: nobody knows then which
    of them was run.
    """
    from archsim import simulate

    _check_hashes(sweep, point)
    try:
        report = simulate.run(
            point.hardware, point.trace, overrides=[f"{path}={value}" for path, value in point.settings.items()],
            engine=sweep.engine, layers=sweep.layers, verify=sweep.verify, jobs=1,
        )  # fmt: skip
        measured = measures(report)
    except ArchsimError as error:
        measured = {"error": printable("; ".join(error.lines()), MOST_OF_AN_ERROR)}
    except MemoryError as error:
        measured = {"error": printable(f"{NO_MEMORY}: {str(error) or 'no reason given'}", MOST_OF_AN_ERROR)}
    _check_hashes(sweep, point)
    return measured


# ------------------------------------------------------------------------------------------------------------ the files


def _check_hashes(sweep: Sweep, point: Point) -> None:
    """UsageError if a file that ``point`` reads is not the one that the sweep began with."""
    read = {file: known for file, known in sweep.hashes.items() if file == point.trace or file not in sweep.traces}
    now = {file: machine_sha256(file) if file == sweep.hardware else file_sha256(examples.find(file)) for file in read}
    changed = [file for file, known in read.items() if now[file] != known]
    if changed:
        raise UsageError(
            [
                f"{file}: is not the file with which this sweep began; rows that are done are of the earlier one: "
                "put it back to go on, or begin another sweep with another -o"
                for file in changed
            ]
        )


def _price_files(points: Sequence[Point]) -> dict[tuple[str, ...], Path | None]:
    """The file of the cost table that points with such settings of it use; None where no machine can be made."""
    found: dict[tuple[str, ...], Path | None] = {}
    for point in points:
        settings = _price_settings(point)
        if settings not in found:
            found[settings] = _price_file(point.hardware, settings)
    return found


def _price_settings(point: Point) -> tuple[str, ...]:
    """Overrides of ``point`` that say which cost table is used."""
    return tuple(f"{path}={value}" for path, value in point.settings.items() if path.partition(".")[0] == "cost")


def _price_file(hardware: Path, overrides: Sequence[str]) -> Path | None:
    from archsim.cost import table_file
    from archsim.simulate import load_accelerator

    try:
        return table_file(load_accelerator(hardware, overrides).cost_table)
    except ConfigError:
        return None


class _Journal:
    """The CSV of a sweep while it runs: the whole lines that were there, and rows that are added as points finish."""

    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        self._file, self._names = file, names
        file.seek(0)
        content = file.read()
        *lines, torn = content.split(b"\n")  # the last line of a sweep that was killed may be torn
        self.lines, self._torn = lines, len(torn)
        self._header = files.csv_text((), names).encode()
        self._added = False
        self.foreign = not lines and not self._header.startswith(torn)

    def begin(self) -> None:
        """Make room behind the whole lines, and write the first one if there is none."""
        self._file.truncate(self._file.seek(0, os.SEEK_END) - self._torn)
        if not self.lines:
            self._write(self._header)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add ``row``; it is on the disk when this returns."""
        self._write(files.csv_text([row], self._names).partition("\n")[2].encode())
        os.fsync(self._file.fileno())
        self._added = True

    def says_nothing(self) -> bool:
        """Whether no row was there and none was added."""
        return not self._added and (not self.lines or self.lines == self._header.splitlines())

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()


@contextlib.contextmanager
def _journal(path: Path, names: Sequence[str]) -> Iterator[_Journal]:
    """The CSV at ``path``; nobody else may write it meanwhile. UsageError if it is somebody else's."""
    with files.open_to_append(path, files.SWEEP_START) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{path}: another sweep is writing this file; wait for it or choose another -o") from error
        journal = _Journal(file, names)
        if journal.foreign:
            raise UsageError(f"{path}: is a file that archsim did not write; choose another file or move it away")
        try:
            yield journal
        except BaseException:
            if journal.says_nothing():
                path.unlink()
            raise


def _kept_rows(
    path: Path,
    lines: Sequence[bytes],
    names: Sequence[str],
    points: Mapping[int, Point],
    named: Callable[[Point], Mapping[str, Any]],
    tell: Callable[[str], None],
) -> dict[int, dict[str, Any]]:
    """Rows of an earlier, unfinished or finished, run of the same sweep, by number; UsageError if it was another.

    Not among them are damaged rows, of which ``tell`` is told, and points that may run another time. ``named`` says
    what a row of a point must have.
    """
    rows: dict[int, dict[str, Any]] = {}
    if not lines:
        return rows
    advice = "choose another file with -o, or remove this one to start anew"
    there = tables.Table(lines, str(path), ()).columns
    if there != tuple(names):
        differing = sorted(set(there) ^ set(names)) or ["their order"]
        raise UsageError(f"{path}: holds another sweep, its columns differ in {', '.join(differing)}; {advice}")
    damaged: list[str] = []
    contradicting = set()
    for line, cells, problems in tables.Table(lines, str(path), KEYS, NUMBERS):
        where = f"{path}:{line}"
        if found := problems or _contradictions(where, cells):
            damaged += found
            continue
        number = cells["point"]
        if number not in points:
            raise UsageError(f"{where}: is no row of this sweep, has point {number}; {advice}")
        for name, value in named(points[number]).items():
            was = "" if cells[name] is None else str(cells[name])
            wanted = files.unguarded(files.as_cell(str(value)))
            if was != wanted:
                raise UsageError(f"{where}: {name} was '{was}', now '{wanted}'; {advice}")
        if (cells["error"] or "").startswith(PASSING):
            continue
        if "pareto" in cells:
            cells["pareto"] = None  # it depends on all rows
        if rows.setdefault(number, cells) != cells:
            damaged.append(f"{where}: point {number} is there twice with other numbers")
            contradicting.add(number)
    for number in contradicting:
        del rows[number]
    for problem in damaged:
        tell(f"{problem}; what it says of a point is found out again")
    return rows


def _contradictions(where: str, cells: Mapping[str, Any]) -> list[str]:
    """What cannot be in a row: measures and an error, or neither."""
    without = [name for name in ALWAYS if cells[name] is None]
    if cells["error"] is None and without:
        return [f"{where}: {without[0]}: is empty, and there is no error"]
    if cells["error"] is not None and len(without) < len(ALWAYS):
        return [f"{where}: error: has an error, and measures"]
    return []


def _row(sweep: Sweep, prices: Mapping[tuple[str, ...], Path | None], point: Point) -> dict[str, Any]:
    """What the row of ``point`` has whatever comes out."""
    table = prices[_price_settings(point)]
    return {
        "point": point.number,
        "hardware": str(point.hardware),
        "trace": str(point.trace),
        **point.settings,
        "chosen_layers": ",".join(sweep.layers or ()),
        "verify": str(sweep.verify).lower(),
        "hardware_sha256": sweep.hashes[point.hardware],
        "trace_sha256": sweep.hashes[point.trace],
        "cost_table_sha256": "" if table is None else sweep.hashes[table],
        "archsim_version": __version__,
    }


def _mark_front(rows: Sequence[dict[str, Any]], measures: Sequence[str]) -> None:
    """``pareto``: no other point of the same trace is at least as good in all ``measures`` and better in one.

    A point that has not all of them is no part of it.
    """
    for _, group in itertools.groupby(rows, key=lambda row: row["trace"]):
        done = [row for row in group if all(row.get(name) not in (None, "") for name in measures)]
        signs = [-1 if name in LARGER_IS_BETTER else 1 for name in measures]
        values = {
            row["point"]: tuple(sign * float(row[name]) for sign, name in zip(signs, measures, strict=True))
            for row in done
        }
        for row in done:
            own = values[row["point"]]
            beaten = any(other != own and all(map(float.__le__, other, own)) for other in values.values())
            row["pareto"] = str(not beaten).lower()


# ------------------------------------------------------------------------------------------------------------ processes


def _results(
    sweep: Sweep, points: Sequence[Point], jobs: int, cluster: str | None
) -> Generator[tuple[Point, dict[str, Any]], None, None]:
    """Points with their measures, as they finish."""
    work = functools.partial(run_point, sweep)
    if cluster is not None:
        for place, found in on_cluster.results(work, points, cluster):
            if isinstance(found, on_cluster.Lost):
                found = {"error": printable(f"{LOST_WORKER}: {found.why}", MOST_OF_AN_ERROR)}
            yield points[place], found
        return
    for place, measured in processes.results(work, points, jobs):
        yield points[place], measured or {"error": processes.LOST}
