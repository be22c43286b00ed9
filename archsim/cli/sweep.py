"""``archsim sweep``: many settings of a machine on several traces."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from archsim import examples
from archsim.cli.completion import files_and
from archsim.cli.completion import settings as settings_of
from archsim.cli.options import Cluster, Engine, Engines, Hardware, Layers, Verify, names_in, refuse_swapped
from archsim.cli.printing import note, print_table, progress_bar, warn
from archsim.errors import UsageError

MOST_LINES = 10
"""Failed points of a sweep that are printed; all are in its file."""


def sweep(
    hardware: Hardware,
    traces: Annotated[
        list[Path],
        typer.Argument(
            metavar="TRACE...", help="Trace files (.npz), or names of them.", autocompletion=files_and(examples.traces)
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The CSV, one row per point.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=V1,V2,...", help="A setting and its values; repeatable.", autocompletion=settings_of
        ),
    ] = None,
    together: Annotated[
        bool, typer.Option("--zip/--grid", help="First values of all settings, second ones, ...; or all combinations.")
    ] = False,
    sample: Annotated[int | None, typer.Option("--random", metavar="N", help="Only N points, drawn from all.")] = None,
    seed: Annotated[int, typer.Option(help="Of --random.")] = 0,
    pareto: Annotated[
        str | None, typer.Option(metavar="COLUMN,...", help="Mark the points that no other beats in all of these.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(metavar="N", min=1, help="Processes; default: one per core.")] = None,
    cluster: Cluster = None,
    engine: Engines = Engine.compiled,
    layers: Layers = None,
    verify: Verify = True,
) -> None:
    """Simulate every combination of settings on every TRACE, in parallel; resumes where it was stopped.

    A point that cannot run is a row with its error. Run the same command again after an interruption: rows that are
    there are not computed again.
    """
    from archsim import simulate
    from archsim import sweeping as sweeps
    from archsim.report.comparison import KEY_MEASURES, MEASURES

    refuse_swapped([hardware], traces)
    plan = sweeps.Sweep(
        hardware,
        tuple(traces),
        tuple(sweeps.axis(text) for text in settings or ()),
        "zip" if together else "grid",
        sample,
        seed,
        engine.value,
        None if layers is None else tuple(names_in(layers) or ()),
        verify,
    )
    minimised = [name.strip() for name in (pareto or "").split(",") if name.strip()]
    damaged: list[str] = []
    with progress_bar() as progress:
        steps = sweeps.run(
            plan, output, jobs=jobs or os.cpu_count() or 1, cluster=cluster, pareto=minimised, tell=damaged.append
        )
        compiling = engine is Engine.compiled and simulate.compiles_first(hardware)
        for done, total in steps:
            progress(simulate.COMPILING if compiling and not done else "points", done, total)
    rows = sweeps.read(output)
    shown = [name for name in rows[0] if name not in ("hardware", *sweeps.IDENTITY)]
    if sys.stdout.isatty():
        unseen = {*MEASURES, *(("trace",) * (len(traces) == 1))} - {*KEY_MEASURES}
        shown = [name for name in shown if name not in unseen]
    print_table(shown, [[row[name] for name in shown] for row in rows])
    note(f"{len(rows)} points, with all columns, in {output}")
    lacking = sum(bool(row["left_out"]) for row in rows)
    if lacking and layers is None:
        warn(f"{lacking} of {len(rows)} points leave out a part of the network: see the columns coverage and left_out")
    wrong = [f"{output}: point {row['point']}: {row['error']}" for row in rows if row["error"]]
    more = [f"{output}: and {len(wrong) - MOST_LINES} more points failed"] if len(wrong) > MOST_LINES else []
    wrong = [*wrong[:MOST_LINES], *more]
    wrong += damaged
    wrong += [f"{output}: {problem}" for problem in sweeps.not_on_the_front(rows, minimised)]
    if wrong:
        raise UsageError(wrong)
