"""The inner-product dataflow on compressed fibers, as LoAS, SparTen-SNN and SparTen run it.

Processing elements hold one row of A each and receive the same fiber of B; a PE joins the two fibers chunk by
chunk and owns one output neuron at a time. A row may be joined in several *passes*, one per timestep (LoAS does all
timesteps in one). The loop nest, with rows taken in tiles that fit the cache, or in groups as they come:

    for tile of rows:                        A stays in the cache
        for n in columns:                    one fiber of B at a time, streamed from DRAM
            for group of rows in tile:       one step of the array: B is broadcast, barrier at its end
                for pass:                    once (t in parallel), or once for each timestep
                    for chunk of 128 k:      inner join in every PE

Agents: a PE each (:func:`processing_element`), a neuron unit with its output compressor each (:func:`neuron_unit`), a
fetcher for each slot of the cache that holds a fiber of B (:func:`fetcher`), one broadcaster that reads them from the
cache (:func:`broadcaster`), and one fetcher that brings rows of A into the cache ahead of their first use
(:func:`row_fetcher`). They meet at these FIFOs:

    fetchers -- fiber --> broadcaster -- chunks (broadcast) --> PEs -- sum --> neuron units
    fetchers <-- credit -- broadcaster                                 row fetcher <-- credit -- PE 0

There are ``prefetch_fibers`` + 1 slots, or more where fibers are so short that ``prefetch_lines`` hold more of them.
With ``prefetch_fibers`` 0 there is no fetcher: the broadcaster itself fetches the lines of a chunk when the PEs
have taken the chunk before (:func:`fetch_chunk`), and waits for them.

How rows of A are stored says :mod:`archsim.dataflow.stored_rows`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.compress.bitmask import CHUNK_BITS, popcount
from archsim.dataflow.base import MachineConfig, ScheduledLayers, shared_components
from archsim.dataflow.layer import Layer
from archsim.dataflow.layer_machine import LayerMachine
from archsim.dataflow.machine import Program
from archsim.dataflow.parts import stream, take
from archsim.dataflow.stored_rows import Rows
from archsim.hardware.agent import NONE, Agent, Operations, op
from archsim.hardware.compute.compressor import COMPRESSED, CompressorConfig, compress
from archsim.hardware.compute.inner_join import JoinUnit, correct, finish, join_cycles, place_is_free
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.compute.prefix_sum import laggy_cycles
from archsim.hardware.diagram import Diagram
from archsim.hardware.fields import Count, WeightBits
from archsim.hardware.inventory import Component
from archsim.hardware.loading import Block
from archsim.hardware.memory.placement import Placer, Tensor
from archsim.hardware.operation import BUS, CACHED_READ, PREFETCH, RESIDENT_READ, STREAM_READ, STREAM_WRITE

CHUNK_BYTES = CHUNK_BITS // 8
FETCH_LINES = 16
"""Lines that a fetcher or a neuron unit asks for at once; they wait for miss registers and banks like all others."""

# --- Configuration ----------------------------------------------------------------------------------------------------


class InnerProductPe(Block):
    """Processing elements, each with an inner-join unit."""

    count: Count = Field(description="PEs; each has its own row of A and its own neuron unit")
    chunk_overhead_cycles: int = Field(
        ge=0, le=64, description="cycles of a chunk pair beside one per match; 0: max(1, matches)"
    )
    fiber_b_buffers: int = Field(
        ge=1, le=64, description="fibers of B that the slowest PE may lag behind the broadcast"
    )
    output_buffer: int = Field(ge=1, le=1024, description="finished sums that wait for the neuron unit")
    weight_bits: WeightBits = Field(description="bits of a weight")


class SchedulerConfig(ScheduledLayers):
    """Order of the work."""

    barrier: Literal["column", "chunk", "none"] = Field(description="when all PEs wait for the slowest")
    order: Literal["super_tile", "row_group"] = Field(
        description="rows in cache-sized tiles, or one group of rows after the other"
    )
    tile_fill: float = Field(gt=0, le=1, description="share of the cache that the rows of a tile may take")
    rows: Literal["consecutive", "sorted"] = Field(
        description="which rows share a group: neighbours, or equally full ones"
    )
    prefetch_fibers: int = Field(
        ge=0, le=64, description="fibers of B fetched ahead of the one in use; 0: lines on demand, chunk by chunk"
    )
    prefetch_lines: int = Field(
        ge=0, le=1024, description="room for fetched fibers of B in lines: so many that the longest fit, or more"
    )
    prefetch_start: Literal["first_step", "last_step"] = Field(
        description="first_step: fetch a fiber when there is room; last_step: one step ahead of its first use"
    )
    prefetch_groups: int = Field(
        ge=0, le=64, description="groups of rows of A fetched ahead of the one in use; 0: demand"
    )


class FormatConfig(Block):
    """Compressed fibers in memory."""

    pointer_bits: int = Field(ge=0, le=64, description="bits of a fiber's pointer to its values")
    placement: Literal["row_per_bank", "interleaved"] = Field(
        description="lines of a fiber of A: all in one bank, or over all banks"
    )
    unrolled: Literal["stored", "on_the_fly"] = Field(
        description="rows of a convolution: unrolled (im2col) in memory, or read from the feature map"
    )


class InnerProductConfig(MachineConfig):
    """A machine with the inner-product dataflow."""

    pe: InnerProductPe = Field(description="processing elements")
    neuron: LifConfig = Field(description="neuron units")
    compressor: CompressorConfig = Field(description="output compressors")
    scheduler: SchedulerConfig = Field(description="order of the work")
    format: FormatConfig = Field(description="compressed fibers")


class Join(NamedTuple):
    """How a machine joins: ``passes`` over a row, ``word_bits`` behind a bit of A's bitmask (0: none), with ``unit``.

    ``word_reads`` says when words are read (WORDS_...). A neuron unit takes a sum every ``interval`` cycles; it fires
    ``finish`` cycles and those of a neuron later.
    """

    passes: int
    word_bits: int
    unit: JoinUnit
    word_reads: int
    interval: int
    finish: int


# When words of A are read: those of a chunk if anything matches, one for each match, or always, with the bitmask.
WORDS_OF_CHUNK, WORDS_OF_MATCHES, WORDS_WITH_BITMASK = range(3)

# --- Operands ---------------------------------------------------------------------------------------------------------


class Fibers(NamedTuple):
    """Compressed fibers (:mod:`archsim.compress`) in memory: ``mask_bytes`` of bitmask, a pointer, then the words.

    ``mask`` and ``start`` hold the chunks of all passes, pass after pass: chunk c of fiber f has its bits in
    ``mask[f, 2 c]`` and ``mask[f, 2 c + 1]``; words of ``word_bits`` from number ``start[f, c]`` on, word
    ``start[f, 0]`` at byte ``word_byte`` of the fiber. ``bits`` and ``words`` are both the whole fiber in memory, as
    its bitmask and its words count in the traffic table. A line with bits of the bitmask counts as bitmask.
    """

    mask: NDArray[np.uint64]
    start: NDArray[np.int64]
    bits: Tensor
    words: Tensor
    mask_bytes: int
    word_byte: int
    word_bits: int


class OutputRows(NamedTuple):
    """Rows of the output in memory, as :class:`Fibers`; what they hold is known to be so many bytes only."""

    bits: Tensor
    words: Tensor
    mask_bytes: int


class Operands(NamedTuple):
    """A and B and the output; ``fiber`` int64 [M, taps] names the fibers of a row of A, -1 for padding. ``taken`` is
    the state that neurons go on with."""

    fiber: NDArray[np.int64]
    a: Fibers
    b: Fibers
    output: OutputRows
    taken: Tensor


# --- Agents -----------------------------------------------------------------------------------------------------------

Joined = tuple[int, int, int]
"""Matches of a pair of chunks, cycles of their laggy pass, cycles of the fast path."""

JOINS, MATCHES, LAGGY_BUSY, SUMS_FINISHED, ENCODED_CHUNKS, STEPS, BROADCAST_BEATS = range(7)


def processing_element(a: Agent, m: Any, x: Operands) -> Operations:
    """One row of A against the broadcast fibers of B, chunk by chunk; the bitmask of the next join is read ahead."""
    read_bitmask(a, m, x, a.me, 0, 0, 0)
    yield op()
    for tile in range(m.tiles):
        for column in range(m.layer.n):
            for group in range(tile * m.tile, tile_end(a, m, tile)):
                row = group * m.pes + a.me
                for passed in range(m.join.passes):
                    for chunk in range(m.chunks):
                        read_ahead(a, m, x, tile, column, group, passed, chunk)
                        words = a.requests()
                        matches, laggy, cycles = join(a, m, x, tile, column, row, passed, chunk)
                        end = a.requests()
                        yield op(pop=m.chunk.port + a.me, compute=cycles)
                        # What holds up the join that has just ended: a full FIFO, or a pass that began late.
                        free, overhead = a.now, m.config.pe.chunk_overhead_cycles
                        if laggy > 0:
                            free = max(free, correct(a, m.join.unit, overhead, matches, laggy, a.done(words, end)))
                        # PE 0 tells the row fetcher that a group is begun.
                        credit = m.group_credit if a.me == 0 and column == 0 and passed == 0 and chunk == 0 else NONE
                        if free > a.now or credit != NONE or m.barrier_of_chunks != NONE:
                            yield op(pause=free - a.now, push=credit, barrier=m.barrier_of_chunks)
                    fifo = m.sum.fifo + a.me if row < m.layer.m else NONE
                    finished = finish(a, m.join.unit) if row < m.layer.m else 0
                    waits = max(0, place_is_free(a, m.join.unit) - a.now)
                    barrier = m.barrier_of_columns if passed + 1 == m.join.passes else NONE
                    yield op(pause=waits, push=fifo, value=finished, barrier=barrier)


def neuron_unit(a: Agent, m: Any, x: Operands) -> Operations:
    """Take the sums of one PE, one after the other; compress beside; write a row when it is complete."""
    for tile in range(m.tiles):
        for column in range(m.layer.n):
            for group in range(tile * m.tile, tile_end(a, m, tile)):
                row = group * m.pes + a.me
                if row < m.layer.m:
                    if column == 0:
                        yield from take(a, m, x.taken, row)
                    for passed in range(m.join.passes):
                        yield op(pop=m.sum.port + a.me)
                        taken = max(a.now, a.value)
                        yield op(pause=taken - a.now + firing(a, m, column, passed, taken), compute=m.join.interval)
                    if column + 1 == m.layer.n:
                        yield from move(a, m, x.output, row, STREAM_WRITE, 0)
                        yield op()


def fetcher(a: Agent, m: Any, x: Operands) -> Operations:
    """Stream every ``slots``-th fiber of B from DRAM into its slot of the cache, when the one before is done with."""
    if m.config.scheduler.prefetch_fibers == 0:
        return
    visit = 0
    for tile in range(m.tiles):
        for column in range(m.layer.n):
            for _ in range(tile_end(a, m, tile) - tile * m.tile if m.refetch else 1):
                if visit % m.slots == a.me:
                    yield op(pop=m.credit.port + a.me if visit >= m.free_slots else NONE)
                    yield from move(a, m, x.b, column, STREAM_READ, 0)
                    yield op(push=m.fiber.fifo + a.me)
                visit += 1


def broadcaster(a: Agent, m: Any, x: Operands) -> Operations:
    """Read the fiber of B from the cache, one line of bitmask and its values at a time, and broadcast its chunks."""
    on_demand, visit = m.config.scheduler.prefetch_fibers == 0, 0
    for tile in range(m.tiles):
        for column in range(m.layer.n):
            for group in range(tile * m.tile, tile_end(a, m, tile)):
                a.count[STEPS] += 1
                fresh, fetched = m.refetch or group == tile * m.tile, 0
                if fresh and not on_demand:
                    yield op(pop=m.fiber.port + visit % m.slots)
                for passed in range(m.join.passes):
                    chunk = 0
                    while chunk < m.chunks:
                        end = min(m.chunks, chunk + m.chunks_at_once)
                        if fresh and on_demand and passed == 0:
                            fetched = fetch_chunk(a, m, x, column, chunk, fetched)
                            yield op()
                        read_chunks(a, m, x, column, chunk, end)
                        yield op(push=m.chunk.fifo, pushes=end - chunk)
                        chunk = end
                if m.refetch or group + 1 == tile_end(a, m, tile):
                    visit += 1
                    if not on_demand:
                        # The slot of the fiber just sent is free; with a late fetch it is now the next one's turn.
                        yield op(push=m.credit.fifo + (visit - 1 + m.late_fetch) % m.slots)


def row_fetcher(a: Agent, m: Any, x: Operands) -> Operations:
    """Bring rows into the cache before the PEs need them, ``prefetch_groups`` ahead of the group in use."""
    if m.config.scheduler.prefetch_groups == 0:
        return
    for group in range(m.groups):
        yield op(pop=m.begun.port if group > m.config.scheduler.prefetch_groups else NONE)
        for row in range(group * m.pes, min((group + 1) * m.pes, m.layer.m)):
            for tap in range(m.taps):
                if x.fiber[row, tap] >= 0:
                    yield from move(a, m, x.a, x.fiber[row, tap], PREFETCH, group // m.tile)
        yield op()


# --- What agents do in one operation ----------------------------------------------------------------------------------


def move(a: Agent, m: Any, fibers: Any, fiber: int, mode: int, epoch: int) -> Operations:
    """Move a whole fiber; a line with bitmask counts as bitmask, even where words follow in it."""
    end = fibers.words.size[fiber]
    words = min(end, (fibers.mask_bytes + m.memory.line_bytes - 1 >> m.memory.line_shift) << m.memory.line_shift)
    yield from stream(a, m, fibers.bits, fiber, 0, words, mode, epoch, FETCH_LINES)
    yield from stream(a, m, fibers.words, fiber, words, end, mode, epoch, FETCH_LINES)


def tile_end(a: Agent, m: Any, tile: int) -> int:
    """The group behind the last one of a tile."""
    return int(min((tile + 1) * m.tile, m.groups))


def fiber_of(a: Agent, m: Any, x: Operands, row: int, chunk: int) -> int:
    """The fiber that holds chunk ``chunk`` of a pass over row ``row``."""
    return int(x.fiber[row, 0 if m.taps == 1 else chunk // m.fiber_chunks])


def chunk_in_fiber(a: Agent, m: Any, passed: int, chunk: int) -> int:
    """Where in its fiber that chunk of pass ``passed`` is."""
    return int(passed * m.pass_chunks + (chunk if m.taps == 1 else chunk % m.fiber_chunks))


def word_bytes(a: Agent, fibers: Fibers, fiber: int, chunk: int, end: int) -> tuple[int, int]:
    """Bytes of a fiber in which the words of chunks ``chunk`` to ``end`` lie: the first, and the one behind them."""
    first_bit = (fibers.start[fiber, chunk] - fibers.start[fiber, 0]) * fibers.word_bits
    end_bit = (fibers.start[fiber, end] - fibers.start[fiber, 0]) * fibers.word_bits
    return fibers.word_byte + (first_bit >> 3), fibers.word_byte + (end_bit + 7 >> 3)


def read_bitmask(a: Agent, m: Any, x: Operands, row: int, passed: int, chunk: int, tile: int) -> None:
    """Read one chunk of bm-A, and its words if they come with it."""
    fiber = fiber_of(a, m, x, row, chunk)
    if fiber >= 0:
        stored = chunk_in_fiber(a, m, passed, chunk)
        if x.a.mask_bytes > 0:
            # A chunk lies in one line: fibers begin with a line, and no line is shorter than a chunk.
            line = x.a.bits.line[fiber] + (stored * CHUNK_BYTES >> m.memory.line_shift) * x.a.bits.stride
            a.request(line, (CHUNK_BYTES - 1 >> m.memory.beat_shift) + 1, CHUNK_BYTES, CACHED_READ, x.a.bits.row, tile)
        if m.join.word_reads == WORDS_WITH_BITMASK:
            read_words(a, m, x, fiber, stored, 0, tile)


def read_words(a: Agent, m: Any, x: Operands, fiber: int, stored: int, matches: int, tile: int) -> None:
    """Read the words of one chunk of A, or those of its matches."""
    first, end = word_bytes(a, x.a, fiber, stored, stored + 1)
    if m.join.word_reads != WORDS_OF_MATCHES:
        a.read(m.memory, x.a.words, fiber, first, end, tile)
    else:
        # One access a match, spread over the lines that the chunk's words lie in; a line without a match is not read.
        line = first >> m.memory.line_shift
        lines = min(matches, (end - 1 >> m.memory.line_shift) - line + 1)
        for i in range(lines):
            share = matches // lines + (1 if i < matches % lines else 0)
            a.request(
                x.a.words.line[fiber] + (line + i) * x.a.words.stride, share, -(-share * x.a.word_bits // 8),
                CACHED_READ, x.a.words.row, tile,
            )  # fmt: skip


def read_ahead(a: Agent, m: Any, x: Operands, tile: int, column: int, group: int, passed: int, chunk: int) -> None:
    """Read the bitmask of the next join: before the words of this one, behind which it must not wait."""
    row = group * m.pes + a.me
    if chunk + 1 < m.chunks or passed + 1 < m.join.passes:
        if row < m.layer.m and chunk + 1 < m.chunks:
            read_bitmask(a, m, x, row, passed, chunk + 1, tile)
        elif row < m.layer.m:
            read_bitmask(a, m, x, row, passed + 1, 0, tile)
    else:
        following = group + 1
        if following == tile_end(a, m, tile) and column + 1 < m.layer.n:
            following = tile * m.tile
        if following * m.pes + a.me < m.layer.m:
            read_bitmask(a, m, x, following * m.pes + a.me, 0, 0, following // m.tile)


def join(a: Agent, m: Any, x: Operands, tile: int, column: int, row: int, passed: int, chunk: int) -> Joined:
    """What a pair of chunks makes a PE do; a PE without a row joins nothing."""
    if row >= m.layer.m:
        return 0, 0, 0
    fiber, matches, laggy = fiber_of(a, m, x, row, chunk), 0, 0
    if fiber >= 0:
        stored = chunk_in_fiber(a, m, passed, chunk)
        low = x.a.mask[fiber, 2 * stored] & x.b.mask[column, 2 * chunk]
        high = x.a.mask[fiber, 2 * stored + 1] & x.b.mask[column, 2 * chunk + 1]
        matches = popcount(low) + popcount(high)
        if matches > 0:
            a.count[MATCHES] += matches
            if x.a.word_bits > 0 and m.join.word_reads != WORDS_WITH_BITMASK:
                read_words(a, m, x, fiber, stored, matches, tile)
            laggy = laggy_cycles(m.join.unit.laggy, m.join.unit.adders, low, high)
            a.count[LAGGY_BUSY] += laggy
    a.count[JOINS] += 1
    return matches, laggy, join_cycles(m.config.pe.chunk_overhead_cycles, matches, m.join.unit.laggy, laggy)


def firing(a: Agent, m: Any, column: int, passed: int, taken: int) -> int:
    """Cycles by which a neuron unit, which takes a sum at ``taken``, takes the next later than it could.

    The words of 128 neurons, or the last of a row, wait until the compressor has done with those before; until then
    there is no room for the next. A row is written when it is compressed.
    """
    a.count[SUMS_FINISHED] += 1
    if passed + 1 < m.join.passes or (column + 1 < m.layer.n and (column + 1) % CHUNK_BITS > 0):
        return 0
    a.count[ENCODED_CHUNKS] += 1
    fired = taken + m.join.finish + m.config.neuron.cycles
    begun = compress(a, m.compressing, column % CHUNK_BITS + 1, fired)
    return int(begun - fired if column + 1 < m.layer.n else a.kept[COMPRESSED] - taken - m.join.interval)


def fetch_chunk(a: Agent, m: Any, x: Operands, column: int, chunk: int, fetched: int) -> int:
    """Fetch the lines of a chunk's bitmask and values that this visit has not fetched; returns the line behind them."""
    first, end = word_bytes(a, x.b, column, chunk, chunk + 1)
    line = chunk * CHUNK_BYTES >> m.memory.line_shift
    begins = chunk == 0 or (chunk - 1) * CHUNK_BYTES >> m.memory.line_shift != line
    # The line that bitmask and values share is fetched once, for whichever comes first.
    shared = line == x.b.word_byte >> m.memory.line_shift
    if begins and not (shared and fetched > line):
        fetch_line(a, m, x.b.bits, column, line)
        if shared:
            fetched = line + 1
    if end > first:
        for line in range(max(first >> m.memory.line_shift, fetched), (end - 1 >> m.memory.line_shift) + 1):
            fetch_line(a, m, x.b.words, column, line)
            fetched = line + 1
    return fetched


def fetch_line(a: Agent, m: Any, tensor: Tensor, fiber: int, line: int) -> None:
    """Fetch one line of a fiber, as far as the fiber goes."""
    first = line * m.memory.line_bytes
    a.access(m.memory, tensor, fiber, first, min(tensor.size[fiber], first + m.memory.line_bytes), STREAM_READ, 0)


def read_chunks(a: Agent, m: Any, x: Operands, column: int, chunk: int, end: int) -> None:
    """Read bitmask and values of chunks ``chunk`` to ``end`` of a fiber of B from the cache, for the broadcast."""
    first_bit, end_bit = chunk * CHUNK_BYTES, min(end * CHUNK_BYTES, x.b.mask_bytes)
    first_word, end_word = word_bytes(a, x.b, column, chunk, end)
    a.access(m.memory, x.b.bits, column, first_bit, end_bit, RESIDENT_READ, 0)
    a.access(m.memory, x.b.words, column, first_word, end_word, RESIDENT_READ, 0)
    beat = m.memory.beat_shift
    a.count[BROADCAST_BEATS] += -((first_bit - end_bit) >> beat) - ((first_word - end_word) >> beat)


# --- The machine ------------------------------------------------------------------------------------------------------


class InnerProduct(LayerMachine):
    """What the machines with this dataflow share.

    ``compute_units`` are the names of the processing elements and of the neuron units.
    """

    Config: ClassVar[type[MachineConfig]] = InnerProductConfig
    tensors: ClassVar[tuple[str, ...]] = ("input_format", "input", "weight_format", "weight", "output_format", "output")
    agents = processing_element, neuron_unit, fetcher, broadcaster, row_fetcher
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {
        "joins": JOINS, "matches": MATCHES, "laggy": LAGGY_BUSY, "sums": SUMS_FINISHED, "encoded": ENCODED_CHUNKS,
        ("scheduler", "step"): STEPS, ("broadcast", "transfer"): BROADCAST_BEATS,
    }  # fmt: skip
    compute_units: ClassVar[tuple[str, str]]
    group_inputs = CHUNK_BITS
    config: InnerProductConfig

    @property
    def kept(self) -> int:
        """What PEs keep is more than what neuron units do."""
        return self.join_unit.kept

    @property
    def join_unit(self) -> JoinUnit:
        """The inner-join unit of a PE; one that looks up nothing late."""
        return JoinUnit()

    @abstractmethod
    def rows_and_join(self, layer: Layer) -> tuple[Rows, Join]:
        """How the machine stores the layer's rows, and how it joins them."""

    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Operands]:
        """A, B and the output in memory one after the other; the array, and what keeps it supplied."""
        config, scheduler, cache = self.config, self.config.scheduler, self.config.memory.cache
        rows, join = self.rows_and_join(layer)
        if scheduler.rows == "sorted":
            order = np.argsort(layer.inputs.start[:, 0] - layer.inputs.start[:, -1], kind="stable")
            rows, output_bytes = rows._replace(fiber=rows.fiber[order]), output_bytes[order]
        operands = self._place(layer, rows, join, output_bytes, memory)
        taps, chunks = rows.fiber.shape[1], rows.weights.mask.shape[1] // 2
        pes, slots = min(config.pe.count, layer.m), self._slots(operands.b.words.size, layer.n)
        groups, tile = -(-layer.m // pes), 1
        if scheduler.order == "super_tile":
            row_bytes = float(operands.a.words.size.sum()) / layer.m + cache.line_bytes
            tile = max(1, int(scheduler.tile_fill * cache.usable_bytes / (pes * row_bytes)))
        held = int(operands.b.words.size.max() + cache.line_bytes) * slots
        refetch = 0 < cache.usable_bytes * cache.stream_ways // cache.ways < held
        late = scheduler.prefetch_start == "last_step" and not refetch and min(tile, groups) > 1
        pe_lines, sent_lines = _most_lines(join, config.pe.weight_bits, cache.line_bytes)
        diagram.agent(
            processing_element, pes, name=self.compute_units[0], built=config.pe.count, requests=pe_lines,
            lanes=range(pes),
        )  # fmt: skip
        diagram.agent(
            neuron_unit, pes, name=self.compute_units[1], built=config.pe.count, requests=FETCH_LINES, lanes=range(pes)
        )
        diagram.agent(fetcher, slots, requests=FETCH_LINES)
        diagram.agent(broadcaster, requests=sent_lines, lanes=[BUS])
        diagram.agent(row_fetcher, requests=FETCH_LINES)
        on_demand, barrier = scheduler.prefetch_fibers == 0, diagram.barrier(pes)
        derived = {
            "chunk": diagram.fifo(1 if on_demand else config.pe.fiber_b_buffers * chunks, readers=pes),
            "fiber": diagram.fifo(1, count=slots),
            "credit": diagram.fifo(1, count=slots),
            # Tokens are there when sums are joined: one in the last place waits in its PE, with the token of none.
            "sum": diagram.fifo(join.unit.pending_sums - 1 + config.pe.output_buffer, count=pes),
            "begun": diagram.fifo(groups),
        }
        return derived | {
            "group_credit": derived["begun"].fifo if scheduler.prefetch_groups else NONE,
            "barrier_of_chunks": barrier if scheduler.barrier == "chunk" else NONE,
            "barrier_of_columns": barrier if scheduler.barrier == "column" else NONE,
            "join": join,
            "compressing": config.compressor.chunk_cycles(layer.pooled),
            "pes": pes,
            "groups": groups,
            "tile": tile,
            "tiles": -(-groups // tile),
            "taps": taps,
            "chunks": chunks,
            "fiber_chunks": chunks // taps,
            "pass_chunks": rows.pass_chunks,
            "chunks_at_once": 1 if on_demand else max(1, cache.line_bytes // CHUNK_BYTES),
            "slots": slots,
            "free_slots": 1 if late else slots,
            "refetch": int(refetch),
            "late_fetch": int(late),
        }, operands

    def _slots(self, sizes: NDArray[np.int64], fibers: int) -> int:
        """Slots of the cache for fibers of B: one for the fiber in use and one for each that is fetched ahead, or as
        many of the longest fiber as ``prefetch_lines`` hold if these are more."""
        scheduler = self.config.scheduler
        if scheduler.prefetch_fibers == 0:
            return 1
        longest = max(1, -(-int(sizes.max()) // self.config.memory.cache.line_bytes))
        return max(scheduler.prefetch_fibers + 1, min(scheduler.prefetch_lines // longest, fibers))

    def _place(self, layer: Layer, rows: Rows, join: Join, output_bytes: NDArray[np.int64], memory: Placer) -> Operands:
        """A row is given to PEs in turn, and by ``row_per_bank`` lies in the bank of its PE; fibers that rows
        share lie in that of their number."""
        config, pointer = self.config, -(-self.config.format.pointer_bits // 8)
        taps = rows.fiber.shape[1]
        a_word_byte = rows.mask_bytes + (pointer if join.word_bits and rows.mask_bytes else 0)
        a_words = rows.start[:, -1] - rows.start[:, 0]
        a_bytes = a_word_byte + -(-a_words * join.word_bits // 8)
        if config.format.placement == "row_per_bank":
            first, numbers = rows.fiber[:, 0], np.arange(len(a_bytes))
            # A kernel of 1 x 1 with a stride leaves out fibers of the feature map, and padding is none of them.
            given = first if taps == 1 and np.array_equal(np.sort(first), numbers) else numbers
            a = memory.place(a_bytes[given], rows=2, banks=config.memory.cache.banks).reordered(np.argsort(given))
        else:
            a = memory.place(a_bytes, rows=2)
        weights = rows.weights
        b_mask_bytes = -(-(layer.k if taps == 1 else weights.mask.shape[1] * 64) // 8)
        b_words = weights.start[:, -1] - weights.start[:, 0]
        b = memory.place(b_mask_bytes + pointer + -(-b_words * config.pe.weight_bits // 8), rows=2)
        output = memory.place(output_bytes, rows=2)
        return Operands(
            np.ascontiguousarray(rows.fiber, np.int64),
            Fibers(
                rows.mask, rows.start, a._replace(row=a.row + rows.raw), a._replace(row=a.row + 1), rows.mask_bytes,
                a_word_byte, join.word_bits,
            ),
            Fibers(
                weights.mask, weights.start, b, b._replace(row=b.row + 1), b_mask_bytes, b_mask_bytes + pointer,
                config.pe.weight_bits,
            ),
            OutputRows(
                output, output._replace(row=output.row + 1), 0 if rows.raw or layer.writes_sums else -(-layer.n // 8)
            ),
            memory.place_again(np.full(layer.m, layer.n * layer.taken_bytes)),
        )  # fmt: skip

    def other_components(self) -> tuple[Component, ...]:
        """Compressors, scheduler, memories, switches and wires."""
        config, pes = self.config, self.config.pe.count
        return (
            Component("compressor", "logic", pes, {"block": "compressor"}),
            *shared_components(config.memory, pes, pes),
        )

    @property
    def processing_elements(self) -> int:
        """PEs with an inner-join unit; one works in all cycles of a join."""
        return self.config.pe.count

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """A product or an addition for every match that a join finds: in one timestep, or in all."""
        return int(counts[MATCHES])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """All joins spread evenly over the processing elements."""
        m, overhead = program.spec, self.config.pe.chunk_overhead_cycles
        joins = layer.m * layer.n * m.chunks * m.join.passes
        work: int = max(joins * max(1, overhead), joins * overhead + int(counts[MATCHES]))
        return -(-work // self.config.pe.count)

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """All fibers of B, and the bitmasks of those of A that a row uses; words only where something matches."""
        x = program.operands
        used = np.unique(x.fiber[x.fiber >= 0])
        masks: int = used.size * x.a.mask_bytes + layer.n * x.b.mask_bytes
        if program.spec.join.word_reads == WORDS_WITH_BITMASK:
            words = x.a.start[used, -1] - x.a.start[used, 0]
            masks += int((-(-words * x.a.word_bits // 8)).sum())
        return masks + len(layer.weights.values) * self.config.pe.weight_bits // 8


def _most_lines(join: Join, weight_bits: int, line_bytes: int) -> tuple[int, int]:
    """Most lines that a PE asks for at once, and that the broadcaster reads at once."""
    bitmask_lines = max(1, CHUNK_BYTES // line_bytes)
    words = -(-(CHUNK_BITS * join.word_bits) // 8)
    values = -(-line_bytes // CHUNK_BYTES) * CHUNK_BITS * weight_bits // 8
    return bitmask_lines + words // line_bytes + 2, bitmask_lines + values // line_bytes + 2
