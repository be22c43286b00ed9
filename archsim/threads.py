"""Work in threads of this process: numpy and kernels hold no lock of Python's, so threads use several cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def results(work: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Iterator[Result]:
    """What ``work`` returns for each of ``items``, in their order; at most ``jobs`` are under way.

    An item is asked for when a thread is free for it. An exception of ``work`` is raised here, in the place of its
    result. Whatever ends the iteration early, what is under way still ends, and nothing more begins.
    """
    pool = ThreadPoolExecutor(jobs)
    under_way: set[Future[Result]] = set()
    in_order: deque[Future[Result]] = deque()
    try:
        for item in items:
            future = pool.submit(work, item)
            under_way.add(future)
            in_order.append(future)
            if len(under_way) == jobs:
                _, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            while in_order and in_order[0].done():
                yield in_order.popleft().result()
        while in_order:
            yield in_order.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
