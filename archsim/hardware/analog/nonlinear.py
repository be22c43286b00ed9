"""Crossbar arrays of cells whose current is not proportional to their voltage.

A cell of conductance G carries I(v) = G (v - c v^3). The circuit is that of :mod:`archsim.hardware.analog.wires`; with
such cells no matrix says it all, and every vector of voltages is solved by itself: all rows with the columns' voltages
held, then all columns with the rows' held, each a tridiagonal system with the cells linearised where they stand
(Newton's method), until no node moves. v - c v^3 must rise over the whole range, so c v^2 < 1/3.

Source of the cubic: CrossSim, c = 0.25 / V^2 in its example.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import EngineError
from archsim.jit import kernel

SWEEPS = 20_000
HEARD = 100
"""Sweeps between two chances of a signal to be heard."""
MOVED = 1e-13
"""Nodes that move less than this share of the highest voltage stand."""


def nonlinear_currents(
    conductance: NDArray[np.float64],
    voltage: NDArray[np.float64],
    *,
    cubic: float,
    r_driver: float,
    r_row: float,
    r_col: float,
    r_sense: float,
) -> NDArray[np.float64]:
    """Currents [batch, M] in amperes of cells [N, M] in siemens, rows driven at ``voltage`` [batch, N] in volts.

    ``cubic`` is c in 1/V^2, resistances are in ohms: all zero, or ``r_row`` and ``r_col`` above zero. ValueError
    otherwise and for voltages beyond the cells' range; EngineError where :data:`SWEEPS` sweeps do not settle.
    """
    cells = np.ascontiguousarray(conductance, np.float64)
    driven = np.ascontiguousarray(voltage, np.float64)
    if driven.size and 3 * cubic * (driven**2).max() >= 1:
        raise ValueError(f"cells of cubic {cubic:g} / V^2 are defined below {(3 * cubic) ** -0.5:.3g} V")
    if r_driver == r_row == r_col == r_sense == 0:
        return (driven - cubic * driven**3) @ cells
    if not (r_row > 0 and r_col > 0 and r_driver >= 0 and r_sense >= 0):
        raise ValueError("wires of cells that are not linear need r_row and r_col above 0, or no resistance at all")
    rows, columns = cells.shape
    found = np.empty((len(driven), columns))
    nodes, scratch = np.empty((2, rows, columns)), np.empty((2, max(rows, columns)))
    for one, currents in zip(driven, found, strict=True):
        top = np.abs(one).max()
        ends = 1 / (r_driver + r_row), 1 / r_row, 1 / r_col, 1 / (r_col + r_sense)
        nodes[0], nodes[1] = one[:, np.newaxis], 0.0
        # Some sweeps at a time, so that Ctrl-C is heard in between.
        times = range(SWEEPS // HEARD)
        if top and not any(relax(cells, one, cubic, *ends, MOVED * top, HEARD, nodes, scratch) for _ in times):
            raise EngineError(
                f"cells that are not linear: node voltages do not settle within {SWEEPS} sweeps, as wires take nearly "
                "all of the voltage; allowed: less resistance of rows and columns, or linear cells (cubic_per_v2 = 0)"
            )
        currents[:] = nodes[1, -1] * ends[-1] if top else 0.0
    return found


@kernel
def relax(cells: Any, driven: Any, cubic: float, g_driver: float, g_row: float, g_col: float, g_sense: float,
          tolerance: float, sweeps: int, nodes: Any, scratch: Any) -> bool:  # fmt: skip
    """Move the nodes' voltages ``nodes`` [2, N, M], those of rows first, towards balance; whether they settled."""
    rows, columns = cells.shape
    for _ in range(sweeps):
        moved = 0.0
        for side in range(2):
            lines = rows if side == 0 else columns
            length = columns if side == 0 else rows
            g_wire = g_row if side == 0 else g_col
            for line in range(lines):
                # Thomas' algorithm: scratch[0] share of the next node's voltage, scratch[1] the rest.
                ratio = 0.0
                rest = 0.0
                for n in range(length):
                    i, j = (line, n) if side == 0 else (n, line)
                    held = nodes[1 - side, i, j]
                    v = nodes[side, i, j] - held
                    slope = cells[i, j] * (1.0 - 3.0 * cubic * v * v)
                    # Current out of this node through the cell: slope (node - held) + beyond.
                    beyond = cells[i, j] * (v - cubic * v * v * v) - slope * v
                    diagonal = slope
                    right = slope * held - beyond
                    if n > 0:
                        diagonal += g_wire * (1.0 - ratio)
                        right += g_wire * rest
                    elif side == 0:
                        diagonal += g_driver
                        right += g_driver * driven[line]
                    onward = g_wire if n < length - 1 else 0.0
                    if side == 1 and n == length - 1:
                        diagonal += g_sense
                    diagonal += onward
                    ratio = onward / diagonal
                    rest = right / diagonal
                    scratch[0, n] = ratio
                    scratch[1, n] = rest
                after = 0.0
                for n in range(length - 1, -1, -1):
                    i, j = (line, n) if side == 0 else (n, line)
                    after = scratch[0, n] * after + scratch[1, n]
                    moved = max(moved, abs(after - nodes[side, i, j]))
                    nodes[side, i, j] = after
        if moved <= tolerance:
            return True
    return False
