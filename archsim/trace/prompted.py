"""Prompt continual learning on a vision transformer, by shapes: what one image takes in inference and in training.

A *pass* is the frozen backbone on the n = 1 + (side / patch)^2 tokens of an image. In the first ``blocks`` blocks
prompts of ``length`` tokens each are put in front of keys and of values; queries have none, so that n stays:

    cosine   near_m = q / |q| . k_m / |k_m|         pool x width products, keys normalised in advance
    sum      prefix = sum over m of near_m p_m      pool x (2 length x width)
    keys, values = [prefix, those of the block]     attention over n + length tokens

``q / |q|`` is a layer norm of [q, -q], whose mean is zero. A *variant* says where q is from, and what is trained with:

    two_stage   q is the class token behind a whole pass without prompts; inference and training take two passes
    os          q is the class token at the input of the block itself; one pass
    os++        os, and in training a pass without prompts besides, whose class token r regularises the q of all blocks

*Training* adds the backward pass. The backbone is frozen: gradients of activations only, and of prompts and keys. It
ends in the first block, at the prefix of its attention. Gradients pass through q in ``os`` and ``os++``. A product
with weights has one product of the same size; Q K^T and S V have two each. What the backward passes of softmax and
layer norm do element by element is stood in for by a product and the forward operation; it has no MACs.

The order of operations is that of the data: the prefix of a block is there before its attention begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

from archsim.trace.plan import Given, Plan, Step
from archsim.trace.work import WORKING

Variant = Literal["two_stage", "os", "os++"]
Phase = Literal["inference", "training"]
VARIANTS: tuple[Variant, ...] = ("two_stage", "os", "os++")
PHASES: tuple[Phase, ...] = ("inference", "training")


class Transformer(NamedTuple):
    """A vision transformer with a class token, its pools of prompts and its classes."""

    side: int
    patch: int
    colours: int
    width: int
    heads: int
    hidden: int
    depth: int
    classes: int
    blocks: int = 5
    pool: int = 100
    length: int = 4

    @property
    def tokens(self) -> int:
        """Of an image, the class token included."""
        return 1 + (self.side // self.patch) ** 2


VIT_B16 = Transformer(side=224, patch=16, colours=3, width=768, heads=12, hidden=3072, depth=12, classes=200)
"""With the pools of OS-Prompt for the 200 classes of ImageNet-R."""


class _Block(NamedTuple):
    """What the backward pass reads of a block: names of tensors."""

    query: str
    keys: str
    values: str
    shares: str
    hidden: str
    near: str
    unit: str


def passes(network: Transformer, variant: Variant, phase: Phase) -> Plan:
    """What a variant takes for one image, in the order in which it runs."""
    return _Passes(network, variant, phase).plan


class _Passes:
    """The plan of a variant, as far as it is made."""

    def __init__(self, network: Transformer, variant: Variant, phase: Phase) -> None:
        self.network, self.variant = network, variant
        self.plan = Plan()
        self._input("images", network.colours, network.side, network.side)
        self._input("class_token", 1, network.width, 1)
        self._input("positions", network.width, network.tokens, 1)
        self._input("minus_one", network.width, 1, 1)
        reference = ""
        if variant == "two_stage" or (variant == "os++" and phase == "training"):
            reference = self._unit("query", self._norm("query.norm", self._forward("query.")))
        given = reference if variant == "two_stage" else ""
        blocks: list[_Block] = []
        token = self._forward("", given, blocks, prompted=True)
        self.plan.linear("classifier", self._norm("norm", token), network.classes)
        if phase == "training":
            self._backward(blocks, reference if variant == "os++" else "")

    # The parts of a pass.

    def _forward(self, at: str, query: str = "", blocks: list[_Block] | None = None, prompted: bool = False) -> str:
        """A pass; returns its class token. Prompts are asked for with ``query``, or with the pass's own tokens."""
        network, plan = self.network, self.plan
        width, tokens, size = network.width, network.tokens, network.patch
        patches = plan.add(
            "conv2d", f"{at}patches", "images", out_channels=width, kernel=(size, size), stride=(size, size),
            requantised=True,
        )  # fmt: skip
        patches = self._turned(f"{at}patches.tokens", patches, width, tokens - 1)
        joined = plan.add("concat", f"{at}joined", "class_token", patches)
        x = self._turned(f"{at}sequence", joined, tokens, width)
        x = plan.add("add", f"{at}embed", x, "positions", requantised=True)
        for number in range(network.depth):
            x = self._encoder(f"{at}encoder{number}", x, query, blocks, prompted and number < network.blocks)
        return self._token(f"{at}token", x)

    def _encoder(self, at: str, x: str, query: str, blocks: list[_Block] | None, prompted: bool) -> str:
        network, plan = self.network, self.plan
        width, keys = network.width, network.tokens
        near = unit = prefix = ""
        if prompted:
            unit = query or self._unit(f"{at}.prompt", self._token(f"{at}.prompt.token", x))
            near = self._layer(f"{at}.prompt.near", unit, network.pool)
            prefix = self._layer(f"{at}.prompt.prefix", near, 2 * network.length * width)
            keys += network.length
        normed = self._norm(f"{at}.norm1", x)
        q, k, v = (self._layer(f"{at}.{name}", normed, width) for name in ("query", "key", "value"))
        if prompted:
            k, v = (self._prefixed(f"{at}.{name}", prefix, whole, part) for part, (name, whole) in
                    enumerate((("key", k), ("value", v))))  # fmt: skip
        scores = plan.add("matmul", f"{at}.scores", q, k, transpose=True, heads=network.heads, requantised=True)
        shares = self._softmax(at, "shares", scores, keys)
        mixed = plan.add("matmul", f"{at}.mix", shares, v, heads=network.heads, requantised=True)
        x = plan.add("add", f"{at}.add1", x, self._layer(f"{at}.projection", mixed, width), requantised=True)
        hidden = self._layer(f"{at}.hidden", self._norm(f"{at}.norm2", x), network.hidden)
        if blocks is not None:
            blocks.append(_Block(q, k, v, shares, hidden, near, unit))
        return plan.add("add", f"{at}.add2", x, self._layer(f"{at}.output", hidden, width), requantised=True)

    def _unit(self, at: str, token: str) -> str:
        """A class token divided by its length."""
        opposite = self.plan.add("multiply", f"{at}.opposite", token, "minus_one", requantised=True)
        both = self._norm(f"{at}.both.norm", self.plan.add("concat", f"{at}.both", token, opposite))
        return self.plan.add("slice", f"{at}.unit", both, axis=0, start=0, stop=self.network.width)

    def _norm(self, name: str, source: str) -> str:
        """A layer norm."""
        return self.plan.add("layer_norm", name, source)

    def _softmax(self, at: str, name: str, scores: str, keys: int, *, operation: str = "softmax") -> str:
        """Shares of every head's keys: a position for each head and token, and back."""
        heads, tokens, plan = self.network.heads, self.network.tokens, self.plan
        apart, together = (heads, keys, tokens), (keys, heads, tokens)
        x = plan.add(
            "rearrange", f"{at}.{name}.apart", scores, view=apart, order=(1, 0, 2), shape=(keys, heads * tokens, 1)
        )
        x = plan.add(operation, f"{at}.{name}.of_keys", x)
        return plan.add(
            "rearrange", f"{at}.{name}", x, view=together, order=(1, 0, 2), shape=(heads * keys, tokens, 1)
        )  # fmt: skip

    def _prefixed(self, at: str, prefix: str, whole: str, part: int) -> str:
        """The prompts' keys (part 0) or values (part 1) in front of ``whole``."""
        width, tokens, length = self.network.width, self.network.tokens, self.network.length
        place = part * length * width
        flat = self.plan.add("slice", f"{at}.prefix", prefix, axis=0, start=place, stop=place + length * width)
        rows = self.plan.add(
            "rearrange", f"{at}.prefix.tokens", flat, view=(length, width), order=(0, 1), shape=(length, width, 1)
        )
        joined = self.plan.add("concat", f"{at}.joined", rows, self._turned(f"{at}.tokens", whole, width, tokens))
        return self._turned(f"{at}.prompted", joined, tokens + length, width)

    def _turned(self, name: str, source: str, rows: int, columns: int) -> str:
        """[rows, columns] as [columns, rows, 1]."""
        return self.plan.add(
            "rearrange", name, source, view=(rows, columns), order=(1, 0), shape=(columns, rows, 1)
        )  # fmt: skip

    def _token(self, name: str, x: str) -> str:
        return self.plan.add("slice", name, x, axis=1, start=0, stop=1)

    def _layer(self, name: str, source: str, outputs: int) -> str:
        """A linear layer on tokens."""
        return self.plan.add("conv2d", name, source, out_channels=outputs, kernel=(1, 1), requantised=True)

    def _input(self, name: str, *shape: int) -> None:
        self.plan.input(name, Given(shape, "pixels"))

    # The backward pass.

    def _backward(self, blocks: list[_Block], reference: str) -> None:
        """From the classifier to the prefix of the first block; ``reference`` is r of os++."""
        network, plan = self.network, self.plan
        g = plan.add("add", "logits.gradient", "classifier", requantised=True)
        g = plan.add("linear", "classifier.back", g, out_channels=network.width, requantised=True)
        g = self._norm("norm.back", plan.add("rearrange", "token.back", g, view=(network.width,), order=(0,),
                                            shape=(network.width, 1, 1)))  # fmt: skip
        # The gradient of the last map: that of the class token, and zeros for all others.
        g = plan.add("upsample", "map.back", g, factor=(network.tokens, 1))
        for number in range(network.depth - 1, -1, -1):
            g = self._block_back(f"encoder{number}", blocks[number], g, reference, first=number == 0)

    def _block_back(self, at: str, block: _Block, g: str, reference: str, *, first: bool) -> str:
        network, plan = self.network, self.plan
        width, heads, prompted = network.width, network.heads, bool(block.near)
        keys = network.tokens + network.length * prompted
        hidden = plan.add(
            "multiply", f"{at}.hidden.gradient", self._layer(f"{at}.output.back", g, network.hidden), block.hidden,
            requantised=True,
        )  # fmt: skip
        inner = self._norm(f"{at}.norm2.back", self._layer(f"{at}.hidden.back", hidden, width))
        g = plan.add("add", f"{at}.add2.back", g, inner, requantised=True)
        mixed = self._layer(f"{at}.projection.back", g, width)
        values = plan.add(
            "matmul", f"{at}.value.gradient", block.shares, mixed, transpose_first=True, heads=heads, requantised=True
        )
        shares = plan.add(
            "matmul", f"{at}.shares.gradient", mixed, block.values, transpose=True, heads=heads, requantised=True
        )
        product = plan.add("multiply", f"{at}.shares.product", shares, block.shares, requantised=True)
        scores = self._softmax(at, "scores.gradient", product, keys)
        key = plan.add(
            "matmul", f"{at}.key.gradient", scores, block.query, transpose_first=True, heads=heads, requantised=True
        )
        prompt = ""
        if prompted:
            prompt = self._prompt_back(f"{at}.prompt", block, key, values, reference, first)
        if first:
            return ""
        query = plan.add("matmul", f"{at}.query.gradient", scores, block.keys, heads=heads, requantised=True)
        if prompted:
            key, values = (
                plan.add("slice", f"{name}.own", name, axis=1, start=network.length, stop=keys)
                for name in (key, values)
            )
        parts = [
            self._layer(f"{at}.{name}.back", part, width)
            for name, part in (("query", query), ("key", key), ("value", values))
        ]
        inner = self._norm(f"{at}.norm1.back", plan.add("add", f"{at}.inputs.back", *parts, requantised=True))
        g = plan.add("add", f"{at}.add1.back", g, inner, requantised=True)
        # What comes through the query belongs to the class token.
        return plan.add("multiply", f"{at}.query.joined", g, prompt, requantised=True) if prompt else g

    def _prompt_back(self, at: str, block: _Block, key: str, value: str, reference: str, first: bool) -> str:
        """Gradients of components and keys, and of the token that asked where it is of this pass."""
        network, plan = self.network, self.plan
        rows = [
            plan.add("slice", f"{name}.prefix", name, axis=1, start=0, stop=network.length) for name in (key, value)
        ]
        size = 2 * network.length * network.width
        flat = plan.add("rearrange", f"{at}.prefix.gradient", plan.add("concat", f"{at}.rows", *rows), view=(size,),
                        order=(0,), shape=(size, 1, 1))  # fmt: skip
        plan.add("matmul", f"{at}.components.gradient", block.near, flat, transpose_first=True, requantised=True)
        near = self._layer(f"{at}.prefix.back", flat, network.pool)
        if reference:
            wanted = self._layer(f"{at}.reference", reference, network.pool)
            plan.add("matmul", f"{at}.reference.gradient", wanted, reference, transpose_first=True, requantised=True)
            near = plan.add("add", f"{at}.regularised", near, wanted, requantised=True)
        plan.add("matmul", f"{at}.keys.gradient", near, block.unit, transpose_first=True, requantised=True)
        if self.variant == "two_stage" or first:
            return ""
        return self._layer(f"{at}.near.back", near, network.width)


def macs(step: Step) -> int:
    """Products of an operation on one image."""
    return math.prod(step.shapes.output) * step.shapes.k if step.record["op"] in WORKING else 0


def total(plan: Plan, prefix: str = "") -> int:
    """MACs of all operations whose names begin with ``prefix``."""
    return sum(macs(step) for step in plan.steps if step.name.startswith(prefix))


def kind(step: Step) -> tuple[object, ...]:
    """What two operations have in common that differ in nothing but names."""
    keys = {name: value for name, value in step.record.items() if name not in ("name", "inputs", "output")}
    return step.shapes.inputs, repr(sorted(keys.items()))


def part(steps: Iterable[Step]) -> Plan:
    """A plan of ``steps`` alone: what they read and none of them writes is given, in 8 bits."""
    made = Plan()
    for step in steps:
        for name, shape in zip(step.record["inputs"], step.shapes.inputs, strict=True):
            if name not in made.shapes:
                made.input(name, Given(shape, "pixels"))
        made.steps.append(step)
        made.shapes[step.name] = step.shapes.output
    return made


def alone(steps: Iterable[Step]) -> Plan:
    """A plan of the first operation of every kind, each on inputs of its own."""
    kinds: dict[object, Step] = {}
    for step in steps:
        kinds.setdefault(kind(step), step)
    apart = []
    for step in kinds.values():
        inputs = [f"{step.name}.in{place}" for place in range(len(step.shapes.inputs))]
        apart.append(step._replace(record={**step.record, "inputs": inputs}))
    return part(apart)
