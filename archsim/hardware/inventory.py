"""What a machine is built of: the list that area and energy are computed from.

An accelerator returns one :class:`Component` per kind of block. ``unit`` is the name under which actions are counted
and reported; ``kind`` names a row family of the cost table; ``parameters`` are the sizes that its price depends on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Component:
    """``instances`` equal blocks called ``unit``, priced as ``kind`` with ``parameters`` (units in their names)."""

    unit: str
    kind: str
    instances: int
    parameters: Mapping[str, int | float | str] = field(default_factory=dict)


def ram(unit: str, instances: int, capacity_bytes: int, width_bits: int) -> Component:
    """SRAMs with a port to read and one to write, in sizes that CACTI knows: 8 to 512 bits wide, 32 words and 64 bytes
    at least.

    A smaller memory is priced as the smallest that there is, a wider one must be several side by side.
    """
    width = min(512, max(8, width_bits))
    least = max(64, 4 << (width - 1).bit_length())
    size: dict[str, int | float | str] = {
        "capacity_bytes": max(least, capacity_bytes), "width_bits": width, "ports": "1r1w",
    }  # fmt: skip
    return Component(unit, "sram", instances, size)
