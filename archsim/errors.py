"""What archsim tells a person whose input is wrong.

::

    ArchsimError            any problem with what the user gave; exit code 2, never a traceback
    ├── ConfigError         a hardware file, a cost table, an override
    ├── TraceError          a trace file
    ├── UsageError          the command line, a path that cannot be written
    └── EngineError         a machine that cannot make progress (deadlock) or exceeds a limit

A bug in archsim itself is any other exception, and exit code 1. An error carries *all* problems of its input, one
line each, of the shape ``file:line:column path: what is wrong, got X; allowed: Y (did you mean 'Z'?)``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class ArchsimError(Exception):
    """One or more problems, each a line that can be read alone."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))

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


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the allowed name closest to ``name``, or the empty string.

    What counts are the parts between dots in which the two differ: all files that end in ``.yaml`` are not alike.
    """

    def likeness(other: str) -> float:
        mine, its = name.split("."), other.split(".")
        left = ".".join(part for part in mine if part not in its)
        right = ".".join(part for part in its if part not in mine)
        return difflib.SequenceMatcher(None, left, right).ratio() if left and right else 1.0

    closest = max(allowed, key=likeness, default=None)
    return f" (did you mean '{closest}'?)" if closest is not None and likeness(closest) >= 0.5 else ""
