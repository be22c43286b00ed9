"""Parts that agents of several dataflows share; an agent says ``yield from part(a, m, ...)``.

Lines that are moved come from :func:`stream`, which asks for at most ``most`` of them in an operation. With a memory
that takes L cycles for a line, whatever others do, and an agent that issues one request per cycle, n lines take

    stream, store, fetch:   per operation of b lines  b - 1 + L,  one operation after the other
    in_flight:              ceil(n / lanes) L,  with ``lanes`` agents that have a line on its way each

A PingPong is two buffers that take turns: one is filled while its receivers use the other. So where a filling takes F
cycles and each receiver U, the receivers go on every max(F, U) cycles.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from archsim.hardware.agent import Agent, Operations, op
from archsim.hardware.diagram import Diagram, Fifo
from archsim.hardware.memory.placement import Tensor
from archsim.hardware.operation import PREFETCH, STREAM_WRITE


def stream(
    a: Agent, m: Any, tensor: Tensor, fiber: int, first: int, end: int, mode: int, epoch: int, most: int
) -> Operations:  # fmt: skip
    """Ask for the lines of bytes ``first`` to ``end`` of a fiber; an operation that has ``most`` requests goes off.

    What is asked for last waits for the agent's next operation, so that several fibers share one. An operation ends
    with its last line.
    """
    while first < end:
        if a.requests() == most:
            yield op()
        first = ask(a, m, tensor, fiber, first, end, mode, epoch, most)


def ask(
    a: Agent, m: Any, tensor: Tensor, fiber: int, first: int, end: int, mode: int, epoch: int, most: int
) -> int:  # fmt: skip
    """Ask for bytes ``first`` to ``end`` of a fiber until the operation has ``most`` requests; returns the next byte.

    A line that is only brought into the cache takes one beat of its bank, to look it up.
    """
    stop = min(end, ((first >> m.memory.line_shift) + most - a.requests()) << m.memory.line_shift)
    beat = m.memory.line_shift if mode == PREFETCH else m.memory.beat_shift
    line, stride = tensor.line[fiber], tensor.stride
    a.lines(line, stride, first, stop, m.memory.line_shift, beat, mode, tensor.row, epoch)
    return int(stop)


def fetch(
    a: Agent, m: Any, tensor: Tensor, fiber: int, first: int, end: int, mode: int, epoch: int, most: int
) -> Operations:  # fmt: skip
    """As :func:`stream`, but whole lines of the fiber, as they come from DRAM."""
    first = first >> m.memory.line_shift << m.memory.line_shift
    end = min(tensor.size[fiber], (end + m.memory.line_bytes - 1) >> m.memory.line_shift << m.memory.line_shift)
    yield from stream(a, m, tensor, fiber, first, end, mode, epoch, most)


def store(a: Agent, m: Any, tensor: Tensor, fiber: int) -> Operations:
    """Write a whole fiber to DRAM, ``m.memory.burst`` lines at a time; done when the channel has the last of them."""
    yield from stream(a, m, tensor, fiber, 0, tensor.size[fiber], STREAM_WRITE, 0, m.memory.burst)
    yield op()


def in_flight(a: Agent, m: Any, tensor: Tensor, fiber: int, mode: int, epoch: int, lanes: int) -> Operations:
    """A DMA of ``lanes`` agents moves a fiber: each has every ``lanes``-th line, and asks for one when the one before
    is there."""
    first = a.me * m.memory.line_bytes
    while first < tensor.size[fiber]:
        yield from fetch(a, m, tensor, fiber, first, first + 1, mode, epoch, 1)
        yield op()
        first += lanes * m.memory.line_bytes


class PingPong(NamedTuple):
    """Two buffers that ``receivers`` agents share.

    A token of ``filled`` says that one is filled. One of ``held`` stands for a buffer from before it is filled until
    all receivers have taken the token, each when it is through.

    Of several equal pairs these are the FIFOs of the first.
    """

    filled: Fifo
    held: Fifo
    receivers: int


def ping_pong(diagram: Diagram, receivers: int = 1, count: int = 1) -> PingPong:
    """``count`` pairs of buffers, empty, for ``receivers`` each."""
    filled = diagram.fifo(2, readers=receivers, count=count)
    return PingPong(filled, diagram.fifo(2, readers=receivers, count=count), receivers)


def broadcast(
    a: Agent, m: Any, tensor: Tensor, fiber: int, first: int, end: int, epoch: int, buffers: PingPong, pair: int,
    counter: int,
) -> Operations:  # fmt: skip
    """Read bytes of a fiber through the cache into a buffer of a pair that all receivers have left, then tell them.

    What goes over the bus to them, in beats, is added to ``a.count[counter]``.
    """
    yield op(push=buffers.held.fifo + pair)
    a.read(m.memory, tensor, fiber, first, end, epoch)
    a.count[counter] += a.beats()
    yield op(push=buffers.filled.fifo + pair)


def port_of(a: Agent, fifos: Fifo, readers: int, number: int, reader: int) -> int:
    """The reading end of reader ``reader`` of FIFO ``number``, of several that have ``readers`` each."""
    return int(fifos.port + number * readers + reader)
