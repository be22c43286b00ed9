"""Batch-norm adaptation: a gain and an offset for every channel that make a disturbed network right again.

Behind the arrays of an operation, the sum y of a channel c becomes gain[c] y + offset[c]; weights stay as they are.
That is what batch-norm, folded into weights and biases of a trained network, could do on the machine itself.

``statistics``, nearly free of training: with mean m and standard deviation s of the channel over the calibration images
(all positions and timesteps), on the machine and of the exact network (without the bias, which is added afterwards),

    gain = s_exact / s,      offset = m_exact - gain m,

layer after layer, each reading what the adapted layers before it make. A channel that never moves keeps gain 1.

``fine_tuned``: starting there, gain = u gamma / s and offset = u (beta - gamma m / s), of which gamma and beta are
trained by back-propagation with the calibration's labels, with u what 1 is in a float network: the threshold of a
neuron; of a requantiser the current of one standard deviation of the exact outputs, without either one standard
deviation of the exact currents. The forward pass is that of the machine. The backward pass is that of the exact
network's integer weights, through what is not differentiable as follows:

    neuron        ds[t]/dX[t] = max(0, 1 - |X[t] / h - 1|) / h, du[t]/dX[t] the leak's factor (none behind a hard reset,
                  1 behind a soft one before the leak); no gradient through the reset or ``mask_fire_once``
    requantiser   its slope multiplier / 2^shift, 0 where it clips (straight through the rounding)
    conversion    1: what is read is taken for the product it stands for

The loss is the cross-entropy of the logits, added over time and divided by the standard deviation of the exact ones.
Source: BN adaptation and fine-tuning on crossbars, GLSVLSI 2023 (arXiv:2305.18416), of which notes say 5 epochs and a
rate of 0.01, a fifth every two epochs; momentum and the triangular surrogate gradient are assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.trace import Neuron, Operation, Requantiser, Trace
from archsim.trace.graph import SOFTMAX_BITS, integer_range
from archsim.trace.neurons import potentials
from archsim.trace.resimulation import currents_of

EPOCHS = 5
RATE = 0.01
RATE_FALLS_BY = 5
RATE_FALLS_EVERY = 2
MOMENTUM = 0.9

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Correction:
    """What the digital side does to the sums of a layer's channels, float64 [N] each."""

    gain: Float
    offset: Float


class Moments:
    """Mean and standard deviation of channels, of all ``values`` [T, I, N, ...] that were added."""

    def __init__(self, *values: NDArray[Any]) -> None:
        self._count = 0
        self._total: Float | float = 0.0
        self._squares: Float | float = 0.0
        for some in values:
            self.add(some)

    def add(self, values: NDArray[Any]) -> None:
        """Take ``values`` into account."""
        channels = np.moveaxis(values, 2, 0).reshape(values.shape[2], -1).astype(np.float64)
        self._count += channels.shape[1]
        self._total = self._total + channels.sum(1)
        self._squares = self._squares + (channels * channels).sum(1)

    @property
    def mean(self) -> Float:
        """Mean of every channel."""
        return np.asarray(self._total) / self._count

    @property
    def deviation(self) -> Float:
        """Standard deviation of every channel."""
        found: Float = np.sqrt(np.maximum(np.asarray(self._squares) / self._count - self.mean**2, 0))
        return found

    @property
    def overall(self) -> float:
        """Standard deviation of all channels together."""
        mean = self.mean.mean()
        return float(np.sqrt(max((np.asarray(self._squares) / self._count).mean() - mean * mean, 0)))


def match(exact: Moments, made: Moments) -> Correction:
    """The correction that gives channels of the ``made`` moments the ``exact`` ones."""
    gain = np.divide(exact.deviation, made.deviation, out=np.ones_like(made.mean), where=made.deviation > 0)
    return Correction(gain, exact.mean - gain * made.mean)


class Trained:
    """Correction of an operation under training: gamma and beta in units of ``unit`` [N]."""

    def __init__(self, start: Correction, made: Moments, unit: Float) -> None:
        self._mean = made.mean
        self._deviation = np.where(made.deviation > 0, made.deviation, 1.0)
        self._unit = unit
        self.gamma = start.gain * self._deviation / unit
        self.beta = (start.offset + start.gain * self._mean) / unit
        self._speed = np.zeros((2, len(unit)))

    @property
    def correction(self) -> Correction:
        """As the machine does it."""
        gain = self._unit * self.gamma / self._deviation
        return Correction(gain, self._unit * self.beta - gain * self._mean)

    def gradient(self, gradient: Float, sums: Float) -> Float:
        """That of gamma and beta [2, N] for ``gradient`` [T, I, N, ...] of the corrected ``sums``."""
        by_channel = np.moveaxis(gradient, 2, 0).reshape(len(self._unit), -1)
        normal = np.moveaxis(sums, 2, 0).reshape(len(self._unit), -1) - self._mean[:, None]
        normal /= self._deviation[:, None]
        found: Float = np.stack([(by_channel * normal).sum(1), by_channel.sum(1)]) * self._unit
        return found

    def step(self, gradient: Float, rate: float) -> None:
        """One step of gradient descent with momentum."""
        self._speed = MOMENTUM * self._speed + gradient
        self.gamma = self.gamma - rate * self._speed[0]
        self.beta = self.beta - rate * self._speed[1]


def unit_of(operation: Operation, currents: Moments, outputs: Moments) -> Float:
    """What 1 is in a float network, in currents of each channel; by moments of the exact network."""
    if operation.neuron is not None:
        assert operation.neuron.threshold is not None, "it fires"
        return operation.neuron.threshold.astype(np.float64)
    if operation.requantiser is not None:
        slope = operation.requantiser.multiplier / 2.0**operation.requantiser.shift
        found: Float = np.maximum(outputs.overall, 1.0) / slope
        return found
    return np.full(len(currents.mean), max(currents.overall, 1.0))


def rate_of(epoch: int) -> float:
    """Rate of learning of an epoch, from 0 on."""
    return RATE / float(RATE_FALLS_BY ** (epoch // RATE_FALLS_EVERY))


def loss_gradient(logits: NDArray[Any], labels: NDArray[np.int64], unit: float) -> Float:
    """Gradient of the mean cross-entropy with respect to ``logits`` [T, I, classes, ...]."""
    flat = logits.sum(0).reshape(logits.shape[1], -1) / unit
    shares = np.exp(flat - flat.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    shares[np.arange(len(labels)), labels] -= 1
    gradient = shares.reshape(1, *logits.shape[1:]) / (len(labels) * unit)
    return np.broadcast_to(gradient, logits.shape)


def back_propagate(
    trace: Trace,
    made: Mapping[str, NDArray[Any]],
    currents: Mapping[str, NDArray[np.int64]],
    gradient: Float,
    seen: Callable[[Operation, Float], None],
) -> None:
    """Call ``seen`` with each operation of ``currents`` and the gradient of its currents, from the last to the first.

    ``made`` are all tensors of the forward pass, ``gradient`` [T, I, ...] is that of the last operation's output. It
    stops before the first operation whose currents are of interest.
    """
    behind: dict[str, Float] = {trace.operations[-1].output: gradient}
    first = next(place for place, operation in enumerate(trace.operations) if operation.name in currents)
    written = {operation.output for operation in trace.operations[first:]}
    for operation in reversed(trace.operations[first:]):
        outer = behind.pop(operation.output, None)
        if outer is None:
            continue
        operands = [made[name] for name in operation.inputs]
        summed = currents.get(operation.name)
        if summed is None:
            summed = currents_of(operation, operands, trace.timesteps)
        inner = _before(operation, outer, summed)
        if operation.name in currents:
            seen(operation, inner)
        if not written.intersection(operation.inputs):
            continue
        for name, one in zip(operation.inputs, _to_operands(operation, inner, operands), strict=True):
            if name in written:
                behind[name] = behind[name] + one if name in behind else one


def _before(operation: Operation, outer: Float, currents: NDArray[np.int64]) -> Float:
    """Gradient of ``currents`` by that of what neurons or a requantiser make of them."""
    if operation.neuron is not None:
        return _before_neuron(operation.neuron, outer, currents)
    requantiser = operation.requantiser
    if requantiser is None:
        return outer
    slope: Float = _channels(requantiser.multiplier / 2.0**requantiser.shift, outer)
    if operation.op != "layer_norm":
        passed: Float = outer * slope * _unclipped(requantiser, currents * slope)
        return passed
    deviations = currents - currents.mean(2, keepdims=True)
    root = np.maximum(np.sqrt((deviations**2).mean(2, keepdims=True)), 1 / currents.shape[2])
    normal = deviations / root
    shifted = normal * slope
    if operation.bias is not None:
        shifted += _channels(operation.bias / 2.0**requantiser.shift, outer)
    inner: Float = outer * slope * _unclipped(requantiser, shifted)
    inner = inner - inner.mean(2, keepdims=True) - normal * (inner * normal).mean(2, keepdims=True)
    inner /= root
    return inner


def _unclipped(requantiser: Requantiser, values: Float) -> NDArray[np.bool_]:
    low, high = integer_range(requantiser.bits, requantiser.signed)
    return (low <= values) & (values <= high)


def _before_neuron(neuron: Neuron, outer: Float, currents: NDArray[np.int64]) -> Float:
    assert neuron.threshold is not None, "it fires"
    leak = 2.0**-neuron.leak_shift
    leak = 1 - leak if neuron.leak_subtracts and neuron.leak_shift else leak
    after_spike = {"hard": 0.0, "soft": 1.0}.get(neuron.reset, leak)
    threshold = _channels(neuron.threshold.astype(np.float64), currents)
    steps = list(potentials(neuron, currents))
    if neuron.mask_fire_once:
        outer = outer * (sum(fired.astype(np.int64) for _, fired in steps) != 1)
    inner = np.empty(outer.shape)
    later = np.zeros(outer.shape[1:])
    for t in range(len(steps) - 1, -1, -1):
        total, fired = steps[t]
        relative = total / 2.0**neuron.fraction_bits / threshold
        surrogate = np.maximum(1 - np.abs(relative - 1), 0) / threshold
        inner[t] = later = outer[t] * surrogate + later * np.where(fired, after_spike, leak)
    return inner


def _to_operands(operation: Operation, inner: Float, operands: Sequence[NDArray[Any]]) -> list[Float]:
    """Gradients [T, I, ...] of all operands by that of the currents."""
    steps, images = inner.shape[:2]
    flat = inner.reshape(-1, *inner.shape[2:])
    timed = [
        np.broadcast_to(_timed(values, shape), (steps, images, *shape)).reshape(-1, *shape)
        for values, shape in zip(operands, operation.input_shapes, strict=True)
    ]
    match operation.op:
        case "conv2d":
            found = [_to_image(operation, flat)]
        case "linear":
            weight = operation.weight
            assert weight is not None, "linear layers have weights"
            found = [flat.reshape(len(flat), -1) @ weight]
        case "pool":
            found = [_to_pooled(operation, flat, timed[0])]
        case "concat":
            ends = np.cumsum([shape[0] for shape in operation.input_shapes])[:-1]
            found = np.split(flat, ends, 1)
        case "add":
            found = [flat] * len(operands)
        case "softmax":
            found = [_to_exponents(operation, flat, timed[0])]
        case "matmul":
            found = _to_factors(operation, flat, *timed)
        case _:
            found = [flat]
    return [one.reshape(steps, images, *shape) for one, shape in zip(found, operation.input_shapes, strict=True)]


def _to_image(operation: Operation, inner: Float) -> Float:
    """Through a convolution, kernel position by kernel position."""
    weight = operation.weight
    assert weight is not None, "convolutions have weights"
    columns = inner.reshape(*inner.shape[:2], -1).transpose(0, 2, 1).astype(np.float32)
    found = columns @ weight.reshape(operation.n, -1).astype(np.float32)
    height, width = operation.output_shape[1:]
    found = found.reshape(len(inner), height, width, -1, *operation.kernel)
    return _folded(operation, (found[..., i, j].transpose(0, 3, 1, 2) for i, j in np.ndindex(*operation.kernel)))


def _to_pooled(operation: Operation, inner: Float, values: NDArray[Any]) -> Float:
    """To the first of the highest values of each window."""
    seen = operation.window.windows(values.astype(np.int64), np.iinfo(np.int64).min)
    highest = seen.reshape(*seen.shape[:4], -1).argmax(-1)
    places = range(operation.kernel[0] * operation.kernel[1])
    return _folded(operation, (inner * (highest == place) for place in places))


def _folded(operation: Operation, parts: Iterable[NDArray[Any]]) -> Float:
    """Sum of ``parts`` [B, C, H', W'] of windows, kernel position after position, at their places in [B, C, H, W]."""
    channels, height, width = operation.input_shapes[0]
    (top, left), (down, right) = operation.padding, operation.stride
    padded = None
    for (i, j), part in zip(np.ndindex(*operation.kernel), parts, strict=True):
        if padded is None:
            padded = np.zeros((len(part), channels, height + 2 * top, width + 2 * left))
        rows, columns = part.shape[2:]
        padded[:, :, i : i + down * rows : down, j : j + right * columns : right] += part
    assert padded is not None, "a kernel has at least one position"
    return padded[:, :, top : top + height, left : left + width]


def _to_exponents(operation: Operation, inner: Float, values: NDArray[Any]) -> Float:
    """Through shares e_i / sum e of exponentials from a table, by the differences of its entries."""
    table = operation.table
    assert table is not None, "a softmax has a table"
    distance = np.minimum(values.max(1, keepdims=True) - values.astype(np.int64), len(table) - 1)
    exponentials = table.astype(np.float64)
    slopes = -np.gradient(exponentials)
    total = exponentials[distance].sum(1, keepdims=True)
    shares = exponentials[distance] / total
    whole = integer_range(SOFTMAX_BITS, False)[1]
    found: Float = whole * slopes[distance] * (inner - (inner * shares).sum(1, keepdims=True)) / total
    return found


def _to_factors(operation: Operation, inner: Float, first: NDArray[Any], second: NDArray[Any]) -> list[Float]:
    """Through a product of matrices, of H W rows and C columns each."""
    product, left, right = (
        values.reshape(*values.shape[:2], -1).transpose(0, 2, 1).astype(np.float64) for values in (inner, first, second)
    )
    if operation.transpose:
        found = product @ right, product.transpose(0, 2, 1) @ left
    else:
        found = product @ right.transpose(0, 2, 1), left.transpose(0, 2, 1) @ product
    return [one.transpose(0, 2, 1) for one in found]


def _channels(values: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    """``values`` [N] beside ``like`` [T, I, N, ...]."""
    return values.reshape(-1, *(1,) * (like.ndim - 3))


def _timed(values: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    return values if values.ndim == 2 + len(shape) else values[np.newaxis]
