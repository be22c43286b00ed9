"""The shapes that operations write, and of their weights, by the shapes that they read.

Shapes leave out time and images: [C, H, W] or [F].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from archsim.trace.schema import (
    Add,
    Concatenation,
    Convolution,
    Linear,
    MatrixProduct,
    Multiply,
    OperationRecord,
    Pool,
    Rearrangement,
    Reduction,
    Slice,
    Upsample,
)
from archsim.trace.window import Window, sides

Shape = tuple[int, ...]
Problem = Callable[[str, str], None]
"""Tells what is wrong with a key of the record."""
_MAPS = ("conv2d", "pool", "softmax", "layer_norm", "matmul", "upsample")
"""Operations that read [C, H, W] and nothing else."""


@dataclass(frozen=True)
class Shapes:
    """The shapes that one operation reads and writes, and of its weights (None without).

    ``k`` is how many values, or products of two values, are combined into one of the output.
    """

    inputs: tuple[Shape, ...]
    output: Shape
    weight: Shape | None = None
    k: int = 1


def shapes_of(record: OperationRecord, inputs: tuple[Shape, ...], problem: Problem) -> Shapes:
    """The shapes of an operation that reads ``inputs``, of the number that it wants; what is wrong is told."""
    first = inputs[0]
    if record.op in _MAPS and any(len(shape) != 3 for shape in inputs):
        twice = "[C, H, W] twice" if record.op == "matmul" else "[C, H, W]"
        got = listed(inputs) if record.op == "matmul" else f"the shape {list(first)}"
        problem("inputs", f"{record.op} reads {twice}, got {got}")
        return Shapes(inputs, ())
    weight: Shape | None = None
    match record:
        case Linear():
            output: Shape = (record.out_channels,)
            weight = (record.out_channels, math.prod(first))
        case Convolution():
            output, weight = _convolution(record, first, problem)
        case Pool():
            output = (first[0], *_window(record, first, problem))
        case Concatenation():
            output = _concatenation(inputs, problem)
        case MatrixProduct():
            output = _product(record, inputs, problem)
        case Multiply():
            output = _multiply(inputs, problem)
        case Reduction():
            output = _reduction(record, first, problem)
        case Slice():
            output = _slice(record, first, problem)
        case Upsample():
            output = (first[0], first[1] * record.factor[0], first[2] * record.factor[1])
        case Rearrangement():
            output = _rearrangement(record, first, problem)
        case _:
            output = first
            if any(shape != first for shape in inputs):
                problem("inputs", f"shapes differ, got {listed(inputs)}")
    return Shapes(inputs, output, weight, _combined(record, inputs) if weight is None else math.prod(weight[1:]))


def window_of(record: Convolution | Pool) -> Window:
    """What an output of ``record`` sees of its input."""
    dilated = (record.dilation, record.input_dilation) if isinstance(record, Convolution) else ()
    return Window(record.kernel, record.stride, sides(record.padding), *dilated)


def listed(shapes: tuple[Shape, ...]) -> str:
    """Shapes as a record has them: ``[3, 4, 4], [6]``."""
    return ", ".join(str(list(shape)) for shape in shapes)


def _combined(record: OperationRecord, inputs: tuple[Shape, ...]) -> int:
    channels, *places = inputs[0]
    match record:
        case Pool():
            return math.prod(record.kernel)
        case Add():
            return len(inputs)
        case Reduction():
            return math.prod(places) if record.axis == "positions" else channels // record.groups
        case MatrixProduct():
            return math.prod(places) if record.transpose_first else channels // record.heads
    return 1


def _convolution(record: Convolution, first: Shape, problem: Problem) -> tuple[Shape, Shape]:
    groups, channels = record.groups, first[0]
    for what, count in (("input", channels), ("output", record.out_channels)):
        if count % groups:
            problem("groups", f"must divide the {what} channels, {count}, got {groups}")
    output = (record.out_channels, *_window(record, first, problem))
    return output, (record.out_channels, channels // groups, *record.kernel)


def _window(record: Convolution | Pool, first: Shape, problem: Problem) -> Shape:
    """Rows and columns of the output of a convolution or a pool."""
    window = window_of(record)
    for axis, size in enumerate(first[1:]):
        span, stretched = window.span[axis], (size - 1) * window.input_dilation[axis] + 1
        around = window.padding[2 * axis : 2 * axis + 2]
        if span > stretched + sum(around):
            problem("kernel", f"{span} is larger than the padded input, {stretched + sum(around)}")
        if max(around) > span + stretched:
            problem("padding", f"must be at most the kernel and the input, {span} + {stretched}, got {max(around)}")
        elif isinstance(record, Pool) and max(around) >= span:
            problem("padding", f"must be smaller than the kernel, {span}, got {max(around)}")
    return window.output((first[1], first[2]))


def _concatenation(inputs: tuple[Shape, ...], problem: Problem) -> Shape:
    first = inputs[0]
    if any(shape[1:] != first[1:] for shape in inputs):
        problem("inputs", f"shapes differ beyond the channels, got {listed(inputs)}")
    return (sum(shape[0] for shape in inputs), *first[1:])


def _product(record: MatrixProduct, inputs: tuple[Shape, ...], problem: Problem) -> Shape:
    """Of a head, the first matrix has ``rows`` rows and the second ``columns`` columns, turned as the record says."""
    first, second = inputs
    for channels in (first[0], second[0]):
        if channels % record.heads:
            problem("heads", f"must divide the channels, {channels}, got {record.heads}")
            return first
    rows, inner = math.prod(first[1:]), first[0] // record.heads
    if record.transpose_first:
        rows, inner = inner, rows
    matching, columns = math.prod(second[1:]), second[0] // record.heads
    if record.transpose:
        matching, columns = columns, matching
    if inner != matching:
        problem("inputs", f"inner lengths differ, got {inner} and {matching}")
    return (record.heads * columns, *((rows, 1) if record.transpose_first else first[1:]))


def _multiply(inputs: tuple[Shape, ...], problem: Problem) -> Shape:
    first, second = inputs
    fits = len(first) == len(second) and first[0] % second[0] == 0
    if not fits or any(mine not in (1, whole) for whole, mine in zip(first[1:], second[1:], strict=True)):
        allowed = "a divisor of the channels, and all or 1 of rows and columns"
        problem("inputs", f"the second does not fit the first, got {listed(inputs)}; allowed: {allowed}")
    return first


def _reduction(record: Reduction, first: Shape, problem: Problem) -> Shape:
    if record.axis == "positions":
        if record.groups != 1:
            problem("groups", f"are of channels, got {record.groups} and the axis 'positions'")
        if len(first) != 3:
            problem("inputs", f"positions are those of [C, H, W], got the shape {list(first)}")
        return (first[0], 1, 1)
    if first[0] % record.groups:
        problem("groups", f"must divide the channels, {first[0]}, got {record.groups}")
    return (record.groups, *first[1:])


def _slice(record: Slice, first: Shape, problem: Problem) -> Shape:
    if record.axis >= len(first):
        problem("axis", f"got {record.axis}; allowed: 0 to {len(first) - 1} for the shape {list(first)}")
        return first
    size = first[record.axis]
    if not record.start < record.stop <= size:
        problem("stop", f"must be above start, {record.start}, and at most the size, {size}, got {record.stop}")
    return (*first[: record.axis], record.stop - record.start, *first[record.axis + 1 :])


def _rearrangement(record: Rearrangement, first: Shape, problem: Problem) -> Shape:
    for key, shape in (("view", record.view), ("shape", record.shape)):
        if math.prod(shape) != math.prod(first):
            problem(key, f"must have the {math.prod(first):,} values of the input, got {list(shape)}")
    if sorted(record.order) != list(range(len(record.view))):
        axes = "0" if len(record.view) == 1 else f"0 to {len(record.view) - 1}"
        problem("order", f"must have each axis of the view, {axes}, once, got {list(record.order)}")
    return record.shape
