"""A chip of crossbar arrays that holds a whole network: tiles, neuron modules and a network between them, as agents.

Weights stay in the arrays of a layer's own tiles. Layers work as a pipeline: one begins when the rows that its first
output needs have come over the network (:mod:`archsim.dataflow.pipeline`).

    for image, for timestep, for row, for column of the output           (scheduler.timesteps: outer; inner: t is last)
        tile      fetch the window's new inputs from the tile buffer, during the position before
                  drive rows, read all arrays, convert column by column, shift and add slices, add up the H-tree
        network   the sums travel to the layer's neuron module
        module    read potentials, leak, integrate, fire, write potentials and spikes; a row is complete: send it on

Agents of a layer: for every tile a *driver*, a *converter*, an *adder* and, in the module, a *neuron* agent; for every
feed a *mover* that waits for rows and sends them to all its tiles along one path; for every link of a flow a *hop*
(:mod:`archsim.hardware.interconnect.noc`). A layer that no array computes has a *digital* agent in its module instead
of all tiles; a product of two matrices has for every tile a *writer*, which puts the second one into its arrays and is
to the driver like one more feed: a row a map, freed when the map's last row has been read. They meet at these FIFOs:

    mover -- row --> hops -- row --> drivers -- position --> converters --> adders -- sums --> hops -- sums --> neurons
    mover <-- credit (a row of the buffer) -- drivers <-- slot -- adders <-- credit -- neurons -- row done --> movers

``pe.in_flight`` slots let that many positions of a tile overlap; a position of a tile takes, from slot to slot,

    drive + read + rounds x conversion + shift-add + ceil(log2 arrays of a PE) + ceil(log2 PEs of a tile)    cycles

with *rounds* the columns that one converter has to convert. Inputs of several bits take that many slots one after the
other, and are sent when the last one is added. A module serves one packet of sums at a time. A channel
block too large for a tile is cut into *parts*; their adders send their sums to the first part's. An event-driven chip
skips arrays without a spike in their rows, and a position's conversions if that leaves none.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.compress import packed_time
from archsim.dataflow.base import Layer, MachineConfig, ScheduledLayers
from archsim.dataflow.crossbar_agents import (
    ACTION,
    ADDED,
    ADDER,
    BACK,
    BEGAN,
    BYTES,
    COLUMNS,
    CONVERTER,
    COPIES,
    COUNT,
    CREDIT_COUNT,
    CREDITS,
    CYCLES,
    DIGITAL,
    DRIVER,
    FETCH_LINES,
    FETCHED_AT_ONCE,
    FINISHED,
    FIRES,
    FIRST,
    FLITS,
    GIVES,
    HOP,
    INPUT,
    IS_LAST,
    JOIN_BYTES,
    JOINS,
    KIND,
    LINE,
    LINES,
    MODULE,
    MOVER,
    NEED,
    NEURON,
    NORMALISED,
    OUT_BYTES,
    OUT_LINE,
    OUT_LINES,
    OUTPUT,
    PE_COPIES,
    PE_SHIFT,
    PERIOD,
    PLAN,
    PLANES,
    ROW_CYCLES,
    ROW_LINES,
    ROW_STEPS,
    ROWS,
    SCALES,
    SET_SHIFT,
    SOFTMAX,
    STEPS,
    STORE_LINES,
    TAKES,
    TENSOR,
    TENSORS,
    TILE_WRITES,
    TOKEN,
    WIDTH,
    WRITER,
    Operands,
    Spec,
)
from archsim.dataflow.pipeline import DRAM, Kind, Stage
from archsim.hardware import operation as op
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.interconnect.noc import MAX_SIDE, Link, MeshConfig, multicast
from archsim.hardware.loading import Block
from archsim.hardware.operation import OWN_PATH, SHARED

# --- Configuration ----------------------------------------------------------------------------------------------------


class PeBlock(Block):
    """Processing elements: crossbar arrays whose sums are added."""

    arrays: int = Field(ge=1, le=256, description="crossbar arrays of a PE")
    weight_bits: int = Field(ge=2, le=8, description="bits of a weight")
    shift_add_cycles: int = Field(ge=0, le=64, description="cycles to shift and add the slices of a weight")
    in_flight: int = Field(ge=1, le=64, description="positions that a tile works on at once; 1: one after the other")


class TileBlock(Block):
    """Tiles: PEs, a buffer of input rows, an H-tree that adds."""

    pes: int = Field(ge=1, le=256, description="PEs of a tile")
    buffer_bits: int = Field(ge=1, le=1 << 30, description="bits of the buffer of input rows")
    buffer_width_bits: int = Field(ge=8, le=512, description="bits that the buffer delivers or takes in a cycle")


class NeuronBlock(LifConfig):
    """Neuron modules: accumulators, LIF neurons, potentials."""

    modules: int = Field(ge=1, le=256, description="neuron modules, each at a node of the mesh")
    lanes: int = Field(ge=1, le=4096, description="neurons that a module updates at once")
    membrane_bits: int = Field(ge=2, le=64, description="bits of a stored membrane potential")
    sum_bits: int = Field(ge=2, le=63, description="bits of a sum on the network and of an output without neurons")
    sum_buffer: int = Field(ge=1, le=64, description="packets of sums of one tile that a module has room for")
    row_buffer: int = Field(
        ge=1, le=64, description="finished rows of a layer that wait to be sent, beside the one next"
    )


class ChipScheduler(ScheduledLayers):
    """Order of the work."""

    timesteps: Literal["outer", "inner"] = Field(description="a map a timestep, or all timesteps of a position at once")
    skip: Literal["none", "row_group"] = Field(description="whether arrays without a spike in their rows are skipped")


class Arrays(NamedTuple):
    """What the chip must know of its crossbar arrays: ``rows``, the neurons whose columns fit one (``outputs``), the
    ``conversions`` and ``cells`` of one of them, and how many conversions share a converter (``shared``). A row has
    ``references`` cells beside those of its neurons.

    ``joined``: the arrays of a PE have one set of converters, their currents are joined. A row takes ``driver_bits``
    bits of an input at once.
    """

    rows: int
    outputs: int
    conversions: int
    cells: int
    references: int
    shared: int
    conversion_cycles: int
    driver_bits: int
    joined: bool

    def planes(self, bits: int) -> int:
        """Cycles that an input of ``bits`` bits takes."""
        return -(-bits // self.driver_bits)


class ChipConfig(MachineConfig):
    """A chip of crossbar arrays; a machine adds what its arrays are and says :meth:`arrays`.

    One that runs products of two tensors, or what digital units compute, also says how long a write and a unit take;
    of others nobody asks, as no such stage is laid out on them.
    """

    pe: PeBlock = Field(description="processing elements")
    tile: TileBlock = Field(description="tiles")
    neuron: NeuronBlock = Field(description="neuron modules")
    noc: MeshConfig = Field(description="network between tiles and neuron modules")
    scheduler: ChipScheduler = Field(description="order of the work")

    @abstractmethod
    def arrays(self, stage: Stage) -> Arrays:
        """The arrays that hold a layer's weights, or its matrices that are written as the network runs."""

    @property
    @abstractmethod
    def read_cycles(self) -> int:
        """Cycles to drive rows and to let columns settle."""

    @property
    def built_arrays(self) -> int:
        """Crossbar arrays of the chip."""
        return self.tiles * self.tile.pes * self.pe.arrays

    def write_cycles(self, arrays: int) -> int:
        """Cycles to write a row of each of ``arrays`` arrays of a tile."""
        raise NotImplementedError

    def digital_cycles(self, stage: Stage) -> int:
        """Cycles that a digital unit of a module takes for a row of its output."""
        raise NotImplementedError

    def digital_values(self, stage: Stage) -> int:
        """Values that the lanes of a digital unit work on for a row of its output."""
        raise NotImplementedError

    @property
    def digital_rows(self) -> int:
        """Rows of each of its inputs that a digital unit has room for."""
        raise NotImplementedError

    def mesh_rows(self, tiles: int) -> int:
        """Rows of the mesh: as the file says, or with ``fit`` as few as hold ``tiles`` tiles beside the modules."""
        if self.noc.rows != "fit":
            return self.noc.rows
        return min(-(-(tiles + self.neuron.modules) // self.noc.columns), MAX_SIDE)

    def built_for(self, stages: Sequence[Stage]) -> Self:
        """The chip for these layers, its rows a number. If even the largest mesh is too small, :func:`misfits` says so.

        Which tiles a layer needs does not depend on the mesh.
        """
        rows = self.mesh_rows(max(1, sum(len(map_layer(self, stage).shares) for stage in stages)))
        return self.model_copy(update={"noc": self.noc.model_copy(update={"rows": rows})})

    @property
    def nodes(self) -> int:
        """Nodes of the mesh; where rows are not fitted to a network yet, of the smallest chip, with a tile."""
        return self.mesh_rows(1) * self.noc.columns

    @property
    def tiles(self) -> int:
        """Tiles of the chip: the nodes that are no neuron module."""
        return self.nodes - self.neuron.modules

    def module_problems(self) -> dict[str, str]:
        """What is wrong with the number of neuron modules, by path."""
        if self.neuron.modules < self.nodes:
            return {}
        mesh = f"{self.mesh_rows(1)} x {self.noc.columns}"
        return {"neuron.modules": f"must leave nodes of the {mesh} mesh to tiles"}


# --- Mapping ----------------------------------------------------------------------------------------------------------


class TileShare(NamedTuple):
    """What one tile holds of a layer: ``copies`` column blocks with ``outputs`` neurons.

    Of these it has all inputs, or ``part`` 0, 1, ... of them; tiles of a ``group`` have the same neurons and add up.
    """

    part: int
    group: int
    outputs: int
    copies: int


class Mapping(NamedTuple):
    """How a layer lies in tiles of its own.

    A *column block* is the neurons that an array's columns hold, ``block_outputs``; it takes ``arrays`` arrays in
    ``pes`` PEs, in ``parts`` tiles if one is too small, or a PE holds ``blocks_per_pe`` of them if the layer is small.
    """

    arrays: int
    pes: int
    parts: int
    block_outputs: int
    blocks: int
    blocks_per_pe: int
    shares: tuple[TileShare, ...]

    def pes_used(self) -> int:
        """PEs that hold weights."""
        return self.pes * -(-self.blocks // self.blocks_per_pe)


def map_layer(config: ChipConfig, stage: Stage) -> Mapping:
    """Arrays, PEs and tiles of a layer; none of a layer that a digital unit computes."""
    if not stage.on_arrays:
        return Mapping(0, 0, 1, 0, 0, 1, ())
    arrays_are = config.arrays(stage)
    held, tile_pes = config.pe.arrays, config.tile.pes
    arrays = -(-stage.channels // arrays_are.rows) * stage.kernel[0] * stage.kernel[1]
    pes = -(-arrays // held)
    block_outputs = arrays_are.outputs
    blocks = -(-stage.outputs // block_outputs)
    # Joined currents belong to one column block; arrays with converters of their own may be shared out.
    blocks_per_pe = 1 if arrays_are.joined else max(1, held // arrays)
    parts = -(-pes // tile_pes)
    copies = max(1, tile_pes // pes) * blocks_per_pe
    shares = []
    for group, first in enumerate(range(0, blocks, copies)):
        here = min(copies, blocks - first)
        neurons = min(stage.outputs, (first + here) * block_outputs) - first * block_outputs
        shares += [TileShare(part, group, neurons, here) for part in range(parts)]
    return Mapping(arrays, pes, parts, block_outputs, blocks, blocks_per_pe, tuple(shares))


def activity(config: ChipConfig, stage: Stage, mapping: Mapping, layer: Layer) -> list[NDArray[np.int64]]:
    """For each part of a layer what is active in every position, packed, in the order of the work.

    Without skipping everything is. With it, an array is active if one of its rows carries a spike, or a bit of those
    that are driven.
    """
    arrays_are, held = config.arrays(stage), config.pe.arrays
    rows = arrays_are.rows
    if layer.feature_map is not None:
        words = layer.feature_map.words
        padded = np.pad(words, ((0, 0), (0, -words.shape[1] % rows), (0, 0), (0, 0)))
        blocks = padded.reshape(words.shape[0], -1, rows, *words.shape[2:])
        driven = packed_time.unroll(np.bitwise_or.reduce(blocks, 2), stage.kernel, stage.stride, stage.padding)
    else:
        dense = packed_time.decode(layer.inputs, layer.k)
        padded = np.pad(dense, ((0, 0), (0, -dense.shape[1] % rows)))
        driven = np.bitwise_or.reduce(padded.reshape(len(dense), -1, rows), 2)
    # A word holds the spikes of all timesteps, or the bits of an input.
    step_bits = 1 if stage.bits == 1 else arrays_are.driver_bits
    steps = stage.timesteps * arrays_are.planes(stage.bits)
    # [images, positions, arrays, T or bits], or with t before the positions
    spikes = (driven[:, :, None] >> np.arange(steps) * step_bits) & ((1 << step_bits) - 1) > 0
    spikes |= config.scheduler.skip == "none"
    spikes = spikes.reshape(stage.images, -1, mapping.arrays, steps)
    inner = config.scheduler.timesteps == "inner" or stage.bits > 1
    spikes = spikes.transpose((0, 1, 3, 2) if inner else (0, 3, 1, 2))
    spikes = spikes.reshape(-1, mapping.arrays)
    packed = []
    for first in range(0, mapping.arrays, held * config.tile.pes):
        part = spikes[:, first : first + held * config.tile.pes]
        pes = np.logical_or.reduceat(part, np.arange(0, part.shape[1], held), axis=1).sum(1, dtype=np.int64)
        arrays = part.sum(1, dtype=np.int64)
        sets = pes if arrays_are.joined else arrays
        packed.append(arrays | sets << SET_SHIFT | pes << PE_SHIFT)
    return packed


def row_reads(config: ChipConfig, stage: Stage, mapping: Mapping, layer: Layer) -> int:
    """How often a row of an array is driven: in every column block, for every spike or driven part of an input."""
    arrays, words = config.arrays(stage), layer.inputs
    dense = packed_time.decode(words, layer.k)
    mask = (1 << arrays.driver_bits) - 1 if stage.bits > 1 else 1
    steps = range(0, stage.bits, arrays.driver_bits) if stage.bits > 1 else range(stage.timesteps)
    return mapping.blocks * sum(int(np.count_nonzero(dense >> step & mask)) for step in steps)


def working_cycles(config: ChipConfig, stage: Stage, mapping: Mapping, driven: int) -> int:
    """Cycles of all cells in which their row is driven and their column read, of ``driven`` rows of arrays.

    Of a layer that a digital unit computes: cycles of all lanes in which they have a value.
    """
    if not stage.on_arrays:
        return stage.images * stage.timesteps * stage.out_height * config.digital_values(stage)
    arrays = config.arrays(stage)
    # A row of the layer is driven in every block, each of which has some of the neurons and references of its own.
    cells = stage.outputs * arrays.cells + mapping.blocks * arrays.references
    return driven // mapping.blocks * cells * config.read_cycles


def rounds(config: ChipConfig, stage: Stage, mapping: Mapping) -> int:
    """Columns that a converter of the layer has to convert, one after the other."""
    arrays = config.arrays(stage)
    return min(arrays.shared, min(mapping.block_outputs, stage.outputs) * arrays.conversions)


def conversion_cycles(config: ChipConfig, stage: Stage, mapping: Mapping, layer: Layer) -> int:
    """Cycles of the conversions of the layer's busiest tile."""
    busiest = max(np.count_nonzero(part) for part in activity(config, stage, mapping, layer))
    return int(busiest) * rounds(config, stage, mapping) * config.arrays(stage).conversion_cycles


def lower_bound(config: ChipConfig, stage: Stage, mapping: Mapping, layer: Layer) -> int:
    """Cycles that the layer's busiest unit is busy: converting, writing a matrix, or computing digitally."""
    if not stage.on_arrays:
        return stage.images * stage.timesteps * stage.out_height * config.digital_cycles(stage)
    converting = conversion_cycles(config, stage, mapping, layer)
    return max(converting, *(stage.images * steps * cycles for steps, cycles, _ in _writes(config, stage, mapping)), 0)


def _writes(config: ChipConfig, stage: Stage, mapping: Mapping) -> Iterator[tuple[int, int, int]]:
    """Of every tile of a product of matrices: rows to write, one after the other, cycles of one, and the first row."""
    if stage.kind != "matmul":
        return
    span = config.tile.pes * config.pe.arrays * config.arrays(stage).rows
    for share in mapping.shares:
        first = share.part * span
        yield min(span, stage.channels - first), config.write_cycles(share.copies), first


def input_bytes(stage: Stage) -> int:
    """Bytes of the layer's input that come from DRAM."""
    maps = stage.images * stage.timesteps
    return sum(maps * feed.rows * feed.bits for feed in (*stage.feeds, *stage.written) if feed.source == DRAM) // 8


def written_rows(config: ChipConfig, stage: Stage) -> int:
    """Rows of the matrix to write that a tile's buffer holds: all if they are columns of arrays, or if rows of several
    tiles pass by; else two."""
    if stage.transposed or map_layer(config, stage).parts > 1:
        return max((feed.rows for feed in stage.written), default=0)
    return 2


def buffer_rows(config: ChipConfig, stage: Stage) -> tuple[int, int, int]:
    """Rows of every feed that a tile's buffer holds, how many it must hold for the layer to go on, and their bits.

    A matrix that is written has its rows beside those.
    """
    bits = sum(feed.bits for feed in stage.feeds) * (stage.timesteps if config.scheduler.timesteps == "inner" else 1)
    needed = 1
    for feed in stage.feeds:
        freed = np.concatenate(([0], stage.window_begin(feed.rows)[:-1]))
        needed = max(needed, int((stage.window_end(feed.rows) - freed).max()))
    return max(config.tile.buffer_bits - _written_bits(config, stage), 0) // bits, needed, bits


def _written_bits(config: ChipConfig, stage: Stage) -> int:
    return written_rows(config, stage) * sum(feed.bits for feed in stage.written)


def misfits(config: ChipConfig, stages: Sequence[Stage]) -> list[str]:
    """Why the chip cannot hold these layers, one line each."""
    problems = []
    tiles = [len(map_layer(config, stage).shares) for stage in stages]
    if sum(tiles) > config.tiles:
        listed = ", ".join(f"{stage.name} {count}" for stage, count in zip(stages, tiles, strict=True))
        problems.append(
            f"noc.rows, noc.columns: the chip has {config.tiles} tiles, the layers need {sum(tiles)} of their own "
            f"({listed})"
        )
    for stage in stages:
        if not stage.on_arrays:
            continue
        held, needed, bits = buffer_rows(config, stage)
        if held < needed:
            problems.append(
                f"tile.buffer_bits: {config.tile.buffer_bits} bits hold {held} rows of the input of {stage.name}, it "
                f"needs {needed}; --set tile.buffer_bits={needed * bits + _written_bits(config, stage)} builds a chip "
                "that can"
            )
    places = [
        places_of(config, stage, share.outputs)
        for stage in stages
        for share in map_layer(config, stage).shares
        if share.part == 0
    ]
    lines = sum(place.kept + place.rows for place in places)
    lines += sum(_row_places(config, stage)[2] for stage in stages if not stage.on_arrays)
    size = lines * config.memory.cache.line_bytes
    if size > config.memory.cache.usable_bytes:
        problems.append(
            f"memory.cache.size_kib: potentials and rows of outputs need {size} bytes, the neuron modules have "
            f"{config.memory.cache.usable_bytes}; --set memory.cache.size_kib={1 << (size - 1 >> 10).bit_length()} "
            "builds a chip that can"
        )
    return problems


class Places(NamedTuple):
    """Lines of memory of one tile's neurons, ``lines`` (``size`` bytes) for the potentials of a position and
    ``out_lines`` (``out_size``) for its outputs: ``kept`` for all potentials, ``rows`` for rows of outputs."""

    lines: int
    size: int
    out_lines: int
    out_size: int
    kept: int
    rows: int


def places_of(config: ChipConfig, stage: Stage, outputs: int) -> Places:
    """What ``outputs`` neurons of a layer take; rows that must be kept all wait, others while they are sent."""
    line_bytes, inner = config.memory.cache.line_bytes, config.scheduler.timesteps == "inner"
    size = -(-outputs * config.neuron.membrane_bits // 8)
    out_size = -(-outputs * (stage.out_bits or config.neuron.sum_bits) // 8)
    lines, out_lines = -(-size // line_bytes), -(-out_size // line_bytes)
    kept = stage.out_height * stage.out_width * lines if stage.fires and not inner else 0
    rows = stage.out_height if stage.kept else 1 + config.neuron.row_buffer
    return Places(
        lines, size, out_lines, out_size, kept, rows * stage.out_width * (stage.timesteps if inner else 1) * out_lines
    )


def _row_places(config: ChipConfig, stage: Stage) -> tuple[int, int, int]:
    """Lines and bytes of an output row of a digital unit, and lines of all rows that wait."""
    size = -(-stage.outputs * stage.out_width * (stage.out_bits or config.neuron.sum_bits) // 8)
    lines = -(-size // config.memory.cache.line_bytes)
    return lines, size, lines * (stage.out_height if stage.kept else 1 + config.neuron.row_buffer)


# --- Laying out -------------------------------------------------------------------------------------------------------


@dataclass
class Wiring:
    """Collects agents, FIFOs and tables, and knows which layer an agent works for."""

    agents: list[dict[int, int]] = field(default_factory=list)
    stages: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    fifos: list[tuple[int, int, int]] = field(default_factory=list)
    ports: int = 0
    feeds: list[tuple[int, int, int, int]] = field(default_factory=list)
    listed: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    active: list[NDArray[np.int64]] = field(default_factory=list)
    links: dict[Link, tuple[int, int]] = field(default_factory=dict)

    def agent(self, kind: int, stage: int, values: dict[int, int], slots: int = 0) -> int:
        """A new agent; ``values`` by column of the table, ``slots``: most requests of an operation."""
        self.agents.append({KIND: kind, **values})
        self.stages.append(stage)
        self.slots.append(slots)
        return len(self.agents) - 1

    def fifo(self, capacity: int, initial: int = 0, ports: int = 1) -> tuple[int, int]:
        """A new FIFO and its first port."""
        self.fifos.append((capacity, initial, ports))
        first = self.ports
        self.ports += max(1, ports)
        return len(self.fifos) - 1, first

    def listing(self, values: Sequence[int]) -> int:
        """Put ``values`` into the list; where they begin."""
        self.listed += values
        return len(self.listed) - len(values)

    def table(self, totals: NDArray[np.int64]) -> int:
        """A table of how many rows more each row needs than the one before; where it begins."""
        self.rows += np.diff(totals, prepend=0).tolist()
        return len(self.rows) - len(totals)

    def link(self, link: Link) -> tuple[int, int]:
        """The token of a link: FIFO and port."""
        if link not in self.links:
            self.links[link] = self.fifo(1, 1, SHARED)
        return self.links[link]

    def flow(
        self, stage: int, source: tuple[int, int], targets: Sequence[tuple[int, int]], packets: int, credits: int
    ) -> tuple[int, list[int]]:
        """A flow of ``packets`` packets with ``credits`` under way at most: (FIFO to give to, ports of arrival)."""
        entry, port = self.fifo(credits)
        path = list(multicast(source, targets))
        arrivals = []
        for place, (link, target) in enumerate(path):
            forks = target is None and path[place + 1][1] is not None and place + 2 < len(path)
            onward, next_port = self.fifo(credits, 0, 2 if forks else 1)
            back, token = self.link(link)
            values = {ROWS: packets, TAKES: port, GIVES: onward, TOKEN: token, BACK: back}
            self.agent(HOP, stage, values | {IS_LAST: int(target is not None)})
            if target is None:
                port = next_port
            else:
                arrivals.append(next_port)
                port += 1  # the other port of the router that the target hangs on
        return entry, arrivals

    def operands(self) -> Operands:
        """The tables as arrays."""
        agent = np.zeros((len(self.agents), COLUMNS), np.int64)
        for row, values in zip(agent, self.agents, strict=True):
            for column, value in values.items():
                row[column] = value
        return Operands(
            agent,
            np.array(self.feeds, np.int64).reshape(-1, 4),
            np.array([*self.listed, 0], np.int64),
            np.array(self.rows, np.int64),
            np.concatenate(self.active),
        )

    def topology(self) -> op.Topology:
        """Agents and FIFOs for the engines; no agent goes through a switch."""
        return op.topology(self.slots, [OWN_PATH] * len(self.agents), self.fifos, [])


class Span(NamedTuple):
    """A layer's time, from the first to the last event of its agents (their numbers)."""

    begin: int
    cycles: int
    agents: NDArray[np.int64]


def span(state: NDArray[np.int64], agents: NDArray[np.int64]) -> Span:
    """The time of the layer that ``agents`` worked for, from their final state."""
    begin = int(state[agents, BEGAN].min())
    return Span(begin, int(state[agents, FINISHED].max()) - begin, agents)


@dataclass(frozen=True)
class Built:
    """A network laid out: its layers, who works for which, how they are mapped and on which nodes of the mesh."""

    spec: Spec
    wiring: Wiring
    stages: tuple[Stage, ...]
    mappings: tuple[Mapping, ...]
    tiles: tuple[tuple[int, ...], ...]


def lay_out(config: ChipConfig, stages: Sequence[Stage], layers: Sequence[Layer]) -> Built:
    """Give every layer tiles, a module and memory, and connect them."""
    return _Layout(config, stages, layers).build()


class _Layout:
    def __init__(self, config: ChipConfig, stages: Sequence[Stage], layers: Sequence[Layer]) -> None:
        self.config, self.stages, self.layers = config, stages, layers
        self.inner = config.scheduler.timesteps == "inner"
        self.wiring = Wiring()
        self.mappings = tuple(map_layer(config, stage) for stage in stages)
        nodes, modules = config.nodes, config.neuron.modules
        self.module_nodes = [(2 * i + 1) * nodes // (2 * modules) for i in range(modules)]
        self.module_tokens = [self.wiring.fifo(1, 1, SHARED) for _ in self.module_nodes]
        self.module = self._assign(len(self.module_nodes))
        self.tiles = tuple(self._place())
        self.done: list[list[tuple[int, list[int]]]] = []  # of each layer and group: FIFO of finished rows, its ports
        self.out_line: list[int] = []
        self.free_line = 0
        self.dram_line = config.memory.cache.usable_bytes // config.memory.cache.line_bytes  # behind the modules' own

    def build(self) -> Built:
        config, memory = self.config, self.config.memory.cache
        for number in range(len(self.stages)):
            self.done.append(self._done_fifos(number))
        for number in range(len(self.stages)):
            self._layer(number)
        spec = Spec(
            timesteps=max((stage.timesteps for stage in self.stages), default=1),
            inner=int(self.inner),
            read_cycles=config.read_cycles,
            router_cycles=config.noc.router_cycles,
            line_bytes=memory.line_bytes,
            beat_bytes=memory.width_bits // 8,
        )
        return Built(spec, self.wiring, tuple(self.stages), self.mappings, self.tiles)

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
        for mapping, module in zip(self.mappings, self.module, strict=True):
            row, column = noc.place(self.module_nodes[module])
            near = sorted(free, key=lambda node: (abs(free[node][0] - row) + abs(free[node][1] - column), node))
            chosen = tuple(sorted(near[: len(mapping.shares)]))
            for node in chosen:
                del free[node]
            yield chosen

    def _maps(self, stage: Stage) -> int:
        return stage.images * (1 if self.inner else stage.timesteps)

    def _readers(self, number: int) -> list[tuple[int, int, NDArray[np.int64]]]:
        """Who waits for rows of layer ``number``: (layer, its feed or -1 for a join, rows needed)."""
        found = []
        for reader, stage in enumerate(self.stages):
            fed = (*stage.feeds, *stage.written)
            found += [(reader, i, feed.need) for i, feed in enumerate(fed) if feed.source == number]
            found += [(reader, -1, need) for source, need in stage.joins if source == number]
        return found

    def _done_fifos(self, number: int) -> list[tuple[int, list[int]]]:
        """For each group of tiles a FIFO of finished rows; a port for each reader (and neuron group of a join)."""
        stage, readers = self.stages[number], self._readers(number)
        ports = sum(1 if feed >= 0 else _groups(self.mappings[reader]) for reader, feed, _ in readers)
        steps = [int(np.diff(self._drained(need, stage.out_height), prepend=0).max()) for _, _, need in readers]
        ahead = max([1, *steps]) - 1 + self.config.neuron.row_buffer
        if stage.kept:
            ahead = max(ahead, stage.out_height)  # what is read later waits in the module
        fifos = []
        for _ in range(_groups(self.mappings[number])):
            fifo, first = self.wiring.fifo(ahead, 0, max(1, ports))
            fifos.append((fifo, list(range(first, first + max(1, ports)))))
        return fifos

    @staticmethod
    def _drained(need: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
        """``need``, with all ``rows`` rows taken by the last one."""
        need = need.copy()
        need[-1] = rows
        return need

    def _layer(self, number: int) -> None:
        config, wiring = self.config, self.wiring
        stage, mapping, tiles = self.stages[number], self.mappings[number], self.tiles[number]
        if not stage.on_arrays:
            self._digital(number)
            return
        plans = []
        for packed in activity(config, stage, mapping, self.layers[number]):
            plans.append(sum(len(part) for part in wiring.active))
            wiring.active.append(packed)
        where = [config.noc.place(tile) for tile in tiles]
        feeds = self._feeds(number, where)
        joins = self._join_ports(number)
        self.out_line.append(self.free_line)
        received: dict[int, list[int]] = {}
        # Parts that send come before the one that adds, in reverse.
        for index in reversed(range(len(tiles))):
            share = mapping.shares[index]
            slot, converted = self._arrays(number, share, feeds[index], plans[share.part])
            head = share.part == 0
            target = config.noc.place(self.module_nodes[self.module[number]]) if head else where[index - share.part]
            sums = received.pop(share.group, []) if head else []
            arrival, room = self._adder(number, share, slot, converted, sums, (where[index], target))
            if head:
                self._neurons(number, share, arrival, room, joins[share.group])
            else:
                received.setdefault(share.group, []).extend((arrival, room))
        if stage.leaves:
            self._store(number)

    def _digital(self, number: int) -> None:
        """A layer that a digital unit of its module computes, and the movers that bring what it reads."""
        config, wiring, stage = self.config, self.wiring, self.stages[number]
        (fed,) = self._feeds(number, [config.noc.place(self.module_nodes[self.module[number]])])
        self.out_line.append(self.free_line)
        first_feed = len(wiring.feeds)
        for feed, (arrival, credit) in zip(stage.feeds, fed, strict=True):
            begin, finish = wiring.table(stage.window_end(feed.rows)), wiring.table(stage.window_begin(feed.rows))
            wiring.feeds.append((arrival, credit, begin, finish))
        lines, size, kept = _row_places(config, stage)
        token, token_port = self.module_tokens[self.module[number]]
        unit = {
            ROWS: self._maps(stage) * stage.out_height,
            PERIOD: stage.out_height,
            GIVES: self.done[number][0][0],
            TOKEN: token_port,
            FIRST: first_feed,
            COUNT: len(stage.feeds),
            CYCLES: config.digital_cycles(stage),
            WIDTH: stage.outputs * stage.out_width,
            MODULE: token,
            LINE: self.free_line,
            LINES: lines,
            BYTES: size,
            ACTION: DIGITAL_ACTIONS[stage.kind],
            TENSOR: number * len(TENSORS),
        }
        wiring.agent(DIGITAL, number, unit, FETCHED_AT_ONCE)
        self.free_line += kept
        if stage.leaves:
            self._store(number)

    def _rows(self, stage: Stage) -> tuple[int, int]:
        """Output rows of all maps, and what is computed of a row: its positions, timestep by timestep if inner."""
        return self._maps(stage) * stage.out_height, stage.out_width * (stage.timesteps if self.inner else 1)

    def _arrays(self, number: int, share: TileShare, feeds: list[tuple[int, int]], plan: int) -> tuple[int, int]:
        """Driver and converter of a tile: FIFO of its slots, port of what is converted."""
        config, wiring, stage, mapping = self.config, self.wiring, self.stages[number], self.mappings[number]
        arrays = config.arrays(stage)
        rows, steps = self._rows(stage)
        planes = arrays.planes(stage.bits)
        slots = config.pe.in_flight
        slot, slot_port = wiring.fifo(slots, slots)
        driven, driven_port = wiring.fifo(slots)
        converted, converted_port = wiring.fifo(slots)
        streamed = len(stage.feeds)
        matrix = [self._matrix(number, share, feeds[streamed:])] if stage.written else []
        first_feed = len(wiring.feeds)
        for feed, (arrival, credit) in zip(stage.feeds, feeds[:streamed], strict=True):
            begin, finish = wiring.table(stage.window_end(feed.rows)), wiring.table(stage.window_begin(feed.rows))
            wiring.feeds.append((arrival, credit, begin, finish))
        wiring.feeds += matrix
        width = config.tile.buffer_width_bits
        inputs = -(-stage.channels // mapping.parts) * stage.kernel[0] * stage.bits
        driver = {
            ROWS: rows,
            STEPS: steps * planes,
            PERIOD: stage.out_height,
            TOKEN: slot_port,
            GIVES: driven,
            FIRST: first_feed,
            COUNT: len(wiring.feeds) - first_feed,
            CYCLES: -(-inputs * min(stage.stride[1], stage.kernel[1]) // width),
            ROW_CYCLES: -(-inputs * stage.kernel[1] // width),
            ROW_STEPS: stage.timesteps if self.inner else 1,
            PLAN: plan,
            COPIES: share.copies,
            PE_COPIES: -(-share.copies // mapping.blocks_per_pe),
            PLANES: planes,
        }
        converter = {
            ROWS: rows * steps * planes,
            TAKES: driven_port,
            GIVES: converted,
            CYCLES: rounds(config, stage, mapping) * arrays.conversion_cycles,
            WIDTH: share.outputs * arrays.conversions,
        }
        wiring.agent(DRIVER, number, driver)
        wiring.agent(CONVERTER, number, converter)
        return slot, converted_port

    def _matrix(self, number: int, share: TileShare, feeds: list[tuple[int, int]]) -> tuple[int, int, int, int]:
        """What writes a matrix of every image into a tile, and what its driver waits for as if it were a feed.

        A row of the arrays is written when what it holds has come: a row of the matrix, or an element of every row.
        """
        config, wiring, stage, mapping = self.config, self.wiring, self.stages[number], self.mappings[number]
        arrays = config.arrays(stage)
        steps, cycles, first = list(_writes(config, stage, mapping))[mapping.shares.index(share)]
        free, free_port = wiring.fifo(1, 1)
        written, written_port = wiring.fifo(1)
        first_feed = len(wiring.feeds)
        for feed, (arrival, credit) in zip(stage.written, feeds, strict=True):
            here = np.arange(first, first + steps)
            begin = np.full(steps, feed.rows) if stage.transposed else here // stage.row_width + 1
            finish = np.zeros(steps, np.int64) if stage.transposed else (here + 1) // stage.row_width
            finish[-1] = feed.rows
            begin[-1] = feed.rows
            wiring.feeds.append((arrival, credit, wiring.table(begin), wiring.table(finish)))
        writer = {
            ROWS: stage.images,
            STEPS: steps,
            GIVES: written,
            TOKEN: free_port,
            FIRST: first_feed,
            COUNT: len(stage.written),
            CYCLES: cycles,
            WIDTH: share.outputs * arrays.cells + share.copies * arrays.references,
        }
        wiring.agent(WRITER, number, writer)
        begin, finish = np.ones(stage.out_height, np.int64), np.zeros(stage.out_height, np.int64)
        finish[-1] = 1
        return written_port, free, wiring.table(begin), wiring.table(finish)

    def _adder(
        self,
        number: int,
        share: TileShare,
        slot: int,
        converted: int,
        parts: list[int],
        way: tuple[tuple[int, int], tuple[int, int]],
    ) -> tuple[int, int]:
        """Adder of a tile and its flow of sums: port of their arrival, FIFO of its credits."""
        config, wiring = self.config, self.wiring
        rows, steps = self._rows(self.stages[number])
        credits = config.neuron.sum_buffer
        room, credit_port = wiring.fifo(credits, credits)
        entry, (arrival,) = wiring.flow(number, way[0], [way[1]], rows * steps, credits)
        depth = math.ceil(math.log2(config.pe.arrays)) + math.ceil(math.log2(config.tile.pes))
        adder = {
            ROWS: rows * steps,
            TAKES: converted,
            GIVES: entry,
            TOKEN: credit_port,
            BACK: slot,
            FIRST: wiring.listing(parts),
            COUNT: len(parts) // 2,
            CYCLES: config.pe.shift_add_cycles + depth,
            FLITS: config.noc.flits(share.outputs * config.neuron.sum_bits),
            WIDTH: share.outputs,
            PLANES: config.arrays(self.stages[number]).planes(self.stages[number].bits),
        }
        wiring.agent(ADDER, number, adder)
        return arrival, room

    def _feeds(self, number: int, where: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        """Movers that bring the layer's input, then what is written, to all its tiles, or to its digital unit: tile by
        tile (port of arrival, FIFO of credits)."""
        config, wiring, stage = self.config, self.wiring, self.stages[number]
        room = buffer_rows(config, stage)[0] if stage.on_arrays else config.digital_rows
        found: list[list[tuple[int, int]]] = [[] for _ in where]
        for index, feed in enumerate((*stage.feeds, *stage.written)):
            held = room if index < len(stage.feeds) else written_rows(config, stage)
            rows = self._maps(stage) * feed.rows
            bits = feed.bits * (stage.timesteps if self.inner else 1)
            source = number if feed.source == DRAM else feed.source
            start = config.noc.place(self.module_nodes[self.module[source]])
            entry, arrivals = wiring.flow(number, start, where, rows, held)
            rooms = [wiring.fifo(held, held) for _ in where]
            size = -(-bits // 8)
            lines = -(-size // config.memory.cache.line_bytes)
            mover = {
                ROWS: rows,
                PERIOD: feed.rows,
                GIVES: entry,
                FLITS: config.noc.flits(bits),
                CREDITS: wiring.listing([port for _, port in rooms]),
                CREDIT_COUNT: len(rooms),
                BYTES: size,
                ROW_LINES: lines,
                TENSOR: number * len(TENSORS) + INPUT,
                TILE_WRITES: -(-bits // config.tile.buffer_width_bits) * len(where) if stage.on_arrays else 0,
            }
            if feed.source == DRAM:
                nothing = wiring.table(np.zeros(feed.rows, np.int64))
                mover |= {NEED: nothing, FETCH_LINES: lines, LINE: self._dram(rows * lines)}
            else:
                done = self._ports(feed.source, number, index)
                need = wiring.table(self._drained(feed.need, self.stages[feed.source].out_height))
                mover |= {NEED: need, FIRST: wiring.listing(done), COUNT: len(done), LINE: self.out_line[feed.source]}
            wiring.agent(MOVER, number, mover, FETCHED_AT_ONCE)
            for tile, arrival, (credit, _) in zip(found, arrivals, rooms, strict=True):
                tile.append((arrival, credit))
        return found

    def _dram(self, lines: int) -> int:
        """First of so many lines of DRAM that nothing else lies in."""
        self.dram_line += lines
        return self.dram_line - lines

    def _ports(self, source: int, reader: int, feed: int, group: int = 0) -> list[int]:
        """Ports at which a reader sees the finished rows of all groups of layer ``source``."""
        place = 0
        for other, index, _ in self._readers(source):
            if (other, index) == (reader, feed):
                return [ports[place + group] for _, ports in self.done[source]]
            place += 1 if index >= 0 else _groups(self.mappings[other])
        raise LookupError(f"layer {reader} does not read layer {source}")

    def _join_ports(self, number: int) -> list[list[int]]:
        """For each group of tiles what its neurons wait for beside their sums: pairs of a port and a table of rows."""
        stage = self.stages[number]
        found: list[list[int]] = [[] for _ in range(_groups(self.mappings[number]))]
        for source, need in stage.joins:
            table = self.wiring.table(self._drained(need, self.stages[source].out_height))
            for group, pairs in enumerate(found):
                for port in self._ports(source, number, -1, group):
                    pairs += [port, table]
        return found

    def _neurons(self, number: int, share: TileShare, arrival: int, room: int, joins: list[int]) -> None:
        """The neurons of a tile in their module."""
        config, stage = self.config, self.stages[number]
        rows, steps = self._rows(stage)
        token, token_port = self.module_tokens[self.module[number]]
        places = places_of(config, stage, share.outputs)
        joined = -(-share.outputs * config.neuron.sum_bits // 8) * len(stage.joins)
        neuron = {
            ROWS: rows,
            STEPS: steps,
            PERIOD: stage.out_height,
            TAKES: arrival,
            GIVES: self.done[number][share.group][0],
            TOKEN: token_port,
            BACK: room,
            FIRST: self.wiring.listing(joins),
            COUNT: len(joins) // 2,
            CYCLES: -(-share.outputs // config.neuron.lanes) * config.neuron.cycles,
            WIDTH: share.outputs,
            MODULE: token,
            LINE: self.free_line,
            LINES: places.lines,
            BYTES: places.size,
            OUT_LINE: self.free_line + places.kept,
            OUT_LINES: places.out_lines,
            OUT_BYTES: places.out_size,
            FIRES: int(stage.fires),
            SCALES: int(not stage.fires and stage.out_bits > 0),
            JOIN_BYTES: joined,
            JOINS: len(stage.joins),
            TENSOR: number * len(TENSORS),
        }
        slots = places.lines + max(places.out_lines, -(-joined // config.memory.cache.line_bytes))
        self.wiring.agent(NEURON, number, neuron, slots)
        self.free_line += places.kept + places.rows

    def _store(self, number: int) -> None:
        """What nobody reads goes to DRAM, row by row."""
        config, wiring, stage = self.config, self.wiring, self.stages[number]
        timesteps = stage.timesteps if self.inner else 1
        bits = stage.outputs * stage.out_width * timesteps * (stage.out_bits or config.neuron.sum_bits)
        size, ports = -(-bits // 8), [ports[0] for _, ports in self.done[number]]
        rows, _ = self._rows(stage)
        lines = -(-size // config.memory.cache.line_bytes)
        mover = {
            ROWS: rows,
            PERIOD: stage.out_height,
            NEED: wiring.table(np.arange(1, stage.out_height + 1)),
            FIRST: wiring.listing(ports),
            COUNT: len(ports),
            STORE_LINES: lines,
            BYTES: size,
            LINE: self._dram(rows * lines),
            TENSOR: number * len(TENSORS) + OUTPUT,
        }
        wiring.agent(MOVER, number, mover, FETCHED_AT_ONCE)


def _groups(mapping: Mapping) -> int:
    """Groups of tiles whose sums are added: each has its own neurons; a digital unit has its rows for itself."""
    return len(mapping.shares) // mapping.parts or 1


DIGITAL_ACTIONS: dict[Kind, int] = {"softmax": SOFTMAX, "layer_norm": NORMALISED, "add": ADDED}
"""What a digital unit counts, one for every value of its output."""
