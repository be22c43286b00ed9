"""Figures of a results folder or a comparison, as PNG and SVG.

Each figure answers one question and can be read in grey: neighbouring colours differ in lightness and have their own
hatch. The same input gives the same bytes.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from archsim.errors import UsageError
from archsim.report.comparison import COLUMNS as COMPARISON_COLUMNS
from archsim.report.files import FIGURE_KINDS, FIGURES, RUN_FIGURES, result_file
from archsim.report.report import COLUMNS

# Dark and light in turn, so that neighbours differ without colour.
_COLOURS = ("#1f3b5c", "#e8c468", "#2a7f78", "#f0e3d0", "#7a2e3a", "#9cc3d5", "#4a4a4a", "#d98f6c")
MAX_TABLE_BYTES = 1 << 28
_HATCHES = ("", "//", "", "..", "", "\\\\", "", "xx")
_STYLE = {
    "svg.hashsalt": "archsim",  # stable identifiers
    "svg.fonttype": "none",
    "text.parse_math": False,  # a file name may hold dollars
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.5,
}
Tables = Mapping[str, pd.DataFrame]


def plot(path: str | Path) -> list[Path]:
    """Figures of the results folder ``path`` (into its ``figures/``) or of the comparison CSV ``path`` (next to it).

    Returns the files written. UsageError when ``path`` is neither.
    """
    path = Path(path)
    if path.is_dir():
        tables = {name: _read(path / f"{name}.csv", COLUMNS[name]) for name in COLUMNS}
        (path / FIGURES).mkdir(exist_ok=True)
        drawings = {path / FIGURES / name: draw for name, draw in _RUN_FIGURES.items()}
    else:
        tables = {"comparison": _read(path, COMPARISON_COLUMNS)}
        drawings = {path.with_suffix(""): _draw_comparison}
    return [file for stem, draw in drawings.items() for file in save(stem, partial(_on, draw, tables))]


def _on(draw: Callable[[Axes, Tables], None], tables: Tables, axes: Axes) -> None:
    draw(axes, tables)


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The CSV file at ``path``, which has at least ``columns``."""
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path}: is not a regular file; expected a results folder or a comparison")
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise UsageError(f"{path}: is larger than {MAX_TABLE_BYTES} bytes; nothing that can be plotted is")
        with path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader(file), [])
        missing = [column for column in columns if column not in header]
        if missing:
            raise UsageError(f"{path}: is not a table of archsim, has no column '{missing[0]}'")
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise UsageError(f"{path}: cannot be plotted: {reason}; expected a results folder or a comparison") from error
    if table.empty:
        raise UsageError(f"{path}: has no rows; nothing to plot")
    numbers = [
        c for c in columns if c.endswith(("cycles", "_pj", "bytes", "_mm2", "utilization", "_s", "speedup", "gain"))
    ]
    wrong = [column for column in numbers if not pd.api.types.is_numeric_dtype(table[column])]
    if wrong:
        raise UsageError(f"{path}: column '{wrong[0]}' must hold numbers")
    return table


def save(stem: Path, draw: Callable[[Axes], None], size: tuple[float, float] = (7.0, 3.6)) -> list[Path]:
    """Write what ``draw`` draws as ``stem``.png and ``stem``.svg, ``size`` inches large; returns the files written."""
    written = []
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")  # no pyplot: no window, no state shared with the user's
        draw(figure.subplots())
        for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
            target = stem.with_name(stem.name + suffix)
            with result_file(target, FIGURE_KINDS[suffix]) as partial:
                figure.savefig(partial, format=suffix[1:], metadata=metadata)
            written.append(target)
    return written


def _draw_latency(axes: Axes, tables: Tables) -> None:
    layers = tables["layers"].set_index("layer")
    shares = pd.DataFrame({"compute": layers["compute_cycles"], "stall": layers["stall_cycles"]})
    stacked(axes, shares)
    axes.set_title("Where the time goes", loc="left")
    axes.set(ylabel="cycles")


def _draw_energy(axes: Axes, tables: Tables) -> None:
    energy = tables["energy"].groupby("unit", sort=False)["energy_pj"].sum().sort_values(kind="stable")
    axes.barh(energy.index, energy / 1e6, color=_COLOURS[0])
    axes.set_title("Where the energy goes", loc="left")
    axes.set(xlabel="energy [µJ]")


def _draw_traffic(axes: Axes, tables: Tables) -> None:
    traffic = tables["traffic"]
    place = traffic["level"] + " " + traffic["direction"]
    stacked(axes, traffic.groupby([place, traffic["tensor"]], sort=False)["bytes"].sum().unstack(fill_value=0) / 1024)
    axes.set_title("What moves", loc="left")
    axes.set(ylabel="traffic [KiB]")


def _draw_utilization(axes: Axes, tables: Tables) -> None:
    units = tables["units"].groupby("unit", sort=False)[["busy_cycles", "stall_cycles", "idle_cycles"]].sum()
    shares = units.div(units.sum(axis="columns").clip(lower=1), axis="index") * 100
    stacked(axes, shares.rename(columns=lambda name: name.removesuffix("_cycles")))
    axes.set_title("How busy the units are", loc="left")
    axes.set(ylabel="share of cycles [%]", ylim=(0, 100))


def _draw_comparison(axes: Axes, tables: Tables) -> None:
    table = tables["comparison"].set_index("machine")[["speedup", "energy_gain", "energy_delay_gain"]]
    grouped(axes, table.rename(columns=lambda column: column.replace("_", " ")))
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_title(f"Against {table.index[0]}", loc="left")
    axes.set(ylabel="ratio, more is better")


_RUN_FIGURES: Mapping[str, Callable[[Axes, Tables], None]] = dict(
    zip(RUN_FIGURES, (_draw_latency, _draw_energy, _draw_traffic, _draw_utilization), strict=True)
)


def stacked(axes: Axes, table: pd.DataFrame) -> None:
    """One bar per row of ``table``, made of its columns on top of each other."""
    base = np.zeros(len(table))
    for i, column in enumerate(table.columns):
        heights = table[column].to_numpy(dtype=float)
        _bar(axes, np.arange(len(table)), heights, i, label=str(column), width=0.8, bottom=base)
        base = base + heights
    _label(axes, table)


def grouped(axes: Axes, table: pd.DataFrame) -> None:
    """A group of bars per row of ``table``, one for each of its columns."""
    width = 0.8 / len(table.columns)
    for i, column in enumerate(table.columns):
        places = np.arange(len(table)) + (i - (len(table.columns) - 1) / 2) * width
        _bar(axes, places, table[column].to_numpy(dtype=float), i, label=str(column), width=width)
    _label(axes, table)


def _bar(axes: Axes, places: NDArray[Any], heights: NDArray[Any], i: int, **style: Any) -> None:
    colour, hatch = _COLOURS[i % len(_COLOURS)], _HATCHES[i % len(_HATCHES)]
    axes.bar(places, heights, color=colour, hatch=hatch, edgecolor="black", linewidth=0.4, **style)


def _label(axes: Axes, table: pd.DataFrame) -> None:
    many = len(table) > 6
    axes.set_xticks(np.arange(len(table)), table.index, rotation=45 if many else 0, ha="right" if many else "center")
    axes.legend(frameon=False, ncols=min(4, len(table.columns)), loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
