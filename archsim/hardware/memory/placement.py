"""Where fibers lie in memory: whole lines each, one fiber behind the other or all lines of a fiber in one bank."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Placement(NamedTuple):
    """First line of every fiber, int64 [fibers], lines ``stride`` apart; ``free`` is the first line behind them all."""

    line: NDArray[np.int64]
    stride: int
    free: int


def interleaved(sizes: NDArray[np.int64], line_bytes: int, base: int = 0) -> Placement:
    """Fibers of ``sizes`` bytes one behind the other from line ``base`` on, so that their lines take banks in turn."""
    ends = base + np.cumsum(-(-sizes // line_bytes))
    return Placement(np.concatenate(([base], ends[:-1])), 1, int(ends[-1]))


def by_bank(sizes: NDArray[np.int64], line_bytes: int, banks: int) -> Placement:
    """Fiber i in bank ``i mod banks``, its lines ``banks`` apart; banks fill at their own pace, from line 0 on."""
    lines = -(-sizes // line_bytes)
    first = np.empty(len(sizes), np.int64)
    depth = 0
    for bank in range(min(banks, len(sizes))):
        ends = np.cumsum(lines[bank::banks])
        first[bank::banks] = (ends - lines[bank::banks]) * banks + bank
        depth = max(depth, int(ends[-1]))
    return Placement(first, banks, depth * banks)


class Tensor(NamedTuple):
    """A tensor in memory: fiber i has ``size[i]`` bytes and begins in line ``line[i]``; its lines are ``stride`` apart.

    ``row`` is the tensor's row in the traffic table.
    """

    line: NDArray[np.int64]
    size: NDArray[np.int64]
    stride: int
    row: int

    def reordered(self, order: NDArray[np.int64]) -> Tensor:
        """The same tensor, its fibers numbered anew: fiber i is what was fiber ``order[i]``."""
        return self._replace(line=self.line[order], size=self.size[order])


class LineSpec(NamedTuple):
    """Lines as agents ask for them: ``line_bytes = 1 << line_shift``, beats of ``1 << beat_shift`` bytes.

    ``burst`` is the most lines that an agent asks for at once. A DMA has ``lanes``, each with ``share`` lines on their
    way (:func:`archsim.dataflow.parts.in_flight`).
    """

    line_bytes: int
    line_shift: int
    beat_shift: int
    burst: int
    lanes: int
    share: int


DMA_LANES = 16
"""Most lanes of a DMA; each asks for its next lines when the last of those before is there."""


def line_spec(line_bytes: int, width_bits: int, burst: int, in_flight: int) -> LineSpec:
    """Of lines whose bytes, and bytes of ``width_bits``, are powers of two; ``in_flight`` can be on their way."""
    lanes = min(DMA_LANES, in_flight)
    line_shift, beat_shift = line_bytes.bit_length() - 1, (width_bits // 8).bit_length() - 1
    return LineSpec(line_bytes, line_shift, beat_shift, min(burst, in_flight), lanes, in_flight // lanes)


class Placer:
    """Places tensors one behind the other, from line 0 on."""

    def __init__(self, line_bytes: int) -> None:
        self.line_bytes = line_bytes
        self.free = 0
        self.rows = 0

    def place(self, sizes: NDArray[np.int64], *, rows: int = 1, banks: int = 0) -> Tensor:
        """A tensor of fibers of ``sizes`` bytes, in the next ``rows`` rows of the traffic table, of which it has the
        first.

        Its lines take all banks in turn; with ``banks``, all lines of a fiber are in one bank, those of fiber i in bank
        ``i mod banks``.
        """
        flat, row = np.ascontiguousarray(sizes, np.int64).ravel(), self.rows
        if banks:
            base = -(-self.free // banks) * banks
            found = by_bank(flat, self.line_bytes, banks)
            found = Placement(found.line + base, found.stride, found.free + base)
        else:
            found = interleaved(flat, self.line_bytes, self.free)
        self.free, self.rows = found.free, self.rows + rows
        return Tensor(found.line, flat, found.stride, row)

    def place_again(self, sizes: NDArray[np.int64]) -> Tensor:
        """A tensor of fibers of ``sizes`` bytes that counts in the row of the one before: what belongs to it."""
        return self.place(sizes, rows=0)._replace(row=self.rows - 1)

    def place_abreast(self, sizes: NDArray[np.int64], banks: int) -> Tensor:
        """A tensor of groups of fibers, ``sizes`` [groups, fibers] bytes, in the next row of the traffic table.

        Fibers of a group take turns, line by line, from bank 0 of ``banks`` on; a group ends where its longest does.
        """
        first, fibers = -(-self.free // banks) * banks, sizes.shape[1]
        longest = -(-sizes.max(1) // self.line_bytes) * self.line_bytes
        found = interleaved(longest * fibers, self.line_bytes, first)
        line = (found.line[:, None] + np.arange(fibers)).ravel()
        self.free, self.rows = found.free, self.rows + 1
        return Tensor(line, np.ascontiguousarray(sizes, np.int64).ravel(), fibers, self.rows - 1)
