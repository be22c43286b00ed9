"""Train a spiking transformer on Fashion-MNIST: a Spikformer, a spike-driven transformer or a QKFormer, T = 4.

Images are padded to 32 x 32; the stem turns them into 64 tokens (8 x 8 positions), two blocks of attention and MLP
follow, and a linear read-out of the tokens' mean. The structures are those of the papers, the widths are small:

``spikformer`` (Zhou et al., ICLR 2023): spiking self-attention Q (K^T V) with heads, sums of spikes as shortcuts.
``sdt``        (Yao et al., NeurIPS 2023): Q and LIF(sum of K and V over tokens), shortcuts between membrane potentials.
``qkformer``   (Zhou et al., NeurIPS 2024): token attention LIF(sum of Q over a head's channels) and K in a first stage,
               self-attention in a second of 16 tokens, patch embedding with a convolution as shortcut.

    python train_spiking_transformer.py --network sdt --data DIR --checkpoints DIR
"""

from __future__ import annotations

from dataclasses import replace

import torch
from spiking import SECOND, OneTimestep, ReadOut, convolution, encoder, firing, lif, named, train_in_two_phases
from spikingjelly.activation_based import layer
from torch import Tensor, nn
from training import arguments

SIDE = 32
TIMESTEPS = 4
HEADS = 4
SCALE = 0.125
ATTENTION_THRESHOLD = 0.5


def pool() -> layer.MaxPool2d:
    return layer.MaxPool2d(3, 2, 1)


class SelfAttention(nn.Module):
    """Spiking self-attention: LIF(Q (K^T V) / 8) for each head, and a projection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (firing(channels, channels) for _ in range(3))
        self.attention = lif(ATTENTION_THRESHOLD)
        self.projection = firing(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [..., channels, height, width]; a head has its share of the channels, a token is a position."""
        query, key, value = (
            part(x).flatten(-2).unflatten(-2, (HEADS, -1)).transpose(-1, -2)
            for part in (self.query, self.key, self.value)
        )
        mixed = query @ (key.transpose(-1, -2) @ value) * SCALE
        return self.projection(self.attention(mixed.transpose(-1, -2).reshape(x.shape)))


class TokenAttention(nn.Module):
    """Q-K token attention: a head's K passes at the tokens where LIF(sum of its Q) fires; and a projection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key = firing(channels, channels), firing(channels, channels)
        self.attention = lif(ATTENTION_THRESHOLD)
        self.projection = firing(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        query, key = (part(x).unflatten(-3, (HEADS, -1)) for part in (self.query, self.key))
        return self.projection((self.attention(query.sum(-3, keepdim=True)) * key).flatten(-4, -3))


class Residual(nn.Module):
    """Attention and MLP, each added to what it reads."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)


class Block(Residual):
    """Attention and MLP; their spikes are added to what they read."""

    def __init__(self, channels: int, attention: type[nn.Module], expansion: int) -> None:
        super().__init__()
        self.attention = attention(channels)
        self.mlp = named(hidden=firing(channels, expansion * channels), output=firing(expansion * channels, channels))


class Position(nn.Module):
    """Relative position: the spikes of a 3x3 convolution of the tokens, added to them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = firing(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x) + x


class Spikformer(OneTimestep):
    def __init__(self, channels: int = 64, blocks: int = 2, expansion: int = 4) -> None:
        super().__init__()
        self.encoder = encoder(channels // 4)
        self.body = named(
            encoder=lif(),
            pool1=pool(),
            stem1=firing(channels // 4, channels // 2, 3),
            pool2=pool(),
            stem2=firing(channels // 2, channels, 3),
            position=Position(channels),
            **{f"block{index + 1}": Block(channels, SelfAttention, expansion) for index in range(blocks)},
            head=ReadOut(channels),
        )


class DrivenAttention(nn.Module):
    """Spike-driven self-attention: a channel's Q passes if LIF(K and V, summed over tokens) fires; and a projection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shortcut = lif()
        self.query, self.key, self.value = (firing(channels, channels) for _ in range(3))
        self.attention = lif(ATTENTION_THRESHOLD)
        self.projection = convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.shortcut(x)
        counts = (self.key(spikes) * self.value(spikes)).sum((-2, -1), keepdim=True)
        return self.projection(self.query(spikes) * self.attention(counts))


class DrivenBlock(Residual):
    """Attention and MLP, both from membrane potentials to currents, which are added."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.attention = DrivenAttention(channels)
        self.mlp = named(
            shortcut=lif(),
            hidden=firing(channels, expansion * channels),
            output=convolution(expansion * channels, channels, 1),
        )


class DrivenPosition(nn.Module):
    """Relative position: a 3x3 convolution of the tokens' spikes, added to their currents."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = named(shortcut=lif(), **dict(convolution(channels, channels).named_children()))

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x) + x


class DrivenReadOut(nn.Module):
    """The mean of the tokens' currents, neurons, and a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = layer.AdaptiveAvgPool2d(1)
        self.neurons = lif()
        self.linear = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.neurons(self.mean(x).flatten(-3)))


class SpikeDrivenTransformer(OneTimestep):
    def __init__(self, channels: int = 64, blocks: int = 2, expansion: int = 4) -> None:
        super().__init__()
        self.encoder = encoder(channels // 4)
        self.body = named(
            encoder=lif(),
            pool1=pool(),
            stem1=firing(channels // 4, channels // 2, 3),
            pool2=pool(),
            stem2=convolution(channels // 2, channels),
            position=DrivenPosition(channels),
            **{f"block{index + 1}": DrivenBlock(channels, expansion) for index in range(blocks)},
            head=DrivenReadOut(channels),
        )


class PatchEmbedding(nn.Module):
    """Half the tokens in either direction, ``outputs`` channels; a 1x1 convolution is the shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.straight = named(
            first=firing(inputs, outputs, 3), second=convolution(outputs, outputs), pool=pool(), neurons=lif()
        )
        self.shortcut = firing(inputs, outputs, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.straight(x) + self.shortcut(x)


class QKFormer(OneTimestep):
    def __init__(self, channels: int = 96, blocks: int = 1, expansion: int = 4) -> None:
        super().__init__()
        half = channels // 2
        self.encoder = encoder(half // 3)
        self.body = named(
            pool1=pool(),
            encoder=lif(),
            stem=convolution(half // 3, half),
            pool2=pool(),
            neurons=lif(),
            block1=Block(half, TokenAttention, expansion),
            patches=PatchEmbedding(half, channels),
            **{f"block{index + 2}": Block(channels, SelfAttention, expansion) for index in range(blocks)},
            head=ReadOut(channels),
        )


NETWORKS: dict[str, type[OneTimestep]] = {
    "spikformer": Spikformer,
    "sdt": SpikeDrivenTransformer,
    "qkformer": QKFormer,
}
SECOND_SAMPLES = {"sdt": 96_000}
"""Of the second phase, where the usual number leaves a network below 88 %."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--network", choices=sorted(NETWORKS), required=True)
    options = vars(parser.parse_args())
    name = options.pop("network")
    torch.manual_seed(options["seed"])
    second = replace(SECOND, samples=SECOND_SAMPLES.get(name, SECOND.samples))
    train_in_two_phases(name, NETWORKS[name](), TIMESTEPS, second, side=SIDE, **options)


if __name__ == "__main__":
    main()
