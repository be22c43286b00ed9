"""What the recipes of networks without spikes share: images, augmentation, and a training loop that can be killed.

The schedule counts samples, never seconds. All images live on the device; a batch is drawn, mirrored and shifted there,
by generators that are seeded anew for every batch, so that a run that continues from its checkpoint goes on as it would
have (up to the order of additions on a GPU).
"""

from __future__ import annotations

import argparse
import gzip
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

SHIFT = 2
"""Pixels by which an image is shifted at most, in either direction."""


@dataclass(frozen=True)
class Schedule:
    """Everything that decides a training run, but the network and the seed."""

    samples: int
    batch: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float = 0.1
    augment: bool = True


def read_idx(path: Path) -> Tensor:
    """The array of an IDX file (the format of MNIST), uint8."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    dimensions = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * axis : 8 + 4 * axis]) for axis in range(dimensions)]
    return torch.frombuffer(raw, dtype=torch.uint8, offset=4 + 4 * dimensions).reshape(shape)


def fashion_mnist(data: Path, part: str, side: int = 28) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, 1, side, side] (padded with zeros) and labels int64 [N]; part is ``train`` or ``t10k``."""
    images = read_idx(data / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(data / f"{part}-labels-idx1-ubyte.gz")
    margin = (side - images.shape[-1]) // 2
    return functional.pad(images, (margin,) * 4)[:, None], labels.long()


def augmented(images: Tensor) -> Tensor:
    """Half of the images mirrored, all of them shifted; uint8 [B, 1, H, W] to float 0..1."""
    count, _, height, width = images.shape
    images = torch.where(torch.rand(count, 1, 1, 1, device=images.device) < 0.5, images.flip(3), images)
    padded = functional.pad(images, (SHIFT,) * 4)[:, 0]
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, count, 1), device=images.device)
    rows = (down + torch.arange(height, device=images.device))[:, :, None]
    columns = (right + torch.arange(width, device=images.device))[:, None, :]
    return padded[torch.arange(count, device=images.device)[:, None, None], rows, columns][:, None].float() / 255


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of ``images`` uint8 that the model in evaluation mode gets right."""
    model.eval()
    correct = 0
    with torch.no_grad():
        for start in range(0, len(images), 500):
            logits = model(images[start : start + 500].float() / 255)
            correct += int((logits.argmax(1) == labels[start : start + 500]).sum())
    model.train()
    return correct / len(images)


def train(
    name: str, model: nn.Module, schedule: Schedule, data: Path, folder: Path, *, side: int, seed: int, device: str,
    checkpoint_every: int, samples: int | None = None,
) -> None:  # fmt: skip
    """Train ``model`` and write ``folder/name.pt``: its weights and its accuracy on the test images.

    ``samples`` shortens the schedule, for a quick look.
    """
    total = samples or schedule.samples
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = (part.to(device) for part in fashion_mnist(data, "train", side))
    test_images, test_labels = (part.to(device) for part in fashion_mnist(data, "t10k", side))
    model = model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    latest, seen = folder / f"{name}-latest.pt", 0
    if latest.exists():
        state = torch.load(latest, map_location=device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        seen = state["seen"]
        print(f"{name}: resumed at {seen} samples", flush=True)
    started, before, next_checkpoint = time.time(), seen, seen + checkpoint_every
    while seen < total:
        torch.manual_seed((seed << 32) + seen)
        chosen = torch.randint(0, len(images), (schedule.batch,), device=device)
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * rate(seen, total, schedule.batch)
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            shown = augmented(images[chosen]) if schedule.augment else images[chosen].float() / 255
            logits = model(shown)
        loss = functional.cross_entropy(logits.float(), labels[chosen], label_smoothing=schedule.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += schedule.batch
        _show_progress(name, seen, total)
        if seen >= next_checkpoint or seen >= total:
            next_checkpoint = seen + checkpoint_every
            found = accuracy(model, test_images[:1000], test_labels[:1000])
            speed = (seen - before) / (time.time() - started)
            print(
                f"{name}: {seen}/{total} samples, loss {loss.item():.3f}, accuracy on 1,000 test images {found:.4f}, "
                f"{speed:.0f} samples/s",
                flush=True,
            )
            save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "seen": seen}, latest)
    found = accuracy(model, test_images, test_labels)
    weights = {key: value.cpu() for key, value in model.state_dict().items()}
    save({"model": weights, "accuracy": found, "samples": total, "seed": seed}, folder / f"{name}.pt")
    print(f"{name}: accuracy on {len(test_images)} test images {found:.4f}", flush=True)


def rate(seen: int, total: int, batch: int) -> float:
    """Share of the learning rate: a short warm-up, then half a cosine down to 1 %."""
    warm = min(1.0, (seen + batch) / (0.02 * total))
    return warm * (0.01 + 0.99 * (1 + math.cos(math.pi * seen / total)) / 2)


def save(state: dict[str, object], path: Path) -> None:
    """Write ``state`` to ``path``, all of it or nothing."""
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def _show_progress(name: str, seen: int, total: int) -> None:
    if sys.stdout.isatty():
        done = 40 * seen // total
        print(f"\r{name} [{'#' * done}{'.' * (40 - done)}] {100 * seen / total:5.1f} %", end="\n" * (seen >= total))


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that these recipes share; their names are the keywords of ``train``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("--checkpoints", type=Path, required=True, dest="folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--checkpoint-every", type=int, default=600_000, help="samples between checkpoints")
    parser.add_argument("--samples", type=int, help="for a quick look: fewer samples than the recipe's")
    return parser
