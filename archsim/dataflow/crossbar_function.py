"""What a layer's outputs are on a chip of crossbar arrays, window of timesteps by window, beside those of the trace.

Currents are what arrays make of the trace's inputs, or digital units, exactly. Neurons fire on them; how often a sum is
wider than a word of the network, and a potential than its place in memory, is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.pipeline import is_still
from archsim.hardware.compute.lif import State, fire_window, neurons_of, start_state
from archsim.trace import Neuron, Operation, Trace, neurons
from archsim.trace.content import first_spike_times, spikes_of_times
from archsim.trace.resimulation import currents_of, finish

WINDOW_VALUES = 1 << 21
"""Currents of an operation that are held at once, about."""


class Computed(NamedTuple):
    """How many outputs of a layer differ from the trace, None if they were not compared; named events."""

    mismatches: int | None
    events: dict[str, int]

    def beside(self, other: Computed) -> Computed:
        """The sums of both."""
        known = [found.mismatches for found in (self, other) if found.mismatches is not None]
        events = {name: count + other.events.get(name, 0) for name, count in self.events.items()}
        return Computed(sum(known) if known else None, events)


def windows(trace: Trace, operation: Operation) -> Iterator[range]:
    """The timesteps of an operation, as many at a time as memory allows; all where outputs depend on later ones."""
    steps = max(1, WINDOW_VALUES // (trace.images * math.prod(operation.output_shape)))
    masked = operation.neuron is not None and operation.neuron.mask_fire_once
    timed = trace.stored(operation.output) and trace.kind(operation.output) == "spike_time"
    steps = trace.timesteps if masked or timed else steps
    for first in range(0, trace.timesteps, steps):
        yield range(first, min(trace.timesteps, first + steps))


def timed(trace: Trace, name: str) -> NDArray[Any]:
    """The tensor ``name`` [T, I, ...], or [1, I, ...] if it does not change in time."""
    values = trace.operand(name)
    return values[np.newaxis] if is_still(trace, name) else values


def all_timesteps(values: NDArray[Any], operation: Operation, timesteps: int) -> NDArray[Any]:
    """Inputs [T, I, ...] of all timesteps."""
    found = values if values.ndim == 2 + len(operation.input_shapes[0]) else values[np.newaxis]
    return np.broadcast_to(found, (timesteps, *found.shape[1:]))


def exact_currents(trace: Trace, operation: Operation) -> Iterator[NDArray[np.int64]]:
    """The sums of the integer network, window by window."""
    streams = [trace.stream(name) for name in operation.inputs]
    for window in windows(trace, operation):
        seen = [stream.operand(window.start, window.stop) for stream in streams]
        yield currents_of(operation, seen, len(window))


def checked(
    trace: Trace, operation: Operation, currents: Iterable[NDArray[np.int64]], sum_bits: int, potential_bits: int,
    verify: bool,
) -> Computed:  # fmt: skip
    """What neurons or a requantiser make of ``currents``; widths of a sum on the network, 0 where none travels there,
    and of a potential."""
    stored = trace.operand(operation.output) if trace.stored(operation.output) else None
    fired = None if operation.neuron is None else _Fired(operation.neuron, potential_bits)
    mismatches, sums, first = 0, 0, 0
    for window in currents:
        sums += _wide(operation, window, sum_bits) if sum_bits else 0
        made = finish(operation, window) if fired is None else fired(window)
        if verify and stored is not None:
            if trace.kind(operation.output) == "spike_time":
                made = spikes_of_times(first_spike_times(made), trace.timesteps)
            timed = stored.ndim == made.ndim
            wanted = stored[first : first + len(window)] if timed else stored
            mismatches += int(np.count_nonzero((made if timed else made[0]) != wanted)) * (timed or first == 0)
        first += len(window)
    known = operation.neuron is not None or operation.requantiser is not None or stored is not None
    events = {
        "sum_overflows": sums,
        "membrane_overflows": 0 if fired is None else fired.overflows,
        "output_is_upper_bound": int(not known),
    }
    return Computed(mismatches if verify and stored is not None else None, events)


def _wide(operation: Operation, currents: NDArray[np.int64], bits: int) -> int:
    """How many sums, without their bias, do not fit ``bits``."""
    limit = 1 << (bits - 1)
    sums = currents
    if operation.bias is not None:
        sums = currents - operation.bias.reshape(-1, *(1,) * (currents.ndim - 3))
    return int(np.count_nonzero((sums < -limit) | (sums >= limit)))


class _Fired:
    """Neurons that go on from window to window; ``overflows`` counts potentials wider than ``bits``."""

    def __init__(self, neuron: Neuron, bits: int) -> None:
        self._neuron, self._bits, self.overflows = neuron, bits, 0
        self._state: State | None = None

    def __call__(self, currents: NDArray[np.int64]) -> NDArray[Any]:
        """Outputs of ``currents`` [timesteps, I, N, ...]."""
        timesteps, images, channels = currents.shape[:3]
        rows = np.moveaxis(currents, (0, 2), (-1, -2)).reshape(-1, channels, timesteps)
        rows = np.ascontiguousarray(rows, np.int64)
        if self._state is None:
            self._state = start_state(self._neuron, len(rows), channels)
        outputs, no_bias = np.empty_like(rows), np.zeros(channels, np.int64)
        self.overflows += fire_window(
            rows, no_bias, neurons_of(self._neuron), 0, self._state, self._bits, outputs
        )  # fmt: skip
        made = outputs.reshape(images, *currents.shape[3:], channels, timesteps)
        return neurons.masked(self._neuron, np.moveaxis(made, (-1, -2), (0, 2)))
