"""Small traces for tests: every operation, exact outputs by re-simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from archsim.trace import ImageSet, Neuron, Operation, Requantiser, Trace
from archsim.trace.resimulation import compute, run_images
from tests.twins import trace as twin

LABELS = {"kind": "synthetic", "weights": "synthetic"}


def build(operations, tensors, timesteps, kinds=None, provenance=LABELS, **more) -> Trace:
    """A trace whose outputs are computed: ``tensors`` holds only what no operation writes."""
    tensors, kinds = dict(tensors), kinds or {}
    for operation in operations:
        inputs = {name: tensors[name] for name in operation.inputs}
        alone = Trace(
            network="shape", timesteps=timesteps, operations=[operation], tensors=inputs, provenance=LABELS,
            kinds={name: kind for name, kind in kinds.items() if name in inputs},
        )  # fmt: skip
        output = compute(alone.operations[0], [alone.operand(name) for name in operation.inputs], timesteps)
        timed = kinds.get(operation.output) == "spike_time"
        tensors[operation.output] = twin.first_spike_times(output) if timed else output
    return Trace(
        network="small", timesteps=timesteps, operations=operations, tensors=tensors, provenance=provenance,
        kinds=kinds, **more,
    )  # fmt: skip


def lif(channels: int, threshold: int = 40, leak_shift: int = 1, timesteps: int = 4, **more) -> Neuron:
    bits = leak_shift * (timesteps - 1) if timesteps < 20 else 16
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


def trained(seed: int = 0, timesteps: int = 3) -> Trace:
    """``tiny`` with random gradient masks of an encoder, a convolution and a classifier; their bits fill no byte."""
    generator = np.random.default_rng(seed)
    trace = tiny(seed, timesteps, images=1)
    masks = {op.name: generator.random((timesteps, 1, *op.output_shape)) < 0.4 for op in trace if op.op != "pool"}
    return Trace(
        network="small", timesteps=timesteps, provenance=LABELS, tensors=contents(trace),
        operations=[replace(op, gradient_mask=masks.get(op.name)) for op in trace], scales={"pixels": 1 / 255},
    )  # fmt: skip


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


def every_kind(seed: int = 0, timesteps: int = 3) -> Trace:
    """Signed spikes, spike times and integers of five bits with a scale, through all operations that may read them."""
    generator = np.random.default_rng(seed)
    shape = (2, 3, 3, 5)
    ternary = generator.integers(-1, 2, (timesteps, *shape), dtype=np.int8)
    times = generator.integers(0, timesteps + 1, shape, dtype=np.uint8 if timesteps < 255 else np.uint16)
    times[times == timesteps] = twin.never(timesteps)
    levels = generator.integers(-16, 16, (timesteps, *shape), dtype=np.int8)

    def weights(*shape):
        return generator.integers(-20, 21, shape, dtype=np.int8)

    operations = [
        Operation("a", "conv2d", ("ternary",), "a.out", padding=(1, 1), weight=weights(4, 3, 3, 3), neuron=lif(4)),
        Operation(
            "b", "conv2d", ("times",), "b.out", weight=weights(3, 3, 1, 1), bias=np.array([9, 2, 4]),
            neuron=Neuron("if", np.full(3, 8)),
        ),
        Operation("c", "linear", ("ternary",), "c.out", weight=weights(2, 45)),
        Operation("d", "linear", ("b.out",), "d.out", weight=weights(2, 45), bias=np.arange(2)),
        Operation("highest", "pool", ("ternary",), "highest.out", kernel=(2, 3), padding=(1, 0)),
        Operation("earliest", "pool", ("times",), "earliest.out", kernel=(2, 2), stride=(2, 1)),
        Operation("signs", "concat", ("ternary", "ternary"), "signs.out"),
        Operation("hands", "concat", ("times", "b.out"), "hands.out"),
        Operation("sum", "add", ("ternary", "levels", "positive"), "sum.out", neuron=Neuron("if", np.full(3, 5))),
        Operation("product", "matmul", ("ternary", "levels"), "product.out", transpose=True),
    ]  # fmt: skip
    kinds = dict.fromkeys(("ternary", "highest.out", "signs.out"), "signed_spike")
    kinds |= dict.fromkeys(("times", "b.out", "earliest.out", "hands.out"), "spike_time")
    tensors = {"ternary": ternary, "times": times, "levels": levels, "positive": ternary > 0}
    return build(operations, tensors, timesteps, kinds, scales={"levels": 0.125}, bits={"levels": 5})


def long() -> Trace:
    """More timesteps than a byte has."""
    return every_kind(2, timesteps=300)


def attention(seed: int = 0, images: int = 2) -> Trace:
    """One head of attention without spikes, with image sets: every operation that writes integers of few bits.

    Patches of 1 x 2 pixels, 3 x 2 positions of 4 channels, and an embedding of positions that is a constant.
    """
    generator = np.random.default_rng(seed)

    def weights(*shape):
        return generator.integers(-20, 21, shape, dtype=np.int8)

    def few(channels, shift, bits=8, signed=True, largest=255):
        return Requantiser(generator.integers(1, largest + 1, channels), shift, bits, signed)

    exponentials = np.round(4000 * np.exp(-np.arange(256) / 40)).astype(np.uint16)
    operations = [
        Operation(
            "patches", "conv2d", ("pixels",), "patches.out", stride=(1, 2), weight=weights(4, 1, 1, 2),
            bias=generator.integers(-500, 500, 4), requantiser=few(4, 8, 12),
        ),
        Operation("embed", "add", ("patches.out", "positions"), "embed.out", requantiser=few(4, 1, 12, largest=3)),
        Operation(
            "norm", "layer_norm", ("embed.out",), "norm.out", bias=generator.integers(-9000, 9000, 4),
            requantiser=few(4, 12, largest=200_000),
        ),
        *(
            Operation(name, "conv2d", ("norm.out",), f"{name}.out", weight=weights(4, 4, 1, 1), requantiser=few(4, 9))
            for name in ("query", "key", "value")
        ),
        Operation(
            "scores", "matmul", ("query.out", "key.out"), "scores.out", transpose=True, requantiser=few(6, 14),
        ),
        Operation("shares", "softmax", ("scores.out",), "shares.out", table=exponentials),
        Operation("mix", "matmul", ("shares.out", "value.out"), "mix.out", requantiser=few(4, 16)),
        Operation("hidden", "conv2d", ("mix.out",), "hidden.out", weight=weights(5, 4, 1, 1),
                  requantiser=few(5, 13, 5, signed=False)),
        Operation("fc", "linear", ("hidden.out",), "logits", weight=weights(3, 30), bias=np.arange(3)),
    ]  # fmt: skip
    positions = np.broadcast_to(generator.integers(-300, 300, (4, 3, 2), dtype=np.int16), (images, 4, 3, 2))

    def images_of(count):
        return generator.integers(0, 256, (count, 1, 3, 4), dtype=np.uint8)

    tensors = {"pixels": images_of(images), "positions": positions}
    return build(
        operations, tensors, 1, calibration=ImageSet(images_of(3), np.array([0, 2, 1])),
        evaluation=ImageSet(images_of(5), np.array([2, 2, 1, 0, 0])),
    )  # fmt: skip


def version_2(seed: int = 0, timesteps: int = 3, images: int = 1) -> Trace:
    """What came with version 2, but for neurons and delays: every operation and key, on maps of 4 x 3 x 4.

    A depthwise and a transposed convolution, pools of sums, products of heads as linear attention has them, masks.
    """
    generator = np.random.default_rng(seed)

    def weights(*shape):
        return generator.integers(-20, 21, shape, dtype=np.int8)

    def neurons(channels, threshold=3):
        return Neuron("if", np.full(channels, threshold))

    operations = [
        Operation(
            "depthwise", "conv2d", ("spikes",), "depthwise.out", padding=(1, 0, 2, 1), dilation=(1, 2), groups=4,
            weight=weights(4, 1, 2, 2), neuron=neurons(4),
        ),
        Operation(
            "larger", "conv2d", ("spikes",), "larger.out", padding=(2, 1, 1, 2), input_dilation=(2, 2), groups=2,
            weight=weights(2, 2, 3, 2),
        ),
        Operation(
            "average", "pool", ("spikes",), "average.out", kernel=(2, 2), stride=(2, 2), padding=(0, 1, 0, 0),
            reduction="sum", neuron=neurons(4, 1),
        ),
        Operation(
            "twice", "upsample", ("average.out",), "twice.out", factor=(2, 2),
        ),
        Operation("cut", "slice", ("twice.out",), "cut.out", axis=1, start=1, stop=4),
        Operation("chosen", "reduce", ("cut.out",), "chosen.out", axis="channels", groups=2, neuron=neurons(2, 1)),
        Operation("masked", "multiply", ("spikes", "chosen.out"), "masked.out"),
        Operation("context", "matmul", ("cut.out", "spikes"), "context.out", transpose_first=True, heads=2),
        Operation("attended", "matmul", ("masked.out", "context.out"), "attended.out", heads=2, neuron=neurons(4, 2)),
        Operation(
            "shuffled", "rearrange", ("attended.out",), "shuffled.out", view=(2, 2, 3, 4), order=(1, 0, 2, 3),
            shape=(4, 3, 4),
        ),
        Operation("counts", "reduce", ("shuffled.out",), "counts.out", axis="positions"),
    ]  # fmt: skip
    return build(operations, {"spikes": generator.random((timesteps, images, 4, 3, 4)) < 0.4}, timesteps)


def recurrent(seed: int = 0, timesteps: int = 7, images: int = 2) -> Trace:
    """Neurons that read what they fired a timestep before, and, per channel, one to three timesteps before."""
    generator = np.random.default_rng(seed)

    def weights(*shape):
        return generator.integers(-20, 21, shape, dtype=np.int8)

    operations = [
        Operation("late", "delay", ("hidden.out",), "late.out", steps=1),
        Operation("input", "linear", ("pixels",), "input.out", weight=weights(5, 6)),
        Operation("again", "linear", ("late.out",), "again.out", weight=weights(5, 5), bias=np.arange(5)),
        Operation("hidden", "add", ("input.out", "again.out"), "hidden.out", neuron=lif(5, 60, timesteps=timesteps)),
        Operation("later", "delay", ("hidden.out",), "later.out", steps=np.array([1, 2, 3, 1, 2])),
        Operation("read_out", "linear", ("later.out",), "logits", weight=weights(3, 5)),
    ]  # fmt: skip
    pixels = generator.integers(0, 6, (images, 6), dtype=np.uint8)
    return settled(operations, {"pixels": pixels}, {"hidden.out": (5,)}, timesteps)


def settled(operations, tensors, cyclic, timesteps, kinds=None) -> Trace:
    """A recurrent trace whose outputs are computed: ``cyclic`` has the shapes of spikes that delays read early."""
    kinds = kinds or {}
    images = len(next(iter(tensors.values())))
    blank = {name: np.zeros((timesteps, images, *shape), bool) for name, shape in cyclic.items()}
    blank = {name: twin.first_spike_times(spikes) if name in kinds else spikes for name, spikes in blank.items()}
    trace = build(operations, {**tensors, **blank}, timesteps, kinds)
    made = run_images(trace, trace.tensor(trace.pixels))
    made = {name: twin.first_spike_times(spikes) if name in kinds else spikes for name, spikes in made.items()}
    return Trace(
        network="small", timesteps=timesteps, operations=operations, provenance=LABELS, kinds=kinds,
        tensors=contents(trace) | made,
    )  # fmt: skip


def replaced(trace: Trace, name: str, **changes) -> list[Operation]:
    """The operations of ``trace`` with the one called ``name`` changed."""
    return [replace(op, **changes) if op.name == name else op for op in trace.operations]


def contents(trace: Trace) -> dict[str, np.ndarray]:
    """All stored tensors."""
    return {name: trace.tensor(name) for name in trace.tensors}


def kinds(trace: Trace) -> dict[str, str]:
    """What all stored tensors are."""
    return {name: trace.kind(name) for name in trace.tensors}
