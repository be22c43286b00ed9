"""Batch-norms and scalings into what stands around them, exactly.

An affine node goes into the convolution or linear layer before it; or, if it is one number above zero, into the factor
of the sum or product before it; or into the layers behind it. Where none of that is possible it becomes a layer of its
own with one weight per channel. What inverts spikes (``1 - x``) becomes such a layer with neurons, so that it gives
spikes again.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from archsim.export.network import SCALED, Network, Node, Real
from archsim.export.neuron_rules import SpikingNeuron

LAYERS = ("conv2d", "linear")


def fold(network: Network) -> None:
    """Take all affine nodes out of the network."""
    for name in list(network.nodes):
        node = network.nodes[name]
        if node.op == "affine" and not _into_source(network, node) and not _into_readers(network, node):
            _as_layer(network, node)


def _into_source(network: Network, node: Node) -> bool:
    """Into the layer, the sum or the product before it, if nothing else reads that."""
    assert node.weight is not None
    source = network.nodes[node.inputs[0]]
    if len(network.readers(source.name)) > 1:
        return False
    shift = np.zeros(len(node.weight)) if node.bias is None else node.bias
    if source.op in LAYERS:
        assert source.weight is not None
        gain = node.weight.reshape(-1, *(1,) * (source.weight.ndim - 1))
        bias = 0.0 if source.bias is None else source.bias * node.weight
        new = replace(source, weight=source.weight * gain, bias=bias + shift)
    elif source.op in SCALED and node.weight.min() == node.weight.max() > 0 and not shift.any():
        new = replace(source, weight=np.array(source.factor * node.weight[0]))
    else:
        return False
    network.nodes[source.name] = new
    if node.name in network.recorded:
        network.recorded[source.name] = network.recorded.pop(node.name)
    network.remove(node.name, instead=source.name)
    return True


def _into_readers(network: Network, node: Node) -> bool:
    """Into all that read it, if those are layers, and none pads what it shifts with zeros; or sums and products, if it
    is one number above zero."""
    assert node.weight is not None
    shift = np.zeros(len(node.weight)) if node.bias is None else node.bias
    readers = network.readers(node.name)
    uniform = bool(node.weight.min() == node.weight.max() > 0) and not shift.any()
    if not readers or any(
        reader.op not in (*LAYERS, "affine", *(SCALED if uniform else ())) or (shift.any() and _sees_zeros(reader))
        for reader in readers
    ):
        return False
    for reader in readers:
        if reader.op in SCALED:
            gain = node.weight[0] ** reader.inputs.count(node.name)
            network.nodes[reader.name] = replace(reader, weight=np.array(reader.factor * gain))
            continue
        assert reader.weight is not None
        bias = np.zeros(len(reader.weight)) if reader.bias is None else reader.bias
        if reader.op == "affine":
            new = replace(reader, weight=reader.weight * node.weight, bias=reader.weight * shift + bias)
        else:
            by_channel = reader.weight.reshape(reader.groups, len(reader.weight) // reader.groups, -1)
            gain, added = (_by_input(reader, values, by_channel.shape[2]) for values in (node.weight, shift))
            weight = (by_channel * gain).reshape(reader.weight.shape)
            new = replace(
                reader, weight=weight,
                bias=(by_channel * added).sum(2).reshape(-1) + bias if shift.any() else reader.bias,
            )  # fmt: skip
        network.nodes[reader.name] = new
    network.remove(node.name, instead=node.inputs[0])
    return True


def _sees_zeros(reader: Node) -> bool:
    """Does it see places that are no input?"""
    return any(reader.padding) or "input_dilation" in reader.options


def _by_input(reader: Node, values: Real, length: int) -> Real:
    """A number a channel that ``reader`` reads, for each of the ``length`` weights of its outputs: [groups, 1, K]."""
    repeated: Real = np.repeat(values, reader.groups * length // len(values)).reshape(reader.groups, 1, length)
    return repeated


def _as_layer(network: Network, node: Node) -> None:
    """A layer with one weight per channel, in place of the node."""
    assert node.weight is not None
    source = network.nodes[node.inputs[0]]
    layer = by_channel(node.name, source, node.weight, node.bias)
    inverts = source.op == "neuron" and (node.weight == -1).all() and node.bias is not None and (node.bias == 1).all()
    if not inverts:
        network.nodes[node.name] = layer
        network.notes.append(
            f"{node.name}: a scaling that no layer around it takes in is a layer with one weight per channel"
        )
        return
    layer = replace(layer, name=f"{node.name}.currents")
    neuron = Node(node.name, "neuron", (layer.name,), node.shape, neuron=SpikingNeuron(1.0, 0.5))
    network.nodes = {
        key: other
        for name, old in network.nodes.items()
        for key, other in ([(layer.name, layer), (name, neuron)] if name == node.name else [(name, old)])
    }
    network.notes.append(f"{node.name}: 1 - {source.name} is a layer with neurons, so that it gives spikes")


def by_channel(name: str, source: Node, weight: Real, bias: Real | None = None) -> Node:
    """A layer that multiplies each channel of ``source`` by a number of its own."""
    if len(source.shape) == 3:
        return Node(
            name, "conv2d", (source.name,), source.shape, weight.reshape(-1, 1, 1, 1), bias, groups=len(weight)
        )  # fmt: skip
    return Node(name, "linear", (source.name,), source.shape, np.diag(weight), bias)
