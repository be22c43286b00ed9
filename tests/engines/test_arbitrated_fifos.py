"""FIFOs into which several agents write, in both engines: who is let in, to the cycle."""

from typing import NamedTuple

import numpy as np
import pytest

from archsim.engine import compiled, reference
from archsim.engine.lowering import loop_of, lower
from archsim.hardware.agent import op
from archsim.hardware.diagram import Diagram, Fifo
from archsim.hardware.integers import tuple_class
from archsim.hardware.operation import SHARED
from tests.engines.test_crossbar_switch import memory


class Tokens(NamedTuple):
    """``computed`` int64 [writers, tokens] cycles before each; a reader takes ``cycles`` for one."""

    computed: np.ndarray
    taken: np.ndarray
    cycles: int


def writer(a, m, x):
    for token in range(x.computed.shape[1]):
        yield op(compute=x.computed[a.me, token], push=m.link.fifo, value=10 * a.me + token)


def reader(a, m, x):
    for token in range(x.taken[a.me]):
        yield op(pop=m.link.port)
        a.count[token] = 1000 * a.now + a.value
        yield op(compute=x.cycles)


LOWERED = lower([writer, reader])


class Home:
    pass


Home.__module__ = __name__
Agents = tuple_class(Home, "Agents", ["writer", "reader"])
M = tuple_class(Home, "M", ["agents", "link"])
LOOP = loop_of([writer, reader], __name__)


def ran(engine, computed, *, capacity, cycles=0, readers=1):
    """(cycle, value) of every token that is taken, reader by reader, and the outcome."""
    computed = np.array(computed, np.int64)
    diagram = Diagram()
    link = diagram.fifo(capacity, readers=SHARED if readers > 1 else 1, writers=SHARED)
    diagram.agent(writer, len(computed))
    diagram.agent(reader, readers)
    total = computed.size
    taken = np.array([total // readers + (i < total % readers) for i in range(readers)])
    m = M(Agents(*diagram.ends.values()), Fifo(*link))
    counts = np.zeros((len(computed) + readers, total), np.int64)
    state = np.zeros((len(counts), LOWERED.kept), np.int64)
    step = LOOP if engine is compiled else diagram.coroutines(LOWERED.kept)
    outcome = engine.simulate(
        step, m, Tokens(computed, taken, cycles), diagram.topology, memory(), state, counts, 1, True
    )
    rows = zip(counts[-readers:], taken, strict=True)
    found = [[divmod(int(seen), 1000) for seen in row[:many]] for row, many in rows]
    return found, outcome


each_engine = pytest.mark.parametrize("engine", [compiled, reference], ids=["compiled", "reference"])


@each_engine
def test_a_token_is_there_a_cycle_after_it_was_ready(engine):
    """Ready at 7, granted in cycle 7, there at 8; its writer ends then, too."""
    (found,), outcome = ran(engine, [[7]], capacity=1)
    assert found == [(8, 0)]
    assert outcome.times[0].tolist() == [7, 1, 0]


@each_engine
def test_the_smallest_number_goes_first_among_equals_and_one_a_cycle(engine):
    (found,), _ = ran(engine, [[3, 0], [3, 0], [3, 0]], capacity=8)
    assert [value for _, value in found] == [0, 10, 20, 1, 11, 21]
    assert [cycle for cycle, _ in found] == [4, 5, 6, 7, 8, 9]


@each_engine
def test_who_has_waited_longest_goes_first(engine):
    """All are ready at 2, 1 and 1: writer 1 before 2, both before 0, though it has the smallest number."""
    (found,), _ = ran(engine, [[2], [1], [1]], capacity=8)
    assert found == [(2, 10), (3, 20), (4, 0)]


@each_engine
@pytest.mark.parametrize("capacity", [1, 2, 5])
def test_a_full_link_takes_what_its_reader_leaves(engine, capacity):
    """Four writers that are always ready, a reader of 3 cycles: a token every 3 cycles, in turns."""
    (found,), _ = ran(engine, [[0, 0, 0]] * 4, capacity=capacity, cycles=3)
    assert [cycle for cycle, _ in found] == [1 + 3 * place for place in range(12)]
    assert [value // 10 for _, value in found] == [0, 1, 2, 3] * 3
    assert sorted(value for _, value in found) == sorted(10 * i + j for i in range(4) for j in range(3))


@each_engine
def test_a_place_that_is_left_is_taken_in_the_next_cycle(engine):
    """Capacity 1, a reader without a computation: a token a cycle all the same."""
    (found,), _ = ran(engine, [[0] * 5, [0] * 5], capacity=1)
    assert [cycle for cycle, _ in found] == list(range(1, 11))


@pytest.mark.parametrize("seed", range(40))
def test_both_ends_are_shared(seed):
    """Random writers and readers: engines agree on every token, none is lost, none comes twice."""
    draw = np.random.default_rng(seed)
    computed = draw.integers(0, 6, (draw.integers(1, 7), draw.integers(1, 9)))
    options = {
        "capacity": int(draw.integers(1, 5)), "cycles": int(draw.integers(0, 4)), "readers": int(draw.integers(1, 4)),
    }  # fmt: skip
    (fast, one), (slow, other) = (ran(engine, computed, **options) for engine in (compiled, reference))
    assert fast == slow
    np.testing.assert_array_equal(one.times, other.times)
    values = sorted(value for row in fast for _, value in row)
    assert values == sorted(10 * i + j for i in range(len(computed)) for j in range(computed.shape[1]))
    for i in range(len(computed)):
        own = sorted((cycle, value) for row in fast for cycle, value in row if value // 10 == i)
        assert [value % 10 for _, value in own] == list(range(computed.shape[1]))
