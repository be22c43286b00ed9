"""Results take their place in one step: whichever system call fails, or is the last one of its process.

Every call that makes, moves or removes something fails in turn, or kills the process; so does writing beyond some size.
Afterwards the name holds the earlier or the new result, whole, and the next write leaves nothing else.
"""

import builtins
import errno
import fcntl
import io
import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import time
import traceback
import warnings
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from archsim import atomic, processes, simulate, sweeping
from archsim.cli import main
from archsim.errors import ArchsimError, UsageError
from archsim.report import comparison, files, plots
from archsim.trace import save_trace
from tests.small_traces import tiny
from tests.unit.report.test_report import layer, report

MEASURED = dict.fromkeys(sweeping.ALWAYS, 1)
UNTOUCHED, ALL_THE_SAME, REFUSED, KILLED, TRACEBACK = 0, 3, 2, 9, 70
HARDWARE = Path(__file__).parent.parent.parent / "hwconfigs" / "loas.yaml"


# --- a process in which something goes wrong


def outcome(work, prepare):
    """How a process ends that runs ``work`` after ``prepare``, which returns how often the fault was met."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which only compute
        process = os.fork()
    if process:
        status = os.waitpid(process, 0)[1]
        return KILLED if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    ending = TRACEBACK
    try:
        met = prepare()
        try:
            work()
            ending = ALL_THE_SAME if met() else UNTOUCHED
        except (ArchsimError, OSError):
            ending = REFUSED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(ending)


OPEN = io.open
CALLS = [(os, name) for name in ("mkdir", "rename", "replace", "unlink", "rmdir")]
CALLS += [(atomic, "_exchange"), (fcntl, "flock"), (io, "open"), (builtins, "open")]


def nth_call(n, fault):
    """The ``n``-th call that writes something is met by ``fault`` in place of its work."""

    def prepare():
        numbers, met = itertools.count(), []

        def faulty(real):
            def call(*arguments, **options):
                mode = options.get("mode", arguments[1] if len(arguments) > 1 else "r")
                reads = real is OPEN and not set(mode) & set("wax+")
                if not reads and next(numbers) == n:
                    met.append(n)
                    fault()
                return real(*arguments, **options)

            return call

        for module, name in CALLS:
            setattr(module, name, faulty(getattr(module, name)))
        return lambda: met

    return prepare


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def size_limit(limit, action):
    """Files cannot grow beyond ``limit`` bytes: an error, or the end of the process in the midst of a write."""

    def prepare():
        signal.signal(signal.SIGXFSZ, action)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return lambda: True

    return prepare


def faults():
    for fault in (full, kill):
        yield fault.__name__, (nth_call(n, fault) for n in itertools.count())
    for action in (signal.SIG_IGN, signal.SIG_DFL):
        yield f"size, {action.name}", (size_limit(limit, action) for limit in (0, 1, 50, 300, 2000, 1 << 20))


# --- what is written


def run_folder(place, new):
    report(layer("new" if new else "old")).write(place / "out")


def table(place, new):
    with files.result_file(place / "out.csv", b"machine") as partial:
        files.write_texts(partial.parent, {partial.name: "machine\n" + "new\n" * 1000 if new else "machine\nold\n"})


def figures(place, new):
    plots.save(place / "out", lambda _: None, title=("new" if new else "old", ""))


def trace(place, new):
    save_trace(tiny() if new else tiny().select(["conv2"]), place / "out.npz")


def compare(place, new):
    command = ["compare", str(HARDWARE), str(HARDWARE.with_name("ptb.yaml"))]
    code = main([*command, "--trace", str(place / "tiny.npz"), "-o", str(place / "out"), *(["--no-verify"] * new)])
    if code:
        raise UsageError(f"exit code {code}")


def sweep(place, new):
    """The rows of a sweep as they came, and in order."""
    path = place / "out.csv"
    plan = sweeping.Sweep(HARDWARE, (place / "tiny.npz",), (sweeping.axis("pe.count=2,4,8"),))
    if not path.exists():
        for _ in sweeping.run(plan, path, jobs=1, tell=pytest.fail):
            pass
    if not new:
        head, *rows = path.read_text().splitlines(keepends=True)
        path.write_text("".join([head, *reversed(rows)]))
    else:
        for _ in sweeping.run(plan, path, jobs=1, tell=pytest.fail):
            pass


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A place with a trace, where machines and figures cost nothing."""
    save_trace(tiny(), tmp_path / "tiny.npz")

    def savefig(self, file, format, metadata):
        title = "" if self._suptitle is None else self._suptitle.get_text()
        file.write(files.FIGURE_KINDS[f".{format}"] + files.FIGURE_MARK + title.encode() * 100)

    def run_each(machines, *_, verify, **__):
        return [report(layer(mismatches=0 if verify else None), trace="tiny.npz") for _ in machines]

    monkeypatch.setattr(Figure, "savefig", savefig)
    blank = plots._COMPARISON._replace(draw=lambda *_: None)
    monkeypatch.setattr(plots, "_COMPARISON", blank)
    monkeypatch.setattr(plots, "_RUN_FIGURES", {"latency": blank})
    monkeypatch.setattr(simulate, "run_each", run_each)
    monkeypatch.setattr(simulate, "accelerator_for", lambda *_, **__: None)
    monkeypatch.setattr(
        processes, "results", lambda _, points, jobs: ((i, MEASURED | {"cycles": i}) for i in range(len(points)))
    )
    return tmp_path


def content(path):
    """Every file of ``path`` with its bytes; None where nothing is."""
    if path.is_dir():
        return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return path.read_bytes() if path.exists() else None


RESULTS = {
    run_folder: ["out"],
    table: ["out.csv"],
    figures: ["out.png", "out.svg"],
    trace: ["out.npz"],
    compare: ["out"],
    sweep: ["out.csv"],
}


# The rows of a first sweep are added one by one: tests/test_sweep.py.
PLACES = [(write, earlier) for write in RESULTS for earlier in (True, False) if earlier or write is not sweep]


@pytest.mark.slow
@pytest.mark.parametrize(("write", "earlier"), PLACES, ids=lambda given: getattr(given, "__name__", given))
def test_the_old_or_the_new_one_whole(write, earlier, prepared, capfd):
    names = RESULTS[write]
    states = []
    for new in (False, True):
        write(prepared, new)
        states.append([content(prepared / name) for name in names])
    old, new = states if earlier else ([None] * len(names), states[1])
    assert all(before != after for before, after in zip(old, new, strict=True))
    whole = sorted(prepared.iterdir())
    for kind, prepares in faults():
        endings = []
        for prepare in prepares:
            for name in names:
                shutil.rmtree(prepared / name, ignore_errors=True)
                (prepared / name).unlink(missing_ok=True)
            if earlier:
                write(prepared, False)
            endings.append(outcome(lambda: write(prepared, True), prepare))
            found = [content(prepared / name) for name in names]
            where = f"{write.__name__}: {kind} {len(endings) - 1}: {capfd.readouterr().err[-2000:]}"
            assert all(one in choice for one, *choice in zip(found, old, new, strict=True)), where
            if endings[-1] == REFUSED:
                assert set(prepared.iterdir()) <= set(whole), f"an error leaves nothing else, {where}"
            assert endings[-1] != TRACEBACK, where
            write(prepared, True)
            assert [content(prepared / name) for name in names] == new, where
            assert sorted(prepared.rglob(".*")) == [], where
            assert sorted(prepared.iterdir()) == whole, where
            if endings[-1] == UNTOUCHED:
                break
        else:
            assert kind.startswith("size"), kind
        assert KILLED in endings or REFUSED in endings, "nothing went wrong"


# --- where folders cannot be exchanged


def cannot(*_):
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def test_without_an_exchange_nothing_is_lost(prepared, monkeypatch):
    """Killed between two renames nothing has the name; what had it is back as soon as anybody writes there."""
    monkeypatch.setattr(atomic, "_exchange", cannot)
    run_folder(prepared, True)
    new = content(prepared / "out")
    run_folder(prepared, False)
    old = content(prepared / "out")
    assert [entry.name for entry in prepared.iterdir() if entry.name != "tiny.npz"] == ["out"]
    missing = 0
    for fault in (full, kill):
        for n in itertools.count():
            ending = outcome(lambda: run_folder(prepared, True), nth_call(n, fault))
            missing += not (prepared / "out").exists()
            assert content(prepared / "out") in (old, new, None)
            assert ending == KILLED or (prepared / "out").exists()
            with pytest.raises(UsageError, match="wrong input"), files.results_folder(prepared / "out"):
                raise UsageError("wrong input")
            assert content(prepared / "out") in (old, new)
            assert not list(prepared.glob(".*"))
            run_folder(prepared, False)
            if ending == UNTOUCHED:
                break
    assert missing == 1


def test_two_entries_change_their_names_in_one_step(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    (one / "file").touch()
    other.mkdir()
    try:
        atomic._exchange(one, other)
    except OSError as error:
        pytest.skip(f"not on this file system: {error}")
    assert [list(one.iterdir()), list(other.iterdir())] == [[], [other / "file"]]
    with pytest.raises(FileNotFoundError):
        atomic._exchange(one, tmp_path / "nothing")


# --- several at once


def write_often(place, number):
    for turn in range(10):
        report(*[layer(f"process{number}turn{turn}layer{i}") for i in range(30)]).write(place / "out")


@pytest.mark.parametrize("exchange", [atomic._exchange, cannot], ids=["exchange", "renames"])
def test_eight_at_once_leave_one_whole_result(tmp_path, monkeypatch, exchange):
    monkeypatch.setattr(atomic, "_exchange", exchange)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        running = [
            multiprocessing.get_context("fork").Process(target=write_often, args=(tmp_path, number))
            for number in range(8)
        ]
        for process in running:
            process.start()
    seen = 0
    while any(process.is_alive() for process in running):
        seen += (tmp_path / "out" / "layers.csv").exists()
        time.sleep(0.001)
    assert [process.exitcode for process in running] == [0] * 8
    assert seen
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    rows = (tmp_path / "out" / "layers.csv").read_text().splitlines()[1:]
    assert len(rows) == 30
    assert len({row.partition("layer")[0] for row in rows}) == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(report().texts())


@pytest.mark.parametrize("there", list(itertools.product((False, True), repeat=6)))
def test_other_results_come_and_go(there, tmp_path, monkeypatch):
    """Before any of the renames another process may put its result there, and move it away behind it."""
    place, rename, turns = tmp_path / "out", os.rename, itertools.chain(there, itertools.repeat(False))

    def beside_another(source, destination):
        another = next(turns) and not place.exists()
        if another:
            place.mkdir()
            (place / "layers.csv").write_text("another's")
        try:
            rename(source, destination)
        finally:
            if another:
                shutil.rmtree(place, ignore_errors=True)

    monkeypatch.setattr(atomic, "_exchange", cannot)
    place.mkdir()
    (place / "layers.csv").write_text("earlier")
    monkeypatch.setattr(os, "rename", beside_another)
    with atomic.replacing(place) as new:
        new.mkdir()
        (new / "layers.csv").write_text("ours")
    assert (place / "layers.csv").read_text() == "ours"
    assert list(tmp_path.iterdir()) == [place]


def test_what_a_living_process_writes_is_not_touched(tmp_path):
    run_folder(tmp_path, False)
    with files.results_folder(tmp_path / "out") as partial:
        files.write_texts(partial, report(layer("slow")).texts())
        run_folder(tmp_path, True)
        assert partial.is_dir()
    assert "slow" in (tmp_path / "out" / "layers.csv").read_text()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_names_alike_are_not_touched(tmp_path):
    """Litter of another name, a file and a link of somebody, a folder that only looks alike."""
    for folder in (".out.b.0a1b2c3d.partial", ".out.0a1b2c3.partial", "out.0a1b2c3d.partial", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".out.0a1b2c3d.partial").write_text("mine")
    (tmp_path / ".out.1a1b2c3d.partial").symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.rglob("*"))
    run_folder(tmp_path, True)
    assert sorted(path for path in tmp_path.rglob("*") if "out" not in path.relative_to(tmp_path).parts) == before
    (tmp_path / ".out.2a1b2c3d.partial").mkdir()  # killed before it had its lock
    run_folder(tmp_path, True)
    assert not (tmp_path / ".out.2a1b2c3d.partial").exists()


def test_where_nothing_can_be_locked_nothing_is_removed(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / ".out.2a1b2c3d.partial").mkdir()
    monkeypatch.setattr(fcntl, "flock", unknown)
    run_folder(tmp_path, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.2a1b2c3d.partial", "out"]


def test_a_plot_that_was_killed_is_no_reason_to_refuse_the_folder(prepared):
    run_folder(prepared, False)
    killed = 0
    for n in itertools.count():
        ending = outcome(lambda: plots.plot(prepared / "out"), nth_call(n, kill))
        killed += bool(list((prepared / "out").rglob(".*")))
        run_folder(prepared, True)
        assert not (prepared / "out" / "figures").exists()
        if ending == UNTOUCHED:
            break
    assert killed


def test_the_first_column_tells_the_folder_of_a_comparison():
    assert ",".join(comparison.COLUMNS).startswith(files.COMPARISON_START.decode())


def test_a_path_that_leads_round_in_circles(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for path in (tmp_path / "a", tmp_path / "a" / "out"):
        for write in (files.results_folder(path), files.result_file(path, b"a")):
            with pytest.raises(UsageError, match="cannot be written: Too many levels of symbolic links"), write:
                pass
