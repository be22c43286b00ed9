"""IBM's aihwkit (PyPI aihwkit 1.1): what programming, drift and reading make of phase-change cells, 200,000 of each.

Both draw at random, so means and deviations agree within what so many draws leave: five standard errors of both sides
together. Deviations of deviations are those of normal variables, which these nearly are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata
from math import hypot, sqrt
from types import ModuleType
from typing import NamedTuple

import numpy as np
from comparison import Rule

from archsim.hardware.analog import device as cell
from archsim.hardware.analog.device import DeviceConfig

TITLE = "aihwkit"
INSTALL = "pip install --no-deps aihwkit==1.1.0 && pip install torch scipy"
CELLS = 200_000
ERRORS = 5
"""Of 84 comparisons, one in 20,000 tries would have one beyond so many standard errors by chance."""
SHARES = (0.02, 0.04, 0.1, 0.25, 0.5, 0.75, 1.0)
AGES = {"programmed": 0.0, "1 s": 1.0, "1 h": 3600.0, "1 d": 86_400.0, "1 year": 365 * 86_400.0}


class Case(NamedTuple):
    """Cells meant to have a share of the largest conductance, read some seconds after programming."""

    share: float
    age_s: float
    seed: int


CASES = {
    f"{share:g} of G_on, {label}": Case(share, age, index * len(AGES) + position)
    for index, share in enumerate(SHARES)
    for position, (label, age) in enumerate(AGES.items())
}


def load(checkout: str | None) -> ModuleType:
    import aihwkit.inference

    return aihwkit


def version(peer: ModuleType) -> str:
    return f"aihwkit {metadata.version('aihwkit')}"


def theirs(peer: ModuleType, case: Case) -> dict[str, float]:
    import torch

    torch.manual_seed(case.seed)
    model = peer.inference.PCMLikeNoiseModel(g_max=25.0)
    meant = torch.full((CELLS,), case.share * 25.0)
    found = model.apply_programming_noise_to_conductance(meant)
    if case.age_s:
        exponents = model.generate_drift_coefficients(meant)
        found = model.apply_drift_noise_to_conductance(found, exponents, case.age_s)
    return {"mean": float(found.double().mean()), "deviation": float(found.double().std())}


def ours(case: Case) -> dict[str, float]:
    pcm, draw = DeviceConfig.model_validate({"kind": "pcm"}), np.random.default_rng(case.seed)
    meant = np.full(CELLS, case.share * pcm.g_on)
    found = cell.program(meant, pcm, draw)
    if case.age_s:
        drifted = cell.drift(found, meant, pcm, case.age_s, draw)
        found = cell.read(drifted, cell.read_deviation(drifted, found, pcm, case.age_s), draw)
    return {"mean": float(found.mean() * 1e6), "deviation": float(found.std() * 1e6)}


def rules(case: Case, theirs: Mapping[str, float]) -> Iterable[Rule]:
    error = theirs["deviation"] / sqrt(CELLS)
    for quantity, one in (("mean", error), ("deviation", error / sqrt(2))):
        yield Rule(quantity, "uS", theirs[quantity], "equal within sampling", ERRORS * hypot(one, one))
