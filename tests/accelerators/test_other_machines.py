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


def test_machines_of_several_folders_are_found_and_take_no_name_of_ours(tmp_path):
    for folder, name in (("one", "mine"), ("two", "loas")):
        (tmp_path / folder / "archsim_machines").mkdir(parents=True)
        (tmp_path / folder / "archsim_machines" / f"{folder}.py").write_text(MACHINE.format(name=name))
    show = (
        "from archsim.accelerators import registry; print(len(registry()), registry()['mine'].__module__,"
        " registry()['loas'].__module__)"
    )
    found = {}
    for path in ([ROOT], [ROOT, tmp_path / "one", tmp_path / "two"]):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
        done = subprocess.run([sys.executable, "-c", show], env=environment, capture_output=True, text=True)
        found[len(path)] = done.stdout.split() or done.stderr.splitlines()[-1]
    assert found[1] == "KeyError: 'mine'"
    assert found[3][1:] == ["archsim_machines.one", "archsim.accelerators.loas"]


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
