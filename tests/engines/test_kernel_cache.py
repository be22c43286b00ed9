"""The folder of compiled kernels is the user's own, and what is in it is checked before it is run."""

import os
import subprocess
import sys
import tempfile
from typing import NamedTuple

import numba
import pytest

from archsim import jit
from archsim.hardware.agent import op

pytestmark = pytest.mark.slow
PROGRAM = """
import sys
from pathlib import Path
import a_unit
from archsim.jit import kernel, must_compile

@kernel
def caller(x):
    return a_unit.scaled(x) + a_unit.OFFSET

cold = must_compile(caller)
print(caller(2), "cold" if cold else "warm", sum(caller.stats.cache_hits.values()))
"""
UNIT = """
from archsim.jit import kernel
OFFSET = 1

@kernel
def scaled(x):
    return 3 * x
"""


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "base"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / "base"


class Program:
    """A kernel that calls one of another file, run in a process of its own on one folder of kernels."""

    def __init__(self, folder):
        self.folder = folder
        self.write("a_unit.py", UNIT)
        self.write("program.py", PROGRAM)

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def says(self):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "program.py"]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        value, temperature, hits = done.stdout.split()
        return int(value), temperature, int(hits)

    def kernels(self):
        return sorted((self.folder / "archsim-kernels").iterdir())


@pytest.fixture
def program(tmp_path):
    return Program(tmp_path)


def test_the_second_process_loads_what_the_first_compiled(program):
    assert program.says() == (7, "cold", 0)
    assert program.says() == (7, "warm", 1)
    assert len(program.kernels()) == 2


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [("3 * x", "5 * x", 11), ("OFFSET = 1", "OFFSET = 2", 8), ("3 * x", "x * 3", 7), ("3 * x", "OFFSET * x", 3)],
)
def test_what_a_kernel_is_made_of_compiles_it_anew(program, before, after, value):
    program.says()
    program.write("a_unit.py", UNIT.replace(before, after))
    assert program.says() == (value, "cold", 0)


@pytest.mark.parametrize("more", ["\n\n# a remark", "\nOTHER = 5\n", "\ndef unrelated():\n    return 3\n"])
def test_an_edit_elsewhere_compiles_nothing(program, more):
    program.says()
    program.write("a_unit.py", more + UNIT + more)
    program.write("program.py", more + PROGRAM)
    assert program.says() == (7, "warm", 1)


def test_a_kernel_from_disk_can_be_linked_to_one_that_is_compiled(program):
    program.says()
    program.write("program.py", f"{PROGRAM.replace('+ a_unit', '- a_unit')}\nassert a_unit.scaled.stats.cache_hits")
    assert program.says() == (5, "cold", 0)


ALLOCATES = """
import numpy as np
from archsim.jit import must_compile, njit

@njit
def powers(base, count):
    if count < 0:
        raise ValueError("count", count)
    found = np.zeros(count, np.int64)
    for place in range(count):
        found[place] = base**place
    return found, "powers"

cold = must_compile(powers)
found, what = powers(3, 4)
try:
    powers(3, -1)
except ValueError as error:
    assert error.args == ("count", -1), error.args
assert what == "powers"
print(found.sum(), "cold" if cold else "warm", sum(powers.stats.cache_hits.values()))
del found
"""


def test_a_kernel_from_disk_allocates_and_raises(program):
    """It brings along what counts references, and the texts that it names."""
    program.write("program.py", ALLOCATES)
    assert program.says() == (40, "cold", 0)
    assert program.says() == (40, "warm", 1)


@pytest.mark.parametrize("damage", [
    lambda content: b"", lambda content: content[:-1], lambda content: content[: len(content) // 2],
    lambda content: bytes(len(content)), lambda content: content[:500] + bytes([content[500] ^ 1]) + content[501:],
    lambda content: bytes([content[0] ^ 128]) + content[1:], lambda content: content + b"more",
])  # fmt: skip
def test_a_damaged_kernel_is_compiled_anew(program, damage):
    program.says()
    for path in program.kernels():
        path.write_bytes(damage(path.read_bytes()))
    assert program.says() == (7, "warm", 0)
    assert program.says() == (7, "warm", 1)


def test_a_folder_in_the_place_of_a_kernel(program):
    program.says()
    for path in program.kernels():
        path.unlink()
        path.mkdir()
    assert program.says()[0] == 7


def test_the_order_of_fields_counts():
    """numba's types of the two are equal by name: two int64 of a tuple called Pair."""
    kinds = [
        NamedTuple("Pair", [("first", int), ("second", int)]),
        NamedTuple("Pair", [("second", int), ("first", int)]),
    ]
    names = {jit._description(numba.typeof(kind(1, 2))) for kind in kinds}
    assert len(names) == 2
    assert len({jit.hash_of(maker) for maker in map(_constructor, kinds)}) == 2


def _constructor(kind):
    def make(x):
        return kind(x, x)

    return make


def test_a_full_disk_is_only_a_cold_start(base, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jit, "CACHE_FOLDER", jit._cache_folder())
    monkeypatch.setattr(jit.Path, "write_bytes", full)
    doubled = jit.njit(lambda x: 2 * x)
    assert doubled(4) == 8
    assert list(jit.CACHE_FOLDER.iterdir()) == []


LOWERS = """
import archsim.engine.lowering as lowering
from archsim.simulate import compile_kernels, load_accelerator

lowered = []
lower = lowering.lower
lowering.lower = lambda agents: lowered.append(agents) or lower(agents)
print(load_accelerator("loas").must_compile(), compile_kernels("loas"), len(lowered))
"""


def test_a_machine_that_is_warm_neither_compiles_nor_lowers_its_agents(tmp_path):
    """Nor does it import what numba needs to compile, or another machine."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def says(*command):
        ran = [sys.executable, *command]
        return subprocess.run(ran, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)

    done = says("-m", "archsim", "warm", "loas")
    assert done.stderr.splitlines() == ["compiling kernels (first run only)", "kernels of 1 machines are compiled"]
    unwanted = {"scipy.linalg", "numba.np.linalg", "numba.np.arrayobj", "archsim.accelerators.ttfs"}
    modules = f"import sys; print({unwanted} & {{*sys.modules}})"
    assert says("-c", LOWERS + modules).stdout.splitlines() == ["False loas 0", "set()"]


def test_a_number_is_worked_out_once(base, monkeypatch):
    monkeypatch.setattr(jit, "CACHE_FOLDER", jit._cache_folder())
    assert jit.noted("a", b"first", lambda: 7) == 7
    assert jit.noted("a", b"first", lambda: 8) == 7
    assert jit.noted("a", b"second", lambda: 9) == 9
    assert jit.noted("b", b"first", lambda: 10) == 10
    for path in jit.CACHE_FOLDER.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert jit.noted("a", b"first", lambda: 11) == 11


def _agent(text, space):
    exec(f"def agent(a, m, x):\n    yield op({text})", space)
    return space["agent"]


def test_what_an_agent_says_is_part_of_its_loop():
    """Its own words, the numbers and functions that it names, and what these say."""
    words = ("compute=3", "compute=4", "pause=3", "compute=LONG", "compute=m.f(LONG)")
    made = {jit.hash_of(_agent(text, {"LONG": number, "op": op})) for text in words for number in (3, 4)}
    assert len(made) == 3 + 2 * 2
    functions = [eval(f"lambda n: n + {number}") for number in (1, 2)]
    assert len({jit.hash_of(_agent("compute=f(3)", {"f": f, "op": op})) for f in functions}) == 2


def test_old_versions_go(base, monkeypatch):
    folder = jit._cache_folder()
    monkeypatch.setattr(jit, "CACHE_FOLDER", folder)
    doubled = jit.njit(lambda x: 2 * x)
    name = f"{doubled.py_func.__module__}.{doubled.py_func.__qualname__}"
    for age in range(2 * jit.KEPT_VERSIONS):
        path = folder / f"{name}-{age:016x}-{age:016x}"
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    mine = folder / "notes.txt"
    mine.touch()
    os.utime(mine, (0, 0))
    assert doubled(4) == 8
    left = {path.name for path in folder.iterdir()} - {mine.name}
    assert len(left) == jit.KEPT_VERSIONS
    assert mine.exists()
    assert {f"{name}-{age:016x}-{age:016x}" for age in range(jit.KEPT_VERSIONS - 1)} < left


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_that_others_can_write_to_is_not_used(base, mode):
    (base / "archsim-kernels").mkdir(parents=True)
    (base / "archsim-kernels").chmod(mode)
    assert base not in jit._cache_folder().parents


def test_a_generous_umask(base):
    mask = os.umask(0)
    try:
        assert base in jit._cache_folder().parents
    finally:
        os.umask(mask)


def test_a_folder_of_someone_else_is_not_used(base, tmp_path, monkeypatch):
    folder = jit._cache_folder()
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert jit._cache_folder() != folder


def test_a_user_without_a_home(base, tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home():
        raise RuntimeError("could not determine home directory")

    monkeypatch.setattr(jit.Path, "home", no_home)
    assert jit._cache_folder().parent == tmp_path


def test_a_kernel_that_another_process_removes_meanwhile_is_none(base, monkeypatch):
    monkeypatch.setattr(jit, "CACHE_FOLDER", jit._cache_folder())
    doubled = jit.njit(lambda x: 2 * x)
    path = jit.CACHE_FOLDER / f"{doubled.py_func.__module__}.{doubled.py_func.__qualname__}-1-1"
    path.touch()
    look = jit.Path.stat

    def removed_behind(one, **how):
        found = look(one, **how)
        if one == path:
            path.unlink()
        return found

    monkeypatch.setattr(jit.Path, "stat", removed_behind)
    assert not doubled._cache.is_warm()
    assert not path.is_symlink()


def test_machine_code_is_that_of_the_arguments_types():
    """A kernel that was called with numbers of two kinds has machine code for each; plain functions are their own."""
    kernel = numba.njit(lambda value: value / 2)
    assert (kernel(7), kernel(7.5)) == (3.5, 3.75)
    assert (jit.entry_point(kernel, 9)(7), jit.entry_point(kernel, 1.0)(7.5)) == (3.5, 3.75)
    assert jit.entry_point(kernel, 9) is not jit.entry_point(kernel, 1.0)
    assert jit.entry_point(len, []) is len
