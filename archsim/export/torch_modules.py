"""What the modules of PyTorch, SpikingJelly and snnTorch compute, as nodes of a float ``Network``.

Modules are known by their exact class: a subclass with a ``forward`` of its own is another module, and none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from archsim.errors import UsageError
from archsim.export.network import SpikingNeuron

# Names of classes, of torch.nn and of spikingjelly.activation_based.layer alike.
LAYERS = {
    "Conv2d": "conv2d",
    "Linear": "linear",
    "BatchNorm1d": "affine",
    "BatchNorm2d": "affine",
    "ThresholdDependentBatchNorm1d": "affine",
    "ThresholdDependentBatchNorm2d": "affine",
    "MaxPool2d": "max_pool",
    "AvgPool2d": "sum_pool",
    "AdaptiveAvgPool2d": "sum_pool",
}
SAME = ("Identity", "Dropout", "Dropout1d", "Dropout2d", "Flatten")
LIBRARIES = ("torch", "spikingjelly", "snntorch")
_SPIKING = {
    ("spikingjelly", "BaseNode"),
    ("spikingjelly", "SimpleBaseNode"),
    ("spikingjelly", "NonSpikingBaseNode"),
    ("snntorch", "SpikingNeuron"),
}

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
    rule = {"spikingjelly": _SPIKINGJELLY, "snntorch": _SNNTORCH}.get(library, {}).get(type(module).__name__)
    if rule is not None:
        return rule
    families = {(base.__module__.split(".")[0], base.__name__) for base in type(module).__mro__}
    return _refused if families & _SPIKING else None


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
            if module.dilation != (1, 1) or module.padding_mode != "zeros" or isinstance(module.padding, str):
                got = f"dilation {module.dilation}, padding {module.padding!r} of {module.padding_mode}"
                raise Inexpressible(f"{got}; allowed: no dilation, a number of zeros around")
            return {
                "weight": ungrouped(_real(module.weight), module.groups),
                "bias": None if module.bias is None else _real(module.bias),
                "kernel": module.kernel_size, "stride": module.stride, "padding": module.padding,
            }  # fmt: skip
        case "linear":
            if module.in_features != int(np.prod(input_shape)):
                raise Inexpressible(f"works on the last axis of {list(input_shape)}; allowed: after a Flatten")
            return {"weight": _real(module.weight), "bias": None if module.bias is None else _real(module.bias)}
        case "affine":
            if module.running_mean is None:
                raise Inexpressible("no running statistics, so it depends on the batch")
            gain = 1 / np.sqrt(_real(module.running_var) + module.eps)
            if module.affine:
                gain = gain * _real(module.weight)
            shift = -_real(module.running_mean) * gain + (_real(module.bias) if module.affine else 0)
            return {"weight": gain, "bias": shift}
    return pool_fields(
        op, input_shape, getattr(module, "kernel_size", None), getattr(module, "stride", None),
        getattr(module, "padding", 0), getattr(module, "dilation", 1), getattr(module, "ceil_mode", False),
        getattr(module, "output_size", None),
    )  # fmt: skip


def pool_fields(
    op: str, input_shape: tuple[int, ...], kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, output_size: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """Fields of the ``Node`` of a pool; ``output_size`` is that of an adaptive one."""
    if output_size is not None:
        sides = pair(output_size)
        if len(input_shape) != 3 or any(side % wanted for side, wanted in zip(input_shape[1:], sides, strict=True)):
            raise Inexpressible(f"windows of different sizes, {list(input_shape)} to {list(sides)}")
        kernel = (input_shape[1] // sides[0], input_shape[2] // sides[1])
    if pair(dilation) != (1, 1):
        raise Inexpressible(f"a pool with dilation {dilation}; allowed: 1")
    kernel, padding = pair(kernel), pair(padding)
    stride = pair(stride) if stride not in (None, []) else kernel
    spare = [size + 2 * pad - width for size, pad, width in zip(input_shape[1:], padding, kernel, strict=True)]
    if ceil_mode and any(side % step for side, step in zip(spare, stride, strict=True)):
        raise Inexpressible("ceil_mode with windows that stick out; allowed: windows inside the input")
    fields = {"kernel": kernel, "stride": stride, "padding": padding}
    return fields | {"weight": np.array(1 / (kernel[0] * kernel[1]))} if op == "sum_pool" else fields


def pair(value: Any) -> tuple[int, int]:
    """``value`` for rows and columns."""
    if isinstance(value, int):
        return value, value
    rows, columns = value
    return int(rows), int(columns)


def ungrouped(weight: np.ndarray, groups: int) -> np.ndarray:
    """Weights [N, C, kh, kw] of a convolution with [N, C / groups, kh, kw]: zeros where it connects nothing."""
    count, each = weight.shape[:2]
    full = np.zeros((groups, count // groups, groups, each, *weight.shape[2:]))
    for group, part in enumerate(weight.reshape(groups, count // groups, each, *weight.shape[2:])):
        full[group, :, group] = part
    return full.reshape(count, groups * each, *weight.shape[2:])


def _real(tensor: Any) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().double().numpy()
    return array


def _refused(module: Any) -> SpikingNeuron:
    raise Inexpressible("this kind of neuron has no counterpart in a trace; allowed: integrate-and-fire, leaky or not")


def _integrate_and_fire(module: Any) -> SpikingNeuron:
    return _jelly(module, decay=1.0, gain=1.0)


def _leaky(module: Any) -> SpikingNeuron:
    return _jelly(module, 1 - 1 / module.tau, 1 / module.tau if module.decay_input else 1.0)


def _learned_leak(module: Any) -> SpikingNeuron:
    reciprocal = float(module.w.detach().sigmoid())
    return _jelly(module, 1 - reciprocal, reciprocal if module.decay_input else 1.0)


def _jelly(module: Any, decay: float, gain: float) -> SpikingNeuron:
    """SpikingJelly: ``H = V + (V_reset - V) / tau + gain X``, spike if ``H >= threshold``, V starts at V_reset."""
    rest = module.v_reset or 0.0
    if rest and type(module).__name__.startswith("Simple"):
        raise Inexpressible(f"it starts at 0 and rests at {rest:g}; allowed: v_reset 0 or None")
    reset = "soft_before_leak" if module.v_reset is None else "hard"
    return SpikingNeuron(decay, (module.v_threshold - rest) / gain, reset, fires_at_threshold=True)


def _snn_leaky(module: Any) -> SpikingNeuron:
    """snnTorch's Leaky: ``H = beta mem + x - reset``, spike if ``H > threshold``.

    With reset delay the threshold goes off the decayed potential of the next timestep, without it before the leak.
    (Then a potential that is still above the threshold after a reset lowers the next one before it is compared. The
    tracing finds such spikes, as they do not follow from this rule.)
    """
    reasons = [
        (module.inhibition, "inhibition between neurons"),
        (module.state_quant, "a quantised state (state_quant)"),
        (module.reset_mechanism == "none", "no reset (reset_mechanism 'none'); allowed: 'zero', 'subtract'"),
        (bool((module.graded_spikes_factor != 1).any()), "graded spikes; allowed: graded_spikes_factor 1"),
        (bool((module.beta != module.beta.reshape(-1)[0]).any()), "a beta for each neuron; allowed: one a layer"),
    ]
    found = [reason for present, reason in reasons if present]
    if found:
        raise Inexpressible("; ".join(found))
    beta = float(module.beta.detach().reshape(-1)[0].clamp(0, 1))
    reset = "soft_after_leak" if module.reset_delay else "soft_before_leak"
    return SpikingNeuron(beta, _real(module.threshold), "hard" if module.reset_mechanism == "zero" else reset)


_SPIKINGJELLY: dict[str, NeuronRule] = {
    "IFNode": _integrate_and_fire,
    "SimpleIFNode": _integrate_and_fire,
    "LIFNode": _leaky,
    "SimpleLIFNode": _leaky,
    "ParametricLIFNode": _learned_leak,
}
_SNNTORCH: dict[str, NeuronRule] = {"Leaky": _snn_leaky}
