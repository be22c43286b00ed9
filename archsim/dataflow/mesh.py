"""A mesh of routers between cores: messages of one word, XY routing, finite buffers.

Every router has an input buffer for each neighbour (*link*), one for each of its cores, and one agent for each of them:

    a                    the message is the first of its buffer
    a + cycles - 1       it has been routed and asks for the next buffer: a link's, or a core's queue
    g >= that            it is granted: there is space, and of those that want the same buffer it has waited longest,
                         or has the smallest number among equals
    g + 1                it is in the next buffer, and its place in this one was given back at a

with ``cycles`` those of a row's link (east, west), of a column's (north, south) or of the way out to a core. A buffer
takes one message per cycle at most. With nothing in the way a message over h row links and v column links is in its
core's queue

    h row_cycles + v column_cycles + out_cycles    cycles

behind its injection. It goes along the row first, so the network cannot deadlock as long as cores take what comes. The
host's ports write into the west links of the first column, which no router drives.

A message is an int: step << 48 | axon << 24 | core of the router << 16 | row << 8 | column, of the step the last 15
bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.hardware.agent import Agent, Operations, op
from archsim.hardware.diagram import Diagram
from archsim.hardware.loading import Block
from archsim.hardware.operation import SHARED

STEP_SHIFT, AXON_SHIFT, CORE_SHIFT, ROW_SHIFT = 48, 16, 12, 6
STEP_MASK, AXON_MASK, CORE_MASK, PLACE_MASK = (1 << 15) - 1, (1 << 32) - 1, 15, 63
"""A message: step, axon, core of a router, row, column. No memory holds more axons than there are numbers for."""
WEST, EAST, NORTH, SOUTH = range(4)
SIDES = ("west", "east", "north", "south")
"""Links by where they come from."""
ROW_HOPS, COLUMN_HOPS, DELIVERED = range(3)
"""What routers count."""


MOST_ROUTERS, MOST_CORES_OF_ROUTER = PLACE_MASK + 1, CORE_MASK + 1
"""Of a row or a column, and of a router."""


class CoreMeshConfig(Block):
    """The mesh of routers."""

    rows: int = Field(ge=1, le=MOST_ROUTERS, description="rows of routers")
    columns: int = Field(ge=1, le=MOST_ROUTERS, description="columns of routers")
    cores: int = Field(ge=1, le=MOST_CORES_OF_ROUTER, description="cores of a router")
    signed: bool = Field(description="whether a message has a bit for the sign of its spike")
    buffer: int = Field(ge=1, le=4096, description="messages that the input buffer of a link or a core holds")
    row_cycles: int = Field(ge=1, le=4096, description="cycles of a message to the next router of a row")
    column_cycles: int = Field(ge=1, le=4096, description="cycles of a message to the next router of a column")
    out_cycles: int = Field(ge=1, le=4096, description="cycles of a message from its last router to the core")

    def place(self, core: int) -> tuple[int, int]:
        """Row and column of a core's router."""
        row, column = divmod(core // self.cores, self.columns)
        return row, column

    def address(self, core: int) -> int:
        """A message without its axon."""
        row, column = self.place(core)
        return core % self.cores << CORE_SHIFT | row << ROW_SHIFT | column


class Port(NamedTuple):
    """An input of a router: ``messages`` come in at the port ``arrival``; FIFOs where they go on to.

    ``out`` is the queue of the router's first core.
    """

    messages: int
    arrival: int
    row: int
    column: int
    west: int
    east: int
    north: int
    south: int
    out: int


def router(a: Agent, m: Any, x: Any) -> Operations:
    """Every message of an input: to its column, then to its row, then to its core."""
    own = x.ports[a.me]
    for _message in range(own.messages):
        yield op(pop=own.arrival)
        column, row = a.value & PLACE_MASK, a.value >> ROW_SHIFT & PLACE_MASK
        if column != own.column:
            a.count[ROW_HOPS] += 1
            target = own.east if column > own.column else own.west
            yield op(compute=m.config.noc.row_cycles - 1, push=target, value=a.value)
        elif row != own.row:
            a.count[COLUMN_HOPS] += 1
            target = own.south if row > own.row else own.north
            yield op(compute=m.config.noc.column_cycles - 1, push=target, value=a.value)
        else:
            a.count[DELIVERED] += 1
            target = own.out + (a.value >> CORE_SHIFT & CORE_MASK)
            yield op(compute=m.config.noc.out_cycles - 1, push=target, value=a.value)


class Mesh:
    """The mesh drawn into a diagram, for messages ``sent`` int64 [cores + host ports, cores] in all."""

    def __init__(self, config: CoreMeshConfig, diagram: Diagram, queue: int, sent: NDArray[np.int64]) -> None:
        self.config = config
        nodes, cores = config.rows * config.columns, config.rows * config.columns * config.cores
        self.links = diagram.fifo(config.buffer, writers=SHARED, count=4 * nodes)
        self.injected = diagram.fifo(config.buffer, count=cores)
        self.arrived = diagram.fifo(queue, writers=SHARED, count=cores)
        self.over_links, self.hops = flows(config, sent)

    def entry(self, sender: int) -> int:
        """The FIFO that a core writes, or, behind the cores, a port of the host."""
        cores = self.config.rows * self.config.columns * self.config.cores
        if sender < cores:
            return self.injected.fifo + sender
        return self.links.fifo + 4 * (sender - cores) * self.config.columns + WEST

    def ports(self, sent: NDArray[np.int64]) -> list[Port]:
        """Inputs of routers through which messages come; routers in order, links before cores."""
        config, found = self.config, []
        for node in range(config.rows * config.columns):
            row, column = divmod(node, config.columns)
            out = self.arrived.fifo + node * config.cores
            # To the east a message comes from the west.
            onward = (
                self._link(row, column - 1, EAST), self._link(row, column + 1, WEST),
                self._link(row - 1, column, SOUTH), self._link(row + 1, column, NORTH),
            )  # fmt: skip
            for side in range(4):
                place = 4 * node + side
                found.append(Port(int(self.over_links[place]), self.links.port + place, row, column, *onward, out))
            for core in range(node * config.cores, (node + 1) * config.cores):
                found.append(Port(int(sent[core].sum()), self.injected.port + core, row, column, *onward, out))
        return [port for port in found if port.messages]

    def _link(self, row: int, column: int, side: int) -> int:
        """The FIFO of a router's link; any number where there is no such router, since no message goes there."""
        return self.links.fifo + 4 * (row * self.config.columns + column) + side


def flows(config: CoreMeshConfig, sent: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many messages go over each link, [4 nodes], and how many row and column links each pair's messages take,
    [cores + ports, cores, 2], when ``sent`` messages go from each to each."""
    cores = config.rows * config.columns * config.cores
    senders, targets = np.nonzero(sent)
    amount = sent[senders, targets]
    from_host = senders >= cores
    nodes = np.where(from_host, (senders - cores) * config.columns, senders // config.cores)
    row, column = nodes // config.columns, nodes % config.columns
    goal_row, goal_column = targets // config.cores // config.columns, targets // config.cores % config.columns
    hops = np.zeros((*sent.shape, 2), np.int64)
    hops[senders, targets] = np.stack([np.abs(goal_column - column), np.abs(goal_row - row)], 1)
    over = np.zeros(4 * config.rows * config.columns, np.int64)
    np.add.at(over, 4 * nodes[from_host] + WEST, amount[from_host])
    for _ in range(config.rows + config.columns):
        along = column != goal_column
        across = ~along & (row != goal_row)
        if not (along | across).any():
            break
        step, down = np.sign(goal_column - column) * along, np.sign(goal_row - row) * across
        column, row = column + step, row + down
        side = np.where(along, np.where(step > 0, WEST, EAST), np.where(down > 0, NORTH, SOUTH))
        moved = along | across
        np.add.at(over, (4 * (row * config.columns + column) + side)[moved], amount[moved])
    return over, hops
