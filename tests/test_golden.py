"""Has anything changed? Integers of each shipped machine on the small trained trace, compared exactly.

A moved number belongs into CHANGELOG.md under "Results changed". To write the files anew:
``python -m tests.test_golden``.
"""

import csv
from pathlib import Path

import pytest

from archsim.simulate import run

ROOT = Path(__file__).parent.parent
TRACE = ROOT / "workloads" / "vgg9_dual_sparse.npz"
MACHINES = sorted((ROOT / "hwconfigs").glob("*.yaml"))
COLUMNS = ("layer", "cycles", "compute_cycles", "matches", "sram_read_bytes", "dram_read_bytes", "dram_write_bytes")


def rows(machine):
    found = []
    for layer in run(machine, TRACE).layers:
        total = {
            f"{level}_{direction}_bytes": sum(
                row.bytes for row in layer.traffic if (row.level, row.direction) == (level, direction)
            )
            for level, direction in (("sram", "read"), ("dram", "read"), ("dram", "write"))
        }
        numbers = (layer.cycles, layer.compute_cycles, layer.matches, *total.values())
        found.append([layer.layer, *(str(number) for number in numbers)])
    return found


def golden(machine):
    return Path(__file__).parent / "golden" / f"{machine.stem}__{TRACE.stem}.csv"


def test_there_are_machines():
    assert len(MACHINES) >= 2


@pytest.mark.parametrize("machine", MACHINES, ids=lambda path: path.stem)
def test_results_have_not_changed(machine):
    with golden(machine).open(newline="") as file:
        assert list(csv.reader(file)) == [list(COLUMNS), *rows(machine)]


if __name__ == "__main__":
    for path in MACHINES:
        with golden(path).open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows(path)])
