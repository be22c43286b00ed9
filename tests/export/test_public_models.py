"""Public networks from their own definitions: exported whole, every layer as the model computes it, and verified."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from archsim.dataflow.coverage import coverage
from archsim.export import from_torch
from archsim.simulate import load_accelerator, run
from archsim.trace import save_trace
from archsim.trace.work import synaptic_operations
from tests.export import public_models
from tests.export.frameworks import need, verified
from tests.machines import LOAS

torch = need("torch")
snn = need("snntorch")
neuron = need("spikingjelly.activation_based.neuron")


@dataclass(frozen=True)
class Table:
    """What a network consists of, by its paper.

    ``identities`` are layers of ours: spikes that are added to currents get a weight. ``pools`` are those of a trace:
    averages are taken in the weights behind them. ``simulated`` of the trace's ``layers`` run on LoAS, which are
    ``coverage`` of the synaptic operations; ``left_out`` operations do not. (The stems read pixels or counts, SEW's
    blocks read sums of spikes, MS-ResNet's shortcuts membrane potentials.)
    """

    convolutions: int
    linear: int
    neurons: int
    additions: int
    pools: int
    simulated: int
    layers: int
    coverage: float
    left_out: int
    identities: int = 0


TABLES = {
    # A 7 x 7 stem, 8 blocks of two 3 x 3, 3 of them with a 1 x 1 on the shortcut.
    "sew_resnet18": Table(20, 1, 20, 8, 1, 9, 21, 0.380, 21),
    # The 5 shortcuts without a convolution carry spikes to sums of currents.
    "spiking_resnet18": Table(20, 1, 17, 8, 1, 25, 26, 0.595, 10, identities=5),
    # No max-pool; a stride, and so a 1 x 1 on the shortcut, in every stage; neurons before each 3 x 3 and the head.
    "ms_resnet18": Table(21, 1, 17, 8, 0, 17, 22, 0.538, 21),
    "dvs_gesture_net": Table(5, 2, 7, 0, 5, 6, 7, 0.805, 2),
    "snntorch_tutorial6": Table(2, 1, 3, 0, 2, 2, 3, 0.353, 5),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_public_model(name, tmp_path):
    table = TABLES[name]
    torch.manual_seed(0)
    model, inputs, arguments = getattr(public_models, name)()
    # Not a layer is refused: each makes of the model's spikes what the model makes of them.
    exported = from_torch(model, inputs, **arguments, provenance=public_models.UNTRAINED)
    trace = verified(exported, tmp_path)
    assert trace.timesteps == arguments["T"]
    assert trace.provenance["weights"] == "synthetic"

    modules = {path: module for path, module in model.named_modules() if path}
    kinds = {path for path, module in modules.items() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)}
    own = [operation for operation in trace if operation.weight is not None and operation.name not in kinds]
    weighted = Counter(operation.op for operation in trace if operation.name in kinds)
    assert {operation.name for operation in trace} >= kinds
    assert weighted == {"conv2d": table.convolutions, "linear": table.linear}
    for path in kinds:
        assert trace.operation(path).n == len(modules[path].weight)
    assert len(own) == table.identities
    cells = [module for module in modules.values() if isinstance(module, neuron.BaseNode | snn.SpikingNeuron)]
    assert sum(operation.neuron is not None for operation in trace) == len(cells) == table.neurons
    assert sum(operation.op == "pool" for operation in trace) == table.pools
    assert sum(operation.op == "add" and len(operation.inputs) > 1 for operation in trace) == table.additions

    rows = [row for row in exported.layers if row.alone is not None]
    assert len(rows) == table.neurons
    assert all(row.density > 0.005 for row in rows)
    assert max(row.alone for row in rows) < 0.05
    assert max(row.weight_error for row in exported.layers if row.layer in kinds) < 0.05
    assert all(synaptic_operations(trace, trace.operation(path)) > 0 for path in kinds)

    machine = load_accelerator(LOAS, [f"timesteps={trace.timesteps}"])
    covered = coverage(machine, trace, machine.layers(trace), None)
    assert (covered.layers, covered.network_layers) == (table.simulated, table.layers)
    assert covered.share == pytest.approx(table.coverage, abs=0.002)
    assert len(covered.left_out) == table.left_out
    assert covered.share + sum(one.share for one in covered.left_out) == pytest.approx(1)


def test_a_run_of_a_public_model_says_what_it_leaves_out(tmp_path):
    """snnTorch's tutorial 6 on LoAS: the encoder, and neurons behind pools of sums."""
    torch.manual_seed(0)
    model, inputs, arguments = public_models.snntorch_tutorial6()
    exported = from_torch(model, inputs, **arguments, provenance=public_models.UNTRAINED)
    save_trace(exported.trace, tmp_path / "tutorial6.npz")
    report = run(LOAS, tmp_path / "tutorial6.npz", timesteps=exported.trace.timesteps)
    summary = report.summary()
    assert summary["coverage"] == pytest.approx(TABLES["snntorch_tutorial6"].coverage, abs=0.002)
    reasons = {one["layer"]: one["reason"] for one in summary["left_out"]}
    assert len(reasons) == TABLES["snntorch_tutorial6"].left_out
    assert reasons["conv1"].startswith("reads pixels")
    assert "behind a pool" in reasons["lif1"]
    assert any("2 of 3 layers" not in line and "left out: 1 of 3 layers" in line for line in report.warnings)
    assert summary["mismatches"] == 0
