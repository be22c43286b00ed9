"""Products of integers on crossbar arrays with all that cells, wires and converters do to them.

Weights of b bits are cut into slices of the cells' bits, inputs into cycles of the drivers' bits, and

    y[n] = sum over cycles t, slices s, arrays a of  2^(t b_driver) 2^(s b_cell) gain  read(I_plus - I_minus)

where the difference of two columns' currents, counted in steps of one level under one driver step, goes through one
converter. What those columns are says ``signed``:

    differential    |w| of b - 1 bits, in a column for w > 0 and one for w < 0; G_off cancels
    offset_column   w + 2^(b-1) of b bits in one column; the other is shared by all weights of an array, one a slice,
                    and every cell of it holds the slice of 2^(b-1): it cancels G_off and the offset at once

Columns fill an array from the first, rows from the one farthest from where columns are sensed; cells without a weight
are at level 0 and their rows are not driven, but they load the wires like any other. Without noise and resistances and
with lossless converters y is the integer product, exactly.

``digital_gain`` multiplies what was converted by a factor that calibration finds, the best in least squares for what
should have been read: one for the layer (``global``), one for every conversion of every array (``per_column``) or 1.

Sources: differential pair, bit slices and input cycles, ISAAC and PUMA; reference column, NeuroSim 1.3 (dummy column).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.hardware.analog.adc import AnalogAdcConfig, Quantiser
from archsim.hardware.analog.tile import CellsConfig, Purpose, Tile, generator
from archsim.hardware.loading import Block

CALIBRATION = (1 << 32) - 1
"""Number of the batch that calibration reads."""


class ProductConfig(Block):
    """Arrays and converters of an analog product."""

    rows: int = Field(ge=1, le=1024, description="rows of an array")
    columns: int = Field(ge=2, le=1024, description="columns of an array")
    signed: Literal["differential", "offset_column"] = Field(description="what is subtracted before a converter")
    driver_bits: int = Field(ge=1, le=8, description="bits of an input that a row takes at once")
    digital_gain: Literal["none", "global", "per_column"] = Field(description="what calibration corrects")
    cells: CellsConfig
    adc: AnalogAdcConfig

    @property
    def exact(self) -> bool:
        """Whether products are the integer products, bit for bit: no effect at all."""
        device, adc = self.cells.device, self.adc
        perfect = adc.bits == "lossless" and adc.offset_lsb == adc.noise_lsb == 0
        return perfect and not any(self.cells.wires.ohms.values()) and device.ideal

    def findings(self) -> dict[str, Any]:
        """What decides results and belongs in every report."""
        cells = self.cells
        return {
            "noise": cells.noise, "noise_seed": cells.seed, "device": cells.device.kind, "age_s": cells.time_s,
            "adc_range": self.adc.range, "digital_gain": self.digital_gain,
        }  # fmt: skip

    def slices(self, weight_bits: int) -> int:
        """Slices of a weight."""
        magnitude = weight_bits if self.signed == "offset_column" else max(weight_bits - 1, 1)
        return -(-magnitude // self.cells.device.bits)

    def weights_per_array(self, weight_bits: int) -> int:
        """Neurons whose columns fit an array; 0 if not one does."""
        slices = self.slices(weight_bits)
        if self.signed == "differential":
            return self.columns // (2 * slices)
        return max(self.columns - slices, 0) // slices


class _Part(NamedTuple):
    """What one array holds: inputs ``rows``, neurons ``outputs``, columns ``plus`` and ``minus`` of conversions."""

    tile: Tile
    rows: NDArray[np.int64]
    outputs: slice
    ideal: NDArray[np.int64]  # [rows, conversions]: levels of plus less those of minus
    plus: NDArray[np.int64]
    minus: NDArray[np.int64]
    offset: NDArray[np.float64]  # of the converter of every conversion [codes]
    number: int


class Product:
    """A layer's integer ``weight`` [n, k] on crossbar arrays.

    ``group`` int64 [k] says which inputs share an array's rows (``cut_rows``). Conversions of an array are ordered
    weight by weight, slice by slice, lowest first. ValueError for weights that do not fit ``weight_bits``, more
    inputs in a group than rows, and arrays with fewer columns than a weight needs.
    """

    def __init__(
        self,
        weight: NDArray[Any],
        group: NDArray[np.int64],
        config: ProductConfig,
        *,
        weight_bits: int,
        input_bits: int,
        layer: int,
        folder: Path | None = None,
    ) -> None:
        self.config = config
        self.n, self.k = weight.shape
        self.cycles = -(-input_bits // config.driver_bits)
        self._input_top = (1 << input_bits) - 1
        self._driver_top = (1 << config.driver_bits) - 1
        self.slices = config.slices(weight_bits)
        self.factor = np.int64(1) << np.arange(self.slices, dtype=np.int64) * config.cells.device.bits
        self._half = 1 << (weight_bits - 1)
        lowest = -self._half if config.signed == "offset_column" else 1 - self._half
        if weight.size and not lowest <= weight.min() <= weight.max() < self._half:
            raise ValueError(f"weights from {weight.min()} to {weight.max()}; allowed: {lowest} to {self._half - 1}")
        if not config.weights_per_array(weight_bits):
            raise ValueError(f"arrays of {config.columns} columns do not hold a weight of {weight_bits} bits")
        if np.bincount(group).max() > config.rows:
            raise ValueError(f"{np.bincount(group).max()} inputs share an array of {config.rows} rows")
        per_array = config.weights_per_array(weight_bits)
        self._parts = list(self._program(weight.astype(np.int64), group, per_array, layer, folder))
        self.layer = layer
        self._quantisers: list[Quantiser] = []
        self._gains: list[NDArray[np.float64] | float] = []
        if config.adc.range != "calibrated" or config.adc.bits == "lossless":
            self._quantisers = [config.adc.quantiser(*bounds, None) for bounds in self._bounds()]
        if config.digital_gain == "none":
            self._gains = [1.0] * len(self._parts)

    def calibrate(self, inputs: NDArray[Any]) -> None:
        """Set the converters' ranges and gains by ``inputs`` [batch, k], as they are configured."""
        seen = [self._sums(part, inputs, CALIBRATION) for part in self._parts]
        self._quantisers = [
            self.config.adc.quantiser(*bounds, np.concatenate([sums[:, s :: self.slices].ravel() for sums in seen]))
            for s, bounds in enumerate(self._bounds())
        ]
        if self.config.digital_gain == "none":
            return
        wanted, got = [], []
        for part, sums in zip(self._parts, seen, strict=True):
            read = self._converted(part, sums, CALIBRATION)
            got.append((read * read).sum(0))
            wanted.append((read * (self._driven(part, inputs) @ part.ideal)).sum(0))
        if self.config.digital_gain == "global":
            found: list[NDArray[np.float64] | float] = [_ratio(_total(wanted), _total(got)).item()] * len(self._parts)
        else:
            found = [_ratio(one, other) for one, other in zip(wanted, got, strict=True)]
        self._gains = found

    def multiply(self, inputs: NDArray[Any], batch: int) -> NDArray[np.float64]:
        """Products [batch, n] of integer ``inputs`` [batch, k], 0 to 2^input_bits - 1.

        ``batch`` numbers the inputs: the same ones with the same number give the same products, whatever was read
        before. ValueError for inputs outside, and where calibration is due.
        """
        if not (self._quantisers and self._gains):
            raise ValueError("calibrated ranges and digital gains need a calibration first")
        if inputs.size and not 0 <= inputs.min() <= inputs.max() <= self._input_top:
            raise ValueError(f"inputs from {inputs.min()} to {inputs.max()}; allowed: 0 to {self._input_top}")
        found = np.zeros((len(inputs), self.n))
        weight_of_cycle = np.float64(1 << self.config.driver_bits) ** np.arange(self.cycles)
        for part, gain in zip(self._parts, self._gains, strict=True):
            read = self._converted(part, self._sums(part, inputs, batch), batch) * gain
            read = np.tensordot(weight_of_cycle, read.reshape(self.cycles, len(inputs), -1), 1)
            found[:, part.outputs] += read.reshape(len(inputs), -1, self.slices) @ self.factor
        return found

    @property
    def tiles(self) -> int:
        """Arrays that the layer takes."""
        return len(self._parts)

    def programmed_cells(self) -> int:
        """Cells that hold a part of a weight or its reference."""
        return sum(len(part.rows) * len(np.union1d(part.plus, part.minus)) for part in self._parts)

    def _program(
        self, weight: NDArray[np.int64], group: NDArray[np.int64], per_array: int, layer: int, folder: Path | None
    ) -> Iterator[_Part]:
        config, adc = self.config, self.config.adc
        number = 0
        for one in np.unique(group):
            rows = np.flatnonzero(group == one)
            for first in range(0, self.n, per_array):
                outputs = slice(first, min(first + per_array, self.n))
                stored, plus, minus = self._columns(weight[outputs, rows].T)
                level = np.zeros((config.rows, config.columns), np.int64)
                level[: len(rows), : stored.shape[1]] = stored
                tile = Tile(level, config.cells, layer=layer, tile=number, folder=folder)
                draw = generator(config.cells.seed, layer, number, Purpose.CONVERTER)
                offset = adc.offset_lsb * draw.standard_normal(-(-len(plus) // adc.columns))
                offset = offset[np.arange(len(plus)) // adc.columns]
                ideal = stored[:, plus] - stored[:, minus]
                yield _Part(tile, rows, outputs, ideal, plus, minus, offset, number)
                number += 1

    def _columns(self, weight: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Levels [rows, columns] of ``weight`` [rows, outputs]; plus and minus columns of every conversion."""
        conversions = np.arange(weight.shape[1] * self.slices)
        if self.config.signed == "differential":
            pair = np.stack([self._sliced(np.maximum(weight, 0)), self._sliced(np.maximum(-weight, 0))], 2)
            return pair.reshape(len(weight), -1), 2 * conversions, 2 * conversions + 1
        reference = self._sliced(np.full((len(weight), 1), self._half))
        stored = np.concatenate([self._sliced(weight + self._half), reference], 1)
        return stored, conversions, len(conversions) + conversions % self.slices

    def _sliced(self, value: NDArray[np.int64]) -> NDArray[np.int64]:
        """Levels [rows, outputs x slices] of values >= 0 [rows, outputs]."""
        level = value[:, :, None] // self.factor & (1 << self.config.cells.device.bits) - 1
        return level.reshape(len(value), -1)

    def _bounds(self) -> list[tuple[int, int]]:
        """What ideal cells can make of a conversion of every slice [levels], lowest and highest."""
        top = (1 << self.config.cells.device.bits) - 1
        most = self.config.rows * self._driver_top
        if self.config.signed == "differential":
            return [(-most * top, most * top)] * self.slices
        reference = self._sliced(np.full((1, 1), self._half))[0].tolist()
        return [(-most * level, most * (top - level)) for level in reference]

    def _driven(self, part: _Part, inputs: NDArray[Any]) -> NDArray[np.int64]:
        """Driver steps [cycles x batch, rows of the part]."""
        taken = inputs[:, part.rows].astype(np.int64)
        shifts = np.arange(self.cycles, dtype=np.int64)[:, None, None] * self.config.driver_bits
        return (taken >> shifts & self._driver_top).reshape(-1, len(part.rows))

    def _sums(self, part: _Part, inputs: NDArray[Any], batch: int) -> NDArray[np.float64]:
        """What goes into the converters [cycles x batch, conversions], in levels under one driver step."""
        driven = np.zeros((self.cycles * len(inputs), self.config.rows))
        driven[:, : len(part.rows)] = self._driven(part, inputs) / self._driver_top
        currents = part.tile.read(driven, batch)
        difference = currents[:, part.plus] - currents[:, part.minus]
        return difference * (self._driver_top / self.config.cells.device.g_level)

    def _converted(self, part: _Part, sums: NDArray[np.float64], batch: int) -> NDArray[np.float64]:
        disturbance: NDArray[np.float64] = part.offset
        if self.config.adc.noise_lsb:
            draw = generator(self.config.cells.seed, self.layer, part.number, Purpose.CONVERSION, batch)
            disturbance = disturbance + self.config.adc.noise_lsb * draw.standard_normal(sums.shape)
        found = np.empty_like(sums)
        for s, quantiser in enumerate(self._quantisers):
            at = np.s_[:, s :: self.slices]
            found[at] = quantiser.read(sums[at], np.broadcast_to(disturbance, sums.shape)[at])
        return found


def _total(sums: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.array([one.sum() for one in sums]).sum(keepdims=True)
    return total


def _ratio(wanted: NDArray[np.float64], got: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gains; 1 where calibration read nothing."""
    return np.divide(wanted, got, out=np.ones_like(got), where=got > 0)
