"""The one door to numba: ``njit`` with a disk cache that is never stale, never damaged and seldom cold.

numba keys its cache by the file of the decorated function only. A cached function that calls a function of another
file keeps running the *old* callee after that file is edited. archsim therefore keeps kernels itself, each in a file
whose name is a hash of all that it is made of: its own bytecode, that of every kernel that it calls, the constants and
named tuples that they use, this package, the types of its arguments, the processor, Python and numba. An edit
elsewhere compiles nothing. A file begins with a hash of its content, so that one that is cut or has flipped bits is
compiled anew instead of loaded; one that cannot be written is compiled again the next time.

The folder is in the user's cache directory (``NUMBA_CACHE_DIR`` or ``XDG_CACHE_HOME`` move it), so a read-only
installation works too.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import os
import pickle
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeVar, cast

import llvmlite
import numba
import numpy as np
from numba import types
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.registry import CPUDispatcher
from numba.core.serialize import dumps
from numba.extending import is_jitted

from archsim.jit.copied import Copied, Whole
from archsim.jit.reference import by_reference as by_reference
from archsim.jit.remembered import remembering

KEPT_VERSIONS = 12
"""How many files of one kernel stay: its versions times the types that it is called with; the oldest go first."""

_DIGEST_BYTES = 32

F = TypeVar("F", bound=Callable[..., Any])


def _cache_folder() -> Path:
    """The folder of kernels, created; in the temporary directory where the user's is not writable."""
    roots = [Path(tempfile.gettempdir()) / f"archsim-kernels-{os.getuid()}"]
    with contextlib.suppress(RuntimeError):  # nobody knows where the user's home is
        base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        roots.insert(0, Path(base) / "archsim-kernels")
    for root in roots:
        with contextlib.suppress(OSError):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_private(root) and os.access(root, os.W_OK):
                return root
    return Path(tempfile.mkdtemp(prefix="archsim-kernels-"))


def _is_private(folder: Path) -> bool:
    """Whether only the user can put anything there: a kernel that is loaded is unpickled and run."""
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


CACHE_FOLDER = _cache_folder()


class KernelCache(_Cache):  # type: ignore[misc]
    """Compiled versions of ``function`` on disk: one file for every signature.

    The name of a file is ``module.function-HASH``; its content the SHA-256 of what follows, and a pickled kernel.
    """

    def __init__(self, function: FunctionType) -> None:
        self._function = function
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._enabled = True

    @property
    def cache_path(self) -> str:
        """The folder, for numba's statistics."""
        return str(CACHE_FOLDER)

    def enable(self) -> None:
        """Use the disk."""
        self._enabled = True

    def disable(self) -> None:
        """Leave the disk alone."""
        self._enabled = False

    def flush(self) -> None:
        """Remove all versions of this kernel."""
        for path in self._versions():
            path.unlink(missing_ok=True)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The kernel for the argument types ``sig``, or None where it must be compiled."""
        if not self._enabled:
            return None
        target_context.refresh()
        path = self._path(sig, target_context.codegen())
        try:
            content = path.read_bytes()
            os.utime(path)  # what is used stays
        except OSError:
            return None
        digest, kernel = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(kernel).digest() != digest:
            return None
        return CompileResult._rebuild(target_context, *pickle.loads(kernel))

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a kernel that was compiled, if the disk takes it."""
        if not self._enabled or data.library.has_dynamic_globals or any(not part.can_cache for part in data.lifted):
            return
        kernel = dumps(data._reduce())
        path = self._path(sig, data.codegen)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_bytes(hashlib.sha256(kernel).digest() + kernel)
            partial.replace(path)
            for old in self._versions()[KEPT_VERSIONS:]:
                old.unlink()
        except OSError:  # a disk that is full for the cache need not be full for the results
            with contextlib.suppress(OSError):
                partial.unlink()

    def is_warm(self) -> bool:
        """Whether this kernel was compiled before as it is now, for whatever types."""
        return any(path.name.startswith(self._prefix()) for path in self._versions())

    def _path(self, sig: Any, codegen: Any) -> Path:
        arguments = tuple(map(_description, getattr(sig, "args", sig)))
        rest = hashlib.sha256(repr((arguments, codegen.magic_tuple())).encode()).hexdigest()
        return CACHE_FOLDER / f"{self._prefix()}{rest[:16]}"

    def _prefix(self) -> str:
        return f"{self._name}-{hash_of(self._function).hex()[:16]}-"

    def _versions(self) -> list[Path]:
        """Files of this kernel, the last used first; what dead processes left half-written ends up last."""
        found = [*CACHE_FOLDER.glob(f"{self._name}-*"), *CACHE_FOLDER.glob(f".{self._name}-*")]
        times = {}
        for path in found:
            with contextlib.suppress(OSError):  # another process removed it meanwhile
                times[path] = -path.stat().st_mtime
        return sorted(times, key=times.__getitem__)


_HOW = tuple(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
"""How kernels are compiled."""
_MADE_BY = repr((_HOW, sys.version, numba.__version__, llvmlite.__version__, np.__version__, numba.config.BOUNDSCHECK))
_hashes: dict[FunctionType, bytes] = {}
_hashing = threading.RLock()


def hash_of(function: FunctionType) -> bytes:
    """Hash of all that the kernel ``function`` is made of."""
    with _hashing:  # another thread would take "itself" for the hash
        if function not in _hashes:
            _hashes[function] = b"itself"  # where it is called by what it calls
            digest = hashlib.sha256(_MADE_BY.encode())
            for part in _parts(function):
                digest.update(b"%d:" % len(part) + part)
            _hashes[function] = digest.digest()
        return _hashes[function]


def _parts(function: FunctionType) -> Iterator[bytes]:
    """Bytecode, defaults, and whatever the names in the bytecode stand for in its module, or in a module there."""
    codes = [function.__code__]
    for code in codes:
        yield code.co_code
        yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)).encode()
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                codes.append(constant)
            else:
                yield from _value(constant)
    for default in function.__defaults__ or ():
        yield from _value(default)
    for cell in function.__closure__ or ():
        yield from _value(cell.cell_contents)
    names = sorted({name for code in codes for name in code.co_names})
    known = function.__globals__
    modules = [known[name] for name in names if isinstance(known.get(name), ModuleType)]
    for name in names:
        if name in known:
            yield name.encode()
            yield from _value(known[name])
        for module in modules:
            if hasattr(module, name):
                yield f"{module.__name__}.{name}".encode()
                yield from _value(getattr(module, name))


def _value(value: Any) -> Iterator[bytes]:
    """What a kernel takes from ``value``, a constant, a kernel, a named tuple; of all else its name."""
    if is_jitted(value):
        yield repr(sorted(value.targetoptions.items())).encode()
        yield hash_of(value.py_func)
    elif isinstance(value, type):
        yield f"{value.__module__}.{value.__qualname__} {getattr(value, '_fields', '')}".encode()
        yield from _value(tuple(getattr(value, "_field_defaults", {}).values()))
    elif isinstance(value, np.ndarray):
        yield repr((value.dtype.str, value.shape)).encode()
        yield value.tobytes()
    elif isinstance(value, tuple):
        yield f"{type(value).__qualname__} {len(value)}".encode()
        for item in value:
            yield from _value(item)
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        yield repr(value).encode()
    else:
        yield getattr(value, "__name__", type(value).__qualname__).encode()


def _description(kind: Any) -> str:
    """A type of an argument in full: numba's name of a named tuple does not tell its fields."""
    if isinstance(kind, types.BaseNamedTuple):
        maker = kind.instance_class
        fields = (f"{name}: {_description(part)}" for name, part in zip(kind.fields, kind.types, strict=True))
        return f"{maker.__module__}.{maker.__qualname__}({', '.join(fields)})"
    if isinstance(kind, types.BaseTuple):
        return f"({', '.join(map(_description, kind.types))})"
    return str(kind)


class _Kept(CPUDispatcher):  # type: ignore[misc]
    """A kernel that is kept on disk."""

    def compile(self, sig: Any) -> Any:
        """Compile for one signature, without a look for garbage: types and code are many objects, and nearly all of
        them stay. Looking through them again and again takes a tenth of the time."""
        collects = gc.isenabled()
        gc.disable()
        try:
            with remembering():
                return super().compile(sig)
        finally:
            if collects:
                gc.enable()


class _Inlined(_Kept):
    """A kernel for Python, and a copied one for kernels."""

    @functools.cached_property
    def copied(self) -> Copied:
        """The latter."""
        return Copied(self.py_func)

    @property
    def _numba_type_(self) -> Any:
        return self.copied._numba_type_


def _cached(function: F, **options: Any) -> F:
    # Kernels hold no lock of Python's: layers are simulated side by side in threads.
    compiled = numba.njit(no_cfunc_wrapper=True, nogil=True, **options)(function)
    if is_jitted(compiled):  # not with NUMBA_DISABLE_JIT
        compiled.__class__ = _Kept
        compiled._cache = KernelCache(cast(FunctionType, function))
    return cast(F, compiled)


def entry_point(kernel: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """The machine code of a ``kernel`` that was called with such ``arguments``, for calls that look up no types again;
    the kernel itself where it runs as plain Python."""
    if not is_jitted(kernel):
        return kernel
    found: Callable[..., Any] = cast(Any, kernel).overloads[tuple(map(numba.typeof, arguments))].entry_point
    return found


def njit(function: F) -> F:
    """Compile ``function`` when first called, and keep it on disk."""
    return _cached(function)


def kernel(function: F) -> F:
    """:func:`njit` for functions that allocate nothing: no reference counting, most of a small kernel's time else."""
    return _cached(function, _nrt=False, pipeline_class=Whole)


def higher_order(function: F) -> F:
    """An :func:`inlined` that takes a compiled function as argument, and that only kernels call."""
    return function if numba.config.DISABLE_JIT else cast(F, Copied(cast(FunctionType, function)))


def inlined(function: F) -> F:
    """A :func:`kernel` that is copied into its callers: passing tuples of arrays costs more than what it does.

    It is kept on disk as far as Python calls it; of kernels it is a part.
    """
    compiled = _cached(function, _nrt=False, forceinline=True, pipeline_class=Whole)
    if is_jitted(compiled):
        compiled.__class__ = _Inlined
    return compiled


def must_compile(function: Any) -> bool:
    """Whether a call of the kernel ``function`` compiles first, as it was never compiled as it is now."""
    return is_jitted(function) and not function._cache.is_warm()


def plain(function: Any) -> Callable[..., Any]:
    """The Python function behind a compiled one."""
    found: Callable[..., Any] = getattr(function, "py_func", function)
    return found
