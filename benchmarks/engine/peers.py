"""Other people's simulators and archsim on the same layers, in wall time and processor time.

The layers, and how to run them on either side, are those of ``benchmarks/oracles``. ``whole`` is all from a layer in
memory to its numbers, ours with the outputs computed and compared with the trace. A peer that takes longest to read its
own files also has ``simulation``, which is the simulation of a machine and a network that are loaded.
"""

from __future__ import annotations

import csv
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clock import Row, call

PEERS = {
    "prosperity": lambda name: name.startswith(("vgg9", "vgg16")),
    "scale_sim": lambda name: "16x4" in name,
    "sana_fe": lambda name: not name.startswith("VGG9"),  # whose biases are set between steps
}
"""Those that simulate the same thing, and which of their cases are timed."""


def rows(prosperity: str | None, table: Path) -> Iterator[Row]:
    """A row for each peer and layer, and one for all of its layers together; of a peer that is not installed, the rows
    that ``table`` has."""
    for name, chosen in PEERS.items():
        peer = importlib.import_module(name)
        try:
            installed = peer.load(prosperity if name == "prosperity" else None)
        except ImportError:
            print(f"{name} is not here, and its rows stay as they are: {peer.INSTALL}", file=sys.stderr)
            yield from _stored(name, table)
            continue
        found = [row for point in peer.CASES if chosen(point) for row in _rows(peer, installed, name, point)]
        yield from found
        if name == "prosperity":
            yield total(name, "vgg16", "whole", [row for row in found if row["point"].startswith("vgg16")])
        for part in dict.fromkeys(row["part"] for row in found):
            same = [row for row in found if row["part"] == part]
            yield total(name, f"all {len(same)}", part, same)


def _stored(name: str, table: Path) -> Iterator[Row]:
    """What an earlier run found of the peer ``name``, as it is written."""
    if table.exists():
        with table.open(newline="") as file:
            yield from (row for row in csv.DictReader(file) if row["peer"] == name)


def _rows(peer: Any, installed: Any, name: str, point: str) -> Iterator[Row]:
    """A row for each part; theirs is called once to warm up and once for its time."""
    case = peer.CASES[point]
    if hasattr(peer, "timed"):
        parts = peer.timed(installed, case, times=2)
    else:
        parts = {"whole": (lambda: peer.ours(case), lambda: peer.theirs(installed, case))}
    for part, (ours, theirs) in parts.items():
        yield _ratios(name, point, part, [*call(ours)[:2], *call(theirs, 1)[:2]])


def total(name: str, point: str, part: str, found: Sequence[Row]) -> Row:
    """The sums of times, and their ratio."""
    columns = ("ours_wall_s", "ours_processor_s", "theirs_wall_s", "theirs_processor_s")
    return _ratios(name, point, part, [sum(row[column] for row in found) for column in columns])


def _ratios(name: str, point: str, part: str, spent: Sequence[float]) -> Row:
    ours_wall, ours, theirs_wall, theirs = spent
    return {
        "peer": name, "point": point, "part": part, "ours_wall_s": ours_wall, "ours_processor_s": ours,
        "theirs_wall_s": theirs_wall, "theirs_processor_s": theirs, "theirs_to_ours": theirs / ours,
    }  # fmt: skip
