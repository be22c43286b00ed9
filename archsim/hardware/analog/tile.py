"""Tile: one crossbar array as it was programmed, and what its columns read.

Everything that chance decides about a tile is drawn by generators seeded with (seed, layer, tile), one for each
purpose: results depend neither on the order in which tiles and inputs are simulated nor on the number of processes.

When the noise of reads is drawn decides results as much as how strong it is, so every configuration says it:

    frozen      once for a programmed tile: a systematic error, which a network can be adapted to
    per_batch   for every batch of inputs
    per_read    for every read of every input

With ``frozen`` and ``per_batch`` the effective matrix is made from the cells as they are read. With ``per_read`` it is
made from the cells without read noise, and the currents of a column's cells, each less noisy by what wires leave of
it, are drawn as one of the same variance. That is exact without wires. With them it leaves out what a noisier cell does
to the voltages of others and overestimates the deviation: measured with half of the rows driven by 2 % where wires take
11 % of the current, 18 % where they take 41 %, 33 % where they take 60 %. ``per_batch`` with batches of a single read
is exact, and as slow as an effective matrix for every read.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.hardware.analog import device as cell
from archsim.hardware.analog.cache import cached_effective_conductance
from archsim.hardware.analog.device import DeviceConfig, Siemens
from archsim.hardware.analog.nonlinear import nonlinear_currents
from archsim.hardware.analog.wires import WireConfig
from archsim.hardware.loading import Block, CrossFieldError

Noise = Literal["frozen", "per_batch", "per_read"]


class CellsConfig(Block):
    """What cells and wires do to a product."""

    noise: Noise = Field(description="when the noise of reads is drawn: for a tile, for a batch of inputs, for a read")
    seed: int = Field(ge=0, lt=1 << 63, description="seed of everything that is drawn")
    time_s: float = Field(ge=0, le=1e10, description="age of the cells beyond the drift's reference time [s]")
    device: DeviceConfig = Field(description="memory device, kind and what differs from its file")
    wires: WireConfig

    @model_validator(mode="after")
    def _can_be_solved(self) -> Self:
        """Wires of cells that are not linear have segments of some resistance, or nothing has any."""
        ohms = self.wires.model_dump()
        if self.device.read.cubic_per_v2 and any(ohms.values()):
            without = [name for name in ("r_row_ohm", "r_col_ohm") if not ohms[name]]
            allowed = "must be above 0 beside cells that are not linear, unless all resistances are 0"
            if without:
                raise CrossFieldError({f"wires.{name}": allowed for name in without})
        return self


class Purpose(IntEnum):
    """What a generator is for."""

    STUCK = 0
    PROGRAM = 1
    DRIFT = 2
    FROZEN_READ = 3
    READ = 4
    CONVERTER = 5
    CONVERSION = 6


def generator(seed: int, layer: int, tile: int, purpose: Purpose, batch: int = 0) -> np.random.Generator:
    """The generator of a tile for one purpose, and for one batch of inputs where that matters."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(layer, tile, purpose, batch)))


class Tile:
    """A crossbar array of cells at integer ``level`` [N, M], programmed and aged.

    ``conductance`` [N, M] in siemens is what a read finds on average, ``deviation`` how far one is off. Effective
    matrices that last are kept in ``folder``, if one is given. ``written`` numbers the writes of an array whose content
    changes as the network runs: the same cells stick, all else is drawn anew, and there is write noise; None for an
    array that is programmed once. ValueError for levels that the device does not have.
    """

    def __init__(
        self,
        level: NDArray[Any],
        config: CellsConfig,
        *,
        layer: int,
        tile: int,
        written: int | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config = config
        self._place = layer, tile
        device, time_s = config.device, config.time_s
        meant = cell.stick(cell.target(level, device), device, self._draw(Purpose.STUCK))
        number = written or 0
        draw = self._draw(Purpose.PROGRAM, number)
        programmed = cell.program(meant, device, draw)
        if written is not None:
            programmed = cell.disturb(programmed, device, draw)
        drifted = cell.drift(programmed, meant, device, time_s, self._draw(Purpose.DRIFT, number))
        self.deviation = cell.read_deviation(drifted, programmed, device, time_s)
        if config.noise == "frozen":
            drifted = cell.read(drifted, self.deviation, self._draw(Purpose.FROZEN_READ, number))
            self.deviation = np.zeros_like(drifted)
        self.conductance = drifted
        self._noisy = bool(self.deviation.any())
        self._effective: Siemens | None = None
        if self.lasts and self.linear:
            self._effective = cached_effective_conductance(drifted, config.wires, folder)
        self._shares: Siemens | None = None

    @property
    def linear(self) -> bool:
        """Whether a read is a product of matrices: :meth:`matrix` and :meth:`variance` say all."""
        return not self.config.device.read.cubic_per_v2

    @property
    def lasts(self) -> bool:
        """Whether :meth:`matrix` is the same for all batches."""
        return not (self._noisy and self.config.noise == "per_batch")

    def matrix(self, batch: int) -> Siemens:
        """Effective conductance [N, M] of linear cells in reads number ``batch``."""
        if self._effective is not None:
            return self._effective
        return cached_effective_conductance(self._as_read(batch), self.config.wires, None)

    def variance(self) -> NDArray[np.float64] | None:
        """Variance [N, M] of each cell's current by the read voltage, in siemens squared, from read to read.

        None where reads do not differ.
        """
        if not self._noisy or self.config.noise != "per_read":
            return None
        found: NDArray[np.float64] = (self.deviation * self._share()) ** 2
        return found

    def read(self, driven: NDArray[np.float64], batch: int, reads: int | None = None) -> Siemens:
        """Currents [reads, M] by the read voltage, in siemens.

        ``driven`` [reads, N] is the voltage of every row by the read voltage, 0 to 1. ``batch`` numbers what these
        reads share, ``reads`` (``batch`` if it is not given) what each has of its own. The same reads of the same
        numbers find the same; other reads must have other numbers.
        """
        read, wires = self.config.device.read, self.config.wires
        if self.linear:
            found = driven @ self.matrix(batch)
        else:
            voltage = driven * read.voltage_v
            cells = self._as_read(batch)
            found = nonlinear_currents(cells, voltage, cubic=read.cubic_per_v2, **wires.ohms) / read.voltage_v
        variance = self.variance()
        if variance is not None:
            draw = self._draw(Purpose.READ, batch if reads is None else reads)
            found = found + np.sqrt(driven**2 @ variance) * draw.standard_normal(found.shape)
        return found

    def _as_read(self, batch: int) -> Siemens:
        """Cells as all reads of a batch find them."""
        if self.lasts:
            return self.conductance
        return cell.read(self.conductance, self.deviation, self._draw(Purpose.READ, batch))

    def _share(self) -> NDArray[np.float64]:
        """What is left of every cell's conductance behind the wires, as a factor."""
        if self._shares is None:
            effective = self._effective
            if effective is None:
                effective = cached_effective_conductance(self.conductance, self.config.wires, None)
            self._shares = np.divide(
                effective, self.conductance, out=np.zeros_like(effective), where=self.conductance > 0
            )
        return self._shares

    def _draw(self, purpose: Purpose, batch: int = 0) -> np.random.Generator:
        return generator(self.config.seed, *self._place, purpose, batch)
