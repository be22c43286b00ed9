"""Named machines, found by existing: every module here defines one subclass of :class:`~.base.Accelerator`.

Machines of other people are found in the same way: every module of a package ``archsim_machines``, wherever on Python's
path it is. It has no ``__init__.py``, so that several folders may have a part of it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from archsim.dataflow.base import Accelerator

OTHERS = "archsim_machines"


@functools.cache
def registry() -> Mapping[str, type[Accelerator]]:
    """All accelerators by name."""
    from archsim.dataflow.base import Accelerator

    found: dict[str, type[Accelerator]] = {}
    for name in _modules():
        module = importlib.import_module(name)
        for _, member in inspect.getmembers(module, inspect.isclass):
            if (
                issubclass(member, Accelerator)
                and member.__module__ == module.__name__
                and not inspect.isabstract(member)
            ):
                found[member.name] = member
    return dict(sorted(found.items()))


def _modules() -> Iterator[str]:
    """Names of the modules that may define a machine, our own ones last: no other machine takes the name of one."""
    others = importlib.util.find_spec(OTHERS)
    for package, path in ((OTHERS, others and others.submodule_search_locations), (__name__, __path__)):
        for module in pkgutil.iter_modules(path or []):
            yield f"{package}.{module.name}"
