"""``archsim docs``: the documentation, in a browser."""

from __future__ import annotations

import sys
import webbrowser
from typing import Annotated

import typer

from archsim.cli.printing import note, one_line


def docs(
    name: Annotated[
        str, typer.Argument(metavar="PAGE", help="Such as columns, sweeps or loas; default: the first.")
    ] = "",
) -> None:
    """Open the documentation, which comes with archsim and needs no network; prints the path of the page."""
    from archsim.docs import site

    page = site.page(name, site.pages())
    typer.echo(one_line(page))
    if sys.stdout.isatty() and not webbrowser.open(page.as_uri()):
        note("no browser was found here: open this file in one")
