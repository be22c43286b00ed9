"""Cores of time-multiplexed neurons: one adder and one neuron unit serve all neurons of a core, one after the other.

This is how small digital neuromorphic chips are built. A core has a memory of ``pe.axons`` x ``pe.neurons`` synapses
and one of potentials. Within a timestep, a *tick*, ``scheduler.outer_loop`` says which loop is outside:

    for group of channels: for position:             one core each; a group's synapses are loaded once
        for t in timesteps:
            events: for spike:                       accepted from the FIFO of events
                        for neuron: add a weight
                    for neuron: leak and fire        on the time reference, the last event of a tick
            neurons: for neuron:                     all that are built
                        for axon: add a weight if it spikes; leak and fire
        write the outputs of the position

    feeder -- spikes, time reference --> core -- finished --> drain            one of each for every core

``scheduler.convolution``: ``unrolled``, a core has the neurons of one position at a time, and an axon for each input
below the kernel; ``map``, it has those of all positions of an image, and a spike of the input goes to the R x S under
its kernel in each channel. On ideal memory, a core with N neurons in C channels takes for a tick

    events:   spikes (handshake_cycles + event_cycles + C (R (S synapse_cycles + kernel_row_cycles) + channel_cycles)
              + N scan_cycles) + tick_cycles + N neuron.cycles, and drained_cycles where there is a spike
    neurons:  tick_cycles + pe.neurons (pe.axons synapse_cycles + neuron.cycles), whatever spikes,

with R = S = 1 but for maps.

RANC's core goes through its neurons, tinyODIN through events, metr0jw's convolution through the events of a map: see
``hwconfigs/validation/``. Sources of the machine are in ``hwconfigs/neuron_core.yaml``; what is assumed in
DEVIATIONS.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.compress.coordinate import bits_of, spike_rows
from archsim.dataflow.base import MachineConfig, ScheduledLayers, shared_components
from archsim.dataflow.layer import WEIGHTED, Layer
from archsim.dataflow.layer_machine import LayerMachine
from archsim.dataflow.machine import BURST_LINES, Program
from archsim.dataflow.parts import store, stream, take
from archsim.hardware.agent import Agent, Operations, op
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.diagram import Diagram
from archsim.hardware.fields import Count, SumBits, WeightBits
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block, CrossFieldError
from archsim.hardware.memory.placement import Placer, Tensor
from archsim.hardware.operation import STREAM_READ
from archsim.jit import inlined
from archsim.trace import Trace

# --- Configuration ----------------------------------------------------------------------------------------------------


class Cores(Block):
    """Cores."""

    count: Count = Field(description="cores; each adds one weight at a time")
    neurons: int = Field(ge=1, le=1 << 20, description="neurons of a core")
    axons: int = Field(ge=1, le=65536, description="inputs of a core; each has a synapse on every neuron")
    synapses_per_word: int = Field(ge=1, le=64, description="synapses of an axon or a neuron that are read at once")
    weight_bits: WeightBits = Field(description="bits of a weight")
    accumulator_bits: SumBits = Field(description="bits of a sum, sign included")


class CoreScheduler(ScheduledLayers):
    """Order of the work in a core."""

    outer_loop: Literal["events", "neurons"] = Field(
        description="the outer loop: over the spikes of a tick, or over the neurons of the core"
    )
    convolution: Literal["unrolled", "map"] = Field(
        description="what a core has of a convolution at a time: one position, or all of an image"
    )
    event_fifo: int = Field(ge=1, le=65536, description="events that wait for a core")
    handshake_cycles: int = Field(ge=0, le=64, description="cycles of a core to accept a spike")
    event_cycles: int = Field(ge=0, le=64, description="cycles of a spike beside those of its synapses")
    synapse_cycles: int = Field(ge=1, le=64, description="cycles of a synapse, silent or not where neurons are outside")
    kernel_row_cycles: int = Field(ge=0, le=64, description="cycles of a spike from one row of the kernel to the next")
    channel_cycles: int = Field(ge=0, le=64, description="cycles of a spike from one channel to the next")
    scan_cycles: int = Field(ge=0, le=64, description="cycles of a neuron behind each spike, to see whether it fires")
    tick_cycles: int = Field(ge=0, le=64, description="cycles of a tick beside those of spikes and neurons")
    drained_cycles: int = Field(ge=0, le=64, description="cycles from a tick's last spike until its FIFO is seen empty")


class NeuronCoreConfig(MachineConfig):
    """A machine of time-multiplexed cores."""

    accelerator: Literal["neuron_core"] = Field(description="which machine this file describes")
    pe: Cores = Field(description="cores")
    neuron: LifConfig = Field(description="neuron unit of a core")
    scheduler: CoreScheduler = Field(description="order of the work")

    @model_validator(mode="after")
    def _maps_take_events(self) -> Self:
        if self.scheduler.outer_loop == "neurons" and self.scheduler.convolution == "map":
            raise CrossFieldError({"scheduler.convolution": "must be unrolled where scheduler.outer_loop is neurons"})
        return self


# --- Operands ---------------------------------------------------------------------------------------------------------


class Operands(NamedTuple):
    """``spikes`` [items, T] that a core accepts, ``added`` [items, T] weights of a channel, ``channels`` [groups].

    An item is a position, or an image. A group is a fiber of ``weights``, a tick of an item one of ``rows``; of
    ``output`` and ``taken``, group after group, what the neurons of an item write, and the state that they go on with.
    """

    spikes: NDArray[np.int64]
    added: NDArray[np.int64]
    channels: NDArray[np.int64]
    rows: Tensor
    weights: Tensor
    output: Tensor
    taken: Tensor


# --- Agents -----------------------------------------------------------------------------------------------------------

WORDS, ADDED, UPDATES, EVENTS, LOADED = range(5)
BY_EVENTS, BY_NEURONS = range(2)


def core(a: Agent, m: Any, x: Operands) -> Operations:
    """Load the synapses of a group; go through the ticks of every item that is this core's."""
    group = a.me // m.shares
    while group < m.groups:
        yield from stream(a, m, x.weights, group, 0, x.weights.size[group], STREAM_READ, 0, m.memory.burst)
        a.count[LOADED] += x.channels[group] * m.layer.k
        yield op()
        item = a.me % m.shares
        while item < m.items:
            yield from take(a, m, x.taken, group * m.items + item)
            for t in range(m.layer.timesteps):
                updates = 1 + m.layer.updates - m.layer.timesteps if t + 1 == m.layer.timesteps else 1
                a.count[UPDATES] += x.channels[group] * m.places * updates
                a.count[ADDED] += x.channels[group] * x.added[item, t]
                if m.config.scheduler.outer_loop == BY_EVENTS:
                    yield from by_events(a, m, x.channels[group], x.spikes[item, t], updates)
                else:
                    yield from by_neurons(a, m, updates)
            yield op(push=m.finished.fifo + a.me)
            item += m.shares
        group += m.stride


def by_events(a: Agent, m: Any, channels: int, spikes: int, updates: int) -> Operations:
    """Every spike goes through its synapses; then the time reference goes through all neurons, and they fire."""
    a.count[WORDS] += words(m, channels) * m.taps * spikes
    for _spike in range(spikes):
        yield op(pop=m.events.port + a.me, compute=m.config.scheduler.handshake_cycles)
        yield op(compute=channels * m.channel_cycles + m.config.scheduler.event_cycles)
    seen = m.config.scheduler.tick_cycles + m.config.scheduler.drained_cycles * (spikes > 0)
    yield op(pop=m.events.port + a.me, compute=seen)
    yield op(compute=updates * channels * m.places * m.config.neuron.cycles)


def by_neurons(a: Agent, m: Any, updates: int) -> Operations:
    """Every neuron goes through all axons, then fires."""
    yield op(pop=m.events.port + a.me, compute=m.config.scheduler.tick_cycles)
    a.count[WORDS] += m.config.pe.neurons * words(m, m.config.pe.axons)
    for _neuron in range(m.config.pe.neurons):
        yield op(compute=m.config.pe.axons * m.config.scheduler.synapse_cycles + updates * m.config.neuron.cycles)


@inlined
def words(m: Any, synapses: int) -> int:
    """Words of the synapse memory that hold so many synapses."""
    found: int = (synapses + m.config.pe.synapses_per_word - 1) // m.config.pe.synapses_per_word
    return found


def feeder(a: Agent, m: Any, x: Operands) -> Operations:
    """Read the spikes of every tick of the core's items; send them and the time reference to its FIFO."""
    group = a.me // m.shares
    while group < m.groups:
        item = a.me % m.shares
        while item < m.items:
            for t in range(m.layer.timesteps):
                tick = item * m.layer.timesteps + t
                a.read(m.memory, x.rows, tick, 0, x.rows.size[tick], 0)
                yield op()
                sent = 1 + x.spikes[item, t] * (m.config.scheduler.outer_loop == BY_EVENTS)
                a.count[EVENTS] += sent
                for _event in range(sent):
                    yield op(push=m.events.fifo + a.me)
            item += m.shares
        group += m.stride


def drain(a: Agent, m: Any, x: Operands) -> Operations:
    """Write the outputs of every item of the core."""
    group = a.me // m.shares
    while group < m.groups:
        item = a.me % m.shares
        while item < m.items:
            yield op(pop=m.finished.port + a.me)
            yield from store(a, m, x.output, group * m.items + item)
            item += m.shares
        group += m.stride


# --- The machine ------------------------------------------------------------------------------------------------------


class NeuronCore(LayerMachine):
    """Cores of time-multiplexed neurons, as in RANC and tinyODIN: one synapse at a time, by events or by neurons."""

    name: ClassVar[str] = "neuron_core"
    Config: ClassVar[type[MachineConfig]] = NeuronCoreConfig
    tensors: ClassVar[tuple[str, ...]] = ("input", "weight", "output")
    agents = core, feeder, drain
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {
        ("synapse_memory", "read"): WORDS, ("pe", "add"): ADDED, ("lif", "update"): UPDATES,
        ("scheduler", "step"): EVENTS, "loaded": LOADED,
    }  # fmt: skip
    config: NeuronCoreConfig

    @property
    def processing_elements(self) -> int:
        """Cores; each adds one weight at a time."""
        return self.config.pe.count

    def unsupported(self, trace: Trace) -> Sequence[str]:
        """The inputs of a neuron must fit the axons of a core; so must the positions of an image its neurons."""
        pe, found = self.config.pe, []
        layers = [layer for layer in self.layers(trace) if layer.op in WEIGHTED]
        most = max((layer.k for layer in layers), default=0)
        if most > pe.axons:
            found.append(
                f"pe.axons: the trace has a layer of {most} inputs, a core {pe.axons} axons; "
                f"--set pe.axons={most} builds a machine that can"
            )
        places = max((math.prod(layer.output_shape[1:]) for layer in layers if layer.op == "conv2d"), default=0)
        if self.config.scheduler.convolution == "map" and places > pe.neurons:
            found.append(
                f"pe.neurons: the trace has a layer of {places} positions, a core {pe.neurons} neurons; "
                f"--set pe.neurons={places} builds a machine that can"
            )
        return found

    def inventory(self) -> Sequence[Component]:
        """Cores with an adder, a neuron unit, synapses and potentials, and LoAS's memory system."""
        config, pe = self.config, self.config.pe
        synapses, potentials = pe.axons * pe.neurons * pe.weight_bits, pe.neurons * pe.accumulator_bits
        return (
            Component("pe", "logic", pe.count, {"block": "accumulator", "accumulator_bits": pe.accumulator_bits}),
            Component("lif", "logic", pe.count, {"block": "lif"}),
            ram("synapse_memory", pe.count, -(-synapses // 8), pe.synapses_per_word * pe.weight_bits),
            ram("potential_memory", pe.count, -(-potentials // 8), pe.accumulator_bits),
            *shared_components(config.memory, pe.count, pe.count),
        )

    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Addresses of spikes where events are outside, else one bit for each neuron and timestep."""
        if self.config.scheduler.outer_loop == "neurons":
            return super().output_bytes(layer, active, spikes)
        return -(-spikes * (bits_of(layer.n) + layer.beside_coordinate_bits) // 8)

    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Operands]:
        """Give every core a group of channels, and items where there are more cores than groups."""
        pe, scheduler = self.config.pe, self.config.scheduler
        mapped = layer.feature_map if scheduler.convolution == "map" else None
        items, (rows, columns) = (layer.m, (1, 1)) if mapped is None else (len(mapped.words), mapped.window.kernel)
        places = layer.m // items
        ends = np.append(np.arange(0, layer.n, pe.neurons // places), layer.n)
        channels = np.diff(ends)
        shares = min(items, max(1, pe.count // len(channels)))
        used = min(pe.count, shares * len(channels))
        added = np.diff(spike_rows(layer.inputs, layer.timesteps).start).reshape(items, places, layer.timesteps).sum(1)
        spikes, inputs = added, layer.k
        if mapped is not None:
            inputs = mapped.words[0].size
            fires = mapped.words.reshape(items, inputs, 1) >> np.arange(layer.timesteps) & 1
            spikes = fires.sum(1, dtype=np.int64)
        bits = spikes * bits_of(inputs) if scheduler.outer_loop == "events" else np.full_like(spikes, inputs)
        x = Operands(
            spikes, added, channels, rows=memory.place(-(-bits // 8)),
            weights=memory.place(-(-layer.k * channels * pe.weight_bits // 8)),
            output=memory.place(np.diff(output_bytes.reshape(items, -1).sum(1) * ends[:, None] // layer.n, axis=0)),
            taken=memory.place_again(np.repeat(channels * places * layer.taken_bytes, items)),
        )  # fmt: skip
        burst = self.config.memory.lines(BURST_LINES).burst
        longest = int(x.rows.size.max()) // memory.line_bytes + 2
        reads, writes = self.config.memory.read_switch.inputs, self.config.memory.write_switch.inputs
        read_lanes, write_lanes = (np.arange(used) % inputs for inputs in (reads, writes))
        diagram.agent(core, used, built=pe.count, requests=burst, lanes=read_lanes.tolist())
        diagram.agent(feeder, used, built=pe.count, requests=longest, lanes=read_lanes.tolist())
        diagram.agent(drain, used, built=pe.count, requests=burst, lanes=write_lanes.tolist())
        of_row = columns * scheduler.synapse_cycles + scheduler.kernel_row_cycles
        return {
            "events": diagram.fifo(scheduler.event_fifo, count=used), "finished": diagram.fifo(2, count=used),
            "groups": len(channels), "shares": shares, "stride": used // shares, "items": items, "places": places,
            "taps": rows * columns,
            "channel_cycles": rows * of_row + scheduler.channel_cycles + places * scheduler.scan_cycles,
        }, x  # fmt: skip

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """A potential is read and written for every synapse by events, once a tick by neurons; a read-out's neurons do
        not fire."""
        by_events = self.config.scheduler.outer_loop == "events"
        touched = done["lif", "update"] + by_events * done["pe", "add"]
        found = {
            ("potential_memory", "read"): touched, ("potential_memory", "write"): touched,
            ("synapse_memory", "write"): -(-done["loaded"] // self.config.pe.synapses_per_word),
        }  # fmt: skip
        return {**found, ("lif", "update"): 0} if layer.rests else found

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Weights added for a spike, zero or not."""
        return int(counts[ADDED])

    def working_cycles(
        self, layer: Layer, program: Program, counts: NDArray[np.int64], times: NDArray[np.int64]
    ) -> int:
        """A core works in the cycle in which it adds."""
        return int(counts[ADDED])

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """All additions spread evenly over the cores."""
        return -(-int(counts[ADDED]) * self.config.scheduler.synapse_cycles // self.config.pe.count)

    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """All weights, and all spikes."""
        return int(program.operands.weights.size.sum() + program.operands.rows.size.sum())
