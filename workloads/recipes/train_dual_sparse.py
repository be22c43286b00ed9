"""Train, prune and fine-tune a dual-sparse spiking VGG on Fashion-MNIST.

The network is the VGG family that LoAS evaluates: 3x3 convolutions with batch-norm, leaky-integrate-and-fire
(LIF) neurons, 2x2 OR-pooling of spikes and one fully connected read-out. The first convolution sees the 8-bit pixels
at every timestep (direct encoding) and turns them into spikes; its weights stay dense.

Neuron, with x the folded convolution output and u the membrane potential:
``X[t] = x[t] + u[t-1]``, ``s[t] = X[t] > 1``, ``u[t] = X[t] * (1 - s[t]) / 2`` (hard reset, leak one half).

The schedule counts samples, never seconds, so a slower computer gives the same network:

1. ``dense``  T = 1, every weight;
2. ``prune``  T = 1, global magnitude pruning (per-layer rms normalised), cubic ramp to the target sparsity;
3. ``tune``   T = timesteps, masks fixed. Its result is the network of the plain trace;
4. ``mask``   as ``tune``, and neurons that fire once in T are silenced (LoAS, section V "preprocessing").

A checkpoint is written every ``--checkpoint-every`` samples and a killed run continues from it.

    python train_dual_sparse.py --network vgg16 --data DIR --checkpoints DIR
"""

from __future__ import annotations

import argparse
import gzip
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

POOL = "pool"
LEAK = 0.5
THRESHOLD = 1.0


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a trained network, but the seed."""

    layers: tuple[int | str, ...]
    timesteps: int
    weight_sparsity: float
    rate_penalty: float
    samples: dict[str, int]
    learning_rate: dict[str, float]
    batch: dict[str, int]


RECIPES = {
    "vgg16": Recipe(
        layers=(64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512, POOL),
        timesteps=4,
        weight_sparsity=0.983,
        rate_penalty=0.5,
        samples={"dense": 60_000, "prune": 90_000, "tune": 48_000, "mask": 12_000},
        learning_rate={"dense": 2e-3, "prune": 1e-3, "tune": 7e-4, "mask": 2e-4},
        batch={"dense": 64, "prune": 64, "tune": 32, "mask": 32},
    ),
    "vgg9": Recipe(
        layers=(32, POOL, 32, 64, POOL, 64, 128, POOL, 128, 128, 128, POOL),
        timesteps=4,
        weight_sparsity=0.955,
        rate_penalty=0.5,
        samples={"dense": 60_000, "prune": 60_000, "tune": 60_000, "mask": 15_000},
        learning_rate={"dense": 3e-3, "prune": 2e-3, "tune": 1e-3, "mask": 3e-4},
        batch={"dense": 64, "prune": 64, "tune": 64, "mask": 64},
    ),
}
PHASES = ("dense", "prune", "tune", "mask")


class Spike(torch.autograd.Function):
    """Heaviside step at the threshold; triangular surrogate gradient of half-width one."""

    @staticmethod
    def forward(ctx, potential: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(potential)
        return (potential > THRESHOLD).to(potential.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (potential,) = ctx.saved_tensors
        return gradient * (1 - (potential - THRESHOLD).abs()).clamp(min=0)


def leaky_integrate_and_fire(currents: Tensor, timesteps: int) -> Tensor:
    """Spikes of ``currents`` [T * batch, ...], timestep major."""
    if timesteps == 1:
        return Spike.apply(currents)
    per_step = currents.view(timesteps, -1, *currents.shape[1:])
    potential = per_step[0]
    spikes = [Spike.apply(potential)]
    for t in range(1, timesteps):
        potential = LEAK * potential * (1 - spikes[-1].detach()) + per_step[t]
        spikes.append(Spike.apply(potential))
    return torch.cat(spikes)


def silence_fire_once(spikes: Tensor, timesteps: int) -> Tensor:
    """Zero the neurons that fire exactly once in T timesteps."""
    per_step = spikes.view(timesteps, -1, *spikes.shape[1:])
    keep = (per_step.detach().sum(0, keepdim=True) != 1).to(spikes.dtype)
    return (per_step * keep).view_as(spikes)


class SpikingVGG(nn.Module):
    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.layers = recipe.layers
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        channels, side = 1, 32
        for layer in recipe.layers:
            if isinstance(layer, str):
                side //= 2
                continue
            self.convolutions.append(nn.Conv2d(channels, layer, 3, padding=1, bias=False))
            self.norms.append(nn.BatchNorm2d(layer))
            channels = layer
        self.classifier = nn.Linear(channels * side * side, 10)

    def forward(self, images: Tensor, timesteps: int, mask_fire_once: bool = False) -> tuple[Tensor, Tensor]:
        """Mean logits over T [batch, 10] and the mean firing rate over layers (scalar)."""
        hidden, index, rates = images, 0, []
        for layer in self.layers:
            if isinstance(layer, str):
                hidden = functional.max_pool2d(hidden, 2)
                continue
            current = self.norms[index](self.convolutions[index](hidden).float())
            if index == 0:
                current = current.repeat(timesteps, 1, 1, 1)
            hidden = leaky_integrate_and_fire(current, timesteps)
            rates.append(hidden.mean())
            # The direct encoder is not masked, as in the released LoAS networks.
            if mask_fire_once and index > 0:
                hidden = silence_fire_once(hidden, timesteps)
            index += 1
        logits = self.classifier(hidden.flatten(1)).float()
        return logits.view(timesteps, -1, 10).mean(0), torch.stack(rates).mean()

    def prunable(self) -> list[nn.Parameter]:
        """All weights but those of the direct encoder."""
        return [layer.weight for layer in [*self.convolutions][1:]] + [self.classifier.weight]


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file (the format of MNIST), uint8."""
    raw = gzip.decompress(path.read_bytes())
    dimensions = raw[3]
    shape = np.frombuffer(raw, ">i4", dimensions, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def fashion_mnist(data: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 1, 32, 32] (28 x 28 padded with zeros) and labels uint8 [N]; part is ``train`` or ``t10k``."""
    images = read_idx(data / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(data / f"{part}-labels-idx1-ubyte.gz")
    return np.pad(images, ((0, 0), (2, 2), (2, 2)))[:, None], labels


def global_masks(model: SpikingVGG, sparsity: float) -> list[Tensor]:
    """Keep the largest weights of the whole network, each layer's magnitudes divided by their rms."""
    scores = [weight.detach().abs() / weight.detach().square().mean().sqrt() for weight in model.prunable()]
    flat = torch.cat([score.flatten() for score in scores])
    threshold = flat.kthvalue(max(1, round(sparsity * flat.numel()))).values
    return [(score > threshold).float() for score in scores]


def evaluate(model: SpikingVGG, images: np.ndarray, labels: np.ndarray, timesteps: int, mask: bool) -> float:
    model.eval()
    correct = 0
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(images), 250):
            batch = torch.from_numpy(images[start : start + 250]).float() / 255
            logits, _ = model(batch, timesteps, mask)
            correct += int((logits.argmax(1).numpy() == labels[start : start + 250]).sum())
    model.train()
    return correct / len(images)


def train(name: str, data: Path, folder: Path, seed: int, checkpoint_every: int) -> None:
    recipe = RECIPES[name]
    torch.manual_seed(seed)
    images, labels = fashion_mnist(data, "train")
    test_images, test_labels = fashion_mnist(data, "t10k")
    model = SpikingVGG(recipe).to(memory_format=torch.channels_last)
    compiled = torch.compile(model, dynamic=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    masks = [torch.ones_like(weight) for weight in model.prunable()]
    phase_at, seen_at = 0, 0
    latest = folder / f"{name}-latest.pt"
    if latest.exists():
        state = torch.load(latest)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        masks, phase_at, seen_at = state["masks"], state["phase"], state["seen"]
        print(f"resumed {name} in {PHASES[phase_at]} at {seen_at} samples", flush=True)

    for phase_index in range(phase_at, len(PHASES)):
        phase = PHASES[phase_index]
        timesteps = 1 if phase in ("dense", "prune") else recipe.timesteps
        mask_once = phase == "mask"
        batch_size, total = recipe.batch[phase], recipe.samples[phase]
        seen = seen_at if phase_index == phase_at else 0
        started, counted, next_checkpoint = time.time(), 0, seen + checkpoint_every
        while seen < total:
            draw = np.random.default_rng([seed, phase_index, seen])
            chosen = draw.integers(0, len(images), batch_size)
            batch = images[chosen]
            flip = draw.random(batch_size) < 0.5
            batch = np.where(flip[:, None, None, None], batch[..., ::-1], batch)
            progress = seen / total
            warm = min(1.0, (seen + batch_size) / 2_000)
            for group in optimizer.param_groups:
                group["lr"] = (
                    recipe.learning_rate[phase] * warm * (0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2)
                )
            inputs = (torch.from_numpy(batch).float() / 255).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                logits, rate = compiled(inputs, timesteps, mask_once)
            loss = functional.cross_entropy(logits, torch.from_numpy(labels[chosen]).long())
            optimizer.zero_grad()
            (loss + recipe.rate_penalty * rate).backward()
            optimizer.step()
            seen, counted = seen + batch_size, counted + batch_size
            if phase == "prune":
                # The ramp ends at 70 % of the phase; the rest of it heals.
                ramp = min(1.0, seen / (0.7 * total))
                if ramp < 1 or seen - batch_size < 0.7 * total:
                    masks = global_masks(model, recipe.weight_sparsity * (1 - (1 - ramp) ** 3))
            with torch.no_grad():
                for weight, mask in zip(model.prunable(), masks, strict=True):
                    weight.mul_(mask)
            if seen >= next_checkpoint or seen >= total:
                next_checkpoint = seen + checkpoint_every
                zero = sum(int((m == 0).sum()) for m in masks) / sum(m.numel() for m in masks)
                accuracy = evaluate(model, test_images[:1000], test_labels[:1000], timesteps, mask_once)
                speed = counted / (time.time() - started)
                print(
                    f"{name} {phase} {seen}/{total} loss {loss.item():.3f} rate {rate.item():.3f} "
                    f"weight sparsity {zero:.4f} accuracy on 1,000 test images {accuracy:.4f} {speed:.1f} samples/s",
                    flush=True,
                )
                state = {
                    "model": model.state_dict(), "optimizer": optimizer.state_dict(), "masks": masks,
                    "phase": phase_index, "seen": seen,
                }  # fmt: skip
                torch.save(state, latest.with_suffix(".part"))
                latest.with_suffix(".part").replace(latest)
        torch.save({"model": model.state_dict()}, folder / f"{name}-{phase}.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=sorted(RECIPES), required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoint-every", type=int, default=6_000, help="samples between checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.checkpoints.mkdir(parents=True, exist_ok=True)
    train(
        arguments.network, arguments.data, arguments.checkpoints, arguments.seed, arguments.checkpoint_every
    )  # fmt: skip


if __name__ == "__main__":
    main()
