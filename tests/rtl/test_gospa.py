"""GoSPA-SNN's elements with banks of their own against their circuit: rows, partial sums that leave, overflows.

Up to three elements, tiles that take turns in the banks, parts of K between which partial sums go to memory and come
back, and sums that leave the bits of a word. Memory itself is ideal; rows and lines come as late as they were drawn.
"""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from archsim.accelerators.gospa_snn import OWN_BANKS, PSUM_BUFFER, lif, pe
from archsim.compress import bitmask, packed_time
from archsim.compress.by_position import by_position
from archsim.dataflow.outer_product import FIRE, PUT_AWAY, rows_of_b, spikes_of, tiles_of, visits_of
from archsim.hardware.agent import NONE
from archsim.hardware.compute.accumulator import accumulate_outer_product
from archsim.hardware.diagram import Diagram
from archsim.hardware.memory.placement import Tensor
from archsim.jit import plain
from tests.rtl.circuit import Case, build, compare_all, needs_verilator
from tests.rtl.machine import IDEAL, completions, deliver

PES, COLUMNS, PLACES, VISITS, LINE_WORDS = 3, 288, 12, 8, 8

Drawn = namedtuple("Drawn", "config layer tiles spikes b visits words weights release lines")
"""``words`` [M, K] packed, ``weights`` [N, K]; ``release`` of the rows of B and ``lines`` of lines of partial sums."""


def draw_case(draw, number):
    """Corners: no spikes, all spikes, one row of B, rows without spikes, a column alone, 128 columns and one more."""
    while True:
        case = drawn_once(draw, number)
        if len(case.visits.load) <= VISITS:
            return case


def drawn_once(draw, number):
    integer = lambda low, high: int(draw.integers(low, high + 1))  # noqa: E731
    timesteps = integer(1, 4)
    m, n = integer(1, PES * (PLACES // timesteps)), int(draw.choice([1, 5, 128, 129, integer(1, COLUMNS)]))
    k = integer(1, 12)
    words = draw.integers(0, 1 << timesteps, (m, k))
    words[draw.random(words.shape) >= draw.choice([0.05, 0.3, 1.0])] = 0
    weights = draw.integers(-128, 128, (n, k))
    weights[draw.random(weights.shape) >= draw.choice([0.01, 0.1, 0.5])] = 0
    match number % 10:
        case 1:
            words[:] = 0
        case 2:
            words[:] = (1 << timesteps) - 1
        case 3:
            words[:, ::2] = 0
        case 4:
            weights[:, 1:] = 0
        case 5:
            weights = np.minimum(np.abs(weights), 127)
    whole = -(-m // PES) * n * timesteps
    psum_words = max(timesteps, min(whole, integer(1, whole) if draw.integers(2) else whole))
    config = SimpleNamespace(
        pe=SimpleNamespace(
            count=PES, spike_overhead_cycles=integer(0, 3), chunk_overhead_cycles=integer(0, 3), weight_bits=8,
            row_buffers=integer(1, 4),
        ),
        psum=SimpleNamespace(
            place="own_banks", k_tiles=integer(1, 3), overflow=str(draw.choice(["matrix", "excess"])),
            bits=int(draw.choice([8, 9, 10, 12, 16])),
        ),
        scheduler=SimpleNamespace(
            spikes="own_rows", block_lines=integer(1, 8), barrier=str(draw.choice(["row", "row", "none"]))
        ),
        neuron=SimpleNamespace(cycles=integer(1, 3)),
        format=SimpleNamespace(coordinate_bits=16, pointer_bits=16),
        memory=SimpleNamespace(cache=SimpleNamespace(width_bits=128, line_bytes=64)),
        psum_words=psum_words, most_columns=max(1, psum_words // timesteps),
    )  # fmt: skip
    layer = SimpleNamespace(
        m=m, n=n, k=k, timesteps=timesteps, updates=timesteps, inputs=packed_time.encode(words.astype(np.uint16)),
        weights=bitmask.encode(weights.astype(np.int8)),
    )  # fmt: skip
    tiles = tiles_of(config, layer)
    spikes, b = spikes_of(config, layer, tiles), rows_of_b(config, layer, tiles)
    streamed = np.arange(k + 1) * integer(1, 64) + np.zeros((tiles.down, tiles.across, 1), np.int64)
    visits = visits_of(config, layer, tiles, b, streamed)
    late = lambda count: np.cumsum(draw.integers(1, draw.choice([2, 30, 200]), count))  # noqa: E731
    rows = sum(len(filled) for *_, filled in of_visits(visits, tiles, weights))
    lines = int((visits.load * -(-owned(layer, tiles, visits)[:, 0] // LINE_WORDS)).sum())
    return Drawn(config, layer, tiles, spikes, b, visits, words, weights, late(rows), late(lines))


def of_visits(visits, tiles, weights):
    """For each visit the rows of its tile (a slice), its columns, and the k whose row of B is not empty there."""
    for visit, c in enumerate(visits.columns):
        first = int(visits.share[visit]) // tiles.pes * tiles.rows
        columns = slice(int(c) * tiles.columns, (int(c) + 1) * tiles.columns)
        blocks = visits.k[visits.block[visit] : visits.block[visit + 1]]
        k = np.concatenate([np.arange(*block) for block in blocks])
        yield slice(first, first + tiles.rows), columns, k[weights[columns][:, k].any(0)]


def owned(layer, tiles, visits):
    """Partial sums that each element has in each visit [visits, elements]."""
    found = []
    for visit, c in enumerate(visits.columns):
        first = int(visits.share[visit]) // tiles.pes * tiles.rows
        rows = min(tiles.rows, layer.m - first)
        width = min(tiles.columns, layer.n - int(c) * tiles.columns)
        found.append([len(range(pe, rows, tiles.pes)) * width * layer.timesteps for pe in range(tiles.pes)])
    return np.array(found)


def places(case):
    """Of every visit the partial sums of each element before and behind it, in the order of its bank."""
    bits = case.words[..., None] >> np.arange(case.layer.timesteps) & 1
    sums = np.zeros((case.layer.m, case.layer.timesteps, case.layer.n), np.int64)
    for rows, columns, k in of_visits(case.visits, case.tiles, case.weights):
        before = sums[rows, :, columns].copy()
        sums[rows, :, columns] += np.einsum("mkt,nk->mtn", bits[rows][:, k], case.weights[columns][:, k])
        yield tuple(
            [of_tile[pe :: case.tiles.pes].ravel() for pe in range(case.tiles.pes)]
            for of_tile in (before, sums[rows, :, columns])
        )


def case_of(case):
    pes, config, visits = case.tiles.pes, case.config, case.visits
    settings = [
        pes, config.scheduler.barrier == "row", config.pe.row_buffers, config.pe.spike_overhead_cycles,
        config.pe.chunk_overhead_cycles, config.psum.bits, config.neuron.cycles, len(visits.load),
    ]  # fmt: skip
    rows, lines, leaving, walked = [], [], np.zeros(PES, np.int64), 0
    for visit, ((of_rows, columns, filled), (before, _)) in enumerate(
        zip(of_visits(visits, case.tiles, case.weights), places(case), strict=True)
    ):
        words = np.zeros(PES, np.int64)
        words[:pes] = [len(of_element) for of_element in before]
        width, end = len(case.weights[columns]), int(visits.end[visit])
        settings += [
            len(filled) | int(visits.load[visit]) << 8 | end << 9 | width << 16,
            words[0] | words[1] << 16,
            words[2],
        ]
        leaving += words * (end in (FIRE, PUT_AWAY))
        for k in filled:
            rows.append(row_item(case, of_rows, columns, k))
            walked += PLACES * (3 + 3 * 4 + np.count_nonzero(case.weights[columns, k]))
        for first in range(0, words[0] * int(visits.load[visit]), LINE_WORDS):
            line = np.zeros((PES, LINE_WORDS), np.int64)
            for element, sums in enumerate(before):
                part = sums[first : first + LINE_WORDS]
                line[element, : len(part)] = part
            lines.append(np.concatenate([line.ravel() & 0xFFFFFFFF, np.zeros(59, np.int64)]))
    settings += [0] * (32 - len(settings))
    late = int(max(case.release[-1] if rows else 0, case.lines[-1] if lines else 0))
    limit = late + walked + 4 * int(leaving.max()) + 2 * len(lines) * LINE_WORDS + 100
    items = np.array(rows, np.int64).reshape(-1, 83), np.array(lines, np.int64).reshape(-1, 83)
    return Case(
        [int(setting) for setting in settings], list(zip((case.release, case.lines), items, strict=True)),
        [*leaving.tolist(), *[0] * PES], limit,
    )  # fmt: skip


def row_item(case, rows, columns, k):
    """Row k of B in some columns, and the places of the elements' spikes at k."""
    item = np.zeros(83 * 4, np.uint8)
    values = case.weights[columns, k]
    mask = np.zeros(COLUMNS, bool)
    mask[: len(values)] = values != 0
    item[:36] = np.packbits(mask, bitorder="little")
    item[36 : 36 + mask.sum()].view(np.int8)[:] = values[values != 0]
    spikes = np.zeros((PES, PLACES), bool)
    for element in range(case.tiles.pes):
        own = case.words[rows, k][element :: case.tiles.pes, None] >> np.arange(case.layer.timesteps) & 1
        spikes[element, : own.size] = own.ravel()
    packed = np.packbits(spikes.ravel(), bitorder="little")
    item[324 : 324 + len(packed)] = packed
    return item.view(np.uint32)


def simulate(case):
    """Cycles in which archsim takes rows and lines, and each element ends rows and batches of partial sums."""
    visits, pes, config = case.visits, case.tiles.pes, case.config
    words = owned(case.layer, case.tiles, visits)
    size = -(-words // LINE_WORDS) << 6
    nothing = Tensor(np.zeros(words.size, np.int64), np.zeros(words.size, np.int64), 1, 0)
    # A fiber of partial sums for each visit and element here: those of two visits of a tile are equal.
    fiber = np.arange(len(words)) * pes
    x = SimpleNamespace(
        spikes=case.spikes, b=case.b, visits=visits._replace(fiber=fiber), owned=words.ravel(),
        coordinates=nothing._replace(size=np.zeros(case.spikes.start.shape[0], np.int64)),
        sums=nothing._replace(size=size.ravel()), output=nothing, taken=nothing,
    )  # fmt: skip
    diagram = Diagram()
    rows = diagram.fifo(config.pe.row_buffers, readers=pes)
    sum_lines, blocks = diagram.fifo(PSUM_BUFFER, readers=pes), diagram.fifo(1000, full=True, readers=pes)
    diagram.agent(pe, pes)
    diagram.agent(lif, pes, requests=8)
    diagram.agent(deliver(rows.fifo, case.release))
    diagram.agent(deliver(sum_lines.fifo, case.lines))
    m = SimpleNamespace(
        visits=len(words), pes=pes, line_words=LINE_WORDS, rows=rows, sum_lines=sum_lines, blocks=blocks,
        barrier=diagram.barrier(pes) if config.scheduler.barrier == "row" else NONE,
        ready=diagram.fifo(1, count=pes), done=diagram.fifo(1, count=pes), layer=case.layer,
        memory=SimpleNamespace(line_shift=6, beat_shift=4, burst=8),
        config=SimpleNamespace(**{**vars(config), "psum": SimpleNamespace(place=OWN_BANKS, bits=32)}),
    )  # fmt: skip
    watched = [[] for _ in range(pes)], [[] for _ in range(pes)]
    kinds = (pe, lambda operation: rows.port <= operation.pop < rows.port + pes), (
        lif, lambda operation: operation.pop == operation.push == NONE and operation.compute + operation.pause > 0
    )  # fmt: skip
    for kind, (function, chosen) in enumerate(kinds):
        diagram.kinds[kind] = diagram.kinds[kind]._replace(function=watching(function, chosen, watched[kind]))
    *_, taken_rows, taken_lines = completions(diagram, m, x, memory=IDEAL)
    return taken_rows, taken_lines, *watched


def watching(function, chosen, ends):
    """The agent ``function``; writes down when the operations of element a.me that are ``chosen`` have ended."""

    def agent(a, m, x):
        is_chosen = False
        for operation in function(a, m, x):
            if is_chosen:
                ends[a.me].append(a.now)
            is_chosen = chosen(operation)
            yield operation
        if is_chosen:
            ends[a.me].append(a.now)

    return agent


def compare(case, ran):
    taken_rows, taken_lines, row_ends, batch_ends = simulate(case)
    np.testing.assert_array_equal(ran.inputs[0].cycles, taken_rows)
    np.testing.assert_array_equal(ran.inputs[1].cycles, taken_lines)
    expected, last_words = [[] for _ in range(PES)], [[] for _ in range(PES)]
    for (_, behind), end in zip(places(case), case.visits.end, strict=True):
        for element, sums in enumerate(behind):
            if end in (FIRE, PUT_AWAY):
                first = len(expected[element])
                expected[element] += sums.tolist()
                last_words[element] += [first + min(i + 32, len(sums)) - 1 for i in range(0, len(sums), 32)]
    overflows = 0
    for element in range(case.tiles.pes):
        stream = ran.outputs[element]
        np.testing.assert_array_equal(stream.words[:, 0].astype(np.int32), expected[element])
        np.testing.assert_array_equal(stream.cycles[last_words[element]], batch_ends[element])
        rows = ran.outputs[PES + element]
        np.testing.assert_array_equal(np.repeat(rows.cycles, rows.words[:, 0]), row_ends[element])
        overflows += int(stream.words[-1, 1]) if len(stream.words) else 0
    check_all(case, overflows)


def check_all(case, overflows):
    """All visits together make the sums of the layer; words overflowed as often as in archsim."""
    layer = case.layer
    a = by_position(layer.inputs.mask, layer.inputs.start, layer.inputs.words, layer.k)
    b = by_position(layer.weights.mask, layer.weights.start, layer.weights.values, layer.k)
    sums = np.zeros((layer.m, layer.n, layer.timesteps), np.int64)
    found = plain(accumulate_outer_product)(a, b, layer.timesteps, case.config.psum.bits, sums)
    assert overflows == found
    fired = np.zeros_like(sums)
    of_tiles = of_visits(case.visits, case.tiles, case.weights)
    for (rows, columns, _), (_, behind), end in zip(of_tiles, places(case), case.visits.end, strict=True):
        if end == FIRE:
            for element, own in enumerate(behind):
                tile = fired[rows, columns][element :: case.tiles.pes]
                tile[:] = own.reshape(len(tile), layer.timesteps, tile.shape[1]).swapaxes(1, 2)
    np.testing.assert_array_equal(fired, sums)


@pytest.mark.rtl
@needs_verilator
def test_rows_and_partial_sums(tmp_path):
    """One to three elements, up to 288 columns, eight visits of tiles, words of 8 to 16 bits, all overheads 0 to 3."""
    circuit = build("gospa", tmp_path, settings=32, inputs=2, in_words=83, outputs=6, out_words=2)
    compare_all(circuit, draw_case, case_of, compare, told=lambda case: (case.config, case.layer.m, case.layer.n))
