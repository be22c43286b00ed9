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

from archsim.errors import ConfigError

if TYPE_CHECKING:
    from archsim.dataflow.base import Accelerator

OTHERS = "archsim_machines"


@functools.cache
def registry() -> Mapping[str, type[Accelerator]]:
    """All accelerators by name. ConfigError for modules of other people that cannot be imported, or whose machines lack
    something or have the name of another one."""
    from archsim.dataflow.base import Accelerator

    found: dict[str, type[Accelerator]] = {}
    problems = []
    for name in _modules():
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:
            if not name.startswith(f"{OTHERS}."):
                raise
            problems.append(f"{name}: cannot be imported: {type(error).__name__}: {error}")
            continue
        for _, member in inspect.getmembers(module, inspect.isclass):
            if (
                issubclass(member, Accelerator)
                and member.__module__ == module.__name__
                and not inspect.isabstract(member)
            ):
                lacking = list(_lacking(member)) if name.startswith(f"{OTHERS}.") else []
                problems += [f"{name}: {member.__name__} has no '{attribute}'" for attribute in lacking]
                if not lacking:
                    problems += _taken(member, found)
                    found.setdefault(member.name, member)
    if problems:
        raise ConfigError(problems)
    return dict(sorted(found.items()))


def _modules() -> Iterator[str]:
    """Names of the modules that may define a machine, our own ones first."""
    others = importlib.util.find_spec(OTHERS)
    for package, path in ((__name__, __path__), (OTHERS, others and others.submodule_search_locations)):
        for module in pkgutil.iter_modules(path or []):
            yield f"{package}.{module.name}"


def _taken(machine: type[Accelerator], found: Mapping[str, type[Accelerator]]) -> Iterator[str]:
    """That another machine has this one's name: a file that says it would describe the one or the other."""
    if other := found.get(machine.name):
        ours = other.__module__.startswith(f"{__name__}.")
        whose = "a machine of archsim" if ours else f"{other.__name__} of {other.__module__}"
        called = f"{machine.__name__} is called '{machine.name}', as {whose} is"
        yield f"{machine.__module__}: {called}; give it another name"


def _lacking(machine: type[Accelerator]) -> Iterator[str]:
    """Attributes without which a machine cannot be used."""
    from archsim.dataflow.machine import DrawnMachine

    for attribute in ("name", "Config", *(("agents",) if issubclass(machine, DrawnMachine) else ())):
        if not getattr(machine, attribute, None):
            yield attribute
