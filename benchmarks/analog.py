"""How long is an effective matrix? Block elimination against a sparse factorisation of all nodes, in one run.

    python benchmarks/analog.py [SIZE ...] [--repeat N]

A row for each size N of an array of N x N cells of 20 to 200 kohm behind wires of 5 and 10 ohm, driver and sense of 1
kohm: milliseconds of both, best of ``--repeat`` on one core, their ratio, and the largest relative difference.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from archsim.hardware.analog import effective_conductance

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.analog.circuits import nodal

WIRES = {"r_driver": 1000.0, "r_row": 5.0, "r_col": 10.0, "r_sense": 1000.0}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("sizes", nargs="*", type=int, default=[16, 64, 128], metavar="SIZE")
    parser.add_argument("--repeat", type=int, default=10)
    arguments = parser.parse_args()
    print("size, effective_conductance_ms, sparse_factorisation_ms, ratio, largest_relative_difference")
    for size in arguments.sizes:
        cells = np.random.default_rng(size).uniform(1 / 200e3, 1 / 20e3, (size, size))
        effective_conductance(cells, **WIRES)  # compiled before it is timed
        ours, found = best(lambda cells=cells: effective_conductance(cells, **WIRES), arguments.repeat)
        theirs, wanted = best(lambda cells=cells: nodal(cells, **WIRES), max(1, arguments.repeat // 5))
        difference = float(np.max(np.abs(found - wanted) / wanted))
        print(f"{size}, {ours:.2f}, {theirs:.2f}, {theirs / ours:.1f}, {difference:.1e}", flush=True)


def best(work: Callable[[], NDArray[np.float64]], repeat: int) -> tuple[float, NDArray[np.float64]]:
    """The shortest of ``repeat`` times [ms], and what came out."""
    shortest = float("inf")
    for _ in range(repeat):
        began = perf_counter()
        found = work()
        shortest = min(shortest, perf_counter() - began)
    return 1e3 * shortest, found


if __name__ == "__main__":
    main()
