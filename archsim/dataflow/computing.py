"""What a layer's outputs are, block of rows by block of rows, so that no full sums of a whole layer are held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.layer import Layer, Planes
from archsim.hardware.compute.lif import fire_rows, mask, neurons_of, start_state
from archsim.trace import neurons
from archsim.trace.resimulation import requantise

BLOCK_VALUES = 1 << 20
"""Full sums that are held at once."""
Accumulate = Callable[[Layer, int, NDArray[np.int64]], dict[str, int]]
"""Full sums of rows from a first one on into [rows, N, T], by a machine's own arithmetic; returns named events."""


class Outputs(NamedTuple):
    """Of every row of the output how many neurons (or values) are ``active``, and how many ``spikes`` they fire in all,
    int64 [M]; how many outputs differ from the trace, None if they were not compared; named events."""

    active: NDArray[np.int64]
    spikes: NDArray[np.int64]
    mismatches: int | None
    events: dict[str, int]


def outputs_of(layer: Layer, accumulate: Accumulate, verify: bool) -> Outputs:
    """The layer's outputs by the arithmetic of ``accumulate``; ``verify`` compares them with the trace.

    A layer without neurons and without a stored output (spikes recorded elsewhere) has no known output; its rows
    count as fully dense, an upper bound.
    """
    events: dict[str, int] = {}
    mismatches = 0
    active, spikes = np.zeros(layer.m, np.int64), np.zeros(layer.m, np.int64)
    rows = max(1, BLOCK_VALUES // (layer.n * layer.timesteps))
    for first in range(0, layer.m, rows):
        block = slice(first, min(first + rows, layer.m))
        sums = np.zeros((block.stop - first, layer.n, layer.timesteps), np.int64)
        for event, count in accumulate(layer, first, sums).items():
            events[event] = events.get(event, 0) + count
        got = _plain(layer, first, sums) if layer.planes is None else _of_planes(layer, layer.planes, sums, block)
        if got.ndim == 2:
            active[block], spikes[block] = np.count_nonzero(got, axis=1), np.bitwise_count(got).sum(1, dtype=np.int64)
        elif layer.neuron is not None or layer.requantiser is not None:
            active[block] = np.count_nonzero(got.any(2), axis=1)
            spikes[block] = np.count_nonzero(got, axis=(1, 2))
        else:
            active[block] = layer.n
            spikes[block] = layer.n * layer.fired_timesteps
        if verify and layer.expected is not None:
            mismatches += int((got != layer.expected[block]).sum())
    events["output_is_upper_bound"] = int(not layer.output_is_known)
    return Outputs(active, spikes, mismatches if verify and layer.expected is not None else None, events)


def _plain(layer: Layer, first: int, sums: NDArray[np.int64]) -> NDArray[Any]:
    """Spikes as words uint16 [rows, N], or other outputs [rows, N, T], of full sums [rows, N, T]."""
    if layer.neuron is not None:
        words = np.empty(sums.shape[:2], np.uint16)
        _fire(layer, first, sums, words)
        return words
    return _without_neurons(layer, sums + layer.bias[:, None])


def _without_neurons(layer: Layer, currents: NDArray[np.int64]) -> NDArray[np.int64]:
    if layer.requantiser is None:
        return currents
    return requantise(layer.requantiser, currents.transpose(2, 0, 1)).transpose(1, 2, 0)


def _of_planes(layer: Layer, planes: Planes, sums: NDArray[np.int64], block: slice) -> NDArray[Any]:
    """Outputs [rows, N, timesteps that fire] of the sums of planes [rows, N, planes], and the state behind them."""
    state = layer.state
    assert state is not None, "a piece with planes has a state"
    timed, partial = _complete(planes, sums, state.partial[block])
    state.partial[block] = partial
    if not timed.shape[2]:
        return timed
    timed += layer.bias[:, np.newaxis]
    neuron = layer.neuron
    if neuron is None:
        return _without_neurons(layer, timed)
    if state.neurons is None:
        state.neurons = start_state(neuron, *state.partial.shape)
    rows, no_bias = state.neurons.rows(block.start, len(partial)), np.zeros_like(layer.bias)
    fire_rows(neurons_of(neuron), timed, no_bias, block.start, rows, timed)
    if layer.fires_once:
        timed[(timed.cumsum(2) > 1) | state.fired[block][:, :, np.newaxis]] = 0
        state.fired[block] |= timed.any(2)
    return neurons.masked(neuron, timed, axis=2)


def complete_sums(layer: Layer, first: int, sums: NDArray[np.int64]) -> NDArray[np.int64]:
    """Full sums [rows, N, timesteps that fire] of rows ``first`` on, which ``sums`` [rows, N, T] make complete."""
    if layer.planes is None:
        return sums
    assert layer.state is not None, "a piece with planes has a state"
    return _complete(layer.planes, sums, layer.state.partial[first : first + len(sums)])[0]


def _complete(
    planes: Planes, sums: NDArray[np.int64], partial: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Full sums, without the bias, that begin with ``partial`` [rows, N], and what of the next one is there."""
    complete = []
    for plane, factor in enumerate(planes.factor):
        partial = partial + factor * sums[:, :, plane]
        if planes.ends[plane]:
            complete += [partial] * planes.shown
            partial = np.zeros_like(partial)
    return np.stack(complete, axis=2) if complete else np.zeros((*partial.shape, 0), np.int64), partial


def _fire(layer: Layer, first: int, sums: NDArray[np.int64], words: NDArray[Any]) -> None:
    neuron = layer.neuron
    assert neuron is not None
    fire_rows(neurons_of(neuron), sums, layer.bias, first, start_state(neuron, len(sums), layer.n, first), words)
    if neuron.mask_fire_once:
        mask(words)
    if layer.fires_once:
        words &= -words  # the lowest one is the first
