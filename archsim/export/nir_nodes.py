"""One node of a NIR graph as nodes of the float network.

A map with one axis, [C, L], is [C, 1, L] in a trace. Whatever a trace cannot express raises ``Inexpressible``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from archsim.export.network import Node, Real, Shape
from archsim.export.nir_fields import (
    bias_of,
    by_channel,
    check_declared,
    check_maps,
    outputs_of,
    padding_of,
    pair,
    real,
    spread,
    whole,
)
from archsim.export.nir_timesteps import Timesteps
from archsim.export.torch_modules import Inexpressible
from archsim.trace.graph import MAX_ELEMENTS
from archsim.trace.schema import MAX_TIMESTEPS

# Fields by kind of node: those that it must have, and those that it may have.
FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Input": ((), ("shape",)),
    "Output": ((), ("shape",)),
    "Flatten": ((), ("start_dim", "end_dim", "input_type")),
    "Conv1d": (("weight", "stride", "padding", "dilation", "groups"), ("bias", "input_shape")),
    "Conv2d": (("weight", "stride", "padding", "dilation", "groups"), ("bias", "input_shape")),
    "Linear": (("weight",), ()),
    "Affine": (("weight", "bias"), ()),
    "Scale": (("scale",), ()),
    "SumPool2d": (("kernel_size", "stride", "padding"), ()),
    "AvgPool2d": (("kernel_size", "stride", "padding"), ()),
    "Delay": (("delay",), ()),
    "Threshold": (("threshold",), ()),
    "IF": (("r", "v_threshold"), ("v_reset",)),
    "LIF": (("tau", "r", "v_leak", "v_threshold"), ("v_reset",)),
    "CubaLIF": (("tau_syn", "tau_mem", "r", "v_leak", "v_threshold"), ("v_reset", "w_in")),
    "I": (("r",), ()),
    "LI": (("tau", "r", "v_leak"), ()),
    "CubaLI": (("tau_syn", "tau_mem", "r", "v_leak"), ("w_in",)),
}
# Kinds that write the shape that they read.
SAME_SHAPE = ("Scale", "Delay", "Threshold", "IF", "LIF", "CubaLIF", "I", "LI", "CubaLI")
# Kinds that a trace has with parameters per channel only.
_BY_CHANNEL = ("Scale", "Delay", "I", "LI", "CubaLI")
# What a neuron's field is where it is not given. Graphs from before there was v_reset reset to 0.
_DEFAULTS = {"v_reset": 0.0, "w_in": 1.0}
# How far a delay may be from timesteps, in timesteps.
_SAME_TIME = 1e-3


class Translator:
    """Translates nodes at the timestep of ``at``, for ``timesteps`` of ``images``."""

    def __init__(self, at: Timesteps, timesteps: int, images: int) -> None:
        self.at = at
        self.timesteps, self.images = timesteps, images
        self.notes: list[str] = []

    def nodes(
        self, name: str, kind: str, node: dict[str, Any], source: str, shape: Shape, nir_shape: Shape
    ) -> list[Node]:
        """What stands for ``node`` behind ``source``, which writes ``shape`` where NIR sees ``nir_shape``.

        The last one is called ``name``; there is none where the node does nothing.
        """
        if kind in _BY_CHANNEL and len(shape) > len(nir_shape) == 1 and self._differs(kind, node, shape, nir_shape):
            # What was flattened has a channel for each value only where it is so in the trace.
            flat = viewed(f"{name}.flat", source, shape, nir_shape)
            return [flat, *self.nodes(name, kind, node, flat.name, nir_shape, nir_shape)]
        match kind:
            case "Linear" | "Affine":
                weight = real(node, "weight")
                if weight.ndim != 2 or weight.shape[1] != math.prod(nir_shape) or not weight.size:
                    raise Inexpressible(f"weights {list(weight.shape)} on an input {list(nir_shape)}")
                bias = bias_of(node, len(weight)) if kind == "Affine" else None
                return [Node(name, "linear", (source,), (len(weight),), weight=weight, bias=bias)]
            case "Conv1d" | "Conv2d":
                return self._convolution(name, kind, node, source, shape, nir_shape)
            case "SumPool2d" | "AvgPool2d":
                return [self._pool(name, kind, node, source, shape, nir_shape)]
            case "Scale":
                scales = spread(real(node, "scale"), shape, nir_shape)
                return [Node(name, "affine", (source,), shape, weight=by_channel(scales, "scales"))]
            case "Delay":
                return self._delay(name, node, source, shape, nir_shape)
        return self._neuron(name, kind, node, source, shape, nir_shape)

    def _differs(self, kind: str, node: dict[str, Any], shape: Shape, nir_shape: Shape) -> bool:
        """Whether a parameter differs within a channel."""
        fields = (field for field in (*FIELDS[kind][0], *FIELDS[kind][1]) if node.get(field) is not None)
        columns = [spread(real(node, field), shape, nir_shape).reshape(shape[0], -1) for field in fields]
        return any((values != values[:, :1]).any() for values in columns)

    def _convolution(
        self, name: str, kind: str, node: dict[str, Any], source: str, shape: Shape, nir_shape: Shape
    ) -> list[Node]:
        axes = 1 if kind == "Conv1d" else 2
        check_maps(nir_shape, axes)
        weight, groups = real(node, "weight"), whole(node, "groups", 1)
        if weight.ndim != 2 + axes or not weight.size:
            allowed = "[N, C / groups, length]" if axes == 1 else "[N, C / groups, height, width]"
            raise Inexpressible(f"weights {list(weight.shape)}; allowed: {allowed}")
        count, each = weight.shape[:2]
        if each * groups != shape[0] or count % groups:
            raise Inexpressible(f"weights {list(weight.shape)} in {groups} groups on an input {list(nir_shape)}")
        check_declared(node, "input_shape", nir_shape[1:], "it reads")
        made = []
        if axes == 1:
            weight = weight[:, :, np.newaxis]
            wanted = (shape[0], 1, nir_shape[1])
            if shape != wanted:
                made.append(viewed(f"{name}.row", source, shape, wanted))
                source, shape = f"{name}.row", wanted
        kernel = (int(weight.shape[2]), int(weight.shape[3]))
        stride, dilation = (pair(node, field, 1, axes) for field in ("stride", "dilation"))
        padding = padding_of(node, kernel, stride, dilation, axes)
        sides = outputs_of(shape, kernel, stride, padding, dilation)
        self._check_unrolled(shape[0] * math.prod(kernel) * math.prod(sides))
        bias = None if node.get("bias") is None else bias_of(node, count)
        convolution = Node(
            name, "conv2d", (source,), (count, *sides), weight, bias, kernel, stride, padding,
            dilation=dilation, groups=groups,
        )  # fmt: skip
        return [*made, convolution]

    def _pool(self, name: str, kind: str, node: dict[str, Any], source: str, shape: Shape, nir_shape: Shape) -> Node:
        check_maps(nir_shape, 2)
        kernel, stride = pair(node, "kernel_size", 1), pair(node, "stride", 1)
        padding = pair(node, "padding", 0)
        if any(pad > width for pad, width in zip(padding, kernel, strict=True)):
            raise Inexpressible(f"padding {list(padding)}; allowed: at most the kernel, {list(kernel)}")
        sides = outputs_of(shape, kernel, stride, padding, (1, 1))
        self._check_unrolled(shape[0] * math.prod(kernel) * math.prod(sides))
        factor = np.array(1.0 if kind == "SumPool2d" else 1 / math.prod(kernel))
        return Node(
            name, "sum_pool", (source,), (shape[0], *sides), factor, kernel=kernel, stride=stride, padding=padding
        )

    def _check_unrolled(self, values: int) -> None:
        if self.images * values > MAX_ELEMENTS:
            got = f"reads {self.images * values:,} unrolled inputs (M x K)"
            raise Inexpressible(f"{got}; allowed: at most {MAX_ELEMENTS:,}")

    def _delay(self, name: str, node: dict[str, Any], source: str, shape: Shape, nir_shape: Shape) -> list[Node]:
        given = by_channel(spread(real(node, "delay"), shape, nir_shape), "delays") / self.at.dt
        steps = np.round(given)
        if steps.min() < 0 or steps.max() > MAX_TIMESTEPS:
            got = f"{given.min():.6g} to {given.max():.6g} timesteps of dt = {self.at.dt:g} s"
            raise Inexpressible(f"delay: got {got}; allowed: 0 to {MAX_TIMESTEPS}")
        if (np.abs(steps - given) > _SAME_TIME).any():
            worst = given[np.abs(steps - given).argmax()]
            what = f"delays are rounded to timesteps of dt = {self.at.dt:g} s"
            self.notes.append(f"{name} (Delay): {what}, {worst:.6g} to {round(worst)}")
        if not steps.any():
            return []
        if not steps.all():
            raise Inexpressible("delay: 0 timesteps for some channels and more for others; allowed: 0 for all, or none")
        every = steps.astype(np.int64)
        only = int(every[0]) if (every == every[0]).all() else every
        return [Node(name, "delay", (source,), shape, options={"steps": only})]

    def _neuron(
        self, name: str, kind: str, node: dict[str, Any], source: str, shape: Shape, nir_shape: Shape
    ) -> list[Node]:
        of = {field: spread(real(node, field), shape, nir_shape) for field in FIELDS[kind][0]}
        for field in FIELDS[kind][1]:
            given = node.get(field) is not None
            of[field] = spread(real(node, field), shape, nir_shape) if given else np.full(shape, _DEFAULTS[field])
        self._check_neuron(kind, of)
        neuron = self.at.add(name, kind, of)
        if neuron.fires != "nothing":
            return [Node(name, "neuron", (source,), shape, neuron=neuron)]
        # A read-out gives potentials, so that what one unit of its input adds to them goes in front of it.
        gain, shift = self.at.read_out(kind, of)
        gains, shifts = by_channel(gain, "gains of potentials"), by_channel(shift, "resting potentials")
        if (gains == 1).all() and not shifts.any():
            return [Node(name, "neuron", (source,), shape, neuron=neuron)]
        scaled = Node(f"{name}.gain", "affine", (source,), shape, weight=gains, bias=shifts if shifts.any() else None)
        return [scaled, Node(name, "neuron", (scaled.name,), shape, neuron=neuron)]

    def _check_neuron(self, kind: str, of: dict[str, Real]) -> None:
        """Refuse what a neuron cannot be."""
        for field in ("r", "w_in"):
            if field in of and of[field].min() <= 0:
                what = "a resistance" if field == "r" else "an input weight"
                raise Inexpressible(f"{field}: {what} of {of[field].min():g}; allowed: above zero")
        for field in ("tau", "tau_mem", "tau_syn"):
            if field in of and of[field].min() < self.at.dt * (1 - 1e-6):
                got = f"{field} {of[field].min():g} s with timesteps of dt = {self.at.dt:g} s"
                raise Inexpressible(f"{got}; allowed: dt and longer{self.at.longer_hint(of)}")
        if kind == "Threshold":
            if of["threshold"].min() <= 0:
                raise Inexpressible(f"threshold: got {of['threshold'].min():g}; allowed: above zero")
        elif "v_threshold" in of:
            limit = of["v_threshold"]
            rest = of.get("v_leak", np.zeros(limit.shape))
            where = np.unravel_index((limit - rest).argmin(), limit.shape)
            if limit[where] <= rest[where]:
                got = f"{limit[where]:g} where potentials rest at {rest[where]:g}"
                raise Inexpressible(f"v_threshold: got {got}; allowed: above that")
        if kind == "CubaLI" and of["v_leak"].any():
            raise Inexpressible(f"v_leak: got {of['v_leak'].flat[0]:g}; allowed: 0 for a read-out with a current")


def viewed(name: str, source: str, shape: Shape, wanted: Shape) -> Node:
    """The same values in another shape."""
    options = {"view": shape, "order": tuple(range(len(shape))), "shape": wanted}
    return Node(name, "rearrange", (source,), wanted, options=options)
