"""What numba works out anew at every place: which implementation an operator has for the types of its operands.

It tries all that are known, with and without the values of constants, thousands of times for a kernel; there are some
hundred different questions. While a kernel is compiled, the answers are kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from numba import types
from numba.core.compiler_lock import global_compiler_lock

_PLAIN = (types.Number, types.Boolean, types.Literal, types.Array, types.BaseTuple)
"""Operands whose types say all. The rest may be functions, and these may change."""


@contextlib.contextmanager
def remembering() -> Iterator[None]:
    """Keep the signatures of built-in functions of plain operands, in here."""
    known: dict[tuple[int, ...], tuple[Any, Any, Any]] = {}

    def call_type(function: Any, context: Any, operands: Any, words: Any) -> Any:
        if words or not all(isinstance(operand, _PLAIN) for operand in operands):
            return work_out(function, context, operands, words)
        key = (id(function), *map(id, operands))  # numba has one object for one type; those kept here stay the same
        if key not in known:
            known[key] = work_out(function, context, operands, words), function, operands
        return known[key][0]

    with global_compiler_lock:  # one thread compiles at a time
        work_out = types.BaseFunction.get_call_type  # in here: another thread's is none of numba's
        types.BaseFunction.get_call_type = call_type
        try:
            yield
        finally:
            types.BaseFunction.get_call_type = work_out
