"""What every accelerator must say of itself: what it is built of, which networks and layers it runs, and how."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim import threads
from archsim.dataflow.layer import ACTIVATION_BITS, WEIGHTED, Layer, OperandKind
from archsim.dataflow.pieces import Encoder, fits
from archsim.engine.recording import Window
from archsim.engine.result import CoreLoad, LayerResult
from archsim.errors import ConfigError
from archsim.hardware.inventory import Component
from archsim.hardware.loading import Block, CrossFieldError, changed
from archsim.hardware.memory.system import MemoryConfig, MemorySystemConfig, StreamedMemoryConfig
from archsim.trace import Neuron, Operation, Trace
from archsim.trace.neurons import FIRST_SPIKE, features
from archsim.trace.origin import origin
from archsim.trace.work import effort

EngineName = Literal["compiled", "reference"]
Progress = Callable[[str, int, int], None]
"""Called with a layer's name, how many layers are done, and how many there are."""
ON_LANES = ("add", "pool", "upsample", "reduce", "multiply", "rearrange", "softmax", "layer_norm")
"""Operations without weights that neuron units do between layers (:mod:`archsim.dataflow.vector_unit`)."""
ADDRESSED = ("concat", "slice", "delay")
"""Operations that only say where what exists is read."""
MOST_TIMESTEPS = 16
"""Of a machine: the spikes of a neuron are a word of 16 bits."""
_ELSEWHERE = ("signed spikes", "integer spikes", "potentials instead of spikes")
"""What neurons write that machines of single bits do not."""


Timesteps = Annotated[int, Field(ge=1, le=MOST_TIMESTEPS)]


class CostConfig(Block):
    """What actions and blocks cost."""

    table: str = Field(min_length=1, max_length=4096, description="name or path of the cost table")


class ScheduledLayers(Block):
    """Which layers a machine runs; an accelerator's scheduler adds in which order it works."""

    read_out: Literal["simulated", "skipped"] = Field(description="a last linear layer without neurons")
    encoder: Encoder = Field(
        "skipped",
        description="operands that are not single bits: a plane per bit of their values, a plane per number that they "
        "exceed, or skipped: only layers that read spikes run",
    )


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


class StreamingConfig(MachineConfig):
    """Of a machine with a cache that knows the order of what it reads."""

    memory: StreamedMemoryConfig = Field(description="cache, switches, DMA and DRAM")


class Accelerator(ABC):
    """A named machine. One instance holds one validated configuration and simulates layers.

    A subclass lives in a file of :mod:`archsim.accelerators` and is found there by being a subclass. Its agents are
    those of its family (:mod:`archsim.dataflow.machine`).
    """

    name: ClassVar[str]
    Config: ClassVar[type[HardwareConfig]]
    operand: ClassVar[OperandKind] = "spike"
    ruled_neurons: ClassVar[bool] = False
    """Whether its paper's neurons know a threshold per channel, a leak by a shift and a reset, and nothing more; where
    the machine runs whole networks, they do what those of the network do."""
    neuron_update: ClassVar[tuple[str, str]] = ("lif", "update")
    """The unit that updates neurons, and the action that is counted for it."""
    layers_apart: ClassVar[bool] = True
    """Whether each layer finds the machine cold and idle, so that it does not matter to it when others run."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.context: Mapping[str, Any] = {}
        """Settings that every run's summary has, those that the trace chose among them (:meth:`specialised_for`)."""

    # What a machine must say.

    @classmethod
    @abstractmethod
    def must_compile(cls) -> bool:
        """Whether a run begins with compiling kernels."""

    @abstractmethod
    def simulated(
        self, trace: Trace, operations: Iterable[Operation], engine: EngineName, verify: bool, record: Window | bool
    ) -> Iterator[LayerResult]:
        """What :meth:`run_layers` yields; each of the ``operations`` is asked for when its work begins."""

    @abstractmethod
    def inventory(self) -> Sequence[Component]:
        """What the machine is built of."""

    @property
    @abstractmethod
    def sum_bits(self) -> int:
        """Bits of a full sum; those of a read-out leave the machine in whole bytes."""

    @property
    @abstractmethod
    def processing_elements(self) -> int:
        """PEs that are built: the smallest places that make a product or an addition, or take a step of a join, in a
        cycle."""

    @abstractmethod
    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Synaptic operations as the PEs perform them: products with a weight or additions of one, zero or not.

        Additions of partial sums are none, nor is what gating saves.
        """

    def visible_trace(self, trace: Trace) -> Trace:
        """The part of ``trace`` that this machine runs; UsageError if it has no such part."""
        return trace

    @property
    def most_timesteps(self) -> int:
        """Most timesteps of a trace that the machine runs, or can be built for."""
        return MOST_TIMESTEPS if self.config.timesteps == "trace" else int(self.config.timesteps)

    def specialised_for(self, trace: Trace) -> Self:
        """The machine that runs ``trace``: this one, unless its file leaves something to the trace. ConfigError if
        there is no such machine."""
        if self.config.timesteps != "trace":
            return self
        return type(self)(changed(self.config, "timesteps", self.timesteps_for(trace), "timesteps of the trace:"))

    def timesteps_for(self, trace: Trace) -> int:
        """Timesteps of the machine that runs ``trace``, where its file leaves them to the trace."""
        return min(trace.timesteps, MOST_TIMESTEPS) if self.takes_integers else trace.timesteps

    def unsupported(self, trace: Trace) -> Sequence[str]:
        """Why this machine cannot run ``trace``, beside :meth:`problems`."""
        return ()

    def holes(self, trace: Trace) -> Sequence[str]:
        """Why all layers of ``trace`` that this machine runs are no whole that it can run; empty for machines that run
        layer by layer."""
        return ()

    def variant(self, layer: Layer) -> Mapping[str, str]:
        """Columns that every result of ``layer`` has beside the usual ones, with their values."""
        return {}

    @property
    def exact(self) -> bool:
        """Whether outputs must equal the trace's; not where conversions lose something on purpose."""
        return True

    def metrics(self, trace: Trace) -> Mapping[str, Any]:
        """What a run of ``trace`` on this machine tells beside cycles and energy, for its summary."""
        return {}

    def placement(self, trace: Trace) -> list[tuple[str, CoreLoad]]:
        """Cores of a mesh that layers of ``trace`` are on, with the layers' names; empty where there is no mesh."""
        return []

    def findings(self, results: Sequence[LayerResult]) -> Mapping[str, Any]:
        """What a run with these ``results`` tells as a whole, for its summary."""
        return {}

    @classmethod
    def finds_accuracy(cls, trace: Trace) -> bool:
        """Whether :meth:`metrics` of ``trace`` can have an accuracy, in any configuration of this machine."""
        return False

    def prepare(self, trace: Trace, operations: Sequence[Operation], verify: bool, progress: Progress | None) -> None:
        """What takes long and is done once, before these layers run."""
        return

    # What follows.

    def run_layers(
        self,
        trace: Trace,
        operations: Sequence[Operation],
        engine: EngineName,
        *,
        verify: bool,
        record: Window | bool,
        progress: Progress | None = None,
        jobs: int = 1,
    ) -> Iterator[LayerResult]:
        """Simulate these layers of ``trace``; ``verify`` compares outputs with the trace, ``record`` is a window of the
        run. ``progress`` is told of each layer when its work begins. Layers that are apart run in ``jobs`` threads, if
        nothing is recorded: where a layer's window begins is known when those before it have ended. Those that
        presumably take longest begin first (:func:`archsim.trace.work.effort`), so that none is left for the end."""

        def begun(places: Iterable[int]) -> Iterator[Operation]:
            for done, place in enumerate(places):
                if progress:
                    progress(operations[place].name, done, len(operations))
                yield operations[place]

        self.prepare(trace, operations, verify, progress)
        if jobs == 1 or record or not self.layers_apart:
            yield from self.simulated(trace, begun(range(len(operations))), engine, verify, record)
            return

        def work(operation: Operation) -> list[LayerResult]:
            return list(self.simulated(trace, [operation], engine, verify, record))

        order = sorted(range(len(operations)), key=lambda place: effort(trace, operations[place]), reverse=True)
        found = dict(zip(order, threads.results(work, begun(order), jobs), strict=True))
        for place in range(len(operations)):
            yield from found[place]

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
        """Whether ``operation`` runs on the array: a layer with weights, or a product of two tensors.

        With ``scheduler.encoder: skipped`` only convolutions and linear layers run, with inputs of the machine's kind:
        spikes, or on machines for networks without spikes activations of 8 bits without a sign, as behind a ReLU. The
        direct encoder, whose input is pixels, then runs elsewhere (the artifact of LoAS leaves it out).
        """
        if self.takes_integers:
            return operation.op in (*WEIGHTED, "matmul")
        if operation.op not in WEIGHTED or trace.kind(operation.inputs[0]) != self.operand:
            return False
        if self.operand == "spike":
            return operation.requantiser is None
        return fits(trace, operation.inputs[0])

    @property
    def takes_integers(self) -> bool:
        """Whether operands that do not fit a word come in planes, so that the whole of a network runs."""
        return bool(self.config.scheduler.encoder != "skipped")

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
        products = [
            operation
            for operation in trace.operations
            if operation is not skipped and self.simulates(trace, operation) and not self.lacks(operation.neuron)
        ]
        if not self.takes_integers:
            return products
        handled = self.fused(trace, products) | {operation.name for operation in products}
        return [
            operation
            for operation in trace.operations
            if operation in products
            or (operation.name not in handled and operation.op in ON_LANES and not self.lacks(operation.neuron))
        ]

    @property
    def unwritten(self) -> tuple[str, ...]:
        """What neurons of a trace may write and those of the machine do not, in the words of
        :func:`archsim.trace.neurons.features`."""
        return () if self.takes_integers else _ELSEWHERE

    def lacks(self, neuron: Neuron | None) -> str:
        """What ``neuron`` has that the machine's neurons have not, in words; empty if they can be it."""
        lacking = () if neuron is None else features(neuron)
        if neuron is not None and neuron.kind == FIRST_SPIKE:
            return lacking[0]
        if not self.ruled_neurons or self.takes_integers:
            lacking = tuple(words for words in lacking if words in self.unwritten)
        return next(iter(lacking), "")

    def fused(self, trace: Trace, layers: Sequence[Operation]) -> set[str]:
        """Names of the operations that happen on the way of ``layers``, which are simulated, and need no more.

        A pool of what leaves a layer's neurons (or requantiser) happens in the path to memory; a concatenation is
        where its parts are stored.
        """
        finished = {layer.output for layer in layers if layer.neuron is not None or layer.requantiser is not None}
        found = set()
        for operation in trace.operations:
            ready = finished.issuperset(operation.inputs)
            if operation.op in ADDRESSED or (operation.op == "pool" and operation.reduction == "max" and ready):
                found.add(operation.name)
                finished |= {operation.output} if ready else set()
        return found

    @property
    def activation_tables(self) -> int:
        """Tables of a network that has activations: one, if it is near all neuron units."""
        return 1

    def why_skipped(self, trace: Trace, operation: Operation) -> str:
        """Why ``operation``, which is neither among :meth:`layers` nor on their way, is not simulated: what follows its
        name."""
        if operation is self.skipped(trace):
            return "is the read-out, which scheduler.read_out skips"
        if self.lacks(operation.neuron):
            return f"has neurons with {self.lacks(operation.neuron)}"
        if operation.op not in WEIGHTED:
            return _without_weights(trace, operation)
        if trace.kind(operation.inputs[0]) == self.operand == "spike":
            return "ends in a requantiser"
        read = origin(trace, operation.inputs[0])
        return f"reads {read}{' (direct encoder)' * read.startswith('pixels')}"

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
            first = [f"{operation.name} {self.why_skipped(trace, operation)}" for operation in weighted[:1]]
            told = "; ".join([*first, f"{self.name} runs {self.runs}", "'archsim list' says what machines run"])
            return [f"no layer to simulate: {told}"]
        limit = self.most_timesteps
        masked = any(layer.neuron is not None and layer.neuron.mask_fire_once for layer in layers)
        if self.operand == "spike" and trace.timesteps > limit and (masked or not self.takes_integers):
            encoders = get_args(type(self.config.scheduler).model_fields["encoder"].annotation)
            found.append(
                f"timesteps: the trace has {trace.timesteps}, the machine is built for {limit}; "
                f"--set timesteps={trace.timesteps} builds a machine that can"
                + (
                    ""
                    if masked or "bit_planes" not in encoders
                    else ", --set scheduler.encoder=bit_planes runs it in windows"
                )
            )
        widest = max((o.weight_bits for o in trace.operations if o.op in WEIGHTED), default=0)
        if widest > self.config.pe.weight_bits:
            found.append(
                f"pe.weight_bits: the trace has weights of {widest} bits, the machine {self.config.pe.weight_bits}; "
                f"--set pe.weight_bits={widest} builds a machine that can"
            )
        return [*found, *self.unsupported(trace)]


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


def shared_components(memory: MemoryConfig, requesters: int, paths: int) -> tuple[Component, ...]:
    """What machines with LoAS's memory system have beside their PEs: a scheduler, wires and control of so many
    ``paths`` to memory, and the memory system."""
    others: dict[str, int | float | str] = {"block": "others", "pes": paths, "banks": memory.cache.banks}
    return (
        Component("scheduler", "logic", 1, {"block": "scheduler"}),
        Component("others", "logic", 1, others),
        *memory_components(memory, requesters),
    )


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
        *dma_components(memory),
        Component("dram", "dram", 1, {"channels": memory.dram.channels}),
    )


def dma_components(memory: MemoryConfig) -> tuple[Component, ...]:
    """The registers of the lines that a DMA, where there is one, has on their way."""
    if not isinstance(memory, StreamedMemoryConfig):
        return ()
    entry = memory.dma.entry_bits
    return (Component("dma", "flip_flops", 1, {"bits": memory.dma.lines_in_flight * entry, "width_bits": entry}),)
