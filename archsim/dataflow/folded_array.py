"""Machines around an array whose operands enter at the edges: a layer is a list of *folds*, run by the same agents.

A fold is one filling of the array: load a stationary operand or none, stream steps, hand the sums on. What is in a
fold, and in which order folds come, is the machine's (:mod:`archsim.dataflow.folded_schedule`). The output-stationary
order, which all of them have, is

    for tile of groups:                 their inputs stay in the cache
        for R columns of B:             weights of these R neurons stay in the cache
            for group in tile:          as many output positions as the array's columns hold
                for block:              timesteps that do not fit beside each other
                    fold                stream, hand the sums on; neurons fire

Potentials stay in the neuron units between the blocks of a group. Partial sums, where folds share a sum, wait in the
cache (written as dirty lines, so they spill to DRAM if they do not fit), and an adder takes one per column and cycle
from that cycle on in which those of a block are there; what leaves the array behind it waits. Products of one
operation that do not wait for each other are one list of folds, so that G of them take G times the cycles of one. A
piece of an operation that goes on where another ended (:mod:`archsim.dataflow.pieces`) begins with its state: the
writer reads that of a fold's neurons before their first sum.

Operands lie in memory as they enter the array, packed step after step; software and the machine itself write them so.
Agents: the array; a feeder an edge, which fills a double-buffered operand buffer line by line; the lanes of a fetcher
an edge, a DMA that brings a fold's operand into the cache before its first use; the writer (accumulators and neuron
units at the columns' ends), which writes a row when all its neurons are done; a reader of partial sums. They meet at
these FIFOs:

    fetcher <-- credit -- feeder -- load --> array -- block of sums --> writer <-- partial sums -- reader
                          feeder <-- credit -- array                    writer -- written --> reader

All have paths of their own to the banks, an edge one as wide as the array; banks, MSHRs and channels are contended.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress import bitmask, packed_time
from archsim.dataflow.base import MOST_TIMESTEPS, MachineConfig, memory_components
from archsim.dataflow.folded_schedule import (
    INPUT,
    TENSORS,
    ArrayConfig,
    Edge,
    Placing,
    Products,
    Schedule,
    Slots,
    Table,
    one_behind_the_other,
)
from archsim.dataflow.layer import Layer
from archsim.dataflow.layer_machine import Computed, LayerMachine
from archsim.dataflow.machine import BURST_LINES, Program
from archsim.dataflow.parts import in_flight, stream, turns
from archsim.dataflow.pieces import products_of
from archsim.hardware.agent import Agent, Operations, op
from archsim.hardware.compute.systolic_array import add_in_order
from archsim.hardware.diagram import Diagram, Fifo
from archsim.hardware.inventory import Component
from archsim.hardware.memory.placement import Placer, Tensor
from archsim.hardware.operation import CACHED_WRITE, CONSUME, PREFETCH, STREAM_READ, STREAM_WRITE
from archsim.trace import Operation, Trace

# --- Operands ---------------------------------------------------------------------------------------------------------


class EdgeFifos(NamedTuple):
    """FIFOs of an edge: a ``load`` for each operand buffer that is filled, ``free`` ones, folds that the fetcher may
    fetch."""

    load: Fifo
    free: Fifo
    fetch: Fifo


class Operands(NamedTuple):
    """The folds (FOLD), their operands, partial sums (a fiber for each block) and rows of the output.

    ``inputs`` int64 are the inputs k in the order in which they enter, those of slot s from ``slot[s]`` on; both are
    empty if all K enter. ``cycles`` int64 of every load, where that is not the steps. ``taken`` is what neurons go on
    with, those of a fold from line ``state[fold]`` int64 [folds + 1] on; behind their last sum they work for ``late``
    cycles int64 [folds]. ``needed`` as in the schedule.
    """

    fold: Table
    west: Edge
    north: Edge
    slot: NDArray[np.int64]
    inputs: NDArray[np.int64]
    cycles: NDArray[np.int64]
    psum: Tensor
    output: Tensor
    taken: Tensor
    state: NDArray[np.int64]
    late: NDArray[np.int64]
    needed: int


# --- Agents -----------------------------------------------------------------------------------------------------------

(
    ADDS, WEIGHT_SHIFTS, SPIKE_SHIFTS, SUM_SHIFTS, STEPS_DONE, MOVED_BEATS, SUMS_FINISHED, PARTIAL_ADDS, FOLDS_DONE,
) = range(9)  # fmt: skip


def array(a: Agent, m: Any, x: Operands) -> Operations:
    """Load the stationary operand or none, stream, hand the sums on: block by block, or all behind the last step."""
    for fold in range(m.folds):
        a.count[FOLDS_DONE] += 1
        a.count[ADDS] += x.fold[fold].added
        if m.stationary:
            shift(a, m, x.north.tensor.row, m.config.pe.rows)
            yield op(pop=m.north.load.port, compute=m.config.pe.rows, push=m.north.free.fifo)
        loads, sent = x.west.fold[fold].loads, 0
        blocks = loads if m.stationary else 1
        for load in range(loads):
            if not m.stationary:
                yield op(pop=m.north.load.port)
            steps = min(m.config.pe.buffer_steps, x.fold[fold].steps - load * m.config.pe.buffer_steps)
            cycles = x.cycles[x.fold[fold].entry + load] if m.timed else steps * m.ticks
            shift_in(a, m, x, steps, cycles)
            yield op(pop=m.west.load.port, compute=cycles, push=m.west.free.fifo)
            behind = (load - sent) * m.config.pe.buffer_steps - m.skew
            if load + 1 < blocks and behind >= 0:
                yield op(push=m.sums.fifo, value=a.now - behind)
                sent += 1
        shift_out(a, m, x, x.fold[fold].tail)
        end = a.now + x.fold[fold].tail
        for block in range(sent, blocks):
            behind = max(0, (blocks - 2 - block) * m.config.pe.buffer_steps + steps)
            yield op(compute=x.fold[fold].tail if block == sent else 0, push=m.sums.fifo, value=end - behind)


def shift(a: Agent, m: Any, tensor: int, cycles: int) -> None:
    """Every PE hands an operand on: a spike in each of ``cycles``, a weight in each of their steps."""
    if tensor == INPUT:
        a.count[SPIKE_SHIFTS] += cycles * m.pes
    else:
        a.count[WEIGHT_SHIFTS] += (cycles + m.ticks - 1) // m.ticks * m.pes


def shift_in(a: Agent, m: Any, x: Operands, steps: int, cycles: int) -> None:
    """Count what passes through the array in one load of a fold."""
    a.count[STEPS_DONE] += steps
    shift(a, m, x.west.tensor.row, steps * m.ticks)
    if m.stationary:
        a.count[SUM_SHIFTS] += cycles * m.pes
    else:
        shift(a, m, x.north.tensor.row, cycles)


def shift_out(a: Agent, m: Any, x: Operands, tail: int) -> None:
    """Count what passes through the array behind the last step of a fold."""
    shift(a, m, x.west.tensor.row, m.skew)
    if m.stationary:
        a.count[SUM_SHIFTS] += tail * m.pes
    else:
        shift(a, m, x.north.tensor.row, m.skew)
        a.count[SUM_SHIFTS] += (tail - m.skew) * m.pes


def west_feeder(a: Agent, m: Any, x: Operands) -> Operations:
    """Feed the operand that enters at the west, all of it or its listed inputs."""
    yield from feed(a, m, x, x.west, m.west, m.listed)


def north_feeder(a: Agent, m: Any, x: Operands) -> Operations:
    """Feed the operand that enters at the north, all of it."""
    yield from feed(a, m, x, x.north, m.north, False)


def feed(a: Agent, m: Any, x: Operands, edge: Edge, fifos: EdgeFifos, listed: bool) -> Operations:
    """Fill an edge's operand buffers, a load each, in turn, as soon as the array has emptied one.

    The fetcher may be ``prefetch_folds`` new operands ahead.
    """
    yield op(push=fifos.fetch.fifo, pushes=m.config.scheduler.prefetch_folds)
    for fold in range(m.folds):
        if edge.fold[fold].new:
            yield op(push=fifos.fetch.fifo)
        for load in range(edge.fold[fold].loads):
            if listed:
                read_inputs(a, m, x, fold, load)
            else:
                read_steps(a, m, edge, fold, load)
            a.count[MOVED_BEATS] += a.beats()
            yield op(pop=fifos.free.port, push=fifos.load.fifo)


def read_steps(a: Agent, m: Any, edge: Edge, fold: int, load: int) -> None:
    """Read a load of an edge's operand."""
    first, bits = load * edge.fold[fold].share, edge.fold[fold].bits
    end = min(first + edge.fold[fold].share, edge.fold[fold].steps)
    if first < end:
        first, end = edge.fold[fold].first + first * bits >> 3, edge.fold[fold].first + end * bits + 7 >> 3
        a.read(m.memory, edge.tensor, 0, first, end, edge.fold[fold].epoch)


def read_inputs(a: Agent, m: Any, x: Operands, fold: int, load: int) -> None:
    """Read what the listed inputs of one load need from the west, one input after the other; neighbours share an
    access."""
    begin = load * m.config.pe.buffer_steps
    end = min(x.fold[fold].steps, begin + m.config.pe.buffer_steps)
    first, last, start, bits = 0, 0, x.west.fold[fold].first, x.west.fold[fold].bits
    for i in range(x.slot[x.fold[fold].entry + begin], x.slot[x.fold[fold].entry + end]):
        next_first = start + x.inputs[i] * bits >> 3
        if next_first < first or next_first > last:
            a.read(m.memory, x.west.tensor, 0, first, last, x.west.fold[fold].epoch)
            first = next_first
        last = start + (x.inputs[i] + 1) * bits + 7 >> 3
    a.read(m.memory, x.west.tensor, 0, first, last, x.west.fold[fold].epoch)


def west_fetcher(a: Agent, m: Any, x: Operands) -> Operations:
    """Fetch what enters at the west."""
    yield from fetch_ahead(a, m, x.west, m.west)


def north_fetcher(a: Agent, m: Any, x: Operands) -> Operations:
    """Fetch what enters at the north."""
    yield from fetch_ahead(a, m, x.north, m.north)


def fetch_ahead(a: Agent, m: Any, edge: Edge, fifos: EdgeFifos) -> Operations:
    """Bring an edge's operands into the cache before their first use, as many folds ahead as the feeder lets it."""
    turn = 0
    for fold in range(m.folds if m.config.scheduler.prefetch_folds > 0 else 0):
        if edge.fold[fold].new:
            yield op(pop=fifos.fetch.port + a.me)
            end = edge.fold[fold].first + edge.fold[fold].steps * edge.fold[fold].bits + 7 >> 3
            first, epoch = edge.fold[fold].first >> 3, edge.fold[fold].epoch
            yield from in_flight(a, m, edge.tensor, 0, first, end, PREFETCH, epoch, turn)
            turn += turns(a, m, first, end)


def writer(a: Agent, m: Any, x: Operands) -> Operations:
    """Accumulators and neuron units: take the state of a piece before, add partial sums, fire, write the rows that are
    complete."""
    through = 0
    for fold in range(m.folds):
        blocks = x.west.fold[fold].loads if m.stationary else 1
        a.count[SUMS_FINISHED] += x.fold[fold].sums
        row = x.fold[fold].row
        for block in range(blocks):
            yield from take_state(a, m, x, fold, block, blocks)
            yield op(pop=m.sums.port)
            # Adders and neurons take a row of sums when it leaves and its partial sums are there, one behind the other.
            rows = steps_of(a, m, x, fold, block) if m.stationary else m.leaving
            through = max(through, a.value - rows + 1)
            if x.fold[fold].reads_psum:
                a.count[PARTIAL_ADDS] += rows * x.fold[fold].psums
                yield op(pop=m.psums.port)
                through = max(through, a.value)
            work = rows * (m.neuron_cycles - 1) if x.fold[fold].sums > 0 else 0
            through += rows + work
            busy = max(0, min(work, through - 1 - a.now)) + firing(a, x, fold, block, blocks)
            yield op(pause=max(0, through - 1 - a.now - work), compute=busy)
            if x.fold[fold].writes_psum:
                move_psums(a, m, x, fold, block, CACHED_WRITE)
                yield op(push=m.written.fifo)
            else:
                end = complete_rows(a, m, x, fold, block + 1, blocks)
                yield from write_rows(a, m, x, row, end)
                row = end


def take_state(a: Agent, m: Any, x: Operands, fold: int, block: int, blocks: int) -> Operations:
    """Read the state that a block's share of the neurons go on with."""
    first, lines = x.state[fold], x.state[fold + 1] - x.state[fold]
    first, end = first + lines * block // blocks, first + lines * (block + 1) // blocks
    first, end = first << m.memory.line_shift, end << m.memory.line_shift
    yield from stream(a, m, x.taken, 0, first, end, STREAM_READ, 0, m.memory.burst)


def firing(a: Agent, x: Operands, fold: int, block: int, blocks: int) -> int:
    """Cycles for the last row of a block, and for its share of the ``late`` ones of a fold."""
    return int((x.fold[fold].sums > 0) + x.late[fold] * (block + 1) // blocks - x.late[fold] * block // blocks)


def steps_of(a: Agent, m: Any, x: Operands, fold: int, block: int) -> int:
    """Steps of one block of a fold, a row of sums each."""
    return int(min(m.config.pe.buffer_steps, x.fold[fold].steps - block * m.config.pe.buffer_steps))


def move_psums(a: Agent, m: Any, x: Operands, fold: int, block: int, mode: int) -> None:
    """Read or write the partial sums of one block."""
    moved = steps_of(a, m, x, fold, block) * x.fold[fold].psums * m.psum_bytes
    a.access(m.memory, x.psum, block, 0, moved, mode, m.psum_epoch)
    a.count[MOVED_BEATS] += a.beats()


def complete_rows(a: Agent, m: Any, x: Operands, fold: int, block: int, blocks: int) -> int:
    """First row of the output that is not complete before block ``block`` of a fold leaves."""
    row, end = x.fold[fold].row, x.fold[fold].row_end
    streamed = block * m.config.pe.buffer_steps if m.spread else 0
    return int(end if block == blocks else row + streamed * (end - row) // x.fold[fold].steps)


def write_rows(a: Agent, m: Any, x: Operands, row: int, end: int) -> Operations:
    """Write rows of the output to DRAM, one behind the other, ``m.memory.burst`` lines at a time."""
    for written in range(row, end):
        size = x.output.size[written]
        a.count[MOVED_BEATS] += (size + (1 << m.memory.beat_shift) - 1) >> m.memory.beat_shift
        yield from stream(a, m, x.output, written, 0, size, STREAM_WRITE, 0, m.memory.burst)
    if row < end:
        yield op()


def psum_reader(a: Agent, m: Any, x: Operands) -> Operations:
    """Read partial sums back that the fold before has written, in the same order."""
    for fold in range(m.folds):
        if x.fold[fold].reads_psum:
            for block in range(x.west.fold[fold].loads):
                move_psums(a, m, x, fold, block, CONSUME)
                yield op(pop=m.written.port)
                yield op(push=m.psums.fifo, value=a.now)


# --- The machine ------------------------------------------------------------------------------------------------------


def dense_words(layer: Layer, first: int, rows: int) -> NDArray[np.uint16]:
    """Rows ``first`` on of A, packed timesteps [rows, K]."""
    inputs = layer.inputs
    start = inputs.start[first : first + rows]
    part = packed_time.PackedSpikes(inputs.mask[first : first + rows], start, inputs.words[start[0, 0] : start[-1, -1]])
    return packed_time.decode(part, layer.k)


def in_lines(folds: Table, row_bytes: NDArray[np.int64], line_bytes: int) -> NDArray[np.int64]:
    """Bytes of the lines of an output whose rows of ``row_bytes`` lie packed; ``folds`` write lines instead of rows."""
    behind = np.concatenate(([0], np.cumsum(row_bytes)))
    complete = behind // line_bytes
    complete[-1] = -(-behind[-1] // line_bytes)
    folds.row, folds.row_end = complete[folds.row], complete[folds.row_end]
    sizes: NDArray[np.int64] = np.diff(np.minimum(np.arange(complete[-1] + 1) * line_bytes, behind[-1]))
    return sizes


class ArrayMachine(LayerMachine):
    """What machines around a systolic array share."""

    Config: ClassVar[type[MachineConfig]] = ArrayConfig
    tensors: ClassVar[tuple[str, ...]] = TENSORS
    agents = array, west_feeder, north_feeder, west_fetcher, north_fetcher, writer, psum_reader
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {
        ("pe", "add"): ADDS, ("pe", "shift_weight"): WEIGHT_SHIFTS, ("pe", "shift_spike"): SPIKE_SHIFTS,
        ("pe", "shift_sum"): SUM_SHIFTS, "steps": STEPS_DONE, "partial_sums": PARTIAL_ADDS, "sums": SUMS_FINISHED,
        ("scheduler", "step"): FOLDS_DONE, ("broadcast", "transfer"): MOVED_BEATS,
    }  # fmt: skip
    config: Any

    @abstractmethod
    def placing(self, layer: Layer) -> Placing:
        """Which timesteps of which positions stand in the columns together."""

    @abstractmethod
    def schedule(self, layer: Layer) -> Schedule:
        """The layer as a list of folds."""

    def folds_of(self, layer: Layer) -> Schedule:
        """The same of a layer or of several products."""
        if not isinstance(layer, Products):
            return self.schedule(layer)
        schedules = [self.schedule(product) for product in layer.products]
        return one_behind_the_other(schedules, [product.m for product in layer.products])

    def timesteps_for(self, trace: Trace) -> int:
        """The array has no part for a timestep: it takes as many timesteps, or planes, as a word has bits."""
        return MOST_TIMESTEPS if self.takes_integers else super().timesteps_for(trace)

    def products(self, trace: Trace, operation: Operation, window: int) -> Iterator[Layer]:
        """Products that do not wait for each other follow one another as folds of one schedule."""
        return (Products.of(together) for together in products_of(trace, operation, self.limits, window))

    def compute(self, layer: Layer, verify: bool) -> Computed:
        """Of several products, the rows of one behind those of the other."""
        if not isinstance(layer, Products):
            return super().compute(layer, verify)
        found = [super(ArrayMachine, self).compute(product, verify) for product in layer.products]
        mismatches = [one.mismatches for one in found if one.mismatches is not None]
        return Computed(
            np.concatenate([one.output_bytes for one in found]),
            sum(mismatches) if mismatches else None,
            {event: sum(one.events[event] for one in found) for event in found[0].events},
        )

    def places(self, layer: Layer) -> NDArray[np.int64]:
        """The place of every output position in the order in which groups take them, int64 [M]."""
        return np.arange(layer.m)

    def slots(self, layer: Layer) -> Slots | None:
        """Which inputs enter; None: all, in order."""
        return None

    @property
    def window(self) -> int:
        """Timesteps that a PE works through in every step, one per cycle."""
        return 1

    @property
    def weights_a_step(self) -> int:
        """Weights that enter a row of the array in a step."""
        return 1

    @property
    def adds_outside(self) -> bool:
        """Whether sums are added up behind the array too, by one accumulator per column."""
        return False

    def inventory(self) -> Sequence[Component]:
        """PEs, operand buffers, neuron units, and LoAS's memories.

        Nothing goes through crossbar switches, so there are none, and the crosspoints are those of the agents with a
        path of their own to the banks. What LoAS broadcasts goes from a bank to one edge here, so the bus has one
        receiver. Where an input of two comes with every weight, a PE and a column have a bit that says which.
        """
        config, pe = self.config, self.config.pe
        weight_bits, choice = self.weights_a_step * pe.weight_bits, self.weights_a_step - 1
        step_bits = pe.rows * weight_bits + pe.columns * (self.window + choice)
        buffer = {"bits": pe.buffers * pe.buffer_steps * step_bits, "width_bits": step_bits}
        block: dict[str, int | float | str] = {
            "block": "systolic_pe",
            "weight_register_bits": weight_bits,
            "spike_register_bits": 1 + choice,
            "accumulator_bits": pe.accumulator_bits,
            "sums": self.window,
        }
        accumulator = {"block": "accumulator", "accumulator_bits": pe.accumulator_bits}
        paths = {"block": "others", "pes": len(self.agents) - 1, "banks": config.memory.cache.banks}
        memory = memory_components(config.memory, 1)
        return (
            Component("pe", "logic", pe.rows * pe.columns, block),
            Component("operand_buffer", "flip_flops", 1, buffer),
            *([Component("accumulator", "logic", pe.columns, accumulator)] if self.adds_outside else []),
            Component("lif", "logic", pe.columns, {"block": "lif"}),
            Component("scheduler", "logic", 1, {"block": "scheduler"}),
            Component("others", "logic", 1, paths),
            *(component for component in memory if component.unit != "crossbar_switch"),
        )

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Weights of the inputs that spike, in the order in which inputs enter; counts overflows."""
        placing, slots = self.placing(layer), self.slots(layer)
        groups = -(-layer.m // placing.positions) * placing.blocks
        if slots is None:
            order, begin = np.arange(layer.k), np.zeros(groups, np.int64)
            end = np.full(groups, layer.k)
        else:
            order, entered = slots.inputs, slots.slot[slots.first]
            begin, end = entered[:-1], entered[1:]
        weights = np.ascontiguousarray(bitmask.decode(layer.weights, layer.k).T, np.int64)
        overflows = add_in_order(
            dense_words(layer, first, len(sums)), weights, order, begin, end,
            self.places(layer)[first : first + len(sums)] // placing.positions, placing.span, placing.blocks,
            self.config.pe.accumulator_bits, sums,
        )  # fmt: skip
        return {"accumulator_overflows": int(overflows)}

    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Operands]:
        """The operands, partial sums and the output in memory, one after the other.

        ``ticks`` cycles per step, or ``timed``: as many as listed for each load; ``skew`` cycles behind the last step
        until it has reached all PEs. ``listed``: the west operand is read input by input. ``leaving`` cycles in
        which the sums of a fold leave, where they stay in the array.
        """
        pe, schedule = self.config.pe, self.folds_of(layer)
        done, stationary, line_bytes = schedule.folds, schedule.stationary, memory.line_bytes
        if isinstance(layer, Products):
            output_bytes = in_lines(done, output_bytes, line_bytes)
        psum_bytes = -(-pe.accumulator_bits // 8)
        psum_lines = -(-pe.buffer_steps * int(done.psums.max()) * psum_bytes // line_bytes)
        blocks, nothing = int(schedule.west.fold.loads.max()), np.zeros(1, np.int64)
        state = np.concatenate((nothing, -(-np.cumsum(done.begun * layer.taken_bytes) // line_bytes)))
        slots = schedule.slots or Slots(nothing, nothing, nothing, nothing)
        west, north = (
            operand._replace(tensor=memory.place(operand.tensor.size)._replace(row=operand.tensor.row))
            for operand in (schedule.west, schedule.north)
        )
        operands = Operands(
            done, west, north, slots.slot, slots.inputs, nothing if schedule.cycles is None else schedule.cycles,
            psum=memory.place(np.full(blocks, psum_lines * line_bytes)), output=memory.place(output_bytes),
            taken=memory.place_again(state[-1:] * line_bytes),
            state=state,
            late=-(-done.ended * (layer.updates - layer.timesteps) // pe.columns) * self.config.neuron.cycles,
            needed=schedule.needed,
        )  # fmt: skip
        ticks = min(self.window, layer.timesteps)
        self._draw_agents(diagram, operands, schedule.slots, psum_lines, line_bytes)
        return {
            **self._draw_fifos(diagram, blocks, len(done.steps), stationary),
            "folds": len(done.steps),
            "ticks": ticks,
            "timed": schedule.cycles is not None,
            "pes": pe.rows * pe.columns,
            # Cycles until a step has reached all PEs; none where operands do not pass from PE to PE.
            "skew": pe.skew_cycles if schedule.cycles is None else 0,
            "listed": schedule.slots is not None,
            "stationary": stationary,
            "spread": schedule.spread,
            "psum_bytes": psum_bytes,
            "psum_epoch": max(len(done), *(int(operand.fold.epoch.max()) for operand in (west, north))),
            "leaving": pe.rows * ticks,
            "neuron_cycles": self.config.neuron.cycles,
        }, operands

    def _draw_agents(
        self, diagram: Diagram, x: Operands, slots: Slots | None, psum_lines: int, line_bytes: int
    ) -> None:
        """All have paths of their own to the banks."""

        def most_lines(edge: Edge) -> int:
            return (
                int((-(-np.minimum(edge.fold.share, edge.fold.steps) * edge.fold.bits // (8 * line_bytes))).max()) + 2
            )

        lines, west = self.config.memory.lines(BURST_LINES), most_lines(x.west)
        if slots is not None:
            together = int(np.diff(slots.slot).max(initial=1)) * self.config.pe.buffer_steps
            west = together * (-(-int(x.west.fold.bits.max()) // (8 * line_bytes)) + 2)
        diagram.agent(array)
        diagram.agent(west_feeder, requests=west)
        diagram.agent(north_feeder, requests=most_lines(x.north))
        diagram.agent(west_fetcher, lines.lanes, requests=lines.share)
        diagram.agent(north_fetcher, lines.lanes, requests=lines.share)
        diagram.agent(writer, requests=max(lines.burst, psum_lines))
        diagram.agent(psum_reader, requests=psum_lines)

    def _draw_fifos(self, diagram: Diagram, blocks: int, folds: int, stationary: bool) -> dict[str, Any]:
        """Where both operands stream, the array frees a buffer of both edges at once."""
        pe, fetches = self.config.pe, folds + self.config.scheduler.prefetch_folds
        lanes = self.config.memory.lines(BURST_LINES).lanes
        west_load, north_load = diagram.fifo(pe.buffers), diagram.fifo(pe.buffers)
        found = {
            "sums": diagram.fifo(pe.output_buffer),
            "psums": diagram.fifo(pe.output_buffer),
            "written": diagram.fifo(blocks + 1),
        }
        west_fetch, north_fetch = diagram.fifo(fetches, readers=lanes), diagram.fifo(fetches, readers=lanes)
        west_free = diagram.fifo(pe.buffers, full=True, readers=1 if stationary else 2)
        north_free = diagram.fifo(pe.buffers, full=True) if stationary else west_free.reader(1)
        return {
            **found,
            "west": EdgeFifos(west_load, west_free, west_fetch),
            "north": EdgeFifos(north_load, north_free, north_fetch),
        }

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Buffers, partial sums, and neurons if there are any."""
        return {
            ("operand_buffer", "write"): done["steps"],
            ("operand_buffer", "read"): done["steps"],
            **({("accumulator", "add"): done["partial_sums"]} if self.adds_outside else {}),
            ("lif", "update"): 0 if layer.rests else layer.m * layer.n * layer.updates,
        }

    @property
    def processing_elements(self) -> int:
        """PEs of the array."""
        pes: int = self.config.pe.rows * self.config.pe.columns
        return pes

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Additions in the PEs: of all inputs at every timestep, or of the spikes alone where not all inputs enter;
        weights of zero are added."""
        return int(counts[ADDS])

    def working_cycles(
        self, layer: Layer, program: Program, counts: NDArray[np.int64], times: NDArray[np.int64]
    ) -> int:
        """A PE works in the cycles in which it adds."""
        return int(counts[ADDS])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """All PEs add in every cycle."""
        return -(-int(counts[ADDS]) // self.processing_elements)

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """Lines of the inputs, and of the weights of those that enter."""
        line_bytes: int = program.spec.memory.line_bytes
        edges = program.operands.west, program.operands.north
        west, north = (-(-int(edge.tensor.size[0]) // line_bytes) * line_bytes for edge in edges)
        return (int(program.operands.needed) if program.spec.listed else west) + north
