"""Train two small networks with batch norm on Fashion-MNIST, for the study of quantisation: a CNN and a spiking one.

Both have five 3x3 convolutions with 16 to 64 channels and see the image as it is, 28 x 28. The CNN has ReLUs and a
fully connected read-out; the spiking network has a direct encoder, T = 4, and averages positions before its read-out.
They are small so that several seeds take minutes each on one core of a CPU.

    python train_small.py --network cnn --seed 1 --data DIR --checkpoints DIR
"""

from __future__ import annotations

import torch
from spiking import OneTimestep, ReadOut, encoder, firing, lif, named, train_in_two_phases
from spikingjelly.activation_based import layer
from torch import Tensor, nn
from training import Schedule, arguments, train

SIDE = 28
TIMESTEPS = 4
CHANNELS = (16, 32, 32, 64, 64)
POOLED = (1, 3, 5)
"""Convolutions that a pool follows."""
SCHEDULE = Schedule(samples=180_000, batch=100, learning_rate=2e-3, weight_decay=5e-2)


class SmallCnn(nn.Module):
    """Convolutions with batch norm and ReLU, pools, and a fully connected read-out."""

    def __init__(self) -> None:
        super().__init__()
        parts: dict[str, nn.Module] = {}
        inputs = 1
        for place, outputs in enumerate(CHANNELS, 1):
            parts[f"conv{place}"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            parts[f"norm{place}"] = nn.BatchNorm2d(outputs)
            parts[f"relu{place}"] = nn.ReLU()
            if place in POOLED:
                parts[f"pool{place}"] = nn.MaxPool2d(2)
            inputs = outputs
        side = SIDE // 2 ** len(POOLED)
        self.body = named(**parts, flatten=nn.Flatten(), classifier=nn.Linear(inputs * side * side, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, 10] of images [batch, 1, 28, 28] from 0 to 1."""
        return self.body(images)


class SmallSnn(OneTimestep):
    """The same convolutions with spiking neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder(CHANNELS[0])
        parts: dict[str, nn.Module] = {"neurons1": lif(), "pool1": layer.MaxPool2d(2)}
        inputs = CHANNELS[0]
        for place, outputs in enumerate(CHANNELS[1:], 2):
            parts[f"conv{place}"] = firing(inputs, outputs, 3)
            if place in POOLED:
                parts[f"pool{place}"] = layer.MaxPool2d(2)
            inputs = outputs
        self.body = named(**parts, head=ReadOut(inputs))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--network", choices=("cnn", "snn"), required=True)
    options = vars(parser.parse_args())
    network = options.pop("network")
    torch.manual_seed(options["seed"])
    name = f"small-{network}-{options['seed']}"
    if network == "cnn":
        train(name, SmallCnn(), SCHEDULE, side=SIDE, **options)
    else:
        train_in_two_phases(name, SmallSnn(), TIMESTEPS, side=SIDE, **options)


if __name__ == "__main__":
    main()
