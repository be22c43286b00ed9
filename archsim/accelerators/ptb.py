"""PTB: parallel time batching (Lee, Zhang, Li, HPCA 2022): an output-stationary array whose columns are time windows.

Rows are output neurons, columns are *time windows* of W timesteps, of one output position or of several, neighbours or
far apart (``scheduler.positions``). A PE of the array holds W sums; in a step it takes one weight, which all columns
share, through the W timesteps, a cycle each. Which inputs enter (``scheduler.entering``):

    all      every k: a dense product
    active   k with a spike in the window of any column; it is left out only if it is silent in all of them
    packed   of those, two whose active windows do not overlap share a slot (stSAP); each column has the weight that it
             needs. An input that is active in all columns is alone; one that is not is put with the first of those that
             wait for a partner (the last ``pe.packing_reach``) with which it does not overlap

A fold of L slots takes ``W L + (R + C - 2) + W R`` cycles; with W = 1 and all inputs that is the systolic array's
K + 2R + C - 2. Loops and agents are those of :mod:`archsim.dataflow.folded_array`. The spikes of a fold, silent
ones included, are read from the cache to find out which enter; weights of inputs that do not enter are not read.
Finding and packing take no cycles of their own.

Hand-traced, R = 2, C = 2, W = 2, T = 2, one neuron, two positions, K = 3 with active columns 01, 10, 00: one slot when
packed, two cycles; skew 2, shifted out in 4: 8 cycles, 11 with the first access, neuron and write (memory.ideal).

Sources are in ``hwconfigs/ptb.yaml``; ``hwconfigs/ptb_16x4.yaml`` is the machine that LoAS compares with.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.compress.bitmask import popcount
from archsim.dataflow.base import MachineConfig
from archsim.dataflow.folded_array import ArrayMachine, dense_words
from archsim.dataflow.folded_schedule import (
    ArrayConfig,
    ArrayScheduler,
    Placing,
    Schedule,
    Slots,
    in_columns,
    place,
)
from archsim.dataflow.layer import Layer
from archsim.hardware.compute.lif import LifConfig
from archsim.hardware.compute.systolic_array import SystolicArrayConfig
from archsim.jit import njit


class PtbPe(SystolicArrayConfig):
    """Array of PEs that hold a time window each."""

    columns: int = Field(ge=1, le=64, description="columns, a time window each")
    window: int = Field(ge=1, le=16, description="timesteps of a time window")
    packing_reach: int = Field(ge=1, le=1024, description="waiting inputs that a new one is compared with")


class PtbScheduler(ArrayScheduler):
    """Order of the work."""

    entering: Literal["all", "active", "packed"] = Field(
        description="inputs that enter: all, those that spike in any column, or those two to a slot where they can"
    )
    positions: Literal["adjacent", "strided"] = Field(
        description="positions of a group: neighbours, or as far apart as there are whole groups"
    )


class PtbConfig(ArrayConfig):
    """A PTB machine."""

    accelerator: Literal["ptb"] = Field(description="which machine this file describes")
    pe: PtbPe = Field(description="array and operand buffers")
    neuron: LifConfig = Field(description="neuron units, one per column")
    scheduler: PtbScheduler = Field(description="order of the work")


@njit
def fill_slots(words: Any, timesteps: int, positions: int, span: int, blocks: int, window: int, reach: int,
               packs: bool, first: Any, slot: Any, inputs: Any, spikes: Any) -> int:  # fmt: skip
    """Choose and pack the inputs of every block of every group (:class:`~archsim.dataflow.folded_schedule.Slots`).

    ``words`` uint16 [M, K]; the last four are filled in, ``slot`` and ``inputs`` as far as needed; returns how many
    slots there are.
    """
    rows, k_length = words.shape
    alone, partner = np.empty(k_length, np.int64), np.empty(k_length, np.int64)
    waiting, waiting_mask = np.empty(reach, np.int64), np.empty(reach, np.uint64)
    window_bits = (1 << window) - 1
    windows = span // window
    slots, entered = 0, 0
    for number in range(len(spikes)):
        row, block = number // blocks * positions, number % blocks
        end_row = min(row + positions, rows)
        left = min(span, timesteps - block * span)
        everywhere = (end_row - row) * -(-left // window)
        found, waits = 0, 0
        for k in range(k_length):
            mask = np.uint64(0)
            for m in range(row, end_row):
                word = words[m, k] >> (block * span) & ((1 << left) - 1)
                spikes[number] += popcount(word)
                for w in range(windows):
                    if word >> (w * window) & window_bits:
                        mask |= np.uint64(1) << np.uint64((m - row) * windows + w)
            if mask == 0:
                continue
            chosen = -1
            if packs and popcount(int(mask)) < everywhere:
                for i in range(waits):
                    if waiting_mask[i] & mask == 0:
                        chosen = i
                        break
            if chosen >= 0:
                partner[waiting[chosen]] = k
                waits -= 1
                for i in range(chosen, waits):
                    waiting[i], waiting_mask[i] = waiting[i + 1], waiting_mask[i + 1]
                continue
            alone[found], partner[found] = k, -1
            if packs and popcount(int(mask)) < everywhere:
                if waits == reach:
                    waits -= 1
                    for i in range(waits):
                        waiting[i], waiting_mask[i] = waiting[i + 1], waiting_mask[i + 1]
                waiting[waits], waiting_mask[waits] = found, mask
                waits += 1
            found += 1
        for i in range(found):
            slot[slots] = entered
            slots += 1
            inputs[entered] = alone[i]
            entered += 1
            if partner[i] >= 0:
                inputs[entered] = partner[i]
                entered += 1
        first[number + 1] = slots
    slot[slots] = entered
    return slots


class PTB(ArrayMachine):
    """PTB (HPCA 2022): time windows in the columns of a systolic array, silent inputs left out or packed."""

    name: ClassVar[str] = "ptb"
    Config: ClassVar[type[MachineConfig]] = PtbConfig
    config: PtbConfig

    @property
    def window(self) -> int:
        """Timesteps of a time window."""
        return self.config.pe.window

    @property
    def weights_a_step(self) -> int:
        """A slot may hold two inputs, each with its weight."""
        return 2 if self.config.scheduler.entering == "packed" else 1

    def placing(self, layer: Layer) -> Placing:
        """Windows of a position side by side, as many positions as the columns hold."""
        return place(layer, self.config.pe.columns, min(self.window, layer.timesteps), True)

    def schedule(self, layer: Layer) -> Schedule:
        """Output stationary folds of a slot each W cycles."""
        ticks = min(self.window, layer.timesteps)
        return in_columns(self.config, layer, self.placing(layer), ticks, self.slots(layer))

    def places(self, layer: Layer) -> NDArray[np.int64]:
        """Neighbours stand together, or positions as far apart as there are whole groups; what is left is the last
        group."""
        positions, places = self.placing(layer).positions, np.arange(layer.m)
        if self.config.scheduler.positions == "strided":
            whole = layer.m // positions * positions
            places[:whole] = places[:whole].reshape(-1, positions).T.ravel()
        return places

    def slots(self, layer: Layer) -> Slots | None:
        """Which inputs enter, and which of them together."""
        entering, placing = self.config.scheduler.entering, self.placing(layer)
        if entering == "all":
            return None
        folds = -(-layer.m // placing.positions) * placing.blocks
        first, spikes = np.zeros(folds + 1, np.int64), np.zeros(folds, np.int64)
        slot, inputs = np.empty(folds * layer.k + 1, np.int64), np.empty(folds * layer.k, np.int64)
        words = dense_words(layer, 0, layer.m)[np.argsort(self.places(layer))]
        count = fill_slots(
            words, layer.timesteps, *placing, min(self.window, layer.timesteps),
            self.config.pe.packing_reach, entering == "packed", first, slot, inputs, spikes,
        )  # fmt: skip
        return Slots(first, slot[: count + 1].copy(), inputs[: slot[count]].copy(), spikes)
