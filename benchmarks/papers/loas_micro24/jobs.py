"""What the tables are made from: networks as trace files, and runs of machines on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archsim.report.names import readable
from archsim.simulate import run
from archsim.trace import import_spikes, load_trace, save_trace, statistics, synthesize

ROOT = Path(__file__).resolve().parents[3]
MACHINES = ROOT / "hwconfigs"
RECORDED = ROOT.parent / "shared" / "traces"  # --traces names another folder
# Weight sparsities of Table II with the digits of the authors' artifact, for spikes that were recorded without weights.
WEIGHT_SPARSITY = {"alexnet": 0.98264, "vgg16": 0.98228}
TITLES = {name: readable(name) for name in ("alexnet", "vgg16", "resnet19")}


@dataclass(frozen=True)
class Workload:
    """The convolutions of a network, one image: a preset of archsim, or ``spikes`` recorded by others.

    Read-outs are left out, as in the authors' artifact. Weights are always random, seed 0: none are published.
    """

    preset: str
    spikes: Path | None = None
    weight_sparsity: float | None = None
    timesteps: int | None = None

    @property
    def kind(self) -> str:
        return "recorded" if self.spikes else "synthetic"

    def path(self, folder: Path) -> Path:
        return folder / f"{self.preset}-{self.kind}-{self.weight_sparsity}-{self.timesteps}.npz"

    def write(self, folder: Path) -> None:
        if self.spikes:
            trace = import_spikes(self.spikes, self.weight_sparsity, seed=0)
        else:
            density = None if self.weight_sparsity is None else 1 - self.weight_sparsity
            trace = synthesize(self.preset, seed=0, timesteps=self.timesteps, weight_density=density)
        convolutions = [operation.name for operation in trace.operations if operation.op == "conv2d"]
        save_trace(trace.select(layers=convolutions), self.path(folder))


def network(name: str, weight_sparsity: float | None = None) -> Workload:
    """AlexNet, VGG16 or ResNet19 after masking: recorded spikes if they are there, else Table II's averages."""
    spikes = RECORDED / f"loas_cifar10_{name}_spikes.npz"
    if name in WEIGHT_SPARSITY and spikes.exists():
        return Workload(name, spikes, weight_sparsity or WEIGHT_SPARSITY[name])
    return Workload(f"{name}-ft", weight_sparsity=weight_sparsity)


def without_recording() -> list[str]:
    """Titles of the networks whose spikes were recorded, but are not here."""
    return [TITLES[name] for name in WEIGHT_SPARSITY if network(name).kind != "recorded"]


def title(name: str) -> str:
    """A network's name with where its spikes are from, as every table and figure shows it."""
    return f"{TITLES[name]} ({network(name).kind})"


@dataclass(frozen=True)
class Run:
    """A :class:`archsim.Report` of a machine of ``hwconfigs`` on a workload."""

    machine: str
    workload: Workload
    overrides: tuple[str, ...] = ()

    @property
    def hardware(self) -> Path:
        return MACHINES / f"{self.machine}.yaml"

    def perform(self, folder: Path) -> Any:
        skipped = "scheduler.encoder=skipped"  # as in the authors' artifact
        return run(self.hardware, self.workload.path(folder), overrides=(skipped, *self.overrides))


@dataclass(frozen=True)
class Count:
    """The statistics of a workload, layer by layer."""

    workload: Workload

    def perform(self, folder: Path) -> Any:
        return statistics(load_trace(self.workload.path(folder)))
