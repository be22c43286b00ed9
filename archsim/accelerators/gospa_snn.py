"""GoSPA-SNN: the outer-product design that LoAS is compared with (GoSPA: Deng et al., ISCA 2021).

As LoAS (MICRO 2024, section V) builds it: sixteen processing elements without multipliers, LoAS's memory system, order
k, m, t, n, a coordinate for each spike of each timestep, a matrix of M x N x T partial sums. A spike (m, t) at k adds
the non-zeros of row k of B to the partial sums (m, t), one a cycle:

    for part of k:                           one part, unless partial sums overflow
        for tile of outputs:                 as many rows (or else columns) as the partial-sum memory holds
            fetch the tile's partial sums    not in the first part
            for k in part:                   B[k, :] is broadcast, barrier at its end
                for (m, t) that spike at k:  in every element, its own spikes
                    for n in B[k, :]:        one accumulation a cycle
            put partial sums away, or fire:  all t of a neuron, coordinates of its spikes to memory

For a spike an element walks through the bitmask of B[k, :], 128 columns at a time, as other machines walk through the
chunks of a fiber, so that it takes

    spike(k) = spike_overhead_cycles + sum over chunks of max(1, chunk_overhead_cycles + non-zeros of the chunk)

cycles, and an ideal memory leaves, beside filling and draining,

    sum over parts, tiles and k with nnz(B[k, :]) > 0 of max over elements of spikes spike(k).

Overflow. The matrix fits or it does not. If it does not, the tiles take turns in the partial-sum memory, and K is cut
into ``psum.k_tiles`` parts: after each part but the last every partial sum goes to DRAM, before each but the first it
comes back. ``overflow: excess`` leaves the last tile of a part where it is and turns the order of tiles round; one part
(``k_tiles: 1``) spills nothing, and reads B once for every tile.

Partial sums lie in banks that belong to one element each, with a port to read and one to write, or in ways of the cache
(``psum.place``), through the crossbar switches: an accumulation then takes two accesses of a bank, and a row of B with
its partial sums ends before the next spike begins. An element owns the rows m with ``m mod count`` equal to its number.

Agents: an element each (:func:`element`); a neuron unit each, which also moves partial sums (:func:`neuron_unit`); one
fetcher (:func:`fetcher`), which brings blocks of k, the spikes and the rows of B together, into the cache; one
broadcaster (:func:`broadcaster`) of rows of B. They meet at these FIFOs:

    fetcher -- block --> elements, broadcaster -- row of B (broadcast) --> elements -- tile done --> neuron units
    fetcher <-- credit -- broadcaster                                      elements <-- sums ready -- neuron units
    fetcher -- lines of partial sums --> neuron units

Hand-traced 2 x 2 example (M = N = T = 2, K = 2, memory.ideal, 1 cycle a chunk beside its non-zeros; spikes (m, t) at k
= 0: (0, 0), (0, 1), (1, 0), at k = 1: (1, 1); B[0, :] = [1, 1], B[1, :] = [0, 1]): at 0 the fetcher takes a credit and
reads the two lines of coordinates and two of B; at 1 elements and broadcaster have the block and read; at 2 row 0 is
broadcast: element 0 has two spikes of 1 + 2 cycles, to 8, element 1 one; row 1: element 1 has one of 1 + 1, to 10. Each
neuron unit fires 2 neurons in 2 timesteps, to 14; the outputs are written in 1: the layer ends in cycle 15.

Sources are in ``hwconfigs/gospa_snn.yaml``; deviations from the paper in DEVIATIONS.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.compress.bitmask import CHUNK_BITS
from archsim.compress.by_position import by_position
from archsim.dataflow.base import Layer, MachineConfig, Program, ScheduledLayers, memory_components
from archsim.dataflow.machine import DrawnMachine
from archsim.hardware import operation
from archsim.hardware.agent import NONE, Agent, Operations, op
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.diagram import Diagram
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.memory.placement import Placer, Tensor
from archsim.hardware.operation import PREFETCH, RESIDENT_READ, RESIDENT_WRITE, STREAM_READ, STREAM_WRITE
from archsim.jit import njit

# --- Configuration ----------------------------------------------------------------------------------------------------


class GospaPe(Block):
    """Processing elements without multipliers."""

    count: int = Field(ge=1, le=1024, description="elements, each with its own neuron unit")
    spike_overhead_cycles: int = Field(ge=0, le=64, description="cycles of a spike beside those of its chunks of B")
    chunk_overhead_cycles: int = Field(
        ge=0, le=64, description="cycles of a chunk of 128 columns beside one per non-zero; 0: max(1, non-zeros)"
    )
    row_buffers: int = Field(ge=1, le=64, description="rows of B that the slowest element may lag behind the broadcast")
    weight_bits: int = Field(ge=2, le=16, description="bits of a weight")


class PsumConfig(Block):
    """Memory of partial sums."""

    size_kib: int = Field(ge=1, le=65536, description="capacity in KiB")
    bits: int = Field(ge=8, le=63, description="bits of a partial sum, sign included")
    place: Literal["own_banks", "cache"] = Field(description="a bank for each element, or ways of the cache")
    k_tiles: int = Field(ge=1, le=1024, description="parts of K if partial sums overflow; 1: nothing is spilled")
    overflow: Literal["matrix", "excess"] = Field(description="what is put away after a part: all, or what must be")


class GospaScheduler(ScheduledLayers):
    """Order of the work."""

    barrier: Literal["row", "none"] = Field(description="whether all elements wait at the end of a row of B")
    spikes: Literal["own_rows", "round_robin"] = Field(description="which element takes a spike")
    block_lines: int = Field(ge=1, le=65536, description="lines of spikes and rows of B that are fetched together")
    prefetch_blocks: int = Field(ge=0, le=64, description="blocks fetched ahead of the one in use; 0: on demand")


class GospaFormat(Block):
    """Operands in memory."""

    coordinate_bits: int = Field(ge=1, le=64, description="bits of the coordinates of one spike")
    pointer_bits: int = Field(ge=0, le=64, description="bits of the pointer behind the bitmask of a row of B")
    placement: Literal["row_per_bank", "interleaved"] = Field(
        description="lines of the spikes of one element: all in one bank, or over all banks"
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
        if psum_words(self) < self.timesteps:
            problems["psum.size_kib"] = f"must hold {self.timesteps} timesteps of one neuron for each element"
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
                "needs psum.place cache, so that all elements reach all partial sums, and scheduler.barrier row, so "
                "that no two change the same one"
            )
        if problems:
            raise CrossFieldError(problems)
        return self


def psum_words(config: GospaSnnConfig) -> int:
    """Partial sums that one element has room for."""
    return config.psum.size_kib * 1024 * 8 // config.pe.count // config.psum.bits


def most_columns(config: GospaSnnConfig) -> int:
    """Columns of B that a tile can have: a row of partial sums of all timesteps, and a row of B in its buffer."""
    return psum_words(config) // config.timesteps


# --- Operands ---------------------------------------------------------------------------------------------------------

OWN_BANKS, IN_CACHE = range(2)
"""``psum.place``."""
KEEP, PUT_AWAY, FIRE = range(3)
"""What becomes of a tile's partial sums at the end of a step."""

FETCH_LINES = 16
MOVE_LINES = 4
"""Lines of one operation of the fetcher; of one operation on partial sums."""
PSUM_BUFFER = 8
"""Lines of partial sums, for each PE, that wait in the cache for its neuron unit."""


class Operands(NamedTuple):
    """Operands and where they are in memory; arrays are int64.

    The spikes that PE e takes in row tile r are stream ``r * pes + e``, in order of k: ``a_start`` [streams, K + 1] of
    them come before k; their coordinates are that fiber of ``coordinates``. ``code`` says whose partial sums they
    change, (local row * T + t) * pes + owner, from ``code_first`` of the stream on; it is empty where those lie in
    banks of their own.

    Column tile c has ``width`` columns, ``chunks`` of 128, and bitmasks of ``mask_bytes`` each. ``b_start`` [tiles,
    K + 1] of its non-zeros come before row k; their columns, within the tile, are ``b_column`` from ``b_first`` on. A
    row takes ``beats`` [tiles, K] on the bus and a spike ``spike_cycles`` [tiles, K]. ``row`` lists the k whose row of
    B is not empty, column tile after column tile.

    A step is a visit of a tile. Step s works on column tile ``step_columns``, on the spikes of the streams from
    ``step_stream`` on, on the partial sums and outputs of the fibers from ``step_fiber`` on (one for each PE that owns
    some), in blocks from ``step_block[s]`` on. ``step_load`` 1: partial sums come from DRAM; ``step_end`` says what
    becomes of them. A block is ``block_k`` (first, end) and ``block_row`` (first, end of ``row``). A fiber of ``sums``
    holds ``owned`` partial sums, ``line_words`` in a line.
    """

    a_start: NDArray[np.int64]
    code: NDArray[np.int64]
    code_first: NDArray[np.int64]
    width: NDArray[np.int64]
    chunks: NDArray[np.int64]
    mask_bytes: NDArray[np.int64]
    b_start: NDArray[np.int64]
    b_column: NDArray[np.int64]
    b_first: NDArray[np.int64]
    beats: NDArray[np.int64]
    spike_cycles: NDArray[np.int64]
    row: NDArray[np.int64]
    step_columns: NDArray[np.int64]
    step_stream: NDArray[np.int64]
    step_fiber: NDArray[np.int64]
    step_load: NDArray[np.int64]
    step_end: NDArray[np.int64]
    step_block: NDArray[np.int64]
    block_k: NDArray[np.int64]
    block_row: NDArray[np.int64]
    owned: NDArray[np.int64]
    coordinates: Tensor
    masks: Tensor
    values: Tensor
    sums: Tensor
    output: Tensor


# --- Agents -----------------------------------------------------------------------------------------------------------

ADDITIONS, SCANS, ROW_READS, PSUM_READS, PSUM_WRITES, UPDATES, ROWS, BEATS = range(8)


def pe(a: Agent, m: Any, x: Operands) -> Operations:
    """Add every row of B to the partial sums of the PE's spikes; the coordinates of the next row are read ahead."""
    for step in range(m.steps):
        columns, stream, read_to = x.step_columns[step], x.step_stream[step] + a.me, 0
        yield op(pop=m.ready.port + a.me)
        for block in range(x.step_block[step], x.step_block[step + 1]):
            if x.block_row[block, 0] < x.block_row[block, 1]:
                read_to = read_spikes(a, m, x, stream, x.row[x.block_row[block, 0]], read_to)
            yield op(pop=m.blocks.port + a.me)
            for row in range(x.block_row[block, 0], x.block_row[block, 1]):
                k = x.row[row]
                spikes = x.a_start[stream, k + 1] - x.a_start[stream, k]
                additions = spikes * (x.b_start[columns, k + 1] - x.b_start[columns, k])
                a.count[ADDITIONS] += additions
                a.count[SCANS] += spikes * x.chunks[columns]
                a.count[ROW_READS] += spikes * x.beats[columns, k]
                if row + 1 < x.block_row[block, 1]:
                    read_to = read_spikes(a, m, x, stream, x.row[row + 1], read_to)
                if m.config.psum.place == IN_CACHE and spikes > 0:
                    yield op(pop=m.rows.port + a.me)
                    yield from add_in_cache(a, m, x, x.step_fiber[step], columns, stream, k)
                    yield op(barrier=m.barrier)
                else:
                    a.count[PSUM_READS] += additions
                    a.count[PSUM_WRITES] += additions
                    yield op(
                        pop=m.rows.port + a.me, compute=spikes * x.spike_cycles[columns, k], barrier=m.barrier
                    )  # fmt: skip
        yield op(push=m.done.fifo + a.me)


def coordinate_bytes(a: Agent, m: Any, x: Operands, stream: int, k: int) -> int:
    """Bytes of a stream's coordinates before k."""
    return (x.a_start[stream, k] * m.config.format.coordinate_bits + 7) >> 3


def read_spikes(a: Agent, m: Any, x: Operands, stream: int, k: int, read_to: int) -> int:
    """Read the coordinates of the PE's spikes at k, of which those before byte ``read_to`` are there.

    What a beat holds beyond them is kept for later rows; returns up to where all are there now.
    """
    if x.a_start[stream, k] == x.a_start[stream, k + 1]:
        return read_to
    beat = m.memory.beat_shift
    begin = (x.a_start[stream, k] * m.config.format.coordinate_bits >> 3) >> beat << beat
    end = (coordinate_bytes(a, m, x, stream, k + 1) + (1 << beat) - 1) >> beat << beat
    end = min(end, x.coordinates.size[stream])
    a.access(m.memory, x.coordinates, stream, max(read_to, begin), end, RESIDENT_READ, 0)
    return max(read_to, end)


def add_in_cache(a: Agent, m: Any, x: Operands, fiber: int, columns: int, stream: int, k: int) -> Operations:
    """Add row k of B to the partial sums of every spike at k, which are read from the cache and written back."""
    for spike in range(x.a_start[stream, k], x.a_start[stream, k + 1]):
        code = x.code[x.code_first[stream] + spike]
        j = x.b_start[columns, k]
        overhead = x.spike_cycles[columns, k] - (x.b_start[columns, k + 1] - j)
        while j < x.b_start[columns, k + 1]:
            first = j
            j = access_sums(a, m, x, fiber + code % m.pes, columns, code // m.pes, j, x.b_start[columns, k + 1])
            yield op(compute=overhead + j - first)
            overhead = 0


def access_sums(a: Agent, m: Any, x: Operands, fiber: int, columns: int, place: int, j: int, end: int) -> int:
    """Read and write the partial sums for the non-zeros j to ``end`` of a row of B, as many lines as an operation
    carries; ``place`` tells the row and timestep of the partial sums. Returns the first j that is left."""
    for _ in range(MOVE_LINES):
        line, words = NONE, 0
        while j < end:
            at = (place * x.width[columns] + x.b_column[x.b_first[columns] + j]) // m.line_words
            if words > 0 and at != line:
                break
            line, words = at, words + 1
            j += 1
        if words > 0:
            address = x.sums.line[fiber] + line * x.sums.stride
            size = (words * m.config.psum.bits + 7) >> 3
            a.request(address, words, size, RESIDENT_READ, x.sums.row, 0)
            a.request(address, words, size, RESIDENT_WRITE, x.sums.row, 0)
    return j


def lif(a: Agent, m: Any, x: Operands) -> Operations:
    """Bring a PE's partial sums of a tile; when the PE is done, put them away, or fire and write the outputs."""
    for step in range(m.steps):
        fiber = x.step_fiber[step] + a.me
        if x.step_load[step]:
            yield from bring(a, m, x, fiber, x.sums.size[x.step_fiber[step]] >> m.memory.line_shift)
        yield op(push=m.ready.fifo + a.me)
        yield op(pop=m.done.port + a.me)
        if x.step_end[step] != KEEP:
            yield from empty(a, m, x, fiber, x.step_end[step])
        first = 0
        while x.step_end[step] == FIRE and first < x.output.size[fiber]:
            end = min(x.output.size[fiber], first + MOVE_LINES * m.memory.line_bytes)
            a.write(m.memory, x.output, fiber, first, end)
            yield op()
            first = end


def bring(a: Agent, m: Any, x: Operands, fiber: int, lines: int) -> Operations:
    """Take partial sums as the fetcher brings them, MOVE_LINES lines at a time, into the PE's banks if it has some."""
    line = 0
    while line < lines:
        end = min(line + MOVE_LINES, lines)
        moved = 0
        if m.config.psum.place == OWN_BANKS:
            for i in range(line, end):
                moved += request_line(a, m, x, fiber, i, RESIDENT_READ)
        a.count[PSUM_WRITES] += moved
        yield op(pop=m.sum_lines.port + a.me, pops=end - line, pause=moved)
        line = end


def empty(a: Agent, m: Any, x: Operands, fiber: int, way: int) -> Operations:
    """Take a tile's partial sums out of where they are, MOVE_LINES lines at a time, to DRAM or to the neurons."""
    line, lines, in_cache = 0, x.sums.size[fiber] >> m.memory.line_shift, m.config.psum.place == IN_CACHE
    while line < lines:
        end = min(line + MOVE_LINES, lines)
        moved = 0
        for i in range(line, end):
            moved += words_of(a, m, x, fiber, i)
            if in_cache:
                request_line(a, m, x, fiber, i, RESIDENT_READ)
            if way == PUT_AWAY:
                request_line(a, m, x, fiber, i, STREAM_WRITE)
        a.count[PSUM_READS] += 0 if in_cache else moved
        a.count[UPDATES] += moved if way == FIRE else 0
        yield op(
            compute=moved * m.config.neuron.cycles if way == FIRE else 0,
            pause=0 if way == FIRE or in_cache else moved,
        )
        line = end


def words_of(a: Agent, m: Any, x: Operands, fiber: int, line: int) -> int:
    """Partial sums in a line of a fiber; none behind its end."""
    return max(0, min(x.owned[fiber] - line * m.line_words, m.line_words))


def request_line(a: Agent, m: Any, x: Operands, fiber: int, line: int, mode: int) -> int:
    """Ask for a line of partial sums, if there are some in it; returns how many."""
    words = words_of(a, m, x, fiber, line)
    size = (words * m.config.psum.bits + 7) >> 3
    beats = (size + (1 << m.memory.beat_shift) - 1) >> m.memory.beat_shift
    if words > 0:
        a.request(x.sums.line[fiber] + line * x.sums.stride, beats, size, mode, x.sums.row, 0)
    return words


def fetcher(a: Agent, m: Any, x: Operands) -> Operations:
    """Bring the blocks of every step into the cache, and before the first one the partial sums put away earlier."""
    for step in range(m.steps):
        columns = x.step_columns[step]
        for block in range(x.step_block[step], x.step_block[step + 1]):
            k, end, first = x.block_k[block, 0], x.block_k[block, 1], block == x.step_block[step]
            yield op(pop=m.credits.port)
            if first and x.step_load[step]:
                yield from fetch_sums(a, m, x, x.step_fiber[step])
            for stream in range(x.step_stream[step], x.step_stream[step] + m.pes):
                # A line that the block before this one shares with it is there already.
                begin = coordinate_bytes(a, m, x, stream, k) + (0 if first else m.memory.line_bytes - 1)
                size = coordinate_bytes(a, m, x, stream, end)
                yield from fetch(a, m, x.coordinates, stream, begin, size, STREAM_READ, 0)
            mask, bits = x.mask_bytes[columns], m.config.pe.weight_bits
            yield from fetch(a, m, x.masks, columns, k * mask, end * mask, PREFETCH, block)
            begin, size = (x.b_start[columns, k] * bits + 7) >> 3, (x.b_start[columns, end] * bits + 7) >> 3
            yield from fetch(a, m, x.values, columns, begin, size, PREFETCH, block)
            yield op(push=m.blocks.fifo)


def fetch_sums(a: Agent, m: Any, x: Operands, fiber: int) -> Operations:
    """Bring the partial sums of all PEs from DRAM, a line of each PE at a time."""
    for line in range(x.sums.size[fiber] >> m.memory.line_shift):
        for owner in range(m.pes):
            if a.requests() == FETCH_LINES:
                yield op()
            request_line(a, m, x, fiber + owner, line, STREAM_READ)
        yield op(push=m.sum_lines.fifo)


def fetch(
    a: Agent, m: Any, tensor: Tensor, fiber: int, begin: int, end: int, mode: int, epoch: int
) -> Operations:  # fmt: skip
    """Bring the lines that hold bytes ``begin`` to ``end`` of a fiber; full operations go off, the last one waits."""
    for line in range(begin >> m.memory.line_shift, (end + m.memory.line_bytes - 1) >> m.memory.line_shift):
        if a.requests() == FETCH_LINES:
            yield op()
        useful = min(tensor.size[fiber] - (line << m.memory.line_shift), m.memory.line_bytes)
        a.request(tensor.line[fiber] + line * tensor.stride, 1, useful, mode, tensor.row, epoch)


def broadcaster(a: Agent, m: Any, x: Operands) -> Operations:
    """Read every row of B that is not empty from the cache and broadcast it; a finished block is a credit."""
    for step in range(m.steps):
        columns = x.step_columns[step]
        for block in range(x.step_block[step], x.step_block[step + 1]):
            if block > 0:
                yield op(pop=m.blocks.port + m.pes)
            for row in range(x.block_row[block, 0], x.block_row[block, 1]):
                k, mask, bits = x.row[row], x.mask_bytes[columns], m.config.pe.weight_bits
                begin, end = x.b_start[columns, k] * bits >> 3, (x.b_start[columns, k + 1] * bits + 7) >> 3
                a.read(m.memory, x.masks, columns, k * mask, (k + 1) * mask, block)
                a.read(m.memory, x.values, columns, begin, end, block)
                a.count[ROWS] += 1
                a.count[BEATS] += x.beats[columns, k]
                yield op(push=m.rows.fifo)
            yield op(push=m.credits.fifo)


# --- Function ---------------------------------------------------------------------------------------------------------


@njit
def accumulate_outer_product(a: Any, b: Any, timesteps: int, bits: int, sums: Any) -> int:
    """Full sums ``sums`` int64 [rows, N, T] in the order k, m, t, n; returns how many leave ``bits`` bits on the way.

    ``a`` and ``b`` are operands by position: packed words of the rows, weights of the columns.
    """
    limit = 1 << (bits - 1)
    overflows = 0
    for k in range(len(a.start) - 1):
        for i in range(a.start[k], a.start[k + 1]):
            m, word = a.fiber[i], a.value[i]
            for t in range(timesteps):
                if (word >> t) & 1:
                    for j in range(b.start[k], b.start[k + 1]):
                        n = b.fiber[j]
                        sums[m, n, t] += b.value[j]
                        overflows += int(not -limit <= sums[m, n, t] < limit)
    return overflows


# --- Laying a layer out -----------------------------------------------------------------------------------------------


class Tiles(NamedTuple):
    """How outputs are cut: tiles of ``rows`` rows and ``columns`` columns, of which there are ``down`` x ``across``."""

    rows: int
    columns: int
    down: int
    across: int


def tiles_of(config: GospaSnnConfig, layer: Layer, pes: int) -> Tiles:
    """The largest tile of whole rows that the partial-sum memory holds, or of columns if it holds no row."""
    words = psum_words(config)
    columns = min(layer.n, most_columns(config))
    rows = pes * min(-(-layer.m // pes), max(1, words // (layer.n * layer.timesteps)))
    return Tiles(rows, columns, -(-layer.m // rows), -(-layer.n // columns))


class Streams(NamedTuple):
    """The spikes of every element and row tile, see :class:`Operands`; ``start`` [streams, K + 1]."""

    start: NDArray[np.int64]
    code: NDArray[np.int64]
    code_first: NDArray[np.int64]


def streams_of(layer: Layer, tiles: Tiles, pes: int, round_robin: bool, coded: bool) -> Streams:
    """Deal the spikes, which come in order of k, m, t, to the elements."""
    a = by_position(layer.inputs.mask, layer.inputs.start, layer.inputs.words, layer.k)
    fires = (a.value[:, None] >> np.arange(layer.timesteps)) & 1 == 1
    at, t = np.nonzero(fires)
    m = a.fiber[at]
    k = np.repeat(np.arange(layer.k), np.diff(a.start))[at]
    tile, row = m // tiles.rows, m % tiles.rows
    local, owner = row // pes, row % pes
    taker = owner
    if round_robin:
        order = np.argsort(tile, kind="stable")
        number = np.empty(len(tile), np.int64)
        number[order] = np.arange(len(tile)) - np.searchsorted(tile[order], tile[order])
        taker = number % pes
    stream = tile * pes + taker
    count = np.bincount(stream * layer.k + k, minlength=tiles.down * pes * layer.k).reshape(-1, layer.k)
    start = np.zeros((len(count), layer.k + 1), np.int64)
    np.cumsum(count, axis=1, out=start[:, 1:])
    first = np.cumsum(start[:, -1]) - start[:, -1]
    code = np.zeros(0, np.int64)
    if coded:
        code = ((local * layer.timesteps + t) * pes + owner)[np.argsort(stream, kind="stable")]
    return Streams(start, code, first)


class Steps(NamedTuple):
    """Visits of tiles and their blocks, see :class:`Operands`."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    load: NDArray[np.int64]
    end: NDArray[np.int64]
    block: NDArray[np.int64]
    block_k: NDArray[np.int64]


def steps_of(config: GospaSnnConfig, layer: Layer, tiles: Tiles, streamed: NDArray[np.int64]) -> Steps:
    """All visits of tiles, and blocks of about ``block_lines`` lines each; ``streamed`` [down, across, K + 1] bytes."""
    order = [(r, c) for c in range(tiles.across) for r in range(tiles.down)]
    parts = min(config.psum.k_tiles, layer.k) if len(order) > 1 else 1
    block_bytes = config.scheduler.block_lines * config.memory.cache.line_bytes
    keeps = config.psum.overflow == "excess"
    visits, first, blocks = [], [0], []
    for part in range(parts):
        for place, (r, c) in enumerate(order):
            kept_before = keeps and place == 0
            kept_after = keeps and place == len(order) - 1
            load = part > 0 and not kept_before
            end = FIRE if part == parts - 1 else KEEP if kept_after else PUT_AWAY
            visits.append((r, c, int(load), end))
            k, k_end = layer.k * part // parts, layer.k * (part + 1) // parts
            while k < k_end:
                fits = int(np.searchsorted(streamed[r, c], streamed[r, c, k] + block_bytes, side="right")) - 1
                following = min(k_end, max(k + 1, fits))
                blocks.append((k, following))
                k = following
            first.append(len(blocks))
        if keeps:
            order.reverse()
    rows, columns, loads, ends = np.array(visits, np.int64).T
    return Steps(rows, columns, loads, ends, np.array(first), np.array(blocks, np.int64).reshape(-1, 2))


class RowsOfB(NamedTuple):
    """B by rows, column tile after column tile, see :class:`Operands`; ``live`` lists the rows of every tile that are
    not empty."""

    width: NDArray[np.int64]
    mask_bytes: NDArray[np.int64]
    start: NDArray[np.int64]
    column: NDArray[np.int64]
    first: NDArray[np.int64]
    beats: NDArray[np.int64]
    spike_cycles: NDArray[np.int64]
    live: list[NDArray[np.int64]]


def rows_of_b(config: GospaSnnConfig, layer: Layer, tiles: Tiles) -> RowsOfB:
    """Cut B into column tiles, and count what its rows take: on the bus, and of a PE's time."""
    b = by_position(layer.weights.mask, layer.weights.start, layer.weights.values, layer.k)
    across, bits = b.fiber // tiles.columns, config.pe.weight_bits
    row = across * layer.k + np.repeat(np.arange(layer.k), np.diff(b.start))
    count = np.bincount(row, minlength=tiles.across * layer.k).reshape(-1, layer.k)
    start = np.zeros((tiles.across, layer.k + 1), np.int64)
    np.cumsum(count, axis=1, out=start[:, 1:])
    width = np.minimum(tiles.columns, layer.n - tiles.columns * np.arange(tiles.across))
    mask_bytes = -(-width // 8) + -(-config.format.pointer_bits // 8)
    chunks = -(-min(layer.n, tiles.columns) // CHUNK_BITS)
    chunk = row * chunks + b.fiber % tiles.columns // CHUNK_BITS
    in_chunk = np.bincount(chunk, minlength=tiles.across * layer.k * chunks).reshape(tiles.across, layer.k, chunks)
    # The last tile may have fewer chunks than the others.
    there = np.arange(chunks) < -(-width // CHUNK_BITS)[:, None, None]
    walked = (np.maximum(1, in_chunk + config.pe.chunk_overhead_cycles) * there).sum(2)
    beat, value_bytes = config.memory.cache.width_bits // 8, -(-start[:, 1:] * bits // 8) - start[:, :-1] * bits // 8
    return RowsOfB(
        width, mask_bytes, start, b.fiber[np.argsort(across, kind="stable")] % tiles.columns,
        np.cumsum(start[:, -1]) - start[:, -1], -(-mask_bytes // beat)[:, None] + -(-value_bytes // beat),
        walked + config.pe.spike_overhead_cycles, [np.flatnonzero(tile) for tile in count],
    )  # fmt: skip


class GospaSnn(DrawnMachine):
    """GoSPA-SNN (as in LoAS, MICRO 2024): outer product, a coordinate a spike, partial sums of all timesteps."""

    name: ClassVar[str] = "gospa_snn"
    Config: ClassVar[type[MachineConfig]] = GospaSnnConfig
    tensors: ClassVar[tuple[str, ...]] = (
        "input_format", "weight_format", "weight", "psum", "output_format", "output",
    )  # fmt: skip
    agents = pe, lif, fetcher, broadcaster
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {
        ("pe", "add"): ADDITIONS, ("pe", "scan"): SCANS, ("row_buffer", "read"): ROW_READS, "psum reads": PSUM_READS,
        "psum writes": PSUM_WRITES, ("lif", "update"): UPDATES, ("scheduler", "step"): ROWS,
        ("broadcast", "transfer"): BEATS,
    }  # fmt: skip
    config: GospaSnnConfig

    @property
    def sum_bits(self) -> int:
        """The partial-sum memory holds the full sums."""
        return self.config.psum.bits

    def inventory(self) -> Sequence[Component]:
        """Elements, neuron units, their partial-sum banks, and LoAS's memories, switches and wires."""
        config, pes, psum = self.config, self.config.pe.count, self.config.psum
        columns = most_columns(config)
        row_bytes = -(-columns // 8) + -(-columns * config.pe.weight_bits // 8)
        return (
            Component("pe", "logic", pes, {"block": "gospa_snn_pe", "accumulator_bits": psum.bits}),
            ram("row_buffer", pes, config.pe.row_buffers * row_bytes, config.memory.cache.width_bits),
            Component("lif", "logic", pes, {"block": "lif"}),
            *([ram("psum_bank", pes, psum.size_kib * 1024 // pes, psum.bits)] if psum.place == "own_banks" else []),
            Component("scheduler", "logic", 1, {"block": "scheduler"}),
            Component("others", "logic", 1, {"block": "others", "pes": pes, "banks": config.memory.cache.banks}),
            *memory_components(config.memory, pes),
        )

    def add_up(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Row of B after row of B; counts sums that leave the bits of a partial sum."""
        end = first + len(sums)
        a = by_position(layer.inputs.mask[first:end], layer.inputs.start[first:end], layer.inputs.words, layer.k)
        b = by_position(layer.weights.mask, layer.weights.start, layer.weights.values, layer.k)
        overflows = accumulate_outer_product(a, b, layer.timesteps, self.config.psum.bits, sums)
        return {"psum_overflows": int(overflows)}

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Coordinates of every spike."""
        return -(-spikes * self.config.format.coordinate_bits // 8)

    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Operands]:
        """Deal spikes to PEs, cut outputs into tiles and K into blocks, place all in memory."""
        config, cache, psum = self.config, self.config.memory.cache, self.config.psum
        round_robin, in_cache = config.scheduler.spikes == "round_robin", psum.place == "cache"
        pes = config.pe.count if round_robin else min(config.pe.count, layer.m)
        tiles = tiles_of(config, layer, pes)
        streams, b = streams_of(layer, tiles, pes, round_robin, in_cache), rows_of_b(config, layer, tiles)
        spike_bytes = -(-streams.start * config.format.coordinate_bits // 8)
        value_bytes = -(-b.start * config.pe.weight_bits // 8)
        b_bytes = value_bytes + np.outer(b.mask_bytes, np.arange(layer.k + 1))
        steps = steps_of(config, layer, tiles, spike_bytes.reshape(tiles.down, pes, -1).sum(1)[:, None] + b_bytes)
        first_row = np.cumsum([0, *(len(rows) for rows in b.live)])
        of_block = np.repeat(steps.columns, np.diff(steps.block))
        block_row = np.array(
            [first_row[c] + np.searchsorted(b.live[c], ks) for c, ks in zip(of_block, steps.block_k, strict=True)]
        )
        rows_left = np.minimum(tiles.rows, layer.m - tiles.rows * np.arange(tiles.down))
        owned_rows = np.maximum(0, -(-(rows_left[:, None] - np.arange(pes)) // pes))
        owned = (owned_rows[:, None] * (b.width * layer.timesteps)[None, :, None]).reshape(-1, pes)
        line_words = cache.line_bytes * 8 // psum.bits

        coordinates = memory.place(
            spike_bytes[:, -1], banks=cache.banks if config.format.placement == "row_per_bank" else 0
        )
        masks, values = memory.place(b.mask_bytes * layer.k), memory.place(value_bytes[:, -1])
        sums = memory.place_abreast(-(-owned // line_words) * cache.line_bytes, cache.banks)
        output = memory.place(self._tile_outputs(layer, tiles, pes, output_bytes))
        output = output._replace(row=output.row + int(layer.writes_sums))
        x = Operands(
            streams.start, streams.code, streams.code_first, b.width, -(-b.width // CHUNK_BITS), b.mask_bytes, b.start,
            b.column, b.first, b.beats, b.spike_cycles, np.concatenate(b.live), steps.columns, steps.rows * pes,
            (steps.rows * tiles.across + steps.columns) * pes, steps.load, steps.end, steps.block, steps.block_k,
            block_row.reshape(-1, 2), owned.ravel(), coordinates, masks, values, sums, output,
        )  # fmt: skip
        most_spikes = int(np.diff(streams.start, axis=1).max(initial=0)) * config.format.coordinate_bits // 8
        row_bytes = int(b.mask_bytes.max()) + int(np.diff(b.start, axis=1).max(initial=0)) * config.pe.weight_bits // 8
        asks, ahead = max(most_spikes // cache.line_bytes + 3, 2 * MOVE_LINES), config.scheduler.prefetch_blocks + 1
        diagram.agent(pe, pes, built=config.pe.count, requests=asks, lanes=range(pes))
        diagram.agent(lif, pes, built=config.pe.count, requests=2 * MOVE_LINES, lanes=range(pes))
        diagram.agent(fetcher, requests=FETCH_LINES)
        diagram.agent(broadcaster, requests=row_bytes // cache.line_bytes + 4)
        return {
            "pes": pes,
            "steps": len(steps.rows),
            "line_words": line_words,
            "barrier": diagram.barrier(pes) if config.scheduler.barrier == "row" else NONE,
            "blocks": diagram.fifo(ahead, readers=pes + 1),
            "credits": diagram.fifo(ahead, full=True),
            "rows": diagram.fifo(config.pe.row_buffers, readers=pes),
            "sum_lines": diagram.fifo(PSUM_BUFFER, readers=pes),
            "done": diagram.fifo(1, count=pes),
            "ready": diagram.fifo(1, count=pes),
        }, x

    def _tile_outputs(self, layer: Layer, tiles: Tiles, pes: int, output_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes of output of every (tile, owner); those of a row are taken as spread evenly over its columns."""
        rows = np.zeros((tiles.down * tiles.rows, tiles.across), np.int64)
        ends = np.minimum(layer.n, tiles.columns * np.arange(1, tiles.across + 1))
        rows[: layer.m] = np.diff(output_bytes[:, None] * ends // layer.n, axis=1, prepend=0)
        by_owner: NDArray[np.int64] = rows.reshape(tiles.down, -1, pes, tiles.across).sum(1).transpose(0, 2, 1)
        return np.ascontiguousarray(by_owner).reshape(-1)

    def reported_traffic(self, traffic: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Accesses to partial sums in banks of their own are traffic too."""
        own, accesses = np.zeros_like(traffic), counts[[PSUM_READS, PSUM_WRITES]]
        psum = own[self.tensors.index("psum")]
        psum[[operation.SRAM_READS, operation.SRAM_WRITES]] = accesses
        psum[[operation.SRAM_READ_BYTES, operation.SRAM_WRITE_BYTES]] = accesses * self.config.psum.bits // 8
        return traffic + own

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """A row of B is written into the buffers of all PEs; the neurons of a read-out do not fire."""
        found = {("row_buffer", "write"): done["broadcast", "transfer"] * self.config.pe.count}
        if self.config.psum.place == "own_banks":
            found |= {("psum_bank", "read"): done["psum reads"], ("psum_bank", "write"): done["psum writes"]}
        return {**found, ("lif", "update"): 0} if layer.writes_sums else found

    @property
    def processing_elements(self) -> int:
        """Elements; one works while it walks through the row of B for a spike."""
        return self.config.pe.count

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Accumulations: a spike and a non-zero weight."""
        return int(counts[ADDITIONS])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """All spikes spread evenly over the processing elements, those at an empty row of B left out."""
        x = program.operands
        spikes = np.diff(x.a_start, axis=1).sum(0)
        work = int((spikes * np.where(np.diff(x.b_start, axis=1) > 0, x.spike_cycles, 0)).sum())
        return -(-work // self.config.pe.count)

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """All coordinates and all of B."""
        x = program.operands
        coordinates: int = x.a_start[:, -1].sum() * self.config.format.coordinate_bits // 8
        b: int = x.mask_bytes.sum() * layer.k + x.b_start[:, -1].sum() * self.config.pe.weight_bits // 8
        return int(coordinates + b)
