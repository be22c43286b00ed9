"""The page "How accurate is it?": it is what its command makes of what is stored, and no bad row is lost on the way."""

import csv
import importlib.util
import math
import re
import sys
from types import SimpleNamespace

import pytest

from archsim.accelerators import registry
from archsim.report.evidence import CIRCUIT_OF_KIND, CIRCUITS
from archsim.report.names import readable
from tests.machines import ROOT
from tests.rtl import conftest
from tests.rtl.circuit import COMPARED

FOLDER = ROOT / "benchmarks" / "accuracy"
PAPERS = ROOT / "benchmarks" / "papers"
CYCLE_ACCURATE = {"README.md", "archsim/docs/accuracy.md", "benchmarks/accuracy/__main__.py", "tests/test_accuracy.py"}
"""Where the word may stand: beside what proves it. The changelog and comparisons with others are history."""


@pytest.fixture(scope="module")
def accuracy():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        spec = importlib.util.spec_from_file_location("accuracy", FOLDER / "__main__.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
        sys.modules.pop("measured")


def pair(accuracy, ours, theirs, **changes):
    measured = sys.modules["measured"]
    values = {
        "what": "x", "set": "", "point": "p", "quantity": "cycles", "unit": "cycles", "source": "", "kind": "rtl",
        "command": "",
    }  # fmt: skip
    return measured.Pair(**{**values, "ours": float(ours), "theirs": float(theirs), **changes})


def rows(path):
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_the_page_is_up_to_date(accuracy):
    """If not: python benchmarks/accuracy."""
    found, own = accuracy.judged(accuracy.stored()), accuracy.circuits()
    assert accuracy.PAGE.read_text(encoding="utf-8") == accuracy.page(found, own, accuracy.not_run())
    table = accuracy.files.csv_text(accuracy.rows(found), accuracy.COLUMNS)
    assert (accuracy.RESULTS / "accuracy.csv").read_text(encoding="utf-8") == table
    drawn = accuracy.figures(found, own)
    assert {path.name for path in accuracy.FIGURES.iterdir()} == {f"{name}.svg" for name in drawn}
    assert set(re.findall(r"accuracy/(\w+)\.svg", accuracy.PAGE.read_text(encoding="utf-8"))) == set(drawn)


def test_no_printed_number_is_lost(accuracy):
    """Counted in the tables without the page's code: all with the mark P, and all of the study of ICASSP 2024."""
    printed = {(one.source, one.ours, one.theirs) for one in accuracy.stored() if one.kind == "paper"}
    named = ("fig12_speedup", "fig12_masking", "fig17_scaling", "fig13_traffic", "energy", "fig18_ann", "fig19_dense")
    wanted = 0
    for name in named:
        for row in rows(PAPERS / "loas_micro24" / "results" / f"{name}.csv"):
            if row["paper"] and row["mark"] == "P":
                assert (f"loas_micro24: {name}", float(row["ours"]), float(row["paper"])) in printed
                wanted += 1
    assert wanted > 80
    assert sum(one.source == "snn_energy_icassp24: works" for one in accuracy.stored()) == 12
    assert not [one for one in accuracy.stored() if one.theirs == 7.78 and "inferred" not in one.point]


def test_every_row_of_a_table_of_pairs_is_taken(accuracy):
    tables = [
        *(ROOT / "benchmarks" / "oracles" / "results").glob("*.csv"),
        *(FOLDER / "results" / "pairs").glob("*.csv"),
        ROOT / "benchmarks" / "chips" / "results" / "chips.csv",
        *(PAPERS / "prosperity_hpca25" / "results").glob("*.csv"),
    ]
    given = "density"  # of Prosperity's workloads
    wanted = sum(
        bool(row["theirs"] and row["ours"])
        for path in tables
        for row in rows(path)
        if {"ours", "theirs"} <= row.keys() and row["quantity"] != given
    )
    studies = ("loas_micro24: ", "snn_energy_icassp24: ")
    assert sum(not one.source.startswith(studies) for one in accuracy.stored()) == wanted


def test_chips_are_told_apart_by_half_and_all_points_are_there(accuracy):
    """Rows of fitted points are called so; a point that is not run stands with its reason, and has no row."""
    judged = [one for one in accuracy.judged(accuracy.stored()) if one.pairs[0].kind == "silicon"]
    assert {one.pairs[0].set for one in judged} == {"fitted", "tested"}
    halves = [(one.name.removesuffix(f", {half}"), one.pairs[0].unit)
              for half in ("fitted", "tested") for one in judged if one.pairs[0].set == half]  # fmt: skip
    assert len(halves) == 2 * len(set(halves)) == 12
    table = rows(ROOT / "benchmarks" / "chips" / "results" / "chips.csv")
    left = [row for row in table if not row["ours"]]
    assert len(left) == len(accuracy.not_run()) == len(table) - sum(len(one.pairs) for one in judged) == 20
    text = accuracy.PAGE.read_text(encoding="utf-8")
    of_kind = {kind: text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
               for kind, title in sys.modules["measured"].KINDS.items()}  # fmt: skip
    for row in left:
        assert f"| {row['what']} | {row['quantity']}, {row['point']} | {row['why_not']} |" in of_kind[row["kind"]]


def test_machines_that_nothing_was_compared_with(accuracy):
    """Those that a design of others was run on are none of them."""
    last = accuracy.PAGE.read_text(encoding="utf-8").rpartition("\n## ")[2]
    assert accuracy.RUN_AS.keys() <= {one.what for one in accuracy.stored()}
    assert set(accuracy.RUN_AS.values()) <= registry().keys()
    assert not [name for name in (*accuracy.RUN_AS.values(), "prosperity", "loas") if f" {readable(name)}" in last]
    assert f" {readable('gustav_snn')}" in last


def test_errors_by_hand(accuracy):
    """12 for 10 is 20 %, 30 for 40 is 25 %; on (10, 12), (40, 30), (20, 24) r is 0.9286 by hand."""
    pairs = [pair(accuracy, 12, 10), pair(accuracy, 30, 40), pair(accuracy, 24, 20)]
    (one,) = accuracy.judged(pairs)
    assert (one.mean, one.worst) == (pytest.approx(65 / 3), pairs[1])
    # theirs: mean 70/3, deviations -40/3, 50/3, -10/3; ours: mean 22, deviations -10, 8, 2.
    by_hand = (400 / 3 + 400 / 3 - 20 / 3) / math.sqrt((1600 + 2500 + 100) / 9 * (100 + 64 + 4))
    assert one.correlation == pytest.approx(by_hand)
    assert one.grade == "D"
    assert pair(accuracy, 0, 0).error == 0
    assert pair(accuracy, 1, 0).error == math.inf
    assert pair(accuracy, -80, -100).error == 20
    assert accuracy.judged(pairs[:2])[0].correlation is None


def test_pairs_of_other_sets_and_units_are_apart(accuracy):
    pairs = [
        pair(accuracy, 1, 1), pair(accuracy, 1, 2, set="fitted"), pair(accuracy, 1, 3, unit="s"),
        pair(accuracy, 1, 4, kind="paper"), pair(accuracy, 1, 1, what="y"),
    ]  # fmt: skip
    assert [len(one.pairs) for one in accuracy.judged(pairs)] == [1] * 5
    assert accuracy.judged(pairs[::-1])[-1].pairs[0].kind == "paper"


@pytest.mark.parametrize(("mean", "worst", "grade"), [
    (0, 0, "A+"), (0.001, 0.001, "A"), (1, 5, "A"), (1.01, 5, "B"), (1, 5.01, "B"), (5, 20, "B"), (5, 20.1, "C"),
    (20, 60, "C"), (20.1, 60, "D"), (50, 150, "D"), (50.1, 150, "F"), (0, 151, "F"), (math.inf, math.inf, "F"),
])  # fmt: skip
def test_grades_are_tight(accuracy, mean, worst, grade):
    assert sys.modules["measured"].grade(mean, worst) == grade


def test_what_counts_as_a_circuit_was_compared_and_agreed(accuracy):
    """Units that evidence calls rtl are in the stored table, of at least 600 random cases, none of which differs."""
    found = {one.unit: one for one in accuracy.circuits()}
    credited = {*CIRCUITS, *CIRCUIT_OF_KIND.values()}
    assert credited <= found.keys()
    for name in credited:
        assert found[name].differing == 0
        assert found[name].cases >= 600, name
        assert found[name].completions >= found[name].cases, name
    files = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "rtl").glob("test_*.py")}
    assert found.keys() <= files


def test_a_circuit_that_differs_gets_an_f(accuracy):
    own = [sys.modules["measured"].Circuit("dram", "t", 7, 70, 1)]
    assert "| dram | 7 | 70 | 1 | F |" in accuracy.page([], own, [])


def test_what_comparisons_count_is_written_down(accuracy, tmp_path, monkeypatch):
    """A case that differs ends its test, and is a line too."""
    counts = tmp_path / "counts.csv"
    monkeypatch.setenv("ARCHSIM_RTL_COUNTS", str(counts))
    item = SimpleNamespace(nodeid="tests/rtl/test_dram.py::test_bursts")
    conftest.pytest_runtest_setup(item)
    for when in ("setup", "call", "teardown"):
        COMPARED.extend([5, 6] * (when == "call"))
        conftest.pytest_runtest_makereport(item, SimpleNamespace(when=when, excinfo=None))
    conftest.pytest_runtest_setup(item)
    conftest.pytest_runtest_makereport(item, SimpleNamespace(when="call", excinfo="AssertionError"))
    assert counts.read_text().splitlines() == [f"{item.nodeid},2,11,0", f"{item.nodeid},1,0,1"]
    monkeypatch.setattr(accuracy, "RESULTS", tmp_path)
    accuracy.store_counts(counts)
    assert rows(tmp_path / "circuits.csv")[1] == {
        "unit": "dram", "test": item.nodeid, "cases": "2", "completions": "11", "differing": "0",
    }  # fmt: skip


def test_cycle_accurate_is_said_only_where_it_is_proved():
    found = set()
    for suffix in ("md", "py", "yaml", "toml", "cff"):
        for path in ROOT.rglob(f"*.{suffix}"):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith((".", "CHANGELOG")) and re.search(r"cycle[- ]accura", path.read_text("utf-8"), re.I):
                found.add(name)
    assert found <= CYCLE_ACCURATE
