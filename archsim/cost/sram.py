"""What one SRAM instance costs, from a table of CACTI 7 results.

The table is ``tables/cacti7_sram.csv``; the README beside it has CACTI's settings.

Between the points of the table, which lie at powers of two, every quantity q is bilinear in log2(capacity) and
log2(width) of its logarithm::

    ln q(C, W) = sum over the corners i, j of  a_i b_j ln q(C_i, W_j),   a, b linear weights in log2 C and log2 W

and a point of the table is returned as it is. Leaving a point out and predicting it from its half and double
neighbours, twice the distance of real use, errs by 6 % (median) and 21 % (nine of ten) on read energy, 6 % and 14 % on
write energy, 2.5 % and 7 % on leakage, 4.5 % and 16 % on area. Never across node, variant or ports.

Leakage is tabulated at 360 K. At another temperature it is multiplied by the factor that CACTI gives for a memory of
64 KiB x 64 bit of the same node and variant; the factor is log-linear in temperature between the points below.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from archsim.errors import ConfigError

CACTI_TEMPERATURE_K = 360.0

# CACTI 7, 64 KiB x 64 bit, 1rw: leakage [mW] at each temperature. itrs-lstp was not run at other temperatures.
_LEAKAGE_TEMPERATURES_K = (300.0, 320.0, 340.0, 350.0, 360.0, 380.0, 400.0)
_LEAKAGE_MW = {
    (22, "itrs-hp"): (5.47, 5.72, 6.83, 9.65, 19.04, 57.9, 218.0),
    (22, "itrs-lop"): (0.444, 1.63, 6.28, 12.36, 24.46, 64.6, 138.0),
    (32, "itrs-hp"): (12.32, 12.80, 14.89, 20.23, 38.01, 111.5, 414.0),
    (32, "itrs-lop"): (2.754, 4.004, 5.590, 6.541, 7.537, 9.80, 11.98),
    (45, "itrs-hp"): (31.1, 41.7, 54.4, 61.4, 69.1, 85.9, 104.9),
    (45, "itrs-lop"): (1.398, 2.120, 3.071, 3.642, 4.272, 5.605, 6.727),
    (65, "itrs-hp"): (35.8, 47.4, 61.3, 68.9, 77.3, 94.4, 108.1),
    (65, "itrs-lop"): (1.134, 1.565, 2.203, 2.616, 3.078, 3.989, 4.693),
}


class SramFigures(NamedTuple):
    """One single-bank SRAM: energy per access of its full width, leakage, times and area of the whole instance."""

    read_energy_pj: float
    write_energy_pj: float
    leakage_mw: float
    access_time_ns: float
    cycle_time_ns: float
    area_mm2: float


_Family = tuple[int, str, str]  # node_nm, variant, ports
_Points = dict[tuple[int, int], SramFigures]  # (capacity_bytes, width_bits) -> figures


def sram(
    node_nm: int,
    variant: str,
    capacity_bytes: int,
    width_bits: int,
    ports: str,
    temperature_k: float = CACTI_TEMPERATURE_K,
) -> SramFigures:
    """Figures of an SRAM of ``capacity_bytes`` that is read and written ``width_bits`` at a time.

    ``variant`` is the ITRS device class ``itrs-hp``, ``itrs-lop`` or ``itrs-lstp``; ``ports`` is ``1rw`` or ``1r1w``.
    Raises ConfigError for a family, size or temperature outside the table, and for memories of fewer than 32 words.
    """
    table = _table()
    family = (node_nm, variant, ports)
    if family not in table:
        allowed = ", ".join(f"{node} nm {name} {port}" for node, name, port in sorted(table))
        raise ConfigError(f"SRAM of {node_nm} nm {variant} {ports}: not in the CACTI table; allowed: {allowed}")
    name = f"SRAM of {capacity_bytes} bytes x {width_bits} bit ({node_nm} nm {variant} {ports})"
    figures = _interpolate(table[family], capacity_bytes, width_bits, name)
    if temperature_k == CACTI_TEMPERATURE_K:
        return figures
    return figures._replace(leakage_mw=figures.leakage_mw * leakage_factor(node_nm, variant, temperature_k))


def leakage_factor(node_nm: int, variant: str, temperature_k: float) -> float:
    """Leakage at ``temperature_k`` [K] over leakage at 360 K; ConfigError outside 300 to 400 K or if not known."""
    if temperature_k == CACTI_TEMPERATURE_K:
        return 1.0
    if (node_nm, variant) not in _LEAKAGE_MW:
        raise ConfigError(f"leakage of {node_nm} nm {variant} is known at 360 K only, got {temperature_k:g} K")
    first, last = _LEAKAGE_TEMPERATURES_K[0], _LEAKAGE_TEMPERATURES_K[-1]
    if not first <= temperature_k <= last:
        raise ConfigError(f"temperature_k: outside the table, got {temperature_k:g}; allowed: {first:g} to {last:g}")
    logs = np.log(_LEAKAGE_MW[node_nm, variant])
    reference = logs[_LEAKAGE_TEMPERATURES_K.index(CACTI_TEMPERATURE_K)]
    return float(np.exp(np.interp(temperature_k, _LEAKAGE_TEMPERATURES_K, logs) - reference))


@cache
def _table() -> dict[_Family, _Points]:
    """The CSV, read once per process."""
    table: dict[_Family, _Points] = {}
    text = (files(__package__) / "tables" / "cacti7_sram.csv").read_text("utf-8")
    for row in csv.DictReader(text.splitlines()):
        family = (int(row["node_nm"]), row["variant"], row["ports"])
        figures = SramFigures(*(float(row[name]) for name in SramFigures._fields))
        table.setdefault(family, {})[int(row["capacity_bytes"]), int(row["width_bits"])] = figures
    return table


def _interpolate(points: _Points, capacity_bytes: int, width_bits: int, name: str) -> SramFigures:
    """The figures at a size, by the equation of the module docstring; ``name`` is for the error."""
    corners = [
        (weight_c * weight_w, (capacity, width))
        for capacity, weight_c in _neighbours(capacity_bytes, {c for c, _ in points}, f"{name}: capacity", "bytes")
        for width, weight_w in _neighbours(width_bits, {w for _, w in points}, f"{name}: width", "bit")
    ]
    if any(corner not in points for _, corner in corners):
        raise ConfigError(_too_shallow(name, capacity_bytes, width_bits, points))
    if len(corners) == 1:
        return points[corners[0][1]]
    logs = sum(weight * np.log(points[corner]) for weight, corner in corners)
    return SramFigures(*np.exp(logs).tolist())


def _neighbours(value: int, grid: Iterable[int], what: str, unit: str) -> list[tuple[int, float]]:
    """The one or two grid values around ``value`` with their linear weights in log2."""
    ordered = sorted(grid)
    if value in ordered:
        return [(value, 1.0)]
    for low, high in itertools.pairwise(ordered):
        if low < value < high:
            above = math.log2(value / low) / math.log2(high / low)
            return [(low, 1.0 - above), (high, above)]
    end = ordered[0] if value < ordered[0] else ordered[-1]
    allowed = f"{ordered[0]} to {ordered[-1]} {unit}, nearest: {end}"
    raise ConfigError(f"{what} outside the CACTI table, got {value}; allowed: {allowed}")


def _too_shallow(what: str, capacity_bytes: int, width_bits: int, points: _Points) -> str:
    """The message for sizes at or across CACTI's edge of 32 words, with the closest sizes on the grid that exist."""
    capacities = [c for c, w in points if c >= capacity_bytes and w == min(x for _, x in points if x >= width_bits)]
    widths = [w for c, w in points if w <= width_bits and c == max(x for x, _ in points if x <= capacity_bytes)]
    nearest = []
    if capacities:
        nearest.append(f"a capacity of {min(capacities)} bytes")
    if widths:
        nearest.append(f"a width of {max(widths)} bit")
    return (
        f"{what}: at or next to memories of fewer than 32 words, which CACTI does not model, "
        f"got depth {8 * capacity_bytes / width_bits:g}; nearest: {' or '.join(nearest)} "
        "(use flip-flops for small FIFOs)"
    )
