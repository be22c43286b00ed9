"""What is measured: the values of K and V, the signal behind noisy writes, accuracy, and what it costs.

Only the products of attention are on arrays here: K and V are written for every image, with the noise of a write
and nothing else. Wires are ideal and converters lossless, so that what is lost is lost by the writes and by the
transform. Of gamma and sigma only the product matters, ``gamma_sigma``: the paper's gamma for a sigma of 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim import run
from archsim.accelerators.imc import Imc
from archsim.analog_network.batch_norm import Correction
from archsim.analog_network.network import AnalogNetwork
from archsim.dataflow.pipeline import stages_of
from archsim.hardware.analog.product import CALIBRATION
from archsim.simulate import load_accelerator
from archsim.trace import ImageSet, Operation, Trace, load_trace
from archsim.trace.resimulation import currents_of, run_images

TRACES = ("vit", "vit_variation_aware")
ROOT = Path(__file__).resolve().parents[3]
HARDWARE = ROOT / "hwconfigs" / "imc_vit.yaml"
WRITTEN = {"scores": "K", "mix": "V"}
MAPPINGS = ("differential", "offset_column")
OFF = (0, 1)
SETTINGS = (OFF, (2, 0.5), (2, 0.25), (2, 1))
"""(alpha, beta); (2, 0.25) is ClipFormer's for strong noise, by notes."""
LIMITS = SETTINGS[:3]
APART = ((0, 0.5), (0, 0.25), (4, 0.5))
"""More of them, for accuracy alone: the limit without the shift, and a larger shift."""
STRENGTHS = (0.2, 1, 2, 5)
"""Gamma sigma of the table of signals."""
STRETCHES = (1, 2, 4)
"""By what K and V are divided before they are written: the range is so many times what they need."""
IMAGES = 4
"""Images of the tables of values and signals, and of what gains are found with."""


def overrides(
    signed: str, gamma_sigma: float, alpha: float, beta: float, cell_bits: int = 2, behind: str = "none", seed: int = 1
) -> list[str]:
    """The settings of a machine with writes of these and no other effects.

    ``behind`` the arrays is a gain for every conversion (``per_column``, the machine's) or none that the machine knows.
    """
    return [
        *("analog.cells.wires.r_row_ohm=0", "analog.cells.wires.r_col_ohm=0"),
        # Without wires and with lossless converters, sizes change nothing but the time that this takes.
        *("analog.rows=49", "analog.columns=392"),
        *("analog.adc.bits=lossless", "analog.adaptation=none", "analog.batch_images=50"),
        f"analog.digital_gain={'per_column' if behind == 'per_column' else 'none'}",
        f"analog.signed={signed}",
        f"analog.dynamic={{alpha: {alpha}, beta: {beta}}}",
        f"analog.cells.device.write_noise={{gamma: {gamma_sigma}, sigma: 1}}",
        f"analog.cells.device.bits={cell_bits}",
        f"analog.cells.seed={seed}",
    ]


def network(trace: Trace, **settings: Any) -> AnalogNetwork:
    """The products of attention of ``trace`` on arrays."""
    return _on_arrays(trace, load_accelerator(HARDWARE, overrides(**settings)).config)


def _on_arrays(trace: Trace, config: Any) -> AnalogNetwork:
    return AnalogNetwork(
        trace, config.analog, weight_bits=config.pe.weight_bits,
        on_arrays=[operation.name for operation in products(trace)],
    )  # fmt: skip


def products(trace: Trace) -> list[Operation]:
    """Q K^T and S V of all heads."""
    return [operation for operation in trace.operations if operation.op == "matmul"]


def kind(operation: Operation) -> str:
    """scores (Q K^T) or mix (S V)."""
    return operation.name.rpartition(".")[2]


def trace_file(name: str) -> Path:
    """Where the trace called ``name`` is."""
    return ROOT / "workloads" / f"{name}.npz"


@cache
def loaded(name: str) -> Trace:
    """The trace called ``name``."""
    return load_trace(trace_file(name))


def evaluation(trace: Trace, images: int) -> ImageSet:
    """The first test images of ``trace``."""
    found = trace.evaluation
    assert found is not None, "these traces have image sets"
    return found.first(images)


@cache
def exact(name: str) -> dict[str, NDArray[Any]]:
    """All tensors of the exact network on some test images."""
    trace = loaded(name)
    return run_images(trace, evaluation(trace, IMAGES).images)


def value_points(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """K and V of every encoder."""
    for trace in arguments.traces:
        encoders = {op.name.partition(".")[0] for op in products(loaded(trace))}
        for encoder in sorted(encoders):
            for operand in WRITTEN.values():
                yield {"trace": trace, "encoder": encoder, "operand": operand}


def values(trace: str, encoder: str, operand: str) -> dict[str, Any]:
    """How K or V of all heads of an encoder fill the range of the arrays, 127 in either direction."""
    found = np.concatenate([
        exact(trace)[op.inputs[1]].ravel()
        for op in products(loaded(trace))
        if op.name.startswith(f"{encoder}.") and WRITTEN[kind(op)] == operand
    ]).astype(np.float64)  # fmt: skip
    magnitude = np.abs(found)
    return {
        "max_over_std": round(float(magnitude.max() / found.std()), 3),
        "mean_magnitude_of_range": round(float(magnitude.mean() / 127), 4),
        "share_above_a_half": round(float((magnitude > 127 / 2).mean()), 4),
        "share_above_a_quarter": round(float((magnitude > 127 / 4).mean()), 4),
    }


def signal_points(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Slices of two bits, and a cell for a whole magnitude; ranges, strengths, settings; a few for the offset."""
    for trace in arguments.traces:
        for cell_bits, stretch in product((2, 7), STRETCHES):
            yield from _signal_points(trace, "differential", cell_bits, stretch, SETTINGS)
        yield from _signal_points(trace, "offset_column", 2, 1, LIMITS)


def _signal_points(
    trace: str, signed: str, cell_bits: int, stretch: int, settings: Iterable[tuple[float, float]]
) -> Iterator[dict[str, Any]]:
    for gamma_sigma, (alpha, beta) in product(STRENGTHS, settings):
        yield {
            "trace": trace, "signed": signed, "cell_bits": cell_bits, "stretch": stretch, "gamma_sigma": gamma_sigma,
            "alpha": alpha, "beta": beta,
        }  # fmt: skip


def signal(trace: str, stretch: int, **settings: Any) -> dict[str, Any]:
    """Signal to noise of the products, mean of all in decibels: as they come, and after the best single gain."""
    whole = loaded(trace)
    arrays = network(whole, **settings)
    ratios: dict[str, list[tuple[float, float]]] = {"scores": [], "mix": []}
    for operation in products(whole):
        first, second = (exact(trace)[name] for name in operation.inputs)
        operands = [first, np.floor(second / stretch + 0.5).astype(np.int64)]
        wanted, found = _products(arrays, operation, operands, 0)
        power, gain = (wanted**2).sum(), _best_gain(wanted, found)
        errors = (((found - wanted) ** 2).sum(), ((gain * found - wanted) ** 2).sum())
        ratios[kind(operation)].append(tuple(10 * np.log10(power / error) for error in errors))
    return {
        f"{name}_{what}_db": round(float(np.mean([pair[at] for pair in pairs])), 3)
        for name, pairs in ratios.items()
        for at, what in enumerate(("snr", "snr_after_gain"))
    }


def _products(
    arrays: AnalogNetwork, operation: Operation, operands: list[NDArray[Any]], batch: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The exact product and what is read of it."""
    return currents_of(operation, operands, 1).astype(np.float64), arrays.sums(operation, operands, batch)


def _best_gain(wanted: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    return float((found * wanted).sum() / max((found * found).sum(), 1e-300))


def draw_points(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Both networks under every noise, with and without the limits; what carries the conclusions in several draws.

    At most two of them where noise is not strongest.
    """
    groups = (
        (
            arguments.draws,
            (
                ("differential", (OFF, (2, 0.5)), "gain", (5,)),
                ("differential", LIMITS, "none", (5,)),
            ),
        ),
        (
            1,
            (
                ("offset_column", (OFF, (2, 0.25)), "gain", (5, 1)),
                ("differential", (OFF,), "zero", (0,)),
                ("differential", (OFF, (2, 0.5)), "gain", (3,)),
                ("differential", (OFF, (2, 0.5)), "per_column", (5,)),
                ("differential", LIMITS, "none", (0.5,)),
                ("offset_column", LIMITS, "none", (0.2, 0.5, 1, 3, 5)),
                ("differential", SETTINGS, "none", (0, 1, 2, 3, 4, 5)),
                ("differential", APART, "none", (0, 3, 5)),
                ("differential", (OFF,), "none", (0.2, 0.4, 0.6, 0.8)),
            ),
        ),
        (min(arguments.draws, 2), (("differential", LIMITS, "none", (3,)),)),
    )
    for draws, cases in groups:
        for seed, (signed, settings, behind, strengths) in product(range(1, draws + 1), cases):
            for gamma_sigma, (alpha, beta), trace in product(strengths, settings, arguments.traces):
                yield {
                    "trace": trace, "signed": signed, "gamma_sigma": gamma_sigma, "alpha": alpha, "beta": beta,
                    "behind": behind, "images": arguments.images, "seed": seed,
                }  # fmt: skip


def draw(trace: str, images: int, **settings: Any) -> dict[str, Any]:
    """Share of the first test images that are classified correctly, under one draw of the noise for each.

    Behind the arrays is nothing (``none``), the best gain for every product (``gain``), the machine's own for every
    conversion (``per_column``), or products are taken away altogether (``zero``).
    """
    whole, behind = loaded(trace), settings["behind"]
    arrays = network(whole, **settings)
    if behind == "per_column":
        arrays.calibrate()
    if behind in ("gain", "zero"):
        for name, gain in best_gains(arrays).items():
            set_gain(arrays, name, gain if behind == "gain" else 0)
    return {"accuracy": round(arrays.accuracy(evaluation(whole, images)), 4)}


def best_gains(arrays: AnalogNetwork) -> dict[str, float]:
    """The gain of every product that is best for some calibration images: what a requantiser's multiplier can do."""
    whole = arrays.trace
    assert whole.calibration is not None, "these traces have image sets"
    made = run_images(whole, whole.calibration.images[:IMAGES])
    return {
        operation.name: _best_gain(
            *_products(arrays, operation, [made[name] for name in operation.inputs], CALIBRATION)
        )
        for operation in products(whole)
    }


def set_gain(arrays: AnalogNetwork, name: str, gain: float) -> None:
    """Multiply all sums of the product ``name`` by ``gain``."""
    outputs = arrays.trace.operation(name).n
    arrays.corrections[name] = Correction(np.full(outputs, float(gain)), np.zeros(outputs))


def summary(rows: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """A row for all draws of a point: mean accuracy, its standard error, the deviation between draws.

    The error is that of one draw, sqrt(p (1 - p) / n) for n images. All draws see the same images, so that the mean of
    d draws is no further off than that, and at best by a root of d less: averages take away the noise, not the choice
    of the images. The deviation between draws is that of the noise alone; one draw has none.
    """
    points: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for row in rows:
        point = tuple((name, value) for name, value in row.items() if name not in ("seed", "accuracy"))
        points.setdefault(point, []).append(float(row["accuracy"]))
    found = []
    for point, shares in points.items():
        images, draws, mean = int(dict(point)["images"]), len(shares), float(np.mean(shares))
        found.append({
            **dict(point), "draws": str(draws), "accuracy": f"{mean:.4f}",
            "standard_error": f"{np.sqrt(mean * (1 - mean) / images):.4f}",
            "draw_deviation": f"{np.std(shares, ddof=1):.4f}" if draws > 1 else "",
        })  # fmt: skip
    return found


def cost_points(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What the transform costs or saves, by mapping."""
    for signed, (alpha, beta) in product(MAPPINGS, SETTINGS):
        yield {"trace": arguments.traces[0], "signed": signed, "alpha": alpha, "beta": beta}


def cost(trace: str, signed: str, alpha: float, beta: float) -> dict[str, Any]:
    """Attention's share, and the whole machine as it is shipped: cycles, energy and area.

    The area is that of the arrays that hold K and V, each with its part of all drivers, converters and shift-and-adds;
    the energies are those of the same units for attention's layers, without leakage.
    """
    changes = [f"analog.signed={signed}", f"analog.dynamic={{alpha: {alpha}, beta: {beta}}}"]
    machine = load_accelerator(HARDWARE, changes)
    assert isinstance(machine, Imc)
    arrays = _on_arrays(loaded(trace), machine.config)
    held = sum(arrays.arrays.values())
    slices = {
        machine.config.arrays(stage).conversions
        for stage in stages_of(loaded(trace), machine.layers(loaded(trace)))
        if stage.kind == "matmul"
    }
    report = run(HARDWARE, trace_file(trace), overrides=changes, verify=False)
    built = next(row.instances for row in report.area if row.unit == "array")
    area = sum(row.area_mm2 for row in report.area if row.unit in UNITS) / built
    energy = {"write": 0.0, "read": 0.0}
    attention = {operation.name for operation in products(loaded(trace))}
    for layer, rows in zip(report.layers, report.energy, strict=True):
        for row in rows:
            if layer.layer in attention and row.unit in UNITS and row.action != "leakage":
                energy["write" if row.unit == "write_driver" else "read"] += row.energy_pj
    found = report.summary()
    return {
        "slices": "/".join(map(str, sorted(slices))),
        "dynamic_arrays": held,
        "dynamic_area_mm2": round(held * area, 4),
        "cell_writes_per_image": sum(writes.cells for writes in arrays.writes.values()),
        **{f"attention_{what}_pj": round(amount) for what, amount in energy.items()},
        **{name: found[name] for name in ("cycles", "latency_s", "energy_pj", "area_mm2")},
    }


UNITS = ("array", "row_driver", "write_driver", "adc", "shift_add")
"""What arrays need to be written and read."""
TABLES = {
    "values": (value_points, values),
    "cost": (cost_points, cost),
    "signal": (signal_points, signal),
    "draws": (draw_points, draw),
}
"""By name: what points a table has, and how one is measured."""
