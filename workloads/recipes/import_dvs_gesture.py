"""Turn the DVS-Gesture network that the ``sanafe`` wheel ships into a trace: one image, 128 timesteps.

SANA-FE (Boyle et al., University of Texas at Austin) comes with a spiking network trained for Loihi: 3x3 convolutions
of 16, 32, 64 and 11 channels, the first with stride 2, a fully connected layer of 11 classes, and one input, a map of
32 x 32 event counts. The wheel must be installed (``pip install sanafe``); nothing of it is in this repository.

Its neurons integrate and fire: ``v += current``, a spike if ``v > threshold``, then v = 0. The map is the constant
current of the input's neurons. Spikes reach the next layer a timestep later, as on Loihi, which the trace says with an
operation ``delay`` in front of every layer. So each neuron of the trace fires when SANA-FE's does.

Some hundred weights need 9 or 10 bits. Such a layer reads its input several times over (``concat``), and its weight is
the sum of as many integers of 8 bits, of which all but the first are nearly always zero.

    python import_dvs_gesture.py -o dvs_gesture.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from archsim.trace import Neuron, Operation, Trace, save_trace

TIMESTEPS = 128
SIDE = 32
FIRST_STRIDE = 2
LEAST, MOST = -128, 127
LICENCE = "network: GPL-3.0, SANA-FE, The University of Texas at Austin"


@dataclass(frozen=True)
class Layer:
    """``weight`` int64 [N, C, 3, 3] or [N, F]."""

    name: str
    weight: NDArray[np.int64]
    threshold: int
    stride: int = 1


def read() -> tuple[NDArray[np.uint8], int, list[Layer]]:
    """The input [1, 32, 32], the threshold of its neurons, and the layers, from the installed wheel."""
    with np.load(files("sanafe.examples") / "dvs_challenge.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    first, *thresholds = arrays.pop("thresholds").tolist()
    image = arrays.pop("inputs").reshape(1, SIDE, SIDE)
    layers = []
    # Weights are [rows, columns, C, N] and [F, N], in the order of the layers.
    for (name, stored), threshold in zip(arrays.items(), thresholds, strict=True):
        weight = np.moveaxis(stored, -1, 0)
        weight = np.moveaxis(weight, -1, 1) if weight.ndim == 4 else weight
        layers.append(Layer(name, integers(weight), threshold, 1 if layers else FIRST_STRIDE))
    return integers(image).astype(np.uint8), first, layers


def integers(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """``values``, which must be whole."""
    found = values.astype(np.int64)
    if not np.array_equal(found, values):
        raise ValueError("the network of this version of sanafe is not made of integers")
    return found


def parts(weight: NDArray[np.int64]) -> Iterator[NDArray[np.int8]]:
    """Weights of 8 bits whose sum is ``weight``."""
    rest = weight
    while rest.any():
        part = rest.clip(LEAST, MOST)
        rest = rest - part
        yield part.astype(np.int8)


def fire(currents: NDArray[np.int64], threshold: int) -> NDArray[np.bool_]:
    """Spikes [T, ...] of integrate-and-fire neurons."""
    potential, spikes = np.zeros_like(currents[0]), np.empty(currents.shape, np.bool_)
    for t, current in enumerate(currents):
        potential += current
        spikes[t] = potential > threshold
        potential[spikes[t]] = 0
    return spikes


def currents(spikes: NDArray[np.bool_], layer: Layer) -> NDArray[np.int64]:
    """What a layer's neurons get from ``spikes`` [T, C, H, W], which arrive a timestep late."""
    late = np.concatenate([np.zeros_like(spikes[:1]), spikes[:-1]]).astype(np.float64)
    # Sums of some thousand small integers are exact in floating point.
    if layer.weight.ndim == 2:
        return np.rint(late.reshape(len(late), -1) @ layer.weight.T).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(late, layer.weight.shape[2:], (2, 3))
    strided = windows[:, :, :: layer.stride, :: layer.stride]
    return np.rint(np.einsum("tchwyx,ncyx->tnhw", strided, layer.weight, optimize=True)).astype(np.int64)


def network(image: NDArray[np.uint8], first: int, layers: list[Layer], timesteps: int = TIMESTEPS) -> Trace:
    """The trace of one image."""
    neuron = Neuron("if", np.array([first]))
    operations = [Operation("input", "add", ("image",), "input.out", neuron=neuron)]
    tensors = {"image": image[None]}
    spikes = fire(np.repeat(image[None].astype(np.int64), timesteps, 0), first)
    for layer in layers:
        source = operations[-1].output
        tensors[source] = spikes[:, None]
        operations.append(Operation(f"{layer.name}.delay", "delay", (source,), f"{layer.name}.late", steps=1))
        weights = list(parts(layer.weight))
        if len(weights) > 1:
            source = operations[-1].output
            operations.append(
                Operation(f"{layer.name}.repeat", "concat", (source,) * len(weights), f"{layer.name}.repeated")
            )
        count = len(layer.weight)
        operations.append(
            Operation(
                layer.name, "linear" if layer.weight.ndim == 2 else "conv2d", (operations[-1].output,),
                f"{layer.name}.out", stride=(layer.stride, layer.stride) if layer.weight.ndim == 4 else (1, 1),
                weight=np.concatenate(weights, 1), neuron=Neuron("if", np.full(count, layer.threshold)),
            )
        )  # fmt: skip
        late = np.concatenate([np.zeros_like(spikes[:1]), spikes[:-1]])[:, None]
        tensors[f"{layer.name}.late"] = late
        tensors[f"{layer.name}.repeated"] = np.concatenate([late] * len(weights), 2)
        spikes = fire(currents(spikes, layer), layer.threshold)
    tensors[operations[-1].output] = spikes[:, None]
    return Trace(
        network="dvs-gesture", timesteps=timesteps, operations=operations, tensors=tensors,
        provenance={
            "kind": "trained", "weights": "trained", "dataset": "DVS128 Gesture, 32 x 32, one input",
            "licence": LICENCE, "recipe": "workloads/recipes/import_dvs_gesture.py",
            "source": "dvs_challenge.npz of the Python package sanafe",
            "details": {"spikes_of_each_class": spikes.sum(0).tolist()},
        },
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=TIMESTEPS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    trace = network(*read(), arguments.timesteps)
    save_trace(trace, arguments.output)
    print(f"{arguments.output}: spikes of each class {trace.provenance['details']['spikes_of_each_class']}")


if __name__ == "__main__":
    main()
