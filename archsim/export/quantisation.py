"""From a float network to integers, and how far apart the two are.

``folding`` takes batch-norms into the layers, ``scaling`` chooses the unit of every tensor and writes the operations;
of a network of activations instead of spikes ``activations`` does.
The integer network then runs on the same inputs, by the rules that verify a trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import UsageError
from archsim.export.activations import ACTIVATIONS, Activations
from archsim.export.comparison import LayerError, compared, refusals, table, warnings
from archsim.export.expansion import expand
from archsim.export.folding import fold
from archsim.export.integers import outputs_of, parts
from archsim.export.network import Network, Node, Shape, run
from archsim.export.rounding import Form, Nearest
from archsim.export.scaling import LARGEST_STORED, REQUANTISED_BITS, Quantiser
from archsim.trace.model import Trace
from archsim.trace.operation import Operation

_EIGHT_BITS = Nearest()


@dataclass(frozen=True, eq=False)
class Exported:
    """The integer network on the inputs as a ``trace``, and the stated error: per layer, and the share of inputs whose
    class (the largest sum over time of the last layer) is the float model's; None where the last layer has no classes.

    ``warnings`` tell where the trace may not be what was wanted: layers that differ from the model and layers
    that never fire. ``notes`` tell what was read or done otherwise than it stands in the model.
    """

    trace: Trace
    layers: tuple[LayerError, ...]
    class_agreement: float | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [*(f"warning: {warning}" for warning in self.warnings), *table(self.layers)]
        if self.class_agreement is not None:
            lines.append(
                f"same class as the float model: {100 * self.class_agreement:.2f} % of {self.trace.images} inputs"
            )
        return "\n".join([*lines, *self.notes])


def export(
    network: Network,
    *,
    name: str,
    provenance: Mapping[str, Any],
    rounding: Nearest = _EIGHT_BITS,
    input_bits: int = 8,
    input_scale: float | None = None,
    approximate_leak: bool = False,
    accept_differences: bool = False,
) -> Exported:
    """Quantise ``network``, run it on its inputs and compare; ``UsageError`` with all that a trace cannot hold.

    A layer whose spikes are others than the model's (``LayerError``) is refused too, but not with
    ``accept_differences``.
    """
    _check_weights(network)
    fold(network)
    expand(network)
    if any(node.op in ACTIVATIONS for node in network.nodes.values()):
        return _without_spikes(network, name, provenance, rounding, input_bits, input_scale)
    inputs, scale, kind = integer_inputs(network, input_bits, input_scale)
    quantiser = Quantiser(network, rounding, approximate_leak, scale)
    operations = list(quantiser.operations())
    if quantiser.problems:
        raise UsageError(quantiser.problems)
    source = _input_of(network).name
    kinds = {source: kind} if kind else {}
    kinds |= {op.output: "signed_spike" for op in operations if op.neuron is not None and op.neuron.fires == "signed"}
    shapes = {node.name: node.shape for node in network.nodes.values()}
    given = {source: inputs, **_constants(network, quantiser)}
    tensors = _run(operations, given, network.timesteps, kinds, shapes)
    alone = _run(operations, given, network.timesteps, kinds, shapes, network.recorded)
    layers = _errors(network, quantiser.weight_errors, operations, tensors, alone)
    if not accept_differences and (refused := refusals(layers)):
        raise UsageError(refused)
    agreement = _class_agreement(network, operations, tensors)
    notes = (*network.notes, *quantiser.notes)
    warned = warnings(layers)
    details: dict[str, Any] = {
        "spikes_that_differ_from_the_float_model": {
            row.layer: round(row.differing, 6) for row in layers if row.differing is not None
        },
        "weight_error": {row.layer: round(row.weight_error, 6) for row in layers if row.weight_error is not None},
        "same_class_as_the_float_model": agreement,
        "scales": "one per output channel, folded into its threshold",
        **({"notes": list(notes)} if notes else {}),
        **({"warnings": warned} if warned else {}),
    }
    labels = {"kind": "trained", "weights": "trained", **provenance}
    labels["details"] = {**labels.get("details", {}), **details}
    scales = _scales(quantiser, operations) | ({} if inputs.dtype == np.bool_ or kind else {source: scale})
    trace = Trace(
        network=name, timesteps=network.timesteps, operations=operations, tensors=tensors, provenance=labels,
        kinds=kinds, scales=scales,
    )  # fmt: skip
    return Exported(trace, layers, agreement, notes, tuple(warned))


def _without_spikes(
    network: Network, name: str, provenance: Mapping[str, Any], rounding: Nearest, input_bits: int,
    input_scale: float | None,
) -> Exported:  # fmt: skip
    """A network of activations, as ``activations`` has it."""
    inputs, scale, _ = integer_inputs(network, input_bits, input_scale)
    inputs = (inputs[0] if network.inputs.ndim in (3, 5) else inputs).astype(
        np.uint8 if inputs.dtype == np.bool_ else inputs.dtype
    )
    run(network)
    form = Form(scale, input_bits, bool(inputs.min() < 0))
    activations = Activations(network, rounding, form)
    operations = list(activations.operations())
    shapes = {node.name: node.shape for node in network.nodes.values()}
    tensors: dict[str, NDArray[Any]] = {_input_of(network).name: inputs}
    for constant, values in activations.constants().items():
        tensors[constant] = np.repeat(values, len(inputs), 0)
    rows = []
    for operation in operations:
        output = outputs_of([operation], tensors, 1, {}, shapes)[operation.output]
        if np.abs(output).max() > LARGEST_STORED:
            raise UsageError(f"{operation.name}: sums reach {np.abs(output).max():,}; allowed: 32 bits")
        moved = tensors[operation.inputs[0]].dtype
        tensors[operation.output] = output.astype(moved if operation.moves else activations.dtype(operation))
        if operation.weight is not None:
            real = network.recorded[operation.output][0]
            off = float(np.sqrt(((output * activations.scale(operation) - real) ** 2).mean()))
            power = float(np.sqrt((real**2).mean()))
            weights = activations.weight_errors[operation.name]
            rows.append(LayerError(operation.name, operation.op, weights, None, None, None, error=off / (power or 1.0)))
    agreement = _class_agreement(network, operations, tensors)
    warned = warnings(rows)
    details: dict[str, Any] = {
        "error": {row.layer: round(row.error or 0.0, 6) for row in rows},
        "weight_error": {row.layer: round(row.weight_error or 0.0, 6) for row in rows},
        "same_class_as_the_float_model": agreement,
        "scales": rounding.told,
        **({"notes": list(network.notes)} if network.notes else {}),
        **({"warnings": warned} if warned else {}),
    }
    labels = {"kind": "trained", "weights": "trained", **provenance}
    labels["details"] = {**labels.get("details", {}), **details}
    scales = {tensor: float(activations.form(tensor).scale) for tensor in tensors}
    scales |= {operation.output: float(activations.scale(operation)) for operation in operations}
    trace = Trace(
        network=name, timesteps=1, operations=operations, tensors=tensors, provenance=labels, scales=scales
    )  # fmt: skip
    return Exported(trace, tuple(rows), agreement, tuple(network.notes), tuple(warned))


def _check_weights(network: Network) -> None:
    problems = [
        f"{node.name}: weights that are not finite"
        for node in network.nodes.values()
        if not all(np.isfinite(array).all() for array in (node.weight, node.bias) if array is not None)
    ]
    if problems:
        raise UsageError(problems)


def _constants(network: Network, quantiser: Quantiser) -> dict[str, NDArray[Any]]:
    """What is the same for all inputs, [I, ...]."""
    images = network.inputs.shape[1 if network.inputs.ndim in (3, 5) else 0]
    return {
        name: np.broadcast_to(_narrowed(integers), (images, *integers.shape))
        for name, integers in quantiser.constants().items()
    }


def _scales(quantiser: Quantiser, operations: list[Operation]) -> dict[str, float]:
    """The real value of one unit of the potentials that read-outs give, where channels have the same."""
    read_outs = [op.output for op in operations if op.neuron is not None and op.neuron.fires == "nothing"]
    found = {name: np.unique(quantiser.scale(name)) for name in read_outs}
    return {name: float(scale[0]) for name, scale in found.items() if len(scale) == 1}


def _input_of(network: Network) -> Node:
    return next(node for node in network.nodes.values() if node.op == "input")


def integer_inputs(network: Network, bits: int, scale: float | None) -> tuple[NDArray[Any], float, str]:
    """Inputs as a trace stores them, the real value of one unit, and their kind where the array does not tell."""
    values = network.inputs
    timed = values.ndim in (3, 5)
    whole = bool((values == np.round(values)).all())
    if timed and scale is None and whole and values.min() >= 0 and values.max() <= 1:
        return values.astype(np.bool_), 1.0, ""
    if timed and scale is None and whole and np.abs(values).max() <= 1:
        return values.astype(np.int8), 1.0, "signed_spike"
    signed = bool(values.min() < 0)
    largest = (1 << (bits - signed)) - 1
    if not largest:
        raise UsageError(f"input_bits: got {bits}; allowed: 2 to 16, as there are inputs below zero")
    dtype = (np.int8 if signed else np.uint8) if bits <= 8 else np.int16 if signed or bits < 16 else np.int32
    if scale is None:
        scale = 1.0 if whole and np.abs(values).max() <= largest else float(np.abs(values).max()) / largest
    scale = float(scale)  # it may be an integer of any size
    integers = np.round(values / scale)
    if np.abs(integers).max() > largest:
        got = f"{np.abs(integers).max():.10g}"
        raise UsageError(
            f"input_scale: in units of {scale:g} the inputs reach {got}; allowed with {bits} bits: {largest}"
        )
    error = float(np.abs(integers * scale - values).max())
    if error > 1e-6 * float(np.abs(values).max()):
        network.notes.append(f"inputs: rounded to {bits} bits, off by at most {error:.3g}")
    return integers.astype(dtype), scale, ""


def _errors(
    network: Network, weight_errors: Mapping[str, float], operations: list[Operation],
    tensors: Mapping[str, NDArray[Any]], alone: Mapping[str, NDArray[Any]],
) -> tuple[LayerError, ...]:  # fmt: skip
    """One row an operation that has weights or neurons."""
    rows = []
    for operation in operations:
        if operation.neuron is None and operation.weight is None:
            continue
        real, integer = network.recorded.get(operation.output), tensors[operation.output]
        fires = operation.neuron is not None and operation.neuron.fires != "nothing"
        density = float(integer.mean()) if fires else None
        error = weight_errors.get(operation.name)
        row = LayerError(operation.name, operation.op, error, None, density, None)
        if fires and real is not None:
            row = compared(row, real != 0, integer, alone[operation.output])
        rows.append(row)
    return tuple(rows)


def _run(
    operations: list[Operation], tensors: Mapping[str, NDArray[Any]], timesteps: int, kinds: Mapping[str, str],
    shapes: Mapping[str, Shape], model: Mapping[str, NDArray[Any]] | None = None,
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """All tensors of the integer network, by the rules that verify a trace.

    With outputs of the ``model``, every neuron's spikes are followed by the model's: who reads it reads those.
    """
    spiking = {op.output for op in operations if op.neuron is not None and op.neuron.fires != "nothing"}
    models = {name: _as_spikes(model[name], kinds.get(name)) for name in spiking & set(model or ()) if model}
    known, found = {**tensors, **models}, dict(tensors)
    for part in parts(operations, models):
        outputs = outputs_of(part, known, timesteps, kinds, shapes)
        for operation in part:
            output = outputs[operation.output]
            if output.dtype != np.bool_ and kinds.get(operation.output) != "signed_spike":
                output = _stored(operation, output)
            found[operation.output] = output
            known.setdefault(operation.output, output)
    return found


def _as_spikes(values: NDArray[Any], kind: str | None) -> NDArray[Any]:
    """Spikes that a model gave as a trace holds them."""
    if kind == "signed_spike":
        return values.astype(np.int8)
    return _narrowed(np.round(values)) if values.size and values.max() > 1 else values != 0


def _stored(operation: Operation, output: NDArray[Any]) -> NDArray[Any]:
    """Integers as a trace holds them."""
    largest = int(np.abs(output).max())
    if operation.requantiser is not None and largest >= (1 << (REQUANTISED_BITS - 1)) - 1:
        raise UsageError(f"{operation.name}: requantised sums leave {REQUANTISED_BITS} bits")
    if largest > LARGEST_STORED:
        raise UsageError(f"{operation.name}: sums reach {largest:,}; allowed: 32 bits")
    return _narrowed(output)


def _narrowed(integers: NDArray[Any]) -> NDArray[Any]:
    """The same in the narrowest type that has room for them."""
    least, most = int(integers.min()), int(integers.max())
    fitting = (
        kind for kind in (np.uint8, np.int8, np.int16) if np.iinfo(kind).min <= least <= most <= np.iinfo(kind).max
    )
    return integers.astype(next(fitting, np.int32))


def _class_agreement(
    network: Network, operations: list[Operation], tensors: Mapping[str, NDArray[Any]]
) -> float | None:
    """Share of inputs for which the last layer's largest sum over time is in the same place."""
    read = {name for operation in operations for name in operation.inputs}
    ends = [operation.output for operation in operations if operation.output not in read]
    if len(ends) != 1 or len(network.nodes[ends[0]].shape) != 1 or ends[0] not in network.recorded:
        return None
    real, integer = network.recorded[ends[0]], tensors[ends[0]]
    classes = [values.sum(0) if values.ndim == 3 else values for values in (real, integer.astype(np.float64))]
    return float((classes[0].argmax(1) == classes[1].argmax(1)).mean())
