"""How a word on the command line may go on, for the shell."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path


def files_and(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """How a word that is a file's or a shipped one's name may go on, for the shell."""

    def complete(incomplete: str) -> list[str]:
        folder, _, start = incomplete.rpartition("/")
        found = [] if folder else [name for name in names() if name.startswith(start)]
        with contextlib.suppress(OSError):
            for entry in sorted(Path(folder or ".").iterdir()):
                if entry.name.startswith(start):
                    found.append(f"{folder}/{entry.name}" if folder else entry.name)
        return found

    return complete
