"""One core against all, and what more cores would bring by a schedule of layers as they were measured.

Layers that presumably take longest are handed out first (:func:`archsim.trace.work.effort`), the next one to the
first core that is free (:mod:`archsim.threads`); so the schedule is that of a list, and the longest layer bounds it.
Points of a sweep and machines of a comparison are independent too, and there are as many of them as one likes.
"""

from __future__ import annotations

import functools
import heapq
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from clock import Row, Spent, archsim, call

from archsim.simulate import load_accelerator
from archsim.trace import Operation, load_trace, save_trace
from archsim.trace.work import effort

WORKLOADS = Path(__file__).resolve().parents[2] / "workloads"
SCHEDULED = ("vgg16_dual_sparse", "vgg9_dual_sparse", "ms_resnet18_htt", "spikformer", "sdt", "qkformer")
"""Networks of 9 to 76 layers."""
SWEPT = "vgg9_dual_sparse"
WORKERS = (1, 2, 4, 8, 16)


def rows() -> Iterator[Row]:
    """VGG16 with one job and all: its layers, and whole runs; then schedules."""
    path, every = WORKLOADS / "vgg16_dual_sparse.npz", os.cpu_count() or 1
    trace = load_trace(path)
    machine = load_accelerator("loas").specialised_for(trace)

    def layers(jobs: int) -> None:
        for _ in machine.run_layers(trace, machine.layers(trace), "compiled", verify=True, record=False, jobs=jobs):
            pass

    alone = {jobs: call(lambda jobs=jobs: layers(jobs)) for jobs in sorted({1, every})}
    yield from (_row("layers of vgg16_dual_sparse", jobs, spent, alone[1].wall_s) for jobs, spent in alone.items())
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        whole = {jobs: _run(path, jobs, folder) for jobs in sorted({1, every})}
        yield from (_row("run of vgg16_dual_sparse", jobs, spent, whole[1].wall_s) for jobs, spent in whole.items())
        single = folder / "one_image.npz"
        save_trace(trace.select(images=[0]), single)
        one = {jobs: _run(single, jobs, folder) for jobs in sorted({1, every})}
        yield from (_row("run of its first image", jobs, spent, one[1].wall_s) for jobs, spent in one.items())
    yield from schedules()


def schedules() -> Iterator[Row]:
    """Layers of each network, all images of a layer one behind the other; and points of a sweep, which are alike."""
    for network in SCHEDULED:
        seconds = _layers(network)
        yield from _scheduled(f"schedule of the {len(seconds)} layers of {network}", seconds)
    yield from _scheduled(f"schedule of 1,000 points of {SWEPT}", [sum(_layers(SWEPT))] * 1000)


def _layers(network: str) -> list[float]:
    """Processor seconds of each layer, in the order in which they are handed out."""
    trace = load_trace(WORKLOADS / f"{network}.npz")
    machine = load_accelerator("loas").specialised_for(trace)

    def simulated(layer: Operation) -> None:
        list(machine.run_layers(trace, [layer], "compiled", verify=True, record=False))

    handed_out = sorted(machine.layers(trace), key=functools.partial(effort, trace), reverse=True)
    return [call(functools.partial(simulated, layer)).processor_s for layer in handed_out]


def _run(path: Path, jobs: int, folder: Path) -> Spent:
    """The least of three."""
    found = [archsim(["run", "loas", path, "--jobs", str(jobs), "-o", "result"], folder) for _ in range(4)]
    return min(found, key=lambda spent: spent.wall_s)


def _row(what: str, workers: int, spent: Spent, one_s: float) -> Row:
    return {"what": what, "workers": workers, **spent._asdict(), "times_one": one_s / spent.wall_s}


def _scheduled(what: str, seconds: Sequence[float]) -> Iterator[Row]:
    for workers in WORKERS:
        yield _row(what, workers, Spent(makespan(seconds, workers), sum(seconds)), sum(seconds))


def makespan(seconds: Sequence[float], workers: int) -> float:
    """When the last of these pieces ends, each begun by the first worker that is free, in this order."""
    free = [0.0] * workers
    for piece in seconds:
        heapq.heapreplace(free, free[0] + piece)
    return max(free)
