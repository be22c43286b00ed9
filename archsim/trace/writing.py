"""Write a trace file: the same trace gives the same bytes."""

from __future__ import annotations

import errno
import json
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from archsim import atomic
from archsim.errors import UsageError
from archsim.trace import graph, schema
from archsim.trace.archive import write_array
from archsim.trace.content import ContentHash
from archsim.trace.model import Trace

# The earliest date that a zip file can hold; a real one would make every file different.
_DATE = (1980, 1, 1, 0, 0, 0)


def save_trace(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write ``trace`` to ``path``: the file appears whole or not at all. Not writable is a ``UsageError``.

    A selection (``Trace.select``) is written as a trace of its own, with a hash of its own.
    """
    path = Path(path)
    meta = schema.with_version(trace.meta)
    record = schema.dump(meta)
    names = sorted(graph.resolve(meta, str(path)).arrays)
    digest = ContentHash(record)
    for name in names:
        digest.add(name, trace.arrays[name])
    record["sha256"] = digest.hexdigest()
    text = json.dumps(record, indent=1, ensure_ascii=True, allow_nan=False)
    try:
        if not path.parent.is_dir():  # a folder is not made for a mistyped path
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        with (
            atomic.replacing(path) as partial,
            zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        ):
            _add(archive, "meta", np.frombuffer(text.encode("ascii"), np.uint8))
            for name in names:
                _add(archive, name, trace.arrays[name])
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    entry = zipfile.ZipInfo(f"{name}.npy", _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    file: IO[bytes]
    with archive.open(entry, "w") as file:
        write_array(file, array)
