"""The pages as HTML: built by Sphinx, shipped in the wheel, found by ``archsim docs``."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from archsim.errors import ArchsimError, UsageError, nearest

SOURCES = Path(__file__).parent
SHIPPED = SOURCES.parent / "bundled" / "docs"
"""Where the wheel has the built pages; a clone has none."""


def build(target: Path, kept: Path, *, strict: bool = False) -> None:
    """Build all pages into ``target``; ``kept`` holds what makes the next build quick. Needs no network.

    ``strict`` makes a warning, such as a link to a page that does not exist, an error.
    """
    from sphinx.cmd.build import build_main

    options = ["-q", *(["-W", "--keep-going"] if strict else [])]
    if build_main([*options, "-b", "html", "-d", str(kept), str(SOURCES), str(target)]):
        raise ArchsimError("the documentation could not be built; what is wrong stands above")


def pages() -> Path:
    """The folder of the built pages: those of the wheel, or those of this clone, built now in the user's cache."""
    if (SHIPPED / "index.html").is_file():
        return SHIPPED
    missing = [name for name in ("sphinx", "furo", "myst_parser") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            "the documentation of a clone is built when it is first opened, which needs "
            f"{', '.join(missing)}: pip install -e '.[docs]'"
        )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archsim"
    target = cache / "docs"
    build(target, cache / "docs_doctrees")
    return target


def page(name: str, folder: Path) -> Path:
    """The file of a page, such as ``machines/loas`` or only ``loas``; an empty name is the first page.

    Of pages that end alike a machine's own comes first. A folder's name is its first page.
    """
    known = _names(folder)
    wanted = name.strip("/").removesuffix(".html").removesuffix(".md") or "index"
    found = [wanted] if wanted in known else [page for page in known if page.rpartition("/")[2] == wanted]
    if not found:
        short = {page.rpartition("/")[2] for page in known}
        raise UsageError(f"no page '{name}'{nearest(wanted, sorted(short | known.keys()))}")
    return known[found[0]]


def _names(folder: Path) -> Mapping[str, Path]:
    files = sorted(folder.rglob("*.html"), key=lambda file: (_rank(file.relative_to(folder)), file))
    names = [file.relative_to(folder).with_suffix("").as_posix() for file in files]
    return {name.removesuffix("/index"): file for name, file in zip(names, files, strict=True)}


def _rank(file: Path) -> int:
    """Machines come before their deviations and the schemas of their files, which have the same names."""
    return {"machines": 0, "guide": 1}.get(file.parts[0], 2)
