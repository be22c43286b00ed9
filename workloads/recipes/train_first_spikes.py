"""Train networks that fire once (``first_spikes.py``) on Fashion-MNIST, or to find the source of a wave (``wave.py``).

The networks are those of the study of skip connections with time-to-first-spike coding (Frontiers in Neuroscience 18,
2024): a base network, one that adds times, one that concatenates channels, one that delays what it concatenates. Ours
are the width, a stride of 2 in the encoder instead of a pool, times in ticks, the logits (minus the time, in time
constants, instead of minus z), and the schedule.

    python train_first_spikes.py --task fashion_mnist --join delay --seed 1 --data DIR --checkpoints DIR
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from wave import sources

import torch
import torch.nn.functional as functional
from first_spikes import JOINS, TICKS, FirstSpikes, straight
from torch import Tensor
from training import Schedule, arguments, augmented, fashion_mnist, rate, save

SIDE = 32
WIDTH = 16
SHARPNESS = 8.0
"""Logits are so many times minus the time of the outputs, in time constants."""
DELAY_RATE = 32.0
"""Times the learning rate is that of delays. Adam moves a parameter by no more than the learning rates of all steps
together: 28 time constants in the authors' 93,750 steps at 6e-4, less than one in ours, and gaps are longer."""
SCHEDULES = {
    "fashion_mnist": Schedule(samples=40_000, batch=50, learning_rate=2e-3, weight_decay=1e-3, augment=False),
    "wave": Schedule(samples=20_000, batch=50, learning_rate=2e-3, weight_decay=1e-3, augment=False),
}
TESTED = 1_000
"""Test images for the final measures, at most; half of them on the way."""
CLASSES = {"fashion_mnist": 10, "wave": 9}


def data_of(task: str, folder: Path | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images uint8 [N, 1, 32, 32] and labels to train with, then those to test with."""
    if task == "wave":
        return sources()
    assert folder is not None
    return *fashion_mnist(folder, "train", SIDE), *fashion_mnist(folder, "t10k", SIDE)


def measured(model: FirstSpikes, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and, as means over ``images``: the tick of the decision, the shares of the neurons of each layer that
    fire before it and that fire at all, and the ticks by which a block is behind what goes beside it."""
    model.eval()
    total: dict[str, float] = {}
    with torch.no_grad():
        for start in range(0, len(images), 250):
            ticks = model(images[start : start + 250].float() / 255)
            first, found = ticks.min(1)
            rows = {"accuracy": (found == labels[start : start + 250]).sum(), "latency": first.sum()}
            for name, fired in model.last.items():
                flat = fired.flatten(1)
                rows[f"{name}.before"] = (flat < first[:, None]).float().mean(1).sum()
                rows[f"{name}.fired"] = (flat < model.timesteps).float().mean(1).sum()
                rows[f"{name}.ticks"] = _mean_tick(flat, model.timesteps) * len(flat)
            for name, value in rows.items():
                total[name] = total.get(name, 0.0) + float(value)
    model.train()
    found = {name: value / len(images) for name, value in total.items()}
    for block in ("block1", "block2"):
        if f"{block}.skip.ticks" in found:
            found[f"{block}.gap"] = found[f"{block}.conv2.ticks"] - found[f"{block}.skip.ticks"]
    return found


def _mean_tick(ticks: Tensor, timesteps: int) -> Tensor:
    fired = ticks < timesteps
    return torch.where(fired, ticks, 0).sum() / fired.sum().clamp(min=1)


def train(
    task: str, join: str, schedule: Schedule, data: Path | None, folder: Path, *, seed: int, checkpoint_every: int,
    samples: int | None, width: int,
) -> None:  # fmt: skip
    """Train one network; ``folder/first_spikes-TASK-JOIN-SEED.pt`` has its weights and what was measured on the way."""
    total, name = samples or schedule.samples, f"first_spikes-{task}-{join}-{seed}"
    torch.manual_seed(seed)
    model = FirstSpikes(join, width, CLASSES[task])
    images, labels, test_images, test_labels = data_of(task, data)
    optimizer = torch.optim.AdamW(
        [
            {"params": parameters, "times": times}
            for times, parameters in ((1.0, model.undelayed()), (DELAY_RATE, list(model.delays.parameters())))
            if parameters
        ],
        weight_decay=schedule.weight_decay,
    )
    folder.mkdir(parents=True, exist_ok=True)
    latest, seen = folder / f"{name}-latest.pt", 0
    history = [{"seen": 0.0, **measured(model, test_images[: TESTED // 2], test_labels[: TESTED // 2])}]
    if latest.exists():
        state = torch.load(latest)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        seen, history = state["seen"], state["history"]
        print(f"{name}: resumed at {seen} samples", flush=True)
    started, before, next_checkpoint = time.time(), seen, seen + checkpoint_every
    while seen < total:
        torch.manual_seed((seed << 32) + seen)
        chosen = torch.randint(0, len(images), (schedule.batch,))
        for group in optimizer.param_groups:
            group["lr"] = group["times"] * schedule.learning_rate * rate(seen, total, schedule.batch)
        shown = augmented(images[chosen]) if schedule.augment else images[chosen].float() / 255
        ticks = model(shown)
        logits = -SHARPNESS / TICKS * straight(ticks.clamp(max=float(model.timesteps)), ticks)
        loss = functional.cross_entropy(logits, labels[chosen]) + model.shortage()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += schedule.batch
        if seen >= next_checkpoint or seen >= total:
            next_checkpoint = seen + checkpoint_every
            history.append(
                {"seen": float(seen), **measured(model, test_images[: TESTED // 2], test_labels[: TESTED // 2])}
            )
            speed = (seen - before) / (time.time() - started)
            shown_now = ", ".join(f"{key} {history[-1][key]:.3f}" for key in ("accuracy", "latency"))
            gaps = ", ".join(f"{key} {value:.1f}" for key, value in history[-1].items() if key.endswith(".gap"))
            print(
                f"{name}: {seen}/{total} samples, loss {loss.item():.3f}, {shown_now}, {gaps} {speed:.0f}/s", flush=True
            )
            save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "seen": seen, "history": history},
                latest,
            )
    final = measured(model, test_images[:TESTED], test_labels[:TESTED])
    save(
        {
            "model": model.state_dict(), "measured": final, "history": history, "samples": total, "seed": seed,
            "task": task, "join": join, "width": width, "batch": schedule.batch,
        },
        folder / f"{name}.pt",
    )  # fmt: skip
    print(f"{name}: accuracy on {len(test_images[:TESTED])} test images {final['accuracy']:.4f}", flush=True)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--task", choices=tuple(SCHEDULES), required=True)
    parser.add_argument("--join", choices=JOINS, required=True)
    parser.add_argument("--batch", type=int, help="images of a step; the recipe's by default")
    parser.add_argument("--width", type=int, default=WIDTH, help="channels of the first block")
    parser.set_defaults(checkpoint_every=4_000)
    options = vars(parser.parse_args())
    torch.set_num_threads(1)
    task, batch = options.pop("task"), options.pop("batch")
    schedule = replace(SCHEDULES[task], batch=batch or SCHEDULES[task].batch)
    del options["device"]
    train(task, options.pop("join"), schedule, **options)


if __name__ == "__main__":
    main()
