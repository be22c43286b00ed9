"""The layers of Prosperity's table, with the shapes of its simulator/configs.py and made-up weights and spikes.

Every layer reads spikes of its own, drawn independently with the published share of ones. Of the recorded spikes, which
are not public in full, nothing else is kept: how much rows resemble each other is what independent spikes have. Neurons
fire as often. Products of attention are K^T V, then Q times that, as the simulator multiplies where a head has fewer
channels than there are tokens; SDT's masks and SpikingBERT's softmax are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import yaml

from archsim import load_trace, run
from archsim.trace import Trace, save_trace
from archsim.trace.calibrated import calibrated
from archsim.trace.plan import Given, Plan


def _spikes(plan: Plan, name: str, *shape: int) -> str:
    return plan.input(f"{name}.in", Given(shape, "spikes"))


def convolutions(layers: Sequence[tuple[int, int, int]], features: Sequence[tuple[int, int]] = ()) -> Plan:
    """3x3 layers of (side, channels, output channels), and fully connected ones of (inputs, outputs)."""
    plan = Plan()
    for index, (side, channels, outputs) in enumerate(layers, 1):
        plan.conv(f"conv{index}", _spikes(plan, f"conv{index}", channels, side, side), outputs, 3)
    for index, (inputs, outputs) in enumerate(features):
        plan.linear(f"fc{index}", _spikes(plan, f"fc{index}", inputs), outputs, fires="spikes")
    return plan


def transformer(width: int, depth: int, tokens: int, sides: Sequence[int] = (), heads: int = 0) -> Plan:
    """Blocks over ``tokens``, behind 3x3 layers at these sides that double their channels up to ``width``."""
    channels = [width // 8, width // 4, width // 2, width, width][-len(sides) - 1 :]
    plan = convolutions([(side, *channels[index : index + 2]) for index, side in enumerate(sides)])
    for block in range(1, depth + 1):
        for name, inputs, outputs in (("qkv", 1, 3), ("projection", 1, 1), ("fc1", 1, 4), ("fc2", 4, 1)):
            at = f"block{block}.{name}"
            plan.conv(at, _spikes(plan, at, inputs * width, tokens, 1), outputs * width)
        if heads:
            q, k, v = (_spikes(plan, f"block{block}.{name}", width, tokens, 1) for name in "qkv")
            product = plan.add("matmul", f"block{block}.kv", k, v, transpose_first=True, heads=heads)
            plan.add("matmul", f"block{block}.attention", q, product, heads=heads, fires="spikes")
    return plan


class Network(NamedTuple):
    """How it is built, and its timesteps."""

    build: Callable[[], Plan]
    timesteps: int

    def trace(self, name: str, density: float) -> Trace:
        """One image, with spikes of ``density``."""
        provenance = {
            "kind": "synthetic", "weights": "synthetic", "source": "simulator/configs.py of dubcyfor3/Prosperity",
        }  # fmt: skip
        return calibrated(
            self.build(), density, provenance, network=name, timesteps=self.timesteps, images=1, seed=0
        )  # fmt: skip


_VGG16 = Network(
    partial(
        convolutions,
        [(32, 64, 64), (16, 64, 128), (16, 128, 128), (8, 128, 256), (8, 256, 256), (8, 256, 256), (8, 256, 512),
         *[(8, 512, 512)] * 5],
        [(8 * 8 * 512, 4096), (4096, 4096)],
    ), 32,
)  # fmt: skip
_RESNET18 = Network(
    partial(
        convolutions,
        [*[(8, 64, 64)] * 4, (8, 64, 128), *[(8, 128, 128)] * 3, (8, 128, 256), *[(8, 256, 256)] * 3, (8, 256, 512),
         *[(8, 512, 512)] * 3],
    ), 32,
)  # fmt: skip
_SPIKFORMER = Network(partial(transformer, 384, 4, 64, (32, 32, 16, 8), 12), 4)
_SDT = Network(partial(transformer, 512, 4, 64, (32, 32, 16, 8)), 4)
_SPIKEBERT = Network(partial(transformer, 768, 12, 128, (), 8), 4)
_SPIKINGBERT = Network(partial(transformer, 768, 4, 128), 16)
NETWORKS = {
    "vgg16_cifar10": _VGG16,
    "vgg16_cifar100": _VGG16,
    "resnet18_cifar10": _RESNET18,
    "resnet18_cifar100": _RESNET18,
    "spikformer_cifar10": _SPIKFORMER,
    "spikformer_cifar10dvs": Network(partial(transformer, 256, 2, 64, (64, 32, 16, 8), 16), 16),
    "spikformer_cifar100": _SPIKFORMER,
    "sdt_cifar10": _SDT,
    "sdt_cifar10dvs": Network(partial(transformer, 512, 2, 64, (64, 32, 16, 8)), 10),
    "sdt_cifar100": _SDT,
    "spikebert_sst2": _SPIKEBERT,
    "spikebert_mr": Network(partial(transformer, 768, 12, 256, (), 8), 4),
    "spikebert_sst5": _SPIKEBERT,
    "spikingbert_sst2": _SPIKINGBERT,
    "spikingbert_qqp": _SPIKINGBERT,
    "spikingbert_mnli": _SPIKINGBERT,
}
CLOCK_MHZ = 500
PUBLISHED = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text())


@dataclass(frozen=True)
class Workload:
    """A network of the table, one image or sentence."""

    network: str

    def path(self, folder: Path) -> Path:
        return folder / f"{self.network}.npz"

    def write(self, folder: Path) -> None:
        save_trace(NETWORKS[self.network].trace(self.network, PUBLISHED[self.network]["density"]), self.path(folder))


@dataclass(frozen=True)
class Run:
    """What a machine makes of a workload, as counts; the published baselines run no products of activations."""

    machine: str
    workload: Workload

    def perform(self, folder: Path) -> dict[str, float]:
        path = self.workload.path(folder)
        layers = None
        if self.machine != "prosperity":
            layers = [operation.name for operation in load_trace(path).operations if operation.op != "matmul"]
        report = run(self.machine, path, layers=layers, verify=False, clock_mhz=CLOCK_MHZ)
        frame = report.frame("layers")
        found = {
            "ms": report.summary()["latency_s"] * 1e3,
            "compute_ms": float(frame.compute_cycles.sum()) / CLOCK_MHZ / 1e3,
        }
        if self.machine == "prosperity":
            weighted = frame[frame.op != "matmul"]
            inputs = float((weighted.m * weighted.k * weighted.timesteps).sum())
            found["density"] = float(weighted.spikes.sum()) / inputs
            found["product_density"] = float(weighted.spikes_left.sum()) / inputs
        return found
