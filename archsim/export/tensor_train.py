"""Tensor-train decomposition of trained 3x3 convolutions, their ranks, and the way back (TT-SNN, DATE 2024).

Weights W [O, I, 3, 3], cores of one common rank r (:mod:`archsim.trace.tensor_train` says what they compute):

    c1 [r, I, 1, 1]     c2 [r, r, 3, 1]     c3 [r, r, 1, 3]     c4 [O, r, 1, 1]

    stt    W[o, i, y, x] = sum over a, b, c of  c4[o, c] c3[c, b, x] c2[b, a, y] c1[a, i]
    ptt    W[o, i, y, x] = sum over a, c of  c4[o, c] (c2[c, a, y] [x = 1] + c3[c, a, x] [y = 1]) c1[a, i] / 2,
           a plus: its corners are zero
    half   W[o, i] = sum over a of  c4[o, a] c1[a, i], a 1x1 convolution

As all of them are linear, one ordinary convolution with the merged weights gives the same outputs.

**Ranks** by empirical variational Bayesian matrix factorisation, whose global solution is analytic: Nakajima, Sugiyama,
Babacan and Tomioka, "Global analytic solution of fully-observed variational Bayesian matrix factorization", JMLR 14
(2013). For V [L, M], L <= M, alpha = L / M, singular values g and noise variance v, a component stays where

    g^2 > M v (1 + t) (1 + alpha / t),     f(t) + f(t / alpha) = 0,   f(z) = log(1 + z) / z - 1/2

(t is about 2.5129 sqrt(alpha), which is what is commonly used), and then has the singular value

    g / 2 (1 - (L + M) v / g^2 + sqrt((1 - (L + M) v / g^2)^2 - 4 L M v^2 / g^4))

v is where the free energy is least; the tests minimise that numerically, over all posteriors.

The authors of TT-SNN take the rank of W unfolded along its output channels, or that along its input channels where the
first is zero (their decompose/decompse_layer.py).
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.errors import UsageError

Reals = NDArray[np.float64]
_GRID = 400
"""Noise variances that are tried at once; twice more around the best one."""


class Cores(NamedTuple):
    """The four sub-convolutions, with the shapes of convolution weights as above."""

    c1: Reals
    c2: Reals
    c3: Reals
    c4: Reals

    @property
    def rank(self) -> int:
        """The common rank."""
        return len(self.c1)


def decompose(weight: NDArray[Any], rank: int) -> Cores:
    """Cores of ``weight`` [O, I, 3, 3] by singular values (TT-SVD over input, row, column, output), for ``stt``.

    Each step is the best approximation of its rank; with rank >= min(3 I, 3 O) nothing is lost. Components that a step
    does not have are zero.
    """
    outputs, inputs, height, width = weight.shape
    rest = np.asarray(weight, np.float64).transpose(1, 2, 3, 0).reshape(inputs, -1)
    found = []
    for size, left in ((inputs, 1), (height, rank), (width, rank)):
        u, values, v = np.linalg.svd(rest.reshape(left * size, -1), full_matrices=False)
        kept = min(rank, len(values))
        core, rest = np.zeros((left * size, rank)), np.zeros((rank, v.shape[1]))
        # The values are shared out, so that all cores are of one size.
        core[:, :kept], rest[:kept] = u[:, :kept] * np.sqrt(values[:kept]), np.sqrt(values[:kept])[:, None] * v[:kept]
        found.append(core.reshape(left, size, rank))
    first, second, third = found
    return Cores(
        np.ascontiguousarray(first[0].T)[:, :, None, None],
        np.ascontiguousarray(second.transpose(2, 0, 1))[:, :, :, None],
        np.ascontiguousarray(third.transpose(2, 0, 1))[:, :, None, :],
        np.ascontiguousarray(rest.reshape(rank, outputs).T)[:, :, None, None],
    )


def merge(cores: Cores, mode: Literal["stt", "ptt", "half"]) -> Reals:
    """Weights [O, I, 3, 3] of one ordinary convolution that computes the same; of ``half`` [O, I, 1, 1]."""
    first, second, third, last = (np.asarray(core, np.float64) for core in cores)
    into, out = first[:, :, 0, 0], last[:, :, 0, 0]
    if mode == "half":
        return np.ascontiguousarray(out @ into)[:, :, None, None]
    if mode == "stt":
        parts = out, third[:, :, 0], second[:, :, :, 0], into
        return np.asarray(np.einsum("oc,cbx,bay,ai->oiyx", *parts, optimize=True))
    between = np.zeros((cores.rank, cores.rank, 3, 3))
    between[:, :, :, 1] += second[:, :, :, 0] / 2
    between[:, :, 1] += third[:, :, 0] / 2
    return np.asarray(np.einsum("oc,cayx,ai->oiyx", out, between, into, optimize=True))


def select_rank(weight: NDArray[Any]) -> int:
    """The rank that the authors' rule gives for ``weight`` [O, I, 3, 3]; at least 1."""
    weight = np.asarray(weight, np.float64)
    along_outputs = weight.reshape(len(weight), -1)
    along_inputs = weight.transpose(1, 0, 2, 3).reshape(weight.shape[1], -1)
    return factorise(along_outputs).rank or factorise(along_inputs).rank or 1


class Factorisation(NamedTuple):
    """What is left of a matrix: its ``rank``, the shrunk singular values [rank], and the noise variance."""

    rank: int
    values: Reals
    variance: float


def factorise(matrix: NDArray[Any], variance: float | None = None) -> Factorisation:
    """The empirical variational Bayesian factorisation of ``matrix``; the noise ``variance`` is found if not given.

    Raises UsageError where the matrix has values that are not finite, or the variance is not above zero.
    """
    values = np.asarray(matrix, np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise UsageError(f"matrix: got the shape {list(values.shape)}; allowed: two axes, with finite numbers")
    if variance is not None and not variance > 0:
        raise UsageError(f"variance: got {variance}; allowed: above zero")
    low, high = sorted(values.shape)
    singular: Reals = np.asarray(np.linalg.svd(values, compute_uv=False), np.float64)
    if not singular[0] > 0:
        return Factorisation(0, np.zeros(0), variance or 0.0)
    noise = _variance(singular, low, high) if variance is None else variance
    limit = math.sqrt(high * noise * _least_square(low / high))
    kept = singular[singular > limit]
    share = 1 - (low + high) * noise / kept**2
    return Factorisation(len(kept), kept / 2 * (share + np.sqrt(share**2 - 4 * low * high * noise**2 / kept**4)), noise)


def _least_square(alpha: float) -> float:
    """The square of a singular value over M v from which on a component stays."""
    low, high = 1e-9, 10.0  # f falls, so the sum has one zero; it is below 2.5129, where f itself is zero.
    for _ in range(80):
        t = (low + high) / 2
        low, high = (t, high) if _f(t) + _f(t / alpha) > 0 else (low, t)
    return (1 + t) * (1 + alpha / t)


def _f(z: float) -> float:
    return math.log1p(z) / z - 0.5


def _variance(singular: Reals, low: int, high: int) -> float:
    """The noise variance of the least free energy; it is at most the mean square of all values."""
    squares, least = singular**2, _least_square(low / high)
    upper = float(squares.sum()) / (low * high)
    bounds = math.log(upper * 1e-9), math.log(upper)
    for _ in range(3):
        tried = np.linspace(*bounds, _GRID)
        best = int(np.argmin([_free_energy(math.exp(one), squares, low, high, least) for one in tried]))
        bounds = float(tried[max(best - 1, 0)]), float(tried[min(best + 1, _GRID - 1)])
    return math.exp(float(tried[best]))


def _free_energy(variance: float, squares: Reals, low: int, high: int, least: float) -> float:
    """Twice the free energy over M but for a constant, of all components at their best."""
    alpha, x = low / high, squares / (high * variance)
    gone, stays = x[x <= least], x[x > least]
    tau = (stays - (1 + alpha) + np.sqrt((stays - (1 + alpha)) ** 2 - 4 * alpha)) / 2
    energy = low * math.log(variance) + gone.sum() + (stays - tau).sum()
    return float(energy + np.log(tau + 1).sum() + alpha * np.log(tau / alpha + 1).sum())
