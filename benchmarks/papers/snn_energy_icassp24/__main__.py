"""The tables of "Are SNNs Truly Energy-efficient?" (ICASSP 2024): by operations, by the legacy tools, by archsim.

    python benchmarks/papers/snn_energy_icassp24 [-o DIR] [--only NAME ...] [--jobs N]

Writes a CSV for each table, figures (PNG, SVG), ``tables.md`` with all of them and ``sentences.md`` with what
this folder's README says of them. What is known of the study, with marks, is in ``published.yaml``. Networks: the
trained VGG9 of ``workloads`` and synthetic spikes, labelled.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the legacy tools; what all papers' commands share

import bottlenecks
from command_line import command
from paper_tables import parser, write
from sentences import write_sentences
from works import in_chunks, works

TABLES = {
    "works": works,
    "chunks": in_chunks,
    "timesteps": bottlenecks.timesteps,
    "lif": bottlenecks.lif,
    "sparsity": bottlenecks.sparsity,
    "exit": bottlenecks.exit,
    "sharing": bottlenecks.sharing,
    "dataflow": bottlenecks.dataflow,
    "training": bottlenecks.training,
}


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser("snn_energy_icassp24", __doc__, TABLES).parse_args(arguments)
    heading = "Are SNNs truly energy-efficient? (ICASSP 2024)"
    write_sentences(given.output, write(TABLES, given.only, heading, given.output, given.jobs))


if __name__ == "__main__":
    sys.exit(command(main))
