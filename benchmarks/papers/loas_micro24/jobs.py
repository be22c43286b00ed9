"""What the tables are made from: networks as trace files, runs of machines on them, and a pool that performs both."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from archsim.simulate import run
from archsim.trace import import_spikes, load_trace, save_trace, statistics, synthesize

ROOT = Path(__file__).resolve().parents[3]
MACHINES = ROOT / "hwconfigs"
RECORDED = ROOT.parent / "shared" / "traces"  # --traces names another folder
# Weight sparsities of Table II with the digits of the authors' artifact, for spikes that were recorded without weights.
WEIGHT_SPARSITY = {"alexnet": 0.98264, "vgg16": 0.98228}
TITLES = {"alexnet": "AlexNet", "vgg16": "VGG16", "resnet19": "ResNet19"}


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


class Job(Protocol):
    @property
    def workload(self) -> Workload: ...
    def perform(self, folder: Path) -> Any: ...


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
        return run(self.hardware, self.workload.path(folder), overrides=self.overrides)


@dataclass(frozen=True)
class Count:
    """The statistics of a workload, layer by layer."""

    workload: Workload

    def perform(self, folder: Path) -> Any:
        return statistics(load_trace(self.workload.path(folder)))


def perform(jobs: Iterable[Job], processes: int) -> dict[Job, Any]:
    """The result of every job; equal jobs are performed once. A progress bar on a terminal, silent in a pipe."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    wanted = list(dict.fromkeys(jobs))
    workloads = list(dict.fromkeys(job.workload for job in wanted))
    columns = (TextColumn("{task.description:<15}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(min(processes, len(wanted)), multiprocessing.get_context("spawn")) as pool,
        Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress,
    ):
        folder = Path(name)

        def each(text: str, tasks: Mapping[Any, Callable[[Path], Any]]) -> dict[Any, Any]:
            bar = progress.add_task(text, total=len(tasks))
            futures = {pool.submit(task, folder): key for key, task in tasks.items()}
            results = {}
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                progress.advance(bar)
            return results

        try:
            each("writing traces", {workload: workload.write for workload in workloads})
            return each("simulating", {job: job.perform for job in wanted})
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
