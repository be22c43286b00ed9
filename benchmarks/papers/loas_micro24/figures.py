"""Figures for two columns, readable in grey: bars are ours, diamonds what the paper prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from jobs import title
from matplotlib.axes import Axes

from archsim.report.plots import grouped, stacked

Row = dict[str, Any]


def _pivot(rows: Sequence[Row], index: str, columns: str, values: str) -> pd.DataFrame:
    """Rows in the order in which they come, as a matrix."""
    table = pd.DataFrame(rows)
    labels = list(dict.fromkeys(table[index]))
    return table.pivot_table(index=index, columns=columns, values=values, sort=False, dropna=False).reindex(labels)


def _against(axes: Axes, ours: pd.DataFrame, paper: pd.DataFrame) -> None:
    """Grouped bars, and a diamond on each that the paper has a number for."""
    grouped(axes, ours)
    width = 0.8 / len(ours.columns)
    places, values = [], []
    for i, column in enumerate(ours.columns):
        for group, label in enumerate(ours.index):
            value = paper.loc[label, column]
            if pd.notna(value):
                places.append(group + (i - (len(ours.columns) - 1) / 2) * width)
                values.append(value)
    axes.plot(places, values, "D", color="white", markeredgecolor="black", markersize=4.5, label="paper")
    axes.axhline(1, color="black", linewidth=0.6)
    axes.legend(frameon=False, ncols=len(ours.columns) + 1, loc="lower right", bbox_to_anchor=(1, 1), fontsize=7)


def _wrapped(label: str) -> str:
    return label.replace(" (", "\n(").replace(", ", "\n").replace("arithmetic mean", "mean")


def speedups(axes: Axes, rows: list[Row]) -> None:
    short = {"ideal": "ideal", "default": "default", "F40 (fitted)": "F40, fitted"}
    picked = [
        row | {"set": short[row["set"]], "baseline": row["baseline"].removesuffix("-SNN"),
               "network": row["network"].split(" (")[0]}
        for row in rows
    ]  # fmt: skip
    labelled = [row | {"_": f"{_wrapped(row['network'])}\n{row['baseline']}"} for row in picked]
    _against(axes, _pivot(labelled, "_", "set", "ours"), _pivot(labelled, "_", "set", "paper"))
    _flat(axes)
    axes.set(ylabel="speedup of LoAS", yscale="log", yticks=[0.5, 1, 2, 4, 8], yticklabels=["0.5", "1", "2", "4", "8"])
    axes.set_title("Over " + ", ".join(dict.fromkeys(r["baseline"] for r in picked)), loc="left", fontsize=8)


def _flat(axes: Axes) -> None:
    axes.tick_params(axis="x", labelsize=6.5)
    for text in axes.get_xticklabels():
        text.set(rotation=0, ha="center")


def traffic(axes: Axes, rows: list[Row]) -> None:
    labelled = [
        row
        | {"_": f"{_short(row['network'])}\n{row['baseline'].removesuffix('-SNN')}"}
        | {"which": f"{row['level']}, {row['set'].split(' ')[0]}"}
        for row in rows
    ]
    _against(axes, _pivot(labelled, "_", "which", "ours"), _pivot(labelled, "_", "which", "paper"))
    _flat(axes)
    axes.set(ylabel="traffic / LoAS's", yscale="log", yticks=[0.5, 1, 2, 4, 8, 16])
    axes.set_yticklabels(["0.5", "1", "2", "4", "8", "16"])


def _short(network: str) -> str:
    """The first letter of where spikes are from stays, as the caption of every figure must say it."""
    return network.replace(" (recorded)", " r").replace(" (synthetic)", " s").replace("arithmetic mean", "mean")


def tensors(axes: Axes, rows: list[Row]) -> None:
    picked = [row for row in rows if (row["set"], row["level"]) == ("default", "DRAM")]
    table = pd.DataFrame(
        {kind: [row[f"{kind}_kib"] for row in picked] for kind in ("input", "weight", "format", "psum", "output")},
        index=[f"{row['machine'].removesuffix('-SNN')}\n{_wrapped(row['layer'])}" for row in picked],
    )
    stacked(axes, table)
    _flat(axes)
    axes.set(ylabel="DRAM traffic [KiB]")
    axes.set_title("Physical defaults", loc="left", fontsize=8)


def energies(axes: Axes, rows: list[Row]) -> None:
    labelled = [
        row | {"_": f"{_wrapped(row['network'])}\n{row['baseline'].removesuffix('-SNN')}"} for row in rows
    ]  # fmt: skip
    _against(axes, _pivot(labelled, "_", "set", "ours"), _pivot(labelled, "_", "set", "paper"))
    _flat(axes)
    axes.set(ylabel="energy / LoAS's")


def dense(axes: Axes, rows: list[Row]) -> None:
    labelled = [
        row | {"_": f"{row['quantity'].removesuffix(' bytes')}\n{row['set']}", "who": row["machine"].split(" ")[0]}
        for row in rows
    ]
    _against(axes, _pivot(labelled, "_", "who", "ours"), _pivot(labelled, "_", "who", "paper"))
    _flat(axes)
    axes.set(ylabel="dense machine / LoAS", yscale="log", yticks=[1, 3, 10, 30], yticklabels=["1", "3", "10", "30"])


def scaling(axes: Axes, rows: list[Row]) -> None:
    labelled = [
        row | {"_": row["change"].replace("weights ", "").replace(" sparse", "").replace(" %", " %\nweights")}
        for row in rows if row["ours"] is not None and row["ours"] != 0
    ]  # fmt: skip
    _against(axes, _pivot(labelled, "_", "set", "ours"), _pivot(labelled, "_", "set", "paper"))
    _flat(axes)
    axes.set(ylabel="change of performance [%]")


def speedup_ablation(axes: Axes, rows: list[Row]) -> None:
    _horizontal(axes, rows, "change", "speedup_", "speedup over SparTen-SNN")


def loas_ablation(axes: Axes, rows: list[Row]) -> None:
    _horizontal(axes, rows[1:], "variant", "time_", "cycles / LoAS's")


def _horizontal(axes: Axes, rows: list[Row], label: str, prefix: str, what: str) -> None:
    """A dot a network on a line a row: long names need the room that bars would take."""
    marks = {"alexnet": ("o", "black"), "vgg16": ("s", "0.55"), "resnet19": ("^", "white")}
    places = range(len(rows), 0, -1)
    for name, (mark, fill) in marks.items():
        values = [row[f"{prefix}{name}"] for row in rows]
        axes.plot(values, places, mark, color=fill, markeredgecolor="black", markersize=5, label=title(name))
    axes.set_yticks(list(places), [row[label] for row in rows], fontsize=7)
    axes.grid(axis="y", linewidth=0.4, color="0.8")
    axes.axvline(1, color="black", linewidth=0.6)
    axes.set(xlabel=what)
    axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), fontsize=7)
