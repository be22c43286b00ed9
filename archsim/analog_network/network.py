"""A network on crossbar arrays: what its layers compute there, one after the other, and what it still gets right.

Operations that are *on arrays* (convolutions, linear layers and products of two tensors) read their currents from
:class:`~archsim.hardware.analog.product.Product`; their neurons or requantisers, and all other operations, are digital
and exact. A current is what is read, after the digital side has shifted and added it, corrected it by a gain and an
offset of its channel where the machine is adapted, rounded it to an integer (halves up) and added the bias:

    x[n] = floor(gain[n] y[n] + offset[n] + 1/2) + bias[n],        gain 1 and offset 0 without adaptation.

Spikes are inputs of one bit, a timestep after the other; integers are inputs of as many bits as the trace promises, in
two's complement where they may be negative. Inputs that are the same at every timestep are read once.

The second operand of a product of two tensors is written into arrays at run time: its columns are the weights of a
:class:`Product` of their own for every image (and timestep, if it changes), written anew, so that programming and write
noise are drawn for every one. Before that goes the transform of
:class:`~archsim.hardware.analog.product.DynamicConfig`.

Images are read in batches of ``config.batch_images``, batches are numbered, and everything drawn depends on the number
of the batch (or of the image, for what is written) and on the names of operations only: not on how many images are read
at a time, in which order, or by how many processes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.analog_network.batch_norm import (
    EPOCHS,
    Correction,
    Moments,
    Trained,
    back_propagate,
    loss_gradient,
    match,
    rate_of,
    unit_of,
)
from archsim.dataflow.pipeline import MAX_STORED_BITS, is_signed, value_bits
from archsim.errors import UsageError, nearest
from archsim.hardware.analog.crossbar_array import cut_rows, groups_together
from archsim.hardware.analog.product import (
    CALIBRATION,
    AdaptationName,
    Product,
    ProductConfig,
    calibrate_together,
)
from archsim.processes import LOST, results
from archsim.trace import ImageSet, Operation, Trace
from archsim.trace.content import first_spike_times, spikes_of_times
from archsim.trace.graph import integer_range
from archsim.trace.neurons import features
from archsim.trace.resimulation import classes_of, compute, currents_of, finish, given, im2col, run_images

ON_ARRAYS = ("conv2d", "linear", "matmul")
"""Kinds of operations that arrays can compute."""

# What converters' ranges and digital gains are found with. Of the calibration's images and timesteps:
CALIBRATION_IMAGES = 64
# and of their positions, drawn by the operation's name, as many as cause so many conversions, but no fewer than these:
CALIBRATION_CONVERSIONS = 1 << 22
CALIBRATION_LEAST = 64
# Where the matrix is written at run time, so many of them with all their inputs:
CALIBRATION_WRITES = 8


class Writes(NamedTuple):
    """What an image writes for a product of two tensors: matrices, arrays and cells of them, pulses a cell takes."""

    matrices: int
    arrays: int
    cells: int
    pulses: int


class AnalogNetwork:
    """The network of ``trace`` with the operations ``on_arrays`` on arrays.

    ``weight_bits`` are the most that arrays hold of a weight; a layer of fewer takes fewer slices. Matrices that last
    are kept in ``folder``, if one is given. ``progress`` is called after every array that is programmed: one of 1,024
    rows with wires takes some seconds.
    UsageError for an operation that is not there or that arrays cannot compute, and for weights and inputs that do not
    fit. Without effects it makes what the integer network makes, bit for bit.
    """

    def __init__(
        self,
        trace: Trace,
        config: ProductConfig,
        *,
        weight_bits: int,
        on_arrays: Collection[str],
        folder: Path | None = None,
        progress: Callable[[str, int, int], object] | None = None,
    ) -> None:
        self.trace = trace
        self.config = config
        self.weight_bits = weight_bits
        allowed = [operation.name for operation in trace.operations if operation.op in ON_ARRAYS]
        for name in on_arrays:
            if name not in allowed:
                raise UsageError(f"{name!r} is not for arrays; allowed: {', '.join(allowed)}{nearest(name, allowed)}")
        self.on_arrays = frozenset(on_arrays)
        self.corrections: dict[str, Correction] = {}
        self._layers: dict[str, _Static | _Dynamic] = {}
        chosen = [operation for operation in trace.operations if operation.name in self.on_arrays]
        static = [operation for operation in chosen if operation.op != "matmul"]
        bits = {operation.name: min(weight_bits, operation.weight_bits) for operation in chosen}
        total = sum(_static_arrays(one, config, bits[one.name]) for one in static)
        done = count(1)
        for operation in chosen:
            try:
                if operation.op == "matmul":
                    self._layers[operation.name] = _Dynamic(trace, operation, config)
                    continue
                tell = partial(_tell, progress, f"arrays of {operation.name}", done, total)
                self._layers[operation.name] = _Static(trace, operation, config, bits[operation.name], folder, tell)
            except ValueError as error:
                raise UsageError(f"{operation.name}: {error}") from error

    def calibrate(self, images: ImageSet | None = None, adaptation: AdaptationName | None = None) -> None:
        """Find the converters' ranges and digital gains, then the corrections of ``adaptation``.

        ``images`` are the trace's calibration set where none are given, or the traced images where it has none;
        ``adaptation`` is the config's. Ranges and gains are those for the inputs of the exact network. Whatever was
        found before is forgotten; cells stay as they are programmed.
        """
        chosen = images or self.trace.calibration
        adaptation = adaptation or self.config.adaptation
        self.corrections = {}
        if adaptation == "fine_tuned" and chosen is None:
            raise UsageError("adaptation: fine_tuned needs images with labels, and the trace has no calibration")
        if adaptation == "none" and not self.config.calibrates:
            return
        if adaptation == "fine_tuned":
            _refuse_neurons(self.trace)
            _refuse_operations(self.trace)
        if adaptation != "none" and self.trace.cycles:
            raise UsageError(f"adaptation: {adaptation} knows no network that reads its own past; allowed: none")
        if adaptation == "none" and chosen is not None:
            chosen = chosen.first(CALIBRATION_IMAGES)
        names = (self.trace.pixels, *self.trace.constants)
        traced = {name: self.trace.operand(name) for name in names} if chosen is None else {}
        exact = given(self.trace, chosen.images) if chosen else traced
        if self.trace.cycles:
            known = run_images(self.trace, chosen.images) if chosen else self._traced()
            self._calibrate_layers({**exact, **known})
            return
        made = dict(exact)
        trained: dict[str, Trained] = {}
        for operation in self.trace.operations:
            inputs = [exact[name] for name in operation.inputs]
            currents = currents_of(operation, inputs, self.trace.timesteps)
            exact[operation.output] = self._made(operation, finish(operation, currents))
            if operation.name in self._layers:
                self._layers[operation.name].calibrate(inputs)
            if adaptation == "none":
                continue
            if operation.name not in self._layers:
                made[operation.output] = self._made(
                    operation, compute(operation, [made[name] for name in operation.inputs], self.trace.timesteps)
                )
                continue
            unbiased = currents if operation.bias is None else currents - _channels(operation.bias, currents)
            sums = [self.sums(operation, some, number) for number, some in self._calibration_batches(operation, made)]
            moments = Moments(*sums)
            self.corrections[operation.name] = match(Moments(unbiased), moments)
            if adaptation == "fine_tuned":
                unit = unit_of(operation, Moments(unbiased), Moments(exact[operation.output]))
                trained[operation.name] = Trained(self.corrections[operation.name], moments, unit)
            corrected = np.concatenate([self._corrected(operation, some) for some in sums], 1)
            made[operation.output] = self._made(operation, finish(operation, corrected))
        if adaptation == "fine_tuned" and chosen is not None:
            logits = exact[self.trace.operations[-1].output].sum(0)
            self._fine_tune(chosen, trained, max(float(logits.std()), 1.0))

    def _traced(self) -> dict[str, NDArray[Any]]:
        """The tensors that operations read, of the traced images."""
        read = {name for operation in self.trace.operations for name in operation.inputs}
        return {name: self.trace.operand(name) for name in read}

    def _calibrate_layers(self, exact: Mapping[str, NDArray[Any]]) -> None:
        """Ranges and gains of all layers for what the exact network makes."""
        for operation in self.trace.operations:
            if operation.name in self._layers:
                self._layers[operation.name].calibrate([exact[name] for name in operation.inputs])

    def run(
        self, inputs: NDArray[np.uint8] | Mapping[str, NDArray[Any]], first_batch: int = 0
    ) -> dict[str, NDArray[Any]]:
        """The network's outputs, by name, for images uint8 [I, C, H, W] or for all tensors that no operation writes.

        Outputs are those that no operation reads, [T, I, ...]. Batches are numbered from ``first_batch`` on.
        """
        tensors = inputs if isinstance(inputs, Mapping) else given(self.trace, inputs)
        images = self._count(self.trace.pixels, tensors[self.trace.pixels])
        read = {name for operation in self.trace.operations for name in operation.inputs}
        outputs = [operation.output for operation in self.trace.operations if operation.output not in read]
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in outputs}
        for number, start in enumerate(range(0, images, self.config.batch_images)):
            made = self.run_batch(
                {name: self._cut(name, tensor, start) for name, tensor in tensors.items()}, first_batch + number
            )
            for name in outputs:
                parts[name].append(made[name])
        return {name: np.concatenate(found, 1) for name, found in parts.items()}

    def run_batch(self, tensors: Mapping[str, NDArray[Any]], batch: int) -> dict[str, NDArray[Any]]:
        """All tensors for those that no operation writes, of batch number ``batch``.

        What a network reads of its own past is nothing at first; then all is made again until that does not change, one
        delay further every time. As the same reads have the same noise, it comes to an end.
        """
        late = self._late(tensors)
        while True:
            made = {**tensors, **late}
            for operation in self.trace.operations:
                inputs = [made[name] for name in operation.inputs]
                if operation.name in self._layers:
                    output = finish(operation, self.currents(operation, inputs, batch))
                else:
                    output = compute(operation, inputs, self.trace.timesteps)
                made[operation.output] = self._made(operation, output)
            if all(np.array_equal(made[name], before) for name, before in late.items()):
                return made
            late = {name: made[name] for name in late}

    def _late(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Nothing, in place of what a delay reads before it is made."""
        images = self._count(self.trace.pixels, tensors[self.trace.pixels])
        found: dict[str, NDArray[Any]] = {}
        made = set(tensors)
        for operation in self.trace.operations:
            for name in operation.inputs:
                if name not in made:
                    spikes = self.trace.kind(name) in ("spike", "spike_time")
                    shape = self.trace.timesteps, images, *self.trace.meta.tensors[name].shape
                    found[name] = np.zeros(shape, np.bool_ if spikes else np.int64)
            made.add(operation.output)
        return found

    def currents(self, operation: Operation, operands: Sequence[NDArray[Any]], batch: int) -> NDArray[np.int64]:
        """Currents [T, I, N, ...] of an operation on arrays that reads ``operands`` as batch number ``batch``."""
        return self._corrected(operation, self.sums(operation, operands, batch))

    def sums(self, operation: Operation, operands: Sequence[NDArray[Any]], batch: int) -> NDArray[np.float64]:
        """What is read, shifted and added, before corrections and bias; one timestep where no operand changes."""
        return self._layers[operation.name].sums(_timed(operation, operands), batch)

    def accuracy(self, images: ImageSet, jobs: int = 1) -> float:
        """The share of ``images`` whose class is their label, computed in ``jobs`` processes."""
        return float((self.predict(images.images, jobs) == images.labels).mean())

    def predict(self, images: NDArray[np.uint8], jobs: int = 1) -> NDArray[np.int64]:
        """The class of each image, as :func:`archsim.trace.resimulation.classes_of` has it."""
        size = self.config.batch_images
        batches = -(-len(images) // size)
        bounds = [share * batches // jobs for share in range(jobs + 1)]
        shares = [(first, images[first * size : last * size]) for first, last in pairwise(bounds)]
        shares = [(first, some) for first, some in shares if len(some)]
        if len(shares) <= 1:
            return self._classes((0, images))
        found: dict[int, NDArray[np.int64]] = {}
        for place, classes in results(self._classes, shares, jobs):
            if classes is None:
                raise UsageError(f"images from {shares[place][0] * size} on: {LOST}")
            found[place] = classes
        return np.concatenate([found[place] for place in range(len(shares))])

    @property
    def arrays(self) -> dict[str, int]:
        """Arrays of every operation; those of one matrix at a time where it is written at run time."""
        return {name: layer.arrays for name, layer in self._layers.items()}

    @property
    def writes(self) -> dict[str, Writes]:
        """What an image writes, by operation."""
        return {name: layer.writes for name, layer in self._layers.items() if isinstance(layer, _Dynamic)}

    def _corrected(self, operation: Operation, sums: NDArray[np.float64]) -> NDArray[np.int64]:
        correction = self.corrections.get(operation.name)
        if correction is not None:
            sums = _channels(correction.gain, sums) * sums + _channels(correction.offset, sums)
        found = np.floor(sums + 0.5).astype(np.int64)
        if operation.bias is not None:
            found += _channels(operation.bias, found)
        return np.broadcast_to(found, (self.trace.timesteps, *found.shape[1:]))

    def _classes(self, share: tuple[int, NDArray[np.uint8]]) -> NDArray[np.int64]:
        first_batch, images = share
        return classes_of(self.trace, self.run(images, first_batch)[self.trace.operations[-1].output])

    def _calibration_batches(
        self, operation: Operation, made: Mapping[str, NDArray[Any]]
    ) -> Iterator[tuple[int, list[NDArray[Any]]]]:
        """Numbers of batches and the operands of ``operation`` in them."""
        images = self._count(operation.inputs[0], made[operation.inputs[0]])
        for place, start in enumerate(range(0, images, self.config.batch_images)):
            yield CALIBRATION - 1 - place, [self._cut(name, made[name], start) for name in operation.inputs]

    def _fine_tune(self, images: ImageSet, trained: Mapping[str, Trained], unit: float) -> None:
        """Train the corrections with the labels of ``images``, logits in units of ``unit``."""
        size, step = self.config.batch_images, 0
        for epoch in range(EPOCHS):
            order = np.random.default_rng([self.config.cells.seed, epoch]).permutation(len(images))
            for start in range(0, len(images), size):
                chosen = np.sort(order[start : start + size])
                step += 1
                # No other batch has this number.
                self._step(
                    images.images[chosen], images.labels[chosen], trained, unit, rate_of(epoch), CALIBRATION + step
                )

    def _step(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], trained: Mapping[str, Trained], unit: float,
        rate: float, batch: int,
    ) -> None:  # fmt: skip
        """One step of training by a batch."""
        sums: dict[str, NDArray[np.float64]] = {}
        currents: dict[str, NDArray[np.int64]] = {}
        made = dict(given(self.trace, images))
        for operation in self.trace.operations:
            inputs = [made[name] for name in operation.inputs]
            if operation.name in self._layers:
                sums[operation.name] = self.sums(operation, inputs, batch)
                currents[operation.name] = self._corrected(operation, sums[operation.name])
                output = finish(operation, currents[operation.name])
            else:
                output = compute(operation, inputs, self.trace.timesteps)
            made[operation.output] = self._made(operation, output)
        gradients: dict[str, NDArray[np.float64]] = {}

        def see(operation: Operation, gradient: NDArray[np.float64]) -> None:
            read = sums[operation.name]
            whole = gradient.sum(0, keepdims=True) if len(read) == 1 else gradient
            gradients[operation.name] = trained[operation.name].gradient(whole, read)

        loss = loss_gradient(made[self.trace.operations[-1].output], labels, unit)
        back_propagate(self.trace, made, currents, loss, see)
        for name, gradient in gradients.items():
            trained[name].step(gradient, rate)
            self.corrections[name] = trained[name].correction

    def _cut(self, name: str, tensor: NDArray[Any], start: int) -> NDArray[Any]:
        """The images of ``tensor`` from ``start`` on that are a batch."""
        at = slice(start, start + self.config.batch_images)
        return tensor[:, at] if self._is_timed(name, tensor) else tensor[at]

    def _count(self, name: str, tensor: NDArray[Any]) -> int:
        return int(tensor.shape[1 if self._is_timed(name, tensor) else 0])

    def _is_timed(self, name: str, tensor: NDArray[Any]) -> bool:
        return tensor.ndim == 2 + len(self.trace.meta.tensors[name].shape)

    def _made(self, operation: Operation, output: NDArray[Any]) -> NDArray[Any]:
        """``output`` as the operations behind it read it."""
        if self.trace.stored(operation.output) and self.trace.kind(operation.output) == "spike_time":
            return spikes_of_times(first_spike_times(output), self.trace.timesteps)
        return output


def _refuse_neurons(trace: Trace) -> None:
    """UsageError for neurons of which :mod:`archsim.analog_network.batch_norm` has no gradient."""
    problems = [
        f"adaptation: fine_tuned knows no gradient through neurons with {features(operation.neuron)[0]}, as those of "
        f"{operation.name}; allowed: none, statistics"
        for operation in trace.operations
        if operation.neuron is not None and features(operation.neuron)
    ]
    if problems:
        raise UsageError(problems)


def _refuse_operations(trace: Trace) -> None:
    known = ("conv2d", "linear", "pool", "concat", "add", "softmax", "layer_norm", "matmul")
    problems = []
    for operation in trace.operations:
        grouped = max(operation.groups, operation.heads) > 1 or operation.transpose_first
        summed = operation.op == "pool" and operation.reduction == "sum"
        wide = max(*operation.window.dilation, *operation.window.input_dilation) > 1
        if operation.op not in known or grouped or summed or wide:
            what = f"{operation.name}, {operation.op}" + " of this geometry" * (operation.op in known)
            problems.append(f"adaptation: fine_tuned knows no gradient of {what}; allowed: statistics, none")
    if problems:
        raise UsageError(problems)


def _tell(progress: Callable[[str, int, int], object] | None, step: str, done: Iterator[int], total: int) -> None:
    if progress:
        progress(step, next(done), total)


def _groups(operation: Operation, config: ProductConfig, channels: int) -> NDArray[np.int64]:
    """Which inputs of ``channels`` channels of an operation with weights share an array's rows."""
    kernel = operation.kernel if operation.op == "conv2d" else (1, 1)
    return cut_rows(channels, kernel, config.rows)


def _static_arrays(operation: Operation, config: ProductConfig, weight_bits: int) -> int:
    per_array = max(1, config.weights_per_array(weight_bits))
    clusters = _static_clusters(operation, config, weight_bits)
    channels = operation.k * operation.groups // math.prod(operation.window.kernel) // clusters
    return clusters * (int(_groups(operation, config, channels).max()) + 1) * -(-operation.n // clusters // per_array)


def _clusters(parts: int, inputs: int, outputs: int, config: ProductConfig, weight_bits: int) -> int:
    """Clusters of groups or heads that stand in arrays side by side, of ``parts`` with so many inputs and outputs."""
    columns = max(1, config.weights_per_array(weight_bits))
    return parts // groups_together(parts, inputs, outputs, config.rows, columns)


def _static_clusters(operation: Operation, config: ProductConfig, weight_bits: int) -> int:
    groups = operation.groups
    return _clusters(groups, operation.input_shapes[0][0] // groups, operation.n // groups, config, weight_bits)


def _side_by_side(matrices: NDArray[Any]) -> NDArray[Any]:
    """Matrices [count, N, K] as one with zeros around them, [count N, count K]."""
    count, n, k = matrices.shape
    found = np.zeros((count, n, count, k), matrices.dtype)
    found[np.arange(count), :, np.arange(count)] = matrices
    return found.reshape(count * n, count * k)


class _Static:
    """An operation whose weights stay in their arrays, those of a cluster of groups side by side."""

    def __init__(
        self, trace: Trace, operation: Operation, config: ProductConfig, weight_bits: int, folder: Path | None,
        programmed: Callable[[], object],
    ) -> None:  # fmt: skip
        weight = operation.weight
        assert weight is not None, "convolutions and linear layers have weights"
        self._operation = operation
        self._layer = _number(operation)
        self._inputs = _Inputs(trace, operation.inputs[0])
        clusters = _static_clusters(operation, config, weight_bits)
        stored = weight.reshape(clusters, operation.groups // clusters, operation.n // operation.groups, -1)
        channels = operation.k * operation.groups // math.prod(operation.window.kernel) // clusters
        self._products = [
            Product(
                _side_by_side(stored[number]), _groups(operation, config, channels), config, weight_bits=weight_bits,
                input_bits=self._inputs.bits, signed_inputs=self._inputs.signed, layer=_number(operation, number),
                folder=folder, programmed=programmed,
            )
            for number in range(clusters)
        ]  # fmt: skip

    @property
    def arrays(self) -> int:
        return sum(product.tiles for product in self._products)

    def calibrate(self, operands: Sequence[NDArray[Any]]) -> None:
        if not self._products[0].config.calibrates:
            return
        draw = np.random.default_rng(self._layer)
        values = operands[0].reshape(-1, *self._operation.input_shapes[0])
        chosen = np.sort(draw.permutation(len(values))[:CALIBRATION_IMAGES])
        rows = im2col(self._inputs.taken(values[chosen]), self._operation)
        count = max(CALIBRATION_LEAST, CALIBRATION_CONVERSIONS // sum(one.conversions for one in self._products))
        rows = rows[np.sort(draw.permutation(len(rows))[:count])]
        for product, part in zip(self._products, self._parts(rows), strict=True):
            product.calibrate(part)

    def sums(self, operands: Sequence[NDArray[Any]], batch: int) -> NDArray[np.float64]:
        steps, images = operands[0].shape[:2]
        values = self._inputs.taken(operands[0]).reshape(-1, *self._operation.input_shapes[0])
        parts = self._parts(im2col(values, self._operation))
        found = np.concatenate(
            [product.multiply(part, batch) for product, part in zip(self._products, parts, strict=True)], axis=1
        )
        found = found.reshape(steps * images, -1, self._operation.n).transpose(0, 2, 1)
        return found.reshape(steps, images, *self._operation.output_shape)

    def _parts(self, rows: NDArray[Any]) -> list[NDArray[Any]]:
        """What drives the arrays of each cluster, [reads, K]."""
        return np.split(rows, len(self._products), axis=1)


class _Dynamic:
    """A product of two tensors: the second is written into arrays, the first is their input. A cluster of heads stands
    side by side."""

    def __init__(self, trace: Trace, operation: Operation, config: ProductConfig) -> None:
        self._trace = trace
        self._operation = operation
        self._config = config
        self._inputs, self._written = (_Inputs(trace, name) for name in operation.inputs)
        magnitude = self._written.bits - self._written.signed
        if magnitude > MAX_STORED_BITS:
            raise ValueError(f"values of {magnitude} bits are written; allowed: {MAX_STORED_BITS} bits")
        self._top = (1 << magnitude) - (not self._written.signed)
        largest = self._transformed(np.array((1 << magnitude) - 1))
        self._weight_bits = max(2, 1 + int(largest).bit_length())
        self._lowest, _ = config.weight_range(self._weight_bits)
        heads, outputs = operation.heads, operation.n // operation.heads
        self._clusters = _clusters(heads, operation.k, outputs, config, self._weight_bits)
        together = heads // self._clusters
        self._shape = together * outputs, together * operation.k
        self._calibrated: list[Product] = []
        self._blank = self._product(np.zeros(self._shape, np.int64), 0, 0)

    @property
    def arrays(self) -> int:
        return self._blank.tiles * self._clusters

    @property
    def writes(self) -> Writes:
        matrices = matrices_per_image(self._trace, self._operation)
        # Of a row of an array only the columns of its own head are written.
        cells = self._blank.programmed_cells() * self._clusters**2 // self._operation.heads
        return Writes(matrices, matrices * self.arrays, matrices * cells, self._config.cells.device.write.pulses)

    def calibrate(self, operands: Sequence[NDArray[Any]]) -> None:
        if not self._config.calibrates:
            return
        self._calibrated = []
        for cluster in range(self._clusters):
            cases = self._cases(_timed(self._operation, operands), CALIBRATION, [cluster])
            products, inputs = zip(
                *((product, rows) for product, rows, *_ in islice(cases, CALIBRATION_WRITES)), strict=True
            )
            calibrate_together(products, inputs)
            self._calibrated.append(products[0])

    def sums(self, operands: Sequence[NDArray[Any]], batch: int) -> NDArray[np.float64]:
        steps, images = max(len(operands[0]), len(operands[1])), operands[0].shape[1]
        outputs = self._operation.n // self._clusters
        found = np.empty((steps, images, self._operation.n, math.prod(self._operation.output_shape[1:])))
        for product, rows, image, at, number, cluster in self._cases(operands, batch, range(self._clusters)):
            if self._calibrated:
                product.calibrate_like(self._calibrated[cluster])
            # What an image's reads share stays from timestep to timestep, what each has of its own does not.
            sums = product.multiply(rows, batch * self._config.batch_images + image, number)
            sums = sums.reshape(-1, len(rows) // (at.stop - at.start), outputs).transpose(0, 2, 1)
            found[at, image, cluster * outputs : (cluster + 1) * outputs] = sums
        return found.reshape(steps, images, *self._operation.output_shape)

    def _cases(
        self, operands: Sequence[NDArray[Any]], batch: int, clusters: Sequence[int]
    ) -> Iterator[tuple[Product, NDArray[Any], int, slice, int, int]]:
        """Every matrix that is written with its inputs [reads, k], its image, its timesteps, the number of the write
        and its cluster of heads."""
        operation, (first, second) = self._operation, operands
        steps, together = max(len(first), len(second)), operation.heads // self._clusters
        for image in range(first.shape[1]):
            for t in range(len(second)):
                at = slice(t, t + 1) if len(second) > 1 else slice(0, steps)
                values = np.broadcast_to(first[:, image], (steps, *first.shape[2:]))[at]
                # [timesteps, heads, channels, positions]
                rows = self._inputs.taken(values).reshape(len(values), operation.heads, -1, math.prod(values.shape[2:]))
                rows = rows if operation.transpose_first else rows.swapaxes(2, 3)
                matrices = self._written.taken(second[t, image]).astype(np.int64)
                matrices = matrices.reshape(operation.heads, -1, math.prod(matrices.shape[1:]))
                matrices = matrices.swapaxes(1, 2) if operation.transpose else matrices
                number = (batch * self._config.batch_images + image) * self._trace.timesteps + t
                for cluster in clusters:
                    own = slice(cluster * together, (cluster + 1) * together)
                    driven = rows[:, own].swapaxes(1, 2)
                    product = self._product(_side_by_side(matrices[own]), number, cluster)
                    yield product, driven.reshape(-1, product.k), image, at, number, cluster

    def _product(self, matrix: NDArray[np.int64], written: int, cluster: int) -> Product:
        config = self._config
        stored = self._transformed(np.abs(matrix)) * np.sign(matrix)
        return Product(
            np.maximum(stored, self._lowest),
            cut_rows(matrix.shape[1], (1, 1), config.rows),
            config,
            weight_bits=self._weight_bits,
            input_bits=self._inputs.bits,
            signed_inputs=self._inputs.signed,
            layer=_number(self._operation, cluster),
            written=written,
        )

    def _transformed(self, magnitude: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._config.dynamic.transformed(magnitude, self._top, self._config.cells.device)


class _Inputs:
    """How wide the values of a tensor are, and the values as arrays take them: saturated, in few bytes."""

    def __init__(self, trace: Trace, name: str) -> None:
        tensor = trace.meta.tensors[name]
        self.bits = 1 if tensor.kind in ("spike", "spike_time") else trace.bits(name)
        self.signed = tensor.kind == "signed_spike" or getattr(tensor, "dtype", "uint8").startswith("int")
        if self.bits > MAX_STORED_BITS:  # sums, stored in more than they need
            self.bits, self.signed = value_bits(trace, name), is_signed(trace, name)

    def taken(self, values: NDArray[Any]) -> NDArray[Any]:
        if values.dtype == np.bool_:
            return values.view(np.uint8)
        lowest, highest = integer_range(self.bits, self.signed)
        found: NDArray[Any] = np.clip(values, lowest, highest).astype(
            np.int64 if self.bits > 8 else np.int8 if self.signed else np.uint8
        )
        return found


def matrices_per_image(trace: Trace, operation: Operation) -> int:
    """How often an image writes each cell of a product's arrays: they hold the matrix of one timestep after the other,
    which is written whether it has changed or not."""
    return trace.timesteps


def _number(operation: Operation, cluster: int = 0) -> int:
    """What stands for a cluster of an operation where numbers are drawn: the same in every selection of layers."""
    return zlib.crc32(f"{operation.name}{f' {cluster}' * (cluster > 0)}".encode())


def _timed(operation: Operation, operands: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """``operands`` [T, I, ...], T = 1 where one does not change."""
    return [
        values if values.ndim == 2 + len(shape) else values[np.newaxis]
        for values, shape in zip(operands, operation.input_shapes, strict=True)
    ]


def _channels(values: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    """``values`` [N] beside ``like`` [T, I, N, ...]."""
    return values.reshape(-1, *(1,) * (like.ndim - 3))
