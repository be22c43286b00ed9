"""What runs say beside cycles and energy: when the read-out is first known, and what the network alone tells."""

import pytest

from archsim.simulate import run
from archsim.trace import load_trace, save_trace
from archsim.trace.estimate import estimate, total
from archsim.trace.neurobench import neurobench
from tests.machines import ROOT
from tests.small_traces import attention, tiny

SPIKESIM, LOAS, IMC = (ROOT / "hwconfigs" / f"{name}.yaml" for name in ("spikesim", "loas", "imc_ideal"))
FIT = ("noc.rows=fit", "timesteps=4")


def traced(folder, images, timesteps=4):
    path = folder / f"{images}.npz"
    save_trace(tiny(0, timesteps, images), path)
    return path


@pytest.mark.parametrize("engine", ["compiled", "reference"])
@pytest.mark.parametrize(("order", "maps"), [("outer", 12), ("inner", 3)])
def test_a_pipeline(order, maps, engine, tmp_path):
    """The first of the maps that the storer of the read-out writes: it waits for each and moves it, one row of one
    line."""
    settings = (*FIT, f"scheduler.timesteps={order}")
    report = run(SPIKESIM, traced(tmp_path, 3), overrides=settings, engine=engine, timeline=True)
    last, summary = report.layers[-1], report.summary()
    (storer,) = {agent for agent, name in last.agents.items() if name == "fc mover 1"}
    moved = last.completions[last.completions[:, 0] == storer, 1][1::2] + last.start_cycle
    assert len(moved) == maps
    assert summary["first_response_cycles"] == moved[0] < moved[-1] == summary["cycles"]
    assert summary["first_response_s"] == pytest.approx(moved[0] / (report.clock_mhz * 1e6))


def test_later_images_do_not_delay_the_first(tmp_path):
    found = [
        run(SPIKESIM, traced(tmp_path, images), overrides=FIT, engine="reference").summary()["first_response_cycles"]
        for images in (1, 3)
    ]
    assert found[0] == found[1]


def test_layer_by_layer(tmp_path):
    """All images and timesteps of a layer come before the next layer."""
    report = run(LOAS, traced(tmp_path, 2), engine="reference")
    assert report.summary()["first_response_cycles"] == sum(layer.cycles for layer in report.layers)
    assert [layer.layer for layer in report.layers][-1] == report.read_out == "fc"


def test_no_read_out_no_response(tmp_path):
    report = run(LOAS, traced(tmp_path, 2), engine="reference", layers=["conv2"])
    assert (report.summary()["first_response_cycles"], report.summary()["first_response_s"]) == (None, None)


def test_what_the_network_tells(tmp_path):
    """Where the direct encoder is left out, its estimate is among those of the whole network alone."""
    path = traced(tmp_path, 2)
    skips = ("scheduler.encoder=skipped",)
    trace, report = load_trace(path), run(LOAS, path, overrides=skips, engine="reference")
    found, summary = estimate(trace), report.summary()
    assert summary["estimate"] == total(found)
    assert summary["neurobench"] == neurobench(trace)._asdict()
    parts = [found[name].energy_pj for name in ("conv2", "fc")]
    assert [row["estimate_pj"] for row in report.rows("layers")] == parts
    assert summary["estimate_pj"] == sum(parts) < summary["estimate"]["energy_pj"]
    assert summary["energy_over_estimate"] == summary["energy_pj"] / sum(parts)
    assert run(LOAS, path, engine="reference", verify=False).summary()["neurobench"]["membrane_updates"] is None


def test_a_spike_is_one_operation_and_an_integer_two(tmp_path):
    """fc of tiny: 4 x 10 weights, 2 images, 4 timesteps. The transformer multiplies in everything that it computes."""
    report = run(LOAS, traced(tmp_path, 2), engine="reference", layers=["fc"])
    summary = report.summary()
    assert summary["tops"] == pytest.approx(40 * 2 * 4 * 1e-12 / summary["latency_s"])
    assert summary["tops_per_w"] == pytest.approx(summary["tops"] * 1e3 / summary["power_mw"])
    path = tmp_path / "attention.npz"
    save_trace(attention(), path)
    report = run(IMC, path, overrides=("noc.rows=fit", "timesteps=1"), engine="reference")
    summary = report.summary()
    dense = summary["neurobench"]["dense_operations"] * report.images
    assert summary["tops_per_w"] == pytest.approx(2 * dense / summary["energy_pj"])
    assert summary["coverage"] == 1 and "whole network" not in report.as_estimated()
