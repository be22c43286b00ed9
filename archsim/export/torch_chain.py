"""A PyTorch model as a chain of linear layers, each followed by a function of single values: what ``convert`` reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import UsageError, printable
from archsim.export.torch_tensors import doubles, load_torch

Real = NDArray[np.float64]
ALLOWED = (
    "allowed: linear layers one behind the other, and functions of single values (tanh, sine, ReLU, ...) in between"
)


@dataclass(frozen=True, eq=False)
class ChainLayer:
    """``function(weight x + bias)``; the last layer, the read-out, has no function."""

    name: str
    weight: Real
    bias: Real
    function: Callable[[Real], Real] | None


def chain_of(model: Any) -> list[ChainLayer]:
    """The layers of ``model``. ``UsageError`` names what it does that is no such layer."""
    torch = load_torch()
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"model: got {type(model).__name__}; allowed: a torch.nn.Module")
    try:
        graph = torch.fx.symbolic_trace(model)
    except (torch.fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise UsageError(f"model: its steps depend on values, {printable(error)}; {ALLOWED}") from None
    found: list[tuple[str, Any]] = []
    functions: list[list[Callable[[Any], Any]]] = []
    before: Any = None
    for node in graph.graph.nodes:
        if node.op == "placeholder" and before is None:
            before = node
            continue
        if node.op == "output":
            if node.args[0] is not before:
                raise UsageError(f"model: returns more than what its last layer gives; {ALLOWED}")
            continue
        step = _step(torch, graph, node, before)
        if isinstance(step, torch.nn.Linear):
            if any(linear is step for _, linear in found):
                raise UsageError(f"{node.target}: is called more than once; {ALLOWED}, each once")
            found.append((str(node.target), step))
            functions.append([])
        elif not functions:
            raise UsageError(f"{node.name}: a function in front of the first linear layer; {ALLOWED}")
        else:
            functions[-1].append(step)
        before = node
    if not found:
        raise UsageError(f"model: has no linear layer; {ALLOWED}")
    if functions[-1]:
        raise UsageError(
            f"{before.name}: a function behind the last linear layer; allowed: that its sums are the output"
        )
    last = len(found) - 1
    return [_layer(torch, name, linear, functions[place], place == last) for place, (name, linear) in enumerate(found)]


def _step(torch: Any, graph: Any, node: Any, before: Any) -> Any:
    """The linear layer that ``node`` is, or its function of tensors, which must read ``before`` alone."""
    name = f"{node.name} ({getattr(node.target, '__name__', node.target)})"
    if node.op == "call_module":
        module = graph.get_submodule(node.target)
        name = f"{node.target} ({type(module).__name__})"
    if node.all_input_nodes != [before] or len(before.users) != 1:
        raise UsageError(f"{name}: reads another value than that of the step before it; {ALLOWED}")
    if node.op == "call_module":
        if isinstance(module, torch.nn.Linear):
            return module
        function = module
        if module.training and isinstance(module, torch.nn.modules.dropout._DropoutNd):
            raise UsageError(f"{name}: drops values at random; allowed: the model after eval()")
        if list(module.parameters()):
            raise UsageError(f"{name}: has weights and is no linear layer; {ALLOWED}")
    elif node.op in ("call_function", "call_method"):

        def function(values: Any) -> Any:
            arguments = torch.fx.node.map_arg(node.args, lambda _: values)
            keywords = torch.fx.node.map_arg(node.kwargs, lambda _: values)
            called = node.target if node.op == "call_function" else getattr(torch.Tensor, node.target)
            return called(*arguments, **keywords)

    else:
        raise UsageError(f"{name}: a value that is no layer's; {ALLOWED}")
    if not _is_elementwise(torch, function):
        raise UsageError(f"{name}: an output depends on several values; {ALLOWED}")
    return function


def _is_elementwise(torch: Any, function: Callable[[Any], Any]) -> bool:
    """Whether values go through ``function`` one by one, seen by an example."""
    shown = torch.linspace(-3, 3, 15, dtype=torch.float64).reshape(5, 3)
    try:
        with torch.no_grad():
            whole, part = function(shown), function(shown[1:3, :2])
        same = torch.equal(whole[1:3, :2].nan_to_num(), part.nan_to_num())
    except (RuntimeError, TypeError, IndexError, AttributeError):
        return False
    return bool(whole.shape == shown.shape and part.shape == (2, 2) and same)


def _layer(torch: Any, name: str, linear: Any, steps: list[Callable[[Any], Any]], is_last: bool) -> ChainLayer:
    def function(values: Real) -> Real:
        result = torch.from_numpy(np.ascontiguousarray(values))
        with torch.no_grad():
            for step in steps:
                result = step(result)
        return doubles(result)

    weight = doubles(linear.weight).copy()
    bias = np.zeros(len(weight)) if linear.bias is None else doubles(linear.bias).copy()
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise UsageError(f"{name}: weights that are not finite")
    return ChainLayer(name, weight, bias, None if is_last else function)
