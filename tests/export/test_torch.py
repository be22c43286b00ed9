"""Plain PyTorch: neurons of one's own, what happens between modules, and every refusal with its layer and reason."""

from __future__ import annotations

import math

import numpy as np
import pytest

from archsim.errors import UsageError
from archsim.export import SpikingNeuron, from_torch
from tests.export.frameworks import bars, differing, need, verified

torch = need("torch")
nn = torch.nn


class Cell(nn.Module):
    """A LIF neuron as people write it themselves: decay 1/2, hard reset, fires above 1."""

    def __init__(self, decay=0.5):
        super().__init__()
        self.decay = decay
        self.potential = None

    def reset(self):
        self.potential = None

    def forward(self, current):
        total = current if self.potential is None else current + self.decay * self.potential
        spikes = (total > 1).to(current)
        self.potential = total * (1 - spikes)
        return spikes


OWN = {Cell: lambda cell: SpikingNeuron(cell.decay, 1.0)}


def conv(inputs, outputs, **more):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **more)


def scaled(model, seed=0):
    """Weights that make neurons spike."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * (1.5 if parameter.ndim == 1 else 0.6)
    return model


class Branches(nn.Module):
    """Concatenation, a sum of currents, functional pools, a convolution with a group a channel, one pool used twice."""

    def __init__(self):
        super().__init__()
        self.a, self.cell_a = conv(1, 4), Cell()
        self.b, self.cell_b = conv(4, 4, groups=4), Cell()
        self.c, self.d, self.cell_sum = conv(8, 5), conv(8, 5), Cell()
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(5 * 2 * 2, 3)

    def forward(self, x):
        first = self.cell_a(self.a(x))
        second = self.cell_b(self.b(first))
        both = self.pool(torch.cat([first, second], dim=1))
        total = self.cell_sum(self.c(both) + self.d(both))
        return self.fc(nn.functional.avg_pool2d(total, 2).flatten(1)).softmax(-1)


def test_branches(tmp_path):
    pictures, _ = bars(20)
    exported = from_torch(scaled(Branches()), pictures, 3, neurons=OWN, input_scale=1 / 255)
    trace = verified(exported, tmp_path)
    assert [(operation.name, operation.op) for operation in trace] == [
        ("a", "conv2d"), ("b", "conv2d"), ("concat1", "concat"), ("pool", "pool"), ("c", "conv2d"), ("d", "conv2d"),
        ("add1", "add"), ("cell_sum.pool", "pool"), ("fc", "linear"),
    ]  # fmt: skip
    assert trace.kind("concat1") == "spike"
    assert max(differing(exported).values()) < 0.02
    assert exported.class_agreement >= 0.9
    assert trace.operation("b").groups == 4
    assert trace.operation("fc").k == 5 * 2 * 2


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.cell_a, self.b, self.cell_b, self.fc = conv(1, 3), Cell(), conv(3, 3), Cell(), nn.Linear(192, 4)

    def forward(self, x):
        spikes = self.cell_a(self.a(x))
        out = self.cell_b(self.b(spikes))
        out += spikes
        return self.fc(out.flatten(1))


def test_sums_in_place_in_double_precision(tmp_path):
    """What was recorded stays as it was, although the sum overwrites it."""
    exported = from_torch(scaled(InPlace()).double(), bars(10)[0].astype(float), 3, neurons=OWN)
    trace = verified(exported, tmp_path)
    assert trace.operation("add1").inputs == ("cell_b", "cell_a")
    assert (trace.tensor("cell_a") & trace.tensor("cell_b")).any()
    assert trace.tensor("add1").max() == 2


def test_a_network_that_learns(tmp_path):
    """Trained with a surrogate gradient, shown one timestep at a time; the integers keep its accuracy."""

    class Surrogate(torch.autograd.Function):
        @staticmethod
        def forward(context, distance):
            context.save_for_backward(distance)
            return (distance > 0).float()

        @staticmethod
        def backward(context, gradient):
            (distance,) = context.saved_tensors
            return gradient * (1 - distance.abs()).clamp(min=0)

    class Learning(Cell):
        def forward(self, current):
            total = current if self.potential is None else current + self.decay * self.potential
            spikes = Surrogate.apply(total - 1)
            self.potential = total * (1 - spikes)
            return spikes

    torch.manual_seed(0)
    model = nn.Sequential(
        conv(1, 8, bias=False), nn.BatchNorm2d(8), Learning(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 3)
    )
    pictures, labels = (torch.as_tensor(array) for array in bars(96))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        model[2].reset()
        optimiser.zero_grad()
        nn.functional.cross_entropy(sum(model(pictures) for _ in range(4)), labels).backward()
        optimiser.step()
    pictures, labels = bars(100, seed=5)
    exported = from_torch(
        model, pictures, 4, neurons={Learning: lambda cell: SpikingNeuron(cell.decay, 1.0)}, input_scale=1 / 255,
        provenance={"dataset": "bars", "accuracy": 0.9},
    )  # fmt: skip
    trace = verified(exported, tmp_path)
    assert (trace.tensor("5").sum(0).argmax(1) == labels).mean() > 0.9
    assert exported.class_agreement > 0.97
    assert max(differing(exported).values()) < 0.01
    assert trace.provenance["dataset"] == "bars"


def test_spikes_that_change_in_time_and_weights_of_few_bits(tmp_path):
    model = scaled(nn.Sequential(nn.Linear(30, 40), Cell(), nn.Linear(40, 5)))
    spikes = np.random.default_rng(0).random((6, 30, 30)) < 0.3
    errors = []
    for bits in (8, 4, 3):
        exported = from_torch(model, spikes, 6, neurons=OWN, weight_bits=bits)
        trace = verified(exported, tmp_path)
        assert trace.kind("input") == "spike"
        assert trace.operation("0").weight_bits == bits
        errors.append(exported.layers[0].weight_error)
    assert errors[0] < 0.01 < errors[1] < 0.2 < errors[2]


class Loop(nn.Module):
    """Its own loop over time, over [T, I, F] that it unpacks, with the first layer outside of the loop."""

    def __init__(self):
        super().__init__()
        self.first, self.cell, self.second = nn.Linear(6, 9), Cell(), nn.Linear(9, 4)

    def forward(self, x):
        currents = self.first(x)
        return torch.stack([self.second(self.cell(current)) for current in currents]).mean(0)


def test_a_loop_over_time(tmp_path):
    model = scaled(Loop())
    values = np.random.default_rng(0).random((5, 3, 6)) < 0.5
    looped = from_torch(model, values, 5, neurons=OWN, loop=True)
    verified(looped, tmp_path)
    assert looped.class_agreement == 1.0
    stepped = from_torch(nn.Sequential(model.first, model.cell, model.second), values, 5, neurons=OWN)
    assert stepped.layers[0].differing == looped.layers[0].differing
    assert np.array_equal(stepped.trace.tensor("1"), looped.trace.tensor("cell"))
    with pytest.raises(UsageError, match=r"cell: reads part of a tensor \(pass loop=True if the model"):
        from_torch(model, values, 5, neurons=OWN)


class Bad(nn.Module):
    """Everything that a trace cannot hold, in one network."""

    def __init__(self):
        super().__init__()
        self.grown, self.cell1 = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), Cell()
        self.stem, self.cell2 = conv(1, 2), Cell()
        self.relu, self.after_relu = nn.ReLU(), conv(2, 2)
        self.norm, self.after_norm = nn.BatchNorm2d(2), conv(2, 2)
        self.divided = conv(2, 2)
        self.turned, self.pool, self.last = conv(2, 2), nn.MaxPool2d(2, dilation=2), nn.Linear(18, 3)

    def forward(self, x):
        self.cell1(self.grown(x))
        spikes = self.cell2(self.stem(x))
        self.after_relu(self.relu(self.stem(x)))
        self.after_norm(self.norm(spikes))
        self.divided(spikes / (spikes + 1))
        self.turned(spikes.flip(-1))
        return self.last(self.pool(spikes).flatten(1))


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(UsageError) as caught:
        from_torch(scaled(Bad()), bars(3)[0], 2, neurons=OWN)
    told = "\n".join(caught.value.problems)
    for line in (
        "grown (Conv2d): padding_mode 'circular'; allowed: 'zeros'",
        "relu: a ReLU in a network of spiking neurons",
        "divided: reads a quotient of two tensors",
        "turned (Conv2d): reads values in another order (torch's flip()), which a trace cannot hold",
        "pool (MaxPool2d): a pool with dilation 2; allowed: 1",
    ):
        assert line in told
    assert len(caught.value.problems) == 5


def test_every_module_without_a_counterpart_is_told_with_what_can_be_done():
    """One behind the other, the second reads what the first has spoilt; and two in a row are one reason."""
    layers = [conv(1, 2), nn.GroupNorm(1, 2), Cell(), conv(2, 2), nn.PReLU(), nn.Softplus(), Cell(), nn.Flatten()]
    with pytest.raises(UsageError) as caught:
        from_torch(nn.Sequential(*layers, nn.Linear(128, 3)), bars(3)[0], 2, neurons=OWN)
    assert caught.value.problems == (
        "2: reads the output of 1 (GroupNorm; a batch norm becomes part of the layer in front of it), which a trace "
        "cannot hold",
        "6: reads the output of 4 (PReLU; spiking neurons can take its place), which a trace cannot hold",
    )


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.cell = nn.Linear(4, 4), nn.Linear(4, 4), Cell()

    def forward(self, x):
        return self.cell(self.b(self.cell(self.a(x))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.back, self.cell, self.before = nn.Linear(4, 4), nn.Linear(4, 4), Cell(), None

    def forward(self, x):
        current = self.a(x)
        if self.before is not None:
            current = current + self.back(self.before)
        self.before = self.cell(current)
        return self.before


class Wrong(Cell):
    """Does not do what ``OWN`` says of its class."""

    def forward(self, current):
        return super().forward(current * 0.5)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Twice(), "cell: has two inputs, a and b, in one state"),
        (Recurrent(), "cell: has two inputs, a and add1, in one state"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), "no spiking neurons that archsim knows.* T = 1"),
        (nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), Cell()), "1: a ReLU in a network of spiking"),
        (nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4), Cell()), "1: a gelu in a network of spiking"),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4), Cell()), "1: a layer norm in a network of"),
        (nn.Sequential(nn.Linear(4, 4), Wrong()), "1: .* of its spikes do not follow from its inputs"),
        (nn.Sequential(nn.Linear(5, 4), Cell()), r"the model failed on inputs of the shape \[2, 4\], RuntimeError"),
    ],
)  # fmt: skip
def test_refusals(model, reason):
    inputs = np.random.default_rng(0).random((2, 4))
    own = OWN | {Wrong: OWN[Cell]}
    with pytest.raises(UsageError, match=reason):
        from_torch(scaled(model), inputs, 3, neurons=own)


class Delaying(nn.Module):
    """Its last layer reads the spikes of the timestep before."""

    def __init__(self):
        super().__init__()
        self.a, self.cell, self.b, self.last, self.before = nn.Linear(4, 4), Cell(), nn.Linear(4, 2), Cell(), None

    def forward(self, x):
        spikes = self.cell(self.a(x))
        shown, self.before = spikes if self.before is None else self.before, spikes
        return self.last(self.b(shown))


class Growing(nn.Module):
    """Its weights are others at every timestep."""

    def __init__(self):
        super().__init__()
        self.a, self.cell = nn.Linear(4, 4), Cell()

    def forward(self, x):
        self.a.weight.data.mul_(1.5)
        return self.cell(self.a(x))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(Twice(), nn.Linear(4, 3), Cell()), "0.cell: has two inputs, 0.a and 0.b, in one state; allowed"),
        (nn.Sequential(Recurrent(), nn.Linear(4, 3), Cell()), "0.cell: has two inputs, 0.a and add1, in one state"),
        (Delaying(), "last: reads b of timestep 0 at its own timestep 1"),
        (nn.Sequential(Growing(), nn.Linear(4, 3), Cell()), "0.a: does not follow from input; the model computes"),
    ],
    ids=["twice", "recurrent", "delaying", "growing"],
)  # fmt: skip
def test_one_fault_is_said_once(model, reason):
    """Not again at every timestep, nor of what reads it."""
    with pytest.raises(UsageError) as error:
        from_torch(scaled(model), np.random.default_rng(0).random((2, 4)), 5, neurons=OWN)
    (problem,) = error.value.problems
    assert problem.startswith(reason)


@pytest.mark.parametrize(
    ("shape", "timesteps", "more", "reason"),
    [
        ((2, 4), 0, {}, "T: got 0; allowed: 1 to 1024"),
        ((2, 4), 1025, {}, "T: got 1025"),
        ((3, 2, 4), 4, {}, r"inputs: got the shape \[3, 2, 4\]; allowed: \[I, ...\] or \[4, I, ...\]"),
        ((4,), 4, {}, "inputs: got the shape"),
        ((2, 4), 4, {"weight_bits": 9}, "weight_bits: got 9; allowed: 2 to 8"),
        ((2, 4), 4, {"input_bits": 0}, "input_bits: got 0"),
        ((2, 4), True, {}, "T: got True"),
        ((2, 4), 4, {"weight_bits": None}, "weight_bits: got None"),
        ((2, 4), 4, {"input_bits": 3.5}, "input_bits: got 3.5"),
        ((2, 4), 4, {"input_scale": "x" * 1000}, r"input_scale: got 'xx+... \(1,002 characters\); allowed"),
        ((2, 4), 4, {"input_scale": 0}, "input_scale: got 0; allowed: a number above zero"),
        ((2, 4), 4, {"input_scale": math.nan}, "input_scale: got nan"),
        ((2, 4), 4, {"input_scale": [1.0]}, "input_scale: got"),
        ((2, 4), 4, {"input_scale": 10**400}, "input_scale: got"),
        ((2, 4), 4, {"provenance": "me"}, "provenance: must be a mapping, or None, got 'me'"),
    ],
)
def test_wrong_arguments(shape, timesteps, more, reason):
    model = scaled(nn.Sequential(nn.Linear(4, 4), Cell()))
    with pytest.raises(UsageError, match=reason):
        from_torch(model, np.ones(shape), timesteps, neurons=OWN, **more)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([np.zeros((3, 4)), np.zeros((2, 4))], "inputs: got parts of different shapes; allowed: one array of numbers"),
        ([[1, 2], [3]], "inputs: got parts of different shapes"),
        ([np.zeros((2, 4)), [[0.0], [0.0, 1.0]]], "inputs: got parts of different shapes"),
        ([torch.zeros(2, 4), torch.zeros(3, 4)], "inputs: got parts of different shapes"),
        ([torch.zeros(2, 4, requires_grad=True)], r"inputs: got no array, .*requires grad"),
        ("spikes", "inputs: got <U6; allowed: numbers"),
        (None, "inputs: got object; allowed: numbers"),
    ],
)
def test_inputs_that_are_no_array_of_numbers(inputs, reason):
    with pytest.raises(UsageError, match=reason):
        from_torch(scaled(nn.Sequential(nn.Linear(4, 4), Cell())), inputs, 2, neurons=OWN)


def test_arguments_of_a_wrong_kind():
    model = scaled(nn.Sequential(nn.Linear(4, 4), Cell()))
    for given, inputs, reason in (
        ("model.pt", np.ones((2, 4)), "model: got str"),
        (model, np.array([["a"]]), "inputs: got <U1"),
        (model, np.full((2, 4), np.nan), "not finite"),
        (model, torch.ones(2, 4).to_sparse(), "inputs: got a tensor of torch.sparse_coo"),
        (model, torch.ones(2, 4, device="meta"), "on meta; allowed: a dense one with values"),
    ):
        with pytest.raises(UsageError, match=reason):
            from_torch(given, inputs, 3, neurons=OWN)
    with pytest.raises(UsageError, match="neurons: must be a mapping, or None, got 3"):
        from_torch(model, np.ones((2, 4)), 3, neurons=3)


def test_descriptions_of_neurons_that_make_no_sense():
    with pytest.raises(UsageError, match=r"reset: got 'soft'; allowed: hard, soft_before_leak"):
        SpikingNeuron(0.5, 1.0, "soft")
    with pytest.raises(UsageError, match=r"decay: got 1.5; allowed: 0 to 1"):
        SpikingNeuron(1.5, 1.0)

    class Demanding(Cell):
        def reset(self, batch):
            pass

    with pytest.raises(UsageError, match=r"Demanding.reset: .* missing 1 required"):
        from_torch(nn.Sequential(nn.Linear(4, 4), Demanding()), np.ones((2, 4)), 3, neurons={Demanding: OWN[Cell]})


def test_weights_that_are_no_numbers():
    model = scaled(nn.Sequential(nn.Linear(4, 4), Cell()))
    model[0].weight.data[0, 0] = torch.nan
    with pytest.raises(UsageError, match="0: weights that are not finite"):
        from_torch(model, np.ones((2, 4)), 3, neurons=OWN)


def test_neurons_on_the_inputs(tmp_path):
    """A neuron as the encoder: the trace adds up a single tensor."""
    model = scaled(nn.Sequential(Cell(), nn.Flatten(), nn.Linear(64, 5), Cell()))
    trace = verified(from_torch(model, bars(5)[0], 4, neurons=OWN, input_scale=1 / 255), tmp_path)
    assert [(operation.name, operation.op) for operation in trace] == [("0", "add"), ("2", "linear")]
    assert trace.operation("0").neuron.threshold.tolist() == [255]


class Late(nn.Module):
    """A read-out of the last timestep alone."""

    def __init__(self):
        super().__init__()
        self.a, self.cell, self.fc, self.calls = nn.Linear(4, 4), Cell(), nn.Linear(4, 3), 0

    def forward(self, x):
        self.calls += 1
        spikes = self.cell(self.a(x))
        return self.fc(spikes) if self.calls == 3 else spikes


class ReadOut(nn.Module):
    """What it makes of its outputs stays out, though it looks like nodes."""

    def __init__(self):
        super().__init__()
        self.a, self.cell, self.fc, self.seen = nn.Linear(4, 4), Cell(), nn.Linear(4, 3), []

    def forward(self, x):
        spikes = self.cell(self.a(x))
        self.seen.append(self.fc(spikes))
        if len(self.seen) == 3:
            return self.seen[2] * 2 + self.seen[0], (self.seen[1] - 1) / 3, spikes * 0.5
        return self.fc.weight * 2


def test_what_a_model_does_with_its_outputs(tmp_path):
    model = scaled(ReadOut())
    inputs = np.random.default_rng(0).random((9, 4))
    exported = from_torch(model, inputs, 3, neurons=OWN)
    plain = from_torch(nn.Sequential(model.a, model.cell, model.fc), inputs, 3, neurons=OWN)
    assert [operation.name for operation in verified(exported, tmp_path)] == ["a", "fc"]
    assert np.array_equal(exported.trace.tensor("fc"), plain.trace.tensor("2"))


def test_a_last_neuron_that_is_not_known():
    """It stays out, and that is said; where there is no other, that is an error."""
    inputs = np.random.default_rng(0).random((9, 4))
    model = scaled(nn.Sequential(nn.Linear(4, 4), Cell(), nn.Linear(4, 3), Wrong()))
    notes = from_torch(model, inputs, 3, neurons=OWN).notes
    assert (
        "3 (Wrong) is not understood and stays out; a spiking neuron of the model's own is described by `neur"
        in notes[0]
    )
    with pytest.raises(UsageError) as caught:
        from_torch(nn.Sequential(nn.Linear(4, 4), CobaLIFCell()), inputs, 3)
    assert "no spiking neurons that archsim knows" in caught.value.problems[0]
    assert "1 (CobaLIFCell) is not understood and stays out; of norse LIF, LIFRecurrent" in caught.value.problems[1]


class Reshaped(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.cell, self.conv, self.last = nn.Linear(4, 18), Cell(), conv(2, 3), Cell()

    def forward(self, x):
        return self.last(self.conv(self.cell(self.a(x)).reshape(-1, 2, 3, 3)))


class Drifting(nn.Module):
    """Weights that change from timestep to timestep."""

    def __init__(self):
        super().__init__()
        self.a, self.cell = nn.Linear(4, 4), Cell()

    def forward(self, x):
        self.a.weight.data *= 0.9
        return self.cell(self.a(x))


class Estimating(nn.Module):
    """A batch-norm that forward puts into training mode."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.cell = nn.Linear(4, 4), nn.BatchNorm1d(4), Cell()

    def forward(self, x):
        self.norm.train()
        return self.cell(self.norm(self.a(x)))


class Written(nn.Module):
    """A neuron written out in functions."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.potential = nn.Linear(4, 4), nn.Linear(4, 3), 0.0

    def forward(self, x):
        self.potential = 0.5 * self.potential + self.a(x)
        spikes = (self.potential > 1).float()
        self.potential = self.potential * (1 - spikes)
        return self.b(spikes)


class FromNumbers(nn.Module):
    """Tensors that are lost on their way."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.cell = nn.Linear(4, 4), nn.Linear(4, 4), Cell()

    def forward(self, x):
        return self.cell(self.b(torch.tensor(self.a(x).tolist())))


class CobaLIFCell(Cell):
    """Made to look like one of norse."""

    def forward(self, current, state=None):
        return super().forward(current), state


CobaLIFCell.__module__ = "norse.torch.module.lif"


class Norse(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.lif, self.b, self.cell = nn.Linear(4, 4), CobaLIFCell(), nn.Linear(4, 4), Cell()

    def forward(self, x):
        return self.cell(self.b(self.lif(self.a(x))[0]))


def hooked():
    """A hook that changes what a layer gives."""
    model = nn.Sequential(nn.Linear(4, 4), Cell())
    model[0].register_forward_hook(lambda module, given, output: output + 1)
    return model


class Leaving(Cell):
    """Adds into its input, and gives that back as its spikes."""

    def forward(self, current):
        return current.copy_(super().forward(current))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Late(), "fc: runs at timestep 2 alone; allowed: at all 3"),
        (Drifting(), "a: does not follow from input; the model computes something between them that was not"),
        (Estimating(), "norm: does not follow from a"),
        (hooked(), r"0: does not follow from input; .* \(values differ by up to 1\)"),
        (Written(), r"b: reads the output of torch's gt\(\) \(of a neuron\?"),
        (FromNumbers(), "b: reads a tensor that was not computed from the inputs by modules and functions of torch"),
        (Norse(), r"b: reads the output of lif \(CobaLIFCell; of norse LIF, LIFRec"),
    ],
)  # fmt: skip
def test_what_a_layer_gives_is_computed_again(model, reason):
    with pytest.raises(UsageError, match=reason):
        from_torch(scaled(model), np.random.default_rng(0).random((5, 4)), 3, neurons=OWN)


def test_a_neuron_that_writes_into_its_input(tmp_path):
    """Its currents are taken before it runs."""
    inputs = np.random.default_rng(0).random((50, 4))
    layers = scaled(nn.Sequential(nn.Linear(4, 9), Leaving(), nn.Linear(9, 3), Cell()))
    exported = from_torch(layers, inputs, 3, neurons=OWN | {Leaving: OWN[Cell]})
    plain = from_torch(nn.Sequential(layers[0], Cell(), layers[2], Cell()), inputs, 3, neurons=OWN)
    assert verified(exported, tmp_path).sha256 == plain.trace.sha256
    assert exported.trace.tensor("1").any()


def test_a_description_that_is_no_neuron():
    model = nn.Sequential(nn.Linear(4, 4), Cell())
    with pytest.raises(UsageError, match=r"1 \(Cell\): `neurons` describes it by NoneType; allowed: a SpikingNeuron"):
        from_torch(model, np.ones((2, 4)), 3, neurons={Cell: lambda cell: None})


def test_a_batch_norm_behind_the_last_layer(tmp_path):
    """It is taken into that, and the classes are those of the model."""
    model = scaled(nn.Sequential(nn.Linear(6, 30), Cell(), nn.Linear(30, 4), nn.BatchNorm1d(4)))
    model[3].weight.data = torch.tensor([3.0, -1.0, 0.5, 0.1])
    inputs = np.random.default_rng(0).random((80, 6))
    exported = from_torch(model, inputs, 3, neurons=OWN)
    trace = verified(exported, tmp_path)
    assert exported.class_agreement > 0.95
    model.eval()
    model[1].reset()
    with torch.no_grad():
        classes = sum(model(torch.tensor(inputs).float()) for _ in range(3)).argmax(1).numpy()
    assert (trace.tensor("2").sum(0).argmax(1) == classes).mean() == exported.class_agreement


def test_a_rule_that_fires_at_the_threshold_is_another_one():
    """Spikes that add up to the threshold exactly tell them apart."""
    spikes = (np.random.default_rng(0).random((4, 20, 6)) < 0.5).astype(float)
    model = nn.Sequential(Cell(decay=1.0))
    with pytest.raises(UsageError, match="of its spikes do not follow from its inputs"):
        from_torch(model, spikes, 4, neurons={Cell: lambda cell: SpikingNeuron(1.0, 1.0, fires_at_threshold=True)})
