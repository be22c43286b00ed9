"""Cores of neurons that answer events, as agents on a mesh: all layers of a network at once, in steps.

    for every step
        soma       for every neuron: access, update; where it fires: one message for each core that has its synapses
        synapse    for every message that comes: look up its axon, then add each of its synapses
        barrier    when all neurons are updated and all messages of the step are worked on

Spikes of a step are added up in it and update neurons in the next one. So a network of D layers, its inputs among them,
takes T + D - 1 steps for T timesteps; images follow each other without a gap. *Host* ports send the spikes of inputs.
A core has neurons of one layer. With nothing in the way a core takes in a step

    soma       neurons (access_cycles + cycles + axons axon_cycles) + spikes spike_cycles + messages out message_cycles
    synapse    messages in message_cycles + synapses synapse_cycles

with the synapse's cycles those of its format. ``neuron.datapath: shared``: all neurons are updated first; then the
synapses work, while the spikes leave.

``scheduler.steps: free``: there is no barrier. Messages are stamped with their step, and a core has ``buffers`` sums
for each neuron, one for each step from the one that it works on. Tokens between cores that send to each other, on wires
of their own, ``token_cycles`` each, say when a sender has ended a step and when a receiver has read the sums of one:

    a soma begins step s    when its senders have ended step s - 1, all of their messages are added,
                            and its receivers have ended step s - buffers + 1, so that every message finds its sum
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.core_mapping import Mapped
from archsim.dataflow.mesh import (
    AXON_MASK,
    AXON_SHIFT,
    DELIVERED,
    STEP_MASK,
    STEP_SHIFT,
    CoreMeshConfig,
    Mesh,
    Port,
    router,
)
from archsim.dataflow.populations import Format, Population, reached
from archsim.hardware.agent import Agent, Operations, op
from archsim.hardware.diagram import Diagram
from archsim.hardware.integers import table_of

UPDATED, FIRED, SENT, RECEIVED, ADDED = range(DELIVERED + 1, DELIVERED + 6)


class Soma(NamedTuple):
    """The neurons of a core, from number ``first`` on, of which ``visited`` are updated; its spikes are in ``row``."""

    first: int
    visited: int
    row: int
    entry: int


class Dendrite(NamedTuple):
    """The synapses of a core: where messages arrive, and cycles of a synapse."""

    arrival: int
    cycles: int


class Operands(NamedTuple):
    """Tables of agents, and what happens.

    Neuron n has the axons ``first_axon[n]`` to ``first_axon[n + 1] - 1``; each has an ``address``, and ``synapses``
    on its core. Spikes of row r in step s are those of the neurons ``fired[begin[r, s] : end[r, s]]``. Core r works on
    ``arriving[r, s]`` messages. Row r sends over the links ``first_out[r]`` to ``first_out[r + 1] - 1`` and receives
    over ``link_in[first_in[r] : first_in[r + 1]]``.
    """

    ports: Any
    somas: Any
    hosts: Any
    dendrites: Any
    first_axon: NDArray[np.int64]
    address: NDArray[np.int64]
    synapses: NDArray[np.int64]
    fired: NDArray[np.int32]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    arriving: NDArray[np.int64]
    first_out: NDArray[np.int64]
    first_in: NDArray[np.int64]
    link_in: NDArray[np.int64]


BARRIER, FREE = range(2)
"""``scheduler.steps``."""
OWN, SHARED_DATAPATH = range(2)
"""``neuron.datapath``."""
ENDED, BEGUN, TOLD = range(3)
"""What a soma or a host that runs freely keeps of each step: when its work ended, when the step began, when the last
of its tokens had left."""
WOKEN, AXON, STAMP = range(1, 4)
"""What synapses keep beside ``ENDED``: when the last message came that they waited for in a step, or 0, its axon and
the step that it is of."""
KEPT = 4
"""Numbers that each keeps of a step."""


def soma(a: Agent, m: Any, x: Operands) -> Operations:
    """Update the neurons of a core in every step, and send the spikes of those that fire."""
    own = x.somas[a.me]
    for step in range(m.steps):
        yield from begin(a, m, x, own.row, step)
        if step > 0 and m.config.scheduler.steps == FREE:
            yield op(pop=m.summed.port + a.me)
        if m.config.scheduler.steps == FREE:
            a.kept[BEGUN * m.steps + step] = a.now
        a.count[UPDATED] += own.visited
        passed = 0
        if m.config.neuron.datapath == SHARED_DATAPATH:
            passed = own.visited
            spikes = x.end[own.row, step] - x.begin[own.row, step]
            whole = own.visited * m.neuron_cycles + spikes * m.config.neuron.spike_cycles
            yield op(compute=whole, push=m.updated.fifo + a.me)
        for spike in range(x.begin[own.row, step], x.end[own.row, step]):
            a.count[FIRED] += 1
            if m.config.neuron.datapath == OWN:
                ahead = x.fired[spike] - own.first + 1 - passed
                passed += ahead
                yield op(compute=ahead * m.neuron_cycles + m.config.neuron.spike_cycles)
            yield from send(a, m, x, own.entry, x.fired[spike], m.config.neuron.message_cycles, step)
        yield op(compute=(own.visited - passed) * m.neuron_cycles)
        yield from meet(a, m, x, own.row, step)


def host(a: Agent, m: Any, x: Operands) -> Operations:
    """Send the spikes of inputs in every step."""
    own = x.hosts[a.me]
    for step in range(m.steps):
        yield from begin(a, m, x, own.row, step)
        if m.config.scheduler.steps == FREE:
            a.kept[BEGUN * m.steps + step] = a.now
        for spike in range(x.begin[own.row, step], x.end[own.row, step]):
            yield from send(a, m, x, own.entry, x.fired[spike], m.config.host.message_cycles, step)
        yield from meet(a, m, x, own.row, step)


def send(a: Agent, m: Any, x: Operands, entry: int, neuron: int, cycles: int, step: int) -> Operations:
    """One message for each core that has synapses of a neuron."""
    a.count[SENT] += x.first_axon[neuron + 1] - x.first_axon[neuron]
    for axon in range(x.first_axon[neuron], x.first_axon[neuron + 1]):
        stamped = (step & STEP_MASK) << STEP_SHIFT | axon << AXON_SHIFT | x.address[axon]
        yield op(compute=cycles, push=entry, value=stamped)


def synapse(a: Agent, m: Any, x: Operands) -> Operations:
    """Work on messages as they come, until those of every step are done; how many came for later ones is kept."""
    own = x.dendrites[a.me]
    for step in range(m.steps):
        if m.config.neuron.datapath == SHARED_DATAPATH:
            yield op(pop=m.updated.port + a.me)
        while a.kept[step] < x.arriving[a.me, step]:
            asked = a.now
            yield op(pop=own.arrival)
            of = step + ((a.value >> STEP_SHIFT) - step & STEP_MASK)
            a.kept[of] = a.kept[of] + 1
            axon = a.value >> AXON_SHIFT & AXON_MASK
            synapses = x.synapses[axon]
            if m.config.scheduler.steps == FREE and a.now > asked:
                a.kept[WOKEN * m.steps + step] = a.now
                a.kept[AXON * m.steps + step] = axon
                a.kept[STAMP * m.steps + step] = of
            a.count[RECEIVED] += 1
            a.count[ADDED] += synapses
            yield op(compute=m.config.synapse.message_cycles + synapses * own.cycles)
        if m.config.scheduler.steps == FREE:
            a.kept[step] = a.now
            yield op(push=m.summed.fifo + a.me)
        else:
            yield from meet(a, m, x, 0, step)


def begin(a: Agent, m: Any, x: Operands, row: int, step: int) -> Operations:
    """Without a barrier: senders of the last step have ended it, and receivers have a buffer for this one."""
    if m.config.scheduler.steps == FREE:
        for place in range(x.first_in[row] * (step > 0), x.first_in[row + 1] * (step > 0)):
            link = x.link_in[place]
            yield op(pop=m.ended.port + link)
        late = step >= m.config.scheduler.buffers
        for link in range(x.first_out[row] * late, x.first_out[row + 1] * late):
            yield op(pop=m.freed.port + link)


def meet(a: Agent, m: Any, x: Operands, row: int, step: int) -> Operations:
    """The end of a step; when the agent has done its work is kept."""
    a.kept[step] = a.now
    if m.config.scheduler.steps == BARRIER:
        yield op(barrier=m.barrier)
        yield op(pause=m.config.scheduler.barrier_cycles)
    else:
        for place in range(x.first_in[row] * (step > 0), x.first_in[row + 1] * (step > 0)):
            link = x.link_in[place]
            yield op(compute=m.config.scheduler.token_cycles, push=m.freed.fifo + link)
        for link in range(x.first_out[row], x.first_out[row + 1]):
            yield op(compute=m.config.scheduler.token_cycles, push=m.ended.fifo + link)
        a.kept[TOLD * m.steps + step] = a.now


class Events(NamedTuple):
    """What happens on a network that is mapped: most of the operands, the synapses ``added`` by core and step, int64
    [cores, steps], the messages ``sent`` in all, int64 [cores and host ports, cores], and the ``links``, int64
    [links, 2]: which row has neurons with synapses in which row."""

    first_axon: NDArray[np.int64]
    address: NDArray[np.int64]
    synapses: NDArray[np.int64]
    fired: NDArray[np.int32]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    arriving: NDArray[np.int64]
    added: NDArray[np.int64]
    sent: NDArray[np.int64]
    links: NDArray[np.int64]


class Row(NamedTuple):
    """Neurons ``first`` to ``end - 1`` of a population: those of a core, or of a host port, which come behind."""

    population: int
    first: int
    end: int
    sender: int


def rows_of(populations: Sequence[Population], mapped: Sequence[Mapped], ports: int, cores: int) -> list[Row]:
    """Rows of layers, core by core, and of inputs, port by port."""
    found, layers = [], iter(mapped)
    inputs: list[Row] = []
    for number, one in enumerate(populations):
        if not one.synapses:
            ends = [one.size * port // ports for port in range(ports + 1)]
            parts = enumerate(pairwise(ends))
            inputs += [Row(number, first, end, cores + port) for port, (first, end) in parts if first < end]
        else:
            part = next(layers)
            found += [Row(number, *ends, core) for ends, core in zip(pairwise(part.ends), part.cores, strict=True)]
    return [*found, *inputs]


def events_of(
    config: CoreMeshConfig, populations: Sequence[Population], mapped: Sequence[Mapped], rows: Sequence[Row],
    formats: Sequence[Format], cores: int, ports: int,
) -> Events:  # fmt: skip
    """What happens when the populations fire as they do; ``formats`` are those of the layers' synapses."""
    layers = [one for one in populations if one.synapses]
    total = sum(one.size for one in populations)
    sources, targets, synapses = [], [], []
    for one, part, kind in zip(layers, mapped, formats, strict=True):
        for projection in one.synapses:
            count = reached(one, projection, part.ends, kind).reshape(len(part.cores), -1).T
            places, parts = np.nonzero(count)
            sources.append(projection.sources.reshape(-1)[places])
            targets.append(np.array(part.cores)[parts])
            synapses.append(count[places, parts])
    # However many ways lead from a neuron to a core, its spike is one message.
    pairs, seen, pair = np.unique(
        np.concatenate(sources) * cores + np.concatenate(targets), return_index=True, return_inverse=True
    )
    order = np.lexsort((seen, pairs // cores))
    source, target = np.divmod(pairs[order], cores)
    held = np.bincount(pair, np.concatenate(synapses), len(pairs)).astype(np.int64)[order]
    first_axon = np.searchsorted(source, np.arange(total + 1))
    addresses = np.array([config.address(core) for core in range(cores)])
    sequence = max(len(one.spikes) for one in populations if one.spikes is not None)
    steps = sequence + max(one.depth for one in populations)
    begin, end = np.zeros((2, len(rows), steps), np.int64)
    arriving, added = np.zeros((2, cores, steps), np.int64)
    sent = np.zeros((cores + ports, cores), np.int64)
    fired, known = [], 0
    for number, one in enumerate(populations):
        if one.spikes is None:
            continue
        own = [(place, row) for place, row in enumerate(rows) if row.population == number]
        bounds = np.array([row.first for _, row in own] + [one.size])
        senders = np.array([row.sender for _, row in own])
        for place in range(sequence):
            neurons, step = np.flatnonzero(one.spikes[place]), one.depth + place
            cuts = np.searchsorted(neurons, bounds) + known
            begin[[row for row, _ in own], step], end[[row for row, _ in own], step] = cuts[:-1], cuts[1:]
            known += len(neurons)
            fires = neurons + one.first
            fired.append(fires.astype(np.int32))
            axons, count = ranges(first_axon[fires], first_axon[fires + 1])
            arriving[:, step] += np.bincount(target[axons], minlength=cores)
            added[:, step] += np.bincount(target[axons], held[axons], cores).astype(np.int64)
            by = senders[np.searchsorted(bounds, neurons, side="right") - 1]
            ways = np.repeat(by, count) * cores + target[axons]
            sent += np.bincount(ways, minlength=sent.size).reshape(sent.shape)
    everything = np.concatenate([np.zeros(0, np.int32), *fired])
    firsts = np.array([populations[row.population].first + row.first for row in rows])
    by_first = np.argsort(firsts)
    senders = by_first[np.searchsorted(firsts[by_first], source, side="right") - 1]
    home = np.zeros(cores, np.int64)
    home[[row.sender for row in rows if row.sender < cores]] = np.arange(sum(row.sender < cores for row in rows))
    linked = np.zeros((len(rows), cores), np.bool_)
    linked[senders, home[target]] = True
    links = np.argwhere(linked)
    return Events(first_axon, addresses[target], held, everything, begin, end, arriving, added, sent, links)


def ranges(begin: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All numbers from ``begin[i]`` on up to ``end[i]``, one i behind the other; and how many each has."""
    count = end - begin
    offsets = np.repeat(end - np.cumsum(count), count)
    return np.arange(len(offsets)) + offsets, count


def lay_out(
    config: Any, events: Events, rows: Sequence[Row], populations: Sequence[Population], cycles: Sequence[int],
    diagram: Diagram,
) -> tuple[dict[str, Any], Operands, Mesh]:  # fmt: skip
    """Draw the agents of the ``rows``; ``cycles`` are those of a synapse in each row's core.

    Returns what is derived for ``m``, the operands, and the mesh.
    """
    mesh = Mesh(config.noc, diagram, config.pe.queue, events.sent)
    ports = mesh.ports(events.sent)
    inputs = [not populations[row.population].synapses for row in rows]
    somas: list[Soma] = []
    hosts: list[Soma] = []
    for place, (row, is_input) in enumerate(zip(rows, inputs, strict=True)):
        visited = config.pe.neurons if config.neuron.visited == "all" else row.end - row.first
        first = populations[row.population].first + row.first
        (hosts if is_input else somas).append(Soma(first, visited, place, mesh.entry(row.sender)))
    used = [row.sender for row, is_input in zip(rows, inputs, strict=True) if not is_input]
    dendrites = [Dendrite(mesh.arrived.port + core, time) for core, time in zip(used, cycles, strict=True)]
    diagram.agent(router, len(ports))
    diagram.agent(soma, len(somas), built=config.pe.count)
    diagram.agent(host, len(hosts))
    diagram.agent(synapse, len(dendrites), built=config.pe.count)
    barrier = diagram.barrier(len(somas) + len(hosts) + len(dendrites))
    x = Operands(
        table_of(Port, ports), table_of(Soma, somas), table_of(Soma, hosts), table_of(Dendrite, dendrites),
        events.first_axon, events.address, events.synapses, events.fired, events.begin, events.end,
        events.arriving[used], *table_of_links(events.links, len(rows)),
    )  # fmt: skip
    buffers, free = config.scheduler.buffers, config.scheduler.steps == "free"
    links, cores = (len(events.links), len(somas)) if free else (0, 0)  # nothing of it behind a barrier
    derived = {
        "updated": diagram.fifo(1, count=len(somas) if config.neuron.datapath == "shared" else 0),
        "summed": diagram.fifo(events.begin.shape[1], count=cores),
        "ended": diagram.fifo(buffers + 1, count=links), "freed": diagram.fifo(buffers, count=links),
        "links": mesh.links, "injected": mesh.injected, "arrived": mesh.arrived, "barrier": barrier,
        "steps": events.begin.shape[1],
    }  # fmt: skip
    return derived, x, mesh


def table_of_links(
    links: NDArray[np.int64], rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Where the links that a row sends over begin, those that it receives over, and the numbers of these."""
    order, ends = np.argsort(links[:, 1], kind="stable"), np.arange(rows + 1)
    return np.searchsorted(links[:, 0], ends), np.searchsorted(links[order, 1], ends), order
