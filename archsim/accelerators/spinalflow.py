"""SpinalFlow: compressed, time-sorted spikes, one a cycle, to 128 output neurons (Narayanan et al., ISCA 2020).

The elements are the output neurons of one output position, 128 channels of it at a time. The spikes of its receptive
field arrive sorted by time; each is broadcast, and every element adds its own weight of that input to its membrane
potential, which never leaves it. All ticks of a layer are done before the next layer:

    for tile of 128 output channels:         their weights stay in the cache as far as they fit
        for m in rows:                       one output position
            for t in ticks:
                for spike of tick t:         merged from the sorted lists below the kernel, one a cycle
                    every element: add its weight of this input
                leak and fire, all elements at once
            drain the output spikes, one a cycle, beside the next position

Spikes are events whatever they encode: one for each neuron with temporal coding, as SpinalFlow assumes, or any number
with rate coding, as here; each costs a cycle. Weights are dense: a weight of zero is read and added.

Agents: the array, all of whose elements do the same at the same time; one reader for each input of the read switch,
which take the spikes in turn and read their rows of weights (one weight for each element) ahead of the array; the
merger, which loads the spike lists of a position and merges them (min-find) ahead of the readers; the drain.

    merger -- row (to all) --> readers -- row of weights --> array -- position --> drain
    merger <-- room in the spike buffer ------------------- array

**Spike buffer.** Lists lie in it from when they are asked for until the array is through with their position, each in
whole words of ``BUFFER_WORD`` bytes. Positions that are read together take half of it at most. A position that is
larger than all of it has it for itself and streams through; the event ``positions_larger_than_buffer`` counts those.

A tick boundary takes ``neuron.cycles``, a spike one cycle, so with weights in time a layer takes

    sum over tiles and rows of  (spikes of the row + T neuron.cycles)   plus fill and drain.

In memory: a list for each input position and 128 channels: pointer, then ``time_bits`` and a channel number for each
spike, in order of time; and one row of weights for each input of the kernel, tile by tile, in the order (kernel
position, channel). Sources are in ``hwconfigs/spinalflow.yaml``; what is assumed in DEVIATIONS.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.accelerators.base import (
    Accelerator,
    Layer,
    MachineConfig,
    Program,
    ScheduledLayers,
    Unit,
    memory_components,
)
from archsim.compress import bitmask, packed_time
from archsim.engine.compiled import run
from archsim.hardware import operation as op
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block
from archsim.hardware.memory import placement
from archsim.hardware.operation import (
    BEATS,
    CACHED_READ,
    COMPUTE,
    END,
    HEADER,
    OWN_PATH,
    POP,
    POP_COUNT,
    PUSH,
    PUSH_COUNT,
    REQUEST_FIELDS,
    REQUESTS,
    STREAM_WRITE,
    add_range,
)
from archsim.jit import inlined, kernel, njit

BUFFER_WORD = 16
"""Bytes of one access of the spike buffer."""

# --- Configuration ----------------------------------------------------------------------------------------------------


class SpinalFlowPe(Block):
    """Processing elements, each with its membrane potential."""

    count: int = Field(ge=16, le=1024, description="elements: output neurons of one position at a time")
    weight_buffer: int = Field(ge=1, le=64, description="rows of weights that wait for the array at each reader")
    weight_bits: int = Field(ge=2, le=16, description="bits of a weight")
    accumulator_bits: int = Field(ge=2, le=63, description="bits of the accumulator, sign included")


class MergerConfig(Block):
    """Min-find over sorted spike lists."""

    cycles: int = Field(ge=0, le=64, description="cycles from loaded lists to the first spike; then one a cycle")
    rows_ahead: int = Field(ge=1, le=64, description="positions whose lists wait loaded while those of the next arrive")
    buffer_kib: int = Field(ge=1, le=1024, description="spike buffer: lists of the positions that wait or are merged")

    @property
    def buffer_words(self) -> int:
        """Words of the spike buffer."""
        return self.buffer_kib * 1024 // BUFFER_WORD


class DrainConfig(Block):
    """Output queue."""

    cycles_per_spike: int = Field(ge=1, le=64, description="cycles for an output spike")
    positions: int = Field(ge=1, le=64, description="finished positions that wait for the drain")


class SpinalFlowScheduler(ScheduledLayers):
    """What is run."""


class SpikeListConfig(Block):
    """Spike lists in memory."""

    pointer_bits: int = Field(ge=0, le=64, description="bits in front of a list")
    time_bits: int = Field(ge=4, le=8, description="bits of a spike's tick")


class SpinalFlowConfig(MachineConfig):
    """A SpinalFlow machine."""

    accelerator: Literal["spinalflow"] = Field(description="which machine this file describes")
    pe: SpinalFlowPe = Field(description="processing elements")
    neuron: LifConfig = Field(description="leak and fire of all elements at a tick's end")
    merger: MergerConfig = Field(description="merging of spike lists")
    drain: DrainConfig = Field(description="output queue")
    scheduler: SpinalFlowScheduler = Field(description="what is run")
    format: SpikeListConfig = Field(description="spike lists")


# --- What the kernels see ---------------------------------------------------------------------------------------------

INPUT, WEIGHT, OUTPUT = range(3)
TENSORS = ("input", "weight", "output")

# Actions that the agents count.
SPIKES, ADDITIONS, UPDATES, DRAINED, POSITIONS, LIST_BEATS = range(6)
ACTIONS = 6


class Spec(NamedTuple):
    """The machine and the layer's sizes as integers; ``boundary``: cycles of leak and fire."""

    pes: int
    m: int
    n: int
    timesteps: int
    tiles: int
    taps: int
    lanes: int
    boundary: int
    merge: int
    rows_ahead: int
    buffer_words: int
    drain: int
    weight_bits: int
    line_bytes: int
    line_shift: int
    beat_shift: int
    fetch_lines: int


class Operands(NamedTuple):
    """Sorted spikes and where everything is in memory.

    Spikes of row m: ``first[m]`` to ``first[m + 1]``; each has the row of weights it selects, ``weight_row`` int32, and
    the tick boundaries between it and the next spike of the row, ``after`` int16. ``before`` [M]: those in front of the
    row's first spike (T if it has none). ``taps`` int64 [M, taps] names the lists of a row, -1 for padding; list i has
    ``list_bytes[i]``, all lists of a row take ``buffered`` words of the spike buffer. ``weight_line`` [tiles]; the
    output of (tile, row) is fiber ``tile * M + row``, of ``drained`` spikes (of a read-out: sums).
    """

    first: NDArray[np.int64]
    weight_row: NDArray[np.int32]
    after: NDArray[np.int16]
    before: NDArray[np.int64]
    taps: NDArray[np.int64]
    buffered: NDArray[np.int64]
    list_line: NDArray[np.int64]
    list_bytes: NDArray[np.int64]
    weight_line: NDArray[np.int64]
    output_line: NDArray[np.int64]
    output_bytes: NDArray[np.int64]
    drained: NDArray[np.int64]


# FIFOs: finished positions; free words of the spike buffer; loaded rows, with a port a reader; then a FIFO of weight
# rows a reader.
DRAIN, ROOM, ROWS, WEIGHTS = range(4)
DRAIN_PORT, ROOM_PORT, ROW_PORT = range(3)

# --- Agents: the array, the readers, the merger, the drain ------------------------------------------------------------

# An agent's state: tile, row, the spike (or list, or nothing), byte of the list, what it does next, the lane in turn.
TILE, ROW, SPIKE, BYTE, PHASE, LANE = range(6)
BEGIN, GO_ON, FREE = range(3)


@inlined
def next_row(spec: Spec, state: Any, agent: int) -> None:
    """Go to the next row, or to the first of the next tile."""
    state[agent, PHASE] = BEGIN
    state[agent, SPIKE] = 0
    state[agent, ROW] += 1
    if state[agent, ROW] == spec.m:
        state[agent, ROW] = 0
        state[agent, TILE] += 1


@inlined
def width(spec: Spec, tile: int) -> int:
    """Output neurons of a tile."""
    return min(spec.pes, spec.n - tile * spec.pes)


@inlined
def array(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Add one spike's row of weights a cycle; leak and fire at each boundary of ticks."""
    tile, row = state[agent, TILE], state[agent, ROW]
    if tile == spec.tiles:
        o[agent, END] = 1
        return
    end = x.first[row + 1]
    if state[agent, PHASE] == FREE:
        if x.buffered[row] > 0:
            o[agent, PUSH] = ROOM
            o[agent, PUSH_COUNT] = x.buffered[row]
        next_row(spec, state, agent)
        return
    if state[agent, PHASE] == BEGIN:
        state[agent, PHASE] = GO_ON
        state[agent, SPIKE] = x.first[row]
        counts[agent, POSITIONS] += 1
        counts[agent, UPDATES] += width(spec, tile) * spec.timesteps
        if x.before[row] > 0:
            o[agent, COMPUTE] = x.before[row] * spec.boundary
            if x.first[row] == end:
                o[agent, PUSH] = DRAIN
                o[agent, PUSH_COUNT] = 1
                state[agent, PHASE] = FREE
            return
    spike = state[agent, SPIKE]
    lane = state[agent, LANE]
    o[agent, POP] = ROW_PORT + spec.lanes + lane
    o[agent, POP_COUNT] = 1
    o[agent, COMPUTE] = 1 + x.after[spike] * spec.boundary
    counts[agent, SPIKES] += 1
    counts[agent, ADDITIONS] += width(spec, tile)
    state[agent, LANE] = lane + 1 if lane + 1 < spec.lanes else 0
    state[agent, SPIKE] = spike + 1
    if spike + 1 == end:
        o[agent, PUSH] = DRAIN
        o[agent, PUSH_COUNT] = 1
        state[agent, PHASE] = FREE


@inlined
def reader(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Read the rows of weights of every ``lanes``-th spike, each when the lists of its position are merged."""
    tile, row = state[agent, TILE], state[agent, ROW]
    if tile == spec.tiles:
        o[agent, END] = 1
        return
    lane = agent - 1
    if state[agent, PHASE] == BEGIN:
        o[agent, POP] = ROW_PORT + lane
        o[agent, POP_COUNT] = 1
        state[agent, PHASE] = GO_ON
        before = tile * x.first[spec.m] + x.first[row]
        state[agent, SPIKE] = x.first[row] + (lane - before) % spec.lanes
    spike = state[agent, SPIKE]
    if spike < x.first[row + 1]:
        size = (width(spec, tile) * spec.weight_bits + 7) >> 3
        begin = x.weight_row[spike] * size
        add_range(
            o, agent, x.weight_line[tile], 1, begin, begin + size, spec.line_shift, spec.beat_shift, CACHED_READ,
            WEIGHT, tile,
        )  # fmt: skip
        o[agent, PUSH] = WEIGHTS + lane
        o[agent, PUSH_COUNT] = 1
        spike += spec.lanes
        state[agent, SPIKE] = spike
    if spike >= x.first[row + 1]:
        next_row(spec, state, agent)


@inlined
def merger(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Load the spike lists of one or more positions, whole lines each, and merge them; here SPIKE is the list."""
    tile = state[agent, TILE]
    if tile == spec.tiles:
        o[agent, END] = 1
        return
    room = spec.fetch_lines
    rows = 0
    words = 0
    while room > 0 and rows < spec.rows_ahead and state[agent, TILE] == tile:
        row, tap, first = state[agent, ROW], state[agent, SPIKE], state[agent, BYTE]
        if tap == 0 and first == 0:
            # A position begins, if its lists fit beside those of the positions that are read with it; not behind the
            # rest of one that was begun before, which would have to wait for the room that it gives back.
            if rows > 0 and (words == 0 or 2 * (words + x.buffered[row]) > spec.buffer_words):
                break
            words += x.buffered[row]
        fiber = x.taps[row, tap]
        state[agent, BYTE] = 0
        state[agent, SPIKE] = tap + 1
        if fiber >= 0:
            end = min(x.list_bytes[fiber], first + room * spec.line_bytes)
            room -= add_range(
                o, agent, x.list_line[fiber], 1, first, end, spec.line_shift, spec.beat_shift, CACHED_READ, INPUT, tile
            )
            if end < x.list_bytes[fiber]:
                state[agent, SPIKE], state[agent, BYTE] = tap, end
        if state[agent, SPIKE] == spec.taps:
            rows += 1
            next_row(spec, state, agent)
    for i in range(o[agent, REQUESTS]):
        counts[agent, LIST_BEATS] += o[agent, HEADER + i * REQUEST_FIELDS + BEATS]
    if words > 0:
        o[agent, POP] = ROOM_PORT
        o[agent, POP_COUNT] = words
    if rows > 0:
        o[agent, COMPUTE] = spec.merge
        o[agent, PUSH] = ROWS
        o[agent, PUSH_COUNT] = rows


@inlined
def drain(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """Let the output spikes of a position out one after the other, then write them to DRAM."""
    tile, row = state[agent, TILE], state[agent, ROW]
    if tile == spec.tiles:
        o[agent, END] = 1
        return
    fiber = tile * spec.m + row
    if state[agent, PHASE] == BEGIN:
        o[agent, POP] = DRAIN_PORT
        o[agent, POP_COUNT] = 1
        o[agent, COMPUTE] = x.drained[fiber] * spec.drain
        counts[agent, DRAINED] += x.drained[fiber]
        state[agent, PHASE] = GO_ON
        return
    first = state[agent, BYTE]
    end = min(x.output_bytes[fiber], first + spec.fetch_lines * spec.line_bytes)
    add_range(o, agent, x.output_line[fiber], 1, first, end, spec.line_shift, spec.beat_shift, STREAM_WRITE, OUTPUT, 0)
    state[agent, BYTE] = end
    if end == x.output_bytes[fiber]:
        state[agent, BYTE] = 0
        next_row(spec, state, agent)


@inlined
def step(agent: int, now: int, spec: Spec, state: Any, x: Operands, o: Any, counts: Any) -> None:
    """The next operation of any agent; see :mod:`archsim.hardware.operation`."""
    if agent == 0:
        array(agent, now, spec, state, x, o, counts)
    elif agent <= spec.lanes:
        reader(agent, now, spec, state, x, o, counts)
    elif agent == spec.lanes + 1:
        merger(agent, now, spec, state, x, o, counts)
    else:
        drain(agent, now, spec, state, x, o, counts)


@kernel
def loop(spec: Spec, x: Operands, machine: Any) -> tuple[int, int, int]:
    """The agents in the compiled engine."""
    return run(step, spec, x, machine)


# --- Function ---------------------------------------------------------------------------------------------------------


class Spikes(NamedTuple):
    """Input words uint16 [positions, C], the positions below each row's kernel int64 [M, taps] (-1: padding), and the
    weights int16 [taps * C, N] in the order (kernel position, channel)."""

    words: NDArray[np.uint16]
    taps: NDArray[np.int64]
    weights: NDArray[np.int16]


def spikes_of(layer: Layer) -> Spikes:
    """The layer's operands as the machine sees them; a linear layer has one position a row."""
    weights = bitmask.decode(layer.weights, layer.k)
    feature_map = layer.feature_map
    if feature_map is None:
        words = packed_time.decode(layer.inputs, layer.k)
        return Spikes(words, np.arange(layer.m)[:, None], np.ascontiguousarray(weights.T))
    images, channels, height, width = feature_map.words.shape
    numbers = np.arange(1, images * height * width + 1).reshape(images, 1, height, width)
    taps = packed_time.unroll(numbers, feature_map.kernel, feature_map.stride, feature_map.padding) - 1
    words = np.moveaxis(feature_map.words, 1, -1).reshape(-1, channels)
    by_tap = weights.reshape(layer.n, channels, -1).transpose(2, 1, 0).reshape(-1, layer.n)
    return Spikes(np.ascontiguousarray(words), np.ascontiguousarray(taps), np.ascontiguousarray(by_tap))


@njit
def merge(words: Any, taps: Any, timesteps: int, first: Any, weight_row: Any, ticks: Any) -> None:
    """Spikes of all rows of ``taps``, sorted by tick, then list, then channel, as min-find takes them: the first list
    of those with the earliest head. ``first`` int64 [rows + 1] must hold where each row begins."""
    channels = words.shape[1]
    for row in range(len(taps)):
        place = first[row]
        for t in range(timesteps):
            for tap in range(taps.shape[1]):
                position = taps[row, tap]
                if position < 0:
                    continue
                for channel in range(channels):
                    if (words[position, channel] >> t) & 1:
                        weight_row[place] = tap * channels + channel
                        ticks[place] = t
                        place += 1


def merged(spikes: Spikes, first: int, end: int, timesteps: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Spikes of rows ``first`` to ``end`` in order: where each row begins, rows of weights, ticks."""
    in_position = np.bitwise_count(spikes.words).sum(1, dtype=np.int64)
    taps = spikes.taps[first:end]
    per_row = np.where(taps >= 0, in_position[taps], 0).sum(1)
    begins = np.concatenate(([0], np.cumsum(per_row)))
    weight_row, ticks = np.zeros(begins[-1], np.int32), np.zeros(begins[-1], np.int16)
    merge(spikes.words, taps, timesteps, begins, weight_row, ticks)
    return begins, weight_row, ticks


@njit
def integrate(begins: Any, weight_row: Any, ticks: Any, weights: Any, bits: int, sums: Any) -> int:
    """Add the weights of one spike after the other; ``sums`` int64 [rows, N, T]; returns overflows of ``bits``."""
    rows, columns, _ = sums.shape
    limit = 1 << (bits - 1)
    overflows = 0
    total = np.zeros(columns, np.int64)
    for row in range(rows):
        for spike in range(begins[row], begins[row + 1]):
            tick, selected = ticks[spike], weight_row[spike]
            for n in range(columns):
                total[n] += weights[selected, n]
                overflows += int(not -limit <= total[n] < limit)
            if spike + 1 == begins[row + 1] or ticks[spike + 1] != tick:
                sums[row, :, tick] = total
                total[:] = 0
    return overflows


# --- The machine ------------------------------------------------------------------------------------------------------


class SpinalFlow(Accelerator):
    """SpinalFlow (ISCA 2020): time-sorted spikes, one a cycle, membrane potentials that stay in 128 elements."""

    name: ClassVar[str] = "spinalflow"
    Config: ClassVar[type[MachineConfig]] = SpinalFlowConfig
    tensors: ClassVar[tuple[str, ...]] = TENSORS
    actions: ClassVar[int] = ACTIONS
    step: ClassVar[Any] = step
    loop: ClassVar[Any] = loop
    config: SpinalFlowConfig

    @property
    def sum_bits(self) -> int:
        """The accumulator holds the full sum of a tick."""
        return self.config.pe.accumulator_bits

    @property
    def spike_bits(self) -> int:
        """Bits of a spike in its list: tick, and which of the 128 channels."""
        return self.config.format.time_bits + (self.config.pe.count - 1).bit_length()

    def inventory(self) -> Sequence[Component]:
        """Elements with their neurons, merger and its buffer, output queue, and LoAS's memories, switches and wires.

        What LoAS broadcasts to elements goes from a bank to the merger here, so the bus has one receiver.
        """
        config, pes = self.config, self.config.pe.count
        lanes, banks = config.memory.read_switch.inputs, config.memory.cache.banks
        element: dict[str, int | float | str] = {
            "block": "spinalflow_pe",
            "accumulator_bits": config.pe.accumulator_bits,
        }
        return (
            Component("pe", "logic", pes, element),
            Component("merger", "logic", 1, {"block": "spike_merger", "spike_bits": self.spike_bits}),
            ram("spike_buffer", 1, config.merger.buffer_kib * 1024, BUFFER_WORD * 8),
            Component("drain", "flip_flops", 1, {"bits": pes, "width_bits": self.spike_bits}),
            Component("scheduler", "logic", 1, {"block": "scheduler"}),
            Component("others", "logic", 1, {"block": "others", "pes": lanes, "banks": banks}),
            *memory_components(config.memory, 1),
        )

    def add_up(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Spikes one after the other; counts overflows of the real accumulator within a tick."""
        spikes = spikes_of(layer)
        sorted_spikes = merged(spikes, first, first + len(sums), layer.timesteps)
        overflows = integrate(*sorted_spikes, spikes.weights, self.config.pe.accumulator_bits, sums)
        words = self._words(spikes.taps[first : first + len(sums)], self._list_bytes(spikes.words))
        return {
            "accumulator_overflows": int(overflows),
            "positions_larger_than_buffer": int((words > self.config.merger.buffer_words).sum()),
        }

    def _list_bytes(self, words: NDArray[np.uint16]) -> NDArray[np.int64]:
        """Bytes of the lists of every input position: a pointer for 128 channels, and the spikes."""
        spikes = np.bitwise_count(words).sum(1, dtype=np.int64)
        size: NDArray[np.int64] = self._tiles(words.shape[1]) * self._pointer + -(-spikes * self.spike_bits // 8)
        return size

    @staticmethod
    def _words(taps: NDArray[np.int64], list_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Words of the spike buffer that the lists of every row take."""
        words: NDArray[np.int64] = np.where(taps >= 0, -(-list_bytes // BUFFER_WORD)[taps], 0).sum(1)
        return words

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Lists of 128 channels each, a pointer and the spikes."""
        return self._tiles(layer.n) * self._pointer + -(-spikes * self.spike_bits // 8)

    def _tiles(self, n: int) -> int:
        return -(-n // self.config.pe.count)

    @property
    def _pointer(self) -> int:
        return -(-self.config.format.pointer_bits // 8)

    def program(self, layer: Layer, output_bytes: NDArray[np.int64]) -> Program:
        """Place lists, weights and output in memory one after the other and resolve the machine to integers.

        Of the output only the bytes of whole rows are known, so a row's spikes are shared out evenly over its tiles.
        """
        config, cache = self.config, self.config.memory.cache
        spikes, tiles, pes = spikes_of(layer), self._tiles(layer.n), self.config.pe.count
        begins, weight_row, ticks = merged(spikes, 0, layer.m, layer.timesteps)
        before, after = boundaries(begins, ticks, layer.timesteps)
        inputs = spikes.weights.shape[0]
        list_bytes = self._list_bytes(spikes.words)
        buffered = np.minimum(self._words(spikes.taps, list_bytes), config.merger.buffer_words)
        widths = np.minimum(pes, layer.n - pes * np.arange(tiles))
        lists = placement.interleaved(list_bytes, cache.line_bytes)
        weights = placement.interleaved(inputs * -(-widths * config.pe.weight_bits // 8), cache.line_bytes, lists.free)
        fires = layer.neuron is not None or layer.expected is None
        if fires:
            values = (output_bytes - tiles * self._pointer) * 8 // self.spike_bits
            drained = np.stack([(values * (i + 1)) // tiles - (values * i) // tiles for i in range(tiles)])
            stored = self._pointer + -(-drained * self.spike_bits // 8)
        else:
            drained = np.broadcast_to(widths[:, None] * layer.timesteps, (tiles, layer.m))
            stored = drained * -(-self.sum_bits // 8)
        output = placement.interleaved(stored.ravel(), cache.line_bytes, weights.free)
        lanes = config.memory.read_switch.inputs
        spec = Spec(
            pes=pes,
            m=layer.m,
            n=layer.n,
            timesteps=layer.timesteps,
            tiles=tiles,
            taps=spikes.taps.shape[1],
            lanes=lanes,
            boundary=config.neuron.cycles,
            merge=config.merger.cycles,
            rows_ahead=config.merger.rows_ahead,
            buffer_words=config.merger.buffer_words,
            drain=config.drain.cycles_per_spike,
            weight_bits=config.pe.weight_bits,
            line_bytes=cache.line_bytes,
            line_shift=cache.line_bytes.bit_length() - 1,
            beat_shift=(cache.width_bits // 8).bit_length() - 1,
            fetch_lines=min(cache.mshrs, 16),
        )
        operands = Operands(
            begins, weight_row, after, before, spikes.taps, buffered, lists.line, list_bytes, weights.line,
            output.line, np.ascontiguousarray(stored.ravel(), np.int64),
            np.ascontiguousarray(drained.ravel(), np.int64),
        )  # fmt: skip
        row_lines = -(-pes * config.pe.weight_bits // 8) // cache.line_bytes + 2
        topology = op.topology(
            [0] + [row_lines] * lanes + [spec.fetch_lines] * 2,
            [OWN_PATH, *range(lanes), OWN_PATH, 0],
            [
                (config.drain.positions, 0, 1),
                (config.merger.buffer_words, config.merger.buffer_words, 1),
                (config.merger.rows_ahead, 0, lanes),
                *[(config.pe.weight_buffer, 0, 1)] * lanes,
            ],
            [],
        )
        units = (
            Unit("array", 0, 1, 1),
            Unit("reader", 1, lanes, lanes),
            Unit("merger", lanes + 1, 1, 1),
            Unit("drain", lanes + 2, 1, 1),
        )
        state = np.zeros((len(topology.request_slots), LANE + 1), np.int64)
        return Program(spec, operands, topology, state, units)

    def count_actions(
        self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Every spike passes buffer and merger once a tile and is added by the tile's elements."""
        merged_bits = int(counts[SPIKES]) * self.spike_bits
        fires = layer.neuron is not None or layer.expected is None
        return {
            ("pe", "add"): int(counts[ADDITIONS]),
            ("pe", "update"): int(counts[UPDATES]) if fires else 0,
            ("merger", "spike"): int(counts[SPIKES]),
            ("spike_buffer", "write"): -(-merged_bits // 128),
            ("spike_buffer", "read"): -(-merged_bits // 128),
            ("drain", "write"): int(counts[DRAINED]),
            ("scheduler", "step"): int(counts[POSITIONS]),
            ("broadcast", "transfer"): int(counts[LIST_BEATS]),
        }

    @property
    def processing_elements(self) -> int:
        """Output neurons of a position at a time."""
        return self.config.pe.count

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Additions of the weights of a spike, zero or not."""
        return int(counts[ADDITIONS])

    def working_cycles(
        self, layer: Layer, program: Program, counts: NDArray[np.int64], times: NDArray[np.int64]
    ) -> int:
        """An element works in the cycles in which it adds: not where the tile has no channel for it, not while neurons
        leak and fire."""
        return int(counts[ADDITIONS])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """One spike a cycle and all tick boundaries, in every tile."""
        spec = program.spec
        cycles: int = spec.tiles * (int(program.operands.first[-1]) + spec.m * spec.timesteps * spec.boundary)
        return cycles

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """The lists below any kernel, and all weights of the inputs that spike at all."""
        x, size = program.operands, self.config.pe.weight_bits
        tiles = range(program.spec.tiles)
        row: int = sum(-(-min(program.spec.pes, layer.n - tile * program.spec.pes) * size // 8) for tile in tiles)
        return int(x.list_bytes[np.unique(x.taps[x.taps >= 0])].sum()) + len(np.unique(x.weight_row)) * row


def boundaries(
    begins: NDArray[np.int64], ticks: NDArray[np.int16], timesteps: int
) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    """Tick boundaries before the first spike of every row, int64 [rows], and after every spike, int16."""
    last = begins[1:][np.diff(begins) > 0] - 1
    following = np.roll(ticks, -1)
    following[last] = timesteps
    before = np.full(len(begins) - 1, timesteps, np.int64)
    occupied = np.diff(begins) > 0
    before[occupied] = ticks[begins[:-1][occupied]]
    return before, (following - ticks).astype(np.int16)
