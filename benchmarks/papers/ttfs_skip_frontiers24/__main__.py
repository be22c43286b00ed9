"""Skip connections with first-spike coding (Frontiers in Neuroscience 2024): joins, latency, cycles and energy.

    python benchmarks/papers/ttfs_skip_frontiers24 [-o DIR] [--jobs N]

Runs the traces of ``traces/`` (``measure.py`` made them) by ``archsim sweep`` on ``ttfs``, with every early exit, and
on ``manycore``, and summarises ``results/measures.csv`` (``measure.py`` measured it). Writes a CSV for each table,
figures, ``tables.md`` and the README's ``sentences.md``. Sweeps go on where they were killed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path += [str(ROOT), str(Path(__file__).resolve().parents[1])]  # archsim, and what all papers' commands share

import pandas as pd  # noqa: E402
import tables  # noqa: E402
from command_line import command  # noqa: E402
from paper_tables import parser, write_filled, write_said  # noqa: E402
from sentences import SENTENCES, text  # noqa: E402

import archsim  # noqa: E402

FOLDER = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser("ttfs_skip_frontiers24", __doc__).parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    traces = sorted((FOLDER / "traces").glob("*.npz"))

    def sweep(machine: str, **settings: Sequence[object]) -> pd.DataFrame:
        path = given.output / f"sweep_{machine}.csv"
        return archsim.sweep(ROOT / "hwconfigs" / f"{machine}.yaml", traces, jobs=given.jobs, path=path, **settings)

    measures = pd.read_csv(FOLDER / "results" / "measures.csv")
    costs = tables.costs(sweep("ttfs", scheduler__early_exit=list(tables.EXITS)))
    results = (
        tables.networks(measures), tables.joins(measures), costs, tables.chips(sweep("manycore"), costs[1]),
        tables.claims(measures),
    )  # fmt: skip
    filled = write_filled(results, "First spikes with skip connections (2024)", given.output)
    write_said(SENTENCES, text, filled, given.output)


if __name__ == "__main__":
    sys.exit(command(main))
