"""``archsim compare``: several machines side by side."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from archsim import examples
from archsim.cli.completion import files_and
from archsim.cli.options import Cluster, Engine, Engines, Jobs, Layers, Overrides, Verify, names_in, refuse_swapped
from archsim.cli.printing import note, print_table, print_verdicts, progress_bar, warn
from archsim.errors import UsageError


def compare(
    hardware: Annotated[
        list[Path],
        typer.Argument(
            metavar="HW...",
            help="Hardware files; the first is the reference.",
            autocompletion=files_and(examples.machines),
        ),
    ],
    traces: Annotated[
        list[Path],
        typer.Option(
            "--trace",
            metavar="TRACE",
            help="Trace file (.npz), or the name of one.",
            autocompletion=files_and(examples.traces),
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Default: results/compare__<trace>/. A name that ends in .csv: the table alone.",
        ),
    ] = None,
    engine: Engines = Engine.compiled,
    overrides: Overrides = None,
    layers: Layers = None,
    verify: Verify = True,
    jobs: Jobs = None,
    cluster: Cluster = None,
) -> None:
    """Simulate TRACE on several machines, in parallel; one table and a bar chart, normalised to the first."""
    from archsim import comparing
    from archsim.report import comparison, files, plots

    comparing.machine_names(hardware)  # before anything takes long
    if len(traces) > 1:
        raise UsageError(
            "--trace: give one trace; compare each network on its own, then 'archsim plot DIR DIR' draws them together"
        )
    (trace,) = traces
    refuse_swapped(hardware, traces)
    place = output or Path("results") / f"compare__{trace.stem}"
    if place.suffix in files.FIGURE_KINDS:
        raise UsageError(f"{place}: is the name of a figure; the comparison is a table, name it .csv")
    alone = place.suffix == ".csv"
    earlier = "" if alone else files.earlier(place)
    with files.result_file(place, files.COMPARISON_START) if alone else files.results_folder(place) as partial:
        with progress_bar() as progress:
            found = comparing.compare(
                hardware, trace, overrides=overrides or (), engine=engine.value, layers=names_in(layers),
                verify=verify, progress=progress, jobs=jobs, cluster=cluster,
            )  # fmt: skip
        table = partial if alone else partial / files.COMPARISON
        files.write_texts(table.parent, {table.name: found.text()})
        if not alone:
            plots.plot(partial)
    columns = found.shown() if sys.stdout.isatty() else comparison.COLUMNS
    print_table(columns, [[row[name] for name in columns] for row in found.rows()])
    for remark in found.notes():
        note(f"note: {remark}")
    wrong = print_verdicts(found.reports)
    for warning in found.warnings:
        warn(warning)
    note(f"all columns in {place}" if alone else f"all columns and the figure in {place}{os.sep}{earlier}")
    if wrong:
        raise UsageError(wrong)
