"""How sparse the operands of a trace are, layer by layer.

Ratios of spikes refer to the im2col matrix [M, K] of words of T bits, as in Table II of LoAS: an input neuron counts
once for every window that covers it, and a word of the zero padding is silent. The counts are exact integers; the
matrix is never built, because a neuron at (row, column) occurs in ``rows[row] * columns[column]`` windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.trace.model import Operation, Trace


@dataclass(frozen=True)
class LayerStatistics:
    """One layer, or a total, which has no M, N and K. Spike counts are None where the input is not spikes.

    ``words`` = M K, ``spikes`` ones in all timesteps, ``active_words`` with at least one spike and ``fire_once_words``
    with exactly one. ``input_density`` is the share of ones in the stored feature map itself, without padding.
    """

    layer: str
    op: str
    m: int | None
    n: int | None
    k: int | None
    timesteps: int
    words: int
    spikes: int | None = None
    active_words: int | None = None
    fire_once_words: int | None = None
    input_density: float | None = None
    weights: int | None = None
    weight_nonzeros: int | None = None

    @property
    def spike_density(self) -> float | None:
        """Ones in the im2col matrix per timestep: 1 - spike sparsity."""
        return None if self.spikes is None or not self.words else self.spikes / (self.words * self.timesteps)

    @property
    def silent_ratio(self) -> float | None:
        """Share of words without any spike ("packed" sparsity)."""
        return None if self.active_words is None or not self.words else 1 - self.active_words / self.words

    @property
    def fire_once_ratio(self) -> float | None:
        """Share of words with exactly one spike."""
        return None if self.fire_once_words is None or not self.words else self.fire_once_words / self.words

    @property
    def weight_density(self) -> float | None:
        """Share of weights that are not zero."""
        return None if self.weight_nonzeros is None or not self.weights else self.weight_nonzeros / self.weights

    def row(self) -> dict[str, Any]:
        """All of it as one flat dictionary, ratios included."""
        ratios = ("spike_density", "silent_ratio", "fire_once_ratio", "weight_density")
        return asdict(self) | {name: getattr(self, name) for name in ratios}


def statistics(trace: Trace) -> list[LayerStatistics]:
    """One entry per convolution and linear layer of ``trace``, in order."""
    return [_layer(trace, operation) for operation in trace.operations if operation.op in ("conv2d", "linear")]


def total(layers: Iterable[LayerStatistics]) -> LayerStatistics:
    """All layers that read spikes together: every word and every weight counts once."""
    spiking = [layer for layer in layers if layer.spikes is not None]

    def add(name: str) -> int:
        return sum(getattr(layer, name) or 0 for layer in spiking)

    ones = sum((layer.spikes or 0) for layer in spiking)
    return LayerStatistics(
        layer="total",
        op="",
        m=None,
        n=None,
        k=None,
        timesteps=spiking[0].timesteps if spiking else 0,
        words=add("words"),
        spikes=ones,
        active_words=add("active_words"),
        fire_once_words=add("fire_once_words"),
        weights=add("weights"),
        weight_nonzeros=add("weight_nonzeros"),
    )


def covers(operation: Operation) -> NDArray[np.int64]:
    """In how many im2col rows a neuron occurs: [H, W] for a convolution, [1] for a linear layer."""
    if operation.op == "linear":
        return np.ones(1, np.int64)
    _, height, width = operation.input_shapes[0]
    axes = []
    for axis, size in enumerate((height, width)):
        starts = np.arange(operation.output_shape[1 + axis]) * operation.stride[axis] - operation.padding[axis]
        places = (starts[:, None] + np.arange(operation.kernel[axis])).reshape(-1)
        axes.append(np.bincount(places[(places >= 0) & (places < size)], minlength=size))
    return np.multiply.outer(*axes).astype(np.int64)


def _layer(trace: Trace, operation: Operation) -> LayerStatistics:
    counts: dict[str, Any] = {}
    (name,) = operation.inputs
    if trace.kind(name) == "spike":
        times = trace.tensor(name).sum(0, dtype=np.uint8)
        rows = covers(operation)
        counts = {
            "spikes": int((times * rows).sum()),
            "active_words": int(((times > 0) * rows).sum()),
            "fire_once_words": int(((times == 1) * rows).sum()),
            "input_density": float(times.mean() / trace.timesteps),
        }
    weight = operation.weight
    assert weight is not None, "convolutions and linear layers have weights"
    m, n, k = operation.m, operation.n, operation.k
    return LayerStatistics(
        layer=operation.name, op=operation.op, m=m, n=n, k=k, timesteps=trace.timesteps, words=m * k,
        weights=weight.size, weight_nonzeros=int(np.count_nonzero(weight)), **counts,
    )  # fmt: skip
