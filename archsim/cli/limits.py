"""Limits of memory, which archsim must know of before anything large is loaded."""

from __future__ import annotations

import os
import resource

from archsim.errors import UsageError

NEEDED_BYTES = 1 << 30
"""Address space of a run: compiling every machine of the comparison takes up to 650 MiB, traces take the rest."""


def check_limits() -> None:
    """UsageError where limits of memory leave no room for compiled code.

    OpenBLAS waits for ever for memory that it does not get while it is loaded, and hears no signal; LLVM aborts.
    """
    for kind, what, option in (
        (resource.RLIMIT_AS, "address space", "-v"),
        (resource.RLIMIT_DATA, "data segment", "-d"),
    ):
        limit = resource.getrlimit(kind)[0]
        if limit == resource.RLIM_INFINITY:
            continue
        if limit < NEEDED_BYTES:
            raise UsageError(
                f"not enough memory: the {what} is limited to {limit >> 20} MiB (ulimit {option});"
                f" archsim needs {NEEDED_BYTES >> 20}"
            )
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # each thread reserves some 100 MiB
