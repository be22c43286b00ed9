"""The integer network on its inputs, part by part, by the rules that verify a trace."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import TraceError, UsageError
from archsim.trace.cycles import components
from archsim.trace.model import Trace
from archsim.trace.operation import Operation
from archsim.trace.resimulation import compute, run_cycle

# Operations that write what they read.
_PASS_ON = ("pool", "concat", "slice", "upsample", "rearrange", "delay")
_PROVENANCE = {"kind": "trained", "weights": "trained"}


def parts(operations: list[Operation], known: Container[str]) -> list[list[Operation]]:
    """The operations in an order in which they can run, those of a cycle together.

    Nothing waits for tensors that are ``known`` before.
    """
    writers = {operation.output: place for place, operation in enumerate(operations) if operation.output not in known}
    sources = [[writers[name] for name in operation.inputs if name in writers] for operation in operations]
    return [[operations[place] for place in part] for part in components(sources)]


def outputs_of(
    part: list[Operation], known: Mapping[str, NDArray[Any]], timesteps: int, kinds: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """What the operations of a part write, by name; ``known`` are the tensors that it reads from others.

    ``shapes`` of outputs leave out time and images.
    """
    if len(part) > 1:
        return _cycle(part, known, timesteps, kinds, shapes)
    (operation,) = part
    inputs = {name: known[name] for name in operation.inputs}
    alone = _trace(part, inputs, timesteps, kinds)
    (resolved,) = alone.operations
    output = compute(resolved, [alone.operand(name) for name in operation.inputs], timesteps)
    still = (
        operation.neuron is None and operation.op != "delay" and all(array.ndim in (2, 4) for array in inputs.values())
    )
    return {operation.output: output[0] if still else np.ascontiguousarray(output)}


def resolved(
    operation: Operation, known: Mapping[str, NDArray[Any]], timesteps: int, kinds: Mapping[str, str]
) -> Operation:  # fmt: skip
    """The operation with the shapes of the tensors ``known`` that it reads, [I, ...] or [T, I, ...]; values apart from
    those of the first image are not looked at."""
    shown = {}
    for name in operation.inputs:
        array = known[name]
        first = array[:, :1] if array.ndim in (3, 5) else array[:1]
        wide = first.dtype == np.int64
        shown[name] = first.astype(np.int32) if wide else first
    (found,) = _trace([operation], shown, timesteps, kinds).operations
    return found


def _cycle(
    part: list[Operation], known: Mapping[str, NDArray[Any]], timesteps: int, kinds: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, NDArray[Any]]:  # fmt: skip
    writers = {operation.output: operation for operation in part}
    inputs = {name: known[name] for operation in part for name in operation.inputs if name not in writers}
    images = next(array.shape[1 if array.ndim in (3, 5) else 0] for array in known.values())
    nothing = {name: np.zeros((timesteps, images, *shapes[name]), _type(name, writers, known)) for name in writers}
    trace = _trace(part, inputs | nothing, timesteps, kinds)
    tensors = {name: trace.operand(name) for name in inputs}
    (cycle,) = trace.cycles
    run_cycle(trace, cycle, tensors, images)
    return {name: tensors[name] for name in writers}


def _type(name: str, writers: Mapping[str, Operation], known: Mapping[str, NDArray[Any]]) -> np.dtype[Any]:
    """The type of what an operation of a cycle writes."""
    if name not in writers:
        return known[name].dtype
    operation = writers[name]
    if operation.neuron is not None:
        spikes = {"spike": np.bool_, "signed": np.int8}
        return np.dtype(spikes.get(operation.neuron.fires, np.int32))
    if operation.op in _PASS_ON and operation.reduction == "max":
        return _type(operation.inputs[0], writers, known)
    return np.dtype(np.int32)


def _trace(
    operations: list[Operation], tensors: Mapping[str, NDArray[Any]], timesteps: int, kinds: Mapping[str, str]
) -> Trace:  # fmt: skip
    """The operations alone, as a trace."""
    name = operations[0].name
    try:
        return Trace(
            network=name, timesteps=timesteps, operations=operations, tensors=tensors, provenance=_PROVENANCE,
            kinds={tensor: kind for tensor, kind in kinds.items() if tensor in tensors},
        )  # fmt: skip
    except TraceError as error:
        raise UsageError([f"{name}: {problem.removeprefix('trace: ')}" for problem in error.problems]) from None
