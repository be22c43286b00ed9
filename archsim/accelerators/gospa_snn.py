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
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.compress.bitmask import CHUNK_BITS
from archsim.compress.by_position import by_position
from archsim.dataflow.base import (
    Accelerator,
    EngineName,
    Layer,
    MachineConfig,
    Program,
    ScheduledLayers,
    Unit,
    memory_components,
)
from archsim.engine.compiled import run
from archsim.engine.recording import Window
from archsim.engine.result import LayerResult, Traffic
from archsim.hardware import operation as op
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.memory import placement
from archsim.hardware.operation import (
    BARRIER,
    CACHED_READ,
    COMPUTE,
    END,
    OWN_PATH,
    PAUSE,
    POP,
    POP_COUNT,
    PREFETCH,
    PUSH,
    PUSH_COUNT,
    REQUESTS,
    RESIDENT_READ,
    RESIDENT_WRITE,
    STREAM_READ,
    STREAM_WRITE,
    add_range,
    add_request,
)
from archsim.jit import inlined, kernel, njit

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


# --- What the kernels see ---------------------------------------------------------------------------------------------

# Tensors of the traffic table.
INPUT_FORMAT, WEIGHT_FORMAT, WEIGHT, PSUM, OUTPUT_FORMAT, OUTPUT = range(6)
TENSORS = ("input_format", "weight_format", "weight", "psum", "output_format", "output")

# Actions that the agents count; reads and writes are those of an element's own partial sums.
ACCUMULATIONS, SCANS, ROW_READS, PSUM_READS, PSUM_WRITES, UPDATES, STEPS, BROADCAST_BEATS = range(8)
ACTIONS = 8

KEEP, PUT_AWAY, FIRE = range(3)
"""What becomes of a tile's partial sums at the end of a step."""

FETCH_LINES = 16
MOVE_LINES = 4
"""Lines of one operation of the fetcher; of one operation on partial sums."""
PSUM_BUFFER = 8
"""Lines of partial sums an element that wait in the cache for its neuron unit."""


class Spec(NamedTuple):
    """The machine and the layer as integers; ``steps`` visits of tiles in ``blocks`` blocks.

    ``line_words`` partial sums lie in a line; ``in_cache`` 1 for partial sums in the cache.
    """

    pes: int
    k: int
    timesteps: int
    steps: int
    blocks: int
    barrier: int
    fire: int
    in_cache: int
    coordinate_bits: int
    weight_bits: int
    psum_bits: int
    line_words: int
    line_bytes: int
    line_shift: int
    beat_shift: int
    a_stride: int
    output_tensor: int
    block_port: int
    credit_port: int
    row_port: int
    psum_port: int


class Operands(NamedTuple):
    """Operands and where they are in memory; all int64.

    The spikes that element e takes in row tile r are stream ``r * pes + e``, in order of k: ``a_start``
    [streams, K + 1] of them come before k, the stream begins in line ``a_line``. ``code`` says whose partial sums they
    are, (local row * T + t) * pes + owner, from ``code_first`` of the stream on; it is empty where those lie in banks
    of their own.

    Column tile c of ``width`` columns has bitmasks of ``mask_bytes`` each from line ``mask_line`` and values from
    ``value_line`` on, ``b_start`` [tiles, K + 1] of them before k; their columns, within the tile, are ``b_column``
    from ``b_first`` on. A spike at k takes ``spike`` [tiles, K] cycles. ``row`` lists the k whose row of B is not
    empty, column tile after column tile.

    Step s works on row tile ``step_rows`` and column tile ``step_columns``, in blocks from ``step_block[s]`` on; a
    block is ``block_k`` (first, end) and ``block_row`` (first, end of ``row``). ``step_load`` 1: partial sums come from
    DRAM; ``step_end`` says what becomes of them.
    Tile ``rows * column tiles + columns`` has ``owned`` [tiles, pes] partial sums for each owner, and their lines are
    ``psum_line + i * pes + owner``. Outputs are ``output_line``, ``output_bytes`` [tiles * pes].
    """

    a_start: NDArray[np.int64]
    a_line: NDArray[np.int64]
    code: NDArray[np.int64]
    code_first: NDArray[np.int64]
    width: NDArray[np.int64]
    mask_bytes: NDArray[np.int64]
    mask_line: NDArray[np.int64]
    value_line: NDArray[np.int64]
    b_start: NDArray[np.int64]
    b_column: NDArray[np.int64]
    b_first: NDArray[np.int64]
    spike: NDArray[np.int64]
    row: NDArray[np.int64]
    step_rows: NDArray[np.int64]
    step_columns: NDArray[np.int64]
    step_load: NDArray[np.int64]
    step_end: NDArray[np.int64]
    step_block: NDArray[np.int64]
    block_k: NDArray[np.int64]
    block_row: NDArray[np.int64]
    owned: NDArray[np.int64]
    psum_line: NDArray[np.int64]
    output_line: NDArray[np.int64]
    output_bytes: NDArray[np.int64]


# FIFOs, in the order of the topology; one FIFO an element from TILES on for "tile done", then one for "ready".
BLOCKS, CREDITS, ROWS, PSUMS, TILES = range(5)

# --- Agents -----------------------------------------------------------------------------------------------------------

# An agent's state: where it is, what it does next, and how far it has come with that.
STEP, BLOCK, ROW, PHASE, PLACE, LINE, READ_TO = range(7)
STATE = 7
ENTER, LOAD, WORK, SPIKES = range(4)
FILL, WAIT, EMPTY, WRITE = range(4)
CREDIT, FETCH_PSUM, FETCH_SPIKES, FETCH_MASKS, FETCH_VALUES = range(5)


@inlined
def tile_of(x: Operands, step: int) -> int:
    """The tile of outputs that a step works on."""
    tile: int = x.step_rows[step] * len(x.mask_line) + x.step_columns[step]
    return tile


@inlined
def lines_of(spec: Spec, words: int) -> int:
    """Lines that partial sums take."""
    return (words + spec.line_words - 1) // spec.line_words


@inlined
def coordinate_bytes(spec: Spec, x: Operands, stream: int, k: int) -> int:
    """Bytes of a stream's coordinates before k."""
    found: int = (x.a_start[stream, k] * spec.coordinate_bits + 7) >> 3
    return found


@inlined
def value_bytes(spec: Spec, x: Operands, columns: int, k: int) -> int:
    """Bytes of the values of B before row k."""
    found: int = (x.b_start[columns, k] * spec.weight_bits + 7) >> 3
    return found


@inlined
def row_beats(spec: Spec, x: Operands, columns: int, k: int) -> int:
    """Beats of the bus that the bitmask and the values of row k of B take."""
    values = value_bytes(spec, x, columns, k + 1) - (x.b_start[columns, k] * spec.weight_bits >> 3)
    beats: int = -(-x.mask_bytes[columns] >> spec.beat_shift) - (-values >> spec.beat_shift)
    return beats


@inlined
def request_spikes(spec: Spec, state: Any, x: Operands, o: Any, agent: int, stream: int, k: int) -> None:
    """Read the coordinates of the element's spikes at k; what a beat holds beyond them is kept for later rows."""
    if x.a_start[stream, k] == x.a_start[stream, k + 1]:
        return
    beat = spec.beat_shift
    first = max(state[agent, READ_TO], (x.a_start[stream, k] * spec.coordinate_bits >> 3) >> beat << beat)
    end = (coordinate_bytes(spec, x, stream, k + 1) + (1 << beat) - 1) >> beat << beat
    end = min(end, coordinate_bytes(spec, x, stream, spec.k))
    if first < end:
        state[agent, READ_TO] = end
        add_range(
            o, agent, x.a_line[stream], spec.a_stride, first, end, spec.line_shift, beat, RESIDENT_READ, INPUT_FORMAT, 0
        )  # fmt: skip


@inlined
def request_psums(spec: Spec, state: Any, x: Operands, o: Any, agent: int, stream: int, tile: int, k: int) -> int:
    """Read and write partial sums of the element's spike PLACE for the non-zeros of B[k, :] from LINE on.

    As many lines as an operation carries; returns how many partial sums.
    """
    columns = tile % len(x.width)
    code = x.code[x.code_first[stream] + state[agent, PLACE]]
    first_word = code // spec.pes * x.width[columns]
    j, end = state[agent, LINE], x.b_start[columns, k + 1]
    first = j
    for _ in range(MOVE_LINES):
        line, words = -1, 0
        while j < end:
            at = (first_word + x.b_column[x.b_first[columns] + j]) // spec.line_words
            if line >= 0 and at != line:
                break
            line, words = at, words + 1
            j += 1
        if words > 0:
            address = x.psum_line[tile] + line * spec.pes + code % spec.pes
            size = (words * spec.psum_bits + 7) >> 3
            add_request(o, agent, address, words, size, RESIDENT_READ, PSUM, 0)
            add_request(o, agent, address, words, size, RESIDENT_WRITE, PSUM, 0)
    state[agent, LINE] = j
    asked: int = j - first
    return asked


@inlined
def element(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The element's spikes, row of B after row of B; the coordinates of the next row are read ahead."""
    step, block, row, phase = state[agent, STEP], state[agent, BLOCK], state[agent, ROW], state[agent, PHASE]
    if step == spec.steps:
        o[agent, END] = 1
        return
    if phase == ENTER:
        o[agent, POP] = spec.psum_port + spec.pes + spec.pes + agent
        o[agent, POP_COUNT] = 1
        state[agent, READ_TO] = 0
        state[agent, PHASE] = LOAD
        return
    if phase == LOAD and block == x.step_block[step + 1]:
        o[agent, PUSH] = TILES + agent
        o[agent, PUSH_COUNT] = 1
        state[agent, STEP] = step + 1
        state[agent, PHASE] = ENTER
        return
    tile = tile_of(x, step)
    columns = x.step_columns[step]
    stream = x.step_rows[step] * spec.pes + agent
    if phase == LOAD:
        o[agent, POP] = spec.block_port + agent
        o[agent, POP_COUNT] = 1
        state[agent, ROW] = x.block_row[block, 0]
        if x.block_row[block, 0] == x.block_row[block, 1]:
            state[agent, BLOCK] = block + 1
            return
        request_spikes(spec, state, x, o, agent, stream, x.row[x.block_row[block, 0]])
        state[agent, PHASE] = WORK
        return
    k = x.row[row]
    non_zeros = x.b_start[columns, k + 1] - x.b_start[columns, k]
    spikes = x.a_start[stream, k + 1] - x.a_start[stream, k]
    if phase == WORK:
        o[agent, POP] = spec.row_port + agent
        o[agent, POP_COUNT] = 1
        if row + 1 < x.block_row[block, 1]:
            request_spikes(spec, state, x, o, agent, stream, x.row[row + 1])
        counts[agent, SCANS] += spikes * ((x.width[columns] + CHUNK_BITS - 1) // CHUNK_BITS)
        counts[agent, ROW_READS] += spikes * row_beats(spec, x, columns, k)
        counts[agent, ACCUMULATIONS] += spikes * non_zeros
        if spec.in_cache and spikes > 0:
            state[agent, PHASE] = SPIKES
            state[agent, PLACE] = x.a_start[stream, k]
            state[agent, LINE] = x.b_start[columns, k]
            return
        o[agent, COMPUTE] = spikes * x.spike[columns, k]
        if not spec.in_cache:
            counts[agent, PSUM_READS] += spikes * non_zeros
            counts[agent, PSUM_WRITES] += spikes * non_zeros
    else:
        if state[agent, LINE] == x.b_start[columns, k]:
            o[agent, COMPUTE] = x.spike[columns, k] - non_zeros
        o[agent, COMPUTE] += request_psums(spec, state, x, o, agent, stream, tile, k)
        if state[agent, LINE] < x.b_start[columns, k + 1]:
            return
        state[agent, LINE] = x.b_start[columns, k]
        state[agent, PLACE] += 1
        if state[agent, PLACE] < x.a_start[stream, k + 1]:
            return
    if spec.barrier:
        o[agent, BARRIER] = 0
    state[agent, ROW] = row + 1
    state[agent, PHASE] = WORK
    if row + 1 == x.block_row[block, 1]:
        state[agent, BLOCK] = block + 1
        state[agent, PHASE] = LOAD


@inlined
def neuron_unit(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Bring one element's partial sums of a tile, and afterwards put them away or fire; MOVE_LINES lines at a time."""
    step, phase, line = state[agent, STEP], state[agent, PHASE], state[agent, LINE]
    if step == spec.steps:
        o[agent, END] = 1
        return
    owner = agent - spec.pes
    tile = tile_of(x, step)
    words = x.owned[tile, owner]
    if phase == WAIT:
        o[agent, POP] = spec.psum_port + spec.pes + owner
        o[agent, POP_COUNT] = 1
        state[agent, PHASE] = EMPTY
        return
    most = lines_of(spec, x.owned[tile, 0])
    moved = 0
    if (phase == FILL and x.step_load[step] and line < most) or (phase == EMPTY and x.step_end[step] != KEEP):
        end = min(line + MOVE_LINES, most if phase == FILL else lines_of(spec, words))
        moved = max(0, min(words, end * spec.line_words) - line * spec.line_words)
        state[agent, LINE] = end
        for i in range(line, end):
            here = min(words - i * spec.line_words, spec.line_words)
            if here > 0:
                size = (here * spec.psum_bits + 7) >> 3
                beats = (size + (1 << spec.beat_shift) - 1) >> spec.beat_shift
                address = x.psum_line[tile] + i * spec.pes + owner
                if spec.in_cache != (phase == FILL):
                    add_request(o, agent, address, beats, size, RESIDENT_READ, PSUM, 0)
                if phase == EMPTY and x.step_end[step] == PUT_AWAY:
                    add_request(o, agent, address, beats, size, STREAM_WRITE, PSUM, 0)
    if phase == FILL:
        if state[agent, LINE] > line:
            o[agent, POP] = spec.psum_port + owner
            o[agent, POP_COUNT] = state[agent, LINE] - line
            if not spec.in_cache:
                o[agent, PAUSE] = moved
                counts[agent, PSUM_WRITES] += moved
            return
        o[agent, PUSH] = TILES + spec.pes + owner
        o[agent, PUSH_COUNT] = 1
        state[agent, PHASE] = WAIT
        state[agent, LINE] = 0
        return
    if phase == EMPTY and moved > 0:
        if not spec.in_cache:
            counts[agent, PSUM_READS] += moved
        if x.step_end[step] == FIRE:
            o[agent, COMPUTE] = moved * spec.fire
            counts[agent, UPDATES] += moved
        elif not spec.in_cache:
            o[agent, PAUSE] = moved
        return
    output = tile * spec.pes + owner
    first = 0 if phase == EMPTY else state[agent, PLACE]
    if x.step_end[step] == FIRE and first < x.output_bytes[output]:
        end = min(x.output_bytes[output], first + MOVE_LINES * spec.line_bytes)
        add_range(
            o, agent, x.output_line[output], 1, first, end, spec.line_shift, spec.beat_shift, STREAM_WRITE,
            spec.output_tensor, 0,
        )  # fmt: skip
        state[agent, PLACE] = end
        state[agent, PHASE] = WRITE
        return
    state[agent, STEP] = step + 1
    state[agent, PHASE] = FILL
    state[agent, LINE] = 0


@inlined
def fetcher(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Bring the blocks of every step into the cache, and before the first one the partial sums put away earlier."""
    step, block = state[agent, STEP], state[agent, BLOCK]
    if step == spec.steps:
        o[agent, END] = 1
        return
    tile, columns = tile_of(x, step), x.step_columns[step]
    k, k_end = x.block_k[block, 0], x.block_k[block, 1]
    first_block = block == x.step_block[step]
    if state[agent, PHASE] == CREDIT:
        o[agent, POP] = spec.credit_port
        o[agent, POP_COUNT] = 1
        state[agent, PHASE] = FETCH_PSUM if first_block and x.step_load[step] else FETCH_SPIKES
        state[agent, PLACE], state[agent, LINE] = 0, 0
        return
    if state[agent, PHASE] == FETCH_PSUM:
        line = state[agent, LINE]
        while o[agent, REQUESTS] < FETCH_LINES and state[agent, PLACE] < spec.pes:
            here = min(x.owned[tile, state[agent, PLACE]] - line * spec.line_words, spec.line_words)
            if here > 0:
                address = x.psum_line[tile] + line * spec.pes + state[agent, PLACE]
                add_request(o, agent, address, 1, (here * spec.psum_bits + 7) >> 3, STREAM_READ, PSUM, 0)
            state[agent, PLACE] += 1
        if state[agent, PLACE] == spec.pes:
            o[agent, PUSH] = PSUMS
            o[agent, PUSH_COUNT] = 1
            state[agent, PLACE] = 0
            state[agent, LINE] = line + 1
            if line + 1 == lines_of(spec, x.owned[tile, 0]):
                state[agent, LINE] = 0
                state[agent, PHASE] = FETCH_SPIKES
        return
    if state[agent, PHASE] == FETCH_SPIKES:
        while state[agent, PLACE] < spec.pes:
            stream = x.step_rows[step] * spec.pes + state[agent, PLACE]
            # A line that the block before this one shares with it is there already.
            begin = coordinate_bytes(spec, x, stream, k) + (0 if first_block else spec.line_bytes - 1)
            size, total = coordinate_bytes(spec, x, stream, k_end), coordinate_bytes(spec, x, stream, spec.k)
            line = max(state[agent, LINE], begin >> spec.line_shift)
            while o[agent, REQUESTS] < FETCH_LINES and line << spec.line_shift < size:
                useful = min(total - (line << spec.line_shift), spec.line_bytes)
                add_request(o, agent, x.a_line[stream] + line * spec.a_stride, 1, useful, STREAM_READ, INPUT_FORMAT, 0)
                line += 1
            if line << spec.line_shift < size:
                state[agent, LINE] = line
                return
            state[agent, PLACE] += 1
            state[agent, LINE] = 0
        state[agent, PHASE] = FETCH_MASKS
        state[agent, LINE] = k * x.mask_bytes[columns] >> spec.line_shift
    if state[agent, PHASE] == FETCH_MASKS:
        line, size = state[agent, LINE], k_end * x.mask_bytes[columns]
        while o[agent, REQUESTS] < FETCH_LINES and line << spec.line_shift < size:
            add_request(o, agent, x.mask_line[columns] + line, 1, 0, PREFETCH, WEIGHT_FORMAT, block)
            line += 1
        state[agent, LINE] = line
        if line << spec.line_shift < size:
            return
        state[agent, PHASE] = FETCH_VALUES
        state[agent, LINE] = value_bytes(spec, x, columns, k) >> spec.line_shift
    line, size = state[agent, LINE], value_bytes(spec, x, columns, k_end)
    while o[agent, REQUESTS] < FETCH_LINES and line << spec.line_shift < size:
        add_request(o, agent, x.value_line[columns] + line, 1, 0, PREFETCH, WEIGHT, block)
        line += 1
    state[agent, LINE] = line
    if line << spec.line_shift < size:
        return
    o[agent, PUSH] = BLOCKS
    o[agent, PUSH_COUNT] = 1
    state[agent, PHASE] = CREDIT
    state[agent, BLOCK] = block + 1
    if block + 1 == x.step_block[step + 1]:
        state[agent, STEP] = step + 1


@inlined
def broadcaster(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Read every row of B that is not empty from the cache and broadcast it; a finished block is a credit."""
    step, block, row = state[agent, STEP], state[agent, BLOCK], state[agent, ROW]
    if block == spec.blocks:
        o[agent, END] = 1
        return
    if state[agent, PHASE] == LOAD:
        o[agent, POP] = spec.block_port + spec.pes
        o[agent, POP_COUNT] = 1
        state[agent, ROW] = x.block_row[block, 0]
        state[agent, PHASE] = WORK
        return
    if row == x.block_row[block, 1]:
        o[agent, PUSH] = CREDITS
        o[agent, PUSH_COUNT] = 1
        state[agent, PHASE] = LOAD
        state[agent, BLOCK] = block + 1
        if block + 1 == x.step_block[step + 1]:
            state[agent, STEP] = step + 1
        return
    k, columns = x.row[row], x.step_columns[step]
    size, beat = spec.line_shift, spec.beat_shift
    first_bit, end_bit = k * x.mask_bytes[columns], (k + 1) * x.mask_bytes[columns]
    first_value, end_value = x.b_start[columns, k] * spec.weight_bits >> 3, value_bytes(spec, x, columns, k + 1)
    add_range(o, agent, x.mask_line[columns], 1, first_bit, end_bit, size, beat, CACHED_READ, WEIGHT_FORMAT, block)
    add_range(o, agent, x.value_line[columns], 1, first_value, end_value, size, beat, CACHED_READ, WEIGHT, block)
    counts[agent, STEPS] += 1
    counts[agent, BROADCAST_BEATS] += row_beats(spec, x, columns, k)
    o[agent, PUSH] = ROWS
    o[agent, PUSH_COUNT] = 1
    state[agent, ROW] = row + 1


@inlined
def step(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The next operation of any agent; see :mod:`archsim.hardware.operation`."""
    if agent < spec.pes:
        element(agent, now, spec, state, x, o, counts)
    elif agent < 2 * spec.pes:
        neuron_unit(agent, now, spec, state, x, o, counts)
    elif agent == 2 * spec.pes:
        fetcher(agent, now, spec, state, x, o, counts)
    else:
        broadcaster(agent, now, spec, state, x, o, counts)


@kernel
def loop(spec: Spec, x: Operands, machine: Any) -> tuple[int, int, int]:
    """The agents in the compiled engine."""
    return run(step, spec, x, machine)


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


class GospaSnn(Accelerator):
    """GoSPA-SNN (as in LoAS, MICRO 2024): outer product, a coordinate a spike, partial sums of all timesteps."""

    name: ClassVar[str] = "gospa_snn"
    Config: ClassVar[type[MachineConfig]] = GospaSnnConfig
    tensors: ClassVar[tuple[str, ...]] = TENSORS
    actions: ClassVar[int] = ACTIONS
    step: ClassVar[Any] = step
    loop: ClassVar[Any] = loop
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

    def program(self, layer: Layer, output_bytes: NDArray[np.int64]) -> Program:
        """Deal spikes to elements, cut outputs into tiles and K into blocks, place all in memory."""
        config, cache, psum = self.config, self.config.memory.cache, self.config.psum
        round_robin, in_cache = config.scheduler.spikes == "round_robin", psum.place == "cache"
        pes = config.pe.count if round_robin else min(config.pe.count, layer.m)
        tiles = tiles_of(config, layer, pes)
        streams = streams_of(layer, tiles, pes, round_robin, in_cache)
        a_bytes = -(-streams.start * config.format.coordinate_bits // 8)

        b = by_position(layer.weights.mask, layer.weights.start, layer.weights.values, layer.k)
        across = b.fiber // tiles.columns
        k_of = np.repeat(np.arange(layer.k), np.diff(b.start))
        count = np.bincount(across * layer.k + k_of, minlength=tiles.across * layer.k).reshape(-1, layer.k)
        b_start = np.zeros((tiles.across, layer.k + 1), np.int64)
        np.cumsum(count, axis=1, out=b_start[:, 1:])
        width = np.minimum(tiles.columns, layer.n - tiles.columns * np.arange(tiles.across))
        mask_bytes: NDArray[np.int64] = -(-width // 8) + -(-config.format.pointer_bits // 8)
        chunk = across * layer.k + k_of
        per_chunk = -(-min(layer.n, tiles.columns) // CHUNK_BITS)
        in_chunk = np.bincount(
            chunk * per_chunk + b.fiber % tiles.columns // CHUNK_BITS, minlength=tiles.across * layer.k * per_chunk
        )
        walked = np.maximum(1, in_chunk + config.pe.chunk_overhead_cycles).reshape(tiles.across, layer.k, per_chunk)
        # The last tile may have fewer chunks than the others.
        walked *= np.arange(per_chunk) < -(-width // CHUNK_BITS)[:, None, None]
        value_bytes: NDArray[np.int64] = -(-b_start * config.pe.weight_bits // 8)
        per_tile: NDArray[np.int64] = a_bytes.reshape(tiles.down, pes, -1).sum(1)
        b_bytes: NDArray[np.int64] = value_bytes + np.outer(mask_bytes, np.arange(layer.k + 1))
        steps = steps_of(config, layer, tiles, per_tile[:, None] + b_bytes)
        live = [np.flatnonzero(tile) for tile in count]
        first_row = np.cumsum([0, *(len(rows) for rows in live)])
        of_block = np.repeat(steps.columns, np.diff(steps.block))
        block_row = np.array(
            [first_row[c] + np.searchsorted(live[c], ks) for c, ks in zip(of_block, steps.block_k, strict=True)]
        )

        rows_left = layer.m - tiles.rows * np.arange(tiles.down)
        owned_rows = -(-(np.minimum(tiles.rows, rows_left)[:, None] - np.arange(pes)) // pes)
        owned = np.maximum(0, owned_rows)[:, None] * (width * layer.timesteps)[None, :, None]
        owned = owned.reshape(-1, pes)
        line_words = cache.line_bytes * 8 // psum.bits
        outputs = self._tile_outputs(layer, tiles, pes, output_bytes)
        if config.format.placement == "row_per_bank":
            a = placement.by_bank(a_bytes[:, -1], cache.line_bytes, cache.banks)
        else:
            a = placement.interleaved(a_bytes[:, -1], cache.line_bytes)
        mask = placement.interleaved(mask_bytes * layer.k, cache.line_bytes, a.free)
        value = placement.interleaved(value_bytes[:, -1], cache.line_bytes, mask.free)
        psum_size = -(-owned[:, 0] // line_words) * pes * cache.line_bytes
        psums = placement.interleaved(psum_size, cache.line_bytes, -(-value.free // cache.banks) * cache.banks)
        output = placement.interleaved(outputs, cache.line_bytes, psums.free)
        fires = layer.neuron is not None or layer.expected is None
        spec = Spec(
            pes=pes,
            k=layer.k,
            timesteps=layer.timesteps,
            steps=len(steps.rows),
            blocks=len(steps.block_k),
            barrier=int(config.scheduler.barrier == "row"),
            fire=config.neuron.cycles,
            in_cache=int(in_cache),
            coordinate_bits=config.format.coordinate_bits,
            weight_bits=config.pe.weight_bits,
            psum_bits=psum.bits,
            line_words=line_words,
            line_bytes=cache.line_bytes,
            line_shift=cache.line_bytes.bit_length() - 1,
            beat_shift=(cache.width_bits // 8).bit_length() - 1,
            a_stride=a.stride,
            output_tensor=OUTPUT_FORMAT if fires else OUTPUT,
            block_port=0,
            credit_port=pes + 1,
            row_port=pes + 2,
            psum_port=2 * pes + 2,
        )
        x = Operands(
            streams.start, a.line, streams.code, streams.code_first, width, mask_bytes, mask.line, value.line, b_start,
            b.fiber[np.argsort(across, kind="stable")] % tiles.columns, np.cumsum(b_start[:, -1]) - b_start[:, -1],
            walked.sum(2) + config.pe.spike_overhead_cycles, np.concatenate(live), steps.rows, steps.columns,
            steps.load, steps.end, steps.block, steps.block_k, block_row.reshape(-1, 2), owned,
            psums.line, output.line, outputs,
        )  # fmt: skip
        units = (
            Unit("pe", 0, pes, config.pe.count),
            Unit("lif", pes, pes, config.pe.count),
            Unit("fetcher", 2 * pes, 1, 1),
            Unit("broadcaster", 2 * pes + 1, 1, 1),
        )
        return Program(spec, x, self._topology(spec, x), np.zeros((2 * pes + 2, STATE), np.int64), units)

    def _tile_outputs(self, layer: Layer, tiles: Tiles, pes: int, output_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes of output of every (tile, owner); those of a row are taken as spread evenly over its columns."""
        rows = np.zeros((tiles.down * tiles.rows, tiles.across), np.int64)
        ends = np.minimum(layer.n, tiles.columns * np.arange(1, tiles.across + 1))
        rows[: layer.m] = np.diff(output_bytes[:, None] * ends // layer.n, axis=1, prepend=0)
        by_owner: NDArray[np.int64] = rows.reshape(tiles.down, -1, pes, tiles.across).sum(1).transpose(0, 2, 1)
        return np.ascontiguousarray(by_owner).reshape(-1)

    def _topology(self, spec: Spec, x: Operands) -> op.Topology:
        """Request slots by the most that an agent asks for at once."""
        config, pes = self.config, spec.pes
        most_spikes = int(np.diff(x.a_start, axis=1).max(initial=0)) * spec.coordinate_bits // 8
        row_bytes = int(x.mask_bytes.max()) + int(np.diff(x.b_start, axis=1).max(initial=0)) * spec.weight_bits // 8
        ahead = config.scheduler.prefetch_blocks + 1
        return op.topology(
            [max(most_spikes // spec.line_bytes + 3, 2 * MOVE_LINES)] * pes
            + [2 * MOVE_LINES] * pes
            + [FETCH_LINES, row_bytes // spec.line_bytes + 4],
            [*range(pes), *range(pes), OWN_PATH, OWN_PATH],
            [
                (ahead, 0, pes + 1),
                (ahead, ahead, 1),
                (config.pe.row_buffers, 0, pes),
                (PSUM_BUFFER, 0, pes),
                *[(1, 0, 1)] * (2 * pes),
            ],
            [pes],
        )

    def run_layer(self, layer: Layer, engine: EngineName, *, verify: bool, record: Window | bool) -> LayerResult:
        """As every machine; accesses to partial sums in banks of their own are added to the traffic."""
        result = super().run_layer(layer, engine, verify=verify, record=record)
        if self.config.psum.place == "cache":
            return result
        own = {direction: result.actions["psum_bank", direction] for direction in ("read", "write")}
        return replace(
            result,
            traffic=tuple(
                Traffic("sram", "psum", row.direction, row.bytes + own[row.direction] * self.config.psum.bits // 8,
                        row.accesses + own[row.direction])
                if (row.level, row.tensor) == ("sram", "psum") else row
                for row in result.traffic
            ),
        )  # fmt: skip

    def count_actions(
        self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """A spike walks the bitmask of a row of B, 128 columns at a time; every non-zero in it is added.

        The row is written into the buffers of all elements, and read again for each spike.
        """
        fires = layer.neuron is not None or layer.expected is None
        banks = self.config.psum.place == "own_banks"
        return {
            ("pe", "scan"): int(counts[SCANS]),
            ("row_buffer", "write"): int(counts[BROADCAST_BEATS]) * self.config.pe.count,
            ("row_buffer", "read"): int(counts[ROW_READS]),
            ("pe", "add"): int(counts[ACCUMULATIONS]),
            ("lif", "update"): int(counts[UPDATES]) if fires else 0,
            **({("psum_bank", "read"): int(counts[PSUM_READS]), ("psum_bank", "write"): int(counts[PSUM_WRITES])}
               if banks else {}),
            ("scheduler", "step"): int(counts[STEPS]),
            ("broadcast", "transfer"): int(counts[BROADCAST_BEATS]),
        }  # fmt: skip

    @property
    def processing_elements(self) -> int:
        """Elements; one works while it walks through the row of B for a spike."""
        return self.config.pe.count

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Accumulations: a spike and a non-zero weight."""
        return int(counts[ACCUMULATIONS])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """All spikes spread evenly over the processing elements, those at an empty row of B left out."""
        x = program.operands
        spikes = np.diff(x.a_start, axis=1).sum(0)
        work = int((spikes * np.where(np.diff(x.b_start, axis=1) > 0, x.spike, 0)).sum())
        return -(-work // self.config.pe.count)

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """All coordinates and all of B."""
        spec, x = program.spec, program.operands
        coordinates: int = x.a_start[:, -1].sum() * spec.coordinate_bits // 8
        b: int = x.mask_bytes.sum() * layer.k + x.b_start[:, -1].sum() * spec.weight_bits // 8
        return int(coordinates + b)
