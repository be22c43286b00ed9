"""``archsim compare``: several machines side by side."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from archsim import examples
from archsim.cli.options import Engine, Engines, Layers, Overrides, Verify, each, names_in
from archsim.cli.printing import note, one_line, print_table, print_verdict, progress_bar, say_if_compiling, warn
from archsim.errors import UsageError


def compare(
    hardware: Annotated[
        list[Path], typer.Argument(metavar="HW...", help="Hardware files; the first is the reference.")
    ],
    trace: Annotated[Path, typer.Option("--trace", metavar="TRACE", help="Trace file (.npz).")],
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
) -> None:
    """Simulate TRACE on several machines, in parallel; one table and a bar chart, normalised to the first."""
    from archsim import simulate
    from archsim.report import comparison, files, plots
    from archsim.trace import load_trace

    names = _machine_names(hardware)
    loaded = load_trace(trace)
    each(hardware, lambda path: simulate.accelerator_for(path, trace, loaded, overrides or (), whole=layers is None))
    place = output or Path("results") / f"compare__{trace.stem}"
    if place.suffix in files.FIGURE_KINDS:
        raise UsageError(f"{place}: is the name of a figure; the comparison is a table, name it .csv")
    alone = place.suffix == ".csv"
    header = files.csv_text((), comparison.COLUMNS).encode()
    with files.result_file(place, header) if alone else files.results_folder(place) as partial:
        say_if_compiling(engine, hardware)
        reports = {}
        with progress_bar() as progress:
            runs = simulate.run_each(
                hardware, trace, overrides=overrides or (), engine=engine.value, layers=names_in(layers), verify=verify
            )
            for name, report in zip(names, runs, strict=True):
                reports[name] = report
                if progress:
                    progress(name, len(reports), len(names))
        rows = comparison.rows(reports)
        table = partial if alone else partial / files.COMPARISON
        files.write_texts(table.parent, {table.name: files.csv_text(rows, comparison.COLUMNS)})
        if not alone:
            plots.plot(partial)
    # Who reads it at a terminal has just typed the trace and the overrides; warnings name what is left out.
    known = {"trace", "overrides", "left_out"}
    known |= {name for name in comparison.SOMETIMES if all(row[name] is None for row in rows)}
    columns = [name for name in comparison.COLUMNS if name not in known or not sys.stdout.isatty()]
    print_table(columns, [row.values() for row in _ordered(rows, columns)], repeat=2)
    for doubt in comparison.doubts(reports):
        warn(doubt)
    for remark in comparison.notes(reports):
        note(f"note: {remark}")
    note(f"comparison in {place}{'' if alone else os.sep}")
    warned: dict[str, list[str]] = {}
    for name, report in reports.items():
        for warning in report.warnings:
            warned.setdefault(warning, []).append(name)
    for warning, whose in warned.items():
        warn(f"{', '.join(whose)}: {warning}")
    wrong = [line for name, report in reports.items() for line in print_verdict(report, f"{name}: ")]
    if wrong:
        raise UsageError(wrong)


def _machine_names(paths: Sequence[Path]) -> list[str]:
    """What to call each machine of a comparison: the stem of its file, or its path where stems are equal."""
    stems = [path.stem for path in paths]
    names = [one_line(stem if stems.count(stem) == 1 else str(path)) for stem, path in zip(stems, paths, strict=True)]
    files = [os.path.realpath(examples.find(path)) for path in paths]
    twice = [name for name, file in zip(names, files, strict=True) if files.count(file) > 1]
    if twice:
        raise UsageError(f"compare: '{twice[-1]}' is given twice")
    return names


def _ordered(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
    return [{column: row[column] for column in columns} for row in rows]
