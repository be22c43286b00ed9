"""Adaptation: statistics match, gradients are those of differences, and what can be recovered is."""

from dataclasses import replace

import numpy as np
import pytest

from archsim.analog_network.batch_norm import (
    Correction,
    Moments,
    Trained,
    back_propagate,
    loss_gradient,
    match,
    rate_of,
)
from archsim.analog_network.network import AnalogNetwork
from archsim.errors import UsageError
from archsim.trace import ImageSet, Neuron, Operation, Requantiser, Trace
from archsim.trace.resimulation import accuracy, currents_of, run_images
from tests import small_traces
from tests.analog.test_network import config
from tests.analog.test_product import NO_WIRES, WIRES


def test_moments_of_parts_are_those_of_the_whole():
    values = np.random.default_rng(0).normal(3, 2, (4, 6, 5, 2, 3))
    found = Moments(values[:, :2], values[:, 2:])
    np.testing.assert_allclose(found.mean, values.mean((0, 1, 3, 4)))
    np.testing.assert_allclose(found.deviation, values.std((0, 1, 3, 4)))
    assert found.overall == pytest.approx(values.std())


def test_statistics_take_back_a_gain_and_an_offset():
    exact = np.random.default_rng(1).normal(0, 50, (2, 8, 3, 4, 4))
    gain, offset = np.array([0.2, 3.0, 0.7]).reshape(3, 1, 1), np.array([5.0, -90.0, 0.0]).reshape(3, 1, 1)
    correction = match(Moments(exact), Moments(gain * exact + offset))
    np.testing.assert_allclose(correction.gain, 1 / gain.ravel())
    np.testing.assert_allclose(correction.offset, -offset.ravel() / gain.ravel(), atol=1e-9)
    dead = match(Moments(exact), Moments(0 * exact + 7))
    assert (dead.gain == 1).all()
    np.testing.assert_allclose(dead.offset, exact.mean((0, 1, 3, 4)) - 7)


def test_training_starts_where_statistics_end():
    start = Correction(np.array([2.0, 0.5]), np.array([-3.0, 8.0]))
    made = Moments(np.random.default_rng(2).normal(4, 9, (1, 30, 2)))
    trained = Trained(start, made, np.array([100.0, 7.0]))
    np.testing.assert_allclose(trained.correction.gain, start.gain)
    np.testing.assert_allclose(trained.correction.offset, start.offset)
    assert [rate_of(epoch) for epoch in range(5)] == pytest.approx([0.01, 0.01, 0.002, 0.002, 0.0004])


def gradient_of(trace, outer, tensors, name):
    """Gradient of ``outer`` times the last output by the currents of ``name``."""
    operation = trace.operation(name)
    currents = {name: currents_of(operation, [tensors[one] for one in operation.inputs], trace.timesteps)}
    found = []
    back_propagate(trace, tensors, currents, outer, lambda _, gradient: found.append(gradient))
    return found[0]


def linear_chain(operation, timesteps=2, channels=3):
    """A convolution that passes pixels on, and behind it an operation that reads what it makes."""
    generator = np.random.default_rng(3)
    weight = np.zeros((channels, channels, 1, 1), np.int8)
    weight[range(channels), range(channels)] = 1
    first = Operation("first", "conv2d", ("pixels",), "x", weight=weight)
    pixels = generator.integers(-100, 100, (timesteps, 2, channels, 5, 4)).astype(np.int16)
    return small_traces.build([first, operation], {"pixels": pixels}, timesteps)


@pytest.mark.parametrize(
    "operation",
    [
        Operation("y", "conv2d", ("x",), "out", padding=(1, 0), stride=(2, 1),
                  weight=np.random.default_rng(4).integers(-9, 10, (4, 3, 3, 2), dtype=np.int8)),
        Operation("y", "linear", ("x",), "out",
                  weight=np.random.default_rng(5).integers(-9, 10, (4, 60), dtype=np.int8)),
        Operation("y", "pool", ("x",), "out", kernel=(2, 3), stride=(1, 2), padding=(1, 1)),
        Operation("y", "concat", ("x", "pixels", "x"), "out"),
        Operation("y", "add", ("x", "pixels", "x"), "out"),
        Operation("y", "matmul", ("x", "pixels"), "out", transpose=True),
        Operation("y", "matmul", ("pixels", "x"), "out", transpose=True),
        Operation("y", "matmul", ("square", "x"), "out"),
        Operation("y", "matmul", ("x", "square"), "out"),
    ],
    ids=lambda operation: f"{operation.op} of {', '.join(operation.inputs)}",
)  # fmt: skip
def test_gradients_are_differences(operation):
    """Operations that are linear, at least by pieces: a step changes the output by the gradient times the step."""
    generator = np.random.default_rng(6)
    trace = None
    if "square" in operation.inputs:
        # A product without transposition: as many positions as channels.
        weight = np.eye(20, dtype=np.int8)[:, :, None, None]
        first = Operation("first", "conv2d", ("pixels",), "x", weight=weight)
        pixels = generator.integers(-100, 100, (2, 2, 20, 5, 4)).astype(np.int16)
        square = generator.integers(-100, 100, (2, 2, 20, 5, 4)).astype(np.int16)
        trace = small_traces.build([first, operation], {"pixels": pixels, "square": square}, 2)
    else:
        trace = linear_chain(operation)
    tensors = {name: trace.operand(name) for name in trace.tensors}
    outer = generator.normal(size=tensors["out"].shape)
    gradient = gradient_of(trace, outer, tensors, "first")
    last = trace.operation("y")
    step = generator.integers(-3, 4, gradient.shape) * (generator.random(gradient.shape) < 0.2)
    scale = 1000
    # A thousand times the values: a step never changes which is the highest.
    moved = {name: values.astype(np.int64) * scale for name, values in tensors.items()}
    before = currents_of(last, [moved[name] for name in last.inputs], 2)
    moved["x"] = moved["x"] + step
    after = currents_of(last, [moved[name] for name in last.inputs], 2)
    degree = scale if last.op == "matmul" else 1
    expected = (outer * (after - before)).sum() / degree
    assert (gradient * step).sum() == pytest.approx(expected, rel=1e-4)


def test_gradient_of_a_softmax():
    table = np.round(60000 * np.exp(-np.arange(256) / 40)).astype(np.uint16)
    trace = linear_chain(Operation("y", "softmax", ("x",), "out", table=table), channels=5)
    tensors = {name: trace.operand(name) for name in trace.tensors}
    outer = np.random.default_rng(7).normal(size=tensors["out"].shape)
    values = tensors["x"].astype(np.float64)

    def smooth(x):
        shares = np.exp(x / 40)
        return 255 * shares / shares.sum(2, keepdims=True)

    step = np.random.default_rng(8).normal(size=values.shape)
    expected = (outer * (smooth(values + 1e-3 * step) - smooth(values - 1e-3 * step))).sum() / 2e-3
    assert (gradient_of(trace, outer, tensors, "first") * step).sum() == pytest.approx(expected, rel=0.03)


def test_gradient_of_a_layer_norm():
    """And of its requantiser, where nothing is clipped."""
    bits = Requantiser(np.full(5, 20_000), 10, 16)
    trace = linear_chain(
        Operation("y", "layer_norm", ("x",), "out", bias=np.arange(5) * 999, requantiser=bits), channels=5
    )
    tensors = {name: trace.operand(name) for name in trace.tensors}
    outer = np.random.default_rng(7).normal(size=tensors["out"].shape)
    values = tensors["x"].astype(np.float64)
    smooth = lambda x: 20_000 / 1024 * (x - x.mean(2, keepdims=True)) / x.std(2, keepdims=True)  # noqa: E731
    step = np.random.default_rng(8).normal(size=values.shape)
    expected = (outer * (smooth(values + 1e-3 * step) - smooth(values - 1e-3 * step))).sum() / 2e-3
    assert (gradient_of(trace, outer, tensors, "first") * step).sum() == pytest.approx(expected, rel=1e-3)


def test_gradient_through_a_requantiser():
    """Its slope, and nothing where it clips."""
    bits = Requantiser(np.array([2, 1, 1]), 1, 6, signed=False)
    trace = linear_chain(Operation("y", "add", ("x", "pixels"), "out", requantiser=bits))
    tensors = {name: trace.operand(name) for name in trace.tensors}
    outer = np.ones(tensors["out"].shape)
    sums = 2 * tensors["x"]
    slope = np.array([1.0, 0.5, 0.5]).reshape(3, 1, 1)
    inside = (sums * slope >= 0) & (sums * slope <= 63)
    assert np.array_equal(gradient_of(trace, outer, tensors, "first"), slope * inside)


@pytest.mark.parametrize("reset", ["hard", "soft", "soft_before_leak", "soft_after_leak"])
@pytest.mark.parametrize("leak_subtracts", [False, True])
def test_gradient_through_neurons(reset, leak_subtracts):
    """Against a forward recursion: what each current does to each potential, neuron by neuron."""
    neuron = Neuron("lif", np.array([60, 90, 30]), 2, 4, reset, leak_subtracts=leak_subtracts)
    generator = np.random.default_rng(9)
    weight = np.eye(3, dtype=np.int8)[:, :, None, None]
    first = Operation("first", "conv2d", ("pixels",), "out", weight=weight, neuron=neuron)
    pixels = generator.integers(-50, 130, (3, 2, 3, 5, 4)).astype(np.int16)
    trace = small_traces.build([first], {"pixels": pixels}, 3)
    tensors = {name: trace.operand(name) for name in trace.tensors}
    outer = generator.normal(size=pixels.shape)
    found = gradient_of(trace, outer, tensors, "first")
    for place in [(0, 0, 1, 2), (1, 2, 4, 3), (1, 1, 0, 0), (0, 2, 3, 1)]:
        threshold = int(neuron.threshold[place[1]])
        keep = 0.75 if leak_subtracts else 0.25
        potential, expected = 0.0, np.zeros(3)
        reach = np.zeros(3)  # of every current so far, into the potential
        for t in range(3):
            total = int(pixels[(t, *place)]) + potential
            reach[t] = 1
            expected += outer[(t, *place)] * reach * max(0, 1 - abs(total / threshold - 1)) / threshold
            if not tensors["out"][(t, *place)]:
                potential, factor = total * keep, keep
            elif reset == "hard":
                potential, factor = 0.0, 0.0
            elif reset == "soft":
                potential, factor = total - threshold, 1.0
            elif reset == "soft_before_leak":
                potential, factor = (total - threshold) * keep, keep
            else:
                potential, factor = total * keep - threshold, keep
            reach = reach * factor
        # The leak's shift rounds potentials down by a 16th.
        np.testing.assert_allclose(found[(slice(None), *place)], expected, atol=0.01 / threshold)


def test_neurons_without_a_known_gradient():
    """A refractory time: statistics match all the same."""
    trace = small_traces.tiny()
    operation = trace.operation("conv2")
    neuron = replace(operation.neuron, mask_fire_once=False, refractory=1)
    operations = [replace(one, neuron=neuron) if one is operation else one for one in trace]
    pixels = trace.tensor("pixels")
    sets = ImageSet(pixels, np.zeros(len(pixels), np.int64))
    trace = small_traces.build(operations, {"pixels": pixels}, trace.timesteps, calibration=sets)
    for adaptation in ("fine_tuned", "statistics"):
        one = config(*CASES["variation"], adaptation=adaptation, rows=32, columns=64)
        network = AnalogNetwork(trace, one, weight_bits=8, on_arrays=("conv2", "fc"))
        if adaptation == "statistics":
            network.calibrate()
            continue
        with pytest.raises(UsageError, match="no gradient through neurons with a refractory time, as those of conv2"):
            network.calibrate()


def test_gradient_of_the_loss():
    generator = np.random.default_rng(10)
    logits, labels = generator.normal(0, 300, (2, 6, 4)), generator.integers(0, 4, 6)

    def loss(values):
        flat = values.sum(0) / 250.0
        return (np.log(np.exp(flat).sum(1)) - flat[np.arange(6), labels]).mean()

    step = generator.normal(size=logits.shape)
    expected = (loss(logits + step) - loss(logits - step)) / 2
    assert (loss_gradient(logits, labels, 250.0) * step).sum() == pytest.approx(expected, rel=1e-4)


CLASSES = 8


@pytest.fixture(scope="module")
def trained():
    """Noisy templates of 4 x 8 pixels and a network that tells them apart: random neurons, a fitted linear layer."""
    generator = np.random.default_rng(11)
    templates = generator.uniform(0, 255, (CLASSES, 1, 4, 8))

    def draw(count):
        labels = generator.integers(0, CLASSES, count)
        pixels = np.clip(templates[labels] + generator.normal(0, 80, (count, 1, 4, 8)), 0, 255)
        return ImageSet(pixels.astype(np.uint8), labels)

    train, calibration, evaluation = draw(3000), draw(60), draw(240)
    weight = generator.integers(-90, 91, (64, 32), dtype=np.int8)
    thresholds = np.abs(weight.astype(np.int64) @ templates.reshape(CLASSES, -1).T).mean(1).astype(np.int64) + 1
    hidden = Operation("hidden", "linear", ("pixels",), "spikes", weight=weight, neuron=Neuron("lif", thresholds, 1, 3))
    alone = Trace(
        network="hidden", timesteps=4, operations=[hidden], tensors={"pixels": train.images},
        provenance=small_traces.LABELS,
    )  # fmt: skip
    rates = run_images(alone, train.images)["spikes"].sum(0).astype(np.float64)
    wanted = np.eye(CLASSES)[train.labels] - 1 / CLASSES
    fitted = np.linalg.lstsq(rates - rates.mean(0), wanted, rcond=None)[0].T
    scale = 120 / np.abs(fitted).max()
    readout = Operation(
        "readout", "linear", ("spikes",), "logits", weight=np.round(scale * fitted).astype(np.int8),
        bias=np.round(-scale * fitted @ rates.mean(0) / 4).astype(np.int64),
    )  # fmt: skip
    return small_traces.build(
        [hidden, readout], {"pixels": evaluation.images[:2]}, 4, calibration=calibration, evaluation=evaluation
    )


CASES = {
    "parasitics": ({"kind": "rram", "r_on_ohm": 20e3, "r_off_ohm": 200e3}, WIRES, "frozen"),
    "variation": ({"kind": "rram", "programming": {"relative": 0.5}}, NO_WIRES, "frozen"),
    "drift": ({"kind": "pcm", "read": {"flicker": None}, "programming": {"by_state": ()}}, NO_WIRES, "frozen"),
    "noise": ({"kind": "rram", "read": {"relative": 1.0}}, NO_WIRES, "per_read"),
}


def accuracies(trace, case, adaptations, seed=3):
    device, wires, noise = CASES[case]
    found = []
    for adaptation in adaptations:
        cells = {"time_s": 1e10 if case == "drift" else 0.0}
        one = config(
            device, wires, noise, adc={"bits": 8, "range": "calibrated"}, seed=seed, adaptation=adaptation, rows=32,
            columns=64, batch_images=20, **cells,
        )  # fmt: skip
        network = AnalogNetwork(trace, one, weight_bits=8, on_arrays=("hidden", "readout"))
        network.calibrate()
        found.append(network.accuracy(trace.evaluation))
    return found


@pytest.mark.parametrize("case", ["parasitics", "drift"])
def test_what_is_nearly_a_gain_is_recovered(trained, case):
    """Without adaptation hardly a neuron fires; with it accuracy is within a point of the exact network's."""
    exact = accuracy(trained, trained.evaluation)
    none, statistics, fine_tuned = accuracies(trained, case, ("none", "statistics", "fine_tuned"))
    assert exact > 0.95
    assert none < 0.4
    assert statistics >= exact - 0.011
    assert fine_tuned >= exact - 0.011


def test_frozen_variation_is_recovered_and_fresh_noise_is_not(trained):
    """Adaptation takes back half of what programming cost, and nothing of noise that every read has anew."""
    exact = accuracy(trained, trained.evaluation)
    none, statistics, fine_tuned = accuracies(trained, "variation", ("none", "statistics", "fine_tuned"))
    assert none < exact - 0.1
    assert statistics > (none + exact) / 2
    assert fine_tuned > (none + exact) / 2
    none, statistics = accuracies(trained, "noise", ("none", "statistics"))
    assert none < exact - 0.2
    assert abs(statistics - none) < 0.06


def test_fine_tuning_lowers_the_loss_of_its_images(trained):
    """Corrections that were pulled away from where they should be come back."""
    losses = []
    device, wires, noise = CASES["variation"]
    for adaptation in ("statistics", "fine_tuned"):
        one = config(device, wires, noise, adaptation=adaptation, rows=32, columns=64, batch_images=20)
        network = AnalogNetwork(trained, one, weight_bits=8, on_arrays=("hidden", "readout"))
        network.calibrate()
        images = trained.calibration
        unit = run_images(trained, images.images)["logits"].sum(0).std()
        logits = network.run(images.images)["logits"].sum(0) / unit
        logits = logits - logits.max(1, keepdims=True)
        right = logits[np.arange(len(images)), images.labels]
        losses.append((np.log(np.exp(logits).sum(1)) - right).mean())
    assert losses[1] < 0.97 * losses[0]


def test_fine_tuning_needs_labels(trained):
    bare = small_traces.tiny()
    network = AnalogNetwork(bare, config(adaptation="fine_tuned"), weight_bits=8, on_arrays=("fc",))
    with pytest.raises(UsageError, match="fine_tuned needs images with labels"):
        network.calibrate()
