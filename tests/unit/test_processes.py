"""Processes that die: the others' results are there, and it is known which item it was."""

import os
import signal
import time

import pytest

from archsim import processes
from archsim.errors import UsageError


def square(number):
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.001 * (number % 3))
    return number * number


def refuse(number):
    raise UsageError(f"not {number}")


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_result_is_there_and_the_killers_are_known(jobs):
    numbers = [4, -1, 3, 7, -2, 5, 6, 2]
    found = dict(processes.results(square, numbers, jobs))
    assert found == {place: None if n < 0 else n * n for place, n in enumerate(numbers)}


def test_no_work_needs_no_process():
    assert list(processes.results(square, [], 4)) == []


def test_an_exception_comes_back():
    with pytest.raises(UsageError, match="not 8"):
        list(processes.results(refuse, [8], 1))
