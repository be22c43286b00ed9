"""Train a small vision transformer on Fashion-MNIST, plainly or for arrays that are written with noise.

49 tokens (patches of 4 x 4 pixels of 28 x 28) of 64 channels, 4 encoders of 4 heads with layer norms before attention
and MLP, ReLU, and a linear read-out of all tokens.

``--variation-aware``: in training, K and V of every head are disturbed as arrays of memory cells are when they are
written (the law of ClipFormer): a cell of conductance G is off by
``gamma sqrt((G - Gmin) (Gmax - Gmin)) N(0, sigma^2)``. A value is a sign and seven bits in a differential pair, two
bits a cell; the whole range of a head in a batch is that of the cells. ``gamma sigma`` is drawn for each batch from 0
to ``STRENGTH``. Gradients pass as if there were no noise.

    python train_transformer.py --data DIR --checkpoints DIR
    python train_transformer.py --variation-aware --data DIR --checkpoints DIR
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from training import Schedule, arguments, train

SIDE = 28
PATCH = 4
TOKENS = (SIDE // PATCH) ** 2
CHANNELS = 64
HEADS = 4
HIDDEN = 128
ENCODERS = 4
STRENGTH = 1.0
MAGNITUDE_BITS = 7
CELL_BITS = 2
SCHEDULE = Schedule(samples=240_000, batch=100, learning_rate=1e-3, weight_decay=5e-2)


def deviations() -> Tensor:
    """Standard deviation of a value's error for strength 1, by its magnitude, in units of the lowest bit.

    Errors of the cells of a value are independent, so that their sum is one normal error.
    """
    magnitude, top = torch.arange(1 << MAGNITUDE_BITS), (1 << CELL_BITS) - 1
    shifts = torch.arange(0, MAGNITUDE_BITS, CELL_BITS)[:, None]
    # In units of a level, of which the range Gmax - Gmin has ``top``.
    return (((magnitude >> shifts) % (1 << CELL_BITS)) * top * 4.0**shifts).sum(0).sqrt()


def write_noise(values: Tensor, strength: Tensor) -> Tensor:
    """Errors of ``values`` [B, heads, tokens, d] as they are written, of the same unit."""
    unit = values.abs().amax((0, 2, 3), keepdim=True).clamp(min=1e-6) / ((1 << MAGNITUDE_BITS) - 1)
    magnitude = torch.round(values.abs() / unit).long()
    return strength * unit * deviations().to(values.device)[magnitude] * torch.randn_like(values)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(CHANNELS, CHANNELS) for _ in range(3))
        self.projection = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, tokens: Tensor, strength: Tensor | None) -> Tensor:
        """``tokens`` [B, tokens, channels]; ``strength`` is gamma sigma of what is written, None without noise."""
        query, key, value = (
            layer(tokens).unflatten(2, (HEADS, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        if strength is not None:
            key, value = (x + write_noise(x.detach().float(), strength).to(x.dtype) for x in (key, value))
        shares = functional.softmax(query @ key.transpose(2, 3) * query.shape[-1] ** -0.5, dim=3)
        return self.projection((shares @ value).transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(CHANNELS) for _ in range(2))
        self.attention = Attention()
        self.hidden = nn.Linear(CHANNELS, HIDDEN)
        self.output = nn.Linear(HIDDEN, CHANNELS)

    def forward(self, tokens: Tensor, strength: Tensor | None) -> Tensor:
        tokens = tokens + self.attention(self.norms[0](tokens), strength)
        return tokens + self.output(functional.relu(self.hidden(self.norms[1](tokens))))


class Transformer(nn.Module):
    def __init__(self, variation_aware: bool = False) -> None:
        super().__init__()
        self.variation_aware = variation_aware
        self.patches = nn.Conv2d(1, CHANNELS, PATCH, PATCH)
        self.positions = nn.Parameter(0.02 * torch.randn(1, TOKENS, CHANNELS))
        self.encoders = nn.ModuleList(Encoder() for _ in range(ENCODERS))
        self.norm = nn.LayerNorm(CHANNELS)
        # A token is a position of an image; channels come first, as in a trace.
        self.classifier = nn.Linear(CHANNELS * TOKENS, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, 10] of images [batch, 1, 28, 28] from 0 to 1."""
        strength = None
        if self.training and self.variation_aware:
            strength = STRENGTH * torch.rand(1, device=images.device)
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        for encoder in self.encoders:
            tokens = encoder(tokens, strength)
        return self.classifier(self.norm(tokens).transpose(1, 2).flatten(1))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--variation-aware", action="store_true")
    options = vars(parser.parse_args())
    torch.manual_seed(options["seed"])
    aware = options.pop("variation_aware")
    name = "vit-variation-aware" if aware else "vit"
    train(name, Transformer(aware), SCHEDULE, side=SIDE, **options)


if __name__ == "__main__":
    main()
