"""GoSPA-SNN: the outer-product design that LoAS is compared with (GoSPA: Deng et al., ISCA 2021).

As LoAS (MICRO 2024, section V) builds it: sixteen PEs without multipliers, LoAS's memory system, order
k, m, t, n, a coordinate for each spike of each timestep, a matrix of M x N x T partial sums. A spike (m, t) at k adds
the non-zeros of row k of B to the partial sums (m, t), one per cycle:

    for part of k:                           one part, unless partial sums overflow
        for tile of outputs:                 as many rows (or else columns) as the partial-sum memory holds
            fetch the tile's partial sums    not in the first part
            for k in part:                   B[k, :] is broadcast, barrier at its end
                for (m, t) that spike at k:  in every PE, its own spikes
                    for n in B[k, :]:        one accumulation per cycle
            put partial sums away, or fire:  all t of a neuron, coordinates of its spikes to memory

For a spike a PE walks through the bitmask of B[k, :], 128 columns at a time, as other machines walk through the chunks
of a fiber. It takes

    spike(k) = spike_overhead_cycles + sum over chunks of max(1, chunk_overhead_cycles + non-zeros of the chunk)

cycles, and an ideal memory leaves, beside filling and draining,

    sum over parts, tiles and k with nnz(B[k, :]) > 0 of max over PEs of spikes spike(k).

Overflow. The matrix fits or it does not. If it does not, the tiles take turns in the partial-sum memory, and K is cut
into ``psum.k_tiles`` parts: after each part but the last every partial sum goes to DRAM, before each but the first it
comes back. ``overflow: excess`` leaves the last tile of a part where it is and reverses the order of tiles; one part
(``k_tiles: 1``) spills nothing, and reads B once for every tile.

Partial sums lie in banks that belong to one PE each, with a port to read and one to write, or in ways of the cache
(``psum.place``), through the crossbar switches: an accumulation then takes two accesses of a bank, and a row of B with
its partial sums ends before the next spike begins. A PE owns the rows m with ``m mod count`` equal to its number.

Hand-traced 2 x 2 example (M = N = T = 2, K = 2, memory.ideal, 1 cycle per chunk beside its non-zeros; spikes (m, t) at
k = 0: (0, 0), (0, 1), (1, 0), at k = 1: (1, 1); B[0, :] = [1, 1], B[1, :] = [0, 1]): at 0 the fetcher takes a credit
and reads the two lines of coordinates and two of B; at 1 row 0 is broadcast, PEs have the block and read; at 2 they
take the row: PE 0 has two spikes of 1 + 2 cycles, to 8, PE 1 one; row 1: PE 1 has one of 1 + 1, to 10. Each neuron unit
fires 2 neurons in 2 timesteps, to 14; the outputs are written in 1: the layer ends in cycle 15.

Sources are in ``hwconfigs/gospa_snn.yaml``; deviations from the paper in DEVIATIONS.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.compress.by_position import by_position
from archsim.dataflow.base import MachineConfig, ScheduledLayers, shared_components
from archsim.dataflow.layer import Layer
from archsim.dataflow.layer_machine import EVERYTHING, LayerMachine
from archsim.dataflow.machine import BURST_LINES, Program
from archsim.dataflow.outer_product import (
    FIRE,
    KEEP,
    PUT_AWAY,
    RowsOfB,
    Spikes,
    Visits,
    output_bytes_of,
    rows_of_b,
    spikes_of,
    tiles_of,
    visits_of,
)
from archsim.dataflow.parts import fetch, stream, take
from archsim.hardware import operation
from archsim.hardware.agent import NONE, Agent, Operations, op
from archsim.hardware.compute.accumulator import accumulate_outer_product
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.diagram import Diagram
from archsim.hardware.fields import Count, WeightBits
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.memory.placement import Placer, Tensor
from archsim.hardware.operation import BUS, PREFETCH, RESIDENT_READ, RESIDENT_WRITE, STREAM_READ, STREAM_WRITE

# --- Configuration ----------------------------------------------------------------------------------------------------


class GospaPe(Block):
    """Processing elements without multipliers."""

    count: Count = Field(description="PEs, each with its own neuron unit")
    spike_overhead_cycles: int = Field(ge=0, le=64, description="cycles of a spike beside those of its chunks of B")
    chunk_overhead_cycles: int = Field(
        ge=0, le=64, description="cycles of a chunk of 128 columns beside one per non-zero; 0: max(1, non-zeros)"
    )
    row_buffers: int = Field(ge=1, le=64, description="rows of B that the slowest PE may lag behind the broadcast")
    weight_bits: WeightBits = Field(description="bits of a weight")


class PsumConfig(Block):
    """Memory of partial sums."""

    size_kib: int = Field(ge=1, le=65536, description="capacity in KiB")
    bits: int = Field(ge=8, le=63, description="bits of a partial sum, sign included")
    place: Literal["own_banks", "cache"] = Field(description="a bank for each PE, or ways of the cache")
    k_tiles: int = Field(ge=1, le=1024, description="parts of K if partial sums overflow; 1: nothing is spilled")
    overflow: Literal["matrix", "excess"] = Field(description="what is put away after a part: all, or what must be")


class GospaScheduler(ScheduledLayers):
    """Order of the work."""

    barrier: Literal["row", "none"] = Field(description="whether all PEs wait at the end of a row of B")
    spikes: Literal["own_rows", "round_robin"] = Field(description="which PE takes a spike")
    block_lines: int = Field(ge=1, le=65536, description="lines of spikes and rows of B that are fetched together")
    prefetch_blocks: int = Field(ge=0, le=64, description="blocks fetched ahead of the one in use; 0: on demand")


class GospaFormat(Block):
    """Operands in memory."""

    coordinate_bits: int = Field(ge=1, le=64, description="bits of the coordinates of one spike")
    pointer_bits: int = Field(ge=0, le=64, description="bits of the pointer behind the bitmask of a row of B")
    placement: Literal["row_per_bank", "interleaved"] = Field(
        description="lines of the spikes of one PE: all in one bank, or over all banks"
    )


class GospaSnnConfig(MachineConfig):
    """A GoSPA-SNN machine."""

    accelerator: Literal["gospa_snn"] = Field(description="which machine this file describes")
    pe: GospaPe = Field(description="processing elements")
    psum: PsumConfig = Field(description="memory of partial sums")
    neuron: LifConfig = Field(description="neuron units")
    scheduler: GospaScheduler = Field(description="order of the work")
    format: GospaFormat = Field(description="operands in memory")

    @model_validator(mode="after")
    def _fits(self) -> GospaSnnConfig:
        psum, scheduler, cache = self.psum, self.scheduler, self.memory.cache
        problems = {}
        if self.psum_words < self.least_timesteps:
            problems["psum.size_kib"] = f"must hold {self.least_timesteps} timesteps of one neuron for each PE"
        streamed = (scheduler.prefetch_blocks + 1) * scheduler.block_lines * cache.line_bytes
        if psum.place == "cache":
            streamed += psum.size_kib * 1024
        if streamed > cache.usable_bytes * cache.stream_ways // cache.ways:
            problems["memory.cache.stream_ways"] = (
                "must hold the blocks of scheduler.block_lines in flight and, with psum.place cache, psum.size_kib: "
                f"{streamed} bytes"
            )
        if scheduler.spikes == "round_robin" and (psum.place, scheduler.barrier) != ("cache", "row"):
            problems["scheduler.spikes"] = (
                "needs psum.place cache, so that all PEs reach all partial sums, and scheduler.barrier row, so "
                "that no two change the same one"
            )
        if problems:
            raise CrossFieldError(problems)
        return self

    @property
    def psum_words(self) -> int:
        """Partial sums that one PE has room for."""
        return self.psum.size_kib * 1024 * 8 // self.pe.count // self.psum.bits

    @property
    def most_columns(self) -> int:
        """Columns of B that a tile can have: a row of partial sums of all timesteps, and a row of B in its buffer."""
        return self.psum_words // self.built_timesteps


# --- Operands ---------------------------------------------------------------------------------------------------------

OWN_BANKS = 0
"""``psum.place`` as agents see it."""

FETCH_LINES, MOVE_LINES, PSUM_BUFFER = 16, 4, 8
"""Lines of one operation of the fetcher, of one on partial sums; of partial sums, for each PE, that wait for its neuron
unit in the cache."""


class Operands(NamedTuple):
    """Operands and where they are in memory; arrays are int64. A fiber of ``sums`` holds ``owned`` partial sums."""

    spikes: Spikes
    b: RowsOfB
    visits: Visits
    owned: NDArray[np.int64]
    coordinates: Tensor
    masks: Tensor
    values: Tensor
    sums: Tensor
    output: Tensor
    taken: Tensor


# --- Agents -----------------------------------------------------------------------------------------------------------

ADDITIONS, SCANS, ROW_READS, BROUGHT, PUT_BACK, UPDATES, ROWS, BEATS = range(8)


def pe(a: Agent, m: Any, x: Operands) -> Operations:
    """Add every row of B to the partial sums of the PE's spikes; the coordinates of the next row are read ahead."""
    for visit in range(m.visits):
        columns, share, read_to = x.visits.columns[visit], x.visits.share[visit] + a.me, 0
        yield op(pop=m.ready.port + a.me)
        for block in range(x.visits.block[visit], x.visits.block[visit + 1]):
            read_to = read_spikes(a, m, x, share, block, x.visits.row[block, 0], read_to)
            yield op(pop=m.blocks.port + a.me)
            for row in range(x.visits.row[block, 0], x.visits.row[block, 1]):
                k = x.b.filled[row]
                spikes = x.spikes.start[share, k + 1] - x.spikes.start[share, k]
                a.count[ADDITIONS] += spikes * (x.b.start[columns, k + 1] - x.b.start[columns, k])
                a.count[SCANS] += spikes * x.b.chunks[columns]
                a.count[ROW_READS] += spikes * x.b.beats[columns, k]
                read_to = read_spikes(a, m, x, share, block, row + 1, read_to)
                if m.config.psum.place == OWN_BANKS or spikes == 0:
                    cycles = spikes * x.b.cycles[columns, k]
                    yield op(pop=m.rows.port + a.me, compute=cycles, barrier=m.barrier)
                else:
                    yield op(pop=m.rows.port + a.me)
                    yield from add_in_cache(a, m, x, visit, columns, share, k)
                    yield op(barrier=m.barrier)
        yield op(push=m.done.fifo + a.me)


def read_spikes(a: Agent, m: Any, x: Operands, share: int, block: int, row: int, read_to: int) -> int:
    """Read the coordinates of the PE's spikes at a row of the block, of which those before byte ``read_to`` are there.

    What a beat holds beyond them is kept for later rows. Returns up to where all are there now.
    """
    if row == x.visits.row[block, 1]:
        return read_to
    k, bits, beat = x.b.filled[row], m.config.format.coordinate_bits, m.memory.beat_shift
    first = x.spikes.start[share, k]
    if first == x.spikes.start[share, k + 1]:
        return read_to
    begin = max(read_to, ((first - x.spikes.start[share, 0]) * bits >> 3) >> beat << beat)
    end = (bytes_before(a, x.spikes.start, share, k + 1, bits) + (1 << beat) - 1) >> beat << beat
    end = min(end, x.coordinates.size[share])
    a.access(m.memory, x.coordinates, share, begin, end, RESIDENT_READ, 0)
    return int(max(read_to, end))


def bytes_before(a: Agent, start: NDArray[np.int64], row: int, k: int, bits: int) -> int:
    """Bytes of what a share, or a column tile of B, has before k, ``bits`` bits each."""
    return int(((start[row, k] - start[row, 0]) * bits + 7) >> 3)


def add_in_cache(a: Agent, m: Any, x: Operands, visit: int, columns: int, share: int, k: int) -> Operations:
    """Add row k of B to the partial sums of every spike at k, which are read from the cache and written back."""
    spike = x.spikes.start[share, k]
    while spike < x.spikes.start[share, k + 1]:
        j = x.b.start[columns, k]
        overhead = x.b.cycles[columns, k] - (x.b.start[columns, k + 1] - j)
        while j < x.b.start[columns, k + 1]:
            first, code = j, x.spikes.code[spike]
            fiber = x.visits.fiber[visit] + code % m.pes
            j = access_sums(a, m, x, fiber, columns, code // m.pes, j, x.b.start[columns, k + 1])
            yield op(compute=overhead + j - first)
            overhead = 0
        spike += 1


def access_sums(a: Agent, m: Any, x: Operands, fiber: int, columns: int, place: int, j: int, end: int) -> int:
    """Read and write the partial sums for the non-zeros j to ``end`` of a row of B, as many lines as an operation
    carries; ``place`` tells the row and timestep of the partial sums. Returns the first j that is left."""
    for _ in range(MOVE_LINES):
        line, words = NONE, 0
        while j < end:
            at = (place * x.b.width[columns] + x.b.column[j]) // m.line_words
            if words > 0 and at != line:
                break
            line, words, j = at, words + 1, j + 1
        if words > 0:
            address, size = x.sums.line[fiber] + line * x.sums.stride, (words * m.config.psum.bits + 7) >> 3
            a.request(address, words, size, RESIDENT_READ, x.sums.row, 0)
            a.request(address, words, size, RESIDENT_WRITE, x.sums.row, 0)
    return j


def lif(a: Agent, m: Any, x: Operands) -> Operations:
    """Bring a PE's partial sums of a tile; when the PE is done, put them away, or fire and write the outputs."""
    for visit in range(m.visits):
        fiber, way = x.visits.fiber[visit] + a.me, x.visits.end[visit]
        if x.visits.load[visit]:
            yield from bring(a, m, x, fiber, x.sums.size[x.visits.fiber[visit]] >> m.memory.line_shift)
        yield op(push=m.ready.fifo + a.me)
        yield op(pop=m.done.port + a.me)
        if way == FIRE:
            yield from take(a, m, x.taken, fiber)
        if way != KEEP:
            yield from take_out(a, m, x, fiber, way)
        if way == FIRE:
            yield from stream(a, m, x.output, fiber, 0, x.output.size[fiber], STREAM_WRITE, 0, MOVE_LINES)
            yield op()


def bring(a: Agent, m: Any, x: Operands, fiber: int, lines: int) -> Operations:
    """Take partial sums as the fetcher brings them, and into the PE's banks if it has some."""
    line = 0
    while line < lines:
        end, moved = min(line + MOVE_LINES, lines), 0
        if m.config.psum.place == OWN_BANKS:
            moved = request_sums(a, m, x, fiber, line, end, RESIDENT_READ, NONE)
        a.count[BROUGHT] += moved
        yield op(pop=m.sum_lines.port + a.me, pops=end - line, pause=moved)
        line = end


def take_out(a: Agent, m: Any, x: Operands, fiber: int, way: int) -> Operations:
    """Take partial sums from where they are, to DRAM or to the neurons; a bank gives one in a cycle."""
    line, lines, own_banks = 0, x.sums.size[fiber] >> m.memory.line_shift, m.config.psum.place == OWN_BANKS
    while line < lines:
        end = min(line + MOVE_LINES, lines)
        read, write = NONE if own_banks else RESIDENT_READ, STREAM_WRITE if way == PUT_AWAY else NONE
        moved = request_sums(a, m, x, fiber, line, end, read, write)
        put_back = 0 if way == FIRE else moved
        # A sum that stays the same in time is used at every timestep.
        fired = -(-(moved - put_back) * m.layer.updates // m.layer.timesteps)
        a.count[UPDATES] += fired
        a.count[PUT_BACK] += put_back
        yield op(compute=fired * m.config.neuron.cycles, pause=put_back if own_banks else 0)
        line = end


def request_sums(a: Agent, m: Any, x: Operands, fiber: int, first: int, end: int, read: int, write: int) -> int:
    """Ask for lines ``first`` to ``end`` of a fiber of partial sums in the modes that are given; returns how many
    partial sums there are in them."""
    moved = 0
    for line in range(first, end):
        words = max(0, min(x.owned[fiber] - line * m.line_words, m.line_words))
        address, size = x.sums.line[fiber] + line * x.sums.stride, (words * m.config.psum.bits + 7) >> 3
        beats = (size + (1 << m.memory.beat_shift) - 1) >> m.memory.beat_shift
        if words > 0 and read != NONE:
            a.request(address, beats, size, read, x.sums.row, 0)
        if words > 0 and write != NONE:
            a.request(address, beats, size, write, x.sums.row, 0)
        moved += words
    return moved


def fetcher(a: Agent, m: Any, x: Operands) -> Operations:
    """Bring the blocks of every visit into the cache, and before the first one the partial sums put away earlier."""
    for visit in range(m.visits):
        columns, bits, wide = x.visits.columns[visit], m.config.format.coordinate_bits, m.config.pe.weight_bits
        for block in range(x.visits.block[visit], x.visits.block[visit + 1]):
            k, last, first = x.visits.k[block, 0], x.visits.k[block, 1], block == x.visits.block[visit]
            yield op(pop=m.credits.port)
            if first and x.visits.load[visit]:
                yield from fetch_sums(a, m, x, x.visits.fiber[visit])
            for share in range(x.visits.share[visit], x.visits.share[visit] + m.pes):
                # A line that the block before this one shares with it is there already.
                begin = bytes_before(a, x.spikes.start, share, k, bits) + (0 if first else m.memory.line_bytes - 1)
                end = bytes_before(a, x.spikes.start, share, last, bits)
                yield from fetch(a, m, x.coordinates, share, begin, end, STREAM_READ, 0, FETCH_LINES)
            begin, end = k * x.b.mask_bytes[columns], last * x.b.mask_bytes[columns]
            yield from fetch(a, m, x.masks, columns, begin, end, PREFETCH, block, FETCH_LINES)
            begin, end = bytes_before(a, x.b.start, columns, k, wide), bytes_before(a, x.b.start, columns, last, wide)
            yield from fetch(a, m, x.values, columns, begin, end, PREFETCH, block, FETCH_LINES)
            yield op(push=m.blocks.fifo)


def fetch_sums(a: Agent, m: Any, x: Operands, fiber: int) -> Operations:
    """Bring the partial sums of all PEs from DRAM, a line of each PE at a time."""
    for line in range(x.sums.size[fiber] >> m.memory.line_shift):
        for owner in range(m.pes):
            if a.requests() == FETCH_LINES:
                yield op()
            request_sums(a, m, x, fiber + owner, line, line + 1, STREAM_READ, NONE)
        yield op(push=m.sum_lines.fifo)


def broadcaster(a: Agent, m: Any, x: Operands) -> Operations:
    """Read every row of B that is not empty through the cache and broadcast it; a finished block is a credit.

    It begins a block when the one before has come, and fetches itself what of its own has not come yet.
    """
    for visit in range(m.visits):
        columns, bits, mask = x.visits.columns[visit], m.config.pe.weight_bits, x.b.mask_bytes[x.visits.columns[visit]]
        for block in range(x.visits.block[visit], x.visits.block[visit + 1]):
            if block > 0:
                yield op(pop=m.blocks_to_send.port)
            for row in range(x.visits.row[block, 0], x.visits.row[block, 1]):
                k = x.b.filled[row]
                begin = (x.b.start[columns, k] - x.b.start[columns, 0]) * bits >> 3
                end = bytes_before(a, x.b.start, columns, k + 1, bits)
                a.read(m.memory, x.masks, columns, k * mask, (k + 1) * mask, block)
                a.read(m.memory, x.values, columns, begin, end, block)
                a.count[ROWS] += 1
                a.count[BEATS] += x.b.beats[columns, k]
                yield op(push=m.rows.fifo)
            yield op(push=m.credits.fifo)


# --- The machine ------------------------------------------------------------------------------------------------------


class GospaSnn(LayerMachine):
    """GoSPA-SNN (as in LoAS, MICRO 2024): outer product, one coordinate per spike, partial sums of all timesteps."""

    name: ClassVar[str] = "gospa_snn"
    Config: ClassVar[type[MachineConfig]] = GospaSnnConfig
    tensors: ClassVar[tuple[str, ...]] = "input_format", "weight_format", "weight", "psum", "output_format", "output"
    agents = pe, lif, fetcher, broadcaster
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {
        ("pe", "add"): ADDITIONS, ("pe", "scan"): SCANS, ("row_buffer", "read"): ROW_READS, "brought": BROUGHT,
        "put back": PUT_BACK, ("lif", "update"): UPDATES, ("scheduler", "step"): ROWS, ("broadcast", "transfer"): BEATS,
    }  # fmt: skip
    group_inputs = EVERYTHING
    config: GospaSnnConfig

    @property
    def sum_bits(self) -> int:
        """The partial-sum memory holds the full sums."""
        return self.config.psum.bits

    def inventory(self) -> Sequence[Component]:
        """PEs, neuron units, their partial-sum banks, and LoAS's memories, switches and wires."""
        config, pes, psum = self.config, self.config.pe.count, self.config.psum
        columns = config.most_columns
        row_bytes = -(-columns // 8) + -(-columns * config.pe.weight_bits // 8)
        return (
            Component("pe", "logic", pes, {"block": "gospa_snn_pe", "accumulator_bits": psum.bits}),
            ram("row_buffer", pes, config.pe.row_buffers * row_bytes, config.memory.cache.width_bits),
            Component("lif", "logic", pes, {"block": "lif"}),
            *([ram("psum_bank", pes, psum.size_kib * 1024 // pes, psum.bits)] if psum.place == "own_banks" else []),
            *shared_components(config.memory, pes, pes),
        )

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Row of B after row of B; counts sums that leave the bits of a partial sum."""
        end = first + len(sums)
        a = by_position(layer.inputs.mask[first:end], layer.inputs.start[first:end], layer.inputs.words, layer.k)
        b = by_position(layer.weights.mask, layer.weights.start, layer.weights.values, layer.k)
        overflows = accumulate_outer_product(a, b, layer.timesteps, self.config.psum.bits, sums)
        return {"psum_overflows": int(overflows)}

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Coordinates of every spike."""
        return -(-spikes * (self.config.format.coordinate_bits + layer.beside_coordinate_bits) // 8)

    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Operands]:
        """Deal spikes to PEs, cut outputs into tiles and K into blocks, place all in memory."""
        config, cache = self.config, self.config.memory.cache
        tiles = tiles_of(config, layer)
        spikes, b = spikes_of(config, layer, tiles), rows_of_b(config, layer, tiles)
        spike_bytes = -(-(spikes.start - spikes.start[:, :1]) * config.format.coordinate_bits // 8)
        value_bytes = -(-(b.start - b.start[:, :1]) * config.pe.weight_bits // 8)
        b_bytes = value_bytes + np.outer(b.mask_bytes, np.arange(layer.k + 1))
        streamed = spike_bytes.reshape(tiles.down, tiles.pes, -1).sum(1)[:, None] + b_bytes
        rows_left = np.minimum(tiles.rows, layer.m - tiles.rows * np.arange(tiles.down))
        owned_rows = np.maximum(0, -(-(rows_left[:, None] - np.arange(tiles.pes)) // tiles.pes))
        owned = (owned_rows[:, None] * (b.width * layer.timesteps)[None, :, None]).reshape(-1, tiles.pes)
        line_words = cache.line_bytes * 8 // config.psum.bits
        taken = output_bytes_of(layer, tiles, np.full(layer.m, layer.n * layer.taken_bytes))
        output_row = self.tensors.index("output" if layer.writes_sums else "output_format")
        banks = cache.banks if config.format.placement == "row_per_bank" else 0
        x = Operands(
            spikes, b, visits_of(config, layer, tiles, b, streamed), owned.ravel(),
            coordinates=memory.place(spike_bytes[:, -1], banks=banks),
            masks=memory.place(b.mask_bytes * layer.k),
            values=memory.place(value_bytes[:, -1]),
            sums=memory.place_abreast(-(-owned // line_words) * cache.line_bytes, cache.banks),
            output=memory.place(output_bytes_of(layer, tiles, output_bytes))._replace(row=output_row),
            taken=memory.place_again(taken)._replace(row=output_row),
        )  # fmt: skip
        pes, ahead = tiles.pes, config.scheduler.prefetch_blocks + 1
        most_spikes = int(np.diff(spikes.start, axis=1).max(initial=0)) * config.format.coordinate_bits // 8
        row_bytes = int(b.mask_bytes.max()) + int(np.diff(b.start, axis=1).max(initial=0)) * config.pe.weight_bits // 8
        asks = max(most_spikes // cache.line_bytes + 3, 2 * MOVE_LINES)
        diagram.agent(pe, pes, built=config.pe.count, requests=asks, lanes=range(pes))
        moved = max(2 * MOVE_LINES, BURST_LINES)
        diagram.agent(lif, pes, built=config.pe.count, requests=moved, lanes=range(pes))
        diagram.agent(fetcher, requests=FETCH_LINES)
        diagram.agent(broadcaster, requests=row_bytes // cache.line_bytes + 4, lanes=[BUS])
        blocks = diagram.fifo(ahead, readers=pes + 1)
        return {
            "pes": pes, "visits": len(x.visits.load), "line_words": line_words,
            "barrier": diagram.barrier(pes) if config.scheduler.barrier == "row" else NONE,
            "blocks": blocks, "blocks_to_send": blocks.reader(pes), "credits": diagram.fifo(ahead, full=True),
            "rows": diagram.fifo(config.pe.row_buffers, readers=pes),
            "sum_lines": diagram.fifo(PSUM_BUFFER, readers=pes),
            "done": diagram.fifo(1, count=pes), "ready": diagram.fifo(1, count=pes),
        }, x  # fmt: skip

    def all_traffic(self, traffic: NDArray[np.int64], actions: Mapping[tuple[str, str], int]) -> NDArray[np.int64]:
        """Accesses of banks of their own are traffic of partial sums too."""
        accesses = np.array([actions.get(("psum_bank", way), 0) for way in ("read", "write")])
        found = traffic.copy()
        psum = found[self.tensors.index("psum")]
        psum[[operation.SRAM_READS, operation.SRAM_WRITES]] += accesses
        psum[[operation.SRAM_READ_BYTES, operation.SRAM_WRITE_BYTES]] += accesses * self.config.psum.bits // 8
        return found

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """A row of B is written into the buffers of all PEs; an addition reads and writes a partial sum; the neurons of
        a read-out do not fire."""
        found = {("row_buffer", "write"): done["broadcast", "transfer"] * self.config.pe.count}
        if self.config.psum.place == "own_banks":
            fired = done["lif", "update"] * layer.timesteps // layer.updates
            found["psum_bank", "read"] = done["pe", "add"] + done["put back"] + fired
            found["psum_bank", "write"] = done["pe", "add"] + done["brought"]
        return {**found, ("lif", "update"): 0} if layer.rests else found

    @property
    def processing_elements(self) -> int:
        """PEs; one works while it walks through the row of B for a spike."""
        return self.config.pe.count

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Accumulations: a spike and a non-zero weight."""
        return int(counts[ADDITIONS])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """All spikes spread evenly over the processing elements, those at an empty row of B left out."""
        x = program.operands
        spikes = np.diff(x.spikes.start, axis=1).sum(0)
        work = int((spikes * np.where(np.diff(x.b.start, axis=1) > 0, x.b.cycles, 0)).sum())
        return -(-work // self.config.pe.count)

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """All coordinates and all of B."""
        x = program.operands
        coordinates = x.spikes.start[-1, -1] * self.config.format.coordinate_bits // 8
        b = x.b.mask_bytes.sum() * layer.k + len(x.b.column) * self.config.pe.weight_bits // 8
        return int(coordinates + b)
