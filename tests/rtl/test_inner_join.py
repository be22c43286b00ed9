"""The inner-join unit of LoAS and of SparTen-SNN against its circuit: every join, match, correction and sum."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from archsim.compress.bitmask import pack_mask
from archsim.dataflow.inner_product import WORDS_OF_CHUNK, Join, processing_element
from archsim.hardware.agent import NONE, op
from archsim.hardware.compute import inner_join
from archsim.hardware.compute.inner_join import LAST_CORRECTION, JoinUnit, push_matches
from archsim.hardware.compute.prefix_sum import LAGGY_MODES, NO_LAGGY
from archsim.hardware.diagram import Diagram
from archsim.hardware.memory.placement import Tensor, line_spec
from tests.rtl.circuit import Case, build, compare_all, needs_verilator
from tests.rtl.machine import MEMORY, completions, deliver

BITS = 128
MODES = (*LAGGY_MODES.values(), NO_LAGGY)
DENSITIES = (0.005, 0.02, 0.05, 0.1, 0.3, 0.7, 1.0)
UNITS = 18
"""Laggy units and tables of the circuit; with ``hidden`` it has them all."""
LINE = 64
MOST_LINES = 2 * BITS * 16 // 8 // LINE

Drawn = namedtuple("Drawn", "unit overhead timesteps output_buffer interval latency a b release")
"""``unit`` is the JoinUnit, ``latency`` cycles of a line from DRAM or 0 for ideal memory. ``a`` [rows, chunks, 128] are
packed words, ``b`` [columns, chunks, 128] weights, ``release`` those of the chunks."""

Simulated = namedtuple("Simulated", "starts ends pushes corrections arrivals taken")


def draw_case(draw, number):
    mode = MODES[number % len(MODES)]
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
    unit = JoinUnit()
    if mode != NO_LAGGY:
        unit = JoinUnit(
            mode, int(draw.choice([1, 4, 5, 16, 16, 16, 127, 128])), int(draw.choice([1, 2, 4, 8, 8, 16])),
            pending_sums=int(draw.choice([1, 2, 3, 4, 8])), laggy_units=int(draw.choice([1, 1, 2, 3])),
            offset_tables=int(draw.choice([1, 2, 2, 3, 9])),
        )  # fmt: skip
    return Drawn(
        unit, int(draw.choice([0, 0, 1, 2, 8])), timesteps, int(draw.choice([1, 2, 2, 8])),
        int(draw.choice([1, 1, 2, draw.integers(1, 65)])), int(draw.choice([0, 4, 20, 150])), a, b, np.cumsum(gaps),
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
    if case.unit.laggy != NO_LAGGY:
        return case.a[None]
    return case.a[None] >> np.arange(case.timesteps)[:, None, None, None] & 1


def case_of(case, simulated):
    passes, unit = passes_of(case), case.unit
    items, payloads = [], []
    for column in case.b:
        for row in range(passes.shape[1]):
            for joined in passes[:, row]:
                items.append(chunk_items(joined, column))
                payloads += [payload(words) for words in joined[((joined != 0) & (column != 0)).any(1)]]
    chunks = np.concatenate(items)
    matches = len(simulated.pushes) if unit.laggy != NO_LAGGY else count_matches(passes, case.b)
    hidden = unit.laggy == LAGGY_MODES["hidden"]
    units, tables = (UNITS, UNITS) if hidden else (unit.laggy_units, unit.offset_tables)
    settings = [
        unit.laggy % len(MODES), unit.adders, unit.fifo_depth, case.overhead, case.timesteps, units, tables,
        unit.pending_sums, case.output_buffer, case.interval,
    ]  # fmt: skip
    waits = 2 * BITS + case.overhead + case.interval + MOST_LINES * (case.latency + 10)
    limit = int(case.release[-1]) + len(chunks) * waits + 3 * matches + 400
    late = np.array(payloads if unit.laggy != NO_LAGGY else [], np.uint32).reshape(-1, 64)
    inputs = [(case.release, chunks), (np.array(simulated.arrivals, np.int64), late)]
    return Case(settings, inputs, [matches, len(simulated.corrections), int(chunks[:, 8].sum()), len(chunks)], limit)


def count_matches(passes, b):
    return int(np.einsum("prck,nck->", passes != 0, (b != 0).astype(np.int64)))


def chunk_items(joined, column):
    """The chunks of a pass over a row and of a column, as the circuit takes them."""
    items = np.zeros((len(joined), 64), np.uint32)
    for item, words, weights in zip(items, joined, column, strict=True):
        item[:4] = np.packbits(words != 0, bitorder="little").view(np.uint32)
        item[4:8] = np.packbits(weights != 0, bitorder="little").view(np.uint32)
        item[9:41].view(np.int8)[: np.count_nonzero(weights)] = weights[weights != 0]
    items[-1, 8] = 1
    return items


def payload(words):
    """The packed words of a chunk, as the circuit takes them."""
    item = np.zeros(64, np.uint32)
    item.view(np.uint16)[: np.count_nonzero(words)] = words[words != 0]
    return item


def fibers(rows, word_bits):
    """Bitmask fibers of [fibers, chunks, 128] of which the words alone are in memory."""
    mask, start = pack_mask(rows.reshape(len(rows), -1) != 0)
    size = -(-(start[:, -1] - start[:, 0]) * word_bits // 8)
    lines = np.cumsum([0, *(-(-size // LINE))])[:-1]
    words = Tensor(lines, size, 1, 0)
    return SimpleNamespace(mask=mask, start=start, words=words, mask_bytes=0, word_byte=0, word_bits=word_bits)


def simulate(case, monkeypatch):
    """What archsim's element does: when joins start and end, matches are pushed and corrected, words come, sums go."""
    passes, (rows, chunks, _), columns = passes_of(case), case.a.shape, len(case.b)
    # Bits of a row pass by pass, as SparTen-SNN stores them.
    a = passes.swapaxes(0, 1).reshape(rows, -1, BITS)
    word_bits = case.timesteps if case.unit.laggy != NO_LAGGY else 0
    join = Join(len(passes), word_bits, case.unit, WORDS_OF_CHUNK, 1, 0)
    diagram, number = Diagram(), len(case.release)
    chunk, sums = diagram.fifo(number), diagram.fifo(case.unit.pending_sums - 1 + case.output_buffer)
    starts, ends, pushes, corrections, arrivals = [], [], [], [], []

    def element(a, m, x):
        joins = False
        for operation in processing_element(a, m, x):
            if joins and (operation.pop != NONE or operation.push != NONE):
                ends.append(a.now)
                joins = False
            requests = a.requests()
            yield operation
            if requests:
                arrivals.append(a.done(0, requests))
            if operation.pop != NONE:
                starts.append(a.start)
                joins = True

    def one_by_one(a, depth, start, matches, ready):
        for _ in range(matches):
            start = push_matches(a, depth, start, 1, ready)
            pushes.append(start - 1)
            corrections.append(a.kept[LAST_CORRECTION])
        return start

    def taker(a, m, x):
        for _ in range(rows * columns * len(passes)):
            yield op(pop=sums.port)
            yield op(pause=max(0, a.value - a.now), compute=case.interval)

    diagram.agent(element, requests=MOST_LINES, lanes=[0])
    diagram.agent(taker)
    diagram.agent(deliver(chunk.fifo, case.release))
    m = SimpleNamespace(
        config=SimpleNamespace(pe=SimpleNamespace(chunk_overhead_cycles=case.overhead)),
        layer=SimpleNamespace(m=rows, n=columns), pes=1, groups=rows, tile=rows, tiles=1, taps=1, chunks=chunks,
        pass_chunks=chunks, fiber_chunks=chunks, join=join, chunk=chunk,
        memory=line_spec(LINE, 128, MOST_LINES, MOST_LINES),
        sum=sums, group_credit=NONE, barrier_of_chunks=NONE, barrier_of_columns=NONE,
    )  # fmt: skip
    x = SimpleNamespace(fiber=np.arange(rows)[:, None], a=fibers(a, word_bits), b=fibers(case.b, 8))
    dram = MEMORY.dram._replace(row_hit_cycles=case.latency, row_miss_cycles=case.latency)
    memory = MEMORY._replace(ideal=int(case.latency == 0), dram=dram)
    monkeypatch.setattr(inner_join, "push_matches", one_by_one)
    taken = completions(diagram, m, x, kept=case.unit.kept, memory=memory)[1][1::2] - case.interval
    return Simulated(starts, ends, pushes, corrections, arrivals, taken)


@pytest.mark.rtl
@needs_verilator
def test_joins_matches_corrections_and_sums(tmp_path, monkeypatch, record_property):
    """All modes, 1 to 128 adders, FIFOs of 1 to 16, 1 to 3 laggy units, 1 to 9 tables, 1 to 8 pending sums, words that
    come in 1 to some 150 cycles, overheads 0 to 8, T 1 to 16, up to five chunks a sum, neuron units that are slow."""
    circuit = build("inner_join", tmp_path, settings=10, inputs=2, in_words=64, outputs=4, out_words=16)
    most, loas = np.zeros(3, np.int64), {"adders": 16, "fifo_depth": 8}

    def draw_both(draw, number):
        case = draw_case(draw, number)
        return case, simulate(case, monkeypatch)

    def compare_one(both, ran):
        compare(*both, ran)
        unit = both[0].unit
        if unit.laggy == LAGGY_MODES["queued"]:
            assert ran.outputs[0].words[:, 4].max(initial=0) <= unit.fifo_depth + 1
        if unit == unit._replace(laggy=LAGGY_MODES["hidden"], **loas):
            np.maximum(most, ran.outputs[0].words[:, 2:5].max(0, initial=0), out=most, casting="unsafe")

    def shapes(both):
        return both[0]._replace(a=both[0].a.shape, b=both[0].b.shape)

    compare_all(circuit, draw_both, lambda both: case_of(*both), compare_one, told=shapes, size=100)
    record_property("hidden, 16 adders, FIFOs of 8: most laggy passes at once, tables in use", tuple(most.tolist()))


def compare(case, simulated, ran):
    match, correction, finished, ended = ran.outputs
    np.testing.assert_array_equal(ran.inputs[0].cycles, simulated.starts)
    np.testing.assert_array_equal(ran.inputs[1].cycles, simulated.arrivals)
    np.testing.assert_array_equal(ended.cycles, simulated.ends)
    if case.unit.laggy != NO_LAGGY:
        np.testing.assert_array_equal(match.cycles, simulated.pushes)
        np.testing.assert_array_equal(correction.cycles, simulated.corrections)
    np.testing.assert_array_equal(finished.cycles, simulated.taken)
    bits = passes_of(case)[..., None] >> np.arange(case.timesteps) & 1
    sums = np.einsum("prckt,nck->nrpt", bits, case.b)
    if case.unit.laggy == NO_LAGGY:
        sums = sums[..., :1]
    given = finished.words.view(np.int32)[:, : sums.shape[-1]]
    np.testing.assert_array_equal(given, sums.reshape(given.shape))
