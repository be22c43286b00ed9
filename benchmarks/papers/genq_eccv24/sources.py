"""Images to calibrate on: real ones, ones that are synthesised from the network alone, and ones of other things.

GenQ takes images of a text-to-image diffusion model. None can be had here, so what is synthesised comes from the older
way that it compares with, inversion: pixels are learned for which the network gives a chosen class and its batch norms
see the means and deviations that they remember from training (Yin et al., CVPR 2020; Cai et al., CVPR 2020; recalled).
Both filters of GenQ are applied to these images. All images are uint8 [I, 1, side, side].
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

ITERATIONS = 80
LEARNING_RATE = 0.05
MATCHING = 1.0
"""Weight of the batch norms against that of the classes (cross entropy)."""
SMOOTHNESS = 1e-2
"""Weight of the differences between neighbouring pixels."""
BATCH = 100


@contextmanager
def watched(model: nn.Module) -> Iterator[dict[nn.BatchNorm2d, Tensor]]:
    """What every batch norm of ``model`` reads while it runs, [images, C, H, W]; timesteps count as images."""
    seen: dict[nn.BatchNorm2d, Tensor] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        read = inputs[0]
        seen[module] = read.flatten(0, 1) if read.ndim == 5 else read

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [module.register_forward_pre_hook(note) for module in norms]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def distance(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> Tensor:
    """How far means and variances [..., C] are from what a batch norm remembers, in units of its deviations."""
    deviation = (norm.running_var + norm.eps).sqrt()
    means = (mean - norm.running_mean) / deviation
    deviations = (variance + norm.eps).sqrt() / deviation - 1
    return (means**2).mean(-1) + (deviations**2).mean(-1)


def synthesised(model: nn.Module, count: int, side: int, classes: int, seed: int) -> Tensor:
    """``count`` images, the same number of each class, from nothing but the network."""
    torch.manual_seed(seed)
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    found = []
    for first in range(0, count, BATCH):
        labels = torch.arange(first, min(first + BATCH, count)) % classes
        pixels = torch.rand(len(labels), 1, side, side, requires_grad=True)
        optimiser = torch.optim.Adam([pixels], lr=LEARNING_RATE)
        for _ in range(ITERATIONS):
            with watched(model) as seen:
                logits = model(pixels)
            loss = functional.cross_entropy(logits, labels)
            for norm, read in seen.items():
                loss = loss + MATCHING * distance(norm, read.mean((0, 2, 3)), read.var((0, 2, 3)))
            down, right = (pixels.diff(dim=axis).abs().mean() for axis in (2, 3))
            loss = loss + SMOOTHNESS * (down + right)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                pixels.clamp_(0, 1)
        found.append((pixels.detach() * 255).round().to(torch.uint8))
    return torch.cat(found)


def energy(model: nn.Module, images: Tensor) -> Tensor:
    """The energy score of each image, -log sum exp of its logits: low where the network has seen the like.

    The notes on GenQ that we have write it without the logarithm and with another sign in the exponent; this is the
    usual form (Liu et al., NeurIPS 2020).
    """
    with torch.no_grad():
        logits = torch.cat([model(part.float() / 255) for part in images.split(BATCH)])
    return -torch.logsumexp(logits, 1)


def sensitivity(model: nn.Module, images: Tensor) -> Tensor:
    """By how much each image enlarges the distance of the whole set from the batch norms: that with it, less that
    without it."""
    means: dict[nn.BatchNorm2d, list[Tensor]] = {}
    squares: dict[nn.BatchNorm2d, list[Tensor]] = {}
    with torch.no_grad():
        for part in images.split(BATCH):
            with watched(model) as seen:
                model(part.float() / 255)
            for norm, read in seen.items():
                # Of an image the mean of its timesteps; those of a network in time come first.
                by_image = read.reshape(-1, len(part), *read.shape[1:])
                means.setdefault(norm, []).append(by_image.mean((0, 3, 4)))
                squares.setdefault(norm, []).append((by_image**2).mean((0, 3, 4)))
        total = torch.zeros(len(images))
        for norm in means:
            first, second = torch.cat(means[norm]), torch.cat(squares[norm])
            mean, square = first.mean(0), second.mean(0)
            others = len(images) - 1
            mean_without = (first.sum(0) - first) / others
            square_without = (second.sum(0) - second) / others
            total += distance(norm, mean, square - mean**2)
            total -= distance(norm, mean_without, square_without - mean_without**2)
    return total


def kept(scores: Tensor, count: int) -> Tensor:
    """Places of the ``count`` lowest scores, in their order."""
    return scores.argsort(stable=True)[:count].sort().values


def first_of_each(images: Tensor, labels: Tensor, classes: int, seed: int) -> Tensor:
    """One image of each class, drawn."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    return torch.stack([images[order[(labels[order] == label).nonzero()[0, 0]]] for label in range(classes)])


def drawn(images: Tensor, count: int, seed: int) -> Tensor:
    """Some images."""
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]]


def noise(count: int, side: int, seed: int) -> Tensor:
    """Independent pixels, all values alike likely."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, side, side), generator=generator, dtype=torch.uint8)


def digits(path: Path, side: int) -> Tensor:
    """Handwritten digits of UCI, 8 x 8 with values to 16, as scikit-learn's ``digits.csv.gz`` has them, enlarged."""
    with gzip.open(path, "rt") as file:
        rows = [[float(value) for value in line.split(",")] for line in file]
    small = torch.tensor(rows)[:, :64].reshape(-1, 1, 8, 8) / 16
    large = functional.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)
    return (large.clamp(0, 1) * 255).round().to(torch.uint8)
