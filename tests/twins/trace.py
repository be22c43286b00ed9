"""The arithmetic and the statistics of a trace, in slow scalar loops over Python integers.

Written from ``workloads/README.md`` and sharing no code with ``archsim.trace``.
"""

from __future__ import annotations

import math

import numpy as np

from tests.twins import neurons


def run(operation, inputs, timesteps):
    """Output [T, I, ...] of an operation for ``inputs``, which all have a time axis."""
    images = inputs[0].shape[1]
    shape = (timesteps, images, *operation.output_shape)
    currents = np.empty(shape, object)
    for t in range(timesteps):
        for image in range(images):
            given = [values[t, image] for values in inputs]
            for place in np.ndindex(*operation.output_shape):
                current = _current(operation, given, place)
                if operation.requantiser is not None:
                    channel = None if operation.op == "layer_norm" else place[0]
                    current = requantised(operation.requantiser, current, channel)
                currents[(t, image, *place)] = current
    if operation.neuron is None:
        return currents
    outputs = np.zeros(shape, np.int64)
    for place in np.ndindex(*shape[1:]):
        own = [currents[(t, *place)] for t in range(timesteps)]
        found, _ = neurons.run(operation.neuron, own, place[1:])
        outputs[(slice(None), *place)] = neurons.masked(operation.neuron, found)
    return outputs


def requantised(requantiser, current, channel):
    """An integer of few bits; a layer norm has multiplied already."""
    multiplier = 1 if channel is None else int(requantiser.multiplier[channel])
    half = 2 ** (requantiser.shift - 1) if requantiser.shift else 0
    rounded = (current * multiplier + half) // 2**requantiser.shift
    bits = requantiser.bits
    least, largest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if requantiser.signed else (0, 2**bits - 1)
    return min(max(rounded, least), largest)


def softmax(operation, channels, place):
    """Of the channels of a position, the share of the one at ``place`` in units of 1/255."""
    exponentials = [int(operation.table[min(max(channels) - value, 255)]) for value in channels]
    total = sum(exponentials)
    return (255 * exponentials[place] + total // 2) // total


def layer_norm(operation, channels, place):
    """The normalised channel at ``place``, before it is rounded to few bits."""
    count = len(channels)
    deviations = [count * value - sum(channels) for value in channels]
    root = max(math.isqrt(sum(value**2 for value in deviations) // count), 1)
    bias = 0 if operation.bias is None else int(operation.bias[place])
    return deviations[place] * int(operation.requantiser.multiplier[place]) // root + bias


def spikes_of_times(times, timesteps):
    """Spikes [T, ...] of neurons that spike once, at ``times`` [...], or never (255)."""
    spikes = np.zeros((timesteps, *times.shape), bool)
    for place in np.ndindex(*times.shape):
        if times[place] != 255:
            spikes[(int(times[place]), *place)] = True
    return spikes


def first_spike_times(spikes):
    """For each neuron the first timestep in which it spikes, or 255."""
    times = np.full(spikes.shape[1:], 255, np.uint8)
    for place in np.ndindex(*times.shape):
        for t in reversed(range(len(spikes))):
            if spikes[(t, *place)]:
                times[place] = t
    return times


def signed_spikes(packed, shape):
    """The tensor of -1, 0 and 1 in ``packed``, four a byte, the first in the lowest bits."""
    codes = {"00": 0, "01": 1, "11": -1}
    bits = "".join(f"{byte:08b}"[::-1] for byte in packed.tolist())
    pairs = [bits[place : place + 2][::-1] for place in range(0, 2 * int(np.prod(shape)), 2)]
    return np.array([codes[pair] for pair in pairs], np.int8).reshape(shape)


def _current(operation, inputs, place):
    first = inputs[0]
    if operation.op in ("softmax", "layer_norm"):
        channels = [int(value) for value in first[:, place[1], place[2]]]
        if operation.op == "softmax":
            return softmax(operation, channels, place[0])
        return layer_norm(operation, channels, place[0])
    bias = 0 if operation.bias is None else int(operation.bias[place[0]])
    if operation.op == "linear":
        values = [int(value) for value in first.flatten()]
        return bias + sum(int(w) * value for w, value in zip(operation.weight[place[0]], values, strict=True))
    if operation.op == "conv2d":
        channels = range(first.shape[0])
        weight = operation.weight
        return bias + sum(
            int(weight[place[0], c, dy, dx]) * int(first[c, y, x])
            for c in channels
            for dy, dx, y, x in _window(operation, first, place)
        )
    if operation.op == "pool":
        return max(int(first[place[0], y, x]) for _, _, y, x in _window(operation, first, place))
    if operation.op == "add":
        return sum(int(values[place]) for values in inputs)
    if operation.op == "concat":
        return int(np.concatenate(inputs)[place])
    row = place[1] * first.shape[2] + place[2]
    second = inputs[1].reshape(inputs[1].shape[0], -1)
    total = 0
    for c in range(first.shape[0]):
        other = second[c, place[0]] if operation.transpose else second[place[0], c]
        total += int(first.reshape(first.shape[0], -1)[c, row]) * int(other)
    return total


def _window(operation, values, place):
    """(kernel row, kernel column, row, column) of the inputs inside the feature map that an output sees."""
    for dy in range(operation.kernel[0]):
        for dx in range(operation.kernel[1]):
            y = place[1] * operation.stride[0] + dy - operation.padding[0]
            x = place[2] * operation.stride[1] + dx - operation.padding[1]
            if 0 <= y < values.shape[1] and 0 <= x < values.shape[2]:
                yield dy, dx, y, x


def im2col(operation, spikes):
    """The matrix [T, M, K] of spikes, signed spikes or integers that a layer multiplies with its weights."""
    timesteps, images = spikes.shape[:2]
    if operation.op == "linear":
        return spikes.reshape(timesteps, images, -1)
    matrix = np.zeros((timesteps, operation.m, operation.k), spikes.dtype)
    _, rows, columns = operation.output_shape
    for t in range(timesteps):
        row = 0
        for image in range(images):
            for y in range(rows):
                for x in range(columns):
                    for dy, dx, sy, sx in _window(operation, spikes[t, image], (0, y, x)):
                        for c in range(spikes.shape[2]):
                            k = (c * operation.kernel[0] + dy) * operation.kernel[1] + dx
                            matrix[t, row, k] = spikes[t, image, c, sy, sx]
                    row += 1
    return matrix
