"""One page that tells a whole run: key numbers, figures, sortable tables, and where every number comes from.

The page is one HTML file that needs no network: styles, script and figures are inside. Tables are complete; cells carry
their full precision for sorting and for whoever copies them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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


SCALES = {
    "cycles": ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")),
    "s": ((1, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")),
    "pJ": ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ"), (1, "pJ")),
    "bytes": ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")),
}


def page(report: Report, sources: Sources, figures: Iterable[Path]) -> str:
    """The page of ``report``; ``figures`` are SVG files in the order in which they are shown."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    summary = report.summary()
    state, verdict = _verdict(summary)
    heading = f"{summary['workload']} on {summary['accelerator']}"
    return environment.get_template("page.html.jinja").render(
        title=f"{heading}, archsim",
        heading=heading,
        description=_described(report, summary),
        state=state,
        verdict=verdict,
        cards=_cards(summary),
        warnings=report.warnings,
        figures=[_inline(figure) for figure in figures],
        tables=_tables(report, sources),
        origin=_origin(summary),
    )


def _described(report: Report, summary: Mapping[str, Any]) -> str:
    timesteps = max(layer.timesteps for layer in report.layers)
    images = summary["images"]
    return (
        f"{len(report.layers)} layers, T = {timesteps}, {images} image{'s' * (images != 1)} as one batch, "
        f"{summary['clock_mhz']:g} MHz, engine {summary['engine']}"
    )


def _verdict(summary: Mapping[str, Any]) -> tuple[str, str]:
    if summary["verified"] is None:
        return "open", "outputs not compared with the trace's"
    if summary["verified"]:
        return "good", f"{summary['layers_verified']} of {summary['layers']} layers equal the trace's, bit for bit"
    return "bad", f"{summary['mismatches']:,} outputs differ from the trace's"


def scaled(value: float, unit: str) -> str:
    """``value`` in three or four digits with the prefix that fits: ``2.77 ms``."""
    size, name = next(((s, n) for s, n in SCALES[unit] if abs(value) >= s), SCALES[unit][-1])
    return f"{value / size:.4g} {name}".rstrip()


def _cards(summary: Mapping[str, Any]) -> list[Card]:
    images = max(1, summary["images"])
    moved = {level: summary[f"{level}_read_bytes"] + summary[f"{level}_write_bytes"] for level in ("dram", "sram")}
    return [
        Card("latency", scaled(summary["latency_s"], "s"), f"{scaled(summary['latency_s'] / images, 's')} an image"),
        Card("cycles", f"{summary['cycles']:,}", f"{summary['stall_cycles'] / max(1, summary['cycles']):.0%} stalled"),
        Card("energy", scaled(summary["energy_pj"], "pJ"), f"{scaled(summary['energy_pj'] / images, 'pJ')} an image"),
        Card("power", f"{summary['power_mw']:.4g} mW", "energy / latency, DRAM included"),
        Card("area", f"{summary['area_mm2']:.4g} mm2", "without DRAM"),
        Card("utilization", f"{summary['utilization']:.1%}", "of the processing elements"),
        Card("DRAM traffic", scaled(moved["dram"], "bytes"), "read and written"),
        Card("SRAM traffic", scaled(moved["sram"], "bytes"), "read and written"),
    ]


def _tables(report: Report, sources: Sources) -> list[Table]:
    tables = [
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
    numeric = [all(_is_number(row[place]) for row in rows) for place in range(len(columns))]
    heads = [Column(name.replace("_", " "), number) for name, number in zip(columns, numeric, strict=True)]
    cells = [
        [_cell(value, "source" if name == "source" else "") for name, value in zip(columns, row, strict=True)]
        for row in rows
    ]
    return Table(title, note, heads, cells, shown)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any, kind: str) -> Cell:
    if value is None:
        return Cell("", "")
    if isinstance(value, bool) or not _is_number(value):
        return Cell(str(value).lower() if isinstance(value, bool) else str(value), None, kind)
    text = f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
    return Cell(text, repr(value), "number")


def _inline(figure: Path) -> str:
    """The drawing alone: without the XML prolog, which HTML does not have."""
    text = figure.read_text(encoding="utf-8")
    return re.sub(r"^.*?(?=<svg)", "", text, count=1, flags=re.DOTALL)


def _origin(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    names = ("archsim_version", "engine", "accelerator", "workload", "trace_sha256")
    return [(name, summary[name]) for name in names] + sorted(_flat(summary["labels"]).items())


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
