"""CrossSim (sandialabs/cross-sim): currents of arrays with resistive wires by its iterative solver, and converters.

Its solver for currents that come from the inputs' wires, cells of positive and negative weights apart, is run with
wires and with what senses at the columns' ends. A resistance of drivers is left out: it puts that into every segment of
the first row and into no other row. Its quantiser has codes from the lowest to the highest value; that of signed values
drops a code, so that zero is one. Ours has that code below its lowest.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import numpy as np
from badcrossbar_solver import Case as Array
from badcrossbar_solver import array, currents
from comparison import Rule
from numpy.typing import NDArray

from archsim.hardware.analog.adc import AnalogAdcConfig
from archsim.hardware.analog.wires import effective_conductance

TITLE = "CrossSim"
INSTALL = "a clone of github.com/sandialabs/cross-sim as --checkout, and pip install scipy"
CONVERGED = 1e-11
"""Relative: its solver stops when voltages change by 1e-14 V."""


class Wires(NamedTuple):
    """An array of cells, and what senses its columns."""

    cells: Array
    r_sense: float


class Converter(NamedTuple):
    """Bits, and the values that the first and the last code stand for."""

    bits: int
    lowest: float
    highest: float


CASES: dict[str, Wires | Converter] = {
    f"{wires.cells.rows}x{wires.cells.columns}, {wires.cells.r_row:g} and {wires.cells.r_col:g} ohm, "
    f"sensed at {wires.r_sense:g} ohm": wires
    for wires in (
        Wires(Array(4, 4, 1, 1, 0), 0), Wires(Array(8, 8, 1, 1, 1), 0), Wires(Array(16, 12, 5, 10, 2), 0),
        Wires(Array(12, 16, 0.6, 1.8, 3), 0), Wires(Array(16, 16, 2, 0.5, 4), 0), Wires(Array(32, 32, 1.5, 2.5, 5), 0),
        Wires(Array(8, 8, 1, 2, 10), 1000), Wires(Array(16, 16, 1, 2, 11), 200),
    )
}  # fmt: skip
CASES |= {
    f"{bits} bits, {low:g} to {high:g}": Converter(bits, low, high)
    for bits in (4, 6, 8)
    for low, high in ((0, 127), (0, 63), (-64, 64))
}


def _values(case: Converter) -> NDArray[np.float64]:
    return np.random.default_rng(case.bits).uniform(case.lowest, case.highest, 1000)


def load(checkout: str | None) -> ModuleType:
    if checkout is None:
        raise ImportError("no clone was given")
    sys.path.insert(0, checkout)
    import simulator.circuits.adc.quantizer_adc
    import simulator.circuits.array.NonInterleaved_InputSource

    simulator.backend.ComputeBackend(use_gpu=False)
    return simulator


def version(peer: ModuleType) -> str:
    folder = Path(str(peer.__file__)).parent
    done = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True)
    return f"sandialabs/cross-sim {done.stdout.strip() or 'unknown commit'}"


def theirs(peer: ModuleType, case: Wires | Converter) -> dict[str, float]:
    return _their_currents(peer, case) if isinstance(case, Wires) else _their_codes(peer, case)


def _their_currents(peer: ModuleType, case: Wires) -> dict[str, float]:
    cells, voltages = array(case.cells)
    largest = cells.max()  # it knows conductances as parts of the largest
    parasitics = SimpleNamespace(
        Rp_row_norm=case.cells.r_row * largest, Rp_col_norm=case.cells.r_col * largest, Rp_row_terminal_norm=0,
        Rp_col_terminal_norm=case.r_sense * largest,
    )  # fmt: skip
    solver = peer.circuits.array.NonInterleaved_InputSource.NoninterleavedInputSourceArray(
        SimpleNamespace(
            xbar=SimpleNamespace(
                array=SimpleNamespace(parasitics=parasitics),
                device=SimpleNamespace(nonlinear_IV=SimpleNamespace(enable=False)),
            ),
            simulation=SimpleNamespace(
                fast_matmul=False, Niters_max_parasitics=100_000, Verr_th_mvm=1e-14, hide_convergence_msg=True,
                Verr_matmul_criterion="max_mean", relaxation_gamma=0.3,
            ),
            core=SimpleNamespace(style=None, balanced=SimpleNamespace(interleaved_posneg=False)),
        )
    )  # fmt: skip
    found = solver.iterative_solve((cells / largest).T.copy(), voltages)
    return currents(found * largest)


def _their_codes(peer: ModuleType, case: Converter) -> dict[str, float]:
    kinds = peer.circuits.adc.quantizer_adc
    signed = case.lowest < 0
    kind = kinds.SignMagnitudeADC if signed else kinds.QuantizerADC
    converter = kind.__new__(kind)
    converter.bits, converter.levels = case.bits, (1 << case.bits) - signed
    converter.min, converter.max, converter.range = case.lowest, case.highest, case.highest - case.lowest
    converter.adc_params = SimpleNamespace(stochastic_rounding=False)
    return _read(converter.convert(_values(case)))


def _read(values: NDArray[np.float64]) -> dict[str, float]:
    return {"mean of 1,000 values": float(values.mean()), "square mean of 1,000 values": float((values**2).mean())}


def ours(case: Wires | Converter) -> dict[str, float]:
    if isinstance(case, Wires):
        cells, voltages = array(case.cells)
        ohms = {"r_driver": 0.0, "r_row": case.cells.r_row, "r_col": case.cells.r_col, "r_sense": case.r_sense}
        return currents(voltages @ effective_conductance(cells, **ohms))
    adc = AnalogAdcConfig(
        bits=case.bits, columns=1, range="calibrated", percentile=100, offset_lsb=0, noise_lsb=0
    )  # fmt: skip
    seen = np.array([case.lowest, case.highest])
    return _read(adc.quantiser(int(case.lowest), int(case.highest), seen).read(_values(case)))


def rules(case: Wires | Converter, theirs: Mapping[str, float]) -> Iterable[Rule]:
    if isinstance(case, Wires):
        for quantity, current in theirs.items():
            yield Rule(quantity, "A", current, "equal where its solver has converged", CONVERGED * abs(current))
    else:
        for quantity, value in theirs.items():
            yield Rule(quantity, "levels", value, "equal to rounding", 1e-9)
