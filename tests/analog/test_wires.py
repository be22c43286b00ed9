"""Effective matrices: against Kirchhoff's laws, ngspice and badcrossbar, and where they are known by hand."""

import numba
import numpy as np
import pytest

from archsim.hardware.analog import effective_conductance
from tests.analog.circuits import DEVICES, WIRES, badcrossbar, draw_cells, ngspice, nodal

compiled = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="minutes as plain Python")
NONE = {"r_driver": 0.0, "r_row": 0.0, "r_col": 0.0, "r_sense": 0.0}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("wires", WIRES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (2, 3), (7, 4), (4, 9)])
def test_small_arrays_balance_at_every_node(shape, wires, device):
    cells = draw_cells(*shape, device=device)
    np.testing.assert_allclose(effective_conductance(cells, **wires), nodal(cells, **wires), rtol=1e-9)


@compiled
@pytest.mark.parametrize("wires", WIRES)
@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (64, 20), (20, 64), (128, 128)])
def test_arrays_balance_at_every_node(shape, wires):
    cells = draw_cells(*shape)
    np.testing.assert_allclose(effective_conductance(cells, **wires), nodal(cells, **wires), rtol=1e-9)


@pytest.mark.parametrize("wires", [WIRES[0], WIRES[1], WIRES[2]])
@pytest.mark.parametrize("size", [4, 8, 16])
def test_ngspice_finds_the_same(size, wires, tmp_path):
    cells = draw_cells(size, size, seed=size)
    voltage = np.random.default_rng(1).random(size) * 0.5
    found = voltage @ effective_conductance(cells, **wires)
    np.testing.assert_allclose(found, ngspice(cells, voltage, tmp_path, **wires), rtol=1e-8)


@pytest.mark.parametrize("size", [4, 16, pytest.param(64, marks=compiled)])
def test_badcrossbar_finds_the_same(size):
    cells = draw_cells(size, size + 3, seed=size)
    voltage = np.random.default_rng(1).random((5, size)) * 0.5
    found = voltage @ effective_conductance(cells, r_driver=0.0, r_row=5.0, r_col=2.0, r_sense=0.0)
    np.testing.assert_allclose(found, badcrossbar(cells, voltage, r_row=5.0, r_col=2.0), rtol=1e-9)


def test_no_resistance_leaves_cells_as_they_are():
    cells = draw_cells(5, 7)
    assert np.array_equal(effective_conductance(cells, **NONE), cells)


@pytest.mark.parametrize("resistance", [1e-3, 1e-6, 1e-9, 1e-12])
def test_little_resistance_takes_little(resistance):
    """To first order; the loss is r times sums of conductances: no digits are lost however little r is."""
    cells = draw_cells(6, 5)
    wires = dict.fromkeys(NONE, resistance)
    rows, columns = cells.shape
    expected = np.zeros_like(cells)
    for i in range(rows):
        for j in range(columns):
            # By superposition: voltage lost along row i up to column j, gained along column j below row i.
            row = sum((1 + min(j, m) + 1) * cells[i, m] for m in range(columns))
            column = sum((1 + rows - max(i, n)) * cells[n, j] for n in range(rows))
            # Row i alone is driven, so other cells of column j pass back what their node's voltage drives.
            own = cells[i, j] * (1 - resistance * (row + (1 + rows - i) * cells[i, j]))
            back = cells[i, j] * resistance * (column - (1 + rows - i) * cells[i, j])
            expected[i, j] = own - back
    found = effective_conductance(cells, **wires)
    np.testing.assert_allclose(found, expected, rtol=max(1e-14, 1e3 * (resistance * cells.sum()) ** 2))


def test_a_single_cell_is_a_series_of_resistances():
    found = effective_conductance(np.array([[1e-4]]), r_driver=100.0, r_row=20.0, r_col=3.0, r_sense=7.0)
    assert found.item() == pytest.approx(1 / (1e4 + 100 + 20 + 3 + 7), rel=1e-14)


def test_a_single_row_of_equal_cells_without_wires_is_a_divider():
    """All cells in parallel behind one driver: each carries G / (1 + r M G)."""
    found = effective_conductance(np.full((1, 8), 1e-4), r_driver=500.0, r_row=0.0, r_col=0.0, r_sense=0.0)
    np.testing.assert_allclose(found, 1e-4 / (1 + 500 * 8e-4), rtol=1e-14)


def test_a_single_column_of_cells_without_wires_is_a_divider():
    """All cells meet before one resistance: I = sum G_i V_i / (1 + r sum G)."""
    cells = draw_cells(8, 1)
    found = effective_conductance(cells, r_driver=0.0, r_row=0.0, r_col=0.0, r_sense=500.0)
    np.testing.assert_allclose(found, cells / (1 + 500 * cells.sum()), rtol=1e-14)


def test_wires_of_one_direction_alone():
    """Wires without resistance are the limit of wires with little."""
    cells = draw_cells(6, 5)
    for only in ("r_row", "r_col"):
        wires = {"r_driver": 100.0, "r_row": 0.0, "r_col": 0.0, "r_sense": 100.0, only: 20.0}
        little = {name: value or 1e-6 for name, value in wires.items()}
        expected = nodal(cells, **little)
        np.testing.assert_allclose(effective_conductance(cells, **wires), expected, rtol=1e-7)


def test_reciprocity():
    """Drivers and sensors may change places: rows from the bottom, columns from the left end."""
    cells = draw_cells(6, 9)
    there = effective_conductance(cells, r_driver=300.0, r_row=5.0, r_col=9.0, r_sense=40.0)
    back = effective_conductance(cells[::-1, ::-1].T, r_driver=40.0, r_row=9.0, r_col=5.0, r_sense=300.0)
    np.testing.assert_allclose(back[::-1, ::-1].T, there, rtol=1e-12)


def test_nobody_gains_current():
    """Every row at 1 V: what a column is sensed to carry is below its cells' conductance, and never negative."""
    cells = draw_cells(9, 9)
    cells[3] = 0.0
    cells[:, 4] = 0.0
    found = effective_conductance(cells, **WIRES[0])
    assert (found.sum(0) <= cells.sum(0)).all()
    assert (found >= 0).all()
    assert (found[:, 4] == 0).all()
    assert (found[3] == 0).all()


def test_many_arrays_at_once():
    cells = np.stack([draw_cells(4, 5, seed) for seed in range(6)]).reshape(2, 3, 4, 5)
    found = effective_conductance(cells, **WIRES[0])
    for at in np.ndindex(2, 3):
        assert np.array_equal(found[at], effective_conductance(cells[at], **WIRES[0]))


@pytest.mark.parametrize(
    ("cells", "wires", "problem"),
    [
        (np.ones(3), NONE, "rows and columns"),
        (-np.ones((2, 2)), NONE, "not negative"),
        (np.full((2, 2), np.nan), NONE, "finite"),
        (np.ones((2, 2)), {**NONE, "r_row": -1.0}, "r_row"),
        (np.ones((2, 2)), {**NONE, "r_sense": float("inf")}, "r_sense"),
    ],
)
def test_what_is_no_circuit(cells, wires, problem):
    with pytest.raises(ValueError, match=problem):
        effective_conductance(cells, **wires)
