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
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from archsim.cost.sram import CACTI_TEMPERATURE_K, SramFigures, sram
from archsim.errors import ConfigError, nearest
from archsim.hardware.loading import CORE_SCHEMA

MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 16

Confidence = Literal["published", "cacti", "derived", "assumed"]
"""From printed in the source, over computed by CACTI and arithmetic on those, to our choice (tables/README.md)."""

_PREFIX = {"area_mm2": "mm2", "parts_mm2": "mm2", "energy_pj": "pJ", "power_mw": "mW"}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SramSize(_Model):
    """The memory that an entry's value was found for."""

    capacity_bytes: int = Field(gt=0)
    width_bits: int = Field(gt=0)
    ports: Literal["1rw", "1r1w"]


class SramTechnology(_Model):
    """Which rows of the CACTI table a cost table uses, and at which temperature [K] memories leak."""

    node_nm: int
    variant: Literal["itrs-hp", "itrs-lop", "itrs-lstp"]
    temperature_k: float = Field(CACTI_TEMPERATURE_K, ge=300, le=400)
    source: str = Field(min_length=10)
    confidence: Confidence

    def figures(self, capacity_bytes: int, width_bits: int, ports: str) -> SramFigures:
        """CACTI's figures of one memory in this technology; ConfigError outside the table."""
        return sram(self.node_nm, self.variant, capacity_bytes, width_bits, ports, self.temperature_k)


class Entry(_Model):
    """One number with its unit, technology node, source and confidence; the module says what it is worth."""

    value: float = Field(ge=0, le=1e12)
    unit: str = Field(min_length=1)
    node_nm: int | None
    source: str = Field(min_length=10)
    confidence: Confidence
    per: Annotated[tuple[str, ...], Field(strict=False)] = ()
    cacti: Literal["read_energy_pj", "write_energy_pj", "leakage_mw", "area_mm2"] | None = None
    relative_to: SramSize | None = None


def _as_list(entries: Any) -> Any:
    return [entries] if isinstance(entries, dict) else entries


Entries = Annotated[tuple[Entry, ...], BeforeValidator(_as_list), Field(strict=False, min_length=1)]


class Family(_Model):
    """What blocks of one family cost; the module docstring says how."""

    area_mm2: Entries
    energy_pj: dict[str, Entries] = {}
    power_mw: dict[str, Entries] = {}
    parts_mm2: dict[str, Entries] = {}

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Every entry with its dotted path, such as ``energy_pj.join``."""
        for entry in self.area_mm2:
            yield "area_mm2", entry
        for quantity in ("energy_pj", "power_mw", "parts_mm2"):
            for name, entries in getattr(self, quantity).items():
                for entry in entries:
                    yield f"{quantity}.{name}", entry


class CostTable(_Model):
    """Prices of hardware families: see the module docstring for the format and the meaning."""

    name: str = Field(min_length=1)
    title: str = Field(min_length=1)
    sram: SramTechnology | None = None
    families: dict[str, Family] = Field(min_length=1)

    @model_validator(mode="after")
    def _entries_are_consistent(self) -> Self:
        problems = []
        for family, prices in self.families.items():
            for path, entry in prices.entries():
                wanted = _PREFIX[path.partition(".")[0]]
                is_factor = entry.cacti is not None and entry.relative_to is None
                if entry.unit != "1" if is_factor else not entry.unit.startswith(wanted):
                    allowed = "1 (a factor of a CACTI figure)" if is_factor else f"{wanted}..."
                    problems.append(f"families.{family}.{path}.unit: wrong unit, got {entry.unit}; allowed: {allowed}")
                if entry.relative_to is not None and entry.cacti is None:
                    problems.append(f"families.{family}.{path}.relative_to: needs cacti to say which figure")
                if entry.cacti is not None and self.sram is None:
                    problems.append(f"families.{family}.{path}.cacti: the table has no sram technology")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Every entry of the table with its dotted path, such as ``logic.tppe.energy_pj.join``."""
        for name, family in self.families.items():
            for path, entry in family.entries():
                yield f"{name}.{path}", entry

    def at_temperature(self, temperature_k: float) -> CostTable:
        """The same table with its memories at ``temperature_k`` [K]; ConfigError outside 300 to 400 K."""
        if self.sram is None:
            return self
        if not 300 <= temperature_k <= 400:
            raise ConfigError(f"temperature_k: outside the table, got {temperature_k:g}; allowed: 300 to 400")
        return self.model_copy(update={"sram": self.sram.model_copy(update={"temperature_k": float(temperature_k)})})


def table_names() -> list[str]:
    """The tables that come with archsim."""
    names = (entry.name for entry in (files(__package__) / "tables").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def load_table(name_or_path: str | Path, technology_nm: int | None = None) -> CostTable:
    """The table called ``name_or_path`` (:func:`table_names`), or the one in that file if it ends in .yaml or .yml.

    Raises ConfigError with every problem of the file, ``path:line:column key.path: what is wrong, got X``, and if its
    memories are of another node than ``technology_nm``: prices are never scaled silently.
    """
    table = _load(name_or_path)
    if technology_nm is not None and table.sram is not None and table.sram.node_nm != technology_nm:
        raise ConfigError(
            f"technology_nm: got {technology_nm}; allowed: {table.sram.node_nm}, that of the cost table {table.name}"
        )
    return table


def _load(name_or_path: str | Path) -> CostTable:
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        return _parse(_read(Path(text)), text)
    if text not in table_names():
        names = table_names()
        allowed = f"{', '.join(names)}, or a .yaml file{nearest(text, names)}"
        raise ConfigError(f"cost table: unknown name, got {text!r}; allowed: {allowed}")
    return _shipped(text)


@cache
def _shipped(name: str) -> CostTable:
    return _parse((files(__package__) / "tables" / f"{name}.yaml").read_text("utf-8"), f"{name}.yaml")


def _read(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: cost table is not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        text = content.decode()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL character in the path
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"{path}: cost table cannot be read: {reason}") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: cost table is larger than {MAX_FILE_BYTES} bytes")
    return text


class _Loader(yaml.SafeLoader):
    """Numbers as in hardware files: ``010`` and ``1:30`` are text."""

    yaml_implicit_resolvers = CORE_SCHEMA


def _parse(text: str, where: str) -> CostTable:
    """The table in the YAML ``text`` that came from the file ``where``."""
    positions: dict[tuple[str, ...], str] = {}
    problems: list[str] = []

    def at(mark: Any) -> str:
        return f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where

    def note(node: yaml.Node, path: tuple[str, ...]) -> None:
        # Only words are kept of a path: items of a list share the position of their list.
        positions.setdefault(path, at(node.start_mark))
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                note(item, path)
        elif isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                below = (*path, str(key.value))
                if below in seen:
                    problems.append(f"{at(key.start_mark)} {'.'.join(below)}: is given twice")
                seen.add(below)
                note(value, below)

    try:
        # An alias would let a small file unfold into a huge or endless one; deep nesting takes quadratic time.
        depth = 0
        for event in yaml.parse(text, _Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ConfigError(f"{at(event.start_mark)} nested deeper than {MAX_DEPTH} levels")
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{at(event.start_mark)} alias '*{event.anchor}' is not allowed; write the value out")
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            note(node, ())
        data = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{at(error.problem_mark)} {error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{where}: is not a cost table: {' '.join(str(error).split())[:200]}") from None
    if problems:
        raise ConfigError(problems)
    try:
        return CostTable.model_validate(data)
    except ValidationError as error:
        raise ConfigError([line for details in error.errors() for line in _lines(details, positions, where)]) from None


_FIELDS = [name for model in (CostTable, SramTechnology, Family, Entry, SramSize) for name in model.model_fields]


def _lines(details: Any, positions: dict[tuple[str, ...], str], where: str) -> Iterator[str]:
    """pydantic's error as lines of the house's shape."""
    path = tuple(part for part in details["loc"] if isinstance(part, str))
    if details["type"] == "value_error":
        for problem in str(details["ctx"]["error"]).splitlines():
            dotted, _, message = problem.partition(": ")
            yield f"{_position(dotted, positions, where)} {dotted}: {message}"
        return
    dotted = ".".join(path)
    hint = nearest(path[-1], _FIELDS) if path else ""
    what = {"missing": "is missing", "extra_forbidden": f"is not a known key{hint}"}
    message = what.get(details["type"], details["msg"][:1].lower() + details["msg"][1:])
    got = "" if details["type"] in what else f", got {str(details['input'])[:60]!r}"
    yield f"{_position(dotted, positions, where)} {dotted or 'table'}: {message}{got}"


def _position(dotted: str, positions: dict[tuple[str, ...], str], where: str) -> str:
    """Where the value at ``dotted`` stands, or the closest block around it."""
    found = {".".join(path): position for path, position in positions.items()}
    while dotted and dotted not in found:
        dotted = dotted.rpartition(".")[0]
    return found.get(dotted, where)
