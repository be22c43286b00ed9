"""Figures of a results folder, a comparison or a sweep.

Each figure answers one question and says what was run. How they are drawn is in :mod:`archsim.report.drawing`.
"""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from archsim.errors import UsageError, printable
from archsim.report import mesh_plots
from archsim.report import tables as result_tables
from archsim.report.drawing import (
    FILLS,
    LINES,
    MARKERS,
    WIDTHS,
    Look,
    bar,
    fitting,
    grouped,
    inches,
    label,
    labels,
    legend_above,
    letters,
    logarithmic,
    lying,
    name_lines,
    name_rows,
    number,
    plain_logarithmic,
    plain_ticks,
    remark,
    save,
    scaled,
    spelt,
    stacked,
)
from archsim.report.files import (
    ADAPTATION_FIGURE,
    COMPARISON,
    COMPARISON_FIGURE,
    FIGURES,
    MESH_FIGURES,
    RESULT_FILES,
    RUN_FIGURES,
)
from archsim.report.names import readable

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
_OF_MESHES: Mapping[str, tuple[str, ...]] = {"cores": mesh_plots.CORES, "links": mesh_plots.LINKS}
"""The same, of machines that have a mesh of cores."""
MOST_PANELS = 6
PANEL_WIDTH = 1.6
"""Inches, at least."""
USUAL_WIDTH = 7.0
"""Inches."""
TALLEST = 9.0
"""Inches."""
LONG_NAME = 12
"""Characters; layers with longer names, and not only a few, stand one below the other."""
FEW_LAYERS = 8
ROOM = 16
"""Characters below a panel."""
MOST = {"layer": 1_024, "unit": 256, "machine": 256, "tensor": 64, "adaptation": 64, "trace": 64}
"""Different names in a column that a figure can show."""
MOST_VALUES = 64
"""Of a setting that are named in a figure."""
LONGEST_BLOCK = 400
"""Characters of a setting's value that are taken apart."""
Tables = Mapping[str, pd.DataFrame]


class _Figure(NamedTuple):
    """What a figure asks, how it answers, on how many panels, and how many bars lie in it: 0 where they stand."""

    title: str
    draw: Callable[[Any, Tables], None]
    panels: int = 1
    lying: Callable[[Tables], int] | None = None

    def shape(self, tables: Tables, look: Look) -> tuple[tuple[float, float], tuple[int, int]]:
        """Inches, and rows and columns of panels. A column's figure is less flat, in proportion, than a page's."""
        width = look.width or USUAL_WIDTH
        columns = min(self.panels, max(1, int(width / PANEL_WIDTH)))
        rows = -(-self.panels // columns)
        narrow = width / USUAL_WIDTH
        height = 3.4 * narrow**0.6 * (1 if rows == 1 else 0.75 * rows)
        if lines := self.lying(tables) if self.lying else 0:
            height = min(TALLEST, 0.75 + 0.24 * lines * narrow**0.3)
        return (width, height + 0.35 * look.title), (rows, columns)


def plot(path: str | Path, look: Look = Look()) -> list[Path]:  # noqa: B008 - cannot be changed
    """Figures of the results folder ``path``, of a run, adaptations or a comparison (into its ``figures/``), or of the
    CSV of a comparison or a sweep.

    Returns the files written. UsageError when ``path`` is neither.
    """
    path = Path(path)
    if path.name == COMPARISON and (path.parent / FIGURES).is_dir():  # in its results folder, which holds nothing else
        path = path.parent
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
        tables, drawn = _of_run(path)
        what = _run_title(path / "summary.json")
        (path / FIGURES).mkdir(exist_ok=True)
        figures = {path / FIGURES / name: figure for name, figure in drawn.items()}
    elif _is_sweep(path):
        tables = {"sweep": _sweep_points(path)}
        settings = _settings(tables["sweep"])
        what = f"{_name_of(tables['sweep'].iloc[0]['hardware'])}, {len(tables['sweep'])} points"
        figures = {path.with_name(f"{path.stem}_tradeoff"): _TRADEOFF}
        if "accuracy" in tables["sweep"] and tables["sweep"]["accuracy"].notna().any():
            figures[path.with_name(f"{path.stem}_accuracy")] = _ACCURACY
        if settings:
            figures[path.with_name(f"{path.stem}_sensitivity")] = _SENSITIVITY._replace(panels=len(settings))
    elif path.name in RESULT_FILES and path.name != COMPARISON:
        raise UsageError(f"{path}: is one file of a results folder; expected the folder, {path.parent}")
    else:
        tables = {"comparison": _read(path, _COMPARED, ("trace", *_GAINS))}
        what = _comparison_title(tables["comparison"])
        figures = {path.with_suffix(""): _COMPARISON}
    return [
        file
        for stem, figure in figures.items()
        for file in save(
            stem, partial(_on, figure.draw, tables), *figure.shape(tables, look),
            (figure.title, what) if look.title else (), look.formats,
        )
    ]  # fmt: skip


def of_run(folder: Path, width: float) -> list[tuple[str, str]]:
    """The figures of a run as a page shows them: titles, and drawings without them as SVG."""
    tables, drawn = _of_run(folder)
    look, found = Look(("svg",), width, False), []
    with tempfile.TemporaryDirectory() as place:
        for name, figure in drawn.items():
            (file,) = save(Path(place) / name, partial(_on, figure.draw, tables), *figure.shape(tables, look),
                           formats=look.formats)  # fmt: skip
            found.append((figure.title, file.read_text(encoding="utf-8")))
    return found


def _of_run(folder: Path) -> tuple[dict[str, pd.DataFrame], Mapping[str, _Figure]]:
    """The tables of the results ``folder`` of a run that are drawn, and the figures of these by name."""
    some = {name: columns for name, columns in _OF_MESHES.items() if (folder / f"{name}.csv").is_file()}
    tables = {name: _read(folder / f"{name}.csv", columns) for name, columns in {**_DRAWN, **some}.items()}
    of_mesh = {name: figure for name, (table, figure) in _MESH_FIGURES.items() if table in some}
    return tables, {**_RUN_FIGURES, **of_mesh}


def plot_networks(paths: Sequence[str | Path], look: Look = Look()) -> list[Path]:  # noqa: B008
    """Comparisons of the same machines on several networks as papers print them: a figure each for speed and energy.

    One group of bars per network, and one at the right for their geometric mean; as wide as a column, without a title.
    They are written beside the first of the comparisons. UsageError when one is no comparison, or compares other
    machines.
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
    written, width = [], look.width or WIDTHS["column"]
    for measure in ("speedup", "energy_gain"):
        table = pd.DataFrame([one[measure].to_numpy(float) for one in compared], networks, machines[0])
        table.loc["geomean"] = np.exp(np.log(table.where(table > 0)).mean())
        stem = files[0].with_name(f"networks_{measure}")
        size = (width, 2.3 * (width / WIDTHS["column"]) ** 0.6)
        written += save(stem, partial(_draw_networks, table, readable(measure)), size, formats=look.formats)
    return written


def _draw_networks(table: pd.DataFrame, measure: str, axes: Axes) -> None:
    drawn = table.stack()
    wide = bool(drawn.max() > 20 * drawn.min() > 0)
    grouped(axes, table, values=True, fontsize=letters(1.5), start=1 if wide else 0)
    axes.axvline(len(table) - 1.5, color="black", linewidth=0.6, linestyle=":")
    axes.axhline(1, color="black", linewidth=0.5)
    if wide:
        logarithmic(axes)
    else:
        axes.set_ylim(0, 1.25 * max(drawn, default=0) or 1)  # room for what stands on the bars
    axes.set_ylabel(f"{measure} over {label(table.columns[0])}{' (log)' * wide}")


def _machines(compared: pd.DataFrame) -> pd.Series[str]:
    names = compared["machine"].map(readable).str.cat(compared["fitted"].map({True: " (fitted)", False: ""}))
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
    """``LoAS, VGG16 dual sparse, T = 4, 4 images``, from the summary of a run."""
    kinds = {
        "hardware": str,
        "trace": str,
        "fitted": bool,
        "overrides": list,
        "labels": dict,
        "timesteps": int,
        "images": int,
    }
    summary = result_tables.read_facts(path, kinds)
    machine, trace = _name_of(summary["hardware"]), _name_of(summary["trace"])
    machine += " (fitted)" * summary["fitted"]
    changed = [f"with {' '.join(map(str, summary['overrides']))}"] if summary["overrides"] else []
    synthetic = ["synthetic"] if summary["labels"].get("kind") == "synthetic" else []
    return ", ".join([machine, *changed, trace, *synthetic, *_size(summary)])


def _comparison_title(table: pd.DataFrame) -> str:
    first = {str(name): value for name, value in table.iloc[0].items()}
    return ", ".join([_name_of(first["trace"]), f"{first['layers']:.0f} layers", *_size(first)])


def _size(facts: Mapping[str, Any]) -> list[str]:
    images, timesteps = (printable(f"{facts[name]:.0f}", 20) for name in ("images", "timesteps"))
    return [f"T = {timesteps}", f"{images} image{'s' * (images != '1')}"]


def _stem(path: object) -> str:
    return Path(path).stem if isinstance(path, str) else ""


def _name_of(path: object) -> str:
    """What a file is of, as people spell it."""
    return readable(_stem(path))


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


def _lines(layers: pd.Series[str]) -> int:
    """How many layers stand one below the other: none where their names fit side by side."""
    names = layers.unique()
    return len(names) if len(names) > FEW_LAYERS and max(map(len, names)) > LONG_NAME else 0


def _draw_latency(axes: Axes, tables: Tables) -> None:
    layers = tables["layers"].set_index("layer")
    cycles = pd.DataFrame({"compute": layers["compute_cycles"], "stall": layers["stall_cycles"]})
    if _lines(tables["layers"]["layer"]):
        lying(axes, cycles)
        legend_above(axes)
        axes.set(xlabel="cycles")
        axes.xaxis.set_major_locator(MaxNLocator(max(2, int(inches(axes)) - 1)))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        return
    stacked(axes, cycles)
    axes.set(ylabel="cycles")
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _draw_energy(axes: Axes, tables: Tables) -> None:
    energy = tables["energy"].groupby("unit", sort=False)["energy_pj"].sum().sort_values(kind="stable")
    size, unit = scaled("energy_pj", energy.max())
    bars = axes.barh(np.arange(len(energy)), energy / size, color=FILLS[0][0], height=0.75)
    axes.set_yticks(np.arange(len(energy)), [spelt(name) for name in energy.index])
    axes.bar_label(bars, [number(value) for value in energy / size], padding=3, fontsize=letters(1))
    axes.margins(x=0.1, y=0.02)
    axes.set(xlabel=f"energy [{unit}]")


def _draw_traffic(panels: NDArray[Any], tables: Tables) -> None:
    """SRAM and DRAM apart, because the one is many times the other."""
    traffic = tables["traffic"]
    tensors = list(dict.fromkeys(traffic["tensor"]))
    for axes, level in zip(panels.ravel(), ("sram", "dram"), strict=True):
        rows = traffic[traffic["level"] == level]
        moved = rows.groupby(["direction", "tensor"])["bytes"].sum().unstack(fill_value=0)
        moved = moved.reindex(index=["read", "write"], columns=tensors, fill_value=0)
        size, unit = scaled("bytes", moved.sum(axis="columns").max())
        stacked(axes, moved / size, totals=True)
        axes.set_title(level.upper(), loc="left", fontsize=letters())
        axes.set(ylabel=f"traffic [{unit}]")
        axes.get_legend().remove()
    handles, names = panels.ravel()[0].get_legend_handles_labels()
    figure = panels.ravel()[0].figure
    figure.legend(handles, names, ncols=fitting(panels.ravel()[0], names, 1), loc="outside lower center")


def _computing(tables: Tables) -> pd.DataFrame:
    """Units that compute: what only moves data is never busy, and its stalls say nothing of the machine."""
    units = tables["units"].groupby("unit", sort=False)[list(_TIMES)].sum()
    return units[units["busy_cycles"] > 0]


def _draw_utilization(axes: Axes, tables: Tables) -> None:
    units = _computing(tables)
    shares = units.div(units.sum(axis="columns").clip(lower=1), axis="index") * 100
    lying(axes, shares.rename(columns=lambda name: name.removesuffix("_cycles")))
    axes.set(xlim=(0, 100))
    remark(
        axes,
        "share of cycles [%]; stall: waits for operands, memory or room; idle: waits at a barrier, or has ended",
    )
    legend_above(axes)


def _map_rows(tables: Tables) -> int:
    """Units, and what the names of layers take below them; or layers, and what those of units take."""
    layers = tables["units"]["layer"]
    if lines := _lines(layers):
        return lines + 2
    return len(_computing(tables)) + (3 if layers.nunique() <= 16 else 4 + min(20, int(layers.str.len().max())) // 4)


def _draw_utilization_map(axes: Axes, tables: Tables) -> None:
    """Instances of a unit together; units that compute, as above. Layers stand one below the other where their names
    are long."""
    units = tables["units"].groupby(["unit", "layer"], sort=False)[list(_TIMES)].sum()
    shares = (units["busy_cycles"] / units.sum(axis="columns").clip(lower=1) * 100).unstack(sort=False)
    shares = shares[(shares > 0).any(axis="columns")]
    below = bool(_lines(tables["units"]["layer"]))
    drawn = axes.imshow(shares.T if below else shares, cmap="Greys", vmin=0, vmax=100, aspect="auto")
    name_rows(axes, shares.index if below else shares.columns)
    name_lines(axes, shares.columns if below else shares.index)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if not below and len(shares.columns) > 3.5 * inches(axes):  # no room for numbers
        axes.figure.colorbar(drawn, ax=axes, pad=0.01, aspect=8)
        return
    for (row, column), share in np.ndenumerate((shares.T if below else shares).to_numpy()):
        colour = "white" if share > 55 else "black"
        if np.isnan(share):  # the unit has no part in the layer
            continue
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=letters(1.5), color=colour)


def _draw_placement(axes: Axes, tables: Tables) -> None:
    mesh_plots.draw_placement(axes, tables["cores"])


def _draw_links(axes: Axes, tables: Tables) -> None:
    mesh_plots.draw_link_load(axes, tables["links"])


def _mesh_lines(places: pd.DataFrame) -> int:
    """Lines of text that are as high as the mesh of a figure, whose routers are about 0.9 inches apart, or closer."""
    rows, columns = places["row"].max() + 1, places["column"].max() + 1
    return 1 + int(np.ceil(rows * min(USUAL_WIDTH / columns, 0.9) / 0.24))


def _draw_tradeoff(axes: Axes, tables: Tables) -> None:
    """Every point by latency and energy; those that no other point of the same trace beats in both are joined."""
    table = tables["sweep"]
    (second, time), (joule, energy) = (scaled(name, table[name].max()) for name in ("latency_s", "energy_pj"))
    for place, (trace, points) in enumerate(table.groupby("trace", sort=False)):
        found = pd.DataFrame({"x": points["latency_s"] / second, "y": points["energy_pj"] / joule})
        style: dict[str, Any] = {"color": FILLS[LINES[place % len(LINES)]][0], "marker": MARKERS[place % len(MARKERS)]}
        axes.plot(found["x"], found["y"], **style, markersize=4.5, markerfacecolor="white", linestyle="")
        front = found.sort_values(["x", "y"], kind="stable")
        front = front[front["y"] < front["y"].cummin().shift(fill_value=np.inf)]
        axes.plot(front["x"], front["y"], **style, markersize=5, linewidth=1, label=label(_name_of(trace)))
        for numbers, x, y in _together(table["point"][front.index], front, found):
            axes.annotate(numbers, (x, y), (3, 4), textcoords="offset points", fontsize=letters(2))
    axes.set(xlabel=f"latency [{time}] (log)", ylabel=f"energy [{energy}] (log)")
    plain_logarithmic(axes)
    title = "filled, with its number: no point is better in both"
    legend_above(axes, title=title, title_fontsize=letters(1))


def _together(points: pd.Series[Any], front: pd.DataFrame, drawn: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Numbers of the ``front``'s points, those of neighbours that nearly coincide among all ``drawn`` in one text."""
    near = (np.log(drawn.max()) - np.log(drawn.min())) / 25
    texts: list[tuple[str, float, float]] = []
    for point, x, y in zip(points, front["x"], front["y"], strict=True):
        number_of = f"{point:.0f}"
        if texts and bool((np.abs(np.log([x / texts[-1][1], y / texts[-1][2]])) <= near.to_numpy()).all()):
            texts[-1] = (f"{texts[-1][0]}, {number_of}", *texts[-1][1:])
        else:
            texts.append((number_of, x, y))
    return [(label(text), x, y) for text, x, y in texts]


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
    names = labels(map(_name_of, groups) if by == "trace" else value_labels([str(value) for value in groups]))
    for place, (name, points) in enumerate(zip(names, groups.values(), strict=True)):
        colour, marker = FILLS[LINES[place % len(LINES)]][0], MARKERS[place % len(MARKERS)]
        inside = [colour if point in best else "white" for point in points.index]
        axes.scatter(points["x"], points["y"], s=26, marker=marker, facecolor=inside, edgecolor=colour, linewidth=0.9)
        axes.scatter([], [], s=26, marker=marker, facecolor=colour, edgecolor=colour, label=name)
    axes.set(xlabel="energy-latency-area product [J s mm²] (log)", ylabel="accuracy [%]", xscale="log")
    plain_ticks(axes.xaxis, *axes.dataLim.intervalx)
    title = f"{label(by)}; filled and joined:\nno point is better in both"
    beside = inches(axes) >= 5
    place_of: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if beside else {"loc": "best"}
    axes.legend(title=title, title_fontsize=letters(1), alignment="left", **place_of)


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
    """Geometric means over all other settings and traces, relative to the first value of a setting.

    All panels have the same vertical axis, so that what matters little looks as if it did.
    """
    table = tables["sweep"]
    settings = _settings(table)
    first, *others = np.atleast_1d(panels).ravel()
    for axes in others:
        axes.sharey(first)
    for axes, setting in zip([first, *others], settings, strict=False):
        logarithms = table[[setting]].join(table[list(MEASURED)].transform(np.log))
        means = logarithms.groupby(setting, sort=False).mean().transform(np.exp)
        means = means / means.iloc[0]
        for place, (name, meaning) in enumerate(MEASURED.items()):
            style = {"color": FILLS[(0, 4, 2)[place]][0], "marker": "os^"[place], "linestyle": ("-", "--", ":")[place]}
            axes.plot(np.arange(len(means)), means[name], label=meaning, markersize=4.5, linewidth=1.2, **style)
        shown = range(0, len(means), -(-len(means) // MOST_VALUES))
        names = labels(value_labels([str(means.index[place]) for place in shown]))
        axes.set_xticks(shown, names, rotation=90 if sum(map(len, names)) > ROOM else 0)
        axes.axhline(1, color="black", linewidth=0.5)
        block, _, name = setting.rpartition(".")
        axes.set_xlabel(f"{label(block)}.\n{label(name)}" if block and len(setting) > ROOM else label(setting))
    for axes in others[len(settings) - 1 :]:
        axes.remove()
    rows, columns = first.get_subplotspec().get_gridspec().get_geometry()
    for place, axes in enumerate([first, *others][: len(settings)]):
        if place % columns:
            axes.tick_params(labelleft=False)
            continue
        axes.set_ylabel("relative to the\nfirst value" if rows > 1 else "relative to the first value")
    handles, texts = first.get_legend_handles_labels()
    first.figure.legend(handles, texts, ncols=len(texts), loc="outside lower center")


def _draw_adaptation(axes: Axes, tables: Tables) -> None:
    """Accuracies with their standard errors, and that of the exact network."""
    table = tables["adaptation"]
    exact = 100 * float(table["exact_accuracy"].iloc[0])
    names = []
    columns = (table["adaptation"], 100 * table["accuracy"], 100 * table["standard_error"])
    for i, (name, height, error) in enumerate(zip(*columns, strict=True)):
        bar(axes, [i], [height], width=0.6, yerr=error, capsize=3)
        names.append(f"{spelt(name)}\n{height:.1f} ± {error:.1f}")
    axes.axhline(exact, color="black", linewidth=0.9, linestyle="--", label=f"exact arithmetic: {exact:.1f}")
    axes.set_xticks(np.arange(len(table)), names)
    axes.set_xlabel("adaptation, accuracy and its standard error [%]")
    axes.set(ylabel="accuracy [%]", xlim=(-0.6, len(table) - 0.4), ylim=(0, 105))
    legend_above(axes)


def _draw_comparison(axes: Axes, tables: Tables) -> None:
    """Bars from 1, the first machine, up to what is better and down to what is worse."""
    compared = tables["comparison"]
    table = compared.set_index(_machines(compared))[list(_GAINS)]
    grouped(axes, table, values=True, start=1)
    axes.axhline(1, color="black", linewidth=0.8)
    logarithmic(axes)
    axes.set(ylabel=f"against {label(table.index[0])} (log),\nmore is better")


_RUN_FIGURES: Mapping[str, _Figure] = dict(
    zip(
        RUN_FIGURES,
        (
            _Figure("Where the time goes", _draw_latency, lying=lambda run: _lines(run["layers"]["layer"])),
            _Figure("Where the energy goes", _draw_energy, lying=lambda tables: tables["energy"]["unit"].nunique()),
            _Figure("What moves", _draw_traffic, 2),
            _Figure("How busy the computing units are", _draw_utilization, lying=lambda run: len(_computing(run)) + 2),
            _Figure(
                "Busy share of cycles [%], unit by layer",
                _draw_utilization_map,
                lying=_map_rows,
            ),
        ),
        strict=True,
    )
)
_MESH_FIGURES: Mapping[str, tuple[str, _Figure]] = dict(
    zip(
        MESH_FIGURES,
        (
            (
                "cores",
                _Figure("Which layer each core has", _draw_placement, lying=lambda run: _mesh_lines(run["cores"])),
            ),
            (
                "links",
                _Figure("How many messages each link took", _draw_links, lying=lambda run: _mesh_lines(run["links"])),
            ),
        ),
        strict=True,
    )
)
"""By name: the table that a figure draws, and the figure."""
_TRADEOFF = _Figure("What speed costs", _draw_tradeoff)
_ACCURACY = _Figure("What accuracy costs", _draw_accuracy)
_SENSITIVITY = _Figure("What each setting does, all others averaged", _draw_sensitivity)
_COMPARISON = _Figure("Faster, and with less energy?", _draw_comparison)
_ADAPTATION = _Figure("What batch-norm adaptation gives back", _draw_adaptation)
_ADAPTATION_COLUMNS = ("adaptation", "accuracy", "exact_accuracy", "standard_error")
_COMPARED = ("machine", "fitted", "layers", "same_layers", "timesteps", "images")
_SWEPT = ("accelerator", *MEASURED, "edap_j_s_mm2", "accuracy", "error")
