"""The ICASSP 2024 study's tables: what is known agrees with itself, and rows follow from reports."""

import csv
import importlib
import importlib.util
import re
import subprocess
import sys
from types import SimpleNamespace

import command_line
import numpy as np
import paper_tables
import pytest
import yaml

from archsim.trace import load_trace
from archsim.trace.resimulation import check_trace
from tests.machines import ROOT
from tests.studies import modules_of

FOLDER = ROOT / "benchmarks" / "papers" / "snn_energy_icassp24"
PUBLISHED = yaml.safe_load((FOLDER / "published.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def study():
    with modules_of(FOLDER, "works", "bottlenecks", "runs", "source", "sentences") as modules:
        yield modules


class Report:
    """A run whose energy is proportional to T, with shares of neurons and of stages that are known."""

    images = 1
    resolved = "membrane: {bits: 16}"

    def __init__(self, job):
        self.timesteps = job.workload.timesteps
        self.stages = {"forward": 1, "backward": 2, "update": 1} if job.machine == "sata_training" else {"": 1}

    def rows(self, name):
        if name == "area":
            return [{"unit": "lif", "area_mm2": 1.0}, {"unit": "pe", "area_mm2": 3.0}]
        if name == "traffic":
            return []
        if name == "layers":
            return [{"stage": stage, "cycles": 100 * part * self.timesteps} for stage, part in self.stages.items()]
        unit_energies = {"lif": 1, "pe": 2, "array": 2, "dram": 4, "weight_buffer": 1, "membrane_sram": 1}
        pj = 1000 * self.timesteps
        return [
            {"unit": unit, "action": "read", "count": 1, "stage": stage, "energy_pj": pj * energy * part}
            for unit, energy in unit_energies.items() for stage, part in self.stages.items()
        ]  # fmt: skip

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
    """SpikeSim's column is the ratio of timesteps; SATA's is within 4 % of the shipped files' energies (BNTT 3.4 %)."""
    for work in PUBLISHED["works"].values():
        values = {name: entry["value"] for name, entry in work.items()}
        assert values["spikesim"] == pytest.approx(values["baseline_timesteps"] / values["timesteps"])
        if shipped := values.get("sata_shipped"):
            assert values["sata"] == pytest.approx(shipped, rel=0.04)
            words = work["sata_shipped"]["source"].split(": ")[1].replace(" mJ", "").split(" / ")
            assert float(words[0]) / float(words[1]) == pytest.approx(shipped, abs=0.02)


def test_improvements_of_the_works(study):
    """Energies that grow like T give the ratio of the timesteps, in however many chunks; none is left out."""
    rows = {row["work"]: row for row in filled(study.works.works())}
    assert list(rows) == list(PUBLISHED["works"])
    for name, work in PUBLISHED["works"].items():
        row, own, baseline = rows[name], work["timesteps"]["value"], work["baseline_timesteps"]["value"]
        for column in (
            "ela",
            *(f"{what}_{machine}" for what in ("archsim", "cycles") for machine in study.works.MACHINES),
        ):
            assert row[column] == pytest.approx(baseline / own)
    assert rows["S-BP"]["run"] == "16 x 16 + 4 against 3 x 16 + 2"
    assert rows["LTH"]["run"] == "10 against 5"
    assert rows["BNTT"]["operations"] == pytest.approx(4 / 0.095)
    assert rows["LTH"]["operations"] == pytest.approx(2 / 0.025)
    assert rows["BNTT"]["sata_sim_as_sparse"] == pytest.approx(PUBLISHED["works"]["BNTT"]["sata"]["value"], rel=0.05)
    halves = [name for name, row in rows.items() if row["operations_to_study"] == pytest.approx(2, rel=0.06)]
    assert halves == ["BNTT", "Direct", "TSSL", "TDBN"]  # as the note says


class Piece:
    """A run of T timesteps: 100 pJ each, potentials of 5 neurons, weights that cost 8 x 30 x 2 + 20 pJ to fetch."""

    def __init__(self, timesteps, in_registers):
        self.timesteps = timesteps
        self.resolved = "membrane: {bits: 16}" if in_registers else "neuron: {membrane_bits: 22}"
        kept = 0 if in_registers else 7 * (timesteps - 1)
        self.tables = {
            "energy": [
                ("dram", "read_bits", 1000, 2000), ("dram", "write_bits", 10, 30), ("weight_buffer", "write", 4, 20),
                ("lif", "update", 5 * timesteps, 100 * timesteps - 2050 - 11 * kept),
                ("membrane_sram", "read", kept, 4 * kept), ("membrane_sram", "write", kept, 7 * kept),
            ],
            "traffic": [
                ("dram", "weight", "read", 30, 1), ("dram", "input", "read", 95, 2), ("sram", "weight", "read", 9, 9),
                ("sram", "membrane", "read", 14, kept), ("sram", "membrane", "write", 14, kept),
            ],
        }  # fmt: skip
        self.columns = {
            "energy": ("unit", "action", "count", "energy_pj"),
            "traffic": ("level", "tensor", "direction", "bytes", "accesses"),
        }

    def rows(self, name):
        return [dict(zip(self.columns[name], row, strict=True)) for row in self.tables[name]]

    def summary(self):
        return {"cycles": 10 * self.timesteps + 3, "timesteps": self.timesteps}


def test_chunks_add_up(study):
    """36 timesteps are 16 twice and 4. In registers: less the weights of two chunks, or potentials to DRAM and back.

    In a memory: 7 reads of 4 pJ and 7 writes of 7 pJ more between two chunks; weights are those of any machine here.
    """
    assert study.runs.chunks(36) == {16: 2, 4: 1}
    assert study.runs.chunks(32) == {16: 2}
    assert study.runs.chunks(5) == {5: 1}
    pieces = {length: Piece(length, True) for length in (16, 4)}
    run = study.runs.Chunked.of(pieces, 36)
    assert run.cycles() == 10 * 36 + 3 * 3
    fetch = 8 * 30 * 2 + 20
    assert run.energy_pj() == pytest.approx(100 * 36 - 2 * fetch)
    assert run.energy_chunk_by_chunk_pj() == pytest.approx(100 * 36 + 2 * 5 * 16 * (2 + 3))
    kept = study.runs.Chunked.of({length: Piece(length, False) for length in (16, 4)}, 36)
    assert kept.energy_pj() == pytest.approx(100 * 36 + 2 * (7 * 4 + 7 * 7) - 2 * fetch)
    assert study.runs.Chunked.of(pieces, 4).energy_pj() == 400
    assert study.runs.Chunked.of({4: pieces[4]}, 16, 4).between == 3


def test_training_by_stage(study):
    """Energies 1 : 2 : 1; gating and skipping alike here, so nothing is saved."""
    rows = filled(study.bottlenecks.training())
    sata = [row for row in rows if row["machine"] == "SATA"]
    assert len(sata) == 2 * 2 * 4
    for row in sata:
        assert row["share_percent"] == {"forward": 25, "backward": 50, "update": 25, "all": 100}[row["stage"]]
        assert row["cycles"] == {"forward": 400, "backward": 800, "update": 400, "all": 1600}[row["stage"]]
        assert row["energy_saved_percent"] == row["cycles_saved_percent"] == 0
    tool = {row["stage"]: row["energy_uj"] for row in rows if "SATA_Sim" in row["machine"]}
    assert tool["all"] == pytest.approx(1333.63824807)
    assert sum(energy for stage, energy in tool.items() if stage != "all") == pytest.approx(tool["all"])


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
    monkeypatch.setattr(paper_tables, "perform", lambda jobs, processes: {job: Report(job) for job in jobs})
    main.main(["-o", str(tmp_path)])
    with (tmp_path / "works.csv").open(newline="") as file:
        assert [row["work"] for row in csv.DictReader(file)] == list(PUBLISHED["works"])
    text = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert "not run" not in text
    for name in main.TABLES:
        assert f"`{name}.csv`" in text
        assert (tmp_path / f"{name}.png").exists()


README = (FOLDER / "README.md").read_text(encoding="utf-8")


def in_readme():
    """The paragraphs of the list in the study's README."""
    return [" ".join(item.split()) for item in re.split(r"^- ", README, flags=re.MULTILINE)[1:]]


def masked(text):
    """``text`` without what depends on numbers."""
    return re.sub(r"[-+]?\d+(\.\d+)?", "#", text)


def test_the_readme_says_what_the_tables_say(study):
    """Word for word, but for the numbers. ``sentences.md`` of the study's command has the list as it must be."""
    tables = {"works": study.works.works, "chunks": study.works.in_chunks}
    made = {name: tables.get(name) or getattr(study.bottlenecks, name) for name in study.sentences.SENTENCES}
    said = study.sentences.sentences({name: filled(table()) for name, table in made.items()})
    assert [masked(text) for text in said] == [masked(text) for text in in_readme()]


def test_the_readme_has_the_numbers_of_operations_and_of_the_old_tool(study):
    """All but the numbers of archsim's runs, which are made up here."""
    runs = re.compile(r"SATA [\d.]+ \([\d.]+ with skipping\), SpikeSim [\d.]+")
    (said,) = study.sentences.sentences({"works": filled(study.works.works())})
    assert runs.search(said)
    assert runs.sub("#", said) == runs.sub("#", in_readme()[0])


def test_the_readme_has_the_numbers_of_the_trained_network(study, tmp_path):
    measured = [study.bottlenecks.lif(), study.bottlenecks.training()]
    results = {}
    for job in (job for table in measured for job in table.jobs.values()):
        job.workload.write(tmp_path)
        results[job] = job.perform(tmp_path)
    said = study.sentences.sentences({table.name: table.fill(results) for table in measured})
    assert len(said) == 2
    for text in said:
        assert text in in_readme()


def test_an_unknown_table_is_one_line(tmp_path):
    command = [sys.executable, str(FOLDER), "--only", "exits", "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("--only: no table 'exits'; allowed: works, chunks, timesteps")
    assert len(done.stderr.splitlines()) == 1


def test_a_study_that_is_interrupted_says_so(capsys):
    def ends(arguments):
        raise KeyboardInterrupt

    assert command_line.command(ends) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paper_tables, "perform", lambda jobs, processes: pytest.fail("nothing may run"))
    (tmp_path / "file").touch()
    table = SimpleNamespace(jobs={})
    for output in (tmp_path / "file", tmp_path / "file" / "deeper"):
        code = command_line.command(
            lambda _, output=output: paper_tables.write({"a": lambda: table}, ["a"], "heading", output, 1)
        )
        assert code == 2 and str(tmp_path / "file") in capsys.readouterr().err


@pytest.mark.parametrize("study", ["busiest_core", "pinn_snn_sisc25"])
def test_options_are_written_out(study):
    """Half of a name is no option."""
    command = [sys.executable, ROOT / "benchmarks" / "papers" / study, "--outp", "anywhere"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "unrecognized arguments: --outp" in done.stderr
