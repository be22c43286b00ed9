"""The tables of the LoAS paper (MICRO 2024), ours beside its own, with one set of constants for all networks.

    python benchmarks/papers/loas_micro24 [-o DIR] [--only NAME ...] [--traces DIR] [--jobs N]

Writes a CSV for each table, figures (PNG, SVG) and ``tables.md`` with all of them. Published numbers, with section and
mark, are in ``published.yaml``. AlexNet and VGG16 run on spikes recorded from LoAS's networks where
``loas_cifar10_alexnet_spikes.npz`` and ``loas_cifar10_vgg16_spikes.npz`` are found (they are not part of the
repository; workloads/README.md says where they come from), on synthetic ones with Table II's averages elsewhere;
ResNet19 is always synthetic.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # what all papers' commands share

import ablations
import chip
import comparisons
import jobs
from command_line import command
from paper_tables import parser, write

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


def main(arguments: Sequence[str] | None = None) -> None:
    made = parser("loas_micro24", __doc__, TABLES)
    made.add_argument(
        "--traces", type=Path, metavar="DIR", default=jobs.RECORDED, help="recorded spikes (default: %(default)s)"
    )
    given = made.parse_args(arguments)
    jobs.RECORDED = given.traces
    if missing := jobs.without_recording():
        print(
            f"no recorded spikes of {' and '.join(missing)} in {jobs.RECORDED}: synthetic ones instead, so numbers "
            "differ from those in DEVIATIONS.md; --traces DIR says where they are",
            file=sys.stderr,
        )
    write(TABLES, given.only, "LoAS (MICRO 2024)", given.output, given.jobs)


if __name__ == "__main__":
    sys.exit(command(main))
