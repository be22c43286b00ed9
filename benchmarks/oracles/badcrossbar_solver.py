"""badcrossbar (PyPI badcrossbar): currents of crossbar arrays with resistive wires, cells drawn from a seed.

Wires of rows and columns have a resistance from cell to cell; it knows neither drivers nor what senses. Both solve the
same linear circuit, so currents differ by rounding alone.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping
from importlib import metadata
from types import ModuleType
from typing import NamedTuple

import numpy as np
from comparison import Rule
from numpy.typing import NDArray

from archsim.hardware.analog.wires import effective_conductance

TITLE = "badcrossbar"
INSTALL = "pip install --no-deps badcrossbar pathvalidate"
ROUNDING = 1e-12
"""Relative: solutions of some thousand equations, which two programs order differently."""


class Case(NamedTuple):
    """Cells of 20 to 200 kohm and voltages of 0 to 0.2 V."""

    rows: int
    columns: int
    r_row: float
    r_col: float
    seed: int


CASES = {
    f"{case.rows}x{case.columns}, {case.r_row:g} and {case.r_col:g} ohm": case
    for case in (
        Case(4, 4, 1, 1, 0), Case(8, 8, 1, 1, 1), Case(16, 12, 5, 10, 2), Case(12, 16, 0.6, 1.8, 3),
        Case(16, 16, 2, 0.5, 4), Case(32, 32, 1.5, 2.5, 5), Case(1, 9, 3, 4, 6), Case(9, 1, 3, 4, 7),
        Case(64, 64, 5, 5, 8), Case(64, 64, 1.47, 4.4, 9),
    )
}  # fmt: skip


def array(case: Case) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Conductances [N, M] in siemens and voltages [N]."""
    draw = np.random.default_rng(case.seed)
    return draw.uniform(1 / 200e3, 1 / 20e3, (case.rows, case.columns)), draw.uniform(0, 0.2, case.rows)


def load(checkout: str | None) -> ModuleType:
    with warnings.catch_warnings(record=True):  # that its plots need cairo
        import badcrossbar
    logging.getLogger("badcrossbar").setLevel(logging.WARNING)
    return badcrossbar


def version(peer: ModuleType) -> str:
    return f"badcrossbar {metadata.version('badcrossbar')}"


def currents(values: NDArray[np.float64]) -> dict[str, float]:
    """Of the first, the middle and the last column, which lie least and most behind wires."""
    columns = {"first": 0, "middle": len(values) // 2, "last": -1}
    return {f"current of the {which} column": float(values[column]) for which, column in columns.items()}


def theirs(peer: ModuleType, case: Case) -> dict[str, float]:
    cells, voltages = array(case)
    found = peer.compute(voltages[:, np.newaxis], 1 / cells, r_i_word_line=case.r_row, r_i_bit_line=case.r_col)
    return currents(found.currents.output[0])


def ours(case: Case) -> dict[str, float]:
    cells, voltages = array(case)
    return currents(voltages @ effective_conductance(cells, r_driver=0, r_row=case.r_row, r_col=case.r_col, r_sense=0))


def rules(case: Case, theirs: Mapping[str, float]) -> Iterable[Rule]:
    for quantity, current in theirs.items():
        yield Rule(quantity, "A", current, "equal to rounding", ROUNDING * abs(current))
