"""Reads an HDF5 file of which nothing is believed; runs as a process of its own.

In HDF5 a dataset may lie in another file, claim any size, and unpack to any size. So the whole file is judged before a
value of it is read. What is not reached by plain links, does not lie in the file, or is neither numbers nor text is
refused; so is a file that claims more bytes than it may. Attributes are never read.

The library itself loops or crashes on some damaged files, and then hears no signal; hence the process. It needs
nothing of archsim: ``python hdf5.py FILE BYTES`` writes an .npz of the arrays by path, text as arrays of text, or, with
the exit code ``REFUSED``, a JSON list of problems. A limit on the processor's time ends it wherever it is.
"""

from __future__ import annotations

import io
import json
import math
import resource
import sys
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

REFUSED = 3
MAX_OBJECTS = 100_000
MAX_DEPTH = 64
MAX_PROBLEMS = 50
# Names of nodes; each is read by itself.
MAX_STRINGS = 20_000
# What the libraries take before they have read anything.
_OWN_BYTES = 1 << 32
_GZIP, _LZF = 1, 32000
_FILTERS = {_GZIP: "gzip", 2: "shuffle", 3: "fletcher32", _LZF: "lzf"}


class RefusedError(Exception):
    """Problems of a file, as a list."""


class Reader:
    """Walks through a file once and judges all of it, by its directory alone; then again, and reads it."""

    def __init__(self, path: str, allowed: int) -> None:
        self.allowed = allowed
        self.size = Path(path).stat().st_size
        self.problems: list[str] = []
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        self.reached: set[int] = set()
        self.claimed = 0
        self.strings = 0
        self.letters = 0
        with h5py.File(path, "r") as file:
            self._group(file.id, "", 0)
            if self.claimed > allowed:
                self.problems.append(
                    f"takes {self.claimed:,} bytes unpacked; allowed for a file of {self.size:,} bytes: {allowed:,};"
                    " nir.write(..., compression=None) writes files that may hold more"
                )
            if self.problems:
                raise RefusedError(self.problems[:MAX_PROBLEMS])
            self._read(file, "")

    def _problem(self, name: str, text: str) -> None:
        self.problems.append(f"{name}: {text}")

    def _group(self, group: Any, name: str, depth: int) -> None:
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
                raise RefusedError([f"more than {MAX_OBJECTS:,} groups and datasets"])
            if info.type == h5py.h5o.TYPE_GROUP:
                self._group(h5py.h5g.open(group, key), inside, depth + 1)
            elif info.type == h5py.h5o.TYPE_DATASET:
                self._dataset(h5py.h5d.open(group, key), inside)
            else:
                self._problem(inside, "is neither a group nor a dataset")

    def _dataset(self, dataset: Any, name: str) -> None:
        plan = dataset.get_create_plist()
        layout = plan.get_layout()
        if layout == h5py.h5d.VIRTUAL or plan.get_external_count():
            self._problem(name, "its values lie in other files or datasets; allowed: what lies in the file itself")
            return
        dtype, text = dataset.dtype, h5py.check_string_dtype(dataset.dtype)
        if dtype.kind not in "biuf" and text is None:
            kind = {"c": "complex numbers", "O": "references or lists", "V": "compounds"}.get(dtype.kind, str(dtype))
            self._problem(name, f"holds {kind}; allowed: numbers and text")
            return
        if dataset.shape is None:  # null: no value at all
            return
        count = math.prod(dataset.shape)
        self.strings += count if text is not None else 0
        if self.strings > MAX_STRINGS:
            raise RefusedError([f"{name}: more than {MAX_STRINGS:,} names"])
        filters = [plan.get_filter(place)[0] for place in range(plan.get_nfilters())]
        if not set(filters) <= set(_FILTERS) or len(set(filters)) < len(filters) or {_GZIP, _LZF} <= set(filters):
            allowed = ", ".join(_FILTERS.values())
            self._problem(name, f"packed by the filters {filters}; allowed: {allowed}, and one way to compress")
            return
        chunk = math.prod(plan.get_chunk()) if layout == h5py.h5d.CHUNKED else 0
        # Whatever its width, a number becomes 64 bits.
        self.claimed += max(count, chunk) * max(dtype.itemsize, 8)
        if _GZIP in filters and self.claimed <= self.allowed:
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

    def _read(self, group: Any, name: str) -> None:
        for key, item in group.items():
            inside = f"{name}/{key}".lstrip("/")
            if isinstance(item, h5py.Group):
                self._read(item, inside)
            elif item.shape is not None:
                self.arrays[inside] = self._values(item, inside)

    def _values(self, dataset: Any, name: str) -> np.ndarray[Any, Any]:
        if h5py.check_string_dtype(dataset.dtype) is None:
            return np.asarray(dataset[()])
        # One by one: a short file may name one long text very often.
        texts = [self._text(dataset[place], name) for place in np.ndindex(dataset.shape)]
        return np.array(texts, np.str_).reshape(dataset.shape)

    def _text(self, raw: Any, name: str) -> str:
        self.letters += len(raw)
        if self.letters > self.size:
            raise RefusedError([f"{name}: texts of more than the {self.size:,} bytes of the file"])
        return raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def main(path: str, allowed: int) -> int:
    """What the module's docstring says; the exit code."""
    # Of the processor: to begin with, and a second for each MiB.
    _limit(resource.RLIMIT_CPU, 10 + (Path(path).stat().st_size >> 20))
    _limit(resource.RLIMIT_AS, allowed + _OWN_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    try:
        found = Reader(path, allowed).arrays
    except RefusedError as refused:
        problems = refused.args[0]
    # Whatever h5py and HDF5 raise on a file that is damaged or none of theirs.
    except Exception as error:
        problems = [f"not a NIR graph, {(str(error).splitlines() or [type(error).__name__])[0][:200]}"]
    else:
        content = io.BytesIO()
        named: dict[str, Any] = {f"/{name}": array for name, array in found.items()}
        np.savez(content, **named)
        sys.stdout.buffer.write(content.getbuffer())
        return 0
    sys.stdout.write(json.dumps(problems))
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
