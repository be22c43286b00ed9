"""How fast is the engine? Ratios within one run, so that they mean the same on every computer.

    python benchmarks/engine.py [HW] [TRACE] [--images N] [--reference-layer NAME] [-o CSV]

* engine seconds of the whole trace, best of three, warm; joins (pairs of 128-bit chunks) per second;
* the compiled against the reference engine, on one small layer, whose cycles must be equal;
* the counting floor: one compiled loop that ANDs and counts the same chunk pairs and keeps one serial recurrence;
* peak memory, and the seconds of a first run ever, with an empty kernel cache, in another process.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from archsim.accelerators.base import layer_of
from archsim.compress.bitmask import popcount
from archsim.jit import kernel
from archsim.simulate import load_accelerator
from archsim.trace import load_trace

ROOT = Path(__file__).parent.parent


@kernel
def floor(a: Any, b: Any, overhead: int) -> int:
    """Cycles of all joins one after the other: the least that a simulator of them must do."""
    now = 0
    for n in range(b.shape[0]):
        for m in range(a.shape[0]):
            for word in range(0, a.shape[1], 2):
                matches = popcount(a[m, word] & b[n, word]) + popcount(a[m, word + 1] & b[n, word + 1])
                now = max(now + overhead + matches, now + 1)
    return now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hardware", nargs="?", type=Path, default=ROOT / "hwconfigs" / "loas.yaml")
    parser.add_argument("trace", nargs="?", type=Path, default=ROOT / "workloads" / "vgg16_dual_sparse.npz")
    parser.add_argument("--images", type=int, default=1, help="images of the trace to run; the paper's batch is 1")
    parser.add_argument("--reference-layer", default="fc")
    parser.add_argument("-o", "--output", type=Path, help="also write the table as CSV")
    arguments = parser.parse_args()

    machine = load_accelerator(arguments.hardware)
    trace = load_trace(arguments.trace).select(images=range(arguments.images))
    layers = [layer_of(trace, operation) for operation in machine.layers(trace)]
    joins = sum(layer.m * layer.n * (layer.inputs.mask.shape[1] // 2) for layer in layers)
    engine_s, floor_s = [], []
    machine.run_layer(layers[-1], "compiled", verify=True, record=False)
    floor(layers[-1].inputs.mask, layers[-1].weights.mask, 2)
    for _ in range(3):
        results = [machine.run_layer(layer, "compiled", verify=True, record=False) for layer in layers]
        engine_s.append(sum(result.engine_wall_s for result in results))
        started = perf_counter()
        for layer in layers:
            floor(layer.inputs.mask, layer.weights.mask, 2)
        floor_s.append(perf_counter() - started)

    small = next(layer for layer in layers if layer.name == arguments.reference_layer)
    fast, slow = (machine.run_layer(small, engine, verify=True, record=False) for engine in ("compiled", "reference"))
    if fast.cycles != slow.cycles:
        raise SystemExit(f"the engines disagree on {small.name}: {fast.cycles} and {slow.cycles} cycles")

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "archsim", "run", str(arguments.hardware), str(arguments.trace)]
        started = perf_counter()
        subprocess.run(
            [*command, "-o", f"{folder}/result"],
            check=True, capture_output=True, cwd=folder, env={**os.environ, "NUMBA_CACHE_DIR": f"{folder}/cache"},
        )  # fmt: skip
        cold_s = perf_counter() - started
        started = perf_counter()
        subprocess.run(
            [*command, "-o", f"{folder}/again"],
            check=True, capture_output=True, cwd=folder, env={**os.environ, "NUMBA_CACHE_DIR": f"{folder}/cache"},
        )  # fmt: skip
        warm_s = perf_counter() - started

    rows = [
        ("images", arguments.images),
        ("joins", joins),
        ("cycles", sum(result.cycles for result in results)),
        ("engine_s", round(min(engine_s), 4)),
        ("joins_per_s", round(joins / min(engine_s))),
        ("ratio_to_counting_floor", round(min(engine_s) / min(floor_s), 1)),
        ("reference_to_compiled", round(slow.engine_wall_s / fast.engine_wall_s, 1)),
        ("peak_memory_mib", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024),
        ("first_run_ever_s", round(cold_s, 1)),
        ("run_from_shell_s", round(warm_s, 1)),
    ]
    for name, value in rows:
        print(f"{name}\t{value}")
    if arguments.output:
        with arguments.output.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("quantity", "value"), *rows])


if __name__ == "__main__":
    main()
