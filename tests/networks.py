"""Tiny networks with the operations of version 2 of the trace; every tensor is computed operation by operation."""

import numpy as np

from archsim.trace import Neuron, Operation, Trace
from archsim.trace.resimulation import resimulate

LABELS = {"kind": "synthetic", "weights": "synthetic"}


def trace_of(name, timesteps, operations, inputs):
    """The network with all of its tensors. A graph that reads its past settles in as many rounds as it has
    timesteps."""
    tensors, recurrent = dict(inputs), False
    for operation in operations:
        if operation.op == "delay" and operation.inputs[0] not in tensors:
            tensors[operation.output], recurrent = nothing(operations, operation.output, inputs, timesteps), True
        else:
            tensors[operation.output] = output_of(name, timesteps, operation, tensors)
    for operation in operations * (timesteps if recurrent else 0):
        tensors[operation.output] = output_of(name, timesteps, operation, tensors)
    return Trace(network=name, timesteps=timesteps, operations=operations, tensors=tensors, provenance=LABELS)


def output_of(name, timesteps, operation, tensors):
    needed = {source: tensors[source] for source in operation.inputs}
    one = Trace(network=name, timesteps=timesteps, operations=[operation], tensors=needed, provenance=LABELS)
    return resimulate(one, one.operations[0])[0]


def nothing(operations, output, inputs, timesteps):
    """What a delay gives before anything has run: no spike of the features of the layer that reads it."""
    reader = next(operation for operation in operations if output in operation.inputs)
    images = next(iter(inputs.values())).shape[1]
    return np.zeros((timesteps, images, reader.weight.shape[1]), np.bool_)


def lif(n, threshold=20, **more):
    return Neuron("lif", np.full(n, threshold), 1, 3, **more)


def attention(timesteps=4, heads=2, channels=8, size=3, images=2, seed=0):
    """A block of a spiking transformer: K^T V and Q K^T, attention by a mask, a depthwise layer, a global pool."""
    draw = np.random.default_rng(seed)

    def weight(*shape):
        return draw.integers(-20, 25, shape).astype(np.int8)

    spikes = draw.random((timesteps, images, channels, size, size)) < 0.4
    operations = [
        Operation(n, "conv2d", ("x",), n, weight=weight(channels, channels, 1, 1), neuron=lif(channels)) for n in "qkv"
    ]
    operations += [
        Operation("kv", "matmul", ("k", "v"), "kv", transpose_first=True, heads=heads),
        Operation("qkv", "matmul", ("q", "kv"), "a", heads=heads, neuron=lif(channels, 4)),
        Operation("qk", "matmul", ("q", "k"), "qk", transpose=True, heads=heads),
        Operation("mix", "matmul", ("qk", "v"), "b", heads=heads, neuron=lif(channels, 4)),
        Operation("token", "reduce", ("q",), "token", axis="channels", groups=heads, neuron=lif(heads, 1)),
        Operation("mask", "multiply", ("k", "token"), "masked"),
        Operation("sum", "add", ("a", "b", "masked"), "sum"),
        Operation(
            "depthwise", "conv2d", ("sum",), "dw", weight=weight(channels, 1, 3, 3), groups=channels, padding=(1, 1),
            neuron=lif(channels),
        ),
        Operation("pool", "pool", ("dw",), "pooled", kernel=(size, size), reduction="sum"),
        Operation("fc", "linear", ("pooled",), "out", weight=weight(5, channels)),
    ]  # fmt: skip
    return trace_of("attention", timesteps, operations, {"x": spikes})


def recurrent(timesteps=9, features=12, neurons=7, images=2, seed=0, threshold=20):
    """A recurrent layer with a leaky read-out."""
    draw = np.random.default_rng(seed)
    spikes = draw.random((timesteps, images, features)) < 0.4

    def weight(*shape):
        return draw.integers(-20, 25, shape).astype(np.int8)

    leaky = Neuron("lif", None, 1, 3, fires="nothing", reset="none")
    operations = [
        Operation("fc", "linear", ("x",), "current", weight=weight(neurons, features)),
        Operation("back", "delay", ("s",), "past", steps=1),
        Operation("own", "linear", ("past",), "feedback", weight=weight(neurons, neurons)),
        Operation("cell", "add", ("current", "feedback"), "s", neuron=lif(neurons, threshold)),
        Operation("out", "linear", ("s",), "o", weight=weight(3, neurons), neuron=leaky),
    ]
    return trace_of("recurrent", timesteps, operations, {"x": spikes})


def pixels(timesteps=6, images=2, seed=0):
    """A direct encoder, a dilated and a transposed convolution, upsampling, and neurons of several rules."""
    draw = np.random.default_rng(seed)

    def weight(*shape):
        return draw.integers(-20, 25, shape).astype(np.int8)

    slow = {"leak_multiplier": np.full(4, 230), "reset": "soft", "refractory": 1}
    counts = {"leak_multiplier": np.full(2, 200), "reset": "soft", "fires": "integer", "most": 3}
    image = draw.integers(0, 256, (images, 3, 6, 6)).astype(np.uint8)
    operations = [
        Operation("c1", "conv2d", ("x",), "s1", weight=weight(4, 3, 3, 3), padding=(1, 1), neuron=lif(4, 2000)),
        Operation("p1", "pool", ("s1",), "m1", kernel=(2, 2), stride=(2, 2)),
        Operation(
            "c2", "conv2d", ("m1",), "s2", weight=weight(4, 4, 3, 3), padding=(2, 2), dilation=(2, 2),
            neuron=Neuron("lif", np.full(4, 20), 8, 8, **slow),
        ),
        Operation("up", "upsample", ("s2",), "wide", factor=(2, 2)),
        Operation(
            "t", "conv2d", ("wide",), "counts", weight=weight(2, 4, 2, 2), input_dilation=(2, 2),
            padding=(1, 0, 0, 1), neuron=Neuron("lif", np.full(2, 20), 8, 8, **counts),
        ),
        Operation("last", "linear", ("counts",), "o", weight=weight(3, 2 * 11 * 11)),
    ]  # fmt: skip
    return trace_of("pixels", timesteps, operations, {"x": image})
