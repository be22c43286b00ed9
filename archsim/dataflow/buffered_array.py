"""An output-stationary array whose processing elements hold the sums of several timesteps, fed from buffers.

A layer, or a stage of one, is a matrix product of *rows* (R of them in the array at a time), *columns* (C) and a common
index k that is summed over. In a *step* every row gets its elements of one k for a *span* of timesteps, every column
its operand of that k, which stays in the scratchpad while the timesteps pass, one per cycle. What a processing element
does in a cycle depends on a bit of its row's element, and of its column's where that has one: the pair (k, t) is *live*
where both are set. Loops:

    for tile of column groups:            their operand is in the columns' buffer
        for tile of row groups:           their operand is in the rows' buffer
            for C columns in the tile:
                for R rows in the tile:
                    for span of timesteps:     as many as the scratchpads hold; the columns' operand is read again
                        fold                   all k; neurons take the sums

A *load* is the part of a fold that one of two scratchpads, which take turns, holds: ``steps`` k's. With *gating* it
takes a cycle for every pair (k, t), with *skipping* one for every pair in which any row and any column is live, at
least one, in which the scratchpads are looked through. A fold ends with R + C - 2 cycles of skew; folds do not overlap.
So with ideal memory, where the first load is there in cycle 1, and S = span of timesteps,

    gating:  cycles = 1 + folds x (K S + R + C - 2) + S neuron.cycles + 1        (the last neurons, their write)

A piece of an operation (:mod:`archsim.dataflow.pieces`) has planes in place of timesteps. Its neurons first take the
state of the piece before, and what they leave goes out behind the output of their last plane.

An operand tile is fetched line by line into one of two buffers while the other is in use. The rows' operand is
stored once, not unrolled: rows and steps have coordinates whose sum is an address (:class:`Map`). Rows that are
neighbours there share an access of the buffer; steps do not. The columns' operand lies in the order in which it enters.
Where that of C columns is larger than a buffer, it comes in pieces, anew for every fold.

Agents: the array; the feeder, which fills the scratchpads from both buffers; the lanes of a fetcher, a DMA, for each
buffer; the neurons, which take the sums of a fold, read and write potentials where these are kept outside, and write
the output. FIFOs:

    fetchers -- ready --> feeder -- load --> array -- sums --> neurons
             <-- free --         <-- credit --
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.buffered_tables import (
    COLUMNS_MASK,
    IN_DRAM,
    IN_PE,
    OUTPUT_MASK,
    ROWS_MASK,
    Array,
    Folds,
    Loads,
    Reads,
    Work,
    by_timestep,
    entries_by_timestep,
    lay_out,
    loads_of,
    reads_of,
    sizes_of,
    useful_additions,
)
from archsim.dataflow.layer import Layer
from archsim.dataflow.layer_machine import LayerMachine
from archsim.dataflow.machine import BURST_LINES, Program, unit_times
from archsim.dataflow.parts import turns
from archsim.engine.result import UnitTime
from archsim.hardware.agent import NONE, Agent, Operations, op
from archsim.hardware.diagram import Diagram, Fifo
from archsim.hardware.memory.buffers import BufferTensor
from archsim.hardware.memory.placement import Placer
from archsim.hardware.operation import RESIDENT_READ, RESIDENT_WRITE, STREAM_READ, STREAM_WRITE

ALL_TIMESTEPS = -1
"""In place of a timestep: what is moved serves them all."""


class Operands(NamedTuple):
    """Tables of the stage, of :mod:`archsim.dataflow.buffered_tables`.

    ``row_tile`` and ``column_tile`` int64 [tiles, 2] in the order in which they are fetched, (first byte, end) in the
    operand. For the results: ``useful`` [R, C] additions of each PE; ``added``, ``worked`` and ``entered`` [T],
    additions, pairs (k, t) in PEs in use, elements of rows written into scratchpads.
    """

    fold: Folds
    load: Loads
    read: Reads
    mask: Reads
    row_tile: NDArray[np.int64]
    column_tile: NDArray[np.int64]
    useful: NDArray[np.int64]
    added: NDArray[np.int64]
    worked: NDArray[np.int64]
    entered: NDArray[np.int64]


# --- Agents -----------------------------------------------------------------------------------------------------------

ADDED, PAIRS, ROW_ENTRIES, COLUMN_ENTRIES, SUMS = range(5)


def array(a: Agent, m: Any, x: Operands) -> Operations:
    """Work through the loads of every fold, then hand its sums to the neurons."""
    for fold in range(m.folds):
        pes = x.fold.rows[fold] * x.fold.columns[fold]
        for load in range(m.loads):
            number = x.fold.first_load[fold] + load
            a.count[PAIRS] += x.load.live[number] * pes
            a.count[ROW_ENTRIES] += x.load.entered[number] * x.fold.span[fold] * pes
            a.count[COLUMN_ENTRIES] += x.load.entered[number] * pes
            yield op(pop=m.load.port, compute=x.load.cycles[number], push=m.credit.fifo)
        a.count[ADDED] += x.fold.added[fold]
        yield op(compute=m.config.pe.rows + m.config.pe.columns - 2, push=m.sums.fifo)


def feeder(a: Agent, m: Any, x: Operands) -> Operations:
    """Fill the scratchpads in turn, as soon as the array is through with one; a new tile gives back the last."""
    row_tiles, column_tiles = 0, 0
    for fold in range(m.folds):
        for load in range(m.loads):
            if load == 0 and x.fold.new_rows[fold]:
                for lane in range(m.memory.lanes):
                    yield op(pop=m.row_ready.port + lane)
                yield op(push=m.row_free.fifo if row_tiles > 0 else NONE)
                row_tiles += 1
            if x.fold.new_columns[fold] and load % m.piece == 0:
                for lane in range(m.memory.lanes):
                    yield op(pop=m.column_ready.port + lane)
                yield op(push=m.column_free.fifo if column_tiles > 0 else NONE)
                column_tiles += 1
            read_load(a, m, x, fold, load)
            yield op(pop=m.credit.port, push=m.load.fifo)


def row_fetcher(a: Agent, m: Any, x: Operands) -> Operations:
    """Fetch the rows' operand."""
    yield from fetch(a, m, x.row_tile, m.tensors.by_rows, m.row_ready, m.row_free, ROWS_MASK)


def column_fetcher(a: Agent, m: Any, x: Operands) -> Operations:
    """Fetch the columns' operand."""
    yield from fetch(a, m, x.column_tile, m.tensors.by_columns, m.column_ready, m.column_free, COLUMNS_MASK)


def neurons(a: Agent, m: Any, x: Operands) -> Operations:
    """Take the sums of a fold, timestep by timestep, after the state of a stage before; write what comes out as lines
    become complete."""
    made, written, wanted, taken = 0, 0, 0, 0
    for fold in range(m.folds):
        neurons, ends = x.fold.rows[fold] * x.fold.columns[fold], last(a, m, x, fold)
        if x.fold.time[fold] == 0:
            wanted += neurons * m.taken_bits
            whole = (wanted + 7 >> 3) + m.memory.line_bytes - 1 >> m.memory.line_shift << m.memory.line_shift
            yield from read_state(a, m, taken, whole)
            taken = whole
        a.count[SUMS] += neurons * x.fold.finished[fold]
        made += (neurons * (x.fold.finished[fold] * m.sum_bits + ends * m.last_bits) + 7) >> 3
        if m.outside == IN_PE and not m.kept:
            yield op(pop=m.sums.port, compute=(x.fold.finished[fold] + ends * m.late) * m.neuron_cycles)
        else:
            yield op(pop=m.sums.port)
            for t in range(x.fold.time[fold], x.fold.time[fold] + x.fold.finished[fold]):
                yield from update(a, m, x, fold, t)
            if ends * m.late > 0:
                yield op(compute=m.late * m.neuron_cycles)
        complete = made >> m.memory.line_shift << m.memory.line_shift
        yield from write_output(a, m, written, complete)
        written = complete
    yield from write_output(a, m, written, made)


# --- Their parts ------------------------------------------------------------------------------------------------------


def last(a: Agent, m: Any, x: Operands, fold: int) -> int:
    """1 for the fold of the last timesteps of its neurons, otherwise 0."""
    return int(x.fold.time[fold] + x.fold.span[fold] == m.layer.timesteps)


def read_state(a: Agent, m: Any, first: int, end: int) -> Operations:
    """Read bytes ``first`` to ``end`` of the state of the stage before, a burst of lines at a time."""
    while first < end:
        stop = min(end, first + m.memory.burst * m.memory.line_bytes)
        move(a, m, m.tensors.taken, ALL_TIMESTEPS, first, stop, STREAM_READ)
        yield op()
        first = stop


def fetch(
    a: Agent, m: Any, tiles: NDArray[np.int64], tensor: BufferTensor, ready: Fifo, free: Fifo, mask: int
) -> Operations:  # fmt: skip
    """A lane of a DMA: fetch tile after tile into the buffer that is free, lanes taking shares of lines in turn.

    A share ends with its last line, and the lane's next one begins. A tile brings its mask, if the tensor has ``mask``.
    """
    share, turn = m.memory.share << m.memory.line_shift, 0
    for tile in range(len(tiles)):
        yield op(pop=free.port + a.me)
        begin = tiles[tile, 0] >> m.memory.line_shift << m.memory.line_shift
        begin += (a.me - turn) % m.memory.lanes * share
        while begin < tiles[tile, 1]:
            first, end = max(begin, tiles[tile, 0]), min(begin + share, tiles[tile, 1])
            if m.masked == mask:
                move_masks(a, m, first == tiles[tile, 0], first, end, STREAM_READ)
            move(a, m, tensor, ALL_TIMESTEPS, first, end, STREAM_READ)
            yield op()
            begin += m.memory.lanes * share
        turn += turns(a, m, tiles[tile, 0], tiles[tile, 1])
        yield op(push=ready.fifo + a.me)


def update(a: Agent, m: Any, x: Operands, fold: int, t: int) -> Operations:
    """Neurons of a fold at timestep ``t``, with the potentials that are not in the PEs: a read, ``neuron_cycles``, a
    write, one after the other."""
    if m.outside == IN_DRAM and (t > 0 or m.always):
        move_potentials(a, m, x, fold, t, 0, STREAM_READ)
        yield op()
    if m.outside != IN_PE and (t > 0 or m.always):
        move_potentials(a, m, x, fold, t, 0, RESIDENT_READ)
        yield op()
    yield op(compute=m.neuron_cycles)
    if m.outside != IN_PE and (t < m.layer.timesteps - 1 or m.always):
        move_potentials(a, m, x, fold, t, 0, STREAM_WRITE if m.outside == IN_DRAM else RESIDENT_WRITE)
        yield op()
    if m.kept:
        move_potentials(a, m, x, fold, t, 1, STREAM_WRITE)
        yield op()


def write_output(a: Agent, m: Any, first: int, end: int) -> Operations:
    """Write bytes ``first`` to ``end`` of the output, a burst of lines at a time, with the mask where it has one."""
    while first < end:
        stop = min(end, first + m.memory.burst * m.memory.line_bytes)
        move(a, m, m.tensors.output, ALL_TIMESTEPS, first, stop, STREAM_WRITE)
        if m.masked == OUTPUT_MASK:
            move_masks(a, m, False, first, stop, STREAM_WRITE)
        yield op()
        first = stop


def read_load(a: Agent, m: Any, x: Operands, fold: int, load: int) -> None:
    """Ask for what a load takes from the buffers of both operands and of masks."""
    time, number = x.fold.time[fold], x.fold.first_load[fold] + load
    read = x.fold.first_read[fold] + load
    read_banks(a, m, m.tensors.by_rows, time, x.read.bits[read], x.read.beats[read])
    bits = x.load.entered[number] * x.fold.columns[fold] * m.column_bits
    read_banks(a, m, m.tensors.by_columns, time, bits, x.load.beats[number])
    if m.masked == ROWS_MASK or m.masked == COLUMNS_MASK:
        mask = x.fold.first_mask[fold] + load
        read_banks(a, m, m.tensors.mask, time, x.mask.bits[mask], x.mask.beats[mask])


def read_banks(a: Agent, m: Any, tensor: BufferTensor, time: int, bits: int, beats: NDArray[np.int64]) -> None:
    """Ask each bank that has accesses, by ``beats`` [banks]; the first one carries the useful bytes of all."""
    useful, row = (bits + 7) >> 3, row_at(a, m, tensor, time)
    for bank in range(len(beats)):
        if beats[bank] > 0:
            a.request(tensor.line + bank, beats[bank], useful, RESIDENT_READ, row, 0)
            useful = 0


def move(a: Agent, m: Any, tensor: BufferTensor, time: int, first: int, end: int, mode: int) -> None:
    """Ask for the lines of bytes ``first`` to ``end`` of a tensor."""
    row = row_at(a, m, tensor, time)
    a.lines(tensor.line, 1, first, end, m.memory.line_shift, m.memory.beat_shift, mode, row, 0)


def row_at(a: Agent, m: Any, tensor: BufferTensor, time: int) -> int:
    """Row of the traffic table for what belongs to timestep ``time``, to a span that begins there, or to all."""
    return int(tensor.row + (1 + time) * m.traffic_rows)


def move_masks(a: Agent, m: Any, begins: bool, first: int, end: int, mode: int) -> None:
    """Ask for the lines of the mask that begin beside bytes ``first`` to ``end`` of what it belongs to; where a tile
    ``begins``, also for the line that began before."""
    reach = m.mask_ratio << m.memory.line_shift
    line = first // reach if begins else (first + reach - 1) // reach
    for number in range(line, (end + reach - 1) // reach):
        size = m.memory.line_bytes
        a.request(m.tensors.mask.line + number, size >> m.memory.beat_shift, size, mode, m.tensors.mask.row, 0)


def move_potentials(a: Agent, m: Any, x: Operands, fold: int, t: int, kept: int, mode: int) -> None:
    """Ask for the potentials of a fold at timestep ``t``, those of its group or those ``kept`` of every timestep."""
    group = x.fold.group[fold]
    place = group * m.layer.timesteps + t if kept else group
    first = place * m.potential_lines << m.memory.line_shift
    used = (x.fold.rows[fold] * x.fold.columns[fold] * m.potential_bits + 7) >> 3
    move(a, m, m.tensors.potentials, t, first, first + used, mode)


# --- The machine ------------------------------------------------------------------------------------------------------

MemoryActions = Callable[[NDArray[np.int64]], Mapping[tuple[str, str], int]]
"""Counts of memory actions, by (unit, action), of a traffic table [tensors, columns]."""


class BufferedArray(LayerMachine):
    """A machine that runs stages on an output-stationary array; a subclass says what a stage does (:meth:`work`).

    Its configuration has ``pe.rows``, ``pe.columns``, ``pe.output_buffer``, ``neuron.cycles`` and ``memory.buffers``.
    """

    agents = array, feeder, row_fetcher, column_fetcher, neurons
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {
        "added": ADDED, "pairs": PAIRS, "row_entries": ROW_ENTRIES, "column_entries": COLUMN_ENTRIES, "sums": SUMS,
    }  # fmt: skip

    @abstractmethod
    def work(self, layer: Layer) -> Work:
        """What the array does in a layer, or in a stage of one."""

    @property
    @abstractmethod
    def skips(self) -> bool:
        """Whether dead pairs take no cycle."""

    @property
    @abstractmethod
    def neuron_cycles(self) -> int:
        """Cycles that the neurons of a fold take for a timestep."""

    def copies(self, layer: Layer) -> int:
        """Traffic for all timesteps together, and for each of them."""
        return 1 + layer.timesteps

    def array_for(self, work: Work) -> Array:
        """The array as a stage uses it."""
        pe, buffers = self.config.pe, self.config.memory.buffers
        return Array(
            pe.rows, pe.columns, work.steps, work.span, work.timesteps, self.skips, buffers.banks, buffers.width_bits,
            8 * buffers.line_bytes,
        )  # fmt: skip

    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Operands]:
        """The stage as folds on the array."""
        work = self.work(layer)
        operands, piece = self.operands(work)
        buffers, pe = self.config.memory.buffers, self.config.pe
        potential_bytes = -(-pe.rows * pe.columns * work.potential_bits // 8)
        potential_lines = -(-potential_bytes // memory.line_bytes)
        memory_lines, masks = self.config.memory.lines(BURST_LINES), 2 if work.masked else 1
        lanes, lines = memory_lines.lanes, memory_lines.burst * masks + 1
        diagram.agent(array)
        diagram.agent(feeder, requests=3 * buffers.banks)
        diagram.agent(row_fetcher, lanes, requests=memory_lines.share * masks + 1)
        diagram.agent(column_fetcher, lanes, requests=memory_lines.share * masks + 1)
        diagram.agent(neurons, requests=max(lines, potential_lines))
        return {
            "load": diagram.fifo(2),
            "sums": diagram.fifo(pe.output_buffer),
            "credit": diagram.fifo(2, full=True),
            "row_ready": diagram.fifo(2, count=lanes),
            "row_free": diagram.fifo(2, full=True, readers=lanes),
            "column_ready": diagram.fifo(2, count=lanes),
            "column_free": diagram.fifo(2, full=True, readers=lanes),
            "folds": len(operands.fold.rows),
            "loads": sizes_of(work, self.array_for(work)).loads,
            "piece": piece,
            "column_bits": sizes_of(work, self.array_for(work)).step_bits // pe.columns,
            "sum_bits": work.output_bits,
            "taken_bits": work.taken_bits,
            "last_bits": work.last_bits,
            "late": work.late,
            "neuron_cycles": self.neuron_cycles,
            "outside": work.outside,
            "always": work.adds_time,
            "kept": work.kept,
            "potential_bits": work.potential_bits,
            "potential_lines": potential_lines,
            "masked": work.masked,
            "mask_ratio": {ROWS_MASK: work.row_bits, COLUMNS_MASK: work.column_bits}.get(work.masked, work.output_bits),
            "tensors": work.tensors,
            "traffic_rows": len(self.tensors),
        }, operands

    def operands(self, work: Work) -> tuple[Operands, int]:
        """The tables of a stage, and how many loads a piece of the columns' operand has."""
        shape = self.array_for(work)
        loads, added, enters = loads_of(work, shape)
        reads, masks, reach = reads_of(work, shape, enters)
        layout = lay_out(work, shape, reach, added, self.config.memory.ideal)
        entered = entries_by_timestep(layout.folds, loads, sizes_of(work, shape).loads, work.timesteps)
        return Operands(
            layout.folds, loads, reads, masks, layout.row_tile, layout.column_tile, useful_additions(work, shape),
            *by_timestep(work, shape), entered,
        ), layout.piece  # fmt: skip

    def unit_times(self, program: Program, times: NDArray[np.int64], cycles: int) -> tuple[UnitTime, ...]:
        """The agents, and each PE: busy in cycles in which it adds, stalled with the array, else idle."""
        agents = unit_times(program.units, times, cycles)
        stalled = agents[0].stall_cycles
        return agents + tuple(
            UnitTime("pe", number, useful, stalled, cycles - useful - stalled)
            for number, useful in enumerate(program.operands.useful.ravel().tolist())
        )

    @property
    def processing_elements(self) -> int:
        """PEs of the array."""
        pes: int = self.config.pe.rows * self.config.pe.columns
        return pes

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """All PEs add in every cycle."""
        return -(-int(counts[ADDED]) // self.processing_elements)


def moved_by_timestep(
    program: Program, traffic: NDArray[np.int64], shared: Collection[int], actions: MemoryActions
) -> dict[tuple[str, str], NDArray[np.int64]]:
    """Memory actions of every timestep, int64 [T] each, but those for the ``shared`` tensors, which serve them all.

    ``traffic`` int64 [1 + T, tensors, columns] as :func:`row_at` says, ``actions`` what a table of traffic means in
    actions. A potential kept between timesteps belongs to one. An access for several timesteps, of a span or of all,
    belongs to each of them in equal parts; parts are whole, so one timestep may have one more than another.
    """
    m, folds, timesteps = program.spec, program.operands.fold, len(traffic) - 1
    spans = dict(zip(folds.time.tolist(), folds.span.tolist(), strict=True))
    found: dict[tuple[str, str], NDArray[np.int64]] = {}
    for part, tensor in zip(*np.nonzero(traffic.any(2)), strict=True):
        if tensor in shared:
            continue
        begin, length = max(0, part - 1), timesteps if part == 0 else spans.get(part - 1, 1)
        if part > 0 and tensor == m.tensors.potentials.row and (m.outside != IN_PE or m.kept):
            length = 1
        alone = np.zeros_like(traffic[0])
        alone[tensor] = traffic[part, tensor]
        for action, count in actions(alone).items():
            of_timestep = found.setdefault(action, np.zeros(timesteps, np.int64))
            of_timestep[begin : begin + length] += np.diff(count * np.arange(length + 1) // length)
    return found
