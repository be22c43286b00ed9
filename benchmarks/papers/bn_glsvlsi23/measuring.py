"""One row: a network under one condition with one adaptation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from conditions import TABLES

from archsim import load_trace
from archsim.accelerators.analog_network import AnalogNetwork
from archsim.hardware.analog.cache import default_folder
from archsim.hardware.analog.product import ProductConfig
from archsim.hardware.loading import load_block
from archsim.trace import ImageSet

ARRAYS = Path(__file__).resolve().parent / "arrays.yaml"
WEIGHT_BITS = 8
Row = dict[str, Any]


def measure(path: Path, images: int, calibration: int, work: tuple[str, str, str]) -> Row:
    """One row: the network of the trace under one condition with one adaptation."""
    table, condition, adaptation = work
    trace = load_trace(path)
    assert trace.calibration is not None and trace.evaluation is not None, "sets were looked for"
    changes = [*TABLES[table][condition], f"adaptation={adaptation}"]
    config = load_block(ARRAYS, ProductConfig, "arrays", changes)
    layers = [operation.name for operation in trace.operations if operation.weight_shape is not None]
    network = AnalogNetwork(trace, config, weight_bits=WEIGHT_BITS, on_arrays=layers, folder=default_folder())
    network.calibrate(first(trace.calibration, calibration))
    found = network.accuracy(first(trace.evaluation, images))
    return {
        "table": table, "condition": condition, "adaptation": adaptation, "accuracy": found,
        "standard_error": round(math.sqrt(found * (1 - found) / images), 4), "images": images,
        "calibration_images": calibration, "noise": config.cells.noise, "noise_seed": config.cells.seed,
        "network": trace.network, "trace_sha256": trace.sha256, "set": " ".join(changes),
    }  # fmt: skip


def first(images: ImageSet, count: int) -> ImageSet:
    return ImageSet(images.images[:count], images.labels[:count])
