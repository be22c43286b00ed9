"""What the simulation of a layer yields, and how much of its network was simulated; report and cost read no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.engine.recording import Load


@dataclass(frozen=True)
class Traffic:
    """Bytes and accesses of one tensor at one level; level is ``sram`` or ``dram``, direction ``read`` or ``write``.

    ``tensor`` is one of input, input_format, weight, weight_format, psum, output and output_format. A format is
    whatever says *where* values are (bitmasks, pointers, coordinates).
    """

    level: str
    tensor: str
    direction: str
    bytes: int
    accesses: int


@dataclass(frozen=True)
class UnitTime:
    """Where the cycles of one unit instance went: ``busy + stall + idle`` equals the cycles of the layer."""

    unit: str
    instance: int
    busy_cycles: int
    stall_cycles: int
    idle_cycles: int


class CoreLoad(NamedTuple):
    """Core number ``core`` of a many-core chip, at the router in ``row`` and ``column``: which neurons of its layer it
    has, the messages that came to it, and the synaptic operations that it performed."""

    core: int
    row: int
    column: int
    first_neuron: int
    neurons: int
    messages: int
    operations: int


class LinkLoad(NamedTuple):
    """Messages into the router in ``row`` and ``column`` from the ``side``: west, east, north or south."""

    row: int
    column: int
    side: str
    messages: int


@dataclass(frozen=True)
class LayerResult:
    """One layer on one machine. Times are integer cycles of the base clock.

    ``compute_cycles`` are the cycles in which the busiest agent that computes does so; the rest of ``cycles``, waiting
    for memory and for slower ones, are ``stall_cycles``. No schedule can be faster than ``lower_bound_cycles``;
    ``compulsory_read_bytes`` must come from DRAM at least once.

    A *processing element* is the smallest place of a machine that makes a product or an addition, or takes a step of a
    join, in a cycle; every machine says which that are (``Accelerator.processing_elements``). ``utilization`` is the
    share of their cycles in which they work on operands of the layer,

        sum over elements of cycles in which it works  /  (elements that are built x cycles)

    so that an element without an output or an input, of a fold that does not fill an array or of a layer with few
    channels, is idle, however busy the array is.

    ``matches`` and ``synaptic_operations`` are those of :mod:`archsim.trace.work`: they follow from the trace alone.
    ``performed_operations`` are synaptic operations as the machine performs them: more where it multiplies zeros, fewer
    where it reuses sums. ``actions`` counts what the units did, by
    (unit, action). ``mismatches`` is the number of outputs that differ from the trace, None where the trace holds
    none to compare with. ``variant`` are columns of every table that tell results apart: an option of the machine, a
    stage of training. ``timestep_counts`` splits actions that belong to single timesteps. ``completions`` is, when
    asked for, int64 [n, 2] of (agent, completion cycle) in the window that is recorded, and ``loads`` how busy banks
    and channels were there; ``agents`` says which unit instance each agent is.

    Where layers run at the same time, a layer's cycles go from its first to its last event: ``start_cycle`` is the
    first one's, completions count from there, and ``elapsed_cycles`` is the layer's share of the run's cycles, which
    all shares add up to. None of both where layers run one after the other. The first one has the loads of all.
    ``response_cycles``: from the layer's first event until its outputs of the first image at the first timestep are
    known; None where that is when the layer ends, as on machines that compute all of a layer before the next.
    ``cores`` are those of the layer, and ``links`` those that its messages took, on a machine with a mesh of cores.
    """

    layer: str
    op: str
    m: int
    n: int
    k: int
    timesteps: int
    cycles: int
    compute_cycles: int
    stall_cycles: int
    utilization: float
    matches: int
    synaptic_operations: int
    performed_operations: int
    actions: Mapping[tuple[str, str], int]
    traffic: tuple[Traffic, ...]
    units: tuple[UnitTime, ...]
    lower_bound_cycles: int
    compulsory_read_bytes: int
    mismatches: int | None = None
    engine_wall_s: float = 0.0
    events: Mapping[str, int] = field(default_factory=dict)
    variant: Mapping[str, str] = field(default_factory=dict)
    timestep_counts: Mapping[tuple[str, str], Sequence[int]] = field(default_factory=dict)
    completions: NDArray[np.int64] | None = None
    loads: tuple[Load, ...] = ()
    agents: Mapping[int, str] = field(default_factory=dict)
    elapsed_cycles: int | None = None
    start_cycle: int | None = None
    response_cycles: int | None = None
    cores: tuple[CoreLoad, ...] = ()
    links: tuple[LinkLoad, ...] = ()

    @property
    def share(self) -> int:
        """Cycles of the run that count as this layer's own."""
        return self.cycles if self.elapsed_cycles is None else self.elapsed_cycles


def merged(
    results: Sequence[LayerResult], *, m: int, n: int, k: int, timesteps: int, matches: int, synaptic_operations: int
) -> LayerResult:
    """One operation that ran in several pieces, one after the other, as one result.

    What is counted adds up; units that a piece does not have are idle in it. Sizes, ``matches`` and
    ``synaptic_operations`` are those of the operation.
    """
    cycles = sum(result.cycles for result in results)
    compared = [result.mismatches for result in results if result.mismatches is not None]
    begins = np.cumsum([0, *(result.cycles for result in results[:-1])])
    recorded = [
        result.completions + np.array([0, begin])
        for result, begin in zip(results, begins, strict=True)
        if result.completions is not None
    ]
    agents: dict[int, str] = {}
    for result in results:
        agents |= result.agents
    return replace(
        results[0],
        m=m,
        n=n,
        k=k,
        timesteps=timesteps,
        matches=matches,
        synaptic_operations=synaptic_operations,
        cycles=cycles,
        compute_cycles=sum(result.compute_cycles for result in results),
        stall_cycles=sum(result.stall_cycles for result in results),
        utilization=sum(result.utilization * result.cycles for result in results) / cycles,
        performed_operations=sum(result.performed_operations for result in results),
        actions=_total(result.actions for result in results),
        traffic=tuple(
            Traffic(*place, *np.sum(moved, 0).tolist())
            for place, moved in _by_key(
                (row[:3], row[3:]) for row in (astuple(row) for result in results for row in result.traffic)
            ).items()
        ),
        units=tuple(
            UnitTime(unit, instance, busy, stall, cycles - busy - stall)
            for (unit, instance), (busy, stall) in (
                (unit, np.sum(times, 0).tolist())
                for unit, times in _by_key(
                    ((row.unit, row.instance), (row.busy_cycles, row.stall_cycles))
                    for result in results
                    for row in result.units
                ).items()
            )
        ),
        lower_bound_cycles=sum(result.lower_bound_cycles for result in results),
        compulsory_read_bytes=sum(result.compulsory_read_bytes for result in results),
        mismatches=sum(compared) if compared else None,
        engine_wall_s=sum(result.engine_wall_s for result in results),
        events=_total(result.events for result in results),
        timestep_counts={},
        completions=np.concatenate(recorded) if recorded else None,
        loads=tuple(
            load._replace(first=load.first + int(begin))
            for result, begin in zip(results, begins, strict=True)
            for load in result.loads
        ),
        agents=agents,
    )


def _total(counts: Iterable[Mapping[Any, int]]) -> dict[Any, int]:
    """Counts of the same name added up, in the order in which names come."""
    total: dict[Any, int] = {}
    for part in counts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total


def _by_key(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


class LeftOut(NamedTuple):
    """An operation of the network that was not simulated, the ``reason`` as what follows its name, and its ``share`` of
    the network's synaptic operations. ``is_layer``: see Coverage. ``asked``: whether the user asked to leave it out."""

    layer: str
    reason: str
    share: float
    is_layer: bool
    asked: bool


@dataclass(frozen=True)
class Coverage:
    """How much of a network was simulated.

    ``share`` of its synaptic operations, exactly 1.0 if all of them were; ``synaptic_operations`` were simulated. A
    *layer* is an operation with weights, or a product of two tensors: ``layers`` of the network's ``network_layers``
    were simulated. ``left_out`` are all operations that were not, in the order of the network: layers, neurons, sums,
    pools and whatever else has no part in a layer that was.
    """

    share: float
    synaptic_operations: int
    layers: int
    network_layers: int
    left_out: tuple[LeftOut, ...] = ()
