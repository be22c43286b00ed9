"""Other people's simulators and archsim on the same layers, in processor time.

The layers, and how to run them on either side, are those of ``benchmarks/oracles``. Ours has the outputs computed and
compared with the trace in its time.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

from clock import Row, call

PEERS = {
    "prosperity": lambda name: name.startswith(("vgg9", "vgg16")),
    "scale_sim": lambda name: "16x4" in name,
    "sana_fe": lambda name: True,
}
"""Those that simulate the same thing, and which of their cases are timed."""


def rows(prosperity: str | None) -> Iterator[Row]:
    """A row for each peer that is installed and layer, and one for all of its layers together."""
    for name, chosen in PEERS.items():
        peer = importlib.import_module(name)
        try:
            installed = peer.load(prosperity if name == "prosperity" else None)
        except ImportError:
            print(f"{name} is not here: {peer.INSTALL}", file=sys.stderr)
            continue
        found = [_row(peer, installed, name, point) for point in peer.CASES if chosen(point)]
        yield from found
        sums = [{"point": f"all {len(found)}", "rows": found}]
        if name == "prosperity":
            sums.insert(0, {"point": "vgg16", "rows": [row for row in found if row["point"].startswith("vgg16")]})
        for group in sums:
            yield _total(name, group["point"], group["rows"])


def _row(peer: Any, installed: Any, name: str, point: str) -> Row:
    case = peer.CASES[point]
    ours, theirs = call(lambda: peer.ours(case)), call(lambda: peer.theirs(installed, case), 1)
    return _ratios(name, point, [*ours[:2], *theirs[:2]])


def _total(name: str, point: str, found: list[Row]) -> Row:
    columns = ("ours_wall_s", "ours_processor_s", "theirs_wall_s", "theirs_processor_s")
    return _ratios(name, point, [sum(row[column] for row in found) for column in columns])


def _ratios(name: str, point: str, spent: list[float]) -> Row:
    ours_wall, ours, theirs_wall, theirs = spent
    return {
        "peer": name, "point": point, "ours_wall_s": ours_wall, "ours_processor_s": ours, "theirs_wall_s": theirs_wall,
        "theirs_processor_s": theirs, "theirs_to_ours": theirs / ours,
    }  # fmt: skip
