"""A layer as the machines see it: one product of matrices, unrolled and compressed from a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress import bitmask, packed_time
from archsim.hardware.compute import lif
from archsim.trace import Neuron, Operation, Requantiser, Trace
from archsim.trace.window import Window
from archsim.trace.work import work_of

WEIGHTED = ("conv2d", "linear")
OperandKind = Literal["spike", "int", "spike_time"]
"""What a machine reads: single bits, activations, or the times of single spikes."""
ACTIVATION_BITS = 8
"""Width of an activation, which has no sign, in the machines for networks without spikes."""


@dataclass(frozen=True)
class FeatureMap:
    """What a convolution's rows are unrolled from: ``words`` uint16 [images, C, height, width], as in the rows."""

    words: NDArray[np.uint16]
    window: Window

    @property
    def output(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        _, _, height, width = self.words.shape
        return self.window.output((height, width))


class Planes(NamedTuple):
    """What the bits of a word of A stand for, where they are not the timesteps of spikes.

    ``factor`` int64 [bits]: what a one in bit p is worth. ``ends`` bool [bits]: whether the sum of a timestep is
    complete with bit p. ``shown``: at how many timesteps a complete sum is used; more than one where the operand does
    not change in time.
    """

    factor: NDArray[np.int64]
    ends: NDArray[np.bool_]
    shown: int


@dataclass(eq=False)
class State:
    """What is known of every output [M, N] between two pieces of an operation.

    ``partial`` int64 [M, N] is the unfinished sum of a timestep, ``fired`` bool [M, N] whether the neuron ever did, and
    ``neurons`` what it remembers.
    """

    partial: NDArray[np.int64]
    fired: NDArray[np.bool_]
    neurons: lif.State | None = None

    @classmethod
    def at_rest(cls, m: int, n: int) -> State:
        """Before the first piece."""
        return cls(np.zeros((m, n), np.int64), np.zeros((m, n), np.bool_))


@dataclass(frozen=True)
class Layer:
    """One matrix product of inputs A (M x K, for spikes x T) and weights B (K x N), as the machines see it.

    ``inputs`` are the unrolled rows of A, ``weights`` the columns of B, both compressed. A layer without weights has no
    ``columns``, and what a digital unit computes no ``rows`` either; to ask for them is an error. ``weight_bits`` are
    those that a weight has in the trace, which a machine may hold in more. A word of A has
    ``word_bits`` bits: the spikes of T timesteps, or one activation (``operand`` "int", T = 1). ``neuron`` is None
    where the layer ends in full sums (the read-out) or where no neuron was recorded. ``expected`` is what the trace
    says comes out, None if it does not: packed words uint16 [M, N] behind a neuron, else full sums int64 [M, N, T], or
    what ``requantiser`` makes of them. ``pooled``: a pooling layer reads the output. ``fires_once``: only the first
    spike of a neuron leaves it, as the trace stores its time. ``is_last``: no
    operation reads the output. ``feature_map`` is None for a linear layer. ``matches``
    and ``synaptic_operations`` are those of :mod:`archsim.trace.work`.

    A *piece* of an operation (:mod:`archsim.dataflow.pieces`) has ``planes``, and a ``state`` that it shares with the
    pieces beside it: its neurons take ``taken_bytes`` of it from memory for every output, and leave ``left_bytes``. Its
    ``expected`` are values [M, N, timesteps that fire].
    """

    name: str
    op: str
    m: int
    n: int
    k: int
    timesteps: int
    operand: OperandKind
    word_bits: int
    rows: packed_time.PackedSpikes | None
    columns: bitmask.BitmaskFibers | None
    bias: NDArray[np.int64]
    neuron: Neuron | None
    expected: NDArray[Any] | None
    matches: int
    synaptic_operations: int
    pooled: bool = False
    feature_map: FeatureMap | None = None
    requantiser: Requantiser | None = None
    planes: Planes | None = None
    state: State | None = None
    taken_bytes: int = 0
    left_bytes: int = 0
    fires_once: bool = False
    weight_bits: int = 8
    is_last: bool = False

    @property
    def fired_timesteps(self) -> int:
        """Timesteps whose sums are complete at the end, so that neurons fire, or sums leave."""
        return self.timesteps if self.planes is None else int(self.planes.ends.sum()) * self.planes.shown

    @property
    def updates(self) -> int:
        """How often the neuron unit works on an output: once for each sum that it takes, and for each timestep."""
        return max(self.timesteps, self.fired_timesteps)

    @property
    def inputs(self) -> packed_time.PackedSpikes:
        """The rows of A."""
        if self.rows is None:
            raise ValueError(f"{self.name} ({self.op}) has no rows of inputs")
        return self.rows

    @property
    def weights(self) -> bitmask.BitmaskFibers:
        """The columns of B."""
        if self.columns is None:
            raise ValueError(f"{self.name} ({self.op}) has no weights")
        return self.columns

    @property
    def output_is_known(self) -> bool:
        """Whether anything tells what the output is: neurons, a requantiser, or the trace."""
        return not (self.neuron is None and self.requantiser is None and self.expected is None)

    @property
    def fires(self) -> bool:
        """Whether neurons take the sums: those of the trace, or unknown ones."""
        return self.neuron is not None or self.expected is None

    @property
    def writes_sums(self) -> bool:
        """Whether full sums leave the machine, or potentials. An output that nobody knows counts as words, all of them
        active."""
        silent = self.neuron is None or self.neuron.fires == "nothing"
        return silent and self.requantiser is None and self.expected is not None

    @property
    def rests(self) -> bool:
        """Whether neuron units only pass sums on."""
        return self.writes_sums and self.neuron is None

    @property
    def output_bits(self) -> int:
        """Bits of a word of the output, where it is not full sums: of all timesteps that fire."""
        if self.operand == "int" and self.requantiser is None:
            return self.word_bits
        return self.fired_timesteps * self.value_bits

    @property
    def value_bits(self) -> int:
        """Bits of the output at one timestep, where it is not full sums."""
        if self.requantiser is not None:
            return self.requantiser.bits
        if self.neuron is None or self.neuron.fires == "spike":
            return 1
        return 2 if self.neuron.fires == "signed" else self.neuron.most.bit_length()

    @property
    def beside_coordinate_bits(self) -> int:
        """Bits of an output that are stored with its coordinate: none for a spike, which is there or not."""
        return self.value_bits if self.value_bits > 1 else 0


def layer_of(trace: Trace, operation: Operation) -> Layer:
    """Unroll and compress the operands of a convolution or linear layer of ``trace``."""
    kind = trace.kind(operation.inputs[0])
    spiking, timed = kind == "spike", kind == "spike_time"
    stored = trace.tensor(operation.inputs[0])
    words = packed_time.pack_timesteps(stored) if spiking else _ticks(trace, stored) if timed else _activations(stored)
    weight = operation.weight
    assert weight is not None
    n, work = len(weight), work_of(trace, operation)
    feature_map = None
    if operation.op == "conv2d":
        feature_map = FeatureMap(words, operation.window)
        matrix = operation.window.unroll(words)
    else:
        matrix = words.reshape(-1, operation.k)
    expected: NDArray[Any] | None = None
    if trace.stored(operation.output):
        output = trace.tensor(operation.output) if timed else trace.operand(operation.output)
        if timed:
            expected = _rows(_ticks(trace, output), n)
        elif operation.neuron is not None:
            expected = _rows(packed_time.pack_timesteps(output), n)
        elif spiking:
            expected = np.stack([_rows(plane, n) for plane in output], axis=2).astype(np.int64)
        else:
            expected = _rows(output.reshape(-1, *operation.output_shape), n)[:, :, None].astype(np.int64)
    return Layer(
        name=operation.name,
        op=operation.op,
        m=len(matrix),
        n=n,
        k=operation.k,
        timesteps=trace.timesteps if spiking or timed else 1,
        operand="spike" if spiking else "spike_time" if timed else "int",
        word_bits=trace.timesteps if spiking else trace.bits(operation.inputs[0]) if timed else ACTIVATION_BITS,
        rows=packed_time.encode(matrix),
        columns=bitmask.encode(weight.reshape(n, -1)),
        bias=np.zeros(n, np.int64) if operation.bias is None else operation.bias.astype(np.int64),
        neuron=operation.neuron,
        expected=expected,
        matches=work.matches,
        synaptic_operations=work.synaptic_operations,
        pooled=is_pooled(trace, operation),
        fires_once=fires_once(trace, operation),
        feature_map=feature_map,
        requantiser=operation.requantiser,
        weight_bits=operation.weight_bits,
        is_last=all(operation.output not in other.inputs for other in trace.operations),
    )


def is_pooled(trace: Trace, operation: Operation) -> bool:
    """Whether the output is pooled on its way to memory."""
    pools = [other for other in trace.operations if other.op == "pool" and other.reduction == "max"]
    return any(operation.output in pool.inputs for pool in pools)


def fires_once(trace: Trace, operation: Operation) -> bool:
    """Whether every neuron rests after its first spike, whose time is stored."""
    return trace.stored(operation.output) and trace.kind(operation.output) == "spike_time"


def stored_spikes(name: str, rows: int, channels: int, timesteps: int) -> Layer:
    """A layer of which only the output counts: spikes of ``timesteps`` timesteps, [rows, channels]."""
    return Layer(
        name=name, op="", m=rows, n=channels, k=1, timesteps=timesteps, operand="spike", word_bits=timesteps, rows=None,
        columns=None, bias=np.zeros(channels, np.int64), neuron=None, expected=None, matches=0, synaptic_operations=0,
    )  # fmt: skip


def _ticks(trace: Trace, times: NDArray[Any]) -> NDArray[np.uint16]:
    """Spike times as words: a tick and one, or 0 for never."""
    return np.where(times < trace.timesteps, times.astype(np.uint16) + 1, 0).astype(np.uint16)


def _activations(stored: NDArray[Any]) -> NDArray[np.uint16]:
    """Activations of an ANN as words; a trace with a time axis has one timestep."""
    return stored.reshape(stored.shape[-4:] if stored.ndim > 3 else stored.shape[-2:]).astype(np.uint16)


def _rows(tensor: NDArray[Any], n: int) -> NDArray[Any]:
    """[images, N, height, width] or [images, N] as [M, N]."""
    return np.ascontiguousarray(np.moveaxis(tensor, 1, -1)).reshape(-1, n)
