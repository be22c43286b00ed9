"""Prosperity: product sparsity, the reuse of partial sums between rows of spikes (Wei et al., HPCA 2025).

The spikes of all timesteps are one binary matrix: row (m, t), column k. Where the spikes of one row are a subset of
another's, the sum of the weights that they select is a part of the other's sum and is not added up again. This is done
within tiles of 256 rows and 16 columns, against 128 columns of dense weights:

    for tile of rows:                            whole positions with all their timesteps
        for tile of 128 output channels:         256 x 128 sums stay in the output buffer
            for tile of 16 k:
                detector, pruner, dispatcher:    a prefix for every row, rows in order      (beside the tile before)
                for row in order:                start from the prefix's partial sum,
                    for spike that is left:      add one row of weights, 128 lanes, one a cycle
            neurons: all timesteps of the tile   (beside the next tile)

**Prefix** of row i: among the rows j of the tile with at least one spike, all of whose spikes row i has too, and, if
their spikes are equal (*exact match*), j < i: the one with most spikes, of several the last. What is left of row i are
the spikes that its prefix lacks. Prefixes make a forest over the rows. Issued by number of spikes, then by row (a
stable sort), every row comes behind its prefix. Searching takes a cycle a row (a TCAM finds all subsets at once),
through a pipeline of five stages. A tile of r rows is known after

    r + detector.pipeline_cycles                                                     search: every_row
    rows with several spikes + ceil(r / popcounts) + detector.pipeline_cycles        search: several_spikes

(where rows of one spike have no prefix: all they could save is an addition in the cycle that they take anyway), and is
then added up in

    sum over rows with spikes of max(1, spikes left):

an exact match still takes the cycle in which its row is written. An empty row takes none.

Hand-traced example (six rows of four columns): 1010, 1001, 1011, 0010, 1101, 1101 have 14
spikes. Row 3 (0010) has no prefix: 1 is left. Row 0 begins with row 3: 1 left. Row 1: none, 2 left. Row 2 could begin
with rows 0, 1 or 3; rows 0 and 1 have most spikes, and row 1 is the last of them: 1 left. Row 4 begins with row 1: 1
left. Row 5 equals row 4: 0 left, one cycle. So 6 additions in 7 cycles.

Agents: the processor, the detector (with pruner and dispatcher), one loader for each input of the read switch, which
share the lines of a tile and fill the spike and weight buffers up to ``buffers.tiles`` ahead, and the neuron array.

    loaders -- lines of a tile --> detector -- tile --> processor -- output tile --> neuron array
    loaders, detector <-- credit: a tile is done -- processor <-- credit: an output tile is free -- neuron array

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
from archsim.compress.bitmask import lowest_one, popcount
from archsim.dataflow.base import (
    Accelerator,
    Layer,
    MachineConfig,
    Program,
    ScheduledLayers,
    Unit,
    memory_components,
)
from archsim.engine.compiled import run
from archsim.hardware import operation as op
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.memory import placement
from archsim.hardware.operation import (
    CACHED_READ,
    COMPUTE,
    END,
    OWN_PATH,
    PAUSE,
    POP,
    POP_COUNT,
    PUSH,
    PUSH_COUNT,
    STREAM_WRITE,
    add_range,
)
from archsim.jit import inlined, kernel, njit

# --- Configuration ----------------------------------------------------------------------------------------------------


class ProsperityPe(Block):
    """Processing elements: the lanes of the processor, one output channel each."""

    count: int = Field(ge=1, le=1024, description="lanes; output channels of a tile")
    weight_bits: int = Field(ge=2, le=16, description="bits of a weight")
    accumulator_bits: int = Field(ge=2, le=63, description="bits of a partial sum, sign included")
    pipeline_cycles: int = Field(ge=0, le=64, description="cycles from the last addition until its sum is written")


class TileConfig(Block):
    """Tiles of the spike matrix, in which partial sums are reused."""

    rows: int = Field(ge=16, le=4096, description="most rows of a tile; a position's timesteps stay together")
    k: int = Field(ge=1, le=64, description="columns of a tile")


class DetectorConfig(Block):
    """Detector, pruner and dispatcher: a row a cycle."""

    search: Literal["every_row", "several_spikes"] = Field(
        description="rows that are searched: all, or those with two spikes or more"
    )
    popcounts: int = Field(ge=1, le=4096, description="rows whose spikes are counted in a cycle, ahead of a choice")
    pipeline_cycles: int = Field(ge=0, le=64, description="cycles of a tile beside one a row")
    tables: int = Field(ge=1, le=16, description="tiles whose prefixes are held, with those being added up")


class BuffersConfig(Block):
    """On-chip buffers in front of and behind the processor."""

    tiles: int = Field(ge=1, le=256, description="tiles of spikes and of weights held")
    output_tiles: int = Field(ge=1, le=16, description="tiles of sums held, with those whose neurons fire")


class NeuronArrayConfig(LifConfig):
    """Neuron array behind the output buffer."""

    count: int = Field(ge=1, le=1024, description="neurons that are updated at a time")


class ProsperityScheduler(ScheduledLayers):
    """What is run."""


class ProsperityConfig(MachineConfig):
    """A Prosperity machine."""

    accelerator: Literal["prosperity"] = Field(description="which machine this file describes")
    pe: ProsperityPe = Field(description="processing elements")
    tile: TileConfig = Field(description="tiles of spikes")
    detector: DetectorConfig = Field(description="detector, pruner and dispatcher")
    buffers: BuffersConfig = Field(description="on-chip buffers")
    neuron: NeuronArrayConfig = Field(description="neuron array")
    scheduler: ProsperityScheduler = Field(description="what is run")

    @model_validator(mode="after")
    def _every_table_has_a_tile(self) -> ProsperityConfig:
        if self.buffers.tiles < self.detector.tables:
            raise CrossFieldError({"buffers.tiles": "must be at least detector.tables"})
        if self.tile.rows < self.timesteps:
            raise CrossFieldError({"tile.rows": "must hold all timesteps of a position"})
        return self


# --- Function ---------------------------------------------------------------------------------------------------------


@njit
def spike_patterns(inputs: Any, first: int, timesteps: int, tile_k: int, patterns: Any) -> None:
    """Spikes of rows ``first`` on, in tiles of K: ``patterns`` uint64 [tiles of K, rows * T], row (m, t) at m * T + t,
    zeros at first; bit i of a pattern is the tile's column i."""
    for row in range(patterns.shape[1] // timesteps):
        m = first + row
        value = inputs.start[m, 0]
        for word in range(inputs.mask.shape[1]):
            present = inputs.mask[m, word]
            while present:
                k = 64 * word + lowest_one(present)
                present &= present - np.uint64(1)
                packed = np.int64(inputs.words[value])
                value += 1
                for t in range(timesteps):
                    if (packed >> t) & 1:
                        patterns[k // tile_k, row * timesteps + t] |= np.uint64(1) << np.uint64(k % tile_k)


@njit
def find_prefixes(rows: Any, ones: Any, least: int, prefix: Any) -> None:
    """The prefix int64 of every row of a tile, -1 for none: ``rows`` uint64, ``ones`` their spikes; rows of fewer than
    ``least`` spikes are not searched."""
    for i in range(len(rows)):
        prefix[i] = -1
        if ones[i] < least:
            continue
        lacking = ~rows[i]
        most = 1
        for j in range(len(rows)):
            if rows[j] & lacking == 0 and ones[j] >= most and (ones[j] < ones[i] or j < i):
                prefix[i] = j
                most = ones[j]


# Columns of a tile's work.
SPIKES, LEFT, CYCLES, OCCUPIED, PREFIXED, SEARCHED = range(6)
WORK_COLUMNS = 6


@njit
def tile_work(patterns: Any, tile_rows: int, least: int, work: Any) -> None:
    """What every tile takes: ``work`` int64 [tiles of rows, tiles of K, WORK_COLUMNS], zeros at first.

    Its spikes, the spikes left to add, the cycles for that, and its rows that are not empty, have a prefix, or are
    searched.
    """
    prefix = np.zeros(tile_rows, np.int64)
    ones = np.zeros(tile_rows, np.int64)
    for tile in range(work.shape[0]):
        for column in range(work.shape[1]):
            rows = patterns[column, tile * tile_rows : (tile + 1) * tile_rows]
            for i in range(len(rows)):
                ones[i] = popcount(rows[i])
            find_prefixes(rows, ones, least, prefix)
            for i in range(len(rows)):
                left = ones[i] - (ones[prefix[i]] if prefix[i] >= 0 else 0)
                work[tile, column, SPIKES] += ones[i]
                work[tile, column, LEFT] += left
                work[tile, column, CYCLES] += max(1, left) if ones[i] > 0 else 0
                work[tile, column, OCCUPIED] += int(ones[i] > 0)
                work[tile, column, PREFIXED] += int(prefix[i] >= 0)
                work[tile, column, SEARCHED] += int(ones[i] >= least)


# What add_up counts.
BIT_SPARSE, PRODUCT_SPARSE, EXACT_MATCHES, PARTIAL_MATCHES, OVERFLOWS = range(5)
EVENTS = ("spikes", "spikes_left", "exact_match_rows", "partial_match_rows", "accumulator_overflows")


@njit
def reuse(patterns: Any, weights: Any, timesteps: int, tile_rows: int, tile_k: int, least: int, bits: int, skip: int,
          sums: Any, events: Any) -> None:  # fmt: skip
    """Sums of all rows of ``patterns``, tile by tile; the first ``skip`` positions are computed but not kept.

    ``weights`` int16 [K, N]; ``sums`` int64 [positions kept, N, T], zeros at first; ``events`` int64. In every tile the
    rows are taken by number of spikes; the partial sum of a row begins as that of its prefix, the weights of what is
    left are added, and the result goes on top of the row's sum of earlier tiles of K.
    """
    kept, columns, _ = sums.shape
    limit = 1 << (bits - 1)
    partial = np.zeros((tile_rows, columns), np.int64)
    prefix = np.zeros(tile_rows, np.int64)
    ones = np.zeros(tile_rows, np.int64)
    for base in range(0, patterns.shape[1], tile_rows):
        for column in range(patterns.shape[0]):
            rows = patterns[column, base : base + tile_rows]
            for i in range(len(rows)):
                ones[i] = popcount(rows[i])
            find_prefixes(rows, ones, least, prefix)
            order = np.argsort(ones[: len(rows)], kind="mergesort")
            for i in order:
                if ones[i] == 0:
                    continue
                left = rows[i]
                if prefix[i] >= 0:
                    left ^= rows[prefix[i]]
                    partial[i] = partial[prefix[i]]
                else:
                    partial[i] = 0
                position = (base + i) // timesteps - skip
                keep = 0 <= position < kept
                if keep:
                    events[BIT_SPARSE] += ones[i]
                    events[PRODUCT_SPARSE] += popcount(left)
                    events[EXACT_MATCHES] += int(left == 0)
                    events[PARTIAL_MATCHES] += int(prefix[i] >= 0 and left != 0)
                while left:
                    k = column * tile_k + lowest_one(left)
                    left &= left - np.uint64(1)
                    for n in range(columns):
                        partial[i, n] += weights[k, n]
                if keep:
                    t = (base + i) % timesteps
                    for n in range(columns):
                        sums[position, n, t] += partial[i, n]
                        events[OVERFLOWS] += int(not -limit <= sums[position, n, t] < limit)


# --- What the kernels see ---------------------------------------------------------------------------------------------

INPUT, WEIGHT, OUTPUT = range(3)
TENSORS = ("input", "weight", "output")

# Actions that the agents count.
ADDED, WEIGHT_ROWS, SEARCHES, TILE_ROWS, ISSUED, SUM_READS, WEIGHT_BYTES, UPDATES = range(8)
ACTIONS = 8


class Spec(NamedTuple):
    """The machine and the layer's sizes as integers; a tile of rows has ``positions`` positions."""

    lanes: int
    pes: int
    m: int
    n: int
    k: int
    timesteps: int
    positions: int
    tile_k: int
    row_tiles: int
    column_tiles: int
    k_tiles: int
    every_row: int
    popcounts: int
    detect: int
    surplus: int
    settle: int
    neurons: int
    fire: int
    line_shift: int
    beat_shift: int
    fetch_lines: int


class Operands(NamedTuple):
    """``work`` as of :func:`tile_work`; and where tiles are in memory.

    Tile (row tile, K tile) of spikes is fiber ``row tile * k_tiles + K tile``, that of weights ``column tile * k_tiles
    + K tile``, an output tile ``row tile * column_tiles + column tile``.
    """

    work: NDArray[np.int64]
    spike_line: NDArray[np.int64]
    spike_bytes: NDArray[np.int64]
    weight_line: NDArray[np.int64]
    weight_bytes: NDArray[np.int64]
    output_line: NDArray[np.int64]
    output_bytes: NDArray[np.int64]


# FIFOs and their ports: tiles with prefixes, output tiles, free output tiles; then tiles that are done, with a port for
# the detector and for each loader; then one FIFO a loader.
DETECTED, OUTPUTS, FREE, DONE_TILES, LOADED = range(5)
DETECTOR_CREDIT = 3

# --- Agents: the processor, the detector, the loaders, the neuron array -----------------------------------------------

# An agent's state: its place in the loop nest, byte of an output tile, what it does next.
ROW_TILE, COLUMN_TILE, K_TILE, BYTE, PHASE = range(5)
BEGIN, ADD, FINISH = range(3)
FIRE, WRITE = range(2)


@inlined
def next_output_tile(spec: Spec, state: Any, agent: int) -> None:
    """Go to the next output tile."""
    state[agent, PHASE] = 0
    state[agent, K_TILE] = 0
    state[agent, COLUMN_TILE] += 1
    if state[agent, COLUMN_TILE] == spec.column_tiles:
        state[agent, COLUMN_TILE] = 0
        state[agent, ROW_TILE] += 1


@inlined
def next_tile(spec: Spec, state: Any, agent: int) -> None:
    """Go to the next tile of K, or to the first one of the next output tile."""
    state[agent, K_TILE] += 1
    if state[agent, K_TILE] == spec.k_tiles:
        next_output_tile(spec, state, agent)


@inlined
def positions_of(spec: Spec, row_tile: int) -> int:
    """Output positions of a tile of rows."""
    return min(spec.positions, spec.m - row_tile * spec.positions)


@inlined
def width(spec: Spec, column_tile: int) -> int:
    """Output channels of a tile."""
    return min(spec.pes, spec.n - column_tile * spec.pes)


@inlined
def processor(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Add up one tile after the other; a finished output tile goes to the neurons."""
    row_tile, column_tile, k_tile = state[agent, ROW_TILE], state[agent, COLUMN_TILE], state[agent, K_TILE]
    if row_tile == spec.row_tiles:
        o[agent, END] = 1
        return
    if state[agent, PHASE] == BEGIN:
        o[agent, POP] = FREE
        o[agent, POP_COUNT] = 1
        state[agent, PHASE] = ADD
        return
    if state[agent, PHASE] == FINISH:
        o[agent, PUSH] = OUTPUTS
        o[agent, PUSH_COUNT] = 1
        next_output_tile(spec, state, agent)
        return
    columns = width(spec, column_tile)
    counts[agent, ADDED] += x.work[row_tile, k_tile, LEFT] * columns
    counts[agent, WEIGHT_ROWS] += x.work[row_tile, k_tile, LEFT]
    counts[agent, ISSUED] += x.work[row_tile, k_tile, OCCUPIED]
    counts[agent, SUM_READS] += x.work[row_tile, k_tile, OCCUPIED] + x.work[row_tile, k_tile, PREFIXED]
    o[agent, POP] = DETECTED
    o[agent, POP_COUNT] = 1
    o[agent, COMPUTE] = x.work[row_tile, k_tile, CYCLES]
    o[agent, PUSH] = DONE_TILES
    o[agent, PUSH_COUNT] = 1
    if k_tile + 1 == spec.k_tiles:
        state[agent, PHASE] = FINISH
    else:
        next_tile(spec, state, agent)


@inlined
def detector(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Find the prefixes of a tile as soon as it is loaded and a table is free; PHASE counts the loaders heard."""
    row_tile, loader = state[agent, ROW_TILE], state[agent, PHASE]
    if row_tile == spec.row_tiles:
        o[agent, END] = 1
        return
    o[agent, POP_COUNT] = 1
    if loader < spec.lanes:
        o[agent, POP] = DETECTOR_CREDIT + 1 + spec.lanes + loader
        state[agent, PHASE] = loader + 1
        return
    o[agent, POP] = DETECTOR_CREDIT
    if row_tile == 0 and state[agent, COLUMN_TILE] == 0 and state[agent, K_TILE] == 0:
        o[agent, POP_COUNT] += spec.surplus
    rows = positions_of(spec, row_tile) * spec.timesteps
    searches = rows
    o[agent, COMPUTE] = rows + spec.detect
    if spec.every_row == 0:
        searches = x.work[row_tile, state[agent, K_TILE], SEARCHED]
        o[agent, COMPUTE] = searches + (rows + spec.popcounts - 1) // spec.popcounts + spec.detect
    counts[agent, SEARCHES] += searches
    counts[agent, TILE_ROWS] += rows
    o[agent, PUSH] = DETECTED
    o[agent, PUSH_COUNT] = 1
    state[agent, PHASE] = 0
    next_tile(spec, state, agent)


@inlined
def load(spec: Spec, o: Any, agent: int, lane: int, line: int, size: int, tensor: int, epoch: int) -> int:
    """Read the lane's share of a tile's lines; returns the lane that the line behind the tile falls to."""
    lines = (size + (1 << spec.line_shift) - 1) >> spec.line_shift
    for index in range(lane, lines, spec.lanes):
        first = index << spec.line_shift
        end = min(size, first + (1 << spec.line_shift))
        add_range(o, agent, line, 1, first, end, spec.line_shift, spec.beat_shift, CACHED_READ, tensor, epoch)
    return (lane - lines) % spec.lanes


@inlined
def loader(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Read every ``lanes``-th line of the tiles of spikes and weights into the buffers."""
    row_tile, column_tile, k_tile = state[agent, ROW_TILE], state[agent, COLUMN_TILE], state[agent, K_TILE]
    if row_tile == spec.row_tiles:
        o[agent, END] = 1
        return
    lane = agent - 2
    spikes = row_tile * spec.k_tiles + k_tile
    weights = column_tile * spec.k_tiles + k_tile
    o[agent, POP] = DETECTOR_CREDIT + 1 + lane
    o[agent, POP_COUNT] = 1
    behind = load(spec, o, agent, lane, x.spike_line[spikes], x.spike_bytes[spikes], INPUT, row_tile)
    load(spec, o, agent, behind, x.weight_line[weights], x.weight_bytes[weights], WEIGHT, row_tile)
    if lane == 0:
        counts[agent, WEIGHT_BYTES] += x.weight_bytes[weights]
    o[agent, PUSH] = LOADED + lane
    o[agent, PUSH_COUNT] = 1
    next_tile(spec, state, agent)


@inlined
def neuron_array(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Fire the neurons of an output tile, all timesteps, then write its spikes to DRAM."""
    row_tile, column_tile = state[agent, ROW_TILE], state[agent, COLUMN_TILE]
    if row_tile == spec.row_tiles:
        o[agent, END] = 1
        return
    if state[agent, PHASE] == FIRE:
        neurons = positions_of(spec, row_tile) * width(spec, column_tile)
        counts[agent, UPDATES] += neurons * spec.timesteps
        o[agent, POP] = OUTPUTS
        o[agent, POP_COUNT] = 1
        o[agent, PAUSE] = spec.settle
        o[agent, COMPUTE] = -(-neurons // spec.neurons) * spec.timesteps * spec.fire
        state[agent, PHASE] = WRITE
        state[agent, BYTE] = 0
        return
    tile, first = row_tile * spec.column_tiles + column_tile, state[agent, BYTE]
    end = min(x.output_bytes[tile], first + (spec.fetch_lines << spec.line_shift))
    add_range(o, agent, x.output_line[tile], 1, first, end, spec.line_shift, spec.beat_shift, STREAM_WRITE, OUTPUT, 0)
    state[agent, BYTE] = end
    if end == x.output_bytes[tile]:
        o[agent, PUSH] = FREE
        o[agent, PUSH_COUNT] = 1
        next_output_tile(spec, state, agent)


@inlined
def step(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The next operation of any agent; see :mod:`archsim.hardware.operation`."""
    if agent == 0:
        processor(agent, now, spec, state, x, o, counts)
    elif agent == 1:
        detector(agent, now, spec, state, x, o, counts)
    elif agent < 2 + spec.lanes:
        loader(agent, now, spec, state, x, o, counts)
    else:
        neuron_array(agent, now, spec, state, x, o, counts)


@kernel
def loop(spec: Spec, x: Operands, machine: Any) -> tuple[int, int, int]:
    """The agents in the compiled engine."""
    return run(step, spec, x, machine)


# --- The machine ------------------------------------------------------------------------------------------------------


class Prosperity(Accelerator):
    """Prosperity (HPCA 2025): product sparsity in tiles of 256 x 16 spikes, 128 lanes, dense weights."""

    name: ClassVar[str] = "prosperity"
    Config: ClassVar[type[MachineConfig]] = ProsperityConfig
    tensors: ClassVar[tuple[str, ...]] = TENSORS
    actions: ClassVar[int] = ACTIONS
    step: ClassVar[Any] = step
    loop: ClassVar[Any] = loop
    config: ProsperityConfig

    @property
    def sum_bits(self) -> int:
        """The output buffer holds the full sum."""
        return self.config.pe.accumulator_bits

    def inventory(self) -> Sequence[Component]:
        """Lanes, detector, buffers of up to 512 bits' width side by side, neurons, and LoAS's memories and switches."""
        config, tile, buffers = self.config, self.config.tile, self.config.buffers
        lanes, banks = config.memory.read_switch.inputs, config.memory.cache.banks
        spike_bytes, weight_bytes = -(-tile.rows * tile.k // 8), -(-self._weight_width // 8) * tile.k
        sum_bytes = -(-self._sum_width // 8) * tile.rows
        weight_banks, sum_banks = self._banks
        table_bits = (tile.rows - 1).bit_length() * 2 + tile.k

        element: dict[str, int | float | str] = {
            "block": "prosperity_pe",
            "accumulator_bits": config.pe.accumulator_bits,
        }
        return (
            Component("pe", "logic", config.pe.count, element),
            Component(
                "detector", "logic", config.detector.tables,
                {"block": "detector", "tile_rows": tile.rows, "tile_k": tile.k, "table_bits": table_bits},
            ),
            ram("spike_buffer", 1, spike_bytes * buffers.tiles, tile.k),
            ram("weight_buffer", weight_banks, weight_bytes * buffers.tiles // weight_banks, self._weight_width),
            ram("sum_buffer", sum_banks, sum_bytes * (buffers.output_tiles + 1) // sum_banks, self._sum_width),
            Component("lif", "logic", config.neuron.count, {"block": "lif"}),
            Component("scheduler", "logic", 1, {"block": "scheduler"}),
            Component("others", "logic", 1, {"block": "others", "pes": lanes, "banks": banks}),
            *memory_components(config.memory, lanes),
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
        """Output positions of a tile of rows."""
        return self.config.tile.rows // layer.timesteps

    @property
    def _least(self) -> int:
        """Fewest spikes of a row that is searched."""
        return 1 if self.config.detector.search == "every_row" else 2

    def _patterns(self, layer: Layer, first: int, end: int) -> NDArray[np.uint64]:
        tile_k = self.config.tile.k
        patterns = np.zeros((-(-layer.k // tile_k), (end - first) * layer.timesteps), np.uint64)
        spike_patterns(layer.inputs, first, layer.timesteps, tile_k, patterns)
        return patterns

    def add_up(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Partial sums reused as the forest says, in whole tiles; counts spikes, those left, and matches."""
        positions = self._positions(layer)
        begin = first // positions * positions
        end = min(layer.m, -(-(first + len(sums)) // positions) * positions)
        weights = np.ascontiguousarray(bitmask.decode(layer.weights, layer.k).T)
        events = np.zeros(len(EVENTS), np.int64)
        reuse(
            self._patterns(layer, begin, end), weights, layer.timesteps, positions * layer.timesteps,
            self.config.tile.k, self._least, self.sum_bits, first - begin, sums, events,
        )  # fmt: skip
        return dict(zip(EVENTS, events.tolist(), strict=True))

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """One bit for each neuron and timestep, as the next layer reads it."""
        return np.full(layer.m, -(-layer.n * layer.timesteps // 8))

    def program(self, layer: Layer, output_bytes: NDArray[np.int64]) -> Program:
        """Find all prefixes, place tiles in memory one after the other and resolve the machine to integers."""
        config, cache = self.config, self.config.memory.cache
        positions, pes, tile_k = self._positions(layer), config.pe.count, config.tile.k
        starts = np.arange(0, layer.m, positions)
        rows = np.minimum(positions, layer.m - starts) * layer.timesteps
        columns = np.minimum(pes, layer.n - np.arange(0, layer.n, pes))
        depths = np.minimum(tile_k, layer.k - np.arange(0, layer.k, tile_k))
        work = np.zeros((len(rows), len(depths), WORK_COLUMNS), np.int64)
        tile_work(self._patterns(layer, 0, layer.m), positions * layer.timesteps, self._least, work)
        spike_bytes = -(-rows[:, None] * depths // 8).ravel()
        weight_bytes = (-(-columns * config.pe.weight_bits // 8)[:, None] * depths).ravel()
        per_row_tile = np.add.reduceat(output_bytes, starts)
        stored = -(-per_row_tile[:, None] * columns // layer.n).ravel()
        spikes = placement.interleaved(spike_bytes, cache.line_bytes)
        weights = placement.interleaved(weight_bytes, cache.line_bytes, spikes.free)
        output = placement.interleaved(stored, cache.line_bytes, weights.free)
        lanes = config.memory.read_switch.inputs
        spec = Spec(
            lanes=lanes,
            pes=pes,
            m=layer.m,
            n=layer.n,
            k=layer.k,
            timesteps=layer.timesteps,
            positions=positions,
            tile_k=tile_k,
            row_tiles=len(rows),
            column_tiles=len(columns),
            k_tiles=len(depths),
            every_row=int(config.detector.search == "every_row"),
            popcounts=config.detector.popcounts,
            detect=config.detector.pipeline_cycles,
            surplus=config.buffers.tiles - config.detector.tables,
            settle=config.pe.pipeline_cycles,
            neurons=config.neuron.count,
            fire=config.neuron.cycles,
            line_shift=cache.line_bytes.bit_length() - 1,
            beat_shift=(cache.width_bits // 8).bit_length() - 1,
            fetch_lines=min(cache.mshrs, 16),
        )
        operands = Operands(
            work, spikes.line, spike_bytes, weights.line, weight_bytes, output.line, stored.astype(np.int64)
        )
        most_lines = -(-int(spike_bytes.max()) // cache.line_bytes) + -(-int(weight_bytes.max()) // cache.line_bytes)
        held, outputs = config.buffers.tiles, config.buffers.output_tiles
        topology = op.topology(
            [0, 0] + [-(-most_lines // lanes)] * lanes + [spec.fetch_lines],
            [OWN_PATH, OWN_PATH, *range(lanes), 0],
            [
                (config.detector.tables, 0, 1),
                (outputs, 0, 1),
                (outputs, outputs, 1),
                (held, held, 1 + lanes),
                *[(held, 0, 1)] * lanes,
            ],
            [],
        )
        units = (
            Unit("processor", 0, 1, 1),
            Unit("detector", 1, 1, 1),
            Unit("loader", 2, lanes, lanes),
            Unit("neuron_array", 2 + lanes, 1, 1),
        )
        state = np.zeros((len(topology.request_slots), PHASE + 1), np.int64)
        return Program(spec, operands, topology, state, units)

    def count_actions(
        self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Every tile is searched and loaded once an output tile; sums are read and written by rows."""
        weight_banks, sum_banks = self._banks
        fires = layer.neuron is not None or layer.expected is None
        rows, searches, issued = int(counts[TILE_ROWS]), int(counts[SEARCHES]), int(counts[ISSUED])
        return {
            ("pe", "add"): int(counts[ADDED]),
            ("detector", "search"): searches,
            ("detector", "prune"): searches,
            ("spike_buffer", "write"): rows,
            ("spike_buffer", "read"): rows,
            ("weight_buffer", "write"): -(-int(counts[WEIGHT_BYTES]) // 64),
            ("weight_buffer", "read"): int(counts[WEIGHT_ROWS]) * weight_banks,
            ("sum_buffer", "read"): int(counts[SUM_READS]) * sum_banks,
            ("sum_buffer", "write"): 2 * issued * sum_banks,
            ("lif", "update"): int(counts[UPDATES]) if fires else 0,
            ("scheduler", "step"): issued,
        }

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
        return int(program.operands.spike_bytes.sum() + program.operands.weight_bytes.sum())
