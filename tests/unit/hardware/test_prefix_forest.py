"""Prefix forests against a slow twin by sets, hand-traced; their search in closed form; sums with reuse by numpy."""

import itertools

import numpy as np
import pytest

from archsim.compress import packed_time
from archsim.hardware.compute.prefix_forest import (
    CYCLES,
    EVENTS,
    LEFT,
    SEARCHED,
    SPIKES,
    WORK_COLUMNS,
    DetectorConfig,
    find_prefixes,
    reuse,
    search_cycles,
    spike_patterns,
    tile_work,
)
from archsim.hardware.integers import integers
from tests.twins.prefix_forest import slow_prefixes, slow_work

FIGURE_1 = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 1], [1, 1, 0, 1]], bool)


def words(tile):
    """Rows of a tile, bool [rows, k], as patterns."""
    return (tile.astype(np.uint64) << np.arange(tile.shape[1], dtype=np.uint64)).sum(1).astype(np.uint64)


def prefixes(tile, least=1):
    found = np.zeros(len(tile), np.int64)
    find_prefixes(words(tile), tile.sum(1).astype(np.int64), least, found)
    return found.tolist()


def work_of(tile, least=1, all_rows=False, per_row=0, per_spike=1):
    work = np.zeros((1, 1, WORK_COLUMNS), np.int64)
    tile_work(words(tile)[None], np.array([0, len(tile)]), least, all_rows, per_row, per_spike, work)
    return tuple(work[0, 0, [SPIKES, LEFT, CYCLES]].tolist())


def test_figure_1_of_the_paper():
    assert prefixes(FIGURE_1) == slow_prefixes(FIGURE_1) == [3, -1, 1, -1, 1, 4]
    assert work_of(FIGURE_1) == slow_work(FIGURE_1) == (14, 6, 7)


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("least", [0, 1, 2])
def test_prefixes_are_those_of_the_slow_twin(density, least):
    draw = np.random.default_rng(int(density * 100))
    for rows, k in ((1, 1), (40, 3), (256, 16), (90, 64)):
        tile = draw.random((rows, k)) < density
        assert prefixes(tile, least) == slow_prefixes(tile, least)
        assert work_of(tile, least) == slow_work(tile, least)


@pytest.mark.parametrize("all_rows", [False, True])
@pytest.mark.parametrize(("per_row", "per_spike"), [(0, 1), (4, 3), (5, 3), (1, 1), (0, 2)])
def test_rows_and_spikes_take_the_cycles_that_they_are_given(all_rows, per_row, per_spike):
    draw = np.random.default_rng(7)
    for rows in (1, 7, 40):
        tile = draw.random((rows, 9)) < 0.2
        settings = (0, all_rows, per_row, per_spike)
        assert work_of(tile, *settings) == slow_work(tile, *settings)
    empty = np.zeros((3, 9), bool)
    assert work_of(empty, 0, all_rows, per_row, per_spike)[2] == 3 * all_rows * max(1, per_row)


def test_reuse_never_adds_and_saves_nothing_where_no_row_contains_another():
    draw = np.random.default_rng(1)
    for density in (0.05, 0.3, 0.8):
        spikes, left, cycles = work_of(draw.random((256, 16)) < density)
        assert left < spikes
        assert left <= cycles <= spikes
    # All pairs out of 16 columns: 120 different sets of the same size.
    pairs = np.array([[i in (a, b) for i in range(16)] for a in range(16) for b in range(a)])
    assert set(prefixes(pairs)) == {-1}
    assert work_of(pairs) == (240, 240, 240)


def test_every_row_comes_behind_its_prefix():
    """By number of spikes, then by row; the forest has no circle."""
    tile = np.random.default_rng(2).random((200, 16)) < 0.2
    prefix = prefixes(tile)
    place = {row: i for i, row in enumerate(np.argsort(tile.sum(1), kind="stable").tolist())}
    assert sum(p >= 0 for p in prefix) > 50
    assert all(p < 0 or place[p] < place[row] for row, p in enumerate(prefix))


def detector(search, popcounts=8, pipeline_cycles=4):
    return DetectorConfig(search=search, popcounts=popcounts, pipeline_cycles=pipeline_cycles, tables=2)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("rows", [1, 7, 16, 256])
def test_search_is_the_closed_form(density, rows):
    """A cycle for each row that is searched, empty ones too where all are."""
    tile = np.random.default_rng(rows).random((rows, 16)) < density
    several = int((tile.sum(1) > 1).sum())
    for popcounts, pipeline in ((1, 0), (8, 4), (4096, 64)):
        for search, expected in (
            ("every_row", rows + pipeline), ("several_spikes", several + -(-rows // popcounts) + pipeline)
        ):  # fmt: skip
            config = detector(search, popcounts, pipeline)
            work = np.zeros((1, 1, WORK_COLUMNS), np.int64)
            tile_work(words(tile)[None], np.array([0, len(tile)]), config.least, False, 0, 1, work)
            assert search_cycles(integers(config), rows, work[0, 0, SEARCHED]) == expected


@pytest.mark.parametrize("timesteps", [1, 3])
def test_patterns_are_the_unrolled_spikes_cut_into_tiles(timesteps):
    spikes = np.random.default_rng(timesteps).random((timesteps, 9, 70)) < 0.3
    found = np.zeros((-(-70 // 16), 7 * timesteps), np.uint64)
    spike_patterns(packed_time.encode(packed_time.pack_timesteps(spikes)), 2, timesteps, 16, found)
    rows = spikes[:, 2:].transpose(1, 0, 2).reshape(-1, 70)
    np.testing.assert_array_equal(found, [words(rows[:, first : first + 16]) for first in range(0, 70, 16)])


@pytest.mark.parametrize("density", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("least", [0, 2])
def test_sums_with_reuse_are_the_products(density, least):
    """Events count the spikes, those that are left, and the rows that reuse a sum, all of it or a part."""
    draw = np.random.default_rng(5)
    rows, weights = draw.random((90, 40)) < density, draw.integers(-50, 50, (40, 6)).astype(np.int16)
    cuts = range(0, 40, 16)
    patterns = np.stack([words(rows[:, first : first + 16]) for first in cuts])
    sums, events = np.zeros((30, 6, 3), np.int64), np.zeros(len(EVENTS), np.int64)
    bounds = np.array([0, 24, 30, 54, 78, 90])
    reuse(patterns, weights, 3, bounds, 16, least, 7, 0, sums, events)
    np.testing.assert_array_equal(sums, (rows.astype(int) @ weights).reshape(30, 3, 6).transpose(0, 2, 1))
    expected = np.zeros(4, int)
    overflows = 0
    so_far = np.zeros((90, 6), int)
    for first in cuts:
        so_far += rows[:, first : first + 16].astype(int) @ weights[first : first + 16]
        occupied = rows[:, first : first + 16].any(1)
        overflows += int(((so_far < -64) | (so_far > 63))[occupied].sum())
        for base, end in itertools.pairwise(bounds):
            tile = rows[base:end, first : first + 16]
            prefix = slow_prefixes(tile, least)
            exact = [p >= 0 and (tile[p] == row).all() for p, row in zip(prefix, tile, strict=True)]
            expected += [*slow_work(tile, least)[:2], sum(exact), sum(p >= 0 for p in prefix) - sum(exact)]
    assert events.tolist() == [*expected, overflows]
