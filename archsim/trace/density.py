"""How sparse the operands of a trace are, layer by layer.

Ratios of inputs refer to the im2col matrix [M, K] of words of T values, as in Table II of LoAS: an input neuron counts
once for every window that covers it, and a word of the zero padding is silent. A word of integers is silent if all of
them are zero. The counts are exact; the matrix is never built, because a neuron at (row, column) occurs in
``rows[row] * columns[column]`` windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.trace.model import Trace
from archsim.trace.operation import Operation

WEIGHTED = ("conv2d", "linear")


@dataclass(frozen=True)
class LayerStatistics:
    """One operation, or a total, which has no M, N and K; nor have operations that multiply no matrices.

    ``inputs`` and ``output`` are shapes, [C, H, W] or [F]. ``operand`` is the kind of the inputs, all of them where
    they differ, and ``operand_bits`` the width of the widest. ``words`` = M K times the groups, 0 without weights,
    ``active_words`` of them are not silent. Of inputs that are spikes, ``spikes`` counts those in all timesteps and
    ``fire_once_words`` the words with exactly one (None for integers). ``input_density`` is the share of spikes, or of
    integers that are not zero, in the feature map itself, without padding. Of a step of training, ``gradients`` is how
    many potentials, of ``potentials`` in all timesteps, have a gradient that is not zero (None where no mask is known).
    """

    layer: str
    op: str
    m: int | None
    n: int | None
    k: int | None
    timesteps: int
    words: int
    active_words: int
    weights: int
    weight_nonzeros: int
    spikes: int | None = None
    fire_once_words: int | None = None
    input_density: float | None = None
    inputs: tuple[tuple[int, ...], ...] = ()
    output: tuple[int, ...] = ()
    operand: str = ""
    operand_bits: int | None = None
    potentials: int | None = None
    gradients: int | None = None

    @property
    def spike_density(self) -> float | None:
        """Ones in the im2col matrix per timestep: 1 - spike sparsity."""
        return None if self.spikes is None or not self.words else self.spikes / (self.words * self.timesteps)

    @property
    def silent_ratio(self) -> float | None:
        """Share of silent words ("packed" sparsity)."""
        return 1 - self.active_words / self.words if self.words else None

    @property
    def fire_once_ratio(self) -> float | None:
        """Share of words with exactly one spike."""
        return None if self.fire_once_words is None or not self.words else self.fire_once_words / self.words

    @property
    def weight_density(self) -> float | None:
        """Share of weights that are not zero."""
        return self.weight_nonzeros / self.weights if self.weights else None

    @property
    def gradient_density(self) -> float | None:
        """Share of potentials, in all timesteps, whose gradient is not zero."""
        return None if self.gradients is None or not self.potentials else self.gradients / self.potentials

    def row(self) -> dict[str, Any]:
        """All of it as one flat dictionary, ratios included, shapes as text: ``64x7x7``."""
        ratios = ("spike_density", "silent_ratio", "fire_once_ratio", "weight_density", "gradient_density")
        shapes = {"inputs": ", ".join(map(_text, self.inputs)), "output": _text(self.output)}
        return asdict(self) | {name: getattr(self, name) for name in ratios} | shapes


def statistics(trace: Trace) -> list[LayerStatistics]:
    """One entry per convolution and linear layer of ``trace``, in order."""
    return [_layer(trace, operation) for operation in trace.operations if operation.op in WEIGHTED]


def operations(trace: Trace) -> list[LayerStatistics]:
    """One entry per operation of ``trace``, in order: those without weights have shapes and operands alone."""
    return [
        (_layer if operation.op in WEIGHTED else _without_weights)(trace, operation) for operation in trace.operations
    ]


def total(layers: Iterable[LayerStatistics]) -> LayerStatistics:
    """The layers that read spikes together, or all where none does: every word and every weight counts once.

    Gradients are those of all layers that have a mask, whatever they read.
    """
    layers = list(layers)
    spiking = [layer for layer in layers if layer.spikes is not None]
    counted = spiking or layers

    def add(name: str) -> int:
        return sum(getattr(layer, name) for layer in counted)

    trained = [layer for layer in layers if layer.potentials is not None]
    return LayerStatistics(
        layer="total",
        op="",
        m=None,
        n=None,
        k=None,
        timesteps=counted[0].timesteps if counted else 0,
        words=add("words"),
        active_words=add("active_words"),
        weights=add("weights"),
        weight_nonzeros=add("weight_nonzeros"),
        spikes=add("spikes") if spiking else None,
        fire_once_words=add("fire_once_words") if spiking else None,
        potentials=sum(layer.potentials or 0 for layer in trained) if trained else None,
        gradients=sum(layer.gradients or 0 for layer in trained) if trained else None,
    )


def covers(operation: Operation) -> NDArray[np.int64]:
    """In how many im2col rows a neuron occurs: [H, W] for a convolution, [1] for a linear layer."""
    if operation.op == "linear":
        return np.ones(1, np.int64)
    _, height, width = operation.input_shapes[0]
    taps = zip(operation.window.taps((height, width)), (height, width), strict=True)
    rows, columns = (np.bincount(seen[seen >= 0], minlength=size) for seen, size in taps)
    return np.multiply.outer(rows, columns).astype(np.int64)


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _without_weights(trace: Trace, operation: Operation) -> LayerStatistics:
    product = operation.op == "matmul"
    m, n, k = (operation.m, operation.n, operation.k) if product else (None, None, None)
    kinds = dict.fromkeys(trace.kind(name) for name in operation.inputs)
    return LayerStatistics(
        layer=operation.name, op=operation.op, m=m, n=n, k=k, timesteps=trace.timesteps, words=0, active_words=0,
        weights=0, weight_nonzeros=0, inputs=operation.input_shapes, output=operation.output_shape,
        operand=", ".join(kinds), operand_bits=max(map(trace.bits, operation.inputs)),
    )  # fmt: skip


def _layer(trace: Trace, operation: Operation) -> LayerStatistics:
    (name,) = operation.inputs
    stream = trace.stream(name)
    times = sum(np.count_nonzero(values, axis=0) for values in stream.windows())
    rows = covers(operation)
    counts: dict[str, Any] = {}
    if trace.kind(name) != "int":
        counts = {"spikes": int((times * rows).sum()), "fire_once_words": int(((times == 1) * rows).sum())}
    mask = operation.gradient_mask
    if mask is not None:
        counts |= {"potentials": mask.size, "gradients": int(np.count_nonzero(mask))}
    weight = operation.weight
    assert weight is not None, "convolutions and linear layers have weights"
    m, n, k = operation.m, operation.n, operation.k
    return LayerStatistics(
        layer=operation.name, op=operation.op, m=m, n=n, k=k, timesteps=trace.timesteps, words=m * k * operation.groups,
        active_words=int(((times > 0) * rows).sum()), weights=weight.size,
        weight_nonzeros=int(np.count_nonzero(weight)), input_density=int(times.sum()) / (times.size * stream.timesteps),
        inputs=operation.input_shapes, output=operation.output_shape, operand=trace.kind(name),
        operand_bits=trace.bits(name), **counts,
    )  # fmt: skip
