"""Crossbar arrays and converters against plain numpy: weights as cells, sums as columns, what a quantiser does."""

import numpy as np
import pytest

from archsim.hardware.analog.adc import AdcConfig, convert
from archsim.hardware.analog.crossbar_array import CrossbarArrayConfig, cut_rows, factors, product, program_cells

SCHEMES = ("offset", "difference")


def adc(**changes):
    fields = {"bits": 4, "columns": 8, "conversion_cycles": 2, "range": "maximum", "per": "array"}
    return AdcConfig(**{**fields, **changes})


def draw_layer(seed, rows=6, k=90, n=7, timesteps=3, weight_bits=8, lowest=None):
    draw = np.random.default_rng(seed)
    half = 1 << (weight_bits - 1)
    weight = draw.integers(1 - half if lowest is None else lowest, half, (n, k)) * (draw.random((n, k)) < 0.4)
    words = draw.integers(0, 1 << timesteps, (rows, k)).astype(np.uint16)
    return words, weight


def spikes_of(words, timesteps):
    return (words[:, :, None].astype(np.int64) >> np.arange(timesteps)) & 1


def slow(words, weight, group, weight_bits, cell_bits, scheme, quantise, timesteps):
    """Arrays as dense matrices of levels, one cell, one column, one group after the other."""
    n, k = weight.shape
    half = 1 << (weight_bits - 1)
    spikes = spikes_of(words, timesteps)
    sums = np.zeros((len(words), n, timesteps), np.int64)
    for slice_ in range(-(-(weight_bits - 1) // cell_bits)):
        for sign in (1, -1) if scheme == "difference" else (1,):
            for neuron in range(n):
                levels = np.zeros(k, np.int64)
                for i in range(k):
                    w = int(weight[neuron, i])
                    stored = w + half * (w < 0) if scheme == "offset" else max(sign * w, 0)
                    levels[i] = (stored >> (slice_ * cell_bits)) % (1 << cell_bits)
                for g in np.unique(group):
                    column = np.einsum("rkt,k->rt", spikes[:, group == g], levels[group == g])
                    sums[:, neuron] += sign * (1 << (slice_ * cell_bits)) * np.vectorize(quantise)(column)
    if scheme == "offset":
        sums -= half * np.einsum("rkt,nk->rnt", spikes, (weight < 0).astype(np.int64))
    return sums


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("weight_bits", "cell_bits"), [(8, 1), (8, 2), (8, 3), (8, 4), (8, 8), (4, 1), (4, 4), (2, 1)])
def test_lossless_converters_give_the_integer_product(scheme, weight_bits, cell_bits):
    words, weight = draw_layer(weight_bits + cell_bits, weight_bits=weight_bits)
    group = cut_rows(10, (3, 3), 4)
    cells = program_cells(weight, weight_bits, cell_bits, scheme)
    most = 64 * ((1 << cell_bits) - 1)
    sums = np.zeros((len(words), len(weight), 3), np.int64)
    largest = product(words, group, cells, most, most, sums)
    np.testing.assert_array_equal(sums, np.einsum("rkt,nk->rnt", spikes_of(words, 3), weight))
    assert 0 < largest <= most


@pytest.mark.parametrize("scheme", SCHEMES)
def test_lossy_sums_are_those_of_dense_arrays(scheme):
    """Column by column against a twin that builds every column, with a quantiser of seven codes for 0 to 40."""
    words, weight = draw_layer(3)
    group = cut_rows(10, (3, 3), 4)
    cells = program_cells(weight, 8, 2, scheme)
    sums = np.zeros((len(words), len(weight), 3), np.int64)
    product(words, group, cells, 40, 7, sums)
    expected = slow(words, weight, group, 8, 2, scheme, lambda v: plain(v, 40, 7), 3)
    np.testing.assert_array_equal(sums, expected)
    assert (sums != np.einsum("rkt,nk->rnt", spikes_of(words, 3), weight)).any()


def test_the_lowest_weight_fits_offset_only():
    words, weight = draw_layer(5, lowest=-128)
    weight[0, 0] = -128
    cells = program_cells(weight, 8, 4, "offset")
    sums = np.zeros((len(words), len(weight), 3), np.int64)
    product(words, np.zeros(weight.shape[1], np.int64), cells, 10_000, 10_000, sums)
    np.testing.assert_array_equal(sums, np.einsum("rkt,nk->rnt", spikes_of(words, 3), weight))
    with pytest.raises(ValueError, match="from -128"):
        program_cells(weight, 8, 4, "difference")


def test_columns_of_a_weight():
    assert factors(8, 4, "offset").tolist() == [1, 16]
    assert factors(8, 3, "difference").tolist() == [1, -1, 8, -8, 64, -64]
    assert factors(4, 4, "offset").tolist() == [1]


def test_rows_are_cut_by_kernel_position():
    """Five channels in arrays of two rows: array = block of channels x 4 positions + position."""
    group = cut_rows(5, (2, 2), 2)
    assert group.tolist() == [0, 1, 2, 3] * 2 + [4, 5, 6, 7] * 2 + [8, 9, 10, 11]


def plain(value, span, top):
    """The quantiser in exact halves-up rounding of fractions."""
    code = min(int(np.floor(value * top / span + 0.5)), top)
    return int(np.floor(code * span / top + 0.5))


@pytest.mark.parametrize(("span", "top"), [(15, 15), (64, 15), (960, 15), (20, 15), (17, 1), (63, 63)])
def test_a_conversion(span, top):
    got = [convert(value, span, top) for value in range(2 * span)]
    assert got == [plain(value, span, top) for value in range(2 * span)]
    assert len(set(got)) == top + 1
    assert got[span:] == [span] * span
    assert all(abs(value - found) <= span / top / 2 + 0.5 for value, found in enumerate(got[:span]))


def test_what_is_lossless():
    """64 rows of cells of 4 bits sum to 960, which needs 10 bits."""
    full = CrossbarArrayConfig(
        rows=64, columns=64, cell="rram", cell_bits=4, signed="offset", drive_cycles=1, read_cycles=1
    ).full_scale
    assert full == 960
    assert adc(bits="lossless").width(full) == 10
    assert [adc(bits=bits).is_lossless(full) for bits in ("lossless", 9, 10, 11)] == [True, False, True, True]
    assert [adc(range=name).span(full, 100) for name in ("maximum", "calibrated", "granular")] == [960, 100, 15]
    assert adc(range="calibrated").span(full, 3) == 15
