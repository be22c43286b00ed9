"""GenQ (ECCV 2024): bits of weights and activations against accuracy, cycles, energy and area.

    python benchmarks/papers/genq_eccv24 [-o DIR] [--jobs N]

Runs the traces of ``traces/`` (``quantise.py`` made them) by ``archsim sweep`` on several machines, and summarises
``results/calibration.csv`` (``calibrate.py`` measured it). Writes a CSV for each table, figures, ``tables.md`` and the
README's ``sentences.md``. Sweeps go on where they were killed.
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
MACHINES = {"bit_composable": {}, "systolic": {}, "imc_ideal": {"noc.rows": ["fit"]}}
BANDWIDTHS = (128, 8, 2, 1, 0.5)
ROWS = (8, 32)


def hardware(name: str) -> Path:
    return ROOT / "hwconfigs" / f"{name}.yaml"


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser("genq_eccv24", __doc__).parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    paths = sorted((FOLDER / "traces").glob("*.npz"))
    uniform = [path for path in paths if len(set(path.stem[1:5])) == 1]
    short = [path for path in paths if path.stem in tables.SHORT]

    def sweep(machine: str, traces: Sequence[Path], name: str, **settings: Sequence[object]) -> pd.DataFrame:
        return archsim.sweep(hardware(machine), traces, jobs=given.jobs, path=given.output / name, **settings)

    known = tables.of_traces(paths)
    by_machine = {
        machine: sweep(
            machine, uniform, f"sweep_{machine}.csv",
            **{key.replace(".", "__"): values for key, values in settings.items()},
        )
        for machine, settings in MACHINES.items()
    }  # fmt: skip
    layers = sweep("bit_composable", paths, "sweep_layers.csv")
    slow = sweep(
        "bit_composable", short, "sweep_limits.csv", memory__dram__bandwidth_gb_s=BANDWIDTHS,
        pe__rows=ROWS,
    )  # fmt: skip
    runs = {path.stem: archsim.run(hardware("bit_composable"), path).rows("energy") for path in short}
    results = (
        tables.bits(by_machine, known), tables.search(layers, known), tables.limits(slow), tables.energy(runs),
        tables.calibration(pd.read_csv(FOLDER / "results" / "calibration.csv")),
    )  # fmt: skip
    filled = write_filled(results, "GenQ (ECCV 2024)", given.output)
    write_said(SENTENCES, text, filled, given.output)


if __name__ == "__main__":
    sys.exit(command(main))
