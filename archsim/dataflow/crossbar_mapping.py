"""Where a layer lies on a chip of crossbar arrays: arrays, PEs, tiles, buffers, memory; what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from archsim.dataflow.crossbar_chip import Arrays, ChipConfig, DigitalUnit
from archsim.dataflow.pipeline import Stage
from archsim.hardware.analog.crossbar_array import groups_together
from archsim.hardware.interconnect.noc import MAX_SIDE


class TileShare(NamedTuple):
    """What one tile holds of a layer: ``copies`` column blocks with ``outputs`` neurons.

    Of these it has all inputs, or ``part`` 0, 1, ... of them; tiles of a ``group`` have the same neurons and add up.
    The blocks are of ``clusters`` clusters from the ``first`` on, ``copies`` of each.
    """

    part: int
    group: int
    outputs: int
    copies: int
    first: int = 0
    clusters: int = 1


class Mapping(NamedTuple):
    """What computes a layer, and how it lies in tiles of its own where that are arrays.

    A *column block* is the neurons that an array's columns hold, ``block_outputs``; it takes ``arrays`` arrays in
    ``pes`` PEs, in ``parts`` tiles if one is too small, or a PE holds ``blocks_per_pe`` of them if the layer is small.

    A layer in groups is cut into ``clusters`` clusters of ``together`` groups each, as many as fit an array side by
    side (:func:`archsim.hardware.analog.crossbar_array.groups_together`). No array is built for two clusters. Every
    other layer is one cluster. ``channels`` and ``outputs`` are those of a cluster, which takes
    ``blocks`` column blocks.
    """

    unit: Arrays | DigitalUnit
    arrays: int = 0
    pes: int = 0
    parts: int = 1
    block_outputs: int = 0
    blocks: int = 0
    blocks_per_pe: int = 1
    shares: tuple[TileShare, ...] = ()
    together: int = 1
    clusters: int = 1
    channels: int = 0
    outputs: int = 0

    @property
    def groups(self) -> int:
        """Groups of tiles whose sums are added: each has its own neurons; a digital unit has its rows for itself."""
        return len(self.shares) // self.parts or 1

    def pes_used(self) -> int:
        """PEs that hold weights."""
        return self.pes * -(-self.blocks * self.clusters // self.blocks_per_pe)


def map_layer(config: ChipConfig, stage: Stage) -> Mapping:
    """Arrays, PEs and tiles of a layer; none of a layer that a digital unit computes."""
    unit = config.unit(stage)
    if isinstance(unit, DigitalUnit):
        return Mapping(unit)
    held, tile_pes = config.pe.arrays, config.tile.pes
    together = groups_together(
        stage.groups, stage.channels // stage.groups, stage.outputs // stage.groups, unit.rows, unit.outputs
    )
    clusters = stage.groups // together
    channels, outputs = stage.channels // clusters, stage.outputs // clusters
    arrays = -(-channels // unit.rows) * stage.window.kernel[0] * stage.window.kernel[1]
    pes = -(-arrays // held)
    blocks = -(-outputs // unit.outputs)
    # Joined currents belong to one column block; arrays with converters of their own may be shared out.
    blocks_per_pe = 1 if unit.joined else max(1, held // arrays)
    parts = -(-pes // tile_pes)
    room = max(1, tile_pes // pes) * blocks_per_pe
    shares: list[TileShare] = []
    if blocks == 1:
        for group, cluster in enumerate(range(0, clusters, room)):
            here = min(room, clusters - cluster)
            shares += [TileShare(part, group, here * outputs, 1, cluster, here) for part in range(parts)]
    for cluster in range(clusters if blocks > 1 else 0):
        for first in range(0, blocks, room):
            here, group = min(room, blocks - first), len(shares) // parts
            neurons = min(outputs, (first + here) * unit.outputs) - first * unit.outputs
            shares += [TileShare(part, group, neurons, here, cluster) for part in range(parts)]
    return Mapping(
        unit, arrays, pes, parts, unit.outputs, blocks, blocks_per_pe, tuple(shares), together, clusters, channels,
        outputs,
    )  # fmt: skip


def fitted(config: ChipConfig, stages: Sequence[Stage]) -> ChipConfig:
    """The chip for these layers, its rows a number. If even the largest mesh is too small, :func:`misfits` says so.

    Which tiles a layer needs does not depend on the mesh.
    """
    rows = config.mesh_rows(max(1, sum(len(map_layer(config, stage).shares) for stage in stages)))
    return config.model_copy(update={"noc": config.noc.model_copy(update={"rows": rows})})


# --- Rows in buffers --------------------------------------------------------------------------------------------------


def written_rows(config: ChipConfig, stage: Stage) -> int:
    """Rows of the matrix to write that a tile's buffer holds: all if they are columns of arrays, or if rows of several
    tiles pass by; else two."""
    if stage.transposed or map_layer(config, stage).parts > 1:
        return max((feed.rows for feed in stage.written), default=0)
    return 2


def buffer_rows(config: ChipConfig, stage: Stage) -> tuple[int, int, int]:
    """Rows of every feed that a tile's buffer holds, how many it must hold for the layer to go on, and their bits.

    A matrix that is written has its rows beside those.
    """
    bits = sum(feed.bits for feed in stage.feeds) * (stage.driven_timesteps if config.inner else 1)
    return max(config.tile.buffer_bits - _written_bits(config, stage), 0) // bits, stage.rows_needed, bits


def _written_bits(config: ChipConfig, stage: Stage) -> int:
    return written_rows(config, stage) * sum(feed.bits for feed in stage.written)


# --- Lines of memory --------------------------------------------------------------------------------------------------


class Places(NamedTuple):
    """Lines of memory of one tile's neurons, ``lines`` (``size`` bytes) for the potentials of a position, ``out_lines``
    (``out_size``) for its outputs and ``sum_lines`` (``sum_size``) for its sums: ``kept`` for all potentials, ``rows``
    for rows of outputs, ``sums`` for all sums that are used again."""

    lines: int
    size: int
    out_lines: int
    out_size: int
    sum_lines: int
    sum_size: int
    kept: int
    rows: int
    sums: int


def places_of(config: ChipConfig, stage: Stage, outputs: int) -> Places:
    """What ``outputs`` neurons of a layer take; rows that must be kept all wait, others while they are sent."""
    line_bytes = config.memory.cache.line_bytes
    size = -(-outputs * config.neuron.membrane_bits * stage.state_words // 8)
    out_size = -(-outputs * (stage.out_bits or config.neuron.sum_bits) // 8)
    sum_size = -(-outputs * config.neuron.sum_bits // 8)
    lines, out_lines, sum_lines = (-(-bytes_ // line_bytes) for bytes_ in (size, out_size, sum_size))
    positions = 0 if config.inner else stage.out_height * stage.out_width
    steps = stage.out_width * (stage.timesteps if config.inner else 1)
    return Places(
        lines, size, out_lines, out_size, sum_lines, sum_size, positions * lines * stage.fires,
        _waiting_rows(config, stage) * steps * out_lines, positions * sum_lines * (stage.shown > 1),
    )  # fmt: skip


class RowPlaces(NamedTuple):
    """Of a digital unit: bytes of an output row, and of the ``state`` of its neurons; lines of a row's state, of that
    of a whole map, and of all rows that wait, of the output and in front of the unit."""

    size: int
    state: int
    state_lines: int
    kept: int
    rows: int


def row_places(config: ChipConfig, stage: Stage) -> RowPlaces:
    """What a layer that a digital unit computes takes."""
    line_bits, steps = config.memory.cache.line_bytes * 8, stage.timesteps if config.inner else 1
    bits = stage.outputs * stage.out_width * steps * (stage.out_bits or config.neuron.sum_bits)
    waiting = -(-bits // line_bits) * _waiting_rows(config, stage)
    ahead = max(0, stage.rows_needed - _room(config, stage))
    waiting += sum(-(-feed.bits * steps // line_bits) for feed in stage.feeds) * ahead
    remembers = stage.fires and not config.inner
    state = stage.outputs * stage.out_width * config.neuron.membrane_bits * stage.state_words * remembers
    lines = -(-state // line_bits)
    return RowPlaces(-(-bits // 8), -(-state // 8), lines, lines * stage.out_height, waiting)


def _room(config: ChipConfig, stage: Stage) -> int:
    unit = config.unit(stage)
    return unit.room if isinstance(unit, DigitalUnit) else 0


def _waiting_rows(config: ChipConfig, stage: Stage) -> int:
    return stage.out_height * stage.kept if stage.kept else 1 + config.neuron.row_buffer


def memory_lines(config: ChipConfig, stage: Stage, mapping: Mapping) -> int:
    """Lines of the modules' memory that a layer takes."""
    if isinstance(mapping.unit, DigitalUnit):
        row = row_places(config, stage)
        return row.kept + row.rows
    places = [places_of(config, stage, share.outputs) for share in mapping.shares if share.part == 0]
    return sum(place.kept + place.rows + place.sums for place in places)


def _memory_bytes(config: ChipConfig, stages: Sequence[Stage], mappings: Sequence[Mapping]) -> int:
    lines = sum(memory_lines(config, *pair) for pair in zip(stages, mappings, strict=True))
    return lines * config.memory.cache.line_bytes


def with_sums(config: ChipConfig, stages: Sequence[Stage]) -> list[Stage]:
    """The layers, which keep the sums of inputs that do not change, if the modules' memory has room for them."""
    size = _memory_bytes(config, stages, [map_layer(config, stage) for stage in stages])
    return [replace(stage, keeps_sums=size <= config.memory.cache.usable_bytes) for stage in stages]


# --- What does not fit ------------------------------------------------------------------------------------------------


def misfits(config: ChipConfig, stages: Sequence[Stage]) -> list[str]:
    """Why the chip cannot hold these layers, one line each."""
    mappings = [map_layer(config, stage) for stage in stages]
    return [
        *_missing_tiles(config, stages, mappings),
        *_small_buffers(config, stages, mappings),
        *_small_memory(config, stages, mappings),
    ]


def _missing_tiles(config: ChipConfig, stages: Sequence[Stage], mappings: Sequence[Mapping]) -> Iterator[str]:
    tiles = [len(mapping.shares) for mapping in mappings]
    if sum(tiles) > config.tiles:
        listed = ", ".join(f"{stage.name} {count}" for stage, count in zip(stages, tiles, strict=True))
        columns = -(-(sum(tiles) + config.neuron.modules) // MAX_SIDE)
        settings = ["noc.rows=fit", *([f"noc.columns={columns}"] if columns > config.noc.columns else [])]
        builds = f"; --set {' --set '.join(settings)} builds a chip that can" if columns <= MAX_SIDE else ""
        yield (
            f"noc.rows, noc.columns: the chip has {config.tiles} tiles, the layers need {sum(tiles)} of their own "
            f"({listed}){builds}"
        )


def _small_buffers(config: ChipConfig, stages: Sequence[Stage], mappings: Sequence[Mapping]) -> Iterator[str]:
    small = []
    for stage, mapping in zip(stages, mappings, strict=True):
        if isinstance(mapping.unit, DigitalUnit):
            continue
        held, needed, bits = buffer_rows(config, stage)
        if held < needed:
            small.append((needed * bits + _written_bits(config, stage), held, needed, stage.name))
    if small:
        least, held, needed, name = max(small)
        more = f", and those of {len(small) - 1} more layers are too large" if len(small) > 1 else ""
        yield (
            f"tile.buffer_bits: {config.tile.buffer_bits} bits hold {held} rows of the input of {name}, it "
            f"needs {needed}{more}; --set tile.buffer_bits={least} builds a chip that can"
        )


def _small_memory(config: ChipConfig, stages: Sequence[Stage], mappings: Sequence[Mapping]) -> Iterator[str]:
    size, cache = _memory_bytes(config, stages, mappings), config.memory.cache
    if size > cache.usable_bytes:
        yield (
            f"memory.cache.size_kib: potentials and rows of outputs need {size} bytes, the neuron modules have "
            f"{cache.usable_bytes}; --set memory.cache.size_kib={1 << (size - 1 >> 10).bit_length()} builds a chip "
            "that can"
        )
