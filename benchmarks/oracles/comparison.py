"""What a peer and archsim say of the same cases, as rows with the columns that all tables of accuracy have.

A peer is a module with

- ``TITLE``, and ``INSTALL``, which says how to get it;
- ``CASES``: what is computed, by name;
- ``load(checkout)``: the peer, from an installed package or a clone. ImportError where it is not there;
- ``version(peer)``: which one it is;
- ``theirs(peer, case)``: its numbers, by quantity;
- ``ours(case)``: archsim's;
- ``rules(case, theirs)``: what is compared, and what archsim must say by the peer's numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import pandas as pd

COLUMNS = (
    "what", "point", "quantity", "unit", "ours", "theirs", "expected", "within", "source", "kind", "verdict",
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """One comparison: archsim's ``quantity`` must lie within ``within`` of ``expected``, and ``verdict`` says why.

    ``expected`` is the peer's number, or what follows from its numbers where the two differ on purpose.
    """

    quantity: str
    unit: str
    expected: float
    verdict: str
    within: float = 0.0


def rows(peer: ModuleType, numbers: Mapping[str, Mapping[str, float]], source: str) -> pd.DataFrame:
    """The table of all cases, from the peer's ``numbers`` by case and quantity."""
    found = []
    for name, case in peer.CASES.items():
        ours = peer.ours(case)
        for rule in peer.rules(case, numbers[name]):
            found.append(
                {
                    "what": peer.TITLE, "point": name, "quantity": rule.quantity, "unit": rule.unit,
                    "ours": ours[rule.quantity], "theirs": numbers[name][rule.quantity], "expected": rule.expected,
                    "within": rule.within, "source": source, "kind": "simulator", "verdict": rule.verdict,
                }
            )  # fmt: skip
    return pd.DataFrame(found, columns=list(COLUMNS))


def again(peer: ModuleType, stored: pd.DataFrame) -> pd.DataFrame:
    """A stored table with archsim's numbers computed anew, but for cases of the peer's own files where these are not
    there. KeyError for a case or quantity that it lacks."""
    ours: dict[str, Mapping[str, float]] = {}
    for name, rows in stored.groupby("point", sort=False):
        try:
            ours[name] = peer.ours(peer.CASES[name])
        except ImportError:
            ours[name] = dict(zip(rows.quantity, rows.ours, strict=True))
    return stored.assign(ours=[ours[row.point][row.quantity] for row in stored.itertuples()])


def wrong(table: pd.DataFrame) -> pd.DataFrame:
    """The rows in which archsim is not what it must be."""
    return table[~((table.ours - table.expected).abs() <= table.within)]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each quantity and verdict: points, how many are as expected and equal, ours over theirs."""
    bad = set(wrong(table).index)
    told = table.assign(
        ratio=(table.ours / table.theirs).where(table.theirs != 0), equal=table.ours == table.theirs,
        as_expected=[index not in bad for index in table.index],
    )  # fmt: skip
    parts = told.groupby(["what", "quantity", "verdict"], sort=False)
    return parts.agg(
        points=("ours", "size"), as_expected=("as_expected", "sum"), equal=("equal", "sum"),
        least_ratio=("ratio", "min"), mean_ratio=("ratio", "mean"), largest_ratio=("ratio", "max"),
    ).reset_index()  # fmt: skip
