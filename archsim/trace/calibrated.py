"""Synthetic traces of whole networks: random weights, and thresholds by which neurons fire as often as asked for.

Operations run in the order of the plan, each on what those before it wrote, in the integers that a trace is checked by.
Only packed tensors are kept. The currents of a layer decide its parameters:

- a bias takes the mean of each channel away, as a batch norm does (of features, which have few values, that of all);
- the threshold of a channel is ``a`` times the standard deviation of its currents, at least 1. ``a`` is found by
  bisection on the neurons themselves, on a sample of the map, so that the share of ones in the spikes is the density.
  Behind neurons whose only reader is a pool of maxima, the share is that of the pool.

What a recurrent layer gets depends on what it fires, and so all of its cycle runs in every step of the bisection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import UsageError
from archsim.trace import content, graph, neurons, schema
from archsim.trace.description import HERE
from archsim.trace.model import Trace
from archsim.trace.neurons import Neuron
from archsim.trace.operation import Operation
from archsim.trace.plan import Given, Plan, Step
from archsim.trace.published import NETWORKS
from archsim.trace.resimulation import currents_of, finish

_LABELS = {"kind": "synthetic", "weights": "synthetic"}
_MOST_FRACTION_BITS = 8
_SAMPLE = 1 << 20
"""Currents, of all timesteps, on which a threshold is found."""
_FEW = 64
"""Values of a channel from which no mean of its own is taken."""
_BISECTIONS = 14
_SPREAD = 32
"""The standard deviation of integers of 8 bits, whose largest is 127."""
_WHERE = "behind pools of maxima where there are any; masked spikes and sums have what follows"
_TABLE = np.round(65535 * np.exp(-np.arange(256) / 16)).astype(np.uint16)
"""Of a softmax: an input that is 16 less has a share e times smaller."""


def synthesize_network(
    name: str,
    *,
    seed: int = 0,
    images: int = 1,
    timesteps: int | None = None,
    weight_density: float | None = None,
    gradient_density: float | None = None,
) -> Trace:
    """The trace of a published network, by its name in :data:`archsim.trace.published.NETWORKS`.

    Raises ``UsageError`` with everything that cannot be had.
    """
    network = NETWORKS[name]
    steps = network.timesteps if timesteps is None else timesteps
    plan = network.build()
    problems = [
        f"{what}: got {value}; allowed: {low} to {high:,}"
        for what, value, low, high in (
            ("timesteps", steps, 1, schema.MAX_TIMESTEPS),
            ("images", images, 1, 1 << 20),
            ("seed", seed, 0, (1 << 63) - 1),
            ("weight density", 1 if weight_density is None else weight_density, 0, 1),
        )
        if not low <= value <= high
    ]
    if gradient_density is not None:
        problems.append(f"gradient density: got {gradient_density}; allowed: with layers, as {name} is a whole network")
    values = steps * images * max(math.prod(shape) for shape in plan.shapes.values())
    if not problems and values > graph.MAX_ELEMENTS:
        problems.append(f"{name}: a tensor of {values:,} values; allowed: at most {graph.MAX_ELEMENTS:,}")
    if problems:
        raise UsageError(problems)
    details = {"assumed": network.assumed, "density": f"{network.density} of spikes, {_WHERE}"}
    if steps != network.timesteps:
        details["timesteps"] = f"{steps} as asked for, at the density of T = {network.timesteps}"
    options = [f"--preset {name}"]
    if weight_density is not None:
        details["weight_density"] = f"{weight_density} as asked for"
        options.append(f"--weight-density {weight_density}")
    recipe = " ".join(["archsim trace synth", *options, f"--timesteps {steps} --seed {seed} --images {images}"])
    provenance = {**_LABELS, "source": network.source, "seed": seed, "recipe": recipe, "details": details}
    return calibrated(
        plan, network.density, provenance, network=name, timesteps=steps, images=images, seed=seed,
        weight_density=weight_density,
    )  # fmt: skip


def calibrated(
    plan: Plan, density: float, provenance: Mapping[str, Any], *, network: str, timesteps: int, images: int, seed: int,
    weight_density: float | None = None,
) -> Trace:  # fmt: skip
    """The trace of ``plan``: equal arguments give equal traces."""
    made = _Made(plan, density, timesteps, images, seed, weight_density)
    made.inputs()
    waiting: list[Step] = []
    for step in plan.steps:
        if waiting or step.record["op"] == "delay":
            waiting.append(step)
            if step.name == waiting[0].record["inputs"][0]:
                made.cycle(waiting)
                waiting = []
        else:
            made.step(step)
    record = made.whole(network, provenance)
    meta = schema.with_version(schema.parse(record, HERE))
    resolved = graph.resolve(meta, HERE)
    problems, digest = content.check(meta, resolved, made.arrays, schema.dump(meta), HERE)
    if resolved.problems or problems:
        raise UsageError([*resolved.problems, *problems])
    return Trace.from_checked(meta, resolved, made.arrays, digest, None)


class _Made:
    """The network as far as it has run: records of operations and tensors, and packed arrays by name."""

    def __init__(
        self, plan: Plan, density: float, timesteps: int, images: int, seed: int, weight_density: float | None
    ) -> None:
        self.plan = plan
        self.density = density
        self.timesteps = timesteps
        self.images = images
        self.seed = seed
        self.weight_density = weight_density
        self.records: list[dict[str, Any]] = []
        self.tensors: dict[str, dict[str, Any]] = {}
        self.arrays: dict[str, NDArray[Any]] = {}

    def whole(self, network: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """The record of a trace of all that has run."""
        return self._record(network, self.tensors, self.records, provenance)

    def inputs(self) -> None:
        """Draw what no operation writes."""
        for index, (name, given) in enumerate(self.plan.given.items()):
            self._keep(name, self._drawn(np.random.default_rng([self.seed, index, 3]), given))

    def step(self, step: Step) -> None:
        """Run one operation, with the parameters that its currents want."""
        record = self._with_arrays(step)
        bare = {key: value for key, value in record.items() if not (key == "requantiser" and step.requantised)}
        operation, currents = self._currents(bare)
        if step.centred:
            mean = _by_channel(np.mean, currents)
            bias = -np.rint(mean).astype(np.int32)
            currents += _aligned(bias, currents)
            self.arrays[f"bias.{step.name}"], record["bias"] = bias, True
        if step.fires:
            spread = _by_channel(np.std, currents)
            neuron = self._neuron(step, spread, self._best(step, currents, spread))
            record |= self._described(step, neuron)
            self._keep(step.name, self._fired(neuron, currents))
        else:
            if step.requantised:
                scaled = (_SPREAD << record["requantiser"]["shift"]) / max(float(np.std(currents)), 1.0)
                channels = step.shapes.output[0]
                self.arrays[f"multiplier.{step.name}"] = np.full(channels, round(scaled), np.int32)
                operation = self._alone([record]).operations[0]
            self._keep(step.name, _finished(operation, currents), _range(operation))
        self.records.append(record)

    def cycle(self, steps: Sequence[Step]) -> None:
        """Run operations that read what the last of them wrote before; it has the neurons."""
        records = [self._with_arrays(step) for step in steps]
        last = steps[-1]
        for step in steps:
            silence = np.zeros((self.timesteps, self.images, *step.shapes.output), np.bool_)
            self._keep(step.name, silence if step is last or step is steps[0] else silence.astype(np.int32))
        trace = self._alone(records)
        fixed = {name: trace.operand(name) for record in records for name in record["inputs"]}
        spread = np.full(last.shapes.output[0], max(float(np.std(fixed[last.record["inputs"][0]])), 1.0))

        def run(scale: float) -> dict[str, NDArray[Any]]:
            return _recurrent(trace.operations, fixed, self._neuron(last, spread, scale))

        scale = _bisected(lambda scale: float(run(scale)[last.name].mean()), self.density)
        tensors = run(scale)
        for step in steps:
            self._keep(step.name, tensors[step.name])
        records[-1] |= self._described(last, self._neuron(last, spread, scale))
        self.records += records

    def _drawn(self, generator: np.random.Generator, given: Given) -> NDArray[Any]:
        still = (self.images, *given.shape)
        if given.kind == "pixels":
            return generator.integers(0, 256, still, np.uint8)
        if given.kind == "counts":
            return np.minimum(generator.poisson(given.mean, (self.timesteps, *still)), 255).astype(np.uint8)
        if given.still:
            return np.repeat(generator.random((1, *still)) < self.density, self.timesteps, 0)
        return generator.random((self.timesteps, *still)) < self.density

    def _with_arrays(self, step: Step) -> dict[str, Any]:
        """The record of ``step`` with the arrays that its currents do not decide."""
        record, name, channels = dict(step.record), step.name, step.shapes.output[0]
        if step.shapes.weight is not None:
            generator = np.random.default_rng([self.seed, self.plan.steps.index(step), 4])
            most = (1 << (self.plan.weight_bits - 1)) - 1
            weight = generator.integers(-most, most, step.shapes.weight, np.int8)
            weight += weight >= 0  # no weight is zero by chance
            record["weight"] = {"bits": self.plan.weight_bits}
            if self.weight_density is not None:
                weight[generator.random(weight.shape, np.float32) >= self.weight_density] = 0
            self.arrays[f"weight.{name}"] = weight
        if record["op"] == "layer_norm":
            self.arrays[f"multiplier.{name}"] = np.full(channels, _SPREAD << record["requantiser"]["shift"], np.int32)
        if record["op"] == "softmax":
            self.arrays[f"table.{name}"] = _TABLE
        return record

    def _currents(self, record: dict[str, Any]) -> tuple[Operation, NDArray[Any]]:
        """The operation and its currents, bool or int32; one timestep of what is the same at all of them."""
        trace = self._alone([record])
        operation = trace.operations[0]
        streams = [trace.stream(name) for name in operation.inputs]
        steps = max(stream.timesteps for stream in streams)
        values = sum(map(math.prod, (*operation.input_shapes, operation.output_shape)))
        parts = []
        for first, end in content.spans(steps, self.images * values):
            part = currents_of(operation, [stream.operand(first, end) for stream in streams], end - first)
            parts.append(part if part.dtype == np.bool_ else _narrow(part))
        return operation, np.array(parts[0]) if len(parts) == 1 else np.concatenate(parts)

    def _neuron(self, step: Step, spread: NDArray[np.float64], scale: float) -> Neuron:
        """The neurons of the plan with thresholds ``scale`` times the ``spread`` of their currents."""
        shift = self.plan.neuron.get("leak_shift", 0)
        fraction = min(shift * (self.timesteps - 1), _MOST_FRACTION_BITS)
        if step.fires == "potentials":
            return Neuron(threshold=None, fraction_bits=fraction, reset="none", fires="nothing", **self.plan.neuron)
        threshold = np.maximum(1, np.rint(scale * spread)).astype(np.int64)
        return Neuron(threshold=threshold, fraction_bits=fraction, **self.plan.neuron)

    def _best(self, step: Step, currents: NDArray[Any], spread: NDArray[np.float64]) -> float:
        """By how much the spread of its currents is to be multiplied for a layer to fire as often as asked for."""
        if step.fires == "potentials":
            return 0.0
        pool = self._pool_behind(step)
        sample = _sample(currents, self.timesteps, 1 if pool is None else 4)

        def share(scale: float) -> float:
            spikes = self._fired(self._neuron(step, spread, scale), sample)
            return float((spikes if pool is None else currents_of(pool, [spikes], self.timesteps)).mean())

        return _bisected(share, self.density)

    def _pool_behind(self, step: Step) -> Operation | None:
        """The pool of maxima that is the only reader of what ``step`` writes."""
        readers = [other.record for other in self.plan.steps if step.name in other.record["inputs"]]
        if len(readers) != 1 or readers[0]["op"] != "pool" or readers[0].get("reduction", "max") != "max":
            return None
        keys = {key: readers[0][key] for key in ("kernel", "stride", "padding")}
        pool = Operation("pool", "pool", (step.name,), "pool", **keys)
        pool.__dict__["input_shapes"] = (step.shapes.output,)
        return pool

    def _fired(self, neuron: Neuron, currents: NDArray[Any]) -> NDArray[Any]:
        """What neurons make of ``currents``, a timestep after the other."""
        silent = neuron.fires == "nothing"
        outputs = np.empty((self.timesteps, *currents.shape[1:]), np.int64 if silent else np.bool_)
        state = None
        for t in range(self.timesteps):
            now = currents[t if len(currents) > 1 else 0].astype(np.int64)
            (outputs[t],), state = neurons.run(neuron, now[np.newaxis], state)
        return outputs

    def _described(self, step: Step, neuron: Neuron) -> dict[str, Any]:
        """The part of the record of ``step`` that says what ``neuron`` is, whose arrays are kept."""
        record, arrays = neurons.described(neuron, step.shapes.output[0])
        for role, values in arrays.items():
            self.arrays[f"{role}.{step.name}"] = values.astype(neurons.dtype_of(neuron, role))
        return {"neuron": record}

    def _keep(self, name: str, values: NDArray[Any], room: tuple[int, int] = (0, 0)) -> None:
        """Store a tensor [T, I, ...] or [I, ...] in as few bytes as it takes, with ``room`` for these integers."""
        shape = self.plan.shapes[name]
        timed = values.ndim == 2 + len(shape)
        record: dict[str, Any] = {"kind": "spike" if values.dtype == np.bool_ else "int", "shape": list(shape)}
        if values.dtype == np.bool_:
            stored: NDArray[Any] = content.pack(values)
        else:
            least, largest = min(room[0], int(values.min())), max(room[1], int(values.max()))
            fits = (np.dtype(name) for name in schema.INTEGER_DTYPES)
            dtype = next(one for one in fits if np.iinfo(one).min <= least and largest <= np.iinfo(one).max)
            stored = values.astype(dtype)
            record |= {"dtype": dtype.name, "per_timestep": timed}
        self.tensors[name], self.arrays[f"tensor.{name}"] = record, stored

    def _alone(self, records: Sequence[dict[str, Any]]) -> Trace:
        """A trace of nothing but these operations, which looks at the arrays that are there."""
        read = {name: self.tensors[name] for record in records for name in record["inputs"]}
        meta = schema.parse(self._record("alone", read, records, _LABELS), HERE)
        return Trace.from_checked(meta, graph.resolve(meta, HERE), self.arrays, "", None)

    def _record(
        self, network: str, tensors: Mapping[str, Any], records: Sequence[dict[str, Any]], provenance: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            "format": schema.FORMAT, "version": schema.VERSIONS[-1], "network": network, "timesteps": self.timesteps,
            "images": self.images, "provenance": dict(provenance), "tensors": dict(tensors),
            "operations": list(records),
        }  # fmt: skip


def _recurrent(
    operations: Sequence[Operation], fixed: Mapping[str, NDArray[Any]], neuron: Neuron
) -> dict[str, NDArray[Any]]:
    """All tensors of a cycle whose last operation has ``neuron``, timestep by timestep."""
    tensors = {name: values.copy() for name, values in fixed.items()}
    state = None
    for t in range(len(next(iter(tensors.values())))):
        for operation in operations:
            if operation.op == "delay":
                late = t - int(np.max(operation.steps))
                now = tensors[operation.inputs[0]][late] if late >= 0 else 0
            else:
                sums = currents_of(operation, [tensors[name][t : t + 1] for name in operation.inputs], 1)
                now = sums[0]
                if operation is operations[-1]:
                    (now,), state = neurons.run(neuron, sums, state)
            tensors[operation.output][t] = now
    return tensors


def _finished(operation: Operation, currents: NDArray[Any]) -> NDArray[Any]:
    """The output without neurons, [T, I, ...], or [I, ...] of inputs that do not change in time."""
    if operation.requantiser is None:
        return currents
    outputs = np.empty(currents.shape, np.int16)
    for t, current in enumerate(currents):
        outputs[t] = finish(operation, current.astype(np.int64)[np.newaxis])[0]
    return outputs


def _range(operation: Operation) -> tuple[int, int]:
    """The integers that a requantiser may write; without one no more than those that it does write."""
    few = operation.requantiser
    return (0, 0) if few is None else graph.integer_range(few.bits, few.signed)


def _bisected(share: Callable[[float], float], wanted: float) -> float:
    """The scale at which ``share``, which falls with it, is nearest to what is ``wanted``."""
    found: dict[float, float] = {}
    low, high = 0.0, 1.0
    while (found.setdefault(high, share(high))) > wanted and high < 1 << 20:
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        scale = (low + high) / 2
        found[scale] = share(scale)
        low, high = (scale, high) if found[scale] > wanted else (low, scale)
    return min(found, key=lambda scale: abs(found[scale] - wanted))


def _sample(currents: NDArray[Any], timesteps: int, least: int) -> NDArray[Any]:
    """The first images and the middle of their maps, as much as makes a sample of all channels and timesteps."""
    images = max(1, min(currents.shape[1], _SAMPLE // (timesteps * math.prod(currents.shape[2:]))))
    few = currents[:, :images]
    if few.ndim == 3:
        return few
    positions = max(least * least, _SAMPLE // (timesteps * images * few.shape[2]))
    _, _, _, height, width = few.shape
    rows = min(height, max(least, math.isqrt(positions)))
    columns = min(width, max(least, positions // rows))
    top, left = (height - rows) // 2, (width - columns) // 2
    return few[..., top : top + rows, left : left + columns]


def _by_channel(measure: Callable[..., Any], currents: NDArray[Any]) -> NDArray[np.float64]:
    """``measure`` of the currents [T, I, N, ...] of each channel, or of all where a channel has few."""
    channels = currents.shape[2]
    if currents.size // channels < _FEW:
        return np.full(channels, float(measure(currents)))
    return np.array([float(measure(currents[:, :, channel])) for channel in range(channels)])


def _aligned(values: NDArray[np.int32], currents: NDArray[Any]) -> NDArray[np.int32]:
    return values.reshape(-1, *(1,) * (currents.ndim - 3))


def _narrow(sums: NDArray[Any]) -> NDArray[np.int32]:
    """``sums`` in 32 bits, which hold those of 8-bit weights and pixels."""
    if max(-int(sums.min()), int(sums.max())) >= 1 << 30:
        raise UsageError("sums of a synthetic network do not fit 32 bits")
    return sums.astype(np.int32)
