"""Timelines of whole runs: counters add up to the report's numbers, a unit has a track, the file is bounded."""

import pytest

from archsim.engine.recording import BANKS, CHANNELS, INTERVALS
from archsim.errors import UsageError
from archsim.report import timeline
from archsim.simulate import load_accelerator, run
from archsim.trace import save_trace
from tests.machines import LOAS, MACHINES, fitting, mlp
from tests.unit.report.test_timeline import integral, parsed, slices


@pytest.mark.parametrize("hardware", MACHINES, ids=lambda path: path.stem)
def test_the_integral_of_a_counter_is_the_report_s_number(hardware, tmp_path):
    """Channels: lines of DRAM x the time of a line. Slices of a unit do not overlap, and each unit has its track."""
    machine = load_accelerator(hardware)
    save_trace(fitting(machine, 1, m=5, n=4, k=140), tmp_path / "trace.npz")
    report = run(hardware, tmp_path / "trace.npz", engine="reference", timeline=True)
    events = parsed(report.texts()["timeline.json"])
    dram = machine.config.memory.resolve(machine.clock_mhz).dram
    lines = sum(row["accesses"] for row in report.rows("traffic") if row["level"] == "dram")
    assert lines > 0 or machine.config.memory.ideal
    assert integral(events, CHANNELS) == pytest.approx(lines * dram.units_per_line / dram.units_per_cycle, rel=1e-12)
    conflicts = machine.config.memory.resolve(machine.clock_mhz).cache.conflicts
    assert (integral(events, BANKS) > 0) is (lines > 0 and bool(conflicts))
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert len(set(tracks.values())) == len(tracks) > 2
    assert not [name for name in tracks.values() if name.startswith("agent ")]
    ends: dict[int, int] = {}
    for _, track, begin, duration in slices(events):
        assert begin >= ends.get(track, 0)
        ends[track] = begin + duration


def test_bank_cycles_are_those_of_the_report(tmp_path):
    """A beat of 64 bytes is a line: every look-up, fill, delivery, write and read of a resident line takes its bank a
    cycle."""
    save_trace(mlp(1, m=20, n=9, k=400), tmp_path / "trace.npz")
    report = run(
        LOAS, tmp_path / "trace.npz", engine="reference", timeline=True, memory__cache__width_bits=512,
        scheduler__prefetch_groups=0,
    )  # fmt: skip
    events = parsed(report.texts()["timeline.json"])
    totals = report.summary()["events"]
    looked_up = totals["hits"] + totals["misses"] + totals["merged_misses"]
    accesses = sum(
        row["accesses"]
        for row in report.rows("traffic")
        if row["level"] == "sram" and (row["direction"] == "write" or row["tensor"].startswith("weight"))
    )
    delivered = totals["misses"] + totals["merged_misses"]
    assert looked_up > delivered > 0
    assert integral(events, BANKS) == pytest.approx(looked_up + accesses + delivered, rel=1e-12)


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
