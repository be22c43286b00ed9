"""Converters of currents: monotone, idempotent, evenly spaced, and the ideal converter's twin for integers."""

import numpy as np
import pytest

from archsim.hardware.analog.adc import AnalogAdcConfig, Quantiser, convert


def adc(**said):
    fields = {"bits": 4, "columns": 8, "range": "maximum", "percentile": 100.0, "offset_lsb": 0.0, "noise_lsb": 0.0}
    return AnalogAdcConfig(**{**fields, **said})


BOUNDS = [(0, 960), (-960, 960), (-512, 448), (0, 15), (-1, 1), (-64, 0)]


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("bits", [2, 4, 8, "lossless"])
@pytest.mark.parametrize("span", ["maximum", "calibrated", "granular"])
def test_a_converter_is_monotone_and_idempotent(span, bits, bounds):
    low, high = bounds
    quantiser = adc(bits=bits, range=span).quantiser(low, high, np.array([0.7 * low, 0.8 * high]))
    sums = np.linspace(1.5 * low - 1, 1.5 * high + 1, 20_001)
    found = quantiser.read(sums)
    assert (np.diff(found) >= 0).all()
    assert np.array_equal(quantiser.read(found), found)
    assert quantiser.read(np.zeros(1)) == 0
    assert quantiser.first <= 0 <= quantiser.last
    width = (high - low).bit_length() if bits == "lossless" else bits
    assert quantiser.last - quantiser.first == (1 << width) - 1
    inside = (sums >= quantiser.first * quantiser.step) & (sums <= quantiser.last * quantiser.step)
    assert np.abs(found - sums)[inside].max() <= quantiser.step / 2 * (1 + 1e-9)


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_ranges(bits, bounds):
    low, high = bounds
    full = adc(bits=bits, range="maximum").quantiser(low, high, None)
    assert full.first * full.step <= low and full.last * full.step >= high
    calibrated = adc(bits=bits, range="calibrated").quantiser(low, high, np.array([low / 8, high / 4]))
    assert calibrated.first * calibrated.step <= low / 8 and calibrated.last * calibrated.step >= high / 4
    assert calibrated.step < full.step / 2
    assert adc(bits=bits, range="granular").quantiser(low, high, None).step == 1


def test_percentiles_leave_outliers_out():
    seen = np.concatenate([np.linspace(0, 100, 1_000), [1e6]])
    assert adc(range="calibrated", percentile=99.5).quantiser(0, 10**7, seen).step == pytest.approx(99.6 / 15, rel=0.01)
    assert adc(range="calibrated").quantiser(0, 10**7, seen).step == pytest.approx(1e6 / 15)
    with pytest.raises(ValueError, match="calibrate"):
        adc(range="calibrated").quantiser(0, 100, None)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_lossless_is_the_identity_on_integers(bounds):
    sums = np.arange(bounds[0], bounds[1] + 1, dtype=np.float64)
    assert np.array_equal(adc(bits="lossless").quantiser(*bounds, None).read(sums), sums)


@pytest.mark.parametrize(("span", "top"), [(15, 15), (64, 15), (960, 15), (20, 15), (63, 63)])
def test_integers_are_read_as_by_the_ideal_converter(span, top):
    quantiser = Quantiser(0, top, span / top)
    found = np.floor(quantiser.read(np.arange(2.0 * span)) + 0.5)
    assert found.tolist() == [convert(value, span, top) for value in range(2 * span)]


def test_offset_and_noise_are_in_codes():
    quantiser = Quantiser(-8, 7, 10.0)
    sums = np.array([-30.0, 0.0, 20.0])
    assert quantiser.read(sums, 1.0).tolist() == [-20.0, 10.0, 30.0]
    assert quantiser.read(sums, 0.49).tolist() == sums.tolist()
    assert quantiser.read(sums, 100.0).tolist() == [70.0] * 3
