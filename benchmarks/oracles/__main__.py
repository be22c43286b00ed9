"""archsim against other people's simulators, on the same inputs: ours, theirs, and who is right where they differ.

    python benchmarks/oracles [PEER ...] [--checkout DIR] [-o FOLDER]

A peer that is installed runs, and its numbers go to ``FOLDER/PEER.csv``, with its version. Of one that is not, the
stored numbers are taken, and a sentence says how to get it. archsim runs in any case. ``--checkout`` is a clone of the
one peer that is named. README.md says what is compared.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results")
# Before what is installed: other packages have a "tests" too.
sys.path[1:1] = [str(ROOT), str(ROOT / "benchmarks" / "papers")]

from command_line import command  # noqa: E402
from comparison import again, rows, summary, wrong  # noqa: E402

from archsim.errors import UsageError, nearest  # noqa: E402

PEERS = ("prosperity", "scale_sim", "sana_fe", "badcrossbar_solver", "aihwkit_cells", "cross_sim")


def compared(name: str, checkout: str | None) -> pd.DataFrame:
    """The table of one peer."""
    peer, stored = importlib.import_module(name), RESULTS / f"{name}.csv"
    try:
        installed = peer.load(checkout)
    except ImportError:
        print(f"{name} is not here ({peer.INSTALL}): its stored numbers are taken.", file=sys.stderr)
        return again(peer, pd.read_csv(stored))
    numbers = {}
    for case in peer.CASES:
        print(f"{name}: {case}", file=sys.stderr)
        numbers[case] = peer.theirs(installed, peer.CASES[case])
    return rows(peer, numbers, peer.version(installed))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"default: all of {', '.join(PEERS)}")
    parser.add_argument("--checkout", metavar="DIR", help="a clone of the peer")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, metavar="FOLDER")
    given = parser.parse_args(arguments)
    names = given.peers or list(PEERS)
    if unknown := [name for name in names if name not in PEERS]:
        raise UsageError([f"no peer {name!r}; allowed: {', '.join(PEERS)}{nearest(name, PEERS)}" for name in unknown])
    if given.checkout and len(names) != 1:
        raise UsageError(f"--checkout is a clone of one peer, got {len(names)}; allowed: name the one")
    given.output.mkdir(parents=True, exist_ok=True)
    for name in names:
        table = compared(name, given.checkout)
        table.to_csv(given.output / f"{name}.csv", index=False)
        print(summary(table).to_string(index=False))
        for row in wrong(table).itertuples():
            print(f"not as expected: {row.point}, {row.quantity}: ours {row.ours}, expected {row.expected}")


if __name__ == "__main__":
    sys.exit(command(main))
