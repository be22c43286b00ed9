"""Gates: activations that are x times a share F(x) of it, GELU, SiLU and their like; and what a softmax weighs by.

F(x) lies between 0 and 1, and F(-x) = 1 - F(x). So it is a softmax of two channels, x and 0, whose table holds the odds
F(-t) / F(t) instead of exponentials: of x above 0 the channels weigh 1 and these odds, and 1 over their sum is F(x);
below 0 they weigh the same the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]


_ERFC = np.vectorize(math.erfc, otypes=[np.float64])


def _normal(x: Real) -> Real:
    tail: Real = _ERFC(-x / math.sqrt(2)) / 2
    return tail


def _tanh_of_gelu(x: Real) -> Real:
    return _logistic(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))


def _logistic(x: Real) -> Real:
    return 0.5 + 0.5 * np.tanh(x / 2)


def _hard(x: Real) -> Real:
    return np.clip(x / 6 + 0.5, 0.0, 1.0)


# F by the name of the activation in torch.
_SHARES: dict[str, Callable[[Real], Real]] = {
    "gelu": _normal, "gelu_tanh": _tanh_of_gelu, "silu": _logistic, "hardswish": _hard,
}  # fmt: skip
GATES = tuple(_SHARES)


def _exponential(t: Real) -> Real:
    found: Real = np.exp(-t)
    return found


def _odds(kind: str) -> Callable[[Real], Real]:
    def odds(t: Real) -> Real:
        return share(kind, -t) / share(kind, t)

    return odds


# What a softmax makes of the distance t from the largest channel, before it divides by the sum.
CURVES: dict[str, Callable[[Real], Real]] = {"exponential": _exponential, **{kind: _odds(kind) for kind in GATES}}


def share(kind: str, x: Real) -> Real:
    """F(x) of the gate ``kind``."""
    return _SHARES[kind](x)
