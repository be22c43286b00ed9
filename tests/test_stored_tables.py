"""The stored results of the studies with tables: all of them, as their commands write them, with deviations."""

import csv
import json
import subprocess
import sys

import pytest

from tests.machines import ROOT

PAPERS = ROOT / "benchmarks" / "papers"
TABLES = """
import json, runpy, sys
sys.path.insert(0, sys.argv[1])
made = [make() for make in runpy.run_path(sys.argv[1] + "/__main__.py")["TABLES"].values()]
print(json.dumps({table.name: [list(table.columns), table.draw is not None] for table in made}))
"""
OF_WORKS = {"archsim_sata": "study_sata", "archsim_spikesim": "study_spikesim", "operations": "study_operations"}
"""In the table of the works ours and the study's column have other names."""


@pytest.fixture(scope="module", params=["loas_micro24", "snn_energy_icassp24"])
def study(request):
    """The folder of a study, and what its command offers: the columns of each table, and whether it has a figure."""
    folder = PAPERS / request.param
    done = subprocess.run([sys.executable, "-c", TABLES, str(folder)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def rows(path):
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_every_table_is_stored(study):
    folder, tables = study
    figures = {f"{name}.png" for name, (_, drawn) in tables.items() if drawn}
    assert {path.name for path in (folder / "results").iterdir()} == {f"{name}.csv" for name in tables} | figures
    for name, (columns, _) in tables.items():
        assert list(rows(folder / "results" / f"{name}.csv")[0]) == columns, name


def pairs(name, row):
    """Column of ours, and the column of the published number, for each number that the row has."""
    known = {column.removeprefix("study_"): column for column in row if column.startswith("study_")}
    known |= {"ours": "paper"} if "ours" in row else {}
    return {own: column for own, column in (OF_WORKS if name == "works" else known).items() if row[column]}


def test_a_published_number_is_never_alone(study):
    """It is in a column of its own, with ours in the same row, and how far ours lies from it."""
    folder, tables = study
    compared = 0
    for name in tables:
        for row in rows(folder / "results" / f"{name}.csv"):
            assert "paper" not in row.values()
            for own, published in pairs(name, row).items():
                ours, theirs = float(row[own]), float(row[published])
                off = row["deviation_percent" if own == "ours" else f"{own}_deviation_percent"]
                assert float(off) == pytest.approx(100 * (ours - theirs) / abs(theirs), abs=1e-5)
                compared += 1
    assert compared > 20
