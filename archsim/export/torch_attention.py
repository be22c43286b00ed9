"""Attention of torch in the functions that it is made of, so that a run shows what it computes.

``scaled_dot_product_attention`` and ``nn.MultiheadAttention`` run as one kernel. In their place the definitions of
torch's documentation run here, without dropout; the tracing sees products, a softmax and linear layers.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

from archsim.export.torch_modules import class_name
from archsim.export.torch_tensors import load_torch


def attention(query: Any, key: Any, value: Any, scale: float | None = None) -> Any:
    """softmax(Q K^T scale) V for queries, keys and values [..., tokens, features of a head]."""
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    return scores.softmax(-1) @ value


def in_parts(function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Callable[[], Any] | None:
    """What computes an attention in its parts; None where ``function`` is none, or masks scores."""
    torch = load_torch()
    if function is not torch.nn.functional.scaled_dot_product_attention:
        return None
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    given = {**dict(zip(names, arguments, strict=False)), **options}
    others = (given.get(name) for name in ("is_causal", "dropout_p", "enable_gqa"))
    if given.get("attn_mask") is not None or any(others):
        return None
    return lambda: attention(given["query"], given["key"], given["value"], given.get("scale"))


@contextlib.contextmanager
def taken_apart(model: Any) -> Iterator[None]:
    """Every ``nn.MultiheadAttention`` of ``model`` that has the batch first, computed in its parts."""
    changed = [module for module in model.modules() if _is_plain(module)]
    for module in changed:
        module.forward = _forward_of(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _is_plain(module: Any) -> bool:
    return (
        class_name(module) == "MultiheadAttention"
        and module.batch_first
        and module.in_proj_weight is not None
        and module.bias_k is None
        and not module.add_zero_attn
        and "forward" not in vars(module)
    )


def _forward_of(module: Any) -> Callable[..., Any]:
    whole = module.forward

    def forward(query: Any, key: Any, value: Any, *more: Any, **options: Any) -> Any:
        masks = (options.get(name) is not None for name in ("key_padding_mask", "attn_mask"))
        if query.ndim != 3 or (more and more[0] is not None) or any(masks) or options.get("is_causal"):
            return whole(query, key, value, *more, **options)
        functional = load_torch().nn.functional
        if query is key is value:
            parts = functional.linear(query, module.in_proj_weight, module.in_proj_bias).chunk(3, -1)
        else:
            weights = module.in_proj_weight.chunk(3)
            biases = (None,) * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
            given = (query, key, value)
            parts = tuple(
                functional.linear(one, weight, bias) for one, weight, bias in zip(given, weights, biases, strict=True)
            )
        heads = [part.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for part in parts]
        mixed = attention(*heads).transpose(1, 2).flatten(2)
        return module.out_proj(mixed), None

    return forward
