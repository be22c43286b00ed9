"""Doors of packages: public names that are imported when first used, so that ``import archsim`` stays light."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping


def door(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of ``package``: each name of ``homes`` comes from the module that it names."""

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    def names() -> list[str]:
        public: list[str] = importlib.import_module(package).__all__
        return sorted(public)

    return get, names
