"""Traces from recorded spikes that came without weights.

A ``spikes`` file is an ``.npz`` with the bits of one image per layer (``<layer>.spikes``, packed as in a trace) and a
``meta`` record that names the layers and their shapes. Its weights are made up here: a mask of independent random
positions, and values that only a functional check could care for. As no neuron is known, outputs cannot be verified.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, Strict

from archsim.errors import TraceError, UsageError
from archsim.trace import content, schema
from archsim.trace.archive import Archive
from archsim.trace.graph import MAX_ELEMENTS, ArraySpec
from archsim.trace.model import Trace
from archsim.trace.operation import Operation
from archsim.trace.record import Record
from archsim.trace.schema import Dimension, Name, Text

# Random weights of a file, all its layers together: drawn in about a second, in 8 bytes each while they are.
MAX_WEIGHTS = 1 << 25


class _Layer(Record):
    name: Name
    op: Literal["conv2d", "linear"]
    input_shape: Annotated[tuple[Dimension, ...], Strict(False), Field(min_length=2, max_length=4)]
    kernel: Dimension = 1
    stride: Dimension = 1
    padding: int = Field(default=0, ge=0, le=schema.MAX_DIMENSION)
    out_channels: Dimension | None = None
    m: Dimension = Field(alias="M")
    n: Dimension = Field(alias="N")
    k: Dimension = Field(alias="K")
    spike_density: float


class _Spikes(Record):
    network: Text
    dataset: Text
    timesteps: int = Field(ge=1, le=schema.MAX_TIMESTEPS)
    images: Literal[1]
    source: Text
    packing: Text
    weights: Text
    weight_sparsity: float = Field(ge=0, lt=1)
    layers: Annotated[tuple[_Layer, ...], Strict(False), Field(min_length=1)]


def import_spikes(
    path: str | os.PathLike[str],
    weight_sparsity: float | None = None,
    seed: int = 0,
    max_weights: int = MAX_WEIGHTS,
) -> Trace:
    """The recorded spikes in ``path`` with synthetic weights of the given sparsity (by default the one in the file).

    A few hundred bytes can ask for any number of weights, so a file that asks for more than ``max_weights`` is refused
    before the first is drawn.

    The mask of the layer at position i is ``numpy.random.default_rng([seed, i]).random((K, N)) < 1 - weight_sparsity``,
    k in the order channel, kernel row, kernel column. Values are uniform in -127..127 without zero, from a generator of
    their own, ``default_rng([seed, i, 1])``.
    """
    path = Path(path)
    archive = Archive(path)
    where = f"{path}: meta"
    record = schema.decode_json(archive.meta_bytes(), where)
    recorded = schema.validated(_Spikes, record, where)
    sparsity = recorded.weight_sparsity if weight_sparsity is None else weight_sparsity
    if not 0 <= sparsity < 1:
        raise UsageError(f"weight sparsity: got {sparsity}; allowed: 0 up to but not 1")
    if seed < 0:
        raise UsageError(f"seed: got {seed}; allowed: 0 and up")
    specs = {f"{layer.name}.spikes": _packed(layer) for layer in recorded.layers}
    problems = [*archive.expect(specs), *_contradictions(recorded, where)]
    weights = sum(layer.k * layer.n for layer in recorded.layers)
    if weights > max_weights:
        raised = "--max-weights raises it"
        problems.append(f"{where}: asks for {weights:,} random weights; allowed: {max_weights:,}; {raised}")
    if problems:
        raise TraceError(problems)

    operations, tensors = [], {}
    for index, layer in enumerate(recorded.layers):
        name = f"{layer.name}.spikes"
        packed = archive[name]
        problems.extend(content.stray_bits(packed, specs[name].elements, f"{path}: array {name!r}"))
        spikes = content.unpack(packed, layer.input_shape)
        tensors[f"{layer.name}.input"] = spikes[:, np.newaxis]
        shape = (layer.n, *layer.input_shape[1:2], layer.kernel, layer.kernel)
        weight = random_weights(seed, index, layer.k, layer.n, sparsity)
        operations.append(
            Operation(
                name=layer.name,
                op=layer.op,
                inputs=(f"{layer.name}.input",),
                output=f"{layer.name}.output",
                stride=(layer.stride, layer.stride),
                padding=(layer.padding, layer.padding),
                weight=weight.reshape(shape if layer.op == "conv2d" else (layer.n, layer.k)),
            )
        )
    if problems:
        raise TraceError(problems)
    try:
        trace = Trace(
            network=recorded.network,
            timesteps=recorded.timesteps,
            operations=operations,
            tensors=tensors,
            provenance={
                "kind": "recorded",
                "weights": "synthetic",
                "dataset": recorded.dataset,
                "source": recorded.source,
                "seed": seed,
                "details": {
                    "weight_sparsity": sparsity,
                    "note": "no weights and no neurons are published for these spikes; outputs are not verified",
                },
            },
        )
    except TraceError as error:
        raise TraceError([f"{path}: {problem.removeprefix('trace: ')}" for problem in error.problems]) from None
    rows = zip(recorded.layers, trace.operations, strict=True)
    problems = [
        f"{where}: layers[{index}].M: the shapes give {operation.m}, got {layer.m}"
        for index, (layer, operation) in enumerate(rows)
        if layer.m != operation.m
    ]
    if problems:
        raise TraceError(problems)
    return trace


def random_weights(seed: int, index: int, k: int, n: int, sparsity: float) -> NDArray[np.int8]:
    """Synthetic int8 weights [N, K] of the layer at position ``index``; see ``import_spikes``."""
    mask = np.random.default_rng([seed, index]).random((k, n)) < 1 - sparsity
    return np.where(mask.T, nonzero_int8(np.random.default_rng([seed, index, 1]), (n, k)), np.int8(0))


def nonzero_int8(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Uniform integers in -127..127 without zero."""
    values = generator.integers(-127, 127, shape, np.int8)
    return values + (values >= 0).astype(np.int8)


def _packed(layer: _Layer) -> ArraySpec:
    bits = math.prod(layer.input_shape)
    return ArraySpec("uint8", (-(-bits // 8),), bits)


def _contradictions(recorded: _Spikes, where: str) -> list[str]:
    problems = []
    names: set[str] = set()
    for index, layer in enumerate(recorded.layers):
        at = f"{where}: layers[{index}]"
        if layer.name in names:
            problems.append(f"{at}.name: two layers have the name {layer.name!r}")
        names.add(layer.name)
        rank = 4 if layer.op == "conv2d" else 2
        if len(layer.input_shape) != rank or layer.input_shape[0] != recorded.timesteps:
            expected = f"[{recorded.timesteps}, {'C, H, W' if rank == 4 else 'F'}]"
            problems.append(f"{at}.input_shape: got {list(layer.input_shape)}; allowed: {expected}")
            continue
        k = layer.input_shape[1] * (layer.kernel**2 if layer.op == "conv2d" else 1)
        if layer.k != k:
            problems.append(f"{at}.K: the shapes give {k}, got {layer.k}")
        for what, values in (("weights", layer.k * layer.n), ("spikes", math.prod(layer.input_shape))):
            if values > MAX_ELEMENTS:
                problems.append(f"{at}: {values:,} {what}; allowed: at most {MAX_ELEMENTS:,}")
        if layer.out_channels not in (None, layer.n):
            problems.append(f"{at}.N: out_channels is {layer.out_channels}, got {layer.n}")
    return problems
