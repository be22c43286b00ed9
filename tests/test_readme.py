"""The README's examples, run as they stand in a folder that looks like a clone."""

import os
import re
import subprocess
import sys

import pytest
import yaml

import archsim
from tests.machines import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    "\n".join(line[4:] for line in block.splitlines()).strip()
    for block in re.findall(r"(?:^(?:    .*)?\n)+", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL), re.MULTILINE)
    if block.strip()
]
ELSEWHERE = {
    "python3 -m venv .venv && .venv/bin/pip install": "installs and tests archsim: .ci/run does",
    "archsim trace import net.nir": "needs nir: tests/export/test_nir.py imports graphs from the command line",
}
"""How the examples begin that this test does not run, and who runs them."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A folder with the inputs of a clone, and ``archsim`` and ``python`` in the path."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("hwconfigs", "workloads", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "bin").mkdir()
    for name, options in (("archsim", " -m archsim"), ("python", "")):
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{options} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    return folder


def run(clone, command, *arguments):
    environment = {
        **os.environ,
        "PATH": f"{clone / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks" / "papers")]),
    }
    done = subprocess.run(
        [command, *arguments], cwd=clone, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def elsewhere(block):
    return [start for start in ELSEWHERE if block.startswith(start)]


def test_all_examples_are_known():
    assert len(COMMANDS) >= 7
    assert {start for block in COMMANDS for start in elsewhere(block)} == set(ELSEWHERE)


@pytest.mark.parametrize(
    "block", [b for b in COMMANDS if not elsewhere(b)], ids=lambda block: block.split("\n")[0][:40]
)
def test_commands(clone, block):
    run(clone, "bash", "-euc", block)


def test_a_sweep_from_python(clone):
    (code,) = [b for b in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "archsim.sweep(" in b]
    (clone / "example.py").write_text(code)
    lines = run(clone, "python", "example.py").splitlines()
    assert [line.split()[1] for line in lines] == ["cycles", "8", "16"]


def test_the_citation_is_of_this_version():
    version = archsim.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == version
    assert f"version = {{{version}}}" in TEXT
    assert f"title = {{{citation['title']}}}" in TEXT
