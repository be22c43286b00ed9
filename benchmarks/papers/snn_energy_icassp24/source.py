"""What is known of the study, with marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from paper_tables import Row, deviation

PUBLISHED = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text(encoding="utf-8"))
WORKS, BOTTLENECKS = PUBLISHED["works"], PUBLISHED["bottlenecks"]


def known(name: str, *path: Any) -> str:
    """A note that quotes what is known of a bottleneck."""
    entry = _entry(name, *path)
    return f"The study, from public notes (3rd): {entry['value']} ({entry['source']})."


def beside(column: str, ours: float, name: str, *path: Any) -> Row:
    """What the study says of a bottleneck beside ``ours``, which is in ``column``, and how far ours lies from it."""
    value = _entry(name, *path)["value"]
    return {f"study_{column}": value, f"{column}_deviation_percent": deviation(ours, value)}


def beside_columns(column: str, head: str) -> dict[str, str]:
    """The columns that :func:`beside` fills, and their heads."""
    return {f"study_{column}": f"{head}, the study [3rd]", f"{column}_deviation_percent": "deviation [%]"}


def _entry(name: str, *path: Any) -> Any:
    entry = BOTTLENECKS[name]
    for key in path:
        entry = entry[key]
    return entry
