"""Operands of the outer product: outputs in tiles, spikes dealt out to PEs, B by rows, K in parts and blocks.

For the order of the loops see :mod:`archsim.accelerators.gospa_snn`, whose configuration ``config`` is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.compress.bitmask import CHUNK_BITS
from archsim.compress.by_position import by_position, starts
from archsim.dataflow.layer import Layer

KEEP, PUT_AWAY, FIRE = range(3)
"""What becomes of a tile's partial sums at the end of a visit."""


class Tiles(NamedTuple):
    """How outputs are cut: tiles of ``rows`` rows and ``columns`` columns, of which there are ``down`` x ``across``.

    Row m of a tile belongs to PE ``m mod pes``. Fiber ``tile * pes + owner`` of partial sums, or of outputs, is what a
    PE owns of a tile; tiles are numbered row of tiles by row of tiles.
    """

    pes: int
    rows: int
    columns: int
    down: int
    across: int


class Spikes(NamedTuple):
    """The spikes that PE e takes in row tile r are share ``r * pes + e``; all are numbered by share, then by k.

    Those at k begin with ``start`` [shares, K + 1]. ``code`` says whose partial sums they change, (local row * T + t)
    * pes + owner; it is empty where those lie in banks of their own.
    """

    start: NDArray[np.int64]
    code: NDArray[np.int64]


class RowsOfB(NamedTuple):
    """B by rows. Column tile c has ``width`` columns, ``chunks`` of 128, and bitmasks of ``mask_bytes`` each.

    Non-zeros are numbered by tile, then by k: those of a row begin with ``start`` [tiles, K + 1]; ``column`` is theirs
    within the tile. A row takes ``beats`` [tiles, K] on the bus and a spike ``cycles`` [tiles, K]. ``filled`` lists the
    k whose row is not empty, column tile after column tile.
    """

    width: NDArray[np.int64]
    chunks: NDArray[np.int64]
    mask_bytes: NDArray[np.int64]
    start: NDArray[np.int64]
    column: NDArray[np.int64]
    beats: NDArray[np.int64]
    cycles: NDArray[np.int64]
    filled: NDArray[np.int64]


class Visits(NamedTuple):
    """Visits of tiles. A visit works on column tile ``columns``, on the shares from ``share`` on, on the partial sums
    and outputs of the fibers from ``fiber`` on, in blocks from ``block`` on.

    ``load`` 1: partial sums come from DRAM; ``end`` says what becomes of them. A block is ``k`` (first, end) and
    ``row`` (first, end of the rows that are filled).
    """

    columns: NDArray[np.int64]
    share: NDArray[np.int64]
    fiber: NDArray[np.int64]
    load: NDArray[np.int64]
    end: NDArray[np.int64]
    block: NDArray[np.int64]
    k: NDArray[np.int64]
    row: NDArray[np.int64]


def tiles_of(config: Any, layer: Layer) -> Tiles:
    """The largest tile of whole rows that the partial-sum memory holds, or of columns if it holds no row."""
    pes = config.pe.count if config.scheduler.spikes == "round_robin" else min(config.pe.count, layer.m)
    columns = min(layer.n, config.most_columns)
    rows = pes * min(-(-layer.m // pes), max(1, config.psum_words // (layer.n * layer.timesteps)))
    return Tiles(pes, rows, columns, -(-layer.m // rows), -(-layer.n // columns))


def spikes_of(config: Any, layer: Layer, tiles: Tiles) -> Spikes:
    """Deal the spikes, which come in order of k, m, t, to the PEs."""
    a = by_position(layer.inputs.mask, layer.inputs.start, layer.inputs.words, layer.k)
    at, t = np.nonzero((a.value[:, None] >> np.arange(layer.timesteps)) & 1)
    k = np.repeat(np.arange(layer.k), np.diff(a.start))[at]
    tile, row = a.fiber[at] // tiles.rows, a.fiber[at] % tiles.rows
    local, owner = row // tiles.pes, row % tiles.pes
    taker = owner
    if config.scheduler.spikes == "round_robin":
        order = np.argsort(tile, kind="stable")
        number = np.empty(len(tile), np.int64)
        number[order] = np.arange(len(tile)) - np.searchsorted(tile[order], tile[order])
        taker = number % tiles.pes
    share = tile * tiles.pes + taker
    start = starts(share, k, tiles.down * tiles.pes, layer.k)
    code = np.zeros(0, np.int64)
    if config.psum.place == "cache":
        code = ((local * layer.timesteps + t) * tiles.pes + owner)[np.argsort(share, kind="stable")]
    return Spikes(start, code)


def rows_of_b(config: Any, layer: Layer, tiles: Tiles) -> RowsOfB:
    """Cut B into column tiles, and count what its rows take: on the bus, and of a PE's time."""
    b = by_position(layer.weights.mask, layer.weights.start, layer.weights.values, layer.k)
    across, k = b.fiber // tiles.columns, np.repeat(np.arange(layer.k), np.diff(b.start))
    start = starts(across, k, tiles.across, layer.k)
    width = np.minimum(tiles.columns, layer.n - tiles.columns * np.arange(tiles.across))
    chunks, most = -(-width // CHUNK_BITS), -(-min(layer.n, tiles.columns) // CHUNK_BITS)
    chunk = (across * layer.k + k) * most + b.fiber % tiles.columns // CHUNK_BITS
    in_chunk = np.bincount(chunk, minlength=tiles.across * layer.k * most).reshape(tiles.across, layer.k, most)
    # The last tile may have fewer chunks than the others.
    walked = np.maximum(1, in_chunk + config.pe.chunk_overhead_cycles) * (np.arange(most) < chunks[:, None, None])
    mask_bytes = -(-width // 8) + -(-config.format.pointer_bits // 8)
    bits, beat = (start - start[:, :1]) * config.pe.weight_bits, config.memory.cache.width_bits // 8
    value_bytes = -(-bits[:, 1:] // 8) - bits[:, :-1] // 8
    return RowsOfB(
        width, chunks, mask_bytes, start, b.fiber[np.argsort(across, kind="stable")] % tiles.columns,
        -(-mask_bytes // beat)[:, None] + -(-value_bytes // beat), walked.sum(2) + config.pe.spike_overhead_cycles,
        np.nonzero(np.diff(start, axis=1))[1],
    )  # fmt: skip


def visits_of(config: Any, layer: Layer, tiles: Tiles, b: RowsOfB, streamed: NDArray[np.int64]) -> Visits:
    """All visits of tiles, and blocks of about ``block_lines`` lines each; ``streamed`` [down, across, K + 1] bytes."""
    order = [(r, c) for c in range(tiles.across) for r in range(tiles.down)]
    parts = min(config.psum.k_tiles, layer.k) if len(order) > 1 else 1
    block_bytes = config.scheduler.block_lines * config.memory.cache.line_bytes
    keeps = config.psum.overflow == "excess"
    visits, first, blocks = [], [0], []
    for part in range(parts):
        for place, (r, c) in enumerate(order):
            load = part > 0 and not (keeps and place == 0)
            end = FIRE if part == parts - 1 else KEEP if keeps and place == len(order) - 1 else PUT_AWAY
            visits.append((c, r * tiles.pes, (r * tiles.across + c) * tiles.pes, int(load), end))
            k, k_end = layer.k * part // parts, layer.k * (part + 1) // parts
            while k < k_end:
                fits = int(np.searchsorted(streamed[r, c], streamed[r, c, k] + block_bytes, side="right")) - 1
                following = min(k_end, max(k + 1, fits))
                blocks.append((c, k, following))
                k = following
            first.append(len(blocks))
        if keeps:
            order.reverse()
    block = np.array(blocks, np.int64).reshape(-1, 3)
    filled = np.flatnonzero(np.diff(b.start, axis=1))
    row = np.searchsorted(filled, block[:, :1] * layer.k + block[:, 1:])
    columns, share, fiber, loads, ends = np.array(visits, np.int64).T.copy()
    return Visits(columns, share, fiber, loads, ends, np.array(first), block[:, 1:].copy(), row)


def output_bytes_of(layer: Layer, tiles: Tiles, of_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes of output of every (tile, owner); those of a row are taken as spread evenly over its columns."""
    rows = np.zeros((tiles.down * tiles.rows, tiles.across), np.int64)
    ends = np.minimum(layer.n, tiles.columns * np.arange(1, tiles.across + 1))
    rows[: layer.m] = np.diff(of_rows[:, None] * ends // layer.n, axis=1, prepend=0)
    found: NDArray[np.int64] = rows.reshape(tiles.down, -1, tiles.pes, tiles.across).sum(1).transpose(0, 2, 1)
    return found
