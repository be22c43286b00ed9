"""Layers that run at the same time, one behind the other: which rows of its inputs an output row of a layer waits for.

A machine that holds a whole network can start a layer when the first rows of its input exist. How many rows of which
earlier layer that takes follows from the network alone: through kernels, strides and padding, pools, concatenations and
additions. Rows are counted within one image and timestep.

    output row y of a convolution          input rows up to y stride - padding + kernel - 1
    row r of a pool                        rows of what is pooled up to r stride - padding + kernel - 1
    a linear layer                         all rows
    a product of two matrices              of the first the same row, of the second all before the product begins
    softmax, layer norm, requantised sums  the same row of everything read
    spikes of an addition with neurons     the same row of everything added; the neurons stand behind the last layer
                                           that is added (its *host*), where the others' sums wait

What no layer of the pipeline makes comes from DRAM: the network's input, spikes of a direct encoder that runs
elsewhere, and outputs of layers that were not chosen. An operation that runs elsewhere between two layers of the
pipeline would be a *hole* in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.layer import WEIGHTED, Layer
from archsim.trace import Operation, Trace
from archsim.trace.graph import SOFTMAX_BITS
from archsim.trace.window import Window

DRAM = -1
"""In place of a layer's number: what it makes comes from off chip."""


@dataclass(frozen=True)
class Feed:
    """One input of a layer, or a part of its channels: ``rows`` rows of ``bits`` bits an image and timestep.

    ``need`` int64 [rows]: rows of the output of layer ``source`` that must exist before row r does.
    """

    source: int
    rows: int
    bits: int
    need: NDArray[np.int64]


Kind = Literal["weights", "matmul", "softmax", "layer_norm", "add"]


@dataclass(frozen=True)
class Stage:
    """One layer in a pipeline: ``channels`` inputs of ``bits`` bits in a map of ``height`` by ``width``.

    A linear layer has a map of one position, whatever its feed looks like. ``joins``: layers whose output rows are
    added before the neurons, as (number, rows needed of it, int64 [out rows]); ``kept``: a whole map of its output
    waits for such or other layers. Outputs have ``out_bits`` bits, 1 where neurons ``fire``, 0 for full sums.
    ``leaves``: no layer of the pipeline reads the output.

    A product of matrices has the second one, a row of whose map holds ``row_width`` rows of the matrix, as ``written``
    feeds; ``transposed``: its rows are the columns that the first one's rows are multiplied with. Its values have
    ``magnitude_bits`` bits and, if ``written_sign``, a sign.
    """

    name: str
    kind: Kind
    channels: int
    height: int
    width: int
    window: Window
    outputs: int
    out_height: int
    out_width: int
    images: int
    timesteps: int
    fires: bool
    feeds: tuple[Feed, ...]
    joins: tuple[tuple[int, NDArray[np.int64]], ...] = ()
    kept: bool = False
    leaves: bool = True
    bits: int = 1
    out_bits: int = 1
    written: tuple[Feed, ...] = ()
    row_width: int = 1
    transposed: bool = False
    magnitude_bits: int = 0
    written_sign: bool = False

    @property
    def on_arrays(self) -> bool:
        """Whether crossbar arrays compute it."""
        return self.kind in ("weights", "matmul")

    def window_end(self, rows: int) -> NDArray[np.int64]:
        """For each output row, how many of a feed's ``rows`` rows must be there; all of them for the last one."""
        if rows != self.height:
            return np.full(self.out_height, rows, np.int64)
        end = self.window.reach(rows)
        end[-1] = rows
        return end

    def window_begin(self, rows: int) -> NDArray[np.int64]:
        """For each output row, how many of a feed's ``rows`` rows no later output row of the same map needs."""
        begin = np.full(self.out_height, rows, np.int64)
        if rows == self.height:
            begin[:-1] = self.window.start(rows)[1:]
        return begin


def alone(layer: Layer) -> Stage:
    """A layer as a pipeline of one: its input comes from DRAM, its output goes there."""
    found = layer.feature_map
    images, channels, height, width = (layer.m, layer.k, 1, 1) if found is None else found.words.shape
    window = Window() if found is None else found.window
    out_height, out_width = window.output((height, width))
    fires = layer.requantiser is None and not layer.writes_sums
    bits = 1 if layer.operand == "spike" else layer.word_bits
    return Stage(
        name=layer.name,
        kind="weights",
        channels=channels,
        height=height,
        width=width,
        window=window,
        outputs=layer.n,
        out_height=out_height,
        out_width=out_width,
        images=images,
        timesteps=layer.timesteps,
        fires=fires,
        feeds=(Feed(DRAM, height, channels * width * bits, np.arange(1, height + 1)),),
        bits=bits,
        out_bits=0 if layer.writes_sums else 1 if layer.requantiser is None else layer.requantiser.bits,
    )


def stages_of(trace: Trace, operations: Sequence[Operation]) -> list[Stage]:
    """The layers ``operations`` of ``trace``, in its order, as a pipeline."""
    numbers = {operation.output: number for number, operation in enumerate(operations)}
    rows = _Rows(trace, dict(numbers))
    joins: dict[int, list[tuple[int, NDArray[np.int64]]]] = {}
    for operation in trace.operations:
        if operation.op == "add" and operation.neuron is not None:
            hosts = [numbers[name] for name in operation.inputs if name in numbers]
            if not hosts:
                continue
            host = max(hosts)
            rows.made[operation.output] = host
            waits = joins.setdefault(host, [])  # a host, even if all else comes from DRAM
            for name in operation.inputs:
                known = (DRAM, host, *(source for source, _ in waits))
                waits += [(source, need) for source, _, need in rows.of(name) if source not in known]
    feeds = [_feeds(rows, operation) for operation in operations]
    joined = {source for part in joins.values() for source, _ in part}
    read = [
        feed.source for ahead, written in feeds for feed in {feed.source: feed for feed in ahead + written}.values()
    ]
    stages = [
        _stage(trace, *layer, joins.get(number)) for number, layer in enumerate(zip(operations, feeds, strict=True))
    ]
    # What goes several ways that meet again must be kept whole, or they could wait for each other for ever.
    meet = any(len(operation.inputs) > 1 for operation in operations)
    kept = joined | {source for source in read if meet and read.count(source) > 1}
    return [
        replace(stage, kept=number in kept, leaves=number not in joined and number not in read)
        for number, stage in enumerate(stages)
    ]


def fused(trace: Trace, operations: Sequence[Operation]) -> set[str]:
    """Names of the operations of ``trace`` that happen inside the pipeline of the layers ``operations``.

    They are concatenations, pools of what layers make, and additions with neurons behind a layer (its host).
    """
    hosts = {operation.output for operation in operations}
    made, found = set(hosts), set()
    for operation in trace.operations:
        inside = made.issuperset(operation.inputs)
        hosted = operation.op == "add" and operation.neuron is not None and not hosts.isdisjoint(operation.inputs)
        if hosted or operation.op == "concat" or (operation.op == "pool" and inside):
            found.add(operation.name)
            made |= {operation.output} if hosted or inside else set()
    return found


def holes(trace: Trace, operations: Sequence[Operation]) -> list[Operation]:
    """Operations of ``trace`` that read what the pipeline of the layers ``operations`` makes, and make what it reads,
    without being part of it."""
    own = {operation.name for operation in operations}
    inside = fused(trace, operations)
    behind: set[str] = set()
    for operation in trace.operations:
        if operation.name in own or not behind.isdisjoint(operation.inputs):
            behind.add(operation.output)
    ahead: set[str] = set()
    for operation in reversed(trace.operations):
        works = operation.name in own or (operation.name in inside and operation.op != "concat")
        if works or operation.output in ahead:
            ahead.update(operation.inputs)
    return [
        operation
        for operation in trace.operations
        if operation.name not in own | inside and operation.output in ahead and not behind.isdisjoint(operation.inputs)
    ]


def _feeds(rows: _Rows, operation: Operation) -> tuple[tuple[Feed, ...], tuple[Feed, ...]]:
    """What an operation is fed with row by row, and what is written into its arrays."""
    if operation.op == "matmul":
        return tuple(rows.feeds(operation.inputs[0])), tuple(rows.feeds(operation.inputs[1]))
    return tuple(feed for name in operation.inputs for feed in rows.feeds(name)), ()


def _stage(
    trace: Trace,
    operation: Operation,
    feeds: tuple[tuple[Feed, ...], tuple[Feed, ...]],
    joins: list[tuple[int, NDArray[np.int64]]] | None,
) -> Stage:
    shape = operation.input_shapes[0]
    flat = operation.op == "linear"
    channels, height, width = (math.prod(shape), 1, 1) if flat or len(shape) == 1 else shape
    out_height, out_width = (1, 1) if len(operation.output_shape) == 1 else operation.output_shape[1:]
    sums = operation.neuron is None and operation.requantiser is None and joins is None
    written = operation.inputs[1] if operation.op == "matmul" else None
    sign = written is not None and is_signed(trace, written)
    fires = operation.op in WEIGHTED and operation.requantiser is None and not (sums and trace.stored(operation.output))
    return Stage(
        name=operation.name,
        kind=_KINDS[operation.op],
        channels=channels,
        height=height,
        width=width,
        window=operation.window,
        outputs=operation.n,
        out_height=out_height,
        out_width=out_width,
        images=trace.images,
        timesteps=trace.timesteps,
        fires=fires,
        feeds=feeds[0],
        joins=tuple(joins or ()),
        bits=value_bits(trace, operation.inputs[0]),
        out_bits=1 if fires else _out_bits(operation),
        written=feeds[1],
        row_width=operation.input_shapes[1][2] if written is not None else 1,
        transposed=operation.transpose,
        magnitude_bits=value_bits(trace, written) - sign if written is not None else 0,
        written_sign=sign,
    )


_KINDS: Mapping[str, Kind] = {
    "conv2d": "weights", "linear": "weights", "matmul": "matmul", "softmax": "softmax", "layer_norm": "layer_norm",
    "add": "add",
}  # fmt: skip


def is_signed(trace: Trace, name: str) -> bool:
    """Whether values of tensor ``name`` may be below zero."""
    return trace.kind(name) == "int" and trace.tensor(name).dtype.kind == "i"


def value_bits(trace: Trace, name: str) -> int:
    """Bits of a value of tensor ``name``: those that its writer gives it, or as it is stored."""
    writer = next((operation for operation in trace.operations if operation.output == name), None)
    if writer is not None and writer.op in ("pool", "concat"):
        return max(value_bits(trace, read) for read in writer.inputs)
    return (_out_bits(writer) if writer is not None else 0) or trace.bits(name)


def _out_bits(operation: Operation) -> int:
    """Bits of an output that is no spike; 0 for full sums."""
    if operation.op == "softmax":
        return SOFTMAX_BITS
    return 0 if operation.requantiser is None else operation.requantiser.bits


@dataclass
class _Rows:
    """Follows tensors back to the layers of the pipeline; ``made`` says which layer makes a tensor."""

    trace: Trace
    made: dict[str, int]
    writers: dict[str, Operation] = field(init=False)

    def __post_init__(self) -> None:
        self.writers = {operation.output: operation for operation in self.trace.operations}

    def feeds(self, name: str) -> list[Feed]:
        """What a layer that reads tensor ``name`` is fed with."""
        rows, width = _extent(self._shape(name))
        bits = width * value_bits(self.trace, name)
        return [Feed(source, rows, channels * bits, need) for source, channels, need in self.of(name)]

    def of(self, name: str) -> list[tuple[int, int, NDArray[np.int64]]]:
        """Where tensor ``name`` comes from: (layer, channels, rows needed of it for each row), one for each part."""
        shape = self._shape(name)
        rows, _ = _extent(shape)
        writer = self.writers.get(name)
        if name in self.made:
            return [(self.made[name], shape[0], np.arange(1, rows + 1))]
        if writer is not None and writer.op == "concat":
            return [part for read in writer.inputs for part in self.of(read)]
        if writer is not None and writer.op == "pool":
            end = writer.window.reach(writer.input_shapes[0][1])
            return [(source, channels, need[end - 1]) for source, channels, need in self.of(writer.inputs[0])]
        return [(DRAM, shape[0], np.arange(1, rows + 1))]

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.trace.meta.tensors[name].shape


def _extent(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows of a tensor and the width of one; features are one row."""
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
