"""Recipes from beginning to end, on a handful of images that are noise: they train, export, and traces are exact."""

from __future__ import annotations

import gzip
import importlib
import sys

import numpy as np
import pandas as pd
import pytest

from archsim.trace import check_trace, load_trace
from archsim.trace.tensor_train import decomposed_in
from tests.export.frameworks import need
from tests.machines import ROOT

need("torch")
need("spikingjelly.activation_based")

IMAGES = {"train": 120, "t10k": 20}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four files as those of Fashion-MNIST, every class alike often."""
    folder, draw = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for part, count in IMAGES.items():
        for kind, values in (
            ("images-idx3", draw.integers(0, 256, (count, 28, 28))),
            ("labels-idx1", np.arange(count) % 10),
        ):
            head = bytes((0, 0, 8, values.ndim)) + b"".join(size.to_bytes(4) for size in values.shape)
            packed = gzip.compress(head + values.astype(np.uint8).tobytes())
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(packed)
    return folder


@pytest.fixture
def recipe(monkeypatch, data, tmp_path):
    """A function that runs a recipe as the command line does; checkpoints and outputs are in ``tmp_path``."""
    monkeypatch.syspath_prepend(ROOT / "workloads" / "recipes")

    def run(name, *arguments):
        common = ("--data", str(data), "--checkpoints", str(tmp_path))
        monkeypatch.setattr(sys, "argv", [name, *arguments, *common])
        importlib.import_module(name).main()

    return run


def exact(path):
    """The trace, all of which follows from its inputs."""
    trace = load_trace(path)
    assert all(check.mismatches == 0 for check in check_trace(trace))
    return trace


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["dense", "stt", "ptt", "htt"])
def test_tensor_trains(recipe, tmp_path, mode):
    recipe("train_tt_snn", "--mode", mode, "--samples", "60", "--seed", "7")
    short = (mode, "--seed", "7", "--images", "1")
    recipe("export_tt_snn", *short, "--test-images", "2", "-o", str(tmp_path / "merged.npz"))
    recipe("export_tt_snn", *short, "--step", "-o", str(tmp_path / "step.npz"))
    merged, step = exact(tmp_path / "merged.npz"), exact(tmp_path / "step.npz")
    assert not decomposed_in(merged)
    assert len(decomposed_in(step)) == (0 if mode == "dense" else 16)
    weighted = [operation for operation in step.operations if operation.op in ("conv2d", "linear")]
    assert all(operation.gradient_mask is not None for operation in weighted)
    assert (step.provenance["seed"], step.provenance["details"]["training_samples"]) == (7, 60)


@pytest.mark.slow
def test_prompts(recipe, tmp_path):
    runs = tmp_path / "runs.csv"
    recipe("train_prompts", "--seeds", "3", "--backbone-samples", "240", "--task-samples", "64", "-o", str(runs))
    found = pd.read_csv(runs)
    assert found.method.tolist() == list(importlib.import_module("train_prompts").METHODS)
    assert (found.seed == 3).all() and found.accuracy.between(0, 1).all()
    for method, name in (("os", "os_prompt"), ("soft", "two_stage_prompt")):
        path = tmp_path / f"{method}.npz"
        recipe("export_prompts", method, "--seed", "3", "--test-images", "20", "-o", str(path))
        assert exact(path).network == name
