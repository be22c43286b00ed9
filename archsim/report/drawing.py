"""Bars, axes and names of figures, and the one place that writes them.

A figure is made at the size at which it is printed, so that its letters have the size that they say: 9 points on a
page's width, 7 in a column. Fills differ in lightness or hatch, so that it can be read in grey and by the colour-blind.
The same input gives the same bytes. Whatever a name is, it is drawn as text, clipped where it is long, with characters
that the font lacks written out.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from archsim.errors import UsageError, nearest, printable
from archsim.report.files import FIGURE_KINDS, FIGURE_MARK, result_file
from archsim.report.names import readable
from archsim.report.rounding import rounded

# Colour, hatch and its colour; in grey the plain ones are a dark, a middle and a light tone, the others hatched.
FILLS = (
    ("#1f3b5c", "", "black"),
    ("#e8c468", "", "black"),
    ("#5f9f98", "", "black"),
    ("#f4ece0", "....", "black"),
    ("#7a2e3a", "////", "white"),
    ("#c9dfe9", "\\\\\\\\", "black"),
    ("#4a4a4a", "xxxx", "white"),
    ("#d98f6c", "----", "black"),
)
LINES = (0, 4, 2, 1, 6, 7)
"""Those of the fills that are dark enough for a line or a marker."""
MARKERS = "os^Dv<>P"
WIDTHS = {"column": 3.5, "page": 7.16}
"""Inches, of a page of two columns."""
NARROWEST, WIDEST = 2.0, 20.0
LONGEST_NAME = 40
"""Characters of a name in a figure."""
LONGEST_TITLE = 1_000
_LETTER = 0.6
"""Width of a letter, by the size of the font, on average."""
_UNITS = {
    "energy_pj": ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ")),
    "latency_s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "bytes": ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")),
}
"""Largest first."""
_STYLE = {
    "svg.hashsalt": "archsim",  # stable identifiers
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,  # whole fonts, not outlines letter by letter, which some publishers refuse
    "text.parse_math": False,  # a file name may hold dollars
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.2,
}


class Look(NamedTuple):
    """How figures are written: in which ``formats``, how many inches wide (None: as each of them is usually), and
    whether with the ``title`` that says what they show."""

    formats: tuple[str, ...] = ("png", "svg")
    width: float | None = None
    title: bool = True


def look(formats: Sequence[str] | None, width: str | None, *, title: bool) -> Look:
    """A look from words: formats such as ``pdf``, and ``column``, ``page`` or a number of inches; UsageError."""
    known = [kind.removeprefix(".") for kind in FIGURE_KINDS]
    problems = [
        f"--format: unknown format, got '{name}'; allowed: {', '.join(known)}{nearest(name, known)}"
        for name in formats or ()
        if name not in known
    ]
    inches = None if width is None else WIDTHS.get(width)
    if width is not None and inches is None:
        try:
            inches = float(width)
        except ValueError:
            inches = 0.0
        if not NARROWEST <= inches <= WIDEST:
            problems.append(
                f"--width: got '{printable(width, 60)}'; allowed: {', '.join(WIDTHS)}, or {NARROWEST:g} to {WIDEST:g} "
                f"inches{nearest(width, WIDTHS)}"
            )
    if problems:
        raise UsageError(problems)
    return Look(tuple(dict.fromkeys(formats or Look().formats)), inches, title)


def save(
    stem: Path,
    draw: Callable[[Any], None],
    size: tuple[float, float] = (7.0, 3.6),
    panels: tuple[int, int] = (1, 1),
    title: Sequence[str] = (),
    formats: Sequence[str] = Look().formats,
) -> list[Path]:
    """Write what ``draw`` draws as ``stem`` in all ``formats``, ``size`` inches large; returns the files written.

    ``draw`` gets the axes, an array of them if there are several ``panels`` (rows, columns); lines of the ``title`` go
    on in the next where they are too long.
    """
    written = []
    points = _points(size[0])
    style = _STYLE | {"font.size": points, "legend.fontsize": points - 1}
    with matplotlib.rc_context(style):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")  # no pyplot: no window, no state shared with the user's
        draw(figure.subplots(*panels))
        if title:
            letters = int(72 * size[0] / points / _LETTER)
            lines = [textwrap.fill(label(line, LONGEST_TITLE), letters, break_on_hyphens=False) for line in title]
            figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=points)
        mark = FIGURE_MARK.decode()
        for name in formats:
            target = stem.with_name(f"{stem.name}.{name}")
            with result_file(target, FIGURE_KINDS[f".{name}"], mark=FIGURE_MARK) as partial:
                _write(figure, partial, name, mark)
            written.append(target)
    return written


def _write(figure: Figure, path: Path, name: str, mark: str) -> None:
    metadata: Mapping[str, Mapping[str, str | None]] = {
        "png": {"Software": mark},
        "svg": {"Date": None, "Creator": mark},
        "pdf": {"CreationDate": None, "Creator": mark},
    }
    with path.open("wb") as file, warnings.catch_warnings():
        # Names that leave no room for the axes; they are drawn over each other then.
        warnings.filterwarnings("ignore", message=".*constrained_layout not applied.*")
        figure.savefig(file, format=name, metadata=metadata[name])


def _points(width: float) -> float:
    """Size of the letters of a figure that is so many inches wide."""
    return 9.0 if width >= 6 else 8.0 if width >= 4.5 else 7.0


def letters(less: float = 0.0) -> float:
    """Size of the letters of the figure that is being drawn, in points, or one that is so much smaller."""
    return float(matplotlib.rcParams["font.size"]) - less


def fitting(axes: Axes, names: Sequence[str], less: float = 0.0) -> int:
    """How many columns of a legend with these ``names`` fit the figure that ``axes`` are of."""
    entry = (max(map(len, names), default=1) * _LETTER + 3) * letters(less) / 72
    most = max(1, int(inches(axes) / entry))
    return -(-len(names) // -(-len(names) // most)) if names else 1  # lines of equal length


def inches(axes: Axes) -> float:
    """Width of the figure that ``axes`` are of."""
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes are drawn in a figure"
    return float(figure.get_figwidth())


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


def spelt(name: object) -> str:
    """A name of archsim, of a machine, unit or column, as a label."""
    return label(readable(str(name)))


@cache
def _characters() -> frozenset[int]:
    """Those that the font of figures has."""
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        return frozenset(get_font(findfont(matplotlib.font_manager.FontProperties())).get_charmap())


def stacked(axes: Axes, table: pd.DataFrame, totals: bool = False) -> None:
    """One bar per row of ``table``, made of its columns on top of each other; ``totals`` are written above it."""
    base = np.zeros(len(table))
    for i, column in enumerate(table.columns):
        heights = table[column].to_numpy(dtype=float)
        bars = _filled(axes.bar, np.arange(len(table)), heights, i, label=spelt(column), width=0.8, bottom=base)
        base = base + heights
    if totals:
        axes.bar_label(bars, [number(height) for height in base], padding=2, fontsize=letters(1))
        axes.set_ylim(top=max(1.12 * base.max(), 1e-3))
    name_rows(axes, table.index)
    legend_above(axes)


def lying(axes: Axes, table: pd.DataFrame) -> None:
    """The same with bars that lie, first row on top, for rows with long names."""
    base = np.zeros(len(table))
    for i, column in enumerate(table.columns):
        heights = table[column].to_numpy(dtype=float)
        _filled(axes.barh, np.arange(len(table)), heights, i, label=spelt(column), height=0.75, left=base)
        base = base + heights
    axes.margins(y=0.01)
    axes.invert_yaxis()
    name_lines(axes, table.index)


def grouped(
    axes: Axes, table: pd.DataFrame, values: bool = False, fontsize: float | None = None, start: float = 0.0
) -> None:
    """A group of bars per row of ``table``, one for each of its columns; ``values`` are written at their ends.

    Bars go from ``start`` up or down: on a logarithmic axis of ratios from 1.
    """
    width = 0.8 / max(1, len(table.columns))
    for i, column in enumerate(table.columns):
        places = np.arange(len(table)) + (i - (len(table.columns) - 1) / 2) * width
        heights = table[column].to_numpy(dtype=float)
        bars = _filled(axes.bar, places, heights - start, i, label=spelt(column), width=width, bottom=start)
        if values:
            size = fontsize or letters(2)
            texts = ["" if np.isnan(height) else number(height) for height in heights]
            # A line of reference does not cross it.
            blank = {"facecolor": "white", "edgecolor": "none", "pad": size / 13}
            axes.bar_label(bars, texts, padding=2, fontsize=size, rotation=90, bbox=blank)
    name_rows(axes, table.index)
    legend_above(axes)


def bar(axes: Axes, places: ArrayLike, heights: ArrayLike, i: int = 0, **style: Any) -> BarContainer:
    """Bars in the fill number ``i``."""
    return _filled(axes.bar, places, heights, i, **style)


def _filled(
    draw: Callable[..., BarContainer], places: ArrayLike, sizes: ArrayLike, i: int, **style: Any
) -> BarContainer:
    colour, hatch, edge = FILLS[i % len(FILLS)]
    return draw(places, sizes, color=colour, hatch=hatch, edgecolor=edge, linewidth=0.4, **style)


def name_rows(axes: Axes, names: Iterable[object]) -> None:
    """Names below the places 0, 1, ... of a horizontal axis: in two lines or turned where they are too long to stand
    side by side, and only some of them where they are too many."""
    texts = [spelt(name) for name in names]
    size = letters(0.5)
    room = 1.1 * inches(axes) * axes.get_position().width / max(1, len(texts)) * 72 / size  # by the size of the letters
    longest = max(map(len, texts), default=0) * _LETTER
    broken = [textwrap.fill(text, max(1, int((room - 0.8) / _LETTER)), break_long_words=False) for text in texts]
    if longest + 0.8 < room:
        turned: dict[str, Any] = {}
    elif all(text.count("\n") < 2 and max(map(len, text.split("\n"))) * _LETTER + 0.8 < room for text in broken):
        texts, turned = broken, {}
    elif room > 2 and longest < 12:
        turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    else:
        turned = {"rotation": 90}
    every = 1 if room > 1.1 else int(np.ceil(1.1 / room))
    shown = range(0, len(texts), every)
    axes.set_xticks(shown, [texts[place] for place in shown], fontsize=size, **turned)


def name_lines(axes: Axes, names: Iterable[object]) -> None:
    """Names beside the places 0, 1, ... of a vertical axis; only some of them where they are too many."""
    texts = [spelt(name) for name in names]
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes are drawn in a figure"
    room = 72 * figure.get_figheight() * axes.get_position().height / max(1, len(texts))
    shown = range(0, len(texts), max(1, int(np.ceil(1.1 * letters(0.5) / room))))
    axes.set_yticks(shown, [texts[place] for place in shown], fontsize=letters(0.5))


def legend_above(axes: Axes, **style: Any) -> None:
    """A legend above the axes, at the right, in as few lines as the figure's width allows."""
    handles, texts = axes.get_legend_handles_labels()
    if handles:
        columns = fitting(axes, texts, 1)
        axes.legend(handles, texts, ncols=columns, loc="lower right", bbox_to_anchor=(1, 1), **style)


def logarithmic(axes: Axes) -> None:
    """A logarithmic vertical axis with room for what stands at the ends of bars, and plain numbers at 1, 2 and 5."""
    low, high = axes.dataLim.intervaly
    axes.set_yscale("log")
    room = max(high / low, 1.5) ** 0.28
    axes.set_ylim(low / room, high * room)
    plain_ticks(axes.yaxis, low, high)


def plain_logarithmic(axes: Axes) -> None:
    """Logarithmic axes for points, with plain numbers."""
    axes.set(xscale="log", yscale="log")
    for axis, (low, high) in ((axes.xaxis, axes.dataLim.intervalx), (axes.yaxis, axes.dataLim.intervaly)):
        plain_ticks(axis, low, high)


def plain_ticks(axis: Any, low: float, high: float) -> None:
    """Numbers as people write them: at every power of ten, at 1, 2 and 5, or closer, as there is room for."""
    subs = (1,) if high > 200 * low else (1, 2, 5) if high > 8 * low else (1, 1.5, 2, 3, 4, 5, 6, 7, 8)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="minor", size=0)


def scaled(column: str, largest: float) -> tuple[float, str]:
    """How large the unit is in which values of ``column`` are drawn, and its name: 1e6 and µJ for 151e6 pJ."""
    units = _UNITS[column]
    return next((unit for unit in units if largest >= unit[0]), units[-1])


def number(value: float) -> str:
    """Two digits, as there is room for on a bar."""
    return rounded(value, 2)


def remark(axes: Axes, text: str) -> None:
    """What a reader must know, in small letters below a horizontal axis, on as many lines as it needs."""
    size = letters(1.5)
    width = int(0.95 * inches(axes) * 72 / size / _LETTER)
    axes.set_xlabel(textwrap.fill(text, max(width, 20)), fontsize=size)
