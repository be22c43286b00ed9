"""GustavSNN: Gustavson's product of dense weights and sparse spikes, timestep by timestep (Hwang et al., HPCA 2026).

A tile has an output channel, a PE of it a window of P output positions (a *submatrix* of the spikes), whose sums and
potentials stay in the PE. All PEs of a tile share the channel's weights, PEs of the same number in all tiles share the
spikes of a submatrix, of which only non-zero row vectors are stored (:mod:`archsim.compress.row_vectors`):

    for block of submatrices:                        one for each PE of a tile
        for group of channels:                       one for each tile
            for t in timesteps:
                for k with a non-zero row vector:    in every PE, its own
                    for column of the vector:        the merger gives one non-zero column per cycle
                        sum[column] += A[channel, k]
                leak and fire:                       one column after the other
            write the spikes of the block and group

Agents: a *PE* each; a *spike reader* for each PE of a tile and a *weight reader* for each tile, which read from the
global buffer and broadcast through ping-pong buffers; a *DMA* of several lanes, which brings what they read from DRAM
``scheduler.prefetch_groups`` groups ahead; a *drain* for each PE of a tile.

    DMA <-- ahead -- spike reader 0          spike readers -- spikes --> PEs (of all tiles) -- finished --> drains
                                             weight readers -- weights --> PEs (of a tile) <-- room -- drains

Weights come in *pieces* of K that fit one of a tile's two buffers; if there are several, they are read again for each
timestep. A PE takes one cycle per spike of its submatrix, and at the end of a timestep ``pe.pipeline_cycles`` and
``neuron.cycles`` for each of its columns. So with ideal memory, all M positions in one submatrix and no timestep
shorter than the two cycles in which a buffer is handed over,

    cycles = 2 + groups sum over t of (spikes(t) + pipeline_cycles + M neuron.cycles).

Sources are in ``hwconfigs/gustav_snn.yaml``; what is assumed in DEVIATIONS.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.compress.coordinate import bits_of
from archsim.compress.row_vectors import row_vectors
from archsim.dataflow.base import MachineConfig, ScheduledLayers, StreamingConfig, shared_components
from archsim.dataflow.layer import Layer
from archsim.dataflow.layer_machine import LayerMachine
from archsim.dataflow.machine import BURST_LINES, Program
from archsim.dataflow.parts import broadcast, in_flight, neuron_rows, ping_pong, port_of, take, turns
from archsim.hardware.agent import NONE, Agent, Operations, op
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.diagram import Diagram
from archsim.hardware.fields import AdderPe
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.memory.placement import Placer, Tensor
from archsim.hardware.operation import PREFETCH

# --- Configuration ----------------------------------------------------------------------------------------------------


class GustavPe(AdderPe):
    """Processing elements, in tiles."""

    tiles: int = Field(ge=1, le=64, description="tiles; each works on one output channel")
    window: int = Field(ge=2, le=64, description="output positions of a PE")
    weight_buffer_kib: int = Field(ge=1, le=1024, description="two weight buffers of a tile, together")


class GustavScheduler(ScheduledLayers):
    """Order of the work."""

    prefetch_groups: int = Field(ge=1, le=64, description="groups of channels that the DMA may be ahead")


class GustavFormat(Block):
    """Spikes in memory."""

    coordinate_bits: int = Field(ge=0, le=32, description="bits of a row vector's k; 0: as few as the layer needs")
    pointer_bits: int = Field(ge=0, le=64, description="bits before the row vectors of a submatrix and timestep")


class GustavSnnConfig(StreamingConfig):
    """A GustavSNN machine."""

    accelerator: Literal["gustav_snn"] = Field(description="which machine this file describes")
    pe: GustavPe = Field(description="processing elements")
    neuron: LifConfig = Field(description="neuron unit of a PE")
    scheduler: GustavScheduler = Field(description="order of the work")
    format: GustavFormat = Field(description="spikes in memory")

    @model_validator(mode="after")
    def _tiles_are_equal(self) -> Self:
        if self.pe.count % self.pe.tiles:
            raise CrossFieldError({"pe.count": f"must be a multiple of pe.tiles, {self.pe.tiles}"})
        return self


# --- Operands ---------------------------------------------------------------------------------------------------------


class Operands(NamedTuple):
    """Row vectors and spikes of every (submatrix, t, piece), and ``begin`` [submatrices, T, pieces + 1] of the vectors,
    in bytes of fiber ``submatrix * T + t`` of ``rows``.

    ``columns`` [submatrices] are the positions of each; those behind the last one have none. A channel is a fiber of
    ``weights``; of ``output``, what a PE of each tile computes of a block and group.
    """

    vectors: NDArray[np.int64]
    spikes: NDArray[np.int64]
    begin: NDArray[np.int64]
    columns: NDArray[np.int64]
    rows: Tensor
    weights: Tensor
    output: Tensor
    taken: Tensor


# --- Agents -----------------------------------------------------------------------------------------------------------

ADDED, VECTORS, UPDATES, LOADED, WEIGHT_BYTES, BEATS, VISITS = range(7)


def pe(a: Agent, m: Any, x: Operands) -> Operations:
    """Add a weight for every spike of the submatrix, then fire; the same for the next timestep, group and block."""
    tile, number = a.me // m.pes, a.me % m.pes
    for block in range(m.blocks):
        submatrix = block * m.pes + number
        for group in range(m.groups):
            works = int(group * m.config.pe.tiles + tile < m.layer.n)
            yield op(pop=port_of(a, m.room, m.config.pe.tiles, number, tile))
            for t in range(m.layer.timesteps):
                for piece in range(m.pieces):
                    if t == 0 or m.pieces > 1:
                        yield op(pop=port_of(a, m.weights.filled, m.pes, tile, number))
                    a.count[VECTORS] += works * x.vectors[submatrix, t, piece]
                    a.count[ADDED] += works * x.spikes[submatrix, t, piece]
                    cycles = works * (x.spikes[submatrix, t, piece] + firing(a, m, x, submatrix, piece, t))
                    yield op(pop=port_of(a, m.spikes.filled, m.config.pe.tiles, number, tile), compute=cycles)
                    yield op(pop=port_of(a, m.spikes.held, m.config.pe.tiles, number, tile))
                    if t + 1 == m.layer.timesteps or m.pieces > 1:
                        yield op(pop=port_of(a, m.weights.held, m.pes, tile, number))
            a.count[UPDATES] += works * x.columns[submatrix] * m.layer.updates
            yield op(push=m.finished.fifo + number)


def firing(a: Agent, m: Any, x: Operands, submatrix: int, piece: int, t: int) -> int:
    """Cycles at the end of a timestep, of a submatrix with positions; the last sum may be used at more timesteps."""
    ends = int(piece + 1 == m.pieces and x.columns[submatrix] > 0)
    updates = 1 + m.layer.updates - m.layer.timesteps if t + 1 == m.layer.timesteps else 1
    return int(ends * (m.config.pe.pipeline_cycles + x.columns[submatrix] * updates * m.config.neuron.cycles))


def spike_reader(a: Agent, m: Any, x: Operands) -> Operations:
    """Read the row vectors of a submatrix for every group anew, and broadcast them to a PE of each tile."""
    begun = m.ahead.fifo if a.me == 0 else NONE
    yield op(push=begun, pushes=m.config.scheduler.prefetch_groups)
    for block in range(m.blocks):
        submatrix = block * m.pes + a.me
        for _group in range(m.groups):
            yield op(push=begun)
            for t in range(m.layer.timesteps):
                for piece in range(m.pieces):
                    a.count[LOADED] += x.vectors[submatrix, t, piece]
                    begin, end = x.begin[submatrix, t, piece], x.begin[submatrix, t, piece + 1]
                    fiber = submatrix * m.layer.timesteps + t
                    yield from broadcast(a, m, x.rows, fiber, begin, end, block, m.spikes, a.me, BEATS)


def weight_reader(a: Agent, m: Any, x: Operands) -> Operations:
    """Read the weights of a channel and broadcast them to the PEs of the tile, piece after piece."""
    for block in range(m.blocks):
        for group in range(m.groups):
            channel = group * m.config.pe.tiles + a.me
            a.count[VISITS] += 1
            for _t in range(m.layer.timesteps if m.pieces > 1 else 1):
                for piece in range(m.pieces):
                    begin = piece * m.piece_bytes
                    end = min(x.weights.size[channel], begin + m.piece_bytes)
                    a.count[WEIGHT_BYTES] += max(0, end - begin)
                    yield from broadcast(a, m, x.weights, channel, begin, end, block, m.weights, a.me, BEATS)


def dma(a: Agent, m: Any, x: Operands) -> Operations:
    """Bring the spikes of a block and the weights of its groups into the global buffer, ahead of the readers."""
    turn = 0
    for block in range(m.blocks):
        for group in range(m.groups):
            yield op(pop=m.ahead.port + a.me)
            spikes = m.pes * m.layer.timesteps if group == 0 else 0
            for fiber in range(block * m.pes * m.layer.timesteps, block * m.pes * m.layer.timesteps + spikes):
                yield from in_flight(a, m, x.rows, fiber, 0, x.rows.size[fiber], PREFETCH, block, turn)
                turn += turns(a, m, 0, x.rows.size[fiber])
            for channel in range(group * m.config.pe.tiles, (group + 1) * m.config.pe.tiles):
                yield from in_flight(a, m, x.weights, channel, 0, x.weights.size[channel], PREFETCH, block, turn)
                turn += turns(a, m, 0, x.weights.size[channel])


def drain(a: Agent, m: Any, x: Operands) -> Operations:
    """Write what a PE of each tile has computed when all are done, and give it room, with the state to go on with."""
    for visit in range(-m.first_taken, m.blocks * m.groups):
        fiber, finished = visit * m.pes + a.me, m.finished.port + a.me
        if visit >= 0:
            yield from neuron_rows(a, m, x.output, fiber, finished, m.config.pe.tiles, 0, 0, NONE)
        if visit + m.first_taken < m.blocks * m.groups:
            yield from take(a, m, x.taken, fiber + m.first_taken * m.pes)
        yield op(push=m.room.fifo + a.me)


# --- The machine ------------------------------------------------------------------------------------------------------


class GustavSnn(LayerMachine):
    """GustavSNN (HPCA 2026): 8 tiles x 8 PEs, non-zero row vectors of 8 positions, dense weights, a tick at a time."""

    name: ClassVar[str] = "gustav_snn"
    Config: ClassVar[type[MachineConfig]] = GustavSnnConfig
    tensors: ClassVar[tuple[str, ...]] = ("input", "weight", "output")
    agents = pe, spike_reader, weight_reader, dma, drain
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {
        ("pe", "add"): ADDED, ("weight_buffer", "read"): VECTORS, ("lif", "update"): UPDATES, "loaded": LOADED,
        "weight_bytes": WEIGHT_BYTES, ("broadcast", "transfer"): BEATS, ("scheduler", "step"): VISITS,
    }  # fmt: skip
    config: GustavSnnConfig

    @property
    def pes(self) -> int:
        """PEs of a tile."""
        return self.config.pe.count // self.config.pe.tiles

    @property
    def piece(self) -> int:
        """Weights that one of a tile's two buffers holds."""
        return self.config.pe.weight_buffer_kib * 1024 * 8 // 2 // self.config.pe.weight_bits

    def vector_bits(self, k: int) -> int:
        """Bits of a row vector with its coordinate."""
        return (self.config.format.coordinate_bits or bits_of(k)) + self.config.pe.window

    def inventory(self) -> Sequence[Component]:
        """PEs with mergers and neurons, buffers for weights and for as many row vectors, and LoAS's memory system.

        A spike buffer is built for the widest coordinates, 16 bits where files leave it to the layer.
        """
        config, pe, vector_bits = self.config, self.config.pe, self.vector_bits(1 << 16)
        merger: dict[str, int | float | str] = {
            "block": "merger", "nodes": pe.window - 1, "levels": bits_of(pe.window),
            "coordinate_bits": bits_of(pe.window), "element_bits": bits_of(pe.window),
        }  # fmt: skip
        block: dict[str, int | float | str] = {
            "block": "gustav_snn_pe", "accumulator_bits": pe.accumulator_bits, "columns": pe.window,
        }  # fmt: skip
        return (
            Component("pe", "logic", pe.count, block),
            Component("merger", "logic", pe.count, merger),
            Component("lif", "logic", pe.count, {"block": "lif"}),
            ram("weight_buffer", pe.tiles, pe.weight_buffer_kib * 1024, pe.weight_bits),
            ram("spike_buffer", self.pes, 2 * -(-self.piece * vector_bits // 8), vector_bits),
            *shared_components(config.memory, pe.count, config.memory.read_switch.inputs),
        )

    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Operands]:
        """Find the row vectors, place them, the weights and the output, and draw tiles with what feeds them."""
        config, pes, tiles, window = self.config, self.pes, self.config.pe.tiles, self.config.pe.window
        found = row_vectors(layer.inputs, layer.k, layer.timesteps, window, self.piece)
        blocks, groups = -(-len(found.vectors) // pes), -(-layer.n // tiles)
        padding = ((0, blocks * pes - len(found.vectors)), (0, 0), (0, 0))
        vectors, spikes = (np.pad(counts, padding) for counts in found)
        positions = np.clip(layer.m - np.arange(blocks * pes) * window, 0, window)
        begin = np.zeros((*vectors.shape[:2], vectors.shape[2] + 1), np.int64)
        begin[:, :, 1:] = -(-vectors.cumsum(2) * self.vector_bits(layer.k) // 8)
        begin[: len(found.vectors), :, 1:] += -(-config.format.pointer_bits // 8)
        weight_bytes = np.where(np.arange(groups * tiles) < layer.n, -(-layer.k * config.pe.weight_bits // 8), 0)
        stored = np.pad(output_bytes, (0, blocks * pes * window - layer.m)).reshape(blocks, pes, window).sum(2)
        ends = np.minimum(np.arange(groups + 1) * tiles, layer.n)
        stored = np.diff(stored[:, None] * ends[:, None] // layer.n, axis=1)
        taken = positions.reshape(blocks, 1, pes) * np.diff(ends)[:, None] * layer.taken_bytes
        x = Operands(
            vectors, spikes, begin, positions, rows=memory.place(begin[:, :, -1]), weights=memory.place(weight_bytes),
            output=memory.place(stored), taken=memory.place_again(taken),
        )  # fmt: skip
        piece_bytes = -(-self.piece * config.pe.weight_bits // 8)
        most_rows, most_weights = (int(most) // memory.line_bytes + 2 for most in (np.diff(begin).max(), piece_bytes))
        diagram.agent(pe, config.pe.count)
        diagram.agent(spike_reader, pes, requests=most_rows, lanes=range(pes))
        diagram.agent(weight_reader, tiles, requests=most_weights, lanes=range(pes, pes + tiles))
        lines = config.memory.lines(BURST_LINES)
        diagram.agent(dma, lines.lanes, requests=lines.share)
        diagram.agent(drain, pes, requests=lines.burst, lanes=range(pes))
        return {
            "spikes": ping_pong(diagram, tiles, pes), "weights": ping_pong(diagram, pes, tiles),
            "room": diagram.fifo(2, full=not layer.taken_bytes, readers=tiles, count=pes),
            "first_taken": 2 * bool(layer.taken_bytes),
            "finished": diagram.fifo(2 * tiles, count=pes),
            "ahead": diagram.fifo(blocks * groups + config.scheduler.prefetch_groups, readers=lines.lanes),
            "pes": pes, "blocks": blocks, "groups": groups, "pieces": vectors.shape[2], "piece_bytes": piece_bytes,
        }, x  # fmt: skip

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """A spike leaves the merger and is added; a row vector selects a weight; a read-out's neurons do not fire."""
        found = {
            ("merger", "merge"): done["pe", "add"],
            ("spike_buffer", "write"): done["loaded"],
            ("spike_buffer", "read"): done["weight_buffer", "read"],
            ("weight_buffer", "write"): done["weight_bytes"] * 8 // self.config.pe.weight_bits,
        }
        return {**found, ("lif", "update"): 0} if layer.rests else found

    @property
    def processing_elements(self) -> int:
        """PEs; each adds one weight at a time."""
        return self.config.pe.count

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Additions of the weights of a spike, zero or not."""
        return int(counts[ADDED])

    def working_cycles(
        self, layer: Layer, program: Program, counts: NDArray[np.int64], times: NDArray[np.int64]
    ) -> int:
        """A PE works in the cycles in which it adds, not while its pipeline empties and its neurons fire."""
        return int(counts[ADDED])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """All additions spread evenly over the PEs."""
        return -(-int(counts[ADDED]) // self.config.pe.count)

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """All row vectors and all weights."""
        return int(program.operands.rows.size.sum() + program.operands.weights.size.sum())
