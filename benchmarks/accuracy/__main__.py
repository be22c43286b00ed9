"""The page "How accurate is it?": archsim beside circuits, chips, other people's simulators and papers.

    python benchmarks/accuracy               # the page again, from what is stored; takes seconds
    python benchmarks/accuracy --circuits    # before that, the comparisons with circuits of our own; needs Verilator
    python benchmarks/accuracy --foreign     # before that, archsim's counts of what circuits of others were counted at

The page is ``archsim/docs/accuracy.md``, its figures are in ``archsim/docs/accuracy/``, and its rows are in
``benchmarks/accuracy/results/accuracy.csv``. It is made of the tables that other commands store, and names the command
of each row. ``measured.py`` says what a table looks like, and where grades begin.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "benchmarks" / "papers")]

from command_line import command  # noqa: E402
from measured import GRADES, KINDS, RESULTS, Circuit, Judged, NotRun, circuits, judged, not_run, stored  # noqa: E402

from archsim.accelerators import registry  # noqa: E402
from archsim.docs.markdown import code, plain, table  # noqa: E402
from archsim.docs.site import SOURCES  # noqa: E402
from archsim.errors import UsageError  # noqa: E402
from archsim.report import drawing, files  # noqa: E402
from archsim.report.names import readable  # noqa: E402
from archsim.report.rounding import rounded  # noqa: E402

PAGE = SOURCES / "accuracy.md"
FIGURES = SOURCES / "accuracy"
FEWEST_DRAWN = 3
"""Pairs that a figure is worth."""
COLUMNS = (
    *("what", "set", "unit", "kind", "pairs", "mean_error_percent", "worst_error_percent", "worst_quantity"),
    *("worst_point", "explained", "correlation", "grade", "source", "command"),
)
PAIRS = ("what", "set", "point", "quantity", "unit", "ours", "theirs", "source", "kind")
FOREIGN = {
    "flywire": "FlyWire's matrix-vector array", "ranc": "RANC's core", "tinyodin": "tinyODIN",
    "metr0jw": "metr0jw's convolution", "prosperity": "ProsperityHDL's pruner and processor",
}  # fmt: skip
"""Circuits of others in ``benchmarks/oracles/foreign_rtl``."""
RUN_AS = {
    "FlyWire's matrix-vector array": "flywire", "RANC's core": "neuron_core", "tinyODIN": "neuron_core",
    "metr0jw's convolution": "neuron_core", "NeuRRAM": "imc", "SCALE-Sim": "systolic",
}  # fmt: skip
"""The machines that others' designs and programs were compared with, where these are not called like them."""
OF_THE_COUNT = ("measured", "cycles", "source", "idle")
"""Columns of its tables that are no settings of the circuit."""
INTRODUCTION = """# How accurate is it?

<!-- Made by python benchmarks/accuracy. -->

This page sets archsim's numbers beside those of circuits, chips, other simulators and papers. It is made by `python
benchmarks/accuracy` from stored tables; each row names the command that makes its numbers again. Rows that look bad
stay in, and machines that nothing was compared with are named. What single numbers rest on is another question:
[evidence](guide/evidence.md).

An error is |ours - theirs| / |theirs|. n is the number of pairs, r their correlation (Pearson; of three pairs or more).
Where others count something else, "as explained" is how many of ours are what must follow from theirs. A grade is the
best one whose two limits both hold:
"""
CIRCUITS = """## Units: circuits of our own

Each unit was written again as a circuit, with registers, FIFOs and arbiters, and run by Verilator on random cases. A
case agrees if every output has the same value and comes in the same cycle. `tests/rtl/README.md` says what each circuit
is, and what is in no circuit.
"""
WORD = """archsim is called cycle-accurate in what has an A+ in this table{others}, and in nothing else.
"""
ABOUT = {
    "rtl": "Designs that others built and whose cycles they published, or that a script counts in their own circuit.",
    "board": "Numbers that others measured on boards.",
    "silicon": (
        "Numbers that others measured on chips, as others read them in the papers, for four macros of in-memory\n"
        "computing on `imc`: an array with its drivers and converters, and nothing around it. How long a step of a\n"
        "read takes and what an action costs is fitted to every other point. Rows called fitted are of these\n"
        "points, so their small errors prove nothing; rows called tested are of the others. `benchmarks/chips` says\n"
        "which constants, and where they fit badly."
    ),
    "simulator": (
        "Programs that others wrote, on the same inputs. Where they differ, `benchmarks/oracles` says who is\n"
        "right, and why."
    ),
    "paper": (
        "Numbers that papers print or their authors publish, from the tables of [their studies](papers/index.md),\n"
        "which say what carries each difference. With `ideal`, memory has no limits. Constants that are called\n"
        "fitted were chosen to meet such ratios, so their small errors prove nothing. Left out are Table IV of LoAS,\n"
        "our price table, and the shares of ones in Prosperity's workloads, which a run is given."
    ),
}
"""What stands under the heading of each kind of numbers."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--circuits", action="store_true", help="compare with circuits of our own first")
    parser.add_argument("--foreign", action="store_true", help="count what circuits of others were counted at first")
    given = parser.parse_args(arguments)
    if given.circuits:
        count_circuits()
    if given.foreign:
        count_foreign()
    found = judged(stored())
    for old in FIGURES.glob("*.svg"):
        old.unlink()
    FIGURES.mkdir(exist_ok=True)
    for name, draw in figures(found, circuits()).items():
        drawing.save(FIGURES / name, draw, (2.4, 2.4) if name != "circuits" else (6.0, 2.6), formats=("svg",))
    files.write_texts(PAGE.parent, {PAGE.name: page(found, circuits(), not_run())})
    files.write_texts(RESULTS, {"accuracy.csv": files.csv_text(rows(found), COLUMNS)})
    print(f"{PAGE.relative_to(ROOT)}: {sum(len(one.pairs) for one in found):,} pairs in {len(found)} rows")


def count_circuits() -> None:
    """Run the comparisons with circuits and store what they compared; UsageError where they did not run."""
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts.csv"
        told = {**os.environ, "ARCHSIM_RTL_COUNTS": str(counts)}
        subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "rtl", "tests/rtl"], cwd=ROOT, env=told)
        if not counts.exists():
            raise UsageError("no comparison with a circuit was run; they need Verilator, make and g++")
        store_counts(counts)


def count_foreign() -> None:
    """Tables of pairs from the stored counts of circuits of others, and archsim's of the same work."""
    sys.path.append(str(ROOT / "benchmarks" / "oracles" / "foreign_rtl"))
    from designs import DESIGNS, stored  # type: ignore[import-not-found]

    (RESULTS / "pairs").mkdir(exist_ok=True)
    for name, design in DESIGNS.items():
        pairs = []
        for row in stored(name):
            settings = [f"{key} {value}" for key, value in row.items() if key not in OF_THE_COUNT]
            ran = row["source"] == "run"
            told = "run from a checkout" if ran else "published"
            pairs.append({
                "what": FOREIGN[name], "set": told, "point": ", ".join(settings),
                "quantity": f"cycles, {row['measured']}", "unit": "cycles", "ours": design.ours(row, "compiled"),
                "theirs": row["cycles"], "kind": "rtl",
                "source": f"{design.repository} {design.commit[:7]}" + f", {row['source']}" * (not ran),
            })  # fmt: skip
        files.write_texts(RESULTS / "pairs", {f"{name}.csv": files.csv_text(pairs, PAIRS)})


def store_counts(counts: Path) -> None:
    """The table of circuits from the lines that the tests wrote (``tests/rtl/conftest.py``)."""
    with counts.open(newline="") as lines:
        found = [Circuit(Path(test.partition("::")[0]).stem.removeprefix("test_"), test, *map(int, numbers))
                 for test, *numbers in csv.reader(lines)]  # fmt: skip
    text = files.csv_text([one._asdict() for one in sorted(found)], Circuit._fields)
    files.write_texts(RESULTS, {"circuits.csv": text})


def rows(found: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    """A row of the table of all that was judged."""
    for one in found:
        first, worst = one.pairs[0], one.worst
        yield {
            "what": first.what, "set": first.set, "unit": first.unit, "kind": first.kind, "pairs": len(one.pairs),
            "mean_error_percent": _percent(one.mean), "worst_error_percent": _percent(worst.error),
            "worst_quantity": worst.quantity, "worst_point": worst.point, "explained": one.explained,
            "correlation": None if one.correlation is None else round(one.correlation, 4), "grade": one.grade,
            "source": "; ".join(dict.fromkeys(pair.source for pair in one.pairs)),
            "command": "; ".join(dict.fromkeys(pair.command for pair in one.pairs)),
        }  # fmt: skip


def page(found: Sequence[Judged], own: Sequence[Circuit], left: Sequence[NotRun]) -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION, _grades(), "", *_circuits(own, found)]
    for kind, title in KINDS.items():
        of_kind = [one for one in found if one.pairs[0].kind == kind]
        parts += [f"## {title}\n", f"{ABOUT[kind]}\n"]
        parts += [_table(of_kind), *_shown(of_kind)] if of_kind else ["Nothing was compared yet.\n"]
        parts += _not_run([one for one in left if one.kind == kind])
    whats = {pair.what for one in found for pair in one.pairs}
    compared = whats | {readable(machine) for what, machine in RUN_AS.items() if what in whats}
    alone = [readable(name) for name in registry() if readable(name) not in compared]
    parts.append("## What nothing was compared with\n")
    names = f"No number of others stands beside these machines: {', '.join(alone)}." if alone else "No machine."
    parts.append(f"{names}\n")
    return "\n".join(parts)


def _grades() -> str:
    limits = [(name, f"{mean:g} %", f"{worst:g} %") for name, mean, worst in GRADES]
    return table(("grade", "mean error at most", "worst error at most"), [*limits, ("F", "more", "more")])


def _circuits(own: Sequence[Circuit], found: Sequence[Judged]) -> Iterator[str]:
    yield CIRCUITS
    yield table(
        ("unit", "cases", "outputs and their cycles", "cases that differ", "grade", "command"),
        [
            (
                one.unit.replace("_", " "), f"{one.cases:,}", f"{one.completions:,}", str(one.differing),
                "F" if one.differing else "A+", code(f"pytest -m rtl {one.test}"),
            )
            for one in own
        ],
    )  # fmt: skip
    yield "![outputs compared with circuits, by unit](accuracy/circuits.svg)\n"
    foreign = [one for one in found if one.pairs[0].kind == "rtl"]
    others = [name for name in dict.fromkeys(one.pairs[0].what for one in foreign)
              if all(one.grade == "A+" for one in foreign if one.pairs[0].what == name)]  # fmt: skip
    yield WORD.format(others=f" and in the cycles of {', '.join(others)}" * bool(others))


def _table(found: Sequence[Judged]) -> str:
    return table(
        ("what", "unit", "n", "mean error", "worst error", "worst case", "as explained", "r", "grade", "command"),
        [
            (
                plain(one.name), one.pairs[0].unit, f"{len(one.pairs):,}", _told(one.mean), _told(one.worst.error),
                plain(f"{one.worst.quantity}, {one.worst.point}") if one.worst.error else "",
                "" if one.explained is None else f"{one.explained:,}",
                "" if one.correlation is None else f"{one.correlation:.2f}", one.grade,
                ", ".join(code(line) for line in dict.fromkeys(pair.command for pair in one.pairs)),
            )
            for one in found
        ],
    )  # fmt: skip


def _not_run(left: Sequence[NotRun]) -> Iterator[str]:
    if left:
        yield "These are not run:\n"
        lines = [(plain(one.what), plain(f"{one.quantity}, {one.point}"), plain(one.why)) for one in left]
        yield table((left[0].kind.replace("silicon", "chip"), "point", "why"), lines)


def _shown(found: Sequence[Judged]) -> Iterator[str]:
    """Figures side by side."""
    images = [
        f"![{one.name} [{one.pairs[0].unit}]: ours over theirs](accuracy/{_stem(one)}.svg){{.scatter}}"
        for one in found
        if len(one.pairs) >= FEWEST_DRAWN
    ]
    if images:
        yield "\n".join(images) + "\n"


def figures(found: Sequence[Judged], own: Sequence[Circuit]) -> dict[str, Callable[[Any], None]]:
    """What draws each figure, by its name."""
    drawn = {_stem(one): partial(scatter, one) for one in found if len(one.pairs) >= FEWEST_DRAWN}
    return {"circuits": partial(bars, own), **drawn}


def scatter(one: Judged, axes: Any) -> None:
    """Ours over theirs, and the line on which they would be equal."""
    ours, theirs = [pair.ours for pair in one.pairs], [pair.theirs for pair in one.pairs]
    low, high = min(*ours, *theirs), max(*ours, *theirs)
    axes.plot([low, high], [low, high], color="black", linewidth=0.6)
    axes.plot(theirs, ours, "o", color=drawing.FILLS[0][0], markersize=3, alpha=0.6)
    if low > 0:
        drawing.plain_logarithmic(axes)
        axes.tick_params(axis="x", labelsize=drawing.letters(2))
    axes.set_xlabel(f"theirs [{one.pairs[0].unit}]")
    axes.set_ylabel(f"ours [{one.pairs[0].unit}]")
    axes.set_title(drawing.label(f"{one.name}: {one.grade}"), fontsize=drawing.letters())


def bars(own: Sequence[Circuit], axes: Any) -> None:
    """Outputs that were compared with circuits, by unit."""
    axes.barh([one.unit.replace("_", " ") for one in own], [one.completions for one in own], color=drawing.FILLS[0][0])
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.invert_yaxis()
    axes.set_xlabel("outputs compared, all equal in value and cycle" if not any(one.differing for one in own)
                    else "outputs compared")  # fmt: skip


def _stem(one: Judged) -> str:
    text = "_".join((one.pairs[0].kind, one.name, one.pairs[0].unit)).lower().replace("%", "percent")
    return "_".join("".join(letter if letter.isalnum() else " " for letter in text).split())


def _percent(error: float) -> float | None:
    return round(error, 6) if math.isfinite(error) else None


def _told(error: float) -> str:
    return f"{rounded(error) if error >= 0.005 else '0.00'} %" if math.isfinite(error) else "without limit"


if __name__ == "__main__":
    sys.exit(command(main))
