"""Named machines, found by existing: every module here defines one subclass of :class:`~.base.Accelerator`."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archsim.dataflow.base import Accelerator


@functools.cache
def registry() -> Mapping[str, type[Accelerator]]:
    """All accelerators by name."""
    from archsim.dataflow.base import Accelerator

    found: dict[str, type[Accelerator]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if (
                issubclass(member, Accelerator)
                and member.__module__ == module.__name__
                and not inspect.isabstract(member)
            ):
                found[member.name] = member
    return dict(sorted(found.items()))
