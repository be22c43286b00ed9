"""What the recipes of spiking networks share: their neuron, their convolution, and the run over timesteps in training.

Neurons are SpikingJelly's LIF with tau = 2 and a hard reset: with x the folded convolution output and v the membrane
potential, ``H[t] = (v[t-1] + x[t]) / 2``, a spike if ``H[t] >= threshold``, then v = 0. That is a leak of one half and
twice the threshold, which integers hold exactly. The surrogate gradient of a spike is a triangle of half-width one.

A network is a module for one timestep, which ``archsim.export.from_torch`` reads. Training runs all timesteps at once
(SpikingJelly's step mode ``m``), so that batch-norm sees them together. It starts with T = 1, which is T times as fast,
and ends with the network's T. In the first phase tau is 4/3, so that those neurons fire which would fire every other
timestep.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

import fused_neurons
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from training import Schedule, train

TAU = 2.0
FIRST = Schedule(samples=78_000, batch=60, learning_rate=5e-3, weight_decay=1e-2, augment=False)
FIRST_TAU = 4 / 3
SECOND = Schedule(samples=48_000, batch=60, learning_rate=3e-3, weight_decay=1e-2, augment=False)


def lif(threshold: float = 1.0) -> neuron.LIFNode:
    """The neuron of all networks here."""
    return neuron.LIFNode(
        tau=TAU,
        v_threshold=threshold,
        surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0),
        detach_reset=True,
        step_mode="s",
    )


def named(**parts: nn.Module) -> nn.Sequential:
    """``parts`` one after the other, by names that the layers of the trace will have."""
    return nn.Sequential(OrderedDict(parts))


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the size of an image (but for its stride), and batch-norm."""
    return named(
        conv=layer.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        norm=layer.BatchNorm2d(outputs),
    )


def firing(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution with batch-norm and neurons."""
    return named(**dict(convolution(inputs, outputs, kernel, stride, groups).named_children()), neurons=lif())


def encoder(outputs: int) -> nn.Sequential:
    """The direct encoder: a convolution that sees the pixels, the same in every timestep."""
    return named(conv=nn.Conv2d(1, outputs, 3, padding=1, bias=False), norm=nn.BatchNorm2d(outputs))


class ReadOut(nn.Module):
    """The mean of the tokens, and a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = layer.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.mean(x).flatten(-3))


class OneTimestep(nn.Module):
    """A network with an encoder, which gives currents, and a body."""

    encoder: nn.Module
    body: nn.Module

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, 10] of images [B, 1, 32, 32] from 0 to 1, in one timestep."""
        return self.body(self.encoder(images))


class Unrolled(nn.Module):
    """``network`` on an image for ``timesteps``: logits, the mean of those of all timesteps.

    The encoder is computed once, as it sees the same in every timestep.
    """

    def __init__(self, network: OneTimestep, timesteps: int) -> None:
        super().__init__()
        self.network, self.timesteps = network, timesteps
        functional.set_step_mode(network, "m")
        for part in neurons(network):
            part.multi_step_forward = partial(_fire, part)

    def forward(self, images: Tensor) -> Tensor:
        functional.reset_net(self.network)
        currents = self.network.encoder(images)
        return self.network.body(currents.expand(self.timesteps, *currents.shape)).mean(0)


def neurons(network: nn.Module) -> list[neuron.LIFNode]:
    """All of them."""
    return [module for module in network.modules() if isinstance(module, neuron.LIFNode)]


def _fire(part: neuron.LIFNode, currents: Tensor) -> Tensor:
    return fused_neurons.fire(currents, part.tau, part.v_threshold)


def train_in_two_phases(
    name: str, network: OneTimestep, timesteps: int, second: Schedule = SECOND, **options: Any
) -> None:
    """Write ``name.pt``, the network trained with T = 1 and then with ``timesteps``; ``options`` of ``train``."""
    for part in neurons(network):
        part.tau = FIRST_TAU
    train(f"{name}-first", Unrolled(network, 1), FIRST, **options)
    for part in neurons(network):
        part.tau = TAU
    train(name, Unrolled(network, timesteps), second, **options)
