"""Has anything changed? Integers of each shipped machine on a small trace, compared exactly.

Spiking machines run the trained VGG9, machines for ANNs a synthetic layer.

A moved number belongs into CHANGELOG.md under "Results changed". To write the files anew:
``python -m tests.test_golden``.
"""

import csv
import tempfile
from pathlib import Path

import pytest

from archsim.simulate import load_accelerator, run
from archsim.trace import save_trace
from tests.machines import MACHINES, ROOT, ann

TRACE = ROOT / "workloads" / "vgg9_dual_sparse.npz"
COLUMNS = ("layer", "cycles", "compute_cycles", "matches", "sram_read_bytes", "dram_read_bytes", "dram_write_bytes")


def rows(machine, folder):
    trace = TRACE
    if load_accelerator(machine).operand == "int":
        trace = Path(folder) / "ann.npz"
        save_trace(ann(0, m=40, n=33, k=500), trace)
    found = []
    for layer in run(machine, trace).layers:
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
    return Path(__file__).parent / "golden" / f"{machine.stem}.csv"


def test_there_are_machines():
    assert len(MACHINES) >= 2


@pytest.mark.parametrize("machine", MACHINES, ids=lambda path: path.stem)
def test_results_have_not_changed(machine, tmp_path):
    with golden(machine).open(newline="") as file:
        assert list(csv.reader(file)) == [list(COLUMNS), *rows(machine, tmp_path)]


if __name__ == "__main__":
    for path in MACHINES:
        with golden(path).open("w", newline="") as file, tempfile.TemporaryDirectory() as folder:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows(path, folder)])
