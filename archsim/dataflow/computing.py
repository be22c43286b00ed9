"""What a layer's outputs are, block of rows by block of rows, so that no full sums of a whole layer are held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.layer import Layer
from archsim.hardware.compute.lif import fire, rule_of
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
    words = np.zeros((layer.m, layer.n), np.uint16)
    active = np.zeros(layer.m, np.int64)
    rows = max(1, BLOCK_VALUES // (layer.n * layer.timesteps))
    for first in range(0, layer.m, rows):
        sums = np.zeros((min(rows, layer.m - first), layer.n, layer.timesteps), np.int64)
        for event, count in accumulate(layer, first, sums).items():
            events[event] = events.get(event, 0) + count
        got: NDArray[Any] = sums + layer.bias[:, None]
        if layer.neuron is not None:
            got = words[first : first + rows]
            _fire(layer, sums, got)
        elif layer.requantiser is not None:
            # T = 1, so that rows by channels are images by channels.
            got = requantise(layer.requantiser, got.transpose(2, 0, 1)).transpose(1, 2, 0)
            active[first : first + rows] = np.count_nonzero(got, axis=(1, 2))
        if verify and layer.expected is not None:
            mismatches += int((got != layer.expected[first : first + rows]).sum())
    if layer.neuron is not None:
        active, spikes = np.count_nonzero(words, axis=1), np.bitwise_count(words).sum(1, dtype=np.int64)
    elif layer.requantiser is not None:
        spikes = active
    else:
        active = np.full(layer.m, layer.n, np.int64)
        spikes = active * layer.timesteps
    events["output_is_upper_bound"] = int(not layer.output_is_known)
    return Outputs(active, spikes, mismatches if verify and layer.expected is not None else None, events)


def _fire(layer: Layer, sums: NDArray[np.int64], words: NDArray[Any]) -> None:
    neuron = layer.neuron
    assert neuron is not None
    threshold = np.ascontiguousarray(neuron.threshold, np.int64)
    fire(sums, layer.bias, threshold, rule_of(neuron), neuron.mask_fire_once, words)
