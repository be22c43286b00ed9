"""The tables of "Are SNNs Truly Energy-efficient?" (ICASSP 2024): by operations, by the legacy tools, by archsim.

    python benchmarks/papers/snn_energy_icassp24 [-o DIR] [--only NAME ...] [--jobs N]

Writes a CSV for each table, figures (PNG, SVG) and ``tables.md`` with all of them. What is known of the study, with
marks, is in ``published.yaml``. Networks: the trained VGG9 of ``workloads`` and synthetic spikes, labelled.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import perf_counter

PAPERS = Path(__file__).resolve().parents[1]
sys.path += [str(PAPERS), str(PAPERS / "loas_micro24")]  # the legacy tools; how a table is filled and written

import bottlenecks  # noqa: E402
from jobs import cores, perform  # noqa: E402
from works import works  # noqa: E402

from archsim import ArchsimError, __version__  # noqa: E402
from archsim.errors import UsageError, nearest  # noqa: E402
from archsim.report import files, plots  # noqa: E402

TABLES = {
    "works": works,
    "timesteps": bottlenecks.timesteps,
    "lif": bottlenecks.lif,
    "sparsity": bottlenecks.sparsity,
    "exit": bottlenecks.exit,
    "sharing": bottlenecks.sharing,
    "dataflow": bottlenecks.dataflow,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="snn_energy_icassp24", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        *("-o", "--output"), type=Path, metavar="DIR", default=Path("results/snn_energy_icassp24"),
        help="folder for the results (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", default=list(TABLES), help=f"these tables, of {', '.join(TABLES)}"
    )
    parser.add_argument("--jobs", type=int, default=cores(), help="processes (default: one a core, %(default)s)")
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
    heading = f"# Are SNNs truly energy-efficient? (ICASSP 2024) and archsim {__version__}"
    files.write_texts(output, {"tables.md": "\n".join([heading, "", *sections])})
    seconds = perf_counter() - started
    print(f"{len(tables)} tables from {len(results)} runs in {seconds:.0f} s: {output}", file=sys.stderr)


if __name__ == "__main__":
    main()
