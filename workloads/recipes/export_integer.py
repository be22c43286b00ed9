"""Turn a checkpoint of ``train_cnn.py`` or ``train_transformer.py`` into an integer network, and write its trace.

Quantisation after training, operation by operation, on the first images of the training set: the integers that are
there so far give the sums of the next operation, and the range of those sums gives its scale. Weights are int8 with a
scale for each output channel, folded into its multiplier; activations are 8 bits, without a sign behind a ReLU; the sum
that runs past attention and MLP (the residual stream) has 16 bits and one scale. Batch norm is folded into the
convolution. A scale covers all but ``TAIL`` of the values; what is beyond is clipped.

Accuracy is that of the integer network on all 10,000 test images, beside that of the float model. The trace holds the
first ``--images`` of them, and image sets: the first 512 training images and the first 1,000 test images.

    python export_integer.py cnn --data DIR --checkpoints DIR -o cnn.npz
    python export_integer.py vit-variation-aware --data DIR --checkpoints DIR -o vit_variation_aware.npz
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import train_cnn
import train_transformer
from numpy.typing import NDArray
from training import fashion_mnist

from archsim.trace import ImageSet, Operation, Requantiser, Trace, save_trace
from archsim.trace.resimulation import compute, predict, requantise, run_images

TAIL = 1e-4
CALIBRATION_IMAGES, EVALUATION_IMAGES, SCALING_IMAGES = 512, 1000, 128
MULTIPLIER_BITS = 24
NORM_SHIFT = 16
RESIDUAL_BITS = 16
HEADROOM = 2.0
"""Room of the residual stream for other images, as a multiple of its largest value."""
Linear = Callable[..., tuple[Operation, NDArray[np.float64]]]
LABELS = {"kind": "synthetic", "weights": "synthetic"}


class Network:
    """Operations so far; of every tensor its ``values`` [1, I, ...] on some images, and its ``scales``."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.operations: list[Operation] = []
        self.values: dict[str, NDArray[np.integer]] = {"images": images}
        self.scales = {"images": 1 / 255}

    def sums(self, operation: Operation) -> NDArray[np.int64]:
        """What ``operation`` makes of its inputs [1, I, ...]: sums, if it has no requantiser."""
        inputs = [self.values[name] for name in operation.inputs]
        # A trace of one operation works out the shapes.
        tensors = dict(zip(operation.inputs, inputs, strict=True))
        alone = Trace(network="one", timesteps=1, operations=[operation], tensors=tensors, provenance=LABELS)
        return compute(alone.operations[0], inputs, 1)

    def add(self, operation: Operation, values: NDArray[np.int64], scale: float) -> str:
        """Append ``operation``, which writes ``values``; returns the name of its output."""
        self.operations.append(operation)
        self.values[operation.output], self.scales[operation.output] = values, scale
        return operation.output

    def requantised(
        self, operation: Operation, unit: NDArray[np.float64] | float, *, bits: int = 8, signed: bool = True,
        scale: float | None = None, sums: NDArray[np.int64] | None = None,
    ) -> str:  # fmt: skip
        """Append ``operation``, whose sums are worth ``unit`` (by channel), with a requantiser; a scale is chosen if
        none is given."""
        sums = self.sums(operation) if sums is None else sums
        unit = np.broadcast_to(np.asarray(unit, np.float64), sums.shape[2:3])
        scale = scale or scale_of(sums * _by_channel(unit, sums), bits, signed)
        factors = unit / scale
        shift = int(np.clip(MULTIPLIER_BITS - 2 - np.floor(np.log2(factors.max())), 0, 62))
        few = Requantiser(np.round(factors * 2.0**shift).astype(np.int64), shift, bits, signed)
        return self.add(replace(operation, requantiser=few), requantise(few, sums), scale)

    def layer(
        self, op: str, name: str, source: str, weight: NDArray[np.float64], bias: NDArray[np.float64], **more: Any
    ) -> tuple[Operation, NDArray[np.float64]]:
        """A layer with weights of 8 bits, and the worth of its sums by channel."""
        largest = np.abs(weight).reshape(len(weight), -1).max(1)
        worth = np.where(largest > 0, largest, 1) / 127
        integers = np.round(weight / worth.reshape(-1, *(1,) * (weight.ndim - 1))).astype(np.int8)
        unit = worth * self.scales[source]
        whole = np.round(bias / unit).astype(np.int64)
        return Operation(name, op, (source,), f"{name}.out", weight=integers, bias=whole, **more), unit

    def read_out(self, source: str, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
        """The last layer, whose sums are the logits: one scale for all classes, as they are compared."""
        worth = np.abs(weight).max() / 127
        unit = worth * self.scales[source]
        operation = Operation(
            "classifier", "linear", (source,), "logits", weight=np.round(weight / worth).astype(np.int8),
            bias=np.round(bias / unit).astype(np.int64),
        )  # fmt: skip
        self.add(operation, self.sums(operation), unit)


def scale_of(values: NDArray[np.float64], bits: int, signed: bool) -> float:
    """Real value of one unit, so that ``bits`` hold all but ``TAIL`` of ``values``."""
    magnitudes = np.abs(values) if signed else np.maximum(values, 0)
    largest = float(np.quantile(magnitudes, 1 - TAIL))
    return (largest or 1.0) / ((1 << (bits - signed)) - 1)


def _by_channel(values: NDArray[np.float64], like: NDArray[np.int64]) -> NDArray[np.float64]:
    return values.reshape(-1, *(1,) * (like.ndim - 3))


def cnn(weights: dict[str, NDArray[np.float64]], images: NDArray[np.uint8]) -> Network:
    """The network of ``train_cnn.py``."""
    network, source, convolutions, pools = Network(images), "images", 0, 0
    for entry in train_cnn.LAYERS:
        if isinstance(entry, str):
            pools += 1
            pool = Operation(f"pool{pools}", "pool", (source,), f"pool{pools}.out", kernel=(2, 2), stride=(2, 2))
            source = network.add(pool, network.sums(pool), network.scales[source])
            continue
        gamma, beta, mean, variance = (
            weights[f"norms.{convolutions}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")
        )
        gain = gamma / np.sqrt(variance + 1e-5)
        folded = weights[f"convolutions.{convolutions}.weight"] * gain[:, None, None, None]
        convolutions += 1
        layer, unit = network.layer("conv2d", f"conv{convolutions}", source, folded, beta - mean * gain, padding=(1, 1))
        source = network.requantised(layer, unit, signed=False)
    network.read_out(source, weights["classifier.weight"], weights["classifier.bias"])
    return network


def transformer(weights: dict[str, NDArray[np.float64]], images: NDArray[np.uint8]) -> Network:
    """The network of ``train_transformer.py``; a token is a position of the patches [C, 7, 7]."""
    network, side = Network(images), train_transformer.SIDE // train_transformer.PATCH
    stream = residual_scale(weights, images)

    def linear(name: str, source: str, key: str, rows: slice = slice(None)) -> tuple[Operation, NDArray[np.float64]]:
        weight, bias = weights[f"{key}.weight"][rows], weights[f"{key}.bias"][rows]
        return network.layer("conv2d", name, source, weight[:, :, None, None], bias)

    def add(name: str, first: str, second: str) -> str:
        total = Operation(name, "add", (first, second), f"{name}.out")
        return network.requantised(total, stream, bits=RESIDUAL_BITS, scale=stream)

    def norm(name: str, source: str, key: str) -> str:
        gain, offset = weights[f"{key}.weight"], weights[f"{key}.bias"]
        values = network.values[source].astype(np.float64)
        centred = values - values.mean(2, keepdims=True)
        real = centred / np.sqrt((centred**2).mean(2, keepdims=True)) * _by_channel(gain, values)
        scale = scale_of(real + _by_channel(offset, values), 8, True)
        units = 2.0**NORM_SHIFT / scale
        few = Requantiser(np.round(gain * units).astype(np.int64), NORM_SHIFT)
        bias = np.round(offset * units).astype(np.int64)
        layer = Operation(name, "layer_norm", (source,), f"{name}.out", bias=bias, requantiser=few)
        return network.add(layer, network.sums(layer), scale)

    patches, unit = network.layer(
        "conv2d", "patches", "images", weights["patches.weight"], weights["patches.bias"],
        stride=(train_transformer.PATCH,) * 2,
    )  # fmt: skip
    source = network.requantised(patches, unit, bits=RESIDUAL_BITS, scale=stream)
    positions = np.round(weights["positions"][0].T.reshape(-1, side, side) / stream).astype(np.int16)
    network.values["positions"] = np.broadcast_to(positions, (len(images), *positions.shape))
    network.scales["positions"] = stream
    source = add("embed", source, "positions")
    for number in range(train_transformer.ENCODERS):
        name, key = f"encoder{number + 1}", f"encoders.{number}"
        mixed = attention(network, name, key, norm(f"{name}.norm1", source, f"{key}.norms.0"), linear)
        projection, unit = linear(f"{name}.projection", mixed, f"{key}.attention.projection")
        projected = network.requantised(projection, unit, bits=RESIDUAL_BITS, scale=stream)
        source = add(f"{name}.add1", source, projected)
        hidden, unit = linear(f"{name}.hidden", norm(f"{name}.norm2", source, f"{key}.norms.1"), f"{key}.hidden")
        output, unit = linear(f"{name}.output", network.requantised(hidden, unit, signed=False), f"{key}.output")
        source = add(f"{name}.add2", source, network.requantised(output, unit, bits=RESIDUAL_BITS, scale=stream))
    network.read_out(norm("norm", source, "norm"), weights["classifier.weight"], weights["classifier.bias"])
    return network


def attention(network: Network, name: str, key: str, source: str, linear: Linear) -> str:
    """The heads of an encoder, side by side; their outputs share a scale."""
    width = train_transformer.CHANNELS // train_transformer.HEADS
    mixes = []
    for head in range(train_transformer.HEADS):
        rows, at = slice(head * width, (head + 1) * width), f"{name}.head{head + 1}"
        written = {}
        for role in ("query", "key", "value"):
            layer, unit = linear(f"{at}.{role}", source, f"{key}.attention.{role}", rows)
            written[role] = network.requantised(layer, unit)
        scores = Operation(
            f"{at}.scores", "matmul", (written["query"], written["key"]), f"{at}.scores.out", transpose=True
        )
        unit = network.scales[written["query"]] * network.scales[written["key"]] / np.sqrt(width)
        scored = network.requantised(scores, unit)
        table = np.round(65535 * np.exp(-network.scales[scored] * np.arange(256))).astype(np.uint16)
        shares = Operation(f"{at}.shares", "softmax", (scored,), f"{at}.shares.out", table=table)
        shared = network.add(shares, network.sums(shares), 1 / 255)
        mix = Operation(f"{at}.mix", "matmul", (shared, written["value"]), f"{at}.mix.out")
        mixes.append((mix, network.sums(mix), network.scales[written["value"]] / 255))
    scale = max(scale_of(sums * unit, 8, True) for _, sums, unit in mixes)
    heads = [network.requantised(mix, unit, scale=scale, sums=sums) for mix, sums, unit in mixes]
    both = Operation(f"{name}.heads", "concat", tuple(heads), f"{name}.heads.out")
    return network.add(both, network.sums(both), scale)


def residual_scale(weights: dict[str, NDArray[np.float64]], images: NDArray[np.uint8]) -> float:
    """One unit of the residual stream: its largest value in the float model, with headroom, in 16 bits."""
    model = train_transformer.Transformer()
    model.load_state_dict({key: torch.tensor(value).float() for key, value in weights.items()})
    largest = 0.0

    def watch(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal largest
        largest = max(largest, float(inputs[0].detach().abs().max()))

    for norm in [*(norm for encoder in model.encoders for norm in encoder.norms), model.norm]:
        norm.register_forward_pre_hook(watch)
    model.eval()
    with torch.no_grad():
        model(torch.from_numpy(images).float() / 255)
    return HEADROOM * largest / ((1 << (RESIDUAL_BITS - 1)) - 1)


NETWORKS = {
    "cnn": (cnn, train_cnn.SIDE, "train_cnn.py"),
    "vit": (transformer, train_transformer.SIDE, "train_transformer.py"),
    "vit-variation-aware": (transformer, train_transformer.SIDE, "train_transformer.py --variation-aware"),
}


def stored_types(operations: Sequence[Operation]) -> dict[str, type[np.integer]]:
    """The smallest dtype of every output."""
    types: dict[str, type[np.integer]] = {"images": np.uint8}
    for operation in operations:
        few = operation.requantiser
        if few is not None:
            types[operation.output] = np.uint8 if not few.signed else np.int8 if few.bits <= 8 else np.int16
        elif operation.op == "softmax":
            types[operation.output] = np.uint8
        else:
            types[operation.output] = np.int32 if operation.op == "linear" else types[operation.inputs[0]]
    return types


def trace_of(built: Network, images: NDArray[np.uint8], tensors: dict[str, NDArray[np.integer]], **more: Any) -> Trace:
    """A network with its ``tensors`` [I, ...] on ``images``, without the constants; ``more`` as for a trace."""
    constants = {
        name: np.repeat(values[:1], len(images), 0) for name, values in built.values.items() if name == "positions"
    }
    tensors = {"images": images, **constants, **tensors}
    scales = {name: built.scales[name] for name in tensors}
    return Trace(timesteps=1, operations=built.operations, tensors=tensors, scales=scales, **more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=sorted(NETWORKS))
    parser.add_argument("--data", type=Path, required=True, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--test-images", type=int, default=10_000, help="for a quick look; the trace says how many")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    build, side, recipe = NETWORKS[arguments.network]
    state = torch.load(arguments.checkpoints / f"{arguments.network}.pt", map_location="cpu")
    weights = {key: value.double().numpy() for key, value in state["model"].items()}
    images, labels = (part.numpy() for part in fashion_mnist(arguments.data, "train", side))
    tests, classes = (part.numpy() for part in fashion_mnist(arguments.data, "t10k", side))
    built = build(weights, images[:SCALING_IMAGES])
    types = stored_types(built.operations)
    # One image is enough to run others.
    one = {op.output: built.values[op.output][0, :1].astype(types[op.output]) for op in built.operations}
    small = trace_of(built, images[:1], one, network=arguments.network, provenance=LABELS)
    predicted = []
    for start in range(0, arguments.test_images, 500):
        predicted += predict(small, tests[start : min(start + 500, arguments.test_images)]).tolist()
        if sys.stdout.isatty():
            print(f"\r{len(predicted)} of {arguments.test_images} test images", end="", flush=True)
    accuracy = float(np.mean(predicted == classes[: arguments.test_images]))
    traced = tests[: arguments.images]
    outputs = run_images(small, traced)
    provenance = {
        "kind": "trained",
        "weights": "trained",
        "dataset": "Fashion-MNIST" + (f", padded to {side} x {side}" if side > 28 else ""),
        "accuracy": accuracy,
        "licence": "MIT (trace and weights); Fashion-MNIST: MIT, Zalando SE",
        "recipe": f"workloads/recipes/{recipe}, workloads/recipes/export_integer.py",
        "seed": state["seed"],
        "details": {
            "accuracy_of": f"the integer network on {arguments.test_images} test images",
            "float_accuracy": state["accuracy"],
            "training_samples": state["samples"],
            "scales": f"weights one per output channel; activations cover all but {TAIL:g} of the values",
            "labels": classes[: arguments.images].tolist(),
            "predicted": predicted[: arguments.images],
        },
    }
    trace = trace_of(
        built,
        traced,
        {name: values[0].astype(types[name]) for name, values in outputs.items()},
        network=arguments.network,
        provenance=provenance,
        calibration=ImageSet(images[:CALIBRATION_IMAGES], labels[:CALIBRATION_IMAGES]),
        evaluation=ImageSet(tests[:EVALUATION_IMAGES], classes[:EVALUATION_IMAGES]),
    )
    save_trace(trace, arguments.output)
    print(f"{arguments.output}: accuracy {accuracy:.4f}, of the float model {state['accuracy']:.4f}")


if __name__ == "__main__":
    main()
