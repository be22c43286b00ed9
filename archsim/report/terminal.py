"""Tables for people: what :mod:`archsim.cli` prints when its output goes to a terminal and not to a pipe.

A column name that ends in a unit (``energy_pj``, ``dram_read_bytes``) loses it to its head, in the size that suits the
largest value: ``energy [uJ]``. Numbers have three digits, counts all of them; empty columns are left out. A table that
is too wide is turned if it has fewer rows than columns, and cut into blocks that all begin with the same columns; no
name or number is broken.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence

from archsim.report.rounding import rounded

# Sizes and names of units, smallest first, by how the name of a column ends.
_ENERGY = ((1.0, "pJ"), (1e3, "nJ"), (1e6, "uJ"), (1e9, "mJ"), (1e12, "J"))
_UNITS = {
    "_per_s": ((1.0, "1/s"),),
    "_pj_s": tuple((size, f"{name} s") for size, name in _ENERGY),
    "_pj": _ENERGY,
    "_gb_s": ((1.0, "GB/s"),),
    "_s": ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms"), (1.0, "s")),
    "_bytes": ((1.0, "B"), (1024.0, "KiB"), (1024.0**2, "MiB"), (1024.0**3, "GiB")),
    "_density": ((0.01, "%"),),
    "_ratio": ((0.01, "%"),),
    "utilization": ((0.01, "%"),),
    "coverage": ((0.01, "%"),),
    "share": ((0.01, "%"),),
    "_kib": ((1.0, "KiB"),),
    "_j_s_mm2": ((1.0, "J s mm2"),),
    "_mm2": ((1.0, "mm2"),),
    "_mhz": ((1.0, "MHz"),),
    "_mw": ((1.0, "mW"),),
}
_SHORT = {"utilization": "util.", "mismatches": "mism.", "fire": "", "dram": "DRAM", "sram": "SRAM"}
_TEXT_WIDTH = range(12, 37)
"""Characters that text needs, which may go on in the next line: those of its longest word, within these limits."""
_GAP = 2


def print_table(columns: Sequence[str], rows: Iterable[Iterable[object]], repeat: int = 1) -> None:
    """``rows`` under ``columns`` on stdout; the first ``repeat`` columns begin every block of a table that is cut."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False, highlight=False)
    cells = [list(row) for row in rows]
    told = [i for i in range(len(columns)) if i < repeat or any(row[i] not in (None, "") for row in cells)]
    lines = [column(columns[i], [row[i] for row in cells]) for i in told]
    right = [all(isinstance(row[i], int | float | None) for row in cells) for i in told]
    if len(cells) < len(lines) and _width(lines, right) > console.width:
        lines = [list(turned) for turned in zip(*lines, strict=True)]
        right = [False, *[True] * (len(lines) - 1)]
    for number, block in enumerate(_blocks(lines, right, repeat, console.width)):
        if number:
            console.print()
        table = Table(box=None, header_style="bold", pad_edge=False)
        for i, width in zip(block, _widths(lines, right, block, console.width), strict=True):
            table.add_column(lines[i][0], justify="right" if right[i] else "left", width=width, overflow="fold")
        for texts in zip(*(lines[i][1:] for i in block), strict=True):
            table.add_row(*texts)
        console.print(table)


def quantity(name: str, value: object) -> str:
    """One value as people read it, with its unit: ``54.8 uJ``."""
    head, text = column(name, [value])
    return f"{text} {head.partition('[')[2].rstrip(']')}".rstrip()


def html_table(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """The same table for a notebook, with the same numbers and units; text is escaped."""
    cells = [[row[name] for name in columns] for row in rows]
    lines = [column(name, [row[i] for row in cells]) for i, name in enumerate(columns)]
    right = [all(isinstance(row[i], int | float | None) for row in cells) for i in range(len(columns))]
    found = []
    for place, texts in enumerate(zip(*lines, strict=True)):
        tag = "td" if place else "th"
        sides = ("right" if number else "left" for number in right)
        row = "".join(
            f'<{tag} style="text-align: {side}">{html.escape(text)}</{tag}>'
            for side, text in zip(sides, texts, strict=True)
        )
        found.append(f"<tr>{row}</tr>")
    return f"<table>{''.join(found)}</table>"


def _widths(lines: Sequence[Sequence[str]], right: Sequence[bool], block: Sequence[int], width: int) -> list[int]:
    """What each column of a block needs; the last ones of text take what is left over, or give what is missing."""
    found = [_needed(lines[i], i == 0, right[i]) for i in block]
    left = width - sum(found) - _GAP * (len(found) - 1)
    for place in reversed(range(len(block))):
        i = block[place]
        if not right[i] and left:
            more = max(1 - found[place], min(left, max(map(len, lines[i])) - found[place]))
            found[place] += more
            left -= more
    return found


def _blocks(lines: Sequence[Sequence[str]], right: Sequence[bool], repeat: int, width: int) -> Iterator[list[int]]:
    """Numbers of the columns that stand side by side, as many as fit."""
    first = list(range(min(repeat, len(lines))))
    block = first.copy()
    for i in range(len(first), len(lines)):
        needed = [_needed(lines[j], j == 0, right[j]) for j in (*block, i)]
        if sum(needed) + _GAP * (len(needed) - 1) > width and len(block) > len(first):
            yield block
            block = first.copy()
        block.append(i)
    yield block


def _width(lines: Sequence[Sequence[str]], right: Sequence[bool]) -> int:
    needed = [_needed(line, i == 0, right[i]) for i, line in enumerate(lines)]
    return sum(needed) + _GAP * (len(needed) - 1)


def _needed(line: Sequence[str], first: bool, right: bool) -> int:
    """Characters that a column needs: its head may be broken between words, text where it must."""
    head, *texts = line
    longest = max(map(len, texts), default=0)
    if first:
        return max(len(head), longest)
    if not right:
        word = max((len(word) for text in texts for word in text.split()), default=0)
        longest = min(longest, max(_TEXT_WIDTH.start, min(word, _TEXT_WIDTH.stop - 1)))
    return max(longest, *map(len, head.split() or [""]))


def column(name: str, cells: Sequence[object]) -> list[str]:
    """The head of a column and its cells as people read them, all in one unit."""
    numbers = [abs(cell) for cell in cells if isinstance(cell, int | float) and not isinstance(cell, bool)]
    for ending, units in _UNITS.items():
        if name.endswith(ending) and numbers and "." not in name:
            fitting = [unit for unit in units if unit[0] <= max(numbers)]
            size, unit = (fitting or units[:1])[-1]
            stem = name if ending == name else name.removesuffix(ending)
            return [f"{_head(stem)} [{unit}]", *(_cell(cell, size) for cell in cells)]
    return [_head(name), *(_cell(cell) for cell in cells)]


def _head(name: str) -> str:
    if "." in name:  # the path of a setting
        return name
    return " ".join(_SHORT.get(word, word) for word in name.split("_")).strip()


def _cell(cell: object, size: float = 1.0) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, int) and size == 1:
        return f"{cell:,}"
    if isinstance(cell, int | float):
        value = cell / size
        if size == 0.01 and 0 < value < 0.05:  # per cent
            return "< 0.1"
        return rounded(value)
    return str(cell)
