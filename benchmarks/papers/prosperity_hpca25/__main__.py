"""The table of times of Prosperity (HPCA 2025), ours beside its own, for one image or sentence of 16 workloads.

    python benchmarks/papers/prosperity_hpca25 [-o DIR] [--only NAME ...] [--networks NAME ...] [--jobs N]

Writes a CSV for each table and ``tables.md`` with all of them. ``--networks`` are those to run, by default all.
Published numbers are in ``published.yaml``, shapes in ``networks.py``.
Every machine has the clock of the published table, 500 MHz, and the memory of LoAS.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from math import exp, log
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path += [str(ROOT), str(Path(__file__).resolve().parents[1])]  # archsim, and what all papers' commands share

from command_line import command  # noqa: E402
from networks import PUBLISHED, Run, Workload  # noqa: E402
from paper_tables import Row, Table, deviation, parser, write  # noqa: E402

from archsim.errors import UsageError, nearest  # noqa: E402

SOURCE = "dubcyfor3/Prosperity 6ee1c6f, reference/"
MACHINES = {"prosperity": "Prosperity", "ptb": "PTB", "stellar": "Stellar"}
ACCURACY = {
    "what": "what", "point": "point", "quantity": "quantity", "unit": "unit", "ours": "ours", "theirs": "published",
    "source": "source", "kind": "kind",
}  # fmt: skip
"""The columns that all tables of accuracy have."""


def _jobs(networks: Iterable[str]) -> dict[tuple[str, str], Run]:
    return {
        (network, machine): Run(machine, Workload(network))
        for network in networks
        for machine in MACHINES
        if machine in PUBLISHED[network]["ms"]
    }


def _cause(machine: str) -> str:
    return {
        "prosperity": "independent spikes leave more sums to add up than recorded ones: see the densities",
        "ptb": "a fold's drain recurs for every 16 outputs here and is paid once a position there",
        "stellar": "quoted there, from a network with few spikes (FS neurons)",
    }[machine]


def times(networks: Sequence[str]) -> Table:
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
        _jobs(networks), rows,
        ("Times are whole: memory, and here neurons. Those of PTB and Stellar are without products of activations.",),
    )  # fmt: skip


def densities(networks: Sequence[str]) -> Table:
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
        ACCURACY | {"deviation_percent": "deviation [%]"}, _jobs(networks), rows,
        ("The first is asked for, and less by the zeros around maps. The second is what independent spikes leave.",),
    )  # fmt: skip


def speedups(networks: Sequence[str]) -> Table:
    def rows(results: Mapping[Any, Any]) -> list[Row]:
        found = []
        for machine in ("ptb", "stellar"):
            pairs: list[tuple[float, float]] = []
            for network in networks:
                published = PUBLISHED[network]
                if machine in published["ms"]:
                    ours = results[network, machine]["ms"] / results[network, "prosperity"]["ms"]
                    pairs.append((ours, published["ms"][machine] / published["ms"]["prosperity"]))
                    found.append(_speedup(machine, network, *pairs[-1]))
            if pairs:
                ours, theirs = (geometric_mean(side) for side in zip(*pairs, strict=True))
                found.append(_speedup(machine, "geometric mean", ours, theirs))
        return found

    return Table(
        "speedups", "Speedup of Prosperity", ACCURACY | {"deviation_percent": "deviation [%]"}, _jobs(networks), rows
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
    made = parser("prosperity_hpca25", __doc__, TABLES)
    made.add_argument("--networks", nargs="+", metavar="NAME", default=list(PUBLISHED), help="default: all")
    given = made.parse_args(arguments)
    networks = given.networks
    if unknown := [name for name in networks if name not in PUBLISHED]:
        allowed = ", ".join(PUBLISHED)
        raise UsageError(
            [f"--networks: no network {name!r}; allowed: {allowed}{nearest(name, PUBLISHED)}" for name in unknown]
        )
    tables = {name: partial(table, networks) for name, table in TABLES.items()}
    write(tables, given.only, "Prosperity (HPCA 2025)", given.output, given.jobs)


if __name__ == "__main__":
    sys.exit(command(main))
