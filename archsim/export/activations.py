"""Networks without spikes: from a float network to one of 8-bit activations, for T = 1.

Every operation that adds or multiplies ends in a requantiser, which is the ReLU where one follows. Weights have a scale
for each output channel; an activation has one scale, which covers all but ``TAIL`` of the values of the float model on
the inputs, and 8 bits, without a sign where none is below zero.

Sums (of a residual network, of embeddings) need operands of one scale. What weights or products only read through such
sums and what moves them (a residual stream) has 16 bits and one scale with ``HEADROOM`` for other inputs; an operand
that has another scale is brought to it by a sum of one operand with a requantiser. The last layer gives its sums, with
one scale for all channels, as they are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.export.gates import CURVES
from archsim.export.network import Network, Node, Real
from archsim.export.rounding import Form, Nearest, of_range
from archsim.trace.operation import Operation, Requantiser

HEADROOM = 2.0
MULTIPLIER_BITS = 24
NORM_SHIFT = 16
SUM_BITS = 16
# Biases, multipliers and sums are stored in 32 bits.
LARGEST_STORED = (1 << 31) - 1
SHARE = 1 / 255
# What networks of neurons do not have, behind ``expand``.
ACTIVATIONS = ("relu", "softmax", "layer_norm")
# What passes on the values that it reads, in their scale.
MOVES = ("max_pool", "rearrange", "slice", "upsample", "concat")
# Whose scale nobody can choose.
FIXED = ("input", "softmax")
# What multiplies what it reads, so that it must have few bits.
_MULTIPLY = ("conv2d", "linear", "matmul", "multiply", "softmax")
_SUMS = ("conv2d", "linear", "matmul", "multiply", "add", "reduce", "sum_pool")
_TABLE = 256


class Activations:
    """Chooses the form of every tensor and writes the operations.

    ``network`` is folded, expanded and has run; ``source`` is the form of its inputs. What is brought to the scale of a
    sum becomes a node of its own, which runs too.
    """

    def __init__(self, network: Network, rounding: Nearest, source: Form) -> None:
        self.network = network
        self.rounding = rounding
        self.weight_errors: dict[str, float] = {}
        self._source = source
        self._groups = {name: name for name in network.nodes}
        self._forms: dict[str, Form] = {}
        # A ReLU is the requantiser of the sum that it alone reads.
        self._fused = {
            node.inputs[0]: node.name
            for node in network.nodes.values()
            if node.op == "relu"
            and network.nodes[node.inputs[0]].op in _SUMS
            and len(network.readers(node.inputs[0])) == 1
        }
        self._tie()

    # ---- Forms.

    def _tie(self) -> None:
        """Find what must have one scale, and bring to it what has another one."""
        for node in list(self.network.nodes.values()):
            if node.op in MOVES:
                apart = self._moved(node)
            elif node.op == "add":
                apart = self._operands(node)
            else:
                continue
            for source in dict.fromkeys(apart):
                self._rescale(node, source)

    def _moved(self, node: Node) -> list[str]:
        """Tie what is moved to what it becomes; what cannot be."""
        apart = []
        for source in node.inputs:
            many = node.op == "concat" and self._is_fixed(source)
            if many or (self._is_multiplied(source) and not self._is_multiplied(node.name)):
                apart.append(source)
            else:
                self._join(node.name, source)
        return apart

    def _operands(self, node: Node) -> list[str]:
        """Tie the operands of a sum together; which of them cannot be."""
        total = _sum(node.name)
        self._groups[total] = total
        if node.name not in self._fused and not self._is_multiplied(node.name):
            self._join(total, node.name)
        apart = [source for source in node.inputs if self._is_multiplied(source) or self._is_fixed(source)]
        for source in node.inputs:
            if source not in apart:
                self._join(total, source)
        return apart

    def _rescale(self, node: Node, source: str) -> None:
        """Let ``node`` read ``source`` in another scale."""
        place = node.inputs.index(source)
        name = f"{node.name}.{place}"
        read = self.network.nodes[source]
        nodes: dict[str, Node] = {}
        for key, other in self.network.nodes.items():
            if key == node.name:
                nodes[name] = Node(name, "add", (source,), read.shape)
                other = replace(other, inputs=tuple(name if one == source else one for one in other.inputs))
            nodes[key] = other
        self.network.nodes = nodes
        self.network.recorded[name] = self.network.recorded[source]
        self._groups[name] = name
        self._join(_sum(node.name) if node.op == "add" else node.name, name)

    def _root(self, name: str) -> str:
        while self._groups[name] != name:
            name = self._groups[name]
        return name

    def _join(self, one: str, other: str) -> None:
        """Give both one scale."""
        self._groups[self._root(one)] = self._root(other)

    def _members(self, name: str) -> list[str]:
        root = self._root(name)
        return [other for other in self._groups if self._root(other) == root]

    def _is_fixed(self, name: str) -> bool:
        nodes = self.network.nodes
        return any(other in nodes and nodes[other].op in FIXED for other in self._members(name))

    def _is_multiplied(self, name: str) -> bool:
        """Do weights or products read it, perhaps in another order?"""
        return any(
            reader.op in _MULTIPLY or (reader.op in MOVES and self._is_multiplied(reader.name))
            for reader in self.network.readers(name)
        )

    def form(self, name: str) -> Form:
        """How the values of a node, or of the operands of a sum, are held."""
        root = self._root(name)
        if root not in self._forms:
            self._forms[root] = self._form_of(self._members(root))
        return self._forms[root]

    def _form_of(self, members: list[str]) -> Form:
        nodes = self.network.nodes
        given = [nodes[name].op for name in members if name in nodes]
        if "input" in given:
            return self._source
        if "softmax" in given:
            return Form(SHARE, 8, False)
        (only, *rest) = members
        unit = nodes[only].options.get("unit") if not rest and only in nodes else None
        if unit is not None:
            few = float(self.network.recorded[only].max()) / unit < 1 << 8
            return Form(unit, 8 if few else SUM_BITS, not few)
        values = [self.network.recorded[name] for name in members if name in nodes and name not in self._fused]
        signed = any(float(part.min()) < 0 for part in values)
        if any(name not in nodes for name in members):
            return of_range(HEADROOM * max(float(np.abs(part).max()) for part in values), SUM_BITS, True)
        return self.rounding.form([name for name in members if name in nodes], values, signed)

    # ---- Operations.

    def operations(self) -> Iterator[Operation]:
        """The network as operations."""
        for node in self.network.nodes.values():
            if node.op not in ("input", "constant") and not (node.op == "relu" and node.inputs[0] in self._fused):
                yield self._operation(node)

    def constants(self) -> dict[str, NDArray[Any]]:
        """The values [1, ...] of what is the same for all inputs."""
        found = {}
        for node in self.network.nodes.values():
            if node.op == "constant" and node.weight is not None:
                form = self.form(node.name)
                least = -form.largest - 1 if form.signed else 0
                integers = np.clip(np.round(node.weight[None] / form.scale), least, form.largest)
                found[node.name] = integers.astype(form.dtype)
        return found

    def scale(self, operation: Operation) -> Real:
        """The real value of one unit of what an operation writes."""
        if operation.requantiser is None and operation.op in ("conv2d", "linear"):
            return np.array(operation.weight_scale * self.form(operation.inputs[0]).scale)
        return np.array(self.form(operation.output).scale)

    def dtype(self, operation: Operation) -> type[np.integer[Any]]:
        """The type of what an operation writes."""
        if operation.requantiser is None and operation.op in ("conv2d", "linear"):
            return np.int32
        return self.form(operation.output).dtype

    def _operation(self, node: Node) -> Operation:
        output = self._fused.get(node.name, node.name)
        if node.op in ("conv2d", "linear"):
            return self._layer(node, output)
        if node.op == "layer_norm":
            return self._norm(node)
        if node.op == "softmax":
            distances = self.form(node.inputs[0]).scale * np.arange(_TABLE, dtype=np.float64)
            odds = CURVES[node.options["kind"]](distances)
            table: NDArray[np.uint16] = np.round(65535 * odds).astype(np.uint16)
            return Operation(node.name, "softmax", node.inputs, output, table=table)
        op = {"max_pool": "pool", "sum_pool": "pool", "relu": "add"}.get(node.op, node.op)
        written = Operation(
            node.name, op, node.inputs, output, node.kernel, node.stride, node.padding,
            reduction="sum" if node.op == "sum_pool" else "max", **node.options,
        )  # fmt: skip
        if node.op in MOVES:
            return written
        return self._requantised(written, np.full(node.shape[0], self._unit(node)), node.op == "relu")

    def _unit(self, node: Node) -> float:
        """The real value of one unit of the sums of a node without weights."""
        if node.op == "add" and len(node.inputs) > 1:
            return self.form(_sum(node.name)).scale
        return math.prod(self.form(source).scale for source in node.inputs) * node.factor

    def _layer(self, node: Node, output: str) -> Operation:
        assert node.weight is not None
        unit = self.form(node.inputs[0]).scale
        rows = node.weight.reshape(len(node.weight), -1)
        bias = np.zeros(len(rows)) if node.bias is None else node.bias
        # A channel whose weights are next to nothing still has a bias that 32 bits hold.
        worth: Real = np.maximum(self.rounding.steps(node.name, rows), np.abs(bias) / unit / LARGEST_STORED)
        worth = np.where(worth > 0, worth, 1.0)
        last = not self.network.readers(output) and output == node.name
        if last:
            worth = np.full(len(rows), worth.max())
        weight, gained = self.rounding.integers(node, 0, rows / worth[:, None], worth * unit)
        bias = bias / worth / unit + gained
        power = float(np.sqrt((rows**2).sum()))
        error = float(np.sqrt(((weight * worth[:, None] - rows) ** 2).sum()))
        self.weight_errors[node.name] = error / power if power else 0.0
        written = Operation(
            node.name, node.op, node.inputs, output, node.kernel, node.stride, node.padding,
            weight=weight.reshape(node.weight.shape).astype(np.int8), weight_bits=self.rounding.bits(node.name),
            weight_scale=float(worth.max()), bias=np.round(bias).astype(np.int64) if bias.any() else None,
            dilation=node.dilation, groups=node.groups, **node.options,
        )  # fmt: skip
        return written if last else self._requantised(written, worth * unit, False)

    def _requantised(self, operation: Operation, unit: Real, positive: bool) -> Operation:
        """The operation, whose sums are worth ``unit`` a channel, in the form of its output."""
        form = self.form(operation.output)
        factors = unit / form.scale
        shift = int(np.clip(MULTIPLIER_BITS - 2 - np.floor(np.log2(factors.max())), 0, 62))
        return replace(operation, requantiser=self._ending(operation, form, factors * 2.0**shift, shift, positive))

    def _ending(self, operation: Operation, form: Form, factors: Real, shift: int, positive: bool) -> Requantiser:
        # Of a tensor that has a sign because another of its scale has one, a ReLU writes the upper half.
        halved = form.signed and (positive or operation.name in self._fused)
        multiplier = np.clip(np.round(factors), -LARGEST_STORED, LARGEST_STORED).astype(np.int64)
        return Requantiser(multiplier, shift, form.bits - halved, form.signed and not halved)

    def _norm(self, node: Node) -> Operation:
        assert node.weight is not None and node.bias is not None
        form = self.form(node.name)
        units = 2.0**NORM_SHIFT / form.scale
        bias = np.round(node.bias * units).astype(np.int64)
        written = Operation(node.name, "layer_norm", node.inputs, node.name, bias=bias)
        return replace(written, requantiser=self._ending(written, form, node.weight * units, NORM_SHIFT, False))


def _sum(name: str) -> str:
    """The name under which the operands of a sum have a scale."""
    return f"{name} operands"
