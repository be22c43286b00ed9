"""The studies under ``benchmarks/papers``: their modules, and the rows of their tables as their makers had them."""

import contextlib
import csv
import importlib
import sys
from types import SimpleNamespace

import pytest


@contextlib.contextmanager
def modules_of(folder, *names):
    """These modules of a study; their names are common ones, so they are forgotten again."""
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.delitem(sys.modules, name, raising=False)
        patch.syspath_prepend(folder)
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
        for name in names:
            sys.modules.pop(name, None)


def rows_of(path):
    """A table's rows: numbers and truth values as such."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _value(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _value(text):
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
