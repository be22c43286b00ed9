"""A chip of crossbar arrays that holds a whole network: tiles, neuron modules and a network between them, as agents.

Weights stay in the arrays of a layer's own tiles. Layers work as a pipeline: one begins when the rows that its first
output needs have come over the network (:mod:`archsim.accelerators.pipeline`).

    for image, for timestep, for row, for column of the output           (scheduler.timesteps: outer; inner: t is last)
        tile      fetch the window's new inputs from the tile buffer, during the position before
                  drive rows, read all arrays, convert column by column, shift and add slices, add up the H-tree
        network   the sums travel to the layer's neuron module
        module    read potentials, leak, integrate, fire, write potentials and spikes; a row is complete: send it on

Agents of a layer: for every tile a *driver*, a *converter*, an *adder* and, in the module, a *neuron* agent; for every
feed a *mover* that waits for rows and sends them to all its tiles along one path; for every link of a flow a *hop*
(:mod:`archsim.hardware.interconnect.noc`). They meet at these FIFOs:

    mover -- row --> hops -- row --> drivers -- position --> converters --> adders -- sums --> hops -- sums --> neurons
    mover <-- credit (a row of the buffer) -- drivers <-- slot -- adders <-- credit -- neurons -- row done --> movers

``pe.in_flight`` slots let that many positions of a tile overlap; a position of a tile takes, from slot to slot,

    drive + read + rounds x conversion + shift-add + ceil(log2 arrays of a PE) + ceil(log2 PEs of a tile)    cycles

with *rounds* the columns that one converter has to convert. A module serves one packet of sums at a time. A channel
block too large for a tile is cut into *parts*; their adders send their sums to the first part's. An event-driven chip
skips arrays without a spike in their rows, and a position's conversions if that leaves none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.accelerators.base import Layer, MachineConfig, ScheduledLayers
from archsim.accelerators.pipeline import DRAM, Stage
from archsim.compress import packed_time
from archsim.engine.compiled import run
from archsim.hardware import operation as op
from archsim.hardware.analog.adc import AdcConfig
from archsim.hardware.analog.crossbar_array import CrossbarArrayConfig
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.interconnect.noc import ARRIVE, Link, MeshConfig, hop, multicast
from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.operation import (
    COMPUTE,
    END,
    OWN_PATH,
    POP,
    POP_COUNT,
    PUSH,
    PUSH_COUNT,
    RESIDENT_READ,
    RESIDENT_WRITE,
    SHARED,
    START,
    STREAM_READ,
    STREAM_WRITE,
    VALUE,
    VALUE_OUT,
    add_request,
)
from archsim.jit import inlined, kernel

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
    row_buffer: int = Field(ge=1, le=64, description="finished rows of a layer that wait to be sent, beside the one next")


class ChipScheduler(ScheduledLayers):
    """Order of the work."""

    timesteps: Literal["outer", "inner"] = Field(description="a map a timestep, or all timesteps of a position at once")
    skip: Literal["none", "row_group"] = Field(description="whether arrays without a spike in their rows are skipped")


class ChipConfig(MachineConfig):
    """A chip of crossbar arrays."""

    array: CrossbarArrayConfig = Field(description="crossbar arrays")
    adc: AdcConfig = Field(description="converters behind the columns")
    pe: PeBlock = Field(description="processing elements")
    tile: TileBlock = Field(description="tiles")
    neuron: NeuronBlock = Field(description="neuron modules")
    noc: MeshConfig = Field(description="network between tiles and neuron modules")
    scheduler: ChipScheduler = Field(description="order of the work")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        problems = {}
        if self.array.columns % self.adc.columns:
            problems["adc.columns"] = f"must divide the {self.array.columns} columns of an array"
        if self.columns_per_weight > self.array.columns:
            problems["array.columns"] = f"must hold a weight, which takes {self.columns_per_weight} columns"
        if self.neuron.modules >= self.noc.rows * self.noc.columns:
            problems["neuron.modules"] = f"must leave nodes of the {self.noc.rows} x {self.noc.columns} mesh to tiles"
        if problems:
            raise CrossFieldError(problems)
        return self

    @property
    def tiles(self) -> int:
        """Tiles of the chip: the nodes that are no neuron module."""
        return self.noc.rows * self.noc.columns - self.neuron.modules

    @property
    def columns_per_weight(self) -> int:
        """Columns that a weight takes."""
        return self.array.columns_per_weight(self.pe.weight_bits)

    @property
    def full_scale(self) -> int:
        """The largest sum that a converter can see."""
        return self.array.full_scale * (self.pe.arrays if self.adc.per == "pe" else 1)


# --- What the kernels see ---------------------------------------------------------------------------------------------

# Tensors of the traffic table, once for every layer.
INPUT, MEMBRANE, OUTPUT = range(3)
TENSORS = ("input", "membrane", "output")

# Actions that the agents count.
READS, CONVERSIONS, WINDOWS, TREE_WORDS, UPDATES, JOINED, FLIT_HOPS, BUFFER_WRITES, MATCHES = range(9)
ACTIONS = 9

HOP, DRIVER, CONVERTER, ADDER, NEURON, MOVER = range(6)

# Columns of the table of agents. ROWS: rows, or packets, in all; tables of rows repeat after PERIOD rows. TAKES: the
# port that work comes from; GIVES: the FIFO that it goes to; TOKEN: the port of a slot, credit or token that it needs
# for that; BACK: the FIFO of what it gives back. FIRST, COUNT: its part of ``Operands.listed`` or ``Operands.feed``.
KIND, ROWS, STEPS, PERIOD, TAKES, GIVES, TOKEN, BACK, FIRST, COUNT, CYCLES, FLITS = range(12)
# Of a hop.
IS_LAST = 12
# Of a driver: cycles of the first fetch of a row, its steps, first of its entries in ``active``, copies of its arrays.
ROW_CYCLES, ROW_STEPS, PLAN, COPIES, PE_COPIES = range(12, 17)
# Of a converter, an adder and a neuron agent: columns or neurons.
WIDTH = 12
# Of a neuron agent: token of its module, and where potentials (LINES a position) and outputs lie.
MODULE, LINE, LINES, BYTES, OUT_LINE, OUT_LINES, OUT_BYTES, FIRES, JOIN_BYTES, JOINS = range(13, 23)
# Of a mover: table of rows to wait for; credits; lines of a row from DRAM, in the buffer, to DRAM; buffer writes.
NEED, CREDITS, CREDIT_COUNT, FETCH_LINES, ROW_LINES, STORE_LINES, TILE_WRITES = 12, *range(17, 23)
# Of both, the first of the layer's tensors.
TENSOR = 23
COLUMNS = 24

# Columns of ``Operands.feed``: port of the rows, FIFO of the credits, tables of rows that begin and end to be needed.
ROW_PORT, CREDIT, BEGIN, FINISH = range(4)

# An agent's state. HELD: flits of a hop's packet, or what an adder's position did. BEGAN, FINISHED: first and last cycle.
PHASE, ROW, STEP, INDEX, HELD, BEGAN, FINISHED = range(7)
STATE = 7
NOT_ASKED, NOT_BEGUN = -2, -1

FETCHED_AT_ONCE = 16
"""Lines that a mover asks for at once."""
# What of a position is active, in one number: arrays, sets of converters and PEs.
SET_SHIFT, PE_SHIFT = 20, 40
MASK = (1 << SET_SHIFT) - 1


class Spec(NamedTuple):
    """The machine as integers; ``inner`` is 1 if all timesteps of a position follow each other."""

    timesteps: int
    inner: int
    read_cycles: int
    router_cycles: int
    line_bytes: int
    beat_bytes: int


class Operands(NamedTuple):
    """``agent`` int64 [agents, COLUMNS]; ``feed`` int64 [feeds, 4]; ``listed`` ports and FIFOs; ``rows`` tables of how
    many rows more an output row needs; ``active`` what is active in a position of a part of a layer, packed.
    """

    agent: NDArray[np.int64]
    feed: NDArray[np.int64]
    listed: NDArray[np.int64]
    rows: NDArray[np.int64]
    active: NDArray[np.int64]


# --- Agents -----------------------------------------------------------------------------------------------------------

WAIT, FETCH, DRIVE, FREE = range(4)
TAKE, SUM, PART, SEND = range(4)
JOIN, ARRIVED, UPDATE, STORE, RETURN, DONE = range(6)
ROWS_DONE, READ_DRAM, LOAD, WRITE_DRAM, GIVE = range(5)


@inlined
def take(o: Any, agent: int, port: int, count: int) -> None:
    """Pop ``count`` tokens."""
    o[agent, POP] = port
    o[agent, POP_COUNT] = count


@inlined
def give(o: Any, agent: int, fifo: int, count: int, value: int) -> None:
    """Push ``count`` tokens of ``value``."""
    o[agent, PUSH] = fifo
    o[agent, PUSH_COUNT] = count
    o[agent, VALUE_OUT] = value


@inlined
def transfer(spec: Spec, o: Any, agent: int, line: int, size: int, mode: int, tensor: int) -> None:
    """Requests for ``size`` bytes from the beginning of ``line`` on."""
    while size > 0:
        part = min(size, spec.line_bytes)
        add_request(o, agent, line, (part + spec.beat_bytes - 1) // spec.beat_bytes, part, mode, tensor, 0)
        size -= part
        line += 1


@inlined
def driver(agent: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Wait for the rows of an output row, then drive position after position; free the rows that nobody needs."""
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == FREE:
        while s[INDEX] < own[COUNT]:
            feed = x.feed[own[FIRST] + s[INDEX]]
            s[INDEX] += 1
            freed = x.rows[feed[FINISH] + s[ROW] % own[PERIOD]]
            if freed > 0:
                give(o, agent, feed[CREDIT], freed, 0)
                return
        s[ROW] += 1
        s[INDEX] = 0
        s[PHASE] = WAIT
    if s[PHASE] == WAIT:
        if s[ROW] == own[ROWS]:
            o[agent, END] = 1
            return
        while s[INDEX] < own[COUNT]:
            feed = x.feed[own[FIRST] + s[INDEX]]
            s[INDEX] += 1
            needed = x.rows[feed[BEGIN] + s[ROW] % own[PERIOD]]
            if needed > 0:
                take(o, agent, feed[ROW_PORT], needed)
                return
        s[INDEX] = 0
        s[PHASE] = FETCH
    if s[PHASE] == FETCH:
        o[agent, COMPUTE] = own[ROW_CYCLES] if s[STEP] < own[ROW_STEPS] else own[CYCLES]
        s[PHASE] = DRIVE
        return
    active = x.active[own[PLAN] + s[ROW] * own[STEPS] + s[STEP]]
    take(o, agent, own[TOKEN], 1)
    o[agent, COMPUTE] = spec.read_cycles if active > 0 else 0
    give(o, agent, own[GIVES], 1, active)
    counts[agent, READS] += (active & MASK) * own[COPIES]
    counts[agent, WINDOWS] += (active >> PE_SHIFT) * own[PE_COPIES]
    s[STEP] += 1
    s[PHASE] = FETCH
    if s[STEP] == own[STEPS]:
        s[STEP] = 0
        s[PHASE] = FREE


@inlined
def converter(agent: int, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The converters of a tile: their columns one after the other, for all arrays at once."""
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == TAKE:
        if s[ROW] == own[ROWS]:
            o[agent, END] = 1
            return
        take(o, agent, own[TAKES], 1)
        s[PHASE] = SUM
        return
    active = o[agent, VALUE]
    sets = (active >> SET_SHIFT) & MASK
    o[agent, COMPUTE] = own[CYCLES] if sets > 0 else 0
    give(o, agent, own[GIVES], 1, active)
    counts[agent, CONVERSIONS] += sets * own[WIDTH]
    s[ROW] += 1
    s[PHASE] = TAKE


@inlined
def adder(agent: int, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Shift-add and H-tree of a tile; sums of other parts of the layer are added as they come."""
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == TAKE:
        if s[ROW] == own[ROWS]:
            o[agent, END] = 1
            return
        take(o, agent, own[TAKES], 1)
        s[PHASE] = SUM
        return
    if s[PHASE] == SUM:
        counts[agent, TREE_WORDS] += (o[agent, VALUE] >> PE_SHIFT) * own[WIDTH]
        o[agent, COMPUTE] = own[CYCLES]
        give(o, agent, own[BACK], 1, 0)
        s[INDEX] = 0
        s[PHASE] = PART
        return
    if s[PHASE] == PART:
        if s[INDEX] < own[COUNT]:
            entry = own[FIRST] + 2 * s[INDEX]
            take(o, agent, x.listed[entry], 1)
            o[agent, COMPUTE] = 1
            give(o, agent, x.listed[entry + 1], 1, 0)
            counts[agent, TREE_WORDS] += own[WIDTH]
            s[INDEX] += 1
            return
        s[PHASE] = SEND
    take(o, agent, own[TOKEN], 1)
    give(o, agent, own[GIVES], 1, own[FLITS])
    s[ROW] += 1
    s[PHASE] = TAKE


@inlined
def neuron(agent: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The neurons of one tile, in a module: wait for the module, read, update and write potentials, write outputs."""
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == JOIN:
        if s[ROW] == own[ROWS]:
            o[agent, END] = 1
            return
        while s[STEP] == 0 and s[INDEX] < own[COUNT]:
            entry = own[FIRST] + 2 * s[INDEX]
            s[INDEX] += 1
            needed = x.rows[x.listed[entry + 1] + s[ROW] % own[PERIOD]]
            if needed > 0:
                take(o, agent, x.listed[entry], needed)
                return
        s[INDEX] = 0
        take(o, agent, own[TAKES], 1)
        s[PHASE] = UPDATE
        return
    step = s[STEP]
    place = step // spec.timesteps if spec.inner else (s[ROW] % own[PERIOD]) * own[STEPS] + step
    time = step % spec.timesteps if spec.inner else s[ROW] // own[PERIOD] % spec.timesteps
    stored = own[FIRES] and not spec.inner
    if s[PHASE] == UPDATE:
        take(o, agent, own[TOKEN], 1)
        o[agent, COMPUTE] = own[CYCLES]
        if stored and time > 0:
            transfer(spec, o, agent, own[LINE] + place * own[LINES], own[BYTES], RESIDENT_READ, own[TENSOR] + MEMBRANE)
        if own[JOIN_BYTES] > 0:
            transfer(spec, o, agent, own[OUT_LINE] + step * own[OUT_LINES], own[JOIN_BYTES], RESIDENT_READ,
                     own[TENSOR] + MEMBRANE)  # fmt: skip
            counts[agent, JOINED] += own[WIDTH] * own[JOINS]
        if own[FIRES]:
            counts[agent, UPDATES] += own[WIDTH]
        s[PHASE] = STORE
        return
    if s[PHASE] == STORE:
        if stored and time < spec.timesteps - 1:
            transfer(spec, o, agent, own[LINE] + place * own[LINES], own[BYTES], RESIDENT_WRITE, own[TENSOR] + MEMBRANE)
        transfer(spec, o, agent, own[OUT_LINE] + step * own[OUT_LINES], own[OUT_BYTES], RESIDENT_WRITE,
                 own[TENSOR] + OUTPUT)  # fmt: skip
        give(o, agent, own[MODULE], 1, 0)
        s[PHASE] = RETURN
        return
    if s[PHASE] == RETURN:
        give(o, agent, own[BACK], 1, 0)
        s[STEP] += 1
        s[PHASE] = JOIN
        if s[STEP] == own[STEPS]:
            s[STEP] = 0
            s[PHASE] = DONE
        return
    give(o, agent, own[GIVES], 1, 0)
    s[ROW] += 1
    s[PHASE] = JOIN


@inlined
def ask(spec: Spec, own: Any, s: Any, o: Any, agent: int, lines: int, mode: int, tensor: int) -> bool:
    """The next requests for the ``lines`` lines of a mover's row; false when there are none left."""
    if s[INDEX] == lines:
        s[INDEX] = 0
        return False
    end = min(lines, s[INDEX] + FETCHED_AT_ONCE)
    size = min(own[BYTES], end * spec.line_bytes) - s[INDEX] * spec.line_bytes
    row = s[ROW] if mode in (STREAM_READ, STREAM_WRITE) else 0
    transfer(spec, o, agent, own[LINE] + row * lines + s[INDEX], size, mode, tensor)
    s[INDEX] = end
    return True


@inlined
def mover(agent: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Wait until a row is complete, or fetch it from DRAM; send it to all tiles that need it, or write it to DRAM."""
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == ROWS_DONE:
        if s[ROW] == own[ROWS]:
            o[agent, END] = 1
            return
        needed = x.rows[own[NEED] + s[ROW] % own[PERIOD]]
        if needed > 0 and s[INDEX] < own[COUNT]:
            take(o, agent, x.listed[own[FIRST] + s[INDEX]], needed)
            s[INDEX] += 1
            return
        s[INDEX] = 0
        s[PHASE] = READ_DRAM
    if s[PHASE] == READ_DRAM:
        if ask(spec, own, s, o, agent, own[FETCH_LINES], STREAM_READ, own[TENSOR]):
            return
        s[PHASE] = LOAD
    if s[PHASE] == LOAD:
        if ask(spec, own, s, o, agent, own[ROW_LINES], RESIDENT_READ, own[TENSOR]):
            return
        s[PHASE] = WRITE_DRAM
    if s[PHASE] == WRITE_DRAM:
        if s[INDEX] < own[STORE_LINES]:
            ask(spec, own, s, o, agent, own[STORE_LINES], STREAM_WRITE, own[TENSOR])
            if s[INDEX] == own[STORE_LINES]:
                s[INDEX] = 0
                s[ROW] += 1
                s[PHASE] = ROWS_DONE
            return
        s[PHASE] = GIVE
    take(o, agent, x.listed[own[CREDITS] + s[INDEX]], 1)
    s[INDEX] += 1
    if s[INDEX] == own[CREDIT_COUNT]:
        give(o, agent, own[GIVES], 1, own[FLITS])
        counts[agent, BUFFER_WRITES] += own[TILE_WRITES]
        s[INDEX] = 0
        s[ROW] += 1
        s[PHASE] = ROWS_DONE


@inlined
def link(agent: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """A flow at one link of the network."""
    own, s = x.agent[agent], state[agent]
    if s[PHASE] == ARRIVE and s[ROW] == own[ROWS]:
        o[agent, END] = 1
        return
    s[PHASE], s[HELD] = hop(
        o, agent, s[PHASE], s[HELD], own[TAKES], own[TOKEN], own[BACK], own[GIVES], spec.router_cycles, own[IS_LAST]
    )
    if s[PHASE] == ARRIVE:
        s[ROW] += 1
        counts[agent, FLIT_HOPS] += s[HELD]


@kernel
def step(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Next operation of any agent; notes when its work begins and ends."""
    if state[agent, BEGAN] == NOT_BEGUN:
        state[agent, BEGAN] = o[agent, START]
    elif state[agent, BEGAN] == NOT_ASKED:
        state[agent, BEGAN] = NOT_BEGUN
    kind = x.agent[agent, KIND]
    if kind == HOP:
        link(agent, spec, state, x, o, counts)
    elif kind == DRIVER:
        driver(agent, spec, state, x, o, counts)
    elif kind == CONVERTER:
        converter(agent, state, x, o, counts)
    elif kind == ADDER:
        adder(agent, state, x, o, counts)
    elif kind == NEURON:
        neuron(agent, spec, state, x, o, counts)
    else:
        mover(agent, spec, state, x, o, counts)
    if o[agent, END]:
        state[agent, FINISHED] = now


@kernel
def loop(spec: Spec, x: Operands, machine: Any) -> tuple[int, int, int]:
    """The agents in the compiled engine."""
    return run(step, spec, x, machine)


# --- Mapping ----------------------------------------------------------------------------------------------------------


class TileShare(NamedTuple):
    """What one tile does of a layer: arrays ``first`` to ``end`` of a channel block's, for ``outputs`` neurons from
    ``neuron`` on, in ``copies`` column blocks; ``part`` of the layer, in the group of tiles that it adds up with.
    """

    part: int
    group: int
    neuron: int
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
    """Arrays, PEs and tiles of a layer."""
    held, tile_pes = config.pe.arrays, config.tile.pes
    arrays = -(-stage.channels // config.array.rows) * stage.kernel[0] * stage.kernel[1]
    pes = -(-arrays // held)
    block_outputs = config.array.columns // config.columns_per_weight
    blocks = -(-stage.outputs // block_outputs)
    # Joined currents belong to one column block; arrays with converters of their own may be shared out.
    blocks_per_pe = max(1, held // arrays) if config.adc.per == "array" else 1
    parts = -(-pes // tile_pes)
    copies = max(1, tile_pes // pes) * blocks_per_pe
    shares = []
    for group, first in enumerate(range(0, blocks, copies)):
        here = min(copies, blocks - first)
        neurons = min(stage.outputs, (first + here) * block_outputs) - first * block_outputs
        shares += [TileShare(part, group, first * block_outputs, neurons, here) for part in range(parts)]
    return Mapping(arrays, pes, parts, block_outputs, blocks, blocks_per_pe, tuple(shares))


def activity(config: ChipConfig, stage: Stage, mapping: Mapping, layer: Layer) -> list[NDArray[np.int64]]:
    """For each part of a layer what is active in every position, packed, in the order of the work.

    Without skipping everything is. With it, an array is active if one of its rows carries a spike.
    """
    rows, held = config.array.rows, config.pe.arrays
    if layer.feature_map is not None:
        words = layer.feature_map.words
        padded = np.pad(words, ((0, 0), (0, -words.shape[1] % rows), (0, 0), (0, 0)))
        blocks = padded.reshape(words.shape[0], -1, rows, *words.shape[2:])
        driven = packed_time.unroll(np.bitwise_or.reduce(blocks, 2), stage.kernel, stage.stride, stage.padding)
    else:
        dense = packed_time.decode(layer.inputs, layer.k)
        padded = np.pad(dense, ((0, 0), (0, -dense.shape[1] % rows)))
        driven = np.bitwise_or.reduce(padded.reshape(len(dense), -1, rows), 2)
    if config.scheduler.skip == "none":
        driven = np.full_like(driven, (1 << stage.timesteps) - 1)
    # [images, positions, arrays, T], or with t before the positions
    spikes = (driven[:, :, None] >> np.arange(stage.timesteps)) & 1 == 1
    spikes = spikes.reshape(stage.images, -1, mapping.arrays, stage.timesteps)
    spikes = spikes.transpose((0, 1, 3, 2) if config.scheduler.timesteps == "inner" else (0, 3, 1, 2))
    spikes = spikes.reshape(-1, mapping.arrays)
    packed = []
    for first in range(0, mapping.arrays, held * config.tile.pes):
        part = spikes[:, first : first + held * config.tile.pes]
        pes = np.logical_or.reduceat(part, np.arange(0, part.shape[1], held), axis=1).sum(1, dtype=np.int64)
        arrays = part.sum(1, dtype=np.int64)
        sets = arrays if config.adc.per == "array" else pes
        packed.append(arrays | sets << SET_SHIFT | pes << PE_SHIFT)
    return packed


def conversion_cycles(config: ChipConfig, stage: Stage, mapping: Mapping, layer: Layer) -> int:
    """Cycles of the conversions of the layer's busiest tile."""
    columns = min(mapping.block_outputs, stage.outputs) * config.columns_per_weight
    rounds = min(config.adc.columns, columns)
    busiest = max(np.count_nonzero(part) for part in activity(config, stage, mapping, layer))
    return int(busiest) * rounds * config.adc.conversion_cycles


def input_bytes(stage: Stage) -> int:
    """Bytes of the layer's input that come from DRAM."""
    maps = stage.images * stage.timesteps
    return sum(maps * feed.rows * feed.bits for feed in stage.feeds if feed.source == DRAM) // 8


def buffer_rows(config: ChipConfig, stage: Stage) -> tuple[int, int]:
    """Rows of every feed that a tile's buffer holds, and how many it must hold for the layer to make progress."""
    bits = sum(feed.bits for feed in stage.feeds) * (stage.timesteps if config.scheduler.timesteps == "inner" else 1)
    needed = 1
    for feed in stage.feeds:
        freed = np.concatenate(([0], stage.window_begin(feed.rows)[:-1]))
        needed = max(needed, int((stage.window_end(feed.rows) - freed).max()))
    return config.tile.buffer_bits // bits, needed


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
        held, needed = buffer_rows(config, stage)
        if held < needed:
            bits = config.tile.buffer_bits // max(1, held) if held else sum(feed.bits for feed in stage.feeds)
            problems.append(
                f"tile.buffer_bits: {config.tile.buffer_bits} bits hold {held} rows of the input of {stage.name}, it "
                f"needs {needed}, about {needed * bits} bits"
            )
    lines, room = sum(_lines(config, stage) for stage in stages), config.memory.cache.usable_bytes
    if lines * config.memory.cache.line_bytes > room:
        problems.append(
            f"memory.cache.size_kib: potentials and output rows need {lines * config.memory.cache.line_bytes} bytes, the "
            f"neuron modules have {room}"
        )
    return problems


def _lines(config: ChipConfig, stage: Stage) -> int:
    return sum(
        _places(config, stage, share.outputs)[0] for share in map_layer(config, stage).shares if share.part == 0
    )


def _places(config: ChipConfig, stage: Stage, outputs: int) -> tuple[int, int, int, int, int]:
    """Memory of ``outputs`` neurons of a layer: lines in all; lines and bytes of a position's potentials, of outputs."""
    line_bytes, inner = config.memory.cache.line_bytes, config.scheduler.timesteps == "inner"
    bytes_ = -(-outputs * config.neuron.membrane_bits // 8)
    lines = -(-bytes_ // line_bytes)
    out_bytes = -(-outputs * (1 if stage.fires else config.neuron.sum_bits) // 8)
    out_lines = -(-out_bytes // line_bytes)
    kept = stage.out_height * stage.out_width * lines if stage.fires and not inner else 0
    row = stage.out_width * (stage.timesteps if inner else 1) * out_lines
    return kept + row * (1 + config.neuron.row_buffer), lines, bytes_, out_lines, out_bytes


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
    """First and last cycle of a layer."""

    begin: int
    end: int


@dataclass(frozen=True)
class Built:
    """A network laid out: who works for which layer, and which tiles it has."""

    spec: Spec
    wiring: Wiring
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
        nodes = config.noc.rows * config.noc.columns
        modules = [(2 * i + 1) * nodes // (2 * config.neuron.modules) for i in range(config.neuron.modules)]
        free = [node for node in range(nodes) if node not in modules]
        ends = np.cumsum([0] + [len(mapping.shares) for mapping in self.mappings]).tolist()
        self.tiles = tuple(tuple(free[first:end]) for first, end in zip(ends, ends[1:], strict=False))
        self.module_nodes = modules
        self.module_tokens = [self.wiring.fifo(1, 1, SHARED) for _ in modules]
        self.module = self._assign(len(modules))
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
            read_cycles=config.array.drive_cycles + config.array.read_cycles,
            router_cycles=config.noc.router_cycles,
            line_bytes=memory.line_bytes,
            beat_bytes=memory.width_bits // 8,
        )
        return Built(spec, self.wiring, self.mappings, self.tiles)

    def _assign(self, modules: int) -> list[int]:
        """The module of each layer: the one with the fewest neurons so far."""
        load = [0] * modules
        chosen = []
        for stage in self.stages:
            module = load.index(min(load))
            load[module] += stage.outputs * stage.out_height * stage.out_width
            chosen.append(module)
        return chosen

    def _maps(self, stage: Stage) -> int:
        return stage.images * (1 if self.inner else stage.timesteps)

    def _readers(self, number: int) -> list[tuple[int, int, NDArray[np.int64]]]:
        """Who waits for rows of layer ``number``: (layer, its feed or -1 for a join, rows needed)."""
        found = []
        for reader, stage in enumerate(self.stages):
            found += [(reader, i, feed.need) for i, feed in enumerate(stage.feeds) if feed.source == number]
            found += [(reader, -1, need) for source, need in stage.joins if source == number]
        return found

    def _done_fifos(self, number: int) -> list[tuple[int, list[int]]]:
        """For each group of tiles a FIFO of finished rows; a port for each reader (and neuron group of a join)."""
        stage, readers = self.stages[number], self._readers(number)
        ports = sum(1 if feed >= 0 else _groups(self.mappings[reader]) for reader, feed, _ in readers)
        steps = [int(np.diff(self._drained(need, stage.out_height), prepend=0).max()) for _, _, need in readers]
        ahead = max([1, *steps]) - 1 + self.config.neuron.row_buffer
        if any(feed < 0 for _, feed, _ in readers):
            ahead = max(ahead, stage.out_height)  # what is added later waits in the module
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
        where = [config.noc.place(tile) for tile in tiles]
        module = config.noc.place(self.module_nodes[self.module[number]])
        maps, steps = self._maps(stage), stage.out_width * (stage.timesteps if self.inner else 1)
        rows = maps * stage.out_height
        plans = []
        for packed in activity(config, stage, mapping, self.layers[number]):
            plans.append(sum(len(part) for part in wiring.active))
            wiring.active.append(packed)
        held, _ = buffer_rows(config, stage)
        arrivals, credits = self._feeds(number, where, held)
        joins = self._join_ports(number)
        out_line = self.free_line
        self.out_line.append(out_line)
        columns = min(mapping.block_outputs, stage.outputs) * config.columns_per_weight
        depth = math.ceil(math.log2(config.pe.arrays)) + math.ceil(math.log2(config.tile.pes))
        width = config.tile.buffer_width_bits
        inputs = -(-stage.channels // mapping.parts) * stage.kernel[0]
        received: dict[int, list[int]] = {}
        # Parts that send come before the one that adds, in reverse.
        for index in reversed(range(len(tiles))):
            share = mapping.shares[index]
            first_feed = len(wiring.feeds)
            for feed in range(len(stage.feeds)):
                begin = wiring.table(stage.window_end(stage.feeds[feed].rows))
                finish = wiring.table(stage.window_begin(stage.feeds[feed].rows))
                wiring.feeds.append((arrivals[feed][index], credits[feed][index], begin, finish))
            slot, slot_port = wiring.fifo(config.pe.in_flight, config.pe.in_flight)
            driven, driven_port = wiring.fifo(config.pe.in_flight)
            converted, converted_port = wiring.fifo(config.pe.in_flight)
            wiring.agent(
                DRIVER,
                number,
                {
                    ROWS: rows,
                    STEPS: steps,
                    PERIOD: stage.out_height,
                    TOKEN: slot_port,
                    GIVES: driven,
                    FIRST: first_feed,
                    COUNT: len(stage.feeds),
                    CYCLES: -(-inputs * min(stage.stride[1], stage.kernel[1]) // width),
                    ROW_CYCLES: -(-inputs * stage.kernel[1] // width),
                    ROW_STEPS: stage.timesteps if self.inner else 1,
                    PLAN: plans[share.part],
                    COPIES: share.copies,
                    PE_COPIES: -(-share.copies // mapping.blocks_per_pe),
                },
            )
            wiring.agent(
                CONVERTER,
                number,
                {
                    ROWS: rows * steps,
                    TAKES: driven_port,
                    GIVES: converted,
                    CYCLES: min(config.adc.columns, columns) * config.adc.conversion_cycles,
                    WIDTH: share.outputs * config.columns_per_weight,
                },
            )
            sums = {
                ROWS: rows * steps,
                TAKES: converted_port,
                BACK: slot,
                CYCLES: config.pe.shift_add_cycles + depth,
                FLITS: config.noc.flits(share.outputs * config.neuron.sum_bits),
                WIDTH: share.outputs,
            }
            target = module if share.part == 0 else where[index - share.part]
            room, credit_port = wiring.fifo(config.neuron.sum_buffer, config.neuron.sum_buffer)
            entry, (arrival,) = wiring.flow(number, where[index], [target], rows * steps, config.neuron.sum_buffer)
            parts = received.pop(share.group, []) if share.part == 0 else []
            sums |= {GIVES: entry, TOKEN: credit_port, FIRST: wiring.listing(parts), COUNT: len(parts) // 2}
            wiring.agent(ADDER, number, sums)
            if share.part:
                received.setdefault(share.group, []).extend((arrival, room))
            else:
                self._neurons(number, share, arrival, room, joins, rows, steps)
        if stage.leaves:
            self._writer(number)

    def _feeds(
        self, number: int, where: list[tuple[int, int]], held: int
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Movers that bring the layer's input to all its tiles: ports of arrival and FIFOs of credits, feed by feed."""
        config, wiring, stage = self.config, self.wiring, self.stages[number]
        arrivals, credits = [], []
        for index, feed in enumerate(stage.feeds):
            rows = self._maps(stage) * feed.rows
            bits = feed.bits * (stage.timesteps if self.inner else 1)
            source = number if feed.source == DRAM else feed.source
            start = config.noc.place(self.module_nodes[self.module[source]])
            entry, ports = wiring.flow(number, start, where, rows, held)
            rooms = [wiring.fifo(held, held) for _ in where]
            bytes_, line_bytes = -(-bits // 8), config.memory.cache.line_bytes
            lines = -(-bytes_ // line_bytes)
            values = {
                ROWS: rows,
                PERIOD: feed.rows,
                GIVES: entry,
                FLITS: config.noc.flits(bits),
                CREDITS: wiring.listing([port for _, port in rooms]),
                CREDIT_COUNT: len(rooms),
                BYTES: bytes_,
                ROW_LINES: lines,
                TENSOR: number * len(TENSORS) + INPUT,
                TILE_WRITES: -(-bits // config.tile.buffer_width_bits) * len(where),
            }
            if feed.source == DRAM:
                values |= {NEED: wiring.table(np.zeros(feed.rows, np.int64)), FETCH_LINES: lines, LINE: self._dram(rows * lines)}
            else:
                ports_done = self._ports(feed.source, number, index)
                need = self._drained(feed.need, self.stages[feed.source].out_height)
                values |= {NEED: wiring.table(need), LINE: self.out_line[feed.source]}
                values |= {FIRST: wiring.listing(ports_done), COUNT: len(ports_done)}
            wiring.agent(MOVER, number, values, FETCHED_AT_ONCE)
            arrivals.append(ports)
            credits.append([fifo for fifo, _ in rooms])
        return arrivals, credits

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

    def _neurons(
        self, number: int, share: TileShare, arrival: int, room: int, joins: list[list[int]], rows: int, steps: int
    ) -> None:
        config, stage = self.config, self.stages[number]
        token, token_port = self.module_tokens[self.module[number]]
        taken, lines, bytes_, out_lines, out_bytes = _places(config, stage, share.outputs)
        row_lines = steps * out_lines * (1 + config.neuron.row_buffer)
        pairs = joins[share.group]
        join_bytes = -(-share.outputs * config.neuron.sum_bits // 8) * len(stage.joins)
        self.wiring.agent(
            NEURON,
            number,
            {
                ROWS: rows,
                STEPS: steps,
                PERIOD: stage.out_height,
                TAKES: arrival,
                GIVES: self.done[number][share.group][0],
                TOKEN: token_port,
                BACK: room,
                FIRST: self.wiring.listing(pairs),
                COUNT: len(pairs) // 2,
                CYCLES: -(-share.outputs // config.neuron.lanes) * config.neuron.cycles,
                WIDTH: share.outputs,
                MODULE: token,
                LINE: self.free_line + row_lines,
                LINES: lines,
                BYTES: bytes_,
                OUT_LINE: self.free_line,
                OUT_LINES: out_lines,
                OUT_BYTES: out_bytes,
                FIRES: int(stage.fires),
                JOIN_BYTES: join_bytes,
                JOINS: len(stage.joins),
                TENSOR: number * len(TENSORS),
            },
            lines + max(out_lines, -(-join_bytes // config.memory.cache.line_bytes)),
        )
        self.free_line += taken

    def _writer(self, number: int) -> None:
        """What nobody reads goes to DRAM, row by row."""
        config, wiring, stage = self.config, self.wiring, self.stages[number]
        timesteps = stage.timesteps if self.inner else 1
        bits = stage.outputs * stage.out_width * timesteps * (1 if stage.fires else config.neuron.sum_bits)
        bytes_, ports = -(-bits // 8), [ports[0] for _, ports in self.done[number]]
        rows = self._maps(stage) * stage.out_height
        lines = -(-bytes_ // config.memory.cache.line_bytes)
        wiring.agent(
            MOVER,
            number,
            {
                ROWS: rows,
                PERIOD: stage.out_height,
                NEED: wiring.table(np.arange(1, stage.out_height + 1)),
                FIRST: wiring.listing(ports),
                COUNT: len(ports),
                STORE_LINES: lines,
                BYTES: bytes_,
                LINE: self._dram(rows * lines),
                TENSOR: number * len(TENSORS) + OUTPUT,
            },
            FETCHED_AT_ONCE,
        )


def _groups(mapping: Mapping) -> int:
    """Groups of tiles whose sums are added: each has its own neurons."""
    return len(mapping.shares) // mapping.parts
