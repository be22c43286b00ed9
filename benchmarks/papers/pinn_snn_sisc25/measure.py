"""Convert the networks of ``train_pinn.py`` in many ways, measure their errors, and write the traces of ``traces/``.

    python measure.py --checkpoints DIR [-o DIR]

``results/errors.csv`` has a row for each network and conversion: relative L2 errors on the recipe's grid, to the known
solution and to the float network, and the share of timesteps in which hidden neurons fire. Calibration is on 256 points
drawn at random; it needs no solution. Traces are of seed 1, with nearest rounding and advanced calibration or without
spikes, on 16 points. A separable network is two traces, one for each axis. Writes what is not there yet. Needs PyTorch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

FOLDER = Path(__file__).resolve().parent
sys.path += [str(FOLDER.parents[2]), str(FOLDER.parents[2] / "workloads" / "recipes")]

from add_image_sets import with_more  # noqa: E402
from train_pinn import PROBLEMS, Problem, Separable, grid, load, relative_error  # noqa: E402

from archsim.export import Converted, convert  # noqa: E402
from archsim.report import files  # noqa: E402
from archsim.trace import save_trace  # noqa: E402

TIMESTEPS = (4, 8, 16, 32, 64, 128, 256)
BITS = (3, 4, 5, 6, 7, 8, 10)
"""Of activations, without spikes."""
ROUNDINGS = ("nearest", "down")
CALIBRATIONS = ("none", "light", "advanced")
UNIT = 1 / 64
"""Of the inputs: all points are multiples of it."""
CALIBRATION_POINTS = 256
TRACED_POINTS = 16
SEEDS = (1, 2, 3)
COLUMNS = ("problem", "seed", "timesteps", "bits", "rounding", "calibration", "error", "error_of_float", "float_error",
           "spike_rate")  # fmt: skip
Outputs = Callable[[list[Converted]], np.ndarray]


def bodies(model: nn.Module) -> list[nn.Module]:
    """The chains of layers that a network consists of."""
    return list(model.axes) if isinstance(model, Separable) else [model]


def converted(
    problem: Problem, model: nn.Module, timesteps: int, points: int | None = None, **options: Any
) -> tuple[list[Converted], np.ndarray, np.ndarray]:  # fmt: skip
    """Each body converted, the outputs on the grid and the points that they belong to.

    With ``points``, that many points of the grid (of each axis, for separable networks) are shown.
    """
    draw = np.random.default_rng(0)
    shown, separable = grid(problem), isinstance(model, Separable)
    inputs = [np.linspace(-1, 1, count)[:, None] for count in problem.axes] if separable else [shown]
    if points is not None:
        inputs = [axis[np.sort(draw.choice(len(axis), points, replace=False))] for axis in inputs]
    taught = draw.integers(-64, 65, (CALIBRATION_POINTS, len(problem.axes))) * UNIT
    parts = [
        convert(
            body, inputs[place], timesteps, input_scale=UNIT,
            calibration_inputs=taught[:, place : place + 1] if separable else taught, **options,
        )
        for place, body in enumerate(bodies(model))
    ]  # fmt: skip
    if not separable:
        return parts, parts[0].outputs, inputs[0]
    first, second = np.meshgrid(*(axis[:, 0] for axis in inputs), indexing="ij")
    outputs = np.einsum("xr,yr->xy", *(part.outputs for part in parts)).reshape(-1, 1)
    return parts, outputs, np.stack([first.ravel(), second.ravel()], 1)


def rate(parts: list[Converted]) -> float:
    """The share of timesteps in which hidden neurons of all parts fire; their layers are of one size."""
    rates = [row.spike_rate for part in parts for row in part.layers if row.spike_rate is not None]
    return float(np.mean(rates)) if rates else 0.0


def measured(name: str, seed: int, checkpoints: Path) -> list[dict[str, object]]:
    """The rows of one network."""
    problem, model, state = load(checkpoints / f"pinn-{name}-{seed}.pt")
    points = grid(problem)
    with torch.no_grad():
        real = model(torch.from_numpy(points)).numpy()
    wanted, rows = problem.solution(points), []
    float_error = relative_error(real, wanted)

    def add(timesteps: int, bits: int, rounding: str, calibration: str) -> None:
        options: dict[str, Any] = {"activation_bits": bits} if bits else {"rounding": rounding}
        parts, outputs, _ = converted(problem, model, timesteps, calibration=calibration, **options)
        for part in parts:
            assert np.linalg.norm(part.outputs - part.float_outputs, axis=1).max() <= part.bound, "the bound"
        errors = relative_error(outputs, wanted), relative_error(outputs, real), float_error, rate(parts)
        key = (name, seed, timesteps, bits, rounding, calibration)
        rows.append(dict(zip(COLUMNS, (*key, *(float(f"{value:.6g}") for value in errors)), strict=True)))

    for bits in BITS:
        for calibration in ("none", "light"):
            add(1, bits, "", calibration)
    for timesteps in TIMESTEPS:
        for rounding in ROUNDINGS:
            for calibration in CALIBRATIONS:
                add(timesteps, 0, rounding, calibration)
    print(f"{name}, seed {seed}: float {float_error:.3g} ({state['error']:.3g} when trained)", flush=True)
    return rows


def write_traces(name: str, checkpoints: Path, folder: Path) -> None:
    """The traces of a problem, each with the error on its points."""
    problem, model, _ = load(checkpoints / f"pinn-{name}-{SEEDS[0]}.pt")
    labels = {
        "dataset": "none: a differential equation", "licence": "as archsim",
        "recipe": "workloads/recipes/train_pinn.py, benchmarks/papers/pinn_snn_sisc25/measure.py", "seed": SEEDS[0],
    }  # fmt: skip
    wanted = [(f"t{timesteps}", timesteps, {"calibration": "advanced"}) for timesteps in TIMESTEPS]
    wanted += [(f"b{bits}", 1, {"calibration": "light", "activation_bits": bits}) for bits in BITS]
    axes = [f"{axis}_" for axis in "xy"] if isinstance(model, Separable) else [""]
    for suffix, timesteps, options in wanted:
        paths = [folder / f"{name}_{axis}{suffix}.npz" for axis in axes]
        if all(path.exists() for path in paths):
            continue
        options |= {"provenance": labels, "name": f"{name}_{suffix}"}
        parts, outputs, points = converted(problem, model, timesteps, TRACED_POINTS, **options)
        details = {"points": len(points), "relative_error": relative_error(outputs, problem.solution(points))}
        for part, path in zip(parts, paths, strict=True):
            labelled = part.trace.provenance
            more = labelled | {"details": labelled["details"] | details}
            save_trace(with_more(part.trace, more), path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    given = parser.parse_args()
    for folder in (given.checkpoints,):
        if not folder.is_dir():
            parser.error(f"{folder}: no such folder")
    torch.set_num_threads(1)
    known = given.output / "results" / "errors.csv"
    rows = pd.read_csv(known, keep_default_na=False).to_dict("records") if known.exists() else []
    for folder in ("results", "traces"):
        (given.output / folder).mkdir(parents=True, exist_ok=True)
    for name in PROBLEMS:
        for seed in SEEDS:
            there = any((row["problem"], row["seed"]) == (name, seed) for row in rows)
            if not there and (given.checkpoints / f"pinn-{name}-{seed}.pt").exists():
                rows += measured(name, seed, given.checkpoints)
                rows.sort(key=lambda row: (list(PROBLEMS).index(row["problem"]), row["seed"]))
                files.write_texts(given.output / "results", {"errors.csv": files.csv_text(rows, list(COLUMNS))})
        if (given.checkpoints / f"pinn-{name}-{SEEDS[0]}.pt").exists():
            write_traces(name, given.checkpoints, given.output / "traces")


if __name__ == "__main__":
    main()
