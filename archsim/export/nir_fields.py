"""The fields of one node of a NIR graph: what they must hold, and what they hold.

Whatever a trace cannot express raises ``Inexpressible``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from archsim.export.network import Real, Shape
from archsim.export.nir_file import shown
from archsim.export.torch_modules import Inexpressible
from archsim.trace.graph import MAX_ELEMENTS
from archsim.trace.window import Pair, Window, sides


def text_of(value: Any) -> str:
    """A name, as NIR has it in memory or h5py gave it."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else shown(value)


def real(node: Mapping[str, Any], field: str) -> Real:
    """A field that must hold finite numbers."""
    try:
        array = np.asarray(node[field])
    # An array of objects may raise any of these.
    except (ValueError, TypeError, RuntimeError, OverflowError):
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        got = "text or objects" if array.dtype.kind in "USO" else shown(array.dtype)
        raise Inexpressible(f"{field}: got {got}; allowed: numbers")
    with np.errstate(over="ignore"):
        numbers: Real = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise Inexpressible(f"{field}: got a value that is not finite")
    return numbers


def wholes(node: Mapping[str, Any], field: str, least: int) -> list[int]:
    """A field of whole numbers, ``least`` or more."""
    array = real(node, field).reshape(-1)
    if array.size > 8 or (array != np.round(array)).any() or (array < least).any() or (array > MAX_ELEMENTS).any():
        raise Inexpressible(f"{field}: got {shown(array.tolist()[:8])}; allowed: whole numbers from {least}")
    return [int(value) for value in array]


def whole(node: Mapping[str, Any], field: str, least: int) -> int:
    """A field of one whole number."""
    values = wholes(node, field, least)
    if len(values) != 1:
        raise Inexpressible(f"{field}: got {values}; allowed: one number")
    return values[0]


def pair(node: Mapping[str, Any], field: str, least: int, axes: int = 2) -> tuple[int, int]:
    """A field for rows and columns, of one number or two; of maps with one axis, for columns alone."""
    if axes == 1:
        return least, whole(node, field, least)
    values = wholes(node, field, least)
    if len(values) not in (1, 2):
        raise Inexpressible(f"{field}: got {values}; allowed: one number or two")
    return values[0], values[-1]


def bias_of(node: Mapping[str, Any], count: int) -> Real:
    """The bias of ``count`` channels."""
    bias = real(node, "bias")
    if bias.size != count:
        raise Inexpressible(f"bias: got {list(bias.shape)}; allowed: [{count}]")
    return bias.reshape(-1)


def check_declared(node: Mapping[str, Any], field: str, shape: Shape, what: str) -> None:
    """A shape that the graph states must be the one that there is."""
    if node.get(field) is None:
        return
    stated = wholes(node, field, 0)
    if tuple(stated) != shape:
        raise Inexpressible(f"the graph says {stated}, {what} {list(shape)}")


def flattened(node: Mapping[str, Any], shape: Shape) -> Shape:
    """The shape behind a Flatten; values keep their order."""
    rank = len(shape)
    first, last = (
        default if node.get(field) is None else whole(node, field, -rank)
        for field, default in (("start_dim", 1), ("end_dim", -1))
    )
    if rank == 1:
        return shape
    first, last = first + rank * (first < 0), last + rank * (last < 0)
    if not 0 <= first <= last < rank:
        raise Inexpressible(f"axes {first} to {last} of {list(shape)}")
    return (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])


def check_maps(shape: Shape, axes: int) -> None:
    """Does a node read maps with so many axes? Else ``Inexpressible``."""
    if len(shape) != 1 + axes:
        allowed = "[C, L]" if axes == 1 else "[C, H, W]"
        raise Inexpressible(f"reads {allowed}, got the shape {list(shape)}")


def outputs_of(
    shape: Shape, kernel: Pair, stride: Pair, padding: tuple[int, ...], dilation: Pair
) -> Shape:  # fmt: skip
    """Height and width of what a window gives of maps of ``shape``."""
    window = Window(kernel, stride, sides(padding), dilation)
    found = window.output((shape[1], shape[2]))
    if min(found) < 1:
        raise Inexpressible(f"a kernel {list(kernel)} on an input {list(shape)} with padding {list(padding)}")
    return found


def spread(array: Real, shape: Shape, nir_shape: Shape) -> Real:
    """A parameter for each neuron of ``shape``: given for all, by channel, or for each, flattened or not."""
    if array.size == 1:
        return np.full(shape, array.item())
    if array.shape in (shape, nir_shape, (math.prod(shape),)):
        return array.reshape(shape)
    if len(nir_shape) > 1 and len(shape) == 3 and array.shape in (shape[:1], (shape[0], 1), (shape[0], 1, 1)):
        return np.broadcast_to(array.reshape(-1, 1, 1), shape)
    raise Inexpressible(f"parameters {list(array.shape)} for neurons {list(nir_shape)}")


def by_channel(values: Real, what: str) -> Real:
    """One value for each channel, all that there is of it; ``what`` names the values."""
    columns = values.reshape(len(values), -1)
    if (columns != columns[:, :1]).any():
        raise Inexpressible(f"{what} differ within a channel; allowed: one per channel")
    first: Real = columns[:, 0].copy()
    return first


def padding_of(
    node: dict[str, Any], kernel: Pair, stride: Pair, dilation: Pair, axes: int
) -> tuple[int, ...]:  # fmt: skip
    """Zeros around: (rows, columns), or (top, bottom, left, right) where sides differ."""
    padding = node["padding"]
    span = [(width - 1) * step + 1 for width, step in zip(kernel, dilation, strict=True)]
    if isinstance(padding, str | bytes):
        text = text_of(padding)
        if text not in ("same", "valid"):
            raise Inexpressible(f"padding {shown(text)}; allowed: same, valid, numbers of zeros around")
        if text == "valid":
            return 0, 0
        if stride != (1, 1):
            raise Inexpressible(f"padding 'same' with the stride {list(stride)}; allowed: numbers of zeros around")
        (top, bottom), (left, right) = (((width - 1) // 2, width // 2) for width in span)
        return (top, left) if (top, left) == (bottom, right) else (top, bottom, left, right)
    around = pair(node, "padding", 0, axes)
    # More zeros make only more outputs that read nothing but zeros, without end.
    if any(pad > width for pad, width in zip(around, span, strict=True)):
        raise Inexpressible(f"padding {list(around)}; allowed: at most the span of the kernel, {span}")
    return around
