"""The tables of batch-norm adaptation: every condition is a configuration of its own, as small as can be run."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from bn_glsvlsi23.conditions import TABLES

from archsim.hardware.analog.product import ProductConfig
from archsim.hardware.loading import load_block
from archsim.trace import save_trace
from tests import small_traces

FOLDER = Path(__file__).parent.parent / "benchmarks" / "papers" / "bn_glsvlsi23"


def config(*changes):
    return load_block(FOLDER / "arrays.yaml", ProductConfig, "arrays", changes)


def test_conditions_differ_from_each_other_and_from_none():
    found = {
        (table, label): config(*changes).model_dump_json()
        for table, conditions in TABLES.items()
        for label, changes in conditions.items()
        if (table, label) != ("devices", "rram")  # the reference: nothing is changed
    }
    assert len(set(found.values())) == len(found)
    assert config().model_dump_json() not in found.values()


def run(*arguments):
    command = [sys.executable, str(FOLDER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_table_is_written_and_continued(tmp_path):
    """On a tiny trace; a second run with more adaptations keeps the rows of the first."""
    trace = tmp_path / "small.npz"
    save_trace(small_traces.attention(), trace)
    asked = trace, "-o", tmp_path / "out", "--only", "devices", "--images", 4, "--calibration", 3
    first = run(*asked, "--adaptations", "none")
    assert first.returncode == 0, first.stderr
    rows = (tmp_path / "out" / "accuracy.csv").read_text().splitlines()
    assert len(rows) == 1 + 3
    second = run(*asked, "--adaptations", "none", "statistics")
    assert second.returncode == 0, second.stderr
    assert set(rows) < set((tmp_path / "out" / "accuracy.csv").read_text().splitlines())
    assert "statistics" in second.stderr
    assert "none" not in second.stderr
    assert {"devices.png", "devices.svg", "tables.md"} < {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--only", "divices"), "got 'divices'; allowed: parasitics, noise, drift, variation, devices"),
        ((FOLDER.parents[2] / "workloads" / "vgg9_dual_sparse.npz", "--images", 4), "has no image sets"),
        (("--images", "-5"), "--images: must be a whole number of at least 1, got '-5'"),
        (("--jobs", "0"), "--jobs: must be a whole number of at least 1, got '0'"),
        (("-o", FOLDER / "README.md"), "README.md: File exists"),
        (("-o", FOLDER / ".." / "clipformer_tcad24" / "results"), "accuracy.csv: is not of this command"),
    ],
)
def test_what_cannot_be_run(arguments, problem):
    found = run(*arguments)
    assert found.returncode == 2
    assert problem in found.stderr


@pytest.mark.parametrize("path", sorted((FOLDER / "results").glob("*.csv")), ids=lambda path: path.stem)
def test_the_page_has_the_numbers_of_its_results(path):
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    with path.open(newline="", encoding="utf-8") as file:
        found = {}
        for row in csv.DictReader(file):
            cells = found.setdefault(f"| {row['table']} | {row['condition']} |", {})
            cells[row["adaptation"]] = f"{100 * float(row['accuracy']):.3g}"
    for begin, cells in found.items():
        line = f"{begin} {' | '.join(cells[name] for name in ('none', 'statistics', 'fine_tuned') if name in cells)} |"
        assert line in text, line
