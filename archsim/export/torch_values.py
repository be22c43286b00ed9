"""Functions of torch that change values: layers that are called as functions, activations, norms; and constants.

Modules of these (``nn.ReLU``, ``nn.GELU``, ``nn.LayerNorm``, ``nn.ConvTranspose2d``, ``nn.Upsample``) call the
functions, so that they are seen as these, under the module's name.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from archsim.export.torch_layers import by_tokens, layer
from archsim.export.torch_modules import Inexpressible, pair
from archsim.export.torch_nodes import Nodes
from archsim.export.torch_orders import by_columns, is_identity
from archsim.export.torch_tensors import Operand, Place, doubles, load_torch, samples

# Functions and the names of their options, behind the input.
_OPTIONS = {
    "linear": ("weight", "bias"),
    "conv1d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv_transpose2d": ("weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    "interpolate": ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias"),
    "relu": ("inplace",),
    "gelu": ("approximate",),
    "silu": ("inplace",),
    "hardswish": ("inplace",),
    "softmax": ("dim", "_stacklevel", "dtype"),
    "layer_norm": ("normalized_shape", "weight", "bias", "eps", "cudnn_enable"),
}
VALUES = tuple(_OPTIONS)


class Values:
    """These functions as nodes of the network; ``names`` are the modules' by the identity of their parameters."""

    def __init__(self, found: Nodes, names: Mapping[int, str]) -> None:
        self.found = found
        self.names = names

    def places(
        self, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any], operand: Operand, result: Any,
        module: str,
    ) -> list[Place]:  # fmt: skip
        """The place of what the function ``name`` gave, which ran in ``module`` (perhaps none)."""
        given = {**dict(zip(_OPTIONS[name], arguments[1:], strict=False)), **options}
        given = {key: value for key, value in given.items() if key not in ("input", "inplace")}
        match name:
            case "linear" | "conv1d" | "conv2d":
                return self._layer(name, operand, result, module, **given)
            case "conv_transpose2d":
                return self._transposed(operand, result, module, **given)
            case "interpolate":
                return self._repeated(operand, result, module, **given)
            case "softmax" | "layer_norm":
                return self._by_position(name, operand, result, module, **given)
        kind = f"gelu_{given['approximate']}" if given.get("approximate", "none") != "none" else name
        fields = {"options": {"kind": kind}} if name != "relu" else {}
        op = "relu" if name == "relu" else "gate"
        source = self.found.nodes[operand.place.node or ""]
        order = operand.place.order
        return self.found.made(
            module or f"{source.name}.{name}", (kind,), op, [operand], source.shape, fields, result, order
        )

    def _named(self, weight: Any, module: str, kind: str) -> str:
        count = sum(node.op == kind for node in self.found.nodes.values())
        return self.names.get(id(weight)) or module or f"{kind}{count + 1}"

    def _layer(
        self, name: str, operand: Operand, result: Any, module: str, weight: Any, bias: Any = None, stride: Any = 1,
        padding: Any = 0, dilation: Any = 1, groups: int = 1,
    ) -> list[Place]:  # fmt: skip
        axes = weight.ndim - 2
        sizes = {
            key: tuple(value) if isinstance(value, list | tuple) else (value,) * axes
            for key, value in (("stride", stride), ("dilation", dilation))
        }
        around = padding if isinstance(padding, str | list | tuple) else (padding,) * axes
        stand_in = SimpleNamespace(
            weight=weight, bias=bias, in_features=weight.shape[1], kernel_size=tuple(weight.shape[2:]), groups=groups,
            padding=around if isinstance(around, str) else tuple(around), padding_mode="zeros", **sizes,
        )  # fmt: skip
        read = layer(self.found, stand_in, name, operand)
        return self.found.made(
            self._named(weight, module, read.op), (name, _printed(read.fields)), read.op, [read.operand],
            read.shape(result), read.fields, result, read.order,
        )  # fmt: skip

    def _transposed(
        self, operand: Operand, result: Any, module: str, weight: Any, bias: Any = None, stride: Any = 1,
        padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
    ) -> list[Place]:  # fmt: skip
        """A convolution of the input with zeros between its pixels, by the kernel turned around."""
        if len(operand.shape) < 4:
            raise Inexpressible(f"reads the shape {list(operand.shape)}; allowed: [I, C, H, W]")
        operand = self.found.arranged(operand, operand.shape[-3:])
        channels, outputs, *kernel = weight.shape
        turned = doubles(weight).reshape(groups, channels // groups, outputs, *kernel)[..., ::-1, ::-1]
        turned = np.ascontiguousarray(turned.swapaxes(1, 2)).reshape(groups * outputs, channels // groups, *kernel)
        spans = [(size - 1) * step for size, step in zip(kernel, pair(dilation), strict=True)]
        before = [span - around for span, around in zip(spans, pair(padding), strict=True)]
        after = [least + more for least, more in zip(before, pair(output_padding), strict=True)]
        if min(*before, *after) < 0:
            raise Inexpressible(f"padding {padding} cuts off parts of its output; allowed: at most {min(spans)}")
        fields = {
            "weight": turned, "bias": None if bias is None else doubles(bias), "kernel": tuple(kernel),
            "padding": (before[0], after[0], before[1], after[1]), "dilation": pair(dilation), "groups": groups,
            "options": {"input_dilation": pair(stride)},
        }  # fmt: skip
        return self.found.made(
            self._named(weight, module, "conv2d"), ("transposed", _printed(fields)), "conv2d", [operand],
            tuple(result.shape[-3:]), fields, result,
        )  # fmt: skip

    def _repeated(
        self, operand: Operand, result: Any, module: str, mode: str = "nearest", **_: Any
    ) -> list[Place]:  # fmt: skip
        if mode not in ("nearest", "nearest-exact"):
            raise Inexpressible(f"mode {mode!r}; allowed: 'nearest'")
        if len(operand.shape) < 4 or any(
            wide % side for wide, side in zip(result.shape[-2:], operand.shape[-2:], strict=True)
        ):
            raise Inexpressible(f"{list(operand.shape)} to {list(result.shape)}; allowed: whole multiples of the sides")
        operand = self.found.arranged(operand, operand.shape[-3:])
        factor = tuple(wide // side for wide, side in zip(result.shape[-2:], operand.shape[-2:], strict=True))
        shape, name = tuple(result.shape[-3:]), module or f"{operand.place.node}.upsample"
        return self.found.made(
            name, ("upsample", factor), "upsample", [operand], shape, {"options": {"factor": factor}}, result
        )

    def _by_position(
        self, name: str, operand: Operand, result: Any, module: str, dim: int | None = None,
        normalized_shape: Any = (), weight: Any = None, bias: Any = None, eps: float = 1e-5, **more: Any,
    ) -> list[Place]:  # fmt: skip
        """A softmax or a layer norm of the last axis, which are the channels of the positions."""
        if more.get("dtype") is not None:
            raise Inexpressible("another dtype")
        axes = tuple(np.ravel(normalized_shape)) if name == "layer_norm" else (operand.shape[-1],)
        if len(axes) > 1 or (name == "softmax" and (dim is None or dim % len(operand.shape) != len(operand.shape) - 1)):
            raise Inexpressible("over other axes than the last; allowed: the last, which has the channels of a token")
        features, size = operand.shape[-1], math.prod(self.found.shape(operand))
        if size % features:
            raise Inexpressible(f"works on the last axis of {list(operand.shape)}")
        called = self.names.get(id(weight)) or module or f"{operand.place.node}.{name}"
        operand, shape = by_tokens(self.found, operand, features)
        if name == "softmax":
            fields: dict[str, Any] = {"options": {"kind": "exponential"}}
        else:
            gain, offset = np.ones(features), np.zeros(features)
            fields = {
                "weight": gain if weight is None else doubles(weight).copy(),
                "bias": offset if bias is None else doubles(bias).copy(), "options": {"eps": eps},
            }  # fmt: skip
        order = by_columns(1, size // features, features)
        use = (name, _printed(fields))
        return self.found.made(
            called, use, name, [operand], shape, fields, result, None if is_identity(order) else order
        )


def fixed(found: Nodes, value: Any, like: Operand, name: str, unit: float | None = None) -> Operand | None:
    """``value``, which does not come from the inputs, as an operand beside ``like``: a constant in the shape and order
    of its node. None if it is not the same for all images and timesteps."""
    torch = load_torch()
    shown = torch.as_tensor(doubles(value) if hasattr(value, "detach") else np.asarray(value, np.float64))
    try:
        wide = shown.expand(like.shape)
    except RuntimeError:
        return None
    shape = found.shape(like)
    rows = samples(wide, like.place.order, shape)
    if (rows != rows[:1]).any():
        return None
    node = found.constant(name, rows[0], unit)
    return Operand(wide, like.place._replace(node=node), like.shape, wide.contiguous())


def channels_of(found: Nodes, value: Any, like: Operand) -> np.ndarray | None:
    """A number a channel of the node of ``like``, if ``value`` is the same at all positions, images and timesteps."""
    torch = load_torch()
    if not hasattr(value, "detach") or value.is_complex():
        return None
    try:
        wide = torch.as_tensor(doubles(value)).expand(like.shape)
    except RuntimeError:
        return None
    shape = found.shape(like)
    rows = samples(wide, like.place.order, shape).reshape(-1, shape[0], math.prod(shape[1:]))
    same = bool((rows == rows[:1, :, :1]).all())
    return rows[0, :, 0].copy() if same else None


def _printed(fields: Mapping[str, Any]) -> str:
    """Something short that tells nodes with different ``fields`` apart."""
    return str({
        key: zlib.crc32(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
        for key, value in fields.items()
    })  # fmt: skip


def constant_rows(found: Nodes, value: Any, like: Operand, leading: int, name: str) -> Operand | None:
    """``value``, which does not come from the inputs, as an operand of the time of ``like``: a constant of the sides
    behind the ``leading`` axes. None if it is not the same for all images and timesteps."""
    sides = tuple(value.shape[leading:])
    rows = doubles(value).reshape(-1, math.prod(sides))
    if (rows != rows[:1]).any() or tuple(value.shape[:leading]) != like.values.shape[:leading]:
        return None
    shape = sides if len(sides) in (1, 3) else (sides[0], math.prod(sides[1:]), 1)
    node = found.constant(name, rows[0].reshape(shape))
    return Operand(value, like.place._replace(node=node, order=None), tuple(value.shape), value)


def turned(operand: Operand, axis: int, to: int) -> Operand:
    """``operand`` with the axis ``axis`` of its tensor moved to the place ``to`` (of those behind the images)."""
    order = operand.place.order
    sides = operand.shape[to:]
    kept = np.arange(math.prod(sides)) if order is None else order
    moved = np.moveaxis(kept.reshape(sides), axis - to, 0).reshape(-1)
    values = operand.values.movedim(axis, to)
    return replace(operand, values=values, shape=tuple(values.shape), place=operand.place._replace(order=moved))
