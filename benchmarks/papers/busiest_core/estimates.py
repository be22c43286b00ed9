"""How well one number predicts the cycles of runs, with intervals over images.

Runs have weights: how often their image was drawn, int64 [draws, images]; ones for the images as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

DRAWS = 1000
INTERVAL = (2.5, 97.5)
"""Percentiles."""
Measure = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[Any]]


def correlation(x: NDArray[Any], y: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Pearson's r of logarithms ``x`` and ``y`` [runs], by draw; nan where all of one are the same."""
    x, y = (values - np.average(np.broadcast_to(values, weights.shape), 1, weights)[:, None] for values in (x, y))
    together, alone, other = ((weights * product).sum(1) for product in (x * y, x * x, y * y))
    spread = np.sqrt(alone * other)
    return np.where(spread > 1e-9, together / np.maximum(spread, 1e-9), np.nan)


def error_percent(x: NDArray[Any], y: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Mean error of what has the logarithms ``y`` as a multiple of what has ``x``, the best by geometric mean."""
    ratio = np.broadcast_to(y - x, weights.shape)
    off = np.abs(np.expm1(np.average(ratio, 1, weights)[:, None] - ratio))
    return 100 * np.average(off, 1, weights)


def over_groups(
    runs: pd.DataFrame, by: Sequence[str], predictor: str, measure: Measure, weights: NDArray[Any]
) -> NDArray[Any]:
    """The mean of a ``measure`` over groups of runs, by draw; a group of one image counts as often as it was drawn."""
    total, count = np.zeros(len(weights)), np.zeros(len(weights))
    for _, group in runs.groupby(list(by)) if by else [((), runs)]:
        own = weights[:, group["image"].to_numpy()]
        drawn = own[:, 0] if "image" in by else (own.sum(1) > 0).astype(float)
        x, y = (np.log(group[name].to_numpy(float)) for name in (predictor, "cycles"))
        # A group that was not drawn has a weight of 0, and any value.
        found = measure(x, y, np.where(drawn[:, None] > 0, own, 1))
        total, count = total + drawn * found, count + drawn
    return total / count


def with_interval(
    runs: pd.DataFrame, by: Sequence[str], predictor: str, measure: Measure
) -> tuple[float | None, float | None, float | None]:
    """The mean, and the interval that holds it when images are drawn again with replacement; None for nan."""
    images = int(runs["image"].max()) + 1
    (value,) = over_groups(runs, by, predictor, measure, np.ones((1, images)))
    if np.isnan(value):
        return None, None, None
    drawn = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), DRAWS)
    low, high = np.nanpercentile(over_groups(runs, by, predictor, measure, drawn.astype(float)), INTERVAL)
    return float(value), float(low), float(high)


def standard_error(values: Any) -> float:
    """Of the mean of ``values``."""
    values = np.asarray(values, float)
    return float(values.std(ddof=1) / np.sqrt(len(values)))
