"""What is known of the study, with marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

PUBLISHED = yaml.safe_load((Path(__file__).parent / "published.yaml").read_text(encoding="utf-8"))
WORKS, BOTTLENECKS = PUBLISHED["works"], PUBLISHED["bottlenecks"]


def known(name: str, *path: Any) -> str:
    """A note that quotes what is known of a bottleneck."""
    entry = BOTTLENECKS[name]
    for key in path:
        entry = entry[key]
    return f"The study, from public notes (3rd): {entry['value']} ({entry['source']})."
