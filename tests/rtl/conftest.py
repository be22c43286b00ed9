"""What comparisons with circuits have compared goes to a file, for ``python benchmarks/accuracy --circuits``.

``ARCHSIM_RTL_COUNTS`` names the file. A test that compares adds a line: its name, its cases, their completions, and how
many of the cases differ; a test ends with the first that does.
"""

import os
from pathlib import Path

from tests.rtl.circuit import COMPARED


def pytest_runtest_setup(item):
    COMPARED.clear()


def pytest_runtest_makereport(item, call):
    file = os.environ.get("ARCHSIM_RTL_COUNTS")
    if file and call.when == "call" and (COMPARED or call.excinfo):
        differs = int(call.excinfo is not None)
        with Path(file).open("a") as lines:
            lines.write(f"{item.nodeid},{len(COMPARED) + differs},{sum(COMPARED)},{differs}\n")
