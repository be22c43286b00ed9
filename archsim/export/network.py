"""A spiking network in floating point, as the training tools describe it and before anything is rounded.

Shapes leave out time and images: [C, H, W] or [F]. Words as in ``archsim.trace.operation``.
"""

from __future__ import annotations

import numbers
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim import arguments
from archsim.errors import UsageError, printable
from archsim.export.gates import CURVES, share
from archsim.export.neuron_rules import SpikingNeuron
from archsim.trace.cycles import components
from archsim.trace.schema import MAX_TIMESTEPS
from archsim.trace.window import Window, sides

Shape = tuple[int, ...]
Real = NDArray[np.float64]
SCALED = ("sum_pool", "multiply", "matmul", "reduce")


@dataclass(frozen=True, eq=False)
class Node:
    """One step of the network: ``op`` is ``input``, ``neuron``, ``affine`` (``weight x + bias``, one number for each
    channel: batch-norm, scaling), ``max_pool``, ``sum_pool``, or an operation of a trace: ``conv2d``, ``linear``,
    ``add``, ``concat``, ``multiply``, ``matmul``, ``reduce``, ``rearrange``, ``upsample``, ``slice``, ``delay``. Only a
    delay may read a later node. ``constant`` reads nothing and holds ``weight``, in the node's shape, for all inputs.

    Networks without spikes also have ``relu``, ``gate`` (x times a share that depends on x, ``archsim.export.gates``),
    ``softmax`` of the channels of each position, and ``layer_norm`` of these (``weight`` and ``bias`` a channel).

    ``options`` are the keys of that operation that are not named here, and ``divisors`` [1, H', W'] of a ``sum_pool``
    that is an average with several. What ``SCALED`` operations give is multiplied by
    ``weight``, a number above zero: averages, scaled products.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: Shape
    weight: Real | None = None
    bias: Real | None = None
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    neuron: SpikingNeuron | None = None
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def window(self) -> Window:
        """What an output sees of a map."""
        stretched = self.options.get("input_dilation", (1, 1))
        return Window(self.kernel, self.stride, sides(self.padding), self.dilation, stretched)

    @property
    def factor(self) -> float:
        """What the sums or products of a ``SCALED`` operation are multiplied by."""
        return 1.0 if self.weight is None else float(self.weight)


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

    def parts(self) -> list[list[Node]]:
        """The nodes in the order in which they run: cycles, which delays make, together, and all others one by one."""
        nodes = list(self.nodes.values())
        place = {node.name: position for position, node in enumerate(nodes)}
        if all(place[source] < place[node.name] for node in nodes for source in node.inputs):
            return [[node] for node in nodes]
        found = components([[place[source] for source in node.inputs] for node in nodes])
        return [[nodes[position] for position in part] for part in found]

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
        isinstance(input_scale, numbers.Real)
        and not isinstance(input_scale, bool)
        and 0 < input_scale <= sys.float_info.max
    ):
        problems.append(f"input_scale: got {printable(repr(input_scale))}; allowed: a number above zero")
    problems += [
        f"{name}: must be a mapping, or None, got {printable(repr(given))}"
        for name, given in mappings.items()
        if given is not None and not isinstance(given, Mapping)
    ]
    if problems:
        raise UsageError(problems)


def run(network: Network) -> None:
    """Compute the network on its inputs in float64 and keep every output, [T, I, ...], in ``recorded``."""
    inputs = network.inputs
    timed = inputs if inputs.ndim in (3, 5) else np.broadcast_to(inputs, (network.timesteps, *inputs.shape))
    for part in network.parts():
        if len(part) > 1:
            _run_cycle(network, part)
            continue
        (node,) = part
        given = [network.recorded[source] for source in node.inputs]
        if node.op == "constant":
            assert node.weight is not None
            network.recorded[node.name] = np.broadcast_to(node.weight, (*timed.shape[:2], *node.shape))
        else:
            network.recorded[node.name] = timed if node.op == "input" else evaluate(node, given)


def _run_cycle(network: Network, nodes: list[Node]) -> None:
    """Record the nodes of a cycle one timestep after the other."""
    (source,) = (node.name for node in network.nodes.values() if node.op == "input")
    steps, images = network.recorded[source].shape[:2]
    outputs = {node.name: np.zeros((steps, images, *node.shape)) for node in nodes}
    known = network.recorded | outputs
    states = {node.name: node.neuron.start_state((images, *node.shape)) for node in nodes if node.neuron is not None}
    for t in range(steps):
        for node in nodes:
            if node.op == "delay":
                # Of all timesteps, as the one that counts may be any of them.
                outputs[node.name][t] = evaluate(node, [known[node.inputs[0]][: t + 1]])[t]
            elif node.neuron is not None:
                current = known[node.inputs[0]][t]
                outputs[node.name][t], states[node.name] = node.neuron.step(current, states[node.name])
            else:
                outputs[node.name][t] = evaluate(node, [known[name][t : t + 1] for name in node.inputs])[0]
    network.recorded |= outputs


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
            return node.neuron.run(first)
        case "affine":
            assert node.weight is not None
            shift = 0.0 if node.bias is None else per_channel(node.bias, node.shape)
            return first * per_channel(node.weight, node.shape) + shift
        case "linear":
            assert node.weight is not None
            product: Real = first.reshape(*first.shape[:2], -1) @ node.weight.T
            return product if node.bias is None else product + node.bias
        case "max_pool":
            highest: Real = node.window.windows(first, -np.inf).max((-2, -1))
            return highest
        case "sum_pool":
            summed: Real = node.window.windows(first).sum((-2, -1)) * node.factor
            if "divisors" in node.options:
                summed /= node.options["divisors"]
            return summed
        case "slice":
            part = [slice(None)] * first.ndim
            part[2 + node.options["axis"]] = slice(node.options["start"], node.options["stop"])
            return first[tuple(part)]
        case "upsample":
            rows, columns = node.options["factor"]
            return first.repeat(rows, 3).repeat(columns, 4)
        case "conv2d":
            return _convolved(node, first)
        case "delay":
            return _delayed(first, node.options["steps"])
        case "rearrange":
            seen = first.reshape(-1, *node.options["view"]).transpose(0, *(1 + axis for axis in node.options["order"]))
            return seen.reshape(*first.shape[:2], *node.shape)
        case "multiply":
            wide = given[1].repeat(first.shape[2] // given[1].shape[2], 2)
            multiplied: Real = first * wide * node.factor
            return multiplied
        case "reduce":
            groups = first.reshape(*first.shape[:2], node.options.get("groups", 1), -1, *first.shape[3:])
            by_position = node.options["axis"] == "positions"
            sums: Real = first.sum((3, 4), keepdims=True) if by_position else groups.sum(3)
            return sums * node.factor
        case "relu" | "gate" | "softmax" | "layer_norm":
            return _activation(node, first)
    return _product(node, first, given[1]) * node.factor


def _delayed(values: Real, steps: int | NDArray[np.int64]) -> Real:
    late = np.zeros(values.shape)
    for channel, by in enumerate(np.broadcast_to(steps, values.shape[2]).tolist()):
        late[by:, :, channel] = values[: max(len(values) - by, 0), :, channel]
    return late


def _activation(node: Node, values: Real) -> Real:
    match node.op:
        case "relu":
            return np.maximum(values, 0.0)
        case "gate":
            return values * share(node.options["kind"], values)
        case "softmax":
            odds = CURVES[node.options["kind"]](values.max(2, keepdims=True) - values)
            shares: Real = odds / odds.sum(2, keepdims=True)
            return shares
    assert node.weight is not None and node.bias is not None
    root = np.sqrt(values.var(2, keepdims=True) + node.options["eps"])
    deviations = values - values.mean(2, keepdims=True)
    normal: Real = deviations / root * per_channel(node.weight, node.shape) + per_channel(node.bias, node.shape)
    return normal


def _convolved(node: Node, values: Real) -> Real:
    assert node.weight is not None
    groups, window = node.groups, node.window
    weight = node.weight.reshape(groups, len(node.weight) // groups, -1)
    steps, images, channels = values.shape[:3]
    sums = np.empty((steps, images, *node.shape))
    # Each image by itself, as the product needs all windows side by side.
    for index in np.ndindex(steps, images):
        seen = window.windows(values[index]).reshape(groups, channels // groups, *node.shape[1:], *node.kernel)
        columns = seen.transpose(0, 1, 4, 5, 2, 3).reshape(groups, weight.shape[2], -1)
        sums[index] = (weight @ columns).reshape(node.shape)
    return sums if node.bias is None else sums + per_channel(node.bias, node.shape)


def _product(node: Node, first: Real, second: Real) -> Real:
    """Per head the product of matrices with one row per position and one column per channel."""
    heads = node.options.get("heads", 1)
    left, right = (values.reshape(*values.shape[:2], heads, values.shape[2] // heads, -1) for values in (first, second))
    left = left if node.options.get("transpose_first") else left.swapaxes(-1, -2)
    right = right if node.options.get("transpose") else right.swapaxes(-1, -2)
    product: Real = (left @ right).swapaxes(-1, -2).reshape(*first.shape[:2], *node.shape)
    return product
