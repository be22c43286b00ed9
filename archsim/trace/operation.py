"""One operation of a network, and what ends it: neurons, a requantiser.

A current of an output neuron at timestep t is ``x[t] = sum_k w[k] s[k, t] + bias``, an integer. What its neuron makes
of it is in :mod:`archsim.trace.neurons`.

Networks without spikes end their sums in a requantiser instead, with multiplier m, shift s, ``half = (1 << s) >> 1``::

    y = clip((x m + half) >> s, least, largest)

where least and largest are those of ``bits`` bits, with or without a sign; or, with a table a of E entries,

    y = a[clip((x m + half) >> s, -E/2, E/2 - 1) + E/2]

whose entries fit ``bits``. Over the C channels of a position, in
integers (``//`` rounds down)::

    softmax      e = table[min(max(x) - x, 255)]; y = (255 e + sum(e) // 2) // sum(e)
    layer_norm   d = C x - sum(x); r = max(isqrt(sum(d^2) // C), 1)
                 y = clip((d m // r + bias + half) >> s, least, largest)

Words: I images, T timesteps, C channels, H and W height and width, F features, N output channels, K reduction length,
M output positions times images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from archsim.trace.neurons import Neuron
from archsim.trace.window import Window, sides

ScalarT = TypeVar("ScalarT", bound=np.generic)
_MOVING = ("concat", "slice", "upsample", "rearrange", "delay")
PLAIN_KEYS = (
    "kernel", "stride", "padding", "dilation", "input_dilation", "groups", "reduction", "transpose", "transpose_first",
    "heads", "factor", "axis", "start", "stop", "view", "order", "shape", "steps",
    "times",
)  # fmt: skip
"""What an operation and its record say with the same words."""


@dataclass(frozen=True, eq=False)
class Requantiser:
    """Integers of ``bits`` from integer sums; the equation is above.

    ``multiplier`` is int64 [N], one per output channel (an int stands for all channels of a layer with weights).
    Without a sign the least output is 0, which is a ReLU. ``activation`` is the table int64 [E], E a power of two.
    """

    multiplier: NDArray[np.int64]
    shift: int
    bits: int = 8
    signed: bool = True
    activation: NDArray[np.int64] | None = None


class _Stored(Generic[ScalarT]):
    """An array attribute that is decoded when asked for: its value is an array, or a function that returns one."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> None: ...
    @overload
    def __get__(self, instance: object, owner: type) -> NDArray[ScalarT] | None: ...
    def __get__(self, instance: object | None, owner: type) -> NDArray[ScalarT] | None:
        if instance is None:
            return None
        value = instance.__dict__.get(self._name)
        return value() if callable(value) else value

    def __set__(self, instance: object, value: NDArray[ScalarT] | Callable[[], NDArray[ScalarT]] | None) -> None:
        instance.__dict__[self._name] = value


@dataclass(frozen=True, eq=False)
class Operation:
    """One node of the network.

    To build one, give ``name``, ``op``, the tensors it reads and writes, and what the ``op`` needs:

    ``conv2d``, ``linear``   ``weight`` int8 [N, C / groups, kh, kw] or [N, F], ``bias`` int64 [N]
    ``conv2d``, ``pool``     ``kernel`` (of a convolution that of its weight), ``stride``, ``padding`` (rows, columns)
                             or (top, bottom, left, right)
    ``conv2d``               ``groups``, ``dilation``, ``input_dilation`` (of a transposed convolution: its stride)
    ``pool``                 ``reduction`` "max" or "sum"
    ``matmul``               ``transpose`` (of the second), ``transpose_first``, ``heads``
    ``reduce``               ``axis`` "channels", with ``groups``, or "positions"
    ``slice``                ``axis`` 0, 1 or 2, ``start``, ``stop``
    ``upsample``             ``factor`` (rows, columns)
    ``rearrange``            ``view``, ``order``, ``shape``
    ``delay``                ``steps``, an int, or int64 [C] with one per channel
    ``softmax``              ``table`` uint16 [256]
    ``layer_norm``           ``requantiser``, ``bias``
    ``add``                  ``times``: it adds spike times
    ``multiply``, ``concat`` nothing

    ``neuron`` where the output is spikes, and ``requantiser`` where it is integers of few bits, may end a ``conv2d``,
    ``linear``, ``add``, ``multiply``, ``matmul``, ``reduce`` or a ``pool`` that sums; without any of them such an
    operation writes its sums (logits). ``weight_scale`` times a weight is its real value.

    Of a step of training, an operation with weights may carry ``gradient_mask``, bool [T, I, ...] in the shape of its
    output: where the gradient of the loss with respect to the potential X[t] (without a neuron, to the output) is not
    zero.

    The trace that holds the operation fills in ``images``, the shapes [C, H, W] or [F] of inputs and output, and ``k``,
    how many values make one of the output: C / groups kh kw, F, the inner length of a product, the window of a pool,
    the operands of a sum. In a trace that was loaded, ``weight`` and ``gradient_mask`` are read when they
    are asked for: keep them in variables while you need them.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    weight: _Stored[np.int8] = _Stored()
    weight_bits: int = 8
    weight_scale: float = 1.0
    bias: NDArray[np.int64] | None = None
    neuron: Neuron | None = None
    transpose: bool = False
    gradient_mask: _Stored[np.bool_] = _Stored()
    requantiser: Requantiser | None = None
    table: NDArray[np.uint16] | None = None
    dilation: tuple[int, int] = (1, 1)
    input_dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    reduction: str = "max"
    transpose_first: bool = False
    heads: int = 1
    factor: tuple[int, int] = (1, 1)
    axis: int | str = 0
    start: int = 0
    stop: int = 0
    view: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    steps: int | NDArray[np.int64] = 1
    times: bool = False
    images: int = field(default=0, init=False)
    input_shapes: tuple[tuple[int, ...], ...] = field(default=(), init=False)
    output_shape: tuple[int, ...] = field(default=(), init=False)
    weight_shape: tuple[int, ...] | None = field(default=None, init=False)
    k: int = field(default=1, init=False)

    @property
    def window(self) -> Window:
        """What an output sees of the map that a convolution or a pool reads; other operations see a position."""
        return Window(self.kernel, self.stride, sides(self.padding), self.dilation, self.input_dilation)

    @property
    def moves(self) -> bool:
        """Whether all that it writes are values that it read, in their kind: a maximum, or nothing computed at all."""
        return self.op in _MOVING or (self.op == "pool" and self.reduction == "max")

    @property
    def m(self) -> int:
        """Rows of the matrix product: output positions (H W, 1 for features) times images."""
        return math.prod(self.output_shape[1:]) * self.images

    @property
    def n(self) -> int:
        """Columns of the matrix product: output channels or features."""
        return self.output_shape[0]
