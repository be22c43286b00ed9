"""Numbers as people read them."""

import pytest

from archsim.report.rounding import rounded


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (3.1, 3, "3.10"), (0.5, 3, "0.500"), (12.0, 3, "12.0"), (123.4, 3, "123"), (999.4, 3, "999"),
        (999.6, 3, "1,000"), (1234567, 3, "1,234,567"), (0, 3, "0"), (-3.1, 3, "-3.10"),
        (3.0, 2, "3.0"), (0.25, 2, "0.25"), (9.96, 2, "10"), (52.4, 2, "52"), (99.6, 2, "100"), (350, 2, "350"),
    ],
)  # fmt: skip
def test_zeros_at_the_end_are_digits_too(value, digits, text):
    assert rounded(value, digits) == text
