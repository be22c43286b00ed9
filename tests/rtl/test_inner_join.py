"""The inner-join unit of LoAS and of SparTen-SNN against its circuit: every join, match, correction and sum."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from archsim.compress.bitmask import pack_mask
from archsim.dataflow import inner_product
from archsim.dataflow.inner_product import NO_LAGGY, WORDS_OF_CHUNK, Join, processing_element
from archsim.hardware.agent import NONE, op
from archsim.hardware.compute.inner_join import LAST_CORRECTION, RING, correct
from archsim.hardware.compute.prefix_sum import LAGGY_MODES
from archsim.hardware.diagram import Diagram
from tests.rtl.circuit import Case, build, compare_all, needs_verilator
from tests.rtl.machine import completions, deliver

BITS = 128
MODES = (*LAGGY_MODES.values(), NO_LAGGY)
DENSITIES = (0.005, 0.02, 0.05, 0.1, 0.3, 0.7, 1.0)

Drawn = namedtuple("Drawn", "mode adders depth overhead timesteps a b release")
"""``a`` [rows, chunks, 128] are packed words, ``b`` [columns, chunks, 128] weights, ``release`` those of the chunks."""


def draw_case(draw, number):
    mode = MODES[number % 4]
    timesteps = int(draw.integers(1, 17))
    rows, columns, chunks = (int(draw.integers(1, most)) for most in (3, 6, 6))
    a = draw.integers(1, 1 << timesteps, (rows, chunks, BITS))
    b = draw.integers(1, 128, (columns, chunks, BITS)) * draw.choice([-1, 1], (columns, chunks, BITS))
    if draw.random() < 2 / 3:
        a[draw.random(a.shape) >= draw.choice(DENSITIES, (rows, chunks, 1))] = 0
        b[draw.random(b.shape) >= draw.choice(DENSITIES, (columns, chunks, 1))] = 0
    else:
        corner(draw, a)
        corner(draw, b)
    a[:, -1, BITS - int(draw.choice([0, 0, draw.integers(BITS)])) :] = 0  # the last chunk may be a part of one
    joins = rows * columns * chunks * (timesteps if mode == NO_LAGGY else 1)
    gaps = draw.integers(0, 2) * draw.integers(0, 30, joins) * (draw.random(joins) < 0.2)
    return Drawn(
        mode, int(draw.choice([1, 4, 5, 16, 16, 16, 127, 128])), int(draw.choice([1, 2, 4, 8, 8, 16])),
        int(draw.choice([0, 0, 1, 2, 8])), timesteps, a, b, np.cumsum(gaps),
    )  # fmt: skip


def corner(draw, values):
    """Empty, all ones, one at either end, one group, dense then empty, one at the same place of all, every fourth."""
    keep = np.zeros(values.shape, bool)
    match int(draw.integers(8)):
        case 1:
            keep[:] = True
        case 2:
            keep[..., 0] = True
        case 3:
            keep[..., -1] = True
        case 4:
            keep[..., 16 * int(draw.integers(8)) :][..., :16] = True
        case 5:
            keep[:, ::2] = True
        case 6:
            keep[..., 77] = True
        case 7:
            keep[:, ::4] = True
    values[~keep] = 0


def passes_of(case):
    """What is joined with the columns of B in each pass over a row: [passes, rows, chunks, 128], words or spikes."""
    if case.mode != NO_LAGGY:
        return case.a[None]
    return case.a[None] >> np.arange(case.timesteps)[:, None, None, None] & 1


def case_of(case):
    passes = passes_of(case)
    items = []
    for column in case.b:
        for row in range(passes.shape[1]):
            for joined in passes[:, row]:
                items.append(chunk_items(joined, column))
    words = np.concatenate(items)
    both = (words[:, :4] & words[:, 4:8]).astype(np.uint32)
    matches = int(np.bitwise_count(both).sum())
    sums = int(words[:, 8].sum())
    settings = [case.mode % 4, case.adders, case.depth, case.overhead, case.timesteps]
    limit = int(case.release[-1]) + len(words) * (case.overhead + 2 * BITS) + 3 * matches + 400
    corrections = 0 if case.mode == NO_LAGGY else matches
    return Case(settings, [(case.release, words)], [matches, corrections, sums, len(words)], limit)


def chunk_items(joined, column):
    """The chunks of a pass over a row and of a column, as the circuit takes them."""
    items = np.zeros((len(joined), 105), np.uint32)
    for item, words, weights in zip(items, joined, column, strict=True):
        item[:4] = np.packbits(words != 0, bitorder="little").view(np.uint32)
        item[4:8] = np.packbits(weights != 0, bitorder="little").view(np.uint32)
        item[9:73].view(np.uint16)[: np.count_nonzero(words)] = words[words != 0]
        item[73:].view(np.int8)[: np.count_nonzero(weights)] = weights[weights != 0]
    items[-1, 8] = 1
    return items


def fibers(rows):
    """Bitmask fibers of [fibers, chunks, 128] of which nothing is in memory."""
    mask, start = pack_mask(rows.reshape(len(rows), -1) != 0)
    return SimpleNamespace(mask=mask, start=start, mask_bytes=0, word_bits=0)


def simulate(case, monkeypatch):
    """What archsim's element does: starts and ends of joins, pushes, corrections, and when sums are taken."""
    passes, (rows, chunks, _), columns = passes_of(case), case.a.shape, len(case.b)
    # Bits of a row pass by pass, as SparTen-SNN stores them.
    a = passes.swapaxes(0, 1).reshape(rows, -1, BITS)
    join = Join(len(passes), 0, case.mode, case.adders, case.depth, WORDS_OF_CHUNK, 0)
    diagram, number = Diagram(), len(case.release)
    chunk, sums = diagram.fifo(number), diagram.fifo(number)
    starts, ends, pushes, corrections = [], [], [], []

    def element(a, m, x):
        joins = False
        for operation in processing_element(a, m, x):
            if joins and (operation.pop != NONE or operation.push != NONE):
                ends.append(a.now)
                joins = False
            yield operation
            if operation.pop != NONE:
                starts.append(a.start)
                joins = True

    def one_by_one(a, depth, start, matches, ready):
        for _ in range(matches):
            start = correct(a, depth, start, 1, ready)
            pushes.append(start - 1)
            corrections.append(a.kept[LAST_CORRECTION])
        return start

    def taker(a, m, x):
        for _ in range(rows * columns * len(passes)):
            yield op(pop=sums.port)
            yield op(pause=max(0, a.value - a.now), compute=1)

    diagram.agent(element)
    diagram.agent(taker)
    diagram.agent(deliver(chunk.fifo, case.release))
    m = SimpleNamespace(
        config=SimpleNamespace(pe=SimpleNamespace(chunk_overhead_cycles=case.overhead)),
        layer=SimpleNamespace(m=rows, n=columns), pes=1, groups=rows, tile=rows, tiles=1, taps=1, chunks=chunks,
        pass_chunks=chunks, fiber_chunks=chunks, join=join, chunk=chunk,
        sum=sums, group_credit=NONE, barrier_of_chunks=NONE, barrier_of_columns=NONE,
    )  # fmt: skip
    x = SimpleNamespace(fiber=np.arange(rows)[:, None], a=fibers(a), b=fibers(case.b))
    monkeypatch.setattr(inner_product, "correct", one_by_one)
    taken = completions(diagram, m, x, kept=RING + case.depth)[1][1::2] - 1
    return starts, ends, pushes, corrections, taken


@pytest.mark.rtl
@needs_verilator
def test_joins_matches_corrections_and_sums(tmp_path, monkeypatch, record_property):
    """All modes, 1 to 128 adders, FIFOs of 1 to 16, overheads 0 to 8, T 1 to 16, up to five chunks a sum."""
    circuit = build("inner_join", tmp_path, settings=5, inputs=1, in_words=105, outputs=4, out_words=16)
    most = np.zeros(2, np.int64)

    def compare_one(case, ran):
        compare(case, ran, simulate(case, monkeypatch))
        if case.mode == LAGGY_MODES["hidden"] and (case.adders, case.depth) == (16, 8):  # as LoAS has them
            np.maximum(most, ran.outputs[0].words[:, 2:4].max(0, initial=0), out=most, casting="unsafe")

    def shapes(case):
        return case._replace(a=case.a.shape, b=case.b.shape)

    compare_all(circuit, draw_case, case_of, compare_one, told=shapes, size=100)
    record_property("hidden, 16 adders, FIFOs of 8: most laggy passes at once, tables in use", tuple(most.tolist()))


def compare(case, ran, simulated):
    starts, ends, pushes, corrections, taken = simulated
    match, correction, finished, ended = ran.outputs
    np.testing.assert_array_equal(ran.inputs[0].cycles, starts)
    np.testing.assert_array_equal(ended.cycles, ends)
    if case.mode != NO_LAGGY:
        np.testing.assert_array_equal(match.cycles, pushes)
        np.testing.assert_array_equal(correction.cycles, corrections)
    np.testing.assert_array_equal(finished.cycles, taken)
    bits = passes_of(case)[..., None] >> np.arange(case.timesteps) & 1
    sums = np.einsum("prckt,nck->nrpt", bits, case.b)
    if case.mode == NO_LAGGY:
        sums = sums[..., :1]
    given = finished.words.view(np.int32)[:, : sums.shape[-1]]
    np.testing.assert_array_equal(given, sums.reshape(given.shape))
