"""A guarded view of NIR files and of the arrays of inputs that go with them.

A NIR file is HDF5, in which a dataset may lie in another file, claim any size, and unpack to any size. So the whole
file is judged before a value of it is read. What is not reached by plain links, does not lie in the file, or is neither
numbers nor text is refused; so is a file that claims more than ``MAX_EXPANSION`` times its bytes. Attributes, which NIR
does not use, are never read. Graphs come as NIR writes them: nested dictionaries (``nir.NIRGraph.to_dict``).
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ArchsimError, TraceError, UsageError
from archsim.trace.archive import read_array
from archsim.trace.graph import MAX_BYTES
from archsim.trace.schema import MAX_PROBLEMS

# What a file may hold, unpacked, for each of its bytes: weights pack hardly, the same number again and again 1000 to 1.
MAX_EXPANSION = 256
# What any file may hold, unpacked: parameters of neurons are one number for each of 200,000 neurons, and pack well.
SMALL_BYTES = 1 << 26
MAX_OBJECTS = 100_000
MAX_DEPTH = 64
# Names of nodes; each is read by itself.
MAX_STRINGS = 20_000
_GZIP, _LZF = 1, 32000
_FILTERS = {_GZIP: "gzip", 2: "shuffle", 3: "fletcher32", _LZF: "lzf"}


def read_graph(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The graph in a NIR file: node by name of field, text as ``str``, numbers as arrays."""
    try:
        import h5py
    except ImportError:
        raise UsageError("NIR files need the package h5py; pip install 'archsim[nir]'") from None
    size = _size(path)
    try:
        with h5py.File(path, "r") as file:
            vetting = _Vetting(path, size)
            vetting.vet(file.id)
            graph = vetting.read(file)
    except ArchsimError:
        raise
    # Whatever h5py and HDF5 raise on a file that is damaged or none of theirs.
    except Exception as error:
        raise TraceError(f"{path}: not a NIR graph, {_first_line(error)}") from None
    if not isinstance(graph.get("node"), dict):
        raise TraceError(f"{path}: not a NIR graph, it has no group 'node'")
    node: dict[str, Any] = graph["node"]
    return node


def read_inputs(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array in a .npy file, or the only one of an .npz file; pickled objects are never loaded."""
    size = _size(path)
    try:
        with zipfile.ZipFile(path) if zipfile.is_zipfile(path) else Path(path).open("rb") as file:
            return read_array(file, max(SMALL_BYTES, MAX_EXPANSION * size))
    except ArchsimError:
        raise
    # numpy and zipfile raise many kinds of errors on damaged files.
    except Exception as error:
        raise UsageError(f"{path}: not an array file (.npy or .npz), {_first_line(error)}") from None


def shown(text: object) -> str:
    """A name out of a file as a message may print it: on one line, and short."""
    plain = str(text)
    if len(plain) > 60:
        return f"{plain[:57]!r}..."
    return plain if plain.isprintable() else repr(plain)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _size(path: str | os.PathLike[str]) -> int:
    """Bytes of a file that can be read again and again."""
    try:
        if not Path(path).exists():
            raise UsageError(f"{path}: no such file")
        if not Path(path).is_file():
            raise UsageError(f"{path}: is not a regular file")
        size = Path(path).stat().st_size
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if size > MAX_BYTES:
        raise UsageError(f"{path}: takes {size:,} bytes; allowed: at most {MAX_BYTES:,}")
    return size


class _Vetting:
    """Walks through a file once and judges all of it, by its directory alone, before ``read``."""

    def __init__(self, path: str | os.PathLike[str], size: int) -> None:
        self.path = path
        self.size = size
        self.problems: list[str] = []
        self.reached: set[int] = set()
        self.claimed = 0
        self.strings = 0
        self.letters = 0

    def vet(self, root: Any) -> None:
        """``TraceError`` with all that a NIR file may not hold."""
        self._group(root, "", 0)
        allowed = max(SMALL_BYTES, MAX_EXPANSION * self.size)
        if self.claimed > allowed:
            self.problems.append(
                f"{self.path}: takes {self.claimed:,} bytes unpacked; allowed for {self.size:,} bytes: {allowed:,};"
                " nir.write(..., compression=None) writes files that may hold more"
            )
        if self.problems:
            more = len(self.problems) - MAX_PROBLEMS
            raise TraceError(self.problems[:MAX_PROBLEMS] + [f"{self.path}: and {more} more problems"] * (more > 0))

    def read(self, group: Any) -> dict[str, Any]:
        """The fields of a group that was judged."""
        import h5py

        fields: dict[str, Any] = {}
        for name, item in group.items():
            fields[name] = self.read(item) if isinstance(item, h5py.Group) else self._values(item, name)
        return fields

    def _problem(self, name: str, text: str) -> None:
        self.problems.append(f"{self.path}: {shown(name)}: {text}")

    def _group(self, group: Any, name: str, depth: int) -> None:
        import h5py

        if depth > MAX_DEPTH:
            self._problem(name, f"groups nested deeper than {MAX_DEPTH}")
            return
        for key in group:
            inside = f"{name}/{key.decode(errors='replace')}".lstrip("/")
            if group.links.get_info(key).type != h5py.h5l.TYPE_HARD:
                self._problem(inside, "a link to elsewhere; allowed: what lies in the file itself")
                continue
            info = h5py.h5o.get_info(group, key)
            if info.addr in self.reached:
                self._problem(inside, "is linked to more than once")
                continue
            self.reached.add(info.addr)
            if len(self.reached) > MAX_OBJECTS:
                raise TraceError(f"{self.path}: more than {MAX_OBJECTS:,} groups and datasets")
            if info.type == h5py.h5o.TYPE_GROUP:
                self._group(h5py.h5g.open(group, key), inside, depth + 1)
            elif info.type == h5py.h5o.TYPE_DATASET:
                self._dataset(h5py.h5d.open(group, key), inside)
            else:
                self._problem(inside, "is neither a group nor a dataset")

    def _dataset(self, dataset: Any, name: str) -> None:
        import h5py

        plan = dataset.get_create_plist()
        if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
            self._problem(name, "its values lie in other files or datasets; allowed: what lies in the file itself")
            return
        dtype = dataset.dtype
        text = h5py.check_string_dtype(dtype)
        if dtype.kind not in "biuf" and text is None:
            self._problem(name, f"holds {_kind(dtype)}; allowed: numbers and text")
            return
        if dataset.shape is None:  # null: no value at all
            return
        count = math.prod(dataset.shape)
        if text is not None:
            self.strings += count
            if self.strings > MAX_STRINGS:
                self._problem(name, f"more than {MAX_STRINGS:,} names")
        filters = [plan.get_filter(place)[0] for place in range(plan.get_nfilters())]
        if not set(filters) <= set(_FILTERS) or len(set(filters)) < len(filters) or {_GZIP, _LZF} <= set(filters):
            allowed = ", ".join(_FILTERS.values())
            self._problem(name, f"packed by the filters {filters}; allowed: {allowed}, and one way to compress")
            return
        chunk = math.prod(plan.get_chunk()) if plan.get_layout() == h5py.h5d.CHUNKED else 0
        # Whatever its width, a number becomes 64 bits.
        each = max(dtype.itemsize, 8)
        self.claimed += max(count, chunk) * each
        if _GZIP in filters:
            self._chunks(dataset, chunk * dataset.get_type().get_size(), name)

    def _chunks(self, dataset: Any, size: int, name: str) -> None:
        """HDF5 inflates a chunk to whatever it becomes; so see first, in bounded memory, that it becomes ``size``."""
        chunks: list[Any] = []

        def seen(chunk: Any) -> bool | None:
            chunks.append(chunk)
            return len(chunks) > self.size or None

        dataset.chunk_iter(seen)
        for chunk in chunks:
            if chunk.size > self.size:
                self._problem(name, f"a chunk of {chunk.size:,} bytes in a file of {self.size:,}")
                return
            mask, packed = dataset.read_direct_chunk(chunk.chunk_offset)
            # A chunk may have been stored as it is; the checksum of fletcher32 takes four bytes.
            if not mask and len(zlib.decompressobj().decompress(packed, size + 5)) > size + 4:
                self._problem(name, f"a chunk unpacks to more than its {size:,} bytes")
                return

    def _values(self, dataset: Any, name: str) -> Any:
        import h5py

        if dataset.shape is None:
            return None
        if h5py.check_string_dtype(dataset.dtype) is None:
            return np.asarray(dataset[()])
        if dataset.shape == ():
            return self._text(dataset[()], name)
        # One by one: a short file may name one long text very often.
        texts = [self._text(dataset[place], name) for place in np.ndindex(dataset.shape)]
        return np.array(texts, object).reshape(dataset.shape)

    def _text(self, raw: Any, name: str) -> str:
        self.letters += len(raw)
        if self.letters > self.size:
            raise TraceError(f"{self.path}: {shown(name)}: texts of more than the {self.size:,} bytes of the file")
        return raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)


def _kind(dtype: np.dtype[Any]) -> str:
    kinds = {"c": "complex numbers", "O": "objects or references", "V": "compounds", "S": "bytes"}
    return kinds.get(dtype.kind, str(dtype))
