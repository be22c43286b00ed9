"""Both engines agree on whole networks: planes, windows with state, heads, recurrence, sums, neurons, first spikes."""

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from archsim.simulate import load_accelerator
from tests.engines.random_network import SETTINGS, chains, first_spikes, networks, operations, settings_of
from tests.machines import same

pytestmark = pytest.mark.slow
MASKED = "its neurons are masked for firing once, which takes all timesteps at once, and it runs in pieces"


def run(machine, trace, engine):
    return list(machine.run_layers(trace, machine.layers(trace), engine, verify=True, record=True))


def agreed(name, trace, overrides):
    """Run the whole of ``trace`` in both engines, unless one layer may not be cut; returns the results."""
    machine = load_accelerator(name, overrides).specialised_for(trace)
    problems = machine.problems(trace)
    assert not [line for line in problems if MASKED not in line and "timesteps: the trace has" not in line]
    if problems:
        return []
    assert machine.layers(trace)
    fast, slow = (run(machine, trace, engine) for engine in ("compiled", "reference"))
    for left, right in zip(fast, slow, strict=True):
        assert left.mismatches == right.mismatches == 0
        assert left.cycles >= left.lower_bound_cycles
        same(left, right)
    return fast


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=12, derandomize=True, phases=[Phase.generate])
@given(data=st.data())
def test_both_engines_agree(name, data):
    operand = load_accelerator(name).operand
    whole = operand == "spike" and data.draw(st.integers(0, 4)) == 0
    timed = operand == "spike_time"
    trace = data.draw(first_spikes() if timed else networks() if whole else operations(operand))
    agreed(name, trace, data.draw(settings_of(name, trace)))


CORES = ("pe.neurons=7", "pe.queue=1", "noc.buffer=1", "scheduler.mapping=neurons", "synapse.linear=dense")


@settings(max_examples=40, derandomize=True, phases=[Phase.generate])
@given(trace=chains(), chosen=st.sets(st.sampled_from(CORES)))
def test_both_engines_agree_on_chips_of_cores(trace, chosen):
    assert len(agreed("manycore", trace, sorted(chosen))) == len(trace.operations)
