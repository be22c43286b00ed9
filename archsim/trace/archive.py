"""A guarded view of an ``.npz`` file: nothing is inflated before its size is known to be what was promised.

An ``.npz`` is a zip file of ``.npy`` members. ``numpy.load`` would inflate a member, then look at what it is. Here the
zip directory is judged first (names, sizes, compression, encryption), then the header of each member, and only then
exactly the promised number of bytes is inflated, with its CRC checked at the end. Nothing is ever unpickled.
"""

from __future__ import annotations

import io
import math
import os
import struct
import threading
import tokenize
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from archsim import examples
from archsim.errors import MOST_PROBLEMS, TraceError, nearest, printable
from archsim.trace.graph import MAX_BYTES, ArraySpec
from archsim.trace.presets import PRESETS, how_to_make
from archsim.trace.published import NETWORKS

MAX_META_BYTES = 1 << 22
KEPT_BYTES = 1 << 25
"""So many bytes of the arrays that were asked for last stay inflated: a run asks for an array about ten times."""

_MAX_MEMBERS = 100_000
_MAX_HEADER = 4096
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
# Whatever zipfile and zlib raise on bytes that are not what they pretend to be.
_DAMAGE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError,
    RuntimeError, OverflowError, IndexError, KeyError, OSError,
)  # fmt: skip


class _Kept:
    """Arrays that were asked for last, at most KEPT_BYTES of them; threads may share it."""

    def __init__(self) -> None:
        self._arrays: OrderedDict[str, NDArray[np.generic]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, name: str) -> NDArray[np.generic] | None:
        """The array ``name``, if it is kept."""
        with self._lock:
            if name in self._arrays:
                self._arrays.move_to_end(name)
            return self._arrays.get(name)

    def keep(self, name: str, array: NDArray[np.generic]) -> None:
        """Keep ``array`` in place of those that nobody has asked for longest."""
        with self._lock:
            if name in self._arrays or array.nbytes > KEPT_BYTES:
                return
            self._arrays[name] = array
            self._bytes += array.nbytes
            while self._bytes > KEPT_BYTES:
                _, oldest = self._arrays.popitem(last=False)
                self._bytes -= oldest.nbytes


class Archive(Mapping[str, NDArray[np.generic]]):
    """The arrays of one file by name, read when they are asked for; those asked for last are kept (KEPT_BYTES).

    An archive can be pickled and sent to another process, which opens the file anew; a file that changed in between is
    an error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.specs: dict[str, ArraySpec] = {}
        self._fingerprint: tuple[int, ...] | None = None
        self._zip: zipfile.ZipFile | None = None
        self._kept = _Kept()
        self._members = self._directory(self._open())

    def meta_bytes(self, name: str = "meta") -> bytes:
        """The content of the uint8 array ``name``, whose length no one promised."""
        if name not in self._members:
            found = printable(", ".join(sorted(self._members)[:8])) or "none"
            raise TraceError(f"{self.path}: array {name!r} is missing, so this is no trace; found: {found}")
        size = self._members[name]
        if size > MAX_META_BYTES:
            raise TraceError(f"{self.path}: {name}: takes {size:,} bytes; allowed: at most {MAX_META_BYTES:,}")
        with self._member(name) as file:
            dtype, shape, fortran, header = _read_header(file)
            if dtype != np.dtype(np.uint8) or len(shape) != 1 or fortran:
                raise TraceError(f"{self.path}: {name}: got {_describe(dtype, shape)}; allowed: uint8 of one dimension")
            return _read_rest(file, size - header, shape[0])

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        assert self._fingerprint is not None, "the constructor opens the file"
        return self._fingerprint[2]

    def expect(self, specs: Mapping[str, ArraySpec]) -> list[str]:
        """Promise these arrays and no others. Returns what the zip directory already tells is wrong."""
        self.specs = dict(specs)
        missing = [name for name in specs if name not in self._members]
        strange = sorted(set(self._members) - set(specs) - {"meta"})
        problems: list[str] = []
        for names, what, alike in ((missing, "is missing", strange), (strange, "is not in the record", missing)):
            for name in names:
                # Looking for a hint takes time, and no more of them are told.
                hint = nearest(name, alike) if len(problems) < MOST_PROBLEMS else ""
                problems.append(f"{self.path}: array {_quoted(name)} {what}{hint}")
        for name, spec in specs.items():
            size = self._members.get(name)
            if size is not None and not spec.bytes <= size <= spec.bytes + _MAX_HEADER:
                problems.append(
                    f"{self.path}: array {_quoted(name)} takes {size:,} bytes; allowed: "
                    f"{spec.bytes:,} for {_describe(spec.dtype, spec.shape)}, and a header"
                )
        return problems

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        spec = self.specs[name]
        self._open()  # a file that was replaced is an error, whatever is kept of it
        found = self._kept.get(name)
        if found is None:
            found = self._read(name, spec)
            self._kept.keep(name, found)
        return found

    def _read(self, name: str, spec: ArraySpec) -> NDArray[np.generic]:
        with self._member(name) as file:
            dtype, shape, fortran, header = _read_header(file)
            promised = _describe(spec.dtype, spec.shape)
            if dtype != np.dtype(spec.dtype) or shape != spec.shape or fortran:
                order = " in Fortran order" if fortran else ""
                raise TraceError(
                    f"{self.path}: array {name!r}: got {_describe(dtype, shape)}{order}; allowed: {promised}"
                )
            data = _read_rest(file, self._members[name] - header, spec.bytes)
        return np.frombuffer(data, spec.dtype).reshape(spec.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def __len__(self) -> int:
        return len(self.specs)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_zip", "_kept")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _zip=None, _kept=_Kept())

    def _open(self) -> zipfile.ZipFile:
        """The file, with its directory parsed once in each process; an error if it is not the one it was."""
        with self._file() as file:
            self._same_file(os.fstat(file.fileno()))
        if self._zip is None:
            with self._damage():
                self._zip = zipfile.ZipFile(self.path)
        return self._zip

    def _file(self) -> IO[bytes]:
        try:
            if self.path.is_dir():
                raise TraceError(f"{self.path}: is a directory, not a trace file")
            if self.path.exists() and not self.path.is_file():
                raise TraceError(f"{self.path}: is not a regular file, and a trace is read more than once")
            return self.path.open("rb")
        except FileNotFoundError:
            siblings: list[str] = [*examples.traces(), *PRESETS, *NETWORKS]
            with suppress(OSError):
                siblings += [entry.name for entry in self.path.parent.glob("*.npz")]
            hint = how_to_make(self.path) or nearest(self.path.name, siblings)
            raise TraceError(f"{self.path}: no such file{hint}") from None
        except (OSError, ValueError) as error:
            # ValueError: a path with a zero byte in it.
            reason = getattr(error, "strerror", None) or error
            raise TraceError(f"{self.path}: cannot be read: {reason}") from None

    def _same_file(self, status: os.stat_result) -> None:
        if not status.st_size:
            raise TraceError(f"{self.path}: is empty; a trace is an .npz file")
        if status.st_size > MAX_BYTES:
            raise TraceError(f"{self.path}: takes {status.st_size:,} bytes; allowed: at most {MAX_BYTES:,}")
        fingerprint = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._fingerprint not in (None, fingerprint):
            raise TraceError(f"{self.path}: was replaced or changed while it was in use; load it again")
        self._fingerprint = fingerprint

    @contextmanager
    def _damage(self, name: str = "") -> Iterator[None]:
        where = f"{self.path}: array {_quoted(name)}" if name else f"{self.path}"
        try:
            yield
        except zipfile.BadZipFile as error:
            meaning = "is damaged" if name else "is not a zip file or is truncated, and a trace is an .npz file"
            raise TraceError(f"{where}: {meaning}: {printable(error)}") from None
        except _DAMAGE as error:
            raise TraceError(f"{where}: is damaged: {printable(error) or type(error).__name__}") from None

    @contextmanager
    def _member(self, name: str) -> Iterator[IO[bytes]]:
        archive = self._open()
        with self._damage(name), archive.open(f"{name}.npy") as file:
            yield file

    def _directory(self, archive: zipfile.ZipFile) -> dict[str, int]:
        """Uncompressed size by array name, or every problem of the directory."""
        problems, members = [], {}
        entries = archive.infolist()
        if len(entries) > _MAX_MEMBERS:
            raise TraceError(f"{self.path}: {len(entries):,} members; allowed: at most {_MAX_MEMBERS:,}")
        for entry in entries:
            shown = _quoted(entry.filename)
            name = entry.filename.removesuffix(".npy")
            if not entry.filename.endswith(".npy"):
                problems.append(f"{self.path}: member {shown} is not an .npy array")
            elif name in members:
                problems.append(f"{self.path}: member {shown} occurs twice")
            if entry.flag_bits & 0x1:
                problems.append(f"{self.path}: member {shown} is encrypted")
            if entry.compress_type not in _METHODS:
                allowed = ", ".join(_METHODS.values())
                problems.append(
                    f"{self.path}: member {shown} has compression method {entry.compress_type}; allowed: {allowed}"
                )
            members[name] = entry.file_size
        total = sum(members.values())
        if total > MAX_BYTES + MAX_META_BYTES:
            problems.append(f"{self.path}: would take {total:,} bytes unpacked; allowed: at most {MAX_BYTES:,}")
        if problems:
            raise TraceError(problems)
        return members


def write_array(file: IO[bytes], array: NDArray[np.generic]) -> None:
    """``array`` as an ``.npy`` stream, C order."""
    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def read_array(file: zipfile.ZipFile | IO[bytes], most: int) -> NDArray[Any]:
    """The numbers in an ``.npy`` file, or the only array of an ``.npz`` file, if they take at most ``most`` bytes."""
    if isinstance(file, zipfile.ZipFile):
        members = file.infolist()
        if len(members) != 1:
            found = ", ".join(ascii(member.filename.removesuffix(".npy")[:40])[1:-1] for member in members[:8])
            raise ValueError(f"got the arrays {found or 'none'}; allowed: one array")
        with file.open(members[0]) as member:
            return _numbers(member, members[0].file_size, most)
    return _numbers(file, os.fstat(file.fileno()).st_size, most)


def _numbers(file: IO[bytes], size: int, most: int) -> NDArray[Any]:
    dtype, shape, fortran, header = _read_header(file)
    if dtype.kind not in "biuf":
        raise ValueError(f"holds {str(dtype)[:40]}; allowed: numbers")
    expected = math.prod(shape) * dtype.itemsize
    if expected > most:
        raise ValueError(f"takes {expected:,} bytes unpacked; allowed for its size: {most:,}; an .npy may hold more")
    data = np.frombuffer(_read_rest(file, size - header, expected), dtype)
    return data.reshape(shape, order="F" if fortran else "C")


def _read_header(file: IO[bytes]) -> tuple[np.dtype[np.generic], tuple[int, ...], bool, int]:
    """dtype, shape, whether in Fortran order, and the length of an ``.npy`` header. Refuses object arrays."""
    start = file.read(10)
    if len(start) < 10 or start[:6] != b"\x93NUMPY" or start[6:8] not in (b"\x01\x00", b"\x02\x00"):
        raise ValueError("not an .npy array of version 1 or 2")
    if start[6] == 2:
        start += file.read(2)
    length = int.from_bytes(start[8:], "little")
    if length > _MAX_HEADER - len(start):
        raise ValueError(f"its .npy header takes {length:,} bytes")
    raw = start[8:] + file.read(length)
    read = np.lib.format.read_array_header_1_0 if start[6] == 1 else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as of a header that Python 2 wrote
            shape, fortran, dtype = read(io.BytesIO(raw), max_header_size=_MAX_HEADER)
    except (SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError, Warning) as error:
        raise ValueError(f"its .npy header cannot be read: {error}") from None
    if dtype.hasobject:
        raise ValueError("holds pickled Python objects, which are never loaded")
    return dtype, shape, bool(fortran) and len(shape) > 1, len(start) + length


def _read_rest(file: IO[bytes], left: int, expected: int) -> bytes:
    if left != expected:
        raise ValueError(f"{left:,} bytes of data where its header promises {expected:,}")
    # This is the end of the member, where zipfile compares the CRC.
    data = file.read(expected)
    if len(data) != expected:
        raise ValueError(f"truncated: {len(data):,} of {expected:,} bytes")
    return data


def _describe(dtype: object, shape: tuple[int, ...]) -> str:
    return printable(f"{dtype} {list(shape)}", 120)


def _quoted(name: str) -> str:
    return printable(repr(name), 120)
