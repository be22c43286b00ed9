"""SATA_Sim, replicated: what the old tool says of a network.

    python benchmarks/papers/legacy_sata_sim NETWORK.yaml --mode inference|training [--timesteps T] [--sparsity S]

Formulas, and what is wrong in them, are in ``sata_sim.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # what all papers' commands share

from command_line import command
from legacy_network import load_network, overrides_of, parser, tell
from legacy_sata_sim.sata_sim import (
    Inference,
    SataInferenceNetwork,
    SataNetwork,
    Training,
    inference,
    training,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    made = parser(__doc__, "Example: networks/vgg5_cifar10_training.yaml --mode training")
    made.add_argument("--mode", choices=("inference", "training"), required=True)
    made.add_argument("--sparsity", metavar="S", help="of spikes, instead of the file's")
    given = made.parse_args(arguments)
    overrides = overrides_of(given, {"timesteps": "timesteps", "sparsity": "sparsity.spikes"})
    result: Training | Inference
    if given.mode == "training":
        result = training(load_network(given.network, SataNetwork, overrides))
        tables = []
    else:
        result = inference(load_network(given.network, SataInferenceNetwork, overrides))
        tables = [[*map(vars, result.accesses), {"layer": "sum", **result.sums, "dram_ifmap_reads_source": ""}]]
        tables[0] = [{key: row[key] for key in vars(result.accesses[0])} for row in tables[0]]
    report = result.report()
    tell(report, [*tables, report["counters"]], as_json=given.json)


if __name__ == "__main__":
    sys.exit(command(main))
