"""Crossbar array: weights as cell levels, a product of spikes and weights as sums along columns.

A cell at (row, column) holds a level of ``cell_bits`` bits. Rows are inputs, driven or not, one timestep at a time;
every column sums the levels of its driven rows. A weight of b bits takes the columns

    offset      level = w, or w + 2^(b-1) if w < 0, in ceil((b-1) / cell_bits) slices of a column each; for every driven
                row with w < 0 the digital side subtracts 2^(b-1) (one sign bit per weight and a population count)
    difference  |w| in ceil((b-1) / cell_bits) slices of two columns each, one for w > 0 and one for w < 0

so zero weights are zero cells in both, and with *factors* f_c = +-2^(cell_bits x slice) of the columns c of a weight

    y[n] = sum over row groups g, columns c of  f_c convert(v[g, n, c])  +  sum over driven rows of correction[k, n].

A *group* is what is summed before a converter: the rows of one array, or of several whose currents are joined. With a
lossless converter y is the integer product exactly.

Rows are cut into arrays kernel position by kernel position: array (block of ``rows`` channels, kernel row, kernel
column). Sources: SpikeSim, NICE_Evaluation (offset as its two's complement there; four parallel devices R to R/8 make a
cell of 4 bits); ela_spikesim.py (k x k arrays for a block of channels).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.hardware.analog.adc import convert
from archsim.hardware.fields import Count
from archsim.hardware.loading import Block
from archsim.jit import kernel

Scheme = Literal["offset", "difference"]


class CrossbarArrayConfig(Block):
    """One crossbar array."""

    rows: Count = Field(description="rows: inputs of an array")
    columns: Count = Field(description="columns of an array")
    cell: Literal["rram", "sram"] = Field(description="what a cell is made of")
    cell_bits: int = Field(ge=1, le=8, description="bits of a cell's level")
    signed: Scheme = Field(description="how a negative weight is stored: offset and digital correction, or two columns")
    drive_cycles: int = Field(ge=1, le=1024, description="cycles to drive the rows")
    read_cycles: int = Field(ge=1, le=1024, description="cycles until the columns' currents have settled and are held")

    @property
    def full_scale(self) -> int:
        """The largest sum of a column: every row driven, every cell at its highest level."""
        return self.rows * ((1 << self.cell_bits) - 1)

    def columns_per_weight(self, weight_bits: int) -> int:
        """Columns that a weight of ``weight_bits`` bits takes."""
        return len(factors(weight_bits, self.cell_bits, self.signed))


class Cells(NamedTuple):
    """Programmed weights, row by row: those of row k are entries ``start[k]`` to ``start[k + 1]``, zeros left out.

    ``start`` int64 [K + 1]; ``output`` int64 [entries], the neuron n; ``level`` int64 [entries, columns of a weight];
    ``correction`` int64 [entries], what the digital side adds when the row is driven; ``factor`` int64 [columns].
    """

    start: NDArray[np.int64]
    output: NDArray[np.int64]
    level: NDArray[np.int64]
    correction: NDArray[np.int64]
    factor: NDArray[np.int64]


def factors(weight_bits: int, cell_bits: int, scheme: Scheme) -> NDArray[np.int64]:
    """What a unit of each column of a weight is worth, int64 [columns of a weight]."""
    slices = np.int64(1) << np.arange(0, max(1, weight_bits - 1), cell_bits)
    return slices if scheme == "offset" else np.stack([slices, -slices], 1).ravel()


def program_cells(weight: NDArray[Any], weight_bits: int, cell_bits: int, scheme: Scheme) -> Cells:
    """The cells of integer weights [N, K], each within -2^(bits-1) .. 2^(bits-1) - 1.

    ValueError for a weight outside; -2^(bits-1) itself has no magnitude of bits - 1 bits and is outside of difference.
    """
    half = 1 << (weight_bits - 1)
    lowest = -half if scheme == "offset" else 1 - half
    rows, outputs = np.nonzero(weight.T)
    values = weight[outputs, rows].astype(np.int64)
    if len(values) and not lowest <= values.min() <= values.max() < half:
        raise ValueError(f"weights from {values.min()} to {values.max()}; allowed: {lowest} to {half - 1}")
    factor = factors(weight_bits, cell_bits, scheme)
    if scheme == "offset":
        correction = np.where(values < 0, -half, 0)
        stored = (values - correction)[:, None]
    else:
        correction = np.zeros_like(values)
        stored = np.stack([np.maximum(values, 0), np.maximum(-values, 0)], 1)[:, np.arange(len(factor)) % 2]
    level = stored // np.abs(factor) & (1 << cell_bits) - 1
    start = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=weight.shape[1]))))
    return Cells(start, outputs.astype(np.int64), np.ascontiguousarray(level), correction, factor)


def cut_rows(channels: int, kernel: tuple[int, int], rows: int) -> NDArray[np.int64]:
    """Array of every input k, int64 [K], K ordered (channel, kernel row, kernel column) as everywhere."""
    positions = kernel[0] * kernel[1]
    channel, position = np.divmod(np.arange(channels * positions), positions)
    return channel // rows * positions + position


def groups_together(groups: int, inputs: int, outputs: int, rows: int, columns: int) -> int:
    """How many of the ``groups`` of a layer stand in an array side by side, each with ``inputs`` of its ``rows`` and
    ``outputs`` of its ``columns`` weights: the most that fit and divide the groups, at least one.

    Cells where the rows of a group meet the columns of another hold zero.
    """
    most = min(rows // inputs, columns // outputs, groups)
    return max((count for count in range(1, most + 1) if groups % count == 0), default=1)


@kernel
def multiply(words: Any, order: Any, group_start: Any, cells: Any, span: int, top: int, scratch: Any, touched: Any,
             sums: Any) -> int:  # fmt: skip
    """Add the products of packed spikes ``words`` uint16 [rows, K] and ``cells`` to ``sums`` int64 [rows, N, T].

    ``order`` int64 [K] lists the inputs group by group, group g at ``group_start[g]`` to ``group_start[g + 1]``.
    ``scratch`` int64 [N, columns of a weight + 1] is zero before and after, ``touched`` int64 [N]. Returns the largest
    column sum.
    """
    rows, _, timesteps = sums.shape
    columns = len(cells.factor)
    largest = 0
    for row in range(rows):
        for t in range(timesteps):
            for group in range(len(group_start) - 1):
                found = 0
                for i in range(group_start[group], group_start[group + 1]):
                    k = order[i]
                    if not (np.int64(words[row, k]) >> t) & 1:
                        continue
                    for j in range(cells.start[k], cells.start[k + 1]):
                        n = cells.output[j]
                        sums[row, n, t] += cells.correction[j]
                        if scratch[n, columns] == 0:
                            scratch[n, columns] = 1
                            touched[found] = n
                            found += 1
                        for c in range(columns):
                            scratch[n, c] += cells.level[j, c]
                for i in range(found):
                    n = touched[i]
                    for c in range(columns):
                        largest = max(largest, scratch[n, c])
                        sums[row, n, t] += cells.factor[c] * convert(scratch[n, c], span, top)
                        scratch[n, c] = 0
                    scratch[n, columns] = 0
    return largest


def product(
    words: NDArray[np.uint16], group: NDArray[np.int64], cells: Cells, span: int, top: int, sums: NDArray[np.int64]
) -> int:
    """:func:`multiply` with the inputs' groups int64 [K] instead of their order."""
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], np.arange(int(group.max()) + 2))
    scratch = np.zeros((sums.shape[1], len(cells.factor) + 1), np.int64)
    touched = np.zeros(sums.shape[1], np.int64)
    return int(multiply(words, order, first.astype(np.int64), cells, span, top, scratch, touched, sums))
