"""Train MS-ResNet18 on Fashion-MNIST, T = 4, with ordinary or with tensor-train decomposed convolutions (TT-SNN).

``dense``  every convolution 3x3 as it is
``stt``    four sub-convolutions, one after the other: 1x1 to the rank, 3x1, 1x3, 1x1 to the channels
``ptt``    the 3x1 and the 1x3 side by side, and the mean of both
``htt``    the same in the first half of the timesteps; the two 1x1 alone in the second

The network is the authors' (github.com/donghyunli/TT-SNN): membrane currents as shortcuts, neurons with
``u = x + u / 4`` and threshold 1/2, a hard reset. Encoder, 1x1 shortcuts and read-out are not decomposed, and a
decomposed convolution of stride 2 is one of stride 1 with a 2x2 maximum behind it. Batch-norm stands in front of that
maximum, so that it can be folded. Ours are: the width, a 2x2 maximum behind the encoder, one channel of input, the rank
rule ``RHO``, the surrogate gradient (a triangle) and the schedule.

    python train_tt_snn.py --mode htt --data DIR --checkpoints DIR
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from spiking import OneTimestep, ReadOut, Unrolled, encoder
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn
from training import Schedule, arguments, train

MODES = ("dense", "stt", "ptt", "htt")
SIDE = 28
TIMESTEPS = 4
WIDTH = 16
BLOCKS = (2, 2, 2, 2)
RHO = 0.29
"""The common rank of a convolution over the smaller of its numbers of channels."""
SCHEDULE = Schedule(samples=30_000, batch=60, learning_rate=5e-3, weight_decay=1e-2, augment=False)


def lif() -> neuron.LIFNode:
    """``u = x + u / 4`` and threshold 1/2, as SpikingJelly writes it: ``H = (3 x + v) / 4`` and 3/8."""
    return neuron.LIFNode(
        tau=4 / 3, v_threshold=0.375, surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0), detach_reset=True,
        step_mode="s",
    )  # fmt: skip


class Decomposed(nn.Module):
    """The four sub-convolutions of a 3x3 convolution, stride 1."""

    def __init__(self, inputs: int, outputs: int, mode: str) -> None:
        super().__init__()
        rank = round(RHO * min(inputs, outputs))
        self.mode = mode
        self.c1 = layer.Conv2d(inputs, rank, 1, bias=False)
        self.c2 = layer.Conv2d(rank, rank, (3, 1), padding=(1, 0), bias=False)
        self.c3 = layer.Conv2d(rank, rank, (1, 3), padding=(0, 1), bias=False)
        self.c4 = layer.Conv2d(rank, outputs, 1, bias=False)
        for part in (self.c1, self.c2, self.c3, self.c4):
            nn.init.normal_(part.weight, std=1 / math.sqrt(part.weight[0].numel()))

    def between(self, x: Tensor) -> Tensor:
        """From c1 to c4, at timesteps at which all sub-convolutions work."""
        return self.c3(self.c2(x)) if self.mode == "stt" else (self.c2(x) + self.c3(x)) / 2

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [T, B, C, H, W]; where timesteps are all alike also [B, C, H, W]."""
        hidden = self.c1(x)
        if self.mode != "htt":
            return self.c4(self.between(hidden))
        full = len(hidden) // 2
        return self.c4(torch.cat((self.between(hidden[:full]), hidden[full:])))


class Convolution(nn.Module):
    """A 3x3 convolution in one of the modes, and batch-norm."""

    def __init__(self, inputs: int, outputs: int, stride: int, mode: str) -> None:
        super().__init__()
        self.stride = stride
        self.conv: nn.Module = (
            layer.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            if mode == "dense"
            else Decomposed(inputs, outputs, mode)
        )
        self.norm = layer.BatchNorm2d(outputs)
        self.pool = layer.MaxPool2d(2, ceil_mode=True) if stride == 2 and mode != "dense" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.norm(self.conv(x)))


class Block(nn.Module):
    """Two times neurons and a convolution; the currents that come in are added."""

    def __init__(self, inputs: int, outputs: int, stride: int, mode: str) -> None:
        super().__init__()
        self.neurons1, self.conv1 = lif(), Convolution(inputs, outputs, stride, mode)
        self.neurons2, self.conv2 = lif(), Convolution(outputs, outputs, 1, mode)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(layer.Conv2d(inputs, outputs, 1, stride, bias=False), layer.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.neurons2(self.conv1(self.neurons1(x)))) + self.shortcut(x)


class Head(nn.Module):
    """Neurons, the mean of all positions, and a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.neurons, self.read_out = lif(), ReadOut(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.read_out(self.neurons(x))


class MsResNet(OneTimestep):
    """Stages of ``blocks`` blocks; the width doubles from stage to stage, and the image halves."""

    def __init__(self, mode: str, width: int = WIDTH, blocks: tuple[int, ...] = BLOCKS) -> None:
        super().__init__()
        self.encoder = nn.Sequential(OrderedDict(encoder(width).named_children(), pool=nn.MaxPool2d(2)))
        parts, channels = [], width
        for stage, count in enumerate(blocks):
            for block in range(count):
                outputs = width << stage
                parts.append(Block(channels, outputs, 2 if stage and not block else 1, mode))
                channels = outputs
        self.body = nn.Sequential(*parts, Head(channels))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--mode", choices=MODES, required=True)
    options = vars(parser.parse_args())
    mode = options.pop("mode")
    torch.manual_seed(options["seed"])
    if options["device"] == "cpu":
        torch.set_num_threads(1)
    train(f"tt-{mode}-{options['seed']}", Unrolled(MsResNet(mode), TIMESTEPS), SCHEDULE, side=SIDE, **options)


if __name__ == "__main__":
    main()
