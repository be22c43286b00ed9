"""The contents of arrays: how spikes and masks are packed, what values may be, and the hash over everything.

Packing: the bits of a tensor in C order (the last axis fastest), eight to a byte, the first in the lowest bit, zeros
after the last. In numpy: ``numpy.packbits(spikes, bitorder="little")``. A signed spike is two bits, in two's
complement: ``low - 2 high``, so that 00 is 0, 01 is 1, 11 is -1, and 10, which would be -2, is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import TraceError
from archsim.trace import neurons
from archsim.trace.graph import (
    IMAGE_SETS,
    ArraySpec,
    Graph,
    constants,
    integer_range,
    operand_bits,
    set_sizes,
    timed_shape,
)
from archsim.trace.schema import (
    MOST_SHORT_TIMESTEPS,
    Add,
    Convolution,
    IntegerTensor,
    LayerNorm,
    Linear,
    MatrixProduct,
    Meta,
    Multiply,
    OperationRecord,
    Pool,
    Reduction,
    Softmax,
    SpikeTimeTensor,
    TensorRecord,
)
from archsim.trace.shapes import Shapes

WINDOW_VALUES = 1 << 21
"""Of the timesteps that are decoded at once, where not all are needed."""
_INT64_LIMIT = (1 << 63) - 1


def pack(spikes: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Bits of a boolean tensor, as uint8 [ceil(size / 8)]."""
    return np.packbits(spikes.reshape(-1), bitorder="little")


def unpack(packed: NDArray[Any], shape: tuple[int, ...], first: int = 0, end: int | None = None) -> NDArray[np.bool_]:
    """The boolean tensor of ``shape`` in ``packed``, or of its first axis the part from ``first`` to ``end`` - 1."""
    end = shape[0] if end is None else end
    bits = math.prod(shape[1:])
    begin, before = divmod(first * bits, 8)
    part = packed[begin : -(-end * bits // 8)]
    found = np.unpackbits(part, count=before + (end - first) * bits, bitorder="little").view(np.bool_)
    return found[before:].reshape(end - first, *shape[1:])


def pack_signed(spikes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pairs of bits of a tensor of -1, 0 and 1, as uint8 [ceil(size / 4)]."""
    low, high = spikes.reshape(-1) != 0, spikes.reshape(-1) < 0
    return pack(np.stack([low, high], axis=1))


def unpack_signed(
    packed: NDArray[Any], shape: tuple[int, ...], first: int = 0, end: int | None = None
) -> NDArray[np.int8]:
    """The tensor int8 of ``shape`` in ``packed``, or a part as of :func:`unpack`."""
    bits = unpack(packed, (*shape, 2), first, end).view(np.int8)
    return bits[..., 0] - 2 * bits[..., 1]


def spikes_of_times(times: NDArray[Any], end: int, first: int = 0) -> NDArray[np.bool_]:
    """Spikes bool [end - first, ...] of neurons that fire once, at ``times`` [...], or never."""
    spikes: NDArray[np.bool_] = times == np.arange(first, end).reshape(-1, *(1,) * times.ndim)
    return spikes


def time_dtype(timesteps: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The dtype of spike times, whose largest value is never."""
    return np.dtype(np.uint8 if timesteps <= MOST_SHORT_TIMESTEPS else np.uint16)


def never(timesteps: int) -> int:
    """The time of a neuron that never spikes: no timestep, and later than all of them."""
    return int(np.iinfo(time_dtype(timesteps)).max)


def first_spike_times(spikes: NDArray[np.bool_]) -> NDArray[Any]:
    """Times [...] of the first of the spikes [T, ...] of each neuron."""
    times = np.where(spikes.any(0), spikes.argmax(0), never(len(spikes)))
    return times.astype(time_dtype(len(spikes)))


def stray_bits(packed: NDArray[Any], bits: int, where: str, what: str = "spike") -> list[str]:
    """The problem of packed spikes, ``bits`` bits in all, whose last byte has more bits set after the last spike."""
    unused = 8 * packed.size - bits
    if not unused or not int(packed[-1]) >> (8 - unused):
        return []
    return [f"{where}: the {unused} bits after the last {what} must be zero, got {int(packed[-1]):#04x}"]


class Stream:
    """A tensor as it is stored, to be decoded some timesteps at a time.

    ``timed``: its operand changes in time. ``timesteps`` is how many there are of it: T, or else 1.
    """

    def __init__(self, meta: Meta, name: str, stored: NDArray[Any]) -> None:
        self._meta = meta
        self._record = meta.tensors[name]
        self.stored = stored
        self.timed = self._record.per_timestep or self._record.kind == "spike_time"
        self.timesteps = meta.timesteps if self.timed else 1

    def tensor(self, first: int = 0, end: int | None = None) -> NDArray[Any]:
        """Timesteps ``first`` to ``end`` - 1 as ``Trace.tensor`` gives them; what has no axis of time as it is."""
        shape = timed_shape(self._meta, self._record)
        match self._record.kind:
            case "spike":
                return unpack(self.stored, shape, first, end)
            case "signed_spike":
                return unpack_signed(self.stored, shape, first, end)
        return self.stored[first:end].astype(np.int64) if self._record.per_timestep else self.stored

    def operand(self, first: int = 0, end: int | None = None) -> NDArray[Any]:
        """The same as operations read it: spike times as the spikes they stand for."""
        tensor = self.tensor(first, end)
        if self._record.kind != "spike_time":
            return tensor
        return spikes_of_times(tensor, self._meta.timesteps if end is None else end, first)

    def windows(self) -> Iterator[NDArray[Any]]:
        """The operand [timesteps, I, ...] part after part, each of so many timesteps that it takes little memory."""
        for first, end in spans(self.timesteps, self._meta.images * math.prod(self._record.shape)):
            values = self.operand(first, end)
            yield values if self.timed else values[np.newaxis]


def spans(timesteps: int, values: int) -> Iterator[tuple[int, int]]:
    """Windows of ``timesteps`` with ``values`` values each, as (first, end): all at once where that is little."""
    step = max(1, WINDOW_VALUES // values)
    for first in range(0, timesteps, step):
        yield first, min(first + step, timesteps)


def decode(meta: Meta, name: str, stored: NDArray[Any]) -> NDArray[Any]:
    """The tensor ``name`` from its stored array: bool for spikes, otherwise integers."""
    return Stream(meta, name, stored).tensor()


def encode(tensor: TensorRecord, values: NDArray[Any]) -> NDArray[Any]:
    """The stored array of packed spikes, given what ``decode`` returns."""
    return pack_signed(values) if tensor.kind == "signed_spike" else pack(values)


class ContentHash:
    """SHA-256 over the record (canonical JSON without ``sha256``) and then each array in the order of names.

    Canonical JSON: keys sorted, no spaces, ASCII. An array contributes the line ``name dtype shape\\n``, for example
    ``weight.conv1 int8 [64, 1, 3, 3]``, and its bytes in C order, little-endian.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        bare = {key: value for key, value in record.items() if key != "sha256"}
        canonical = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        self._hash = hashlib.sha256(canonical.encode("ascii"))

    def add(self, name: str, array: NDArray[Any]) -> None:
        """Add the next array; the caller keeps the order of names."""
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        self._hash.update(f"{name} {array.dtype.name} {list(array.shape)}\n".encode("ascii"))
        self._hash.update(plain.data)

    def hexdigest(self) -> str:
        """The hash in hexadecimal."""
        return self._hash.hexdigest()


def check(
    meta: Meta, graph: Graph, arrays: Mapping[str, NDArray[Any]], record: Mapping[str, Any], where: str
) -> tuple[list[str], str]:
    """Read every array once, one at a time: all problems with their values, and the content hash."""
    problems: list[str] = []
    digest = ContentHash(record)
    bounds: dict[str, int] = {}
    bits = {record.name: record.weight.bits for record in meta.operations if isinstance(record, Convolution | Linear)}
    fixed = set(constants(meta)) if set_sizes(meta) else set()
    damaged = False
    for name in sorted(graph.arrays):
        try:
            array = arrays[name]
        except TraceError as error:
            problems.extend(error.problems)
            damaged = True
            continue
        digest.add(name, array)
        at = f"{where}: array {name!r}"
        role, _, owner = name.partition(".")
        problems.extend(_unfit(array, bits[owner], at) if role == "weight" else _values(meta, graph, name, array, at))
        if role == "tensor" and owner in fixed:
            problems.extend(_changing(meta, owner, array, at))
        bounds[name] = _largest(meta, name, array)
    if not damaged:
        problems.extend(_overflows(meta, graph, bounds, where))
    return problems, digest.hexdigest()


def _largest(meta: Meta, name: str, array: NDArray[Any]) -> int:
    """The largest magnitude of what operations read from ``array``."""
    role, _, owner = name.partition(".")
    if role == "tensor" and not isinstance(meta.tensors[owner], IntegerTensor):
        return 1
    return max(-int(array.min()), int(array.max()))


def _values(meta: Meta, graph: Graph, name: str, array: NDArray[Any], where: str) -> list[str]:
    role, _, owner = name.partition(".")
    spec = graph.arrays[name]
    if role == "tensor":
        return _tensor_values(meta, owner, array, spec, where)
    if role in neurons.ARRAYS:
        record: Any = next(record for record in meta.operations if record.name == owner)
        problem = neurons.value_problem(record.neuron, role, array)
        return [f"{where}: {problem}"] if problem else []
    if role == "activation":
        return _activation_values(meta, owner, array, where)
    if role == "delay" and int(array.min()) < 1:
        channel = int(np.argmax(array < 1))
        return [f"{where}: must be at least 1, got {int(array[channel])} for channel {channel}"]
    if role == "table" and not int(array[0]):
        return [f"{where}: the largest input must have a share, got 0 at 0; allowed: 1 and up"]
    if role in IMAGE_SETS and owner == "labels":
        last = graph.shapes.get(meta.operations[-1].name)
        classes = last.output[0] if last is not None else 0
        wrong = array[(array < 0) | (array >= classes)]
        return [f"{where}: got {int(wrong[0])}; allowed: 0 to {classes - 1}, the outputs"] if wrong.size else []
    return stray_bits(array, spec.elements, where, "gradient") if role == "gradient" else []


def _activation_values(meta: Meta, owner: str, array: NDArray[Any], where: str) -> list[str]:
    """The problem of a requantiser's table whose values do not fit its bits."""
    record: Any = next(record for record in meta.operations if record.name == owner)
    if getattr(record, "requantiser", None) is None:
        return []
    low, high = integer_range(record.requantiser.bits, record.requantiser.signed)
    least, most = int(array.min()), int(array.max())
    text = f"writes {least} to {most}; allowed: {low} to {high}, what {record.requantiser.bits} bits hold"
    return [] if low <= least and most <= high else [f"{where}: {text}"]


def _changing(meta: Meta, name: str, array: NDArray[Any], where: str) -> list[str]:
    """The problem of a constant that is not the same for all images, so that the images of a set would have none."""
    values = decode(meta, name, array)
    by_image = np.moveaxis(values, 1, 0) if meta.tensors[name].per_timestep else values
    if (by_image == by_image[:1]).all():
        return []
    return [f"{where}: differs between images; a network with image sets reads constants beside its images"]


def _tensor_values(meta: Meta, name: str, array: NDArray[Any], spec: ArraySpec, where: str) -> list[str]:
    tensor = meta.tensors[name]
    if isinstance(tensor, IntegerTensor):
        return _unfit(array, operand_bits(meta, tensor), where)
    if isinstance(tensor, SpikeTimeTensor):
        wrong = array[(array >= meta.timesteps) & (array != never(meta.timesteps))]
        times = f"0 to {meta.timesteps - 1}, and {never(meta.timesteps)} for never"
        return [f"{where}: got the time {int(wrong[0])}; allowed: {times}"] if wrong.size else []
    problems = stray_bits(array, spec.elements * tensor.packed_bits, where)
    # The high bit of a pair without the low one.
    if tensor.kind == "signed_spike" and (array >> 1 & ~array & 0x55).any():
        problems.append(f"{where}: got the signed spike 10; allowed: 00, 01 and 11 for 0, 1 and -1")
    return problems


def _unfit(array: NDArray[Any], bits: int, where: str) -> list[str]:
    """The problem of integers that do not fit ``bits``: two's complement where the dtype has a sign."""
    low, high = integer_range(bits, array.dtype.kind == "i")
    least, most = int(array.min()), int(array.max())
    if low <= least and most <= high:
        return []
    return [f"{where}: does not fit {bits} bits, got {least} to {most}; allowed: {low} to {high}"]


def _overflows(meta: Meta, graph: Graph, bounds: Mapping[str, int], where: str) -> list[str]:
    """Operations whose arithmetic could leave int64, by the worst case of every sum.

    Neurons have :func:`archsim.trace.neurons.bounds`. With |x| the largest current, a deviation from the mean of C
    channels is at most ``2 C |x|``, and C of them are squared and added.
    """
    problems = []
    for index, record in enumerate(meta.operations):
        shapes = graph.shapes.get(record.name)
        if shapes is None:
            continue
        largest = current = _largest_current(record, shapes, bounds)
        neuron = getattr(record, "neuron", None)
        if neuron is not None:
            roles = (*neurons.arrays_of(neuron), "activation")
            parameters = {role: bounds.get(f"{role}.{record.name}", 0) for role in roles}
            if neuron.kind == neurons.FIRST_SPIKE and not _comes_once(meta, record):
                current *= meta.timesteps
            largest = neurons.bounds(neuron, parameters, current, meta.timesteps).largest
        requantiser = getattr(record, "requantiser", None)
        if requantiser is not None:
            largest = current * bounds.get(f"multiplier.{record.name}", 0) + (1 << requantiser.shift)
        if record.op == "layer_norm":
            largest = max(largest + bounds.get(f"bias.{record.name}", 0), shapes.inputs[0][0] * current**2)
        if largest > _INT64_LIMIT:
            problems.append(
                f"{where}: operations[{index}]: the sums of {record.name!r} could reach {largest:.3g} "
                f"and overflow 64 bits; allowed: at most {_INT64_LIMIT:.3g}"
            )
    return problems


def _comes_once(meta: Meta, record: OperationRecord) -> bool:
    """Whether currents are sums over inputs that spike once, so that those of all timesteps are no more than one."""
    kinds = {meta.tensors[name].kind for name in record.inputs}
    return kinds == {"spike_time"} and not getattr(record, "bias", False)


def _largest_current(record: OperationRecord, shapes: Shapes, bounds: Mapping[str, int]) -> int:
    """The largest magnitude of what neurons or a requantiser get, or of what an operation without them writes."""
    inputs = [bounds.get(f"tensor.{name}", 0) for name in record.inputs]
    match record:
        case Convolution() | Linear():
            weight, bias = bounds.get(f"weight.{record.name}", 0), bounds.get(f"bias.{record.name}", 0)
            return shapes.k * weight * inputs[0] + bias
        case Add():
            return sum(inputs)
        case MatrixProduct() | Multiply():
            return shapes.k * inputs[0] * inputs[1]
        case Softmax():
            return 2 * inputs[0]
        case LayerNorm():
            return 2 * shapes.inputs[0][0] * inputs[0]
        case Reduction():
            return shapes.k * inputs[0]
        case Pool() if record.reduction == "sum":
            return shapes.k * inputs[0]
    return 0
