"""Turn a checkpoint of ``train_tt_snn.py`` into traces: of the merged network, and of one step of its training.

**Inference.** The sub-convolutions of each layer are merged into one ordinary convolution, which gives the same
outputs; that is checked in double precision, on the currents in front of the read-out for 200 test images. In ``htt``
the kernels of the two halves of the timesteps stand side by side and read the spikes through gates
(:mod:`archsim.export.sub_convolutions`). Batch-norm is folded, weights are int8 with one scale per channel, accuracy is
that of the integer network on all test images.

**Training** (``--step``). The network as it is trained, sub-convolutions and all, on the first images of the training
set, with the gradient masks of one step of back-propagation through time: forward and backward, no update. The forward
pass is that of the integers, bit for bit; rounding lets gradients pass. The loss is cross-entropy of the mean logits
over their standard deviation. The surrogate gradient is not zero where 0 < X < 2 h, which is where the authors'
rectangle is not zero; the reset has no gradient. Batch-norm is folded, its statistics are frozen.

    python export_tt_snn.py htt --data DIR --checkpoints DIR -o tt_htt.npz
    python export_tt_snn.py htt --data DIR --checkpoints DIR -o tt_htt_step.npz --step
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from export_training_step import potentials_and_spikes
from spikingjelly.activation_based import layer
from spikingjelly.activation_based.functional import set_step_mode
from torch import Tensor, nn
from train_tt_snn import MODES, RHO, SIDE, TIMESTEPS, Convolution, Decomposed, MsResNet
from training import fashion_mnist

from archsim.export import from_torch
from archsim.export.sub_convolutions import decomposed, doubled, gated, stored
from archsim.export.tensor_train import Cores, merge
from archsim.trace import Operation, Trace, check_trace, save_trace
from archsim.trace.resimulation import predict, requantise

CHECKED_IMAGES = 200
CLOSE = 1e-5


class Halves(nn.Module):
    """``htt`` merged: one convolution that reads the first half of the timesteps and the second as other channels."""

    def __init__(self, merged: nn.Module) -> None:
        super().__init__()
        self.merged = merged

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [T, B, C, H, W]; [B, C, H, W] is read twice, for ``gated``."""
        if x.ndim == 4:
            return self.merged(torch.cat((x, x), -3))
        first = (torch.arange(len(x)) < len(x) // 2).to(x)[:, None, None, None, None]
        return self.merged(torch.cat((x * first, x * (1 - first)), -3))


def cores_of(conv: Decomposed) -> Cores:
    """The sub-convolutions of a layer."""
    parts = (conv.c1, conv.c2, conv.c3, conv.c4)
    return Cores(*(part.weight.detach().double().numpy() for part in parts))


def merge_all(network: MsResNet) -> dict[str, Cores]:
    """Put an ordinary convolution in the place of all sub-convolutions.

    Returns their cores by its name, with what batch-norm multiplies by in the last one.
    """
    found = {}
    for name, part in network.named_modules():
        if not isinstance(part, Convolution) or not isinstance(part.conv, Decomposed):
            continue
        mode, cores, norm = part.conv.mode, cores_of(part.conv), part.norm
        weight = doubled(cores) if mode == "htt" else merge(cores, mode)
        merged = layer.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
        merged.weight.data = torch.tensor(weight).to(part.norm.weight)
        part.conv = Halves(merged) if mode == "htt" else merged
        factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().double().numpy()
        scaled = cores._replace(c4=cores.c4 * factor[:, None, None, None])
        found[f"{name}.conv.merged" if mode == "htt" else f"{name}.conv"] = scaled
    return found


def load(mode: str, path: Path) -> tuple[MsResNet, dict[str, Any]]:
    """The network of a checkpoint, in evaluation mode, and the checkpoint."""
    state = torch.load(path, map_location="cpu")
    network = MsResNet(mode)
    network.load_state_dict({key.removeprefix("network."): value for key, value in state["model"].items()})
    return network.eval(), state


def difference(mode: str, path: Path, images: Tensor) -> float:
    """Largest difference of a current in front of the read-out between the network and the merged one, in double
    precision, over the largest current."""
    found = []
    for merged in (False, True):
        network = load(mode, path)[0].double()
        if merged:
            merge_all(network)
        network.body[-1] = nn.Identity()
        with torch.no_grad():
            currents = network.double().encoder(images.double() / 255)
            set_step_mode(network, "m")
            found.append(network.body(currents.expand(TIMESTEPS, *currents.shape)))
    return float((found[0] - found[1]).abs().max() / found[0].abs().max())


def export(
    mode: str, network: MsResNet, images: Tensor, provenance: Mapping[str, Any]
) -> tuple[Trace, dict[str, Cores]]:
    """The integer network with merged kernels (of ``htt`` without its gates) on ``images`` uint8, and the cores."""
    cores = merge_all(network)
    pixels = images.float() / 255
    found = from_torch(
        network, pixels, T=TIMESTEPS, input_scale=1 / 255, name=f"ms_resnet18_{mode}", provenance=provenance
    )
    return found.trace, cores


def gradient_masks(trace: Trace, labels: Tensor) -> dict[str, np.ndarray]:
    """Where dL/dX[t] is not zero in one step on the images of ``trace``, bool [T, I, ...] by operation with weights."""
    pixels = trace.operations[0].inputs[0]
    hidden: dict[str, Tensor] = {}
    for name in trace.tensors:
        values = torch.tensor(stored(trace, name)).double()
        if name == pixels:
            hidden[name] = values.expand(trace.timesteps, *values.shape).requires_grad_()
        elif name.startswith("gate"):
            hidden[name] = values
    found: dict[str, list[Tensor]] = {}
    for operation in trace.operations:
        output = _apply(operation, [hidden[name] for name in operation.inputs])
        if operation.neuron is not None:
            neuron = operation.neuron
            threshold = torch.tensor(neuron.threshold, dtype=torch.double)
            if neuron.fires_at_threshold:  # X >= h, as X is a whole number of these steps
                threshold = threshold - 2.0 ** -(neuron.fraction_bits + 1)
            found[operation.name], output = potentials_and_spikes(output, threshold, 2.0**-neuron.leak_shift)
        elif operation.op in ("conv2d", "linear"):
            output.retain_grad()
            found[operation.name] = [output]
        hidden[operation.output] = output
        if not np.array_equal(output.detach().numpy(), np.broadcast_to(trace.operand(operation.output), output.shape)):
            raise SystemExit(f"{operation.name}: the step differs from the integer network")
    logits = output.mean(0)
    functional.cross_entropy(logits / logits.detach().std(), labels).backward()
    return {
        operation.name: (
            torch.stack([x.grad for x in found[operation.name]]) if operation.neuron else found[operation.name][0].grad
        ).numpy() != 0
        for operation in trace.operations if operation.op in ("conv2d", "linear")
    }  # fmt: skip


def _apply(operation: Operation, inputs: list[Tensor]) -> Tensor:
    """The sums of an operation, or what its requantiser makes of them; rounding passes gradients on."""
    first, steps = inputs[0].flatten(0, 1), len(inputs[0])
    if operation.op in ("conv2d", "linear"):
        weight = torch.tensor(operation.weight).double()
        bias = None if operation.bias is None else torch.tensor(operation.bias).double()
        if operation.op == "linear":
            output = functional.linear(first.flatten(1), weight, bias)
        else:
            output = functional.conv2d(first, weight, bias, operation.stride, operation.padding)
        output = output.unflatten(0, (steps, -1))
    elif operation.op == "pool" and operation.reduction == "max":
        output = functional.max_pool2d(first, operation.kernel, operation.stride, ceil_mode=True).unflatten(
            0, (steps, -1)
        )
    elif operation.op == "pool":
        output = functional.avg_pool2d(first, operation.kernel, operation.stride, divisor_override=1)
        output = output.unflatten(0, (steps, -1))
    elif operation.op == "add":
        output = torch.stack(inputs).sum(0)
    elif operation.op == "multiply":
        output = inputs[0] * inputs[1]
    else:
        raise SystemExit(f"{operation.name}: a {operation.op} is no operation of this network")
    if operation.requantiser is not None:
        exact = torch.tensor(requantise(operation.requantiser, output.detach().numpy().astype(np.int64))).double()
        factor = torch.tensor(operation.requantiser.multiplier * 2.0**-operation.requantiser.shift)
        scaled = output * factor[:, None, None]
        output = scaled + (exact - scaled.detach())
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four Fashion-MNIST .gz files")
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--test-images", type=int, default=10_000, help="for a quick look; the trace says how many")
    parser.add_argument("--step", action="store_true", help="one step of training, instead of inference")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    mode = arguments.mode
    torch.set_num_threads(1)
    checkpoint = arguments.checkpoints / f"tt-{mode}-{arguments.seed}.pt"
    network, state = load(mode, checkpoint)
    images, labels = fashion_mnist(arguments.data, "train" if arguments.step else "t10k", SIDE)
    shown = images[: arguments.images]
    provenance: dict[str, Any] = {
        "kind": "trained",
        "weights": "trained",
        "dataset": "Fashion-MNIST",
        "licence": "MIT (trace and weights); Fashion-MNIST: MIT, Zalando SE",
        "recipe": f"workloads/recipes/train_tt_snn.py --mode {mode}, workloads/recipes/export_tt_snn.py",
        "seed": state["seed"],
    }
    base, cores = export(mode, network, shown, provenance)
    details: dict[str, Any] = {  # not those of ``from_torch``, which knows neither gates nor sub-convolutions
        "float_accuracy": state["accuracy"],
        "training_samples": state["samples"],
        "labels": labels[: arguments.images].tolist(),
    }
    if mode != "dense":
        details |= {"mode": mode, "rho": RHO}
    if arguments.step:
        details |= {
            "accuracy_of": "the network before it became integers, on 10000 test images",
            "step": "one step of back-propagation through time: forward and backward, no update",
            "loss": "cross-entropy of the mean logits over their standard deviation",
            "surrogate_gradient": "not zero where 0 < X < 2 threshold; no gradient through the reset",
            "batch_norm": "folded, statistics frozen",
            "images": f"the first {len(shown)} of the training set",
        }
        trace = base if mode == "dense" else decomposed(base, cores, mode)
        masks = gradient_masks(trace, labels[: arguments.images])
        trace = rebuilt(trace, masks, provenance=trace.provenance | {"accuracy": state["accuracy"], "details": details})
        for name, mask in masks.items():
            print(f"{name}: {mask.mean():.4f} of the gradients are not zero")
    else:
        trace = gated(base, cores) if mode == "htt" else base
        far = 0.0 if mode == "dense" else difference(mode, checkpoint, images[:CHECKED_IMAGES])
        if far > CLOSE:
            raise SystemExit(f"merged currents differ by {far}")
        chosen = images[: arguments.test_images]
        predicted = predict(trace, chosen.numpy())
        accuracy = float(np.mean(predicted == labels[: len(chosen)].numpy()))
        details |= {
            "accuracy_of": f"the integer network on {len(chosen)} test images",
            "predicted": predicted[: arguments.images].tolist(),
            "merged_differs_by": far,
        }
        trace = rebuilt(trace, {}, provenance=trace.provenance | {"accuracy": accuracy, "details": details})
        print(
            f"accuracy {accuracy:.4f}, of the float network {state['accuracy']:.4f}; merged logits differ by {far:.1e}"
        )
    wrong = [check.layer for check in check_trace(trace) if check.mismatches != 0]
    if wrong:
        raise SystemExit(f"the trace differs from the integer network in {', '.join(wrong)}")
    save_trace(trace, arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes")


def rebuilt(trace: Trace, masks: Mapping[str, np.ndarray], provenance: Mapping[str, Any]) -> Trace:
    """``trace`` with gradient masks and another provenance."""
    operations = [
        replace(operation, gradient_mask=masks[operation.name]) if operation.name in masks else operation
        for operation in trace.operations
    ]
    return Trace(
        network=trace.network, timesteps=trace.timesteps, operations=operations, provenance=provenance,
        tensors={name: stored(trace, name) for name in trace.tensors},
        scales={name: one.scale for name, one in trace.meta.tensors.items() if one.kind == "int"},
    )  # fmt: skip


if __name__ == "__main__":
    main()
