"""Hardware files: YAML in, one validated, immutable description of a machine out.

A machine is described by nested :class:`Block` classes. Each accelerator has a top one, its ``Config``, which declares
``accelerator: Literal["<its name>"]`` and everything else that its file may say::

    class Pe(Block):
        count: int = Field(16, ge=1, le=1024, description="processing elements", json_schema_extra={"source": "..."})

    class Config(Block):
        accelerator: Literal["loas"]
        clock_mhz: int = Field(ge=1, le=10_000, description="base clock [MHz]")
        pe: Pe = Pe()

        @model_validator(mode="after")
        def _rows_fit(self) -> Self:
            if self.pe.count % 2:
                raise CrossFieldError({"pe.count": "must be even"})
            return self

:func:`load_machine` reads the file, applies overrides (``pe.count=32``), picks the Config by the key ``accelerator``
and reports *every* problem of the file and of the overrides at once, each with its position. :func:`load_block` reads
any other file that one Block describes in the same way.

A block of a hardware file may extend the block in the same place of another one::

    extends: loas                  # the whole machine of loas.yaml,
    pe.count: 32                   # but for what stands here; a key may be a path

    memory: {extends: loas}        # or one block of it

The name is that of a file that comes with archsim, or a path from the folder of the file that says it. What stands in
the file goes before what it extends; blocks are laid over each other key by key, all other values are replaced.

What a hardware file may contain is the plain part of YAML 1.2: one document of mappings, lists and scalars. Numbers
follow the core schema (``1e9`` is a number, ``yes`` and ``010`` are text). Anchors, aliases, merge keys, tags and
duplicate keys are refused: a machine file is read by people, and each value must stand where it is used. An integer
field takes only integers, a number field takes both, and quoted numbers are text.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from archsim import examples
from archsim.errors import MOST_PROBLEMS, ConfigError, is_follow_up, nearest, printable

MAX_FILE_BYTES = 1 << 16
MAX_DEPTH = 32
MAX_EXTENDED = 8
"""Files that extend each other, one behind the other."""
MAX_VALUES = 5_000
"""Blocks, keys and values of a file: twenty times those of the largest machine."""
INT64 = range(-(1 << 63), 1 << 63)

KeyPath = tuple[str | int, ...]


class Block(BaseModel):
    """A part of a machine file: immutable, no unknown keys, no silent conversion, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)


BlockT = TypeVar("BlockT", bound=Block)


class CrossFieldError(ValueError):
    """Raised in a Block's validator when fields contradict each other: what is wrong, by path below that Block."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("; ".join(f"{path}: {message}" for path, message in self.problems.items()))


class FieldRow(NamedTuple):
    """One value of a machine, for people: where it stands, what it means, where it comes from."""

    path: str
    value: object
    is_default: bool
    description: str
    source: str


def load_machine(path: str | Path, registry: Mapping[str, type[BlockT]], overrides: Sequence[str] = ()) -> BlockT:
    """The machine described by the file at ``path`` with ``overrides`` (``"pe.count=32"``) applied.

    ``registry`` maps the allowed values of the key ``accelerator`` to the Config class that validates the file.
    Raises ConfigError with one line per problem: ``path:line:column key.path: what is wrong, got X; allowed: Y``.
    """
    document = _read_machine(path, examples.find(path))
    for override in overrides:
        document.override(override)
    return _validated(document, _config_class(document, registry))


def load_block(path: str | Path, block_class: type[BlockT], kind: str, overrides: Sequence[str] = ()) -> BlockT:
    """The ``block_class`` that the file at ``path`` describes, with ``overrides`` applied.

    ``kind`` is what the file should be, such as "a network". Raises ConfigError as :func:`load_machine` does.
    """
    document = _Document(str(path))
    document.parse(_read_text(Path(path), kind), kind)
    for override in overrides:
        document.override(override)
    return _validated(document, block_class)


def machine_files(path: str | Path) -> list[Path]:
    """The hardware file ``path`` and those that it extends, each once. Raises ConfigError if one cannot be read."""
    return list(_read_machine(path, examples.find(path)).files)


def _read_machine(
    name: str | Path, file: Path, readers: tuple[Path, ...] = (), known: dict[Path, _Document] | None = None
) -> _Document:
    """The document of a hardware file, with what it extends.

    ``readers`` are the files that extend it, ``known`` those that were read: each is read once, however often it is
    extended.
    """
    known = {} if known is None else known
    document = _Document(str(name))
    document.files.append(file)
    document.parse(_read_text(file), "a machine, starting with 'accelerator: NAME'")
    for path in list(_extending(document.data)):
        _extend(document, path, file, (*readers, Path(os.path.realpath(file))), known)
    if document.lacking:  # what is missing in the rest would be said for no reason
        raise ConfigError(document.sorted_problems())
    return document


def _extending(block: Mapping[str, Any], path: KeyPath = ()) -> Iterator[KeyPath]:
    """Where blocks that extend another file stand."""
    if "extends" in block:
        yield path
    for key, value in block.items():
        if isinstance(value, dict):
            yield from _extending(value, (*path, key))


def _extend(
    document: _Document, path: KeyPath, file: Path, readers: tuple[Path, ...], known: dict[Path, _Document]
) -> None:
    """Lay the block at ``path`` over that of the file that it extends."""
    block = document.value(path)
    name, where = block.pop("extends"), document.origins.pop((*path, "extends"))
    document.key_origins.pop((*path, "extends"))
    document.spell_out(path)
    if name is _REFUSED:
        return
    if not isinstance(name, str) or "\0" in name:
        message = f"must be the name or path of a hardware file, got {_show(name)}"
        document.lack(where, path, message)
        return
    beside, shipped = file.parent / name, examples.find(name)
    base_file = shipped if shipped.is_file() and not beside.is_file() else beside
    real = Path(os.path.realpath(base_file))  # Path.resolve fails at links in circles
    if real in readers:
        document.lack(where, path, f"{printable(name)} extends this file, or is it")
        return
    if len(readers) > MAX_EXTENDED:
        document.lack(where, path, f"more than {MAX_EXTENDED} files that extend each other")
        return
    try:
        if real not in known:
            known[real] = _read_machine(name, base_file, readers, known)
        base = known[real]
    except ConfigError as error:
        for problem in error.problems:
            document.lack(where, path, problem)
        return
    document.files += [found for found in base.files if found not in document.files]
    document.problems += base.problems
    below = base.value(path)
    if not isinstance(below, dict):
        document.lack(where, path, f"{printable(name)} has no block there")
        return
    document.lay_over(base, path)


def _validated(document: _Document, block_class: type[BlockT] | None) -> BlockT:
    block = None
    if block_class is not None:
        try:
            block = block_class.model_validate(document.data)
        except ValidationError as error:
            _Translator(document, block_class).report(error)
    if block is None or document.problems:
        raise ConfigError(document.sorted_problems())
    return block


def explained_values(
    path: str | Path, config: Block, overrides: Iterable[str] = ()
) -> list[tuple[str, object, str, str, str]]:
    """Every value of a machine: path, value, who gave it (file, the name of a file that it extends, override or
    default), meaning, source.

    A value's source is the comment behind it in its file; an overridden value has none.
    """
    document = _read_machine(path, examples.find(path))
    comments = _comments(document)
    overridden = tuple(f"{override_path(override)}." for override in overrides)
    found = []
    for row in field_rows(config):
        own = _giver(document, row.path)
        given = "override" if f"{row.path}.".startswith(overridden) else "default" if row.is_default else own
        source = comments.get(row.path, row.source) if given == own else row.source
        found.append((row.path, row.value, given, row.description, source))
    return found


def _giver(document: _Document, path: str) -> str:
    """Who gave the value at the dotted ``path``, if it is no default: the file, or one that it extends by its name."""
    parts = path.split(".")
    names = (document.inherited.get(tuple(parts[:end])) for end in range(len(parts), 0, -1))
    return next((name for name in names if name is not None), "file")


def _comments(document: _Document) -> dict[str, str]:
    """What stands behind the values: the comment of each scalar's line, by path. This is where sources stand."""
    lines = {file: _read_text(file).splitlines() for file in document.files}
    found: dict[str, str] = {}
    for path, (file, line, column) in document.ends.items():
        rest = lines[file][line][column:].strip() if line < len(lines[file]) else ""
        if rest.startswith("#"):
            found[_dotted(path)] = rest.lstrip("# ")
    return found


def header_of(path: str | Path) -> str:
    """The comment at the top of a hardware file: the papers, and how sources are abbreviated below."""
    lines = examples.find(path).read_text(encoding="utf-8").splitlines()
    header = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in header)


def override_path(override: str) -> str:
    """The dotted path of ``"pe.count=32"``."""
    return ".".join(part.strip() for part in override.partition("=")[0].split("."))


def resolved_yaml(config: Block) -> str:
    """The whole machine after defaults and overrides, as YAML that :func:`load_machine` reads back."""
    return yaml.dump(config.model_dump(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def json_schema(config_class: type[Block]) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the hardware files that ``config_class`` accepts, for editors."""
    schema = config_class.model_json_schema()
    for block in (schema, *schema.get("$defs", {}).values()):
        if "properties" in block:
            block["properties"]["extends"] = {"type": "string", "description": "file whose block lies under this one"}
            block["patternProperties"] = {r"^\w+(\.\w+)+$": {"description": "the value at this path"}}
            complete = {"required": block.pop("required", [])}
            block["anyOf"] = [complete, {"required": ["extends"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def field_rows(config: Block) -> list[FieldRow]:
    """Every value of the machine in file order; ``is_default`` where the file did not say it."""
    return list(_field_rows(config, "", inherited_default=False))


def _field_rows(block: Block, prefix: str, *, inherited_default: bool) -> Iterator[FieldRow]:
    for name, info in type(block).model_fields.items():
        value = getattr(block, name)
        is_default = inherited_default or name not in block.model_fields_set
        if isinstance(value, Block):
            yield from _field_rows(value, f"{prefix}{name}.", inherited_default=is_default)
            continue
        extra = info.json_schema_extra
        source = str(extra.get("source", "")) if isinstance(extra, dict) else ""
        yield FieldRow(f"{prefix}{name}", value, is_default, info.description or "", source)


# ---------------------------------------------------------------------------------------------------------------- YAML


class _Loader(yaml.SafeLoader):
    """YAML's plain part: notes anchors, aliases and tags instead of acting on them, and stops where it is too much."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.complaints: dict[int, str] = {}  # by id of the node
        self.refused: set[int] = set()  # ids of nodes that stand in for a value which is not allowed
        self.depth = 0
        self.values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node; one that is not allowed is replaced, so that the rest of the file is still checked."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        self.values += 1
        if self.values > MAX_VALUES:
            raise yaml.MarkedYAMLError(None, None, f"more than {MAX_VALUES:,} keys and values", mark)
        if self.check_event(yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            return self._refuse(mark, f"alias '*{printable(event.anchor, 80)}' is not allowed; write the value out")
        if self.depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(None, None, f"nested deeper than {MAX_DEPTH} levels", mark)
        anchor, event.anchor = event.anchor, None
        tag, event.tag = event.tag, None
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if tag is not None:
            return self._refuse(mark, f"tag '{printable(tag, 80)}' is not allowed")
        if anchor is not None:
            name = printable(anchor, 80)
            self.complaints[id(node)] = f"anchor '&{name}' is not allowed; write the value out where it is used"
        return node

    def _refuse(self, mark: yaml.Mark, message: str) -> yaml.Node:
        node = yaml.ScalarNode("tag:yaml.org,2002:null", "", mark, mark)
        self.complaints[id(node)] = message
        self.refused.add(id(node))
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes whatever this reader or an older YAML 1.1 reader would not take as text."""


# The core schema of YAML 1.2.2, section 10.3.2, less leading zeros (eight to some readers, ten to others).
_CORE_SCHEMA = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
)
for _kind, _pattern, _first in _CORE_SCHEMA:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), _first)
CORE_SCHEMA = _Loader.yaml_implicit_resolvers
"""What is a number, a truth value or nothing, for a YAML reader: the same in every file of archsim."""


class _Refused:
    """Stands where a value was refused, so that no second complaint is made about it."""

    def __repr__(self) -> str:
        return "(refused)"


_REFUSED = _Refused()


@dataclass
class _Document:
    """The values of a hardware file, where each came from, and what is wrong so far."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)  # "file:line:col" or "--set ..." of each value
    key_origins: dict[KeyPath, str] = field(default_factory=dict)  # the same of each key
    overridden: list[KeyPath] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)  # those that the values stand in
    ends: dict[KeyPath, tuple[Path, int, int]] = field(default_factory=dict)  # file, line and column behind a scalar
    inherited: dict[KeyPath, str] = field(default_factory=dict)  # the name of the file that a value was taken from
    problems: list[tuple[str, str]] = field(default_factory=list)  # (where, the whole line)
    lacking: bool = False  # whether a file that is extended could not be laid under

    def parse(self, text: str, content: str) -> None:
        """Fill in the values of the file, which should hold ``content``; ConfigError when it is not YAML at all."""
        value = self._compose(text, (), self.name, positions=True)
        if value is None:
            raise ConfigError(f"{self.name}: is empty; expected {content}")
        if self.problems and not isinstance(value, dict):
            raise ConfigError(self.sorted_problems())
        if not isinstance(value, dict):
            raise ConfigError(f"{self.name}:1:1: must be a block of 'key: value' lines, got {_show(value)}")
        self.data = value

    def override(self, override: str) -> None:
        """Put the value of ``a.b=VALUE`` in its place."""
        where = f"--set {printable(override, 80)}"
        _, equals, text = override.partition("=")
        path: KeyPath = tuple(override_path(override).split("."))
        if not equals or not all(path):
            self.problem(where, (), "must be PATH=VALUE, such as pe.count=32")
            return
        if len(path) > MAX_DEPTH:
            self.problem(where, (), f"nested deeper than {MAX_DEPTH} levels")
            return
        if earlier := next((self.where(known) for known in self.overridden if known[: len(path)] == path), None):
            self.problem(where, path, f"would undo '{earlier}'; give each path once")
            return
        self.overridden.append(path)
        parent = self.data
        for i, part in enumerate(path[:-1]):
            below = parent.setdefault(str(part), {})
            if below is _REFUSED:
                return
            if not isinstance(below, dict):
                message = f"{_dotted(path[: i + 1])} is a value, not a block with keys, got {_show(below)}"
                self.problem(where, path, message)
                return
            self.origins.setdefault(path[: i + 1], where)
            self.key_origins.setdefault(path[: i + 1], where)
            parent = below
        for origins in (self.origins, self.key_origins):
            for known in [known for known in origins if known[: len(path)] == path]:
                del origins[known]
        self.key_origins[path] = self.origins[path] = where
        try:
            parent[str(path[-1])] = self._compose(text, path, where, positions=False)
        except ConfigError as error:
            self.problems += [(where, problem) for problem in error.problems]
            parent[str(path[-1])] = _REFUSED

    def lack(self, where: str, path: KeyPath, message: str) -> None:
        """Note why the block at ``path`` lacks what it extends."""
        self.problem(where, (*path, "extends"), message)
        self.lacking = True

    def spell_out(self, path: KeyPath) -> None:
        """Put the values of keys such as ``pe.count`` of the block at ``path`` in their places."""
        block = self.value(path)
        for key in [key for key in block if "." in key]:
            given = (*path, key)
            full = (*path, *key.split("."))
            value, where = block.pop(key), self.origins[given]
            if not all(full):
                self.problem(where, given, "a path is words with dots between them, such as pe.count")
                continue
            parent = block
            for end in range(len(path) + 1, len(full)):
                parent = parent.setdefault(str(full[end - 1]), {}) if isinstance(parent, dict) else parent
                self.origins.setdefault(full[:end], where)
                self.key_origins.setdefault(full[:end], where)
            if not isinstance(parent, dict) or full[-1] in parent:
                at = self.where(full if isinstance(parent, dict) else full[:-1])
                self.problem(where, full, f"is given twice, first at {at}")
                continue
            parent[str(full[-1])] = value
            for places in self._places():
                for known in [known for known in places if known[: len(given)] == given]:
                    places[(*full, *known[len(given) :])] = places.pop(known)

    def lay_over(self, base: _Document, path: KeyPath) -> None:
        """Take over from the block at ``path`` of ``base`` what this document does not say."""
        own, its = self.value(path), base.value(path)
        for key, value in its.items():
            below = (*path, key)
            if isinstance(value, dict) and isinstance(own.get(key), dict):
                self.lay_over(base, below)
            elif key not in own:
                own[key] = copy.deepcopy(value)  # other blocks may extend it too
                self.inherited[below] = base.name
                for mine, theirs in zip(self._places(), base._places(), strict=True):
                    mine |= {known: place for known, place in theirs.items() if known[: len(below)] == below}

    def _places(self) -> tuple[dict[KeyPath, Any], ...]:
        """All that is known by path."""
        return self.origins, self.key_origins, self.ends, self.inherited

    def problem(self, where: str, path: KeyPath, message: str) -> None:
        """Note what is wrong at ``path``; the dotted path is left out where ``where`` says it already."""
        said = not path or where.startswith(f"--set {_dotted(path)}=")
        separator = ":" if where.startswith("--set") else ""
        self.problems.append(
            (where, f"{where}: {message}" if said else f"{where}{separator} {_dotted(path)}: {message}")
        )

    def where(self, path: KeyPath, *, of_key: bool = False) -> str:
        """Position of the value (or key) at ``path``, or of the closest block around it."""
        if of_key and path in self.key_origins:
            return self.key_origins[path]
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, self.name)

    def value(self, path: KeyPath) -> Any:
        """The value at ``path``; ``_REFUSED`` where there is none."""
        value: Any = self.data
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return _REFUSED
        return value

    def sorted_problems(self) -> list[str]:
        """Problems in the order of the file, then of the overrides."""
        ordered = sorted(self.problems, key=lambda problem: _natural(problem[0]))
        return list(dict.fromkeys(line for _, line in ordered))

    def _compose(self, text: str, path: KeyPath, where: str, *, positions: bool) -> Any:
        """Values of the YAML ``text`` placed at ``path``; notes their origins and what the format refuses."""

        def at(mark: yaml.Mark) -> str:
            return f"{where}:{mark.line + 1}:{mark.column + 1}" if positions else where

        try:
            loader = _Loader(text)
            node = loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = ", ".join(part for part in (error.context, error.problem) if part)
            if "expected a single document" in what:
                what = "must be a single document; remove the second '---'"
            raise ConfigError(f"{at(mark) if mark else where}: {printable(what)}") from error
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            column = error.position - text.rfind("\n", 0, error.position)
            spot = f"{where}:{line}:{column}" if positions else where
            raise ConfigError(f"{spot}: contains the unprintable character U+{error.character:04X}") from error
        except (ValueError, OverflowError) as error:  # an escape beyond Unicode, a number of very many digits
            raise ConfigError(f"{where}: is not YAML: {printable(error)}") from error
        return None if node is None else self._build(loader, node, path, at)

    def _build(self, loader: _Loader, node: yaml.Node, path: KeyPath, at: typing.Callable[[yaml.Mark], str]) -> Any:
        self.origins[path] = at(node.start_mark)
        if id(node) in loader.complaints:
            self.problem(self.origins[path], path, loader.complaints[id(node)])
        if id(node) in loader.refused:
            return _REFUSED
        if isinstance(node, yaml.MappingNode):
            return self._build_mapping(loader, node, path, at)
        if isinstance(node, yaml.SequenceNode):
            # A tuple, because configurations are immutable.
            return tuple(self._build(loader, item, (*path, i), at) for i, item in enumerate(node.value))
        if self.files:
            self.ends[path] = self.files[0], node.end_mark.line, node.end_mark.column
        return self._build_scalar(node, path)

    def _build_mapping(
        self, loader: _Loader, node: yaml.MappingNode, path: KeyPath, at: typing.Callable[[yaml.Mark], str]
    ) -> dict[str, Any]:
        block: dict[str, Any] = {}
        for key_node, value_node in node.value:
            where = at(key_node.start_mark)
            key = key_node.value
            if id(key_node) in loader.complaints:
                self.problem(where, path, loader.complaints[id(key_node)])
            elif not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                shown = printable(key, 80) if isinstance(key, str) else "a list or block"
                self.problem(where, path, f"a key must be a word, got {shown or 'nothing'}")
            elif key == "<<":
                self.problem(where, path, "merge key '<<' is not allowed; write the keys out")
            elif key in block:
                self.problem(where, (*path, key), f"is given twice, first at {self.key_origins[(*path, key)]}")
            else:
                self.key_origins[(*path, key)] = where
                block[key] = self._build(loader, value_node, (*path, key), at)
        return block

    def _build_scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        text: str = node.value
        match node.tag.removeprefix("tag:yaml.org,2002:"):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                if len(text) <= 20 and (value := int(text, 0)) in INT64:
                    return value
                self.problem(self.origins[path], path, f"is too large for a 64-bit integer, got {printable(text, 60)}")
                return _REFUSED
            case "float":
                return float(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1].isalpha() else text)
        return text


def _read_text(path: Path, kind: str = "a hardware file") -> str:
    """The text of the file, which should be of that kind, or a ConfigError that says why there is none."""
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: is a directory; expected {kind} (YAML)")
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: is not a regular file; expected {kind} (YAML)")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        siblings = list(examples.machines()) if len(path.parts) == 1 else []
        with contextlib.suppress(OSError):
            siblings += [entry.name for entry in path.parent.iterdir()]
        raise ConfigError(f"{path}: no such file{nearest(path.name, siblings)}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"{printable(path)}: cannot be read: {reason}") from None
    if content.startswith(b"PK"):
        raise ConfigError(f"{path}: is a zip file, as a trace is; expected a hardware file (YAML)")
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_FILE_BYTES} bytes; expected {kind} (YAML)")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        byte = f"0x{content[error.start]:02x}"
        raise ConfigError(
            f"{path}:{line}:{column}: is not UTF-8 text, got byte {byte}; expected {kind} (YAML)"
        ) from None


def _config_class(document: _Document, registry: Mapping[str, type[BlockT]]) -> type[BlockT] | None:
    """The Config class that the file asks for; notes a problem when there is no such accelerator."""
    allowed = ", ".join(sorted(registry))
    name = document.data.get("accelerator")
    if name is _REFUSED:
        return None
    if "accelerator" not in document.data:
        document.problem(f"{document.name}:1:1", ("accelerator",), f"missing; allowed: {allowed}")
    elif not isinstance(name, str) or name not in registry:
        hint = nearest(name, registry) if isinstance(name, str) else ""
        where = document.where(("accelerator",))
        document.problem(where, ("accelerator",), f"unknown accelerator, got {_show(name)}; allowed: {allowed}{hint}")
    else:
        return registry[name]
    return None


# ------------------------------------------------------------------------------------------------------------ messages

_WORDS = {
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "finite_number": "must be a finite number",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be text without half characters (surrogates)",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "list_type": "must be a list, such as [1, 2]",
    "tuple_type": "must be a list, such as [1, 2]",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "model_type": "must be a block of 'key: value' lines",
    "model_attributes_type": "must be a block of 'key: value' lines",
    "dict_type": "must be a block of 'key: value' lines",
    "none_required": "must be empty",
}


@dataclass
class _Translator:
    """Turns pydantic's errors into lines of a document's problems."""

    document: _Document
    config_class: type[Block]

    def report(self, error: ValidationError) -> None:
        """Note each error of ``error`` in the document; members of a union become one line joined by "or"."""
        choices: dict[KeyPath, list[str]] = {}
        for details in error.errors(include_url=False):
            path = self._path(details["loc"], details["type"])
            if self._is_refused(path) or is_follow_up(details):
                continue
            match details["type"]:
                case "missing":
                    self._missing(path)
                case "extra_forbidden":
                    self._unknown(path)
                case "value_error" | "assertion_error":
                    self._inconsistent(path, details)
                case _:
                    choices.setdefault(path, []).append(self._wrong(details))
        for path, messages in choices.items():
            value = self.document.value(path)
            got = f", got {_show(value)}" if value is not _REFUSED else ""
            words, _, hint = " or ".join(dict.fromkeys(messages)).partition(" (did")
            self.document.problem(self.document.where(path), path, words + got + (f" (did{hint}" if hint else ""))

    def _path(self, location: tuple[int | str, ...], kind: str) -> KeyPath:
        """The path in the file: pydantic's location without the names of union members that it inserts."""
        is_about_key = kind in ("missing", "extra_forbidden")
        path: list[int | str] = []
        value: Any = self.document.data
        for i, part in enumerate(location):
            is_last = i == len(location) - 1
            inside = isinstance(value, dict) if isinstance(part, str) else isinstance(value, tuple)
            absent = isinstance(part, str) and inside and part not in value
            if not inside or (absent and not (is_last and is_about_key)):
                continue
            path.append(part)
            value = self.document.value(tuple(path))
        return tuple(path)

    def _is_refused(self, path: KeyPath) -> bool:
        """Whether the reader has already complained about this value or a part of it."""
        return isinstance(self.document.value(path), _Refused) and path in self.document.origins

    def _missing(self, path: KeyPath) -> None:
        block = _block_at(self.config_class, path[:-1])
        info = block.model_fields.get(str(path[-1])) if block else None
        meaning = f"; expected: {info.description}" if info is not None and info.description else ""
        parent = path[:-1]
        where = self.document.where(parent, of_key=True) if parent else f"{self.document.name}:1:1"
        self.document.problem(where, path, f"missing{meaning}")

    def _unknown(self, path: KeyPath) -> None:
        key = str(path[-1])
        block = _block_at(self.config_class, path[:-1])
        allowed = list(block.model_fields) if block else []
        hint = ""
        if len(self.document.problems) < MOST_PROBLEMS:  # looking for a hint takes time, and no more of them are told
            hint = nearest(_dotted(path), [_dotted((*path[:-1], name)) for name in allowed]) or self._elsewhere(key)
        where = self.document.where(path, of_key=True)
        self.document.problem(where, path, f"unknown key; allowed: {', '.join(allowed)}{hint}")

    def _elsewhere(self, key: str) -> str:
        """A hint when ``key`` is right but stands in the wrong block."""
        homes = [path for path in _field_paths(self.config_class) if path.rpartition(".")[2] == key]
        return f" (did you mean '{homes[0]}'?)" if homes else ""

    def _inconsistent(self, path: KeyPath, details: ErrorDetails) -> None:
        cause = details.get("ctx", {}).get("error")
        if not isinstance(cause, CrossFieldError):
            self.document.problem(self.document.where(path), path, str(cause or details["msg"]))
            return
        for below, message in cause.problems.items():
            full: KeyPath = (*path, *(int(part) if part.isdecimal() else part for part in below.split(".")))
            value = self.document.value(full)
            got = f", got {_show(value)}" if value is not _REFUSED and ", got " not in message else ""
            self.document.problem(self.document.where(full), full, message + got)

    def _wrong(self, details: ErrorDetails) -> str:
        kind, context = details["type"], details.get("ctx", {})
        if kind in ("literal_error", "enum"):
            expected = str(context["expected"])
            hint = nearest(str(details["input"]), re.findall(r"'([^']*)'", expected))
            return f"must be {expected}{hint}"
        if kind in _WORDS:
            return _WORDS[kind].format(**{name: _bound(value) for name, value in context.items()})
        message = details["msg"]
        return message[:1].lower() + message[1:]


def _bound(value: object) -> object:
    """A bound as a person would write it: 0, not 0.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _block_at(config_class: type[Block], path: KeyPath) -> type[Block] | None:
    """The Block class that describes the block at ``path``."""
    block: type[Block] | None = config_class
    is_chosen = False  # the name of an item, which the file chooses
    for part in path:
        if isinstance(part, int) or is_chosen:  # one of several that are described alike
            is_chosen = False
            continue
        if block is None or part not in block.model_fields:
            return None
        annotation = block.model_fields[str(part)].annotation
        block = next(_blocks(annotation), None)
        is_chosen = typing.get_origin(annotation) is dict
    return block


def _blocks(annotation: Any) -> Iterator[type[Block]]:
    """Block classes in an annotation such as ``Cache | None``."""
    if (
        isinstance(annotation, type)
        and not isinstance(annotation, types.GenericAlias)
        and issubclass(annotation, Block)
    ):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _blocks(argument)


def _field_paths(config_class: type[Block], prefix: str = "") -> Iterator[str]:
    for name, info in config_class.model_fields.items():
        yield prefix + name
        for block in _blocks(info.annotation):
            yield from _field_paths(block, f"{prefix}{name}.")


def _dotted(path: KeyPath) -> str:
    return ".".join(printable(part, 80) for part in path)


def _show(value: object) -> str:
    """A value as the file would write it, on one short line."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a block"
    if isinstance(value, tuple):
        return printable(f"[{', '.join(map(_show, value))}]", 60)
    return printable(repr(value), 60)


def _natural(where: str) -> tuple[bool, list[tuple[int, str]]]:
    """Sort key: file before overrides, and line 9 before line 10."""
    return where.startswith("--set"), [
        (int(part or 0), "") if part.isdecimal() else (0, part) for part in where.split(":")
    ]
