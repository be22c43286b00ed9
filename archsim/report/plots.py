"""Figures of a results folder, a comparison or a sweep, as PNG and SVG.

Each figure answers one question, says what was run, and can be read in grey: its fills differ in lightness or hatch.
The same input gives the same bytes. Whatever the names in a table are, they are drawn as text, clipped where they are
long, with characters that the font lacks written out.
"""

from __future__ import annotations

import contextlib
import math
import sys
import textwrap
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from archsim.errors import UsageError, printable
from archsim.report import tables as result_tables
from archsim.report.files import (
    ADAPTATION_FIGURE,
    COMPARISON,
    COMPARISON_FIGURE,
    FIGURE_KINDS,
    FIGURE_MARK,
    FIGURES,
    RUN_FIGURES,
    result_file,
)

# Colour, hatch and its colour; in grey the plain ones are a dark, a middle and a light tone, the others hatched.
_FILLS = (
    ("#1f3b5c", "", "black"),
    ("#e8c468", "", "black"),
    ("#5f9f98", "", "black"),
    ("#f4ece0", "....", "black"),
    ("#7a2e3a", "////", "white"),
    ("#c9dfe9", "\\\\\\\\", "black"),
    ("#4a4a4a", "xxxx", "white"),
    ("#d98f6c", "----", "black"),
)
MEASURED = {"latency_s": "latency", "energy_pj": "energy", "area_mm2": "area"}
"""Columns of a sweep that are drawn, and what they are called."""
_GAINS = ("speedup", "energy_gain", "energy_delay_gain")
_TIMES = ("busy_cycles", "stall_cycles", "idle_cycles")
_DRAWN: Mapping[str, tuple[str, ...]] = {
    "layers": ("layer", "compute_cycles", "stall_cycles"),
    "energy": ("unit", "energy_pj"),
    "traffic": ("tensor", "level", "direction", "bytes"),
    "units": ("unit", "layer", *_TIMES),
}
"""Tables of a run that are drawn, and their columns that are."""
_LETTERS_AN_INCH = 13
"""Of a title."""
MOST_PANELS = 6
PANEL_WIDTH = 1.75  # inches
ROOM = 16
"""Characters below a panel."""
LONGEST_NAME = 40
"""Characters of a name in a figure."""
LONGEST_TITLE = 1_000
MOST = {"layer": 1_024, "unit": 256, "machine": 256, "tensor": 64, "adaptation": 64, "trace": 64}
"""Different names in a column that a figure can show."""
MOST_VALUES = 64
"""Of a setting that are named in a figure."""
LONGEST_BLOCK = 400
"""Characters of a setting's value that are taken apart."""
_LINES = (0, 4, 2, 1, 6, 7)
"""Those of the fills that are dark enough for a line or a marker."""
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


class _Figure(NamedTuple):
    """What a figure asks, how it answers, and on how many panels side by side."""

    title: str
    draw: Callable[[Any, Tables], None]
    panels: int = 1

    @property
    def size(self) -> tuple[float, float]:
        """Inches."""
        return max(7.0, self.panels * PANEL_WIDTH), 3.6


def plot(path: str | Path) -> list[Path]:
    """Figures of the results folder ``path``, of a run, adaptations or a comparison (into its ``figures/``), or of the
    CSV of a comparison or a sweep.

    Returns the files written. UsageError when ``path`` is neither.
    """
    path = Path(path)
    if (path / "adaptation.csv").is_file():
        tables = {"adaptation": _read(path / "adaptation.csv", _ADAPTATION_COLUMNS)}
        what = _run_title(path / "summary.json")
        (path / FIGURES).mkdir(exist_ok=True)
        figures = {path / FIGURES / ADAPTATION_FIGURE: _ADAPTATION}
    elif (path / COMPARISON).is_file():
        tables = {"comparison": _read(path / COMPARISON, _COMPARED, ("trace", *_GAINS))}
        what = _comparison_title(tables["comparison"])
        (path / FIGURES).mkdir(exist_ok=True)
        figures = {path / FIGURES / COMPARISON_FIGURE: _COMPARISON}
    elif path.is_dir():
        tables = {name: _read(path / f"{name}.csv", columns) for name, columns in _DRAWN.items()}
        what = _run_title(path / "summary.json")
        (path / FIGURES).mkdir(exist_ok=True)
        figures = {path / FIGURES / name: figure for name, figure in _RUN_FIGURES.items()}
    elif _is_sweep(path):
        tables = {"sweep": _sweep_points(path)}
        settings = _settings(tables["sweep"])
        what = f"{_stem(tables['sweep'].iloc[0]['hardware'])}, {len(tables['sweep'])} points"
        figures = {path.with_name(f"{path.stem}_tradeoff"): _TRADEOFF}
        if "accuracy" in tables["sweep"] and tables["sweep"]["accuracy"].notna().any():
            figures[path.with_name(f"{path.stem}_accuracy")] = _ACCURACY
        if settings:
            figures[path.with_name(f"{path.stem}_sensitivity")] = _SENSITIVITY._replace(panels=len(settings))
    else:
        tables = {"comparison": _read(path, _COMPARED, ("trace", *_GAINS))}
        what = _comparison_title(tables["comparison"])
        figures = {path.with_suffix(""): _COMPARISON}
    return [
        file
        for stem, figure in figures.items()
        for file in save(stem, partial(_on, figure.draw, tables), figure.size, figure.panels, (figure.title, what))
    ]


def plot_networks(paths: Sequence[str | Path]) -> list[Path]:
    """Comparisons of the same machines on several networks as papers print them: a figure each for speed and energy.

    A group of bars a network and one, at the right, for their geometric mean; a column wide. They are written beside
    the first of the comparisons. UsageError when one is no comparison, or compares other machines.
    """
    files = [Path(path) for path in paths]
    compared = [_read(path / COMPARISON if path.is_dir() else path, _COMPARED, ("trace", *_GAINS)) for path in files]
    machines = [_machines(table).tolist() for table in compared]
    problems = [
        f"{path}: compares {', '.join(found)}; {files[0]} compares {', '.join(machines[0])}"
        for path, found in zip(files, machines, strict=True)
        if found != machines[0]
    ]
    networks = [_stem(table.iloc[0]["trace"]) for table in compared]
    problems += [f"{name}: is compared twice" for name in dict.fromkeys(networks) if networks.count(name) > 1]
    if problems:
        raise UsageError(problems)
    written = []
    for measure in ("speedup", "energy_gain"):
        table = pd.DataFrame([one[measure].to_numpy(float) for one in compared], networks, machines[0])
        table.loc["geomean"] = np.exp(np.log(table.where(table > 0)).mean())
        stem = files[0].with_name(f"networks_{measure}")
        written += save(stem, partial(_draw_networks, table, measure.replace("_", " ")), (3.4, 2.3))
    return written


def _draw_networks(table: pd.DataFrame, measure: str, axes: Axes) -> None:
    grouped(axes, table, values=True, fontsize=5.5)
    axes.axvline(len(table) - 1.5, color="black", linewidth=0.6, linestyle=":")
    axes.axhline(1, color="black", linewidth=0.5)
    drawn = table.stack()
    if drawn.max() > 20 * drawn.min() > 0:
        logarithmic(axes)
    else:
        axes.set_ylim(0, 1.25 * max(drawn, default=0) or 1)  # room for what stands on the bars
    axes.set_ylabel(f"{measure} over {label(table.columns[0])}", fontsize=7)
    axes.tick_params(labelsize=7)
    if max(map(len, table.index)) * len(table) > 40:  # letters that fit side by side
        axes.set_xticks(np.arange(len(table)), labels(table.index), rotation=15, ha="right", fontsize=6.5)
    axes.legend(
        frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=6.5, handlelength=1.4,
        columnspacing=1, borderaxespad=0.2,
    )  # fmt: skip


def _machines(compared: pd.DataFrame) -> pd.Series[str]:
    names = compared["machine"].str.cat(compared["fitted"].map({True: " (fitted)", False: ""}))
    return names.str.cat(compared["same_layers"].map({True: "", False: " (other layers)"}))


def _is_sweep(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(6) == b"point,"


def _sweep_points(path: Path) -> pd.DataFrame:
    """The points of a sweep that ran."""
    table = _read(path, ("point", "hardware", "trace"), _SWEPT)
    table = table[table["error"].isna()]
    if table.empty:
        raise UsageError(f"{path}: no point of this sweep ran; nothing to plot")
    for name in MEASURED:
        without = table["point"][~(table[name] > 0)]
        if len(without):
            raise UsageError(f"{path}: point {int(without.iloc[0])}: {name}: must be more than 0, there is no error")
    return table


def _settings(table: pd.DataFrame) -> list[str]:
    """Settings of a sweep that take several values, at most as many as there is room for."""
    names = [str(name) for name in table.columns]
    between = names[names.index("trace") + 1 : names.index("accelerator")]
    return [name for name in between if table[name].nunique() > 1][:MOST_PANELS]


def _on(draw: Callable[[Any, Tables], None], tables: Tables, axes: Any) -> None:
    draw(axes, tables)


def _run_title(path: Path) -> str:
    """``loas, vgg16_dual_sparse, T = 4, 4 images``, from the summary of a run."""
    kinds = {"hardware": str, "trace": str, "fitted": bool, "overrides": list, "timesteps": int, "images": int}
    summary = result_tables.read_facts(path, kinds)
    machine, trace = _stem(summary["hardware"]), _stem(summary["trace"])
    machine += " (fitted)" * summary["fitted"]
    changed = [f"with {' '.join(map(str, summary['overrides']))}"] if summary["overrides"] else []
    return ", ".join([machine, *changed, trace, *_size(summary)])


def _comparison_title(table: pd.DataFrame) -> str:
    first = {str(name): value for name, value in table.iloc[0].items()}
    return ", ".join([_stem(first["trace"]), f"{first['layers']:.0f} layers", *_size(first)])


def _size(facts: Mapping[str, Any]) -> list[str]:
    images, timesteps = (printable(f"{facts[name]:.0f}", 20) for name in ("images", "timesteps"))
    return [f"T = {timesteps}", f"{images} image{'s' * (images != '1')}"]


def _stem(path: object) -> str:
    return Path(path).stem if isinstance(path, str) else ""


def _read(path: Path, filled: Collection[str], sparse: Collection[str] = ()) -> pd.DataFrame:
    """The table at ``path``, numbers as floating point: sums of large integers would come out negative."""
    cells: dict[str, list[Any]] = {}
    for row in result_tables.read(path, filled, sparse, "a results folder, a comparison or a sweep"):
        for name, cell in row.cells.items():
            cells.setdefault(name, []).append(sys.intern(cell) if isinstance(cell, str) else cell)
    if not cells:
        raise UsageError(f"{path}: has no rows; nothing to plot")
    for name in result_tables.numbers((*filled, *sparse)):
        cells[name] = [math.nan if cell is None else float(cell) for cell in cells[name]]
    table = pd.DataFrame(cells)
    for name, most in MOST.items():
        if name in filled and (found := table[name].nunique()) > most:
            raise UsageError(f"{path}: has {found:,} different names in column '{name}'; a figure can show {most:,}")
    return table


def save(
    stem: Path,
    draw: Callable[[Any], None],
    size: tuple[float, float] = (7.0, 3.6),
    panels: int = 1,
    title: tuple[str, str] | None = None,
) -> list[Path]:
    """Write what ``draw`` draws as ``stem``.png and ``stem``.svg, ``size`` inches large; returns the files written.

    ``draw`` gets the axes, an array of them if there are several ``panels``; ``title`` has two lines, which go on in
    the next where they are too long.
    """
    written = []
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")  # no pyplot: no window, no state shared with the user's
        draw(figure.subplots(1, panels))
        if title:
            width = int(_LETTERS_AN_INCH * size[0])
            lines = [textwrap.fill(label(line, LONGEST_TITLE), width, break_on_hyphens=False) for line in title]
            figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=9)
        mark = FIGURE_MARK.decode()
        for suffix, metadata in ((".png", {"Software": mark}), (".svg", {"Date": None, "Creator": mark})):
            target = stem.with_name(stem.name + suffix)
            with result_file(target, FIGURE_KINDS[suffix], mark=FIGURE_MARK) as partial:
                _save(figure, partial, suffix, metadata)
            written.append(target)
    return written


def _save(figure: Figure, path: Path, suffix: str, metadata: Mapping[str, str | None]) -> None:
    with path.open("wb") as file, warnings.catch_warnings():
        # Names that leave no room for the axes; they are drawn over each other then.
        warnings.filterwarnings("ignore", message=".*constrained_layout not applied.*")
        figure.savefig(file, format=suffix[1:], metadata=metadata)


def label(text: object, limit: int = LONGEST_NAME) -> str:
    """``text`` as it can be drawn: printable, clipped, characters that the font lacks written out.

    A label that begins with ``_`` would be left out of a legend.
    """
    known = _characters()
    line = "".join(c if ord(c) in known else ascii(c)[1:-1] for c in printable(text, limit))
    line = printable(line, limit)
    return f" {line}" if line.startswith("_") else line


def labels(names: Iterable[object]) -> list[str]:
    """Names along an axis."""
    return [label(name) for name in names]


@cache
def _characters() -> frozenset[int]:
    """Those that the font of figures has."""
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        return frozenset(get_font(findfont(matplotlib.font_manager.FontProperties())).get_charmap())


def _draw_latency(axes: Axes, tables: Tables) -> None:
    layers = tables["layers"].set_index("layer")
    stacked(axes, pd.DataFrame({"compute": layers["compute_cycles"], "stall": layers["stall_cycles"]}))
    axes.set(ylabel="cycles")
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _draw_energy(axes: Axes, tables: Tables) -> None:
    energy = tables["energy"].groupby("unit", sort=False)["energy_pj"].sum().sort_values(kind="stable") / 1e6
    bars = axes.barh(np.arange(len(energy)), energy, color=_FILLS[0][0])
    axes.set_yticks(np.arange(len(energy)), labels(energy.index))
    axes.bar_label(bars, [number(value) for value in energy], padding=3, fontsize=8)
    axes.margins(x=0.1)
    axes.set(xlabel="energy [µJ]")


def _draw_traffic(panels: NDArray[Any], tables: Tables) -> None:
    """SRAM and DRAM apart, because the one is many times the other."""
    traffic = tables["traffic"]
    tensors = list(dict.fromkeys(traffic["tensor"]))
    for axes, level in zip(panels, ("sram", "dram"), strict=True):
        rows = traffic[traffic["level"] == level]
        moved = rows.groupby(["direction", "tensor"])["bytes"].sum().unstack(fill_value=0) / (1 << 20)
        moved = moved.reindex(index=["read", "write"], columns=tensors, fill_value=0)
        stacked(axes, moved, totals=True)
        axes.set_title(level.upper(), loc="left", fontsize=9)
        axes.set(ylabel="traffic [MiB]")
        axes.get_legend().remove()
    panels[0].figure.legend(
        *panels[0].get_legend_handles_labels(), frameon=False, ncols=4, loc="outside lower center", fontsize=8
    )  # fmt: skip


def _draw_utilization(axes: Axes, tables: Tables) -> None:
    """Units that compute: what only moves data is never busy, and its stalls say nothing of the machine."""
    units = tables["units"].groupby("unit", sort=False)[["busy_cycles", "stall_cycles", "idle_cycles"]].sum()
    units = units[units["busy_cycles"] > 0]
    shares = units.div(units.sum(axis="columns").clip(lower=1), axis="index") * 100
    stacked(axes, shares.rename(columns=lambda name: name.removesuffix("_cycles")))
    axes.set(ylabel="share of cycles [%]", ylim=(0, 100))
    axes.set_xlabel("stall: waits for operands, memory or room; idle: waits at a barrier, or has ended", fontsize=7.5)


def _draw_utilization_map(axes: Axes, tables: Tables) -> None:
    """Instances of a unit together; units that compute, as above."""
    units = tables["units"].groupby(["unit", "layer"], sort=False)[["busy_cycles", "stall_cycles", "idle_cycles"]].sum()
    shares = (units["busy_cycles"] / units.sum(axis="columns").clip(lower=1) * 100).unstack(sort=False)
    shares = shares[(shares > 0).any(axis="columns")]
    axes.imshow(shares, cmap="Greys", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(shares.to_numpy()):
        if len(shares.columns) <= 24:
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7,
                      color="white" if share > 55 else "black")  # fmt: skip
    axes.set_yticks(np.arange(len(shares)), labels(shares.index))
    axes.set_xticks(np.arange(len(shares.columns)), labels(shares.columns), rotation=45, ha="right", fontsize=7)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _draw_tradeoff(axes: Axes, tables: Tables) -> None:
    """Every point by latency and energy; those that no other point of the same trace beats in both are joined."""
    table = tables["sweep"]
    for place, (trace, points) in enumerate(table.groupby("trace", sort=False)):
        latency, energy = points["latency_s"] * 1e3, points["energy_pj"] / 1e6
        fill, marker = _FILLS[place % len(_FILLS)][0], "os^Dv<>P"[place % 8]
        axes.scatter(latency, energy, s=22, marker=marker, facecolor="white", edgecolor=fill, linewidth=0.9)
        front = pd.DataFrame({"x": latency, "y": energy}).sort_values(["x", "y"], kind="stable")
        front = front[front["y"] < front["y"].cummin().shift(fill_value=np.inf)]
        name = label(_stem(trace))
        axes.plot(front["x"], front["y"], color=fill, marker=marker, markersize=5, linewidth=1, label=name)
    axes.set(xlabel="latency [ms] (log)", ylabel="energy [µJ] (log)", xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.legend(frameon=False, fontsize=8, title="joined: no point is better in both", title_fontsize=8)


def _draw_accuracy(axes: Axes, tables: Tables) -> None:
    """Every point by energy-delay-area product and accuracy, those that no other of the same trace beats joined.

    Markers are the traces, or of a single one the values of the first setting.
    """
    table = tables["sweep"].dropna(subset="accuracy")
    table = table.assign(x=table["edap_j_s_mm2"], y=table["accuracy"] * 100)
    best = []
    for _, points in table.groupby("trace", sort=False):
        front = points.sort_values(["x", "y"], ascending=[True, False], kind="stable")
        front = front[front["y"] > front["y"].cummax().shift(fill_value=-np.inf)]
        axes.plot(front["x"], front["y"], color="black", linewidth=0.8, zorder=1)
        best += list(front.index)
    settings = _settings(table)
    by = settings[0] if settings and table["trace"].nunique() == 1 else "trace"
    if table[by].nunique() > MOST_VALUES:
        by = "trace"
    groups = dict(list(table.groupby(by, sort=False)))
    names = labels(map(_stem, groups) if by == "trace" else value_labels([str(value) for value in groups]))
    for place, (name, points) in enumerate(zip(names, groups.values(), strict=True)):
        colour, marker = _FILLS[_LINES[place % len(_LINES)]][0], "os^Dv<>P"[place % 8]
        inside = [colour if point in best else "white" for point in points.index]
        axes.scatter(points["x"], points["y"], s=26, marker=marker, facecolor=inside, edgecolor=colour, linewidth=0.9)
        axes.scatter([], [], s=26, marker=marker, facecolor=colour, edgecolor=colour, label=name)
    axes.set(xlabel="energy x delay x area [J s mm2] (log)", ylabel="accuracy [%]", xscale="log")
    wide = table["x"].max() > 100 * table["x"].min()
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    title = f"{label(by)}; filled and joined:\nno point is better in both"
    axes.legend(
        frameon=False, fontsize=8, title=title, title_fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5),
        alignment="left",
    )  # fmt: skip


def value_labels(values: Sequence[str]) -> list[str]:
    """Values of a setting as they are written, blocks by the entries that tell them apart: ``{kind: rram, bits: 1}``
    is ``rram 1`` beside ``{kind: rram, bits: 2}``."""
    blocks = [_entries(_parsed(value)) for value in values]
    keys = list(dict.fromkeys(key for block in blocks for key in block))
    for key in reversed(keys):
        fewer = [name for name in keys if name != key]
        left = {tuple(block.get(name) for name in fewer) for block in blocks}
        if len(left) == len(blocks) and (None,) * len(fewer) not in left:
            keys = fewer
    told = [" ".join(block[name] for name in keys if name in block) for block in blocks]
    return [label or value for label, value in zip(told, values, strict=True)]


def _parsed(value: str) -> object:
    if len(value) <= LONGEST_BLOCK and "*" not in value:  # an alias may stand for much
        with contextlib.suppress(yaml.YAMLError, RecursionError):
            return yaml.load(value, yaml.BaseLoader)
    return value


def _entries(value: object, path: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        return {path: str(value)}
    return {place: text for key, below in value.items() for place, text in _entries(below, f"{path}.{key}").items()}


def _draw_sensitivity(panels: Any, tables: Tables) -> None:
    """Geometric means over all other settings and traces, relative to the first value of a setting."""
    table = tables["sweep"]
    settings = _settings(table)
    for axes, setting in zip(np.atleast_1d(panels), settings, strict=True):
        logarithms = table[[setting]].join(table[list(MEASURED)].transform(np.log))
        means = logarithms.groupby(setting, sort=False).mean().transform(np.exp)
        means = means / means.iloc[0]
        for place, (name, meaning) in enumerate(MEASURED.items()):
            style = {"color": _FILLS[(0, 4, 2)[place]][0], "marker": "os^"[place], "linestyle": ("-", "--", ":")[place]}
            axes.plot(np.arange(len(means)), means[name], label=meaning, markersize=5, linewidth=1.2, **style)
        shown = range(0, len(means), -(-len(means) // MOST_VALUES))
        names = labels(value_labels([str(means.index[place]) for place in shown]))
        axes.set_xticks(shown, names, rotation=90 if sum(map(len, names)) > ROOM else 0)
        axes.axhline(1, color="black", linewidth=0.5)
        block, _, name = setting.rpartition(".")
        axes.set_xlabel(f"{label(block)}.\n{label(name)}" if block and len(setting) > ROOM else label(setting))
    np.atleast_1d(panels)[0].set_ylabel("relative to the first value")
    np.atleast_1d(panels)[0].legend(frameon=False, fontsize=8)


def _draw_adaptation(axes: Axes, tables: Tables) -> None:
    """Accuracies with their standard errors, and that of the exact network."""
    table = tables["adaptation"]
    exact = 100 * float(table["exact_accuracy"].iloc[0])
    names = []
    columns = (table["adaptation"], 100 * table["accuracy"], 100 * table["standard_error"])
    for i, (name, height, error) in enumerate(zip(*columns, strict=True)):
        _bar(axes, np.array([i]), np.array([height]), i, width=0.6, yerr=error, capsize=3)
        names.append(f"{label(str(name).replace('_', ' '))}\n{height:.1f} ± {error:.1f}")
    axes.axhline(exact, color="black", linewidth=0.9, linestyle="--", label=f"exact arithmetic: {exact:.1f}")
    axes.set_xticks(np.arange(len(table)), names)
    axes.set_xlabel("adaptation, accuracy and its standard error [%]", fontsize=8)
    axes.set(ylabel="accuracy [%]", xlim=(-0.6, len(table) - 0.4), ylim=(0, 105))
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)


def _draw_comparison(axes: Axes, tables: Tables) -> None:
    compared = tables["comparison"]
    table = compared.set_index(_machines(compared))[list(_GAINS)]
    grouped(axes, table.rename(columns=lambda column: column.replace("_", " ")), values=True)
    axes.axhline(1, color="black", linewidth=0.8)
    logarithmic(axes)
    axes.set(ylabel=f"against {label(table.index[0])} (log), more is better")


_RUN_FIGURES: Mapping[str, _Figure] = dict(
    zip(
        RUN_FIGURES,
        (
            _Figure("Where the time goes", _draw_latency),
            _Figure("Where the energy goes", _draw_energy),
            _Figure("What moves", _draw_traffic, 2),
            _Figure("How busy the computing units are", _draw_utilization),
            _Figure("Busy share of cycles [%], unit by layer", _draw_utilization_map),
        ),
        strict=True,
    )
)
_TRADEOFF = _Figure("What speed costs", _draw_tradeoff)
_ACCURACY = _Figure("What accuracy costs", _draw_accuracy)
_SENSITIVITY = _Figure("What each setting does, all others averaged", _draw_sensitivity)
_COMPARISON = _Figure("Faster, and with less energy?", _draw_comparison)
_ADAPTATION = _Figure("What batch-norm adaptation gives back", _draw_adaptation)
_ADAPTATION_COLUMNS = ("adaptation", "accuracy", "exact_accuracy", "standard_error")
_COMPARED = ("machine", "fitted", "layers", "timesteps", "images")
_SWEPT = ("accelerator", *MEASURED, "edap_j_s_mm2", "accuracy", "error")


def stacked(axes: Axes, table: pd.DataFrame, totals: bool = False) -> None:
    """One bar per row of ``table``, made of its columns on top of each other; ``totals`` are written above it."""
    base = np.zeros(len(table))
    for i, column in enumerate(table.columns):
        heights = table[column].to_numpy(dtype=float)
        bars = _bar(axes, np.arange(len(table)), heights, i, label=label(column), width=0.8, bottom=base)
        base = base + heights
    if totals:
        axes.bar_label(bars, [number(height) for height in base], padding=2, fontsize=8)
        axes.set_ylim(top=max(1.12 * base.max(), 1e-3))
    _label(axes, table)


def grouped(axes: Axes, table: pd.DataFrame, values: bool = False, fontsize: float = 6.5) -> None:
    """A group of bars per row of ``table``, one for each of its columns; ``values`` are written above them."""
    width = 0.8 / len(table.columns)
    for i, column in enumerate(table.columns):
        places = np.arange(len(table)) + (i - (len(table.columns) - 1) / 2) * width
        heights = table[column].to_numpy(dtype=float)
        bars = _bar(axes, places, heights, i, label=label(column), width=width)
        if values:
            texts = ["" if np.isnan(height) else number(height) for height in heights]
            blank = {
                "facecolor": "white",
                "edgecolor": "none",
                "pad": fontsize / 13,
            }  # a line of reference does not cross it
            axes.bar_label(bars, texts, padding=2, fontsize=fontsize, rotation=90, bbox=blank)
    _label(axes, table)


def logarithmic(axes: Axes) -> None:
    """A logarithmic vertical axis with room for what stands on the bars, and plain numbers at 1, 2 and 5."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.3, high * (high / low) ** 0.15)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


def number(value: float) -> str:
    """Two digits or so, as there is room for on a bar."""
    return f"{value:,.0f}" if abs(value) >= 99.5 or not value else f"{value:.2g}"


def _bar(axes: Axes, places: NDArray[Any], heights: NDArray[Any], i: int, **style: Any) -> BarContainer:
    colour, hatch, edge = _FILLS[i % len(_FILLS)]
    return axes.bar(places, heights, color=colour, hatch=hatch, edgecolor=edge, linewidth=0.4, **style)


def _label(axes: Axes, table: pd.DataFrame) -> None:
    many = len(table) > 6
    axes.set_xticks(
        np.arange(len(table)), labels(table.index), rotation=45 if many else 0, ha="right" if many else "center"
    )
    axes.legend(frameon=False, ncols=min(4, len(table.columns)), loc="lower right", bbox_to_anchor=(1, 1), fontsize=8)
