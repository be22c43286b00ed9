"""Products of a layer on crossbar arrays of levels: operands bit by bit, column sums as their converters see them.

Rows of an array are driven or not (:mod:`archsim.hardware.analog.crossbar_array`). Spikes drive them as they are; a
value of b bits drives them b times, in two's complement, and the digital side shifts and adds what is read. The width b
is that of the values that the trace recorded; larger ones saturate. Groups of a layer never meet in a column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.crossbar_inputs import as_maps
from archsim.dataflow.pieces import digits
from archsim.hardware.analog.adc import AdcConfig
from archsim.hardware.analog.crossbar_array import CrossbarArrayConfig, cut_rows, product, program_cells
from archsim.trace import Operation
from archsim.trace.window import Window

AT_ONCE = 16
"""Parts of inputs in a word."""


class ArrayProduct:
    """Weights [G, N, K] in the cells of arrays, columns of which ``joined`` arrays are converted together."""

    def __init__(
        self, weight: NDArray[Any], kernel: tuple[int, int], weight_bits: int, array: CrossbarArrayConfig,
        adc: AdcConfig, joined: int,
    ) -> None:  # fmt: skip
        self._groups, self._outputs, self._inputs = weight.shape
        self._group = cut_rows(self._inputs // (kernel[0] * kernel[1]), kernel, array.rows) // joined
        self._cells = [program_cells(one, weight_bits, array.cell_bits, array.signed) for one in weight]
        self._full, self._adc = array.full_scale * joined, adc
        self._span, self._top = adc.span(self._full, 0), (1 << adc.width(self._full)) - 1

    def calibrate(self, recorded: Iterator[NDArray[np.uint16]], columns: int) -> None:
        """Let converters span what ``recorded`` words [M, G K] of at most ``columns`` parts cause."""
        if self._adc.range != "calibrated" or self._adc.is_lossless(self._full):
            return
        largest = 0
        for words in recorded:
            unused = np.zeros((len(words), self._groups * self._outputs, columns), np.int64)
            largest = max(largest, self._multiply(words, self._full, self._full, unused))
        self._span = self._adc.span(self._full, largest)

    def multiply(self, words: NDArray[np.uint16], sums: NDArray[np.int64]) -> None:
        """Add the products of ``words`` uint16 [M, G K] to ``sums`` int64 [M, G N, parts]."""
        self._multiply(words, self._span, self._top, sums)

    def _multiply(self, words: NDArray[np.uint16], span: int, top: int, sums: NDArray[np.int64]) -> int:
        largest = 0
        for number, cells in enumerate(self._cells):
            rows = np.ascontiguousarray(words[:, number * self._inputs : (number + 1) * self._inputs])
            at = slice(number * self._outputs, (number + 1) * self._outputs)
            part = np.ascontiguousarray(sums[:, at])
            largest = max(largest, product(rows, self._group, cells, span, top, part))
            sums[:, at] = part
        return largest


def in_groups(weight: NDArray[Any], stored: int, groups: int) -> NDArray[Any]:
    """Weights [N, K] of ``stored`` groups as [G, N / G, K / G] of ``groups``; a dense layer may hide more."""
    n = len(weight) // groups
    by_channel = weight.reshape(len(weight), weight[0].size if weight.ndim == 2 else weight.shape[1], -1)
    if groups == stored:
        return by_channel.reshape(groups, n, -1)
    channels = by_channel.shape[1] // groups
    own = [by_channel[g * n : (g + 1) * n, g * channels : (g + 1) * channels] for g in range(groups)]
    return np.stack(own).reshape(groups, n, -1)


class LayerProduct:
    """The product of ``operation``, whose inputs the trace ``recorded`` [T, I, ...], or [1, I, ...]."""

    def __init__(self, operation: Operation, product: ArrayProduct, recorded: NDArray[Any]) -> None:
        self._operation, self._product = operation, product
        self._low, self._high = min(0, int(recorded.min())), int(recorded.max())
        self._worth = [1] if recorded.dtype == np.bool_ else digits(self._low, self._high)
        product.calibrate((words for words, _ in self._words(recorded)), AT_ONCE)

    def currents(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Sums with their bias, [T, I, N, ...], of inputs of that many timesteps."""
        operation = self._operation
        total = np.zeros((len(values), operation.m, operation.n), np.int64)
        for words, planes in self._words(values):
            sums = np.zeros((len(words), operation.n, len(planes)), np.int64)
            self._product.multiply(words, sums)
            for place, (t, worth) in enumerate(planes):
                total[t] += worth * sums[:, :, place]
        if operation.bias is not None:
            total += operation.bias
        found = total.reshape(len(values), operation.images, -1, operation.n).swapaxes(2, 3)
        return np.ascontiguousarray(found).reshape(len(values), operation.images, *operation.output_shape)

    def _words(self, values: NDArray[Any]) -> Iterator[tuple[NDArray[np.uint16], Sequence[tuple[int, int]]]]:
        """Rows [M, G K] of words, and of each part of a word its timestep and what it is worth."""
        maps = as_maps(self._operation, values)
        window = self._operation.window if self._operation.op == "conv2d" else Window()
        planes = [(t, bit) for t in range(len(maps)) for bit in range(len(self._worth))]
        for first in range(0, len(planes), AT_ONCE):
            chosen = planes[first : first + AT_ONCE]
            words = np.zeros(maps.shape[1:], np.uint16)
            for place, (t, bit) in enumerate(chosen):
                words |= self._plane(maps[t], bit).astype(np.uint16) << np.uint16(place)
            yield window.unroll(words), [(t, self._worth[bit]) for t, bit in chosen]

    def _plane(self, values: NDArray[Any], bit: int) -> NDArray[Any]:
        if values.dtype == np.bool_:
            return values
        return np.clip(values.astype(np.int64), self._low, self._high) >> bit & 1
