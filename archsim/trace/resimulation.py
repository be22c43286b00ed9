"""Compute an operation again from its stored inputs, with integers, and compare.

A matrix product runs in floating point only where no partial sum can leave the integers that the type holds exactly
(2^24 for float32, 2^53 for float64), which makes the order of additions irrelevant and the result exact; otherwise in
int64, whose range the loader has proven sufficient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.trace.content import first_spike_times, never, spans, spikes_of_times, time_dtype
from archsim.trace.cycles import Cycle, parts
from archsim.trace.first_spikes import exponentials, fire_rows
from archsim.trace.graph import SOFTMAX_BITS, integer_range
from archsim.trace.model import ImageSet, Trace
from archsim.trace.neurons import FIRST_SPIKE, State, fire, masked, run
from archsim.trace.operation import Operation, Requantiser

# Memory of the im2col matrix that is built at a time, and values of all tensors that are.
_BLOCK_BYTES = 1 << 25
_BATCH_VALUES = 1 << 27
_OPERANDS: dict[str, type[np.generic]] = {"spike": np.bool_, "spike_time": np.bool_, "signed_spike": np.int8}
Read = Callable[[int, int], list[NDArray[Any]]]


@dataclass(frozen=True)
class Check:
    """What comparing one layer found: ``mismatches`` of ``outputs`` values, or None and the reason why not verified."""

    layer: str
    outputs: int
    mismatches: int | None
    reason: str = ""


def check_trace(trace: Trace) -> Iterator[Check]:
    """Compute every operation again from its stored inputs; one ``Check`` each, in order."""
    return (check_operation(trace, operation) for operation in trace.operations)


def check_operation(trace: Trace, operation: Operation) -> Check:
    """Compute one operation again from its stored inputs, in windows of timesteps."""
    if not trace.stored(operation.output):
        why = "its output is not stored" if operation.neuron else "no neuron is known and its output is not stored"
        return Check(operation.name, 0, None, f"not verified: {why}")
    stored, outputs, mismatches = trace.stream(operation.output), 0, 0
    for first, output in _as_stored(trace, operation):
        wanted = stored.tensor(first, first + len(output))
        outputs += output.size
        mismatches += int(np.count_nonzero(output != wanted))
    return Check(operation.name, outputs, mismatches)


def resimulate(trace: Trace, operation: Operation) -> tuple[NDArray[Any], int | None]:
    """Output of ``operation`` and in how many values it differs from the stored one (None where none is stored).

    Spikes are bool and integers int64, [T, I, C, H, W] or [T, I, F]; without T where no input changes in time and no
    neuron follows and the stored output has none. Where spike times are stored, those of the first spikes are returned.
    """
    output = _joined(part for _, part in _as_stored(trace, operation))
    if not trace.stored(operation.output):
        return output, None
    return output, int(np.count_nonzero(output != trace.tensor(operation.output)))


def _as_stored(trace: Trace, operation: Operation) -> Iterator[tuple[int, NDArray[Any]]]:
    """The output in windows of timesteps, each with its first one, as ``Trace.tensor`` would give it.

    What is decided by all timesteps, or the same at all of them, comes in one piece.
    """
    streams = [trace.stream(name) for name in operation.inputs]
    if _needs_times_only(trace, operation):
        times = output_times(operation, [stream.tensor() for stream in streams], trace.timesteps)
        yield 0, times if trace.stored(operation.output) else spikes_of_times(times, trace.timesteps)
        return

    def read(first: int, end: int) -> list[NDArray[Any]]:
        return [stream.operand(first, end) for stream in streams]

    record = trace.meta.tensors.get(operation.output)
    if record is not None and record.kind == "int" and not record.per_timestep:
        (still,) = _windows(operation, read, 1, trace.images)
        yield 0, still[0]
        return
    outputs = _windows(operation, read, trace.timesteps, trace.images)
    timed = record is not None and record.kind == "spike_time"
    if timed and operation.requantiser is not None:
        yield 0, _as_times(_joined(outputs)[0], trace.timesteps)
        return
    if timed or (operation.neuron is not None and operation.neuron.mask_fire_once):
        output = _masked(operation, _joined(outputs))
        yield 0, first_spike_times(output) if timed else output
        return
    first = 0
    for output in outputs:
        yield first, output
        first += len(output)


def output_times(operation: Operation, inputs: list[NDArray[Any]], timesteps: int) -> NDArray[Any]:
    """Spike times [I, ...] of ``operation``, which adds or moves times or has first-spike neurons, for such times."""
    first = inputs[0]
    match operation.op:
        # Never is later than any tick, and so is never and some more.
        case "add":
            return _as_times(np.sum([times.astype(np.int64) for times in inputs], 0), timesteps)
        case "delay":
            steps = np.broadcast_to(operation.steps, first.shape[1])
            return _as_times(first + steps.reshape(-1, *(1,) * (first.ndim - 2)), timesteps)
        case "pool":
            earliest: NDArray[Any] = operation.window.windows(first, never(timesteps)).min((-2, -1))
            return earliest
        case "concat" | "slice" | "upsample" | "rearrange":
            return _combine(operation, inputs)
    neuron, weight = operation.neuron, operation.weight
    assert neuron is not None and neuron.threshold is not None and weight is not None
    table = exponentials(timesteps, neuron.time_constant, neuron.fraction_bits)
    groups, n = operation.groups, operation.n // operation.groups
    rows = im2col(inputs[0], operation, never(timesteps))
    rows = rows.reshape(len(rows), groups, -1)
    columns = weight.reshape(groups, n, -1)
    found = [
        fire_rows(rows[:, group], columns[group], neuron.threshold[group * n : (group + 1) * n], table).ticks
        for group in range(groups)
    ]
    ticks = np.concatenate(found, 1).reshape(len(inputs[0]), -1, operation.n)
    return _as_times(ticks.transpose(0, 2, 1).reshape(-1, *operation.output_shape), timesteps)


def _needs_times_only(trace: Trace, operation: Operation) -> bool:
    """Whether :func:`output_times` says all of ``operation``, and no timestep needs to be looked at."""
    if trace.kind(operation.inputs[0]) != "spike_time":
        return False
    neuron = operation.neuron
    if neuron is None or neuron.kind != FIRST_SPIKE or operation.weight is None:
        # A maximum of several neurons fires with each of them, unless it rests after the first.
        rests = operation.op != "pool" or _has_times(trace, operation)
        return operation.times or (operation.moves and rests)
    return operation.bias is None and neuron.threshold is not None and neuron.threshold.ndim == 1


def _as_times(ticks: NDArray[np.int64], timesteps: int) -> NDArray[Any]:
    """``ticks`` as spike times; those that no timestep has are never."""
    return np.where(ticks < timesteps, ticks, never(timesteps)).astype(time_dtype(timesteps))


def compute(operation: Operation, inputs: list[NDArray[Any]], timesteps: int) -> NDArray[Any]:
    """Output [T, I, ...] of ``operation`` for ``inputs`` as ``Trace.operand`` returns them."""
    if operation.times:
        return _through_times(operation, inputs, timesteps)
    ranks = [2 + len(shape) for shape in operation.input_shapes]
    timed = [array.ndim == rank for array, rank in zip(inputs, ranks, strict=True)]

    def read(first: int, end: int) -> list[NDArray[Any]]:
        return [array[first:end] if changes else array for array, changes in zip(inputs, timed, strict=True)]

    images = inputs[0].shape[1 if timed[0] else 0]
    return _masked(operation, _joined(_windows(operation, read, timesteps, images)))


def _windows(operation: Operation, read: Read, timesteps: int, images: int) -> Iterator[NDArray[Any]]:
    """The output of ``timesteps`` in windows of so many that they take little memory, as if nothing were masked.

    ``read`` gives the inputs from one timestep up to another.
    """
    state = None
    values = sum(math.prod(shape) for shape in (*operation.input_shapes, operation.output_shape))
    for first, end in spans(timesteps, images * values):
        output, state = _window(operation, read, first, end, state)
        yield output


def _window(
    operation: Operation, read: Read, first: int, end: int, state: State | None
) -> tuple[NDArray[Any], State | None]:
    """The output from timestep ``first`` to ``end`` - 1, of neurons in ``state``, and their state behind it."""
    if operation.op == "delay":
        before = min(first, int(np.max(operation.steps)))
        (values,) = _timed(operation, read(first - before, end), end - first + before)
        return delayed(operation, values)[before:], None
    currents = currents_of(operation, read(first, end), end - first)
    if operation.neuron is None:
        return finish(operation, currents), None
    return run(operation.neuron, currents, state)


def _masked(operation: Operation, outputs: NDArray[Any]) -> NDArray[Any]:
    return outputs if operation.neuron is None else masked(operation.neuron, outputs)


def _joined(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
    found = list(parts)
    return found[0] if len(found) == 1 else np.concatenate(found)


def _timed(operation: Operation, inputs: Sequence[NDArray[Any]], steps: int) -> list[NDArray[Any]]:
    """``inputs`` with an axis of ``steps`` timesteps."""
    found = []
    for array, shape in zip(inputs, operation.input_shapes, strict=True):
        timed = array if array.ndim == 2 + len(shape) else array[np.newaxis]
        found.append(np.broadcast_to(timed, (steps, *timed.shape[1:])))
    return found


def currents_of(operation: Operation, inputs: list[NDArray[Any]], timesteps: int) -> NDArray[Any]:
    """What :func:`finish` makes the output of ``operation`` from: sums with their bias, where there are any."""
    # Inputs that are the same at every timestep give one result for all.
    ranks = [2 + len(shape) for shape in operation.input_shapes]
    timed = any(array.ndim == rank for array, rank in zip(inputs, ranks, strict=True))
    # Until the neurons, a timestep of an image is as good as another image.
    arrays = _timed(operation, inputs, timesteps if timed else 1)
    currents = _combine(operation, [array.reshape(-1, *array.shape[2:]) for array in arrays])
    currents = currents.reshape(len(arrays[0]), -1, *currents.shape[1:])
    return np.broadcast_to(currents, (timesteps, *currents.shape[1:]))


def finish(operation: Operation, currents: NDArray[np.int64]) -> NDArray[Any]:
    """Output [T, I, N, ...] of ``operation`` for currents of that shape: what its neurons or its requantiser make."""
    if operation.op == "layer_norm":
        return layer_norm(currents, operation)
    if operation.requantiser is not None:
        return requantise(operation.requantiser, currents)
    if operation.neuron is None:
        return currents
    return fire(operation.neuron, currents)


def run_images(trace: Trace, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Every tensor that an operation writes when the network runs on ``images`` uint8 [I, C, H, W], by name.

    The arrays are those of ``Trace.operand``, [T, I, ...]; constants are those of the trace. All of them are held at
    once: call it with a batch.
    """
    tensors = given(trace, images)
    recurrent = {cycle.operations[0]: cycle for cycle in trace.cycles}
    for part in parts(trace.meta):
        first = trace.operations[part[0]]
        if first.name in recurrent:
            run_cycle(trace, recurrent[first.name], tensors, len(images))
            continue
        inputs = [tensors[name] for name in first.inputs]
        run_one = _through_times if _needs_times_only(trace, first) else compute
        output = run_one(first, inputs, trace.timesteps)
        tensors[first.output] = _as_operand(first, output) if _has_times(trace, first) else output
    return {operation.output: tensors[operation.output] for operation in trace.operations}


def run_cycle(trace: Trace, cycle: Cycle, tensors: dict[str, NDArray[Any]], images: int) -> None:
    """Add what the operations of a cycle write to the ``tensors`` that they read, some timesteps after others.

    ``tensors`` hold ``images`` as ``Trace.operand`` returns them.
    """
    operations = [trace.operation(name) for name in cycle.operations]
    for operation in operations:
        dtype = _OPERANDS.get(trace.kind(operation.output), np.int64)
        tensors[operation.output] = np.zeros((trace.timesteps, images, *operation.output_shape), dtype)
    states: dict[str, State | None] = dict.fromkeys(cycle.operations)
    for first in range(0, trace.timesteps, cycle.steps):
        end = min(first + cycle.steps, trace.timesteps)
        for operation in operations:
            sources = list(zip(operation.inputs, operation.input_shapes, strict=True))

            def read(first: int, end: int, sources: Any = sources) -> list[NDArray[Any]]:
                found = [(tensors[name], 2 + len(shape)) for name, shape in sources]
                return [array[first:end] if array.ndim == rank else array for array, rank in found]

            output, states[operation.name] = _window(operation, read, first, end, states[operation.name])
            whole = tensors[operation.output]
            if _has_times(trace, operation):
                output = _first_only(output) & ~whole[:first].any(0)
            whole[first:end] = output


def _has_times(trace: Trace, operation: Operation) -> bool:
    """Whether a neuron that ``operation`` writes the spikes of rests after its first one."""
    return trace.stored(operation.output) and trace.kind(operation.output) == "spike_time"


def _through_times(operation: Operation, inputs: list[NDArray[Any]], timesteps: int) -> NDArray[Any]:
    """:func:`output_times` from spikes [T, I, ...] to spikes."""
    times = output_times(operation, [first_spike_times(spikes) for spikes in inputs], timesteps)
    return spikes_of_times(times, timesteps)


def _as_operand(operation: Operation, output: NDArray[Any]) -> NDArray[np.bool_]:
    """The spikes of an ``output`` [T, I, ...] that is stored as times: first spikes, or those at the times it says."""
    if operation.requantiser is None:
        return _first_only(output)
    return spikes_of_times(_as_times(output[0], len(output)), len(output))


def _first_only(spikes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return spikes_of_times(first_spike_times(spikes), len(spikes))


def given(trace: Trace, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The tensors that no operation writes, for ``images`` uint8 [I, C, H, W]; constants are those of the trace."""
    tensors: dict[str, NDArray[Any]] = {trace.pixels: images}
    for name in trace.constants:
        stored = trace.operand(name)
        timed = stored.ndim == 2 + len(trace.meta.tensors[name].shape)
        one = stored[:, :1] if timed else stored[:1]
        shape = (len(stored), len(images), *stored.shape[2:]) if timed else (len(images), *stored.shape[1:])
        tensors[name] = np.broadcast_to(one, shape)
    return tensors


def run_times(trace: Trace, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Spike times [I, ...] of all tensors that a network writes when it runs on ``images`` uint8 [I, C, H, W], by name.

    It is one whose operations all write spike times, as an encoder does and whatever reads nothing but them
    (:func:`predict` knows).
    """
    tensors = given(trace, images)
    for operation in trace.operations:
        inputs = [tensors[name] for name in operation.inputs]
        if _needs_times_only(trace, operation):
            tensors[operation.output] = output_times(operation, inputs, trace.timesteps)
        else:
            assert operation.requantiser is not None, "an operation writes spike times without reading some"
            tensors[operation.output] = _as_times(compute(operation, inputs, 1)[0], trace.timesteps)
    return {operation.output: tensors[operation.output] for operation in trace.operations}


def predict(trace: Trace, images: NDArray[np.uint8], batch: int = 50) -> NDArray[np.int64]:
    """The class of each image, int64 [I], by :func:`classes_of`.

    A ``batch`` of images runs at a time, or fewer where their tensors would take much memory. A network of spike times
    alone runs on these.
    """
    last, on_times = trace.operations[-1].output, _is_of_times(trace)
    values = sum(math.prod(operation.output_shape) for operation in trace.operations)
    batch = max(1, min(batch, _BATCH_VALUES // (values * (1 if on_times else trace.timesteps))))
    found = []
    for start in range(0, len(images), batch):
        some = images[start : start + batch]
        found.append(
            _earliest(run_times(trace, some)[last]) if on_times else classes_of(trace, run_images(trace, some)[last])
        )
    return np.concatenate(found)


def classes_of(trace: Trace, output: NDArray[Any]) -> NDArray[np.int64]:
    """Classes int64 [I] of the last operation's output [T, I, ...]: where its sum over time is largest, or where it is
    spike times, which neuron fires first. Of equal ones it is the first, and so it is where none fires."""
    if _has_times(trace, trace.operations[-1]):
        return _earliest(first_spike_times(output))
    classes: NDArray[np.int64] = output.sum(0).reshape(output.shape[1], -1).argmax(1)
    return classes


def _earliest(times: NDArray[Any]) -> NDArray[np.int64]:
    """Which of the neurons of an image fires first, for times [I, ...]."""
    first: NDArray[np.int64] = times.reshape(len(times), -1).argmin(1)
    return first


def _is_of_times(trace: Trace) -> bool:
    """Whether :func:`run_times` runs the network."""
    return not trace.cycles and all(
        _has_times(trace, one)
        and (_needs_times_only(trace, one) or (one.requantiser is not None and one.inputs == (trace.pixels,)))
        for one in trace.operations
    )


def accuracy(trace: Trace, images: ImageSet) -> float:
    """The share of ``images`` whose class is their label."""
    return float((predict(trace, images.images) == images.labels).mean())


def requantise(requantiser: Requantiser, currents: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integers of few bits [T, I, N, ...] of integer currents of that shape, by the equation of ``model``."""
    return _clipped(requantiser, currents * _per_channel(requantiser.multiplier, currents.ndim))


def _clipped(requantiser: Requantiser, products: NDArray[np.int64]) -> NDArray[np.int64]:
    rounded: NDArray[np.int64] = (products + ((1 << requantiser.shift) >> 1)) >> requantiser.shift
    table = requantiser.activation
    if table is not None:
        half = len(table) // 2
        looked_up: NDArray[np.int64] = table[np.clip(rounded, -half, half - 1) + half]
        return looked_up
    return np.clip(rounded, *integer_range(requantiser.bits, requantiser.signed))


def _per_channel(values: NDArray[np.int64], rank: int) -> NDArray[np.int64]:
    """``values`` [N] to be combined with an array of ``rank`` axes, [T, I, N, ...]."""
    return values.reshape(-1, *(1,) * (rank - 3))


def softmax(values: NDArray[np.int64], table: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Shares in units of 1/255 over the channels of [B, C, ...], by the equations of ``model``."""
    distance = values.max(1, keepdims=True) - values
    exponentials = table.astype(np.int64)[np.minimum(distance, len(table) - 1)]
    total = exponentials.sum(1, keepdims=True)
    whole = integer_range(SOFTMAX_BITS, False)[1]
    shares: NDArray[np.int64] = (whole * exponentials + total // 2) // total
    return shares


def layer_norm(values: NDArray[np.int64], operation: Operation) -> NDArray[np.int64]:
    """Normalised channels of [T, I, C, H, W], by the equations of ``model``."""
    requantiser, channels = operation.requantiser, values.shape[2]
    assert requantiser is not None, "the loader refuses a layer norm without one"
    deviations = channels * values - values.sum(2, keepdims=True)
    root = np.maximum(_integer_root((deviations**2).sum(2, keepdims=True) // channels), 1)
    scaled = deviations * _per_channel(requantiser.multiplier, values.ndim) // root
    if operation.bias is not None:
        scaled += _per_channel(operation.bias, values.ndim)
    return _clipped(requantiser, scaled)


def _integer_root(squares: NDArray[np.int64]) -> NDArray[np.int64]:
    """The largest integers whose squares are not above ``squares``, at most 2^62."""
    root = np.sqrt(squares.astype(np.float64)).astype(np.int64)
    # A square beyond 2^53 is rounded on its way, and so may be its root.
    root -= root**2 > squares
    root += (root + 1) ** 2 <= squares
    return root


def im2col(values: NDArray[Any], operation: Operation, fill: int = 0) -> NDArray[Any]:
    """Rows of the matrix product: [B, C, H, W] to [B OH OW, C kh kw], padded with ``fill``; [B, F] or a linear layer to
    [B, K].

    Rows in the order image, output row, output column; columns in the order channel, kernel row, kernel column.
    """
    if operation.op == "linear":
        return values.reshape(len(values), -1)
    return operation.window.unroll(values, fill)


def _combine(operation: Operation, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    """Integer currents (or pooled or stacked values) [B, ...] of inputs [B, ...]."""
    match operation.op:
        case "conv2d" | "linear":
            return _weighted(operation, inputs[0])
        case "pool":
            return _pooled(operation, inputs[0])
        case "concat":
            return np.concatenate(inputs, axis=1)
        case "slice" | "upsample" | "rearrange":
            return _moved(operation, inputs[0])
        case "multiply":
            return _multiplied(*inputs)
        case "reduce":
            return _reduced(operation, inputs[0])
        case "add":
            total = inputs[0].astype(np.int64)
            for other in inputs[1:]:
                total = total + other
            return total
        case "softmax":
            assert operation.table is not None, "the loader refuses a softmax without one"
            return softmax(inputs[0].astype(np.int64), operation.table)
        case "layer_norm":
            return inputs[0].astype(np.int64)
    return _matrix_product(operation, inputs[0], inputs[1])


def _weighted(operation: Operation, values: NDArray[Any]) -> NDArray[np.int64]:
    stored = operation.weight
    assert stored is not None, "convolutions and linear layers have weights"
    groups = operation.groups
    weight = stored.reshape(groups, operation.n // groups, -1)
    dtype = _exact_type(operation.k * 128 * _largest(values))
    columns = np.ascontiguousarray(weight.transpose(0, 2, 1), dtype)
    result = np.empty((len(values), *operation.output_shape), np.int64)
    positions = operation.m // operation.images
    block = max(1, _BLOCK_BYTES // (positions * operation.k * groups * np.dtype(dtype).itemsize))
    for start in range(0, len(values), block):
        rows = im2col(values[start : start + block].astype(dtype), operation)
        rows = rows.reshape(len(rows), groups, -1).transpose(1, 0, 2)
        with np.errstate(invalid="ignore"):  # some BLAS set the flag for lanes beyond the end; all values are finite
            part = (rows @ columns).reshape(groups, -1, positions, operation.n // groups)
        result[start : start + block] = part.transpose(1, 0, 3, 2).reshape(-1, *operation.output_shape)
    if operation.bias is not None:
        result += operation.bias.reshape(-1, *(1,) * (len(operation.output_shape) - 1))
    return result


def _largest(values: NDArray[Any]) -> int:
    return 1 if values.dtype == np.bool_ else max(-int(values.min()), int(values.max()))


def _exact_type(bound: int) -> type[np.generic]:
    """The fastest type in which no sum that is at most ``bound`` can be rounded."""
    return np.float32 if bound < 1 << 24 else np.float64 if bound < 1 << 53 else np.int64


def _matrix_product(operation: Operation, first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.int64]:
    """[B, C, H, W] twice; of every head, the matrices have a row per position and a column per channel."""
    heads, batch = operation.heads, len(first)
    dtype = _exact_type(operation.k * _largest(first) * _largest(second))
    # Of a head, the columns are what is stored one behind the other.
    left, right = (
        values.reshape(batch, heads, values.shape[1] // heads, -1).astype(dtype) for values in (first, second)
    )
    left = left if operation.transpose_first else left.transpose(0, 1, 3, 2)
    right = right if operation.transpose else right.transpose(0, 1, 3, 2)
    with np.errstate(invalid="ignore"):  # some BLAS set the flag for lanes beyond the end; all values are finite
        product = (left @ right).astype(np.int64)
    return product.transpose(0, 1, 3, 2).reshape(batch, *operation.output_shape)


def _pooled(operation: Operation, values: NDArray[Any]) -> NDArray[Any]:
    if operation.reduction == "sum":
        summed: NDArray[np.int64] = operation.window.windows(values).sum((-2, -1), dtype=np.int64)
        return summed
    lowest = False if values.dtype == np.bool_ else np.iinfo(values.dtype).min
    highest: NDArray[Any] = operation.window.windows(values, lowest).max((-2, -1))
    return highest


def _moved(operation: Operation, values: NDArray[Any]) -> NDArray[Any]:
    """Values [B, ...] in other places, or several times, and nothing computed."""
    if operation.op == "slice":
        assert isinstance(operation.axis, int), "the loader refuses other axes"
        return values[(slice(None),) * (1 + operation.axis) + (slice(operation.start, operation.stop),)]
    if operation.op == "upsample":
        return values.repeat(operation.factor[0], 2).repeat(operation.factor[1], 3)
    seen = values.reshape(-1, *operation.view).transpose(0, *(1 + axis for axis in operation.order))
    return seen.reshape(-1, *operation.shape)


def _multiplied(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """[B, C, ...] with [B, a divisor of C, ...]: a channel of the second stands for as many neighbours of the first."""
    spiking = first.dtype == second.dtype == np.bool_
    wide = second.repeat(first.shape[1] // second.shape[1], 1)
    product: NDArray[Any] = np.multiply(first, wide, dtype=np.bool_ if spiking else np.int64)
    return product


def _reduced(operation: Operation, values: NDArray[Any]) -> NDArray[np.int64]:
    if operation.axis == "positions":
        summed: NDArray[np.int64] = values.sum((2, 3), dtype=np.int64, keepdims=True)
    else:
        groups = operation.groups
        summed = values.reshape(len(values), groups, -1, *values.shape[2:]).sum(2, dtype=np.int64)
    return summed


def delayed(operation: Operation, values: NDArray[Any]) -> NDArray[Any]:
    """Values [T, I, C, ...] some timesteps later, of every channel or all alike; nothing before."""
    late = np.zeros_like(values)
    steps = np.broadcast_to(operation.steps, values.shape[2])
    for by in np.unique(steps[steps < len(values)]):
        own = steps == by
        late[by:, :, own] = values[: len(values) - by, :, own]
    return late
