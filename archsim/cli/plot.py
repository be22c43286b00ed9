"""``archsim plot``: the figures of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archsim.cli.options import names_in
from archsim.cli.printing import one_line


def plot(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="A results folder, or the CSV of a comparison or a sweep; or comparisons on several networks.",
        ),
    ],
    formats: Annotated[
        list[str] | None, typer.Option("--format", metavar="NAME,...", help="pdf, svg, png; default: png and svg.")
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(metavar="column|page|INCHES", help="Of a column or the page of a paper; letters fit the size."),
    ] = None,
    title: Annotated[
        bool, typer.Option("--title/--no-title", help="Say above the figure what it shows and what was run.")
    ] = True,
) -> None:
    """Draw the figures of a result, PNG and SVG by default; prints the files written.

    Several comparisons of the same machines make one figure with one group of bars per network and the geometric mean.
    """
    from archsim.report import plots
    from archsim.report.drawing import look

    chosen = look(names_in(formats), width, title=title)
    for file in plots.plot(paths[0], chosen) if len(paths) == 1 else plots.plot_networks(paths, chosen):
        typer.echo(one_line(file))
