"""What the modules of PyTorch, SpikingJelly and snnTorch compute, as nodes of a float ``Network``.

Modules are known by their exact class: a subclass with a ``forward`` of its own is another module, and none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from archsim.errors import UsageError
from archsim.export import neuron_rules
from archsim.export.neuron_rules import SpikingNeuron
from archsim.trace.window import Window
from archsim.trace.window import sides as sides_of

# Names of classes, of torch.nn and of spikingjelly.activation_based.layer alike.
LAYERS = {
    "Conv1d": "conv1d",
    "Conv2d": "conv2d",
    "Linear": "linear",
    "BatchNorm1d": "affine",
    "BatchNorm2d": "affine",
    "ThresholdDependentBatchNorm1d": "affine",
    "ThresholdDependentBatchNorm2d": "affine",
    "MaxPool2d": "max_pool",
    "AvgPool2d": "sum_pool",
    "AdaptiveAvgPool2d": "sum_pool",
    "AdaptiveMaxPool2d": "max_pool",
}
SAME = (
    "AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout", "Flatten", "Identity",
    "Unflatten",
)  # fmt: skip
LIBRARIES = ("torch", "spikingjelly", "snntorch")
_INSTEAD = {
    "a batch norm becomes part of the layer in front of it": (
        "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "LocalResponseNorm", "RMSNorm",
    ),
    "spiking neurons can take its place": (
        "CELU", "ELU", "GELU", "Hardswish", "Hardtanh", "LeakyReLU", "Mish", "PReLU", "ReLU6", "SELU", "SiLU",
        "Softplus",
    ),
    "layers of two dimensions see a volume or a film one timestep at a time": (
        "AvgPool3d", "BatchNorm3d", "Conv3d", "MaxPool3d",
    ),
    "snnTorch's RLeaky and RSynaptic are recurrent layers that a trace has": ("GRU", "LSTM", "RNN"),
    "attention written with torch.matmul can be read": ("MultiheadAttention", "TransformerEncoderLayer"),
    "the vectors that it gives can be the inputs": ("Embedding", "EmbeddingBag"),
}  # fmt: skip
"""What to do about modules of PyTorch that a trace does not have."""
# Where the libraries keep their neurons.
_NEURONS = ("spikingjelly.activation_based.neuron", "snntorch._neurons", "norse.torch.module.snn")

NeuronRule = Callable[[Any], SpikingNeuron]


class Inexpressible(Exception):  # noqa: N818 - caught where the layer's name is known
    """Why a module has no counterpart in a trace."""


def class_name(module: Any) -> str:
    """The name of a module's class, if it is one of the three libraries'; otherwise the empty string."""
    kind = type(module)
    return kind.__name__ if kind.__module__.split(".")[0] in LIBRARIES else ""


def neuron_rule(module: Any, own: Mapping[type, NeuronRule]) -> NeuronRule | None:
    """How to read a module that is a spiking neuron; None if it is not one."""
    if type(module) in own:
        return own[type(module)]
    library = type(module).__module__.split(".")[0]
    rule = {"spikingjelly": _SPIKINGJELLY, "snntorch": _SNNTORCH, "norse": _NORSE}.get(library, {}).get(
        type(module).__name__
    )
    if rule is not None:
        return rule
    return _refused if any(base.__module__.startswith(_NEURONS) for base in type(module).__mro__) else None


def remedy(module: Any) -> str:
    """What the user can do about a module that is none of those known, where anything is."""
    library = type(module).__module__.split(".")[0]
    for told, names in _INSTEAD.items():
        if class_name(module) in names:
            return f"; {told}"
    if library == "norse":
        return "; of norse LIF, LIFRecurrent, LI and their cells are known, and `neurons=` describes others"
    return "" if library in LIBRARIES else "; a spiking neuron of the model's own is described by `neurons=`"


def rest(module: Any) -> None:
    """Bring the state of a module of SpikingJelly or snnTorch, or of a neuron with a ``reset`` of its own, to rest."""
    for method in ("reset_mem", "reset"):
        if callable(getattr(module, method, None)):
            try:
                getattr(module, method)()
            except TypeError as error:
                where = f"{type(module).__name__}.{method}"
                raise UsageError(f"{where}: {error}; allowed: a neuron's reset without arguments") from None
            return


def has_state(module: Any, own: Mapping[type, NeuronRule]) -> bool:
    """Is there something for ``rest`` to do?"""
    memory = ("spikingjelly", "MemoryModule")
    kinds = {(base.__module__.split(".")[0], base.__name__) for base in type(module).__mro__}
    return memory in kinds or neuron_rule(module, own) is not None


def layer_fields(module: Any, op: str, input_shape: tuple[int, ...]) -> dict[str, Any]:
    """Fields of the ``Node`` of a layer that reads ``input_shape``."""
    match op:
        case "conv2d":
            return _convolution_fields(module)
        case "linear":
            return {"weight": _real(module.weight), "bias": None if module.bias is None else _real(module.bias)}
        case "affine":
            if module.running_mean is None:
                raise Inexpressible("no running statistics, so it depends on the batch")
            gain = 1 / np.sqrt(_real(module.running_var) + module.eps)
            if module.affine:
                gain = gain * _real(module.weight)
            shift = -_real(module.running_mean) * gain + (_real(module.bias) if module.affine else 0)
            return {"weight": gain, "bias": shift}
    options = (
        "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices", "count_include_pad",
        "divisor_override", "output_size",
    )  # fmt: skip
    return pool_fields(op, input_shape, **{name: getattr(module, name) for name in options if hasattr(module, name)})


def _convolution_fields(module: Any) -> dict[str, Any]:
    if module.padding_mode != "zeros" and module.padding not in (0, (0,), (0, 0), "valid"):
        raise Inexpressible(f"padding_mode {module.padding_mode!r}; allowed: 'zeros'")
    weight = _real(module.weight)
    kernel, stride, dilation = (row(value) for value in (module.kernel_size, module.stride, module.dilation))
    padding: tuple[int, ...]
    if isinstance(module.padding, str):
        spans = [
            (size - 1) * step if module.padding == "same" else 0 for size, step in zip(kernel, dilation, strict=True)
        ]
        padding = (spans[0] // 2, spans[0] - spans[0] // 2, spans[1] // 2, spans[1] - spans[1] // 2)
        if padding[0] == padding[1] and padding[2] == padding[3]:
            padding = (padding[0], padding[2])
    else:
        padding = row(module.padding) if len(module.padding) == 2 else (0, int(module.padding[0]))
    return {
        "weight": weight.reshape(*weight.shape[:2], *kernel),
        "bias": None if module.bias is None else _real(module.bias),
        "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation, "groups": module.groups,
    }  # fmt: skip


def row(value: tuple[int, ...]) -> tuple[int, int]:
    """A size of one axis as one of rows and columns."""
    rows, columns = (1, *value) if len(value) == 1 else value
    return int(rows), int(columns)


def pool_fields(
    op: str, input_shape: tuple[int, ...], kernel_size: Any = None, stride: Any = None, padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False, count_include_pad: bool = True,
    divisor_override: int | None = None, output_size: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """Fields of the ``Node`` of a pool with torch's options; without a ``kernel_size`` it is adaptive."""
    sides = input_shape[1:]
    if len(input_shape) != 3:
        raise Inexpressible(f"pools {list(input_shape)}; allowed: [C, H, W]")
    if return_indices:
        raise Inexpressible("return_indices=True gives indices, too; allowed: False")
    if kernel_size is None:
        wanted = output_size if isinstance(output_size, list | tuple) else (output_size, output_size)
        counts = [side if count is None else count for side, count in zip(sides, wanted, strict=True)]
        if any(side % count for side, count in zip(sides, counts, strict=True)):
            raise Inexpressible(f"windows of different sizes, {list(input_shape)} to {counts}")
        kernel_size = (sides[0] // counts[0], sides[1] // counts[1])
    if pair(dilation) != (1, 1):
        raise Inexpressible(f"a pool with dilation {dilation}; allowed: 1")
    kernel, around = pair(kernel_size), pair(padding)
    steps = kernel if stride in (None, (), []) else pair(stride)
    padding = _reaching(sides, kernel, steps, around) if ceil_mode else around
    fields = {"kernel": kernel, "stride": steps, "padding": padding}
    if op == "max_pool":
        return fields
    if divisor_override is None and any(padding) and (padding != around or not count_include_pad):
        inside = np.pad(np.ones(sides), [(size if count_include_pad else 0,) * 2 for size in around], constant_values=1)
        counted = np.repeat(around, 2) if count_include_pad else np.zeros(4, np.int64)
        top, bottom, left, right = (np.array(sides_of(padding)) - counted).tolist()
        divisors = Window(kernel, steps, (top, bottom, left, right)).windows(inside).sum((-2, -1))
        return fields | {"options": {"divisors": divisors[None].astype(np.int64)}}
    return fields | {"weight": np.array(1 / (divisor_override or kernel[0] * kernel[1]))}


def _reaching(
    sides: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int], around: tuple[int, int]
) -> tuple[int, ...]:
    """Padding (top, bottom, left, right) that has the windows of ``ceil_mode``, all of which begin inside."""
    ends = []
    for side, width, step, pad in zip(sides, kernel, stride, around, strict=True):
        windows = -(-(side + 2 * pad - width) // step) + 1
        windows -= (windows - 1) * step >= side + pad
        ends.append(max(pad, (windows - 1) * step + width - side - pad))
    return around if tuple(ends) == around else (around[0], ends[0], around[1], ends[1])


def pair(value: Any) -> tuple[int, int]:
    """``value`` for rows and columns."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return int(values[0]), int(values[-1])


def _real(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().double().numpy()
    return array


def _refused(module: Any) -> SpikingNeuron:
    reason = "this kind of neuron has no counterpart in a trace"
    if "PSN" in type(module).__name__:
        reason += ": it fires by a weighted sum over timesteps, without a potential that resets"
    elif "NonSpiking" in type(module).__name__:
        reason += ": it gives potentials instead of spikes"
    raise Inexpressible(f"{reason}; allowed: integrate-and-fire, leaky or not{remedy(module)}")


def _integrate_and_fire(module: Any) -> SpikingNeuron:
    return _jelly(module, decay=1.0, gain=1.0)


def _leaky(module: Any) -> SpikingNeuron:
    return _jelly(module, 1 - 1 / module.tau, 1 / module.tau if module.decay_input else 1.0)


def _learned_leak(module: Any) -> SpikingNeuron:
    reciprocal = float(module.w.detach().sigmoid())
    return _jelly(module, 1 - reciprocal, reciprocal if module.decay_input else 1.0)


def _jelly(module: Any, decay: float, gain: float) -> SpikingNeuron:
    """SpikingJelly: ``H = V + (V_reset - V) / tau + gain X``, spike if ``H >= threshold``, V starts at V_reset."""
    simple = type(module).__name__.startswith("Simple")
    return neuron_rules.spikingjelly(decay, gain, module.v_threshold, module.v_reset, starts_at_zero=simple)


def _snn_cell(module: Any, recurrent: bool = False) -> SpikingNeuron:
    """Leaky, and the neurons of RLeaky.

    (Without reset delay a potential that is still above the threshold after a reset lowers the next one before it is
    compared. The tracing finds such spikes, as they do not follow from this rule.)
    """
    return neuron_rules.snn_leaky(
        _decay(module.beta), _snn_threshold(module), module.reset_mechanism, reset_delay=module.reset_delay,
        recurrent=recurrent,
    )  # fmt: skip


def _snn_synaptic(module: Any) -> SpikingNeuron:
    return neuron_rules.snn_synaptic(
        _decay(module.alpha), _decay(module.beta), _snn_threshold(module), module.reset_mechanism,
        reset_delay=module.reset_delay,
    )  # fmt: skip


def _snn_alpha(module: Any) -> SpikingNeuron:
    if module.reset_mechanism != "zero":
        raise Inexpressible(f"reset_mechanism {module.reset_mechanism!r}; allowed: 'zero'")
    alpha, beta = (float(np.ravel(_decay(values))[0]) for values in (module.alpha, module.beta))
    return neuron_rules.snn_alpha(alpha, beta, float(np.ravel(_snn_threshold(module))[0]))


def _decay(values: Any) -> np.ndarray:
    decay = _real(values).clip(0, 1)
    return decay.reshape(()) if decay.size == 1 else decay


def _snn_threshold(module: Any) -> np.ndarray:
    """The threshold of a neuron of snnTorch that a trace can hold."""
    reasons = [
        (module.inhibition, "inhibition between neurons"),
        (module.state_quant, "a quantised state (state_quant)"),
        (bool((module.graded_spikes_factor != 1).any()), "graded spikes; allowed: graded_spikes_factor 1"),
    ]
    found = [reason for present, reason in reasons if present]
    if found:
        raise Inexpressible("; ".join(found))
    threshold = _real(module.threshold)
    return threshold.reshape(()) if threshold.size == 1 else threshold


def recurrent_fields(module: Any) -> dict[str, Any] | None:
    """Fields of the layer through which a recurrent neuron reads its own spikes; None if it has none."""
    if input_weights(module) is not None:
        return {"op": "linear", "weight": _real(module.recurrent_weights), "bias": None}
    back = getattr(module, "recurrent", None)
    if class_name(module) not in ("RLeaky", "RSynaptic") or back is None:
        return None
    if class_name(back) == "Linear":
        return {"op": "linear", **layer_fields(back, "linear", ())}
    if class_name(back) == "Conv2d":
        return {"op": "conv2d", **layer_fields(back, "conv2d", ())}
    if class_name(back) == "RecurrentOneToOne":
        return {"op": "affine", "weight": _real(back.V).reshape(-1)}
    raise Inexpressible(f"a recurrent connection by {type(back).__name__}; allowed: Linear, Conv2d, one to one")


def _norse_cell(module: Any) -> SpikingNeuron:
    def parameter(name: str) -> np.ndarray:
        values = _real(getattr(module.p, name))
        return values.reshape(()) if values.size == 1 else values

    current = parameter("tau_syn_inv") if hasattr(module.p, "tau_syn_inv") else None
    leak = parameter("v_leak")
    threshold, reset = (parameter("v_th"), parameter("v_reset")) if hasattr(module.p, "v_th") else (None, leak)
    return neuron_rules.norse_lif(parameter("tau_mem_inv"), current, leak, threshold, reset, float(module.dt))


def potential(module: Any) -> tuple[float, float] | None:
    """Of a read-out of norse what its output is of the neuron's, times a number and plus another; None of others."""
    if not type(module).__module__.startswith("norse.") or type(module).__name__ not in ("LI", "LICell"):
        return None
    return float(module.dt * module.p.tau_mem_inv), float(module.p.v_leak)


def input_weights(module: Any) -> Any:
    """The weights through which a recurrent neuron of norse reads its input; None of others."""
    return getattr(module, "input_weights", None) if type(module).__module__.startswith("norse.") else None


def is_sequence(module: Any) -> bool:
    """Does a module read all timesteps at once?"""
    bases = {base.__name__ for base in type(module).__mro__ if base.__module__ == "norse.torch.module.snn"}
    return getattr(module, "step_mode", "s") == "m" or bool(bases & {"SNN", "SNNRecurrent"})


def _snn_recurrent(module: Any) -> SpikingNeuron:
    return _snn_cell(module, recurrent=True)


_SPIKINGJELLY: dict[str, NeuronRule] = {
    "IFNode": _integrate_and_fire,
    "SimpleIFNode": _integrate_and_fire,
    "LIFNode": _leaky,
    "SimpleLIFNode": _leaky,
    "ParametricLIFNode": _learned_leak,
}
_SNNTORCH: dict[str, NeuronRule] = {
    "Leaky": _snn_cell,
    "Synaptic": _snn_synaptic,
    "Alpha": _snn_alpha,
    "RLeaky": _snn_recurrent,
    "RSynaptic": _snn_synaptic,
}
_NORSE: dict[str, NeuronRule] = dict.fromkeys(
    ("LIF", "LIFCell", "LIFRecurrent", "LIFRecurrentCell", "LI", "LICell", "LIFBoxCell"), _norse_cell
)
