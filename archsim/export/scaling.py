"""Scales: what one unit of each integer tensor is worth, and the operations in integers that follow from it.

Weights of an output channel c are ``round(w / s[c])``. A neuron only compares, so s[c] is free: with r its threshold
and d the step that its weights ask for (``rounding``: the largest is the largest integer), ``h = floor(r / d)`` is its
integer threshold and ``s[c] = r / h`` the scale, which makes the threshold exact and costs hardware nothing. Where
several neurons read one sum, that holds for the first; the others' thresholds have fraction bits. Sums, averages,
products and other values without weights have the scale that follows from their inputs, and their neurons have fraction
bits too.

What is added must have one scale, so the branches of a sum share theirs; what has another one without weights is
brought to it by a layer with one weight per channel. A branch that multiplies sums or pixels, not spikes (a membrane
shortcut), has products so small that the common scale may leave nothing of its weights: it keeps its own, and a
requantiser brings its sums to the common one. Layers without neurons (the read-out), and sums whose channels mix in a
product, have one scale for all channels. Biases are rounded in units of s[c].
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import UsageError
from archsim.export.folding import by_channel
from archsim.export.network import SCALED, Network, Node, Real, per_channel
from archsim.export.neuron_rules import FRACTION_BITS, SAME_DECAY, SpikingNeuron, rounded
from archsim.export.rounding import Nearest
from archsim.trace.neurons import MAX_LEAK_SHIFT, Neuron
from archsim.trace.operation import Operation, Requantiser
from archsim.trace.schema import MAX_SHIFT

Range = tuple[int, int]

# Thresholds beyond this, in units of the largest integer that is read, belong to channels whose weights are next to
# nothing.
LARGEST_THRESHOLD = 1 << 20
# That of a channel without weights.
UNITS_OF_NOTHING = 127
# Thresholds, biases and sums are stored in 32 bits.
LARGEST_STORED = (1 << 31) - 1
# How many times smaller than the others the products of weights and integers may be and still share the others' unit,
# which leaves them three bits less. Products of weights and spikes always share it.
COARSE = 8
REQUANTISED_BITS = 16
# Constants that are multiplied by something.
CONSTANT_BITS = 16
# What 32-bit floats make of the quotient of two numbers.
_ROUNDED = 1e-7
# Potentials of neurons that read spikes are exact where 64 bits are enough.
_EXACT_BITS = 48
_PASS_ON = ("add", "max_pool", "sum_pool", "rearrange", "upsample", "slice", "concat", "delay")
# Weights that are scaled at once.
_AT_ONCE = 1 << 20
# Of a read-out, potentials are stored in 32 bits.
_STORED_BITS = 31
# Values of different channels meet in these.
_MIX = ("matmul", "rearrange", "multiply", "slice")


def nearest_leak(decay: float) -> tuple[float, int, bool]:
    """The decay closest to ``decay`` that a shift gives, its shift (0: no leak), and whether it is subtracted."""
    choices = [(1.0, 0, False)]
    for shift in range(1, MAX_LEAK_SHIFT + 1):
        choices += [(2.0**-shift, shift, False), (1 - 2.0**-shift, shift, True)]
    return min(choices, key=lambda choice: abs(choice[0] - decay))


class Quantiser:
    """Chooses scales and writes the operations. ``scales`` has the real value of one unit of each node, [C] or one."""

    def __init__(self, network: Network, rounding: Nearest, approximate_leak: bool, input_scale: float) -> None:
        self.network = network
        self.rounding = rounding
        self.approximate_leak = approximate_leak
        self.problems: list[str] = []
        self.notes: list[str] = []
        (source,) = (name for name, node in network.nodes.items() if node.op == "input")
        self.scales: dict[str, Real] = {source: np.array(input_scale)}
        # Of layers whose weights have another scale than their sums.
        self.apart: dict[str, Real] = {}
        self.weight_errors: dict[str, float] = {}
        self._integers: dict[str, tuple[NDArray[np.int8], NDArray[np.int64] | None]] = {}
        self._reaches: dict[str, Range] = {}
        self._neurons: dict[str, Neuron] = {}
        self._open: set[str] = set()
        self._weigh()
        self.groups = self._groups()

    # ---- Scales.

    def _weighted(self, name: str) -> bool:
        """Does the node hold weighted sums, whose scale can be chosen?"""
        node = self.network.nodes[name]
        if node.op in ("conv2d", "linear"):
            return True
        if node.op == "constant":
            return not any(reader.op in ("multiply", "matmul") for reader in self.network.readers(name))
        passes = node.op in _PASS_ON or (node.op == "reduce" and node.options["axis"] == "positions")
        return passes and any(self._weighted(source) for source in node.inputs)

    def _weigh(self) -> None:
        """Give weights to what is added to something of another scale, so that both can have one."""
        for node in list(self.network.nodes.values()):
            if node.op != "add":
                continue
            plain = [source for source in node.inputs if not self._weighted(source)]
            if len(plain) == len(node.inputs):
                scales = [self.scale(source) for source in plain]
                if all(np.array_equal(scale, scales[0]) for scale in scales):
                    continue
            before: dict[str, Node] = {}
            for key, other in self.network.nodes.items():
                if key == node.name and plain:
                    named = {source: f"{key}.{place}" for place, source in enumerate(node.inputs) if source in plain}
                    for source, name in named.items():
                        read = self.network.nodes[source]
                        before[name] = by_channel(name, read, np.ones(read.shape[0]))
                        self.notes.append(f"{key}: a layer {name} gives {source} a weight, for a common unit")
                    other = replace(node, inputs=tuple(named.get(source, source) for source in node.inputs))
                before[key] = other
            self.network.nodes = before

    def _groups(self) -> dict[str, tuple[str, float]]:
        """For each node of weighted sums the first of those whose scales hang together, and how many of its units one
        of the node's is worth."""
        found: dict[str, tuple[str, float]] = {}

        def join(one: str, other: str, times: float) -> None:
            """A unit of ``one`` is ``times`` that of ``other``."""
            (first, ratio), (second, its) = found[one], found[other]
            factor = times * its / ratio
            if first == second:
                if not math.isclose(factor, 1.0):
                    self.problems.append(f"{one}: adds {other} and a multiple of it; allowed: with neurons between")
                return
            for name, (leader, own) in found.items():
                if leader == first:
                    found[name] = (second, own * factor)

        found |= {name: (name, 1.0) for name in self.network.nodes}
        for node in self.network.nodes.values():
            if self._weighted(node.name) and node.op not in ("conv2d", "linear", "concat"):
                for source in node.inputs:
                    join(node.name, source, node.factor if node.op in SCALED else 1.0)
        return found

    def _group_scale(self, leader: str) -> Real:
        """The scale [C] of a group of weighted sums: that of the first neuron that reads one, or one for all."""
        nodes = self.network.nodes
        members = {nodes[name]: ratio for name, (first, ratio) in self.groups.items() if first == leader}
        sizes = {
            node.name: self._steps(node) / ratio
            for node, ratio in members.items() if node.op in ("conv2d", "linear")
        }  # fmt: skip
        if not sizes:
            return np.array(self._own_unit(nodes[leader]))
        most = max(float(size.max()) for size in sizes.values())
        apart = {
            name: size for name, size in sizes.items()
            if size.max() * COARSE < most and self._reach(nodes[name]) > 1
        }  # fmt: skip
        kept = [size for name, size in sizes.items() if name not in apart]
        mixed = any(
            reader.op in _MIX or (reader.op == "reduce" and reader.options["axis"] == "channels")
            for node in members for reader in self.network.readers(node.name)
        )  # fmt: skip
        if mixed or len({len(size) for size in kept}) > 1:
            scale = np.array(max(float(size.max()) for size in kept) or 1.0)
        else:
            scale = self._scale_of(members, np.max(kept, axis=0))
        for name, size in apart.items():
            unit = scale * self.groups[name][1]
            self.apart[name] = np.where(size > 0, size * self.groups[name][1], unit)
            self.notes.append(
                f"{name}: a requantiser brings its products of weights and integers to the unit of the sum that follows"
            )
        return scale

    def _scale_of(self, members: Mapping[Node, float], steps: Real) -> Real:
        """The scale [C] of weighted sums whose weights have ``steps`` [C], or about that."""
        neurons = [(ratio, *found) for node, ratio in members.items() for found in self._neurons_behind(node.name)]
        if not neurons:
            return np.full(len(steps), float(steps.max()) or 1 / UNITS_OF_NOTHING)
        ratio, reader, first = neurons[0]
        threshold = self._thresholds(reader)[first : first + len(steps)] / ratio
        with np.errstate(divide="ignore"):
            units = self.rounding.thresholds(threshold / steps)
        # A channel without weights still compares its bias with its threshold.
        biases = [np.abs(node.bias) / own for node, own in members.items() if node.bias is not None]
        most = LARGEST_STORED * threshold / np.max([threshold, *biases], axis=0)
        most = np.clip(np.floor(most), 1, LARGEST_THRESHOLD * max(map(self._reach, members)))
        units = np.where(steps == 0, UNITS_OF_NOTHING, np.minimum(units, most))
        if units.min() < 1:
            channel = int(units.argmin())
            self.problems.append(
                f"{reader.name}: the threshold of channel {channel}, {threshold[channel]:.4g}, is below one step of"
                f" its weights, {steps[channel]:.4g}; allowed: more bits"
            )
            units = np.maximum(units, 1)
        scale: Real = threshold / units
        return scale

    def _neurons_behind(self, name: str, first: int = 0) -> Iterator[tuple[Node, int]]:
        """The neurons that read the node ``name``, and at which of their channels it begins."""
        for reader in self.network.readers(name):
            if reader.op == "neuron" and reader.neuron is not None and reader.neuron.threshold is not None:
                yield reader, first
            if reader.op == "concat":
                before = reader.inputs[: reader.inputs.index(name)]
                yield from self._neurons_behind(
                    reader.name, first + sum(self.network.nodes[source].shape[0] for source in before)
                )

    def _thresholds(self, reader: Node) -> Real:
        """Real thresholds [C] of a neuron node, the least of each channel."""
        assert reader.neuron is not None and reader.neuron.threshold is not None
        shape = self.network.nodes[reader.inputs[0]].shape
        full = np.broadcast_to(per_channel(reader.neuron.threshold, shape), shape).reshape(shape[0], -1)
        if full.min() <= 0:
            self._say(f"{reader.name}: a threshold of {full.min():.4g} above rest; allowed: above zero")
            return np.ones(shape[0])
        least: Real = full.min(1)
        return least

    def _say(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def _steps(self, node: Node) -> Real:
        """What an integer weight of each channel is worth, as far as its weights are asked."""
        return np.concatenate([self.rounding.steps(node.name, weight) for _, weight in self._effective_weights(node)])

    def _effective_weights(self, node: Node) -> Iterator[tuple[slice, Real]]:
        """Some output channels after the others, as those of a classifier take much memory, and their weights [n, K]
        for integer inputs: times the real value of the input's unit."""
        assert node.weight is not None
        weight, scale = node.weight.reshape(len(node.weight), -1), self.scale(node.inputs[0])
        units = np.repeat(scale, node.groups * weight.shape[1] // scale.size).reshape(node.groups, -1)
        group = np.arange(len(weight)) // (len(weight) // node.groups)
        step = max(1, _AT_ONCE // weight.shape[1])
        for first in range(0, len(weight), step):
            rows = slice(first, first + step)
            yield rows, weight[rows] * units[group[rows]]

    def scale(self, name: str) -> Real:
        """The real value of one unit of the node ``name``: one number, or one per channel."""
        if name not in self.scales:
            if self._weighted(name) and self.network.nodes[name].op != "concat":
                self._choose(self.groups[name][0], name)
            else:
                self.scales[name] = self._follows(self.network.nodes[name])
        return self.scales[name]

    def _choose(self, leader: str, name: str) -> None:
        if leader in self._open:
            raise UsageError(f"{name}: adds {leader} and what weights make of {leader}; allowed: with neurons between")
        self._open.add(leader)
        scale = self._group_scale(leader)
        for member, (first, ratio) in self.groups.items():
            if first == leader:
                self.scales[member] = scale * ratio

    def _follows(self, node: Node) -> Real:
        """The scale of what has no weights, from those of its inputs."""
        if node.op == "constant":
            return np.array(self._own_unit(node))
        if node.op == "neuron":
            assert node.neuron is not None
            if node.neuron.fires != "nothing":
                return np.array(1.0)
            return self.scale(node.inputs[0]) * 2.0 ** -self._neuron(node).fraction_bits
        parts = [self.scale(source) for source in node.inputs]
        shapes = [self.network.nodes[source].shape for source in node.inputs]
        if node.op == "concat" and any(part.ndim or part != parts[0] for part in parts):
            spread = [np.broadcast_to(part, shape[0]) for part, shape in zip(parts, shapes, strict=True)]
            return np.concatenate(spread)
        if node.op in ("multiply", "matmul"):
            return np.array(math.prod(float(part.max()) for part in parts) * node.factor)
        if node.op == "reduce" and node.options["axis"] == "channels":
            return np.array(float(parts[0].max()) * node.factor)
        if node.op == "slice" and parts[0].ndim and node.options["axis"] == 0:
            return parts[0][node.options["start"] : node.options["stop"]]
        return parts[0] * (node.factor if node.op in SCALED else 1.0)

    def _own_unit(self, node: Node) -> float:
        """The scale of a constant that shares none."""
        assert node.weight is not None
        largest = (1 << (CONSTANT_BITS - 1)) - 1
        return float(node.options.get("unit", float(np.abs(node.weight).max()) / largest or 1.0))

    def constants(self) -> dict[str, NDArray[np.int64]]:
        """The integers of what is the same for all inputs, by name."""
        return {
            node.name: np.round(node.weight / per_channel(self.scale(node.name), node.shape)).astype(np.int64)
            for node in self.network.nodes.values()
            if node.op == "constant" and node.weight is not None
        }

    # ---- Ranges.

    def _reach(self, node: Node) -> int:
        """The largest integer that the weights of ``node`` are multiplied by, as far as that is known."""
        if node.op not in ("conv2d", "linear"):
            return 1
        if self._weighted(node.inputs[0]):
            return LARGEST_STORED
        low, high = self.reach(node.inputs[0])
        return max(-low, high, 1)

    def reach(self, name: str) -> Range:
        """Bounds of the integers of the node ``name``."""
        if name not in self._reaches:
            self._reaches[name] = self._bounds(self.network.nodes[name])
        return self._reaches[name]

    def _bounds(self, node: Node) -> Range:
        if node.op == "input":
            whole = np.round(self.network.inputs / self.scales[node.name])
            return int(whole.min()), int(whole.max())
        if node.op == "neuron":
            neuron = node.neuron
            assert neuron is not None
            reaches = {"spike": (0, 1), "signed": (-1, 1), "integer": (0, neuron.most)}
            return reaches.get(neuron.fires, (-LARGEST_STORED, LARGEST_STORED))
        if node.op == "constant":
            integers = self.constants()[node.name]
            return int(integers.min()), int(integers.max())
        parts = [self.reach(source) for source in node.inputs]
        low, high = parts[0]
        match node.op:
            case "conv2d" | "linear":
                if node.name in self.apart:
                    return -(1 << (REQUANTISED_BITS - 1)), (1 << (REQUANTISED_BITS - 1)) - 1
                weight, bias = self._integer_weights(node)
                sums = np.abs(weight.reshape(len(weight), -1)).sum(1, dtype=np.int64) * max(-low, high)
                most = min(int((sums + (0 if bias is None else np.abs(bias))).max()), LARGEST_STORED)
                return -most, most
            case "delay":
                return min(low, 0), max(high, 0)
            case "add":
                return sum(one for one, _ in parts), sum(one for _, one in parts)
            case "multiply" | "matmul":
                corners = [one * other for one in parts[0] for other in parts[1]]
                terms = self._terms(node)
                return terms * min(*corners, 0), terms * max(*corners, 0)
            case "sum_pool" | "reduce":
                terms = self._terms(node)
                return terms * min(low, 0), terms * max(high, 0)
        return min(one for one, _ in parts), max(one for _, one in parts)

    def _terms(self, node: Node) -> int:
        """How many values or products make one of the output."""
        channels, *positions = self.network.nodes[node.inputs[0]].shape
        match node.op:
            case "multiply":
                return 1
            case "sum_pool":
                return math.prod(node.kernel)
            case "reduce":
                by_position = node.options["axis"] == "positions"
                return math.prod(positions) if by_position else channels // int(node.options["groups"])
        first = bool(node.options.get("transpose_first"))
        return math.prod(positions) if first else channels // int(node.options.get("heads", 1))

    # ---- Operations.

    def operations(self) -> Iterator[Operation]:
        """The network as operations; a neuron belongs to the sum before it where nothing else reads that."""
        network = self.network
        fused = {
            node.inputs[0]
            for node in network.nodes.values()
            if node.op == "neuron"
            and network.nodes[node.inputs[0]].op in ("conv2d", "linear", "add", *SCALED)
            and len(network.readers(node.inputs[0])) == 1
        }
        for node in network.nodes.values():
            if node.op in ("input", "constant") or node.name in fused:
                continue
            if node.op != "neuron":
                yield self._operation(node, node.name, None)
                continue
            summed = network.nodes[node.inputs[0]]
            if summed.name not in fused:
                summed = Node(node.name, "add", node.inputs, node.shape)
            yield self._operation(summed, node.name, self._neuron(node))

    def _neuron(self, node: Node) -> Neuron:
        """The neurons of a node in the units of what they read."""
        if node.name not in self._neurons:
            self._neurons[node.name] = self._rounded(node)
        return self._neurons[node.name]

    def _rounded(self, node: Node) -> Neuron:
        neuron, source = node.neuron, self.network.nodes[node.inputs[0]]
        assert neuron is not None
        if self.approximate_leak and np.size(neuron.decay) == 1:
            decay = float(np.asarray(neuron.decay).reshape(()))
            near = nearest_leak(decay)[0]
            if abs(near - decay) > SAME_DECAY:
                self.notes.append(f"{node.name}: a decay of {decay:.6g} is taken as {near:.6g}")
            neuron = replace(neuron, decay=near)
        scale = self.scale(source.name)
        weighted = self._weighted(source.name)
        low, high = self.reach(source.name)
        most = {} if weighted else {"most_bits": _EXACT_BITS}
        if neuron.fires == "nothing":
            most = {"most_bits": _spare_bits(neuron, scale, max(-low, high, 1), self.network.timesteps)}
        if neuron.threshold is not None:
            self._thresholds(node)
        if self.problems:
            return Neuron("if", np.ones(node.shape[0], np.int64))
        try:
            found = rounded(
                _in_units(neuron, scale, node.shape), 1.0, max(-low, high, 1), self.network.timesteps, **most
            )  # fmt: skip
        except UsageError as error:
            self._say(f"{node.name}: {error.problems[0]}")
            return Neuron("if", np.ones(node.shape[0], np.int64))
        if found.decay_error > SAME_DECAY:
            self.notes.append(f"{node.name}: decays are rounded, by at most {found.decay_error:.2g}")
        whole = found.neuron.threshold
        if whole is not None and found.threshold_error > SAME_DECAY and neuron.reset.startswith("soft"):
            self.notes.append(f"{node.name}: thresholds are rounded, by at most {100 * found.threshold_error:.2g} %")
        if whole is not None and whole.ndim == 0:
            return _spread(found.neuron, node.shape[:1])
        return found.neuron

    def _integer_weights(self, node: Node) -> tuple[NDArray[np.int8], NDArray[np.int64] | None]:
        if node.name not in self._integers:
            assert node.weight is not None
            scale = np.broadcast_to(self.scale(node.name), len(node.weight))
            scale = self.apart.get(node.name, scale)
            integers = np.empty(node.weight.shape, np.int8)
            bias = np.zeros(len(integers)) if node.bias is None else node.bias / scale
            power = error = 0.0
            for rows, real in self._effective_weights(node):
                column = scale[rows].reshape(-1, 1)
                weight, gained = self.rounding.integers(node, rows.start, real / column, scale[rows])
                power += float((real**2).sum())
                error += float(((weight * column - real) ** 2).sum())
                integers[rows] = weight.reshape(-1, *node.weight.shape[1:])
                bias[rows] += gained
            self.weight_errors[node.name] = math.sqrt(error / power) if power else 0.0
            self._integers[node.name] = (integers, np.round(bias).astype(np.int64) if bias.any() else None)
        return self._integers[node.name]

    def _operation(self, node: Node, output: str, neuron: Neuron | None) -> Operation:
        if node.op not in ("conv2d", "linear"):
            op = {"max_pool": "pool", "sum_pool": "pool"}.get(node.op, node.op)
            reduction = "sum" if node.op == "sum_pool" else "max"
            return Operation(
                node.name, op, node.inputs, output, node.kernel, node.stride, node.padding, neuron=neuron,
                reduction=reduction, **node.options,
            )  # fmt: skip
        scale, requantiser = self.scale(node.name), None
        if node.name in self.apart:
            requantiser = _requantiser(self.apart[node.name] / scale)
            scale = self.apart[node.name]
        weight, bias = self._integer_weights(node)
        return Operation(
            node.name, node.op, node.inputs, output, node.kernel, node.stride, node.padding, weight=weight,
            weight_bits=self.rounding.bits(node.name), weight_scale=float(np.max(scale)) if neuron is None else 1.0,
            bias=bias, neuron=neuron, requantiser=requantiser, dilation=node.dilation, groups=node.groups,
            **node.options,
        )  # fmt: skip


def _spare_bits(neuron: SpikingNeuron, scale: Real, largest: int, timesteps: int) -> int:
    """Fraction bits with which the potentials of a read-out fit 32 bits, for currents of at most ``largest``."""
    grown = float(largest)
    for decay in (neuron.current_decay, neuron.decay):
        if decay is not None:
            kept = float(np.max(decay))
            grown *= timesteps if kept == 1 else min(timesteps, 1 / (1 - kept))
    grown += float(np.max(np.abs(neuron.start)) / np.min(scale))
    return min(max(_STORED_BITS - 1 - math.ceil(grown).bit_length(), 0), FRACTION_BITS)


def _requantiser(factor: Real) -> Requantiser:
    """What multiplies sums by ``factor`` [C], with factors of 24 bits."""
    shift = min(max(24 - math.ceil(math.log2(float(factor.max()))), 0), MAX_SHIFT)
    multiplier = np.maximum(np.round(np.ldexp(factor, shift)), 1).astype(np.int64)
    return Requantiser(multiplier, shift, REQUANTISED_BITS)


def _in_units(neuron: SpikingNeuron, scale: Real, shape: Sequence[int]) -> SpikingNeuron:
    """``neuron`` for currents in units of ``scale``, and with a parameter for each channel or for each neuron."""

    def divided(values: ArrayLike) -> Real:
        array = np.asarray(values, np.float64)
        per_neuron = array.ndim > 1
        wide = np.broadcast_to(array if per_neuron or array.size > 1 else array.reshape(()), _axes(array, shape))
        unit = np.broadcast_to(scale, shape[0]).reshape(-1, *(1,) * (wide.ndim - 1))
        quotient = wide / unit
        # The quotient of two rounded numbers may miss the integer that it is.
        whole = np.round(quotient)
        near = (unit != 1) & (np.abs(quotient - whole) <= _ROUNDED * np.abs(quotient))
        return np.where(near, whole, quotient)

    own: dict[str, Any] = {}
    for name in ("threshold", "adaptation", "reset_value", "start"):
        values = getattr(neuron, name)
        if values is not None and np.any(values):
            own[name] = divided(values)
    return replace(neuron, **own)


def _axes(array: Real, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape) if array.ndim > 1 else tuple(shape[:1])


def _spread(neuron: Neuron, shape: tuple[int, ...]) -> Neuron:
    assert neuron.threshold is not None
    return replace(neuron, threshold=np.broadcast_to(neuron.threshold, shape))
