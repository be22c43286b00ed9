"""The figures of a result as a notebook shows them; nothing stays on the disk."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from archsim.report import files


class Pictures:
    """Figures by name, as SVG; a notebook shows them one below the other."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """Of a results folder that has the files ``texts``."""
        from archsim.report.plots import plot

        with tempfile.TemporaryDirectory() as folder:
            files.write_texts(Path(folder), texts)
            drawn = [figure for figure in plot(folder) if figure.suffix == ".svg"]
            self.svg = {figure.stem: figure.read_text(encoding="utf-8") for figure in drawn}

    def __repr__(self) -> str:
        return f"<Pictures: {', '.join(self.svg)}>"

    def _repr_html_(self) -> str:
        """All of them, each without what stands before its element ``svg``."""
        return "\n".join(f"<p>{text[text.index('<svg') :]}</p>" for text in self.svg.values())
