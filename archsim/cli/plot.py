"""``archsim plot``: the figures of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archsim.cli.printing import one_line


def plot(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="A results folder, or the CSV of a comparison or a sweep; or comparisons on several networks.",
        ),
    ],
) -> None:
    """Draw the figures of a result as PNG and SVG; prints the files written.

    Several comparisons of the same machines make one figure with a group of bars a network and the geometric mean.
    """
    from archsim.report import plots

    for file in plots.plot(paths[0]) if len(paths) == 1 else plots.plot_networks(paths):
        typer.echo(one_line(file))
