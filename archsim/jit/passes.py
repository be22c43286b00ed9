"""What numba does for kernels that are copied into others: its own passes, as far as those kernels need them.

They have no closures, generators, array expressions, objects whose references are counted, or literals that decide a
branch. So the passes for these, the analyses that these ask for, and numba's checks between passes are left out: they
take more time than what remains.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils, ir
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.core.errors import new_error_context  # type: ignore[attr-defined]
from numba.core.ir_utils import build_definitions
from numba.core.lowering import Lower
from numba.core.rewrites.registry import rewrite_registry
from numba.core.ssa import reconstruct_ssa
from numba.core.transforms import canonicalize_cfg
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


@register_pass(mutates_CFG=True, analysis_only=False)
class _Blocks(IRProcessing):  # type: ignore[misc]
    """Blocks in their simplest form, without numba's analysis of lifetimes, which only reference counting asks for."""

    def run_pass(self, state: Any) -> bool:
        """No block that only leads to another."""
        state.func_ir.blocks = canonicalize_cfg(state.func_ir.blocks)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Rewrites(GenericRewrites):  # type: ignore[misc]
    """Constant indices and errors, without that analysis too."""

    def run_pass(self, state: Any) -> bool:
        """Every rewrite of every block until none applies."""
        blocks = state.func_ir.blocks
        for kind in rewrite_registry.rewrites["before-inference"]:
            rewrite, left = kind(state), list(blocks.items())
            while left:
                label, block = left.pop()
                if rewrite.match(state.func_ir, block, state.typemap, state.calltypes):
                    blocks[label] = rewrite.apply()
                    left.append((label, blocks[label]))
        return True


@register_pass(mutates_CFG=False, analysis_only=False)
class _SingleAssignment(ReconstructSSA):  # type: ignore[misc]
    """Every variable assigned once, without it."""

    def run_pass(self, state: Any) -> bool:
        """New versions of variables, and where each is defined."""
        state.func_ir = reconstruct_ssa(state.func_ir)
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


@register_pass(mutates_CFG=False, analysis_only=False)
class _StripPhis(PreLowerStripPhis):  # type: ignore[misc]
    """Phi nodes as assignments, without it."""

    def run_pass(self, state: Any) -> bool:
        """An assignment at the end of every block that a phi node comes from."""
        state.func_ir = self._strip_phi_nodes(state.func_ir)
        return True


class _Lower(Lower):  # type: ignore[misc]
    """Accesses of one item of an array in a few instructions; numba's own unpack shape, strides and all else first.

    Variables hold no references, so what one held before is not looked at when it is assigned.
    """

    def storevar(self, value: Any, name: str, argidx: int | None = None) -> None:
        """``name = value``."""
        self._alloca_var(name, self.typeof(name))
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        """The place of a variable, of which nothing is told to a debugger."""
        return cgutils.alloca_once(self.builder, lltype, name=name)

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


PASSES = (
    TranslateByteCode, FixupArgs, _Blocks, _Rewrites, _SingleAssignment, NopythonTypeInference,
    _StripPhis, _IndicesFromZero, _Lowering, NoPythonBackend,
)  # fmt: skip


class Passes(PassManager):  # type: ignore[misc]
    """Runs them; without numba's checks of what each leaves behind."""

    def _runPass(self, index: int, compiler_pass: Any, state: Any) -> None:  # noqa: N802
        with new_error_context("Pass {name}", name=compiler_pass.name()):
            compiler_pass.run_pass(state)
