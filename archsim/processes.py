"""Work in processes of this machine, which may die: each item's result as it is there, or the fact that it was lost."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LOST = "its process was killed; not enough memory is the usual reason"
"""What there is to say of an item whose process died."""


def results(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int
) -> Generator[tuple[int, Result | None], None, None]:
    """Places of ``items`` with what ``work`` returns for them, as they finish; None if the item killed its process.

    At most ``jobs`` run at once. A process that dies takes with it what the others were doing; whose fault it was is
    found out by running those again, one by one. An exception of ``work`` is raised here. Whatever ends the iteration
    early ends the processes, without waiting for them.
    """
    waiting = list(range(len(items)))
    while waiting:
        unfinished = []
        for place, done, result in _attempt(work, items, waiting, jobs):
            if done:
                yield place, result
            else:
                unfinished.append(place)
        # Items are started in order, so that those under way were the first of the unfinished ones.
        unfinished.sort()
        suspects, waiting = unfinished[:jobs], unfinished[jobs:]
        for suspect in suspects:
            for place, _, result in _attempt(work, items, [suspect], 1):
                yield place, result


def _attempt(
    work: Callable[[Item], Result], items: Sequence[Item], places: Sequence[int], jobs: int
) -> Generator[tuple[int, bool, Result | None], None, None]:
    """Places with whether they were done, and the result."""
    others = set(multiprocessing.active_children())
    _start_silent_tracker()
    pool = ProcessPoolExecutor(min(jobs, len(places)), multiprocessing.get_context("spawn"), _serve_the_parent)
    try:
        under_way: dict[Future[Result], int] = {pool.submit(work, items[place]): place for place in places}
        for future in as_completed(under_way):
            try:
                yield under_way[future], True, future.result()
            except BrokenProcessPool:
                yield under_way[future], False, None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()


def _start_silent_tracker() -> None:
    """The process in which Python cleans up behind a killed one does so without a word on the terminal."""
    usual = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        resource_tracker.ensure_running()
    finally:
        if usual is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = usual


def _serve_the_parent() -> None:
    """Begin a process that works for another one: Ctrl-C is the other's business, and it ends when the other does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
