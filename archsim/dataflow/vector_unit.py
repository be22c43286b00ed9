"""What a machine does between its products: sums, pools and neurons that are no part of a layer.

The neuron units do it, as lanes of a vector unit. Operands come from DRAM through the banks and the output goes there,
as the machine stores spikes and integers; a block (a row of the output map) is read while the one before is worked on:

    for block:                               a row of the output map, all its timesteps
        reader: lines of every operand       DRAM -> bank
        unit: ceil(updates / lanes) cycles   bank -> lanes; an update for each value read, at least one for each written
        writer: lines of the output          -> DRAM

Latency of n blocks with a memory that is never late: the slowest of the three for each block, one behind the other. No
paper of a layer-by-layer machine says how it does this: it is an extension of archsim (whole 5).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.base import EngineName
from archsim.dataflow.layer import Layer, stored_spikes
from archsim.dataflow.machine import BURST_LINES, HostedMachine, Program, units_of
from archsim.dataflow.parts import store, stream
from archsim.dataflow.pieces import Source, slices_of
from archsim.engine.outcome import Outcome
from archsim.engine.recording import Window
from archsim.engine.result import LayerResult
from archsim.hardware.agent import Agent, Operations, op
from archsim.hardware.diagram import Diagram
from archsim.hardware.memory.placement import Tensor
from archsim.hardware.operation import RESIDENT_READ, STREAM_READ
from archsim.trace import Operation, Trace
from archsim.trace.neurons import state_fields
from archsim.trace.recurrence import known_timesteps
from archsim.trace.resimulation import check_operation

UPDATES = 0
BUFFERED_BLOCKS = 2
ROUNDS = {"softmax": 3, "layer_norm": 3}
"""How often the lanes take every value: for the largest and their sum, or mean and variance, and for the result."""


class VectorWork(NamedTuple):
    """An operation without weights: bytes of every block of its operands, int64 [blocks, operands], and of its output,
    int64 [blocks]; ``updates`` int64 [blocks] of the lanes. Of ``layer`` only names and sizes count."""

    layer: Layer
    read_bytes: NDArray[np.int64]
    written_bytes: NDArray[np.int64]
    updates: NDArray[np.int64]
    mismatches: int | None


class Operands(NamedTuple):
    """Fiber ``block * operands + i`` of ``read`` is operand i of a block; ``cycles`` and ``updates`` int64 [blocks]."""

    read: Tensor
    written: Tensor
    cycles: NDArray[np.int64]
    updates: NDArray[np.int64]


def reader(a: Agent, m: Any, x: Operands) -> Operations:
    """Bring the operands of a block into the banks when a buffer is free."""
    for block in range(m.blocks):
        yield op(pop=m.free.port)
        yield from operands(a, m, x, block, STREAM_READ)
        yield op(push=m.loaded.fifo)


def vector_unit(a: Agent, m: Any, x: Operands) -> Operations:
    """Read the operands of a block from the banks and work on them."""
    for block in range(m.blocks):
        yield op(pop=m.loaded.port)
        yield from operands(a, m, x, block, RESIDENT_READ)
        a.count[UPDATES] += x.updates[block]
        yield op(compute=x.cycles[block], push=m.free.fifo)
        yield op(push=m.finished.fifo)


def writer(a: Agent, m: Any, x: Operands) -> Operations:
    """Write the output of a block."""
    for block in range(m.blocks):
        yield op(pop=m.finished.port)
        yield from store(a, m, x.written, block)


def operands(a: Agent, m: Any, x: Operands, block: int, mode: int) -> Operations:
    """Ask for all operands of a block."""
    for operand in range(m.operands):
        fiber = block * m.operands + operand
        yield from stream(a, m, x.read, fiber, 0, x.read.size[fiber], mode, 0, m.memory.burst)


class VectorUnit(HostedMachine):
    """The neuron units of ``host`` as ``lanes`` of a vector unit, ``cycles`` for a value each."""

    name: ClassVar[str] = "vector_unit"
    computing: ClassVar[str] = "vector_unit"
    agents = reader, vector_unit, writer
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {"updates": UPDATES}

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """None: an operation without weights has no synaptic operations."""
        return 0

    def example(self, trace: Trace, operation: Operation) -> Program:
        """The operation laid out."""
        return self.program(next(vector_work(self.host, trace, operation, verify=False)))

    def simulated(
        self, trace: Trace, operations: Iterable[Operation], engine: EngineName, verify: bool, record: Window | bool
    ) -> Iterator[LayerResult]:
        """The operations one after the other."""
        for operation in operations:
            for work in vector_work(self.host, trace, operation, verify):
                yield self.run_work(work, engine, record)

    def program(self, work: VectorWork) -> Program:
        """The work laid out on the machine's memory."""
        lanes, cycles = self.host.vector_lanes
        diagram = Diagram()
        blocks, operands = work.read_bytes.shape
        read, written = self.host.place_vectors(work.read_bytes.ravel(), work.written_bytes)
        for agent in self.agents:
            diagram.agent(agent, requests=BURST_LINES)
        derived = {
            "free": diagram.fifo(BUFFERED_BLOCKS, full=True),
            "loaded": diagram.fifo(BUFFERED_BLOCKS),
            "finished": diagram.fifo(BUFFERED_BLOCKS),
            "blocks": blocks,
            "operands": operands,
        }
        x = Operands(read, written, -(-work.updates // lanes) * cycles, np.ascontiguousarray(work.updates))
        return self.drawn(diagram, {}, derived, x, units_of(diagram), 1)

    def working_cycles(self, work: VectorWork) -> int:
        """None: PEs rest."""
        return 0

    def lower_bound_cycles(self, program: Program) -> int:
        """Those of the lanes."""
        return int(program.operands.cycles.sum())

    def own_actions(self, work: VectorWork, outcome: Outcome) -> Mapping[tuple[str, str], int]:
        """Updates of neurons."""
        return {self.host.neuron_update: int(outcome.counts[:, UPDATES].sum())}


def vector_work(host: Any, trace: Trace, operation: Operation, verify: bool) -> Iterator[VectorWork]:
    """What ``operation`` is for the vector unit of the machine ``host``: computed, compared, and in blocks.

    An operation that reads its own past comes in a piece for every window of timesteps that it can know; what neurons
    remember lies in memory between two. Its operands and output are spread evenly over the windows.
    """
    timesteps, shape = trace.timesteps, operation.output_shape
    blocks = trace.images * (shape[1] if len(shape) == 3 else 1)
    windows = -(-timesteps // known_timesteps(trace, operation))
    mismatches = check_operation(trace, operation).mismatches if verify else None
    read = [in_blocks(host.stored_bytes(trace, name), blocks) for name in operation.inputs]
    written = in_blocks(host.stored_bytes(trace, operation.output, operation), blocks)
    outputs = timesteps * trace.images * math.prod(shape)
    values = max(sum(_values(trace, name) for name in operation.inputs), outputs)
    updates = in_blocks(np.full(1, values * ROUNDS.get(operation.op, 1)), blocks)
    remembered = 0 if operation.neuron is None else len(state_fields(operation.neuron)) * host.limits.state_bytes
    state = in_blocks(np.full(1, outputs // timesteps * remembered), blocks)
    for window in range(windows):
        last = window + 1 == windows
        parts = [_part(amounts, window, windows) for amounts in read] + ([state] if window else [])
        yield VectorWork(
            layer=named(operation, -(-timesteps // windows)),
            read_bytes=np.stack(parts, axis=1),
            written_bytes=_part(written, window, windows) + (0 if last else state),
            updates=_part(updates, window, windows),
            mismatches=mismatches if last else None,
        )


def layout_work(host: Any, trace: Trace, operation: Operation) -> VectorWork:
    """Writing the second operand of a product of two activations as weights lie in memory: dense, in whole weights."""
    name = operation.inputs[1]
    values, bits = _values(trace, name), host.limits.weight_bits
    slices = len(slices_of(Source(trace, name), bits))
    blocks = trace.images * trace.meta.tensors[name].shape[1]
    return VectorWork(
        layer=named(operation, trace.timesteps),
        read_bytes=in_blocks(host.stored_bytes(trace, name), blocks)[:, None],
        written_bytes=in_blocks(np.full(1, -(-values * slices * bits // 8)), blocks),
        updates=in_blocks(np.full(1, values), blocks),
        mismatches=None,
    )


def named(operation: Operation, timesteps: int) -> Layer:
    """Name and sizes of ``operation`` for its result."""
    layer = stored_spikes(operation.name, operation.m, operation.n, timesteps)
    return replace(layer, op=operation.op, k=operation.k)


def _part(amounts: NDArray[np.int64], window: int, windows: int) -> NDArray[np.int64]:
    """The share of one of ``windows`` windows; all of them add up to ``amounts``."""
    return amounts * (window + 1) // windows - amounts * window // windows


def _values(trace: Trace, name: str) -> int:
    """Values of a tensor that are read: those of one timestep if it does not change in time."""
    return trace.images * math.prod(trace.meta.tensors[name].shape) * trace.stream(name).timesteps


def in_blocks(amounts: NDArray[np.int64], blocks: int) -> NDArray[np.int64]:
    """The ``amounts`` of rows, one behind the other, in ``blocks`` equal parts; integers that add up to the same."""
    ends = np.linspace(0, len(amounts), blocks + 1)
    behind = np.interp(ends, np.arange(len(amounts) + 1), np.concatenate(([0], np.cumsum(amounts))))
    whole = np.round(behind).astype(np.int64)
    return whole[1:] - whole[:-1]
