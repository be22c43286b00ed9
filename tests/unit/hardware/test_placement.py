"""Tensors in memory: no two fibers share a line, banks are those that were asked for, rows of the traffic table."""

import numpy as np
import pytest

from archsim.hardware.memory.placement import Placer

LINE = 32
SIZES = np.array([70, 1, 32, 0, 33, 5, 64])


def lines_of(tensor):
    """Lines of every fiber."""
    return [
        [int(first) + tensor.stride * i for i in range(-(-int(size) // LINE))]
        for first, size in zip(tensor.line, tensor.size, strict=True)
    ]


@pytest.mark.parametrize("banks", [0, 1, 4, 16])
def test_fibers_have_lines_of_their_own(banks):
    """Three tensors one behind the other; the second, with ``banks``, from a line that is no multiple of them on."""
    placer = Placer(LINE)
    tensors = [placer.place(SIZES), placer.place(SIZES, rows=2, banks=banks), placer.place(SIZES)]
    lines = [line for tensor in tensors for fiber in lines_of(tensor) for line in fiber]
    assert len(set(lines)) == len(lines) == 3 * (3 + 1 + 1 + 0 + 2 + 1 + 2)
    assert max(lines) < placer.free
    assert [tensor.row for tensor in tensors] == [0, 1, 3]
    assert placer.rows == 4
    if banks:
        for fiber, places in enumerate(lines_of(tensors[1])):
            assert {line % banks for line in places} <= {fiber % banks}


def test_reordered_fibers_stay_where_they_are():
    tensor = Placer(LINE).place(SIZES, banks=4)
    order = np.array([6, 0, 5, 1, 4, 2, 3])
    assert lines_of(tensor.reordered(order)) == [lines_of(tensor)[fiber] for fiber in order]


def test_fibers_of_a_group_take_turns_from_bank_0_on():
    memory = Placer(64)
    memory.place(np.array([65]))
    sums = memory.place_abreast(np.array([[128, 64, 64], [64, 64, 0]]), 4)
    # Lines 0 and 1 are taken; line 4 is the next one in bank 0; the first group is two lines deep.
    assert sums.line.tolist() == [4, 5, 6, 10, 11, 12]
    assert (sums.stride, sums.row, memory.free) == (3, 1, 13)
    taken = [line + i * sums.stride for line, size in zip(sums.line, sums.size, strict=True) for i in range(size // 64)]
    assert len(set(taken)) == len(taken) == 6


def test_a_fiber_lies_in_one_bank_behind_what_was_placed_before():
    memory = Placer(64)
    memory.place(np.array([64]))
    rows = memory.place(np.array([128, 64, 64]), banks=2)
    assert rows.line.tolist() == [2, 3, 6]
    assert rows.stride == 2
    assert (rows.line % 2).tolist() == [0, 1, 0]
