"""The study of skip connections with first spikes: stored tables follow from measures, exact traces, the README."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml

from archsim.trace import check_trace, load_trace
from tests.machines import ROOT
from tests.studies import modules_of, rows_of

FOLDER = ROOT / "benchmarks" / "papers" / "ttfs_skip_frontiers24"
RESULTS = FOLDER / "results"
README = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
TABLES = ("networks", "joins", "costs", "chips", "claims")
TRACES = sorted((FOLDER / "traces").glob("*.npz"))


@pytest.fixture
def study():
    with modules_of(FOLDER, "tables", "sentences") as modules:
        yield modules


def stored(name):
    return rows_of(RESULTS / f"{name}.csv")


def measures():
    return pd.read_csv(RESULTS / "measures.csv")


def test_every_published_fact_says_how_it_is_known():
    published = yaml.safe_load((FOLDER / "published.yaml").read_text(encoding="utf-8"))
    assert all(set(entry) == {"value", "mark", "source"} and entry["mark"] == "R" for entry in published.values())


@pytest.mark.parametrize("name", TABLES)
def test_the_readme_says_what_the_tables_say(study, name):
    assert name in study.sentences.SENTENCES
    assert " ".join(study.sentences.text(name, {name: stored(name)}).split()) in README


@pytest.mark.parametrize("name", ["networks", "joins", "claims"])
def test_tables_are_those_of_the_measures(study, name):
    _, rows = getattr(study.tables, name)(measures())
    for found, wanted in zip(rows, stored(name), strict=True):
        assert {key: value for key, value in found.items() if value is not None} == pytest.approx(
            {key: value for key, value in wanted.items() if value != ""}
        )


def test_every_network_is_measured_and_traced(study):
    """Two tasks, four joins, three seeds, the same number of samples for all of a task, 1,000 test items and more."""
    rows = measures()
    wanted = {
        f"{task}_{join}_{seed}" for task in study.tables.TASKS for join in study.tables.JOINS for seed in (1, 2, 3)
    }
    assert {f"{row.task}_{row.join}_{row.seed}" for row in rows.itertuples()} == wanted
    assert {path.stem for path in TRACES} == wanted
    assert (rows.groupby("task").samples.nunique() == 1).all() and rows.tested.min() >= 1000


def test_joins_add_up():
    """A gap is the one without delays less the mean delay; all but sums of times stay between both paths."""
    for row in stored("joins"):
        assert row["gap"] == pytest.approx(row["without"] - row["delay"], abs=1e-3)
        assert (row["delay"] > 0) == (row["join"] == "concatenation with delay")


def test_the_readme_counts_the_least_delays():
    """Below zero a delay has no gradient, so that it stays at one tick."""
    steps = [one.steps for path in TRACES for one in load_trace(path).operations if one.op == "delay"]
    every = np.concatenate(steps)
    assert f"{int((every == 1).sum())} of {every.size} channels have ended at one tick" in README


def test_claims_follow_from_seeds(study):
    """By hand: gaps that a quarter is left of are closed, gaps that are smaller in all seeds are closed in part."""
    assert study.tables._verdict("delays close them", (0.1, 0.2), (True, True)) == "confirmed"
    assert study.tables._verdict("delays close them", (0.6, 0.9), (False, False)) == "in part"
    assert study.tables._verdict("delays close them", (0.6, 1.1), (False, False)) == "refuted"
    assert study.tables._verdict("addition delays", (1.2, 0.9), (True, False)) == "in part"
    assert study.tables._verdict("addition delays", (0.8, 0.9), (False, False)) == "refuted"
    ticks = {"block1_conv": 70.0, "block1_earliest": 30.0, "block1_beside": 55.0}
    ticks |= {"block2_conv": 60.0, "block2_earliest": 40.0, "block2_beside": np.nan}
    assert study.tables.gaps(pd.Series(ticks)) == [(15.0, 40.0, 25.0), (20.0, 20.0, 0.0)]


def test_every_run_was_exact_and_none_longer_for_ending_early():
    costs = stored("costs")
    assert all(row["mismatches"] == 0 and row["seeds"] == 3 for row in [*costs, *stored("chips")])
    for first, fired, decided in zip(costs[::3], costs[1::3], costs[2::3], strict=True):
        assert first["cycles_relative"] == 1 >= fired["cycles_relative"] >= decided["cycles_relative"]


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_traces_are_exact(path):
    trace = load_trace(path)
    assert [check.mismatches for check in check_trace(trace)] == [0] * len(trace.operations)
    assert trace.provenance["kind"] == "trained" and path.stat().st_size < 1 << 20
