"""Products of integers on crossbar arrays with all that cells, wires and converters do to them.

Weights of b bits are cut into slices of the cells' bits, inputs into cycles of the drivers' bits, and

    y[n] = sum over cycles t, slices s, arrays a of  2^(t b_driver) 2^(s b_cell) gain  read(I_plus - I_minus)

where the difference of two columns' currents, counted in steps of one level under one driver step, goes through one
converter. What those columns are says ``signed``:

    differential    |w| of b - 1 bits, in a column for w > 0 and one for w < 0; G_off cancels; w = -2^(b-1) only where
                    the cells' bits hold that magnitude
    offset_column   w + 2^(b-1) of b bits in one column; the other is shared by all weights of an array, one per slice,
                    and every cell of it holds the slice of 2^(b-1): it cancels G_off and the offset at once

Columns fill an array from the first, rows from the one farthest from where columns are sensed; cells without a weight
are at level 0 and their rows are not driven, but they load the wires like any other. Without noise and resistances and
with lossless converters y is the integer product, exactly.

Inputs below zero are two's complement: with drivers of one bit, the top bit's cycle counts negative (ISAAC).

Products are computed as they are read, cycle by cycle: a row of inputs adds up the rows of an array's matrix that it
drives, in the order of rows and in float64, so that results do not depend on the machine; rows that drive nothing cost
nothing. Without effects every sum is an integer but for rounding far below half a level, the converter takes that away,
and what is added up behind it are integers: the product is exact.

``digital_gain`` multiplies what was converted by a factor that calibration finds, the best in least squares for what
should have been read: one for the layer (``global``), one for every conversion of every array (``per_column``) or 1.

Sources: differential pair, bit slices and input cycles, ISAAC and PUMA; reference column, NeuroSim 1.3 (dummy column).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from archsim.hardware.analog.adc import AnalogAdcConfig, Quantiser
from archsim.hardware.analog.device import DeviceConfig
from archsim.hardware.analog.reading import (
    Columns,
    Disturbance,
    Scratch,
    convert_recorded,
    driven_reads,
    read,
    record,
)
from archsim.hardware.analog.tile import CellsConfig, Purpose, Tile, generator
from archsim.hardware.fields import Count
from archsim.hardware.loading import Block

CALIBRATION = (1 << 32) - 1
"""Number of the batch that calibration reads."""

AdaptationName = Literal["none", "statistics", "fine_tuned"]

# Draws that are in memory at a time.
_BLOCK_VALUES = 1 << 21


class DynamicConfig(Block):
    """What is done to values before they are written at run time: ClipFormer's transform.

    A value v of magnitudes up to top stands for the conductance G = G_off + (G_on - G_off) |v| / top, whatever slices
    it is cut into, and

        G <- max(G - alpha G_off, G_off),      G <- min(G, beta G_on),      |v| rounded to the nearest, halves up.

    Values are transformed, then mapped. In a differential pair G is what the cell with the magnitude would hold if it
    held all of it. With an offset column it is nothing that is written: the cells hold v + 2^(b-1), b the bits that are
    left, so that |v| is limited and shrinks about the middle of their range, where write noise is strongest. The same
    limits on what they hold would cut off positive values, beta 0.5 all of them, and the shift would cancel against the
    reference.

    alpha 0 and beta 1 leave values as they are; alpha 2 and beta 0.25 are ClipFormer's for strong noise, by notes.
    """

    alpha: float = Field(ge=0, le=1e6, description="what is subtracted [G_off]; 0: nothing")
    beta: float = Field(gt=0, le=1, description="the highest conductance [G_on]; 1: no limit")

    def transformed(self, magnitude: NDArray[np.int64], top: int, device: DeviceConfig) -> NDArray[np.int64]:
        """What is written for ``magnitude``, 0 to ``top``."""
        unit = top / (device.g_on - device.g_off)
        found = np.maximum(magnitude - self.alpha * device.g_off * unit, 0)
        found = np.minimum(found, max((self.beta * device.g_on - device.g_off) * unit, 0))
        rounded: NDArray[np.int64] = np.floor(found + 0.5).astype(np.int64)
        return rounded


class ProductConfig(Block):
    """Arrays and converters of an analog product."""

    rows: Count = Field(description="rows of an array")
    columns: int = Field(ge=2, le=1024, description="columns of an array")
    signed: Literal["differential", "offset_column"] = Field(description="what is subtracted before a converter")
    driver_bits: int = Field(ge=1, le=8, description="bits of an input that a row takes at once")
    digital_gain: Literal["none", "global", "per_column"] = Field(description="what calibration corrects")
    adaptation: AdaptationName = Field(
        description="gain and offset of every channel behind the arrays: none, from statistics, or trained with labels"
    )
    batch_images: int = Field(ge=1, le=1000, description="images of a batch, which share what is drawn per_batch")
    dynamic: DynamicConfig
    cells: CellsConfig
    adc: AnalogAdcConfig

    @property
    def exact(self) -> bool:
        """Whether products are the integer products, bit for bit: no effect at all, and nothing trained to meet one."""
        device, adc = self.cells.device, self.adc
        if (self.dynamic.alpha, self.dynamic.beta) != (0, 1) or self.adaptation == "fine_tuned":
            return False
        perfect = adc.bits == "lossless" and adc.offset_lsb == adc.noise_lsb == 0
        return perfect and not any(self.cells.wires.ohms.values()) and device.ideal

    @property
    def calibrates(self) -> bool:
        """Whether calibration decides converters' ranges or digital gains."""
        return self.adc.calibrates or self.digital_gain != "none"

    def findings(self) -> dict[str, Any]:
        """What decides results and belongs in every report."""
        cells = self.cells
        return {
            "noise": cells.noise, "noise_seed": cells.seed, "device": cells.device.kind, "age_s": cells.time_s,
            "adc_range": self.adc.range, "digital_gain": self.digital_gain, "adaptation": self.adaptation,
        }  # fmt: skip

    def slices(self, weight_bits: int) -> int:
        """Slices of a weight."""
        magnitude = weight_bits if self.signed == "offset_column" else max(weight_bits - 1, 1)
        return -(-magnitude // self.cells.device.bits)

    def weight_range(self, weight_bits: int) -> tuple[int, int]:
        """Lowest and highest weight; the lowest has a magnitude that not every number of cells holds."""
        half = 1 << (weight_bits - 1)
        held = (1 << self.slices(weight_bits) * self.cells.device.bits) - 1
        return -half if self.signed == "offset_column" else -min(half, held), half - 1

    def weights_per_array(self, weight_bits: int) -> int:
        """Neurons whose columns fit an array; 0 if not one does."""
        slices = self.slices(weight_bits)
        if self.signed == "differential":
            return self.columns // (2 * slices)
        return max(self.columns - slices, 0) // slices


class _Numbers(NamedTuple):
    """What reads are drawn by: the number of what a batch shares, and of what each of its reads has of its own."""

    batch: int
    reads: int


class _Part(NamedTuple):
    """What one array holds: columns ``plus`` and ``minus`` of conversions ``at`` of its group."""

    tile: Tile
    at: slice
    plus: NDArray[np.int64]
    minus: NDArray[np.int64]
    number: int


class _Group(NamedTuple):
    """Arrays that are driven by the same inputs ``rows``: all the layer's weights of these, conversion by conversion.

    ``ideal`` int64 [rows, conversions] are the levels of plus less those of minus, ``offset`` [conversions] those of
    the converters [codes].
    """

    rows: NDArray[np.int64]
    parts: tuple[_Part, ...]
    ideal: NDArray[np.int64]
    offset: NDArray[np.float64]


class Product:
    """A layer's integer ``weight`` [n, k] on crossbar arrays.

    ``group`` int64 [k] says which inputs share an array's rows (``cut_rows``). Conversions of an array are ordered
    weight by weight, slice by slice, lowest first. Inputs are 0 to 2^input_bits - 1 or, ``signed_inputs``, in two's
    complement. ``written`` numbers the writes of arrays whose weights change as the network runs; None: weights stay.
    ValueError for weights that do not fit ``weight_bits``, more inputs in a group than rows, arrays with fewer columns
    than a weight needs, and signed inputs with drivers of more than a bit. ``programmed`` is called after every array,
    as large ones take seconds.
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
        signed_inputs: bool = False,
        written: int | None = None,
        folder: Path | None = None,
        programmed: Callable[[], object] = bool,
    ) -> None:
        self.config = config
        self.n, self.k = weight.shape
        self.cycles = -(-input_bits // config.driver_bits)
        self._allowed = (
            (-(1 << input_bits - 1), (1 << input_bits - 1) - 1) if signed_inputs else (0, (1 << input_bits) - 1)
        )
        self._driver_top = (1 << config.driver_bits) - 1
        self._cycle_worth = np.float64(1 << config.driver_bits) ** np.arange(self.cycles)
        if signed_inputs:
            if config.driver_bits != 1:
                raise ValueError(f"signed inputs need drivers of 1 bit, got {config.driver_bits}")
            self._cycle_worth[-1] *= -1
        self.slices = config.slices(weight_bits)
        self.factor = np.int64(1) << np.arange(self.slices, dtype=np.int64) * config.cells.device.bits
        self._half = 1 << (weight_bits - 1)
        lowest, highest = config.weight_range(weight_bits)
        if weight.size and not lowest <= weight.min() <= weight.max() <= highest:
            raise ValueError(f"weights from {weight.min()} to {weight.max()}; allowed: {lowest} to {highest}")
        if not config.weights_per_array(weight_bits):
            raise ValueError(f"arrays of {config.columns} columns do not hold a weight of {weight_bits} bits")
        if np.bincount(group).max() > config.rows:
            raise ValueError(f"{np.bincount(group).max()} inputs share an array of {config.rows} rows")
        self.layer = layer
        self._groups = list(
            self._program(
                weight.astype(np.int64), group, config.weights_per_array(weight_bits), written, folder, programmed
            )
        )
        self._quantisers: list[Quantiser] = []
        self._gains: list[NDArray[np.float64]] = []
        if not config.adc.calibrates:
            self._quantisers = [config.adc.quantiser(*bounds, None) for bounds in self._bounds()]
        if config.digital_gain == "none":
            self._gains = [np.ones(self.n * self.slices) for _ in self._groups]

    def calibrate(self, inputs: NDArray[Any]) -> None:
        """Set the converters' ranges and gains by ``inputs`` [batch, k], as they are configured."""
        calibrate_together([self], [inputs])

    def calibrate_like(self, other: Product) -> None:
        """Set the converters' ranges and gains as those of ``other``, whose weights stood in the same arrays."""
        self._quantisers, self._gains = other._quantisers, other._gains

    def multiply(self, inputs: NDArray[Any], batch: int, reads: int | None = None) -> NDArray[np.float64]:
        """Products [batch, n] of integer ``inputs`` [batch, k].

        ``batch`` numbers the noise that these reads share, ``reads`` the noise that each has of its own (of converters,
        and of devices that draw it for every read); it is ``batch`` unless a batch is read in several calls. The same
        inputs with the same numbers give the same products, whatever was read before. ValueError for inputs outside,
        and where calibration is due.
        """
        numbers = _Numbers(batch, batch if reads is None else reads)
        if not (self._quantisers and self._gains):
            raise ValueError("calibrated ranges and digital gains need a calibration first")
        taken = self._taken(inputs)
        found = np.zeros((len(taken), self.n))
        first, last, step = (
            np.tile([float(one[field]) for one in self._quantisers], self.n) for field in range(len(Quantiser._fields))
        )
        for group, gain in zip(self._groups, self._gains, strict=True):
            worth = step * gain * np.tile(self.factor, self.n).astype(np.float64)
            self._read(group, taken, numbers, Columns(first, last, group.offset, worth), step, found)
        return found

    @property
    def conversions(self) -> int:
        """Conversions of an input."""
        return int(self.cycles * len(self._groups) * self.n * self.slices)

    @property
    def tiles(self) -> int:
        """Arrays that the layer takes."""
        return sum(len(group.parts) for group in self._groups)

    def programmed_cells(self) -> int:
        """Cells that hold a part of a weight or its reference."""
        return sum(
            len(group.rows) * len(np.union1d(part.plus, part.minus)) for group in self._groups for part in group.parts
        )

    def _program(
        self, weight: NDArray[np.int64], group: NDArray[np.int64], per_array: int, written: int | None,
        folder: Path | None, programmed: Callable[[], object],
    ) -> Iterator[_Group]:  # fmt: skip
        config, adc = self.config, self.config.adc
        number = 0
        for one in np.unique(group):
            rows = np.flatnonzero(group == one)
            parts, ideal, offsets = [], [], []
            for first in range(0, self.n, per_array):
                stored, plus, minus = self._columns(weight[first : first + per_array, rows].T)
                level = np.zeros((config.rows, config.columns), np.int64)
                level[: len(rows), : stored.shape[1]] = stored
                tile = Tile(level, config.cells, layer=self.layer, tile=number, written=written, folder=folder)
                draw = generator(config.cells.seed, self.layer, number, Purpose.CONVERTER)
                offset = adc.offset_lsb * draw.standard_normal(-(-len(plus) // adc.columns))
                start = first * self.slices
                parts.append(_Part(tile, slice(start, start + len(plus)), plus, minus, number))
                ideal.append(stored[:, plus] - stored[:, minus])
                offsets.append(offset[np.arange(len(plus)) // adc.columns])
                number += 1
                programmed()
            yield _Group(rows, tuple(parts), np.concatenate(ideal, 1), np.concatenate(offsets))

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

    def _taken(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """``inputs`` as drivers take them; ValueError where they do not."""
        lowest, highest = self._allowed
        if inputs.size and not lowest <= inputs.min() <= inputs.max() <= highest:
            raise ValueError(f"inputs from {inputs.min()} to {inputs.max()}; allowed: {lowest} to {highest}")
        if inputs.dtype.itemsize == 1:
            return np.ascontiguousarray(inputs).view(np.uint8)
        return np.ascontiguousarray(inputs, np.int64)

    def _noise(self, group: _Group, step: NDArray[np.float64]) -> Disturbance:
        """What differs from read to read, in codes of ``step`` levels [conversions]."""
        by_part = [part.tile.variance() if part.tile.linear else None for part in group.parts]
        variances = [
            (found[: len(group.rows)] / self.config.cells.device.g_level**2, part)
            for found, part in zip(by_part, group.parts, strict=True)
            if found is not None
        ]
        converter = self.config.adc.noise_lsb
        variance = shared = np.empty((0, 0))
        reference = np.empty(0, np.int64)
        if variances and self.config.signed == "differential":
            variance = np.concatenate([found[:, part.plus] + found[:, part.minus] for found, part in variances], 1)
        elif variances:
            variance = np.concatenate([found[:, part.plus] for found, part in variances], 1)
            shared = np.concatenate([found[:, part.minus[: self.slices]] for found, part in variances], 1)
            shared = shared / np.tile(step[: self.slices], len(variances)) ** 2
            reference = np.concatenate(
                [place * self.slices + np.arange(len(part.plus)) % self.slices
                 for place, (_, part) in enumerate(variances)]
            )  # fmt: skip
        return Disturbance(variance / step**2 if variances else variance, shared, reference, converter)

    def _draws(self, group: _Group, noise: Disturbance, numbers: _Numbers) -> Callable[[int], NDArray[np.float32]]:
        """A function that returns the next so many reads' draws [reads, conversions + references]."""
        drawers = [generator(self.config.cells.seed, self.layer, part.number, Purpose.CONVERSION, numbers.reads)
                   for part in group.parts]  # fmt: skip
        conversions, references = len(group.offset), noise.shared.shape[1]
        each = references // len(drawers)

        def draw(reads: int) -> NDArray[np.float32]:
            normal = np.empty((reads, conversions + references), np.float32)
            for place, (part, drawer) in enumerate(zip(group.parts, drawers, strict=True)):
                found = drawer.standard_normal((reads, len(part.plus) + each), np.float32)
                normal[:, part.at] = found[:, : len(part.plus)]
                first = conversions + place * each
                normal[:, first : first + each] = found[:, len(part.plus) :]
            return normal

        return draw

    def _matrix(self, group: _Group, numbers: _Numbers) -> NDArray[np.float64]:
        """What a driver step adds to a conversion [rows, conversions], in levels."""
        by_part = [(part.tile.matrix(numbers.batch), part) for part in group.parts]
        found = np.concatenate([matrix[:, part.plus] - matrix[:, part.minus] for matrix, part in by_part], 1)
        return found[: len(group.rows)] / self.config.cells.device.g_level

    def _blocks(self, group: _Group, noise: Disturbance, inputs: NDArray[Any], numbers: _Numbers) -> Iterator[_Block]:
        """Inputs with the draws of their reads, as many at once as memory allows; all where there are no draws."""
        width = len(group.offset) + noise.shared.shape[1]
        noisy = noise.variance.size or noise.converter
        if not noisy:
            yield slice(0, len(inputs)), np.empty((0, width), np.float32)
            return
        draw = self._draws(group, noise, numbers)
        step = max(1, _BLOCK_VALUES // (self.cycles * width))
        for first in range(0, len(inputs), step):
            at = slice(first, min(first + step, len(inputs)))
            reads = (at.stop - at.start) * self.cycles
            if not noise.converter:
                reads = driven_reads(inputs[at], group.rows, self.config.driver_bits, self.cycles)
            yield at, draw(reads)

    def _read(self, group: _Group, inputs: NDArray[Any], numbers: _Numbers, columns: Columns, step: NDArray[np.float64],
              found: NDArray[np.float64]) -> None:  # fmt: skip
        """Add what is read of ``inputs`` to ``found``."""
        if not group.parts[0].tile.linear:
            seen = self._seen(group, inputs, numbers, step)
            convert_recorded(seen, columns, self._cycle_worth, self.slices, found)
            return
        noise = self._noise(group, step)
        matrix = self._matrix(group, numbers) / step
        for at, normal in self._blocks(group, noise, inputs, numbers):
            read(
                inputs[at], group.rows, self.config.driver_bits, self._cycle_worth, matrix, noise, normal, columns,
                self.slices, _scratch(noise, len(step)), found[at],
            )  # fmt: skip

    def _seen(
        self, group: _Group, inputs: NDArray[Any], numbers: _Numbers, step: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What goes into the converters, in codes [inputs, cycles, conversions], but for their offsets."""
        seen = np.empty((len(inputs), self.cycles, len(step)))
        noise = self._noise(group, step)
        linear = group.parts[0].tile.linear
        if linear:
            matrix = self._matrix(group, numbers) / step
        else:
            whole = self._currents(group, inputs, numbers) / step
        for at, normal in self._blocks(group, noise, inputs, numbers):
            if linear:
                record(
                    inputs[at], group.rows, self.config.driver_bits, self.cycles, matrix, noise, normal,
                    _scratch(noise, len(step)), seen[at],
                )  # fmt: skip
            else:
                seen[at] = (
                    whole[at] + noise.converter * normal.reshape(-1, self.cycles, len(step))
                    if len(normal)
                    else whole[at]
                )
        return seen

    def _currents(self, group: _Group, inputs: NDArray[Any], numbers: _Numbers) -> NDArray[np.float64]:
        """Differences of columns of cells that are not linear [inputs, cycles, conversions], in levels."""
        steps = self._driven(group, inputs)
        driven = np.zeros((steps.size // len(group.rows), self.config.rows))
        driven[:, : len(group.rows)] = steps.reshape(-1, len(group.rows)) / self._driver_top
        by_part = [(part.tile.read(driven, numbers.batch, numbers.reads), part) for part in group.parts]
        found = np.concatenate([read[:, part.plus] - read[:, part.minus] for read, part in by_part], 1)
        found *= self._driver_top / self.config.cells.device.g_level
        return found.reshape(len(inputs), self.cycles, -1)

    def _driven(self, group: _Group, inputs: NDArray[Any]) -> NDArray[np.int64]:
        """Driver steps [inputs, cycles, rows of the group]."""
        shifts = np.arange(self.cycles)[:, None] * self.config.driver_bits
        steps: NDArray[np.int64] = inputs[:, None, group.rows].astype(np.int64) >> shifts & self._driver_top
        return steps


_Block = tuple[slice, NDArray[np.float32]]


def calibrate_together(products: Sequence[Product], inputs: Sequence[NDArray[Any]]) -> None:
    """Calibrate ``products`` that stand in the same arrays one after the other, each by its ``inputs`` [batch, k].

    Ranges span what all of them see, and a gain is the best for all of them.
    """
    config, first = products[0].config, products[0]
    taken = [product._taken(one) for product, one in zip(products, inputs, strict=True)]
    places, numbers = range(len(first._groups)), _Numbers(CALIBRATION, CALIBRATION)
    unit = np.ones(first.n * first.slices)
    seen = [
        np.concatenate([
            product._seen(product._groups[g], one, numbers, unit).reshape(-1, len(unit))
            for product, one in zip(products, taken, strict=True)
        ])
        for g in places
    ]  # fmt: skip
    quantisers = [
        config.adc.quantiser(*bounds, np.concatenate([sums[:, s :: first.slices].ravel() for sums in seen]))
        for s, bounds in enumerate(first._bounds())
    ]
    gains = first._gains
    if config.digital_gain != "none":
        wanted, got = [], []
        for g in places:
            read = np.empty_like(seen[g])
            for s, quantiser in enumerate(quantisers):
                at = np.s_[:, s :: first.slices]
                read[at] = quantiser.read(seen[g][at], first._groups[g].offset[s :: first.slices])
            ideal = np.concatenate([
                product._driven(product._groups[g], one).reshape(-1, len(product._groups[g].rows))
                @ product._groups[g].ideal.astype(np.float64)
                for product, one in zip(products, taken, strict=True)
            ])  # fmt: skip
            got.append((read * read).sum(0))
            wanted.append((read * ideal).sum(0))
        if config.digital_gain == "global":
            gains = [np.full(len(unit), _ratio(_total(wanted), _total(got)).item())] * len(places)
        else:
            gains = [_ratio(one, other) for one, other in zip(wanted, got, strict=True)]
    for product in products:
        product._quantisers, product._gains = quantisers, gains


def _scratch(noise: Disturbance, conversions: int) -> Scratch:
    return Scratch(np.empty(conversions), np.empty(conversions), np.empty(noise.shared.shape[1]))


def _total(sums: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.array([one.sum() for one in sums]).sum(keepdims=True)
    return total


def _ratio(wanted: NDArray[np.float64], got: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gains; 1 where calibration read nothing."""
    return np.divide(wanted, got, out=np.ones_like(got), where=got > 0)
