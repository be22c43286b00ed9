"""Quantisation after training: a float PyTorch model and some images to a trace of few bits, layer by layer.

The model is traced and its batch-norms are folded; then layer after layer gets its integers (``torch_rounding``), each
on what the layers before it, already integers, give for the calibration images. No labels are used and nothing is
trained: weights end next to where they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from archsim import arguments
from archsim.errors import UsageError, nearest, printable
from archsim.export.activations import ACTIVATIONS, Activations
from archsim.export.expansion import expand
from archsim.export.folding import fold
from archsim.export.integers import resolved
from archsim.export.network import Network
from archsim.export.quantisation import Exported, export, integer_inputs
from archsim.export.rounding import Form
from archsim.export.scaling import Quantiser
from archsim.export.torch_modules import NeuronRule
from archsim.export.torch_rounding import Bits, Learned
from archsim.export.torch_running import output_of, run_float
from archsim.export.torch_tensors import load_torch
from archsim.export.torch_tracing import traced, versions

MOST_BITS = 8
ITERATIONS = 200


def quantise(
    model: Any,
    images: Any,
    T: int = 1,  # noqa: N803 - the field's name for the number of timesteps
    *,
    weight_bits: int = 4,
    activation_bits: int = 4,
    per_layer: Mapping[str, tuple[int, int]] | None = None,
    stored: int = 4,
    iterations: int = ITERATIONS,
    input_bits: int = 8,
    input_scale: float | None = None,
    approximate_leak: bool = False,
    neurons: Mapping[type, NeuronRule] | None = None,
    loop: bool | None = None,
    name: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Exported:
    """A PyTorch model as a trace whose weights and activations have 2 to 8 bits, calibrated on ``images`` [I, C, H, W].

    Layers have weights of ``weight_bits`` and read activations of ``activation_bits``; the first and the last have 8
    of both. ``per_layer`` maps names of layers, as the trace has them, to (bits of weights, bits of activations) of
    their own. Spikes have one bit and pixels ``input_bits``, whatever is said. Rounding is learned in ``iterations``
    steps a layer; with 0 every weight is rounded to the nearest. The trace holds the first ``stored`` images. Nothing
    is drawn by lot: the same call gives the same trace.

    ``T``, ``input_bits``, ``input_scale``, ``approximate_leak``, ``neurons``, ``loop``, ``name`` and ``provenance`` as
    in ``from_torch``. Raises ``UsageError`` with what is not allowed, and for recurrent networks.
    """
    torch = load_torch()
    _check(weight_bits, activation_bits, iterations, stored)
    shown = torch.as_tensor(images)
    if shown.ndim not in (2, 4):
        raise UsageError(f"images: got the shape {list(shown.shape)}; allowed: [I, C, H, W] or [I, F]")
    options: dict[str, Any] = {"input_bits": input_bits, "input_scale": input_scale}
    tracing = {**options, "weight_bits": 8, "neurons": neurons, "loop": loop, "provenance": provenance}
    network = traced(model, shown[:1], T, **tracing)
    fold(network)
    expand(network)
    if any(len(part) > 1 for part in network.parts()):
        raise UsageError("model: it is recurrent; allowed: networks whose layers read earlier layers")
    bits = _bits(network, weight_bits, activation_bits, per_layer or {})
    network.inputs = shown.detach().double().numpy()
    given = run_float(network, network.inputs)
    network.recorded = dict(given)
    rounding = Learned(network, bits, given, iterations)
    _learn(network, rounding, approximate_leak, input_bits, input_scale)
    details = {
        "calibration_images": len(shown),
        "bits": {layer: f"W{one.weights}A{one.activations}" for layer, one in bits.items()},
    }
    labels = {"source": versions(model), **(provenance or {})}
    labels["details"] = {**labels.get("details", {}), **details}
    final = traced(model, shown[:stored], T, **tracing)
    return export(
        final, name=name or type(model).__name__, rounding=rounding, approximate_leak=approximate_leak,
        accept_differences=True, provenance=labels, **options,
    )  # fmt: skip


def _learn(
    network: Network, rounding: Learned, approximate_leak: bool, input_bits: int, input_scale: float | None
) -> None:  # fmt: skip
    """Decide layer after layer, and run what is decided on the calibration images."""
    inputs, scale, kind = integer_inputs(network, input_bits, input_scale)
    (source,) = (node.name for node in network.nodes.values() if node.op == "input")
    kinds = {source: kind} if kind else {}
    operations: Iterator[Any]
    quantiser: Activations | Quantiser
    if any(node.op in ACTIVATIONS for node in network.nodes.values()):
        quantiser = activations = Activations(network, rounding, Form(scale, input_bits, bool(inputs.min() < 0)))
        rounding.unit = lambda name: activations.form(name).scale
        constants = activations.constants()
    else:
        quantiser = spiking = Quantiser(network, rounding, approximate_leak, scale)
        rounding.unit = spiking.scale
        constants = {name: values[None] for name, values in spiking.constants().items()}
    operations = iter(quantiser.operations())
    tensors = rounding.tensors
    tensors[source] = inputs
    tensors |= {name: np.broadcast_to(values, (len(inputs), *values.shape[1:])) for name, values in constants.items()}
    for operation in operations:
        read = {name: tensors[name] for name in operation.inputs}
        whole = resolved(operation, read, network.timesteps, kinds)
        tensors[operation.output] = output_of(whole, list(read.values()), network.timesteps)
        if operation.neuron is not None and operation.neuron.fires == "signed":
            kinds[operation.output] = "signed_spike"
    if isinstance(quantiser, Quantiser) and quantiser.problems:
        raise UsageError(quantiser.problems)


def _bits(
    network: Network, weight_bits: int, activation_bits: int, per_layer: Mapping[str, tuple[int, int]]
) -> dict[str, Bits]:
    """The bits of every layer."""
    layers = [node.name for node in network.nodes.values() if node.op in ("conv2d", "linear")]
    found = dict.fromkeys(layers, Bits(weight_bits, activation_bits))
    found |= dict.fromkeys((*layers[:1], *layers[-1:]), Bits(MOST_BITS, MOST_BITS))
    problems = []
    for layer, given in per_layer.items():
        if layer not in found:
            problems.append(f"per_layer: there is no layer {printable(repr(layer))}{nearest(str(layer), layers)}")
        elif not (isinstance(given, tuple | list) and len(given) == 2 and all(map(_is_bits, given))):
            problems.append(
                f"per_layer: {layer}: got {printable(repr(given))}; allowed: (bits of weights, bits of activations), 2"
                f" to {MOST_BITS} each"
            )
        else:
            found[layer] = Bits(*given)
    if problems:
        raise UsageError(problems)
    return found


def _is_bits(value: object) -> bool:
    return bool(arguments.WHOLE.fits(value)) and 2 <= value <= MOST_BITS  # type: ignore[operator]


def _check(weight_bits: int, activation_bits: int, iterations: int, stored: int) -> None:
    problems = [
        f"{name}: got {printable(repr(bits))}; allowed: 2 to {MOST_BITS}"
        for name, bits in (("weight_bits", weight_bits), ("activation_bits", activation_bits))
        if not _is_bits(bits)
    ]
    problems += [
        f"{name}: got {printable(repr(count))}; allowed: {least} or more"
        for name, count, least in (("iterations", iterations, 0), ("stored", stored, 1))
        if not arguments.WHOLE.fits(count) or count < least
    ]
    if problems:
        raise UsageError(problems)
