"""The contents of arrays: how spikes are packed, what values may be, and the hash over everything.

Packing: the bits of a tensor in C order (the last axis fastest), eight to a byte, the first in the lowest bit, zeros
after the last. In numpy: ``numpy.packbits(spikes, bitorder="little")``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import TraceError
from archsim.trace.graph import ArraySpec, Graph, timed_shape
from archsim.trace.schema import Meta, SpikeTensor

_INT64_LIMIT = (1 << 63) - 1


def pack(spikes: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Bits of a boolean tensor, as uint8 [ceil(size / 8)]."""
    return np.packbits(spikes.reshape(-1), bitorder="little")


def unpack(packed: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The boolean tensor of ``shape`` in ``packed``."""
    return np.unpackbits(packed, count=math.prod(shape), bitorder="little").view(np.bool_).reshape(shape)


def stray_bits(packed: NDArray[Any], spec: ArraySpec, where: str) -> list[str]:
    """The problem of packed spikes whose last byte has bits set after the last spike."""
    unused = 8 * packed.size - spec.elements
    if not unused or not int(packed[-1]) >> (8 - unused):
        return []
    return [f"{where}: the {unused} bits after the last spike must be zero, got {int(packed[-1]):#04x}"]


def decode(meta: Meta, name: str, stored: NDArray[Any]) -> NDArray[Any]:
    """The tensor ``name`` from its stored array: bool for spikes, otherwise integers."""
    tensor = meta.tensors[name]
    if isinstance(tensor, SpikeTensor):
        return unpack(stored, timed_shape(meta, tensor))
    return stored.astype(np.int64) if tensor.per_timestep else stored


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
    damaged = False
    for name in sorted(graph.arrays):
        try:
            array = arrays[name]
        except TraceError as error:
            problems.extend(error.problems)
            damaged = True
            continue
        digest.add(name, array)
        problems.extend(_values(meta, name, array, graph.arrays[name], f"{where}: array {name!r}"))
        bounds[name] = 1 if _is_spikes(meta, name) else max(-int(array.min()), int(array.max()))
    if not damaged:
        problems.extend(_overflows(meta, graph, bounds, where))
    return problems, digest.hexdigest()


def _is_spikes(meta: Meta, name: str) -> bool:
    role, _, owner = name.partition(".")
    return role == "tensor" and isinstance(meta.tensors[owner], SpikeTensor)


def _values(meta: Meta, name: str, array: NDArray[Any], spec: ArraySpec, where: str) -> list[str]:
    role, _, owner = name.partition(".")
    if _is_spikes(meta, name):
        return stray_bits(array, spec, where)
    if role == "threshold" and int(array.min()) <= 0:
        channel = int(np.argmax(array <= 0))
        return [f"{where}: must be above zero, got {int(array[channel])} for channel {channel}"]
    if role == "weight":
        bits = next(record.weight.bits for record in meta.operations if record.name == owner)  # type: ignore[union-attr]
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        if bits < 8 and not (int(array.min()) >= low and int(array.max()) <= high):
            got = f"{int(array.min())} to {int(array.max())}"
            return [f"{where}: does not fit {bits} bits, got {got}; allowed: {low} to {high}"]
    return []


def _overflows(meta: Meta, graph: Graph, bounds: Mapping[str, int], where: str) -> list[str]:
    """Operations whose arithmetic could leave int64, by the worst case of every sum.

    With |x| the largest current, a potential after T timesteps is at most ``T 2^fraction_bits (|x| + threshold)``.
    """
    problems = []
    for index, record in enumerate(meta.operations):
        geometry = graph.geometry.get(record.name)
        if geometry is None or record.op in ("pool", "concat"):
            continue
        inputs = [bounds.get(f"tensor.{name}", 0) for name in record.inputs]
        if record.op == "add":
            current = sum(inputs)
        elif record.op == "matmul":
            current = geometry.inputs[0][0] * inputs[0] * inputs[1]
        else:
            assert geometry.weight is not None
            length = math.prod(geometry.weight[1:])
            current = length * bounds.get(f"weight.{record.name}", 0) * inputs[0]
            current += bounds.get(f"bias.{record.name}", 0)
        largest = current
        neuron = getattr(record, "neuron", None)
        if neuron is not None:
            threshold = bounds.get(f"threshold.{record.name}", 0)
            largest = (meta.timesteps * (current + threshold)) << neuron.fraction_bits
        if largest > _INT64_LIMIT:
            problems.append(
                f"{where}: operations[{index}]: the sums of {record.name!r} could reach {largest:.3g} "
                f"and overflow 64 bits; allowed: at most {_INT64_LIMIT:.3g}"
            )
    return problems
