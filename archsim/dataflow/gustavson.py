"""Gustavson's dataflow on compressed fibers, as Gamma runs it: a row of the output is a combination of rows of B.

    for m in rows, t in timesteps:           a task: the earliest free element takes the next one
        for k where A[m, t] is not zero:     a fiber of B for each, from the FiberCache
            merge: add A[m, t, k] B[k, :] to the row of sums, in passes of at most R fibers
    for m in rows:                           when all its timesteps are there
        for t in timesteps: fire N neurons; store the row

Agents: an element is two, a *fetch stage* (:func:`fetch_stage`) that takes tasks and reads fibers into line buffers,
burst by burst, and a *merger* (:func:`merger`) that works on the buffers filled before. A neuron unit
(:func:`neuron_unit`) owns every W-th row, holds the sums of a few rows until all timesteps are there, and fires. One
scheduler hands tasks out (:func:`scheduler`), one fetcher brings A into the cache ahead of them (:func:`fetcher`):

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
by the element that wrote them; so are finished sums, for the neuron unit, but a single timestep is passed on. Epochs
(:mod:`archsim.hardware.memory.cache`) are groups of rows that can be under way at once. Partial fibers and sums are
read once, rows of B many times, so they belong to the epoch before and yield to all else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.compress.coordinate import BYTE, CoordinateFibers, bits_of, spike_rows, value_rows, weight_rows
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
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.compute.merger import merge_cycles, merge_rows, passes_of, plan_passes
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.memory import placement
from archsim.hardware.operation import (
    CACHED_READ,
    CACHED_WRITE,
    COMPUTE,
    CONSUME,
    END,
    OWN_PATH,
    POP,
    POP_COUNT,
    PREFETCH,
    PUSH,
    PUSH_COUNT,
    REQUESTS,
    RESIDENT_READ,
    RESIDENT_WRITE,
    SHARED,
    STREAM_READ,
    STREAM_WRITE,
    VALUE,
    VALUE_OUT,
    add_range,
    add_request,
)
from archsim.jit import inlined, kernel
from archsim.trace import Trace

# --- Configuration ----------------------------------------------------------------------------------------------------


class GustavsonPe(Block):
    """Processing elements: a fetch stage and a merger with its accumulator each."""

    count: int = Field(ge=1, le=1024, description="elements; each works on one row and timestep at a time")
    accumulate: Literal["merger", "dense_row"] = Field(
        description="sums of a row: merged in passes of at most radix fibers, or held whole and indexed by coordinate"
    )
    radix: int = Field(ge=2, le=256, description="ways of the merger")
    burst_lines: int = Field(ge=2, le=64, description="lines that an element reads, or writes, at once")
    burst_buffers: int = Field(ge=3, le=64, description="bursts that an element has room for: one merged, one filled")
    spike_overhead_cycles: int = Field(ge=0, le=64, description="cycles of an input fiber beside one an element")
    coordinate_bits: int = Field(ge=1, le=31, description="bits of a coordinate inside an element")
    weight_bits: int = Field(ge=2, le=16, description="bits of a weight")
    accumulator_bits: int = Field(ge=2, le=63, description="bits of a sum, sign included")


class NeuronUnits(LifConfig):
    """Neuron units, as many as elements; each owns the rows of its number."""

    rows: int = Field(ge=1, le=1024, description="rows of a unit that can be under way at once")


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


# --- What the kernels see ---------------------------------------------------------------------------------------------

# Tensors of the traffic table. A coordinate stands beside its value, so both count as the tensor; the table of the rows
# of B is weight_format.
INPUT, WEIGHT_FORMAT, WEIGHT, PSUM, OUTPUT = range(5)
TENSORS = ("input", "weight_format", "weight", "psum", "output")

# Actions that the agents count.
MATCHES, MERGED, FIBERS, BUFFER_BEATS, UPDATES, DISPATCHED = range(6)
ACTIONS = 6


class Spec(NamedTuple):
    """The machine and the layer's sizes as integers.

    ``pes`` elements and ``units`` neuron units have work, which is ``m`` rows of ``timesteps`` tasks. ``psum_lines``:
    room for a fiber of sums; element e has ``partials`` of them from ``partial_line`` on, every row under way one a
    timestep from ``sum_line`` on, kept if ``held``. ``first``: operands are loaded first; ``ahead``: tasks fetched
    ahead. ``written``, ``heads``, ``done``, ``credits`` and ``fetched`` are FIFOs, below.
    """

    pes: int
    units: int
    m: int
    n: int
    timesteps: int
    tasks: int
    dense: int
    burst: int
    latency: int
    overhead: int
    fire: int
    rows: int
    held: int
    first: int
    ahead: int
    fetch_lines: int
    line_shift: int
    beat_shift: int
    pointer_bits: int
    sum_bits: int
    psum_lines: int
    partials: int
    table_line: int
    weight_line: int
    partial_line: int
    sum_line: int
    row_line: int
    written: int
    heads: int
    done: int
    credits: int
    fetched: int


class Operands(NamedTuple):
    """A by tasks and the rows of B, where they lie, and the passes of every task.

    Task i has the rows ``k`` int32 [``a_start[i]``, ``a_start[i + 1]``) of B and the bytes [``a_byte[i]``,
    ``a_byte[i + 1]``) from line 0 on. Row k of B has ``b_entries[k]`` values and ``b_bytes[k]`` bytes from byte
    ``b_byte[k]`` on. Its passes are ``first_pass[i]`` on: ``end`` and ``out`` as in the merger's text.
    """

    a_start: NDArray[np.int64]
    k: NDArray[np.int32]
    a_byte: NDArray[np.int64]
    b_entries: NDArray[np.int64]
    b_byte: NDArray[np.int64]
    b_bytes: NDArray[np.int64]
    first_pass: NDArray[np.int64]
    end: NDArray[np.int64]
    out: NDArray[np.int64]
    output_line: NDArray[np.int64]
    output_bytes: NDArray[np.int64]


# FIFOs and, as each has one, their reading ends: the tasks, bursts, partial fibers and passes whose heads are there of
# every element, timesteps done of every row under way (a counter), credits of every neuron unit, and the tasks whose
# row of A is on chip.
TASKS = 0
BURSTS = 1

# --- Agents -----------------------------------------------------------------------------------------------------------

# An agent's state: what it does next, and its place in the work.
PHASE, TASK, PASS, ITEM, LIMIT, BYTES, LEFT = range(7)
STATE = 7
ASK, TAKE, BEGIN, NEXT, READ, POINT, FILL, ANNOUNCE, REST, WORK, WRITE, STOP = range(12)

# A burst's token: elements, fibers that are complete, whether it ends a pass.
FIBER_SHIFT = 1
ELEMENT_SHIFT = 16


@inlined
def epoch_of(spec: Spec, task: int) -> int:
    """The group of rows that a task belongs to."""
    return task // spec.timesteps // (spec.units * spec.rows)


@inlined
def psum_bytes(spec: Spec, elements: int) -> int:
    """Bytes of a fiber of sums."""
    return (elements * spec.sum_bits + BYTE - 1) // BYTE


@inlined
def row_slot(spec: Spec, row: int) -> int:
    """Where the sums of a row under way are held."""
    return row % (spec.units * spec.rows)


@inlined
def sums_line(spec: Spec, task: int) -> int:
    """First line of the finished sums of a task."""
    slot = row_slot(spec, task // spec.timesteps) * spec.timesteps + task % spec.timesteps
    return spec.sum_line + slot * spec.psum_lines


@inlined
def request_lines(spec: Spec, o: Any, agent: int, line: int, first: int, end: int, most: int, mode: int, tensor: int,
                  epoch: int) -> int:  # fmt: skip
    """Requests for the bytes [first, end) behind ``line``, for ``most`` lines at most; returns the next byte."""
    if most <= 0:
        return first
    end = min(end, ((first >> spec.line_shift) + most) << spec.line_shift)
    add_range(o, agent, line, 1, first, end, spec.line_shift, spec.beat_shift, mode, tensor, epoch)
    return end


@inlined
def beats_of(spec: Spec, first: int, end: int) -> int:
    """Beats of the bank's width that bytes [first, end) fill."""
    return (end - first + (1 << spec.beat_shift) - 1) >> spec.beat_shift


@inlined
def input_of(spec: Spec, x: Operands, task: int, pe: int, item: int) -> tuple[int, int, int, int]:
    """An input of a pass: the line that its tensor or place begins with, first byte behind that, bytes, elements."""
    partial = item - (x.a_start[task + 1] - x.a_start[task])
    if partial >= 0:
        entries = x.out[x.first_pass[task] + partial]
        line = spec.partial_line + (pe * spec.partials + partial) * spec.psum_lines
        return line, 0, psum_bytes(spec, entries), entries
    k = x.k[x.a_start[task] + item]
    return spec.weight_line, x.b_byte[k], x.b_bytes[k], x.b_entries[k]


@inlined
def head_bytes(spec: Spec, first: int, size: int) -> int:
    """Bytes of an input in its first line."""
    return min(size, (1 << spec.line_shift) - (first & ((1 << spec.line_shift) - 1)))


@inlined
def fetch_stage(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Take a task; read its row of A, then for each pass the table, the rows of B and the partial fibers."""
    pe = agent - spec.pes
    phase = state[agent, PHASE]
    if phase == ASK:
        o[agent, POP] = TASKS
        o[agent, POP_COUNT] = 1
        state[agent, PHASE] = TAKE
        return
    if phase == STOP:
        o[agent, END] = 1
        return
    if phase == TAKE:
        task = o[agent, VALUE]
        state[agent, TASK] = task
        if task == spec.tasks:
            state[agent, PHASE] = STOP
            o[agent, PUSH] = BURSTS + pe
            o[agent, PUSH_COUNT] = 1
            o[agent, VALUE_OUT] = task
            return
        state[agent, BYTES] = x.a_byte[task]
        phase = READ
    task = state[agent, TASK]
    epoch = epoch_of(spec, task)
    if phase == READ:
        first, end = state[agent, BYTES], x.a_byte[task + 1]
        # A line that is this task's alone is consumed.
        while first < end and o[agent, REQUESTS] < spec.burst:
            line = first >> spec.line_shift
            line_end = (line + 1) << spec.line_shift
            mode = CONSUME if x.a_byte[task] <= line << spec.line_shift and line_end <= end else CACHED_READ
            if spec.first:
                mode = RESIDENT_READ
            stop = request_lines(spec, o, agent, 0, first, end, 1, mode, INPUT, epoch)
            counts[agent, BUFFER_BEATS] += beats_of(spec, first, stop)
            first = stop
        state[agent, BYTES] = first
        if first < end:
            state[agent, PHASE] = READ
            return
        state[agent, PHASE] = POINT
        state[agent, PASS] = x.first_pass[task]
        state[agent, ITEM] = 0
        o[agent, PUSH] = BURSTS + pe
        o[agent, PUSH_COUNT] = 1
        o[agent, VALUE_OUT] = task
        return
    fibers = x.a_start[task + 1] - x.a_start[task]
    current, item = state[agent, PASS], state[agent, ITEM]
    pass_end = x.end[current]
    if phase == POINT:
        phase = FILL
        state[agent, PHASE] = FILL
        state[agent, BYTES] = 0
        state[agent, LIMIT] = min(pass_end, item + spec.burst)
        if spec.pointer_bits > 0 and item < fibers:
            mode = RESIDENT_READ if spec.first else CACHED_READ
            last = -1
            for i in range(item, min(fibers, state[agent, LIMIT])):
                first = x.k[x.a_start[task] + i] * spec.pointer_bits // BYTE
                beat = first >> spec.beat_shift
                if beat != last:
                    line = spec.table_line + (first >> spec.line_shift)
                    add_request(o, agent, line, 1, 1 << spec.beat_shift, mode, WEIGHT_FORMAT, epoch)
                last = beat
            return
    if phase == ANNOUNCE:
        o[agent, PUSH] = spec.heads + pe
        o[agent, PUSH_COUNT] = 1
        if state[agent, LEFT] > 0:
            state[agent, PHASE] = REST
            state[agent, ITEM] = x.end[current - 1] if current > x.first_pass[task] else 0
        else:
            next_pass(state, agent, x.first_pass[task + 1])
        return
    # A burst of lines, of rows of B or of partial fibers; of their heads, of what is left of them, or of all.
    done = state[agent, BYTES]
    elements, loaded, partial = 0, 0, item >= fibers
    heads = phase == FILL and not spec.dense
    limit = pass_end if phase == REST else state[agent, LIMIT]
    while item < limit and (item >= fibers) == partial and o[agent, REQUESTS] < spec.burst:
        line, first, size, entries = input_of(spec, x, task, pe, item)
        head = head_bytes(spec, first, size)
        if phase == REST and done == 0:
            if head == size:
                item += 1
                continue
            done = head
        if phase == FILL and done == 0 and partial:
            o[agent, POP] = spec.written + pe
            o[agent, POP_COUNT] += 1
        room = 1 if heads else spec.burst - o[agent, REQUESTS]
        if partial:
            stop = request_lines(spec, o, agent, line, first + done, first + size, room, CONSUME, PSUM, epoch - 1)
        else:
            mode = RESIDENT_READ if spec.first else CACHED_READ
            stop = request_lines(spec, o, agent, line, first + done, first + size, room, mode, WEIGHT, epoch)
        counts[agent, BUFFER_BEATS] += beats_of(spec, first + done, stop)
        done = stop - first
        if done < size and not heads:
            break
        loaded += int(phase == FILL)
        if done < size:
            state[agent, LEFT] += 1
        else:
            elements += entries
            if not partial:
                counts[agent, MATCHES] += entries
            if phase == REST:
                state[agent, LEFT] -= 1
        item += 1
        done = 0
    state[agent, ITEM], state[agent, BYTES] = item, done
    ends = item == pass_end and state[agent, LEFT] == 0
    o[agent, PUSH] = BURSTS + pe
    o[agent, PUSH_COUNT] = 1
    o[agent, VALUE_OUT] = elements << ELEMENT_SHIFT | loaded << FIBER_SHIFT | int(ends)
    if phase == REST:
        if ends:
            next_pass(state, agent, x.first_pass[task + 1])
    elif item == pass_end and heads:
        state[agent, PHASE] = ANNOUNCE
    elif item == pass_end:
        next_pass(state, agent, x.first_pass[task + 1])
    elif item == limit:
        state[agent, PHASE] = POINT


@inlined
def next_pass(state: Any, agent: int, task_end: int) -> None:
    """Go to the next pass of the fetch stage's task, or ask for another task behind pass ``task_end``."""
    state[agent, PASS] += 1
    state[agent, PHASE] = ASK if state[agent, PASS] == task_end else POINT


@inlined
def merger(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Merge burst after burst, once the heads of a pass are there; its end writes a partial fiber or finished sums."""
    phase = state[agent, PHASE]
    if phase == TAKE:
        task = o[agent, VALUE]
        if task == spec.tasks:
            o[agent, END] = 1
            return
        state[agent, TASK], state[agent, PASS] = task, x.first_pass[task]
        phase = NEXT if spec.dense else BEGIN
    if phase == BEGIN:
        o[agent, POP] = spec.heads + agent
        o[agent, POP_COUNT] = 1
        state[agent, PHASE] = NEXT
        return
    if phase in (ASK, NEXT):
        o[agent, POP] = BURSTS + agent
        o[agent, POP_COUNT] = 1
        state[agent, PHASE] = TAKE if phase == ASK else WORK
        return
    task, current = state[agent, TASK], state[agent, PASS]
    if phase == WORK:
        burst = o[agent, VALUE]
        elements = burst >> ELEMENT_SHIFT
        fibers = (burst & ((1 << ELEMENT_SHIFT) - 1)) >> FIBER_SHIFT
        pass_ends = burst & 1
        counts[agent, MERGED] += elements
        counts[agent, FIBERS] += fibers
        o[agent, COMPUTE] = merge_cycles(elements, fibers, spec.overhead, spec.latency * pass_ends)
        if spec.dense:
            # The whole row of sums, in the element's own bank, once a fiber.
            size = psum_bytes(spec, spec.n)
            for _ in range(fibers):
                add_request(
                    o, agent, spec.row_line + agent, beats_of(spec, 0, size), size, RESIDENT_WRITE, PSUM, 0
                )  # fmt: skip
        state[agent, BYTES] = 0
        if not pass_ends:
            state[agent, PHASE] = NEXT
            return
    final = current + 1 == x.first_pass[task + 1]
    size = psum_bytes(spec, x.out[current])
    line = spec.partial_line + (agent * spec.partials + current - x.first_pass[task]) * spec.psum_lines
    if final:
        line = sums_line(spec, task)
        size *= spec.held
    first, room = state[agent, BYTES], spec.burst - o[agent, REQUESTS]
    stop = request_lines(spec, o, agent, line, first, size, room, CACHED_WRITE, PSUM, epoch_of(spec, task) - 1)
    state[agent, BYTES] = stop
    if stop < size:
        state[agent, PHASE] = WRITE
        return
    state[agent, PASS] += 1
    state[agent, PHASE] = ASK if final else (NEXT if spec.dense else BEGIN)
    if final:
        o[agent, PUSH] = spec.done + row_slot(spec, task // spec.timesteps)
        o[agent, PUSH_COUNT] = 1
    elif not spec.dense:
        o[agent, PUSH] = spec.written + agent
        o[agent, PUSH_COUNT] = 1


@inlined
def neuron_unit(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Wait for all timesteps of a row, read their sums while N neurons fire in each, write the row."""
    unit = agent - 2 * spec.pes
    row = state[agent, TASK] * spec.units + unit
    phase = state[agent, PHASE]
    if phase == ASK:
        if row >= spec.m:
            o[agent, END] = 1
            return
        o[agent, POP] = spec.done + row_slot(spec, row)
        o[agent, POP_COUNT] = spec.timesteps
        state[agent, PHASE] = WORK
        state[agent, ITEM] = 0
        state[agent, BYTES] = 0
        return
    if phase == WORK:
        t, first = state[agent, ITEM], state[agent, BYTES]
        if t == 0 and first == 0:
            o[agent, COMPUTE] = spec.n * spec.timesteps * spec.fire
            counts[agent, UPDATES] += spec.n * spec.timesteps
        while t < spec.timesteps and o[agent, REQUESTS] < spec.fetch_lines:
            task = row * spec.timesteps + t
            size = psum_bytes(spec, x.out[x.first_pass[task + 1] - 1]) * spec.held
            room = spec.fetch_lines - o[agent, REQUESTS]
            first = request_lines(
                spec, o, agent, sums_line(spec, task), first, size, room, CONSUME, PSUM, epoch_of(spec, task) - 1
            )  # fmt: skip
            if first < size:
                break
            t += 1
            first = 0
        state[agent, ITEM], state[agent, BYTES] = t, first
        if t == spec.timesteps:
            state[agent, PHASE] = WRITE
        return
    first, size = state[agent, BYTES], x.output_bytes[row]
    stop = request_lines(spec, o, agent, x.output_line[row], first, size, spec.fetch_lines, STREAM_WRITE, OUTPUT, 0)
    state[agent, BYTES] = stop
    if stop < size:
        return
    o[agent, PUSH] = spec.credits + unit
    o[agent, PUSH_COUNT] = 1
    state[agent, TASK] += 1
    state[agent, PHASE] = ASK


@inlined
def scheduler(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """A task a cycle, once its row of A is on chip and its neuron unit has room; then an end for every element."""
    task = state[agent, TASK]
    if task == spec.tasks + spec.pes:
        o[agent, END] = 1
        return
    o[agent, POP_COUNT] = 1
    if task < spec.tasks and task % spec.timesteps == 0 and state[agent, PHASE] == ASK:
        o[agent, POP] = spec.credits + task // spec.timesteps % spec.units
        state[agent, PHASE] = TAKE
        return
    if task < spec.tasks:
        if spec.first or spec.ahead > 0:
            o[agent, POP] = spec.fetched
        o[agent, COMPUTE] = 1
        counts[agent, DISPATCHED] += 1
    o[agent, PUSH] = TASKS
    o[agent, PUSH_COUNT] = 1
    o[agent, VALUE_OUT] = min(task, spec.tasks)
    state[agent, TASK] += 1
    state[agent, PHASE] = ASK


@inlined
def fetcher(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Bring A into the cache ahead of the tasks, or A and B onto the chip before the first."""
    task, line = state[agent, TASK], state[agent, ITEM]
    if task == spec.tasks or (not spec.first and spec.ahead == 0):
        o[agent, END] = 1
        return
    ready = 0
    if spec.first:
        while line < spec.partial_line and o[agent, REQUESTS] < spec.fetch_lines:
            tensor = INPUT if line < spec.table_line else (WEIGHT_FORMAT if line < spec.weight_line else WEIGHT)
            add_request(o, agent, line, 1, 1 << spec.line_shift, STREAM_READ, tensor, 0)
            line += 1
        if line == spec.partial_line:
            ready = spec.tasks
    else:
        while task + ready < spec.tasks and ready < spec.ahead:
            end = (x.a_byte[task + ready + 1] + (1 << spec.line_shift) - 1) >> spec.line_shift
            while line < end and o[agent, REQUESTS] < spec.fetch_lines:
                add_request(o, agent, line, 1, 0, PREFETCH, INPUT, epoch_of(spec, task + ready))
                line += 1
            if line < end:
                break
            ready += 1
    state[agent, TASK], state[agent, ITEM] = task + ready, line
    if ready > 0:
        o[agent, PUSH] = spec.fetched
        o[agent, PUSH_COUNT] = ready


@inlined
def step(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The next operation of any agent; see :mod:`archsim.hardware.operation`."""
    if agent < spec.pes:
        merger(agent, now, spec, state, x, o, counts)
    elif agent < 2 * spec.pes:
        fetch_stage(agent, now, spec, state, x, o, counts)
    elif agent < 2 * spec.pes + spec.units:
        neuron_unit(agent, now, spec, state, x, o, counts)
    elif agent == 2 * spec.pes + spec.units:
        scheduler(agent, now, spec, state, x, o, counts)
    else:
        fetcher(agent, now, spec, state, x, o, counts)


@kernel
def loop(spec: Spec, x: Operands, machine: Any) -> tuple[int, int, int]:
    """The agents in the compiled engine."""
    return run(step, spec, x, machine)


class Gustavson(Accelerator):
    """What the machines with this dataflow share."""

    Config: ClassVar[type[MachineConfig]] = GustavsonConfig
    tensors: ClassVar[tuple[str, ...]] = TENSORS
    actions: ClassVar[int] = ACTIONS
    step: ClassVar[Any] = step
    loop: ClassVar[Any] = loop
    neuron_name: ClassVar[str]
    config: GustavsonConfig

    @property
    def sum_bits(self) -> int:
        """The accumulator holds the full sum of a timestep."""
        return self.config.pe.accumulator_bits

    @property
    def dense(self) -> int:
        """1 where a row of sums is held whole."""
        return int(self.config.pe.accumulate == "dense_row")

    def refuses(self, trace: Trace) -> Sequence[str]:
        """A layer whose coordinates do not fit the elements."""
        weighted = [operation for operation in trace.operations if operation.weight is not None]
        widest = max((max(len(o.weight), o.k) for o in weighted if o.weight is not None), default=1)
        if bits_of(widest) <= self.config.pe.coordinate_bits:
            return ()
        return (
            f"pe.coordinate_bits: a layer has {widest} rows of weights or columns, elements hold coordinates of "
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

    def add_up(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Rows of B, pass by pass as the merger takes them; counts overflows of the real accumulator."""
        pe, a, b = self.config.pe, self.rows(layer, first, first + len(sums)), weight_rows(layer.weights, layer.k)
        overflows = merge_rows(a, b, pe.radix, self.dense, pe.accumulator_bits, self.most_passes(a), sums)
        return {"accumulator_overflows": int(overflows)}

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """A fiber a timestep: coordinates of spikes, or coordinates and values."""
        value_bits = 0 if self.operand == "spike" else layer.output_bits
        entries = spikes if self.operand == "spike" else active
        pointer = -(-self.config.format.pointer_bits // BYTE)
        entry_bits = self.coordinate_bits(layer.n) + value_bits
        return layer.timesteps * pointer + -(-entries * entry_bits // BYTE)

    def program(self, layer: Layer, output_bytes: NDArray[np.int64]) -> Program:
        """Place A, B, room for partial fibers and sums, and the output in memory, and plan the passes of all tasks."""
        config, pe, form, cache = self.config, self.config.pe, self.config.format, self.config.memory.cache
        a, b = self.rows(layer), weight_rows(layer.weights, layer.k)
        tasks, timesteps = layer.m * layer.timesteps, layer.timesteps
        fibers, entries = np.diff(a.start), np.diff(b.start)
        value_bits = 0 if self.operand == "spike" else layer.word_bits
        pointer_bytes = -(-form.pointer_bits // BYTE)
        a_bytes = pointer_bytes + -(-fibers * (self.coordinate_bits(layer.k) + value_bits) // BYTE)
        if form.weight_rows == "bitmask":
            stored = -(-layer.n // BYTE) + -(-entries * pe.weight_bits // BYTE)
        else:
            stored = -(-entries * (self.coordinate_bits(layer.n) + pe.weight_bits) // BYTE)
        a_byte, b_byte = (np.concatenate(([0], np.cumsum(sizes))) for sizes in (a_bytes, stored))
        passes = np.array([passes_of(int(count), pe.radix, self.dense) for count in fibers])
        first_pass = np.concatenate(([0], np.cumsum(passes)))
        end, out = np.zeros((2, first_pass[-1]), np.int64)
        plan_passes(a, b, pe.radix, self.dense, layer.n, int(passes.max()), first_pass, end, out)
        sum_bits = pe.accumulator_bits + (0 if self.dense else self.coordinate_bits(layer.n))
        pes, units = min(pe.count, tasks), min(pe.count, layer.m)
        partials = int(passes.max()) - 1

        def lines(size: int) -> int:
            return -(-int(size) // cache.line_bytes)

        psum_lines = lines(-(-int(out.max()) * sum_bits // BYTE))
        table_line = lines(a_byte[-1])
        weight_line = table_line + lines(layer.k * form.pointer_bits // BYTE)
        partial_line = weight_line + lines(b_byte[-1])
        sum_line = partial_line + pes * partials * psum_lines
        row_line = sum_line + units * config.neuron.rows * timesteps * psum_lines
        output = placement.interleaved(output_bytes, cache.line_bytes, row_line + pes)
        done = BURSTS + 3 * pes
        credits = done + units * config.neuron.rows
        spec = Spec(
            pes=pes,
            units=units,
            m=layer.m,
            n=layer.n,
            timesteps=timesteps,
            tasks=tasks,
            dense=self.dense,
            burst=pe.burst_lines,
            latency=0 if self.dense else bits_of(pe.radix),
            overhead=pe.spike_overhead_cycles,
            fire=config.neuron.cycles,
            rows=config.neuron.rows,
            held=int(timesteps > 1),
            first=int(config.scheduler.operands == "loaded_first"),
            ahead=config.scheduler.prefetch_tasks,
            fetch_lines=min(cache.mshrs, 16),
            line_shift=cache.line_bytes.bit_length() - 1,
            beat_shift=(cache.width_bits // BYTE).bit_length() - 1,
            pointer_bits=form.pointer_bits,
            sum_bits=sum_bits,
            psum_lines=psum_lines,
            partials=partials,
            table_line=table_line,
            weight_line=weight_line,
            partial_line=partial_line,
            sum_line=sum_line,
            row_line=row_line,
            written=BURSTS + pes,
            heads=BURSTS + 2 * pes,
            done=done,
            credits=credits,
            fetched=credits + units,
        )
        operands = Operands(
            a.start, a.coordinate, a_byte, entries, b_byte, np.where(entries > 0, stored, 0), first_pass, end, out,
            output.line, output_bytes,
        )  # fmt: skip
        topology = op.topology(
            [pe.burst_lines] * 2 * pes + [spec.fetch_lines] * units + [0, spec.fetch_lines],
            [*range(pes), *range(pes), *range(units), OWN_PATH, OWN_PATH],
            [
                (pes, 0, SHARED),
                *[(pe.burst_buffers - 2, 0, 1)] * pes,
                *[(max(1, partials), 0, 1)] * pes,
                *[(pe.burst_buffers, 0, 1)] * pes,
                *[(timesteps, 0, 1)] * (units * spec.rows),
                *[(spec.rows, spec.rows, 1)] * units,
                (tasks if spec.first else max(1, spec.ahead), 0, 1),
            ],
            [],
        )
        names = (
            Unit("pe", 0, pes, pe.count),
            Unit("fetch_stage", pes, pes, pe.count),
            Unit(self.neuron_name, 2 * pes, units, pe.count),
            Unit("scheduler", 2 * pes + units, 1, 1),
            Unit("fetcher", 2 * pes + units + 1, 1, 1),
        )
        return Program(spec, operands, topology, np.zeros((len(topology.request_slots), STATE), np.int64), names)

    def element_components(self) -> tuple[Component, ...]:
        """Elements, with what accumulates in them, and their line buffers."""
        pe, cache = self.config.pe, self.config.memory.cache
        merger = Component(
            "merger",
            "logic",
            pe.count,
            {
                "block": "merger",
                "nodes": pe.radix - 1,
                "levels": bits_of(pe.radix),
                "coordinate_bits": pe.coordinate_bits,
                "element_bits": pe.coordinate_bits + pe.accumulator_bits,
            },
        )
        buffer_bytes = pe.burst_lines * cache.line_bytes * pe.burst_buffers
        element: dict[str, int | float | str] = {
            "block": f"{self.name}_pe",
            "accumulator_bits": pe.accumulator_bits,
            "weight_bits": pe.weight_bits,
        }
        return (
            Component("pe", "logic", pe.count, element),
            *(() if self.dense else (merger,)),
            ram("input_buffer", pe.count, buffer_bytes, cache.width_bits),
        )

    def other_components(self) -> tuple[Component, ...]:
        """Scheduler, memories, switches and wires."""
        config, pes = self.config, self.config.pe.count
        return (
            Component("scheduler", "logic", 1, {"block": "scheduler"}),
            Component("others", "logic", 1, {"block": "others", "pes": pes, "banks": config.memory.cache.banks}),
            *memory_components(config.memory, pes),
        )

    def element_actions(self, counts: NDArray[np.int64]) -> dict[tuple[str, str], int]:
        """Actions of elements and scheduler."""
        merged, beats = int(counts[MERGED]), int(counts[BUFFER_BEATS])
        return {
            ("pe", "load_fiber"): int(counts[FIBERS]),
            ("pe", "add"): merged,
            **({} if self.dense else {("merger", "merge"): merged}),
            ("input_buffer", "write"): beats,
            ("input_buffer", "read"): beats,
            ("scheduler", "step"): int(counts[DISPATCHED]),
        }

    @property
    def processing_elements(self) -> int:
        """Elements with a merger, or a dense row of sums; one works in all cycles of a merge."""
        return self.config.pe.count

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Weights of the rows of B that are merged, each for a spike or an activation; partial sums that are merged
        again are none."""
        return int(counts[MATCHES])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """All passes spread evenly over the elements."""
        spec, x = program.spec, program.operands
        last = x.first_pass[1:] - 1
        partial = int(x.out.sum() - x.out[last].sum())
        work = int(counts[MATCHES]) + partial + spec.overhead * int(x.end[last].sum()) + spec.latency * len(x.end)
        bound: int = -(-work // self.config.pe.count)
        return bound

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """A, and the rows of B that an input selects, with their entries in the table."""
        x = program.operands
        used = np.unique(x.k)
        return int(x.a_byte[-1] + x.b_bytes[used].sum() + len(used) * self.config.format.pointer_bits // BYTE)
