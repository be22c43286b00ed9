"""The tables of batch-norm adaptation: every condition is a configuration of its own, as small as can be run."""

import csv
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
from bn_glsvlsi23.conditions import TABLES

from archsim.hardware.analog.product import ProductConfig
from archsim.hardware.loading import load_block
from archsim.trace import ImageSet, Trace, save_trace
from archsim.trace.resimulation import run_images
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
    asked = *asked, "--draws", 2
    first = run(*asked, "--adaptations", "none")
    assert first.returncode == 0, first.stderr
    rows = (tmp_path / "out" / "accuracy.csv").read_text().splitlines()
    assert len(rows) == 1 + 1 + 2 + 2, "of an RRAM without variation nothing is drawn"
    second = run(*asked, "--adaptations", "none", "statistics")
    assert second.returncode == 0, second.stderr
    assert set(rows) < set((tmp_path / "out" / "accuracy.csv").read_text().splitlines())
    assert "statistics" in second.stderr
    assert "none" not in second.stderr
    assert {"devices.png", "devices.svg", "tables.md"} < {path.name for path in (tmp_path / "out").iterdir()}


def test_a_spiking_network_says_how_many_neurons_fire(tmp_path):
    """The exact shares are counted from the integer network; none of them is lost or made by arrays alone."""
    trace, pixels = small_traces.tiny(), np.random.default_rng(1).integers(0, 256, (6, 2, 5, 6), dtype=np.uint8)
    images = ImageSet(pixels, np.array([0, 1, 2, 0, 1, 2]))
    whole = Trace(
        network="small", timesteps=trace.timesteps, provenance=small_traces.LABELS, operations=list(trace.operations),
        tensors=small_traces.contents(trace), scales={"pixels": 1 / 255}, calibration=images, evaluation=images,
    )  # fmt: skip
    save_trace(whole, tmp_path / "small.npz")
    asked = "--only", "noise", "--draws", 1, "--images", 4, "--adaptations", "none", "statistics"
    found = run(tmp_path / "small.npz", "-o", tmp_path / "out", *asked)
    assert found.returncode == 0, found.stderr
    with (tmp_path / "out" / "firing.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    spiking = [operation for operation in whole.operations if operation.neuron]
    assert len(rows) == 3 * 2 * len(spiking)
    exact = run_images(whole, pixels[:4])
    for row in rows:
        output = next(operation.output for operation in spiking if operation.name == row["layer"])
        assert float(row["exact_rate"]) == pytest.approx(np.count_nonzero(exact[output]) / exact[output].size, abs=1e-5)
    assert any(row["rate"] != row["exact_rate"] for row in rows)
    assert all(0 <= float(row["rate"]) <= 1 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--only", "divices"), "got 'divices'; allowed: parasitics, noise, drift, variation, ratios, devices"),
        ((FOLDER.parents[2] / "workloads" / "vgg9_dual_sparse.npz", "--images", 4), "has no image sets"),
        (("--images", "-5"), "--images: must be a whole number of at least 1, got '-5'"),
        (("--jobs", "0"), "--jobs: must be a whole number of at least 1, got '0'"),
        (("--draws", "0"), "--draws: must be a whole number of at least 1, got '0'"),
        (("-o", FOLDER / "README.md"), "README.md: File exists"),
        (("-o", FOLDER / ".." / "clipformer_tcad24" / "results"), "accuracy.csv: is not of this command"),
    ],
)
def test_what_cannot_be_run(arguments, problem):
    found = run(*arguments)
    assert found.returncode == 2
    assert problem in found.stderr


@pytest.mark.parametrize("path", sorted((FOLDER / "results").glob("*_images.csv")), ids=lambda path: path.stem)
def test_the_page_has_the_numbers_of_its_results(path):
    """A line a condition: the draws, then mean and deviation of their accuracies for each adaptation."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    with path.open(newline="", encoding="utf-8") as file:
        found = {}
        for row in csv.DictReader(file):
            cells = found.setdefault((row["table"], row["condition"]), {})
            cells.setdefault(row["adaptation"], []).append(100 * float(row["accuracy"]))
    for names, cells in found.items():
        (draws,) = {len(accuracies) for accuracies in cells.values()}
        shown = [
            f"{mean(found):.1f} ± {stdev(found):.1f}" if draws > 1 else f"{found[0]:.1f}"
            for name in ("none", "statistics", "fine_tuned")
            if (found := cells.get(name))
        ]
        line = f"| {' | '.join([*names, str(draws), *shown])} |"
        assert line in text, line


def test_the_page_has_the_firing_rates_of_its_results():
    """A line a layer: exact, and for each time at which noise is drawn without and with statistics."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    with (FOLDER / "results" / "vgg9_firing.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for layer in dict.fromkeys(row["layer"] for row in rows):
        mine = [row for row in rows if row["layer"] == layer]
        rates = {(row["condition"], row["adaptation"]): f"{100 * float(row['rate']):.1f}" for row in mine}
        cells = [f"{rates[noise, 'none']} to {rates[noise, 'statistics']}" for noise in TABLES["noise"]]
        line = f"| {layer} | {100 * float(mine[0]['exact_rate']):.1f} | {' | '.join(cells)} |"
        assert line in text, line
