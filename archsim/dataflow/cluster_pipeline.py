"""Four clusters of PEs that work on a decomposed convolution (TT-SNN), one sub-convolution each, strip by strip.

    forward    input --> c1 --> c2 --> c3 --> c4 --> output            c2 and c3 one behind the other
               input --> c1 --> c2, c3 --> adder --> c4 --> output     c2 and c3 side by side
    backward   the same from c4 to c1, with the gradients of inputs
    update     every cluster for itself: the gradients of its weights

Every cluster does

    for strip:                   positions that fill the rows of its array
        wait until the strips that it sees are there: a 3x1 kernel sees the next one too
        wait for room behind
        compute                  :mod:`archsim.dataflow.decomposed` says how long
        hand on; give back what is no longer needed

A link between two clusters is a buffer of ``room`` strips, so a filled pipeline goes on every max over clusters cycles.
Clusters that read from memory, or write what training keeps (inputs of the sub-convolutions, gradients), have a DMA on
either side, with two strips of room each. Those only wait for DRAM; accesses of buffers are counted and priced, but the
ports of links and buffers are never late.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.base import EngineName
from archsim.dataflow.decomposed import CLUSTERS
from archsim.dataflow.layer import Layer
from archsim.dataflow.machine import BURST_LINES, HostedMachine, Program, units_of
from archsim.dataflow.parts import store, stream
from archsim.engine.outcome import Outcome
from archsim.engine.recording import Window
from archsim.engine.result import LayerResult
from archsim.hardware.agent import NONE, Agent, Operations, op
from archsim.hardware.diagram import Diagram
from archsim.hardware.memory.placement import Tensor
from archsim.hardware.operation import STREAM_READ
from archsim.trace import Operation, Trace

LINKS = CLUSTERS + 2 + CLUSTERS
"""In front of each cluster, of the adder (two), of each cluster's writer."""
ADDER = CLUSTERS
WRITERS = CLUSTERS + 2
DOUBLE = 2
"""Strips of room between a cluster and a DMA."""
SINKS = 3


class StageWork(NamedTuple):
    """A stage of a decomposed convolution. Tables have a row per cluster, c1 to c4, and a column per item.

    ``items`` int64 [4]; ``cycles``, ``added``, ``wanted``, ``released`` (strips of the input that must be there, and
    that are given back behind an item), bytes ``read`` from DRAM and ``written``; ``fed``: whether a cluster reads from
    memory. ``sinks`` int64 [4, 3] and ``join_sink`` are links or NONE, ``joined`` int64 [items] the adder's cycles, and
    ``room`` int64 [LINKS] strips. ``actions`` are counted by hand; ``mismatches`` is None where nothing is compared.
    """

    layer: Layer
    stage: str
    items: NDArray[np.int64]
    cycles: NDArray[np.int64]
    added: NDArray[np.int64]
    wanted: NDArray[np.int64]
    released: NDArray[np.int64]
    read: NDArray[np.int64]
    written: NDArray[np.int64]
    fed: NDArray[np.bool_]
    sinks: NDArray[np.int64]
    joined: NDArray[np.int64]
    join_sink: int
    room: NDArray[np.int64]
    actions: Mapping[tuple[str, str], int]
    mismatches: int | None


class Operands(NamedTuple):
    """Tables of the stage. Item i of cluster c is fiber ``c * columns + i`` of ``read`` and ``written``. ``ready`` and
    ``empty``, int64 [LINKS, 2], are FIFO and port of a link's tokens, for strips and for room."""

    read: Tensor
    written: Tensor
    items: NDArray[np.int64]
    cycles: NDArray[np.int64]
    added: NDArray[np.int64]
    wanted: NDArray[np.int64]
    released: NDArray[np.int64]
    fed: NDArray[np.int64]
    sinks: NDArray[np.int64]
    joined: NDArray[np.int64]
    ready: NDArray[np.int64]
    empty: NDArray[np.int64]


ADDED = 0
FIFO, PORT = range(2)


def cluster(a: Agent, m: Any, x: Operands) -> Operations:
    """Work on item after item, on the strips in front, with room behind."""
    taken, given = 0, 0
    for item in range(x.items[a.me]):
        while taken < x.wanted[a.me, item]:
            yield op(pop=x.ready[a.me, PORT])
            taken += 1
        for sink in range(m.sinks):
            link = x.sinks[a.me, sink]
            yield op(pop=x.empty[link, PORT] if link >= 0 else NONE)
        a.count[ADDED] += x.added[a.me, item]
        yield op(compute=x.cycles[a.me, item])
        for sink in range(m.sinks):
            link = x.sinks[a.me, sink]
            yield op(push=x.ready[link, FIFO] if link >= 0 else NONE)
        while given < x.released[a.me, item]:
            yield op(push=x.empty[a.me, FIFO])
            given += 1


def adder(a: Agent, m: Any, x: Operands) -> Operations:
    """Add what two clusters made of a strip."""
    for item in range(m.joins):
        yield op(pop=x.ready[m.adder, PORT])
        yield op(pop=x.ready[m.adder + 1, PORT])
        yield op(pop=x.empty[m.join_sink, PORT], compute=x.joined[item], push=x.ready[m.join_sink, FIFO])
        yield op(push=x.empty[m.adder, FIFO])
        yield op(push=x.empty[m.adder + 1, FIFO])


def fetcher(a: Agent, m: Any, x: Operands) -> Operations:
    """Bring what a cluster reads from memory, an item at a time; weights come with the first."""
    for item in range(x.items[a.me] * x.fed[a.me]):
        yield op(pop=x.empty[a.me, PORT])
        fiber = a.me * m.columns + item
        yield from stream(a, m, x.read, fiber, 0, x.read.size[fiber], STREAM_READ, 0, m.memory.burst)
        yield op(push=x.ready[a.me, FIFO])


def writer(a: Agent, m: Any, x: Operands) -> Operations:
    """Write what a cluster leaves behind an item."""
    for item in range(x.items[a.me]):
        yield op(pop=x.ready[m.writers + a.me, PORT])
        yield from store(a, m, x.written, a.me * m.columns + item)
        yield op(push=x.empty[m.writers + a.me, FIFO])


class ClusterPipeline(HostedMachine):
    """The clusters of ``host`` at work on one stage of a decomposed convolution."""

    name: ClassVar[str] = "cluster_pipeline"
    computing: ClassVar[str] = "cluster"
    agents = cluster, adder, fetcher, writer
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {"added": ADDED}

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Products and additions of operands that are not zero."""
        return int(counts[ADDED])

    def example(self, trace: Trace, operation: Operation) -> Program:
        """The first stage of a decomposed convolution, by its c1."""
        return self.program(next(iter(self.host.cluster_work(trace, operation, False))))

    def simulated(
        self, trace: Trace, operations: Iterable[Operation], engine: EngineName, verify: bool, record: Window | bool
    ) -> Iterator[LayerResult]:
        """The stages of one decomposed convolution after the other, each named by its c1."""
        for operation in operations:
            for work in self.host.cluster_work(trace, operation, verify):
                if isinstance(work, StageWork):
                    yield self.run_work(work, engine, record)

    def program(self, work: StageWork) -> Program:
        """The stage laid out on the machine's memory."""
        diagram = Diagram()
        read, written = self.host.place_vectors(work.read.ravel(), work.written.ravel())
        diagram.agent(cluster, CLUSTERS)
        diagram.agent(adder)
        diagram.agent(fetcher, CLUSTERS, requests=BURST_LINES)
        diagram.agent(writer, CLUSTERS, requests=BURST_LINES)
        ready = np.array([diagram.fifo(int(room)) for room in work.room], np.int64)
        empty = np.array([diagram.fifo(int(room), full=True) for room in work.room], np.int64)
        derived = {
            "sinks": SINKS, "joins": len(work.joined), "adder": ADDER, "join_sink": work.join_sink, "writers": WRITERS,
            "columns": work.cycles.shape[1],
        }  # fmt: skip
        x = Operands(
            read, written, work.items, work.cycles, work.added, work.wanted, work.released,
            work.fed.astype(np.int64), work.sinks, work.joined if len(work.joined) else np.zeros(1, np.int64), ready,
            empty,
        )  # fmt: skip
        return self.drawn(diagram, {}, derived, x, units_of(diagram), 1)

    def working_cycles(self, work: StageWork) -> int:
        """A product or an addition each."""
        return int(work.added.sum())

    def lower_bound_cycles(self, program: Program) -> int:
        """Those of the slowest cluster."""
        return int(program.operands.cycles.sum(1).max())

    def own_actions(self, work: StageWork, outcome: Outcome) -> Mapping[tuple[str, str], int]:
        """As counted by hand."""
        return work.actions
