"""Where was it? Fields of the two-dimensional wave equation, and the place of the source that made them.

``u_tt = c^2 (u_xx + u_yy)`` on 64 x 64 points with fixed edges, from a Gaussian at rest, 100 steps of the leapfrog
scheme with the Courant number 1/2. A source stands on each of 44 x 44 points, 10 from any edge; its class is the one of
3 x 3 equal squares that it stands in. What a network sees is every second point of the last field, as uint8.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

POINTS = 64
STEPS = 100
COURANT = 0.5
WIDTH = 3.0
"""Of the Gaussian, in points."""
MARGIN = 10
SIDE_CLASSES = 3
TEST_SHARE = 0.2
_SOURCES_AT_ONCE = 44


def fields(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """The last fields [sources, 64, 64] of sources at these points."""
    y, x = np.mgrid[:POINTS, :POINTS]
    now = np.exp(-((y - rows[:, None, None]) ** 2 + (x - columns[:, None, None]) ** 2) / (2 * WIDTH**2))
    now[:, [0, -1]] = now[:, :, [0, -1]] = 0
    before, half = now, COURANT**2 / 2  # at rest: the first step is half of the others
    for step in range(STEPS):
        bent = np.zeros_like(now)
        bent[:, 1:-1, 1:-1] = (
            now[:, 2:, 1:-1] + now[:, :-2, 1:-1] + now[:, 1:-1, 2:] + now[:, 1:-1, :-2] - 4 * now[:, 1:-1, 1:-1]
        )
        now, before = (now + half * bent if step == 0 else 2 * now - before + 2 * half * bent), now
    return now


def sources(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images uint8 [N, 1, 32, 32] and classes int64 [N] to train with, then those to test with; all 1,936 sources."""
    places = np.arange(MARGIN, POINTS - MARGIN)
    rows, columns = (grid.ravel() for grid in np.meshgrid(places, places, indexing="ij"))
    bins = (np.arange(len(places)) * SIDE_CLASSES // len(places))[np.stack((rows, columns)) - MARGIN]
    labels = bins[0] * SIDE_CLASSES + bins[1]
    found = np.concatenate(
        [
            fields(rows[first : first + _SOURCES_AT_ONCE], columns[first : first + _SOURCES_AT_ONCE])[:, ::2, ::2]
            for first in range(0, len(rows), _SOURCES_AT_ONCE)
        ]
    )
    scaled = np.round(127.5 + 127.5 * found / np.abs(found).max()).astype(np.uint8)[:, None]
    order = np.random.default_rng(seed).permutation(len(scaled))
    test, train = np.split(order, [int(TEST_SHARE * len(order))])
    return (
        torch.from_numpy(scaled[train]), torch.from_numpy(labels[train]),
        torch.from_numpy(scaled[test]), torch.from_numpy(labels[test]),
    )  # fmt: skip
