"""From a float network to integers, and how far apart the two are.

Weights of an output channel c are ``round(w / s[c])`` and fit ``weight_bits``. A neuron only compares, so s[c] is free:
with r its threshold and w its largest weight, ``h = floor(r (2^(bits-1) - 1) / w)`` is its integer threshold and
``s[c] = r / h`` the scale, which makes the threshold exact and costs hardware nothing. Where several neurons read one
sum, that holds for the first; the others' thresholds are rounded, which is noted. Neurons that read spikes or other
integers without weights have no such scale: ``thresholds``.

What is added must have one scale, so the branches of a sum share theirs; a branch of spikes is brought to it by a 1x1
convolution with one weight per channel. A branch that multiplies sums, not spikes (a membrane shortcut), has products
so small that the common scale may leave nothing of its weights: it keeps its own, and a requantiser brings its sums to
the common one. Layers without neurons (the read-out) have one scale for all channels, so that the largest integer is
the largest real number. Biases are rounded in units of s[c].

A decay d becomes a shift: d = 1, 2^-l or 1 - 2^-l, l = 1 to 8. Potentials keep ``l (T - 1)`` fraction bits, which loses
nothing, but behind weights at most ``FRACTION_BITS``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import TraceError, UsageError
from archsim.export.comparison import LayerError, compared, refusals, table, warnings
from archsim.export.expansion import expanded
from archsim.export.network import Network, Node, Real, fold, per_channel
from archsim.export.thresholds import Range, repeated, units
from archsim.trace.model import Trace
from archsim.trace.neurons import MAX_LEAK_SHIFT, Neuron
from archsim.trace.operation import Operation, Requantiser
from archsim.trace.resimulation import compute
from archsim.trace.schema import MAX_SHIFT

# A fraction bit is 2^-16 of a weight's unit, itself a hundredth of the threshold and less.
FRACTION_BITS = 16
# Thresholds beyond this, in units of the largest integer that is read, belong to channels whose weights are next to
# nothing.
LARGEST_THRESHOLD = 1 << 20
# Thresholds, biases and sums are stored in 32 bits.
LARGEST_STORED = (1 << 31) - 1
# How far a decay may be from a shift and count as equal: float32 has 24 bits.
SAME_DECAY = 1e-6
# How many times smaller than the others the products of weights and sums may be and still share the others' unit, which
# leaves them three bits less. Products of weights and spikes always share it.
COARSE = 8
REQUANTISED_BITS = 16
# How far a threshold may be from its integers, relative to it, and count as exact: what float64 makes of a quotient.
ROUNDED = 1e-9


@dataclass(frozen=True, eq=False)
class Exported:
    """The integer network on the inputs as a ``trace``, and the stated error: per layer, and the share of inputs whose
    class (the largest sum over time of the last layer) is the float model's; None where the last layer has no classes.

    ``warnings`` tell where the trace may not be what was wanted: layers that differ from the model and layers
    that never fire. ``notes`` tell what was read or done otherwise than it stands in the model.
    """

    trace: Trace
    layers: tuple[LayerError, ...]
    class_agreement: float | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [*(f"warning: {warning}" for warning in self.warnings), *table(self.layers)]
        if self.class_agreement is not None:
            lines.append(
                f"same class as the float model: {100 * self.class_agreement:.2f} % of {self.trace.images} inputs"
            )
        return "\n".join([*lines, *self.notes])


def export(
    network: Network,
    *,
    name: str,
    provenance: Mapping[str, Any],
    weight_bits: int = 8,
    input_bits: int = 8,
    input_scale: float | None = None,
    approximate_leak: bool = False,
    accept_differences: bool = False,
) -> Exported:
    """Quantise ``network``, run it on its inputs and compare; ``UsageError`` with all that a trace cannot hold.

    A layer whose spikes are others than the model's (``LayerError``) is refused too, but not with
    ``accept_differences``.
    """
    problems = [
        f"{node.name}: weights that are not finite"
        for node in network.nodes.values()
        if not all(np.isfinite(array).all() for array in (node.weight, node.bias) if array is not None)
    ]
    shapes = {node.name: node.weight.shape for node in network.nodes.values() if node.weight is not None}
    problems += fold(network)
    _weigh_spikes(network)
    quantiser = _Quantiser(network, weight_bits, approximate_leak)
    problems += quantiser.problems
    if problems:
        raise UsageError(problems)
    inputs, scale, kind = _integer_inputs(network, input_bits, input_scale)
    quantiser.scales[_input_of(network).name] = np.array(scale)
    operations = quantiser.operations()
    if quantiser.problems:
        raise UsageError(quantiser.problems)
    source = _input_of(network).name
    kinds = {source: kind} if kind else {}
    tensors = _run(operations, {source: inputs}, network.timesteps, kinds)
    alone = _run(operations, {source: inputs}, network.timesteps, kinds, network.recorded)
    layers = quantiser.errors(operations, tensors, alone)
    if not accept_differences and (refused := refusals(layers)):
        raise UsageError(refused)
    agreement = _class_agreement(network, operations, tensors)
    larger = expanded(network, shapes)
    notes = (*network.notes, *quantiser.notes, *(f"{name}: {why}" for name, (_, why) in larger.items()))
    warned = warnings(layers)
    details: dict[str, Any] = {
        "spikes_that_differ_from_the_float_model": {
            row.layer: round(row.differing, 6) for row in layers if row.differing is not None
        },
        "weight_error": {row.layer: round(row.weight_error, 6) for row in layers if row.weight_error is not None},
        "same_class_as_the_float_model": agreement,
        "scales": "one per output channel, folded into its threshold",
        **({"notes": list(notes)} if notes else {}),
        **({"warnings": warned} if warned else {}),
    }
    if larger:
        details["expanded_layers"] = {name: factor for name, (factor, _) in larger.items()}
        details["expanded_layers_why"] = {name: why for name, (_, why) in larger.items()}
    labels = {"kind": "trained", "weights": "trained", **provenance}
    labels["details"] = {**labels.get("details", {}), **details}
    trace = Trace(
        network=name, timesteps=network.timesteps, operations=operations, tensors=tensors, provenance=labels,
        kinds=kinds, scales={} if inputs.dtype == np.bool_ or kind else {source: scale},
    )  # fmt: skip
    return Exported(trace, layers, agreement, notes, tuple(warned))


def nearest_leak(decay: float) -> tuple[float, int, bool]:
    """The decay closest to ``decay`` that a trace has, its shift (0: no leak), and whether the shift is subtracted."""
    choices = [(1.0, 0, False)]
    for shift in range(1, MAX_LEAK_SHIFT + 1):
        choices += [(2.0**-shift, shift, False), (1 - 2.0**-shift, shift, True)]
    return min(choices, key=lambda choice: abs(choice[0] - decay))


def _is_shift(decay: float) -> bool:
    return abs(nearest_leak(decay)[0] - decay) <= SAME_DECAY


def leak_problems(nodes: Mapping[str, Node], approximate_leak: bool) -> list[str]:
    """The neurons whose decay no shift gives, unless the nearest one may be taken."""
    return [
        f"{node.name}: a decay of {node.neuron.decay:.6g} per timestep is no shift; allowed: 1, 2^-l and 1 - 2^-l,"
        f" nearest {nearest_leak(node.neuron.decay)[0]:.6g}; approximate_leak takes that and states the error"
        for node in nodes.values()
        if node.neuron is not None and not _is_shift(node.neuron.decay) and not approximate_leak
    ]


def _input_of(network: Network) -> Node:
    return next(node for node in network.nodes.values() if node.op == "input")


def _integer_inputs(network: Network, bits: int, scale: float | None) -> tuple[NDArray[Any], float, str]:
    """Inputs as a trace stores them, the real value of one unit, and their kind where the array does not tell."""
    values = network.inputs
    timed = values.ndim in (3, 5)
    whole = bool((values == np.round(values)).all())
    if timed and scale is None and whole and values.min() >= 0 and values.max() <= 1:
        return values.astype(np.bool_), 1.0, ""
    if timed and scale is None and whole and np.abs(values).max() <= 1:
        return values.astype(np.int8), 1.0, "signed_spike"
    signed = bool(values.min() < 0)
    largest = (1 << (bits - signed)) - 1
    dtype = (np.int8 if signed else np.uint8) if bits <= 8 else np.int16 if signed or bits < 16 else np.int32
    if scale is None:
        scale = 1.0 if whole and np.abs(values).max() <= largest else float(np.abs(values).max()) / largest
    scale = float(scale)  # it may be an integer of any size
    integers = np.round(values / scale)
    if np.abs(integers).max() > largest:
        got = f"{np.abs(integers).max():.0f}"
        raise UsageError(
            f"input_scale: in units of {scale:g} the inputs reach {got}; allowed with {bits} bits: {largest}"
        )
    error = float(np.abs(integers * scale - values).max())
    if error > 1e-6 * float(np.abs(values).max()):
        network.notes.append(f"inputs: rounded to {bits} bits, off by at most {error:.3g}")
    return integers.astype(dtype), scale, ""


def _weigh_spikes(network: Network) -> None:
    """Sums of weighted currents and spikes: give the spikes weights, so that both can have one scale."""
    for node in list(network.nodes.values()):
        if node.op != "add":
            continue
        plain = [source for source in node.inputs if not _weighted(network, source)]
        if not plain or len(plain) == len(node.inputs):
            continue
        renamed = {source: f"{node.name}.{position}" for position, source in enumerate(node.inputs) if source in plain}
        before: dict[str, Node] = {}
        for key, other in network.nodes.items():
            if key == node.name:
                for source, name in renamed.items():
                    before[name] = _identity(network.nodes[source], name)
                    network.notes.append(f"{node.name}: a layer {name} gives the spikes of {source} a weight")
                other = replace(node, inputs=tuple(renamed.get(source, source) for source in node.inputs))
            before[key] = other
        network.nodes = before


def _identity(source: Node, name: str) -> Node:
    channels = source.shape[0]
    one = np.eye(channels)
    if len(source.shape) == 3:
        return Node(name, "conv2d", (source.name,), source.shape, weight=one.reshape(channels, channels, 1, 1))
    return Node(name, "linear", (source.name,), source.shape, weight=one)


def _weighted(network: Network, name: str) -> bool:
    """Does the node hold weighted sums, whose scale can be chosen?"""
    node = network.nodes[name]
    if node.op in ("conv2d", "linear"):
        return True
    return node.op in ("add", "max_pool", "concat") and any(_weighted(network, source) for source in node.inputs)


class _Quantiser:
    """Chooses scales and writes the operations. ``scales`` has the real value of one unit of each node, [C] or one."""

    def __init__(self, network: Network, weight_bits: int, approximate_leak: bool) -> None:
        self.network = network
        self.bits = weight_bits
        self.largest = (1 << (weight_bits - 1)) - 1
        self.problems = leak_problems(network.nodes, approximate_leak)
        self.notes = [
            f"{node.name}: a decay of {node.neuron.decay:.6g} is taken as {nearest_leak(node.neuron.decay)[0]:.6g}"
            for node in network.nodes.values()
            if node.neuron is not None and not _is_shift(node.neuron.decay)
        ]
        self.scales: dict[str, Real] = {}
        # Of layers whose weights have another scale than their sums.
        self.apart: dict[str, Real] = {}
        self.weight_errors: dict[str, float] = {}
        self._open: set[str] = set()
        self.groups = self._groups()

    def _groups(self) -> dict[str, str]:
        """For each node of weighted sums the first of those that must have the same scale."""
        leader: dict[str, str] = {}

        def find(name: str) -> str:
            while leader[name] != name:
                name = leader[name]
            return name

        for node in self.network.nodes.values():
            leader[node.name] = node.name
            if node.op in ("add", "max_pool"):
                for source in node.inputs:
                    if _weighted(self.network, source):
                        leader[find(node.name)] = find(source)
        return {name: find(name) for name in leader}

    def _group_scale(self, leader: str) -> Real:
        """The scale [C] of a group of weighted sums: that of the first neuron that reads one, or one for all."""
        nodes = self.network.nodes
        members = [nodes[name] for name, first in self.groups.items() if first == leader]
        sizes = {node.name: self._largest_weight(node) for node in members if node.weight is not None}
        most = max(float(size.max()) for size in sizes.values())
        apart = {
            name: size for name, size in sizes.items()
            if size.max() * COARSE < most and _weighted(self.network, nodes[name].inputs[0])
        }  # fmt: skip
        largest = np.max([size for name, size in sizes.items() if name not in apart], axis=0)
        scale = self._scale_of(members, largest)
        for name, size in apart.items():
            self.apart[name] = np.where(size > 0, size / self.largest, scale)
            self.notes.append(
                f"{name}: a requantiser brings its products of weights and sums to the unit of the sum that follows"
            )
        return scale

    def _scale_of(self, members: Sequence[Node], largest: Real) -> Real:
        """The scale [C] of weighted sums whose weights reach ``largest`` [C]."""
        neurons = [found for node in members for found in self._neurons_behind(node.name)]
        if not neurons:
            return np.full(len(largest), float(largest.max() or 1) / self.largest)
        reader, first = neurons[0]
        threshold = self._thresholds(reader)[first : first + len(largest)]
        with np.errstate(divide="ignore"):
            units = np.floor(threshold * self.largest / largest * (1 + 1e-12))
        # A channel without weights still compares its bias with its threshold.
        bias = np.max([threshold, *(np.abs(node.bias) for node in members if node.bias is not None)], axis=0)
        most = LARGEST_STORED * threshold / bias
        most = np.clip(np.floor(most), 1, LARGEST_THRESHOLD * max(map(self._reach, members)))
        units = np.where(largest == 0, self.largest, np.minimum(units, most))
        if units.min() < 1:
            channel = int(units.argmin())
            self.problems.append(
                f"{reader.name}: the threshold of channel {channel}, {threshold[channel]:.4g}, is below one step of"
                f" {self.bits}-bit weights that reach {largest[channel]:.4g}"
            )
            units = np.maximum(units, 1)
        scale: Real = threshold / units
        return scale

    def _neurons_behind(self, name: str, first: int = 0) -> Iterator[tuple[Node, int]]:
        """The neurons that read the node ``name``, and at which of their channels it begins."""
        for reader in self.network.readers(name):
            if reader.op == "neuron":
                yield reader, first
            if reader.op == "concat":
                before = reader.inputs[: reader.inputs.index(name)]
                yield from self._neurons_behind(
                    reader.name, first + sum(self.network.nodes[source].shape[0] for source in before)
                )

    def _largest_weight(self, node: Node) -> Real:
        weight = self._effective_weight(node)
        largest: Real = np.abs(weight).reshape(len(weight), -1).max(1)
        return largest

    def _effective_weight(self, node: Node) -> Real:
        """Weights for integer inputs: times the real value of the input's unit."""
        assert node.weight is not None
        (source,) = node.inputs
        scale = self.scale(source)
        if scale.ndim == 0:
            return node.weight * scale
        if node.op == "conv2d":
            return node.weight * scale.reshape(1, -1, 1, 1)
        shape = self.network.nodes[source].shape
        return node.weight * np.repeat(scale, node.weight.shape[1] // shape[0])

    def scale(self, name: str) -> Real:
        """The real value of one unit of the node ``name``: one number, or one per channel."""
        if name not in self.scales:
            node = self.network.nodes[name]
            if _weighted(self.network, name) and node.op != "concat":
                leader = self.groups[name]
                if leader in self._open:
                    raise UsageError(
                        f"{name}: adds {leader} and what weights make of {leader}; allowed: with neurons between"
                    )
                self._open.add(leader)
                scale = self._group_scale(leader)
                for member, first in self.groups.items():
                    if first == leader:
                        self.scales[member] = scale
            elif node.op == "neuron":
                self.scales[name] = np.array(1.0)
            else:
                parts = [self.scale(source) for source in node.inputs]
                shapes = [self.network.nodes[source].shape for source in node.inputs]
                if node.op == "concat" and any(part.ndim or part != 1 for part in parts):
                    spread = [np.broadcast_to(part, shape[0]) for part, shape in zip(parts, shapes, strict=True)]
                    self.scales[name] = np.concatenate(spread)
                else:
                    self.scales[name] = parts[0]
        return self.scales[name]

    def _thresholds(self, reader: Node) -> Real:
        """Real thresholds [C] of a neuron node."""
        assert reader.neuron is not None
        shape = self.network.nodes[reader.inputs[0]].shape
        full = np.broadcast_to(per_channel(reader.neuron.threshold, shape), shape)
        columns = full.reshape(shape[0], -1)
        if (columns != columns[:, :1]).any():
            self.problems.append(f"{reader.name}: thresholds differ within a channel; a trace has one per channel")
        if columns.min() <= 0:
            self.problems.append(f"{reader.name}: a threshold of {columns.min():.4g} above rest; allowed: above zero")
            return np.ones(shape[0])
        first: Real = columns[:, 0]
        return first

    def operations(self) -> list[Operation]:
        """The network as operations; a neuron belongs to the sum before it where nothing else reads that."""
        network, found = self.network, []
        fused = {
            node.inputs[0]
            for node in network.nodes.values()
            if node.op == "neuron"
            and network.nodes[node.inputs[0]].op in ("conv2d", "linear", "add")
            and len(network.readers(node.inputs[0])) == 1
        }
        for node in network.nodes.values():
            if node.op == "input" or node.name in fused:
                continue
            if node.op != "neuron":
                found.append(self._operation(node, node.name, None))
                continue
            summed = network.nodes[node.inputs[0]]
            if summed.name not in fused:
                summed = Node(node.name, "add", node.inputs, node.shape)
            neuron, copies = self._neuron(node, len(summed.inputs))
            if copies > 1:
                parts, inputs = repeated(summed.name, summed.inputs, copies)
                found += parts
                summed = replace(summed, inputs=inputs)
            found.append(self._operation(summed, node.name, neuron))
        return found

    def _neuron(self, node: Node, summands: int) -> tuple[Neuron, int]:
        """The neurons of a node, and how many times what they read, ``summands`` tensors, is added up."""
        assert node.neuron is not None
        decay, shift, subtracts = nearest_leak(node.neuron.decay)
        source, timesteps = self.network.nodes[node.inputs[0]], self.network.timesteps
        scale = np.broadcast_to(self.scale(source.name), source.shape[0])
        real = self._thresholds(node) / scale
        # The quotient of two rounded numbers may miss the integer that it is.
        real = np.where(scale == 1, real, np.float32(real))
        ranges = self._ranges(source.name)
        found = units(replace(node.neuron, decay=decay), real, ranges, timesteps, summands)
        if found.copies > 1:
            self.notes.append(
                f"{node.name}: reads integers without weights, which are added up {found.copies} times, so that the"
                f" threshold {real[0]:.6g} becomes the integer {found.threshold[0]}"
            )
        if found.rounded > ROUNDED:
            self.notes.append(f"{node.name}: thresholds are rounded, by at most {100 * found.rounded:.2g} %")
        most = FRACTION_BITS
        reads = [reads for reads in ranges if reads is not None]
        if len(reads) == len(ranges):
            reach = max(max(-low, high) for low, high in reads) * found.copies + int(found.threshold.max())
            most = 62 - (timesteps * reach).bit_length()
        reset = node.neuron.reset if shift or node.neuron.reset == "hard" else "soft"
        neuron = Neuron(
            "lif" if shift else "if", found.threshold, shift, min(shift * (timesteps - 1), most), reset,
            leak_subtracts=subtracts, fires_at_threshold=found.fires_at_threshold,
        )  # fmt: skip
        return neuron, found.copies

    def _reach(self, node: Node) -> int:
        """The largest integer that the weights of ``node`` are multiplied by, as far as that is known."""
        if node.weight is None:
            return 1
        ranges = self._ranges(node.inputs[0])
        return max(LARGEST_STORED if reads is None else max(-reads[0], reads[1], 1) for reads in ranges)

    def _ranges(self, name: str) -> list[Range | None]:
        """The least and the largest integer of each channel of a node; None where it holds weighted sums."""
        node = self.network.nodes[name]
        if node.op in ("conv2d", "linear"):
            return [None] * node.shape[0]
        if node.op == "neuron":
            return [(0, 1)] * node.shape[0]
        if node.op == "input":
            whole = np.round(self.network.inputs / self.scales[name])
            return [(int(whole.min()), int(whole.max()))] * node.shape[0]
        parts = [self._ranges(source) for source in node.inputs]
        if node.op == "concat":
            return [reads for part in parts for reads in part]
        if node.op == "add":
            return [_total(reads) for reads in zip(*parts, strict=True)]
        return parts[0]

    def _operation(self, node: Node, output: str, neuron: Neuron | None) -> Operation:
        op = {"max_pool": "pool"}.get(node.op, node.op)
        weight = bias = requantiser = None
        if node.weight is not None:
            scale = np.broadcast_to(self.scale(node.name), len(node.weight))
            if node.name in self.apart:
                requantiser = _requantiser(self.apart[node.name] / scale)
                scale = self.apart[node.name]
            column = scale.reshape(-1, *(1,) * (node.weight.ndim - 1))
            real = self._effective_weight(node)
            weight = np.clip(np.round(real / column), -self.largest, self.largest)
            power = float(np.sqrt((real**2).sum()))
            self.weight_errors[node.name] = (
                float(np.sqrt(((weight * column - real) ** 2).sum())) / power if power else 0.0
            )
            if node.bias is not None and node.bias.any():
                bias = np.round(node.bias / scale).astype(np.int64)
        uniform = node.weight is not None and neuron is None
        unit = self.apart.get(node.name, self.scale(node.name)) if uniform else 1.0
        return Operation(
            node.name, op, node.inputs, output, node.kernel, node.stride, node.padding,
            weight=None if weight is None else weight.astype(np.int8), weight_bits=self.bits,
            weight_scale=float(np.max(unit)), bias=bias, neuron=neuron, requantiser=requantiser,
        )  # fmt: skip

    def errors(
        self, operations: list[Operation], tensors: Mapping[str, NDArray[Any]], alone: Mapping[str, NDArray[Any]]
    ) -> tuple[LayerError, ...]:
        """One row an operation that has weights or neurons."""
        rows = []
        for operation in operations:
            if operation.neuron is None and operation.weight is None:
                continue
            real, integer = self.network.recorded.get(operation.output), tensors[operation.output]
            density = None if operation.neuron is None else float(integer.mean())
            error = self.weight_errors.get(operation.name)
            row = LayerError(operation.name, operation.op, error, None, density, None)
            if operation.neuron is not None and real is not None:
                row = compared(row, real != 0, integer, alone[operation.output])
            rows.append(row)
        return tuple(rows)


def _requantiser(factor: Real) -> Requantiser:
    """What multiplies sums by ``factor`` [C], with factors of 24 bits."""
    shift = min(max(24 - math.ceil(math.log2(float(factor.max()))), 0), MAX_SHIFT)
    multiplier = np.maximum(np.round(np.ldexp(factor, shift)), 1).astype(np.int64)
    return Requantiser(multiplier, shift, REQUANTISED_BITS)


def _total(reads: Sequence[Range | None]) -> Range | None:
    known = [part for part in reads if part is not None]
    if len(known) < len(reads):
        return None
    return sum(low for low, _ in known), sum(high for _, high in known)


def _run(
    operations: list[Operation], tensors: Mapping[str, NDArray[Any]], timesteps: int, kinds: Mapping[str, str],
    model: Mapping[str, NDArray[Any]] | None = None,
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """All tensors of the integer network, by the rules that verify a trace.

    With outputs of the ``model``, every neuron's spikes are followed by the model's: who reads it reads those.
    """
    known, found = dict(tensors), dict(tensors)
    for operation in operations:
        inputs = {name: known[name] for name in operation.inputs}
        try:
            alone = Trace(
                network=operation.name, timesteps=timesteps, operations=[operation], tensors=inputs,
                provenance={"kind": "trained", "weights": "trained"},
                kinds={name: kind for name, kind in kinds.items() if name in inputs},
            )  # fmt: skip
        except TraceError as error:
            raise UsageError(
                [f"{operation.name}: {problem.removeprefix('trace: ')}" for problem in error.problems]
            ) from None
        (resolved,) = alone.operations
        output = compute(resolved, [alone.operand(name) for name in operation.inputs], timesteps)
        if output.dtype != np.bool_:
            static = operation.neuron is None and all(array.ndim in (2, 4) for array in inputs.values())
            output = output[0] if static else np.ascontiguousarray(output)
            if operation.requantiser is not None and np.abs(output).max() >= (1 << (REQUANTISED_BITS - 1)) - 1:
                raise UsageError(f"{operation.name}: requantised sums leave {REQUANTISED_BITS} bits")
            if np.abs(output).max() >= 1 << 31:
                raise UsageError(f"{operation.name}: sums reach {int(np.abs(output).max()):,}; allowed: 32 bits")
            output = output.astype(np.int32)
        known[operation.output] = found[operation.output] = output
        if operation.neuron is not None and model is not None and operation.output in model:
            known[operation.output] = model[operation.output] != 0
    return found


def _class_agreement(
    network: Network, operations: list[Operation], tensors: Mapping[str, NDArray[Any]]
) -> float | None:
    """Share of inputs for which the last layer's largest sum over time is in the same place."""
    read = {name for operation in operations for name in operation.inputs}
    ends = [operation.output for operation in operations if operation.output not in read]
    if len(ends) != 1 or len(network.nodes[ends[0]].shape) != 1 or ends[0] not in network.recorded:
        return None
    real, integer = network.recorded[ends[0]], tensors[ends[0]]
    classes = [values.sum(0) if values.ndim == 3 else values for values in (real, integer.astype(np.float64))]
    return float((classes[0].argmax(1) == classes[1].argmax(1)).mean())
