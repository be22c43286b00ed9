"""A spiking network in floating point, as the training tools describe it and before anything is rounded.

Shapes leave out time and images: [C, H, W] or [F]. Words as in ``archsim.trace.operation``.
"""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim import arguments
from archsim.errors import UsageError, nearest, printable
from archsim.trace.graph import MAX_ELEMENTS
from archsim.trace.schema import MAX_TIMESTEPS

Shape = tuple[int, ...]
Real = NDArray[np.float64]
RESETS = ("hard", "soft_before_leak", "soft_after_leak")


@dataclass(frozen=True, eq=False)
class SpikingNeuron:
    """A neuron with the potential v, 0 at first: ``H[t] = x[t] + decay v[t-1]``, spike if ``H[t] > threshold``.

    Then v[t] = 0 on a spike with a ``hard`` reset; ``soft_before_leak`` subtracts the threshold from H[t], so that the
    rest decays; ``soft_after_leak`` subtracts it from the decayed H[t]. ``fires_at_threshold`` makes it ``>=``.

    A model with ``H = gain x + decay v`` has the threshold divided by its gain; one that rests at r instead of 0 has r
    subtracted from it. ``threshold`` is a number or one per channel.
    """

    decay: float
    threshold: ArrayLike
    reset: str = "hard"
    fires_at_threshold: bool = False

    def __post_init__(self) -> None:
        if self.reset not in RESETS:
            raise UsageError(
                f"SpikingNeuron.reset: got {self.reset!r}; allowed: {', '.join(RESETS)}{nearest(self.reset, RESETS)}"
            )
        if not 0 <= self.decay <= 1:
            raise UsageError(f"SpikingNeuron.decay: got {self.decay!r}; allowed: 0 to 1")

    def fire(self, currents: Real) -> NDArray[np.bool_]:
        """Spikes [T, I, C, ...] of ``currents`` of that shape."""
        decayed = np.zeros(currents.shape[1:])
        spikes = np.empty(currents.shape, np.bool_)
        for t, current in enumerate(currents):
            spikes[t], decayed = self.step(current, decayed)
        return spikes

    def step(self, current: Real, decayed: Real) -> tuple[NDArray[np.bool_], Real]:
        """Spikes [I, C, ...] of a timestep, and what the potential leaves for the next, as ``decayed`` for this one."""
        threshold = per_channel(self.threshold, current.shape[1:])
        total = current + decayed
        spikes = total >= threshold if self.fires_at_threshold else total > threshold
        after = {
            "hard": np.zeros_like(total),
            "soft_before_leak": self.decay * (total - threshold),
            "soft_after_leak": self.decay * total - threshold,
        }[self.reset]
        return spikes, np.where(spikes, after, self.decay * total)


@dataclass(frozen=True, eq=False)
class Node:
    """One step of the network: ``op`` is ``input``, ``conv2d``, ``linear``, ``affine`` (``weight x + bias``, a number a
    channel: batch-norm, scaling), ``max_pool``, ``sum_pool`` (times ``weight``, a number: averages), ``add``,
    ``concat`` or ``neuron``.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: Shape
    weight: Real | None = None
    bias: Real | None = None
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    neuron: SpikingNeuron | None = None


@dataclass
class Network:
    """``nodes`` by name in the order in which they run; ``inputs`` are what the node ``input`` holds, [T, I, ...], or
    [I, ...] if the same at every timestep. ``recorded`` are outputs [T, I, ...] that the float model gave, by node.
    ``notes`` tell what was read otherwise than it stands in the model; they go into the trace.
    """

    timesteps: int
    inputs: Real
    nodes: dict[str, Node]
    recorded: dict[str, NDArray[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def readers(self, name: str) -> list[Node]:
        """The nodes that read the node ``name``."""
        return [node for node in self.nodes.values() if name in node.inputs]

    def remove(self, name: str, instead: str) -> None:
        """Take the node ``name`` out; who read it reads ``instead``."""
        del self.nodes[name]
        for key, node in self.nodes.items():
            if name in node.inputs:
                inputs = tuple(instead if source == name else source for source in node.inputs)
                self.nodes[key] = replace(node, inputs=inputs)


def per_channel(values: ArrayLike, shape: Shape) -> Real:
    """``values`` (one, one per channel, or one per neuron of ``shape``) to broadcast against [..., *shape]."""
    array = np.asarray(values, np.float64)
    if array.size == 1:
        return array.reshape(())
    if array.shape == (shape[0],):
        return array.reshape(-1, *(1,) * (len(shape) - 1))
    return array


def array_of(inputs: Any) -> NDArray[Any]:
    """Inputs as one array, of whatever type; UsageError if their parts make none."""
    try:
        return np.asarray(inputs)
    # numpy on parts of different shapes, torch on tensors that are elsewhere or have gradients.
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        ragged = "inhomogeneous" in str(error)
        got = "parts of different shapes" if ragged else f"no array, {printable(error)}"
        raise UsageError(f"inputs: got {got}; allowed: one array of numbers, [I, ...] or [T, I, ...]") from None


def check_timesteps(timesteps: int) -> None:
    """T as a trace allows it."""
    if not arguments.WHOLE.fits(timesteps) or not 1 <= timesteps <= MAX_TIMESTEPS:
        raise UsageError(f"T: got {printable(repr(timesteps))}; allowed: 1 to {MAX_TIMESTEPS}")


def check_options(weight_bits: int, input_bits: int, input_scale: float | None, **mappings: object) -> None:
    """What both exporters are told, as a trace allows it; ``mappings`` by name, None where there is none."""
    problems = []
    for name, bits, least, most in (("weight_bits", weight_bits, 2, 8), ("input_bits", input_bits, 1, 16)):
        if not arguments.WHOLE.fits(bits) or not least <= bits <= most:
            problems.append(f"{name}: got {printable(repr(bits))}; allowed: {least} to {most}")
    if input_scale is not None and not (
        isinstance(input_scale, numbers.Real) and 0 < input_scale <= sys.float_info.max
    ):
        problems.append(f"input_scale: got {printable(repr(input_scale))}; allowed: a number above zero")
    problems += [
        f"{name}: must be a mapping, or None, got {printable(repr(given))}"
        for name, given in mappings.items()
        if given is not None and not isinstance(given, Mapping)
    ]
    if problems:
        raise UsageError(problems)


def fold(network: Network) -> list[str]:
    """Take batch-norms and sum pools into the weights around them, exactly; returns what cannot be done.

    An affine node goes into the convolution or linear layer before it, or else into those behind it; a sum pool into
    those behind it: the weights of a linear layer spread over the window, and a convolution behind a pool is a larger
    convolution with a larger stride.
    """
    problems = []
    for name in list(network.nodes):
        if network.nodes[name].op == "affine":
            problems.extend(_fold_affine(network, network.nodes[name]))
    for node in list(network.nodes.values()):
        if node.op == "sum_pool":
            problems.extend(_spread(network, node))
    return problems


def _fold_affine(network: Network, node: Node) -> list[str]:
    """Take an affine node into the layer before it, or into all layers that read it."""
    assert node.weight is not None
    source, readers = network.nodes[node.inputs[0]], network.readers(node.name)
    shift = np.zeros(len(node.weight)) if node.bias is None else node.bias
    if source.weight is not None and source.op in ("conv2d", "linear") and len(network.readers(source.name)) == 1:
        gain = node.weight.reshape(-1, *(1,) * (source.weight.ndim - 1))
        bias = 0.0 if source.bias is None else source.bias * node.weight
        network.nodes[source.name] = replace(source, weight=source.weight * gain, bias=bias + shift)
        if node.name in network.recorded:
            network.recorded[source.name] = network.recorded.pop(node.name)
        network.remove(node.name, instead=source.name)
        return []
    unable = [reader.name for reader in readers if reader.op not in ("affine", "conv2d", "linear")]
    padded = [reader.name for reader in readers if any(reader.padding)] if shift.any() else []
    if unable or padded or not readers:
        why = f"is read by {', '.join(unable)}" if unable else f"shifts what {', '.join(padded)} pads with zeros"
        return [
            f"{node.name}: a batch-norm or scaling behind {source.name} ({source.op})"
            f" {why if readers else 'is read by no layer'}; a trace cannot hold it, and it can be folded only"
            " into convolutions and linear layers: into the one before it only if nothing else reads that one"
        ]
    for reader in readers:
        assert reader.weight is not None
        bias = np.zeros(len(reader.weight)) if reader.bias is None else reader.bias
        if reader.op == "affine":
            new = replace(reader, weight=reader.weight * node.weight, bias=reader.weight * shift + bias)
        else:
            by_channel = reader.weight.reshape(len(reader.weight), len(node.weight), -1)
            weight = (by_channel * node.weight[:, None]).reshape(reader.weight.shape)
            added = (by_channel * shift[:, None]).sum((1, 2)) + bias
            new = replace(reader, weight=weight, bias=added if shift.any() else reader.bias)
        network.nodes[reader.name] = new
    network.remove(node.name, instead=source.name)
    return []


def _spread(network: Network, pool: Node) -> list[str]:
    """Take a sum pool into the layers that read it."""
    readers = network.readers(pool.name)
    problems = []
    for reader in readers:
        why = _not_spreadable(network, pool, reader)
        if why:
            problems.append(f"{pool.name}: an average or sum pool {why}; a trace sums only through weights")
            continue
        assert reader.weight is not None
        assert pool.weight is not None
        (kh, kw), (sh, sw) = pool.kernel, pool.stride
        channels, height, width = network.nodes[pool.inputs[0]].shape
        rows, columns = (pool.shape[1:]) if reader.op == "linear" else reader.weight.shape[2:]
        small = reader.weight.reshape(len(reader.weight), channels, rows, columns) * pool.weight
        size = (height, width) if reader.op == "linear" else ((rows - 1) * sh + kh, (columns - 1) * sw + kw)
        weight = np.zeros((*small.shape[:2], *size))
        for y in range(kh):
            for x in range(kw):
                weight[:, :, y : y + rows * sh : sh, x : x + columns * sw : sw] += small
        new = replace(reader, inputs=pool.inputs)
        if reader.op == "linear":
            new = replace(new, weight=weight.reshape(len(weight), -1))
        else:
            new = replace(
                new, weight=weight, stride=(reader.stride[0] * sh, reader.stride[1] * sw),
                padding=(reader.padding[0] * sh, reader.padding[1] * sw), kernel=size,
            )  # fmt: skip
        network.nodes[reader.name] = new
        network.notes.append(f"{pool.name}: the sum is taken in the weights of {reader.name}")
    if not readers:
        problems.append(f"{pool.name}: an average or sum pool that no layer reads; a trace sums only through weights")
    if not problems:
        del network.nodes[pool.name]
    return problems


def _not_spreadable(network: Network, pool: Node, reader: Node) -> str:
    if reader.op not in ("conv2d", "linear"):
        return f"before {reader.name} ({reader.op})"
    if any(pool.padding):
        return f"with padding {list(pool.padding)}"
    weight = reader.weight
    assert weight is not None
    channels, *sides = network.nodes[pool.inputs[0]].shape
    windows = pool.shape[1:] if reader.op == "linear" else weight.shape[2:]
    spread = [(count - 1) * step + width for count, step, width in zip(windows, pool.stride, pool.kernel, strict=True)]
    values = len(weight) * channels * math.prod(sides if reader.op == "linear" else spread)
    if values > MAX_ELEMENTS:
        return f"that takes {values:,} weights in {reader.name}; allowed: at most {MAX_ELEMENTS:,}"
    if reader.op == "linear" or not any(reader.padding):
        return ""
    uneven = any(
        stride != kernel or side % kernel for side, kernel, stride in zip(sides, pool.kernel, pool.stride, strict=True)
    )
    return f"whose windows overlap or leave a rest before the padded {reader.name}" if uneven else ""


def run(network: Network) -> None:
    """Compute the network on its inputs in float64 and keep every output, [T, I, ...], in ``recorded``."""
    inputs = network.inputs
    timed = inputs if inputs.ndim in (3, 5) else np.broadcast_to(inputs, (network.timesteps, *inputs.shape))
    for node in network.nodes.values():
        given = [network.recorded[source] for source in node.inputs]
        network.recorded[node.name] = timed if node.op == "input" else evaluate(node, given)


def evaluate(node: Node, given: list[Real]) -> Real:
    """The output [T, I, ...] of a node that is no input, of its inputs ``given`` [T, I, ...]."""
    first = given[0]
    match node.op:
        case "add":
            total: Real = np.sum(given, axis=0)
            return total
        case "concat":
            return np.concatenate(given, axis=2)
        case "neuron":
            assert node.neuron is not None
            return node.neuron.fire(first).astype(np.float64)
        case "affine":
            assert node.weight is not None
            shift = 0.0 if node.bias is None else per_channel(node.bias, node.shape)
            return first * per_channel(node.weight, node.shape) + shift
        case "linear":
            assert node.weight is not None
            product: Real = first.reshape(*first.shape[:2], -1) @ node.weight.T
            return product if node.bias is None else product + node.bias
    (top, left), (down, right) = node.padding, node.stride
    around = ((0, 0), (0, 0), (0, 0), (top, top), (left, left))
    padded = np.pad(first, around, constant_values=-np.inf if node.op == "max_pool" else 0.0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, node.kernel, axis=(3, 4))[:, :, :, ::down, ::right]
    if node.op == "max_pool":
        highest: Real = windows.max((-2, -1))
        return highest
    assert node.weight is not None
    if node.op == "sum_pool":
        summed: Real = windows.sum((-2, -1)) * node.weight
        return summed
    # Each timestep by itself, as the product needs all windows side by side.
    products = [np.einsum("ichwyx,ncyx->inhw", now, node.weight, optimize=True) for now in windows]
    sums: Real = np.stack(products)
    return sums if node.bias is None else sums + per_channel(node.bias, node.shape)
