"""The study of ClipFormer's limits: its README says what its CSV files hold, and they hold what is measured."""

import csv
import importlib.util
import sys

import pytest

from tests.machines import ROOT

FOLDER = ROOT / "benchmarks" / "papers" / "clipformer_tcad24"


def rows(name):
    with (FOLDER / "results" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def experiment():
    """The module of that name; other studies may have one too, so it is loaded by its path."""
    spec = importlib.util.spec_from_file_location("clipformer_experiment", FOLDER / "experiment.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_readme_holds_the_accuracies():
    lines = (FOLDER / "README.md").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = {(cells[0], cells[1]): cells[2:] for cells in table if len(cells) == 8 and cells[0] != "---"}
    trained = {"vit": "plain", "vit_variation_aware": "variation-aware"}
    compared = 0
    for row in rows("accuracy"):
        if row["sigma"] == "1.0":
            limits = "none" if (row["alpha"], row["beta"]) == ("0", "1") else f"{row['alpha']}, {row['beta']}"
            cells = found[trained[row["trace"]], limits]
            assert cells[int(row["gamma"])] == f"{100 * float(row['accuracy']):.1f}"
            compared += 1
    assert compared >= 36


def test_values_are_those_of_the_traces(experiment):
    row = next(
        row for row in rows("values") if (row["trace"], row["encoder"], row["operand"]) == ("vit", "encoder2", "V")
    )
    measured = experiment.values("vit", "encoder2", "V")
    assert {name: str(value) for name, value in measured.items()} == {name: row[name] for name in measured}


def test_without_noise_and_limits_products_are_exact(experiment):
    """The exact network's predictions, image by image."""
    from archsim.trace.resimulation import predict

    trace = experiment.loaded("vit")
    images = experiment.evaluation(trace, 2).images
    arrays = experiment.network(trace, alpha=0, beta=1, gamma=0, sigma=0)
    assert arrays.predict(images).tolist() == predict(trace, images).tolist()
