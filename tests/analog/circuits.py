"""Crossbar arrays as circuits, solved by others: Kirchhoff's laws at every node, ngspice, badcrossbar."""

import os
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import scipy.sparse as sparse
from scipy.sparse.linalg import splu

DEVICES = {"20k/200k": (200e3, 20e3), "100k/10M": (10e6, 100e3)}
WIRES = [
    {"r_driver": 1000.0, "r_row": 5.0, "r_col": 10.0, "r_sense": 1000.0},
    {"r_driver": 0.0, "r_row": 5.0, "r_col": 5.0, "r_sense": 0.0},
    {"r_driver": 0.0, "r_row": 1.0, "r_col": 2.0, "r_sense": 50.0},
    {"r_driver": 300.0, "r_row": 0.6, "r_col": 1.8, "r_sense": 0.0},
]


def draw_cells(rows, columns, seed=0, device="20k/200k"):
    off, on = DEVICES[device]
    return np.random.default_rng(seed).uniform(1 / off, 1 / on, (rows, columns))


def nodal(cells, *, r_driver, r_row, r_col, r_sense):
    """The effective matrix from a current balance at all 2 N M nodes; wires need resistance."""
    rows, columns = cells.shape
    row_node = np.arange(cells.size).reshape(cells.shape)
    column_node = row_node + cells.size
    edges = [(row_node, column_node, cells)]
    edges.append((row_node[:, :-1], row_node[:, 1:], np.full((rows, columns - 1), 1 / r_row)))
    edges.append((column_node[:-1], column_node[1:], np.full((rows - 1, columns), 1 / r_col)))
    one, other, value = (np.concatenate([edge[part].ravel() for edge in edges]) for part in range(3))
    balance = sparse.coo_array(
        (
            np.concatenate([value, value, -value, -value]),
            (np.concatenate([one, other, one, other]), np.concatenate([one, other, other, one])),
        ),
        shape=(2 * cells.size, 2 * cells.size),
    ).tocsc()
    ends = np.zeros(2 * cells.size)
    ends[row_node[:, 0]] += 1 / (r_driver + r_row)
    ends[column_node[-1]] += 1 / (r_col + r_sense)
    injected = np.zeros((2 * cells.size, rows))
    injected[row_node[:, 0], np.arange(rows)] = 1 / (r_driver + r_row)
    voltage = splu(sparse.csc_array(balance + sparse.diags_array(ends))).solve(injected)
    return voltage[column_node[-1]].T / (r_col + r_sense)


def missing(solver):
    """Skip where a solver is not installed, but for ``.ci/run``, which installs all."""
    assert os.environ.get("ARCHSIM_TEST_CIRCUITS") != "all", f"{solver} is not installed"
    pytest.skip(f"{solver} is not installed")


def ngspice(cells, voltage, directory, *, r_driver, r_row, r_col, r_sense, cubic=0.0):
    """Currents [M] of one vector of voltages [N], from a netlist."""
    if not shutil.which("ngspice"):
        missing("ngspice")
    rows, columns = cells.shape
    lines = ["* crossbar array"]
    for i in range(rows):
        lines += [f"V{i} v{i} 0 {voltage[i]:.17g}", f"RD{i} v{i} w{i}_0 {r_driver + r_row:.17g}"]
        for j in range(columns):
            if cubic:
                across = f"V(w{i}_{j},b{i}_{j})"
                lines.append(f"BC{i}_{j} w{i}_{j} b{i}_{j} I={cells[i, j]:.17g}*({across}-{cubic:.17g}*{across}^3)")
            else:
                lines.append(f"RC{i}_{j} w{i}_{j} b{i}_{j} {1 / cells[i, j]:.17g}")
            if j:
                lines.append(f"RW{i}_{j} w{i}_{j - 1} w{i}_{j} {r_row:.17g}")
            if i:
                lines.append(f"RB{i}_{j} b{i - 1}_{j} b{i}_{j} {r_col:.17g}")
    lines += [f"RS{j} b{rows - 1}_{j} 0 {r_col + r_sense:.17g}" for j in range(columns)]
    lines += [".options reltol=1e-12 abstol=1e-20 vntol=1e-16", ".control", "set numdgt=16", "op"]
    lines += [f"print v(b{rows - 1}_{j})" for j in range(columns)] + ["quit 0", ".endc", ".end"]
    netlist = directory / "array.cir"
    netlist.write_text("\n".join(lines) + "\n")
    done = subprocess.run(["ngspice", "-b", netlist], capture_output=True, text=True, check=True, timeout=60)
    found = [float(line.split("=")[1]) for line in done.stdout.splitlines() if line.startswith("v(b")]
    assert len(found) == columns, done.stdout + done.stderr
    return np.array(found) / (r_col + r_sense)


def badcrossbar(cells, voltage, *, r_row, r_col):
    """Currents [batch, M] of voltages [batch, N]; it knows neither drivers nor what senses."""
    with warnings.catch_warnings(record=True):  # that its plots need cairo
        try:
            from badcrossbar import compute
        except ImportError:
            missing("badcrossbar")
        return compute(voltage.T, 1 / cells, r_i_word_line=r_row, r_i_bit_line=r_col).currents.output
