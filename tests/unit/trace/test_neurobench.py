"""NeuroBench's metrics of a trace against counts of single values; what its own harness says is in tests/export."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from archsim.trace import Trace, content
from archsim.trace.neurobench import neurobench
from archsim.trace.resimulation import currents_of
from tests import networks, small_traces
from tests.twins import neurons as slow
from tests.twins import work as twin

MAKERS = [
    small_traces.tiny, small_traces.every_operation, small_traces.every_kind, small_traces.attention,
    lambda seed: networks.pixels(seed=seed), lambda seed: networks.recurrent(seed=seed),
    lambda seed: networks.attention(seed=seed),
]  # fmt: skip


def potentials(neuron, currents, place):
    """X[t] of one neuron without a synaptic current."""
    state = slow.start(neuron, place)
    for current in currents:
        yield state["u"] + (0 if state["rests"] else current * 2**neuron.fraction_bits)
        slow.timestep(neuron, current, place, state)


def updates(trace):
    """Neuron by neuron, from its potentials one after the other."""
    found = 0
    for operation in trace:
        if operation.neuron is None:
            continue
        currents = currents_of(operation, [trace.operand(name) for name in operation.inputs], trace.timesteps)
        for image, *place in np.ndindex(currents.shape[1:]):
            series = [int(current[(image, *place)]) for current in currents]
            found += 1
            pairs = itertools.pairwise(potentials(operation.neuron, series, place))
            found += sum(now != before for before, now in pairs)
    return found / trace.images


@pytest.mark.parametrize("make", MAKERS)
def test_equal_loops(make):
    trace = make(1)
    found = neurobench(trace)
    weights = [value for operation in trace if operation.weight is not None for value in operation.weight.flat]
    biases = sum(operation.bias.size for operation in trace if operation.bias is not None)
    assert found.parameter_count == len(weights) + biases
    assert found.connection_sparsity == sum(value == 0 for value in weights) / len(weights)
    outputs = [
        trace.operand(operation.output)
        for operation in trace
        if (operation.neuron and operation.neuron.fires != "nothing")
        or (operation.requantiser and not operation.requantiser.signed)
    ]
    values = [value for output in outputs for value in output.flat]
    assert found.activation_sparsity == (sum(value == 0 for value in values) / len(values) if values else None)
    kinds = {True: 0, False: 0}
    for operation in trace:
        kinds[any(trace.kind(name) != "int" for name in operation.inputs)] += twin.synaptic_operations(trace, operation)
    assert (found.effective_acs, found.effective_macs) == (kinds[True] / trace.images, kinds[False] / trace.images)
    assert found.effective_acs + found.effective_macs <= found.dense_operations
    assert found.membrane_updates == updates(trace)


@pytest.mark.parametrize("make", MAKERS)
def test_windows_of_timesteps_change_nothing(make, monkeypatch):
    whole = neurobench(make(0))
    for values in (1, 60, 150):
        monkeypatch.setattr(content, "WINDOW_VALUES", values)
        assert neurobench(make(0)) == whole


def test_the_footprint_by_hand():
    """tiny: 54 + 135 + 40 weights, biases of 5 and 4 neurons and thresholds of 3 and 5, of 4 bytes each."""
    trace = small_traces.tiny()
    assert neurobench(trace).footprint_bytes == 54 + 135 + 40 + 4 * (5 + 4 + 3 + 5)
    few = [replace(o, weight=o.weight // 2, weight_bits=4) if o.name == "fc" else o for o in trace]
    narrow = Trace(network="small", timesteps=4, operations=few, tensors=small_traces.contents(trace),
                   provenance=small_traces.LABELS)  # fmt: skip
    assert neurobench(narrow).footprint_bytes == neurobench(trace).footprint_bytes - 20
    part = trace.select(layers=["fc"])
    assert neurobench(part).footprint_bytes == 40 + 4 * 4
    assert neurobench(part).activation_sparsity is None


def test_what_nobody_looked_for_or_stored():
    trace = small_traces.tiny()
    assert neurobench(trace, updates=False) == neurobench(trace)._replace(membrane_updates=None)
    tensors = {name: values for name, values in small_traces.contents(trace).items() if name != "logits"}
    without = Trace(network="small", timesteps=4, operations=list(trace), tensors=tensors,
                    provenance=small_traces.LABELS)  # fmt: skip
    assert neurobench(without) == neurobench(trace)  # the read-out has no neurons
    first = Trace(network="small", timesteps=4, operations=[trace.operation("conv1")],
                  tensors={"pixels": tensors["pixels"]}, provenance=small_traces.LABELS)  # fmt: skip
    assert neurobench(first).activation_sparsity is None
