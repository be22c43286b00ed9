"""archsim against the stored numbers of other people's simulators: every point, and the rule where the two differ."""

import importlib
import subprocess
import sys

import pandas as pd
import pytest

from tests.machines import ROOT

FOLDER = ROOT / "benchmarks" / "oracles"
POINTS = {
    "prosperity": 32 * 6, "scale_sim": 144, "sana_fe": 8 * 2 + 9 * 6 + 7, "badcrossbar_solver": 30, "aihwkit_cells": 70,
    "cross_sim": 8 * 3 + 9 * 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def oracles():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        names = [*POINTS, "comparison"]
        yield {name: importlib.import_module(name) for name in names}
        for name in names:
            sys.modules.pop(name, None)


def stored(name):
    return pd.read_csv(FOLDER / "results" / f"{name}.csv")


@pytest.mark.parametrize("name", POINTS)
def test_archsim_says_what_follows_from_the_peers_numbers(oracles, name):
    """At every point. What is stored of archsim is what it says now."""
    table = oracles["comparison"].again(oracles[name], stored(name))
    assert len(table) == POINTS[name] and set(table.point) == set(oracles[name].CASES)
    assert oracles["comparison"].wrong(table).to_dict("records") == []
    pd.testing.assert_series_equal(table.ours, stored(name).ours, check_dtype=False, rtol=1e-9)


def test_points_have_no_room_but_rounding_and_sampling():
    for name in POINTS:
        table = stored(name)
        counts = table.unit.isin(["cycles", "rows", "spikes", "events"])
        assert (table.within[counts] == 0).all() and counts.any() == (name in ("prosperity", "scale_sim", "sana_fe"))
    assert (stored("badcrossbar_solver").eval("within / expected") < 1e-11).all()


def test_scale_sim_counts_from_zero_and_shifts_no_sum_out(oracles):
    """Ours is one more a layer, and with outputs in place as many cycles a fold as there are rows."""
    peer, table = oracles["scale_sim"], stored("scale_sim")
    for row in table.itertuples():
        case = peer.CASES[row.point]
        if case.positions == case.their_positions:
            shifted = case.rows * case.folds(case.positions) if case.dataflow == "output" else 0
            assert row.expected == row.theirs + 1 + shifted
        (rule,) = peer.rules(case, {"cycles": row.theirs})
        assert (rule.expected, rule.verdict) == (row.expected, row.verdict)


def test_prosperity_counts_are_equal_and_its_cycles_a_lower_bound():
    table = stored("prosperity")
    counted = table[table.quantity != "cycles"]
    assert (counted.ours == counted.theirs).all() and len(counted) == 32 * 5
    cycles = table[table.quantity == "cycles"]
    assert (cycles.ours > cycles.theirs).all()


def test_every_verdict_and_source_is_told():
    for name in POINTS:
        table = stored(name)
        assert table.notna().all(axis=None) and (table.kind == "simulator").all()
        assert table.source.str.fullmatch(r"\S+ (\d+\.\d+\.\d+|[0-9a-f]{40})").all()


def run(*arguments):
    return subprocess.run([sys.executable, FOLDER, *arguments], capture_output=True, text=True, cwd=ROOT)


def test_a_peer_that_is_not_there_is_named_with_how_to_get_it(tmp_path):
    done = run("cross_sim", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("cross_sim is not here (a clone of github.com/sandialabs/cross-sim as --checkout")
    assert "not as expected" not in done.stdout
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "cross_sim.csv"), stored("cross_sim"), rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scalesim"], "no peer 'scalesim'; allowed: prosperity, scale_sim"),
        (["sana_fe", "cross_sim", "--checkout", "x"], "--checkout is a clone of one peer, got 2"),
    ],
)
def test_what_is_not_there_is_refused(arguments, said):
    done = run(*arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
