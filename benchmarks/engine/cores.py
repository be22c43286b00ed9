"""One core against all, and what more cores would bring by a schedule of layers as they were measured.

Layers are handed out in their order, the next one to the first core that is free (:mod:`archsim.threads`); so the
schedule is that of a list, and the longest layer bounds it. Points of a sweep and machines of a comparison are
independent too, and there are as many of them as one likes.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import process_time

from clock import Row, Spent, archsim, call

from archsim.simulate import load_accelerator
from archsim.trace import load_trace, save_trace

TRACE = Path(__file__).resolve().parents[2] / "workloads" / "vgg16_dual_sparse.npz"
WORKERS = (1, 2, 4, 8, 16)


def rows() -> Iterator[Row]:
    """VGG16 with one job and all: its layers, and whole runs; schedules of its layers and of the points of a sweep."""
    path, every = TRACE, os.cpu_count() or 1
    trace = load_trace(path)
    machine = load_accelerator("loas").specialised_for(trace)

    def layers(jobs: int) -> None:
        for _ in machine.run_layers(trace, machine.layers(trace), "compiled", verify=True, record=False, jobs=jobs):
            pass

    alone = {jobs: call(lambda jobs=jobs: layers(jobs)) for jobs in sorted({1, every})}
    yield from (_row("layers of vgg16_dual_sparse", jobs, spent, alone[1]) for jobs, spent in alone.items())
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        whole = {jobs: _run(path, jobs, folder) for jobs in sorted({1, every})}
        yield from (_row("run of vgg16_dual_sparse", jobs, spent, whole[1]) for jobs, spent in whole.items())
        single = folder / "one_image.npz"
        save_trace(trace.select(images=[0]), single)
        one = {jobs: _run(single, jobs, folder) for jobs in sorted({1, every})}
        yield from (_row("run of its first image", jobs, spent, one[1]) for jobs, spent in one.items())
    measured = []
    for operation in machine.layers(trace):
        started = process_time()
        list(machine.run_layers(trace, [operation], "compiled", verify=True, record=False))
        measured.append(process_time() - started)
    yield from _scheduled("schedule of the layers of vgg16_dual_sparse", measured)
    point = call(lambda: layers(1), 1).processor_s
    yield from _scheduled("schedule of 1,000 points of a sweep", [point] * 1000)


def _run(path: Path, jobs: int, folder: Path) -> Spent:
    """The least of three."""
    found = [archsim(["run", "loas", path, "--jobs", str(jobs), "-o", "result"], folder) for _ in range(4)]
    return min(found, key=lambda spent: spent.wall_s)


def _row(what: str, jobs: int, spent: Spent, one: Spent) -> Row:
    return {"what": what, "workers": jobs, **spent._asdict(), "times_one": one.wall_s / spent.wall_s}


def _scheduled(what: str, seconds: Sequence[float]) -> Iterator[Row]:
    for workers in WORKERS:
        end = makespan(seconds, workers)
        spent = Spent(end, sum(seconds))
        yield {"what": what, "workers": workers, **spent._asdict(), "times_one": sum(seconds) / end}


def makespan(seconds: Sequence[float], workers: int) -> float:
    """When the last of these pieces ends, each begun by the first worker that is free, in this order."""
    free = [0.0] * workers
    for piece in seconds:
        heapq.heapreplace(free, free[0] + piece)
    return max(free)
