"""What a run of a many-core chip waited for, and how even its cores and links were loaded.

A step begins when the barrier of the last one is over and ends when its own is. Its *critical* agent, a soma, a host
port or the synapses of a core, is the one that reaches the barrier last, the first by number among equals. With its end
``e`` in a step that begins at ``b``, and ``w`` cycles of computing in between (:func:`working`),

    step  =  w  +  (e - b - w)  +  barrier_cycles

where ``w`` counts as synapse, soma or host by what the agent is, and ``e - b - w`` as network: a soma or a host waits
for room in the mesh; synapses wait for messages, which are on their way or are yet to be made by the somas that send
them. The four add up to the cycles of the run, step by step. Time of agents that are not critical counts nowhere.
Where cores run freely :mod:`archsim.dataflow.core_path` finds who is critical.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.cores import Events, Row
from archsim.dataflow.mesh import SIDES, CoreMeshConfig, flows
from archsim.engine.result import CoreLoad, LayerResult, LinkLoad


def working(
    config: Any, events: Events, rows: Sequence[Row], used: Sequence[int], cycles: Sequence[int]
) -> NDArray[np.int64]:
    """Cycles of computing of every agent that meets at the barrier, in each step: int64 [agents, steps].

    Agents are somas and hosts, in the order of ``rows``, then the synapses of the cores ``used``, which take ``cycles``
    per synapse. They are in closed form, that of :mod:`archsim.dataflow.cores`.
    """
    begun = np.concatenate([[0], np.cumsum(np.diff(events.first_axon)[events.fired])])
    messages, spikes = begun[events.end] - begun[events.begin], events.end - events.begin
    soma, found = config.neuron, np.empty((len(rows) + len(used), messages.shape[1]), np.int64)
    for place, row in enumerate(rows):
        if row.sender >= config.pe.count:
            found[place] = messages[place] * config.host.message_cycles
            continue
        visited = config.pe.neurons if soma.visited == "all" else row.end - row.first
        sending = spikes[place] * soma.spike_cycles + messages[place] * soma.message_cycles
        found[place] = visited * config.neuron_cycles + sending
    cores, times = list(used), np.array(cycles, np.int64)[:, None]
    found[len(rows) :] = events.arriving[cores] * config.synapse.message_cycles + events.added[cores] * times
    return found


class Critical(NamedTuple):
    """What a run waited for, piece by piece, int64 [pieces] each: the numbers of agents, cycles that they worked, that
    they waited for the mesh, and that the barrier took, or tokens."""

    agent: NDArray[np.int64]
    worked: NDArray[np.int64]
    waited: NDArray[np.int64]
    met: NDArray[np.int64]


def critical(ends: NDArray[np.int64], worked: NDArray[np.int64], barrier_cycles: int) -> Critical:
    """Who the steps waited for, a piece each, by when agents reached the barrier, ``ends``, and what they ``worked``;
    both int64 [agents, steps]."""
    last = ends.argmax(0)
    steps = np.arange(len(last))
    begin = np.concatenate([[0], ends[last, steps][:-1] + barrier_cycles])
    own = worked[last, steps]
    return Critical(last, own, ends[last, steps] - begin - own, np.full(len(last), barrier_cycles))


def by_cause(found: Critical, members: Mapping[str, NDArray[np.int64]]) -> dict[str, int]:
    """Cycles of the pieces whose critical agent is one of ``members``, by what these were spent on; ``members`` are
    numbers of agents by what they are."""
    cycles, network, barrier = {}, 0, 0
    for cause, agents in members.items():
        own = np.isin(found.agent, agents)
        cycles[f"critical_{cause}_cycles"] = int(found.worked[own].sum())
        network, barrier = network + int(found.waited[own].sum()), barrier + int(found.met[own].sum())
    return {**cycles, "critical_network_cycles": network, "critical_barrier_cycles": barrier}


def busiest_by_step(events: Events, cores: Sequence[int]) -> int:
    """Synaptic operations of the core of the chip that performs most in a step, added up over the steps in which it is
    one of ``cores``; the first by number among equals."""
    return int(events.added.max(0)[np.isin(events.added.argmax(0), cores)].sum())


def core_loads(
    config: CoreMeshConfig, events: Events, ends: Sequence[int], cores: Sequence[int]
) -> tuple[CoreLoad, ...]:
    """The ``cores`` of a layer, with the neurons between its ``ends``."""
    arriving, added = events.arriving.sum(1).tolist(), events.added.sum(1).tolist()
    return tuple(
        CoreLoad(core, *config.place(core), first, end - first, arriving[core], added[core])
        for core, first, end in zip(cores, ends[:-1], ends[1:], strict=True)
    )


def link_loads(config: CoreMeshConfig, sent: NDArray[np.int64]) -> tuple[LinkLoad, ...]:
    """Links that ``sent`` messages take, int64 [cores and host ports, cores]."""
    over, _ = flows(config, sent)
    return tuple(
        LinkLoad(*divmod(int(place) // 4, config.columns), SIDES[place % 4], int(over[place]))
        for place in np.flatnonzero(over)
    )


def evenness(results: Sequence[LayerResult]) -> dict[str, float | None]:
    """How even a chip was loaded, for the summary of its run: None where nothing was."""
    events: dict[str, int] = {}
    over: dict[tuple[int, int, str], int] = {}
    for result in results:
        for name, count in result.events.items():
            events[name] = events.get(name, 0) + count
        for link in result.links:
            way = link.row, link.column, link.side
            over[way] = over.get(way, 0) + link.messages
    operations = [core.operations for result in results for core in result.cores]
    mean = sum(operations) / len(operations) if operations else 0.0
    return {
        "busiest_over_mean_core": max(operations) / mean if mean else None,
        "busiest_over_mean_core_by_step": events["busiest_core_step_operations"] / mean if mean else None,
        "hops_per_message": events["hops"] / events["messages"] if events.get("messages") else None,
        "busiest_over_mean_link": max(over.values()) * len(over) / sum(over.values()) if over else None,
    }
