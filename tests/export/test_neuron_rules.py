"""Neurons of the tools against the tools, and their integers against real numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import UsageError
from archsim.export import neuron_rules as room
from archsim.trace import neurons
from tests.export.frameworks import need

SHAPE = (40, 3, 4)
"""Timesteps, images, channels."""


def currents(seed=0, mean=0.25, width=0.6):
    return np.random.default_rng(seed).normal(mean, width, SHAPE)


def run_module(module, values, outputs=1):
    """What a module gives for the currents [T, I, N], timestep by timestep, in double precision."""
    torch = need("torch")
    module = module.double()
    found = []
    for value in values:
        given = module(torch.from_numpy(value))
        found.append((given[0] if isinstance(given, tuple) else given).detach().numpy())
    return np.stack(found)


def assert_same(real, module, values=None):
    """Both fire, and alike."""
    values = currents() if values is None else values
    expected = run_module(module, values)
    assert 0.01 < (expected != 0).mean() < 0.9
    np.testing.assert_array_equal(real.run(values), expected)


@pytest.mark.parametrize("v_reset", [0.0, None, -0.3])
@pytest.mark.parametrize("decay_input", [True, False])
def test_spikingjelly_lif(v_reset, decay_input):
    neuron = need("spikingjelly.activation_based.neuron")
    module = neuron.LIFNode(2.5, decay_input=decay_input, v_threshold=0.7, v_reset=v_reset)
    real = room.spikingjelly(1 - 1 / 2.5, 1 / 2.5 if decay_input else 1.0, 0.7, v_reset)
    assert_same(real, module, currents(mean=0.9, width=1.5))


def test_spikingjelly_if_and_learned_leak():
    neuron = need("spikingjelly.activation_based.neuron")
    assert_same(room.spikingjelly(1.0, 1.0, 0.7, -0.2), neuron.IFNode(v_threshold=0.7, v_reset=-0.2))
    # 1 / tau is the sigmoid of a parameter of single precision, which is 1 / 4 for log 1 / 3.
    module = neuron.ParametricLIFNode(4.0, decay_input=False, v_threshold=0.7)
    reciprocal = float(module.w.detach().double().sigmoid())
    assert_same(room.spikingjelly(1 - reciprocal, 1.0, 0.7, 0.0), module)


@pytest.mark.parametrize("v_reset", [0.0, None])
def test_spikingjelly_signs(v_reset):
    neuron = need("spikingjelly.activation_based.neuron")
    module = neuron.TernaryLIFNode(2.0, decay_input=False, v_threshold=0.7, v_reset=v_reset)
    real = room.spikingjelly(0.5, 1.0, 0.7, v_reset, fires="signed")
    assert set(np.unique(real.run(currents()))) == {-1, 0, 1}
    assert_same(real, module)


def test_spikingjelly_integers():
    neuron = need("spikingjelly.activation_based.neuron")
    real = room.spikingjelly(0.25, 1.0, 1.0, None, fires="integer", most=4)
    values = currents(mean=1.0, width=2.0)
    assert set(np.unique(real.run(values))) == {0, 1, 2, 3, 4}
    assert_same(real, neuron.ILIFNode(4 / 3), values)


@pytest.mark.parametrize("v_reset", [0.0, None, -0.4])
def test_spikingjelly_cuba(v_reset):
    neuron = need("spikingjelly.activation_based.neuron")
    module = neuron.CUBALIFNode(0.6, 0.8, v_threshold=0.9, v_reset=v_reset)
    assert_same(room.spikingjelly_cuba(0.6, 0.8, 0.9, v_reset), module)


# Parameters of snnTorch are of single precision: those here have few bits.
@pytest.mark.parametrize("delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_snn_leaky(reset, delay):
    snn = need("snntorch")
    module = snn.Leaky(0.75, threshold=0.625, reset_mechanism=reset, reset_delay=delay, init_hidden=True)
    # A potential that is above the threshold after a reset by subtraction is another matter without delay.
    values = currents(mean=0.1, width=0.3)
    assert_same(room.snn_leaky(0.75, 0.625, reset, reset_delay=delay), module, values)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_snn_synaptic(reset):
    snn = need("snntorch")
    module = snn.Synaptic(0.5, 0.75, threshold=0.625, reset_mechanism=reset, init_hidden=True)
    assert_same(room.snn_synaptic(0.5, 0.75, 0.625, reset), module)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_snn_rleaky(reset):
    """With a recurrent weight V of each neuron to itself, which is fed back here as the graph of a trace would."""
    snn = need("snntorch")
    weight = -0.25
    module = snn.RLeaky(
        0.75, V=weight, all_to_all=False, threshold=0.625, reset_mechanism=reset, init_hidden=True
    )  # fmt: skip
    values = currents()
    expected = run_module(module, values)
    real, fed = room.snn_leaky(0.75, 0.625, reset, recurrent=True), values.copy()
    for t in range(len(fed)):
        spikes = real.run(fed[: t + 1])
        np.testing.assert_array_equal(spikes[t], expected[t])
        if t + 1 < len(fed):
            fed[t + 1] += weight * spikes[t]
    assert 0.01 < expected.mean() < 0.9


def test_snn_alpha():
    snn = need("snntorch")
    module = snn.Alpha(0.875, 0.75, threshold=0.625, reset_mechanism="zero", init_hidden=True)
    # The module takes logarithms of single precision.
    gain = np.log(np.float32(0.875)) / (np.log(np.float32(0.75)) - np.log(np.float32(0.875))) + 1
    assert gain * 0.125 == pytest.approx(0.625 / room.snn_alpha(0.875, 0.75, 0.625).threshold, rel=1e-6)
    assert_same(room.snn_alpha(0.875, 0.75, 0.625), module)


@pytest.mark.parametrize("rho", [0, 3])
@pytest.mark.parametrize("current", [True, False])
def test_norse(rho, current):
    """Against a step of Euler's method as Norse documents it, in a loop."""
    dt, tau_mem_inv, tau_syn_inv, v_leak, v_th, v_reset = 0.001, 100.0, 200.0, 0.1, 0.3, -0.2
    values = currents(mean=1.0, width=2.0)
    v, i, waits = np.full(SHAPE[1:], v_leak), np.zeros(SHAPE[1:]), np.zeros(SHAPE[1:])
    expected = []
    for x in values:
        i = i + x
        charged = v + dt * tau_mem_inv * (v_leak - v + (i if current else x))
        i = i - dt * tau_syn_inv * i
        fired = (charged > v_th) & (waits == 0)
        v = np.where(waits > 0, v, np.where(fired, v_reset, charged))
        waits = np.where(fired, rho, np.maximum(waits - 1, 0))
        expected.append(fired)
    real = room.norse_lif(tau_mem_inv, tau_syn_inv if current else None, v_leak, v_th, v_reset, dt, rho=rho)
    assert 0.01 < np.mean(expected) < 0.9
    np.testing.assert_array_equal(real.run(values), expected)


def test_norse_lsnn():
    dt, tau_mem_inv, tau_syn_inv, tau_adapt_inv, v_th, beta = 0.001, 100.0, 200.0, 20.0, 0.3, 0.2
    values = currents(mean=1.0, width=2.0)
    v, i, b = np.zeros(SHAPE[1:]), np.zeros(SHAPE[1:]), np.full(SHAPE[1:], v_th)
    expected = []
    for x in values:
        charged = v + dt * tau_mem_inv * (i - v)
        i = i - dt * tau_syn_inv * i + x
        b = b + dt * tau_adapt_inv * (v_th - b)
        fired = charged > b
        v, b = np.where(fired, 0.0, charged), b + beta * fired
        expected.append(fired)
    lif = room.norse_lif(tau_mem_inv, tau_syn_inv, 0.0, v_th, 0.0, dt)
    real = room.norse_lsnn(lif, tau_mem_inv, tau_adapt_inv, beta, dt)
    assert (lif.run(values) != real.run(values)).any()
    np.testing.assert_array_equal(real.run(values), expected)


@pytest.mark.parametrize("late", [True, False])
def test_nir(late):
    """LIF, CubaLIF, LI, CubaLI, IF and I by Euler's method, with parameters of each neuron."""
    draw = np.random.default_rng(1)
    tau, tau_syn, r, w_in = (draw.uniform(low, high, 4) for low, high in ((5e-3, 1e-2), (2e-3, 4e-3), (1, 2), (2, 3)))
    v_leak, v_threshold, v_reset, dt = draw.uniform(-0.1, 0.1, 4), draw.uniform(0.3, 0.4, 4), np.full(4, -0.2), 1e-3
    values = currents(mean=1.0, width=2.0)
    for synaptic in (False, True):
        v, i, free = np.full(SHAPE[1:], v_leak), np.zeros(SHAPE[1:]), np.full(SHAPE[1:], v_leak)
        spikes, potentials = [], []
        for x in values:
            before = i
            i = i + dt / tau_syn * (w_in * x - i) if synaptic else x
            seen = before if late and synaptic else i
            v, free = (one + dt / tau * (v_leak - one + r * seen) for one in (v, free))
            spikes.append(v > v_threshold)
            v = np.where(spikes[-1], v_reset, v)
            potentials.append(free - v_leak)
        more = {"tau_syn": tau_syn, "w_in": w_in, "late": late} if synaptic else {}
        np.testing.assert_array_equal(
            room.nir_lif(tau, r, v_leak, v_threshold, v_reset, dt, **more).run(values), spikes
        )
        gain = dt / tau * r * (dt / tau_syn * w_in if synaptic else 1)
        reader = room.nir_lif(tau, r, v_leak, None, v_reset, dt, **more)
        np.testing.assert_allclose(reader.run(values) * gain, potentials)
        assert 0.01 < np.mean(spikes) < 0.9
    np.testing.assert_allclose(room.nir_if(r, None, 0.0, dt).run(values), values.cumsum(0))
    v, spikes = np.zeros(SHAPE[1:]), []
    for x in values:
        v = v + dt * r * x
        spikes.append(v > 0.004)
        v = np.where(spikes[-1], -0.001, v)
    np.testing.assert_array_equal(room.nir_if(r, 0.004, -0.001, dt).run(values), spikes)


def test_decays_as_multipliers():
    """0.9 within 2^-16: 29491 / 2^15 misses it by 6.1e-6; 14746 / 2^14 by 2.4e-5. Quarters are exact."""
    found = room.multipliers(0.9)
    assert (int(found.multiplier), found.shift, found.error) == (29491, 15, pytest.approx(6.1e-6, rel=1e-2))
    assert abs(14746 / 2**14 - 0.9) > room.PRECISION
    found = room.multipliers([0.25, 0.5, 1.0, 0.0])
    assert (found.multiplier.tolist(), found.shift, found.error) == ([1, 2, 4, 0], 2, 0)
    assert room.multipliers(0.9, 1e-9).error <= 1e-9
    with pytest.raises(UsageError, match=r"decay: got 1\.5 to 1\.5; allowed: 0 to 1"):
        room.multipliers(1.5)


@given(decay=st.floats(0, 1), bits=st.integers(1, 25))
def test_any_decay(decay, bits):
    found = room.multipliers(decay, 2.0**-bits)
    assert abs(int(found.multiplier) / 2**found.shift - decay) == found.error <= 2.0**-bits
    assert 0 <= found.multiplier <= 1 << found.shift
    assert not found.shift or abs(round(decay * 2 ** (found.shift - 1)) / 2 ** (found.shift - 1) - decay) > 2.0**-bits


def whole(seed, high=60, shape=SHAPE):
    return np.random.default_rng(seed).integers(-high // 2, high, shape)


@pytest.mark.parametrize(
    "real",
    [
        room.SpikingNeuron(0.9, 61.7),
        room.SpikingNeuron(0.95, 83.2, "soft_before_leak", True),
        room.SpikingNeuron([0.9, 0.8, 0.99, 0.5], [61.7, 55.1, 90.3, 44.4], "soft_after_leak"),
        room.SpikingNeuron(0.9, 161.7, current_decay=0.8, reset_value=-20.3, start=11.1),
        room.SpikingNeuron(0.9, 161.7, current_decay=0.8, current_is_late=True, resets_current=True, refractory=1),
        room.SpikingNeuron(0.9, 50.3, adaptation_decay=0.97, adaptation=33.3, refractory=2),
        room.SpikingNeuron(0.9, 50.3, "soft_before_leak", fires="signed"),
        room.SpikingNeuron(0.25, 14.3, "soft_before_leak", fires="integer", most=4),
        room.SpikingNeuron(0.9, 50.3, "none"),
        room.SpikingNeuron(np.linspace(0.6, 0.99, 4), 61.7, start=np.arange(4.0)),
    ],
)
def test_integers_of_real_neurons(real):
    """Currents are integers; less than 1 % of the outputs differ, some thousand there are."""
    values = whole(3, shape=(25, 40, 4))
    found = room.rounded(real, 1.0, int(np.abs(values).max()), len(values))
    expected, got = real.run(values.astype(float)), neurons.fire(found.neuron, values)
    assert 0.02 < (expected != 0).mean() < 0.95
    assert (expected != got).mean() < 0.01
    assert found.decay_error <= room.PRECISION
    assert found.threshold_error < 1e-5


def test_potentials_drift_no_further_than_said():
    """Read-outs never fire: their real and integer potentials at every timestep, in units of x."""
    values = whole(4, 200, (100, 10, 3))
    for precision in (2.0**-16, 2.0**-8, 2.0**-5):
        real = room.SpikingNeuron([0.9, 0.95, 0.7], None, fires="nothing")
        found = room.rounded(real, 1.0, 200, len(values), precision)
        exact = real.run(values.astype(float))
        potentials, _ = neurons.run(found.neuron, values)
        difference = np.abs(potentials / 2.0**found.neuron.fraction_bits - exact)
        allowed = [found.drift(np.abs(exact[: t + 1]).max(), t + 1) for t in range(len(values))]
        assert (difference.max((1, 2)) <= allowed).all()
        assert difference.max() > 0.01 * allowed[-1]


@settings(max_examples=100, deadline=None)
@given(
    decay=st.sampled_from([1.0, 0.5, 0.25, 0.75, 0.875]), at=st.booleans(),
    threshold=st.floats(0.05, 9) | st.sampled_from([0.5, 1.0, 1.25, 2.0, 3.5]),
    reset=st.sampled_from(["hard", "none"]), seed=st.integers(0, 999),
)  # fmt: skip
def test_exact_potentials_make_exact_spikes(decay, threshold, at, reset, seed):
    """Neurons that read spikes, with decays that shifts hold: any threshold gives the spikes of real numbers."""
    spikes = np.random.default_rng(seed).integers(0, 2, (5, 6, 2))
    real = room.SpikingNeuron(decay, threshold, reset, at)
    found = room.rounded(real, 1.0, 1, 5)
    np.testing.assert_array_equal(neurons.fire(found.neuron, spikes), real.run(spikes.astype(float)))


def test_thresholds_that_potentials_meet():
    """0.5 + 1 meets 1.5 and 1 + 0.25 does not; 1.5 is no integer, yet is met exactly."""
    spikes = np.array([[1, 1], [1, 0], [0, 1]]).reshape(3, 1, 2)
    for at in (False, True):
        found = room.rounded(room.SpikingNeuron(0.5, 1.5, "none", at), 1.0, 1, 3)
        assert found.neuron.threshold_in_fractions
        assert neurons.fire(found.neuron, spikes)[:, 0].tolist() == [[False, False], [at, False], [False, False]]


def test_what_version_1_has_stays_version_1():
    """A decay of 3 / 4 and a whole threshold: a shift that is subtracted, and bits that lose nothing."""
    found = room.rounded(room.SpikingNeuron(0.75, 12.0), 4.0, 100, 4).neuron
    assert neurons.features(found) == ()
    assert (found.kind, found.leak_shift, found.leak_subtracts, found.fraction_bits) == ("lif", 2, True, 6)
    assert found.threshold == 3
    assert room.rounded(room.SpikingNeuron(1.0, 12.0, "soft_after_leak"), 4.0, 100, 4).neuron.reset == "soft"


def test_units_of_channels_and_of_neurons():
    """Weights of one scale per channel, thresholds of each neuron."""
    threshold = np.array([[[2.0, 4.0]], [[9.0, 3.0]]])
    found = room.rounded(room.SpikingNeuron(1.0, threshold), np.array([2.0, 3.0]), 9, 2)
    assert found.neuron.threshold.tolist() == [[[1, 2]], [[3, 1]]]


def test_fewer_bits_where_64_are_not_enough():
    real = room.SpikingNeuron(0.9, 1000.3, current_decay=0.9)
    bits = [room.rounded(real, 1.0, largest, 1024).neuron.fraction_bits for largest in (1, 1 << 30)]
    assert bits[0] == 16 > bits[1] > 0
    with pytest.raises(UsageError, match="their potentials leave 64 bits with currents of"):
        room.rounded(real, 1.0, 1 << 60, 1024)
    with pytest.raises(UsageError, match="threshold: got -1 above rest; allowed: above zero"):
        room.rounded(room.SpikingNeuron(0.9, [-1.0, 1.0]), 1.0, 1, 4)
