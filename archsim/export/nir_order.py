"""The order in which the nodes of a graph run, and where a recurrent one waits for the timestep before.

NIR lives in continuous time, where a circle of edges is an equation. In timesteps something on it must be late. As all
simulators of NIR have it, that is what comes back: with the nodes followed from the input on, the edge that leads back
to a node which is being followed. A ``Delay`` on a circle makes it late already.

What is late is the spikes, not the sums that weights make of them, wherever nobody else reads these sums: less has to
be kept, and the bias of recurrent weights counts from the first timestep on, as in the training tools.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from archsim.export.network import Node

KeyT = TypeVar("KeyT", bound=Hashable)
# What is computed of each timestep alone, and of nothing gives nothing but a bias.
_WEIGHTED = ("conv2d", "linear", "affine", "sum_pool", "rearrange")


def followed(
    readers: Mapping[KeyT, Iterable[KeyT]], roots: Iterable[KeyT]
) -> tuple[list[KeyT], set[tuple[KeyT, KeyT]]]:  # fmt: skip
    """The nodes in an order in which each follows its sources, and the edges that lead back and are left out for that.

    ``readers`` are followed in depth from one of the ``roots`` after the other.
    """
    back: set[tuple[KeyT, KeyT]] = set()
    left: list[KeyT] = []
    seen: set[KeyT] = set()
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        path: dict[KeyT, Iterator[KeyT]] = {root: iter(readers[root])}
        while path:
            current = next(reversed(path))
            for reader in path[current]:
                if reader in path:
                    back.add((current, reader))
                elif reader not in seen:
                    seen.add(reader)
                    path[reader] = iter(readers[reader])
                    break
            else:
                del path[current]
                left.append(current)
    return left[::-1], back


def settled(nodes: Mapping[str, Node], late: Iterable[str], ends: Collection[str]) -> dict[str, Node]:
    """``nodes`` in the order in which they run; ``late`` are those delays of a timestep that circles were given.

    A delay that is not needed is gone, and one behind weights stands before them, if these are not among the ``ends``
    of the network. Any delay may read a later node.
    """
    found = dict(nodes)
    for name in late:
        without = _without(found, name)
        if _in_order(without) is not None:
            found = without
    for name in late:
        while name in found and found[name].inputs[0] not in ends and (moved := _before_weights(found, name)):
            found = moved
    order = _in_order(found)
    assert order is not None, "every circle has a delay"
    return {name: found[name] for name in order}


def _without(nodes: Mapping[str, Node], name: str) -> dict[str, Node]:
    (source,) = nodes[name].inputs
    return {
        key: replace(node, inputs=tuple(source if read == name else read for read in node.inputs))
        for key, node in nodes.items()
        if key != name
    }


def _before_weights(nodes: Mapping[str, Node], name: str) -> dict[str, Node] | None:
    """The nodes with the delay ``name`` before what it reads; None if that is no weights, or read by others too."""
    weights = nodes[nodes[name].inputs[0]]
    readers = [node for node in nodes.values() if weights.name in node.inputs]
    if weights.op not in _WEIGHTED or len(readers) != 1:
        return None
    (source,) = weights.inputs
    found = {
        key: replace(node, inputs=tuple(weights.name if read == name else read for read in node.inputs))
        for key, node in nodes.items()
    }
    found[name] = replace(nodes[name], inputs=(source,), shape=nodes[source].shape)
    found[weights.name] = replace(weights, inputs=(name,))
    return found


def _in_order(nodes: Mapping[str, Node]) -> list[str] | None:
    """The names in an order in which nodes follow what they read, delays excepted; None if there is none.

    As near to the given order as possible.
    """
    waits = {
        name: 0 if node.op == "delay" else len(set(node.inputs)) for name, node in nodes.items()
    }  # fmt: skip
    readers: dict[str, list[str]] = {name: [] for name in nodes}
    for name, node in nodes.items():
        if node.op != "delay":
            for source in set(node.inputs):
                readers[source].append(name)
    order: list[str] = []
    place = {name: position for position, name in enumerate(nodes)}
    ready = [name for name in nodes if not waits[name]]
    while ready:
        ready.sort(key=place.__getitem__, reverse=True)
        name = ready.pop()
        order.append(name)
        for reader in readers[name]:
            waits[reader] -= 1
            if not waits[reader]:
                ready.append(reader)
    return order if len(order) == len(nodes) else None


def endless(nodes: Mapping[str, Node]) -> list[str]:
    """A line for a circle without neurons that fire: nothing limits what goes round on it."""
    alone = {
        name: replace(node, inputs=()) if node.op == "neuron" and _fires(node) else node for name, node in nodes.items()
    }
    readers: dict[str, list[str]] = {name: [] for name in alone}
    for name, node in alone.items():
        for source in node.inputs:
            readers[source].append(name)
    _, back = followed(readers, alone)
    return [
        f"{before}: comes back to {after} with no neurons that fire in between; allowed: with such neurons"
        for before, after in sorted(back)
    ]


def _fires(node: Node) -> bool:
    return node.neuron is not None and node.neuron.fires != "nothing"
