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
