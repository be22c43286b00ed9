"""The metrics of NeuroBench against its own harness, on networks of snnTorch that are exact in floating point."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from archsim.export import from_torch
from archsim.trace import Neuron, Operation
from archsim.trace.neurobench import neurobench
from tests.export.frameworks import need
from tests.small_traces import build

torch = need("torch")
snn = need("snntorch")
benchmarks = need("neurobench.benchmarks")
models = need("neurobench.models")
static = need("neurobench.metrics.static")
workload = need("neurobench.metrics.workload")

TIMESTEPS, IMAGES = 5, 6


class Network(torch.nn.Sequential):
    """Layers with hidden states that the harness calls timestep by timestep."""

    def forward(self, inputs):
        return super().forward(inputs), None

    def reset(self):
        for layer in self:
            if isinstance(layer, snn.SpikingNeuron):
                layer.reset_mem()


def harness(net, inputs, batch):
    """What the harness finds for ``inputs`` [I, T, ...]."""
    data = torch.utils.data.TensorDataset(inputs, torch.zeros(len(inputs)))
    metrics = [
        [static.ConnectionSparsity, static.ParameterCount],
        [workload.ActivationSparsity, workload.SynapticOperations, workload.MembraneUpdates],
    ]
    loader = torch.utils.data.DataLoader(data, batch_size=batch)
    with torch.no_grad():
        return benchmarks.Benchmark(models.SNNTorchModel(net), loader, [], [], metrics).run(quiet=True)


def agrees(trace, net, inputs, batch):
    found, expected = neurobench(trace), harness(net, inputs, batch)
    assert found.parameter_count == expected["ParameterCount"]
    assert round(found.connection_sparsity, 4) == expected["ConnectionSparsity"]
    assert found.activation_sparsity == pytest.approx(expected["ActivationSparsity"], rel=1e-12)
    operations = expected["SynapticOperations"]
    assert found.dense_operations == operations["Dense"]
    assert found.effective_acs == operations["Effective_ACs"]
    assert found.effective_macs == operations["Effective_MACs"]
    assert found.membrane_updates == expected["MembraneUpdates"]
    assert found.effective_acs and 0 < found.activation_sparsity < 1 and 0 < found.connection_sparsity < 1
    return found


def of_pixels(reset, seed):
    """A trace and its twin in floating point: pixels, two convolutions, a pool, a classifier; odd sizes."""
    draw = np.random.default_rng(seed)

    def weights(*shape):
        return np.where(draw.random(shape) < 0.6, draw.integers(-9, 10, shape), 0).astype(np.int8)

    def neurons(channels, threshold):
        soft = "soft_after_leak" if reset == "subtract" else "hard"
        return Neuron("lif", np.full(channels, threshold), 1, TIMESTEPS - 1, soft)

    operations = [
        Operation("conv1", "conv2d", ("pixels",), "a", padding=(1, 1), weight=weights(4, 2, 3, 3),
                  neuron=neurons(4, 900)),
        Operation("conv2", "conv2d", ("a",), "b", padding=(1, 1), stride=(2, 2), weight=weights(5, 4, 3, 3),
                  bias=draw.integers(-5, 9, 5), neuron=neurons(5, 9)),
        Operation("pool", "pool", ("b",), "c", kernel=(2, 2), stride=(1, 1)),
        Operation("fc", "linear", ("c",), "d", weight=weights(3, 5 * 2 * 3), bias=draw.integers(-5, 9, 3),
                  neuron=neurons(3, 7)),
    ]  # fmt: skip
    pixels = draw.integers(0, 256, (IMAGES, 2, 6, 7), dtype=np.uint8)
    layers = []
    for operation in operations:
        if operation.op == "pool":
            layers += [torch.nn.MaxPool2d(2, 1), torch.nn.Flatten()]
            continue
        shape, bias = operation.weight.shape, operation.bias
        if operation.op == "linear":
            layer = torch.nn.Linear(*shape[::-1], bias=bias is not None)
        else:
            layer = torch.nn.Conv2d(shape[1], shape[0], 3, operation.stride, operation.padding, bias=bias is not None)
        layer.weight.data = torch.tensor(operation.weight, dtype=torch.float32)
        if bias is not None:
            layer.bias.data = torch.tensor(bias, dtype=torch.float32)
        threshold = int(operation.neuron.threshold[0])
        layers += [layer, snn.Leaky(beta=0.5, threshold=threshold, reset_mechanism=reset, init_hidden=True)]
    inputs = torch.tensor(pixels, dtype=torch.float32)[:, None].repeat(1, TIMESTEPS, 1, 1, 1)
    return build(operations, {"pixels": pixels}, TIMESTEPS), Network(*layers), inputs


@pytest.mark.parametrize("batch", [1, 4, IMAGES])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_pixels_and_convolutions(reset, batch):
    found = agrees(*of_pixels(reset, seed=batch), batch)
    assert found.effective_macs


def test_a_network_that_was_exported():
    """Weights of multiples of 1/64, the largest 127/64, are integers times the scale that the exporter chooses."""
    torch.manual_seed(0)
    sizes, layers = (12, 20, 7), []
    for wide, narrow in itertools.pairwise(sizes):
        layer = torch.nn.Linear(wide, narrow, bias=False)
        weights = torch.randint(-8, 9, (narrow, wide)) * 4.0
        weights[:, 0] = 127
        layer.weight.data = weights / 64
        layers += [layer, snn.Leaky(beta=0.75, threshold=1.0, init_hidden=True)]
    spikes = np.random.default_rng(3).random((TIMESTEPS, IMAGES, 12)) < 0.3
    trace = from_torch(torch.nn.Sequential(*layers), spikes, TIMESTEPS).trace
    for operation, layer in zip(trace, layers[::2], strict=True):
        assert np.array_equal(operation.weight, layer.weight.detach() * 64), operation.weight
    agrees(trace, Network(*layers), torch.tensor(spikes, dtype=torch.float32).swapaxes(0, 1), IMAGES)


def test_the_footprint_of_the_integers():
    """The harness counts the bytes of parameters and buffers: of the trace's own arrays, they are the trace's."""
    trace, *_ = of_pixels("zero", 0)
    held = torch.nn.Module()
    for operation in trace:
        if operation.weight is not None:
            arrays = {"weight": operation.weight, "threshold": operation.neuron.threshold.astype(np.int32)}
            if operation.bias is not None:
                arrays["bias"] = operation.bias.astype(np.int32)
            for name, array in arrays.items():
                held.register_buffer(f"{operation.name}_{name}", torch.tensor(array))
    assert neurobench(trace).footprint_bytes == static.Footprint()(models.TorchModel(held))
