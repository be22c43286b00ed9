"""Macros of in-memory computing on ``imc``: how long a product takes, what its parts do, and constants fitted to half.

A layer of ones fills one array. The time of a product is what one input more adds; the network around the array hides
behind its reads. An input of ``planes`` reads is as many timesteps of spikes, which the array takes one after the
other. Energy is that of the array, its drivers and converters: counts of a run times a price for each action.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from archsim import run
from archsim.trace import Neuron, Operation, Trace, save_trace

ROOT = Path(__file__).resolve().parents[2]
POINTS: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name("points.yaml").read_text())
TIMES = ("drive", "settle", "conversion")
"""Parts of a read: a point says how many of the hardware file's steps each takes."""
UNITS = {"tops": ("throughput", "TOPS"), "tops_per_w": ("efficiency", "TOPS/W"), "pj": ("energy of a product", "pJ"),
         "fj_per_mac": ("energy of an operation", "fJ/MAC")}  # fmt: skip
FEW, MANY = 8, 24
"""Inputs of two runs, whose difference leaves out how a layer begins and ends."""


class Product(NamedTuple):
    """A product on an array: seconds, and counts by the names of prices."""

    seconds: float
    counts: dict[str, float]


def hardware(macro: Mapping[str, Any]) -> Path:
    return ROOT / "hwconfigs" / "validation" / f"{macro['hardware']}.yaml"


def steps(macro: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, int]:
    """Cycles of a step of each part of a read: those of the hardware file, or of the group."""
    timing = yaml.safe_load(hardware(macro).read_text())
    return {name: group.get(f"{name}_cycles", timing[f"timing.{name}_cycles"]) for name in TIMES}


def product(macro: Mapping[str, Any], group: Mapping[str, Any], point: Mapping[str, Any]) -> Product:
    """The product of a point, simulated."""
    base = steps(macro, group)
    taken = {name: point.get(name, 1) for name in TIMES}
    timing = tuple(f"timing.{name}_cycles={taken[name] * base[name]}" for name in TIMES)
    outputs, planes = point.get("outputs", macro.get("outputs")), point.get("planes", 1)
    seconds, counts = _product(hardware(macro), macro["rows"], outputs, planes, point.get("driven", 1), timing)
    reads, drives, conversions = counts
    return Product(
        seconds,
        {
            "row_settle": reads * taken["settle"], "row_drive": drives,
            "conversion_step": conversions * taken["conversion"],
        },
    )  # fmt: skip


@cache
def _product(
    machine: Path, rows: int, outputs: int, planes: int, driven: int, timing: Sequence[str]
) -> tuple[float, tuple[float, float, float]]:
    """Seconds of a product, and rows read, rows driven and conversions."""
    seconds, counts = [], []
    for inputs in (FEW, MANY):
        spikes = np.full((planes, inputs, rows), bool(driven))
        operation = Operation(
            "product", "linear", ("in",), "out", weight=np.ones((outputs, rows), np.int8),
            neuron=Neuron("if", np.full(outputs, 1 << 20)),
        )  # fmt: skip
        trace = Trace(
            network="product", timesteps=planes, operations=[operation],
            tensors={"in": spikes, "out": np.zeros((planes, inputs, outputs), bool)},
            provenance={"kind": "synthetic", "weights": "synthetic"},
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "product.npz"
            save_trace(trace, path)
            report = run(machine, path, overrides=(*timing, "scheduler.timesteps=inner"), verify=False)
        seconds.append(report.summary()["latency_s"])
        found = {(row["unit"], row["action"]): row["count"] for row in report.rows("energy")}
        wanted = (("array", "row_read"), ("row_driver", "drive"), ("adc", "convert"))
        counts.append([found[one] for one in wanted])
    added = MANY - FEW
    first, second, third = ((after - before) / added for before, after in zip(*counts, strict=True))
    return (seconds[1] - seconds[0]) / added, (first, second, third)


def ours(macro: Mapping[str, Any], group: Mapping[str, Any], point: Mapping[str, Any], quantity: str) -> float:
    """What archsim says of a point."""
    found = product(macro, group, point)
    operations = macro["rows"] * point.get("outputs", macro.get("outputs"))
    if quantity == "tops":
        return float(2 * operations * macro["arrays"] / found.seconds / 1e12)
    picojoules = sum(price * found.counts[name] for name, price in group["prices_pj"].items())
    if quantity == "tops_per_w":
        return float(2 * operations / picojoules)
    return float(picojoules if quantity == "pj" else 1e3 * picojoules / operations)


def is_fitted(index: int) -> bool:
    """Constants are fitted to every other point of a group, from the first."""
    return index % 2 == 0


def fitted_steps(macro: Mapping[str, Any], group: Mapping[str, Any], clock_ghz: float) -> dict[str, int]:
    """Cycles of the steps that the points of a group vary, by least squares of relative errors on the fitted half."""
    half = [point for index, point in enumerate(group["points"]) if is_fitted(index)]
    varied = [name for name in TIMES if any(name in point for point in half)] or ["settle"]
    fixed = {name: value for name, value in steps(macro, group).items() if name not in varied}
    rows, cycles = [], []
    for point in half:
        outputs, planes = point.get("outputs", macro.get("outputs")), point.get("planes", 1)
        taken = 2 * macro["rows"] * outputs * macro["arrays"] / point["tops"] / 1e3 * clock_ghz
        rows.append([planes * point.get(name, 1) for name in varied])
        cycles.append(taken - planes * sum(point.get(name, 1) * value for name, value in fixed.items()))
    return {name: round(value) for name, value in zip(varied, _least(rows, cycles), strict=True)}


def fitted_prices(macro: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, float]:
    """Prices [pJ] of a group's actions, by least squares of relative errors on the fitted half, to three digits."""
    rows, energies = [], []
    for index, point in enumerate(group["points"]):
        if is_fitted(index):
            operations = macro["rows"] * point.get("outputs", macro.get("outputs"))
            energies.append(
                2 * operations / point["tops_per_w"] if "tops_per_w" in point
                else point.get("pj", point.get("fj_per_mac", 0) * operations / 1e3)
            )  # fmt: skip
            counts = product(macro, group, point).counts
            rows.append([counts[name] for name in group["prices_pj"]])
    found = _least(rows, energies)
    return {name: float(f"{value:.3g}") for name, value in zip(group["prices_pj"], found, strict=True)}


def _least(rows: Iterable[Sequence[float]], wanted: Sequence[float]) -> np.ndarray:
    """Constants of least squared relative errors, none below zero: what would be is taken as nothing."""
    scaled = np.array(rows, float) / np.array(wanted)[:, np.newaxis]
    used = list(range(scaled.shape[1]))
    while True:
        found = np.linalg.lstsq(scaled[:, used], np.ones(len(wanted)))[0]
        if (found >= 0).all():
            break
        used.pop(int(found.argmin()))
    whole = np.zeros(scaled.shape[1])
    whole[used] = found
    return whole
