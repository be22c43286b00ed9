"""What the study runs: the trained VGG9 up to a timestep, synthetic spikes of asked ratios, and machines on both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from legacy_network import load_network
from legacy_spikesim.spikesim import SpikesimNetwork

from archsim.simulate import run
from archsim.trace import Trace, load_trace, save_trace, statistics, synthesize
from archsim.trace.presets import SyntheticLayer

ROOT = Path(__file__).resolve().parents[3]
TRAINED = {"test": "vgg9_dual_sparse", "training": "vgg9_training_step_plain"}
"""Traces of the trained VGG9 by the set whose first images they hold."""
PAPERS = ROOT / "benchmarks" / "papers"
SATA_SIM, SPIKESIM = PAPERS / "legacy_sata_sim" / "networks", PAPERS / "legacy_spikesim" / "networks"
"""Networks of the old tools."""
MOST_TIMESTEPS = 16  # of synthetic spikes


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
            for layer in load_network(SPIKESIM / "vgg9_spikesim.yaml", SpikesimNetwork).layers[1:]
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


@dataclass(frozen=True)
class TrainingStep:
    """A shipped trace of a step of training of the trained VGG9, with its masks of gradients; T = 4, four images."""

    trace: str
    timesteps: int = 4

    kind = "trained"

    def path(self, folder: Path) -> Path:
        return ROOT / "workloads" / f"{self.trace}.npz"

    def write(self, folder: Path) -> None:
        """It is there."""


def trained(images_of: str) -> Trace:
    return load_trace(ROOT / "workloads" / f"{TRAINED[images_of]}.npz")


@dataclass(frozen=True)
class Run:
    """A :class:`archsim.Report` of a machine of ``hwconfigs`` on a workload, with the workload's timesteps.

    As in the study, the direct encoder is left out.
    Outputs are compared with the trace's but for lossy converters and for traces that lack their beginning.
    """

    machine: str
    workload: Any
    overrides: tuple[str, ...] = ()

    def perform(self, folder: Path) -> Any:
        return run(
            ROOT / "hwconfigs" / f"{self.machine}.yaml",
            self.workload.path(folder),
            overrides=(f"timesteps={self.workload.timesteps}", "scheduler.encoder=skipped", *self.overrides),
            verify=self.machine != "spikesim" and not getattr(self.workload, "first", 0),
        )


def energy_pj(report: Any, *units: str) -> float:
    """Energy of a run, or of these units of the machine."""
    rows = report.rows("energy")
    return sum(row["energy_pj"] for row in rows if not units or row["unit"] in units)


def leakage_pj(report: Any, *units: str) -> float:
    """Energy that these units drew always."""
    rows = report.rows("energy")
    return sum(row["energy_pj"] for row in rows if row["unit"] in units and row["action"] == "leakage")


def area_mm2(report: Any, *units: str) -> float:
    """Area of a machine, or of these units of it."""
    return sum(row["area_mm2"] for row in report.rows("area") if not units or row["unit"] in units)


def cycles(report: Any) -> int:
    found: int = report.summary()["cycles"]
    return found


def edp(report: Any) -> float:
    """Energy times latency of a run."""
    return energy_pj(report) * cycles(report)


def chunks(timesteps: int, most: int = MOST_TIMESTEPS) -> dict[int, int]:
    """Lengths of the chunks of a run, and how often each occurs: as many of ``most`` timesteps as fit, and the rest."""
    whole, rest = divmod(timesteps, most)
    return {length: count for length, count in ((most, whole), (rest, 1)) if length and count}


@dataclass(frozen=True)
class Chunked:
    """A run longer than synthetic spikes are, added up of runs of its chunks: reports and how often each occurs.

    Chunks of equal length are one run, so spikes repeat. A chunk begins with potentials of zero and ends without them,
    and each begins cold: cycles are an upper bound. Two schedules follow from the same runs:

        layer by layer   all timesteps of a layer before the next layer, as SATA does: weights come from DRAM once,
                         potentials stay where they are. What the chunks but one paid for weights is taken off again.
        chunk by chunk   all layers for a chunk, then the next one: weights come anew with each, potentials go to DRAM
                         and come back between two.

    SpikeSim has its weights in arrays and its potentials in a memory, where they wait for the next timestep whether it
    is of this chunk or not: the reads and writes of a timestep are added between two chunks.
    """

    parts: tuple[tuple[Any, int], ...]

    @classmethod
    def of(cls, reports: Mapping[int, Any], timesteps: int, most: int = MOST_TIMESTEPS) -> Chunked:
        """The run of ``timesteps`` from the reports by the length of the chunk."""
        return cls(tuple((reports[length], count) for length, count in chunks(timesteps, most).items()))

    @property
    def between(self) -> int:
        """How often one chunk follows another."""
        return sum(count for _, count in self.parts) - 1

    def _sum(self, quantity: Callable[[Any], float]) -> float:
        return sum(count * quantity(report) for report, count in self.parts)

    def cycles(self) -> int:
        return int(self._sum(cycles))

    def energy_pj(self) -> float:
        """Layer by layer."""
        first = self.parts[0][0]
        return self._sum(energy_pj) + self.between * (_kept_pj(first) - _weights_pj(first))

    def energy_chunk_by_chunk_pj(self) -> float:
        first = self.parts[0][0]
        return self._sum(energy_pj) + self.between * (_kept_pj(first) + _moved_pj(first))


def _price_pj(report: Any, unit: str, action: str) -> float:
    """Energy of one such action; 0 if there was none."""
    rows = [row for row in report.rows("energy") if (row["unit"], row["action"]) == (unit, action)]
    count = sum(row["count"] for row in rows)
    return sum(row["energy_pj"] for row in rows) / count if count else 0.0


def _traffic(report: Any, level: str, tensor: str, direction: str, what: str) -> int:
    wanted = (level, tensor, direction)
    rows = report.rows("traffic")
    return sum(row[what] for row in rows if (row["level"], row["tensor"], row["direction"]) == wanted)


def _weights_pj(report: Any) -> float:
    """What weights cost on their way from DRAM into their buffer."""
    bits = 8 * _traffic(report, "dram", "weight", "read", "bytes")
    filled = sum(
        row["energy_pj"] for row in report.rows("energy") if (row["unit"], row["action"]) == ("weight_buffer", "write")
    )
    return bits * _price_pj(report, "dram", "read_bits") + filled


def _kept_pj(report: Any) -> float:
    """Reads and writes of potentials, in the memory that keeps them, between two timesteps; 0 where registers do."""
    steps = report.summary()["timesteps"] - 1
    return sum(
        _traffic(report, "sram", "membrane", direction, "accesses") / steps
        * _price_pj(report, "membrane_sram", direction)
        for direction in ("read", "write")
    ) if steps else 0.0  # fmt: skip


def _moved_pj(report: Any) -> float:
    """All potentials of a machine that keeps them in registers to DRAM and back; 0 where a memory keeps them."""
    membrane = yaml.safe_load(report.resolved).get("membrane")
    if membrane is None:
        return 0.0
    updates = sum(row["count"] for row in report.rows("energy") if (row["unit"], row["action"]) == ("lif", "update"))
    bits = updates / report.summary()["timesteps"] * membrane["bits"]
    return bits * (_price_pj(report, "dram", "write_bits") + _price_pj(report, "dram", "read_bits"))
