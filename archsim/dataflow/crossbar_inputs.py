"""What drives the rows of crossbar arrays: the operands of a layer, map by map, and what they make active.

A *map* is what a layer reads of one image at one timestep, [C, H, W]; a linear layer has a map of one position. A value
that is no spike is driven in parts of ``driver_bits`` bits, in two's complement where it may be below zero. Of a
product of two matrices the first one drives: its channels are those of all heads, or, transposed, its positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress import packed_time
from archsim.dataflow.crossbar_agents import PE_SHIFT, SET_SHIFT
from archsim.dataflow.crossbar_chip import Arrays, ChipConfig
from archsim.dataflow.crossbar_mapping import Mapping, TileShare
from archsim.dataflow.layer import Layer
from archsim.dataflow.pieces import matrices
from archsim.dataflow.pipeline import ON_ARRAYS, Stage, is_still
from archsim.trace import Operation, Trace
from archsim.trace.window import Window
from archsim.trace.work import work_of

Maps = Callable[[], Iterator[NDArray[Any]]]
"""Yields what is read at each timestep, bool or integers [I, C, H, W]."""


DECODED = 16
"""Timesteps that are unpacked at once."""


@dataclass(frozen=True)
class ChipLayer(Layer):
    """A layer as a chip of crossbar arrays sees it: ``maps`` drive its rows, and ``driven`` values of all windows and
    timesteps are not zero; each meets the outputs of one of ``groups``. None and 0 where no arrays compute it."""

    maps: Maps | None = None
    driven: int = 0
    groups: int = 1


def chip_layer(trace: Trace, operation: Operation, stage: Stage) -> ChipLayer:
    """The layer that ``operation`` is as a ``stage`` of a pipeline."""
    maps = maps_of(trace, operation, stage.driven_timesteps) if operation.op in ON_ARRAYS else None
    work = work_of(trace, operation)
    window = operation.window if operation.op == "conv2d" else Window()
    return ChipLayer(
        name=operation.name, op=operation.op, m=operation.m, n=operation.n, k=operation.k, timesteps=trace.timesteps,
        operand="spike" if trace.kind(operation.inputs[0]) == "spike" else "int", word_bits=trace.timesteps,
        rows=None, columns=None, bias=np.zeros(operation.n, np.int64), neuron=operation.neuron, expected=None,
        matches=work.matches, synaptic_operations=work.synaptic_operations, requantiser=operation.requantiser,
        maps=maps, driven=0 if maps is None else _used(window, (values != 0 for values in maps())),
        groups=stage.groups,
    )  # fmt: skip


def alone_on_chip(layer: Layer) -> ChipLayer:
    """A layer that has the chip to itself."""
    window = Window() if layer.feature_map is None else layer.feature_map.window
    if layer.feature_map is None:
        words = packed_time.decode(layer.inputs, layer.k)[:, :, None, None]
    else:
        words = layer.feature_map.words

    def maps() -> Iterator[NDArray[Any]]:
        if layer.operand == "int":
            yield words
            return
        for t in range(layer.timesteps):
            yield (words >> np.uint16(t) & np.uint16(1)).astype(np.bool_)

    given = {field.name: getattr(layer, field.name) for field in fields(Layer)}
    return ChipLayer(**given, maps=maps, driven=_used(window, (values != 0 for values in maps())))


def maps_of(trace: Trace, operation: Operation, timesteps: int) -> Maps:
    """What drives the arrays of ``operation`` at so many ``timesteps``."""

    def maps() -> Iterator[NDArray[Any]]:
        stream, still = trace.stream(operation.inputs[0]), is_still(trace, operation.inputs[0])
        if still:
            yield from np.repeat(as_maps(operation, stream.operand()[np.newaxis]), timesteps, axis=0)
            return
        for first in range(0, timesteps, DECODED):
            end = min(timesteps, first + DECODED)
            yield from as_maps(operation, stream.operand(first, end))

    return maps


def as_maps(operation: Operation, values: NDArray[Any]) -> NDArray[Any]:
    """Operands [T, I, ...] as the maps that drive arrays, [T, I, C, H, W]."""
    times = values.shape[:2]
    if operation.op == "linear" or values.ndim == 3:
        return values.reshape(*times, -1, 1, 1)
    if not operation.transpose_first:
        return values
    channels = values.shape[2] // operation.heads
    return matrices(values, operation.heads).reshape(*times, -1, channels, 1)


def _used(window: Window, used: Iterator[NDArray[np.bool_]]) -> int:
    """How often windows see what is ``used``, [I, C, H, W] at each timestep."""
    total = 0
    for values in used:
        rows, columns = window.taps((values.shape[2], values.shape[3]))
        by_row, by_column = (
            np.bincount(taps[taps >= 0], minlength=size)
            for taps, size in zip((rows, columns), values.shape[2:], strict=True)
        )
        total += int(by_row @ np.count_nonzero(values, axis=(0, 1)) @ by_column)
    return total


class Driven(NamedTuple):
    """How many ``rows`` of a cluster's arrays are driven, a row for every part of a value; and for every tile what is
    active in each of its positions, packed, in the order of the work (``plans`` int64 [positions])."""

    rows: int
    plans: tuple[NDArray[np.int64], ...]


def driven(config: ChipConfig, stage: Stage, arrays: Arrays, mapping: Mapping, maps: Maps) -> Driven:
    """What the ``maps`` make active.

    Without skipping everything is. With it, an array is active if one of its rows carries a spike, or a bit of those
    that are driven.
    """
    planes, top = arrays.planes(stage.bits), (1 << (arrays.driver_bits if stage.bits > 1 else 1)) - 1
    shifts = range(0, planes * arrays.driver_bits, arrays.driver_bits)

    def parts(values: NDArray[Any]) -> list[NDArray[np.bool_]]:
        """What is driven of [I, C, H, W], part after part."""
        if values.dtype == np.bool_:
            return [values]
        return [(values.astype(np.int64) >> shift & top) > 0 for shift in shifts]

    rows, found = 0, []
    for values in maps():
        driving = parts(values)
        rows += _used(stage.window, iter(driving))
        if config.scheduler.skip != "none":
            found.append(np.stack([_active(config, stage, arrays, mapping, part) for part in driving], -1))
    if not found:
        count = stage.images * stage.driven_timesteps * stage.out_height * stage.out_width * planes
        every = _packed(config, arrays, np.ones((mapping.arrays, 1), np.bool_))
        constants = [np.full(count, int(every[share.part, 0]) * share.clusters) for share in _kinds(mapping)]
        return Driven(rows, _by_share(mapping, constants))
    # [T, clusters, parts, I, positions, planes]
    active = np.stack(found)
    order = (1, 2, 3, 4, 0, 5) if config.inner else (1, 2, 3, 0, 4, 5)
    active = active.transpose(order).reshape(*active.shape[1:3], -1)
    plans = [active[share.first : share.first + share.clusters, share.part].sum(0) for share in _kinds(mapping)]
    return Driven(rows, _by_share(mapping, plans))


def _kinds(mapping: Mapping) -> list[TileShare]:
    """A share of each kind: those of the same part of the same clusters do the same."""
    return list({(share.first, share.clusters, share.part): share for share in mapping.shares}.values())


def _by_share(mapping: Mapping, plans: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], ...]:
    known = {
        (share.first, share.clusters, share.part): plan for share, plan in zip(_kinds(mapping), plans, strict=True)
    }
    return tuple(known[share.first, share.clusters, share.part] for share in mapping.shares)


def _active(
    config: ChipConfig, stage: Stage, arrays: Arrays, mapping: Mapping, driving: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """For each cluster and part what is active in every position, packed, int64 [clusters, parts, I, positions]."""
    images, _, height, width = driving.shape
    clusters = driving.reshape(images, mapping.clusters, mapping.channels, height, width)
    padded = np.pad(clusters, ((0, 0), (0, 0), (0, -mapping.channels % arrays.rows), (0, 0), (0, 0)))
    blocks = np.logical_or.reduce(padded.reshape(images, -1, arrays.rows, height, width), 2)
    seen = stage.window.unroll(blocks).reshape(images, -1, mapping.clusters, mapping.arrays)
    packed = _packed(config, arrays, np.ascontiguousarray(np.moveaxis(seen, -1, 0)))
    return packed.transpose(3, 0, 1, 2)


def _packed(config: ChipConfig, arrays: Arrays, active: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Active arrays, sets of converters and PEs of each part, of the ``active`` arrays [arrays, ...]; [parts, ...]."""
    held, found = config.pe.arrays, []
    for first in range(0, len(active), held * config.tile.pes):
        part = active[first : first + held * config.tile.pes]
        pes = np.logical_or.reduceat(part, np.arange(0, len(part), held), axis=0).sum(0, dtype=np.int64)
        count = part.sum(0, dtype=np.int64)
        found.append(count | (pes if arrays.joined else count) << SET_SHIFT | pes << PE_SHIFT)
    return np.stack(found)
