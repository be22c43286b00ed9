"""What runs: one step of training of MS-ResNet18, trained and stored, or drawn in any size and mode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.cost import energy_rows, load_table
from archsim.errors import UsageError
from archsim.simulate import load_accelerator, run
from archsim.trace import Neuron, Operation, Trace, load_trace, save_trace
from archsim.trace.tensor_train import RHO, Convolution, Mode, ms_resnet

ROOT = Path(__file__).resolve().parents[3]
HARDWARE = ROOT / "hwconfigs"
CLUSTERS = ("tt_snn_training",)
ONE_ARRAY = ("sata_training", "pe.rows=64")
INFERENCE = ("loas", "sata")
"""Machines that run merged networks."""
STAGES = ("forward", "potential_gradient", "backward", "update")


@dataclass(frozen=True)
class Trained:
    """A stored step of training; nothing is written."""

    mode: Mode

    def path(self, folder: Path) -> Path:
        return ROOT / "workloads" / f"ms_resnet18_{self.mode}_step.npz"

    def write(self, folder: Path) -> None:
        return


@dataclass(frozen=True)
class Merged:
    """A trained network whose sub-convolutions are merged back into ordinary convolutions; nothing is written."""

    mode: Mode

    def path(self, folder: Path) -> Path:
        home = ROOT / "workloads" if self.mode == "htt" else Path(__file__).parent / "traces"
        return home / f"ms_resnet18_{self.mode}.npz"

    def write(self, folder: Path) -> None:
        return


@dataclass(frozen=True)
class Inference:
    """A merged network on a machine, every output compared."""

    workload: Merged
    machine: str

    def perform(self, folder: Path) -> dict[str, Any]:
        summary = run(HARDWARE / f"{self.machine}.yaml", self.workload.path(folder)).summary()
        return {name: summary[name] for name in ("cycles", "energy_pj", "coverage", "verified", "mismatches")}


@dataclass(frozen=True)
class Drawn:
    """The 3x3 convolutions of MS-ResNet18 behind a maximum of 2x2, one step of training, each with spikes of its own.

    Values between the sub-convolutions are nowhere zero at timesteps at which they exist. ``coarse``: sub-convolutions
    of a layer of stride 2 work at the resolution of its output, which is less than any way to compute it.
    """

    mode: Mode
    rho: float = RHO
    timesteps: int = 4
    width: int = 16
    side: int = 14
    images: int = 1
    density: float = 0.2
    gradient_density: float = 0.5
    coarse: bool = False

    def path(self, folder: Path) -> Path:
        return folder / f"{'-'.join(str(value) for value in vars(self).values())}.npz"

    def write(self, folder: Path) -> None:
        save_trace(self.trace(), self.path(folder))

    def trace(self) -> Trace:
        draw, operations, tensors = np.random.default_rng(0), [], {}
        network = ms_resnet(18, side=self.side, classes=10, channels=1, width=self.width, ranks=self.rho)
        for layer in network:
            if layer.rank is not None:
                found, values = (self._dense if self.mode == "dense" else self._train)(layer, draw)
                operations += found
                tensors |= values
        if self.mode == "htt":
            tensors["gate"] = self._open(True)[:, None, None, None, None].repeat(self.images, 1)
        labels = {"kind": "synthetic", "weights": "synthetic", "seed": 0}
        return Trace(
            network=f"ms_resnet18_{self.mode}", timesteps=self.timesteps, operations=operations, tensors=tensors,
            provenance=labels,
        )  # fmt: skip

    def _open(self, inner: bool) -> NDArray[np.bool_]:
        return np.arange(self.timesteps) < (self.timesteps // 2 if inner and self.mode == "htt" else self.timesteps)

    def _dense(self, layer: Convolution, draw: np.random.Generator) -> tuple[list[Operation], dict[str, Any]]:
        spikes = self._spikes(layer.inputs, layer.side_in, draw)
        operation = Operation(
            layer.name, "conv2d", (f"{layer.name}.in",), f"{layer.name}.out", padding=(1, 1),
            stride=(2, 2) if layer.side < layer.side_in else (1, 1),
            weight=draw.integers(-127, 128, (layer.outputs, layer.inputs, 3, 3)).astype(np.int8),
            neuron=self._neuron(layer),
            gradient_mask=self._mask(layer.outputs, layer.side, self.gradient_density, draw),
        )  # fmt: skip
        return [operation], {f"{layer.name}.in": spikes}

    def _train(self, layer: Convolution, draw: np.random.Generator) -> tuple[list[Operation], dict[str, Any]]:
        name, rank, side = layer.name, layer.rank or 1, layer.side if self.coarse else layer.side_in
        tensors: dict[str, Any] = {f"{name}.in": self._spikes(layer.inputs, side, draw)}
        operations: list[Operation] = []

        def add(part: str, source: str, inputs: int, outputs: int, kernel: tuple[int, int], inner: bool) -> str:
            mask = self._mask(outputs, side, self.gradient_density if part == "c4" else 1.0, draw)
            opened = self._open(inner)
            operations.append(
                Operation(
                    f"{name}.{part}", "conv2d", (source,), f"{name}.{part}", padding=(kernel[0] // 2, kernel[1] // 2),
                    weight=draw.integers(-127, 128, (outputs, inputs, *kernel)).astype(np.int8),
                    gradient_mask=mask & opened[:, None, None, None, None],
                )
            )  # fmt: skip
            tensors[f"{name}.{part}"] = self._values(outputs, side, opened)
            return f"{name}.{part}"

        source = add("c1", f"{name}.in", layer.inputs, rank, (1, 1), False)
        if self.mode == "htt":
            operations.append(Operation(f"{name}.first", "multiply", (source, "gate"), f"{name}.first"))
            source = f"{name}.first"
            tensors[source] = self._values(rank, side, self._open(True))
        second = add("c2", source, rank, rank, (3, 1), True)
        source = add("c3", second if self.mode == "stt" else source, rank, rank, (1, 3), True)
        if self.mode != "stt":
            operations.append(Operation(f"{name}.join", "add", (second, source), f"{name}.join"))
            source = f"{name}.join"
            tensors[source] = self._values(rank, side, self._open(False))
        source = add("c4", source, rank, layer.outputs, (1, 1), False)
        neuron = self._neuron(layer)
        if neuron is not None:
            operations.append(Operation(f"{name}.neurons", "add", (source,), f"{name}.out", neuron=neuron))
        return operations, tensors

    def _spikes(self, channels: int, side: int, draw: np.random.Generator) -> NDArray[np.bool_]:
        return draw.random((self.timesteps, self.images, channels, side, side)) < self.density

    def _values(self, channels: int, side: int, opened: NDArray[np.bool_]) -> NDArray[np.int32]:
        values = np.ones((self.timesteps, self.images, channels, side, side), np.int32)
        return values * opened[:, None, None, None, None]

    def _mask(self, channels: int, side: int, density: float, draw: np.random.Generator) -> NDArray[np.bool_]:
        return draw.random((self.timesteps, self.images, channels, side, side)) < density

    def _neuron(self, layer: Convolution) -> Neuron | None:
        """Only the first convolution of a block has neurons directly behind it."""
        if not layer.name.endswith("conv1"):
            return None
        return Neuron("lif", np.full(layer.outputs, 200), 2, 2 * (self.timesteps - 1), fires_at_threshold=True)


@dataclass(frozen=True)
class Run:
    """One step on a machine: cycles and energy by stage, bytes of DRAM, and cycles in which each cluster works."""

    workload: Trained | Drawn
    machine: tuple[str, ...] = CLUSTERS

    def perform(self, folder: Path) -> dict[str, Any]:
        trace = load_trace(self.workload.path(folder))
        name, *overrides = self.machine
        machine = load_accelerator(HARDWARE / f"{name}.yaml", overrides).specialised_for(trace)
        problems = machine.problems(trace)
        if problems:
            raise UsageError(problems)
        table, inventory = load_table(machine.cost_table), machine.inventory()
        found: dict[str, Any] = {"images": trace.images, "dram_bytes": 0, "mismatches": 0, "busy": {}}
        found |= {f"{stage}_{what}": 0 for stage in STAGES for what in ("cycles", "pj")}
        verify = isinstance(self.workload, Trained)
        for result in machine.run_layers(trace, machine.layers(trace), "compiled", verify=verify, record=False):
            stage = result.layer.rsplit(".", 1)[1]
            rows = energy_rows(result.actions, inventory, table, result.cycles, machine.clock_mhz)
            found[f"{stage}_cycles"] += result.cycles
            found[f"{stage}_pj"] += sum(row.energy_pj for row in rows)
            found["dram_bytes"] += sum(row.bytes for row in result.traffic if row.level == "dram")
            found["mismatches"] += result.mismatches or 0
            for unit in result.units:
                if unit.unit in ("cluster", "adder"):
                    key = stage, unit.unit, unit.instance
                    busy, cycles = found["busy"].get(key, (0, 0))
                    found["busy"][key] = busy + unit.busy_cycles, cycles + result.cycles
        for what in ("cycles", "pj"):
            found[what] = sum(found[f"{stage}_{what}"] for stage in STAGES)
        return found


def modes() -> Iterator[Mode]:
    """Those whose trained step is stored."""
    for mode in ("dense", "stt", "ptt", "htt"):
        if Trained(mode).path(Path()).exists():
            yield mode
