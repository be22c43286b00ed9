"""The prefixes of a tile and what they leave to add, by sets of columns."""

import numpy as np


def slow_prefixes(tile, least=1):
    """By sets: the largest subset among the other rows, of equal ones the last; equal rows only from above."""
    sets = [frozenset(np.flatnonzero(row).tolist()) for row in tile]
    found = []
    for i, mine in enumerate(sets):
        others = [j for j, s in enumerate(sets) if s and (s < mine or (s == mine and j < i))]
        found.append(max(others, key=lambda j: (len(sets[j]), j)) if others and len(mine) >= least else -1)
    return found


def slow_work(tile, least=1, all_rows=False, per_row=0, per_spike=1):
    """(spikes, spikes left, cycles) of a tile, by sets."""
    prefix = slow_prefixes(tile, least)
    left = [int((row > tile[p] if p >= 0 else row).sum()) for row, p in zip(tile, prefix, strict=True)]
    issued = [n for n, row in zip(left, tile, strict=True) if all_rows or row.any()]
    cycles = sum(max(1, per_row + per_spike * n) for n in issued)
    return int(tile.sum()), sum(left), cycles
