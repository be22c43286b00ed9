"""SpikingJelly: residual networks in both step modes, and every neuron on a grid where float and integers agree."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from archsim.errors import UsageError
from archsim.export import from_torch
from tests.export.frameworks import bars, differing, need, verified

torch = need("torch")
need("spikingjelly")
neuron = need("spikingjelly.activation_based.neuron")
layer = need("spikingjelly.activation_based.layer")
functional = need("spikingjelly.activation_based.functional")


class Block(torch.nn.Module):
    """Two convolutions and a shortcut: of currents before the neuron (as in ResNet19), or of spikes behind it (SEW)."""

    def __init__(self, channels, shortcut, tau):
        super().__init__()
        self.conv1 = layer.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = layer.BatchNorm2d(channels)
        self.sn1 = neuron.LIFNode(tau=tau, detach_reset=True)
        self.conv2 = layer.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = layer.BatchNorm2d(channels)
        self.sn2 = neuron.LIFNode(tau=tau, detach_reset=True)
        self.shortcut = shortcut

    def forward(self, x):
        out = self.bn2(self.conv2(self.sn1(self.bn1(self.conv1(x)))))
        if self.shortcut == "currents":
            out += x
            return self.sn2(out)
        return self.sn2(out) + x


class Residual(torch.nn.Module):
    def __init__(self, shortcut, tau=2.0):
        super().__init__()
        self.stem = torch.nn.Sequential(
            layer.Conv2d(1, 6, 3, padding=1, bias=False), layer.BatchNorm2d(6), neuron.IFNode(v_reset=None)
        )
        self.block = Block(6, shortcut, tau)
        self.pool = layer.MaxPool2d(2)
        self.conv = layer.Conv2d(6, 9, 3, stride=2, padding=1)
        self.sn = neuron.ParametricLIFNode(init_tau=tau, decay_input=False)
        self.mean = layer.AdaptiveAvgPool2d((1, 1))
        self.flat = layer.Flatten()
        self.drop = layer.Dropout(0.1)
        self.fc = layer.Linear(9, 6)
        self.out = neuron.LIFNode(tau=tau, v_reset=None)
        self.vote = layer.VotingLayer(2)

    def forward(self, x):
        x = self.sn(self.conv(self.pool(self.block(self.stem(x)))))
        return self.vote(self.out(self.fc(self.drop(self.flat(self.mean(x))))))


def trained(shortcut, timesteps=4):
    torch.manual_seed(2)
    model = Residual(shortcut)
    functional.set_step_mode(model, "m")
    pictures, labels = (torch.as_tensor(array) for array in bars(96))
    sequence = pictures.unsqueeze(0).repeat(timesteps, 1, 1, 1, 1)
    optimiser = torch.optim.Adam([*model.parameters()], lr=0.02)
    for _ in range(30):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(4 * model(sequence).mean(0), labels).backward()
        optimiser.step()
        functional.reset_net(model)
    # Training moved it off 2; an exact shift is what the tests compare.
    model.sn.w.data.zero_()
    return model.eval()


@pytest.mark.parametrize("shortcut", ["currents", "spikes"])
def test_a_trained_residual_network(shortcut, tmp_path):
    model = trained(shortcut)
    pictures, labels = bars(60, seed=7)
    exported = {}
    for step_mode in ("m", "s"):
        functional.set_step_mode(model, step_mode)
        exported[step_mode] = from_torch(model, pictures, 4, input_scale=1 / 255)
    trace = verified(exported["m"], tmp_path)
    assert trace.sha256 == exported["s"].trace.sha256
    assert [row.differing for row in exported["m"].layers] == [row.differing for row in exported["s"].layers]
    assert max(differing(exported["m"]).values()) < 0.05
    votes = trace.tensor("out").sum(0).reshape(len(labels), 3, 2).sum(2)
    assert (votes.argmax(1) == labels).mean() > 0.8
    kinds = {operation.name: operation.op for operation in trace}
    assert kinds["add1"] == "add"
    assert ("add1.1" in kinds) == (shortcut == "currents")
    assert trace.kind("block.sn2" if shortcut == "spikes" else "block.sn1") == "spike"
    # The classifier reads the mean, not a copy of its weights for every position.
    assert trace.operation("fc").k == trace.operation("mean").n


def test_a_network_is_left_as_it_was():
    model = Residual("spikes")
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    from_torch(model, bars(2)[0], 2)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.block.sn1.v == 0.0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# With what the neuron multiplies its input by: thresholds of that make the real threshold 1.
NEURONS = {
    "if": (1.0, lambda **more: neuron.IFNode(**more)),
    "lif": (0.5, lambda **more: neuron.LIFNode(tau=2.0, **more)),
    "lif without decay of the input": (1.0, lambda **more: neuron.LIFNode(tau=2.0, decay_input=False, **more)),
    "slow lif": (0.25, lambda **more: neuron.LIFNode(tau=4.0, **more)),
    "learned lif": (0.5, lambda **more: neuron.ParametricLIFNode(init_tau=2.0, **more)),
}


@pytest.mark.parametrize("kind", NEURONS)
@pytest.mark.parametrize("rest", [0.0, None, -0.25])
@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_each_neuron_exactly(kind, rest, step_mode, tmp_path):
    """Weights of multiples of 1/64, the largest 127/64: integers are the float model times 64, ties included.

    SpikingJelly fires at the threshold: currents that meet it exactly must spike.
    """
    torch.manual_seed(0)
    linear = layer.Linear(12, 20, bias=False)
    weights = torch.randint(-8, 9, (20, 12)) * 4.0
    weights[:, 0] = 127
    linear.weight.data = weights / 64
    gain, make = NEURONS[kind]
    model = torch.nn.Sequential(linear, make(v_threshold=gain, v_reset=None if rest is None else gain * rest))
    functional.set_step_mode(model, step_mode)
    spikes = np.random.default_rng(3).random((4, 50, 12)) < 0.25
    exported = from_torch(model, spikes, 4)
    trace = verified(exported, tmp_path)
    (operation,) = trace.operations
    assert np.array_equal(operation.weight, weights)
    assert differing(exported) == {"0": 0.0}
    threshold = int(operation.neuron.threshold[0])
    assert threshold == 64 * (1 - (rest or 0))
    met = trace.tensor("input").astype(int)[0] @ operation.weight.T.astype(int) == threshold
    assert met.any()
    assert trace.tensor("1")[0][met].all()


class Encoder(torch.nn.Module):
    """The first convolution runs once, outside of time; containers fold time into the batch."""

    def __init__(self, timesteps):
        super().__init__()
        self.timesteps = timesteps
        self.static = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4))
        self.sn1 = neuron.LIFNode(tau=2.0, step_mode="m")
        self.body = layer.SeqToANNContainer(torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(64, 5))
        self.sn2 = neuron.IFNode(step_mode="m")

    def forward(self, pictures):
        sequence = self.static(pictures).unsqueeze(0).repeat(self.timesteps, 1, 1, 1, 1)
        return self.sn2(self.body(self.sn1(sequence))).mean(0)


def test_containers_that_loop_over_time(tmp_path):
    """Single-step layers in a MultiStepContainer give the trace of the same layers in multi-step mode."""
    torch.manual_seed(4)
    layers = [layer.Linear(12, 20), neuron.LIFNode(tau=2.0), layer.Linear(20, 5), neuron.IFNode()]
    layers[0].weight.data *= 4
    layers[2].weight.data *= 4
    spikes = np.random.default_rng(3).random((4, 20, 12)) < 0.3
    looped = from_torch(layer.MultiStepContainer(*layers), spikes, 4, loop=True)
    functional.set_step_mode(plain := torch.nn.Sequential(*layers), "m")
    multi = from_torch(plain, spikes, 4)
    verified(looped, tmp_path)
    assert np.array_equal(looped.trace.tensor("3"), multi.trace.tensor("3"))
    assert looped.trace.tensor("3").any()
    recurrent = layer.ElementWiseRecurrentContainer(neuron.IFNode(), lambda x, y: x + y)
    with pytest.raises(UsageError, match=r"1.sub_module: reads the output of torch's add"):
        from_torch(torch.nn.Sequential(layer.Linear(12, 20), recurrent), spikes, 4)


def test_time_that_the_model_makes_itself(tmp_path):
    torch.manual_seed(4)
    model = Encoder(4)
    for parameter in model.parameters():
        parameter.data *= 3
    exported = from_torch(model, bars(30)[0], 4, loop=True, input_scale=1 / 255)
    trace = verified(exported, tmp_path)
    assert [operation.name for operation in trace] == ["static.0", "body.0", "body.2"]
    assert trace.tensor("sn2").any()
    assert exported.class_agreement >= 0.9
    with pytest.raises(UsageError, match=r"the model failed on inputs of the shape .*loop=True"):
        from_torch(model, bars(30)[0], 4)


def test_neurons_that_a_trace_does_not_have():
    model = torch.nn.Sequential(
        layer.Linear(4, 3), neuron.QIFNode(), layer.Linear(3, 3), neuron.LIFNode(tau=3.0)
    )  # fmt: skip
    with pytest.raises(UsageError) as caught:
        from_torch(model, np.ones((2, 4)), 2)
    assert "1 (QIFNode): this kind of neuron has no counterpart" in caught.value.problems[0]
    parallel = {
        "PSN": {"T": 2},
        "MaskedPSN": {"k": 2, "T": 2, "step_mode": "m"},
        "SlidingPSN": {"k": 2, "step_mode": "m"},
    }
    for kind, options in parallel.items():
        model = torch.nn.Sequential(layer.Linear(4, 3, step_mode="m"), getattr(neuron, kind)(**options))
        with pytest.raises(UsageError, match=rf"1 \({kind}\): .* fires by a weighted sum over timesteps"):
            from_torch(model, np.ones((2, 4)), 2)
    # In single-step mode it fails by itself; what is wrong is said, too.
    with pytest.raises(UsageError) as caught:
        from_torch(torch.nn.Sequential(torch.nn.Linear(4, 3), neuron.PSN(T=2)), np.ones((5, 4)), 2)
    assert caught.value.problems[0].startswith("1 (PSN): this kind of neuron")


@pytest.mark.parametrize("combined", ["ADD", "AND", "IAND"])
def test_spikes_that_are_combined_as_in_sew(combined, tmp_path):
    """A sum of spikes is exact, and so are products, which are spikes again."""

    class Sew(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv1, self.sn1, self.conv2, self.sn2 = conv(1), neuron.IFNode(), conv(4), neuron.IFNode()
            self.conv3, self.sn3 = conv(4), neuron.IFNode()

        def forward(self, x):
            x = self.sn1(self.conv1(x))
            y = self.sn2(self.conv2(x))
            out = x + y if combined == "ADD" else x * y if combined == "AND" else x * (1.0 - y)
            return self.sn3(self.conv3(out))

    def conv(channels):
        made = layer.Conv2d(channels, 4, 3, padding=1)
        made.weight.data *= 3
        return made

    if combined == "ADD":
        trace = verified(from_torch(Sew(), bars(5)[0], 4), tmp_path)
        assert trace.operation("add1").inputs == ("sn1", "sn2")
        assert trace.tensor("add1").max() == 2
        return
    trace = verified(from_torch(Sew(), bars(5)[0], 4), tmp_path)
    first, second = trace.tensor("sn1"), trace.tensor("sn2")
    product = trace.operation("multiply1")
    assert trace.kind("multiply1") == "spike"
    assert np.array_equal(trace.tensor("multiply1"), first & (second if combined == "AND" else ~second))
    assert trace.tensor("multiply1").any() and product.k >= 1


def test_dropout_and_pools_of_spikingjelly(tmp_path):
    torch.manual_seed(0)
    layers = [
        layer.Conv2d(1, 4, 3, padding=1), neuron.IFNode(), layer.Dropout2d(0.5),
        layer.AvgPool2d(2, divisor_override=1), layer.Flatten(), layer.Dropout(0.5), layer.Linear(64, 5),
        neuron.IFNode(),
    ]  # fmt: skip
    layers[0].weight.data *= 3
    exported = from_torch(torch.nn.Sequential(*layers), bars(20)[0], 4, input_scale=1 / 255)
    trace = verified(exported, tmp_path)
    scale = trace.operation("6").neuron.threshold[:, None]
    assert np.allclose(trace.operation("6").weight / scale, layers[6].weight.detach().numpy(), atol=0.5 / scale.min())
    assert trace.tensor("3").max() == 4
    assert differing(exported)["6"] < 0.1
    assert trace.tensor("7").any()


def test_a_neuron_derived_from_one_of_spikingjelly():
    class Sharper(neuron.LIFNode):
        pass

    model = torch.nn.Sequential(layer.Linear(4, 3), Sharper(tau=2.0))
    with pytest.raises(
        UsageError, match=r"1 \(Sharper\): .* a spiking neuron of the model's own is described by `neurons=`"
    ):
        from_torch(model, np.ones((2, 4)), 2)


@pytest.mark.parametrize(("threshold", "tau"), [("1/10", 2), ("3/10", 2), ("1/10", 4), ("7/10", 4)])
def test_potentials_that_equal_a_threshold_but_for_rounding(threshold, tau, tmp_path):
    """Of spikes alone potentials meet decimal thresholds exactly; by fractions, by hand, whatever floats make of it."""
    spikes = np.random.default_rng(0).random((4, 300, 6)) < 0.5
    model = torch.nn.Sequential(neuron.LIFNode(tau=float(tau), v_threshold=float(Fraction(threshold)), v_reset=None))
    exported = from_torch(model, spikes.astype(np.float32), 4)
    trace = verified(exported, tmp_path)
    least, ties, expected = Fraction(threshold), 0, np.zeros(spikes.shape, bool)
    for image, feature in np.ndindex(300, 6):
        potential = Fraction(0)
        for t in range(4):
            potential += (int(spikes[t, image, feature]) - potential) / tau
            ties += potential == least
            expected[t, image, feature] = potential >= least
            potential -= least * bool(expected[t, image, feature])
    assert ties > 0 or threshold != "1/10" or tau != 2
    np.testing.assert_array_equal(trace.tensor(trace.operations[-1].output), expected)


@pytest.mark.parametrize(
    ("behind", "note"),
    [
        (lambda spikes: spikes, None),
        (lambda spikes: (spikes.flatten(1), None), None),
        (lambda spikes: spikes.sum(0), "the model returns the output of torch's sum(); the trace ends before that"),
        (lambda spikes: spikes[..., [0, 3, 1, 2]], "the model returns values in another order (torch's getitem())"),
    ],
)
def test_what_a_model_does_behind_its_last_neuron_is_said(behind, note):
    class Behind(torch.nn.Sequential):
        def forward(self, x):
            return behind(super().forward(x))

    torch.manual_seed(0)
    model = Behind(layer.Linear(8, 4), neuron.LIFNode())
    model[0].weight.data *= 3
    functional.set_step_mode(model, "m")
    found = [line for line in from_torch(model, torch.rand(4, 3, 8), 4).notes if "returns" in line]
    assert len(found) == (note is not None)
    assert note is None or found[0].startswith(note)


def test_frames_that_repeat_are_stored_once():
    """As SpikingJelly's users show an image: the direct encoder's input, whichever way it is given."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(layer.Linear(8, 4), neuron.LIFNode())
    model[0].weight.data *= 3
    functional.set_step_mode(model, "m")
    image = torch.rand(3, 8)
    once, repeated = from_torch(model, image, 4), from_torch(model, image.repeat(4, 1, 1), 4)
    assert once.trace.tensor("input").shape == repeated.trace.tensor("input").shape == (3, 8)
    assert "inputs: the same at every timestep, stored once" in repeated.notes
    assert not once.trace.meta.tensors["input"].per_timestep
    moving = torch.rand(4, 3, 8)
    assert from_torch(model, moving, 4).trace.tensor("input").shape == (4, 3, 8)
