"""The study of PINN to SNN: stored tables that add up, exact traces, sentences of the README, recipes' equations."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from archsim.trace import load_trace
from archsim.trace.resimulation import check_trace
from tests.machines import ROOT
from tests.studies import modules_of, rows_of

FOLDER = ROOT / "benchmarks" / "papers" / "pinn_snn_sisc25"
RESULTS = FOLDER / "results"
README = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
TRACES = sorted((FOLDER / "traces").glob("*.npz"))


@pytest.fixture
def study():
    with modules_of(FOLDER, "tables", "sentences") as modules:
        yield modules


@pytest.fixture
def recipe(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(ROOT / "workloads" / "recipes")
    yield importlib.import_module("train_pinn")
    sys.modules.pop("train_pinn", None)


def stored(name):
    return rows_of(RESULTS / f"{name}.csv")


def errors():
    return pd.read_csv(RESULTS / "errors.csv").fillna({"rounding": ""})


def test_every_published_fact_says_how_it_is_known():
    published = yaml.safe_load((FOLDER / "published.yaml").read_text(encoding="utf-8"))
    assert all(set(entry) == {"value", "mark", "source"} and entry["mark"] == "R" for entry in published.values())


@pytest.mark.parametrize(
    "name", ["networks", "slopes", "timesteps", "costs", "equal", "activation", "divider", "mapping"]
)
def test_the_readme_says_what_the_tables_say(study, name):
    assert name in study.sentences.SENTENCES
    said = study.sentences.text(name, {name: stored(name)})
    assert " ".join(said.split()) in README


@pytest.mark.parametrize("name", ["networks", "timesteps", "slopes"])
def test_tables_are_those_of_the_measurements(study, name):
    _, rows = getattr(study.tables, name)(errors())
    found, expected = pd.DataFrame(rows), pd.DataFrame(stored(name))
    assert list(found.problem) == list(expected.problem)
    for column in found.select_dtypes("number"):
        np.testing.assert_allclose(found[column], pd.to_numeric(expected[column]), rtol=1e-9)


def test_errors_fall_as_one_over_timesteps():
    """The claim of the study, on what was measured."""
    for row in stored("slopes"):
        assert all(-1.2 < row[f"slope_{name}"] < -0.75 for name in ("none", "light", "advanced")), row
        if row["rounding"] == "down":
            assert row["gain_advanced"] > 1.3
        else:
            assert 0.9 < row["gain_advanced"] < 1.2


def test_fronts_and_pairs_are_those_of_the_rows(study):
    rows = [row | {"spike_rate": row["spike_rate"] or None} for row in stored("costs")]
    assert all(row["mismatches"] == 0 for row in rows)
    for row in rows:
        stand_ins = ("systolic",) if row["machine"] in ("manycore", "loihi1") else ()
        beaten = [
            other for other in rows
            if other is not row and other["problem"] == row["problem"]
            and (other["machine"] == row["machine"] or (other["machine"] in stand_ins and "bits" in other["network"]))
            and other["error"] <= row["error"] and other["energy_nj"] <= row["energy_nj"]
        ]  # fmt: skip
        assert row["on_front"] == (not beaten)
    _, pairs = study.tables.equal(rows)
    for found, wanted in zip(pairs, stored("equal"), strict=True):
        assert {key: value for key, value in wanted.items() if value != ""} == pytest.approx(found)


def test_traces_are_exact():
    assert len(TRACES) == 5 * (7 + 7)
    for path in TRACES:
        trace = load_trace(path)
        checks = list(check_trace(trace))
        assert [check.mismatches for check in checks] == [0] * len(trace.operations), path.stem
        assert path.stat().st_size < 1 << 20
        assert trace.timesteps == (int(path.stem.rsplit("_t", 1)[1]) if "_t" in path.stem[6:] else 1)


@pytest.mark.parametrize("name", ["poisson", "burgers", "taylor_green", "separable"])
def test_solutions_solve_their_equations(recipe, name):
    """The residual of the loss is nothing at the known solution, in float64."""
    torch = pytest.importorskip("torch")
    problem = recipe.PROBLEMS[name]
    generator = torch.Generator().manual_seed(0)
    points = 1.8 * torch.rand((20, len(problem.axes)), generator=generator, dtype=torch.float64) - 0.9
    if name == "burgers":  # a ratio of integrals: by differences
        values, step = lambda at: problem.solution(at)[:, 0], 1e-4
        at = points.numpy()
        moved = [step * np.eye(2)[axis] for axis in range(2)]
        first = [(values(at + by) - values(at - by)) / (2 * step) for by in moved]
        second = (values(at + moved[0]) - 2 * values(at) + values(at - moved[0])) / step**2
        residual = 2 * first[1] + values(at) * first[0] - recipe.BURGERS_VISCOSITY * second
        assert np.abs(residual).max() < 1e-4
        start = np.stack([np.linspace(-1, 1, 9), np.full(9, -1.0)], 1)
        np.testing.assert_allclose(values(start), -np.sin(np.pi * start[:, 0]), atol=1e-12)
        return
    points.requires_grad_()
    residual = problem.residual(Symbolic(torch, name)(points), points)
    assert float(residual.detach().abs().max()) < 1e-9
    np.testing.assert_allclose(Symbolic(torch, name)(points).detach(), problem.solution(points.detach().numpy()))


class Symbolic:
    """The known solutions in torch, so that it differentiates them."""

    def __init__(self, torch, name):
        self.torch, self.name = torch, name

    def __call__(self, points):
        sin, cos, exp = self.torch.sin, self.torch.cos, self.torch.exp
        x = [np.pi * points[:, place] for place in range(points.shape[1])]
        if self.name == "poisson":
            return sin(x[0])[:, None]
        if self.name == "separable":
            return (sin(x[0]) * sin(x[1]) + sin(2 * x[0]) * sin(2 * x[1]) / 2)[:, None]
        fade = exp(-2 * 0.05 * np.pi**2 * (points[:, 2] + 1) / 2)
        pressure = -(cos(2 * x[0]) + cos(2 * x[1])) / 4 * fade**2
        return self.torch.stack([-cos(x[0]) * sin(x[1]) * fade, sin(x[0]) * cos(x[1]) * fade, pressure], 1)
