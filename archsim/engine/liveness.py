"""Which locals of an agent must outlive an operation: what is read again behind a ``yield``, and what to put away.

Two passes from an agent's end to its begin, over the same statements. In the first a name is *live* where its value may
be read later:

    live before s = (live behind s - assigned in s) | read in s

In the second a value is *kept* where it may be asked for at a later ``yield``, in front of another assignment:

    kept before s = (kept behind s - assigned in s) | live behind s, if s is a yield

A loop is passed until nothing changes. What is kept is live, so an agent that goes on behind a ``yield`` and takes what
is live there from its row of ``state`` has every value that it reads or puts away.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

Names = Mapping[int, Set[str]]
"""Names behind a statement, by its ``id``."""


def assigned(body: Sequence[ast.AST]) -> set[str]:
    """Names that are assigned anywhere in ``body``."""
    names = (node for part in body for node in ast.walk(part) if isinstance(node, ast.Name))
    return {node.id for node in names if isinstance(node.ctx, ast.Store)}


def read(node: ast.AST) -> set[str]:
    """Names that are read in ``node``; what is changed in its place is read too."""
    changed = assigned([node.target]) if isinstance(node, ast.AugAssign) else set()
    names = (inner for inner in ast.walk(node) if isinstance(inner, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Load)} | changed


def is_yield(statement: ast.AST) -> bool:
    """Whether a statement is one operation."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Yield)


def live_and_kept(body: Sequence[ast.stmt], names: Set[str]) -> tuple[Names, Names]:
    """Of ``names``, what is live and what is kept behind every statement of ``body``."""
    live = _Pass(lambda node: read(node) & names)
    live.before(body, set(), [])
    kept = _Pass(lambda node: live.behind[id(node)] if is_yield(node) else set())
    kept.before(body, set(), [])
    return live.behind, kept.behind


@dataclass
class _Loop:
    """Names at the head of a loop and behind it."""

    head: set[str]
    behind: set[str]


class _Pass:
    """One pass; ``asked`` are the names that a statement, a condition or a range asks for itself."""

    def __init__(self, asked: Callable[[ast.AST], Set[str]]) -> None:
        self.asked = asked
        self.behind: dict[int, set[str]] = defaultdict(set)

    def before(self, body: Sequence[ast.stmt], behind: Set[str], loops: list[_Loop]) -> set[str]:
        """Names before ``body``, from those ``behind`` it."""
        names = set(behind)
        for statement in reversed(body):
            self.behind[id(statement)] |= names
            match statement:
                case ast.While():
                    names = self._loop(statement, names, self.asked(statement.test), set(), loops)
                case ast.For():
                    names = self._loop(statement, names, set(), assigned([statement.target]), loops)
                    names |= self.asked(statement.iter)
                case ast.If():
                    branches = [self.before(part, names, loops) for part in (statement.body, statement.orelse)]
                    names = branches[0] | branches[1] | self.asked(statement.test)
                case ast.Break():
                    names = set(loops[-1].behind)
                case ast.Continue():
                    names = set(loops[-1].head)
                case ast.Return():
                    names = set(self.asked(statement))
                case _:
                    names = (names - assigned([statement])) | self.asked(statement)
        return names

    def _loop(
        self, loop: ast.While | ast.For, behind: set[str], tested: Set[str], bound: Set[str], loops: list[_Loop]
    ) -> set[str]:
        behind_turns = self.before(loop.orelse, behind, loops)
        head = behind_turns | tested
        while True:
            inside = self.before(loop.body, head, [*loops, _Loop(head, behind)]) - bound
            if inside <= head:
                return head
            head = head | inside
