"""Small traces for tests: every operation, exact outputs by re-simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from archsim.trace import Neuron, Operation, Trace
from archsim.trace.resimulation import compute

LABELS = {"kind": "synthetic", "weights": "synthetic"}


def build(operations, tensors, timesteps, provenance=LABELS, **more) -> Trace:
    """A trace whose outputs are computed: ``tensors`` holds only what no operation writes."""
    tensors = dict(tensors)
    for operation in operations:
        silent = dict(tensors)
        inputs = {name: silent[name] for name in operation.inputs}
        shaped = Trace(
            network="shape", timesteps=timesteps, operations=[operation], tensors=inputs, provenance=LABELS
        ).operations[0]
        output = compute(shaped, [decoded(inputs[name]) for name in operation.inputs], timesteps)
        tensors[operation.output] = output
    return Trace(
        network="small", timesteps=timesteps, operations=operations, tensors=tensors, provenance=provenance, **more
    )


def decoded(array):
    """``array`` as ``Trace.tensor`` would return it."""
    timed = array.ndim in (3, 5)
    return array.astype(np.int64) if timed and array.dtype != np.bool_ else array


def lif(channels: int, threshold: int = 40, leak_shift: int = 1, timesteps: int = 4, **more) -> Neuron:
    bits = leak_shift * (timesteps - 1)
    return Neuron("lif", np.full(channels, threshold), leak_shift, bits, **more)


def tiny(seed: int = 0, timesteps: int = 4, images: int = 2) -> Trace:
    """Pixels, an encoder, a convolution, a pool and a classifier: 5 x 6 pixels, nothing a multiple of anything."""
    generator = np.random.default_rng(seed)

    def weights(*shape):
        values = generator.integers(-9, 10, shape, dtype=np.int8)
        return np.where(generator.random(shape) < 0.5, values, np.int8(0))

    operations = [
        Operation(
            "conv1", "conv2d", ("pixels",), "conv1.spikes", padding=(1, 1), weight=weights(3, 2, 3, 3),
            neuron=lif(3, 900, timesteps=timesteps),
        ),
        Operation(
            "conv2", "conv2d", ("conv1.spikes",), "conv2.spikes", padding=(1, 1), stride=(1, 2),
            weight=weights(5, 3, 3, 3), bias=generator.integers(-3, 12, 5),
            neuron=lif(5, 7, timesteps=timesteps, mask_fire_once=True),
        ),
        Operation("pool", "pool", ("conv2.spikes",), "pool.spikes", kernel=(2, 2), stride=(2, 2)),
        Operation("fc", "linear", ("pool.spikes",), "logits", weight=weights(4, 10), bias=np.arange(4)),
    ]  # fmt: skip
    pixels = generator.integers(0, 256, (images, 2, 5, 6), dtype=np.uint8)
    return build(operations, {"pixels": pixels}, timesteps, scales={"pixels": 1 / 255})


def every_operation(seed: int = 0, timesteps: int = 3) -> Trace:
    """Branches that are added, concatenated, multiplied; IF and soft-reset neurons; integers that change in time."""
    generator = np.random.default_rng(seed)
    spikes = generator.random((timesteps, 2, 3, 4, 4)) < 0.4
    levels = generator.integers(-50, 50, (timesteps, 2, 3, 4, 4)).astype(np.int16)

    def weights(*shape):
        return generator.integers(-20, 21, shape, dtype=np.int8)

    soft = Neuron("lif", np.array([30, 50, 90]), 2, 4, "soft")
    operations = [
        Operation("left", "conv2d", ("spikes",), "left.out", padding=(1, 1), weight=weights(3, 3, 3, 3), neuron=soft),
        Operation("right", "conv2d", ("levels",), "right.out", weight=weights(3, 3, 1, 1)),
        Operation("sum", "add", ("left.out", "right.out", "levels"), "sum.out", neuron=Neuron("if", np.full(3, 60))),
        Operation("both", "concat", ("sum.out", "left.out"), "both.out"),
        Operation("highest", "pool", ("levels",), "highest.out", kernel=(3, 2), stride=(2, 1), padding=(1, 0)),
        Operation("scores", "matmul", ("both.out", "both.out"), "scores.out", transpose=True, neuron=lif(16, 2, 1)),
        Operation("values", "matmul", ("scores.out", "both.out"), "values.out"),
    ]
    return build(operations, {"spikes": spikes, "levels": levels}, timesteps)


def replaced(trace: Trace, name: str, **changes) -> list[Operation]:
    """The operations of ``trace`` with the one called ``name`` changed."""
    return [replace(op, **changes) if op.name == name else op for op in trace.operations]


def contents(trace: Trace) -> dict[str, np.ndarray]:
    """All stored tensors."""
    return {name: trace.tensor(name) for name in trace.tensors}
