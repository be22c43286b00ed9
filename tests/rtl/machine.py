"""Tiny machines of a few agents on the reference engine, against which circuits are compared."""

import numpy as np

from archsim.engine import reference
from archsim.hardware.agent import op
from archsim.hardware.diagram import Diagram
from tests.engines.test_crossbar_switch import memory

MEMORY = memory()
IDEAL = MEMORY._replace(ideal=1)
MOST_COUNTERS = 16


def deliver(fifo, releases):
    """An agent that gives ``fifo`` tokens as the harness gives a circuit items: from the cycles ``releases`` on, one a
    cycle."""

    def source(a, m, x):
        for number, release in enumerate(releases):
            yield op(pause=max(int(number > 0), int(release) - a.now), push=fifo)

    return source


def completions(diagram: Diagram, m=None, x=None, kept=0, memory=MEMORY):
    """For each agent, in the order in which they were drawn, the cycles in which its operations ended."""
    topology = diagram.topology
    agents = len(topology.lane)
    state, counts = np.zeros((agents, 1 + kept), np.int64), np.zeros((agents, MOST_COUNTERS), np.int64)
    outcome = reference.simulate(diagram.coroutines(1), m, x, topology, memory, state, counts, 1, True)
    table = outcome.completions
    return [table[table[:, 0] == agent, 1] for agent in range(agents)]
