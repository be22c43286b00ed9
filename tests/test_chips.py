"""Published points of chips: what is stored is what runs now, and constants come from the fitted half alone."""

import importlib
import sys

import pandas as pd
import pytest
import yaml

from tests.machines import ROOT

FOLDER = ROOT / "benchmarks" / "chips"
STORED = pd.read_csv(FOLDER / "results" / "chips.csv")
RUN = STORED[STORED["set"] != "not run"]


@pytest.fixture(scope="module")
def macros():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module("macros")
        sys.modules.pop("macros", None)


def groups(macros):
    for macro in macros.POINTS["macros"].values():
        for name, group in macro["groups"].items():
            yield macro, name, group


@pytest.mark.slow
def test_every_stored_number_is_what_runs_now(macros):
    stored = {(row.what, row.point, row.unit): row.ours for row in RUN.itertuples()}
    found = 0
    for macro, name, group in groups(macros):
        for point in group["points"]:
            for key in macros.UNITS.keys() & point.keys():
                at = (macro["title"], f"{name}, {point['point']}", macros.UNITS[key][1])
                assert macros.ours(macro, group, point, key) == pytest.approx(stored[at], rel=1e-9), at
                found += 1
    assert found == len(RUN) == 97


@pytest.mark.slow
def test_constants_are_what_the_fitted_half_gives(macros):
    for macro, name, group in groups(macros):
        if "tops" in group["points"][0]:
            clock_ghz = yaml.safe_load(macros.hardware(macro).read_text())["clock_mhz"] / 1e3
            fitted = macros.fitted_steps(macro, group, clock_ghz)
            assert fitted == {key: macros.steps(macro, group)[key] for key in fitted}, name
        if "prices_pj" in group:
            assert macros.fitted_prices(macro, group) == group["prices_pj"], name


def test_a_changed_tested_point_moves_no_constant(macros):
    macro = macros.POINTS["macros"]["neurram"]
    (group,) = macro["groups"].values()
    points = [
        point | {"tops": point["tops"] * (1 if macros.is_fitted(index) else 2)}
        for index, point in enumerate(group["points"])
    ]
    assert macros.fitted_steps(macro, {"points": points}, 1.0) == macros.fitted_steps(macro, group, 1.0)
    points[0] |= {"tops": 1.0}
    assert macros.fitted_steps(macro, {"points": points}, 1.0) != macros.fitted_steps(macro, group, 1.0)


def test_halves_are_equal_and_nothing_is_left_unsaid():
    counts = RUN["set"].value_counts()
    assert (counts["fitted"], counts["tested"]) == (49, 48)
    assert RUN.notna().drop(columns="why_not").all(axis=None) and RUN.mark.isin(["S", "S2"]).all()
    rest = STORED[STORED["set"] == "not run"]
    assert (
        len(rest) == 20
        and rest.ours.isna().all()
        and rest[["why_not", "theirs", "source", "mark"]].notna().all(axis=None)
    )


def test_errors_are_those_of_the_readme():
    tested, fitted = (RUN[RUN["set"] == half].error_percent.abs() for half in ("tested", "fitted"))
    assert f"48, {tested.mean():.1f} %, {tested.max():.0f} %" in (FOLDER / "README.md").read_text()
    assert f"49, {fitted.mean():.1f} %, {fitted.max():.0f} %" in (FOLDER / "README.md").read_text()
