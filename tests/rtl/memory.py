"""The memory of a machine for its circuit, ``circuits/memory.sv``: its settings, and memories that are drawn."""

from archsim.hardware.memory.dram import DramSpec
from archsim.hardware.memory.system import MemorySpec

MEMORY_WORDS = 24
MOST_CHANNELS, MOST_BANKS, MOST_SETS, MOST_WAYS = 4, 4, 16, 8


def memory_words(spec: MemorySpec) -> list[int]:
    """Fields of ``memory_t``."""
    cache, dram, read, write = spec.cache, spec.dram, spec.read_switch, spec.write_switch
    assert cache.banks <= MOST_BANKS and cache.sets <= MOST_SETS and cache.ways <= MOST_WAYS
    assert dram.channels <= MOST_CHANNELS and dram.banks <= MOST_BANKS and cache.conflicts and not cache.window_shift
    return [
        cache.banks, cache.sets, cache.ways, cache.fill_beats, cache.mshrs, cache.keeps_live, spec.read_cycles,
        spec.own_read_cycles, spec.write_cycles, read.inputs, read.outputs, write.inputs, write.outputs, dram.channels,
        dram.interleave_lines, dram.lines_per_row, dram.banks, dram.units_per_cycle, dram.units_per_line,
        dram.row_hit_cycles, dram.row_miss_cycles, dram.refresh_interval_cycles, dram.refresh_cycles, spec.ideal,
    ]  # fmt: skip


def draw_dram(draw, most_cycles=12):
    """Channels of any rate, from several lines a cycle to one in ``most_cycles``, with and without refresh."""
    integer = lambda low, high: int(draw.integers(low, high + 1))  # noqa: E731
    per_cycle = integer(1, int(draw.choice([1, 7, 1 << 20])))
    per_line = max(1, int(per_cycle * draw.choice([draw.random(), 1, 1 + draw.random(), most_cycles * draw.random()])))
    interval, refresh, hit = integer(2, 200), integer(0, 1) * integer(1, 40), integer(1, 30)
    return DramSpec(
        channels=integer(1, MOST_CHANNELS), units_per_cycle=per_cycle, units_per_line=per_line, row_hit_cycles=hit,
        row_miss_cycles=integer(hit, hit + int(draw.choice([0, 60]))), lines_per_row=integer(1, 16),
        banks=integer(1, MOST_BANKS), interleave_lines=integer(1, 4), refresh_interval_cycles=interval,
        refresh_cycles=min(refresh, interval - 1),
    )  # fmt: skip


def longest_fetch(dram, lines):
    """More cycles than ``lines`` need, one behind the other."""
    bursts = lines * (dram.units_per_line // dram.units_per_cycle + 2 + dram.row_miss_cycles)
    if not dram.refresh_cycles:
        return bursts
    # Between two refreshes there may be a cycle for one line.
    return bursts + dram.refresh_cycles * (lines + bursts // (dram.refresh_interval_cycles - dram.refresh_cycles) + 2)
