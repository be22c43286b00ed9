"""Which kinds of networks a machine runs: it is asked about the smallest one of each kind.

A machine runs a kind if it has no objection to that network and simulates every operation of it, so that nobody needs
to write down anywhere what a machine can do.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.base import Accelerator
from archsim.trace import Neuron, Operation, Requantiser, Trace
from archsim.trace.content import never

SPIKES = "spiking networks"
INTEGERS = "CNNs of 8 bits"
TRANSFORMERS = "transformers of 8 bits"
TIMES = "time-coded networks"


def kinds(machine: Accelerator) -> tuple[str, ...]:
    """The kinds of networks that ``machine`` runs."""
    return tuple(kind for kind, trace in smallest().items() if _runs(machine, trace))


def _runs(machine: Accelerator, trace: Trace) -> bool:
    return not machine.problems(trace) and machine.layers(trace) == list(trace.operations)


@cache
def smallest() -> dict[str, Trace]:
    """The smallest network of each kind; nothing in it but zeros, as only its shape counts."""
    lif = Neuron("lif", np.ones(2, np.int64), leak_shift=1)
    spiking = Operation("conv", "conv2d", ("in",), "spikes", weight=np.zeros((2, 2, 1, 1), np.int8), neuron=lif)
    spikes = np.zeros((1, 1, 2, 1, 1), np.bool_)
    first = Neuron("first_spike", np.ones(2, np.int64), time_constant=1)
    timed = Operation("fc", "linear", ("in",), "out", weight=np.zeros((2, 2), np.int8), neuron=first)
    times = np.full((1, 2), never(1))
    activations, signed = np.zeros((1, 2, 1, 1), np.uint8), np.zeros((1, 2, 1, 1), np.int8)
    tokens = dict.fromkeys("anqko", signed) | {"s": signed[:, :1], "p": activations[:, :1]}
    return {
        SPIKES: _trace([spiking], {"in": spikes, "spikes": spikes}),
        INTEGERS: _trace([_convolution("conv", "in", signed=False)], {"in": activations}),
        TRANSFORMERS: _trace(_attention(), tokens),
        TIMES: _trace([timed], dict.fromkeys(("in", "out"), times), dict.fromkeys(("in", "out"), "spike_time")),
    }


def _trace(operations: list[Operation], tensors: dict[str, NDArray[Any]], kinds: dict[str, str] | None = None) -> Trace:
    labels = {"kind": "synthetic", "weights": "synthetic"}
    return Trace(
        network="smallest", timesteps=1, operations=operations, tensors=tensors, provenance=labels, kinds=kinds
    )


def _few(channels: int, *, signed: bool = True) -> Requantiser:
    return Requantiser(np.ones(channels, np.int64), shift=0, signed=signed)


def _convolution(name: str, source: str, *, signed: bool = True) -> Operation:
    weight = np.zeros((2, 2, 1, 1), np.int8)
    return Operation(name, "conv2d", (source,), name, weight=weight, requantiser=_few(2, signed=signed))


def _attention() -> list[Operation]:
    """One token of two channels."""
    return [
        Operation("n", "layer_norm", ("a",), "n", requantiser=_few(2)),
        _convolution("q", "n"),
        _convolution("k", "n"),
        Operation("s", "matmul", ("q", "k"), "s", transpose=True, requantiser=_few(1)),
        Operation("p", "softmax", ("s",), "p", table=np.ones(256, np.uint16)),
        Operation("o", "matmul", ("p", "k"), "o", requantiser=_few(2)),
        Operation("r", "add", ("o", "a"), "r", requantiser=_few(2)),
    ]
