"""Training tools as tests get them, and small tasks for them."""

from __future__ import annotations

import importlib
import os
import warnings

import numpy as np
import pytest

from archsim.trace import check_trace, load_trace, save_trace


def need(name: str):
    """The module ``name``; where it is not installed the tests are skipped, but not in CI, which installs all."""
    if os.environ.get("ARCHSIM_TEST_FRAMEWORKS") == "all":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as importorskip does
            module = importlib.import_module(name)
    else:
        module = pytest.importorskip(name, reason=f"{name} is not installed; see CONTRIBUTING.md")
    if name == "torch":
        module.set_num_threads(1)
    return module


def bars(images: int, seed: int = 0):
    """Pictures [I, 1, 8, 8] in 0..1 of a bar, upright, lying or aslant, in noise, and which of the three."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, images)
    pictures = 0.3 * generator.random((images, 1, 8, 8))
    for picture, label in zip(pictures[:, 0], labels, strict=True):
        place = generator.integers(1, 7)
        if label == 2:
            np.fill_diagonal(picture, 1.0)
        else:
            (picture.T if label else picture)[place] = 1.0
    return np.round(pictures * 255).astype(np.float32) / 255, labels


def verified(exported, folder):
    """The trace after a way through a file, all its layers computed again: 0 mismatches, nothing left out."""
    path = folder / "exported.npz"
    save_trace(exported.trace, path)
    trace = load_trace(path)
    checks = list(check_trace(trace))
    assert [check.layer for check in checks if check.mismatches != 0] == []
    return trace


def differing(exported):
    """The share of spikes that differ from the float model, by layer."""
    return {row.layer: row.differing for row in exported.layers if row.differing is not None}
