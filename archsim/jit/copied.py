"""Kernels that are copied into others: compiled as far as a body, and no further.

Wrappers for calls from Python, machine code and optimisation of its own take most of a kernel's compilation. None of
them is of use to a kernel that is optimised in the place where it ends up.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from numba import types
from numba.core import ir
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, Flags
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.core.errors import new_error_context
from numba.core.ir_utils import build_definitions
from numba.core.lowering import Lower
from numba.core.registry import CPUDispatcher
from numba.core.sigutils import normalize_signature
from numba.core.ssa import reconstruct_ssa
from numba.core.typed_passes import (
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import FixupArgs, GenericRewrites, IRProcessing, ReconstructSSA, TranslateByteCode


@register_pass(mutates_CFG=False, analysis_only=False)
class _IndicesFromZero(FunctionPass):  # type: ignore[misc]
    """Indices of arrays count from the begin, so none is compared with 0 first: a fifth of the engine's time.

    An index that is computed and negative is an error, as in C; with ``NUMBA_BOUNDSCHECK=1`` it raises IndexError.
    """

    _name = "indices_from_zero"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Type every index without a sign."""
        for block in state.func_ir.blocks.values():
            for statement in block.body:
                key = statement.value if isinstance(statement, ir.Assign) else statement
                if isinstance(key, ir.SetItem) or (isinstance(key, ir.Expr) and key.op == "getitem"):
                    call = state.calltypes[key]
                    if isinstance(call.args[0], types.Array):
                        array, index, *rest = call.args
                        del state.calltypes[key]
                        state.calltypes[key] = call.replace(args=(array, _without_sign(index), *rest))
        return True


def _without_sign(index: Any) -> Any:
    """The type of an index, or of several."""
    if isinstance(index, types.BaseTuple):
        return types.Tuple(list(map(_without_sign, index.types)))
    return types.uint64 if isinstance(index, types.Integer) else index


@register_pass(mutates_CFG=False, analysis_only=False)
class _SingleAssignment(ReconstructSSA):  # type: ignore[misc]
    """Every variable assigned once, without numba's analysis of lifetimes, which only reference counting asks for."""

    def run_pass(self, state: Any) -> bool:
        """New versions of variables, and where each is defined."""
        state.func_ir = reconstruct_ssa(state.func_ir)
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


@register_pass(mutates_CFG=False, analysis_only=False)
class _StripPhis(PreLowerStripPhis):  # type: ignore[misc]
    """Phi nodes as assignments, without that analysis too."""

    def run_pass(self, state: Any) -> bool:
        """An assignment at the end of every block that a phi node comes from."""
        state.func_ir = self._strip_phi_nodes(state.func_ir)
        return True


class _Lower(Lower):  # type: ignore[misc]
    """Accesses of one item of an array in a few instructions; numba's own unpack shape, strides and all else first."""

    def lower_getitem(self, resty: Any, expr: Any, value: Any, index: Any, signature: Any) -> Any:
        """``value[index]``."""
        address = self._address(value, index)
        if address is None:
            return super().lower_getitem(resty, expr, value, index, signature)
        kind = self.typeof(value.name).dtype
        return self.context.cast(self.builder, self.context.unpack_value(self.builder, kind, address), kind, resty)

    def lower_setitem(self, target_var: Any, index_var: Any, value_var: Any, signature: Any) -> Any:
        """``target[index] = value``."""
        address = self._address(target_var, index_var)
        if address is None:
            return super().lower_setitem(target_var, index_var, value_var, signature)
        kind = self.typeof(target_var.name).dtype
        value = self.context.cast(self.builder, self.loadvar(value_var.name), self.typeof(value_var.name), kind)
        return self.context.pack_value(self.builder, kind, value, address)

    def _address(self, variable: Any, index: Any) -> Any:
        """Where one item of an array lies; None for all that numba must see to."""
        array, kind = self.typeof(variable.name), self.typeof(index.name)
        kinds = kind.types if isinstance(kind, types.BaseTuple) else (kind,)
        plain = isinstance(array, types.Array) and array.layout == "C" and array.aligned and array.ndim == len(kinds)
        if not plain or self.context.enable_boundscheck or not all(isinstance(k, types.Integer) for k in kinds):
            return None
        parts = self.context.data_model_manager[array]
        whole, given = self.loadvar(variable.name), self.loadvar(index.name)
        place = None
        for axis, number in enumerate(kinds):
            along = self.builder.extract_value(given, axis) if isinstance(kind, types.BaseTuple) else given
            along = self.context.cast(self.builder, along, number, types.intp)
            if place is not None:
                size = self.builder.extract_value(whole, [parts.get_field_position("shape"), axis])
                along = self.builder.add(self.builder.mul(place, size), along)
            place = along
        return self.builder.gep(self.builder.extract_value(whole, parts.get_field_position("data")), [place])


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):  # type: ignore[misc]
    @property
    def lowering_class(self) -> type[Lower]:
        """Who writes the body."""
        return _Lower


_PASSES = (
    TranslateByteCode, FixupArgs, IRProcessing, GenericRewrites, _SingleAssignment, NopythonTypeInference,
    _StripPhis, _IndicesFromZero, _Lowering, NoPythonBackend,
)  # fmt: skip


class _Passes(PassManager):  # type: ignore[misc]
    """Runs them; without numba's checks of what each leaves behind."""

    def _runPass(self, index: int, compiler_pass: Any, state: Any) -> None:  # noqa: N802
        with new_error_context("Pass {name}", name=compiler_pass.name()):
            compiler_pass.run_pass(state)


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
        self.targetctx.insert_user_function(bare.entry_point, bare.fndesc, [bare.library])
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
        manager = _Passes("copied")
        for kind in _PASSES:
            manager.add_pass(kind, kind.__name__)
        manager.finalize()
        return [manager]


class _Bodies(JITCodeLibrary):  # type: ignore[misc]
    """Functions that are linked into others, and neither optimised together nor made into machine code before that."""

    def _optimize_functions(self, ll_module: Any) -> None:
        """Each for itself; declarations, which numba counts among the functions, have nothing to optimise."""
        ll_module.data_layout = self._codegen._data_layout
        passes, builder = self._codegen._function_pass_manager()
        for function in ll_module.functions:
            if not function.is_declaration:
                passes.run(function, builder)

    def finalize(self) -> None:
        """Link what the functions call."""
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True
