"""The inner-product dataflow on compressed fibers, as LoAS, SparTen-SNN and SparTen run it.

Processing elements hold one row of A each and receive the same fiber of B; an element joins the two fibers chunk by
chunk and owns one output neuron at a time. A row may be joined in several *passes*, one a timestep (LoAS does all
timesteps in one). The loop nest, with rows taken in tiles that fit the cache, or in groups as they come:

    for tile of rows:                        A stays in the cache
        for n in columns:                    one fiber of B at a time, streamed from DRAM
            for group of rows in tile:       one step of the array: B is broadcast, barrier at its end
                for pass:                    once (t in parallel), or once for each timestep
                    for chunk of 128 k:      inner join in every element

Agents: an element each (:func:`element`), a neuron unit with its output compressor each (:func:`neuron_unit`), a
fetcher for each place in the cache that holds a fiber of B (:func:`fetcher`), one broadcaster that reads them from the
cache (:func:`broadcaster`), and one fetcher that brings rows of A into the cache ahead of their first use
(:func:`row_fetcher`). They meet at these FIFOs:

    fetchers -- fiber --> broadcaster -- chunks (broadcast) --> elements -- sum --> neuron units
    fetchers <-- credit -- broadcaster                                 row fetcher <-- credit -- element 0

With ``prefetch_fibers`` 0 there is no fetcher: the broadcaster itself fetches the lines of a chunk when the elements
have taken the chunk before (:func:`demand`), and waits for them.

Where a row of A lies in memory: in ``taps`` fibers, one after the other. Unrolled rows (im2col before they are stored)
have one fiber of their own. Rows that are unrolled on the way from the cache have one fiber for each position of the
kernel, which they share with other rows: the fiber of an input position, all its channels; padding has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.compress import bitmask, packed_time
from archsim.compress.bitmask import CHUNK_BITS, chunks_of, popcount
from archsim.dataflow.base import (
    Accelerator,
    Layer,
    MachineConfig,
    Program,
    ScheduledLayers,
    Unit,
    memory_components,
)
from archsim.engine.compiled import run
from archsim.hardware import operation as op
from archsim.hardware.compute.compressor import CompressorConfig, compress_cycles
from archsim.hardware.compute.inner_join import correct, join_cycles
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.compute.prefix_sum import laggy_cycles, pass_cycles
from archsim.hardware.inventory import Component
from archsim.hardware.loading import Block
from archsim.hardware.memory import placement
from archsim.hardware.operation import (
    BARRIER,
    CACHED_READ,
    COMPUTE,
    DONE,
    END,
    HEADER,
    OWN_PATH,
    PAUSE,
    POP,
    POP_COUNT,
    PREFETCH,
    PUSH,
    PUSH_COUNT,
    REQUEST_FIELDS,
    REQUESTS,
    RESIDENT_READ,
    START,
    STREAM_READ,
    STREAM_WRITE,
    VALUE,
    VALUE_OUT,
    add_range,
    add_request,
)
from archsim.jit import inlined, kernel

CHUNK_BYTES = CHUNK_BITS // 8

# --- Configuration ----------------------------------------------------------------------------------------------------


class InnerProductPe(Block):
    """Processing elements, each with an inner-join unit."""

    count: int = Field(ge=1, le=1024, description="elements; each has its own row of A and its own neuron unit")
    chunk_overhead_cycles: int = Field(
        ge=0, le=64, description="cycles of a chunk pair beside one per match; 0: max(1, matches)"
    )
    fiber_b_buffers: int = Field(
        ge=1, le=64, description="fibers of B that the slowest element may lag behind the broadcast"
    )
    output_buffer: int = Field(ge=1, le=1024, description="finished sums that wait for the neuron unit")
    weight_bits: int = Field(ge=2, le=16, description="bits of a weight")


class SchedulerConfig(ScheduledLayers):
    """Order of the work."""

    barrier: Literal["column", "chunk", "none"] = Field(description="when all elements wait for the slowest")
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
    """How a machine joins: ``passes`` over a row, bits of the ``word`` behind a bit of A's bitmask (0: none).

    ``laggy`` is a mode of :mod:`~archsim.hardware.compute.prefix_sum`, or NO_LAGGY for two fast prefix-sums: then there
    is no FIFO and nothing to correct. ``word_reads`` says when words are read
    (WORDS_...). ``finish``: cycles at the end of a neuron before it fires.
    """

    passes: int
    word_bits: int
    laggy: int
    adders: int
    fifo_depth: int
    word_reads: int
    finish: int


FETCH_LINES = 16
"""Lines that a fetcher or a neuron unit asks for at once; they wait for miss registers and banks like all others."""
NO_LAGGY = -1
# When words of A are read: those of a chunk if anything matches, one for each match, or always, with the bitmask.
WORDS_OF_CHUNK, WORDS_OF_MATCHES, WORDS_WITH_BITMASK = range(3)

# --- What the kernels see ---------------------------------------------------------------------------------------------

# Tensors of the traffic table, values behind their bitmasks ("format"). A streamed line with both counts as bitmask.
INPUT_FORMAT, INPUT, WEIGHT_FORMAT, WEIGHT, OUTPUT_FORMAT, OUTPUT = range(6)
TENSORS = ("input_format", "input", "weight_format", "weight", "output_format", "output")

# Actions that the agents count.
JOINS, MATCHES, LAGGY_BUSY, SUMS_FINISHED, ENCODED_CHUNKS, STEPS, BROADCAST_BEATS = range(7)
ACTIONS = 7

BARRIERS = {"none": 0, "column": 1, "chunk": 2}
PER_COLUMN, PER_CHUNK = 1, 2
ARRAY_BARRIER = 0


class Spec(NamedTuple):
    """The machine and the layer's sizes as integers: ``groups`` of ``pes`` rows, ``tile`` groups in a tile.

    A row has ``chunks`` chunks in a pass, ``fiber_chunks`` in each of its ``taps`` fibers, and those of the next pass
    are ``pass_chunks`` further (0: all passes see the same). ``mask`` is the tensor that bitmasks of A count as. A
    fiber begins with ``a_mask_bytes`` or ``b_mask_bytes`` of bitmask; the words of one of A begin at ``a_value_byte``.
    """

    pes: int
    m: int
    n: int
    chunks: int
    taps: int
    fiber_chunks: int
    pass_chunks: int
    passes: int
    groups: int
    tile: int
    word_bits: int
    weight_bits: int
    overhead: int
    laggy: int
    laggy_pass: int
    adders: int
    depth: int
    word_reads: int
    barrier: int
    finish: int
    fire: int
    compress: int
    refetch: int
    on_demand: int
    late_fetch: int
    line_bytes: int
    line_shift: int
    beat_shift: int
    fetch_lines: int
    pointer_bytes: int
    a_mask_bytes: int
    a_value_byte: int
    b_mask_bytes: int
    mask_tensor: int
    output_mask_bytes: int
    a_stride: int
    places: int
    credits: int
    sums: int
    row_credits: int
    fiber_port: int
    credit_port: int
    sum_port: int
    row_port: int


class Operands(NamedTuple):
    """Compressed operands (:mod:`archsim.compress`) and where they are in memory.

    ``fiber`` int64 [M, taps] names the fibers of a row of A, -1 for padding. A fiber of A or B, or a row of the output,
    begins in line ``a_line``, ``b_line`` or ``output_line`` of it and is ``..._bytes`` long. ``a_mask`` has the chunks
    of all passes, pass after pass.
    """

    fiber: NDArray[np.int64]
    a_mask: NDArray[np.uint64]
    a_start: NDArray[np.int64]
    a_line: NDArray[np.int64]
    a_bytes: NDArray[np.int64]
    b_mask: NDArray[np.uint64]
    b_start: NDArray[np.int64]
    b_line: NDArray[np.int64]
    b_bytes: NDArray[np.int64]
    output_line: NDArray[np.int64]
    output_bytes: NDArray[np.int64]


# FIFOs, in the order of the topology: chunks; one of fibers and one of credits for each place in the cache that holds a
# fiber of B (``spec.credits`` is the first); sums, one for each element (``spec.sums``); credits of the row fetcher.
CHUNKS, FIBERS = range(2)

# --- Agents -----------------------------------------------------------------------------------------------------------

# An agent's state: its place in the loop nest, what it does next, and, for an element, the FIFO of the inner join.
TILE, COLUMN, GROUP, PASS, CHUNK, PHASE, PENDING, JOIN_FIFO = range(8)
# Of fetchers and broadcaster: how many fibers came before; of the broadcaster: lines with values fetched on demand.
VISIT, FETCHED = JOIN_FIFO, PENDING
LOAD, JOIN, SETTLE = range(3)
READ, COMMIT, WRITE = range(3)
DEMAND, SEND = range(2)


@inlined
def tile_end(spec: Spec, tile: int) -> int:
    """First group behind the tile that begins with group ``tile``."""
    return min(tile + spec.tile, spec.groups)


@inlined
def next_step(spec: Spec, tile: int, column: int, group: int) -> tuple[int, int, int]:
    """The step after (tile, column, group); tile equals ``groups`` when the layer is done."""
    group += 1
    if group == tile_end(spec, tile):
        group = tile
        column += 1
        if column == spec.n:
            column = 0
            tile = tile_end(spec, tile)
            group = tile
    return tile, column, group


@inlined
def fiber_of(spec: Spec, x: Operands, row: int, chunk: int) -> int:
    """The fiber that holds chunk ``chunk`` of a pass over row ``row``."""
    fiber: int = x.fiber[row, 0 if spec.taps == 1 else chunk // spec.fiber_chunks]
    return fiber


@inlined
def place_in_fiber(spec: Spec, passed: int, chunk: int) -> int:
    """Where in its fiber that chunk of pass ``passed`` is."""
    return passed * spec.pass_chunks + (chunk if spec.taps == 1 else chunk % spec.fiber_chunks)


@inlined
def request_bitmask(spec: Spec, x: Operands, o: Any, agent: int, row: int, passed: int, chunk: int, epoch: int) -> None:
    """Read one chunk of bm-A, and its words if they come with it."""
    fiber = fiber_of(spec, x, row, chunk)
    if fiber < 0:
        return
    if spec.a_mask_bytes > 0:
        # A chunk lies in one line: fibers begin with a line, and no line is shorter than a chunk.
        line = place_in_fiber(spec, passed, chunk) * CHUNK_BYTES >> spec.line_shift
        add_request(
            o, agent, x.a_line[fiber] + line * spec.a_stride, (CHUNK_BYTES - 1 >> spec.beat_shift) + 1, CHUNK_BYTES,
            CACHED_READ, spec.mask_tensor, epoch,
        )  # fmt: skip
    if spec.word_reads == WORDS_WITH_BITMASK:
        request_words(spec, x, o, agent, fiber, place_in_fiber(spec, passed, chunk), 0, epoch)


@inlined
def request_words(
    spec: Spec, x: Operands, o: Any, agent: int, fiber: int, place: int, matches: int, epoch: int
) -> None:
    """Read the words of one chunk of A, or those of its matches."""
    values = spec.a_value_byte
    first = values + ((x.a_start[fiber, place] - x.a_start[fiber, 0]) * spec.word_bits >> 3)
    end = values + ((x.a_start[fiber, place + 1] - x.a_start[fiber, 0]) * spec.word_bits + 7 >> 3)
    first_request = o[agent, REQUESTS]
    lines = add_range(
        o,
        agent,
        x.a_line[fiber],
        spec.a_stride,
        first,
        end,
        spec.line_shift,
        spec.beat_shift,
        CACHED_READ,
        INPUT,
        epoch,
    )
    if spec.word_reads == WORDS_OF_MATCHES:
        # One access a match, spread over the lines that the chunk's words lie in; a line without a match is not read.
        lines = min(lines, matches)
        o[agent, REQUESTS] = first_request + lines
        for i in range(lines):
            share = matches // lines + (1 if i < matches % lines else 0)
            field = HEADER + (first_request + i) * REQUEST_FIELDS
            o[agent, field + op.BEATS] = share
            o[agent, field + op.BYTES] = -(-share * spec.word_bits // 8)


@inlined
def stream(
    spec: Spec, o: Any, agent: int, line: int, first: int, end: int, mask_bytes: int, mode: int, mask: int
) -> None:
    """Whole lines of a fiber from byte ``first`` on, to or from DRAM; a line with bitmask counts as tensor ``mask``."""
    while first < end:
        part = min(end, first + spec.line_bytes)
        tensor = mask if first < mask_bytes else mask + 1
        add_range(o, agent, line, 1, first, part, spec.line_shift, spec.beat_shift, mode, tensor, 0)
        first = part


@inlined
def element(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """One row of A against the broadcast fibers of B, chunk by chunk; the bitmask of the next join is read ahead."""
    tile, column, group = state[agent, TILE], state[agent, COLUMN], state[agent, GROUP]
    passed, chunk = state[agent, PASS], state[agent, CHUNK]
    if tile == spec.groups:
        o[agent, END] = 1
        return
    row = group * spec.pes + agent
    has_row = row < spec.m
    if state[agent, PHASE] == LOAD:
        request_bitmask(spec, x, o, agent, row, 0, 0, tile)
        state[agent, PHASE] = JOIN
        return
    if state[agent, PHASE] == SETTLE:
        matches = state[agent, PENDING]
        if matches > 0:
            # The FIFO's share of the join that has just ended: it may have held up the last pushes.
            state[agent, PENDING] = 0
            start = o[agent, START]
            ready = start + spec.laggy_pass
            for i in range(o[agent, REQUESTS]):
                ready = max(ready, o[agent, HEADER + i * REQUEST_FIELDS + DONE])
            pushed = correct(state, agent, JOIN_FIFO, spec.depth, start + spec.overhead, matches, ready)
            if pushed > now:
                o[agent, PAUSE] = pushed - now
                return
        state[agent, PHASE] = JOIN
        chunk += 1
        if chunk == spec.chunks:
            chunk = 0
            passed += 1
            if has_row:
                o[agent, PUSH] = spec.sums + agent
                o[agent, PUSH_COUNT] = 1
                o[agent, VALUE_OUT] = max(now, state[agent, JOIN_FIFO + 1] + 1)
            if passed == spec.passes:
                passed = 0
                if spec.barrier == PER_COLUMN:
                    o[agent, BARRIER] = ARRAY_BARRIER
                state[agent, TILE], state[agent, COLUMN], state[agent, GROUP] = next_step(spec, tile, column, group)
            state[agent, PASS], state[agent, CHUNK] = passed, chunk
            return
        state[agent, CHUNK] = chunk
    o[agent, POP] = agent
    o[agent, POP_COUNT] = 1
    state[agent, PHASE] = SETTLE
    if spec.barrier == PER_CHUNK:
        o[agent, BARRIER] = ARRAY_BARRIER
    # The next bitmask first: it must not wait behind the words of this chunk.
    if passed * spec.chunks + chunk + 1 < spec.passes * spec.chunks:
        if has_row and chunk + 1 < spec.chunks:
            request_bitmask(spec, x, o, agent, row, passed, chunk + 1, tile)
        elif has_row:
            request_bitmask(spec, x, o, agent, row, passed + 1, 0, tile)
    else:
        next_tile, _, next_group = next_step(spec, tile, column, group)
        next_row = next_group * spec.pes + agent
        if next_tile < spec.groups and next_row < spec.m:
            request_bitmask(spec, x, o, agent, next_row, 0, 0, next_tile)
    if not has_row:
        return
    fiber = fiber_of(spec, x, row, chunk)
    matches = 0
    laggy = 0
    if fiber >= 0:
        place = place_in_fiber(spec, passed, chunk)
        low = x.a_mask[fiber, 2 * place] & x.b_mask[column, 2 * chunk]
        high = x.a_mask[fiber, 2 * place + 1] & x.b_mask[column, 2 * chunk + 1]
        matches = popcount(low) + popcount(high)
        if matches > 0:
            counts[agent, MATCHES] += matches
            if spec.word_bits > 0 and spec.word_reads != WORDS_WITH_BITMASK:
                request_words(spec, x, o, agent, fiber, place, matches, tile)
            if spec.laggy != NO_LAGGY:
                laggy = laggy_cycles(spec.laggy, spec.adders, low, high)
                counts[agent, LAGGY_BUSY] += laggy
                state[agent, PENDING] = matches
    counts[agent, JOINS] += 1
    if agent == 0 and column == 0 and chunk == 0 and passed == 0 and spec.row_credits >= 0:
        o[agent, PUSH] = spec.row_credits
        o[agent, PUSH_COUNT] = 1
    o[agent, COMPUTE] = join_cycles(spec.overhead, matches, spec.laggy, laggy)


@inlined
def neuron_unit(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Fire the neurons of one element, compress 128 of them at a time, write a row when it is complete."""
    tile, column, group = state[agent, TILE], state[agent, COLUMN], state[agent, GROUP]
    pe = agent - spec.pes
    row = group * spec.pes + pe
    last_column = column == spec.n - 1
    if state[agent, PHASE] == READ:
        if tile == spec.groups:
            o[agent, END] = 1
            return
        state[agent, PHASE] = COMMIT
        if row < spec.m:
            o[agent, POP] = spec.sum_port + pe
            o[agent, POP_COUNT] = 1
        return
    if state[agent, PHASE] == COMMIT:
        passed = state[agent, PASS] + 1
        if row < spec.m:
            o[agent, PAUSE] = max(0, o[agent, VALUE] - now)
            o[agent, COMPUTE] = spec.finish + spec.fire
            counts[agent, SUMS_FINISHED] += 1
            if passed < spec.passes:
                state[agent, PASS] = passed
                state[agent, PHASE] = READ
                return
            if last_column or (column + 1) % CHUNK_BITS == 0:
                o[agent, COMPUTE] += compress_cycles(spec.compress, column % CHUNK_BITS + 1)
                counts[agent, ENCODED_CHUNKS] += 1
            if last_column:
                state[agent, PHASE] = WRITE
                state[agent, CHUNK] = 0
                return
    else:
        first = state[agent, CHUNK]
        end = min(x.output_bytes[row], first + spec.fetch_lines * spec.line_bytes)
        stream(spec, o, agent, x.output_line[row], first, end, spec.output_mask_bytes, STREAM_WRITE, OUTPUT_FORMAT)
        state[agent, CHUNK] = end
        if end < x.output_bytes[row]:
            return
    state[agent, PASS] = 0
    state[agent, PHASE] = READ
    state[agent, TILE], state[agent, COLUMN], state[agent, GROUP] = next_step(spec, tile, column, group)


@inlined
def visits(spec: Spec, tile: int, group: int) -> bool:
    """Whether a fiber of B is fetched anew for this group: for the first of a tile, or for all if two do not fit."""
    return group == tile or spec.refetch == 1


@inlined
def fetcher(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Stream every ``places``-th fiber of B from DRAM into its place in the cache, whenever there is a credit."""
    place = agent - 2 * spec.pes
    tile, column, group = state[agent, TILE], state[agent, COLUMN], state[agent, GROUP]
    while tile < spec.groups and not (visits(spec, tile, group) and state[agent, VISIT] % spec.places == place):
        if visits(spec, tile, group):
            state[agent, VISIT] += 1
        tile, column, group = next_step(spec, tile, column, group)
    if tile == spec.groups or spec.on_demand:
        o[agent, END] = 1
        return
    done = state[agent, CHUNK]
    if done == 0:
        o[agent, POP] = spec.credit_port + place
        o[agent, POP_COUNT] = 1
    end = min(x.b_bytes[column], done + spec.fetch_lines * spec.line_bytes)
    stream(spec, o, agent, x.b_line[column], done, end, spec.b_mask_bytes, STREAM_READ, WEIGHT_FORMAT)
    state[agent, CHUNK] = end
    if end == x.b_bytes[column]:
        o[agent, PUSH] = FIBERS + place
        o[agent, PUSH_COUNT] = 1
        state[agent, CHUNK] = 0
        state[agent, VISIT] += 1
        tile, column, group = next_step(spec, tile, column, group)
    state[agent, TILE], state[agent, COLUMN], state[agent, GROUP] = tile, column, group


@inlined
def demand(agent: int, spec: Spec, state: Any, x: Operands, o: Any, column: int, chunk: int) -> None:
    """Fetch those lines of one chunk of B that this visit has not fetched yet: of its bitmask, and of its values."""
    values = spec.b_mask_bytes + spec.pointer_bytes
    start = x.b_start[column, 0]
    first = values + ((x.b_start[column, chunk] - start) * spec.weight_bits >> 3)
    end = values + ((x.b_start[column, chunk + 1] - start) * spec.weight_bits + 7 >> 3)
    line = chunk * CHUNK_BYTES >> spec.line_shift
    begins = chunk == 0 or (chunk - 1) * CHUNK_BYTES >> spec.line_shift != line
    # The line that bitmask and values share is fetched once, for whichever comes first.
    shared = line == values >> spec.line_shift
    if begins and not (shared and state[agent, FETCHED] > line):
        demand_line(agent, spec, x, o, column, line, WEIGHT_FORMAT)
        if shared:
            state[agent, FETCHED] = line + 1
    if end > first:
        for line in range(max(first >> spec.line_shift, state[agent, FETCHED]), (end - 1 >> spec.line_shift) + 1):
            demand_line(agent, spec, x, o, column, line, WEIGHT)
            state[agent, FETCHED] = line + 1


@inlined
def demand_line(agent: int, spec: Spec, x: Operands, o: Any, column: int, line: int, tensor: int) -> None:
    """Fetch one line of a fiber of B, as far as the fiber goes."""
    part = min(spec.line_bytes, x.b_bytes[column] - line * spec.line_bytes)
    add_request(
        o,
        agent,
        x.b_line[column] + line,
        part + (1 << spec.beat_shift) - 1 >> spec.beat_shift,
        part,
        STREAM_READ,
        tensor,
        0,
    )


@inlined
def broadcaster(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Read the fiber of B from the cache, one line of bitmask and its values at a time, and broadcast its chunks."""
    tile, column, group, chunk = state[agent, TILE], state[agent, COLUMN], state[agent, GROUP], state[agent, CHUNK]
    if chunk == spec.chunks:
        chunk = 0
        state[agent, CHUNK] = 0
        state[agent, PASS] += 1
        if state[agent, PASS] == spec.passes:
            state[agent, PASS] = 0
            tile, column, group = next_step(spec, tile, column, group)
            state[agent, TILE], state[agent, COLUMN], state[agent, GROUP] = tile, column, group
            state[agent, FETCHED] = 0
            finished = tile == spec.groups or visits(spec, tile, group)
            if finished:
                state[agent, VISIT] += 1
            if finished and not spec.on_demand:
                # The place of the fiber just sent is free; with a late fetch the next fiber's turn comes only now.
                place = state[agent, VISIT] + spec.late_fetch - 1
                if tile < spec.groups or not spec.late_fetch:
                    o[agent, PUSH] = spec.credits + place % spec.places
                    o[agent, PUSH_COUNT] = 1
                    return
    if tile == spec.groups:
        o[agent, END] = 1
        return
    if spec.on_demand and state[agent, PHASE] == DEMAND:
        state[agent, PHASE] = SEND
        if state[agent, PASS] == 0 and visits(spec, tile, group):
            demand(agent, spec, state, x, o, column, chunk)
            return
    state[agent, PHASE] = DEMAND
    if chunk == 0 and state[agent, PASS] == 0:
        counts[agent, STEPS] += 1
        if not spec.on_demand and visits(spec, tile, group):
            o[agent, POP] = spec.fiber_port + state[agent, VISIT] % spec.places
            o[agent, POP_COUNT] = 1
    end = chunk + 1 if spec.on_demand else min(spec.chunks, chunk + max(1, spec.line_bytes // CHUNK_BYTES))
    values = spec.b_mask_bytes + spec.pointer_bytes
    start = x.b_start[column, 0]
    first_value = values + ((x.b_start[column, chunk] - start) * spec.weight_bits >> 3)
    end_value = values + ((x.b_start[column, end] - start) * spec.weight_bits + 7 >> 3)
    size, beat = spec.line_shift, spec.beat_shift
    first_bit, end_bit = chunk * CHUNK_BYTES, min(end * CHUNK_BYTES, spec.b_mask_bytes)
    add_range(o, agent, x.b_line[column], 1, first_bit, end_bit, size, beat, RESIDENT_READ, WEIGHT_FORMAT, 0)
    add_range(o, agent, x.b_line[column], 1, first_value, end_value, size, beat, RESIDENT_READ, WEIGHT, 0)
    counts[agent, BROADCAST_BEATS] += -((first_bit - end_bit) >> beat) - ((first_value - end_value) >> beat)
    o[agent, PUSH] = CHUNKS
    o[agent, PUSH_COUNT] = end - chunk
    state[agent, CHUNK] = end


@inlined
def row_fetcher(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Bring rows into the cache before the elements need them, as many groups ahead as there are credits.

    Its place: GROUP, row of the group (COLUMN), fiber of the row (PASS) and byte of the fiber (CHUNK).
    """
    group, row, tap, first = state[agent, GROUP], state[agent, COLUMN], state[agent, PASS], state[agent, CHUNK]
    if group == spec.groups or spec.row_credits < 0:
        o[agent, END] = 1
        return
    if row == 0 and tap == 0 and first == 0:
        o[agent, POP] = spec.row_port
        o[agent, POP_COUNT] = 1
    for _ in range(spec.fetch_lines):
        fiber = x.fiber[group * spec.pes + row, tap]
        if fiber >= 0:
            line = x.a_line[fiber] + (first >> spec.line_shift) * spec.a_stride
            tensor = spec.mask_tensor if first < spec.a_mask_bytes else INPUT
            add_request(o, agent, line, 1, 0, PREFETCH, tensor, group // spec.tile * spec.tile)
            first += spec.line_bytes
        if fiber < 0 or first >= x.a_bytes[fiber]:
            first = 0
            tap += 1
            if tap == spec.taps:
                tap = 0
                row += 1
                if row == spec.pes or group * spec.pes + row == spec.m:
                    row = 0
                    group += 1
                    break
    state[agent, GROUP], state[agent, COLUMN], state[agent, PASS], state[agent, CHUNK] = group, row, tap, first


@inlined
def step(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The next operation of any agent; see :mod:`archsim.hardware.operation`."""
    if agent < spec.pes:
        element(agent, now, spec, state, x, o, counts)
    elif agent < 2 * spec.pes:
        neuron_unit(agent, now, spec, state, x, o, counts)
    elif agent < 2 * spec.pes + spec.places:
        fetcher(agent, now, spec, state, x, o, counts)
    elif agent == 2 * spec.pes + spec.places:
        broadcaster(agent, now, spec, state, x, o, counts)
    else:
        row_fetcher(agent, now, spec, state, x, o, counts)


# --- Laying a layer out -----------------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """A as the machine stores it, compressed or raw, and B in the same order of K.

    ``fiber`` int64 [M, taps], see :class:`Operands`; a fiber begins with ``mask_bytes`` of bitmask, in which those of a
    timestep are ``pass_chunks`` chunks behind those of the one before (0: one bitmask for all); ``start[f, c]`` is the
    first word of chunk c of fiber f.
    """

    fiber: NDArray[np.int64]
    mask_bytes: int
    pass_chunks: int
    mask: NDArray[np.uint64]
    start: NDArray[np.int64]
    weights: bitmask.BitmaskFibers


def rows_of(layer: Layer, unrolled: str) -> tuple[Rows, NDArray[np.uint16]]:
    """A as ``format.unrolled`` says that it is stored, and its words.

    Stored unrolled, a row is one fiber (im2col before A is stored). Unrolled on the fly, each input position is a fiber
    and a row is those below its kernel; K is then in the order (kernel position, channel), channels padded to chunks.
    """
    feature_map = layer.feature_map
    if unrolled == "stored" or feature_map is None:
        fiber = np.arange(layer.m)[:, None]
        inputs = layer.inputs
        return Rows(fiber, -(-layer.k // 8), 0, inputs.mask, inputs.start, layer.weights), inputs.words
    images, channels, height, width = feature_map.words.shape
    positions = packed_time.encode(np.moveaxis(feature_map.words, 1, -1).reshape(-1, channels))
    numbers = np.arange(1, images * height * width + 1).reshape(images, 1, height, width)
    fiber = packed_time.unroll(numbers, feature_map.kernel, feature_map.stride, feature_map.padding) - 1
    taps, padded_channels = fiber.shape[1], chunks_of(channels) * CHUNK_BITS
    b = np.zeros((layer.n, taps, padded_channels), np.int16)
    b[:, :, :channels] = bitmask.decode(layer.weights, layer.k).reshape(layer.n, channels, taps).transpose(0, 2, 1)
    weights = bitmask.encode(b.reshape(layer.n, -1))
    return Rows(fiber, -(-channels // 8), 0, positions.mask, positions.start, weights), positions.words


def timestep_rows(layer: Layer, unrolled: str) -> Rows:
    """Raw spikes, timestep after timestep: the spike train of a timestep is its own bitmask, without words."""
    stored, words = rows_of(layer, unrolled)
    ones = np.flatnonzero(np.unpackbits(stored.mask.view(np.uint8), bitorder="little"))
    planes = []
    for t in range(layer.timesteps):
        bits = np.zeros(stored.mask.size * 64, np.uint8)
        bits[ones] = words >> np.uint16(t) & np.uint16(1)
        planes.append(np.packbits(bits, bitorder="little").view("<u8").astype(np.uint64).reshape(stored.mask.shape))
    mask = np.ascontiguousarray(np.concatenate(planes, axis=1))
    start = np.zeros((len(mask), mask.shape[1] // 2 + 1), np.int64)
    # Every timestep begins with a chunk.
    mask_bytes = stored.mask_bytes if layer.timesteps == 1 else mask.shape[1] * 8
    return stored._replace(mask=mask, start=start, mask_bytes=mask_bytes, pass_chunks=stored.mask.shape[1] // 2)


def raw_rows(layer: Layer, unrolled: str) -> Rows:
    """Raw spikes, the timesteps of an input side by side: a word for every input, silent or not, and no bitmask.

    The elements find the non-silent inputs themselves (an OR of the word's bits), so ``mask`` is known, but not stored.
    """
    stored, _ = rows_of(layer, unrolled)
    inputs = layer.k if stored.fiber.shape[1] == 1 or layer.feature_map is None else layer.feature_map.words.shape[1]
    start = np.minimum(np.arange(stored.mask.shape[1] // 2 + 1) * CHUNK_BITS, inputs)
    return stored._replace(mask_bytes=0, start=np.tile(start, (len(stored.mask), 1)))


def lay_out(config: InnerProductConfig, layer: Layer, join: Join, rows: Rows, output_bytes: NDArray[np.int64],
            mask_tensor: int, output_mask_bytes: int, names: tuple[str, str]) -> Program:  # fmt: skip
    """Place A, B and the output in memory one after the other and resolve the machine to integers.

    ``names`` are those of the processing elements and of the neuron units.
    """
    cache, scheduler = config.memory.cache, config.scheduler
    fiber, weights = rows.fiber, rows.weights
    taps, chunks = fiber.shape[1], weights.mask.shape[1] // 2
    pointer = -(-config.format.pointer_bits // 8) if join.word_bits and rows.mask_bytes else 0
    words = rows.start[:, -1] - rows.start[:, 0]
    a_bytes = rows.mask_bytes + pointer + -(-words * join.word_bits // 8)
    if scheduler.rows == "sorted":
        order = np.argsort(layer.inputs.start[:, 0] - layer.inputs.start[:, -1], kind="stable")
        fiber, output_bytes = fiber[order], output_bytes[order]
    b_pointer = -(-config.format.pointer_bits // 8)
    b_words = weights.start[:, -1] - weights.start[:, 0]
    b_mask_bytes = -(-(layer.k if taps == 1 else chunks * CHUNK_BITS) // 8)
    b_bytes = b_mask_bytes + b_pointer + -(-b_words * config.pe.weight_bits // 8)
    if config.format.placement == "row_per_bank":
        # A row goes to the bank of the element that it is given to; fibers that rows share, to that of their number.
        given = fiber[:, 0] if taps == 1 else np.arange(len(a_bytes))
        a = placement.by_bank(a_bytes[given], cache.line_bytes, cache.banks)
        a = a._replace(line=a.line[np.argsort(given)])
    else:
        a = placement.interleaved(a_bytes, cache.line_bytes)
    b = placement.interleaved(b_bytes, cache.line_bytes, a.free)
    output = placement.interleaved(output_bytes, cache.line_bytes, b.free)
    places = scheduler.prefetch_fibers + 1
    pes = min(config.pe.count, layer.m)
    groups = -(-layer.m // pes)
    tile = 1
    if scheduler.order == "super_tile":
        row_bytes = float(a_bytes.sum()) / layer.m + cache.line_bytes
        tile = max(1, int(scheduler.tile_fill * cache.usable_bytes / (pes * row_bytes)))
    stream_bytes = cache.usable_bytes * cache.stream_ways // cache.ways
    held = int(b_bytes.max() + cache.line_bytes) * places
    refetch = 0 < stream_bytes < held
    one_step = refetch or min(tile, groups) == 1
    spec = Spec(
        pes=pes,
        m=layer.m,
        n=layer.n,
        chunks=chunks,
        taps=taps,
        fiber_chunks=chunks // taps,
        pass_chunks=rows.pass_chunks,
        passes=join.passes,
        groups=groups,
        tile=tile,
        word_bits=join.word_bits,
        weight_bits=config.pe.weight_bits,
        overhead=config.pe.chunk_overhead_cycles,
        laggy=join.laggy,
        laggy_pass=pass_cycles(join.adders),
        adders=join.adders,
        depth=join.fifo_depth,
        word_reads=join.word_reads,
        barrier=BARRIERS[scheduler.barrier],
        finish=join.finish,
        fire=config.neuron.cycles,
        compress=config.compressor.chunk_cycles(layer.pooled),
        refetch=int(refetch),
        on_demand=int(scheduler.prefetch_fibers == 0),
        late_fetch=int(scheduler.prefetch_start == "last_step" and not one_step),
        line_bytes=cache.line_bytes,
        line_shift=cache.line_bytes.bit_length() - 1,
        beat_shift=(cache.width_bits // 8).bit_length() - 1,
        fetch_lines=FETCH_LINES,
        pointer_bytes=b_pointer,
        a_mask_bytes=rows.mask_bytes,
        a_value_byte=rows.mask_bytes + pointer,
        b_mask_bytes=b_mask_bytes,
        mask_tensor=mask_tensor,
        output_mask_bytes=output_mask_bytes,
        a_stride=a.stride,
        places=places,
        credits=FIBERS + places,
        sums=FIBERS + 2 * places,
        row_credits=FIBERS + 2 * places + pes if scheduler.prefetch_groups else -1,
        fiber_port=pes,
        credit_port=pes + places,
        sum_port=pes + 2 * places,
        row_port=2 * pes + 2 * places,
    )
    operands = Operands(
        np.ascontiguousarray(fiber, np.int64), rows.mask, rows.start, a.line, a_bytes, weights.mask, weights.start,
        b.line, b_bytes, output.line, output_bytes,
    )  # fmt: skip
    topology = _topology(config, spec)
    units = (
        Unit(names[0], 0, pes, config.pe.count),
        Unit(names[1], pes, pes, config.pe.count),
        Unit("fetcher", 2 * pes, places, places),
        Unit("broadcaster", 2 * pes + places, 1, 1),
        Unit("row_fetcher", 2 * pes + places + 1, 1, 1),
    )
    state = np.zeros((len(topology.request_slots), JOIN_FIFO + 2 + join.fifo_depth), np.int64)
    return Program(spec, operands, topology, state, units)


def _topology(config: InnerProductConfig, spec: Spec) -> op.Topology:
    pes, places, ahead = spec.pes, spec.places, config.scheduler.prefetch_groups + 1
    # Each place may be filled at once; with a late fetch only the first.
    at_once = 1 if spec.late_fetch else places
    most_words = -(-(CHUNK_BITS * spec.word_bits) // 8)
    most_values = -(-spec.line_bytes // CHUNK_BYTES) * CHUNK_BITS * spec.weight_bits // 8
    beats = max(1, CHUNK_BYTES // spec.line_bytes)
    return op.topology(
        [beats + most_words // spec.line_bytes + 2] * pes
        + [spec.fetch_lines] * (pes + places)
        + [beats + most_values // spec.line_bytes + 2, spec.fetch_lines],
        [*range(pes), *range(pes), *[OWN_PATH] * (places + 2)],
        [
            (1 if spec.on_demand else config.pe.fiber_b_buffers * spec.chunks, 0, pes),
            *[(1, 0, 1)] * places,
            *[(2, int(place < at_once), 1) for place in range(places)],
            *[(config.pe.output_buffer, 0, 1)] * pes,
            (spec.groups + ahead, ahead, 1),
        ],
        [pes],
    )


@kernel
def loop(spec: Spec, x: Operands, machine: Any) -> tuple[int, int, int]:
    """The agents in the compiled engine."""
    return run(step, spec, x, machine)


class InnerProduct(Accelerator):
    """What the machines with this dataflow share."""

    Config: ClassVar[type[MachineConfig]] = InnerProductConfig
    tensors: ClassVar[tuple[str, ...]] = TENSORS
    actions: ClassVar[int] = ACTIONS
    step: ClassVar[Any] = step
    loop: ClassVar[Any] = loop
    config: InnerProductConfig

    def other_components(self) -> tuple[Component, ...]:
        """Compressors, scheduler, memories, switches and wires."""
        config, pes = self.config, self.config.pe.count
        return (
            Component("compressor", "logic", pes, {"block": "compressor"}),
            Component("scheduler", "logic", 1, {"block": "scheduler"}),
            Component("others", "logic", 1, {"block": "others", "pes": pes, "banks": config.memory.cache.banks}),
            *memory_components(config.memory, pes),
        )

    def other_actions(self, counts: NDArray[np.int64]) -> dict[tuple[str, str], int]:
        """Actions of compressors, scheduler and broadcast bus."""
        return {
            ("compressor", "encode"): int(counts[ENCODED_CHUNKS]),
            ("scheduler", "step"): int(counts[STEPS]),
            ("broadcast", "transfer"): int(counts[BROADCAST_BEATS]),
        }

    def mask_bytes(self, layer: Layer) -> int:
        """Bytes of the bitmask of a compressed output row; the full sums of a read-out have none."""
        return 0 if layer.writes_sums else -(-layer.n // 8)

    @property
    def processing_elements(self) -> int:
        """Elements with an inner-join unit; one works in all cycles of a join."""
        return self.config.pe.count

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """A product or an addition for every match that a join finds: in one timestep, or in all."""
        return int(counts[MATCHES])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """All joins spread evenly over the processing elements."""
        joins, overhead = layer.m * layer.n * program.spec.chunks * program.spec.passes, program.spec.overhead
        work: int = max(joins * max(1, overhead), joins * overhead + int(counts[MATCHES]))
        return -(-work // self.config.pe.count)

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """All fibers of B, and the bitmasks of those of A that a row uses; words only where something matches."""
        spec, fiber = program.spec, program.operands.fiber
        used = np.unique(fiber[fiber >= 0])
        masks: int = used.size * spec.a_mask_bytes + layer.n * spec.b_mask_bytes
        if spec.word_reads == WORDS_WITH_BITMASK:
            words = program.operands.a_start[used, -1] - program.operands.a_start[used, 0]
            masks += int((-(-words * spec.word_bits // 8)).sum())
        return masks + len(layer.weights.values) * self.config.pe.weight_bits // 8
