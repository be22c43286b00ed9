"""The one door to numba: ``njit`` with a disk cache that cannot be stale.

numba keys its cache by the file of the decorated function only. A cached function that calls a function of another
file keeps running the *old* callee after that file is edited. archsim therefore gives numba a cache folder of its own,
named by a hash of all sources of the package: edit anything and everything is compiled anew, once. The folder is in the
user's cache directory (``NUMBA_CACHE_DIR`` or ``XDG_CACHE_HOME`` move it), so a read-only installation works too.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

KEPT_CACHES = 4

F = TypeVar("F", bound=Callable[..., Any])


def _source_hash() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _cache_folder() -> Path:
    """This version's cache folder, created; in the temporary directory where the user's is not writable."""
    roots = [Path(tempfile.gettempdir()) / f"archsim-kernels-{os.getuid()}"]
    with contextlib.suppress(RuntimeError):  # nobody knows where the user's home is
        base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        roots.insert(0, Path(base) / "archsim-kernels")
    for root in roots:
        folder = root / _source_hash()
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            if not (_is_private(root) and _is_private(folder) and os.access(folder, os.W_OK)):
                continue
            os.utime(folder)
            others = sorted(filter(_is_cache, root.iterdir()), key=lambda f: f.stat().st_mtime, reverse=True)
        except OSError:
            continue
        for old in others[KEPT_CACHES:]:
            shutil.rmtree(old, ignore_errors=True)
        return folder
    return Path(tempfile.mkdtemp(prefix="archsim-kernels-"))


def _is_private(folder: Path) -> bool:
    """Whether only the user can put anything there: numba unpickles what it finds in its cache."""
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def _is_cache(folder: Path) -> bool:
    """Whether ``folder`` is one of ours: named by a hash, with nothing in it but numba's files."""
    return (
        re.fullmatch("[0-9a-f]{16}", folder.name) is not None
        and folder.is_dir()
        and not folder.is_symlink()
        and all(path.is_dir() or path.suffix in (".nbi", ".nbc") for path in folder.rglob("*"))
    )


CACHE_FOLDER = _cache_folder()
numba.config.CACHE_DIR = str(CACHE_FOLDER)


def njit(function: F) -> F:
    """Compile ``function`` when first called, and keep it on disk."""
    return cast(F, numba.njit(cache=True)(function))


def kernel(function: F) -> F:
    """:func:`njit` for functions that allocate nothing: no reference counting, most of a small kernel's time else."""
    return cast(F, numba.njit(cache=True, _nrt=False)(function))


def inlined(function: F) -> F:
    """A :func:`kernel` that is copied into its callers: passing tuples of arrays costs more than what it does."""
    return cast(F, numba.njit(cache=True, _nrt=False, forceinline=True)(function))


def cache_is_cold() -> bool:
    """True when nothing was compiled yet for these sources: the next simulation compiles first."""
    return not numba.config.DISABLE_JIT and next(CACHE_FOLDER.rglob("*.nbi"), None) is None
