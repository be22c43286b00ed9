"""What an agent tells the engine to do next: the micro-operation, and the machine it runs on.

An *agent* (a processing element, a fetcher, a neuron unit, ...) is a micro-program. Whenever its last operation has
ended, the engine calls ``step(agent, now, spec, state, operands, operation, counts)``, which fills one operation, an
int64 array with the fields below. The engine then carries it out in this order:

1. wait for ``POP_COUNT`` tokens at the reading end ``POP`` of a FIFO and take them; the value of the last one taken
   is left in ``VALUE``. A reading end that several agents share is arbitrated: the tokens go to the agent that has
   waited longest, the smallest number first among equals, and it goes on in the following cycle;
2. at that time, called the start and left in ``START``, begin to compute for ``COMPUTE`` cycles, after a pause of
   ``PAUSE`` cycles in which the agent's hardware waits for itself (it counts as a stall), *and* issue the memory
   requests, one per cycle through the agent's port: request i is ready at ``start + i``;
3. when the computation and all requests are done (the time a request took is left in its ``DONE`` field), push
   ``PUSH_COUNT`` tokens with the value ``VALUE_OUT`` into FIFO ``PUSH``, waiting for space. A FIFO into which several
   agents write is arbitrated: one of them per cycle, that which has waited longest, the smallest number first among
   equals; its tokens are in the FIFO, and it goes on, in the following cycle;
4. wait at barrier ``BARRIER`` until all its agents have arrived.

An operation with ``END`` set ends the agent at once. -1 means none. Every request is ``REQUEST_FIELDS`` numbers from
``HEADER`` on: see :data:`LINE` to :data:`DONE`. Fields that report (``START``, ``VALUE``, ``DONE``) stay readable in
the next call of ``step``; the engine clears the fields before ``START``.

An agent may read the operands and change *its own row* of ``state`` and ``counts`` only; agents talk through FIFOs and
barriers. This makes a machine a determinate network: what happens does not depend on the order in which the engine
visits agents within a cycle, except at arbitrated resources, where ``engine/ordering.py`` decides.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.jit import inlined

POP = 0
POP_COUNT = 1
COMPUTE = 2
PAUSE = 3
REQUESTS = 4
PUSH = 5
PUSH_COUNT = 6
VALUE_OUT = 7
BARRIER = 8
END = 9
START = 10
VALUE = 11
HEADER = 12

# Fields of a request.
LINE = 0
"""Address of the memory line (line number, not byte)."""
BEATS = 1
"""Accesses of the bank's width that the request makes: the cycles that it occupies the bank."""
BYTES = 2
"""Useful bytes of the request, for the traffic report; beats times width is what moves."""
MODE = 3
"""How the memory serves it: one of the modes below."""
TENSOR = 4
"""Row of the traffic table that the request is counted in."""
EPOCH = 5
"""Lines of an earlier epoch are dead and may be replaced (:mod:`archsim.hardware.memory.cache`)."""
DONE = 6
"""Written by the engine: the cycle in which the request was done."""
REQUEST_FIELDS = 7

# Modes of a request.
CACHED_READ = 0
"""Look the line up; on a miss fetch it from DRAM, fill it in, and deliver."""
RESIDENT_READ = 1
"""Read a bank where software keeps the data (a fiber of B that was streamed in): no tag is involved."""
STREAM_READ = 2
"""Fetch from DRAM and write into the bank, to be read later by RESIDENT_READ."""
STREAM_WRITE = 3
"""Write through a bank to DRAM; done when the channel has taken the line."""
PREFETCH = 4
"""As CACHED_READ, but only to have the line in the cache: nothing is delivered."""
RESIDENT_WRITE = 5
"""Write a bank where software keeps the data."""
CACHED_WRITE = 6
"""Write a whole line that lives in the cache; it goes to DRAM only if it is displaced."""
CONSUME = 7
"""As CACHED_READ, and nobody will read the line again."""

# Columns of the traffic table, one row per tensor.
SRAM_READS = 0
SRAM_READ_BYTES = 1
SRAM_WRITES = 2
SRAM_WRITE_BYTES = 3
HITS = 4
MISSES = 5
MERGED_MISSES = 6
DRAM_READ_LINES = 7
DRAM_WRITE_LINES = 8
BANK_WAIT_CYCLES = 9
"""Cycles that requests waited for their bank and the path to it."""
SWITCH_BEATS = 10
"""Beats that went through a crossbar switch."""
TRAFFIC_COLUMNS = 11


OWN_PATH = -1
"""Lane of an agent whose requests go through no switch."""

BUS = -2
"""Lane of the sender of the broadcast bus (:mod:`archsim.hardware.interconnect.broadcast`)."""

SHARED = 0
"""In place of a number of ports: one port that several agents share, each token for one of them.

In place of a number of writers: a writing end that several agents share."""


class Topology(NamedTuple):
    """Which agents, FIFOs and barriers there are. All arrays int64.

    ``request_slots`` [agents]: most requests that an operation of the agent can carry. ``lane`` [agents]: the
    agent's number at the crossbar switches, BUS if what it reads is broadcast, OWN_PATH if it shares nothing but
    the banks. A FIFO has one writer and one or more *ports* (reading ends), each of which sees every token; a slot
    is free when all ports have taken it. A port belongs to one agent, but for that of a FIFO with ``fifo_shared``
    1, which has one port for several agents. Several agents write into a FIFO with ``fifo_arbitrated`` 1, one of
    them a cycle; or into any that is a mere counter: all tokens of value 0, and it is never found full.
    ``fifo_capacity``, ``fifo_initial`` (tokens present at time 0, of value 0), ``fifo_first_port`` [FIFOs + 1], in
    tokens; ``barrier_members`` [barriers].
    """

    request_slots: NDArray[np.int64]
    lane: NDArray[np.int64]
    fifo_capacity: NDArray[np.int64]
    fifo_initial: NDArray[np.int64]
    fifo_first_port: NDArray[np.int64]
    fifo_shared: NDArray[np.int64]
    fifo_arbitrated: NDArray[np.int64]
    barrier_members: NDArray[np.int64]


def topology(
    request_slots: list[int],
    lane: list[int],
    fifos: list[tuple[int, int, int]],
    barrier_members: list[int],
    arbitrated: Collection[int] = (),
) -> Topology:
    """A topology from plain lists; a FIFO is (capacity, initial tokens, ports or SHARED), ``arbitrated`` are numbers of
    those into which several agents write."""
    return Topology(
        np.array(request_slots, np.int64),
        np.array(lane, np.int64),
        np.array([capacity for capacity, _, _ in fifos], np.int64),
        np.array([initial for _, initial, _ in fifos], np.int64),
        np.cumsum([0] + [max(1, ports) for _, _, ports in fifos]).astype(np.int64),
        np.array([ports == SHARED for _, _, ports in fifos], np.int64),
        np.array([fifo in arbitrated for fifo in range(len(fifos))], np.int64),
        np.array(barrier_members, np.int64),
    )


@inlined
def add_request(
    o: Any, agent: int, line: int, beats: int, useful_bytes: int, mode: int, tensor: int, epoch: int
) -> None:
    """Append a memory request to the agent's operation."""
    field = HEADER + o[agent, REQUESTS] * REQUEST_FIELDS
    o[agent, field + LINE] = line
    o[agent, field + BEATS] = beats
    o[agent, field + BYTES] = useful_bytes
    o[agent, field + MODE] = mode
    o[agent, field + TENSOR] = tensor
    o[agent, field + EPOCH] = epoch
    o[agent, REQUESTS] += 1


@inlined
def add_range(
    o: Any, agent: int, line: int, stride: int, first: int, end: int, line_shift: int, beat_shift: int, mode: int,
    tensor: int, epoch: int,
) -> int:  # fmt: skip
    """Append one request for every line that the bytes [first, end) of a fiber touch; returns how many.

    The fiber's byte 0 is the first of line ``line``, its following lines are ``stride`` apart. A line has
    ``1 << line_shift`` bytes, a beat ``1 << beat_shift``: divisions would cost more than the rest of the function.
    """
    index = first >> line_shift
    lines = 0
    while first < end:
        part = min(end, (index + 1) << line_shift) - first
        beats = (part + (1 << beat_shift) - 1) >> beat_shift
        add_request(o, agent, line + index * stride, beats, part, mode, tensor, epoch)
        first += part
        index += 1
        lines += 1
    return lines
