"""Networks on many images, with PyTorch's convolutions: the float one before it is rounded, and the one of integers.

Only products with weights are PyTorch's; everything else is done as everywhere in archsim. A product of integers runs
in the narrowest floating-point type that holds all of its partial sums exactly, so that its integers are those of the
trace, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.export.network import Network, Node, evaluate
from archsim.export.torch_tensors import load_torch
from archsim.trace.model import Trace
from archsim.trace.operation import Operation
from archsim.trace.resimulation import compute, finish, given
from archsim.trace.window import Window

BATCH = 100
Tensors = dict[str, NDArray[Any]]


def padded(values: Any, window: Window) -> Any:
    """Maps [B, C, H, W] with the zeros that ``window`` puts between and around them."""
    functional = load_torch().nn.functional
    rows, columns = window.input_dilation
    if (rows, columns) != (1, 1):
        count, channels, height, width = values.shape
        stretched = values.new_zeros(count, channels, (height - 1) * rows + 1, (width - 1) * columns + 1)
        stretched[:, :, ::rows, ::columns] = values
        values = stretched
    top, bottom, left, right = window.padding
    return functional.pad(values, (left, right, top, bottom))


def weighted_sums(values: Any, weight: Any, window: Window | None, groups: int) -> Any:
    """Products [B, N, ...] of values [B, ...] with the weights of a convolution, or of a linear layer (no window)."""
    functional = load_torch().nn.functional
    if window is None:
        return functional.linear(values.flatten(1), weight)
    return functional.conv2d(
        padded(values, window), weight, stride=window.stride, dilation=window.dilation, groups=groups
    )


# ---- The float network.


def run_float(network: Network, images: NDArray[Any]) -> Tensors:
    """What every node gives for ``images`` [I, ...] (or [T, I, ...]): [T, I, ...], or [1, I, ...] if it does not
    change in time; float32, spikes as bool."""
    timed = images.ndim in (3, 5)
    values = images if timed else images[None]
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in network.nodes}
    for first in range(0, values.shape[1], BATCH):
        known: Tensors = {}
        for node in network.nodes.values():
            known[node.name] = _float_output(network, node, known, values[:, first : first + BATCH])
            found[node.name].append(known[node.name])
    return {name: np.concatenate(parts, axis=1) for name, parts in found.items()}


def _float_output(network: Network, node: Node, known: Mapping[str, NDArray[Any]], shown: NDArray[Any]) -> NDArray[Any]:
    if node.op == "input":
        return shown.astype(np.float32)
    if node.op == "constant":
        assert node.weight is not None
        return np.broadcast_to(node.weight.astype(np.float32), (1, shown.shape[1], *node.shape))
    read = [known[name] for name in node.inputs]
    steps = network.timesteps if node.op == "neuron" else max(len(one) for one in read)
    read = [np.broadcast_to(one, (steps, *one.shape[1:])) for one in read]
    if node.op in ("conv2d", "linear"):
        torch = load_torch()
        assert node.weight is not None
        flat = torch.from_numpy(np.array(read[0], np.float32)).flatten(0, 1)
        weight = torch.from_numpy(node.weight).float()
        sums = weighted_sums(flat, weight, node.window if node.op == "conv2d" else None, node.groups).numpy()
        bias = 0.0 if node.bias is None else node.bias.reshape(-1, *(1,) * (sums.ndim - 2))
        total: NDArray[np.float32] = (sums + bias).astype(np.float32).reshape(steps, -1, *node.shape)
        return total
    values = evaluate(node, read)
    fires = node.neuron is not None and node.neuron.fires == "spike"
    return values != 0 if fires else values.astype(np.float32)


# ---- The network of integers.


def output_of(operation: Operation, inputs: list[NDArray[Any]], timesteps: int) -> NDArray[Any]:
    """What ``operation`` of a trace writes for inputs [I, ...], or [T, I, ...] where they change in time: the same two
    shapes."""
    ranks = [1 + len(shape) for shape in operation.input_shapes]
    still = operation.neuron is None and operation.op != "delay"
    still = still and all(array.ndim == rank for array, rank in zip(inputs, ranks, strict=True))
    if operation.op not in ("conv2d", "linear"):
        output = compute(operation, inputs, timesteps)
    else:
        (values,) = inputs
        sums = _integer_sums(operation, values.reshape(-1, *operation.input_shapes[0]))
        sums = sums.reshape(-1, values.shape[-1 - len(operation.input_shapes[0])], *sums.shape[1:])
        output = finish(operation, np.broadcast_to(sums, (1 if still else timesteps, *sums.shape[1:])))
    return output[0] if still else output


def _integer_sums(operation: Operation, values: NDArray[Any]) -> NDArray[np.int64]:
    torch = load_torch()
    assert operation.weight is not None
    reach = int(np.abs(operation.weight.astype(np.int64)).reshape(operation.n, -1).sum(1).max())
    most = reach * max(int(values.max(initial=0)), -int(values.min(initial=0)))
    if most >= 1 << 53:
        raise OverflowError(f"{operation.name}: sums reach {most:,}")
    dtype = torch.float32 if most < 1 << 24 else torch.float64
    flat = torch.from_numpy(np.array(values)).to(dtype)
    weight = torch.from_numpy(operation.weight).to(dtype)
    found = weighted_sums(flat, weight, operation.window if operation.op == "conv2d" else None, operation.groups)
    sums: NDArray[np.int64] = found.numpy().astype(np.int64)
    return sums if operation.bias is None else sums + operation.bias.reshape(-1, *(1,) * (sums.ndim - 2))


class QuantisedModel:
    """The integer network of a trace as a model that PyTorch computes: images to logits.

    Called with uint8 images [I, C, H, W] it gives the integer sums int64 [I, classes] of the last operation, over all
    timesteps, as the trace and every exact machine have them. No cycles in the network.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def outputs(self, images: NDArray[Any]) -> Iterator[Tensors]:
        """Every tensor, ``BATCH`` images after the others."""
        for first in range(0, len(images), BATCH):
            tensors = given(self.trace, images[first : first + BATCH])
            for operation in self.trace.operations:
                inputs = [tensors[name] for name in operation.inputs]
                tensors[operation.output] = output_of(operation, inputs, self.trace.timesteps)
            yield tensors

    def __call__(self, images: NDArray[Any]) -> NDArray[np.int64]:
        """Sums of the last operation."""
        last = self.trace.operations[-1]
        parts = []
        for tensors in self.outputs(images):
            sums = tensors[last.output]
            timed = sums.ndim > 1 + len(last.output_shape)
            parts.append((sums.sum(0, dtype=np.int64) if timed else sums).reshape(-1, last.n))
        return np.concatenate(parts)
