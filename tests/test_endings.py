"""How archsim ends when it is not asked, or not able, to go on: one line, a documented exit code, at any moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archsim.cli import main
from tests.machines import ROOT

pytestmark = pytest.mark.slow
LOAS, VGG9 = ROOT / "hwconfigs" / "loas.yaml", ROOT / "workloads" / "vgg9_dual_sparse.npz"
ARCHSIM = [sys.executable, "-m", "archsim"]
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


def start(*arguments, path=()):
    """The command, with modules from ``path``; whoever starts the tests may have had signals ignored."""
    return subprocess.Popen(
        [*ARCHSIM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))},
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number, _ in SIGNALS],
    )


def shell(command, folder):
    """Exit code and stderr of ``command``, in which $ARCHSIM is the command."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ARCHSIM": " ".join(ARCHSIM)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stderr


# --- signals


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_while_importing(number, code, tmp_path):
    (tmp_path / "typer.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\n")
    process = start("list", path=[tmp_path])
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "archsim: interrupted\n" if code == 130 else "")


LATE = """
import atexit, os, sys, {modules}

def end():
    os.kill(os.getpid(), {number})

class Late:
    def __del__(self, end=end):
        end()

{when}
"""


@pytest.mark.parametrize("when", ["atexit.register(end)", "sys.modules['late'] = Late()"], ids=["atexit", "last"])
@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_while_python_ends(number, code, when, tmp_path):
    """All is done: the exit code is that of what was done."""
    (tmp_path / "usercustomize.py").write_text("")
    (tmp_path / "sitecustomize.py").write_text(LATE.format(modules="signal", number=int(number), when=when))
    process = start("--version", path=[tmp_path])
    output, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    assert output.startswith("archsim ")


def catches(process, number):
    """Whether ``process`` handles the signal."""
    caught = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigCgt" in line]
    return any(int(line.split()[1], 16) >> (number - 1) & 1 for line in caught)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says which signals a process handles")
@pytest.mark.parametrize(("number", "code"), SIGNALS[:2])
def test_at_any_moment(number, code):
    """From the moment Python has given archsim the word to the end of the process."""
    started = time.monotonic()
    start("check", LOAS).communicate(timeout=60)
    takes_s = time.monotonic() - started
    codes = []
    for step in range(12):
        process = start("check", LOAS)
        while process.poll() is None and not catches(process, signal.SIGHUP):  # the last one that it sets
            pass
        time.sleep(takes_s * step / 10)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        codes.append(process.returncode)
        assert said == ("archsim: interrupted\n" if process.returncode == 130 else "")
    assert set(codes) <= {0, code}
    assert code in codes


# --- nobody listens


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("command", ["--version", "--help", "list", f"trace info {VGG9}", f"explain {LOAS}"])
def test_a_full_disk_behind_stdout(command, tmp_path):
    assert shell(f"$ARCHSIM {command} >/dev/full", tmp_path) == (
        2,
        "archsim: error: input or output: No space left on device\n",
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("$ARCHSIM check nope 2>/dev/full", 2),
        ("$ARCHSIM check nope >/dev/full 2>&1", 2),
        (f"$ARCHSIM check {LOAS} 2>/dev/full", 0),
        (f"$ARCHSIM explain {LOAS} >&-", 0),
        (f"$ARCHSIM explain {LOAS} | true; exit ${{PIPESTATUS[0]}}", 0),
        (f"$ARCHSIM explain {LOAS} | head -1; exit ${{PIPESTATUS[0]}}", 0),
    ],
)
def test_streams_that_take_nothing(command, code, tmp_path):
    assert shell(command, tmp_path) == (code, "")


# --- too little memory


@pytest.mark.parametrize(
    ("option", "kib", "says"),
    [
        ("-v", 150_000, "the address space is limited to 146 MiB (ulimit -v)"),
        ("-v", 358_400, "the address space is limited to 350 MiB (ulimit -v)"),
        ("-v", 400_000, "the address space is limited to 390 MiB (ulimit -v)"),
        ("-v", 1_000_000, "the address space is limited to 976 MiB (ulimit -v)"),
        ("-d", 358_400, "the data segment is limited to 350 MiB (ulimit -d)"),
    ],
)
def test_limits_that_leave_no_room_for_compiled_code(option, kib, says, tmp_path):
    """Under some of them OpenBLAS would wait for ever, deaf to all signals, or LLVM abort."""
    expected = f"archsim: error: not enough memory: {says}; archsim needs 1024\n"
    assert shell(f"ulimit {option} {kib}; $ARCHSIM run {LOAS} {VGG9} -o out", tmp_path) == (2, expected)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="takes minutes")
def test_what_is_said_to_be_enough_is(tmp_path):
    """The limit that the message names."""
    command = f"ulimit -v 1048576; $ARCHSIM run {LOAS} {VGG9} --layers fc -o out"
    code, said = shell(command, tmp_path)
    assert (code, (tmp_path / "out" / "summary.json").exists()) == (0, True), said


def raised(error, cause=None):
    def fail(*_, **__):
        raise error from cause

    return fail


@pytest.mark.parametrize(
    ("error", "cause", "says"),
    [
        (MemoryError(), None, "no reason given"),
        (MemoryError("16 TiB"), None, "16 TiB"),
        (RuntimeError("can't start new thread"), None, "can't start new thread"),
        (ValueError("lowering failed"), MemoryError("64 KiB"), "64 KiB"),
    ],
)
def test_no_memory_is_no_bug(error, cause, says, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("archsim.simulate.run", raised(error, cause))
    assert main(["run", str(LOAS), str(VGG9), "-o", str(tmp_path / "out")]) == 2
    assert f"archsim: error: not enough memory: {says}\n" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
