"""``archsim warm``: compile the kernels of machines before they are needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from archsim import examples
from archsim.cli.completion import files_and
from archsim.cli.options import each
from archsim.cli.printing import note, progress_bar
from archsim.errors import UsageError


def warm(
    hardware: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[HW]...",
            help="Hardware files, or names of some; default: one of each accelerator that comes with archsim.",
            autocompletion=files_and(examples.machines),
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Machines at once; default: one per core.")
    ] = None,
) -> None:
    """Compile the kernels of machines, in parallel, so that no first run waits for them."""
    from archsim import processes
    from archsim.simulate import COMPILING, compile_kernels, load_accelerator

    paths = list(hardware or examples.machines().values())
    kinds = each(paths, lambda path: load_accelerator(path).name)
    chosen = paths if hardware else list(dict(zip(reversed(kinds), reversed(paths), strict=True)).values())
    with progress_bar() as progress:
        progress(COMPILING, 0, len(chosen))
        found = processes.results(compile_kernels, chosen, jobs or os.cpu_count() or 1)
        for number, (place, name) in enumerate(found, start=1):
            if name is None:
                raise UsageError(f"{chosen[place]}: {processes.LOST}")
            progress(name, number, len(chosen))
    note(f"kernels of {len(chosen)} machines are compiled")
