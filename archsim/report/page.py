"""One page that tells a whole run: key numbers, figures, sortable tables, and where every number comes from.

The page is one HTML file that needs no network: styles, script and figures are inside. Tables are complete; cells carry
their full precision for sorting and for whoever copies them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from archsim.errors import printable
from archsim.report.terminal import column
from archsim.report.verdict import verdict

if TYPE_CHECKING:
    from archsim.report.report import Report


class Sources(NamedTuple):
    """Where a machine's numbers come from: rows (path, value, given, meaning, source) of its file, rows (unit, action,
    price, unit of price, confidence, source) of its prices."""

    values: Sequence[tuple[Any, ...]]
    prices: Sequence[tuple[Any, ...]]


class Cell(NamedTuple):
    """What is shown, what it is sorted by (None: what is shown), and how it looks (number, source or nothing)."""

    text: str
    key: str | None = None
    kind: str = ""


class Column(NamedTuple):
    """A head, and whether numbers stand under it."""

    name: str
    number: bool


class Table(NamedTuple):
    """A table of the page."""

    title: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    open: bool = False


class Card(NamedTuple):
    """A key number."""

    name: str
    value: str
    note: str = ""


def page(report: Report, sources: Sources, figures: Iterable[Path]) -> str:
    """The page of ``report``; ``figures`` are SVG files in the order in which they are shown."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        finalize=_harmless,
    )  # fmt: skip
    summary = report.summary()
    state, text = verdict(report)
    heading = f"{summary['workload']} on {summary['accelerator']}{' (fitted)' * summary['fitted']}"
    return environment.get_template("page.html.jinja").render(
        title=f"{heading}, archsim",
        heading=heading,
        description=_described(report, summary),
        state=state,
        verdict=text,
        cards=_cards(summary),
        warnings=report.warnings,
        figures=[_inline(figure) for figure in figures],
        tables=_tables(report, sources),
        origin=_origin(summary),
    )


def _harmless(value: object) -> object:
    """Text without characters that no page may hold, or that change the direction of writing."""
    return printable(value, sys.maxsize) if type(value) is str else value


def _described(report: Report, summary: Mapping[str, Any]) -> str:
    timesteps = max(layer.timesteps for layer in report.layers)
    images = summary["images"]
    told = "".join(f", {name} {value}" for name, value in report.findings.items() if name != "exact")
    return (
        f"{len(report.layers)} layers, T = {timesteps}, {images} image{'s' * (images != 1)} as one batch, "
        f"{summary['clock_mhz']:g} MHz, engine {summary['engine']}{told}"
    )


def _cards(summary: Mapping[str, Any]) -> list[Card]:
    moved = {level: summary[f"{level}_read_bytes"] + summary[f"{level}_write_bytes"] for level in ("dram", "sram")}
    shown = {
        "latency_s": (summary["latency_s"], _an_image("latency_s", summary)),
        "cycles": (summary["cycles"], f"{summary['stall_cycles'] / max(1, summary['cycles']):.0%} stalled"),
        "energy_pj": (summary["energy_pj"], _an_image("energy_pj", summary)),
        "power_mw": (summary["power_mw"], "energy / latency, DRAM included"),
        "area_mm2": (summary["area_mm2"], "DRAM not included"),
        "utilization": (summary["utilization"], "of the processing elements"),
        "coverage": (summary["coverage"], "of the network's synaptic operations"),
        "dram_bytes": (moved["dram"], "read and written"),
        "sram_bytes": (moved["sram"], "read and written"),
    }
    cards = []
    for name, (value, note) in shown.items():
        head, text = column(name, [value])
        cards.append(Card(head, text, note))
    return cards


def _an_image(name: str, summary: Mapping[str, Any]) -> str:
    head, text = column(name, [summary[name] / max(1, summary["images"])])
    return f"{text} {head.partition('[')[2].rstrip(']')} an image"


def _tables(report: Report, sources: Sources) -> list[Table]:
    left_out = [tuple(one.values()) for one in report.left_out]
    tables = [
        _table("Left out", "What of the network was not simulated, and its share of all synaptic operations.",
               ("layer", "reason", "share"), left_out, shown=True),
        _table("Layers", "A row a layer.", report.columns("layers"), _cells(report, "layers"), shown=True),
        _table("Energy", "Actions times price; leakage is drawn always.", report.columns("energy"),
               _cells(report, "energy")),
        _table("Traffic", "Bytes and accesses by memory, tensor and direction.", report.columns("traffic"),
               _cells(report, "traffic")),
        _table("Units", "What each unit does in every cycle of a layer.", report.columns("units"),
               _cells(report, "units")),
        _table("Area", "Of all instances, with the source of each figure.", report.columns("area"),
               _cells(report, "area")),
        _table("Machine", "Every value of the hardware file.", ("path", "value", "given", "meaning", "source"),
               sources.values),
        _table("Prices", "What an action costs, and how far to trust it.",
               ("unit", "action", "price", "unit of price", "confidence", "source"), sources.prices),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def _cells(report: Report, name: str) -> list[tuple[Any, ...]]:
    columns = report.columns(name)
    return [tuple(row[column] for column in columns) for row in report.rows(name)]


def _table(
    title: str, note: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], *, shown: bool = False
) -> Table:
    heads, lines = [], []
    for place, name in enumerate(columns):
        values = [row[place] for row in rows]
        head, *texts = column(name, values)
        number = all(isinstance(value, int | float | None) and not isinstance(value, bool) for value in values)
        kind = "number" if number else "source" if name == "source" else ""
        heads.append(Column(head, number))
        lines.append([
            Cell(text, repr(value) if number and value is not None else None, kind)
            for text, value in zip(texts, values, strict=True)
        ])  # fmt: skip
    return Table(title, note, heads, list(zip(*lines, strict=True)), shown)


def _inline(figure: Path) -> str:
    """The drawing alone: without the XML prolog, which HTML does not have."""
    text = figure.read_text(encoding="utf-8")
    return re.sub(r"^.*?(?=<svg)", "", text, count=1, flags=re.DOTALL)


def _origin(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    names = ("archsim_version", "engine", "hardware", "accelerator", "trace", "workload", "trace_sha256")
    labels = sorted(_flat(summary["labels"]).items())
    return [*((name, summary[name]) for name in names), ("overrides", " ".join(summary["overrides"])), *labels]


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
