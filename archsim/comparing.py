"""Several machines on the same trace, in parallel, and what they found side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archsim import arguments, examples, simulate
from archsim.errors import ArchsimError, UsageError, printable
from archsim.report.comparison import Comparison
from archsim.report.progress import shown

if TYPE_CHECKING:
    from archsim.dataflow.base import EngineName, Progress


def compare(
    hardware: Sequence[str | Path],
    trace: str | Path,
    *,
    overrides: Sequence[str] = (),
    engine: EngineName = "compiled",
    layers: Sequence[str] | None = None,
    verify: bool = True,
    progress: Progress | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    **settings: object,
) -> Comparison:
    """Simulate the trace ``trace`` on each machine of ``hardware``; the first is what the others are compared with.

    What ``archsim compare`` does: the arguments are those of :func:`archsim.run`, settings by keyword among them, for
    all machines alike. Raises
    ConfigError, TraceError or UsageError for what is wrong with the input, the problems of all machines at once.

    A script that calls this needs the usual ``if __name__ == "__main__":``, as whatever starts processes does.
    """
    from archsim.trace import load_trace

    arguments.check(
        hardware=(hardware, arguments.PATHS),
        trace=(trace, arguments.PATH),
        overrides=(overrides, arguments.TEXTS),
        engine=(engine, simulate.ENGINE),
        layers=(layers, arguments.optional(arguments.TEXTS)),
        verify=(verify, arguments.FLAG),
        progress=(progress, arguments.optional(arguments.FUNCTION)),
        jobs=(jobs, arguments.optional(arguments.COUNT)),
        cluster=(cluster, arguments.optional(arguments.TEXT)),
    )
    overrides = simulate.all_overrides(overrides, settings)
    machines = [hardware] if isinstance(hardware, str | os.PathLike) else list(hardware)
    with shown(progress) as show:
        names = machine_names(machines)
        loaded = load_trace(trace)
        problems: list[str] = []
        for machine in machines:
            try:
                simulate.accelerator_for(machine, trace, loaded, overrides, whole=layers is None)
            except ArchsimError as error:
                problems += error.problems
        if problems:
            raise UsageError(problems)
        if show:
            compiling = engine == "compiled" and any(map(simulate.compiles_first, machines))
            show(simulate.COMPILING if compiling else "simulating", 0, len(machines))
        reports = {}
        cores = jobs or os.cpu_count() or 1
        options = {"overrides": overrides, "engine": engine, "layers": layers, "verify": verify, "cluster": cluster}
        runs = simulate.run_each(machines, trace, cores, **options)
        for name, report in zip(names, runs, strict=True):
            reports[name] = report
            if show:
                show(name, len(reports), len(names))
    return Comparison(reports)


def machine_names(hardware: Iterable[str | Path]) -> list[str]:
    """What to call each machine of a comparison: the stem of its file, or its path where stems are equal.

    UsageError if one is given twice, or none at all.
    """
    paths = [Path(path) for path in hardware]
    stems = [path.stem for path in paths]
    names = [
        printable(stem if stems.count(stem) == 1 else str(path), 10_000)
        for stem, path in zip(stems, paths, strict=True)
    ]
    files = [_real(examples.find(path)) for path in paths]
    twice = [name for name, file in zip(names, files, strict=True) if files.count(file) > 1]
    if twice:
        raise UsageError(f"compare: '{twice[-1]}' is given twice")
    if not names:
        raise UsageError("compare: no machine is given")
    return names


def _real(path: Path) -> str:
    """Where ``path`` leads to; whoever loads a file says why there is none."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a NUL character
        return str(path)
