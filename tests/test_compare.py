"""Several machines side by side, from Python: what the command prints, as an object."""

import pytest
import yaml

import archsim
from archsim import sweeping
from archsim.errors import UsageError
from archsim.report import comparison
from archsim.trace import save_trace
from tests.small_traces import tiny


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "tiny.npz"
    save_trace(tiny(), path)
    return path


def test_compare_is_runs_side_by_side(trace):
    told = []
    found = archsim.compare(
        ["loas", "sparten_snn"], trace, engine="reference", progress=lambda *step: told.append(step)
    )
    assert list(found.reports) == ["loas", "sparten_snn"]
    assert told == [("simulating", 0, 2), ("loas", 1, 2), ("sparten_snn", 2, 2)]
    alone = archsim.run("sparten_snn", trace, engine="reference").summary()
    row = found.frame().iloc[1]
    assert row["kind"] == "synthetic"
    for name in ("hardware", "hardware_sha256", "trace_sha256", "cost_table_sha256", "archsim_version"):
        assert row[name] == alone[name] != ""
    assert len({row["hardware_sha256"] for row in found.rows()}) == 2
    assert (row["cycles"], row["energy_pj"]) == (alone["cycles"], alone["energy_pj"])
    assert row["speedup"] == pytest.approx(found.rows()[0]["latency_s"] / alone["latency_s"])
    page = found._repr_html_()
    assert '<td style="text-align: left">sparten_snn</td>' in page
    assert page.count("<th") == len(found.shown()) <= 9
    assert "energy per image [" in page
    assert repr(found).startswith("<Comparison: loas 1x, sparten_snn 0.")
    assert list(found.plot().svg) == ["comparison"]
    assert "<svg" in found.plot()._repr_html_()


def test_settings_are_those_of_a_run(trace):
    """By keyword or in the words of the command line, but not in both: nobody would know which of them counts."""
    how = {"engine": "reference", "verify": False}
    by_name = archsim.compare(["loas"], trace, pe__count=2, **how)
    assert by_name.rows() == archsim.compare(["loas"], trace, overrides=["pe.count=2"], **how).rows()
    assert by_name.rows()[0]["overrides"] == "pe.count=2"
    for call, machine in ((archsim.compare, ["loas"]), (archsim.run, "loas")):
        with pytest.raises(UsageError, match=r"^pe\.count: is set twice, by keyword and in overrides$"):
            call(machine, trace, overrides=[" pe . count = 2"], pe__count=2, **how)


@pytest.mark.parametrize("machine", ["sparten_snn", "spikesim_lossless"])
def test_a_run_tells_of_every_layer_when_it_begins(machine, trace):
    """One after the other, or all at once on a chip that holds the network."""
    told = []
    found = archsim.run(machine, trace, engine="reference", progress=lambda *step: told.append(step), jobs=1)
    names = [layer.layer for layer in found.layers]
    assert len(names) > 1
    assert told == [(name, done, len(names)) for done, name in enumerate([*names, ""])]


def test_all_problems_are_told_at_once(trace):
    with pytest.raises(UsageError) as caught:
        archsim.compare(["loas", "sparten", "imc_cnn"], trace, overrides=["timesteps=1"], engine="reference")
    told = "\n".join(caught.value.problems)
    assert "loas cannot run" in told
    assert "sparten cannot run" in told
    with pytest.raises(UsageError, match="'loas' is given twice"):
        archsim.compare(["loas", "loas"], trace)
    with pytest.raises(UsageError, match="no machine is given"):
        archsim.compare([], trace)


def test_comparisons_and_sweeps_have_the_same_measures_in_the_same_order():
    plan = sweeping.Sweep("loas", (), (sweeping.Axis("pe.count", ("8",)),))
    common = [name for name in sweeping.columns(plan) if name in comparison.COLUMNS and name not in comparison.MADE_OF]
    assert common == [name for name in comparison.COLUMNS if name in comparison.MEASURES] == list(comparison.MEASURES)
    assert set(comparison.KEY_MEASURES) <= set(comparison.MEASURES)


def test_the_timesteps_are_those_of_the_trace(trace):
    """The machine takes the trace's; whoever reads the results finds the number."""
    report = archsim.run("sparten_snn", trace, engine="reference")
    given = archsim.run("sparten_snn", trace, engine="reference", timesteps=tiny().timesteps)
    assert f"\ntimesteps: {tiny().timesteps}  # paper" in report.resolved
    assert yaml.safe_load(report.resolved) == yaml.safe_load(given.resolved)
    assert report.summary()["cycles"] == given.summary()["cycles"]
    area = [archsim.run("loas", trace, engine="reference", timesteps=t).summary()["area_mm2"] for t in ("trace", 16)]
    assert area[0] < area[1]
    with pytest.raises(archsim.ArchsimError, match=r"timesteps of the trace: psum\.size_kib: must hold 4 timesteps"):
        archsim.run(
            "gospa_snn", trace, engine="reference", timesteps="trace", psum__size_kib=1, psum__bits=32, pe__count=128
        )
