"""Named tuples by reference: to kernels the tuples themselves, and gone where all is copied into one kernel."""

import re
from typing import NamedTuple

import numba
import numpy as np
import pytest

from archsim.jit import by_reference, inlined, kernel
from archsim.simulate import load_accelerator
from tests.machines import MACHINES, fitting, simulate

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")


class Inner(NamedTuple):
    factor: int
    table: np.ndarray


class Outer(NamedTuple):
    inner: Inner
    two: Inner
    offset: int


@inlined
def written(pair, value):
    pair.table[1] = value * pair.factor


@inlined
def both(given):
    first, second = given.inner, given.two
    written(first, given.offset)
    written(second, first.table[1])
    return second.table[1]


@kernel
def whole(given, number):
    return both(by_reference(given)) + by_reference(number)


@kernel
def misspelled(given):
    return by_reference(given).factors


def test_attributes_of_attributes_are_the_tuples_own():
    outer = Outer(Inner(3, np.zeros(2, np.int64)), Inner(5, np.zeros(2, np.int64)), 7)
    assert whole(outer, 1) == 3 * 7 * 5 + 1
    assert (outer.inner.table[1], outer.two.table[1]) == (21, 105)


def test_an_attribute_that_is_not_there_is_no_type():
    with pytest.raises(numba.TypingError, match="factors"):
        misspelled(Inner(1, np.zeros(1, np.int64)))


@pytest.mark.parametrize("hardware", MACHINES, ids=lambda path: path.stem)
def test_no_loop_keeps_a_tuple_in_memory(hardware):
    """LLVM must see through all references of a loop: one that it does not costs a quarter of the speed."""
    machine = load_accelerator(hardware)
    simulate(fitting(machine, 1, m=5, n=3, k=140), hardware=hardware)
    for compiled in type(machine).loop.overloads.values():
        code = str(compiled.library._get_module_for_linking())
        (body,) = re.findall(rf"^define [^\n]*@{re.escape(compiled.fndesc.llvm_func_name)}\(.*?^}}", code, re.M | re.S)
        assert "alloca" not in body
