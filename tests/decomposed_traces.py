"""Small traces of one convolution between two neuron layers, merged, gated and decomposed, without training tools."""

from dataclasses import replace

import numpy as np

from archsim.export.sub_convolutions import decomposed, doubled, gated, quantised
from archsim.export.tensor_train import Cores, merge
from archsim.trace import Neuron, Operation, Trace, resimulate

LABELS = {"kind": "synthetic", "weights": "synthetic"}
LAYER = "conv"


def cores_of(seed, inputs, outputs, rank):
    draw = np.random.default_rng(seed)
    shapes = (rank, inputs, 1, 1), (rank, rank, 3, 1), (rank, rank, 1, 3), (outputs, rank, 1, 1)
    return Cores(*(draw.normal(size=shape) for shape in shapes))


def merged(mode, seed=0, *, inputs=6, outputs=9, rank=4, side=6, images=2, timesteps=4, neuron=True, density=0.3):
    """The merged network (of ``htt`` without its gates) and the cores of its convolution."""
    draw = np.random.default_rng(seed)
    cores = cores_of(seed, inputs, outputs, rank)
    spikes = draw.random((timesteps, images, inputs, side, side)) < density
    real = doubled(cores) if mode == "htt" else merge(cores, mode)
    weight, unit = quantised(real)
    bias = draw.integers(-30, 30, outputs)
    fires = Neuron("lif", np.full(outputs, 90), 2, 2 * (timesteps - 1), fires_at_threshold=True) if neuron else None
    source = "twice" if mode == "htt" else "spikes"
    operations = [Operation("twice", "concat", ("spikes", "spikes"), "twice")] if mode == "htt" else []
    operations.append(
        Operation(LAYER, "conv2d", (source,), "out", padding=(1, 1), weight=weight, bias=bias, neuron=fires)
    )  # fmt: skip
    tensors = {"spikes": spikes}
    for operation in operations:
        known = {name: tensors[name] for name in operation.inputs}
        one = Trace(network="one", timesteps=timesteps, operations=[operation], tensors=known, provenance=LABELS)
        tensors[operation.output] = resimulate(one, one.operations[0])[0]
    whole = Trace(network="net", timesteps=timesteps, operations=operations, tensors=tensors, provenance=LABELS)
    return whole, {LAYER: cores}, unit


def training_step(mode, seed=0, *, gradient_density=0.4, **sizes):
    """The decomposed network with gradient masks, drawn; where a gate is shut there are none."""
    whole, cores, _ = merged(mode, seed, **sizes)
    trace = decomposed(whole, cores, mode)
    draw = np.random.default_rng(seed + 1)
    operations = []
    for operation in trace.operations:
        if operation.op == "conv2d":
            shape = (trace.timesteps, trace.images, *operation.output_shape)
            operation = with_mask(operation, draw.random(shape) < gradient_density)
        operations.append(operation)
    tensors = {name: trace.tensor(name) for name in trace.tensors}
    return Trace(
        network="step", timesteps=trace.timesteps, operations=operations, tensors=tensors, provenance=LABELS
    )  # fmt: skip


def with_mask(operation, mask):

    return replace(operation, gradient_mask=mask)


def inference(mode, seed=0, **sizes):
    """The merged network that machines run."""
    whole, cores, _ = merged(mode, seed, **sizes)
    return gated(whole, cores) if mode == "htt" else whole
