"""``archsim adapt``: what analog arrays get right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from archsim.cli.options import Hardware, Overrides, TraceFile, names_in, refuse_swapped
from archsim.cli.printing import note, print_table, progress_bar


def adapt(
    hardware: Hardware,
    trace: TraceFile,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Default: results/adapt__<hw>__<trace>/.")
    ] = None,
    overrides: Overrides = None,
    adaptations: Annotated[
        list[str] | None,
        typer.Option("--adaptations", metavar="NAME,...", help="none, statistics, fine_tuned; default: all of them."),
    ] = None,
    images: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Evaluation images; default: the machine's.")
    ] = None,
    calibration: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Calibration images; default: all of the trace.")
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Processes that share the evaluation images.")] = 1,
) -> None:
    """Run TRACE on the analog arrays of HW with each batch-norm adaptation, and say what it gets right.

    Writes a results folder with the accuracies, the gain and offset of every channel, and a figure. Nothing is timed.
    """
    from archsim import adapting
    from archsim.report import files, plots

    refuse_swapped([hardware], [trace])
    folder = output or Path("results") / f"adapt__{hardware.stem}__{trace.stem}"
    earlier = files.earlier(folder, overrides or ())
    with files.results_folder(folder) as partial:
        with progress_bar() as progress:
            report = adapting.adapt(
                hardware,
                trace,
                overrides=overrides or (),
                adaptations=names_in(adaptations) or adapting.ADAPTATIONS,
                images=images,
                calibration_images=calibration,
                jobs=jobs,
                progress=progress,
            )
        files.write_texts(partial, report.texts())
        plots.plot(partial)
    print_table(adapting.COLUMNS, [row.values() for row in report.rows()])
    note(f"results in {folder}{os.sep}{earlier}")
