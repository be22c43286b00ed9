"""``archsim explain``: a machine, its values, its area and its prices."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from archsim.cli.options import Hardware, Overrides
from archsim.cli.printing import note, one_line, print_table


def explain(
    hardware: Hardware,
    overrides: Overrides = None,
    long: Annotated[bool, typer.Option("--long", help="On a terminal: also meanings, and sources of prices.")] = False,
) -> None:
    """Print a machine: what it is built of, every value with its source, its area, and what each action costs."""
    from archsim.cost import area_rows, price_rows
    from archsim.hardware.loading import explained_values, header_of
    from archsim.report import diagram
    from archsim.simulate import example_of, load_accelerator, load_prices, wiring

    machine = load_accelerator(hardware, overrides or ())
    built = example_of(machine, hardware)
    inventory, table = built.inventory(), load_prices(built)
    if sys.stdout.isatty():
        drawn = diagram.draw(inventory), diagram.connections(wiring(built))
        for text in (machine.config.description, header_of(hardware), *drawn):
            typer.echo("\n".join(one_line(line) for line in text.splitlines()) + "\n")
    values: list[tuple[object, ...]] = []
    brief = sys.stdout.isatty() and not long
    for path, value, given, description, source in explained_values(hardware, machine.config, overrides or ()):
        if brief and path != "description":
            values.append((path, _as_written(value), source or ("" if given == "file" else given)))
        elif not brief:
            meaning = "" if sys.stdout.isatty() and description in source else description
            values.append((path, _as_written(value), given, meaning, source))
    print_table(("path", "value", "source") if brief else ("path", "value", "given", "meaning", "source"), values)
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
    if built is not machine:
        note(f"parts and areas are those for {built.config.timesteps} timesteps; the trace says how many there are")
    if brief:
        typer.echo("\nArea 0: part of another row, or off chip. --long has meanings, and sources of areas and prices.")


def _as_written(value: object) -> str:
    """A value as a hardware file would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
