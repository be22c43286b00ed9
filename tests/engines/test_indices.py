"""Indices inside of kernels count from the begin: no comparison with 0, and an error where bounds are checked."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from archsim.jit import inlined, kernel
from tests.machines import ROOT

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
TABLE = np.arange(24, dtype=np.int64).reshape(2, 3, 4)


@inlined
def at(table, number, row, column):
    return table[number, row, column]


@inlined
def added(table, number, row, column):
    table[number, row, column] += 100
    return table[number][row, column]


@kernel
def read(table, number, row, column):
    return at(table, number, row, column)


@kernel
def changed(table, number, row, column):
    return added(table, number, row, column)


@pytest.mark.parametrize("kind", [int, np.int32, np.uint8, np.uint64])
def test_indices_of_all_types_find_their_place(kind):
    table = TABLE.copy()
    for place in np.ndindex(table.shape):
        given = [kind(number) for number in place]
        assert read(table, *given) == TABLE[place]
        assert changed(table, *given) == TABLE[place] + 100
    np.testing.assert_array_equal(table, TABLE + 100)


def test_no_index_is_compared_with_zero():
    assert read(TABLE, 1, 2, 3) == 23
    compiled = read.overloads[(numba.typeof(TABLE), *3 * (numba.int64,))]
    assert "icmp slt" not in str(compiled.library._get_module_for_linking())


def test_an_index_from_the_end_is_an_error_where_bounds_are_checked(tmp_path):
    program = "from tests.engines.test_indices import TABLE, read; print(read(TABLE, 1, 2, 3)); read(TABLE, 1, -1, 3)"
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "23\n"
    assert done.stderr.splitlines()[-1] == "IndexError: index is out of bounds"
