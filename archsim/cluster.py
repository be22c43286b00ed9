"""Work on the workers of a Dask cluster: points of a sweep, layers of a run.

Workers read the same files as this machine, by the same paths, and have the same archsim; one that finds another ends
the work with an error. What a worker was doing when it died is done by another one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, TypeVar

from archsim._version import __version__
from archsim.errors import ArchsimError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Lost(NamedTuple):
    """An item that killed every worker that tried it, or whose work failed in a way that no input explains."""

    why: str


def results(
    work: Callable[[Item], Result], items: Sequence[Item], address: str
) -> Generator[tuple[int, Result | Lost], None, None]:
    """Places of ``items`` with what ``work`` returns for them on a worker of the scheduler at ``address``, as they
    finish.

    An ArchsimError of ``work`` is raised here. Raises UsageError where Dask is not installed, no scheduler answers, or
    a worker has another archsim.
    """
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise UsageError("--cluster needs Dask: pip install 'archsim[cluster]'") from error
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise UsageError(f"--cluster {address}: no scheduler answers: {error}") from error
    with client:
        under_way = {
            client.submit(_on_worker, __version__, work, item, pure=False): place for place, item in enumerate(items)
        }
        for future in as_completed(under_way):
            lost = future.exception()
            if isinstance(lost, ArchsimError):
                raise lost
            yield under_way[future], future.result() if lost is None else Lost(str(lost))


def _on_worker(version: str, work: Callable[[Item], Result], item: Item) -> Result:
    if version != __version__:
        raise UsageError(f"--cluster: a worker has archsim {__version__}, this is {version}; install the same on both")
    return work(item)
