"""The one writer of result files: complete or not there at all, and never at the cost of somebody's files.

A crash, a full disk or Ctrl-C never leaves a half-written result, and an earlier result stays until the new one takes
its place (:mod:`archsim.atomic`).
"""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from archsim import atomic
from archsim.errors import UsageError, printable

RESULT_FILES = (
    "summary.json",
    "timing.json",
    "layers.csv",
    "traffic.csv",
    "energy.csv",
    "timesteps.csv",
    "cores.csv",
    "links.csv",
    "area.csv",
    "units.csv",
    "adaptation.csv",
    "corrections.csv",
    "resolved.yaml",
    "timeline.json",
    "report.html",
    "comparison.csv",
)
COMPARISON = "comparison.csv"
"""In a results folder: the table of several machines."""
COMPARISON_START = b"machine,accelerator,workload,"
SWEEP_START = b"point,hardware,trace,"
"""How the tables of comparisons and of sweeps begin, those of other versions too."""
FIGURES = "figures"
RUN_FIGURES = ("latency", "energy", "traffic", "utilization", "utilization_map")
MESH_FIGURES = ("placement", "link_load")
ADAPTATION_FIGURE = "adaptation"
COMPARISON_FIGURE = "comparison"
FIGURE_KINDS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
"""The first bytes of a figure by its suffix."""
FIGURE_MARK = b"made by archsim"
"""What every figure says in its metadata, so that a picture of somebody else is not taken for one."""
MARKED_BYTES = 1 << 14


_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_FORMULA = re.compile("'*[=+\\-@\uff1d\uff0b\uff0d\uff20]")
"""How a text begins that a spreadsheet would compute, or that was marked so that none does; wide characters too."""


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """``rows`` as CSV with a header line; None is an empty cell, floats are written so that they read back equal.

    Every row is one line, whatever its texts say: they are written as :func:`as_cell` writes them.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: as_cell(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows
    )
    return text.getvalue()


def as_cell(text: str) -> str:
    """``text`` as a cell: printable, and with a ``'`` before it where a spreadsheet would take it for a formula."""
    line = printable(text, sys.maxsize)
    return f"'{line}" if _FORMULA.match(line) and not _NUMBER.fullmatch(line) else line


def unguarded(cell: str) -> str:
    """The text that :func:`as_cell` wrote as ``cell``, printable."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def json_text(value: object) -> str:
    """``value`` as indented JSON; raises ValueError for NaN and infinity, which JSON does not have."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


@contextlib.contextmanager
def results_folder(path: str | Path) -> Iterator[Path]:
    """An empty temporary folder that becomes ``path`` when the block ends well and vanishes when it does not.

    An earlier results folder at ``path`` is replaced as a whole. UsageError, before the block is entered, if ``path``
    cannot be written or holds anything that archsim did not write.
    """
    target = _resolved(path)
    _check_replaceable(target, str(path))
    with _replacing(target, str(path)) as partial:
        with _usage_error(f"{path}: cannot be written"):
            partial.mkdir()
        yield partial
        for litter in partial.rglob(".*"):  # of a figure, say, if it could not be removed
            raise UsageError(f"{path}: cannot be written: holds '{litter.name}', which cannot be removed")
        _check_replaceable(target, str(path))


@contextlib.contextmanager
def result_file(path: str | Path, kind: bytes, inputs: Iterable[Path] = (), mark: bytes = b"") -> Iterator[Path]:
    """A temporary path that becomes the file ``path`` when the block ends well; UsageError if it cannot be written.

    An earlier file at ``path`` is replaced only if it is an empty or regular one that begins with ``kind``, as every
    file that is written there does, and has the ``mark`` near its beginning or end, and none of the ``inputs``.
    """
    target = _resolved(path)
    with _usage_error(f"{path}: cannot be written"):
        _check_file(target, str(path), kind, mark)
        if target in map(_resolved, inputs):
            raise UsageError(f"{path}: is read by this command; choose another file with -o")
    with _replacing(target, str(path)) as partial:
        with _usage_error(f"{path}: cannot be written"):
            partial.touch()
        yield partial


@contextlib.contextmanager
def open_to_append(path: Path, kind: bytes) -> Iterator[IO[bytes]]:
    """The file ``path``, made if there is none, to read and to add to; UsageError if that cannot be done.

    An earlier file must be an empty or regular one that begins with ``kind``, or with a part of it.
    """
    with _usage_error(f"{path}: cannot be written"):
        if not path.is_file() or not kind.startswith(path.read_bytes()[: len(kind)]):
            _check_file(_resolved(path), str(path), kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+")
    with _shown_as(str(path), path), file:  # closing it writes what a full disk did not take
        yield file


def earlier(path: str | Path, overrides: Sequence[str] = ()) -> str:
    """What a run with these ``overrides`` in the folder ``path`` takes the place of, as the end of a sentence; empty if
    there is nothing."""
    folder = Path(path)
    summary: Any = None
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if (folder / COMPARISON).is_file():
            return ", in place of an earlier comparison"
        if (folder / "summary.json").is_file():
            summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    if not isinstance(summary, dict):
        return ""
    known = summary.get("overrides")
    changed = " ".join(map(str, known)) if isinstance(known, list) else ""
    told = f"{summary.get('workload', '?')} on {summary.get('accelerator', '?')}{f' with {changed}' if changed else ''}"
    other = "" if changed == " ".join(overrides) else ", which had other settings; -o DIR keeps both"
    return f", in place of {printable(told, 200)}{other}"


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write each text under its file name into ``folder``; what no encoding knows (odd file names) is spelt out."""
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def _resolved(path: str | Path) -> Path:
    """Where ``path`` leads to; UsageError if that is round in circles."""
    with _usage_error(f"{path}: cannot be written"):
        resolved = Path(os.path.realpath(path))
        if resolved.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return resolved


@contextlib.contextmanager
def _replacing(target: Path, shown: str) -> Iterator[Path]:
    """:func:`atomic.replacing`; what fails in doing so is a UsageError that calls the ``target`` what the user did."""
    with contextlib.ExitStack() as stack:
        with _usage_error(f"{shown}: cannot be written"):
            partial = stack.enter_context(atomic.replacing(target))
        with _shown_as(shown, partial):
            yield partial
            with _usage_error(f"{shown}: cannot be written"):
                stack.close()


@contextlib.contextmanager
def _shown_as(shown: str, partial: Path) -> Iterator[None]:
    """Say of what cannot be written what the user called it, not the temporary name."""
    try:
        yield
    except UsageError as error:
        raise UsageError([problem.replace(str(partial), shown) for problem in error.problems]) from error
    except OSError as error:  # a full disk has no file name
        if error.filename is None or str(error.filename).startswith(str(partial)):
            raise UsageError(f"{shown}: cannot be written: {error.strerror or error}") from error
        raise


def _check_file(target: Path, shown: str, kind: bytes, mark: bytes = b"") -> None:
    if target.is_dir():
        raise UsageError(f"{shown}: is a directory; expected the name of a file to write")
    if not target.exists():
        return
    if not target.is_file():
        raise UsageError(f"{shown}: is not a regular file; choose another file with -o")
    with target.open("rb") as file:
        start = file.read(MARKED_BYTES)
        file.seek(max(0, file.seek(0, os.SEEK_END) - MARKED_BYTES))
        end = file.read()
    if start and not (start.startswith(kind) and (mark in start or mark in end)):
        raise UsageError(f"{shown}: is {_what(start)}; choose another file or move it away")


def _what(start: bytes) -> str:
    """What a file is that begins so, and is none of those that may be replaced."""
    for known, name in ((COMPARISON_START, "a comparison"), (SWEEP_START, "the table of a sweep")):
        if start.startswith(known):
            return f"{name}, and no other result takes its place"
    return "a file that archsim did not write"


def _check_replaceable(target: Path, shown: str) -> None:
    """UsageError unless ``target`` is free, empty or a results folder with nothing but archsim's own files."""
    while True:
        looked_at = _identity(target)
        try:
            _check_folder(target, shown)
            return
        except UsageError:
            if _identity(target) == looked_at:
                raise
            # Another run has replaced it meanwhile; what was found belongs to two folders.


def _identity(target: Path) -> tuple[int, int] | None:
    """What tells the folder that stands there now from one that takes its place."""
    try:
        status = target.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _check_folder(target: Path, shown: str) -> None:
    with _usage_error(f"{shown}: cannot be written"):
        if not target.exists():
            return
        if target == Path.cwd():
            raise UsageError(f"{shown}: is the current folder; choose another one with -o")
        if not target.is_dir():
            raise UsageError(f"{shown}: is a file; expected the name of a folder for the results")
        foreign = sorted(entry.name for entry in target.iterdir() if not _is_ours(entry))
        if foreign:
            raise UsageError(
                f"{shown}: holds files that archsim did not write, such as '{foreign[0]}'; "
                "choose another folder with -o or move them away"
            )
        if any(target.iterdir()) and not (_is_summary(target / "summary.json") or _is_comparison(target / COMPARISON)):
            raise UsageError(f"{shown}: is not a results folder of archsim; choose another folder with -o")


def _is_ours(entry: Path) -> bool:
    if entry.name == FIGURES and entry.is_dir() and not entry.is_symlink():
        figures = (*RUN_FIGURES, *MESH_FIGURES, ADAPTATION_FIGURE, COMPARISON_FIGURE)
        ours = {name + suffix for name in figures for suffix in FIGURE_KINDS}
        # What a process that was killed has left of a figure is no reason to refuse the folder for ever.
        return all(
            (figure.name in ours and figure.is_file()) or atomic.is_partial(figure.name) for figure in entry.iterdir()
        )
    return entry.name in RESULT_FILES and entry.is_file()


def _is_comparison(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(COMPARISON_START)) == COMPARISON_START
    except OSError:
        return False


def _is_summary(path: Path) -> bool:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(summary, dict) and "archsim_version" in summary


@contextlib.contextmanager
def _usage_error(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{what}: {reason}") from error
