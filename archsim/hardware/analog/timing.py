"""How long an array takes for a product, as a configuration of three stages.

An input of b bits goes through ceil(b / driver_bits) cycles, and every cycle through three stages that overlap: drive
rows and settle (``array``), convert the columns one after the other, shift and add (``digital``). All stages take as
long as the longest:

    T = max(t_array, k / rate, t_digital) (cycles + 3 - 1),          k columns a converter.

Source: PUMA (src/ima.py, include/constants.py): 128 columns at 1.28 GS/s take 100 ns, an input of 16 bits 1,800 ns.
"""

from __future__ import annotations

from pydantic import Field

from archsim.hardware.loading import Block

STAGES = 3


class ReadTiming(Block):
    """Stages of a read."""

    driver_bits: int = Field(ge=1, le=8, description="bits of an input that a row takes at once")
    array_ps: int = Field(ge=1, le=10**9, description="drive the rows and let the columns settle [ps]")
    adc_columns: int = Field(ge=1, le=1024, description="columns that share a converter")
    adc_msps: int = Field(ge=1, le=10**6, description="conversions of a converter in a microsecond")
    digital_ps: int = Field(ge=1, le=10**9, description="shift and add [ps]")

    def stage_ps(self) -> int:
        """Duration of a stage [ps]."""
        return max(self.array_ps, -(-self.adc_columns * 1_000_000 // self.adc_msps), self.digital_ps)

    def product_ps(self, input_bits: int) -> int:
        """Duration of one product of an input of ``input_bits`` bits [ps]."""
        return self.stage_ps() * (-(-input_bits // self.driver_bits) + STAGES - 1)
