"""Puts the built pages into the wheel. Not into an editable install, where ``archsim docs`` builds them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PagesHook(BuildHookInterface):  # type: ignore[misc]
    """Builds the documentation while the wheel is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the pages beside the wheel; a warning does not stop an installation."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from archsim.docs.site import build

        self.folder = tempfile.TemporaryDirectory(prefix="archsim_docs_")
        pages = Path(self.folder.name)
        build(pages / "html", pages / "doctrees")
        (pages / "html" / ".buildinfo").unlink(missing_ok=True)
        build_data["force_include"][str(pages / "html")] = "archsim/bundled/docs"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove them again."""
        if version != "editable":
            self.folder.cleanup()
