"""Pages whose examples run as they stand: every block of a page in order, in one folder.

A block of ``python`` or ``yaml`` whose first line is ``# NAME`` goes into that file, behind what is there already. All
other blocks of ``bash`` and ``python`` are run, as on a terminal. A block of ``text`` shows what the run before it
printed, with ``...`` for what varies; how much space is between words does not matter. Python files must be as ruff
wants them, as everything in the tree.
"""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
COLUMNS, LINES = 80, 24
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FILE = re.compile(r"# ([\w./-]+\.\w+)\n")


class Block(NamedTuple):
    """What stands between two fences; ``line`` is where it begins."""

    kind: str
    text: str
    line: int


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)
        for found in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def environment(folder):
    """``archsim`` and ``pytest`` as an installation has them: neither looks for modules in the folder itself."""
    commands = folder / ".commands"
    commands.mkdir()
    options = {"archsim": " -P -m archsim", "python": "", "pytest": " -P -m pytest -p no:cacheprovider"}
    for name, given in options.items():
        run = f'PYTHONPATH="{ROOT}:$PYTHONPATH" exec "{sys.executable}"{given} "$@"'
        (commands / name).write_text(f"#!/bin/sh\n{run}\n")
        (commands / name).chmod(0o755)
    path = {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}
    return {**os.environ, **path, "COLUMNS": str(COLUMNS), "LINES": str(LINES), "TERM": "dumb", "NO_COLOR": "1"}


def shown(commands, folder, variables):
    """What ``commands`` of a shell print on a terminal, then its errors and notes; the progress bar is silent.

    What they export stays for the next ones.
    """
    exported = folder / ".exported"
    before = f". {exported}\n" if exported.exists() else ""
    command = ["bash", "-euc", f"{before}{commands}\nexport -p > {exported}"]
    ours, terminal = os.openpty()
    with subprocess.Popen(command, cwd=folder, env=variables, stdout=terminal, stderr=subprocess.PIPE) as running:
        os.close(terminal)
        printed = b""
        with os.fdopen(ours, "rb", buffering=0) as reading:
            while part := _some(reading):
                printed += part
        notes = running.stderr.read()
    return running.returncode, (printed + notes).decode().replace("\r\n", "\n")


def _some(terminal):
    try:
        return terminal.read(1 << 16)
    except OSError:  # how Linux says that nobody has the terminal open any more
        return b""


def work_through(page, folder):
    """Every block of ``page``; fails at the first that does not do what the page says."""
    for name in ("hwconfigs", "workloads"):  # as in a clone
        (folder / name).symlink_to(ROOT / name)
    variables, written, printed, whence = environment(folder), set(), None, None
    for block in blocks(page):
        place = f"{page.name}:{block.line}"
        named = FILE.match(block.text) if block.kind in ("python", "yaml") else None
        if named:
            path = folder / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(block.text.partition("\n")[2])
            written.add(path)
        elif block.kind in ("bash", "python"):
            commands = block.text
            if block.kind == "python":
                (folder / ".block.py").write_text(block.text)
                commands = "python .block.py"
            code, printed = shown(commands, folder, variables)
            assert code == 0, f"{place}:\n{block.text}\n{printed}"
            whence = place
        elif block.kind == "text":
            assert printed is not None, f"{place}: an output of nothing"
            matches = doctest.OutputChecker().check_output(block.text, printed, LOOSE)
            assert matches, f"{place}: shows\n{block.text}\nbut {whence} printed\n{printed}"
        else:
            assert block.kind == "latex", f"{place}: a block of {block.kind or 'no kind'}"
    check_style(folder, [path for path in written if path.suffix == ".py"])


def check_style(folder, files):
    """Python files are as ruff wants those of the tree."""
    ours = ["--config", ROOT / "pyproject.toml", "--config", 'lint.isort.known-first-party = ["archsim"]']
    for check in (["check", "--ignore", "T20,D1"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *check, *ours, *files]
        done = subprocess.run(ruff, cwd=folder, capture_output=True, text=True) if files else None
        assert done is None or done.returncode == 0, done.stdout
