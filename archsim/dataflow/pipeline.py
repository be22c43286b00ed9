"""Layers that run at the same time, one behind the other: which rows of its inputs an output row of a layer waits for.

A machine that holds a whole network can start a layer when the first rows of its input exist. How many rows of which
earlier layer that takes follows from the network alone: through kernels, strides and padding, pools, concatenations,
slices and additions. Rows are counted within one image and timestep, a *map*.

    output row y of a convolution          input rows up to y stride - padding + kernel - 1
    row r of a pool                        rows of what is pooled up to r stride - padding + kernel - 1
    a linear layer, a rearrangement,       all rows
    a sum over positions
    a product of two matrices              of the first the same row (all if it is transposed), of the second all
                                           before the product begins
    row r of an upsampling by f            row r // f
    softmax, layer norm, sums, products    the same row of everything read
    element by element
    what is delayed by d timesteps         what it would need of the map d timesteps before
    spikes of an addition with neurons     the same row of everything added; the neurons stand behind the last layer
                                           that is added and whose sums nobody else reads (its *host*), where the
                                           others' sums wait

What no layer of the pipeline makes comes from DRAM: the network's input, spikes of a direct encoder that runs
elsewhere, and outputs of layers that were not chosen. An operation that runs elsewhere between two layers of the
pipeline would be a *hole* in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.base import ADDRESSED
from archsim.dataflow.layer import WEIGHTED, Layer
from archsim.dataflow.pieces import digits
from archsim.trace import Neuron, Operation, Trace
from archsim.trace.graph import SOFTMAX_BITS
from archsim.trace.neurons import state_fields
from archsim.trace.window import Window
from archsim.trace.work import groups_of

ON_ARRAYS = (*WEIGHTED, "matmul")
"""What crossbar arrays compute."""
MAX_STORED_BITS = 16
"""Of pixels and the like: integers that are stored wider have as many bits as they need."""
DRAM = -1
"""In place of a layer's number: what it makes comes from off chip."""


class Feed(NamedTuple):
    """One input of a layer, or a part of its channels: ``rows`` rows of ``bits`` bits an image and timestep.

    ``need`` int64 [rows]: rows of the output of layer ``source`` that must exist before row r does. They are those of
    the map ``late`` timesteps before; maps of the last ``held`` timesteps wait. What is ``still`` does not change in
    time: every timestep reads the same rows from DRAM.
    """

    source: int
    rows: int
    bits: int
    need: NDArray[np.int64]
    late: int = 0
    held: int = 0
    still: bool = False


class Join(NamedTuple):
    """What neurons add to the sums of their own layer: the output of layer ``source``; the rest as of a feed."""

    source: int
    need: NDArray[np.int64]
    late: int = 0
    held: int = 0


Kind = Literal[
    "weights", "matmul", "softmax", "layer_norm", "add", "pool", "reduce", "multiply", "upsample", "rearrange"
]


@dataclass(frozen=True)
class Stage:
    """One layer in a pipeline: ``channels`` inputs of ``bits`` bits in a map of ``height`` by ``width``.

    A linear layer has a map of one position, whatever its feed looks like. An output row of a layer that sees all is
    made of ``whole`` maps. ``joins`` are added before the neurons. Of its output, ``kept`` whole maps wait for such or
    other layers. Outputs have ``out_bits`` bits (1 for spikes), 0 for full sums. Neurons ``fire``, and remember
    ``state_words`` words from one timestep to the next. ``leaves``: no layer of the pipeline reads the output. An
    output is ``combined`` of so many values where that is no matter of weights. A layer that ``keeps_sums`` uses them
    at all timesteps if its inputs do not change. A weight has ``weight_bits`` bits.

    In ``groups``, a part of the outputs sees a part of the channels only: a grouped convolution, heads of a product.
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
    joins: tuple[Join, ...] = ()
    kept: int = 0
    leaves: bool = True
    bits: int = 1
    out_bits: int = 1
    written: tuple[Feed, ...] = ()
    row_width: int = 1
    transposed: bool = False
    magnitude_bits: int = 0
    written_sign: bool = False
    groups: int = 1
    whole: bool = False
    state_words: int = 1
    combined: int = 1
    keeps_sums: bool = True
    weight_bits: int = 8

    @property
    def on_arrays(self) -> bool:
        """Whether crossbar arrays compute it."""
        return self.kind in ("weights", "matmul")

    def window_end(self, rows: int) -> NDArray[np.int64]:
        """For each output row, how many of a feed's ``rows`` rows must be there; all of them for the last one."""
        if self.whole or rows != self.height:
            return np.full(self.out_height, rows, np.int64)
        end = self.window.reach(rows)
        end[-1] = rows
        return end

    def window_begin(self, rows: int) -> NDArray[np.int64]:
        """For each output row, how many of a feed's ``rows`` rows no later output row of the same map needs."""
        begin = np.zeros(self.out_height, np.int64)
        if rows == self.height and not self.whole:
            begin[:-1] = self.window.start(rows)[1:]
        begin[-1] = rows
        return begin

    @property
    def shown(self) -> int:
        """Timesteps at which neurons use a sum: all where arrays read from DRAM what does not change in time."""
        still = self.kind == "weights" and all(feed.still and feed.source == DRAM for feed in self.feeds)
        return self.timesteps if still and self.keeps_sums else 1

    @property
    def driven_timesteps(self) -> int:
        """Timesteps at which inputs come."""
        return self.timesteps // self.shown

    @property
    def rows_needed(self) -> int:
        """Most rows of a feed that must be there at once."""
        needed = 1
        for feed in self.feeds:
            freed = np.concatenate(([0], self.window_begin(feed.rows)[:-1]))
            needed = max(needed, int((self.window_end(feed.rows) - freed).max()))
        return needed


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
        weight_bits=layer.weight_bits,
    )


def stages_of(trace: Trace, operations: Sequence[Operation], *, hidden_groups: bool = False) -> list[Stage]:
    """The layers ``operations`` of ``trace``, in its order, as a pipeline.

    ``hidden_groups``: a dense convolution whose weights are those of groups is in groups.
    """
    numbers = {operation.output: number for number, operation in enumerate(operations)}
    rows = _Rows(trace, dict(numbers))
    hosted: dict[int, list[Operation]] = {}
    for operation in _hosted(trace, operations):
        host = host_of(operation, operations)
        assert host is not None, "it would not be hosted"
        rows.made[operation.output] = numbers[host.output]
        hosted.setdefault(numbers[host.output], []).append(operation)
    joins = {number: _joins(rows, number, adds) for number, adds in hosted.items()}
    stages = [
        replace(
            _stage(trace, operation, _feeds(rows, operation), joins.get(number, ()), hosted.get(number, ())),
            groups=groups_in(operation, hidden_groups),
        )
        for number, operation in enumerate(operations)
    ]
    return _with_readers(stages, any(len(operation.inputs) > 1 for operation in operations))


def _joins(rows: _Rows, host: int, adds: Sequence[Operation]) -> tuple[Join, ...]:
    """What neurons of the layer ``host`` wait for beside their sums."""
    found: dict[tuple[int, int], Join] = {}
    for name in [name for add in adds for name in add.inputs]:
        for part in rows.of(name):
            if part.source != DRAM and (part.source, part.late) != (host, 0):
                found.setdefault((part.source, part.late), Join(part.source, part.need, part.late, part.held))
    return tuple(found.values())


def _with_readers(stages: Sequence[Stage], meet: bool) -> list[Stage]:
    """The stages, of which each knows whether others read it and how many maps must wait for them.

    What goes several ways that ``meet`` again must be kept whole, or they could wait for each other for ever; so must
    sums that are joined, and what is read later on.
    """
    read: list[int] = []
    kept: dict[int, int] = {}
    for stage in stages:
        fed = (*stage.feeds, *stage.written)
        read += {feed.source for feed in fed}
        waits = [(feed.source, feed.held) for feed in fed if feed.held]
        for source, held in [*waits, *((join.source, join.held) for join in stage.joins)]:
            kept[source] = max(kept.get(source, 0), 1 + held)
    kept |= {source: max(kept.get(source, 0), 1) for source in read if meet and read.count(source) > 1}
    joined = {join.source for stage in stages for join in stage.joins}
    return [
        replace(stage, kept=kept.get(number, 0), leaves=number not in joined and number not in read)
        for number, stage in enumerate(stages)
    ]


# --- What belongs to a pipeline ---------------------------------------------------------------------------------------


def layers_of(trace: Trace, able: Sequence[Operation]) -> list[Operation]:
    """Of the operations that a machine is ``able`` to run as layers those that are layers: others happen on the way."""
    hosted = {operation.name for operation in _well_hosted(trace, able)}
    rows = _Rows(trace, {operation.output: number for number, operation in enumerate(able)})
    return [
        operation
        for operation in able
        if operation.name not in hosted and not (_passes(operation) and rows.is_made(operation.inputs[0]))
    ]


def fused(trace: Trace, operations: Sequence[Operation]) -> set[str]:
    """Names of the operations of ``trace`` that happen inside the pipeline of the layers ``operations``.

    They are concatenations, slices and delays, pools of what layers make, and additions with neurons behind a layer
    (its host).
    """
    own = {operation.name for operation in operations}
    hosted = _hosted(trace, operations)
    made = {operation.output for operation in (*operations, *hosted)}
    found = {operation.name for operation in hosted}
    rows = _Rows(trace, dict.fromkeys(made, 0))
    for operation in trace.operations:
        if operation.op in ADDRESSED or (
            operation.name not in own and _passes(operation) and rows.is_made(operation.inputs[0])
        ):
            found.add(operation.name)
    return found


def host_of(add: Operation, operations: Sequence[Operation]) -> Operation | None:
    """The layer behind whose sums the neurons of ``add`` stand: the last that makes bare sums, or else the last."""
    read = [operation for operation in operations if operation.output in add.inputs]
    return next(reversed([operation for operation in read if makes_sums(operation)] or read), None)


def makes_sums(operation: Operation) -> bool:
    """Whether crossbar arrays compute it, and nothing ends its sums."""
    return operation.op in ON_ARRAYS and operation.neuron is None and operation.requantiser is None


def _hosted(trace: Trace, operations: Sequence[Operation]) -> list[Operation]:
    """Additions with neurons that are no layers of their own."""
    own = {operation.name for operation in operations}
    return [
        operation
        for operation in trace.operations
        if operation.op == "add" and operation.neuron is not None and operation.name not in own
        if host_of(operation, operations) is not None
    ]


def hosted_by(trace: Trace, host: Operation, operations: Sequence[Operation]) -> list[Operation]:
    """Additions whose neurons stand behind the sums of the layer ``host`` of the pipeline ``operations``."""
    return [add for add in _hosted(trace, operations) if host_of(add, operations) is host]


def _well_hosted(trace: Trace, able: Sequence[Operation]) -> Iterator[Operation]:
    """Additions with neurons whose host's sums nobody else reads, and of which nothing comes from DRAM."""
    rows = _Rows(trace, {operation.output: number for number, operation in enumerate(able)})
    for operation in able:
        if operation.op != "add" or operation.neuron is None:
            continue
        host = host_of(operation, able)
        alone = host is not None and sum(other.inputs.count(host.output) for other in trace.operations) == 1
        if host is not None and alone and makes_sums(host) and all(map(rows.is_made, operation.inputs)):
            yield operation


def _passes(operation: Operation) -> bool:
    """Whether it is a pool that nothing more follows, which is done on the way from a layer to the next."""
    return operation.op == "pool" and operation.reduction == "max" and operation.neuron is None


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
        works = operation.name in own or (operation.name in inside and operation.op not in ADDRESSED)
        if works or operation.output in ahead:
            ahead.update(operation.inputs)
    return [
        operation
        for operation in trace.operations
        if operation.name not in own | inside and operation.output in ahead and not behind.isdisjoint(operation.inputs)
    ]


# --- A layer of a pipeline --------------------------------------------------------------------------------------------


def _feeds(rows: _Rows, operation: Operation) -> tuple[tuple[Feed, ...], tuple[Feed, ...]]:
    """What an operation is fed with row by row, and what is written into its arrays."""
    if operation.op == "matmul":
        return tuple(rows.feeds(operation.inputs[0])), tuple(rows.feeds(operation.inputs[1]))
    return tuple(feed for name in operation.inputs for feed in rows.feeds(name)), ()


def _stage(
    trace: Trace,
    operation: Operation,
    feeds: tuple[tuple[Feed, ...], tuple[Feed, ...]],
    joins: Sequence[Join],
    adds: Sequence[Operation],
) -> Stage:
    """The layer ``operation``, behind whose sums the neurons of ``adds`` stand."""
    shape, out = operation.input_shapes[0], operation.output_shape
    flat = operation.op == "linear" or len(shape) == 1
    channels, height, width = (math.prod(shape), 1, 1) if flat else shape
    written = operation.inputs[1] if operation.op == "matmul" else None
    if operation.transpose_first:
        channels, height, width = operation.heads * height * width, 1, 1
    sign = written is not None and is_signed(trace, written)
    neuron = adds[0].neuron if adds else operation.neuron
    recorded = operation.op in WEIGHTED and operation.requantiser is None and not trace.stored(operation.output)
    fires = neuron is not None or recorded
    return Stage(
        name=operation.name,
        kind=_KINDS[operation.op],
        channels=channels,
        height=height,
        width=width,
        window=_window(operation),
        outputs=operation.n,
        out_height=out[1] if len(out) == 3 else 1,
        out_width=out[2] if len(out) == 3 else 1,
        images=trace.images,
        timesteps=trace.timesteps,
        fires=fires,
        feeds=feeds[0],
        joins=tuple(joins),
        bits=value_bits(trace, operation.inputs[0]),
        out_bits=_fired_bits(neuron) if fires else _out_bits(trace, operation),
        written=feeds[1],
        row_width=operation.input_shapes[1][2] if written is not None else 1,
        transposed=operation.transpose,
        magnitude_bits=value_bits(trace, written) - sign if written is not None else 0,
        written_sign=sign,
        whole=operation.op == "rearrange" or operation.axis == "positions" or operation.transpose_first,
        state_words=1 if neuron is None else len(state_fields(neuron)),
        combined=operation.k if operation.op in ("pool", "reduce") else 1,
        weight_bits=operation.weight_bits,
    )


def groups_in(operation: Operation, hidden: bool) -> int:
    """Groups of a layer: heads of a product, those of a convolution; ``hidden`` ones are those of a dense one too."""
    if operation.op != "conv2d":
        return operation.heads
    found = operation.groups
    if hidden and found == 1:
        assert operation.weight is not None, "convolutions have weights"
        found = groups_of(operation.weight)
    return found


def _window(operation: Operation) -> Window:
    """What an output sees; of an upsampling as many zeros stand between its inputs as it repeats them."""
    if operation.op != "upsample":
        return operation.window
    down, right = operation.factor[0] - 1, operation.factor[1] - 1
    return Window(operation.factor, padding=(down, down, right, right), input_dilation=operation.factor)


_KINDS: Mapping[str, Kind] = {
    "conv2d": "weights", "linear": "weights", "matmul": "matmul", "softmax": "softmax", "layer_norm": "layer_norm",
    "add": "add", "pool": "pool", "reduce": "reduce", "multiply": "multiply", "upsample": "upsample",
    "rearrange": "rearrange",
}  # fmt: skip


def is_signed(trace: Trace, name: str) -> bool:
    """Whether values of tensor ``name`` may be below zero: as they are stored, or those that change in time as they
    are."""
    if trace.kind(name) != "int":
        return trace.kind(name) == "signed_spike"
    values = trace.tensor(name)
    return values.dtype.kind == "i" and (is_still(trace, name) or int(values.min()) < 0)


def is_still(trace: Trace, name: str) -> bool:
    """Whether tensor ``name`` does not change in time."""
    return trace.kind(name) == "int" and not trace.meta.tensors[name].per_timestep


def value_bits(trace: Trace, name: str) -> int:
    """Bits of a value of tensor ``name``: those that its writer or the trace promise, or that its values need."""
    writer = next((operation for operation in trace.operations if operation.output == name), None)
    if writer is not None and (writer.op in ADDRESSED or _passes(writer)):
        return max(value_bits(trace, read) for read in writer.inputs)
    promised = 0 if writer is None else _promised_bits(writer)
    if promised or trace.kind(name) != "int":
        return promised or _KIND_BITS[trace.kind(name)]
    stored = writer is None and is_still(trace, name) and trace.bits(name) <= MAX_STORED_BITS
    if stored or getattr(trace.meta.tensors[name], "bits", None):
        return trace.bits(name)
    values = trace.tensor(name)
    return len(digits(min(0, int(values.min())), int(values.max())))


_KIND_BITS = {"spike": 1, "spike_time": 1, "signed_spike": 2}


def _promised_bits(operation: Operation) -> int:
    """Bits of an output of a softmax or a requantiser, else 0."""
    if operation.op == "softmax":
        return SOFTMAX_BITS
    return 0 if operation.requantiser is None else operation.requantiser.bits


def _out_bits(trace: Trace, operation: Operation) -> int:
    """Bits of an output that no neuron makes; 0 for full sums."""
    promised = _promised_bits(operation)
    if promised or operation.op in ON_ARRAYS or not trace.stored(operation.output):
        return promised
    return value_bits(trace, operation.output)


def _fired_bits(neuron: Neuron | None) -> int:
    """Bits of what neurons write; 0 for potentials, which are as wide as sums."""
    if neuron is None or neuron.fires == "spike":
        return 1
    return {"signed": 2, "integer": neuron.most.bit_length()}.get(neuron.fires, 0)


class _Part(NamedTuple):
    """A part of the channels of a tensor: which layer makes it; the rest as of a :class:`Feed`."""

    source: int
    channels: int
    need: NDArray[np.int64]
    late: int = 0
    held: int = 0


@dataclass
class _Rows:
    """Follows tensors back to the layers of the pipeline; ``made`` says which layer makes a tensor."""

    trace: Trace
    made: dict[str, int]
    writers: dict[str, Operation] = field(init=False)

    def __post_init__(self) -> None:
        self.writers = {operation.output: operation for operation in self.trace.operations}

    def is_made(self, name: str) -> bool:
        """Whether layers make all of tensor ``name``."""
        return all(part.source != DRAM for part in self.of(name))

    def feeds(self, name: str) -> list[Feed]:
        """What a layer that reads tensor ``name`` is fed with."""
        rows, width = _extent(self._shape(name))
        bits, still = width * value_bits(self.trace, name), is_still(self.trace, name)
        return [
            Feed(part.source, rows, part.channels * bits, part.need, part.late, part.held, still)
            for part in self.of(name)
        ]

    def of(self, name: str) -> list[_Part]:
        """Where tensor ``name`` comes from, part by part of its channels."""
        shape = self._shape(name)
        rows, _ = _extent(shape)
        writer = self.writers.get(name)
        if name in self.made:
            return [_Part(self.made[name], shape[0], np.arange(1, rows + 1))]
        if writer is not None and writer.op == "concat":
            return [part for read in writer.inputs for part in self.of(read)]
        if writer is not None and writer.op == "slice":
            return self._sliced(writer)
        if writer is not None and writer.op == "delay":
            late, held = int(np.min(writer.steps)), int(np.max(writer.steps))
            return [part._replace(late=part.late + late, held=part.held + held) for part in self.of(writer.inputs[0])]
        if writer is not None and _passes(writer):
            end = writer.window.reach(writer.input_shapes[0][1])
            return [part._replace(need=part.need[end - 1]) for part in self.of(writer.inputs[0])]
        return [_Part(DRAM, shape[0], np.arange(1, rows + 1))]

    def _sliced(self, writer: Operation) -> list[_Part]:
        parts, first, last = self.of(writer.inputs[0]), writer.start, writer.stop
        if writer.axis == 1:
            return [part._replace(need=part.need[first:last]) for part in parts]
        if writer.axis == 2:
            return parts
        found, begin = [], 0
        for part in parts:
            inside = min(begin + part.channels, last) - max(begin, first)
            found += [part._replace(channels=inside)] if inside > 0 else []
            begin += part.channels
        return found

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.trace.meta.tensors[name].shape


def _extent(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows of a tensor and the width of one; features are one row."""
    return (shape[1], shape[2]) if len(shape) == 3 else (1, 1)
