"""Reads of arrays that are driven by the same inputs: sums along columns, their noise, conversion, shift and add.

A *read* is one cycle of one input: every row takes a few bits of it. All functions work on one row of ``matrix``
[rows, conversions] after the other, so that the order of additions is that of the rows, whatever the machine; rows that
are not driven are passed over. Sums are in codes of the converter behind them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.jit import inlined, kernel


class Columns(NamedTuple):
    """What is behind every conversion, float64 [conversions]: first and last code, offset [codes], worth of a code."""

    first: NDArray[np.float64]
    last: NDArray[np.float64]
    offset: NDArray[np.float64]
    worth: NDArray[np.float64]


class Disturbance(NamedTuple):
    """Noise that differs from read to read.

    ``variance`` [rows, conversions] is that of a conversion by a row driven by one step [codes^2]; ``shared``
    [rows, references] that of columns that several conversions subtract, ``reference`` int64 [conversions] which one;
    each of them has no rows where there is no such noise. ``converter`` is the converters' deviation [codes].
    """

    variance: NDArray[np.float64]
    shared: NDArray[np.float64]
    reference: NDArray[np.int64]
    converter: float


class Scratch(NamedTuple):
    """Space for a read: float64 [conversions] for sums and for variances, [references] for those that are shared."""

    sums: NDArray[np.float64]
    variance: NDArray[np.float64]
    shared: NDArray[np.float64]


@inlined
def drive(inputs: Any, rows: Any, shift: int, top: int, matrix: Any, power: int, sums: Any) -> bool:
    """Sums of the rows of ``matrix``, times the steps that drive them to the ``power`` 1 or 2; whether any is driven.

    Row i takes the bits of input ``rows[i]`` from ``shift`` on, as many as ``top`` has.
    """
    sums[:] = 0.0
    driven = False
    for i in range(len(rows)):
        steps = (np.int64(inputs[rows[i]]) >> shift) & top
        if steps:
            driven = True
            factor = np.float64(steps if power == 1 else steps * steps)
            for j in range(len(sums)):
                sums[j] += factor * matrix[i, j]
    return driven


@inlined
def disturb(inputs: Any, rows: Any, shift: int, top: int, noise: Any, normal: Any, space: Any) -> None:
    """Add noise to the sums; ``normal`` [conversions + references] is what was drawn."""
    count = len(space.sums)
    if len(noise.variance):
        drive(inputs, rows, shift, top, noise.variance, 2, space.variance)
    else:
        space.variance[:] = 0.0
    for j in range(count):
        space.sums[j] += np.sqrt(space.variance[j] + noise.converter * noise.converter) * normal[j]
    if len(noise.shared):
        drive(inputs, rows, shift, top, noise.shared, 2, space.shared)
        for j in range(len(space.shared)):
            space.shared[j] = np.sqrt(space.shared[j]) * normal[count + j]
        for j in range(count):
            space.sums[j] -= space.shared[noise.reference[j]]


@inlined
def convert(sums: Any, columns: Any, cycle_worth: float, slices: int, found: Any) -> None:
    """Read ``sums``, which are overwritten, and add what they are worth to the neurons' ``found`` [n]."""
    for j in range(len(sums)):
        code = np.floor(sums[j] + columns.offset[j] + 0.5)
        code = code if code > columns.first[j] else columns.first[j]
        sums[j] = (code if code < columns.last[j] else columns.last[j]) * columns.worth[j]
    for n in range(len(found)):
        total = 0.0
        for s in range(slices):
            total += sums[n * slices + s]
        found[n] += cycle_worth * total


@kernel
def driven_reads(inputs: Any, rows: Any, driver_bits: int, cycles: int) -> int:
    """How many reads of ``inputs`` [inputs, k] drive any of ``rows``."""
    top = (1 << driver_bits) - 1
    count = 0
    for one in range(len(inputs)):
        used = np.int64(0)
        for i in range(len(rows)):
            used |= np.int64(inputs[one, rows[i]])
        for cycle in range(cycles):
            if (used >> (cycle * driver_bits)) & top:
                count += 1
    return count


@kernel
def read(
    inputs: Any, rows: Any, driver_bits: int, cycle_worth: Any, matrix: Any, noise: Any, normal: Any, columns: Any,
    slices: int, space: Any, found: Any,
) -> None:  # fmt: skip
    """Add the products of ``inputs`` [inputs, k] to ``found`` [inputs, n].

    ``normal`` [draws, conversions + references] has a row for every read that has noise, in the order of inputs, then
    cycles: all reads if converters are noisy, else those that drive something; no rows if nothing is noisy.
    """
    top = (1 << driver_bits) - 1
    drawn = 0
    # Whether converters read zero where no current flows.
    silent = noise.converter == 0.0
    for j in range(len(columns.offset)):
        silent = silent and -0.5 <= columns.offset[j] < 0.5
    for one in range(len(inputs)):
        for cycle in range(len(cycle_worth)):
            shift = cycle * driver_bits
            driven = drive(inputs[one], rows, shift, top, matrix, 1, space.sums)
            if silent and not driven:
                continue
            if len(normal) and (driven or noise.converter > 0.0):
                disturb(inputs[one], rows, shift, top, noise, normal[drawn], space)
                drawn += 1
            convert(space.sums, columns, cycle_worth[cycle], slices, found[one])


@kernel
def record(
    inputs: Any, rows: Any, driver_bits: int, cycles: int, matrix: Any, noise: Any, normal: Any, space: Any, seen: Any
) -> None:
    """What goes into the converters, but for their offsets, into ``seen`` [inputs, cycles, conversions]."""
    top = (1 << driver_bits) - 1
    drawn = 0
    for one in range(len(inputs)):
        for cycle in range(cycles):
            shift = cycle * driver_bits
            driven = drive(inputs[one], rows, shift, top, matrix, 1, space.sums)
            if len(normal) and (driven or noise.converter > 0.0):
                disturb(inputs[one], rows, shift, top, noise, normal[drawn], space)
                drawn += 1
            for j in range(len(space.sums)):
                seen[one, cycle, j] = space.sums[j]


@kernel
def convert_recorded(seen: Any, columns: Any, cycle_worth: Any, slices: int, found: Any) -> None:
    """Add what is read of ``seen`` [inputs, cycles, conversions], which is overwritten, to ``found`` [inputs, n]."""
    for one in range(len(seen)):
        for cycle in range(len(cycle_worth)):
            convert(seen[one, cycle], columns, cycle_worth[cycle], slices, found[one])
