"""The compiled and the reference engine agree on every completion time and every counter."""

import numpy as np
import pytest

from archsim.engine import compiled, reference
from archsim.engine.recording import Window
from archsim.hardware.operation import DRAM_READ_LINES, DRAM_WRITE_LINES
from tests.engines.random_machine import LOWERED, agents_for, random_machine

MACHINES = 400
PER_TEST = 25


def run(engine, seed, record=True):
    spec, operands, topology, memory, agents = random_machine(seed)
    return engine.simulate(
        agents_for("compiled" if engine is compiled else "reference", spec),
        spec,
        operands,
        topology,
        memory,
        np.zeros((agents, LOWERED.kept), np.int64),
        np.zeros((agents, 2), np.int64),
        2,
        record,
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
    for one, other in zip(fast.loads, slow.loads, strict=True):
        assert one[:-1] == other[:-1]
        np.testing.assert_array_equal(one.busy, other.busy)


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
    """The comparison has teeth only if the machines conflict, miss, merge, wait, open rows, share ends of FIFOs."""
    assert sum(int(random_machine(seed)[2].fifo_shared.any()) for seed in range(60)) >= 5
    assert sum(int(random_machine(seed)[2].fifo_arbitrated.any()) for seed in range(60)) >= 5
    outcomes = [run(compiled, seed) for seed in range(60)]
    traffic = sum(outcome.traffic.sum(0) for outcome in outcomes)
    assert (traffic > 0).all(), traffic
    times = sum(outcome.times.sum(0) for outcome in outcomes)
    assert (times > 0).all(), times


def test_a_window_keeps_what_touches_it():
    """Operations run from an agent's completion before to their own; loads are cut at the window's ends."""
    for seed in range(40):
        whole, window = run(compiled, seed), Window(20, 90)
        fast, slow = run(compiled, seed, window), run(reference, seed, window)
        assert_same(fast, slow)
        expected = []
        for ends in per_agent(whole):
            begins = [0, *ends][: len(ends)]
            expected.append([end for begin, end in zip(begins, ends, strict=True) if begin < 90 and end > 20])
        assert per_agent(fast) == expected
        for load, part in zip(whole.loads, fast.loads, strict=True):
            assert part.first == 20
            if load.width == 1:
                np.testing.assert_array_equal(load.busy[20:90], part.busy[:70])
                assert not part.busy[70:].any()
        assert run(compiled, seed, False).loads == run(reference, seed, False).loads == ()
        assert len(run(compiled, seed, False).completions) == 0


def test_channels_are_busy_for_the_bursts_of_all_lines():
    for seed in range(60):
        memory, outcome = random_machine(seed)[3], run(compiled, seed)
        banks, channels = outcome.loads
        lines = outcome.traffic[:, [DRAM_READ_LINES, DRAM_WRITE_LINES]].sum()
        assert channels.busy.sum() == (0 if memory.ideal else lines * memory.dram.units_per_line)
        assert channels.busy.max() <= memory.dram.channels * channels.width * channels.ticks
        assert banks.busy.max() <= memory.cache.banks * banks.width
        assert bool(banks.busy.any()) is (memory.cache.conflicts == 1 and not memory.ideal and outcome.cycles > 5)


def test_times_add_up():
    for seed in range(60):
        outcome = run(compiled, seed)
        assert (outcome.times.sum(1) == outcome.cycles).all()
        assert (outcome.times >= 0).all()
