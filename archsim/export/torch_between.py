"""What runs between the modules of a PyTorch model, read as nodes.

Functions that only move values are called again with numbers in place of the values, which tells where they went. Sums,
scalings and shifts, joined channels and pools become nodes of their own (:mod:`archsim.export.torch_functions` lists
them). Of everything else the result is unknown, which is an error only where a layer reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from archsim.export.torch_functions import (
    ARITHMETIC,
    DROPOUTS,
    JOINS,
    KEEPS,
    MOVES,
    POOLS,
    constant,
    is_off,
    plain_name,
)
from archsim.export.torch_modules import Inexpressible, pool_fields
from archsim.export.torch_nodes import Nodes
from archsim.export.torch_tensors import ALL, Operand, Place, flat, load_torch, same_values


class Between:
    """Functions of torch as nodes of the network."""

    def __init__(self, found: Nodes) -> None:
        self.found = found

    def places(
        self, function: Any, data: Any, arguments: tuple[Any, ...], options: Mapping[str, Any],
        operands: list[Operand], results: list[Any],
    ) -> list[Place | None]:  # fmt: skip
        """What the results hold; None is nothing that a trace knows."""
        name = plain_name(function)
        nothing: list[Place | None] = [None] * len(results)
        first = operands[0]
        if name in MOVES or name in JOINS:
            moved = self._moved(function, data, arguments, options, operands, results)
            joined = name in JOINS and moved == [None]
            return self._joined(data, arguments, options, operands, results[0]) if joined else moved
        if len(results) != 1:
            return nothing
        if name in ARITHMETIC:
            return self._arithmetic(name, arguments, options, operands, results[0])
        if data is not first.tensor:
            return nothing
        if name in KEEPS or (name in DROPOUTS and is_off(arguments, options)):
            return [first.place] if same_values(first.values, results[0]) else nothing
        if name in POOLS:
            return self._pooled(name, arguments, options, first, results[0])
        return nothing

    def _moved(
        self, function: Any, data: Any, arguments: tuple[Any, ...], options: Mapping[str, Any],
        operands: list[Operand], results: list[Any],
    ) -> list[Place | None]:  # fmt: skip
        """Where the values of ``data`` went: the function moves their numbers instead.

        A value's number is its place in its node's tensor, plus that tensor's size times its timestep.
        """
        torch = load_torch()
        nothing: list[Place | None] = [None] * len(results)
        tensors = [item for item in flat(data) if isinstance(item, torch.Tensor)]
        moving = [operand for operand in operands if any(operand.tensor is item for item in tensors)]
        timed = {operand.place.time is not None for operand in moving}
        nodes = {operand.place.node for operand in moving}
        if not len(operands) == len(moving) == len(tensors) or len(timed) != 1 or len(nodes) != 1:
            return nothing
        (node,) = nodes
        size = self.found.images * int(np.prod(self.found.nodes[node or ""].shape))
        numbers = {}
        for operand in moving:
            steps = self.found.timesteps if operand.place.time == ALL else 1
            if operand.values.numel() != steps * size:
                return nothing
            first = size * max(operand.place.time or 0, 0)
            numbers[id(operand.tensor)] = torch.arange(first, first + steps * size).reshape(operand.shape)
        # Copies, as the function may work in place.
        copies = [numbers[id(item)].clone() for item in tensors]
        instead = copies[0] if isinstance(data, torch.Tensor) else copies
        keywords = {key: instead if value is data else value for key, value in options.items()}
        moved = function(*((instead, *arguments[1:]) if arguments else ()), **keywords)
        places = []
        for result, item in zip(results, flat(moved), strict=True):
            found = self._place_of(item.reshape(-1).numpy(), size, timed == {True})
            same = len(moving) == 1 and torch.equal(item.reshape(-1), numbers[id(moving[0].tensor)].reshape(-1))
            place = moving[0].place if same else None if found is None else Place(node, found)
            # A view of another type reads the bits as other values.
            places.append(place if result.dtype == moving[0].values.dtype else None)
        return places

    def _place_of(self, numbers: np.ndarray, size: int, timed: bool) -> int | None:
        """The timestep of values with these numbers, or ALL; None if they are not all of a timestep, in order."""
        whole = np.arange(self.found.timesteps * size)
        if np.array_equal(numbers, whole if timed else whole % size):
            return ALL
        if not timed or len(numbers) != size:
            return None
        t = int(numbers[0]) // size
        return t if np.array_equal(numbers, whole[t * size : (t + 1) * size]) else None

    def _joined(
        self, data: Any, arguments: tuple[Any, ...], options: Mapping[str, Any], operands: list[Operand], result: Any
    ) -> list[Place | None]:
        """Tensors side by side in their channels."""
        shapes = [self.found.shape(operand) for operand in operands]
        axis = options.get("dim", options.get("axis", arguments[1] if len(arguments) > 1 else 0))
        as_made = all(
            operand.shape[-len(shape) :] == shape and len(shape) == len(shapes[0])
            for operand, shape in zip(operands, shapes, strict=True)
        )
        if len(operands) != len(list(flat(data))) or not as_made or axis % result.ndim != result.ndim - len(shapes[0]):
            return [None]
        return self._combined("concat", operands, (sum(shape[0] for shape in shapes), *shapes[0][1:]), result)

    def _combined(self, op: str, operands: list[Operand], shape: tuple[int, ...], result: Any) -> list[Place | None]:
        times = {operand.place.time for operand in operands if operand.place.time is not None}
        if len(times) > 1 or (ALL in times and any(operand.place.time is None for operand in operands)):
            return [None]
        count = sum(1 for node in self.found.nodes.values() if node.op == op) + 1
        return [*self.found.made(f"{op}{count}", (op,), op, operands, shape, {}, result)]

    def _arithmetic(
        self, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any], operands: list[Operand], result: Any
    ) -> list[Place | None]:
        """Sums of tensors, and tensors scaled or shifted by constants."""
        given = {**dict(zip(("input", "other"), arguments, strict=False)), **options}
        alpha, rounding = given.pop("alpha", 1), given.pop("rounding_mode", None)
        operation, swapped = ARITHMETIC[name]
        terms = [given.pop("input", None), *([given.pop("other", None)] if operation != "neg" else [])]
        if given or rounding or len(arguments) > len(terms):
            return [None]
        if not all(any(operand.tensor is term for term in terms) for operand in operands):
            return [None]
        terms = terms[::-1] if swapped else terms
        # The last term is the one that alpha scales.
        factors = [1.0, *([-alpha if operation == "sub" else alpha] if len(terms) > 1 else [])]
        if len(operands) == 2:
            if operation not in ("add", "sub") or self._differ(operands):
                return [None]
            left, right = (next(item for item in operands if item.tensor is term) for term in terms)
            if factors[1] != 1:
                values = factors[1] * right.values
                (place,) = self._scaled(right, operation, factors[1], 0.0, values)
                right = replace(right, place=place or right.place, values=values)
            return self._combined("add", [left, right], self.found.shape(left), result)
        (operand,) = operands
        own = next(index for index, term in enumerate(terms) if term is operand.tensor)
        shape = self.found.shape(operand)
        if result.shape != operand.shape:
            return [None]
        other = constant(0.0 if operation == "neg" else terms[1 - own], operand.shape, shape)
        if other is None or (operation == "div" and (own == 1 or not other.all())):
            return [None]
        match operation:
            case "neg":
                weight, bias = np.array(-1.0), other
            case "mul":
                weight, bias = other, np.array(0.0)
            case "div":
                weight, bias = 1 / other, np.array(0.0)
            case _:
                weight, bias = np.array(factors[own]), factors[1 - own] * other
        return self._scaled(operand, operation, weight, bias, result)

    def _differ(self, operands: list[Operand]) -> bool:
        """Are two tensors of different shapes, or in another shape than their nodes'?"""
        first, second = (self.found.shape(operand) for operand in operands)
        return operands[0].shape != operands[1].shape or first != second

    def _scaled(self, operand: Operand, operation: str, weight: Any, bias: Any, result: Any) -> list[Place | None]:
        """``weight x + bias``, numbers or one for each channel."""
        source = self.found.nodes[operand.place.node or ""]
        weight, bias = (np.array(np.broadcast_to(values, source.shape[:1]), np.float64) for values in (weight, bias))
        if (weight == 1).all() and not bias.any():
            return [operand.place] if same_values(operand.values, result) else [None]
        use = ("affine", weight.tobytes(), bias.tobytes())
        fields = {"weight": weight, "bias": bias}
        return [*self.found.made(f"{source.name}.{operation}", use, "affine", [operand], source.shape, fields, result)]

    def _pooled(
        self, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any], operand: Operand, result: Any
    ) -> list[Place | None]:
        source = self.found.nodes[operand.place.node or ""]
        op, parameters = POOLS[name]
        if operand.shape[-len(source.shape) :] != source.shape:
            return [None]
        try:
            given = {**dict(zip(("input", *parameters), arguments, strict=False)), **options}
            fields = pool_fields(op, source.shape, **{key: value for key, value in given.items() if key != "input"})
        except Inexpressible as reason:
            return [Place(None, None, f"the output of torch's {name}() ({reason})")]
        use = (name, str(fields))
        return [*self.found.made(f"{source.name}.pool", use, op, [operand], tuple(result.shape[-3:]), fields, result)]
