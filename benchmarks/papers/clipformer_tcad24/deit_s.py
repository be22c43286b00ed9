"""How many arrays a transformer's encoders take, and what they write, by their shapes alone.

An encoder of width d with h heads on n tokens has the matrices Q, K, V and O of d x d, the two layers of its MLP, and
of every head K^T of d/h x n and V of n x d/h, which are written for every image. A matrix of R x C values in S slices
takes

    ceil(R / rows) ceil(C / columns) S        arrays: every slice in arrays of its own, one column per value,

and twice that if values are pairs of columns. That is how published counts are made; a chip that puts all slices of a
value into one array (:mod:`archsim.dataflow.crossbar_mapping`) fills arrays better.

Shapes: DeiT-S, d = 384, 6 heads, 197 tokens, MLP of 1536, 12 encoders.
"""

from __future__ import annotations

from typing import NamedTuple


class Grid(NamedTuple):
    """Arrays of ``rows`` x ``columns`` cells of ``cell_bits`` bits."""

    rows: int
    columns: int
    cell_bits: int

    def slices(self, bits: int) -> int:
        """Slices of a value of ``bits`` bits."""
        return -(-bits // self.cell_bits)

    def arrays(self, matrix: tuple[int, int], slices: int) -> int:
        """Arrays of a matrix of (rows, columns) values in ``slices`` slices."""
        return -(-matrix[0] // self.rows) * -(-matrix[1] // self.columns) * slices


class Encoder(NamedTuple):
    """An encoder of a transformer by its shapes."""

    width: int
    heads: int
    tokens: int
    hidden: int

    def weights(self) -> list[tuple[int, int]]:
        """Matrices that stay: Q, K, V, O and the MLP."""
        return [(self.width, self.width)] * 4 + [(self.width, self.hidden), (self.hidden, self.width)]

    def written(self) -> list[tuple[int, int]]:
        """Matrices that are written for every image: K^T and V of every head."""
        head = self.width // self.heads
        return [(head, self.tokens), (self.tokens, head)] * self.heads

    def static_arrays(self, grid: Grid, bits: int) -> int:
        """Arrays of the weights of ``bits`` bits."""
        return sum(grid.arrays(matrix, grid.slices(bits)) for matrix in self.weights())

    def dynamic_arrays(self, grid: Grid, bits: int) -> int:
        """Arrays of what is written with ``bits`` bits."""
        return sum(grid.arrays(matrix, grid.slices(bits)) for matrix in self.written())

    def cell_writes(self, grid: Grid, bits: int) -> int:
        """Cells that are written for an image."""
        return sum(rows * columns for rows, columns in self.written()) * grid.slices(bits)


DEIT_S = Encoder(width=384, heads=6, tokens=197, hidden=1536)
DEIT_S_ENCODERS = 12
