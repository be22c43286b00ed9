"""What an agent may say, so that it can be lowered; all else is refused with the file, the line and the rule.

Assignments to local names, ``a.count[...] += n`` and ``a.kept[...] = n``; calls; ``if``, ``while``, ``for`` over
``range`` with one or two arguments where a ``yield`` is inside; ``break``, ``continue``, ``return`` without a value
(the end of an agent). Locals are int64: no floats, no true division, and across a ``yield`` no array but ``a.kept`` and
views. A part ends at its end; its parameters are the caller's values.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from archsim.hardware import agent as handle

PARAMETERS = ("a", "m", "x")
LOWERED = ("agent", "me", "now", "m", "state", "x", "o", "counts", "pc")
VALUES = {"me": "me", "now": "now", "value": "o[agent, VALUE]", "start": "o[agent, START]"}
_HANDLE = (*VALUES, "count", "kept", *handle.CALLS)
_PLAIN = (
    ast.Assign,
    ast.AugAssign,
    ast.Expr,
    ast.If,
    ast.While,
    ast.For,
    ast.Break,
    ast.Continue,
    ast.Pass,
    ast.Return,
)
_FORBIDDEN = {
    ast.Lambda: "no functions inside an agent", ast.FunctionDef: "no functions inside an agent",
    ast.ListComp: "no comprehensions", ast.SetComp: "no comprehensions", ast.DictComp: "no comprehensions",
    ast.GeneratorExp: "no comprehensions", ast.List: "no lists", ast.Dict: "no dictionaries", ast.Set: "no sets",
    ast.Div: "integers only: // instead of /", ast.NamedExpr: "no assignment inside an expression",
    ast.Await: "no await", ast.JoinedStr: "no text", ast.Starred: "no * arguments",
}  # fmt: skip


class LoweringError(Exception):
    """An agent says what cannot be lowered: ``file:line: rule``."""


@dataclass
class Source:
    """A generator function as a tree, with what its free names stand for."""

    function: FunctionType
    tree: ast.FunctionDef

    def refuse(self, node: ast.AST, rule: str) -> LoweringError:
        """The error of a statement that breaks ``rule``."""
        line = getattr(node, "lineno", self.tree.lineno)
        return LoweringError(f"{self.function.__code__.co_filename}:{line}: {self.function.__name__}: {rule}")


def source_of(function: Callable[..., Any], *, returns: bool = False) -> Source:
    """The function's tree, at the lines of its file; refuses what no agent and no part may say.

    Only a function that ``returns`` may return a value.
    """
    assert isinstance(function, FunctionType)
    lines, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
    ast.increment_lineno(tree, first - 1)
    assert isinstance(tree, ast.FunctionDef)
    source = Source(function, tree)
    arguments = tree.args
    if tree.decorator_list or arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.posonlyargs:
        raise source.refuse(tree, "no decorators, and plain parameters only")
    if function.__closure__:
        raise source.refuse(tree, "no names of an enclosing function")
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:]
    _check(source, tree.body, returns)
    return source


def _check(source: Source, body: Sequence[ast.stmt], returns: bool) -> None:
    for statement in body:
        if not isinstance(statement, _PLAIN):
            raise source.refuse(statement, f"no '{type(statement).__name__.lower()}' in an agent")
        if isinstance(statement, ast.Return) and statement.value is not None and not returns:
            raise source.refuse(statement, "an agent returns nothing")
        if isinstance(statement, ast.Assign | ast.AugAssign):
            _check_targets(source, statement)
        _check_expressions(source, statement)
        for part in parts(statement):
            _check(source, part, returns)
        if yields_in(statement):
            _check_yielding(source, statement)


def _check_targets(source: Source, statement: ast.Assign | ast.AugAssign) -> None:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    if len(targets) > 1:
        raise source.refuse(statement, "one assignment at a time")
    parts = targets[0].elts if isinstance(targets[0], ast.Tuple) else targets
    for target in parts:
        row = isinstance(target, ast.Subscript) and ast.unparse(target.value) in ("a.count", "a.kept")
        if not row and not isinstance(target, ast.Name):
            raise source.refuse(statement, "assigns to local names, a.count[...] and a.kept[...] only")
        if isinstance(target, ast.Name) and target.id in {*PARAMETERS, *LOWERED}:
            raise source.refuse(statement, f"the name '{target.id}' is taken")


def _check_expressions(source: Source, statement: ast.stmt) -> None:
    for expression in ast.iter_child_nodes(statement):
        if isinstance(expression, ast.stmt):
            continue
        handles = {id(node) for node in ast.walk(expression) if isinstance(node, ast.Name) and node.id == "a"}
        for node in ast.walk(expression):
            if isinstance(node, ast.Attribute):
                handles.discard(id(node.value))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                handles.discard(id(node.args[0]))
            for kind, rule in _FORBIDDEN.items():
                if isinstance(node, kind):
                    raise source.refuse(statement, rule)
            if isinstance(node, ast.Constant) and isinstance(node.value, float | str | complex):
                raise source.refuse(statement, f"integers only, got {node.value!r}")
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "a" and node.attr not in _HANDLE:
                raise source.refuse(statement, f"a has no '{node.attr}'; allowed: {', '.join(_HANDLE)}")
            if isinstance(node, ast.Call) and node.args and ast.unparse(node.args[0]) == "a" and node.keywords:
                raise source.refuse(statement, "what is given to a function besides a has no names")
        if handles:
            raise source.refuse(statement, "a is given to functions only, before all else")


def _check_yielding(source: Source, statement: ast.stmt) -> None:
    """What has a ``yield`` inside: an operation, a part, a loop or a branch."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Yield):
        call = statement.value.value
        if not isinstance(call, ast.Call) or ast.unparse(call.func) != "op" or call.args:
            raise source.refuse(statement, "yields op(...) with keywords")
        unknown = [word.arg for word in call.keywords if word.arg not in handle.FIELDS]
        if unknown:
            raise source.refuse(statement, f"op has no '{unknown[0]}'; allowed: {', '.join(handle.FIELDS)}")
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.YieldFrom):
        if not isinstance(statement.value.value, ast.Call) or not isinstance(statement.value.value.func, ast.Name):
            raise source.refuse(statement, "yields from part(...), called by its name")
    elif not isinstance(statement, ast.If | ast.While | ast.For) or any(
        yields_in(expression) for expression in ast.iter_child_nodes(statement) if isinstance(expression, ast.expr)
    ):
        raise source.refuse(statement, "a yield is a statement of its own")
    elif isinstance(statement, ast.While | ast.For) and statement.orelse:
        raise source.refuse(statement, "no else behind a loop with a yield")
    elif isinstance(statement, ast.For):
        call = statement.iter
        simple = isinstance(call, ast.Call) and ast.unparse(call.func) == "range" and len(call.args) in (1, 2)
        if not simple or not isinstance(statement.target, ast.Name):
            raise source.refuse(statement, "a loop with a yield goes over range(end) or range(first, end)")


def parts(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The statements inside a compound one."""
    return [getattr(statement, name) for name in ("body", "orelse") if getattr(statement, name, None)]


def yields_in(node: ast.AST) -> bool:
    """Whether an operation or a part is in ``node``."""
    return any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in ast.walk(node))
