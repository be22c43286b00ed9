"""What runs: a trained network on one test image, on a many-core chip, mapped in one of several ways."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.simulate import run
from archsim.trace import ImageSet, Trace, load_trace, save_trace
from archsim.trace.resimulation import given, run_images

ROOT = Path(__file__).resolve().parents[3]
NETWORKS = {
    "vgg9_evaluation": "VGG9", "depthwise": "depthwise", "spikformer": "Spikformer", "qkformer": "QKFormer",
    "sdt": "SDT",
}  # fmt: skip
"""Traces of spiking networks that have images to calibrate with and others to run."""
MACHINES = {"loihi1": (), "manycore": ("noc.rows=8", "pe.count=128")}
"""With as many cores as Loihi 1, so that all networks have a place."""
MAPPINGS = {
    "in_order": ("scheduler.mapping=in_order",),
    "neurons": ("scheduler.mapping=neurons",),
    "traffic": ("scheduler.mapping=traffic",),
    "operations": ("scheduler.mapping=operations",),
    "operations_of_run": ("scheduler.mapping=operations", "scheduler.calibration=run"),
}
CALIBRATION_IMAGES = 16
CAUSES = ("synapse", "soma", "host", "network", "barrier")


@dataclass(frozen=True)
class OneImage:
    """A trained network on test image number ``image``, with its training images to calibrate with."""

    network: str
    image: int

    def path(self, folder: Path) -> Path:
        return folder / f"{self.network}-{self.image}.npz"

    def write(self, folder: Path) -> None:
        trace = load_trace(ROOT / "workloads" / f"{self.network}.npz")
        tests, training = trace.evaluation, trace.calibration
        assert tests is not None and training is not None, "all networks have both"
        images = tests.images[self.image : self.image + 1]
        made = {**given(trace, images), **run_images(trace, images)}
        integers = {name: record for name, record in trace.meta.tensors.items() if record.kind == "int"}

        def stored(name: str) -> NDArray[Any]:
            values = made[name]
            if name in integers:
                if not integers[name].per_timestep and values.ndim == 2 + len(integers[name].shape):
                    values = values[0]
                values = values.astype(np.dtype(integers[name].dtype))
            return values

        names = [name for name in made if trace.stored(name)]
        one = Trace(
            network=trace.network, timesteps=trace.timesteps, operations=trace.operations,
            tensors={name: stored(name) for name in names}, kinds={name: trace.kind(name) for name in names},
            bits={name: record.bits for name, record in integers.items() if record.bits and name in names},
            scales={name: record.scale for name, record in integers.items() if name in names},
            provenance=trace.provenance,
            calibration=ImageSet(training.images[:CALIBRATION_IMAGES], training.labels[:CALIBRATION_IMAGES]),
        )  # fmt: skip
        save_trace(one, self.path(folder))


@dataclass(frozen=True)
class Run:
    """An image on a machine, every output compared."""

    workload: OneImage
    machine: str
    mapping: str

    def perform(self, folder: Path) -> dict[str, Any]:
        hardware = ROOT / "hwconfigs" / f"{self.machine}.yaml"
        report = run(
            hardware, self.workload.path(folder), overrides=(*MACHINES[self.machine], *MAPPINGS[self.mapping]), jobs=1
        )
        summary, links = report.summary(), {}
        for row in report.rows("links"):
            way = row["row"], row["column"], row["side"]
            links[way] = links.get(way, 0) + row["messages"]
        events, operations = summary["events"], [row["operations"] for row in report.rows("cores")]
        return {
            "cycles": summary["cycles"], "mismatches": summary["mismatches"], "cores": len(operations),
            "spikes": sum(row["count"] for row in report.rows("energy") if row["action"] == "spike"),
            "operations": sum(operations), "busiest": max(operations),
            "busiest_by_step": events["busiest_core_step_operations"], "messages": events["messages"],
            "hops": events["hops"], "busiest_link": max(links.values()),
            **{f"{cause}_cycles": events[f"critical_{cause}_cycles"] for cause in CAUSES},
        }  # fmt: skip
