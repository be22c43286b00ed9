"""Spikes of small attention blocks, drawn from a seed: for Prosperity's public simulator and for archsim."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Attention(NamedTuple):
    """The sizes of a block. ``order``: which two of Q, K and V are multiplied first.

    ``kv``: K^T V, then Q with it. ``kq``: K Q^T, then V^T with it. ``softmax``: the same two products, but of 8-bit
    integers Q and of what a softmax makes of the first one.
    """

    order: str
    timesteps: int
    heads: int
    tokens: int
    width: int
    density: float


CASES = {
    "spikformer": Attention("kv", 2, 2, 64, 32, 0.15),
    "odd": Attention("kv", 3, 3, 21, 7, 0.4),
    "two_row_tiles": Attention("kv", 1, 2, 300, 40, 0.2),
    "two_column_tiles": Attention("kv", 1, 1, 150, 140, 0.1),
    "one_column": Attention("kv", 2, 1, 17, 1, 0.5),
    "one_token": Attention("kq", 2, 2, 1, 16, 0.5),
    "one_value": Attention("kq", 1, 1, 1, 1, 1.0),
    "wide_heads": Attention("kq", 2, 2, 10, 24, 0.3),
    "square": Attention("kq", 4, 2, 16, 16, 0.25),
    "silent": Attention("kv", 2, 2, 20, 9, 0.0),
    "full": Attention("kv", 1, 1, 40, 12, 1.0),
    "softmax": Attention("softmax", 2, 2, 19, 20, 0.3),
}


def operands(name: str) -> dict[str, NDArray[np.bool_]]:
    """Q, K and V of a case, each [timesteps, heads, tokens, width]."""
    case = CASES[name]
    draw = np.random.default_rng(list(CASES).index(name))
    shape = case.timesteps, case.heads, case.tokens, case.width
    return {tensor: draw.random(shape) < case.density for tensor in "qkv"}
