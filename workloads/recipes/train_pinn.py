"""Train physics-informed networks: a loss that knows the differential equation, and no data.

All coordinates run from -1 to 1 (time too: t = (coordinate + 1) / 2), and every problem has a known solution:

    poisson       u'' = -pi^2 sin(pi x), u = 0 at the ends                        u = sin(pi x)
    burgers       u_t + u u_x = nu u_xx, nu = 0.1 / pi, u(x, 0) = -sin(pi x)      Cole-Hopf, by Gauss-Hermite quadrature
    taylor_green  Navier-Stokes in two dimensions, nu = 0.05, wave number pi      the Taylor-Green vortex
    separable     u_xx + u_yy = f, u = 0 at the border, u = sum_r X_r(x) Y_r(y)   u = sum of two products of sines

The flow has sines as activations, the others tanh. The separable network has a body for each axis, which sees that axis
alone; its outputs are multiplied and summed.

    python train_pinn.py --problem poisson --seed 1 --checkpoints DIR

``DIR/pinn-PROBLEM-SEED.pt`` has the weights and the relative L2 error on ``grid``. A run that was killed goes on where
its last checkpoint was.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial.hermite import hermgauss
from torch import Tensor, nn

BURGERS_VISCOSITY = 0.1 / math.pi
FLOW_VISCOSITY = 0.05
RANK = 8
"""Products of the separable network."""
CHECKPOINT_STEPS = 1000


class Sine(nn.Module):
    """The sine of every value."""

    def forward(self, values: Tensor) -> Tensor:
        """``sin(values)``."""
        return torch.sin(values)


def body(sizes: tuple[int, ...], activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers of these sizes with activations in between."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
        nn.init.xavier_normal_(layers[-2].weight)
    return nn.Sequential(*layers[:-1])


class Separable(nn.Module):
    """A sum over ``RANK`` products of what a body for each axis gives."""

    def __init__(self) -> None:
        super().__init__()
        self.axes = nn.ModuleList(body((1, 32, 32, RANK), nn.Tanh) for _ in range(2))

    def forward(self, points: Tensor) -> Tensor:
        """u [N, 1] at points [N, 2]."""
        parts = [axis(points[:, place : place + 1]) for place, axis in enumerate(self.axes)]
        return (parts[0] * parts[1]).sum(1, keepdim=True)


# ---- Solutions, [N, outputs] at points [N, coordinates], and residuals.


def poisson_solution(points: np.ndarray) -> np.ndarray:
    """sin(pi x)."""
    return np.sin(math.pi * points)


def burgers_solution(points: np.ndarray) -> np.ndarray:
    """Cole-Hopf: a ratio of two integrals over the heat kernel, with 100 nodes of Gauss-Hermite quadrature."""
    x, t = points[:, :1], (points[:, 1:] + 1) / 2
    nodes, weights = hermgauss(100)
    moved = x - np.sqrt(4 * BURGERS_VISCOSITY * t) * nodes
    kernel = weights * np.exp(-np.cos(math.pi * moved) / (2 * math.pi * BURGERS_VISCOSITY))
    return -(np.sin(math.pi * moved) * kernel).sum(1, keepdims=True) / kernel.sum(1, keepdims=True)


def flow_solution(points: np.ndarray) -> np.ndarray:
    """Velocities and pressure of the Taylor-Green vortex."""
    x, y, t = math.pi * points[:, 0], math.pi * points[:, 1], (points[:, 2] + 1) / 2
    decay = np.exp(-2 * FLOW_VISCOSITY * math.pi**2 * t)
    pressure = -(np.cos(2 * x) + np.cos(2 * y)) / 4 * decay**2
    return np.stack([-np.cos(x) * np.sin(y) * decay, np.sin(x) * np.cos(y) * decay, pressure], 1)


def separable_solution(points: np.ndarray) -> np.ndarray:
    """sin(pi x) sin(pi y) + sin(2 pi x) sin(2 pi y) / 2."""
    x, y = math.pi * points[:, :1], math.pi * points[:, 1:]
    return np.sin(x) * np.sin(y) + np.sin(2 * x) * np.sin(2 * y) / 2


def gradient(values: Tensor, points: Tensor) -> Tensor:
    """Derivatives [N, coordinates] of values [N], each of its own point."""
    return torch.autograd.grad(values.sum(), points, create_graph=True)[0]


def poisson_residual(u: Tensor, x: Tensor) -> Tensor:
    """u'' / pi^2 + sin(pi x)."""
    return gradient(gradient(u[:, 0], x)[:, 0], x)[:, 0] / math.pi**2 + torch.sin(math.pi * x[:, 0])


def burgers_residual(u: Tensor, points: Tensor) -> Tensor:
    """u_t + u u_x - nu u_xx; the time coordinate runs twice as far as time."""
    first = gradient(u[:, 0], points)
    return 2 * first[:, 1] + u[:, 0] * first[:, 0] - BURGERS_VISCOSITY * gradient(first[:, 0], points)[:, 0]


def flow_residual(outputs: Tensor, points: Tensor) -> Tensor:
    """Both components of momentum, and the divergence."""
    u, v, pressure = (gradient(outputs[:, place], points) for place in range(3))
    parts = [u[:, 0] + v[:, 1]]
    for place, own in enumerate((u, v)):
        laplacian = sum(gradient(own[:, axis], points)[:, axis] for axis in (0, 1))
        carried = outputs[:, 0] * own[:, 0] + outputs[:, 1] * own[:, 1]
        parts.append(2 * own[:, 2] + carried + pressure[:, place] - FLOW_VISCOSITY * laplacian)
    return torch.cat(parts)


def separable_residual(u: Tensor, points: Tensor) -> Tensor:
    """(u_xx + u_yy - f) / (2 pi^2)."""
    first = gradient(u[:, 0], points)
    laplacian = sum(gradient(first[:, axis], points)[:, axis] for axis in (0, 1)) / (2 * math.pi**2)
    x, y = math.pi * points[:, 0], math.pi * points[:, 1]
    return laplacian + torch.sin(x) * torch.sin(y) + 2 * torch.sin(2 * x) * torch.sin(2 * y)


class Problem(NamedTuple):
    """A differential equation and how it is trained.

    ``given`` are the faces (coordinate, side) of the cube on which the loss knows the solution. ``axes`` are the grid's
    points along each coordinate: multiples of a power of two, which 8-bit inputs hold exactly. ``steps`` of Adam with
    ``points`` inside and as many on the faces.
    """

    network: Callable[[], nn.Module]
    residual: Callable[[Tensor, Tensor], Tensor]
    solution: Callable[[np.ndarray], np.ndarray]
    given: tuple[tuple[int, int], ...]
    axes: tuple[int, ...]
    steps: int
    points: int


PROBLEMS = {
    "poisson": Problem(
        lambda: body((1, 32, 32, 32, 1), nn.Tanh), poisson_residual, poisson_solution, ((0, -1), (0, 1)), (129,), 4000,
        128,
    ),
    "burgers": Problem(
        lambda: body((2, 32, 32, 32, 1), nn.Tanh), burgers_residual, burgers_solution, ((0, -1), (0, 1), (1, -1)),
        (33, 17), 8000, 512,
    ),
    "taylor_green": Problem(
        lambda: body((3, 32, 32, 32, 3), Sine), flow_residual, flow_solution,
        ((0, -1), (0, 1), (1, -1), (1, 1), (2, -1)), (9, 9, 5), 8000, 512,
    ),
    "separable": Problem(
        Separable, separable_residual, separable_solution, ((0, -1), (0, 1), (1, -1), (1, 1)), (65, 65), 8000, 512,
    ),
}  # fmt: skip


def grid(problem: Problem) -> np.ndarray:
    """The points [N, coordinates] at which networks are judged."""
    axes = np.meshgrid(*(np.linspace(-1, 1, count) for count in problem.axes), indexing="ij")
    return np.stack([axis.ravel() for axis in axes], 1)


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """The L2 norm of the difference over that of ``wanted``."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def load(checkpoint: Path) -> tuple[Problem, nn.Module, dict[str, object]]:
    """A trained network in double precision."""
    state = torch.load(checkpoint)
    problem = PROBLEMS[state["problem"]]
    model = problem.network()
    model.load_state_dict(state["model"])
    return problem, model.double().eval(), state


def train(name: str, seed: int, folder: Path, steps: int | None) -> None:
    """Train and write a checkpoint."""
    problem = PROBLEMS[name]
    total = steps or problem.steps
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model, path = problem.network(), folder / f"pinn-{name}-{seed}.pt"
    optimizer, done = torch.optim.Adam(model.parameters()), 0
    latest = path.with_suffix(".latest")
    if latest.exists():
        state = torch.load(latest)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["done"]
    for step in range(done, total):
        torch.manual_seed((seed << 32) + step)
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (0.002 + 0.998 * (1 + math.cos(math.pi * step / total)) / 2)
        loss = loss_of(problem, model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == total:
            print(
                f"{path.stem}: {step + 1}/{total} steps, loss {loss.item():.3g}, {error(problem, model):.3g}",
                flush=True,
            )
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "done": step + 1}
            torch.save(state, latest)
    found = {"problem": name, "seed": seed, "steps": total, "error": error(problem, model)}
    torch.save({"model": model.state_dict(), **found}, path)
    latest.unlink(missing_ok=True)


def loss_of(problem: Problem, model: nn.Module) -> Tensor:
    """The mean square of the residual inside, and ten times that of the difference on the faces, at random points."""
    coordinates = len(problem.axes)
    inside = (2 * torch.rand(problem.points, coordinates) - 1).requires_grad_()
    residual = problem.residual(model(inside), inside)
    faces = 2 * torch.rand(problem.points, coordinates) - 1
    for place, (coordinate, side) in enumerate(problem.given):
        faces[place :: len(problem.given), coordinate] = side
    wanted = torch.from_numpy(problem.solution(faces.double().numpy())).float()
    return residual.square().mean() + 10 * (model(faces) - wanted).square().mean()


def error(problem: Problem, model: nn.Module) -> float:
    """The relative L2 error on the grid."""
    points = grid(problem)
    with torch.no_grad():
        return relative_error(model(torch.from_numpy(points).float()).double().numpy(), problem.solution(points))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=PROBLEMS, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="for a quick look: fewer steps than the recipe's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train(options.problem, options.seed, options.checkpoints, options.steps)


if __name__ == "__main__":
    main()
