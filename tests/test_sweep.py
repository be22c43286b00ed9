"""Sweeps: points in order, one row each, whatever the number of processes and whatever interrupts them."""

import contextlib
import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import archsim
from archsim import processes
from archsim import sweeping as sweeps
from archsim.cli import main
from archsim.cost import table_file
from archsim.errors import UsageError
from archsim.report import comparison, plots
from archsim.simulate import run
from archsim.trace import Trace, save_trace
from tests.clusters import two_workers
from tests.machines import LOAS, ROOT, mlp
from tests.small_traces import contents, tiny
from tests.unit.report import damaged

SETTINGS = ("--set", "pe.count=2,4,8", "--set", "memory.cache.size_kib=64,128")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "tiny.npz"
    save_trace(mlp(1, m=9, n=5, k=200), path)
    return path


def sweep(trace, output, *options):
    return main(["sweep", str(LOAS), str(trace), "-o", str(output), *map(str, options)])


def rows(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


# --- points


def plan(*axes, traces=1, **options):
    paths = tuple(ROOT / "workloads" / name for name in ("vgg9_dual_sparse.npz", "vgg16_dual_sparse.npz"))[:traces]
    return sweeps.Sweep(LOAS, paths, tuple(sweeps.axis(text) for text in axes), **options)


def settings(points):
    return [tuple(point.settings.values()) for point in points]


def test_a_grid_is_nested_loops():
    points = plan("pe.count=1,2", "pe.fifo_depth=8,9,10", traces=2).points()
    assert [point.number for point in points] == list(range(12))
    assert settings(points[:6]) == [(a, b) for a in "12" for b in ("8", "9", "10")]
    assert [point.trace.stem[:5] for point in points] == ["vgg9_"] * 6 + ["vgg16"] * 6


def test_zip_takes_equal_places():
    points = plan("pe.count=1,2", "pe.fifo_depth=8,9", combine="zip", traces=2).points()
    assert settings(points) == [("1", "8"), ("2", "9")] * 2
    with pytest.raises(UsageError, match=r"equally many values; pe\.count has 2, pe\.fifo_depth has 3"):
        plan("pe.count=1,2", "pe.fifo_depth=8,9,10", combine="zip").points()


def test_a_sample_is_part_of_the_grid_and_repeatable():
    axes = ("pe.count=1,2,3,4,5,6,7,8,9", "pe.fifo_depth=8,9,10")
    grid, drawn = (plan(*axes, sample=sample).points() for sample in (None, 7))
    assert len(drawn) == 7
    assert set(settings(drawn)) <= set(settings(grid))
    assert drawn == plan(*axes, sample=7).points() != plan(*axes, sample=7, seed=1).points()
    assert plan(*axes, sample=10**9).points() == grid


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("pe.count=8", ("8",)),
        (" pe . count = 8 , 16", ("8", "16")),
        ("memory.dram={channels: 1, a: [1, 2]},null", ("{channels: 1, a: [1, 2]}", "null")),
        ("description='a, b',\"c,d\"", ("'a, b'", '"c,d"')),
    ],
)
def test_commas_inside_a_value(text, values):
    assert sweeps.axis(text).values == values


@pytest.mark.parametrize("text", ["pe.count", "=8", "pe..count=8", "pe.count=8,", "pe.count=", "pe.count=8,8"])
def test_a_bad_axis_is_refused(text):
    with pytest.raises(UsageError, match="--set"):
        sweeps.axis(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "pe.cuont=8"), "no such path (did you mean 'pe.count'?)"),
        (("--set", "accelerator=ptb"), "is what a sweep measures"),
        (("--set", "pe.count=1", "--set", "pe.count=2"), "is given twice"),
        (("--pareto", "latency"), "unknown column, got 'latency'"),
        (("--random", "0"), "must be at least 1"),
        (("--set", f"pe.count={','.join(map(str, range(1, 1025)))}",
          "--set", f"pe.fifo_depth={','.join(map(str, range(1, 1025)))}"), "1048576 points"),
    ],
)  # fmt: skip
def test_what_no_point_could_run_is_refused_before_anything_is_written(options, message, trace, tmp_path, capsys):
    assert sweep(trace, tmp_path / "sweep.csv", *options) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# --- rows


def test_rows_are_runs_and_do_not_depend_on_the_number_of_processes(trace, tmp_path, capsys):
    for jobs in (1, 3):
        assert sweep(trace, tmp_path / f"{jobs}.csv", *SETTINGS, "--jobs", jobs) == 0
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "3.csv").read_bytes()
    found = rows(tmp_path / "1.csv")
    assert [row["point"] for row in found] == list("012345")
    summary = run(LOAS, trace, overrides=["pe.count=4", "memory.cache.size_kib=128"]).summary()
    row = next(row for row in found if (row["pe.count"], row["memory.cache.size_kib"]) == ("4", "128"))
    assert (int(row["cycles"]), float(row["energy_pj"])) == (summary["cycles"], summary["energy_pj"])
    assert capsys.readouterr().out.count("\n") == 2 * 7


def test_rows_say_what_silence_saves(trace, tmp_path):
    """Of machines that have the choice, whether it is set or not."""
    output = tmp_path / "sweep.csv"
    settings = ("--set", "scheduler.sparsity=gating,skipping")
    assert main(["sweep", "sata", str(trace), "-o", str(output), *settings]) == 0
    assert [row["sparsity"] for row in rows(output)] == ["gating", "skipping"]
    assert [row["sparsity"] for row in sweeps.read(output)] == ["gating", "skipping"]
    assert sweep(trace, tmp_path / "loas.csv") == 0
    assert [row["sparsity"] for row in rows(tmp_path / "loas.csv")] == [""]


def test_a_figure_of_accuracy(trace, tmp_path, capsys):
    """Drawn where points have an accuracy: what it costs in energy, delay and area."""
    output = tmp_path / "sweep.csv"
    assert sweep(trace, output, "--set", "pe.count=2,4") == 0
    lines = list(csv.reader(output.read_text().splitlines()))
    place = lines[0].index("accuracy")
    for line, accuracy in zip(lines[1:], ("0.5", "0.75"), strict=True):
        line[place] = accuracy
    output.write_text("".join(",".join(line) + "\n" for line in lines))
    capsys.readouterr()
    assert main(["plot", str(output)]) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert "sweep_accuracy.svg" in names
    assert "accuracy [%]" in (tmp_path / "sweep_accuracy.svg").read_text()


def test_blocks_are_labelled_by_what_tells_them_apart():
    devices = ["{kind: rram, bits: 1, programming: {relative: 0.1}}",
               "{kind: rram, bits: 4, programming: {relative: 0.1}}", "{kind: pcm}"]  # fmt: skip
    assert plots.value_labels(devices) == ["rram 1", "rram 4", "pcm"]
    assert plots.value_labels(["8", "sar", "[1, 2]", "{a: "]) == ["8", "sar", "['1', '2']", "{a: "]
    same = ["{a: 1}", "{a: 1, b: 2}", "{ a: 1}"]
    assert plots.value_labels(same) == ["1", "1 2", "1"]
    assert plots.value_labels(["{}"]) == ["{}"]


def test_a_point_that_fails_is_a_row(trace, tmp_path, capsys):
    output = tmp_path / "sweep.csv"
    skipped = ("--set", "scheduler.encoder=skipped")
    assert sweep(trace, output, *skipped, "--set", "pe.count=4,0,8", "--set", "timesteps=4,2") == 2
    found = rows(output)
    assert [bool(row["error"]) for row in found] == [False, True, True, True, False, True]
    assert "must be at least 1" in found[2]["error"]
    assert "built for 2" in found[1]["error"]
    assert all(bool(row["cycles"]) != bool(row["error"]) for row in found)
    assert "point 2: --set pe.count=0: must be at least 1" in capsys.readouterr().err


def test_the_front(trace, tmp_path):
    output = tmp_path / "sweep.csv"
    assert sweep(trace, output, *SETTINGS, "--pareto", "latency_s,area_mm2") == 0
    found = rows(output)
    values = [(float(row["latency_s"]), float(row["area_mm2"])) for row in found]
    expected = [not any(a <= c and b <= d and (a, b) != (c, d) for a, b in values) for c, d in values]
    assert [row["pareto"] == "true" for row in found] == expected
    assert set(expected) == {True, False}


def test_more_accuracy_is_better_and_a_point_without_it_is_no_part_of_the_front():
    points = [(1.0, 0.9), (2.0, 0.95), (3.0, 0.9), (0.5, None), (2.0, 0.8)]
    found = [
        {"point": number, "trace": "t", "latency_s": latency, "accuracy": accuracy}
        for number, (latency, accuracy) in enumerate(points)
    ]
    sweeps._mark_front(found, ("latency_s", "accuracy"))
    assert [row.get("pareto") for row in found] == ["true", "true", "false", None, "false"]


@pytest.mark.parametrize(
    ("hardware", "options", "message"),
    [
        ("loas", ("accuracy",), "--pareto accuracy: loas finds none of {trace}; it takes analog arrays, and a trace "),
        ("loas", ("exact_accuracy",), "--pareto exact_accuracy: loas finds none of {trace}; it takes analog arrays"),
        ("imc_ideal", ("latency_s,accuracy",), "--pareto accuracy: imc_ideal finds none of {trace}; it takes analog "),
        ("imc_ideal", ("accuracy", "--no-verify"), "--pareto accuracy: is found by verifying only, got --no-verify"),
        ("loas", ("mismatches", "--no-verify"), "--pareto mismatches: is found by verifying only, got --no-verify"),
    ],
)
def test_a_measure_that_no_point_can_have_is_refused_before_anything_runs(
    hardware, options, message, trace, tmp_path, capsys
):
    output = tmp_path / "sweep.csv"
    assert main(["sweep", hardware, str(trace), "-o", str(output), "--pareto", *options]) == 2
    said = capsys.readouterr().err
    assert message.format(trace=trace) in said
    assert "; allowed: cycles, latency_s, energy_pj, area_mm2, " in said
    assert list(tmp_path.iterdir()) == []


def test_a_measure_that_some_points_turn_out_to_lack(tmp_path, capsys):
    """Lossless converters lose nothing, and no accuracy is asked for; the rows stay."""
    made = tiny()
    save_trace(
        Trace(
            network="small", timesteps=4, operations=list(made.operations), tensors=contents(made),
            provenance={"kind": "synthetic", "weights": "synthetic", "details": {"labels": [0, 3]}},
        ),
        tmp_path / "labelled.npz",
    )  # fmt: skip
    output = tmp_path / "sweep.csv"
    assert main(["sweep", "spikesim", str(tmp_path / "labelled.npz"), "-o", str(output), "--jobs", "1",
                 "--set", "adc.bits=4,lossless", "--pareto", "accuracy,cycles"]) == 2  # fmt: skip
    assert [(bool(row["accuracy"]), row["pareto"], row["error"]) for row in rows(output)] == [
        (True, "true", ""), (False, "", ""),
    ]  # fmt: skip
    said = capsys.readouterr().err
    assert f"{output}: --pareto accuracy: 1 points found none and are not on the front: 1" in said


def test_figures_of_a_sweep(trace, tmp_path, capsys):
    """What speed costs, and what each setting with several values does; a failed point is left out."""
    output = tmp_path / "sweep.csv"
    assert sweep(trace, output, "--set", "pe.count=2,4,0", "--set", "timesteps=4") == 2
    capsys.readouterr()
    assert main(["plot", str(output)]) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == [f"sweep_{what}{kind}" for what in ("tradeoff", "sensitivity") for kind in (".png", ".svg")]
    drawn = (tmp_path / "sweep_sensitivity.svg").read_text()
    assert "pe.count" in drawn
    assert "timesteps" not in drawn
    assert "2 points" in drawn


# --- interruptions


def test_a_killed_sweep_goes_on_where_it_stopped(trace, tmp_path, monkeypatch):
    """Rows that are there are kept as they are; a torn last line is computed again; nothing is there twice."""
    output = tmp_path / "sweep.csv"
    assert sweep(trace, output, *SETTINGS) == 0
    whole = output.read_text()
    lines = whole.splitlines(keepends=True)
    marked = lines[5].replace(",loas,", ",kept,", 1)
    ran, real = [], processes.results
    monkeypatch.setattr(processes, "results", lambda work, points, jobs: ran.extend(points) or real(work, points, jobs))
    for torn in ("", lines[3][:25]):
        ran.clear()
        output.write_text(lines[0] + marked + lines[2] + torn)
        assert sweep(trace, output, *SETTINGS) == 0
        assert [point.number for point in ran] == [0, 2, 3, 5]
        assert output.read_text() == whole.replace(lines[5], marked)


@pytest.mark.parametrize("cut", [1, 30, -1])
def test_a_sweep_killed_in_its_first_line_starts_anew(cut, trace, tmp_path):
    output = tmp_path / "sweep.csv"
    assert sweep(trace, output, "--set", "pe.count=2") == 0
    whole = output.read_text()
    output.write_text(whole.splitlines(keepends=True)[0][:cut])
    assert sweep(trace, output, "--set", "pe.count=2") == 0
    assert output.read_text() == whole


def test_rows_of_another_sweep_are_not_touched(trace, tmp_path, capsys):
    output = tmp_path / "sweep.csv"
    assert sweep(trace, output, *SETTINGS) == 0
    before = output.read_bytes()
    other = tmp_path / "other.npz"
    save_trace(mlp(2, m=9, n=5, k=200), other)
    for arguments, message in (
        ((trace, output, "--set", "pe.count=2,4,8"), "its columns differ in memory.cache.size_kib"),
        ((trace, output, "--set", "pe.count=2,4,16", *SETTINGS[2:]), "sweep.csv:6: pe.count was '8', now '16'"),
        ((trace, output, "--set", "pe.count=2,4", *SETTINGS[2:]), "sweep.csv:6: is no row of this sweep"),
        ((other, output, *SETTINGS), "trace was"),
    ):
        assert sweep(*arguments) == 2
        assert message in capsys.readouterr().err
        assert output.read_bytes() == before
    save_trace(mlp(2, m=9, n=5, k=200), trace.with_name("again.npz"))
    foreign = tmp_path / "notes.csv"
    foreign.write_text("a,b\n1,2\n")
    assert sweep(trace, foreign, *SETTINGS) == 2
    assert foreign.read_text() == "a,b\n1,2\n"


def command(trace, output, *options):
    return [sys.executable, "-m", "archsim", "sweep", str(LOAS), str(trace), "-o", str(output), *options]


def start(*arguments):
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # Whoever starts the tests in the background has them ignore Ctrl-C, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_for_real(ending, trace, tmp_path):
    """Every row that was there when the sweep died is there when it has been run again, and all others."""
    output = tmp_path / "sweep.csv"
    axis = ("--set", f"pe.fifo_depth={','.join(map(str, range(1, 41)))}")
    process = start(trace, output, *axis, "--jobs", "1")
    while process.poll() is None and (not output.exists() or output.read_text().count("\n") < 3):
        time.sleep(0.02)
    process.send_signal(ending)
    _, said = process.communicate(timeout=60)
    assert said in (b"", b"archsim: interrupted\n")  # not a word of what Python cleans up
    kept = [line for line in output.read_text().splitlines(keepends=True)[1:] if line.endswith("\n")]
    assert process.returncode != 0
    assert 1 <= len(kept) < 40
    assert sweep(trace, output, *axis) == 0
    lines = output.read_text().splitlines(keepends=True)
    assert len(lines) == 41
    assert set(kept) <= set(lines)
    assert [row["point"] for row in rows(output)] == [str(i) for i in range(40)]


def test_two_sweeps_do_not_write_the_same_file(trace, tmp_path, capsys):
    output = tmp_path / "sweep.csv"
    process = start(trace, output, "--set", f"pe.fifo_depth={','.join(map(str, range(1, 41)))}", "--jobs", "1")
    try:
        while process.poll() is None and (not output.exists() or output.read_text().count("\n") < 2):
            time.sleep(0.02)
        assert sweep(trace, output, "--set", "pe.fifo_depth=1") == 2
        assert "another sweep is writing this file" in capsys.readouterr().err
    finally:
        process.kill()
        process.communicate()


def die_on_four(plan, point):
    """In place of run_point: a point that takes its process with it."""
    if point.settings["pe.count"] == "4":
        os.kill(os.getpid(), signal.SIGKILL)
    return real_run_point(plan, point)


real_run_point = sweeps.run_point


def test_a_point_that_kills_its_process_is_a_row_too(trace, tmp_path, monkeypatch):
    output = tmp_path / "sweep.csv"
    monkeypatch.setattr(sweeps, "run_point", die_on_four)
    assert sweep(trace, output, "--set", "pe.count=2,4,8,16,3,5", "--jobs", 2) == 2
    found = rows(output)
    assert [bool(row["error"]) for row in found] == [False, True, False, False, False, False]
    assert "killed" in found[1]["error"]
    monkeypatch.undo()
    assert sweep(trace, output, "--set", "pe.count=2,4,8,16,3,5", "--jobs", 2) == 0
    assert not any(row["error"] for row in rows(output))


# --- a file that is damaged, or somebody else's


def made_up(plan, point):
    """In place of run_point: measures that differ from point to point."""
    n = point.number + 1
    numbers = {
        **dict.fromkeys(comparison.NUMBERS, n),
        **{
            "latency_s": n / 1e6,
            "energy_pj": n + 0.5,
            "utilization": 1 / n,
            "coverage": 1 / n,
            "accuracy": None,
            "exact_accuracy": None,
        },
    }
    return (
        dict.fromkeys((*comparison.LABELS, "verified", "left_out"))
        | {"accelerator": "loas", "workload": "=made, up"}
        | numbers
    )


def summary(number):
    """Of a made-up run that leaves nothing out."""
    return made_up(None, sweeps.Point(number, LOAS, LOAS, {})) | {"left_out": []}


@pytest.fixture
def here(monkeypatch):
    """Points run in this process, by ``made_up``; their numbers."""
    ran = []

    def results(work, points, jobs):
        for place, point in enumerate(points):
            ran.append(point.number)
            yield place, work(point)

    monkeypatch.setattr(processes, "results", results)
    monkeypatch.setattr(sweeps, "run_point", made_up)
    return ran


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            ",3,3e-06,",
            ",word,3e-06,",
            "sweep.csv:4: cycles: must be a whole number from 0 to 9223372036854775807, got 'word'",
        ),
        (",3,3e-06,", ",-3,3e-06,", "sweep.csv:4: cycles: must be a whole number"),
        (",3,3e-06,", ",3,nan,", "sweep.csv:4: latency_s: must be a number"),
        (",3,3e-06,", f",{'9' * 5_000},3e-06,", "sweep.csv:4: cycles: must be a whole number"),
        (",3,3e-06,", ",,3e-06,", "sweep.csv:4: cycles: is empty, and there is no error"),
        (",3,3e-06,", ",3,3e-06,1,", "sweep.csv:4: has 50 cells; the table has 49 columns"),
        (",loas,", ",lo\xff\xfe,", "sweep.csv:{place}: accelerator: is not UTF-8 text, got byte 0xff"),
        (",loas,", ",lo\0,", "sweep.csv:{place}: accelerator: must be printable, got U+0000"),
        (",loas,", ',"lo,', "sweep.csv:{place}: is not a line of CSV"),
        ("\n2,", "\nx,", "sweep.csv:4: point: must be a whole number"),
        ("\n2,", "\n,\n2,", "sweep.csv:4: has 2 cells; the table has 49 columns"),
    ],
)
def test_a_damaged_row_is_said_and_its_point_runs_again(old, new, message, here, trace, tmp_path, capsys):
    """All others are kept; a second run has nothing to say."""
    output = tmp_path / "sweep.csv"
    assert sweep(trace, output, *SETTINGS) == 0
    whole = output.read_bytes()
    place = 2 + [line.count(old) for line in whole.decode().splitlines()[1:]].index(1) if "\n" not in old else 4
    output.write_bytes(whole.replace(old.encode(), new.encode("latin-1"), 1))
    here.clear()
    capsys.readouterr()
    assert sweep(trace, output, *SETTINGS) == 2
    said = capsys.readouterr().err
    assert f"archsim: error: {tmp_path}/{message.format(place=place)}" in said
    assert "; what it says of a point is found out again" in said
    assert here == ([] if new == "\n,\n2," else [place - 2])
    assert output.read_bytes() == whole
    here.clear()
    assert sweep(trace, output, *SETTINGS) == 0
    assert here == []


def test_the_function_warns_of_damaged_rows(here, trace, tmp_path):
    path = tmp_path / "sweep.csv"
    archsim.sweep(LOAS, trace, pe__count=[2, 4], path=path)
    path.write_text(path.read_text().replace(",2,2e-06,", ",two,2e-06,"))
    with pytest.warns(UserWarning, match=r"sweep\.csv:3: cycles: must be a whole number .*, got 'two'; what it says"):
        frame = archsim.sweep(LOAS, trace, pe__count=[2, 4], path=path)
    assert frame["cycles"].tolist() == [1, 2]
    assert here == [0, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layers", "conv8"), "chosen_layers was 'fc', now 'conv8'"),
        ((), "chosen_layers was 'fc', now ''"),
        (("--layers", "fc", "--no-verify"), "verify was 'true', now 'false'"),
    ],
)
def test_rows_of_other_layers_are_not_kept(here, trace, tmp_path, capsys, options, message):
    output = tmp_path / "sweep.csv"
    assert sweep(trace, output, *SETTINGS, "--layers", "fc") == 0
    before = output.read_bytes()
    here.clear()
    assert sweep(trace, output, *SETTINGS, *options) == 2
    assert message in capsys.readouterr().err
    assert here == [] and output.read_bytes() == before
    assert sweep(trace, output, *SETTINGS, "--layers", "fc") == 0
    assert here == []


def test_rows_that_are_there_twice(here, trace, tmp_path, capsys):
    """Equal ones are one; of two that differ nobody knows which is right."""
    output = tmp_path / "sweep.csv"
    assert sweep(trace, output, *SETTINGS) == 0
    whole = output.read_text()
    lines = whole.splitlines(keepends=True)
    here.clear()
    output.write_text(whole + lines[3])
    assert sweep(trace, output, *SETTINGS) == 0
    assert here == []
    output.write_text(whole + lines[3].replace(",3,3e-06,", ",4,3e-06,"))
    assert sweep(trace, output, *SETTINGS) == 2
    assert (
        "sweep.csv:8: point 2 is there twice with other numbers; what it says of a point is found out again"
        in capsys.readouterr().err
    )
    assert here == [2]
    assert output.read_text() == whole


@pytest.mark.parametrize("error", [processes.LOST, "not enough memory: 5 GiB", "its worker died: it"])
def test_a_point_that_failed_for_want_of_memory_is_tried_again(error, here, trace, tmp_path, monkeypatch):
    output = tmp_path / "sweep.csv"
    monkeypatch.setattr(sweeps, "run_point", lambda plan, point: {"error": error} if point.number else {"error": "bad"})
    assert sweep(trace, output, *SETTINGS) == 2
    here.clear()
    monkeypatch.setattr(sweeps, "run_point", made_up)
    assert sweep(trace, output, *SETTINGS) == 2
    assert here == [1, 2, 3, 4, 5]
    assert [row["error"] for row in rows(output)] == ["bad", *[""] * 5]


def alike(line, other):
    """Whether two lines have the same cells, numbers in whatever notation, formulas with or without their guard."""
    cells, others = (next(csv.reader([text])) for text in (line, other.decode(errors="replace").strip("\ufeff\r")))

    def value(cell):
        with contextlib.suppress(ValueError):
            return float(cell)
        return cell.removeprefix("'")

    return list(map(value, cells)) == list(map(value, others))


def test_damage_of_every_kind(here, trace, tmp_path):
    """Bytes that are turned, cut, doubled, cells that are swapped and replaced: the sweep goes on, or refuses and
    leaves the file as it is. Never a row that was not there or computed, never another exception or a warning."""
    output = tmp_path / "sweep.csv"
    assert sweep(trace, output, *SETTINGS) == 0
    whole = output.read_text()
    outcomes = {0: 0, 2: 0}
    for seed in range(150):
        torn = damaged.table(whole, seed)
        output.write_bytes(torn)
        outcome = sweep(trace, output, *SETTINGS)
        outcomes[outcome] += 1
        kept = output.read_bytes()
        assert kept == torn or kept.count(b"\n") == 7, seed
        if kept != torn:
            assert [row["point"] for row in rows(output)] == list("012345")
            for line in set(kept.decode().splitlines()) - set(whole.splitlines()):
                assert any(alike(line, other) for other in torn.splitlines()), (seed, line)
    assert min(outcomes.values()) > 20


@pytest.mark.parametrize(
    "content",
    [
        "point,x,y\n1,2,3\n",
        "point,x,y",
        "point,hardware,trace\n\x00",
        "points,1\n",
        "Point,hardware\n",
        "a,b\n",
        "\n\n",
    ],
)
def test_a_foreign_table_is_not_touched(content, here, trace, tmp_path, capsys):
    foreign = tmp_path / "notes.csv"
    foreign.write_text(content)
    assert sweep(trace, foreign, *SETTINGS) == 2
    assert foreign.read_text() == content
    assert here == []
    assert capsys.readouterr().err.startswith(f"archsim: error: {foreign}: ")


@pytest.mark.parametrize("torn", [b"point,hardw", b"4,\xe2\x82", b'4,"', b"4,/x\r"])
def test_another_sweep_s_torn_line_is_not_touched_either(torn, here, trace, tmp_path):
    output = tmp_path / "sweep.csv"
    assert sweep(trace, output, "--set", "pe.count=2,4") == 0
    before = output.read_bytes() + torn
    output.write_bytes(before)
    assert sweep(trace, output, "--set", "pe.count=2,8") == 2
    assert output.read_bytes() == before
    assert sweep(trace, output, "--set", "pe.count=2,4") == 0
    assert output.read_bytes() + torn == before


@pytest.mark.parametrize("character", ["\n", "\r", "\f", "\v", "\x85", "\u2028", "\x00", "\u202e", ",", '"', "\udcff"])
def test_odd_characters_do_not_keep_a_sweep_from_going_on(character, here, trace, tmp_path):
    """In names of files and in settings; a row is a line whatever stands in it."""
    folder = tmp_path / (f"a{character}b" if character != "\x00" else "ab")
    folder.mkdir()
    odd = folder / f"=x{character if character != chr(0) else ''}.npz"
    odd.write_bytes(trace.read_bytes())
    value = f"'-a{character}b{'c' * 140_000}'"
    arguments = ["--set", f"description={value},b,-5"]
    output = folder / "sweep.csv"
    assert sweep(odd, output, *arguments) == 0
    assert here == [0, 1, 2]
    text = output.read_bytes().decode()
    assert text.count("\n") == 4
    assert text.replace("\n", "").isprintable()
    assert [row["description"][:3] for row in sweeps.read(output)] == ["'-a", "b", "-5"]
    output.write_text(text.partition("\n2,")[0] + "\n", newline="\n")
    here.clear()
    assert sweep(odd, output, *arguments) == 0
    assert here == [2]
    assert output.read_bytes().decode() == text


# --- one snapshot


@pytest.fixture
def inputs(trace, tmp_path):
    """A machine, a trace and a cost table of one's own."""
    prices = tmp_path / "prices.yaml"
    prices.write_bytes(table_file("loas_32nm").read_bytes())
    machine = tmp_path / "machine.yaml"
    text = LOAS.read_text()
    assert text.count("table: loas_32nm") == 1
    machine.write_text(text.replace("table: loas_32nm", f"table: {prices}"))
    own = tmp_path / "own.npz"
    own.write_bytes(trace.read_bytes())
    return {"hardware": machine, "trace": own, "prices": prices}


def change(path):
    """Another file of the same size, and a way back."""
    before = path.read_bytes()
    place = before.index(b"\n") if path.suffix == ".yaml" else len(before) // 2
    path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
    return lambda: path.write_bytes(before)


@pytest.mark.parametrize("which", ["hardware", "trace", "prices"])
@pytest.mark.parametrize("when", ["between points", "while a point runs", "and put back"])
def test_a_file_that_is_changed_while_a_sweep_runs(which, when, here, inputs, tmp_path, monkeypatch, capsys):
    """An error; rows that are done stay, no row of the other file is written, and with the file back it goes on."""
    output = tmp_path / "sweep.csv"
    arguments = ["sweep", str(inputs["hardware"]), str(inputs["trace"]), "-o", str(output), *SETTINGS]
    back = []

    def run(*_, **__):
        if back:
            back[0]()
        if here[-1] == 2 and when == "while a point runs":
            back.append(change(inputs[which]))
        return type("Report", (), {"summary": lambda _: summary(here[-1])})()

    def point(plan, one):
        if one.number == 3 and when != "while a point runs":
            back.append(change(inputs[which]))
        return real_run_point(plan, one)

    monkeypatch.setattr("archsim.simulate.run", run)
    monkeypatch.setattr(sweeps, "run_point", point)
    assert main(arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"archsim: error: {inputs[which]}: is not the file with which this sweep began; ")
    done = 2 if when == "while a point runs" else 3
    assert [row["point"] for row in rows(output)] == list("012"[:done])
    before = output.read_bytes()
    assert main(arguments) == 2  # the changed file is another sweep's
    assert output.read_bytes() == before
    back[0]()
    here.clear()
    monkeypatch.setattr(sweeps, "run_point", made_up)
    assert main(arguments) == 0
    assert here == list(range(done, 6))


def test_each_point_has_the_hash_of_its_cost_table(here, trace, inputs, tmp_path):
    output = tmp_path / "sweep.csv"
    settings = ("--set", f"cost.table=loas_32nm,{inputs['prices']},{tmp_path / 'none.yaml'}")
    assert sweep(trace, output, *settings) == 0
    first, second, third = (row["cost_table_sha256"] for row in rows(output))
    assert first == second == hashlib.sha256(inputs["prices"].read_bytes()).hexdigest()
    assert third == ""
    change(inputs["prices"])
    assert sweep(trace, output, *settings) == 2
    assert output.read_text().count(first) == 2


def test_a_file_that_is_changed_under_real_processes(inputs, tmp_path):
    output = tmp_path / "sweep.csv"
    axis = ("--set", f"pe.fifo_depth={','.join(map(str, range(1, 201)))}", "--jobs", "2")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "archsim",
            "sweep",
            *map(str, (inputs["hardware"], inputs["trace"], "-o", output)),
            *axis,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    while process.poll() is None and (not output.exists() or output.read_text().count("\n") < 3):
        time.sleep(0.02)
    back = change(inputs["hardware"])
    _, said = process.communicate(timeout=300)
    assert process.returncode == 2, said
    assert said.decode().count("\n") == 1
    assert "machine.yaml: is not the file with which this sweep began" in said.decode()
    kept = output.read_text().splitlines()[1:]
    assert 2 <= len(kept) < 200
    back()
    hashes = {row["hardware_sha256"] for row in rows(output)}
    assert hashes == {hashlib.sha256(inputs["hardware"].read_bytes()).hexdigest()}


# --- a cluster


def test_a_cluster_gives_the_same_rows_even_if_a_worker_is_killed(trace, tmp_path):
    """A real scheduler with two workers in processes of their own; one is killed when the first rows are there."""
    axis = ("--set", f"pe.fifo_depth={','.join(map(str, range(1, 21)))}")
    with two_workers(tmp_path) as cluster:
        output = tmp_path / "cluster.csv"
        running = start(trace, output, *axis, "--cluster", cluster.address)
        while running.poll() is None and (not output.exists() or output.read_text().count("\n") < 3):
            time.sleep(0.02)
        cluster.workers[0].kill()
        _, errors = running.communicate(timeout=300)
        assert running.returncode == 0, errors.decode()
    assert sweep(trace, tmp_path / "here.csv", *axis) == 0
    assert output.read_bytes() == (tmp_path / "here.csv").read_bytes()


def test_workers_of_a_cluster_read_the_same_files(trace, tmp_path):
    """One that finds another file ends the sweep; it is no lost worker."""
    from distributed import LocalCluster

    plan = sweeps.Sweep(LOAS, (trace,), (sweeps.axis("pe.count=2"),), hashes={LOAS: "another"})
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        pytest.raises(UsageError, match=r"loas\.yaml: is not the file with which this sweep began"),
    ):
        list(sweeps._results(plan, plan.points(), 1, cluster.scheduler_address))


def test_no_scheduler_is_one_line(trace, tmp_path, capsys):
    assert sweep(trace, tmp_path / "sweep.csv", "--set", "pe.count=2", "--cluster", "tcp://127.0.0.1:9") == 2
    assert "no scheduler answers" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# --- from Python


def test_the_function_returns_what_the_command_writes(trace, tmp_path):
    """Same points, same order, numbers as numbers; a point that cannot run is a row; a path keeps the rows."""
    laggy = ["hidden", "early_stop"]
    frame = archsim.sweep(
        LOAS, trace, pe__count=[2, 0], pe__laggy=laggy, pareto=["latency_s"], jobs=1, path=tmp_path / "kept.csv"
    )
    assert sweep(trace, tmp_path / "c.csv", "--set", "pe.count=2,0", "--set", f"pe.laggy={','.join(laggy)}",
                 "--pareto", "latency_s", "--jobs", 1) == 2  # fmt: skip
    assert (tmp_path / "kept.csv").read_text() == (tmp_path / "c.csv").read_text()
    assert frame["pe.count"].tolist() == [2, 2, 0, 0]
    assert frame["pe.laggy"].tolist() == laggy * 2
    assert frame["cycles"][:2].tolist() == [
        run(LOAS, trace, pe__count=2, pe__laggy=one).summary()["cycles"] for one in laggy
    ]
    assert frame["error"].notna().tolist() == [False, False, True, True]
    assert frame["pareto"][:2].any()


@pytest.mark.parametrize("values", [8, "8", None])
def test_the_function_wants_lists(trace, values):
    with pytest.raises(UsageError, match="pe__count: must be a list of values"):
        archsim.sweep(LOAS, trace, pe__count=values)


def test_all_that_is_wrong_with_a_call(trace):
    with pytest.raises(UsageError) as caught:
        archsim.sweep(LOAS, trace, combine="zipp", jobs=0, layers="fc", pareto="cycles", sampel=4)
    assert caught.value.problems == (
        "combine: must be grid or zip, got 'zipp' (did you mean 'zip'?)",
        "pareto: must be a list of texts, got 'cycles'",
        "jobs: must be a whole number of at least 1, or None, got 0",
        "layers: must be a list of texts, or None, got 'fc'",
        "sampel: must be a list of values, got 4 (did you mean 'sample'?)",
    )


def test_rows_say_when_noise_is_drawn(monkeypatch):
    """And what is corrected: as the summary has it, which decides an accuracy."""
    said = {
        "noise": "per_batch",
        "digital_gain": "none",
        "adaptation": "statistics",
        "accuracy": 0.5,
        "exact_accuracy": 0.75,
    }
    found = dict.fromkeys(comparison.NUMBERS, 1) | said | {"left_out": [{"layer": "a"}, {"layer": "b"}]}
    report = type("Report", (), {"summary": lambda _: found})()
    monkeypatch.setattr("archsim.simulate.run", lambda *_, **__: report)
    plan = sweeps.Sweep(LOAS, (LOAS,), ())
    row = sweeps.run_point(plan, sweeps.Point(0, LOAS, LOAS, {}))
    assert {name: row[name] for name in said} == said
    assert row["sparsity"] is None
    assert row["left_out"] == "a b"
