"""The ICASSP 2024 study's tables: what is known agrees with itself, and rows follow from reports."""

import csv
import importlib
import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from archsim.trace import load_trace
from archsim.trace.resimulation import check_trace
from tests.machines import ROOT

FOLDER = ROOT / "benchmarks" / "papers" / "snn_energy_icassp24"
PUBLISHED = yaml.safe_load((FOLDER / "published.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def study(monkeypatch):
    """The modules of the study; those of other papers have the same names, so they are forgotten again."""
    names = ("works", "bottlenecks", "runs", "source", "table", "jobs")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(FOLDER.parent / "loas_micro24")
    monkeypatch.syspath_prepend(FOLDER)
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    for name in names:
        sys.modules.pop(name, None)


class Report:
    """A run whose energy is proportional to T, with a share of neurons that is known."""

    images = 1

    def __init__(self, job):
        self.timesteps = job.workload.timesteps
        self.job = job

    def rows(self, name):
        if name == "area":
            return [{"unit": "lif", "area_mm2": 1.0}, {"unit": "pe", "area_mm2": 3.0}]
        unit_energies = {"lif": 1, "pe": 2, "array": 2, "dram": 4, "weight_buffer": 1, "membrane_sram": 1}
        return [
            {"unit": unit, "action": "read", "energy_pj": 1000.0 * energy * self.timesteps}
            for unit, energy in unit_energies.items()
        ]

    def summary(self):
        return {"cycles": 100 * self.timesteps, "timesteps": self.timesteps}


def filled(table):
    return table.rows({key: Report(job) for key, job in table.jobs.items()})


def entries(tree):
    if "value" in tree:
        yield tree
    else:
        for branch in tree.values():
            yield from entries(branch)


def test_every_number_says_how_it_is_known():
    found = list(entries(PUBLISHED))
    assert len(found) > 40
    for entry in found:
        assert set(entry) == {"value", "mark", "source"}
        assert entry["mark"] in ("3rd", "run", "I")
        assert any(word in entry["source"] for word in ("Table", "SATA", "SpikeSim"))


def test_what_is_known_agrees_with_itself():
    """SpikeSim's column is the ratio of timesteps; SATA's is within 2 % of the shipped files' energies."""
    for work in PUBLISHED["works"].values():
        values = {name: entry["value"] for name, entry in work.items()}
        assert values["spikesim"] == pytest.approx(values["baseline_timesteps"] / values["timesteps"])
        if shipped := values.get("sata_shipped"):
            assert values["sata"] == pytest.approx(shipped, rel=0.04)
            words = work["sata_shipped"]["source"].split(": ")[1].replace(" mJ", "").split(" / ")
            assert float(words[0]) / float(words[1]) == pytest.approx(shipped, abs=0.02)


def test_improvements_of_the_works(study):
    """Energies that grow like T give the ratio of the timesteps that were run, and nothing beyond 16."""
    rows = {row["work"]: row for row in filled(study.works.works())}
    assert list(rows) == list(PUBLISHED["works"])
    for name, work in PUBLISHED["works"].items():
        row, own, baseline = rows[name], work["timesteps"]["value"], work["baseline_timesteps"]["value"]
        assert row["ela"] == pytest.approx(baseline / own)
        if own > 16:
            assert row["run"] == "not run: T > 16"
            assert "archsim_sata" not in row
        else:
            assert row["archsim_sata"] == pytest.approx(min(baseline, 16) / own) == row["run_timesteps"]
            assert ("not" in row["run"]) == (baseline > 16)
    assert rows["BNTT"]["operations"] == pytest.approx(4 / 0.095)
    assert rows["LTH"]["operations"] == pytest.approx(2 / 0.025)
    assert rows["BNTT"]["sata_sim_as_sparse"] == pytest.approx(PUBLISHED["works"]["BNTT"]["sata"]["value"], rel=0.05)


def test_a_cut_trace_is_that_of_a_shorter_run(study):
    """Every output follows from its inputs; an image of it is that image."""
    whole = study.runs.trained("test")
    for timesteps in (1, 3):
        cut = study.runs.Trained(timesteps).cut()
        assert cut.timesteps == timesteps
        assert [check.mismatches for check in check_trace(cut)] == [0] * len(whole.operations)
        np.testing.assert_array_equal(cut.tensor("logits"), whole.tensor("logits")[:timesteps])
    one = study.runs.Trained(2, 3, "training").cut()
    np.testing.assert_array_equal(one.tensor("logits"), study.runs.trained("training").tensor("logits")[:2, 3:4])
    second = study.runs.Trained(1, first=1).cut()
    np.testing.assert_array_equal(second.tensor("conv2.out"), whole.tensor("conv2.out")[1:2])


@pytest.mark.parametrize(("timesteps", "sparsity"), [(2, 0.85), (3, 0.0)])
def test_synthetic_spikes_have_the_sparsity_asked_for(study, tmp_path, timesteps, sparsity):
    study.runs.Synthetic(timesteps, sparsity, 0.975).write(tmp_path)
    (path,) = tmp_path.iterdir()
    assert path == study.runs.Synthetic(timesteps, sparsity, 0.975).path(tmp_path)
    trace = load_trace(path)
    assert trace.provenance["kind"] == "synthetic"
    assert len(trace.operations) == 6
    for operation in trace.operations:
        spikes = trace.tensor(operation.inputs[0])
        assert spikes.mean() == pytest.approx(1 - sparsity, abs=0.01)
        assert (operation.weight != 0).mean() == pytest.approx(0.025, abs=0.001)


def test_exits(study):
    lead = np.array([[0.5, 0.1, 0.0], [0.0, 0.3, 0.1], [0.9, 0.9, 0.2]])
    assert study.bottlenecks.exits(lead, 0.3).tolist() == [1, 2, 3]
    assert study.bottlenecks.exits(lead, 0.0).tolist() == [1, 1, 1]
    rows = {row["threshold"]: row for row in filled(study.bottlenecks.exit())}
    full = rows["fixed T = 4"]
    assert (full["mean_timesteps"], full["images"], full["right"]) == (4, 8, 8)
    assert full["sata_edp_gain"] == 1
    assert rows["0"]["mean_timesteps"] == 1
    assert rows["0"]["sata_energy_saved_percent"] == pytest.approx(75)  # energies grow like T
    assert rows["0"]["spikesim_edp_gain"] == pytest.approx(16)


def test_shares_and_changes(study):
    """Neurons have 1 of 3 parts of computation and 1 of 11 of all energy; with membranes 2 of 4 and 2 of 11."""
    lif = {row["machine"]: row for row in filled(study.bottlenecks.lif())}
    assert lif["SATA"]["of_computation_percent"] == pytest.approx(100 / 3)
    assert lif["SATA"]["of_energy_percent"] == pytest.approx(100 / 11)
    assert lif["SpikeSim, with potentials' memory"]["of_computation_percent"] == pytest.approx(50)
    assert 60 < next(row for name, row in lif.items() if "SATA_Sim" in name)["of_computation_percent"] < 80
    times = filled(study.bottlenecks.timesteps())
    assert {(row["timesteps"], row["edp_relative"]) for row in times if row["spikes"] == "trained"} == {
        (t, t * t) for t in (1, 2, 3, 4)
    }
    dataflow = filled(study.bottlenecks.dataflow())
    assert [row["saved_percent"] for row in dataflow] == [0] * 5
    assert {row["machine"] for row in filled(study.bottlenecks.sparsity())} >= {"SATA, skipping", "SATA_Sim (its VGG9)"}
    assert {row["cycles_percent"] for row in filled(study.bottlenecks.sharing())} == {0}


def test_tables_and_figures_are_written(study, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "__study__", raising=False)
    spec = importlib.util.spec_from_file_location("__study__", FOLDER / "__main__.py")
    main = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(main)
    monkeypatch.setattr(main, "perform", lambda jobs, processes: {job: Report(job) for job in jobs})
    main.write(list(main.TABLES), tmp_path, 1)
    with (tmp_path / "works.csv").open(newline="") as file:
        assert [row["work"] for row in csv.DictReader(file)] == list(PUBLISHED["works"])
    text = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert "not run: T > 16" in text
    for name in main.TABLES:
        assert f"`{name}.csv`" in text
        assert (tmp_path / f"{name}.png").exists() == (name != "sharing")


def test_an_unknown_table_is_one_line(tmp_path):
    command = [sys.executable, str(FOLDER), "--only", "exits", "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("--only: no table 'exits'; allowed: works, timesteps")
    assert len(done.stderr.splitlines()) == 1
