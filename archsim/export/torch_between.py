"""What runs between the modules of a PyTorch model, read as nodes.

Functions that only move values are called again with numbers in place of the values, which tells where they went. Sums,
scalings and shifts, joined channels and pools become nodes of their own (:mod:`archsim.export.torch_functions` lists
them). Of everything else the result is unknown, which is an error only where a layer reads it.
"""

from __future__ import annotations

import math
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
from archsim.export.torch_layers import by_tokens
from archsim.export.torch_modules import Inexpressible, pool_fields
from archsim.export.torch_nodes import Nodes
from archsim.export.torch_orders import by_columns, is_identity
from archsim.export.torch_sums import Sums, numbered
from archsim.export.torch_tensors import ALL, Operand, Place, flat, load_torch, same_values
from archsim.export.torch_values import VALUES, Values, channels_of, constant_rows, fixed, turned


class Between:
    """Functions of torch as nodes of the network."""

    def __init__(self, found: Nodes, names: Mapping[int, str]) -> None:
        self.found = found
        self.sums = Sums(found)
        self.values = Values(found, names)
        self.names = names

    def places(
        self, function: Any, data: Any, arguments: tuple[Any, ...], options: Mapping[str, Any],
        operands: list[Operand], results: list[Any], module: str = "",
    ) -> list[Place | None]:  # fmt: skip
        """What the results hold; None is nothing that a trace knows. ``module`` is where the function ran, if that has
        a name."""
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
        kept = name in KEEPS or (name in DROPOUTS and is_off(arguments, options))
        if kept and same_values(first.values, results[0]):
            return [first.place]
        if name in POOLS:
            return self._pooled(name, arguments, options, first, results[0])
        if name in VALUES and len(operands) == 1:
            try:
                return [*self.values.places(name, arguments, options, first, results[0], module)]
            except Inexpressible as reason:
                return [Place(None, None, f"the output of torch's {name}() ({reason})")]
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
        sources = [operand if operand.place.scattered is None else operand.place.scattered[0] for operand in moving]
        timed = {source.place.time is not None for source in sources}
        nodes = {source.place.node for source in sources}
        if not len(operands) == len(moving) == len(tensors) or len(timed) != 1 or len(nodes) != 1:
            return nothing
        (node,) = nodes
        values = int(np.prod(self.found.nodes[node or ""].shape))
        numbers = {}
        for operand, source in zip(moving, sources, strict=True):
            steps = self.found.timesteps if source.place.time == ALL else 1
            if source.values.numel() != steps * self.found.images * values:
                return nothing
            first = self.found.images * max(source.place.time or 0, 0)
            scattered = operand.place.scattered
            numbers[id(operand.tensor)] = torch.as_tensor(
                numbered(operand, first, values) if scattered is None else scattered[1].reshape(operand.shape)
            )
        # Copies, as the function may work in place.
        copies = [numbers[id(item)].clone() for item in tensors]
        instead = copies[0] if isinstance(data, torch.Tensor) else copies
        keywords = {key: instead if value is data else value for key, value in options.items()}
        moved = function(*((instead, *arguments[1:]) if arguments else ()), **keywords)
        source = sources[0] if len(moving) == 1 else None
        return [
            self._moved_to(node, item.reshape(-1).numpy(), timed == {True}, source, result, plain_name(function))
            # A view of another type reads the bits as other values.
            if result.dtype == moving[0].values.dtype else None
            for result, item in zip(results, flat(moved), strict=True)
        ]  # fmt: skip

    def _moved_to(
        self, node: str | None, numbers: np.ndarray, timed: bool, source: Operand | None, result: Any, by: str
    ) -> Place | None:
        """What a result holds whose values have these ``numbers``; they come from ``source``, or from several."""
        values = int(np.prod(self.found.nodes[node or ""].shape))
        place = self._place_of(node, numbers, values, timed)
        if place is not None and place.order is not None:
            place = place._replace(why=f"values in another order (torch's {by}())")
        if source is None:
            return place
        if place is not None and len(numbers) == source.values.numel():
            return place._replace(time=source.place.time)
        place = place or self._part(source, numbers, values, result)
        if place is None and len(numbers) == source.values.numel():
            why = f"values in another order or number (torch's {by}())"
            return Place(None, None, why, scattered=(source, numbers))
        return place

    def _part(self, operand: Operand, numbers: np.ndarray, values: int, result: Any) -> Place | None:
        """Some channels, rows or columns of all images and timesteps that the operand has."""
        rows = operand.values.numel() // values
        if not len(numbers) or len(numbers) % rows:
            return None
        row, taken = np.divmod(numbers.reshape(rows, -1), values)
        first = row[0, 0] if rows else 0
        if (row != first + np.arange(rows)[:, None]).any() or (taken != taken[:1]).any():
            return None
        shape = self.found.shape(operand)
        places = np.arange(values).reshape(shape)
        kept = np.sort(taken[0])
        for axis in range(len(shape)):
            where = np.unravel_index(taken[0], shape)[axis]
            start, stop = int(where.min()), int(where.max()) + 1
            part = places.take(range(start, stop), axis).reshape(-1)
            if stop - start < shape[axis] and np.array_equal(kept, part):
                # Where in the part each value is.
                order = np.searchsorted(part, taken[0])
                options = {"axis": axis, "start": start, "stop": stop}
                name, use = f"{operand.place.node}.slice", ("slice", axis, start, stop)
                sides = (*shape[:axis], stop - start, *shape[axis + 1 :])
                return self.found.made(
                    name, use, "slice", [operand], sides, {"options": options}, result,
                    None if is_identity(order) else order,
                )[0]  # fmt: skip
        return None

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
        """Tensors side by side along an axis, which becomes that of the channels; some may be constants."""
        axis = options.get("dim", options.get("axis", arguments[1] if len(arguments) > 1 else 0)) % result.ndim
        first = operands[0]
        leading = result.ndim - 1
        while leading and math.prod(first.shape[leading:]) < math.prod(self.found.shape(first)):
            leading -= 1
        if axis < leading:
            return [None]
        parts = []
        for item in flat(data):
            operand = next((one for one in operands if one.tensor is item), None)
            if operand is None:
                like = replace(first, shape=tuple(item.shape))
                operand = constant_rows(self.found, item, like, leading, self._constant_name(item))
            if operand is None or math.prod(operand.shape[leading:]) != math.prod(self.found.shape(operand)):
                return [None]
            if axis != leading or operand.place.order is not None:
                operand = turned(operand, axis, leading)
                operand = self.found.arranged(operand, _as_map(operand.shape[leading:]))
            parts.append(operand)
        shapes = [self.found.shape(operand) for operand in parts]
        if any(shape[1:] != shapes[0][1:] for shape in shapes):
            return [None]
        whole = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        others = [side for place, side in enumerate(result.shape) if place >= leading and place != axis]
        sides = (result.shape[axis], *others)
        order = np.moveaxis(np.arange(math.prod(whole)).reshape(sides), 0, axis - leading).reshape(-1)
        (place,) = self.sums.combined("concat", parts, whole, {}, result, order)
        if place is not None and result.ndim - leading == 2:
            # Tokens side by side: their features are the channels of all that follows.
            tokens, features = result.shape[leading:]
            joined, _ = by_tokens(self.found, Operand(result, place, tuple(result.shape), result), features)
            place = joined.place._replace(order=by_columns(1, tokens, features))
        return [place]

    def _constant_name(self, value: Any) -> str:
        """What to call a value that does not come from the inputs."""
        count = sum(node.op == "constant" for node in self.found.nodes.values())
        return self.names.get(id(value)) or f"constant{count + 1}"

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
        given_other = 0.0 if operation == "neg" else terms[1 - own]
        other = constant(given_other, operand.shape, shape)
        if other is None:
            other = channels_of(self.found, given_other, operand)
        if other is None and operation in ("add", "sub", "mul"):
            return self._with_constant(operation, operand, given_other, factors, own, result)
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

    def _with_constant(
        self, operation: str, operand: Operand, value: Any, factors: list[float], own: int, result: Any
    ) -> list[Place | None]:  # fmt: skip
        """The sum or product of a tensor and a constant with a value for each position."""
        if not hasattr(value, "detach") or value.is_complex():
            return [None]
        times = 1.0 if operation == "mul" else factors[1 - own]
        beside = fixed(self.found, value * times, operand, self._constant_name(value))
        if beside is None:
            return [None]
        shape, order = self.found.shape(operand), operand.place.order
        if operation == "mul":
            return self.sums.combined("multiply", [operand, beside], shape, {}, result, order)
        if factors[own] != 1:
            values = factors[own] * operand.values
            (place,) = self._scaled(operand, operation, factors[own], 0.0, values)
            operand = replace(operand, place=place or operand.place, values=values)
        return self.sums.combined("add", [operand, beside], shape, {}, result, order)

    def _scaled(self, operand: Operand, operation: str, weight: Any, bias: Any, result: Any) -> list[Place | None]:
        """``weight x + bias``, numbers or one for each channel."""
        source = self.found.nodes[operand.place.node or ""]
        order = operand.place.order
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


def _as_map(sides: tuple[int, ...]) -> tuple[int, ...]:
    """Sides of a tensor as those of a node: features, or a map."""
    return sides if len(sides) in (1, 3) else (sides[0], math.prod(sides[1:]), 1)
