"""Prosperity's public simulator (dubcyfor3/Prosperity): product sparsity of the same spikes, layer by layer.

One image of the shipped networks, and matrices with few or many timesteps. Its routine for a product runs on the CPU
as it is, for tiles of 256 x 16 and 128 adders. A stand-in takes the place of its module for GPUs, which is not called.

Its cycles are the larger of all additions and all searches of a layer. A machine with two tables can search a tile
only while the one before is added up, and its neurons fire behind an output tile: ours is what follows from the
simulator's own counts of every tile, by the recurrence of :func:`pipelined`. Where a tile of whole positions has fewer
than 256 rows, the simulator runs with such tiles.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import ceil
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from comparison import Rule

from archsim import load_trace
from archsim.dataflow.layer import Layer
from archsim.dataflow.layer_machine import LayerMachine
from archsim.simulate import load_accelerator
from archsim.trace import Trace
from tests.machines import dense, mlp

ROOT = Path(__file__).resolve().parents[2]
TITLE = "Prosperity's simulator"
INSTALL = "a clone of github.com/dubcyfor3/Prosperity as --checkout, and pip install torch networkx pandas"
NETWORKS = ("vgg9_dual_sparse", "vgg16_dual_sparse")
COUNTED = {"spikes": "ori_nnzs", "spikes_left": "processed_nnzs", "exact_match_rows": "num_EM_row",
           "partial_match_rows": "num_PM_row"}  # fmt: skip
"""Quantities, and the simulator's lists of them by tile."""
ROWS, LANES, DEPTH = 256, 128, 16
PIPELINE = (
    "ours: theirs takes the larger of all adding and all searching of the layer, without neurons; ours is its tiles in "
    "a machine with two tables"
)


class Case(NamedTuple):
    """A layer of a shipped network, or a layer of spikes drawn from a seed."""

    network: str = ""
    layer: str = ""
    m: int = 0
    n: int = 0
    k: int = 0
    timesteps: int = 4
    density: float = 0.2


MATRICES = (
    Case("", "", 196, 384, 384, 4, 0.15), Case("", "", 64, 512, 640, 4, 0.12), Case("", "", 64, 96, 33, 1, 0.3),
    Case("", "", 90, 130, 50, 3, 0.2), Case("", "", 128, 64, 70, 5, 0.2), Case("", "", 40, 200, 100, 8, 0.1),
    Case("", "", 33, 17, 47, 16, 0.25), Case("", "", 70, 129, 31, 4, 0.6), Case("", "", 50, 20, 40, 4, 1.0),
    Case("", "", 50, 20, 40, 4, 0.0), Case("", "", 1, 1, 1, 4, 0.5),
)  # fmt: skip


@cache
def _trace(network: str) -> Trace:
    return load_trace(ROOT / "workloads" / f"{network}.npz").select(images=[0])


def _cases() -> Iterable[tuple[str, Case]]:
    for network in NETWORKS:
        for operation in _trace(network).operations:
            if operation.op in ("conv2d", "linear") and _trace(network).kind(operation.inputs[0]) == "spike":
                yield f"{network} {operation.name}", Case(network, operation.name)
    for case in MATRICES:
        yield f"{case.m}x{case.n}x{case.k}, T = {case.timesteps}, {case.density:.0%} spikes", case


CASES = dict(_cases())


def _layer(case: Case) -> tuple[LayerMachine, Layer]:
    """The machine and the layer that it is given."""
    trace = _trace(case.network) if case.network else mlp(case.k, case.m, case.n, case.k, case.timesteps, case.density)
    machine = load_accelerator("prosperity", ("memory.ideal=true", "scheduler.tiles=across_images")).specialised_for(
        trace
    )
    (operation,) = (one for one in machine.layers(trace) if one.name == (case.layer or "fc"))
    (piece,) = (one for one in machine.pieces(trace, operation, True) if isinstance(one, Layer))
    return machine, piece


def ours(case: Case) -> dict[str, float]:
    machine, layer = _layer(case)
    found = machine.run_layer(layer, "compiled", verify=True, record=False)
    return {name: ceil(layer.n / LANES) * found.events[name] for name in COUNTED} | {
        "adding_cycles": found.compute_cycles, "cycles": found.cycles,
    }  # fmt: skip


def load(checkout: str | None) -> ModuleType:
    if checkout is None:
        raise ImportError("no clone was given")
    sys.path.insert(0, str(Path(checkout) / "simulator"))
    sys.modules["prosparsity_engine"] = ModuleType("its kernels for GPUs, which nothing here calls")
    import simulator

    return simulator


def version(peer: ModuleType) -> str:
    folder = Path(str(peer.__file__)).parent
    done = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True)
    return f"dubcyfor3/Prosperity {done.stdout.strip() or 'unknown commit'}"


class Tile(NamedTuple):
    """A tile of spikes against 128 columns: its rows, how many are searched, and cycles of adding up."""

    rows: int
    searched: int
    adding: int


def theirs(peer: ModuleType, case: Case) -> dict[str, float]:
    import accelerator
    import networks
    import torch

    _, layer = _layer(case)
    words, _ = dense(layer)
    spikes = np.stack([words >> t & 1 for t in range(layer.timesteps)])
    operator = networks.FC("fc", layer.k, layer.n, layer.m, 1, layer.timesteps)
    machine = accelerator.Accelerator("Prosperity", LANES, 32, ROWS // layer.timesteps * layer.timesteps, DEPTH)
    searched, found, searching = [], dict[str, float](), peer.get_prosparsity_cycles

    def recorded(tile: torch.Tensor) -> int:
        searched.append((len(tile), searching(tile)))
        return searched[-1][1]

    peer.get_prosparsity_cycles = recorded
    peer.clear_global_stats()
    operator.activation_tensor.sparse_map = torch.from_numpy(spikes).float()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found["cycles"] = peer.Simulator(machine, [], "").run_fc(operator).compute_cycles
    finally:
        peer.get_prosparsity_cycles = searching
    tiles = [Tile(rows, count, added) for (rows, count), added in zip(searched, peer.ops_nnzs, strict=True)]
    found["adding_cycles"] = sum(tile.adding for tile in tiles)
    found["pipelined_cycles"] = pipelined(tiles, layer)
    return found | {name: sum(getattr(peer, of)) for name, of in COUNTED.items()}


def pipelined(tiles: Sequence[Tile], layer: Layer) -> int:
    """Cycles of ``tiles``, in order of rows, columns and K, in a machine with two tables and memory of a cycle.

    A tile is loaded in a cycle, at most 16 ahead. It is searched in one cycle per row with several spikes, one for
    every 8 rows and 4 of the pipeline, as soon as a table is free. Behind the last K of an output tile 32 neurons fire
    in 2 cycles per timestep, 4 cycles later, and write 1 KiB a cycle; there is room for two output tiles.
    """
    depths, columns = ceil(layer.k / DEPTH), ceil(layer.n / LANES)
    loaded = searched = added = fired = 0
    done: list[int] = []
    free: list[int] = []
    for index, tile in enumerate(tiles):
        if index % depths == 0 and len(free) >= 2:
            added = max(added, free[-2])
        loaded = max(loaded, done[index - 16] if index >= 16 else 0) + 1
        start = max(searched, loaded, done[index - 2] if index >= 2 else 0)
        searched = start + tile.searched + ceil(tile.rows / 8) + 4
        added = max(added, searched) + tile.adding
        done.append(added)
        if index % depths == depths - 1:
            wide = min(LANES, layer.n - index // depths % columns * LANES)
            positions = tile.rows // layer.timesteps
            written = ceil(positions * ceil(layer.n * layer.output_bits / 8) * wide / layer.n)
            fired = max(fired, added) + 4 + ceil(positions * wide / 32) * layer.timesteps * 2 + ceil(written / 1024)
            free.append(fired)
    return fired


def rules(case: Case, theirs: Mapping[str, float]) -> Iterable[Rule]:
    for name in COUNTED:
        yield Rule(name, name.split("_")[-1] if "rows" in name else "spikes", theirs[name], "equal")
    yield Rule("adding_cycles", "cycles", theirs["adding_cycles"], "equal")
    yield Rule("cycles", "cycles", theirs["pipelined_cycles"], PIPELINE)
