"""Bad input on the command line: one readable line a problem, exit code 2, nothing written, never a traceback."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from archsim import simulate
from archsim.cli import main
from archsim.simulate import run
from archsim.trace import Trace, save_trace
from tests.bad_traces import FAULTS as BAD_TRACES
from tests.bad_traces import bad_trace, good_trace
from tests.small_traces import tiny
from tests.unit.trace.test_recorded import recording

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
    "a number for a mapping": changed("neuron:\n  cycles: 1 ", "neuron: 1 #"),
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
    "bandwidth of nothing": changed("bandwidth_gb_s: 128 ", "bandwidth_gb_s: 1e-300 "),
    "clock that stands still": changed("clock_mhz: 800 ", "clock_mhz: 1e-300 "),
    "clock too fast for the memory": changed("clock_mhz: 800 ", "clock_mhz: 31415.926535897932 ").replace(
        "bandwidth_gb_s: 128 ", "bandwidth_gb_s: 0.001 "
    ),
    "row shorter than a line": changed("line_bytes: 64 ", "line_bytes: 1024 ").replace(
        "row_bytes: 1024 ", "row_bytes: 512 "
    ),
    "nothing but refresh": changed("refresh_interval_ns: 0 ", "refresh_interval_ns: 0.9 ").replace(
        "refresh_ns: 0 ", "refresh_ns: 0.8 "
    ),
    "unknown cost table": changed("table: loas_32nm ", "table: loas_31nm "),
    "cyclic alias": "pe: &a\n  count: *a\n",
    "alias bomb": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n" + "d: [*c, *c]\n",
    "100 MB of aliases": "a: &a [0]\nb: [" + "*a, " * 300_000 + "]\n",
    "a tag": "pe: !!python/object/apply:os.system ['true']\n",
    "two documents": GOOD + "\n---\na: 1\n",
    "not UTF-8": b"\xff\xfe\x00a: 1",
    "an escape beyond Unicode": 'a: "\\U00110000"\n',
    "a version of many digits": "%YAML 999" + "9" * 5000 + ".1\n---\na: 1\n",
    "too many keys": GOOD + "".join(f"k{i}: 1\n" for i in range(10_000)),
    "deep nesting": "a: " + "[" * 2000 + "]" * 2000,
}


def expect_refused(code, capsys, output, *, says=()):
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line != "compiling kernels (first run only)"]
    assert code == 2
    assert lines, captured.out
    assert all(line.startswith("archsim: error: ") for line in lines), captured.err
    assert "Traceback" not in captured.err
    assert not output.exists()
    assert not [path for path in output.parent.iterdir() if path.name.lstrip(".").startswith(output.name)]
    for text in says:
        assert text in captured.err


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_trace(tmp_path_factory.mktemp("traces"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Whatever is written by mistake is seen."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


SKIPPED = ["--set", "scheduler.encoder=skipped"]
SHARES = ["--spike-density", 0.2, "--silent-ratio", 0.5, "--weight-density", 0.1]
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
    "override with a raised digit": ["run", LOAS, VGG9, "--set", "pe.count=a:\u00b2"],
    "override beyond Unicode": ["run", LOAS, VGG9, "--set", 'pe.count="\\U00110000"'],
    "check of an unknown cost table": ["check", LOAS, "--set", "cost.table=nope"],
    "sums beyond measure": ["trace", "synth", "--shape", "1048576,256,1", *SHARES, "-o", "out.npz"],
    "products beyond measure": ["trace", "synth", "--shape", "1048576,256,1024", *SHARES, "-o", "out.npz"],
    "override of a block": ["run", LOAS, VGG9, "--set", "pe=3"],
    "fewer timesteps than the trace": ["run", LOAS, VGG9, *SKIPPED, "--set", "timesteps=2"],
    "narrower weights than the trace": ["run", LOAS, VGG9, "--set", "pe.weight_bits=4"],
    "unknown encoder": ["run", LOAS, VGG9, "--set", "scheduler.encoder=bitplanes"],
    "encoder of a number": ["run", LOAS, VGG9, "--set", "scheduler.encoder=2"],
    "unary planes on a chip": ["run", LOAS.with_name("spikesim.yaml"), VGG9, "--set", "scheduler.encoder=unary"],
    "no timesteps": ["run", LOAS, VGG9, "--set", "timesteps=0"],
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
    "unknown preset": ["trace", "synth", "--preset", "vgg61", "-o", "out.npz"],
    "neither preset nor shape": ["trace", "synth", "-o", "out.npz"],
    "shape of two": ["trace", "synth", "--shape", "64,256", *SHARES, "-o", "out.npz"],
    "shape of nothing": ["trace", "synth", "--shape", "0,8,8", *SHARES, "-o", "out.npz"],
    "shape without densities": ["trace", "synth", "--shape", "8,8,8", "-o", "out.npz"],
    "densities that exclude each other": [
        *("trace", "synth", "--shape", "8,8,64", "--spike-density", 0.9, "--silent-ratio", 0.9),
        *("--weight-density", 0.5, "-o", "out.npz"),
    ],
    "preset with a density": ["trace", "synth", "--preset", "V-L8", "--silent-ratio", 0.5, "-o", "out.npz"],
    "a machine for integers on spikes": ["run", LOAS.with_name("sparten.yaml"), VGG9],
    "trace and machine swapped": ["run", VGG9, LOAS],
    "the same machine twice": ["compare", LOAS, LOAS, "--trace", VGG9],
}


BAD_INPUTS = [
    *(("machine", fault) for fault in BAD_MACHINES),
    *(("trace", fault) for fault in BAD_TRACES),
    *(("command line", fault) for fault in COMMAND_LINES),
]


@pytest.mark.parametrize(("kind", "fault"), BAD_INPUTS)
def test_bad_input(kind, fault, good, tmp_path, capsys):
    """One readable line a problem, exit code 2, nothing written."""
    output, says = tmp_path / "out", ()
    if kind == "machine":
        text, path = BAD_MACHINES[fault], tmp_path / "machine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        arguments = ["run", path, VGG9, "-o", output]
        says = () if fault == "unknown cost table" else ("machine.yaml",)
    elif kind == "trace":
        path = bad_trace(fault, good)
        arguments, says = ["run", LOAS, path, "-o", output], (path.name,)
    else:
        arguments = list(COMMAND_LINES[fault])
        arguments += ["-o", output] if arguments[0] == "run" else []
    expect_refused(archsim(*arguments), capsys, output, says=says)
    assert not list(Path.cwd().iterdir())


def test_there_are_enough_of_them():
    assert len(set(BAD_INPUTS)) >= 150


def test_outputs_that_do_not_follow_from_the_inputs(tmp_path, capsys):
    """The results are written, say so, and the exit code is that of wrong input."""
    trace = tiny()
    wrong = trace.tensor("conv2.spikes").copy()
    wrong[0, 0, 0, 0, 0] ^= True
    changed = Trace(
        network="wrong", timesteps=4, operations=trace.operations, provenance=trace.provenance,
        tensors={name: wrong if name == "conv2.spikes" else trace.tensor(name) for name in trace.tensors},
    )  # fmt: skip
    path = tmp_path / "wrong.npz"
    save_trace(changed, path)
    assert archsim("run", LOAS, path, "--layers", "conv2", "-o", tmp_path / "out") == 2
    assert "1 of 1 layers: 1 outputs differ from the trace's, in conv2" in capsys.readouterr().err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["verified"], summary["mismatches"]) == (False, 2), "the pool behind it does not follow either"
    assert archsim("run", LOAS, path, "--layers", "conv2", "--no-verify", "-o", tmp_path / "unverified") == 0
    assert json.loads((tmp_path / "unverified" / "summary.json").read_text())["verified"] is None


def test_output_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert archsim("run", LOAS, VGG9, "--layers", "fc", "-o", tmp_path / "file" / "out") == 2
    assert "archsim: error: " in capsys.readouterr().err
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("mine")
    assert archsim("run", LOAS, VGG9, "--layers", "fc", "-o", tmp_path / "precious") == 2
    assert (tmp_path / "precious" / "thesis.tex").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"


def test_files_of_others_stay(good, tmp_path, capsys):
    """Output is refused in the place of inputs, of files that archsim did not write, and of what is no file."""
    trace = tmp_path / "spikes.npz"
    trace.write_bytes(good.read_bytes())
    machine = tmp_path / "machine.yaml"
    machine.write_text(GOOD)
    os.mkfifo(tmp_path / "fifo")
    compare = ["compare", machine, "--trace", trace, "-o"]
    synth = ["trace", "synth", "--shape", "8,8,8", *SHARES, "-o"]
    convert = ["trace", "import", trace, "--format", "spikes", "-o"]
    outputs = [(compare, trace), (compare, machine), (synth, machine), (convert, trace)]
    outputs += [(command, tmp_path / "fifo") for command in (compare, synth, convert)]
    for command, output in outputs:
        assert archsim(*command, output) == 2
        assert f"archsim: error: {output}: is " in capsys.readouterr().err
    assert (trace.read_bytes(), machine.read_text()) == (good.read_bytes(), GOOD)
    assert (tmp_path / "fifo").is_fifo()
    assert archsim("run", LOAS, trace, "-o", "") == 2
    assert "is the current folder" in capsys.readouterr().err
    for _ in range(2):
        assert archsim(*synth, tmp_path / "made.npz") == 0


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError("odd")])
def test_a_full_disk_has_a_name(error, tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise error

    monkeypatch.setattr("archsim.trace.writing._add", full)
    monkeypatch.setattr("archsim.simulate.run", full)
    for command in (["trace", "synth", "--shape", "8,8,8", *SHARES], ["run", LOAS, VGG9]):
        assert archsim(*command, "-o", tmp_path / "out") == 2
        reason = error.strerror or "odd"
        assert errors(capsys) == [f"{tmp_path / 'out'}: cannot be written: {reason}"]


def errors(capsys, kind="error"):
    """Lines of stderr that are errors (or warnings), without what is before them."""
    lines = capsys.readouterr().err.splitlines()
    return [line.removeprefix(f"archsim: {kind}: ") for line in lines if line.startswith(f"archsim: {kind}: ")]


def fails(error):
    def fail(*_, **__):
        raise error

    return fail


def test_not_enough_memory(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("archsim.simulate.run", fails(MemoryError("Unable to allocate 16 TiB")))
    assert archsim("run", LOAS, VGG9, "-o", tmp_path / "out") == 2
    assert errors(capsys) == ["not enough memory: Unable to allocate 16 TiB"]


def test_pipes_are_not_read(tmp_path, capsys):
    """Nothing would ever come out of them."""
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    for command in (
        ["plot", pipe],
        ["check", pipe],
        ["check", LOAS, "--set", f"cost.table={pipe}"],
        ["plot", "/dev/zero"],
    ):
        assert archsim(*command) == 2
        assert "not a regular file" in capsys.readouterr().err


def test_explain_says_what_is_overridden(capsys):
    assert archsim("explain", LOAS, "--set", "neuron={cycles: 3}", "--set", " pe.count = 8") == 0
    given = dict(line.split("\t")[:3:2] for line in capsys.readouterr().out.splitlines() if line.count("\t") == 5)
    assert (given["neuron.cycles"], given["pe.count"], given["clock_mhz"]) == ("override", "override", "file")


def test_a_trace_of_any_name_is_checked(good, tmp_path, capsys):
    for name in ("T.NPZ", "trace"):
        (tmp_path / name).write_bytes(good.read_bytes())
        assert archsim("check", tmp_path / name) == 0
        assert "operations, T = 3" in capsys.readouterr().out


def test_chosen_layers_that_are_not_simulated_are_named(tmp_path, capsys):
    save_trace(tiny(), tmp_path / "tiny.npz")
    assert (
        archsim("run", LOAS, tmp_path / "tiny.npz", "--layers", "conv1,conv2,pool", *SKIPPED, "-o", tmp_path / "out")
        == 0
    )
    (warning,) = errors(capsys, "warning")[:1]
    assert warning.startswith("left out: 1 of 3 layers, ")
    assert "conv1 (" in warning
    assert warning.endswith(" reads pixels 0 to 252 (direct encoder): see left_out in the summary")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", LOAS.with_name("sparten.yaml"), VGG9], "sparten runs ANN traces (integers, T = 1), this one is of a"),
        (["run", LOAS, VGG9, *SKIPPED, "--layers", "conv1"], f"{LOAS} cannot run {VGG9}: conv1 reads pixels 0 to 255"),
        (["run", LOAS, VGG9, "--layers", "conv9"], "loas runs conv1, conv2, conv3, conv4, conv5, conv6, conv7, "),
        (["run", VGG9, LOAS], "is a trace; expected a hardware file (YAML); the order is HW TRACE"),
        (["run", "loas", "loas"], "loas: is a hardware file; expected a trace (.npz); 'archsim list' names"),
        (["compare", LOAS, VGG9, "--trace", VGG9], f"{VGG9}: is a trace; expected a hardware file (YAML)"),
        (["sweep", "loas", "ptb", "-o", "sweep.csv"], "ptb: is a hardware file; expected a trace"),
        (["plot", "out/layers.csv"], "out/layers.csv: is one file of a results folder; expected the folder, out"),
        (["check", "vgg16"], "vgg16: no such file; 'archsim trace synth --preset vgg16 -o vgg16.npz' makes"),
        (["columns", "LAYERS.CSV"], "'LAYERS.CSV' (did you mean 'layers.csv'?)"),
        (["explain", VGG9], "is a zip file, as a trace is; expected a hardware file"),
        (["explain", LOAS, "--set", "pe.cout=32"], "(did you mean 'pe.count'?)"),
        (["explain", LOAS.with_name("sparten.yaml"), "--set", "cost.table=loas_constant_power"], "it prices 'LoAS"),
    ],
)  # fmt: skip
def test_what_to_do_instead_is_said(arguments, says, capsys):
    assert archsim(*arguments) == 2
    assert says in errors(capsys)[0]


def test_only_close_names_are_suggested(capsys):
    assert archsim("explain", LOAS.with_name("qux.yaml")) == 2
    assert errors(capsys) == [f"{LOAS.with_name('qux.yaml')}: no such file"]
    assert archsim("explain", LOAS.with_name("laos.yml")) == 2
    assert errors(capsys)[0].endswith("no such file (did you mean 'loas.yaml'?)")


def test_an_ann_on_a_machine_for_spikes(tmp_path, capsys):
    trace = tmp_path / "ann.npz"
    shape = ["--shape", "2,3,16", "--activation-density", 0.5, "--weight-density", 0.5]
    assert archsim("trace", "synth", *shape, "-o", trace) == 0
    assert archsim("run", LOAS, trace, *SKIPPED) == 2
    said = errors(capsys)[0]
    assert "layer0 reads integers 0 to " in said
    assert "; loas runs layers that read spikes" in said
    assert archsim("run", LOAS.with_name("sparten.yaml"), trace) == 0


def test_what_was_done_is_said_in_a_pipe_too(tmp_path, capsys):
    """Verified, not asked for, not possible; where the results are; doubts about the numbers."""
    trace, out = tmp_path / "tiny.npz", tmp_path / "out"
    save_trace(tiny(), trace)
    assert archsim("run", LOAS, trace, *SKIPPED, "-o", out, "--set", "pe.correction_accumulator_bits=2") == 0
    written = capsys.readouterr()
    assert "2 of 3 layers simulated, " in written.err
    assert " % of the operations; those verified bit for bit\n" in written.err
    assert f"results in {out}{os.sep}\n" in written.err
    counted = json.loads((out / "summary.json").read_text())["events"]["correction_accumulator_overflows"]
    assert counted > 0
    line = f"{counted:,} additions exceed 2 bits (pe.correction_accumulator_bits); sums were kept exact"
    assert f"archsim: warning: {line}\n" in written.err
    assert written.out.splitlines()[0].split("\t")[:5] == [
        "layer",
        "cycles",
        "stall_cycles",
        "utilization",
        "energy_pj",
    ]
    assert archsim("run", LOAS, trace, *SKIPPED, "-o", out, "--no-verify") == 0
    assert "not verified: --no-verify\n" in capsys.readouterr().err
    recording(tmp_path / "spikes.npz")
    assert archsim("trace", "import", tmp_path / "spikes.npz", "--format", "spikes", "-o", trace) == 0
    assert archsim("run", LOAS, trace, "-o", out) == 0
    written = capsys.readouterr().err
    assert "not verified: the trace stores no outputs\n" in written
    assert "warning: 2 of 2 layers: outputs unknown, written as fully dense (upper bound)\n" in written


def test_a_sweep_prints_what_it_writes(tmp_path, capsys):
    """The table in a pipe has the numbers of the file, digit for digit."""
    trace, table = tmp_path / "tiny.npz", tmp_path / "sweep.csv"
    save_trace(tiny(), trace)
    assert archsim("sweep", LOAS, trace, "--set", "pe.count=8,16", "--jobs", 1, "-o", table) == 0
    head, *lines = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [dict(zip(head, line, strict=True)) for line in lines] == [
        {name: row[name] for name in head} for row in rows
    ]
    assert all(float(row["latency_s"]) > 0 for row in rows)


def test_whatever_leaves_something_out_says_so(tmp_path, capsys):
    """Runs, comparisons (and where machines leave out different things) and sweeps; not where layers are chosen."""
    trace, table = tmp_path / "tiny.npz", tmp_path / "table.csv"
    save_trace(tiny(), trace)
    training = LOAS.with_name("sata_training.yaml")
    assert archsim("compare", LOAS, training, "--trace", trace, *SKIPPED, "-o", table) == 0
    said = errors(capsys, "warning")
    (left_out,) = [line for line in said if " left out: " in line]  # once, though it is so on both
    assert left_out.startswith("loas, sata_training: left out: 1 of 3 layers, ")
    (different,) = [line for line in said if "different parts of the network" in line]
    assert different.startswith("loas and sata_training simulate different layers (conv2, fc against conv2.forward, ")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["same_layers"], row["left_out"]) for row in rows] == [("True", "conv1"), ("False", "conv1")]
    assert 0 < float(rows[0]["coverage"]) < 1
    points = tmp_path / "points.csv"
    assert archsim("sweep", LOAS, trace, *SKIPPED, "--set", "pe.count=8,16", "--jobs", 1, "-o", points) == 0
    assert errors(capsys, "warning") == [
        "2 of 2 points leave out a part of the network: see the columns coverage and left_out"
    ]
    with points.open(newline="") as file:
        assert [row["left_out"] for row in csv.DictReader(file)] == ["conv1", "conv1"]
    assert archsim("sweep", LOAS, trace, "--layers", "fc", "--jobs", 1, "-o", tmp_path / "fc.csv") == 0
    assert errors(capsys, "warning") == []


def test_the_summary_says_what_was_run(tmp_path, capsys):
    trace = tmp_path / "tiny.npz"
    save_trace(tiny(), trace)
    assert archsim("run", LOAS, trace, "-o", tmp_path / "out", "--set", "pe.count=8", "--set", "timesteps=5") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["hardware"], summary["trace"]) == (str(LOAS), str(trace))
    assert (summary["overrides"], summary["timesteps"]) == (["pe.count=8", "timesteps=5"], 4)


def test_machines_of_odd_names(tmp_path, capsys):
    """Bytes that are no UTF-8, and what a formula would begin with."""
    save_trace(tiny(), tmp_path / "tiny.npz")
    machines = [tmp_path / os.fsdecode(b"bad\xff.yaml"), tmp_path / r"$\foo$.yaml"]
    for machine in machines:
        machine.write_text(GOOD)
    table = tmp_path / "table.csv"
    assert archsim("compare", *machines, "--trace", tmp_path / "tiny.npz", "-o", table) == 0
    names = [row["machine"] for row in csv.DictReader(table.read_text().splitlines())]
    assert names == [r"bad\udcff", r"$\foo$"]


def shell(command, cwd, **environment):
    """Exit code and stderr of ``command``, in which $ARCHSIM is the command."""
    program = f"{sys.executable} -m archsim"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ARCHSIM": program, **environment}
    done = subprocess.run(["bash", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"$ARCHSIM check {LOAS} >&-", 0),
        (f"$ARCHSIM check {LOAS} 2>&-", 0),
        ("$ARCHSIM check nope 2>&-", 2),
        ("($ARCHSIM check nope; echo $? >code) 2>&1 >/dev/null | true; sleep 2; exit $(cat code)", 2),
    ],
)
def test_closed_streams(command, code, tmp_path):
    assert shell(command, tmp_path) == (code, "")


def test_ctrl_c_while_importing(tmp_path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    assert shell("$ARCHSIM list", tmp_path) == (130, "archsim: interrupted\n")


def test_the_longest_file_name(tmp_path, capsys):
    """255 bytes; what is written meanwhile has another name."""
    assert archsim("trace", "synth", "--shape", "8,8,8", *SHARES, "-o", tmp_path / ("n" * 251 + ".npz")) == 0


def test_same_run_same_bytes(tmp_path, capsys):
    trace = tmp_path / "tiny.npz"
    save_trace(tiny(), trace)
    for name in ("a", "b"):
        assert archsim("run", LOAS, trace, "-o", tmp_path / name) == 0
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"summary.json", "layers.csv", "traffic.csv", "energy.csv", "area.csv", "units.csv", "resolved.yaml"} <= set(
        files
    )
    for name in set(files) - {"timing.json"}:
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("a", "b"))
        assert first == second, name


def test_a_comparison_is_the_runs_side_by_side(tmp_path, capsys):
    """Machines run in processes of their own; the table and the chart are normalised to the first."""
    trace, table = tmp_path / "tiny.npz", tmp_path / "both" / "comparison.csv"
    save_trace(tiny(), trace)
    literal = LOAS.with_name("loas_literal_laggy.yaml")
    assert archsim("compare", literal, LOAS, "--trace", trace, "-o", table.parent) == 0
    with table.open(newline="") as file:
        rows = {row["machine"]: row for row in csv.DictReader(file)}
    alone = {path.stem: run(path, trace).summary() for path in (literal, LOAS)}
    assert list(rows) == ["loas_literal_laggy", "loas"]
    for machine, row in rows.items():
        assert int(row["cycles"]) == alone[machine]["cycles"]
        delay = alone[machine]["energy_pj"] * alone[machine]["latency_s"]
        assert float(row["energy_delay_pj_s"]) == pytest.approx(delay)
    ratio = alone["loas_literal_laggy"]["cycles"] / alone["loas"]["cycles"]
    assert float(rows["loas"]["speedup"]) == pytest.approx(ratio)
    figures = [table.parent / "figures" / f"comparison.{kind}" for kind in ("png", "svg")]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted([trace, table, *figures])
    capsys.readouterr()
    ann = LOAS.with_name("sparten.yaml")
    for figure in figures:
        figure.unlink()
    for place in (table.parent, table):  # the table in its folder is the folder, which holds nothing else
        assert archsim("plot", place) == 0
        assert capsys.readouterr().out.splitlines() == [str(figure) for figure in figures]
    assert archsim("compare", literal, LOAS, "--trace", trace, "-o", tmp_path / "alone.csv") == 0
    capsys.readouterr()
    assert (tmp_path / "alone.csv").read_bytes() == table.read_bytes()
    assert not list(tmp_path.glob("alone*[gG]")), "a name that ends in .csv is the table alone"
    assert archsim("compare", LOAS, ann, "--trace", trace, "--layers", "conv2", "-o", tmp_path / "other.csv") == 2
    (line,) = errors(capsys)
    assert line.startswith(f"{ann} cannot run {trace}: sparten runs ANN traces")
    assert not (tmp_path / "other.csv").exists()


def test_synthetic_trace_of_given_shapes(tmp_path, capsys):
    trace = tmp_path / "made.npz"
    shapes = ["--shape", "16,8,256", "--shape", "5,3,130"]
    assert archsim("trace", "synth", *shapes, *SHARES, "--timesteps", 3, "-o", trace) == 0
    capsys.readouterr()
    assert archsim("trace", "info", trace) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    layers = {row[0]: row for row in rows if row[0].startswith("layer") and row[0] != "layer"}
    assert [row[2:5] for row in layers.values()] == [["16", "8", "256"], ["5", "3", "130"]]
    assert abs(float(layers["layer0"][6]) - 0.5) < 1e-3
    assert archsim("run", LOAS, trace, "--set", "timesteps=3", "-o", tmp_path / "out") == 0


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    """As in ``archsim explain ... | head -1``: the rest of the output has nowhere to go."""
    command = [sys.executable, "-m", "archsim", "explain", str(LOAS)]
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (0, b"")


def test_a_bug_is_reported_as_one(tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("inside")

    monkeypatch.setattr("archsim.simulate.run", fail)
    assert archsim("run", LOAS, VGG9, "-o", tmp_path / "out") == 1
    (line,) = errors(capsys)
    assert line.startswith("this is a bug in archsim (ZeroDivisionError: inside)")
    assert archsim("--debug", "run", LOAS, VGG9, "-o", tmp_path / "out") == 1
    assert "Traceback" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_both_engines_from_the_command_line(tmp_path, capsys):
    trace = tmp_path / "tiny.npz"
    save_trace(tiny(), trace)
    for engine in ("compiled", "reference"):
        assert archsim("run", LOAS, trace, "--engine", engine, "-o", tmp_path / engine) == 0
    for name in ("layers.csv", "traffic.csv", "energy.csv", "units.csv"):
        assert (tmp_path / "compiled" / name).read_bytes() == (tmp_path / "reference" / name).read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_silence_in_a_pipe_and_an_end(tmp_path, number, code):
    """The reference engine on a whole network takes long enough to be interrupted; nothing may be left."""
    command = [sys.executable, "-m", "archsim", "run", str(LOAS), str(VGG9), "--engine", "reference", "-o", "out"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # Whoever starts the tests in the background has them ignore some signals, and a child inherits that.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not [path for path in tmp_path.iterdir() if path.name != "work"] and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert output == b""
    assert b"Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def killed_on_ptb(hardware, **rest):
    """In place of a run: a machine that takes its process with it."""
    if Path(hardware).stem == "ptb":
        os.kill(os.getpid(), signal.SIGKILL)
    return simulate.run(hardware, rest["trace"], **rest["options"])


def test_a_comparison_ends_when_one_of_its_processes_is_killed(tmp_path, monkeypatch, capsys):
    trace = tmp_path / "tiny.npz"
    save_trace(tiny(), trace)
    monkeypatch.setattr(simulate, "_run_one", killed_on_ptb)
    files = [ROOT / "hwconfigs" / f"{name}.yaml" for name in ("loas", "ptb", "sparten_snn")]
    output = tmp_path / "out.csv"
    assert archsim("compare", *files, "--trace", trace, "-o", output) == 2
    assert "ptb.yaml: its process was killed; not enough memory is the usual reason" in capsys.readouterr().err
    assert not output.exists()


def test_a_fitted_machine_says_so_everywhere(tmp_path, capsys):
    trace = tmp_path / "tiny.npz"
    save_trace(tiny(), trace)
    fitted, plain = ROOT / "hwconfigs" / "loas_f40.yaml", LOAS
    assert archsim("run", fitted, trace, "-o", tmp_path / "out", "--report", "--set", "pe.count=8") == 0
    said = capsys.readouterr().err
    assert "this machine is fitted" in said
    assert "pe.count=8: the fit holds for the file as it is" in said
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["fitted"] is True
    assert summary["description"].startswith("fitted")
    assert "(fitted)" in (tmp_path / "out" / "report.html").read_text()
    assert "(fitted)" in (tmp_path / "out" / "figures" / "latency.svg").read_text()
    assert archsim("compare", plain, fitted, "--trace", trace, "-o", tmp_path / "both") == 0
    assert "loas_f40: this machine is fitted" in capsys.readouterr().err
    with (tmp_path / "both" / "comparison.csv").open(newline="") as file:
        assert [row["fitted"] for row in csv.DictReader(file)] == ["False", "True"]
    assert "LoAS F40 (fitted)" in (tmp_path / "both" / "figures" / "comparison.svg").read_text()


def test_a_comparison_refuses_early(tmp_path, capsys):
    """One machine under two paths, a figure's name for the table, and all machines that cannot run the trace."""
    trace = tmp_path / "tiny.npz"
    save_trace(tiny(), trace)
    ptb, folder = ROOT / "hwconfigs" / "ptb.yaml", ROOT / "hwconfigs"
    again = folder / ".." / "hwconfigs" / "loas.yaml"
    for arguments, messages in (
        ((LOAS, again, "--trace", trace), ["is given twice"]),
        ((LOAS, ptb, "--trace", trace, "--trace", trace), ["--trace: give one trace"]),
        ((LOAS, ptb, "--trace", trace, "-o", tmp_path / "x.png"), ["is the name of a figure"]),
        ((LOAS, ptb, "--trace", trace, "--set", "timesteps=1"), ["loas.yaml cannot run", "ptb.yaml cannot run"]),
    ):
        assert archsim("compare", *arguments) == 2
        said = capsys.readouterr().err
        assert all(message in said for message in messages), said
    assert not list(tmp_path.glob("*.csv")) + list(tmp_path.glob("*.png"))


def test_one_result_does_not_take_the_place_of_another(tmp_path, capsys):
    """What archsim wrote is called what it is; a comparison of another version is replaced by one of this."""
    trace, compared, swept = (tmp_path / name for name in ("tiny.npz", "compared.csv", "swept.csv"))
    save_trace(tiny(), trace)
    compared.write_text("machine,accelerator,workload,cycles\nloas,loas,tiny,1\n")
    swept.write_text("point,hardware,trace,cycles\n0,loas,tiny.npz,1\n")
    assert archsim("sweep", LOAS, trace, "--no-verify", "-o", compared) == 2
    assert errors(capsys) == [
        f"{compared}: is a comparison, and no other result takes its place; choose another file or move it away"
    ]
    assert archsim("compare", LOAS, "--trace", trace, "--no-verify", "-o", swept) == 2
    assert errors(capsys)[0].startswith(f"{swept}: is the table of a sweep, and no other result takes its place")
    assert archsim("compare", LOAS, "--trace", trace, "--no-verify", "-o", compared) == 0
    assert len(compared.read_text().splitlines()[0].split(",")) > 4


def test_a_run_says_what_it_replaces(tmp_path, capsys, monkeypatch):
    """A run with other settings has the same folder, unless -o says otherwise: nobody loses it without being told."""
    monkeypatch.chdir(tmp_path)
    save_trace(tiny(), "tiny.npz")
    said = []
    for more in ((), ("--set", "pe.count=2"), ("--set", "pe.count=2"), ()):
        assert archsim("run", "loas", "tiny.npz", "--engine", "reference", "--no-verify", *more) == 0
        said += [line for line in capsys.readouterr().err.splitlines() if line.startswith("results in ")]
    place, others = "results in results/loas__tiny/", ", which had other settings; -o DIR keeps both"
    assert said == [
        place,
        f"{place}, in place of small on loas{others}",
        f"{place}, in place of small on loas with pe.count=2",
        f"{place}, in place of small on loas with pe.count=2{others}",
    ]


def test_a_picture_of_somebody_else_is_not_replaced(tmp_path, capsys):
    trace, picture = tmp_path / "tiny.npz", tmp_path / "both.png"
    save_trace(tiny(), trace)
    picture.write_bytes(b"\x89PNG\r\n\x1a\n my own picture")
    table = tmp_path / "both.csv"
    assert archsim("compare", LOAS, ROOT / "hwconfigs" / "ptb.yaml", "--trace", trace, "-o", table) == 0
    assert archsim("plot", table) == 2
    assert "both.png: is a file that archsim did not write" in capsys.readouterr().err
    assert picture.read_bytes().endswith(b"my own picture")
    picture.unlink()
    assert archsim("plot", table) == archsim("plot", table) == 0  # its own ones are


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_c_calls_python_is_not_lost(number, code):
    """As in LLVM's callbacks during a compilation, where an exception cannot go anywhere."""
    program = f"""
import ctypes, os, sys, time
from archsim import simulate
from archsim.__main__ import main

@ctypes.CFUNCTYPE(None)
def callback():
    os.kill(os.getpid(), {int(number)})
    time.sleep(0.01)

def run(*_, **__):
    callback()
    for _ in range(100):
        time.sleep(0.01)
    raise RuntimeError("went on")

simulate.run = run
sys.argv = ["archsim", "run", {str(LOAS)!r}, {str(VGG9)!r}]
sys.exit(main())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


START = """
import gc, sys
from archsim.__main__ import main

sys.argv = ["archsim", "check", "vgg9"]
code = main()
from archsim.trace.schema import Convolution, Meta
validators = [kind.__pydantic_complete__ for kind in (Meta, Convolution)]
print(code, gc.get_freeze_count() > len(gc.get_objects()), validators)
"""


def test_a_command_does_no_work_for_nothing():
    """At its end nothing is looked through for garbage, and a part of a trace's record has no validator of its own."""
    said = subprocess.run([sys.executable, "-c", START], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "0 True [True, False]"


def test_links_that_lead_to_each_other(tmp_path, capsys):
    """Wherever a file is expected: one line, not a traceback."""
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(tmp_path / "other.yaml")
    (tmp_path / "other.yaml").symlink_to(loop)
    for arguments in (["check", loop], ["explain", loop], ["compare", loop, "loas", "--trace", "vgg9"]):
        assert archsim(*arguments) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert "Too many levels of symbolic links" in line


def test_a_machine_that_leaves_its_timesteps_to_the_trace_is_checked_and_explained(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: loas\ntimesteps: trace\n")
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: ok, a machine of type loas\n"
    assert main(["explain", str(path)]) == 0
    told = capsys.readouterr()
    assert "\ntimesteps\ttrace\tfile\t" in told.out
    assert told.err == "parts and areas are those for 4 timesteps; the trace says how many there are\n"
