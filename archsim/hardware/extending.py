"""Hardware files that extend others: ``extends: loas`` lays a block over that of another file.

The name is that of a file that comes with archsim, or a path from the folder of the file that says it. What stands in
the file goes before what it extends; blocks are laid over each other key by key, all other values are replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from archsim import examples
from archsim.errors import ConfigError, printable
from archsim.hardware.document import REFUSED, Document, KeyPath, read_text, show

MAX_EXTENDED = 8
"""Files that extend each other, one behind the other."""


def read_machine(
    name: str | Path, file: Path, readers: tuple[Path, ...] = (), known: dict[Path, Document] | None = None
) -> Document:
    """The document of a hardware file, with what it extends.

    ``readers`` are the files that extend it, ``known`` those that were read: each is read once, however often it is
    extended.
    """
    known = {} if known is None else known
    document = Document(str(name))
    document.files.append(file)
    document.parse(read_text(file), "a machine, starting with 'accelerator: NAME'")
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
    document: Document, path: KeyPath, file: Path, readers: tuple[Path, ...], known: dict[Path, Document]
) -> None:
    """Lay the block at ``path`` over that of the file that it extends."""
    block = document.value(path)
    name, where = block.pop("extends"), document.origins.pop((*path, "extends"))
    document.key_origins.pop((*path, "extends"))
    document.spell_out(path)
    if name is REFUSED:
        return
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        message = f"must be the name or path of a hardware file, got {show(name)}"
        document.lack(where, path, message)
        return
    beside, shipped = file.parent / name, examples.machines().get(name)
    base_file = beside if shipped is None or examples.is_there(beside) else shipped
    real = Path(os.path.realpath(base_file))  # Path.resolve fails at links in circles
    if real in readers:
        document.lack(where, path, f"{printable(name)} extends this file, or is it")
        return
    if len(readers) > MAX_EXTENDED:
        document.lack(where, path, f"more than {MAX_EXTENDED} files that extend each other")
        return
    try:
        if real not in known:
            known[real] = read_machine(name, base_file, readers, known)
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
