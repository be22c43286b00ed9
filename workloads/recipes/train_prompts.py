"""Class-incremental learning with prompts on Fashion-MNIST: five tasks of two classes, a frozen vision transformer.

The backbone: 16 tokens (patches of 7 x 7 pixels) and a class token of 64 channels, 6 encoders of 4 heads, ReLU.
It is trained first, by contrast: of two views of each image of a batch (mirrored, shifted, magnified, brightened), a
view shall find the other view of its image. It sees the training images and never a class label, so that no task is
known to it. Then it is frozen.

Prompts are in encoders 0 to 4. There an encoder has a pool of ``POOL`` components p_m of 4 + 4 tokens, each with a key
k_m, and the 4 + 4 tokens are put in front of the keys and values of attention. ``METHODS`` differ in the query q and
in what becomes of the pool:

    none   no prompts, the classifier alone
    hard   two stages, as L2P: q is the class token behind a pass of the frozen backbone without prompts; the components
           of the ``NEAREST`` nearest keys, one token of keys and one of values each
    soft   two stages: the same q; the sum of cos(q, k_m) p_m
    coda   two stages, as CODA-Prompt: a component has an attention vector a_m too; the sum of cos(q * a_m, k_m) p_m
    os     one stage (OS-Prompt): q is the class token at the input of the encoder in the pass itself; the same sum
    os++   os, and in training ``REGULARISATION`` |softmax(cos(k, q)) - softmax(cos(k, r))|^2 for each of the five
           encoders, with r the query of two stages

A task trains a classifier of all classes on the logits of its own two, and a fifth of the pool; components of earlier
tasks stay as they are, those of later ones are absent. New components are orthonormal to those before them. In every
method but ``hard`` a component starts when its task does.

A_N is the mean over tasks of the accuracy on their test images, among all classes, after the last task. F_N is the mean
over all tasks but the last of the largest accuracy (among all classes so far) on their test images minus the last one.

    python train_prompts.py --data DIR --checkpoints DIR --seeds 1 2 3 -o class_incremental.csv
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from training import Schedule, fashion_mnist, rate

PATCH = 7
PATCHES = 16
CHANNELS = 64
HEADS = 4
HIDDEN = 128
ENCODERS = 6
PROMPTED = 5
LENGTH = 4
POOL = 25
NEAREST = 4
REGULARISATION = 1e-4
PULL = 0.5
"""Weight of 1 - cos of the chosen keys in the loss of ``hard``."""
TASKS = 5
CLASSES = 10
METHODS = ("none", "hard", "soft", "coda", "os", "os++")
TWO_STAGES = ("hard", "soft", "coda")
BACKBONE = Schedule(samples=60_000, batch=120, learning_rate=2e-3, weight_decay=5e-2, label_smoothing=0)
TASK = Schedule(samples=2_560, batch=64, learning_rate=1e-2, weight_decay=0, label_smoothing=0, augment=False)
"""Of every task."""
TRAINING_IMAGES, TEST_IMAGES = 10_000, 2_000
"""Of the tasks: the first ones of Fashion-MNIST. The backbone sees all training images."""
TEMPERATURE = 0.2
VIEW = 64
"""Features in which views are compared."""


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(CHANNELS) for _ in range(2))
        self.query, self.key, self.value = (nn.Linear(CHANNELS, CHANNELS) for _ in range(3))
        self.projection = nn.Linear(CHANNELS, CHANNELS)
        self.hidden = nn.Linear(CHANNELS, HIDDEN)
        self.output = nn.Linear(HIDDEN, CHANNELS)

    def forward(self, tokens: Tensor, prefix: Tensor | None) -> Tensor:
        """``tokens`` [B, tokens, channels]; ``prefix`` [B, 2, LENGTH, channels]: more keys and more values."""
        given = self.norms[0](tokens)
        query, key, value = self.query(given), self.key(given), self.value(given)
        if prefix is not None:
            key, value = torch.cat((prefix[:, 0], key), 1), torch.cat((prefix[:, 1], value), 1)
        heads = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (query, key, value))
        mixed = functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        tokens = tokens + self.projection(mixed)
        return tokens + self.output(functional.relu(self.hidden(self.norms[1](tokens))))


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, CHANNELS, PATCH, PATCH)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, CHANNELS))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + PATCHES, CHANNELS))
        self.encoders = nn.ModuleList(Encoder() for _ in range(ENCODERS))
        self.norm = nn.LayerNorm(CHANNELS)

    def forward(self, images: Tensor, prompts: Prompts | None = None, query: Tensor | None = None) -> Tensor:
        """The class token [B, channels] behind the last encoder. ``query`` is that of two stages."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.class_token.expand(len(tokens), -1, -1), tokens), 1) + self.positions
        for number, encoder in enumerate(self.encoders):
            prefix = None
            if prompts is not None and number < PROMPTED:
                prefix = prompts(number, tokens[:, 0], query)
            tokens = encoder(tokens, prefix)
        return self.norm(tokens[:, 0])


class Prompts(nn.Module):
    """The pools of all prompted encoders; ``penalty`` collects what a pass adds to the loss."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method
        self.tokens = 1 if method == "hard" else LENGTH
        self.components = nn.Parameter(torch.zeros(PROMPTED, POOL, 2 * self.tokens * CHANNELS))
        self.keys = nn.Parameter(torch.zeros(PROMPTED, POOL, CHANNELS))
        self.attention = nn.Parameter(torch.zeros(PROMPTED, POOL, CHANNELS)) if method == "coda" else None
        self.first, self.last = 0, POOL
        self.penalty: Tensor | float = 0.0
        if method == "hard":
            for pool in (self.components, self.keys):
                nn.init.uniform_(pool, -1, 1)

    def start(self, task: int) -> None:
        """The components of ``task`` join, those before them are frozen."""
        if self.method == "hard":
            return
        share = POOL // TASKS
        self.first, self.last = task * share, (task + 1) * share
        with torch.no_grad():
            for pools in self._pools():
                for pool in pools:
                    extend(pool, self.first, self.last)

    def _pools(self) -> list[nn.Parameter]:
        return [pool for pool in (self.components, self.keys, self.attention) if pool is not None]

    def forward(self, number: int, token: Tensor, query: Tensor | None) -> Tensor:
        """Keys and values [B, 2, LENGTH, channels] for an encoder that reads the class token ``token``."""
        components, keys, *attention = (
            torch.cat((pool[number, : self.first].detach(), pool[number, self.first : self.last]))
            for pool in self._pools()
        )
        near = cosine(query if self.method in TWO_STAGES else token, keys, *attention)
        if self.method == "os++" and self.training:
            reference = cosine(query, keys)
            self.penalty += REGULARISATION * ((near.softmax(1) - reference.softmax(1)) ** 2).sum(1).mean()
        if self.method == "hard":
            near, chosen = near.topk(NEAREST, 1)
            self.penalty += PULL * (1 - near).mean()
            return components[chosen].unflatten(2, (2, CHANNELS)).transpose(1, 2)
        return (near @ components).unflatten(1, (2, LENGTH, CHANNELS))


def cosine(query: Tensor, keys: Tensor, attention: Tensor | None = None) -> Tensor:
    """cos(q, k_m) [B, components], or cos(q * a_m, k_m) with ``attention`` vectors a_m [components, channels]."""
    asked = query[:, None] if attention is None else query[:, None] * attention
    return (functional.normalize(asked, dim=2) * functional.normalize(keys, dim=1)).sum(2)


def extend(pool: Tensor, first: int, last: int) -> None:
    """Rows ``first`` to ``last`` of ``pool`` become unit vectors, orthogonal to each other and to the rows before."""
    for row in range(first, last):
        pool[row] = torch.randn_like(pool[row])
        if row:
            basis = torch.linalg.qr(pool[:row].T).Q
            pool[row] -= basis @ (basis.T @ pool[row])
        pool[row] /= pool[row].norm()


class Images(NamedTuple):
    """Images uint8 [N, 1, 28, 28], their labels, and what the frozen backbone says of each: the query of two stages."""

    images: Tensor
    labels: Tensor
    queries: Tensor

    def of(self, classes: Tensor) -> Images:
        """Those of these classes."""
        chosen = torch.isin(self.labels, classes)
        return Images(*(part[chosen] for part in self))


def trained_backbone(data: Path, folder: Path, samples: int) -> tuple[Backbone, float]:
    """The backbone and the share of views of test images that find the other; from ``folder`` if it is there."""
    path = folder / "prompt-backbone.pt"
    backbone = Backbone()
    if path.exists():
        state = torch.load(path)
        backbone.load_state_dict(state["model"])
        return backbone, state["accuracy"]
    torch.manual_seed(1)
    backbone, head = Backbone(), nn.Sequential(nn.Linear(CHANNELS, VIEW), nn.ReLU(), nn.Linear(VIEW, VIEW))
    images, _ = fashion_mnist(data, "train")
    tests, _ = fashion_mnist(data, "t10k")
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=BACKBONE.learning_rate, weight_decay=BACKBONE.weight_decay)

    def near(chosen: Tensor) -> tuple[Tensor, Tensor]:
        """How near views are to all others but themselves, and the place of the other view of the image."""
        found = functional.normalize(head(backbone(torch.cat((view(chosen), view(chosen))))), dim=1)
        itself = torch.eye(len(found), dtype=torch.bool)
        others = torch.arange(len(found)).roll(len(chosen))
        return (found @ found.T / TEMPERATURE).masked_fill(itself, -torch.inf), others

    for seen in range(0, samples, BACKBONE.batch):
        for group in optimizer.param_groups:
            group["lr"] = BACKBONE.learning_rate * rate(seen, samples, BACKBONE.batch)
        loss = functional.cross_entropy(*near(images[torch.randint(0, len(images), (BACKBONE.batch // 2,))]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if seen % 10_000 == 0:
            print(f"backbone: {seen}/{samples} samples, loss {loss.item():.3f}", flush=True)
    with torch.no_grad():
        logits, others = near(tests[:500])
        found = float((logits.argmax(1) == others).float().mean())
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": backbone.state_dict(), "accuracy": found, "samples": samples}, path)
    return backbone, found


def view(images: Tensor) -> Tensor:
    """``images`` uint8 [B, 1, H, W] mirrored or not, shifted, magnified and brightened; floats."""
    count = len(images)
    size = 0.6 + 0.4 * torch.rand(count, 2)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0], affine[:, 1, 1] = mirror * size[:, 0], size[:, 1]
    affine[:, :, 2] = (2 * torch.rand(count, 2) - 1) * (1.1 - size)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    shown = functional.grid_sample(images.float() / 255, grid, align_corners=False)
    return shown * (0.6 + 0.8 * torch.rand(count, 1, 1, 1))


def batches(*parts: Tensor, size: int = 500) -> Iterator[tuple[Tensor, ...]]:
    """``parts``, ``size`` rows at a time."""
    for start in range(0, len(parts[0]), size):
        yield tuple(part[start : start + size] for part in parts)


def with_queries(backbone: Backbone, images: Tensor, labels: Tensor) -> Images:
    """The first stage of two, once for every image."""
    with torch.no_grad():
        found = [backbone(part.float() / 255) for (part,) in batches(images)]
    return Images(images, labels, torch.cat(found))


class Learner(nn.Module):
    """A frozen backbone, prompts and a classifier."""

    def __init__(self, backbone: Backbone, method: str) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.prompts = None if method == "none" else Prompts(method)
        self.classifier = nn.Linear(CHANNELS, CLASSES)

    def forward(self, images: Tensor, queries: Tensor) -> Tensor:
        """Logits of images from 0 to 1."""
        if self.prompts is None:
            return self.classifier(queries)
        self.prompts.penalty = 0.0
        return self.classifier(self.backbone(images, self.prompts, queries))

    def accuracy(self, tests: Images, seen: Tensor) -> float:
        """The share of ``tests`` that it gets right among the classes ``seen``."""
        self.eval()
        right = 0
        with torch.no_grad():
            for images, labels, queries in batches(*tests):
                logits = self(images.float() / 255, queries)[:, seen]
                right += int((seen[logits.argmax(1)] == labels).sum())
        self.train()
        return right / len(tests.images)


def learn(learner: Learner, training: Images, classes: Tensor, task: int, samples: int) -> None:
    """One task: ``samples`` of its images, its classes against each other."""
    if learner.prompts is not None:
        learner.prompts.start(task)
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=TASK.learning_rate)
    own = training.of(classes)
    for seen in range(0, samples, TASK.batch):
        for group in optimizer.param_groups:
            group["lr"] = TASK.learning_rate * rate(seen, samples, TASK.batch)
        chosen = torch.randint(0, len(own.images), (TASK.batch,))
        logits = learner(own.images[chosen].float() / 255, own.queries[chosen])[:, classes]
        targets = (own.labels[chosen][:, None] == classes).int().argmax(1)
        loss = functional.cross_entropy(logits, targets)
        if learner.prompts is not None:
            loss = loss + learner.prompts.penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def learn_all(learner: Learner, training: Images, tests: Images, seed: int, samples: int) -> list[list[float]]:
    """All tasks in the order of ``seed``; the accuracy on each task so far after each of them."""
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(seed)).reshape(TASKS, -1)
    found = []
    for task, classes in enumerate(order):
        learn(learner, training, classes, task, samples)
        seen = order[: task + 1].flatten()
        found.append([learner.accuracy(tests.of(past), seen) for past in order[: task + 1]])
    return found


def row(method: str, seed: int, found: list[list[float]]) -> dict[str, str | int]:
    """A run for the CSV."""
    last = found[-1]
    forgotten = [max(after[task] for after in found[task:]) - last[task] for task in range(TASKS - 1)]
    return {
        "method": method,
        "seed": seed,
        "accuracy": f"{sum(last) / TASKS:.4f}",
        "forgetting": f"{sum(forgotten) / (TASKS - 1):.4f}",
        **{
            f"task{task + 1}_after_{after + 1}": f"{found[after][task]:.4f}" if task <= after else ""
            for after in range(TASKS)
            for task in range(after + 1)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--backbone-samples", type=int, default=BACKBONE.samples)
    parser.add_argument("--task-samples", type=int, default=TASK.samples)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a CSV; runs that it has are not repeated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone, share = trained_backbone(options.data, options.checkpoints, options.backbone_samples)
    print(f"backbone: {share:.3f} of 1,000 views of test images find the other", flush=True)
    training, tests = (
        with_queries(backbone, *(values[:count] for values in fashion_mnist(options.data, part)))
        for part, count in (("train", TRAINING_IMAGES), ("t10k", TEST_IMAGES))
    )
    rows: list[dict[str, str | int]] = []
    if options.output.exists():
        with options.output.open(newline="") as file:
            rows = list(csv.DictReader(file))
    done = {(one["method"], int(one["seed"])) for one in rows}
    for seed in options.seeds:
        for method in options.methods:
            if (method, seed) in done:
                continue
            torch.manual_seed(seed)
            learner = Learner(backbone, method)
            rows.append(row(method, seed, learn_all(learner, training, tests, seed, options.task_samples)))
            state = {"model": learner.state_dict(), "row": rows[-1], "samples": options.task_samples}
            torch.save(state, options.checkpoints / f"prompt-{method}-{seed}.pt")
            with options.output.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            print({name: rows[-1][name] for name in ("method", "seed", "accuracy", "forgetting")}, flush=True)


if __name__ == "__main__":
    sys.exit(main())
