"""Recurrent networks: which operations read, through delays, what follows from their own output.

Such a *cycle* (a strongly connected part of the graph) cannot run one operation after the other for all timesteps. Its
operations run in the order of the trace for a few timesteps, then again for the next ones: as many at once as the
smallest delay through which something is read that a later operation writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from archsim.trace.schema import Delay, Meta


@dataclass(frozen=True)
class Cycle:
    """Operations that depend on one another, in the order of the trace; ``steps`` timesteps of them run at once."""

    operations: tuple[str, ...]
    steps: int


def late_reads(meta: Meta) -> dict[int, int]:
    """The delays that read what they or later operations write, and which operations those are, by position."""
    writers = {record.output: index for index, record in enumerate(meta.operations)}
    found = {}
    for index, record in enumerate(meta.operations):
        writer = writers.get(record.inputs[0])
        if isinstance(record, Delay) and writer is not None and writer >= index:
            found[index] = writer
    return found


def parts(meta: Meta) -> list[tuple[int, ...]]:
    """Positions of operations that run together, in an order in which they can: cycles, and all others one by one."""
    if not late_reads(meta):
        return [(index,) for index in range(len(meta.operations))]
    writers = {record.output: index for index, record in enumerate(meta.operations)}
    sources = [[writers[name] for name in record.inputs if name in writers] for record in meta.operations]
    return components(sources)


def components(sources: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Positions that depend on one another together, all others one by one, each part behind those that it depends on.

    ``sources`` are the positions that each position depends on.
    """
    readers: list[list[int]] = [[] for _ in sources]
    for reader, own in enumerate(sources):
        for source in own:
            readers[source].append(reader)
    # From what was left last by way of readers, all that is found by way of sources is one part (Kosaraju).
    left: list[int] = []
    seen: set[int] = set()
    for root in range(len(readers)):
        left += _reached(root, readers, seen)
    seen = set()
    found = [_reached(root, sources, seen) for root in reversed(left)]
    return [tuple(sorted(part)) for part in found if part]


def _reached(root: int, following: Sequence[Sequence[int]], seen: set[int]) -> list[int]:
    """What is not ``seen`` and reached from ``root``, in the order in which a search in depth leaves it."""
    left: list[int] = []
    if root in seen:
        return left
    seen.add(root)
    path = [(root, iter(following[root]))]
    while path:
        fresh = next((other for other in path[-1][1] if other not in seen), None)
        if fresh is None:
            left.append(path.pop()[0])
        else:
            seen.add(fresh)
            path.append((fresh, iter(following[fresh])))
    return left


def is_cycle(part: tuple[int, ...], late: dict[int, int]) -> bool:
    """Whether the operations of ``part`` depend on one another, or the only one on itself."""
    return len(part) > 1 or late.get(part[0]) == part[0]


def on_cycles(meta: Meta) -> set[int]:
    """The positions of all operations that are part of a cycle."""
    late = late_reads(meta)
    return set(chain.from_iterable(part for part in parts(meta) if is_cycle(part, late))) if late else set()
