"""What every accelerator has in common: the layer that it is given, how one is run, and what it must say of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.compress import bitmask, packed_time
from archsim.engine.outcome import BUSY, IDLE, STALL, Outcome
from archsim.engine.recording import Window, window_of
from archsim.engine.result import LayerResult, Traffic, UnitTime
from archsim.errors import ConfigError
from archsim.hardware import operation as op
from archsim.hardware.compute.lif import fire, rule_of
from archsim.hardware.diagram import Diagram
from archsim.hardware.inventory import Component
from archsim.hardware.loading import Block, CrossFieldError, changed
from archsim.hardware.memory.system import MemoryConfig, MemorySystemConfig
from archsim.trace import Neuron, Operation, Requantiser, Trace
from archsim.trace.graph import integer_range
from archsim.trace.origin import origin
from archsim.trace.resimulation import requantise
from archsim.trace.work import matches, synaptic_operations

EngineName = Literal["compiled", "reference"]
Progress = Callable[[str, int, int], None]
"""Called with a layer's name, how many layers are done, and how many there are."""
WEIGHTED = ("conv2d", "linear")
ACTIVATION_BITS = 8
"""Width of an activation, which has no sign, in the machines for networks without spikes."""
MOST_TIMESTEPS = 16
"""Of a machine: the spikes of a neuron are a word of 16 bits."""
BLOCK_VALUES = 1 << 20
"""Full sums that are held at once while a layer is computed."""


Timesteps = Annotated[int, Field(ge=1, le=MOST_TIMESTEPS)]


class CostConfig(Block):
    """What actions and blocks cost."""

    table: str = Field(min_length=1, max_length=4096, description="name or path of the cost table")


class ScheduledLayers(Block):
    """Which layers a machine runs; an accelerator's scheduler adds in which order it works."""

    read_out: Literal["simulated", "skipped"] = Field(description="a last linear layer without neurons")


class HardwareConfig(Block):
    """What every hardware file says; an accelerator's Config adds its own blocks and says what its memory is.

    A machine that cannot be built for any number of timesteps declares ``timesteps: Timesteps`` again.
    """

    accelerator: str = Field(description="which machine this file describes")
    description: str = Field(max_length=500, description="one line for lists and reports")
    fitted: bool = Field(
        False, description="constants were chosen to reproduce published results; every report says so"
    )
    clock_mhz: float = Field(ge=1e-3, le=100_000, description="base clock")
    technology_nm: int = Field(ge=1, le=1000, description="technology node of energy and area")
    timesteps: Timesteps | Literal["trace"] = Field(
        description="most timesteps that the machine is built for, or trace: those of the trace that it runs"
    )
    memory: MemorySystemConfig = Field(description="DRAM, and what lies between it and the PEs")
    cost: CostConfig = Field(description="prices")

    @property
    def built_timesteps(self) -> int:
        """The timesteps as a number, which hardware that has a part for each of them needs to know."""
        if self.timesteps == "trace":
            raise ConfigError("timesteps: are the trace's, and there is none; --set timesteps=N says how many")
        return self.timesteps

    @property
    def least_timesteps(self) -> int:
        """Timesteps that the machine has whatever the trace is: what must fit it in any case."""
        return 1 if self.timesteps == "trace" else self.timesteps

    @model_validator(mode="after")
    def _memory_fits(self) -> Self:
        problems = self.memory.dram.problems(self.clock_mhz, self.memory.line_bytes)
        if problems:
            raise CrossFieldError({f"memory.dram.{field}": problem for field, problem in problems.items()})
        return self


class MachineConfig(HardwareConfig):
    """Of a machine with a cache."""

    memory: MemoryConfig = Field(description="cache, switches and DRAM")


@dataclass(frozen=True)
class FeatureMap:
    """What a convolution's rows are unrolled from: ``words`` uint16 [images, C, height, width], as in the rows."""

    words: NDArray[np.uint16]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class Layer:
    """One matrix product of inputs A (M x K, for spikes x T) and weights B (K x N), as the machines see it.

    ``inputs`` are the unrolled rows of A, ``weights`` the columns of B, both compressed. A word of A has ``word_bits``
    bits: the spikes of T timesteps, or one activation (``operand`` "int", T = 1). ``neuron`` is None where the layer
    ends in full sums (the read-out) or where no neuron was recorded. ``expected`` is what the trace says comes out,
    None if it does not: packed words uint16 [M, N] behind a neuron, else full sums int64 [M, N, T], or what
    ``requantiser`` makes of them. ``pooled``: a pooling layer reads the output. ``feature_map`` is None for a linear
    layer. ``matches`` and ``synaptic_operations`` are those of :mod:`archsim.trace.work`.
    """

    name: str
    op: str
    m: int
    n: int
    k: int
    timesteps: int
    operand: Literal["spike", "int"]
    word_bits: int
    inputs: packed_time.PackedSpikes
    weights: bitmask.BitmaskFibers
    bias: NDArray[np.int64]
    neuron: Neuron | None
    expected: NDArray[Any] | None
    matches: int
    synaptic_operations: int
    pooled: bool = False
    feature_map: FeatureMap | None = None
    requantiser: Requantiser | None = None

    @property
    def writes_sums(self) -> bool:
        """Whether full sums leave the machine. An output that nobody knows counts as words, all of them active."""
        return self.neuron is None and self.requantiser is None and self.expected is not None

    @property
    def output_bits(self) -> int:
        """Bits of a word of the output, where it is not full sums."""
        return self.word_bits if self.requantiser is None else self.requantiser.bits


def layer_of(trace: Trace, operation: Operation) -> Layer:
    """Unroll and compress the operands of a convolution or linear layer of ``trace``."""
    spiking = trace.kind(operation.inputs[0]) == "spike"
    stored = trace.tensor(operation.inputs[0])
    words = packed_time.pack_timesteps(stored) if spiking else _activations(stored)
    weight = operation.weight
    assert weight is not None
    n = len(weight)
    feature_map = None
    if operation.op == "conv2d":
        feature_map = FeatureMap(words, operation.kernel, operation.stride, operation.padding)
        matrix = packed_time.unroll(words, operation.kernel, operation.stride, operation.padding)
    else:
        matrix = words.reshape(-1, operation.k)
    expected: NDArray[Any] | None = None
    if operation.output in trace.tensors and trace.kind(operation.output) != "spike_time":
        output = trace.tensor(operation.output)
        if operation.neuron is not None:
            expected = _rows(packed_time.pack_timesteps(output), n)
        elif spiking:
            expected = np.stack([_rows(plane, n) for plane in output], axis=2).astype(np.int64)
        else:
            expected = _rows(output.reshape(-1, *operation.output_shape), n)[:, :, None].astype(np.int64)
    readers = [other for other in trace.operations if operation.output in other.inputs]
    return Layer(
        name=operation.name,
        op=operation.op,
        m=len(matrix),
        n=n,
        k=operation.k,
        timesteps=trace.timesteps if spiking else 1,
        operand="spike" if spiking else "int",
        word_bits=trace.timesteps if spiking else ACTIVATION_BITS,
        inputs=packed_time.encode(matrix),
        weights=bitmask.encode(weight.reshape(n, -1)),
        bias=np.zeros(n, np.int64) if operation.bias is None else operation.bias.astype(np.int64),
        neuron=operation.neuron,
        expected=expected,
        matches=matches(trace, operation),
        synaptic_operations=synaptic_operations(trace, operation),
        pooled=any(other.op == "pool" for other in readers),
        feature_map=feature_map,
        requantiser=operation.requantiser,
    )


def _activations(stored: NDArray[Any]) -> NDArray[np.uint16]:
    """Activations of an ANN as words; a trace with a time axis has one timestep."""
    return stored.reshape(stored.shape[-4:] if stored.ndim > 3 else stored.shape[-2:]).astype(np.uint16)


def _rows(tensor: NDArray[Any], n: int) -> NDArray[Any]:
    """[images, N, height, width] or [images, N] as [M, N]."""
    return np.ascontiguousarray(np.moveaxis(tensor, 1, -1)).reshape(-1, n)


class Computed(NamedTuple):
    """What a layer computes: bytes of every output row (int64 [M]), mismatches with the trace, named events."""

    output_bytes: NDArray[np.int64]
    mismatches: int | None
    events: dict[str, int]


class Unit(NamedTuple):
    """Agents ``first`` .. ``first + simulated - 1`` are the first of ``built`` equal units called ``name``."""

    name: str
    first: int
    simulated: int
    built: int


class Program(NamedTuple):
    """One layer laid out on one machine, ready for either engine; ``state`` int64 [agents, columns].

    ``units[0]`` are the agents that compute, an element each or all of an array: the busiest one makes the layer's
    compute cycles. The traffic table has the machine's tensors ``copies`` times, where it tells apart for whom they are
    moved.
    """

    spec: Any
    operands: Any
    topology: op.Topology
    state: NDArray[np.int64]
    units: tuple[Unit, ...]
    copies: int = 1
    diagram: Diagram | None = None


class Accelerator(ABC):
    """A named machine. One instance holds one validated configuration and simulates layers.

    A subclass lives in a file of :mod:`archsim.accelerators` and is found there by being a subclass. Its agents are one
    function ``step`` (:mod:`archsim.hardware.operation`) that counts ``actions`` numbers for each agent; ``loop`` is
    that function inside the compiled engine. ``tensors`` name the rows of the traffic table.
    """

    name: ClassVar[str]
    Config: ClassVar[type[HardwareConfig]]
    operand: ClassVar[Literal["spike", "int"]] = "spike"
    tensors: ClassVar[tuple[str, ...]]
    actions: ClassVar[int]
    step: ClassVar[Any]
    loop: ClassVar[Any]

    def __init__(self, config: Any) -> None:
        self.config = config
        self.decided: Mapping[str, Any] = {}
        """For every run's summary: what decides its results, and what the trace decided of it (:meth:`built_for`)."""

    # What a machine must say.

    @abstractmethod
    def inventory(self) -> Sequence[Component]:
        """What the machine is built of."""

    @abstractmethod
    def add_up(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Full sums of rows ``first`` to ``first + len(sums)`` into ``sums`` [rows, N, T], by the machine's own
        arithmetic and in its own order; returns named events to report."""

    @abstractmethod
    def output_bytes(self, layer: Layer, active: NDArray[np.int64], spikes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bytes of every output row as it is stored, of ``active`` neurons that fire ``spikes`` times in all."""

    @abstractmethod
    def program(self, layer: Layer, output_bytes: NDArray[np.int64]) -> Program:
        """Place the operands in memory and lay the layer out on the machine."""

    @abstractmethod
    def count_actions(
        self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """What the units did, by (unit, action), from the agents' ``counts`` summed over agents; memory is apart."""

    @property
    @abstractmethod
    def sum_bits(self) -> int:
        """Bits of a full sum; those of a read-out leave the machine in whole bytes."""

    @property
    @abstractmethod
    def processing_elements(self) -> int:
        """Elements that are built: the smallest places that make a product or an addition, or take a step of a join, in
        a cycle."""

    @abstractmethod
    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Synaptic operations as the elements perform them: products with a weight or additions of one, zero or not.

        Additions of partial sums are none, nor is what gating saves.
        """

    @abstractmethod
    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """Cycles that no schedule of the processing elements can beat, memory apart."""

    @abstractmethod
    def compulsory_bytes(self, layer: Layer, program: Program) -> int:
        """Bytes that must be read from DRAM at least once."""

    def seen(self, trace: Trace) -> Trace:
        """The part of ``trace`` that this machine runs; UsageError if it has no such part."""
        return trace

    @property
    def most_timesteps(self) -> int:
        """Most timesteps of a trace that the machine runs, or can be built for."""
        return MOST_TIMESTEPS if self.config.timesteps == "trace" else int(self.config.timesteps)

    def built_for(self, trace: Trace) -> Self:
        """The machine that runs ``trace``: this one, unless its file leaves something to the trace. ConfigError if
        there is no such machine."""
        if self.config.timesteps != "trace":
            return self
        return type(self)(changed(self.config, "timesteps", trace.timesteps, "timesteps of the trace:"))

    def refuses(self, trace: Trace) -> Sequence[str]:
        """Why this machine cannot run ``trace``, beside :meth:`problems`."""
        return ()

    def holes(self, trace: Trace) -> Sequence[str]:
        """Why all layers of ``trace`` that this machine runs are no whole that it can run; empty for machines that run
        layer by layer."""
        return ()

    def memory_actions(self, traffic: NDArray[np.int64]) -> dict[tuple[str, str], int]:
        """What the memory system did, by (unit, action), from the engine's traffic table."""
        built = {part.unit for part in self.inventory()}
        return memory_actions(traffic, self.config.memory.line_bytes, built)

    def all_traffic(self, traffic: NDArray[np.int64], actions: Mapping[tuple[str, str], int]) -> NDArray[np.int64]:
        """The traffic table of reports: the engine's, and accesses of memories that no request goes to, but only
        actions tell of."""
        return traffic

    def working_cycles(
        self, layer: Layer, program: Program, counts: NDArray[np.int64], times: NDArray[np.int64]
    ) -> int:
        """Cycles of all elements in which they work on operands of the layer.

        An agent that is one element works while it is busy, be it on a step of a join that finds nothing. A machine
        whose agents stand for many elements says what these do.
        """
        elements = program.units[0]
        return int(times[elements.first : elements.first + elements.simulated, BUSY].sum())

    def unit_times(self, program: Program, times: NDArray[np.int64], cycles: int) -> tuple[UnitTime, ...]:
        """Busy, stall and idle cycles of every unit, from the engine's ``times`` of the agents."""
        return unit_times(program.units, times, cycles)

    def timestep_counts(
        self, layer: Layer, program: Program, traffic: NDArray[np.int64]
    ) -> Mapping[tuple[str, str], Sequence[int]]:
        """Of the actions that belong to single timesteps, how many each has; ``traffic`` [copies, tensors, columns]."""
        return {}

    def variant(self, layer: Layer) -> Mapping[str, str]:
        """Columns that every result of ``layer`` has beside the usual ones, with their values."""
        return {}

    @property
    def exact(self) -> bool:
        """Whether outputs must equal the trace's; not where conversions lose something on purpose."""
        return True

    def findings(self, trace: Trace) -> Mapping[str, Any]:
        """What a run of ``trace`` on this machine tells beside cycles and energy, for its summary."""
        return {}

    @classmethod
    def finds_accuracy(cls, trace: Trace) -> bool:
        """Whether findings of ``trace`` can have an accuracy, in any configuration of this machine."""
        return False

    # What follows.

    @property
    def clock_mhz(self) -> float:
        """Base clock."""
        clock: float = self.config.clock_mhz
        return clock

    @property
    def cost_table(self) -> str:
        """Name or path of the cost table."""
        table: str = self.config.cost.table
        return table

    def simulates(self, trace: Trace, operation: Operation) -> bool:
        """Whether ``operation`` runs on the array: a convolution or linear layer with inputs of the machine's kind.

        Of a spiking network the direct encoder, whose input is pixels, runs elsewhere (the artifact of LoAS leaves it
        out), and pooling happens on output spikes in the path to memory. Machines for networks without spikes take
        activations of 8 bits without a sign, as behind a ReLU.
        """
        if operation.op not in WEIGHTED or trace.kind(operation.inputs[0]) != self.operand:
            return False
        if self.operand == "spike":
            return operation.requantiser is None
        return _fits(trace, operation.inputs[0])

    @property
    def runs(self) -> str:
        """Which layers run, for whoever has others."""
        if self.operand == "spike":
            return "layers that read spikes and end in neurons, or in sums"
        return f"layers that read integers of {ACTIVATION_BITS} bits without a sign, as behind a ReLU"

    def skipped(self, trace: Trace) -> Operation | None:
        """The read-out, where ``scheduler.read_out`` skips it."""
        last = next((operation for operation in reversed(trace.operations) if operation.op in WEIGHTED), None)
        skips = self.config.scheduler.read_out == "skipped" and last is not None and last.op == "linear"
        return last if skips else None

    def layers(self, trace: Trace) -> list[Operation]:
        """The operations of ``trace`` that this machine simulates, in order."""
        skipped = self.skipped(trace)
        return [
            operation for operation in trace.operations if operation is not skipped and self.simulates(trace, operation)
        ]

    def fused(self, trace: Trace, layers: Sequence[Operation]) -> set[str]:
        """Names of the operations that happen on the way of ``layers``, which are simulated, and need no more.

        A pool of what leaves a layer's neurons (or requantiser) happens in the path to memory; a concatenation is
        where its parts are stored.
        """
        finished = {layer.output for layer in layers if layer.neuron is not None or layer.requantiser is not None}
        found = set()
        for operation in trace.operations:
            ready = finished.issuperset(operation.inputs)
            if operation.op == "concat" or (operation.op == "pool" and ready):
                found.add(operation.name)
                finished |= {operation.output} if ready else set()
        return found

    def leaves_out(self, trace: Trace, operation: Operation) -> str:
        """Why ``operation``, which is neither among :meth:`layers` nor on their way, is not simulated: what follows its
        name."""
        if operation is self.skipped(trace):
            return "is the read-out, which scheduler.read_out skips"
        if operation.op not in WEIGHTED:
            return _without_weights(trace, operation)
        if trace.kind(operation.inputs[0]) == self.operand == "spike":
            return "ends in a requantiser"
        read = origin(trace, operation.inputs[0])
        return f"reads {read}{' (direct encoder)' * read.startswith('pixels')}"

    def stages(self, trace: Trace, operation: Operation) -> Sequence[Layer]:
        """What is run of an operation, one after the other: the layer, or what a machine makes of it."""
        return (layer_of(trace, operation),)

    def problems(self, trace: Trace) -> Sequence[str]:
        """Why this machine cannot run ``trace``, one line each; empty if it can."""
        found = []
        layers = self.layers(trace)
        if self.operand == "int" and (trace.timesteps > 1 or any(layer.neuron is not None for layer in layers)):
            return [
                f"{self.name} runs ANN traces (integers, T = 1), this one is of a spiking network, T = "
                f"{trace.timesteps}; 'archsim trace synth --preset vgg16_ann' makes one that it runs"
            ]
        if not layers:
            weighted = [operation for operation in trace.operations if operation.op in WEIGHTED]
            first = [f"{operation.name} {self.leaves_out(trace, operation)}" for operation in weighted[:1]]
            told = "; ".join([*first, f"{self.name} runs {self.runs}", "'archsim list' says what machines run"])
            return [f"no layer to simulate: {told}"]
        limit = self.most_timesteps
        if self.operand == "spike" and trace.timesteps > limit:
            found.append(
                f"timesteps: the trace has {trace.timesteps}, the machine is built for {limit}; "
                f"--set timesteps={trace.timesteps} builds a machine that can"
            )
        widest = max((o.weight_bits for o in trace.operations if o.op in WEIGHTED), default=0)
        if widest > self.config.pe.weight_bits:
            found.append(
                f"pe.weight_bits: the trace has weights of {widest} bits, the machine {self.config.pe.weight_bits}; "
                f"--set pe.weight_bits={widest} builds a machine that can"
            )
        return [*found, *self.refuses(trace)]

    def run_layers(
        self,
        trace: Trace,
        operations: Sequence[Operation],
        engine: EngineName,
        *,
        verify: bool,
        record: Window | bool,
        progress: Progress | None = None,
    ) -> Iterator[LayerResult]:
        """Simulate these layers of ``trace``: one after the other, each from a cold cache and an idle memory, unless a
        machine works on them at the same time. ``record`` is a window of the run."""
        window, begin = window_of(record), 0
        for done, operation in enumerate(operations):
            if progress:
                progress(operation.name, done, len(operations))
            for layer in self.stages(trace, operation):
                result = self.run_layer(layer, engine, verify=verify, record=window.later(begin))
                begin += result.cycles
                yield result

    def run_layer(self, layer: Layer, engine: EngineName, *, verify: bool, record: Window | bool) -> LayerResult:
        """Compute the layer's outputs as the machine does, then simulate when it does so.

        ``verify`` compares outputs with the trace. ``record``: the window, from the layer's begin, of which completion
        times and loads are kept, True for all.
        """
        computed = self.compute(layer, verify)
        program = self.program(layer, computed.output_bytes)
        counts = np.zeros((len(program.topology.request_slots), self.actions), np.int64)
        outcome = self._simulate(engine, program, counts, record)
        return self._cut(layer, program, outcome, computed)

    def compute(self, layer: Layer, verify: bool) -> Computed:
        """The layer's outputs, block of rows by block of rows, so that no full sums of a whole layer are held.

        A layer without neurons and without a stored output (spikes recorded elsewhere) has no known output; its rows
        count as fully dense, an upper bound.
        """
        events: dict[str, int] = {}
        mismatches = 0
        words = np.zeros((layer.m, layer.n), np.uint16)
        active = np.zeros(layer.m, np.int64)
        rows = max(1, BLOCK_VALUES // (layer.n * layer.timesteps))
        for first in range(0, layer.m, rows):
            sums = np.zeros((min(rows, layer.m - first), layer.n, layer.timesteps), np.int64)
            for event, count in self.add_up(layer, first, sums).items():
                events[event] = events.get(event, 0) + count
            got: NDArray[Any] = sums + layer.bias[:, None]
            if layer.neuron is not None:
                got = words[first : first + rows]
                _fire(layer, sums, got)
            elif layer.requantiser is not None:
                # T = 1, so that rows by channels are images by channels.
                got = requantise(layer.requantiser, got.transpose(2, 0, 1)).transpose(1, 2, 0)
                active[first : first + rows] = np.count_nonzero(got, axis=(1, 2))
            if verify and layer.expected is not None:
                mismatches += int((got != layer.expected[first : first + rows]).sum())
        known = not (layer.neuron is None and layer.requantiser is None and layer.expected is None)
        if layer.requantiser is not None:
            output = self.output_bytes(layer, active, active)
        elif layer.neuron is not None:
            output = self.output_bytes(
                layer, np.count_nonzero(words, axis=1), np.bitwise_count(words).sum(1, dtype=np.int64)
            )
        elif known:
            output = np.full(layer.m, layer.n * layer.timesteps * -(-self.sum_bits // 8))
        else:
            dense = np.full(layer.m, layer.n, np.int64)
            output = self.output_bytes(layer, dense, dense * layer.timesteps)
        events["output_is_upper_bound"] = int(not known)
        verified = mismatches if verify and layer.expected is not None else None
        return Computed(output.astype(np.int64), verified, events)

    def _simulate(
        self, engine: EngineName, program: Program, counts: NDArray[np.int64], record: Window | bool
    ) -> Outcome:
        memory, tensors = self.config.memory.resolve(self.clock_mhz), len(self.tensors) * program.copies
        rest = (program.spec, program.operands, program.topology, memory, program.state, counts, tensors)
        if engine == "reference":
            from archsim.engine import reference

            return reference.simulate(self._step(engine, program), *rest, record)
        from archsim.engine import compiled

        return compiled.simulate(self._step(engine, program), *rest, record)

    def _step(self, engine: EngineName, program: Program) -> Any:
        """What an engine asks for the agents' operations: a step, or the compiled loop around it."""
        return type(self).loop if engine == "compiled" else type(self).step

    def _cut(self, layer: Layer, program: Program, outcome: Outcome, computed: Computed) -> LayerResult:
        """What a layer that ran by itself yields."""
        memory, times, cycles = self.config.memory, outcome.times, outcome.cycles
        by_copy = outcome.traffic.reshape(program.copies, len(self.tensors), -1)
        traffic = by_copy.sum(0)
        counts = outcome.counts.sum(0)
        elements = program.units[0]
        busy = times[elements.first : elements.first + elements.simulated, BUSY]
        actions = {**self.count_actions(layer, counts, computed.events), **self.memory_actions(traffic)}
        compulsory = 0 if memory.ideal else self.compulsory_bytes(layer, program)
        bound = self.lower_bound(layer, program, counts)
        if not memory.ideal:
            dram = memory.resolve(self.clock_mhz).dram
            lines = compulsory // memory.line_bytes
            bound = max(bound, lines * dram.units_per_line // (dram.units_per_cycle * dram.channels))
        return self._result(
            layer,
            computed,
            outcome,
            recorded=len(outcome.completions) > 0,
            compute_cycles=int(busy.max()),
            working_cycles=self.working_cycles(layer, program, counts, times),
            actions=actions,
            traffic=self.all_traffic(traffic, actions),
            units=self.unit_times(program, times, cycles),
            lower_bound_cycles=bound,
            compulsory_read_bytes=compulsory,
            events={
                "hits": int(traffic[:, op.HITS].sum()),
                "misses": int(traffic[:, op.MISSES].sum()),
                "merged_misses": int(traffic[:, op.MERGED_MISSES].sum()),
                "bank_wait_cycles": int(traffic[:, op.BANK_WAIT_CYCLES].sum()),
                "dram_row_misses": outcome.row_misses,
            },
            timestep_counts=self.timestep_counts(layer, program, by_copy),
            agents={
                unit.first + instance: f"{unit.name} {instance}" if unit.built > 1 else unit.name
                for unit in program.units
                for instance in range(unit.simulated)
            },
        )

    def _result(
        self,
        layer: Layer,
        computed: Computed,
        outcome: Outcome,
        *,
        recorded: bool,
        compute_cycles: int,
        working_cycles: int,
        traffic: NDArray[np.int64],
        events: Mapping[str, int],
        **told: Any,
    ) -> LayerResult:
        """The result of a layer that computed so and ran so, with what is ``told`` of it as in LayerResult."""
        return LayerResult(
            layer=layer.name,
            op=layer.op,
            m=layer.m,
            n=layer.n,
            k=layer.k,
            timesteps=layer.timesteps,
            variant=self.variant(layer),
            cycles=outcome.cycles,
            compute_cycles=compute_cycles,
            stall_cycles=outcome.cycles - compute_cycles,
            utilization=working_cycles / (outcome.cycles * self.processing_elements),
            matches=layer.matches,
            synaptic_operations=layer.synaptic_operations,
            performed_operations=self.performed_operations(layer, outcome.counts.sum(0), computed.events),
            traffic=traffic_rows(self.tensors, traffic, self.config.memory.line_bytes),
            mismatches=computed.mismatches,
            engine_wall_s=outcome.wall_s,
            events={**computed.events, **events},
            completions=outcome.completions if recorded else None,
            loads=outcome.loads,
            **told,
        )


def _fits(trace: Trace, tensor: str) -> bool:
    """Whether ``tensor``, integers, suits a machine for activations of 8 bits without a sign."""
    values = trace.tensor(tensor)
    low, high = integer_range(ACTIVATION_BITS, signed=False)
    return low <= int(values.min()) and int(values.max()) <= high


def _without_weights(trace: Trace, operation: Operation) -> str:
    """Why an operation without weights is not simulated: what it is, as what follows its name."""
    if operation.op == "matmul":
        return "is a product of two activations"
    if operation.op == "pool":
        elsewhere = ", which are made elsewhere" * (trace.kind(operation.inputs[0]) != "int")
        return f"pools {origin(trace, operation.inputs[0])}{elsewhere}"
    if operation.op != "add":
        return f"is a {operation.op.replace('_', ' ')}"
    if operation.neuron is None:
        return "is a sum with a requantiser" if operation.requantiser is not None else "is a sum without neurons"
    first = next((other for other in trace.operations if other.output == operation.inputs[0]), None)
    if len(operation.inputs) == 1 and (first is None or first.op != "add"):
        behind = "the network's input" if first is None else "a pool" if first.op == "pool" else first.name
    else:
        behind = "a sum"
    return f"has neurons behind {behind}"


def _fire(layer: Layer, sums: NDArray[np.int64], words: NDArray[Any]) -> None:
    neuron = layer.neuron
    assert neuron is not None
    threshold = np.ascontiguousarray(neuron.threshold, np.int64)
    fire(sums, layer.bias, threshold, rule_of(neuron), neuron.mask_fire_once, words)


def traffic_rows(tensors: Sequence[str], traffic: NDArray[np.int64], line_bytes: int) -> tuple[Traffic, ...]:
    """The engine's traffic table as rows of a report."""
    rows = []
    for tensor, row in zip(tensors, traffic.tolist(), strict=True):
        read, written = row[op.DRAM_READ_LINES], row[op.DRAM_WRITE_LINES]
        rows += [
            Traffic("sram", tensor, "read", row[op.SRAM_READ_BYTES], row[op.SRAM_READS]),
            Traffic("sram", tensor, "write", row[op.SRAM_WRITE_BYTES], row[op.SRAM_WRITES]),
            Traffic("dram", tensor, "read", read * line_bytes, read),
            Traffic("dram", tensor, "write", written * line_bytes, written),
        ]
    return tuple(rows)


def unit_times(units: Sequence[Unit], times: NDArray[np.int64], cycles: int) -> tuple[UnitTime, ...]:
    """Busy, stall and idle cycles of every unit that is built; those without work are idle."""
    rows = []
    for unit in units:
        for instance in range(unit.built):
            if instance < unit.simulated:
                row = times[unit.first + instance].tolist()
                rows.append(UnitTime(unit.name, instance, row[BUSY], row[STALL], row[IDLE]))
            else:
                rows.append(UnitTime(unit.name, instance, 0, 0, cycles))
    return tuple(rows)


def memory_actions(traffic: NDArray[np.int64], line_bytes: int, built: Collection[str]) -> dict[tuple[str, str], int]:
    """Actions of the memory system; a unit that is not among those ``built`` must have none."""
    actions = {
        ("cache_data", "read"): int(traffic[:, op.SRAM_READS].sum()),
        ("cache_data", "write"): int(traffic[:, op.SRAM_WRITES].sum()),
        ("cache_tag", "lookup"): int(traffic[:, [op.HITS, op.MISSES, op.MERGED_MISSES]].sum()),
        ("crossbar_switch", "transfer"): int(traffic[:, op.SWITCH_BEATS].sum()),
        ("dram", "read_bits"): int(traffic[:, op.DRAM_READ_LINES].sum()) * line_bytes * 8,
        ("dram", "write_bits"): int(traffic[:, op.DRAM_WRITE_LINES].sum()) * line_bytes * 8,
    }
    return {(unit, action): count for (unit, action), count in actions.items() if count > 0 or unit in built}


def memory_components(memory: MemoryConfig, requesters: int) -> tuple[Component, ...]:
    """The memory system as parts of an inventory."""
    cache = memory.cache
    bank: dict[str, int | float | str] = {
        "capacity_bytes": cache.size_kib * 1024 // cache.banks,
        "width_bits": cache.width_bits,
        "ports": "1rw",
        "access_cycles": cache.access_cycles,
    }
    switch = {
        "ports_in": memory.read_switch.inputs, "ports_out": memory.read_switch.outputs, "width_bits": cache.width_bits,
    }  # fmt: skip
    return (
        Component("cache_data", "cache", cache.banks, bank),
        Component("cache_tag", "cache_tag", cache.banks, {**bank, "ways": cache.ways}),
        Component("crossbar_switch", "switch", 2, switch),
        Component("broadcast", "broadcast", 1, {"receivers": requesters, "width_bits": cache.width_bits}),
        Component("dram", "dram", 1, {"channels": memory.dram.channels}),
    )
