"""What is measured: the values of K and V, the signal behind noisy writes, accuracy, and what it costs.

Only the products of attention are on arrays here: K and V are written for every image, with the noise of a write
(gamma, sigma) and nothing else. Wires are ideal and converters lossless, so that what is lost is lost by the writes and
by the transform.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim import run
from archsim.accelerators.analog_network import AnalogNetwork
from archsim.simulate import load_accelerator
from archsim.trace import ImageSet, Trace, load_trace
from archsim.trace.resimulation import currents_of, run_images

TRACES = ("vit", "vit_variation_aware")
ROOT = Path(__file__).resolve().parents[3]
HARDWARE = ROOT / "hwconfigs" / "imc_vit.yaml"
WRITTEN = {"scores": "K", "mix": "V"}
OFF = (0, 1)
SETTINGS = (OFF, (2, 0.5), (2, 0.25), (2, 1))
"""(alpha, beta); (2, 0.25) is ClipFormer's for strong noise, by notes."""
APART = ((0, 0.5), (0, 0.25), (4, 0.5))
"""More of them, for accuracy alone: the limit without the shift, and a larger shift."""
GAMMAS = range(6)
SIGMAS = (1.0, 0.2)
"""Gamma is the paper's; sigma is not known, so that it is swept. Only their product matters."""
STRETCHES = (1, 2, 4)
"""By what K and V are divided before they are written: the range is so many times what they need."""
SIGNAL_IMAGES = 4


def overrides(alpha: float, beta: float, gamma: float, sigma: float, seed: int = 1, cell_bits: int = 2) -> list[str]:
    """The settings of a machine with writes of these and no other effects."""
    return [
        *("analog.cells.wires.r_row_ohm=0", "analog.cells.wires.r_col_ohm=0"),
        # Without wires and with lossless converters, sizes change nothing but the time that this takes.
        *("analog.rows=49", "analog.columns=392"),
        *("analog.adc.bits=lossless", "analog.digital_gain=none", "analog.adaptation=none", "analog.batch_images=50"),
        f"analog.dynamic={{alpha: {alpha}, beta: {beta}}}",
        f"analog.cells.device.write_noise={{gamma: {gamma}, sigma: {sigma}}}",
        f"analog.cells.device.bits={cell_bits}",
        f"analog.cells.seed={seed}",
    ]


def network(trace: Trace, **settings: Any) -> AnalogNetwork:
    """The products of attention of ``trace`` on arrays."""
    machine = load_accelerator(HARDWARE, overrides(**settings))
    return AnalogNetwork(
        trace, machine.config.analog, weight_bits=machine.config.pe.weight_bits, on_arrays=_products(trace)
    )


def _products(trace: Trace) -> list[str]:
    return [operation.name for operation in trace.operations if operation.op == "matmul"]


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
    return ImageSet(found.images[:images], found.labels[:images])


@cache
def exact(name: str) -> dict[str, NDArray[Any]]:
    """All tensors of the exact network on some test images."""
    trace = loaded(name)
    return run_images(trace, evaluation(trace, SIGNAL_IMAGES).images)


def value_points(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """K and V of every encoder."""
    for trace in arguments.traces:
        encoders = {op.name.partition(".")[0] for op in loaded(trace) if op.op == "matmul"}
        for encoder in sorted(encoders):
            for operand in WRITTEN.values():
                yield {"trace": trace, "encoder": encoder, "operand": operand}


def values(trace: str, encoder: str, operand: str) -> dict[str, Any]:
    """How K or V of all heads of an encoder fill the range of the arrays, 127 in either direction."""
    found = np.concatenate([
        exact(trace)[op.inputs[1]].ravel()
        for op in loaded(trace)
        if op.op == "matmul" and op.name.startswith(f"{encoder}.") and WRITTEN[op.name.rpartition(".")[2]] == operand
    ]).astype(np.float64)  # fmt: skip
    magnitude = np.abs(found)
    return {
        "max_over_std": round(float(magnitude.max() / found.std()), 3),
        "mean_magnitude_of_range": round(float(magnitude.mean() / 127), 4),
        "share_above_a_half": round(float((magnitude > 127 / 2).mean()), 4),
        "share_above_a_quarter": round(float((magnitude > 127 / 4).mean()), 4),
    }


def signal_points(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Slices of two bits, and a cell for a whole magnitude; strengths; ranges; settings of the transform."""
    for trace in arguments.traces:
        for cell_bits in (2, 7):
            for stretch in STRETCHES:
                for gamma, sigma in ((1, 0.2), (5, 0.2), (2, 1.0), (5, 1.0)):
                    for alpha, beta in SETTINGS:
                        yield {"trace": trace, "cell_bits": cell_bits, "stretch": stretch, "gamma": gamma,
                               "sigma": sigma, "alpha": alpha, "beta": beta}  # fmt: skip


def signal(
    trace: str, cell_bits: int, stretch: int, gamma: float, sigma: float, alpha: float, beta: float
) -> dict[str, Any]:
    """Signal to noise of the products, mean of all in decibels: as they come, and after the best single gain."""
    whole = loaded(trace)
    arrays = network(whole, alpha=alpha, beta=beta, gamma=gamma, sigma=sigma, cell_bits=cell_bits)
    ratios: dict[str, list[tuple[float, float]]] = {"scores": [], "mix": []}
    for operation in whole.operations:
        if operation.op != "matmul":
            continue
        first, second = (exact(trace)[name] for name in operation.inputs)
        second = np.floor(second / stretch + 0.5).astype(np.int64)
        wanted = currents_of(operation, [first, second], 1).astype(np.float64)
        found = arrays.sums(operation, [first, second], 0)
        gain = (found * wanted).sum() / max((found * found).sum(), 1e-300)
        power = (wanted**2).sum()
        errors = (((found - wanted) ** 2).sum(), ((gain * found - wanted) ** 2).sum())
        ratios[operation.name.rpartition(".")[2]].append(tuple(10 * np.log10(power / error) for error in errors))
    return {
        f"{product}_{what}_db": round(float(np.mean([pair[at] for pair in pairs])), 3)
        for product, pairs in ratios.items()
        for at, what in enumerate(("snr", "snr_after_gain"))
    }


def accuracy_points(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Both networks under every noise, without the transform and with it."""
    for sigma in SIGMAS:
        for alpha, beta in SETTINGS + APART:
            for gamma in GAMMAS:
                for trace in arguments.traces:
                    yield {
                        "trace": trace, "gamma": gamma, "sigma": sigma, "alpha": alpha, "beta": beta,
                        "images": arguments.images, "draws": arguments.draws,
                    }  # fmt: skip


def accuracy(
    trace: str, gamma: float, sigma: float, alpha: float, beta: float, images: int, draws: int
) -> dict[str, Any]:
    """Share of test images that are classified correctly, mean of the draws, and its binomial standard error."""
    whole = loaded(trace)
    sets = evaluation(whole, images)
    found = [
        network(whole, alpha=alpha, beta=beta, gamma=gamma, sigma=sigma, seed=seed).accuracy(sets)
        for seed in range(1, draws + 1)
    ]
    mean = float(np.mean(found))
    return {"accuracy": round(mean, 4), "standard_error": round(float(np.sqrt(mean * (1 - mean) / images)), 4)}


def cost_points(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What the transform costs or saves."""
    for alpha, beta in SETTINGS:
        yield {"trace": arguments.traces[0], "alpha": alpha, "beta": beta}


def cost(trace: str, alpha: float, beta: float) -> dict[str, Any]:
    """Arrays and writes of attention, and the whole machine as it is shipped: cycles, energy and area."""
    transform = [f"analog.dynamic={{alpha: {alpha}, beta: {beta}}}"]
    config = load_accelerator(HARDWARE, transform).config
    arrays = AnalogNetwork(
        loaded(trace), config.analog, weight_bits=config.pe.weight_bits, on_arrays=_products(loaded(trace))
    )
    summary = run(HARDWARE, trace_file(trace), overrides=transform, verify=False).summary()
    return {
        "dynamic_arrays": sum(arrays.arrays.values()),
        "cell_writes_per_image": sum(writes.cells for writes in arrays.writes.values()),
        **{name: summary[name] for name in ("cycles", "latency_s", "energy_pj", "area_mm2")},
    }


TABLES = {
    "values": (value_points, values),
    "cost": (cost_points, cost),
    "accuracy": (accuracy_points, accuracy),
    "signal": (signal_points, signal),
}
"""By name: what points a table has, and how one is measured."""
