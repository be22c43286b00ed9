"""Kernels as they are stored: machine code that is ready to run, and all else for when it is asked for.

numba prepares for more than a call when it loads a kernel: it parses its LLVM module, from which other kernels could
copy, compiles functions that count references, and imports the module of every function that was copied into it. That
takes several times as long as to load the machine code.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import binding
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompileResult
from numba.core.runtime import _nrt_python


def to_disk(result: CompileResult) -> tuple[Any, ...]:
    """What is kept of a kernel: numba's own form without the environments that hold nothing, whose modules it would
    import."""
    *parts, environments = result._reduce()
    return *parts, [environment for environment in environments if environment.consts]


def from_disk(
    context: Any, library: Any, description: Any, environment: Any, signature: Any, in_object_mode: bool, lifted: Any,
    annotation: str, begin: Any, environments: Any,
) -> CompileResult:  # fmt: skip
    """The kernel, ready to run, that :func:`to_disk` made of it."""
    _add_helpers()
    for function in begin:
        function()
    code = _MachineCode(context.codegen(), library, description.llvm_cpython_wrapper_name)
    found: dict[str, Any] = dict.fromkeys(CompileResult._fields)
    found |= {
        "target_context": context,
        "typing_context": context.typing_context,
        "library": code,
        "entry_point": context.get_executable(code, description, environment),
        "fndesc": description,
        "environment": environment,
        "signature": signature,
        "objectmode": in_object_mode,
        "lifted": lifted,
        "type_annotation": annotation,
        "reload_init": begin,
        "referenced_envs": environments,
    }
    for one in environments:
        context.codegen().set_env(one.env_name, one)
    return CompileResult(**found)


class _MachineCode(JITCodeLibrary):  # type: ignore[misc]
    """A library that Python calls by the name ``wrapper``; its module is parsed when another kernel is linked to it."""

    def __init__(self, codegen: Any, kept: tuple[str, str, tuple[bytes, bytes]], wrapper: str) -> None:
        name, _, (code, self._module) = kept
        super().__init__(codegen, name)
        self.enable_object_caching()
        self._set_compiled_object(code)
        self._finalize_final_module()
        codegen._engine._defined_symbols.add(wrapper)

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            self._shared_module: Any = binding.parse_bitcode(self._module)
        return self._shared_module


@functools.cache
def _add_helpers() -> None:
    """Tell LLVM of the functions of numba's that allocate memory and count references to it."""
    for name, address in _nrt_python.c_helpers.items():
        binding.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)
