"""The metrics of NeuroBench, of a trace: equal to those of its harness on a network that both can run.

They are of one image, the mean of those of the trace, and of the network in integers:

    footprint_bytes       bytes of all parameters as the trace has them: weights of their bits, biases, thresholds ...
    parameter_count       weights and biases
    connection_sparsity   share of the weights that are zero
    activation_sparsity   share of zeros among the outputs of all neurons at all timesteps, and among those of ReLUs
    dense_operations      products of all layers at all timesteps, zeros included, padding not
    effective_acs         products of which neither is zero, where inputs are spikes: synaptic operations
    effective_macs        the same where they are integers
    membrane_updates      potentials that differ from those of the timestep before; at the first timestep all count

A potential is that of the comparison with the threshold, as snnTorch's neurons keep it by default. Three things differ
from the harness: products of two tensors count here; spikes are what the trace says, not whatever is 0, 1 or -1 in a
batch; and a network in floating point has other bytes.
"""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import NamedTuple

import numpy as np

from archsim import threads
from archsim.trace.content import spans
from archsim.trace.model import Trace
from archsim.trace.neurons import start_state, step
from archsim.trace.operation import Operation
from archsim.trace.resimulation import currents_of
from archsim.trace.work import WORKING, adds, dense_operations, effort, synaptic_operations

NO_PARAMETERS = ("tensor", "gradient", "calibration", "evaluation")
"""Roles of arrays of a trace that belong to images."""


class NeuroBench(NamedTuple):
    """The metrics; None where a network has nothing to find them from, or nobody looked for them."""

    footprint_bytes: int
    parameter_count: int
    connection_sparsity: float | None
    activation_sparsity: float | None
    dense_operations: float
    effective_acs: float
    effective_macs: float
    membrane_updates: float | None


def neurobench(trace: Trace, *, updates: bool = True, jobs: int = 1) -> NeuroBench:
    """The metrics of ``trace``. ``updates`` of membranes need all sums again, and so the most time; ``jobs`` operations
    are looked at at once."""
    working = [operation for operation in trace.operations if operation.op in WORKING]
    spiking = [adds(trace, operation) for operation in working]
    done = [synaptic_operations(trace, operation) for operation in working]
    return NeuroBench(
        footprint_bytes=_footprint(trace),
        parameter_count=sum(_parameters(operation) for operation in trace.operations),
        connection_sparsity=_connection_sparsity(trace),
        activation_sparsity=_activation_sparsity(trace),
        dense_operations=sum(dense_operations(trace, operation) for operation in working) / trace.images,
        effective_acs=sum(itertools.compress(done, spiking)) / trace.images,
        effective_macs=sum(itertools.compress(done, [not spikes for spikes in spiking])) / trace.images,
        membrane_updates=_membrane_updates(trace, jobs) / trace.images if updates else None,
    )


def _footprint(trace: Trace) -> int:
    """Bytes of all parameters, those of weights by their bits."""
    total, names = 0, {operation.name for operation in trace.operations}
    for operation in trace.operations:
        if operation.weight_shape is not None:
            total += -(-math.prod(operation.weight_shape) * operation.weight_bits // 8)
    for name in trace.arrays:
        role, _, owner = name.partition(".")
        if role not in ("weight", *NO_PARAMETERS) and owner in names:
            total += trace.arrays[name].nbytes
    return total


def _parameters(operation: Operation) -> int:
    weights = 0 if operation.weight_shape is None else math.prod(operation.weight_shape)
    return weights + (0 if operation.bias is None else operation.bias.size)


def _connection_sparsity(trace: Trace) -> float | None:
    """Of all weights together."""
    weights = used = 0
    for operation in trace.operations:
        weight = operation.weight
        if weight is not None:
            weights += weight.size
            used += int(np.count_nonzero(weight))
    return (weights - used) / weights if weights else None


def _activation_sparsity(trace: Trace) -> float | None:
    """Of all activations together; None without any, and where the trace does not store them all."""
    values = active = 0
    for operation in trace.operations:
        relu = operation.requantiser is not None and not operation.requantiser.signed
        fires = operation.neuron is not None and operation.neuron.fires != "nothing"
        if not (fires or relu):
            continue
        if not trace.stored(operation.output):
            return None
        for output in trace.stream(operation.output).windows():
            values += output.size
            active += int(np.count_nonzero(output))
    return (values - active) / values if values else None


def _membrane_updates(trace: Trace, jobs: int) -> int:
    """Of all neurons; those that presumably take longest are looked at first."""
    longest_first = sorted(trace.operations, key=partial(effort, trace), reverse=True)
    return sum(threads.results(partial(_updates, trace), longest_first, jobs))


def _updates(trace: Trace, operation: Operation) -> int:
    """Some timesteps at a time, so that few potentials are held at once."""
    neuron = operation.neuron
    if neuron is None:
        return 0
    total = 0
    streams = [trace.stream(name) for name in operation.inputs]
    values = sum(map(math.prod, (*operation.input_shapes, operation.output_shape)))
    state, before = start_state(neuron, (trace.images, *operation.output_shape)), None
    for first, end in spans(trace.timesteps, trace.images * values):
        inputs = [stream.operand(first, end) for stream in streams]
        for current in currents_of(operation, inputs, end - first):
            potential, _, state = step(neuron, current, state)
            total += potential.size if before is None else int(np.count_nonzero(potential != before))
            before = potential
    return total
