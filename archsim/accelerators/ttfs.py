"""A machine for first spikes: neurons with exponential synapses, one sorted spike per cycle, no division.

It is SpinalFlow (:mod:`archsim.accelerators.spinalflow`) with other PEs: spike lists sorted by time, a merger that
gives one spike per cycle, rows of weights read ahead, an output queue, and their agents, are the same. A PE is an
output neuron with two registers and a multiplier (:mod:`archsim.hardware.compute.first_spike`), which goes on by a
product per spike and scans the ticks between two spikes where a neuron fires there. With weights in time a visit, a
position of a tile of channels, takes

    spikes + (ticks of its scans + 1) neuron.cycles

where the 1 is a look at the last tick; it is left out, and so is whatever comes behind, where the visit ends early.

Joins happen where lists are written. Of each spike that is added, delayed or compared with others of a window a *join*
unit adds or compares the time, and puts it where it belongs in the list of its position. It takes the positions behind
the drain, ``join.cycles_per_spike`` for each spike; ``join.positions`` wait for it, more hold up the drain, and so the
array. What a layer reads is joined by the layer before, which ends with its last join: no earlier than

    joined spikes join.cycles_per_spike

``scheduler.early_exit``: ``none``; ``fired``, a visit ends when all of its neurons have fired; ``decision``, so does
one of the last layer when its first neuron has: that is the class. Sources are in ``hwconfigs/ttfs.yaml``; what is
assumed in DEVIATIONS.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.accelerators.spinalflow import (
    LIST_BEATS,
    Operands,
    SpikeListConfig,
    Spikes,
    SpinalFlow,
    SpinalFlowConfig,
    SpinalFlowPe,
    SpinalFlowScheduler,
    Visits,
    spikes_of,
)  # fmt: skip
from archsim.dataflow.base import MachineConfig
from archsim.dataflow.layer import WEIGHTED, Layer, OperandKind, layer_of
from archsim.dataflow.layer_machine import Computed
from archsim.dataflow.machine import Program
from archsim.hardware.agent import Agent, Operations, op
from archsim.hardware.compute.first_spike import ALL, FIRST, NONE, Fired, fire_visits, sort_rows
from archsim.hardware.diagram import Diagram
from archsim.hardware.fields import SumBits
from archsim.hardware.integers import tuple_class
from archsim.hardware.inventory import Component, ram
from archsim.hardware.loading import Block
from archsim.hardware.memory.placement import Placer
from archsim.trace import Neuron, Operation, Trace
from archsim.trace.first_spikes import exponentials
from archsim.trace.joins import joined_spikes, joins_before
from archsim.trace.neurons import FIRST_SPIKE, features
from archsim.trace.schema import MAX_TIMESTEPS


class TtfsPe(SpinalFlowPe):
    """Processing elements; ``accumulator_bits`` are those of W."""

    potential_bits: SumBits = Field(description="bits of Y, sign included")


class JoinConfig(Block):
    """Joins of spike lists."""

    cycles_per_spike: int = Field(ge=1, le=64, description="cycles for a spike that is added, delayed or compared")
    positions: int = Field(ge=1, le=64, description="written positions that wait for the join")


class TtfsScheduler(SpinalFlowScheduler):
    """What is run, and until when."""

    encoder: Literal["skipped"] = Field("skipped", description="only layers that read spike times run")
    early_exit: Literal["none", "fired", "decision"] = Field(
        description="a visit ends: with its last spike, when all of its neurons have fired, or in the last layer when "
        "the first one has"
    )


class TimeListConfig(SpikeListConfig):
    """Spike lists in memory."""

    time_bits: int = Field(ge=1, le=16, description="bits of a spike's tick")


class TtfsConfig(SpinalFlowConfig):
    """A machine for first spikes."""

    accelerator: Literal["ttfs"] = Field(description="which machine this file describes")  # type: ignore[assignment]
    timesteps: Annotated[int, Field(ge=1, le=MAX_TIMESTEPS)] | Literal["trace"] = Field(  # type: ignore[assignment]
        description="most ticks that the machine is built for, or trace: those of the trace that it runs"
    )
    pe: TtfsPe = Field(description="processing elements")
    join: JoinConfig = Field(description="joins of spike lists")
    scheduler: TtfsScheduler = Field(description="what is run, and until when")
    format: TimeListConfig = Field(description="spike lists")


@dataclass(frozen=True)
class TimedLayer(Layer):
    """A layer, and how many spikes are ``joined`` behind each of its positions, int64 [M], or none at all."""

    joined: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


JOINED = LIST_BEATS + 1


def join(a: Agent, m: Any, x: Any) -> Operations:
    """Take one position after the other when the drain has written it, and join its spikes one by one."""
    for fiber in range(m.joins):
        a.count[JOINED] += x.joined[fiber]
        yield op(pop=m.written.port, compute=x.joined[fiber] * m.config.join.cycles_per_spike)


class Ttfs(SpinalFlow):
    """First spikes: sorted spikes as in SpinalFlow, prefix sums of weights and of times in 128 PEs, early exit."""

    name: ClassVar[str] = "ttfs"
    operand: ClassVar[OperandKind] = "spike_time"
    Config: ClassVar[type[MachineConfig]] = TtfsConfig
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {
        name if name != ("pe", "update") else "updates": place for name, place in SpinalFlow.counted.items()
    } | {("join", "spike"): JOINED}
    config: TtfsConfig
    agents = *SpinalFlow.agents, join

    # What it can run.

    @property
    def most_timesteps(self) -> int:
        """Most ticks of a trace that the machine runs, or can be built for."""
        return MAX_TIMESTEPS if self.config.timesteps == "trace" else int(self.config.timesteps)

    @property
    def runs(self) -> str:
        """Which layers run, for whoever has others."""
        return "layers of first-spike neurons that read spike times"

    def lacks(self, neuron: Neuron | None) -> str:
        """A neuron of another kind; or a threshold of its own, as a PE is a channel."""
        if neuron is None or neuron.kind != FIRST_SPIKE:
            return "other rules than that of first spikes" if neuron is not None else ""
        return next((words for words in features(neuron)[1:]), "")

    def simulates(self, trace: Trace, operation: Operation) -> bool:
        """Whether ``operation`` is a layer of first-spike neurons that reads spike times."""
        plain = operation.op in WEIGHTED and operation.groups == 1 and operation.bias is None
        timed = trace.kind(operation.inputs[0]) == "spike_time" and operation.neuron is not None
        return plain and timed and operation.neuron.kind == FIRST_SPIKE  # type: ignore[union-attr]

    def fused(self, trace: Trace, layers: Sequence[Operation]) -> set[str]:
        """Whatever joins and moves spike times, which happens where lists are written."""
        return {
            operation.name
            for operation in trace.operations
            if (operation.times or operation.moves) and trace.kind(operation.inputs[0]) == "spike_time"
        }

    def unsupported(self, trace: Trace) -> Sequence[str]:
        """Ticks must fit the machine and its lists; a channel of a list is one of so many PEs."""
        found, bits = [], self.config.format.time_bits
        if trace.timesteps > self.most_timesteps:
            found.append(
                f"timesteps: the trace has {trace.timesteps}, the machine is built for {self.most_timesteps}; "
                f"--set timesteps={trace.timesteps} builds a machine that can"
            )
        if trace.timesteps > 1 << bits:
            needed = (trace.timesteps - 1).bit_length()
            found.append(
                f"format.time_bits: the trace has {trace.timesteps} ticks, a spike in a list {bits} bits for one; "
                f"--set format.time_bits={needed} builds a machine that can"
            )
        return found

    def products(self, trace: Trace, operation: Operation, window: int) -> Iterator[Layer]:
        """One: all ticks at once, and the joins that the next layer is the first to read."""
        layer = layer_of(trace, operation)
        layers = [one for one in trace.operations if self.simulates(trace, one)]
        end = layers.index(operation) + 1
        known = set().union(*(joins_before(trace, one.inputs[0]) for one in layers[:end]))
        own = set().union(*(joins_before(trace, one.inputs[0]) for one in layers[end : end + 1])) - known
        shared = {one.name: getattr(layer, one.name) for one in fields(layer)}
        joined = [joined_spikes(trace, trace.operation(name), layer.m) for name in own]
        yield TimedLayer(**shared, joined=np.sum(joined, 0) if np.any(joined) else np.zeros(0, np.int64))

    # What it is built of.

    def inventory(self) -> Sequence[Component]:
        """SpinalFlow's, with PEs of two registers and a multiplier, a table of the exponentials of all ticks, and a
        join with an adder and places for the spikes of a position."""
        config, pe = self.config, self.config.pe
        block: dict[str, int | float | str] = {
            "block": "ttfs_pe", "accumulator_bits": pe.accumulator_bits, "potential_bits": pe.potential_bits,
        }  # fmt: skip
        ticks = MAX_TIMESTEPS if config.timesteps == "trace" else config.timesteps
        others = [part for part in super().inventory() if part.unit != "pe"]
        table = ram("exponential_table", 1, ticks * pe.potential_bits // 8, pe.potential_bits)
        join: dict[str, int | float | str] = {
            "block": "time_join", "time_bits": config.format.time_bits, "list_bits": pe.count * self.spike_bits,
            "spike_bits": self.spike_bits,
        }  # fmt: skip
        return (Component("pe", "logic", pe.count, block), table, Component("join", "logic", 1, join), *others)

    def lay_out(
        self, layer: Layer, output_bytes: NDArray[np.int64], diagram: Diagram, memory: Placer
    ) -> tuple[Mapping[str, Any], Operands]:
        """As SpinalFlow, and a join behind the drain. A position is joined when its last channels are there."""
        derived, operands = super().lay_out(layer, output_bytes, diagram, memory)
        joined = np.zeros((derived["tiles"], layer.m), np.int64)
        if works := isinstance(layer, TimedLayer) and len(layer.joined) > 0:
            joined[-1] = layer.joined
        diagram.agent(join)
        written = diagram.fifo(self.config.join.positions, count=int(works))
        own = tuple_class(Ttfs, "Operands", [*operands._fields, "joined"])
        return {**derived, "written": written, "joins": joined.size * works}, own(*operands, joined.ravel())

    # What it computes.

    def compute(self, layer: Layer, verify: bool) -> Computed:
        """Ticks of all neurons by :func:`fire_visits`; where a visit ends with the first of its neurons, only those
        that fire by then are compared, and that no other one should have."""
        fired = self._fired(layer, spikes_of(layer))
        words = np.where(fired.ticks < layer.timesteps, fired.ticks + 1, 0).astype(np.uint16)
        mismatches = None
        if verify and layer.expected is not None:
            expected = layer.expected
            if self._stop(layer) == FIRST:
                late = np.where(expected > 0, expected, layer.timesteps + 1)
                begins = np.arange(0, layer.n, self.config.pe.count)
                earliest = np.minimum.reduceat(late, begins, axis=1)
                first = late == np.repeat(earliest, self.config.pe.count, axis=1)[:, : layer.n]
                expected = np.where(first, expected, 0)
            mismatches = int((words != expected).sum())
        active = np.count_nonzero(words, axis=1)
        sizes = self._words(spikes_of(layer).taps, self._list_bytes(spikes_of(layer).words))
        events = {
            "accumulator_overflows": int(fired.overflows[0]),
            "potential_overflows": int(fired.overflows[1]),
            "positions_larger_than_buffer": int((sizes > self.config.merger.buffer_words).sum()),
            "scanned_ticks": int(fired.looks[0]),
            "scan_products": int(fired.looks[1]),
            "output_is_upper_bound": 0,
        }
        return Computed(self.output_bytes(layer, active, active).astype(np.int64), mismatches, events)

    def _stop(self, layer: Layer) -> int:
        """When a visit of ``layer`` ends."""
        if self.config.scheduler.early_exit == "decision" and layer.is_last:
            return FIRST
        return NONE if self.config.scheduler.early_exit == "none" else ALL

    def _sorted(self, layer: Layer, spikes: Spikes) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Of every row: where its spikes begin, their rows of weights, their ticks."""
        per_row = np.where(spikes.taps >= 0, np.count_nonzero(spikes.words, axis=1)[spikes.taps], 0).sum(1)
        begins = np.concatenate(([0], np.cumsum(per_row)))
        weight_row, ticks = np.zeros(begins[-1], np.int32), np.zeros(begins[-1], np.int16)
        sort_rows(spikes.words, spikes.taps, layer.timesteps, begins, weight_row, ticks)
        return begins, weight_row, ticks

    def _fired(self, layer: Layer, spikes: Spikes) -> Fired:
        neuron, pe = layer.neuron, self.config.pe
        assert neuron is not None and neuron.threshold is not None, "the machine runs first-spike neurons"
        begins, weight_row, ticks = self._sorted(layer, spikes)
        tiles = self._tiles(layer.n)
        found = np.full((layer.m, layer.n), layer.timesteps, np.int64)
        used, looks, overflows = (np.zeros(size, np.int64) for size in (tiles * layer.m, 2, 2))
        after = np.zeros((tiles, len(ticks)), np.int16)
        table = exponentials(layer.timesteps, neuron.time_constant, neuron.fraction_bits)
        fire_visits(
            begins, weight_row, ticks, spikes.weights, neuron.threshold, table, pe.count, self._stop(layer),
            (pe.accumulator_bits, pe.potential_bits), found, used, after, looks, overflows,
        )  # fmt: skip
        return Fired(found, used, after, looks, overflows)

    def spikes_in(self, words: NDArray[np.uint16]) -> NDArray[Any]:
        """A word is a tick and one, or 0."""
        spikes: NDArray[np.bool_] = words != 0
        return spikes

    def visits(self, layer: Layer, spikes: Spikes, tiles: int) -> Visits:
        """The spikes of every visit until it ends, with the cycles of scans behind them."""
        begins, weight_row, _ = self._sorted(layer, spikes)
        fired = self._fired(layer, spikes)
        first = np.concatenate(([0], np.cumsum(fired.spikes)))
        # Of each spike that is taken its number among those of all visits.
        start = (begins[:-1] + begins[-1] * np.arange(tiles)[:, None]).ravel()
        taken = np.arange(first[-1]) + np.repeat(start - first[:-1], fired.spikes)
        return Visits(
            first, np.tile(weight_row, tiles)[taken], fired.after.ravel()[taken], np.zeros(len(start), np.int64)
        )

    def more_actions(
        self, layer: Layer, done: Mapping[tuple[str, str] | str, int], events: Mapping[str, int]
    ) -> dict[tuple[str, str], int]:
        """A spike is a step of both sums, with one product; so is a tick that is looked at."""
        rows = super().more_actions(layer, done, events)
        return {
            **rows,
            ("pe", "multiply"): done["pe", "add"] + events["scan_products"],
            ("exponential_table", "read"): done["merger", "spike"] + events["scanned_ticks"],
        }

    def lower_bound(self, layer: Layer, program: Program, counts: NDArray[np.int64]) -> int:
        """One spike per cycle, and all scans; or all joins."""
        x = program.operands
        joins = int(x.joined.sum()) * self.config.join.cycles_per_spike
        return max(int(x.first[-1] + x.after.sum(dtype=np.int64)), joins)

    def metrics(self, trace: Trace) -> Mapping[str, Any]:
        """When the first neuron of the last layer fires, in ticks, and how much of the network has fired by then."""
        last = trace.operations[-1]
        if trace.kind(last.output) != "spike_time" or not self.simulates(trace, last):
            return {}
        decided = trace.tensor(last.output).astype(np.int64).reshape(trace.images, -1).min(1)
        layers = [trace.tensor(one.output).reshape(trace.images, -1) for one in self.layers(trace)[:-1]]
        before = sum(int((times < decided[:, None]).sum()) for times in layers)
        fired = sum(int((times < trace.timesteps).sum()) for times in layers)
        return {
            "decision_ticks": float(np.minimum(decided, trace.timesteps).mean()),
            "spikes_before_decision": before / fired if fired else 1.0,
        }
