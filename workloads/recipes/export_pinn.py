"""Convert a physics-informed network to signed spikes and write its trace, on all points of the recipe's grid.

    python export_pinn.py poisson --checkpoints DIR -o pinn_poisson.npz

Separable networks are converted by ``benchmarks/papers/pinn_snn_sisc25/measure.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from train_pinn import grid, load, relative_error

from archsim.export import convert
from archsim.trace import save_trace

UNIT = 1 / 64
"""Of the inputs: all points of the grids are multiples of it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem", choices=("poisson", "burgers", "taylor_green"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timesteps", type=int, default=16)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    problem, model, state = load(given.checkpoints / f"pinn-{given.problem}-{given.seed}.pt")
    points = grid(problem)
    labels = {
        "dataset": "none: a differential equation and points on a grid", "licence": "as archsim",
        "recipe": "workloads/recipes/train_pinn.py, workloads/recipes/export_pinn.py", "seed": given.seed,
    }  # fmt: skip
    options = {"input_scale": UNIT, "name": f"pinn_{given.problem}"}
    found = convert(model, points, given.timesteps, provenance=labels, **options)
    error = relative_error(found.outputs, problem.solution(points))
    details = {"relative_error": round(error, 6), "float_relative_error": round(float(state["error"]), 6)}
    found = convert(model, points, given.timesteps, provenance=labels | {"details": details}, **options)
    save_trace(found.trace, given.output)
    print(f"{found}\n{given.output}: relative L2 error {error:.3g}, of the float network {state['error']:.3g}")


if __name__ == "__main__":
    main()
