"""CONTRIBUTING.md, worked through: its files are written into a copy of the tree and its commands are run there."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.machines import ROOT

pytestmark = pytest.mark.slow
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = {
    name: TEXT.partition(f"\n## {name}\n")[2].partition("\n## ")[0] for name in ("Add a unit", "Add an accelerator")
}


def work_through(section, tree, environment):
    """Every block of a section in order: a file is written, or commands are run."""
    blocks = re.findall(r"```(\w+)\n(.*?)```", SECTIONS[section], re.DOTALL)
    assert blocks
    for kind, block in blocks:
        if kind != "bash":
            path = tree / re.match(r"# (\S+)\n", block)[1]
            assert not path.exists()
            # A Python file begins with its docstring; the line that names the file is the document's.
            path.write_text(block.partition("\n")[2] if kind == "python" else block)
            continue
        done = subprocess.run(
            ["bash", "-euc", block], cwd=tree, env=environment, capture_output=True, text=True, timeout=1800
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone")
    for name in ("archsim", "hwconfigs", "workloads", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.gradients*"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture(scope="module")
def environment(tree):
    """The commands ``archsim`` and ``pytest`` of a clone that is installed in place."""
    commands = tree / "bin"
    commands.mkdir()
    for name in ("archsim", "pytest"):
        options = " -p no:cacheprovider" if name == "pytest" else ""
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name}{options} "$@"\n')
        (commands / name).chmod(0o755)
    return {
        **os.environ,
        "PYTHONPATH": str(tree),
        "NUMBA_CACHE_DIR": str(tree / "cache"),
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
    }


def test_a_unit_and_an_accelerator(tree, environment):
    """In this order, because the accelerator is built of the unit."""
    for section in SECTIONS:
        work_through(section, tree, environment)
    files = [tree / path for path in re.findall(r"^# (\S+\.py)$", TEXT, re.MULTILINE)]
    assert len(files) == 4
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *check, *files], cwd=tree, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
