"""Every machine on one image of a trained network: against the floor, the reference engine, and from the shell.

The counting floor is one compiled loop that ANDs and counts the chunk pairs of LoAS and keeps one serial recurrence:
the least that a simulator of joins must do. It is a yardstick for the other machines, which do not join. With ideal
memory no request waits for anything, so that time of the engine is that of agents, FIFOs and barriers.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import process_time
from typing import Any

from clock import Row, archsim, call

from archsim.compress.bitmask import popcount
from archsim.dataflow.base import Accelerator, EngineName
from archsim.dataflow.layer import Layer
from archsim.dataflow.layer_machine import LayerMachine
from archsim.engine import compiled, reference
from archsim.errors import EngineError
from archsim.jit import kernel
from archsim.simulate import load_accelerator
from archsim.trace import Trace, load_trace

ROOT = Path(__file__).resolve().parents[2]
ON_VGG16 = ("loas", "sparten_snn", "gospa_snn", "gamma_snn", "ptb", "stellar", "spinalflow", "prosperity", "gustav_snn",
            "sata", "systolic", "spikesim_lossless")  # fmt: skip
ON_VGG9 = ("imc_ideal", "manycore", "loihi1")
RUNS = (
    *((name, "vgg16_dual_sparse", "fc") for name in ON_VGG16), *((name, "vgg9_dual_sparse", "fc") for name in ON_VGG9),
    ("sata_training", "vgg9_training_step", "fc"), ("sparten", "cnn", "classifier"), ("gamma", "cnn", "classifier"),
)  # fmt: skip
"""Machines, traces, and the layer on which the engines are compared."""


@kernel
def floor(a: Any, b: Any, overhead: int) -> int:
    """Cycles of all joins one after the other."""
    now = 0
    for n in range(b.shape[0]):
        for m in range(a.shape[0]):
            for word in range(0, a.shape[1], 2):
                matches = popcount(a[m, word] & b[n, word]) + popcount(a[m, word + 1] & b[n, word + 1])
                now = max(now + overhead + matches, now + 1)
    return now


def rows() -> Iterator[Row]:
    """A row for each machine."""
    for name, network, small in RUNS:
        yield _row(name, network, small)


def _row(name: str, network: str, small: str) -> Row:
    path = ROOT / "workloads" / f"{network}.npz"
    trace = load_trace(path).select(images=[0])
    machine = load_accelerator(name).specialised_for(trace)
    part = trace.select(layers=[small])
    (fast, fast_s), (slow, slow_s) = engine(machine, part), engine(machine, part, "reference", 1)
    if fast != slow:
        raise EngineError(f"{name}: the engines disagree on {small}: {fast} and {slow} cycles")
    total, spent = engine(machine, trace)
    _, ideal_s = engine(load_accelerator(name, ["memory.ideal=true"]).specialised_for(trace), trace)
    layers = _layers(machine, trace)
    counting = call(lambda: [floor(layer.inputs.mask, layer.weights.mask, 2) for layer in layers]).processor_s
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        command = ["run", name, path, "-o", "result"]
        first, again = (archsim(command, folder, folder / "cache") for _ in range(2))
    return {
        "machine": name,
        "network": network,
        "cycles": total,
        "engine_processor_s": spent,
        "ideal_memory_processor_s": ideal_s,
        "ns_per_cycle": spent / total * 1e9,
        "ratio_to_counting_floor": spent / counting if layers else None,
        "reference_to_compiled": slow_s / fast_s,
        "first_run_wall_s": first.wall_s,
        "first_run_processor_s": first.processor_s,
        "next_run_wall_s": again.wall_s,
        "next_run_processor_s": again.processor_s,
        "next_run_memory_mib": again.memory_mib,
    }


def engine(machine: Accelerator, trace: Trace, name: EngineName = "compiled", times: int = 3) -> tuple[int, float]:
    """Cycles of a trace, and processor seconds of the engine alone, the least of so many runs."""
    found = []
    with on_the_processor():
        for _ in range(times + (name == "compiled")):
            results = list(machine.run_layers(trace, machine.layers(trace), name, verify=False, record=False))
            found.append((sum(result.share for result in results), sum(result.engine_wall_s for result in results)))
    return min(found, key=lambda pair: pair[1])


@contextlib.contextmanager
def on_the_processor() -> Iterator[None]:
    """Engines measure themselves in processor time."""
    clocks = compiled.perf_counter, reference.perf_counter
    compiled.perf_counter = reference.perf_counter = process_time
    try:
        yield
    finally:
        compiled.perf_counter, reference.perf_counter = clocks


def _layers(machine: Accelerator, trace: Trace) -> Sequence[Layer]:
    """Those with chunks to join; none on a chip that holds all layers at once."""
    if not isinstance(machine, LayerMachine):
        return []
    pieces = (piece for operation in machine.layers(trace) for piece in machine.pieces(trace, operation, False))
    return [piece for piece in pieces if isinstance(piece, Layer)]
