"""Quantise networks on images from several sources and measure how many test images they get right.

    python calibrate.py cnn --data DIR --checkpoints DIR --digits FILE [--seeds 1 2 3]
    python calibrate.py snn --data DIR --checkpoints DIR --digits FILE [--seeds 1 2 3]

Networks are those of ``workloads/recipes/train_small.py``. Appends to ``results/calibration.csv``, a row for each
setting, and leaves out what is there already. Needs PyTorch and SpikingJelly.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

FOLDER = Path(__file__).resolve().parent
sys.path += [str(FOLDER.parents[2]), str(FOLDER.parents[2] / "workloads" / "recipes")]

import sources  # noqa: E402
from spiking import Unrolled  # noqa: E402
from train_small import SIDE, TIMESTEPS, SmallCnn, SmallSnn  # noqa: E402
from training import fashion_mnist  # noqa: E402

from archsim.export import Exported, QuantisedModel, quantise  # noqa: E402

CLASSES = 10
TEST_IMAGES = 2000
BITS = {"cnn": ((2, 4), (4, 4), (8, 8)), "snn": ((2, 8), (4, 8), (8, 8))}
"""Of weights and activations; spikes have one bit, whatever is said."""
GENERATED = {"cnn": 200, "snn": 60}
"""Images that are synthesised, of which a filter leaves half."""
COLUMNS = (
    "network", "seed", "source", "filters", "images", "weight_bits", "activation_bits", "accuracy_percent",
    "float_accuracy_percent", "test_images",
)  # fmt: skip


def trained(network: str, seed: int, checkpoints: Path) -> tuple[nn.Module, nn.Module]:
    """A network as the exporter reads it, and as it runs on images (all timesteps)."""
    state = torch.load(checkpoints / f"small-{network}-{seed}.pt", map_location="cpu")["model"]
    models = []
    for _ in range(2):
        model = SmallCnn() if network == "cnn" else SmallSnn()
        model.load_state_dict({key.removeprefix("network."): value for key, value in state.items()})
        models.append(model.eval())
    return models[0], models[1] if network == "cnn" else Unrolled(models[1], TIMESTEPS).eval()


def quantised(network: str, model: nn.Module, images: Tensor, bits: tuple[int, int], **more: object) -> Exported:
    """The network with weights and activations of so many bits, calibrated on images uint8."""
    return quantise(
        model, images.float() / 255, TIMESTEPS if network == "snn" else 1, weight_bits=bits[0],
        activation_bits=bits[1], input_scale=1 / 255, **more,
    )  # fmt: skip


def calibration_sets(
    network: str, whole: nn.Module, data: Path, digits: Path, seed: int
) -> Iterator[tuple[str, str, Tensor]]:
    """Source, filters and images."""
    images, labels = fashion_mnist(data, "train", SIDE)
    yield "real", "", sources.drawn(images, 100, seed)
    yield "real, one a class", "", sources.first_of_each(images, labels, CLASSES, seed)
    yield "real", "", sources.drawn(images, 1000, seed)
    made = sources.synthesised(whole, GENERATED[network], SIDE, CLASSES, seed)
    half = len(made) // 2
    scores = sources.energy(whole, made)
    yield "synthesised", "", sources.drawn(made, half, seed)
    yield "synthesised", "energy", made[sources.kept(scores, half)]
    yield "synthesised", "batch norm", made[sources.kept(sources.sensitivity(whole, made), half)]
    first = made[sources.kept(scores, 3 * len(made) // 4)]
    yield "synthesised", "energy, batch norm", first[sources.kept(sources.sensitivity(whole, first), half)]
    yield "UCI digits", "", sources.drawn(sources.digits(digits, SIDE), half, seed)
    yield "noise", "", sources.noise(half, SIDE, seed)


def right(predicted: Tensor, labels: Tensor) -> float:
    """Percent of the images whose class is their label."""
    return round(100 * float((predicted == labels).float().mean()), 4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("network", choices=sorted(BITS))
    parser.add_argument("--data", type=Path, required=True, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--digits", type=Path, required=True, help="digits.csv.gz of scikit-learn")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("-o", "--output", type=Path, default=FOLDER / "results" / "calibration.csv")
    given = parser.parse_args()
    tests, labels = (part[:TEST_IMAGES] for part in fashion_mnist(given.data, "t10k", SIDE))
    done = set()
    if given.output.exists():
        with given.output.open(newline="") as file:
            done = {tuple(row[column] for column in COLUMNS[:7]) for row in csv.DictReader(file)}
    networks = {seed: trained(given.network, seed, given.checkpoints) for seed in given.seeds}
    sets = {
        seed: list(calibration_sets(given.network, whole, given.data, given.digits, seed))
        for seed, (_, whole) in networks.items()
    }
    for bits, (seed, (model, whole)) in itertools.product(BITS[given.network], networks.items()):
        with torch.no_grad():
            logits = torch.cat([whole(part.float() / 255) for part in tests.split(sources.BATCH)])
        float_accuracy = right(logits.argmax(1), labels)
        for source, filters, images in sets[seed]:
            key = (given.network, str(seed), source, filters, str(len(images)), *map(str, bits))
            if key in done:
                continue
            exported = quantised(given.network, model, images, bits)
            found = torch.from_numpy(QuantisedModel(exported.trace)(tests.numpy()).argmax(1))
            row = (*key, right(found, labels), float_accuracy, TEST_IMAGES)
            new = not given.output.exists()
            with given.output.open("a", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([COLUMNS, row] if new else [row])
            print(*row, flush=True)


if __name__ == "__main__":
    main()
