"""Quantisation after training: learned rounding against all roundings, bits layer by layer, and equal to PyTorch."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from archsim.errors import UsageError  # noqa: E402
from archsim.export import QuantisedModel, from_torch, quantise  # noqa: E402
from archsim.export.torch_rounding import Moments, best_form, best_steps, clipped, reconstruct  # noqa: E402
from archsim.simulate import load_accelerator  # noqa: E402
from archsim.trace.resimulation import check_trace, predict  # noqa: E402
from tests.machines import ROOT  # noqa: E402

SIDE = 8
UNTRAINED = {"kind": "synthetic", "weights": "synthetic"}


def cnn(seed=0):
    """Convolutions with batch norm, a residual sum, groups, and pools."""
    torch.manual_seed(seed)

    class Cnn(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
            self.second = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(6))
            self.third = nn.Sequential(
                nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
            )
            self.last = nn.Linear(8 * 4, 5)

        def forward(self, images):
            hidden = self.first(images)
            hidden = torch.relu(hidden + self.second(hidden))
            hidden = nn.functional.max_pool2d(self.third(hidden), 2)
            return self.last(hidden.flatten(1))

    model = Cnn()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 1.5)
    return model


def snn(seed=0):
    """Spiking layers of SpikingJelly with batch norm."""
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import layer, neuron

    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), neuron.LIFNode(tau=2.0, v_threshold=0.2),
        layer.MaxPool2d(2), layer.Conv2d(6, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8),
        neuron.LIFNode(tau=2.0, v_threshold=0.2), nn.Flatten(), nn.Linear(8 * 16, 5),
    )  # fmt: skip


def pixels(count, seed=1):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (count, 1, SIDE, SIDE), dtype=np.uint8)


def quantised(model, bits=(4, 4), count=24, timesteps=1, **more):
    images = torch.from_numpy(pixels(count)).float() / 255
    return quantise(
        model, images, timesteps, weight_bits=bits[0], activation_bits=bits[1], input_scale=1 / 255, iterations=60,
        provenance=UNTRAINED, **more,
    )  # fmt: skip


def in_torch(trace, images):
    """Every tensor of a feed-forward trace of activations by PyTorch alone, in double precision."""
    known = {trace.pixels: torch.from_numpy(images).double()}
    for operation in trace.operations:
        values = [known[name] for name in operation.inputs]
        if operation.op == "pool":
            found = nn.functional.max_pool2d(values[0], operation.kernel, operation.stride, operation.padding)
        elif operation.op == "add":
            found = sum(values)
        else:
            weight = torch.from_numpy(operation.weight).double()
            if operation.op == "linear":
                found = values[0].flatten(1) @ weight.T
            else:
                found = nn.functional.conv2d(
                    values[0], weight, stride=operation.stride, padding=operation.padding, groups=operation.groups
                )
            if operation.bias is not None:
                found = found + torch.from_numpy(operation.bias).double().reshape(-1, *(1,) * (found.ndim - 2))
        few = operation.requantiser
        if few is not None:
            factor = torch.from_numpy(few.multiplier).double().reshape(-1, *(1,) * (found.ndim - 2))
            found = torch.floor(found * factor / 2.0**few.shift + 0.5)
            low, high = (-(1 << (few.bits - 1)), (1 << (few.bits - 1)) - 1) if few.signed else (0, (1 << few.bits) - 1)
            found = torch.clamp(found, low, high)
        known[operation.output] = found
    return known


@pytest.mark.parametrize("bits", [(8, 8), (4, 4), (3, 5), (2, 4), (2, 2)])
def test_the_trace_is_the_quantised_model_bit_for_bit(bits):
    """Of images that were not seen, too: archsim's own arithmetic, its PyTorch model, and PyTorch alone."""
    trace = quantised(cnn(), bits).trace
    assert [check.mismatches for check in check_trace(trace)] == [0] * len(trace.operations)
    images = pixels(7, seed=9)
    model = QuantisedModel(trace)
    (tensors,) = model.outputs(images)
    alone = in_torch(trace, images)
    for operation in trace.operations:
        np.testing.assert_array_equal(tensors[operation.output], alone[operation.output].numpy(), operation.name)
    np.testing.assert_array_equal(model(images).argmax(1), predict(trace, images))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_spiking_networks(bits):
    trace = quantised(snn(), (bits, 4), timesteps=4).trace
    assert [check.mismatches for check in check_trace(trace)] == [0] * len(trace.operations)
    weights = [operation.weight_bits for operation in trace.operations if operation.weight is not None]
    assert weights == [8, bits, 8]
    images = pixels(5, seed=9)
    np.testing.assert_array_equal(QuantisedModel(trace)(images).argmax(1), predict(trace, images))
    assert trace.tensor(trace.operations[0].output).mean() > 0.01


@pytest.mark.parametrize("machine", ["systolic", "bit_composable", "imc_ideal"])
@pytest.mark.parametrize("make", [cnn, snn])
def test_machines_compute_it_exactly(machine, make):
    trace = quantised(make(), (4, 4), timesteps=1 if make is cnn else 4, stored=2).trace
    found = load_accelerator(ROOT / "hwconfigs" / f"{machine}.yaml").specialised_for(trace)
    results = list(found.run_layers(trace, found.layers(trace), "compiled", verify=True, record=False))
    assert [result.mismatches for result in results if result.mismatches is not None] == [0] * len(results)


def test_every_layer_has_its_bits():
    trace = quantised(cnn(), (4, 5), per_layer={"third.0": (2, 6)}).trace
    weights = {operation.name: operation.weight_bits for operation in trace.operations if operation.weight is not None}
    assert weights == {"first.0": 8, "second.0": 4, "third.0": 2, "last": 8}
    for operation in trace.operations:
        if operation.weight is not None:
            half = 1 << (operation.weight_bits - 1)
            assert -half <= operation.weight.min() and operation.weight.max() < half
    written = {operation.output: operation.requantiser.bits for operation in trace.operations if operation.requantiser}
    # The residual stream, which the sum reads, has 16 bits.
    read = {operation.name: written.get(operation.inputs[0]) for operation in trace.operations}
    assert (read["second.0"], read["third.0"], read["add1"]) == (5, 6, 16)
    assert trace.provenance["details"]["bits"] == {
        "first.0": "W8A8", "second.0": "W4A5", "third.0": "W2A6", "last": "W8A8"
    }  # fmt: skip


def test_the_same_call_gives_the_same_trace_and_leaves_the_model_alone():
    model = cnn().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, other = quantised(model).trace, quantised(model).trace
    for first, second in zip(one.operations, other.operations, strict=True):
        if first.weight is not None:
            np.testing.assert_array_equal(first.weight, second.weight)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_eight_bits_are_close_to_the_model():
    exported = quantised(cnn(), (8, 8), count=48)
    plain = from_torch(cnn(), torch.from_numpy(pixels(4)).float() / 255, 1, input_scale=1 / 255, provenance=UNTRAINED)
    assert max(row.error for row in exported.layers) < 3 * max(row.error for row in plain.layers) + 0.02


def test_biases_take_the_mean_of_what_rounding_changes():
    """Of a layer with weights of 2 bits: sums have the model's mean over the images, to half a unit."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 30), nn.ReLU(), nn.Linear(30, 5))
    trace = quantised(model, per_layer={"3": (2, 8)}, stored=24).trace
    operation = trace.operations[-1]
    unit = trace.scale(operation.output)
    with torch.no_grad():
        real = model(torch.from_numpy(pixels(24)).float() / 255).numpy()
    off = trace.tensor(operation.output).reshape(24, 5) * unit - real
    assert operation.weight_bits == 2 and np.abs(off).max() > 2 * unit
    assert np.abs(off.mean(0)).max() <= 0.51 * unit


# ---- Rounding.


def problem(seed, n=3, k=6, samples=40):
    """Weights in steps, and inputs of both networks [K, samples]."""
    draw = np.random.default_rng(seed)
    mixed = draw.normal(size=(k, k))
    real = mixed @ draw.normal(size=(k, samples))
    integers = np.round(real + 0.1 * draw.normal(size=real.shape))
    return draw.uniform(-2, 1.5, (n, k)), real, integers


def moments_of(real, integers):
    centred, other = integers - integers.mean(1, keepdims=True), real - real.mean(1, keepdims=True)
    count = real.shape[1]
    return Moments(
        integers.mean(1), centred @ centred.T / count, other @ centred.T / count, real.mean(1)
    )  # fmt: skip


def loss(quotients, whole, real, integers):
    """The mean squared error of the sums, whatever the bias is."""
    off = quotients @ real - whole @ integers
    return ((off - off.mean(1, keepdims=True)) ** 2).mean(1)


@pytest.mark.parametrize("seed", range(6))
def test_learned_rounding_is_close_to_the_best_of_all(seed):
    """All 2^6 roundings of a channel are tried: the learned one is no worse than the nearest, and no single turn of an
    integer makes it better; over all channels it is most of the way to the best."""
    quotients, real, integers = problem(seed)
    learned = reconstruct(quotients, np.ones(3), moments_of(real, integers), 3, 400)
    nearest = clipped(np.round(quotients), 3)
    below = np.floor(quotients)
    best = np.full(3, np.inf)
    for up in itertools.product((0, 1), repeat=6):
        best = np.minimum(best, loss(quotients, clipped(below + np.array(up), 3), real, integers))
    ours, theirs = (loss(quotients, whole, real, integers) for whole in (learned, nearest))
    assert set(np.unique(learned - below)) <= {0, 1}
    assert (ours <= theirs + 1e-6).all()
    assert ours.sum() <= best.sum() + 0.6 * (theirs.sum() - best.sum())
    for channel, k in itertools.product(range(3), range(6)):
        turned = learned.copy()
        turned[channel, k] = 2 * below[channel, k] + 1 - learned[channel, k]
        assert loss(quotients, clipped(turned, 3), real, integers)[channel] >= ours[channel] - 1e-6


def test_without_iterations_rounding_is_to_the_nearest():
    quotients, real, integers = problem(1)
    whole = reconstruct(quotients, np.ones(3), moments_of(real, integers), 4, 0)
    loss_of_nearest = loss(quotients, clipped(np.round(quotients), 4), real, integers).sum()
    assert loss(quotients, whole, real, integers).sum() == pytest.approx(loss_of_nearest)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_steps_have_the_least_error_of_those_tried(bits):
    rows = np.random.default_rng(3).normal(size=(4, 50))
    steps = best_steps(rows, bits)

    def error(step):
        return ((clipped(np.round(rows / step[:, None]), bits) * step[:, None] - rows) ** 2).sum(1)

    largest = np.abs(rows).max(1) / ((1 << (bits - 1)) - 1)
    assert (error(steps) <= error(largest) + 1e-12).all()
    if bits == 2:
        assert (error(steps) < 0.6 * error(largest)).all()


def test_scales_of_values_leave_out_a_lonely_one():
    """An exponential's tail is clipped for 2 bits, and next to nothing of it for 8."""
    values = np.random.default_rng(0).exponential(size=20_000)
    narrow, wide = (best_form([values], bits, False) for bits in (2, 8))
    assert narrow.scale * narrow.largest < 0.6 * values.max()
    assert wide.scale * wide.largest > narrow.scale * narrow.largest
    assert (narrow.bits, narrow.signed) == (2, False)


# ---- What is not allowed.


@pytest.mark.parametrize(("more", "words"), [
    ({"bits": (9, 4)}, "weight_bits: got 9; allowed: 2 to 8"),
    ({"bits": (4, 1)}, "activation_bits: got 1; allowed: 2 to 8"),
    ({"per_layer": {"secnd.0": (4, 4)}}, r"no layer 'secnd.0' \(did you mean 'second.0'\?\)"),
    ({"per_layer": {"second.0": 4}}, r"second.0: got 4; allowed: \(bits of weights, bits of activations\)"),
    ({"stored": 0}, "stored: got 0; allowed: 1 or more"),
])  # fmt: skip
def test_bad_arguments_are_one_error(more, words):
    with pytest.raises(UsageError, match=words):
        quantised(cnn(), **more)
