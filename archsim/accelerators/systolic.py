"""A plain dense systolic array, the yardstick that everybody knows: nothing is compressed, nothing is skipped.

The array, its three dataflows and their cycles are in :mod:`archsim.hardware.compute.systolic_array`; agents and
memory layout in :mod:`archsim.dataflow.folded_array`, the loops of the output-stationary one too. The others are

    weight:  for C columns of B: for R of K: fold streams all M T inputs, timestep by timestep of each position
    input:   for group: for block: for R of K: fold streams N weights

``scheduler.timesteps``: ``columns`` puts the timesteps of a position side by side (a group has C // T positions, or one
in ceil(T / C) blocks), ``sequential`` runs them one after the other (C positions, T blocks). A stationary weight sees
the timesteps of a position one after the other in either case.

With memory.ideal nothing stalls: the first load is there in cycle 1, the last sum leaves ``folds (2R + C + D - 2)``
cycles later, fires in ``neuron.cycles`` and is written in 1. Hand-traced: R = C = 2, M' = N = 2, K = 3, output
stationary: one fold of 3 + 2 + 2 = 7 cycles, 1 + 7 + 1 + 1 = 10 in all.

Sources are in ``hwconfigs/systolic.yaml``.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.dataflow.base import MachineConfig
from archsim.dataflow.folded_array import ArrayMachine
from archsim.dataflow.folded_schedule import (
    FOLD,
    INPUT,
    OPERAND,
    WEIGHT,
    ArrayConfig,
    ArrayScheduler,
    Placing,
    Schedule,
    Table,
    edge,
    in_columns,
    loads_of,
    nest,
    offsets,
    parts,
    place,
    table,
)
from archsim.dataflow.layer import Layer
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
    neuron: LifConfig = Field(description="neuron units, one per column")
    scheduler: SystolicScheduler = Field(description="order of the work")


def weight_stationary(config: ArrayConfig, layer: Layer) -> Schedule:
    """Inputs enter at the west, weights are loaded from the north; for C neurons, for R of K."""
    pe, streamed = config.pe, layer.m * layer.timesteps
    rows, columns = parts(layer.k, pe.rows), parts(layer.n, pe.columns)
    west_first, west_bytes = offsets(streamed * rows)
    north_first, north_bytes = offsets(rows * columns[:, None] * pe.weight_bits)
    c, r = nest(np.arange(len(columns)), np.arange(len(rows)))
    done = _stationary(config, r, rows, streamed, columns[c])
    done.begun = done.ended = done.sums // layer.timesteps
    last = (r == len(rows) - 1) & (c == len(columns) - 1)
    done.row_end = np.where(last, layer.m, 0)
    fits = 2 * west_bytes <= config.memory.cache.usable_bytes
    fold = np.arange(len(r))
    west = table(
        OPERAND, len(r), first=west_first[r], bits=rows[r], steps=streamed, share=pe.buffer_steps,
        loads=loads_of(done.steps, pe.buffer_steps), new=(c == 0) | (not fits), epoch=len(fold) if fits else fold,
    )  # fmt: skip
    north = _loaded(fold, rows[r], north_first[c, r], columns[c] * pe.weight_bits)
    return Schedule(
        done, edge(INPUT, west_bytes, west), edge(WEIGHT, north_bytes, north), stationary=True, spread=True
    )  # fmt: skip


def input_stationary(config: ArrayConfig, layer: Layer, placing: Placing) -> Schedule:
    """Weights enter at the west, inputs are loaded from the north; for group, for block, for R of K."""
    pe = config.pe
    positions, timesteps = placing.sizes(layer)
    rows = parts(layer.k, pe.rows)
    west_first, west_bytes = offsets(layer.n * rows * pe.weight_bits)
    north_first, north_bytes = offsets(rows * positions[:, None, None] * timesteps[:, None])
    g, b, r = nest(np.arange(len(positions)), np.arange(len(timesteps)), np.arange(len(rows)))
    columns = positions[g] * timesteps[b]
    first_row, last = g * placing.positions, (r == len(rows) - 1) & (b == len(timesteps) - 1)
    done = _stationary(config, r, rows, layer.n, columns)
    neurons = (r == len(rows) - 1) * positions[g] * layer.n
    done.begun, done.ended = neurons * (b == 0), neurons * (b == len(timesteps) - 1)
    done.row, done.row_end = first_row, first_row + np.where(last, positions[g], 0)
    fits = 2 * west_bytes <= config.memory.cache.usable_bytes
    fold = np.arange(len(r))
    west = table(
        OPERAND, len(r), first=west_first[r], bits=rows[r] * pe.weight_bits, steps=layer.n, share=pe.buffer_steps,
        loads=loads_of(done.steps, pe.buffer_steps), new=(g + b == 0) | (not fits),
        epoch=len(fold) if fits else fold,
    )  # fmt: skip
    north = _loaded(fold, rows[r], north_first[g, b, r], columns)
    return Schedule(done, edge(WEIGHT, west_bytes, west), edge(INPUT, north_bytes, north), stationary=True)


def _stationary(
    config: ArrayConfig, r: NDArray[np.int64], rows: NDArray[np.int64], steps: int, columns: NDArray[np.int64]
) -> Table:
    """What folds of a stationary operand have in common: partial sums in all but the first R of K."""
    first, last = r == 0, r == len(rows) - 1
    return table(
        FOLD, len(r), steps=steps, tail=config.pe.skew_cycles, added=steps * rows[r] * columns, psums=columns,
        reads_psum=~first, writes_psum=~last, sums=np.where(last, steps * columns, 0),
    )  # fmt: skip


def _loaded(fold: NDArray[np.int64], rows: NDArray[np.int64], first: NDArray[np.int64], bits: Any) -> Table:
    """The stationary operand: one row per step, all of it in one load, new in every fold."""
    return table(OPERAND, len(fold), first=first, bits=bits, steps=rows, share=rows, loads=1, new=1, epoch=fold)


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

    def schedule(self, layer: Layer) -> Schedule:
        """Folds of the configured dataflow."""
        if self.config.dataflow == "weight":
            return weight_stationary(self.config, layer)
        if self.config.dataflow == "input":
            return input_stationary(self.config, layer, self.placing(layer))
        return in_columns(self.config, layer, self.placing(layer))
