"""Wires of a crossbar array: what their resistance leaves of the cells' conductances.

Rows i = 0..N-1 are driven at their left ends, columns j = 0..M-1 are sensed at their bottom ends::

    V_i --[r_driver + r_row]-- W(i,0) --[r_row]-- W(i,1) --[r_row]-- ... W(i,M-1)
    cell (i,j): conductance G_ij between W(i,j) and B(i,j)
    B(0,j) --[r_col]-- B(1,j) --[r_col]-- ... B(N-1,j) --[r_col + r_sense]-- ground

With linear cells everything is linear, so one matrix says it all: the current into the sense resistance of column j is

    I_j = sum_i V_i E_ij,            E the *effective conductance*, and every product is a product of matrices.

E is found by block elimination, column by column from the far end of the rows, keeping two things about all that lies
right of where the N rows are cut: their admittance A [N x N] (currents into the cut rows by their voltages) and the
transfer C [columns seen, N] (sensed currents by the same voltages). A column adds its own; a resistance r in series
with row k, which carries the current i = A_k v / (1 + r A_kk), then takes

    A <- A - f A_k^T A_k,      C <- C - f C_k A_k,      f = r / (1 + r A_kk)      (C_k column k of C, A_k row k of A).

Nothing is inverted and no conductance of a wire appears, so wires without resistance are as good as any others and no
digits are lost when they have little. A column by itself is a ladder, in closed form. Cost: N M (N^2 + N M) / 2
multiplications; the order of additions does not depend on the machine, so equal cells give equal bits.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.hardware.loading import Block, CrossFieldError
from archsim.jit import kernel

LEAST_OHM = 1e-6
"""No wire from cell to cell has less: a cube of copper of 17 mm has it."""


class WireConfig(Block):
    """Resistances of a crossbar array's wires and of what stands at their ends: none at all, or what may be built.

    A wire of more than 1 Mohm from cell to cell would be none, nor would what drives or senses at 1 Gohm.
    """

    r_driver_ohm: float = Field(ge=0, le=1e9, description="driver of a row [ohm]")
    r_row_ohm: float = Field(ge=0, le=1e6, description="row wire from cell to cell [ohm]")
    r_col_ohm: float = Field(ge=0, le=1e6, description="column wire from cell to cell [ohm]")
    r_sense_ohm: float = Field(ge=0, le=1e9, description="what senses a column's current [ohm]")

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        small = [name for name, ohm in self.model_dump().items() if 0 < ohm < LEAST_OHM]
        if small:
            raise CrossFieldError(dict.fromkeys(small, f"must be 0 or at least {LEAST_OHM:g}"))
        return self

    @property
    def ohms(self) -> dict[str, float]:
        """As :func:`effective_conductance` takes them."""
        return {name.removesuffix("_ohm"): value for name, value in self.model_dump().items()}


def effective_conductance(
    conductance: NDArray[np.float64], *, r_driver: float, r_row: float, r_col: float, r_sense: float
) -> NDArray[np.float64]:
    """E [..., N, M] in siemens of arrays whose cells have ``conductance`` [..., N, M] in siemens, resistances in ohms.

    ``r_driver`` and ``r_sense`` stand at the ends of every row and column, ``r_row`` and ``r_col`` are those of a
    wire's segment from cell to cell. ValueError for what is negative or not finite.
    """
    cells = np.ascontiguousarray(conductance, np.float64)
    if cells.ndim < 2:
        raise ValueError(f"conductance must have rows and columns, got shape {cells.shape}")
    if not (np.isfinite(cells).all() and (cells >= 0).all()):
        raise ValueError("conductance must be finite and not negative")
    for name, value in {"r_driver": r_driver, "r_row": r_row, "r_col": r_col, "r_sense": r_sense}.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be finite and not negative, got {value}")
    if r_driver == r_row == r_col == r_sense == 0:
        return cells.copy()
    rows, columns = cells.shape[-2:]
    effective = np.empty_like(cells)
    flat, result = cells.reshape(-1, rows, columns), effective.reshape(-1, rows, columns)
    scratch = np.empty((rows + columns, rows)), np.empty((5, rows))
    for array, found in zip(flat, result, strict=True):
        scratch[0][:] = 0.0
        # A large array takes minutes: column by column, so that Ctrl-C is heard in between.
        for column in reversed(range(columns)):
            eliminate(array, column, float(r_driver), float(r_row), float(r_col), float(r_sense), *scratch)
        found[:] = scratch[0][rows:].T
    return effective


@kernel
def eliminate(
    cells: Any, j: int, r_driver: float, r_row: float, r_col: float, r_sense: float, seen: Any, ladder: Any
) -> None:
    """Add column ``j`` to what lies right of it in ``seen`` [N + M, N], zero before the last column.

    Behind column 0, C, transposed E, is in rows N on of ``seen``; rows below N are A's lower triangle. ``ladder``
    [5, N] is scratch.
    """
    rows, columns = cells.shape
    above, passed, up, below, own = ladder[0], ladder[1], ladder[2], ladder[3], ladder[4]
    # The column as a ladder. above[i]: admittance at node i of all cells above it; up[i]: with its own;
    # passed[i]: share of the current from above that gets from node i to the next; below[i]: resistance from
    # node i down to ground.
    behind = 0.0
    for i in range(rows):
        above[i] = behind
        up[i] = behind + cells[i, j]
        passed[i] = 1.0 / (1.0 + (r_col if i < rows - 1 else r_col + r_sense) * up[i])
        behind = up[i] * passed[i]
    below[rows - 1] = r_col + r_sense
    for i in range(rows - 2, -1, -1):
        below[i] = r_col + below[i + 1] / (1.0 + cells[i + 1, j] * below[i + 1])
    # Its admittance: row i at 1 V raises node i to ``voltage``, and node k above it to passed[k] of node k + 1.
    for i in range(rows):
        voltage = cells[i, j] * below[i] / (1.0 + up[i] * below[i])
        seen[i, i] += cells[i, j] * (1.0 + above[i] * below[i]) / (1.0 + up[i] * below[i])
        for k in range(i - 1, -1, -1):
            voltage *= passed[k]
            seen[i, k] -= voltage * cells[k, j]
    reaching = 1.0
    for i in range(rows - 1, -1, -1):
        reaching *= passed[i]
        seen[rows + j, i] = cells[i, j] * reaching
    # A resistance in series with each row.
    resistance = r_row if j > 0 else r_driver + r_row
    for k in range(rows):
        for i in range(rows):
            own[i] = seen[k, i] if i < k else seen[i, k]
        factor = resistance / (1.0 + resistance * own[k])
        for i in range(rows):
            cut_off = factor * own[i]
            for port in range(i + 1):
                seen[i, port] -= cut_off * own[port]
        for i in range(rows + j, rows + columns):
            cut_off = factor * seen[i, k]
            for port in range(rows):
                seen[i, port] -= cut_off * own[port]
