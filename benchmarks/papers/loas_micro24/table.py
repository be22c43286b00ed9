"""A table: what it needs, how its rows come of it, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jobs import Job

Row = dict[str, Any]
PUBLISHED = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Table:
    """``rows`` makes the rows from the results of ``jobs``, by the same keys; ``draw`` a figure from the rows."""

    name: str
    title: str
    columns: Mapping[str, str]
    jobs: Mapping[Any, Job]
    rows: Callable[[Mapping[Any, Any]], list[Row]]
    notes: Sequence[str] = ()
    draw: Callable[[Any, list[Row]], None] | None = None
    size: tuple[float, float] = (7.0, 2.6)

    def fill(self, results: Mapping[Hashable, Any]) -> list[Row]:
        return self.rows({key: results[job] for key, job in self.jobs.items()})

    def markdown(self, rows: Sequence[Row]) -> str:
        lines = [f"## {self.title}", "", f"`{self.name}.csv`", ""]
        lines.append(f"| {' | '.join(self.columns.values())} |")
        lines.append(f"| {' | '.join('---' for _ in self.columns)} |")
        lines += [f"| {' | '.join(shown(row.get(column)) for column in self.columns)} |" for row in rows]
        if self.draw:
            lines += ["", f"![{self.title}]({self.name}.png)"]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])


def published(*path: Any) -> Row:
    """The entry of ``published.yaml`` at ``path``, or one without a value where the paper has none."""
    entry: Any = PUBLISHED
    for key in path:
        entry = entry.get(key) if isinstance(entry, dict) else None
    return entry if isinstance(entry, dict) and "value" in entry else {"value": None, "mark": None}


def against(ours: float, *path: Any) -> Row:
    """Ours beside the paper's: the columns ours, paper, deviation_percent, mark."""
    entry = published(*path)
    return {
        "ours": ours,
        "paper": entry["value"],
        "deviation_percent": deviation(ours, entry["value"]),
        "mark": entry["mark"],
    }


AGAINST = {"ours": "ours", "paper": "paper", "deviation_percent": "deviation [%]", "mark": "mark"}


def deviation(ours: float | None, paper: float | None) -> float | None:
    """(ours - paper) / \\|paper\\| in percent."""
    return None if ours is None or paper is None else round(100 * (ours - paper) / abs(paper), 6)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean, which the paper's averages of ratios are."""
    return sum(values) / len(values)


def shown(value: Any) -> str:
    """A cell for readers: three significant digits, thousands set apart, nothing where there is nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        size = abs(value)
        return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 10 else f"{value:#.3g}" if value else "0"
    return str(value)
