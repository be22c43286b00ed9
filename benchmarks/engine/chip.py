"""A many-core chip of 128 cores, 131,072 neurons and 100 timesteps: what its engine does in a second.

Two convolutional layers of random weights read random spikes; thresholds are such that a twentieth of all neurons fires
in a step. Nothing of it is trained. The chip simulates every message buffer by buffer; ``waits_percent`` of its cycles
the busiest core waits for messages, so buffers are full most of the time, which costs most.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from clock import Row
from machines import on_the_processor

from archsim.engine.result import LayerResult
from archsim.simulate import load_accelerator
from archsim.trace import Neuron, Operation, Trace
from archsim.trace.neurons import fire
from archsim.trace.resimulation import currents_of

MACHINES = {"manycore": ["pe.count=128", "noc.rows=8", "noc.columns=4"], "loihi1": []}
TIMESTEPS, SIDE, CHANNELS, RATE = 100, 64, (2, 16, 16), 0.05


def rows() -> Iterator[Row]:
    """A row for each chip."""
    trace = network()
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


def network() -> Trace:
    """Two convolutions of 3 x 3, one image."""
    draw = np.random.default_rng(0)
    inputs = draw.random((TIMESTEPS, 1, CHANNELS[0], SIDE, SIDE)) < RATE
    tensors, layers = {"input": inputs}, []
    for place, (before, behind) in enumerate(itertools.pairwise(CHANNELS)):
        weight = draw.integers(-64, 65, (behind, before, 3, 3)).astype(np.int8)
        read, name = list(tensors)[-1], f"layer{place}"
        layers.append(Operation(name, "conv2d", (read,), name, (3, 3), (1, 1), (1, 1), weight, neuron=_neuron(behind)))
        tensors[name] = np.zeros((TIMESTEPS, 1, behind, SIDE, SIDE), bool)

    def trace() -> Trace:
        labels = {"kind": "synthetic", "weights": "synthetic"}
        return Trace(network="scale", timesteps=TIMESTEPS, operations=layers, tensors=tensors, provenance=labels)

    for place, layer in enumerate(trace().operations):
        sums = currents_of(layer, [tensors[layer.inputs[0]]], TIMESTEPS)
        low, high = 0, 2 * int(sums.max())
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fire(_neuron(1, middle), sums).mean() > RATE else (low, middle)
        layers[place] = replace(layers[place], neuron=_neuron(CHANNELS[place + 1], high))
        tensors[layer.output] = fire(_neuron(1, high), sums)
    return trace()


def _neuron(channels: int, threshold: int = 1) -> Neuron:
    return Neuron("lif", np.full(channels, threshold), leak_shift=1, fraction_bits=16)
