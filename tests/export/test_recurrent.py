"""Recurrent neurons of snnTorch: a delay of a timestep on the way back, and spikes of the model."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from archsim.dataflow.coverage import coverage
from archsim.errors import UsageError
from archsim.export import from_torch
from archsim.simulate import load_accelerator
from tests.export.frameworks import need, verified
from tests.machines import LOAS, ROOT

torch = need("torch")
snn = need("snntorch")
nn = torch.nn
FORMS = {
    "all to all": lambda: snn.RLeaky(0.875, linear_features=6, init_hidden=True),
    "one to one": lambda: snn.RLeaky(0.5, V=-0.6, all_to_all=False, init_hidden=True),
    "to zero": lambda: snn.RLeaky(0.9, linear_features=6, init_hidden=True, reset_mechanism="zero"),
    "synaptic": lambda: snn.RSynaptic(0.75, 0.5, linear_features=6, init_hidden=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_recurrent_neurons(form, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), FORMS[form](), nn.Linear(6, 3), snn.Leaky(0.5, init_hidden=True))
    model[0].weight.data *= 4
    model[2].weight.data *= 4
    inputs = (np.random.default_rng(0).random((30, 8, 5)) < 0.4).astype(np.float32)
    exported = from_torch(model, inputs, 30, accept_differences=True)
    trace = verified(exported, tmp_path)
    (delay,) = [operation for operation in trace if operation.op == "delay"]
    assert delay.inputs == ("1",)
    assert trace.operation("1.sum").inputs == ("0", "1.recurrent")
    row = next(row for row in exported.layers if row.layer == "1.sum")
    assert row.alone < 0.05
    assert 0.02 < row.density < 0.98
    # Without the way back there are other spikes.
    model[1].recurrent.V.data.zero_() if form == "one to one" else model[1].recurrent.weight.data.zero_()
    assert (from_torch(model, inputs, 30, accept_differences=True).trace.tensor("1") != trace.tensor("1")).any()
    machine = load_accelerator(LOAS, ["timesteps=16"])
    assert coverage(machine, trace, machine.layers(trace), None).share == 1


def test_the_network_of_the_recipe(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "workloads" / "recipes")
        torch.manual_seed(0)
        network = importlib.import_module("train_recurrent").Recurrent(16)
    network.first.weight.data *= 3
    network.second.weight.data *= 3
    rows = torch.randint(0, 256, (28, 4, 28), generator=torch.Generator().manual_seed(0)) / 255
    exported = from_torch(network, rows, 28, input_scale=1 / 255, accept_differences=True)
    trace = verified(exported, tmp_path)
    assert sum(operation.op == "delay" for operation in trace) == 2
    assert max(row.alone for row in exported.layers if row.alone is not None) < 0.1


class OwnLoop(nn.Module):
    """A recurrence that the model writes itself."""

    def __init__(self, start, bias):
        super().__init__()
        self.fc, self.rec, self.lif, self.start = nn.Linear(5, 6), nn.Linear(6, 6, bias), snn.Leaky(0.9), start

    def forward(self, x):
        potential, spikes, given = self.lif.init_leaky(), self.start, []
        for shown in x:
            current = self.fc(shown) if spikes is None else self.fc(shown) + self.rec(spikes)
            spikes, potential = self.lif(current, potential)
            given.append(spikes)
        return torch.stack(given)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("start", [None, torch.zeros(3, 6)])
def test_a_recurrence_of_the_models_own(start, bias):
    """It is refused once, by the neuron that it leads to, with what to do instead."""
    with pytest.raises(UsageError) as caught:
        from_torch(OwnLoop(start, bias), torch.rand(4, 3, 5), 4, loop=True)
    (told,) = caught.value.problems
    assert told.startswith("lif: reads the output of torch's add() of tensors of the timesteps 0 and 1, a recurr")
    assert "RLeaky of snnTorch and LIFRecurrent of norse" in told
