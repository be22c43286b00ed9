"""Machines look requantised sums up in tables."""

from __future__ import annotations

import pytest

from archsim import run
from archsim.trace import save_trace
from tests.machines import ROOT
from tests.unit.trace.test_activations import network


@pytest.mark.parametrize("name", ["systolic", "sata", "loas", "bit_composable"])
def test_tables(name, tmp_path):
    """Every output of the machine is the trace's."""
    save_trace(network(), tmp_path / "a.npz")
    report = run(ROOT / "hwconfigs" / f"{name}.yaml", tmp_path / "a.npz")
    assert report.summary()["mismatches"] == 0
    assert report.summary()["coverage"] == 1.0
