"""An output-stationary array whose processing elements hold the sums of several timesteps, fed from buffers.

A layer, or a stage of one, is a matrix product of *rows* (R of them in the array at a time), *columns* (C) and a common
index k that is summed over. In a *step* every row gets its elements of one k for a *span* of timesteps, every column
its operand of that k, which stays in the scratchpad while the timesteps pass, one a cycle. What a processing element
does in a cycle depends on a bit of its row's element, and of its column's where that has one: the pair (k, t) is *live*
where both are set. Loops:

    for tile of column groups:            their operand is in the columns' buffer
        for tile of row groups:           their operand is in the rows' buffer
            for C columns in the tile:
                for R rows in the tile:
                    for span of timesteps:     as many as the scratchpads hold; the columns' operand is read again
                        fold                   all k; neurons take the sums

A *half* is the part of a fold that one half of the scratchpads holds: ``steps`` k's. With *gating* it takes a cycle for
every pair (k, t), with *skipping* one for every pair in which any row and any column is live, at least one, in which
the scratchpads are looked through. A fold ends with R + C - 2 cycles of skew; folds do not overlap. So with ideal
memory, where the first half is there in cycle 1, and S = span of timesteps,

    gating:  cycles = 1 + folds x (K S + R + C - 2) + S neuron.cycles + 1        (the last neurons, their write)

An operand tile is fetched line by line into one half of its buffer while the other half is in use. The rows' operand is
stored once, not unrolled: rows and steps have coordinates whose sum is an address (:class:`Map`). Rows that are
neighbours there share an access of the buffer; steps do not. The columns' operand lies in the order in which it enters.
Where that of C columns is larger than half a buffer, it comes in pieces, anew for every fold.

Agents: the array; the feeder, which fills the scratchpads from both buffers; a fetcher for each buffer; the neurons,
which take the sums of a fold, read and write potentials where these are kept outside, and write the output. FIFOs:

    fetchers -- ready --> feeder -- half --> array -- sums --> neurons
             <-- free --         <-- credit --
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.base import Program, Unit
from archsim.dataflow.folds import nest
from archsim.engine.compiled import run
from archsim.hardware import operation as op
from archsim.hardware.operation import (
    COMPUTE,
    END,
    OWN_PATH,
    POP,
    POP_COUNT,
    PUSH,
    PUSH_COUNT,
    RESIDENT_READ,
    RESIDENT_WRITE,
    STREAM_READ,
    STREAM_WRITE,
    add_range,
    add_request,
)
from archsim.jit import inlined, kernel, njit

# --- What the kernels see ---------------------------------------------------------------------------------------------

# Actions that the agents count: folds; additions; pairs (k, t) in processing elements in use; elements of rows
# (one a timestep) and operands of columns written into scratchpads; sums finished.
FOLDS_DONE, ADDS, PAIRS, ROW_ENTRIES, COLUMN_ENTRIES, SUMS_FINISHED = range(6)
ACTIONS = 6

FOLD_FIELDS = (
    FIRST_HALF, FIRST_READ, FIRST_MASK, ROW_NEW, COLUMN_NEW, ROWS, COLUMNS, TIME, SPAN, FINISHED, GROUP, ADDED
) = range(12)  # fmt: skip
"""A fold: its first rows of the tables of halves, of reads and of masks, whether its operands are in a new tile, the
rows and columns in use, its first timestep and how many, timesteps of sums that are complete behind it, the number of
its neurons' group, additions."""

HALF_FIELDS = CYCLES, LIVE, ENTERED, COLUMN_BEATS = range(4)
"""A half: its cycles, pairs (k, t) worked on, steps that enter, accesses of each bank for the columns' operand."""

READ_FIELDS = ROW_BITS, ROW_BEATS = range(2)
"""Rows' operand of a half, or the mask of an operand: bits of use, accesses of each bank."""

NO_MASK, ROWS_MASK, COLUMNS_MASK, OUTPUT_MASK = range(4)
"""What has a mask beside it in memory, a bit for each element that says whether it is zero."""


class Spec(NamedTuple):
    """The machine and the stage as integers.

    ``halves`` of a fold, of which a piece of the columns' operand has ``piece``. ``sum_bits`` are those of an output.
    Potentials of a fold, ``potential_lines``: ``outside`` between timesteps (0 no, 1 in their buffer, 2 in DRAM), read
    before the first and written behind the last one too if ``always``; ``kept`` 1 if they are written to DRAM at every
    timestep, for later. ``masked`` is what has a mask, one bit for ``mask_ratio`` of it. The traffic table has its
    ``tensors`` 1 + T times (:func:`begins_at`).
    """

    folds: int
    timesteps: int
    halves: int
    piece: int
    skew: int
    banks: int
    fire: int
    fetch_lines: int
    column_bits: int
    sum_bits: int
    outside: int
    always: int
    kept: int
    masked: int
    mask_ratio: int
    potential_bits: int
    potential_lines: int
    row_line: int
    column_line: int
    output_line: int
    potential_line: int
    mask_line: int
    row_tensor: int
    column_tensor: int
    output_tensor: int
    potential_tensor: int
    mask_tensor: int
    tensors: int
    line_shift: int
    beat_shift: int


class Operands(NamedTuple):
    """All int64: ``fold`` [folds, FOLD_FIELDS], ``half`` [.., 3 + banks], ``read`` and ``mask`` [.., 1 + banks]; tiles
    in the order in which they are fetched, [tiles, 2] of (first byte, end) in the operand; ``useful`` [R, C] additions
    of each processing element; ``added``, ``worked`` and ``entered`` [T], additions, pairs (k, t) in elements in use,
    elements of rows written into scratchpads.
    """

    fold: NDArray[np.int64]
    half: NDArray[np.int64]
    read: NDArray[np.int64]
    mask: NDArray[np.int64]
    row_tile: NDArray[np.int64]
    column_tile: NDArray[np.int64]
    useful: NDArray[np.int64]
    added: NDArray[np.int64]
    worked: NDArray[np.int64]
    entered: NDArray[np.int64]


MemoryActions = Callable[[NDArray[np.int64]], Mapping[tuple[str, str], int]]
"""Counts of memory actions, by (unit, action), of a traffic table [tensors, columns]."""

HALF, SUMS, CREDIT, ROW_READY, ROW_FREE, COLUMN_READY, COLUMN_FREE = range(7)
AGENTS = ARRAY, FEEDER, ROW_FETCHER, COLUMN_FETCHER, NEURONS = range(5)
UNITS = ("array", "feeder", "row_fetcher", "column_fetcher", "neurons")

# --- Agents -----------------------------------------------------------------------------------------------------------

# An agent's state: its fold or tile, half or timestep of it, what it does next; what it has fetched or written.
FOLD, PART, PHASE, SENT, PENDING = range(5)
STATE_COLUMNS = 5
ROW_TILE, COLUMN_TILE, STREAM = range(3)
TAKE, FETCH, READ, UPDATE, WRITE, KEEP, EMIT, FLUSH = range(8)


@inlined
def array(agent: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Work through the halves of a fold, then hand its sums to the neurons."""
    fold, half = state[agent, FOLD], state[agent, PART]
    if fold == spec.folds:
        o[agent, END] = 1
        return
    row = x.fold[fold]
    elements = row[ROWS] * row[COLUMNS]
    if half < spec.halves:
        now = x.half[row[FIRST_HALF] + half]
        o[agent, POP] = HALF
        o[agent, POP_COUNT] = 1
        o[agent, COMPUTE] = now[CYCLES]
        o[agent, PUSH] = CREDIT
        o[agent, PUSH_COUNT] = 1
        counts[agent, PAIRS] += now[LIVE] * elements
        counts[agent, ROW_ENTRIES] += now[ENTERED] * row[SPAN] * elements
        counts[agent, COLUMN_ENTRIES] += now[ENTERED] * elements
        state[agent, PART] = half + 1
        return
    o[agent, COMPUTE] = spec.skew
    o[agent, PUSH] = SUMS
    o[agent, PUSH_COUNT] = 1
    counts[agent, FOLDS_DONE] += 1
    counts[agent, ADDS] += row[ADDED]
    state[agent, FOLD] = fold + 1
    state[agent, PART] = 0


@inlined
def begins_at(tensor: int, timestep: int, spec: Spec) -> int:
    """Row of the traffic table for what belongs to a timestep, or to a span that begins there.

    What is moved for all timesteps together is counted in the row ``tensor`` itself.
    """
    return tensor + (1 + timestep) * spec.tensors


@inlined
def read_banks(o: Any, agent: int, table: Any, first_field: int, bits: int, line: int, banks: int, tensor: int) -> None:
    """A request for each bank that has accesses in ``table``; the first one carries the useful bytes of all."""
    useful = (bits + 7) >> 3
    for bank in range(banks):
        beats = table[first_field + bank]
        if beats > 0:
            add_request(o, agent, line + bank, beats, useful, RESIDENT_READ, tensor, 0)
            useful = 0


@inlined
def take_tile(o: Any, agent: int, state: Any, ready: int, free: int) -> None:
    """Wait for the next tile of an operand and give back the one before."""
    o[agent, POP] = ready
    o[agent, POP_COUNT] = 1
    if state[agent, SENT] >> (ready - ROW_READY) & 1:
        o[agent, PUSH] = free
        o[agent, PUSH_COUNT] = 1
    state[agent, SENT] |= 1 << (ready - ROW_READY)


@inlined
def feeder(agent: int, spec: Spec, state: Any, x: Operands, o: Any) -> None:
    """Fill halves of the scratchpads, as soon as the array has worked through one."""
    fold, half = state[agent, FOLD], state[agent, PART]
    if fold == spec.folds:
        o[agent, END] = 1
        return
    row = x.fold[fold]
    phase = state[agent, PHASE]
    state[agent, PHASE] = phase + 1
    if phase == ROW_TILE:
        if half == 0 and row[ROW_NEW]:
            take_tile(o, agent, state, ROW_READY, ROW_FREE)
            return
        phase = COLUMN_TILE
        state[agent, PHASE] = STREAM
    if phase == COLUMN_TILE and row[COLUMN_NEW] and half % spec.piece == 0:
        state[agent, PHASE] = STREAM
        take_tile(o, agent, state, COLUMN_READY, COLUMN_FREE)
        return
    o[agent, POP] = CREDIT
    o[agent, POP_COUNT] = 1
    o[agent, PUSH] = HALF
    o[agent, PUSH_COUNT] = 1
    reads = x.read[row[FIRST_READ] + half]
    tensor = begins_at(spec.row_tensor, row[TIME], spec)
    read_banks(o, agent, reads, ROW_BEATS, reads[ROW_BITS], spec.row_line, spec.banks, tensor)
    now = x.half[row[FIRST_HALF] + half]
    bits = now[ENTERED] * row[COLUMNS] * spec.column_bits
    tensor = begins_at(spec.column_tensor, row[TIME], spec)
    read_banks(o, agent, now, COLUMN_BEATS, bits, spec.column_line, spec.banks, tensor)
    if spec.masked == ROWS_MASK or spec.masked == COLUMNS_MASK:
        masks = x.mask[row[FIRST_MASK] + half]
        tensor = begins_at(spec.mask_tensor, row[TIME], spec)
        read_banks(o, agent, masks, ROW_BEATS, masks[ROW_BITS], spec.mask_line, spec.banks, tensor)
    state[agent, PHASE] = ROW_TILE
    state[agent, PART] = half + 1
    if half + 1 == spec.halves:
        state[agent, FOLD] = fold + 1
        state[agent, PART] = 0


@inlined
def add_masks(o: Any, agent: int, first: int, end: int, mode: int, spec: Spec) -> None:
    """Lines of the mask that begin beside bytes ``first`` to ``end`` of what it belongs to."""
    reach = spec.mask_ratio << spec.line_shift
    for i in range((first + reach - 1) // reach, (end + reach - 1) // reach):
        size = 1 << spec.line_shift
        add_request(o, agent, spec.mask_line + i, size >> spec.beat_shift, size, mode, spec.mask_tensor, 0)


@inlined
def fetcher(
    agent: int, tiles: Any, ready: int, free: int, line: int, tensor: int, masked: bool, spec: Spec, state: Any, o: Any
) -> None:
    """Fetch tile after tile into the half of the buffer that is free."""
    tile = state[agent, FOLD]
    if tile == len(tiles):
        o[agent, END] = 1
        return
    first, end = tiles[tile, 0], tiles[tile, 1]
    begin = (first >> spec.line_shift << spec.line_shift) + (state[agent, SENT] << spec.line_shift)
    stop = min(end, begin + (spec.fetch_lines << spec.line_shift))
    if masked:
        whole = spec.mask_ratio << spec.line_shift
        add_masks(o, agent, begin if state[agent, SENT] else begin // whole * whole, stop, STREAM_READ, spec)
    if state[agent, SENT] == 0:
        o[agent, POP] = free
        o[agent, POP_COUNT] = 1
    state[agent, SENT] += add_range(
        o, agent, line, 1, max(first, begin), stop, spec.line_shift, spec.beat_shift, STREAM_READ, tensor, 0
    )
    if stop >= end:
        o[agent, PUSH] = ready
        o[agent, PUSH_COUNT] = 1
        state[agent, FOLD] = tile + 1
        state[agent, SENT] = 0


@inlined
def access_potentials(o: Any, agent: int, place: int, time: int, used: int, mode: int, spec: Spec) -> None:
    """Potentials of a fold at timestep ``time``, ``used`` bytes; places are ``potential_lines`` each."""
    first = place * spec.potential_lines << spec.line_shift
    add_range(
        o, agent, spec.potential_line, 1, first, first + used, spec.line_shift, spec.beat_shift, mode,
        begins_at(spec.potential_tensor, time, spec), 0,
    )  # fmt: skip


@inlined
def emit(o: Any, agent: int, spec: Spec, state: Any, last: bool) -> None:
    """Write the lines of the output that are complete, and at the ``last`` call what is left."""
    begin = state[agent, SENT]
    end = begin + state[agent, PENDING]
    if not last:
        end = end >> spec.line_shift << spec.line_shift
    end = min(end, begin + (spec.fetch_lines << spec.line_shift))
    add_range(
        o, agent, spec.output_line, 1, begin, end, spec.line_shift, spec.beat_shift, STREAM_WRITE, spec.output_tensor, 0
    )
    if spec.masked == OUTPUT_MASK:
        add_masks(o, agent, begin, end, STREAM_WRITE, spec)
    state[agent, PENDING] -= max(0, end - begin)
    state[agent, SENT] = max(begin, end)


@inlined
def neurons(agent: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Take the sums of a fold, timestep by timestep; write what comes out as lines become complete."""
    if state[agent, PHASE] == FLUSH:
        if state[agent, PENDING] == 0:
            o[agent, END] = 1
        else:
            emit(o, agent, spec, state, True)
        return
    fold = state[agent, FOLD]
    row = x.fold[fold]
    elements = row[ROWS] * row[COLUMNS]
    if state[agent, PHASE] == TAKE:
        o[agent, POP] = SUMS
        o[agent, POP_COUNT] = 1
        counts[agent, SUMS_FINISHED] += elements * row[FINISHED]
        state[agent, PENDING] += (elements * row[FINISHED] * spec.sum_bits + 7) >> 3
        state[agent, PHASE] = FETCH
        if row[FINISHED] == 0 or (spec.outside == 0 and spec.kept == 0):
            o[agent, COMPUTE] = row[FINISHED] * spec.fire
            state[agent, PHASE] = EMIT
        return
    used = (elements * spec.potential_bits + 7) >> 3
    while state[agent, PHASE] < EMIT:
        t, phase = state[agent, PART], state[agent, PHASE]
        time = row[TIME] + t
        begins = time == 0 and spec.always == 0
        ends = time == spec.timesteps - 1 and spec.always == 0
        state[agent, PHASE] = phase + 1
        if phase == FETCH and spec.outside == 2 and not begins:
            access_potentials(o, agent, row[GROUP], time, used, STREAM_READ, spec)
            return
        if phase == READ and spec.outside > 0 and not begins:
            access_potentials(o, agent, row[GROUP], time, used, RESIDENT_READ, spec)
            return
        if phase == UPDATE:
            o[agent, COMPUTE] = spec.fire
            return
        if phase == WRITE and spec.outside > 0 and not ends:
            mode = STREAM_WRITE if spec.outside == 2 else RESIDENT_WRITE
            access_potentials(o, agent, row[GROUP], time, used, mode, spec)
            return
        if phase == KEEP:
            state[agent, PART] = t + 1
            if t + 1 < row[FINISHED]:
                state[agent, PHASE] = FETCH
            if spec.kept:
                access_potentials(o, agent, row[GROUP] * spec.timesteps + time, time, used, STREAM_WRITE, spec)
                return
    emit(o, agent, spec, state, False)
    if state[agent, PENDING] >> spec.line_shift == 0:
        state[agent, FOLD] = fold + 1
        state[agent, PART] = 0
        state[agent, PHASE] = TAKE if fold + 1 < spec.folds else FLUSH


@inlined
def step(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The next operation of any agent; see :mod:`archsim.hardware.operation`."""
    if agent == ARRAY:
        array(agent, spec, state, x, o, counts)
    elif agent == FEEDER:
        feeder(agent, spec, state, x, o)
    elif agent == ROW_FETCHER:
        masked = spec.masked == ROWS_MASK
        fetcher(agent, x.row_tile, ROW_READY, ROW_FREE, spec.row_line, spec.row_tensor, masked, spec, state, o)
    elif agent == COLUMN_FETCHER:
        masked = spec.masked == COLUMNS_MASK
        fetcher(
            agent, x.column_tile, COLUMN_READY, COLUMN_FREE, spec.column_line, spec.column_tensor, masked, spec, state,
            o,
        )  # fmt: skip
    else:
        neurons(agent, spec, state, x, o, counts)


@kernel
def loop(spec: Spec, x: Operands, machine: Any) -> tuple[int, int, int]:
    """The agents in the compiled engine."""
    return run(step, spec, x, machine)


# --- Laying a stage out -----------------------------------------------------------------------------------------------


class Map(NamedTuple):
    """Where the rows' operand is stored.

    Row i and step k have coordinates (image, y, x, channel), int64 [rows, 4] and [steps, 4], whose sum is that of the
    element. It exists if y and x, divided by ``dilation``, are whole and inside ``height`` and ``width``; its address,
    in elements of all timesteps, is then the sum of its coordinates times ``strides``. A *unit* of
    ``unit`` elements, one behind the other, is the least that is fetched.
    """

    rows: NDArray[np.int64]
    steps: NDArray[np.int64]
    height: int
    width: int
    dilation: tuple[int, int]
    strides: NDArray[np.int64]
    unit: int


class Work(NamedTuple):
    """What a stage does. Words uint16 have a bit for each timestep: of ``row_words`` [M, K] where a row's element is
    not zero, of ``column_words`` [N, K] where a column's is, which is None if it is the same at all timesteps and never
    zero. Bits are those of an element at a timestep. ``adds_time``: the sums of all timesteps are one.
    ``columns_of_fold``: columns have an operand of their own in every group of rows. ``outside`` and so on as in
    :class:`Spec`.
    """

    row_words: NDArray[np.uint16]
    column_words: NDArray[np.uint16] | None
    map: Map
    n: int
    timesteps: int
    row_bits: int
    column_bits: int
    output_bits: int
    outside: int = 0
    kept: bool = False
    potential_bits: int = 1
    adds_time: bool = False
    columns_of_fold: bool = False
    masked: int = NO_MASK


class Shape(NamedTuple):
    """The array and what is around it, as integers; first lines and tensors, among ``all_tensors``, as in
    :class:`Spec`.
    """

    rows: int
    columns: int
    span: int
    steps: int
    skips: bool
    ideal: bool
    banks: int
    width_bits: int
    line_bytes: int
    fetch_lines: int
    output_buffer: int
    fire: int
    row_buffer: int
    column_buffer: int
    lines: Sequence[int]
    tensors: Sequence[int]
    all_tensors: int


@njit
def read_table(rows: Any, steps: Any, height: int, width: int, dilation_y: int, dilation_x: int, strides: Any,
               group: int, half: int, timesteps: int, span: int, bits: int, width_bits: int, line_bits: int,
               banks: int, enters: Any, table: Any, reach: Any) -> None:  # fmt: skip
    """What the rows' operand of every half of every group of rows and span of timesteps takes to read.

    Steps that do not enter, by ``enters`` uint8 [groups, spans, K], are not read. Fills ``table`` int64 [groups * spans
    * halves, READ_FIELDS] and ``reach`` [groups, 2], first and last address.
    """
    halves, spans = -(-len(steps) // half), -(-timesteps // span)
    for g in range(len(reach)):
        reach[g, 0], reach[g, 1] = -1, -1
        for b in range(spans):
            first_bit, last_bit = b * span * bits, min((b + 1) * span, timesteps) * bits - 1
            for k in range(len(steps)):
                number = (g * spans + b) * halves + k // half
                last_word = -1
                for row in range(g * group, min((g + 1) * group, len(rows))):
                    y, x = rows[row, 1] + steps[k, 1], rows[row, 2] + steps[k, 2]
                    if y % dilation_y or x % dilation_x:
                        continue
                    y, x = y // dilation_y, x // dilation_x
                    if not (0 <= y < height and 0 <= x < width):
                        continue
                    address = (
                        (rows[row, 0] + steps[k, 0]) * strides[0] + y * strides[1] + x * strides[2]
                        + (rows[row, 3] + steps[k, 3]) * strides[3]
                    )  # fmt: skip
                    if reach[g, 0] < 0 or address < reach[g, 0]:
                        reach[g, 0] = address
                    reach[g, 1] = max(reach[g, 1], address)
                    if enters[g, b, k] == 0:
                        continue
                    table[number, ROW_BITS] += last_bit - first_bit + 1
                    at = address * timesteps * bits
                    for word in range((at + first_bit) // width_bits, (at + last_bit) // width_bits + 1):
                        if word != last_word:
                            table[number, ROW_BEATS + word * width_bits // line_bits % banks] += 1
                        last_word = word


@njit
def half_table(row_words: Any, column_words: Any, varies: bool, group: int, columns: int, half: int, timesteps: int,
               span: int, skips: bool, step_bits: int, width_bits: int, line_bits: int, banks: int, table: Any,
               added: Any, enters: Any) -> None:  # fmt: skip
    """Time, steps that enter and accesses of the columns' operand of every half.

    ``column_words`` uint16 [N, K], or [1, K] with all bits set if not ``varies``. Fills ``table`` int64 [groups *
    column groups * spans * halves, HALF_FIELDS], ``added`` int64 [groups, column groups, spans], additions (of one
    column if not ``varies``), and ``enters`` uint8 [groups, spans, K], whether a step enters with any columns.
    """
    groups, sets, spans = added.shape
    k_length = row_words.shape[1]
    halves = -(-k_length // half)
    for g in range(groups):
        first, end = g * group, min((g + 1) * group, len(row_words))
        for c in range(sets):
            left, right = (c * columns, min((c + 1) * columns, len(column_words))) if varies else (0, 1)
            for b in range(spans):
                taken = min(span, timesteps - b * span)
                for h in range(halves):
                    number = ((g * sets + c) * spans + b) * halves + h
                    pairs, entered, last_word = 0, 0, -1
                    for k in range(h * half, min((h + 1) * half, k_length)):
                        live = 0
                        for t in range(b * span, b * span + taken):
                            in_rows, in_columns = 0, 0
                            for row in range(first, end):
                                in_rows += row_words[row, k] >> t & 1
                            for column in range(left, right):
                                in_columns += column_words[column, k] >> t & 1
                            live += int(in_rows > 0 and in_columns > 0)
                            added[g, c, b] += in_rows * in_columns
                        if skips and live == 0:
                            continue
                        pairs += live if skips else taken
                        entered += 1
                        enters[g, b, k] = 1
                        at = (k * spans + b if varies else k) * step_bits
                        for word in range(at // width_bits, (at + step_bits - 1) // width_bits + 1):
                            if word != last_word:
                                table[number, COLUMN_BEATS + word * width_bits // line_bits % banks] += 1
                            last_word = word
                    table[number, CYCLES] = max(1, pairs)
                    table[number, LIVE] = pairs
                    table[number, ENTERED] = entered


@njit
def mask_table(k_length: int, half: int, sets: int, spans: int, step_bits: int, width_bits: int, line_bits: int,
               banks: int, table: Any) -> None:  # fmt: skip
    """What the mask of the columns' operand takes to read, for all steps of every half, span and set of columns.

    Fills ``table`` int64 [sets * spans * halves, READ_FIELDS]; ``step_bits`` are those of a step and span.
    """
    halves = -(-k_length // half)
    for c in range(sets):
        for b in range(spans):
            for h in range(halves):
                number, last_word = (c * spans + b) * halves + h, -1
                for k in range(h * half, min((h + 1) * half, k_length)):
                    at = ((c * k_length + k) * spans + b) * step_bits
                    table[number, ROW_BITS] += step_bits
                    for word in range(at // width_bits, (at + step_bits - 1) // width_bits + 1):
                        if word != last_word:
                            table[number, ROW_BEATS + word * width_bits // line_bits % banks] += 1
                        last_word = word


def tiles_of(low: NDArray[np.int64], high: NDArray[np.int64], unit_bits: int, room: int) -> NDArray[np.int64]:
    """First group of every tile: groups, whose units are ``low`` to ``high``, one behind the other while they fit."""
    begins = [0]
    least, most = low[0], high[0]
    for g in range(1, len(low)):
        least, most = min(least, low[g]), max(most, high[g])
        if -(-(int(most - least) + 1) * unit_bits // 8) > room:
            begins.append(g)
            least, most = low[g], high[g]
    return np.array(begins)


def column_layout(work: Work, shape: Shape) -> tuple[int, int, int]:
    """Bits of a step of C columns, bytes of all its steps, halves of a piece (none if not even one fits)."""
    spans = -(-work.timesteps // shape.span) if work.column_words is not None else 1
    step_bits = shape.columns * work.column_bits * (shape.span if work.column_words is not None else 1)
    k = len(work.map.steps)
    step_bytes = step_bits * spans / 8
    chunk = -(-int(k * step_bits * spans) // (8 * shape.line_bytes)) * shape.line_bytes
    halves = -(-k // shape.steps)
    piece = halves if chunk <= shape.column_buffer else int(shape.column_buffer / (shape.steps * step_bytes))
    return step_bits, chunk, piece


def lay_out(work: Work, shape: Shape) -> Program:
    """The stage as folds on the array."""
    where = work.map
    m, k = work.row_words.shape
    halves, groups, spans = -(-k // shape.steps), -(-m // shape.rows), -(-work.timesteps // shape.span)
    sets = -(-work.n // shape.columns)
    line_bits = shape.line_bytes * 8
    varies = work.column_words is not None

    step_bits, chunk, piece = column_layout(work, shape)
    added = np.zeros((groups, sets if varies else 1, spans), np.int64)
    enters = np.zeros((groups, spans, k), np.uint8)
    half = np.zeros((added.size * halves, len(HALF_FIELDS) - 1 + shape.banks), np.int64)
    column_words = work.column_words if varies else np.full((1, k), 0xFFFF, np.uint16)
    half_table(
        work.row_words, column_words, varies, shape.rows, shape.columns, shape.steps, work.timesteps, shape.span,
        shape.skips, step_bits, shape.width_bits, line_bits, shape.banks, half, added, enters,
    )  # fmt: skip

    def table_of(bits: int, entering: NDArray[np.uint8], reach: NDArray[np.int64]) -> NDArray[np.int64]:
        table = np.zeros((groups * spans * halves, len(READ_FIELDS) - 1 + shape.banks), np.int64)
        read_table(
            where.rows, where.steps, where.height, where.width, *where.dilation, where.strides, shape.rows, shape.steps,
            work.timesteps, shape.span, bits, shape.width_bits, line_bits, shape.banks, entering, table, reach,
        )  # fmt: skip
        return table

    # Only a mask tells that a step need not be read.
    reach, every_step = np.zeros((groups, 2), np.int64), np.ones_like(enters)
    reads = table_of(work.row_bits, enters if work.masked == ROWS_MASK else every_step, reach)
    mask = np.zeros((1, len(READ_FIELDS) - 1 + shape.banks), np.int64)
    if work.masked == ROWS_MASK:
        mask = table_of(1, every_step, reach.copy())
    elif work.masked == COLUMNS_MASK:
        mask = np.zeros((sets * spans * halves, mask.shape[1]), np.int64)
        bits = shape.columns * shape.span
        mask_table(k, shape.steps, sets, spans, bits, shape.width_bits, line_bits, shape.banks, mask)

    unit_bits = where.unit * work.timesteps * work.row_bits
    low, high = np.maximum(reach, 0).T // where.unit
    row_tiles = tiles_of(low, high, unit_bits, shape.row_buffer)
    row_tile_of = np.searchsorted(row_tiles, np.arange(groups), "right") - 1
    column_tile_of = np.arange(sets) // max(1, shape.column_buffer // chunk)
    order = [
        nest(np.array([ct]), np.array([rt]), np.flatnonzero(column_tile_of == ct), np.flatnonzero(row_tile_of == rt),
             np.arange(spans))
        for ct in range(column_tile_of[-1] + 1) for rt in range(len(row_tiles))
    ]  # fmt: skip
    ct, rt, c, g, b = (np.concatenate(indices) for indices in zip(*order, strict=True))
    table = np.zeros((len(ct), len(FOLD_FIELDS)), np.int64)
    of_columns = c if varies else np.zeros_like(c)
    table[:, FIRST_HALF] = ((g * added.shape[1] + of_columns) * spans + b) * halves
    table[:, FIRST_READ] = (g * spans + b) * halves
    table[:, FIRST_MASK] = ((c if work.masked == COLUMNS_MASK else g) * spans + b) * halves
    table[:, ROWS] = np.minimum(shape.rows, m - g * shape.rows)
    table[:, COLUMNS] = np.minimum(shape.columns, work.n - c * shape.columns)
    table[:, TIME], table[:, GROUP] = b * shape.span, c * groups + g
    table[:, SPAN] = np.minimum(shape.span, work.timesteps - b * shape.span)
    table[:, FINISHED] = np.where(b == spans - 1, 1, 0) if work.adds_time else table[:, SPAN]
    table[:, ADDED] = added[g, of_columns, b] * (1 if varies else table[:, COLUMNS])

    pieces = piece < halves
    row_new = (np.diff(ct, prepend=-1) != 0) | (np.diff(rt, prepend=-1) != 0)
    if len(row_tiles) == 1:
        row_new[1:] = False
    column_new = np.ones(len(ct), bool) if pieces else np.diff(ct, prepend=-1) != 0
    if work.columns_of_fold:
        column_new = b == 0
    if shape.ideal:
        row_new[:], column_new[:] = False, False
    table[:, ROW_NEW], table[:, COLUMN_NEW] = row_new, column_new
    ends = np.append(row_tiles[1:], groups)
    row_tile = np.array(
        [(low[a:e].min() * unit_bits // 8, -(-(high[a:e].max() + 1) * unit_bits // 8))
         for a, e in ((row_tiles[i], ends[i]) for i in rt[row_new])], np.int64,
    ).reshape(-1, 2)  # fmt: skip
    if work.columns_of_fold:
        column_tile = [(number * chunk, (number + 1) * chunk) for number in table[column_new, GROUP]]
    elif pieces:
        cuts = np.append(np.arange(0, halves, piece) * shape.steps, k) * (chunk * 8 // k) // 8
        column_tile = [(first + a, first + e) for first in c[column_new] * chunk for a, e in itertools.pairwise(cuts)]
    else:
        last = [np.flatnonzero(column_tile_of == i)[[0, -1]] for i in ct[column_new]]
        column_tile = [(a * chunk, (e + 1) * chunk) for a, e in last]

    potential_bytes = -(-shape.rows * shape.columns * work.potential_bits // 8)
    spec = Spec(
        folds=len(table),
        timesteps=work.timesteps,
        halves=halves,
        piece=piece,
        skew=shape.rows + shape.columns - 2,
        banks=shape.banks,
        fire=shape.fire,
        fetch_lines=shape.fetch_lines,
        column_bits=step_bits // shape.columns,
        sum_bits=work.output_bits,
        outside=work.outside,
        always=int(work.adds_time),
        kept=int(work.kept),
        masked=work.masked,
        mask_ratio={ROWS_MASK: work.row_bits, COLUMNS_MASK: work.column_bits}.get(work.masked, work.output_bits),
        potential_bits=work.potential_bits,
        potential_lines=-(-potential_bytes // shape.line_bytes),
        row_line=shape.lines[0],
        column_line=shape.lines[1],
        output_line=shape.lines[2],
        potential_line=shape.lines[3],
        mask_line=shape.lines[4],
        row_tensor=shape.tensors[0],
        column_tensor=shape.tensors[1],
        output_tensor=shape.tensors[2],
        potential_tensor=shape.tensors[3],
        mask_tensor=shape.tensors[4],
        tensors=shape.all_tensors,
        line_shift=shape.line_bytes.bit_length() - 1,
        beat_shift=(shape.width_bits // 8).bit_length() - 1,
    )
    operands = Operands(
        table,
        half,
        reads,
        mask,
        row_tile,
        np.array(column_tile, np.int64).reshape(-1, 2),
        useful_additions(work, shape),
        *by_timestep(work, shape),
        entries_by_timestep(table, half, halves, work.timesteps),
    )
    lines = shape.fetch_lines * (2 if work.masked else 1) + 1
    topology = op.topology(
        [0, 3 * shape.banks, lines, lines, max(lines, spec.potential_lines)],
        [OWN_PATH] * len(AGENTS),
        [(2, 0, 1), (shape.output_buffer, 0, 1), (2, 2, 1), (2, 0, 1), (2, 2, 1), (2, 0, 1), (2, 2, 1)],
        [],
    )
    units = tuple(Unit(name, agent, 1, 1) for agent, name in enumerate(UNITS))
    state = np.zeros((len(AGENTS), STATE_COLUMNS), np.int64)
    return Program(spec, operands, topology, state, units, copies=1 + work.timesteps)


def bits_at(words: NDArray[np.uint16], timestep: int) -> NDArray[np.int64]:
    """0 or 1 for every word."""
    return (words >> np.uint16(timestep) & np.uint16(1)).astype(np.int64)


def useful_additions(work: Work, shape: Shape) -> NDArray[np.int64]:
    """Additions of every processing element, int64 [R, C]."""

    def live(words: NDArray[np.uint16], size: int) -> NDArray[np.int64]:
        bits = np.zeros((size, words.shape[1], work.timesteps), np.int64)
        for t in range(work.timesteps):
            at = bits_at(words, t)
            for i in range(min(size, len(words))):
                bits[i, :, t] = at[i::size].sum(0)
        return bits.reshape(size, -1)

    of_rows = live(work.row_words, shape.rows)
    if work.column_words is None:
        groups = (work.n + shape.columns - 1 - np.arange(shape.columns)) // shape.columns
        spread: NDArray[np.int64] = of_rows.sum(1)[:, None] * groups
        return spread
    return of_rows @ live(work.column_words, shape.columns).T


def by_timestep(work: Work, shape: Shape) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Additions at every timestep, and pairs (k, t) that processing elements in use work on, int64 [T] each."""
    (m, k), n = work.row_words.shape, work.n
    added, worked = np.zeros(work.timesteps, np.int64), np.full(work.timesteps, m * n * k)
    row_groups, column_groups = np.arange(0, m, shape.rows), np.arange(0, n, shape.columns)
    for t in range(work.timesteps):
        rows = bits_at(work.row_words, t)
        columns = None if work.column_words is None else bits_at(work.column_words, t)
        added[t] = rows.sum() * n if columns is None else rows.sum(0) @ columns.sum(0)
        if shape.skips:
            # Processing elements in use of every live pair: rows of a group times columns of one.
            live = np.maximum.reduceat(rows, row_groups) * np.diff(row_groups, append=m)[:, None]
            met = np.full(k, n)
            if columns is not None:
                met = (np.maximum.reduceat(columns, column_groups) * np.diff(column_groups, append=n)[:, None]).sum(0)
            worked[t] = live.sum(0) @ met
    return added, worked


def entries_by_timestep(
    folds: NDArray[np.int64], half: NDArray[np.int64], halves: int, timesteps: int
) -> NDArray[np.int64]:
    """Elements of rows that are written into scratchpads for every timestep, int64 [T]."""
    steps = half[:, ENTERED].reshape(-1, halves).sum(1)[folds[:, FIRST_HALF] // halves]
    each, begin, end = steps * folds[:, ROWS] * folds[:, COLUMNS], folds[:, TIME], folds[:, TIME] + folds[:, SPAN]
    return np.array([each[(begin <= t) & (t < end)].sum() for t in range(timesteps)], np.int64)


def moved_by_timestep(
    program: Program, traffic: NDArray[np.int64], shared: Collection[int], actions: MemoryActions
) -> dict[tuple[str, str], NDArray[np.int64]]:
    """Memory actions of every timestep, int64 [T] each, but those for the ``shared`` tensors, which serve them all.

    ``traffic`` int64 [1 + T, tensors, columns] as :func:`begins_at` says, ``actions`` what a table of traffic means in
    actions. A potential kept between timesteps belongs to one. An access for several timesteps, of a span or of all,
    belongs to each of them in equal parts; parts are whole, so one timestep may have one more than another.
    """
    spec, timesteps = program.spec, len(traffic) - 1
    spans = dict(program.operands.fold[:, [TIME, SPAN]].tolist())
    found: dict[tuple[str, str], NDArray[np.int64]] = {}
    for part, tensor in zip(*np.nonzero(traffic.any(2)), strict=True):
        if tensor in shared:
            continue
        begin, length = max(0, part - 1), timesteps if part == 0 else spans.get(part - 1, 1)
        if part > 0 and tensor == spec.potential_tensor and (spec.outside or spec.kept):
            length = 1
        alone = np.zeros_like(traffic[0])
        alone[tensor] = traffic[part, tensor]
        for action, count in actions(alone).items():
            of_timestep = found.setdefault(action, np.zeros(timesteps, np.int64))
            of_timestep[begin : begin + length] += np.diff(count * np.arange(length + 1) // length)
    return found
