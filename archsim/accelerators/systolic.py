"""A plain dense systolic array, the yardstick that everybody knows: nothing is compressed, nothing is skipped.

The array, its three dataflows and their cycles are in :mod:`archsim.hardware.compute.systolic_array`; agents, memory
layout and the loops of the output-stationary one in :mod:`archsim.dataflow.folded_array`. The others are

    weight:  for C columns of B: for R of K: fold streams all M T inputs, timestep by timestep of each position
    input:   for group: for block: for R of K: fold streams N weights

``scheduler.timesteps``: ``columns`` puts the timesteps of a position side by side (a group has C // T positions, or one
in ceil(T / C) blocks), ``sequential`` runs them one after the other (C positions, T blocks). A stationary weight sees
the timesteps of a position one after the other in either case.

With memory.ideal nothing stalls: the first half is there in cycle 1, the last sum leaves ``folds (2R + C + D - 2)``
cycles later, fires in ``neuron.cycles`` and is written in 1. Hand-traced: R = C = 2, M' = N = 2, K = 3, output
stationary: one fold of 3 + 2 + 2 = 7 cycles, 1 + 7 + 1 + 1 = 10 in all.

Sources are in ``hwconfigs/systolic.yaml``.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.dataflow.base import Layer, MachineConfig
from archsim.dataflow.folded_array import (
    ADDED,
    FOLD_FIELDS,
    INPUT,
    LOAD,
    NORTH_FIRST,
    PSUMS,
    READS_PSUM,
    ROW,
    ROW_END,
    STEPS,
    SUMS,
    TAIL,
    WEST_FIRST,
    WRITES_PSUM,
    ArrayConfig,
    ArrayMachine,
    ArrayScheduler,
    Folds,
    Placing,
    edge,
    in_columns,
    nest,
    offsets,
    parts,
    place,
)
from archsim.hardware.compute.lif import LifConfig


class SystolicScheduler(ArrayScheduler):
    """Order of the work, timesteps included."""

    timesteps: Literal["columns", "sequential"] = Field(
        description="timesteps of a position: side by side in the columns, or one fold after the other"
    )


class SystolicConfig(ArrayConfig):
    """A dense systolic array."""

    accelerator: Literal["systolic"] = Field(description="which machine this file describes")
    dataflow: Literal["output", "weight", "input"] = Field(description="which operand stays in the array")
    neuron: LifConfig = Field(description="neuron units, one a column")
    scheduler: SystolicScheduler = Field(description="order of the work")


def weight_stationary(config: ArrayConfig, layer: Layer) -> Folds:
    """Inputs enter at the west, weights are loaded from the north; for C neurons, for R of K."""
    pe, streamed = config.pe, layer.m * layer.timesteps
    rows, columns = parts(layer.k, pe.rows), parts(layer.n, pe.columns)
    west_first, west_bytes = offsets(streamed * rows)
    north_first, north_bytes = offsets(rows * columns[:, None] * pe.weight_bits)
    c, r = nest(np.arange(len(columns)), np.arange(len(rows)))
    table = _stationary(config, r, rows, streamed, columns[c])
    last = (r == len(rows) - 1) & (c == len(columns) - 1)
    table[:, ROW_END] = np.where(last, layer.m, 0)
    fits = 2 * west_bytes <= config.memory.cache.usable_bytes
    fold = np.arange(len(r))
    edge(table, WEST_FIRST, west_first[r], rows[r], streamed, pe.buffer_steps, (c == 0) | (not fits),
         len(fold) if fits else fold)  # fmt: skip
    edge(table, NORTH_FIRST, north_first[c, r], columns[c] * pe.weight_bits, rows[r], rows[r], 1, fold)
    return Folds(table, west_bytes, north_bytes, INPUT, 1)


def input_stationary(config: ArrayConfig, layer: Layer, placing: Placing) -> Folds:
    """Weights enter at the west, inputs are loaded from the north; for group, for block, for R of K."""
    pe = config.pe
    positions, timesteps = placing.sizes(layer)
    rows = parts(layer.k, pe.rows)
    west_first, west_bytes = offsets(layer.n * rows * pe.weight_bits)
    north_first, north_bytes = offsets(rows * positions[:, None, None] * timesteps[:, None])
    g, b, r = nest(np.arange(len(positions)), np.arange(len(timesteps)), np.arange(len(rows)))
    columns = positions[g] * timesteps[b]
    table = _stationary(config, r, rows, layer.n, columns)
    table[:, ROW] = g * placing.positions
    last = (r == len(rows) - 1) & (b == len(timesteps) - 1)
    table[:, ROW_END] = table[:, ROW] + np.where(last, positions[g], 0)
    fits = 2 * west_bytes <= config.memory.cache.usable_bytes
    fold = np.arange(len(r))
    edge(table, WEST_FIRST, west_first[r], rows[r] * pe.weight_bits, layer.n, pe.buffer_steps,
         (g + b == 0) | (not fits), len(fold) if fits else fold)  # fmt: skip
    edge(table, NORTH_FIRST, north_first[g, b, r], columns, rows[r], rows[r], 1, fold)
    return Folds(table, west_bytes, north_bytes)


def _stationary(
    config: ArrayConfig, r: NDArray[np.int64], rows: NDArray[np.int64], steps: int, columns: NDArray[np.int64]
) -> NDArray[np.int64]:
    """What folds of a stationary operand have in common: R cycles to load, partial sums but in the first R of K."""
    table = np.zeros((len(r), len(FOLD_FIELDS)), np.int64)
    table[:, STEPS], table[:, LOAD], table[:, TAIL] = steps, config.pe.rows, config.pe.skew_cycles
    table[:, ADDED], table[:, PSUMS] = steps * rows[r] * columns, columns
    table[:, READS_PSUM], table[:, WRITES_PSUM] = r > 0, r < len(rows) - 1
    table[:, SUMS] = np.where(r == len(rows) - 1, steps * columns, 0)
    return table


class Systolic(ArrayMachine):
    """Dense systolic array (as in SCALE-Sim): output, weight or input stationary."""

    name: ClassVar[str] = "systolic"
    Config: ClassVar[type[MachineConfig]] = SystolicConfig
    config: SystolicConfig

    @property
    def adds_outside(self) -> bool:
        """Folds of a stationary operand share sums."""
        return self.config.dataflow != "output"

    def placing(self, layer: Layer) -> Placing:
        """Timesteps in the columns, or one after the other; a stationary weight has no positions in its columns."""
        return place(layer, self.config.pe.columns, 1, self.config.scheduler.timesteps == "columns")

    def folds(self, layer: Layer) -> Folds:
        """Folds of the configured dataflow."""
        if self.config.dataflow == "weight":
            return weight_stationary(self.config, layer)
        if self.config.dataflow == "input":
            return input_stationary(self.config, layer, self.placing(layer))
        return in_columns(self.config, layer, self.placing(layer))
