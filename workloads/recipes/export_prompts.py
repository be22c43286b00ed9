"""Turn what ``train_prompts.py`` learned with ``soft`` or ``os`` into an integer network, and write its trace.

The operations are those of ``archsim.trace.prompted``, in inference; ``os++`` differs from ``os`` in training only.
Quantisation is that of ``export_integer.py``: weights of 8 bits with a scale for each output channel, activations of 8
bits, 16 bits for the stream of tokens. A prompt has the scale of the keys, or values, that it is put in front of. Keys
k_m are stored as k_m / |k_m|; a query is divided by its length by a layer norm of [q, -q].

Accuracy is that of the integer network on the test images of ``train_prompts.py``, all classes, after the last task.

    python export_prompts.py os --seed 1 --data DIR --checkpoints DIR -o os_prompt.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import train_prompts
from export_integer import HEADROOM, LABELS, NORM_SHIFT, RESIDUAL_BITS, SCALING_IMAGES, Network, scale_of
from numpy.typing import NDArray
from torch import Tensor, nn
from train_prompts import Backbone, Learner
from training import fashion_mnist

from archsim.trace import Operation, Requantiser, Trace, save_trace
from archsim.trace.operation import PLAIN_KEYS
from archsim.trace.plan import Step
from archsim.trace.prompted import Transformer, passes
from archsim.trace.resimulation import predict, run_images

SHAPE = Transformer(
    side=28, patch=train_prompts.PATCH, colours=1, width=train_prompts.CHANNELS, heads=train_prompts.HEADS,
    hidden=train_prompts.HIDDEN, depth=train_prompts.ENCODERS, classes=train_prompts.CLASSES,
    blocks=train_prompts.PROMPTED, pool=train_prompts.POOL, length=train_prompts.LENGTH,
)  # fmt: skip
VARIANTS = {"soft": "two_stage", "os": "os"}
STREAM = ("patches", "embed", "projection", "add1", "output", "add2")
"""Ends of the names of what has the scale of the stream of tokens."""


class Quantised:
    """The integer network, operation by operation of the plan."""

    def __init__(self, learner: Learner, method: str, images: NDArray[np.uint8]) -> None:
        self.weights = {name: values.double().numpy() for name, values in learner.state_dict().items()}
        self.network = Network(images)
        self.scales = learned_scales(learner, torch.from_numpy(images))
        for name, values in self._constants().items():
            integers = np.round(values / self.scales["stream"]).astype(np.int16) if name != "minus_one" else values
            self.network.values[name] = np.broadcast_to(integers, (len(images), *values.shape))
            self.network.scales[name] = 1.0 if name == "minus_one" else self.scales["stream"]
        for step in passes(SHAPE, VARIANTS[method], "inference").steps:
            self._add(step)

    def _constants(self) -> dict[str, NDArray[Any]]:
        return {
            "class_token": self.weights["backbone.class_token"][0, :, :, None],
            "positions": self.weights["backbone.positions"][0].T[:, :, None],
            "minus_one": np.full((SHAPE.width, 1, 1), -1, np.int8),
        }

    def _add(self, step: Step) -> None:
        network, record = self.network, step.record
        own = step.name.removeprefix("query.")
        first = record["inputs"][0]
        keys = {key: value for key, value in record.items() if key in PLAIN_KEYS}
        bare = Operation(step.name, record["op"], tuple(record["inputs"]), step.name, **keys)
        bits, scale = (RESIDUAL_BITS, self.scales["stream"]) if own.split(".")[-1] in STREAM else (8, None)
        match record["op"]:
            case "conv2d":
                layer, unit = self._layer(bare, own)
                if step.name.endswith((".key", ".value")):
                    scale = self.scales.get(step.name)
                if own.endswith(".prompt.prefix"):
                    # Of keys and of values, each in the unit that all are put into.
                    encoder = own.partition(".")[0]
                    wanted = [self.scales[f"{encoder}.{part}"] for part in ("key", "value")]
                    unit, scale = unit / np.repeat(wanted, len(unit) // 2), 1.0
                network.requantised(layer, unit, bits=bits, scale=scale, signed=not own.endswith(".hidden"))
            case "linear":
                self._read_out(bare)
            case "add":
                network.requantised(bare, self.scales["stream"], bits=bits, scale=scale)
            case "multiply":
                unit = network.scales[first]
                network.requantised(bare, unit, bits=16 if unit == self.scales["stream"] else 8, scale=unit)
            case "matmul":
                unit = network.scales[first] * network.scales[record["inputs"][1]]
                if own.endswith(".scores"):
                    unit /= np.sqrt(SHAPE.width / SHAPE.heads)
                network.requantised(bare, unit)
            case "softmax":
                table = np.round(65535 * np.exp(-network.scales[first] * np.arange(256))).astype(np.uint16)
                shares = Operation(step.name, "softmax", (first,), step.name, table=table)
                network.add(shares, network.sums(shares), 1 / 255)
            case "layer_norm":
                self._norm(bare, own)
            case _:
                # A slice of prompts is in the unit of the keys, or values, that it goes to.
                unit = self.scales.get(".".join(own.split(".")[:2]), network.scales[first])
                network.add(bare, network.sums(bare), unit)

    def _layer(self, bare: Operation, own: str) -> tuple[Operation, NDArray[np.float64]]:
        """A layer with its weights, and the worth of its sums by channel."""
        kind = own.split(".")[-1]
        if own == "patches":
            weight, bias = (self.weights[f"backbone.patches.{part}"] for part in ("weight", "bias"))
        elif ".prompt." in own:
            number = int(own.partition(".")[0].removeprefix("encoder"))
            keys = self.weights["prompts.keys"][number]
            unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
            weight = unit if kind == "near" else self.weights["prompts.components"][number].T
            bias = np.zeros(len(weight))
        else:
            at = f"backbone.encoders.{own.removeprefix('encoder')}"
            weight, bias = (self.weights[f"{at}.{part}"] for part in ("weight", "bias"))
        if weight.ndim == 2:
            weight = weight[:, :, None, None]
        more = {"stride": bare.stride} if own == "patches" else {}
        layer, unit = self.network.layer("conv2d", bare.name, bare.inputs[0], weight, bias, **more)
        return Operation(
            bare.name, "conv2d", bare.inputs, bare.name, weight=layer.weight, bias=layer.bias, **more
        ), unit  # fmt: skip

    def _read_out(self, bare: Operation) -> None:
        """The logits: one scale for all classes, as they are compared."""
        weight, bias = (self.weights[f"classifier.{part}"] for part in ("weight", "bias"))
        worth = np.abs(weight).max() / 127
        unit = worth * self.network.scales[bare.inputs[0]]
        layer = Operation(
            bare.name, "linear", bare.inputs, bare.name, weight=np.round(weight / worth).astype(np.int8),
            bias=np.round(bias / unit).astype(np.int64),
        )  # fmt: skip
        self.network.add(layer, self.network.sums(layer), unit)

    def _norm(self, bare: Operation, own: str) -> None:
        """A layer norm; that of [q, -q] divides by the root of the mean square, sqrt(width) times the length's."""
        source = bare.inputs[0]
        values = self.network.values[source].astype(np.float64)
        if own.endswith("both.norm"):
            gain, offset = np.full(2 * SHAPE.width, SHAPE.width**-0.5), np.zeros(2 * SHAPE.width)
        else:
            at = own.replace("encoder", "encoders.").replace(".norm", ".norms.")
            at = "backbone.norm" if own == "norm" else f"backbone.{at[:-1]}{int(at[-1]) - 1}"
            gain, offset = (self.weights[f"{at}.{part}"] for part in ("weight", "bias"))
        centred = values - values.mean(1, keepdims=True)
        real = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-12)
        real = real * gain[:, None, None] + offset[:, None, None]
        scale = scale_of(real, 8, True)
        units = 2.0**NORM_SHIFT / scale
        few = Requantiser(np.round(gain * units).astype(np.int64), NORM_SHIFT)
        bias = np.round(offset * units).astype(np.int64)
        layer = Operation(bare.name, "layer_norm", (source,), bare.name, bias=bias, requantiser=few)
        self.network.add(layer, self.network.sums(layer), scale)


def learned_scales(learner: Learner, images: Tensor) -> dict[str, float]:
    """By the float model on ``images``: of the stream of tokens, and of prompted keys and values."""
    largest, found = 0.0, {}
    made: dict[str, list[Tensor]] = {}

    def stream(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal largest
        largest = max(largest, float(inputs[0].abs().max()))

    hooks = [norm.register_forward_pre_hook(stream) for norm in learner.modules() if isinstance(norm, nn.LayerNorm)]
    for number, encoder in enumerate(learner.backbone.encoders[: SHAPE.blocks]):
        for part in ("key", "value"):
            kept = made.setdefault(f"encoder{number}.{part}", [])
            hooks.append(getattr(encoder, part).register_forward_hook(lambda _, __, out, kept=kept: kept.append(out)))

    def prefixes(module: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
        for place, part in enumerate(("key", "value")):
            made[f"encoder{inputs[0]}.{part}"].append(out[:, place])

    hooks.append(learner.prompts.register_forward_hook(prefixes))
    learner.eval()
    shown = images.float() / 255
    with torch.no_grad():
        queries = learner.backbone(shown)
        for kept in made.values():
            kept.clear()
        learner(shown, queries)
    for hook in hooks:
        hook.remove()
    for name, kept in made.items():
        found[name] = scale_of(torch.cat([values.flatten() for values in kept]).double().numpy(), 8, True)
    return {"stream": HEADROOM * largest / ((1 << (RESIDUAL_BITS - 1)) - 1), **found}


def trace_of(built: Network, images: NDArray[np.uint8], tensors: dict[str, NDArray[Any]], **more: Any) -> Trace:
    """The network with its ``tensors`` [I, ...] on ``images`` and the constants."""
    read = {name for operation in built.operations for name in operation.inputs}
    constants = {
        name: np.repeat(built.values[name][:1], len(images), 0)
        for name in ("class_token", "positions", "minus_one")
        if name in read
    }
    tensors = {"images": images, **constants, **tensors}
    return Trace(
        timesteps=1, operations=built.operations, tensors=tensors,
        scales={name: built.scales[name] for name in tensors}, **more,
    )  # fmt: skip


def stored_types(operations: list[Operation], values: dict[str, NDArray[Any]]) -> dict[str, type[np.integer]]:
    """The dtype of every output: as small as its requantiser says, or that of what is moved."""
    types: dict[str, Any] = {name: array.dtype.type for name, array in values.items()}
    for operation in operations:
        few = operation.requantiser
        if few is not None:
            types[operation.output] = np.uint8 if not few.signed else np.int8 if few.bits <= 8 else np.int16
        elif operation.op == "softmax":
            types[operation.output] = np.uint8
        else:
            types[operation.output] = np.int32 if operation.op == "linear" else types[operation.inputs[0]]
    return types


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=sorted(VARIANTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--test-images", type=int, default=train_prompts.TEST_IMAGES)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    state = torch.load(arguments.checkpoints / f"prompt-{arguments.method}-{arguments.seed}.pt")
    learner = Learner(Backbone(), arguments.method)
    learner.load_state_dict(state["model"])
    images, _ = (part.numpy() for part in fashion_mnist(arguments.data, "train"))
    tests, classes = (part[: arguments.test_images].numpy() for part in fashion_mnist(arguments.data, "t10k"))
    built = Quantised(learner, arguments.method, images[:SCALING_IMAGES]).network
    types = stored_types(built.operations, built.values)
    one = {op.output: built.values[op.output][0, :1].astype(types[op.output]) for op in built.operations}
    small = trace_of(built, images[:1], one, network="one", provenance=LABELS)
    predicted = predict(small, tests)
    accuracy = float(np.mean(predicted == classes))
    traced = tests[: arguments.images]
    outputs = run_images(small, traced)
    provenance = {
        "kind": "trained", "weights": "trained", "dataset": "Fashion-MNIST", "accuracy": accuracy,
        "licence": "MIT (trace and weights); Fashion-MNIST: MIT, Zalando SE",
        "recipe": f"workloads/recipes/train_prompts.py, workloads/recipes/export_prompts.py {arguments.method}",
        "seed": arguments.seed,
        "details": {
            "accuracy_of": f"the integer network on {len(tests)} test images, all classes, after five tasks of two",
            "float_accuracy": float(state["row"]["accuracy"]),
            "backbone": "trained by contrast of two views of unlabelled training images, then frozen",
            "task_samples": state["samples"],
            "labels": classes[: arguments.images].tolist(),
            "predicted": predicted[: arguments.images].tolist(),
        },
    }  # fmt: skip
    found = {name: values[0].astype(types[name]) for name, values in outputs.items() if name in types}
    trace = trace_of(
        built, traced, {op.output: found[op.output] for op in built.operations},
        network=f"{VARIANTS[arguments.method]}_prompt", provenance=provenance,
    )  # fmt: skip
    save_trace(trace, arguments.output)
    print(f"{arguments.output}: accuracy {accuracy:.4f}, of the float model {state['row']['accuracy']}")


if __name__ == "__main__":
    main()
