"""Random machines for the differential test: pipelines of agents that share banks, MSHRs, channels, FIFOs, barriers.

An agent's program is a table of operations; nothing else of archsim's accelerators is involved. Stages of a pipeline
are joined by broadcast FIFOs (one writer, every agent of the next stage reads), lane FIFOs (agent i to agent i), a FIFO
that the next stage shares, or one into which all of a stage write, and some have a barrier. In some machines one more
agent counts what the last stage has done. Capacities are at least what one operation moves, so no machine deadlocks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.engine.lowering import loop_of, lower
from archsim.hardware import operation
from archsim.hardware.agent import Coroutines, op
from archsim.hardware.interconnect.crossbar_switch import SwitchSpec
from archsim.hardware.memory.cache import CacheSpec, shift_of
from archsim.hardware.memory.dram import DramSpec
from archsim.hardware.memory.system import MemorySpec

MODES = [
    operation.CACHED_READ, operation.CACHED_READ, operation.PREFETCH, operation.RESIDENT_READ, operation.STREAM_READ,
    operation.STREAM_WRITE, operation.RESIDENT_WRITE, operation.CACHED_WRITE, operation.CACHED_WRITE, operation.CONSUME,
]  # fmt: skip
COUNTS = -1
"""In place of a value: the token is one of a counter with several writers."""


class Program(NamedTuple):
    table: np.ndarray
    length: np.ndarray


class Agents(NamedTuple):
    play: int


class Machine(NamedTuple):
    agents: Agents


def play(a, m, x):
    """Play the agent's table; data-dependent: the value popped changes the next line read."""
    for position in range(x.length[a.me]):
        a.count[0] += a.value % 97
        a.count[1] += a.now % 13
        for request in range(x.table[a.me, position, operation.REQUESTS]):
            field = operation.HEADER + request * operation.REQUEST_FIELDS
            a.request(
                x.table[a.me, position, field + operation.LINE] + a.value % 3,
                x.table[a.me, position, field + operation.BEATS],
                x.table[a.me, position, field + operation.BYTES],
                x.table[a.me, position, field + operation.MODE],
                x.table[a.me, position, field + operation.TENSOR],
                x.table[a.me, position, field + operation.EPOCH],
            )
        value = x.table[a.me, position, operation.VALUE_OUT]
        yield op(
            pop=x.table[a.me, position, operation.POP], pops=x.table[a.me, position, operation.POP_COUNT],
            compute=x.table[a.me, position, operation.COMPUTE], pause=x.table[a.me, position, operation.PAUSE],
            push=x.table[a.me, position, operation.PUSH], pushes=x.table[a.me, position, operation.PUSH_COUNT],
            value=0 if value == COUNTS else value + a.now % 7, barrier=x.table[a.me, position, operation.BARRIER],
        )  # fmt: skip
    a.count[0] += a.value % 97
    a.count[1] += a.now % 13


LOWERED = lower([play])
LOOP = loop_of([play], __name__)


def agents_for(engine, m):
    """What an engine asks for the agents' operations: the generators, or the loop that their lowering is part of."""
    return LOOP if engine == "compiled" else Coroutines([(m.agents.play, play)], LOWERED.kept)


def random_machine(seed: int):
    """(spec, operands, topology, memory spec, agents)."""
    draw = np.random.default_rng(seed)
    integer = lambda low, high: int(draw.integers(low, high + 1))  # noqa: E731
    window_banks, sets = integer(1, 5), integer(1, 3)
    windows = 3 if seed % 8 == 5 else 1  # of 16 lines each
    banks = windows * window_banks
    cache = CacheSpec(
        banks=banks, bank_shift=shift_of(banks), sets=sets, set_shift=shift_of(sets), ways=integer(1, 3),
        fill_beats=integer(1, 4), beat_bytes=16, access_cycles=integer(1, 4), conflicts=int(seed % 9 != 4),
        mshrs=integer(1, 4), keeps_live=integer(0, 1), window_shift=4 if windows > 1 else 0, window_banks=window_banks,
    )  # fmt: skip
    dram = DramSpec(
        channels=integer(1, 3), units_per_cycle=integer(1, 7), units_per_line=integer(1, 40),
        row_hit_cycles=integer(1, 30), row_miss_cycles=integer(30, 2500 if seed % 10 == 0 else 60),
        lines_per_row=integer(1, 8), banks=integer(1, 3), interleave_lines=integer(1, 3),
        refresh_interval_cycles=integer(50, 200), refresh_cycles=integer(0, 1) * integer(1, 40),
    )  # fmt: skip
    switch = lambda inputs, outputs: SwitchSpec(inputs, outputs, int(outputs < banks))  # noqa: E731
    memory = MemorySpec(
        ideal=int(seed % 7 == 3), read_switch=switch(integer(1, 4), integer(1, 4)),
        write_switch=switch(integer(1, 3), integer(1, 3)),
        read_cycles=integer(1, 5), own_read_cycles=integer(1, 5), write_cycles=integer(1, 3), cache=cache, dram=dram,
    )  # fmt: skip
    stages = [integer(1, 5) for _ in range(integer(1, 4))]
    watched = draw.random() < 0.3
    agents, slots = sum(stages) + watched, integer(1, 4)
    tokens = integer(1, 12)
    fifos, barriers, arbitrated = [], [], []
    base = np.cumsum([0, *stages])
    steps = tokens
    table = np.zeros((agents, steps, operation.HEADER + slots * operation.REQUEST_FIELDS), np.int64)
    table[:, :, [operation.POP, operation.PUSH, operation.BARRIER]] = -1
    ports = 0
    for stage, width in enumerate(stages):
        members = range(base[stage], base[stage + 1])
        if draw.random() < 0.4:
            for agent in members:
                table[agent, :, operation.BARRIER] = len(barriers)
            barriers.append(width)
        if stage + 1 == len(stages):
            if watched:
                table[members, :, operation.PUSH] = len(fifos)
                table[members, :, operation.PUSH_COUNT] = 1
                table[members, :, operation.VALUE_OUT] = COUNTS
                table[agents - 1, :, operation.POP] = ports
                table[agents - 1, :, operation.POP_COUNT] = width
                fifos.append((width * steps, 0, 1))
            continue
        following = range(base[stage + 1], base[stage + 2])
        per_push = integer(1, 3)
        if draw.random() < 0.3:
            # All agents write; each reader sees all that they do in a step, or the readers share it evenly.
            shared = draw.random() < 0.5
            readers = [following[0]] if shared and draw.random() < 0.5 else following
            arbitrated.append(len(fifos))
            table[members, :, operation.PUSH] = len(fifos)
            table[members, :, operation.PUSH_COUNT] = per_push
            table[members, :, operation.VALUE_OUT] = draw.integers(0, 50, (width, steps))
            total = width * per_push
            for place, reader in enumerate(readers):
                count = total if not shared else (place + 1) * total // len(readers) - place * total // len(readers)
                table[reader, :, operation.POP] = ports + (0 if shared else place) if count else -1
                table[reader, :, operation.POP_COUNT] = count
            ports += 1 if shared else len(readers)
            fifos.append((integer(total, 3 * total), 0, operation.SHARED if shared else len(readers)))
            continue
        # Agent i of the next stage reads what agent i mod width of this one writes.
        for lane, agent in enumerate(members):
            readers = [reader for j, reader in enumerate(following) if j % width == lane]
            if not readers:
                continue
            initial = integer(0, 1) * per_push
            # Only where nobody else writes: readers that run ahead then hold up nothing but the writer.
            shared = width == 1 and draw.random() < 0.7
            capacity = per_push * integer(1 + shared, 3) + initial
            fifos.append((capacity, initial, operation.SHARED if shared else len(readers)))
            table[agent, :, operation.PUSH] = len(fifos) - 1
            table[agent, :, operation.PUSH_COUNT] = per_push
            table[agent, :, operation.VALUE_OUT] = draw.integers(0, 50, steps)
            if shared:
                # In every round the readers take what the writer has pushed, one of them or two.
                for step in range(steps):
                    first, second = draw.choice(readers, 2)
                    parts = (1, per_push - 1) if first != second and per_push > 1 else (per_push,)
                    for reader, part in zip((first, second), parts, strict=False):
                        table[reader, step, operation.POP] = ports
                        table[reader, step, operation.POP_COUNT] = part
                ports += 1
                readers = []
            for reader in readers:
                table[reader, :, operation.POP] = ports
                table[reader, :, operation.POP_COUNT] = per_push
                ports += 1
            # What was there at the start is not read to the end, so the writer must not need that space.
            table[agent, steps - initial // per_push :, operation.PUSH] = -1
    table[:, :, operation.COMPUTE] = draw.integers(0, 9, (agents, steps)) * (draw.random((agents, steps)) < 0.7)
    table[:, :, operation.PAUSE] = draw.integers(0, 5, (agents, steps)) * (draw.random((agents, steps)) < 0.2)
    lines = integer(4, 40)
    for agent in range(agents):
        for step in range(steps):
            requests = integer(0, slots)
            table[agent, step, operation.REQUESTS] = requests
            for request in range(requests):
                fields = table[agent, step, operation.HEADER + request * operation.REQUEST_FIELDS :]
                fields[operation.LINE] = integer(0, lines)
                fields[operation.BEATS] = integer(1, 4)
                fields[operation.BYTES] = integer(1, 64)
                fields[operation.MODE] = draw.choice(MODES)
                fields[operation.TENSOR] = integer(0, 1)
                fields[operation.EPOCH] = step // 4
    lanes = [integer(-2, 5) for _ in range(agents)]
    topology = operation.topology([slots] * agents, lanes, fifos, barriers, arbitrated)
    return Machine(Agents(agents)), Program(table, np.full(agents, steps, np.int64)), topology, memory, agents
