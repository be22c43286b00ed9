"""Load a trace file, believing nothing in it."""

from __future__ import annotations

import os

from archsim import arguments, examples
from archsim.errors import TraceError
from archsim.trace import content, graph, schema
from archsim.trace.archive import Archive
from archsim.trace.model import Trace


def load_trace(path: str | os.PathLike[str]) -> Trace:
    """The trace in ``path``, with everything checked that a run relies on.

    Four stages, each reporting all of its problems in one ``TraceError``: the zip directory, the record ``meta``, the
    promised sizes against the directory (before anything is inflated), the contents with their hash. The last stage
    reads every array once, one at a time; afterwards a tensor is decoded only when it is asked for.
    """
    arguments.check(path=(path, arguments.PATH))
    path = examples.find(path)
    archive = Archive(path)
    where = f"{path}: meta"
    record = schema.decode_json(archive.meta_bytes(), where)
    meta = schema.parse(record, where)
    resolved = graph.resolve(meta, where)
    if resolved.problems:
        raise TraceError(resolved.problems)
    if problem := graph.check_steps(meta, resolved.shapes, archive.file_bytes):
        raise TraceError(f"{where}: {problem}")
    problems = archive.expect(resolved.arrays)
    if problems:
        raise TraceError(problems)
    problems, digest = content.check(meta, resolved, archive, record, str(path))
    if not problems and meta.sha256 != digest:
        got = meta.sha256 or "none"
        problems = [f"{where}: sha256: the contents do not have the hash in the record, got {got}; they have {digest}"]
    if problems:
        raise TraceError(problems)
    return Trace.from_checked(meta, resolved, archive, digest, path)
