"""LoAS: fully temporal-parallel dataflow for dual-sparse spiking networks (Yin et al., MICRO 2024).

Sixteen TPPEs hold sixteen rows of A and receive the same fiber of B; each computes one output neuron for all timesteps
at once (FTP: loops m, n, k with t unrolled in space; output-stationary inner product). The loop nest, with rows taken
in tiles that fit the cache:

    for tile of rows:                        A stays in the cache
        for n in columns:                    one fiber of B at a time, streamed from DRAM
            for group of 16 rows in tile:    one step of the array: B is broadcast, barrier at its end
                for chunk of 128 k:          inner join in every TPPE; t in parallel

Agents: a TPPE each (:func:`tppe`), a P-LIF with its output compressor each (:func:`p_lif`), one fetcher that streams
fibers of B from DRAM into the cache (:func:`fetcher`), one broadcaster that reads them from the cache
(:func:`broadcaster`), and one fetcher that brings rows of A into the cache ahead of their first use
(:func:`row_fetcher`). They meet at these FIFOs:

    fetcher -- fiber --> broadcaster -- chunks (broadcast) --> TPPEs -- sum --> P-LIF
    fetcher <-- credit -- broadcaster                                    row fetcher <-- credit -- TPPE 0

Hand-traced 2 x 2 example (M = N = 2, K = 1 chunk, memory.ideal, c0 = 2, laggy hidden, matches [[1, 0], [2, 1]]): at 0
the fetcher takes a credit and streams fiber 0, the TPPEs load their bitmasks; at 1 the broadcaster has its token and
reads; at 2 the chunk is broadcast, both TPPEs join column 0 in max(2 + 1, 2 + 2) = 4 cycles, to 6; column 1 in
max(2 + 0, 2 + 1) = 3, to 9. Row 1's last match is pushed in cycle 8 (p = 6 + 2), its offsets are ready at 6 + 8 = 14,
it is corrected in cycle 14, so the sum is ready at 15; subtract 1, P-LIF 1, compressor 8: 25; the output line is
written in 1: the layer ends in cycle 26.

Sources are in ``hwconfigs/loas.yaml``; deviations from the paper in DEVIATIONS.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.accelerators.base import Accelerator, EngineName, SpikingLayer
from archsim.compress.bitmask import CHUNK_BITS, chunks_of, popcount
from archsim.engine.outcome import BUSY, IDLE, STALL, Outcome
from archsim.engine.result import LayerResult, Traffic, UnitTime
from archsim.hardware import operation as op
from archsim.hardware.compute import accumulator
from archsim.hardware.compute.inner_join import LAGGY_MODES, correct, join_cycles, laggy_cycles
from archsim.hardware.compute.lif import fire
from archsim.hardware.inventory import Component
from archsim.hardware.loading import Block
from archsim.hardware.memory.system import MemoryConfig
from archsim.hardware.operation import (
    BARRIER,
    CACHED_READ,
    COMPUTE,
    DONE,
    END,
    HEADER,
    PAUSE,
    POP,
    POP_COUNT,
    PREFETCH,
    PUSH,
    PUSH_COUNT,
    REQUEST_FIELDS,
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
from archsim.trace import Trace

CHUNK_BYTES = CHUNK_BITS // 8

# --- Configuration ----------------------------------------------------------------------------------------------------


class PeConfig(Block):
    """Temporal-parallel processing elements (TPPEs)."""

    count: int = Field(ge=1, le=1024, description="TPPEs; each has its own row of A and its own P-LIF")
    chunk_overhead_cycles: int = Field(
        ge=0, le=64, description="cycles of a chunk pair beside one per match; 0: max(1, matches)"
    )
    laggy: Literal["hidden", "literal", "early_stop"] = Field(
        description="how long the laggy prefix-sum occupies the unit"
    )
    laggy_adders: int = Field(
        ge=1, le=128, description="adders of the laggy prefix-sum; a pass takes 128 / adders cycles"
    )
    fifo_depth: int = Field(ge=1, le=1024, description="entries of FIFO-mp and FIFO-B")
    payload_fetch: Literal["chunk", "match"] = Field(description="packed words of A: one read a chunk, or one a match")
    fiber_b_buffers: int = Field(
        ge=1, le=64, description="fibers of B that the slowest TPPE may lag behind the broadcast"
    )
    output_buffer: int = Field(ge=1, le=1024, description="finished sums that wait for the P-LIF")
    weight_bits: int = Field(ge=2, le=16, description="bits of a weight")
    pseudo_accumulator_bits: int = Field(ge=2, le=63, description="bits of the pseudo-accumulator, sign included")
    correction_accumulator_bits: int = Field(ge=2, le=63, description="bits of a correction accumulator, sign included")
    subtract_cycles: int = Field(ge=1, le=64, description="cycles to subtract the corrections at the end of a neuron")


class PLifConfig(Block):
    """Parallel leaky integrate-and-fire units, one a TPPE."""

    cycles: int = Field(ge=1, le=64, description="cycles of one neuron, all timesteps")


class CompressorConfig(Block):
    """Output compressors (inverted laggy prefix-sum), one a P-LIF."""

    cycles_per_chunk: int = Field(ge=1, le=1024, description="cycles to compress 128 output neurons")


class SchedulerConfig(Block):
    """Order of the work."""

    barrier: Literal["column", "chunk", "none"] = Field(description="when all TPPEs wait for the slowest")
    order: Literal["super_tile", "row_group"] = Field(
        description="rows in cache-sized tiles, or Algorithm 1 as printed"
    )
    tile_fill: float = Field(gt=0, le=1, description="share of the cache that the rows of a tile may take")
    rows: Literal["consecutive", "sorted"] = Field(
        description="which rows share a group: neighbours, or equally full ones"
    )
    prefetch_fibers: int = Field(ge=0, le=64, description="fibers of B fetched ahead of the one in use; 0: on demand")
    prefetch_groups: int = Field(
        ge=0, le=64, description="groups of rows of A fetched ahead of the one in use; 0: demand"
    )


class FormatConfig(Block):
    """Compressed fibers in memory."""

    pointer_bits: int = Field(ge=0, le=64, description="bits of a fiber's pointer to its values")
    placement: Literal["row_per_bank", "interleaved"] = Field(
        description="lines of a row of A: all in the bank of its TPPE, or over all banks"
    )


class CostConfig(Block):
    """What actions and blocks cost."""

    table: str = Field(min_length=1, max_length=4096, description="name or path of the cost table")


class LoasConfig(Block):
    """A LoAS machine."""

    accelerator: Literal["loas"] = Field(description="which machine this file describes")
    description: str = Field(max_length=500, description="one line for lists and reports")
    clock_mhz: float = Field(gt=0, le=100_000, description="base clock")
    technology_nm: int = Field(ge=1, le=1000, description="technology node of energy and area")
    timesteps: int = Field(ge=1, le=16, description="timesteps computed in parallel: correction accumulators of a TPPE")
    pe: PeConfig = Field(description="processing elements")
    p_lif: PLifConfig = Field(description="neuron units")
    compressor: CompressorConfig = Field(description="output compressors")
    scheduler: SchedulerConfig = Field(description="order of the work")
    format: FormatConfig = Field(description="compressed fibers")
    memory: MemoryConfig = Field(description="cache and DRAM")
    cost: CostConfig = Field(description="prices")


# --- What the kernels see ---------------------------------------------------------------------------------------------

# Tensors of the traffic table, values behind their bitmasks ("format"). A streamed line with both counts as bitmask.
INPUT_FORMAT, INPUT, WEIGHT_FORMAT, WEIGHT, OUTPUT_FORMAT, OUTPUT = range(6)
TENSORS = ("input_format", "input", "weight_format", "weight", "output_format", "output")

# Actions that the agents count.
JOINS, MATCHES, LAGGY_BUSY, NEURONS, ENCODED_CHUNKS, STEPS, BROADCAST_BEATS = range(7)
ACTIONS = 7

BARRIERS = {"none": 0, "column": 1, "chunk": 2}
PER_COLUMN, PER_CHUNK = 1, 2
ARRAY_BARRIER = 0


class Spec(NamedTuple):
    """The machine and the layer's sizes as integers: ``groups`` of ``pes`` rows, ``tile`` groups in a tile."""

    pes: int
    m: int
    n: int
    chunks: int
    groups: int
    tile: int
    timesteps: int
    weight_bits: int
    overhead: int
    laggy: int
    adders: int
    depth: int
    word_reads: int
    barrier: int
    subtract: int
    lif: int
    compress: int
    refetch: int
    line_bytes: int
    line_shift: int
    beat_shift: int
    fetch_lines: int
    pointer_bytes: int
    output_mask_bytes: int
    a_stride: int
    fiber_port: int
    credit_port: int
    row_port: int
    row_credits: int


class Operands(NamedTuple):
    """Compressed operands (:mod:`archsim.compress`) and where they are in memory.

    A row's or column's fiber begins in line ``a_line``, ``b_line`` or ``output_line`` of it and is ``..._bytes`` long.
    """

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


# FIFOs, in the order of the topology; sums have one FIFO a TPPE, from SUMS on.
CHUNKS, FIBERS, CREDITS, SUMS = range(4)

# --- Agents -----------------------------------------------------------------------------------------------------------

# An agent's state: its place in the loop nest, what it does next, and, for a TPPE, the FIFO of the inner join.
TILE, COLUMN, GROUP, CHUNK, PHASE, PENDING, PAYLOADS, JOIN_FIFO = range(8)
LOAD, JOIN, SETTLE = range(3)
READ, COMMIT, WRITE = range(3)


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
def request_bitmask(spec: Spec, x: Operands, o: Any, agent: int, row: int, chunk: int, epoch: int) -> None:
    """Read one chunk of bm-A."""
    first = chunk * CHUNK_BYTES
    add_range(
        o, agent, x.a_line[row], spec.a_stride, first, first + CHUNK_BYTES, spec.line_shift, spec.beat_shift,
        CACHED_READ, INPUT_FORMAT, epoch,
    )  # fmt: skip


@inlined
def request_words(spec: Spec, x: Operands, o: Any, agent: int, row: int, chunk: int, matches: int, epoch: int) -> int:
    """Read the packed words of one chunk of A, or those of its matches; returns the number of requests."""
    values = spec.chunks * CHUNK_BYTES + spec.pointer_bytes
    first = values + ((x.a_start[row, chunk] - x.a_start[row, 0]) * spec.timesteps >> 3)
    end = values + ((x.a_start[row, chunk + 1] - x.a_start[row, 0]) * spec.timesteps + 7 >> 3)
    lines = add_range(
        o, agent, x.a_line[row], spec.a_stride, first, end, spec.line_shift, spec.beat_shift, CACHED_READ, INPUT, epoch
    )
    if spec.word_reads:
        # One access a match; the matches are spread over the lines that the chunk's words lie in.
        for i in range(lines):
            share = matches // lines + (1 if i < matches % lines else 0)
            field = HEADER + i * REQUEST_FIELDS
            o[agent, field + op.BEATS] = max(1, share)
            o[agent, field + op.BYTES] = -(-share * spec.timesteps // 8)
    return lines


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
def tppe(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """One row of A against the broadcast fibers of B, chunk by chunk; the bitmask of the next join is read ahead."""
    tile, column, group, chunk = state[agent, TILE], state[agent, COLUMN], state[agent, GROUP], state[agent, CHUNK]
    if tile == spec.groups:
        o[agent, END] = 1
        return
    row = group * spec.pes + agent
    has_row = row < spec.m
    if state[agent, PHASE] == LOAD:
        request_bitmask(spec, x, o, agent, row, 0, tile)
        state[agent, PHASE] = JOIN
        return
    if state[agent, PHASE] == SETTLE:
        matches = state[agent, PENDING]
        if matches > 0:
            # The FIFO's share of the join that has just ended: it may have held up the last pushes.
            state[agent, PENDING] = 0
            start = o[agent, START]
            ready = start + -(-CHUNK_BITS // spec.adders)
            for i in range(state[agent, PAYLOADS]):
                ready = max(ready, o[agent, HEADER + i * REQUEST_FIELDS + DONE])
            pushed = correct(state, agent, JOIN_FIFO, spec.depth, start + spec.overhead, matches, ready)
            if pushed > now:
                o[agent, PAUSE] = pushed - now
                return
        state[agent, PHASE] = JOIN
        if chunk + 1 < spec.chunks:
            chunk += 1
            state[agent, CHUNK] = chunk
        else:
            if has_row:
                o[agent, PUSH] = SUMS + agent
                o[agent, PUSH_COUNT] = 1
                o[agent, VALUE_OUT] = max(now, state[agent, JOIN_FIFO + 1] + 1)
            if spec.barrier == PER_COLUMN:
                o[agent, BARRIER] = ARRAY_BARRIER
            state[agent, TILE], state[agent, COLUMN], state[agent, GROUP] = next_step(spec, tile, column, group)
            state[agent, CHUNK] = 0
            return
    o[agent, POP] = agent
    o[agent, POP_COUNT] = 1
    state[agent, PHASE] = SETTLE
    if spec.barrier == PER_CHUNK:
        o[agent, BARRIER] = ARRAY_BARRIER
    if has_row:
        low = x.a_mask[row, 2 * chunk] & x.b_mask[column, 2 * chunk]
        high = x.a_mask[row, 2 * chunk + 1] & x.b_mask[column, 2 * chunk + 1]
        matches = popcount(low) + popcount(high)
        laggy = 0
        state[agent, PENDING] = matches
        if matches > 0:
            laggy = laggy_cycles(spec.laggy, spec.adders, low, high)
            state[agent, PAYLOADS] = request_words(spec, x, o, agent, row, chunk, matches, tile)
            counts[agent, MATCHES] += matches
            counts[agent, LAGGY_BUSY] += laggy
        counts[agent, JOINS] += 1
        if agent == 0 and column == 0 and chunk == 0 and spec.row_credits >= 0:
            o[agent, PUSH] = spec.row_credits
            o[agent, PUSH_COUNT] = 1
        o[agent, COMPUTE] = join_cycles(spec.overhead, matches, spec.laggy, laggy)
    if chunk + 1 < spec.chunks:
        if has_row:
            request_bitmask(spec, x, o, agent, row, chunk + 1, tile)
    else:
        tile, column, group = next_step(spec, tile, column, group)
        row = group * spec.pes + agent
        if tile < spec.groups and row < spec.m:
            request_bitmask(spec, x, o, agent, row, 0, tile)


@inlined
def p_lif(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Fire the neurons of one TPPE, compress 128 of them at a time, write a row when it is complete."""
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
            o[agent, POP] = spec.credit_port + 1 + pe
            o[agent, POP_COUNT] = 1
        return
    if state[agent, PHASE] == COMMIT:
        if row < spec.m:
            o[agent, PAUSE] = max(0, o[agent, VALUE] - now)
            o[agent, COMPUTE] = spec.subtract + spec.lif
            counts[agent, NEURONS] += 1
            if last_column or (column + 1) % CHUNK_BITS == 0:
                o[agent, COMPUTE] += spec.compress
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
    state[agent, PHASE] = READ
    state[agent, TILE], state[agent, COLUMN], state[agent, GROUP] = next_step(spec, tile, column, group)


@inlined
def visits(spec: Spec, tile: int, group: int) -> bool:
    """Whether a fiber of B is fetched anew for this group: for the first of a tile, or for all if two do not fit."""
    return group == tile or spec.refetch == 1


@inlined
def fetcher(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Stream fibers of B from DRAM into the cache, as far ahead as there are credits."""
    tile, column, group = state[agent, TILE], state[agent, COLUMN], state[agent, GROUP]
    while tile < spec.groups and not visits(spec, tile, group):
        tile, column, group = next_step(spec, tile, column, group)
    if tile == spec.groups:
        o[agent, END] = 1
        return
    done = state[agent, CHUNK]
    if done == 0:
        o[agent, POP] = spec.credit_port
        o[agent, POP_COUNT] = 1
    end = min(x.b_bytes[column], done + spec.fetch_lines * spec.line_bytes)
    stream(spec, o, agent, x.b_line[column], done, end, spec.chunks * CHUNK_BYTES, STREAM_READ, WEIGHT_FORMAT)
    state[agent, CHUNK] = end
    if end == x.b_bytes[column]:
        o[agent, PUSH] = FIBERS
        o[agent, PUSH_COUNT] = 1
        state[agent, CHUNK] = 0
        tile, column, group = next_step(spec, tile, column, group)
    state[agent, TILE], state[agent, COLUMN], state[agent, GROUP] = tile, column, group


@inlined
def broadcaster(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Read the fiber of B from the cache, one line of bitmask and its values at a time, and broadcast its chunks."""
    tile, column, group, chunk = state[agent, TILE], state[agent, COLUMN], state[agent, GROUP], state[agent, CHUNK]
    if chunk == spec.chunks:
        state[agent, CHUNK] = 0
        following, _, next_group = next_step(spec, tile, column, group)
        state[agent, TILE], state[agent, COLUMN], state[agent, GROUP] = next_step(spec, tile, column, group)
        if following == spec.groups or visits(spec, following, next_group):
            o[agent, PUSH] = CREDITS
            o[agent, PUSH_COUNT] = 1
            return
        tile, column, group, chunk = state[agent, TILE], state[agent, COLUMN], state[agent, GROUP], 0
    if tile == spec.groups:
        o[agent, END] = 1
        return
    if chunk == 0:
        counts[agent, STEPS] += 1
        if visits(spec, tile, group):
            o[agent, POP] = spec.fiber_port
            o[agent, POP_COUNT] = 1
    end = min(spec.chunks, chunk + max(1, spec.line_bytes // CHUNK_BYTES))
    values = spec.chunks * CHUNK_BYTES + spec.pointer_bytes
    start = x.b_start[column, 0]
    first_value = values + ((x.b_start[column, chunk] - start) * spec.weight_bits >> 3)
    end_value = values + ((x.b_start[column, end] - start) * spec.weight_bits + 7 >> 3)
    size, beat = spec.line_shift, spec.beat_shift
    first_bit, end_bit = chunk * CHUNK_BYTES, end * CHUNK_BYTES
    add_range(o, agent, x.b_line[column], 1, first_bit, end_bit, size, beat, RESIDENT_READ, WEIGHT_FORMAT, 0)
    add_range(o, agent, x.b_line[column], 1, first_value, end_value, size, beat, RESIDENT_READ, WEIGHT, 0)
    counts[agent, BROADCAST_BEATS] += -((first_bit - end_bit) >> beat) - ((first_value - end_value) >> beat)
    o[agent, PUSH] = CHUNKS
    o[agent, PUSH_COUNT] = end - chunk
    state[agent, CHUNK] = end


@inlined
def row_fetcher(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Bring rows into the cache before the TPPEs need them, as many groups ahead as there are credits."""
    group, row, first = state[agent, GROUP], state[agent, COLUMN], state[agent, CHUNK]
    if group == spec.groups or spec.row_credits < 0:
        o[agent, END] = 1
        return
    if row == 0 and first == 0:
        o[agent, POP] = spec.row_port
        o[agent, POP_COUNT] = 1
    for _ in range(spec.fetch_lines):
        m = group * spec.pes + row
        line = x.a_line[m] + (first >> spec.line_shift) * spec.a_stride
        tensor = INPUT_FORMAT if first < spec.chunks * CHUNK_BYTES else INPUT
        add_request(o, agent, line, 1, 0, PREFETCH, tensor, group // spec.tile * spec.tile)
        first += spec.line_bytes
        if first >= x.a_bytes[m]:
            first = 0
            row += 1
            if row == spec.pes or group * spec.pes + row == spec.m:
                row = 0
                group += 1
                break
    state[agent, GROUP], state[agent, COLUMN], state[agent, CHUNK] = group, row, first


@kernel
def step(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The next operation of any agent; see :mod:`archsim.hardware.operation`."""
    if agent < spec.pes:
        tppe(agent, now, spec, state, x, o, counts)
    elif agent < 2 * spec.pes:
        p_lif(agent, now, spec, state, x, o, counts)
    elif agent == 2 * spec.pes:
        fetcher(agent, now, spec, state, x, o, counts)
    elif agent == 2 * spec.pes + 1:
        broadcaster(agent, now, spec, state, x, o, counts)
    else:
        row_fetcher(agent, now, spec, state, x, o, counts)


# --- The machine ------------------------------------------------------------------------------------------------------


def _lines(sizes: NDArray[np.int64], line_bytes: int, base: int) -> tuple[NDArray[np.int64], int]:
    """First lines of fibers of ``sizes`` bytes, one behind the other from line ``base`` on; the first free line."""
    ends = base + np.cumsum(-(-sizes // line_bytes))
    return np.concatenate(([base], ends[:-1])), int(ends[-1])


def _lines_by_bank(sizes: NDArray[np.int64], line_bytes: int, banks: int) -> tuple[NDArray[np.int64], int]:
    """The same with row m in bank ``m mod banks``, its lines ``banks`` apart; banks fill at their own pace."""
    lines = -(-sizes // line_bytes)
    first = np.empty(len(sizes), np.int64)
    depth = 0
    for bank in range(min(banks, len(sizes))):
        ends = np.cumsum(lines[bank::banks])
        first[bank::banks] = (ends - lines[bank::banks]) * banks + bank
        depth = max(depth, int(ends[-1]))
    return first, depth * banks


class LoAS(Accelerator):
    """LoAS (MICRO 2024): fully temporal-parallel dataflow, inner product, sixteen TPPEs."""

    name: ClassVar[str] = "loas"
    Config: ClassVar[type[Block]] = LoasConfig
    config: LoasConfig

    @property
    def clock_mhz(self) -> float:
        """Base clock."""
        return self.config.clock_mhz

    @property
    def cost_table(self) -> str:
        """Name or path of the cost table."""
        return self.config.cost.table

    def inventory(self) -> Sequence[Component]:
        """Blocks of Table IV and the memories, switches and wires around them."""
        config = self.config
        cache, pes = config.memory.cache, config.pe.count
        bank: dict[str, int | float | str] = {
            "capacity_bytes": cache.size_kib * 1024 // cache.banks,
            "width_bits": cache.width_bits,
            "ports": "1rw",
        }
        entry_bits = config.pe.weight_bits + (CHUNK_BITS - 1).bit_length()
        ports = {"ports_in": pes, "ports_out": cache.banks, "width_bits": cache.width_bits}
        return (
            Component(
                "tppe", "logic", pes, {"block": "tppe", "timesteps": config.timesteps, "fifo_entry_bits": entry_bits}
            ),
            Component("p_lif", "logic", pes, {"block": "p_lif", "timesteps": config.timesteps}),
            Component("compressor", "logic", 1, {"block": "compressor"}),
            Component("scheduler", "logic", 1, {"block": "scheduler"}),
            Component("cache_data", "cache", cache.banks, bank),
            Component("cache_tag", "cache_tag", cache.banks, {**bank, "ways": cache.ways}),
            Component("crossbar_switch", "switch", 2, ports),
            Component("broadcast", "broadcast", 1, {"receivers": pes, "width_bits": cache.width_bits}),
            Component("others", "logic", 1, {"block": "others", "pes": pes, "banks": cache.banks}),
            Component("dram", "dram", 1, {}),
        )

    def problems(self, trace: Trace) -> Sequence[str]:
        """A trace may not have more timesteps than the TPPEs have correction accumulators, nor wider weights."""
        found = []
        if trace.timesteps > self.config.timesteps:
            found.append(
                f"timesteps: the trace has {trace.timesteps}, the machine's TPPEs have {self.config.timesteps}; "
                f"--set timesteps={trace.timesteps} builds a machine that can"
            )
        widest = max((o.weight_bits for o in trace.operations if o.op in ("conv2d", "linear")), default=0)
        if widest > self.config.pe.weight_bits:
            found.append(
                f"pe.weight_bits: the trace has weights of {widest} bits, the machine {self.config.pe.weight_bits}; "
                f"--set pe.weight_bits={widest} builds a machine that can"
            )
        return found

    def run_layer(self, layer: SpikingLayer, engine: EngineName, *, verify: bool, record: bool) -> LayerResult:
        """Compute the layer's outputs as the machine does, then simulate when it does so."""
        outputs, output_bytes, events, mismatches = self._compute(layer, verify)
        spec, operands = self._lay_out(layer, output_bytes, has_bitmask=layer.neuron is not None or outputs is None)
        memory = self.config.memory.resolve(self.clock_mhz)
        ports = spec.pes
        fetched = self.config.scheduler.prefetch_fibers + 1
        ahead = self.config.scheduler.prefetch_groups + 1
        most_words = -(-(CHUNK_BITS * spec.timesteps) // 8)
        most_values = -(-spec.line_bytes // CHUNK_BYTES) * CHUNK_BITS * spec.weight_bits // 8
        topology = op.topology(
            [1 + most_words // spec.line_bytes + 2] * ports
            + [spec.fetch_lines] * ports
            + [spec.fetch_lines, 1 + most_values // spec.line_bytes + 2, spec.fetch_lines],
            [
                (self.config.pe.fiber_b_buffers * spec.chunks, 0, ports),
                (fetched, 0, 1),
                (fetched, fetched, 1),
                *[(self.config.pe.output_buffer, 0, 1)] * ports,
                (spec.groups + ahead, ahead, 1),
            ],
            [ports],
        )
        agents = len(topology.request_slots)
        state = np.zeros((agents, JOIN_FIFO + 2 + spec.depth), np.int64)
        counts = np.zeros((agents, ACTIONS), np.int64)
        started = perf_counter()
        simulate = _engine(engine)
        outcome = simulate(step, spec, operands, topology, memory, state, counts, len(TENSORS), record)
        wall = perf_counter() - started
        return self._result(layer, spec, outcome, events, mismatches, wall)

    def _compute(
        self, layer: SpikingLayer, verify: bool
    ) -> tuple[NDArray[np.uint16] | None, NDArray[np.int64], dict[str, int], int | None]:
        """Output words, bytes of every output row, events of the accumulators, mismatches with the trace.

        Rows are computed in blocks, so that no full sums of a whole layer are held. A layer without neurons and without
        a stored output (spikes recorded elsewhere) has no known output; its rows count as fully dense, an upper bound.
        """
        events = np.zeros(accumulator.EVENTS, np.int64)
        has_neuron, known = layer.neuron is not None, layer.expected is not None
        words = np.zeros((layer.m, layer.n), np.uint16)
        mismatches = 0
        block = max(1, 2**20 // (layer.n * layer.timesteps))
        for first in range(0, layer.m, block):
            rows = min(block, layer.m - first)
            sums = np.empty((rows, layer.n, layer.timesteps), np.int64)
            accumulator.accumulate(
                layer.spikes, layer.weights, layer.timesteps, self.config.pe.pseudo_accumulator_bits,
                self.config.pe.correction_accumulator_bits, first, sums, events,
            )  # fmt: skip
            if layer.neuron is not None:
                neuron = layer.neuron
                fire(
                    sums, layer.bias, np.ascontiguousarray(neuron.threshold, np.int64), neuron.fraction_bits,
                    neuron.leak_shift, neuron.reset == "soft", neuron.mask_fire_once, words[first : first + rows],
                )  # fmt: skip
                got: NDArray[Any] = words[first : first + rows]
            else:
                got = sums + layer.bias[:, None]
            if verify and layer.expected is not None:
                mismatches += int((got != layer.expected[first : first + rows]).sum())
        mask_bytes = chunks_of(layer.n) * CHUNK_BYTES + -(-self.config.format.pointer_bits // 8)
        if has_neuron:
            fired = np.count_nonzero(words, axis=1)
            output_bytes = mask_bytes + -(-fired * layer.timesteps // 8)
        elif known:
            # The read-out's full sums leave in whole bytes.
            sum_bytes = -(-self.config.pe.pseudo_accumulator_bits // 8)
            output_bytes = np.full(layer.m, layer.n * layer.timesteps * sum_bytes)
        else:
            output_bytes = np.full(layer.m, mask_bytes + -(-layer.n * layer.timesteps // 8))
        named = {
            "correction_additions": int(events[accumulator.CORRECTIONS]),
            "discarded_words": int(events[accumulator.DISCARDS]),
            "pseudo_accumulator_overflows": int(events[accumulator.PSEUDO_OVERFLOWS]),
            "correction_accumulator_overflows": int(events[accumulator.CORRECTION_OVERFLOWS]),
            "output_is_upper_bound": int(not has_neuron and not known),
        }
        return (
            words if has_neuron else None,
            output_bytes.astype(np.int64),
            named,
            mismatches if verify and known else None,
        )

    def _lay_out(
        self, layer: SpikingLayer, output_bytes: NDArray[np.int64], has_bitmask: bool
    ) -> tuple[Spec, Operands]:
        """Place A, B and the output in memory one after the other and resolve the machine to integers."""
        config = self.config
        cache = config.memory.cache
        chunks = chunks_of(layer.k)
        pointer = -(-config.format.pointer_bits // 8)
        a_mask, a_start = layer.spikes.mask, layer.spikes.start
        if config.scheduler.rows == "sorted":
            order = np.argsort(a_start[:, 0] - a_start[:, -1], kind="stable")
            a_mask, a_start, output_bytes = a_mask[order], a_start[order], output_bytes[order]
        row_bytes = chunks * CHUNK_BYTES + pointer + -(-(a_start[:, -1] - a_start[:, 0]) * layer.timesteps // 8)
        b_start = layer.weights.start
        fiber_bytes = chunks * CHUNK_BYTES + pointer + -(-(b_start[:, -1] - b_start[:, 0]) * config.pe.weight_bits // 8)
        by_bank = config.format.placement == "row_per_bank"
        if by_bank:
            a_line, free = _lines_by_bank(row_bytes, cache.line_bytes, cache.banks)
        else:
            a_line, free = _lines(row_bytes, cache.line_bytes, 0)
        b_line, free = _lines(fiber_bytes, cache.line_bytes, free)
        output_line, _ = _lines(output_bytes, cache.line_bytes, free)
        pes = min(config.pe.count, layer.m)
        groups = -(-layer.m // pes)
        tile = 1
        if config.scheduler.order == "super_tile":
            row = chunks * CHUNK_BYTES + len(layer.spikes.words) * layer.timesteps / 8 / layer.m + cache.line_bytes
            tile = max(1, int(config.scheduler.tile_fill * cache.usable_bytes / (pes * row)))
        stream_bytes = cache.usable_bytes * cache.stream_ways // cache.ways
        held = int(fiber_bytes.max() + cache.line_bytes) * (config.scheduler.prefetch_fibers + 1)
        spec = Spec(
            pes=pes,
            m=layer.m,
            n=layer.n,
            chunks=chunks,
            groups=groups,
            tile=tile,
            timesteps=layer.timesteps,
            weight_bits=config.pe.weight_bits,
            overhead=config.pe.chunk_overhead_cycles,
            laggy=LAGGY_MODES[config.pe.laggy],
            adders=config.pe.laggy_adders,
            depth=config.pe.fifo_depth,
            word_reads=int(config.pe.payload_fetch == "match"),
            barrier=BARRIERS[config.scheduler.barrier],
            subtract=config.pe.subtract_cycles,
            lif=config.p_lif.cycles,
            compress=config.compressor.cycles_per_chunk,
            refetch=int(0 < stream_bytes < held),
            line_bytes=cache.line_bytes,
            line_shift=cache.line_bytes.bit_length() - 1,
            beat_shift=(cache.width_bits // 8).bit_length() - 1,
            fetch_lines=min(cache.mshrs, 16),
            pointer_bytes=pointer,
            output_mask_bytes=chunks_of(layer.n) * CHUNK_BYTES if has_bitmask else 0,
            a_stride=cache.banks if by_bank else 1,
            fiber_port=pes,
            credit_port=pes + 1,
            row_port=2 * pes + 2,
            row_credits=SUMS + pes if config.scheduler.prefetch_groups else -1,
        )
        operands = Operands(
            a_mask,
            a_start,
            a_line,
            row_bytes,
            layer.weights.mask,
            b_start,
            b_line,
            fiber_bytes,
            output_line,
            output_bytes,
        )
        return spec, operands

    def _result(
        self,
        layer: SpikingLayer,
        spec: Spec,
        outcome: Outcome,
        events: dict[str, int],
        mismatches: int | None,
        wall: float,
    ) -> LayerResult:
        config = self.config
        total = outcome.counts.sum(0)
        traffic = outcome.traffic
        line_bytes = config.memory.cache.line_bytes
        rows = []
        for name, row in zip(TENSORS, traffic, strict=True):
            rows += [
                Traffic("sram", name, "read", int(row[op.SRAM_READ_BYTES]), int(row[op.SRAM_READS])),
                Traffic("sram", name, "write", int(row[op.SRAM_WRITE_BYTES]), int(row[op.SRAM_WRITES])),
                Traffic("dram", name, "read", int(row[op.DRAM_READ_LINES]) * line_bytes, int(row[op.DRAM_READ_LINES])),
                Traffic(
                    "dram", name, "write", int(row[op.DRAM_WRITE_LINES]) * line_bytes, int(row[op.DRAM_WRITE_LINES])
                ),
            ]
        times, cycles, pes = outcome.times, outcome.cycles, spec.pes
        units = [
            UnitTime(unit, instance, int(times[agent, BUSY]), int(times[agent, STALL]), int(times[agent, IDLE]))
            for unit, first, count in (
                ("tppe", 0, pes), ("p_lif", pes, pes), ("fetcher", 2 * pes, 1), ("broadcaster", 2 * pes + 1, 1),
                ("row_fetcher", 2 * pes + 2, 1),
            )
            for instance, agent in enumerate(range(first, first + count))
        ]  # fmt: skip
        units += [
            UnitTime(unit, instance, 0, 0, cycles)
            for unit in ("tppe", "p_lif")
            for instance in range(pes, config.pe.count)
        ]
        updates = int(total[NEURONS]) * layer.timesteps if layer.neuron or layer.expected is None else 0
        matches = int(total[MATCHES])
        switched = traffic[[INPUT_FORMAT, INPUT, OUTPUT_FORMAT, OUTPUT]]
        cached = traffic[[INPUT_FORMAT, INPUT]]
        fill_beats = 0 if config.memory.ideal else config.memory.cache.resolve().fill_beats
        actions = {
            ("tppe", "join"): int(total[JOINS]),
            ("tppe", "fast_prefix"): matches,
            ("tppe", "laggy_prefix"): int(total[LAGGY_BUSY]),
            ("tppe", "pseudo_add"): matches,
            ("tppe", "correction_add"): events["correction_additions"],
            ("tppe", "fifo_push"): matches,
            ("tppe", "fifo_pop"): matches,
            ("tppe", "subtract"): int(total[NEURONS]) * layer.timesteps,
            ("p_lif", "update"): updates,
            ("compressor", "encode"): int(total[ENCODED_CHUNKS]),
            ("scheduler", "step"): int(total[STEPS]),
            ("cache_data", "read"): int(traffic[:, op.SRAM_READS].sum()),
            ("cache_data", "write"): int(traffic[:, op.SRAM_WRITES].sum()),
            ("cache_tag", "lookup"): int(cached[:, [op.HITS, op.MISSES, op.MERGED_MISSES]].sum()),
            # Fills come from the DRAM side, not through the processing elements' switch.
            ("crossbar_switch", "transfer"): int(
                switched[:, [op.SRAM_READS, op.SRAM_WRITES]].sum() - switched[:, op.DRAM_READ_LINES].sum() * fill_beats
            ),
            ("broadcast", "transfer"): int(total[BROADCAST_BEATS]),
            ("dram", "read_bits"): int(traffic[:, op.DRAM_READ_LINES].sum()) * line_bytes * 8,
            ("dram", "write_bits"): int(traffic[:, op.DRAM_WRITE_LINES].sum()) * line_bytes * 8,
        }
        busiest = int(times[:pes, BUSY].max())
        return LayerResult(
            layer=layer.name,
            op=layer.op,
            m=layer.m,
            n=layer.n,
            k=layer.k,
            timesteps=layer.timesteps,
            cycles=cycles,
            compute_cycles=busiest,
            stall_cycles=cycles - busiest,
            utilization=float(times[:pes, BUSY].sum() / (cycles * config.pe.count)),
            matches=matches,
            actions=actions,
            traffic=tuple(rows),
            units=tuple(units),
            lower_bound_cycles=self._lower_bound(layer, spec, matches),
            compulsory_read_bytes=0 if config.memory.ideal else _compulsory_bytes(layer, spec),
            mismatches=mismatches,
            engine_wall_s=wall,
            events={
                **events,
                "hits": int(traffic[:, op.HITS].sum()),
                "misses": int(traffic[:, op.MISSES].sum()),
                "merged_misses": int(traffic[:, op.MERGED_MISSES].sum()),
                "bank_wait_cycles": int(traffic[:, op.BANK_WAIT_CYCLES].sum()),
                "dram_row_misses": outcome.row_misses,
            },
            completions=outcome.completions if len(outcome.completions) else None,
        )

    def _lower_bound(self, layer: SpikingLayer, spec: Spec, matches: int) -> int:
        """Cycles that no schedule can beat: all joins spread evenly; all fibers of B and A once over DRAM."""
        joins = layer.m * layer.n * spec.chunks
        work = max(joins * max(1, spec.overhead), joins * spec.overhead + matches)
        bound = -(-work // self.config.pe.count)
        if not self.config.memory.ideal:
            dram = self.config.memory.resolve(self.clock_mhz).dram
            lines = _compulsory_bytes(layer, spec) // spec.line_bytes
            bound = max(bound, lines * dram.units_per_line // (dram.units_per_cycle * dram.channels))
        return bound


def _compulsory_bytes(layer: SpikingLayer, spec: Spec) -> int:
    """Every fiber of B and every bitmask of A must be read once; words of A only where something matches."""
    bitmasks = (layer.m + layer.n) * spec.chunks * CHUNK_BYTES
    return bitmasks + len(layer.weights.values) * spec.weight_bits // 8


def _engine(name: EngineName) -> Any:
    if name == "reference":
        from archsim.engine import reference

        return reference.simulate
    from archsim.engine import compiled

    return compiled.simulate
