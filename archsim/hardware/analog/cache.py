"""Effective matrices on disk, named by the content they were made from.

A file is named by a hash of the cells' conductances, the resistances and the sources that turn them into matrices, so
nothing stale is ever found. It starts with a hash of the rest: a damaged file is told by it and made anew. Files are
in ``archsim-arrays`` in the user's cache directory (``XDG_CACHE_HOME`` moves it); those used longest ago go, sooner or
later, when all of them take more than :data:`LIMIT_BYTES`. Where no directory can be written, matrices are made every
time.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archsim.hardware.analog import wires

LIMIT_BYTES = 2 << 30
SUFFIX = ".effective"
LOOKS = "00"
"""Files whose names start so look how full the cache is: one of 256, for looking at all of them takes time."""


def default_folder() -> Path | None:
    """The user's cache folder for effective matrices; None where nobody knows where the user's home is."""
    with contextlib.suppress(RuntimeError):
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archsim-arrays"
    return None


def cached_effective_conductance(
    conductance: NDArray[np.float64], config: wires.WireConfig, folder: Path | None
) -> NDArray[np.float64]:
    """:func:`effective_conductance` of ``conductance`` [..., N, M], from ``folder`` where it is known."""
    cells = np.ascontiguousarray(conductance, np.float64)
    if folder is None or not any(config.ohms.values()):
        return wires.effective_conductance(cells, **config.ohms)
    digest = hashlib.sha256(_sources())
    digest.update(repr((cells.shape, sorted(config.ohms.items()))).encode())
    digest.update(cells.tobytes())
    path = folder / (digest.hexdigest()[:32] + SUFFIX)
    found = _read(path, cells.shape)
    if found is None:
        found = wires.effective_conductance(cells, **config.ohms)
        with contextlib.suppress(OSError):
            _write(path, found)
    return found


@cache
def _sources() -> bytes:
    return hashlib.sha256(Path(wires.__file__).read_bytes()).digest()


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    if len(content) != 32 + 8 * math.prod(shape) or hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    return np.frombuffer(content, np.float64, offset=32).reshape(shape).copy()


def _write(path: Path, matrices: NDArray[np.float64]) -> None:
    """Write the file in its place: who reads a part of it, now or after this process was killed, sees its damage."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = matrices.tobytes()
    try:
        path.write_bytes(hashlib.sha256(content).digest() + content)
    except BaseException:  # a full disk, Ctrl-C
        with contextlib.suppress(OSError):  # a directory of somebody
            path.unlink(missing_ok=True)
        raise
    if path.name.startswith(LOOKS):
        _make_room(path.parent)


def _make_room(folder: Path) -> None:
    known = []
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # another process makes room, too
            known.append((path, path.stat()))
    taken = sum(status.st_size for _, status in known)
    for path, status in sorted(known, key=lambda entry: entry[1].st_mtime):
        if taken <= LIMIT_BYTES:
            return
        path.unlink(missing_ok=True)
        taken -= status.st_size
