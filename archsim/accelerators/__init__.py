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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from archsim.errors import ConfigError

if TYPE_CHECKING:
    from archsim.dataflow.base import Accelerator

T = TypeVar("T")
OTHERS = "archsim_machines"


class ByName(Mapping[str, T]):
    """What is found by its name when it is asked for."""

    def __init__(self, names: Iterable[str], find: Callable[[str], T]) -> None:
        self._names = dict.fromkeys(sorted(names))
        self._find = find

    def __getitem__(self, name: str) -> T:
        if name not in self._names:
            raise KeyError(name)
        return self._find(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@functools.cache
def registry() -> Mapping[str, type[Accelerator]]:
    """All accelerators by name; our own are imported when they are asked for, each from the module of its name.
    ConfigError for modules of other people that cannot be imported, or whose machines lack something or have the name
    of another one."""
    own = [module.name for module in pkgutil.iter_modules(__path__)]
    others: dict[str, type[Accelerator]] = {}
    problems = []
    for name in _modules_of_others():
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:
            problems.append(f"{name}: cannot be imported: {type(error).__name__}: {error}")
            continue
        for machine in _machines(module):
            lacking = list(_lacking(machine))
            problems += [f"{name}: {machine.__name__} has no '{attribute}'" for attribute in lacking]
            if not lacking:
                problems += _taken(machine, own, others)
                others.setdefault(machine.name, machine)
    if problems:
        raise ConfigError(problems)

    def called(name: str) -> type[Accelerator]:
        return others[name] if name in others else next(_machines(importlib.import_module(f"{__name__}.{name}")))

    return ByName([*own, *others], called)


def _modules_of_others() -> Iterator[str]:
    """Names of the modules of other people that may define a machine."""
    found = importlib.util.find_spec(OTHERS)
    for module in pkgutil.iter_modules((found and found.submodule_search_locations) or []):
        yield f"{OTHERS}.{module.name}"


def _machines(module: ModuleType) -> Iterator[type[Accelerator]]:
    """The machines that a module defines."""
    from archsim.dataflow.base import Accelerator

    for _, member in inspect.getmembers(module, inspect.isclass):
        if issubclass(member, Accelerator) and member.__module__ == module.__name__ and not inspect.isabstract(member):
            yield member


def _taken(machine: type[Accelerator], own: Collection[str], others: Mapping[str, type[Accelerator]]) -> Iterator[str]:
    """That another machine has this one's name: a file that says it would describe the one or the other."""
    if machine.name in own or machine.name in others:
        other = others.get(machine.name)
        whose = f"{other.__name__} of {other.__module__}" if other else "a machine of archsim"
        called = f"{machine.__name__} is called '{machine.name}', as {whose} is"
        yield f"{machine.__module__}: {called}; give it another name"


def _lacking(machine: type[Accelerator]) -> Iterator[str]:
    """Attributes without which a machine cannot be used."""
    from archsim.dataflow.machine import DrawnMachine

    for attribute in ("name", "Config", *(("agents",) if issubclass(machine, DrawnMachine) else ())):
        if not getattr(machine, attribute, None):
            yield attribute
