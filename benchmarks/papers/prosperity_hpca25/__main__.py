"""The table of times of Prosperity (HPCA 2025), ours beside its own, for one image or sentence of 16 workloads.

    python benchmarks/papers/prosperity_hpca25 [-o DIR] [--only NAME ...] [--jobs N]

Writes a CSV for each table and ``tables.md`` with all of them. Published numbers are in ``published.yaml``, shapes in
``networks.py``. Every machine has the clock of the published table, 500 MHz, and the memory of LoAS.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import exp, log
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path += [str(ROOT), str(Path(__file__).resolve().parents[1])]  # archsim, and what all papers' commands share

from command_line import command  # noqa: E402
from networks import NETWORKS  # noqa: E402
from paper_tables import Row, Table, deviation, parser, write  # noqa: E402

from archsim import load_trace, run  # noqa: E402
from archsim.trace import save_trace  # noqa: E402

SOURCE = "dubcyfor3/Prosperity 6ee1c6f, reference/"
CLOCK_MHZ = 500
MACHINES = {"prosperity": "Prosperity", "ptb": "PTB", "stellar": "Stellar"}
PUBLISHED = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text())
ACCURACY = {
    "what": "what", "point": "point", "quantity": "quantity", "unit": "unit", "ours": "ours", "theirs": "published",
    "source": "source", "kind": "kind",
}  # fmt: skip
"""The columns that all tables of accuracy have."""


@dataclass(frozen=True)
class Workload:
    """A network of the table, one image or sentence."""

    network: str

    def path(self, folder: Path) -> Path:
        return folder / f"{self.network}.npz"

    def write(self, folder: Path) -> None:
        save_trace(NETWORKS[self.network].trace(self.network, PUBLISHED[self.network]["density"]), self.path(folder))


@dataclass(frozen=True)
class Run:
    """What a machine makes of a workload, as counts; the published baselines run no products of activations."""

    machine: str
    workload: Workload

    def perform(self, folder: Path) -> dict[str, float]:
        path = self.workload.path(folder)
        layers = None
        if self.machine != "prosperity":
            layers = [operation.name for operation in load_trace(path).operations if operation.op != "matmul"]
        report = run(self.machine, path, layers=layers, verify=False, clock_mhz=CLOCK_MHZ)
        frame = report.frame("layers")
        found = {
            "ms": report.summary()["latency_s"] * 1e3,
            "compute_ms": float(frame.compute_cycles.sum()) / CLOCK_MHZ / 1e3,
        }
        if self.machine == "prosperity":
            weighted = frame[frame.op != "matmul"]
            inputs = float((weighted.m * weighted.k * weighted.timesteps).sum())
            found["density"] = float(weighted.spikes.sum()) / inputs
            found["product_density"] = float(weighted.spikes_left.sum()) / inputs
        return found


def _jobs() -> dict[tuple[str, str], Run]:
    return {
        (network, machine): Run(machine, Workload(network))
        for network, published in PUBLISHED.items()
        for machine in MACHINES
        if machine in published["ms"]
    }


@cache
def _cause(machine: str) -> str:
    return {
        "prosperity": "independent spikes leave more sums to add up than recorded ones: see the densities",
        "ptb": "a fold's drain recurs for every 16 outputs here and is paid once a position there",
        "stellar": "quoted there, from a network with few spikes (FS neurons)",
    }[machine]


def times() -> Table:
    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for (network, machine), counted in results.items():
            theirs = PUBLISHED[network]["ms"][machine]
            found.append(
                {
                    "what": MACHINES[machine], "point": network, "quantity": "latency", "unit": "ms",
                    "ours": counted["ms"], "theirs": theirs, "source": f"{SOURCE}time_reference.xlsx", "kind": "paper",
                    "deviation_percent": deviation(counted["ms"], theirs), "compute_ms": counted["compute_ms"],
                    "cause": _cause(machine),
                }
            )  # fmt: skip
        return found

    return Table(
        "times", "Milliseconds of one image or sentence at 500 MHz",
        ACCURACY | {"deviation_percent": "deviation [%]", "compute_ms": "ours, computing alone", "cause": "cause"},
        _jobs(), rows,
        ("Times are whole: memory, and here neurons. Those of PTB and Stellar are without products of activations.",),
    )  # fmt: skip


def densities() -> Table:
    def rows(results: Mapping[Any, Any]) -> list[Row]:
        return [
            {
                "what": "Prosperity", "point": network, "quantity": quantity, "unit": "1", "ours": counted[quantity],
                "theirs": (theirs := PUBLISHED[network][quantity]), "kind": "paper",
                "source": f"{SOURCE}density_analysis_reference.xlsx",
                "deviation_percent": deviation(counted[quantity], theirs),
            }
            for (network, machine), counted in results.items()
            if machine == "prosperity"
            for quantity in ("density", "product_density")
        ]  # fmt: skip

    return Table(
        "densities", "Share of ones in what layers read, before and after product sparsity",
        ACCURACY | {"deviation_percent": "deviation [%]"}, _jobs(), rows,
        ("The first is asked for, the second is what independent spikes leave.",),
    )  # fmt: skip


def speedups() -> Table:
    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for machine in ("ptb", "stellar"):
            pairs: list[tuple[float, float]] = []
            for network, published in PUBLISHED.items():
                if machine in published["ms"]:
                    ours = results[network, machine]["ms"] / results[network, "prosperity"]["ms"]
                    pairs.append((ours, published["ms"][machine] / published["ms"]["prosperity"]))
                    found.append(_speedup(machine, network, *pairs[-1]))
            found.append(
                _speedup(machine, "geometric mean", *(geometric_mean(side) for side in zip(*pairs, strict=True)))
            )
        return found

    return Table(
        "speedups", "Speedup of Prosperity", ACCURACY | {"deviation_percent": "deviation [%]"}, _jobs(), rows
    )  # fmt: skip


def _speedup(machine: str, point: str, ours: float, theirs: float) -> Row:
    return {
        "what": f"Prosperity over {MACHINES[machine]}", "point": point, "quantity": "speedup", "unit": "1",
        "ours": ours, "theirs": theirs, "source": f"{SOURCE}time_reference.xlsx", "kind": "paper",
        "deviation_percent": deviation(ours, theirs),
    }  # fmt: skip


def geometric_mean(values: Sequence[float]) -> float:
    return exp(sum(map(log, values)) / len(values))


TABLES = {"times": times, "densities": densities, "speedups": speedups}


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser("prosperity_hpca25", __doc__, TABLES).parse_args(arguments)
    write(TABLES, given.only, "Prosperity (HPCA 2025)", given.output, given.jobs)


if __name__ == "__main__":
    sys.exit(command(main))
