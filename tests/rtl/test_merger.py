"""Gamma's merger against its circuit: the result of every pass, and the cycle in which it ends."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from archsim.hardware.compute.merger import _merge_row, merge_cycles, passes_of
from archsim.jit import plain
from tests.rtl.circuit import Case, build, compare_all, needs_verilator

FIBERS, COLUMNS = 20, 16

Drawn = namedtuple("Drawn", "radix overhead rows")
"""``rows`` are pairs: which coordinates each fiber has, bool [fibers, 16], and their values."""


def draw_case(draw, number):
    """Three rows; corners: no fiber, one, as many as ways and one more, empty fibers, all the same coordinate."""
    radix = int(draw.integers(2, 9))
    rows = []
    for _ in range(3):
        fibers = int(draw.choice([0, 1, radix, radix + 1, 2 * radix - 1, *draw.integers(0, FIBERS + 1, 5)]))
        present = draw.random((fibers, COLUMNS)) < draw.choice([0.05, 0.2, 0.5, 1.0])
        match number % 8:
            case 1:
                present[:] = False
            case 2:
                present[:] = np.arange(COLUMNS) == 7
            case 3:
                present[1:] = False
        rows.append((present, draw.integers(-128, 128, present.shape)))
    return Drawn(radix, int(draw.integers(0, 4)), rows)


def case_of(case):
    items = np.zeros((len(case.rows), 91), np.uint32)
    for item, (present, values) in zip(items, case.rows, strict=True):
        item[0] = len(present)
        item[1:11].view(np.uint16)[: len(present)] = present @ (1 << np.arange(COLUMNS))
        item[11:].view(np.int8)[: values.size] = values.ravel()
    passes = sum(plain(passes_of)(len(present), case.radix, 0) for present, _ in case.rows)
    limit = 3 * 40 * (COLUMNS * 8 + 40)
    settings = [case.radix, (case.radix - 1).bit_length(), case.overhead]
    return Case(settings, [(np.zeros(len(items), np.int64), items)], [passes], limit)


def merged(present, values, radix):
    """Of every pass of a row in archsim: inputs, their entries, coordinates of the result, its sums."""
    fibers, columns = present.shape
    most = plain(passes_of)(fibers, radix, 0)
    entry = np.nonzero(present)
    a = SimpleNamespace(start=np.array([0, fibers]), coordinate=np.arange(fibers), value=np.ones(fibers, np.int64))
    b = SimpleNamespace(
        start=np.cumsum([0, *present.sum(1)]), coordinate=entry[1], value=np.ascontiguousarray(values[entry])
    )
    sums, found = np.zeros((most, columns), np.int64), np.zeros((most, columns), np.uint8)
    end, out = np.zeros(most, np.int64), np.zeros(most, np.int64)
    plain(_merge_row)(a, b, 0, radix, 0, 63, sums, found, end, out, 0)
    sizes = np.concatenate([present.sum(1), out])
    taken = np.concatenate([[0], end])
    return np.diff(taken), [sizes[i:j].sum() for i, j in zip(taken, end, strict=False)], found, sums


def compare(case, ran):
    (passes,), first = ran.outputs, 0
    latency = (case.radix - 1).bit_length()
    for row, (present, values) in enumerate(case.rows):
        inputs, entries, found, sums = merged(present, values, case.radix)
        cycles = [
            plain(merge_cycles)(int(n), int(fibers), case.overhead, latency)
            for n, fibers in zip(entries, inputs, strict=True)
        ]
        at = slice(first, first + len(inputs))
        # The fibers are in registers a cycle behind.
        np.testing.assert_array_equal(passes.cycles[at], ran.inputs[0].cycles[row] + 1 + np.cumsum(cycles))
        np.testing.assert_array_equal(passes.words[at, 0], found @ (1 << np.arange(COLUMNS)))
        np.testing.assert_array_equal(passes.words[at, 1:].view(np.int32), sums)
        first += len(inputs)
    assert first == len(passes.cycles)


@pytest.mark.rtl
@needs_verilator
def test_passes(tmp_path):
    """Two to eight ways, up to twenty fibers of up to sixteen entries, overheads 0 to 3."""
    circuit = build("merger", tmp_path, settings=3, inputs=1, in_words=91, outputs=1, out_words=17)
    compare_all(circuit, draw_case, case_of, compare, told=lambda case: case[:2])
