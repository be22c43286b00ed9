"""Prosperity's detector and dispatcher against their circuit: every prefix, every sum, and the cycle of each."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from archsim.hardware.compute.prefix_forest import (
    CYCLES,
    SEARCHED,
    WORK_COLUMNS,
    find_prefixes,
    search_cycles,
    tile_work,
)
from archsim.jit import plain
from tests.rtl.circuit import Case, build, compare_all, needs_verilator

ROWS, COLUMNS = 32, 16

Drawn = namedtuple("Drawn", "several popcounts pipeline tiles")
"""``tiles`` are pairs of rows, bool [rows, 16], and weights int8 [16]."""


def draw_case(draw, number):
    """Three tiles; corners: all rows equal, all empty, all full, chains of subsets, rows of one spike."""
    tiles = []
    for _ in range(3):
        rows = int(draw.integers(1, ROWS + 1))
        spikes = draw.random((rows, COLUMNS)) < draw.choice([0.05, 0.2, 0.5, 0.9])
        match number % 8:
            case 1:
                spikes[:] = spikes[0]
            case 2:
                spikes[:] = bool(draw.integers(2))
            case 3:
                spikes = np.arange(COLUMNS) < draw.integers(0, COLUMNS + 1, (rows, 1))
            case 4:
                spikes = np.arange(COLUMNS) == draw.integers(0, COLUMNS, (rows, 1))
        tiles.append((spikes, draw.integers(-128, 128, COLUMNS)))
    return Drawn(int(draw.integers(2)), int(draw.choice([1, 4, 8, 4096])), int(draw.choice([0, 1, 5, 64])), tiles)


def case_of(case):
    items = np.zeros((len(case.tiles), 21), np.uint32)
    for item, (spikes, weights) in zip(items, case.tiles, strict=True):
        item[:16].view(np.uint16)[: len(spikes)] = spikes @ (1 << np.arange(COLUMNS))
        item[16:20].view(np.int8)[:] = weights
        item[20] = len(spikes)
    least = 2 if case.several else 0
    ones = [spikes.sum(1) for spikes, _ in case.tiles]
    expected = [sum(int((n >= least).sum()) for n in ones), len(items), sum(int((n > 0).sum()) for n in ones)]
    settings = [case.several, case.popcounts, case.pipeline]
    return Case(settings, [(np.zeros(len(items), np.int64), items)], expected, 3 * (ROWS * (COLUMNS + 3) + 100))


def compare(case, ran):
    found, known, summed = ran.outputs
    detector = SimpleNamespace(search=case.several, popcounts=case.popcounts, pipeline_cycles=case.pipeline)
    first, first_sum = 0, 0
    for tile, (spikes, weights) in enumerate(case.tiles):
        begins, rows = int(ran.inputs[0].cycles[tile]) + 1, len(spikes)  # in registers a cycle behind
        patterns = (spikes @ (1 << np.arange(COLUMNS))).astype(np.uint64)
        least, ones, prefix = 2 if case.several else 0, spikes.sum(1), np.zeros(rows, np.int64)
        plain(find_prefixes)(patterns, ones, least, prefix)
        work = np.zeros((1, 1, WORK_COLUMNS), np.int64)
        tile_work(patterns[None], np.array([0, rows]), least, False, 0, 1, work)
        searched = np.flatnonzero(ones >= least)
        ready = begins + plain(search_cycles)(detector, rows, int(work[0, 0, SEARCHED]))
        assert known.cycles[tile] == ready
        at = slice(first, first + len(searched))
        np.testing.assert_array_equal(found.words[at], np.column_stack([searched, prefix[searched] + 1]))
        # A row a cycle, the last of them known with the tile.
        np.testing.assert_array_equal(found.cycles[at], ready - np.arange(len(searched))[::-1])
        order = [row for row in np.argsort(ones, kind="stable") if ones[row]]
        left = ones - np.where(prefix >= 0, ones[prefix], 0)
        at = slice(first_sum, first_sum + len(order))
        np.testing.assert_array_equal(summed.words[at, 0], order)
        np.testing.assert_array_equal(summed.words[at, 1].view(np.int32), (spikes @ weights)[order])
        np.testing.assert_array_equal(summed.cycles[at], ready + np.cumsum(np.maximum(1, left[order])))
        if order:
            assert summed.cycles[at][-1] == ready + work[0, 0, CYCLES]
        first, first_sum = first + len(searched), first_sum + len(order)


@pytest.mark.rtl
@needs_verilator
def test_prefixes_and_sums(tmp_path):
    """Tiles of up to 32 rows and 16 columns, both ways to search, pipelines of 0 to 64 stages."""
    circuit = build("prefix_forest", tmp_path, settings=3, inputs=1, in_words=21, outputs=3, out_words=2)
    compare_all(circuit, draw_case, case_of, compare, told=lambda case: case[:3])
