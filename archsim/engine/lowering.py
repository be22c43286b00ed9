"""From an agent that is written as a generator to the function that the compiled loop calls.

An agent is a generator function of a handle ``a``, the machine ``m`` and its operands ``x``, written as the loop nest
that it is: ``yield op(pop=..., compute=..., push=...)`` is one micro-operation (:mod:`archsim.hardware.operation`), and
``yield from part(a, m, ...)`` does what a shared part does. The reference engine runs the generator itself. For the
compiled engine it is *lowered*: to a function that is called once an operation, goes on behind the ``yield`` where it
stood, and returns at the next one.

    def reader(a, m, x):                        def reader(agent, me, now, m, state, x, o, counts):
        for row in range(m.rows):                   pc = state[agent, 0]
            yield op(pop=x.port[row])               row = 0
            a.count[ROWS] += 1                      if pc == 1: row = state[agent, 1]
                                                    if pc == 0: row = -1
                                                    while (pc == 0 and row + 1 < m.rows) or 1 <= pc <= 1:
                                                        if pc == 0:
                                                            row += 1; state[agent, 1] = row
                                                            o[agent, POP] = x.port[row]; state[agent, 0] = 1; return
                                                        if pc == 1: pc = 0
                                                        if pc == 0: counts[agent, ROWS] += 1
                                                    if pc == 0: o[agent, END] = 1

The structure stays: what has no ``yield`` inside stands under ``if pc == 0``, loops and branches with one are entered
again by the number of the ``yield`` at which the agent stands, ``pc``. Locals that are read again behind a ``yield``
(:mod:`archsim.engine.liveness`) live in the agent's row of ``state``, from column 1 on: they are taken from there where
the agent goes on, and put there where they are assigned, if a later ``yield`` asks for them.
A *view* is a name that an agent begins with for its own row of a table, ``own = x.tiles[a.me]``; it is looked
up in every call. Code positions stay those of the agent's source, so an error inside a kernel names the agent's own
line.

A plain function that is given the handle first, ``request_row(a, m, x, row)``, is lowered too, and may return a value.

What an agent may say stands in :mod:`archsim.engine.agent_rules`; all else is refused.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

from archsim.engine.agent_rules import LOWERED, PARAMETERS, VALUES, Source, parts, source_of, yields_in
from archsim.engine.compiled import run
from archsim.engine.liveness import assigned, is_yield, live_and_kept, read
from archsim.hardware import agent as handle
from archsim.hardware import operation
from archsim.jit import by_reference, hash_of_all, inlined, noted, written_late

AgentFunction = Callable[..., handle.Operations]

_HOW = tuple((Path(__file__).parent / name).read_bytes() for name in ("agent_rules.py", "liveness.py", "lowering.py"))
"""How agents are lowered."""
_WITH_HANDLE = ("agent", "me", "now", "state", "o", "counts")


def _operations(body: Sequence[ast.stmt]) -> list[ast.AST]:
    return [node for statement in body for node in ast.walk(statement) if is_yield(node)]


def _counters(body: Sequence[ast.stmt]) -> set[str]:
    """Names that only count loops: read inside their loops only, and assigned nowhere else."""
    nodes = [node for part in body for node in ast.walk(part)]
    uses = Counter(node.id for node in nodes if isinstance(node, ast.Name))
    counting, changed = Counter[str](), set[str]()
    for loop in nodes:
        if isinstance(loop, ast.For) and isinstance(loop.target, ast.Name):
            name = loop.target.id
            inside = [node.id for part in loop.body for node in ast.walk(part) if isinstance(node, ast.Name)]
            counting[name] += 1 + inside.count(name)
            if name in assigned(loop.body):
                changed.add(name)
    return {name for name, count in counting.items() if count == uses[name]} - changed


def _views(body: Sequence[ast.stmt]) -> list[ast.Assign]:
    """The assignments that an agent begins with of its own row of a table of operands, to names assigned only there."""
    found: list[ast.Assign] = []
    for statement in body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            break
        row, name = statement.value, statement.targets[0].id
        own = isinstance(row, ast.Subscript) and ast.unparse(row.slice) == "a.me" and ast.unparse(row)[:2] == "x."
        if not own or name in assigned(body[len(found) + 1 :]):
            break
        found.append(statement)
    return found


def _is_fixed(end: ast.expr, views: Collection[str]) -> bool:
    """Whether a number is the same at all times: one in the source, or one of the machine's or of a view."""
    while isinstance(end, ast.Attribute):
        end = end.value
    return isinstance(end, ast.Constant) or (isinstance(end, ast.Name) and end.id in ("m", *views))


def _parse(text: str, at: ast.AST) -> list[ast.stmt]:
    """Statements from ``text``, at the position of ``at``."""
    body = ast.parse(text).body
    for statement in body:
        for node in ast.walk(statement):
            if "lineno" in node._attributes:
                ast.copy_location(node, at)
    return body


class _Inliner(ast.NodeTransformer):
    """A part's names in the place where it is called: its own get another name, its parameters the caller's."""

    def __init__(self, renamed: Mapping[str, str], values: Mapping[str, ast.expr]) -> None:
        self.renamed = renamed
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """A local, a parameter, or a name of the part's module."""
        if node.id in self.values:
            return ast.copy_location(ast.parse(ast.unparse(self.values[node.id]), mode="eval").body, node)
        node.id = self.renamed.get(node.id, node.id)
        return node


class _Handle(ast.NodeTransformer):
    """``a.now``, ``a.count[i]``, ``a.lines(...)``: what the handle stands for in a lowered agent."""

    def __init__(self, kept: int, space: dict[str, Any], known: dict[FunctionType, FunctionType]) -> None:
        self.kept = kept
        self.space = space
        self.known = known
        self.called: set[str] = set()

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A call of the handle becomes a kernel's that gets the agent's operation, one with it a lowered function's."""
        if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "a":
            node.args = [self.visit(argument) for argument in node.args]
            name = node.func.attr
            self.called.add(name)
            function = ast.copy_location(ast.Name(f"a__{name}", ast.Load()), node)
            given = [ast.copy_location(ast.Name(word, ast.Load()), node) for word in ("o", "agent")]
            return ast.copy_location(ast.Call(function, [*given, *node.args], node.keywords), node)
        if isinstance(node.func, ast.Name) and node.args and ast.unparse(node.args[0]) == "a":
            function_of_handle = self.space[node.func.id]
            lowered = _lower_function(function_of_handle, self.kept, self.known)
            name = f"with_a__{node.func.id}"
            self.space[name] = lowered
            rest = [self.visit(argument) for argument in node.args[1:]]
            given = [ast.copy_location(ast.Name(word, ast.Load()), node) for word in _WITH_HANDLE]
            return ast.copy_location(
                ast.Call(ast.copy_location(ast.Name(name, ast.Load()), node), [*given, *rest], []), node
            )
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Counters, and numbers that are kept across yields."""
        table = {"a.count": "counts[agent, 0]", "a.kept": f"state[agent, {self.kept} + 0]"}.get(ast.unparse(node.value))
        if table is None:
            return self.generic_visit(node)
        node.slice = self.visit(node.slice)
        made = ast.parse(table, mode="eval").body
        assert isinstance(made, ast.Subscript)
        assert isinstance(made.slice, ast.Tuple)
        last = made.slice.elts[1]
        if isinstance(last, ast.BinOp):
            last.right = node.slice
        else:
            made.slice.elts[1] = node.slice
        made.ctx = node.ctx
        for inner in ast.walk(made):
            if "lineno" in inner._attributes and not hasattr(inner, "lineno"):
                ast.copy_location(inner, node)
        return ast.copy_location(made, node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """Who the agent is, what time it is, what it popped."""
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id == "a":
            return ast.copy_location(ast.parse(VALUES[node.attr], mode="eval").body, node)
        return node


class _Lowering:
    """One agent: parts copied in, loops made explicit, yields numbered, locals placed, statements written."""

    def __init__(self, source: Source, kept: int) -> None:
        self.source = source
        self.kept = kept
        self.space: dict[str, Any] = dict(source.function.__globals__)
        self.inlined = 0
        self.counters = _counters(source.tree.body)
        self.yields = 0
        self.labels: dict[int, tuple[int, int]] = {}
        names = [argument.arg for argument in source.tree.args.args]
        if names != list(PARAMETERS[: len(names)]) or not names:
            raise source.refuse(source.tree, f"an agent's parameters are {', '.join(PARAMETERS)}")
        self.views = _views(source.tree.body)
        self.viewed = assigned(self.views)
        self.body = self._expand(source, source.tree.body[len(self.views) :], ())
        self._number(self.body)
        self.live, self.stored = live_and_kept(self.body, assigned(self.body))
        asked = set().union(*(self.live[id(operation)] for operation in _operations(self.body)))
        self.columns = {name: column for column, name in enumerate(sorted(asked), start=1)}

    # ------------------------------------------------------------------------------ parts and loops with a yield

    def _expand(self, source: Source, body: Sequence[ast.stmt], parents: tuple[FunctionType, ...]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for statement in body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.YieldFrom):
                found += self._inline(source, statement, parents)
                continue
            if isinstance(statement, ast.For) and yields_in(statement):
                found += self._explicit(source, statement, parents)
                continue
            for name in ("body", "orelse"):
                if getattr(statement, name, None):
                    setattr(statement, name, self._expand(source, getattr(statement, name), parents))
            found.append(statement)
        return found

    def _explicit(self, source: Source, loop: ast.For, parents: tuple[FunctionType, ...]) -> list[ast.stmt]:
        """``for i in range(first, end)`` as a ``while``; with a counter of its own where i may be changed or is read
        behind it, so that i is what Python makes of it."""
        self.inlined += 1
        assert isinstance(loop.iter, ast.Call)
        assert isinstance(loop.target, ast.Name)
        first, end = ["0", *map(ast.unparse, loop.iter.args)][-2:]
        name, number = loop.target.id, self.inlined
        before = ""
        if not _is_fixed(loop.iter.args[-1], self.viewed):
            before, end = f"{name}__end{number} = {end}\n", f"{name}__end{number}"
        if name in self.counters:
            text = f"{before}{name} = ({first}) - 1\nwhile {name} + 1 < {end}:\n    {name} += 1"
        else:
            following = f"{name}__next{number}"
            text = (
                f"{before}{following} = {first}\nwhile {following} < {end}:\n"
                f"    {name} = {following}\n    {following} += 1"
            )
        found = _parse(text, loop)
        while_ = found[-1]
        assert isinstance(while_, ast.While)
        while_.body += self._expand(source, loop.body, parents)
        return found

    def _inline(self, source: Source, statement: ast.Expr, parents: tuple[FunctionType, ...]) -> list[ast.stmt]:
        assert isinstance(statement.value, ast.YieldFrom)
        call = statement.value.value
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        part = self.space.get(call.func.id)
        if not isinstance(part, FunctionType) or not inspect.isgeneratorfunction(part):
            raise source.refuse(statement, f"'{call.func.id}' is no generator function of this module")
        if part in parents:
            raise source.refuse(statement, f"the part '{part.__name__}' yields from itself")
        inner = source_of(part)
        if any(isinstance(node, ast.Return) for node in ast.walk(inner.tree)):
            raise inner.refuse(inner.tree, "a part ends at its end, without return")
        names = [argument.arg for argument in inner.tree.args.args]
        if len(names) != len(call.args) or inner.tree.args.defaults:
            raise source.refuse(statement, f"'{part.__name__}' takes {', '.join(names)}")
        self.inlined += 1
        number, own = self.inlined, assigned(inner.tree.body)
        values: dict[str, ast.expr] = {}
        before: list[ast.stmt] = []
        for name, value in zip(names, call.args, strict=True):
            # A local of the caller stays as it is while the part runs; all else is computed once.
            if name not in own and isinstance(value, ast.Name | ast.Attribute | ast.Constant):
                values[name] = value
            else:
                own.add(name)
                before += _parse(f"{name}__{number} = {ast.unparse(value)}", statement)
        renamed = {name: f"{name}__{number}" for name in own}
        for name in read(inner.tree) - own - set(values):
            known = part.__globals__
            if name in known and known[name] is not self.space.get(name):
                renamed[name] = f"{name}__{part.__name__}"
                self.space[renamed[name]] = known[name]
        inliner = _Inliner(renamed, values)
        body = [inliner.visit(inner_statement) for inner_statement in inner.tree.body]
        for node in (node for inner_statement in body for node in ast.walk(inner_statement)):
            if "lineno" in node._attributes:
                ast.copy_location(node, statement)  # an error in a part names the agent's line
        self.counters |= _counters(body)
        return before + self._expand(inner, body, (*parents, part))

    # -------------------------------------------------------------------------------------------------- numbers

    def _number(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            first = self.yields + 1
            if is_yield(statement):
                self.yields += 1
            else:
                for part in parts(statement):
                    before = self.yields + 1
                    self._number(part)
                    self.labels[id(part)] = before, self.yields
            self.labels[id(statement)] = first, self.yields

    # -------------------------------------------------------------------------------------------------- writing

    def function(self, name: str) -> ast.FunctionDef:
        """The lowered agent."""
        lines = [f"def {name}({', '.join(LOWERED[:-1])}):", "    pc = state[agent, 0]"]
        lines += [f"    {local} = 0" for local in self.columns]  # so that LLVM knows all of them on every way
        for at in _operations(self.body):
            taken = [f"        {local} = state[agent, {self.columns[local]}]" for local in sorted(self.live[id(at)])]
            if taken:
                lines += [f"    if pc == {self.labels[id(at)][0]}:", *taken]
        (made,) = _parse("\n".join(lines), self.source.tree)
        assert isinstance(made, ast.FunctionDef)
        made.body += [*self.views, *self._write(self.body)]
        made.body += _parse("if pc == 0:\n    o[agent, END] = 1", self.source.tree)
        return made

    def _write(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        written: list[ast.stmt] = []
        running: list[ast.stmt] = []  # what is done only while the agent runs, not while it looks for its place

        def flush(more: Sequence[ast.stmt] = ()) -> None:
            inside = [part for statement in running for part in self._kept(statement)] + list(more)
            if inside:
                (branch,) = _parse("if pc == 0:\n    pass", inside[0])
                assert isinstance(branch, ast.If)
                branch.body = inside
                written.append(branch)
            running.clear()

        for statement in body:
            if is_yield(statement):
                number, _ = self.labels[id(statement)]
                flush(self._operation(statement, number))
                written += _parse(f"if pc == {number}:\n    pc = 0", statement)
            elif not yields_in(statement):
                running.append(statement)
            else:
                flush()
                written.append(self._compound(statement))
        flush()
        return written

    def _compound(self, statement: ast.stmt) -> ast.stmt:
        if isinstance(statement, ast.While):
            first, last = self.labels[id(statement)]
            (made,) = _parse(f"while (pc == 0 and condition) or {first} <= pc <= {last}:\n    pass", statement)
            assert isinstance(made, ast.While)
            made.test = _with_condition(made.test, statement.test)
            made.body = self._write(statement.body)
            return made
        assert isinstance(statement, ast.If)
        first, last = self.labels.get(id(statement.body), (1, 0))
        (made,) = _parse(f"if (pc == 0 and condition) or {first} <= pc <= {last}:\n    pass", statement)
        assert isinstance(made, ast.If)
        made.test = _with_condition(made.test, statement.test)
        made.body = self._write(statement.body)
        if statement.orelse:
            first, last = self.labels[id(statement.orelse)]
            (other,) = _parse(f"if pc == 0 or {first} <= pc <= {last}:\n    pass", statement)
            assert isinstance(other, ast.If)
            other.body = self._write(statement.orelse)
            made.orelse = [other]
        return made

    def _operation(self, statement: ast.stmt, number: int) -> list[ast.stmt]:
        assert isinstance(statement, ast.Expr)
        assert isinstance(statement.value, ast.Yield)
        assert isinstance(statement.value.value, ast.Call)
        given = {word.arg: ast.unparse(word.value) for word in statement.value.value.keywords}
        for name, count in (("pop", "pops"), ("push", "pushes")):
            if name in given:
                given.setdefault(count, "1")
        lines = [f"o[agent, {handle.FIELDS[name]}] = {value}" for name, value in given.items() if name]
        return _parse("\n".join([*lines, f"state[agent, 0] = {number}", "return"]), statement)

    def _kept(self, statement: ast.stmt) -> list[ast.stmt]:
        """The statement, and what it assigns put away; before a jump out of it where there is one."""
        if isinstance(statement, ast.Return):
            return _parse("o[agent, END] = 1\nreturn", statement)
        if isinstance(statement, ast.If) and any(
            isinstance(node, ast.Break | ast.Continue | ast.Return) for node in ast.walk(statement)
        ):
            for name in ("body", "orelse"):
                inside = [part for inner in getattr(statement, name) for part in self._kept(inner)]
                setattr(statement, name, inside)
            return [statement]
        names = sorted(assigned([statement]) & self.stored[id(statement)])
        saves = "\n".join(f"state[agent, {self.columns[name]}] = {name}" for name in names)
        return [_Ends().visit(statement), *_parse(saves, statement)]


class _Ends(ast.NodeTransformer):
    """``return`` inside a loop without a yield."""

    def visit_Return(self, node: ast.Return) -> list[ast.stmt]:
        """The end of the agent."""
        return _parse("o[agent, END] = 1\nreturn", node)


def _with_condition(test: ast.expr, condition: ast.expr) -> ast.expr:
    """``test`` with the name ``condition`` replaced."""
    replaced: ast.expr = _Inliner({}, {"condition": condition}).visit(test)
    return replaced


@dataclass(frozen=True)
class Lowered:
    """Agents for the compiled engine: ``functions`` by agent, and how many columns of ``state`` one needs.

    A function is called as ``f(agent, me, now, m, state, x, o, counts)``; ``me`` numbers the agents of a kind. Numbers
    that an agent keeps (``a.kept``) begin in column ``kept``.
    """

    functions: Mapping[str, FunctionType]
    trees: Mapping[str, ast.FunctionDef] = field(repr=False)
    kept: int

    def text(self) -> str:
        """What was made of the agents, for people: each statement with the line of its source."""
        return "\n\n".join(_with_lines(tree) for tree in self.trees.values())


def lower(agents: Sequence[AgentFunction]) -> Lowered:
    """The agents as functions for the compiled loop. Raises LoweringError for what cannot be lowered."""
    # The columns behind which all agents keep their own numbers are those of the agent with most locals.
    kept = 1 + max((len(_Lowering(source_of(agent), 0).columns) for agent in agents), default=0)
    functions, trees, known = {}, {}, dict[FunctionType, FunctionType]()
    for agent in agents:
        lowering = _Lowering(source_of(agent), kept)
        name = lowering.source.function.__name__
        functions[name], trees[name] = _executed(lowering.function(name), lowering.source, kept, lowering.space, known)
    return Lowered(functions, trees, kept)


def _lower_function(function: Any, kept: int, known: dict[FunctionType, FunctionType]) -> FunctionType:
    """A plain function of the handle, as a kernel of what the handle stands for."""
    if function not in known:
        known[function] = function
        source = source_of(function, returns=True)
        names = [argument.arg for argument in source.tree.args.args]
        if names[:1] != ["a"] or yields_in(source.tree):
            raise source.refuse(source.tree, "a function that is given a is 'f(a, ...)', without a yield")
        tree = source.tree
        tree.args.args = [ast.copy_location(ast.arg(word), tree) for word in (*_WITH_HANDLE, *names[1:])]
        tree.returns = None
        made, _ = _executed(tree, source, kept, dict(function.__globals__), known)
        known[function] = inlined(made)
    return known[function]


def _executed(
    tree: ast.FunctionDef, source: Source, kept: int, space: dict[str, Any], known: dict[FunctionType, FunctionType]
) -> tuple[FunctionType, ast.FunctionDef]:
    """The function that ``tree`` describes, with the handle's parts in the place of the handle, and that tree."""
    translated = _Handle(kept, space, known)
    done = ast.fix_missing_locations(translated.visit(tree))
    space |= {word: getattr(operation, word) for word in ("END", "VALUE", "START")}
    space |= {f"a__{call}": handle.CALLS[call] for call in translated.called}
    exec(compile(ast.Module([done], type_ignores=[]), source.function.__code__.co_filename, "exec"), space)
    return space[tree.name], done


def hash_of_agents(agents: Sequence[AgentFunction]) -> bytes:
    """Hash of all that their lowering is made of."""
    names = tuple(agent.__name__ for agent in agents)
    return hash_of_all((_HOW, names, *agents, *handle.CALLS.values(), tuple(handle.FIELDS.values())))


def columns_of(agents: Sequence[AgentFunction], home: str) -> int:
    """``lower(agents).kept``, worked out once and kept on disk for the module ``home``."""
    return noted(f"{home}.columns", hash_of_agents(agents), lambda: lower(agents).kept)


def loop_of(agents: Sequence[AgentFunction], home: str, *, in_turns: bool = False) -> Any:
    """The compiled loop of a machine with these agents, a kernel as :mod:`archsim.engine.compiled` takes it. They are
    lowered where it must be compiled.

    ``m.agents`` must tell, for every kind of agent by its name, the number behind its last one; where kinds are drawn
    ``in_turns``, for every agent its kind and its number in that. ``home`` is the module that the kernels belong to.
    """
    space: dict[str, Any] = {"__name__": home, "run": run, "by_reference": by_reference}
    call = "run(step, by_reference(m), by_reference(x), by_reference(machine))"
    exec(f"def loop(m, x, machine):\n    return {call}", space)

    def write() -> None:
        if "step" not in space:
            space["step"] = _step_of(lower(agents), home, in_turns)

    return written_late(space["loop"], hash_of_all((hash_of_agents(agents), in_turns, run)), write)


def _step_of(lowered: Lowered, home: str, in_turns: bool) -> Any:
    """Calls the function of the agent that is asked for."""
    lines, before = ["def step(agent, now, m, state, x, o, counts):"], "0"
    if in_turns:
        lines += ["    kind, me = m.agents[agent, 0], m.agents[agent, 1]"]
    for kind, name in enumerate(lowered.functions):
        lines += [
            f"    if {f'kind == {kind}' if in_turns else f'agent < m.agents.{name}'}:",
            f"        {name}(agent, {'me' if in_turns else f'agent - {before}'}, now, m, state, x, o, counts)",
            "        return",
        ]
        before = f"m.agents.{name}"
    space: dict[str, Any] = {"__name__": home}
    for name, function in lowered.functions.items():
        function.__module__ = home
        space[name] = inlined(function)
    exec(compile("\n".join(lines), f"<agents of {home}>", "exec"), space)
    return inlined(space["step"])


def _with_lines(tree: ast.FunctionDef) -> str:
    """The function's text, each statement with the line that it comes from."""
    lines: list[str] = []

    def write(body: Sequence[ast.stmt], indent: str) -> None:
        for statement in body:
            remark = f"  # line {statement.lineno}"
            inside = parts(statement)
            if not inside:
                lines.append(indent + ast.unparse(statement) + remark)
                continue
            head = ast.unparse(statement).splitlines()[0]
            lines.append(indent + head + remark)
            write(inside[0], indent + "    ")
            if len(inside) > 1:
                lines.append(indent + "else:")
                write(inside[1], indent + "    ")

    write([tree], "")
    return "\n".join(lines)
