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

    ``more_layers`` are ours: what is added to currents gets a weight, and spikes are inverted by a layer. ``sums`` and
    ``products`` are of spikes or currents; ``pools`` include the mean before a classifier, which reads ``features``.
    """

    convolutions: int
    linear: int
    neurons: int
    features: int
    pools: int = 0
    sums: int = 0
    products: int = 0
    more_layers: int = 0


TABLES = {
    # A 7 x 7 stem, 8 blocks of two 3 x 3, 3 of them with a 1 x 1 on the shortcut.
    "sew_resnet18": Table(20, 1, 20, 512, 2, sums=8),
    "sew_resnet18_and": Table(20, 1, 20, 512, 2, products=8),
    "sew_resnet18_iand": Table(20, 1, 20, 512, 2, products=8, more_layers=8),
    # The 5 shortcuts without a convolution carry spikes to sums of currents.
    "spiking_resnet18": Table(20, 1, 17, 512, 2, sums=8, more_layers=5),
    # No max-pool; a stride, and so a 1 x 1 on the shortcut, in every stage; neurons before each 3 x 3 and the head.
    "ms_resnet18": Table(21, 1, 17, 128, 1, sums=8),
    # Its five pools are maxima; in front of the classifier a picture of 32 x 32 has one position, which is repeated.
    "spiking_vgg16_bn": Table(13, 3, 15, 512, 5),
    # Five convolutions, each with a pool, two linear layers, and a mean of ten neurons a class.
    "dvs_gesture_net": Table(5, 2, 7, 512, 5),
    "snntorch_tutorial5": Table(0, 2, 2, 125),
    "snntorch_synaptic": Table(0, 2, 2, 125),
    "snntorch_tutorial6": Table(2, 1, 3, 1024, 2),
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
    assert weighted == +Counter({"conv2d": table.convolutions, "linear": table.linear})
    for path in kinds:
        assert trace.operation(path).n == len(modules[path].weight)
    assert len(own) == table.more_layers
    cells = [module for module in modules.values() if isinstance(module, neuron.BaseNode | snn.SpikingNeuron)]
    assert len(cells) == table.neurons
    firing = [operation for operation in trace if operation.neuron is not None and operation not in own]
    assert len(firing) == table.neurons
    assert sum(operation.op == "pool" for operation in trace) == table.pools
    assert sum(operation.op == "add" and len(operation.inputs) > 1 for operation in trace) == table.sums
    assert sum(operation.op == "multiply" for operation in trace) == table.products
    assert trace.operations[-1].k == table.features

    rows = [row for row in exported.layers if row.alone is not None]
    assert all(row.density > 0.005 for row in rows)
    assert max(row.alone for row in rows) < 0.06
    assert max(row.weight_error for row in exported.layers if row.layer in kinds) < 0.05
    assert all(synaptic_operations(trace, trace.operation(path)) > 0 for path in kinds)

    machine = load_accelerator(LOAS, [f"timesteps={min(trace.timesteps, 16)}"])
    covered = coverage(machine, trace, machine.layers(trace), None)
    assert covered.share == 1
    assert covered.left_out == ()


def test_a_run_of_a_public_model(tmp_path):
    """snnTorch's tutorial 6 on LoAS, whole: pixels, and neurons behind pools of sums."""
    torch.manual_seed(0)
    model, inputs, arguments = public_models.snntorch_tutorial6()
    exported = from_torch(model, inputs, **arguments, provenance=public_models.UNTRAINED)
    save_trace(exported.trace, tmp_path / "tutorial6.npz")
    summary = run(LOAS, tmp_path / "tutorial6.npz", timesteps=16).summary()
    assert summary["coverage"] == 1
    assert summary["left_out"] == []
    assert summary["mismatches"] == 0
    assert summary["layers_verified"] == summary["layers"]
