"""How long a product takes."""

import pytest

from archsim.hardware.analog.timing import ReadTiming

PUMA = {"driver_bits": 1, "array_ps": 2_000, "adc_columns": 128, "adc_msps": 1_280, "digital_ps": 1_000}


def test_puma():
    """128 columns at 1.28 GS/s and inputs of 16 bits: 100 ns (16 + 3 - 1) = 1,800 ns."""
    timing = ReadTiming(**PUMA)
    assert timing.stage_ps() == 100_000
    assert timing.product_ps(16) == 1_800_000


@pytest.mark.parametrize(
    ("said", "input_bits", "expected"),
    [
        ({"driver_bits": 2}, 16, 100_000 * 10),
        ({"driver_bits": 8}, 1, 100_000 * 3),
        ({"adc_columns": 8}, 1, 6_250 * 3),
        ({"adc_columns": 1, "array_ps": 20_000}, 4, 20_000 * 6),
        ({"adc_columns": 1, "digital_ps": 30_001}, 4, 30_001 * 6),
        ({"adc_columns": 3, "adc_msps": 1_001}, 1, 2_998 * 3),
    ],
)
def test_the_longest_stage_counts(said, input_bits, expected):
    assert ReadTiming(**{**PUMA, **said}).product_ps(input_bits) == expected
