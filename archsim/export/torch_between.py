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
    PRODUCTS,
    SUMS,
    constant,
    is_off,
    plain_name,
)
from archsim.export.torch_modules import Inexpressible, pool_fields
from archsim.export.torch_nodes import Nodes
from archsim.export.torch_orders import is_identity
from archsim.export.torch_sums import Sums, numbered
from archsim.export.torch_tensors import ALL, Operand, Place, flat, load_torch, same_values


class Between:
    """Functions of torch as nodes of the network."""

    def __init__(self, found: Nodes) -> None:
        self.found = found
        self.sums = Sums(found)

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
        try:
            if name in PRODUCTS:
                return self.sums.product(operands, arguments, results[0])
            if name in ARITHMETIC:
                return self._arithmetic(name, arguments, options, operands, results[0])
            if name in SUMS and data is first.tensor:
                return self.sums.summed(name, function, arguments, options, first, results[0])
        except Inexpressible as reason:
            return [Place(None, None, f"the output of torch's {name}() ({reason})")]
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
        values = int(np.prod(self.found.nodes[node or ""].shape))
        numbers = {}
        for operand in moving:
            steps = self.found.timesteps if operand.place.time == ALL else 1
            if operand.values.numel() != steps * self.found.images * values:
                return nothing
            first = self.found.images * max(operand.place.time or 0, 0)
            numbers[id(operand.tensor)] = torch.as_tensor(numbered(operand, first, values))
        # Copies, as the function may work in place.
        copies = [numbers[id(item)].clone() for item in tensors]
        instead = copies[0] if isinstance(data, torch.Tensor) else copies
        keywords = {key: instead if value is data else value for key, value in options.items()}
        moved = function(*((instead, *arguments[1:]) if arguments else ()), **keywords)
        places: list[Place | None] = []
        for result, item in zip(results, flat(moved), strict=True):
            # A view of another type reads the bits as other values.
            same_type = result.dtype == moving[0].values.dtype
            place = self._place_of(node, item.reshape(-1).numpy(), values, timed == {True}) if same_type else None
            if place is not None and place.order is not None:
                place = place._replace(why=f"values in another order (torch's {plain_name(function)}())")
            if place is not None and len(moving) == 1 and item.numel() == moving[0].values.numel():
                place = place._replace(time=moving[0].place.time)
            if place is None and same_type and len(moving) == 1:
                place = self._part(moving[0], item.reshape(-1).numpy(), values, result)
            places.append(place)
        return places

    def _part(self, operand: Operand, numbers: np.ndarray, values: int, result: Any) -> Place | None:
        """Some channels of all images and timesteps that the operand has."""
        rows = operand.values.numel() // values
        if not len(numbers) or len(numbers) % rows:
            return None
        row, taken = np.divmod(numbers.reshape(rows, -1), values)
        first = row[0, 0] if rows else 0
        shape = self.found.shape(operand)
        positions = int(np.prod(shape[1:]))
        start, stop = int(taken[0].min()) // positions, int(taken[0].max()) // positions + 1
        whole = np.arange(start * positions, stop * positions)
        if (row != first + np.arange(rows)[:, None]).any() or (taken != taken[:1]).any():
            return None
        if not np.array_equal(np.sort(taken[0]), whole):
            return None
        order = taken[0] - start * positions
        options = {"axis": 0, "start": start, "stop": stop}
        name, use = f"{operand.place.node}.slice", ("slice", start, stop)
        (place,) = self.found.made(
            name, use, "slice", [operand], (stop - start, *shape[1:]), {"options": options}, result,
            None if is_identity(order) else order,
        )  # fmt: skip
        return place

    def _place_of(self, node: str | None, numbers: np.ndarray, values: int, timed: bool) -> Place | None:
        """The timestep and the order of values with these numbers, or None if they are not all of the inputs'."""
        if len(numbers) % values or not len(numbers):
            return None
        rows, order = np.divmod(numbers.reshape(-1, values), values)
        images = self.found.images
        whole = np.arange(self.found.timesteps * images)
        if (rows != rows[:, :1]).any() or (order != order[:1]).any() or len(np.unique(order[0])) != values:
            return None
        kept = None if is_identity(order[0]) else order[0]
        if np.array_equal(rows[:, 0], whole if timed else whole % images):
            return Place(node, ALL, "", kept)
        t = int(rows[0, 0]) // images
        if not np.array_equal(rows[:, 0], whole[t * images : (t + 1) * images]):
            return None
        return Place(node, t if timed else None, "", kept)

    def _joined(
        self, data: Any, arguments: tuple[Any, ...], options: Mapping[str, Any], operands: list[Operand], result: Any
    ) -> list[Place | None]:
        """Tensors side by side in their channels."""
        shapes = [self.found.shape(operand) for operand in operands]
        axis = options.get("dim", options.get("axis", arguments[1] if len(arguments) > 1 else 0))
        as_made = all(
            operand.place.order is None and operand.shape[-len(shape) :] == shape and len(shape) == len(shapes[0])
            for operand, shape in zip(operands, shapes, strict=True)
        )
        if len(operands) != len(list(flat(data))) or not as_made or axis % result.ndim != result.ndim - len(shapes[0]):
            return [None]
        return self._combined("concat", operands, (sum(shape[0] for shape in shapes), *shapes[0][1:]), result)

    def _combined(self, op: str, operands: list[Operand], shape: tuple[int, ...], result: Any) -> list[Place | None]:
        return self.sums.combined(op, operands, shape, {}, result)

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
            if operation == "mul":
                return self.sums.multiplied(operands, result)
            if operation not in ("add", "sub") or operands[0].shape != operands[1].shape:
                return [None]
            left, right = (next(item for item in operands if item.tensor is term) for term in terms)
            if factors[1] != 1:
                values = factors[1] * right.values
                (place,) = self._scaled(right, operation, factors[1], 0.0, values)
                right = replace(right, place=place or right.place, values=values)
            right = self.sums.alike(right, left)
            return self.sums.combined("add", [left, right], self.found.shape(left), {}, result, left.place.order)
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

    def _scaled(self, operand: Operand, operation: str, weight: Any, bias: Any, result: Any) -> list[Place | None]:
        """``weight x + bias``, numbers or one for each channel."""
        source = self.found.nodes[operand.place.node or ""]
        order = operand.place.order
        if order is not None and (np.size(np.unique(weight)) > 1 or np.size(np.unique(bias)) > 1):
            return [None]
        weight, bias = (np.array(np.broadcast_to(values, source.shape[:1]), np.float64) for values in (weight, bias))
        if (weight == 1).all() and not bias.any():
            return [operand.place] if same_values(operand.values, result) else [None]
        use = ("affine", weight.tobytes(), bias.tobytes())
        fields = {"weight": weight, "bias": bias}
        name = f"{source.name}.{operation}"
        return [*self.found.made(name, use, "affine", [operand], source.shape, fields, result, order)]

    def _pooled(
        self, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any], operand: Operand, result: Any
    ) -> list[Place | None]:
        op, parameters = POOLS[name]
        if len(operand.shape) < 4:
            return [None]
        try:
            operand = self.found.arranged(operand, operand.shape[-3:])
            source = self.found.nodes[operand.place.node or ""]
            given = {**dict(zip(("input", *parameters), arguments, strict=False)), **options}
            fields = pool_fields(op, source.shape, **{key: value for key, value in given.items() if key != "input"})
        except Inexpressible as reason:
            return [Place(None, None, f"the output of torch's {name}() ({reason})")]
        use = (name, str(fields))
        return [*self.found.made(f"{source.name}.pool", use, op, [operand], tuple(result.shape[-3:]), fields, result)]
