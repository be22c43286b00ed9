"""A folder that looks like a clone, in which the examples of documents are run as they stand."""

import os
import subprocess
import sys

import pytest

from tests.machines import ROOT


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
    """What the command prints, which must succeed."""
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
