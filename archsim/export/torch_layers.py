"""How a layer of torch reads a tensor: as which node, in which order, and as which operation of a trace.

Layers on tokens become convolutions: a token is a position, so that a linear layer on the last axis and a convolution
with one axis and a kernel of 1 are 1x1 convolutions, and other convolutions with one axis are 1 x k.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from archsim.export.torch_modules import Inexpressible, layer_fields
from archsim.export.torch_nodes import Nodes
from archsim.export.torch_orders import by_columns
from archsim.export.torch_tensors import Operand

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """The operation ``op`` on ``operand``; ``shape`` gives that of the node from the resulting tensor."""

    op: str
    operand: Operand
    fields: dict[str, Any]
    shape: Callable[[Any], Shape]
    order: Any = None


def layer(found: Nodes, module: Any, op: str, operand: Operand) -> Layer:
    """``module``, which is an ``op``, on ``operand``."""
    source = found.nodes[operand.place.node or ""]
    match op:
        case "linear":
            return _linear(found, module, operand, source.shape)
        case "affine":
            return _by_channel(found, module, operand, source.shape)
        case "conv1d":
            return _on_a_row(found, module, operand, source.shape)
    _check_axes(operand, 3, source.shape)
    operand = found.arranged(operand, operand.shape[-3:])
    factor = _repeats(module, operand.shape[-2:])
    if factor is not None:
        op, fields = "upsample", {"options": {"factor": factor}}
    else:
        fields = layer_fields(module, op, operand.shape[-3:])
    return Layer(op, operand, fields, lambda result: tuple(result.shape[-3:]))


def _repeats(module: Any, sides: tuple[int, ...]) -> tuple[int, int] | None:
    """How many times an adaptive pool to more rows and columns than there are shows each of them."""
    wanted = getattr(module, "output_size", None)
    counts = tuple(wanted) if isinstance(wanted, list | tuple) else (wanted, wanted)
    if any(count is None or count % side for count, side in zip(counts, sides, strict=True)) or counts == sides:
        return None
    return int(counts[0]) // sides[0], int(counts[1]) // sides[1]


def _check_axes(operand: Operand, rank: int, shape: Shape) -> None:
    """Are the last ``rank`` axes those of an image?"""
    if len(operand.shape) <= rank or math.prod(operand.shape[-rank:]) != math.prod(shape):
        raise Inexpressible(f"reads {operand.place.node}, {list(shape)}, in the shape {list(operand.shape)}")


def _linear(found: Nodes, module: Any, operand: Operand, shape: Shape) -> Layer:
    features, size = module.in_features, math.prod(shape)
    if features == size:
        if operand.place.order is not None:
            operand = found.arranged(operand, (size,))
        return Layer("linear", operand, layer_fields(module, "linear", shape), lambda result: (result.shape[-1],))
    if operand.shape[-1] != features or size % features:
        raise Inexpressible(f"works on the last axis of {list(operand.shape)}")
    tokens = size // features
    operand, (_, *sides) = by_tokens(found, operand, features)
    fields = layer_fields(module, "linear", (features,))
    fields["weight"] = fields["weight"].reshape(-1, features, 1, 1)
    outputs = len(fields["weight"])
    return Layer("conv2d", operand, fields, lambda result: (outputs, *sides), by_columns(1, tokens, outputs))


def by_tokens(found: Nodes, operand: Operand, features: int) -> tuple[Operand, Shape]:
    """``operand`` with the ``features`` of its last axis as channels and positions as tokens, and its node's shape."""
    shape = found.shape(operand)
    size = math.prod(shape)
    tokens = size // features
    order = np.arange(size) if operand.place.order is None else operand.place.order
    if len(shape) == 3 and shape[0] == features and np.array_equal(order, by_columns(1, tokens, features)):
        return operand, shape
    turned = operand.values.reshape(-1, tokens, features).transpose(1, 2)
    place = operand.place._replace(order=order.reshape(tokens, features).T.reshape(-1))
    arranged = found.arranged(replace(operand, values=turned, place=place), (features, tokens, 1))
    return arranged, (features, tokens, 1)


def _by_channel(found: Nodes, module: Any, operand: Operand, shape: Shape) -> Layer:
    """A batch-norm, whose channels are those of the node or of the tensor."""
    channels, size = module.num_features, math.prod(shape)
    fields = layer_fields(module, "affine", shape)
    order = np.arange(size) if operand.place.order is None else operand.place.order
    rest = size // channels
    if shape[0] != channels or not np.array_equal(order // rest, np.arange(size) // rest):
        axes: Shape = (channels, rest, 1) if len(operand.shape) < 4 and rest > 1 else operand.shape[-3:]
        operand = found.arranged(operand, (channels,) if rest == 1 else axes)
        shape = found.nodes[operand.place.node or ""].shape
    if shape[0] != channels:
        raise Inexpressible(f"reads {operand.place.node}, {list(shape)}, in the shape {list(operand.shape)}")
    return Layer("affine", operand, fields, lambda result: shape, operand.place.order)


def _on_a_row(found: Nodes, module: Any, operand: Operand, shape: Shape) -> Layer:
    """A convolution with one axis."""
    _check_axes(operand, 2, shape)
    channels, tokens = operand.shape[-2:]
    pointwise = module.kernel_size == (1,) and module.stride == (1,) and module.padding in ((0,), "same", "valid")
    sides = (1, tokens)
    if pointwise and operand.place.order is None and len(shape) == 3 and shape[0] == channels:
        sides = (shape[1], shape[2])
    else:
        operand = found.arranged(operand, (channels, 1, tokens))
    fields = layer_fields(module, "conv2d", (channels, *sides))

    def made(result: Any) -> Shape:
        return (result.shape[-2], *(sides if pointwise else (1, result.shape[-1])))

    return Layer("conv2d", operand, fields, made)
