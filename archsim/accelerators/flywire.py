"""A weight-stationary systolic array for one spike vector at a time, as built for a circuit of the fly's brain.

Every weight of a matrix-vector product is used once, so what counts is how fast weights come into the array. They lie
in a weight memory of some banks beside it; a PE has several weight buffers, which are loaded while the array works on
the tiles in the others:

    for pass of columns:                             as many as the weight memory holds; a boot loader writes it
        for position: for t in timesteps:
            take the vector of spikes, give the command
            for C columns: for R inputs:             a tile, in buffer (number of the tile) mod ``pe.weight_buffers``
                load the tile into its buffer, send a wave of spikes through it
            for column:                              when the last wave is through
                offer the sum, fire its neuron
            commit

    boot -- booted --> sequencer -- command --> loader -- filled --> waves -- finished --> collector
      <---- empty ------'  ^                       <---- free --------'                        |
                           '------------- committed ---- neuron unit <---- result, one -------'

A tile is loaded in L = R ceil(C / ``pe.weight_banks``) cycles. Its wave needs one cycle per PE along either side, so a
buffer is taken for L + R + C + ``pe.pipeline_cycles`` cycles. With ideal memory and a receiver that never stalls, W
buffers and G tiles, a vector takes

    1 + command_cycles + begin(G - 1) + L + R + C + pipeline_cycles + N neuron.cycles + neuron.pipeline_cycles
      + commit_cycles,    begin(g) = max(begin(g - 1) + L, begin(g - W) + L + R + C + pipeline_cycles).

A serial multiplier is an array of one PE, with a buffer for each cycle that its pipeline takes. Without neurons, sums
leave through the port of results; ``neuron.pipeline_cycles`` is nothing then.

A receiver may let results wait (:mod:`archsim.hardware.interconnect.receiver`).

Sources are in ``hwconfigs/flywire.yaml``; what differs from the circuit is in DEVIATIONS.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.dataflow.base import MachineConfig, ScheduledLayers, shared_components
from archsim.dataflow.layer import WEIGHTED, Layer
from archsim.dataflow.layer_machine import LayerMachine
from archsim.dataflow.machine import BURST_LINES, Program
from archsim.dataflow.parts import ask, store, take
from archsim.hardware.agent import Agent, Operations, op
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.diagram import Diagram
from archsim.hardware.fields import SumBits, WeightBits
from archsim.hardware.interconnect.receiver import ReceiverConfig
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block
from archsim.hardware.memory.placement import Placer, Tensor
from archsim.hardware.operation import STREAM_READ
from archsim.trace import Trace

# --- Configuration ----------------------------------------------------------------------------------------------------


class VectorPe(Block):
    """The array, and the memory that its weights come from."""

    rows: int = Field(ge=1, le=256, description="rows of PEs; each has another input")
    columns: int = Field(ge=1, le=256, description="columns of PEs; each makes another sum")
    weight_buffers: int = Field(ge=1, le=64, description="weight buffers of a PE: tiles that are loaded or at work")
    weight_banks: int = Field(ge=1, le=256, description="banks of the weight memory, each giving a weight per cycle")
    weight_memory_kib: int = Field(ge=1, le=65536, description="weight memory; more columns come in several passes")
    pipeline_cycles: int = Field(ge=0, le=64, description="register stages of a tile beside rows and columns")
    weight_bits: WeightBits = Field(description="bits of a weight")
    accumulator_bits: SumBits = Field(description="bits of a sum, sign included")


class PipelinedNeuron(LifConfig):
    """The neuron unit."""

    pipeline_cycles: int = Field(ge=0, le=64, description="register stages from a sum to the stored potential")


class VectorScheduler(ScheduledLayers):
    """What happens around a vector."""

    command_cycles: int = Field(ge=0, le=64, description="cycles from the vector of spikes until the array may begin")
    commit_cycles: int = Field(ge=0, le=64, description="cycles behind the last result until the next vector may come")


class FlywireConfig(MachineConfig):
    """A matrix-vector machine."""

    accelerator: Literal["flywire"] = Field(description="which machine this file describes")
    pe: VectorPe = Field(description="array and weight memory")
    neuron: PipelinedNeuron = Field(description="neuron unit")
    receiver: ReceiverConfig = Field(description="whoever takes results")
    scheduler: VectorScheduler = Field(description="order of the work")


# --- Operands ---------------------------------------------------------------------------------------------------------


class Operands(NamedTuple):
    """``columns`` and ``tiles`` [passes]; ``stalls`` [results] is how long the receiver lets each of them wait.

    A pass is a fiber of ``weights``, a vector one of ``spikes``; of ``output`` and ``taken``, pass after pass, what the
    neurons of a position write, and the state that they go on with.
    """

    columns: NDArray[np.int64]
    tiles: NDArray[np.int64]
    stalls: NDArray[np.int64]
    spikes: Tensor
    weights: Tensor
    output: Tensor
    taken: Tensor


# --- Agents -----------------------------------------------------------------------------------------------------------

TILES, UPDATES, WEIGHTS = range(3)


def wave(a: Agent, m: Any, x: Operands) -> Operations:
    """Send spikes through every tile of one weight buffer, which is free when they are through the last PE."""
    for vector in range(m.vectors * m.passes):
        tiles, tile = x.tiles[vector // m.vectors], a.me
        while tile < tiles:
            a.count[TILES] += 1
            yield op(pop=m.filled.port + a.me, compute=m.wave_cycles, push=m.free.fifo + a.me)
            if tile + 1 == tiles:
                yield op(push=m.finished.fifo)
            tile += m.config.pe.weight_buffers


def loader(a: Agent, m: Any, x: Operands) -> Operations:
    """Load tile after tile from the weight memory, each as soon as its buffer is free."""
    for vector in range(m.vectors * m.passes):
        yield op(pop=m.command.port)
        for tile in range(x.tiles[vector // m.vectors]):
            buffer = tile % m.config.pe.weight_buffers
            yield op(pop=m.free.port + buffer, compute=m.load_cycles, push=m.filled.fifo + buffer)


def sequencer(a: Agent, m: Any, x: Operands) -> Operations:
    """Take vector after vector of spikes and give the command; the next comes when all neurons are committed."""
    for part in range(m.passes):
        yield op(pop=m.booted.port)
        for vector in range(m.vectors):
            if vector % m.layer.timesteps == 0:
                yield from take(a, m, x.taken, part * m.layer.m + vector // m.layer.timesteps)
            a.read(m.memory, x.spikes, vector, 0, x.spikes.size[vector], 0)
            yield op()
            yield op(compute=m.config.scheduler.command_cycles, push=m.command.fifo)
            yield op(pop=m.committed.port)
        yield op(push=m.empty.fifo)


def collector(a: Agent, m: Any, x: Operands) -> Operations:
    """Offer the sums of a vector one after the other, when the last wave is through."""
    for vector in range(m.vectors * m.passes):
        yield op(pop=m.finished.port)
        for _column in range(x.columns[vector // m.vectors]):
            yield op(push=m.result.fifo)


def neuron_unit(a: Agent, m: Any, x: Operands) -> Operations:
    """Take a sum when the receiver is ready, fire its neuron; commit the vector."""
    result = 0
    for vector in range(m.vectors * m.passes):
        columns, more = x.columns[vector // m.vectors], 0
        if (vector + 1) % m.layer.timesteps == 0:
            more = columns * (m.layer.updates - m.layer.timesteps)
        a.count[UPDATES] += columns + more
        for _column in range(columns):
            yield op(pop=m.result.port, pause=x.stalls[result % len(x.stalls)], compute=m.config.neuron.cycles)
            result += 1
        last = m.flush_cycles + m.config.scheduler.commit_cycles
        yield op(pause=last, compute=more * m.config.neuron.cycles, push=m.committed.fifo)


def writer(a: Agent, m: Any, x: Operands) -> Operations:
    """Write the outputs of a position when all of its timesteps are committed."""
    for fiber in range(m.passes * m.layer.m):
        yield op(pop=m.stored.port, pops=m.layer.timesteps)
        yield from store(a, m, x.output, fiber)


def boot(a: Agent, m: Any, x: Operands) -> Operations:
    """Bring the weights of a pass from DRAM and write one a cycle into the weight memory, when it is empty."""
    for part in range(m.passes):
        yield op(pop=m.empty.port)
        begin, end = 0, x.weights.size[part]
        while begin < end:
            stop = ask(a, m, x.weights, part, begin, end, STREAM_READ, part, m.memory.burst)
            weights = (stop - begin) * 8 // m.config.pe.weight_bits
            a.count[WEIGHTS] += weights
            yield op(compute=weights)
            begin = stop
        yield op(push=m.booted.fifo)


# --- The machine ------------------------------------------------------------------------------------------------------


class Flywire(LayerMachine):
    """FlyWire on FPGA (2026): 4 x 4 weight-stationary array for one vector, weight buffers loaded while it works."""

    name: ClassVar[str] = "flywire"
    Config: ClassVar[type[MachineConfig]] = FlywireConfig
    tensors: ClassVar[tuple[str, ...]] = ("input", "weight", "output")
    agents = wave, loader, sequencer, collector, neuron_unit, writer, boot
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {
        "tiles": TILES, ("lif", "update"): UPDATES, ("weight_memory", "write"): WEIGHTS,
    }  # fmt: skip
    config: FlywireConfig

    @property
    def processing_elements(self) -> int:
        """PEs; each multiplies a weight by an input and adds it."""
        return self.config.pe.rows * self.config.pe.columns

    @property
    def weights_held(self) -> int:
        """Weights that the weight memory holds."""
        return self.config.pe.weight_memory_kib * 1024 * 8 // self.config.pe.weight_bits

    def unsupported(self, trace: Trace) -> Sequence[str]:
        """One column of the array must fit the weight memory."""
        deepest = max((layer.k for layer in self.layers(trace) if layer.op in WEIGHTED), default=0)
        needed = -(-deepest * self.config.pe.columns * self.config.pe.weight_bits // 8192)
        if needed <= self.config.pe.weight_memory_kib:
            return ()
        return (
            f"pe.weight_memory_kib: the trace has a layer of {deepest} inputs, whose weights for "
            f"{self.config.pe.columns} columns take {needed} KiB, the machine has {self.config.pe.weight_memory_kib}; "
            f"--set pe.weight_memory_kib={needed} builds a machine that can",
        )

    def inventory(self) -> Sequence[Component]:
        """PEs with their weight buffers, the weight memory, potentials and results, and LoAS's memory system."""
        config, pe = self.config, self.config.pe
        block: dict[str, int | float | str] = {
            "block": "systolic_pe", "accumulator_bits": pe.accumulator_bits, "sums": 1,
            "weight_register_bits": pe.weight_bits * pe.weight_buffers, "spike_register_bits": 1,
        }  # fmt: skip
        banks = min(pe.weight_banks, pe.columns)
        return (
            Component("pe", "logic", self.processing_elements, block),
            Component("lif", "logic", 1, {"block": "lif"}),
            ram("weight_memory", banks, pe.weight_memory_kib * 1024 // banks, pe.weight_bits),
            *shared_components(config.memory, 1, 3),
        )

    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Operands]:
        """Cut the columns into passes that fit the weight memory, place operands, and draw the machine."""
        pe, burst = self.config.pe, self.config.memory.lines(BURST_LINES).burst
        held = max(1, self.weights_held // (layer.k * pe.columns)) * pe.columns
        ends = np.append(np.arange(0, layer.n, held), layer.n)
        columns = np.diff(ends)
        tiles = -(-columns // pe.columns) * -(-layer.k // pe.rows)
        vectors = layer.m * layer.timesteps
        stored = np.diff(output_bytes * ends[:, np.newaxis] // layer.n, axis=0)
        x = Operands(
            columns, tiles, self.config.receiver.stalls(vectors * layer.n),
            spikes=memory.place(np.full(vectors, -(-layer.k // 8))),
            weights=memory.place(-(-layer.k * columns * pe.weight_bits // 8)),
            output=memory.place(stored),
            taken=memory.place_again(np.repeat(columns * layer.taken_bytes, layer.m)),
        )  # fmt: skip
        diagram.agent(wave, pe.weight_buffers, name="array")
        diagram.agent(loader)
        diagram.agent(sequencer, requests=max(burst, -(-layer.k // 8) // memory.line_bytes + 2), lanes=[0])
        diagram.agent(collector)
        diagram.agent(neuron_unit)
        diagram.agent(writer, requests=burst, lanes=[0])
        diagram.agent(boot, requests=burst, lanes=[0])
        committed = diagram.fifo(layer.timesteps + 1, readers=2)
        load_cycles = pe.rows * -(-pe.columns // pe.weight_banks)
        return {
            "filled": diagram.fifo(1, count=pe.weight_buffers),
            "free": diagram.fifo(1, full=True, count=pe.weight_buffers),
            "command": diagram.fifo(1), "finished": diagram.fifo(2), "result": diagram.fifo(1),
            "committed": committed, "stored": committed.reader(1),
            "booted": diagram.fifo(1), "empty": diagram.fifo(1, full=True),
            "passes": len(columns), "vectors": vectors, "load_cycles": load_cycles,
            "wave_cycles": pe.rows + pe.columns + pe.pipeline_cycles,
            "flush_cycles": 0 if layer.rests else self.config.neuron.pipeline_cycles,
        }, x  # fmt: skip

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """Every PE reads and keeps one weight per tile, hands on spike and sum; a read-out's neurons do not fire."""
        places = done["tiles"] * self.processing_elements
        found = {
            ("weight_memory", "read"): places,
            **{("pe", action): places for action in ("add", "shift_weight", "shift_spike", "shift_sum")},
            ("scheduler", "step"): done["tiles"],
        }
        return {**found, ("lif", "update"): 0} if layer.rests else found

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Products of a weight and an input, zero or not; what fills up a tile is none."""
        return layer.m * layer.n * layer.k * layer.timesteps

    def working_cycles(
        self, layer: Layer, program: Program, counts: NDArray[np.int64], times: NDArray[np.int64]
    ) -> int:
        """A PE works in the cycle in which it adds a product of the layer."""
        return self.performed_operations(layer, counts, {})

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """Every tile is loaded, one after the other."""
        return int(counts[TILES]) * int(program.spec.load_cycles)

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """All weights, and all spikes."""
        return int(program.operands.weights.size.sum() + program.operands.spikes.size.sum())
