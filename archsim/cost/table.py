"""Cost tables: what a table says and how it is read.

A table prices *families* of hardware blocks. The family of a component is its ``kind``, or ``logic.<block>`` for the
kind ``logic`` with a parameter ``block``. Each family says what an action costs, what an instance draws in every
cycle, and what area it takes::

    name: loas_32nm
    title: ...
    sram: {node_nm: 32, variant: itrs-lop, temperature_k: 360, source: ..., confidence: ...}
    families:
      logic.tppe:
        area_mm2: ENTRIES                   # of one instance
        energy_pj: {fast_prefix: ENTRIES}   # of one action; the action "*" prices every action not named
        power_mw: {leakage: ENTRIES}        # of one instance, always
        parts_mm2: {accumulators: ENTRIES}  # what the area is made of, for people; never charged

ENTRIES is one entry or a list of entries that add up. An entry is worth::

    value x (every component parameter named in ``per``) x (CACTI figure named in ``cacti``)

where the CACTI figure is that of the component (``capacity_bytes``, ``width_bits``, ``ports``) in the table's SRAM
technology, divided by that of ``relative_to`` if given. ``per`` may also name a length that
:mod:`archsim.cost.pricing` derives from the die area. ``unit`` is the unit of ``value``: pJ..., mW... or mm2..., or
``1`` where ``value`` is a plain factor of a CACTI figure. Every entry carries its ``source``, the ``node_nm`` it holds
for (null off chip, and where a memory device decides) and how far to trust it (:data:`Confidence`).

The files are read as hardware files are: see :mod:`archsim.hardware.loading`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from archsim.cost.sram import CACTI_TEMPERATURE_K, SramFigures, sram
from archsim.errors import ConfigError, nearest, printable
from archsim.hardware.loading import Block, CrossFieldError, load_block

Confidence = Literal["published", "cacti", "derived", "assumed"]
"""From printed in the source, over computed by CACTI and arithmetic on those, to our choice (tables/README.md)."""

MOST_PARAMETERS = 8
"""Of an entry: their product is a number, whatever they are."""
_PREFIX = {"area_mm2": "mm2", "parts_mm2": "mm2", "energy_pj": "pJ", "power_mw": "mW"}


class SramSize(Block):
    """The memory that an entry's value was found for."""

    capacity_bytes: int = Field(gt=0)
    width_bits: int = Field(gt=0)
    ports: Literal["1rw", "1r1w"]


class SramTechnology(Block):
    """Which rows of the CACTI table a cost table uses, and at which temperature [K] memories leak."""

    node_nm: int
    variant: Literal["itrs-hp", "itrs-lop", "itrs-lstp"]
    temperature_k: float = Field(CACTI_TEMPERATURE_K, ge=300, le=400)
    source: str = Field(min_length=10)
    confidence: Confidence

    def figures(self, capacity_bytes: int, width_bits: int, ports: str) -> SramFigures:
        """CACTI's figures of one memory in this technology; ConfigError outside the table."""
        return sram(self.node_nm, self.variant, capacity_bytes, width_bits, ports, self.temperature_k)


class Entry(Block):
    """One number with its unit, technology node, source and confidence; the module says what it is worth."""

    value: float = Field(ge=0, le=1e12)
    unit: str = Field(min_length=1)
    node_nm: int | None
    source: str = Field(min_length=10)
    confidence: Confidence
    per: Annotated[tuple[str, ...], Field(max_length=MOST_PARAMETERS)] = ()
    cacti: Literal["read_energy_pj", "write_energy_pj", "leakage_mw", "area_mm2"] | None = None
    relative_to: SramSize | None = None


def _as_tuple(entries: Any) -> Any:
    return (entries,) if isinstance(entries, dict) else entries


Entries = Annotated[tuple[Entry, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class Family(Block):
    """What blocks of one family cost; the module docstring says how."""

    area_mm2: Entries
    energy_pj: dict[str, Entries] = Field(default_factory=dict)
    power_mw: dict[str, Entries] = Field(default_factory=dict)
    parts_mm2: dict[str, Entries] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _units_fit(self) -> Self:
        problems = {}
        for path, entry in self.entries():
            wanted = _PREFIX[path.partition(".")[0]]
            is_factor = entry.cacti is not None and entry.relative_to is None
            if entry.unit != "1" if is_factor else not entry.unit.startswith(wanted):
                allowed = "1 (a factor of a CACTI figure)" if is_factor else f"{wanted}..."
                problems[f"{path}.unit"] = f"wrong unit, got {printable(entry.unit, 40)}; allowed: {allowed}"
            if entry.relative_to is not None and entry.cacti is None:
                problems[f"{path}.relative_to"] = "needs cacti to say which figure"
        if problems:
            raise CrossFieldError(problems)
        return self

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Every entry with its dotted path, such as ``energy_pj.join``."""
        for entry in self.area_mm2:
            yield "area_mm2", entry
        for quantity in ("energy_pj", "power_mw", "parts_mm2"):
            for name, entries in getattr(self, quantity).items():
                for entry in entries:
                    yield f"{quantity}.{name}", entry


class CostTable(Block):
    """Prices of hardware families: see the module docstring for the format and the meaning."""

    name: str = Field(min_length=1)
    title: str = Field(min_length=1)
    sram: SramTechnology | None = None
    families: dict[str, Family] = Field(min_length=1)

    @model_validator(mode="after")
    def _figures_have_a_technology(self) -> Self:
        needing = [path for path, entry in self.entries() if entry.cacti is not None]
        if needing and self.sram is None:
            raise CrossFieldError({"sram": f"missing; {needing[0]} needs a CACTI figure from it"})
        return self

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Every entry of the table with its dotted path, such as ``logic.tppe.energy_pj.join``."""
        for name, family in self.families.items():
            for path, entry in family.entries():
                yield f"{name}.{path}", entry


def table_names() -> list[str]:
    """The tables that come with archsim."""
    names = (entry.name for entry in (files(__package__) / "tables").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def load_table(name_or_path: str | Path, technology_nm: int | None = None) -> CostTable:
    """The table called ``name_or_path`` (:func:`table_names`), or the one in that file if it ends in .yaml or .yml.

    Raises ConfigError with every problem of the file, ``path:line:column key.path: what is wrong, got X``, and if its
    memories are of another node than ``technology_nm``: prices are never scaled silently.
    """
    path = table_file(name_or_path)
    table = _load(path) if str(path) == str(name_or_path) else _shipped(path)
    if technology_nm is not None and table.sram is not None and table.sram.node_nm != technology_nm:
        raise ConfigError(
            f"technology_nm: got {technology_nm}; allowed: {table.sram.node_nm}, that of the cost table {table.name}"
        )
    return table


def table_file(name_or_path: str | Path) -> Path:
    """The file of the table called ``name_or_path``; ConfigError if it is neither a known name nor one of a file."""
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        return Path(text)
    names = table_names()
    if text not in names:
        allowed = f"{', '.join(names)}, or a .yaml file{nearest(text, names)}"
        raise ConfigError(f"cost table: unknown name, got {printable(repr(text), 80)}; allowed: {allowed}")
    return Path(str(files(__package__) / "tables" / f"{text}.yaml"))


def _load(path: Path) -> CostTable:
    return load_block(path, CostTable, "a cost table")


_shipped = cache(_load)
