"""Numbers as people read them: as many digits as there is room for, and as many of each in a row of them."""

from __future__ import annotations


def rounded(value: float, digits: int = 3) -> str:
    """``value`` with so many significant digits, zeros at the end among them: ``3.10``, ``1,234``."""
    if abs(value) >= 10**digits - 0.5 or not value:
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}".rstrip(".")
