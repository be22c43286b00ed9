"""``archsim check``: validate files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archsim import examples
from archsim.cli.options import Overrides, each, is_zip
from archsim.cli.printing import one_line
from archsim.errors import UsageError


def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Hardware files and traces.")],
    overrides: Overrides = None,
) -> None:
    """Validate hardware files and traces without simulating anything."""
    from archsim.cost import area_rows
    from archsim.simulate import example_of, load_accelerator, load_prices
    from archsim.trace.presets import how_to_make

    def load(path: Path) -> str:
        if (how := how_to_make(path)) and not examples.find(path).exists():
            raise UsageError(f"{path}: no such file{how}")
        if path.suffix == ".npz" or is_zip(path):
            from archsim.trace import load_trace

            trace = load_trace(path)
            return f"{path}: ok, {trace.network}, {len(trace.operations)} operations, T = {trace.timesteps}"
        machine = load_accelerator(path, overrides or ())
        built = example_of(machine, path)
        area_rows(built.inventory(), load_prices(built))
        return f"{path}: ok, a machine of type {machine.name}"

    for line in each(files, load):
        typer.echo(one_line(line))
