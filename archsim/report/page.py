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
from archsim.hardware.evidence import weakest
from archsim.report import columns as table_of_columns
from archsim.report.names import readable
from archsim.report.terminal import column
from archsim.report.verdict import counted, verdict

if TYPE_CHECKING:
    from archsim.report.evidence import Evidence
    from archsim.report.report import Report


MEMORIES = ("dram", "sram")
FIGURE_WIDTH = 4.6
"""Inches of a figure that a page shows: as wide as on a screen, so that its letters can be read on a telephone."""


class Sources(NamedTuple):
    """Where a machine's numbers come from: rows (path, value, given, evidence, meaning, source) of its file, rows
    (unit, action, price, unit of price, confidence, source) of its prices."""

    values: Sequence[tuple[Any, ...]]
    prices: Sequence[tuple[Any, ...]]


class Cell(NamedTuple):
    """What is shown, what it is sorted by (None: what is shown), and how it looks (number, source or nothing)."""

    text: str
    key: str | None = None
    kind: str = ""


class Column(NamedTuple):
    """A head, whether numbers stand under it, and what they mean, if the table of columns says it."""

    name: str
    number: bool
    meaning: str


class Table(NamedTuple):
    """A table of the page."""

    title: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    open: bool = False


class Card(NamedTuple):
    """A key number; ``evidence`` is the weakest that it rests on."""

    name: str
    value: str
    note: str
    meaning: str
    evidence: str


def page(report: Report, sources: Sources, figures: Iterable[tuple[str, str]]) -> str:
    """The page of ``report``; ``figures`` are titles and SVG texts in the order in which they are shown."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        finalize=_harmless,
    )  # fmt: skip
    summary = report.summary()
    state, text = verdict(report)
    network, machine = readable(summary["workload"]), readable(summary["accelerator"])
    heading = f"{network} on {machine}{' (fitted)' * summary['fitted']}"
    return environment.get_template("page.html.jinja").render(
        title=f"{heading}, archsim",
        heading=heading,
        description=_described(report, summary),
        state=state,
        verdict=text,
        cards=_cards(summary, report.evidence),
        warnings=report.warnings,
        figures=[(title, _inline(svg)) for title, svg in figures],
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
        f"{counted(report.covered, len(report.layers))}, "
        f"T = {timesteps}, {images} image{'s' * (images != 1)} as one batch, "
        f"{summary['clock_mhz']:g} MHz, engine {summary['engine']}{told}"
    )


def _cards(summary: Mapping[str, Any], evidence: Sequence[Evidence]) -> list[Card]:
    moved = {f"{level}_bytes": summary[f"{level}_read_bytes"] + summary[f"{level}_write_bytes"] for level in MEMORIES}
    shown = {
        "latency_s": (summary["latency_s"], _per_image("latency_s", summary)),
        "cycles": (summary["cycles"], f"{summary['stall_cycles'] / max(1, summary['cycles']):.0%} stalled"),
        "energy_pj": (summary["energy_pj"], _per_image("energy_pj", summary)),
        **(
            {"estimate_pj": (summary["estimate_pj"], f"energy is {summary['energy_over_estimate']:.3g} times that")}
            if summary["estimate_pj"]
            else {}
        ),
        "power_mw": (summary["power_mw"], "DRAM included"),
        "area_mm2": (summary["area_mm2"], "without DRAM"),
        "utilization": (summary["utilization"], "of the PEs"),
        "coverage": (summary["coverage"], "of synaptic operations"),
        "dram_bytes": (moved["dram_bytes"], _bandwidth(summary)),
        "sram_bytes": (moved["sram_bytes"], "read and written"),
    }
    cards = []
    for name, (value, note) in shown.items():
        head, (text,) = _shown(name, [value])
        file = table_of_columns.COMPARISON if name in moved else table_of_columns.SUMMARY
        meaning = f"{table_of_columns.meaning(name, file)} {_trusted(name, evidence)}".rstrip()
        grades = [one.grade for one in _resting(name, evidence)]
        trust = weakest(grades) if grades else ""
        cards.append(Card(head.replace("util.", "utilization"), text, note, meaning, trust))
    return cards


def _resting(name: str, evidence: Sequence[Evidence]) -> list[Evidence]:
    """Evidence of the numbers of a column."""
    results = table_of_columns.results_in(name)
    return [one for one in evidence if one.result in results]


def _trusted(name: str, evidence: Sequence[Evidence]) -> str:
    """What the numbers of a column rest on, in words."""
    return " ".join(f"Evidence of {one.result}: {one.grade} ({one.rests_on})." for one in _resting(name, evidence))


def _bandwidth(summary: Mapping[str, Any]) -> str:
    """How fast DRAM was, of how fast it can be."""
    if summary["dram_gb_s"] is None:
        return "read and written"
    return f"{summary['dram_gb_s']:.3g} of {summary['dram_bandwidth_gb_s']:g} GB/s"


def _per_image(name: str, summary: Mapping[str, Any]) -> str:
    head, (text,) = _shown(name, [summary[name] / max(1, summary["images"])])
    return f"{text} {head.partition('[')[2].rstrip(']')} per image"


def _shown(name: str, values: Sequence[object]) -> tuple[str, list[str]]:
    """A head and cells as terminals show them, with a true sign for micro."""
    head, *texts = column(name, values)
    return head.replace("[u", "[µ"), texts


def _tables(report: Report, sources: Sources) -> list[Table]:
    left_out = [tuple(one.values()) for one in report.left_out]
    told = {
        "layers": "One row per layer.",
        "energy": "How often each unit acts, times the price of the action; leakage is static energy.",
        "traffic": "Bytes and accesses by memory, tensor and direction.",
        "units": "What each unit does in every cycle of a layer.",
        "area": "Area of all instances, with the source of each figure.",
    }
    tables = [
        _table("Left out", "What of the network was not simulated, and its share of all synaptic operations.",
               table_of_columns.LEFT_OUT, ("layer", "reason", "share"), left_out, shown=True),
        *(
            _table(name.capitalize(), note, f"{name}.csv", report.columns(name), _cells(report, name),
                   report.evidence, shown=name == "layers")
            for name, note in told.items()
        ),
        _table("Evidence", "What the results rest on: the weakest link, and how much is of which grade.",
               table_of_columns.EVIDENCE, ("result", "grade", "rests_on"), report.evidence),
        _table("Machine", "Every value of the hardware file.", table_of_columns.EXPLAIN,
               ("path", "value", "given", "evidence", "meaning", "source"), sources.values),
        _table("Prices", "What an action costs, and how far to trust the price.", table_of_columns.EXPLAIN,
               ("unit", "action", "price", "unit of price", "confidence", "source"), sources.prices),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def _cells(report: Report, name: str) -> list[tuple[Any, ...]]:
    columns = report.columns(name)
    return [tuple(row[column] for column in columns) for row in report.rows(name)]


def _table(
    title: str,
    note: str,
    file: str,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    evidence: Sequence[Evidence] = (),
    *,
    shown: bool = False,
) -> Table:
    """A table of the page with the columns of ``file``; what results rest on stands with what they mean."""
    heads, lines = [], []
    for place, name in enumerate(columns):
        values = [row[place] for row in rows]
        head, texts = _shown(name, values)
        number = all(isinstance(value, int | float | None) and not isinstance(value, bool) for value in values)
        kind = "number" if number else "source" if name in ("source", "rests_on") else ""
        meaning = f"{table_of_columns.meaning(name, file)} {_trusted(name, evidence)}".strip()
        heads.append(Column(head, number, meaning))
        lines.append([
            Cell(text, repr(value) if number and value is not None else None, kind)
            for text, value in zip(texts, values, strict=True)
        ])  # fmt: skip
    return Table(title, note, heads, list(zip(*lines, strict=True)), shown)


def _inline(svg: str) -> str:
    """The drawing alone: without the XML prolog, which HTML does not have."""
    return re.sub(r"^.*?(?=<svg)", "", svg, count=1, flags=re.DOTALL)


def _origin(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    names = ("archsim_version", "engine", "hardware", "accelerator", "trace", "workload", "trace_sha256")
    labels = sorted(_flat(summary["labels"]).items())
    return [*((name, summary[name]) for name in names), ("overrides", " ".join(summary["overrides"])), *labels]


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
