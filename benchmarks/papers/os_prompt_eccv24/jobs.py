"""What the tables are made of: networks by shapes, the trained ones, and what machines make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from archsim import load_trace, run
from archsim.trace import save_trace
from archsim.trace.calibrated import calibrated
from archsim.trace.prompted import PHASES, VARIANTS, VIT_B16, Phase, Transformer, Variant, alone, part, passes

ROOT = Path(__file__).resolve().parents[3]
SMALL = Transformer(
    side=28, patch=7, colours=1, width=64, heads=4, hidden=128, depth=6, classes=10, pool=25
)  # fmt: skip
"""The transformer of workloads/recipes/train_prompts.py."""
TRAINED = {"two_stage": "two_stage_prompt", "os": "os_prompt"}
FIRST = "query."
"""How the names of the first stage's operations begin."""
Stage = Literal["whole", "first", "second", "given"]
"""All of a workload, a stage of two, or a pass whose prefixes are given: attention waits for no prompt."""


def synthetic(plan: Any, name: str, images: int = 1) -> Any:
    """A trace of ``plan`` with operands that are made up."""
    labels = {"kind": "synthetic", "weights": "synthetic", "source": "archsim.trace.prompted"}
    return calibrated(plan, 0.5, labels, network=name, timesteps=1, images=images, seed=0)


@dataclass(frozen=True)
class Kinds:
    """Every kind of operation of ViT-B/16, of all variants, once."""

    def path(self, folder: Path) -> Path:
        return folder / "vit_b16_kinds.npz"

    def write(self, folder: Path) -> None:
        steps = [step for phase in PHASES for variant in VARIANTS for step in passes(VIT_B16, variant, phase).steps]
        save_trace(synthetic(alone(steps), "vit_b16_kinds"), self.path(folder))


@dataclass(frozen=True)
class Small:
    """The small transformer with operands that are made up."""

    variant: Variant
    phase: Phase
    stage: Stage = "whole"
    images: int = 1

    def path(self, folder: Path) -> Path:
        return folder / f"{self.variant}_{self.phase}_{self.stage}_{self.images}.npz"

    def write(self, folder: Path) -> None:
        steps = passes(SMALL, self.variant, self.phase).steps
        if self.stage == "given":
            steps = [step for step in steps if ".prompt." not in step.name]
        elif self.stage != "whole":
            steps = [step for step in steps if step.name.startswith(FIRST) == (self.stage == "first")]
        save_trace(synthetic(part(steps), "small", self.images), self.path(folder))


@dataclass(frozen=True)
class Trained:
    """The trained small transformer on its first image."""

    variant: Variant
    stage: Stage = "whole"

    def path(self, folder: Path) -> Path:
        return folder / f"{self.variant}_{self.stage}.npz"

    def write(self, folder: Path) -> None:
        trace = load_trace(ROOT / "workloads" / f"{TRAINED[self.variant]}.npz")
        chosen = [
            operation.name
            for operation in trace.operations
            if self.stage == "whole" or operation.name.startswith(FIRST) == (self.stage == "first")
        ]
        save_trace(trace.select(layers=chosen, images=[0]), self.path(folder))


@dataclass(frozen=True)
class Run:
    """What a machine makes of a workload."""

    machine: str
    workload: Kinds | Small | Trained
    overrides: tuple[str, ...] = ()
    verify: bool = True

    def perform(self, folder: Path) -> dict[str, Any]:
        report = run(
            ROOT / "hwconfigs" / f"{self.machine}.yaml", self.workload.path(folder), overrides=self.overrides,
            verify=self.verify,
        )  # fmt: skip
        summary = report.summary()
        traffic = report.frame("traffic")
        dram = traffic[(traffic.level == "dram") & (traffic.direction == "read")]
        weights = dram[dram.tensor == "weight"].groupby("layer")["bytes"].sum()
        layers = report.frame("layers").groupby("layer", sort=False)[
            ["cycles", "energy_pj", "dram_read_bytes", "dram_write_bytes"]
        ].sum()  # fmt: skip
        layers["weight_bytes"] = weights.reindex(layers.index).fillna(0).astype("int64")
        return {
            "layers": layers.to_dict("index"),
            "rows": summary.get("fitted_noc_rows"),
            "weight_bytes": int(layers["weight_bytes"].sum()),
            **{
                name: summary[name]
                for name in ("cycles", "energy_pj", "area_mm2", "dram_read_bytes", "dram_write_bytes", "mismatches")
            },
        }


@dataclass(frozen=True)
class TwoPasses:
    """The stages one after the other on a chip that holds the second one; the first uses the same arrays."""

    machine: str
    stages: tuple[Small | Trained, Small | Trained]

    @property
    def workload(self) -> TwoPasses:
        return self

    def path(self, folder: Path) -> Path:
        return folder

    def write(self, folder: Path) -> None:
        for stage in self.stages:
            stage.write(folder)

    def perform(self, folder: Path) -> dict[str, Any]:
        first, second = self.stages
        found = Run(self.machine, second, ("noc.rows=fit",)).perform(folder)
        before = Run(self.machine, first, (f"noc.rows={found['rows']}",)).perform(folder)
        added = ("cycles", "energy_pj", "dram_read_bytes", "dram_write_bytes", "mismatches", "weight_bytes")
        return {**found, **{name: found[name] + before[name] for name in added}}


def stages(workload: Small | Trained) -> tuple[Small | Trained, Small | Trained]:
    """Both stages of a workload of two."""
    return replace(workload, stage="first"), replace(workload, stage="second")


def counted(counts: Sequence[tuple[str, int]], layers: dict[str, dict[str, float]], column: str) -> float:
    """The sum of a column over operations by name, each as often as it is there; what moves nothing has no row."""
    return sum(number * layers[name][column] for name, number in counts if name in layers)
