"""An operation in the pieces in which a machine can run it: products of a binary matrix with a matrix of few bits.

A machine multiplies words of at most as many bits as it has timesteps with weights of its width. Whatever is larger
comes in several pieces, one after the other, and neurons (or sums) go on where the piece before left them:

    more timesteps than the machine has     a piece for every window of timesteps
    operands that are not single bits       planes: the bits of a value in two's complement, or (``unary``) a plane for
                                            each number that a value exceeds; a timestep's planes lie side by side
    an operand that does not change in time its planes once for every window; its sum is used at all timesteps of it
    groups                                  a product of N / G columns for each, or for as many as cost no more together
    a product of two activations            one for each image and head, and each timestep if the second operand
                                            changes in time; that one is dense, as nobody has compressed it
    wider values of it than a weight        slices of the weight's width, from the lowest on
    an operation that reads its own past    a piece for each of the timesteps that it can know

Between two pieces the unfinished sum of an output and what its neuron remembers lie in memory, ``state_bytes`` each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress import bitmask, packed_time
from archsim.dataflow.layer import (
    ACTIVATION_BITS,
    WEIGHTED,
    FeatureMap,
    Layer,
    OperandKind,
    Planes,
    State,
    fires_once,
    is_pooled,
    layer_of,
)
from archsim.hardware.compute.lif import is_ruled
from archsim.trace import Neuron, Operation, Requantiser, Trace, neurons
from archsim.trace.content import spans
from archsim.trace.graph import integer_range
from archsim.trace.work import groups_of

Encoder = Literal["skipped", "bit_planes", "unary"]
Part = Callable[[NDArray[Any]], NDArray[Any]]
"""Takes what a product reads out of a timestep [I, ...] of a tensor."""


class Limits(NamedTuple):
    """What a machine can do at once: planes of a word and bits of a plane, bits of a weight; and bytes of a sum between
    two pieces.

    A plane has one bit on a machine for spikes. On one for activations a word is one plane of ACTIVATION_BITS without a
    sign: wider values come in several, and those below zero in planes of their own. Groups are one product together
    while they have no more than ``group_inputs`` inputs.
    """

    operand: OperandKind
    planes: int
    weight_bits: int
    state_bytes: int
    encoder: Encoder
    group_inputs: int


class Source:
    """A tensor of a trace, of which a few timesteps are decoded at a time, the last of them kept."""

    def __init__(self, trace: Trace, name: str) -> None:
        self._stream = trace.stream(name)
        values = trace.images * math.prod(trace.meta.tensors[name].shape)
        self._spans = list(spans(self._stream.timesteps, values))
        self._kept: tuple[int, NDArray[Any]] | None = None

    @property
    def changes(self) -> bool:
        """Whether the tensor changes in time."""
        return self._stream.timesteps > 1

    def at(self, t: int) -> NDArray[Any]:
        """Timestep ``t``, [I, ...]; the same at all of them if it does not change."""
        t = t if self.changes else 0
        first, end = next(span for span in self._spans if span[0] <= t < span[1])
        if self._kept is None or self._kept[0] != first:
            values = self._stream.operand(first, end)
            self._kept = first, values if self._stream.timed else values[np.newaxis]
        timestep: NDArray[Any] = self._kept[1][t - first]
        return timestep

    def range(self) -> tuple[int, int]:
        """Least and largest value, and 0."""
        found = [(int(values.min()), int(values.max())) for values in self._stream.windows()]
        return min(0, *(low for low, _ in found)), max(0, *(high for _, high in found))


class Operand(NamedTuple):
    """What a product reads of a tensor, as planes worth ``factor`` int64 [planes] each.

    ``part`` takes it out of a timestep [I, ...] of the ``source``. ``kind``: planes are the bits of values, or what of
    them exceeds 0, 1, 2, ...; or their digits of ACTIVATION_BITS, first those of what is above zero, then those of what
    is below.
    """

    source: Source
    part: Part
    factor: NDArray[np.int64]
    kind: Literal["bits", "unary", "digits"]

    def plane(self, t: int, number: int) -> NDArray[np.uint16]:
        """Plane ``number`` of timestep ``t``."""
        values = self.part(self.source.at(t))
        if self.kind == "unary":
            values = values > number
        elif self.kind == "digits":
            worth = int(self.factor[number])
            above = np.maximum(values.astype(np.int64) * (1 if worth > 0 else -1), 0)
            values = above // abs(worth) & (1 << ACTIVATION_BITS) - 1
        elif values.dtype != np.bool_:
            values = values >> number & 1
        plane: NDArray[np.uint16] = values.astype(np.uint16)
        return plane


class Weights(NamedTuple):
    """What planes are multiplied with, integers [N, K] at each timestep, in slices of ``bits`` bits from the bits
    ``shifts`` on; the last one has the sign. ``changes``: whether they change in time."""

    at: Callable[[int], NDArray[Any]]
    changes: bool
    shifts: Sequence[int]
    bits: int

    def slice(self, t: int, number: int) -> tuple[NDArray[Any], int]:
        """Slice ``number`` at timestep ``t``, [N, K], and what it is worth."""
        part = self.at(t)
        if len(self.shifts) == 1:
            return part, 1
        part = part >> self.shifts[number]
        return (part if number + 1 == len(self.shifts) else part & (1 << self.bits) - 1), 1 << self.shifts[number]


class Block(NamedTuple):
    """One product of an operation: of ``operand`` and ``weights``, for the channels ``channels`` of the output of the
    images ``images``."""

    operand: Operand
    weights: Weights
    images: slice
    channels: slice

    @property
    def changes(self) -> bool:
        """Whether the product is another one at another timestep."""
        return self.operand.source.changes or self.weights.changes


def is_plain(trace: Trace, operation: Operation, limits: Limits, window: int) -> bool:
    """Whether the machine runs ``operation`` at once."""
    if operation.op not in WEIGHTED or groups(operation, limits) > 1:
        return False
    kind, first = trace.kind(operation.inputs[0]), operation.inputs[0]
    if limits.operand == "int":
        return kind == "int" and fits(trace, first)
    ruled = operation.neuron is None or is_ruled(operation.neuron)
    return kind == "spike" and ruled and trace.timesteps <= min(limits.planes, window)


def groups(operation: Operation, limits: Limits) -> int:
    """Groups of a convolution: those that it says, or those that the weights of a dense one are of."""
    if operation.groups > 1 or operation.op != "conv2d" or limits.encoder == "skipped":
        return operation.groups
    assert operation.weight is not None, "convolutions have weights"
    return groups_of(operation.weight)


def fits(trace: Trace, tensor: str) -> bool:
    """Whether ``tensor``, integers, suits a machine for activations of 8 bits without a sign."""
    (least, most), (low, high) = Source(trace, tensor).range(), integer_range(ACTIVATION_BITS, signed=False)
    return low <= least and most <= high


def pieces_of(trace: Trace, operation: Operation, limits: Limits, window: int) -> Iterator[Layer]:
    """The pieces of ``operation``; at most ``window`` timesteps of its input are known at a time."""
    if is_plain(trace, operation, limits, window):
        yield layer_of(trace, operation)
        return
    for block in _blocks(trace, operation, limits):
        yield from _pieces_of_block(trace, operation, block, limits, window)


def products_of(trace: Trace, operation: Operation, limits: Limits, window: int) -> Iterator[tuple[Layer, ...]]:
    """The same pieces, those together that do not wait for each other: of all groups, or of all images and heads."""
    if is_plain(trace, operation, limits, window):
        yield (layer_of(trace, operation),)
        return
    blocks = _blocks(trace, operation, limits)
    yield from zip(*(_pieces_of_block(trace, operation, block, limits, window) for block in blocks), strict=True)


def most_planes(trace: Trace, operation: Operation, limits: Limits) -> int:
    """Planes of the largest piece of ``operation``."""
    name = operation.inputs[0]
    if trace.kind(name) == "spike":
        return min(limits.planes, trace.timesteps)
    operand = operand_of(trace, name, limits)
    return min(limits.planes, len(operand.factor) * (trace.timesteps if operand.source.changes else 1))


def operand_of(trace: Trace, name: str, limits: Limits) -> Operand:
    """The tensor ``name`` as planes: as many as its values need."""
    source = Source(trace, name)
    if trace.kind(name) in ("spike", "spike_time"):
        return Operand(source, whole, np.ones(1, np.int64), "bits")
    low, high = source.range()
    if limits.operand == "int":
        above, below = (range(0, size.bit_length(), ACTIVATION_BITS) for size in (max(high, 1), -low))
        worth = np.array([1 << at for at in above] + [-(1 << at) for at in below], np.int64)
        return Operand(source, whole, worth, "digits")
    if limits.encoder == "unary" and low == 0:
        return Operand(source, whole, np.ones(max(1, high), np.int64), "unary")
    return Operand(source, whole, np.array(digits(low, high), np.int64), "bits")


def whole(values: NDArray[Any]) -> NDArray[Any]:
    """All of a timestep."""
    return values


def digits(low: int, high: int) -> list[int]:
    """What the bits of a number from ``low`` to ``high`` are worth, in two's complement if it may be below zero."""
    if low >= 0:
        return [1 << bit for bit in range(max(1, high.bit_length()))]
    bits = max((-low - 1).bit_length(), high.bit_length())
    return [1 << bit for bit in range(bits)] + [-(1 << bits)]


def _blocks(trace: Trace, operation: Operation, limits: Limits) -> Iterator[Block]:
    operand = operand_of(trace, operation.inputs[0], limits)
    if operation.op == "matmul":
        yield from _products(trace, operation, operand, limits)
        return
    stored = operation.weight
    assert stored is not None, "convolutions and linear layers have weights"
    parts = groups(operation, limits)
    if parts == 1:
        yield Block(operand, fixed(stored.reshape(operation.n, -1)), slice(None), slice(0, operation.n))
        return
    channels, n = operation.input_shapes[0][0] // parts, operation.n // parts
    if parts > operation.groups:  # a dense one, with nothing outside of its blocks
        stored = np.concatenate([stored[g * n : (g + 1) * n, g * channels : (g + 1) * channels] for g in range(parts)])
    together = max(1, limits.group_inputs // (channels * math.prod(operation.kernel)))
    for first in range(0, parts, together):
        end = min(parts, first + together)
        inputs, outputs = slice(first * channels, end * channels), slice(first * n, end * n)
        part = partial(channels_of, inputs)
        weights = fixed(side_by_side(stored[outputs], end - first))
        yield Block(operand._replace(part=part), weights, slice(None), outputs)


def channels_of(channels: slice, values: NDArray[Any]) -> NDArray[Any]:
    """Some channels of a timestep [I, C, ...]."""
    return values[:, channels]


def fixed(weights: NDArray[Any]) -> Weights:
    """Weights [N, K] of a layer."""
    return Weights(lambda t: weights, False, (0,), 0)


def side_by_side(weight: NDArray[Any], parts: int) -> NDArray[Any]:
    """Weights [N, C / groups, ...] of several groups as those of one dense layer, [N, K]."""
    n, length = len(weight) // parts, weight[0].size
    dense = np.zeros((parts, n, parts, length), weight.dtype)
    own = np.arange(parts)
    dense[own, :, own] = weight.reshape(parts, n, length)
    return dense.reshape(parts * n, parts * length)


def _products(trace: Trace, operation: Operation, operand: Operand, limits: Limits) -> Iterator[Block]:
    heads, second = operation.heads, Source(trace, operation.inputs[1])
    n, shifts = operation.n // heads, slices_of(second, limits.weight_bits)
    for image in range(trace.images):
        for head in range(heads):
            rows = partial(matrix, image, head, heads, operation.transpose_first)
            columns = partial(matrix, image, head, heads, not operation.transpose)
            weights = Weights(partial(_columns, second, columns), second.changes, shifts, limits.weight_bits - 1)
            outputs = slice(head * n, (head + 1) * n)
            yield Block(operand._replace(part=rows), weights, slice(image, image + 1), outputs)


def slices_of(source: Source, weight_bits: int) -> range:
    """From which bits on the slices of a tensor are that fit weights of ``weight_bits``, with a sign each."""
    bits = sum(worth > 0 for worth in digits(*source.range()))
    return range(0, max(1, bits), weight_bits - 1)


def _columns(source: Source, part: Part, t: int) -> NDArray[np.int64]:
    return part(source.at(t)).astype(np.int64)


def matrices(values: NDArray[Any], heads: int) -> NDArray[Any]:
    """Tensors [T, I, C, H, W] as matrices of H W rows and C / heads columns, [T, I, heads, rows, columns]."""
    timesteps, images, channels = values.shape[:3]
    return values.reshape(timesteps, images, heads, channels // heads, -1).swapaxes(-1, -2)


def matrix(image: int, head: int, heads: int, transposed: bool, values: NDArray[Any]) -> NDArray[Any]:
    """A head of a timestep [I, C, H, W] as a matrix of H W rows and C / heads columns, or ``transposed``."""
    found: NDArray[Any] = matrices(values[np.newaxis], heads)[0, image, head]
    return found.T if transposed else found


def _pieces_of_block(
    trace: Trace, operation: Operation, block: Block, limits: Limits, window: int
) -> Iterator[Layer]:  # fmt: skip
    """The pieces of one product, and the state that goes from one to the next."""
    rows = math.prod(operation.output_shape[1:]) if operation.op == "matmul" else operation.m
    state = State.at_rest(rows, block.channels.stop - block.channels.start)
    cuts = list(_cuts(trace.timesteps, block, limits, window))
    taken, fired = 0, False
    for cut in cuts:
        fired = fired or cut.ends
        left = len(neurons.state_fields(operation.neuron)) if fired and operation.neuron is not None else 0
        left += not cut.ends
        left = 0 if cut is cuts[-1] else left * limits.state_bytes
        yield _piece(trace, operation, block, cut, state, taken, left, limits)
        taken = left


class Cut(NamedTuple):
    """What a piece multiplies: ``planes`` (timestep, plane) with slice ``part`` of the second operand. With it the sums
    of timesteps ``first`` to ``end`` are complete, if it ``ends`` them."""

    planes: Sequence[tuple[int, int]]
    part: int
    first: int
    end: int
    ends: bool


def _cuts(timesteps: int, block: Block, limits: Limits, window: int) -> Iterator[Cut]:
    bits, slices = len(block.operand.factor), len(block.weights.shifts)
    if not block.changes:
        steps = min(limits.planes, window)
    elif block.weights.changes or bits > limits.planes or slices > 1:
        steps = 1
    else:
        steps = min(limits.planes // bits, window)
    for first in range(0, timesteps, steps):
        end = min(timesteps, first + steps)
        shown = range(first, end if block.operand.source.changes else first + 1)
        planes = [(t, bit) for t in shown for bit in range(bits)]
        for part in range(slices):
            for begin in range(0, len(planes), limits.planes):
                ends = part + 1 == slices and begin + limits.planes >= len(planes)
                yield Cut(planes[begin : begin + limits.planes], part, first, end, ends)


def _piece(
    trace: Trace, operation: Operation, block: Block, cut: Cut, state: State, taken: int, left: int, limits: Limits
) -> Layer:  # fmt: skip
    operand, bits = block.operand, len(block.operand.factor)
    words = operand.plane(*cut.planes[0])
    for place, (t, bit) in enumerate(cut.planes[1:], 1):
        words |= operand.plane(t, bit) << np.uint16(place)
    feature_map: FeatureMap | None = None
    matrix: NDArray[np.uint16] = words.reshape(-1, words.shape[-1])
    if operation.op == "conv2d":
        feature_map = FeatureMap(words, operation.window)
        matrix = operation.window.unroll(words)
    elif operation.op == "linear":
        matrix = words.reshape(-1, operation.k)
    weights, worth = block.weights.slice(cut.first, cut.part)
    n, dense = len(weights), operation.op == "matmul"
    used = np.full(matrix.shape[1], n) if dense else np.count_nonzero(weights, axis=0)
    return Layer(
        name=operation.name,
        op=operation.op,
        m=len(matrix),
        n=n,
        k=matrix.shape[1],
        timesteps=len(cut.planes),
        operand="int" if operand.kind == "digits" else "spike",
        word_bits=ACTIVATION_BITS if operand.kind == "digits" else len(cut.planes),
        rows=packed_time.encode(matrix),
        columns=bitmask.encode_dense(weights) if dense else bitmask.encode(weights),
        bias=np.zeros(n, np.int64) if operation.bias is None else operation.bias[block.channels].astype(np.int64),
        neuron=None if operation.neuron is None else of_channels(operation.neuron, block.channels),
        expected=_expected(trace, operation, block, cut),
        matches=int(np.count_nonzero(matrix, axis=0) @ used),
        synaptic_operations=int(_ones(matrix, operand).sum(0, dtype=np.int64) @ used),
        pooled=is_pooled(trace, operation),
        fires_once=fires_once(trace, operation),
        feature_map=feature_map,
        requantiser=requantiser_of(operation.requantiser, block.channels),
        planes=Planes(
            np.array([operand.factor[bit] * worth for _, bit in cut.planes], np.int64),
            np.array([cut.ends and bit + 1 == bits for _, bit in cut.planes]),
            1 if block.changes else cut.end - cut.first,
        ),
        state=state,
        taken_bytes=taken,
        left_bytes=left,
        weight_bits=limits.weight_bits if dense else operation.weight_bits,
    )


def _ones(words: NDArray[np.uint16], operand: Operand) -> NDArray[Any]:
    """Planes that are not zero, of words."""
    return words != 0 if operand.kind == "digits" else np.bitwise_count(words)


def of_channels(neuron: Neuron, channels: slice) -> Neuron:
    """The neurons of these channels."""
    given = {name: getattr(neuron, name) for name in neurons.ARRAYS}
    return replace(neuron, **{name: values[channels] for name, values in given.items() if values is not None})


def requantiser_of(requantiser: Requantiser | None, channels: slice) -> Requantiser | None:
    """What is done to the sums of these channels."""
    return None if requantiser is None else replace(requantiser, multiplier=requantiser.multiplier[channels])


def _expected(trace: Trace, operation: Operation, block: Block, cut: Cut) -> NDArray[Any] | None:
    """The stored output of the timesteps that fire, [rows, N, timesteps]."""
    if not trace.stored(operation.output):
        return None
    end = cut.end if cut.ends else cut.first
    values = trace.operand(operation.output, cut.first, cut.end)
    if values.ndim == 1 + len(operation.output_shape):
        values = np.broadcast_to(values, (cut.end - cut.first, *values.shape))
    values = values[: end - cut.first, block.images, block.channels]
    # [T, I, N, ...] to [I, ..., N, T].
    rows = np.moveaxis(values, (0, 2), (-1, -2))
    return np.ascontiguousarray(rows.reshape(math.prod(rows.shape[:-2]), *rows.shape[-2:]))
