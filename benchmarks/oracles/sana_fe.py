"""SANA-FE (PyPI sanafe): networks drawn from a seed, the DVS gesture network that it ships, and trained layers of VGG9,
on its Loihi.

A constant current drives the first neurons; then convolutions and a fully connected layer, all of neurons that
integrate and fire, each a timestep later than the one before, as on Loihi.

- archsim runs the drawn ones as a trace with delays, on Prosperity, and compares every output; its synaptic events are
  the matches of spikes and weights.
- archsim's ``loihi1`` runs all of them, neuron for neuron on the same cores, step for step: messages, links, energy,
  and time by SANA-FE's ``detailed`` model. Three cores of a tile have layers; the fourth of the first tile has the
  inputs, where archsim has a port of the host. The barrier is SANA-FE's for the tiles in use.

The layers of VGG9 are a trace's: weights of zero have no synapse, neurons leak, and have biases. On SANA-FE these are
set between steps, since a layer has its first timestep when the one before has its second.

The shipped network is read from the installed wheel; nothing of it is here.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from comparison import Rule
from numpy.typing import NDArray

from archsim import Report, run
from archsim.simulate import load_accelerator
from archsim.trace import Neuron, Operation, Trace, load_trace, save_trace

sys.path.append(str(Path(__file__).resolve().parents[2] / "workloads" / "recipes"))
from import_dvs_gesture import LEAST, MOST, Layer, currents, fire, read

WORKLOADS = Path(__file__).resolve().parents[2] / "workloads"
TITLE = "SANA-FE"
INSTALL = "pip install sanafe"
FIRST_THRESHOLD = 60
LATE = "both: theirs counts an event when it is sent, ours when it arrives, a timestep later; those of the last do not"
CORES, ROOM, ROWS, COLUMNS = 3, 1024, 4, 8
"""Cores of a tile that have layers, neurons of a core, rows and columns of tiles."""
SYNC_NS = {1: 600, 2: 1000, 4: 1400, 29: 1800}
"""SANA-FE's barrier by the tiles that are in use, those and more."""
UPDATE_PJ, MESSAGE_PJ, HOP_CYCLES = 21.6, 111.0, 2
HOST = "both: theirs charges the messages of inputs, which a port of the host sends here"
QUIET = f"{HOST}; and it updates no neuron that has no potential and gets nothing, ours all"
MESH = "both: ours takes a cycle of 0.1 ns into the mesh and one out of it, theirs none"
CONGESTION, CONGESTED = 0.03, "ours: theirs guesses what waits from the messages on the way, ours has every buffer"


class Case(NamedTuple):
    """A map of ``side`` x ``side`` currents, convolutions 3 x 3 of so many channels, a fully connected layer."""

    seed: int
    side: int
    channels: tuple[int, ...]
    classes: int
    timesteps: int


class Shipped(NamedTuple):
    """The network of DVS gestures in the wheel, its weights cut to 8 bits on both sides."""

    timesteps: int


class Trained(NamedTuple):
    """Convolutions of a network of ``workloads`` that follow one another, on its first image."""

    timesteps: int
    network: str
    layers: tuple[str, ...]


CASES: dict[str, Case | Shipped | Trained] = {
    f"{case.side}x{case.side}, {'-'.join(map(str, (1, *case.channels, case.classes)))}, T = {case.timesteps}": case
    for case in (
        Case(0, 8, (4, 6), 5, 16), Case(1, 20, (3, 5, 7), 10, 12), Case(2, 6, (), 20, 32), Case(3, 9, (8,), 11, 24),
        Case(4, 12, (2, 4), 3, 8), Case(5, 7, (6, 6), 4, 40), Case(6, 12, (16, 8), 11, 10), Case(7, 16, (4,), 10, 16),
    )
}  # fmt: skip
CASES["DVS gestures, 32x32, 1-16-32-64-11-11, T = 8"] = Shipped(8)
CASES["VGG9, trained, its layers conv6 to conv8, T = 4"] = Trained(4, "vgg9_dual_sparse", ("conv6", "conv7", "conv8"))


def _network(case: Case | Shipped) -> tuple[NDArray[np.uint8], int, list[Layer]]:
    """Currents, the threshold of their neurons, and layers."""
    if isinstance(case, Case):
        image, layers = _drawn(case)
        return image, FIRST_THRESHOLD, layers
    image, first, shipped = read()
    return image, first, [replace(layer, weight=layer.weight.clip(LEAST, MOST)) for layer in shipped]


def _drawn(case: Case) -> tuple[NDArray[np.uint8], list[Layer]]:
    """Currents [1, H, W], and layers without a weight of zero, for which SANA-FE has a synapse and archsim none."""
    draw = np.random.default_rng(case.seed)
    image = draw.integers(0, 40, (1, case.side, case.side)).astype(np.uint8)
    layers, side = [], case.side
    for index, (inputs, outputs) in enumerate(pairwise((1, *case.channels))):
        stride = 1 if layers else 2
        layers.append(Layer(f"conv{index + 1}", _weights(draw, (outputs, inputs, 3, 3)), 100 + 100 * index, stride))
        side = (side - 3) // stride + 1
    wide = (1, *case.channels)[-1] * side**2
    return image, [*layers, Layer("fc", _weights(draw, (case.classes, wide)), 150)]


def _weights(draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int64]:
    drawn = draw.integers(-30, 60, shape)
    return np.where(drawn == 0, 1, drawn)


def _trace(case: Case) -> Trace:
    image, layers = _drawn(case)
    operations = [Operation("input", "add", ("image",), "input.out", neuron=Neuron("if", np.array([FIRST_THRESHOLD])))]
    tensors: dict[str, NDArray[np.generic]] = {"image": image[None]}
    spikes = fire(np.repeat(image[None].astype(np.int64), case.timesteps, 0), FIRST_THRESHOLD)
    tensors["input.out"] = spikes[:, None]
    for layer in layers:
        late = np.concatenate([np.zeros_like(spikes[:1]), spikes[:-1]])[:, None]
        tensors[f"{layer.name}.late"] = late
        operations.append(
            Operation(f"{layer.name}.delay", "delay", (operations[-1].output,), f"{layer.name}.late", steps=1)
        )
        spatial = {"stride": (layer.stride, layer.stride)} if layer.weight.ndim == 4 else {}
        operations.append(
            Operation(
                layer.name, "conv2d" if spatial else "linear", (f"{layer.name}.late",), f"{layer.name}.out",
                weight=layer.weight.astype(np.int8), neuron=Neuron("if", np.full(len(layer.weight), layer.threshold)),
                **spatial,
            )
        )  # fmt: skip
        spikes = fire(currents(spikes, layer), layer.threshold)
        tensors[f"{layer.name}.out"] = spikes[:, None]
    return Trace(
        network="drawn", timesteps=case.timesteps, operations=operations, tensors=tensors,
        provenance={"kind": "synthetic", "weights": "synthetic"},
    )  # fmt: skip


def _cut(case: Trained) -> Trace:
    """The layers by themselves, and what they read."""
    whole = load_trace(WORKLOADS / f"{case.network}.npz")
    operations = [whole.operation(name) for name in case.layers]
    names = [operations[0].inputs[0], *(operation.output for operation in operations)]
    return Trace(
        network=case.network, timesteps=case.timesteps, operations=operations,
        tensors={name: whole.tensor(name)[:, :1] for name in names}, provenance=whole.provenance,
    )  # fmt: skip


def _in_steps(case: Case | Shipped | Trained) -> Trace:
    """The same without delays: layers are a step apart on the chip."""
    if isinstance(case, Trained):
        return _cut(case)
    image, first, layers = _network(case)
    spikes = fire(np.repeat(image[None].astype(np.int64), case.timesteps, 0), first)
    tensors: dict[str, NDArray[np.generic]] = {"input": spikes[:, None]}
    operations: list[Operation] = []
    for layer in layers:
        spatial = {"stride": (layer.stride, layer.stride)} if layer.weight.ndim == 4 else {}
        operations.append(
            Operation(
                layer.name, "conv2d" if spatial else "linear", (operations[-1].output if operations else "input",),
                f"{layer.name}.out", weight=layer.weight.astype(np.int8),
                neuron=Neuron("if", np.full(len(layer.weight), layer.threshold)), **spatial,
            )
        )  # fmt: skip
        spikes = fire(currents(np.concatenate([spikes, spikes[:1]]), layer)[1:], layer.threshold)
        tensors[f"{layer.name}.out"] = spikes[:, None]
    return Trace(
        network="drawn", timesteps=case.timesteps, operations=operations, tensors=tensors,
        provenance={"kind": "synthetic", "weights": "synthetic"},
    )  # fmt: skip


def _shapes(case: Case | Shipped | Trained) -> list[tuple[int, ...]]:
    """[channels, rows, columns] of each layer's neurons."""
    if isinstance(case, Trained):
        return [operation.output_shape for operation in _cut(case).operations]
    image, _, layers = _network(case)
    shapes, (_, *sides) = [], image.shape
    for layer in layers:
        sides = [(side - 3) // layer.stride + 1 for side in sides] if layer.weight.ndim == 4 else [1, 1]
        shapes.append((len(layer.weight), *sides))
    return shapes


def _sync_ns(cores: int) -> int:
    tiles = -(-cores // CORES)
    return next(time for least, time in reversed(SYNC_NS.items()) if tiles >= least)


def _cores(shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """The first core of each layer, and behind them the number of cores."""
    return np.cumsum([0, *(-(-int(np.prod(shape)) // ROOM) for shape in shapes)]).tolist()


def load(checkout: str | None) -> ModuleType:
    import sanafe
    import sanafe.layers

    return sanafe


def version(peer: ModuleType) -> str:
    return f"sanafe {metadata.version('sanafe')}"


def theirs(peer: ModuleType, case: Case | Shipped | Trained) -> dict[str, float]:
    forced, default = _on_loihi(peer, case, every_neuron=True), _on_loihi(peer, case, every_neuron=False)
    found = {**forced, "energy_by_default": default["energy"], "updates_by_default": default["updates"]}
    return {**found, **_delayed(peer, case)} if isinstance(case, Case) else found


def _layers(peer: ModuleType, case: Case | Shipped, network: object, every_neuron: bool) -> list[object]:
    """The input and the layers in SANA-FE's words."""
    image, first, layers = _network(case)
    built = [peer.layers.Input2D(network, *image.shape[:0:-1], threshold=first)]
    for layer in layers:
        weight, given = layer.weight.astype(np.float64), {"threshold": layer.threshold, "force_update": every_neuron}
        if weight.ndim == 4:
            strides = {"stride_width": layer.stride, "stride_height": layer.stride}
            built.append(peer.layers.Conv2D(network, built[-1], weight.transpose(2, 3, 1, 0), **strides, **given))
        else:
            built.append(peer.layers.Dense(network, built[-1], len(weight), weight.T, **given))
    return built


def _chip(peer: ModuleType, case: Case | Shipped | Trained, every_neuron: bool) -> Any:
    """Its Loihi with the network on the same cores as here, in the same order of neurons."""
    if isinstance(case, Trained):
        return _trained_chip(peer, case, every_neuron)
    image, first, _ = _network(case)
    network, loihi = peer.Network(), peer.load_arch(str(files("sanafe.examples") / "loihi.yaml"))
    built, shapes = _layers(peer, case, network, every_neuron), _shapes(case)
    fires = fire(np.repeat(image[None].astype(np.int64), case.timesteps, 0), first).reshape(case.timesteps, -1)
    cores = loihi.cores()
    for number, neuron in enumerate(built[0]):
        spikes = {"spikes": fires[:, number].tolist()}
        neuron.set_attributes(soma_hw_name=f"loihi_inputs[{number}]", model_attributes=spikes)
        neuron.map_to_core(cores[CORES])
    for layer, begin in zip(built[1:], _cores(shapes), strict=False):
        _map(layer, "dense" if layer is built[-1] else "conv", begin, cores)
    chip = peer.SpikingChip(loihi)
    chip.load(network)
    return chip


def _map(layer: Iterable[Any], kind: str, begin: int, cores: Sequence[Any]) -> None:
    """Fill the cores from number ``begin`` on."""
    for place, neuron in enumerate(layer):
        tile, core = divmod(begin + place // ROOM, CORES)
        row, column = divmod(tile, COLUMNS)
        neuron.set_attributes(soma_hw_name="loihi_lif", default_synapse_hw_name=f"loihi_{kind}_synapse")
        # Theirs counts tiles along the columns.
        neuron.map_to_core(cores[(column * ROWS + row) * (CORES + 1) + core])


def _trained_chip(peer: ModuleType, case: Trained, every_neuron: bool) -> Any:
    """The same of trained layers. The core of the inputs, which cost nothing, has as many as there are."""
    trace, network, shapes = _cut(case), peer.Network(), _shapes(case)
    fires = trace.tensor(trace.operations[0].inputs[0]).reshape(case.timesteps, -1)
    count = fires.shape[1]
    text = (files("sanafe.examples") / "loihi.yaml").read_text()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loihi.yaml"
        path.write_text(
            text.replace("[0..1023]", f"[0..{count - 1}]").replace("supported: 1024", f"supported: {count}")
        )
        loihi = peer.load_arch(str(path))
    cores = loihi.cores()
    before = network.create_neuron_group("input", count)
    for number, neuron in enumerate(before.neurons):
        spikes = {"spikes": fires[:, number].tolist()}
        neuron.set_attributes(soma_hw_name=f"loihi_inputs[{number}]", model_attributes=spikes)
        neuron.map_to_core(cores[CORES])
    for operation, begin in zip(trace.operations, _cores(shapes), strict=False):
        given = {"leak_decay": 2.0**-operation.neuron.leak_shift, "force_update": every_neuron}
        layer = network.create_neuron_group(
            operation.name, int(np.prod(operation.output_shape)), model_attributes=given
        )
        for neuron, threshold in zip(layer.neurons, _per_neuron(operation, operation.neuron.threshold), strict=True):
            neuron.set_attributes(model_attributes={"threshold": threshold})
        pairs, weights = _synapses(operation, trace.meta.tensors[operation.inputs[0]].shape)
        before.connect_neurons_sparse(layer, {"weight": weights}, pairs)
        _map(layer.neurons, "sparse", begin, cores)
        before = layer
    chip = peer.SpikingChip(loihi)
    chip.load(network)
    return chip


def _per_neuron(operation: Operation, values: NDArray[Any]) -> list[float]:
    """A value of each channel for each of its neurons."""
    return np.repeat(values, np.prod(operation.output_shape[1:])).astype(float).tolist()


def _synapses(operation: Operation, shape: Sequence[int]) -> tuple[list[tuple[int, int]], list[float]]:
    """Inputs and outputs of all weights of a convolution that are not zero, and these weights."""
    numbers = np.arange(1, np.prod(shape) + 1).reshape(1, *shape)
    sources = operation.window.unroll(numbers) - 1
    weights = operation.weight.reshape(len(operation.weight), -1)
    channel, position, k = np.nonzero((weights != 0)[:, None] & (sources >= 0))
    targets = channel * len(sources) + position
    return list(zip(sources[position, k].tolist(), targets.tolist(), strict=True)), weights[channel, k].astype(
        float
    ).tolist()


def _steps(case: Case | Shipped | Trained) -> int:
    """Steps until the last layer has got the spikes of the last timestep."""
    return case.timesteps + len(_shapes(case))


def _on_loihi(peer: ModuleType, case: Case | Shipped | Trained, every_neuron: bool) -> dict[str, float]:
    """Steps as archsim has them."""
    chip, steps = _chip(peer, case, every_neuron), _steps(case)
    how = {"timing_model": "detailed", "perf_trace": True, "message_trace": True}
    if isinstance(case, Trained):
        parts = []
        for step in range(steps):
            _set_biases(chip, case, step)
            parts.append(chip.sim(1, **how))
    else:
        parts = [chip.sim(steps, **how)]
    inputs = (CORES, 0, 0)
    sent = [one for done in parts for step in done["message_trace"] for one in step if not one["placeholder"]]
    of_inputs = sum((one["src_core_offset"], one["src_x"], one["src_y"]) == inputs for one in sent)
    return {
        "spikes": sum(done["neurons_fired"] for done in parts), "messages": len(sent),
        "hops": sum(sum(done["perf_trace"]["hops"]) for done in parts),
        "synapses": sum(done["spikes"] for done in parts),
        "energy": sum(done["energy"]["total"] for done in parts) * 1e12,
        "time": sum(done["sim_time"] for done in parts) * 1e9, "messages_of_inputs": of_inputs,
        "updates": sum(done["neurons_updated"] for done in parts), "steps": steps,
    }  # fmt: skip


def _set_biases(chip: Any, case: Trained, step: int) -> None:
    """On in a layer's first timestep, off behind its last one."""
    for late, operation in enumerate(_cut(case).operations, 1):
        if step in (late, late + case.timesteps):
            biases = _per_neuron(operation, operation.bias * (step == late))
            for neuron, bias in zip(chip.mapped_neuron_groups[operation.name], biases, strict=True):
                neuron.set_attributes(model_attributes={"bias": bias})


def _delayed(peer: ModuleType, case: Case) -> dict[str, float]:
    """The input's neurons among those of the chip, and no step behind the last timestep."""
    image, _ = _drawn(case)
    network, loihi = peer.Network(), peer.load_arch(str(files("sanafe.examples") / "loihi.yaml"))
    built = _layers(peer, case, network, every_neuron=False)
    for neuron, current in zip(built[0], image.ravel(), strict=True):
        neuron.set_attributes(model_attributes={"bias": float(current)})
    for layer, core in zip(built, loihi.cores(), strict=False):
        for neuron in layer:
            neuron.map_to_core(core)
    chip = peer.SpikingChip(loihi)
    chip.load(network)
    before, last = chip.sim(case.timesteps - 1), chip.sim(1)
    return {
        "spikes": before["neurons_fired"] + last["neurons_fired"], "synaptic_events": before["spikes"] + last["spikes"],
        "events_before_the_last_timestep": before["spikes"],
    }  # fmt: skip


def _loihi(case: Case | Shipped | Trained) -> tuple[str, ...]:
    """What is set on ``loihi1``."""
    barrier = 10 * _sync_ns(_cores(_shapes(case))[-1])
    return (
        f"noc.cores={CORES}", f"pe.count={CORES * ROWS * COLUMNS}", "host.ports=1",
        f"scheduler.barrier_cycles={barrier}", *(["synapse.convolution=sparse"] * isinstance(case, Trained)),
    )  # fmt: skip


def ours(case: Case | Shipped | Trained) -> dict[str, float]:
    steps = _in_steps(case)
    report = _run("loihi1", steps, _loihi(case))
    layers = report.layers
    synapses = sum(n for layer in layers for (unit, _), n in layer.actions.items() if unit == "synapse")
    energy = report.summary()["energy_pj"]
    found = {
        "messages": sum(layer.events["messages"] for layer in layers), "synapses": synapses,
        "hops": sum(layer.events["hops"] for layer in layers), "energy": energy, "energy_by_default": energy,
        "time": report.summary()["cycles"] / 10,
    }  # fmt: skip
    if isinstance(case, Trained):
        return {**found, "spikes": sum(int(steps.tensor(name).sum()) for name in steps.meta.tensors)}
    if isinstance(case, Shipped):
        return found
    trace = _trace(case)
    events = _run("prosperity", trace, ("memory.ideal=true",)).summary()["synaptic_operations"]
    fired = sum(int(trace.tensor(operation.output).sum()) for operation in trace.operations if operation.neuron)
    return {**found, "spikes": fired, "synaptic_events": events}


def _run(hardware: str, trace: Trace, overrides: Sequence[str]) -> Report:
    """A run of which all outputs are right."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.npz"
        save_trace(trace, path)
        report = run(hardware, path, overrides=overrides)
    assert (report.summary()["mismatches"], report.summary()["coverage"]) == (0, 1.0)
    return report


def timed(
    peer: ModuleType, case: Case | Shipped, times: int
) -> Mapping[str, tuple[Callable[[], object], Callable[[], object]]]:
    """What is timed, ours and theirs: one simulation on Loihi, whole and by itself, theirs for so many calls.

    :func:`theirs` would not do: it simulates up to three times, and reads its Loihi for each, which takes longest. A
    chip of theirs runs once: after a reset it has no inputs.
    """
    trace, steps = _in_steps(case), _steps(case)
    chips = iter([_chip(peer, case, every_neuron=True) for _ in range(times)])
    machine = load_accelerator("loihi1", _loihi(case)).specialised_for(trace)

    return {
        "whole": (
            lambda: _run("loihi1", _in_steps(case), _loihi(case)),
            lambda: _chip(peer, case, every_neuron=True).sim(steps, timing_model="detailed"),
        ),
        "simulation": (
            lambda: list(machine.run_layers(trace, machine.layers(trace), "compiled", verify=False, record=False)),
            lambda: next(chips).sim(steps, timing_model="detailed"),
        ),
    }


def rules(case: Case | Shipped | Trained, theirs: Mapping[str, float]) -> Iterable[Rule]:
    if not isinstance(case, Shipped):
        yield Rule("spikes", "spikes", theirs["spikes"], "equal")
    if isinstance(case, Case):
        yield Rule("synaptic_events", "events", theirs["events_before_the_last_timestep"], LATE)
    for quantity in ("messages", "hops", "synapses"):
        yield Rule(quantity, "events", theirs[quantity], "equal")
    without_host = theirs["energy"] - MESSAGE_PJ * theirs["messages_of_inputs"]
    yield Rule("energy", "pJ", without_host, HOST, within=1e-9 * without_host)
    quiet = UPDATE_PJ * (theirs["updates"] - theirs["updates_by_default"])
    without_host = theirs["energy_by_default"] - MESSAGE_PJ * theirs["messages_of_inputs"]
    yield Rule("energy_by_default", "pJ", without_host + quiet, QUIET, within=1e-9 * without_host)
    if isinstance(case, Case):
        yield Rule("time", "ns", theirs["time"], MESH, within=HOP_CYCLES * theirs["steps"] / 10)
    else:
        yield Rule("time", "ns", theirs["time"], CONGESTED, within=CONGESTION * theirs["time"])
