"""Where tensors lie: fibers one behind the other, one in a bank, or abreast."""

import numpy as np

from archsim.hardware.memory.placement import Placer


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
