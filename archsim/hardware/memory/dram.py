"""DRAM: independent channels, lines interleaved over them, open rows, refresh.

Blocks of ``interleave_bytes`` (b lines) go to the channels in turn: line ``l`` lives in channel ``(l / b) mod
channels``. There it is line ``q = (l / b / channels) b + l mod b``, in row ``q / lines_per_row``, and rows alternate
over the channel's banks. A channel takes one line at a time, first come first
served, at its bandwidth; a line granted in cycle g starts its burst at once and its data is complete after

    ceil(burst end) + latency,    latency = row_hit_cycles if the row is open in its bank, else row_miss_cycles.

Bandwidth is a fraction of bytes per cycle: time on the channel is counted in units of 1 / ``units_per_cycle`` cycle, a
line takes ``units_per_line`` of them, and a fraction of a cycle left over is used by the next line. It is exact where
``units_per_cycle`` is at most 2^20, and else rounded to the nearest such fraction, less than 2^-20 cycles per line
away. A channel accepts at most one line per cycle. Activation overlaps with bursts of other rows. Refresh, if there is
any: in the first ``refresh_cycles`` of every ``refresh_interval_cycles`` no burst begins, and all rows are closed.

Source: LoAS (MICRO 2024) Table III: 128 GB/s over 16 64-bit HBM channels. Latency is not published; see
``hwconfigs/loas.yaml``.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from archsim.hardware.loading import Block, CrossFieldError
from archsim.jit import inlined

MAX_UNITS_PER_CYCLE = 1 << 20
MAX_UNITS_PER_LINE = 1 << 40


class DramConfig(Block):
    """High-bandwidth memory behind the cache."""

    channels: int = Field(ge=1, le=256, description="independent channels")
    bandwidth_gb_s: float = Field(ge=1e-3, le=100_000, description="GB/s (10^9 bytes) of all channels together")
    row_hit_ns: float = Field(gt=0, le=100_000, description="ns from the end of the burst to the data, row open")
    row_miss_ns: float = Field(gt=0, le=100_000, description="the same where the row must be opened first")
    row_bytes: int = Field(ge=64, le=65_536, description="bytes of a row (page) of one channel's bank")
    banks_per_channel: int = Field(ge=1, le=1024, description="banks of a channel, each with one open row")
    interleave_bytes: int = Field(
        ge=16, le=1 << 20, description="bytes in a channel before the next one's turn, at least a line"
    )
    refresh_interval_ns: float = Field(ge=0, le=1e9, description="ns from one refresh to the next; 0: no refresh")
    refresh_ns: float = Field(ge=0, le=1e6, description="ns that a refresh takes all banks of a channel")

    @model_validator(mode="after")
    def _hit_is_faster(self) -> DramConfig:
        if self.row_hit_ns > self.row_miss_ns:
            raise CrossFieldError({"row_hit_ns": "must not exceed row_miss_ns"})
        if self.refresh_interval_ns and self.refresh_ns >= self.refresh_interval_ns:
            raise CrossFieldError({"refresh_ns": "must be less than refresh_interval_ns"})
        return self

    def problems(self, clock_mhz: float, line_bytes: int) -> dict[str, str]:
        """What contradicts the base clock or the cache's lines, by field."""
        spec = self.resolve(clock_mhz, line_bytes)
        problems = {}
        if self.row_bytes < line_bytes:
            problems["row_bytes"] = f"must be at least the line_bytes of the cache, {line_bytes}"
        if spec.units_per_line > MAX_UNITS_PER_LINE:
            problems["bandwidth_gb_s"] = "is too little for this clock_mhz: a line would take more than 2^20 cycles"
        if 0 < spec.refresh_interval_cycles <= spec.refresh_cycles:
            problems["refresh_ns"] = "must leave a cycle of clock_mhz free until the next refresh"
        return problems

    def resolve(self, clock_mhz: float, line_bytes: int) -> DramSpec:
        """The integers that the kernels see, at a base clock of ``clock_mhz``."""
        bytes_per_cycle = Fraction(str(self.bandwidth_gb_s)) * 1000 / self.channels / Fraction(str(clock_mhz))
        units = (Fraction(line_bytes) / bytes_per_cycle).limit_denominator(MAX_UNITS_PER_CYCLE)
        units = max(units, Fraction(1, MAX_UNITS_PER_CYCLE))

        def cycles(ns: float) -> int:
            return -(-Fraction(str(ns)) * Fraction(str(clock_mhz)) // 1000)

        return DramSpec(
            channels=self.channels,
            units_per_cycle=units.denominator,
            units_per_line=units.numerator,
            row_hit_cycles=max(1, cycles(self.row_hit_ns)),
            row_miss_cycles=max(1, cycles(self.row_miss_ns)),
            lines_per_row=max(1, self.row_bytes // line_bytes),
            banks=self.banks_per_channel,
            interleave_lines=max(1, self.interleave_bytes // line_bytes),
            refresh_interval_cycles=cycles(self.refresh_interval_ns),
            refresh_cycles=cycles(self.refresh_ns) if self.refresh_interval_ns else 0,
        )


class DramSpec(NamedTuple):
    """See the module's text; times in cycles."""

    channels: int
    units_per_cycle: int
    units_per_line: int
    row_hit_cycles: int
    row_miss_cycles: int
    lines_per_row: int
    banks: int
    interleave_lines: int
    refresh_interval_cycles: int
    refresh_cycles: int


class DramState(NamedTuple):
    """``busy_until`` int64 [channels] in units, ``open_row`` int64 [channels, banks], ``row_misses`` and ``refreshes``
    (seen so far) int64 [channels].
    """

    busy_until: NDArray[np.int64]
    open_row: NDArray[np.int64]
    row_misses: NDArray[np.int64]
    refreshes: NDArray[np.int64]


def idle_dram(spec: DramSpec) -> DramState:
    """A memory without an open row."""
    return DramState(
        np.zeros(spec.channels, np.int64),
        np.full((spec.channels, spec.banks), -1, np.int64),
        np.zeros(spec.channels, np.int64),
        np.zeros(spec.channels, np.int64),
    )


@inlined
def channel_of(spec: DramSpec, line: int) -> int:
    """The channel that a line lives in."""
    return line // spec.interleave_lines % spec.channels


@inlined
def serve(spec: DramSpec, state: DramState, line: int, granted: int) -> tuple[int, int, int]:
    """Serve ``line``, granted in cycle ``granted``: (cycle after its burst, cycle of its data, next possible grant)."""
    channel = channel_of(spec, line)
    block = line // spec.interleave_lines // spec.channels
    row = (block * spec.interleave_lines + line % spec.interleave_lines) // spec.lines_per_row
    bank = row % spec.banks
    begin = max(granted * spec.units_per_cycle, state.busy_until[channel])
    if spec.refresh_cycles > 0:
        interval = spec.refresh_interval_cycles * spec.units_per_cycle
        number = begin // interval
        begin = max(begin, number * interval + spec.refresh_cycles * spec.units_per_cycle)
        if number >= state.refreshes[channel]:
            state.refreshes[channel] = number + 1
            state.open_row[channel, :] = -1
    latency = spec.row_hit_cycles
    if state.open_row[channel, bank] != row:
        state.open_row[channel, bank] = row
        state.row_misses[channel] += 1
        latency = spec.row_miss_cycles
    end = begin + spec.units_per_line
    state.busy_until[channel] = end
    after_burst = -(-end // spec.units_per_cycle)
    return after_burst, after_burst + latency, max(granted + 1, end // spec.units_per_cycle)
