"""The receiver against its rule in numpy, and by hand."""

import numpy as np
import pytest

from archsim.hardware.interconnect.receiver import ReceiverConfig


def ready(percent, seed):
    """Whether the receiver is ready, cycle after cycle."""
    while True:
        seed = (1103515245 * seed + 12345) % 2**32
        yield seed // 256 % 100 >= percent


@pytest.mark.parametrize("percent", [1, 25, 50, 90, 99])
@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 - 1])
def test_a_result_waits_for_the_first_cycle_in_which_it_is_ready(percent, seed):
    cycles, expected = ready(percent, seed), []
    for _ in range(50):
        waits = 0
        while not next(cycles):
            waits += 1
        expected.append(waits)
    assert ReceiverConfig(stall_percent=percent, seed=seed).stalls(50).tolist() == expected


def test_always_ready():
    assert np.array_equal(ReceiverConfig(stall_percent=0, seed=5).stalls(9), [0])


def test_by_hand():
    """From 1: 1103527590, and 4310654 of it is 54 mod 100: ready below 55 percent."""
    assert 1103527590 // 256 % 100 == 54
    assert ReceiverConfig(stall_percent=54, seed=1).stalls(1)[0] == 0
    assert ReceiverConfig(stall_percent=55, seed=1).stalls(1)[0] > 0
