"""Conversion to signed spikes: exact traces, what calibration takes away, and the bound of the output's error."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import UsageError
from archsim.export import convert
from archsim.trace import check_trace, load_trace, save_trace
from archsim.trace.resimulation import compute

torch = pytest.importorskip("torch")
nn = torch.nn
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "sigmoid": nn.Sigmoid}


class Sines(nn.Module):
    """Sines between layers, written out, and a scale."""

    def __init__(self, sizes=(2, 12, 10, 3)):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.sin(2.0 * layer(x))
        return self.layers[-1](x)


def chain(activation, sizes=(2, 12, 10, 3), seed=0):
    torch.manual_seed(seed)
    if activation == "sine":
        return Sines(sizes)
    layers = []
    for pair in pairwise(sizes):
        layers += [nn.Linear(*pair), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def points(count=40, features=2, seed=0):
    return np.random.default_rng(seed).integers(-64, 65, (count, features)) / 64


def outputs(model, values):
    with torch.no_grad():
        return model.double()(torch.from_numpy(values)).numpy()


def worst(found):
    """The largest L2 norm of an input's error."""
    return np.linalg.norm(found.outputs - found.float_outputs, axis=1).max()


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "sine"])
@pytest.mark.parametrize("rounding", ["nearest", "down"])
def test_traces_are_exact_and_near(tmp_path, activation, rounding):
    model, shown = chain(activation), points()
    found = convert(model, shown, 64, rounding=rounding, input_scale=1 / 64)
    save_trace(found.trace, tmp_path / "a.npz")
    loaded = load_trace(tmp_path / "a.npz")
    assert [check.mismatches for check in check_trace(loaded)] == [0, 0, 0]
    assert [loaded.kind(op.output) for op in loaded.operations] == ["signed_spike", "signed_spike", "int"]
    wanted = outputs(model, shown)
    np.testing.assert_allclose(found.float_outputs, wanted)
    assert np.linalg.norm(found.outputs - wanted) < 0.05 * np.linalg.norm(wanted)
    # The last potential of the read-out, in real numbers, is the output.
    last = loaded.operations[-1].output
    np.testing.assert_allclose(loaded.tensor(last)[-1] * loaded.meta.tensors[last].scale, found.outputs)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), activation=st.sampled_from([*ACTIVATIONS, "sine"]), timesteps=st.integers(1, 40),
    calibration=st.sampled_from(["none", "light", "advanced"]), rounding=st.sampled_from(["nearest", "down"]),
    inputs=st.sampled_from([{"input_scale": 1 / 64}, {}, {"input_bits": 2}, {"input_bits": 4}]),
)  # fmt: skip
def test_errors_of_layers_bound_that_of_the_outputs(seed, activation, timesteps, calibration, rounding, inputs):
    """The theorem's premise on random networks, deep and wide to one end, of inputs that are rounded and others."""
    model = chain(activation, (2, 9, 7, 8, 2), seed)
    found = convert(model, points(seed=seed), timesteps, calibration=calibration, rounding=rounding, **inputs)
    assert (found.input_error > 0) == (inputs != {"input_scale": 1 / 64})
    assert worst(found) <= found.bound * (1 + 1e-6)
    assert found.layers[-1].amplification == 1.0


def test_the_bound_is_met_by_one_neuron():
    """1-1-1, weights 1 and 2, identity up to the table: an error of the neuron is doubled by the read-out."""
    model = nn.Sequential(nn.Linear(1, 1), nn.Identity(), nn.Linear(1, 1))
    with torch.no_grad():
        for layer, weight in ((model[0], 1.0), (model[2], 2.0)):
            layer.weight.fill_(weight)
            layer.bias.zero_()
    found = convert(model, np.array([[1.0], [0.3125]]), 4, calibration="none", input_scale=1 / 64)
    # 0.3125 of 4 timesteps are 1.25 spikes, rounded to 1: 0.25, off by 0.0625.
    np.testing.assert_allclose(found.outputs, [[2.0], [0.5]], atol=1e-3)
    assert found.layers[0].own_error == pytest.approx(0.0625, abs=1e-3)
    assert found.layers[0].amplification == pytest.approx(2.0, abs=1e-6)
    assert worst(found) == pytest.approx(found.bound, rel=0.02)


def test_the_bound_knows_of_inputs_that_are_rounded():
    """One linear layer of weight 2 does not err itself; in 2 bits 0.3 becomes a third, the output two thirds."""
    model = nn.Sequential(nn.Linear(1, 1))
    with torch.no_grad():
        model[0].weight.fill_(2.0)
        model[0].bias.zero_()
    found = convert(model, np.array([[1.0], [0.3]]), 4, calibration="none", input_bits=2)
    assert (found.input_error, found.input_amplification) == (pytest.approx(1 / 30), pytest.approx(2.0))
    assert worst(found) == pytest.approx(2 / 30, rel=1e-3) == pytest.approx(found.bound, rel=1e-3)


@pytest.mark.parametrize("rounding", ["nearest", "down"])
@pytest.mark.parametrize("calibration", ["light", "advanced"])
def test_calibration_leaves_no_mean_error_of_the_read_out(rounding, calibration):
    """The closed form: a bias takes away all of the mean error, but for half a unit of the start potential."""
    found = convert(
        chain("tanh"), points(), 16, rounding=rounding, calibration=calibration, input_scale=1 / 64
    )  # fmt: skip
    read_out = found.trace.operations[-1]
    unit = found.trace.meta.tensors[read_out.output].scale
    mean = (found.outputs - found.float_outputs).mean(0)
    assert (np.abs(mean) <= unit / 2 * (1 + 1e-9)).all()
    before = convert(chain("tanh"), points(), 16, rounding=rounding, calibration="none", input_scale=1 / 64)
    assert np.abs((before.outputs - before.float_outputs).mean(0)).max() > 100 * unit


def test_light_calibration_centres_the_currents():
    """The mean current of every hidden channel becomes that of the float network, but for half a unit of a bias."""
    model, shown = chain("tanh"), points()
    found = convert(model, shown, 8, rounding="down", calibration="light", input_scale=1 / 64)
    hidden = found.trace.operations[1]
    spikes = found.trace.operand(hidden.inputs[0]).astype(np.int64)
    mean = (spikes @ hidden.weight.astype(np.int64).T + hidden.bias).mean((0, 1))
    worth = found.trace.provenance["details"]["spike_worth"]["0"]
    unit = worth * np.abs(model[2].weight.detach().numpy()).max(1) / 127
    wanted = outputs(model[:3], shown).mean(0)
    assert (np.abs(mean * unit - wanted) <= unit * (0.5 + 1e-6)).all()


def test_advanced_calibration_of_neurons_that_round_down_starts_them_half_way():
    """They lack half a spike on average, and a start makes up for it: their errors become those of rounding."""
    model, shown = chain("tanh", (1, 32, 32, 1)), points(129, 1)
    starts, errors = [], {}
    for rounding in ("nearest", "down"):
        for calibration in ("none", "advanced"):
            found = convert(model, shown, 16, rounding=rounding, calibration=calibration, input_scale=1 / 64)
            errors[rounding, calibration] = found.layers[1].error
            neuron = found.trace.operations[0].neuron
            if calibration == "advanced":
                starts.append(float(neuron.start.mean() / neuron.threshold[0]))
    assert starts == pytest.approx([0.0, 0.5], abs=0.05)
    assert errors["down", "none"] > 1.5 * errors["nearest", "none"]
    assert errors["down", "advanced"] < 1.15 * errors["nearest", "advanced"]


@pytest.mark.parametrize("rounding", ["nearest", "down"])
def test_errors_fall_with_timesteps(rounding):
    """As 1 / T, while rounded weights do not count."""
    model, shown = chain("tanh", (2, 32, 32, 2)), points(100)
    steps = np.array([4, 8, 16, 32])
    errors = [
        float(np.sqrt(((found.outputs - found.float_outputs) ** 2).mean()))
        for found in (convert(model, shown, int(t), rounding=rounding, input_scale=1 / 64) for t in steps)
    ]
    assert -1.2 < np.polyfit(np.log(steps), np.log(errors), 1)[0] < -0.8


@pytest.mark.parametrize("calibration", ["none", "light"])
@pytest.mark.parametrize("activation", [*ACTIVATIONS, "sine"])
def test_without_spikes(activation, calibration):
    """Activations of 8 bits from tables behind the sums: exact, near, and within the bound."""
    model, shown = chain(activation), points()
    found = convert(model, shown, 1, activation_bits=8, calibration=calibration, input_scale=1 / 64)
    assert [check.mismatches for check in check_trace(found.trace)] == [0, 0, 0]
    wanted = outputs(model, shown)
    assert np.linalg.norm(found.outputs - wanted) < 0.05 * np.linalg.norm(wanted)
    assert worst(found) <= found.bound * (1 + 1e-6)
    hidden = found.trace.operations[0]
    assert hidden.requantiser.activation.size == 4096
    assert np.abs(found.trace.tensor(hidden.output)).max() == 127


@pytest.mark.parametrize(("options", "stands_for"), [({"T": 8}, "advanced"), ({"T": 1, "activation_bits": 6}, "light")])
def test_the_calibration_that_nobody_names(options, stands_for):
    """The most that there is: start values need spikes. Outputs are the same, and those of another differ."""
    found = [
        convert(chain("tanh"), points(), rounding="down", input_scale=1 / 64, **options, **more).trace
        for more in ({}, {"calibration": stands_for}, {"calibration": "none"})
    ]
    assert found[0].provenance["details"]["calibration"] == stands_for
    last = [trace.tensor(trace.operations[-1].output) for trace in found]
    np.testing.assert_array_equal(last[0], last[1])
    assert (last[0] != last[2]).any()


def test_calibration_inputs_need_not_be_traced():
    model, taught = chain("tanh"), points(200, seed=1)
    found = convert(model, points(3), 16, calibration_inputs=taught, input_scale=1 / 64)
    assert found.trace.images == 3
    together = convert(model, np.concatenate([points(3), taught]), 16, calibration_inputs=taught, input_scale=1 / 64)
    np.testing.assert_array_equal(found.outputs, together.outputs[:3])


def test_the_trace_computes_what_was_measured():
    """Layer by layer from its own tensors, as a machine would."""
    found = convert(chain("sine"), points(5), 10, input_scale=1 / 64)
    for operation in found.trace.operations:
        got = compute(operation, [found.trace.operand(name) for name in operation.inputs], 10)
        np.testing.assert_array_equal(got, found.trace.tensor(operation.output))


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)) + x)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def bad_models():
    linear, last = nn.Linear(2, 2), nn.Linear(2, 1)
    return {
        "a convolution": (nn.Sequential(linear, nn.Conv1d(1, 1, 1), last), "1 (Conv1d): has weights and is no linear"),
        "a batch norm": (nn.Sequential(linear, nn.BatchNorm1d(2), last), "1 (BatchNorm1d): has weights and is no"),
        "a softmax": (nn.Sequential(linear, nn.Softmax(1), last), "1 (Softmax): an output depends on several values"),
        "an activation first": (nn.Sequential(nn.Tanh(), linear), "in front of the first linear layer"),
        "an activation last": (nn.Sequential(linear, nn.Tanh()), "_1: a function behind the last linear layer"),
        "a skip connection": (Joined(), "reads another value than that of the step before it"),
        "nothing linear": (nn.Sequential(), "has no linear layer"),
        "steps that depend on values": (Branching(), "model: its steps depend on values"),
        "no model": (3, "model: got int; allowed: a torch.nn.Module"),
    }


@pytest.mark.parametrize("fault", bad_models())
def test_models_that_are_refused(fault):
    """The layer is named, and what is allowed."""
    model, message = bad_models()[fault]
    with pytest.raises(UsageError) as caught:
        convert(model, points(), 4)
    assert message in str(caught.value)
    assert "allowed: " in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": "strong"}, "calibration: got 'strong'; allowed: none or light or advanced"),
        ({"rounding": "up"}, "rounding: got 'up'; allowed: nearest or down"),
        ({"table_bits": 17}, "table_bits: got 17; allowed: 2 to 16"),
        ({"activation_bits": 8}, "T: got 4; allowed: 1"),
        ({"activation_bits": 1, "T": 1, "calibration": "light"}, "activation_bits: got 1; allowed: 2 to 16"),
        (
            {"activation_bits": 8, "T": 1, "calibration": "advanced"},
            "calibration: got 'advanced'; allowed: 'none' or 'light'",
        ),
        ({"weight_bits": 9}, "weight_bits: got 9; allowed: 2 to 8"),
        ({"T": 2000}, "T: got 2000; allowed: 1 to 1024"),
        ({"inputs": points(features=3)}, "inputs: got float64 [40, 3]; allowed: numbers [I, 2], what layers.0 reads"),
        ({"inputs": np.full((2, 2), np.nan)}, "inputs: holds numbers that are not finite"),
        ({"calibration_inputs": points(features=1)}, "calibration_inputs: got float64 [40, 1]"),
    ],
)
def test_arguments_that_are_refused(options, message):
    given = {"inputs": points(), "T": 4} | options
    with pytest.raises(UsageError) as caught:
        convert(chain("sine"), given.pop("inputs"), given.pop("T"), **given)
    assert message in str(caught.value)


def test_silent_layers_and_channels():
    """Weights of zero, a function that is zero, and a single input of zero make no trouble."""
    model = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    found = convert(model, np.zeros((1, 1)), 4)
    assert found.outputs.tolist() == [[0.0]]
    assert found.layers[0].spike_rate == 0.0
    assert "spike rate" in str(found)


@pytest.mark.parametrize(("options", "words"), [
    ({"table_bits": None}, "table_bits: got None; allowed: 2 to 16"),
    ({"provenance": {"details": 3}}, "provenance: details: must be a mapping, got 3"),
    ({"input_bits": 1}, "input_bits: got 1; allowed: 2 to 16, as there are inputs below zero"),
    ({"input_scale": True}, "input_scale: got True; allowed: a number above zero"),
    ({"input_scale": 1e-300}, "input_scale: in units of 1e-300 the inputs reach"),
    ({"input_scale": 1e300}, "too different in size"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused_shortly(options, words):
    with pytest.raises(UsageError, match=re.escape(words)) as refused:
        convert(chain("tanh"), points(), 4, **options)
    assert len(str(refused.value)) < 300


def test_small_inputs_are_refused_and_any_whole_number_is_a_number_of_timesteps():
    with pytest.raises(UsageError, match="too different in size"):
        convert(chain("tanh"), points() * 1e-30, 4)
    assert convert(chain("tanh"), points(), np.int64(4)).trace.timesteps == 4


class Between(nn.Module):
    """Two linear layers, and what is between them."""

    def __init__(self, function):
        super().__init__()
        self.first, self.last, self.function = nn.Linear(1, 3), nn.Linear(3, 1), function

    def forward(self, values):
        return self.last(self.function(self.first(values)))


class Again(nn.Module):
    """A layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.again, self.last = nn.Linear(1, 3), nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, values):
        return self.last(torch.tanh(self.again(torch.tanh(self.again(torch.tanh(self.first(values)))))))


@pytest.mark.parametrize(("model", "words"), [
    (Between(lambda values: torch.sort(values, 1)[0]), "an output depends on several values"),
    (Between(torch.log), "first: its activation is not finite"),
    (Between(nn.Dropout(0.5)), "drops values at random; allowed: the model after eval()"),
    (Again(), "again: is called more than once"),
])  # fmt: skip
def test_models_that_are_no_such_chain_are_named(model, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        convert(model, np.linspace(-1, 1, 9)[:, None], 4)
