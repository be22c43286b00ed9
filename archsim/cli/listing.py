"""``archsim list`` and ``archsim schema``: what there is."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from archsim import examples
from archsim.cli.printing import print_table
from archsim.errors import UsageError, nearest


def list_() -> None:
    """List the accelerators, hardware files, traces, presets of synthetic traces and cost tables of archsim."""
    from archsim.accelerators import registry
    from archsim.cost import load_table, table_names
    from archsim.dataflow import networks
    from archsim.simulate import load_accelerator
    from archsim.trace.presets import PRESETS
    from archsim.trace.published import NETWORKS

    shipped = {name: load_accelerator(path) for name, path in examples.machines().items()}
    runs: dict[str, list[str]] = {name: [] for name in sorted(registry())}
    for machine in shipped.values():
        runs[machine.name] += [kind for kind in networks.kinds(machine) if kind not in runs[machine.name]]
    rows = []
    for name, kinds in runs.items():
        what = f" Runs {', '.join(kinds)}." if kinds else ""
        rows.append(("accelerator", name, f"{_first_line(registry()[name])}{what}"))
    rows += [("hardware file", name, machine.config.description) for name, machine in shipped.items()]
    rows += [("trace", name, path.name) for name, path in examples.traces().items()]
    for name, preset in PRESETS.items():
        unable = [machine for machine, kinds in runs.items() if networks.INTEGERS not in kinds]
        whose = f"; not for {', '.join(unable)}" if preset.operand == "int" and unable else ""
        rows.append(("synthetic trace", name, f"{preset.source}{whose}"))
    rows += [("synthetic network", name, network.source) for name, network in NETWORKS.items()]
    rows += [("cost table", name, load_table(name).title) for name in table_names()]
    if not sys.stdout.isatty():
        print_table(("kind", "name", "what it is"), rows)
        return
    for kind in dict.fromkeys(row[0] for row in rows):
        print_table((kind, "what it is"), [row[1:] for row in rows if row[0] == kind])
        typer.echo()


def schema(
    accelerator: Annotated[str, typer.Argument(metavar="ACCELERATOR", help="'archsim list' names them.")],
) -> None:
    """Print the JSON Schema of an accelerator's hardware files, for editors."""
    from archsim.accelerators import registry
    from archsim.hardware.loading import json_schema
    from archsim.report.files import json_text

    known = registry()
    if accelerator not in known:
        allowed = ", ".join(sorted(known))
        raise UsageError(f"unknown accelerator, got '{accelerator}'; allowed: {allowed}{nearest(accelerator, known)}")
    typer.echo(json_text(json_schema(known[accelerator].Config)), nl=False)


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]
