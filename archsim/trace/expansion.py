"""Layers that a trace holds larger than the model has them.

A trace sums in weights only: an average pool in front of a layer is spread into the layer's weights, and a classifier
behind a global average pool of 7 x 7 positions becomes a matrix 49 times as large. An exporter writes that down in the
details of the provenance: ``expanded_layers`` has the factor, ``expanded_layers_why`` the reason, both by layer. Where
nobody did, weights tell: they are equal in every window of such a pool, or zero outside of the groups of a convolution.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from numpy.typing import NDArray

from archsim.trace.model import Trace
from archsim.trace.operation import Operation
from archsim.trace.work import groups_of


class Expansion(NamedTuple):
    """A layer is ``factor`` times as large as in the model, and ``why``."""

    factor: int
    why: str


def expansion(trace: Trace, operation: Operation) -> Expansion | None:
    """How much larger ``operation`` is in ``trace`` than in the model, as recorded or by its weights; None if not."""
    factor = _detail(trace, "expanded_layers", operation.name)
    if type(factor) is int and factor > 1:
        why = _detail(trace, "expanded_layers_why", operation.name)
        return Expansion(factor, why if isinstance(why, str) else "says the trace")
    return _spread_pool(operation) or _groups(operation)


def _detail(trace: Trace, key: str, layer: str) -> object:
    """What the details say of a layer; whoever wrote the trace may have written anything."""
    by_layer = trace.provenance.get("details", {}).get(key)
    return by_layer.get(layer) if isinstance(by_layer, dict) else None


def _spread_pool(operation: Operation) -> Expansion | None:
    """The average pool that the weights of ``operation`` hold."""
    if operation.op == "linear" and len(operation.input_shapes[0]) == 3:
        _, *sides = operation.input_shapes[0]
        most = tuple(sides)
    elif operation.op == "conv2d" and operation.dilation == operation.input_dilation == (1, 1):
        # A convolution behind a pool takes as many times its stride and its padding.
        window, sides = operation.window, list(operation.kernel)
        around = window.padding[:2], window.padding[2:]
        most = tuple(math.gcd(*step, *pads) for *step, pads in zip(sides, window.stride, around, strict=True))
    else:
        return None
    weight = operation.weight if math.prod(most) > 1 else None
    if weight is None or not weight.any():
        return None
    weight = weight.reshape(len(weight), -1, *sides)
    pool = tuple(_equal(weight, axis, side) for axis, side in zip((2, 3), most, strict=True))
    factor = math.prod(pool)
    if factor == 1:
        return None
    size = " x ".join(map(str, pool))
    if operation.op == "linear" and list(pool) == list(sides):
        why = f"a global average pool was spread into its weights, which are equal at all {size} positions of a channel"
    else:
        why = f"an average pool of {size} was spread into its weights, which are equal in each such window"
    return Expansion(factor, why)


def _groups(operation: Operation) -> Expansion | None:
    """The groups of a convolution, which a trace stores as a dense one."""
    weight = operation.weight if operation.op == "conv2d" and operation.groups == 1 else None
    groups = 1 if weight is None else groups_of(weight)
    why = f"its weights are those of {groups} groups; the trace stores it as a dense layer"
    return Expansion(groups, why) if groups > 1 else None


def _equal(weight: NDArray[Any], axis: int, most: int) -> int:
    """The longest run, a divisor of ``most``, that divides ``axis`` of ``weight`` into parts of equal weights."""
    for length in range(most, 1, -1):
        if most % length == 0 and all(_parts_equal(part, axis, length) for part in (weight[:1], weight)):
            return length
    return 1


def _parts_equal(weight: NDArray[Any], axis: int, length: int) -> bool:
    shape = weight.shape
    parts = weight.reshape(*shape[:axis], shape[axis] // length, length, *shape[axis + 1 :])
    return bool((parts == parts.take([0], axis + 1)).all())
