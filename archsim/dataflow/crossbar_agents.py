"""Agents of a chip of crossbar arrays, and the tables that tell them what to do.

Which agents there are and how they are connected is in :mod:`archsim.dataflow.crossbar_chip`, which lays a network
out; here is what each of them does next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.engine.compiled import run
from archsim.hardware.interconnect.noc import ARRIVE, hop
from archsim.hardware.operation import (
    COMPUTE,
    END,
    POP,
    POP_COUNT,
    PUSH,
    PUSH_COUNT,
    RESIDENT_READ,
    RESIDENT_WRITE,
    START,
    STREAM_READ,
    STREAM_WRITE,
    VALUE,
    VALUE_OUT,
    add_request,
)
from archsim.jit import inlined, kernel

# --- What the kernels see ---------------------------------------------------------------------------------------------

# Tensors of the traffic table, once for every layer.
INPUT, MEMBRANE, OUTPUT = range(3)
TENSORS = ("input", "membrane", "output")

# Actions that the agents count.
READS, CONVERSIONS, WINDOWS, TREE_WORDS, UPDATES, JOINED, FLIT_HOPS, BUFFER_WRITES = range(8)
FETCHES, SCALED, CELL_WRITES, SOFTMAX, NORMALISED, ADDED, ROW_READS = range(8, 15)
ACTIONS = 15

HOP, DRIVER, CONVERTER, ADDER, NEURON, MOVER, WRITER, DIGITAL = range(8)

# Columns of the table of agents. ROWS: rows, or packets, in all; tables of rows repeat after PERIOD rows. TAKES: the
# port that work comes from; GIVES: the FIFO that it goes to; TOKEN: the port of a slot, credit or token that it needs
# for that; BACK: the FIFO of what it gives back. FIRST, COUNT: its part of ``Operands.listed`` or ``Operands.feed``.
KIND, ROWS, STEPS, PERIOD, TAKES, GIVES, TOKEN, BACK, FIRST, COUNT, CYCLES, FLITS = range(12)
# Of a hop.
IS_LAST = 12
# Of a driver: cycles of the first fetch of a row, its steps, first of its entries in ``active``, copies of its arrays.
ROW_CYCLES, ROW_STEPS, PLAN, COPIES, PE_COPIES = range(12, 17)
# Of all others: columns, neurons, values of a row or cells.
WIDTH = 12
# Of a driver and an adder: cycles that the bits of an input take, one after the other.
PLANES = 17
# Of a neuron agent: token of its module, and where potentials (LINES a position) and outputs lie.
MODULE, LINE, LINES, BYTES, OUT_LINE, OUT_LINES, OUT_BYTES, FIRES, JOIN_BYTES, JOINS = range(13, 23)
# Of a mover: table of rows to wait for; credits; lines of a row from DRAM, in the buffer, to DRAM; buffer writes.
NEED, CREDITS, CREDIT_COUNT, FETCH_LINES, ROW_LINES, STORE_LINES, TILE_WRITES = 12, *range(17, 23)
# Of these and a digital unit, the first of the layer's tensors. Of a neuron agent: outputs are requantised.
TENSOR, SCALES = 23, 24
# Of a digital unit, beside what a neuron agent has (BYTES and LINE of a row of its output): what it counts.
ACTION = 18
COLUMNS = 25

# Columns of ``Operands.feed``: port of the rows, FIFO of the credits, tables of rows that begin and end to be needed.
ROW_PORT, CREDIT, BEGIN, FINISH = range(4)

# An agent's state. HELD: flits of a hop's packet. BEGAN, FINISHED: first and last cycle.
PHASE, ROW, STEP, INDEX, HELD, BEGAN, FINISHED = range(7)
STATE = 7
NOT_ASKED, NOT_BEGUN = -2, -1

FETCHED_AT_ONCE = 16
"""Lines that a mover asks for at once."""
# What of a position is active, in one number: arrays, sets of converters and PEs.
SET_SHIFT, PE_SHIFT = 20, 40
MASK = (1 << SET_SHIFT) - 1


class Spec(NamedTuple):
    """The machine as integers; ``inner`` is 1 if all timesteps of a position follow each other."""

    timesteps: int
    inner: int
    read_cycles: int
    router_cycles: int
    line_bytes: int
    beat_bytes: int


class Operands(NamedTuple):
    """``agent`` int64 [agents, COLUMNS]; ``feed`` int64 [feeds, 4]; ``listed`` ports and FIFOs; ``rows`` tables of how
    many rows more an output row needs; ``active`` what is active in a position of a part of a layer, packed.
    """

    agent: NDArray[np.int64]
    feed: NDArray[np.int64]
    listed: NDArray[np.int64]
    rows: NDArray[np.int64]
    active: NDArray[np.int64]


# --- Agents -----------------------------------------------------------------------------------------------------------

WAIT, FETCH, DRIVE, FREE = range(4)
ROWS_HERE, WRITE, RELEASE = range(3)
GATHER, KEEP, HAND_BACK = range(3)
TAKE, SUM, PART, SEND = range(4)
JOIN, ARRIVED, UPDATE, STORE, RETURN, DONE = range(6)
ROWS_DONE, READ_DRAM, LOAD, WRITE_DRAM, GIVE = range(5)


@inlined
def take(o: Any, agent: int, port: int, count: int) -> None:
    """Pop ``count`` tokens."""
    o[agent, POP] = port
    o[agent, POP_COUNT] = count


@inlined
def give(o: Any, agent: int, fifo: int, count: int, value: int) -> None:
    """Push ``count`` tokens of ``value``."""
    o[agent, PUSH] = fifo
    o[agent, PUSH_COUNT] = count
    o[agent, VALUE_OUT] = value


@inlined
def transfer(spec: Spec, o: Any, agent: int, line: int, size: int, mode: int, tensor: int) -> None:
    """Requests for ``size`` bytes from the beginning of ``line`` on."""
    while size > 0:
        part = min(size, spec.line_bytes)
        add_request(o, agent, line, (part + spec.beat_bytes - 1) // spec.beat_bytes, part, mode, tensor, 0)
        size -= part
        line += 1


@inlined
def take_rows(own: Any, s: Any, x: Operands, o: Any, agent: int, row: int) -> bool:
    """Wait for the rows of a feed that output row ``row`` is the first to need; false when all feeds are done."""
    while s[INDEX] < own[COUNT]:
        feed = x.feed[own[FIRST] + s[INDEX]]
        s[INDEX] += 1
        needed = x.rows[feed[BEGIN] + row]
        if needed > 0:
            take(o, agent, feed[ROW_PORT], needed)
            return True
    s[INDEX] = 0
    return False


@inlined
def free_rows(own: Any, s: Any, x: Operands, o: Any, agent: int, row: int) -> bool:
    """Give back the rows of a feed that no row after ``row`` needs; false when all feeds are done."""
    while s[INDEX] < own[COUNT]:
        feed = x.feed[own[FIRST] + s[INDEX]]
        s[INDEX] += 1
        freed = x.rows[feed[FINISH] + row]
        if freed > 0:
            give(o, agent, feed[CREDIT], freed, 0)
            return True
    s[INDEX] = 0
    return False


@inlined
def driver(agent: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Wait for the rows of an output row, then drive position after position; free the rows that nobody needs.

    A position's inputs are fetched once and driven bit after bit.
    """
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == FREE:
        if free_rows(own, s, x, o, agent, s[ROW] % own[PERIOD]):
            return
        s[ROW] += 1
        s[PHASE] = WAIT
    if s[PHASE] == WAIT:
        if s[ROW] == own[ROWS]:
            o[agent, END] = 1
            return
        if take_rows(own, s, x, o, agent, s[ROW] % own[PERIOD]):
            return
        s[PHASE] = FETCH
    if s[PHASE] == FETCH:
        s[PHASE] = DRIVE
        if s[STEP] % own[PLANES] == 0:
            cycles = own[ROW_CYCLES] if s[STEP] < own[ROW_STEPS] else own[CYCLES]
            o[agent, COMPUTE] = cycles
            counts[agent, FETCHES] += cycles
            return
    active = x.active[own[PLAN] + s[ROW] * own[STEPS] + s[STEP]]
    take(o, agent, own[TOKEN], 1)
    o[agent, COMPUTE] = spec.read_cycles if active > 0 else 0
    give(o, agent, own[GIVES], 1, active)
    counts[agent, READS] += (active & MASK) * own[COPIES]
    counts[agent, WINDOWS] += (active >> PE_SHIFT) * own[PE_COPIES]
    s[STEP] += 1
    s[PHASE] = FETCH
    if s[STEP] == own[STEPS]:
        s[STEP] = 0
        s[PHASE] = FREE


@inlined
def converter(agent: int, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The converters of a tile: their columns one after the other, for all arrays at once."""
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == TAKE:
        if s[ROW] == own[ROWS]:
            o[agent, END] = 1
            return
        take(o, agent, own[TAKES], 1)
        s[PHASE] = SUM
        return
    active = o[agent, VALUE]
    sets = (active >> SET_SHIFT) & MASK
    o[agent, COMPUTE] = own[CYCLES] if sets > 0 else 0
    give(o, agent, own[GIVES], 1, active)
    counts[agent, CONVERSIONS] += sets * own[WIDTH]
    s[ROW] += 1
    s[PHASE] = TAKE


@inlined
def adder(agent: int, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Shift-add and H-tree of a tile, bit after bit of the inputs; sums of other parts are added as they come."""
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == TAKE:
        if s[ROW] == own[ROWS]:
            o[agent, END] = 1
            return
        take(o, agent, own[TAKES], 1)
        s[PHASE] = SUM
        return
    if s[PHASE] == SUM:
        counts[agent, TREE_WORDS] += (o[agent, VALUE] >> PE_SHIFT) * own[WIDTH]
        o[agent, COMPUTE] = own[CYCLES]
        give(o, agent, own[BACK], 1, 0)
        s[STEP] += 1
        s[PHASE] = TAKE
        if s[STEP] == own[PLANES]:
            s[STEP] = 0
            s[INDEX] = 0
            s[PHASE] = PART
        return
    if s[PHASE] == PART:
        if s[INDEX] < own[COUNT]:
            entry = own[FIRST] + 2 * s[INDEX]
            take(o, agent, x.listed[entry], 1)
            o[agent, COMPUTE] = 1
            give(o, agent, x.listed[entry + 1], 1, 0)
            counts[agent, TREE_WORDS] += own[WIDTH]
            s[INDEX] += 1
            return
        s[PHASE] = SEND
    take(o, agent, own[TOKEN], 1)
    give(o, agent, own[GIVES], 1, own[FLITS])
    s[ROW] += 1
    s[PHASE] = TAKE


@inlined
def neuron(agent: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The neurons of one tile, in a module: wait for the module, read, update and write potentials, write outputs."""
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == JOIN:
        if s[ROW] == own[ROWS]:
            o[agent, END] = 1
            return
        while s[STEP] == 0 and s[INDEX] < own[COUNT]:
            entry = own[FIRST] + 2 * s[INDEX]
            s[INDEX] += 1
            needed = x.rows[x.listed[entry + 1] + s[ROW] % own[PERIOD]]
            if needed > 0:
                take(o, agent, x.listed[entry], needed)
                return
        s[INDEX] = 0
        take(o, agent, own[TAKES], 1)
        s[PHASE] = UPDATE
        return
    step = s[STEP]
    place = step // spec.timesteps if spec.inner else (s[ROW] % own[PERIOD]) * own[STEPS] + step
    time = step % spec.timesteps if spec.inner else s[ROW] // own[PERIOD] % spec.timesteps
    stored = own[FIRES] and not spec.inner
    if s[PHASE] == UPDATE:
        take(o, agent, own[TOKEN], 1)
        o[agent, COMPUTE] = own[CYCLES]
        if stored and time > 0:
            transfer(spec, o, agent, own[LINE] + place * own[LINES], own[BYTES], RESIDENT_READ, own[TENSOR] + MEMBRANE)
        if own[JOIN_BYTES] > 0:
            transfer(spec, o, agent, own[OUT_LINE] + step * own[OUT_LINES], own[JOIN_BYTES], RESIDENT_READ,
                     own[TENSOR] + MEMBRANE)  # fmt: skip
            counts[agent, JOINED] += own[WIDTH] * own[JOINS]
        if own[FIRES]:
            counts[agent, UPDATES] += own[WIDTH]
        if own[SCALES]:
            counts[agent, SCALED] += own[WIDTH]
        s[PHASE] = STORE
        return
    if s[PHASE] == STORE:
        if stored and time < spec.timesteps - 1:
            transfer(spec, o, agent, own[LINE] + place * own[LINES], own[BYTES], RESIDENT_WRITE, own[TENSOR] + MEMBRANE)
        transfer(spec, o, agent, own[OUT_LINE] + step * own[OUT_LINES], own[OUT_BYTES], RESIDENT_WRITE,
                 own[TENSOR] + OUTPUT)  # fmt: skip
        give(o, agent, own[MODULE], 1, 0)
        s[PHASE] = RETURN
        return
    if s[PHASE] == RETURN:
        give(o, agent, own[BACK], 1, 0)
        s[STEP] += 1
        s[PHASE] = JOIN
        if s[STEP] == own[STEPS]:
            s[STEP] = 0
            s[PHASE] = DONE
        return
    give(o, agent, own[GIVES], 1, 0)
    s[ROW] += 1
    s[PHASE] = JOIN


@inlined
def writer(agent: int, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Write a matrix into the arrays of a tile, row after row of the arrays, when the last one has been read."""
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == RELEASE:
        if free_rows(own, s, x, o, agent, s[STEP]):
            return
        s[STEP] += 1
        s[PHASE] = ROWS_HERE
        if s[STEP] == own[STEPS]:
            s[STEP] = 0
            s[ROW] += 1
    if s[PHASE] == ROWS_HERE:
        if s[ROW] == own[ROWS]:
            o[agent, END] = 1
            return
        if take_rows(own, s, x, o, agent, s[STEP]):
            return
        s[PHASE] = WRITE
        if s[STEP] == 0:
            take(o, agent, own[TOKEN], 1)
            return
    o[agent, COMPUTE] = own[CYCLES]
    counts[agent, CELL_WRITES] += own[WIDTH]
    if s[STEP] == own[STEPS] - 1:
        give(o, agent, own[GIVES], 1, 0)
    s[PHASE] = RELEASE


@inlined
def ask(spec: Spec, own: Any, s: Any, o: Any, agent: int, lines: int, mode: int, tensor: int) -> bool:
    """The next requests for the ``lines`` lines of a mover's row; false when there are none left."""
    if s[INDEX] == lines:
        s[INDEX] = 0
        return False
    end = min(lines, s[INDEX] + FETCHED_AT_ONCE)
    size = min(own[BYTES], end * spec.line_bytes) - s[INDEX] * spec.line_bytes
    row = s[ROW] if mode in (STREAM_READ, STREAM_WRITE) else 0
    transfer(spec, o, agent, own[LINE] + row * lines + s[INDEX], size, mode, tensor)
    s[INDEX] = end
    return True


@inlined
def digital(agent: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """A digital unit of a module: when a row of everything that it reads is there, make one and write it."""
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == GATHER:
        if s[ROW] == own[ROWS]:
            o[agent, END] = 1
            return
        if take_rows(own, s, x, o, agent, s[ROW] % own[PERIOD]):
            return
        take(o, agent, own[TOKEN], 1)
        o[agent, COMPUTE] = own[CYCLES]
        counts[agent, own[ACTION]] += own[WIDTH]
        s[PHASE] = KEEP
        return
    if s[PHASE] == KEEP:
        if ask(spec, own, s, o, agent, own[LINES], RESIDENT_WRITE, own[TENSOR] + OUTPUT):
            return
        give(o, agent, own[MODULE], 1, 0)
        s[PHASE] = HAND_BACK
        return
    if free_rows(own, s, x, o, agent, s[ROW] % own[PERIOD]):
        return
    give(o, agent, own[GIVES], 1, 0)
    s[ROW] += 1
    s[PHASE] = GATHER


@inlined
def mover(agent: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Wait until a row is complete, or fetch it from DRAM; send it to all tiles that need it, or write it to DRAM."""
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == ROWS_DONE:
        if s[ROW] == own[ROWS]:
            o[agent, END] = 1
            return
        needed = x.rows[own[NEED] + s[ROW] % own[PERIOD]]
        if needed > 0 and s[INDEX] < own[COUNT]:
            take(o, agent, x.listed[own[FIRST] + s[INDEX]], needed)
            s[INDEX] += 1
            return
        s[INDEX] = 0
        s[PHASE] = READ_DRAM
    if s[PHASE] == READ_DRAM:
        if ask(spec, own, s, o, agent, own[FETCH_LINES], STREAM_READ, own[TENSOR]):
            return
        s[PHASE] = LOAD
    if s[PHASE] == LOAD:
        if ask(spec, own, s, o, agent, own[ROW_LINES], RESIDENT_READ, own[TENSOR]):
            return
        s[PHASE] = WRITE_DRAM
    if s[PHASE] == WRITE_DRAM:
        if s[INDEX] < own[STORE_LINES]:
            ask(spec, own, s, o, agent, own[STORE_LINES], STREAM_WRITE, own[TENSOR])
            if s[INDEX] == own[STORE_LINES]:
                s[INDEX] = 0
                s[ROW] += 1
                s[PHASE] = ROWS_DONE
            return
        s[PHASE] = GIVE
    take(o, agent, x.listed[own[CREDITS] + s[INDEX]], 1)
    s[INDEX] += 1
    if s[INDEX] == own[CREDIT_COUNT]:
        give(o, agent, own[GIVES], 1, own[FLITS])
        counts[agent, BUFFER_WRITES] += own[TILE_WRITES]
        s[INDEX] = 0
        s[ROW] += 1
        s[PHASE] = ROWS_DONE


@inlined
def link(agent: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """A flow at one link of the network."""
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == ARRIVE and s[ROW] == own[ROWS]:
        o[agent, END] = 1
        return
    s[PHASE], s[HELD] = hop(
        o, agent, s[PHASE], s[HELD], own[TAKES], own[TOKEN], own[BACK], own[GIVES], spec.router_cycles, own[IS_LAST]
    )
    if s[PHASE] == ARRIVE:
        s[ROW] += 1
        counts[agent, FLIT_HOPS] += s[HELD]


@kernel
def step(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Next operation of any agent; notes when its work begins and ends."""
    if state[agent, BEGAN] == NOT_BEGUN:
        state[agent, BEGAN] = o[agent, START]
    elif state[agent, BEGAN] == NOT_ASKED:
        state[agent, BEGAN] = NOT_BEGUN
    kind = x.agent[agent, KIND]
    if kind == HOP:
        link(agent, spec, state, x, o, counts)
    elif kind == DRIVER:
        driver(agent, spec, state, x, o, counts)
    elif kind == CONVERTER:
        converter(agent, state, x, o, counts)
    elif kind == ADDER:
        adder(agent, state, x, o, counts)
    elif kind == NEURON:
        neuron(agent, spec, state, x, o, counts)
    elif kind == WRITER:
        writer(agent, state, x, o, counts)
    elif kind == DIGITAL:
        digital(agent, spec, state, x, o, counts)
    else:
        mover(agent, spec, state, x, o, counts)
    if o[agent, END]:
        state[agent, FINISHED] = now


@kernel
def loop(spec: Spec, x: Operands, machine: Any) -> tuple[int, int, int]:
    """The agents in the compiled engine."""
    return run(step, spec, x, machine)
