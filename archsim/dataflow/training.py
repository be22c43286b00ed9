"""Training of a layer on SATA by back-propagation through time, as stages that run on the same array.

With spikes s, weights W, full sums o, potentials X before and u behind a timestep, all of a layer and its T timesteps
(:mod:`archsim.hardware.compute.lif`), gradients of the loss by a quantity written d.:

    forward               o[t] = s[t] W;  neurons fire;  potentials of all timesteps go to DRAM
    potential_gradient    dX[t] = dout[t] sigma(X[t] - h) + dX[t+1] lambda (1 - out[t]),   t = T - 1 ... 0
    backward              ds[t] = dX[t] W^T, a transposed convolution with real multiplications
    update                dW    = sum over t and positions of s[t]^T dX[t]: an AND, no multiplication;  W is rewritten

sigma is the surrogate derivative, zero outside a window, lambda the leak; so dX is sparse, and a *mask* with a bit for
every potential says where. As matrix products on the array of :mod:`archsim.dataflow.buffered_array` these are

    stage       rows               columns          summed over             live where            output
    forward     positions M        filters N        K                       spike                 spikes
    potential   C neurons a row    in a group C     -                       always                gradients, mask
    backward    input positions    channels         filters and kernel      gradient, by mask     errors ds
    update      K                  filters N        positions, timesteps    spike and gradient    new weights

A layer without neurons (the read-out) has no potentials; its gradients are those of the loss. Masks are those of the
trace; where it has none, a gradient is taken as non-zero where the surrogate's window is open, |X - h| < w h, or where
the next timestep's flows back through the leak: what may be non-zero, an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.buffered_tables import Map, bits_at
from archsim.dataflow.layer import Layer
from archsim.hardware.compute.lif import HARD, Rule, fires, settle
from archsim.jit import njit
from archsim.trace import Operation
from archsim.trace.window import Window

StageName = Literal["forward", "potential_gradient", "backward", "update"]
REPORTED_AS = {
    "forward": "forward", "potential_gradient": "backward", "backward": "backward", "update": "update",
}  # fmt: skip
"""The column ``stage`` of the results."""

FORWARD = {
    ("pe", "add"): ("added",),
    ("lif", "update"): ("fired",),
    ("lif", "leak"): ("leaked",),
    ("scratchpad", "spike_write"): ("row_entries",),
    ("scratchpad", "spike_read"): ("pairs",),
    ("scratchpad", "weight_write"): ("column_entries",),
    ("scratchpad", "weight_read"): ("added",),
    ("scratchpad", "psum_read"): ("added", "sums"),
    ("scratchpad", "psum_write"): ("added",),
}
ACTIONS: Mapping[str, Mapping[tuple[str, str], tuple[str, ...]]] = {
    "inference": FORWARD,
    "forward": FORWARD,
    "potential_gradient": {("pgu", "update"): ("neurons",)},
    "backward": {
        ("pe", "multiply_add"): ("added",),
        ("scratchpad", "gradient_write"): ("row_entries",),
        ("scratchpad", "gradient_read"): ("added",),
        ("scratchpad", "weight_write"): ("column_entries",),
        ("scratchpad", "weight_read"): ("added",),
        ("scratchpad", "gradient_sum_read"): ("added", "sums"),
        ("scratchpad", "gradient_sum_write"): ("added",),
    },
    "update": {
        ("pe", "gradient_add"): ("added", "sums"),
        ("scratchpad", "spike_write"): ("row_entries",),
        ("scratchpad", "spike_read"): ("pairs",),
        ("scratchpad", "gradient_write"): ("row_entries",),
        ("scratchpad", "gradient_read"): ("added",),
        ("scratchpad", "gradient_sum_read"): ("added", "sums"),
        ("scratchpad", "gradient_sum_write"): ("added",),
    },
}
"""What an action of each stage is the sum of, by what the agents of the array count.

``neurons`` are all of a stage at all timesteps; ``fired`` and ``leaked`` are those sums whose neurons do so.
"""


@dataclass(frozen=True, kw_only=True)
class Stage(Layer):
    """A stage of a layer: ``m``, ``n``, ``k`` are those of its own product, the rest is the layer's.

    ``gradients`` uint16 [M, N] say at which timesteps those of a potential are not zero.
    """

    stage: StageName
    of: Layer
    gradients: NDArray[np.uint16]
    surrogate: bool

    @classmethod
    def make(
        cls, layer: Layer, stage: StageName, gradients: NDArray[np.uint16], surrogate: bool, **sizes: int
    ) -> Stage:
        """The stage ``stage`` of ``layer``."""
        given = {name: getattr(layer, name) for name in Layer.__dataclass_fields__} | sizes
        given["name"] = f"{layer.name}.{stage}"
        return cls(**given, stage=stage, of=layer, gradients=gradients, surrogate=surrogate)


@dataclass(frozen=True)
class Geometry:
    """A convolution without its data. A linear layer is one of images of one row, R positions beside each other."""

    m: int
    images: int
    channels: int
    height: int
    width: int
    window: Window
    linear: bool = False

    @classmethod
    def of_linear(cls, m: int, k: int, rows: int) -> Geometry:
        """Of a linear layer."""
        width = min(rows, m)
        return cls(m, -(-m // width), k, 1, width, Window(), True)

    @classmethod
    def of_operation(cls, operation: Operation, rows: int) -> Geometry:
        """Of one product of an operation: of a group, or of an image."""
        images, positions = operation.images, math.prod(operation.output_shape[1:])
        if operation.op != "conv2d":
            return cls.of_linear(positions if operation.op == "matmul" else images * positions, operation.k, rows)
        channels, height, width = operation.input_shapes[0]
        return cls(images * positions, images, channels // operation.groups, height, width, operation.window)

    @classmethod
    def of(cls, layer: Layer, rows: int) -> Geometry:
        """Of a layer."""
        shape = layer.feature_map
        if shape is None:
            return cls.of_linear(layer.m, layer.k, rows)
        images, channels, height, width = shape.words.shape
        return cls(layer.m, images, channels, height, width, shape.window)

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of the output."""
        return self.window.output((self.height, self.width))

    @property
    def input_positions(self) -> int:
        """Pixels of the input, or positions of a linear layer."""
        return self.m if self.linear else self.images * self.height * self.width

    def positions(self) -> NDArray[np.int64]:
        """Coordinates of the output positions: of the first input that each of them sees."""
        image, y, x = np.indices((self.images, *self.output)).reshape(3, -1)[:, : self.m]
        (down, right), (top, left) = self.window.stride, self.window.before
        return np.stack([image, y * down - top, x * right - left, 0 * x], 1)

    def kernel_places(self, channels: int, sign: int) -> NDArray[np.int64]:
        """Coordinates of kernel elements, channel by channel, counted forwards or (``sign`` -1) backwards."""
        channel, ky, kx = np.indices((channels, *self.window.kernel)).reshape(3, -1)
        down, right = self.window.dilation
        return np.stack([0 * kx, sign * down * ky, sign * right * kx, channel], 1)


def spike_map(shape: Geometry) -> Map:
    """Input spikes as they are stored: line by line of every image, channel by channel, pixel by pixel."""
    c, h, w = shape.channels, shape.height, shape.width
    strides = np.array([h * c * w, c * w, 1, w])
    return Map(shape.positions(), shape.kernel_places(c, 1), h, w, shape.window.input_dilation, strides, c * w)


def spike_map_by_channel(shape: Geometry) -> Map:
    """Spikes for the update: channel by channel, so that K elements of a fold lie close; rows and steps swap."""
    i, h, w = shape.images, shape.height, shape.width
    strides = np.array([h * w, w, 1, i * h * w])
    return Map(shape.kernel_places(shape.channels, 1), shape.positions(), h, w, (1, 1), strides, i * h * w)


def gradient_map(shape: Geometry, n: int) -> Map:
    """Gradients of potentials, as spikes are stored; seen from the inputs that they flow back to."""
    height, width = shape.output
    image, y, x = np.indices((shape.images, shape.height, shape.width)).reshape(3, -1)[:, : shape.input_positions]
    top, left = shape.window.before
    rows = np.stack([image, y + top, x + left, 0 * x], 1)
    strides = np.array([height * n * width, n * width, 1, width])
    return Map(rows, shape.kernel_places(n, -1), height, width, shape.window.stride, strides, n * width)


def _most(low: NDArray[np.int64], high: NDArray[np.int64], rows: int, unit_bits: int) -> int:
    """Bytes of the units ``low`` to ``high`` of R neighbouring rows, at most."""
    groups = np.arange(0, len(low), rows)
    units = int((np.maximum.reduceat(high, groups) - np.minimum.reduceat(low, groups)).max()) + 1
    return -(-units * unit_bits // 8)


def spike_tile(shape: Geometry, rows: int, bits: int) -> int:
    """Bytes of the input lines that R neighbouring positions need, at most; ``bits`` of an element."""
    (image, y, _, _), between = shape.positions().T, shape.window.input_dilation[0]
    low = (-(-y // between)).clip(0)
    high = ((y + shape.window.span[0] - 1) // between).clip(None, shape.height - 1)
    return _most(image * shape.height + low, image * shape.height + high, rows, shape.channels * shape.width * bits)


def channel_tile(shape: Geometry, rows: int, bits: int) -> int:
    """The same of the channels that R neighbouring K need in the update."""
    channel = shape.kernel_places(shape.channels, 1)[:, 3]
    return _most(channel, channel, rows, shape.images * shape.height * shape.width * bits)


def gradient_tile(shape: Geometry, n: int, rows: int, bits: int) -> int:
    """The same of the lines of gradients that flow back to R neighbouring inputs."""
    where, (height, width), stride = gradient_map(shape, n), shape.output, shape.window.stride[0]
    image, y, _, _ = where.rows.T
    low = (-(-(y - shape.window.kernel[0] + 1) // stride)).clip(0, height - 1)
    high = (y // stride).clip(0, height - 1)
    return _most(image * height + np.minimum(low, high), image * height + np.maximum(low, high), rows, n * width * bits)


def neuron_map(neurons: int, rows: int, columns: int) -> Map:
    """Potentials of neurons in any order, ``columns`` of them in each row of the array."""
    count = -(-neurons // columns)
    places = np.zeros((count, 4), np.int64)
    places[:, 2] = np.arange(count)
    return Map(places, np.zeros((1, 4), np.int64), 1, count, (1, 1), np.array([0, 0, 1, 0]), rows)


@njit
def gather(rows: Any, steps: Any, height: int, width: int, dilation_y: int, dilation_x: int, strides: Any, stored: Any,
           words: Any) -> None:  # fmt: skip
    """Elements ``words`` [rows, steps] of the ``stored`` tensor, flat by address (:class:`~.buffered_tables.Map`)."""
    for i in range(len(rows)):
        for k in range(len(steps)):
            y, x = rows[i, 1] + steps[k, 1], rows[i, 2] + steps[k, 2]
            if y % dilation_y == 0 and x % dilation_x == 0:
                y, x = y // dilation_y, x // dilation_x
                if 0 <= y < height and 0 <= x < width:
                    address = (rows[i, 0] + steps[k, 0]) * strides[0] + y * strides[1] + x * strides[2]
                    words[i, k] = stored[address + (rows[i, 3] + steps[k, 3]) * strides[3]]


def stored_gradients(shape: Geometry, gradients: NDArray[Any]) -> NDArray[Any]:
    """Gradients [M, N], flat in the order of :func:`gradient_map`."""
    height, width = shape.output
    whole = np.zeros((shape.images * height * width, gradients.shape[1]), gradients.dtype)
    whole[: shape.m] = gradients
    return np.ascontiguousarray(whole.reshape(shape.images, height, width, -1).transpose(0, 1, 3, 2)).ravel()


def unrolled_gradients(shape: Geometry, gradients: NDArray[Any]) -> NDArray[Any]:
    """The rows' operand of the stage ``backward`` from ``gradients`` [M, N]: [input positions, N x kernel]."""
    where = gradient_map(shape, gradients.shape[1])
    words = np.zeros((len(where.rows), len(where.steps)), gradients.dtype)
    gather(
        where.rows, where.steps, where.height, where.width, *where.dilation, where.strides,
        stored_gradients(shape, gradients), words,
    )  # fmt: skip
    return words


def backward_work(shape: Geometry, gradients: NDArray[np.uint16], weights: NDArray[Any]) -> dict[str, int]:
    """Matches and synaptic operations of the stage ``backward``.

    Pairs of a gradient [M, N] and a weight [N, K], neither of them zero, that lead to an input that is there.
    """
    positions, taps = shape.positions(), shape.kernel_places(1, 1)
    y, x = (positions[:, None, axis] + taps[:, axis] for axis in (1, 2))
    inside = ((y >= 0) & (y < shape.height) & (x >= 0) & (x < shape.width)).astype(np.int64)
    led = np.count_nonzero(weights.reshape(len(weights), -1, len(taps)), axis=1)
    return {
        "matches": int(((inside.T @ (gradients > 0)) * led.T).sum()),
        "synaptic_operations": int(((inside.T @ np.bitwise_count(gradients).astype(np.int64)) * led.T).sum()),
    }


def update_work(spikes: NDArray[np.uint16], gradients: NDArray[np.uint16], timesteps: int) -> dict[str, int]:
    """The same of the stage ``update``: pairs of a spike [M, K] and a gradient [M, N] of one position."""
    found = {"matches": int(np.count_nonzero(spikes, axis=1) @ np.count_nonzero(gradients, axis=1))}
    at = [(bits_at(spikes, t).sum(1), bits_at(gradients, t).sum(1)) for t in range(timesteps)]
    return found | {"synaptic_operations": sum(int(s @ g) for s, g in at)}


@njit
def open_windows(sums: Any, bias: Any, threshold: Any, width: Any, rule: Rule, words: Any) -> None:
    """Timesteps at which the gradient of a potential may be non-zero, words uint16 [M, N], of sums int64 [M, N, T].

    ``width`` int64 [N]: the surrogate derivative is non-zero where |X - h| is less, in the units of potentials.
    """
    timesteps = sums.shape[2]
    for m in range(sums.shape[0]):
        for n in range(sums.shape[1]):
            potential, near, spiked = 0, 0, 0
            limit = threshold[n] << rule.fraction_bits
            for t in range(timesteps):
                potential += (sums[m, n, t] + bias[n]) << rule.fraction_bits
                near |= int(abs(potential - limit) < width[n]) << t
                fired = fires(potential, limit, rule)
                spiked |= int(fired) << t
                potential = settle(potential, limit, fired, rule)
            live = 0
            for t in range(timesteps - 1, -1, -1):
                flows = (live >> (t + 1)) & 1 and (rule.reset != HARD or not (spiked >> t) & 1)
                live |= int((near >> t) & 1 or flows) << t
            words[m, n] = live
