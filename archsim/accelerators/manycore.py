"""A many-core chip: cores of neurons and synapses on a mesh of routers, event by event, the whole network at once.

Agents and steps are those of :mod:`archsim.dataflow.cores`, the network between cores that of
:mod:`archsim.dataflow.mesh`, what a chip has and how layers are mapped to cores :mod:`archsim.dataflow.core_chip`. This
file says which layers run, what they yield, and what the chip is built of.

Outputs are the integer network's, bit for bit: spikes of the trace decide which messages there are, and every layer is
computed again from its inputs. Sources are in ``hwconfigs/manycore.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow import core_chip as chip
from archsim.dataflow import core_statistics as statistics
from archsim.dataflow.base import EngineName, HardwareConfig, Progress
from archsim.dataflow.computing import outputs_of
from archsim.dataflow.core_chip import ManyCoreConfig, Placed
from archsim.dataflow.core_path import Path
from archsim.dataflow.cores import ADDED, FIRED, KEPT, RECEIVED, SENT, UPDATED, host, lay_out, soma, synapse
from archsim.dataflow.crossbar_function import Computed, checked, exact_currents
from archsim.dataflow.crossbar_machine import shared_out
from archsim.dataflow.layer import Layer
from archsim.dataflow.machine import DrawnMachine, Program
from archsim.dataflow.mesh import COLUMN_HOPS, DELIVERED, ROW_HOPS, flows, router
from archsim.dataflow.populations import alone, populations_of
from archsim.dataflow.projections import NoSpikesError, fires_first, made_of_spikes, on_the_way, orders, projections_of
from archsim.engine.outcome import BUSY, Outcome
from archsim.engine.recording import Window
from archsim.engine.result import CoreLoad, LayerResult, UnitTime
from archsim.errors import UsageError
from archsim.hardware.compute.accumulator import accumulate_by_timestep
from archsim.hardware.diagram import Diagram
from archsim.hardware.inventory import Component
from archsim.trace import Neuron, Operation, Trace
from archsim.trace.neurons import FIRST_SPIKE, features
from archsim.trace.origin import origin
from archsim.trace.resimulation import check_operation
from archsim.trace.schema import MAX_TIMESTEPS
from archsim.trace.work import work_of

MESSAGE_BITS = 32
"""Bits of a message: the place of its core, its axon there, and a sign. Of area alone."""


class ManyCore(DrawnMachine):
    """Cores of neurons and synapses on a mesh, event by event, as Loihi; the whole network at once."""

    name: ClassVar[str] = "manycore"
    Config: ClassVar[type[HardwareConfig]] = ManyCoreConfig
    tensors: ClassVar[tuple[str, ...]] = ("input", "weight", "output")
    neuron_update: ClassVar[tuple[str, str]] = ("soma", "update")
    layers_apart: ClassVar[bool] = False
    agents = router, soma, host, synapse
    counted: ClassVar[Mapping[tuple[str, str] | str, int]] = {
        "row_hops": ROW_HOPS, "column_hops": COLUMN_HOPS, "delivered": DELIVERED, "updated": UPDATED, "fired": FIRED,
        "sent": SENT, "received": RECEIVED, "added": ADDED,
    }  # fmt: skip
    config: ManyCoreConfig

    # What it runs.

    @property
    def sum_bits(self) -> int:
        """Bits of a sum in a core."""
        return self.config.pe.accumulator_bits

    @property
    def processing_elements(self) -> int:
        """Cores; each adds one synapse at a time."""
        return self.config.pe.count

    @property
    def most_timesteps(self) -> int:
        """As many as a trace has."""
        return MAX_TIMESTEPS if self.config.timesteps == "trace" else self.config.timesteps

    def simulates(self, trace: Trace, operation: Operation) -> bool:
        """What has neurons, or ends in sums of weights, and is made of nothing but spikes; and maxima over spikes."""
        return made_of_spikes(trace, operation, signed=self.config.noc.signed)

    @property
    def activation_tables(self) -> int:
        """One in each core."""
        return self.config.pe.count

    @property
    def unwritten(self) -> tuple[str, ...]:
        """What no message says. Potentials stay in their core, as sums do."""
        return ("integer spikes",) if self.config.noc.signed else ("integer spikes", "signed spikes")

    def lacks(self, neuron: Neuron | None) -> str:
        """Neurons of first spikes are stepped through, tick by tick, with a threshold per channel."""
        if neuron is not None and neuron.kind == FIRST_SPIKE:
            return next((words for words in features(neuron)[1:]), "")
        return super().lacks(neuron)

    def layers(self, trace: Trace) -> list[Operation]:
        """Those that :meth:`simulates` names, but for what is a part of the sums of others."""
        able = super().layers(trace)
        inside = on_the_way(trace, able)
        return [operation for operation in able if operation.name not in inside]

    def fused(self, trace: Trace, layers: Sequence[Operation]) -> set[str]:
        """What only says where spikes are, or puts neurons in another order, and parts of the sums of ``layers``."""
        return super().fused(trace, layers) | on_the_way(trace, layers) | orders(trace)

    def why_skipped(self, trace: Trace, operation: Operation) -> str:
        """Which value, somewhere behind what it reads, does not travel."""
        try:
            projections_of(trace, operation)
        except NoSpikesError as error:
            behind = len(operation.inputs) > 1 or str(error) not in operation.inputs
            if operation.neuron is not None and behind and not self.lacks(operation.neuron):
                return f"needs {origin(trace, str(error))}, which do not travel as spikes"
        return super().why_skipped(trace, operation)

    @property
    def runs(self) -> str:
        """Spikes only travel between cores."""
        which = "spikes" if self.config.noc.signed else "spikes without a sign (noc.signed: false)"
        return f"layers that are made of {which} and end in neurons, or in sums, and maxima over spikes"

    def unsupported(self, trace: Trace) -> Sequence[str]:
        """A network without the images that its mapping is calibrated on."""
        return chip.uncalibrated(self.config, trace)

    def holes(self, trace: Trace) -> Sequence[str]:
        """Layers that together have no place on the chip; some of them may."""
        return chip.misfits(self.config, populations_of(trace, self.layers(trace)))

    def prepare(self, trace: Trace, operations: Sequence[Operation], verify: bool, progress: Progress | None) -> None:
        """What has no place is refused before anything is computed."""
        if problems := chip.misfits(self.config, populations_of(trace, operations)):
            raise UsageError(problems)

    # What it does.

    def run_layer(self, layer: Layer, engine: EngineName, *, verify: bool, record: Window | bool) -> LayerResult:
        """A layer alone on the chip."""
        populations = alone(layer)
        if problems := chip.misfits(self.config, populations):
            raise UsageError(problems)
        found = outputs_of(layer, self.accumulate, verify)
        return self._run(
            [layer], chip.place(self.config, populations), [Computed(found.mismatches, found.events)], engine, record
        )[0]

    def accumulate(self, layer: Layer, first: int, sums: NDArray[np.int64]) -> dict[str, int]:
        """Full sums: weights of the spikes of a timestep are added up."""
        _, overflows = accumulate_by_timestep(layer.inputs, layer.weights, layer.timesteps, self.sum_bits, first, sums)
        return {"accumulator_overflows": overflows}

    def simulated(
        self, trace: Trace, operations: Iterable[Operation], engine: EngineName, verify: bool, record: Window | bool
    ) -> Iterator[LayerResult]:
        """All layers at once, in one simulation."""
        chosen, layers, computed, done = [], [], [], set[str]()
        for operation in operations:
            chosen.append(operation)
            inside = on_the_way(trace, [operation]) - done
            layers.append(_layer(trace, operation, [other for other in trace.operations if other.name in inside]))
            done |= inside
            computed.append(self._computed(trace, operation, verify))
        yield from self._run(layers, self._placed(trace, chosen), computed, engine, record)

    def _placed(self, trace: Trace, operations: Sequence[Operation]) -> Placed:
        known = chip.known_of(self.config, trace, operations) if chip.counts_images(self.config) else None
        return chip.place(self.config, populations_of(trace, operations), known)

    def placement(self, trace: Trace) -> list[tuple[str, CoreLoad]]:
        """All cores that are used."""
        placed = self._placed(trace, self.layers(trace))
        return [
            (one.name, core)
            for one, part in zip(placed.layers, placed.mapped, strict=True)
            for core in statistics.core_loads(self.config.noc, placed.events, part.ends, part.cores)
        ]

    def _computed(self, trace: Trace, operation: Operation, verify: bool) -> Computed:
        if operation.op == "pool" or fires_first(operation):
            return Computed(check_operation(trace, operation).mismatches if verify else None, {})
        return checked(trace, operation, exact_currents(trace, operation), self.sum_bits, self.sum_bits, verify)

    def example(self, trace: Trace, operation: Operation) -> Program:
        """A layer alone on the chip."""
        return self._program(chip.place(self.config, populations_of(trace, [operation])))

    def _program(self, placed: Placed) -> Program:
        config, diagram, cycles = self.config, Diagram(), self._synapse_cycles(placed)
        derived, operands, _ = lay_out(config, placed.events, placed.rows, placed.populations, cycles, diagram)
        drawn = self.drawn(diagram, {}, {**derived, "neuron_cycles": config.neuron_cycles}, operands, (), 1)
        kept = derived["steps"] * (1 if config.scheduler.steps == "barrier" else KEPT)
        state = np.zeros((len(drawn.state), self.columns() + kept), np.int64)
        return drawn._replace(state=state)

    def _synapse_cycles(self, placed: Placed) -> list[int]:
        """Cycles of a synapse in every core that is used, in the order of rows."""
        parts = zip(placed.mapped, placed.formats, strict=True)
        return [self.config.synapse_cycles(kind) for part, kind in parts for _ in part.cores]

    def _told(self, placed: Placed, program: Program) -> Iterator[dict[str, Any]]:
        """Of every layer what became of its cores, when the ``program`` has run: events, cores and links."""
        config, rows, events = self.config, placed.rows, placed.events
        used = [core for part in placed.mapped for core in part.cores]
        worked = statistics.working(config, events, rows, used, self._synapse_cycles(placed))
        kept = program.state[program.diagram.ends["router"] :, self.columns() :]
        if config.scheduler.steps == "barrier":
            critical = statistics.critical(kept, worked, config.scheduler.barrier_cycles)
        else:
            critical = Path(config, placed, kept.reshape(len(kept), KEPT, -1), worked).walked()
        hosts, first = np.arange(len(used), len(rows)), 0
        for part in placed.mapped:
            somas, cores = np.arange(first, first + len(part.cores)), list(part.cores)
            members = {"synapse": len(rows) + somas, "soma": somas, "host": hosts[: 0 if first else None]}
            sent = np.zeros_like(events.sent)
            sent[:, cores] = events.sent[:, cores]
            loads = statistics.core_loads(config.noc, events, part.ends, cores)
            operations = [load.operations for load in loads]
            told = {
                "cores": len(cores),
                "busiest_core_operations": max(operations),
                "mean_core_operations": sum(operations) // len(cores),
                "busiest_core_step_operations": statistics.busiest_by_step(events, cores),
                **statistics.by_cause(critical, members),
            }
            yield {"events": told, "cores": loads, "links": statistics.link_loads(config.noc, sent)}
            first += len(cores)

    def _run(
        self, layers: Sequence[Layer], placed: Placed, computed: Sequence[Computed], engine: EngineName,
        record: Window | bool,
    ) -> list[LayerResult]:  # fmt: skip
        program = self._program(placed)
        outcome = self.simulate(engine, program, record)
        named = _named(program.diagram)
        own = [_agents(placed, program.diagram, name) for name in (one.name for one in placed.layers)]
        shares = shared_out(outcome.cycles, [1 + int(outcome.times[agents, BUSY].sum()) for agents in own])
        _, hops = flows(self.config.noc, placed.events.sent)
        found = []
        for number, (layer, made, told) in enumerate(zip(layers, computed, self._told(placed, program), strict=True)):
            agents, cores = own[number], list(placed.mapped[number].cores)
            sent = placed.events.sent[:, cores]
            ways = (sent[..., None] * hops[:, cores]).sum((0, 1)).tolist()
            shown = agents if number else _and_shared(agents, program.diagram)
            result = self._result(
                layer, made, outcome, placed.formats[number], agents, shown, ways, shares[number], named
            )
            found.append(replace(result, **{**told, "events": {**result.events, **told["events"]}}))
        return found

    def _result(
        self, layer: Layer, made: Computed, outcome: Outcome, kind: str, agents: NDArray[np.int64],
        shown: NDArray[np.int64], ways: Sequence[int], share: int, named: Sequence[tuple[str, int]],
    ) -> LayerResult:  # fmt: skip
        """What one layer had of the run, by its own ``agents``; those that are ``shown`` with it are its units."""
        counts, times = outcome.counts[agents], outcome.times[agents]
        total = dict(zip(self.counted, counts.sum(0).tolist(), strict=True))
        busy, dendrites = times[:, BUSY], np.array([named[agent][0] == "synapse" for agent in agents.tolist()])
        part = outcome._replace(
            counts=counts,
            wall_s=outcome.wall_s * share / outcome.cycles,
            completions=outcome.completions[np.isin(outcome.completions[:, 0], shown)],
        )
        units = [UnitTime(*named[agent], *outcome.times[agent].tolist()) for agent in shown.tolist()]
        return self.result(
            layer,
            part,
            mismatches=made.mismatches,
            computed=made.events,
            compute_cycles=int(busy.max()),
            working_cycles=int(busy[dendrites].sum()),
            actions={
                ("synapse", kind): total["added"],
                ("soma", "access"): total["updated"],
                ("soma", "update"): total["updated"],
                ("soma", "spike"): total["fired"],
                ("axon_out", "message"): total["sent"],
                ("router", "row_hop"): ways[0],
                ("router", "column_hop"): ways[1],
            },
            traffic=np.zeros_like(outcome.traffic),
            units=tuple(units),
            lower_bound_cycles=int(busy.max()),
            compulsory_read_bytes=0,
            events={"messages": total["received"], "hops": sum(ways)},
            agents={agent: " ".join(map(str, named[agent])) for agent in shown.tolist()},
            completions=part.completions if len(outcome.completions) else None,
            elapsed_cycles=share,
            start_cycle=0,
        )

    def findings(self, results: Sequence[LayerResult]) -> Mapping[str, float | None]:
        """How even cores and links were loaded."""
        return statistics.evenness(results)

    def performed_operations(self, layer: Layer, counts: NDArray[np.int64], events: Mapping[str, int]) -> int:
        """Synapses that were added, zeros too where the format has them."""
        return int(counts[ADDED])

    # What it is built of.

    def inventory(self) -> Sequence[Component]:
        """Cores with their memories, and routers."""
        pe, noc = self.config.pe, self.config.noc
        buffers = (4 + noc.cores) * noc.buffer + noc.cores * pe.queue
        return (
            Component("axon_in", "logic", pe.count, {"block": "axon_in", "axons": pe.axons}),
            Component("synapse", "logic", pe.count, {"block": "synapse", "synapse_bits": pe.synapse_bits}),
            Component("soma", "logic", pe.count, {"block": "soma", "state_bits": pe.neurons * pe.accumulator_bits}),
            Component("axon_out", "logic", pe.count, {"block": "axon_out", "axon_out_bits": pe.neurons * MESSAGE_BITS}),
            Component("router", "router", noc.rows * noc.columns, {"buffer_bits": buffers * MESSAGE_BITS}),
        )


def _named(diagram: Diagram) -> list[tuple[str, int]]:
    """Unit and instance of each agent."""
    return [(kind.name, number) for kind in diagram.kinds for number in range(kind.agents)]


def _agents(placed: Placed, diagram: Diagram, name: str) -> NDArray[np.int64]:
    """The somas and synapses of the layer ``name``, by number."""
    layers = [placed.populations[row.population].name for row in placed.rows]
    own = np.array([place for place, other in enumerate(layers) if other == name])
    ends = diagram.ends
    return np.concatenate([own + ends["router"], own + ends["host"]])


def _and_shared(agents: NDArray[np.int64], diagram: Diagram) -> NDArray[np.int64]:
    """Those, and the routers and host ports, which no layer has for itself."""
    ends = diagram.ends
    first, hosts = np.arange(ends["router"]), np.arange(ends["soma"], ends["host"])
    return np.concatenate([first, agents, hosts])


def _layer(trace: Trace, operation: Operation, inside: Sequence[Operation]) -> Layer:
    """The layer that ``operation`` is, as far as results tell of it; what is ``inside`` its sums is its work, too."""
    works = [work_of(trace, one) for one in (operation, *inside)]
    return Layer(
        name=operation.name, op=operation.op, m=operation.m, n=operation.n, k=operation.k, timesteps=trace.timesteps,
        operand="spike", word_bits=trace.timesteps, rows=None, columns=None, bias=np.zeros(operation.n, np.int64),
        neuron=operation.neuron, expected=None, matches=sum(work.matches for work in works),
        synaptic_operations=sum(work.synaptic_operations for work in works),
    )  # fmt: skip
