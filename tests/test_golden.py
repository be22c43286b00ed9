"""Has anything changed? Integers of each shipped machine on a small trace, compared exactly.

Spiking machines run the trained VGG9 as in version 0.1, without its direct encoder, the one for transformers a trained
one, machines for ANNs or for first spikes a synthetic layer.

A moved number belongs into CHANGELOG.md under "Results changed". To write the files anew:
``python -m tests.test_golden``.
"""

import csv
import tempfile
from pathlib import Path

import pytest

from archsim.simulate import load_accelerator, run
from archsim.trace import save_trace
from tests.machines import MACHINES, ROOT, fitting

pytestmark = pytest.mark.slow
TRACE = ROOT / "workloads" / "vgg9_dual_sparse.npz"
OWN_TRACES = {"imc_vit": ROOT / "workloads" / "vit.npz"}
MOVED = [(level, direction) for level in ("sram", "dram") for direction in ("read", "write")]


def table(machine, folder):
    """A row a layer under its header: cycles, work, bytes moved, and how often every unit did what."""
    trace = OWN_TRACES.get(machine.stem, TRACE)
    operand = load_accelerator(machine).operand
    if operand != "spike":
        trace = Path(folder) / f"{operand}.npz"
        save_trace(fitting(load_accelerator(machine), 0, m=40, n=33, k=500), trace)
    layers = run(machine, trace, scheduler__encoder="skipped").layers
    actions = sorted({action for layer in layers for action in layer.actions})
    found = [
        ["layer", "cycles", "compute_cycles", "matches", "synaptic_operations", "performed_operations"]
        + [f"{level}_{direction}_bytes" for level, direction in MOVED]
        + [f"{unit}.{action}" for unit, action in actions]
    ]
    for layer in layers:
        moved = [sum(row.bytes for row in layer.traffic if (row.level, row.direction) == way) for way in MOVED]
        counts = [layer.actions.get(action, 0) for action in actions]
        work = (layer.matches, layer.synaptic_operations, layer.performed_operations)
        numbers = (layer.cycles, layer.compute_cycles, *work, *moved, *counts)
        found.append([layer.layer, *(str(number) for number in numbers)])
    return found


def golden(machine):
    return Path(__file__).parent / "golden" / f"{machine.stem}.csv"


def test_there_are_machines():
    assert len(MACHINES) >= 2


@pytest.mark.parametrize("machine", MACHINES, ids=lambda path: path.stem)
def test_results_have_not_changed(machine, tmp_path):
    with golden(machine).open(newline="") as file:
        assert list(csv.reader(file)) == table(machine, tmp_path)


if __name__ == "__main__":
    for path in MACHINES:
        with golden(path).open("w", newline="") as file, tempfile.TemporaryDirectory() as folder:
            csv.writer(file, lineterminator="\n").writerows(table(path, folder))
