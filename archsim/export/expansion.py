"""What models have as one step and a trace as several: gates, and averages with other divisors at the edges.

gate   x [C, H, W] -> rearrange [1, C H W, 1] -> concat with zeros -> softmax -> slice -> rearrange -> multiply by x
pool   sums of windows -> multiply by a constant [1, H', W'] that holds the reciprocal of each window's divisor
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from archsim.export.network import Network, Node

# Reciprocals of divisors are multiples of one over their least common multiple, as far as 15 bits hold that.
LARGEST_WHOLE = (1 << 15) - 1


def expand(network: Network) -> None:
    """Write the steps of every gate and of such pools in their place."""
    nodes: dict[str, Node] = {}
    for node in network.nodes.values():
        for part in _parts(node):
            nodes[part.name] = part
    network.nodes = nodes


def _parts(node: Node) -> tuple[Node, ...]:
    if node.op == "gate":
        return _gate(node)
    return _pool(node) if "divisors" in node.options else (node,)


def _gate(node: Node) -> tuple[Node, ...]:
    (source,), size, kind = node.inputs, math.prod(node.shape), node.options["kind"]
    line, pair = (1, size, 1), (2, size, 1)
    names = [f"{node.name}.{part}" for part in ("line", "zero", "pair", "shares", "share", "factor")]
    as_line, zero, both, shares, taken, factor = (replace(node, name=name, options={}, shape=line) for name in names)
    return (
        replace(as_line, op="rearrange", options={"view": (size,), "order": (0,), "shape": line}),
        replace(zero, op="constant", inputs=(), weight=np.zeros(line)),
        replace(both, op="concat", inputs=(names[0], names[1]), shape=pair),
        replace(shares, op="softmax", inputs=(names[2],), shape=pair, options={"kind": kind}),
        replace(taken, op="slice", inputs=(names[3],), options={"axis": 0, "start": 0, "stop": 1}),
        replace(factor, op="rearrange", inputs=(names[4],), shape=node.shape,
                options={"view": (size,), "order": (0,), "shape": node.shape}),
        replace(node, op="multiply", inputs=(source, names[5]), options={}),
    )  # fmt: skip


def _pool(node: Node) -> tuple[Node, ...]:
    divisors = node.options["divisors"]
    shares = Node(f"{node.name}.shares", "constant", (), divisors.shape, 1 / divisors)
    whole = math.lcm(*np.unique(divisors).tolist())
    if whole <= LARGEST_WHOLE:
        shares = replace(shares, options={"unit": 1 / whole})
    sums = replace(node, name=f"{node.name}.sums", weight=None, options={})
    return sums, shares, Node(node.name, "multiply", (sums.name, shares.name), node.shape, node.weight)
