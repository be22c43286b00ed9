"""Write the traces of ``traces/``: one network of ``train_small.py``, quantised in many ways, each with its accuracy.

    python quantise.py --data DIR --checkpoints DIR

Calibration is on 100 real images; accuracy is that of the integer network on 2,000 test images. Names say the bits:
those of weights of the four inner convolutions, and of all activations between (``w2242_a4``). The first and the last
layer have 8 bits of both. Writes what is not there yet. Needs PyTorch.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parent
sys.path += [str(FOLDER), str(FOLDER.parents[2]), str(FOLDER.parents[2] / "workloads" / "recipes")]

import sources  # noqa: E402
from add_image_sets import with_more  # noqa: E402
from calibrate import TEST_IMAGES, right, trained  # noqa: E402
from train_small import SIDE  # noqa: E402
from training import fashion_mnist  # noqa: E402

from archsim.export import QuantisedModel, quantise  # noqa: E402
from archsim.trace import save_trace  # noqa: E402

SEED = 1
IMAGES = 100
LAYERS = ("body.conv2", "body.conv3", "body.conv4", "body.conv5")
UNIFORM = ((8, 8), (8, 4), (4, 8), (4, 4), (2, 8), (2, 4), (2, 2))
"""Bits of weights and activations of all inner layers."""
MIXED = tuple(itertools.product((4, 2), repeat=len(LAYERS)))
"""Bits of weights of each inner layer; activations have 4."""


def name_of(weights: tuple[int, ...], activations: int) -> str:
    """``w2242_a4``."""
    return f"w{''.join(map(str, weights))}_a{activations}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER / "traces")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    tests, labels = (part[:TEST_IMAGES] for part in fashion_mnist(given.data, "t10k", SIDE))
    images, _ = fashion_mnist(given.data, "train", SIDE)
    pixels = sources.drawn(images, IMAGES, SEED).float() / 255
    model, _ = trained("cnn", SEED, given.checkpoints)
    chosen = [((w,) * len(LAYERS), a) for w, a in UNIFORM] + [(weights, 4) for weights in MIXED]
    for weights, activations in dict.fromkeys(chosen):
        path = given.output / f"{name_of(weights, activations)}.npz"
        if path.exists():
            continue
        per_layer = {layer: (bits, activations) for layer, bits in zip(LAYERS, weights, strict=True)}
        provenance = {
            "dataset": "Fashion-MNIST",
            "licence": "MIT (trace and weights); Fashion-MNIST: MIT, Zalando SE",
            "recipe": "workloads/recipes/train_small.py, benchmarks/papers/genq_eccv24/quantise.py",
            "seed": SEED,
        }
        options = {"per_layer": per_layer, "input_scale": 1 / 255, "name": path.stem, "stored": 1}
        trace = quantise(model, pixels, provenance=provenance, **options).trace
        found = torch.from_numpy(QuantisedModel(trace)(tests.numpy()).argmax(1))
        accuracy = right(found, labels)
        details = trace.provenance["details"] | {"accuracy_of": f"the integer network on {TEST_IMAGES} test images"}
        more = {"accuracy": accuracy / 100, "details": details}
        save_trace(with_more(trace, trace.provenance | more), path)
        print(f"{path.stem}: {accuracy:.2f} %, {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
