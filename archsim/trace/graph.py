"""What the operations of a trace promise together: shapes, order of definition, and the arrays that must exist.

An operation reads what no operation writes, or what one before it writes. Only a delay may read what it or a later one
writes, so that every cycle has a delay on it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np

from archsim.errors import MOST_PROBLEMS, UsageError, nearest
from archsim.trace import neurons
from archsim.trace.cycles import on_cycles
from archsim.trace.neurons import NeuronRecord
from archsim.trace.schema import (
    MOST_SHORT_TIMESTEPS,
    Add,
    Concatenation,
    Convolution,
    Delay,
    IntegerTensor,
    LayerNorm,
    Linear,
    MatrixProduct,
    Meta,
    Multiply,
    OperationRecord,
    Pool,
    Rearrangement,
    RequantiserRecord,
    Slice,
    Softmax,
    SpikeTimeTensor,
    TensorRecord,
    Upsample,
)
from archsim.trace.shapes import Shapes, shapes_of

Shape = tuple[int, ...]

MAX_ELEMENTS = 1 << 28
MAX_BYTES = 1 << 31
MAX_STEPS = 1 << 24
"""Of work that a file may always make, which takes no second; a large one may make more."""
STEPS_PER_BYTE = 1 << 12
"""Of a file; trained networks take some hundred, as their weights and spikes are in it."""
PRODUCTS_PER_STEP = 64
TABLE_LENGTH = 256
SOFTMAX_BITS = 8
IMAGE_SETS = ("calibration", "evaluation")
_KEEPS_KIND = Pool | Concatenation | Slice | Upsample | Rearrangement | Delay
"""Operations that write the kind that they read; a pool that adds up does not."""
_ITEM_BYTES = {"uint8": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "int64": 8}


class ArraySpec(NamedTuple):
    """An array that the record promises. ``elements`` counts decoded values: several a byte, for packed spikes."""

    dtype: str
    shape: Shape
    elements: int

    @property
    def bytes(self) -> int:
        """Size of the data, without any header."""
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Graph:
    """Shapes per operation and array specifications by name, in the order of the file."""

    shapes: dict[str, Shapes]
    arrays: dict[str, ArraySpec]
    problems: tuple[str, ...]


def resolve(meta: Meta, where: str) -> Graph:
    """Check the record as a whole. Whatever is wrong is in ``problems``, one line each."""
    resolver = _Resolver(meta, where)
    resolver.operations()
    resolver.tensors()
    resolver.image_sets()
    arrays = resolver.arrays()
    resolver.cycles()
    return Graph(resolver.shapes, arrays, tuple(resolver.problems))


def check_steps(meta: Meta, shapes: dict[str, Shapes], file_bytes: int) -> str:
    """What is wrong if a file of ``file_bytes`` makes more work than such a file should, or the empty string.

    A step is a value that an operation reads into a window or writes, and :data:`PRODUCTS_PER_STEP` products are one.
    """
    steps = {record.name: _steps(meta, record, shapes[record.name]) for record in meta.operations}
    given = os.environ.get("ARCHSIM_MAX_STEPS", "0")
    if not given.isdecimal() or len(given) > 18:
        raise UsageError(f"ARCHSIM_MAX_STEPS: must be a number of steps of less than 19 digits, got '{given}'")
    total, allowed = sum(steps.values()), max(MAX_STEPS, STEPS_PER_BYTE * file_bytes, int(given))
    if total <= allowed:
        return ""
    most = max(steps, key=steps.__getitem__)
    return (
        f"operations: take {total:,} steps of work, {steps[most]:,} of them {most!r}; allowed: at most {allowed:,} "
        f"for a file of {file_bytes:,} bytes, or what the environment variable ARCHSIM_MAX_STEPS says"
    )


def _steps(meta: Meta, record: OperationRecord, shapes: Shapes) -> int:
    positions = math.prod(shapes.output[1:])
    outputs = math.prod(shapes.output)
    match record:
        case Convolution() | Linear():
            assert shapes.weight is not None
            products = math.prod(shapes.weight) * positions
            reads = _row(record, shapes.weight) * positions
        case MatrixProduct():
            products = shapes.k * outputs
            reads = sum(map(math.prod, shapes.inputs))
        case Pool():
            products, reads = 0, outputs * math.prod(record.kernel)
        case _:
            products, reads = 0, sum(map(math.prod, shapes.inputs))
    return meta.timesteps * meta.images * (reads + outputs + products // PRODUCTS_PER_STEP)


def _row(record: OperationRecord, weight: Shape) -> int:
    """How many inputs a row of all groups has: the columns of im2col."""
    return math.prod(weight[1:]) * (record.groups if isinstance(record, Convolution) else 1)


def timed_shape(meta: Meta, tensor: TensorRecord) -> Shape:
    """Shape with time and images: [T, I, ...], or [I, ...] for spike times and integers that do not change in time."""
    return (*((meta.timesteps,) if tensor.per_timestep else ()), meta.images, *tensor.shape)


def gradient_shape(meta: Meta, shapes: Shapes) -> Shape:
    """Shape of the gradient mask of an operation: [T, I, ...], one bit for each of its outputs."""
    return (meta.timesteps, meta.images, *shapes.output)


def operand_bits(meta: Meta, tensor: TensorRecord) -> int:
    """Width of one value: 1 for spikes, 2 for signed ones, enough for T times and never, or that of the integers."""
    if isinstance(tensor, IntegerTensor):
        return tensor.bits or 8 * _ITEM_BYTES[tensor.dtype]
    return tensor.packed_bits or meta.timesteps.bit_length()


def integer_range(bits: int, signed: bool) -> tuple[int, int]:
    """Least and largest integer of ``bits``, in two's complement if ``signed``."""
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def pixels(meta: Meta) -> str:
    """The tensor that the images of a set stand for: the first that is read and that no operation writes."""
    return next(iter(_given(meta)), "")


def _given(meta: Meta) -> dict[str, None]:
    written = {record.output for record in meta.operations}
    return dict.fromkeys(name for record in meta.operations for name in record.inputs if name not in written)


def set_sizes(meta: Meta) -> dict[str, int]:
    """How many images each set has that the trace holds."""
    sizes = {name: getattr(meta, f"{name}_images") for name in IMAGE_SETS}
    return {name: size for name, size in sizes.items() if size is not None}


def constants(meta: Meta) -> tuple[str, ...]:
    """The tensors that no operation writes, beside the images."""
    return tuple(_given(meta))[1:]


class _Resolver:
    def __init__(self, meta: Meta, where: str) -> None:
        self.meta = meta
        self.where = where
        self.problems: list[str] = []
        self.shapes: dict[str, Shapes] = {}
        self.index_of_output = {record.output: index for index, record in enumerate(meta.operations)}

    def problem(self, path: str, text: str, hint: Callable[[], str] = str) -> None:
        # Looking for a hint takes time, and no more of them are told.
        told = hint() if len(self.problems) < MOST_PROBLEMS else ""
        self.problems.append(f"{self.where}: {path}: {text}{told}")

    def operations(self) -> None:
        names: set[str] = set()
        outputs: set[str] = set()
        for index, record in enumerate(self.meta.operations):
            path = f"operations[{index}]"
            if record.name in names:
                self.problem(f"{path}.name", f"two operations have the name {record.name!r}")
            if record.output in outputs:
                self.problem(f"{path}.output", f"tensor {record.output!r} is written by an earlier operation too")
            shapes = self._input_shapes(record, index, path)
            if shapes is not None:
                self._one_operation(record, shapes, path)
            names.add(record.name)
            outputs.add(record.output)

    def _input_shapes(self, record: OperationRecord, index: int, path: str) -> tuple[Shape, ...] | None:
        shapes = []
        for position, name in enumerate(record.inputs):
            at = f"{path}.inputs[{position}]"
            writer = self.index_of_output.get(name)
            late = writer is not None and writer >= index and not isinstance(record, Delay)
            if writer == index and late:
                self.problem(at, f"operation {record.name!r} reads its own output {name!r} (a cycle without a delay)")
            elif writer is not None and late:
                later = self.meta.operations[writer].name
                told = partial(self._on_cycle, index, writer)
                self.problem(at, f"tensor {name!r} is not defined yet: {later!r} writes it later", told)
            elif name not in self.meta.tensors:
                known = ", ".join(islice(self.meta.tensors, 8))
                hint = partial(nearest, name, self.meta.tensors)
                self.problem(at, f"tensor {name!r} is not stored, and what is read must be; stored: {known}", hint)
            else:
                shapes.append(self.meta.tensors[name].shape)
        return tuple(shapes) if len(shapes) == len(record.inputs) else None

    def _on_cycle(self, reader: int, writer: int) -> str:
        """The cycle without a delay on which an operation reads what a later one writes, if it is one."""
        records = self.meta.operations
        readers: dict[str, list[int]] = {}
        for index, record in enumerate(records):
            for name in record.inputs if not isinstance(record, Delay) else ():
                readers.setdefault(name, []).append(index)
        came_from, waiting = {reader: reader}, [reader]
        for index in waiting:
            for after in readers.get(records[index].output, ()):
                if after not in came_from:
                    came_from[after] = index
                    waiting.append(after)
        if writer not in came_from:
            return ""
        names, index = [records[writer].name], writer
        while index != reader:
            index = came_from[index]
            names.append(records[index].name)
        path = [*reversed(names), names[-1]]
        shown = path if len(path) <= 8 else [*path[:4], "...", *path[-3:]]
        return f", and there is no delay on the cycle {' -> '.join(shown)}"

    def _one_operation(self, record: OperationRecord, shapes: tuple[Shape, ...], path: str) -> None:
        before = len(self.problems)
        wanted = None if isinstance(record, Add | Concatenation) else 2 if record.op in ("matmul", "multiply") else 1
        if wanted is not None and len(shapes) != wanted:
            self.problem(f"{path}.inputs", f"{record.op} reads {wanted} tensors, got {len(shapes)}")
            return
        self._kinds(record, path)
        found = shapes_of(record, shapes, lambda key, text: self.problem(f"{path}.{key}", text))
        self._keys(record, path)
        self._neuron(record, path)
        if len(self.problems) == before:
            self.shapes[record.name] = found
            self._output(record, found.output, path)

    def _kinds(self, record: OperationRecord, path: str) -> None:
        """Are the inputs of kinds that the operation reads?"""
        kinds = [self.meta.tensors[name].kind for name in record.inputs]
        if isinstance(record, Softmax | LayerNorm) and kinds[0] != "int":
            self.problem(f"{path}.inputs[0]", f"{record.op} reads integers, got {record.inputs[0]!r}; allowed: 'int'")
        if isinstance(record, Concatenation) and len(set(kinds)) > 1:
            self.problem(f"{path}.inputs", f"{record.op} needs inputs of one kind, got {sorted(set(kinds))}")
        if isinstance(record, Add) and record.times:
            for position, (name, kind) in enumerate(zip(record.inputs, kinds, strict=True)):
                if kind != "spike_time":
                    text = f"adds spike times, got {name!r} of the kind {kind!r}; allowed: 'spike_time'"
                    self.problem(f"{path}.inputs[{position}]", text)
            return
        if isinstance(record, Convolution | Linear | _KEEPS_KIND) and not _sums(record):
            return
        for position, (name, kind) in enumerate(zip(record.inputs, kinds, strict=True)):
            if kind == "spike_time":
                readers = "conv2d, linear, pool, concat, slice, upsample, rearrange, delay, add with times"
                text = f"{record.op} cannot read spike times, got {name!r}; allowed: {readers}"
                self.problem(f"{path}.inputs[{position}]", text)

    def _keys(self, record: OperationRecord, path: str) -> None:
        """Do the keys of the operation go together?"""
        neuron, requantiser = getattr(record, "neuron", None), getattr(record, "requantiser", None)
        if neuron is not None and requantiser is not None:
            self.problem(f"{path}.requantiser", "neurons write the output; allowed: a neuron or a requantiser")
        whole = {
            "a maximum is what it is; allowed: with the reduction 'sum'": isinstance(record, Pool)
            and record.reduction == "max",
            "a sum of times is a time; allowed: without times": isinstance(record, Add) and record.times,
        }
        for key in ("neuron", "requantiser"):
            for text in (text for text, has in whole.items() if has and getattr(record, key) is not None):
                self.problem(f"{path}.{key}", text)
        if isinstance(record, Delay) and (record.steps is None) == (record.per_channel is None):
            got = "both" if record.per_channel else "neither"
            self.problem(f"{path}.steps", f"got {got}; allowed: either steps or per_channel")

    def _neuron(self, record: OperationRecord, path: str) -> None:
        neuron = getattr(record, "neuron", None)
        if neuron is None:
            return
        for key, text in neurons.problems_of(neuron):
            self.problem(f"{path}.neuron.{key}", text)
        output = self.meta.tensors.get(record.output)
        if neuron.mask_fire_once and output is not None and output.kind == "spike_time":
            self.problem(f"{path}.neuron.mask_fire_once", "neurons with a spike time fire once; allowed: false")

    def _output(self, record: OperationRecord, output: Shape, path: str) -> None:
        stored = self.meta.tensors.get(record.output)
        if stored is None:
            return
        if stored.shape != output:
            self.problem(
                f"tensors.{record.output}.shape",
                f"operation {record.name!r} writes {list(output)}, got {list(stored.shape)}",
            )
        kinds = self._output_kinds(record)
        if stored.kind not in kinds:
            allowed = " or ".join(repr(kind) for kind in kinds)
            self.problem(
                f"tensors.{record.output}.kind", f"operation {record.name!r} writes {allowed}, got {stored.kind!r}"
            )
        elif isinstance(stored, IntegerTensor) and not stored.per_timestep and not self._is_static(record):
            self.problem(f"tensors.{record.output}.per_timestep", f"operation {record.name!r} writes every timestep")
        written = _written(record)
        if written is not None and isinstance(stored, IntegerTensor):
            low, high = integer_range(operand_bits(self.meta, stored), stored.dtype != "uint8")
            if written[0] < low or written[1] > high:
                text = f"operation {record.name!r} writes {written[0]} to {written[1]}, got room for {low} to {high}"
                self.problem(f"tensors.{record.output}", text)

    def _output_kinds(self, record: OperationRecord) -> tuple[str, ...]:
        kinds = [self.meta.tensors[name].kind for name in record.inputs]
        if (isinstance(record, _KEEPS_KIND) and not _sums(record)) or getattr(record, "times", False):
            return (kinds[0],)
        neuron = getattr(record, "neuron", None)
        if neuron is not None:
            return neurons.output_kinds(neuron)
        if isinstance(record, Multiply) and record.requantiser is None and "int" not in kinds:
            return ("signed_spike",) if "signed_spike" in kinds else ("spike",)
        requantiser = getattr(record, "requantiser", None)
        if requantiser is not None and not requantiser.signed and self._is_static(record):
            return ("int", "spike_time")
        return ("int",)

    def _is_static(self, record: OperationRecord) -> bool:
        """Does the output stay the same in time, because no input changes and there is no neuron?"""
        inputs = [self.meta.tensors[name] for name in record.inputs]
        still = all(isinstance(tensor, IntegerTensor) and not tensor.per_timestep for tensor in inputs)
        return still and getattr(record, "neuron", None) is None and not isinstance(record, Delay)

    def tensors(self) -> None:
        wide = self.meta.timesteps > MOST_SHORT_TIMESTEPS
        used = dict.fromkeys(name for record in self.meta.operations for name in (*record.inputs, record.output))
        for name, tensor in self.meta.tensors.items():
            if name not in used:
                hint = partial(nearest, name, used)
                self.problem(f"tensors.{name}", "no operation reads or writes it", hint)
            if isinstance(tensor, SpikeTimeTensor) and (tensor.dtype == "uint16") != wide:
                needed = "uint16" if wide else "uint8"
                text = f"got {tensor.dtype}; allowed for {self.meta.timesteps} timesteps: {needed}"
                self.problem(f"tensors.{name}.dtype", text)
            if isinstance(tensor, IntegerTensor) and (tensor.bits or 1) > 8 * _ITEM_BYTES[tensor.dtype]:
                width = f"1 to {8 * _ITEM_BYTES[tensor.dtype]} for {tensor.dtype}"
                self.problem(f"tensors.{name}.bits", f"got {tensor.bits}; allowed: {width}")

    def image_sets(self) -> None:
        """Image sets stand for the pixels that the network reads."""
        name = pixels(self.meta)
        tensor = self.meta.tensors.get(name)
        if not set_sizes(self.meta) or tensor is None:
            return
        wanted = "integers uint8 [I, C, H, W] that do not change in time"
        if not isinstance(tensor, IntegerTensor) or tensor.dtype != "uint8" or tensor.per_timestep:
            got = getattr(tensor, "dtype", tensor.kind)
            at = f"{next(iter(set_sizes(self.meta)))}_images"
            self.problem(at, f"the images of a set are {wanted}; the network reads {name!r} first, {got}")

    def cycles(self) -> None:
        """On a cycle nobody knows how often a neuron will fire."""
        if self.problems:
            return
        for index in sorted(on_cycles(self.meta)):
            record = self.meta.operations[index]
            if getattr(record, "times", False):
                text = "is on a cycle, and adds times that are not known yet; allowed: false"
                self.problem(f"operations[{index}].times", text)
            neuron = getattr(record, "neuron", None)
            if neuron is not None and neuron.mask_fire_once:
                at = f"operations[{index}].neuron.mask_fire_once"
                self.problem(at, "the neurons are on a cycle, and later spikes may follow from it; allowed: false")

    def arrays(self) -> dict[str, ArraySpec]:
        arrays = {}
        total = 0
        for name, path, spec in self._specifications():
            arrays[name] = spec
            total += spec.bytes
            if spec.elements > MAX_ELEMENTS:
                self.problem(path, f"{spec.elements:,} values in one array; allowed: at most {MAX_ELEMENTS:,}")
        if total > MAX_BYTES:
            self.problem("operations", f"the arrays take {total:,} bytes in all; allowed: at most {MAX_BYTES:,}")
        return arrays

    def _sizes(self, record: OperationRecord, shapes: Shapes, path: str) -> None:
        values = self.meta.timesteps * self.meta.images * math.prod(shapes.output)
        if values > MAX_ELEMENTS:
            self.problem(path, f"writes {values:,} values; allowed: at most {MAX_ELEMENTS:,}")
        if shapes.weight is not None:
            values = self.meta.images * math.prod(shapes.output[1:]) * _row(record, shapes.weight)
            if values > MAX_ELEMENTS:
                self.problem(path, f"reads {values:,} unrolled inputs (M x K); allowed: at most {MAX_ELEMENTS:,}")

    def _specifications(self) -> Iterator[tuple[str, str, ArraySpec]]:
        for name, tensor in self.meta.tensors.items():
            shape = timed_shape(self.meta, tensor)
            elements = math.prod(shape)
            if tensor.packed_bits:
                shape = (-(-elements * tensor.packed_bits // 8),)
            spec = ArraySpec(tensor.dtype, shape, elements)
            yield f"tensor.{name}", f"tensors.{name}.shape", spec
        for index, record in enumerate(self.meta.operations):
            path = f"operations[{index}]"
            shapes = self.shapes.get(record.name)
            if shapes is None:
                continue
            if shapes.weight is not None:
                yield (
                    f"weight.{record.name}", path, ArraySpec("int8", shapes.weight, math.prod(shapes.weight))
                )  # fmt: skip
            channels = shapes.output[0]
            self._sizes(record, shapes, path)
            if getattr(record, "bias", False):
                yield f"bias.{record.name}", path, ArraySpec("int32", (channels,), channels)
            neuron = getattr(record, "neuron", None)
            if neuron is not None:
                shape = shapes.output if neuron.per_neuron else (channels,)
                for role in neurons.arrays_of(neuron):
                    dtype = np.dtype(neurons.dtype_of(neuron, role)).name
                    yield f"{role}.{record.name}", path, ArraySpec(dtype, shape, math.prod(shape))
            requantiser = getattr(record, "requantiser", None)
            if requantiser is not None:
                yield f"multiplier.{record.name}", path, ArraySpec("int32", (channels,), channels)
            bits = getattr(neuron or requantiser, "activation_bits", None)
            if bits is not None:
                yield f"activation.{record.name}", path, ArraySpec("int32", (1 << bits,), 1 << bits)
            if isinstance(record, Delay) and record.per_channel:
                yield f"delay.{record.name}", path, ArraySpec("int32", (channels,), channels)
            if isinstance(record, Softmax):
                yield f"table.{record.name}", path, ArraySpec("uint16", (TABLE_LENGTH,), TABLE_LENGTH)
            if getattr(record, "gradient_mask", None):
                elements = math.prod(gradient_shape(self.meta, shapes))
                yield f"gradient.{record.name}", path, ArraySpec("uint8", (-(-elements // 8),), elements)
        image = self.meta.tensors.get(pixels(self.meta))
        for name, size in set_sizes(self.meta).items():
            if image is not None:
                shape = (size, *image.shape)
                yield f"{name}.images", f"{name}_images", ArraySpec("uint8", shape, math.prod(shape))
                yield f"{name}.labels", f"{name}_images", ArraySpec("int64", (size,), size)


def _written(record: OperationRecord) -> Shape | None:
    """Least and largest integer that an operation writes of itself; None where its inputs decide."""
    if isinstance(record, Softmax):
        return integer_range(SOFTMAX_BITS, False)
    neuron: NeuronRecord | None = getattr(record, "neuron", None)
    if neuron is not None and neuron.fires == "integer":
        return 0, neuron.most
    rule: RequantiserRecord | None = getattr(record, "requantiser", None)
    return None if rule is None else integer_range(rule.bits, rule.signed)


def _sums(record: OperationRecord) -> bool:
    """Whether a pool adds up its windows."""
    return isinstance(record, Pool) and record.reduction == "sum"
