"""Edit a unit in a copy of the package: the next run must see the edit, although kernels are cached on disk."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import archsim

PROGRAM = """
from archsim.compress.bitmask import popcount
from archsim.hardware.compute.inner_join import join_cycles
from archsim.jit import kernel

@kernel
def caller(overhead, matches):
    return join_cycles(overhead, matches, 0, 0)

print(caller(2, 3))
"""


def cycles(folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "cache")}
    program = folder / "archsim" / "caller.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "archsim.caller"]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_an_edit_is_seen(tmp_path):
    shutil.copytree(Path(archsim.__file__).parent, tmp_path / "archsim", ignore=shutil.ignore_patterns("__pycache__"))
    assert cycles(tmp_path) == "5"
    assert cycles(tmp_path) == "5"
    unit = tmp_path / "archsim" / "hardware" / "compute" / "inner_join.py"
    unit.write_text(unit.read_text().replace("max(1, overhead + matches)", "max(1, overhead + matches + 10)"))
    assert cycles(tmp_path) == "15"
