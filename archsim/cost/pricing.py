"""Energy = action counts x table, area = inventory x table.

Energy of a run of ``cycles`` at ``clock_mhz``::

    action (u, a):   count x price(u, a)                                     [pJ]
    always (u, p):   instances x power(u, p) [mW] x cycles / clock_mhz x 1000  [pJ]     (row count = cycles)

Wire lengths that table entries may ask for follow from the area of the whole inventory A [mm2], seen as a square::

    die_side_mm         sqrt(A)
    switch_length_mm    2/3 sqrt(A): mean distance, along the sides, of two points of the square (1/3 on each axis)
    broadcast_length_mm max(P - 1, 2/3 sqrt(P)) sqrt(A / P) for P ``receivers``: a shortest tree that joins P equal
                        square tiles has P - 1 links of one tile's side; never shorter than one word's way

A component may state such a length itself, as a parameter of that name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsim.cost.sram import CACTI_TEMPERATURE_K
from archsim.cost.table import CostTable, Entry, Family
from archsim.errors import ConfigError, nearest

if TYPE_CHECKING:
    from archsim.hardware.inventory import Component

_WEAKEST_LAST = ("published", "cacti", "derived", "assumed")
_LENGTHS = ("die_side_mm", "switch_length_mm", "broadcast_length_mm")
ANY_ACTION = "*"


@dataclass(frozen=True, slots=True)
class EnergyRow:
    """What ``count`` actions of a unit cost; for what is drawn always (leakage) the count is the cycles."""

    unit: str
    action: str
    count: int
    energy_pj: float


@dataclass(frozen=True, slots=True)
class AreaRow:
    """Area of all instances of a unit, and how far to trust it; 0 where, by its source, another row contains it."""

    unit: str
    instances: int
    area_mm2: float
    source: str
    confidence: str


@dataclass(frozen=True, slots=True)
class PartRow:
    """A part of one instance of a unit; the part ``not itemised`` is what the source's parts leave of its total."""

    unit: str
    part: str
    area_mm2: float
    source: str


@dataclass(frozen=True, slots=True)
class PriceRow:
    """What one action costs (``quantity`` pJ) or what one instance always draws (mW), and how far to trust it."""

    unit: str
    action: str
    price: float
    quantity: str
    confidence: str
    source: str


def energy_rows(
    actions: Mapping[tuple[str, str], int],
    inventory: Sequence[Component],
    table: CostTable,
    cycles: int,
    clock_mhz: float,
) -> list[EnergyRow]:
    """Energy of ``actions`` ((unit, action) -> count) and of ``cycles`` of whatever is always drawn.

    Rows follow the inventory; within a unit actions in alphabetical order, then what is always drawn. Raises one
    ConfigError that lists every action without a price, unit without a family and parameter without a value.
    """
    pricer = _Pricer(inventory, table)
    units = {component.unit for component in inventory}
    pricer.problems += [
        f"{unit}.{action}: the inventory has no unit {unit!r}{nearest(unit, units)}"
        for unit, action in sorted(actions)
        if unit not in units
    ]
    rows = []
    for component, family in pricer.priced():
        for action in sorted(action for unit, action in actions if unit == component.unit):
            count = int(actions[component.unit, action])
            rows.append(EnergyRow(component.unit, action, count, count * pricer.energy_pj(component, family, action)))
        for name, entries in family.power_mw.items():
            power_mw = component.instances * pricer.amount(component, entries, f"power_mw.{name}")
            rows.append(EnergyRow(component.unit, name, int(cycles), power_mw * cycles / clock_mhz * 1e3))
    pricer.finish()
    return rows


def area_rows(inventory: Sequence[Component], table: CostTable) -> list[AreaRow]:
    """Area of each unit, one row per component of the inventory; ConfigError lists all that has no price."""
    pricer = _Pricer(inventory, table)
    rows = [
        AreaRow(
            component.unit,
            component.instances,
            pricer.area_mm2(component, family),
            _source(family.area_mm2),
            _confidence(family.area_mm2),
        )
        for component, family in pricer.priced()
    ]
    pricer.finish()
    return rows


def part_rows(inventory: Sequence[Component], table: CostTable) -> list[PartRow]:
    """What one instance of each unit is made of, where the table knows; the parts add up to the area of an instance."""
    pricer = _Pricer(inventory, table)
    rows = []
    for component, family in pricer.priced():
        parts = [
            PartRow(component.unit, part, pricer.amount(component, entries, f"parts_mm2.{part}"), _source(entries))
            for part, entries in family.parts_mm2.items()
        ]
        if parts:
            total = pricer.amount(component, family.area_mm2, "area_mm2")
            rest = total - sum(part.area_mm2 for part in parts)
            parts.append(PartRow(component.unit, "not itemised", rest, "printed total less the parts (derived)"))
        rows += parts
    pricer.finish()
    return rows


def price_rows(inventory: Sequence[Component], table: CostTable) -> list[PriceRow]:
    """Every price of the inventory: one row per named action and per power, with confidence and source."""
    pricer = _Pricer(inventory, table)
    rows = []
    for component, family in pricer.priced():
        for quantity, path, prices in (("pJ", "energy_pj", family.energy_pj), ("mW", "power_mw", family.power_mw)):
            for name, entries in prices.items():
                price = pricer.amount(component, entries, f"{path}.{name}")
                rows.append(PriceRow(component.unit, name, price, quantity, _confidence(entries), _text(entries)))
    pricer.finish()
    return rows


def slow_memories(inventory: Sequence[Component], table: CostTable, clock_mhz: float) -> list[str]:
    """A line for each memory that, by CACTI, needs more cycles of ``clock_mhz`` than its ``access_cycles``."""
    lines = []
    for component in inventory:
        given = component.parameters.get("access_cycles")
        if table.sram is None or not isinstance(given, int):
            continue
        size = (int(_number(component, "capacity_bytes")), int(_number(component, "width_bits")))
        access_ns = table.sram.figures(*size, str(component.parameters.get("ports"))).access_time_ns
        needed = math.ceil(access_ns * clock_mhz / 1000)
        if needed > given:
            lines.append(
                f"{component.unit}: {size[0]} bytes take {access_ns:.2f} ns (CACTI 7), {needed} cycles at"
                f" {clock_mhz:g} MHz; the machine is described with access_cycles {given}"
            )
    return lines


@dataclass
class _Pricer:
    """Prices the components of one inventory with one table and collects what is missing."""

    inventory: Sequence[Component]
    table: CostTable

    def __post_init__(self) -> None:
        self.problems: list[str] = []
        self._die_area_mm2: float | None = None
        units = [component.unit for component in self.inventory]
        twice = sorted({unit for unit in units if units.count(unit) > 1})
        self.problems += [f"{unit}: occurs twice in the inventory" for unit in twice]

    def finish(self) -> None:
        """Raise what was collected, each problem once."""
        if self.problems:
            raise ConfigError([f"cost table {self.table.name}: {problem}" for problem in dict.fromkeys(self.problems)])

    def priced(self) -> list[tuple[Component, Family]]:
        """The components with their families; notes those that the table does not know."""
        known = []
        for component in self.inventory:
            name = family_name(component)
            family = self.table.families.get(name)
            if family is None:
                hint = nearest(name, self.table.families)
                self.problems.append(f"{component.unit}: no family {name!r}; it prices '{self.table.title}'{hint}")
            else:
                known.append((component, family))
        return known

    def energy_pj(self, component: Component, family: Family, action: str) -> float:
        """Price of one ``action``; notes a missing one."""
        entries = family.energy_pj.get(action) or family.energy_pj.get(ANY_ACTION)
        if entries is None:
            hint = nearest(action, family.energy_pj)
            self.problems.append(f"{component.unit}.{action}: no price in {family_name(component)}{hint}")
            return 0.0
        return self.amount(component, entries, f"energy_pj.{action}")

    def area_mm2(self, component: Component, family: Family) -> float:
        """Area of all instances."""
        return component.instances * self.amount(component, family.area_mm2, "area_mm2")

    def amount(self, component: Component, entries: Iterable[Entry], path: str) -> float:
        """What ``entries`` are worth for one instance of ``component``; notes what they need and do not find."""
        try:
            return math.fsum(self._worth(component, entry, path) for entry in entries)
        except ConfigError as error:
            self.problems += [f"{component.unit}.{path}: {problem}" for problem in error.problems]
            return 0.0

    def _worth(self, component: Component, entry: Entry, path: str) -> float:
        worth = entry.value
        for name in entry.per:
            worth *= self._length_mm(component, name) if self._is_length(component, name) else _number(component, name)
        if entry.cacti is not None and self.table.sram is not None:
            size = (int(_number(component, "capacity_bytes")), int(_number(component, "width_bits")))
            worth *= getattr(self.table.sram.figures(*size, str(component.parameters.get("ports"))), entry.cacti)
            if entry.relative_to is not None:
                reference = self.table.sram.model_copy(update={"temperature_k": CACTI_TEMPERATURE_K})
                worth /= getattr(reference.figures(**entry.relative_to.model_dump()), entry.cacti)
        return worth

    def _is_length(self, component: Component, name: str) -> bool:
        return name in _LENGTHS and name not in component.parameters

    def _length_mm(self, component: Component, name: str) -> float:
        """A wire length that follows from the die area: the module docstring has the equations."""
        if self._die_area_mm2 is None:
            self._die_area_mm2 = math.fsum(self.area_mm2(other, family) for other, family in self.priced())
        side_mm = math.sqrt(self._die_area_mm2)
        if name == "switch_length_mm":
            return 2 / 3 * side_mm
        if name == "broadcast_length_mm":
            receivers = _number(component, "receivers")
            return max(receivers - 1, 2 / 3 * math.sqrt(receivers)) * side_mm / math.sqrt(receivers)
        return side_mm


def family_name(component: Component) -> str:
    """The family of the cost table that prices ``component``: its kind, with the block name for the kind ``logic``."""
    return f"logic.{component.parameters.get('block')}" if component.kind == "logic" else component.kind


def _number(component: Component, name: str) -> float:
    value = component.parameters.get(name)
    if not isinstance(value, int | float) or value < 0:
        raise ConfigError(f"needs the parameter {name!r}, a number not below 0, got {value!r}")
    return value


def _confidence(entries: Iterable[Entry]) -> str:
    """The weakest confidence among ``entries``."""
    return max((entry.confidence for entry in entries), key=_WEAKEST_LAST.index)


def _text(entries: Iterable[Entry]) -> str:
    return "; ".join(dict.fromkeys(entry.source for entry in entries))


def _source(entries: Sequence[Entry]) -> str:
    return f"{_text(entries)} ({_confidence(entries)})"
