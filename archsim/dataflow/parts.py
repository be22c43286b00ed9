"""Parts that agents of several dataflows share; an agent says ``yield from part(a, m, ...)``.

Each says how long it takes with a memory that needs L cycles for a line, whatever others do, and an agent that issues
one request per cycle. ``tests/engines/test_parts.py`` holds both engines to these equations.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from archsim.hardware.agent import NONE, Agent, Operations, op
from archsim.hardware.diagram import Diagram, Fifo
from archsim.hardware.memory.placement import Tensor
from archsim.hardware.operation import PREFETCH, STREAM_READ, STREAM_WRITE


def stream(
    a: Agent, m: Any, tensor: Tensor, fiber: int, first: int, end: int, mode: int, epoch: int, most: int
) -> Operations:  # fmt: skip
    """Ask for the lines of bytes ``first`` to ``end`` of a fiber; an operation that has ``most`` requests goes off.

    What is asked for last waits for the agent's next operation, so that several fibers share one. An operation ends
    with its last line: one of b lines takes b - 1 + L cycles, and the next begins behind it.
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
    """As :func:`stream`, but whole lines of the fiber, as they come from DRAM; in mode PREFETCH into the cache only."""
    first = first >> m.memory.line_shift << m.memory.line_shift
    end = min(tensor.size[fiber], (end + m.memory.line_bytes - 1) >> m.memory.line_shift << m.memory.line_shift)
    yield from stream(a, m, tensor, fiber, first, end, mode, epoch, most)


def store(a: Agent, m: Any, tensor: Tensor, fiber: int) -> Operations:
    """Write a whole fiber to DRAM, ``m.memory.burst`` lines at a time; done when the channel has the last of them.

    n lines take the sum over bursts of b lines of b - 1 + L cycles.
    """
    yield from stream(a, m, tensor, fiber, 0, tensor.size[fiber], STREAM_WRITE, 0, m.memory.burst)
    yield op()


def take(a: Agent, m: Any, taken: Tensor, fiber: int) -> Operations:
    """Read the state that neurons of a fiber go on with, where there is one; done when its last line is there."""
    if taken.size[fiber] > 0:
        yield from stream(a, m, taken, fiber, 0, taken.size[fiber], STREAM_READ, 0, m.memory.burst)
        yield op()


def in_flight(
    a: Agent, m: Any, tensor: Tensor, fiber: int, first: int, end: int, mode: int, epoch: int, turn: int
) -> Operations:  # fmt: skip
    """A DMA brings the lines of bytes ``first`` to ``end`` of a fiber, whole ones as :func:`fetch` does.

    Its ``m.memory.lanes`` agents take shares of ``m.memory.share`` lines in turn, from lane ``turn`` on, and ask for
    the next share when the one before is there. So lanes times share lines are in flight, and n lines, a multiple of
    that product, take n / (lanes share) (share - 1 + L) cycles.
    """
    shift, share = m.memory.line_shift, m.memory.share << m.memory.line_shift
    begin = (first >> shift << shift) + (a.me - turn) % m.memory.lanes * share
    while begin < end:
        yield from fetch(a, m, tensor, fiber, begin, min(end, begin + share), mode, epoch, m.memory.share)
        yield op()
        begin += m.memory.lanes * share


def turns(a: Agent, m: Any, first: int, end: int) -> int:
    """Shares of a DMA that bytes ``first`` to ``end`` of a fiber are."""
    lines = ((end + m.memory.line_bytes - 1) >> m.memory.line_shift) - (first >> m.memory.line_shift)
    return int((max(0, lines) + m.memory.share - 1) // m.memory.share)


def neuron_rows(
    a: Agent, m: Any, output: Tensor, fiber: int, finished: int, rows: int, pause: int, cycles: int, room: int
) -> Operations:  # fmt: skip
    """Take ``rows`` finished rows of sums, fire their neurons, write the fiber of their spikes, and give the room back.

    Begins when the last of the rows has come from the port ``finished``; then takes ``pause`` cycles until the sums are
    there, ``cycles`` to fire, and as long as :func:`store`. ``room`` is the FIFO of those who wait for room, or NONE.
    """
    yield op(pop=finished, pops=rows, pause=pause, compute=cycles)
    yield from store(a, m, output, fiber)
    if room != NONE:
        yield op(push=room)


class PingPong(NamedTuple):
    """Two buffers that ``receivers`` agents share: one is filled while they use the other.

    Where a filling takes F cycles and the slowest receiver U, they go on every max(F, U) cycles.

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
