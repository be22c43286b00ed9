"""Figures for two columns, readable in grey: bars are ours, lines across them what the paper prints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pandas as pd
from jobs import title
from matplotlib.axes import Axes
from paper_tables import Row, name_groups, published_line

from archsim.report.drawing import grouped, stacked

KINDS = ("input", "weight", "format", "psum", "output")


def speedups(axes: Axes, rows: list[Row]) -> None:
    _by_network(axes, rows, "set")
    _logarithmic(axes, (0.5, 1, 2, 4, 8))
    axes.set(ylabel="speedup of LoAS (log)")


def traffic(axes: Axes, rows: list[Row]) -> None:
    by_level = sorted(rows, key=lambda row: row["level"])
    _by_network(axes, [row | {"which": f"{row['level']}, {row['set']}"} for row in by_level], "which")
    _logarithmic(axes, (0.5, 1, 2, 4, 8, 16))
    axes.set(ylabel="traffic / LoAS's (log)")


def energies(axes: Axes, rows: list[Row]) -> None:
    _by_network(axes, rows, "set")
    axes.set(ylabel="energy / LoAS's")


def tensors(axes: Axes, rows: list[Row]) -> None:
    """DRAM only; a bar that would dwarf the others is cut off, with its height written beside it."""
    picked = [row for row in rows if (row["set"], row["level"]) == ("default", "DRAM")]
    table = pd.DataFrame(
        {kind: [row[f"{kind}_kib"] for row in picked] for kind in KINDS},
        index=[f"{_lines(row['layer'])}\n{_lines(row['machine'])}" for row in picked],
    )
    stacked(axes, table)
    name_groups(axes, table.index)
    totals = table.sum(axis="columns").tolist()
    top = 1.15 * sorted(totals)[-2]
    for place, height in enumerate(totals):
        if height > top:
            axes.annotate(f"up to {height:,.0f}", (place - 0.45, top), ha="right", va="top", fontsize=7)
    axes.set(ylabel="DRAM traffic [KiB]", ylim=(0, top))
    axes.set_title("Set: default", loc="left", fontsize=8)
    _finish(axes, len(KINDS))


def dense(axes: Axes, rows: list[Row]) -> None:
    labelled = [
        row | {"_": f"{row['quantity'].removesuffix(' bytes')}\n{row['set']}", "who": row["machine"].split(" ")[0]}
        for row in rows
    ]
    _against(axes, labelled, "who")
    _logarithmic(axes, (1, 3, 10, 30))
    axes.axhline(1, color="black", linewidth=0.6)
    axes.set(ylabel="dense machine / LoAS (log)", xlabel=title("vgg16"))


def scaling(axes: Axes, rows: list[Row]) -> None:
    changes = {"weights 68.4 % sparse": "weights\n68.4 %", "weights 25.0 % sparse": "weights\n25 %", "T = 8": "T = 8\n"}
    _against(
        axes,
        [
            row | {"_": f"{changes[row['change']]}\n{_lines(row['workload'])}"}
            for row in rows
            if row["change"] in changes
        ],
        "set",
    )
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(ylabel="change of performance [%]")


def speedup_ablation(axes: Axes, rows: list[Row]) -> None:
    printed = {key.replace("paper_", "speedup_"): value for key, value in rows[0].items() if key.startswith("paper_")}
    shown = {row["change"]: row for row in rows} | {"printed in the paper, not simulated": printed}
    _dots(axes, shown, "speedup_", "speedup over SparTen-SNN")


def loas_ablation(axes: Axes, rows: list[Row]) -> None:
    _dots(axes, {row["variant"]: row for row in rows[1:]}, "time_", "cycles / LoAS's")


def _by_network(axes: Axes, rows: Sequence[Row], columns: str) -> None:
    """A group for each network and baseline."""
    labelled = [row | {"_": f"{_lines(row['network'])}\n{_lines(row['baseline'])}"} for row in rows]
    _against(axes, labelled, columns)
    axes.axhline(1, color="black", linewidth=0.6)


def _lines(name: str) -> str:
    """``VGG16 (recorded)`` or ``SparTen-SNN`` on two lines."""
    return name.replace(" (", "\n").removesuffix(")").replace("arithmetic mean", "arithm.\nmean").replace("-S", "-\nS")


def _against(axes: Axes, rows: Sequence[Row], columns: str) -> None:
    """Bars of ours, grouped by ``_``; a line across those bars of a group that the paper has one number for."""
    table = pd.DataFrame(rows)
    groups, members = (list(dict.fromkeys(table[name])) for name in ("_", columns))
    ours, paper = (
        table.pivot(index="_", columns=columns, values=values).reindex(index=groups, columns=members)
        for values in ("ours", "paper")
    )
    grouped(axes, ours)
    name_groups(axes, groups)
    label = "paper"
    for place, group in enumerate(groups):
        for value, run in groupby(enumerate(paper.loc[group]), key=lambda pair: pair[1]):
            bars = [bar for bar, _ in run]
            if pd.notna(value):
                published_line(axes, place, bars, len(members), value, label)
                label = "_"  # one entry in the legend
    _finish(axes, len(members) + 1)


def _finish(axes: Axes, entries: int) -> None:
    axes.legend(frameon=False, ncols=entries, loc="lower right", bbox_to_anchor=(1, 1), fontsize=7)
    axes.tick_params(axis="x", labelsize=7)
    for text in axes.get_xticklabels():
        text.set(rotation=0, ha="center")


def _logarithmic(axes: Axes, ticks: Sequence[float]) -> None:
    axes.set_yscale("log")
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _dots(axes: Axes, rows: dict[str, Row], prefix: str, what: str) -> None:
    """One line per row with one mark per network: long names need the room that bars would take."""
    places = range(len(rows), 0, -1)
    for network, mark, fill in (("alexnet", "o", "black"), ("vgg16", "s", "0.55"), ("resnet19", "^", "white")):
        values = [row[f"{prefix}{network}"] for row in rows.values()]
        axes.plot(values, places, mark, color=fill, markeredgecolor="black", markersize=5, label=title(network))
    axes.set_yticks(list(places), list(rows), fontsize=7)
    axes.grid(axis="y", linewidth=0.4, color="0.8")
    axes.axvline(1, color="black", linewidth=0.6)
    axes.set(xlabel=what)
    axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), fontsize=7)
