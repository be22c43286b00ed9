"""Machines in folders called ``archsim_machines``, wherever on Python's path."""

import os
import subprocess
import sys

import pytest

from tests.machines import ROOT

MACHINE = '''
"""LoAS under another name."""

from typing import ClassVar, Literal

from archsim.accelerators.loas import LoAS, LoasConfig


class Config(LoasConfig):
    """The same."""

    accelerator: Literal["{name}"]


class Mine(LoAS):
    """LoAS, {name}."""

    name: ClassVar[str] = "{name}"
    Config = Config
'''


def machines_of(tmp_path, **modules):
    """The environment in which each of these modules is in a folder of its own, all of them on Python's path."""
    for module, text in modules.items():
        (tmp_path / module / "archsim_machines").mkdir(parents=True)
        (tmp_path / module / "archsim_machines" / f"{module}.py").write_text(text)
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [ROOT, *(tmp_path / module for module in modules)]))}


def test_machines_of_several_folders_are_found(tmp_path):
    show = (
        "from archsim.accelerators import registry; print(len(registry()), registry()['mine'].__module__,"
        " registry()['yours'].__module__)"
    )
    found = []
    for modules in ({}, {"one": MACHINE.format(name="mine"), "two": MACHINE.format(name="yours")}):
        environment = machines_of(tmp_path, **modules)
        done = subprocess.run([sys.executable, "-c", show], env=environment, capture_output=True, text=True)
        found.append(done.stdout.split() or done.stderr.splitlines()[-1])
    assert found[0] == "KeyError: 'mine'"
    assert found[1][1:] == ["archsim_machines.one", "archsim_machines.two"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("loas",), "archsim_machines.one: Mine is called 'loas', as a machine of archsim is; give it another name"),
        (
            ("mine", "mine"),
            "archsim_machines.two: Mine is called 'mine', as Mine of archsim_machines.one is; give it another name",
        ),
    ],
)
def test_a_name_that_is_taken_is_said(names, said, tmp_path):
    """Nobody's machine is silently another one."""
    texts = [MACHINE.format(name=name) for name in names]
    environment = machines_of(tmp_path, **dict(zip(("one", "two"), texts, strict=False)))
    command = [sys.executable, "-m", "archsim", "check", "loas"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"archsim: error: {said}\n")


@pytest.mark.parametrize(("text", "said"), [
    ("import nowhere_to_be_found", "archsim_machines.mine: cannot be imported: ModuleNotFoundError: No module named"),
    ("def (", "archsim_machines.mine: cannot be imported: SyntaxError"),
    ("raise SystemExit(0)", "archsim_machines.mine: cannot be imported: SystemExit: 0"),
    (MACHINE.format(name="mine") + "    agents = ()\n", "archsim_machines.mine: Mine has no 'agents'"),
    (MACHINE.format(name=""), "archsim_machines.mine: Mine has no 'name'"),
])  # fmt: skip
def test_a_module_that_is_no_machine_is_said_in_a_line(text, said, tmp_path):
    (tmp_path / "archsim_machines").mkdir()
    (tmp_path / "archsim_machines" / "mine.py").write_text(text)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, tmp_path)))}
    command = [sys.executable, "-m", "archsim", "check", "loas"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"archsim: error: {said}")
