"""Neurons with exponential synapses that fire once: tick by tick, and at once in closed form.

Time is in ticks, r of them in the time constant of the synapses (``time_constant``). E[t] is the exponential of a tick,
an integer with f ``fraction_bits``::

    E[t] = 2^f exp(t / r)      rounded to the nearest integer, a half to the even one

A current x[t] that arrives at tick t goes on for ever and decays; the potential is its integral, so that a synapse of
weight w that spikes at tick k adds ``w (1 - exp(-(t - k) / r))``. Multiplied by E[t] nothing decays, and with W the sum
of what arrived and A that of what arrived times its exponential, a timestep is exactly::

    W[t] = W[t-1] + x[t]
    A[t] = A[t-1] + x[t] E[t]
    X[t] = W[t] E[t] - A[t]
    s[t] = X[t] >= h E[t]      and not before

What arrives at tick t adds nothing to X[t], so that it makes no difference whether it counts as before or behind. For
inputs that spike once, at ticks k_1 <= k_2 <= ..., W and A are prefix sums, and between two of the ticks X grows
towards the threshold only if W > h. So the neuron fires behind input j, the first one with::

    W_j > h  and  A_j <= (W_j - h) E[k_(j+1)]      k_(j+1) = T - 1 behind the last input

at the first tick t with ``E[t] >= A_j / (W_j - h)``: z = sum w z / (sum w - 1) of time-to-first-spike coding (threshold
1 for h), rounded up to a tick. No quotient is needed, only products.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.jit import njit

MAX_TIME_CONSTANT = 1024


@cache
def exponential(tick: int, time_constant: int, fraction_bits: int) -> int:
    """E of ``tick``."""
    # Enough digits for each of 63 bits, and forty more, so that no rounding depends on a library.
    context = Context(prec=40 + tick // time_constant // 2 + fraction_bits // 3)
    exact = context.multiply(context.exp(context.divide(Decimal(tick), Decimal(time_constant))), 1 << fraction_bits)
    return int(exact.to_integral_value(ROUND_HALF_EVEN))


@cache
def exponentials(timesteps: int, time_constant: int, fraction_bits: int) -> NDArray[np.int64]:
    """E [T], not to be written to."""
    found = np.array([exponential(tick, time_constant, fraction_bits) for tick in range(timesteps)], np.int64)
    found.flags.writeable = False
    return found


class Fired(NamedTuple):
    """Of neurons [P, N]: the tick, or T where there is none; and how many inputs came before it, or before the end."""

    ticks: NDArray[Any]
    inputs: NDArray[np.int64]


def fire_rows(
    times: NDArray[Any], weights: NDArray[np.int8], threshold: NDArray[np.int64], table: NDArray[np.int64]
) -> Fired:
    """What neurons do whose inputs spike at ``times`` [P, K] (never is later than any tick) through ``weights`` [N, K];
    ``threshold`` [N], ``table`` [T]: E."""
    order = np.argsort(times, axis=1, kind="stable")
    ticks, inputs = np.empty((2, len(times), len(weights)), np.int64)
    _fire(np.take_along_axis(times, order, 1), order, np.ascontiguousarray(weights.T), threshold, table, ticks, inputs)
    return Fired(ticks, inputs)


@njit
def _fire(times: Any, order: Any, weights: Any, threshold: Any, table: Any, ticks: Any, inputs: Any) -> None:
    """Fill ``ticks`` and ``inputs``; ``times`` of each row ascend, ``order`` [P, K] are their rows of ``weights``
    [K, N]. Within a tick nothing crosses, so neurons are looked at behind the last input of each."""
    last, n = len(table) - 1, len(threshold)
    above, moment = np.empty(n, np.int64), np.empty(n, np.int64)
    for p in range(len(times)):
        above[:] = -threshold
        moment[:] = 0
        ticks[p], left, place = last + 1, n, 0
        while left and place < times.shape[1] and times[p, place] <= last:
            tick = times[p, place]
            arrived, row = table[tick], weights[order[p, place]]
            for column in range(n):
                above[column] += row[column]
                moment[column] += row[column] * arrived
            place += 1
            following = times[p, place] if place < times.shape[1] else last
            if following == tick and place < times.shape[1]:
                continue
            limit, crossed = table[min(following, last)], 0
            for column in range(n):
                waits = ticks[p, column] > last
                crossed += waits & (above[column] > 0) & (moment[column] <= above[column] * limit)
            if crossed == 0:
                continue
            for column in range(n):
                waits = ticks[p, column] > last
                if waits and above[column] > 0 and moment[column] <= above[column] * limit:
                    ticks[p, column] = np.searchsorted(table, -(-moment[column] // above[column]))
                    inputs[p, column] = place
                    left -= 1
        for column in range(n):
            if ticks[p, column] > last:
                inputs[p, column] = place
