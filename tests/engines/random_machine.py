"""Random machines for the differential test: pipelines of agents that share banks, MSHRs, channels, FIFOs, barriers.

An agent's program is a table of operations; nothing else of archsim's accelerators is involved. Stages of a pipeline
are joined by broadcast FIFOs (one writer, every agent of the next stage reads), lane FIFOs (agent i to agent i) or a
FIFO that the next stage shares, and some have a barrier. In some machines one more agent counts what the last stage has
done. Capacities are at least what one operation moves, so no machine deadlocks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.engine.compiled import run
from archsim.hardware import operation as op
from archsim.hardware.interconnect.crossbar_switch import SwitchSpec
from archsim.hardware.memory.cache import CacheSpec, shift_of
from archsim.hardware.memory.dram import DramSpec
from archsim.hardware.memory.system import MemorySpec
from archsim.hardware.operation import END, HEADER, LINE, REQUEST_FIELDS, REQUESTS, START, VALUE, VALUE_OUT
from archsim.jit import inlined, kernel

MODES = [
    op.CACHED_READ, op.CACHED_READ, op.PREFETCH, op.RESIDENT_READ, op.STREAM_READ, op.STREAM_WRITE, op.RESIDENT_WRITE,
    op.CACHED_WRITE, op.CACHED_WRITE, op.CONSUME,
]  # fmt: skip
COUNTS = -1
"""In place of a value: the token is one of a counter with several writers."""


class Program(NamedTuple):
    table: np.ndarray
    length: np.ndarray


class NoSpec(NamedTuple):
    unused: int


@inlined
def play(agent, now, spec, state, operands, o, counts):
    """Play the next row of the agent's table; data-dependent: the value popped changes the next line read."""
    position = state[agent, 0]
    counts[agent, 0] += o[agent, VALUE] % 97
    counts[agent, 1] += now % 13
    if position == operands.length[agent]:
        o[agent, END] = 1
        return
    state[agent, 0] += 1
    for field in range(operands.table.shape[2]):
        if field < START or field >= HEADER:
            o[agent, field] = operands.table[agent, position, field]
    o[agent, VALUE_OUT] = 0 if o[agent, VALUE_OUT] == COUNTS else o[agent, VALUE_OUT] + now % 7
    for request in range(o[agent, REQUESTS]):
        o[agent, HEADER + request * REQUEST_FIELDS + LINE] += o[agent, VALUE] % 3


@kernel
def loop(spec, operands, machine):
    return run(play, spec, operands, machine)


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
    fifos, barriers = [], []
    base = np.cumsum([0, *stages])
    steps = tokens
    table = np.zeros((agents, steps, op.HEADER + slots * op.REQUEST_FIELDS), np.int64)
    table[:, :, [op.POP, op.PUSH, op.BARRIER]] = -1
    ports = 0
    for stage, width in enumerate(stages):
        members = range(base[stage], base[stage + 1])
        if draw.random() < 0.4:
            for agent in members:
                table[agent, :, op.BARRIER] = len(barriers)
            barriers.append(width)
        if stage + 1 == len(stages):
            if watched:
                table[members, :, op.PUSH] = len(fifos)
                table[members, :, op.PUSH_COUNT] = 1
                table[members, :, op.VALUE_OUT] = COUNTS
                table[agents - 1, :, op.POP] = ports
                table[agents - 1, :, op.POP_COUNT] = width
                fifos.append((width * steps, 0, 1))
            continue
        following = range(base[stage + 1], base[stage + 2])
        per_push = integer(1, 3)
        # Agent i of the next stage reads what agent i mod width of this one writes.
        for lane, agent in enumerate(members):
            readers = [reader for j, reader in enumerate(following) if j % width == lane]
            if not readers:
                continue
            initial = integer(0, 1) * per_push
            # Only where nobody else writes: readers that run ahead then hold up nothing but the writer.
            shared = width == 1 and draw.random() < 0.7
            capacity = per_push * integer(1 + shared, 3) + initial
            fifos.append((capacity, initial, op.SHARED if shared else len(readers)))
            table[agent, :, op.PUSH] = len(fifos) - 1
            table[agent, :, op.PUSH_COUNT] = per_push
            table[agent, :, op.VALUE_OUT] = draw.integers(0, 50, steps)
            if shared:
                # In every round the readers take what the writer has pushed, one of them or two.
                for step in range(steps):
                    first, second = draw.choice(readers, 2)
                    parts = (1, per_push - 1) if first != second and per_push > 1 else (per_push,)
                    for reader, part in zip((first, second), parts, strict=False):
                        table[reader, step, op.POP] = ports
                        table[reader, step, op.POP_COUNT] = part
                ports += 1
                readers = []
            for reader in readers:
                table[reader, :, op.POP] = ports
                table[reader, :, op.POP_COUNT] = per_push
                ports += 1
            # What was there at the start is not read to the end, so the writer must not need that space.
            table[agent, steps - initial // per_push :, op.PUSH] = -1
    table[:, :, op.COMPUTE] = draw.integers(0, 9, (agents, steps)) * (draw.random((agents, steps)) < 0.7)
    table[:, :, op.PAUSE] = draw.integers(0, 5, (agents, steps)) * (draw.random((agents, steps)) < 0.2)
    lines = integer(4, 40)
    for agent in range(agents):
        for step in range(steps):
            requests = integer(0, slots)
            table[agent, step, op.REQUESTS] = requests
            for request in range(requests):
                fields = table[agent, step, op.HEADER + request * op.REQUEST_FIELDS :]
                fields[op.LINE] = integer(0, lines)
                fields[op.BEATS] = integer(1, 4)
                fields[op.BYTES] = integer(1, 64)
                fields[op.MODE] = draw.choice(MODES)
                fields[op.TENSOR] = integer(0, 1)
                fields[op.EPOCH] = step // 4
    lanes = [integer(-1, 5) for _ in range(agents)]
    topology = op.topology([slots] * agents, lanes, fifos, barriers)
    return NoSpec(0), Program(table, np.full(agents, steps, np.int64)), topology, memory, agents
