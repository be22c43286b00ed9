"""``python -m archsim.docs``: write the pages that are generated from the code, and remove those that no longer are.

They are committed, so that a wheel is built with nothing but Sphinx; a test says when they are out of date.
"""

from __future__ import annotations

import sys

from archsim.docs import gallery, papers, reference
from archsim.docs.site import SOURCES

FOLDERS = ("machines", "papers", "reference")


def generated() -> dict[str, str]:
    """All generated pages: path in the folder of the pages, and text."""
    return {**gallery.pages(), **papers.pages(), **reference.pages()}


def main() -> None:
    """Write them."""
    pages = generated()
    for folder in FOLDERS:
        for old in (SOURCES / folder).rglob("*.md"):
            if old.relative_to(SOURCES).as_posix() not in pages:
                old.unlink()
    for name, text in pages.items():
        path = SOURCES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(pages)} pages in {SOURCES}\n")


if __name__ == "__main__":
    main()
