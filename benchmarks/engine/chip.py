"""A many-core chip of 128 cores, 131,072 neurons and 100 timesteps: what its engine does in a second.

Two convolutional layers of random weights read random spikes; thresholds are such that a twentieth of all neurons fires
in a step. Nothing of it is trained. The chip simulates every message buffer by buffer; ``waits_percent`` of its cycles
the busiest core waits for messages, so buffers are full most of the time, which costs most.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from clock import Row
from machines import on_the_processor
from numpy.typing import NDArray

from archsim.engine.result import LayerResult
from archsim.simulate import load_accelerator
from archsim.trace import Neuron, Operation, Trace

MACHINES = {"manycore": ["pe.count=128", "noc.rows=8", "noc.columns=4"], "loihi1": []}
TIMESTEPS, SIDE, CHANNELS, RATE = 100, 64, (2, 16, 16), 0.05
FRACTION_BITS = 16


def rows() -> Iterator[Row]:
    """A row for each chip."""
    trace = network(TIMESTEPS, SIDE, CHANNELS, RATE)
    for name, settings in MACHINES.items():
        machine = load_accelerator(name, settings).specialised_for(trace)
        with on_the_processor():
            for _ in range(2):
                layers = list(machine.run_layers(trace, machine.layers(trace), "compiled", verify=True, record=False))

        def total(event: str, layers: Sequence[LayerResult] = layers) -> int:
            return sum(layer.events[event] for layer in layers)

        cycles, spent = sum(layer.share for layer in layers), sum(layer.engine_wall_s for layer in layers)
        operations = sum(layer.events["mean_core_operations"] * layer.events["cores"] for layer in layers)
        yield {
            "machine": name,
            "cores": total("cores"),
            "neurons": sum(trace.tensor(operation.output)[0].size for operation in trace.operations),
            "timesteps": trace.timesteps,
            "mismatches": sum(layer.mismatches for layer in layers),
            "cycles": cycles,
            "waits_percent": 100 * total("critical_network_cycles") / cycles,
            "synaptic_operations": operations,
            "messages": total("messages"),
            "hops": total("hops"),
            "engine_processor_s": spent,
            "operations_per_s": operations / spent,
            "hops_per_s": total("hops") / spent,
        }


def network(timesteps: int, side: int, channels: tuple[int, ...], rate: float) -> Trace:
    """Convolutions of 3 x 3 one behind the other, one image."""
    draw, name, operations = np.random.default_rng(0), "input", []
    spikes = draw.random((timesteps, channels[0], side, side)) < rate
    tensors = {name: spikes[:, None]}
    for layer, (before, behind) in enumerate(itertools.pairwise(channels)):
        weight = draw.integers(-64, 65, (behind, before, 3, 3)).astype(np.int8)
        sums = convolved(spikes, weight)
        low, high = 0, int(sums.max()) * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fired(sums, middle).mean() > rate else (low, middle)
        spikes, output = fired(sums, high), f"layer{layer}.out"
        neuron = Neuron("lif", np.full(behind, high), 1, FRACTION_BITS)
        operations.append(
            Operation(f"layer{layer}", "conv2d", (name,), output, (3, 3), (1, 1), (1, 1), weight, neuron=neuron)
        )
        tensors[output], name = spikes[:, None], output
    labels = {"kind": "synthetic", "weights": "synthetic"}
    return Trace(network="scale", timesteps=timesteps, operations=operations, tensors=tensors, provenance=labels)


def convolved(spikes: NDArray[np.bool_], weight: NDArray[np.int8]) -> NDArray[np.int64]:
    """Sums int64 [T, N, side, side]."""
    padded = np.pad(spikes, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.float32)  # sums are small, so exact
    side, sums = spikes.shape[-1], 0
    for row in range(3):
        for column in range(3):
            part = padded[:, :, row : row + side, column : column + side]
            sums = sums + np.einsum("nc,tcij->tnij", weight[:, :, row, column].astype(np.float32), part, optimize=True)
    return np.asarray(sums).astype(np.int64)


def fired(sums: NDArray[np.int64], threshold: int) -> NDArray[np.bool_]:
    """Spikes of neurons that leak by half a step and are reset to 0."""
    potential, spikes = np.zeros(sums.shape[1:], np.int64), np.zeros(sums.shape, bool)
    for step, current in enumerate(sums):
        potential += current << FRACTION_BITS
        spikes[step] = potential > (threshold << FRACTION_BITS)
        potential = np.where(spikes[step], 0, potential >> 1)
    return spikes
