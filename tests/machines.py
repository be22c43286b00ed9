"""The shipped machines, and small traces that each of them can run."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from archsim.compress.bitmask import decode
from archsim.compress.packed_time import decode as decode_words
from archsim.dataflow.layer import layer_of
from archsim.simulate import load_accelerator
from archsim.trace import Neuron, Operation, Requantiser, Trace, import_spikes
from archsim.trace.content import never

ROOT = Path(__file__).parent.parent
MACHINES = sorted((ROOT / "hwconfigs").glob("*.yaml"))
LOAS = ROOT / "hwconfigs" / "loas.yaml"
RECORDED = ROOT.parent / "shared" / "traces"
SPARSITY = {"vgg16": 0.98228, "alexnet": 0.98264}
"""Weight sparsity of LoAS's Table II in the digits of its artifact."""
needs_recorded = pytest.mark.skipif(
    not RECORDED.exists(), reason="recorded LoAS spikes are not part of the repository (licence of a third party)"
)
LABELS = {"kind": "synthetic", "weights": "synthetic"}


def mlp(seed, m=5, n=7, k=150, timesteps=4, density=0.3, weight_density=0.3, neuron=True):
    """A one-layer trace with its true output, computed by plain numpy."""
    draw = np.random.default_rng(seed)
    spikes = draw.random((timesteps, m, k)) < density
    weight = (draw.integers(-127, 128, (n, k)) * (draw.random((n, k)) < weight_density)).astype(np.int8)
    sums = np.einsum("tmk,nk->tmn", spikes.astype(np.int64), weight.astype(np.int64))
    if not neuron:
        output, unit = sums, None
    else:
        threshold, shift, bits = np.full(n, 60), 1, timesteps - 1
        output = np.zeros(sums.shape, bool)
        potential = np.zeros((m, n), np.int64)
        for t in range(timesteps):
            potential += sums[t] << bits
            output[t] = potential > (threshold << bits)
            potential = np.where(output[t], 0, potential >> shift)
        unit = Neuron("lif", threshold, shift, bits)
    operation = Operation("fc", "linear", ("in",), "out", weight=weight, neuron=unit)
    return Trace(
        network="mlp", timesteps=timesteps, operations=[operation], tensors={"in": spikes, "out": output},
        provenance=LABELS,
    )  # fmt: skip


def ann(seed, m=5, n=7, k=150, density=0.4, weight_density=0.3):
    """A one-layer trace of 8-bit activations with its true sums."""
    draw = np.random.default_rng(seed)
    activations = (draw.integers(1, 256, (m, k)) * (draw.random((m, k)) < density)).astype(np.uint8)
    weight = (draw.integers(-127, 128, (n, k)) * (draw.random((n, k)) < weight_density)).astype(np.int8)
    sums = activations.astype(np.int64) @ weight.T.astype(np.int64)
    operation = Operation("fc", "linear", ("in",), "out", weight=weight)
    return Trace(
        network="ann", timesteps=1, operations=[operation], tensors={"in": activations, "out": sums}, provenance=LABELS
    )


def timed(seed, m=5, n=7, k=150, timesteps=96, density=0.7, weight_density=0.3, size=0, stride=1):
    """A layer of first-spike neurons with its true output, found tick by tick; ``density`` of its inputs fire.

    With a ``size`` it is a padded 3 x 3 convolution of two images.
    """
    draw = np.random.default_rng(seed)
    shape = (2, 5, size, size) if size else (m, k)
    times = np.where(draw.random(shape) < density, draw.integers(0, timesteps, shape), never(timesteps))
    weight_shape = (n, 5, 3, 3) if size else (n, k)
    weight = draw.integers(-40, 128, weight_shape) * (draw.random(weight_shape) < weight_density)
    threshold, constant, bits = draw.integers(60, 200, n), max(1, timesteps // 6), 6
    if size:
        padded = np.pad(times, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=never(timesteps))
        out = (size - 1) // stride + 1
        taps = [padded[:, :, y : y + size : stride, x : x + size : stride] for y in range(3) for x in range(3)]
        rows = np.stack(taps, 2).reshape(2, 45, out, out).transpose(0, 2, 3, 1).reshape(-1, 45)
    else:
        rows = times
    table = [round(2**bits * math.exp(tick / constant)) for tick in range(timesteps)]
    output = np.full((len(rows), n), never(timesteps))
    for row, column in np.ndindex(*output.shape):
        total = moment = 0
        for tick in range(timesteps):
            arriving = int(weight[column].ravel()[rows[row] == tick].sum())
            total, moment = total + arriving, moment + arriving * table[tick]
            if total * table[tick] - moment >= threshold[column] * table[tick]:
                output[row, column] = tick
                break
    unit = Neuron("first_spike", threshold, time_constant=constant, fraction_bits=bits)
    keys = {"stride": (stride, stride), "padding": (1, 1)} if size else {}
    if size:
        output = output.reshape(2, out, out, n).transpose(0, 3, 1, 2)
    operation = Operation(
        "layer", "conv2d" if size else "linear", ("in",), "out", weight=weight.astype(np.int8), neuron=unit, **keys
    )
    return Trace(
        network="first spikes", timesteps=timesteps, operations=[operation], tensors={"in": times, "out": output},
        kinds={"in": "spike_time", "out": "spike_time"}, provenance=LABELS,
    )  # fmt: skip


def quantised(weight_bits, activation_bits, m=9, n=20, k=96, seed=1):
    """A linear layer on activations without a sign, all bits of both in use."""
    draw = np.random.default_rng(seed)
    low, high = -(1 << (weight_bits - 1)), 1 << (weight_bits - 1)
    weight = draw.integers(low, high, (n, k)).astype(np.int8)
    values = draw.integers(0, 1 << activation_bits, (m, k)).astype(np.uint8)
    values[0, 0] = (1 << activation_bits) - 1
    sums = values.astype(np.int64) @ weight.T.astype(np.int64)
    output = np.clip((sums * 3 + 128) >> 8, 0, 15).astype(np.uint8)
    operation = Operation(
        "layer", "linear", ("x",), "y", weight=weight, weight_bits=weight_bits,
        requantiser=Requantiser(np.full(n, 3, np.int64), 8, 4, False),
    )  # fmt: skip
    return Trace(
        network="one", timesteps=1, operations=[operation], tensors={"x": values, "y": output}, provenance=LABELS,
        bits={"x": activation_bits},
    )  # fmt: skip


def conv(seed, channels=5, size=6, out_channels=9, timesteps=4, density=0.3, weight_density=0.3, stride=1):
    """A padded 3 x 3 convolution of two images; its output by an integer sum over kernel positions."""
    draw = np.random.default_rng(seed)
    spikes = draw.random((timesteps, 2, channels, size, size)) < density
    weight = draw.integers(-127, 128, (out_channels, channels, 3, 3))
    weight = (weight * (draw.random(weight.shape) < weight_density)).astype(np.int8)
    padded = np.pad(spikes, ((0, 0), (0, 0), (0, 0), (1, 1), (1, 1))).astype(np.int64)
    out = (size - 1) // stride + 1
    sums = np.zeros((timesteps, 2, out_channels, out, out), np.int64)
    for y in range(3):
        for x in range(3):
            window = padded[:, :, :, y : y + size : stride, x : x + size : stride]
            sums += np.einsum("ticyx,nc->tinyx", window, weight[:, :, y, x].astype(np.int64))
    operation = Operation("conv", "conv2d", ("in",), "out", stride=(stride, stride), padding=(1, 1), weight=weight)
    return Trace(
        network="conv", timesteps=timesteps, operations=[operation], tensors={"in": spikes, "out": sums},
        provenance=LABELS,
    )  # fmt: skip


def recorded(network, sparsity=None):
    """LoAS's recorded spikes of a network, with random weights of seed 0."""
    source = RECORDED / f"loas_cifar10_{network}_spikes.npz"
    return import_spikes(source, weight_sparsity=SPARSITY[network] if sparsity is None else sparsity, seed=0)


def reference(network):
    """Rows of ``reference/recorded_networks.csv``, one per convolution: what an independent program finds there."""
    with (ROOT / "tests" / "reference" / "recorded_networks.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["network"] == network]
    return [
        {name: value if name in ("network", "layer") else float(value) for name, value in row.items()} for row in rows
    ]


def fitting(machine, seed, **sizes):
    """A one-layer trace of the kind of operand that ``machine`` takes."""
    make = {"int": ann, "spike": mlp, "spike_time": timed}[machine.operand]
    return make(seed, **sizes)


def fitting_convolution(machine, seed, stride=1):
    """A padded 3 x 3 convolution of two images of 6 x 6, of such a kind."""
    if machine.operand == "spike_time":
        return timed(seed, n=9, size=6, stride=stride)
    return conv(seed, stride=stride)


def simulate(trace, *overrides, engine="compiled", hardware=LOAS, record=False):
    """Results of all layers of ``trace``."""
    machine = load_accelerator(hardware, (f"timesteps={max(4, trace.timesteps)}", *overrides))
    return [
        machine.run_layer(layer_of(trace, operation), engine, verify=True, record=record)
        for operation in machine.layers(trace)
    ]


def layers(trace, hardware=LOAS):
    """What the machine is given of ``trace``."""
    return [layer_of(trace, operation) for operation in load_accelerator(hardware).layers(trace)]


def dense(layer):
    """A as words [M, K] and B as integers [N, K]."""
    return decode_words(layer.inputs, layer.k), decode(layer.weights, layer.k)


def chunk_matches(a, b):
    """Positions where neither A [M, K] nor B [N, K] is zero, in every (row, column, chunk of 128), by plain numpy."""
    chunks = -(-a.shape[1] // 128)
    a, b = (
        np.pad(x != 0, ((0, 0), (0, chunks * 128 - x.shape[1]))).reshape(len(x), chunks, 128).astype(np.int64)
        for x in (a, b)
    )  # fmt: skip
    return np.einsum("mci,nci->mnc", a, b)


def barrier_cycles(per_neuron, pes=16):
    """Cycles of joins [M, N] alone, where every step of ``pes`` rows and one column waits for its slowest row."""
    return sum(int(per_neuron[first : first + pes].max(0).sum()) for first in range(0, len(per_neuron), pes))


def same(fast, slow):
    """All that two engines must agree on; completion times too where both were recorded."""
    assert (fast.cycles, fast.actions, fast.traffic, fast.units, fast.events, fast.performed_operations) == (
        slow.cycles, slow.actions, slow.traffic, slow.units, slow.events, slow.performed_operations
    )  # fmt: skip
    assert (fast.utilization, fast.timestep_counts) == (slow.utilization, slow.timestep_counts)
    if slow.completions is not None:
        for agent in np.unique(slow.completions[:, 0]):
            np.testing.assert_array_equal(
                fast.completions[fast.completions[:, 0] == agent, 1],
                slow.completions[slow.completions[:, 0] == agent, 1],
            )
