"""A layer as a list of *folds*, each one filling of an array: which operands enter, for how long, in which order.

Rows of an output-stationary array are neurons, columns are timesteps of output positions (:class:`Placing`). Where not
all inputs enter, :class:`Slots` lists those that do. :func:`output_stationary` makes the folds in the order that all
machines of :mod:`archsim.dataflow.folded_array` have; machines with other dataflows make their own. :class:`Products`
that do not wait for each other are one list of folds, :func:`one_behind_the_other`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.dataflow.base import ScheduledLayers, StreamingConfig
from archsim.dataflow.layer import Layer
from archsim.hardware.compute.systolic_array import SystolicArrayConfig
from archsim.hardware.memory.placement import Tensor

# --- Configuration ----------------------------------------------------------------------------------------------------


class ArrayScheduler(ScheduledLayers):
    """Order of the work."""

    tile_fill: float = Field(gt=0, le=1, description="share of the cache for a tile's inputs and two folds' weights")
    prefetch_folds: int = Field(ge=0, le=64, description="operands of folds fetched ahead of the one in use; 0: demand")


class ArrayConfig(StreamingConfig):
    """A machine around a systolic array."""

    pe: SystolicArrayConfig = Field(description="array and operand buffers")
    scheduler: ArrayScheduler = Field(description="order of the work")


# --- Folds ------------------------------------------------------------------------------------------------------------

INPUT, WEIGHT, PSUM, OUTPUT = range(4)
TENSORS = ("input", "weight", "psum", "output")


def record(*fields: str) -> np.dtype[Any]:
    """A row of a table with these int64 columns."""
    return np.dtype([(field, np.int64) for field in fields])


FOLD = record(
    "steps", "tail", "added", "entry", "reads_psum", "writes_psum", "psums", "sums", "begun", "ended", "row", "row_end",
)  # fmt: skip
"""What happens in a fold.

``steps`` are streamed, the sums leave in ``tail`` cycles behind the last one; ``added`` counts additions. A fold's
inputs begin with slot ``entry`` of the schedule, or its loads with ``cycles[entry]``. ``reads_psum``, ``writes_psum``:
whether its sums are added to those of the fold before, whether they wait for the next one; ``psums`` of a step.
``sums`` are finished, and with them rows ``row`` to ``row_end`` of the output; ``begun`` neurons take their first sum
in this fold, ``ended`` ones their last.
"""

OPERAND = record("first", "bits", "steps", "share", "loads", "new", "epoch")
"""What enters at an edge in a fold: ``bits`` a step, from bit ``first`` of the tensor on.

There are ``steps`` of them, ``share`` for each of ``loads`` of the operand buffer. ``new``: not in the cache yet;
lines of an earlier ``epoch`` are not needed any more.
"""

Table = Any
"""An array of records, one for each fold: ``table[fold].steps`` is a number, ``table.steps`` a column."""


class Edge(NamedTuple):
    """A tensor that enters at an edge, and what of it in every ``fold`` (of OPERAND)."""

    tensor: Tensor
    fold: Table


def table(kind: np.dtype[Any], rows: int, **columns: Any) -> Table:
    """A table of ``rows`` records; columns that are not given are 0."""
    made = np.zeros(rows, kind).view(np.recarray)
    for name, values in columns.items():
        made[name] = values
    return made


# --- Laying a layer out -----------------------------------------------------------------------------------------------


class Placing(NamedTuple):
    """Which timesteps of which positions stand in the columns together.

    A group has ``positions`` output positions, each with ``span`` timesteps (the last block fewer), in ``blocks``.
    """

    positions: int
    span: int
    blocks: int

    def sizes(self, layer: Layer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of every group, timesteps of every block."""
        groups = -(-layer.m // self.positions)
        positions = np.minimum(self.positions, layer.m - self.positions * np.arange(groups))
        return positions, np.minimum(self.span, layer.timesteps - self.span * np.arange(self.blocks))


def place(layer: Layer, columns: int, window: int, side_by_side: bool) -> Placing:
    """Timesteps in windows of ``window``, one window per column, side by side or one block after the other."""
    if not side_by_side:
        return Placing(columns, 1, layer.timesteps)
    windows = -(-layer.timesteps // window)
    return Placing(max(1, columns // windows), min(columns, windows) * window, -(-windows // columns))


class Slots(NamedTuple):
    """Inputs in the order in which they enter, for every block of every group; a slot holds one input or more.

    ``first`` int64 [groups * blocks + 1] counts slots, ``slot`` [slots + 1] counts ``inputs``; ``spikes`` [groups *
    blocks] are those of a block's columns.
    """

    first: NDArray[np.int64]
    slot: NDArray[np.int64]
    inputs: NDArray[np.int64]
    spikes: NDArray[np.int64]


def parts(total: int, size: int) -> NDArray[np.int64]:
    """``total`` cut into parts of ``size``, the last one smaller."""
    return np.minimum(size, total - size * np.arange(-(-total // size)))


def offsets(bits: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """First bit of each of some pieces that begin at whole bytes, one behind the other, and bytes of all."""
    ends = np.cumsum(-(-bits.ravel() // 8) * 8)
    return (ends - -(-bits.ravel() // 8) * 8).reshape(bits.shape), int(ends[-1]) // 8


def nest(*loops: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Indices of nested loops, the last one innermost."""
    return [index.ravel() for index in np.meshgrid(*loops, indexing="ij")]


class Schedule(NamedTuple):
    """A layer as folds. ``stationary``: the north operand is loaded before the fold streams, in as many cycles as rows;
    ``spread``: rows of the output are done evenly over a fold, not at its end.

    ``slots`` if not all inputs enter, ``cycles`` of every load of the operand buffers where they depend on the data.
    ``needed`` are the bytes of the west operand that enter at least once.
    """

    folds: Table
    west: Edge
    north: Edge
    stationary: bool = False
    spread: bool = False
    slots: Slots | None = None
    cycles: NDArray[np.int64] | None = None
    needed: int = 0


def edge(tensor: int, tensor_bytes: int, fold: Table) -> Edge:
    """An edge's operand, not placed in memory yet."""
    return Edge(Tensor(np.zeros(1, np.int64), np.array([tensor_bytes]), 1, tensor), fold)


def loads_of(steps: NDArray[np.int64], buffer_steps: int) -> NDArray[np.int64]:
    """Loads of the operand buffer that are streamed; one even if there is nothing to stream."""
    return np.maximum(1, -(-steps // buffer_steps))


def output_stationary(
    config: ArrayConfig, rows: NDArray[np.int64], west_bits: int, positions: NDArray[np.int64],
    north_bits: NDArray[np.int64], sums: NDArray[np.int64], full: int, tail: NDArray[np.int64],
    entering: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> Schedule:  # fmt: skip
    """Weights enter at the west, inputs at the north; for tile, for some neurons, for group, for block.

    ``rows`` neurons of every fold over N, ``west_bits`` of a step of one of them; ``positions`` of every group;
    ``north_bits`` of a step, and full ``sums`` of a neuron, of every group and block. ``full`` steps and ``tail``
    cycles (by neurons) a fold. ``entering``, where not all steps or additions take place: by group and block the first
    entry, the steps, and the additions of a neuron.
    """
    pe, cache = config.pe, config.memory.cache
    groups, blocks = sums.shape
    west_first, west_bytes = offsets(full * west_bits * rows)
    north_first, north_bytes = offsets(full * north_bits)
    room = int(config.scheduler.tile_fill * cache.usable_bytes) - 2 * full * west_bits * int(rows[0]) // 8
    tile = max(1, room // -(-full * int(north_bits[0].sum()) // 8))
    nests = [
        nest(np.array([first // tile]), np.arange(len(rows)), np.arange(first, min(first + tile, groups)),
             np.arange(blocks))
        for first in range(0, groups, tile)
    ]  # fmt: skip
    t, r, g, b = (np.concatenate(indices) for indices in zip(*nests, strict=True))
    entries, all_steps, added = entering or (np.zeros_like(sums), np.full_like(sums, full), full * sums)
    steps = all_steps[g, b]
    loads = loads_of(steps, pe.buffer_steps)
    first_row, last = (np.cumsum(positions) - positions)[g], (r == len(rows) - 1) & (b == blocks - 1)
    neurons = positions[g] * rows[r]
    done = table(
        FOLD, len(t), steps=steps, tail=tail[r], added=added[g, b] * rows[r], entry=entries[g, b],
        sums=sums[g, b] * rows[r], begun=neurons * (b == 0), ended=neurons * (b == blocks - 1), row=first_row,
        row_end=first_row + np.where(last, positions[g], 0),
    )  # fmt: skip
    epoch = t * len(rows)
    west = table(
        OPERAND, len(t), first=west_first[r], bits=rows[r] * west_bits, steps=full, share=pe.buffer_steps,
        loads=loads, new=(g == t * tile) & (b == 0), epoch=epoch + r,
    )  # fmt: skip
    share = np.where(steps == full, pe.buffer_steps, -(-full // loads))
    north = table(
        OPERAND, len(t), first=north_first[g, b], bits=north_bits[g, b], steps=full, share=share, loads=loads,
        new=r == 0, epoch=epoch + len(rows) - 1,
    )  # fmt: skip
    return Schedule(done, edge(WEIGHT, west_bytes, west), edge(INPUT, north_bytes, north))


def in_columns(
    config: ArrayConfig, layer: Layer, placing: Placing, ticks: int = 1, slots: Slots | None = None
) -> Schedule:
    """Output stationary folds with neurons in the rows and timesteps of positions in the columns."""
    pe = config.pe
    positions, timesteps = placing.sizes(layer)
    columns = positions[:, None] * timesteps
    rows = parts(layer.n, pe.rows)
    tail = np.full(len(rows), pe.skew_cycles + pe.rows * ticks)
    entering = None
    if slots is not None:
        entering = (slots.first[:-1].reshape(columns.shape), np.diff(slots.first).reshape(columns.shape),
                    slots.spikes.reshape(columns.shape))  # fmt: skip
    schedule = output_stationary(config, rows, pe.weight_bits, positions, columns, columns, layer.k, tail, entering)
    entered = layer.k if slots is None else np.unique(slots.inputs).size
    return schedule._replace(slots=slots, needed=entered * layer.n * pe.weight_bits // 8)


# --- Several products -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Products(Layer):
    """Products of one operation that do not wait for each other: those of groups, or of images and heads.

    Their outputs lie one behind the other: ``m`` are the rows of all. What is expected is that of the first.
    """

    products: tuple[Layer, ...]

    @classmethod
    def of(cls, products: tuple[Layer, ...]) -> Layer:
        """The products as one layer; one alone is one."""
        first = products[0]
        if len(products) == 1:
            return first
        given = {name: getattr(first, name) for name in Layer.__dataclass_fields__}
        for name in ("m", "matches", "synaptic_operations"):
            given[name] = sum(getattr(product, name) for product in products)
        return cls(**given, products=products)


def one_behind_the_other(schedules: Sequence[Schedule], rows: Sequence[int]) -> Schedule:
    """The folds of products, whose outputs have ``rows``: what a product needs is in memory behind what the ones before
    need, and its first fold follows their last."""
    first = schedules[0]
    folds, west, north = (
        np.concatenate(tables).view(np.recarray)
        for tables in zip(*((s.folds, s.west.fold, s.north.fold) for s in schedules), strict=True)
    )
    count = [len(s.folds) for s in schedules]

    def begins(sizes: list[int]) -> NDArray[np.int64]:
        """Of every fold, how much of a list the products before its own have, which have ``sizes``."""
        return np.repeat(np.cumsum([0, *sizes[:-1]]), count)

    row = begins(list(rows))
    folds.row += row
    folds.row_end += row
    if first.slots is not None:
        folds.entry += begins([len(s.slots.slot) - 1 for s in schedules if s.slots is not None])
    if first.cycles is not None:
        folds.entry += begins([len(s.cycles) for s in schedules if s.cycles is not None])
    epoch = begins([1 + max(int(s.west.fold.epoch.max()), int(s.north.fold.epoch.max())) for s in schedules])
    edges = []
    for tensor, of_folds in (([s.west.tensor for s in schedules], west), ([s.north.tensor for s in schedules], north)):
        of_folds.first += 8 * begins([int(part.size[0]) for part in tensor])
        of_folds.epoch += epoch
        edges.append(edge(tensor[0].row, sum(int(part.size[0]) for part in tensor), of_folds))
    return first._replace(
        folds=folds,
        west=edges[0],
        north=edges[1],
        slots=None if first.slots is None else _all_slots([s.slots for s in schedules if s.slots is not None]),
        cycles=None if first.cycles is None else np.concatenate([s.cycles for s in schedules if s.cycles is not None]),
        needed=sum(s.needed for s in schedules),
    )


def _all_slots(slots: Sequence[Slots]) -> Slots:
    """Slots of products, one behind the other."""
    slot_begin = np.cumsum([0, *(len(s.slot) - 1 for s in slots)])
    input_begin = np.cumsum([0, *(len(s.inputs) for s in slots)])
    return Slots(
        np.concatenate([[0], *(s.first[1:] + begin for s, begin in zip(slots, slot_begin, strict=False))]),
        np.concatenate([[0], *(s.slot[1:] + begin for s, begin in zip(slots, input_begin, strict=False))]),
        np.concatenate([s.inputs for s in slots]),
        np.concatenate([s.spikes for s in slots]),
    )
