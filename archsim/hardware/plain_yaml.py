"""The plain part of YAML 1.2: one document of mappings, lists and scalars, read with bounds.

Numbers follow the core schema (``1e9`` is a number, ``yes`` and ``010`` are text). Anchors, aliases, merge keys, tags
and duplicate keys are refused: people read these files, and each value must stand where it is used.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.resolver import Resolver

from archsim.errors import printable

MAX_DEPTH = 32
MAX_VALUES = 5_000
"""Blocks, keys and values of a file: twenty times those of the largest machine."""


class PlainLoader(Composer, Resolver):
    """YAML's plain part: notes anchors, aliases and tags instead of acting on them, and stops where it is too much."""

    peek_event: Callable[[], Any]  # these three are the parser's
    get_event: Callable[[], Any]
    check_event: Callable[..., bool]
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.complaints: dict[int, str] = {}  # by id of the node
        self.refused: set[int] = set()  # ids of nodes that stand in for a value which is not allowed
        self.depth = 0
        self.values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node; one that is not allowed is replaced, so that the rest of the file is still checked."""
        event = self.peek_event()
        mark = event.start_mark
        self.values += 1
        if self.values > MAX_VALUES:
            raise yaml.MarkedYAMLError(None, None, f"more than {MAX_VALUES:,} keys and values", mark)
        if self.check_event(yaml.AliasEvent):
            self.get_event()
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


class _InPython(PlainLoader, yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        yaml.SafeLoader.__init__(self, text)
        PlainLoader.__init__(self)


if yaml.__with_libyaml__:

    class _InC(PlainLoader, yaml.CSafeLoader):
        def __init__(self, text: str) -> None:
            yaml.CSafeLoader.__init__(self, text)
            Composer.__init__(self)
            PlainLoader.__init__(self)

        def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
            """A scalar; of a plain one of several lines libyaml knows the end less well, and a comment may follow."""
            event = self.peek_event()
            if not event.style and event.start_mark.line != event.end_mark.line:
                raise yaml.YAMLError
            return super().compose_scalar_node(anchor)


def nodes_of(text: str) -> tuple[PlainLoader, yaml.Node | None]:
    """The nodes of a YAML text, and the loader that notes what is not allowed; YAMLError, ValueError or OverflowError
    where it is no YAML.

    Where PyYAML has libyaml, that reads the text in a third of the time. What it refuses is read again in Python: every
    message is PyYAML's.
    """
    if yaml.__with_libyaml__:
        with contextlib.suppress(yaml.YAMLError, ValueError, OverflowError):
            fast = _InC(text)
            return fast, fast.get_single_node()
    loader = _InPython(text)
    return loader, loader.get_single_node()


class PlainDumper(yaml.SafeDumper):
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
    for _class in (PlainLoader, PlainDumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), _first)
CORE_SCHEMA = PlainLoader.yaml_implicit_resolvers
"""What is a number, a truth value or nothing, for a YAML reader: the same in every file of archsim."""
