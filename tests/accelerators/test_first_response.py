"""When the read-out is first known: in a pipeline before the run ends, layer by layer with the read-out's end."""

import pytest

from archsim.simulate import run
from archsim.trace import save_trace
from tests.machines import ROOT
from tests.small_traces import tiny

SPIKESIM, LOAS = (ROOT / "hwconfigs" / f"{name}.yaml" for name in ("spikesim", "loas"))
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
