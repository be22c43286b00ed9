"""Bad input on the command line: one readable line a problem, exit code 2, nothing written, never a traceback."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archsim.cli import main
from archsim.trace import save_trace
from tests.bad_traces import bad_traces
from tests.small_traces import tiny

ROOT = Path(__file__).parent.parent
LOAS = ROOT / "hwconfigs" / "loas.yaml"
VGG9 = ROOT / "workloads" / "vgg9_dual_sparse.npz"
GOOD = LOAS.read_text()


def archsim(*arguments):
    """Exit code of a run in this process."""
    return main([str(argument) for argument in arguments])


def changed(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


BAD_MACHINES = {
    "syntax": "pe: [1, 2\n",
    "tab": "pe:\n\tcount: 16\n",
    "empty": "",
    "a list": "- 1\n- 2\n",
    "a word": "loas\n",
    "unknown accelerator": changed("accelerator: loas", "accelerator: laos"),
    "no accelerator": changed("accelerator: loas\n", ""),
    "unknown key": changed("  banks: 16 ", "  bankz: 16 "),
    "unknown block": GOOD + "\nmemroy:\n  ideal: true\n",
    "missing key": changed("clock_mhz: 800 ", "#"),
    "duplicate key": GOOD + "\nclock_mhz: 900\n",
    "text for a number": changed("fifo_depth: 8 ", "fifo_depth: eight "),
    "quoted number": changed("fifo_depth: 8 ", "fifo_depth: '8' "),
    "float for an int": changed("fifo_depth: 8 ", "fifo_depth: 8.5 "),
    "bool for an int": changed("fifo_depth: 8 ", "fifo_depth: true "),
    "a mapping for a number": changed("fifo_depth: 8 ", "fifo_depth: {a: 1} "),
    "a number for a mapping": changed("p_lif:\n  cycles: 1 ", "p_lif: 1 #"),
    "null": changed("fifo_depth: 8 ", "fifo_depth: null "),
    "zero": changed("  count: 16 ", "  count: 0 "),
    "negative": changed("fifo_depth: 8 ", "fifo_depth: -8 "),
    "huge": changed("  count: 16 ", "  count: 1000000000000000000000000 "),
    "NaN": changed("clock_mhz: 800 ", "clock_mhz: .nan "),
    "infinite": changed("clock_mhz: 800 ", "clock_mhz: .inf "),
    "unknown choice": changed("laggy: hidden ", "laggy: hiden "),
    "too many timesteps": changed("timesteps: 4 ", "timesteps: 99 "),
    "impossible cache": changed("size_kib: 256 ", "size_kib: 7 "),
    "line not a power of two": changed("line_bytes: 64 ", "line_bytes: 48 "),
    "all ways streamed": changed("stream_ways: 1 ", "stream_ways: 16 "),
    "hit slower than miss": changed("row_hit_ns: 97 ", "row_hit_ns: 500 "),
    "unknown cost table": changed("table: loas_32nm ", "table: loas_31nm "),
    "cyclic alias": "pe: &a\n  count: *a\n",
    "alias bomb": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n" + "d: [*c, *c]\n",
    "100 MB of aliases": "a: &a [0]\nb: [" + "*a, " * 300_000 + "]\n",
    "a tag": "pe: !!python/object/apply:os.system ['true']\n",
    "two documents": GOOD + "\n---\na: 1\n",
    "not UTF-8": b"\xff\xfe\x00a: 1",
    "deep nesting": "a: " + "[" * 2000 + "]" * 2000,
}


def expect_refused(code, capsys, output, *, says=()):
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert code == 2
    assert lines, captured.out
    assert all(line.startswith("archsim: error: ") for line in lines), captured.err
    assert "Traceback" not in captured.err
    assert not output.exists()
    assert not [path for path in output.parent.iterdir() if path.name.lstrip(".").startswith(output.name)]
    for text in says:
        assert text in captured.err


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Whatever is written by mistake is seen."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.mark.parametrize("fault", BAD_MACHINES)
def test_bad_machine(fault, tmp_path, capsys):
    text = BAD_MACHINES[fault]
    path = tmp_path / "machine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    code = archsim("run", path, VGG9, "-o", tmp_path / "out")
    expect_refused(code, capsys, tmp_path / "out", says=() if fault == "unknown cost table" else ("machine.yaml",))


def test_bad_traces(tmp_path, capsys):
    faults = bad_traces(tmp_path)
    assert len(faults) >= 35
    for fault, path in faults.items():
        code = archsim("run", LOAS, path, "-o", tmp_path / "out")
        try:
            expect_refused(code, capsys, tmp_path / "out", says=(path.name,))
        except AssertionError as error:
            raise AssertionError(f"bad trace: {fault}") from error


COMMAND_LINES = {
    "unknown verb": ["runn", LOAS, VGG9],
    "unknown option": ["run", LOAS, VGG9, "--enginee", "compiled"],
    "unknown engine": ["run", LOAS, VGG9, "--engine", "fast"],
    "no trace": ["run", LOAS],
    "too many arguments": ["run", LOAS, VGG9, VGG9],
    "unknown layer": ["run", LOAS, VGG9, "--layers", "conv77"],
    "only layers that are not simulated": ["run", LOAS, VGG9, "--layers", "pool1"],
    "override of nothing": ["run", LOAS, VGG9, "--set", "pe.cuont=3"],
    "override without a value": ["run", LOAS, VGG9, "--set", "pe.count"],
    "override out of range": ["run", LOAS, VGG9, "--set", "pe.count=0"],
    "override of the wrong type": ["run", LOAS, VGG9, "--set", "pe.count=many"],
    "override of a block": ["run", LOAS, VGG9, "--set", "pe=3"],
    "fewer timesteps than the trace": ["run", LOAS, VGG9, "--set", "timesteps=2"],
    "narrower weights than the trace": ["run", LOAS, VGG9, "--set", "pe.weight_bits=4"],
    "machine that is missing": ["run", "nothing.yaml", VGG9],
    "machine that is a folder": ["run", ROOT, VGG9],
    "trace that is missing": ["run", LOAS, "nothing.npz"],
    "trace that is a folder": ["run", LOAS, ROOT],
    "trace as machine": ["run", VGG9, VGG9],
    "machine as trace": ["run", LOAS, LOAS],
    "info of nothing": ["trace", "info", "nothing.npz"],
    "check of nothing": ["check", "nothing.yaml"],
    "explain of nothing": ["explain", "nothing.yaml"],
    "schema of nothing": ["schema", "laos"],
    "plot of nothing": ["plot", "nothing"],
    "unknown preset": ["trace", "synth", "vgg61", "-o", "out.npz"],
}


@pytest.mark.parametrize("fault", COMMAND_LINES)
def test_bad_command_line(fault, tmp_path, capsys):
    arguments = list(COMMAND_LINES[fault])
    if arguments[0] == "run":
        arguments += ["-o", tmp_path / "out"]
    expect_refused(archsim(*arguments), capsys, tmp_path / "out")
    assert not list(Path.cwd().iterdir())


def test_output_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert archsim("run", LOAS, VGG9, "--layers", "fc", "-o", tmp_path / "file" / "out") == 2
    assert "archsim: error: " in capsys.readouterr().err
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("mine")
    assert archsim("run", LOAS, VGG9, "--layers", "fc", "-o", tmp_path / "precious") == 2
    assert (tmp_path / "precious" / "thesis.tex").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"


def test_there_are_enough_of_them():
    assert len(BAD_MACHINES) + len(COMMAND_LINES) >= 60


def test_same_run_same_bytes(tmp_path, capsys):
    trace = tmp_path / "tiny.npz"
    save_trace(tiny(), trace)
    for name in ("a", "b"):
        assert archsim("run", LOAS, trace, "-o", tmp_path / name) == 0
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"summary.json", "layers.csv", "traffic.csv", "energy.csv", "area.csv", "units.csv", "resolved.yaml"} <= set(
        files
    )
    for name in files:
        first, second = ((tmp_path / folder / name).read_text() for folder in ("a", "b"))
        if name == "summary.json":
            first, second = ({**json.loads(text), "engine_wall_s": 0} for text in (first, second))
        assert first == second, name


def test_both_engines_from_the_command_line(tmp_path, capsys):
    trace = tmp_path / "tiny.npz"
    save_trace(tiny(), trace)
    for engine in ("compiled", "reference"):
        assert archsim("run", LOAS, trace, "--engine", engine, "-o", tmp_path / engine) == 0
    for name in ("layers.csv", "traffic.csv", "energy.csv", "units.csv"):
        assert (tmp_path / "compiled" / name).read_bytes() == (tmp_path / "reference" / name).read_bytes()


def test_silence_in_a_pipe_and_ctrl_c(tmp_path):
    """The reference engine on a whole network takes long enough to be interrupted; nothing may be left."""
    command = [sys.executable, "-m", "archsim", "run", str(LOAS), str(VGG9), "--engine", "reference", "-o", "out"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 60
    while not [path for path in tmp_path.iterdir() if path.name != "work"] and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == b""
    assert b"Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
