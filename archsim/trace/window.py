"""Windows: which inputs an output of a convolution or a pool sees.

A map of rows and columns is stretched (``input_dilation`` - 1 zeros between neighbours), then padded, then seen through
a kernel whose taps are ``dilation`` apart and which moves by ``stride``. Per axis, of ``size`` inputs,

    stretched = (size - 1) input_dilation + 1
    span      = (kernel - 1) dilation + 1
    outputs   = floor((before + stretched + after - span) / stride) + 1

and output o sees, through tap k, the place ``p = o stride - before + k dilation`` of the stretched map: input
``p / input_dilation`` where that is an integer from 0 to ``size - 1``, and the padding's value elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]
ScalarT = TypeVar("ScalarT", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Window:
    """A kernel on its way over a map: pairs are (rows, columns), ``padding`` is (top, bottom, left, right)."""

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    input_dilation: Pair = (1, 1)

    @property
    def before(self) -> Pair:
        """Padding in front of the first row and of the first column."""
        top, _, left, _ = self.padding
        return top, left

    @property
    def span(self) -> Pair:
        """Rows and columns from the first tap of the kernel to the last."""
        (rows, columns), (down, right) = self.kernel, self.dilation
        return (rows - 1) * down + 1, (columns - 1) * right + 1

    def outputs(self, axis: int, size: int) -> int:
        """Rows (``axis`` 0) or columns of the output for a map that has ``size`` of them."""
        stretched = (size - 1) * self.input_dilation[axis] + 1
        padded = self.padding[2 * axis] + stretched + self.padding[2 * axis + 1]
        return (padded - self.span[axis]) // self.stride[axis] + 1

    def output(self, sizes: Pair) -> Pair:
        """Rows and columns of the output for a map of ``sizes``."""
        return self.outputs(0, sizes[0]), self.outputs(1, sizes[1])

    def taps(self, sizes: Pair) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which row of a map of ``sizes`` each output row sees through each row of the kernel, and the same of columns.

        int64 [output rows, kernel rows] and [output columns, kernel columns]; -1 where it is no input.
        """
        found = []
        for axis, (outputs, size) in enumerate(zip(self.output(sizes), sizes, strict=True)):
            starts = np.arange(outputs)[:, None] * self.stride[axis] - self.before[axis]
            places = starts + np.arange(self.kernel[axis]) * self.dilation[axis]
            inputs, between = np.divmod(places, self.input_dilation[axis])
            found.append(np.where((between == 0) & (inputs >= 0) & (inputs < size), inputs, -1))
        rows, columns = found
        return rows, columns

    def windows(self, values: NDArray[ScalarT], fill: float = 0) -> NDArray[ScalarT]:
        """Maps [..., H, W] as [..., output rows, output columns, kernel rows, kernel columns].

        ``fill`` is the value of what is no input.
        """
        top, bottom, left, right = self.padding
        if self.dilation == self.input_dilation == (1, 1):
            around = [(0, 0)] * (values.ndim - 2) + [(top, bottom), (left, right)]
            seen = np.pad(values, around, constant_values=fill) if any(self.padding) else values
            everywhere = np.lib.stride_tricks.sliding_window_view(seen, self.kernel, axis=(-2, -1))
            return everywhere[..., :: self.stride[0], :: self.stride[1], :, :]
        tap_rows, tap_columns = self.taps((values.shape[-2], values.shape[-1]))
        y, x = tap_rows[:, None, :, None], tap_columns[None, :, None, :]
        found = values[..., y, x]
        found[..., (y < 0) | (x < 0)] = fill
        return found

    def unroll(self, values: NDArray[ScalarT], fill: float = 0) -> NDArray[ScalarT]:
        """im2col: ``values`` [images, channels, H, W] as rows [M, K], what is no input as ``fill``.

        Rows in the order image, output row, output column; K in the order channel, kernel row, kernel column.
        """
        seen = self.windows(values, fill).transpose(0, 2, 3, 1, 4, 5)
        return seen.reshape(seen.shape[0] * seen.shape[1] * seen.shape[2], -1)

    def reach(self, rows: int) -> NDArray[np.int64]:
        """How many of a map's ``rows`` rows the kernel has touched by output row 0, 1, ...: int64 [output rows]."""
        end = np.arange(self.outputs(0, rows)) * self.stride[0] - self.padding[0] + self.span[0]
        return np.clip(-(-end // self.input_dilation[0]), 0, rows)

    def start(self, rows: int) -> NDArray[np.int64]:
        """The first of a map's ``rows`` rows that output row 0, 1, ... may touch: int64 [output rows]."""
        begin = np.arange(self.outputs(0, rows)) * self.stride[0] - self.padding[0]
        return np.clip(-(-begin // self.input_dilation[0]), 0, rows)


def sides(padding: tuple[int, ...]) -> Sides:
    """Padding (top, bottom, left, right), given like this or as (rows, columns)."""
    if len(padding) == 2:
        rows, columns = padding
        return rows, rows, columns, columns
    top, bottom, left, right = padding
    return top, bottom, left, right
