"""The values of a hardware file: where each one stands, who gave it, and what is wrong with it.

A :class:`Document` is read from text, overrides (``pe.count=32``) are put over it, and other documents may be laid
under it. It collects every problem with its position, so that all of them are told at once.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from archsim import examples
from archsim.errors import ConfigError, nearest, printable
from archsim.hardware.plain_yaml import MAX_DEPTH, PlainLoader, nodes_of

MAX_FILE_BYTES = 1 << 16
INT64 = range(-(1 << 63), 1 << 63)

KeyPath = tuple[str | int, ...]


class Refused:
    """Stands where a value was refused, so that no second complaint is made about it."""

    def __repr__(self) -> str:
        return "(refused)"


REFUSED = Refused()


@dataclass
class Document:
    """The values of a hardware file, where each came from, and what is wrong so far."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)  # "file:line:col" or "--set ..." of each value
    key_origins: dict[KeyPath, str] = field(default_factory=dict)  # the same of each key
    overridden: list[KeyPath] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)  # those that the values stand in
    ends: dict[KeyPath, tuple[Path, int, int]] = field(default_factory=dict)  # file, line and column behind a scalar
    inherited: dict[KeyPath, str] = field(default_factory=dict)  # the name of the file that a value was taken from
    borrowed: dict[KeyPath, str] = field(default_factory=dict)  # the same, where it describes another kind of machine
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
            raise ConfigError(f"{self.name}:1:1: must be a block of 'key: value' lines, got {show(value)}")
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
            if below is REFUSED:
                return
            if not isinstance(below, dict):
                message = f"{dotted(path[: i + 1])} is a value, not a block with keys, got {show(below)}"
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
            parent[str(path[-1])] = REFUSED

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

    def lay_over(self, base: Document, path: KeyPath) -> None:
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
                around = {below[:end] for end in range(1, len(below))}
                if self.data.get("accelerator") != base.data.get("accelerator") or around & base.borrowed.keys():
                    self.borrowed[below] = base.name

    def _places(self) -> tuple[dict[KeyPath, Any], ...]:
        """All that is known by path."""
        return self.origins, self.key_origins, self.ends, self.inherited, self.borrowed

    def problem(self, where: str, path: KeyPath, message: str) -> None:
        """Note what is wrong at ``path``; the dotted path is left out where ``where`` says it already."""
        said = not path or where.startswith(f"--set {dotted(path)}=")
        separator = ":" if where.startswith("--set") else ""
        self.problems.append(
            (where, f"{where}: {message}" if said else f"{where}{separator} {dotted(path)}: {message}")
        )

    def where(self, path: KeyPath, *, of_key: bool = False) -> str:
        """Position of the value (or key) at ``path``, or of the closest block around it."""
        if of_key and path in self.key_origins:
            return self.key_origins[path]
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, self.name)

    def value(self, path: KeyPath) -> Any:
        """The value at ``path``; ``REFUSED`` where there is none."""
        value: Any = self.data
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return REFUSED
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
            loader, node = _composed(text)
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

    def _build(self, loader: PlainLoader, node: yaml.Node, path: KeyPath, at: typing.Callable[[yaml.Mark], str]) -> Any:
        self.origins[path] = at(node.start_mark)
        if id(node) in loader.complaints:
            self.problem(self.origins[path], path, loader.complaints[id(node)])
        if id(node) in loader.refused:
            return REFUSED
        if isinstance(node, yaml.MappingNode):
            return self._build_mapping(loader, node, path, at)
        if isinstance(node, yaml.SequenceNode):
            # A tuple, because configurations are immutable.
            return tuple(self._build(loader, item, (*path, i), at) for i, item in enumerate(node.value))
        if self.files:
            self.ends[path] = self.files[0], node.end_mark.line, node.end_mark.column
        return self._build_scalar(node, path)

    def _build_mapping(
        self, loader: PlainLoader, node: yaml.MappingNode, path: KeyPath, at: typing.Callable[[yaml.Mark], str]
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
                return REFUSED
            case "float":
                return float(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1].isalpha() else text)
        return text


@functools.lru_cache(maxsize=32)
def _composed(text: str) -> tuple[PlainLoader, yaml.Node | None]:
    """The nodes of a YAML text; a run reads its hardware file for values, for comments and for its hash."""
    return nodes_of(text)


def read_text(path: Path, kind: str = "a hardware file") -> str:
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


def override_path(override: str) -> str:
    """The dotted path of ``"pe.count=32"``."""
    return ".".join(part.strip() for part in override.partition("=")[0].split("."))


def dotted(path: KeyPath) -> str:
    """The path as people write it: ``pe.count``."""
    return ".".join(printable(part, 80) for part in path)


def show(value: object) -> str:
    """A value as the file would write it, on one short line."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a block"
    if isinstance(value, tuple):
        return printable(f"[{', '.join(map(show, value))}]", 60)
    return printable(repr(value), 60)


def _natural(where: str) -> tuple[bool, list[tuple[int, str]]]:
    """Sort key: file before overrides, and line 9 before line 10."""
    return where.startswith("--set"), [
        (int(part or 0), "") if part.isdecimal() else (0, part) for part in where.split(":")
    ]
