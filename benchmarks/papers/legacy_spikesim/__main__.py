"""SpikeSim's ELA (energy, latency, area), replicated: what the old tool says of a network.

    python benchmarks/papers/legacy_spikesim NETWORK.yaml [--timesteps T] [--crossbar N] [--device rram|sram]

Formulas, and what is wrong in them, are in ``spikesim.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # what all papers' commands share

from command_line import command
from legacy_network import load_network, overrides_of, parser, tell
from legacy_spikesim.spikesim import SpikesimNetwork, ela


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    made = parser(__doc__, "Example: networks/vgg9_spikesim.yaml --crossbar 128")
    made.add_argument("--crossbar", metavar="N", help="size of a crossbar array, instead of the file's")
    made.add_argument("--device", metavar="rram|sram", help="instead of the file's")
    given = made.parse_args(arguments)
    paths = {"timesteps": "timesteps", "crossbar": "crossbar.size", "device": "crossbar.device"}
    report = ela(load_network(given.network, SpikesimNetwork, overrides_of(given, paths))).report()
    layers = [{key: value for key, value in layer.items() if key != "counters"} for layer in report["layers"]]
    tell(report, [layers, report["pe_cycle"], report["areas"]], as_json=given.json)


if __name__ == "__main__":
    sys.exit(command(main))
