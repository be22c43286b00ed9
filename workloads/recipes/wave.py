"""Where was it? Fields of the two-dimensional wave equation, and the place of the source that made them.

``u_tt = c^2 (u_xx + u_yy)`` on 64 x 64 points with fixed edges, from a Gaussian at rest, 100 steps of the leapfrog
scheme with the Courant number 1/2. A source stands on each of 44 x 44 points, 10 from any edge; its class is the one of
3 x 3 equal squares that it stands in. What a network sees is every second point of the last field, as uint8. Networks
may be tested on sources in the middle between four points, too, none of which they were trained with.
"""

from __future__ import annotations

from typing import Any

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
SIDE = POINTS - 2 * MARGIN
"""Sources in a row."""
SIDE_CLASSES = 3
TEST_SHARE = 0.2
_SOURCES_AT_ONCE = 44


def fields(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
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
    shown, labels = _seen(np.arange(SIDE))
    scaled = _scaled(shown, float(np.abs(shown).max()))
    order = np.random.default_rng(seed).permutation(len(scaled))
    test, train = np.split(order, [int(TEST_SHARE * len(order))])
    return (
        torch.from_numpy(scaled[train]), torch.from_numpy(labels[train]),
        torch.from_numpy(scaled[test]), torch.from_numpy(labels[test]),
    )  # fmt: skip


def between() -> tuple[Tensor, Tensor]:
    """Images and classes, as :func:`sources` has them, of 43 x 43 sources half a point from the others."""
    shown, labels = _seen(np.arange(SIDE - 1) + 0.5)
    return torch.from_numpy(_scaled(shown, float(np.abs(_seen(np.arange(SIDE))[0]).max()))), torch.from_numpy(labels)


def _seen(places: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What is seen of sources at all pairs of ``places``, which count from the first one on, and their classes."""
    rows, columns = (grid.ravel() for grid in np.meshgrid(places, places, indexing="ij"))
    bins = (np.stack((rows, columns)) * SIDE_CLASSES // SIDE).astype(np.int64)
    found = [
        fields(*(part[first : first + _SOURCES_AT_ONCE] + MARGIN for part in (rows, columns)))[:, ::2, ::2]
        for first in range(0, len(rows), _SOURCES_AT_ONCE)
    ]
    return np.concatenate(found), bins[0] * SIDE_CLASSES + bins[1]


def _scaled(shown: NDArray[np.float64], most: float) -> NDArray[np.uint8]:
    return np.round(127.5 + 127.5 * shown / most).clip(0, 255).astype(np.uint8)[:, None]
