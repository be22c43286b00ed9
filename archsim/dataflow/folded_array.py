"""Machines around an array whose operands enter at the edges: a layer is a list of *folds*, run by the same agents.

A fold is one filling of the array: load a stationary operand or none, stream steps, hand the sums on. What is in a
fold, and in which order folds come, is the machine's; the output-stationary order, which all of them have, is

    for tile of groups:                 their inputs stay in the cache
        for R columns of B:             weights of these R neurons stay in the cache
            for group in tile:          as many output positions as the array's columns hold
                for block:              timesteps that do not fit beside each other
                    fold                stream, hand the sums on; neurons fire

Potentials stay in the neuron units between the blocks of a group. Partial sums, where folds share a sum, wait in the
cache (written as dirty lines, so they spill to DRAM if they do not fit).

Operands lie in memory as they enter the array, packed step after step; software and the machine itself write them so.
Agents: the array; a feeder an edge, which fills a double-buffered operand buffer line by line; a fetcher an edge, which
brings a fold's operand into the cache before its first use; the writer (accumulators and neuron units at the columns'
ends), which writes a row when all its neurons are done; a reader of partial sums. They meet at these FIFOs:

    fetcher <-- credit -- feeder -- half --> array -- block of sums --> writer <-- partial sums -- reader
                          feeder <-- credit -- array                    writer -- written --> reader

All have paths of their own to the banks, as LoAS's broadcaster has; banks, MSHRs and channels are contended.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.compress import bitmask, packed_time
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
from archsim.hardware.compute.systolic_array import SystolicArrayConfig, add_in_order
from archsim.hardware.inventory import Component
from archsim.hardware.memory import placement
from archsim.hardware.operation import (
    BEATS,
    CACHED_READ,
    CACHED_WRITE,
    COMPUTE,
    CONSUME,
    END,
    HEADER,
    OWN_PATH,
    POP,
    POP_COUNT,
    PREFETCH,
    PUSH,
    PUSH_COUNT,
    REQUEST_FIELDS,
    REQUESTS,
    STREAM_WRITE,
    add_range,
    add_request,
)
from archsim.jit import inlined, kernel

# --- Configuration ----------------------------------------------------------------------------------------------------


class ArrayScheduler(ScheduledLayers):
    """Order of the work."""

    tile_fill: float = Field(gt=0, le=1, description="share of the cache for a tile's inputs and two folds' weights")
    prefetch_folds: int = Field(ge=0, le=64, description="operands of folds fetched ahead of the one in use; 0: demand")


class ArrayConfig(MachineConfig):
    """A machine around a systolic array."""

    pe: SystolicArrayConfig = Field(description="array and operand buffers")
    scheduler: ArrayScheduler = Field(description="order of the work")


# --- What the kernels see ---------------------------------------------------------------------------------------------

INPUT, WEIGHT, PSUM, OUTPUT = range(4)
TENSORS = ("input", "weight", "psum", "output")

# Actions that the agents count.
(
    ADDS, WEIGHT_SHIFTS, SPIKE_SHIFTS, SUM_SHIFTS, STEPS_DONE, MOVED_BEATS, SUMS_FINISHED, PARTIAL_ADDS, FOLDS_DONE,
) = range(9)  # fmt: skip
ACTIONS = 9

# A fold: steps streamed, cycles to load and behind the last step, where its operands are, what happens to its sums. An
# operand's ``..._BITS`` a step are taken from bit ``..._FIRST`` of the tensor on, ``..._SHARE`` steps for each half of
# the buffer, ``..._STEPS`` in all; ``..._NEW`` says that it is not in the cache yet.
FOLD_FIELDS = (
    STEPS, LOAD, TAIL, ADDED, LIST,
    WEST_FIRST, WEST_BITS, WEST_STEPS, WEST_SHARE, WEST_NEW, WEST_EPOCH,
    NORTH_FIRST, NORTH_BITS, NORTH_STEPS, NORTH_SHARE, NORTH_NEW, NORTH_EPOCH,
    READS_PSUM, WRITES_PSUM, PSUMS, SUMS, ROW, ROW_END,
) = range(23)  # fmt: skip
FIRST, BITS, EDGE_STEPS, SHARE, NEW, EPOCH = range(6)


class Spec(NamedTuple):
    """The machine as integers. ``spread``: rows are done evenly over a fold, not at its end.

    ``ticks`` cycles a step, or as many as listed for each half if ``timed``; ``skew`` cycles behind the last step until
    it has reached all places, 0 where operands do not pass from place to place; ``halves_out`` 1 if sums leave block by
    block while the fold streams (stationary operand).
    ``listed`` 1 if the west operand is fetched input by input, as :class:`Operands` lists them.
    """

    folds: int
    steps: int
    ticks: int
    timed: int
    places: int
    skew: int
    listed: int
    halves_out: int
    spread: int
    west_tensor: int
    north_tensor: int
    west_line: int
    north_line: int
    psum_line: int
    psum_bytes: int
    psum_lines: int
    fire: int
    fetch_lines: int
    prefetch: int
    line_bytes: int
    line_shift: int
    beat_shift: int


class Operands(NamedTuple):
    """``fold`` int64 [folds, fields]; rows of the output by ``output_line`` and ``output_bytes``.

    ``inputs`` int64 are the inputs k in the order in which they enter, those of slot s from ``slot[s]`` on; a fold
    begins with slot LIST. Both are empty if all K enter. ``cycles`` of every half, from LIST on, where that is not the
    steps.
    """

    fold: NDArray[np.int64]
    slot: NDArray[np.int64]
    inputs: NDArray[np.int64]
    cycles: NDArray[np.int64]
    output_line: NDArray[np.int64]
    output_bytes: NDArray[np.int64]


# FIFOs in the order of the topology, one port each. Where both operands stream, WEST_CREDIT has a second port, for the
# north feeder, which then has the number that NORTH_CREDIT's port has elsewhere.
WEST_HALF, NORTH_HALF, OUT, PARTIALS, WRITTEN, WEST_FETCH, NORTH_FETCH, WEST_CREDIT, NORTH_CREDIT = range(9)
AGENTS = ARRAY, WEST_FEEDER, NORTH_FEEDER, WEST_FETCHER, NORTH_FETCHER, WRITER, READER = range(7)

# --- Agents -----------------------------------------------------------------------------------------------------------

# An agent's state: its fold, half or block of it, what it does next, what it has sent or fetched of it.
FOLD, HALF, PHASE, SENT, ROW_BYTE = range(5)
BEGIN, PARTNER, STREAM, SHIFT_OUT, RELEASE = range(5)


@inlined
def halves(spec: Spec, x: Operands, fold: int) -> int:
    """Halves of the operand buffer that a fold streams; one even if there is nothing to stream."""
    streamed: int = x.fold[fold, STEPS]
    return max(1, -(-streamed // spec.steps))


@inlined
def count_shifts(spec: Spec, tensor: int, cycles: int, agent: int, counts: Any) -> None:
    """Every place of the array hands an operand on: a spike in each of ``cycles``, a weight in each of their steps."""
    if tensor == INPUT:
        counts[agent, SPIKE_SHIFTS] += cycles * spec.places
    else:
        counts[agent, WEIGHT_SHIFTS] += (cycles + spec.ticks - 1) // spec.ticks * spec.places


@inlined
def count_beats(o: Any, agent: int, counts: Any) -> None:
    """What the agent's requests move between the banks and an edge of the array."""
    for i in range(o[agent, REQUESTS]):
        counts[agent, MOVED_BEATS] += o[agent, HEADER + i * REQUEST_FIELDS + BEATS]


@inlined
def array(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The array: load the stationary operand or none, stream, shift out."""
    fold, half = state[agent, FOLD], state[agent, HALF]
    if state[agent, PHASE] == BEGIN:
        if fold == spec.folds:
            o[agent, END] = 1
            return
        counts[agent, FOLDS_DONE] += 1
        state[agent, PHASE] = PARTNER
        if x.fold[fold, LOAD] > 0:
            o[agent, POP] = NORTH_HALF
            o[agent, POP_COUNT] = 1
            o[agent, COMPUTE] = x.fold[fold, LOAD]
            count_shifts(spec, spec.north_tensor, x.fold[fold, LOAD], agent, counts)
            o[agent, PUSH] = NORTH_CREDIT
            o[agent, PUSH_COUNT] = 1
            state[agent, PHASE] = STREAM
            return
    if state[agent, PHASE] == PARTNER:
        o[agent, POP] = NORTH_HALF
        o[agent, POP_COUNT] = 1
        state[agent, PHASE] = STREAM
        return
    count = halves(spec, x, fold)
    if state[agent, PHASE] == STREAM:
        steps = min(spec.steps, x.fold[fold, STEPS] - half * spec.steps)
        o[agent, POP] = WEST_HALF
        o[agent, POP_COUNT] = 1
        cycles = x.cycles[x.fold[fold, LIST] + half] if spec.timed else steps * spec.ticks
        o[agent, COMPUTE] = cycles
        o[agent, PUSH] = WEST_CREDIT
        o[agent, PUSH_COUNT] = 1
        count_shifts(spec, spec.west_tensor, steps * spec.ticks if spec.timed else cycles, agent, counts)
        if x.fold[fold, LOAD] == 0:
            count_shifts(spec, spec.north_tensor, cycles, agent, counts)
        else:
            counts[agent, SUM_SHIFTS] += cycles * spec.places
        counts[agent, STEPS_DONE] += steps
        half += 1
        state[agent, HALF] = half
        streamed = (half * spec.steps - spec.skew) // spec.steps
        if half == count:
            state[agent, PHASE] = SHIFT_OUT
        elif spec.halves_out and streamed > state[agent, SENT]:
            state[agent, PHASE] = RELEASE
        elif x.fold[fold, LOAD] == 0:
            state[agent, PHASE] = PARTNER
        return
    o[agent, PUSH] = OUT
    o[agent, PUSH_COUNT] = 1
    state[agent, SENT] += 1
    if state[agent, PHASE] == SHIFT_OUT and half == count:
        tail = x.fold[fold, TAIL]
        o[agent, COMPUTE] = tail
        count_shifts(spec, spec.west_tensor, spec.skew, agent, counts)
        if x.fold[fold, LOAD] == 0:
            count_shifts(spec, spec.north_tensor, spec.skew, agent, counts)
            tail -= spec.skew
        counts[agent, SUM_SHIFTS] += tail * spec.places
        counts[agent, ADDS] += x.fold[fold, ADDED]
        state[agent, HALF] = count + 1
    elif half < count:
        state[agent, PHASE] = STREAM
    if half >= count and (spec.halves_out == 0 or state[agent, SENT] == count):
        state[agent, FOLD] = fold + 1
        state[agent, HALF] = 0
        state[agent, SENT] = 0
        state[agent, PHASE] = BEGIN


@inlined
def operand_range(x: Operands, fold: int, edge: int, first_step: int, end_step: int) -> tuple[int, int]:
    """Bytes of the tensor that hold these steps of an edge's operand."""
    first = x.fold[fold, edge + FIRST]
    bits = x.fold[fold, edge + BITS]
    end_step = min(end_step, x.fold[fold, edge + EDGE_STEPS])
    if first_step >= end_step:
        return 0, 0
    first_byte: int = first + first_step * bits >> 3
    end_byte: int = first + end_step * bits + 7 >> 3
    return first_byte, end_byte


@inlined
def request_operand(
    x: Operands, fold: int, edge: int, line: int, first: int, end: int, tensor: int, spec: Spec, o: Any, agent: int
) -> None:
    """Read bytes ``first`` to ``end`` of an operand's tensor."""
    add_range(
        o, agent, line, 1, first, end, spec.line_shift, spec.beat_shift, CACHED_READ, tensor, x.fold[fold, edge + EPOCH]
    )


@inlined
def feeder(
    agent: int, edge: int, half_fifo: int, credit: int, fetch: int, tensor: int, line: int, listed: int, spec: Spec,
    state: Any, x: Operands, o: Any, counts: Any,
) -> None:  # fmt: skip
    """Fill halves of an edge's operand buffer, one after the other, as soon as the array has emptied one."""
    fold, half = state[agent, FOLD], state[agent, HALF]
    if fold == spec.folds:
        o[agent, END] = 1
        return
    if state[agent, PHASE] == BEGIN:
        state[agent, PHASE] = STREAM
        if spec.prefetch and x.fold[fold, edge + NEW]:
            o[agent, PUSH] = fetch
            o[agent, PUSH_COUNT] = 1
            return
    o[agent, POP] = credit
    o[agent, POP_COUNT] = 1
    o[agent, PUSH] = half_fifo
    o[agent, PUSH_COUNT] = 1
    share = x.fold[fold, edge + SHARE]
    first, last = operand_range(x, fold, edge, half * share, (half + 1) * share)
    if listed:
        # One input after the other; neighbours share an access.
        first, last = 0, 0
        end = min(x.fold[fold, STEPS], (half + 1) * spec.steps)
        for i in range(x.slot[x.fold[fold, LIST] + half * spec.steps], x.slot[x.fold[fold, LIST] + end]):
            next_first, next_last = operand_range(x, fold, edge, x.inputs[i], x.inputs[i] + 1)
            if next_first < first or next_first > last:
                request_operand(x, fold, edge, line, first, last, tensor, spec, o, agent)
                first = next_first
            last = next_last
    request_operand(x, fold, edge, line, first, last, tensor, spec, o, agent)
    count_beats(o, agent, counts)
    half += 1
    state[agent, HALF] = half
    if half == (1 if edge == NORTH_FIRST and x.fold[fold, LOAD] > 0 else halves(spec, x, fold)):
        state[agent, FOLD] = fold + 1
        state[agent, HALF] = 0
        state[agent, PHASE] = BEGIN


@inlined
def fetcher(
    agent: int, edge: int, fetch_port: int, tensor: int, line: int, spec: Spec, state: Any, x: Operands, o: Any
) -> None:
    """Bring an edge's operands into the cache before their first use, as many folds ahead as there are credits."""
    fold = state[agent, FOLD]
    while fold < spec.folds and x.fold[fold, edge + NEW] == 0:
        fold += 1
    state[agent, FOLD] = fold
    if fold == spec.folds or spec.prefetch == 0:
        o[agent, END] = 1
        return
    if state[agent, SENT] == 0:
        o[agent, POP] = fetch_port
        o[agent, POP_COUNT] = 1
    first, end = operand_range(x, fold, edge, 0, x.fold[fold, edge + EDGE_STEPS])
    number = (first >> spec.line_shift) + state[agent, SENT]
    last = min(number + spec.fetch_lines, (end + spec.line_bytes - 1) >> spec.line_shift)
    for i in range(number, last):
        add_request(o, agent, line + i, 1, 0, PREFETCH, tensor, x.fold[fold, edge + EPOCH])
    state[agent, SENT] += last - number
    if last << spec.line_shift >= end:
        state[agent, FOLD] = fold + 1
        state[agent, SENT] = 0


@inlined
def psum_requests(spec: Spec, x: Operands, o: Any, agent: int, fold: int, half: int, mode: int) -> None:
    """Read or write the partial sums of one block, whole lines."""
    steps = min(spec.steps, x.fold[fold, STEPS] - half * spec.steps)
    used = steps * x.fold[fold, PSUMS] * spec.psum_bytes
    first = spec.psum_line + half * spec.psum_lines
    for i in range((used + spec.line_bytes - 1) >> spec.line_shift):
        part = min(spec.line_bytes, used - i * spec.line_bytes)
        beats = (part + (1 << spec.beat_shift) - 1) >> spec.beat_shift
        add_request(o, agent, first + i, beats, part, mode, PSUM, spec.folds)


@inlined
def rows_done(spec: Spec, x: Operands, fold: int, half: int, count: int) -> int:
    """First row of the output that is not complete before block ``half`` of a fold has left."""
    row: int = x.fold[fold, ROW]
    end: int = x.fold[fold, ROW_END]
    if half >= count or row == end:
        return end
    if spec.spread == 0:
        return row
    streamed: int = x.fold[fold, STEPS]
    return row + min(half * spec.steps, streamed) * (end - row) // streamed


@inlined
def writer(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Accumulators and neuron units: add partial sums, fire, write the rows that are complete."""
    fold, half = state[agent, FOLD], state[agent, HALF]
    if fold == spec.folds:
        o[agent, END] = 1
        return
    count = halves(spec, x, fold) if spec.halves_out else 1
    if state[agent, PHASE] == BEGIN:
        o[agent, POP] = OUT
        o[agent, POP_COUNT] = 1
        state[agent, PHASE] = PARTNER
        if x.fold[fold, SUMS] > 0:
            o[agent, COMPUTE] = spec.fire
            if half == 0:
                counts[agent, SUMS_FINISHED] += x.fold[fold, SUMS]
        return
    if state[agent, PHASE] == PARTNER:
        state[agent, PHASE] = STREAM
        state[agent, SENT] = rows_done(spec, x, fold, half, count)
        if x.fold[fold, READS_PSUM]:
            steps = min(spec.steps, x.fold[fold, STEPS] - half * spec.steps)
            counts[agent, PARTIAL_ADDS] += steps * x.fold[fold, PSUMS]
            o[agent, POP] = PARTIALS
            o[agent, POP_COUNT] = 1
            return
    if x.fold[fold, WRITES_PSUM]:
        psum_requests(spec, x, o, agent, fold, half, CACHED_WRITE)
        count_beats(o, agent, counts)
        o[agent, PUSH] = WRITTEN
        o[agent, PUSH_COUNT] = 1
    else:
        row, end = state[agent, SENT], rows_done(spec, x, fold, half + 1, count)
        first = state[agent, ROW_BYTE]
        while row < end and o[agent, REQUESTS] < spec.fetch_lines:
            last = min(x.output_bytes[row], first + (spec.fetch_lines - o[agent, REQUESTS]) * spec.line_bytes)
            add_range(
                o, agent, x.output_line[row], 1, first, last, spec.line_shift, spec.beat_shift, STREAM_WRITE, OUTPUT, 0
            )
            first = last
            if first == x.output_bytes[row]:
                row += 1
                first = 0
        state[agent, SENT], state[agent, ROW_BYTE] = row, first
        count_beats(o, agent, counts)
        if row < end:
            return
    half += 1
    state[agent, HALF] = half
    state[agent, PHASE] = BEGIN
    if half == count:
        state[agent, FOLD] = fold + 1
        state[agent, HALF] = 0


@inlined
def reader(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Read partial sums back that the fold before has written, in the same order."""
    fold, half = state[agent, FOLD], state[agent, HALF]
    while fold < spec.folds and x.fold[fold, READS_PSUM] == 0:
        fold += 1
    state[agent, FOLD] = fold
    if fold == spec.folds:
        o[agent, END] = 1
        return
    o[agent, POP] = WRITTEN
    o[agent, POP_COUNT] = 1
    psum_requests(spec, x, o, agent, fold, half, CONSUME)
    count_beats(o, agent, counts)
    o[agent, PUSH] = PARTIALS
    o[agent, PUSH_COUNT] = 1
    half += 1
    if half == halves(spec, x, fold):
        state[agent, FOLD] = fold + 1
        half = 0
    state[agent, HALF] = half


@inlined
def step(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The next operation of any agent; see :mod:`archsim.hardware.operation`."""
    if agent == ARRAY:
        array(agent, now, spec, state, x, o, counts)
    elif agent == WEST_FEEDER:
        feeder(
            agent, WEST_FIRST, WEST_HALF, WEST_CREDIT, WEST_FETCH, spec.west_tensor, spec.west_line, spec.listed, spec,
            state, x, o, counts,
        )  # fmt: skip
    elif agent == NORTH_FEEDER:
        feeder(
            agent, NORTH_FIRST, NORTH_HALF, NORTH_CREDIT, NORTH_FETCH, spec.north_tensor, spec.north_line, 0, spec,
            state, x, o, counts,
        )  # fmt: skip
    elif agent == WEST_FETCHER:
        fetcher(agent, WEST_FIRST, WEST_FETCH, spec.west_tensor, spec.west_line, spec, state, x, o)
    elif agent == NORTH_FETCHER:
        fetcher(agent, NORTH_FIRST, NORTH_FETCH, spec.north_tensor, spec.north_line, spec, state, x, o)
    elif agent == WRITER:
        writer(agent, now, spec, state, x, o, counts)
    else:
        reader(agent, now, spec, state, x, o, counts)


@kernel
def loop(spec: Spec, x: Operands, machine: Any) -> tuple[int, int, int]:
    """The agents in the compiled engine."""
    return run(step, spec, x, machine)


# --- Laying a layer out -----------------------------------------------------------------------------------------------


class Placing(NamedTuple):
    """Which timesteps of which positions stand in the columns together.

    A group has ``positions`` output positions, each with ``span`` timesteps (the last block fewer), in ``blocks``.
    """

    positions: int
    span: int
    blocks: int

    def sizes(self, layer: Layer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of every group, timesteps of every block."""
        groups = -(-layer.m // self.positions)
        positions = np.minimum(self.positions, layer.m - self.positions * np.arange(groups))
        return positions, np.minimum(self.span, layer.timesteps - self.span * np.arange(self.blocks))


def place(layer: Layer, columns: int, window: int, side_by_side: bool) -> Placing:
    """Timesteps in windows of ``window``, a window a column, side by side or one block after the other."""
    if not side_by_side:
        return Placing(columns, 1, layer.timesteps)
    windows = -(-layer.timesteps // window)
    return Placing(max(1, columns // windows), min(columns, windows) * window, -(-windows // columns))


class Slots(NamedTuple):
    """Inputs in the order in which they enter, for every block of every group; a slot holds one input or more.

    ``first`` int64 [groups * blocks + 1] counts slots, ``slot`` [slots + 1] counts ``inputs``; ``spikes`` [groups *
    blocks] are those of a block's columns.
    """

    first: NDArray[np.int64]
    slot: NDArray[np.int64]
    inputs: NDArray[np.int64]
    spikes: NDArray[np.int64]


def parts(total: int, size: int) -> NDArray[np.int64]:
    """``total`` cut into parts of ``size``, the last one smaller."""
    return np.minimum(size, total - size * np.arange(-(-total // size)))


def offsets(bits: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """First bit of each of some pieces that begin at whole bytes, one behind the other, and bytes of all."""
    ends = np.cumsum(-(-bits.ravel() // 8) * 8)
    return (ends - -(-bits.ravel() // 8) * 8).reshape(bits.shape), int(ends[-1]) // 8


def nest(*loops: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Indices of nested loops, the last one innermost."""
    return [index.ravel() for index in np.meshgrid(*loops, indexing="ij")]


class Folds(NamedTuple):
    """The table of folds, bytes of both operands, which tensor enters at the west, and ``spread`` of :class:`Spec`.

    ``slots`` if not all inputs enter, ``cycles`` of every half of the operand buffers where they depend on the data.
    """

    table: NDArray[np.int64]
    west_bytes: int
    north_bytes: int
    west_tensor: int = WEIGHT
    spread: int = 0
    slots: Slots | None = None
    cycles: NDArray[np.int64] | None = None


def edge(table: NDArray[np.int64], first_field: int, first: Any, bits: Any, steps: Any, share: Any, new: Any,
         epoch: Any) -> None:  # fmt: skip
    """Fill in where one edge's operand is."""
    for field, values in enumerate((first, bits, steps, share, new, epoch)):
        table[:, first_field + field] = values


def output_stationary(
    config: ArrayConfig, rows: NDArray[np.int64], west_bits: int, positions: NDArray[np.int64],
    north_bits: NDArray[np.int64], sums: NDArray[np.int64], full: int, tail: NDArray[np.int64],
    entering: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> Folds:  # fmt: skip
    """Weights enter at the west, inputs at the north; for tile, for some neurons, for group, for block.

    ``rows`` neurons of every fold over N, ``west_bits`` of a step of one of them; ``positions`` of every group;
    ``north_bits`` of a step, and full ``sums`` of a neuron, of every group and block. ``full`` steps and ``tail``
    cycles (by neurons) a fold. ``entering``, where not all steps or additions take place: by group and block the first
    entry LIST, the steps, and the additions of a neuron.
    """
    pe, cache = config.pe, config.memory.cache
    groups, blocks = sums.shape
    west_first, west_bytes = offsets(full * west_bits * rows)
    north_first, north_bytes = offsets(full * north_bits)
    room = int(config.scheduler.tile_fill * cache.usable_bytes) - 2 * full * west_bits * int(rows[0]) // 8
    tile = max(1, room // -(-full * int(north_bits[0].sum()) // 8))
    nests = [
        nest(np.array([first // tile]), np.arange(len(rows)), np.arange(first, min(first + tile, groups)),
             np.arange(blocks))
        for first in range(0, groups, tile)
    ]  # fmt: skip
    t, r, g, b = (np.concatenate(indices) for indices in zip(*nests, strict=True))
    table = np.zeros((len(t), len(FOLD_FIELDS)), np.int64)
    table[:, STEPS], table[:, ADDED], share = full, full * sums[g, b] * rows[r], np.full(len(t), pe.buffer_steps)
    if entering is not None:
        first, steps, added = entering
        table[:, LIST], table[:, STEPS], table[:, ADDED] = first[g, b], steps[g, b], added[g, b] * rows[r]
        share = -(-full // np.maximum(1, -(-table[:, STEPS] // pe.buffer_steps)))
        share = np.where(table[:, STEPS] == full, pe.buffer_steps, share)
    table[:, TAIL], table[:, SUMS] = tail[r], sums[g, b] * rows[r]
    table[:, ROW] = (np.cumsum(positions) - positions)[g]
    table[:, ROW_END] = table[:, ROW] + np.where((r == len(rows) - 1) & (b == blocks - 1), positions[g], 0)
    epoch = t * len(rows)
    edge(table, WEST_FIRST, west_first[r], rows[r] * west_bits, full, pe.buffer_steps,
         (g == t * tile) & (b == 0), epoch + r)  # fmt: skip
    edge(table, NORTH_FIRST, north_first[g, b], north_bits[g, b], full, share, r == 0, epoch + len(rows) - 1)
    return Folds(table, west_bytes, north_bytes)


def in_columns(
    config: ArrayConfig, layer: Layer, placing: Placing, ticks: int = 1, slots: Slots | None = None
) -> Folds:
    """Output stationary folds with neurons in the rows and timesteps of positions in the columns."""
    pe = config.pe
    positions, timesteps = placing.sizes(layer)
    columns = positions[:, None] * timesteps
    rows = parts(layer.n, pe.rows)
    tail = np.full(len(rows), pe.skew_cycles + pe.rows * ticks)
    entering = None
    if slots is not None:
        entering = (slots.first[:-1].reshape(columns.shape), np.diff(slots.first).reshape(columns.shape),
                    slots.spikes.reshape(columns.shape))  # fmt: skip
    folds = output_stationary(config, rows, pe.weight_bits, positions, columns, columns, layer.k, tail, entering)
    return folds._replace(slots=slots)


def dense_words(layer: Layer, first: int, rows: int) -> NDArray[np.uint16]:
    """Rows ``first`` on of A, packed timesteps [rows, K]."""
    inputs = layer.inputs
    start = inputs.start[first : first + rows]
    part = packed_time.PackedSpikes(inputs.mask[first : first + rows], start, inputs.words[start[0, 0] : start[-1, -1]])
    return packed_time.decode(part, layer.k)


class ArrayMachine(Accelerator):
    """What machines around a systolic array share."""

    tensors: ClassVar[tuple[str, ...]] = TENSORS
    actions: ClassVar[int] = ACTIONS
    step: ClassVar[Any] = step
    loop: ClassVar[Any] = loop
    config: Any

    @abstractmethod
    def placing(self, layer: Layer) -> Placing:
        """Which timesteps of which positions stand in the columns together."""

    @abstractmethod
    def folds(self, layer: Layer) -> Folds:
        """The layer as a list of folds."""

    def slots(self, layer: Layer) -> Slots | None:
        """Which inputs enter; None: all, in order."""
        return None

    @property
    def window(self) -> int:
        """Timesteps that a place of the array works through in every step, one a cycle."""
        return 1

    @property
    def weights_a_step(self) -> int:
        """Weights that enter a row of the array in a step."""
        return 1

    @property
    def adds_outside(self) -> bool:
        """Whether sums are added up behind the array too, by an accumulator a column."""
        return False

    @property
    def sum_bits(self) -> int:
        """An accumulator holds the full sum of a timestep."""
        bits: int = self.config.pe.accumulator_bits
        return bits

    def inventory(self) -> Sequence[Component]:
        """Places of the array, operand buffers, neuron units, and LoAS's memories.

        Nothing goes through crossbar switches, so there are none, and the crosspoints are those of the agents with a
        path of their own to the banks. What LoAS broadcasts goes from a bank to one edge here, so the bus has one
        receiver. Where an input of two comes with every weight, a place and a column have a bit that says which.
        """
        config, pe = self.config, self.config.pe
        weight_bits, choice = self.weights_a_step * pe.weight_bits, self.weights_a_step - 1
        step_bits = pe.rows * weight_bits + pe.columns * (self.window + choice)
        buffer = {"bits": pe.buffers * pe.buffer_steps * step_bits, "width_bits": step_bits}
        place: dict[str, int | float | str] = {
            "block": "systolic_pe",
            "weight_register_bits": weight_bits,
            "spike_register_bits": 1 + choice,
            "accumulator_bits": pe.accumulator_bits,
            "sums": self.window,
        }
        accumulator = {"block": "accumulator", "accumulator_bits": pe.accumulator_bits}
        paths = {"block": "others", "pes": len(AGENTS) - 1, "banks": config.memory.cache.banks}
        memory = memory_components(config.memory, 1)
        return (
            Component("pe", "logic", pe.rows * pe.columns, place),
            Component("operand_buffer", "flip_flops", 1, buffer),
            *([Component("accumulator", "logic", pe.columns, accumulator)] if self.adds_outside else []),
            Component("lif", "logic", pe.columns, {"block": "lif"}),
            Component("scheduler", "logic", 1, {"block": "scheduler"}),
            Component("others", "logic", 1, paths),
            *(component for component in memory if component.unit != "crossbar_switch"),
        )

    def add_up(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Weights of the inputs that spike, in the order in which inputs enter; counts overflows."""
        placing, slots = self.placing(layer), self.slots(layer)
        groups = -(-layer.m // placing.positions) * placing.blocks
        if slots is None:
            order, begin = np.arange(layer.k), np.zeros(groups, np.int64)
            end = np.full(groups, layer.k)
        else:
            order, entered = slots.inputs, slots.slot[slots.first]
            begin, end = entered[:-1], entered[1:]
        weights = np.ascontiguousarray(bitmask.decode(layer.weights, layer.k).T, np.int64)
        overflows = add_in_order(
            dense_words(layer, first, len(sums)), weights, order, begin, end, *placing, self.config.pe.accumulator_bits,
            first, sums,
        )  # fmt: skip
        return {"accumulator_overflows": int(overflows)}

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """One bit for each neuron and timestep, as the next layer reads it."""
        return np.full(layer.m, -(-layer.n * layer.timesteps // 8))

    def program(self, layer: Layer, output_bytes: NDArray[np.int64]) -> Program:
        """Place the operands, partial sums and the output in memory one after the other."""
        config, pe, cache = self.config, self.config.pe, self.config.memory.cache
        folds = self.folds(layer)
        table = folds.table
        line_bytes, stationary, most_steps = cache.line_bytes, table[0, LOAD] > 0, int(table[:, STEPS].max())
        psum_bytes = -(-pe.accumulator_bits // 8)
        psum_lines = -(-pe.buffer_steps * int(table[:, PSUMS].max()) * psum_bytes // line_bytes)
        blocks = max(1, -(-most_steps // pe.buffer_steps))
        sizes = np.array([folds.west_bytes, folds.north_bytes, psum_lines * blocks * line_bytes])
        memory = placement.interleaved(sizes, line_bytes)
        output = placement.interleaved(output_bytes, line_bytes, memory.free)
        west, north, psum = memory.line.tolist()
        ticks = min(self.window, layer.timesteps)
        leaving = min(pe.buffer_steps, most_steps) if stationary else pe.rows * ticks
        spec = Spec(
            folds=len(table),
            steps=pe.buffer_steps,
            ticks=ticks,
            timed=int(folds.cycles is not None),
            places=pe.rows * pe.columns,
            skew=0 if folds.cycles is not None else pe.skew_cycles,
            listed=int(folds.slots is not None),
            halves_out=int(stationary),
            spread=folds.spread,
            west_tensor=folds.west_tensor,
            north_tensor=INPUT + WEIGHT - folds.west_tensor,
            west_line=west,
            north_line=north,
            psum_line=psum,
            psum_bytes=psum_bytes,
            psum_lines=psum_lines,
            fire=leaving * (config.neuron.cycles - 1) + 1,
            fetch_lines=min(cache.mshrs, 16),
            prefetch=int(config.scheduler.prefetch_folds > 0),
            line_bytes=line_bytes,
            line_shift=line_bytes.bit_length() - 1,
            beat_shift=(cache.width_bits // 8).bit_length() - 1,
        )
        nothing = np.zeros(1, np.int64)
        slots = folds.slots or Slots(nothing, nothing, nothing, nothing)
        cycles = nothing if folds.cycles is None else folds.cycles
        operands = Operands(table, slots.slot, slots.inputs, cycles, output.line, output_bytes)
        topology = self._topology(spec, table, slots)
        names = ("array", "west_feeder", "north_feeder", "west_fetcher", "north_fetcher", "writer", "psum_reader")
        units = tuple(Unit(name, agent, 1, 1) for agent, name in enumerate(names))
        return Program(spec, operands, topology, np.zeros((len(names), ROW_BYTE + 1), np.int64), units)

    def _topology(self, spec: Spec, table: NDArray[np.int64], slots: Slots) -> op.Topology:
        pe, ahead = self.config.pe, self.config.scheduler.prefetch_folds

        def most_lines(first: int) -> int:
            steps = np.minimum(table[:, first + SHARE], table[:, first + EDGE_STEPS])
            return int((-(-steps * table[:, first + BITS] // (8 * spec.line_bytes))).max()) + 2

        west = most_lines(WEST_FIRST)
        if spec.listed:
            together = np.diff(slots.slot).max(initial=1) * pe.buffer_steps
            west = int(together) * (-(-int(table[:, WEST_BITS].max()) // (8 * spec.line_bytes)) + 2)
        fetched = [int(table[:, first + NEW].sum()) + ahead for first in (WEST_FIRST, NORTH_FIRST)]
        blocks = max(1, -(-int(table[:, STEPS].max()) // pe.buffer_steps))
        stationary = spec.halves_out
        return op.topology(
            [0, west, most_lines(NORTH_FIRST), spec.fetch_lines, spec.fetch_lines,
             max(spec.fetch_lines, spec.psum_lines), spec.psum_lines],
            [OWN_PATH] * len(AGENTS),
            [
                (pe.buffers, 0, 1),
                (pe.buffers, 0, 1),
                (pe.output_buffer, 0, 1),
                (pe.output_buffer, 0, 1),
                (blocks + 1, 0, 1),
                (fetched[0], ahead, 1),
                (fetched[1], ahead, 1),
                (pe.buffers, pe.buffers, 1 if stationary else 2),
                (pe.buffers, pe.buffers, 1),
            ],
            [],
        )  # fmt: skip

    def count_actions(
        self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Additions, operands and sums handed on from place to place, buffers, partial sums and neurons."""
        fires = layer.neuron is not None or layer.expected is None
        return {
            ("pe", "add"): int(counts[ADDS]),
            ("pe", "shift_weight"): int(counts[WEIGHT_SHIFTS]),
            ("pe", "shift_spike"): int(counts[SPIKE_SHIFTS]),
            ("pe", "shift_sum"): int(counts[SUM_SHIFTS]),
            ("operand_buffer", "write"): int(counts[STEPS_DONE]),
            ("operand_buffer", "read"): int(counts[STEPS_DONE]),
            **({("accumulator", "add"): int(counts[PARTIAL_ADDS])} if self.adds_outside else {}),
            ("lif", "update"): int(counts[SUMS_FINISHED]) if fires else 0,
            ("scheduler", "step"): int(counts[FOLDS_DONE]),
            ("broadcast", "transfer"): int(counts[MOVED_BEATS]),
        }

    @property
    def processing_elements(self) -> int:
        """Places of the array."""
        places: int = self.config.pe.rows * self.config.pe.columns
        return places

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Additions in the places: of all inputs at every timestep, or of the spikes alone where not all inputs enter;
        weights of zero are added."""
        return int(counts[ADDS])

    def working_cycles(
        self, layer: Layer, program: Program, counts: NDArray[np.int64], times: NDArray[np.int64]
    ) -> int:
        """A place works in the cycles in which it adds."""
        return int(counts[ADDS])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """All places add in every cycle."""
        return -(-int(counts[ADDS]) // self.processing_elements)

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """Lines of the inputs, and of the weights of those that enter."""
        spec, weight_bits = program.spec, self.config.pe.weight_bits
        west: int = (spec.north_line - spec.west_line) * spec.line_bytes
        if spec.listed:
            west = int(np.unique(program.operands.inputs).size) * layer.n * weight_bits // 8
        north: int = (spec.psum_line - spec.north_line) * spec.line_bytes
        return west + north
