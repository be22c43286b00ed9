"""Lines from DRAM and those that wait for them, in both engines, to the cycle.

A look-up takes cycle 0, the MSHR 1, the channel 2; with 64 GB/s at 1 GHz a line's burst takes a cycle, its data come 10
cycles later, at 13, and fill the bank from 13 to 16. The line is in the cache, and its first reader at the bank, at 17.
"""

import numpy as np
import pytest

from archsim.engine import compiled, reference
from archsim.hardware import operation as op
from tests.engines.test_crossbar_switch import NoSpec, Requests, loop, memory, once

FILLED = 17
R, CONSUME, PREFETCH, WRITE, STREAM = op.CACHED_READ, op.CONSUME, op.PREFETCH, op.CACHED_WRITE, op.STREAM_READ


@pytest.fixture(params=["compiled", "reference"])
def done(request):
    """A function: cycles in which each agent's requests of (line, beats, mode) are done."""

    def simulate(table, lanes=None, **cache):
        table = np.array(table, np.int64)
        agents, requests = table.shape[:2]
        counts, state = np.zeros((agents, requests), np.int64), np.zeros((agents, 1), np.int64)
        engine, program = (compiled, loop) if request.param == "compiled" else (reference, once)
        topology = op.topology([requests] * agents, lanes or list(range(agents)), [], [])
        engine.simulate(program, NoSpec(0), Requests(table), topology, memory(**cache), state, counts, 1)
        return counts.tolist()

    return simulate


def test_a_miss_is_read_like_a_hit_when_its_line_is_there(done):
    """Four beats of the bank, from 17 to 20; the last is out of the bank at 21 and through the switch at 22."""
    assert done([[[0, 1, R]]]) == [[FILLED + 2]]
    assert done([[[0, 4, R]]]) == [[FILLED + 5]]


def test_all_that_wait_for_a_line_get_it_in_turns(done):
    """The bank serves four readers of four beats one after the other, whoever they are."""
    assert done([[[0, 4, R]]] * 4) == [[FILLED + 5], [FILLED + 9], [FILLED + 13], [FILLED + 17]]


def test_the_oldest_is_first(done):
    """Agent 0 comes to the bank at 1, behind its read of another line, which the channel serves first; agent 1 at 0."""
    first, second = done([[[1, 1, R], [0, 1, R]], [[0, 1, R], [2, 1, R]]])
    assert second[0] == FILLED + 3
    assert first[1] == FILLED + 4


def test_nothing_is_delivered_to_a_prefetch_and_a_write(done):
    assert done([[[0, 1, PREFETCH]], [[0, 1, R]], [[0, 2, WRITE]], [[0, 2, R]]]) == [
        [FILLED], [FILLED + 2], [FILLED], [FILLED + 4]
    ]  # fmt: skip
    assert done([[[0, 1, STREAM]]]) == [[FILLED - 1]]  # without a look-up


def test_an_mshr_is_held_until_its_last_reader_has_the_line(done):
    """With one MSHR the next line's channel is asked a cycle after the last beat, at 26: it is filled at 41."""
    two = done([[[0, 4, R]], [[0, 4, R]], [[1, 1, R]]], mshrs=1)
    assert two == [[FILLED + 5], [FILLED + 9], [FILLED + 9 + 17]]


def test_a_line_that_is_not_kept_is_delivered(done):
    """A read that consumes makes no room, so a second one fetches the line again: its fill, ready at 14, is before the
    first one's delivery, ready at 17."""
    assert done([[[0, 1, CONSUME]]]) == [[FILLED + 2]]
    assert done([[[0, 1, CONSUME]], [[0, 1, CONSUME]]]) == [[FILLED + 6], [FILLED + 7]]
