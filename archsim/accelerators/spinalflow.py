"""SpinalFlow: compressed, time-sorted spikes, one per cycle, to 128 output neurons (Narayanan et al., ISCA 2020).

The PEs are the output neurons of one output position, 128 channels of it at a time. The spikes of its receptive
field arrive sorted by time; each is broadcast, and every PE adds its own weight of that input to its membrane
potential, which never leaves it. All ticks of a layer are done before the next layer:

    for tile of 128 output channels:         their weights stay in the cache as far as they fit
        for m in rows:                       one output position
            for t in ticks:
                for spike of tick t:         merged from the sorted lists below the kernel, one per cycle
                    every PE: add its weight of this input
                leak and fire, all PEs at once
            drain the output spikes, one per cycle, beside the next position

Spikes are events whatever they encode: one for each neuron with temporal coding, as SpinalFlow assumes, or any number
with rate coding, as here; each costs a cycle. Weights are dense: a weight of zero is read and added.

Agents: the array, all of whose PEs do the same at the same time; ``pe.weight_buffer`` readers for each input of the
read switch, which take the spikes in turn and read their rows of weights (one weight for each PE) ahead of the array,
each into a place of its own, which is free again when the array has used the row; ``merger.rows_ahead`` list loaders,
which take the positions in turn and load their spike lists; the merger, which merges them (min-find) ahead of the
readers; the drain.

    list loaders -- lists --> merger -- row (to all) --> readers -- row of weights --> array -- position --> drain
                                                         readers <-- place is free --- array
    list loaders <-- room in the spike buffer ---------------------------------------- array

**Spike buffer.** Lists lie in it from when they are asked for until the array is through with their position, each in
whole words of ``BUFFER_WORD`` bytes. A position that is larger than all of it has it for itself and streams through;
the event ``positions_larger_than_buffer`` counts those.

Of a piece of an operation (:mod:`archsim.dataflow.pieces`) a tick is a plane, and the PEs load the potentials of a
position before its first spike.

A tick boundary takes ``neuron.cycles``, a spike one cycle, so with weights in time a layer takes

    sum over tiles and rows of  (spikes of the row + T neuron.cycles)   plus fill and drain.

In memory: a list for each input position and 128 channels: pointer, then ``time_bits`` and a channel number for each
spike, in order of time; and one row of weights for each input of the kernel, tile by tile, in the order (kernel
position, channel). Sources are in ``hwconfigs/spinalflow.yaml``; what is assumed in DEVIATIONS.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.compress import bitmask, packed_time
from archsim.dataflow.base import MachineConfig, ScheduledLayers, StreamingConfig, Timesteps, shared_components
from archsim.dataflow.layer import Layer
from archsim.dataflow.layer_machine import LayerMachine
from archsim.dataflow.machine import BURST_LINES, Program
from archsim.dataflow.parts import neuron_rows, stream, take
from archsim.hardware.agent import NONE, Agent, Operations, op
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.diagram import Diagram
from archsim.hardware.fields import SumBits, WeightBits
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block
from archsim.hardware.memory.placement import Placer, Tensor
from archsim.hardware.operation import BUS, CACHED_READ, SHARED
from archsim.jit import njit

BUFFER_WORD = 16
"""Bytes of one access of the spike buffer."""

# --- Configuration ----------------------------------------------------------------------------------------------------


class SpinalFlowPe(Block):
    """Processing elements, each with its membrane potential."""

    count: int = Field(ge=16, le=1024, description="PEs: output neurons of one position at a time")
    weight_buffer: int = Field(ge=1, le=64, description="rows of weights that come or wait at each switch input")
    weight_bits: WeightBits = Field(description="bits of a weight")
    accumulator_bits: SumBits = Field(description="bits of the accumulator, sign included")


class MergerConfig(Block):
    """Min-find over sorted spike lists."""

    cycles: int = Field(ge=0, le=64, description="cycles from loaded lists to the first spike; then one per cycle")
    rows_ahead: int = Field(
        ge=1, le=64, description="positions whose lists wait loaded, and as many whose lists arrive"
    )
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


class SpinalFlowConfig(StreamingConfig):
    """A SpinalFlow machine."""

    accelerator: Literal["spinalflow"] = Field(description="which machine this file describes")
    timesteps: Timesteps = Field(description="most timesteps that the machine is built for")
    pe: SpinalFlowPe = Field(description="processing elements")
    neuron: LifConfig = Field(description="leak and fire of all PEs at a tick's end")
    merger: MergerConfig = Field(description="merging of spike lists")
    drain: DrainConfig = Field(description="output queue")
    scheduler: SpinalFlowScheduler = Field(description="what is run")
    format: SpikeListConfig = Field(description="spike lists")


# --- Operands ---------------------------------------------------------------------------------------------------------


class Visits(NamedTuple):
    """What the array does in one visit after the other; the words are those of :class:`Operands`."""

    first: NDArray[np.int64]
    weight_row: NDArray[np.int32]
    after: NDArray[np.int16]
    before: NDArray[np.int64]


class Operands(NamedTuple):
    """Sorted spikes and where everything is in memory.

    A *visit* is a row of a tile, number ``tile * M + row``. Its spikes: ``first[visit]`` to ``first[visit + 1]``; each
    has the row of weights it selects, ``weight_row`` int32, and the tick boundaries between it and the next spike of
    the visit, ``after`` int16. ``before`` [visits]: those in front of the visit's first spike (T if it has none).
    ``taps`` int64 [M, taps] names the lists of a row, -1 for padding; all lists of a row take ``buffered`` words of the
    spike buffer. The output of a visit is the fiber of its number, of ``drained`` spikes (of a read-out: sums; with
    them, words of the state that a piece leaves); the same fiber of ``taken`` is the state that the PEs begin with.
    """

    first: NDArray[np.int64]
    weight_row: NDArray[np.int32]
    after: NDArray[np.int16]
    before: NDArray[np.int64]
    taps: NDArray[np.int64]
    buffered: NDArray[np.int64]
    drained: NDArray[np.int64]
    lists: Tensor
    weights: Tensor
    output: Tensor
    taken: Tensor


# --- Agents -----------------------------------------------------------------------------------------------------------

SPIKES, ADDITIONS, UPDATES, DRAINED, POSITIONS, LIST_BEATS = range(6)


def array(a: Agent, m: Any, x: Operands) -> Operations:
    """Add one spike's row of weights per cycle; leak and fire at each boundary of ticks. What potentials a piece before
    has left comes first."""
    place = 0
    for tile in range(m.tiles):
        width = min(m.config.pe.count, m.layer.n - tile * m.config.pe.count)
        for row in range(m.layer.m):
            visit = tile * m.layer.m + row
            a.count[POSITIONS] += 1
            a.count[UPDATES] += width * m.layer.updates
            yield from take(a, m, x.taken, visit)
            yield op(compute=x.before[visit] * m.config.neuron.cycles)
            for spike in range(x.first[visit], x.first[visit + 1]):
                a.count[SPIKES] += 1
                a.count[ADDITIONS] += width
                cycles = 1 + x.after[spike] * m.config.neuron.cycles
                yield op(pop=m.weight_rows.port + place, compute=cycles, push=m.places.fifo + place)
                place = place + 1 if place + 1 < m.readers else 0
            yield op(push=m.finished.fifo)
            yield op(push=m.room.fifo if x.buffered[row] > 0 else NONE, pushes=x.buffered[row])


def reader(a: Agent, m: Any, x: Operands) -> Operations:
    """Read the rows of weights of every ``m.readers``-th spike, each when the lists of its position are merged."""
    for tile in range(m.tiles):
        width = min(m.config.pe.count, m.layer.n - tile * m.config.pe.count)
        row_bytes = (width * m.config.pe.weight_bits + 7) >> 3
        for visit in range(tile * m.layer.m, (tile + 1) * m.layer.m):
            yield op(pop=m.merged.port + a.me)
            spike = x.first[visit] + (a.me - x.first[visit]) % m.readers
            while spike < x.first[visit + 1]:
                begin = x.weight_row[spike] * row_bytes
                a.read(m.memory, x.weights, tile, begin, begin + row_bytes, tile)
                yield op(pop=m.places.port + a.me, push=m.weight_rows.fifo + a.me)
                spike += m.readers


def list_loader(a: Agent, m: Any, x: Operands) -> Operations:
    """Load the spike lists of every ``rows_ahead``-th position, whole lines each, and find their first spike.

    Positions take their room in order, so that none waits for room that only those behind it can give back.
    """
    position, following = a.me, a.me + 1 if a.me + 1 < m.config.merger.rows_ahead else 0
    while position < m.tiles * m.layer.m:
        tile, row = position // m.layer.m, position % m.layer.m
        yield op(pop=m.turn.port + a.me)
        room = m.room.port if x.buffered[row] > 0 else NONE
        yield op(pop=room, pops=x.buffered[row], push=m.turn.fifo + following)
        for tap in range(m.taps):
            fiber = x.taps[row, tap]
            if fiber >= 0:
                a.count[LIST_BEATS] += (x.lists.size[fiber] + (1 << m.memory.beat_shift) - 1) >> m.memory.beat_shift
                yield from stream(a, m, x.lists, fiber, 0, x.lists.size[fiber], CACHED_READ, tile, m.memory.burst)
        yield op(compute=m.config.merger.cycles, push=m.loaded.fifo + a.me)
        position += m.config.merger.rows_ahead


def merger(a: Agent, m: Any, x: Operands) -> Operations:
    """Merge the lists of one position after the other, as soon as they are loaded."""
    place = 0
    for _position in range(m.tiles * m.layer.m):
        yield op(pop=m.loaded.port + place, push=m.merged.fifo)
        place = place + 1 if place + 1 < m.config.merger.rows_ahead else 0


def drain(a: Agent, m: Any, x: Operands) -> Operations:
    """Let the output spikes of a position out one after the other, write them to DRAM, and tell who joins them."""
    for fiber in range(m.tiles * m.layer.m):
        cycles = x.drained[fiber] * m.config.drain.cycles_per_spike
        a.count[DRAINED] += x.drained[fiber]
        yield from neuron_rows(a, m, x.output, fiber, m.finished.port, 1, 0, cycles, m.written.fifo)


# --- Function ---------------------------------------------------------------------------------------------------------


class Spikes(NamedTuple):
    """Input words uint16 [positions, C], the positions below each row's kernel int64 [M, taps] (-1: padding), and the
    weights int16 [taps * C, N] in the order (kernel position, channel)."""

    words: NDArray[np.uint16]
    taps: NDArray[np.int64]
    weights: NDArray[np.int16]


def spikes_of(layer: Layer) -> Spikes:
    """The layer's operands as the machine sees them; a linear layer has one position per row."""
    weights = bitmask.decode(layer.weights, layer.k)
    feature_map = layer.feature_map
    if feature_map is None:
        words = packed_time.decode(layer.inputs, layer.k)
        return Spikes(words, np.arange(layer.m)[:, None], np.ascontiguousarray(weights.T))
    images, channels, height, width = feature_map.words.shape
    numbers = np.arange(1, images * height * width + 1).reshape(images, 1, height, width)
    taps = feature_map.window.unroll(numbers) - 1
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


class SpinalFlow(LayerMachine):
    """SpinalFlow (ISCA 2020): time-sorted spikes, one per cycle, membrane potentials that stay in 128 PEs."""

    name: ClassVar[str] = "spinalflow"
    Config: ClassVar[type[MachineConfig]] = SpinalFlowConfig
    tensors: ClassVar[tuple[str, ...]] = ("input", "weight", "output")
    agents: ClassVar[tuple[Callable[..., Operations], ...]] = array, reader, list_loader, merger, drain
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {
        ("merger", "spike"): SPIKES, ("pe", "add"): ADDITIONS, ("pe", "update"): UPDATES, ("drain", "write"): DRAINED,
        ("scheduler", "step"): POSITIONS, ("broadcast", "transfer"): LIST_BEATS,
    }  # fmt: skip
    neuron_update: ClassVar[tuple[str, str]] = ("pe", "update")
    config: SpinalFlowConfig

    @property
    def spike_bits(self) -> int:
        """Bits of a spike in its list: tick, and which of the 128 channels."""
        return self.config.format.time_bits + (self.config.pe.count - 1).bit_length()

    def inventory(self) -> Sequence[Component]:
        """PEs with their neurons, rows of weights that wait, merger and its buffer, output queue, and LoAS's memories,
        switches and wires.

        A row of weights lies in banks of up to 512 bits' width side by side, and there are twice as many, so that one
        row is written while another is read.

        What LoAS broadcasts to PEs goes from a bank to the merger here, so the bus has one receiver.
        """
        config, pes, lanes = self.config, self.config.pe.count, self.config.memory.read_switch.inputs
        width = -(-pes * config.pe.weight_bits // self._row_banks)
        rows = lanes * config.pe.weight_buffer
        block: dict[str, int | float | str] = {
            "block": "spinalflow_pe", "accumulator_bits": config.pe.accumulator_bits,
        }  # fmt: skip
        return (
            Component("pe", "logic", pes, block),
            Component("merger", "logic", 1, {"block": "spike_merger", "spike_bits": self.spike_bits}),
            ram("weight_buffer", 2 * self._row_banks, -(-width // 8) * rows // 2, width),
            ram("spike_buffer", 1, config.merger.buffer_kib * 1024, BUFFER_WORD * 8),
            Component("drain", "flip_flops", 1, {"bits": pes, "width_bits": self.spike_bits}),
            *shared_components(config.memory, 1, lanes),
        )

    @property
    def _row_banks(self) -> int:
        """Banks that a row of weights lies in."""
        return -(-self.config.pe.count * self.config.pe.weight_bits // 512)

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
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
        spikes = self.spikes_in(words).sum(1, dtype=np.int64)
        size: NDArray[np.int64] = self._tiles(words.shape[1]) * self._pointer + -(-spikes * self.spike_bits // 8)
        return size

    def spikes_in(self, words: NDArray[np.uint16]) -> NDArray[Any]:
        """Spikes of every input word."""
        return np.bitwise_count(words)

    def visits(self, layer: Layer, spikes: Spikes, tiles: int) -> Visits:
        """What the array does: all spikes of a row, in every tile."""
        begins, weight_row, ticks = merged(spikes, 0, layer.m, layer.timesteps)
        before, after = boundaries(begins, ticks, layer.updates)
        first = (begins[:-1] + begins[-1] * np.arange(tiles)[:, None]).ravel()
        return Visits(
            np.append(first, tiles * begins[-1]), np.tile(weight_row, tiles), np.tile(after, tiles),
            np.tile(before, tiles),
        )  # fmt: skip

    @staticmethod
    def _words(taps: NDArray[np.int64], list_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Words of the spike buffer that the lists of every row take."""
        words: NDArray[np.int64] = np.where(taps >= 0, -(-list_bytes // BUFFER_WORD)[taps], 0).sum(1)
        return words

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Lists of 128 channels each, a pointer and the spikes."""
        return self._tiles(layer.n) * self._pointer + -(-spikes * self._entry_bits(layer) // 8)

    def _entry_bits(self, layer: Layer) -> int:
        """Bits of an output in its list: a spike, and what it is worth where neurons fire numbers."""
        return self.spike_bits + layer.beside_coordinate_bits

    def _tiles(self, n: int) -> int:
        return -(-n // self.config.pe.count)

    @property
    def _pointer(self) -> int:
        return -(-self.config.format.pointer_bits // 8)

    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Operands]:
        """Lists, weights and output in memory, one after the other.

        Of the output only the bytes of whole rows are known, so a row's spikes are shared out evenly over its tiles.
        """
        config, pes, lanes = self.config, self.config.pe.count, self.config.memory.read_switch.inputs
        spikes, tiles = spikes_of(layer), self._tiles(layer.n)
        visits = self.visits(layer, spikes, tiles)
        list_bytes, widths = self._list_bytes(spikes.words), np.minimum(pes, layer.n - pes * np.arange(tiles))
        buffered = np.minimum(self._words(spikes.taps, list_bytes), config.merger.buffer_words)
        if layer.writes_sums:
            drained = np.broadcast_to(widths[:, None] * layer.fired_timesteps, (tiles, layer.m))
            stored = drained * -(-self.sum_bits // 8)
        elif layer.fired_timesteps:
            entry_bits = self._entry_bits(layer)
            values = (output_bytes - layer.n * layer.left_bytes - tiles * self._pointer) * 8 // entry_bits
            drained = np.stack([(values * (i + 1)) // tiles - (values * i) // tiles for i in range(tiles)])
            stored = self._pointer + -(-drained * entry_bits // 8)
        else:
            drained = stored = np.zeros((tiles, layer.m), np.int64)
        drained = drained + widths[:, None] * -(-layer.left_bytes // self.limits.state_bytes)
        stored = stored + widths[:, None] * layer.left_bytes
        operands = Operands(
            *visits, spikes.taps, buffered, np.ascontiguousarray(drained.ravel(), np.int64),
            lists=memory.place(list_bytes),
            weights=memory.place(len(spikes.weights) * -(-widths * config.pe.weight_bits // 8)),
            output=memory.place(stored),
            taken=memory.place_again(np.repeat(widths * layer.taken_bytes, layer.m)),
        )  # fmt: skip
        burst, readers = config.memory.lines(BURST_LINES).burst, lanes * config.pe.weight_buffer
        rows_ahead, turn = config.merger.rows_ahead, diagram.fifo(1, full=True)
        diagram.fifo(1, count=rows_ahead - 1)
        row_lines = -(-pes * config.pe.weight_bits // 8) // memory.line_bytes + 2
        diagram.agent(array, requests=burst)
        diagram.agent(reader, readers, requests=row_lines, lanes=list(range(lanes)) * config.pe.weight_buffer)
        diagram.agent(list_loader, rows_ahead, requests=burst, lanes=[BUS] * rows_ahead)
        diagram.agent(merger)
        diagram.agent(drain, requests=burst, lanes=[0])
        return {
            "finished": diagram.fifo(config.drain.positions),
            "written": diagram.fifo(1, count=0),
            "turn": turn,
            "room": diagram.fifo(config.merger.buffer_words, full=True, readers=SHARED),
            "loaded": diagram.fifo(1, count=rows_ahead),
            "merged": diagram.fifo(rows_ahead, readers=readers),
            "weight_rows": diagram.fifo(1, count=readers),
            "places": diagram.fifo(1, full=True, count=readers),
            "tiles": tiles,
            "readers": readers,
            "taps": spikes.taps.shape[1],
        }, operands

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Every spike, and its row of weights, passes a buffer once per tile; the neurons of a read-out do not fire."""
        words = -(-done["merger", "spike"] * self.spike_bits // (8 * BUFFER_WORD))
        rows = done["merger", "spike"] * self._row_banks
        found = {
            ("spike_buffer", "write"): words, ("spike_buffer", "read"): words,
            ("weight_buffer", "write"): rows, ("weight_buffer", "read"): rows,
        }  # fmt: skip
        return {**found, ("pe", "update"): 0} if layer.rests else found

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
        """A PE works in the cycles in which it adds: not where the tile has no channel for it, not while neurons
        leak and fire."""
        return int(counts[ADDITIONS])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """One spike per cycle and all tick boundaries, in every tile."""
        boundaries = self._tiles(layer.n) * layer.m * layer.updates
        return int(program.operands.first[-1]) + boundaries * self.config.neuron.cycles

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """The lists below any kernel, and all weights of the inputs that spike at all."""
        x, pes = program.operands, self.config.pe.count
        row = sum(-(-min(pes, layer.n - n) * self.config.pe.weight_bits // 8) for n in range(0, layer.n, pes))
        return int(x.lists.size[np.unique(x.taps[x.taps >= 0])].sum()) + len(np.unique(x.weight_row)) * row


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
