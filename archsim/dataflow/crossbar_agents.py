"""Agents of a chip of crossbar arrays. Each kind has a table of its own, with a row for each of its agents.

:mod:`archsim.dataflow.crossbar_wiring` fills in the tables and connects the agents. Every agent goes through all *maps*
of its layer: an image each or, with ``scheduler.timesteps: outer``, an image and timestep. A map has ``height`` rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.hardware.agent import NONE, Agent, Operations, op
from archsim.hardware.interconnect.noc import cross
from archsim.hardware.operation import RESIDENT_READ, RESIDENT_WRITE, STREAM_READ, STREAM_WRITE

# Rows of the traffic table, once for every layer.
INPUT, MEMBRANE, OUTPUT = range(3)
TENSORS = ("input", "membrane", "output")

# What the agents count.
COUNTED = (
    "reads", "conversions", "windows", "tree_words", "updates", "joined", "flit_hops", "buffer_writes", "fetches",
    "scaled", "cell_writes", "softmax", "normalised", "added",
)  # fmt: skip
(
    READS, CONVERSIONS, WINDOWS, TREE_WORDS, UPDATES, JOINED, FLIT_HOPS, BUFFER_WRITES, FETCHES,
    SCALED, CELL_WRITES, SOFTMAX, NORMALISED, ADDED,
) = range(len(COUNTED))  # fmt: skip

BEGAN, ANSWERED = range(2)
"""What an agent keeps: one more than the cycle in which its first operation began, and the cycle in which the first map
that it stores is complete; 0 where it does not say."""
FETCHED_AT_ONCE = 16
"""Most lines of a row that an agent asks for at once."""

# What of a position is active, in one number: arrays, sets of converters and PEs.
SET_SHIFT, PE_SHIFT = 20, 40
MASK = (1 << SET_SHIFT) - 1


# --- What each kind of agent knows ------------------------------------------------------------------------------------


class Feed(NamedTuple):
    """One input of a tile or a digital unit: rows arrive at ``port``, and room for one is given back to ``credit``.

    In ``Operands.rows``, ``begin`` and ``finish`` are the first of an entry for each row of the output: how many rows
    of the input it is the first to need, and how many nobody needs behind it.
    """

    port: int
    credit: int
    begin: int
    finish: int


class Part(NamedTuple):
    """Sums of another tile with the same neurons: they arrive at ``port``, and their credit goes back to ``credit``."""

    port: int
    credit: int


class Join(NamedTuple):
    """Another layer's sums that neurons add: finished rows are told at ``port``; ``need`` as ``begin`` of a feed. They
    are those of ``late`` maps before; the first maps have none."""

    port: int
    need: int
    late: int


class Driver(NamedTuple):
    """``steps`` positions of a row of the output are driven in ``planes`` parts each, for every part a ``slot``.

    Inputs of the first ``row_steps`` are fetched in ``row_cycles``, of others in ``cycles``. Entries of
    ``Operands.active`` begin at ``plan``; the tile has ``copies`` of each array and ``pe_copies`` of each PE.
    """

    maps: int
    height: int
    steps: int
    planes: int
    row_steps: int
    row_cycles: int
    cycles: int
    first_feed: int
    end_feed: int
    plan: int
    copies: int
    pe_copies: int
    slot: int
    driven: int


class Converter(NamedTuple):
    """What is ``driven`` is converted in ``cycles``, with ``conversions`` in each active set.

    Entries of ``Operands.active`` go from ``plan`` to ``end``.
    """

    plan: int
    end: int
    cycles: int
    conversions: int
    driven: int
    converted: int


class Adder(NamedTuple):
    """Words of ``outputs`` neurons run through the tree in ``cycles``; a packet of sums has ``flits`` flits."""

    positions: int
    planes: int
    outputs: int
    cycles: int
    flits: int
    converted: int
    slot: int
    first_part: int
    end_part: int
    credit: int
    sums: int


class Neuron(NamedTuple):
    """``outputs`` neurons of a layer, whose ``sums`` arrive position by position.

    Potentials of a position take ``bytes`` bytes, ``lines`` lines from ``line`` on; its outputs ``out_bytes``, in
    ``out_lines`` from ``out_line`` on; sums of ``joins`` other layers ``join_bytes`` in the same place. ``fires`` and
    ``scales`` tell what happens to a sum; ``stored`` whether potentials wait in memory for the next timestep. A sum is
    used at ``shown`` maps or ``repeats`` steps in turn; behind the first map it comes from ``sum_lines`` lines of
    ``sum_bytes`` bytes a position, from ``sum_line`` on.
    """

    maps: int
    height: int
    steps: int
    outputs: int
    cycles: int
    sums: int
    room: int
    turn: int
    module: int
    done: int
    first_join: int
    end_join: int
    joins: int
    fires: int
    scales: int
    stored: int
    line: int
    lines: int
    bytes: int
    out_line: int
    out_lines: int
    out_bytes: int
    join_bytes: int
    shown: int
    repeats: int
    sum_line: int
    sum_lines: int
    sum_bytes: int
    tensor: int


class Sender(NamedTuple):
    """Rows of one input of a layer, ``bytes`` bytes in lines from ``line`` on; ``lines`` each if they are
    ``from_dram``.

    Ports of the groups that make the row are in ``Operands.ports``, those of the tiles' credits too; ``need`` is the
    first entry in ``Operands.rows`` of how many rows more a row takes. ``tile_writes``: accesses of all tiles' buffers.
    Rows are those of ``late`` maps before, zeros in the first maps; DRAM has the same for ``shown`` maps in turn.
    """

    maps: int
    height: int
    late: int
    shown: int
    need: int
    first_done: int
    end_done: int
    from_dram: int
    line: int
    lines: int
    bytes: int
    first_credit: int
    end_credit: int
    entry: int
    flits: int
    tile_writes: int
    tensor: int


class Storer(NamedTuple):
    """Output rows that no layer reads; ``first_done``, ``end_done`` and ``need`` as of a :class:`Sender`."""

    maps: int
    height: int
    need: int
    first_done: int
    end_done: int
    line: int
    lines: int
    bytes: int
    tensor: int


class Writer(NamedTuple):
    """A matrix for each of ``maps`` maps: ``rows`` rows of arrays, ``cells`` cells of each, in ``cycles`` each."""

    maps: int
    rows: int
    cycles: int
    cells: int
    first_feed: int
    end_feed: int
    free: int
    written: int


class Digital(NamedTuple):
    """Rows of ``values`` values, ``bytes`` bytes, that take ``cycles`` each; ``action`` is what they count as.

    Neurons behind them make ``updates`` updates a row; what they remember takes ``state_bytes``, ``state_lines`` lines
    from ``state_line`` on, where it waits for the next timestep.
    """

    maps: int
    height: int
    cycles: int
    values: int
    action: int
    updates: int
    state_line: int
    state_lines: int
    state_bytes: int
    first_feed: int
    end_feed: int
    turn: int
    module: int
    done: int
    line: int
    bytes: int
    tensor: int


class Operands(NamedTuple):
    """A table of rows for each kind of agent: of the types above and :class:`archsim.hardware.interconnect.noc.Hop`.

    Their entries name parts of the tables behind those. ``active`` int64 is what is active in every position of a part
    of a layer, packed.
    """

    hops: Any
    drivers: Any
    converters: Any
    adders: Any
    neurons: Any
    senders: Any
    storers: Any
    writers: Any
    digitals: Any
    feeds: Any
    parts: Any
    joins: Any
    ports: NDArray[np.int64]
    rows: NDArray[np.int64]
    active: NDArray[np.int64]


# --- Agents of a tile -------------------------------------------------------------------------------------------------


def driver(a: Agent, m: Any, x: Operands) -> Operations:
    """Wait for the rows of an output row, then drive position after position; free the rows that nobody needs.

    A position's inputs are fetched once and driven part after part.
    """
    own = x.drivers[a.me]
    position = own.plan
    for _ in range(own.maps):
        for row in range(own.height):
            yield from take_rows(a, x, own, row)
            for step in range(own.steps):
                fetching = own.row_cycles if step < own.row_steps else own.cycles
                a.count[FETCHES] += fetching
                yield op(compute=fetching)
                begin(a)
                for _plane in range(own.planes):
                    active = x.active[position]
                    a.count[READS] += (active & MASK) * own.copies
                    a.count[WINDOWS] += (active >> PE_SHIFT) * own.pe_copies
                    position += 1
                    yield op(pop=own.slot, compute=m.read_cycles if active > 0 else 0, push=own.driven)
            yield from free_rows(a, x, own, row)


def converter(a: Agent, m: Any, x: Operands) -> Operations:
    """The converters of a tile: their columns one after the other, for all arrays at once.

    What no row drives passes converters and drivers (in no time: *skipped bit*); it takes its slot, and is added.
    """
    own = x.converters[a.me]
    for position in range(own.plan, own.end):
        sets = x.active[position] >> SET_SHIFT & MASK
        a.count[CONVERSIONS] += sets * own.conversions
        yield op(
            pop=own.driven, compute=own.cycles if sets > 0 else 0, push=own.converted, value=x.active[position]
        )  # fmt: skip


def adder(a: Agent, m: Any, x: Operands) -> Operations:
    """Shift-add and H-tree of a tile, part after part of the inputs; sums of other tiles are added as they come."""
    own = x.adders[a.me]
    for _ in range(own.positions):
        for _plane in range(own.planes):
            yield op(pop=own.converted, compute=own.cycles, push=own.slot)
            a.count[TREE_WORDS] += (a.value >> PE_SHIFT) * own.outputs
        for part in range(own.first_part, own.end_part):
            a.count[TREE_WORDS] += own.outputs
            yield op(pop=x.parts[part].port, compute=1, push=x.parts[part].credit)
        yield op(pop=own.credit, push=own.sums, value=own.flits)


def writer(a: Agent, m: Any, x: Operands) -> Operations:
    """Write a matrix into the arrays of a tile, row after row of the arrays, when the last one has been read."""
    own = x.writers[a.me]
    for _ in range(own.maps):
        for row in range(own.rows):
            yield from take_rows(a, x, own, row)
            if row == 0:
                yield op(pop=own.free)
            a.count[CELL_WRITES] += own.cells
            yield op(compute=own.cycles, push=own.written if row + 1 == own.rows else NONE)
            yield from free_rows(a, x, own, row)


# --- Agents of a module -----------------------------------------------------------------------------------------------


def neuron(a: Agent, m: Any, x: Operands) -> Operations:
    """The neurons of one tile, in a module: wait for the module, read, update and write potentials, write outputs."""
    own = x.neurons[a.me]
    for map_ in range(own.maps):
        for row in range(own.height):
            for join in range(own.first_join, own.end_join):
                if map_ >= x.joins[join].late and x.rows[x.joins[join].need + row] > 0:
                    yield op(pop=x.joins[join].port, pops=x.rows[x.joins[join].need + row])
                    begin(a)
            for step in range(own.steps):
                fresh = map_ % own.shown == 0 and step % own.repeats == 0
                sums = own.sum_line + (row * own.steps + step) * own.sum_lines
                if fresh:
                    yield op(pop=own.sums)
                elif own.shown > 1:
                    move(a, m, sums, 0, own.sum_bytes, RESIDENT_READ, own.tensor + MEMBRANE)
                if own.stored and map_ % m.timesteps > 0:
                    move_potentials(a, m, own, row, step, RESIDENT_READ)
                update(a, m, own, step)
                yield op(pop=own.turn, compute=own.cycles)
                if own.stored and map_ % m.timesteps < m.timesteps - 1:
                    move_potentials(a, m, own, row, step, RESIDENT_WRITE)
                if fresh and own.shown > 1:
                    move(a, m, sums, 0, own.sum_bytes, RESIDENT_WRITE, own.tensor + MEMBRANE)
                line = own.out_line + step * own.out_lines
                move(a, m, line, 0, own.out_bytes, RESIDENT_WRITE, own.tensor + OUTPUT)
                yield op(push=own.module)
                if fresh:
                    yield op(push=own.room)
            yield op(push=own.done)


def digital(a: Agent, m: Any, x: Operands) -> Operations:
    """A digital unit of a module: when a row of everything that it reads is there, make one and write it."""
    own = x.digitals[a.me]
    for map_ in range(own.maps):
        for row in range(own.height):
            yield from take_rows(a, x, own, row)
            a.count[own.action] += own.values
            a.count[UPDATES] += own.updates
            line = own.state_line + row * own.state_lines
            if own.state_lines > 0 and map_ % m.timesteps > 0:
                yield from move_row(a, m, line, own.state_bytes, RESIDENT_READ, own.tensor + MEMBRANE)
            yield op(pop=own.turn, compute=own.cycles)
            if own.state_lines > 0 and map_ % m.timesteps < m.timesteps - 1:
                yield from move_row(a, m, line, own.state_bytes, RESIDENT_WRITE, own.tensor + MEMBRANE)
            yield from move_row(a, m, own.line, own.bytes, RESIDENT_WRITE, own.tensor + OUTPUT)
            yield op(push=own.module)
            yield from free_rows(a, x, own, row)
            yield op(push=own.done)


def sender(a: Agent, m: Any, x: Operands) -> Operations:
    """Wait until a row is complete, or fetch it from DRAM; send it to all tiles when each has room for it."""
    own = x.senders[a.me]
    for map_ in range(own.maps):
        for row in range(own.height):
            if map_ >= own.late:
                yield from wait_for_row(a, x, own, row)
            if own.from_dram:
                line = own.line + (map_ // own.shown * own.height + row) * own.lines
                yield from move_row(a, m, line, own.bytes, STREAM_READ, own.tensor)
                begin(a)
            yield from move_row(a, m, own.line, own.bytes, RESIDENT_READ, own.tensor)
            begin(a)
            a.count[BUFFER_WRITES] += own.tile_writes
            for credit in range(own.first_credit, own.end_credit):
                is_last = credit + 1 == own.end_credit
                yield op(pop=x.ports[credit], push=own.entry if is_last else NONE, value=own.flits)


def storer(a: Agent, m: Any, x: Operands) -> Operations:
    """Wait until a row is complete, then write it to DRAM."""
    own = x.storers[a.me]
    for map_ in range(own.maps):
        for row in range(own.height):
            yield from wait_for_row(a, x, own, row)
            line = own.line + (map_ * own.height + row) * own.lines
            yield from move_row(a, m, line, own.bytes, STREAM_WRITE, own.tensor)
            a.kept[ANSWERED] = a.now if map_ == 0 else a.kept[ANSWERED]


def hop(a: Agent, m: Any, x: Operands) -> Operations:
    """A flow at one link of the network: packet after packet crosses it."""
    own = x.hops[a.me]
    for _ in range(own.packets):
        yield from cross(a, m.config.noc.router_cycles, own, FLIT_HOPS)


# --- Parts of agents --------------------------------------------------------------------------------------------------


def take_rows(a: Agent, x: Operands, own: Any, row: int) -> Operations:
    """Wait for the rows of all feeds that output row ``row`` is the first to need."""
    for feed in range(own.first_feed, own.end_feed):
        if x.rows[x.feeds[feed].begin + row] > 0:
            yield op(pop=x.feeds[feed].port, pops=x.rows[x.feeds[feed].begin + row])


def free_rows(a: Agent, x: Operands, own: Any, row: int) -> Operations:
    """Give back the rows of all feeds that no row after ``row`` needs."""
    for feed in range(own.first_feed, own.end_feed):
        if x.rows[x.feeds[feed].finish + row] > 0:
            yield op(push=x.feeds[feed].credit, pushes=x.rows[x.feeds[feed].finish + row])


def wait_for_row(a: Agent, x: Operands, own: Any, row: int) -> Operations:
    """Wait until all groups have finished the rows that ``row`` takes more than the one before."""
    if x.rows[own.need + row] > 0:
        for done in range(own.first_done, own.end_done):
            yield op(pop=x.ports[done], pops=x.rows[own.need + row])
            begin(a)


def move_row(a: Agent, m: Any, line: int, size: int, mode: int, tensor: int) -> Operations:
    """Move ``size`` bytes from the beginning of ``line`` on, ``FETCHED_AT_ONCE`` lines at a time."""
    first = 0
    while first < size:
        end = min(size, first + FETCHED_AT_ONCE * m.memory.line_bytes)
        move(a, m, line, first, end, mode, tensor)
        yield op()
        first = end


def move(a: Agent, m: Any, line: int, first: int, end: int, mode: int, tensor: int) -> None:
    """Ask for bytes ``first`` to ``end`` from the beginning of ``line`` on."""
    a.lines(line, 1, first, end, m.memory.line_shift, m.memory.beat_shift, mode, tensor, 0)


def move_potentials(a: Agent, m: Any, own: Any, row: int, step: int, mode: int) -> None:
    """Ask for the potentials of a position."""
    move(a, m, own.line + (row * own.steps + step) * own.lines, 0, own.bytes, mode, own.tensor + MEMBRANE)


def update(a: Agent, m: Any, own: Any, step: int) -> None:
    """Ask for the sums of other layers, and count what is done with a position's sums."""
    if own.join_bytes > 0:
        line = own.out_line + step * own.out_lines
        move(a, m, line, 0, own.join_bytes, RESIDENT_READ, own.tensor + MEMBRANE)
        a.count[JOINED] += own.outputs * own.joins
    if own.fires:
        a.count[UPDATES] += own.outputs
    if own.scales:
        a.count[SCALED] += own.outputs


def begin(a: Agent) -> None:
    """Note when the first operation began."""
    if a.kept[BEGAN] == 0:
        a.kept[BEGAN] = a.start + 1
