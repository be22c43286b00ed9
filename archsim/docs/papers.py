"""The pages about papers: the README of each study in ``benchmarks/papers``, as it stands."""

from __future__ import annotations

from archsim.docs.site import SOURCES

STUDIES = SOURCES.parent.parent / "benchmarks" / "papers"


def pages() -> dict[str, str]:
    """All pages by path."""
    found = sorted(STUDIES.glob("*/README.md"))
    titles = {path.parent.name: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for path in found}
    links = "\n".join(f"- [{title}]({name}.md)" for name, title in titles.items())
    contents = "\n".join(titles)
    index = (
        "# Papers\n\nEach page shows a published study, or a tool of the past, beside our numbers, with the command "
        f"that makes them.\n\n{links}\n\n```{{toctree}}\n:hidden:\n\n{contents}\n```\n"
    )
    return {"papers/index.md": index, **{f"papers/{name}.md": _page(name) for name in titles}}


def _page(name: str) -> str:
    """The README, included when the pages are built."""
    return f"```{{include}} ../../../benchmarks/papers/{name}/README.md\n:relative-images:\n:relative-docs: .\n```\n"
