"""Prosperity: product sparsity, the reuse of partial sums between rows of spikes (Wei et al., HPCA 2025).

The spikes of all timesteps are one binary matrix: row (m, t), column k. Where the spikes of one row are a subset of
another's, the sum of the weights that they select is a part of the other's sum and is not added up again. This is done
within tiles of 256 rows and 16 columns, against 128 columns of dense weights:

    for tile of rows:                            whole positions of an image with all their timesteps
        for tile of 128 output channels:         256 x 128 sums stay in the output buffer
            for tile of 16 k:
                detector, pruner, dispatcher:    a prefix for every row, rows in order      (beside the tile before)
                for row in order:                start from the prefix's partial sum,
                    for spike that is left:      add one row of weights, 128 lanes
            neurons: all timesteps of the tile   (beside the next tile)

Prefixes, what they save and how long the search takes are :mod:`archsim.hardware.compute.prefix_forest`'s.

Agents: the processor, the detector (with pruner and dispatcher), the loaders of the DMA, and the neuron array. Each of
the ``buffers.tiles`` places for a tile has a loader for each input of the read switch, which share the lines of a tile;
they ask for those of their next tile as soon as the place is free, whatever other places wait for.

    loaders -- lines of a tile --> detector -- tile --> processor -- output tile --> neuron array
    loaders, detector <-- credit: a tile is done -- processor <-- credit: an output tile is free -- neuron array

So the lines of as many tiles are on their way as there are places, or registers of the DMA, whichever is fewer.

In memory spikes are unrolled (im2col) and lie tile by tile, one bit each; so do the weights. Sources are in
``hwconfigs/prosperity.yaml``; what is assumed in DEVIATIONS.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.compress import bitmask
from archsim.dataflow.base import MachineConfig, ScheduledLayers, StreamingConfig, shared_components
from archsim.dataflow.layer import Layer
from archsim.dataflow.layer_machine import LayerMachine
from archsim.dataflow.machine import BURST_LINES, Program
from archsim.dataflow.parts import neuron_rows, port_of, take
from archsim.hardware.agent import Agent, Operations, op
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.compute.prefix_forest import (
    CYCLES,
    EVENTS,
    ISSUED,
    LEFT,
    PREFIXED,
    SEARCHED,
    WORK_COLUMNS,
    DetectorConfig,
    DispatcherConfig,
    reuse,
    search_cycles,
    spike_patterns,
    tile_work,
)
from archsim.hardware.diagram import Diagram
from archsim.hardware.fields import AdderPe, Count
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.memory.placement import Placer, Tensor

# --- Configuration ----------------------------------------------------------------------------------------------------


class ProsperityPe(AdderPe):
    """Processing elements: the lanes of the processor, one output channel each."""


class TileConfig(Block):
    """Tiles of the spike matrix, in which partial sums are reused."""

    rows: int = Field(ge=16, le=4096, description="most rows of a tile; a position's timesteps stay together")
    k: int = Field(ge=1, le=64, description="columns of a tile")


class BuffersConfig(Block):
    """On-chip buffers in front of and behind the processor."""

    tiles: int = Field(ge=1, le=256, description="tiles of spikes and of weights held")
    output_tiles: int = Field(ge=1, le=16, description="tiles of sums held, with those whose neurons fire")


class NeuronArrayConfig(LifConfig):
    """Neuron array behind the output buffer."""

    count: Count = Field(description="neurons that are updated at a time")


class ProsperityScheduler(ScheduledLayers):
    """What is run."""

    tiles: Literal["one_image", "across_images"] = Field(
        description="rows of a tile: of one image, or of the next one too, so that images share sums"
    )


class ProsperityConfig(StreamingConfig):
    """A Prosperity machine."""

    accelerator: Literal["prosperity"] = Field(description="which machine this file describes")
    pe: ProsperityPe = Field(description="processing elements")
    tile: TileConfig = Field(description="tiles of spikes")
    detector: DetectorConfig = Field(description="detector and pruner")
    dispatcher: DispatcherConfig = Field(description="dispatcher and processor")
    buffers: BuffersConfig = Field(description="on-chip buffers")
    neuron: NeuronArrayConfig = Field(description="neuron array")
    scheduler: ProsperityScheduler = Field(description="what is run")

    @model_validator(mode="after")
    def _every_table_has_a_tile(self) -> ProsperityConfig:
        if self.buffers.tiles < self.detector.tables:
            raise CrossFieldError({"buffers.tiles": "must be at least detector.tables"})
        if self.tile.rows < self.least_timesteps:
            raise CrossFieldError({"tile.rows": "must hold all timesteps of a position"})
        return self


# --- Operands ---------------------------------------------------------------------------------------------------------


class Operands(NamedTuple):
    """``work`` as of :func:`tile_work`, ``rows`` of every tile of rows and ``channels`` of every tile of columns.

    Tile (row tile, K tile) of spikes is fiber ``row tile * k_tiles + K tile``, that of weights ``column tile * k_tiles
    + K tile``, an output tile ``row tile * column_tiles + column tile``.
    """

    work: NDArray[np.int64]
    rows: NDArray[np.int64]
    channels: NDArray[np.int64]
    spikes: Tensor
    weights: Tensor
    output: Tensor
    taken: Tensor


# --- Agents -----------------------------------------------------------------------------------------------------------

ADDED, WEIGHT_ROWS, SEARCHES, TILE_ROWS, STEPS, SUM_READS, WEIGHT_BYTES, UPDATES = range(8)


def processor(a: Agent, m: Any, x: Operands) -> Operations:
    """Add up one tile after the other; a finished output tile goes to the neurons."""
    place = 0
    for row_tile in range(m.row_tiles):
        for column_tile in range(m.column_tiles):
            yield op(pop=m.free.port)
            for k_tile in range(m.k_tiles):
                left, issued = x.work[row_tile, k_tile, LEFT], x.work[row_tile, k_tile, ISSUED]
                a.count[ADDED] += left * x.channels[column_tile]
                a.count[WEIGHT_ROWS] += left
                a.count[STEPS] += issued
                a.count[SUM_READS] += issued + x.work[row_tile, k_tile, PREFIXED]
                yield op(pop=m.detected.port, compute=x.work[row_tile, k_tile, CYCLES], push=m.done.fifo)
                yield op(push=m.room.fifo + place)
                place = following(a, m, place)
            yield op(push=m.outputs.fifo)


def following(a: Agent, m: Any, place: int) -> int:
    """The place of the next tile."""
    return int(place + 1 if place + 1 < m.config.buffers.tiles else 0)


def detector(a: Agent, m: Any, x: Operands) -> Operations:
    """Find the prefixes of a tile as soon as it is loaded and a table is free."""
    # There are fewer tables than tiles in the buffers: the first search takes the credits that it never gives back.
    credits, place = 1 + m.config.buffers.tiles - m.config.detector.tables, 0
    for row_tile in range(m.row_tiles):
        for _column_tile in range(m.column_tiles):
            for k_tile in range(m.k_tiles):
                yield op(pop=m.loaded.port + place, pops=m.lanes)
                place = following(a, m, place)
                rows, searched = x.rows[row_tile], x.work[row_tile, k_tile, SEARCHED]
                a.count[SEARCHES] += searched
                a.count[TILE_ROWS] += rows
                yield op(
                    pop=m.done.port, pops=credits, compute=search_cycles(m.config.detector, rows, searched),
                    push=m.detected.fifo,
                )  # fmt: skip
                credits = 1


def loader(a: Agent, m: Any, x: Operands) -> Operations:
    """Read every ``lanes``-th line of the tiles of spikes and weights that come to a place of the buffers."""
    place, lane = a.me // m.lanes, a.me % m.lanes
    tile, tiles = place, m.row_tiles * m.column_tiles * m.k_tiles
    if tile < tiles:
        # At first all places are free; their lines are asked for in the order of the tiles.
        yield op(pause=place * m.tile_cycles)
    while tile < tiles:
        row_tile, weights = tile // (m.column_tiles * m.k_tiles), tile % (m.column_tiles * m.k_tiles)
        behind = load(a, m, x.spikes, row_tile * m.k_tiles + tile % m.k_tiles, lane, row_tile)
        load(a, m, x.weights, weights, behind, row_tile)
        a.count[WEIGHT_BYTES] += x.weights.size[weights] if lane == 0 else 0
        yield op(pop=port_of(a, m.room, m.lanes, place, lane), push=m.loaded.fifo + place)
        tile += m.config.buffers.tiles


def load(a: Agent, m: Any, tensor: Tensor, tile: int, lane: int, epoch: int) -> int:
    """Read the lane's share of a tile's lines; returns the lane that the line behind the tile falls to."""
    lines = (tensor.size[tile] + m.memory.line_bytes - 1) >> m.memory.line_shift
    for line in range(lane, lines, m.lanes):
        first = line << m.memory.line_shift
        a.read(m.memory, tensor, tile, first, min(tensor.size[tile], first + m.memory.line_bytes), epoch)
    return int((lane - lines) % m.lanes)


def neuron_array(a: Agent, m: Any, x: Operands) -> Operations:
    """Fire the neurons of an output tile, all timesteps, then write its spikes to DRAM."""
    for row_tile in range(m.row_tiles):
        for column_tile in range(m.column_tiles):
            outputs = x.rows[row_tile] // m.layer.timesteps * x.channels[column_tile]
            rounds = -(-outputs // m.config.neuron.count) * m.layer.updates
            pause, cycles = m.config.pe.pipeline_cycles, rounds * m.config.neuron.cycles
            a.count[UPDATES] += outputs * m.layer.updates
            tile = row_tile * m.column_tiles + column_tile
            yield from take(a, m, x.taken, tile)
            yield from neuron_rows(a, m, x.output, tile, m.outputs.port, 1, pause, cycles, m.free.fifo)


# --- The machine ------------------------------------------------------------------------------------------------------


class Prosperity(LayerMachine):
    """Prosperity (HPCA 2025): product sparsity in tiles of 256 x 16 spikes, 128 lanes, dense weights."""

    name: ClassVar[str] = "prosperity"
    Config: ClassVar[type[MachineConfig]] = ProsperityConfig
    tensors: ClassVar[tuple[str, ...]] = ("input", "weight", "output")
    agents = processor, detector, loader, neuron_array
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {
        ("pe", "add"): ADDED, "weight_rows": WEIGHT_ROWS, ("detector", "search"): SEARCHES,
        ("spike_buffer", "write"): TILE_ROWS, ("scheduler", "step"): STEPS, "sum_reads": SUM_READS,
        "weight_bytes": WEIGHT_BYTES, ("lif", "update"): UPDATES,
    }  # fmt: skip
    config: ProsperityConfig

    def inventory(self) -> Sequence[Component]:
        """Lanes, detector, buffers of up to 512 bits' width side by side, neurons, and LoAS's memories and switches."""
        config, tile, buffers = self.config, self.config.tile, self.config.buffers
        lanes = config.memory.read_switch.inputs
        spike_bytes, weight_bytes = -(-tile.rows * tile.k // 8), -(-self._weight_width // 8) * tile.k
        sum_bytes = -(-self._sum_width // 8) * tile.rows
        weight_banks, sum_banks = self._banks
        table_bits = (tile.rows - 1).bit_length() * 2 + tile.k

        block: dict[str, int | float | str] = {
            "block": "prosperity_pe",
            "accumulator_bits": config.pe.accumulator_bits,
        }
        return (
            Component("pe", "logic", config.pe.count, block),
            Component(
                "detector", "logic", config.detector.tables,
                {"block": "detector", "tile_rows": tile.rows, "tile_k": tile.k, "table_bits": table_bits},
            ),
            ram("spike_buffer", 1, spike_bytes * buffers.tiles, tile.k),
            ram("weight_buffer", weight_banks, weight_bytes * buffers.tiles // weight_banks, self._weight_width),
            ram("sum_buffer", sum_banks, sum_bytes * (buffers.output_tiles + 1) // sum_banks, self._sum_width),
            Component("lif", "logic", config.neuron.count, {"block": "lif"}),
            *shared_components(config.memory, lanes, lanes),
        )  # fmt: skip

    @property
    def _weight_width(self) -> int:
        return self.config.pe.count * self.config.pe.weight_bits

    @property
    def _sum_width(self) -> int:
        return self.config.pe.count * self.config.pe.accumulator_bits

    @property
    def _banks(self) -> tuple[int, int]:
        return -(-self._weight_width // 512), -(-self._sum_width // 512)

    def _positions(self, layer: Layer) -> int:
        """Most output positions of a tile of rows."""
        return self.config.tile.rows // layer.timesteps

    def _bounds(self, layer: Layer) -> NDArray[np.int64]:
        """Output positions between which tiles of rows lie, int64 [tiles + 1]."""
        image = layer.m
        if self.config.scheduler.tiles == "one_image" and layer.op != "matmul":
            image = 1 if layer.feature_map is None else layer.m // len(layer.feature_map.words)
        starts = np.arange(0, layer.m, image)[:, None] + np.arange(0, image, self._positions(layer))
        return np.append(starts.ravel(), layer.m)

    def _patterns(self, layer: Layer, first: int, end: int) -> NDArray[np.uint64]:
        tile_k = self.config.tile.k
        patterns = np.zeros((-(-layer.k // tile_k), (end - first) * layer.timesteps), np.uint64)
        spike_patterns(layer.inputs, first, layer.timesteps, tile_k, patterns)
        return patterns

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Partial sums reused as the forest says, in whole tiles; counts spikes, those left, and matches."""
        bounds = self._bounds(layer)
        tiles = slice(np.searchsorted(bounds, first, "right") - 1, np.searchsorted(bounds, first + len(sums)) + 1)
        begin, end = int(bounds[tiles][0]), int(bounds[tiles][-1])
        weights = np.ascontiguousarray(bitmask.decode(layer.weights, layer.k).T)
        events = np.zeros(len(EVENTS), np.int64)
        reuse(
            self._patterns(layer, begin, end), weights, layer.timesteps, (bounds[tiles] - begin) * layer.timesteps,
            self.config.tile.k, self.config.detector.least, self.sum_bits, first - begin, sums, events,
        )  # fmt: skip
        return dict(zip(EVENTS, events.tolist(), strict=True))

    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Operands]:
        """Find all prefixes, and place the tiles of spikes, weights and output in memory one after the other."""
        config, bounds, tile_k = self.config, self._bounds(layer), self.config.tile.k
        rows = np.diff(bounds) * layer.timesteps
        channels = np.minimum(config.pe.count, layer.n - np.arange(0, layer.n, config.pe.count))
        depths = np.minimum(tile_k, layer.k - np.arange(0, layer.k, tile_k))
        work = np.zeros((len(rows), len(depths), WORK_COLUMNS), np.int64)
        dispatcher = config.dispatcher
        tile_work(
            self._patterns(layer, 0, layer.m), bounds * layer.timesteps, config.detector.least,
            dispatcher.rows == "all", dispatcher.cycles_per_row, dispatcher.cycles_per_spike, work,
        )  # fmt: skip
        stored = -(-np.add.reduceat(output_bytes, bounds[:-1])[:, None] * channels // layer.n)
        taken = rows[:, None] // layer.timesteps * channels * layer.taken_bytes
        operands = Operands(
            work, rows, channels,
            spikes=memory.place(-(-rows[:, None] * depths // 8)),
            weights=memory.place(-(-channels * config.pe.weight_bits // 8)[:, None] * depths),
            output=memory.place(stored), taken=memory.place_again(taken),
        )  # fmt: skip
        lanes, held, outputs = config.memory.read_switch.inputs, config.buffers.tiles, config.buffers.output_tiles
        line_bytes, loaded = memory.line_bytes, (operands.spikes, operands.weights)
        share = -(-sum(-(-int(tensor.size.max()) // line_bytes) for tensor in loaded) // lanes)
        diagram.agent(processor)
        diagram.agent(detector)
        diagram.agent(loader, held * lanes, requests=share, lanes=list(range(lanes)) * held)
        diagram.agent(neuron_array, requests=config.memory.lines(BURST_LINES).burst, lanes=[0])
        return {
            "detected": diagram.fifo(config.detector.tables),
            "outputs": diagram.fifo(outputs),
            "free": diagram.fifo(outputs, full=True),
            "done": diagram.fifo(held, full=True),
            "room": diagram.fifo(1, full=True, readers=lanes, count=held),
            "loaded": diagram.fifo(lanes, count=held),
            "lanes": lanes,
            # Cycles in which the lanes ask for a tile's lines.
            "tile_cycles": share,
            "row_tiles": len(rows),
            "column_tiles": len(channels),
            "k_tiles": len(depths),
        }, operands

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """What is searched is pruned, what is loaded is read; sums are read and written by rows, and a read-out's
        neurons do not fire."""
        weight_banks, sum_banks = self._banks
        found = {
            ("detector", "prune"): done["detector", "search"],
            ("spike_buffer", "read"): done["spike_buffer", "write"],
            ("weight_buffer", "write"): -(-done["weight_bytes"] // 64),
            ("weight_buffer", "read"): done["weight_rows"] * weight_banks,
            ("sum_buffer", "read"): done["sum_reads"] * sum_banks,
            ("sum_buffer", "write"): 2 * done["scheduler", "step"] * sum_banks,
        }
        return {**found, ("lif", "update"): 0} if layer.rests else found

    @property
    def processing_elements(self) -> int:
        """Lanes, an output channel each."""
        return self.config.pe.count

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Additions of the weights, zero or not, of the spikes that no prefix has."""
        return int(counts[ADDED])

    def working_cycles(
        self, layer: Layer, program: Program, counts: NDArray[np.int64], times: NDArray[np.int64]
    ) -> int:
        """A lane works in the cycles in which it adds: not where the tile has no channel for it, not where a sum is
        reused as it is."""
        return int(counts[ADDED])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """All tiles added up one after the other."""
        return int(program.operands.work[:, :, CYCLES].sum()) * int(program.spec.column_tiles)

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """All spikes, unrolled, and all weights."""
        return int(program.operands.spikes.size.sum() + program.operands.weights.size.sum())
