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
    if operation.op == "delay":
        return delayed(operation, inputs[0])
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


def delayed(operation, values):
    """Each value of ``values`` [T, I, C, ...] at the timestep at which it arrives; zeros before."""
    output = np.zeros(values.shape, values.dtype)
    for t, image, channel, *place in np.ndindex(*values.shape):
        by = operation.steps if isinstance(operation.steps, int) else int(operation.steps[channel])
        if t + by < len(values):
            output[(t + by, image, channel, *place)] = values[(t, image, channel, *place)]
    return output


def never(timesteps):
    """The time of what never spikes: 255, or 65,535 where 255 is a timestep or its successor."""
    return 255 if timesteps < 255 else 65535


def spikes_of_times(times, timesteps):
    """Spikes [T, ...] of neurons that spike once, at ``times`` [...], or never."""
    spikes = np.zeros((timesteps, *times.shape), bool)
    for place in np.ndindex(*times.shape):
        if times[place] != never(timesteps):
            spikes[(int(times[place]), *place)] = True
    return spikes


def first_spike_times(spikes):
    """For each neuron the first timestep in which it spikes, or never."""
    times = np.full(spikes.shape[1:], never(len(spikes)), np.uint8 if len(spikes) < 255 else np.uint16)
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
    match operation.op:
        case "softmax" | "layer_norm":
            channels = [int(value) for value in first[:, place[1], place[2]]]
            return (softmax if operation.op == "softmax" else layer_norm)(operation, channels, place[0])
        case "linear" | "conv2d":
            bias = 0 if operation.bias is None else int(operation.bias[place[0]])
            return bias + (_fully_connected if operation.op == "linear" else _convolution)(operation, first, place)
        case "pool":
            values = [int(first[place[0], y, x]) for _, _, y, x in window(operation, first, place)]
            return sum(values) if operation.reduction == "sum" else max(values)
        case "add":
            return sum(int(values[place]) for values in inputs)
        case "concat":
            return int(np.concatenate(inputs)[place])
        case "multiply":
            return int(first[place]) * int(inputs[1][_shared(first.shape, inputs[1].shape, place)])
        case "reduce":
            return _reduced(operation, first, place)
        case "slice":
            shift = [operation.start if axis == operation.axis else 0 for axis in range(first.ndim)]
            return int(first[tuple(index + by for index, by in zip(place, shift, strict=True))])
        case "upsample":
            return int(first[place[0], place[1] // operation.factor[0], place[2] // operation.factor[1]])
        case "rearrange":
            return int(first.flatten()[_source(operation, place)])
    return _product(operation, *inputs, place)


def _fully_connected(operation, values, place):
    flat = [int(value) for value in values.flatten()]
    return sum(int(w) * value for w, value in zip(operation.weight[place[0]], flat, strict=True))


def _convolution(operation, values, place):
    own = len(operation.weight[0])  # channels of a group
    group = place[0] // (len(operation.weight) // operation.groups)
    return sum(
        int(operation.weight[place[0], c, dy, dx]) * int(values[group * own + c, y, x])
        for c in range(own)
        for dy, dx, y, x in window(operation, values, place)
    )


def _shared(whole, part, place):
    """Where the second factor has the value that meets the one at ``place`` of the first."""
    neighbours = whole[0] // part[0]
    return (place[0] // neighbours, *(0 if size == 1 else i for size, i in zip(part[1:], place[1:], strict=True)))


def _reduced(operation, values, place):
    if operation.axis == "positions":
        return sum(int(value) for value in values[place[0]].flatten())
    own = len(values) // operation.groups
    return sum(int(values[(channel, *place[1:])]) for channel in range(place[0] * own, (place[0] + 1) * own))


def _source(operation, place):
    """The number in C order, among the values that are read, of the one that is written at ``place``."""
    number = 0
    for size, index in zip(operation.shape, place, strict=True):
        number = number * size + index
    turned = [0] * len(operation.order)  # the index along each axis of the transposed view
    for i in reversed(range(len(turned))):
        number, turned[i] = divmod(number, operation.view[operation.order[i]])
    index = [0] * len(turned)
    for axis, along in zip(operation.order, turned, strict=True):
        index[axis] = along
    for size, along in zip(operation.view, index, strict=True):
        number = number * size + along
    return number


def _product(operation, first, second, place):
    """One value of a product of two matrices of one head."""
    columns = second[0].size if operation.transpose else len(second) // operation.heads
    head, column = divmod(place[0], columns)
    row = place[1] if operation.transpose_first else place[1] * first.shape[2] + place[2]
    inner = first[0].size if operation.transpose_first else len(first) // operation.heads

    def at(values, position, channel):
        values = values.reshape(len(values), -1)
        return int(values[head * (len(values) // operation.heads) + channel, position])

    return sum(
        (at(first, k, row) if operation.transpose_first else at(first, row, k))
        * (at(second, column, k) if operation.transpose else at(second, k, column))
        for k in range(inner)
    )


def window(operation, values, place):
    """(kernel row, kernel column, row, column) of the inputs inside the feature map that an output sees."""
    top, left = operation.padding[0], operation.padding[len(operation.padding) // 2]
    for dy in range(operation.kernel[0]):
        for dx in range(operation.kernel[1]):
            y, between_rows = divmod(
                place[1] * operation.stride[0] + dy * operation.dilation[0] - top, operation.input_dilation[0]
            )
            x, between_columns = divmod(
                place[2] * operation.stride[1] + dx * operation.dilation[1] - left, operation.input_dilation[1]
            )
            inside = 0 <= y < values.shape[1] and 0 <= x < values.shape[2]
            if inside and not between_rows and not between_columns:
                yield dy, dx, y, x


def im2col(operation, spikes):
    """The matrix [T, M, K] of spikes, signed spikes or integers that a layer multiplies with its weights."""
    timesteps, images = spikes.shape[:2]
    if operation.op == "linear":
        return spikes.reshape(timesteps, images, -1)
    matrix = np.zeros((timesteps, operation.m, operation.k * operation.groups), spikes.dtype)
    _, rows, columns = operation.output_shape
    for t in range(timesteps):
        row = 0
        for image in range(images):
            for y in range(rows):
                for x in range(columns):
                    for dy, dx, sy, sx in window(operation, spikes[t, image], (0, y, x)):
                        for c in range(spikes.shape[2]):
                            k = (c * operation.kernel[0] + dy) * operation.kernel[1] + dx
                            matrix[t, row, k] = spikes[t, image, c, sy, sx]
                    row += 1
    return matrix
