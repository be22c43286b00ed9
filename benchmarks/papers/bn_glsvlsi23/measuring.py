"""One row: a network under one condition with one adaptation and one draw of the devices."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from conditions import TABLES

from archsim import load_trace
from archsim.analog_network.network import AnalogNetwork
from archsim.hardware.analog.cache import default_folder
from archsim.hardware.analog.product import ProductConfig
from archsim.hardware.loading import load_block
from archsim.trace import Trace
from archsim.trace.resimulation import given, run_images

ARRAYS = Path(__file__).resolve().parent / "arrays.yaml"
WEIGHT_BITS = 8
Row = dict[str, Any]


def arrays(table: str, condition: str, *changes: str) -> ProductConfig:
    """The arrays of a condition, with ``changes`` besides."""
    return load_block(ARRAYS, ProductConfig, "arrays", [*TABLES[table][condition], *changes])


def seeds(table: str, condition: str, draws: int) -> range:
    """Seeds of a condition: ``draws`` of them, or one where nothing is drawn."""
    return range(1 if arrays(table, condition).cells.device.ideal else draws)


def measure(path: Path, images: int, calibration: int, work: tuple[str, str, str, int]) -> Row:
    """The row of ``work``: table, condition, adaptation and seed."""
    table, condition, adaptation, seed = work
    trace = load_trace(path)
    assert trace.calibration is not None and trace.evaluation is not None, "sets were looked for"
    network = adapted(trace, calibration, work)
    found = network.accuracy(trace.evaluation.first(images))
    return {
        "table": table, "condition": condition, "adaptation": adaptation, "noise_seed": seed, "accuracy": found,
        "standard_error": round(math.sqrt(found * (1 - found) / images), 4), "images": images,
        "calibration_images": calibration, "noise": network.config.cells.noise, "network": trace.network,
        "trace_sha256": trace.sha256, "set": " ".join(TABLES[table][condition]),
    }  # fmt: skip


def adapted(trace: Trace, calibration: int, work: tuple[str, str, str, int]) -> AnalogNetwork:
    """The network of ``work``, all its layers with weights on arrays."""
    table, condition, adaptation, seed = work
    config = arrays(table, condition, f"adaptation={adaptation}", f"cells.seed={seed}")
    layers = [operation.name for operation in trace.operations if operation.weight_shape is not None]
    network = AnalogNetwork(trace, config, weight_bits=WEIGHT_BITS, on_arrays=layers, folder=default_folder())
    assert trace.calibration is not None, "sets were looked for"
    network.calibrate(trace.calibration.first(calibration))
    return network


def firing_rates(path: Path, images: int, calibration: int, work: tuple[str, str, str, int]) -> list[Row]:
    """A row for each layer with neurons: the share of neurons and timesteps that fire, exactly and on the arrays."""
    trace = load_trace(path)
    assert trace.evaluation is not None, "sets were looked for"
    some = trace.evaluation.first(images).images
    exact = run_images(trace, some)
    found = adapted(trace, calibration, work).run_batch(given(trace, some), 0)
    _, condition, adaptation, seed = work
    return [
        {
            "condition": condition, "adaptation": adaptation, "noise_seed": seed, "layer": operation.name,
            "exact_rate": round(float(exact[operation.output].mean()), 5),
            "rate": round(float(found[operation.output].mean()), 5), "images": images,
            "calibration_images": calibration, "network": trace.network, "trace_sha256": trace.sha256,
        }
        for operation in trace.operations
        if operation.neuron is not None
    ]  # fmt: skip
