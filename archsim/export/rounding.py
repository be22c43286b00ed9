"""What a quantiser leaves open: bits of a layer, the step of its weights, which way each is rounded, scales of values.

:class:`Nearest` is the plain answer, for networks with bits to spare: steps cover the largest weight of each output
channel, every weight is rounded to the nearest integer. ``torch_rounding`` learns both from images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.export.network import Node, Real

TAIL = 1e-4
ACTIVATION_BITS = 8
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Form:
    """How the values of a tensor are held: the real value of one unit, and bits."""

    scale: float
    bits: int
    signed: bool

    @property
    def largest(self) -> int:
        """The largest integer."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def dtype(self) -> type[np.integer[Any]]:
        """The narrowest type that holds all."""
        few = np.int8 if self.signed else np.uint8
        return few if self.bits <= 8 else np.int16 if self.bits + (not self.signed) <= 16 else np.int32


class Nearest:
    """Weights of ``weight_bits`` in all layers, symmetric, rounded to the nearest integer; activations of 8 bits."""

    def __init__(self, weight_bits: int = 8) -> None:
        self.weight_bits = weight_bits

    @property
    def told(self) -> str:
        """How scales of a network of activations are chosen, for the trace."""
        return f"weights one per output channel; activations cover all but {TAIL:g} of the values"

    def bits(self, layer: str) -> int:
        """Bits of the weights of ``layer``."""
        return self.weight_bits

    def steps(self, layer: str, rows: Real) -> Real:
        """What an integer of each row of the weights [n, K] is worth; 0 where a row is nothing."""
        reach: Real = np.abs(rows).max(1) / ((1 << (self.bits(layer) - 1)) - 1)
        return reach

    def thresholds(self, quotients: Real) -> Real:
        """Integer thresholds for real ones in steps of the weights: so small that no weight is cut off."""
        return np.floor(quotients * (1 + 1e-12))

    def integers(self, node: Node, first: int, quotients: Real, steps: Real) -> tuple[Integers, Real]:
        """Weights [n, K] of the channels from ``first`` on, which are given in ``steps`` [n] for integer inputs, as
        integers; and what the biases [n] gain by that, in steps."""
        largest = (1 << (self.bits(node.name) - 1)) - 1
        whole = np.clip(np.round(quotients), -largest, largest).astype(np.int64)
        return whole, np.zeros(len(whole))

    def form(self, names: list[str], values: list[NDArray[Any]], signed: bool) -> Form:
        """How the ``values`` of the tensors ``names``, which have one scale, are held."""
        most = max(float(np.quantile(np.abs(part), 1 - TAIL, method="higher")) for part in values)
        return of_range(most, ACTIVATION_BITS, signed)


def of_range(most: float, bits: int, signed: bool) -> Form:
    """A form whose largest integer is worth ``most``."""
    form = Form(1.0, bits, signed)
    return Form((most or 1.0) / form.largest, bits, signed)
