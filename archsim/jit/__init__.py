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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeVar, cast

import llvmlite
import numba
import numpy as np
from numba import types
from numba._dispatcher import compute_fingerprint
from numba.core.caching import _Cache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher
from numba.core.serialize import dumps
from numba.extending import is_jitted, typeof_impl

from archsim.jit.copied import Copied, Whole
from archsim.jit.reference import by_reference as by_reference
from archsim.jit.remembered import remembering
from archsim.jit.stored import from_disk, to_disk

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


class _Shelf:
    """What is kept on disk under a ``name``: one file for every version, ``name-VERSION``; its content is the SHA-256
    of what follows, and that. Few versions stay, the oldest go first."""

    def __init__(self, name: str) -> None:
        self._name = name

    def take(self, version: str) -> bytes | None:
        """What was put there as this version; None where there is nothing, or what there is was damaged."""
        path = self._path(version)
        try:
            found = path.read_bytes()
            os.utime(path)  # what is used stays
        except OSError:
            return None
        digest, content = found[:_DIGEST_BYTES], found[_DIGEST_BYTES:]
        return content if hashlib.sha256(content).digest() == digest else None

    def put(self, version: str, content: bytes) -> None:
        """Keep this version, if the disk takes it."""
        path = self._path(version)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_bytes(hashlib.sha256(content).digest() + content)
            partial.replace(path)
            for old in self.paths()[KEPT_VERSIONS:]:
                old.unlink()
        except OSError:  # a disk that is full for the cache need not be full for the results
            with contextlib.suppress(OSError):
                partial.unlink()

    def has(self, beginning: str) -> bool:
        """Whether there is a version of that beginning."""
        start = self._path(beginning).name
        return any(path.name.startswith(start) for path in self.paths())

    def paths(self) -> list[Path]:
        """All versions, the last used first; what dead processes left half-written ends up last."""
        found = [*CACHE_FOLDER.glob(f"{self._name}-*"), *CACHE_FOLDER.glob(f".{self._name}-*")]
        times = {}
        for path in found:
            with contextlib.suppress(OSError):  # another process removed it meanwhile
                times[path] = -path.stat().st_mtime
        return sorted(times, key=times.__getitem__)

    def _path(self, version: str) -> Path:
        return CACHE_FOLDER / f"{self._name}-{version}"


class KernelCache(_Cache):  # type: ignore[misc]
    """Compiled versions of ``function`` on disk: one for every signature.

    A function that is written only where it must be compiled has a hash of what it is ``made_of``, and is written by
    ``write``.
    """

    def __init__(
        self, function: FunctionType, made_of: bytes | None = None, write: Callable[[], None] = lambda: None
    ) -> None:
        self._function = function
        self._shelf = _Shelf(f"{function.__module__}.{function.__qualname__}")
        self._made_of = made_of
        self._write = write
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
        for path in self._shelf.paths():
            path.unlink(missing_ok=True)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The kernel for the argument types ``sig``, or None where it must be compiled."""
        kernel = self._shelf.take(self._version(sig, target_context.codegen())) if self._enabled else None
        if kernel is None:
            self._write()
            return None
        return from_disk(target_context, *pickle.loads(kernel))

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a kernel that was compiled."""
        if not self._enabled or data.library.has_dynamic_globals or any(not part.can_cache for part in data.lifted):
            return
        self._shelf.put(self._version(sig, data.codegen), dumps(to_disk(data)))

    def is_warm(self) -> bool:
        """Whether this kernel was compiled before as it is now, for whatever types."""
        return self._shelf.has(self._beginning())

    def _version(self, sig: Any, codegen: Any) -> str:
        arguments = tuple(map(_description, getattr(sig, "args", sig)))
        rest = hashlib.sha256(repr((arguments, codegen.magic_tuple())).encode()).hexdigest()
        return f"{self._beginning()}{rest[:16]}"

    def _beginning(self) -> str:
        return f"{(self._made_of or hash_of(self._function)).hex()[:16]}-"


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
    """What a kernel takes from ``value``, a constant, a function, a named tuple; of all else its name."""
    if is_jitted(value):
        yield repr(sorted(value.targetoptions.items())).encode()
        yield hash_of(value.py_func)
    elif isinstance(value, FunctionType):
        yield hash_of(value)
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


def hash_of_all(parts: Iterable[Any]) -> bytes:
    """Hash of functions, kernels and constants, and of all that they are made of."""
    digest = hashlib.sha256(_MADE_BY.encode())
    for part in (piece for value in parts for piece in _value(value)):
        digest.update(b"%d:" % len(part) + part)
    return digest.digest()


def noted(name: str, made_of: bytes, work_out: Callable[[], int]) -> int:
    """A number that follows from what has the hash ``made_of``: worked out once, and kept beside the kernels."""
    shelf, version = _Shelf(name), made_of.hex()[:32]
    found = shelf.take(version)
    if found is None:
        found = b"%d" % work_out()
        shelf.put(version, found)
    return int(found)


def _known(value: Any) -> None:
    """Tell numba of every named tuple in ``value`` that it is a tuple. It asks all abstract classes that it knows, for
    the first one, and they all their subclasses: a twentieth of a short run."""
    if isinstance(value, tuple):
        if type(value) not in typeof_impl.registry:
            typeof_impl.register(type(value), typeof_impl.registry[tuple])
        for item in value:
            _known(item)


class _Kept(CPUDispatcher):  # type: ignore[misc]
    """A kernel that is kept on disk."""

    def typeof_pyval(self, value: Any) -> Any:
        """The type of an argument that no call had before. One thread at a time: numba goes through all classes that it
        knows, and those of another thread would come in between."""
        with global_compiler_lock:
            _known(value)
            return super().typeof_pyval(value)

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
    known: dict[bytes, Callable[..., Any]] = vars(kernel).setdefault("_entry_points", {})
    kinds = compute_fingerprint(arguments)  # what numba tells types by itself; to find them out takes 10 ms in a layer
    if kinds not in known:
        known[kinds] = cast(Any, kernel).overloads[tuple(map(numba.typeof, arguments))].entry_point
    return known[kinds]


def njit(function: F) -> F:
    """Compile ``function`` when first called, and keep it on disk."""
    return _cached(function)


def kernel(function: F) -> F:
    """:func:`njit` for functions that allocate nothing: no reference counting, most of a small kernel's time else."""
    return _cached(function, _nrt=False, pipeline_class=Whole)


def written_late(function: F, made_of: bytes, write: Callable[[], None]) -> F:
    """A :func:`kernel` of a ``function`` that lacks what its names stand for until ``write`` was called, which takes
    long and is done only where it is compiled. ``made_of`` is the hash of all that it will be made of."""
    if numba.config.DISABLE_JIT:
        write()
        return function
    compiled = kernel(function)
    cast(Any, compiled)._cache = KernelCache(cast(FunctionType, function), made_of, write)
    return compiled


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
