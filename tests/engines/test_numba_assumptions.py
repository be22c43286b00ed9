"""What archsim takes for granted of numba's inside, each with a sentence for the day on which a newer numba differs.

Kernels that are copied into others are compiled by passes of archsim's own (:mod:`archsim.jit.passes`), and what numba
finds out about operators is remembered (:mod:`archsim.jit.remembered`). Both must change no result.
"""

import collections
import inspect
import operator
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
import pytest
from numba import types
from numba.core import compiler
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_machinery import PassManager
from numba.core.dispatcher import Dispatcher
from numba.core.lowering import Lower
from numba.core.registry import CPUDispatcher, cpu_target
from numba.core.targetconfig import TargetConfig
from numba.extending import typeof_impl

from archsim import jit
from archsim.jit import copied, passes, stored
from archsim.jit.remembered import remembering

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
NUMBA = f"numba {numba.__version__}"

# ------------------------------------------------------------------------------------------------ what numba is made of

LEFT_OUT = {
    "WithLifting": "with blocks", "InlineClosureLikes": "closures", "MakeFunctionToJitFunction": "closures",
    "RewriteSemanticConstants": "literals that decide a branch", "DeadBranchPrune": "literals that decide a branch",
    "LiteralPropagationSubPipelinePass": "literals that decide a branch", "FindLiterallyCalls": "literally()",
    "LiteralUnroll": "literal_unroll()", "RewriteDynamicRaises": "errors with computed words",
    "InlineInlinables": "functions that numba inlines itself", "InlineOverloads": "functions that numba inlines itself",
    "NopythonRewrites": "array expressions", "NoPythonSupportedFeatureValidation": "a check",
    "IRLegalization": "references that are counted", "AnnotateTypes": "listings for people",
    "DumpParforDiagnostics": "parallel loops",
}  # fmt: skip
"""Passes of numba that kernels which are copied do without: what they have none of."""


def test_every_pass_of_numba_is_used_or_left_out_for_a_reason():
    class State:
        func_ir, flags = None, compiler.Flags()

    manager = compiler.DefaultPassBuilder.define_nopython_pipeline(State)
    theirs = {kind.__name__ for kind, _ in manager.passes}
    ours = {base.__name__ for kind in passes.PASSES for base in kind.__mro__}
    new = theirs - ours - set(LEFT_OUT)
    assert not new, f"{NUMBA} has the new passes {new}: archsim/jit/passes.py must use them or have no need of them"
    gone = {kind.__name__ for kind in passes.PASSES if not kind.__name__.startswith("_")} - theirs
    assert not gone, f"{NUMBA} does without the passes {gone}, which archsim/jit/passes.py still runs"


def _order(kinds, names):
    return [name for kind in kinds for base in kind.__mro__ if (name := base.__name__) in names]


def test_passes_run_in_numbas_order():
    class State:
        func_ir, flags = None, compiler.Flags()

    theirs = [kind for kind, _ in compiler.DefaultPassBuilder.define_nopython_pipeline(State).passes]
    common = {kind.__name__ for kind in theirs} - set(LEFT_OUT)
    found = _order(passes.PASSES, common)
    assert found == _order(theirs, common), f"{NUMBA} runs its passes in another order than archsim/jit/passes.py"


OVERRIDDEN = [
    (passes._Lower, Lower, ("storevar", "alloca_lltype", "lower_getitem", "lower_setitem")),
    (passes.Passes, PassManager, ("_runPass",)),
    (copied._Once, JITCodeLibrary, ("add_ir_module", "_optimize_functions", "_optimize_final_module")),
    (copied._Bodies, JITCodeLibrary, ("finalize",)),
    (copied._Options, TargetConfig, ("values",)),
    (stored._MachineCode, JITCodeLibrary, ("_get_module_for_linking",)),
    (copied.Copied, CPUDispatcher, ("compile", "get_call_template", "add_overload")),
    (jit._Kept, Dispatcher, ("compile",)),
    (jit.KernelCache, jit._Cache, ("cache_path", "enable", "disable", "flush", "load_overload", "save_overload")),
]


@pytest.mark.parametrize(
    ("ours", "theirs", "name"),
    [(ours, theirs, name) for ours, theirs, names in OVERRIDDEN for name in names],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_what_is_overridden_is_there_and_takes_the_same(ours, theirs, name):
    base = getattr(theirs, name, None)
    assert base is not None, f"{NUMBA}: {theirs.__name__} has no {name}, which {ours.__module__} overrides"
    mine = vars(ours)[name]
    if callable(base) and base is not getattr(object, name, None):
        asked, given = (list(inspect.signature(function).parameters) for function in (base, mine))
        said = f"{NUMBA}: {theirs.__name__}.{name} takes {asked}, but {ours.__module__} overrides it with {given}"
        assert len(asked) == len(given), said


def test_a_stored_kernel_has_the_parts_that_numba_stores():
    asked, given = (len(inspect.signature(f).parameters) for f in (compiler.CompileResult._rebuild, stored.from_disk))
    assert asked == given, f"{NUMBA} stores other parts of a kernel than archsim/jit/stored.py"


def test_numba_has_one_object_for_one_type():
    """Answers are remembered by the identity of types."""
    pairs = [
        (types.int64, types.int64), (types.Array(types.int64, 2, "C"), types.Array(types.int64, 2, "C")),
        (types.UniTuple(types.int64, 3), types.UniTuple(types.int64, 3)), (types.literal(3), types.literal(3)),
    ]  # fmt: skip
    assert all(one is other for one, other in pairs), f"{NUMBA} makes a type anew: archsim/jit/remembered.py must too"
    assert types.literal(3) is not types.literal(4)


# -------------------------------------------------------------------------------------------------------- equal results


class Pair(NamedTuple):
    table: np.ndarray
    factor: int


def sums(table, row):
    total = 0
    for column in range(table.shape[1]):
        if table[row, column] % 3 == 0:
            continue
        if table[row, column] > 40:
            break
        total += table[row, column] * (column - 2)
    return total


def bits(words, row):
    found, rest = 0, words[row % len(words)]
    while rest:
        rest &= rest - np.uint64(1)
        found += 1
    return found


def several(table, row):
    given = (row, -row, table[row, 0])
    low, high = min(given), max(given)
    return low * 1000 + high + given[1]


def early(table, row):
    if row == 0:
        return -1
    for column in range(3):
        if table[row, column] == 11:
            return column
    return 7


def rows(table, row):
    own = table[row]
    own[0] += 5
    table[row, 1] -= own[0]
    return own[0] * 10 + len(own) + table[row][1]


def cube(block, row):
    block[row, 1, 2] = block[row, 0, 1] // 3
    return block[row, 1, 2] * 7 + block.shape[2] - block[row][1][0]


def powers(table, row):
    value = table[row, 2]
    return (value << 3) - (value >> 1) + (value ^ 5) + (-value) // 4 + (-value) % 4


def versions(table, row):
    value = row
    if table[row, 0] > 5:
        value = table[row, 1]
        other = value + 1
    else:
        other = row - 1
    while other > 3:
        other, value = other - value - 1, value + 1
    return value * 100 + other


def of_pair(pair, row):
    table, factor = pair.table, pair.factor
    table[row, 0] = factor
    return table[row, 0] * factor + table[row, 1]


def real(values, row):
    return int(values[row, 0] * 8) + (values[row, 1] > 0.5) + int(values[row, 2] // 0.25)


TABLE = (np.arange(20, dtype=np.int64).reshape(4, 5) * 7) % 51
BODIES = [
    (sums, TABLE), (several, TABLE), (early, TABLE), (rows, TABLE), (powers, TABLE), (versions, TABLE),
    (sums, TABLE.astype(np.int32)), (sums, TABLE.astype(np.uint8).astype(np.int16)), (powers, np.asfortranarray(TABLE)),
    (rows, np.arange(40, dtype=np.int64).reshape(4, 10)[:, ::2]), (cube, TABLE.repeat(2).reshape(4, 2, 5)),
    (bits, np.array([0, 1, 3, 1 << 63, (1 << 64) - 1], np.uint64)), (of_pair, Pair(TABLE, 9)),
    (real, np.linspace(0, 1, 12).reshape(4, 3)),
]  # fmt: skip


def _copy(given):
    return Pair(given.table.copy(), given.factor) if isinstance(given, Pair) else given.copy(order="K")


def _arrays(given):
    return given.table if isinstance(given, Pair) else given


@pytest.mark.parametrize(("body", "given"), BODIES, ids=lambda part: getattr(part, "__name__", ""))
def test_results_are_those_of_numbas_own_passes_and_of_python(body, given):
    """The body is copied into its caller, as all parts of a loop are; what it changes counts too."""
    ours, theirs = jit.inlined(body), numba.njit(body)

    @jit.kernel
    def with_ours(given, row):
        return ours(given, row) + ours(given, row)

    @numba.njit
    def with_theirs(given, row):
        return theirs(given, row) + theirs(given, row)

    for row in range(4):
        changed = [_copy(given) for _ in range(3)]
        found = [function(changed[i], row) for i, function in enumerate((with_ours, with_theirs))]
        expected = int(body(changed[2], row)) + int(body(changed[2], row))
        assert found == [expected, expected]
        for one in changed:
            np.testing.assert_array_equal(_arrays(one), _arrays(changed[2]))


OF_ONE = [operator.neg, operator.invert, len, abs]
OF_TWO = [
    operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.and_, operator.lshift,
    operator.lt, operator.eq, operator.iadd, operator.getitem, min,
]  # fmt: skip
OPERANDS = [
    types.int64, types.int32, types.uint64, types.boolean, types.float64, types.literal(3), types.literal(4),
    types.literal(True), types.Array(types.int64, 2, "C"), types.Array(types.uint64, 1, "A"),
    types.UniTuple(types.int64, 2), types.Tuple((types.int64, types.float64)),
]  # fmt: skip


def _answer(function, operands):
    context = cpu_target.typing_context
    try:
        return context.resolve_function_type(context.resolve_value_type(function), operands, {})
    except Exception:  # numba's own checks of operands that do not fit fail in many ways
        return None


def test_what_is_remembered_is_what_numba_says():
    """Of every operator, for all types of operands, asked twice."""
    cpu_target.target_context.refresh()
    asked = [(one, (first,)) for one in OF_ONE for first in OPERANDS]
    asked += [(one, (first, second)) for one in OF_TWO for first in OPERANDS for second in OPERANDS]
    expected = [_answer(*question) for question in asked]
    with remembering():
        found = [[_answer(*question) for question in asked] for _ in range(2)]
    assert sum(answer is not None for answer in expected) > 500
    assert found == [expected, expected], f"{NUMBA}: an answer depends on more than archsim/jit/remembered.py looks at"


def test_numba_is_as_it_was_afterwards():
    before = types.BaseFunction.get_call_type
    assert list(inspect.signature(before).parameters) == ["self", "context", "args", "kws"]
    with remembering():
        assert types.BaseFunction.get_call_type is not before
    assert types.BaseFunction.get_call_type is before
    with pytest.raises(KeyError), remembering():
        raise KeyError
    assert types.BaseFunction.get_call_type is before


def test_numba_is_as_it_was_after_two_threads():
    """One waits for the other: what it puts back must not be the other's."""
    before = types.BaseFunction.get_call_type

    def remember():
        with remembering():
            pass

    other = threading.Thread(target=remember)
    with remembering():
        other.start()
        other.join(0.2)  # it has come as far as it can
        assert other.is_alive()
    other.join()
    assert types.BaseFunction.get_call_type is before


def test_a_named_tuple_that_numba_is_told_of_has_the_type_that_it_finds_out_itself():
    class Inner(NamedTuple):
        values: np.ndarray

    class Outer(NamedTuple):
        number: int
        inner: Inner

    value = Outer(1, Inner(np.zeros((2, 3))))
    found = numba.typeof(value)
    assert not {Inner, Outer} & set(typeof_impl.registry)
    jit._known(value)
    assert {Inner, Outer} <= set(typeof_impl.registry), f"{NUMBA} keeps what it knows of types elsewhere"
    assert numba.typeof(value) == found


def test_threads_that_find_types_do_not_disturb_each_other():
    """Each tells numba of new classes, while the other one goes through all that it knows."""
    kernel = jit.kernel(lambda value: 0)

    def finds() -> None:
        for number in range(60):
            kernel.typeof_pyval(collections.namedtuple(f"Pair{number}", "values number")(np.zeros(1), 1))
            kernel.typeof_pyval(np.zeros(1).view(type(f"Array{number}", (np.recarray,), {})))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(finds) for _ in range(4)]:
                done.result()
    finally:
        sys.setswitchinterval(before)
