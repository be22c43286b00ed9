"""Cycle counts of circuits that others wrote, run from a checkout, against the stored ones and against archsim.

    python benchmarks/oracles/foreign_rtl DESIGN CHECKOUT [-o FILE]

DESIGN is flywire, ranc, tinyodin, metr0jw or prosperity; CHECKOUT a clone of its repository at the commit that
README.md names. Icarus Verilog runs the circuit under a bench of ours. ``-o`` writes the counts as a file like those in
``counts/``.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path += [str(ROOT), str(ROOT / "benchmarks" / "papers")]

from command_line import command  # noqa: E402
from designs import DESIGNS, measured, stored  # noqa: E402

from archsim.errors import UsageError, nearest  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("design", metavar="DESIGN", help=", ".join(DESIGNS))
    parser.add_argument("checkout", metavar="CHECKOUT", type=Path, help="a clone of its repository")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    if given.design not in DESIGNS:
        allowed = f"allowed: {', '.join(DESIGNS)}{nearest(given.design, DESIGNS)}"
        raise UsageError(f"no design {given.design!r}; {allowed}")
    rows = list(measured(given.design, given.checkout))
    known = {_key(row): row for row in stored(given.design)}
    for row in rows:
        before = known.get(_key(row), {}).get("cycles")
        if before is not None and before != row["cycles"]:
            print(f"not as stored: {row}, stored: {before}")
    ours = [DESIGNS[given.design].ours({"idle": 0, **row}, "compiled") for row in rows]
    for row, cycles in zip(rows, ours, strict=True):
        if cycles != row["cycles"]:
            print(f"not as archsim: {row}, archsim: {cycles}")
    equal = sum(cycles == row["cycles"] for row, cycles in zip(rows, ours, strict=True))
    found = sum(known.get(_key(row), {}).get("cycles") == row["cycles"] for row in rows)
    print(f"{given.design}: {len(rows)} counts, {found} as stored, {equal} as archsim says")
    if given.output:
        with given.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _key(row: dict[str, object]) -> tuple[object, ...]:
    return tuple(value for key, value in sorted(row.items()) if key not in ("cycles", "source", "idle"))


if __name__ == "__main__":
    sys.exit(command(main))
