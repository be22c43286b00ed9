"""The table of Prosperity's times: shapes by another machine's published times, and stored tables that add up."""

import importlib
import math
import subprocess
import sys

import pandas as pd
import pytest

from tests.machines import ROOT

FOLDER = ROOT / "benchmarks" / "papers" / "prosperity_hpca25"
COLUMNS = ["what", "point", "quantity", "unit", "ours", "theirs", "source", "kind", "deviation_percent"]


@pytest.fixture(scope="module")
def networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module("networks")
        sys.modules.pop("networks", None)


def eyeriss_ms(network):
    """What the simulator counts for layers with weights on its 14 x 12 array, and for their neurons."""
    plan, steps = network.build(), network.timesteps
    cycles = 0
    for step in plan.steps:
        n, *size = step.shapes.output
        positions = math.prod(size)
        if step.shapes.weight is not None:
            cycles += -(-n // 12) * (math.prod(step.shapes.weight[1:]) * positions * steps // 14)
            cycles += steps // 12 * n * positions // 14
    return cycles / 500e3


def test_shapes_are_those_of_the_published_table(networks):
    """Eyeriss is dense, so its published times say how large a network is. Norms and attention are some percent."""
    assert set(networks.NETWORKS) == set(networks.PUBLISHED)
    for name, network in networks.NETWORKS.items():
        theirs = networks.PUBLISHED[name]["ms"]["eyeriss"]
        exact = name.startswith(("resnet18", "vgg16"))
        assert eyeriss_ms(network) == pytest.approx(theirs, rel=1e-3 if exact else 0.03), name


@pytest.mark.parametrize("name", ["times", "densities", "speedups"])
def test_stored_rows_add_up(networks, name):
    table = pd.read_csv(FOLDER / "results" / f"{name}.csv")
    assert list(table.columns[: len(COLUMNS)]) == COLUMNS and table.notna().all(axis=None)
    assert (table.kind == "paper").all()
    expected = 100 * (table.ours - table.theirs) / table.theirs
    pd.testing.assert_series_equal(table.deviation_percent, expected, check_names=False, atol=1e-5)
    for row in table[table.point != "geometric mean"].itertuples():
        published = networks.PUBLISHED[row.point]
        if name == "times":
            assert row.theirs == published["ms"][row.what.lower()]
        elif name == "densities":
            assert row.theirs == published[row.quantity]


def test_speedups_are_ratios_of_the_times():
    times, speedups = (pd.read_csv(FOLDER / "results" / f"{name}.csv") for name in ("times", "speedups"))
    ms = times.set_index(["what", "point"]).ours
    single = speedups[(speedups.what == "Prosperity over PTB") & (speedups.point != "geometric mean")]
    assert len(single) == 16
    for row in single.itertuples():
        assert row.ours == pytest.approx(ms["PTB", row.point] / ms["Prosperity", row.point])
    (mean,) = speedups[(speedups.what == "Prosperity over PTB") & (speedups.point == "geometric mean")].itertuples()
    assert mean.ours == pytest.approx(math.exp(single.ours.map(math.log).mean()))


def test_an_unknown_network_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, FOLDER, "-o", tmp_path, "--networks", "vgg9"], capture_output=True, text=True, cwd=ROOT
    )  # fmt: skip
    assert done.returncode == 2 and "--networks: no network 'vgg9'; allowed: vgg16_cifar10" in done.stderr


@pytest.mark.slow
def test_a_stored_time_is_what_runs_now(networks, tmp_path):
    """The shortest network."""
    workload = networks.Workload("sdt_cifar10")
    workload.write(tmp_path)
    stored = pd.read_csv(FOLDER / "results" / "times.csv").set_index(["what", "point"])
    found = networks.Run("prosperity", workload).perform(tmp_path)
    assert found["ms"] == pytest.approx(stored.ours["Prosperity", "sdt_cifar10"])
