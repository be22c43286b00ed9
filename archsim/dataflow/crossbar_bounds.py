"""What follows from a layer and its mapping alone: what its inputs drive, and what no schedule of a chip can beat."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from archsim.compress import packed_time
from archsim.dataflow.crossbar_agents import PE_SHIFT, SET_SHIFT
from archsim.dataflow.crossbar_chip import Arrays, ChipConfig, DigitalUnit
from archsim.dataflow.crossbar_mapping import Mapping
from archsim.dataflow.layer import Layer
from archsim.dataflow.pipeline import DRAM, Stage


def activity(
    config: ChipConfig, stage: Stage, arrays_are: Arrays, mapping: Mapping, layer: Layer
) -> list[NDArray[np.int64]]:
    """For each part of a layer what is active in every position, packed, in the order of the work.

    Without skipping everything is. With it, an array is active if one of its rows carries a spike, or a bit of those
    that are driven.
    """
    held, driven = config.pe.arrays, _driven_rows(stage, arrays_are.rows, layer)
    # A word holds the spikes of all timesteps, or the bits of an input.
    step_bits = 1 if stage.bits == 1 else arrays_are.driver_bits
    steps = stage.timesteps * arrays_are.planes(stage.bits)
    # [images, positions, arrays, T or bits], or with t before the positions
    spikes = (driven[:, :, None] >> np.arange(steps) * step_bits) & ((1 << step_bits) - 1) > 0
    spikes |= config.scheduler.skip == "none"
    spikes = spikes.reshape(stage.images, -1, mapping.arrays, steps)
    spikes = spikes.transpose((0, 1, 3, 2) if config.inner or stage.bits > 1 else (0, 3, 1, 2))
    spikes = spikes.reshape(-1, mapping.arrays)
    packed = []
    for first in range(0, mapping.arrays, held * config.tile.pes):
        part = spikes[:, first : first + held * config.tile.pes]
        pes = np.logical_or.reduceat(part, np.arange(0, part.shape[1], held), axis=1).sum(1, dtype=np.int64)
        arrays = part.sum(1, dtype=np.int64)
        sets = pes if arrays_are.joined else arrays
        packed.append(arrays | sets << SET_SHIFT | pes << PE_SHIFT)
    return packed


def _driven_rows(stage: Stage, rows: int, layer: Layer) -> NDArray[np.uint16]:
    """[positions of all images, arrays] What drives any row of an array, as a word."""
    if layer.feature_map is not None:
        words = layer.feature_map.words
        padded = np.pad(words, ((0, 0), (0, -words.shape[1] % rows), (0, 0), (0, 0)))
        blocks = padded.reshape(words.shape[0], -1, rows, *words.shape[2:])
        return stage.window.unroll(np.bitwise_or.reduce(blocks, 2))
    dense = packed_time.decode(layer.inputs, layer.k)
    padded = np.pad(dense, ((0, 0), (0, -dense.shape[1] % rows)))
    found: NDArray[np.uint16] = np.bitwise_or.reduce(padded.reshape(len(dense), -1, rows), 2)
    return found


def row_reads(stage: Stage, mapping: Mapping, layer: Layer) -> int:
    """How often a row of an array is driven: in every column block, for every spike or driven part of an input."""
    if isinstance(mapping.unit, DigitalUnit):
        return 0
    dense, bits = packed_time.decode(layer.inputs, layer.k), mapping.unit.driver_bits
    mask = (1 << bits) - 1 if stage.bits > 1 else 1
    steps = range(0, stage.bits, bits) if stage.bits > 1 else range(stage.timesteps)
    return mapping.blocks * sum(int(np.count_nonzero(dense >> step & mask)) for step in steps)


def working_cycles(config: ChipConfig, stage: Stage, mapping: Mapping, driven: int) -> int:
    """Cycles of all cells in which their row is driven and their column read, of ``driven`` rows of arrays.

    Of a layer that a digital unit computes: cycles of all lanes in which they have a value.
    """
    unit = mapping.unit
    if isinstance(unit, DigitalUnit):
        return stage.images * stage.timesteps * stage.out_height * unit.values
    # A row of the layer is driven in every block, each of which has some of the neurons and references of its own.
    cells = stage.outputs * unit.cells + mapping.blocks * unit.references
    return driven // mapping.blocks * cells * config.read_cycles


def position_conversion_cycles(stage: Stage, arrays: Arrays) -> int:
    """Cycles in which a converter converts its columns of a position, one after the other."""
    return min(arrays.shared, min(arrays.outputs, stage.outputs) * arrays.conversions) * arrays.conversion_cycles


def writes(config: ChipConfig, stage: Stage, mapping: Mapping) -> Iterator[tuple[int, int, int]]:
    """Of every tile of a product of matrices: rows to write, one after the other, cycles of one, and the first row."""
    unit = mapping.unit
    if stage.kind != "matmul" or isinstance(unit, DigitalUnit):
        return
    span = config.tile.pes * config.pe.arrays * unit.rows
    for share in mapping.shares:
        first = share.part * span
        yield min(span, stage.channels - first), -(-share.copies // unit.written_at_once) * unit.write_cycles, first


def lower_bound(config: ChipConfig, stage: Stage, mapping: Mapping, layer: Layer) -> int:
    """Cycles that the layer's busiest unit is busy: converting, writing a matrix, or computing digitally."""
    unit = mapping.unit
    if isinstance(unit, DigitalUnit):
        return stage.images * stage.timesteps * stage.out_height * unit.cycles
    busiest = max(np.count_nonzero(part) for part in activity(config, stage, unit, mapping, layer))
    converting = int(busiest) * position_conversion_cycles(stage, unit)
    return max(converting, *(stage.images * steps * cycles for steps, cycles, _ in writes(config, stage, mapping)), 0)


def input_bytes(stage: Stage) -> int:
    """Bytes of the layer's input that come from DRAM."""
    maps = stage.images * stage.timesteps
    return sum(maps * feed.rows * feed.bits for feed in (*stage.feeds, *stage.written) if feed.source == DRAM) // 8
