"""Norse's own neurons: with and without time, recurrent, and as a read-out."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.export import from_torch
from tests.export.frameworks import need, verified

torch = need("torch")
norse = need("norse.torch")
T, IMAGES = 12, 4


def spikes(density=0.4, features=6):
    return torch.as_tensor(np.random.default_rng(0).random((T, IMAGES, features)) < density).float()


class Stepping(torch.nn.Module):
    """Cells in the model's own loop over time, with a leaky read-out."""

    def __init__(self, recurrent):
        super().__init__()
        self.fc, self.out, self.read_out = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3), norse.LICell()
        self.lif = norse.LIFRecurrentCell(8, 8) if recurrent else norse.LIFCell()

    def forward(self, x):
        state, potential, voltages = None, None, []
        for t in range(len(x)):
            z, state = self.lif(self.fc(x[t]), state)
            v, potential = self.read_out(self.out(z), potential)
            voltages.append(v)
        return torch.stack(voltages)


def in_time(recurrent):
    """The same, layer by layer over all of it."""
    lif = norse.LIFRecurrent(8, 8) if recurrent else norse.LIF()
    return norse.SequentialState(torch.nn.Linear(6, 8), lif, torch.nn.Linear(8, 3), norse.LI())


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("kind", [Stepping, in_time])
def test_a_network_of_norse(kind, recurrent, tmp_path):
    torch.manual_seed(1)
    model = kind(recurrent)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data *= 4
    inputs = spikes()
    exported = from_torch(model, inputs, T, loop=True)
    trace = verified(exported, tmp_path)
    rows = [row for row in exported.layers if row.differing is not None]
    assert len(rows) == 1
    assert 0.02 < rows[0].density < 0.6
    assert rows[0].differing < 0.05
    assert sum(operation.op == "delay" for operation in trace) == recurrent
    assert exported.class_agreement == 1.0
    last = trace.operations[-1]
    assert last.neuron.fires == "nothing"
    with torch.no_grad():
        result = model(inputs)
    expected = (result[0] if isinstance(result, tuple) else result).numpy()
    # The trace has potentials in units of what an input of 1 adds, here a tenth.
    found = 0.1 * trace.meta.tensors[last.output].scale * trace.tensor(last.output)
    assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).max()


def test_what_norse_has_and_a_trace_has_not():
    from archsim.errors import UsageError

    model = norse.SequentialState(torch.nn.Linear(6, 8), norse.LIFAdExCell(), torch.nn.Linear(8, 3), norse.LIFCell())
    with pytest.raises(UsageError, match=r"1 \(LIFAdExCell\): this kind of neuron has no counterpart in a trace"):
        from_torch(model, spikes(), T)
