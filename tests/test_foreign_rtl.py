"""archsim against cycle counts of circuits that others wrote: every stored count, in both engines."""

import importlib
import json
import subprocess
import sys

import pytest

from tests.machines import ROOT

FOLDER = ROOT / "benchmarks" / "oracles" / "foreign_rtl"
COUNTS = {"flywire": 197, "ranc": 187, "tinyodin": 196, "metr0jw": 74, "prosperity": 80}
FEW = {"flywire": 1_500, "ranc": 2_000, "tinyodin": 10_000, "metr0jw": 3_000, "prosperity": 3_000}
"""Cycles up to which the reference engine runs a case, too."""


@pytest.fixture(scope="module")
def designs():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module("designs")
        sys.modules.pop("designs", None)


def against(*arguments):
    return subprocess.run([sys.executable, FOLDER, *arguments], capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_every_count_is_met_exactly(designs, name):
    rows = designs.stored(name)
    assert len(rows) == COUNTS[name]
    wrong = [(row, ours) for row in rows if (ours := designs.DESIGNS[name].ours(row, "compiled")) != row["cycles"]]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_the_reference_engine_meets_those_that_are_short(designs, name):
    rows = [row for row in designs.stored(name) if row["cycles"] <= FEW[name]][::3]
    assert len(rows) >= 20
    wrong = [(row, ours) for row in rows if (ours := designs.DESIGNS[name].ours(row, "reference")) != row["cycles"]]
    assert wrong == []


def test_more_than_a_hundred_are_published_and_a_design_has_several_sizes(designs):
    rows = {name: designs.stored(name) for name in COUNTS}
    published = [row for found in rows.values() for row in found if row["source"] != "run"]
    assert len(published) == 144 + 48 + 5 + 2
    for name in ("ranc", "tinyodin", "metr0jw", "prosperity"):
        assert len({tuple(case.items()) for case in designs.DESIGNS[name].cases}) == len(designs.DESIGNS[name].cases)
        assert {row["source"] for row in rows[name]} >= {"run"}


def test_seeds_of_stalls_are_those_of_the_bench(designs):
    """It starts at 1, draws once for each of 64 x 64 weights and 64 inputs, then once a cycle but the first of every
    product; the seed is what it has drawn when the first result is offered."""
    products = {}
    for row in designs.stored("flywire"):
        if row["measured"] == "product":
            products.setdefault(row["design"], []).append(row)
    assert len(products) == 12
    for rows in products.values():
        state = drawn(1, 64 * 64 + 64)
        alone = {row["inputs"]: row["cycles"] for row in rows if row["stall_percent"] == 0}
        for row in rows:
            if row["stall_percent"]:
                assert row["seed"] == drawn(state, alone[row["inputs"]] - 1 - row["inputs"])
            state = drawn(state, row["cycles"] - 1)


def drawn(state, times):
    for _ in range(times):
        state = (state * 1103515245 + 12345) % 2**32
    return state


def test_a_report_of_the_circuit_is_compared(designs, tmp_path):
    report = {}
    for row in designs.stored("flywire"):
        if row["measured"] == "product":
            cycles = report.setdefault(row["design"], {})
            cycles[f"{row['inputs']},{row['stall_percent']}"] = row["cycles"]
    report["serial"]["8,0"] += 1
    folder = tmp_path / "reports" / "perf"
    folder.mkdir(parents=True)
    (folder / "mvu_cycles.json").write_text(json.dumps(report))
    done = against("flywire", tmp_path, "-o", tmp_path / "counts.csv")
    assert done.returncode == 0, done.stderr
    *told, last = done.stdout.splitlines()
    assert last == "flywire: 192 counts, 191 as stored, 191 as archsim says"
    assert len(told) == 2 and "'inputs': 8" in told[0] and told[1].endswith("archsim: 75")
    assert len((tmp_path / "counts.csv").read_text().splitlines()) == 193


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["tinyodn", "."], "no design 'tinyodn'; allowed: flywire, ranc, tinyodin, metr0jw, prosperity"),
     (["flywire", "nowhere"], "scripts/perf_sweep.py of the checkout writes it"),
     (["ranc", "nowhere"], "needed is a checkout of github.com/UA-RCL/RANC")],
)  # fmt: skip
def test_what_is_missing_is_said(arguments, said):
    done = against(*arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
