"""How fast is archsim? Ratios within one run, so that they mean the same on every computer.

    python benchmarks/engine [PART ...] [-o FOLDER] [--prosperity DIR]

Parts, by default all, each a CSV in FOLDER (``benchmarks/engine/results``):

* ``machines``: every machine against the counting floor and the reference engine, its first run and the next, memory;
* ``growth``: time of the engine over images, timesteps, spikes, PEs and size, with ``growth.png``;
* ``cores``: one core against all, and a schedule of the measured layers on more;
* ``chip``: a many-core chip of 131,072 neurons, with a synthetic network and a trained one;
* ``peers``: other people's simulators on the same layers; what is stored of one that is not installed stays.
  Prosperity's is a clone.

Processor time stands beside wall time, since computers are shared. README.md has the last run that was stored.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Before what is installed: other packages have a "tests" too.
sys.path[1:1] = [str(ROOT), str(ROOT / "benchmarks" / "papers"), str(ROOT / "benchmarks" / "oracles")]

import chip  # noqa: E402
import cores  # noqa: E402
import growth  # noqa: E402
import machines  # noqa: E402
import peers  # noqa: E402
from clock import Row  # noqa: E402
from command_line import command  # noqa: E402

from archsim.errors import UsageError, nearest  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="machines, growth, cores, chip, peers; default: all")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name("results"), metavar="FOLDER")
    parser.add_argument("--prosperity", metavar="DIR", help="a clone of Prosperity's simulator")
    given = parser.parse_args(arguments)
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "machines": machines.rows, "growth": growth.rows, "cores": cores.rows, "chip": chip.rows,
        "peers": lambda: peers.rows(given.prosperity, given.output / "peers.csv"),
    }  # fmt: skip
    if unknown := [name for name in given.parts if name not in parts]:
        allowed = ", ".join(parts)
        raise UsageError([f"no part {name!r}; allowed: {allowed}{nearest(name, parts)}" for name in unknown])
    given.output.mkdir(parents=True, exist_ok=True)
    for name in given.parts or parts:
        found: list[Row] = []
        for row in parts[name]():
            if not found:
                print(*row, sep="\t")
            found.append({key: _short(value) for key, value in row.items()})
            print(*found[-1].values(), sep="\t", flush=True)
        if name == "growth":
            growth.draw(found, given.output / "growth")
        if found:
            with (given.output / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(found)


def _short(value: Any) -> Any:
    """Four digits of a measured number."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(command(main))
