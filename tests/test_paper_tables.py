"""The LoAS paper's tables: published numbers agree with each other, and the command fills a table."""

import csv
import subprocess
import sys

import pytest
import yaml

from tests.machines import ROOT

FOLDER = ROOT / "benchmarks" / "papers" / "loas_micro24"
PUBLISHED = yaml.safe_load((FOLDER / "published.yaml").read_text(encoding="utf-8"))
NETWORKS = ("alexnet", "vgg16", "resnet19")


def value(*path):
    entry = PUBLISHED
    for key in path:
        entry = entry[key]
    return entry["value"]


def entries(tree):
    """Every published entry of ``tree``, leaving out what is not the paper's."""
    if "value" in tree:
        yield tree
    else:
        for key, branch in tree.items():
            if key not in ("prototype", "bands"):
                yield from entries(branch)


def test_every_number_says_where_it_is_printed():
    found = list(entries(PUBLISHED))
    assert len(found) > 50
    for entry in found:
        assert set(entry) == {"value", "mark", "source"}
        assert entry["mark"] in ("P", "I")
        assert "section" in entry["source"] or "Table" in entry["source"] or "Fig." in entry["source"]


def test_means_are_those_of_the_networks():
    """The inferred AlexNet is what makes 6.79 the mean; SparTen-SNN's SRAM is 1.45 times GoSPA-SNN's on average."""
    speedups = [value("speedup", "sparten_snn", n) for n in NETWORKS]
    assert sum(speedups) / 3 == pytest.approx(value("speedup", "sparten_snn", "mean"), abs=0.005)
    assert PUBLISHED["speedup"]["sparten_snn"]["alexnet"]["mark"] == "I"
    sram = [value("traffic", "sram", "sparten_snn", n) / value("traffic", "sram", "gospa_snn", n) for n in NETWORKS]
    assert sum(sram) / 3 == pytest.approx(value("traffic", "sram_sparten_over_gospa"), rel=0.01)
    miss = value("miss_rate", "sparten_snn") / value("miss_rate", "sparten_over_loas")
    assert miss == pytest.approx(value("miss_rate", "loas"), rel=0.005)


@pytest.mark.parametrize("column", [0, 1], ids=["area", "power"])
def test_table_4_adds_up(column):
    rows = {block: entry["value"][column] for block, entry in PUBLISHED["table4"].items()}
    assert sum(rows.values()) - rows["total"] == pytest.approx(rows["total"], abs=1e-9)
    one = PUBLISHED["table4_tppe"]["total"]["value"][column]
    assert 16 * one == pytest.approx(rows["16 TPPEs"], rel=0.005)


@pytest.mark.parametrize("column", [0, 1], ids=["area", "power"])
def test_growth_with_timesteps_follows_from_the_shares(column):
    """A share s at T = 4 is s T/4 / (1 - s + s T/4) at T, and a TPPE is 1 - s + s T/4 as large."""
    share = PUBLISHED["tppe_share"][4]["value"][column] / 100
    for timesteps in (8, 16):
        growth = 1 - share + share * timesteps / 4
        assert PUBLISHED["tppe_growth"][timesteps]["value"][column] == pytest.approx(growth, rel=0.005)
        later = PUBLISHED["tppe_share"][timesteps]["value"][column] / 100
        assert share * timesteps / 4 / growth == pytest.approx(later, abs=0.001)


def fill(*arguments, folder):
    command = [sys.executable, str(FOLDER), "--jobs", "1", "-o", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_one_table_from_end_to_end(tmp_path):
    """Synthetic rows of Table II have the paper's averages; nothing is left blank that the paper prints.

    Where recorded spikes are missing that is said, and where they were looked for.
    """
    done = fill("--only", "table2", "--traces", str(tmp_path / "none"), folder=tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith(
        f"no recorded spikes of AlexNet and VGG16 in {tmp_path / 'none'}: synthetic ones instead"
    )
    assert lines[1].startswith("1 table from 3 runs in ")
    with (tmp_path / "out" / "table2_workloads.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    (resnet,) = [row for row in rows if row["workload"] == "ResNet19 (synthetic)"]
    assert float(resnet["silent_percent"]) == pytest.approx(value("table2", "resnet19")[2], abs=0.05)
    assert [float(row["paper_masked_silent_percent"]) for row in rows] == [
        value("table2", key)[2] for key in (*NETWORKS, "A-L4", "V-L8", "R-L19")
    ]
    text = (tmp_path / "out" / "tables.md").read_text(encoding="utf-8")
    assert "ResNet19 (synthetic)" in text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["table2_workloads.csv", "tables.md"]


def test_an_unknown_table_is_one_line(tmp_path):
    done = fill("--only", "fig21", folder=tmp_path / "out")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("no recorded spikes")]
    assert line.startswith("--only: no table 'fig21'; allowed: table2, fig12")
