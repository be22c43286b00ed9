"""``archsim explain``: a machine, its values, its area and its prices."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from archsim import examples
from archsim.cli.completion import files_and
from archsim.cli.options import Hardware, Overrides
from archsim.cli.printing import note, one_line, print_table


def explain(
    hardware: Hardware,
    overrides: Overrides = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="TRACE",
            help="Also where the layers of a trace are on the mesh of a many-core chip; 'plot' draws that of a run.",
            autocompletion=files_and(examples.traces),
        ),
    ] = None,
    long: Annotated[bool, typer.Option("--long", help="On a terminal: also meanings, and sources of prices.")] = False,
) -> None:
    """Print a machine: what it is built of, every value with its evidence and source, its area, what each action costs,
    and what its results rest on."""
    from archsim.cost import area_rows, price_rows
    from archsim.engine.result import CoreLoad
    from archsim.hardware.loading import Explained, explained_values, header_of
    from archsim.report import diagram, evidence
    from archsim.simulate import example_of, load_accelerator, load_prices, placement_of, wiring

    placed = placement_of(hardware, trace, overrides or ()) if trace else ()
    machine = load_accelerator(hardware, overrides or ())
    built = example_of(machine, hardware)
    inventory, table = built.inventory(), load_prices(built)
    if sys.stdout.isatty():
        drawn = diagram.draw(inventory), diagram.connections(wiring(built))
        for text in (machine.config.description, header_of(hardware), *drawn):
            typer.echo("\n".join(one_line(line) for line in text.splitlines()) + "\n")
    values: list[tuple[object, ...]] = []
    brief = sys.stdout.isatty() and not long
    explained = explained_values(hardware, machine.config, overrides or ())
    for row in explained:
        if brief and row.path != "description":
            source = row.source or ("" if row.given == "file" else row.given)
            values.append((row.path, _as_written(row.value), row.evidence, source))
        elif not brief:
            meaning = "" if sys.stdout.isatty() and row.meaning in row.source else row.meaning
            values.append(row._replace(value=_as_written(row.value), meaning=meaning))
    print_table(("path", "value", "evidence", "source") if brief else Explained._fields, values)
    areas, prices = area_rows(inventory, table), price_rows(inventory, table)
    total = sum(row.area_mm2 for row in areas)
    tables: list[tuple[tuple[str, ...], list[tuple[object, ...]]]] = [
        (
            ("unit", "instances", "area_mm2", "source"),
            [*((row.unit, row.instances, row.area_mm2, row.source) for row in areas), ("total", None, total, "")],
        ),
        (
            ("unit", "action", "price", "unit of price", "confidence", "source"),
            [(p.unit, p.action, p.price, p.quantity, p.confidence, p.source) for p in prices],
        ),
    ]
    for columns, rows in tables:
        typer.echo()
        cut = -1 if brief else None
        print_table(columns[:cut], [row[:cut] for row in rows])
    typer.echo()
    print_table(evidence.Evidence._fields, evidence.of_machine(machine.name, inventory, explained, areas))
    if trace:
        typer.echo()
        if sys.stdout.isatty():
            typer.echo("\n".join(one_line(line) for line in diagram.placement(placed).splitlines()))
        else:
            print_table(("layer", *CoreLoad._fields), [(layer, *core) for layer, core in placed])
    if built is not machine:
        note(f"parts and areas are those for {built.config.timesteps} timesteps; the trace says how many there are")
    if brief:
        typer.echo("\nArea 0: part of another row, or off chip. --long has meanings, and sources of areas and prices.")


def _as_written(value: object) -> str:
    """A value as a hardware file would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
