"""What archsim tells a person whose input is wrong.

::

    ArchsimError            any problem with what the user gave; exit code 2, never a traceback
    ├── ConfigError         a hardware file, a cost table, an override
    ├── TraceError          a trace file
    ├── UsageError          the command line, a path that cannot be written
    └── EngineError         a machine that cannot make progress (deadlock) or exceeds a limit

A bug in archsim itself is any other exception, and exit code 1. An error carries *all* problems of its input, one
line each, of the shape ``file:line:column path: what is wrong, got X; allowed: Y (did you mean 'Z'?)``. Whatever a
line quotes, it stays one printable line of bounded length; :func:`printable` quotes what somebody else wrote.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

MOST_CHARACTERS = 1_000
"""Of a problem; what is longer is clipped."""
MOST_PROBLEMS = 50
"""Of an error that are told; ``problems`` has all of them."""
MOST_STEPS = 100_000
"""Of comparing names for a hint, in characters: some milliseconds."""


class ArchsimError(Exception):
    """One or more problems, each a printable line that can be read alone."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        given = (problems,) if isinstance(problems, str) else problems
        self.problems = tuple(printable(problem, MOST_CHARACTERS) for problem in given)
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """What to tell a person: the first problems, and how many more there are."""
        more = len(self.problems) - MOST_PROBLEMS
        if more <= 1:  # the last one takes no more room than its number
            return list(self.problems)
        return [*self.problems[:MOST_PROBLEMS], f"and {more:,} more problems"]

    def __reduce__(self) -> tuple[type[ArchsimError], tuple[tuple[str, ...]]]:
        """Survive the way back from another process with all problems."""
        return type(self), (self.problems,)


class ConfigError(ArchsimError):
    """A hardware file, a cost table or an override is wrong."""


class TraceError(ArchsimError):
    """A trace file is damaged, inconsistent or not a trace."""


class UsageError(ArchsimError):
    """The command line asks for something that does not exist or cannot be done."""


class EngineError(ArchsimError):
    """The simulated machine cannot make progress or exceeds a limit of the engine."""


def printable(text: object, limit: int = 200) -> str:
    """``text`` on one line of at most ``limit`` characters that no terminal obeys.

    Control characters, line breaks, marks that change the direction of writing and lone surrogates are written out, as
    in ``\\x1b``. What does not fit is clipped, and its length told: ``aaaa... (60,000 characters)``.
    """
    whole = str(text)
    line = whole[: limit + 1]
    if not line.isprintable():
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    if len(line) <= limit:
        return line
    note = f"... ({len(whole):,} characters)"
    return line[: limit - len(note)] + note if len(note) < limit else line[:limit]


def is_follow_up(details: Mapping[str, Any]) -> bool:
    """Whether pydantic, in these ``details`` of an error, misses only items that it has refused and told of itself."""
    found = details["input"]
    return details["type"] == "too_short" and isinstance(found, Sized) and len(found) >= details["ctx"]["min_length"]


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the allowed name closest to ``name``, or the empty string.

    What counts are the parts between dots in which the two differ: all files that end in ``.yaml`` are not alike.
    Capital letters are as good as small ones. Files may hold thousands of names, and very long ones: those behind the
    first MOST_STEPS are not compared.
    """
    closest, best = "", 0.5
    steps = 0
    mine = name.casefold().split(".")
    for other in allowed:
        steps += len(name) + len(other)
        if steps > MOST_STEPS:
            break
        its = other.casefold().split(".")
        left = ".".join(part for part in mine if part not in its)
        right = ".".join(part for part in its if part not in mine)
        matcher = difflib.SequenceMatcher(None, left, right)
        if not left or not right:
            likeness = 1.0 if left or right else 2.0  # the same but for capital letters
        elif matcher.quick_ratio() < best:  # never less than the ratio
            continue
        else:
            steps += len(left) * len(right)
            likeness = matcher.ratio() if steps <= MOST_STEPS else 0.0
        if likeness > best or (not closest and likeness == best):
            closest, best = other, likeness
    return f" (did you mean '{closest}'?)" if closest else ""
