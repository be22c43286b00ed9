"""Whole networks made up: their graphs are those published, their tensors follow from one another."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from archsim.cli import main
from archsim.trace import check_trace, load_trace, save_trace, synthesize
from archsim.trace import published as built
from archsim.trace.calibrated import calibrated
from archsim.trace.published import NETWORKS

DENSITY = 0.15
LABELS = {"kind": "synthetic", "weights": "synthetic"}
# Millions of weights; what authors print has batch norms, biases and embeddings on top.
WEIGHTS = {
    "spikformer-4-384": (9.28, 9.32),
    "sdt-2-512": (10.2, 10.28),
    "sdt-8-512": (29.5, 29.68),
    "qkformer-4-384": (6.67, 6.74),
    "spikebert": (84.9, 85.1),  # 12 encoders of BERT
    "spikingbert": (28.3, 28.4),  # 4 of them
    "sew-resnet18": (11.67, 11.69),
    "sew-resnet34": (21.77, 21.80),
    "sew-resnet50": (25.50, 25.56),
    "vgg16-imagenet": (138.3, 138.37),
    "dvs-gesture": (1.69, 1.70),
    "shd": (0.24, 0.25),
}
REDUCED = {
    "spikformer": partial(built.spikformer, width=32, depth=1, heads=2, side=16),
    "sdt": partial(built.spike_driven, width=32, depth=1, side=16),
    "sdt, four pools": partial(built.spike_driven, width=32, depth=1, pools="1111", side=32),
    "qkformer": partial(built.qkformer, width=32, depth=3, heads=2, side=16),
    "spikebert": partial(built.spikebert, width=32, depth=1, heads=2, tokens=16),
    "spikingbert": partial(built.spikingbert, width=32, depth=1, heads=2, tokens=16),
    "sew-resnet18": partial(built.sew_resnet, (1, 1), width=16, side=32, classes=5),
    "sew-resnet50": partial(built.sew_resnet, (1, 1), bottleneck=True, width=16, side=32, classes=5),
    "vgg16": partial(built.vgg16, width=8, side=64, hidden=32, classes=5),
    "dvs-gesture": partial(built.dvs_gesture, channels=16, side=64, hidden=32),
    "shd": partial(built.recurrent, 60, 40, 5),
}


def made(name, timesteps=4, images=2, seed=0, **more):
    timesteps = 30 if name == "shd" else timesteps
    plan = REDUCED[name]()
    return plan, calibrated(
        plan, DENSITY, LABELS, network=name, timesteps=timesteps, images=images, seed=seed, **more
    )  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_published_sizes(name):
    least, most = WEIGHTS[name]
    assert least <= NETWORKS[name].build().weights / 1e6 <= most


@pytest.mark.parametrize("name", REDUCED)
def test_every_tensor_follows_from_the_inputs(name, tmp_path):
    plan, trace = made(name)
    save_trace(trace, tmp_path / "a.npz")
    loaded = load_trace(tmp_path / "a.npz")
    assert loaded.sha256 == trace.sha256
    assert {check.mismatches for check in check_trace(loaded)} == {0}
    written = {step.name for step in plan.steps}
    assert set(loaded.tensors) == written | set(plan.given)


@pytest.mark.parametrize("name", REDUCED)
def test_neurons_fire_as_often_as_asked_for(name):
    plan, trace = made(name)
    found = {}
    for step in plan.steps:
        # A layer of features fires too few spikes here, and so does what sums them over positions.
        if step.fires != "spikes" or (name != "shd" and len(step.shapes.output) == 1) or step.record["op"] == "reduce":
            continue
        readers = [other for other in plan.steps if step.name in other.record["inputs"]]
        pools = [
            reader.name
            for reader in readers
            if reader.record.get("op") == "pool" and trace.kind(reader.name) == "spike"
        ]
        found[step.name] = float(trace.tensor(pools[0] if pools else step.name).mean())
    assert found
    assert {layer: share for layer, share in found.items() if abs(share - DENSITY) > 0.1 * DENSITY} == {}


@pytest.mark.parametrize("timesteps", [1, 40])
def test_few_and_many_timesteps(timesteps):
    _, trace = made("qkformer", timesteps=timesteps, images=1)
    assert {check.mismatches for check in check_trace(trace)} == {0}


def test_seeds_images_timesteps_and_weight_densities():
    _, one = made("spikformer", seed=1)
    assert one.sha256 == made("spikformer", seed=1)[1].sha256
    assert one.sha256 != made("spikformer", seed=2)[1].sha256
    _, sparse = made("spikformer", timesteps=7, images=1, weight_density=0.25)
    assert (sparse.timesteps, sparse.images) == (7, 1)
    weight = sparse.operation("block1.fc1").weight
    assert abs((weight != 0).mean() - 0.25) < 0.03
    assert {check.mismatches for check in check_trace(sparse)} == {0}


def test_a_network_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "a.npz"
    assert main(["trace", "synth", "--preset", "shd", "--timesteps", "5", "--images", "2", "-o", str(path)]) == 0
    trace = load_trace(path)
    assert (trace.network, trace.timesteps, trace.images) == ("shd", 5, 2)
    provenance = trace.provenance
    assert (provenance["kind"], provenance["weights"]) == ("synthetic", "synthetic")
    assert provenance["recipe"] == "archsim trace synth --preset shd --timesteps 5 --seed 0 --images 2"
    assert set(provenance["details"]) == {"assumed", "density", "timesteps"}
    np.testing.assert_equal(synthesize("shd", timesteps=5, images=2).sha256, trace.sha256)
    assert main(["trace", "check", str(path)]) == 0
    capsys.readouterr()
    assert main(["list"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[1] for row in rows if row[0] == "synthetic network"] == list(NETWORKS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--timesteps", "0"], "timesteps: got 0; allowed: 1 to 1,024"),
        (["--images", "0"], "images: got 0; allowed: 1 to 1,048,576"),
        (["--seed", "-1"], "seed: got -1; allowed: 0 to"),
        (["--weight-density", "2"], "weight density: got 2.0; allowed: 0 to 1"),
        (["--gradient-density", "0.5"], "gradient density: got 0.5; allowed: with layers, as sew-resnet18 is a whole"),
        (["--images", "1000"], "values; allowed: at most 268,435,456"),
        (["--spike-density", "0.5"], "a preset brings its own"),
    ],
)
def test_what_is_refused(arguments, says, tmp_path, capsys):
    assert main(["trace", "synth", "--preset", "sew-resnet18", *arguments, "-o", str(tmp_path / "a.npz")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not list(tmp_path.iterdir())


def test_an_unknown_preset_has_the_nearest_name(tmp_path, capsys):
    assert main(["trace", "synth", "--preset", "spikformer", "-o", str(tmp_path / "a.npz")]) == 2
    assert "did you mean 'spikformer-4-384'" in capsys.readouterr().err
