"""Kernels that are copied into others: compiled as far as a body, and no further.

Wrappers for calls from Python, machine code and optimisation of its own take most of a kernel's compilation. None of
them is of use to a kernel that is optimised in the place where it ends up.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from llvmlite.binding import Linkage
from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, Flags
from numba.core.compiler_machinery import PassManager
from numba.core.registry import CPUDispatcher
from numba.core.sigutils import normalize_signature

from archsim.jit.passes import PASSES, Passes

_FROM_PYTHON = "_ZN7cpython"
"""How the names of functions begin that Python calls."""


class _Options(Flags):  # type: ignore[misc]
    """Options that are compared by what was set: numba looks at them tens of thousands of times, and at all of them."""

    __slots__ = ()

    def values(self) -> dict[str, Any]:
        """What differs from the defaults."""
        found: dict[str, Any] = self._values
        return found


class Copied(CPUDispatcher):  # type: ignore[misc]
    """A kernel as those see it that it is copied into: nothing but its body, one version for all constants."""

    def __init__(self, function: FunctionType) -> None:
        options = {"nopython": True, "_nrt": False, "forceinline": True}
        bare = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        super().__init__(function, targetoptions={**options, **bare}, pipeline_class=_Compiler)

    def compile(self, sig: Any) -> Any:
        """Compile for one signature; a kernel that it is copied into is being compiled, and is what is timed."""
        arguments, result = normalize_signature(sig)
        if arguments not in self.overloads:
            with self._compiling_counter:
                self.add_overload(self._compiler.compile(arguments, result))
        return self.overloads[arguments].entry_point

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """The version for the types of constants, not for their values."""
        return super().get_call_template(
            tuple(map(types.unliteral, args)), {name: types.unliteral(kind) for name, kind in kws.items()}
        )

    def add_overload(self, cres: Any) -> Any:
        """Let callers find the body, which has no address."""
        bare = cres._replace(entry_point=object())
        self.targetctx.insert_user_function(bare.entry_point, bare.fndesc, bare.library.all_libraries())
        self.overloads[tuple(bare.signature.args)] = bare
        return bare


class _Compiler(Compiler):  # type: ignore[misc]
    """Stops at the body, and leaves out what kernels have none of: closures, generators, array expressions, literals
    that decide a branch."""

    def __init__(
        self, typingctx: Any, targetctx: Any, library: Any, args: Any, return_type: Any, flags: Any, locals: Any
    ) -> None:
        flags.no_compile = True
        library = _Bodies(targetctx.codegen(), "copied")
        super().__init__(typingctx, targetctx, library, args, return_type, _Options(flags), locals)

    def define_pipelines(self) -> list[PassManager]:
        """One list of passes."""
        manager = Passes("copied")
        for kind in PASSES:
            manager.add_pass(kind, kind.__name__)
        manager.finalize()
        return [manager]


class Whole(Compiler):  # type: ignore[misc]
    """Numba's compiler for kernels that allocate nothing, optimised once."""

    def __init__(
        self, typingctx: Any, targetctx: Any, library: Any, args: Any, return_type: Any, flags: Any, locals: Any
    ) -> None:
        library = _Once(targetctx.codegen(), "kernel")
        library.enable_object_caching()
        super().__init__(typingctx, targetctx, library, args, return_type, flags, locals)


class _Once(JITCodeLibrary):  # type: ignore[misc]
    """Functions that are optimised once, together."""

    def add_ir_module(self, ir_module: Any) -> None:
        """What takes apart the arguments of a call from Python is done once per call, and left as it is."""
        for function in ir_module.functions:
            if function.name.startswith(_FROM_PYTHON) and not function.is_declaration:
                function.attributes.add("noinline")
                function.attributes.add("optnone")
        super().add_ir_module(ir_module)

    def _optimize_functions(self, ll_module: Any) -> None:
        """Not each for itself."""
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        """All of LLVM's passes; numba runs them twice, to find pairs of reference counts between."""
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


class _Bodies(_Once):
    """Functions that are linked into others, and neither optimised nor made into machine code before that."""

    def finalize(self) -> None:
        """Let them be removed where they end up and nobody calls them any more; what they call is linked there, too."""
        self._raise_if_finalized()
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == Linkage.external:
                function.linkage = Linkage.linkonce_odr
        self._finalized = True

    def all_libraries(self) -> list[JITCodeLibrary]:
        """These functions and, without end, those that they call."""
        return list(dict.fromkeys([self, *self._linking_libraries]))
