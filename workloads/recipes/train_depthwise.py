"""Train a spiking network of depthwise separable convolutions on Fashion-MNIST, T = 4.

After the direct encoder come pairs of a depthwise 3x3 convolution (one filter per channel) and a pointwise 1x1
convolution, as in MobileNet, each with batch-norm and neurons; then the mean of all positions and a linear read-out.

    python train_depthwise.py --data DIR --checkpoints DIR
"""

from __future__ import annotations

import torch
from spiking import OneTimestep, ReadOut, encoder, firing, lif, named, train_in_two_phases
from spikingjelly.activation_based import layer
from training import arguments

SIDE = 32
TIMESTEPS = 4
ENCODED = 32
PAIRS = ((64, 1), (64, 2), (128, 1), (128, 2), (256, 1))
"""Output channels of a pair and the stride of its depthwise convolution."""


class DepthwiseSeparable(OneTimestep):
    def __init__(self, encoded: int = ENCODED, pairs: tuple[tuple[int, int], ...] = PAIRS) -> None:
        super().__init__()
        self.encoder = encoder(encoded)
        parts, channels = {"encoder": lif(), "pool": layer.MaxPool2d(2)}, encoded
        for index, (outputs, stride) in enumerate(pairs, 1):
            parts[f"depthwise{index}"] = firing(channels, channels, 3, stride, groups=channels)
            parts[f"pointwise{index}"] = firing(channels, outputs)
            channels = outputs
        self.body = named(**parts, head=ReadOut(channels))


def main() -> None:
    options = vars(arguments(__doc__).parse_args())
    torch.manual_seed(options["seed"])
    train_in_two_phases("depthwise", DepthwiseSeparable(), TIMESTEPS, side=SIDE, **options)


if __name__ == "__main__":
    main()
