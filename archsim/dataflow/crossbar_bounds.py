"""What follows from a layer and its mapping alone: what its inputs drive, and what no schedule of a chip can beat."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archsim.dataflow.crossbar_chip import Arrays, ChipConfig, DigitalUnit
from archsim.dataflow.crossbar_inputs import Driven
from archsim.dataflow.crossbar_mapping import Mapping
from archsim.dataflow.pipeline import DRAM, Stage


def weights(stage: Stage) -> int:
    """Weights of a layer, zero or not."""
    rows, columns = stage.window.kernel
    return stage.channels // stage.groups * rows * columns * stage.outputs


def row_reads(mapping: Mapping, driven: Driven | None) -> int:
    """How often a row of an array is driven: in every column block, for every spike or driven part of an input."""
    return 0 if driven is None else mapping.blocks * driven.rows


def working_cycles(config: ChipConfig, stage: Stage, mapping: Mapping, driven: Driven | None) -> int:
    """Cycles of all cells in which their row is driven and their column read.

    Of a layer that a digital unit computes: cycles of all lanes in which they have a value.
    """
    unit = mapping.unit
    if isinstance(unit, DigitalUnit):
        return stage.images * stage.timesteps * stage.out_height * unit.values
    assert driven is not None, "something drives arrays"
    # A row of the layer is driven in every block, each of which has some of the neurons and references of its own.
    cells = mapping.outputs * unit.cells + mapping.blocks * unit.references
    return driven.rows * cells * config.read_cycles


def position_cycles(mapping: Mapping, arrays: Arrays) -> int:
    """Cycles in which a converter converts its columns of a position, one after the other."""
    return min(arrays.shared, min(arrays.outputs, mapping.outputs) * arrays.conversions) * arrays.conversion_cycles


def writes(config: ChipConfig, stage: Stage, mapping: Mapping) -> Iterator[tuple[int, int, int]]:
    """Of every tile of a product of matrices: rows to write, one after the other, cycles of one, and the first row.

    Of the heads that share an array, the rows of a position follow each other.
    """
    unit = mapping.unit
    if stage.kind != "matmul" or isinstance(unit, DigitalUnit):
        return
    span = config.tile.pes * config.pe.arrays * unit.rows
    for share in mapping.shares:
        first, blocks = share.part * span, share.copies * share.clusters
        yield min(span, mapping.channels - first), -(-blocks // unit.written_at_once) * unit.write_cycles, first


def lower_bound(config: ChipConfig, stage: Stage, mapping: Mapping, driven: Driven | None) -> int:
    """Cycles that the layer's busiest unit is busy: converting, writing a matrix, or computing digitally."""
    unit, maps = mapping.unit, stage.images * stage.timesteps
    if isinstance(unit, DigitalUnit):
        return maps * stage.out_height * unit.cycles
    assert driven is not None, "something drives arrays"
    busiest = max(np.count_nonzero(plan) for plan in driven.plans)
    converting = int(busiest) * position_cycles(mapping, unit)
    return max(converting, *(maps * steps * cycles for steps, cycles, _ in writes(config, stage, mapping)), 0)


def input_bytes(stage: Stage) -> int:
    """Bytes of the layer's input that come from DRAM."""
    bits = sum(
        feed.rows * feed.bits * (1 if feed.still else stage.timesteps)
        for feed in (*stage.feeds, *stage.written)
        if feed.source == DRAM
    )
    return stage.images * bits // 8
