"""A trace whose 3x3 convolutions become the sub-convolutions of a tensor train, as they run in training (TT-SNN).

Each decomposed convolution of the trace, whose integer weights are those of the merged kernel, becomes

    name.c1                  1x1, reads the spikes; integer sums
    name.c2, name.c3         3x1 and 1x3, read integers; a requantiser ends their sums in MIDDLE_BITS
    name.join                ptt, htt: the sum of both. The halving is in the unit of c4's weights
    name.c4                  1x1, reads integers; a requantiser ends its sums in the unit of the convolution it replaces
    name.neurons             those of the convolution, where it has some

In ``htt`` the sums of c1 are multiplied by two *gates*, spikes that are stored with the trace: ``name.first`` passes
the first T // 2 timesteps to c2 and c3, ``name.rest`` brings the others to the unit of the join, which adds them.

Weights are int8 with a scale per output channel, in which the unit of the inputs is contained. Units between are chosen
so that the largest value of the traced images has a bit to spare. All operations behind are computed again, since
rounding differs from that of the merged kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.errors import UsageError
from archsim.export.tensor_train import Cores, Reals, merge
from archsim.trace import Operation, Requantiser, Trace
from archsim.trace.resimulation import compute
from archsim.trace.tensor_train import Mode

WEIGHT_MOST = 127
MIDDLE_BITS = 15
"""Of what c2 and c3 write, so that their sum has 16."""
OUTPUT_BITS = 16
FIRST, REST = "gate.first", "gate.rest"
_LABELS = {"kind": "synthetic", "weights": "synthetic"}


class Values(NamedTuple):
    """A tensor of the trace and what one unit of each channel is worth, [C]."""

    name: str
    unit: Reals


class Run:
    """Operations that are computed as they are added, on the tensors so far."""

    def __init__(self, timesteps: int, tensors: Mapping[str, NDArray[Any]]) -> None:
        self.timesteps = timesteps
        self.tensors = dict(tensors)
        self.operations: list[Operation] = []

    def add(self, operation: Operation) -> NDArray[Any]:
        """Compute ``operation``, keep it and its output, which is returned."""
        inputs = {name: self.tensors[name] for name in operation.inputs}
        one = Trace(
            network="one", timesteps=self.timesteps, operations=[operation], tensors=inputs, provenance=_LABELS
        )  # fmt: skip
        (known,) = one.operations
        operands = [one.operand(name) for name in operation.inputs]
        timed = operation.neuron is not None or any(
            values.ndim == 2 + len(shape) for values, shape in zip(operands, known.input_shapes, strict=True)
        )
        found = compute(known, operands, self.timesteps if timed else 1)
        bits = 0 if operation.requantiser is None else operation.requantiser.bits
        output = narrowed(found if timed else found[0], bits)
        self.operations.append(operation)
        self.tensors[operation.output] = output
        return output

    def convolution(
        self, name: str, given: Values, core: NDArray[Any], output: str, **more: Any
    ) -> tuple[NDArray[Any], Reals]:
        """A convolution with real weights ``core`` [N, C, kh, kw]: its integer sums, and their unit [N]."""
        weight, unit = quantised(core * given.unit[:, None, None])
        kernel = core.shape[2:]
        operation = Operation(
            name, "conv2d", (given.name,), output, padding=(kernel[0] // 2, kernel[1] // 2), weight=weight, **more
        )
        return self.add(operation), unit

    def end(self, unit: Reals, wanted: Reals, bits: int) -> NDArray[Any]:
        """Let a requantiser end the last operation, whose sums have ``unit``, in ``bits`` of the unit ``wanted``."""
        operation = self.operations.pop()
        return self.add(replace(operation, requantiser=requantiser(unit / wanted, bits)))


def decomposed(
    trace: Trace, cores: Mapping[str, Cores], mode: Mode, provenance: Mapping[str, Any] | None = None
) -> Trace:
    """``trace`` with the sub-convolutions ``cores`` in place of the convolutions of these names.

    Weights of a convolution in ``trace`` are int8 of the merged kernel up to a positive factor for each channel; in
    ``htt`` they read the input twice, ``concat`` of a tensor with itself, with the kernel of the first timesteps in
    front of that of the others. Raises UsageError where they are not, or a value does not fit OUTPUT_BITS.
    """
    written = {operation.output for operation in trace.operations}
    run = Run(trace.timesteps, {name: stored(trace, name) for name in trace.tensors if name not in written})
    twice = _doubled(trace, cores) if mode == "htt" else {}
    if mode == "htt":
        run.tensors |= gates(trace)
    for operation in trace.operations:
        if operation.output in twice:
            continue
        found = cores.get(operation.name)
        if found is None:
            run.add(operation)
        else:
            source = twice.get(operation.inputs[0], operation.inputs[0])
            _replace(run, operation, found, mode, source)
    return _trace(trace, run, provenance)


def gated(trace: Trace, cores: Mapping[str, Cores], provenance: Mapping[str, Any] | None = None) -> Trace:
    """The merged network of ``htt``: convolutions that read their input twice see it through the two gates."""
    written = {operation.output for operation in trace.operations}
    run = Run(trace.timesteps, {name: stored(trace, name) for name in trace.tensors if name not in written})
    run.tensors |= gates(trace)
    twice = _doubled(trace, cores)
    for operation in trace.operations:
        source = twice.get(operation.output)
        if source is not None:
            names = []
            for part, gate in (("first", FIRST), ("rest", REST)):
                names.append(f"{operation.name}.{part}")
                run.add(Operation(names[-1], "multiply", (source, gate), names[-1]))
            operation = replace(operation, inputs=tuple(names))
        run.add(operation)
    return _trace(trace, run, provenance)


def doubled(cores: Cores) -> Reals:
    """The weights [O, 2 I, 3, 3] of ``htt`` merged: what the first timesteps see, and then what the others see."""
    half = np.pad(merge(cores, "half"), ((0, 0), (0, 0), (1, 1), (1, 1)))
    return np.concatenate([merge(cores, "ptt"), half], axis=1)


def gates(trace: Trace) -> dict[str, NDArray[np.bool_]]:
    """The spikes that pass the first T // 2 timesteps, and those that pass the others."""
    first = np.arange(trace.timesteps) < trace.timesteps // 2
    whole = np.broadcast_to(first[:, None, None, None, None], (trace.timesteps, trace.images, 1, 1, 1))
    return {FIRST: whole.copy(), REST: ~whole}


def quantised(weight: Reals) -> tuple[NDArray[np.int8], Reals]:
    """Weights as int8, and the scale of each output channel."""
    most = np.abs(weight).reshape(len(weight), -1).max(1)
    scale = np.where(most > 0, most, 1.0) / WEIGHT_MOST
    return np.rint(weight / scale[:, None, None, None]).astype(np.int8), scale


def requantiser(factor: Reals, bits: int) -> Requantiser:
    """A requantiser with sign that multiplies by ``factor`` [N], above zero, with 24 bits of the largest."""
    shift = int(np.clip(23 - np.ceil(np.log2(factor.max())), 0, 62))
    return Requantiser(np.maximum(1, np.rint(factor * 2.0**shift)).astype(np.int64), shift, bits, signed=True)


def narrowed(values: NDArray[Any], bits: int = 0) -> NDArray[Any]:
    """Integers in the smallest signed type that holds them, and any others of so many ``bits``; spikes as they are."""
    if values.dtype == np.bool_:
        return values
    most = max(int(values.max()), -1 - int(values.min()), (1 << bits) // 2 - 1)
    fitting = next(dtype for dtype in (np.int8, np.int16, np.int32, np.int64) if most <= np.iinfo(dtype).max)
    return values.astype(fitting)


def _replace(run: Run, operation: Operation, cores: Cores, mode: Mode, source: str) -> None:
    """Add the sub-convolutions of one convolution, which read ``source``."""
    name, unit = operation.name, _unit(operation, cores, mode)
    spikes = Values(source, np.ones(cores.c1.shape[1]))
    hidden, scale = run.convolution(f"{name}.c1", spikes, cores.c1, f"{name}.c1")
    first = Values(f"{name}.c1", scale)
    if mode == "stt":
        for part, core in (("c2", cores.c2), ("c3", cores.c3)):
            sums, scale = run.convolution(f"{name}.{part}", first, core, f"{name}.{part}")
            wanted = _middle([(sums, scale)])
            run.end(scale, wanted, MIDDLE_BITS)
            first = Values(f"{name}.{part}", wanted)
    else:
        first = _side_by_side(run, name, cores, mode, first, hidden)
    weight_unit = quantised(cores.c4 * first.unit[:, None, None])[1]
    bias = None if operation.bias is None else np.rint(operation.bias * unit / weight_unit).astype(np.int64)
    output = operation.output if operation.neuron is None else f"{name}.c4"
    sums, scale = run.convolution(f"{name}.c4", first, cores.c4, output, bias=bias)
    most = np.abs(np.rint(sums * (scale / unit)[:, None, None])).max()
    if most >= 1 << (OUTPUT_BITS - 1):
        raise UsageError(f"{name}: sums reach {int(most)}; allowed: {OUTPUT_BITS} bits with a sign")
    run.end(scale, unit, OUTPUT_BITS)
    if operation.neuron is not None:
        run.add(Operation(f"{name}.neurons", "add", (output,), operation.output, neuron=operation.neuron))


def _side_by_side(
    run: Run, name: str, cores: Cores, mode: Mode, first: Values, hidden: NDArray[Any]
) -> Values:  # fmt: skip
    """c2 and c3 on the same operand, and their mean; in ``htt`` beside what comes from c1."""
    read = first
    if mode == "htt":
        read = Values(f"{name}.first", first.unit)
        run.add(Operation(read.name, "multiply", (first.name, FIRST), read.name))
    parts = [(2 * hidden, first.unit)] if mode == "htt" else []
    kept, names = [], [f"{name}.c2", f"{name}.c3"]
    for part, core in zip(names, (cores.c2, cores.c3), strict=True):
        sums, scale = run.convolution(part, read, core, part)
        kept.append((run.operations.pop(), scale))
        parts.append((sums, scale))
    wanted = _middle(parts)
    for operation, scale in kept:
        run.operations.append(operation)
        run.end(scale, wanted, MIDDLE_BITS)
    if mode == "htt":
        names.append(f"{name}.rest")
        factor = requantiser(2 * first.unit / wanted, MIDDLE_BITS)
        run.add(Operation(names[-1], "multiply", (first.name, REST), names[-1], requantiser=factor))
    run.add(Operation(f"{name}.join", "add", tuple(names), f"{name}.join"))
    return Values(f"{name}.join", wanted / 2)


def _middle(sums: Sequence[tuple[NDArray[Any], Reals]]) -> Reals:
    """A unit for each channel in which the largest of these sums, given with their units, has a bit to spare."""
    most = np.max([np.abs(values).max((0, 1, 3, 4)) * unit for values, unit in sums], axis=0)
    return np.where(most > 0, most, 1.0) / (1 << (MIDDLE_BITS - 2))


def _unit(operation: Operation, cores: Cores, mode: Mode) -> Reals:
    """What one unit of each channel of the sums of ``operation`` is worth, by least squares over its weights."""
    weight = operation.weight
    assert weight is not None, "convolutions have weights"
    real = doubled(cores) if mode == "htt" else merge(cores, "stt" if mode == "stt" else "ptt")
    if operation.requantiser is not None or operation.stride != (1, 1) or weight.shape != real.shape:
        raise UsageError(
            f"{operation.name}: got weights {list(weight.shape)} of stride {list(operation.stride)}; allowed: the"
            f" merged kernel {list(real.shape)} of stride [1, 1], without a requantiser"
        )
    whole, real = weight.reshape(len(weight), -1).astype(np.float64), real.reshape(len(real), -1)
    unit = np.einsum("nk,nk->n", real, whole) / np.maximum(1.0, np.einsum("nk,nk->n", whole, whole))
    far = np.abs(whole * unit[:, None] - real).max(1) > np.maximum(unit, 0) * 1.0 + 1e-12
    if (unit <= 0).any() or far.any():
        raise UsageError(f"{operation.name}: its weights are not those of the merged kernel")
    return np.asarray(unit, np.float64)


def _doubled(trace: Trace, cores: Mapping[str, Cores]) -> dict[str, str]:
    """What is read twice: the output of each concatenation that a decomposed convolution reads, and its source."""
    read = {operation.inputs[0] for operation in trace.operations if operation.name in cores}
    found = {operation.output: operation.inputs for operation in trace.operations if operation.op == "concat"}
    wrong = [name for name in read if name not in found or len(set(found[name])) != 1 or len(found[name]) != 2]
    if wrong:
        raise UsageError(f"{', '.join(sorted(wrong))}: allowed: the concatenation of a tensor with itself")
    return {name: found[name][0] for name in read}


def stored(trace: Trace, name: str) -> NDArray[Any]:
    """A tensor as ``Trace`` takes it: integers of their own dtype."""
    record, values = trace.meta.tensors[name], trace.tensor(name)
    return values.astype(record.dtype) if record.kind == "int" else values


def _trace(trace: Trace, run: Run, provenance: Mapping[str, Any] | None) -> Trace:
    known = {name: record for name, record in trace.meta.tensors.items() if record.kind == "int"}
    scales = {name: record.scale for name, record in known.items() if name in run.tensors}
    return Trace(
        network=trace.network, timesteps=trace.timesteps, operations=run.operations, tensors=run.tensors,
        provenance=trace.provenance if provenance is None else provenance, scales=scales,
    )  # fmt: skip
