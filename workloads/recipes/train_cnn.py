"""Train a VGG9 with batch norm and ReLU on Fashion-MNIST: the spiking VGG9 of ``train_dual_sparse.py`` without spikes.

3x3 convolutions without bias, batch norm, ReLU, 2x2 maximum pooling, one fully connected read-out.

    python train_cnn.py --data DIR --checkpoints DIR
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from training import Schedule, arguments, train

LAYERS = (32, "pool", 32, 64, "pool", 64, 128, "pool", 128, 128, 128, "pool")
SIDE = 32
SCHEDULE = Schedule(samples=150_000, batch=100, learning_rate=2e-3, weight_decay=5e-2)


class VGG(nn.Module):
    """``layers``: output channels of convolutions, and text for a pool."""

    def __init__(self, layers: tuple[int | str, ...] = LAYERS, side: int = SIDE) -> None:
        super().__init__()
        self.layers = layers
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        channels = 1
        for layer in layers:
            if isinstance(layer, str):
                side //= 2
                continue
            self.convolutions.append(nn.Conv2d(channels, layer, 3, padding=1, bias=False))
            self.norms.append(nn.BatchNorm2d(layer))
            channels = layer
        self.classifier = nn.Linear(channels * side * side, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, 10] of images [batch, 1, side, side] from 0 to 1."""
        hidden, index = images, 0
        for layer in self.layers:
            if isinstance(layer, str):
                hidden = functional.max_pool2d(hidden, 2)
            else:
                hidden = functional.relu(self.norms[index](self.convolutions[index](hidden)))
                index += 1
        return self.classifier(hidden.flatten(1))


def main() -> None:
    options = vars(arguments(__doc__).parse_args())
    torch.manual_seed(options["seed"])
    train("cnn", VGG(), SCHEDULE, side=SIDE, **options)


if __name__ == "__main__":
    main()
