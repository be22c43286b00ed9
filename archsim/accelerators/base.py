"""What every accelerator has in common: the layer that it is given, and what it must say about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.compress import bitmask, packed_time
from archsim.engine.result import LayerResult
from archsim.hardware.inventory import Component
from archsim.hardware.loading import Block
from archsim.trace import Neuron, Operation, Trace

EngineName = Literal["compiled", "reference"]


@dataclass(frozen=True)
class SpikingLayer:
    """One matrix product of spikes A (M x K x T) and weights B (K x N), as the machines see it.

    ``spikes`` are the unrolled rows of A, ``weights`` the columns of B, both compressed. ``neuron`` is None where the
    layer ends in full sums (the read-out) or where no neuron was recorded. ``expected`` is what the trace says comes
    out, None if it does not: packed words uint16 [M, N] behind a neuron, else full sums int64 [M, N, T].
    """

    name: str
    op: str
    m: int
    n: int
    k: int
    timesteps: int
    spikes: packed_time.PackedSpikes
    weights: bitmask.BitmaskFibers
    bias: NDArray[np.int64]
    neuron: Neuron | None
    expected: NDArray[Any] | None


def is_spiking(trace: Trace, operation: Operation) -> bool:
    """True for the layers that a spiking accelerator runs: convolutions and linear layers with spikes as input.

    The direct encoder, whose input is pixels, runs elsewhere (LoAS leaves it out of all its figures), and pooling
    happens on output spikes in the path to memory, at no cost.
    """
    return operation.op in ("conv2d", "linear") and trace.kind(operation.inputs[0]) == "spike"


def spiking_layer(trace: Trace, operation: Operation) -> SpikingLayer:
    """Unroll and compress the operands of a convolution or linear layer of ``trace``."""
    words = packed_time.pack_timesteps(trace.tensor(operation.inputs[0]))
    weight = operation.weight
    assert weight is not None
    if operation.op == "conv2d":
        matrix = packed_time.unroll(words, operation.kernel, operation.stride, operation.padding)
    else:
        matrix = words.reshape(-1, operation.k)
    n = len(weight)
    expected: NDArray[Any] | None = None
    if operation.output in trace.tensors:
        stored = trace.tensor(operation.output)
        if operation.neuron is not None:
            expected = _rows(packed_time.pack_timesteps(stored), n)
        else:
            expected = np.stack([_rows(plane, n) for plane in stored], axis=2).astype(np.int64)
    return SpikingLayer(
        operation.name,
        operation.op,
        len(matrix),
        n,
        operation.k,
        trace.timesteps,
        packed_time.encode(matrix),
        bitmask.encode(weight.reshape(n, -1)),
        np.zeros(n, np.int64) if operation.bias is None else operation.bias.astype(np.int64),
        operation.neuron,
        expected,
    )


def _rows(tensor: NDArray[Any], n: int) -> NDArray[Any]:
    """[images, N, height, width] or [images, N] as [M, N]."""
    return np.ascontiguousarray(np.moveaxis(tensor, 1, -1)).reshape(-1, n)


class Accelerator(ABC):
    """A named machine. One instance holds one validated configuration and simulates layers, each on its own.

    A subclass lives in a file of :mod:`archsim.accelerators` and is found there by being a subclass.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Block]]

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    @abstractmethod
    def clock_mhz(self) -> float:
        """Base clock."""

    @property
    @abstractmethod
    def cost_table(self) -> str:
        """Name or path of the cost table."""

    @abstractmethod
    def inventory(self) -> Sequence[Component]:
        """What the machine is built of."""

    @abstractmethod
    def problems(self, trace: Trace) -> Sequence[str]:
        """Why this machine cannot run ``trace``, one line each; empty if it can."""

    @abstractmethod
    def run_layer(self, layer: SpikingLayer, engine: EngineName, *, verify: bool, record: bool) -> LayerResult:
        """Simulate one layer. ``verify`` compares outputs with the trace, ``record`` keeps all completion times."""
