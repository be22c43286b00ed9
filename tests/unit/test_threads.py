"""Work in threads: in order, no more at once than allowed, and an end that is one."""

import threading
import time

import pytest

from archsim import threads


def test_results_come_in_order_whichever_ends_first():
    def work(item):
        time.sleep((7 - item) / 200)
        return item * item

    assert list(threads.results(work, range(8), 3)) == [item * item for item in range(8)]


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_no_more_are_under_way_than_allowed_and_as_many_as_that(jobs):
    lock, most, under_way = threading.Lock(), 0, 0
    together = threading.Barrier(jobs)

    def work(item):
        nonlocal most, under_way
        with lock:
            under_way += 1
            most = max(most, under_way)
        together.wait(timeout=60)  # ends only where as many work at once
        with lock:
            under_way -= 1

    list(threads.results(work, range(jobs * 4), jobs))
    assert most == jobs


def test_an_item_is_asked_for_when_a_thread_is_free():
    ended = []

    def items():
        for item in range(20):
            assert item - len(ended) < 3
            yield item

    assert len(list(threads.results(ended.append, items(), 3))) == 20


def test_an_exception_is_raised_in_its_place_and_nothing_more_begins():
    begun = []

    def work(item):
        begun.append(item)
        if item == 2:
            raise ValueError("two")
        return item

    results = threads.results(work, range(1000), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        list(results)
    assert len(begun) < 1000
