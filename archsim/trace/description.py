"""Arrays and operations in memory as the record of a trace and its arrays as a file stores them.

What cannot be stored is a problem that names the tensor or the operation; what is wrong with a whole that can be
stored is found where files are checked too (:mod:`archsim.trace.graph`, :mod:`archsim.trace.content`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import TraceError, nearest
from archsim.trace import content, graph, neurons, schema
from archsim.trace.operation import PLAIN_KEYS, Operation

HERE = "trace"
"""What problems of a trace in memory begin with, as those of a file do with its path."""
_INTEGERS = ", ".join(schema.INTEGER_DTYPES)
# What an array of each kind may be.
_ARRAYS = {
    "spike": "bool [T, I, ...]",
    "signed_spike": f"-1, 0 and 1 [T, I, ...] as {_INTEGERS}",
    "spike_time": "times [I, ...] as integers",
    "int": f"[T, I, ...] or [I, ...] as {_INTEGERS}",
}


def described(
    network: str,
    timesteps: int,
    operations: Sequence[Operation],
    tensors: Mapping[str, NDArray[Any]],
    provenance: Mapping[str, Any],
    more: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The record of a trace as JSON would hold it, and its arrays as they are stored.

    ``more`` has the keys of tensors that arrays do not tell: by key, then by tensor.
    """
    problems = [
        f"{HERE}: tensors.{name}.{key}: no such tensor{nearest(name, tensors)}"
        for key, values in more.items()
        for name in values
        if name not in tensors
    ]
    records: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    images = set()
    for name, tensor in tensors.items():
        array = np.asarray(tensor)
        timed = array.ndim in (3, 5)
        at = f"{HERE}: tensors.{name}"
        if array.ndim not in (2, 3, 4, 5) or not array.size:
            problems.append(f"{at}: got the shape {list(array.shape)}; allowed: [T, I, ...] or [I, ...]")
        elif timed and array.shape[0] != timesteps:
            problems.append(f"{at}: {timesteps} timesteps expected, got the shape {list(array.shape)}")
        else:
            told = {key: values[name] for key, values in more.items() if name in values}
            records[name], arrays[f"tensor.{name}"] = _tensor(array, timesteps, told, at, problems)
        images.add(array.shape[1] if timed else array.shape[0] if array.ndim else 0)
    if len(images) > 1:
        problems.append(f"{HERE}: tensors: the number of images differs, got {sorted(images)}")
    described = []
    for operation in operations:
        record, own, faults = _operation(operation)
        described.append(record)
        arrays.update(own)
        problems.extend(faults)
    if problems:
        raise TraceError(problems)
    record = {
        "format": schema.FORMAT,
        "version": schema.VERSIONS[-1],
        "network": network,
        "timesteps": timesteps,
        "images": images.pop() if images else 0,
        "provenance": dict(provenance),
        "tensors": records,
        "operations": described,
    }
    return record, arrays


def _tensor(
    array: NDArray[Any], timesteps: int, told: dict[str, Any], at: str, problems: list[str]
) -> tuple[dict[str, Any], NDArray[Any]]:
    """The record of a tensor and its array as it is stored. ``told`` has the keys that the array does not tell."""
    timed = array.ndim in (3, 5)
    integers = array.dtype.name in schema.INTEGER_DTYPES
    kind = told.get("kind", "spike" if array.dtype == np.bool_ else "int")
    record = {"kind": kind, "shape": list(array.shape[2 if timed else 1 :])} | told
    if kind == "spike" and array.dtype == np.bool_ and timed:
        return record, content.pack(array)
    if kind == "signed_spike" and integers and timed:
        if array.min() < -1 or array.max() > 1:
            problems.append(f"{at}: got {array.min()} to {array.max()}; allowed: -1, 0 and 1")
        return record, content.pack_signed(array)
    if kind == "spike_time" and array.dtype.kind in "iu" and not timed:
        dtype = content.time_dtype(timesteps)
        return record | {"dtype": dtype.name}, _integers(array, dtype.type, at, problems)
    if kind == "int" and integers:
        return {"dtype": array.dtype.name, "per_timestep": timed, "scale": 1.0} | record, array
    allowed = _ARRAYS.get(kind)
    got = f"{array.dtype} {list(array.shape)}" if allowed else repr(kind)
    allowed = allowed or f"{', '.join(_ARRAYS)}{nearest(kind, _ARRAYS)}"
    problems.append(f"{at}: got {got}; allowed: {allowed}")
    return record, array


def described_set(name: str, images: ArrayLike, labels: ArrayLike) -> dict[str, NDArray[Any]]:
    """The arrays of an image set; whether they fit is judged with all others."""
    classes = np.asarray(labels)
    whole = classes.astype(np.int64) if classes.dtype.kind in "iu" else classes
    return {f"{name}.images": np.asarray(images), f"{name}.labels": whole}


def _operation(operation: Operation) -> tuple[dict[str, Any], dict[str, NDArray[Any]], list[str]]:
    """The record of an operation, its arrays as they are stored, and what cannot be stored."""
    name = operation.name
    problems: list[str] = []
    record: dict[str, Any] = {
        "name": name, "op": operation.op, "inputs": list(operation.inputs), "output": operation.output,
    }  # fmt: skip
    arrays: dict[str, NDArray[Any]] = {}
    channels = 0
    weight = operation.weight
    if weight is not None:
        weight = np.asarray(weight)
        channels = weight.shape[0] if weight.ndim else 0
        record |= {
            "out_channels": channels,
            "weight": {"bits": operation.weight_bits, "scale": float(operation.weight_scale)},
            "bias": operation.bias is not None,
        }
        arrays[f"weight.{name}"] = _integers(weight, np.int8, f"{name}.weight", problems)
    known = schema.RECORDS[operation.op].model_fields if operation.op in schema.RECORDS else {}
    plain = {key: getattr(operation, key) for key in PLAIN_KEYS if key in known}
    if operation.op == "conv2d" and weight is not None and weight.ndim == 4:
        plain["kernel"] = weight.shape[2:]
    if operation.op == "delay" and isinstance(operation.steps, np.ndarray):
        plain["steps"], record["per_channel"] = None, True
        arrays[f"delay.{name}"] = _integers(operation.steps, np.int32, f"{name}.steps", problems)
    record |= {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}
    mask = operation.gradient_mask
    if mask is not None:
        record["gradient_mask"] = True
        if np.asarray(mask).dtype != np.bool_:
            problems.append(f"{HERE}: {name}.gradient_mask: bool [T, I, ...] expected, got {np.asarray(mask).dtype}")
        else:
            arrays[f"gradient.{name}"] = content.pack(np.asarray(mask))
    if operation.bias is not None:
        arrays[f"bias.{name}"] = _integers(operation.bias, np.int32, f"{name}.bias", problems)
    neuron = operation.neuron
    if neuron is not None:
        record["neuron"], parameters = neurons.described(neuron, channels)
        for role, values in parameters.items():
            dtype = neurons.dtype_of(neuron, role)
            arrays[f"{role}.{name}"] = _integers(values, dtype, f"{name}.neuron.{role}", problems)
    requantiser = operation.requantiser
    if requantiser is not None:
        record["requantiser"] = {
            "shift": requantiser.shift, "bits": requantiser.bits, "signed": requantiser.signed,
        }  # fmt: skip
        multiplier = _per_channel(requantiser.multiplier, channels)
        arrays[f"multiplier.{name}"] = _integers(multiplier, np.int32, f"{name}.requantiser.multiplier", problems)
        if requantiser.activation is not None:
            table = np.asarray(requantiser.activation)
            record["requantiser"]["activation_bits"] = neurons.index_bits(table)
            arrays[f"activation.{name}"] = _integers(table, np.int32, f"{name}.requantiser.activation", problems)
    if operation.table is not None:
        arrays[f"table.{name}"] = _integers(operation.table, np.uint16, f"{name}.table", problems)
    if operation.op == "layer_norm":
        record["bias"] = operation.bias is not None
    return record, arrays, problems


def _per_channel(values: ArrayLike, channels: int) -> NDArray[Any]:
    """One value for each of the ``channels`` of a layer with weights; a single one stands for all alike."""
    array = np.asarray(values)
    return array if array.ndim or not channels else np.full(channels, array)


def _integers(values: ArrayLike, dtype: type[np.integer[Any]], path: str, problems: list[str]) -> NDArray[Any]:
    """``values`` as ``dtype``, with a problem where that would change one."""
    array = np.asarray(values)
    limits = np.iinfo(dtype)
    if array.dtype.kind not in "iu":
        problems.append(f"{HERE}: {path}: integers expected, got {array.dtype}")
        return array
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        got = f"{array.min()} to {array.max()}"
        problems.append(f"{HERE}: {path}: got {got}; allowed: {limits.min} to {limits.max}")
        return array
    return array.astype(dtype)


def wrong_masks(meta: schema.Meta, resolved: graph.Graph, operations: Iterable[Operation]) -> list[str]:
    """Gradient masks that have the right number of bits in another shape."""
    problems = []
    for operation in operations:
        mask, wanted = operation.gradient_mask, graph.gradient_shape(meta, resolved.shapes[operation.name])
        if mask is not None and np.shape(mask) != wanted:
            got = list(np.shape(mask))
            problems.append(f"{HERE}: {operation.name}.gradient_mask: got bool {got}; allowed: bool {list(wanted)}")
    return problems


def misfits(resolved: graph.Graph, arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """Arrays of a trace in memory that are not what its operations promise."""
    problems = []
    for name in sorted({*arrays, *resolved.arrays}):
        spec, array = resolved.arrays.get(name), arrays.get(name)
        if spec is None:
            problems.append(f"{HERE}: array {name!r} has no use")
        elif array is None:
            problems.append(f"{HERE}: array {name!r} is missing; {spec.dtype} {list(spec.shape)} expected")
        elif array.dtype != spec.dtype or array.shape != spec.shape:
            got = f"{array.dtype} {list(array.shape)}"
            problems.append(f"{HERE}: array {name!r}: got {got}; allowed: {spec.dtype} {list(spec.shape)}")
    return problems
