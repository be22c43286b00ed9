"""What the folds of a stage take on an output-stationary array: cycles, steps that enter, accesses of each bank.

These are tables for the agents of :mod:`archsim.dataflow.buffered_array`, which says what a fold, a load and a step
are. They follow from which elements are zero and from where operands are stored, not from time.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.folded_schedule import nest
from archsim.hardware.memory.buffers import BufferTensor
from archsim.jit import inlined, njit

NO_MASK, ROWS_MASK, COLUMNS_MASK, OUTPUT_MASK = range(4)
"""What has a mask beside it in memory, one bit per element that says whether it is zero."""
IN_PE, IN_BUFFER, IN_DRAM = range(3)
"""Where potentials are between timesteps."""

# --- What is to be done -----------------------------------------------------------------------------------------------


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


class StageTensors(NamedTuple):
    """Tensors of a stage: those that come by rows and by columns, that leave, that neurons keep, the mask, and the
    state that neurons take over from another stage."""

    by_rows: BufferTensor
    by_columns: BufferTensor
    output: BufferTensor
    potentials: BufferTensor
    mask: BufferTensor
    taken: BufferTensor


class Work(NamedTuple):
    """What a stage does.

    Words uint16 have one bit per timestep: ``row_words`` [M, K] say where a row's element is not zero, ``column_words``
    [N, K] where a column's is; None means that columns are the same at all timesteps and never zero. ``n`` columns are
    worked on in all. A load of a fold has ``steps`` k's and ``span`` timesteps. ``row_bits``, ``column_bits``,
    ``output_bits`` and ``potential_bits`` are those of an element at a timestep. ``columns_of_fold``: every group of
    rows has columns of its own. ``adds_time``: the sums of all timesteps are one; its old value is read before the
    first and its new one written behind the last. ``outside`` is where potentials are between timesteps; ``kept``
    ones are written to DRAM at every timestep, for later. ``masked`` is what has a mask.

    Neurons begin with ``taken_bits`` from a stage before; behind the last timestep they work ``late`` more times, and
    ``last_bits`` leave.
    """

    row_words: NDArray[np.uint16]
    column_words: NDArray[np.uint16] | None
    map: Map
    n: int
    timesteps: int
    span: int
    steps: int
    tensors: StageTensors
    row_bits: int
    column_bits: int
    output_bits: int
    potential_bits: int = 1
    outside: int = IN_PE
    kept: bool = False
    adds_time: bool = False
    columns_of_fold: bool = False
    masked: int = NO_MASK
    taken_bits: int = 0
    last_bits: int = 0
    late: int = 0


class Array(NamedTuple):
    """The array as a stage uses it: its rows and columns, steps and timesteps of a load, whether it skips dead pairs.

    Its buffers have ``banks``; an access has ``width_bits``, a line ``line_bits``.
    """

    rows: int
    columns: int
    steps: int
    span: int
    timesteps: int
    skips: bool
    banks: int
    width_bits: int
    line_bits: int

    @property
    def spans(self) -> int:
        """Spans that all timesteps take."""
        return -(-self.timesteps // self.span)


# --- Loads -----------------------------------------------------------------------------------------------------------


class Loads(NamedTuple):
    """Of every load: its cycles, pairs (k, t) worked on, steps that enter, and accesses of each bank for the columns'
    operand. All int64 [loads], ``beats`` [loads, banks]."""

    cycles: NDArray[np.int64]
    live: NDArray[np.int64]
    entered: NDArray[np.int64]
    beats: NDArray[np.int64]


class Reads(NamedTuple):
    """What a load takes to read of the rows' operand, or of a mask: bits of use int64 [loads], accesses of each bank
    int64 [loads, banks]."""

    bits: NDArray[np.int64]
    beats: NDArray[np.int64]


def no_reads(loads: int, banks: int) -> Reads:
    """Of loads that read nothing."""
    return Reads(np.zeros(loads, np.int64), np.zeros((loads, banks), np.int64))


@inlined
def access(array: Array, first: int, end: int, last: int, beats: Any, number: int) -> int:
    """Count the accesses of bits ``first`` to ``end``, without word ``last``, which the access before has brought;
    returns the word that this one ends in."""
    for word in range(first // array.width_bits, (end - 1) // array.width_bits + 1):
        if word != last:
            beats[number, word * array.width_bits // array.line_bits % array.banks] += 1
        last = word
    return last


@njit
def fill_loads(row_words: Any, column_words: Any, varies: bool, step_bits: int, array: Array, table: Loads,
                added: Any, enters: Any) -> None:  # fmt: skip
    """Time, steps that enter and accesses of the columns' operand of every load.

    ``column_words`` uint16 [N, K], or [1, K] with all bits set if not ``varies``. Loads are numbered by (group of
    rows, group of columns, span, load). Fills ``added`` int64 [groups, column groups, spans], additions (of one column
    if not ``varies``), and ``enters`` uint8 [groups, spans, K], whether a step enters with any columns.
    """
    groups, sets, spans = added.shape
    length = row_words.shape[1]
    loads = -(-length // array.steps)
    for g in range(groups):
        first, end = g * array.rows, min((g + 1) * array.rows, len(row_words))
        for c in range(sets):
            left, right = 0, 1
            if varies:
                left, right = c * array.columns, min((c + 1) * array.columns, len(column_words))
            for b in range(spans):
                taken = min(array.span, array.timesteps - b * array.span)
                for h in range(loads):
                    number = ((g * sets + c) * spans + b) * loads + h
                    pairs, entered, last_word = 0, 0, -1
                    for k in range(h * array.steps, min((h + 1) * array.steps, length)):
                        live = 0
                        for t in range(b * array.span, b * array.span + taken):
                            in_rows, in_columns = 0, 0
                            for row in range(first, end):
                                in_rows += row_words[row, k] >> t & 1
                            for column in range(left, right):
                                in_columns += column_words[column, k] >> t & 1
                            live += int(in_rows > 0 and in_columns > 0)
                            added[g, c, b] += in_rows * in_columns
                        if array.skips and live == 0:
                            continue
                        pairs += live if array.skips else taken
                        entered += 1
                        enters[g, b, k] = 1
                        at = (k * spans + b if varies else k) * step_bits
                        last_word = access(array, at, at + step_bits, last_word, table.beats, number)
                    table.cycles[number] = max(1, pairs)
                    table.live[number] = pairs
                    table.entered[number] = entered


@njit
def fill_reads(where: Map, bits: int, array: Array, enters: Any, table: Reads, reach: Any) -> None:
    """What the rows' operand, ``bits`` per element, takes to read.

    Steps that do not enter, by ``enters`` uint8 [groups, spans, K], are not read. Loads are numbered by (group, span,
    load). Fills also ``reach`` int64 [groups, 2], first and last address.
    """
    rows, steps, strides = where.rows, where.steps, where.strides
    loads, spans = -(-len(steps) // array.steps), -(-array.timesteps // array.span)
    for g in range(len(reach)):
        reach[g, 0], reach[g, 1] = -1, -1
        for b in range(spans):
            first_bit, end_bit = b * array.span * bits, min((b + 1) * array.span, array.timesteps) * bits
            for k in range(len(steps)):
                number = (g * spans + b) * loads + k // array.steps
                last_word = -1
                for row in range(g * array.rows, min((g + 1) * array.rows, len(rows))):
                    y, x = rows[row, 1] + steps[k, 1], rows[row, 2] + steps[k, 2]
                    if y % where.dilation[0] or x % where.dilation[1]:
                        continue
                    y, x = y // where.dilation[0], x // where.dilation[1]
                    if not (0 <= y < where.height and 0 <= x < where.width):
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
                    table.bits[number] += end_bit - first_bit
                    at = address * array.timesteps * bits
                    last_word = access(array, at + first_bit, at + end_bit, last_word, table.beats, number)


@njit
def fill_masks(length: int, sets: int, step_bits: int, array: Array, table: Reads) -> None:
    """What the mask of the columns' operand takes to read, for all steps of every load.

    Loads are numbered by (group of columns, span, load); ``step_bits`` are those of a step and span.
    """
    loads, spans = -(-length // array.steps), -(-array.timesteps // array.span)
    for c in range(sets):
        for b in range(spans):
            for h in range(loads):
                number, last_word = (c * spans + b) * loads + h, -1
                for k in range(h * array.steps, min((h + 1) * array.steps, length)):
                    at = ((c * length + k) * spans + b) * step_bits
                    table.bits[number] += step_bits
                    last_word = access(array, at, at + step_bits, last_word, table.beats, number)


class Sizes(NamedTuple):
    """How many groups of rows, groups of columns and loads of a fold there are; bits of a step of C columns."""

    groups: int
    sets: int
    loads: int
    step_bits: int


def sizes_of(work: Work, array: Array) -> Sizes:
    """Of a stage on the array."""
    (m, k), varies = work.row_words.shape, work.column_words is not None
    step_bits = array.columns * work.column_bits * (array.span if varies else 1)
    return Sizes(-(-m // array.rows), -(-work.n // array.columns), -(-k // array.steps), step_bits)


def loads_of(work: Work, array: Array) -> tuple[Loads, NDArray[np.int64], NDArray[np.uint8]]:
    """The table, additions, and steps that enter, of :func:`fill_loads`."""
    sizes, k, varies = sizes_of(work, array), work.row_words.shape[1], work.column_words is not None
    added = np.zeros((sizes.groups, sizes.sets if varies else 1, array.spans), np.int64)
    enters = np.zeros((sizes.groups, array.spans, k), np.uint8)
    cycles, live, entered = np.zeros((3, added.size * sizes.loads), np.int64)
    table = Loads(cycles, live, entered, np.zeros((len(cycles), array.banks), np.int64))
    columns = np.full((1, k), 0xFFFF, np.uint16) if work.column_words is None else work.column_words
    fill_loads(work.row_words, columns, varies, sizes.step_bits, array, table, added, enters)
    return table, added, enters


def reads_of(work: Work, array: Array, enters: NDArray[np.uint8]) -> tuple[Reads, Reads, NDArray[np.int64]]:
    """What loads read of the rows' operand, and of a mask; first and last address that a group of rows reaches.

    Only a mask tells that a step need not be read.
    """
    sizes, every_step = sizes_of(work, array), np.ones_like(enters)
    reach, loads = np.zeros((sizes.groups, 2), np.int64), sizes.groups * array.spans * sizes.loads
    reads, masks = no_reads(loads, array.banks), no_reads(1, array.banks)
    fill_reads(work.map, work.row_bits, array, enters if work.masked == ROWS_MASK else every_step, reads, reach)
    if work.masked == ROWS_MASK:
        masks = no_reads(loads, array.banks)
        fill_reads(work.map, 1, array, every_step, masks, reach)
    elif work.masked == COLUMNS_MASK:
        masks = no_reads(sizes.sets * array.spans * sizes.loads, array.banks)
        fill_masks(work.row_words.shape[1], sizes.sets, array.columns * array.span, array, masks)
    return reads, masks, reach


# --- Folds and tiles --------------------------------------------------------------------------------------------------


class Folds(NamedTuple):
    """The folds in their order, one row each, int64.

    ``first_load``, ``first_read`` and ``first_mask`` are rows of the tables of loads, of reads and of masks.
    ``new_rows`` and ``new_columns`` (bool): operands are in a new tile. ``rows`` and ``columns`` are in use, for
    ``span`` timesteps from ``time`` on; behind the fold the sums of ``finished`` timesteps are complete. ``group`` is
    the number of its neurons' group, ``added`` its additions.
    """

    first_load: NDArray[np.int64]
    first_read: NDArray[np.int64]
    first_mask: NDArray[np.int64]
    new_rows: NDArray[np.bool_]
    new_columns: NDArray[np.bool_]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    time: NDArray[np.int64]
    span: NDArray[np.int64]
    finished: NDArray[np.int64]
    group: NDArray[np.int64]
    added: NDArray[np.int64]


class Layout(NamedTuple):
    """The folds, and tiles of both operands in the order in which they are fetched, int64 [tiles, 2] of (first byte,
    end) in the operand. The columns' operand comes in pieces of ``piece`` loads."""

    folds: Folds
    row_tile: NDArray[np.int64]
    column_tile: NDArray[np.int64]
    piece: int


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


def column_layout(work: Work, array: Array) -> tuple[int, int]:
    """Bytes of all steps of C columns, and loads of a piece (none if not even one fits)."""
    sizes, k = sizes_of(work, array), work.row_words.shape[1]
    step_bits = sizes.step_bits * (array.spans if work.column_words is not None else 1)
    chunk = -(-k * step_bits // array.line_bits) * (array.line_bits // 8)
    room = work.tensors.by_columns.tile_bytes
    return chunk, sizes.loads if chunk <= room else int(room / (array.steps * (step_bits / 8)))


def lay_out(work: Work, array: Array, reach: NDArray[np.int64], added: NDArray[np.int64], ideal: bool) -> Layout:
    """Folds tile by tile; with ``ideal`` memory operands are there from the start, and no tile is fetched."""
    (groups, sets, loads, _), (m, k), spans = sizes_of(work, array), work.row_words.shape, array.spans
    varies, (chunk, piece) = work.column_words is not None, column_layout(work, array)
    unit_bits = work.map.unit * work.timesteps * work.row_bits
    low, high = np.maximum(reach, 0).T // work.map.unit
    begins = tiles_of(low, high, unit_bits, work.tensors.by_rows.tile_bytes)
    row_tile_of = np.searchsorted(begins, np.arange(groups), "right") - 1
    column_tile_of = np.arange(sets) // max(1, work.tensors.by_columns.tile_bytes // chunk)
    order = [
        nest(np.array([ct]), np.array([rt]), np.flatnonzero(column_tile_of == ct), np.flatnonzero(row_tile_of == rt),
             np.arange(spans))
        for ct in range(column_tile_of[-1] + 1) for rt in range(len(begins))
    ]  # fmt: skip
    ct, rt, c, g, b = (np.concatenate(indices) for indices in zip(*order, strict=True))

    new_columns = np.diff(ct, prepend=-1) != 0
    new_rows = new_columns | (np.diff(rt, prepend=-1) != 0)
    if len(begins) == 1:
        new_rows[1:] = False
    if work.columns_of_fold:
        new_columns = b == 0
    elif piece < loads:
        new_columns = np.ones(len(ct), bool)
    if ideal:
        new_rows[:], new_columns[:] = False, False

    of_columns, group = c if varies else np.zeros_like(c), c * groups + g
    columns = np.minimum(array.columns, work.n - c * array.columns)
    span = np.minimum(array.span, work.timesteps - b * array.span)
    folds = Folds(
        first_load=((g * added.shape[1] + of_columns) * spans + b) * loads,
        first_read=(g * spans + b) * loads,
        first_mask=((c if work.masked == COLUMNS_MASK else g) * spans + b) * loads,
        new_rows=new_rows,
        new_columns=new_columns,
        rows=np.minimum(array.rows, m - g * array.rows),
        columns=columns,
        time=b * array.span,
        span=span,
        finished=np.where(b == spans - 1, 1, 0) if work.adds_time else span,
        group=group,
        added=added[g, of_columns, b] * (1 if varies else columns),
    )
    ends = np.append(begins[1:], groups)
    row_tile = [
        (low[a:e].min() * unit_bits // 8, -(-(high[a:e].max() + 1) * unit_bits // 8))
        for a, e in ((begins[i], ends[i]) for i in rt[new_rows])
    ]
    column_tile: list[tuple[Any, Any]]
    if work.columns_of_fold:
        column_tile = [(number * chunk, (number + 1) * chunk) for number in group[new_columns]]
    elif piece < loads:
        cuts = np.append(np.arange(0, loads, piece) * array.steps, k) * (chunk * 8 // k) // 8
        column_tile = [(first + a, first + e) for first in c[new_columns] * chunk for a, e in itertools.pairwise(cuts)]
    else:
        last = [np.flatnonzero(column_tile_of == i)[[0, -1]] for i in ct[new_columns]]
        column_tile = [(a * chunk, (e + 1) * chunk) for a, e in last]
    row_tiles, column_tiles = (np.array(tiles, np.int64).reshape(-1, 2) for tiles in (row_tile, column_tile))
    return Layout(folds, row_tiles, column_tiles, piece)


# --- Sums over folds --------------------------------------------------------------------------------------------------


def bits_at(words: NDArray[np.uint16], timestep: int) -> NDArray[np.int64]:
    """0 or 1 for every word."""
    return (words >> np.uint16(timestep) & np.uint16(1)).astype(np.int64)


def useful_additions(work: Work, array: Array) -> NDArray[np.int64]:
    """Additions of every PE, int64 [R, C]."""

    def live(words: NDArray[np.uint16], size: int) -> NDArray[np.int64]:
        bits = np.zeros((size, words.shape[1], work.timesteps), np.int64)
        for t in range(work.timesteps):
            at = bits_at(words, t)
            for i in range(min(size, len(words))):
                bits[i, :, t] = at[i::size].sum(0)
        return bits.reshape(size, -1)

    of_rows = live(work.row_words, array.rows)
    if work.column_words is None:
        groups = (work.n + array.columns - 1 - np.arange(array.columns)) // array.columns
        spread: NDArray[np.int64] = of_rows.sum(1)[:, None] * groups
        return spread
    return of_rows @ live(work.column_words, array.columns).T


def by_timestep(work: Work, array: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Additions at every timestep, and pairs (k, t) that PEs in use work on, int64 [T] each."""
    (m, k), n = work.row_words.shape, work.n
    added, worked = np.zeros(work.timesteps, np.int64), np.full(work.timesteps, m * n * k)
    row_groups, column_groups = np.arange(0, m, array.rows), np.arange(0, n, array.columns)
    for t in range(work.timesteps):
        rows = bits_at(work.row_words, t)
        columns = None if work.column_words is None else bits_at(work.column_words, t)
        added[t] = rows.sum() * n if columns is None else rows.sum(0) @ columns.sum(0)
        if array.skips:
            # PEs in use of every live pair: rows of a group times columns of one.
            live = np.maximum.reduceat(rows, row_groups) * np.diff(row_groups, append=m)[:, None]
            met = np.full(k, n)
            if columns is not None:
                met = (np.maximum.reduceat(columns, column_groups) * np.diff(column_groups, append=n)[:, None]).sum(0)
            worked[t] = live.sum(0) @ met
    return added, worked


def entries_by_timestep(folds: Folds, load: Loads, loads: int, timesteps: int) -> NDArray[np.int64]:
    """Elements of rows that are written into scratchpads for every timestep, int64 [T]."""
    steps = load.entered.reshape(-1, loads).sum(1)[folds.first_load // loads]
    each, begin, end = steps * folds.rows * folds.columns, folds.time, folds.time + folds.span
    return np.array([each[(begin <= t) & (t < end)].sum() for t in range(timesteps)], np.int64)
