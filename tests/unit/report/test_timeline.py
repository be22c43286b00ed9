"""The timeline: valid trace events, one track a unit, counters that add up to the report's numbers, bounded in size."""

import itertools
import json

import numpy as np
import pytest

from archsim.engine.recording import BANKS, CHANNELS, INTERVALS, WHOLE, Load, Window, add_busy, load_of
from archsim.errors import UsageError
from archsim.report import timeline
from archsim.simulate import load_accelerator, run
from archsim.trace import save_trace
from tests.machines import LOAS, MACHINES, fitting, mlp
from tests.unit.report.test_report import layer

FIELDS = {
    "X": {"name", "ph", "pid", "tid", "ts", "dur"},
    "C": {"name", "ph", "pid", "ts", "args"},
    "M": {"name", "ph", "pid", "tid", "args"},
}
"""What the trace-event format demands of each kind of event; the viewer drops events that lack any of it."""


def parsed(text):
    """All events, each checked against the format."""
    document = json.loads(text)
    assert document["displayTimeUnit"] in ("ms", "ns")
    for event in document["traceEvents"]:
        assert set(event) == FIELDS[event["ph"]]
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name", "thread_sort_index")
        else:
            assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
        if event["ph"] == "C":
            assert all(value >= 0 for value in event["args"].values())
    return document["traceEvents"]


def slices(events):
    return [(e["name"], e["tid"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]


def integral(events, resource):
    """Of a counter, over time: a value holds until the next one, and the last one is 0."""
    values = [(e["ts"], e["args"]["busy"]) for e in events if e["ph"] == "C" and e["name"] == resource]
    assert values == sorted(values, key=lambda value: value[0])
    assert not values or values[-1][1] == 0
    return sum(value * (after - at) for (at, value), (after, _) in itertools.pairwise(values))


def test_slices_follow_each_other():
    completions = np.array([[0, 10], [1, 30], [0, 25]])
    first = layer("a", completions=completions, agents={0: "pe 0"})
    events = parsed(timeline.trace_events([first, layer("b")]))
    assert slices(events) == [
        *(("a", 0, 0, 100), ("a", 1, 0, 10), ("a", 1, 10, 15), ("a", 2, 0, 30)),
        ("b", 0, 100, 100),
    ]
    threads = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert threads == {0: "layers", 1: "pe 0", 2: "agent 1"}


def test_a_window_cuts_what_reaches_out_of_it():
    """Of two layers of 100 cycles, cycles 20 to 120; the operation until 10 is not in it, that until 30 in part."""
    first = layer("a", completions=np.array([[0, 30], [0, 60]]))
    second = layer("b", completions=np.array([[0, 40]]))
    events = parsed(timeline.trace_events([first, second], Window(20, 120)))
    assert slices(events) == [
        ("a", 0, 20, 80),
        ("a", 1, 20, 10),
        ("a", 1, 30, 30),
        ("b", 0, 100, 20),
        ("b", 1, 100, 20),
    ]


def test_a_counter_says_what_is_busy_on_average():
    """Intervals of 40 cycles in a layer of 100: the last one has 20. Half a cycle is one tick of two."""
    busy = np.array([40, 40, 20, *[0] * (INTERVALS - 3)])
    events = parsed(timeline.trace_events([layer("a", loads=(Load(CHANNELS, 0, 40, 2, busy),))]))
    assert [(e["ts"], e["args"]["busy"]) for e in events if e["ph"] == "C"] == [(0, 0.5), (100, 0)]
    assert integral(events, CHANNELS) == 100 / 2


def test_loads_keep_their_size_and_their_sum():
    """Any busy times, added one by one or all at once, give the same load; a width is no larger than need be."""
    draw = np.random.default_rng(3)
    for length in (10, 1000, 5000, 300_000):
        begins = draw.integers(0, length, 50)
        times = np.column_stack([begins, begins + draw.integers(1, 1 + length // 3, 50)]) * 3
        for window in (WHOLE, Window(length // 5, length // 2)):
            busy, width = np.zeros(INTERVALS, np.int64), np.array([3])
            for begin, end in times.tolist():
                add_busy(busy, width, window.first * 3, window.end * 3, begin, end)
            load = load_of(BANKS, window, 3, times)
            np.testing.assert_array_equal(busy, load.busy)
            assert width[0] == load.width * 3
            cut = np.clip(times, window.first * 3, window.end * 3)
            assert load.busy.sum() == (cut[:, 1] - cut[:, 0]).sum()
            assert load.width == 1 or load.width * INTERVALS * 3 < 2 * (cut.max() - window.first * 3)


@pytest.mark.parametrize("hardware", MACHINES, ids=lambda path: path.stem)
def test_the_integral_of_a_counter_is_the_report_s_number(hardware, tmp_path):
    """Channels: lines of DRAM x the time of a line. Slices of a unit do not overlap, and each unit has its track."""
    machine = load_accelerator(hardware)
    save_trace(fitting(machine, 1, m=5, n=4, k=140), tmp_path / "trace.npz")
    report = run(hardware, tmp_path / "trace.npz", engine="reference", timeline=True)
    events = parsed(report.texts()["timeline.json"])
    dram = machine.config.memory.resolve(machine.clock_mhz).dram
    lines = sum(row["accesses"] for row in report.rows("traffic") if row["level"] == "dram")
    assert lines > 0
    assert integral(events, CHANNELS) == pytest.approx(lines * dram.units_per_line / dram.units_per_cycle, rel=1e-12)
    assert (integral(events, BANKS) > 0) is bool(machine.config.memory.resolve(machine.clock_mhz).cache.conflicts)
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert len(set(tracks.values())) == len(tracks) > 2
    assert not [name for name in tracks.values() if name.startswith("agent ")]
    ends: dict[int, int] = {}
    for _, track, begin, duration in slices(events):
        assert begin >= ends.get(track, 0)
        ends[track] = begin + duration


def test_bank_cycles_are_those_of_the_report(tmp_path):
    """A beat of 64 bytes is a line: every look-up, fill, write and read of a resident line takes its bank a cycle."""
    save_trace(mlp(1, m=20, n=9, k=400), tmp_path / "trace.npz")
    report = run(LOAS, tmp_path / "trace.npz", engine="reference", timeline=True, memory__cache__width_bits=512)
    events = parsed(report.texts()["timeline.json"])
    totals = report.summary()["events"]
    looked_up = totals["hits"] + totals["misses"] + totals["merged_misses"]
    accesses = sum(
        row["accesses"]
        for row in report.rows("traffic")
        if row["level"] == "sram" and (row["direction"] == "write" or row["tensor"].startswith("weight"))
    )
    assert looked_up > 0
    assert integral(events, BANKS) == pytest.approx(looked_up + accesses, rel=1e-12)


def test_a_window_of_a_run_is_a_part_of_its_timeline(tmp_path):
    save_trace(mlp(2, m=30, n=5, k=300), tmp_path / "trace.npz")
    whole = run(LOAS, tmp_path / "trace.npz", engine="reference", timeline=True)
    part = run(LOAS, tmp_path / "trace.npz", engine="reference", timeline=(50, 130))
    all_of_it, events = parsed(whole.texts()["timeline.json"]), parsed(part.texts()["timeline.json"])
    cut = [
        (name, track, max(begin, 50), min(begin + duration, 130) - max(begin, 50))
        for name, track, begin, duration in slices(all_of_it)
        if (begin < 130 and begin + duration > 50) or track == 0
    ]
    assert sorted(slices(events)) == sorted(cut)
    assert len(part.texts()["timeline.json"]) < len(whole.texts()["timeline.json"]) / 2
    with pytest.raises(UsageError, match="begins in cycle 1,000,000; the run ends in cycle"):
        run(LOAS, tmp_path / "trace.npz", engine="reference", timeline=(10**6, 10**7)).texts()
    with pytest.raises(UsageError, match=r"must be 0 <= from < to <= .*, got \(5, 5\)"):
        run(LOAS, tmp_path / "trace.npz", timeline=(5, 5))


def test_the_file_is_bounded(tmp_path, monkeypatch):
    """At most MAX_SLICES operations, and lines of a bounded length; what is too much says which window would fit."""
    save_trace(mlp(2, m=30, n=5, k=300), tmp_path / "trace.npz")
    options = {"engine": "reference", "memory__cache__banks": 16}
    events = run(LOAS, tmp_path / "trace.npz", timeline=True, **options).texts()["timeline.json"].splitlines()
    assert max(map(len, events)) < timeline.LINE_BYTES
    assert sum('"ph": "C"' in line for line in events) <= 2 * (INTERVALS + 1)
    most = sum('"ph": "X"' in line for line in events) // 2
    monkeypatch.setattr(timeline, "MAX_SLICES", most)
    with pytest.raises(UsageError, match="more than the") as refused:
        run(LOAS, tmp_path / "trace.npz", timeline=True, **options)
    advice = str(refused.value).partition("--timeline-window ")[2]
    window = timeline.parse_window(advice)
    text = run(LOAS, tmp_path / "trace.npz", timeline=window, **options).texts()["timeline.json"]
    drawn = len([one for one in slices(parsed(text)) if one[1]])
    assert most * 0.9 - 40 < drawn <= most


@pytest.mark.parametrize(
    ("text", "window"),
    [("10:20", (10, 20)), (":20", (0, 20)), ("10:", (10, WHOLE.end)), (" 1_000 : 2_000 ", (1000, 2000))],
)
def test_windows(text, window):
    assert timeline.parse_window(text) == window


@pytest.mark.parametrize("text", ["", ":", "10", "a:b", "-5:10", "1.5:9", "1:2:3", "10:10", "20:10", "1e3:", "²:9"])
def test_bad_windows(text):
    with pytest.raises(UsageError, match="--timeline-window: got '"):
        timeline.parse_window(text)
