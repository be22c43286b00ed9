"""Synthetic traces: random spikes and weights that hit given ratios by construction, not only on average.

All ratios of a ``SyntheticLayer`` refer to the im2col matrix [M, K] of T-bit words, as ``density`` measures them and
as Table II of LoAS states them; for a linear layer and a 1x1 convolution that is the feature map itself. A plain
matrix product is a 1x1 convolution over M x 1 pixels (``presets.matrix_product``): one inference then has M rows, as
it has for the tokens of a transformer.

How many spikes a neuron gets, for a share q of words that are not silent, o of words that fire once, and a density d:

- neurons become active in random order until the words in which they occur reach q M K;
- of these, again at random, o M K words get one spike;
- the others get 2 to T spikes, with the mean that is left, ``(d T - o) / (q - o)``, and the distribution of largest
  entropy with that mean, ``p(j) ~ r^j``. Shares are dealt out by rank; single spikes then move to undo the rounding.

Where no fire-once ratio is asked for, all active neurons get 1 to T spikes in this way. A neuron inside a feature map
occurs in up to kh kw words, so a count can miss its target by at most that. When a neuron spikes is a random pattern;
within groups of T neurons it rotates, which gives every timestep the same share.

An ``ActivationLayer`` has random uint8 activations, of which exactly the given share, at random places of the feature
map, is not zero and uniform in 1..255. (Not of the im2col matrix: with its zero padding, a convolution over a small
feature map cannot have many.) They are what a ReLU and a requantisation would have made of the layer before. Neither is
part of the trace format, so a layer writes the sums of products that it computes from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import TraceError, UsageError, nearest
from archsim.trace.calibrated import synthesize_network
from archsim.trace.content import never
from archsim.trace.density import covers
from archsim.trace.graph import MAX_ELEMENTS
from archsim.trace.model import Trace
from archsim.trace.neurons import Neuron, fire
from archsim.trace.operation import Operation
from archsim.trace.presets import MOST_TIMESTEPS, PRESETS, ActivationLayer, Preset, SyntheticLayer
from archsim.trace.published import NETWORKS
from archsim.trace.recorded import nonzero_int8
from archsim.trace.resimulation import compute, output_times

_LEAK_SHIFT = 1


def synthesize(
    workload: str | Sequence[SyntheticLayer | ActivationLayer],
    *,
    seed: int = 0,
    images: int = 1,
    timesteps: int | None = None,
    weight_density: float | None = None,
    gradient_density: float | None = None,
    network: str = "synthetic",
) -> Trace:
    """A reproducible trace of given layers, or of a preset by name, which becomes that of the network.

    A preset is layers with the ratios of a publication (:mod:`archsim.trace.presets`), which the rest of this is about,
    or a whole network (:mod:`archsim.trace.published`), whose tensors follow from its inputs. Of the latter,
    ``timesteps`` may be 1 to 1,024, at the same density, and there are no gradient masks.

    ``timesteps`` are by default those of the preset (``Preset.at`` tells what others mean), 4 for layers that read
    spikes and 1 for activations alone, which do not change in time. ``weight_density`` replaces that of every layer.
    With ``gradient_density`` each layer has a gradient mask, in which that share, at random places, is set.

    Every layer reads inputs of its own and writes what it computes from them, spikes of LIF neurons or sums, so that
    the trace verifies. Layers are not chained, because the outputs of random weights would not have the ratios asked
    for. A threshold is, per channel, the current that a share ``spike_density`` of all outputs exceeds.

    Raises ``UsageError`` with every shape or ratio that cannot be had.
    """
    if isinstance(workload, str) and workload in NETWORKS:
        return synthesize_network(
            workload, seed=seed, images=images, timesteps=timesteps, weight_density=weight_density,
            gradient_density=gradient_density,
        )  # fmt: skip
    labels: dict[str, Any] = {}
    details = {}
    preset_name = workload if isinstance(workload, str) else None
    if isinstance(workload, str):
        preset = _preset(workload, timesteps)
        network, timesteps, workload, labels = workload, preset.timesteps, preset.layers, {"source": preset.source}
        if preset.assumed:
            details["assumed"] = preset.assumed
    if gradient_density is not None:
        details["gradient_density"] = f"{gradient_density} in every layer as asked for, at random places"
        _refuse([] if 0 <= gradient_density <= 1 else [f"gradient density: got {gradient_density}; allowed: 0 to 1"])
    if weight_density is not None:
        workload = [replace(layer, weight_density=weight_density) for layer in workload]
        details["weight_density"] = f"{weight_density} as asked for, not that of the source"
    spiking = [layer for layer in workload if isinstance(layer, SyntheticLayer)]
    if len(spiking) < len(workload):
        details["outputs"] = "sums of products of activations; ReLU and requantisation are not part of a trace"
    if timesteps is None:
        timesteps = 4 if spiking else 1
    _refuse(
        f"{name}: got {value}; allowed: {low} to {high:,}"
        for name, value, low, high in (
            ("timesteps", timesteps, 1, MOST_TIMESTEPS if spiking or not workload else 1),
            ("images", images, 1, 1 << 20),
            ("seed", seed, 0, (1 << 63) - 1),
            ("number of layers", len(workload), 1, 10_000),
        )
        if not low <= value <= high
    )
    drawn = [_without_inputs(layer, index, seed, images, timesteps) for index, layer in enumerate(workload)]
    _refuse(
        line
        for layer, operation in zip(workload, drawn, strict=True)
        if isinstance(layer, SyntheticLayer)
        for line in _unreachable(layer, operation, timesteps)
    )
    operations: list[Operation] = []
    tensors: dict[str, NDArray[Any]] = {}
    for index, (layer, operation) in enumerate(zip(workload, drawn, strict=True)):
        filled, inputs, outputs = _filled(layer, operation, [seed, index], timesteps, gradient_density)
        operations.append(filled)
        tensors |= {filled.inputs[0]: inputs, filled.output: outputs}
    return Trace(
        network=network,
        timesteps=timesteps,
        operations=operations,
        tensors=tensors,
        provenance=labels
        | {"kind": "synthetic", "weights": "synthetic", "seed": seed}
        | {"recipe": _recipe(preset_name, workload, weight_density, timesteps, seed, images)}
        | {"details": details},
    )


def _preset(name: str, timesteps: int | None) -> Preset:
    """The layers of the preset ``name``, in its own timesteps or others."""
    if name not in PRESETS:
        known = [*PRESETS, *NETWORKS]
        raise UsageError(f"no preset {name!r}; allowed: {', '.join(known)}{nearest(name, known)}")
    preset = PRESETS[name]
    return preset if timesteps is None else preset.at(timesteps)


def _filled(
    layer: SyntheticLayer | ActivationLayer,
    operation: Operation,
    seeds: list[int],
    timesteps: int,
    gradient_density: float | None,
) -> tuple[Operation, NDArray[Any], NDArray[Any]]:
    """The operation with neurons, where there are any, and a mask, if asked for; its inputs and its outputs."""
    generator = np.random.default_rng(seeds)
    if isinstance(layer, ActivationLayer):
        shape: tuple[int, ...] = (operation.images, *layer.input_shape)
        inputs: NDArray[Any] = draw_activations(generator, shape, layer.activation_density)
        (outputs,) = compute(operation, [inputs], 1)
    else:
        inputs = draw_spikes(generator, layer, operation, timesteps)
        currents = compute(operation, [inputs], timesteps)
        thresholds = _thresholds(currents, layer.spike_density)
        neuron = Neuron("lif", thresholds, _LEAK_SHIFT, fraction_bits=_LEAK_SHIFT * (timesteps - 1))
        operation = replace(operation, neuron=neuron)
        outputs = fire(neuron, currents)
    if gradient_density is not None:
        # Sums of activations are the same at every timestep; their gradients need not be.
        shape = outputs.shape if isinstance(layer, ActivationLayer) else outputs.shape[1:]
        mask = draw_mask(np.random.default_rng([*seeds, 2]), (timesteps, *shape), gradient_density)
        operation = replace(operation, gradient_mask=mask)
    return operation, inputs, outputs


def _recipe(
    preset: str | None,
    layers: Sequence[SyntheticLayer | ActivationLayer],
    weight_density: float | None,
    timesteps: int,
    seed: int,
    images: int,
) -> str:
    """The command that makes the same trace; of layers that the command line cannot describe, the function."""
    densities = [("weight_density", weight_density)]
    options = [f"--preset {preset}"]
    if preset is None:
        alike = {replace(layer, name="", input_shape=(), out_channels=0) for layer in layers}
        if len(alike) > 1 or any(layer.kernel != 1 or layer.input_shape[2:] != (1,) for layer in layers):
            return "archsim.trace.synthesize"
        options = [f"--shape {m},{layer.out_channels},{k}" for layer in layers for k, m, _ in [layer.input_shape]]
        densities = [item for item in vars(layers[0]).items() if item[0].endswith(("_density", "_ratio"))]
    options += [f"--{name.replace('_', '-')} {value}" for name, value in densities if value is not None]
    return " ".join(["archsim trace synth", *options, f"--timesteps {timesteps} --seed {seed} --images {images}"])


def draw_spikes(
    generator: np.random.Generator, layer: SyntheticLayer, operation: Operation, timesteps: int
) -> NDArray[np.bool_]:
    """Spikes [T, I, *input_shape] with the ratios of ``layer``, which must be reachable."""
    shape = (operation.images, *layer.input_shape)
    occurs = np.broadcast_to(covers(operation), shape).reshape(-1)
    words = operation.m * operation.k
    order = generator.permutation(occurs.size)
    order = order[occurs[order] > 0]
    active = order[_fill(occurs[order], round((1 - layer.silent_ratio) * words))]
    counts = np.zeros(occurs.size, np.int64)
    free, least = active, 1
    if layer.fire_once_ratio is not None:
        once = _fill(occurs[active], round(layer.fire_once_ratio * words))
        counts[active[once]] = 1
        free, least = active[~once], 2
    left = round(layer.spike_density * timesteps * words) - int((counts * occurs).sum())
    counts[free] = _share_out(occurs[free], left, least, timesteps)

    spikes = np.zeros((timesteps, occurs.size), np.bool_)
    for count in range(1, timesteps + 1):
        chosen = order[counts[order] == count]
        spikes[:, chosen] = _patterns(generator, len(chosen), count, timesteps)
    return spikes.reshape(timesteps, *shape)


def draw_activations(generator: np.random.Generator, shape: tuple[int, ...], density: float) -> NDArray[np.uint8]:
    """uint8 activations of which exactly ``round(density size)``, at random places, are not zero but 1 to 255."""
    activations = np.zeros(math.prod(shape), np.uint8)
    places = generator.choice(activations.size, round(density * activations.size), replace=False)
    activations[places] = generator.integers(1, 256, places.shape, np.uint8)
    return activations.reshape(shape)


def draw_mask(generator: np.random.Generator, shape: tuple[int, ...], density: float) -> NDArray[np.bool_]:
    """A mask of which exactly ``round(density size)`` elements, at random places, are set."""
    mask = np.zeros(math.prod(shape), np.bool_)
    mask[generator.choice(mask.size, round(density * mask.size), replace=False)] = True
    return mask.reshape(shape)


def _without_inputs(
    layer: SyntheticLayer | ActivationLayer, index: int, seed: int, images: int, timesteps: int
) -> Operation:
    """The layer as an operation with shapes and weights, but without neurons."""
    at = f"layer {layer.name!r}"
    channels = layer.input_shape[0] if layer.input_shape else 0
    square = (layer.kernel, layer.kernel) if layer.op == "conv2d" else ()
    sizes = (layer.out_channels, channels, *square)
    shape = (1, images, *layer.input_shape)
    problems = []
    if min(*sizes, *shape) < 1:
        problems.append(f"{at}: a size is below one, got the input {list(shape[2:])} and the weights {list(sizes)}")
    for what, values in (("weights", math.prod(sizes)), ("inputs", timesteps * math.prod(shape))):
        if values > MAX_ELEMENTS:
            problems.append(f"{at}: {values:,} {what}; allowed: at most {MAX_ELEMENTS:,}")
    shares = {"weight density": layer.weight_density}
    if isinstance(layer, ActivationLayer):
        shares["activation density"] = layer.activation_density
    for what, share in shares.items():
        if not 0 <= share <= 1:
            problems.append(f"{at}: {what}: got {share}; allowed: 0 to 1")
    _refuse(problems)
    weight = draw_weights(np.random.default_rng([seed, index, 1]), sizes, layer.weight_density)
    name = f"{layer.name}.input"
    operation = Operation(
        layer.name, layer.op, (name,), f"{layer.name}.output",
        stride=(layer.stride, layer.stride), padding=(layer.padding, layer.padding), weight=weight,
    )  # fmt: skip
    silence = {name: np.zeros(shape, np.bool_)}
    labels = {"kind": "synthetic", "weights": "synthetic"}
    try:
        alone = Trace(network="shape", timesteps=1, operations=[operation], tensors=silence, provenance=labels)
    except TraceError as error:
        raise UsageError([f"{at}: {problem}" for problem in error.problems]) from None
    made = alone.operations[0]
    sums = timesteps * made.m * sizes[0]
    if sums > MAX_ELEMENTS:
        raise UsageError(f"{at}: {sums:,} sums (M x N x T); allowed: at most {MAX_ELEMENTS:,}")
    return made


def draw_weights(generator: np.random.Generator, shape: tuple[int, ...], density: float) -> NDArray[np.int8]:
    """int8 weights of which exactly ``round(density size)``, at random places, are not zero."""
    weight = np.zeros(math.prod(shape), np.int8)
    places = generator.choice(weight.size, round(density * weight.size), replace=False)
    weight[places] = nonzero_int8(generator, places.shape)
    return weight.reshape(shape)


def _refuse(problems: Iterable[str]) -> None:
    lines = list(problems)
    if lines:
        raise UsageError(lines)


def _unreachable(layer: SyntheticLayer, operation: Operation, timesteps: int) -> list[str]:
    """Ratios that no spikes of this shape can have; half a word of rounding is forgiven."""
    words = operation.m * operation.k
    slack = 1 / words
    inside = int(covers(operation).sum()) * layer.input_shape[0] * operation.images / words
    problems = []

    def within(name: str, value: float, low: float, high: float, why: str = "") -> None:
        if not low - slack <= value <= high + slack:
            problems.append(f"layer {layer.name!r}: {name}: got {value:g}; allowed: {low:.4g} to {high:.4g}{why}")

    within("silent ratio", layer.silent_ratio, 1 - inside, 1, " (padding is silent)" if inside < 1 else "")
    active = 1 - layer.silent_ratio
    once, least = layer.fire_once_ratio or 0.0, 1
    if layer.fire_once_ratio is not None and not problems:
        least = min(2, timesteps)
        within("fire-once ratio", once, active if timesteps == 1 else 0, active, " (the words that are not silent)")
    if problems:
        return problems  # nothing follows from a ratio that is impossible
    low, high = ((once + most * (active - once)) / timesteps for most in (least, timesteps))
    within("spike density", layer.spike_density, low, high, f" for this silent ratio in {timesteps} timesteps")
    return problems


def _fill(weights: NDArray[np.int64], target: int) -> NDArray[np.bool_]:
    """Choose items, in order and then the largest that still fit, whose weights add up to ``target`` or nearly."""
    chosen = np.cumsum(weights) <= target
    left = target - int(weights[chosen].sum())
    for weight in np.unique(weights)[::-1]:
        others = np.flatnonzero(~chosen & (weights == weight))[: left // weight]
        chosen[others] = True
        left -= len(others) * int(weight)
    return chosen


def _share_out(weights: NDArray[np.int64], target: int, least: int, most: int) -> NDArray[np.int64]:
    """Numbers ``least`` to ``most`` with ``sum(weights * numbers)`` = ``target`` or nearly, by largest entropy."""
    total = int(weights.sum())
    if not total:
        return np.zeros(len(weights), np.int64)
    least = min(least, most)
    numbers = np.arange(least, most + 1)
    shares = np.cumsum(_largest_entropy(numbers, target / total))
    rank = (np.cumsum(weights) - weights / 2) / total
    dealt = numbers[np.minimum(np.searchsorted(shares, rank), len(numbers) - 1)]
    for _ in range(most):
        left = target - int((weights * dealt).sum())
        step = 1 if left > 0 else -1
        movable = np.flatnonzero((dealt + step >= least) & (dealt + step <= most))
        dealt[movable[_fill(weights[movable], abs(left))]] += step
    return dealt


def _largest_entropy(numbers: NDArray[np.int64], mean: float) -> NDArray[np.float64]:
    """Probabilities ``~ exp(a j)`` of the ``numbers`` j with the given ``mean``; a is found by bisection."""
    low, high = -60.0, 60.0
    for _ in range(100):
        exponent = (low + high) / 2
        logarithms = exponent * (numbers - numbers.mean())
        weights: NDArray[np.float64] = np.exp(logarithms - logarithms.max())
        weights /= weights.sum()
        low, high = (exponent, high) if weights @ numbers < mean else (low, exponent)
    return weights


def _patterns(generator: np.random.Generator, neurons: int, count: int, timesteps: int) -> NDArray[np.bool_]:
    """Spikes [T, neurons], ``count`` each: a random pattern per T neurons, each a timestep later than the last."""
    groups = -(-neurons // timesteps)
    pattern = generator.random((groups, timesteps)).argsort(1) < count
    neuron = np.arange(neurons)
    shifted = (np.arange(timesteps)[:, np.newaxis] - neuron) % timesteps
    spikes: NDArray[np.bool_] = pattern[neuron // timesteps, shifted]
    return spikes


def _thresholds(currents: NDArray[np.int64], density: float) -> NDArray[np.int64]:
    """Per channel the current [N] that a share ``density`` of ``currents`` [T, I, N, ...] exceeds, at least one."""
    per_channel = np.moveaxis(currents, 2, 0).reshape(currents.shape[2], -1)
    return np.maximum(1, np.quantile(per_channel, 1 - density, axis=1, method="lower")).astype(np.int64)


def first_spike_layer(m: int, n: int, k: int, *, timesteps: int = 64, density: float = 0.8, seed: int = 0) -> Trace:
    """A linear layer of first-spike neurons that reads ``m`` rows, of whose ``k`` inputs a share ``density`` spikes."""
    draw = np.random.default_rng(seed)
    fires = draw.random((m, k)) < density
    times = np.where(fires, draw.integers(0, timesteps, (m, k)), never(timesteps))
    neuron = Neuron("first_spike", np.full(n, 64), time_constant=max(1, timesteps // 6), fraction_bits=8)
    weight = np.clip(np.round(64 * draw.normal(4 / k, k**-0.5, (n, k))), -127, 127).astype(np.int8)
    layer = Operation("layer", "linear", ("in",), "out", weight=weight, neuron=neuron)
    tensors = {"in": times, "out": np.full((m, n), never(timesteps))}

    def trace() -> Trace:
        return Trace(
            network="synthetic", timesteps=timesteps, operations=[layer], tensors=tensors,
            kinds=dict.fromkeys(tensors, "spike_time"),
            provenance={"kind": "synthetic", "weights": "synthetic", "seed": seed},
        )  # fmt: skip

    (operation,) = trace().operations
    tensors["out"] = output_times(operation, [tensors["in"]], timesteps)
    return trace()
