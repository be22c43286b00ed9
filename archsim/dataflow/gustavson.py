"""Gustavson's dataflow on compressed fibers, as Gamma runs it: a row of the output is a combination of rows of B.

    for m in rows, t in timesteps:           a task: the earliest free PE takes the next one
        for k where A[m, t] is not zero:     a fiber of B for each, from the FiberCache
            merge: add A[m, t, k] B[k, :] to the row of sums, in passes of at most R fibers
    for m in rows:                           when all its timesteps are there
        for t in timesteps: fire N neurons; store the row

Agents: a PE is two, a *fetch stage* that takes tasks and reads fibers into line buffers, burst by burst, and a
*merger* that works on the buffers filled before. A *neuron unit* owns every W-th row, holds the sums of a few rows
until all timesteps are there, and fires. A *scheduler* hands tasks out, a *fetcher* brings A into the cache before:

    fetcher -- tasks on chip --> scheduler -- task (shared) --> fetch stages -- burst --> mergers -- done --> neurons
                                 scheduler <-- credit -- neuron units       -- heads -->
                                                                            <-- partial --

**Heads.** What leaves a merger first may come from any of its ways, so it begins a pass when the first line of every
input is in its buffers. A fetch stage reads those lines first, input after input, then what is left of them; the
buffers must have room for the first lines of all ways. A dense row of sums takes fibers one after the other instead.

**Dispatch.** The tasks' FIFO is shared by the fetch stages: the next task goes to the one that has waited longest, the
smallest number first among equals, and it begins a cycle later. A fetch stage asks when its last burst has found
buffers, so it works up to ``burst_buffers`` bursts ahead of its merger.

**Memory.** A lies packed in the order of tasks; a line that belongs to one task alone is consumed, others are read.
Rows of B lie packed behind a table that says where each begins (entries in one beat are one read); a row without a
value is known from the table and not read. Partial fibers (coordinates and sums) are written to the cache, and consumed
by the PE that wrote them; so are finished sums, for the neuron unit, but a single timestep is passed on. Epochs (cache)
are groups of rows under way at once; what is read once, partial fibers and sums, is of the one before and yields first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.compress.coordinate import BYTE, CoordinateFibers, bits_of, spike_rows, value_rows, weight_rows
from archsim.dataflow.base import MachineConfig, ScheduledLayers, shared_components
from archsim.dataflow.layer import Layer
from archsim.dataflow.layer_machine import EVERYTHING, LayerMachine
from archsim.dataflow.machine import BURST_LINES, Program
from archsim.dataflow.parts import store, take
from archsim.hardware.agent import NONE, Agent, Operations, op
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.compute.merger import merge_cycles, merge_rows, passes_of, plan_passes
from archsim.hardware.diagram import Diagram
from archsim.hardware.fields import Count, SumBits, WeightBits
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.memory.placement import Placer, Tensor
from archsim.hardware.operation import (
    CACHED_READ,
    CACHED_WRITE,
    CONSUME,
    PREFETCH,
    RESIDENT_READ,
    RESIDENT_WRITE,
    SHARED,
    STREAM_READ,
)
from archsim.trace import Trace

# --- Configuration ----------------------------------------------------------------------------------------------------


class GustavsonPe(Block):
    """Processing elements: a fetch stage and a merger with its accumulator each."""

    count: Count = Field(description="PEs; each works on one row and timestep at a time")
    accumulate: Literal["merger", "dense_row"] = Field(
        description="sums of a row: merged in passes of at most radix fibers, or held whole and indexed by coordinate"
    )
    radix: int = Field(ge=2, le=256, description="ways of the merger")
    burst_lines: int = Field(ge=2, le=64, description="lines that a PE reads, or writes, at once")
    burst_buffers: int = Field(ge=3, le=64, description="bursts that a PE has room for: one merged, one filled")
    spike_overhead_cycles: int = Field(ge=0, le=64, description="cycles of an input fiber beside one per entry")
    coordinate_bits: int = Field(ge=1, le=31, description="bits of a coordinate inside a PE")
    weight_bits: WeightBits = Field(description="bits of a weight")
    accumulator_bits: SumBits = Field(description="bits of a sum, sign included")


class NeuronUnits(LifConfig):
    """Neuron units, as many as PEs; each owns the rows of its number."""

    rows: Count = Field(description="rows of a unit that can be under way at once")


class GustavsonScheduler(ScheduledLayers):
    """Order of the work."""

    operands: Literal["cached", "loaded_first"] = Field(
        description="A and B come through the cache, or are read whole, whatever their size, before the first task"
    )
    prefetch_tasks: int = Field(ge=0, le=1024, description="tasks whose row of A is fetched ahead; 0: on demand")


class GustavsonFormat(Block):
    """Compressed fibers in memory."""

    coordinate_bits: int = Field(ge=0, le=32, description="bits of a coordinate; 0: as few as the layer needs")
    pointer_bits: int = Field(ge=0, le=64, description="bits before a row of A, and of a row of B in the table")
    weight_rows: Literal["coordinate", "bitmask"] = Field(description="where the values of a row of B are")


class GustavsonConfig(MachineConfig):
    """A machine with Gustavson's dataflow."""

    pe: GustavsonPe = Field(description="processing elements")
    neuron: NeuronUnits = Field(description="neuron units")
    scheduler: GustavsonScheduler = Field(description="order of the work")
    format: GustavsonFormat = Field(description="compressed fibers")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        # The inputs of a pass are rows of B, then partial fibers: one burst more where they change.
        least = -(-self.pe.radix // self.pe.burst_lines) + 1 + 2
        if self.pe.accumulate == "merger" and self.pe.burst_buffers < least:
            raise CrossFieldError({
                "pe.burst_buffers": "must hold, beside a burst merged and one filled, the first line of each of the "
                f"pe.radix ways: at least {least} with pe.burst_lines {self.pe.burst_lines}"
            })  # fmt: skip
        return self


# --- Operands ---------------------------------------------------------------------------------------------------------


class Operands(NamedTuple):
    """A by tasks and the rows of B, the passes of every task, and where everything is in memory.

    Task i belongs to ``epoch[i]`` and has the rows ``k`` int32 [``a_start[i]``, ``a_start[i + 1]``) of B, which hold
    ``products[i]`` values, and the bytes [``a_byte[i]``, ``a_byte[i + 1]``) of memory, in ``input``. Row k of B has
    ``b_entries[k]`` values, ``b_bytes[k]`` bytes from byte ``b_byte[k]`` of memory on, and an entry in ``table``. A
    task's passes are ``first_pass[i]`` on: ``end`` and ``out`` as in the merger's text, and ``out_bytes`` of the
    result go through the cache.

    Fibers of ``psum``: partial fibers of the first PE, of the second and so on; then, from ``m.first_sum`` on, a
    place for the finished sums of every task that can be under way; then, from ``m.first_row`` on, one for the dense
    row of every PE. A coordinate stands beside its value, so both count as the tensor.
    """

    a_start: NDArray[np.int64]
    k: NDArray[np.int32]
    a_byte: NDArray[np.int64]
    epoch: NDArray[np.int64]
    products: NDArray[np.int64]
    b_entries: NDArray[np.int64]
    b_byte: NDArray[np.int64]
    b_bytes: NDArray[np.int64]
    first_pass: NDArray[np.int64]
    end: NDArray[np.int64]
    out: NDArray[np.int64]
    out_bytes: NDArray[np.int64]
    input: Tensor
    table: Tensor
    weight: Tensor
    psum: Tensor
    output: Tensor
    taken: Tensor


# --- Agents -----------------------------------------------------------------------------------------------------------

MATCHES, MERGED, FIBERS, BUFFER_BEATS, UPDATES, DISPATCHED = range(6)

# A burst's token: entries, fibers that begin in it, whether it ends a pass.
FIBER_SHIFT, ENTRY_SHIFT = 1, 16


def merger(a: Agent, m: Any, x: Operands) -> Operations:
    """Merge burst after burst, once the heads of a pass are there; its end writes a partial fiber or finished sums."""
    while True:
        yield op(pop=m.bursts.port + a.me)
        task = a.value
        if task == m.tasks:
            break
        for current in range(x.first_pass[task], x.first_pass[task + 1]):
            if not m.dense:
                yield op(pop=m.heads.port + a.me)
            while True:
                yield op(pop=m.bursts.port + a.me)
                entries, fibers = a.value >> ENTRY_SHIFT, a.value % (1 << ENTRY_SHIFT) >> FIBER_SHIFT
                ends = a.value & 1
                a.count[MERGED] += entries
                a.count[FIBERS] += fibers
                cycles = merge_cycles(entries, fibers, m.config.pe.spike_overhead_cycles, m.latency * ends)
                if m.dense:
                    touch_row(a, m, x, fibers)
                if ends:
                    break
                yield op(compute=cycles)
            # The first lines of the result are written while the last burst is merged.
            written, stored = 0, False
            while not stored:
                written = store_result(a, m, x, task, current, written)
                stored = written == x.out_bytes[current]
                yield op(compute=cycles, push=announced(a, m, x, task, current) if stored else NONE)
                cycles = 0


def touch_row(a: Agent, m: Any, x: Operands, fibers: int) -> None:
    """The whole row of sums, in the PE's own bank, once a fiber."""
    line, size = x.psum.line[m.first_row + a.me], (m.layer.n * m.sum_bits + BYTE - 1) // BYTE
    for _ in range(fibers):
        a.request(line, beats(a, m, size), size, RESIDENT_WRITE, x.psum.row, 0)


def store_result(a: Agent, m: Any, x: Operands, task: int, current: int, first: int) -> int:
    """Write a pass's result from its byte ``first`` on: a partial fiber, or finished sums; returns the next byte."""
    fiber = a.me * m.partials + current - x.first_pass[task]
    if current + 1 == x.first_pass[task + 1]:
        fiber = m.first_sum + task % m.tasks_under_way
    begin, most = x.psum.line[fiber] << m.memory.line_shift, m.config.pe.burst_lines
    end = begin + x.out_bytes[current]
    return int(ask(a, m, begin + first, end, most, CACHED_WRITE, x.psum.row, x.epoch[task] - 1) - begin)


def announced(a: Agent, m: Any, x: Operands, task: int, current: int) -> int:
    """The FIFO that tells of a pass's result: to the neuron unit, or to the PE itself."""
    if current + 1 == x.first_pass[task + 1]:
        return int(m.done.fifo + task // m.layer.timesteps % m.rows_under_way)
    return NONE if m.dense else int(m.written.fifo + a.me)


def fetch_stage(a: Agent, m: Any, x: Operands) -> Operations:
    """Take a task; read its row of A, then for each pass the table, the rows of B and the partial fibers."""
    while True:
        yield op(pop=m.handed_out.port)
        task = a.value
        if task == m.tasks:
            break
        a.count[MATCHES] += x.products[task]
        yield from read_task(a, m, x, task)
        first = 0
        for current in range(x.first_pass[task], x.first_pass[task + 1]):
            end = x.end[current]
            if first == end:  # a row without inputs
                yield op(push=m.bursts.fifo + a.me, value=packed(a, 0, 0, True))
            if m.dense:
                yield from read_whole(a, m, x, task, first, end)
            else:
                yield from read_heads_first(a, m, x, task, first, end)
            first = end
    yield op(push=m.bursts.fifo + a.me, value=m.tasks)


def read_task(a: Agent, m: Any, x: Operands, task: int) -> Operations:
    """Read the task's row of A; a line that is its alone is consumed."""
    first, end, read = x.a_byte[task], x.a_byte[task + 1], False
    while not read:
        while first < end and a.requests() < m.config.pe.burst_lines:
            line = first >> m.memory.line_shift << m.memory.line_shift
            stop = min(end, line + m.memory.line_bytes)
            alone = x.a_byte[task] <= line and line + m.memory.line_bytes <= end
            mode = CONSUME if alone and m.operand_mode == CACHED_READ else m.operand_mode
            ask(a, m, first, stop, m.config.pe.burst_lines, mode, x.input.row, x.epoch[task])
            a.count[BUFFER_BEATS] += beats(a, m, stop - first)
            first = stop
        read = first == end
        yield op(push=m.bursts.fifo + a.me if read else NONE, value=task)


def read_whole(a: Agent, m: Any, x: Operands, task: int, first: int, end: int) -> Operations:
    """Read a pass's rows of B one after the other, ``burst_lines`` lines at a time."""
    item, done = first, 0
    while item < end:
        group = min(end, item + m.config.pe.burst_lines)
        if m.config.format.pointer_bits > 0:
            look_up(a, m, x, task, item, group)
            yield op()
        while item < group:
            before = item
            item, done, entries = fill(a, m, x, task, item, group, done)
            yield op(push=m.bursts.fifo + a.me, value=packed(a, entries, item - before, item == end))


def read_heads_first(a: Agent, m: Any, x: Operands, task: int, first: int, end: int) -> Operations:
    """Read the first line of each of a pass's inputs, which lets the merger begin, then what is left of them."""
    rows = x.a_start[task + 1] - x.a_start[task]
    item, longer = first, 0
    while item < end:
        group = min(end, item + m.config.pe.burst_lines)
        if item < rows and m.config.format.pointer_bits > 0:
            look_up(a, m, x, task, item, min(group, rows))
            yield op()
        while item < group:
            before, item = item, (min(group, rows) if item < rows else group)
            entries, go_on = heads(a, m, x, task, before, item)
            longer += go_on
            yield op(
                pop=NONE if before < rows else m.written.port + a.me, pops=item - before, push=m.bursts.fifo + a.me,
                value=packed(a, entries, item - before, item == end and longer == 0),
            )  # fmt: skip
    yield op(push=m.heads.fifo + a.me)
    item, done = end if longer == 0 else first, 0
    while item < end:
        item, done, entries = fill(a, m, x, task, item, min(end, rows) if item < rows else end, done)
        yield op(push=m.bursts.fifo + a.me, value=packed(a, entries, 0, item == end))


def look_up(a: Agent, m: Any, x: Operands, task: int, first: int, end: int) -> None:
    """Read where the rows of B of inputs ``first`` to ``end`` begin; entries that lie in one beat are one read."""
    last = -1
    for i in range(x.a_start[task] + first, x.a_start[task] + end):
        byte = x.k[i] * m.config.format.pointer_bits // BYTE
        beat = byte >> m.memory.beat_shift
        if beat != last:
            line = x.table.line[0] + (byte >> m.memory.line_shift)
            a.request(line, 1, 1 << m.memory.beat_shift, m.operand_mode, x.table.row, x.epoch[task])
        last = beat


def heads(a: Agent, m: Any, x: Operands, task: int, item: int, end: int) -> tuple[int, int]:
    """Ask for the first lines of inputs; returns the entries of those that end there, and how many others go on."""
    row, mode, epoch = source(a, m, x, task, item)
    entries, go_on, moved = 0, 0, 0
    for i in range(item, end):
        first, size, own = input_of(a, m, x, task, i)
        head = first_line(a, m, first, size)
        if head > 0:
            a.request(first >> m.memory.line_shift, beats(a, m, head), head, mode, row, epoch)
        moved += beats(a, m, head)
        if head < size:
            go_on += 1
        else:
            entries += own
    a.count[BUFFER_BEATS] += moved
    return entries, go_on


def fill(a: Agent, m: Any, x: Operands, task: int, item: int, end: int, done: int) -> tuple[int, int, int]:
    """Ask for what inputs have behind their heads, of a dense row for all of them, until the burst is full.

    The first ``done`` bytes of the first input were asked for before. Returns the same for the next burst, and the
    entries of the inputs that are complete with this one.
    """
    row, mode, epoch = source(a, m, x, task, item)
    entries, moved = 0, 0
    while item < end and a.requests() < m.config.pe.burst_lines:
        first, size, own = input_of(a, m, x, task, item)
        if not m.dense:
            done = max(done, first_line(a, m, first, size))
        if done < size:
            stop = ask(a, m, first + done, first + size, m.config.pe.burst_lines, mode, row, epoch)
            moved += beats(a, m, stop - first - done)
            done = stop - first
            if done < size:
                break
            entries += own
        item, done = item + 1, 0
    a.count[BUFFER_BEATS] += moved
    return item, done, entries


def source(a: Agent, m: Any, x: Operands, task: int, item: int) -> tuple[int, int, int]:
    """How to ask for an input, a row of B or behind them a partial fiber: row of the traffic table, mode, epoch."""
    if item < x.a_start[task + 1] - x.a_start[task]:
        return x.weight.row, m.operand_mode, x.epoch[task]
    return x.psum.row, CONSUME, x.epoch[task] - 1


def input_of(a: Agent, m: Any, x: Operands, task: int, item: int) -> tuple[int, int, int]:
    """An input of a pass: its first byte in memory, its bytes, its entries."""
    partial = item - (x.a_start[task + 1] - x.a_start[task])
    if partial >= 0:
        result = x.first_pass[task] + partial
        line = x.psum.line[a.me * m.partials + partial]
        return line << m.memory.line_shift, x.out_bytes[result], x.out[result]
    k = x.k[x.a_start[task] + item]
    return x.b_byte[k], x.b_bytes[k], x.b_entries[k]


def first_line(a: Agent, m: Any, first: int, size: int) -> int:
    """Of ``size`` bytes from ``first`` on, those in their first line."""
    return int(min(size, m.memory.line_bytes - (first & (m.memory.line_bytes - 1))))


def ask(a: Agent, m: Any, first: int, end: int, most: int, mode: int, row: int, epoch: int) -> int:
    """Ask for bytes ``first`` to ``end`` of memory, up to ``most`` requests in all; returns the next byte."""
    room = most - a.requests()
    stop = max(first, min(end, ((first >> m.memory.line_shift) + room) << m.memory.line_shift))
    a.lines(0, 1, first, stop, m.memory.line_shift, m.memory.beat_shift, mode, row, epoch)
    return int(stop)


def beats(a: Agent, m: Any, size: int) -> int:
    """Beats of the bank's width that ``size`` bytes fill."""
    return int(size + (1 << m.memory.beat_shift) - 1 >> m.memory.beat_shift)


def packed(a: Agent, entries: int, fibers: int, ends: int) -> int:
    """A burst's token."""
    return entries << ENTRY_SHIFT | fibers << FIBER_SHIFT | int(ends)


def neuron_unit(a: Agent, m: Any, x: Operands) -> Operations:
    """Wait for all timesteps of a row, read their sums while N neurons fire in each, write the row."""
    row = a.me
    while row < m.layer.m:
        a.count[UPDATES] += m.layer.n * m.layer.updates
        done, cycles = m.done.port + row % m.rows_under_way, m.layer.n * m.layer.updates * m.config.neuron.cycles
        yield from take(a, m, x.taken, row)
        task, first = row * m.layer.timesteps, 0
        while task < (row + 1) * m.layer.timesteps:
            while task < (row + 1) * m.layer.timesteps and a.requests() < m.memory.burst:
                begin = x.psum.line[m.first_sum + task % m.tasks_under_way] << m.memory.line_shift
                end = begin + x.out_bytes[x.first_pass[task + 1] - 1]
                stop = ask(a, m, begin + first, end, m.memory.burst, CONSUME, x.psum.row, x.epoch[task] - 1)
                first = stop - begin
                if stop < end:
                    break
                task, first = task + 1, 0
            yield op(pop=done, pops=m.layer.timesteps, compute=cycles)
            done, cycles = NONE, 0
        yield from store(a, m, x.output, row)
        yield op(push=m.credits.fifo + a.me)
        row += m.neuron_units


def scheduler(a: Agent, m: Any, x: Operands) -> Operations:
    """A task a cycle, once its row of A is on chip and its neuron unit has room; then an end for every PE."""
    for task in range(m.tasks):
        if task % m.layer.timesteps == 0:
            yield op(pop=m.credits.port + task // m.layer.timesteps % m.neuron_units)
        a.count[DISPATCHED] += 1
        yield op(pop=m.fetched.port if m.fetches else NONE, compute=1, push=m.handed_out.fifo, value=task)
    for _ in range(m.pes):
        yield op(push=m.handed_out.fifo, value=m.tasks)


def fetcher(a: Agent, m: Any, x: Operands) -> Operations:
    """Bring A into the cache ahead of the tasks, or A and B onto the chip before the first."""
    task, line = 0, 0
    if m.operand_mode == RESIDENT_READ:
        for loaded in range(x.psum.line[0]):
            if a.requests() == m.memory.burst:
                yield op()
            # Rows of the traffic table follow each other as the three tensors do in memory.
            row = x.input.row + (loaded >= x.table.line[0]) + (loaded >= x.weight.line[0])
            a.request(loaded, 1, m.memory.line_bytes, STREAM_READ, row, 0)
        yield op(push=m.fetched.fifo, pushes=m.tasks)
        task = m.tasks
    while task < m.tasks and m.fetches:
        ready = 0
        while task < m.tasks and ready < m.config.scheduler.prefetch_tasks:
            end = (x.a_byte[task + 1] + m.memory.line_bytes - 1) >> m.memory.line_shift
            while line < end and a.requests() < m.memory.burst:
                a.request(line, 1, 0, PREFETCH, x.input.row, x.epoch[task])
                line += 1
            if line < end:
                break
            task, ready = task + 1, ready + 1
        yield op(push=m.fetched.fifo if ready > 0 else NONE, pushes=ready)


# --- The machine ------------------------------------------------------------------------------------------------------


class Gustavson(LayerMachine):
    """What the machines with this dataflow share."""

    Config: ClassVar[type[MachineConfig]] = GustavsonConfig
    tensors: ClassVar[tuple[str, ...]] = ("input", "weight_format", "weight", "psum", "output")
    agents = merger, fetch_stage, neuron_unit, scheduler, fetcher
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {
        "matches": MATCHES, ("pe", "load_fiber"): FIBERS, ("pe", "add"): MERGED, "buffer_beats": BUFFER_BEATS,
        "updates": UPDATES, ("scheduler", "step"): DISPATCHED,
    }  # fmt: skip
    neuron_name: ClassVar[str]
    group_inputs = EVERYTHING
    config: GustavsonConfig

    @property
    def dense(self) -> int:
        """1 where a row of sums is held whole."""
        return int(self.config.pe.accumulate == "dense_row")

    def unsupported(self, trace: Trace) -> Sequence[str]:
        """A layer whose coordinates do not fit the PEs."""
        weighted = [operation for operation in trace.operations if operation.weight is not None]
        widest = max((max(len(o.weight), o.k) for o in weighted if o.weight is not None), default=1)
        if bits_of(widest) <= self.config.pe.coordinate_bits:
            return ()
        return (
            f"pe.coordinate_bits: a layer has {widest} rows of weights or columns, PEs hold coordinates of "
            f"{self.config.pe.coordinate_bits} bits; --set pe.coordinate_bits={bits_of(widest)} builds one that can",
        )

    def coordinate_bits(self, size: int) -> int:
        """Bits that a coordinate below ``size`` is stored in."""
        return self.config.format.coordinate_bits or bits_of(size)

    def rows(self, layer: Layer, first: int = 0, end: int | None = None) -> CoordinateFibers:
        """Rows ``first`` to ``end`` of A, a fiber a task."""
        a, end = layer.inputs, layer.m if end is None else end
        part = a._replace(
            mask=a.mask[first:end], start=a.start[first:end], words=a.words[a.start[first, 0] : a.start[end - 1, -1]]
        )
        return value_rows(part) if self.operand == "int" else spike_rows(part, layer.timesteps)

    def most_passes(self, a: CoordinateFibers) -> int:
        """Passes of the fullest row."""
        return passes_of(int(np.diff(a.start).max()), self.config.pe.radix, self.dense)

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Rows of B, pass by pass as the merger takes them; counts overflows of the real accumulator."""
        pe, a, b = self.config.pe, self.rows(layer, first, first + len(sums)), weight_rows(layer.weights, layer.k)
        overflows = merge_rows(a, b, pe.radix, self.dense, pe.accumulator_bits, self.most_passes(a), sums)
        return {"accumulator_overflows": int(overflows)}

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """A fiber a timestep: coordinates of spikes, or coordinates and values."""
        value_bits = layer.beside_coordinate_bits if self.operand == "spike" else layer.output_bits
        entries = spikes if self.operand == "spike" else active
        pointer = -(-self.config.format.pointer_bits // BYTE)
        entry_bits = self.coordinate_bits(layer.n) + value_bits
        return layer.fired_timesteps * pointer + -(-entries * entry_bits // BYTE)

    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Operands]:
        """Place A, B, room for partial fibers and sums, and the output in memory, and plan the passes of all tasks."""
        config, pe, rows = self.config, self.config.pe, self.config.neuron.rows
        tasks, timesteps = layer.m * layer.timesteps, layer.timesteps
        pes, units = min(pe.count, tasks), min(pe.count, layer.m)
        a, b = self.rows(layer), weight_rows(layer.weights, layer.k)
        a_bytes, stored = self.fiber_bytes(layer, a, b)
        entries = np.diff(b.start)
        products = np.diff(np.concatenate(([0], np.cumsum(entries[a.coordinate])))[a.start])
        a_byte, b_byte = (np.concatenate(([0], np.cumsum(sizes))) for sizes in (a_bytes, stored))
        passes = np.array([passes_of(int(count), pe.radix, self.dense) for count in np.diff(a.start)])
        first_pass = np.concatenate(([0], np.cumsum(passes)))
        end, out = np.zeros((2, first_pass[-1]), np.int64)
        plan_passes(a, b, pe.radix, self.dense, layer.n, int(passes.max()), first_pass, end, out)
        sum_bits = pe.accumulator_bits + (0 if self.dense else self.coordinate_bits(layer.n))
        out_bytes = -(-out * sum_bits // BYTE)
        room, partials = int(out_bytes.max()), int(passes.max()) - 1
        if timesteps == 1:
            out_bytes[first_pass[1:] - 1] = 0  # passed on
        first_sum, tasks_under_way = pes * partials, units * rows * timesteps
        first_row = first_sum + tasks_under_way
        places = {
            "input": memory.place(a_byte[-1]),
            "table": memory.place(np.array(layer.k * config.format.pointer_bits // BYTE)),
            "weight": memory.place(b_byte[-1]),
            "psum": memory.place(np.repeat((room, memory.line_bytes), (first_row, pes))),
            "output": memory.place(output_bytes),
            "taken": memory.place_again(np.full(layer.m, layer.n * layer.taken_bytes)),
        }
        operands = Operands(
            a.start, a.coordinate, a_byte, np.arange(tasks) // tasks_under_way, products, entries,
            places["weight"].line[0] * memory.line_bytes + b_byte,
            np.where(entries > 0, stored, 0), first_pass, end, out, out_bytes,
            **places,
        )  # fmt: skip
        burst = config.memory.lines(BURST_LINES).burst
        diagram.agent(merger, pes, name="pe", built=pe.count, requests=pe.burst_lines, lanes=range(pes))
        diagram.agent(fetch_stage, pes, built=pe.count, requests=pe.burst_lines, lanes=range(pes))
        diagram.agent(neuron_unit, units, name=self.neuron_name, built=pe.count, requests=burst, lanes=range(units))
        diagram.agent(scheduler)
        diagram.agent(fetcher, requests=burst)
        loaded_first, ahead = config.scheduler.operands == "loaded_first", config.scheduler.prefetch_tasks
        return {
            "handed_out": diagram.fifo(pes, readers=SHARED),
            "bursts": diagram.fifo(pe.burst_buffers - 2, count=pes),
            "written": diagram.fifo(max(1, partials), count=pes),
            "heads": diagram.fifo(pe.burst_buffers, count=pes),
            "done": diagram.fifo(timesteps, count=units * rows),  # counters: one per row under way
            "credits": diagram.fifo(rows, full=True, count=units),
            "fetched": diagram.fifo(tasks if loaded_first else max(1, ahead)),
            "tasks": tasks, "pes": pes, "neuron_units": units, "rows_under_way": units * rows,
            "tasks_under_way": tasks_under_way, "partials": partials, "first_sum": first_sum, "first_row": first_row,
            "sum_bits": sum_bits, "dense": self.dense, "latency": 0 if self.dense else bits_of(pe.radix),
            "operand_mode": RESIDENT_READ if loaded_first else CACHED_READ, "fetches": int(loaded_first or ahead > 0),
        }, operands  # fmt: skip

    def fiber_bytes(
        self, layer: Layer, a: CoordinateFibers, b: CoordinateFibers
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bytes of the row of A of every task, and of the rows of B."""
        form, weight_bits, entries = self.config.format, self.config.pe.weight_bits, np.diff(b.start)
        entry_bits = self.coordinate_bits(layer.k) + (0 if self.operand == "spike" else layer.word_bits)
        a_bytes = -(-form.pointer_bits // BYTE) + -(-np.diff(a.start) * entry_bits // BYTE)
        if form.weight_rows == "bitmask":
            return a_bytes, -(-layer.n // BYTE) + -(-entries * weight_bits // BYTE)
        return a_bytes, -(-entries * (self.coordinate_bits(layer.n) + weight_bits) // BYTE)

    def pe_components(self) -> tuple[Component, ...]:
        """PEs, with what accumulates in them, and their line buffers."""
        pe, cache = self.config.pe, self.config.memory.cache
        tree: dict[str, int | float | str] = {
            "block": "merger", "nodes": pe.radix - 1, "levels": bits_of(pe.radix),
            "coordinate_bits": pe.coordinate_bits, "element_bits": pe.coordinate_bits + pe.accumulator_bits,
        }  # fmt: skip
        buffer_bytes = pe.burst_lines * cache.line_bytes * pe.burst_buffers
        block: dict[str, int | float | str] = {
            "block": f"{self.name}_pe", "accumulator_bits": pe.accumulator_bits, "weight_bits": pe.weight_bits,
        }  # fmt: skip
        return (
            Component("pe", "logic", pe.count, block),
            *(() if self.dense else (Component("merger", "logic", pe.count, tree),)),
            ram("input_buffer", pe.count, buffer_bytes, cache.width_bits),
        )

    def other_components(self) -> tuple[Component, ...]:
        """Scheduler, memories, switches and wires."""
        config, pes = self.config, self.config.pe.count
        return (*shared_components(config.memory, pes, pes),)

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Every entry passes the merger, every beat the buffers."""
        beats = done["buffer_beats"]
        merged = {} if self.dense else {("merger", "merge"): done["pe", "add"]}
        return {**merged, ("input_buffer", "write"): beats, ("input_buffer", "read"): beats}

    @property
    def processing_elements(self) -> int:
        """PEs with a merger, or a dense row of sums; one works in all cycles of a merge."""
        return self.config.pe.count

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Weights of the rows of B that are merged, each for a spike or an activation; partial sums that are merged
        again are none."""
        return int(counts[MATCHES])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """All passes spread evenly over the PEs."""
        x, overhead = program.operands, self.config.pe.spike_overhead_cycles
        last = x.first_pass[1:] - 1
        partial = int(x.out.sum() - x.out[last].sum())
        work = int(counts[MATCHES]) + partial + overhead * int(x.end[last].sum()) + program.spec.latency * len(x.end)
        return int(-(-work // self.config.pe.count))

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """A, and the rows of B that an input selects, with their entries in the table."""
        x = program.operands
        used = np.unique(x.k)
        return int(x.a_byte[-1] + x.b_bytes[used].sum() + len(used) * self.config.format.pointer_bits // BYTE)
