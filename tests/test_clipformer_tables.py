"""The study of ClipFormer's limits: its page says what its CSV files hold, and they hold what is measured."""

import argparse
import csv
import importlib.util
import sys

import numpy as np
import pytest
from clipformer_tcad24.deit_s import DEIT_S, DEIT_S_ENCODERS, Grid

from tests.machines import ROOT

FOLDER = ROOT / "benchmarks" / "papers" / "clipformer_tcad24"
TRAINED = {"vit": "plain", "vit_variation_aware": "variation-aware"}
CELLS = {"differential": "pair", "offset_column": "offset"}


def rows(name):
    with (FOLDER / "results" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def limits(row):
    return "none" if (row["alpha"], row["beta"]) == ("0", "1") else f"{row['alpha']}, {row['beta']}"


def table(*names):
    """The cells of the page's table whose first columns are ``names``: (their values, the column's name) -> cell."""
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    (head,) = (place for place, cells in enumerate(split) if cells[: len(names)] == list(names))
    found = {}
    for cells in split[head + 2 :]:
        if len(cells) != len(split[head]):
            break
        for column, cell in zip(split[head][len(names) :], cells[len(names) :], strict=True):
            key = (*cells[: len(names)], column)
            assert key not in found
            found[key] = cell
    return found


def percent(row):
    """Accuracy, and the deviation between draws where there are several."""
    deviation = f" ({100 * float(row['draw_deviation']):.1f})" if row["draw_deviation"] else ""
    return f"{100 * float(row['accuracy']):.1f}{deviation}"


@pytest.fixture(scope="module")
def experiment():
    """The module of that name; other studies may have one too, so it is loaded by its path."""
    spec = importlib.util.spec_from_file_location("clipformer_experiment", FOLDER / "experiment.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_accuracies():
    page = table("cells", "training", "limits")
    columns = {column for *_, column in page}
    expected = {
        (CELLS[row["signed"]], TRAINED[row["trace"]], limits(row), row["gamma_sigma"]): percent(row)
        for row in rows("accuracy")
        if row["behind"] == "none" and row["gamma_sigma"] in columns
    }
    assert {key: cell for key, cell in page.items() if cell} == expected
    assert len(expected) > 80


def test_the_page_has_what_gains_do():
    names = {"none": "nothing", "gain": "best single gain", "per_column": "gain of every conversion", "zero": "gain 0"}
    expected = {}
    for row in rows("accuracy"):
        place = row["gamma_sigma"], CELLS[row["signed"]], TRAINED[row["trace"]], limits(row)
        expected[*place, names[row["behind"]]] = percent(row)
    page = {key: cell for key, cell in table("gamma sigma", "cells", "training", "limits").items() if cell}
    gained = {key for key in expected if key[-1] != "nothing"}
    assert page == {key: expected[key] for key in page}
    assert gained <= set(page)
    assert {(*key[:-1], "nothing") for key in gained} <= set(page)


def test_the_page_has_the_signals():
    expected = {}
    for row in rows("signal"):
        bits = {"2": "2 bits", "7": "whole value"}[row["cell_bits"]]
        place = CELLS[row["signed"]], TRAINED[row["trace"]], bits, f"{row['stretch']} x", row["gamma_sigma"]
        plain, gained = (
            ", ".join(f"{float(row[f'{what}_snr{after}_db']):.1f}" for what in ("scores", "mix"))
            for after in ("", "_after_gain")
        )
        expected[*place, limits(row)] = f"{plain} ({gained})"
    page = {key: cell for key, cell in table("cells", "training", "bits", "range", "gamma sigma").items() if cell}
    assert page == {key: expected[key] for key in page}
    assert len(page) > 80


def test_the_page_has_the_costs():
    page = table("cells", "limits")
    for row in rows("cost"):
        cells = {
            "slices": row["slices"],
            "arrays of K and V": row["dynamic_arrays"],
            "their area [mm^2]": f"{float(row['dynamic_area_mm2']):.3f}",
            "cell writes an image": f"{int(row['cell_writes_per_image']):,}",
            "energy of writes [uJ]": f"{float(row['attention_write_pj']) / 1e6:.1f}",
            "of reads [uJ]": f"{float(row['attention_read_pj']) / 1e6:.1f}",
            "of the machine [uJ]": f"{float(row['energy_pj']) / 1e6:,.1f}",
            "cycles": f"{int(row['cycles']):,}",
            "chip [mm^2]": f"{float(row['area_mm2']):.1f}",
        }
        for column, cell in cells.items():
            assert page.pop((CELLS[row["signed"]], limits(row), column)) == cell
    assert not page


def test_accuracies_are_the_means_of_their_draws(experiment):
    assert experiment.summary(rows("draws")) == rows("accuracy")


def test_results_are_those_of_the_command(experiment):
    """Every point of the command that the page names, and no other."""
    asked = argparse.Namespace(traces=experiment.TRACES, images=200, draws=3)
    for name, (points, _) in experiment.TABLES.items():
        wanted = {tuple((key, str(value)) for key, value in point.items()) for point in points(asked)}
        found = [tuple(row.items())[: len(next(iter(wanted)))] for row in rows(name)]
        assert set(found) == wanted
        assert len(found) == len(wanted)


def test_the_error_of_draws_that_share_their_images(experiment):
    """Images of their own probabilities: means of draws are off by less than the error of one, but not by half less."""
    images, draws = 100, 4
    draw = np.random.default_rng(0)
    means, errors, deviations = [], [], []
    for _ in range(500):
        likely = draw.beta(2, 1, images)
        right = draw.random((draws, images)) < likely
        (found,) = experiment.summary(
            {"images": str(images), "seed": str(seed), "accuracy": str(share)}
            for seed, share in enumerate(right.mean(1))
        )
        means.append(float(found["accuracy"]))
        errors.append(float(found["standard_error"]))
        deviations.append(float(found["draw_deviation"]) ** 2 - (likely * (1 - likely)).sum() / images**2)
    assert np.mean(errors) / np.sqrt(draws) < np.std(means) < np.mean(errors)
    assert abs(np.mean(deviations)) < 1e-4


def test_values_are_those_of_the_traces(experiment):
    row = next(
        row for row in rows("values") if (row["trace"], row["encoder"], row["operand"]) == ("vit", "encoder2", "V")
    )
    measured = experiment.values("vit", "encoder2", "V")
    assert {name: str(value) for name, value in measured.items()} == {name: row[name] for name in measured}


@pytest.mark.parametrize("signed", ["differential", "offset_column"])
def test_without_noise_and_limits_products_are_exact(experiment, signed):
    """The exact network's predictions, image by image."""
    from archsim.trace.resimulation import predict

    trace = experiment.loaded("vit")
    images = experiment.evaluation(trace, 2).images
    arrays = experiment.network(trace, signed=signed, gamma_sigma=0, alpha=0, beta=1)
    assert arrays.predict(images).tolist() == predict(trace, images).tolist()


def test_without_noise_limits_do_the_same_to_both_mappings(experiment):
    """Values are limited, not what is written for them; the offset leaves a bit more to cut into slices."""
    trace = experiment.loaded("vit")
    operation = experiment.products(trace)[0]
    operands = [experiment.exact("vit")[name][:, :1] for name in operation.inputs]
    pair, offset = (
        experiment.network(trace, signed=signed, gamma_sigma=0, alpha=2, beta=0.5) for signed in experiment.MAPPINGS
    )
    found = pair.sums(operation, operands, 0)
    assert np.array_equal(found, offset.sums(operation, operands, 0))
    assert not np.array_equal(found, experiment.currents_of(operation, operands, 1))


def test_the_best_gain_of_a_product(experiment):
    """Without noise it is 1; noise that cannot take a conductance below zero makes products too large."""
    trace, settings = experiment.loaded("vit"), {"signed": "differential", "alpha": 0, "beta": 1}
    exact = experiment.best_gains(experiment.network(trace, gamma_sigma=0, **settings))
    assert set(exact) == {operation.name for operation in experiment.products(trace)}
    assert list(exact.values()) == pytest.approx([1] * len(exact))
    noisy = experiment.network(trace, gamma_sigma=5, **settings)
    gains = experiment.best_gains(noisy)
    assert 0 < min(gains.values()) <= max(gains.values()) < 0.9
    operation = experiment.products(trace)[0]
    experiment.set_gain(noisy, operation.name, 0)
    operands = [experiment.exact("vit")[name][:, :1] for name in operation.inputs]
    assert noisy.sums(operation, operands, 0).any()
    assert not noisy.currents(operation, operands, 0).any()


def test_the_page_has_the_counts_of_deit_s():
    page, grid = (FOLDER / "README.md").read_text(encoding="utf-8"), Grid(64, 64, 2)
    static = DEIT_S_ENCODERS * DEIT_S.static_arrays(grid, 8)
    for bits in (8, 6):
        cells = DEIT_S_ENCODERS * DEIT_S.cell_writes(grid, bits)
        line = f"| {bits} | {static:,} | {DEIT_S.dynamic_arrays(grid, bits)} | {cells:,} |"
        assert line in page, line


def test_the_bookkeeping_of_deit_s():
    """Published counts for 64 x 64 arrays, 2-bit cells, 8-bit values, a column a value; ClipFormer's cap removes a
    slice of what is written."""
    grid = Grid(64, 64, 2)
    assert DEIT_S.static_arrays(grid, 8) * DEIT_S_ENCODERS == 20_736
    assert DEIT_S.dynamic_arrays(grid, 8) == 192
    assert DEIT_S.dynamic_arrays(grid, 6) == 144
    assert DEIT_S.cell_writes(grid, 8) * DEIT_S_ENCODERS == 7_262_208
    assert [grid.arrays(matrix, 4) for matrix in DEIT_S.weights()] == [144, 144, 144, 144, 576, 576]
