"""Which spikes make the sums of an operation, through which weights: what lies between two layers of neurons, as one.

Spikes are all that travels between cores. Between a neuron and those that it reaches there may be more than one layer's
weights: branches that meet as sums or as spikes (residual connections), average pools, shortcuts. All of these are
linear, so the current of a neuron is

    current  =  sum over projections of [weights * spikes]  +  what does not change in time

and a *projection* is a convolution whose weights are the product of those on the way. Two convolutions a, then b are
one with

    kernel   (kernel_a - 1) dilation_a + 1 + (kernel_b - 1) dilation_b stride_a
    stride   stride_a stride_b
    padding  padding_a + padding_b stride_a

where b sees no padding, or a's windows neither overlap, nor are padded, nor leave out inputs. A tensor that does not
change in time, as what a direct encoder makes of a still image, is a bias of each neuron.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.dataflow.layer import WEIGHTED
from archsim.dataflow.pipeline import is_still
from archsim.trace import Operation, Trace
from archsim.trace.neurons import FIRST_SPIKE
from archsim.trace.window import Window

SPIKES = ("spike", "signed_spike", "spike_time")
"""Kinds of tensors that travel, event by event."""


class Projection(NamedTuple):
    """Spikes of the tensor ``source``, seen as a map of ``shape`` [C, H, W] through a ``window``, in ``groups``.

    ``weight()`` int64 [``n``, C / groups, kernel rows, kernel columns]. ``way``: names of the operations between the
    spikes and the operation whose sums they make. ``plain``: spikes that are added as they are.
    """

    source: str
    shape: tuple[int, int, int]
    window: Window
    groups: int
    n: int
    weight: Callable[[], NDArray[np.int64]]
    way: tuple[str, ...] = ()
    plain: bool = False


class NoSpikesError(Exception):
    """Something else than spikes makes the sums; the message is the name of the tensor that holds it."""


def projections_of(trace: Trace, operation: Operation) -> list[Projection]:
    """The projections that make the sums of ``operation``. NoSpikesError if others do, or none."""
    writers = {other.output: other for other in trace.operations}
    found = _made(trace, writers, operation)
    if not found:
        raise NoSpikesError(operation.inputs[0])
    return found


def _made(trace: Trace, writers: Mapping[str, Operation], operation: Operation) -> list[Projection]:
    """The projections that make the sums of ``operation``; those of a sum that is still are none."""
    if operation.op not in (*WEIGHTED, "add") and not (operation.op == "pool" and operation.reduction == "sum"):
        raise NoSpikesError(operation.output)
    parts = [_read(trace, writers, name) for name in operation.inputs]
    if operation.op == "add":
        return [part for found in parts for part in found]
    return [_through(part, operation) for part in parts[0]]


def _read(trace: Trace, writers: Mapping[str, Operation], name: str) -> list[Projection]:
    """The projections whose sum the tensor ``name`` is."""
    if trace.kind(name) in SPIKES:
        channels, height, width = (*trace.meta.tensors[name].shape, 1, 1)[:3]
        shape = channels, height, width
        return [Projection(name, shape, Window(), channels, channels, lambda: _ones(channels, (1, 1)), plain=True)]
    if is_still(trace, name):
        return []
    writer = writers.get(name)
    if writer is None or writer.requantiser is not None or writer.neuron is not None:
        raise NoSpikesError(name)
    return [part._replace(way=(*part.way, writer.name)) for part in _made(trace, writers, writer)]


def _ones(channels: int, kernel: tuple[int, int]) -> NDArray[np.int64]:
    return np.ones((channels, 1, *kernel), np.int64)


def _through(part: Projection, operation: Operation) -> Projection:
    """A projection, then ``operation``."""
    window, groups, shape = operation.window, operation.groups, part.shape
    if operation.op == "pool":
        groups = operation.n
    elif operation.op == "linear" and part.plain:
        shape = math.prod(shape), 1, 1
    elif operation.op == "linear":
        window = Window(part.window.output(shape[1:]))

    def weight() -> NDArray[np.int64]:
        if operation.op == "pool":
            return _ones(operation.n, operation.kernel)
        assert operation.weight is not None, "convolutions and linear layers have weights"
        return operation.weight.astype(np.int64).reshape(operation.n, -1, *window.kernel)

    own = Projection(part.source, shape, window, groups, operation.n, weight, part.way)
    return own if part.plain else _composed(part, own, operation)


def _composed(first: Projection, second: Projection, operation: Operation) -> Projection:
    """``first``, then ``second``, which sees its sums; NoSpikesError where no window is both."""
    seen, window, sizes = first.window, second.window, first.shape[1:]
    between = seen.output(sizes)
    whole = not any(seen.padding) and all(
        seen.span[axis] <= seen.stride[axis] and between[axis] * seen.stride[axis] >= sizes[axis] for axis in (0, 1)
    )
    stretched = window.input_dilation != (1, 1) or seen.input_dilation != (1, 1)
    if stretched or (any(window.padding) and not whole):
        raise NoSpikesError(operation.inputs[0])
    depthwise = first.groups == second.groups == first.n == second.n
    step = [window.dilation[axis] * seen.stride[axis] for axis in (0, 1)]
    rows, columns = (seen.span[axis] + (window.kernel[axis] - 1) * step[axis] for axis in (0, 1))
    (top, bottom, left, right), (down, across) = window.padding, seen.stride
    before, behind, west, east = seen.padding
    padding = before + top * down, behind + bottom * down, west + left * across, east + right * across
    both = Window((rows, columns), (down * window.stride[0], across * window.stride[1]), padding)

    def weight() -> NDArray[np.int64]:
        inner, outer = first.weight(), second.weight()
        if not depthwise:
            inner, outer = _ungrouped(inner, first.groups), _ungrouped(outer, second.groups)
        made = np.zeros((len(outer), inner.shape[1], rows, columns), np.int64)
        for i, j in np.ndindex(*window.kernel):
            tap = outer[:, :, i, j]
            part = tap[..., None, None] * inner if depthwise else np.tensordot(tap, inner, 1)
            y, x = i * step[0], j * step[1]
            made[:, :, y : y + seen.span[0] : seen.dilation[0], x : x + seen.span[1] : seen.dilation[1]] += part
        return made

    return first._replace(window=both, groups=second.groups if depthwise else 1, n=second.n, weight=weight)


def _ungrouped(weight: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    """The weights of a convolution in groups as those of one without."""
    n, columns, *kernel = weight.shape
    found = np.zeros((groups, n // groups, groups, columns, *kernel), np.int64)
    for group, part in enumerate(weight.reshape(groups, -1, columns, *kernel)):
        found[group, :, group] = part
    return found.reshape(n, groups * columns, *kernel)


def on_the_way(trace: Trace, operations: Sequence[Operation]) -> set[str]:
    """Names of the operations whose sums are a part of those of ``operations``."""
    summed = [operation for operation in operations if operation.op != "pool" or operation.reduction == "sum"]
    return {name for operation in summed for part in projections_of(trace, operation) for name in part.way}


def made_of_spikes(trace: Trace, operation: Operation, *, signed: bool) -> bool:
    """Whether cores can run ``operation``: what has neurons, or ends in sums of weights, and whose sums are made of
    nothing but spikes, also with a sign if messages are ``signed``; and maxima over spikes.

    Times of first spikes make a layer's neurons fire, and no sums.
    """
    if operation.op == "pool" and operation.reduction == "max":
        return trace.kind(operation.inputs[0]) in ("spike", "spike_time")
    if operation.requantiser is not None or (operation.neuron is None and operation.op not in WEIGHTED):
        return False
    try:
        parts = projections_of(trace, operation)
    except NoSpikesError:
        return False
    timed = fires_first(operation) and operation.bias is None and not any(part.way for part in parts)
    carried = {"spike": True, "signed_spike": signed, "spike_time": timed}
    return all(carried[trace.kind(part.source)] for part in parts)


def fires_first(operation: Operation) -> bool:
    """Whether it is a layer of first-spike neurons, which the trace's closed form computes."""
    return operation.neuron is not None and operation.neuron.kind == FIRST_SPIKE


def orders(trace: Trace) -> set[str]:
    """Names of the operations that put spikes in another order."""
    moved = (one for one in trace.operations if one.op == "rearrange")
    return {one.name for one in moved if trace.kind(one.inputs[0]) in ("spike", "spike_time")}
