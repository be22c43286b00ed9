"""Few-spikes neurons: accumulate over all timesteps first, then fire; at most T spikes write the sum in binary.

With x the sum over all timesteps of a neuron, h its threshold (the value of the last spike, at least 1), u[0] = x and
s[t] = h 2^(T - 1 - t) the value of a spike at timestep t,

    C[t] = u[t] >= s[t],    u[t+1] = u[t] - s[t] C[t],

so that the spikes stand for ``min(max(floor(x / h), 0), 2^T - 1)``, most significant first. Nothing is carried from the
sum of one timestep to that of the next (accumulate and fire are decoupled), which is why all timesteps can be summed at
once. A neuron unit takes ``cycles`` for each sum that it receives.

Source: the few-spikes neuron of Stoeckl and Maass (2021) with the coefficients that approximate a ReLU; that Stellar
(HPCA 2024) has such neurons, and no more, is known here from how LoAS and Prosperity describe it. Its own coefficients,
which come from training, are not. With coefficients in powers of two the chain is T comparators and subtractors.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from archsim.hardware.loading import Block
from archsim.jit import kernel


class FewSpikesConfig(Block):
    """Few-spikes neuron units."""

    cycles: int = Field(ge=1, le=64, description="cycles for one sum of a timestep")


@kernel
def fire_few_spikes(sums: Any, bias: Any, threshold: Any, words: Any) -> None:
    """Packed words uint16 [rows, N], timestep t in bit t, of full sums int64 [rows, N, T] and ``bias`` at each t."""
    rows, columns, timesteps = sums.shape
    for row in range(rows):
        for n in range(columns):
            rest = timesteps * bias[n]
            for t in range(timesteps):
                rest += sums[row, n, t]
            packed = 0
            for t in range(timesteps):
                value = max(1, threshold[n]) << (timesteps - 1 - t)
                if rest >= value:
                    packed |= 1 << t
                    rest -= value
            words[row, n] = packed
