"""What comes with archsim: machines and a trace that can be named without a path, such as ``loas`` and ``vgg9``.

A name is looked up only where no file of that name exists. In an installed archsim the files lie inside the package,
in a clone at the top of the tree.
"""

from __future__ import annotations

import os
from pathlib import Path

TRACES = {"vgg9": "vgg9_dual_sparse.npz"}
"""Names of traces, and their files in ``workloads/``."""

_PACKAGE = Path(__file__).parent
_INSTALLED = _PACKAGE / "bundled"
_ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent


def machines() -> dict[str, Path]:
    """Hardware files by name."""
    return {path.stem: path for path in sorted((_ROOT / "hwconfigs").glob("*.yaml"))}


def traces() -> dict[str, Path]:
    """Trace files by name."""
    return {name: _ROOT / "workloads" / file for name, file in TRACES.items()}


def find(path: str | os.PathLike[str]) -> Path:
    """``path``, or the file that comes with archsim if there is none and it is the name of one.

    A folder of that name is in nobody's way.
    """
    given = Path(path)
    shipped = machines().get(given.name) or traces().get(given.name)
    return given if shipped is None or len(given.parts) != 1 or is_there(given) else shipped


def is_there(path: Path) -> bool:
    """Whether there is something at ``path`` that is no folder; not where the path is none that could be."""
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):  # a name that is too long, a NUL character
        return False
