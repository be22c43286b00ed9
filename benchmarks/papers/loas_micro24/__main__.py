"""The tables of the LoAS paper (MICRO 2024), ours beside its own, with one set of constants for all networks.

    python benchmarks/papers/loas_micro24 [-o DIR] [--only NAME ...] [--jobs N]

Writes a CSV for each table, figures (PNG, SVG) and ``tables.md`` with all of them. Published numbers, with section and
mark, are in ``published.yaml``. AlexNet and VGG16 run on spikes recorded from LoAS's networks where they are found
(../shared/traces, not part of the repository), on synthetic ones with Table II's averages elsewhere; ResNet19 is always
synthetic.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter

import ablations
import chip
import comparisons
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
        "-o", "--output", type=Path, default=Path("results/loas_micro24"), help="folder for the results"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(TABLES), help=f"of {', '.join(TABLES)}")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes")
    arguments = parser.parse_args()
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
    print(
        f"{len(tables)} tables from {len(results)} runs in {perf_counter() - started:.0f} s: {output}", file=sys.stderr
    )


if __name__ == "__main__":
    main()
