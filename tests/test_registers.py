"""The registers of ``benchmarks/accuracy/registers.py``: each has its place in the code, and its row in the table."""

import importlib.util
import re

import pytest

from tests.machines import ROOT


@pytest.fixture(scope="module")
def registers():
    path = ROOT / "benchmarks" / "accuracy" / "registers.py"
    spec = importlib.util.spec_from_file_location("registers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_register_is_one_change_of_a_place_that_is_there(registers):
    for register in registers.REGISTERS.values():
        for edit in register.edits:
            assert (ROOT / "archsim" / edit.file).read_text(encoding="utf-8").count(edit.old) == 1, edit.old
            assert edit.new != edit.old


def test_every_register_is_a_row_of_what_takes_no_time(registers):
    table = (ROOT / "tests" / "rtl" / "README.md").read_text(encoding="utf-8")
    assert registers.REGISTERS.keys() <= set(re.findall(r"^\| \*([^*]+)\* \|", table, re.MULTILINE))
