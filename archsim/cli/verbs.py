"""All verbs, in the order in which ``archsim --help`` names them. A verb is a function in a file of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from archsim._version import __version__
from archsim.cli.adapt import adapt
from archsim.cli.check import check
from archsim.cli.columns import columns
from archsim.cli.compare import compare
from archsim.cli.docs import docs
from archsim.cli.explain import explain
from archsim.cli.limits import check_limits
from archsim.cli.listing import list_, schema
from archsim.cli.plot import plot
from archsim.cli.run import run
from archsim.cli.sweep import sweep
from archsim.cli.trace import trace_check, trace_import, trace_info, trace_synth
from archsim.cli.warm import warm

app = typer.Typer(
    name="archsim",
    help="What would this machine do with my trained network? Cycles, energy, area and traffic, layer by layer.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command()(run)
app.command()(compare)
app.command()(sweep)
app.command()(adapt)
app.command()(plot)
app.command()(columns)
app.command()(check)
app.command()(explain)
app.command("list")(list_)
app.command()(schema)
app.command()(docs)
app.command()(warm)

trace_app = typer.Typer(help="Look at, validate, generate and convert traces.", rich_markup_mode=None)
trace_app.command("info")(trace_info)
trace_app.command("check")(trace_check)
trace_app.command("synth")(trace_synth)
trace_app.command("import")(trace_import)
app.add_typer(trace_app, name="trace")


@app.callback(invoke_without_command=True)
def _archsim(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    # `debug` is declared for the help text; main() takes it from anywhere on the command line.
    if version:
        typer.echo(f"archsim {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
    else:
        check_limits()


@trace_app.callback(invoke_without_command=True)
def _trace(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
