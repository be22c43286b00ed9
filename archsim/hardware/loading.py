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

(:mod:`archsim.hardware.extending`). A file is plain YAML (:mod:`archsim.hardware.plain_yaml`). An integer field takes
only integers, a number field takes both, and quoted numbers are text.
"""

from __future__ import annotations

import itertools
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from archsim import examples
from archsim.errors import MOST_PROBLEMS, ConfigError, is_follow_up, nearest, printable
from archsim.hardware.document import REFUSED, Document, KeyPath, Refused, dotted, override_path, read_text, show
from archsim.hardware.evidence import GIVEN, grade
from archsim.hardware.extending import read_machine
from archsim.hardware.plain_yaml import PlainDumper


class Block(BaseModel):
    """A part of a machine file: immutable, no unknown keys, no silent conversion, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True, defer_build=True
    )


BlockT = TypeVar("BlockT", bound=Block)

NO_CONSTANTS = ("accelerator", "description", "fitted")
"""What a file says of the machine as a whole."""
MOST_REMARKED = 200
"""Letters of a comment in ``resolved.yaml``."""
_KEY = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value> [^ ].*)?")


class CrossFieldError(ValueError):
    """Raised in a Block's validator when fields contradict each other: what is wrong, by path below that Block."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__("; ".join(f"{path}: {message}" for path, message in self.problems.items()))


class Explained(NamedTuple):
    """One value of a machine: who gave it (``file``, the name of a file that it extends, ``override`` or ``default``),
    its grade of ``evidence`` ("" where it is no constant), what it means, and its source."""

    path: str
    value: object
    given: str
    evidence: str
    meaning: str
    source: str


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
    document = read_machine(path, examples.find(path))
    for override in overrides:
        document.override(override)
    return _validated(document, _config_class(document, registry))


def load_block(path: str | Path, block_class: type[BlockT], kind: str, overrides: Sequence[str] = ()) -> BlockT:
    """The ``block_class`` that the file at ``path`` describes, with ``overrides`` applied.

    ``kind`` is what the file should be, such as "a network". Raises ConfigError as :func:`load_machine` does.
    """
    document = Document(str(path))
    document.parse(read_text(Path(path), kind), kind)
    for override in overrides:
        document.override(override)
    return _validated(document, block_class)


def changed(config: BlockT, key: str, value: object, reason: str) -> BlockT:
    """``config`` with another value of ``key``, checked as a file is; lines of a ConfigError begin with ``reason``."""
    document = Document(reason)
    document.data = config.model_dump() | {key: value}
    return _validated(document, type(config))


def machine_files(path: str | Path) -> list[Path]:
    """The hardware file ``path`` and those that it extends, each once. Raises ConfigError if one cannot be read."""
    return list(read_machine(path, examples.find(path)).files)


def _validated(document: Document, block_class: type[BlockT] | None) -> BlockT:
    block = None
    if block_class is not None:
        try:
            block = block_class.model_validate(document.data)
        except ValidationError as error:
            _Translator(document, block_class).report(error)
    if block is None or document.problems:
        raise ConfigError(document.sorted_problems())
    return block


def explained_values(path: str | Path, config: Block, overrides: Iterable[str] = ()) -> list[Explained]:
    """Every value of a machine, with its source and its evidence.

    A value's source is the comment behind it in its file; an overridden value has none. Evidence is the grade that the
    comment says (:mod:`archsim.hardware.evidence`). A block that was taken over from another kind of machine is assumed
    to suit this one, whatever it rests on there.
    """
    document = read_machine(path, examples.find(path))
    comments = _comments(document)
    shipped = set(examples.machines().values())
    overridden = tuple(f"{override_path(override)}." for override in overrides)
    found = []
    for row in field_rows(config):
        own = _giver(document.inherited, row.path) or "file"
        given = "override" if f"{row.path}.".startswith(overridden) else "default" if row.is_default else own
        source = comments.get(row.path, row.source) if given == own else row.source
        if row.path in NO_CONSTANTS:
            evidence = ""
        elif given == "override" or (given == own and _giver(document.borrowed, row.path)):
            evidence = "assumed"
        else:
            file = document.ends.get(tuple(row.path.split(".")), (None,))[0]
            evidence = grade(source, shipped=given == "default" or file in shipped)
        found.append(Explained(row.path, row.value, given, evidence, row.description, source))
    return found


def _giver(names: Mapping[KeyPath, str], path: str) -> str | None:
    """The name that ``names`` have for the value at the dotted ``path``, or for the closest block around it."""
    parts = path.split(".")
    found = (names.get(tuple(parts[:end])) for end in range(len(parts), 0, -1))
    return next((name for name in found if name is not None), None)


def _comments(document: Document) -> dict[str, str]:
    """What stands behind the values: the comment of each scalar's line, by path. This is where sources stand."""
    lines = {file: read_text(file).splitlines() for file in document.files}
    found: dict[str, str] = {}
    for path, (file, line, column) in document.ends.items():
        rest = lines[file][line][column:].strip() if line < len(lines[file]) else ""
        if rest.startswith("#"):
            found[dotted(path)] = rest.lstrip("# ")
    return found


def header_of(path: str | Path) -> str:
    """The comment at the top of a hardware file: the papers, and how sources are abbreviated below."""
    lines = examples.find(path).read_text(encoding="utf-8").splitlines()
    header = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in header)


def resolved_yaml(config: Block, explained: Iterable[Explained] = ()) -> str:
    """The whole machine after defaults and overrides, as YAML that :func:`load_machine` reads back.

    Behind a value stands what is ``explained`` of it: its evidence and its source, as in the files that come with
    archsim.
    """
    text = yaml.dump(config.model_dump(), Dumper=PlainDumper, sort_keys=False, allow_unicode=True, width=100)
    comments = {row.path: _remark(row) for row in explained if row.evidence and _is_word(row.value)}
    lines, parents = text.split("\n"), list[tuple[int, str]]()
    for number, line in enumerate(lines):
        if not (found := _KEY.fullmatch(line)):
            continue
        indent = len(found["indent"])
        parents = [(column, key) for column, key in parents if column < indent]
        parents.append((indent, found["key"]))
        comment = comments.get(".".join(key for _, key in parents))
        if comment and found["value"]:
            lines[number] = f"{line}  # {comment}"
    return "\n".join(lines)


def _is_word(value: object) -> bool:
    """Whether a value is one word of YAML, behind which a comment has room."""
    return not isinstance(value, tuple) and len(str(value).split()) == 1


def _remark(row: Explained) -> str:
    source = GIVEN if row.given == "override" else row.source.removeprefix(row.evidence).lstrip(":, ")
    return printable(f"{row.evidence}, {source}" if source else row.evidence, MOST_REMARKED)


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
    """Every value of the machine in file order, marked as default where the file did not say it."""
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


def _config_class(document: Document, registry: Mapping[str, type[BlockT]]) -> type[BlockT] | None:
    """The Config class that the file asks for; notes a problem when there is no such accelerator."""
    allowed = ", ".join(sorted(registry))
    name = document.data.get("accelerator")
    if name is REFUSED:
        return None
    if "accelerator" not in document.data:
        document.problem(f"{document.name}:1:1", ("accelerator",), f"missing; allowed: {allowed}")
    elif not isinstance(name, str) or name not in registry:
        hint = nearest(name, registry) if isinstance(name, str) else ""
        where = document.where(("accelerator",))
        document.problem(where, ("accelerator",), f"unknown accelerator, got {show(name)}; allowed: {allowed}{hint}")
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

    document: Document
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
            got = f", got {show(value)}" if value is not REFUSED else ""
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
        return isinstance(self.document.value(path), Refused) and path in self.document.origins

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
            hint = nearest(dotted(path), [dotted((*path[:-1], name)) for name in allowed]) or self._elsewhere(key)
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
            got = f", got {show(value)}" if value is not REFUSED and ", got " not in message else ""
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
