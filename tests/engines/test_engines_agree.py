"""The compiled and the reference engine agree on every completion time and every counter."""

import numpy as np
import pytest

from archsim.engine import compiled, reference
from tests.engines.random_machine import loop, play, random_machine

MACHINES = 400
PER_TEST = 25


def run(engine, seed):
    spec, operands, topology, memory, agents = random_machine(seed)
    return engine.simulate(
        loop if engine is compiled else play,
        spec,
        operands,
        topology,
        memory,
        np.zeros((agents, 1), np.int64),
        np.zeros((agents, 2), np.int64),
        2,
        True,
    )


def per_agent(outcome):
    agents = len(outcome.times)
    return [outcome.completions[outcome.completions[:, 0] == agent, 1].tolist() for agent in range(agents)]


def assert_same(fast, slow):
    assert per_agent(fast) == per_agent(slow)
    assert fast.cycles == slow.cycles
    np.testing.assert_array_equal(fast.traffic, slow.traffic)
    np.testing.assert_array_equal(fast.counts, slow.counts)
    np.testing.assert_array_equal(fast.times, slow.times)
    assert fast.row_misses == slow.row_misses


@pytest.mark.parametrize("first", range(0, MACHINES, PER_TEST))
def test_random_machines(first):
    for seed in range(first, first + PER_TEST):
        fast, slow = run(compiled, seed), run(reference, seed)
        assert len(fast.completions) > 0
        try:
            assert_same(fast, slow)
        except AssertionError as error:
            raise AssertionError(f"random machine {seed}: {error}") from error


def test_random_machines_exercise_everything():
    """The comparison has teeth only if the machines conflict, miss, merge, wait, open rows and share FIFOs."""
    assert sum(int(random_machine(seed)[2].fifo_shared.any()) for seed in range(60)) >= 5
    outcomes = [run(compiled, seed) for seed in range(60)]
    traffic = sum(outcome.traffic.sum(0) for outcome in outcomes)
    assert (traffic > 0).all(), traffic
    times = sum(outcome.times.sum(0) for outcome in outcomes)
    assert (times > 0).all(), times


def test_times_add_up():
    for seed in range(60):
        outcome = run(compiled, seed)
        assert (outcome.times.sum(1) == outcome.cycles).all()
        assert (outcome.times >= 0).all()
