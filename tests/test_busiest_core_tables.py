"""The study of the busiest core: stored tables that add up, a run that is found again, and a README that says them."""

import importlib
import importlib.util
import sys

import numpy as np
import pandas as pd
import pytest

from archsim.trace import check_trace, load_trace
from tests.machines import ROOT

FOLDER = ROOT / "benchmarks" / "papers" / "busiest_core"
MODULES = ("runs", "estimates", "sentences", "paper_tables", "command_line")


@pytest.fixture(scope="module")
def study():
    """The folder's modules, by name, and ``tables``, its command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER.parent)
        patch.syspath_prepend(FOLDER)
        found = {name: importlib.import_module(name) for name in MODULES}
        spec = importlib.util.spec_from_file_location("busiest_core", FOLDER / "__main__.py")
        found["tables"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found["tables"])
        yield found
        for name in MODULES:
            sys.modules.pop(name, None)


def stored(name):
    return pd.read_csv(FOLDER / "results" / f"{name}.csv")


def as_made(name):
    """Rows as their maker had them."""
    rows = stored(name).to_dict("records")
    return [{key: None if pd.isna(value) else value for key, value in row.items()} for row in rows]


def test_every_run_is_stored_and_adds_up(study):
    table, tables = stored("runs"), study["tables"]
    keys = list(tables.KEYS)
    assert set(table[keys].itertuples(index=False, name=None)) == set(tables.JOBS) and len(table) == len(tables.JOBS)
    causes = [f"{cause}_cycles" for cause in study["runs"].CAUSES]
    assert (table[causes].sum(axis=1) == table.cycles).all()
    assert (table.mismatches == 0).all()
    assert (table.busiest <= table.busiest_by_step).all() and (table.busiest_by_step <= table.operations).all()
    assert (table.busiest * table.cores >= table.operations).all()


def test_totals_are_the_same_however_an_image_is_mapped():
    """Spikes and operations; so they cannot say why one mapping is faster than another."""
    groups = stored("runs").groupby(["network", "machine", "image"])
    assert (groups[["spikes", "operations"]].nunique() == 1).all(axis=None)
    assert (groups["cycles"].nunique() > 1).all()


def test_other_tables_follow_from_the_runs(study):
    """Everything of them, from the stored runs."""
    table, tables = stored("runs"), study["tables"]
    results = {tuple(row[key] for key in tables.KEYS): row for row in table.to_dict("records")}
    for name in ("predictors", "mappings"):
        made = tables.TABLES[name]()
        found = pd.DataFrame(made.rows(results))[list(made.columns)]
        pd.testing.assert_frame_equal(found, stored(name), check_dtype=False, rtol=1e-5, atol=1e-6)


def test_gains_are_those_of_the_same_image():
    runs, table = stored("runs"), stored("mappings")
    row = table[(table.network == "vgg9_evaluation") & (table.machine == "loihi1") & (table.mapping == "operations")]
    own = runs[(runs.network == "vgg9_evaluation") & (runs.machine == "loihi1")].set_index("image")
    gains = own[own.mapping == "in_order"].cycles / own[own.mapping == "operations"].cycles
    assert row.over_in_order.item() == pytest.approx(gains.mean())
    assert row.over_in_order_error.item() == pytest.approx(gains.std() / np.sqrt(len(gains)), abs=1e-6)


def test_estimates_on_numbers_made_for_it(study):
    """Cycles are three times a predictor in each of two groups, and a random one says nothing."""
    estimates, draw = study["estimates"], np.random.default_rng(0)
    busiest = draw.integers(100, 1000, 200)
    runs = pd.DataFrame({"image": np.arange(200) % 20, "group": np.arange(200) // 100, "busiest": busiest})
    runs = runs.assign(cycles=3 * busiest, other=draw.integers(100, 1000, 200), same=7)
    told = {
        (name, measure.__name__): estimates.with_interval(runs, ("group",), name, measure)
        for name in ("busiest", "other", "same") for measure in (estimates.correlation, estimates.error_percent)
    }  # fmt: skip
    assert told["busiest", "correlation"] == pytest.approx((1, 1, 1))
    assert told["busiest", "error_percent"] == pytest.approx((0, 0, 0), abs=1e-9)
    assert told["same", "correlation"] == (None, None, None)
    value, low, high = told["other", "correlation"]
    x, y = np.log(runs.other), np.log(runs.cycles)
    assert value == pytest.approx(
        np.mean([np.corrcoef(x[own], y[own])[0, 1] for own in (runs.group == 0, runs.group == 1)])
    )
    assert low < value < high and low < 0 < high
    value, low, high = told["same", "error_percent"]
    assert 0 < low < value < high


def test_a_group_of_one_image_counts_as_often_as_it_is_drawn(study):
    estimates = study["estimates"]
    runs = pd.DataFrame({"image": [0, 0, 1, 1], "x": [1, 2, 1, 2], "cycles": [1, 2, 2, 1]})
    weights = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]])
    found = estimates.over_groups(runs, ("image",), "x", estimates.correlation, weights)
    assert found.tolist() == pytest.approx([0, 1, -1])


def test_a_network_on_a_test_image_is_a_trace(study, tmp_path):
    """Every output follows from its inputs, and so it is the network on that image; it keeps its training images."""
    made = study["runs"].OneImage("vgg9_evaluation", 3)
    made.write(tmp_path)
    trace, whole = load_trace(made.path(tmp_path)), load_trace(ROOT / "workloads" / "vgg9_evaluation.npz")
    assert np.array_equal(trace.tensor(trace.pixels), whole.evaluation.images[3:4])
    assert np.array_equal(trace.calibration.images, whole.calibration.images[:16])
    assert all(check.mismatches == 0 for check in check_trace(trace))


def test_what_decides_between_mappings_depends_on_the_network():
    """The busiest core where most of the time goes into synapses, else the busiest link; the README has both ranges."""
    runs = np.log(
        stored("runs").set_index(["machine", "network", "image"])[["cycles", "busiest_by_step", "busiest_link"]]
    )
    r = runs.groupby(level=[0, 1, 2]).corr()["cycles"].unstack().groupby(level=[0, 1]).mean()
    core, link = r["busiest_by_step"], r["busiest_link"]
    others = {"loihi1": ["sdt"], "manycore": ["depthwise", "qkformer", "sdt", "spikformer"]}
    text = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
    for machine, by_link in others.items():
        assert sorted(link[machine].index[link[machine] > core[machine]]) == by_link
        by_core = core[machine].index.difference(by_link)
        for best, worst, networks in ((core, link, by_core), (link, core, by_link)):
            for value in (best, worst):
                told = [f"{one:.2f}" for one in (value[machine][networks].min(), value[machine][networks].max())]
                assert all(one in text for one in told), (machine, told)


def test_what_the_readme_concludes():
    """Where synapses take long the busiest core of each step predicts best; where they do not, the mesh decides, and
    balancing can cost more messages than it gains. Both machines gain most with the same network."""
    table = stored("predictors")
    r = table.set_index(["machine", "differs", "predictor"])["r"].sort_index()
    step, total = "those of the busiest core of each step", "all operations"
    assert r["loihi1", "all", step] > r["loihi1", "all", total]
    assert r["loihi1", "images and mappings", step] == r["loihi1", "images and mappings"].max()
    assert r["manycore", "mappings", step] < 0.2 < r["manycore", "mappings", "messages of the busiest link"]
    gains = stored("mappings").query("mapping == 'operations'").set_index(["machine", "network"]).sort_index()
    assert gains.over_in_order["manycore", "qkformer"] < 1 < gains.over_in_order["loihi1", "qkformer"]
    for machine in ("loihi1", "manycore"):
        assert gains.over_in_order[machine].idxmax() == "vgg9_evaluation" and gains.over_in_order[machine].max() > 3
    assert (gains.network_percent["manycore"].drop("vgg9_evaluation") > 60).all()


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["in_order", "operations"])
def test_a_stored_row_is_found_again(study, tmp_path, mapping):
    workload = study["runs"].OneImage("vgg9_evaluation", 1)
    workload.write(tmp_path)
    found = study["runs"].Run(workload, "loihi1", mapping).perform(tmp_path)
    table = stored("runs")
    (row,) = table[
        (table.network == "vgg9_evaluation")
        & (table.machine == "loihi1")
        & (table.mapping == mapping)
        & (table.image == 1)
    ].to_dict("records")
    assert found == {name: row[name] for name in found}


def test_the_readme_says_what_the_tables_say(study):
    text = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
    for name, sentence in study["sentences"].SENTENCES.items():
        assert " ".join(sentence(as_made(name)).split()) in text, name
