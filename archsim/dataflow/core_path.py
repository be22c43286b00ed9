"""What a many-core chip whose cores run freely waited for: its critical path, from the last event back to the first.

The path follows whoever kept the next one waiting. A soma or a host that begins a step at ``b``, ends its work at ``e``
and has told others at ``t``, or synapses that end a step at ``d`` and were last woken at ``w`` by a message of a step
that its sender began at ``b``, are split, as far as the path goes through them,

    soma, host    t - b  =  work  +  (e - b - work)  +  (t - e)          its work, room in the mesh, tokens
    synapses      d - b  =  (d - w)  +  work  +  (w - b - work)          its work, the sender's up to the message, mesh

and the path goes on at ``b`` with what that step began by: the agent's own last step, the sums of its own synapses, a
token of a sender or of a receiver, the first of these in this order among equals. So its pieces add up to the cycles
of the run. Agents that are not on it could have been slower.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.core_chip import ManyCoreConfig, Placed
from archsim.dataflow.core_statistics import Critical
from archsim.dataflow.cores import AXON, BEGUN, ENDED, STAMP, TOLD, WOKEN


class Place(NamedTuple):
    """An ``agent`` of the path in a ``step``, up to a ``time``."""

    agent: int
    step: int
    time: int


class Path:
    """Who waited for whom, by what somas, hosts and synapses ``kept``, int64 [agents, what, steps], and ``worked``,
    int64 [agents, steps]."""

    def __init__(
        self, config: ManyCoreConfig, placed: Placed, kept: NDArray[np.int64], worked: NDArray[np.int64]
    ) -> None:
        self.config, self.events, self.rows, self.kept, self.worked = config, placed.events, placed.rows, kept, worked
        self.firsts = [placed.populations[row.population].first + row.first for row in placed.rows]
        self.cores = len(kept) - len(self.rows)
        self.out, self.into = (
            [np.flatnonzero(self.events.links[:, side] == row).tolist() for row in range(len(self.rows))]
            for side in (0, 1)
        )
        self.pieces: list[tuple[int, int, int, int]] = []

    def walked(self) -> Critical:
        """The pieces of the critical path."""
        place: Place | None = self._last()
        while place is not None and place.time > 0:
            place = self._before_synapses(place) if place.agent >= len(self.rows) else self._before_soma(place)
        return Critical(*np.array(self.pieces, np.int64).reshape(-1, 4).T)

    def _last(self) -> Place:
        """Who ended last, the first by number among equals."""
        rows = len(self.rows)
        ends = np.concatenate([self.kept[:rows, TOLD, -1], self.kept[rows:, ENDED, -1]])
        agent = int(ends.argmax())
        return Place(agent, self.kept.shape[2] - 1, int(ends[agent]))

    def _before_soma(self, place: Place) -> Place | None:
        begun, ended = (int(self.kept[place.agent, what, place.step]) for what in (BEGUN, ENDED))
        work = int(self.worked[place.agent, place.step])
        self.pieces.append((place.agent, work, ended - begun - work, place.time - ended))
        return self._cause(place.agent, place.step)

    def _before_synapses(self, place: Place) -> Place | None:
        woken = self.kept[place.agent, WOKEN, : place.step + 1]
        if not woken.any():
            self.pieces.append((place.agent, place.time, 0, 0))
            return None
        when = int(np.flatnonzero(woken)[-1])
        axon, step = (int(self.kept[place.agent, what, when]) for what in (AXON, STAMP))
        sender, work = self._up_to(axon, step)
        begun, came = int(self.kept[sender, BEGUN, step]), int(woken[when])
        self.pieces.append((place.agent, place.time - came, came - begun - work, 0))
        self.pieces.append((sender, work, 0, 0))
        return self._cause(sender, step)

    def _up_to(self, axon: int, step: int) -> tuple[int, int]:
        """Who sends the message of an axon, and what it has worked when the message is ready."""
        events, config = self.events, self.config
        neuron = int(np.searchsorted(events.first_axon, axon, side="right")) - 1
        (sender,) = (row for row, one in enumerate(self.rows) if 0 <= neuron - self.firsts[row] < one.end - one.first)
        fired = events.fired[events.begin[sender, step] : events.end[sender, step]]
        fired = fired[: int(np.searchsorted(fired, neuron)) + 1]
        before = events.first_axon[fired[:-1] + 1] - events.first_axon[fired[:-1]]
        messages = int(before.sum()) + axon - int(events.first_axon[neuron]) + 1
        if sender >= self.cores:
            return sender, messages * config.host.message_cycles
        visited = (neuron - self.firsts[sender] + 1) * config.neuron_cycles
        return sender, visited + len(fired) * config.neuron.spike_cycles + messages * config.neuron.message_cycles

    def _cause(self, row: int, step: int) -> Place | None:
        """The last of what a step of a soma or a host waits for, the first among equals."""
        return max(self.before(row, step), key=lambda place: place.time) if step else None

    def before(self, row: int, step: int) -> list[Place]:
        """All that a step of a soma or a host waits for."""
        token, links = self.config.scheduler.token_cycles, self.events.links
        found = [Place(row, step - 1, int(self.kept[row, TOLD, step - 1]))]
        if row < self.cores:
            found.append(Place(len(self.rows) + row, step - 1, int(self.kept[len(self.rows) + row, ENDED, step - 1])))
        for link in self.into[row]:
            sender = int(links[link, 0])
            tokens = len(self.into[sender]) * (step > 1) + self.out[sender].index(link) + 1
            found.append(Place(sender, step - 1, int(self.kept[sender, ENDED, step - 1]) + tokens * token))
        if (of := step - self.config.scheduler.buffers + 1) > 0:
            for link in self.out[row]:
                receiver = int(links[link, 1])
                tokens = self.into[receiver].index(link) + 1
                found.append(Place(receiver, of, int(self.kept[receiver, ENDED, of]) + tokens * token))
        return found
