"""Networks whose neurons fire once, and tell what they have to tell by when (time-to-first-spike coding).

Times are ticks, ``TICKS`` of them in a time constant of the synapses, and z = exp(tick / TICKS). A neuron reads inputs
that spike at z_k with weights w_k. It fires at

    z = sum w_k z_k / (sum w_k - 1)      over the inputs that come before, in the order of their times

and at the first tick that is not before. Weights have 8 bits: they are integers over an integer threshold. Both
roundings pass gradients straight through:

    dt/dw_k = (z_k - z) / (z (sum w - 1)),   dt/dt_k = w_k z_k / (z (sum w - 1))

The kernels sort the inputs of a position by counting ticks, and go through them once for all output channels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numba import njit
from torch import Tensor, nn

TICKS = 32
"""Ticks in a time constant of the synapses."""
ENCODER_BITS = 8
"""Of the time of a neuron behind the encoder."""
NEVER = 4096.0
"""The tick of a neuron that does not fire; later than all others."""
WEIGHT_LIMIT = 127
CLASSES = 10
JOINS = ("base", "addition", "concatenation", "delay")
MEAN_SUM = 4.0
"""Of the weights of a neuron, at first."""
_LEAST_DENOMINATOR = 0.1
"""Of gradients; where ``sum w`` is hardly above the threshold they would know no bounds."""
_LEAST_ABOVE = np.float32(1e-6)
_FIRED = np.float32(-1e30)
"""A sum of weights that never comes back above the threshold."""


@njit(cache=True)
def _sorted(ticks: Any, timesteps: int, starts: Any, order: Any) -> int:
    """Inputs ``order`` by tick, then number; returns how many fire before ``timesteps``."""
    starts[:] = 0
    for k in range(len(ticks)):
        if ticks[k] < timesteps:
            starts[int(ticks[k]) + 1] += 1
    for t in range(timesteps):
        starts[t + 1] += starts[t]
    fired = starts[timesteps]
    for k in range(len(ticks)):
        if ticks[k] < timesteps:
            place = int(ticks[k])
            order[starts[place]] = k
            starts[place] += 1
    return fired


@njit(cache=True, fastmath=True)
def _fire(ticks: Any, weights: Any, timesteps: int, rate: float, out: Any, z: Any, above: Any, used: Any) -> None:
    """``ticks`` [P, K], ``weights`` [K, N]; fills, each [P, N], the tick, z, ``sum w - 1`` and how many inputs came
    before. A neuron that never fires has the gradients of one that fires at the last tick with ``sum w - 1 = 1``, so
    that a read-out learns of it."""
    n = weights.shape[1]
    starts, order = np.zeros(timesteps + 1, np.int64), np.zeros(ticks.shape[1], np.int64)
    exponentials = np.exp(np.arange(timesteps + 1) / rate).astype(np.float32)
    total, moment = np.zeros(n, np.float32), np.zeros(n, np.float32)
    for p in range(len(ticks)):
        fired = _sorted(ticks[p], timesteps, starts, order)
        total[:], moment[:] = -1.0, 0.0
        before, left = -1, n
        used[p] = -1
        for place in range(fired + 1):
            tick = timesteps - 1 if place == fired else int(ticks[p, order[place]])
            limit = exponentials[tick]
            if tick != before or place == fired:
                most = np.float32(-1.0)  # one pass for all columns, which are many, before one for those that fire
                for column in range(n):
                    most = max(most, min(total[column] - _LEAST_ABOVE, limit * total[column] - moment[column]))
                if most >= 0:
                    for column in range(n):
                        if total[column] >= _LEAST_ABOVE and moment[column] <= limit * total[column]:
                            used[p, column] = place
                            above[p, column] = total[column]
                            z[p, column] = max(moment[column] / total[column], 1.0)
                            found = math.ceil(math.log(z[p, column]) * rate - 1e-3)
                            out[p, column] = min(max(found, before), tick)
                            total[column] = _FIRED
                            left -= 1
                before = tick
            if place == fired or left == 0:
                break
            row = weights[order[place]]
            for column in range(n):
                total[column] += row[column]
                moment[column] += row[column] * limit
        for column in range(n):
            if used[p, column] < 0:
                used[p, column], z[p, column] = fired, exponentials[timesteps - 1]


@njit(cache=True, fastmath=True)
def _gradients(
    ticks: Any, weights: Any, timesteps: int, rate: float, z: Any, above: Any, used: Any, upstream: Any,
    of_ticks: Any, of_weights: Any,
) -> None:  # fmt: skip
    """Adds to ``of_ticks`` [P, K] and ``of_weights`` [K, N] what ``upstream`` [P, N] makes of them."""
    n = weights.shape[1]
    starts, order = np.zeros(timesteps + 1, np.int64), np.zeros(ticks.shape[1], np.int64)
    exponentials = np.exp(np.arange(timesteps) / rate).astype(np.float32)
    scaled, plain = np.zeros(n, np.float32), np.zeros(n, np.float32)
    for p in range(len(ticks)):
        most = 0
        for column in range(n):
            scaled[column] = plain[column] = 0.0
            if used[p, column] >= 0 and upstream[p, column] != 0.0:
                plain[column] = upstream[p, column] / max(above[p, column], _LEAST_DENOMINATOR)
                scaled[column] = plain[column] / z[p, column]
                most = max(most, used[p, column])
        if most == 0:
            continue
        _sorted(ticks[p], timesteps, starts, order)
        for place in range(most):
            k = order[place]
            e, sum_k = exponentials[int(ticks[p, k])], np.float32(0.0)
            for column in range(n):
                mine = np.float32(used[p, column] > place)
                of_weights[k, column] += mine * (scaled[column] * e - plain[column])
                sum_k += mine * scaled[column] * weights[k, column]
            of_ticks[p, k] += e * sum_k


class _FirstSpike(torch.autograd.Function):
    """Ticks [P, N] of neurons that read ticks [P, K] through weights [K, N]; gradients in time constants."""

    @staticmethod
    def forward(ctx: Any, ticks: Tensor, weights: Tensor, timesteps: int) -> Tensor:
        inputs, shape = ticks.detach().contiguous().numpy(), (len(ticks), weights.shape[1])
        table = weights.detach().contiguous().numpy()
        out, z, above = np.full(shape, NEVER, np.float32), np.ones(shape, np.float32), np.ones(shape, np.float32)
        used = np.empty(shape, np.int16)
        _fire(inputs, table, timesteps, float(TICKS), out, z, above, used)
        ctx.kept = inputs, table, timesteps, z, above, used
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        inputs, table, timesteps, z, above, used = ctx.kept
        of_ticks, of_weights = np.zeros_like(inputs), np.zeros_like(table)
        given = upstream[0].contiguous().numpy()
        _gradients(inputs, table, timesteps, float(TICKS), z, above, used, given, of_ticks, of_weights)
        # Times are in ticks; what a weight does to them is in time constants.
        return torch.from_numpy(of_ticks), torch.from_numpy(of_weights) * TICKS, None


def straight(rounded: Tensor, exact: Tensor) -> Tensor:
    """``rounded`` with the gradient of ``exact``."""
    return exact + (rounded - exact).detach()


def within(ticks: Tensor, timesteps: int) -> Tensor:
    """Whoever would fire behind the last tick never does."""
    return torch.where(ticks < timesteps, ticks, NEVER)


class FirstSpikeLayer(nn.Module):
    """A convolution, or with a kernel of 0 a fully connected layer, of neurons that fire once."""

    def __init__(self, inputs: int, outputs: int, timesteps: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride, self.timesteps = kernel, stride, timesteps
        length = inputs * kernel**2 if kernel else inputs
        self.weight = nn.Parameter(torch.randn(outputs, length) * math.sqrt(1.5 / length) + MEAN_SUM / length)

    def threshold(self) -> int:
        """What stands for the threshold 1, so that the largest weight has 8 bits."""
        return max(1, math.floor(WEIGHT_LIMIT / float(self.weight.detach().abs().max())))

    def integers(self) -> Tensor:
        """The weights as integers."""
        return (self.weight.detach() * self.threshold()).round().clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)

    def shortage(self) -> Tensor:
        """How far, in the mean, weights are from making their neurons fire at all."""
        return functional.relu(1 - self.weight.sum(1)).mean()

    def forward(self, ticks: Tensor) -> Tensor:
        """Ticks [B, N, H', W'] of ticks [B, C, H, W], or [B, N]."""
        weights = straight(self.integers() / self.threshold(), self.weight).t()
        if not self.kernel:
            return _FirstSpike.apply(ticks.flatten(1), weights, self.timesteps)
        around = self.kernel // 2
        padded = functional.pad(ticks, (around,) * 4, value=NEVER)
        rows = functional.unfold(padded, self.kernel, stride=self.stride).transpose(1, 2)
        found = _FirstSpike.apply(rows.reshape(-1, rows.shape[2]), weights, self.timesteps)
        side = (ticks.shape[2] - 1) // self.stride + 1
        return found.reshape(len(ticks), side, -1, found.shape[1]).permute(0, 3, 1, 2)


class Encoder(nn.Module):
    """A 5x5 convolution of stride 2 with batch norm, whose output between 0 and ``2^ENCODER_BITS - 1`` is the tick."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, outputs, 5, 2, 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        nn.init.constant_(self.norm.bias, 1.5)

    def forward(self, images: Tensor) -> Tensor:
        exact = self.norm(self.conv(images)) * TICKS
        return straight(exact.round(), exact).clamp(0, 2**ENCODER_BITS - 1)


class Delay(nn.Module):
    """A delay per channel, of one tick at least; at first half a time constant."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.delay = nn.Parameter(torch.full((channels,), 0.5))

    def ticks(self) -> Tensor:
        """Whole ticks per channel."""
        exact = functional.relu(self.delay) * TICKS
        return straight(exact.round().clamp(min=1), exact)

    def forward(self, ticks: Tensor) -> Tensor:
        return ticks + self.ticks()[:, None, None]


def earliest(ticks: Tensor) -> Tensor:
    """The earliest spike of 3x3 windows, stride 2."""
    return -functional.max_pool2d(functional.pad(-ticks, (1,) * 4, value=-NEVER), 3, 2)


def shuffled(ticks: Tensor) -> Tensor:
    """Channels of the first and of the second half in turns."""
    batch, channels, height, width = ticks.shape
    return ticks.reshape(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(ticks.shape)


class FirstSpikes(nn.Module):
    """An encoder, two blocks of two convolutions, whose first one halves the image, and a read-out.

    ``base`` has nothing beside its blocks. ``addition`` adds to the time at which a block fires that of the earliest
    spike in a 3x3 window of its input. ``concatenation`` splits the channels: a block reads the first half, and the
    earliest spikes of the second half go beside it; the channels are shuffled behind the first block. ``delay`` delays
    what goes beside a block, by a learnt time per channel. ``last`` are the ticks of the last forward pass by name.
    """

    def __init__(self, join: str, width: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.join, self.split = join, join in ("concatenation", "delay")
        # A sum of times takes a longer time.
        self.timesteps = 768 if join == "addition" else 254
        layers = self._layer
        self.encoder = Encoder(width << self.split)
        self.block1 = nn.ModuleList([layers(width, width, stride=2), layers(width, width)])
        self.block2 = nn.ModuleList([layers(width, 2 * width, stride=2), layers(2 * width, 2 * width)])
        delays = [Delay(width), Delay(width)] if join == "delay" else []
        self.delays = nn.ModuleList(delays)
        self.read_out = layers(16 * width * (3 if self.split else 2), classes, kernel=0)
        self.last: dict[str, Tensor] = {}

    def _layer(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> FirstSpikeLayer:
        return FirstSpikeLayer(inputs, outputs, self.timesteps, kernel, stride)

    @property
    def layers(self) -> list[FirstSpikeLayer]:
        """All layers of neurons that fire once, in order."""
        return [module for module in self.modules() if isinstance(module, FirstSpikeLayer)]

    def forward(self, images: Tensor) -> Tensor:
        """Ticks [B, classes] of images [B, 1, 32, 32] from 0 to 1."""
        self.last = {"encoder": within(self.encoder(images), self.timesteps)}
        ticks = self._block(self.last["encoder"], 0)
        if self.split:
            ticks = shuffled(ticks)
        ticks = self._block(ticks, 1)
        self.last["read_out"] = self.read_out(ticks)
        return self.last["read_out"]

    def _block(self, ticks: Tensor, number: int) -> Tensor:
        block = (self.block1, self.block2)[number]
        half = ticks.shape[1] // 2
        inside, beside = (ticks[:, :half], ticks[:, half:]) if self.split else (ticks, ticks)
        for place, layer in enumerate(block, 1):
            inside = layer(inside)
            self.last[f"block{number + 1}.conv{place}"] = inside
        if self.join == "base":
            return inside
        beside = earliest(beside)
        if self.delays:
            beside = self.delays[number](beside)
        self.last[f"block{number + 1}.skip"] = beside = within(beside, self.timesteps)
        if self.split:
            return torch.cat((beside, inside), 1)
        if inside.shape[1] > beside.shape[1]:
            beside = torch.cat((beside, beside), 1)
        self.last[f"block{number + 1}.sum"] = within(inside + beside, self.timesteps)
        return self.last[f"block{number + 1}.sum"]

    def undelayed(self) -> list[nn.Parameter]:
        """All parameters but the delays."""
        delays = {id(parameter) for parameter in self.delays.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in delays]

    def shortage(self) -> Tensor:
        """The mean of all layers' :meth:`FirstSpikeLayer.shortage`."""
        return torch.stack([layer.shortage() for layer in self.layers]).mean()
