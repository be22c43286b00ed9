"""Layers with more weights in a trace than they need: version 1 cannot sum, and knows no groups.

A sum pool, such as the global average in front of a classifier, is taken in the weights of the layer behind it, which
become as many times as many as its window has places. Grouped and depthwise convolutions are stored as dense ones. The
results are exact; what machines do for such a layer is overstated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from archsim.export.network import Network, Real


def expanded(network: Network, before: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, str]]:
    """Layers with more weights than they need, for want of sums and groups in a trace: how many times as many, and why.

    ``before`` are the shapes of the weights before sum pools went into them.
    """
    found = {}
    for node in network.nodes.values():
        if node.weight is None:
            continue
        shape = before.get(node.name, node.weight.shape)
        pooled = node.weight.size // math.prod(shape)
        # A linear layer of the model is dense whatever its weights are.
        groups = _groups_of(node.weight) if node.op == "conv2d" or node.name not in before else 1
        reasons = []
        if pooled > 1:
            sizes = [" x ".join(f"{size:,}" for size in sides) for sides in (shape, node.weight.shape)]
            reasons.append(f"{sizes[0]} weights become {sizes[1]}, {pooled} times as many, as a trace cannot sum")
        if groups > 1:
            reasons.append(f"its {groups} groups are stored as one, with {groups} times as many weights")
        if reasons:
            found[node.name] = (pooled * groups, f"{'; '.join(reasons)}; machines overstate it")
    return found


def _groups_of(weight: Real) -> int:
    """In how many groups the weights [N, C, ...] of a layer fall: blocks on the diagonal, zeros beside."""
    connected = (weight != 0).reshape(*weight.shape[:2], -1).any(2)
    (outputs, channels), (rows, columns) = connected.shape, np.nonzero(connected)
    most = math.gcd(outputs, channels) if len(rows) else 1
    return next(
        count
        for count in range(most, 0, -1)
        if most % count == 0 and (rows // (outputs // count) == columns // (channels // count)).all()
    )
