"""How fast is the engine? Ratios within one run, so that they mean the same on every computer.

    python benchmarks/engine.py [HW ...] [--trace TRACE] [--images N] [--reference-layer NAME] [-o CSV]

A row for each machine, by default LoAS, SATA, its training and SpikeSim:

* engine seconds of the whole trace, best of three, warm; joins (pairs of 128-bit chunks of LoAS) per second;
* the compiled against the reference engine, on one small layer, whose cycles must be equal;
* the counting floor: one compiled loop that ANDs and counts the same chunk pairs and keeps one serial recurrence;
* seconds of a first run ever, with an empty kernel cache, in another process; seconds and peak memory of the next.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from archsim.compress.bitmask import popcount
from archsim.dataflow.base import Accelerator, EngineName
from archsim.dataflow.layer import Layer, layer_of
from archsim.jit import kernel
from archsim.simulate import load_accelerator
from archsim.trace import Trace, load_trace

ROOT = Path(__file__).parent.parent
MACHINES = ("loas", "sata", "sata_training", "spikesim")


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
    parser.add_argument(
        "hardware", nargs="*", type=Path, default=[ROOT / "hwconfigs" / f"{name}.yaml" for name in MACHINES]
    )
    parser.add_argument("--trace", type=Path, default=ROOT / "workloads" / "vgg16_dual_sparse.npz")
    parser.add_argument("--images", type=int, default=1, help="images of the trace to run; the paper's batch is 1")
    parser.add_argument("--reference-layer", default="fc")
    parser.add_argument("-o", "--output", type=Path, help="also write the table as CSV")
    arguments = parser.parse_args()
    trace = load_trace(arguments.trace).select(images=range(arguments.images))
    rows = []
    for hardware in arguments.hardware:
        rows.append(measured(hardware, arguments.trace, trace, arguments.reference_layer))
        if len(rows) == 1:
            print(*rows[0], sep="\t")
        print(*rows[-1].values(), sep="\t", flush=True)
    if arguments.output:
        with arguments.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def measured(hardware: Path, path: Path, trace: Trace, small: str) -> dict[str, Any]:
    """The row of a machine on ``trace`` from ``path``."""
    timesteps = f"timesteps={trace.timesteps}"
    machine = load_accelerator(hardware, [timesteps])
    layers = [layer_of(trace, operation) for operation in machine.layers(trace)]
    joins = sum(layer.m * layer.n * (layer.inputs.mask.shape[1] // 2) for layer in layers)
    part = trace.select(layers=[small])
    fast = engine(machine, part, "compiled")  # also compiles what is not in the cache
    slow = engine(machine, part, "reference")
    if fast[0] != slow[0]:
        raise SystemExit(f"the engines disagree on {small}: {fast[0]} and {slow[0]} cycles")
    fast = engine(machine, part, "compiled")
    floor(layers[-1].inputs.mask, layers[-1].weights.mask, 2)
    runs = [engine(machine, trace, "compiled") for _ in range(3)]
    engine_s, floor_s = min(seconds for _, seconds in runs), min(counted(layers) for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "archsim", "run", str(hardware), str(path), "--set", timesteps, "-o", "result"]
        first_s, _ = shell(command, Path(folder))
        again_s, memory_mib = shell(command, Path(folder))
    return {
        "machine": hardware.stem,
        "images": trace.images,
        "joins": joins,
        "cycles": runs[0][0],
        "engine_s": round(engine_s, 4),
        "joins_per_s": round(joins / engine_s),
        "ratio_to_counting_floor": round(engine_s / floor_s, 1),
        "reference_to_compiled": round(slow[1] / fast[1], 1),
        "first_run_ever_s": round(first_s, 1),
        "run_from_shell_s": round(again_s, 1),
        "peak_memory_mib": memory_mib,
    }


def engine(machine: Accelerator, trace: Trace, name: EngineName) -> tuple[int, float]:
    """Cycles of a trace, and the seconds in which the engine computed them."""
    results = list(machine.run_layers(trace, machine.layers(trace), name, verify=True, record=False))
    return sum(result.share for result in results), sum(result.engine_wall_s for result in results)


def counted(layers: Sequence[Layer]) -> float:
    """Seconds of the counting floor."""
    started = perf_counter()
    for layer in layers:
        floor(layer.inputs.mask, layer.weights.mask, 2)
    return perf_counter() - started


def shell(command: Sequence[str], folder: Path) -> tuple[float, int]:
    """Seconds and peak memory [MiB] of a command in ``folder``, with the kernel cache that is there."""
    started = perf_counter()
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache")}
    child = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {child.returncode}")
    return perf_counter() - started, usage.ru_maxrss // 1024


if __name__ == "__main__":
    main()
