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
