"""Measure the networks of ``train_first_spikes.py`` as integers, and write the traces of ``traces/``.

    python measure.py --checkpoints DIR --data DIR [-o DIR]

``results/measures.csv`` has a row for each network. Test items are the first 2,000 test images of Fashion-MNIST; for
the wave all 387 sources that were held out and 1,849 sources between the points of the grid. Writes what is not there
yet. Needs PyTorch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parent
# In front, as one of the recipes has the name of a module of Python.
sys.path[:0] = [str(FOLDER.parents[2]), str(FOLDER.parents[2] / "workloads" / "recipes")]

from wave import between  # noqa: E402

from export_first_spikes import blank, labelled, load, shown  # noqa: E402
from first_spikes import JOINS, FirstSpikes  # noqa: E402
from train_first_spikes import data_of  # noqa: E402

from archsim.report import files  # noqa: E402
from archsim.trace import Trace, save_trace  # noqa: E402
from archsim.trace.resimulation import run_times  # noqa: E402

TASKS = ("fashion_mnist", "wave")
SEEDS = (1, 2, 3)
TESTED = 2_000
"""Of Fashion-MNIST's test images."""
TRACED = 4
BATCH = 50
BLOCKS = ("block1", "block2")


def items(task: str, data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and classes to test with."""
    *_, images, labels = data_of(task, data)
    if task == "wave":
        more, others = between()
        return torch.cat((images, more)), torch.cat((labels, others))
    return images[:TESTED], labels[:TESTED]


class Sums:
    """Sums over items, to be made means."""

    def __init__(self) -> None:
        self.total: dict[str, float] = {}

    def add(self, name: str, values: NDArray[Any], where: NDArray[np.bool_] | None = None) -> None:
        """Add those ``values`` where something is, and how many they are."""
        chosen = values if where is None else values[where]
        self.total[name] = self.total.get(name, 0.0) + float(chosen.sum())
        self.total[f"{name} of"] = self.total.get(f"{name} of", 0.0) + chosen.size

    def mean(self, name: str) -> float:
        return self.total[name] / max(1.0, self.total[f"{name} of"])


def run(network: Trace, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> dict[str, float]:
    """What one network does with all test items."""
    hidden = [one.output for one in network.operations[:-1] if one.neuron is not None]
    last, timesteps, sums = network.operations[-1].output, network.timesteps, Sums()
    for start in range(0, len(images), BATCH):
        times = run_times(network, images[start : start + BATCH])
        first, found = times[last].min(1).astype(np.int64), times[last].argmin(1)
        decided = first < timesteps
        sums.add("accuracy", (found == labels[start : start + BATCH]) & decided)
        sums.add("undecided", ~decided)
        sums.add("latency", first, decided)
        until = np.minimum(first, timesteps)[:, None]
        flat = np.concatenate([times[name].reshape(len(first), -1) for name in hidden], 1)
        sums.add("spikes", (flat < timesteps).sum(1))
        sums.add("spikes_before", (flat < until).sum(1))
        for name, ticks in times.items():
            if name.startswith(BLOCKS):
                sums.add(name, ticks.astype(np.int64), ticks < timesteps)
    made = {name: sums.mean(name) for name in ("accuracy", "undecided", "latency", "spikes", "spikes_before")}
    for block in BLOCKS:
        made[f"{block}_conv"] = sums.mean(f"{block}.conv2")
        for name, tensor in (("earliest", "earliest"), ("beside", "delay"), ("joined", "join")):
            if f"{block}.{tensor}" in sums.total:
                made[f"{block}_{name}"] = sums.mean(f"{block}.{tensor}")
    return made


def delays_of(model: FirstSpikes) -> dict[str, float]:
    """Mean and deviation over channels of the delays, in ticks."""
    found: dict[str, float] = {}
    for block, delay in zip(BLOCKS, model.delays, strict=bool(model.delays)):
        ticks = delay.ticks().detach().round()
        found[f"{block}_delay"] = float(ticks.mean())
        found[f"{block}_delay_deviation"] = float(ticks.std(correction=0))
    return found


COLUMNS = (
    "task", "join", "seed", "samples", "tested", "float_accuracy", "accuracy", "undecided", "latency", "spikes",
    "spikes_before",
    *(
        f"{block}_{name}"
        for block in BLOCKS
        for name in ("conv", "earliest", "beside", "joined", "delay", "delay_deviation", "untrained_gap")
    ),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    given = parser.parse_args()
    for folder in (given.checkpoints, given.data):
        if not folder.is_dir():
            parser.error(f"{folder}: no such folder")
    torch.set_num_threads(1)
    known = given.output / "results" / "measures.csv"
    rows = pd.read_csv(known).to_dict("records") if known.exists() else []
    there = {(row["task"], row["join"], row["seed"]) for row in rows}
    for folder in ("results", "traces"):
        (given.output / folder).mkdir(parents=True, exist_ok=True)
    for task in TASKS:
        images = None
        for join in JOINS:
            for seed in SEEDS:
                path = given.checkpoints / f"first_spikes-{task}-{join}-{seed}.pt"
                if not path.exists() or (task, join, seed) in there:
                    continue
                if images is None:
                    images, labels = items(task, given.data)
                model, state = load(path)
                provenance = labelled(state, len(images), labels[:TRACED].tolist())
                network = blank(model, state, images, provenance)
                made = run(network, images.numpy(), labels.numpy())
                provenance["accuracy"] = made["accuracy"]
                save_trace(
                    shown(network, images[:TRACED].numpy(), provenance),
                    given.output / "traces" / f"{task}_{join}_{seed}.npz",
                )
                untrained = {
                    f"{block}_untrained_gap": state["history"][0][f"{block}.gap"]
                    for block in BLOCKS if join != "base"
                }  # fmt: skip
                values = made | delays_of(model) | untrained
                row = {"task": task, "join": join, "seed": seed, "samples": state["samples"], "tested": len(images)}
                row |= {"float_accuracy": round(state["measured"]["accuracy"], 4)} | values
                rows.append({key: float(f"{row[key]:.6g}") if key in values else row.get(key) for key in COLUMNS})
                rows.sort(key=lambda one: (TASKS.index(one["task"]), JOINS.index(one["join"]), one["seed"]))
                files.write_texts(given.output / "results", {"measures.csv": files.csv_text(rows, list(COLUMNS))})
                print(f"{task}, {join}, seed {seed}: {made['accuracy']:.4f}", flush=True)


if __name__ == "__main__":
    main()
