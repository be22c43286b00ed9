"""Cells whose current is not proportional to their voltage: Kirchhoff's laws, ngspice, and the linear limit."""

import numpy as np
import pytest
from scipy.optimize import root

from archsim.errors import EngineError
from archsim.hardware.analog import effective_conductance
from archsim.hardware.analog.nonlinear import nonlinear_currents
from tests.analog.circuits import WIRES, draw_cells, ngspice

CUBIC = 0.25


def balance(cells, voltage, cubic, *, r_driver, r_row, r_col, r_sense):
    """Currents of one vector from the roots of Kirchhoff's laws, node by node."""
    rows, columns = cells.shape

    def leaving(nodes):
        row, column = nodes.reshape(2, rows, columns)
        across = row - column
        through = cells * (across - cubic * across**3)
        along = np.diff(row, axis=1, prepend=np.nan, append=np.nan) / r_row
        along[:, 0] = (row[:, 0] - voltage) / (r_driver + r_row)
        along[:, -1] = 0
        down = np.diff(column, axis=0, prepend=np.nan, append=np.nan) / r_col
        down[0] = 0
        down[-1] = -column[-1] / (r_col + r_sense)
        return 1e3 * np.stack([through + along[:, :-1] - along[:, 1:], -through + down[:-1] - down[1:]]).ravel()

    start = np.stack([np.repeat(voltage[:, None], columns, 1), np.zeros_like(cells)])
    found = root(leaving, start.ravel(), tol=1e-14)
    return found.x.reshape(2, rows, columns)[1, -1] / (r_col + r_sense)


@pytest.mark.parametrize("wires", WIRES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 1), (4, 5)])
def test_currents_balance_at_every_node(shape, wires):
    cells = draw_cells(*shape)
    voltage = np.random.default_rng(2).random((3, shape[0]))
    found = nonlinear_currents(cells, voltage, cubic=CUBIC, **wires)
    for currents, one in zip(found, voltage, strict=True):
        np.testing.assert_allclose(currents, balance(cells, one, CUBIC, **wires), rtol=1e-7)


@pytest.mark.parametrize("wires", WIRES[:3])
def test_ngspice_finds_the_same(wires, tmp_path):
    cells = draw_cells(8, 8)
    voltage = np.random.default_rng(3).random(8)
    found = nonlinear_currents(cells, voltage[None], cubic=CUBIC, **wires)[0]
    np.testing.assert_allclose(found, ngspice(cells, voltage, tmp_path, cubic=CUBIC, **wires), rtol=1e-8)


@pytest.mark.parametrize("wires", WIRES)
def test_linear_cells_have_a_matrix(wires):
    cells = draw_cells(8, 6)
    voltage = np.random.default_rng(4).random((2, 8))
    found = nonlinear_currents(cells, voltage, cubic=0.0, **wires)
    np.testing.assert_allclose(found, voltage @ effective_conductance(cells, **wires), rtol=1e-9)


def test_without_wires_the_cell_is_all_there_is():
    cells = draw_cells(3, 2)
    voltage = np.array([[0.5, 0.0, 1.0], [0.0, 0.0, 0.0]])
    wires = {"r_driver": 0.0, "r_row": 0.0, "r_col": 0.0, "r_sense": 0.0}
    found = nonlinear_currents(cells, voltage, cubic=CUBIC, **wires)
    np.testing.assert_allclose(found[0], 0.46875 * cells[0] + 0.75 * cells[2], rtol=1e-15)
    assert not found[1].any()
    assert not nonlinear_currents(cells, voltage, cubic=CUBIC, **WIRES[0])[1].any()


def test_what_is_refused():
    cells, voltage = draw_cells(2, 2), np.ones((1, 2))
    with pytest.raises(ValueError, match=r"below 0\.816 V"):
        nonlinear_currents(cells, voltage, cubic=0.5, **WIRES[0])
    with pytest.raises(ValueError, match="r_row and r_col above 0"):
        nonlinear_currents(cells, voltage, cubic=CUBIC, **{**WIRES[0], "r_row": 0.0})


def test_wires_that_take_everything():
    """Cells of 1 ohm behind wires of 1 Mohm."""
    with pytest.raises(EngineError, match=r"do not settle within 20000 sweeps.*; allowed: less resistance"):
        nonlinear_currents(np.ones((16, 32)), np.ones((1, 16)) / 2, cubic=CUBIC, r_driver=0.0, r_row=1e6, r_col=1e6,
                           r_sense=0.0)  # fmt: skip
