"""SANA-FE (PyPI sanafe): every spike and synaptic event of networks drawn from a seed, on its Loihi.

A constant current drives the first neurons; then convolutions and a fully connected layer, all of neurons that
integrate and fire, each a timestep later than the one before, as on Loihi. archsim runs the same as a trace with
delays, on Prosperity, and compares every output; its synaptic events are the matches of spikes and weights.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from comparison import Rule
from numpy.typing import NDArray

from archsim import run
from archsim.trace import Neuron, Operation, Trace, save_trace

sys.path.append(str(Path(__file__).resolve().parents[2] / "workloads" / "recipes"))
from import_dvs_gesture import Layer, currents, fire

TITLE = "SANA-FE"
INSTALL = "pip install sanafe"
FIRST_THRESHOLD = 60
LATE = "both: theirs counts an event when it is sent, ours when it arrives, a timestep later; those of the last do not"


class Case(NamedTuple):
    """A map of ``side`` x ``side`` currents, convolutions 3 x 3 of so many channels, a fully connected layer."""

    seed: int
    side: int
    channels: tuple[int, ...]
    classes: int
    timesteps: int


CASES = {
    f"{case.side}x{case.side}, {'-'.join(map(str, (1, *case.channels, case.classes)))}, T = {case.timesteps}": case
    for case in (
        Case(0, 8, (4, 6), 5, 16), Case(1, 20, (3, 5, 7), 10, 12), Case(2, 6, (), 20, 32), Case(3, 9, (8,), 11, 24),
        Case(4, 12, (2, 4), 3, 8), Case(5, 7, (6, 6), 4, 40), Case(6, 12, (16, 8), 11, 10), Case(7, 16, (4,), 10, 16),
    )
}  # fmt: skip


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


def load(checkout: str | None) -> ModuleType:
    import sanafe
    import sanafe.layers

    return sanafe


def version(peer: ModuleType) -> str:
    return f"sanafe {metadata.version('sanafe')}"


def theirs(peer: ModuleType, case: Case) -> dict[str, float]:
    image, layers = _drawn(case)
    network, loihi = peer.Network(), peer.load_arch(str(files("sanafe.examples") / "loihi.yaml"))
    built = [peer.layers.Input2D(network, case.side, case.side, threshold=FIRST_THRESHOLD)]
    for layer in layers:
        weight = layer.weight.astype(np.float64)
        if weight.ndim == 4:
            given = {"stride_width": layer.stride, "stride_height": layer.stride, "threshold": layer.threshold}
            built.append(peer.layers.Conv2D(network, built[-1], weight.transpose(2, 3, 1, 0), **given))
        else:
            built.append(peer.layers.Dense(network, built[-1], len(weight), weight.T, threshold=layer.threshold))
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


def ours(case: Case) -> dict[str, float]:
    trace = _trace(case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.npz"
        save_trace(trace, path)
        report = run("prosperity", path, memory__ideal=True)
    summary = report.summary()
    assert (summary["mismatches"], summary["coverage"]) == (0, 1.0)
    fired = sum(int(trace.tensor(operation.output).sum()) for operation in trace.operations if operation.neuron)
    return {"spikes": fired, "synaptic_events": summary["synaptic_operations"]}


def rules(case: Case, theirs: Mapping[str, float]) -> Iterable[Rule]:
    yield Rule("spikes", "spikes", theirs["spikes"], "equal")
    yield Rule("synaptic_events", "events", theirs["events_before_the_last_timestep"], LATE)
