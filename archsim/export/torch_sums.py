"""Sums and products of tensors in any order of their values, as operations of a trace on the nodes that they hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from archsim.export.torch_modules import Inexpressible
from archsim.export.torch_nodes import Nodes
from archsim.export.torch_orders import Order, by_columns, by_rows, is_identity, meets, reduction
from archsim.export.torch_tensors import ALL, MEAN, Operand, Place


def numbered(operand: Operand, first: int, values: int) -> Any:
    """Numbers in place of a tensor's values: those of its node, plus ``values`` times the row, which begin at
    ``first``; a row is an image at a timestep."""
    order = np.arange(values) if operand.place.order is None else operand.place.order
    rows = first + np.arange(operand.values.numel() // values)
    return (rows[:, None] * values + order).reshape(operand.shape)


class Sums:
    """Functions of torch that add up or multiply."""

    def __init__(self, found: Nodes) -> None:
        self.found = found

    def combined(
        self, op: str, operands: list[Operand], shape: tuple[int, ...], fields: Mapping[str, Any], result: Any,
        order: Any = None,
    ) -> list[Place | None]:  # fmt: skip
        """The place of an operation on tensors of one time."""
        times = {operand.place.time for operand in operands if operand.place.time is not None}
        if len(times) > 1 or (ALL in times and any(operand.place.time is None for operand in operands)):
            return [None]
        count = sum(1 for node in self.found.nodes.values() if node.op == op) + 1
        use = (op, str(fields))
        kept = None if order is None or is_identity(order) else order
        return [*self.found.made(f"{op}{count}", use, op, operands, shape, fields, result, kept)]

    def _size(self, operand: Operand) -> int:
        return math.prod(self.found.shape(operand))

    def _order(self, operand: Operand) -> Order:
        order = operand.place.order
        return np.arange(self._size(operand)) if order is None else order

    def alike(self, operand: Operand, other: Operand) -> Operand:
        """``operand``, a tensor of the shape of ``other``, as a node whose values are where those of ``other`` are."""
        own, its = self._order(operand), self._order(other)
        shape = self.found.shape(other)
        if len(own) != len(its):
            raise Inexpressible("of tensors of different shapes")
        if np.array_equal(own, its) and self.found.shape(operand) == shape:
            return operand
        order = np.empty_like(own)
        order[its] = own
        kept = None if is_identity(order) else order
        arranged = self.found.arranged(replace(operand, place=operand.place._replace(order=kept)), shape)
        return replace(arranged, place=arranged.place._replace(order=other.place.order))

    def multiplied(self, operands: list[Operand], result: Any) -> list[Place | None]:
        """A product, element by element; the smaller tensor stands for several values of the larger one."""
        larger, smaller = sorted(operands, key=lambda operand: -operand.values.numel())
        if tuple(result.shape) != larger.shape:
            return [None]
        if smaller.shape == larger.shape:
            smaller = self.alike(smaller, larger)
        else:
            rows = larger.values.numel() // self._size(larger)
            if rows != smaller.values.numel() // self._size(smaller):
                return [None]
            numbers = np.broadcast_to(numbered(smaller, 0, self._size(smaller)), larger.shape)
            row, met = np.divmod(numbers.reshape(rows, -1), self._size(smaller))
            wanted = meets(self.found.shape(larger), self.found.shape(smaller))
            right = (met == met[:1]).all() and (row == np.arange(rows)[:, None]).all()
            if wanted is None or not right or not np.array_equal(wanted[self._order(larger)], met[0]):
                raise Inexpressible(
                    f"of {list(larger.shape)} and {list(smaller.shape)}; allowed: equal sides, or 1, and channels that"
                    " stand for neighbours"
                )
        shape = self.found.shape(larger)
        return self.combined("multiply", [larger, smaller], shape, {}, result, larger.place.order)

    def summed(
        self, name: str, function: Any, arguments: tuple[Any, ...], options: Mapping[str, Any], operand: Operand,
        result: Any,
    ) -> list[Place | None]:  # fmt: skip
        """A sum or mean over channels or positions."""
        size, count = self._size(operand), operand.values.numel() // max(result.numel(), 1)
        axes = options.get("dim", options.get("axis", arguments[1] if len(arguments) > 1 else None))
        axes = range(len(operand.shape)) if axes is None else axes
        reduced = sorted(
            axis % len(operand.shape) for axis in (axes if isinstance(axes, list | tuple | range) else (axes,))
        )
        if name == "mean" and operand.place.time == ALL and reduced == [0] and count == self.found.timesteps:
            note = (
                f"{operand.place.node}: its mean over timesteps is left out; what follows it is there at every timestep"
            )
            if note not in self.found.notes:
                self.found.notes.append(note)
            return [operand.place._replace(time=MEAN)]
        if count < 2 or size % count or options.get("dtype") is not None:
            return [None]
        numbers = np.moveaxis(numbered(operand, 0, size), reduced, range(-len(reduced), 0)).reshape(-1, count)
        rows, values = np.divmod(numbers, size)
        wanted = np.repeat(np.arange(operand.values.numel() // size), size // count)
        sets = np.sort(values, axis=1).reshape(-1, size // count, count)
        # Sums over timesteps or images are the model's own read-out.
        if (rows != wanted[:, None]).any() or (sets != sets[:1]).any():
            return [None]
        found = reduction(sets[0], self.found.shape(operand))
        if found is None:
            raise Inexpressible("over other values than all positions, or neighbouring channels")
        fields = {"options": found.options} | ({"weight": np.array(1 / count)} if name == "mean" else {})
        return self.combined("reduce", [operand], found.shape, fields, result, found.order)

    def product(self, operands: list[Operand], arguments: tuple[Any, ...], result: Any) -> list[Place | None]:
        """Products of matrices, as many as there are heads."""
        if len(arguments) < 2:
            return [None]
        first, second = (next((item for item in operands if item.tensor is given), None) for given in arguments[:2])
        if first is None or second is None or min(len(first.shape), len(second.shape)) < 3:
            return [None]
        (rows, inner), columns = first.shape[-2:], second.shape[-1]
        heads = self._size(first) // (rows * inner)
        if not heads or self._size(first) % (rows * inner) or self._size(second) != heads * inner * columns:
            return [None]
        left, turned_left = self._matrix(first, heads, rows, inner)
        right, turned_right = self._matrix(second, heads, inner, columns)
        source = self.found.nodes[first.place.node or ""]
        if turned_right and (turned_left or source.options.get("transpose_first")):
            # The same product, transposed: its rows are the positions of the second.
            options = {**({"heads": heads} if heads > 1 else {}), **({} if turned_left else {"transpose": True})}
            shape = (heads * rows, *self.found.shape(right)[1:])
            return self.combined("matmul", [right, left], shape, {"options": options}, result)
        positions = (rows, 1) if turned_left else self.found.shape(left)[1:]
        options = {
            **({"heads": heads} if heads > 1 else {}),
            **({"transpose_first": True} if turned_left else {}),
            **({"transpose": True} if turned_right else {}),
        }
        order = by_columns(heads, rows, columns)
        shape = (heads * columns, *positions)
        return self.combined("matmul", [left, right], shape, {"options": options}, result, order)

    def _matrix(self, operand: Operand, heads: int, rows: int, columns: int) -> tuple[Operand, bool]:
        """``operand``, matrices [heads, rows, columns], as a node that holds them, and whether transposed."""
        shape, order = self.found.shape(operand), self._order(operand)
        if len(shape) == 3 and shape[0] == heads * columns and np.array_equal(order, by_columns(heads, rows, columns)):
            return operand, False
        if len(shape) == 3 and shape[0] == heads * rows and np.array_equal(order, by_rows(heads, rows, columns)):
            return operand, True
        values = operand.values.reshape(-1, heads, rows, columns).transpose(-1, -2)
        turned = np.ascontiguousarray(order.reshape(heads, rows, columns).transpose(0, 2, 1)).reshape(-1)
        moved = replace(operand, values=values, place=operand.place._replace(order=turned))
        return self.found.arranged(moved, (heads * columns, rows, 1)), False
