"""snnTorch: a trained network, and every neuron on a grid where float and integers must agree to the last spike."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.errors import UsageError
from archsim.export import from_torch
from tests.export.frameworks import bars, differing, need, verified

torch = need("torch")
snn = need("snntorch")


class Bars(torch.nn.Module):
    """Two layers with snnTorch's defaults (soft reset, with delay), looping over time itself as in its tutorials."""

    def __init__(self, beta, timesteps=5):
        super().__init__()
        self.timesteps = timesteps
        self.conv = torch.nn.Conv2d(1, 6, 3, padding=1)
        self.lif1 = snn.Leaky(beta=beta)
        self.fc = torch.nn.Linear(6 * 4 * 4, 3)
        self.lif2 = snn.Leaky(beta=beta)

    def forward(self, pictures):
        first, second, spikes = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for _ in range(self.timesteps):
            out, first = self.lif1(torch.nn.functional.max_pool2d(self.conv(pictures), 2), first)
            out, second = self.lif2(self.fc(torch.flatten(out, 1)), second)
            spikes.append(out)
        return torch.stack(spikes)


def trained(model, classes):
    pictures, labels = (torch.as_tensor(array) for array in bars(96))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(classes(model, pictures), labels).backward()
        optimiser.step()
    return model


@pytest.fixture(scope="module", params=[0.875, 0.9])
def model(request):
    torch.manual_seed(1)
    return trained(Bars(request.param), lambda model, pictures: model(pictures).sum(0))


def test_a_trained_network(model, tmp_path):
    """Its integer twin is right where it is right; the trace says how many spikes differ."""
    pictures, labels = bars(100, seed=7)
    with torch.no_grad():
        right = (model(torch.as_tensor(pictures)).sum(0).argmax(1).numpy() == labels).mean()
    assert right > 0.9
    exported = from_torch(model, pictures, 5, input_scale=1 / 255, approximate_leak=True, name="bars")
    trace = verified(exported, tmp_path)
    predicted = trace.tensor("lif2").sum(0).argmax(1)
    assert (predicted == labels).mean() > 0.9 * right
    exact = float(model.lif1.beta) == 0.875
    assert exported.class_agreement > (0.95 if exact else 0.85)
    assert max(differing(exported).values()) < (0.01 if exact else 0.1)
    assert ("lif1: a decay of 0.9 is taken as 0.875" in exported.notes) is not exact
    details = trace.provenance["details"]
    assert details["same_class_as_the_float_model"] == exported.class_agreement
    assert details["spikes_that_differ_from_the_float_model"].keys() == differing(exported).keys()
    assert trace.provenance["source"].startswith("snntorch ")
    assert "fc " in str(exported)


def test_any_decay(model, tmp_path):
    """0.9 is 29491 / 2^15, and 0.875 a shift; hardly a spike differs."""
    exported = from_torch(model, bars(30, seed=7)[0], 5, input_scale=1 / 255)
    neurons = verified(exported, tmp_path).operation("fc").neuron
    exact = float(model.lif1.beta) == 0.875
    assert (neurons.leak_multiplier is None) == exact
    assert exact or (set(neurons.leak_multiplier.tolist()), neurons.leak_shift) == ({29491}, 15)
    assert max(differing(exported).values()) < 0.01
    assert any("decays are rounded, by at most 6.1e-06" in note for note in exported.notes) is not exact


@pytest.mark.parametrize("beta", [1.0, 0.5, 0.75, 0.25, 0.9375])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("delay", [True, False])
def test_each_neuron_exactly(beta, reset, delay, tmp_path):
    """Weights of multiples of 1/64, the largest 127/64, threshold 1: integers are the float model times 64.

    No spike may differ, although potentials meet the threshold exactly.
    """
    torch.manual_seed(0)
    layer = torch.nn.Linear(12, 20, bias=False)
    # Without delay no potential may pass twice the threshold: see below.
    largest = 8 if delay or reset == "zero" else 5
    weights = torch.randint(-largest, largest + 1, (20, 12)) * 4.0
    weights[:, 0] = 127
    layer.weight.data = weights / 64
    model = torch.nn.Sequential(
        layer, snn.Leaky(beta=beta, threshold=1.0, reset_mechanism=reset, reset_delay=delay, init_hidden=True)
    )
    spikes = np.random.default_rng(3).random((4, 600, 12)) < 0.2
    # The heavy weight serves the scale only.
    spikes[:, :, 0] = False
    exported = from_torch(model, spikes, 4)
    trace = verified(exported, tmp_path)
    (operation,) = trace.operations
    assert operation.neuron.threshold.tolist() == [64] * 20
    assert np.array_equal(operation.weight, weights)
    assert differing(exported) == {"0": 0.0}
    currents = trace.tensor("input").astype(int)[0] @ operation.weight.T.astype(int)
    assert (currents == 64).any()
    assert trace.tensor("1").sum() > 20


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"graded_spikes_factor": 2.0}, "graded spikes"),
        ({"threshold": 0.0}, "a threshold of 0 above rest"),
    ],
)
def test_neurons_that_a_trace_does_not_have(options, reason):
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), snn.Leaky(**({"beta": 0.5, "init_hidden": True} | options)))
    with pytest.raises(UsageError, match=reason):
        from_torch(model, np.ones((2, 4)), 2)


def test_kinds_of_neurons_that_a_trace_does_not_have():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), snn.SLSTM(4, 3, init_hidden=True))
    with pytest.raises(UsageError, match=r"1 \(SLSTM\): this kind of neuron"):
        from_torch(model, np.ones((2, 4)), 2)


def test_resets_that_lower_the_next_comparison():
    """Without delay, a potential above twice the threshold is compared one threshold lower: that is noticed."""
    layer = torch.nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.tensor([[3.2, 0.5], [0.5, 3.5]])
    model = torch.nn.Sequential(layer, snn.Leaky(beta=1.0, reset_delay=False, init_hidden=True))
    with pytest.raises(UsageError, match=r"1: .* of its spikes do not follow from its inputs"):
        from_torch(model, np.array([[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]]), 4)


class InForward(torch.nn.Module):
    """States made in ``forward``, as in snnTorch's tutorials, with or without the loop over time."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif, self.kind = torch.nn.Linear(6, 8), snn.Leaky(beta=0.5, threshold=0.2), kind

    def forward(self, x):
        state = self.lif.init_leaky()
        if self.kind == "one timestep":
            return self.lif(self.fc(x), state)[0]
        spikes = []
        for t in range(4):
            step = x[t] if self.kind == "steps" else x
            spike, state = self.lif(mem=state, input_=self.fc(step))
            spikes.append(spike)
        return torch.stack(spikes)


def test_states_that_are_made_in_forward():
    still = np.random.default_rng(0).random((20, 6)).astype(np.float32)
    moving = np.broadcast_to(still, (4, 20, 6)).copy()
    looped = from_torch(InForward("loop"), still, 4)
    assert looped.trace.tensor("lif").any(1).any(1).all()
    stepped = from_torch(InForward("steps"), moving, 4, loop=True)
    assert np.array_equal(stepped.trace.tensor("lif"), looped.trace.tensor("lif"))
    for inputs in (still, moving):
        with pytest.raises(
            UsageError, match="lif: starts from rest at every timestep, as its state is made or reset in"
        ):
            from_torch(InForward("one timestep"), inputs, 4)


def test_a_neuron_that_gives_its_state_to_the_next_layer():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), snn.Leaky(beta=0.5), torch.nn.Linear(3, 3))
    with pytest.raises(UsageError, match=r"the model failed .* not tuple; .* without init_hidden=True, need a"):
        from_torch(model, np.ones((2, 4)), 2)
