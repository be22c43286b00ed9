"""DRAM: gates are tight (not a cycle earlier), bandwidth is exact, rows, interleaving and refresh do what they say."""

import pytest

from archsim.hardware.memory.dram import DramConfig, channel_of, idle_dram, serve

FIELDS = {
    "channels": 2, "bandwidth_gb_s": 32.0, "row_hit_ns": 10.0, "row_miss_ns": 25.0, "row_bytes": 128,
    "banks_per_channel": 2, "interleave_bytes": 64, "refresh_interval_ns": 0.0, "refresh_ns": 0.0,
}  # fmt: skip


def dram(**changes):
    return DramConfig(**{**FIELDS, **changes}).resolve(1000.0, 64)


def test_a_line_takes_its_burst_and_the_latency_of_its_row():
    """32 GB/s over 2 channels at 1 GHz: 16 bytes a cycle and channel, so 64 bytes take 4 cycles; miss 25, hit 10."""
    spec = dram()
    state = idle_dram(spec)
    assert serve(spec, state, 0, 100) == (104, 104 + 25, 104)
    # Line 2 is the second of channel 0's row: open now, and the channel is free at 104, not at 103.
    assert serve(spec, state, 2, 103) == (108, 108 + 10, 108)
    assert state.row_misses.tolist() == [1, 0]


def test_rows_alternate_over_banks_and_stay_open():
    """Two lines a row, two banks: lines 0, 2 | 4, 6 | 8, 10 of channel 0 are rows 0, 1, 2 in banks 0, 1, 0."""
    spec = dram()
    state = idle_dram(spec)
    for line in (0, 4, 2, 6, 8, 0):
        serve(spec, state, line, 0)
    assert state.row_misses[0] == 4  # rows 0, 1, then 2 displaces 0, which must be opened again


@pytest.mark.parametrize(("gb_s", "lines", "end"), [(12.8, 10, 100), (160.0, 10, 8), (51.2, 3, 8)])
def test_bandwidth_is_an_exact_fraction(gb_s, lines, end):
    """n lines of 64 bytes end after ceil(64 n / bytes per cycle): 6.4, 80 and 25.6 bytes a cycle and channel."""
    spec = dram(bandwidth_gb_s=gb_s)
    state = idle_dram(spec)
    for line in range(lines):
        after, _, _ = serve(spec, state, 2 * line, 0)
    assert after == end


@pytest.mark.parametrize("clock_mhz", [800, 1000 / 3, 666.6666666666666, 1e-3, 99_999.99999999999])
@pytest.mark.parametrize("gb_s", [128.0, 0.001, 127.99999999999999, 100_000.0])
def test_integers_stay_small(clock_mhz, gb_s):
    """A line of 64 bytes takes 64 channels clock / (1000 GB/s) cycles, to within 2^-20; no unit overflows 64 bits."""
    config = DramConfig(**{**FIELDS, "bandwidth_gb_s": gb_s})
    spec = config.resolve(clock_mhz, 64)
    assert abs(spec.units_per_line / spec.units_per_cycle - 64 * 2 * clock_mhz / (1000 * gb_s)) <= 2**-20 * 1.001
    assert 1 <= spec.units_per_cycle <= 1 << 20
    assert spec.units_per_line >= 1
    too_slow = spec.units_per_line > 1 << 40
    assert ("bandwidth_gb_s" in config.problems(clock_mhz, 64)) is too_slow


def test_blocks_take_channels_in_turn():
    assert [channel_of(dram(), line) for line in range(5)] == [0, 1, 0, 1, 0]
    assert [channel_of(dram(interleave_bytes=128), line) for line in range(5)] == [0, 0, 1, 1, 0]


def test_interleaved_lines_fill_rows_without_gaps():
    spec = dram(interleave_bytes=128, row_bytes=256)
    state = idle_dram(spec)
    for line in (0, 1, 4, 5):  # four lines of channel 0, one row
        serve(spec, state, line, 0)
    assert state.row_misses[0] == 1
    serve(spec, state, 8, 0)
    assert state.row_misses[0] == 2


def test_a_refresh_holds_bursts_up_and_closes_rows():
    """Every 100 cycles the first 20 are taken: a line granted at 119 begins at 120, one at 120 begins at once."""
    spec = dram(refresh_interval_ns=100.0, refresh_ns=20.0)
    assert serve(spec, idle_dram(spec), 0, 119)[0] == 124
    assert serve(spec, idle_dram(spec), 0, 120)[0] == 124
    state = idle_dram(spec)
    assert serve(spec, state, 0, 50)[1] == 54 + 25
    assert serve(spec, state, 0, 60)[1] == 64 + 10
    assert serve(spec, state, 0, 130)[1] == 134 + 25
