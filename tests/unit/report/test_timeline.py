"""The timeline: valid trace events, one track a unit, counters that add up to the report's numbers, bounded in size."""

import itertools
import json

import numpy as np
import pytest

from archsim.engine.recording import BANKS, CHANNELS, INTERVALS, WHOLE, Load, Window, add_busy, load_of
from archsim.errors import UsageError
from archsim.report import timeline
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
