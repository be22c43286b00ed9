"""Export a time-coded network that ``train_first_spikes.py`` trained, as a trace.

The weights of first-spike neurons are integers over an integer threshold already, and times are ticks. The encoder's
batch norm is folded into weights of 8 bits and a requantiser, whose output is the tick. So the network of the trace is
the one that was trained but for the encoder's rounding, and for exponentials with ``FRACTION_BITS``. ``accuracy`` in
the trace is that of the integers.

    python export_first_spikes.py first_spikes-fashion_mnist-delay-1.pt --data DIR -o delay.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from first_spikes import ENCODER_BITS, TICKS, FirstSpikeLayer, FirstSpikes
from numpy.typing import NDArray
from train_first_spikes import CLASSES, data_of

from archsim.trace import Neuron, Operation, Requantiser, Trace, check_trace, save_trace
from archsim.trace.content import never
from archsim.trace.resimulation import predict, run_times

FRACTION_BITS = 8
SHIFT = 24
DATASETS = {
    "fashion_mnist": ("Fashion-MNIST, padded to 32 x 32", "MIT (trace and weights); Fashion-MNIST: MIT, Zalando SE"),
    "wave": ("2-D wave equation, 1,936 sources, workloads/recipes/wave.py", "MIT"),
}


def encoder_of(model: FirstSpikes) -> Operation:
    """The encoder, batch norm folded, as integers: ticks = (sum of weights and pixels + bias) times a factor."""
    conv, norm = model.encoder.conv, model.encoder.norm
    gain = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().double()
    real = conv.weight.detach().double() * gain[:, None, None, None]
    offset = (norm.bias.detach().double() - norm.running_mean.double() * gain).numpy()
    scale = np.maximum(np.abs(real.numpy()).max((1, 2, 3)), 1e-9) / 127
    weight = np.round(real.numpy() / scale[:, None, None, None]).astype(np.int8)
    # A pixel of 255 is 1.
    unit = scale / 255
    factor = np.round(unit * TICKS * (1 << SHIFT)).astype(np.int64)
    return Operation(
        "encoder", "conv2d", ("pixels",), "encoder.times", stride=(2, 2), padding=(2, 2), weight=weight,
        bias=np.round(offset / unit).astype(np.int64), requantiser=Requantiser(factor, SHIFT, ENCODER_BITS, False),
    )  # fmt: skip


def layer_of(name: str, layer: FirstSpikeLayer, source: str, channels: int) -> Operation:
    """A layer of first-spike neurons."""
    weight = layer.integers().to(torch.int8).numpy()
    neuron = Neuron(
        "first_spike", np.full(len(weight), layer.threshold()), time_constant=TICKS, fraction_bits=FRACTION_BITS
    )
    scale = 1 / layer.threshold()
    if not layer.kernel:
        return Operation(name, "linear", (source,), name, weight=weight, weight_scale=scale, neuron=neuron)
    side, around = layer.kernel, layer.kernel // 2
    return Operation(
        name, "conv2d", (source,), name, stride=(layer.stride,) * 2, padding=(around,) * 2, weight_scale=scale,
        weight=weight.reshape(len(weight), channels, side, side), neuron=neuron,
    )  # fmt: skip


def operations_of(model: FirstSpikes, width: int) -> list[Operation]:
    """The whole network, names as in ``FirstSpikes``."""
    found, source, channels = [encoder_of(model)], "encoder.times", width << model.split
    for number, block in enumerate((model.block1, model.block2), 1):
        name, inside, beside = f"block{number}", source, source
        if model.split:
            half = channels // 2
            for part, start in (("inside", 0), ("beside", half)):
                found.append(
                    Operation(f"{name}.{part}", "slice", (source,), f"{name}.{part}", start=start, stop=start + half)
                )
            inside, beside, channels = f"{name}.inside", f"{name}.beside", half
        for place, layer in enumerate(block, 1):
            found.append(layer_of(f"{name}.conv{place}", layer, inside, channels))
            inside, channels = found[-1].output, found[-1].weight.shape[0]
        source = inside
        if model.join != "base":
            found.append(
                Operation(
                    f"{name}.earliest",
                    "pool",
                    (beside,),
                    f"{name}.earliest",
                    kernel=(3, 3),
                    stride=(2, 2),
                    padding=(1, 1),
                )
            )
            beside = found[-1].output
        if model.delays:
            steps = model.delays[number - 1].ticks().detach().round().long().numpy()
            found.append(Operation(f"{name}.delay", "delay", (beside,), f"{name}.delay", steps=steps))
            beside = found[-1].output
        if model.split:
            found.append(Operation(f"{name}.join", "concat", (beside, inside), f"{name}.join"))
            source, channels = found[-1].output, channels + half
            if number == 1:
                side = 8
                found.append(
                    Operation("shuffle", "rearrange", (source,), "shuffle", view=(2, channels // 2, side, side),
                              order=(1, 0, 2, 3), shape=(channels, side, side))
                )  # fmt: skip
                source = "shuffle"
        elif model.join == "addition":
            if number == 2:
                found.append(Operation(f"{name}.twice", "concat", (beside, beside), f"{name}.twice"))
                beside = found[-1].output
            found.append(Operation(f"{name}.join", "add", (inside, beside), f"{name}.join", times=True))
            source = found[-1].output
    return [*found, layer_of("read_out", model.read_out, source, 0)]


def shapes_of(model: FirstSpikes, images: torch.Tensor, operations: list[Operation]) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors, from the shapes of those that the model keeps."""
    with torch.no_grad():
        model(images[:1].float() / 255)
    side = {"encoder": 16, "block1": 8, "block2": 4, "shuffle": 8}
    found: dict[str, tuple[int, ...]] = {"pixels": tuple(images.shape[1:])}
    for one in operations:
        size = side.get(one.name.split(".")[0], 0)
        if one.weight is not None:
            channels = len(one.weight)
        elif one.op == "slice":
            channels, size = one.stop - one.start, found[one.inputs[0]][1]
        else:
            channels = sum(found[name][0] for name in one.inputs) if one.op == "concat" else found[one.inputs[0]][0]
        found[one.output] = (channels, size, size) if size else (channels,)
    return found


def trace_of(
    operations: list[Operation], tensors: dict[str, NDArray[Any]], timesteps: int, provenance: dict[str, Any], name: str
) -> Trace:
    """The network as a trace."""
    kinds = {one.output: "spike_time" for one in operations}
    return Trace(
        network=name, timesteps=timesteps, operations=operations, tensors=tensors, kinds=kinds, provenance=provenance
    )


def load(checkpoint: Path) -> tuple[FirstSpikes, dict[str, Any]]:
    """The network of a checkpoint, and what else is in it."""
    state = torch.load(checkpoint)
    model = FirstSpikes(state["join"], state["width"], CLASSES[state["task"]])
    model.load_state_dict(state["model"])
    return model.eval(), state


def labelled(state: dict[str, Any], images: int, labels: list[int]) -> dict[str, Any]:
    """Provenance of a trace, but for its accuracy: on so many test ``images``."""
    dataset, licence = DATASETS[state["task"]]
    return {
        "kind": "trained", "weights": "trained", "dataset": dataset, "licence": licence, "seed": state["seed"],
        "recipe": "workloads/recipes/train_first_spikes.py, export_first_spikes.py",
        "details": {
            "accuracy_of": f"the integer network on {images} test images",
            "float_accuracy": f"{state['measured']['accuracy']:.4f}", "training_samples": state["samples"],
            "join": state["join"], "ticks_per_time_constant": TICKS, "labels": labels,
        },
    }  # fmt: skip


def blank(model: FirstSpikes, state: dict[str, Any], images: torch.Tensor, provenance: dict[str, Any]) -> Trace:
    """The network with one image of ``images`` and no spike."""
    operations = operations_of(model, state["width"])
    shapes = shapes_of(model, images, operations)
    tensors = {one: np.full((1, *shape), never(model.timesteps)) for one, shape in shapes.items()}
    name = f"first_spikes_{state['task']}_{state['join']}"
    return trace_of(operations, tensors | {"pixels": images[:1].numpy()}, model.timesteps, provenance, name)


def shown(network: Trace, images: NDArray[np.uint8], provenance: dict[str, Any]) -> Trace:
    """The ``network`` with these images and all their spikes."""
    tensors = run_times(network, images) | {"pixels": images}
    return trace_of(network.operations, tensors, network.timesteps, provenance, network.network)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("--images", type=int, default=8, help="test images in the trace")
    parser.add_argument("--tested", type=int, help="test images for the accuracy; all of them by default")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, state = load(options.checkpoint)
    *_, images, labels = data_of(state["task"], options.data)
    tested = images[: options.tested].numpy()
    provenance = labelled(state, len(tested), labels[: options.images].tolist())
    network = blank(model, state, images, provenance)
    provenance["accuracy"] = float((predict(network, tested) == labels[: len(tested)].numpy()).mean())
    trace = shown(network, tested[: options.images], provenance)
    wrong = sum(check.mismatches or 0 for check in check_trace(trace))
    save_trace(trace, options.output)
    print(
        f"{options.output}: accuracy {provenance['accuracy']:.4f} on {len(tested)} images (training "
        f"{state['measured']['accuracy']:.4f}), {wrong} mismatches, {options.output.stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main()
