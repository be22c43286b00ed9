"""Turn a checkpoint of ``train_dual_sparse.py`` into an integer network, measure it, and write its trace.

Batch-norm is folded into the convolution. Every output channel c gets its own scale ``s[c]``, the largest folded
weight over 127, so that its weights are int8; bias and threshold are divided by the same scale and rounded. A neuron
compares its membrane potential with a threshold, so a scale per channel costs nothing in hardware: it is the
channel's threshold. The read-out has one scale. From there on everything is integers: leak one half is a shift by
one, and T - 1 fraction bits keep every bit of it. Sums of int8 weights are far below 2**24, so float32 convolutions
are exact here.

Accuracy is that of the integer network on all 10,000 test images. The trace holds the first ``--images`` of them.

    python export_dual_sparse.py --network vgg16 --phase tune --data DIR --checkpoints DIR -o vgg16_dual_sparse.npz
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor
from train_dual_sparse import RECIPES, SpikingVGG, fashion_mnist

from archsim.trace import Neuron, Operation, Trace, save_trace

LEAK_SHIFT = 1
INT8_MAX = 127
SMALLEST_SCALE = 2.0**-20


@dataclass
class IntegerLayer:
    """``weight`` int8 [N, C, 3, 3]; ``bias`` and ``threshold`` int64 [N]."""

    weight: Tensor
    bias: Tensor
    threshold: Tensor


def quantise(model: SpikingVGG) -> list[IntegerLayer]:
    """Folded and quantised convolutions."""
    layers = []
    for index, (convolution, norm) in enumerate(zip(model.convolutions, model.norms, strict=True)):
        gain = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().double()
        # The direct encoder sees pixels of 0..255 where the network was trained on 0..1.
        weight = convolution.weight.detach().double() * gain[:, None, None, None] / (255 if index == 0 else 1)
        bias = norm.bias.detach().double() - norm.running_mean.double() * gain
        scale = (weight.abs().amax((1, 2, 3)) / INT8_MAX).clamp(min=SMALLEST_SCALE)
        # A channel without weights still has its bias to compare with the threshold.
        scale[weight.abs().amax((1, 2, 3)) == 0] = 1 / INT8_MAX
        layers.append(
            IntegerLayer(
                torch.round(weight / scale[:, None, None, None]).to(torch.int8),
                torch.round(bias / scale).long(),
                torch.round(1 / scale).long(),
            )
        )
    return layers


def fire(current: Tensor, threshold: Tensor, timesteps: int, mask_fire_once: bool) -> Tensor:
    """Integer LIF: ``current`` int64 [T, I, N, H, W] gives spikes bool of the same shape."""
    fraction_bits = LEAK_SHIFT * (timesteps - 1)
    limit = (threshold << fraction_bits)[None, :, None, None]
    potential = torch.zeros_like(current[0])
    spikes = []
    for t in range(timesteps):
        potential = (current[t] << fraction_bits) + potential
        spike = potential > limit
        potential = torch.where(spike, 0, potential >> LEAK_SHIFT)
        spikes.append(spike)
    fired = torch.stack(spikes)
    return fired & (fired.sum(0) != 1) if mask_fire_once else fired


def run(
    layers: list[IntegerLayer], plan: tuple[int | str, ...], readout: tuple[Tensor, Tensor], images: np.ndarray,
    timesteps: int, masked: bool,
) -> dict[str, Tensor]:  # fmt: skip
    """All tensors of the integer network on ``images`` uint8 [I, 1, 32, 32], by name."""
    tensors = {"images": torch.from_numpy(images)}
    convolution = 0
    pools = 0
    hidden = tensors["images"].float()[None]
    for entry in plan:
        if isinstance(entry, str):
            pools += 1
            hidden = torch.stack([functional.max_pool2d(plane, 2) for plane in hidden])
            tensors[f"pool{pools}.out"] = hidden.bool()
            continue
        layer = layers[convolution]
        weight = layer.weight.float()
        current = torch.stack([functional.conv2d(plane, weight, padding=1) for plane in hidden]).long()
        current = current + layer.bias[:, None, None]
        if convolution == 0:
            current = current.expand(timesteps, *current.shape[1:])
        fired = fire(current, layer.threshold, timesteps, masked and convolution > 0)
        convolution += 1
        tensors[f"conv{convolution}.out"] = fired
        hidden = fired.float()
    flat = hidden.flatten(2)
    tensors["flat"] = flat.bool()
    weight, bias = readout
    tensors["logits"] = (flat @ weight.float().T).long() + bias
    return tensors


def operations(plan: tuple[int | str, ...], layers: list[IntegerLayer], readout: tuple[Tensor, Tensor],
               timesteps: int, masked: bool) -> list[Operation]:  # fmt: skip
    """The network as operations of a trace."""
    found: list[Operation] = []
    previous, convolution, pools = "images", 0, 0
    for entry in plan:
        if isinstance(entry, str):
            pools += 1
            found.append(Operation(f"pool{pools}", "pool", (previous,), f"pool{pools}.out", (2, 2), (2, 2)))
        else:
            layer = layers[convolution]
            neuron = Neuron(
                "lif", layer.threshold.numpy(), LEAK_SHIFT, LEAK_SHIFT * (timesteps - 1), "hard",
                masked and convolution > 0,
            )  # fmt: skip
            convolution += 1
            name = f"conv{convolution}"
            found.append(
                Operation(
                    name,
                    "conv2d",
                    (previous,),
                    f"{name}.out",
                    padding=(1, 1),
                    weight=layer.weight.numpy(),
                    bias=layer.bias.numpy(),
                    neuron=neuron,
                )
            )
        previous = found[-1].output
    weight, bias = readout
    found.append(Operation("fc", "linear", (previous,), "logits", weight=weight.numpy(), bias=bias.numpy()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=sorted(RECIPES), required=True)
    parser.add_argument("--phase", choices=("tune", "mask"), required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--test-images", type=int, default=10_000, help="for a quick look; the trace says how many")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.network]
    masked = arguments.phase == "mask"
    model = SpikingVGG(recipe)
    model.load_state_dict(torch.load(arguments.checkpoints / f"{arguments.network}-{arguments.phase}.pt")["model"])
    layers = quantise(model)
    scale = model.classifier.weight.detach().abs().max() / INT8_MAX
    readout = (
        torch.round(model.classifier.weight.detach() / scale).to(torch.int8),
        torch.round(model.classifier.bias.detach() / scale).long(),
    )
    images, labels = fashion_mnist(arguments.data, "t10k")
    images, labels = images[: arguments.test_images], labels[: arguments.test_images]
    correct = 0
    with torch.no_grad():
        for start in range(0, len(images), arguments.batch):
            part = slice(start, start + arguments.batch)
            logits = run(layers, recipe.layers, readout, images[part], recipe.timesteps, masked)["logits"].sum(0)
            correct += int((logits.argmax(1).numpy() == labels[part]).sum())
            if start % 2_000 == 0:
                print(f"{start + arguments.batch} images, {correct} correct", flush=True)
        tensors = run(layers, recipe.layers, readout, images[: arguments.images], recipe.timesteps, masked)
    accuracy = correct / len(images)
    weights = [layer.weight for layer in layers[1:]] + [readout[0]]
    sparsity = 1 - sum(int((w != 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    predicted = tensors["logits"].sum(0).argmax(1).tolist()
    trace = Trace(
        network=arguments.network,
        timesteps=recipe.timesteps,
        operations=operations(recipe.layers, layers, readout, recipe.timesteps, masked),
        tensors={name: value.numpy() for name, value in tensors.items() if name != "flat"},
        provenance={
            "kind": "trained",
            "weights": "trained",
            "dataset": "Fashion-MNIST, padded to 32 x 32",
            "accuracy": accuracy,
            "licence": "MIT (trace and weights); Fashion-MNIST: MIT, Zalando SE",
            "recipe": "workloads/recipes/train_dual_sparse.py, workloads/recipes/export_dual_sparse.py",
            "details": {
                "accuracy_of": f"the int8 network on {len(images)} test images",
                "variant": "fire-once neurons masked and fine-tuned" if masked else "plain",
                "weight_sparsity_without_direct_encoder": round(sparsity, 5),
                "scales": "one per output channel, folded into its threshold",
                "labels": labels[: arguments.images].tolist(),
                "predicted": predicted,
            },
        },
    )
    save_trace(trace, arguments.output)
    print(f"{arguments.output}: accuracy {accuracy:.4f}, weight sparsity {sparsity:.5f}, predicted {predicted}")


if __name__ == "__main__":
    main()
