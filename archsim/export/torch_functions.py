"""What the functions of torch compute that run between a model's modules.

A function is exact if it moves values (``MOVES``) or keeps them (``KEEPS``, ``DROPOUTS``), if it adds tensors or scales
and shifts them by constants (``ARITHMETIC``), joins channels (``JOINS``), pools (``POOLS``), multiplies matrices
(``PRODUCTS``), sums over axes (``SUMS``), or is one of those in :mod:`archsim.export.torch_values`. What any other one
gives is refused where a layer reads it. Names are plain: ``mul`` stands for ``mul_``, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

# Functions that only move, repeat or leave out values; where they went is found by moving numbers.
MOVES = (
    "T", "broadcast_to", "channel_shuffle", "chunk", "clone", "contiguous", "data", "detach", "dsplit", "expand",
    "expand_as", "flatten", "flip", "fliplr", "flipud", "getitem", "hsplit", "index_select", "mT", "moveaxis",
    "movedim", "narrow", "native_channel_shuffle", "permute", "pixel_shuffle", "pixel_unshuffle", "ravel", "repeat",
    "repeat_interleave", "reshape", "reshape_as", "roll", "rot90", "select", "split", "squeeze", "stack", "swapaxes",
    "swapdims", "t", "take", "tensor_split", "tile", "transpose", "unbind", "unflatten", "unsqueeze", "view", "view_as",
    "vsplit",
)  # fmt: skip
JOINS = ("cat", "concat", "concatenate")
# Functions that only change the type or the place of values; where that rounds them, it is seen.
KEEPS = (
    "relu",
    "bfloat16", "bool", "byte", "cpu", "cuda", "double", "float", "half", "int", "long", "positive", "requires_grad",
    "short", "to", "type", "type_as",
)  # fmt: skip
PRODUCTS = ("matmul", "bmm")
SUMS = ("mean", "sum")
DROPOUTS = (
    "alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout", "feature_dropout",
)  # fmt: skip
# The operation, and whether the operands are swapped.
ARITHMETIC = {
    "add": ("add", False),
    "sub": ("sub", False), "subtract": ("sub", False), "rsub": ("sub", True),
    "mul": ("mul", False), "multiply": ("mul", False),
    "div": ("div", False), "divide": ("div", False), "true_divide": ("div", False),
    "neg": ("neg", False), "negative": ("neg", False),
}  # fmt: skip
# The operation, and the names of its options in their order, behind the input.
POOLS = {
    "max_pool2d": (
        "max_pool", ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    ),
    "avg_pool2d": (
        "sum_pool",
        ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    ),
    "adaptive_max_pool2d": ("max_pool", ("output_size", "return_indices")),
    "adaptive_avg_pool2d": ("sum_pool", ("output_size",)),
}  # fmt: skip
_COMPARISONS = ("gt", "greater", "ge", "greater_equal", "lt", "less", "le", "less_equal", "heaviside")


def plain_name(function: Any) -> str:
    """The name of a function or of the attribute that it gets, without the underscores of its in-place forms."""
    name = getattr(function, "__name__", "?")
    return str(function.__self__.__name__ if name == "__get__" else name.strip("_"))


def changes(function: Any, options: Mapping[str, Any]) -> bool:
    """May the function write into its arguments?"""
    name = getattr(function, "__name__", "?")
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or options.get("out") is not None or bool(options.get("inplace"))


def is_off(arguments: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
    """Does this dropout leave its input as it is? torch.nn.functional says ``training``, torch itself ``train``."""
    given = {**dict(zip(("input", "p", "train"), arguments, strict=False)), **options}
    return not given.get("training", given.get("train")) or given.get("p") == 0


def constant(value: Any, tensor_shape: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray | None:
    """A constant as one number or one per channel for a tensor of ``tensor_shape`` that holds a node's ``shape``; None
    if it is neither, or no numbers.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu() if value.is_complex() else value.detach().cpu().double()
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "biuf":
        return None
    if numbers.size == 1:
        return np.full(shape[0], float(numbers.reshape(())))
    sides = (1,) * (len(tensor_shape) - numbers.ndim) + numbers.shape
    channel = len(tensor_shape) - len(shape)
    by_channel = tuple(size if axis == channel else 1 for axis, size in enumerate(tensor_shape))
    if tensor_shape[channel:] != shape or sides != by_channel:
        return None
    return numbers.astype(np.float64).reshape(-1)


def told(name: str, times: list[int | None]) -> str:
    """What a function gave that a trace does not have, in the user's words; it read tensors of these ``times``."""
    followed, steps = len(times), {time for time in times if time is not None and time >= 0}
    if len(steps) > 1:
        return (
            f"the output of torch's {name}() of tensors of the timesteps {' and '.join(map(str, sorted(steps)))}, a"
            " recurrence of the model's own (RLeaky of snnTorch and LIFRecurrent of norse are known; from_nir reads any"
            " graph with delays)"
        )
    if name in DROPOUTS:
        return (
            f"the output of torch's {name}() with training=True, which stays on in evaluation mode"
            " (training=self.training or nn.Dropout turns it off)"
        )
    operation = ARITHMETIC.get(name, ("",))[0]
    if operation in ("mul", "div") and followed > 1:
        return f"a {'product' if operation == 'mul' else 'quotient'} of two tensors of different shapes or timesteps"
    if operation in ("add", "sub") and followed > 1:
        return f"the output of torch's {name}() of tensors of different shapes or timesteps"
    if operation:
        return f"the output of torch's {name}() with a constant that is neither one number nor one per channel"
    if name in _COMPARISONS:
        return f"the output of torch's {name}() (of a neuron? `neurons=` describes one that is a module)"
    return f"the output of torch's {name}()"
