"""The tables of the LoAS paper (MICRO 2024), ours beside its own, with one set of constants for all networks.

    python benchmarks/papers/loas_micro24 [-o DIR] [--only NAME ...] [--traces DIR] [--jobs N]

Writes a CSV for each table, figures (PNG, SVG) and ``tables.md`` with all of them. Published numbers, with section and
mark, are in ``published.yaml``. AlexNet and VGG16 run on spikes recorded from LoAS's networks where
``loas_cifar10_alexnet_spikes.npz`` and ``loas_cifar10_vgg16_spikes.npz`` are found (they are not part of the
repository; workloads/README.md says where they come from), on synthetic ones with Table II's averages elsewhere;
ResNet19 is always synthetic.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sized
from pathlib import Path
from time import perf_counter

import ablations
import chip
import comparisons
import jobs
from jobs import cores, perform

from archsim import ArchsimError, __version__
from archsim.errors import UsageError, nearest
from archsim.report import files, plots

TABLES = {
    "table2": chip.table_2,
    "fig12": comparisons.figure_12,
    "inputs": comparisons.inputs,
    "masking": comparisons.masking,
    "fig13": comparisons.figure_13,
    "fig14": comparisons.figure_14,
    "misses": comparisons.miss_rates,
    "energy": comparisons.energies,
    "table4": chip.table_4,
    "fig16": chip.figure_16,
    "fig17": chip.figure_17,
    "fig18": comparisons.figure_18,
    "fig19": comparisons.figure_19,
    "speedup": ablations.speedup_ablation,
    "ablation": ablations.loas_ablation,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="loas_micro24", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        *("-o", "--output"), type=Path, metavar="DIR", default=Path("results/loas_micro24"),
        help="folder for the results (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", default=list(TABLES), help=f"these tables, of {', '.join(TABLES)}"
    )
    parser.add_argument(
        "--traces", type=Path, metavar="DIR", default=jobs.RECORDED, help="recorded spikes (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=cores(), help="processes (default: one a core, %(default)s)")
    arguments = parser.parse_args()
    jobs.RECORDED = arguments.traces
    if missing := jobs.without_recording():
        print(
            f"no recorded spikes of {' and '.join(missing)} in {jobs.RECORDED}: synthetic ones instead, so numbers "
            "differ from those in DEVIATIONS.md; --traces DIR says where they are",
            file=sys.stderr,
        )
    try:
        write(arguments.only, arguments.output, arguments.jobs)
    except ArchsimError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def write(names: list[str], output: Path, processes: int) -> None:
    """Fill the tables called ``names`` and write them to ``output``."""
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        raise UsageError(
            [f"--only: no table {name!r}; allowed: {', '.join(TABLES)}{nearest(name, TABLES)}" for name in unknown]
        )
    started = perf_counter()
    tables = [TABLES[name]() for name in dict.fromkeys(names)]
    results = perform([job for table in tables for job in table.jobs.values()], processes)
    output.mkdir(parents=True, exist_ok=True)
    sections = []
    for table in tables:
        rows = table.fill(results)
        files.write_texts(output, {f"{table.name}.csv": files.csv_text(rows, list(table.columns))})
        if table.draw:
            plots.save(output / table.name, lambda axes, t=table, r=rows: t.draw(axes, r), table.size)
        sections.append(table.markdown(rows))
    files.write_texts(
        output, {"tables.md": "\n".join([f"# LoAS (MICRO 2024) and archsim {__version__}", "", *sections])}
    )
    seconds = perf_counter() - started
    print(f"{_several(tables, 'table')} from {_several(results, 'run')} in {seconds:.0f} s: {output}", file=sys.stderr)


def _several(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


if __name__ == "__main__":
    main()
