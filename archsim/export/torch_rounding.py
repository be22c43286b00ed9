"""Rounding that is learned layer by layer from images, for weights and activations of few bits.

Of a layer with weights W, inputs x of the float network and inputs x' of the network that is quantised so far, the
integers W' = clip(floor(W / s) + h) s are wanted that give the float network's sums:

    loss(W') = E || W x - W' x' - mean ||^2       over images, timesteps and positions

The mean goes into the bias. The loss is a quadratic form of covariances of x and x', which are found once, so that
images are seen once and a step of learning costs no convolution. h is between 0 and 1 (AdaRound: Nagel et al., ICML
2020, equations 22 to 24, recalled):

    h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1)      zeta = 1.1, gamma = -0.1
    loss + lambda sum(1 - |2 h - 1|^beta)                     beta falls from 20 to 2 and drives h to 0 or 1

Reconstruction is layer by layer, as in AdaRound, not block by block as in BRECQ (Li et al., ICLR 2021). A channel for
which it gives a larger loss than the nearest integers begins with these, and then single integers are turned to the
other neighbour as long as that helps.

Steps s, one for each output channel, have the least squared error of the weights; the scale of an activation that of
its values on the images; both by a search over shares of the largest magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.export.activations import MOVES
from archsim.export.network import Network, Node, Real, per_channel
from archsim.export.rounding import ACTIVATION_BITS, Form, Integers, Nearest, of_range
from archsim.export.torch_running import BATCH, Tensors, padded
from archsim.export.torch_tensors import load_torch

GAMMA, ZETA = -0.1, 1.1
FIRST_BETA, LAST_BETA = 20.0, 2.0
LEARNING_RATE = 2e-2
PENALTY = 1e-2
WARM_UP = 0.2
SHARES = np.linspace(1.0, 0.05, 58)
"""Shares of the largest magnitude that a step or a scale may cover."""
MOST_VALUES = 1 << 16


@dataclass(frozen=True)
class Bits:
    """Of a layer: bits of its ``weights``, and of the ``activations`` that it reads."""

    weights: int
    activations: int


class Moments(NamedTuple):
    """What a layer reads, by group: ``mean`` and ``covariance`` [G, K, K] of x', ``cross`` [G, K, K] = cov(x, x'), and
    the mean of x, in integers of x'."""

    mean: Real
    covariance: Real
    cross: Real
    float_mean: Real


class Learned(Nearest):
    """Rounding for the layers of ``network``, of ``bits`` each, whose float outputs on images are ``given``.

    ``tensors`` are the integers on these images, filled in by whoever runs the network that is quantised so far;
    ``unit`` gives what an integer of one is worth. What is decided once stays: asked again, it gives the same.
    """

    def __init__(self, network: Network, bits: Mapping[str, Bits], given: Tensors, iterations: int) -> None:
        super().__init__()
        self.tensors: Tensors = {}
        self.unit: Callable[[str], ArrayLike] = lambda name: 1.0
        self._given = given
        self._bits = bits
        self._iterations = iterations
        self._activation_bits = {name: _bits_read(network, bits, name) for name in network.nodes}
        self._moments: dict[str, Moments] = {}
        self._steps: dict[tuple[str, bytes], Real] = {}
        self._integers: dict[tuple[str, int], tuple[Integers, Real]] = {}
        self._forms: dict[frozenset[str], Form] = {}

    @property
    def told(self) -> str:
        """How scales and integers are chosen."""
        return "least squared error on the calibration images; weights rounded by layer-wise reconstruction"

    def bits(self, layer: str) -> int:
        """Bits of the weights of ``layer``; 8 where a quantiser adds one to bring values to another scale."""
        return self._bits[layer].weights if layer in self._bits else 8

    def steps(self, layer: str, rows: Real) -> Real:
        """Those of the least squared error."""
        key = layer, rows.tobytes()
        if key not in self._steps:
            self._steps[key] = best_steps(rows, self.bits(layer))
        return self._steps[key]

    def thresholds(self, quotients: Real) -> Real:
        """The nearest integers."""
        return np.maximum(np.round(quotients), 1)

    def integers(self, node: Node, first: int, quotients: Real, steps: Real) -> tuple[Integers, Real]:
        """Learned ones."""
        key = node.name, first
        if key not in self._integers:
            if node.name in self._bits:
                self._integers[key] = self._learned(node, first, quotients, steps)
            else:
                whole = clipped(np.round(quotients), self.bits(node.name))
                self._integers[key] = whole.astype(np.int64), np.zeros(len(whole))
        return self._integers[key]

    def form(self, names: list[str], values: list[NDArray[Any]], signed: bool) -> Form:
        """The scale of the least squared error."""
        key = frozenset(names)
        if key not in self._forms:
            bits = max(self._activation_bits.get(name, 0) for name in names) or ACTIVATION_BITS
            self._forms[key] = best_form(values, bits, signed)
        return self._forms[key]

    def _learned(self, node: Node, first: int, quotients: Real, steps: Real) -> tuple[Integers, Real]:
        if node.name not in self._moments:
            self._moments[node.name] = moments(node, *self._read(node))
        found = self._moments[node.name]
        per_group = len(node.weight) // node.groups  # type: ignore[arg-type]
        group = (first + np.arange(len(quotients))) // per_group
        whole = np.empty(quotients.shape, np.int64)
        gained = np.empty(len(whole))
        for number in np.unique(group):
            rows = group == number
            part = Moments(*(values[number] for values in found))
            whole[rows] = reconstruct(quotients[rows], steps[rows], part, self.bits(node.name), self._iterations)
            gained[rows] = quotients[rows] @ part.float_mean - whole[rows] @ part.mean
        return whole, gained

    def _read(self, node: Node) -> tuple[NDArray[Any], NDArray[Any]]:
        """What ``node`` reads, in integers, and the float network's in the same unit: [T, I, ...] each."""
        (source,) = node.inputs
        real = self._given[source]
        integers = self.tensors[source]
        integers = integers if integers.ndim == real.ndim else integers[None]
        return integers, real / per_channel(self.unit(source), real.shape[2:])


def _bits_read(network: Network, bits: Mapping[str, Bits], name: str) -> int:
    """The widest that layers read the values of node ``name`` in, perhaps in another order; 0 if none does."""
    found = [0]
    for reader in network.readers(name):
        if reader.name in bits:
            found.append(bits[reader.name].activations)
        elif reader.op in MOVES:
            found.append(_bits_read(network, bits, reader.name))
        elif reader.op not in ("add", "relu"):
            found.append(ACTIVATION_BITS)
    return max(found)


def clipped(values: Real, bits: int) -> Real:
    """Values within ``bits`` in two's complement."""
    return np.clip(values, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def best_steps(rows: Real, bits: int) -> Real:
    """Of each row of weights [n, K] the step of the least squared error."""
    most = np.abs(rows).max(1)
    best, least = np.zeros(len(rows)), np.full(len(rows), np.inf)
    for share in SHARES:
        # The largest magnitude is that of the lowest integer or, for more than two bits, next to it.
        steps = share * most / max((1 << (bits - 1)) - 1, 1)
        column = np.where(steps > 0, steps, 1.0)[:, None]
        error = ((clipped(np.round(rows / column), bits) * column - rows) ** 2).sum(1)
        best, least = np.where(error < least, steps, best), np.minimum(error, least)
    return best


def best_form(values: list[NDArray[Any]], bits: int, signed: bool) -> Form:
    """The form of the least squared error; of many values, on some evenly spread ones."""
    some = np.concatenate([part.ravel()[:: max(1, part.size // MOST_VALUES)] for part in values]).astype(np.float64)
    most = max(float(np.abs(part).max()) for part in values)
    if not signed:
        some = np.maximum(some, 0.0)
    best, least = of_range(most, bits, signed), np.inf
    for share in SHARES:
        form = of_range(share * most, bits, signed)
        low = -form.largest - 1 if signed else 0
        error = float(((np.clip(np.round(some / form.scale), low, form.largest) * form.scale - some) ** 2).sum())
        if error < least:
            best, least = form, error
    return best


def moments(node: Node, integers: NDArray[Any], real: NDArray[Any]) -> Moments:
    """Means and covariances of what the weights of ``node`` are multiplied with, of both networks."""
    torch = load_torch()
    steps = max(len(integers), len(real))
    assert node.weight is not None
    groups, length = node.groups, node.weight[0].size
    sums = [torch.zeros(groups, length, dtype=torch.float64) for _ in range(2)]
    products = [torch.zeros(groups, length, length, dtype=torch.float64) for _ in range(2)]
    count = 0
    for t in range(steps):
        for first in range(0, integers.shape[1], BATCH):
            some = slice(first, first + BATCH)
            both = [_columns(node, values[t if len(values) > 1 else 0, some]) for values in (integers, real)]
            count += both[0].shape[2]
            for place, values in enumerate(both):
                sums[place] += values.sum(2)
                products[place] += values @ both[0].transpose(1, 2)
    means = [total / count for total in sums]
    covariance, cross = (
        (product / count - mean[:, :, None] * means[0][:, None, :]).numpy()
        for product, mean in zip(products, means, strict=True)
    )
    return Moments(means[0].numpy(), covariance, cross, means[1].numpy())


def _columns(node: Node, values: NDArray[Any]) -> Any:
    """What each output sees of values [I, ...], float32 [G, K, outputs]."""
    torch = load_torch()
    maps = torch.from_numpy(np.array(values, np.float32))
    if node.op == "linear":
        return maps.flatten(1).T[None]
    window = node.window
    seen = torch.nn.functional.unfold(
        padded(maps, window), window.kernel, dilation=window.dilation, stride=window.stride
    )  # fmt: skip
    return seen.reshape(len(maps), node.groups, -1, seen.shape[2]).permute(1, 2, 0, 3).flatten(2)


def losses_of(integers: Any, target: Any, covariance: Any) -> Any:
    """What depends on the integers [n, K] in the loss of each channel, in squared steps: ``target`` [n, K] is the
    quotients' product with ``cross``."""
    return (integers * (integers @ covariance - 2 * target)).sum(1)


def reconstruct(quotients: Real, steps: Real, read: Moments, bits: int, iterations: int) -> Integers:
    """Integers [n, K] of ``bits`` next to the ``quotients``, with a loss that is small."""
    torch = load_torch()
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    covariance = torch.from_numpy(read.covariance).float()
    target = torch.from_numpy(quotients @ read.cross).float()
    weight = torch.from_numpy(steps**2).float()
    nearest = torch.from_numpy(clipped(np.round(quotients), bits)).float()
    below = torch.from_numpy(np.floor(quotients)).float()
    share = torch.from_numpy(quotients).float() - below
    start = torch.clip((share - GAMMA) / (ZETA - GAMMA), 1e-4, 1 - 1e-4)
    variable = torch.log(start / (1 - start)).requires_grad_()
    # Of the float network's sums: what the loss is to be compared with.
    power = float((weight * (nearest @ covariance * nearest).sum(1)).sum())
    optimiser = torch.optim.Adam([variable], lr=LEARNING_RATE)
    for iteration in range(iterations if power > 0 else 0):
        up = torch.clip(torch.sigmoid(variable) * (ZETA - GAMMA) + GAMMA, 0, 1)
        loss = losses_of(torch.clip(below + up, low, high), target, covariance)
        loss = (weight * loss).sum() / power * up.numel()
        done = iteration / iterations
        if done >= WARM_UP:
            beta = LAST_BETA + (FIRST_BETA - LAST_BETA) * (1 - (done - WARM_UP) / (1 - WARM_UP))
            loss = loss + PENALTY * (1 - (2 * up - 1).abs() ** beta).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        chosen = torch.clip(below + (variable > 0), low, high)
        better = losses_of(chosen, target, covariance) < losses_of(nearest, target, covariance)
        whole = torch.where(better[:, None], chosen, nearest) if iterations else nearest
    if not iterations:
        integers: Integers = whole.numpy().astype(np.int64)
        return integers
    return descend(whole.double().numpy(), np.floor(quotients), quotients @ read.cross, read.covariance, bits)


def descend(whole: Real, below: Real, target: Real, covariance: Real, bits: int) -> Integers:
    """Turn single integers [n, K] to the other neighbour of their quotient, the one that helps its channel most in
    each step, until none does.

    A turn by d changes the loss of a channel with the gradient 2 g, g = W' cov - target, by 2 d g[k] + d^2 cov[k, k].
    """
    channels, diagonal = np.arange(len(whole)), np.diag(covariance)
    gradient = whole @ covariance - target
    while len(channels):
        current = whole[channels]
        turn = clipped(np.where(current > below[channels], -1.0, 1.0) + current, bits) - current
        change = turn * (2 * gradient[channels] + turn * diagonal)
        place = change.argmin(1)
        each = np.arange(len(channels))
        helps = change[each, place] < -1e-9 * diagonal[place]
        channels, place, by = channels[helps], place[helps], turn[each, place][helps]
        whole[channels, place] += by
        gradient[channels] += by[:, None] * covariance[place]
    return whole.astype(np.int64)
