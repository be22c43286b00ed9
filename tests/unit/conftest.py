"""Tests of units compile and run no machine: that takes seconds for each, and has places of its own."""

import pytest

from archsim.engine import compiled, reference

ELSEWHERE = "a test in tests/unit runs a machine; it belongs to tests/engines or tests/accelerators"


def refuse(*arguments, **options):
    pytest.fail(ELSEWHERE)


@pytest.fixture(autouse=True)
def no_machine(monkeypatch):
    """Both engines refuse to simulate."""
    for engine in (compiled, reference):
        monkeypatch.setattr(engine, "simulate", refuse)
