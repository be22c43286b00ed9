"""The reference: hardware files, command line and Python, as the code has them."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import archsim
from archsim.accelerators import registry
from archsim.docs.markdown import code, plain, prose, table
from archsim.hardware.loading import json_schema
from archsim.report import columns
from archsim.report.names import readable

COLUMNS = """# Columns

Every name in the files that archsim writes. Names end in their unit. Cycles are of the base clock `clock_mhz`; bytes
and counts are integers. In a CSV one row is one line: control characters in names are written out (`\\n`), and a name
that a spreadsheet would compute, such as `=1+1`, has a `'` before it. What a PE is depends on the machine: see [what
counts as a PE](../guide/elements.md). Terms are in the [glossary](../glossary.md).

"""


def pages() -> dict[str, str]:
    """All pages by path."""
    schemas = {f"reference/hardware/{name}.md": "\n".join(_schema(name)) for name in registry()}
    contents = "\n".join(f"{readable(name)} <{name}>" for name in registry())
    index = (
        "# Hardware files\n\nEvery path of every machine's file, with what it may be. `archsim schema NAME` prints the "
        f"same as JSON Schema, for editors.\n\n```{{toctree}}\n:maxdepth: 1\n\n{contents}\n```\n"
    )
    return {
        **schemas,
        "reference/hardware/index.md": index,
        "reference/columns.md": f"{COLUMNS}{columns.markdown()}",
        "reference/command_line.md": _command_line(),
        "reference/python.md": "\n".join(_python()),
    }


# ------------------------------------------------------------------------------------------------------ hardware files


def _schema(name: str) -> Iterator[str]:
    schema = json_schema(registry()[name].Config)
    yield f"# {readable(name)}: hardware file\n"
    yield f"[What the machine is](../../machines/{name}.md), and the source of each value that is shipped.\n"
    yield table(("path", "allowed", "default", "meaning"), _fields(schema, schema["$defs"], ""))


def _fields(block: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for key, field in block.get("properties", {}).items():
        if key == "extends":
            continue
        inner = [_resolved(choice, known) for choice in field.get("anyOf", [field])]
        default = code(json.dumps(field["default"])) if "default" in field else ""
        blocks = [one for one in inner if "properties" in one]
        allowed = ", or ".join(dict.fromkeys(_allowed(one) for one in inner if "properties" not in one))
        if not blocks or allowed:
            yield code(prefix + key), allowed, default, plain(_meaning(field, inner))
        for one in blocks:
            yield from _fields(one, known, f"{prefix}{key}.")


def _resolved(field: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = field.get("$ref") or next((one["$ref"] for one in field.get("allOf", ()) if "$ref" in one), "")
    return known[reference.rpartition("/")[2]] if reference else field


def _meaning(field: Mapping[str, Any], inner: list[Mapping[str, Any]]) -> str:
    return str(field.get("description") or next((one["description"] for one in inner if "description" in one), ""))


def _allowed(field: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "enum" in field or "const" in field:
        return " \\| ".join(code(value) for value in field.get("enum", [field.get("const")]))
    kind = {"boolean": "true or false", "string": "text", "null": "nothing", "array": "list", "object": "mapping"}.get(
        str(field.get("type")), str(field.get("type", ""))
    )
    least, above = field.get("minimum"), field.get("exclusiveMinimum")
    most, below = field.get("maximum"), field.get("exclusiveMaximum")
    if least is not None and most is not None:
        return f"{kind}, {_number(least)} to {_number(most)}"
    limits = {"at least": least, "above": above, "at most": most, "below": below}
    return ", ".join([kind, *(f"{word} {_number(limit)}" for word, limit in limits.items() if limit is not None)])


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


# --------------------------------------------------------------------------------------------------------- command line


def _command_line() -> str:
    """What typer makes of the commands, with whole sentences and without what Markdown would take for tags."""
    made = subprocess.run(
        [sys.executable, "-m", "typer", "archsim.cli", "utils", "docs", "--name", "archsim", "--title", "Command line"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    said = dict(re.findall(r"^#+ `archsim ([\w ]+)`\n\n(.*)$", made, re.MULTILINE))
    lines, command = [], ""
    for line in made.replace("```console", "```text").rstrip().splitlines():
        if heading := re.match(r"#+ `archsim ([\w ]+)`$", line):
            command = f"{heading[1]} "
        if item := re.match(r"(\* `([^`]+)`): (.*)$", line):
            if item[2] in ("--install-completion", "--show-completion"):
                continue
            line = f"{item[1]}: {said.get(command + item[2]) or plain(item[3])}"
        lines.append(line)
    return "\n".join(lines) + "\n"


# --------------------------------------------------------------------------------------------------------------- Python


def _python() -> Iterator[str]:
    yield "# Python\n\n`import archsim` is quick: what takes long to import is imported when it is first used.\n"
    for name in archsim.__all__:
        member = getattr(archsim, name)
        if inspect.isclass(member):
            yield from _class(name, member)
        elif callable(member):
            yield from _function(f"archsim.{name}", member, "##")


def _class(name: str, member: type) -> Iterator[str]:
    yield f"## `archsim.{name}`\n\n{prose(member.__doc__ or '')}\n"
    for method, function in vars(member).items():
        if not method.startswith("_") and inspect.isfunction(function):
            yield from _function(f"{name}.{method}", function, "###")
        elif not method.startswith("_") and isinstance(function, property):
            yield f"### `{name}.{method}`\n\n{prose(function.__doc__ or '')}\n"


def _function(name: str, member: Any, heading: str) -> Iterator[str]:
    signature = _signature(name.rpartition(".")[2], member)
    yield f"{heading} `{name}`\n\n```python\n{signature}\n```\n\n{prose(member.__doc__ or '')}\n"


def _signature(name: str, member: Any) -> str:
    signature = inspect.signature(member)
    short = f"{name}{signature}".replace("'", "")
    if len(short) <= 88:
        return short
    parameters = [f"    {parameter!s}," for parameter in signature.parameters.values()]
    keyword_only = [p.kind is p.KEYWORD_ONLY for p in signature.parameters.values()]
    if any(keyword_only) and not any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        parameters.insert(keyword_only.index(True), "    *,")
    end = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    return "\n".join([f"{name}(", *parameters, f"){end}"]).replace("'", "")
