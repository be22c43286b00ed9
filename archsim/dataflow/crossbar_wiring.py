"""A network laid out on a chip of crossbar arrays: which agents there are, and how they are connected.

Agents are drawn layer by layer, tile by tile, since their order is that of arbitration; :class:`Drawing` collects their
rows kind by kind.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow import crossbar_agents as agents
from archsim.dataflow import crossbar_bounds as bounds
from archsim.dataflow import crossbar_mapping as mapping
from archsim.dataflow.crossbar_chip import Arrays, ChipConfig, DigitalUnit
from archsim.dataflow.crossbar_inputs import ChipLayer, Driven, driven
from archsim.dataflow.crossbar_mapping import TileShare
from archsim.dataflow.pipeline import DRAM, Kind, Stage
from archsim.hardware.agent import Operations
from archsim.hardware.diagram import Diagram, Fifo
from archsim.hardware.integers import table_of
from archsim.hardware.interconnect.noc import Hop, Mesh
from archsim.hardware.operation import SHARED

AgentFunction = Callable[..., Operations]

ROWS: Mapping[AgentFunction, type[tuple[int, ...]]] = {
    agents.hop: Hop, agents.driver: agents.Driver, agents.converter: agents.Converter, agents.adder: agents.Adder,
    agents.neuron: agents.Neuron, agents.sender: agents.Sender, agents.storer: agents.Storer,
    agents.writer: agents.Writer, agents.digital: agents.Digital,
}  # fmt: skip
"""The kinds of agents, in the order of their tables in :class:`archsim.dataflow.crossbar_agents.Operands`."""

UNITS: Mapping[AgentFunction, str] = {
    agents.converter: "adc", agents.driver: "array", agents.adder: "h_tree", agents.neuron: "neuron",
    agents.sender: "mover", agents.storer: "mover", agents.hop: "link", agents.writer: "writer",
    agents.digital: "digital",
}  # fmt: skip
"""What the agents of a kind are called in ``units.csv``."""

DIGITAL_ACTIONS: Mapping[Kind, int] = {"softmax": agents.SOFTMAX, "layer_norm": agents.NORMALISED}
"""What a digital unit counts, one for every value of its output; all else counts as additions."""


class Tile(NamedTuple):
    """One tile of a layer: its share, its place on the mesh, and how rows of each input arrive and are given back."""

    share: TileShare
    place: tuple[int, int]
    feeds: list[tuple[int, int]]


@dataclass
class Drawing:
    """Agents and FIFOs in a diagram, with their rows; ``stages`` tells for which layer an agent works."""

    diagram: Diagram = field(default_factory=Diagram)
    stages: list[int] = field(default_factory=list)
    own: dict[AgentFunction, list[tuple[int, ...]]] = field(default_factory=lambda: defaultdict(list))
    feeds: list[agents.Feed] = field(default_factory=list)
    parts: list[agents.Part] = field(default_factory=list)
    joins: list[agents.Join] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    active: list[NDArray[np.int64]] = field(default_factory=list)
    positions: int = 0

    def agent(self, function: AgentFunction, stage: int, own: tuple[int, ...], requests: int = 0) -> None:
        """A new agent; ``requests``: most requests of an operation."""
        self.diagram.agent(function, name=UNITS[function], requests=requests)
        self.own[function].append(own)
        self.stages.append(stage)

    def tokens(self, count: int) -> Fifo:
        """A FIFO of ``count`` tokens that are all there at first."""
        return self.diagram.fifo(count, full=True)

    def listed(self, values: Sequence[int]) -> tuple[int, int]:
        """Put ports into their list; the first one's place, and the one behind the last."""
        return extended(self.ports, values)

    def table(self, totals: NDArray[np.int64]) -> int:
        """A table of how many rows more each row needs than the one before; where it begins."""
        return extended(self.rows, np.diff(totals, prepend=0).tolist())[0]

    def plan(self, active: NDArray[np.int64]) -> int:
        """What is active in the positions of a part of a layer; where it begins."""
        self.active.append(active)
        self.positions += len(active)
        return self.positions - len(active)

    def operands(self) -> agents.Operands:
        """The tables as arrays."""
        own = [table_of(row, self.own[function]) for function, row in ROWS.items()]
        parts = [
            table_of(row, rows)
            for row, rows in ((agents.Feed, self.feeds), (agents.Part, self.parts), (agents.Join, self.joins))
        ]
        numbers = [np.array(self.ports, np.int64), np.array(self.rows, np.int64)]
        active = np.concatenate([np.zeros(0, np.int64), *self.active])
        return agents.Operands._make([*own, *parts, *numbers, active])


def extended(values: list[Any], more: Sequence[Any]) -> tuple[int, int]:
    """Put ``more`` behind ``values``; where they begin and end."""
    first = len(values)
    values += more
    return first, len(values)


@dataclass(frozen=True)
class Chip:
    """A network laid out: its layers, how they are mapped, on which nodes of the mesh, and what drives arrays."""

    drawing: Drawing
    stages: tuple[Stage, ...]
    mappings: tuple[mapping.Mapping, ...]
    tiles: tuple[tuple[int, ...], ...]
    driven: tuple[Driven | None, ...]

    @property
    def units(self) -> NDArray[np.str_]:
        """What each agent is called in ``units.csv``."""
        return np.array([kind.name for kind in self.drawing.diagram.kinds])

    def working_for(self, stage: int) -> NDArray[np.int64]:
        """The numbers of the agents that work for a layer."""
        return np.flatnonzero(np.array(self.drawing.stages) == stage)


def lay_out(config: ChipConfig, stages: Sequence[Stage], layers: Sequence[ChipLayer]) -> Chip:
    """Give every layer tiles, a module and memory, and connect them."""
    return _Layout(config, stages, layers).chip()


class _Layout:
    def __init__(self, config: ChipConfig, stages: Sequence[Stage], layers: Sequence[ChipLayer]) -> None:
        self.config, self.stages, self.layers = config, stages, layers
        self.drawing = Drawing()
        self.mesh = Mesh(self.drawing.diagram)
        self.mappings = tuple(mapping.map_layer(config, stage) for stage in stages)
        nodes, modules = config.nodes, config.neuron.modules
        self.module_nodes = [(2 * i + 1) * nodes // (2 * modules) for i in range(modules)]
        self.turns = [self.drawing.diagram.fifo(1, full=True, readers=SHARED) for _ in self.module_nodes]
        self.module = self._assign(modules)
        self.tiles = tuple(self._place())
        self.driven: list[Driven | None] = []
        self.done: list[list[Fifo]] = []  # of each layer and group: finished rows
        taken = (mapping.memory_lines(config, *pair) for pair in zip(stages, self.mappings, strict=True))
        self.out_line = [0, *accumulate(taken)]
        self.free_line = 0
        self.dram_line = config.memory.cache.usable_bytes // config.memory.cache.line_bytes  # behind the modules' own

    def chip(self) -> Chip:
        for number in range(len(self.stages)):
            self.done.append(self._done_fifos(number))
        for number, found in enumerate(self.mappings):
            if isinstance(found.unit, DigitalUnit):
                self.driven.append(None)
                self._digital(number, found.unit)
            else:
                self._on_arrays(number, found.unit)
            if self.stages[number].leaves:
                self._store(number)
        return Chip(self.drawing, tuple(self.stages), self.mappings, self.tiles, tuple(self.driven))

    # Places.

    def _assign(self, modules: int) -> list[int]:
        """The module of each layer: the one with the fewest neurons so far."""
        load = [0] * modules
        chosen = []
        for stage in self.stages:
            module = load.index(min(load))
            load[module] += stage.outputs * stage.out_height * stage.out_width
            chosen.append(module)
        return chosen

    def _place(self) -> Iterator[tuple[int, ...]]:
        """Each layer's tiles: the free nodes nearest to its module, in the order of the nodes."""
        noc = self.config.noc
        free = {node: noc.place(node) for node in range(self.config.nodes) if node not in self.module_nodes}
        for found, module in zip(self.mappings, self.module, strict=True):
            row, column = noc.place(self.module_nodes[module])
            near = sorted(free, key=lambda node: (abs(free[node][0] - row) + abs(free[node][1] - column), node))
            chosen = tuple(sorted(near[: len(found.shares)]))
            for node in chosen:
                del free[node]
            yield chosen

    def _module_place(self, number: int) -> tuple[int, int]:
        """Where on the mesh the module of layer ``number`` is."""
        return self.config.noc.place(self.module_nodes[self.module[number]])

    def _taken(self, lines: int) -> int:
        """First of the next ``lines`` lines of the modules' memory."""
        self.free_line += lines
        return self.free_line - lines

    def _dram(self, lines: int) -> int:
        """First of so many lines of DRAM that nothing else lies in."""
        self.dram_line += lines
        return self.dram_line - lines

    def _maps(self, stage: Stage) -> int:
        return stage.images * (1 if self.config.inner else stage.timesteps)

    def _steps(self, stage: Stage) -> int:
        """What is computed of a row: its positions, timestep by timestep if all of one follow each other."""
        return stage.out_width * (stage.timesteps if self.config.inner else 1)

    def _driven_maps(self, stage: Stage) -> int:
        return stage.images * (1 if self.config.inner else stage.driven_timesteps)

    def _driven_steps(self, stage: Stage) -> int:
        """The same of what arrays are driven with."""
        return stage.out_width * (stage.driven_timesteps if self.config.inner else 1)

    # Who waits for whose rows.

    def _readers(self, number: int) -> list[tuple[int, int, NDArray[np.int64]]]:
        """Who waits for rows of layer ``number``: (layer, its feed or -1 for a join, rows needed)."""
        found = []
        for reader, stage in enumerate(self.stages):
            fed = (*stage.feeds, *stage.written)
            found += [(reader, i, feed.need) for i, feed in enumerate(fed) if feed.source == number]
            found += [(reader, -1, join.need) for join in stage.joins if join.source == number]
        return found

    def _done_fifos(self, number: int) -> list[Fifo]:
        """For each group of tiles a FIFO of finished rows; a port for each reader (and neuron group of a join)."""
        stage, readers = self.stages[number], self._readers(number)
        ports = sum(1 if feed >= 0 else self.mappings[reader].groups for reader, feed, _ in readers)
        steps = [int(np.diff(self._drained(need, stage.out_height), prepend=0).max()) for _, _, need in readers]
        ahead = max([1, *steps]) - 1 + self.config.neuron.row_buffer
        ahead = max(ahead, stage.kept * stage.out_height)  # what is read later waits in the module
        return [self.drawing.diagram.fifo(ahead, readers=max(1, ports)) for _ in range(self.mappings[number].groups)]

    @staticmethod
    def _drained(need: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
        """``need``, with all ``rows`` rows taken by the last one."""
        need = need.copy()
        need[-1] = rows
        return need

    def _ports(self, source: int, reader: int, feed: int, group: int = 0) -> list[int]:
        """Ports at which a reader sees the finished rows of all groups of layer ``source``."""
        place = 0
        for other, index, _ in self._readers(source):
            if (other, index) == (reader, feed):
                return [done.reader(place + group).port for done in self.done[source]]
            place += 1 if index >= 0 else self.mappings[other].groups
        raise LookupError(f"layer {reader} does not read layer {source}")

    def _need(self, need: NDArray[np.int64], source: int) -> int:
        """The table of rows of layer ``source`` that are waited for."""
        return self.drawing.table(self._drained(need, self.stages[source].out_height))

    # Layers.

    def _on_arrays(self, number: int, arrays: Arrays) -> None:
        config, stage, found, maps = self.config, self.stages[number], self.mappings[number], self.layers[number].maps
        assert maps is not None, "something drives arrays"
        self.driven.append(driven(config, stage, arrays, found, maps))
        plans = self._plans(number)
        where = [config.noc.place(tile) for tile in self.tiles[number]]
        tiles = [Tile(*tile) for tile in zip(found.shares, where, self._senders(number, where), strict=True)]
        joins = [self._joins(number, group) for group in range(found.groups)]
        received: dict[int, list[agents.Part]] = defaultdict(list)
        # Parts that send come before the one that adds, in reverse.
        for index in reversed(range(len(tiles))):
            tile = tiles[index]
            share = tile.share
            slot, converted = self._arrays(number, arrays, tile, plans[index])
            if share.part == 0:
                way = (tile.place, self._module_place(number))
                sums = self._adder(number, arrays, share, slot, converted, received.pop(share.group, []), way)
                self._neurons(number, share, sums, joins[share.group])
            else:
                way = (tile.place, where[index - share.part])
                received[share.group].append(self._adder(number, arrays, share, slot, converted, [], way))

    def _plans(self, number: int) -> list[int]:
        """Where the plan of each tile begins; tiles that do the same have one."""
        found, begin = self.driven[number], dict[int, int]()
        assert found is not None, "something drives arrays"
        for plan in found.plans:
            if id(plan) not in begin:
                begin[id(plan)] = self.drawing.plan(plan)
        return [begin[id(plan)] for plan in found.plans]

    def _arrays(self, number: int, arrays: Arrays, tile: Tile, plan: int) -> tuple[Fifo, Fifo]:
        """Driver and converter of a tile: its slots, and what is converted."""
        config, drawing, stage, found = self.config, self.drawing, self.stages[number], self.mappings[number]
        share, slots, steps = tile.share, config.pe.in_flight, self._driven_steps(stage)
        planes, maps = arrays.planes(stage.bits), self._driven_maps(stage)
        slot, driven, converted = drawing.tokens(slots), drawing.diagram.fifo(slots), drawing.diagram.fifo(slots)
        matrix = [self._matrix(number, arrays, tile)] if stage.written else []
        first_feed, end_feed = extended(drawing.feeds, [*self._feeds(stage, tile.feeds), *matrix])
        inputs = -(-found.channels // found.parts) * share.clusters * stage.window.kernel[0] * stage.bits
        width = config.tile.buffer_width_bits
        driver = agents.Driver(
            maps=maps,
            height=stage.out_height,
            steps=steps,
            planes=planes,
            row_steps=stage.driven_timesteps if config.inner else 1,
            row_cycles=-(-inputs * stage.window.kernel[1] // width),
            cycles=-(-inputs * min(stage.window.stride[1], stage.window.kernel[1]) // width),
            first_feed=first_feed,
            end_feed=end_feed,
            plan=plan,
            copies=share.copies,
            pe_copies=-(-share.copies // found.blocks_per_pe),
            slot=slot.port,
            driven=driven.fifo,
        )
        converter = agents.Converter(
            plan=plan,
            end=plan + maps * stage.out_height * steps * planes,
            cycles=bounds.position_cycles(found, arrays),
            conversions=share.outputs // share.clusters * arrays.conversions,
            driven=driven.port,
            converted=converted.fifo,
        )
        drawing.agent(agents.driver, number, driver)
        drawing.agent(agents.converter, number, converter)
        return slot, converted

    def _feeds(self, stage: Stage, arrivals: Sequence[tuple[int, int]]) -> list[agents.Feed]:
        """What a tile or a digital unit waits for, row by row of its output."""
        table = self.drawing.table
        return [
            agents.Feed(port, credit, table(stage.window_end(feed.rows)), table(stage.window_begin(feed.rows)))
            for feed, (port, credit) in zip(stage.feeds, arrivals[: len(stage.feeds)], strict=True)
        ]

    def _matrix(self, number: int, arrays: Arrays, tile: Tile) -> agents.Feed:
        """What writes a matrix of every image into a tile, and what its driver waits for as if it were a feed.

        A row of the arrays is written when what it holds has come: a row of the matrix, or one value of every row.
        """
        drawing, stage, found, share = self.drawing, self.stages[number], self.mappings[number], tile.share
        rows, cycles, first = list(bounds.writes(self.config, stage, found))[found.shares.index(share)]
        free, written = drawing.tokens(1), drawing.diagram.fifo(1)
        feeds = []
        for feed, (port, credit) in zip(stage.written, tile.feeds[len(stage.feeds) :], strict=True):
            here = np.arange(first, first + rows)
            # Rows of the heads that share an array follow each other.
            row = found.together * stage.row_width
            begin = np.full(rows, feed.rows) if stage.transposed else here // row + 1
            finish = np.zeros(rows, np.int64) if stage.transposed else (here + 1) // row
            begin[-1] = finish[-1] = feed.rows
            feeds.append(agents.Feed(port, credit, drawing.table(begin), drawing.table(finish)))
        first_feed, end_feed = extended(drawing.feeds, feeds)
        cells = share.outputs // found.together * arrays.cells + share.copies * share.clusters * arrays.references
        writer = agents.Writer(self._maps(stage), rows, cycles, cells, first_feed, end_feed, free.port, written.fifo)
        drawing.agent(agents.writer, number, writer)
        begin, finish = np.ones(stage.out_height, np.int64), np.zeros(stage.out_height, np.int64)
        finish[-1] = 1
        return agents.Feed(written.port, free.fifo, drawing.table(begin), drawing.table(finish))

    def _adder(
        self,
        number: int,
        arrays: Arrays,
        share: TileShare,
        slot: Fifo,
        converted: Fifo,
        parts: Sequence[agents.Part],
        way: tuple[tuple[int, int], tuple[int, int]],
    ) -> agents.Part:
        """Adder of a tile and its flow of sums, to where they are added or used."""
        config, drawing, stage = self.config, self.drawing, self.stages[number]
        positions, credits = (
            self._driven_maps(stage) * stage.out_height * self._driven_steps(stage),
            config.neuron.sum_buffer,
        )
        room = drawing.tokens(credits)
        entry, (arrival,) = self._flow(number, way[0], [way[1]], positions, credits)
        depth = math.ceil(math.log2(config.pe.arrays)) + math.ceil(math.log2(config.tile.pes))
        first_part, end_part = extended(drawing.parts, parts)
        adder = agents.Adder(
            positions=positions,
            planes=arrays.planes(stage.bits),
            outputs=share.outputs // share.clusters,
            cycles=config.pe.shift_add_cycles + depth,
            flits=config.noc.flits(share.outputs * config.neuron.sum_bits),
            converted=converted.port,
            slot=slot.fifo,
            first_part=first_part,
            end_part=end_part,
            credit=room.port,
            sums=entry,
        )
        drawing.agent(agents.adder, number, adder)
        return agents.Part(arrival, room.fifo)

    def _flow(
        self, number: int, source: tuple[int, int], targets: Sequence[tuple[int, int]], packets: int, credits: int
    ) -> tuple[int, list[int]]:
        return self.mesh.flow(
            source, targets, packets, credits, lambda hop: self.drawing.agent(agents.hop, number, hop)
        )

    def _senders(self, number: int, where: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        """What brings the layer's input, then what is written, to all its tiles, or to its digital unit: tile by tile
        (port of arrival, FIFO of credits)."""
        config, drawing, stage, unit = self.config, self.drawing, self.stages[number], self.mappings[number].unit
        if isinstance(unit, DigitalUnit):
            room = max(unit.room, stage.rows_needed)
        else:
            room = mapping.buffer_rows(config, stage)[0]
        writes = 0 if isinstance(unit, DigitalUnit) else len(where)
        found: list[list[tuple[int, int]]] = [[] for _ in where]
        for index, feed in enumerate((*stage.feeds, *stage.written)):
            held = room if index < len(stage.feeds) else mapping.written_rows(config, stage)
            maps, bits = self._driven_maps(stage), feed.bits * (stage.driven_timesteps if config.inner else 1)
            start = self._module_place(number if feed.source == DRAM else feed.source)
            entry, arrivals = self._flow(number, start, where, maps * feed.rows, held)
            rooms = [drawing.tokens(held) for _ in where]
            first_credit, end_credit = drawing.listed([credit.port for credit in rooms])
            lines = -(-bits // (8 * config.memory.cache.line_bytes))
            shown = maps // stage.images if feed.still else 1
            if feed.source == DRAM:
                need, done = drawing.table(np.zeros(feed.rows, np.int64)), drawing.listed([])
                line = self._dram(maps // shown * feed.rows * lines)
            else:
                need, done = self._need(feed.need, feed.source), drawing.listed(self._ports(feed.source, number, index))
                line = self.out_line[feed.source]
            sender = agents.Sender(
                maps=maps,
                height=feed.rows,
                late=0 if config.inner else feed.late,
                shown=shown,
                need=need,
                first_done=done[0],
                end_done=done[1],
                from_dram=int(feed.source == DRAM),
                line=line,
                lines=lines,
                bytes=-(-bits // 8),
                first_credit=first_credit,
                end_credit=end_credit,
                entry=entry,
                flits=config.noc.flits(bits),
                tile_writes=-(-bits // config.tile.buffer_width_bits) * writes,
                tensor=number * len(agents.TENSORS) + agents.INPUT,
            )
            drawing.agent(agents.sender, number, sender, agents.FETCHED_AT_ONCE)
            for tile, arrival, credit in zip(found, arrivals, rooms, strict=True):
                tile.append((arrival, credit.fifo))
        return found

    def _joins(self, number: int, group: int) -> list[agents.Join]:
        """What the neurons of a group of tiles wait for beside their sums."""
        found = []
        for join in self.stages[number].joins:
            need, late = self._need(join.need, join.source), 0 if self.config.inner else join.late
            found += [agents.Join(port, need, late) for port in self._ports(join.source, number, -1, group)]
        return found

    def _neurons(self, number: int, share: TileShare, sums: agents.Part, joins: Sequence[agents.Join]) -> None:
        """The neurons of a tile in their module."""
        config, drawing, stage = self.config, self.drawing, self.stages[number]
        turn, places = self.turns[self.module[number]], mapping.places_of(config, stage, share.outputs)
        joined = -(-share.outputs * config.neuron.sum_bits // 8) * len(stage.joins)
        first_join, end_join = extended(drawing.joins, joins)
        line, out_line, sum_line = (self._taken(lines) for lines in (places.kept, places.rows, places.sums))
        neuron = agents.Neuron(
            maps=self._maps(stage),
            height=stage.out_height,
            steps=self._steps(stage),
            outputs=share.outputs,
            cycles=-(-share.outputs // config.neuron.lanes) * config.neuron.cycles,
            sums=sums.port,
            room=sums.credit,
            turn=turn.port,
            module=turn.fifo,
            done=self.done[number][share.group].fifo,
            first_join=first_join,
            end_join=end_join,
            joins=len(stage.joins),
            fires=int(stage.fires),
            scales=int(not stage.fires and stage.out_bits > 0),
            stored=int(stage.fires and not config.inner),
            line=line,
            lines=places.lines,
            bytes=places.size,
            out_line=out_line,
            out_lines=places.out_lines,
            out_bytes=places.out_size,
            join_bytes=joined,
            shown=1 if config.inner else stage.shown,
            repeats=stage.shown if config.inner else 1,
            sum_line=sum_line,
            sum_lines=places.sum_lines,
            sum_bytes=places.sum_size,
            tensor=number * len(agents.TENSORS),
        )
        joined_lines = -(-joined // config.memory.cache.line_bytes)
        requests = places.lines + places.sum_lines * (stage.shown > 1) + max(places.out_lines, joined_lines)
        drawing.agent(agents.neuron, number, neuron, requests)

    def _digital(self, number: int, unit: DigitalUnit) -> None:
        """A layer that a digital unit of its module computes, and the senders that bring what it reads."""
        drawing, stage, turn = self.drawing, self.stages[number], self.turns[self.module[number]]
        (arrivals,) = self._senders(number, [self._module_place(number)])
        first_feed, end_feed = extended(drawing.feeds, self._feeds(stage, arrivals))
        places, times = mapping.row_places(self.config, stage), stage.timesteps if self.config.inner else 1
        values = stage.outputs * stage.out_width * times
        digital = agents.Digital(
            maps=self._maps(stage),
            height=stage.out_height,
            cycles=unit.cycles * times,
            values=values * stage.combined,
            action=DIGITAL_ACTIONS.get(stage.kind, agents.ADDED),
            updates=values if stage.fires else 0,
            state_line=self._taken(places.kept),
            state_lines=places.state_lines,
            state_bytes=places.state,
            first_feed=first_feed,
            end_feed=end_feed,
            turn=turn.port,
            module=turn.fifo,
            done=self.done[number][0].fifo,
            line=self._taken(places.rows),
            bytes=places.size,
            tensor=number * len(agents.TENSORS),
        )
        drawing.agent(agents.digital, number, digital, agents.FETCHED_AT_ONCE)

    def _store(self, number: int) -> None:
        """What nobody reads goes to DRAM, row by row."""
        config, drawing, stage = self.config, self.drawing, self.stages[number]
        bits = stage.outputs * self._steps(stage) * (stage.out_bits or config.neuron.sum_bits)
        lines, maps = -(-bits // (8 * config.memory.cache.line_bytes)), self._maps(stage)
        first_done, end_done = drawing.listed([done.port for done in self.done[number]])
        storer = agents.Storer(
            maps=maps,
            height=stage.out_height,
            need=drawing.table(np.arange(1, stage.out_height + 1)),
            first_done=first_done,
            end_done=end_done,
            line=self._dram(maps * stage.out_height * lines),
            lines=lines,
            bytes=-(-bits // 8),
            tensor=number * len(agents.TENSORS) + agents.OUTPUT,
        )
        drawing.agent(agents.storer, number, storer, agents.FETCHED_AT_ONCE)
