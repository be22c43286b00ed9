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
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.hardware.analog import device as cell
from archsim.hardware.analog.cache import cached_effective_conductance
from archsim.hardware.analog.device import DeviceConfig, Siemens
from archsim.hardware.analog.nonlinear import nonlinear_currents
from archsim.hardware.analog.wires import WireConfig
from archsim.hardware.loading import Block

Noise = Literal["frozen", "per_batch", "per_read"]


class CellsConfig(Block):
    """What cells and wires do to a product."""

    noise: Noise = Field(description="when the noise of reads is drawn: for a tile, for a batch of inputs, for a read")
    seed: int = Field(ge=0, lt=1 << 63, description="seed of everything that is drawn")
    time_s: float = Field(ge=0, le=1e12, description="age of the cells beyond the drift's reference time [s]")
    device: DeviceConfig = Field(description="memory device, kind and what differs from its file")
    wires: WireConfig


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
    matrices that last are kept in ``folder``, if one is given. ValueError for levels that the device does not have.
    """

    def __init__(
        self, level: NDArray[Any], config: CellsConfig, *, layer: int, tile: int, folder: Path | None = None
    ) -> None:
        self.config = config
        self._place = layer, tile
        device, time_s = config.device, config.time_s
        meant = cell.stick(cell.target(level, device), device, self._draw(Purpose.STUCK))
        programmed = cell.program(meant, device, self._draw(Purpose.PROGRAM))
        drifted = cell.drift(programmed, meant, device, time_s, self._draw(Purpose.DRIFT))
        self.deviation = cell.read_deviation(drifted, programmed, device, time_s)
        if config.noise == "frozen":
            drifted = cell.read(drifted, self.deviation, self._draw(Purpose.FROZEN_READ))
            self.deviation = np.zeros_like(drifted)
        self.conductance = drifted
        self._noisy = bool(self.deviation.any())
        self._effective: Siemens | None = None
        if not (self._noisy and config.noise == "per_batch") and not device.read.cubic_per_v2:
            self._effective = cached_effective_conductance(drifted, config.wires, folder)
        self._shares: Siemens | None = None

    def read(self, driven: NDArray[np.float64], batch: int) -> Siemens:
        """Currents [reads, M] by the read voltage, in siemens, of reads number ``batch``.

        ``driven`` [reads, N] is the voltage of every row by the read voltage, 0 to 1. The same reads of the same
        number find the same; other reads must have another number.
        """
        noise = self.config.noise if self._noisy else "frozen"
        draw = self._draw(Purpose.READ, batch)
        if noise == "per_batch":
            return self._currents(driven, cell.read(self.conductance, self.deviation, draw))
        found = self._currents(driven, self.conductance)
        if noise == "per_read":
            variance = driven**2 @ (self.deviation * self._share()) ** 2
            found = found + np.sqrt(variance) * draw.standard_normal(found.shape)
        return found

    def _currents(self, driven: NDArray[np.float64], conductance: Siemens) -> Siemens:
        read, wires = self.config.device.read, self.config.wires
        if read.cubic_per_v2:
            voltage = driven * read.voltage_v
            return nonlinear_currents(conductance, voltage, cubic=read.cubic_per_v2, **wires.ohms) / read.voltage_v
        if conductance is self.conductance and self._effective is not None:
            return driven @ self._effective
        return driven @ cached_effective_conductance(conductance, wires, None)

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
