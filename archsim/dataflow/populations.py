"""A network as populations of neurons and who of them reaches whom: what a machine of cores and events must know of it.

All neurons of a network have a number. A *population* is the neurons of a layer, or an input of the network, whose
spikes come from outside. A maximum over spikes is a layer too: its neurons fire when one of their inputs does.
Concatenations, slices, rearrangements and delays only say who is read. A layer works a *step* later than what it reads,
so spikes of a population of depth d and timestep t are sent in step d + t, those of the next image behind those of the
last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress import bitmask, packed_time
from archsim.dataflow.base import ADDRESSED
from archsim.dataflow.layer import Layer
from archsim.dataflow.projections import projections_of
from archsim.trace import Operation, Trace
from archsim.trace.window import Window

Format = Literal["dense", "sparse", "convolutional"]
"""How synapses are stored."""


class Synapses(NamedTuple):
    """What a layer reads: neurons ``sources`` int64 [C, H, W] through a ``window``, in ``groups``.

    ``present`` bool [N, C / groups, kernel rows, kernel columns]: weights that are not zero. ``kernel``: whether
    positions share weights, as in a convolution. ``bits`` of the widest weight, sign included.
    """

    sources: NDArray[np.int64]
    window: Window
    groups: int
    present: NDArray[np.bool_]
    kernel: bool
    bits: int = 2


class Population(NamedTuple):
    """Neurons ``first`` to ``first + size - 1``, in the order of ``shape`` [N, rows, columns].

    ``spikes`` bool [sequence, size], of either sign: image after image, timestep after timestep; None where nobody
    knows them. ``synapses``, those of each projection that the neurons have, is empty of an input.
    """

    name: str
    first: int
    shape: tuple[int, int, int]
    depth: int
    spikes: NDArray[np.bool_] | None
    synapses: tuple[Synapses, ...]

    @property
    def size(self) -> int:
        """Neurons."""
        return math.prod(self.shape)


def populations_of(
    trace: Trace, operations: Sequence[Operation], tensors: Mapping[str, NDArray[Any]] | None = None
) -> list[Population]:
    """The layers ``operations`` of ``trace``, in its order, behind the inputs that they read.

    They fire as the trace says, or for other images as ``tensors`` say, which hold [T, I, ...] of each.
    """
    return _Network(trace, operations, tensors).populations()


def alone(layer: Layer) -> list[Population]:
    """A layer by itself, and its input."""
    if layer.feature_map is None:
        words, window = packed_time.decode(layer.inputs, layer.k)[:, :, None, None], Window()
    else:
        words, window = layer.feature_map.words, layer.feature_map.window
    shape = words.shape[1:]
    fires = np.stack([words >> t & 1 for t in range(layer.timesteps)], 1).astype(np.bool_)
    source = Population(f"input of {layer.name}", 0, shape, 0, fires.reshape(-1, math.prod(shape)), ())
    weights = bitmask.decode(layer.weights, layer.k).reshape(layer.n, -1, *window.kernel) != 0
    ids = np.arange(source.size).reshape(shape)
    synapses = Synapses(ids, window, shape[0] // weights.shape[1], weights, layer.feature_map is not None)
    spikes, expected = None, layer.expected
    if expected is not None and not layer.writes_sums:
        places = math.prod(window.output(shape[1:]))
        fired = expected.reshape(-1, places, layer.n).transpose(0, 2, 1)[..., None] >> np.arange(layer.timesteps) & 1
        spikes = np.moveaxis(fired, -1, 1).reshape(-1, layer.n * places).astype(np.bool_)
    out = (layer.n, *window.output(shape[1:]))
    return [source, Population(layer.name, source.size, out, 1, spikes, (synapses,))]


class _Network:
    def __init__(
        self, trace: Trace, operations: Sequence[Operation], tensors: Mapping[str, NDArray[Any]] | None
    ) -> None:
        self.trace, self.operations, self.tensors = trace, operations, tensors
        self.writers = {operation.output: operation for operation in trace.operations}
        self.ids: dict[str, NDArray[np.int64]] = {}
        self.inputs: list[Population] = []
        self.first = 0
        for operation in operations:
            self.ids[operation.output] = self._numbered(as_map(operation.output_shape))

    def _numbered(self, shape: tuple[int, int, int]) -> NDArray[np.int64]:
        self.first += math.prod(shape)
        return np.arange(self.first - math.prod(shape), self.first).reshape(shape)

    def populations(self) -> list[Population]:
        found: list[Population] = []
        for operation in self.operations:
            synapses = self._synapses(operation)
            read = np.unique(np.concatenate([one.sources.ravel() for one in synapses]))
            depth = 1 + max((one.depth for one in found if _meets(one, read)), default=0)
            ids = self.ids[operation.output]
            spikes = self._spikes(operation.output)
            found.append(Population(operation.name, int(ids.flat[0]), ids.shape, depth, spikes, synapses))
        return [*self.inputs, *found]

    def _synapses(self, operation: Operation) -> tuple[Synapses, ...]:
        if operation.op == "pool" and operation.reduction == "max":
            present = np.ones((operation.n, 1, *operation.kernel), np.bool_)
            return (Synapses(self._read(operation.inputs[0]), operation.window, operation.n, present, True),)
        found = []
        for one in projections_of(self.trace, operation):
            weight, kernel = one.weight(), operation.op != "linear" and math.prod(one.shape[1:]) > 1
            bits = 1 + int(max(weight.max(), -1 - weight.min())).bit_length()
            sources = self._read(one.source).reshape(one.shape)
            found.append(Synapses(sources, one.window, one.groups, weight != 0, kernel, bits))
        return tuple(found)

    def _read(self, name: str) -> NDArray[np.int64]:
        """Whose spikes the tensor ``name`` is, in its shape."""
        if name not in self.ids:
            writer = self.writers.get(name)
            if writer is None or writer.op not in (*ADDRESSED, "rearrange"):
                shape = as_map(self.trace.meta.tensors[name].shape)
                self.ids[name] = self._numbered(shape)
                spikes = self._spikes(name)
                self.inputs.append(Population(name, int(self.ids[name].flat[0]), shape, 0, spikes, ()))
            elif writer.op == "slice":
                axes = [slice(None)] * 3
                axes[int(writer.axis)] = slice(writer.start, writer.stop)
                self.ids[name] = self._read(writer.inputs[0])[tuple(axes)]
            elif writer.op == "rearrange":
                read = self._read(writer.inputs[0]).reshape(writer.view).transpose(writer.order)
                self.ids[name] = read.reshape(as_map(writer.shape))
            else:
                self.ids[name] = np.concatenate([self._read(read) for read in writer.inputs])
        return self.ids[name]

    def _spikes(self, name: str) -> NDArray[np.bool_] | None:
        trace = self.trace
        if not trace.stored(name) or trace.kind(name) == "int":
            return None
        values = trace.operand(name) if self.tensors is None else self.tensors[name]
        if values.dtype != np.bool_:
            values = values != 0
        return np.swapaxes(values, 0, 1).reshape(values.shape[1] * trace.timesteps, -1)


def _meets(population: Population, neurons: NDArray[np.int64]) -> bool:
    """Whether some of ``neurons`` are in a population."""
    return bool(np.any((neurons >= population.first) & (neurons < population.first + population.size)))


def as_map(shape: Sequence[int]) -> tuple[int, int, int]:
    """A shape [C, H, W] or [F] as a map."""
    channels, height, width = (*shape, 1, 1)[:3]
    return channels, height, width


# --- Synapses by core -------------------------------------------------------------------------------------------------


def reached(population: Population, synapses: Synapses, ends: Sequence[int], kind: Format) -> NDArray[np.int64]:
    """Of the ``synapses`` of a population, those that every source has on each part: int64 [parts, C, H, W].

    Part p are the neurons from ``ends[p]`` on up to ``ends[p + 1]``. A ``sparse`` format stores no zeros; of all
    others, weights that are zero count.
    """
    found = np.zeros((len(ends) - 1, *synapses.sources.shape))
    rows, columns = _taps(synapses)
    places, channels = math.prod(population.shape[1:]), population.shape[0] // synapses.groups
    for part, (first, end) in enumerate(pairwise(ends)):
        parts = found[part].reshape(synapses.groups, -1, *synapses.sources.shape[1:])
        low, high = first // places, -(-end // places)  # channels that the part has neurons of
        inside = np.zeros((high - low) * places)
        inside[first - low * places : end - low * places] = 1
        for group in range(low // channels, (high - 1) // channels + 1):
            own = slice(max(low, group * channels), min(high, (group + 1) * channels))
            held = inside.reshape(-1, *population.shape[1:])[own.start - low : own.stop - low]
            if kind != "sparse":
                parts[group] = rows.sum(0).T @ held.sum(0) @ columns.sum(0)
                continue
            for i, j in np.ndindex(*synapses.window.kernel):
                seen = np.tensordot(synapses.present[own, :, i, j].astype(float), held, (0, 0))
                parts[group] += rows[i].T @ seen @ columns[j]
    return found.astype(np.int64)


def stored(population: Population, ends: Sequence[int], kind: Format, weight_bits: int, index_bits: int) -> list[int]:
    """Bits of the synapses of each part of a population.

    A synapse of the ``dense`` format is a weight, zero or not, one of the ``sparse`` format a weight that is not zero
    and an index. The ``convolutional`` format has the kernels of the channels that a part has neurons of. A weight that
    is the product of several may be wider than ``weight_bits``.
    """
    found, places = np.zeros(len(ends) - 1, np.int64), math.prod(population.shape[1:])
    for synapses in population.synapses:
        width = max(weight_bits, synapses.bits) + (index_bits if kind == "sparse" else 0)
        if kind == "convolutional":
            channels = np.array([-(-end // places) - first // places for first, end in pairwise(ends)])
            found += channels * synapses.present[0].size * width
        else:
            found += reached(population, synapses, ends, kind).sum((1, 2, 3)) * width
    return [int(bits) for bits in found]


def inputs_of(population: Population, first: int, end: int, kind: Format) -> int:
    """How many neurons those from ``first`` on up to ``end`` of a population have synapses from."""
    seen = np.zeros(1 + max(int(synapses.sources.max()) for synapses in population.synapses), np.bool_)
    for synapses in population.synapses:
        seen[synapses.sources[reached(population, synapses, (first, end), kind)[0] > 0]] = True
    return int(seen.sum())


def received(population: Population, synapses: Synapses, sent: NDArray[np.int64], kind: Format) -> NDArray[np.float64]:
    """Synaptic operations at ``synapses`` of every neuron of a population, [size], by how often each of their sources
    spikes: ``sent`` [C, H, W]; as :func:`reached` counts them."""
    rows, columns = _taps(synapses)
    sources = sent.reshape(synapses.groups, -1, *sent.shape[1:]).astype(float)
    found = np.zeros((synapses.groups, population.shape[0] // synapses.groups, *population.shape[1:]))
    present = synapses.present.reshape(*found.shape[:2], *synapses.present.shape[1:])
    for i, j in np.ndindex(*synapses.window.kernel):
        seen = rows[i] @ sources @ columns[j].T
        if kind == "sparse":
            found += np.einsum("gnc,gcyx->gnyx", present[..., i, j].astype(float), seen)
        else:
            found += seen.sum(1, keepdims=True)
    return found.reshape(-1)


def _taps(synapses: Synapses) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """1 where an output row sees an input row through a row of the kernel, [kernel rows, output rows, rows]; and the
    same of columns."""
    sizes: Any = synapses.sources.shape[1:]
    taps = synapses.window.taps(sizes)
    rows, columns = (
        (tap.T[:, :, None] == np.arange(size)).astype(float) for tap, size in zip(taps, sizes, strict=True)
    )
    return rows, columns
