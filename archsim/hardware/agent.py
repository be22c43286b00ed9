"""An agent: a processing element, a fetcher, a neuron unit, written as the loop nest that it is.

An agent is a generator function of a handle ``a``, the machine's integers ``m`` and its operands ``x``::

    def drain(a: Agent, m: Any, x: Operands) -> Operations:
        for fiber in range(m.fibers):
            a.count[DRAINED] += x.spikes[fiber]
            yield op(pop=m.finished, compute=x.spikes[fiber])

``yield op(...)`` is one micro-operation; memory requests are calls of the handle before it. The reference engine runs
the generator; the compiled engine its lowering (:mod:`archsim.engine.lowering`, which says what an agent may say).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.hardware import operation
from archsim.hardware.memory.placement import LineSpec, Tensor
from archsim.hardware.operation import (
    BEATS,
    CACHED_READ,
    DONE,
    HEADER,
    REQUEST_FIELDS,
    REQUESTS,
    START,
    STREAM_WRITE,
    VALUE,
    add_range,
    add_request,
)
from archsim.jit import inlined, plain

NONE = -1
"""In place of a FIFO's port, a FIFO or a barrier: none."""


class Operation(NamedTuple):
    """What an agent does next; :mod:`archsim.hardware.operation` says in which order.

    ``pops`` tokens from the reading end ``pop``, ``compute`` cycles after ``pause`` cycles, ``pushes`` tokens of
    ``value`` into the FIFO ``push``, then the ``barrier``.
    """

    pop: int
    pops: int
    compute: int
    pause: int
    push: int
    pushes: int
    value: int
    barrier: int


FIELDS: Mapping[str, int] = {
    "pop": operation.POP, "pops": operation.POP_COUNT, "compute": operation.COMPUTE, "pause": operation.PAUSE,
    "push": operation.PUSH, "pushes": operation.PUSH_COUNT, "value": operation.VALUE_OUT, "barrier": operation.BARRIER,
}  # fmt: skip
"""The field of an operation that each word of :func:`op` fills in."""


def op(
    *, pop: int = NONE, pops: int = 1, compute: int = 0, pause: int = 0, push: int = NONE, pushes: int = 1,
    value: int = 0, barrier: int = NONE,
) -> Operation:  # fmt: skip
    """One micro-operation; one token is popped or pushed where nothing else is said."""
    return Operation(pop, pops, compute, pause, push, pushes, value, barrier)


Operations = Generator[Operation, None, None]
"""What an agent's function returns."""


@inlined
def beats(o: Any, agent: int) -> int:
    """Beats of all requests of the operation so far."""
    total = 0
    for place in range(o[agent, REQUESTS]):
        total += o[agent, HEADER + place * REQUEST_FIELDS + BEATS]
    return total


@inlined
def requests(o: Any, agent: int) -> int:
    """How many requests the operation has so far."""
    number: int = o[agent, REQUESTS]
    return number


@inlined
def read(o: Any, agent: int, memory: Any, tensor: Any, fiber: int, first: int, end: int, epoch: int) -> int:
    """Ask for the lines of bytes ``first`` to ``end`` of a fiber, through the cache; returns how many."""
    return add_range(
        o, agent, tensor.line[fiber], tensor.stride, first, end, memory.line_shift, memory.beat_shift, CACHED_READ,
        tensor.row, epoch,
    )  # fmt: skip


@inlined
def access(
    o: Any, agent: int, memory: Any, tensor: Any, fiber: int, first: int, end: int, mode: int, epoch: int
) -> int:
    """Ask for the lines of bytes ``first`` to ``end`` of a fiber in ``mode``; returns how many."""
    return add_range(
        o, agent, tensor.line[fiber], tensor.stride, first, end, memory.line_shift, memory.beat_shift, mode,
        tensor.row, epoch,
    )  # fmt: skip


@inlined
def write(o: Any, agent: int, memory: Any, tensor: Any, fiber: int, first: int, end: int) -> int:
    """Ask for bytes ``first`` to ``end`` of a fiber to be written to DRAM; returns how many lines."""
    return add_range(
        o, agent, tensor.line[fiber], tensor.stride, first, end, memory.line_shift, memory.beat_shift, STREAM_WRITE,
        tensor.row, 0,
    )  # fmt: skip


@inlined
def done(o: Any, agent: int, first: int, end: int) -> int:
    """The cycle in which the last of requests ``first`` to ``end`` of the operation was done; 0 for none."""
    latest = 0
    for place in range(first, end):
        latest = max(latest, o[agent, HEADER + place * REQUEST_FIELDS + DONE])
    return latest


CALLS: Mapping[str, Callable[..., Any]] = {
    "request": add_request, "lines": add_range, "read": read, "access": access, "write": write,
    "beats": beats, "requests": requests, "done": done,
}  # fmt: skip
"""What a handle can be asked to do; a kernel gets the operations and the agent's number first."""


class Agent:
    """The handle of agent ``number``, the ``me``-th of its kind, as the reference engine gives it.

    ``count`` is the agent's row of counters, ``kept`` its row of numbers that outlive a ``yield``.
    """

    def __init__(
        self, number: int, me: int, o: NDArray[np.int64], count: NDArray[np.int64], kept: NDArray[np.int64]
    ) -> None:
        self.number = number
        self.me = me
        self.now = 0
        self.count = count
        self.kept = kept
        self._o = o

    @property
    def value(self) -> int:
        """Value of the last token that was popped."""
        return int(self._o[self.number, VALUE])

    @property
    def start(self) -> int:
        """Cycle in which the last operation began, behind its pop."""
        return int(self._o[self.number, START])

    def request(self, line: int, beats: int, useful_bytes: int, mode: int, tensor: int, epoch: int) -> None:
        """Ask for one line of memory in the next operation."""
        plain(add_request)(self._o, self.number, line, beats, useful_bytes, mode, tensor, epoch)

    def lines(self, *given: int) -> int:
        """Ask for every line that a range of bytes touches; arguments and result of ``add_range``."""
        return int(plain(add_range)(self._o, self.number, *given))

    def read(self, memory: LineSpec, tensor: Tensor, fiber: int, first: int, end: int, epoch: int) -> int:
        """Ask for the lines of bytes ``first`` to ``end`` of a fiber, through the cache; returns how many."""
        return int(plain(read)(self._o, self.number, memory, tensor, fiber, first, end, epoch))

    def access(self, memory: LineSpec, tensor: Tensor, fiber: int, first: int, end: int, mode: int, epoch: int) -> int:
        """Ask for the lines of bytes ``first`` to ``end`` of a fiber in ``mode``, one of
        :mod:`archsim.hardware.operation`; returns how many."""
        return int(plain(access)(self._o, self.number, memory, tensor, fiber, first, end, mode, epoch))

    def write(self, memory: LineSpec, tensor: Tensor, fiber: int, first: int, end: int) -> int:
        """Ask for bytes ``first`` to ``end`` of a fiber to be written to DRAM; returns how many lines."""
        return int(plain(write)(self._o, self.number, memory, tensor, fiber, first, end))

    def beats(self) -> int:
        """Beats of all requests of the next operation so far."""
        found: int = plain(beats)(self._o, self.number)
        return found

    def requests(self) -> int:
        """How many requests the next operation has so far."""
        return int(plain(requests)(self._o, self.number))

    def done(self, first: int, end: int) -> int:
        """The cycle in which the last of requests ``first`` to ``end`` of the last operation was done; 0 for none.

        To be asked before the next operation has requests.
        """
        return int(plain(done)(self._o, self.number, first, end))


class Coroutines:
    """The step of the reference engine: the generators themselves, one for every agent.

    ``kinds`` are (how many, function) in the order of the agents' numbers, where a function may come several times;
    ``kept`` is the first column of ``state`` that holds an agent's kept numbers.
    """

    def __init__(self, kinds: Sequence[tuple[int, Callable[..., Operations]]], kept: int) -> None:
        self._kinds: list[tuple[Callable[..., Operations], int]] = []
        known = Counter[Callable[..., Operations]]()
        for count, function in kinds:
            first = known[function]
            self._kinds += [(function, me) for me in range(first, first + count)]
            known[function] += count
        self._kept = kept
        self._running: dict[int, tuple[Agent, Operations]] = {}

    def __call__(
        self, number: int, now: int, m: Any, state: NDArray[np.int64], x: Any, o: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> None:  # fmt: skip
        """Fill in the next operation of agent ``number``."""
        if number not in self._running:
            function, me = self._kinds[number]
            agent = Agent(number, me, o, counts[number], state[number, self._kept :])
            given = (agent, m, x)[: function.__code__.co_argcount]
            self._running[number] = agent, function(*given)
        agent, running = self._running[number]
        agent.now = now
        following = next(running, None)
        if following is None:
            o[number, operation.END] = 1
            return
        o[number, list(FIELDS.values())] = following
