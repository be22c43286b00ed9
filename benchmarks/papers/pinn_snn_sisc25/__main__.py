"""PINN to SNN by calibration (SIAM J. Sci. Comput. 2025): error against timesteps, cycles and energy.

    python benchmarks/papers/pinn_snn_sisc25 [-o DIR] [--jobs N]

Runs the traces of ``traces/`` (``measure.py`` made them) by ``archsim sweep`` on five machines, and summarises
``results/errors.csv`` (``measure.py`` measured it). Many-core chips run those of spikes alone. Writes a CSV for each
table, figures, ``tables.md`` and the README's ``sentences.md``. Sweeps go on where they were killed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
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
MACHINES: Mapping[str, Mapping[str, object]] = {
    "systolic": {}, "sata": {}, "loas": {},
    "manycore": {"pe.accumulator_bits": 32},
    "loihi1": {"pe.accumulator_bits": 32, "noc.signed": True},
}  # fmt: skip
"""What is set of each. Potentials of the read-out take more than 24 bits, and Loihi 1 has no signs: it gets them."""
WITH_TIMES = ("loihi1",)
"""Where a neuron's update has the time of a chip."""
UPDATES = (1, 16, 32)
"""Cycles of a neuron's update, with a division by subtraction of a bit a cycle."""
MAPPINGS = ("in_order", "neurons")
"""Of layers to cores: as few cores as there are layers, or all."""
SLOW = "poisson_t64"


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser("pinn_snn_sisc25", __doc__).parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    paths = sorted((FOLDER / "traces").glob("*.npz"))
    known = tables.of_traces(paths)

    def sweep(machine: str, traces: Sequence[Path], name: str, **settings: Sequence[object]) -> pd.DataFrame:
        path = given.output / f"{name}_{machine}.csv"
        own = {key.replace(".", "__"): [value] for key, value in MACHINES[machine].items()}
        found = archsim.sweep(hardware(machine), traces, jobs=given.jobs, path=path, **own, **settings)
        return found.assign(machine=machine)

    def hardware(machine: str) -> Path:
        return ROOT / "hwconfigs" / f"{machine}.yaml"

    def run(machine: str, trace: Path) -> archsim.Report:
        own = [f"{key}={str(value).lower()}" for key, value in MACHINES[machine].items()]
        return archsim.run(hardware(machine), trace, overrides=own, verify=False)

    spiking = [path for path in paths if path.stem.rsplit("_", 1)[1][0] == "t"]
    runs = pd.concat([sweep(name, spiking if name in tables.CORES else paths, "sweep") for name in MACHINES])
    slow = next(path for path in paths if path.stem == SLOW)
    updates = [
        (machine, int(point["neuron.cycles"]), point["cycles"] / known[SLOW]["points"],
         point["energy_pj"] / 1e3 / known[SLOW]["points"])
        for machine in MACHINES if machine not in WITH_TIMES
        for point in sweep(machine, [slow], "divider", neuron__cycles=UPDATES).to_dict("records")
    ]  # fmt: skip
    mapped = [
        (point["scheduler.mapping"], point["latency_s"] * 1e6 / known[SLOW]["points"],
         point["energy_pj"] / 1e3 / known[SLOW]["points"])
        for point in sweep("manycore", [slow], "mapping", scheduler__mapping=MAPPINGS).to_dict("records")
    ]  # fmt: skip
    parts = [(machine, run(machine, slow), known[SLOW]["points"]) for machine in MACHINES]
    errors = pd.read_csv(FOLDER / "results" / "errors.csv").fillna({"rounding": ""})
    costs = tables.costs(runs, known, errors)
    results = (
        tables.networks(errors), tables.timesteps(errors), tables.slopes(errors), costs, tables.equal(costs[1]),
        tables.divider(updates), tables.activation(parts), tables.mapping(mapped),
    )  # fmt: skip
    filled = write_filled(results, "PINN to SNN (SISC 2025)", given.output)
    write_said(SENTENCES, text, filled, given.output)


if __name__ == "__main__":
    sys.exit(command(main))
