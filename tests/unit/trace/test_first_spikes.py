"""First-spike neurons: closed form against ticks, against integration in small steps, and in traces."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from archsim.trace import Neuron, Operation, Requantiser, Trace, check_trace, load_trace, resimulation, save_trace
from archsim.trace.content import first_spike_times, never
from archsim.trace.first_spikes import exponential, exponentials, fire_rows
from archsim.trace.neurons import run
from archsim.trace.resimulation import predict, run_images, run_times

STEPS_PER_TICK = 8


def drawn(seed, inputs=27, timesteps=96):
    """Times and integer weights of a neuron, as in the rule: times over six time constants, weights of both signs."""
    draw = np.random.default_rng(seed)
    times = draw.integers(0, timesteps, inputs)
    times[draw.random(inputs) < 0.1] = 255
    weights = np.clip(np.round(draw.normal(0.1, 0.5, inputs) * 64), -127, 127).astype(np.int8)
    return times, weights, 64


def integrated(times, weights, threshold, time_constant, until, step):
    """The first time, in time constants, at which a potential of real numbers reaches the threshold, or None.

    Every synapse has its own current: it is 1 at its spike, decays, and adds up to the potential.
    """
    arrives = times / time_constant
    potential, now = 0.0, 0.0
    while now < until:
        currents = np.where(arrives <= now, np.exp(-np.maximum(now - arrives, 0)), 0.0)
        # The integral over a step of what is there, and of what begins in the step.
        later = (arrives > now) & (arrives <= now + step)
        grown = currents * (1 - math.exp(-step)) + np.where(later, 1 - np.exp(-(now + step - arrives)), 0.0)
        potential += float(weights @ grown)
        now += step
        if potential >= threshold:
            return now
    return None


def test_closed_form_and_integration():
    """The rule of algorithms.md 4.1 on 420 neurons: the same ones are silent, and no time differs by more than a tick
    and a step of the integration."""
    time_constant, timesteps, silent = 16, 96, 0
    table = exponentials(timesteps, time_constant, 16)
    for seed in range(420):
        times, weights, threshold = drawn(seed, timesteps=timesteps)
        found = int(fire_rows(times[None], weights[None], np.array([threshold]), table).ticks[0, 0])
        step = 1 / time_constant / STEPS_PER_TICK
        at = integrated(times, weights.astype(float), threshold, time_constant, (timesteps - 1) / time_constant, step)
        assert (found == timesteps) == (at is None), (seed, found, at)
        if at is None:
            silent += 1
        else:
            assert -1e-9 <= found - at * time_constant + 1 / STEPS_PER_TICK <= 1 + 2 / STEPS_PER_TICK, (seed, found, at)
    assert 20 < silent < 400


@pytest.mark.parametrize("time_constant, fraction_bits", [(16, 8), (1, 0), (32, 2), (100, 20)])
def test_closed_form_and_ticks(time_constant, fraction_bits):
    """Every tick stepped through, in integers: nothing may differ, ties and early ticks of few bits included."""
    timesteps = 30 if time_constant == 1 else 96
    table = exponentials(timesteps, time_constant, fraction_bits)
    for seed in range(60):
        draw = np.random.default_rng(seed)
        times = draw.integers(0, timesteps, (5, 12))
        times[draw.random(times.shape) < 0.2] = 255
        weights = draw.integers(-30, 50, (4, 12)).astype(np.int8)
        threshold = draw.integers(1, 80, 4)
        closed = fire_rows(times, weights, threshold, table)
        neuron = Neuron("first_spike", threshold, time_constant=time_constant, fraction_bits=fraction_bits)
        currents = np.stack([(times == t) @ weights.T.astype(np.int64) for t in range(timesteps)])
        spikes, _ = run(neuron, currents)
        assert spikes.sum(0).max() <= 1
        assert (np.where(spikes.any(0), spikes.argmax(0), timesteps) == closed.ticks).all()


def one_neuron(times, weights, threshold, table):
    """The rule in Python's integers: tick and inputs before it, one input after the other."""
    last = len(table) - 1
    order = [k for k in np.argsort(times, kind="stable").tolist() if times[k] <= last]
    above, moment = -threshold, 0
    for place, k in enumerate(order, 1):
        above += int(weights[k])
        moment += int(weights[k]) * int(table[times[k]])
        following = int(times[order[place]]) if place < len(order) else last
        if above > 0 and moment <= above * int(table[following]):
            return next(tick for tick in range(last + 1) if int(table[tick]) * above >= moment), place
    return last + 1, len(order)


@pytest.mark.parametrize("timesteps, dtype", [(254, np.uint8), (12, np.int64)])
def test_many_neurons_and_one_after_the_other(timesteps, dtype):
    """Ticks that many inputs share, inhibition behind the spike, inputs that never come, rows without any."""
    table, ended = exponentials(timesteps, max(1, timesteps // 6), 6), set()
    for seed in range(12):
        draw = np.random.default_rng(seed)
        times = draw.integers(0, timesteps, (9, 30))
        times[draw.random(times.shape) < draw.random()] = 255
        times[0] = 255
        weights, threshold = draw.integers(-60, 90, (7, 30)).astype(np.int8), draw.integers(1, 400, 7)
        found = fire_rows(times.astype(dtype), weights, threshold, table)
        for row, column in np.ndindex(9, 7):
            wanted = one_neuron(times[row], weights[column], int(threshold[column]), table)
            assert (found.ticks[row, column], found.inputs[row, column]) == wanted, (seed, row, column)
            ended.add(wanted[0] == timesteps)
    assert ended == {True, False}


def test_by_hand():
    """Two inputs of weight 3 at tick 0, threshold 4, E = 1, e, e^2 ... of f = 10 bits: V = 6 (1 - exp(-t)) is 4 at
    t = ln 3 = 1.0986, so that the neuron fires at tick 2, having waited for both."""
    table = exponentials(8, 1, 10)
    assert table[:3].tolist() == [1024, 2784, 7566]
    found = fire_rows(np.array([[0, 0, 255]]), np.array([[3, 3, 9]], np.int8), np.array([4]), table)
    assert (found.ticks.tolist(), found.inputs.tolist()) == ([[2]], [[2]])


def test_exponentials_are_rounded_right():
    """Against a series of exact fractions, where a double has no fraction left."""
    for tick, time_constant, fraction_bits in [(767, 32, 8), (100, 7, 30), (0, 5, 3), (1, 1024, 0), (40, 1, 3)]:
        x, term, total, count = Fraction(tick, time_constant), Fraction(1), Fraction(0), 0
        while term > Fraction(1, 10**30) or count < x:
            total += term
            count += 1
            term = term * x / count
        assert exponential(tick, time_constant, fraction_bits) == round(total * 2**fraction_bits)


def network():
    """Encoder to times, a convolution, what goes beside it, joined by a sum and by concatenation with delays, a
    read-out. Two images."""
    draw = np.random.default_rng(1)

    def neurons(n):
        return Neuron("first_spike", np.full(n, 40), time_constant=16, fraction_bits=8)

    def weights(*shape):
        return draw.integers(-30, 60, shape).astype(np.int8)

    operations = [
        Operation("encoder", "conv2d", ("pixels",), "encoded", weight=weights(4, 1, 3, 3), padding=(1, 1),
                  requantiser=Requantiser(np.full(4, 3), 8, 8, signed=False)),
        Operation("conv", "conv2d", ("encoded",), "inside", weight=weights(4, 4, 3, 3), padding=(1, 1), stride=(2, 2),
                  neuron=neurons(4)),
        Operation("earliest", "pool", ("encoded",), "beside", kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
        Operation("sum", "add", ("inside", "beside"), "summed", times=True),
        Operation("late", "delay", ("beside",), "delayed", steps=np.array([1, 9, 3, 20])),
        Operation("both", "concat", ("summed", "delayed"), "joined"),
        Operation("fc", "linear", ("joined",), "out", weight=weights(3, 8 * 9), neuron=neurons(3)),
    ]  # fmt: skip
    pixels = draw.integers(0, 256, (2, 1, 6, 6)).astype(np.uint8)
    names = {operation.output: "spike_time" for operation in operations}
    return operations, pixels, names


def traced(timesteps=96):
    """The network as a trace, whose tensors are those that it computes itself."""
    operations, pixels, kinds = network()
    shapes = {"encoded": (4, 6, 6), "inside": (4, 3, 3), "beside": (4, 3, 3), "summed": (4, 3, 3),
              "delayed": (4, 3, 3), "joined": (8, 3, 3), "out": (3,)}  # fmt: skip
    tensors = {"pixels": pixels} | {name: np.full((2, *shape), never(timesteps)) for name, shape in shapes.items()}

    def trace():
        return Trace(network="first spikes", timesteps=timesteps, operations=operations, tensors=tensors, kinds=kinds,
                     provenance={"kind": "synthetic", "weights": "synthetic"})  # fmt: skip

    tensors |= {name: first_spike_times(spikes) for name, spikes in run_images(trace(), pixels).items()}
    return trace()


@pytest.mark.parametrize("timesteps", [96, 300])
def test_network_is_exact_and_loads_again(timesteps, tmp_path):
    trace = traced(timesteps)
    assert trace.meta.version == 2
    save_trace(trace, tmp_path / "trace.npz")
    loaded = load_trace(tmp_path / "trace.npz")
    assert loaded.sha256 == trace.sha256
    assert [check.mismatches for check in check_trace(loaded)] == [0] * 7
    found = run_times(loaded, loaded.tensor("pixels"))
    assert all((found[name] == loaded.tensor(name)).all() for name in loaded.tensors if name != "pixels")
    padded = np.pad(loaded.tensor("pixels"), ((0, 0), (0, 0), (1, 1), (1, 1))).astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    sums = np.einsum("icyxhw,nchw->inyx", windows, loaded.operation("encoder").weight.astype(int))
    ticks = np.clip((sums * 3 + 128) >> 8, 0, 255)
    assert (np.where(ticks < timesteps, ticks, never(timesteps)) == loaded.tensor("encoded")).all()
    assert (ticks >= timesteps).any() == (timesteps == 96)
    fired = loaded.tensor("out") < timesteps
    assert fired.any()
    summed, inside, beside = (loaded.tensor(name).astype(int) for name in ("summed", "inside", "beside"))
    reached = (inside < timesteps) & (beside < timesteps) & (inside + beside < timesteps)
    assert reached.any() and (summed == np.where(reached, inside + beside, summed.max())).all()


def test_the_earliest_spike_is_the_class():
    """By times alone and by timesteps; where the second of three neurons fires first, and where none does."""
    trace = traced(300)
    wanted = trace.tensor("out").argmin(1)
    assert wanted.any() and resimulation._is_of_times(trace)
    images = trace.tensor("pixels")
    assert predict(trace, images).tolist() == wanted.tolist()
    assert resimulation.classes_of(trace, run_images(trace, images)["out"]).tolist() == wanted.tolist()
    assert predict(trace, images, batch=1).tolist() == wanted.tolist()
    spikes = np.zeros((5, 3, 4), bool)
    spikes[3, 0, 0] = spikes[1, 0, 2] = spikes[2, 1, 1] = spikes[2, 1, 3] = True
    assert resimulation.classes_of(trace, spikes).tolist() == [2, 1, 0]
