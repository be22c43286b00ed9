"""``archsim run``: the main job."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archsim.cli.options import (
    Cluster,
    Engine,
    Engines,
    Hardware,
    Jobs,
    Layers,
    Overrides,
    TraceFile,
    Verify,
    names_in,
    refuse_swapped,
)
from archsim.cli.printing import note, print_table, print_verdicts, progress_bar, warn
from archsim.errors import UsageError

if TYPE_CHECKING:
    from archsim.report.report import Report


def run(
    hardware: Hardware,
    trace: TraceFile,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Default: results/<hw>__<trace>/.")
    ] = None,
    engine: Engines = Engine.compiled,
    overrides: Overrides = None,
    layers: Layers = None,
    verify: Verify = True,
    timeline: Annotated[bool, typer.Option("--timeline", help="Also write timeline.json for Perfetto.")] = False,
    window: Annotated[
        str | None,
        typer.Option("--timeline-window", metavar="FROM:TO", help="Timeline of these cycles of the run only."),
    ] = None,
    jobs: Jobs = None,
    cluster: Cluster = None,
    page: Annotated[bool, typer.Option("--report", help="Also draw the figures and write report.html.")] = False,
) -> None:
    """Simulate TRACE on HW, verify the outputs, and write the results folder."""
    from archsim.report import files
    from archsim.report.timeline import parse_window

    recorded = timeline if window is None else parse_window(window)
    refuse_swapped([hardware], [trace])
    folder = output or Path("results") / f"{hardware.stem}__{trace.stem}"
    earlier = files.earlier(folder, overrides or ())
    with files.results_folder(folder) as partial:
        report = _simulate(
            hardware, trace, overrides, engine, layers, verify=verify, timeline=recorded, jobs=jobs, cluster=cluster
        )
        files.write_texts(partial, report.texts())
        if page:
            files.write_texts(partial, {"report.html": _page(hardware, overrides or (), report, partial)})
    _print_layers(report)
    note(report.per_image())
    if moved := report.as_moved():
        note(moved)
    if estimated := report.as_estimated():
        note(estimated)
    wrong = print_verdicts({"": report})
    for warning in report.warnings:
        warn(warning)
    note(f"results in {folder}{os.sep}{earlier}")
    if recorded:
        note(f"timeline, for Perfetto: {folder / 'timeline.json'}")
    if page:
        note(f"report, for a browser: {folder / 'report.html'}")
    if wrong:
        raise UsageError(wrong)


def _page(hardware: Path, overrides: Sequence[str], report: Report, folder: Path) -> str:
    """The run in ``folder`` as one page."""
    from archsim import simulate
    from archsim.hardware.loading import explained_values
    from archsim.report.page import FIGURE_WIDTH, Sources, page
    from archsim.report.plots import of_run, plot

    machine = simulate.load_accelerator(hardware, overrides)
    sources = Sources(
        explained_values(hardware, machine.config, overrides),
        [(p.unit, p.action, p.price, p.quantity, p.confidence, p.source) for p in report.prices],
    )
    plot(folder)
    return page(report, sources, of_run(folder, FIGURE_WIDTH))


def _simulate(
    hardware: Path,
    trace: Path,
    overrides: Sequence[str] | None,
    engine: Engine,
    layers: Sequence[str] | None,
    *,
    verify: bool,
    timeline: bool | tuple[int, int],
    jobs: int | None,
    cluster: str | None,
) -> Report:
    from archsim import simulate

    with progress_bar() as progress:
        return simulate.run(
            hardware,
            trace,
            overrides=overrides or (),
            engine=engine.value,
            layers=names_in(layers),
            verify=verify,
            timeline=timeline,
            progress=progress,
            jobs=jobs,
            cluster=cluster,
        )


def _print_layers(report: Report) -> None:
    """The layers of a run and their total; on a terminal also what an image takes."""
    if sys.stdout.isatty():
        print_table(report.shown(), [row.values() for row in report.rows_with_totals()])
        return
    total = report.summary()
    shared = ("cycles", "stall_cycles", "utilization", "energy_pj", "dram_read_bytes", "dram_write_bytes", "mismatches")
    rows = [(row["layer"], *(row[column] for column in shared)) for row in report.rows("layers")]
    print_table(("layer", *shared), [*rows, ("total", *(total[column] for column in shared))])
