"""Files for ``from_nir``: a NIR graph (HDF5) as NIR keeps it in memory, and an array of inputs.

Neither is believed: what a file may become is bounded by what it holds, ``MAX_EXPANSION`` times its bytes, before the
work begins. ``hdf5`` reads the graph, in a process of its own.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import TraceError, UsageError
from archsim.trace.archive import read_array
from archsim.trace.graph import MAX_BYTES

# Weights pack hardly, the same number again and again packs 1000 to 1.
MAX_EXPANSION = 256
# What any file may become: a neuron has five parameters, the same ones for all, which pack well.
SMALL_BYTES = 1 << 26
# The exit code of ``hdf5`` with problems.
_REFUSED = 3


def read_graph(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The graph in a NIR file, as ``nir.NIRGraph.to_dict`` has it: nested dictionaries of arrays and text."""
    if importlib.util.find_spec("h5py") is None:
        raise UsageError("NIR files need the package h5py; pip install 'archsim[nir]'")
    allowed = _allowed(path)
    reader = Path(__file__).with_name("hdf5.py")
    done = subprocess.run(
        [sys.executable, "-P", os.fspath(reader), os.fspath(path), str(allowed)],
        stdin=subprocess.DEVNULL, capture_output=True, check=False, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode == _REFUSED:
        raise TraceError([f"{path}: {problem}" for problem in json.loads(done.stdout)])
    if done.returncode:
        name = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
        raise TraceError(f"{path}: not a NIR graph, or damaged; HDF5 could not read it and ended with {name}")
    graph: dict[str, Any] = {}
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as arrays:
        for key in arrays:
            *groups, field = key.lstrip("/").split("/")
            inside = graph
            for group in groups:
                inside = inside.setdefault(group, {})
                if not isinstance(inside, dict):
                    raise TraceError(f"{path}: not a NIR graph, {shown(group)} is twice there")
            inside[field] = _text_or_array(arrays[key])
    if not isinstance(graph.get("node"), dict):
        raise TraceError(f"{path}: not a NIR graph, it has no group 'node'")
    node: dict[str, Any] = graph["node"]
    return node


def read_inputs(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array in a .npy file, or the only one of an .npz file; pickled objects are never loaded."""
    allowed = _allowed(path)
    try:
        with zipfile.ZipFile(path) if zipfile.is_zipfile(path) else Path(path).open("rb") as file:
            return read_array(file, allowed)
    # numpy and zipfile raise many kinds of errors on damaged files.
    except Exception as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path}: not an array file (.npy or .npz), {what[:200]}") from None


def shown(text: object) -> str:
    """A name out of a file as a message may print it: on one line, and short."""
    plain = str(text)
    if len(plain) > 60:
        return f"{plain[:57]!r}..."
    return plain if plain.isprintable() else repr(plain)


def _text_or_array(array: NDArray[Any]) -> Any:
    return array.item() if array.dtype.kind == "U" and array.ndim == 0 else array


def _allowed(path: str | os.PathLike[str]) -> int:
    """Bytes that the file may become in memory; it must be one that can be read again and again."""
    try:
        if not Path(path).exists():
            raise UsageError(f"{path}: no such file")
        if not Path(path).is_file():
            raise UsageError(f"{path}: is not a regular file")
        size = Path(path).stat().st_size
        with Path(path).open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if size > MAX_BYTES:
        raise UsageError(f"{path}: takes {size:,} bytes; allowed: at most {MAX_BYTES:,}")
    return max(SMALL_BYTES, MAX_EXPANSION * size)
