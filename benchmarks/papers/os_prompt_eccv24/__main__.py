"""OS-Prompt (ECCV 2024): prompt continual learning in one stage and in two, by shapes, on machines, and trained small.

    python benchmarks/papers/os_prompt_eccv24 [-o DIR] [--only NAME ...] [--jobs N]

Writes a CSV for each table, figures (PNG, SVG), ``tables.md`` with all of them and ``sentences.md`` with what this
folder's README says of them. What is known of the paper, with marks, is in ``published.yaml``. Networks: ViT-B/16 and a
small transformer by their shapes (:mod:`archsim.trace.prompted`, synthetic operands, labelled), and the small one as
it was trained (``workloads``). The accuracies of single runs are in ``results/class_incremental_runs.csv``, which
``workloads/recipes/train_prompts.py`` writes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).resolve().parents[1])]

from command_line import command
from paper_tables import parser, write
from sentences import write_sentences
from tables import TABLES


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser("os_prompt_eccv24", __doc__, TABLES).parse_args(arguments)
    write_sentences(given.output, write(TABLES, given.only, "OS-Prompt (ECCV 2024)", given.output, given.jobs))


if __name__ == "__main__":
    sys.exit(command(main))
