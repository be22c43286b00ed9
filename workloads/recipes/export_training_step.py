"""One step of training of an exported network: its spikes, and which gradients are not zero.

Takes a trace that ``export_dual_sparse.py`` wrote and trains its integer network for one step of back-propagation
through time, on the first images of the training set, with the surrogate gradient and the loss of
``train_dual_sparse.py``: cross-entropy of the mean logits plus the penalty on firing rates. Batch-norm is folded into
the weights, as in fine-tuning with frozen statistics.

The forward pass is that of the trace, bit for bit (all numbers are integers, or fractions of them that float64 holds),
so the new trace verifies. The backward pass says where dL/dX[t], the gradient at the potential X[t], is not zero. The
surrogate gradient sees X[t] over the threshold of its channel, which is the potential of the float network.

The penalty reaches every spike, so that a gradient is zero only where the surrogate gradient is, and all those of later
timesteps until the neuron fires. With ``--rate-penalty 0`` only what the classifier asks for comes down: a pool passes
it on to one of its inputs, pruned weights to none.

The trace does not hold the scale of the read-out. Logits are divided by their standard deviation instead: a positive
factor changes the size of gradients and not which of them are zero.

    python export_training_step.py vgg9_dual_sparse.npz --data DIR -o vgg9_training_step.npz
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor
from train_dual_sparse import LEAK, RECIPES, Spike, fashion_mnist

from archsim.trace import Operation, Trace, check_trace, load_trace, save_trace


def potentials_and_spikes(
    currents: Tensor, threshold: Tensor, leak: float = LEAK
) -> tuple[list[Tensor], Tensor]:  # fmt: skip
    """X, for each timestep, and s, [T, I, N, H, W], of integer ``currents`` of that shape; X keeps its gradient."""
    limit = threshold[:, None, None]
    potentials, spikes = [currents[0]], []
    for t in range(len(currents)):
        if t:
            potentials.append(leak * potentials[-1] * (1 - spikes[-1].detach()) + currents[t])
        # A tensor that others were computed from keeps its gradient only if asked to.
        potentials[-1].retain_grad()
        spikes.append(Spike.apply(potentials[-1] / limit))
    return potentials, torch.stack(spikes)


def train_step(
    trace: Trace, images: np.ndarray, labels: np.ndarray, rate_penalty: float
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All tensors of the forward pass by name, and dL/dX [T, I, ...] by operation, on ``images`` uint8 [I, C, H, W]."""
    steps = trace.timesteps
    pixels = trace.operations[0].inputs[0]
    tensors = {pixels: torch.tensor(images)}
    # Weights get no gradient here, so the pixels must, or there would be no backward pass.
    hidden = {pixels: tensors[pixels].double().expand(steps, *images.shape).requires_grad_()}
    found: dict[str, list[Tensor]] = {}
    rates = []
    for operation in trace.operations:
        inputs = hidden[operation.inputs[0]].flatten(0, 1)
        if operation.op == "pool":
            output = functional.max_pool2d(inputs, operation.kernel, operation.stride, operation.padding)
        else:
            weight = torch.tensor(operation.weight, dtype=torch.double)
            bias = None if operation.bias is None else torch.tensor(operation.bias, dtype=torch.double)
            if operation.op == "linear":
                output = functional.linear(inputs.flatten(1), weight, bias)
            else:
                output = functional.conv2d(inputs, weight, bias, operation.stride, operation.padding)
        output = output.unflatten(0, (steps, len(images)))
        if operation.neuron is not None:
            threshold = torch.tensor(operation.neuron.threshold, dtype=torch.double)
            found[operation.name], output = potentials_and_spikes(output, threshold)
            rates.append(output.mean())
        elif operation.op != "pool":
            output.retain_grad()
            found[operation.name] = [output]
        hidden[operation.output] = output
        values = output.detach()
        tensors[operation.output] = values.long() if operation.op == "linear" else values.bool()
    logits = output.mean(0)
    loss = functional.cross_entropy(logits / logits.detach().std(), torch.tensor(labels, dtype=torch.long))
    (loss + rate_penalty * torch.stack(rates).mean()).backward()
    gradients = {}
    for operation in trace.operations:
        kept = found.get(operation.name)
        if kept is not None:
            gradients[operation.name] = torch.stack([x.grad for x in kept]) if operation.neuron else kept[0].grad
    return tensors, gradients


def check_is_plain(trace: Trace) -> None:
    """The step above knows the networks of ``export_dual_sparse.py`` without silenced neurons, and no others."""

    def is_known(operation: Operation) -> bool:
        neuron = operation.neuron
        if neuron is None:
            return operation.op in ("pool", "linear")
        exact = neuron.fraction_bits >= trace.timesteps - 1
        return neuron.leak_shift == 1 and neuron.reset == "hard" and exact and not neuron.mask_fire_once

    unknown = [operation.name for operation in trace.operations if not is_known(operation)]
    if unknown:
        raise SystemExit(f"not a network of export_dual_sparse.py --phase tune: {', '.join(unknown)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rate-penalty", type=float, help="instead of the recipe's; 0 is cross-entropy alone")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    trace = load_trace(arguments.trace)
    check_is_plain(trace)
    recipe = RECIPES[trace.network]
    penalty = recipe.rate_penalty if arguments.rate_penalty is None else arguments.rate_penalty
    images, labels = fashion_mnist(arguments.data, "train")
    images, labels = images[: arguments.images], labels[: arguments.images]
    tensors, gradients = train_step(trace, images, labels, penalty)
    operations = [
        replace(operation, gradient_mask=(gradients[operation.name] != 0).numpy())
        if operation.name in gradients
        else operation
        for operation in trace.operations
    ]
    origin = trace.provenance
    details = {
        "accuracy_of": origin["details"]["accuracy_of"],
        "step": "one step of back-propagation through time: forward and backward, no update",
        "loss": f"cross-entropy of the mean logits + {penalty} times the mean firing rate",
        "surrogate_gradient": "max(0, 1 - |X / threshold - 1|), leak and hard reset as in the forward pass, "
        "no gradient through the reset",
        "batch_norm": "folded, statistics frozen",
        "images": f"the first {len(images)} of the training set",
        "labels": labels.tolist(),
        "predicted": tensors[trace.operations[-1].output].sum(0).argmax(1).tolist(),
        "weights_of": trace.sha256,
    }
    recipes = f"{origin['recipe']}, workloads/recipes/export_training_step.py"
    step = Trace(
        network=trace.network,
        timesteps=trace.timesteps,
        operations=operations,
        tensors={name: tensor.numpy() for name, tensor in tensors.items()},
        provenance=origin | {"recipe": recipes, "details": details},
    )
    wrong = [check.layer for check in check_trace(step) if check.mismatches != 0]
    if wrong:
        raise SystemExit(f"the float64 network differs from the integer one in {', '.join(wrong)}")
    save_trace(step, arguments.output)
    for operation in step.operations:
        if operation.gradient_mask is not None:
            print(f"{operation.name}: {operation.gradient_mask.mean():.4f} of the gradients are not zero")


if __name__ == "__main__":
    main()
