"""What the study runs: the trained VGG9 up to a timestep, synthetic spikes of asked ratios, and machines on both."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from legacy_network import load_network
from legacy_spikesim import SpikesimNetwork

from archsim.simulate import run
from archsim.trace import Trace, load_trace, save_trace, statistics, synthesize
from archsim.trace.presets import SyntheticLayer

ROOT = Path(__file__).resolve().parents[3]
TRAINED = {"test": "vgg9_dual_sparse", "training": "vgg9_training_step_plain"}
"""Traces of the trained VGG9 by the set whose first images they hold."""
LEGACY = ROOT / "benchmarks" / "papers" / "legacy_networks"
MOST_TIMESTEPS = 16  # of a trace


class Workload(Protocol):
    """A trace that can be written; equal ones are written once."""

    def path(self, folder: Path) -> Path: ...
    def write(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class Trained:
    """``timesteps`` of the trained VGG9 (T = 4) from the one called ``first`` on, all its images or one.

    What happens later does not change what happened before, so a trace cut at its end is that of a network which stops
    there. Cut at its beginning it lacks the potentials of before; spikes are those that were recorded.
    """

    timesteps: int = 4
    image: int | None = None
    images_of: str = "test"
    first: int = 0

    kind = "trained"

    def path(self, folder: Path) -> Path:
        return folder / f"vgg9-{self.images_of}-{self.first}-{self.timesteps}-{self.image}.npz"

    def write(self, folder: Path) -> None:
        save_trace(self.cut(), self.path(folder))

    def cut(self) -> Trace:
        whole = trained(self.images_of)
        chosen = whole if self.image is None else whole.select(images=[self.image])
        timed = {name: chosen.tensor(name) for name in chosen.tensors}
        changing = {name for name, record in chosen.meta.tensors.items() if getattr(record, "per_timestep", True)}
        return Trace(
            network=whole.network,
            timesteps=self.timesteps,
            operations=[replace(operation, gradient_mask=None) for operation in chosen.operations],
            tensors={
                name: tensor[self.first :][: self.timesteps] if name in changing else tensor
                for name, tensor in timed.items()
            },
            provenance={key: value for key, value in whole.provenance.items() if key != "details"},
        )


@dataclass(frozen=True)
class Synthetic:
    """Random spikes and weights in the shapes of SpikeSim's VGG9, one image; the direct encoder and FC layers left out.

    Each neuron spikes at each timestep with the same probability, so that words of T bits are silent by chance only.
    """

    timesteps: int
    sparsity: float
    weight_sparsity: float = 0.0

    kind = "synthetic"

    def path(self, folder: Path) -> Path:
        return folder / f"synthetic-{self.timesteps}-{self.sparsity}-{self.weight_sparsity}.npz"

    def write(self, folder: Path) -> None:
        layers = [
            SyntheticLayer(
                layer.name, "conv2d", (layer.in_channels, *layer.input), layer.out_channels, kernel=3, padding=1,
                spike_density=inside * (1 - self.sparsity),
                silent_ratio=1 - inside * (1 - self.sparsity**self.timesteps),
                weight_density=1 - self.weight_sparsity,
            )
            for layer in load_network(LEGACY / "vgg9_spikesim.yaml", SpikesimNetwork).layers[1:]
            # Ratios are those of im2col matrices, in which this share is not padding of a 3 x 3 kernel.
            for inside in [math.prod(1 - 2 / (3 * side) for side in layer.input)]
        ]  # fmt: skip
        save_trace(synthesize(layers, timesteps=self.timesteps, network="vgg9"), self.path(folder))


@dataclass(frozen=True)
class AsTrained:
    """Random spikes and weights in the trained VGG9's shapes, with each layer's own densities at T = 4.

    Density per timestep and share of silent words stay those of T = 4.
    """

    timesteps: int

    kind = "synthetic"

    def path(self, folder: Path) -> Path:
        return folder / f"as-trained-{self.timesteps}.npz"

    def write(self, folder: Path) -> None:
        whole = trained("test")
        layers = []
        for operation, layer in zip(
            (operation for operation in whole.operations if operation.op != "pool"), statistics(whole), strict=True
        ):
            if layer.spike_density is not None:
                shape = (layer.k,) if layer.op == "linear" else whole.tensor(operation.inputs[0]).shape[2:]
                layers.append(
                    SyntheticLayer(
                        layer.layer, layer.op, shape, layer.n, kernel=operation.kernel[0], padding=operation.padding[0],
                        spike_density=layer.spike_density, silent_ratio=layer.silent_ratio,
                        weight_density=layer.weight_density,
                    )
                )  # fmt: skip
        save_trace(synthesize(layers, images=whole.images, timesteps=self.timesteps, network="vgg9"), self.path(folder))


def trained(images_of: str) -> Trace:
    return load_trace(ROOT / "workloads" / f"{TRAINED[images_of]}.npz")


@dataclass(frozen=True)
class Run:
    """A :class:`archsim.Report` of a machine of ``hwconfigs`` on a workload, with the workload's timesteps.

    Outputs are compared with the trace's but for lossy converters and for traces that lack their beginning.
    """

    machine: str
    workload: Any
    overrides: tuple[str, ...] = ()

    def perform(self, folder: Path) -> Any:
        return run(
            ROOT / "hwconfigs" / f"{self.machine}.yaml",
            self.workload.path(folder),
            overrides=(f"timesteps={self.workload.timesteps}", *self.overrides),
            verify=self.machine != "spikesim" and not getattr(self.workload, "first", 0),
        )


def energy_pj(report: Any, *units: str) -> float:
    """Energy of a run, or of these units of the machine."""
    rows = report.rows("energy")
    return sum(row["energy_pj"] for row in rows if not units or row["unit"] in units)


def area_mm2(report: Any, *units: str) -> float:
    """Area of a machine, or of these units of it."""
    return sum(row["area_mm2"] for row in report.rows("area") if not units or row["unit"] in units)


def cycles(report: Any) -> int:
    found: int = report.summary()["cycles"]
    return found


def edp(report: Any) -> float:
    """Energy times latency of a run."""
    return energy_pj(report) * cycles(report)
