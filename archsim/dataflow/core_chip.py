"""What a many-core chip is: cores, synapses, neurons, a mesh, ports of the host, and how its network is mapped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.dataflow import core_mapping as mapping
from archsim.dataflow.base import MachineConfig, ScheduledLayers
from archsim.dataflow.core_mapping import Mapped
from archsim.dataflow.cores import Events, Row, events_of, rows_of
from archsim.dataflow.mesh import MOST_CORES_OF_ROUTER, MOST_ROUTERS, CoreMeshConfig
from archsim.dataflow.populations import Format, Population, inputs_of, populations_of, received, stored
from archsim.hardware.fields import SumBits, WeightBits
from archsim.hardware.loading import Block, CrossFieldError
from archsim.trace import Operation, Trace
from archsim.trace.resimulation import given, run_images
from archsim.trace.schema import MAX_TIMESTEPS

MOST_CORES = 1024
"""Of a chip."""


class CoreBlock(Block):
    """Cores."""

    count: int = Field(ge=1, le=MOST_CORES, description="cores")
    neurons: int = Field(ge=1, le=1 << 20, description="neurons of a core")
    axons: int = Field(ge=1, le=1 << 20, description="axons that a core has synapses for")
    synapse_bits: int = Field(ge=1, le=1 << 40, description="bits of a core's synapse memory")
    queue: int = Field(ge=1, le=65536, description="messages that wait for a core")
    weight_bits: WeightBits = Field(description="bits of a weight")
    accumulator_bits: SumBits = Field(description="bits of a sum and of a potential, sign included")


class SynapseBlock(Block):
    """Axons in, synapses and dendrites of a core, and how synapses are stored."""

    linear: Literal["dense", "sparse"] = Field(description="format of linear layers")
    convolution: Literal["dense", "sparse", "convolutional"] = Field(description="format of convolutions and pools")
    index_bits: int = Field(ge=0, le=32, description="bits beside the weight of a synapse in the sparse format")
    message_cycles: int = Field(ge=0, le=1 << 20, description="cycles of a message beside those of its synapses")
    dense_cycles: int = Field(ge=0, le=1 << 20, description="cycles of a synapse in the dense format")
    sparse_cycles: int = Field(ge=0, le=1 << 20, description="cycles of a synapse in the sparse format")
    convolutional_cycles: int = Field(ge=0, le=1 << 20, description="cycles of a synapse of a shared kernel")


class SomaBlock(Block):
    """Neurons of a core, and axons out."""

    visited: Literal["mapped", "all"] = Field(description="which neurons a step goes through: those in use, or all")
    datapath: Literal["own", "shared"] = Field(
        "own", description="neurons are updated beside the core's synapses, or before them on the same datapath"
    )
    access_cycles: int = Field(ge=0, le=1 << 20, description="cycles of a neuron to read and write its state")
    cycles: int = Field(ge=1, le=1 << 20, description="cycles of a neuron to leak, integrate and compare")
    axon_cycles: int = Field(ge=0, le=1 << 20, description="cycles of a neuron for each axon of its core, or 0")
    spike_cycles: int = Field(ge=0, le=1 << 20, description="cycles of a neuron that fires beside those")
    message_cycles: int = Field(ge=0, le=1 << 20, description="cycles of a message to another core")


class HostBlock(Block):
    """Ports through which spikes of inputs come."""

    ports: int = Field(ge=1, le=64, description="ports, one at the west end of each of the first rows")
    message_cycles: int = Field(ge=0, le=1 << 20, description="cycles of a port between two messages")


class CoreScheduler(ScheduledLayers):
    """Steps, and the mapping of layers to cores."""

    steps: Literal["barrier", "free"] = Field(
        "barrier", description="all cores meet at the end of a step, or each waits for those that it has to do with"
    )
    barrier_cycles: int = Field(ge=0, le=1 << 30, description="cycles of the barrier at the end of a step")
    buffers: int = Field(2, ge=2, le=1024, description="steps that a neuron has a sum for, where cores run freely")
    token_cycles: int = Field(1, ge=0, le=1 << 20, description="cycles of a token to another core that runs freely")
    mapping: Literal["in_order", "neurons", "operations", "traffic"] = Field(
        description="layers to cores: filled in order, balanced by neurons or by synaptic operations of calibration "
        "images, or in order with places by simulated annealing for the messages of these"
    )
    calibration: Literal["images", "run"] = Field(
        "images", description="what operations and traffic are counted over: images of the trace's calibration set, "
        "or those that are run, the best that calibration could do"
    )  # fmt: skip
    calibration_images: int = Field(16, ge=1, le=1 << 16, description="the first of that set, so many at most")
    seed: int = Field(0, ge=0, le=1 << 31, description="seed of the annealing")
    tries: int = Field(20_000, ge=0, le=1 << 30, description="swaps that the annealing tries")
    encoder: Literal["skipped"] = Field("skipped", description="operands that are no spikes are left out")


class ManyCoreConfig(MachineConfig):
    """A many-core chip."""

    accelerator: Literal["manycore"] = Field(description="which machine this file describes")
    timesteps: Annotated[int, Field(ge=1, le=MAX_TIMESTEPS)] | Literal["trace"] = Field(
        description="most timesteps of a network, or trace: those of the trace that it runs"
    )
    pe: CoreBlock = Field(description="cores")
    synapse: SynapseBlock = Field(description="synapses of a core")
    neuron: SomaBlock = Field(description="neurons of a core")
    noc: CoreMeshConfig = Field(description="mesh of routers")
    host: HostBlock = Field(description="where inputs come from")
    scheduler: CoreScheduler = Field(description="steps and mapping")

    @model_validator(mode="after")
    def _cores_have_places(self) -> Self:
        built, noc = self.noc.rows * self.noc.columns * self.noc.cores, self.noc
        problems = {}
        if self.pe.count != built:
            mesh = f"{noc.rows} x {noc.columns} routers with {noc.cores} cores"
            problems["pe.count"] = f"must be {built}, the cores of {mesh} each, got {self.pe.count}"
        if self.host.ports > noc.rows:
            problems["host.ports"] = f"must be at most the {noc.rows} rows of the mesh, got {self.host.ports}"
        if self.neuron.datapath == "shared" and self.scheduler.steps == "free":
            problems["scheduler.steps"] = "must be 'barrier' where neuron.datapath is 'shared', got 'free'"
        if problems:
            raise CrossFieldError(problems)
        return self

    def format_of(self, population: Population) -> Format:
        """How the synapses of a layer are stored."""
        shared = any(synapses.kernel for synapses in population.synapses)
        return self.synapse.convolution if shared else self.synapse.linear

    def synapse_cycles(self, kind: Format) -> int:
        """Cycles of a synapse in the format ``kind``."""
        cycles: int = getattr(self.synapse, f"{kind}_cycles")
        return cycles

    @property
    def neuron_cycles(self) -> int:
        """Cycles of a neuron that does not fire."""
        return self.neuron.access_cycles + self.neuron.cycles + self.neuron.axon_cycles * self.pe.axons


# --- A network on it --------------------------------------------------------------------------------------------------


class Placed(NamedTuple):
    """A network on the chip: populations, where the layers are, formats of their synapses, and what happens: spikes are
    there alone."""

    populations: tuple[Population, ...]
    mapped: tuple[Mapped, ...]
    formats: tuple[Format, ...]
    rows: tuple[Row, ...]
    events: Events

    @property
    def layers(self) -> tuple[Population, ...]:
        """Populations that are no inputs."""
        return layers_of(self.populations)


def layers_of(populations: Sequence[Population]) -> tuple[Population, ...]:
    """Populations that are no inputs."""
    return tuple(one for one in populations if one.synapses)


def misfits(config: ManyCoreConfig, populations: Sequence[Population]) -> list[str]:
    """Why a network has no place, a line for each setting, with the layer that needs most. What the last line tells to
    set builds, all of it together, a chip with one."""
    found, layers, grown, settings = [], layers_of(populations), config, dict[str, int]()
    inputs, name = max(((_fan_in(config, one), one.name) for one in layers), default=(0, ""), key=itemgetter(0))
    if inputs > config.pe.axons:
        found.append(f"pe.axons: a neuron of {name} has {inputs} inputs, a core {config.pe.axons} axons")
        grown = _with(grown, axons=inputs)
    full = [one for one in layers if room(grown, one) == 1]
    bits, one = max(
        ((max(_stored(config, one, range(one.size + 1))), one) for one in full), default=(0, None), key=itemgetter(0)
    )
    if one is not None and bits > config.pe.synapse_bits:
        found.append(
            f"pe.synapse_bits: a neuron of {one.name} needs {bits} bits of {config.format_of(one)} synapses, "
            f"a core has {config.pe.synapse_bits}"
        )
        grown = _with(grown, synapse_bits=bits)
    pe, rooms = grown.pe, [room(grown, one) for one in layers]
    needed = _cores(layers, rooms)
    if needed > pe.count:
        cut = next((one.name for one, most in zip(layers, rooms, strict=True) if most < min(one.size, pe.neurons)), "")
        why = f", {pe.axons} axons and {pe.synapse_bits} bits of synapses, which {cut} fills first" if cut else ""
        found.append(
            f"pe.count: the network takes {needed} cores of {pe.neurons} neurons{why}, the chip has {pe.count}"
        )
        while needed > MOST_CORES:
            more = grown.pe
            grown = _with(grown, neurons=2 * more.neurons, axons=2 * more.axons, synapse_bits=2 * more.synapse_bits)
            needed = _cores(layers, [room(grown, one) for one in layers])
        settings = _on_a_mesh(grown, needed)
    if found:
        settings |= {f"pe.{name}": value for name, value in grown.pe if value != getattr(config.pe, name)}
        found[-1] += (
            f"; {' '.join(f'--set {path}={value}' for path, value in settings.items())} builds a machine that can"
        )
    return found


def _with(config: ManyCoreConfig, **pe: int) -> ManyCoreConfig:
    """The chip with other cores."""
    return config.model_copy(update={"pe": config.pe.model_copy(update=pe)})


def _cores(layers: Sequence[Population], rooms: Sequence[int]) -> int:
    """Cores that layers take at least."""
    return sum(-(-one.size // most) for one, most in zip(layers, rooms, strict=True))


def _on_a_mesh(config: ManyCoreConfig, needed: int) -> dict[str, int]:
    """Settings of a chip with as many cores as are ``needed``: the cores of a router as they are if possible, no side
    of the mesh shorter if possible, then the shortest ways."""
    noc, sides = config.noc, range(1, MOST_ROUTERS + 1)
    meshes = [
        (cores != noc.cores, rows < noc.rows or columns < noc.columns, rows + columns, rows * columns * cores,
         {"rows": rows, "columns": columns, "cores": cores})
        for cores in range(1, MOST_CORES_OF_ROUTER + 1) for rows in sides[config.host.ports - 1 :] for columns in sides
        if needed <= rows * columns * cores <= MOST_CORES
    ]  # fmt: skip
    *_, count, mesh = min(meshes, key=lambda one: one[:-1])
    changed = {f"noc.{name}": value for name, value in mesh.items() if value != getattr(noc, name)}
    return changed | ({"pe.count": count} if count != config.pe.count else {})


def room(config: ManyCoreConfig, one: Population) -> int:
    """Neurons of a layer that a core takes: as many as it has, or as it has memory and axons for; 1 at least."""
    pe, most = config.pe, min(config.pe.neurons, one.size)
    one_fits = _fan_in(config, one) <= pe.axons
    while most > 1:
        ends = [*range(0, one.size, most), one.size]
        bits, inputs = max(_stored(config, one, ends)), _inputs(config, one, ends) if one_fits else 0
        if bits <= pe.synapse_bits and inputs <= pe.axons:
            break
        most = max(1, min(most - 1, most * pe.synapse_bits // bits, most * pe.axons // max(1, inputs)))
    return most


def _inputs(config: ManyCoreConfig, one: Population, ends: Sequence[int]) -> int:
    """Axons of the part of a layer that has most; of the first that has too many, or of all where these are few."""
    most = len(np.unique(np.concatenate([synapses.sources.ravel() for synapses in one.synapses])))
    if most > config.pe.axons:
        most = 0
        for first, end in pairwise(ends):
            most = max(most, inputs_of(one, first, end, config.format_of(one)))
            if most > config.pe.axons:
                break
    return most


def _fits(config: ManyCoreConfig, one: Population, first: int, end: int) -> bool:
    """Whether a core takes the neurons from ``first`` on up to ``end``."""
    pe = config.pe
    if end - first > pe.neurons or _stored(config, one, (first, end))[0] > pe.synapse_bits:
        return False
    few = sum(synapses.sources.size for synapses in one.synapses) <= pe.axons
    return few or inputs_of(one, first, end, config.format_of(one)) <= pe.axons


def _fan_in(config: ManyCoreConfig, one: Population) -> int:
    """Inputs of the neuron that has most."""
    kind = config.format_of(one)
    synapses = [received(one, each, np.ones(each.sources.shape, np.int64), kind) for each in one.synapses]
    neuron = int(np.argmax(np.sum(synapses, 0)))
    return inputs_of(one, neuron, neuron + 1, kind)


def _stored(config: ManyCoreConfig, one: Population, ends: Sequence[int]) -> list[int]:
    return stored(one, ends, config.format_of(one), config.pe.weight_bits, config.synapse.index_bits)


def uncalibrated(config: ManyCoreConfig, trace: Trace) -> list[str]:
    """Why a mapping cannot be found: one line where ``trace`` has no calibration images and they are asked for."""
    if not counts_images(config) or trace.calibration is not None:
        return []
    return [
        f"scheduler.calibration: mapping '{config.scheduler.mapping}' counts over calibration images, the trace has "
        "none; 'run' counts over those that are run, the best that calibration could do"
    ]


def counts_images(config: ManyCoreConfig) -> bool:
    """Whether the mapping depends on spikes of calibration images."""
    return config.scheduler.mapping in ("operations", "traffic") and config.scheduler.calibration != "run"


def known_of(config: ManyCoreConfig, trace: Trace, operations: Sequence[Operation]) -> list[Population]:
    """The layers ``operations`` as the mapping knows them: they fire as for the first images of the calibration
    set, on which the integer network is run, or as they do in the run."""
    if not counts_images(config):
        return populations_of(trace, operations)
    images = trace.calibration
    assert images is not None, "uncalibrated refuses traces without"
    chosen = images.images[: config.scheduler.calibration_images]
    return populations_of(trace, operations, {**given(trace, chosen), **run_images(trace, chosen)})


def place(
    config: ManyCoreConfig, populations: Sequence[Population], known: Sequence[Population] | None = None
) -> Placed:
    """Map the layers to cores, as ``scheduler.mapping`` says, from what is ``known`` of how they fire: by default how
    they do."""
    known = populations if known is None else known
    pe, scheduler, layers = config.pe, config.scheduler, layers_of(populations)
    formats = [config.format_of(one) for one in layers]
    rooms, fits = [room(config, one) for one in layers], [partial(_fits, config, one) for one in layers]
    if scheduler.mapping in ("in_order", "traffic"):
        ends = mapping.in_order([one.size for one in layers], rooms)
    elif scheduler.mapping == "neurons":
        ends = mapping.balanced([np.ones(one.size) for one in layers], rooms, fits, pe.count)
    else:
        fired = _fired(known)
        loads = [
            sum(
                (received(one, synapses, fired[synapses.sources], kind) for synapses in one.synapses),
                np.zeros(one.size),
            )
            for one, kind in zip(layers, formats, strict=True)
        ]
        ends = mapping.balanced([load + LEAST_LOAD for load in loads], rooms, fits, pe.count)
    numbers = iter(range(pe.count))
    mapped = [Mapped(tuple(end), tuple(next(numbers) for _ in end[1:])) for end in ends]
    if scheduler.mapping != "traffic":
        return _placed(config, populations, mapped, formats)
    used, sent = sum(len(part.cores) for part in mapped), _placed(config, known, mapped, formats).events.sent
    places = np.array([config.noc.place(core) for core in range(pe.count)])
    entries = np.array([(port, 0) for port in range(config.host.ports)])
    outside = (np.abs(places[:, None] - entries[None]).sum(-1) @ sent[pe.count :, :used]).T
    at = mapping.annealed(sent[:used, :used], outside, places, scheduler.seed, scheduler.tries)
    moved = [Mapped(part.ends, tuple(int(at[core]) for core in part.cores)) for part in mapped]
    return _placed(config, populations, moved, formats)


LEAST_LOAD = 1e-9
"""Of a neuron without work, so that a layer without any is cut evenly."""


def _placed(
    config: ManyCoreConfig, populations: Sequence[Population], mapped: Sequence[Mapped], formats: Sequence[Format]
) -> Placed:
    rows = rows_of(populations, mapped, config.host.ports, config.pe.count)
    events = events_of(config.noc, populations, mapped, rows, formats, config.pe.count, config.host.ports)
    silent = tuple(one._replace(spikes=None) for one in populations)
    return Placed(silent, tuple(mapped), tuple(formats), tuple(rows), events)


def _fired(populations: Sequence[Population]) -> NDArray[np.int64]:
    """How often each neuron spikes."""
    counts = [np.zeros(one.size, np.int64) if one.spikes is None else one.spikes.sum(0) for one in populations]
    by_first = sorted(zip((one.first for one in populations), counts, strict=True), key=lambda pair: pair[0])
    return np.concatenate([count for _, count in by_first])
