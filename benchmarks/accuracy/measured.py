"""Pairs of numbers, ours and theirs, from wherever they are stored, and how far apart they are.

A table of pairs is a CSV with the columns

    what       the machine, unit or foreign design that the pair is of
    point      what was run
    quantity   what was counted or measured, in ``unit``
    ours       archsim's number
    theirs     the other one
    source     where theirs is from
    kind       what theirs is: rtl, board, silicon, simulator or paper

It may have ``set``, where pairs are to be told apart (such as published and run, or fitted and tested), and, where the
two count different things, ``expected``, what ours must be by theirs, and ``within``, how far off it may be. Pairs of
one ``what``, ``set`` and ``unit`` are judged together, and graded by :data:`GRADES`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from archsim.docs.gallery import COMPARED, NAMES, Compared
from archsim.report.names import readable

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = Path(__file__).with_name("results")
CHIPS = BENCHMARKS / "chips" / "results"
KINDS = {
    "rtl": "Circuits of others",
    "board": "Boards",
    "silicon": "Chips",
    "simulator": "Simulators of others",
    "paper": "Tables of papers",
}
"""What numbers of others are, strongest evidence first, and how the page calls them."""
GRADES = (("A+", 0.0, 0.0), ("A", 1.0, 5.0), ("B", 5.0, 20.0), ("C", 20.0, 60.0), ("D", 50.0, 150.0))
"""The worst mean and the worst single error [%] that each grade allows; what no grade allows is an F."""
ROUNDING = 1e-7
"""Percent: what floating-point numbers differ by that were added up in another order."""
GIVEN = ("density",)
"""Quantities that a run is given, so that ours prove nothing."""
MISSES = Compared("miss_rates.csv", "machine", "misses of {machine} [%]", ours="tag_miss_percent")


class Pair(NamedTuple):
    """Two numbers that should be equal; ``command`` repeats ours. ``explained`` says whether ours is what follows from
    theirs, where the table says what does."""

    what: str
    set: str
    point: str
    quantity: str
    unit: str
    ours: float
    theirs: float
    source: str
    kind: str
    command: str
    explained: bool | None = None

    @property
    def error(self) -> float:
        """How far ours is from theirs [% of theirs]; infinite where theirs is 0 and ours is not."""
        if self.ours == self.theirs:
            return 0.0
        return 100 * abs(self.ours - self.theirs) / abs(self.theirs) if self.theirs else math.inf


class Judged(NamedTuple):
    """``pairs`` of one machine, set and unit, and how far they are apart [%]; ``correlation`` is None of less than
    three pairs, or where all numbers of a side are equal."""

    pairs: tuple[Pair, ...]
    mean: float
    worst: Pair
    correlation: float | None
    grade: str

    @property
    def explained(self) -> int | None:
        """How many of the pairs are as explained, if their table explains them."""
        known = [pair.explained for pair in self.pairs if pair.explained is not None]
        return sum(known) if known else None

    @property
    def name(self) -> str:
        """What the pairs are of."""
        first = self.pairs[0]
        return f"{first.what}, {first.set}" if first.set else first.what


class NotRun(NamedTuple):
    """A number of others that nothing was run for, and ``why``."""

    what: str
    point: str
    quantity: str
    kind: str
    why: str


class Circuit(NamedTuple):
    """What one comparison with a circuit of our own has compared; ``differing`` are cases."""

    unit: str
    test: str
    cases: int
    completions: int
    differing: int


def judged(pairs: Iterable[Pair]) -> list[Judged]:
    """All pairs, in the order of kinds and then as they are stored."""
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.kind, pair.what, pair.set, pair.unit), []).append(pair)
    order = list(KINDS)
    return [judge(group) for key, group in sorted(groups.items(), key=lambda item: order.index(item[0][0]))]


def judge(pairs: list[Pair]) -> Judged:
    """How far ``pairs`` are apart."""
    mean = math.fsum(pair.error for pair in pairs) / len(pairs)
    worst = max(pairs, key=lambda pair: pair.error)
    return Judged(tuple(pairs), mean, worst, _correlation(pairs), grade(mean, worst.error))


def grade(mean: float, worst: float) -> str:
    """The best of :data:`GRADES` that allows both errors [%]."""
    allowed = (name for name, most, single in GRADES if mean <= most + ROUNDING and worst <= single + ROUNDING)
    return next(allowed, "F")


def _correlation(pairs: list[Pair]) -> float | None:
    """Pearson's coefficient of ours and theirs."""
    ours, theirs = [pair.ours for pair in pairs], [pair.theirs for pair in pairs]
    mean_of_ours, mean_of_theirs = math.fsum(ours) / len(ours), math.fsum(theirs) / len(theirs)
    a, b = [one - mean_of_ours for one in ours], [one - mean_of_theirs for one in theirs]
    spread = math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / spread if len(pairs) > 2 and spread else None


def stored() -> list[Pair]:
    """All pairs of the tree."""
    return [*_tables(), *_studies()]


def circuits() -> list[Circuit]:
    """What the stored comparisons with circuits of our own have compared."""
    return [
        Circuit(row["unit"], row["test"], int(row["cases"]), int(row["completions"]), int(row["differing"]))
        for row in _rows(RESULTS / "circuits.csv")
    ]


def not_run() -> list[NotRun]:
    """Published points of chips and boards that have no number of ours."""
    return [
        NotRun(row["what"], row["point"], row["quantity"], row["kind"], row["why_not"])
        for row in _rows(CHIPS / "chips.csv")
        if row["why_not"]
    ]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        yield from csv.DictReader(lines)


def _tables() -> Iterator[Pair]:
    """Pairs of the tables that are stored as such."""
    commands = {
        BENCHMARKS / "oracles" / "results": "python benchmarks/oracles {}",
        RESULTS / "pairs": "python benchmarks/oracles/foreign_rtl {} CHECKOUT",
        CHIPS: "python benchmarks/chips",
        BENCHMARKS / "papers" / "prosperity_hpca25" / "results": "python benchmarks/papers/prosperity_hpca25",
    }
    for folder, command in commands.items():
        for path in sorted(folder.glob("*.csv")):
            for row in _rows(path):
                ours, theirs, expected = (float(row.get(name) or "nan") for name in ("ours", "theirs", "expected"))
                if not math.isnan(theirs) and row["ours"] and row["quantity"] not in GIVEN:
                    yield Pair(
                        row["what"], row.get("set", ""), row["point"], row["quantity"], row["unit"], ours, theirs,
                        row["source"], row["kind"], command.format(path.stem),
                        None if math.isnan(expected) else abs(ours - expected) <= float(row["within"] or 0),
                    )  # fmt: skip


def _studies() -> Iterator[Pair]:
    """Numbers that are printed in papers, from the stored tables of their studies.

    What is only inferred from print (mark I) is left out.
    """
    tables = {**COMPARED, "loas_micro24": (*COMPARED["loas_micro24"], MISSES)}
    for study, found in tables.items():
        for table in found:
            for row in _rows(BENCHMARKS / "papers" / study / "results" / table.file):
                what = table.about or NAMES.get(row[table.machine], "")
                if not row[table.paper] or not row[table.ours] or not what or row.get("mark") == "I":
                    continue
                quantity = table.quantity.format(**row)
                point = (
                    ", ".join(row[column] for column in ("network", "workload", "work") if row.get(column))
                    or table.network
                )
                yield Pair(
                    readable(what), row.get("set", "default"), point, quantity, "%" if "[%]" in quantity else "ratio",
                    float(row[table.ours]), float(row[table.paper]), f"{study}: {Path(table.file).stem}", "paper",
                    f"python benchmarks/papers/{study}",
                )  # fmt: skip
