"""Networks of arbitrary activations, such as physics-informed ones, to signed spikes, calibrated layer by layer.

A neuron's spikes follow an activation f of its mean current (:mod:`archsim.trace.neurons`): after t timesteps it has
fired t f(mean) / v spikes, rounded; those below zero count negative, and a spike is worth v, the largest |f| of the
calibration inputs. So the mean of its spikes over T timesteps is f(mean) up to v / T, down or to the nearest, as long
as f(mean) does not move faster than a spike a timestep. Its f is a table of 2^``table_bits`` entries over the range of
the mean currents, held in units of v / 2^14. The read-out adds up potentials; the last one is the output.

Rounding weights and firing in whole spikes leave errors, which calibration takes away on average, layer after layer,
each on what the converted layers before it give:

    light      a bias for each channel: the mean over inputs and timesteps of its current becomes the float network's
    advanced   that, and a start for each neuron's spikes: T times the mean over inputs of what its output lacks

Both take away the whole mean error of the read-out, by its start potential. That is Li et al. (ICML 2021) for ReLU, and
Zhang et al. (SIAM J. Sci. Comput. 2025, arXiv:2308.16372) for other activations, of which the abstract was read; the
neuron is archsim's own.

How far the outputs can be off, with a of the float network, b of the converted one, and e the error that a layer makes
of what it reads, ``|f(W b + bias) - b'|``: since ``|a' - b'| <= Lip(f) |W| |a - b| + e``, it is at most the sum over
layers of e times the product of Lip(f) |W| over all layers behind; the rounding of inputs counts as a layer in front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim import arguments
from archsim.errors import UsageError, printable
from archsim.export.network import Network, array_of, check_options, check_timesteps
from archsim.export.quantisation import integer_inputs
from archsim.export.torch_chain import ChainLayer, Real, chain_of
from archsim.export.torch_tracing import versions
from archsim.trace import Neuron, Operation, Trace, neurons
from archsim.trace.operation import Requantiser
from archsim.trace.resimulation import requantise

Calibration = Literal["none", "light", "advanced"]
WORTH_BITS = 14
"""Bits of what a spike is worth in the units of the table of activations."""
READ_OUT_BITS = 8
"""Fraction bits of the potentials of the read-out."""
HEADROOM = 1.1
"""Range of the table over the largest mean current of the calibration inputs."""
_MULTIPLIER_BITS = 20
_KINDS = {
    "calibration": arguments.one_of("none", "light", "advanced"),
    "rounding": arguments.one_of("nearest", "down"),
}


@dataclass(frozen=True)
class ConvertedLayer:
    """A layer on the inputs of the trace.

    ``spike_rate`` is the share of timesteps in which a neuron fires, None without spikes. ``error`` is the root mean
    square of the difference of its mean output to the float network's, over that of the latter. ``own_error`` is the
    largest L2 norm of an input's error that this layer makes itself (e above), and ``amplification`` what the layers
    behind can make of it.
    """

    layer: str
    spike_rate: float | None
    error: float
    own_error: float
    amplification: float


@dataclass(frozen=True, eq=False)
class Converted:
    """The converted network on the inputs as a ``trace``; its real ``outputs`` [I, N] and the float network's.

    ``input_error`` is the largest L2 norm of what rounding takes from an input, ``input_amplification`` what all layers
    can make of it.
    """

    trace: Trace
    layers: tuple[ConvertedLayer, ...]
    outputs: Real
    float_outputs: Real
    input_error: float
    input_amplification: float

    @property
    def bound(self) -> float:
        """What the L2 norm of no input's error of the outputs exceeds."""
        return self.input_error * self.input_amplification + sum(
            row.own_error * row.amplification for row in self.layers
        )

    def __str__(self) -> str:
        lines = ["layer                 spike rate       error   own error  times at most"]
        lines.append(f"{'inputs':32}              {self.input_error:10.3g}  {self.input_amplification:13.3g}")
        for row in self.layers:
            rate = "" if row.spike_rate is None else f"{row.spike_rate:.3f}"
            lines.append(
                f"{row.layer:20}  {rate:>10}  {row.error:10.3g}  {row.own_error:10.3g}  {row.amplification:13.3g}"
            )
        return "\n".join(lines)


def convert(
    model: Any,
    inputs: Any,
    T: int,  # noqa: N803 - the field's name for the number of timesteps
    *,
    calibration: Calibration | None = None,
    rounding: Literal["nearest", "down"] = "nearest",
    calibration_inputs: Any = None,
    activation_bits: int | None = None,
    weight_bits: int = 8,
    table_bits: int = 12,
    input_bits: int = 8,
    input_scale: float | None = None,
    name: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Converted:
    """A float PyTorch model of linear layers and any activations as a network of signed spikes, calibrated.

    ``inputs`` [I, F] are those of the trace, the same at every timestep; they become integers of ``input_bits`` in
    units of ``input_scale``, as in ``from_torch``. ``calibration_inputs`` (by default ``inputs``) calibrate and tell
    the ranges. Spikes are ``rounding`` "nearest" or "down". Weights have ``weight_bits`` and a scale for each channel
    (one for all of the read-out's), and tables of activations 2^``table_bits`` entries.

    With ``activation_bits`` the network has no spikes but activations of so many bits, from the same tables behind
    every sum, and ``T`` must be 1: what spikes are to be compared with. ``calibration`` is "advanced" if it is not
    said, and with ``activation_bits`` "light", as there are no spikes to start.

    Raises ``UsageError`` with what is not allowed, by the name of the layer that the model has.
    """
    if calibration is None:
        calibration = "advanced" if activation_bits is None else "light"
    _check(T, calibration, rounding, activation_bits, table_bits)
    check_timesteps(T)
    T = int(T)  # noqa: N806 - of numpy, perhaps
    check_options(weight_bits, input_bits, input_scale, provenance=provenance)
    details = (provenance or {}).get("details", {})
    if not isinstance(details, Mapping):
        raise UsageError(f"provenance: details: must be a mapping, got {printable(repr(details))}")
    layers = chain_of(model)
    shown = _inputs("inputs", inputs, layers[0])
    taught = shown if calibration_inputs is None else _inputs("calibration_inputs", calibration_inputs, layers[0])
    network = Network(T, np.concatenate([shown, taught]), {})
    integers, scale, _ = integer_inputs(network, input_bits, input_scale)
    conversion = _Conversion(T, calibration, rounding, activation_bits, weight_bits, table_bits, len(shown))
    read = Read(network.inputs, integers, scale, integers * scale)
    input_error = float(np.linalg.norm((read.real - read.mean)[: len(shown)], axis=1).max())
    for place, layer in enumerate(layers):
        read = conversion.read_out(layer, read) if place + 1 == len(layers) else conversion.hidden(layer, read)
    told: dict[str, Any] = {
        "calibration": calibration, "rounding": rounding, "calibration_inputs": len(taught),
        "spike_worth": conversion.worth, "error": {row[0]: round(row[2], 6) for row in conversion.rows},
        "notes": network.notes,
    }  # fmt: skip
    made = {key: value for key, value in told.items() if value}
    labels = {"kind": "trained", "weights": "trained", "source": versions(model), **(provenance or {})}
    labels["details"] = {**details, **made}
    tensors = {"inputs": integers, **conversion.tensors}
    count = len(shown)
    trace = Trace(
        network=name or type(model).__name__, timesteps=T, operations=conversion.operations,
        tensors={
            tensor: values[:, :count] if values.ndim == 3 else values[:count] for tensor, values in tensors.items()
        },
        provenance=labels, kinds=conversion.kinds, scales={"inputs": scale, **conversion.scales},
    )  # fmt: skip
    of_inputs, *behind = np.cumprod([1.0, *(row[4] for row in conversion.rows[::-1])])[::-1]
    rows = tuple(
        ConvertedLayer(*row[:4], amplification=float(more))
        for row, more in zip(conversion.rows, behind, strict=True)
    )  # fmt: skip
    return Converted(trace, rows, read.mean[:count], read.real[:count], input_error, float(of_inputs))


class Read(NamedTuple):
    """What a layer reads: of the float network, ``integers`` [I, F] or [T, I, F] of the converted one in units of
    ``unit``, and the ``mean`` over time of these, as real numbers."""

    real: Real
    integers: NDArray[Any]
    unit: float
    mean: Real


class Table(NamedTuple):
    """A function as ``integers`` [E]: entry i for values at (i - E/2) ``step``; ``slope`` is the largest of two."""

    integers: NDArray[np.int64]
    step: float
    slope: float

    def multiplier(self, unit: Real) -> tuple[NDArray[np.int64], int]:
        """What turns sums in units of ``unit`` [N] into places of the table, and by how much to shift that."""
        wide = np.floor(np.log2((1 << _MULTIPLIER_BITS) * self.step / unit.max()))
        shift = int(np.clip(wide, 0, neurons.MAX_ACTIVATION_SHIFT))
        return np.maximum(np.round(unit / self.step * 2.0**shift), 1).astype(np.int64), shift


class _Conversion:
    """Converts layer after layer; ``rows`` have each one's name, spike rate, error, own error, and Lip(f) |W|."""

    def __init__(
        self, timesteps: int, calibration: Calibration, rounding: str, activation_bits: int | None, weight_bits: int,
        table_bits: int, count: int,
    ) -> None:  # fmt: skip
        self.timesteps, self.calibration, self.rounding = timesteps, calibration, rounding
        self.activation_bits, self.weight_bits, self.table_bits = activation_bits, weight_bits, table_bits
        # Inputs from there on calibrate, those before are the trace's.
        self.count = count
        self.operations: list[Operation] = []
        self.tensors: dict[str, NDArray[Any]] = {}
        self.kinds: dict[str, str] = {}
        self.scales: dict[str, float] = {}
        self.worth: dict[str, float] = {}
        self.rows: list[tuple[str, float | None, float, float, float]] = []

    def hidden(self, layer: ChainLayer, read: Read) -> Read:
        """A layer with an activation."""
        assert layer.function is not None
        weights, scale = self._weights(layer, each=True)
        unit = scale * read.unit
        sums, products = read.real @ layer.weight.T, read.mean @ (weights * scale[:, None]).T
        bias = _whole(layer, (layer.bias + self._lacking(sums - products)) / unit)
        sums, means, real = sums + layer.bias, products + bias * unit, layer.function(sums + layer.bias)
        if not np.isfinite(real).all():
            raise UsageError(f"{layer.name}: its activation is not finite for all sums of the inputs")
        bits, name = self.activation_bits, f"{layer.name}.outputs"
        reach = max(float(np.abs(sums[self.count :]).max()), float(np.abs(means[self.count :]).max()))
        worth = float(np.abs(real[self.count :]).max()) or 1.0
        spiking = bits is None
        units = (1 << (WORTH_BITS if bits is None else bits - 1)) - (not spiking)
        table = tabulated(layer.function, HEADROOM * reach or 1.0, worth, units, self.table_bits, centred=not spiking)
        if not np.isfinite(table.slope):
            raise UsageError(
                f"{layer.name}: its activation is not finite from {-HEADROOM * reach:.3g} to {HEADROOM * reach:.3g}"
            )
        _whole(layer, unit / table.step)
        multiplier, shift = table.multiplier(unit)
        currents = _currents(read, weights, bias)
        operation = Operation(
            layer.name, "linear", (self._source(),), name, weight=weights, weight_bits=self.weight_bits, bias=bias
        )  # fmt: skip
        if spiking:
            neuron = Neuron(
                "if", np.full(len(weights), 1 << WORTH_BITS), reset="none", fires="signed", rounding=self.rounding,
                activation=table.integers, activation_multiplier=multiplier, activation_shift=shift,
            )  # fmt: skip
            neuron, outputs = self._started(neuron, currents, real / worth)
            operation, mean = replace(operation, neuron=neuron), outputs.mean(0) * worth
            self.kinds[name], self.worth[layer.name], worth_of_one = "signed_spike", worth, worth
        else:
            requantiser = Requantiser(multiplier, shift, bits or 0, True, table.integers)
            outputs = requantise(requantiser, currents[None])[0].astype(np.int16 if (bits or 0) > 8 else np.int8)
            operation, worth_of_one = replace(operation, requantiser=requantiser), worth / units
            mean = outputs * worth_of_one
            self.scales[name] = worth_of_one
        self.operations.append(operation)
        self.tensors[name] = outputs
        wanted = layer.function(read.mean @ layer.weight.T + layer.bias)
        rate = float(np.abs(outputs[:, : self.count]).mean()) if spiking else None
        self._row(layer, rate, real, mean, wanted, table.slope)
        return Read(real, outputs, worth_of_one, mean)

    def read_out(self, layer: ChainLayer, read: Read) -> Read:
        """The last layer: its potentials, or without spikes its sums."""
        weights, scale = self._weights(layer, each=False)
        unit, name = float(scale[0]) * read.unit, f"{layer.name}.outputs"
        sums, products = read.real @ layer.weight.T, read.mean @ (weights * scale[:, None]).T
        bias = (layer.bias + self._lacking(sums - products)) / unit
        operation = Operation(
            layer.name, "linear", (self._source(),), name, weight=weights, weight_bits=self.weight_bits,
            weight_scale=float(scale[0]),
        )  # fmt: skip
        if self.activation_bits is None:
            start = _whole(layer, bias * self.timesteps * 2.0**READ_OUT_BITS)
            neuron = Neuron("if", None, fraction_bits=READ_OUT_BITS, fires="nothing", start=start)
            outputs, _ = neurons.run(neuron, self._timed(_currents(read, weights, np.zeros_like(start))))
            operation, unit = replace(operation, neuron=neuron), unit / self.timesteps / 2**READ_OUT_BITS
            mean = outputs[-1] * unit
        else:
            whole = _whole(layer, bias)
            outputs = _currents(read, weights, whole)
            operation, mean = replace(operation, bias=whole), outputs * unit
        if np.abs(outputs).max() >= 1 << 31:
            raise UsageError(f"{layer.name}: sums reach {np.abs(outputs).max():,}; allowed: 32 bits")
        self.operations.append(operation)
        self.tensors[name], self.scales[name] = outputs.astype(np.int32), unit
        real = sums + layer.bias
        self._row(layer, None, real, mean, read.mean @ layer.weight.T + layer.bias, 1.0)
        return Read(real, outputs, unit, mean)

    def _weights(self, layer: ChainLayer, *, each: bool) -> tuple[NDArray[np.int8], Real]:
        """Integer weights and their scales [N], one for ``each`` channel or the same for all."""
        largest = np.abs(layer.weight).max(1)
        largest = largest if each else np.full_like(largest, largest.max())
        scale = np.where(largest > 0, largest, 1.0) / ((1 << (self.weight_bits - 1)) - 1)
        return np.round(layer.weight / scale[:, None]).astype(np.int8), scale

    def _lacking(self, difference: Real) -> Real:
        """The mean over calibration inputs, which a bias makes up for; 0 without calibration."""
        taught: Real = difference[self.count :].mean(0)
        return np.zeros_like(taught) if self.calibration == "none" else taught

    def _started(
        self, neuron: Neuron, currents: NDArray[np.int64], wanted: Real
    ) -> tuple[Neuron, NDArray[np.int8]]:  # fmt: skip
        """The neuron, with a start if the calibration is advanced, and its spikes; ``wanted`` [I, N] is their mean."""
        outputs, _ = neurons.run(neuron, self._timed(currents))
        if self.calibration != "advanced":
            return neuron, outputs
        lacks = (wanted - outputs.mean(0))[self.count :].mean(0)
        start = np.round(lacks * self.timesteps * 2.0**WORTH_BITS).astype(np.int64)
        started = replace(neuron, start=start)
        return started, neurons.run(started, self._timed(currents))[0]

    def _timed(self, currents: NDArray[np.int64]) -> NDArray[np.int64]:
        return currents if currents.ndim == 3 else np.broadcast_to(currents, (self.timesteps, *currents.shape))

    def _source(self) -> str:
        return self.operations[-1].output if self.operations else "inputs"

    def _row(
        self, layer: ChainLayer, rate: float | None, real: Real, mean: Real, wanted: Real, slope: float
    ) -> None:  # fmt: skip
        shown = slice(0, self.count)
        power = float(np.sqrt((real[shown] ** 2).mean())) or 1.0
        error = float(np.sqrt(((real - mean)[shown] ** 2).mean())) / power
        own = float(np.linalg.norm((wanted - mean)[shown], axis=1).max())
        self.rows.append((layer.name, rate, error, own, slope * float(np.linalg.norm(layer.weight, 2))))


def _whole(layer: ChainLayer, values: Real) -> NDArray[np.int64]:
    """Whole numbers of a unit of the sums of ``layer``; UsageError if they are far more than such sums are wide."""
    if np.abs(values).max() >= 1 << 40:
        raise UsageError(
            f"{layer.name}: inputs, weights and biases are too different in size, {np.abs(values).max():.3g} units of "
            "sums of integers; allowed: 2^40, by another input_scale, say"
        )
    return np.round(values).astype(np.int64)


def tabulated(
    function: Callable[[Real], Real], reach: float, worth: float, units: int, bits: int, *, centred: bool
) -> Table:  # fmt: skip
    """``function`` from -``reach`` to ``reach`` in 2^``bits`` entries; ``worth``, the largest, is ``units``.

    An entry stands for values around its place if ``centred``, otherwise for those from its place on.
    """
    half = 1 << (bits - 1)
    step = reach / half
    places = (np.arange(-half, half) + (0.0 if centred else 0.5)) * step
    values = function(places.astype(np.float64))
    integers = np.clip(np.round(np.nan_to_num(values) / worth * units), -units, units).astype(np.int64)
    slope = float(np.abs(np.diff(values)).max()) / step
    return Table(integers, step, slope)


def _currents(read: Read, weights: NDArray[np.int8], bias: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integer sums [I, N] or [T, I, N]; all partial sums are below 2^53, so that they are exact."""
    products = read.integers.astype(np.float64) @ weights.T.astype(np.float64)
    return products.astype(np.int64) + bias


def _inputs(name: str, values: Any, first: ChainLayer) -> Real:
    found = array_of(values.detach().cpu() if hasattr(values, "detach") else values)
    if found.dtype.kind not in "biuf" or found.ndim != 2 or found.shape[1] != first.weight.shape[1] or not found.size:
        raise UsageError(
            f"{name}: got {found.dtype} {list(found.shape)}; allowed: numbers [I, {first.weight.shape[1]}], what "
            f"{first.name} reads"
        )
    if not np.isfinite(found).all():
        raise UsageError(f"{name}: holds numbers that are not finite")
    return found.astype(np.float64)


def _check(
    timesteps: int, calibration: object, rounding: object, activation_bits: int | None, table_bits: int
) -> None:  # fmt: skip
    problems = [
        f"{name}: got {printable(repr(given))}; allowed: {_KINDS[name].meaning}"
        for name, given in (("calibration", calibration), ("rounding", rounding))
        if not _KINDS[name].fits(given)
    ]
    for name, bits, least, most in (("table_bits", table_bits, 2, 16), ("activation_bits", activation_bits, 2, 16)):
        if bits is None and name == "activation_bits":
            continue
        if bits is None or not (arguments.WHOLE.fits(bits) and least <= bits <= most):
            problems.append(f"{name}: got {printable(repr(bits))}; allowed: {least} to {most}")
    if activation_bits is not None:
        if timesteps != 1:
            problems.append(
                f"T: got {printable(repr(timesteps))}; allowed: 1, as there are no spikes with activation_bits"
            )
        if calibration == "advanced":
            problems.append("calibration: got 'advanced'; allowed: 'none' or 'light', as there are no spikes to start")
    if problems:
        raise UsageError(problems)
