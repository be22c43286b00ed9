"""What the paper prints, and ours beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from paper_tables import Row, deviation

PUBLISHED = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text(encoding="utf-8"))


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


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean, which the paper's averages of ratios are."""
    return sum(values) / len(values)
