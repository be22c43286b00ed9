"""Cache: hits, misses, replacement, dirty lines; against a slow twin that keeps lists."""

import numpy as np
import pytest

from archsim.hardware.memory.cache import (
    BYPASS,
    CONSUME,
    HIT,
    MERGED,
    MISS,
    NONE,
    READ,
    WRITE,
    CacheConfig,
    empty_cache,
    fill,
    look_up,
)


def config(**changes):
    fields = {
        "size_kib": 1, "banks": 2, "ways": 2, "line_bytes": 64, "width_bits": 128, "access_cycles": 1,
        "bank_conflicts": True, "mshrs": 2, "replacement": "lru", "double_buffer": False, "stream_ways": 0,
    }  # fmt: skip
    return CacheConfig(**{**fields, **changes}).resolve()


def read(spec, state, line, epoch=0, request=7, access=READ, tensor=0):
    outcome, way, displaced, owner = look_up(spec, state, line, epoch, request, access, tensor)
    if outcome == MISS and access == READ:
        fill(spec, state, line, way)
    return outcome, displaced, owner


def test_a_line_hits_from_its_fill_on():
    spec = config()
    state = empty_cache(spec)
    outcome, way, _, _ = look_up(spec, state, 5, 0, 3, READ, 0)
    assert outcome == MISS
    assert look_up(spec, state, 5, 0, 4, READ, 0)[:2] == (MERGED, way)
    fill(spec, state, 5, way)
    assert look_up(spec, state, 5, 0, 4, READ, 0)[0] == HIT


def test_the_least_recently_used_line_makes_room():
    """1 KiB, 2 banks, 2 ways: 4 sets a bank, so lines 0, 8, 16 share bank 0, set 0."""
    spec = config()
    state = empty_cache(spec)
    assert [read(spec, state, line)[0] for line in (0, 8, 0, 16, 0, 8)] == [MISS, MISS, HIT, MISS, HIT, MISS]


def test_priority_keeps_what_the_current_epoch_needs():
    spec = config(replacement="priority")
    state = empty_cache(spec)
    assert [read(spec, state, line, epoch=0)[0] for line in (0, 8, 16, 0, 8)] == [MISS, MISS, BYPASS, HIT, HIT]
    assert read(spec, state, 16, epoch=1)[0] == MISS
    assert read(spec, state, 0, epoch=1)[0] == MISS


def test_a_written_line_goes_to_dram_only_when_displaced():
    spec = config()
    state = empty_cache(spec)
    assert read(spec, state, 0, access=WRITE, tensor=3) == (MISS, NONE, -1)
    assert read(spec, state, 8) == (MISS, NONE, -1)
    assert read(spec, state, 16) == (MISS, 0, 3)
    assert read(spec, state, 24) == (MISS, NONE, -1)  # line 8 was clean


def test_a_consumed_line_is_dead():
    spec = config()
    state = empty_cache(spec)
    read(spec, state, 0, access=WRITE, tensor=3)
    assert read(spec, state, 0, access=CONSUME)[0] == HIT
    assert read(spec, state, 0, access=CONSUME)[0] == BYPASS
    read(spec, state, 8), read(spec, state, 16)
    assert read(spec, state, 8)[0] == HIT  # the dead line's way was free: nothing was displaced


def test_a_write_that_finds_no_room_goes_to_dram_itself():
    spec = config(replacement="priority")
    state = empty_cache(spec)
    read(spec, state, 0), read(spec, state, 8)
    assert read(spec, state, 16, access=WRITE, tensor=2) == (BYPASS, 16, 2)


@pytest.mark.parametrize("banks", [1, 2, 3])
def test_random_reads_against_a_twin_with_lists(banks):
    spec = config(size_kib=3 * banks, banks=banks, ways=4)
    state, sets = empty_cache(spec), {}
    draw = np.random.default_rng(banks)
    for line in draw.zipf(1.3, 4000) % 300:
        held = sets.setdefault((line % banks, line // banks % spec.sets), [])
        expected = HIT if line in held else MISS
        if line in held:
            held.remove(line)
        held.append(line)
        del held[:-4]
        assert read(spec, state, int(line))[0] == expected
