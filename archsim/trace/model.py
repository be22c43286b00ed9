"""A trace: a network as it ran on some images, one operation after the other.

A current of an output neuron at timestep t is ``x[t] = sum_k w[k] s[k, t] + bias``, an integer. Its neuron, with the
membrane potential u (0 before the first timestep), f fraction bits, threshold h and leak shift l, is exactly::

    X[t] = (x[t] << f) + u[t-1]
    s[t] = X[t] > (h << f)             (>= with ``fires_at_threshold``)
    u[t] = 0                           if s[t] and the reset is hard
         = X[t] - (h << f)             if s[t] and the reset is soft
         = leak(X[t] - (h << f))       if s[t] and the reset is soft_before_leak
         = leak(X[t]) - (h << f)       if s[t] and the reset is soft_after_leak
         = leak(X[t])                  otherwise

with ``leak(X) = X >> l``, an arithmetic shift (l = 0 for an IF neuron), or with ``leak_subtracts`` ``X - (X >> l)``.
Thresholds are in the units of x. ``f = l (T - 1)`` keeps every bit that the leak moves below one. ``mask_fire_once``
then zeroes the outputs of neurons that fired exactly once in the T timesteps (the preprocessing of LoAS, section V).

Networks without spikes end their sums in a requantiser instead, with multiplier m, shift s, ``half = (1 << s) >> 1``::

    y = clip((x m + half) >> s, least, largest)

where least and largest are those of ``bits`` bits, with or without a sign. Over the C channels of a position, in
integers (``//`` rounds down)::

    softmax      e = table[min(max(x) - x, 255)]; y = (255 e + sum(e) // 2) // sum(e)
    layer_norm   d = C x - sum(x); r = max(isqrt(sum(d^2) // C), 1)
                 y = clip((d m // r + bias + half) >> s, least, largest)

Words: I images, T timesteps, C channels, H and W height and width, F features, N output channels, K reduction length,
M output positions times images.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import TraceError, UsageError, nearest
from archsim.trace import content, graph, schema

ScalarT = TypeVar("ScalarT", bound=np.generic)

_HERE = "trace"
_INTEGERS = ", ".join(schema.INTEGER_DTYPES)
# What an array of each kind may be.
_ARRAYS = {
    "spike": "bool [T, I, ...]",
    "signed_spike": f"-1, 0 and 1 [T, I, ...] as {_INTEGERS}",
    "spike_time": f"times [I, ...] as {_INTEGERS}",
    "int": f"[T, I, ...] or [I, ...] as {_INTEGERS}",
}


@dataclass(frozen=True, eq=False)
class Neuron:
    """The neurons of an operation, one per output channel; the equations are above.

    ``threshold`` is int64 [N], in the units of the current x (an int stands for all channels alike).
    """

    kind: str
    threshold: NDArray[np.int64]
    leak_shift: int = 0
    fraction_bits: int = 0
    reset: str = "hard"
    mask_fire_once: bool = False
    leak_subtracts: bool = False
    fires_at_threshold: bool = False


@dataclass(frozen=True, eq=False)
class Requantiser:
    """Integers of ``bits`` from integer sums; the equation is above.

    ``multiplier`` is int64 [N], one per output channel (an int stands for all channels of a layer with weights).
    Without a sign the least output is 0, which is a ReLU.
    """

    multiplier: NDArray[np.int64]
    shift: int
    bits: int = 8
    signed: bool = True


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images beside those that were traced: ``images`` uint8 [I, C, H, W] with their ``labels`` int64 [I]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> ImageSet:
        """The first ``count`` of them, or all if there are fewer."""
        return ImageSet(self.images[:count], self.labels[:count])


class _Stored(Generic[ScalarT]):
    """An array attribute that is decoded when asked for: its value is an array, or a function that returns one."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> None: ...
    @overload
    def __get__(self, instance: object, owner: type) -> NDArray[ScalarT] | None: ...
    def __get__(self, instance: object | None, owner: type) -> NDArray[ScalarT] | None:
        if instance is None:
            return None
        value = instance.__dict__.get(self._name)
        return value() if callable(value) else value

    def __set__(self, instance: object, value: NDArray[ScalarT] | Callable[[], NDArray[ScalarT]] | None) -> None:
        instance.__dict__[self._name] = value


@dataclass(frozen=True, eq=False)
class Operation:
    """One node of the network.

    To build one, give ``name``, ``op`` (``conv2d``, ``linear``, ``pool``, ``add``, ``concat``, ``matmul``, ``softmax``
    or ``layer_norm``), the tensors it reads and writes, and what the kind needs: ``weight`` int8 [N, C, kh, kw] or
    [N, F] with ``bias`` int64 [N] for the first two, ``kernel``, ``stride`` and ``padding`` (rows, columns) for
    convolutions and pools (the kernel of a convolution is that of its weight), ``neuron`` where the output is spikes,
    ``requantiser`` where it is integers of few bits, ``table`` uint16 [256] for a softmax, ``requantiser`` and ``bias``
    for a layer norm. An operation with weights and without any of them writes its sums (logits). ``weight_scale`` times
    a weight is its real value.

    Of a step of training, an operation with weights may carry ``gradient_mask``, bool [T, I, ...] in the shape of its
    output: where the gradient of the loss with respect to the potential X[t] (without a neuron, to the output) is not
    zero.

    The trace that holds the operation fills in ``images`` and the shapes [C, H, W] or [F] of inputs and output. In a
    trace that was loaded, ``weight`` and ``gradient_mask`` are decoded anew whenever they are asked for: keep them in
    variables while you need them.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    weight: _Stored[np.int8] = _Stored()
    weight_bits: int = 8
    weight_scale: float = 1.0
    bias: NDArray[np.int64] | None = None
    neuron: Neuron | None = None
    transpose: bool = False
    gradient_mask: _Stored[np.bool_] = _Stored()
    requantiser: Requantiser | None = None
    table: NDArray[np.uint16] | None = None
    images: int = field(default=0, init=False)
    input_shapes: tuple[tuple[int, ...], ...] = field(default=(), init=False)
    output_shape: tuple[int, ...] = field(default=(), init=False)
    weight_shape: tuple[int, ...] | None = field(default=None, init=False)

    @property
    def m(self) -> int:
        """Rows of the matrix product: output positions (H W, 1 for features) times images."""
        return math.prod(self.output_shape[1:]) * self.images

    @property
    def n(self) -> int:
        """Columns of the matrix product: output channels or features."""
        return self.output_shape[0]

    @property
    def k(self) -> int:
        """Values that are combined into one output: C kh kw, F, the window of a pool, or the operands of a sum."""
        if self.weight_shape is not None:
            return math.prod(self.weight_shape[1:])
        if self.op == "pool":
            return math.prod(self.kernel)
        return self.input_shapes[0][0] if self.op == "matmul" else len(self.inputs) if self.op == "add" else 1


class Trace:
    """A network, its operations and the tensors that flowed between them.

    Build one from plain numpy arrays and hand it to ``save_trace``::

        Trace(
            network="mlp", timesteps=4,
            operations=[Operation("fc1", "linear", ("pixels",), "hidden", weight=w1, neuron=Neuron("lif", 50, 1, 3)),
                        Operation("fc2", "linear", ("hidden",), "logits", weight=w2, bias=b2)],
            tensors={"pixels": pixels, "hidden": spikes, "logits": logits},
            provenance={"kind": "trained", "weights": "trained", "dataset": "Fashion-MNIST", "accuracy": 0.91},
        )

    Operations stand in the order in which they run. ``tensors`` must hold every tensor that an operation reads, and
    should hold the outputs, so that they can be verified. The dtype and rank of an array say what it is: bool
    [T, I, C, H, W] or [T, I, F] are spikes; integers of the same rank change with time; integers [I, C, H, W] or [I, F]
    (pixels) are the same at every timestep. ``kinds`` says more, by name: integers -1, 0 and 1 that change with time
    may be ``signed_spike``, and integers that do not ``spike_time`` (the timestep of a neuron's only spike, or
    ``schema.NEVER``). ``bits`` and ``scales`` give the width and the real value of one unit of an integer tensor.
    ``provenance`` has the keys of ``schema.Provenance``; whatever else is worth telling goes under its ``details``.

    ``calibration`` (of the training set) and ``evaluation`` (of the test set) are images with their labels, for
    machines whose results are not exact. They stand for the tensor that the first operation reads, pixels uint8
    [I, C, H, W]; every other tensor that no operation writes must be the same for all images. They are no part of the
    traced run: ``images`` does not count them.

    Raises ``TraceError`` with every problem, by the same checks as ``load_trace``.
    """

    def __init__(
        self,
        *,
        network: str,
        timesteps: int,
        operations: Sequence[Operation],
        tensors: Mapping[str, NDArray[Any]],
        provenance: Mapping[str, Any],
        scales: Mapping[str, float] | None = None,
        kinds: Mapping[str, str] | None = None,
        bits: Mapping[str, int] | None = None,
        calibration: ImageSet | None = None,
        evaluation: ImageSet | None = None,
    ) -> None:
        more = {"kind": kinds or {}, "bits": bits or {}, "scale": {k: float(v) for k, v in (scales or {}).items()}}
        record, arrays = _describe(network, timesteps, operations, tensors, provenance, more)
        for name, images in (("calibration", calibration), ("evaluation", evaluation)):
            if images is not None:
                record[f"{name}_images"] = len(images)
                arrays |= _describe_set(name, images)
        meta = schema.parse(record, _HERE)
        resolved = graph.resolve(meta, _HERE)
        problems = list(resolved.problems) or _misfits(resolved, arrays) or _wrong_masks(meta, resolved, operations)
        if not problems:
            problems, digest = content.check(meta, resolved, arrays, schema.dump(meta), _HERE)
        if problems:
            raise TraceError(problems)
        self._fill(meta, resolved, arrays, digest, None)

    @classmethod
    def from_checked(
        cls,
        meta: schema.Meta,
        resolved: graph.Graph,
        arrays: Mapping[str, NDArray[Any]],
        sha256: str,
        path: Path | None,
    ) -> Trace:
        """A trace over arrays that have been checked; the way of ``load_trace``."""
        trace = cls.__new__(cls)
        trace._fill(meta, resolved, arrays, sha256, path)
        return trace

    def _fill(
        self,
        meta: schema.Meta,
        resolved: graph.Graph,
        arrays: Mapping[str, NDArray[Any]],
        sha256: str,
        path: Path | None,
    ) -> None:
        self.meta = meta
        self.arrays = arrays
        self.sha256 = sha256
        self.path = path
        self._graph = resolved

    @property
    def network(self) -> str:
        """Name of the network."""
        return self.meta.network

    @property
    def timesteps(self) -> int:
        """T, 1 to 16."""
        return self.meta.timesteps

    @property
    def images(self) -> int:
        """How many images the tensors hold."""
        return self.meta.images

    @property
    def provenance(self) -> dict[str, Any]:
        """Where network and weights come from; the keys of ``schema.Provenance`` that are known."""
        return self.meta.provenance.model_dump(exclude_none=True)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the stored tensors."""
        return tuple(self.meta.tensors)

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The operations in the order in which they run."""
        return tuple(self._operation(record) for record in self.meta.operations)

    @property
    def calibration(self) -> ImageSet | None:
        """Images of the training set, decoded now and not kept; None if the trace has none."""
        return self._image_set("calibration")

    @property
    def evaluation(self) -> ImageSet | None:
        """Images of the test set, decoded now and not kept; None if the trace has none."""
        return self._image_set("evaluation")

    def _image_set(self, name: str) -> ImageSet | None:
        if name not in graph.set_sizes(self.meta):
            return None
        return ImageSet(self.arrays[f"{name}.images"], self.arrays[f"{name}.labels"])

    @property
    def pixels(self) -> str:
        """Name of the tensor that the images of a set stand for: what the first operation reads first."""
        return self.meta.operations[0].inputs[0]

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the tensors beside ``pixels`` that no operation writes, such as an embedding of positions."""
        return graph.constants(self.meta)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def operation(self, name: str) -> Operation:
        """The operation ``name``."""
        for operation in self.operations:
            if operation.name == name:
                return operation
        names = [operation.name for operation in self.operations]
        raise UsageError(f"no layer {name!r} in {self.network}; allowed: {', '.join(names)}{nearest(name, names)}")

    def tensor(self, name: str) -> NDArray[Any]:
        """The tensor ``name``, decoded now and not kept.

        Spikes are bool [T, I, C, H, W] or [T, I, F]; signed spikes int8 and integers that change in time int64 of the
        same shapes; other integers (pixels) have their stored dtype and the shape [I, C, H, W] or [I, F], and so have
        spike times, uint8.
        """
        if name not in self.meta.tensors:
            known = ", ".join(self.tensors)
            raise UsageError(f"no tensor {name!r} is stored; stored: {known}{nearest(name, self.tensors)}")
        return content.decode(self.meta, name, self.arrays[f"tensor.{name}"])

    def operand(self, name: str) -> NDArray[Any]:
        """The tensor ``name`` as operations read it: spike times as the spikes they stand for, bool [T, I, ...]."""
        tensor = self.tensor(name)
        return content.spikes_of_times(tensor, self.timesteps) if self.kind(name) == "spike_time" else tensor

    def stored(self, name: str) -> bool:
        """Does the trace hold the tensor ``name``? (It always holds what an operation reads.)"""
        return name in self.meta.tensors

    def kind(self, name: str) -> str:
        """``spike``, ``signed_spike``, ``spike_time`` or ``int``."""
        return self.meta.tensors[name].kind

    def bits(self, name: str) -> int:
        """Width of a value of the tensor ``name``."""
        return graph.operand_bits(self.meta, self.meta.tensors[name])

    def scale(self, name: str) -> float:
        """The real value of one unit of the tensor ``name``; 1 for spikes."""
        return getattr(self.meta.tensors[name], "scale", 1.0)

    def select(
        self, layers: Iterable[str] | None = None, images: Iterable[int] | None = None, timesteps: int | None = None
    ) -> Trace:
        """The same trace with only these operations (in the order of the trace) and these images (by number), and as
        if it had stopped after the first ``timesteps``.

        A choice of layers is no whole network, and has no image sets.

        ``sha256`` and ``path`` stay those of the whole trace. An unknown layer or image is a ``UsageError``, and so are
        timesteps that the trace does not have, or of a trace whose spikes depend on later ones: neurons that are masked
        for firing once, spike times.
        """
        steps = self.timesteps if timesteps is None else timesteps
        if not 1 <= steps <= self.timesteps:
            raise UsageError(f"got {steps} timesteps; {self.network} has {self.timesteps}")
        if steps < self.timesteps:
            masked = [op.name for op in self.operations if op.neuron is not None and op.neuron.mask_fire_once]
            late = masked or [name for name in self.tensors if self.kind(name) == "spike_time"]
            if late:
                raise UsageError(
                    f"{self.network} cannot stop after {steps} of {self.timesteps} timesteps: {late[0]} depends on "
                    "later ones"
                )
        names = None if layers is None else {self.operation(name).name for name in layers}
        chosen = list(range(self.images)) if images is None else list(images)
        outside = [image for image in chosen if not 0 <= image < self.images]
        if outside or not chosen:
            got = f"image {outside[0]}" if outside else "no image"
            raise UsageError(f"got {got}; {self.network} has the images 0 to {self.images - 1}")
        records = [record for record in self.meta.operations if names is None or record.name in names]
        if not records:
            raise UsageError(f"got no layer; {self.network} has {', '.join(op.name for op in self.operations)}")
        used = {name for record in records for name in (*record.inputs, record.output)}
        meta = self.meta.model_copy(
            update={
                "images": len(chosen),
                "timesteps": steps,
                "operations": tuple(records),
                "tensors": {name: tensor for name, tensor in self.meta.tensors.items() if name in used},
                **({} if names is None else {f"{name}_images": None for name in graph.IMAGE_SETS}),
            }
        )
        arrays = self.arrays
        if images is not None or steps < self.timesteps:
            arrays = _Chosen(self.meta, self._graph, self.arrays, chosen, steps)
        return Trace.from_checked(meta, graph.resolve(meta, _HERE), arrays, self.sha256, self.path)

    def _operation(self, record: schema.OperationRecord) -> Operation:
        geometry = self._graph.geometry[record.name]
        neuron = getattr(record, "neuron", None)
        threshold = f"threshold.{record.name}"
        requantiser = getattr(record, "requantiser", None)
        multiplier, table = f"multiplier.{record.name}", f"table.{record.name}"
        operation = Operation(
            name=record.name,
            op=record.op,
            inputs=record.inputs,
            output=record.output,
            kernel=getattr(record, "kernel", (1, 1)),
            stride=getattr(record, "stride", (1, 1)),
            padding=getattr(record, "padding", (0, 0)),
            weight=partial(self.arrays.__getitem__, f"weight.{record.name}") if geometry.weight else None,
            weight_bits=record.weight.bits if isinstance(record, schema.Convolution | schema.Linear) else 8,
            weight_scale=record.weight.scale if isinstance(record, schema.Convolution | schema.Linear) else 1.0,
            bias=self.arrays[f"bias.{record.name}"].astype(np.int64) if getattr(record, "bias", False) else None,
            neuron=Neuron(threshold=self.arrays[threshold].astype(np.int64), **neuron.model_dump()) if neuron else None,
            transpose=getattr(record, "transpose", False),
            gradient_mask=self._gradient_mask(record, geometry),
            requantiser=Requantiser(self.arrays[multiplier].astype(np.int64), **requantiser.model_dump())
            if requantiser
            else None,
            table=self.arrays[table] if record.op == "softmax" else None,
        )
        return _resolved(operation, self.images, geometry)

    def _gradient_mask(
        self, record: schema.OperationRecord, geometry: graph.Geometry
    ) -> Callable[[], NDArray[np.bool_]] | None:
        if not getattr(record, "gradient_mask", None):
            return None
        return partial(_mask, self.arrays, record.name, graph.gradient_shape(self.meta, geometry))


def _mask(arrays: Mapping[str, NDArray[Any]], operation: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return content.unpack(arrays[f"gradient.{operation}"], shape)


class _Chosen(Mapping[str, NDArray[Any]]):
    """The arrays of a trace with only some of its images and the first timesteps."""

    def __init__(
        self,
        meta: schema.Meta,
        resolved: graph.Graph,
        arrays: Mapping[str, NDArray[Any]],
        images: list[int],
        timesteps: int,
    ) -> None:
        self._meta = meta
        self._graph = resolved
        self._arrays = arrays
        self._images = images
        self._timesteps = timesteps

    def __getitem__(self, name: str) -> NDArray[Any]:
        role, _, tensor = name.partition(".")
        stored = self._arrays[name]
        if role == "gradient":
            shape = graph.gradient_shape(self._meta, self._graph.geometry[tensor])
            return content.pack(content.unpack(stored, shape)[: self._timesteps, self._images])
        if role != "tensor":
            return stored
        record = self._meta.tensors[tensor]
        if record.packed_bits:
            decoded = content.decode(self._meta, tensor, stored)[: self._timesteps, self._images]
            return content.encode(record, decoded)
        return stored[: self._timesteps, self._images] if record.per_timestep else stored[self._images]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _resolved(operation: Operation, images: int, geometry: graph.Geometry) -> Operation:
    operation = copy.copy(operation)
    operation.__dict__.update(
        images=images, input_shapes=geometry.inputs, output_shape=geometry.output, weight_shape=geometry.weight
    )
    return operation


def _describe(
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
        f"{_HERE}: tensors.{name}.{key}: no such tensor{nearest(name, tensors)}"
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
        at = f"{_HERE}: tensors.{name}"
        if array.ndim not in (2, 3, 4, 5) or not array.size:
            problems.append(f"{at}: got the shape {list(array.shape)}; allowed: [T, I, ...] or [I, ...]")
        elif timed and array.shape[0] != timesteps:
            problems.append(f"{at}: {timesteps} timesteps expected, got the shape {list(array.shape)}")
        else:
            told = {key: values[name] for key, values in more.items() if name in values}
            records[name], arrays[f"tensor.{name}"] = _describe_tensor(array, told, at, problems)
        images.add(array.shape[1] if timed else array.shape[0] if array.ndim else 0)
    if len(images) > 1:
        problems.append(f"{_HERE}: tensors: the number of images differs, got {sorted(images)}")
    described = []
    for operation in operations:
        record, own, faults = _describe_operation(operation)
        described.append(record)
        arrays.update(own)
        problems.extend(faults)
    if problems:
        raise TraceError(problems)
    record = {
        "format": schema.FORMAT,
        "version": schema.VERSION,
        "network": network,
        "timesteps": timesteps,
        "images": images.pop() if images else 0,
        "provenance": dict(provenance),
        "tensors": records,
        "operations": described,
    }
    return record, arrays


def _describe_tensor(
    array: NDArray[Any], told: dict[str, Any], at: str, problems: list[str]
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
    if kind == "spike_time" and integers and not timed:
        return record, _integers(array, np.uint8, at, problems)
    if kind == "int" and integers:
        return {"dtype": array.dtype.name, "per_timestep": timed, "scale": 1.0} | record, array
    allowed = _ARRAYS.get(kind)
    got = f"{array.dtype} {list(array.shape)}" if allowed else repr(kind)
    allowed = allowed or f"{', '.join(_ARRAYS)}{nearest(kind, _ARRAYS)}"
    problems.append(f"{at}: got {got}; allowed: {allowed}")
    return record, array


def _describe_set(name: str, images: ImageSet) -> dict[str, NDArray[Any]]:
    """The arrays of an image set; whether they fit is judged with all others."""
    labels = np.asarray(images.labels)
    whole = labels.astype(np.int64) if labels.dtype.kind in "iu" else labels
    return {f"{name}.images": np.asarray(images.images), f"{name}.labels": whole}


def _describe_operation(operation: Operation) -> tuple[dict[str, Any], dict[str, NDArray[Any]], list[str]]:
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
    if operation.op == "conv2d":
        shape = weight.shape if weight is not None else ()
        record["kernel"] = list(shape[2:]) if len(shape) == 4 else list(operation.kernel)
    if operation.op == "pool":
        record["kernel"] = list(operation.kernel)
    if operation.op in ("conv2d", "pool"):
        record |= {"stride": list(operation.stride), "padding": list(operation.padding)}
    if operation.op == "matmul":
        record["transpose"] = operation.transpose
    mask = operation.gradient_mask
    if mask is not None:
        record["gradient_mask"] = True
        if np.asarray(mask).dtype != np.bool_:
            problems.append(f"{_HERE}: {name}.gradient_mask: bool [T, I, ...] expected, got {np.asarray(mask).dtype}")
        else:
            arrays[f"gradient.{name}"] = content.pack(np.asarray(mask))
    if operation.bias is not None:
        arrays[f"bias.{name}"] = _integers(operation.bias, np.int32, f"{name}.bias", problems)
    neuron = operation.neuron
    if neuron is not None:
        record["neuron"] = {
            "kind": neuron.kind, "leak_shift": neuron.leak_shift, "fraction_bits": neuron.fraction_bits,
            "reset": neuron.reset, "mask_fire_once": neuron.mask_fire_once,
            "leak_subtracts": neuron.leak_subtracts, "fires_at_threshold": neuron.fires_at_threshold,
        }  # fmt: skip
        threshold = np.asarray(neuron.threshold)
        if not threshold.ndim and channels:
            threshold = np.full(channels, threshold)
        arrays[f"threshold.{name}"] = _integers(threshold, np.int32, f"{name}.neuron.threshold", problems)
    requantiser = operation.requantiser
    if requantiser is not None:
        record["requantiser"] = {
            "shift": requantiser.shift, "bits": requantiser.bits, "signed": requantiser.signed,
        }  # fmt: skip
        multiplier = np.asarray(requantiser.multiplier)
        if not multiplier.ndim and channels:
            multiplier = np.full(channels, multiplier)
        arrays[f"multiplier.{name}"] = _integers(multiplier, np.int32, f"{name}.requantiser.multiplier", problems)
    if operation.table is not None:
        arrays[f"table.{name}"] = _integers(operation.table, np.uint16, f"{name}.table", problems)
    if operation.op == "layer_norm":
        record["bias"] = operation.bias is not None
    return record, arrays, problems


def _integers(values: ArrayLike, dtype: type[np.integer[Any]], path: str, problems: list[str]) -> NDArray[Any]:
    """``values`` as ``dtype``, with a problem where that would change one."""
    array = np.asarray(values)
    limits = np.iinfo(dtype)
    if array.dtype.kind not in "iu":
        problems.append(f"{_HERE}: {path}: integers expected, got {array.dtype}")
        return array
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        got = f"{array.min()} to {array.max()}"
        problems.append(f"{_HERE}: {path}: got {got}; allowed: {limits.min} to {limits.max}")
        return array
    return array.astype(dtype)


def _wrong_masks(meta: schema.Meta, resolved: graph.Graph, operations: Iterable[Operation]) -> list[str]:
    """Gradient masks that have the right number of bits in another shape."""
    problems = []
    for operation in operations:
        mask, wanted = operation.gradient_mask, graph.gradient_shape(meta, resolved.geometry[operation.name])
        if mask is not None and np.shape(mask) != wanted:
            got = list(np.shape(mask))
            problems.append(f"{_HERE}: {operation.name}.gradient_mask: got bool {got}; allowed: bool {list(wanted)}")
    return problems


def _misfits(resolved: graph.Graph, arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """Arrays of a trace in memory that are not what its operations promise."""
    problems = []
    for name in sorted({*arrays, *resolved.arrays}):
        spec, array = resolved.arrays.get(name), arrays.get(name)
        if spec is None:
            problems.append(f"{_HERE}: array {name!r} has no use")
        elif array is None:
            problems.append(f"{_HERE}: array {name!r} is missing; {spec.dtype} {list(spec.shape)} expected")
        elif array.dtype != spec.dtype or array.shape != spec.shape:
            got = f"{array.dtype} {list(array.shape)}"
            problems.append(f"{_HERE}: array {name!r}: got {got}; allowed: {spec.dtype} {list(spec.shape)}")
    return problems
