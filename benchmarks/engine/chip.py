"""A many-core chip of 128 cores, 131,072 neurons and 100 timesteps: what its engine does in a second.

*synthetic*: two convolutional layers of random weights read random spikes; thresholds are such that a twentieth of all
neurons fires in a step. *vgg16*: the trained and pruned network on 25 test images of 4 timesteps each; of it a chain of
seven layers, conv3 to pool3, 126,976 neurons, which is as many as the chip has room for; what they read comes from the
host. The chip simulates every message buffer by buffer; ``waits_percent`` of its cycles the critical core waits for
messages, so buffers are full most of the time, which costs most.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from clock import Row
from machines import on_the_processor

from archsim.simulate import load_accelerator
from archsim.trace import Neuron, Operation, Trace, load_trace
from archsim.trace.neurons import fire
from archsim.trace.resimulation import currents_of, given, run_images

WORKLOADS = Path(__file__).resolve().parents[2] / "workloads"
MACHINES = {"manycore": ["pe.count=128", "noc.rows=8", "noc.columns=4"], "loihi1": []}
TIMESTEPS, SIDE, CHANNELS, RATE = 100, 64, (2, 16, 16), 0.05
IMAGES, CHAIN = 25, ("conv3", "conv4", "pool2", "conv5", "conv6", "conv7", "pool3")


def rows() -> Iterator[Row]:
    """A row for each network and chip."""
    for network, trace, names in (("synthetic", synthetic(), ("layer0", "layer1")), ("vgg16", trained(), CHAIN)):
        for machine, settings in MACHINES.items():
            yield {"network": network, "machine": machine, **row(machine, settings, trace, names)}


def row(name: str, settings: Sequence[str], trace: Trace, chosen: Sequence[str]) -> Row:
    """The ``chosen`` layers on a chip, with as many neurons on each core of a layer."""
    machine = load_accelerator(name, [*settings, "scheduler.mapping=neurons"]).specialised_for(trace)
    operations = [trace.operation(operation) for operation in chosen]
    with on_the_processor():
        for _ in range(2):
            layers = list(machine.run_layers(trace, operations, "compiled", verify=True, record=False))

    def total(event: str) -> int:
        return sum(layer.events[event] for layer in layers)

    cycles, spent = sum(layer.share for layer in layers), sum(layer.engine_wall_s for layer in layers)
    performed = sum(layer.performed_operations for layer in layers)
    fired = [trace.tensor(operation.output) for operation in operations]
    neurons, steps = sum(spikes[0, 0].size for spikes in fired), trace.timesteps * trace.images
    return {
        "cores": total("cores"),
        "neurons": neurons,
        "timesteps": steps,
        "rate_percent": 100 * sum(int(spikes.sum()) for spikes in fired) / (neurons * steps),
        "mismatches": sum(layer.mismatches for layer in layers),
        "cycles": cycles,
        "waits_percent": 100 * total("critical_network_cycles") / cycles,
        "synaptic_operations": performed,
        "messages": total("messages"),
        "hops": total("hops"),
        "engine_processor_s": spent,
        "operations_per_s": performed / spent,
        "hops_per_s": total("hops") / spent,
    }


def trained() -> Trace:
    """VGG16 on test images."""
    network, tests = (load_trace(WORKLOADS / f"{name}.npz") for name in ("vgg16_dual_sparse", "vgg9_evaluation"))
    assert tests.evaluation is not None, "it has test images, of the same data set"
    images = tests.evaluation.images[:IMAGES]
    made = {**given(network, images), **run_images(network, images)}
    operations = [network.operation(name) for name in CHAIN]
    read = {name for operation in operations for name in (*operation.inputs, operation.output)}
    return Trace(
        network="vgg16", timesteps=network.timesteps, operations=operations,
        tensors={name: made[name] for name in made if name in read}, provenance=network.provenance,
    )  # fmt: skip


def synthetic() -> Trace:
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
