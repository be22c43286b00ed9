"""Wall time and processor time of a call, and of a command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

Row = dict[str, Any]
SPENT = Path(__file__).resolve().parents[1] / "networks" / "spent.py"
"""A small process that starts the command: what is forked from a large one is as large at first."""


class Spent(NamedTuple):
    """Seconds, and the most memory of a process where that is known."""

    wall_s: float
    processor_s: float
    memory_mib: int | None = None


def call(work: Callable[[], object], times: int = 3) -> Spent:
    """The least of several calls, behind one that compiles."""
    work()
    found = []
    for _ in range(times):
        started, used = perf_counter(), process_time()
        work()
        found.append((perf_counter() - started, process_time() - used))
    return Spent(*map(min, zip(*found, strict=True)))


def archsim(arguments: Sequence[str | Path], folder: Path, cache: Path | None = None) -> Spent:
    """A command of archsim in ``folder``, with kernels from ``cache``; CalledProcessError if it fails.

    Python keeps its bytecode, as where archsim is installed: to compile archsim's own files takes 0.2 s.
    """
    told = folder / "spent.json"
    command = [sys.executable, SPENT, told, sys.executable, "-m", "archsim", *arguments]
    environment = {**os.environ, **({"NUMBA_CACHE_DIR": str(cache)} if cache else {})}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started = perf_counter()
    subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wall_s, spent = perf_counter() - started, json.loads(told.read_text())
    return Spent(wall_s, spent["processor_s"], round(spent["peak_mb"] * 1e6 / 2**20))
