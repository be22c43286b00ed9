"""Turn a checkpoint of ``train_spiking_transformer.py``, ``train_depthwise.py`` or ``train_recurrent.py`` into a trace.

``archsim.export.from_torch`` reads the network: batch-norm is folded, weights are int8 with one scale per channel,
pixels are 0 to 255. Accuracy is that of the integer network on all 10,000 test images. The trace holds the first
``--images`` of them; of a network that sees the whole image in every timestep also image sets.

    python export_spiking.py spikformer --data DIR --checkpoints DIR -o spikformer.npz
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import train_depthwise
import train_recurrent
import train_spiking_transformer
from add_image_sets import with_more
from torch import Tensor, nn
from training import fashion_mnist

from archsim.export import Exported, from_torch
from archsim.trace import ImageSet, Trace, save_trace
from archsim.trace.resimulation import predict

CALIBRATION_IMAGES = 256
EVALUATION_IMAGES = 500
BATCH = 500


@dataclass(frozen=True)
class Recipe:
    """How a network is built and what trained it; a network ``by_row`` sees a row of the image in a timestep."""

    build: Callable[[], nn.Module]
    script: str
    timesteps: int
    side: int
    by_row: bool = False


def _transformer(name: str) -> Recipe:
    recipe = train_spiking_transformer
    return Recipe(
        recipe.NETWORKS[name], f"train_spiking_transformer.py --network {name}", recipe.TIMESTEPS, recipe.SIDE
    )


RECIPES = {
    **{name: _transformer(name) for name in train_spiking_transformer.NETWORKS},
    "depthwise": Recipe(
        train_depthwise.DepthwiseSeparable, "train_depthwise.py", train_depthwise.TIMESTEPS, train_depthwise.SIDE
    ),
    "recurrent": Recipe(
        train_recurrent.Recurrent, "train_recurrent.py", train_recurrent.SIDE, train_recurrent.SIDE, by_row=True
    ),
}


def export(recipe: Recipe, network: nn.Module, images: Tensor, **more: Any) -> Exported:
    """The integer network on ``images`` uint8 [I, 1, side, side]; ``more`` for ``from_torch``."""
    pixels = images.float() / 255
    shown = pixels[:, 0].transpose(0, 1) if recipe.by_row else pixels
    return from_torch(network, shown, T=recipe.timesteps, input_scale=1 / 255, **more)


def classes(recipe: Recipe, network: nn.Module, trace: Trace, images: Tensor) -> Iterator[int]:
    """What the integer network takes each of ``images`` uint8 for."""
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        if recipe.by_row:
            again = export(recipe, network, part).trace
            yield from again.tensor(again.operations[-1].output).sum(0).argmax(1)
        else:
            yield from predict(trace, part.numpy())
        if sys.stdout.isatty():
            print(f"\r{start + len(part)} of {len(images)} test images", end="", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, required=True, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--test-images", type=int, default=10_000, help="for a quick look; the trace says how many")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.network]
    state = torch.load(arguments.checkpoints / f"{arguments.network}.pt", map_location="cpu")
    network = recipe.build()
    network.load_state_dict({key.removeprefix("network."): value for key, value in state["model"].items()})
    tests, labels = fashion_mnist(arguments.data, "t10k", recipe.side)
    provenance: dict[str, Any] = {
        "kind": "trained",
        "weights": "trained",
        "dataset": "Fashion-MNIST" + (f", padded to {recipe.side} x {recipe.side}" if recipe.side > 28 else ""),
        "licence": "MIT (trace and weights); Fashion-MNIST: MIT, Zalando SE",
        "recipe": f"workloads/recipes/{recipe.script}, workloads/recipes/export_spiking.py",
        "seed": state["seed"],
    }
    exported = export(recipe, network, tests[: arguments.images], name=arguments.network, provenance=provenance)
    print(exported)
    first = exported.trace
    chosen = tests[: arguments.test_images]
    predicted = list(classes(recipe, network, first, chosen))
    accuracy = float(np.mean(np.array(predicted) == labels[: len(chosen)].numpy()))
    details = {
        "accuracy_of": f"the integer network on {len(chosen)} test images",
        "float_accuracy": state["accuracy"],
        "labels": labels[: arguments.images].tolist(),
        "predicted": [int(label) for label in predicted[: arguments.images]],
    }
    sets = {}
    if not recipe.by_row:
        images, targets = fashion_mnist(arguments.data, "train", recipe.side)
        for name, part, count in (
            ("calibration", (images, targets), CALIBRATION_IMAGES),
            ("evaluation", (tests, labels), EVALUATION_IMAGES),
        ):
            sets[name] = ImageSet(*(values[:count].numpy() for values in part))
    details = first.provenance["details"] | details
    trace = with_more(first, first.provenance | {"accuracy": accuracy, "details": details}, **sets)
    save_trace(trace, arguments.output)
    print(f"{arguments.output}: accuracy {accuracy:.4f}, of the float model {state['accuracy']:.4f}")


if __name__ == "__main__":
    main()
