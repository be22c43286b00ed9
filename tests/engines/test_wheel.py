"""The timing wheel against a sorted list: events of several turns, of one kind or another, in random order."""

import random

import numpy as np
import pytest

from archsim.engine.wheel import WHEEL_SLOTS, Wheel, leave_slot, next_marked, set_bit, take_bit
from archsim.hardware.memory.cache import NONE

OWNERS = 100


def empty_wheel():
    sets = (np.zeros((WHEEL_SLOTS, 2), np.uint64) for _ in range(3))
    return Wheel(*sets, np.zeros(WHEEL_SLOTS // 64, np.uint64))


@pytest.mark.parametrize("furthest", [1, 63, 64, WHEEL_SLOTS - 1, WHEEL_SLOTS, 5 * WHEEL_SLOTS])
@pytest.mark.parametrize("seed", range(4))
def test_no_event_is_passed_by(furthest, seed):
    """A slot that is visited in vain holds an event of a later turn; the last event leaves no mark behind."""
    chance, wheel, due, now, happened = random.Random(seed), empty_wheel(), {}, 0, 0
    for owner in range(OWNERS):
        due[chance.choice(range(3)), owner] = chance.randint(0, furthest)
    for (kind, owner), cycle in due.items():
        set_bit(wheel[kind], wheel.marked, cycle, owner)
    while (marked := next_marked(wheel, now)) != NONE:
        assert now <= marked <= min(due.values())
        now, slot = marked, marked & (WHEEL_SLOTS - 1)
        assert any(cycle % WHEEL_SLOTS == slot for cycle in due.values())
        for kind, owner in [event for event, cycle in due.items() if cycle == now]:
            del due[kind, owner]
            take_bit(wheel[kind], slot, owner)
            happened += 1
            if happened < 3 * OWNERS:  # it makes another one happen, later
                due[kind, owner] = now + chance.randint(1, furthest)
                set_bit(wheel[kind], wheel.marked, due[kind, owner], owner)
        leave_slot(wheel, slot)
        now += 1
    assert not due
    assert not any(bits.any() for bits in wheel)
    assert happened >= 3 * OWNERS


@pytest.mark.parametrize("now", [0, 5, 63, 64, WHEEL_SLOTS - 1, WHEEL_SLOTS + 70])
@pytest.mark.parametrize("ahead", [0, 1, 60, 64, WHEEL_SLOTS - 64, WHEEL_SLOTS - 5, WHEEL_SLOTS - 1])
def test_one_event_within_a_turn(now, ahead):
    wheel = empty_wheel()
    assert next_marked(wheel, now) == NONE
    set_bit(wheel.arrive, wheel.marked, now + ahead, 99)
    assert next_marked(wheel, now) == now + ahead
